package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// net settles the next merchants in order. False when none are left.
func (r *run) net(ctx context.Context) (more bool, err error) {
	fault.Hit("settlement.net.before")
	err = r.e.db.Write(ctx, func(tx store.Tx) error {
		more = false
		// What a merchant has is read and then paid: nobody books or holds in between.
		if _, err := openDateTx(tx); err != nil {
			return err
		}
		upto, held, err := r.hold(tx, runNetting)
		if err != nil || !held {
			more = !held
			return err
		}
		mids, err := r.merchants(tx, upto)
		if err != nil || len(mids) == 0 {
			return err
		}
		more = true
		first, last := mids[0], mids[len(mids)-1]
		if _, err := tx.Exec("update settlement_run set upto = $1 where id = $2", last, r.id); err != nil {
			return err
		}
		if err := r.giveBack(tx, first, last); err != nil {
			return err
		}
		rows, err := tx.Query(`select merchant, speed, cast(sum(lines) as BIGINT), cast(sum(gross) as BIGINT), cast(sum(fee) as BIGINT), cast(sum(speed_fee) as BIGINT), cast(sum(other) as BIGINT),
				cast(sum(sales) as BIGINT), cast(sum(sold) as BIGINT), cast(sum(back) as BIGINT) from (
				select merchant, speed, 1 as lines, amount as gross, fee_rate + fee_fixed as fee, speed_fee, 0 as other, case effect when 1 then 1 when 2 then -1 when 3 then -1 else 0 end as sales,
					case effect when 4 then 0 else amount end as sold, case effect when 4 then -amount else 0 end as back
					from settlement_line where run = $1 and run > 0 and merchant >= $2 and merchant <= $3
				union all select merchant, 'T1', 0, 0, 0, 0, amount, 0, 0, 0 from settlement_item where run = $1 and run > 0 and merchant >= $2 and merchant <= $3
			) x group by merchant, speed`, r.id, first, last)
		batches, err := store.All(rows, err, func(rows *store.Rows, b *batch) error {
			return rows.Scan(&b.merchant, &b.speed, &b.lines, &b.gross, &b.fee, &b.speedFee, &b.other, &b.sales, &b.sold, &b.back)
		})
		if err != nil {
			return err
		}
		for _, mid := range mids { // who has nothing but an old debt
			if !slices.ContainsFunc(batches, func(b batch) bool { return b.merchant == mid }) {
				batches = append(batches, batch{merchant: mid, speed: merchant.T1})
			}
		}
		// A merchant's debts first: what is carried over comes off the batch that pays.
		slices.SortFunc(batches, func(a, b batch) int {
			return cmp.Or(cmp.Compare(a.merchant, b.merchant), cmp.Compare(a.gross-a.fee+a.other, b.gross-b.fee+b.other), cmp.Compare(a.speed, b.speed))
		})
		return r.settleBatches(tx, batches)
	})
	fault.Hit("settlement.net.after")
	if err != nil {
		return false, fmt.Errorf("settlement: netting %s: %w", r.date, err)
	}
	return more, nil
}

// merchants are the next that have something in the run; in a day's close also
// those whose debt has become old.
func (r *run) merchants(tx store.Tx, upto string) ([]string, error) {
	sql := `select merchant from (select distinct merchant from settlement_line where run = $1 and run > 0 and merchant > $2 order by merchant limit $3) l
		union select merchant from (select distinct merchant from settlement_item where run = $1 and run > 0 and merchant > $2 order by merchant limit $3) i`
	args := []any{r.id, upto, netBatch}
	if r.seq == seqClose && r.e.cfg.ArrearsDays > 0 {
		sql += ` union select merchant from (select merchant from settlement_carry where amount < 0 and since > 0 and since <= $4 and merchant > $2 order by merchant limit $3) c`
		args = append(args, r.date.AddDays(-r.e.cfg.ArrearsDays))
	}
	rows, err := tx.Query(sql+" order by merchant limit $3", args...)
	return store.All(rows, err, func(rows *store.Rows, mid *string) error { return rows.Scan(mid) })
}

// batch is a merchant's day at one speed.
type batch struct {
	id            int64
	merchant      string
	speed         merchant.Speed
	lines         int64
	sales         int64        // less voids
	sold, back    money.Amount // gross is sold less back
	gross         money.Amount
	fee, speedFee money.Amount
	other         money.Amount // chargebacks, other fees, holds and releases
	arrears       money.Amount // of a debt moved there, below zero what was collected
	carryIn, paid money.Amount
	carryOut      money.Amount
	since         calendar.Date // since when carryIn is below zero
	ref, reason   string
	advance       bool
	due           calendar.Date
}

// settleBatches settles the batches of whole merchants.
func (r *run) settleBatches(tx store.Tx, batches []batch) error {
	funds, err := r.ownFunds(tx, batches)
	if err != nil {
		return err
	}
	var transfers []ledger.Transfer
	held := map[string]money.Amount{}      // what this transaction takes from a merchant
	collected := map[string]money.Amount{} // and what of that goes to its arrears
	for i := range batches {
		b := &batches[i]
		b.id = store.NewID()
		err := tx.QueryRow("select amount, since from settlement_carry where merchant = $1 for update", b.merchant).Scan(&b.carryIn, &b.since)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		net, err := money.Sum(b.gross, -b.fee, -b.speedFee, b.other, b.carryIn)
		if err != nil {
			return err
		}
		// Who is paid before the network pays borrows our own money.
		b.due = r.due
		switch b.speed {
		case merchant.D0, merchant.S0:
			b.due = r.date
		case merchant.D1:
			b.due = r.date.AddDays(1)
		}
		if r.seq >= seqInstant { // behind the cut-off the business date is tomorrow's
			b.due = min(b.due, calendar.DateOf(r.now))
		}
		b.advance = b.due < r.due
		late := b.advance && calendar.DateOf(r.now) >= r.due
		if b.advance && (net > 0 || late && b.speedFee > 0) { // nor does who owes us pay for speed that is none
			cause, why := SlowLate, whyLate
			if !late {
				if cause, why, err = r.tooFast(tx, b, net, funds); err != nil {
					return err
				}
			}
			if why != "" {
				r.slowed(tx, cause)
			}
			if why != "" && r.seq >= seqInstant {
				if err := r.putBack(tx, b, why); err != nil {
					return err
				}
				continue
			}
			if why != "" {
				if net, err = r.slowDown(tx, b, net, why); err != nil {
					return err
				}
			}
		}
		if b.speedFee != 0 {
			transfers = append(transfers, ledger.D0Fee(r.ref(b, "fee"), r.date, b.merchant, b.speedFee))
			held[b.merchant] += b.speedFee
		}
		balance, err := ledger.BalanceTx(tx, ledger.MerchantPayable, b.merchant)
		if err != nil {
			return err
		}
		available := balance.Available(ledger.MerchantPayable) - held[b.merchant]
		last := i+1 == len(batches) || batches[i+1].merchant != b.merchant
		if transfers, err = r.arrears(tx, transfers, b, net, available, collected[b.merchant], last); err != nil {
			return err
		}
		net, available = net+b.arrears, available+b.arrears
		held[b.merchant] -= b.arrears
		collected[b.merchant] += max(0, -b.arrears)
		switch {
		case net <= 0:
			b.carryOut = net
			if b.reason == "" {
				b.reason = "nothing to pay"
				if net < 0 {
					b.reason = "a debt of " + (-net).String() + " is carried over"
				}
			}
		case net < r.e.cfg.MinPayout:
			b.carryOut, b.reason = net, "below the smallest payout of "+r.e.cfg.MinPayout.String()
		case net > available:
			b.carryOut, b.reason = net, "the payable account holds "+available.String()
			if err := addTask(tx, Task{Key: "payable/" + r.ref(b, ""), Kind: "payable_short", Merchant: b.merchant, Ref: r.ref(b, ""), Created: r.now,
				Text: fmt.Sprintf("merchant %s is owed %s for %s and its payable account holds %s: nothing is paid", b.merchant, net, r.date, available)}); err != nil {
				return err
			}
		default:
			if transfers, err = r.order(tx, transfers, b, net); err != nil {
				return err
			}
			held[b.merchant] += b.paid
			if b.advance {
				funds -= b.paid
			}
		}
		if err := r.record(tx, b); err != nil {
			return err
		}
	}
	_, err = ledger.PostTx(tx, transfers)
	return err
}

// order makes the payouts of a batch: one, or for an account that takes only so
// much a day one for each day that it needs. What is left after a month of
// them is carried over.
func (r *run) order(tx store.Tx, transfers []ledger.Transfer, b *batch, net money.Amount) ([]ledger.Transfer, error) {
	limit := r.e.dayLimit(b.merchant)
	b.ref, b.carryOut = r.ref(b, ""), net
	due := b.due
	for part := 0; b.carryOut > 0 && part < 26; due = due.AddDays(1) {
		amount := b.carryOut
		if limit > 0 {
			room, err := roomOn(tx, b.merchant, due, limit)
			if err != nil {
				return nil, err
			}
			if amount = min(amount, room); amount <= 0 {
				continue
			}
		}
		p := payout{ref: b.ref, batch: b.id, merchant: b.merchant, date: r.date, due: due, speed: b.speed, amount: amount, advance: b.advance, state: Created}
		if part > 0 {
			p.ref += string(rune('a' + part)) // X, Xb, Xc
		}
		if b.speed == merchant.S0 {
			err := tx.QueryRow("select coalesce(min(at), 0) from settlement_line where run = $1 and run > 0 and merchant = $2 and speed = 'S0' and at > 0", r.id, b.merchant).Scan(&p.sold)
			if err != nil {
				return nil, err
			}
		}
		if err := p.insert(tx); err != nil {
			return nil, err
		}
		transfers = append(transfers, p.booking(r.date, 0).Reserve()...)
		b.paid, b.carryOut = b.paid+amount, b.carryOut-amount
		part++
	}
	if limit > 0 && (due > b.due.AddDays(1) || b.carryOut > 0) {
		b.reason = "the account takes " + limit.String() + " a day"
	}
	return transfers, nil
}

// ownFunds is what may be lent to merchants. The row stays locked, so that two
// runs do not lend the same money.
func (r *run) ownFunds(tx store.Tx, batches []batch) (money.Amount, error) {
	needed := false
	for i := range batches {
		needed = needed || batches[i].speed != merchant.T1
	}
	if !needed {
		return 0, nil
	}
	if _, err := tx.Exec("update ledger_balance set debit = debit where account = $1 and sub = ''", ledger.OwnBank); err != nil {
		return 0, err
	}
	b, err := ledger.BalanceTx(tx, ledger.OwnBank, "")
	return b.Available(ledger.OwnBank), err
}

// slowDown turns a batch that cannot be advanced into a T1 batch whose sales
// pay for the speed that they get and say why, and returns its new net. Fees given
// back for earlier sales stay given back.
func (r *run) slowDown(tx store.Tx, b *batch, net money.Amount, why string) (money.Amount, error) {
	b.reason = why + ": paid when the network has paid"
	if _, err := tx.Exec("update settlement_line set speed_fee = t1_fee, note = $4 where run = $1 and run > 0 and merchant = $2 and speed = $3 and effect in (1, 5)",
		r.id, b.merchant, b.speed, b.reason); err != nil {
		return 0, err
	}
	if err := r.giveBack(tx, b.merchant, b.merchant); err != nil {
		return 0, err
	}
	was := b.speedFee
	if err := tx.QueryRow("select cast(coalesce(sum(speed_fee), 0) as BIGINT) from settlement_line where run = $1 and run > 0 and merchant = $2 and speed = $3",
		r.id, b.merchant, b.speed).Scan(&b.speedFee); err != nil {
		return 0, err
	}
	b.advance, b.due = false, r.due
	return net + was - b.speedFee, nil
}

// leaveLate leaves to their day's close what a window, or S0, would send no
// earlier than T+1: sales of dates that wait to be closed. They are T1 sales, at
// its price.
func (r *run) leaveLate(tx store.Tx, speed merchant.Speed) error {
	const late = "run = 0 and speed = $1 and date <= $2"
	upto := overdue(calendar.DateOf(r.now))
	rows, err := tx.Query("select distinct merchant from settlement_line where "+late, speed, upto)
	mids, err := store.All(rows, err, func(rows *store.Rows, mid *string) error { return rows.Scan(mid) })
	if err != nil || len(mids) == 0 {
		return err
	}
	for range mids {
		r.slowed(tx, SlowLate)
	}
	_, err = tx.Exec("update settlement_line set speed = 'T1', speed_fee = t1_fee, note = $3 where "+late, speed, upto, whyLate)
	return err
}

// putBack lets what cannot be paid at once wait for the day's close: S0 sales
// as T1 sales, at its price; of the T1 batch beside them, what was
// released or won.
func (r *run) putBack(tx store.Tx, b *batch, why string) error {
	if b.speed != merchant.S0 {
		_, err := tx.Exec("update settlement_item set run = 0 where run = $1 and run > 0 and merchant = $2", r.id, b.merchant)
		return err
	}
	_, err := tx.Exec("update settlement_line set run = 0, speed = 'T1', speed_fee = t1_fee, note = $1 where run = $2 and run > 0 and merchant = $3 and speed = 'S0'", why, r.id, b.merchant)
	return err
}

// giveBack sets what lines that take sales back give back of fees for speed:
// exactly what was taken.
func (r *run) giveBack(tx store.Tx, first, last string) error {
	if _, err := tx.Exec(`update settlement_line set speed_fee = -(select coalesce(sum(o.speed_fee), 0) from settlement_line o
			where o.run <> -1 and (o.id = settlement_line.parent or o.parent = settlement_line.parent and o.parent <> 0 and o.effect = 5))
		where run = $1 and run > 0 and merchant >= $2 and merchant <= $3 and effect = $4`, r.id, first, last, effectVoid); err != nil {
		return err
	}
	_, err := tx.Exec(`update settlement_line set speed_fee = -(select o.speed_fee from settlement_line o where o.id = -settlement_line.id)
		where run = $1 and run > 0 and merchant >= $2 and merchant <= $3 and effect = $4`, r.id, first, last, effectTaken)
	return err
}

// ref is the reference of a batch's payout: it follows from what is paid, so
// the same payout has the same reference whoever makes it. The run's number
// stands in base 36, since banks take 35 characters, and a part's letter and
// -R9 may follow.
func (r *run) ref(b *batch, suffix string) string {
	ref := fmt.Sprintf("%08d-%s-%s-%s", int32(r.date), b.merchant, b.speed, strconv.FormatInt(int64(r.seq), 36))
	if suffix != "" {
		ref += "-" + suffix
	}
	return ref
}

func (r *run) record(tx store.Tx, b *batch) error {
	if err := conduct(tx, b.merchant, r.date, b.sales, b.sold, b.back); err != nil {
		return err
	}
	if _, err := tx.Exec(`insert into settlement_batch (id, run, date, merchant, speed, lines, gross, fee, speed_fee, other, arrears, carry_in, carry_out, payout, paid, reason)
		values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)`,
		b.id, r.id, r.date, b.merchant, b.speed, b.lines, b.gross, b.fee, b.speedFee, b.other, b.arrears, b.carryIn, b.carryOut, b.ref, b.paid, b.reason); err != nil {
		return err
	}
	if b.carryIn == b.carryOut {
		return nil
	}
	if fault.Planted("carry-forgotten") {
		return nil
	}
	since := calendar.Date(0)
	if b.carryOut < 0 {
		if since = b.since; b.carryIn >= 0 {
			since = r.date
		}
	}
	_, err := tx.Exec("insert into settlement_carry (merchant, amount, since) values ($1,$2,$3) on conflict (merchant) do update set amount = excluded.amount, since = excluded.since", b.merchant, b.carryOut, since)
	return err
}

package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

var (
	// ErrEarly says that a business date has not ended yet.
	ErrEarly = errors.New("settlement: the business date has not ended")
	// ErrUndecided says that transactions of the date are still under way.
	ErrUndecided = errors.New("settlement: transactions of the business date are not decided yet")
	// ErrUnbalanced says that what was settled does not add up.
	ErrUnbalanced = errors.New("settlement: the day does not add up")
)

// Day is what the close of a business date came to.
type Day struct {
	Date        calendar.Date `json:"date"`
	Lines       int64         `json:"lines"`
	Merchants   int64         `json:"merchants"`
	Gross       money.Amount  `json:"gross"`
	Fee         money.Amount  `json:"fee"`
	SpeedFee    money.Amount  `json:"speed_fee"`
	Other       money.Amount  `json:"other"` // chargebacks, other fees, holds and releases
	CarryIn     money.Amount  `json:"carry_in"`
	CarryOut    money.Amount  `json:"carry_out"`
	Payouts     int64         `json:"payouts"`
	PayoutTotal money.Amount  `json:"payout_total"`
}

// CloseDay settles a business date: it books what is left, moves the books to
// the next date, nets every merchant, and orders the payouts. Dates before it
// that are still open are closed first. A date that is closed already is read
// back, or finished where it was interrupted. Before the cut-off it refuses
// with ErrEarly, and with ErrGate while the gate is shut, unless forced.
func (e *Engine) CloseDay(ctx context.Context, date calendar.Date, now time.Time, force bool) (Day, error) {
	if end := calendar.Closes(date, e.cfg.CutOff); now.Before(end) && !force {
		return Day{}, fmt.Errorf("%w: %s ends at %s; force it to close early", ErrEarly, date, end.Format(time.RFC3339))
	}
	open, err := e.OpenDate(ctx)
	if err != nil {
		return Day{}, err
	}
	if open == 0 {
		open = date
	}
	if err := e.Resume(ctx, now); err != nil {
		return Day{}, err
	}
	for d := open; d < date; d = d.AddDays(1) {
		if err := e.pass(ctx, d, force); err != nil {
			return Day{}, err
		}
		if _, err := e.settle(ctx, d, 0, now); err != nil {
			return Day{}, fmt.Errorf("closing %s first: %w", d, err)
		}
	}
	if err := e.pass(ctx, date, force); err != nil {
		return Day{}, err
	}
	return e.settle(ctx, date, 0, now)
}

// Resume finishes the runs that were interrupted, oldest first. CloseDay and
// Pay begin with it.
func (e *Engine) Resume(ctx context.Context, now time.Time) error {
	return e.resume(ctx, math.MaxInt64, now)
}

// resume finishes the runs before one, and those that are netting. A run
// gathers only then: what is given back for a sale depends on what was taken
// for it.
func (e *Engine) resume(ctx context.Context, before int64, now time.Time) error {
	var runs []run
	err := e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select date, seq from settlement_run where "+runsBefore+" order by id", runClosed, before, runNetting)
		runs, err = store.All(rows, err, func(rows *store.Rows, r *run) error { return rows.Scan(&r.date, &r.seq) })
		return err
	})
	if err != nil {
		return fmt.Errorf("settlement: looking for interrupted runs: %w", err)
	}
	for _, r := range runs {
		if _, err := e.settle(ctx, r.date, r.seq, now); err != nil {
			return err
		}
	}
	return nil
}

const runsBefore = "(state < $1 and id < $2 or state = $3 and id <> $2)"

// PayEarly settles what D0 merchants have sold so far on a business date that
// is still open. window is the time of day as HHMM (1200) and names the run: the
// same window has one effect.
func (e *Engine) PayEarly(ctx context.Context, date calendar.Date, window int, now time.Time) (Day, error) {
	if window < 1 || window > 2359 {
		return Day{}, fmt.Errorf("settlement: window %d is not a time of day like 1200", window)
	}
	return e.settle(ctx, date, window, now)
}

// OpenDate is the earliest business date that is not closed; 0 before the
// first close.
func (e *Engine) OpenDate(ctx context.Context) (open calendar.Date, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select open_date from settlement_state where id = 1").Scan(&open)
	})
	if err != nil {
		return 0, fmt.Errorf("settlement: reading the open date: %w", err)
	}
	return open, nil
}

func (e *Engine) settle(ctx context.Context, date calendar.Date, seq int, now time.Time) (Day, error) {
	due, err := calendar.SettleDate(date)
	if err != nil {
		return Day{}, err
	}
	r := run{e: e, date: date, seq: seq, due: due, now: now}
	if err := r.find(ctx); err != nil {
		return Day{}, err
	}
	if r.id == 0 {
		if seq == 0 {
			if n, err := e.cfg.Source.Undecided(ctx, date); err != nil {
				return Day{}, fmt.Errorf("settlement: counting undecided transactions: %w", err)
			} else if n > 0 {
				return Day{}, fmt.Errorf("%w: %d of %s; try again in a moment", ErrUndecided, n, date)
			}
		}
		if _, err := e.CatchUp(ctx); err != nil {
			return Day{}, err
		}
		if err := r.begin(ctx); err != nil {
			return Day{}, err
		}
		if err := e.step("begun"); err != nil {
			return Day{}, err
		}
	}
	for r.state == runGathering {
		if err := e.resume(ctx, r.id, now); err != nil {
			return Day{}, err
		}
		if err := r.gather(ctx); err != nil {
			return Day{}, err
		}
		if err := e.step("gathered"); err != nil {
			return Day{}, err
		}
	}
	for r.state == runNetting {
		more, err := r.net(ctx)
		if err == nil && !more {
			err = r.finish(ctx)
		}
		if err != nil {
			return Day{}, err
		}
		if err := e.step("netted"); err != nil {
			return Day{}, err
		}
	}
	return r.day(ctx)
}

const (
	runGathering = 1
	runNetting   = 2
	runClosed    = 3
)

// run is one settlement of one date. Its row is what two schedulers meet at.
type run struct {
	e     *Engine
	id    int64
	date  calendar.Date
	seq   int
	due   calendar.Date // of T1 payouts
	state int
	now   time.Time
}

func (r *run) find(ctx context.Context) error {
	err := r.e.db.Read(ctx, func(tx store.Tx) error { return r.read(tx) })
	if err != nil {
		return fmt.Errorf("settlement: looking for the run of %s: %w", r.date, err)
	}
	return nil
}

func (r *run) read(tx store.Tx) error {
	r.id = 0
	err := tx.QueryRow("select id, state from settlement_run where date = $1 and seq = $2", r.date, r.seq).Scan(&r.id, &r.state)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// begin makes the run and, for the close of a day, moves the open date on:
// from here on nothing is booked on the date any more.
func (r *run) begin(ctx context.Context) error {
	id := store.NewID()
	fault.Hit("settlement.begin.before")
	err := r.e.db.Write(ctx, func(tx store.Tx) error {
		// The state's row first, as Post does: who books now is in or out as a whole.
		var open calendar.Date
		if err := tx.QueryRow("update settlement_state set posts = posts + 1 where id = 1 returning open_date").Scan(&open); err != nil {
			return err
		}
		if r.seq == 0 && open <= r.date {
			if _, err := tx.Exec("update settlement_state set open_date = $1 where id = 1", r.date.AddDays(1)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`insert into settlement_run (id, date, seq, state, upto, touched, started, ended) values ($1,$2,$3,$4,'',0,$5,0)
			on conflict (date, seq) do nothing`, id, r.date, r.seq, runGathering, r.now.UnixMicro()); err != nil {
			return err
		}
		return r.read(tx)
	})
	fault.Hit("settlement.begin.after")
	if err != nil {
		return fmt.Errorf("settlement: opening the run of %s: %w", r.date, err)
	}
	return nil
}

// How many lines one transaction gathers, and how many merchants one nets: the
// one writer of SQLite also serves the terminals and must not be held long.
const (
	gatherBatch = 2000
	netBatch    = 50
)

// hold locks the run's row in a state, which keeps other schedulers out until
// the transaction ends. False when another has moved it on; the run is then
// read again.
func (r *run) hold(tx store.Tx, state int) (upto string, held bool, err error) {
	err = tx.QueryRow("update settlement_run set touched = touched + 1 where id = $1 and state = $2 returning upto", r.id, state).Scan(&upto)
	if errors.Is(err, store.ErrNotFound) {
		return "", false, r.read(tx)
	}
	return upto, err == nil, err
}

// gather takes the next waiting lines into the run; when none are left the run
// has all it will ever have, and goes on to netting.
func (r *run) gather(ctx context.Context) error {
	fault.Hit("settlement.gather.before")
	err := r.e.db.Write(ctx, func(tx store.Tx) error {
		_, held, err := r.hold(tx, runGathering)
		if err != nil || !held {
			return err
		}
		var earlier int
		if err := tx.QueryRow("select count(*) from settlement_run where "+runsBefore, runClosed, r.id, runNetting).Scan(&earlier); err != nil || earlier > 0 {
			return err // another scheduler has just begun one: it is finished first
		}
		speed := merchant.Speed("")
		if r.seq != 0 {
			speed = merchant.D0
		}
		n, err := tx.Exec(`update settlement_line set run = $1 where run = 0 and id in (
			select id from settlement_line where run = 0 and date <= $2 and (speed = $3 or $3 = '') limit $4)`, r.id, r.date, speed, gatherBatch)
		if err != nil || n > 0 {
			return err
		}
		if n, err = tx.Exec("update settlement_item set run = $1 where run = 0 and key in (select key from settlement_item where run = 0 and date <= $2 limit $3)",
			r.id, r.date, gatherBatch); err != nil || n > 0 {
			return err
		}
		r.state = runNetting
		_, err = tx.Exec("update settlement_run set state = $1 where id = $2", runNetting, r.id)
		return err
	})
	fault.Hit("settlement.gather.after")
	if err != nil {
		return fmt.Errorf("settlement: gathering %s: %w", r.date, err)
	}
	return nil
}

// net settles the next merchants in order. False when none are left.
func (r *run) net(ctx context.Context) (more bool, err error) {
	fault.Hit("settlement.net.before")
	err = r.e.db.Write(ctx, func(tx store.Tx) error {
		more = false
		upto, held, err := r.hold(tx, runNetting)
		if err != nil || !held {
			more = !held
			return err
		}
		rows, err := tx.Query(`select merchant from (select distinct merchant from settlement_line where run = $1 and run > 0 and merchant > $2 order by merchant limit $3) l
			union select merchant from (select distinct merchant from settlement_item where run = $1 and run > 0 and merchant > $2 order by merchant limit $3) i
			order by merchant limit $3`, r.id, upto, netBatch)
		mids, err := store.All(rows, err, func(rows *store.Rows, mid *string) error { return rows.Scan(mid) })
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
		rows, err = tx.Query(`select merchant, speed, cast(sum(lines) as BIGINT), cast(sum(gross) as BIGINT), cast(sum(fee) as BIGINT), cast(sum(speed_fee) as BIGINT), cast(sum(other) as BIGINT) from (
				select merchant, speed, 1 as lines, amount as gross, fee_rate + fee_fixed as fee, speed_fee, 0 as other
					from settlement_line where run = $1 and run > 0 and merchant >= $2 and merchant <= $3
				union all select merchant, 'T1', 0, 0, 0, 0, amount from settlement_item where run = $1 and run > 0 and merchant >= $2 and merchant <= $3
			) x group by merchant, speed`, r.id, first, last)
		batches, err := store.All(rows, err, func(rows *store.Rows, b *batch) error {
			return rows.Scan(&b.merchant, &b.speed, &b.lines, &b.gross, &b.fee, &b.speedFee, &b.other)
		})
		if err != nil {
			return err
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

// batch is a merchant's day at one speed.
type batch struct {
	id            int64
	merchant      string
	speed         merchant.Speed
	lines         int64
	gross         money.Amount
	fee, speedFee money.Amount
	other         money.Amount // chargebacks, other fees, holds and releases
	carryIn, paid money.Amount
	carryOut      money.Amount
	ref, reason   string
	advance       bool
	due           calendar.Date
}

func (r *run) settleBatches(tx store.Tx, batches []batch) error {
	funds, err := r.ownFunds(tx, batches)
	if err != nil {
		return err
	}
	var transfers []ledger.Transfer
	held := map[string]money.Amount{} // what this transaction takes from a merchant
	for i := range batches {
		b := &batches[i]
		b.id = store.NewID()
		if err := tx.QueryRow("select amount from settlement_carry where merchant = $1 for update", b.merchant).Scan(&b.carryIn); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		net, err := money.Sum(b.gross, -b.fee, -b.speedFee, b.other, b.carryIn)
		if err != nil {
			return err
		}
		// Who is paid before the network pays borrows our own money. When there is
		// not enough of it, the merchant is paid with the network's and does not
		// pay for speed.
		b.due = r.due
		switch b.speed {
		case merchant.D0, merchant.S0:
			b.due = r.date
		case merchant.D1:
			b.due = r.date.AddDays(1)
		}
		b.advance = b.due < r.due
		if b.advance && net > funds {
			if net, err = r.slowDown(tx, b, net); err != nil {
				return err
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
		switch available := balance.Available(ledger.MerchantPayable) - held[b.merchant]; {
		case net <= 0:
			b.carryOut, b.reason = net, "nothing to pay"
		case net < r.e.cfg.MinPayout:
			b.carryOut, b.reason = net, "below the smallest payout of "+r.e.cfg.MinPayout.String()
		case net > available:
			b.carryOut, b.reason = net, "the payable account holds "+available.String()
			if err := addTask(tx, Task{Key: "payable/" + r.ref(b, ""), Kind: "payable_short", Merchant: b.merchant, Ref: r.ref(b, ""), Created: r.now,
				Text: fmt.Sprintf("merchant %s is owed %s for %s and its payable account holds %s: nothing is paid", b.merchant, net, r.date, available)}); err != nil {
				return err
			}
		default:
			b.paid, b.ref = net, r.ref(b, "")
			held[b.merchant] += net
			if b.advance {
				funds -= net
			}
			p := payout{ref: b.ref, batch: b.id, merchant: b.merchant, date: r.date, due: b.due, speed: b.speed, amount: net, advance: b.advance, state: Created}
			if err := p.insert(tx); err != nil {
				return err
			}
			transfers = append(transfers, p.booking(r.date, 0).Reserve()...)
		}
		if err := r.record(tx, b); err != nil {
			return err
		}
	}
	_, err = ledger.PostTx(tx, transfers)
	return err
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
// pay no fee for speed, and returns its new net. Fees given back for earlier
// sales stay given back.
func (r *run) slowDown(tx store.Tx, b *batch, net money.Amount) (money.Amount, error) {
	if _, err := tx.Exec("update settlement_line set speed_fee = 0 where run = $1 and run > 0 and merchant = $2 and speed = $3 and effect in (1, 5)",
		r.id, b.merchant, b.speed); err != nil {
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
	b.reason = "own funds do not cover it: paid when the network has paid"
	return net + was - b.speedFee, nil
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
// the same payout has the same reference whoever makes it.
func (r *run) ref(b *batch, suffix string) string {
	ref := fmt.Sprintf("%08d-%s-%s-%d", int32(r.date), b.merchant, b.speed, r.seq)
	if suffix != "" {
		ref += "-" + suffix
	}
	return ref
}

func (r *run) record(tx store.Tx, b *batch) error {
	if _, err := tx.Exec(`insert into settlement_batch (id, run, date, merchant, speed, lines, gross, fee, speed_fee, other, carry_in, carry_out, payout, paid, reason)
		values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15)`,
		b.id, r.id, r.date, b.merchant, b.speed, b.lines, b.gross, b.fee, b.speedFee, b.other, b.carryIn, b.carryOut, b.ref, b.paid, b.reason); err != nil {
		return err
	}
	if b.carryIn == b.carryOut {
		return nil
	}
	_, err := tx.Exec("insert into settlement_carry (merchant, amount) values ($1,$2) on conflict (merchant) do update set amount = excluded.amount", b.merchant, b.carryOut)
	return err
}

// finish closes the run after looking that its batches are its lines. Neither
// changes any more, so the sums are read without holding the writer.
func (r *run) finish(ctx context.Context) error {
	var lines, batches [5]int64
	if err := r.e.db.Read(ctx, func(tx store.Tx) error {
		if err := tx.QueryRow(`select count(*), cast(coalesce(sum(amount), 0) as BIGINT), cast(coalesce(sum(fee_rate + fee_fixed), 0) as BIGINT), cast(coalesce(sum(speed_fee), 0) as BIGINT)
			from settlement_line where run = $1 and run > 0`, r.id).Scan(&lines[0], &lines[1], &lines[2], &lines[3]); err != nil {
			return err
		}
		if err := tx.QueryRow("select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_item where run = $1 and run > 0", r.id).Scan(&lines[4]); err != nil {
			return err
		}
		return tx.QueryRow(`select cast(coalesce(sum(lines), 0) as BIGINT), cast(coalesce(sum(gross), 0) as BIGINT), cast(coalesce(sum(fee), 0) as BIGINT),
			cast(coalesce(sum(speed_fee), 0) as BIGINT), cast(coalesce(sum(other), 0) as BIGINT) from settlement_batch where run = $1`, r.id).
			Scan(&batches[0], &batches[1], &batches[2], &batches[3], &batches[4])
	}); err != nil {
		return fmt.Errorf("settlement: adding up %s: %w", r.date, err)
	}
	if lines != batches {
		return fmt.Errorf("%w: the lines of %s are %v and its batches %v (count, gross, fee, speed fee, other)", ErrUnbalanced, r.date, lines, batches)
	}
	fault.Hit("settlement.finish.before")
	if err := r.e.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("update settlement_run set state = $1, ended = $2 where id = $3 and state = $4", runClosed, r.now.UnixMicro(), r.id, runNetting)
		if err != nil {
			return err
		}
		return r.read(tx)
	}); err != nil {
		return fmt.Errorf("settlement: closing %s: %w", r.date, err)
	}
	fault.Hit("settlement.finish.after")
	return nil
}

// day reads back what the run came to.
func (r *run) day(ctx context.Context) (Day, error) {
	d := Day{Date: r.date}
	err := r.e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow(`select cast(coalesce(sum(lines), 0) as BIGINT), count(distinct merchant), cast(coalesce(sum(gross), 0) as BIGINT),
			cast(coalesce(sum(fee), 0) as BIGINT), cast(coalesce(sum(speed_fee), 0) as BIGINT), cast(coalesce(sum(other), 0) as BIGINT), cast(coalesce(sum(carry_in), 0) as BIGINT),
			cast(coalesce(sum(carry_out), 0) as BIGINT), cast(coalesce(sum(case when payout = '' then 0 else 1 end), 0) as BIGINT), cast(coalesce(sum(paid), 0) as BIGINT)
			from settlement_batch where run = $1`, r.id).
			Scan(&d.Lines, &d.Merchants, &d.Gross, &d.Fee, &d.SpeedFee, &d.Other, &d.CarryIn, &d.CarryOut, &d.Payouts, &d.PayoutTotal)
	})
	if err != nil {
		return Day{}, fmt.Errorf("settlement: reading %s back: %w", r.date, err)
	}
	return d, nil
}

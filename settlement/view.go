package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// MerchantDay is what a merchant sold on a business date, and what became of
// the money as far as the day has come.
type MerchantDay struct {
	Merchant string         `json:"merchant"`
	Speed    merchant.Speed `json:"speed"`
	Plan     string         `json:"plan"`
	Sales    int64          `json:"sales"`
	Gross    money.Amount   `json:"gross"`
	Taken    money.Amount   `json:"taken"` // back after it was settled, positive
	Fee      money.Amount   `json:"fee"`   // settlement fee included
	Net      money.Amount   `json:"net"`

	Ref    string        `json:"ref,omitempty"` // of the payout, or the last one that replaced it; empty before there is one
	State  PayoutState   `json:"state"`         // 0 before there is one
	Paid   money.Amount  `json:"paid"`          // what the payout is for
	Due    calendar.Date `json:"due"`           // when it is sent
	Reason string        `json:"reason,omitempty"`
}

// Merchants lists a business date merchant by merchant, open or closed. closed
// says whether the date has been closed.
func (e *Engine) Merchants(ctx context.Context, date calendar.Date) (days []MerchantDay, closed bool, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		var open calendar.Date
		if err := tx.QueryRow("select open_date from settlement_state where id = 1").Scan(&open); err != nil {
			return err
		}
		closed = open > date
		// Two halves, each by an index of its own: what waits, and what was settled.
		rows, err := tx.Query(`select l.merchant, l.speed, max(l.plan), sum(case when l.effect = 1 then 1 else 0 end), cast(sum(case when l.effect in (1, 5) then l.amount else 0 end) as BIGINT),
			cast(sum(case when l.effect in (2, 3, 4) then -l.amount else 0 end) as BIGINT), cast(sum(l.fee_rate + l.fee_fixed + l.speed_fee) as BIGINT),
			coalesce(max(b.payout), ''), coalesce(nullif(max(b.reason), ''), max(l.note))
			from (select * from settlement_line where run = 0 and date = $1
				union all select s.* from settlement_line s join settlement_run r on r.id = s.run where s.run > 0 and r.date = $1) l
			left join settlement_batch b on b.run = l.run and b.merchant = l.merchant and b.speed = l.speed
			group by l.merchant, l.speed, l.run order by l.merchant, l.speed`, date)
		days, err = store.All(rows, err, func(r *store.Rows, d *MerchantDay) error {
			if err := r.Scan(&d.Merchant, &d.Speed, &d.Plan, &d.Sales, &d.Gross, &d.Taken, &d.Fee, &d.Ref, &d.Reason); err != nil {
				return err
			}
			d.Net = d.Gross - d.Taken - d.Fee
			return nil
		})
		if err != nil {
			return err
		}
		for i := range days {
			d := &days[i]
			if d.Ref == "" {
				continue
			}
			if err := d.follow(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("settlement: reading %s: %w", date, err)
	}
	return days, closed, nil
}

// follow reads the payout that stands for d's money now: its own, or the last one
// that replaced it.
func (d *MerchantDay) follow(tx store.Tx) error {
	first := d.Ref
	for ref := d.Ref; ref != "" && ref != noChild; {
		d.Ref = ref
		var reason string
		if err := tx.QueryRow("select state, amount, due, reason, child from settlement_payout where ref = $1", ref).Scan(&d.State, &d.Paid, &d.Due, &reason, &ref); err != nil {
			return err
		}
		if reason != "" {
			d.Reason = reason
		}
	}
	if d.Ref != first {
		d.Reason = strings.TrimPrefix(fmt.Sprintf("%s; replaces %s", d.Reason, first), "; ")
	}
	return nil
}

// PayoutView is a payout as people look at it.
type PayoutView struct {
	Ref       string         `json:"ref"`
	Merchant  string         `json:"merchant"`
	Date      calendar.Date  `json:"date"` // business date it settles
	Due       calendar.Date  `json:"due"`  // day it is sent
	Speed     merchant.Speed `json:"speed"`
	Amount    money.Amount   `json:"amount"`
	State     PayoutState    `json:"state"`
	Long      bool           `json:"long,omitempty"` // the bank paid it after it was booked as failed
	Reason    string         `json:"reason,omitempty"`
	Account   string         `json:"account,omitempty"` // masked
	BankID    string         `json:"bank_id,omitempty"`
	Parent    string         `json:"parent,omitempty"` // that it replaces
	Child     string         `json:"child,omitempty"`  // that replaced it
	Submitted time.Time      `json:"submitted,omitzero"`
	Finished  time.Time      `json:"finished,omitzero"`
}

func viewOf(p *payout) PayoutView {
	if p.child == noChild {
		p.child = ""
	}
	return PayoutView{Ref: p.ref, Merchant: p.merchant, Date: p.date, Due: p.due, Speed: p.speed, Amount: p.amount, State: p.state, Long: p.long, Reason: p.reason,
		Account: p.account, BankID: p.bankID, Parent: p.parent, Child: p.child, Submitted: store.Instant(p.submitted), Finished: store.Instant(p.finished)}
}

// Payouts that are not at their end are those on their way, and those that failed
// or came back and were not replaced: each half by an index of its own.
const (
	underWay = "settlement_payout where state < 5"
	stranded = "settlement_payout where state > 5 and child = ''"
)

// PayoutsOpen lists up to limit payouts that are not at their end, by due day.
func (e *Engine) PayoutsOpen(ctx context.Context, limit int) ([]PayoutView, error) {
	const first = " order by due, ref limit $1"
	return e.payouts(ctx, "ref in (select ref from (select ref from "+underWay+first+") w union all select ref from (select ref from "+stranded+first+") s)"+first, limit)
}

// PayoutsUnknown lists up to limit payouts of which the bank does not say what became
// of them, the one that was sent first at the front.
func (e *Engine) PayoutsUnknown(ctx context.Context, limit int) ([]PayoutView, error) {
	return e.payouts(ctx, fmt.Sprintf("state < 5 and state = %d order by submitted, ref limit $1", Unknown), limit)
}

// PayoutCount is how many payouts stand in a state, and what they come to.
type PayoutCount struct {
	Payouts int64
	Sum     money.Amount
	Since   time.Time // when the oldest of them was sent or, created, it was due: its day began, or it was made if that was later; zero for none that is due
}

// PayoutsStanding counts those that PayoutsOpen lists, by state.
func (e *Engine) PayoutsStanding(ctx context.Context) (map[PayoutState]PayoutCount, error) {
	counts := map[PayoutState]PayoutCount{}
	err := e.db.Read(ctx, func(tx store.Tx) error {
		clear(counts)
		for _, open := range []string{underWay, stranded} {
			rows, err := tx.Query("select state, count(*), cast(sum(amount) as bigint) from " + open + " group by state")
			_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
				var s PayoutState
				var c PayoutCount
				err := r.Scan(&s, &c.Payouts, &c.Sum)
				counts[s] = c
				return err
			})
			if err != nil {
				return err
			}
		}
		return sinceWhen(tx, counts)
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: counting payouts: %w", err)
	}
	return counts, nil
}

// sinceWhen fills in how long open payouts have waited. Those that were held are
// a person's (payout_held) and do not count.
func sinceWhen(tx store.Tx, counts map[PayoutState]PayoutCount) error {
	const free = " and not exists (select 1 from settlement_task where key = 'held/' || p.ref) "
	rows, err := tx.Query("select p.state, min(p.submitted) from settlement_payout p where p.state > 1 and p.state < 5" + free + "group by p.state")
	_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
		var s PayoutState
		var sent int64
		err := r.Scan(&s, &sent)
		c := counts[s]
		c.Since = time.UnixMicro(sent)
		counts[s] = c
		return err
	})
	if err != nil {
		return err
	}
	// One that is paid on the day on which it was sold has waited since then, not since midnight.
	rows, err = tx.Query(`select p.due, min(r.started) from settlement_payout p join settlement_batch b on b.id = p.batch join settlement_run r on r.id = b.run
		where p.state = 1` + free + "group by p.due")
	_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
		var due calendar.Date
		var made int64
		err := r.Scan(&due, &made)
		since := time.UnixMicro(max(made, due.Time().UnixMicro()))
		if c := counts[Created]; c.Since.IsZero() || since.Before(c.Since) {
			c.Since = since
			counts[Created] = c
		}
		return err
	})
	return err
}

// PayoutsOf lists up to limit payouts of a merchant, the latest first.
func (e *Engine) PayoutsOf(ctx context.Context, mid string, limit int) ([]PayoutView, error) {
	return e.payouts(ctx, "merchant = $1 order by due desc, ref desc limit $2", mid, limit)
}

// PayoutChain lists a payout with those it replaces and those that replaced it,
// the first one first.
func (e *Engine) PayoutChain(ctx context.Context, ref string) ([]PayoutView, error) {
	first, from, to := chainOf(ref)
	chain, err := e.payouts(ctx, "ref = $1 or ref > $2 and ref < $3 order by length(ref), ref", first, from, to)
	if err == nil && !slices.ContainsFunc(chain, func(p PayoutView) bool { return p.Ref == ref }) {
		err = fmt.Errorf("settlement: payout %.64q: %w", ref, store.ErrNotFound)
	}
	return chain, err
}

// chainOf is the reference of the first payout of a chain, and the bounds between
// which those of its replacements are.
func chainOf(ref string) (first, from, to string) {
	first, _, _ = strings.Cut(ref, "-R")
	return first, first + "-R", first + "-S"
}

func (e *Engine) payouts(ctx context.Context, where string, args ...any) (views []PayoutView, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+payoutColumns+" from settlement_payout where "+where, args...)
		all, err := store.All(rows, err, scanPayout)
		views = make([]PayoutView, len(all))
		for i := range all {
			views[i] = viewOf(&all[i])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: reading payouts: %w", err)
	}
	return views, nil
}

// Arrival is where the money of one transaction stands: whether it is booked,
// held, settled, and in which payouts.
type Arrival struct {
	Txn     int64          `json:"txn"`
	Line    LineState      `json:"line"`
	Speed   merchant.Speed `json:"speed"`
	Date    calendar.Date  `json:"date"`               // business date it settles with
	Net     money.Amount   `json:"net"`                // what the merchant has of it, before a fee for speed
	Due     calendar.Date  `json:"due,omitempty"`      // while it waits: the day on which it is paid, if nothing comes between
	Reason  string         `json:"reason,omitempty"`   // why it is paid later than its merchant's speed says, or not yet
	Other   money.Amount   `json:"other,omitempty"`    // chargebacks, fees and holds that were netted with it
	CarryIn money.Amount   `json:"carry_in,omitempty"` // and what was carried over from before
	Payouts []PayoutView   `json:"payouts,omitempty"`  // of its batch, with those that replaced them
}

const ofBatch = "batch = $1 and ref >= $2 and ref < $3 order by length(ref), ref"

// Arrival looks up a transaction by the journal's id; ErrNotFound of store when
// it moves no money or is not booked yet. now says what may still be paid early.
func (e *Engine) Arrival(ctx context.Context, txn int64, now time.Time) (*Arrival, error) {
	var a *Arrival
	var batch int64
	var ref string // of its payout; the parts and those that replaced them begin with it
	err := e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+lineColumns+" from settlement_line where id = $1", txn)
		all, err := store.All(rows, err, scanLine)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return store.ErrNotFound
		}
		l := &all[0]
		a, batch = &Arrival{Txn: txn, Line: l.export().State, Speed: l.speed, Date: l.date, Net: l.amount - l.feeRate - l.feeFixed, Reason: l.note}, 0
		if l.run == lineOpen {
			var why string
			if a.Due, why, err = e.PaidOn(l.date, l.speed, now); errors.Is(err, calendar.ErrYear) { // nobody knows the day yet
				err = nil
			}
			a.Reason = cmp.Or(a.Reason, why)
			return err
		}
		if l.run <= 0 {
			return nil
		}
		var reason string
		err = tx.QueryRow("select id, payout, reason, other, carry_in from settlement_batch where run = $1 and merchant = $2 and speed = $3", l.run, l.merchant, l.speed).
			Scan(&batch, &ref, &reason, &a.Other, &a.CarryIn)
		if errors.Is(err, store.ErrNotFound) { // gathered, not netted yet
			return nil
		}
		if a.Reason == "" {
			a.Reason = reason
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: where the money of transaction %d is: %w", txn, err)
	}
	if ref != "" {
		a.Payouts, err = e.payouts(ctx, ofBatch, batch, ref, ref+"~")
	}
	return a, err
}

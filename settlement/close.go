package settlement

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
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

// Day is what the close of a business date came to; what was paid early of it is
// told apart (Early).
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

// CloseDay settles a business date: it opens the next one, books what is left,
// nets every merchant, and orders the payouts. Dates before it that are still
// open are closed first. A date that is closed already is read back, or
// finished where it was interrupted. Before the cut-offs it refuses with
// ErrEarly, and with ErrGate while the gate is shut, unless forced; a date that
// has not begun cannot be forced.
func (e *Engine) CloseDay(ctx context.Context, date calendar.Date, now time.Time, force bool) (Day, error) {
	if _, err := calendar.SettleDate(date); err != nil {
		return Day{}, err
	}
	open, err := e.OpenDate(ctx)
	if err != nil {
		return Day{}, err
	}
	if end := e.ends(date); now.Before(end) && !force && date >= open { // what was closed early may be closed again, like any other
		return Day{}, fmt.Errorf("%w: %s ends at %s; force it to close early", ErrEarly, date, end.Format(time.RFC3339))
	}
	if date > max(calendar.BusinessDate(now, e.cfg.CutOff), open) {
		return Day{}, fmt.Errorf("%w: %s has not begun", ErrEarly, date)
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
	day, err := e.settle(ctx, date, 0, now)
	if err != nil {
		return Day{}, err
	}
	return day, e.Earn(ctx, now)
}

// ends is when a business date has ended for cards and for wallets.
func (e *Engine) ends(date calendar.Date) time.Time {
	return calendar.Closes(date, max(e.cfg.CutOff, e.cfg.WalletCutOff))
}

// Ended is the last business date that has ended, for cards and for wallets.
func (e *Engine) Ended(now time.Time) calendar.Date {
	date := calendar.DateOf(now)
	if now.Before(e.ends(date)) {
		date = date.AddDays(-1)
	}
	return date
}

// Begin fixes the first date that new books close: the day that ended before the
// first sale is closed empty, without asking the gate, since nobody has a file of
// a day on which there was no house. Books that have a line or an open date stay
// as they are.
func (e *Engine) Begin(ctx context.Context, now time.Time) error {
	open, err := e.OpenDate(ctx)
	if err != nil || open != 0 {
		return err
	}
	if _, err := e.CatchUp(ctx); err != nil {
		return err
	}
	lines := 0
	if err := e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select count(*) from (select 1 from settlement_line limit 1) l").Scan(&lines)
	}); err != nil {
		return fmt.Errorf("settlement: looking for the first line: %w", err)
	}
	if lines > 0 {
		return nil
	}
	_, err = e.CloseDay(ctx, e.Ended(now), now, true)
	return err
}

// Whole says why what is booked of a business date is not all of it yet:
// ErrEarly before it has ended, ErrUndecided while transactions of it are under
// way. A date that was closed is whole, whenever that was.
func (e *Engine) Whole(ctx context.Context, date calendar.Date, now time.Time) error {
	open, err := e.OpenDate(ctx)
	if err != nil || date < open {
		return err
	}
	if date > e.Ended(now) {
		return fmt.Errorf("%w: %s ends at %s", ErrEarly, date, e.ends(date).Format(time.RFC3339))
	}
	return e.decided(ctx, date)
}

// decided says whether transactions of a date are still under way: ErrUndecided.
func (e *Engine) decided(ctx context.Context, date calendar.Date) error {
	n, err := e.cfg.Source.Undecided(ctx, date)
	switch {
	case err != nil:
		return fmt.Errorf("settlement: counting undecided transactions: %w", err)
	case n > 0:
		return fmt.Errorf("%w: %d of %s; try again in a moment", ErrUndecided, n, date)
	}
	return nil
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
		rows, err := tx.Query("select date, seq from "+runsBefore+" order by id", before)
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

// Early payments make a run every few seconds: those that are not closed have an
// index of their own.
const runsBefore = "settlement_run where state < 3 and (id < $1 or state = 2 and id <> $1)"

// PayEarly settles what D0 merchants have sold so far on a business date that
// is still open. window is the time of day as HHMM (1200) and names the run: the
// same window has one effect.
func (e *Engine) PayEarly(ctx context.Context, date calendar.Date, window int, now time.Time) (Day, error) {
	if window < 1 || window > 2359 {
		return Day{}, fmt.Errorf("settlement: window %d is not a time of day like 1200", window)
	}
	return e.settle(ctx, date, window, now)
}

// What a run's seq says: the day's close, a window as HHMM, or from seqInstant on
// the second of the day in which S0 sales are paid.
const (
	seqClose   = 0
	seqInstant = 10_000
)

// PayInstant pays what S0 merchants have sold since it was last called, and
// orders it from the bank. It is to be called every few seconds. What cannot be
// paid at once is left to the day's close, with a reason at its line.
func (e *Engine) PayInstant(ctx context.Context, now time.Time) (Payment, error) {
	var done Payment
	if e.cfg.Rail == nil {
		return done, errors.New("settlement: there is no bank to pay through; configure settlement.bank")
	}
	var waits int
	date := calendar.BusinessDate(now, e.cfg.CutOff)
	err := e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow(`select (select count(*) from (select 1 from settlement_line where run = 0 and speed = 'S0' limit 1) l), open_date from settlement_state where id = 1`).Scan(&waits, &date)
	})
	if err != nil {
		return done, fmt.Errorf("settlement: looking for S0 sales: %w", err)
	}
	if date = max(date, calendar.BusinessDate(now, e.cfg.CutOff)); waits > 0 {
		second := now.Sub(calendar.DateOf(now).Time()) / time.Second
		if _, err := e.settle(ctx, date, seqInstant+int(second), now); err != nil {
			return done, err
		}
	}
	due, err := e.openPayouts(ctx, "state = 1 and speed = 'S0' and due <= $1", calendar.DateOf(now))
	if err != nil {
		return done, err
	}
	return done, errors.Join(e.sendAll(ctx, due, now, &done), e.cfg.Rail.Flush(ctx, now))
}

// Instant is how S0 stands: how many sales wait to be paid, and the oldest of
// them.
func (e *Engine) Instant(ctx context.Context, now time.Time) (waiting int, oldest time.Duration, err error) {
	var since int64
	err = e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow(`select count(*), coalesce(min(at), 0) from (
			select at from settlement_line where run = 0 and speed = 'S0'
			union all select sold from settlement_payout where state < 5 and speed = 'S0' and sold > 0) w`).Scan(&waiting, &since)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("settlement: looking at S0 sales: %w", err)
	}
	if since > 0 {
		oldest = max(0, now.Sub(time.UnixMicro(since)))
	}
	return waiting, oldest, nil
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
	if errors.Is(err, calendar.ErrYear) && seq >= seqInstant {
		due, err = math.MaxInt32, nil // what is paid at once does not wait for the notice of a year's holidays
	}
	if err != nil {
		return Day{}, err
	}
	r := run{e: e, date: date, seq: seq, due: due, now: now}
	if err := r.find(ctx); err != nil {
		return Day{}, err
	}
	if r.id == 0 {
		if seq == 0 {
			if err := e.cfg.Source.CutOver(ctx, date.AddDays(1)); err != nil {
				return Day{}, err
			}
			if err := e.decided(ctx, date); err != nil {
				return Day{}, err
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
		r.state = runGathering // it may run again
		_, held, err := r.hold(tx, runGathering)
		if err != nil || !held {
			return err
		}
		var earlier int
		if err := tx.QueryRow("select count(*) from "+runsBefore, r.id).Scan(&earlier); err != nil || earlier > 0 {
			return err // another scheduler has just begun one: it is finished first
		}
		speed := merchant.Speed("")
		if r.seq != 0 {
			speed = merchant.D0
		}
		if r.seq >= seqInstant {
			speed = merchant.S0
		}
		if r.seq != seqClose {
			if err := r.leaveLate(tx, speed); err != nil {
				return err
			}
		}
		if fault.Planted("settled-twice") {
			if _, err := tx.Exec("update settlement_line set run = 0 where run > 0 and run < $1 and date = $2", r.id, r.date); err != nil {
				return err
			}
		}
		n, err := tx.Exec(`update settlement_line set run = $1 where run = 0 and id in (
			select id from settlement_line where run = 0 and date <= $2 and (speed = $3 or $3 = '') limit $4)`, r.id, r.date, speed, gatherBatch)
		if err != nil || n > 0 {
			return err
		}
		// Debts of who is paid early come off that; the others' wait for the close.
		if n, err = tx.Exec(`update settlement_item set run = $1 where run = 0 and key in (select i.key from settlement_item i where i.run = 0 and i.date <= $2
			and ($3 = 0 or exists (select 1 from settlement_line l where l.run = $1 and l.run > 0 and l.merchant = i.merchant)) limit $4)`,
			r.id, r.date, r.seq, gatherBatch); err != nil || n > 0 {
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
func (r *run) day(ctx context.Context) (Day, error) { return r.e.came(ctx, r.date, "run = $1", r.id) }

// Early is what the runs of a business date came to besides its close: the
// windows of D0 and the S0 sales, which the close does not have any more.
func (e *Engine) Early(ctx context.Context, date calendar.Date) (Day, error) {
	return e.came(ctx, date, "run in (select id from settlement_run where date = $1 and seq <> 0)", date)
}

// came adds up batches of a business date.
func (e *Engine) came(ctx context.Context, date calendar.Date, which string, arg any) (Day, error) {
	d := Day{Date: date}
	err := e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow(`select cast(coalesce(sum(lines), 0) as BIGINT), count(distinct merchant), cast(coalesce(sum(gross), 0) as BIGINT),
			cast(coalesce(sum(fee), 0) as BIGINT), cast(coalesce(sum(speed_fee), 0) as BIGINT), cast(coalesce(sum(other), 0) as BIGINT), cast(coalesce(sum(carry_in), 0) as BIGINT),
			cast(coalesce(sum(carry_out), 0) as BIGINT), cast(coalesce(sum(case when payout = '' then 0 else 1 end), 0) as BIGINT), cast(coalesce(sum(paid), 0) as BIGINT)
			from settlement_batch where `+which, arg).
			Scan(&d.Lines, &d.Merchants, &d.Gross, &d.Fee, &d.SpeedFee, &d.Other, &d.CarryIn, &d.CarryOut, &d.Payouts, &d.PayoutTotal)
	})
	if err != nil {
		return Day{}, fmt.Errorf("settlement: reading %s back: %w", date, err)
	}
	return d, nil
}

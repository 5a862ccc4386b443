package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/store"
)

// Grace is how long after a transaction's deadline, and after its id was
// made, others wait before they take it for lost. It covers the slowest write
// and a node whose clock is a little off.
const Grace = 30 * time.Second

// MaxLife is the longest a transaction may stay open: its deadline must be
// nearer. Beyond MaxLife and Grace everything is closed or swept.
const MaxLife = 3 * time.Minute

// OweOpenAtStart owes a reversal for everything that an earlier run of this
// node left open (W5). Call it before the listener opens. On SQLite, which one
// process owns, that is everything open; on PostgreSQL it is what this node
// (store.Node) opened, and what others opened and left past its deadline.
//
// It also lets the limits count today from the journal, so that the first sale
// does not wait for it.
func (j *Journal) OweOpenAtStart(ctx context.Context) (int, error) {
	now := time.Now()
	if fault.Planted("open-forgotten") {
		return 0, nil
	}
	if err := j.letGo(ctx); err != nil {
		return 0, err
	}
	n, err := j.oweOpen(ctx, now, true)
	if err != nil || j.limits == nil {
		return n, err
	}
	fault.Hit("limits.begin.before")
	err = j.db.Write(ctx, func(tx store.Tx) error {
		return j.limits.Begin(tx, []calendar.Date{calendar.DateOf(now)})
	})
	fault.Hit("limits.begin.after")
	return n, err
}

// letGo ends the leases of an earlier run of this node: nobody is sending what
// it was sending when it ended.
func (j *Journal) letGo(ctx context.Context) error {
	fault.Hit("owed.let_go.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		if !tx.Postgres() { // one process owns the file, whatever it called itself
			_, err := tx.Exec("update owed set leased = 0 where state = 4")
			return err
		}
		_, err := tx.Exec("update owed set leased = 0 where state = 4 and holder = $1", store.Node())
		return err
	})
	fault.Hit("owed.let_go.after")
	if err != nil {
		return fmt.Errorf("journal: ending the leases of the last run: %w", err)
	}
	return nil
}

// OweLost owes a reversal for what is open past its deadline and Grace: a
// handler that was lost, or another node that died. Call it every few seconds.
// Each transaction is looked at once, when it is old enough: the place
// reached is kept in the database.
func (j *Journal) OweLost(ctx context.Context) (int, error) {
	return j.oweOpen(ctx, time.Now(), false)
}

// The queries that run often. States stand in the text, where partial indexes
// can answer them.
const (
	pageEnd      = "select id from txn where id > $1 and id <= $2 order by id limit 1 offset $3"
	dueReversals = "select id from owed where state = 4 and issuer = $3 and due <= $1 and leased <= $1 order by due limit $2 for update skip locked"
	countOwed    = "select count(*), coalesce(min(created), 0) from owed where state = 4"
	countManual  = "select count(*) from owed where state = 6"
)

var openPage = entries + "where t.id > $1 and t.id <= $2 and o.id is null order by t.id"

// openOf counts the open transactions of a business date among those of a page of
// ids: the plus keeps the key of days, which has all of the date, out of it.
const openOf = "select count(*) from txn t left join outcome o on o.txn = t.id where t.id > $1 and t.id <= $2 and +t.day = $3 and o.id is null"

// sweepPage is how many transactions one query of a sweep looks at.
const sweepPage = 5000

// oweOpen walks from the mark, below which everything is closed, and closes
// what it finds open as Interrupted.
func (j *Journal) oweOpen(ctx context.Context, now time.Time, start bool) (int, error) {
	j.sweep.Lock()
	defer j.sweep.Unlock()
	postgres := j.db.Postgres()
	mark, err := j.sweptTo(ctx)
	if err != nil {
		return 0, err
	}
	// Ids below settled are old enough that no write of theirs is under way
	// and no deadline of theirs is ahead.
	settled := store.IDAt(now.Add(-MaxLife - Grace))
	limit := settled
	if start {
		limit = store.IDAt(now.Add(24 * time.Hour)) // also ids made on a clock that was ahead
	}
	from, stuck, owed := mark, int64(0), 0
	for from < limit {
		found, last, err := j.openBetween(ctx, from, limit)
		if err != nil {
			return owed, err
		}
		var lost []*Entry
		for _, e := range found {
			if now.After(e.Deadline.Add(Grace)) || start && (!postgres || e.Node == int32(store.Node())) {
				lost = append(lost, e)
			} else if stuck == 0 {
				stuck = e.ID
			}
		}
		n, err := j.interrupt(ctx, lost, now)
		owed += n
		if err != nil {
			return owed, err
		}
		from = last
	}
	next := min(settled, limit)
	if stuck != 0 {
		next = min(next, stuck-1)
	}
	return owed, j.sweptUpTo(ctx, max(next, mark))
}

// sweptTo is the id below which everything is closed. It is kept in memory,
// and now and then in the database for the next run.
func (j *Journal) sweptTo(ctx context.Context) (int64, error) {
	if j.swept != 0 {
		return j.swept, nil
	}
	err := j.db.Read(ctx, func(tx store.Tx) error {
		err := tx.QueryRow("select id from journal_mark where name = 'closed'").Scan(&j.swept)
		if errors.Is(err, store.ErrNotFound) {
			j.swept, err = -1, nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("journal: reading the sweep's mark: %w", err)
	}
	j.marked = j.swept
	return j.swept, nil
}

// markEvery is how much of the walk the next run may have to repeat.
const markEvery = time.Minute

func (j *Journal) sweptUpTo(ctx context.Context, id int64) error {
	j.swept = id
	if store.IDTime(id).Sub(store.IDTime(max(0, j.marked))) < markEvery {
		return nil
	}
	fault.Hit("owed.mark.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("insert into journal_mark (name, id) values ('closed', $1) on conflict (name) do update set id = $1 where journal_mark.id < $1", id)
		return err
	})
	fault.Hit("owed.mark.after")
	if err != nil {
		return fmt.Errorf("journal: writing the sweep's mark: %w", err)
	}
	j.marked = id
	return nil
}

// interrupt closes what was lost, together, so that it shares commits.
func (j *Journal) interrupt(ctx context.Context, lost []*Entry, now time.Time) (owed int, err error) {
	errs := make([]error, len(lost))
	var won atomic.Int32
	var wg sync.WaitGroup
	slots := make(chan struct{}, 256)
	for i, e := range lost {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			fault.Hit("owed.interrupt.before")
			closed, err := j.Close(ctx, &e.Transaction, Outcome{Reason: Interrupted, Closed: now, Note: "left open"}, Because(WhyInterrupted), DueAt(now))
			fault.Hit("owed.interrupt.after")
			if err != nil {
				errs[i] = fmt.Errorf("journal: owing the reversal of %d: %w", e.ID, err)
			} else if closed.Won {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	return int(won.Load()), errors.Join(errs...)
}

// openBetween returns the open transactions of the next page of ids after
// from, and where the page ends. The walk follows the primary keys, so that
// the hot tables need no index for it.
func (j *Journal) openBetween(ctx context.Context, from, limit int64) (found []*Entry, last int64, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		found, last = nil, limit
		err := tx.QueryRow(pageEnd, from, limit, sweepPage-1).Scan(&last)
		if err != nil && err != store.ErrNotFound {
			return err
		}
		rows, err := tx.Query(openPage, from, last)
		if err != nil {
			return err
		}
		found, err = scanEntries(rows)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("journal: looking for open transactions: %w", err)
	}
	return found, last, nil
}

func scanEntries(rows *store.Rows) ([]*Entry, error) {
	defer rows.Close()
	var all []*Entry
	for rows.Next() {
		e := new(Entry)
		if err := scanEntry(rows, e); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

// Undecided counts the transactions of a business date that are open. It looks at
// what is behind the sweep's mark, below which everything is closed, page by page:
// a day of a million sales has a few hundred there.
func (j *Journal) Undecided(ctx context.Context, day calendar.Date) (n int, err error) {
	var from, limit int64
	err = j.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow(`select coalesce((select id from journal_mark where name = 'closed'), 0), coalesce((select max(id) from txn), 0)`).Scan(&from, &limit)
	})
	for from < limit && err == nil {
		err = j.db.Read(ctx, func(tx store.Tx) error {
			last := limit
			if err := tx.QueryRow(pageEnd, from, limit, sweepPage-1).Scan(&last); err != nil && err != store.ErrNotFound {
				return err
			}
			var open int
			if err := tx.QueryRow(openOf, from, last, day).Scan(&open); err != nil {
				return err
			}
			n, from = n+open, last
			return nil
		})
	}
	if err != nil {
		return 0, fmt.Errorf("journal: counting the open transactions of %s: %w", day, err)
	}
	return n, nil
}

// ClaimFor takes up to n reversals towards an issuer that are due and that
// nobody is sending, and leases them to this node for the given time: nobody
// else sends them until then. Each comes with its transaction; Debt.Tries
// counts this try. Every claimed reversal ends in Acknowledge, RetryAt or
// GiveUpOn, or comes due again when the lease ends. Each issuer's list is
// walked alone: a long one towards a slow issuer never stands in front of the
// others.
func (j *Journal) ClaimFor(ctx context.Context, issuer string, n int, lease time.Duration) ([]*Entry, error) {
	var claimed []*Entry
	now := time.Now()
	fault.Hit("owed.claim.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		claimed = nil
		rows, err := tx.Query(dueReversals, store.Micros(now), n, issuer)
		ids, err := store.All(rows, err, func(r *store.Rows, id *int64) error { return r.Scan(id) })
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if _, err := tx.Exec("update owed set holder = $1, leased = $2, tries = tries + 1 where id = $3", store.Node(), store.Micros(now.Add(lease)), id); err != nil {
				return err
			}
			e, err := entry(tx, entries+"where w.id = $1", id)
			if err != nil {
				return err
			}
			if e == nil { // lost or damaged; in the way of no other, and Check finds it
				if _, err := tx.Exec("update owed set state = 6, ended = $2, leased = 0, note = 'its transaction is not in the journal' where id = $1", id, store.Micros(now)); err != nil {
					return err
				}
				continue
			}
			claimed = append(claimed, e)
		}
		return nil
	})
	fault.Hit("owed.claim.after")
	if err != nil {
		return nil, fmt.Errorf("journal: claiming reversals: %w", err)
	}
	return claimed, nil
}

// Acknowledge ends a reversal: the issuer confirmed it, or a person did. also
// is done in the same write.
func (j *Journal) Acknowledge(ctx context.Context, debt int64, note string, also ...func(store.Tx) error) error {
	return j.settle(ctx, debt, Acknowledge, note, time.Now(), time.Time{}, also...)
}

// GiveUpOn hands a reversal to a person: refused by the issuer, or tried
// often enough. It is never dropped.
func (j *Journal) GiveUpOn(ctx context.Context, debt int64, note string) error {
	return j.settle(ctx, debt, GiveUp, note, time.Now(), time.Time{})
}

// Resume puts a reversal that was given up back on the list. also is done in
// the same write.
func (j *Journal) Resume(ctx context.Context, debt int64, at time.Time, also ...func(store.Tx) error) error {
	return j.settle(ctx, debt, Resume, "resumed", time.Time{}, at, also...)
}

// RetryAt gives up the lease of a reversal and sets when it comes due again.
func (j *Journal) RetryAt(ctx context.Context, debt int64, at time.Time, note string) error {
	return j.reschedule(ctx, debt, at, note, 0)
}

// Postpone is RetryAt for what was claimed and not sent: the claim does not
// count as a try. Of one that was sent before the list goes on to say what its
// last try met.
func (j *Journal) Postpone(ctx context.Context, debt int64, at time.Time, note string) error {
	return j.reschedule(ctx, debt, at, note, 1)
}

// Hurry makes what waited for the end of a transaction's advice due now: the
// advice was called off while it was on its way, and whoever was sending it has
// ended.
func (j *Journal) Hurry(ctx context.Context, txn int64) error {
	now := store.Micros(time.Now())
	fault.Hit("owed.hurry.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("update owed set due = $2 where txn = $1 and state = 4 and leased = 0 and due > $2", txn, now)
		return err
	})
	fault.Hit("owed.hurry.after")
	if err != nil {
		return fmt.Errorf("journal: hurrying what is owed for %d: %w", txn, err)
	}
	return nil
}

func (j *Journal) reschedule(ctx context.Context, debt int64, at time.Time, note string, back int) error {
	fault.Hit("owed.reschedule.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("update owed set due = $2, leased = 0, note = case when $4 = 1 and tries > 1 and note <> '' then note else $3 end, tries = tries - $4 where id = $1 and state = 4", debt, store.Micros(at), clean(note), back)
		if err == nil && n == 0 {
			err = store.ErrNotFound
		}
		return err
	})
	fault.Hit("owed.reschedule.after")
	if err != nil {
		return fmt.Errorf("journal: rescheduling reversal %d: %w", debt, err)
	}
	return nil
}

// settle moves a debt by the one function that knows the arrows.
func (j *Journal) settle(ctx context.Context, debt int64, e Event, note string, ended, due time.Time, also ...func(store.Tx) error) error {
	fault.Hit("owed.settle.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		var s State
		var was int64
		if err := tx.QueryRow("select state, due from owed where id = $1 for update", debt).Scan(&s, &was); err != nil {
			return err
		}
		next, err := s.Next(e)
		if err != nil {
			if s == Reversed && e == Acknowledge {
				return nil // acknowledged twice: the issuer repeated itself
			}
			return err
		}
		if !due.IsZero() {
			was = store.Micros(due)
		}
		if _, err = tx.Exec("update owed set state = $2, note = $3, ended = $4, due = $5, leased = 0 where id = $1", debt, next, clean(note), store.Micros(ended), was); err != nil {
			return err
		}
		for _, f := range also {
			if err := f(tx); err != nil {
				return err
			}
		}
		return nil
	})
	fault.Hit("owed.settle.after")
	if err != nil {
		return fmt.Errorf("journal: reversal %d: %s: %w", debt, e, err)
	}
	return nil
}

// DebtCounts are the reversals on the list.
type DebtCounts struct {
	Owed   int
	Manual int
	Oldest time.Time // creation of the oldest owed one; zero when there is none
}

// Debts counts the reversals that are owed or with a person.
func (j *Journal) Debts(ctx context.Context) (DebtCounts, error) {
	var c DebtCounts
	err := j.db.Read(ctx, func(tx store.Tx) error {
		var oldest int64
		if err := tx.QueryRow(countOwed).Scan(&c.Owed, &oldest); err != nil {
			return err
		}
		c.Oldest = store.Instant(oldest)
		return tx.QueryRow(countManual).Scan(&c.Manual)
	})
	return c, err
}

// debtLists are the queries of DebtList. The states stand in the text so that
// the indexes over the few that are owed or with a person serve them.
var debtLists = map[State]string{
	Owed:     debts("where state = 4 order by created"),
	Manual:   debts("where state = 6 order by created"),
	Reversed: debts("where state = 5 order by id desc"),
}

func debts(which string) string {
	return "select " + entryColumns + " from (select id as debt from owed " + which + ` limit $1) d
		join owed w on w.id = d.debt join txn t on t.id = w.txn left join outcome o on o.txn = t.id order by w.id`
}

// DebtList returns up to n reversals that are Owed or Manual, the oldest
// ones, or the last that are Reversed, in the order they were made.
func (j *Journal) DebtList(ctx context.Context, state State, n int) ([]*Entry, error) {
	sql, ok := debtLists[state]
	if !ok {
		return nil, fmt.Errorf("journal: no list of debts that are %s: want owed, manual or reversed", state)
	}
	return j.many(ctx, sql, n)
}

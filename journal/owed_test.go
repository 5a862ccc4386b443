package journal_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// unanswered opens and closes a transaction so that a reversal is due now.
func unanswered(t *testing.T, j *journal.Journal) *journal.Transaction {
	t.Helper()
	s := sale(money.Yuan(1))
	mustOpen(t, j, s, journal.Fresh)
	mustClose(t, j, s, journal.Outcome{Reason: journal.Unanswered, Closed: time.Now()}, true)
	return s
}

// What one run leaves open, the next owes before anything else (W5), once.
func TestWhatWasLeftOpenIsOwed(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "a.db") },
		"postgres": storetest.PostgresURL,
	} {
		t.Run(name, func(t *testing.T) {
			url := url(t)
			var left []*journal.Transaction
			for round := range 3 {
				db, err := store.Open(t.Context(), url, schemas...)
				if err != nil {
					t.Fatal(err)
				}
				j := newJournal(t, db, nil)
				n, err := j.OweOpenAtStart(t.Context())
				if err != nil || n != []int{0, 3, 0}[round] {
					t.Errorf("run %d owes %d, %v", round, n, err)
				}
				for _, s := range left {
					e := state(t, j, s, journal.Owed)
					if e.Outcome.Reason != journal.Interrupted || e.Debt.Why != journal.WhyInterrupted {
						t.Errorf("left open, closed as %v, owed for %v", e.Outcome.Reason, e.Debt.Why)
					}
				}
				if round == 0 {
					for i := range 7 {
						s := sale(money.Yuan(1))
						mustOpen(t, j, s, journal.Fresh)
						if i%2 == 0 {
							mustClose(t, j, s, approved(s), true)
						} else {
							left = append(left, s)
						}
					}
				}
				sound(t, j)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A node leaves the open transactions of a living one alone, and takes over
// those of a dead one when their time is up.
func TestTheDeadNodesTransactionsAreOwed(t *testing.T) {
	db := storetest.Postgres(t, schemas...)
	j := newJournal(t, db, nil)
	foreign := func(deadline time.Time) *journal.Transaction {
		s := sale(money.Yuan(1))
		s.Node, s.Deadline = 7, deadline
		mustOpen(t, j, s, journal.Fresh)
		return s
	}
	living, dead := foreign(time.Now().Add(time.Minute)), foreign(time.Now().Add(-journal.Grace-time.Second))
	own := sale(money.Yuan(1))
	mustOpen(t, j, own, journal.Fresh)
	if n, err := j.OweOpenAtStart(t.Context()); err != nil || n != 2 {
		t.Errorf("owes %d, %v, want 2", n, err)
	}
	state(t, j, living, journal.Open)
	state(t, j, dead, journal.Owed)
	state(t, j, own, journal.Owed)
}

// The periodic sweep finds what a handler has lost, as soon as its deadline
// and the grace are over, and nothing else; then it does not look there again.
func TestSweepFindsWhatIsLost(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, j *journal.Journal) {
		old := func(age, deadline time.Duration) *journal.Transaction {
			s := sale(money.Yuan(1))
			s.ID = store.IDAt(time.Now().Add(-age)) + int64(s.STAN)
			s.Opened = time.Now().Add(-age)
			s.Deadline = s.Opened.Add(deadline)
			mustOpen(t, j, s, journal.Fresh)
			return s
		}
		age := journal.MaxLife + journal.Grace + 3*time.Minute
		lost := old(age, 45*time.Second)
		stuck := old(age-time.Second, 24*time.Hour) // a deadline beyond reason
		behind := old(age-2*time.Second, 45*time.Second)
		young := old(time.Second, 45*time.Second)
		sweep := func(want int) {
			t.Helper()
			if n, err := j.OweLost(t.Context()); err != nil || n != want {
				t.Errorf("the sweep found %d, %v, want %d", n, err, want)
			}
		}
		mark := func() (id int64) {
			t.Helper()
			if err := db.Read(t.Context(), func(tx store.Tx) error {
				return tx.QueryRow("select id from journal_mark where name = 'closed'").Scan(&id)
			}); err != nil {
				t.Fatal(err)
			}
			return id
		}
		undecided := func(day calendar.Date, want int) {
			t.Helper()
			if n, err := j.Undecided(t.Context(), day); err != nil || n != want {
				t.Errorf("%d transactions of %s are open, %v, want %d", n, day, err, want)
			}
		}
		undecided(businessDay, 4)
		undecided(nextDay, 0)
		sweep(2)
		undecided(businessDay, 2)
		state(t, j, lost, journal.Owed)
		state(t, j, behind, journal.Owed)
		state(t, j, stuck, journal.Open)
		state(t, j, young, journal.Open)
		if m := mark(); m != stuck.ID-1 {
			t.Errorf("the mark is %d, want to stop before the open %d", m, stuck.ID)
		}
		sweep(0)
		mustClose(t, j, stuck, declined("05"), true)
		undecided(businessDay, 1)
		sweep(0)
		undecided(businessDay, 1)
		if m := mark(); m <= stuck.ID || m >= young.ID {
			t.Errorf("the mark is %d, want between %d and %d", m, stuck.ID, young.ID)
		}
		mustClose(t, j, young, declined("05"), true)
	})
}

func TestClaimsAreLeases(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		ctx := t.Context()
		const n = 20
		for range n {
			unanswered(t, j)
		}
		var mu sync.Mutex
		seen := map[int64]int{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					claimed, err := j.ClaimFor(context.Background(), "icbc", 3, time.Hour)
					if err != nil {
						t.Error(err)
						return
					}
					if len(claimed) == 0 {
						return
					}
					mu.Lock()
					for _, e := range claimed {
						seen[e.Debt.ID]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(seen) != n {
			t.Errorf("%d reversals claimed, want %d", len(seen), n)
		}
		for id, times := range seen {
			if times != 1 {
				t.Errorf("reversal %d claimed %d times", id, times)
			}
			if err := j.Acknowledge(ctx, id, "00"); err != nil {
				t.Error(err)
			}
		}
		// A lease that ends gives the reversal to the next.
		unanswered(t, j)
		claimed, err := j.ClaimFor(ctx, "icbc", 1, 0)
		if err != nil || len(claimed) != 1 {
			t.Fatal(claimed, err)
		}
		again, err := j.ClaimFor(ctx, "icbc", 1, time.Hour)
		if err != nil || len(again) != 1 || again[0].Debt.Tries != 2 {
			t.Errorf("after the lease: %v %v", again, err)
		}
	})
}

// What was claimed and not sent is no try, and what the last try met stays on
// the list: a line that is busy later says nothing about an issuer's 25.
func TestAPostponedDebtKeepsWhatItsTryMet(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		s, now := unanswered(t, j), time.Now()
		for i, step := range []struct {
			reschedule func(context.Context, int64, time.Time, string) error
			says       string
			tries      int32
			note       string
		}{
			{j.Postpone, "busy", 0, "busy"},
			{j.RetryAt, "answered 25", 1, "answered 25"},
			{j.Postpone, "busy", 1, "answered 25"},
			{j.RetryAt, "no answer", 2, "no answer"},
		} {
			claimed, err := j.ClaimFor(t.Context(), "icbc", 1, time.Hour)
			if err != nil || len(claimed) != 1 {
				t.Fatal(claimed, err)
			}
			if err := step.reschedule(t.Context(), claimed[0].Debt.ID, now, step.says); err != nil {
				t.Fatal(err)
			}
			if d := state(t, j, s, journal.Owed).Debt; d.Tries != step.tries || d.Note != step.note {
				t.Errorf("step %d: %d tries, %q; want %d, %q", i, d.Tries, d.Note, step.tries, step.note)
			}
		}
	})
}

// A reversal goes round the states; a poison one blocks nobody.
func TestDebtsLife(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		ctx := t.Context()
		poison, good := unanswered(t, j), unanswered(t, j)
		claimed, err := j.ClaimFor(ctx, "icbc", 10, time.Hour)
		if err != nil || len(claimed) != 2 {
			t.Fatal(claimed, err)
		}
		id := func(s *journal.Transaction) int64 {
			for _, e := range claimed {
				if e.ID == s.ID {
					return e.Debt.ID
				}
			}
			t.Fatalf("%d was not claimed", s.ID)
			return 0
		}
		p, g := id(poison), id(good)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		must(j.RetryAt(ctx, p, time.Now().Add(time.Hour), "no answer"))
		must(j.RetryAt(ctx, g, time.Now().Add(-time.Second), "no answer"))
		if claimed, err = j.ClaimFor(ctx, "icbc", 10, time.Hour); err != nil || len(claimed) != 1 || claimed[0].ID != good.ID {
			t.Fatalf("due now: %v %v, want the good one", claimed, err)
		}
		if c, err := j.Debts(ctx); err != nil || c.Owed != 2 || c.Manual != 0 || time.Since(c.Oldest) > time.Minute {
			t.Errorf("%+v %v", c, err)
		}
		must(j.Acknowledge(ctx, g, "00"))
		must(j.Acknowledge(ctx, g, "00")) // the issuer repeats itself
		if e := state(t, j, good, journal.Reversed); e.Debt.Ended.IsZero() || e.Debt.Note != "00" {
			t.Errorf("%+v", e.Debt)
		}
		if err := j.GiveUpOn(ctx, g, "too late"); err == nil {
			t.Error("what is reversed was given up")
		}
		if err := j.RetryAt(ctx, g, time.Now(), ""); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("what is reversed was put back: %v", err)
		}
		must(j.GiveUpOn(ctx, p, "refused: 12"))
		state(t, j, poison, journal.Manual)
		if c, err := j.Debts(ctx); err != nil || c.Owed != 0 || c.Manual != 1 || !c.Oldest.IsZero() {
			t.Errorf("%+v %v", c, err)
		}
		must(j.Resume(ctx, p, time.Now()))
		if claimed, err = j.ClaimFor(ctx, "icbc", 10, time.Hour); err != nil || len(claimed) != 1 || claimed[0].ID != poison.ID {
			t.Fatalf("resumed: %v %v", claimed, err)
		}
		must(j.GiveUpOn(ctx, p, "refused again"))
		must(j.Acknowledge(ctx, p, "by hand: statement of 2026-02-14"))
		state(t, j, poison, journal.Reversed)
		if err := j.Acknowledge(ctx, 1, ""); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a reversal that is not there: %v", err)
		}
	})
}

// Each check finds what it is there for.
func TestChecksFindWhatMustNotBe(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		j := newJournal(t, db, nil)
		exec := func(sql string, args ...any) {
			t.Helper()
			if err := db.Write(t.Context(), func(tx store.Tx) error { _, err := tx.Exec(sql, args...); return err }); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			want string
			harm func()
		}{
			{"I1: an outcome without its transaction", func() { exec("delete from txn where id = $1", unansweredDone(t, j).ID) }},
			{"I1: a reversal without its transaction", func() { exec("delete from txn where id = $1", unansweredDone(t, j).ID) }},
			{"I6: a reversal owed without an outcome", func() { exec("delete from outcome where txn = $1", unansweredDone(t, j).ID) }},
			{"I3: an outcome that owes a reversal without one", func() { exec("delete from owed where txn = $1", unansweredDone(t, j).ID) }},
			{"I6: a reversal of a transaction that was refused without owing one", func() { exec("update outcome set reason = 2 where txn = $1", unansweredDone(t, j).ID) }},
			{"I6: a reversal that forgets whether its transaction was approved", func() { exec("update owed set approved = 1 where txn = $1", unansweredDone(t, j).ID) }},
			{"I6: an outcome without a decision", func() {
				s := sale(1)
				mustOpen(t, j, s, journal.Fresh)
				mustClose(t, j, s, journal.Outcome{}, true)
			}},
			{"I6: a reversal in an impossible state", func() { exec("update owed set ended = 0 where txn = $1", unansweredDone(t, j).ID) }},
			{"I3: a transaction open long after its deadline", func() {
				s := sale(1)
				s.Deadline = time.Now().Add(-time.Hour)
				mustOpen(t, j, s, journal.Fresh)
			}},
		} {
			exec("delete from txn")
			exec("delete from outcome")
			exec("delete from owed")
			c.harm()
			v, err := j.Check(t.Context(), time.Now().Add(-time.Hour))
			found := false
			for _, x := range v {
				found = found || x.Invariant+": "+x.What == c.want && x.Count == 1 && x.Example != 0
			}
			if err != nil || !found {
				t.Errorf("%s: found %v %v", c.want, v, err)
			}
		}
	})
}

// unansweredDone is a transaction whose reversal was acknowledged.
func unansweredDone(t *testing.T, j *journal.Journal) *journal.Transaction {
	t.Helper()
	s := unanswered(t, j)
	claimed, err := j.ClaimFor(t.Context(), "icbc", 1, time.Hour)
	if err != nil || len(claimed) != 1 {
		t.Fatal(claimed, err)
	}
	if err := j.Acknowledge(t.Context(), claimed[0].Debt.ID, "00"); err != nil {
		t.Fatal(err)
	}
	return s
}

// A reversal whose transaction is gone goes to a person and holds up no other.
func TestADebtWithoutItsTransaction(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		j := newJournal(t, db, nil)
		gone, good := unanswered(t, j), unanswered(t, j)
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("delete from txn where id = $1", gone.ID)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		claimed, err := j.ClaimFor(t.Context(), "icbc", 10, time.Hour)
		if err != nil || len(claimed) != 1 || claimed[0].ID != good.ID {
			t.Errorf("claimed %v, %v", claimed, err)
		}
		if c, err := j.Debts(t.Context()); err != nil || c.Owed != 1 || c.Manual != 1 {
			t.Errorf("%+v %v", c, err)
		}
	})
}

// What a run was sending when it ended, the next sends at once.
func TestLeasesEndWithTheirRun(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		s := sold(t, j, journal.Sale, 100)
		mustReverse(t, j, s, journal.Reversing)
		for range 2 {
			if list, err := j.ClaimFor(t.Context(), s.Issuer, 10, time.Hour); err != nil || len(list) != 1 {
				t.Fatalf("claimed %d %v", len(list), err)
			}
			if list, err := j.ClaimFor(t.Context(), s.Issuer, 10, time.Hour); err != nil || len(list) != 0 {
				t.Fatalf("claimed twice: %d %v", len(list), err)
			}
			if _, err := j.OweOpenAtStart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

package journal_test

import (
	"sync"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/store"
)

// Another issuer may be asked while nothing is decided; what is owed goes to
// the one that the row names, however the two meet.
func TestMove(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		move := func(s *journal.Transaction, want bool) {
			t.Helper()
			if moved, err := j.Move(t.Context(), s.ID, "south", time.Now().Add(time.Minute)); err != nil || moved != want {
				t.Errorf("moved %t %v, want %t", moved, err, want)
			}
		}
		s := sale(100)
		mustOpen(t, j, s, journal.Fresh)
		move(s, true)
		e := state(t, j, s, journal.Open)
		if e.Issuer != "south" || time.Until(e.Deadline) < 50*time.Second {
			t.Errorf("it goes to %s until %v", e.Issuer, e.Deadline)
		}
		mustReverse(t, j, s, journal.WasInFlight)
		if list, err := j.ClaimFor(t.Context(), "south", 10, time.Minute); err != nil || len(list) != 1 || list[0].ID != s.ID || list[0].Issuer != "south" {
			t.Errorf("owed to south: %v %v", list, err)
		}
		move(s, false)

		// A crash behind the move and before the answer: owed to the second.
		crashed := sale(100)
		mustOpen(t, j, crashed, journal.Fresh)
		move(crashed, true)
		if n, err := j.OweOpenAtStart(t.Context()); err != nil || n != 1 {
			t.Errorf("%d were left open: %v", n, err)
		}
		if list, err := j.ClaimFor(t.Context(), "south", 10, time.Minute); err != nil || len(list) != 2 {
			t.Errorf("owed to south: %v %v", list, err)
		}

		closed := sale(100)
		mustOpen(t, j, closed, journal.Fresh)
		mustClose(t, j, closed, approved(closed), true)
		move(closed, false)
		if e := state(t, j, closed, journal.StateApproved); e.Issuer != closed.Issuer {
			t.Errorf("a closed one went to %s", e.Issuer)
		}
		if _, err := j.Move(t.Context(), 1, "south", time.Now()); err == nil {
			t.Error("a transaction that is not there was moved")
		}

		var wg sync.WaitGroup
		for range 40 {
			s := sale(100)
			mustOpen(t, j, s, journal.Fresh)
			var moved bool
			wg.Go(func() {
				var err error
				if moved, err = j.Move(t.Context(), s.ID, "south", time.Now().Add(time.Minute)); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				asked := *s
				asked.ID = 0
				if r, err := j.Reverse(t.Context(), &asked, "98", time.Now()); err != nil || r.Effect != journal.WasInFlight {
					t.Errorf("reverse: %v %v", r.Effect, err)
				}
			})
			wg.Wait()
			to, other := s.Issuer, "south"
			if moved {
				to, other = other, to
			}
			if list, err := j.ClaimFor(t.Context(), other, 10, time.Minute); err != nil || len(list) != 0 {
				t.Fatalf("moved %t, and something is owed to %s: %v %v", moved, other, list, err)
			}
			if list, err := j.ClaimFor(t.Context(), to, 10, time.Minute); err != nil || len(list) != 1 || list[0].ID != s.ID || list[0].Issuer != to {
				t.Fatalf("moved %t, and owed to %s: %v %v", moved, to, list, err)
			}
		}
	})
}

// A sale that the house approved for its issuer spends its limits, and can be
// taken back: with nothing owed while the issuer has not been told, and with
// what gives it back when it has or may have been.
func TestStoodIn(t *testing.T) {
	rules := []limits.Rule{{Scope: limits.Card, DayAmount: money.Yuan(1_000)}}
	eachWith(t, rules, func(t *testing.T, db *store.DB, j *journal.Journal) {
		stoodIn := func() *journal.Transaction {
			t.Helper()
			s := sale(100)
			mustOpen(t, j, s, journal.Fresh)
			c, err := j.Close(t.Context(), s, journal.Outcome{Reason: journal.Approved, Approval: "S12345", Closed: time.Now()}, journal.Because(journal.WhyDelivery))
			if err != nil || !c.Won || c.DebtID == 0 {
				t.Fatalf("close: %+v %v", c, err)
			}
			if e := state(t, j, s, journal.StateApproved); !e.StoodIn() || e.TakenBack() || !e.Debt.Delivery() {
				t.Fatalf("%+v %+v", e.Outcome, e.Debt)
			}
			return s
		}
		claim := func(s *journal.Transaction, n int) (list []*journal.Entry) {
			t.Helper()
			list, err := j.ClaimFor(t.Context(), s.Issuer, 10, time.Minute)
			if err != nil || len(list) != n {
				t.Fatalf("%d are owed, want %d: %v", len(list), n, err)
			}
			return list
		}
		facts := func(want ...bool) {
			t.Helper()
			all, err := j.ClearingSince(t.Context(), 0, 100)
			if err != nil || len(all) != len(want) {
				t.Fatalf("%+v %v, want %v", all, err, want)
			}
			for i, taken := range want {
				if all[i].Taken != taken {
					t.Errorf("fact %d: %+v", i, all[i])
				}
			}
		}

		s := stoodIn()
		if got := usedToday(t, db, j); got != 100 {
			t.Errorf("%v of the limits is spent, want 1.00", got)
		}
		if e := mustReverse(t, j, s, journal.Reversing); e.Debt.State != journal.Reversed {
			t.Errorf("untold and taken back: %+v", e.Debt)
		}
		state(t, j, s, journal.Reversed)
		mustReverse(t, j, s, journal.AlreadyReversed)
		claim(s, 0)
		if got := usedToday(t, db, j); got != 0 {
			t.Errorf("%v of the limits is still spent", got)
		}
		facts(false, true)

		// Delivered, then taken back.
		s = stoodIn()
		if err := j.Acknowledge(t.Context(), claim(s, 1)[0].Debt.ID, "has it"); err != nil {
			t.Fatal(err)
		}
		state(t, j, s, journal.StateApproved)
		mustReverse(t, j, s, journal.Reversing)
		if e := state(t, j, s, journal.Owed); !e.StoodIn() || e.Debt.Why != "98" {
			t.Errorf("%+v", e.Debt)
		}
		if err := j.Acknowledge(t.Context(), claim(s, 1)[0].Debt.ID, "gave it back"); err != nil {
			t.Fatal(err)
		}
		state(t, j, s, journal.Reversed)
		facts(false, true, false, true)

		// On its way: what gives it back waits until it has arrived or been lost,
		// and its end does not end the other.
		s = stoodIn()
		under := claim(s, 1)[0]
		e := mustReverse(t, j, s, journal.Reversing)
		if wait := time.Until(e.Debt.Due); wait < 50*time.Second {
			t.Errorf("due in %v, before the advice is through", wait)
		}
		if err := j.Acknowledge(t.Context(), under.Debt.ID, "has it"); err == nil {
			t.Error("the advice that was called off was acknowledged")
		}
		state(t, j, s, journal.Owed)
		claim(s, 0)
		if err := j.Hurry(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		claim(s, 1)
	})
}

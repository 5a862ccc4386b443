package journal_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

const nextDay = businessDay + 1 // the 14th

// on opens a sale whose terminal's switch has the given date on its clock and
// wants to see it on another.
func on(t *testing.T, j *journal.Journal, channel journal.Channel, clock, want calendar.Date) *journal.Transaction {
	t.Helper()
	s := sale(money.Yuan(1))
	s.Day, s.Channel = clock, channel
	mustOpen(t, j, s, journal.Fresh, journal.OnOpenDate())
	if s.Day != want {
		t.Fatalf("opened on %s with the clock at %s, want %s", s.Day, clock, want)
	}
	state(t, j, s, journal.Open)
	return s
}

// Whoever is first past the cut-off moves the date for all, cards and wallets
// each for themselves, and no clock moves it back.
func TestBusinessDateIsState(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		a, b := newJournal(t, db, nil), newJournal(t, db, nil)
		early := on(t, b, journal.Credit, businessDay, businessDay)
		taken := on(t, b, journal.Debit, businessDay, businessDay)
		mustClose(t, b, taken, approved(taken), true)
		on(t, a, journal.Credit, nextDay, nextDay)
		on(t, b, journal.Debit, businessDay, nextDay) // its clock is behind, or was set back
		on(t, a, journal.Credit, businessDay-1, nextDay)
		on(t, a, journal.QR, businessDay, businessDay)
		on(t, b, journal.QR, nextDay, nextDay)
		if got := b.OpenDate(journal.CardDates); got != nextDay {
			t.Errorf("the other node sees %s", got)
		}
		// A repeat from before the cut-over is still found, though its node's clock
		// does not know of it.
		again := *early
		again.ID, again.Day = 0, businessDay
		if first := mustOpen(t, b, &again, journal.InFlight, journal.OnOpenDate()); first.ID != early.ID {
			t.Errorf("the repeat met %d", first.ID)
		}
		// So is the original of a reversal at a node that has not heard of the cut-over.
		behind := on(t, a, journal.Credit, nextDay, nextDay)
		asked := *behind
		asked.Day = businessDay
		mustReverse(t, newJournal(t, db, nil), &asked, journal.WasInFlight)
		// What is taken back is so on the date that is open then.
		mustReverse(t, b, taken, journal.Reversing)
		facts, err := a.ClearingSince(t.Context(), 0, 10)
		if err != nil || len(facts) != 2 || facts[0].On != businessDay || facts[1].On != nextDay {
			t.Errorf("facts %+v, %v", facts, err)
		}
		// A new process reads the date from the store.
		if err := newJournal(t, db, nil).CutOver(t.Context(), nextDay); err != nil {
			t.Fatal(err)
		}
		fresh := newJournal(t, db, nil)
		on(t, fresh, journal.Credit, businessDay, nextDay)
		steps, err := a.CutOvers(t.Context(), 10)
		if err != nil || len(steps) != 4 {
			t.Fatalf("steps %+v, %v", steps, err)
		}
		for i, want := range []struct {
			dates journal.Dates
			date  calendar.Date
		}{{journal.WalletDates, nextDay}, {journal.WalletDates, businessDay}, {journal.CardDates, nextDay}, {journal.CardDates, businessDay}} {
			if s := steps[i]; s.Dates != want.dates || s.Date != want.date || time.Since(s.At) > time.Hour || i > 0 && s.ID >= steps[i-1].ID {
				t.Errorf("step %d is %+v, want %+v", i, s, want)
			}
		}
		if began, err := fresh.Began(t.Context()); err != nil || began != businessDay {
			t.Errorf("the house began on %s, %v", began, err)
		}
		// Without the option a transaction keeps the day that it is given.
		s := sale(money.Yuan(1))
		mustOpen(t, a, s, journal.Fresh)
		if s.Day != businessDay {
			t.Errorf("moved to %s", s.Day)
		}
	})
}

// While terminals go on selling at two nodes whose clocks are behind, the date
// is closed: from then on nothing more comes onto it.
func TestNothingOpensOnAClosedDate(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		nodes := []*journal.Journal{newJournal(t, db, nil), newJournal(t, db, nil)}
		var stop atomic.Bool
		var opened atomic.Int64
		var wg sync.WaitGroup
		warm := make(chan struct{})
		for n := range 8 {
			wg.Go(func() {
				for !stop.Load() {
					s := sale(money.Yuan(1))
					if n%2 == 0 {
						s.Channel = journal.QR
					}
					if got, err := nodes[n%2].Open(t.Context(), s, journal.OnOpenDate()); err != nil || got.Verdict != journal.Fresh {
						t.Errorf("open: %v %v", got.Verdict, err)
						return
					}
					if opened.Add(1) == 100 {
						close(warm)
					}
				}
			})
		}
		<-warm
		if err := nodes[0].CutOver(t.Context(), nextDay); err != nil {
			t.Error(err)
		}
		count := func() (n int64) {
			totals, err := nodes[1].TotalsByIssuer(t.Context(), businessDay)
			if err != nil {
				t.Error(err)
			}
			for _, x := range totals {
				n += x.Count
			}
			return n
		}
		closed := count()
		for from := opened.Load(); opened.Load() < from+200 && !t.Failed(); {
			on(t, nodes[1], journal.Credit, businessDay, nextDay)
			opened.Add(1)
		}
		stop.Store(true)
		wg.Wait()
		if again := count(); again != closed || closed < 100 {
			t.Errorf("%d transactions on the date when it was closed, %d at the end", closed, again)
		}
	})
}

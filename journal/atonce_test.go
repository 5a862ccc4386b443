package journal_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/limits"
	"acquirer/store"
)

// A sale is reversed from many sides at the same moment, on both engines and
// as two nodes would: one of them does it, the others hear that it is done, and
// none fails.
func TestReversalsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, j *journal.Journal) {
		second := newJournal(t, db, limits.Defaults())
		for range 20 {
			s := sold(t, j, journal.Sale, 1000)
			var wg sync.WaitGroup
			var mu sync.Mutex
			heard := map[string]int{}
			for i := range 12 {
				at := []*journal.Journal{j, second}[i%2]
				wg.Go(func() {
					asked := *s
					asked.ID = 0
					var r journal.Reversal
					var err error
					if i%3 == 0 {
						r, err = at.ReverseByID(t.Context(), s.ID, journal.WhyUndelivered, time.Now())
					} else {
						r, err = at.Reverse(t.Context(), &asked, "98", time.Now())
					}
					mu.Lock()
					defer mu.Unlock()
					heard[fmt.Sprintf("%v %v", r.Effect, err)]++
				})
			}
			wg.Wait()
			if heard["reversing <nil>"] != 1 || heard["already reversed <nil>"] != 11 {
				t.Fatalf("12 reversals of one sale: %v", heard)
			}
			state(t, j, s, journal.Owed)
		}
	})
}

// The void of a sale and its reversal at the same moment: one of them is done.
func TestVoidAndReversalAtOnce(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, j *journal.Journal) {
		second := newJournal(t, db, limits.Defaults())
		heard := map[string]int{}
		for range 40 {
			s := sold(t, j, journal.Sale, 1000)
			void := follower(s, journal.Void, 1000)
			var wg sync.WaitGroup
			var opened journal.Opened
			var back journal.Reversal
			var errs [2]error
			wg.Go(func() { opened, errs[0] = j.Open(t.Context(), void) })
			wg.Go(func() {
				asked := *s
				asked.ID = 0
				back, errs[1] = second.Reverse(t.Context(), &asked, "98", time.Now())
			})
			wg.Wait()
			how := fmt.Sprintf("%v and %v %v", opened.Verdict, back.Effect, errs)
			heard[how]++
			switch how {
			case "fresh and followed [<nil> <nil>]":
				mustClose(t, j, void, approved(void), true)
			case "refused and reversing [<nil> <nil>]":
			default:
				t.Fatal(how)
			}
		}
		t.Log(heard)
	})
}

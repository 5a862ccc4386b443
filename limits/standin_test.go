package limits

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// However many ask at once, a card has no more stand-in sales in a day than its
// count and its sum let it have; another card and another day have their own.
func TestStandInShares(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		take := func(card byte, yuan int64) bool {
			within, err := StandIn(context.Background(), db, today, [16]byte{card}, money.Yuan(yuan), 5, money.Yuan(100))
			if err != nil {
				t.Error(err)
			}
			return within
		}
		var wg sync.WaitGroup
		var byCount, bySum atomic.Int32
		for range 20 {
			wg.Go(func() {
				if take(1, 1) {
					byCount.Add(1)
				}
				if take(2, 30) {
					bySum.Add(1)
				}
			})
		}
		wg.Wait()
		if byCount.Load() != 5 || bySum.Load() != 3 {
			t.Errorf("%d by count and %d by sum, want 5 and 3", byCount.Load(), bySum.Load())
		}
		if !take(2, 10) || take(2, 1) {
			t.Error("the sum is not used up to its last yuan")
		}
		if take(3, 101) || take(3, 0) || take(3, -1) {
			t.Error("more than the whole sum, or nothing, was taken")
		}
		if within, err := StandIn(t.Context(), db, today.AddDays(1), [16]byte{1}, money.Yuan(1), 5, money.Yuan(100)); err != nil || !within {
			t.Errorf("the next day: %t %v", within, err)
		}
		l, err := New(db, Defaults(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Forget(t.Context(), db, today.AddDays(1)); err != nil {
			t.Fatal(err)
		}
		if !take(1, 1) {
			t.Error("the old day was not forgotten")
		}
	})
}

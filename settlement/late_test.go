package settlement

import (
	"context"
	"testing"
	"time"

	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/store"
)

// lateBook is a Source whose facts may become visible out of order, as those of
// a journal with several writers.
type lateBook struct {
	*book
	hidden int64 // the cursor of a fact that is not to be seen yet
	asked  func(call int)
	calls  int
}

func (b *lateBook) Facts(_ context.Context, after int64, limit int) ([]Fact, error) {
	b.calls++
	if b.asked != nil {
		b.asked(b.calls)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Fact
	for _, f := range b.facts {
		if f.Cursor > after && f.Cursor != b.hidden && len(out) < limit {
			out = append(out, f)
		}
	}
	return out, nil
}

func (b *lateBook) From(cursor int64) int64 {
	return store.IDAt(store.IDTime(cursor).Add(-20 * time.Second))
}

// fact adds a fact with an id for a cursor that was made so long ago.
func (b *lateBook) fact(f Fact, ago time.Duration) Fact {
	f = b.add(f)
	f.Cursor += store.IDAt(time.Now().Add(-ago))
	b.facts[len(b.facts)-1].Cursor = f.Cursor
	return f
}

// A void may be seen in a page behind the one that its sale was still missing
// from. It waits for it and is not taken for a void of nothing.
func TestFollowerSeenBeforeItsSale(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		late := &lateBook{book: w.book}
		w.cfg.Source = late
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		fact := func(txn int64, does Does, original int64) Fact {
			return Fact{Txn: txn, Date: friday, At: clock(friday, 12, 0), Merchant: mid, Channel: merchant.Card, CardType: merchant.Debit, Amount: 70_00, Does: does, Original: original}
		}
		late.fact(fact(1, Sells, 0), 3*time.Second)
		late.hidden = late.fact(fact(2, Sells, 0), 2*time.Second).Cursor
		late.fact(fact(3, Sells, 0), time.Second)
		late.asked = func(call int) {
			if call == 2 { // the first page is booked
				late.hidden = 0
				late.fact(fact(4, Voids, 2), 500*time.Millisecond)
			}
		}
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if got := w.balance(e, ledger.SuspenseLong, ""); got != 0 {
			t.Errorf("%s in suspense", got)
		}
		if r, err := e.VerifyJournal(ctx); err != nil || len(r.Problems) > 0 || r.Facts != 4 || r.Booked != 4 {
			t.Errorf("%+v, %v", r, err)
		}
		// One of a sale that does not come is in suspense once nothing can come any more.
		late.fact(fact(6, Voids, 5), 0)
		for range 2 {
			if _, err := e.CatchUp(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.balance(e, ledger.SuspenseLong, ""); got != -70_00 {
			t.Errorf("%s in suspense", got)
		}
		w.sound(e)
	})
}

// A fact that was not to be seen when the poster was killed is booked when it
// comes back, however much later. While it lives it reads nothing twice that
// nothing can appear among.
func TestLateFactAfterACrash(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		late := &lateBook{book: w.book}
		w.cfg.Source = late
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		for txn, ago := range []time.Duration{time.Hour, time.Hour - time.Second, time.Hour - 2*time.Second} {
			f := late.fact(Fact{Txn: int64(txn + 1), Date: friday, At: clock(friday, 12, 0), Merchant: mid, Channel: merchant.Card, CardType: merchant.Debit, Amount: 70_00, Does: Sells}, ago)
			if txn == 1 {
				late.hidden = f.Cursor
			}
		}
		for _, want := range []int{2, 0} {
			if read, err := e.CatchUp(ctx); err != nil || read != want {
				t.Fatalf("read %d facts, %v; want %d", read, err, want)
			}
		}
		late.hidden = 0
		e = w.engine()
		for _, want := range []int{3, 0} {
			if read, err := e.CatchUp(ctx); err != nil || read != want {
				t.Fatalf("read %d facts, %v; want %d", read, err, want)
			}
		}
		if r, err := e.VerifyJournal(ctx); err != nil || len(r.Problems) > 0 || r.Facts != 3 || r.Booked != 3 || r.Behind != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// How far the ledger is behind follows from what is booked, page by page, not
// from when somebody last was through with everything.
func TestReached(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		late := &lateBook{book: w.book}
		w.cfg.Source = late
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		var first Fact
		for i := range 2 * postBatch {
			f := late.fact(Fact{Txn: int64(i + 1), Date: friday, At: clock(friday, 12, 0), Merchant: mid, Channel: merchant.Card, CardType: merchant.Debit, Amount: 1_00, Does: Sells},
				time.Hour-time.Duration(i)*time.Second)
			if i == postBatch-1 {
				first = f
			}
		}
		var e *Engine
		var seen []time.Time
		w.cfg.Rest = func(time.Duration) time.Duration { seen = append(seen, e.Reached()); return 0 }
		e = w.engine()
		if got := e.Reached(); !got.IsZero() {
			t.Errorf("reached %s before anything was read", got)
		}
		began := time.Now()
		if _, err := e.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 2 || !seen[0].Equal(store.IDTime(first.Cursor)) || !seen[1].After(seen[0]) {
			t.Errorf("reached %v, want %s first", seen, store.IDTime(first.Cursor))
		}
		if got := e.Reached(); got.Before(began.Truncate(time.Microsecond)) {
			t.Errorf("reached %s at the end of the journal, asked at %s", got, began)
		}
	})
}

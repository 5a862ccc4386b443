package settlement

import (
	"testing"

	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// What a network paid for a date whose close was interrupted before it gathered its
// lines is held against all of them, and not against what was gathered so far.
func TestReceiptOfAnInterruptedClose(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		for n, at := range []string{"begun", "gathered"} {
			w := newWorld(t, db)
			mid := w.merchant(n, "ESIGN-STD", "T1", "00")
			w.book.facts = nil
			date := friday.AddDays(n)
			w.txn = int64(1000 * (n + 1))
			if err := w.engine().Post(t.Context(), []Fact{w.sale(mid, date, money.Yuan(100))}); err != nil {
				t.Fatal(err)
			}
			e := w.engine()
			ctx, names := crashAt(t.Context(), e, map[string]int{"begun": 1, "gathered": 2}[at])
			if _, err := e.CloseDay(ctx, date, clock(date, 23, 5), false); err == nil || (*names)[len(*names)-1] != at {
				t.Fatalf("it ended with %v at %v, want a crash at %s", err, *names, at)
			}
			e = w.engine()
			now := clock(date.AddDays(3), 10, 0)
			if err := e.Receive(t.Context(), Receipt{Date: date, Received: 99_52, Reference: "UP-" + at}, now); err != nil {
				t.Fatalf("after a crash at %s: %v", at, err)
			}
			var wanted money.Amount
			if err := db.Read(t.Context(), func(tx store.Tx) error {
				return tx.QueryRow("select expected from settlement_receipt where ref = $1", "UP-"+at).Scan(&wanted)
			}); err != nil {
				t.Fatal(err)
			}
			if wanted != 99_52 {
				t.Errorf("after a crash at %s %s was expected, want 99.52", at, wanted)
			}
			w.sound(e)
		}
	})
}

package settlement

import (
	"fmt"
	"testing"

	"acquirer/merchant"
	"acquirer/store"
	"acquirer/store/storetest"
)

// BenchmarkPost books sales into ledger and lines, BenchmarkClose settles them:
// 500 merchants, microseconds per sale.
func BenchmarkPost(b *testing.B) {
	for name, open := range map[string]func(testing.TB, ...store.Schema) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, open(b, schemas...))
			e := w.engine()
			street(w, b.N)
			b.ReportAllocs()
			b.ResetTimer()
			if n, err := e.CatchUp(b.Context()); err != nil || n != b.N {
				b.Fatal(n, err)
			}
		})
	}
}

func BenchmarkClose(b *testing.B) {
	for name, open := range map[string]func(testing.TB, ...store.Schema) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, open(b, schemas...))
			e := w.engine()
			street(w, b.N)
			if _, err := e.CatchUp(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			if d := w.close(e, friday); d.Lines != int64(b.N) {
				b.Fatalf("%+v", d)
			}
		})
	}
}

func street(w *world, sales int) {
	merchants := make([]merchant.Merchant, 500)
	mids := make([]string, len(merchants))
	for i := range merchants {
		mids[i] = fmt.Sprintf("89811005411%04d", i)
		merchants[i] = w.shop(mids[i], "MICRO-2025", merchant.T1, "00")
	}
	if err := w.reg.Put(w.t.Context(), merchants, nil); err != nil {
		w.t.Fatal(err)
	}
	for i := range sales {
		w.sale(mids[i%len(mids)], friday, 100_00)
	}
}

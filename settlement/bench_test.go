package settlement

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
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

// onBooked measures something on a street whose b.N sales are booked, on both engines.
func onBooked(b *testing.B, measured func(b *testing.B, w *world, e *Engine)) {
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
			measured(b, w, e)
		})
	}
}

func BenchmarkClose(b *testing.B) {
	onBooked(b, func(b *testing.B, w *world, e *Engine) {
		if d := w.close(e, friday); d.Lines != int64(b.N) {
			b.Fatalf("%+v", d)
		}
	})
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

var settleLines = flag.Int("settle.lines", 0, "TestAMillionSettles settles a day of so many transactions of 10,000 merchants")

// endless is a journal that makes its facts when they are read.
type endless struct {
	book
	n    int
	mids []string
}

func (s *endless) Facts(_ context.Context, after int64, limit int) ([]Fact, error) {
	var out []Fact
	for i := int(after) + 1; i <= s.n && len(out) < limit; i++ {
		f := Fact{Cursor: int64(i), Txn: int64(i), At: clock(friday, 12, 0), Date: friday, RRN: fmt.Sprintf("%012d", i), Merchant: s.mids[i%len(s.mids)], Terminal: "10000001",
			Issuer: "north", Channel: merchant.Card, CardType: merchant.Credit, Amount: money.Amount(5_00 + i%100_000)}
		if i%51 == 0 { // a void of the sale of the same merchant before
			f.Does, f.Original, f.Merchant, f.Amount = Voids, int64(i-1), s.mids[(i-1)%len(s.mids)], money.Amount(5_00+(i-1)%100_000)
		}
		out = append(out, f)
	}
	return out, nil
}

// A big day: posted, closed in one run, verified against its journal, in memory
// that does not grow with it. go test -run AMillion -settle.lines=1000000 prints
// the times and the peak (docs/performance.md).
func TestAMillionSettles(t *testing.T) {
	n := *settleLines
	if n == 0 {
		n = 3000
	}
	for _, engine := range []struct {
		name string
		open func(testing.TB, ...store.Schema) *store.DB
	}{{"sqlite", storetest.SQLite}, {"postgres", storetest.Postgres}} {
		t.Run(engine.name, func(t *testing.T) {
			w := newWorld(t, engine.open(t, schemas...))
			shops := make([]merchant.Merchant, min(10_000, n/10))
			source := &endless{n: n}
			for i := range shops {
				shops[i] = w.shop(fmt.Sprintf("8981100%08d", i), "ESIGN-STD", merchant.T1, "00")
				source.mids = append(source.mids, shops[i].MID)
			}
			if err := w.reg.Put(t.Context(), shops, nil); err != nil {
				t.Fatal(err)
			}
			w.cfg.Source = source
			e := w.engine()
			measure := func(what string, do func()) {
				runtime.GC()
				reset := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // the peak counts from here
				began := time.Now()
				do()
				took := time.Since(began)
				peak := "unknown"
				if status, err := os.ReadFile("/proc/self/status"); err == nil && reset == nil {
					if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
						peak, _, _ = strings.Cut(strings.TrimSpace(rest), "\n")
					}
				}
				t.Logf("%-8s %10d lines of %d merchants in %8s, peak memory %s", what, n, len(shops), took.Round(time.Millisecond), peak)
			}
			measure("post", func() {
				if read, err := e.CatchUp(t.Context()); err != nil || read != n {
					t.Fatal(read, err)
				}
			})
			var day Day
			measure("close", func() { day = w.close(e, friday) })
			if day.Lines != int64(n) || day.Merchants != int64(len(shops)) || day.Payouts != int64(len(shops)) {
				t.Errorf("closed %+v", day)
			}
			measure("verify", func() {
				if r, err := e.VerifyJournal(t.Context()); err != nil || len(r.Problems) > 0 || r.Facts != n {
					t.Errorf("%+v, %v", r, err)
				}
				w.sound(e)
			})
		})
	}
}

// BenchmarkTally counts the transfers of booked sales: what BenchmarkPost has
// nothing of, since it reads behind it.
func BenchmarkTally(b *testing.B) {
	onBooked(b, func(b *testing.B, w *world, _ *Engine) {
		if n, err := w.db.Tally(b.Context(), ledger.Tallied, time.Now().Add(time.Hour), nil); err != nil || n != b.N {
			b.Fatal(n, err)
		}
	})
}

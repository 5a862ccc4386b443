//go:build unix

package journal_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// BenchmarkPurchase is what a purchase costs in the store: an open with its
// limits spent, and a close, each durable, by so many terminals at once.
//
//	go test ./journal -run '^$' -bench Purchase -benchtime 5s
//
// cpu-us/txn is this process; server-us/txn is PostgreSQL's own.
func BenchmarkPurchase(b *testing.B) {
	engines := []struct {
		name string
		open func(testing.TB, ...store.Schema) *store.DB
	}{{"sqlite", storetest.SQLite}, {"postgres", storetest.Postgres}}
	for _, e := range engines {
		for _, terminals := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("%s/%d", e.name, terminals), func(b *testing.B) {
				j := newJournal(b, e.open(b, schemas...), []limits.Rule{{Scope: limits.Merchant, Channel: limits.Credit, Single: money.Yuan(50_000), DayAmount: money.Yuan(1_000_000_000)}})
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				cpu, server, start := processCPU(), storetest.ServerCPU(), time.Now()
				b.ResetTimer()
				took := make([][]time.Duration, terminals)
				for i := range terminals {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							begun := time.Now()
							t := sale(money.Yuan(1))
							t.Merchant = fmt.Sprintf("8983100000%05d", i%50)
							if got, err := j.Open(context.Background(), t, journal.OnOpenDate()); err != nil || got.Verdict != journal.Fresh {
								b.Errorf("open: %v %v", got, err)
								return
							}
							if c, err := j.Close(context.Background(), t, approved(t)); err != nil || !c.Won {
								b.Errorf("close: %v %v", c, err)
								return
							}
							took[i] = append(took[i], time.Since(begun))
						}
					})
				}
				wg.Wait()
				n := float64(b.N)
				all := slices.Concat(took...)
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
				b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
				b.ReportMetric(float64(all[len(all)*999/1000].Microseconds()), "p999-us")
				b.ReportMetric(n/time.Since(start).Seconds(), "txn/s")
				b.ReportMetric(float64((processCPU()-cpu).Microseconds())/n, "cpu-us/txn")
				if e.name == "postgres" {
					b.ReportMetric(float64((storetest.ServerCPU()-server).Microseconds())/n, "server-us/txn")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

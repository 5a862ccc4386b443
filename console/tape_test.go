package console

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestTapeRates(t *testing.T) {
	now := time.Unix(1_771_000_000, 0)
	tape := NewTape()
	tape.Count(now.Add(-Window*time.Second), true, "", 0)
	tape.Count(now.Add(-time.Second), true, "", 0)
	tape.Count(now.Add(-time.Second), false, "", 0)
	tape.Count(now.Add(-time.Millisecond), false, "", 0)       // the same second
	tape.Count(now, true, "", 0)                               // still running: not shown
	tape.Count(now.Add(-(Window+1)*time.Second), true, "", 0)  // too old
	tape.Count(now.Add(-(Window+40)*time.Second), true, "", 0) // much too old; takes the place of a later one
	rates := tape.Rates(now)
	want := [Window]Rate{0: {1, 0}, Window - 1: {1, 2}}
	if rates != want {
		t.Errorf("rates are %v", rates)
	}
	if later := tape.Rates(now.Add(10 * time.Minute)); later != [Window]Rate{} {
		t.Errorf("ten minutes later rates are %v", later)
	}
}

// Quantiles are never below the exact ones and at most 1/16 above.
func TestTapeLatency(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	now := time.Unix(1_771_000_000, 0)
	for range 50 {
		tape := NewTape()
		var all []time.Duration
		for range 1 + rnd.IntN(2000) {
			d := time.Duration(rnd.Int64N(int64(30*time.Second))) >> rnd.IntN(24)
			all = append(all, d.Truncate(time.Microsecond))
			tape.Count(now.Add(-time.Duration(rnd.IntN(30))*time.Second), true, "north", d)
		}
		slices.Sort(all)
		p50, p99, n := tape.Latency("north", now)
		if n != len(all) {
			t.Fatalf("counted %d of %d", n, len(all))
		}
		for _, q := range []struct{ got, exact time.Duration }{{p50, all[(n+1)/2-1]}, {p99, all[(n*99+99)/100-1]}} {
			if q.got < q.exact || q.got > q.exact+q.exact/16+time.Microsecond {
				t.Errorf("of %d: %v, exact %v", n, q.got, q.exact)
			}
		}
	}
	tape := NewTape()
	tape.Count(now, true, "north", time.Hour)
	tape.Count(now, true, "north", -time.Hour)
	if _, p99, n := tape.Latency("north", now); n != 2 || p99 < time.Minute {
		t.Errorf("an hour is %v of %d", p99, n)
	}
	if _, _, n := tape.Latency("north", now.Add(2*time.Minute)); n != 0 {
		t.Errorf("two minutes later there are %d", n)
	}
	if _, _, n := tape.Latency("nobody", now); n != 0 {
		t.Errorf("of nobody there are %d", n)
	}
}

func TestBucketsAreInOrder(t *testing.T) {
	last := -1
	for us := range 1 << 20 {
		b := bucket(time.Duration(us) * time.Microsecond)
		if b < last || b > last+1 || ceiling(b) < time.Duration(us)*time.Microsecond {
			t.Fatalf("%d us is in bucket %d after %d, which ends at %v", us, b, last, ceiling(b))
		}
		last = b
	}
	if b := bucket(1 << 62); b != len(latencies{}.half[0].count)-1 {
		t.Errorf("the longest is in bucket %d", b)
	}
}

// Rows are taken while somebody looks, as many as were asked for.
func TestTapeRows(t *testing.T) {
	tape := NewTape()
	tape.Put(Row{ID: 1})
	if tape.Wants() || len(tape.look(2)) != 0 {
		t.Error("a row was taken while nobody looked")
	}
	for i := range 5 {
		if tape.Wants() != (i < 2) {
			t.Errorf("row %d: wanted %v", i, tape.Wants())
		}
		tape.Put(Row{ID: int64(i + 2)})
	}
	rows := tape.look(0)
	if len(rows) != 2 || rows[0].ID != 2 || rows[1].ID != 3 {
		t.Errorf("the rows are %v", rows)
	}
	if tape.Wants() || len(tape.look(0)) != 0 {
		t.Error("rows came twice, or are still wanted")
	}
}

func TestTapeTogether(t *testing.T) {
	tape := NewTape()
	now := time.Unix(1_771_000_000, 0)
	tape.want(100)
	var wg sync.WaitGroup
	var taken int
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				tape.Count(now.Add(-time.Second), i%5 != 0, "north", time.Millisecond)
				if tape.Wants() {
					tape.Put(Row{ID: int64(i)})
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			tape.Rates(now)
			tape.Latency("north", now)
		}
	})
	wg.Wait()
	taken = len(tape.look(0))
	if r := tape.Rates(now)[Window-1]; r != (Rate{3200, 800}) || taken != 100 {
		t.Errorf("counted %v and took %d rows, want {3200 800} and 100", r, taken)
	}
}

func TestCountDoesNotAllocate(t *testing.T) {
	tape := NewTape()
	now := time.Now()
	tape.Count(now, true, "north", time.Millisecond)
	if n := testing.AllocsPerRun(1000, func() { tape.Count(now, true, "north", time.Millisecond); tape.Wants() }); n != 0 {
		t.Errorf("counting allocates %v times", n)
	}
}

func BenchmarkCount(b *testing.B) {
	tape := NewTape()
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tape.Count(now, true, "north", 3*time.Millisecond)
		}
	})
}

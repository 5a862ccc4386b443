package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

func TestMain(m *testing.M) {
	if os.Getenv("LOAD_TEST_RESPONDER") != "" {
		respondUntilStdinCloses()
		return
	}
	goleak.VerifyTestMain(m)
}

func mix(t *testing.T, s string) Mix {
	t.Helper()
	m, err := ParseMix(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func config(t *testing.T, r *responder, n int, kinds string) Config {
	return Config{Devices: World(n), Dial: r.pipe, Duration: time.Second, Timeout: 2 * time.Second,
		Mix: mix(t, kinds), Min: 100, Max: 50000, Cards: 64}
}

// check holds the sums that Report promises.
func check(t *testing.T, rep *Report) {
	t.Helper()
	sum := rep.Approved
	for _, n := range rep.Declined {
		sum += n
	}
	for kind, n := range rep.Errors {
		switch kind {
		case "dial", "pending", "refused", "keys", "no_keys", "unsent", "reversal":
		default:
			sum += n
		}
	}
	if sum != rep.Sent {
		t.Errorf("sent %d, but approved, declined and errors make %d: %+v", rep.Sent, sum, rep)
	}
}

// In rate mode a transaction that waits for a free terminal is charged for the
// wait: the latency counts from the moment it was due (coordinated omission).
func TestRateCountsFromTheIntendedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder()
		var stalled atomic.Bool
		r.delay = func(req *spec.Message) {
			if req.MTI() == 0x0200 && !stalled.Swap(true) {
				time.Sleep(time.Second) // the first purchase; the rest are answered at once
			}
		}
		cfg := config(t, r, 1, "sale=1")
		cfg.Rate, cfg.Duration = 100, 2*time.Second
		rep, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.conns.Wait()
		check(t, rep)
		if rep.Sent != 200 || rep.Approved != 200 || len(rep.Errors) != 0 {
			t.Fatalf("%+v", rep)
		}
		// The stall held up 100 transactions, the k-th of them for 1 s - k*10 ms.
		// Counted from the moment of sending, only one would have waited.
		if got := rep.Latency; math.Abs(got.P50-10) > 20 || math.Abs(got.P90-800) > 20 || math.Abs(got.P99-980) > 20 || math.Abs(got.Max-1000) > 5 {
			t.Errorf("latencies %+v", got)
		}
		if math.Abs(rep.TPS-100) > 1 || rep.Duration != 2 {
			t.Errorf("tps %v in %v s", rep.TPS, rep.Duration)
		}
	})
}

// A rate that the terminals cannot carry ends on time and says what was not
// sent.
func TestRateOverloadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder()
		r.delay = func(req *spec.Message) {
			if req.MTI() == 0x0200 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		cfg := config(t, r, 2, "sale=1")
		cfg.Rate, cfg.Duration = 1000, time.Second
		started := time.Now()
		rep, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.conns.Wait()
		check(t, rep)
		if d := time.Since(started); d > 1200*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		if rep.Sent != 20 || rep.Errors["unsent"] != 980 {
			t.Errorf("%+v", rep)
		}
	})
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder()
		var busy, most atomic.Int64
		r.delay = func(req *spec.Message) {
			if req.MTI() != 0x0200 {
				return
			}
			most.Store(max(most.Load(), busy.Add(1)))
			time.Sleep(10 * time.Millisecond)
			busy.Add(-1)
		}
		cfg := config(t, r, 7, "sale=1")
		cfg.Concurrency = 3
		rep, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.conns.Wait()
		check(t, rep)
		if most.Load() != 3 || rep.Sent != 300 || rep.TPS < 290 {
			t.Errorf("%d at once, %+v", most.Load(), rep)
		}
		if math.Abs(rep.Latency.P50-10) > 0.1 || math.Abs(rep.Latency.P999-10) > 0.1 {
			t.Errorf("latencies %+v", rep.Latency)
		}
	})
}

func TestMixOfEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder()
		r.verify = true
		var mu sync.Mutex
		seen := map[string]int{}
		r.delay = func(req *spec.Message) {
			time.Sleep(time.Millisecond)
			key := req.MTI().String()
			if req.MTI() == 0x0200 {
				key += " " + req.Text(22)
			}
			mu.Lock()
			seen[key]++
			mu.Unlock()
		}
		cfg := config(t, r, 4, "sale=10,chip=10,contactless=10,stripe=10,keyed=10,reversal=10,duplicate=10,badmac=10,echo=10,signin=10")
		cfg.Book = new(terminal.Book)
		rep, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.conns.Wait()
		check(t, rep)
		if len(rep.Errors) != 0 || len(rep.Declined) != 1 || rep.Declined["A0"] < 50 || rep.Reversed < 50 || rep.Approved < 500 {
			t.Errorf("%+v", rep)
		}
		for _, key := range []string{"0200 051", "0200 072", "0200 021", "0200 012", "0400", "0800", "0820"} {
			if seen[key] < 20 {
				t.Errorf("%d messages %s; %v", seen[key], key, seen)
			}
		}
		n := cfg.Book.Count()
		if int64(n[terminal.Reversed]) != rep.Reversed || n[terminal.Unknown] != 0 || int64(n[terminal.Declined]) != rep.Declined["A0"] {
			t.Errorf("book %v, report %+v", n, rep)
		}
	})
}

// Failures are counted by kind, their reversals too, and the load goes on.
func TestErrorsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder()
		var n atomic.Int64
		r.silent = func(req *spec.Message) bool { return req.MTI() == 0x0200 && n.Add(1)%10 == 0 }
		r.judge = func(req *spec.Message) string {
			if v, _ := req.Int(11); req.MTI() == 0x0200 && v%5 == 0 {
				return "51"
			}
			return ""
		}
		r.rrn = func(*spec.Message) string { return fmt.Sprintf("%012d", n.Load()) } // repeats differ
		r.delay = func(*spec.Message) { time.Sleep(time.Millisecond) }
		cfg := config(t, r, 3, "sale=5,duplicate=1")
		cfg.Duration, cfg.Timeout = 20*time.Second, 500*time.Millisecond
		rep, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.conns.Wait()
		check(t, rep)
		if rep.Errors["timeout"] < 50 || rep.Declined["51"] < 50 || rep.Errors["differs"] == 0 || rep.Reversed != rep.Errors["timeout"] {
			t.Errorf("%+v", rep)
		}
		if rep.Latency.Max < 499 {
			t.Errorf("time-outs are not in the latencies: %+v", rep.Latency)
		}
	})
}

// A wrong MAC that is not refused is an error of the host.
func TestAcceptedBadMACIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder() // does not verify
		r.delay = func(*spec.Message) { time.Sleep(10 * time.Millisecond) }
		rep, err := Run(t.Context(), config(t, r, 1, "badmac=1"))
		if err != nil {
			t.Fatal(err)
		}
		r.conns.Wait()
		check(t, rep)
		if rep.Errors["differs"] == 0 || rep.Approved != 0 {
			t.Errorf("%+v", rep)
		}
	})
}

func TestHostGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder()
		r.delay = func(*spec.Message) { time.Sleep(time.Millisecond) }
		var away atomic.Bool
		cfg := config(t, r, 2, "sale=1")
		cfg.Duration = 10 * time.Second
		dial := cfg.Dial
		var dials atomic.Int64
		cfg.Dial = func(ctx context.Context) (net.Conn, error) {
			if away.Load() {
				dials.Add(1)
				return nil, errors.New("connection refused")
			}
			return dial(ctx)
		}
		stop := time.AfterFunc(3*time.Second, func() {
			away.Store(true)
			r.hangUp()
		})
		defer stop.Stop()
		back := time.AfterFunc(8*time.Second, func() { away.Store(false) })
		defer back.Stop()
		rep, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.conns.Wait()
		check(t, rep)
		if rep.Errors["line"] != 2 || rep.Reversed != 2 || rep.Approved < 1000 {
			t.Errorf("%+v", rep)
		}
		if n := dials.Load(); n < 6 || n > 60 {
			t.Errorf("%d dials in 5 s of absence", n)
		}
	})
}

// The end of the context ends the load and keeps what was seen.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder()
		r.delay = func(*spec.Message) { time.Sleep(30 * time.Millisecond) }
		cfg := config(t, r, 2, "sale=1")
		cfg.Duration = time.Hour
		var last Snapshot
		cfg.Progress = func(s Snapshot) { last = s }
		ctx, cancel := context.WithTimeout(t.Context(), 1015*time.Millisecond)
		defer cancel()
		rep, err := Run(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.conns.Wait()
		if rep.Sent < 60 || rep.Sent > 70 || rep.Duration > 1.1 || rep.TPS < 55 || len(rep.Errors) != 0 {
			t.Errorf("%+v", rep)
		}
		if last.Sent == 0 || last.Sent > rep.Sent || last.Duration != time.Hour || last.P99 < 30*time.Millisecond {
			t.Errorf("progress %+v", last)
		}
	})
}

func TestSignInThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResponder()
		stranger := World(7)[6].TID
		r.judge = func(req *spec.Message) string {
			if req.Text(41) == stranger {
				return "97"
			}
			return ""
		}
		_, err := Run(t.Context(), config(t, r, 9, "sale=1"))
		var refused *terminal.Refusal
		if !errors.As(err, &refused) || refused.Code != "97" || !strings.Contains(err.Error(), stranger) {
			t.Errorf("%v", err)
		}
		r.conns.Wait()
	})
}

func TestAmountsAndWeather(t *testing.T) {
	stormy := func(a money.Amount) bool { return a%100 == 91 }
	w := worker{run: &run{cfg: Config{Min: 100, Max: 1000, Stormy: stormy}}, rng: testRand()}
	lowest, highest := money.Amount(math.MaxInt64), money.Amount(0)
	for range 20000 {
		a := w.amount()
		if stormy(a) {
			t.Fatalf("%s asks for weather", a)
		}
		lowest, highest = min(lowest, a), max(highest, a)
	}
	if lowest != 100 || highest != 1000 {
		t.Errorf("amounts from %s to %s", lowest, highest)
	}
	w.run.cfg.Weather, w.run.cfg.Storms = 0.25, []money.Amount{191, 291}
	n := 0
	for range 10000 {
		if stormy(w.amount()) {
			n++
		}
	}
	if n < 2300 || n > 2700 {
		t.Errorf("%d of 10000 amounts ask for weather, want a quarter", n)
	}
}

func TestCardsAreDealtOnce(t *testing.T) {
	r := &run{cfg: Config{Devices: World(3), Dial: newResponder().pipe, Cards: 100}}
	if err := r.makeWorkers(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, w := range r.workers {
		if len(w.chip) == 0 || len(w.plain) == 0 {
			t.Error("a worker has cards of one kind only")
		}
		issuers := map[string]bool{}
		for _, c := range w.all {
			if seen[c.Number] {
				t.Fatal("a card is in two hands")
			}
			seen[c.Number] = true
			is, _ := simcard.IssuerOf(c.Number)
			issuers[is.Name] = true
		}
		if len(issuers) != len(simcard.Issuers) {
			t.Errorf("cards of %d issuers", len(issuers))
		}
	}
}

func TestParseMix(t *testing.T) {
	m, err := ParseMix("sale=90, reversal=5,echo=5")
	if err != nil {
		t.Fatal(err)
	}
	n := map[Kind]int{}
	rng := testRand()
	for range 10000 {
		n[m.pick(rng)]++
	}
	if len(n) != 3 || n[Sale] < 8800 || n[Sale] > 9200 || n[Echo] < 400 || n[Echo] > 600 {
		t.Errorf("%v", n)
	}
	if _, err := ParseMix(DefaultMix); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "sale", "sale=x", "sale=-1", "sale=0", "buy=1", "sale=1,sale=2", "sale=1,,echo=1", "sale=9999999999"} {
		if _, err := ParseMix(bad); err == nil {
			t.Errorf("mix %q passes", bad)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	r := newResponder()
	for name, spoil := range map[string]func(*Config){
		"terminals":    func(c *Config) { c.Devices = nil },
		"duration":     func(c *Config) { c.Duration = 0 },
		"rate":         func(c *Config) { c.Rate = -1 },
		"rate too big": func(c *Config) { c.Rate = 1e7 },
		"both":         func(c *Config) { c.Rate, c.Concurrency = 1, 1 },
		"concurrency":  func(c *Config) { c.Concurrency = 2 },
		"mix":          func(c *Config) { c.Mix = Mix{} },
		"amounts":      func(c *Config) { c.Max = 1 },
		"weather":      func(c *Config) { c.Weather = 2 },
		"storms":       func(c *Config) { c.Weather = 0.5 },
		"key":          func(c *Config) { c.Devices[0].TMK = "12" },
		"terminal":     func(c *Config) { c.Devices[0].TID = "12" },
	} {
		cfg := config(t, r, 1, "sale=1")
		spoil(&cfg)
		if _, err := Run(t.Context(), cfg); err == nil {
			t.Errorf("a configuration with a wrong %s passes", name)
		} else if strings.Contains(err.Error(), World(1)[0].TMK) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestDevicesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "terminals.json")
	want := World(3)
	want[1].Profile = terminal.Profile{KeySet: 4, MAC: terminal.MACCMAC, Shape: "double"}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadDevices(path)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "[]", "{}", `[{"tid":"1","pin":"1234"}]`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadDevices(path); err == nil {
			t.Errorf("terminals file %q passes", bad)
		}
	}
	if _, err := ReadDevices(path + "x"); err == nil {
		t.Error("a file that is not there passes")
	}
}

func TestOnlyLoopback(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:8583": true, "[::1]:8583": true, "127.9.9.9:1": true, "[::ffff:127.0.0.1]:1": true,
		"192.0.2.1:8583": false, "0.0.0.0:8583": false, "[2001:db8::1]:1": false, "127.0.0.1": false, "": false,
	} {
		if err := CheckAddress(t.Context(), addr); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestReportAsJSON(t *testing.T) {
	b, err := json.Marshal(newTally().report(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"sent":0,"approved":0,"declined":{},"errors":{},"reversed":0,"tps":0,"latency_ms":{"p50":0,"p90":0,"p99":0,"p999":0,"max":0},"duration_s":1}`
	if string(b) != want {
		t.Errorf("%s\nwant %s", b, want)
	}
}

func testRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

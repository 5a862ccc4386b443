package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/load"
)

// The drill of docs/reliability.md. By default it is short and only its
// invariants count; `make drill` runs it whole and holds it to its bars.
var (
	drillFor  = flag.Duration("drill", 3*time.Second, "how long the load of the drill with bad issuers lasts; from 30s on the good issuer's p99 is held to its bar")
	drillRate = flag.Float64("drill-rate", 0, "transactions per second of the drill; 0 is half of what the machine can, or little when the drill is short")
)

// The bars of the drill.
const (
	drillTimeout = time.Second     // of an issuer's answer
	drillSlower  = 2.0             // most that the good issuer's p99 may be, times its p99 alone
	drillHealed  = 4 * time.Minute // until nothing is owed any more, a 25's half minute included
)

// drill is the switch, four issuers and the loads, each a process of its own.
type drill struct {
	t        *testing.T
	terminal string            // address of the switch
	metrics  string            // URL
	control  map[string]string // URL, by issuer
	database string
}

// north is the good one.
const drillGood = "north"

var drillBad = []string{"south", "east", "west"}

func startDrill(t *testing.T) (*drill, *process) {
	t.Helper()
	key, pass := masterKey(t)
	admin := freeAddr(t)
	folder := t.TempDir()
	d := &drill{t: t, terminal: freeAddr(t), metrics: "http://" + admin + "/metrics", control: map[string]string{}, database: "sqlite:" + filepath.Join(folder, "drill.db")}
	args := []string{"serve", "--seed", "demo", "--database", d.database, "--hsm-file", key, "--hsm-passphrase-file", pass, "--log-file", filepath.Join(folder, "drill.log"),
		"--terminals-listen", d.terminal, "--admin-listen", admin, "--console-listen", "",
		"--switch-issuer-timeout", drillTimeout.String(), "--owed-backoff", "500ms", "--owed-backoff-max", "5s", "--owed-max-attempts", "1000"}
	for _, is := range simcard.Issuers {
		line, control := freeAddr(t), freeAddr(t)
		spawn(t, nil, "simulate", "issuer", "--name", is.Name, "--listen", line, "--control", control, "--calm")
		d.control[is.Name] = "http://" + control
		args = append(args, "--issuer", is.Name+"="+line)
	}
	p := spawn(t, nil, args...)
	d.await("every line is up", time.Minute, func(m map[string]float64) bool {
		up := 0.0
		for _, is := range simcard.Issuers {
			up += m[fmt.Sprintf("acquirer_issuer_line_up{issuer=%q,line=\"1\"}", is.Name)]
		}
		return up == float64(len(simcard.Issuers))
	})
	return d, p
}

// await looks at the switch's metrics until they are as they should be.
func (d *drill) await(what string, patience time.Duration, is func(map[string]float64) bool) {
	d.t.Helper()
	var m map[string]float64
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if m, err = scrape(d.t.Context(), d.metrics); err == nil && is(m) {
			return
		}
		wait := time.NewTimer(200 * time.Millisecond)
		select {
		case <-wait.C:
		case <-d.t.Context().Done():
			d.t.Fatal(d.t.Context().Err())
		}
	}
	d.t.Fatalf("after %v still not: %s (%v; owed %v)", patience, what, err, m[`acquirer_owed{state="due"}`])
}

// weather changes an issuer's.
func (d *drill) weather(ctx context.Context, name string, w issuer.Weather) error {
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, d.control[name]+"/weather", bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	said, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("weather of %s: %s %s %v", name, res.Status, said, err)
	}
	return res.Body.Close()
}

// load starts acquirer load and gives its report when it has ended.
func (d *drill) load(args ...string) func() load.Report {
	d.t.Helper()
	p := spawn(d.t, nil, append([]string{"load", "--addr", d.terminal, "--json", "--mix", "sale=97,reversal=3", "--amount", "0.01-0.50"}, args...)...)
	return func() (r load.Report) {
		d.t.Helper()
		select {
		case <-p.ended:
		case <-time.After(*drillFor + 3*time.Minute):
			d.t.Fatal("the load does not end")
		}
		if err := json.Unmarshal([]byte(p.stdout.String()), &r); err != nil {
			d.t.Fatalf("the load: %v %s", err, p.stderr.tail(5))
		}
		return r
	}
}

// flap closes an issuer for a second in every three, until ctx ends.
func (d *drill) flap(ctx context.Context, name string) error {
	for closed := true; ; closed = !closed {
		w, pause := issuer.Weather{Drop: 0.002}, 2*time.Second
		if closed {
			w, pause = issuer.Weather{Closed: true}, time.Second
		}
		if err := d.weather(ctx, name, w); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// Four issuers: one good, one silent, one that flaps, one that answers around
// the timeout. Under load nothing that must not be comes about, the good one's
// terminals feel little of it, and when all are well again nothing stays owed.
func TestDrill(t *testing.T) {
	if testing.Short() {
		t.Skip("the drill takes its time")
	}
	whole := *drillFor >= 30*time.Second
	d, serving := startDrill(t)
	good, bad := []string{"--issuers", drillGood, "--terminals", "96"}, []string{"--issuers", strings.Join(drillBad, ","), "--skip", "96", "--terminals", "928"}
	if !whole {
		bad[5] = "160"
	}
	rate := *drillRate
	if rate == 0 && !whole {
		rate = 80
	}
	if rate == 0 {
		all := d.load("--terminals", "64", "--duration", "10s")()
		rate = all.TPS / 2
		t.Logf("capacity      %7.0f answers/s, closed loop, 64 terminals, p99 %.1f ms", all.TPS, all.Latency.P99)
	}
	each := rate / float64(1+len(drillBad))
	t.Logf("load          %7.0f transactions/s, %.0f of them with the good issuer", rate, each)
	slice := min(*drillFor, 10*time.Second)
	// measured is what the good issuer's terminals see in so many slices.
	measured := func(pieces int, rate float64) load.Report {
		var all []load.Report
		for range max(1, pieces) {
			all = append(all, d.load(append(good, "--rate", fmt.Sprint(rate), "--duration", slice.String())...)())
		}
		return together(all)
	}
	pieces := int(*drillFor / slice)
	// Alone it has all of the load, so that the machine is as busy as it is later:
	// what is compared is the company, not the load.
	alone := measured(pieces/2, rate)
	var idle load.Report // with its own quarter alone: the rest is asked of nobody
	if whole {
		idle = measured(pieces/3, each)
	}
	// beside measures the good issuer while the other three are under load.
	beside := func(pieces int) (one, others load.Report) {
		before, err := scrape(t.Context(), d.metrics)
		if err != nil {
			t.Fatal(err)
		}
		length := time.Duration(pieces)*(slice+time.Second) + time.Second // between two loads their terminals sign in
		rest := d.load(append(bad, "--rate", fmt.Sprint(rate-each), "--duration", length.String())...)
		d.await("the others are asked", 2*time.Minute, func(m map[string]float64) bool { return sales(m) > sales(before)+100 })
		return measured(pieces, each), rest()
	}
	var peace load.Report // beside three that are good too: what the load alone does
	if whole {
		peace, _ = beside(pieces / 3)
	}

	// The bad three.
	storm, calm := context.WithCancel(t.Context())
	defer calm()
	for name, w := range map[string]issuer.Weather{
		"south": {Silent: 1, LostReversals: 1},
		"west":  {Delay: drillTimeout - 100*time.Millisecond, Jitter: 200 * time.Millisecond},
	} {
		if err := d.weather(storm, name, w); err != nil {
			t.Fatal(err)
		}
	}
	flapped := make(chan error, 1)
	go func() { flapped <- d.flap(storm, "east") }()
	war, rest := beside(pieces)
	calm()
	if err := <-flapped; err != nil {
		t.Error(err)
	}

	// Healing.
	healing := time.Now()
	m, err := scrape(t.Context(), d.metrics)
	if err != nil {
		t.Fatal(err)
	}
	owed := m[`acquirer_owed{state="due"}`]
	for _, name := range drillBad {
		if err := d.weather(t.Context(), name, issuer.Weather{}); err != nil {
			t.Fatal(err)
		}
	}
	quiet := 0 // looks in a row, each after the house has counted anew
	d.await("nothing is owed", drillHealed, func(m map[string]float64) bool {
		if quiet++; m[`acquirer_owed{state="due"}`] > 0 || m["acquirer_transactions_in_flight"] > 0 {
			quiet = 0
		}
		return quiet > 12
	})
	healed := time.Since(healing)
	if m, err = scrape(t.Context(), d.metrics); err != nil {
		t.Fatal(err)
	}
	violations := m["acquirer_handler_panics_total"] + m[`acquirer_owed{state="manual"}`]
	for name, v := range m {
		if strings.HasPrefix(name, "acquirer_invariant_violations_total") {
			violations += v
		}
	}
	after := measured(pieces/2, rate)
	books := d.books()
	if status := serving.stop(t); status != 0 {
		t.Errorf("the switch ended with status %d: %s", status, serving.stderr.tail(5))
	}

	say := func(who string, r load.Report) {
		t.Logf("%-22s p50 %7.2f  p99 %8.2f ms  %6d sent, %6d approved, %v declined, %v errors", who, r.Latency.P50, r.Latency.P99, r.Sent, r.Approved, r.Declined, r.Errors)
	}
	say("good alone", alone)
	say("good alone, at the end", after)
	if whole {
		say("good alone, a quarter", idle)
		say("good beside good ones", peace)
	}
	say("good beside bad ones", war)
	say("the bad three", rest)
	// Half of the slices alone were before, half after: a machine that does
	// other things too is not the same at both ends.
	ratio := war.Latency.P99 / ((alone.Latency.P99 + after.Latency.P99) / 2)
	t.Logf("the good issuer's p99 beside bad ones is %.2f times what it is alone under the whole load", ratio)
	if whole {
		t.Logf("               %.2f times what it is beside three good ones, %.2f times what it is alone with its quarter", war.Latency.P99/peace.Latency.P99, war.Latency.P99/idle.Latency.P99)
	}
	t.Logf("healed        %d owed when the load ended, none %.0f s later", int(owed), healed.Seconds())

	if violations != 0 {
		t.Errorf("%v violations, panics or reversals left to a person", violations)
	}
	if len(alone.Declined)+len(alone.Errors)+len(war.Declined)+len(war.Errors)+len(after.Declined)+len(after.Errors) > 0 {
		t.Error("the good issuer's terminals heard something other than approvals")
	}
	if rest.Declined["98"] == 0 || rest.Declined["91"] == 0 || owed == 0 {
		t.Errorf("the bad issuers were not bad: %v, %v owed", rest.Declined, owed)
	}
	if whole && ratio > drillSlower {
		t.Errorf("the good issuer's p99 is %.2f times what it is alone, more than %v", ratio, drillSlower)
	}
	v := openForReading(t, d.database)
	entries, err := readJournal(t.Context(), v.journal)
	if err != nil {
		t.Fatal(err)
	}
	found := agreeing(entries, books)
	for _, x := range found[:min(len(found), 20)] {
		t.Error(x)
	}
	booksAgree(t, v, entries)
	t.Logf("books         %d transactions in the journal, %d differences with the issuers' books", len(entries), len(found))
}

// together is what several loads saw: their sums, and of each quantile the
// median, so that one moment in which the machine did something else does not
// stand for all.
func together(all []load.Report) (r load.Report) {
	r.Declined, r.Errors = map[string]int64{}, map[string]int64{}
	var p50, p99 []float64
	for _, one := range all {
		r.Sent, r.Approved, r.Reversed = r.Sent+one.Sent, r.Approved+one.Approved, r.Reversed+one.Reversed
		for code, n := range one.Declined {
			r.Declined[code] += n
		}
		for kind, n := range one.Errors {
			r.Errors[kind] += n
		}
		p50, p99 = append(p50, one.Latency.P50), append(p99, one.Latency.P99)
	}
	r.Latency.P50, r.Latency.P99 = median(p50), median(p99)
	return r
}

func median(of []float64) float64 {
	slices.Sort(of)
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}

// sales counts the sales that have ended.
func sales(m map[string]float64) (n float64) {
	for name, v := range m {
		if strings.HasPrefix(name, "acquirer_transactions_total") && strings.Contains(name, `type="sale"`) {
			n += v
		}
	}
	return n
}

// booked is what the drill needs to know of an issuer's entry.
type booked struct {
	RRN      string       `json:"rrn"`
	State    issuer.State `json:"state"`
	Amount   money.Amount `json:"amount"`
	Approval string       `json:"approval"`
}

// books are the issuers', by name.
func (d *drill) books() map[string][]booked {
	d.t.Helper()
	all := map[string][]booked{}
	for name, url := range d.control {
		var b struct {
			Entries []booked `json:"entries"`
		}
		if err := json.Unmarshal([]byte(fetch(d.t, url+"/books")), &b); err != nil {
			d.t.Fatalf("books of %s: %v", name, err)
		}
		all[name] = b.Entries
	}
	return all
}

// agreeing holds the journal against the issuers' books: what is approved in
// one stands in the other, with its amount and its approval code, once.
func agreeing(entries []*journal.Entry, books map[string][]booked) (found []string) {
	bad := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	holds := map[string]booked{}
	for _, name := range slices.Sorted(maps.Keys(books)) {
		for _, b := range books[name] {
			if b.State != issuer.Approved {
				continue
			}
			if _, twice := holds[b.RRN]; twice {
				bad("%s is booked twice", b.RRN)
			}
			holds[b.RRN] = b
		}
	}
	for _, e := range entries {
		h, held := holds[e.RRN]
		delete(holds, e.RRN)
		switch s := e.State(); {
		case s == journal.Open || s == journal.Owed || s == journal.Manual:
			bad("%s has not come to rest: %v", e.RRN, s)
		case s == journal.StateApproved && !held:
			bad("%s is approved, and issuer %s has no such sale", e.RRN, e.Issuer)
		case s == journal.StateApproved && (h.Amount != e.Amount || h.Approval != e.Outcome.Approval):
			bad("%s is approved over %v as %s, and issuer %s has %v as %s", e.RRN, e.Amount, e.Outcome.Approval, e.Issuer, h.Amount, h.Approval)
		case s != journal.StateApproved && held:
			bad("%s is %v, and issuer %s still holds %v", e.RRN, s, e.Issuer, h.Amount)
		}
	}
	for rrn := range holds {
		bad("an issuer holds %s, which is not in the journal", rrn)
	}
	return found
}

// A check that finds nothing must be able to find something.
func TestDrillFindsDifferences(t *testing.T) {
	sold := func() ([]*journal.Entry, map[string][]booked) {
		return []*journal.Entry{{Transaction: journal.Transaction{Amount: 1234, Issuer: "north", RRN: "523456789012"}, Outcome: &journal.Outcome{Reason: journal.Approved, Approval: "000042"}}},
			map[string][]booked{"north": {{RRN: "523456789012", State: issuer.Approved, Amount: 1234, Approval: "000042"}}}
	}
	if found := agreeing(sold()); len(found) > 0 {
		t.Errorf("two that agree: %v", found)
	}
	for says, lie := range map[string]func(e *journal.Entry, b map[string][]booked){
		"no such sale":       func(_ *journal.Entry, b map[string][]booked) { b["north"] = nil },
		"booked twice":       func(_ *journal.Entry, b map[string][]booked) { b["south"] = b["north"] },
		"not in the journal": func(e *journal.Entry, _ map[string][]booked) { e.RRN = "523456789013" },
		"is approved over":   func(e *journal.Entry, _ map[string][]booked) { e.Amount++ },
		"still holds":        func(e *journal.Entry, _ map[string][]booked) { e.Debt = &journal.Debt{State: journal.Reversed} },
		"not come to rest":   func(e *journal.Entry, _ map[string][]booked) { e.Debt = &journal.Debt{State: journal.Owed} },
	} {
		e, b := sold()
		lie(e[0], b)
		if found := strings.Join(agreeing(e, b), "\n"); !strings.Contains(found, says) {
			t.Errorf("found %q, want %q in it", found, says)
		}
	}
}

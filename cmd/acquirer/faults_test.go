package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/store/storetest"
)

// Faults around the running program that do not end it, or not by our hand:
// lines and database connections that break in every way, and a disk that
// fails or is full. As after the kills, the three parties' books must agree.

// rounds is how often each fault comes. Each of these tests waits for a minute
// until the last reversal is final, so that they run when they are asked for
// (make crash). What a line or a store does alone is tried in routing and store.
func rounds(t *testing.T) int {
	t.Helper()
	if os.Getenv("ACQUIRER_FAULT_ROUNDS") == "" {
		t.Skip("ACQUIRER_FAULT_ROUNDS is not set: make crash runs it")
	}
	return fromEnv(t, "ACQUIRER_FAULT_ROUNDS", 1)
}

// fromEnv is a number above zero from the environment.
func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number above zero", name, text)
	}
	return n
}

// toxic is a fault of a line, as toxiproxy makes it.
type toxic struct {
	name string
	json string // "" for a line that is cut, and where nobody answers for a while
}

var toxics = []toxic{
	{"slow", `{"name":"x","type":"latency","stream":"downstream","attributes":{"latency":700,"jitter":600}}`},
	{"slow to there", `{"name":"x","type":"latency","stream":"upstream","attributes":{"latency":700,"jitter":600}}`},
	{"swallowed", `{"name":"x","type":"timeout","stream":"upstream","attributes":{"timeout":0}}`},
	{"answers swallowed", `{"name":"x","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`},
	{"cut inside a frame", `{"name":"x","type":"limit_data","stream":"upstream","attributes":{"bytes":1999}}`},
	{"cut inside an answer", `{"name":"x","type":"limit_data","stream":"downstream","attributes":{"bytes":1999}}`},
	{"reset", `{"name":"x","type":"reset_peer","stream":"downstream","attributes":{"timeout":30}}`},
	{"in pieces", `{"name":"x","type":"slicer","stream":"downstream","attributes":{"average_size":7,"size_variation":5,"delay":200}}`},
	{"thin", `{"name":"x","type":"bandwidth","stream":"upstream","attributes":{"rate":8}}`},
	{"closed slowly", `{"name":"x","type":"slow_close","stream":"upstream","attributes":{"delay":500}}`},
	{name: "down"},
}

// proxy makes a relay to addr whose faults are chosen later.
func proxy(t *testing.T, name, addr string) *toxiproxy.Proxy {
	t.Helper()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard)), name, "127.0.0.1:0", addr)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// during lets a fault be there while f runs.
func (x toxic) during(t *testing.T, p *toxiproxy.Proxy, f func()) {
	t.Helper()
	if x.json == "" {
		p.Stop()
		f()
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(x.json)); err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
	f()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Toxics.RemoveToxic(ctx, "x"); err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
}

// tally counts faults by kind.
type tally struct {
	order []string
	count map[string]int
}

func (y *tally) fired(kind string, n int) {
	if y.count == nil {
		y.count = map[string]int{}
	}
	if _, known := y.count[kind]; !known {
		y.order = append(y.order, kind)
	}
	y.count[kind] += n
}

// report prints what fired, and fails for a kind that never did.
func (y *tally) report(t *testing.T) {
	t.Helper()
	var b strings.Builder
	for _, kind := range y.order {
		fmt.Fprintf(&b, "\n  %-36s %d", kind, y.count[kind])
		if y.count[kind] == 0 {
			t.Errorf("%s never fired: the test proves less than it should", kind)
		}
	}
	t.Logf("faults fired:%s", &b)
}

// rest brings the street to rest and holds every check. The program starts anew
// before: what a store error left open it would otherwise owe only when the
// longest life of a transaction is over.
func (s *crashStreet) rest(p *process) {
	s.t.Helper()
	s.crash(p)
	p = s.start()
	s.awaitListening(p)
	s.calm()
	s.awaitNothingOwed(p)
	if status := p.stop(s.t); status != 0 {
		s.t.Errorf("told to stop, it ended with status %d:\n%s", status, p.stderr.tail(20))
	}
	e, v := s.evidence()
	s.t.Logf("%d transactions at the terminals: %v; %d in the journal", len(e.told), s.book.Count(), len(e.journal))
	e.holds(s.t, v, s.database)
	if s.t.Failed() {
		s.t.Logf("the last of the log:\n%s", p.stderr.tail(10))
	}
}

// metric is the sum of a metric over its labels.
func (s *crashStreet) metric(name string) float64 {
	s.t.Helper()
	m, err := scrape(s.ctx, s.metrics)
	if err != nil {
		s.t.Fatal(err)
	}
	var sum float64
	for k, v := range m {
		if k == name || strings.HasPrefix(k, name+"{") {
			sum += v
		}
	}
	return sum
}

// Every fault of a line to an issuer, one issuer at a time, while the street
// trades. A fault has fired when a transaction went that way meanwhile.
func TestFaultsOfLines(t *testing.T) {
	n := rounds(t)
	t.Parallel()
	lines := map[string]*toxiproxy.Proxy{}
	s := openStreet(t, streetOf{database: "sqlite:" + filepath.Join(t.TempDir(), "lines.db"), seed: crashSeed(t), limit: crashTimeout + time.Duration(n)*time.Minute, weather: &issuer.Weather{},
		via: func(name, addr string) string {
			lines[name] = proxy(t, name, addr)
			return lines[name].Listen
		}})
	defer s.close()
	p := s.start()
	s.awaitListening(p)
	s.awaitSales(2 * crashTerminals)
	var y tally
	for round := range n {
		for i, x := range toxics {
			name := simcard.Issuers[(i+round)%len(simcard.Issuers)].Name
			before := s.asked()
			x.during(t, lines[name], func() { s.awaitSales(2 * crashTerminals) })
			y.fired("line "+x.name, min(1, int(s.asked()-before)))
		}
	}
	y.fired("questions of an issuer that failed", int(s.metric("acquirer_issuer_failures_total")))
	s.awaitSales(2 * crashTerminals)
	s.rest(p)
	y.report(t)
}

// heard is how many transactions were answered with a code.
func (s *crashStreet) heard(code string) (n int) {
	for _, r := range s.book.Records() {
		if r.Code == code {
			n++
		}
	}
	return n
}

// asked is how many questions to issuers have come to an end.
func (s *crashStreet) asked() float64 {
	s.t.Helper()
	return s.metric("acquirer_issuer_seconds_count") + s.metric("acquirer_issuer_failures_total")
}

// Every fault of the connections to PostgreSQL, and answers to COMMIT that are
// lost, until some transactions were in doubt (faults 41 and 43).
func TestFaultsOfTheDatabase(t *testing.T) {
	n := rounds(t)
	t.Parallel()
	direct := storetest.PostgresURL(t)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	line := proxy(t, "postgres", u.Host)
	u.Host = line.Listen
	s := openStreet(t, streetOf{database: u.String(), seed: crashSeed(t), limit: crashTimeout + time.Duration(n)*time.Minute, weather: &issuer.Weather{}})
	defer s.close()
	p := s.start()
	s.awaitListening(p)
	s.awaitSales(2 * crashTerminals)
	var y tally
	for range n {
		for _, x := range toxics {
			if x.name == "thin" {
				continue // a line of 8 KB a second to a database is one that is down
			}
			began := s.sales.Load()
			x.during(t, line, func() { s.awaitSales(crashTerminals / 2) })
			y.fired("database "+x.name, min(1, int(s.sales.Load()-began)))
			s.awaitSales(crashTerminals)
		}
		cut := toxic{"reset", `{"name":"x","type":"reset_peer","stream":"downstream","attributes":{"timeout":0}}`}
		for before := s.metric("acquirer_store_in_doubt_total"); s.metric("acquirer_store_in_doubt_total") < before+3 && s.ctx.Err() == nil; {
			cut.during(t, line, func() { s.awaitSales(crashTerminals / 4) })
			s.awaitSales(crashTerminals)
		}
	}
	y.fired("database COMMIT in doubt", int(s.metric("acquirer_store_in_doubt_total")))
	s.rest(p)
	y.report(t)
}

// The nth fsync or write of the program fails (fault 37). It stops itself; what
// it had answered is there when it starts again.
func TestFaultsOfTheDisk(t *testing.T) {
	n := rounds(t)
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: no strace, so no fsync and no write of the program is made to fail")
	}
	if out, err := exec.Command(strace, "-f", "-o", os.DevNull, "-e", "inject=fsync:error=EIO:when=1", "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: strace may not trace here, so no fsync and no write of the program is made to fail: %v: %s", err, out)
	}
	s := openStreet(t, streetOf{database: "sqlite:" + filepath.Join(t.TempDir(), "disk.db"), seed: crashSeed(t), limit: crashTimeout + time.Duration(n)*2*time.Minute, weather: &issuer.Weather{}})
	defer s.close()
	p := s.start() // makes the database on a good disk
	s.awaitListening(p)
	s.awaitSales(crashTerminals)
	s.crash(p)
	var y tally
	for round := range n {
		for i, inject := range []string{"fsync:error=EIO", "pwrite64:error=EIO"} {
			when := []int{40, 400}[i] + 7*round
			trace := filepath.Join(t.TempDir(), "trace")
			p := s.startUnder(strace, "-f", "-o", trace, "-e", "trace="+strings.SplitN(inject, ":", 2)[0], "-e", fmt.Sprintf("inject=%s:when=%d", inject, when))
			s.outlives(p, time.Minute)
			text, err := os.ReadFile(trace)
			if err != nil {
				t.Fatal(err)
			}
			y.fired("disk "+inject, min(1, strings.Count(string(text), "(INJECTED)")))
			if code := p.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(p.stderr.String(), "the store has failed") {
				t.Errorf("%s when=%d: it ended with %d:\n%s", inject, when, code, p.stderr.tail(5))
			}
		}
	}
	p = s.start()
	s.awaitListening(p)
	s.awaitSales(crashTerminals)
	s.rest(p)
	y.report(t)
}

// The disk is full for a while (fault 36): what cannot be recorded is answered
// 96, the program lives, and sells again when there is room.
func TestFaultOfAFullDisk(t *testing.T) {
	n := rounds(t)
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: a disk of 24 MB cannot be mounted here, so the program does not meet a full one: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	s := openStreet(t, streetOf{database: "sqlite:" + filepath.Join(dir, "full.db"), seed: crashSeed(t), limit: crashTimeout + time.Duration(n)*time.Minute, weather: &issuer.Weather{}})
	defer s.close()
	p := s.start()
	s.awaitListening(p)
	s.awaitSales(2 * crashTerminals)
	var y tally
	for range n {
		ballast := filepath.Join(dir, "ballast")
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		_, full := io.Copy(f, endless{})
		if err := f.Close(); full == nil || err != nil {
			t.Fatalf("the disk did not get full: %v, %v", full, err)
		}
		before := s.heard("96")
		s.awaitSales(4 * crashTerminals)
		y.fired("disk full", s.heard("96")-before)
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		s.awaitSales(4 * crashTerminals)
	}
	s.rest(p)
	y.report(t)
}

// endless is zeros without end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

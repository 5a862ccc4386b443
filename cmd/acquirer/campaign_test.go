//go:build fault

package main

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/fault"
	"acquirer/simulate/terminal"
	"acquirer/store/storetest"
)

// The campaign kills the program at every fault point, on both sides of each,
// on both engines, and holds every check against what is left (make crash).
//
//	ACQUIRER_CRASH_KILLS     how often on SQLite (60)
//	ACQUIRER_CRASH_POSTGRES  how often on PostgreSQL (12)
//	ACQUIRER_CRASH_STEPS     at these steps alone, with commas between (all)
//
// With fewer kills than points not every point is killed at, and that is said;
// with more, a point that was not killed at fails the campaign.
func TestCrashCampaign(t *testing.T) {
	seed := crashSeed(t)
	t.Run("sqlite", func(t *testing.T) {
		n := 0
		campaign(t, seed, fromEnv(t, "ACQUIRER_CRASH_KILLS", 60), func() string {
			n++
			return "sqlite:" + filepath.Join(t.TempDir(), fmt.Sprintf("crash%d.db", n))
		})
	})
	t.Run("postgres", func(t *testing.T) {
		campaign(t, seed, fromEnv(t, "ACQUIRER_CRASH_POSTGRES", 12), func() string { return storetest.PostgresURL(t) })
	})
}

// campaign shares the kills out among the parts by the points they have: a
// database that is made, a street that trades, a day that is settled, keys
// that are changed. The street is many streets, each of which comes to rest.
func campaign(t *testing.T, seed uint64, kills int, fresh func() string) {
	began := time.Now()
	postgres := strings.HasPrefix(fresh(), "postgres")
	p := newPlan(seed, postgres)
	share := func(part string) int {
		n := len(p.points[part])
		return max(min(n, 1), kills*n/max(1, p.size()))
	}
	starts, settles, keys := share("start"), share("settle"), share("keys")
	for p.fired() < starts {
		killStarts(t, p, fresh())
	}
	t.Logf("%d kills while databases were made, after %s", p.fired(), time.Since(began).Round(time.Second))
	before := p.fired()
	for p.fired()-before < keys {
		killKeys(t, p, fresh())
	}
	t.Logf("%d while keys were changed, after %s", p.fired()-before, time.Since(began).Round(time.Second))
	const most = 80 // of one street
	for left := kills - starts - keys; left > 0 && !t.Failed(); {
		n := min(most, left)
		settled := min(settles, 1+settles*n/(kills-starts-keys), left)
		left -= killStreet(t, p, fresh(), n-settled, settled)
		settles -= settled
	}
	p.report(t, began, kills)
}

// plan chooses where the next process dies and remembers where they did.
type plan struct {
	mu     sync.Mutex
	rng    *rand.Rand
	points map[string][]string // both sides of the steps of a part
	kills  map[string]int      // by point, and by anywhere
	tried  map[string]int      // how often a process was to die there
	hits   map[string]float64  // how often a process comes by, on the average
}

// anywhere is a kill from outside, at no point.
const anywhere = "anywhere"

func newPlan(seed uint64, postgres bool) *plan {
	p := &plan{rng: rand.New(rand.NewPCG(seed, 2)), points: map[string][]string{}, kills: map[string]int{}, tried: map[string]int{}, hits: map[string]float64{}}
	for step, part := range fault.Points {
		if postgres && step == "store.checkpoint" || part == "deed" {
			continue // the server's own; TestCrashDeeds
		}
		if only := os.Getenv("ACQUIRER_CRASH_STEPS"); only != "" && !slices.Contains(strings.Split(only, ","), step) {
			continue
		}
		p.points[part] = append(p.points[part], step+".before", step+".after")
	}
	for _, points := range p.points {
		slices.Sort(points)
	}
	return p
}

func (p *plan) size() (n int) {
	for _, points := range p.points {
		n += len(points)
	}
	return n
}

func (p *plan) fired() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kills {
		n += k
	}
	return n
}

// next is the setting for a process of a part: the points that were killed at
// least often, up to most of them, each at some hit that it is likely to reach.
// One that nobody comes by is not waited for again and again: a try counts as
// a third of a kill. A process of the street dies at whatever point it is at
// after some hundred others. One that others were always before has the process
// to itself, and at its first hit.
func (p *plan) next(part string, most int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	points := slices.Clone(p.points[part])
	p.rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	rank := func(point string) int { return 3*p.kills[point] + p.tried[point] }
	slices.SortStableFunc(points, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	if len(points) == 0 { // of an aimed campaign
		return fault.Setting + "="
	}
	for _, shy := range points {
		if p.kills[shy] > 0 || p.tried[shy] < 2 || p.tried[shy] > 12 {
			continue
		}
		p.tried[shy]++
		at := shy + "@1"
		if part == "street" {
			at += fmt.Sprintf(",%s@%d", fault.Any, 20_000)
		}
		return fault.Setting + "=" + at
	}
	var at []string
	if part == "street" && os.Getenv("ACQUIRER_CRASH_STEPS") == "" {
		at = append(at, fmt.Sprintf("%s@%d", fault.Any, 300+p.rng.IntN(3000)))
	}
	for _, point := range points[:min(most, len(points))] {
		p.tried[point]++
		at = append(at, fmt.Sprintf("%s@%d", point, 1+p.rng.IntN(1+int(2*p.hits[point]))))
	}
	return fault.Setting + "=" + strings.Join(at, ",")
}

// died notes where a process died, by what it wrote; anywhere when it did not
// say.
func (p *plan) died(stderr string) (point string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	point = anywhere
	if _, line, ok := strings.Cut(stderr, fault.Fired); ok {
		line, _, _ = strings.Cut(line, "\n")
		words := strings.Fields(line)
		point = words[0]
		for _, w := range words[1:] {
			name, count, _ := strings.Cut(w, "=")
			n, _ := strconv.Atoi(count)
			p.hits[name] = (3*p.hits[name] + float64(n)) / 4
		}
	}
	p.kills[point]++
	return point
}

// report prints the kills by point and fails where none was.
func (p *plan) report(t *testing.T, began time.Time, wanted int) {
	t.Helper()
	total := p.fired()
	var b strings.Builder
	var missed []string
	for _, part := range slices.Sorted(maps.Keys(p.points)) {
		for _, point := range p.points[part] {
			if step, before := strings.CutSuffix(point, ".before"); before {
				fmt.Fprintf(&b, "\n  %-8s %-20s before %3d  after %3d", part, step, p.kills[point], p.kills[step+".after"])
			}
			if p.kills[point] == 0 {
				missed = append(missed, point)
			}
		}
	}
	t.Logf("%d kills in %s: %d at %d points, %d anywhere%s", total, time.Since(began).Round(time.Second), total-p.kills[anywhere], p.size()-len(missed), p.kills[anywhere], &b)
	switch {
	case len(missed) > 0 && wanted >= 4*p.size():
		t.Errorf("nobody was killed at %v", missed)
	case len(missed) > 0:
		t.Logf("nobody was killed at %v: %d kills are few", missed, wanted)
	}
}

// killed runs a command that is to die where the plan says, and reports whether
// it did. One that came to its end must have ended well, or as mayFail allows.
func killed(t *testing.T, p *plan, part, mayFail string, args ...string) bool {
	t.Helper()
	c := spawn(t, []string{p.next(part, 3)}, args...)
	<-c.ended
	text := c.stderr.String()
	if strings.Contains(text, fault.Fired) {
		p.died(text)
		return true
	}
	if status := c.cmd.ProcessState.ExitCode(); status != 0 && (mayFail == "" || !strings.Contains(text, mayFail)) {
		t.Fatalf("%s: status %d: %s", strings.Join(args, " "), status, c.stderr.tail(20))
	}
	return false
}

// killStarts lets the program die again and again while it makes a database;
// then the database is whole, and as one that was made in one go.
func killStarts(t *testing.T, p *plan, database string) {
	s := openStreet(t, streetOf{database: database, seed: p.rng.Uint64(), limit: 10 * time.Minute})
	defer s.close()
	for range 6 {
		c := s.start(p.next("start", 3))
		if _, listening := c.stderr.await(s.ctx, `"msg":"listening"`); listening {
			c.kill()
			p.died(anywhere)
			break // there is nothing left to be made
		}
		<-c.ended
		if text := c.stderr.String(); !strings.Contains(text, fault.Fired) {
			t.Fatalf("it ended by itself: %v\n%s", c.err, c.stderr.tail(20))
		}
		p.died(c.stderr.String())
	}
	c := s.start()
	s.awaitListening(c)
	s.awaitSales(3 * crashTerminals)
	s.calm()
	s.crash(c)
	v := openForReading(t, database)
	counted := map[string]int{}
	for _, table := range []string{"merchant_terminal", "house_key", "hsm_key", "store_schema", "download_object"} {
		counted[table] = rowsOf(t, v, table)
	}
	if counted["merchant_terminal"] != seedTerminals || counted["house_key"] != 2 {
		t.Errorf("made under kills, the database has %v", counted)
	}
	approved := 0
	for _, r := range s.book.Records() {
		if r.Status == terminal.Approved {
			approved++
		}
	}
	if approved == 0 {
		t.Error("nothing is approved on the database that was made under kills")
	}
}

// alternates has cards without a chip asked of another issuer while theirs has
// as many requests in flight as it takes.
const alternates = `{"groups": [{"name": "safe", "primary": "own", "alternates": ["west", "north"]}], "rules": [{"name": "stripe", "entries": ["stripe"], "group": "safe"}]}`

// killStreet lets a street trade while the house dies again and again, then
// brings it to rest and holds every check; then its day is settled, with kills
// too. It returns how many kills there were.
func killStreet(t *testing.T, p *plan, database string, kills, settles int) int {
	before := p.fired()
	s := openStreet(t, streetOf{database: database, seed: p.rng.Uint64(), limit: 30 * time.Minute, routes: alternates})
	defer s.close()
	for i := 0; p.fired()-before < kills; i++ {
		c := s.start(p.next("street", 4))
		s.outlives(c, 10*time.Second)
		if text := c.stderr.String(); !strings.Contains(text, fault.Fired) && c.cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("it ended by itself: %v\n%s", c.err, c.stderr.tail(20))
		}
		p.died(c.stderr.String())
		if i%10 == 9 {
			e, v := s.evidence()
			for _, found := range e.always() {
				t.Errorf("between two lives: %s", found)
			}
			if err := v.db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := s.start()
	s.awaitListening(c)
	s.awaitSales(crashTerminals)
	s.calm()
	s.awaitNothingOwed(c)
	if status := c.stop(t); status != 0 {
		t.Errorf("told to stop, it ended with status %d:\n%s", status, c.stderr.tail(20))
	}
	e, v := s.evidence()
	t.Logf("%d kills; %d transactions at the terminals: %v; %d in the journal", p.fired()-before, len(e.told), s.book.Count(), len(e.journal))
	e.holds(t, v, database)
	if err := v.db.Close(); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.Fatalf("the last of the log:\n%s", c.stderr.tail(8))
	}
	if settles > 0 {
		killSettle(t, p, s, settles)
	}
	return p.fired() - before
}

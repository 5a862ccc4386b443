package street

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
)

var (
	firstSeed = flag.Uint64("street.seed", 1, "the first seed")
	seeds     = flag.Int("street.seeds", 3, "how many seeds, each the next number")
)

// allKinds is how many seeds are enough for every fault to fire.
const allKinds = 40

// TestStreet opens a street for each seed, lets it misbehave for half an hour of
// its own time and more, heals it, and demands that everything ends: answered or
// reversed, once, in every book the same.
//
// The seed decides which faults there are, how bad they are and what every
// terminal wants. It does not decide in which order goroutines that are ready
// at the same moment run: a seed that failed once may have to be run a few times.
func TestStreet(t *testing.T) {
	log.SetOutput(io.Discard) // net/http tells there of answers that came twice
	if testing.Short() {
		*seeds = min(*seeds, 1)
	}
	all := &tally{faults: &faults{count: map[string]int{}}, states: map[string]int{}}
	// Ids never go back within a process, so each street opens behind the last,
	// and many of them need years whose holidays nobody knows yet.
	if _, err := calendar.Assume(20270101, 20391231); err != nil {
		t.Fatal(err)
	}
	opens := time.Date(2025, 1, 6, 0, 0, 0, 0, calendar.Beijing)
	for i := range *seeds {
		seed := *firstSeed + uint64(i)
		file := filepath.Join(t.TempDir(), "street.db")
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { opens = street(t, seed, file, opens, all) })
		})
		if !ok {
			t.Errorf("street %d failed; run it alone: make simulate SEED=%d", seed, seed)
		}
		if err := os.RemoveAll(filepath.Dir(file)); err != nil {
			t.Error(err)
		}
	}
	t.Log(all)
	if *seeds < allKinds {
		return
	}
	for _, k := range kinds {
		if all.faults.count[k] == 0 {
			t.Errorf("%q never fired in %d streets", k, *seeds)
		}
	}
}

// street lives through one seed and returns when the next may begin.
func street(t *testing.T, seed uint64, file string, opens time.Time, all *tally) (next time.Time) {
	w := newWorldAt(t, seed, file, opens, all.faults)
	began := time.Now()
	w.start()
	var working sync.WaitGroup
	var clerks []*clerk
	for i := range terminals {
		c := w.newClerk(i, seed, 70*time.Second)
		clerks = append(clerks, c)
		working.Go(c.work)
	}
	working.Go(func() { w.replay(rand.New(rand.NewPCG(seed, 2))) })
	day := calendar.BusinessDate(began, cutOff)
	w.storm(began.Add(time.Duration(25+w.rng.IntN(20)) * time.Minute))
	if w.awaitOpen(); calendar.BusinessDate(time.Now(), cutOff) != day {
		all.faults.fired("cut-off")
	}
	close(w.healing)
	working.Wait()
	h := w.house
	w.comesToRest(h)
	w.close(true)

	w.openForReading(h)
	e := w.gather(h)
	for _, v := range e.violations() {
		t.Error(v)
		w.tellOf(v)
	}
	w.settled(h, e.journal)
	w.check(h.db.Close())
	w.keepsSecrets(clerks)
	w.end()
	all.add(e, time.Since(began))
	return time.Now().Truncate(24 * time.Hour).Add(48 * time.Hour)
}

var rrn = regexp.MustCompile(`\b[0-9A-Z]{12}\b`)

// tellOf logs what the house and the wallets said of the transactions that a
// violation names.
func (w *world) tellOf(violation string) {
	numbers := rrn.FindAllString(violation, 2)
	for _, o := range w.wallets.Orders() {
		for _, back := range o.Refunds {
			if slices.Contains(numbers, o.Number) && back.ID != "" {
				numbers = append(numbers, back.ID)
			}
		}
	}
	for _, number := range numbers {
		for line := range bytes.Lines(w.log.bytes()) {
			if bytes.Contains(line, []byte(number)) {
				w.t.Logf("%s: %s", number, bytes.TrimSpace(line))
			}
		}
		for _, o := range w.wallets.Orders() {
			if o.Number == number {
				w.t.Logf("%s: %+v", number, o)
			}
		}
	}
}

// comesToRest waits until nothing is under way and nothing owed; that must be
// soon after everything has healed (I5).
func (w *world) comesToRest(h *house) {
	ctx := context.Background()
	const soon = 20 * time.Minute
	for began := time.Now(); ; time.Sleep(5 * time.Second) {
		c, err := h.journal.Debts(ctx)
		w.must(err)
		if c.Owed == 0 && h.sw.InFlight() == 0 && w.nothingOpen(h) {
			return
		}
		if time.Since(began) > soon {
			list, err := h.journal.DebtList(ctx, journal.Owed, 10)
			w.check(err)
			var what []string
			for _, e := range list {
				what = append(what, fmt.Sprintf("%s, a %v, for %s: %s", e.RRN, e.Kind, e.Issuer, e.Debt.Note))
			}
			w.t.Errorf("I5: %d are owed %v after everything healed: %s", c.Owed, soon, strings.Join(what, "; "))
			return
		}
	}
}

func (w *world) nothingOpen(h *house) bool {
	entries, err := h.journal.Last(context.Background(), 1_000_000)
	w.must(err)
	return !slices.ContainsFunc(entries, func(e *journal.Entry) bool { return e.Outcome == nil })
}

// tally is what a run of seeds came to.
type tally struct {
	faults       *faults
	streets      int
	time         time.Duration
	transactions int
	states       map[string]int
}

func (a *tally) add(e *evidence, took time.Duration) {
	a.streets++
	a.time += took
	a.transactions += len(e.journal)
	for _, j := range e.journal {
		a.states[j.State().String()]++
	}
}

func (a *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d streets, %v of their time, %d transactions in the journal: %v\nfaults fired:", a.streets, a.time.Round(time.Minute), a.transactions, a.states)
	for _, k := range kinds {
		fmt.Fprintf(&b, "\n  %6d %s", a.faults.count[k], k)
	}
	return b.String()
}

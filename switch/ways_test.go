package switching_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	"acquirer/store/storetest"
	switching "acquirer/switch"
)

func withRouting(t testing.TB, text string) streetOption {
	t.Helper()
	rules, err := routing.ParseRules([]byte(text))
	must(t, err)
	return func(p *streetPlan) { p.routing = rules }
}

const safe = `{"groups": [{"name": "safe", "primary": "own", "alternates": ["west"]}], "rules": [{"name": "all", "group": "safe"}]}`

// last is the transaction that was opened last.
func (s *street) lastEntry() *journal.Entry {
	s.t.Helper()
	list, err := s.journal.Last(s.t.Context(), 1)
	must(s.t, err)
	if len(list) == 0 {
		s.t.Fatal("the journal is empty")
	}
	return list[0]
}

func each(t *testing.T, f func(t *testing.T, store streetOption)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, func(*streetPlan) {}) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, withStore(storetest.PostgresURL(t))) })
}

// fill has north's one place taken by a sale of d, and tells how many sales
// went to the alternate before: on a busy machine a line takes longer for a
// message than the few milliseconds that it is given.
func (s *street) fill(d *device, w *wire) (elsewhere int) {
	s.t.Helper()
	for ; ; elsewhere++ {
		w.send(d.frame(s.t, d.sale(money.Yuan(70), pan(s.t, "north", 1))))
		await(s.t, "a sale is booked", func() bool { return len(s.issuers["north"].Books())+len(s.issuers["west"].Books()) > elsewhere })
		if len(s.issuers["north"].Books()) > 0 {
			return elsewhere
		}
		w.answer()
	}
}

// An issuer that has as many in flight as it may is found out when its message
// is to leave: the alternate is asked, with the PIN under its own key, and the
// journal names it before it hears anything.
func TestFailOverAtTheDoor(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store streetOption) {
		s := newStreet(t, store, withRouting(t, safe), withTimeout(slower*6*time.Second), withLine(func(c *routing.Config) {
			if c.Name == "north" {
				c.MaxInFlight, c.QueueTimeout = 1, 3*time.Millisecond
			}
		}))
		first, slow := s.device(t, 4), s.wire(t)
		term := s.terminal(5)
		must(t, term.SignIn(t.Context()))
		s.weather("north", issuer.Weather{Delay: slower * 3 * time.Second})
		elsewhere := s.fill(first, slow)

		number := pan(t, "north", 2)
		for i := 3; simcard.HasChip(number.Reveal()); i++ { // the alternate knows no chips of others
			number = pan(t, "north", i)
		}
		card, err := simcard.New(number)
		must(t, err)
		res, err := term.Sale(t.Context(), terminal.Sale{Amount: money.Yuan(71), Card: card, PIN: card.PIN, Entry: terminal.Stripe})
		if err != nil || res.Code != "00" {
			t.Fatalf("the sale beyond the cap: %+v %v", res, err)
		}
		if e := s.lastEntry(); e.Issuer != "west" || e.Outcome.Reason != journal.Approved {
			t.Errorf("the journal has %s: %v", e.Issuer, e.Outcome.Reason)
		}
		if n := s.metric("acquirer_route_failovers_total", "north", "west"); n != float64(elsewhere+1) {
			t.Errorf("%v fail-overs, want %d", n, elsewhere+1)
		}
		if a := slow.answer(); a.Text(39) != "00" {
			t.Errorf("the slow sale was answered %s", a.Text(39))
		}
		s.weather("north", issuer.Weather{})
		s.balanced()
	})
}

// The terminal's reversal meets a sale that is changing its issuer: whoever
// was sent the sale is sent the reversal, and an approval never stands.
func TestReversalMeetsFailOver(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store streetOption) {
		s := newStreet(t, store, withRouting(t, safe), withTimeout(6*time.Second), withLine(func(c *routing.Config) {
			if c.Name == "north" {
				c.MaxInFlight, c.QueueTimeout = 1, 3*time.Millisecond
			}
		}))
		s.weather("north", issuer.Weather{Delay: 2 * time.Second})
		first, slow := s.device(t, 4), s.wire(t)
		var free atomic.Bool // north may be asked again
		var holding sync.WaitGroup
		elsewhere := s.fill(first, slow)
		holding.Go(func() {
			slow.answer()
			free.Store(true)
		})
		d, asked, back := s.device(t, 5), s.wire(t), s.wire(t)
		heard := map[string]int{}
		meet := func(within time.Duration) {
			sale := d.sale(money.Yuan(64), pan(t, "north", 3))
			reversal := d.frame(t, d.reversal(sale, "98"))
			var answered *spec.Message
			var wg sync.WaitGroup
			wg.Go(func() { answered = asked.ask(d.frame(t, sale)) })
			<-time.After(rand.N(within))
			b := back.ask(reversal)
			wg.Wait()
			heard[answered.Text(39)+" and "+b.Text(39)]++
			switch answered.Text(39) + b.Text(39) {
			case "9800", "2225":
			case "0000":
				s.told.taken(answered.Text(37))
			default:
				t.Errorf("sale answered %s, reversal %s", answered.Text(39), b.Text(39))
			}
		}
		for n := 0; n < 40 && !free.Load(); n++ {
			meet(6 * time.Millisecond << (n % 6)) // a busy machine is late with everything
		}
		holding.Wait()
		meet(6 * time.Millisecond) // north takes this one, and its reversal waits for the place
		t.Log(heard)
		s.weather("north", issuer.Weather{})
		s.balanced()
		if got := s.states("west"); got[issuer.Approved] != elsewhere || got[issuer.Reversed] == 0 {
			t.Errorf("the alternate has %v", got)
		}
	})
}

// A breaker opens for an issuer that takes messages and answers none; the
// alternate is asked without another word to it, until a probe is answered.
func TestBreakerOpensAndCloses(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withRouting(t, safe), withTimeout(80*time.Millisecond*slower), withConfig(func(c *switching.Config) {
		c.Breaker = routing.BreakerConfig{Streak: 3, Percent: 100, Least: 1000, Window: time.Minute, Pause: 3 * time.Second} // longer than a busy machine takes to look
		c.Owed.MaxAttempts = 100
	}))
	d, w := s.device(t, 4), s.wire(t)
	sell := func() (rc, where string) {
		t.Helper()
		rc = w.ask(d.frame(t, d.sale(money.Yuan(57), pan(t, "north", 4)))).Text(39)
		return rc, s.lastEntry().Issuer
	}
	s.weather("north", issuer.Weather{Silent: 1})
	for range 3 {
		if rc, _ := sell(); rc != "98" {
			t.Fatalf("a silent issuer: answered %s", rc)
		}
	}
	if v := s.sw.Breakers()["north"]; v.State != "open" || v.Opened != 1 {
		t.Fatalf("after three: %+v", v)
	}
	if n := s.metric("acquirer_route_breaker_state", "north"); n != 2 {
		t.Errorf("the metric says %v", n)
	}
	if st := s.sw.Standing("north"); st != routing.Tripped {
		t.Errorf("north stands %s", st)
	}
	if rc, where := sell(); rc != "00" || where != "west" {
		t.Errorf("behind the open breaker: %s from %s", rc, where)
	}
	// The probe of a silent issuer opens it again.
	probe := func() (rc, where string) {
		t.Helper()
		await(t, "the pause is over", func() bool { return s.sw.Standing("north") != routing.Tripped })
		return sell()
	}
	if rc, where := probe(); rc != "98" || where != "north" || s.sw.Breakers()["north"].Opened != 2 {
		t.Errorf("a probe that is not answered: %s from %s, %+v", rc, where, s.sw.Breakers()["north"])
	}
	s.weather("north", issuer.Weather{})
	await(t, "north again", func() bool {
		rc, where := probe() // a busy machine may be too late for one
		return rc == "00" && where == "north"
	})
	if v := s.sw.Breakers()["north"]; v.State != "closed" {
		t.Errorf("behind an answer: %+v", v)
	}
	s.balanced()
}

// Without an alternate an open breaker is 91 at once, and nothing is owed.
func TestBreakerWithoutAlternate(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withTimeout(80*time.Millisecond*slower), withConfig(func(c *switching.Config) {
		c.Breaker = routing.BreakerConfig{Streak: 2, Percent: 100, Least: 1000, Window: time.Minute, Pause: time.Hour}
		c.Owed.MaxAttempts = 100
	}))
	d, w := s.device(t, 4), s.wire(t)
	sale := func() []byte { return d.frame(t, d.sale(money.Yuan(57), pan(t, "north", 5))) }
	s.weather("north", issuer.Weather{Silent: 1})
	for range 2 {
		w.ask(sale())
	}
	s.weather("north", issuer.Weather{})
	behind := sale()
	for range 2 { // and its repeat
		if rc := w.ask(behind).Text(39); rc != "91" {
			t.Errorf("behind the open breaker: %s", rc)
		}
	}
	if e := s.lastEntry(); e.Outcome.Note != string(routing.Barred) || e.Debt != nil {
		t.Errorf("the journal has %q, owed %v", e.Outcome.Note, e.Debt)
	} else if e.SpentOn != 0 {
		t.Error("it was opened, and limits spent, before it was refused: two writes where one will do")
	}
	s.balanced()
	if n := len(s.issuers["north"].Books()); n != 2 {
		t.Errorf("the issuer heard %d", n)
	}
}

// I22: the table and the rules are changed a thousand times under load. Every
// sale goes by one of them, whole: a mixture would send it elsewhere.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	rows := s.house.BINs.Routes()
	here, err := routing.NewTable(rows)
	must(t, err)
	for i := range rows {
		rows[i].Issuer = "west" // of the second table; its rules send to the alternate of a group that only it has
	}
	there, err := routing.NewTable(rows)
	must(t, err)
	// By the first, north's cards stay north's. By the second they are west's
	// in the table, and west's again by the rule. Table one with rules two sends
	// them to south, table two with rules one to east: both decline them (14).
	one, err := routing.ParseRules([]byte(`{"groups": [{"name": "g", "primary": "east"}], "rules": [{"name": "mixed", "issuers": ["west"], "group": "g"}]}`))
	must(t, err)
	two, err := routing.ParseRules([]byte(`{"groups": [{"name": "g", "primary": "south"}, {"name": "w", "primary": "west"}],
		"rules": [{"name": "mixed", "issuers": ["north"], "group": "g"}, {"name": "all", "group": "w"}]}`))
	must(t, err)
	_, err = s.sw.Reroute(here, one, nil)
	must(t, err)

	var stop atomic.Bool
	var sold sync.WaitGroup
	var sales [4]int
	var began sync.WaitGroup
	began.Add(len(sales))
	for i := range sales {
		d, w := s.device(t, i), s.wire(t)
		sold.Go(func() {
			for n := 0; !stop.Load(); n++ {
				if rc := w.ask(d.frame(t, d.sale(money.Yuan(10), pan(t, "north", 10*i+n%10)))).Text(39); rc != "00" && rc != "61" {
					t.Errorf("terminal %d, sale %d: %s", i, n, rc)
				}
				if sales[i]++; n == 0 {
					began.Done()
				}
			}
		})
	}
	began.Wait()
	for i := range 1000 {
		table, rules := there, two
		if i%2 == 1 {
			table, rules = here, one
		}
		diff, err := s.sw.Reroute(table, rules, nil)
		if err != nil || len(diff) != len(rows)-1+4 { // west's own row stays
			t.Fatalf("reload %d: %q %v", i, diff, err)
		}
		if bad, err := routing.ParseRules(fmt.Appendf(nil, `{"groups": [{"name": "g", "primary": "nobody%d"}]}`, i)); err != nil {
			t.Fatal(err)
		} else if _, err := s.sw.Reroute(table, bad, nil); err == nil {
			t.Fatal("rules of an unknown issuer became active")
		}
		time.Sleep(time.Millisecond) // between reloads, for sales to go by each
	}
	stop.Store(true)
	sold.Wait()
	n := map[string]int{}
	list, err := s.journal.Last(t.Context(), 1_000_000)
	must(t, err)
	for _, e := range list {
		n[e.Issuer]++
	}
	t.Logf("%v sales went to %v", sales, n)
	if n["north"] == 0 || n["west"] == 0 || len(n) != 2 {
		t.Errorf("sales went to %v", n)
	}
	s.balanced()
}

package switching_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/store/storetest"
	switching "acquirer/switch"
)

// TestSoak lets sixteen terminals that do everything wrong that terminals do
// sell at four issuers in bad weather. When it is calm again every book says
// the same, and no secret lies about.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := 5 * time.Second
	if testing.Short() {
		length = 1500 * time.Millisecond
	}
	soak(t, length)
}

// TestSoakRouted is TestSoak with everything that routing may do: alternates
// for all, weights, breakers that open soon, and stand-in for two issuers.
func TestSoakRouted(t *testing.T) {
	t.Parallel()
	length := 4 * time.Second
	if testing.Short() {
		length = 1500 * time.Millisecond
	}
	rules := withRouting(t, `{"groups": [{"name": "safe", "primary": "own", "alternates": ["west"]}, {"name": "shared", "equals": [{"issuer": "own", "weight": 2}, {"issuer": "west", "weight": 1}]}],
		"rules": [{"name": "stripe", "entries": ["stripe", "keyed"], "to_amount": "30.00", "group": "shared"}, {"name": "north", "issuers": ["north"], "group": "safe"}],
		"stand_in": [{"issuer": "south", "amount": "60.00", "count": 1000, "sum": "60000.00", "entries": ["chip", "contactless", "stripe"], "kinds": ["debit"]},
			{"issuer": "east", "amount": "60.00", "count": 1000, "sum": "60000.00", "entries": ["chip", "contactless", "stripe"], "kinds": ["debit"]}]}`)
	s := soak(t, length, rules, func(p *streetPlan) {
		p.breaker = routing.BreakerConfig{Streak: 3, Percent: 50, Least: 10, Window: time.Second, Pause: 200 * time.Millisecond}
	})
	moved, stoodIn, opened := s.metric("acquirer_route_failovers_total"), s.metric("acquirer_stand_in_total", "approved"), 0
	for _, b := range s.sw.Breakers() {
		opened += int(b.Opened)
	}
	t.Logf("%v went to another issuer at the door, %v were approved by the house, breakers opened %d times", moved, stoodIn, opened)
	if opened == 0 && !testing.Short() {
		t.Error("no breaker opened in the whole soak")
	}
}

// TestSoakOnPostgreSQL is TestSoak on the other engine.
func TestSoakOnPostgreSQL(t *testing.T) {
	t.Parallel()
	length := 3 * time.Second
	if testing.Short() {
		length = time.Second
	}
	soak(t, length, withStore(storetest.PostgresURL(t)))
}

// TestFlowsOnPostgreSQL: the stories go the same way on the other engine.
func TestFlowsOnPostgreSQL(t *testing.T) {
	if *rewrite {
		t.Skip("the stories are written by TestFlows")
	}
	eachFlow(t, func(t *testing.T) []streetOption { return []streetOption{withStore(storetest.PostgresURL(t))} })
}

func soak(t *testing.T, length time.Duration, options ...streetOption) *street {
	const timeout = 150 * time.Millisecond
	secrets := newCanaries()
	s := newStreet(t, append(options, withTerminals(16), withTimeout(timeout), withLine(secrets.tap),
		withConfig(func(c *switching.Config) { c.Owed.MaxAttempts, c.Owed.BackoffMax = 1000, 50*time.Millisecond }))...)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	tally := &tally{n: map[string]int{}}
	var terminals []*terminal.Terminal
	var work []func(context.Context)
	for i := range 16 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		term := s.terminal(i, func(c *terminal.Config) {
			c.Profile.KeySet = []int{3, 4, 1}[i%3]
			secrets.watch(c)
		})
		terminals = append(terminals, term)
		var cards []*simcard.Card
		for k, is := range simcard.Issuers {
			c, err := simcard.New(is.PAN(int(rng.Uint32N(1 << 30))))
			must(t, err)
			secrets.addCard(t, c)
			if cards = append(cards, c); k == 0 {
				lost, err := simcard.New(is.PANWith(simcard.Lost, 1000*i+271_828))
				must(t, err)
				secrets.addCard(t, lost)
				cards = append(cards, lost)
			}
		}
		must(t, term.SignIn(t.Context()))
		work = append(work, func(ctx context.Context) {
			for ctx.Err() == nil {
				tally.add(misbehave(term, cards, rng))
			}
		})
	}
	work = append(work, func(ctx context.Context) { s.storms(ctx, rand.New(rand.NewPCG(seed, 99)), timeout) })
	for began := time.Now(); time.Since(began) < patience && (time.Since(began) < length || tally.missing() != nil); { // again where a busy machine did too little
		ctx, cancel := context.WithTimeout(t.Context(), length)
		var all sync.WaitGroup
		for _, f := range work {
			all.Go(func() { f(ctx) })
		}
		all.Wait()
		cancel()
	}

	for name := range s.issuers {
		s.weather(name, issuer.Weather{})
		must(t, s.legs[name].Issuer.AwaitUp(t.Context()))
	}
	for _, term := range terminals {
		await(t, "every terminal knows what became of its sales", func() bool {
			if term.Pending() {
				_, err := term.Reverse(t.Context(), terminal.Reversal{})
				tally.add("in the end", err)
			}
			return !term.Pending()
		})
	}
	t.Log(tally.n)
	for _, f := range []terminal.Failure{terminal.ErrMAC, terminal.ErrFormat, terminal.ErrMismatch, terminal.ErrARPC, terminal.ErrKeys} {
		if n := tally.n[string(f)]; n > 0 {
			t.Errorf("%d answers were not to be believed: %s", n, f)
		}
	}
	if none := tally.missing(); none != nil {
		t.Errorf("no %s in the whole soak", none)
	}
	s.balanced()
	s.keepsSecrets(secrets)
	return s
}

// tally counts what terminals did, and what came of it.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

// missing are those that no soak may be without and this one has not seen.
func (c *tally) missing() (none []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, want := range []string{"sale", "approved", "reversal", "twice"} {
		if c.n[want] == 0 {
			none = append(none, want)
		}
	}
	return none
}

func (c *tally) add(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
	var f terminal.Failure
	var r *terminal.Refusal
	var code codeHeard
	switch {
	case errors.As(err, &code):
		c.n[string(code)]++
	case errors.As(err, &f):
		c.n[string(f)]++
	case errors.As(err, &r):
		c.n["refused with "+r.Code]++
	case err != nil:
		c.n[err.Error()]++
	}
}

// codeHeard is an answer, counted like a failure.
type codeHeard string

func (c codeHeard) Error() string { return string(c) }

// misbehave does one thing that a terminal does, right or wrong.
func misbehave(term *terminal.Terminal, cards []*simcard.Card, rng *rand.Rand) (what string, err error) {
	ctx := context.Background() // a deadline in the middle would be one more fault, of the test
	card := cards[rng.IntN(len(cards))]
	entry := []terminal.Entry{terminal.Chip, terminal.Contactless, terminal.Stripe, terminal.Keyed}[rng.IntN(4)]
	if !card.HasChip && entry < terminal.Stripe {
		entry = terminal.Stripe
	}
	sale := terminal.Sale{Amount: money.Yuan(int64(4 + rng.IntN(50))), Card: card, Entry: entry}
	if rng.IntN(2) == 0 {
		sale.PIN = card.PIN
	}
	what = "sale"
	switch n := rng.IntN(100); {
	case n < 12:
		if _, err := term.Reverse(ctx, terminal.Reversal{}); err != nil {
			return "reversal", err
		}
		return "reversal", nil
	case n < 14:
		return "sign-in", term.SignIn(ctx)
	case n < 16:
		return "hang up", term.Close()
	case n < 24:
		what, sale.Fault = "twice", &terminal.Fault{Twice: true}
	case n < 28:
		what, sale.Fault = "wrong MAC", &terminal.Fault{WrongMAC: true}
	case n < 30:
		what, sale.Fault = "no MAC", &terminal.Fault{NoMAC: true}
	case n < 34:
		what, sale.Fault = "drop the answer", &terminal.Fault{DropAnswer: true}
	case n < 38:
		what, sale.Fault = "hang up before the answer", &terminal.Fault{HangUp: true}
	case n < 40:
		what, sale.Fault = "withhold", &terminal.Fault{Withhold: true}
	case n < 42:
		sale.PIN = "000000"
	}
	res, err := term.Sale(ctx, sale)
	switch {
	case err == nil && res.Approved():
		err = codeHeard("approved")
	case err == nil:
		err = codeHeard("declined " + res.Code)
	}
	return what, err
}

// storms changes the weather of every issuer now and then, drops its lines and
// rolls its keys, until ctx ends.
func (s *street) storms(ctx context.Context, rng *rand.Rand, timeout time.Duration) {
	change := time.NewTicker(100 * time.Millisecond)
	defer change.Stop()
	names := []string{"north", "south", "east", "west"}
	for {
		name := names[rng.IntN(len(names))]
		host := s.issuers[name]
		switch rng.IntN(12) {
		case 0:
			host.DropLines()
		case 1:
			s.weather(name, issuer.Weather{Closed: true})
		case 2, 3:
			roll, cancel := context.WithTimeout(ctx, time.Second)
			use := routing.ZPK
			if rng.IntN(2) == 0 {
				use = routing.ZAK
			}
			_ = host.RollKey(roll, use) // on a line that another storm has just dropped it fails
			cancel()
		default:
			share := func(most float64) float64 { return rng.Float64() * most }
			s.weather(name, issuer.Weather{Delay: time.Duration(share(float64(timeout) / 10)), Jitter: time.Duration(share(float64(timeout))),
				Drop: share(.02), Lost: share(.03), Silent: share(.05), Late: share(.05), Twice: share(.1), Declined: share(.1),
				LostReversals: share(.5), DeafReversals: share(.4)})
		}
		select {
		case <-ctx.Done():
			return
		case <-change.C:
		}
	}
}

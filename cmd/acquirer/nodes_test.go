package main

import (
	"slices"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"acquirer/simulate/issuer"
	"acquirer/store/storetest"
)

// Two nodes share a PostgreSQL, and one dies with transactions open and with
// reversals on their way. Its terminals go to the other, which sends what the
// dead one was sending when its leases run out, and takes back what it left
// open when the longest life of a transaction is over. That takes minutes:
// make crash runs it.
func TestFaultOfANode(t *testing.T) {
	rounds(t)
	t.Parallel()
	s := openStreet(t, streetOf{database: storetest.PostgresURL(t), seed: crashSeed(t), limit: 10 * time.Minute, weather: &issuer.Weather{}})
	defer s.close()
	weather := func(w issuer.Weather) {
		for _, host := range s.issuers {
			if err := host.SetWeather(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The door is what a load balancer is: terminals know nothing else.
	second, secondAdmin := freeAddr(t), freeAddr(t)
	door := proxy(t, "door", s.terminal)
	s.terminal = door.Listen
	instead := func(args []string, name, value string) []string {
		args = slices.Clone(args)
		args[slices.Index(args, name)+1] = value
		return args
	}
	one := spawn(t, nil, append(slices.Clone(s.args), "--node", "1")...)
	two := spawn(t, nil, append(instead(instead(s.args, "--terminals-listen", second), "--admin-listen", secondAdmin), "--node", "2")...)
	if _, ok := two.stderr.await(s.ctx, `"msg":"listening"`); !ok {
		t.Fatalf("the second node does not listen:\n%s", two.stderr.tail(20))
	}
	s.awaitListening(one)
	s.awaitSales(2 * crashTerminals)
	weather(issuer.Weather{Silent: 1, LostReversals: 1})
	s.awaitSales(2 * crashTerminals)
	inFlight := s.crash(one)
	began := time.Now()
	s.metrics = "http://" + secondAdmin + "/metrics"
	if inFlight == 0 {
		t.Error("the node died with nothing in flight: nothing is proved")
	}
	// Its terminals stay away until then, or they would take back themselves
	// what they had heard no answer to.
	weather(issuer.Weather{})
	if _, ok := two.stderr.await(s.ctx, "transactions were lost past their deadline"); !ok {
		t.Fatalf("the dead node's transactions are not taken over:\n%s", two.stderr.tail(20))
	}
	t.Logf("%d in flight at the death of the first node; the second took over what it left open after %s", inFlight, time.Since(began).Round(time.Second))
	if err := door.Update(&toxiproxy.Proxy{Listen: door.Listen, Upstream: second, Enabled: true}); err != nil {
		t.Fatal(err)
	}
	s.opened()
	s.awaitSales(2 * crashTerminals)
	s.calm()
	s.awaitNothingOwed(two)
	if status := two.stop(t); status != 0 {
		t.Errorf("told to stop, it ended with status %d:\n%s", status, two.stderr.tail(20))
	}
	e, v := s.evidence()
	sent, open := 0, 0 // by the second, of the first
	for _, j := range e.journal {
		switch {
		case j.Node != 1 || j.Debt == nil || !j.Debt.Ended.After(began):
		case j.Outcome.Closed.After(began):
			open++
		default:
			sent++
		}
	}
	t.Logf("%d transactions at the terminals: %v; of the dead node's %d were left open and %d reversals on their way", len(e.told), s.book.Count(), open, sent)
	if open == 0 || sent == 0 {
		t.Error("the second node took over nothing of one kind: the test proves less than it should")
	}
	e.holds(t, v, s.database)
}

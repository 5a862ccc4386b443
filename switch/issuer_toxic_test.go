package switching_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"acquirer/journal"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/simulate/issuer"
	"acquirer/spec"
	switching "acquirer/switch"
)

// The faults of the wire between the house and an issuer, made by Toxiproxy
// between real sockets: what the bytes go through, neither end knows of.

// network is the way to the issuer north: a proxy for each line.
type network struct {
	t       testing.TB
	proxies []*toxiproxy.Proxy
}

// newNetwork gives the option that puts the proxies between; change may set
// more of north's lines.
func newNetwork(t testing.TB, lines int, change func(*routing.Config)) (*network, streetOption) {
	n := &network{t: t}
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	return n, withLine(func(c *routing.Config) {
		if c.Name != "north" {
			return
		}
		to := c.Addrs[0]
		c.Addrs = nil
		for k := range lines {
			p := toxiproxy.NewProxy(api, fmt.Sprint("north-", k+1), "127.0.0.1:0", to)
			must(t, p.Start())
			t.Cleanup(p.Stop)
			n.proxies = append(n.proxies, p)
			c.Addrs = append(c.Addrs, p.Listen)
		}
		if change != nil {
			change(c)
		}
	})
}

// poison puts a toxic on a line, numbered from 1: upstream is towards the
// issuer.
func (n *network) poison(line int, stream, kind, attributes string) {
	n.t.Helper()
	_, err := n.proxies[line-1].Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
		`{"name": "%s_%s", "type": %q, "stream": %q, "toxicity": 1, "attributes": {%s}}`, kind, stream, kind, stream, attributes)))
	must(n.t, err)
}

// heal takes every toxic away; a line that broke comes back by itself.
func (n *network) heal() {
	for _, p := range n.proxies {
		p.Toxics.ResetToxics(n.t.Context())
	}
}

// up waits until north's first line has broken so often and carries traffic
// again.
func (s *street) up(drops int) {
	s.t.Helper()
	await(s.t, fmt.Sprint("the line is up after ", drops, " drops"), func() bool {
		l := s.legs["north"].Issuer.State().Lines[0]
		return l.Drops >= uint64(drops) && l.SignedOn
	})
}

// once waits until the issuer has n transactions in a state.
func (s *street) once(what string, state issuer.State, n int) {
	s.t.Helper()
	await(s.t, what, func() bool { return s.states("north")[state] == n })
}

// requestSize is the length of the sale that went to north last, as its trace
// has it, with the header of CUPS.
func (s *street) requestSize() int {
	s.t.Helper()
	list, err := s.journal.Last(s.t.Context(), 1)
	must(s.t, err)
	traces, _ := s.sw.Trace(list[0].ID)
	for _, tr := range traces {
		for _, m := range tr.Messages {
			if m.To == "issuer" {
				return spec.CUPSHeaderSize + m.Bytes
			}
		}
	}
	s.t.Fatal("the sale was not traced")
	return 0
}

// Fault 23: the line breaks inside the request, at any of its bytes. What was
// written is not known to have been read, so it is in doubt; the issuer books
// nothing of a part of a message, and the reversal does no harm.
func TestFault23_RequestCutAnywhere(t *testing.T) {
	t.Parallel()
	net, option := newNetwork(t, 1, nil)
	// A reversal that was answered 25 comes again, but not into the next fault.
	calm := withConfig(func(c *switching.Config) { c.Owed.Backoff, c.Owed.BackoffMax = time.Hour, time.Hour })
	s := newStreet(t, option, calm, withTimeout(slower*2*time.Second), withRules([]limits.Rule{{Scope: limits.Card, DayAmount: money.Yuan(100)}}))
	d := s.device(t, 4)
	w := s.wire(t)
	card := pan(t, "north", 33)
	sell := func() string {
		t.Helper()
		return w.ask(d.frame(t, d.sale(money.Yuan(100), card))).Text(39)
	}
	s.up(0)
	if rc := sell(); rc != "00" {
		t.Fatalf("before the faults: answered %s", rc)
	}
	size := s.requestSize()
	card = pan(t, "north", 34)
	step := 23
	if testing.Short() {
		step = 101
	}
	offsets := []int{1, 45, 46, 47, size - 1}
	for at := 2; at < size-1; at += step {
		offsets = append(offsets, at)
	}
	for i, at := range offsets {
		s.up(i)
		s.quiet()
		net.poison(1, "upstream", "limit_data", fmt.Sprintf(`"bytes": %d`, at))
		if rc := sell(); rc != "98" {
			t.Errorf("cut after %d of %d bytes: answered %s", at, size, rc)
		}
		net.heal()
	}
	s.up(len(offsets))
	if got := s.states("north"); got[issuer.Approved] != 1 || got[issuer.Reversed] != 0 {
		t.Errorf("the issuer has %v, want the first sale alone", got)
	}
	s.balanced()
	// The card's limit of one sale was given back every time.
	if rc := sell(); rc != "00" {
		t.Errorf("healed: answered %s", rc)
	}
	s.balanced()
}

// Fault 24: the line breaks behind the request, by a reset or by a network that
// swallows what comes back. The issuer has booked it; the reversal undoes it.
func TestFault24_AnswerNeverComes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, attributes string }{{"reset_peer", `"timeout": 0`}, {"timeout", `"timeout": 0`}, {"limit_data", `"bytes": 60`}} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			net, option := newNetwork(t, 1, nil)
			s := newStreet(t, option, withTimeout(slower*300*time.Millisecond))
			d := s.device(t, 4)
			w := s.wire(t)
			for i := range 5 {
				s.up(i)
				s.quiet()
				net.poison(1, "downstream", c.kind, c.attributes)
				if rc := w.ask(d.frame(t, d.sale(money.Yuan(60), pan(t, "north", 35+i)))).Text(39); rc != "98" {
					t.Errorf("answered %s", rc)
				}
				net.heal()
				s.once("the issuer has taken it back", issuer.Reversed, i+1)
			}
			s.balanced()
		})
	}
}

// Fault 25 by the network: answers take longer than they may, then less. The
// late ones decide nothing.
func TestFault25_LatencyAroundTheDeadline(t *testing.T) {
	t.Parallel()
	const timeout = slower * 400 * time.Millisecond
	seen := make(chan routing.StrayKind, 1000)
	net, option := newNetwork(t, 1, func(c *routing.Config) { c.Observe = func(st routing.Stray) { seen <- st.Kind } })
	s := newStreet(t, option, withTimeout(timeout))
	d := s.device(t, 4)
	w := s.wire(t)
	sell := func(i int) string {
		t.Helper()
		return w.ask(d.frame(t, d.sale(money.Yuan(61), pan(t, "north", 40+i)))).Text(39)
	}
	net.poison(1, "downstream", "latency", fmt.Sprintf(`"latency": %d, "jitter": 0`, (timeout+200*time.Millisecond).Milliseconds()))
	for i := range 2 {
		if rc := sell(i); rc != "98" {
			t.Errorf("late: answered %s", rc)
		}
		awaitStray(t, seen, routing.Late)
	}
	net.heal()
	net.poison(1, "downstream", "latency", fmt.Sprintf(`"latency": %d, "jitter": %d`, (timeout/4).Milliseconds(), (timeout/8).Milliseconds()))
	late := 2
	for i := range 20 {
		rc := sell(2 + i)
		if rc == "00" && i-late+2 == 2 {
			break // the third that was slow, and in time
		}
		if rc == "98" {
			late++ // this machine stood still
		} else if rc != "00" || i == 19 {
			t.Fatalf("slow, and in time: answered %s; %d of %d late", rc, late-2, i+1)
		}
	}
	net.heal()
	s.once("the late ones are taken back", issuer.Reversed, late)
	s.balanced()
}

// Frames come in pieces of any size, both ways: nothing is lost and nothing is
// taken for another's.
func TestFault26_SlicedFrames(t *testing.T) {
	t.Parallel()
	net, option := newNetwork(t, 1, nil)
	s := newStreet(t, option, withTimeout(slower*10*time.Second))
	for _, stream := range []string{"upstream", "downstream"} {
		net.poison(1, stream, "slicer", `"average_size": 7, "size_variation": 6, "delay": 50`)
	}
	d := s.device(t, 7)
	w := s.wire(t)
	for i := range 10 {
		if rc := w.ask(d.frame(t, d.sale(money.Yuan(62), pan(t, "north", 50+i)))).Text(39); rc != "00" {
			t.Errorf("answered %s", rc)
		}
	}
	s.balanced()
}

// Fault 28: the original hangs in the network of one line, which is taken out
// of service, and its reversal overtakes it on the other. The issuer answers 25, which is
// not final: the reversal stays on the list, and the original that arrives
// behind it stands nowhere.
func TestFault28_ReversalOvertakesItsOriginal(t *testing.T) {
	t.Parallel()
	net, option := newNetwork(t, 2, nil)
	s := newStreet(t, option, withTimeout(slower*300*time.Millisecond), withConfig(func(c *switching.Config) { c.Owed.MaxAttempts = 3 }))
	d := s.device(t, 4)
	w := s.wire(t)
	both := func() bool {
		st := s.legs["north"].Issuer.State()
		return st.Lines[0].SignedOn && st.Lines[1].SignedOn
	}
	await(t, "both lines are up", both)
	net.poison(1, "upstream", "latency", fmt.Sprintf(`"latency": %d, "jitter": 0`, (slower*time.Second).Milliseconds()))
	north, sold := s.legs["north"].Issuer, 0
	for hangs := false; !hangs; sold++ { // until one goes by line 1, as every second trace number does
		w.send(d.frame(t, d.sale(money.Yuan(63), pan(t, "north", 60+sold))))
		await(t, "the sale has left", func() bool {
			hangs = north.State().Lines[0].InFlight > 0
			return hangs || s.states("north")[issuer.Approved] > sold
		})
		want := "00"
		if hangs {
			want = "98"
			must(t, north.Drain(1))
		}
		if rc := w.answer().Text(39); rc != want || sold > 20 {
			t.Fatalf("sale %d: answered %s, want %s", sold, rc, want)
		}
	}
	s.once("the reversal came first", issuer.Unknown, 1)
	list, err := s.journal.DebtList(t.Context(), journal.Owed, 10)
	must(t, err)
	if len(list) != 1 {
		t.Errorf("%d reversals on the list, want the one whose original may still come", len(list))
	}
	await(t, "the original arrived behind its reversal", func() bool {
		for _, e := range s.issuers["north"].Books() {
			if e.State == issuer.Unknown && e.Repeats > 0 {
				return true
			}
		}
		return false
	})
	if got := s.states("north"); got[issuer.Approved] != sold-1 || got[issuer.Unknown] != 1 {
		t.Errorf("the issuer has %v, want %d sales, and one that its reversal overtook", got, sold-1)
	}
	s.quiet()
	list, err = s.journal.DebtList(t.Context(), journal.Owed, 10)
	must(t, err)
	if len(list) != 1 || !strings.HasPrefix(list[0].Debt.Note, "answered 25") {
		t.Errorf("on the list are %d reversals, want the one that was answered 25", len(list))
	}
	s.balanced()
}

// Fault 32: the line flaps. It comes back each time with a new sign-on and new
// keys; what was under way owes a reversal, what could not leave owes nothing.
func TestFault32_FlappingLine(t *testing.T) {
	t.Parallel()
	net, option := newNetwork(t, 1, nil)
	s := newStreet(t, option, withTimeout(slower*500*time.Millisecond))
	d := s.device(t, 4)
	w := s.wire(t)
	codes := map[string]int{}
	sell := func(i int) {
		t.Helper()
		codes[w.ask(d.frame(t, d.sale(money.Yuan(64), pan(t, "north", 70+i)))).Text(39)]++
	}
	for i := range 6 {
		s.up(2 * i)
		s.quiet()
		sell(3 * i)
		net.poison(1, "downstream", "reset_peer", `"timeout": 0`)
		sell(3*i + 1)
		net.heal()
		s.up(2*i + 1)
		net.proxies[0].Stop()
		await(t, "the line is down", func() bool { return !s.legs["north"].Issuer.Up() })
		sell(3*i + 2)
		must(t, net.proxies[0].Start())
	}
	s.up(12)
	if codes["00"] != 6 || codes["98"] != 6 || codes["91"] != 6 {
		t.Errorf("answers %v, want six each of 00, 98 and 91", codes)
	}
	if st := s.legs["north"].Issuer.State(); st.Lines[0].Drops < 12 {
		t.Errorf("%d drops", st.Lines[0].Drops)
	}
	s.once("all that was under way is taken back", issuer.Reversed, 6)
	s.balanced()
}

package switching_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

// The faults on the terminals' side, each named by its number in the fault
// matrix of docs/ARCHITECTURE.md, against a whole house. The issuers' side is
// in issuer_faults_test.go, store and process in store_faults_test.go.

// booked waits until an issuer has n lines in its books.
func (s *street) booked(t testing.TB, bank string, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%s has booked %d", bank, n), func() bool { return len(s.issuers[bank].Books()) >= n })
}

// gate keeps what comes from the issuers while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

// option puts the gate into the lines to the issuers named, or to all.
func (g *gate) option(issuers ...string) streetOption {
	return withLine(func(c *routing.Config) {
		if len(issuers) > 0 && !slices.Contains(issuers, c.Name) {
			return
		}
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			return &gated{conn, g}, nil
		}
	})
}

// shut shuts the gate until answer is called.
func (g *gate) shut() (answer func()) {
	open := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = open
	return func() { close(open) }
}

// gated is a line that is read through a gate.
type gated struct {
	net.Conn
	g *gate
}

func (c *gated) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.g.mu.Lock()
	open := c.g.open
	c.g.mu.Unlock()
	<-open
	return n, err
}

// states are the states of an issuer's books, with how often each occurs.
func (s *street) states(bank string) map[issuer.State]int {
	n := map[issuer.State]int{}
	for _, e := range s.issuers[bank].Books() {
		n[e.State]++
	}
	return n
}

func (s *street) weather(bank string, w issuer.Weather) {
	s.t.Helper()
	must(s.t, s.issuers[bank].SetWeather(w))
}

// sameButMAC compares two signed frames up to their MAC.
func sameButMAC(a, b []byte) bool {
	return len(a) == len(b) && len(a) > 8 && bytes.Equal(a[:len(a)-8], b[:len(b)-8])
}

// Fault 2: the terminal is gone before the approval. When its connection is
// known to be dead the house takes the approval back by itself; when it only
// closed its side, the terminal's own reversal does.
func TestFault2_DisconnectBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.weather("north", issuer.Weather{Delay: 200 * time.Millisecond})

	d := s.device(t, 4)
	w := s.wire(t)
	w.send(d.frame(t, d.sale(money.Yuan(20), pan(t, "north", 10))))
	s.booked(t, "north", 1)
	must(t, w.conn.(*net.TCPConn).SetLinger(0)) // a reset instead of an end
	must(t, w.conn.Close())
	await(t, "the approval was taken back", func() bool { return s.metric("acquirer_undelivered_total") == 1 })
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 1 {
		t.Errorf("the issuer has %v", got)
	}

	ctx := context.Background()
	term := s.terminal(5)
	must(t, term.SignIn(ctx))
	c := chipCard(t, "north", 11)
	if _, err := term.Sale(ctx, terminal.Sale{Amount: money.Yuan(21), Card: c, PIN: c.PIN, Fault: &terminal.Fault{HangUp: true}}); err == nil {
		t.Fatal("a terminal that hung up has an answer")
	}
	s.booked(t, "north", 2)
	if res, err := term.Reverse(ctx, terminal.Reversal{}); err != nil || res.Code != "00" {
		t.Errorf("the reversal was answered %q, %v", res.Code, err)
	}
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 2 {
		t.Errorf("the issuer has %v", got)
	}
}

// Fault 3: the answer was written and never arrived. The terminal's 0400 takes
// the sale back, and when its 0410 is lost too, the repeat hears the same and
// changes nothing.
func TestFault3_AnswerLost(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	sale := d.sale(money.Yuan(30), pan(t, "north", 12))
	if a := w.ask(d.frame(t, sale)); a.Text(39) != "00" {
		t.Fatalf("answered %s", a.Text(39))
	}
	back := d.frame(t, d.reversal(sale, "98"))
	first := w.ask(back)
	firstFrame := bytes.Clone(w.body)
	if first.Text(39) != "00" || !d.signed(first) {
		t.Errorf("0400 answered %s", first.Text(39))
	}
	s.quiet()
	nextSecond(t)
	for range 3 {
		second := w.ask(back)
		if second.Text(39) != "00" || !sameButMAC(firstFrame, w.body) {
			t.Errorf("the repeated 0400 was answered otherwise:\n%X\n%X", firstFrame, w.body)
		}
	}
	// A repeat of the sale itself hears that it was taken back.
	if a := w.ask(d.frame(t, sale)); a.Text(39) != "98" {
		t.Errorf("the sale, repeated behind its reversal, was answered %s", a.Text(39))
	}
	s.balanced()
	for _, e := range s.issuers["north"].Books() {
		if e.State != issuer.Reversed || e.Reversals != 1 || e.Repeats != 0 {
			t.Errorf("the issuer has %s, reversed %d times, repeated %d times", e.State, e.Reversals, e.Repeats)
		}
	}
}

// nextSecond waits for it: answers hold the time to the second.
func nextSecond(t testing.TB) {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	await(t, "the next second", func() bool { return time.Now().Truncate(time.Second).After(now) })
}

// Fault 9: a repeat of what was decided gets the first answer and reaches no
// issuer.
func TestFault9_Repeat(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	for _, c := range []struct {
		amount money.Amount
		rc     string
	}{{money.Yuan(40), "00"}, {money.Yuan(40) + 51, "51"}, {money.Yuan(50_001), "61"}} {
		frame := d.frame(t, d.sale(c.amount, pan(t, "north", 13)))
		first := w.ask(frame)
		firstFrame := bytes.Clone(w.body)
		if first.Text(39) != c.rc {
			t.Fatalf("%s answered %s, want %s", c.amount, first.Text(39), c.rc)
		}
		for range 3 {
			if w.ask(frame); !bytes.Equal(firstFrame, w.body) {
				t.Errorf("%s: the repeat was answered otherwise:\n%X\n%X", c.amount, firstFrame, w.body)
			}
		}
	}
	s.balanced()
	if books := s.issuers["north"].Books(); len(books) != 2 || books[0].Repeats+books[1].Repeats != 0 {
		t.Errorf("the issuer saw %d sales, with repeats", len(books))
	}
}

// Fault 10: the same bytes on a second connection while the first waits. One
// leg to the issuer, one answer, given twice.
func TestFault10_RepeatInFlight(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.weather("north", issuer.Weather{Delay: 300 * time.Millisecond})
	d := s.device(t, 4)
	frame := d.frame(t, d.sale(money.Yuan(41), pan(t, "north", 14)))
	first, second, third := s.wire(t), s.wire(t), s.wire(t)
	first.send(frame)
	second.send(frame) // beside it: nobody knows which is first
	s.booked(t, "north", 1)
	third.send(frame) // surely behind
	var bodies [][]byte
	for _, w := range []*wire{first, second, third} {
		if a := w.answer(); a.Text(39) != "00" {
			t.Errorf("answered %s", a.Text(39))
		}
		bodies = append(bodies, w.body)
	}
	if !bytes.Equal(bodies[0], bodies[1]) || !bytes.Equal(bodies[0], bodies[2]) {
		t.Errorf("three answers to one message:\n%X\n%X\n%X", bodies[0], bodies[1], bodies[2])
	}
	s.balanced()
	if books := s.issuers["north"].Books(); len(books) != 1 || books[0].Repeats != 0 {
		t.Errorf("the issuer saw %d sales", len(books))
	}
}

// Fault 11: the same trace number for something else is refused with 94,
// decided or not, and changes nothing of the first.
func TestFault11_SameTraceNumber(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	first := d.sale(money.Yuan(42), pan(t, "north", 15))
	others := func(stage string) {
		t.Helper()
		for what, change := range map[string]func(*spec.Message){
			"another amount":     func(m *spec.Message) { m.SetInt(4, 4300) },
			"another card":       func(m *spec.Message) { m.Set(2, pan(t, "north", 16).Reveal()) },
			"another entry mode": func(m *spec.Message) { m.Set(22, "022") }, // and no track: refused, were it new
		} {
			m := clone(first)
			change(m)
			if rc := w.ask(d.frame(t, m)).Text(39); rc != "94" {
				t.Errorf("%s, %s: answered %s, want 94", stage, what, rc)
			}
		}
	}
	s.weather("north", issuer.Weather{Delay: 300 * time.Millisecond})
	waiting := s.wire(t)
	waiting.send(d.frame(t, first))
	s.booked(t, "north", 1)
	others("in flight")
	if a := waiting.answer(); a.Text(39) != "00" {
		t.Errorf("the first was answered %s", a.Text(39))
	}
	others("decided")
	s.balanced()
	if books := s.issuers["north"].Books(); len(books) != 1 {
		t.Errorf("the issuer saw %d sales", len(books))
	}
}

// Fault 13: a message with one wrong bit, or without its MAC, has no effect.
func TestFault13_EveryBit(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	other := s.device(t, 5) // neighbours whose numbers are one bit away have keys too
	s.device(t, 6)
	w := s.wire(t)
	const body = 13

	flip := func(what string, good []byte, forbidden ...string) {
		t.Helper()
		for bit := range (len(good) - body) * 8 {
			frame := bytes.Clone(good)
			frame[body+bit/8] ^= 0x80 >> (bit % 8)
			must(t, w.trySend(frame))
			if _, err := w.receive(); err != nil {
				w = s.wire(t) // what cannot be told from an answer is not answered
				continue
			}
			var a spec.Message
			must(t, spec.UnionPayPOS.Parse(&a, w.body[11:]))
			for _, rc := range append(forbidden, "00") {
				if a.Text(39) == rc {
					t.Fatalf("%s with bit %d flipped was answered %s", what, bit, rc)
				}
			}
		}
	}
	flip("a sale", d.frame(t, d.sale(money.Yuan(50), pan(t, "north", 17))))

	// The MAC of another terminal, of another message, cut off, of zeros, and
	// right but announced as something else.
	sale := d.sale(money.Yuan(50), pan(t, "north", 17))
	foreign := d.frame(t, sale)
	other.sign(foreign)
	zeros := d.frame(t, sale)
	copy(zeros[len(zeros)-8:], "00000000")
	small := clone(sale)
	small.SetInt(4, 1)
	swapped := d.frame(t, sale)
	copy(swapped[len(swapped)-8:], d.frame(t, small)[len(swapped)-8:])
	bare := clone(sale)
	bare.Unset(64)
	for what, frame := range map[string][]byte{"another terminal's MAC": foreign, "a MAC of zeros": zeros, "another message's MAC": swapped, "no MAC": d.frame(t, bare)} {
		a := w.ask(frame)
		if a.Text(39) != "A0" {
			t.Errorf("%s: answered %s, want A0", what, a.Text(39))
		}
	}
	stripped := d.frame(t, sale) // bit 64 off, its eight bytes still there
	stripped[body+2+7] &^= 1
	if a := w.ask(stripped); a.Text(39) != "30" {
		t.Errorf("bit 64 stripped: answered %s, want 30", a.Text(39))
	}
	unsigned := &device{tid: "10000008", mid: "898110054110002", batch: 1, keys: d.keys} // has never signed in
	if a := w.ask(unsigned.frame(t, unsigned.sale(money.Yuan(50), pan(t, "north", 17)))); a.Text(39) != "A0" || a.Has(64) {
		t.Errorf("a terminal without keys: answered %s", a.Text(39))
	}
	if rows := s.journalOf(d.tid); len(rows) > 0 {
		t.Fatalf("%d messages with a wrong MAC are in the journal", len(rows))
	}
	if n := len(s.issuers["north"].Books()); n > 0 {
		t.Fatalf("%d messages with a wrong MAC reached the issuer", n)
	}
	if s.metric("acquirer_mac_failures_total") == 0 {
		t.Error("no MAC failure was counted")
	}

	// The same with a reversal: the sale stands whatever bit is flipped.
	if a := w.ask(d.frame(t, sale)); a.Text(39) != "00" {
		t.Fatalf("the good sale was answered %s", a.Text(39))
	}
	flip("a reversal", d.frame(t, d.reversal(sale, "98")), "25")
	s.balanced()
	if got := s.states("north"); got[issuer.Approved] != 1 {
		t.Errorf("the issuer has %v", got)
	}
}

// Fault 14: the terminal's 0400 while its sale is in flight, before, after and
// at the moment of the issuer's answer. The sale is never answered with an
// approval when its reversal was first, and never stands when it was reversed.
func TestFault14_ReversalInFlight(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	north := pan(t, "north", 18)
	asked, back := s.wire(t), s.wire(t)

	t.Run("before the sale", func(t *testing.T) {
		sale := d.sale(money.Yuan(60), north)
		if a := back.ask(d.frame(t, d.reversal(sale, "98"))); a.Text(39) != "25" {
			t.Errorf("0400 answered %s", a.Text(39))
		}
		if a := asked.ask(d.frame(t, sale)); a.Text(39) != "22" {
			t.Errorf("0200 answered %s", a.Text(39))
		}
		if n := len(s.issuers["north"].Books()); n != 0 {
			t.Errorf("the issuer saw %d sales", n)
		}
	})
	t.Run("while the issuer thinks", func(t *testing.T) {
		s.weather("north", issuer.Weather{Delay: 300 * time.Millisecond})
		sale := d.sale(money.Yuan(61), north)
		asked.send(d.frame(t, sale))
		s.booked(t, "north", 1)
		if a := back.ask(d.frame(t, d.reversal(sale, "98"))); a.Text(39) != "00" {
			t.Errorf("0400 answered %s", a.Text(39))
		}
		if a := asked.answer(); a.Text(39) != "98" {
			t.Errorf("0200 answered %s", a.Text(39))
		}
		s.balanced()
		if got := s.states("north"); got[issuer.Reversed] != 1 {
			t.Errorf("the issuer has %v", got)
		}
	})
	t.Run("while the issuer is silent", func(t *testing.T) {
		s.weather("north", issuer.Weather{Silent: 1})
		sale := d.sale(money.Yuan(62), north)
		asked.send(d.frame(t, sale))
		s.booked(t, "north", 2)
		if a := back.ask(d.frame(t, d.reversal(sale, "98"))); a.Text(39) != "00" {
			t.Errorf("0400 answered %s", a.Text(39))
		}
		if a := asked.answer(); a.Text(39) != "98" {
			t.Errorf("0200 answered %s", a.Text(39))
		}
		s.balanced()
	})
	t.Run("behind the answer", func(t *testing.T) {
		s.weather("north", issuer.Weather{})
		sale := d.sale(money.Yuan(63), north)
		if a := asked.ask(d.frame(t, sale)); a.Text(39) != "00" {
			t.Errorf("0200 answered %s", a.Text(39))
		}
		if a := back.ask(d.frame(t, d.reversal(sale, "98"))); a.Text(39) != "00" {
			t.Errorf("0400 answered %s", a.Text(39))
		}
		s.balanced()
	})
	// At the answer: many times, with the 0400 at a random moment around it.
	t.Run("at the answer", func(t *testing.T) {
		const delay = 5 * time.Millisecond
		s.weather("north", issuer.Weather{Delay: delay})
		heard := map[string]int{}
		for range 150 {
			sale := d.sale(money.Yuan(64), north)
			reversal := d.frame(t, d.reversal(sale, "98"))
			var answered *spec.Message
			var wg sync.WaitGroup
			wg.Go(func() { answered = asked.ask(d.frame(t, sale)) })
			<-time.After(rand.N(3 * delay))
			b := back.ask(reversal)
			wg.Wait()
			heard[answered.Text(39)+" and "+b.Text(39)]++
			switch answered.Text(39) + b.Text(39) {
			case "9800", "2225": // taken back before anything was told
			case "0000": // told, then taken back: the wire may have read the two the other way round
				s.told.taken(answered.Text(37))
			default:
				t.Errorf("sale answered %s, reversal %s", answered.Text(39), b.Text(39))
			}
		}
		t.Log(heard)
		s.balanced()
		if got := s.states("north"); got[issuer.Approved] != 0 {
			t.Errorf("the issuer has %v", got)
		}
	})
}

// Fault 15: a reversal that overtook its sale stays in force across a restart.
func TestFault15_Tombstone(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	sale := d.sale(money.Yuan(70), pan(t, "north", 19))
	if a := s.wire(t).ask(d.frame(t, d.reversal(sale, "98"))); a.Text(39) != "25" || !d.signed(a) {
		t.Errorf("0400 answered %s", a.Text(39))
	}
	s.reopen()
	for range 2 {
		if a := s.wire(t).ask(d.frame(t, sale)); a.Text(39) != "22" {
			t.Errorf("the sale behind its reversal was answered %s", a.Text(39))
		}
		if a := s.wire(t).ask(d.frame(t, d.reversal(sale, "98"))); a.Text(39) != "25" {
			t.Errorf("the repeated 0400 was answered %s", a.Text(39))
		}
	}
	s.balanced()
	if n := len(s.issuers["north"].Books()); n != 0 {
		t.Errorf("the issuer saw %d sales", n)
	}
}

// A reversal that names another amount or card changes nothing.
func TestReversalOfSomethingElse(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	sale := d.sale(money.Yuan(71), pan(t, "north", 20))
	if a := w.ask(d.frame(t, sale)); a.Text(39) != "00" {
		t.Fatalf("answered %s", a.Text(39))
	}
	for what, change := range map[string]func(*spec.Message){
		"amount": func(m *spec.Message) { m.SetInt(4, 7200) },
		"card":   func(m *spec.Message) { m.Set(2, pan(t, "north", 21).Reveal()) },
		"reason": func(m *spec.Message) { m.Set(39, "00") },
	} {
		m := d.reversal(sale, "98")
		change(m)
		if a := w.ask(d.frame(t, m)); a.Text(39) != map[string]string{"amount": "25", "card": "25", "reason": "30"}[what] {
			t.Errorf("another %s: answered %s", what, a.Text(39))
		}
	}
	other := s.device(t, 5) // its neighbour knows the trace number, and has none of its own
	other.stan = 0
	m := d.reversal(sale, "98")
	m.Set(41, other.tid)
	if a := w.ask(other.frame(t, m)); a.Text(39) != "25" {
		t.Errorf("another terminal: answered %s", a.Text(39))
	}
	s.balanced()
	if got := s.states("north"); got[issuer.Approved] != 1 {
		t.Errorf("the issuer has %v", got)
	}
}

// Faults 18 and 19: the sign-in's answer was lost, so the keys before it stay
// good until the new ones are used; a sale in flight is answered under the key
// it was signed with.
func TestFault18And19_KeyRoll(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	old := *d
	sell := func(with *device) *spec.Message {
		t.Helper()
		with.stan = max(with.stan, d.stan, old.stan)
		a := w.ask(with.frame(t, with.sale(money.Yuan(80), pan(t, "north", 22))))
		d.stan, old.stan = with.stan, with.stan
		return a
	}
	if a := sell(d); a.Text(39) != "00" || !d.signed(a) {
		t.Fatalf("answered %s", a.Text(39))
	}
	for range 3 { // three sign-ins whose answers nobody reads
		lost := s.wire(t)
		lost.send(d.frame(t, d.signInRequest()))
		_, err := lost.receive()
		must(t, err)
		if a := sell(&old); a.Text(39) != "00" || !old.signed(a) {
			t.Fatalf("under the keys before a lost sign-in: answered %s", a.Text(39))
		}
	}

	// In flight during a sign-in elsewhere: answered under the key it came with.
	s.weather("north", issuer.Weather{Delay: 300 * time.Millisecond})
	before := len(s.issuers["north"].Books())
	flying := s.wire(t)
	old.stan = max(old.stan, d.stan)
	m := old.sale(money.Yuan(81), pan(t, "north", 22))
	flying.send(old.frame(t, m))
	s.booked(t, "north", before+1)
	d.stan = old.stan
	d.signIn(t, s.wire(t))
	s.weather("north", issuer.Weather{})
	if a := sell(d); a.Text(39) != "00" || !d.signed(a) || old.signed(a) { // the first use of the new keys
		t.Fatalf("under the new keys: answered %s", a.Text(39))
	}
	if a := flying.answer(); a.Text(39) != "00" || !old.signed(a) || d.signed(a) {
		t.Fatalf("the sale in flight was answered %s, under another key than its own", a.Text(39))
	}
	// The new keys were used: the old ones are worth nothing.
	if a := sell(&old); a.Text(39) != "A0" {
		t.Errorf("under keys that were replaced: answered %s", a.Text(39))
	}
	s.reopen()
	w = s.wire(t)
	if a := sell(&old); a.Text(39) != "A0" {
		t.Errorf("under keys that were replaced, after a restart: answered %s", a.Text(39))
	}
	if a := sell(d); a.Text(39) != "00" {
		t.Errorf("under the new keys, after a restart: answered %s", a.Text(39))
	}
	s.balanced()
}

// Item 7 of the house's promises: a repeat hears what the first heard, but for
// the MAC, also under new keys, also for refusals, also from the next process.
func TestRepeatsByteForByte(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	type asked struct {
		what  string
		m     *spec.Message
		heard []byte
	}
	var all []asked
	ask := func(what string, rc string, m *spec.Message) {
		t.Helper()
		if a := w.ask(d.frame(t, m)); a.Text(39) != rc {
			t.Fatalf("%s: answered %s, want %s", what, a.Text(39), rc)
		}
		all = append(all, asked{what, m, bytes.Clone(w.body)})
	}
	north := pan(t, "north", 23)
	ask("approved", "00", d.sale(money.Yuan(90), north))
	ask("declined by the issuer", "51", d.sale(money.Yuan(90)+51, north))
	ask("over a limit", "61", d.sale(money.Yuan(50_001), north))
	ask("amount 0", "13", d.sale(0, north))
	foreign := d.sale(money.Yuan(91), north)
	foreign.Set(49, "840")
	ask("foreign currency", "13", foreign)
	nobodys := d.sale(money.Yuan(92), north)
	nobodys.Set(2, "4111111111111111")
	ask("no issuer", "15", nobodys)
	expired := d.sale(money.Yuan(93), north)
	expired.Set(14, "2001")
	ask("expired", "54", expired)
	ask("unanswered", "98", d.sale(money.Yuan(94)+98, north))
	back := d.sale(money.Yuan(95), north)
	if a := w.ask(d.frame(t, back)); a.Text(39) != "00" {
		t.Fatalf("answered %s", a.Text(39))
	}
	ask("reversed", "00", d.reversal(back, "98"))
	ask("reversal of nothing", "25", d.reversal(d.sale(money.Yuan(96), north), "98"))
	ask("reversal of a refusal", "00", d.reversal(expired, "06"))
	s.quiet()

	again := func(when string) {
		t.Helper()
		for _, x := range all {
			w.ask(d.frame(t, x.m))
			if !sameButMAC(x.heard, w.body) {
				t.Errorf("%s, %s: answered\n%X\nfirst\n%X", when, x.what, w.body, x.heard)
			}
		}
	}
	again("at once")
	nextSecond(t)
	again("later")
	d.signIn(t, w)
	again("after a sign-in")
	s.reopen()
	w = s.wire(t)
	again("after a restart")
	d.signIn(t, w)
	again("after a restart and a sign-in")
	s.balanced()
	for _, e := range s.issuers["north"].Books() {
		if e.Repeats > 0 {
			t.Errorf("%s reached the issuer %d times more", e.Amount, e.Repeats)
		}
	}
	for _, e := range s.journalOf(d.tid) {
		if e.Outcome.Reason == journal.Duplicate {
			t.Errorf("a repeat was journaled of its own")
		}
	}
}

// The terminal was switched off in the middle of a sale and reverses it days
// later, under new keys, before its next one.
func TestReversalDaysLater(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	for _, days := range []int{1, 3, 9} {
		sale := d.sale(money.Yuan(72), pan(t, "north", 24))
		if a := w.ask(d.frame(t, sale)); a.Text(39) != "00" {
			t.Fatalf("answered %s", a.Text(39))
		}
		rows := s.journalOf(d.tid)
		last := rows[len(rows)-1]
		s.change("update txn set day = $2 where id = $1", last.ID, last.Day.AddDays(-days))
		d.signIn(t, w)
		for range 2 {
			a := w.ask(d.frame(t, d.reversal(sale, "98")))
			if a.Text(39) != "00" || a.Text(37) != last.RRN {
				t.Errorf("%d days later: 0400 answered %s for %q", days, a.Text(39), a.Text(37))
			}
		}
	}
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 3 {
		t.Errorf("the issuer has %v", got)
	}
}

// Fault 12: a recording of yesterday, sent again while the terminal still has
// yesterday's keys, is the repeat that it is.
func TestFault12_ReplayOverTheCutOff(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	recording := d.frame(t, d.sale(money.Yuan(73), pan(t, "north", 25)))
	if a := s.wire(t).ask(recording); a.Text(39) != "00" {
		t.Fatalf("answered %s", a.Text(39))
	}
	s.change("update txn set day = $2 where id = $1", s.journalOf(d.tid)[0].ID, s.journalOf(d.tid)[0].Day.AddDays(-1))
	day := int64(24 * time.Hour / time.Microsecond)
	s.change("update merchant_terminal set signed_in = signed_in - $2 where tid = $1", d.tid, day)
	s.reopen() // the terminals are read anew
	for range 2 {
		if a := s.wire(t).ask(recording); a.Text(39) != "00" {
			t.Errorf("the replay was answered %s", a.Text(39))
		}
	}
	s.balanced()
	if books := s.issuers["north"].Books(); len(books) != 1 {
		t.Errorf("the issuer saw %d sales", len(books))
	}
}

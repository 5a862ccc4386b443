package switching_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/store"
	switching "acquirer/switch"
)

// The faults on the issuers' side; see faults_test.go.

// strays is an option that tells of every message of an issuer that found no
// caller: how a test awaits an answer that comes too late.
func strays() (streetOption, <-chan routing.StrayKind) {
	ch := make(chan routing.StrayKind, 1000)
	return withLine(func(c *routing.Config) {
		c.Observe = func(st routing.Stray) { ch <- st.Kind }
	}), ch
}

func awaitStray(t testing.TB, ch <-chan routing.StrayKind, want routing.StrayKind) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-ch:
			if got == want {
				return
			}
		case <-deadline:
			t.Fatalf("no %s answer came", want)
		}
	}
}

// outage closes an issuer and waits until its line is down.
func (s *street) outage(bank string) {
	s.t.Helper()
	s.weather(bank, issuer.Weather{Closed: true})
	await(s.t, "the line is down", func() bool { return !s.legs[bank].Issuer.Up() })
}

// Fault 22: no line is up. 91 at once, nothing owed, the limits given back.
func TestFault22_DownBeforeSend(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withRules([]limits.Rule{{Scope: limits.Card, DayAmount: money.Yuan(100)}}))
	d := s.device(t, 4)
	w := s.wire(t)
	sell := func(yuan int64) string {
		t.Helper()
		return w.ask(d.frame(t, d.sale(money.Yuan(yuan), pan(t, "north", 30)))).Text(39)
	}
	s.outage("north")
	for range 3 {
		if rc := sell(100); rc != "91" {
			t.Errorf("line down: answered %s", rc)
		}
	}
	c, err := s.sw.Owed(t.Context())
	must(t, err)
	if c.Owed+c.Manual != 0 {
		t.Errorf("something is owed for what never left: %+v", c)
	}
	s.weather("north", issuer.Weather{})
	must(t, s.legs["north"].Issuer.AwaitUp(t.Context()))
	if rc := sell(100); rc != "00" {
		t.Errorf("line up again, the day's limit untouched: answered %s", rc)
	}
	if rc := sell(1); rc != "61" {
		t.Errorf("over the day's limit: answered %s", rc)
	}
	s.balanced()
}

// Faults 24 and 26: the line drops behind the request, or the answer is not to
// this question. The terminal hears 98, the issuer is told to take it back,
// and the day's limit comes back too.
func TestFault24And26_NoAnswerToBelieve(t *testing.T) {
	t.Parallel()
	watch, seen := strays()
	s := newStreet(t, watch, withRules([]limits.Rule{{Scope: limits.Card, DayAmount: money.Yuan(101)}}))
	d := s.device(t, 4)
	w := s.wire(t)
	for i, c := range []struct {
		fen   money.Amount
		stray routing.StrayKind
	}{{93, ""}, {94, routing.Mismatch}, {89, routing.Mismatch}, {90, routing.BadMAC}} {
		must(t, s.legs["north"].Issuer.AwaitUp(t.Context()))
		if rc := w.ask(d.frame(t, d.sale(money.Yuan(100)+c.fen, pan(t, "north", 31)))).Text(39); rc != "98" {
			t.Errorf(".%02d: answered %s", c.fen, rc)
		}
		if c.stray != "" {
			awaitStray(t, seen, c.stray)
		}
		s.balanced()
		if got := s.states("north"); got[issuer.Reversed] != i+1 || got[issuer.Approved] != 0 {
			t.Errorf(".%02d: the issuer has %v", c.fen, got)
		}
	}
	if rc := w.ask(d.frame(t, d.sale(money.Yuan(101), pan(t, "north", 31)))).Text(39); rc != "00" {
		t.Errorf("the limits of what was taken back are not there again: answered %s", rc)
	}
	s.balanced()
}

// Fault 25: the answer comes after its time. It changes nothing; around the
// very moment of the deadline one of the two wins, and never both.
func TestFault25_LateAnswer(t *testing.T) {
	t.Parallel()
	watch, seen := strays()
	const timeout = 150 * time.Millisecond
	s := newStreet(t, watch, withTimeout(timeout))
	d := s.device(t, 4)
	w := s.wire(t)
	late := d.frame(t, d.sale(money.Yuan(100)+96, pan(t, "north", 32)))
	if rc := w.ask(late).Text(39); rc != "98" {
		t.Errorf("answered %s", rc)
	}
	awaitStray(t, seen, routing.Late)
	if rc := w.ask(late).Text(39); rc != "98" {
		t.Errorf("repeated behind the late answer: answered %s", rc)
	}
	s.balanced()

	s.weather("north", issuer.Weather{Delay: timeout - 8*time.Millisecond, Jitter: 10 * time.Millisecond})
	codes := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 4 {
		d := s.device(t, i) // its trace numbers go on
		d.stan += 1000
		w := s.wire(t)
		all.Go(func() {
			for n := range 12 {
				rc := w.ask(d.frame(t, d.sale(money.Yuan(100), pan(t, "north", 100*i+n)))).Text(39)
				mu.Lock()
				codes[rc]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Log(codes)
	if codes["00"]+codes["98"]+codes["91"] != 48 { // 91: it was taken back before it left
		t.Errorf("answers %v, want 00, 98 and 91 only", codes)
	}
	s.weather("north", issuer.Weather{})
	s.balanced()
}

// Fault 27: reversals and their answers get lost. They are repeated until one
// is acknowledged; when none is, a person gets them, and can send them again.
func TestFault27_ReversalsLost(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withTimeout(slower*100*time.Millisecond), withLine(func(c *routing.Config) { c.TimeoutStreak = 1000 }), withConfig(func(c *switching.Config) {
		c.Owed.MaxAttempts, c.Owed.BackoffMax = 100, 40*time.Millisecond
	}))
	d := s.device(t, 4)
	w := s.wire(t)
	s.weather("north", issuer.Weather{Silent: 1, LostReversals: 0.5, DeafReversals: 0.3})
	for i := range 12 {
		if rc := w.ask(d.frame(t, d.sale(money.Yuan(50), pan(t, "north", 40+i)))).Text(39); rc != "98" {
			t.Errorf("answered %s", rc)
		}
	}
	// Until chance lets the last one through is not waited for.
	await(t, "lost ones are sent again", func() bool {
		return s.metric("acquirer_owed_attempts_total", "north", "acknowledged")+s.metric("acquirer_owed_attempts_total", "north", "unanswered") > 12
	})
	s.weather("north", issuer.Weather{})
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 12 {
		t.Errorf("the issuer has %v", got)
	}
}

func TestFault27_AReversalThatNobodyHears(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withTimeout(slower*300*time.Millisecond), withConfig(func(c *switching.Config) { c.Owed.MaxAttempts = 3 }))
	d := s.device(t, 4)
	s.weather("north", issuer.Weather{Silent: 1, LostReversals: 1})
	if rc := s.wire(t).ask(d.frame(t, d.sale(money.Yuan(51), pan(t, "north", 52)))).Text(39); rc != "98" {
		t.Errorf("answered %s", rc)
	}
	manual := s.manual(1)[0]
	if manual.Debt.Tries != 3 || !strings.Contains(s.log.String(), "a reversal needs a person") {
		t.Errorf("given up after %d tries, without an alarm", manual.Debt.Tries)
	}
	s.reopen() // and it is not forgotten
	if again := s.manual(1)[0]; again.ID != manual.ID {
		t.Errorf("after a restart another one is left to a person")
	}
	s.weather("north", issuer.Weather{})
	must(t, s.journal.Resume(t.Context(), manual.Debt.ID, time.Now()))
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 1 {
		t.Errorf("the issuer has %v", got)
	}
}

// manual waits until n reversals are left to a person.
func (s *street) manual(n int) []*journal.Entry {
	s.t.Helper()
	var list []*journal.Entry
	await(s.t, fmt.Sprint(n, " reversals are left to a person"), func() (ok bool) {
		var err error
		list, err = s.journal.DebtList(s.t.Context(), journal.Manual, 1000)
		must(s.t, err)
		return len(list) == n
	})
	return list
}

// A long outage spends none of a reversal's tries: nothing was sent.
func TestOutageOwesOn(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withConfig(func(c *switching.Config) { c.Owed.MaxAttempts, c.Owed.BackoffMax = 2, 20*time.Millisecond }))
	d := s.device(t, 4)
	w := s.wire(t)
	sale := d.sale(money.Yuan(52), pan(t, "north", 53))
	if rc := w.ask(d.frame(t, sale)).Text(39); rc != "00" {
		t.Fatalf("answered %s", rc)
	}
	s.outage("north")
	if rc := w.ask(d.frame(t, d.reversal(sale, "98"))).Text(39); rc != "00" {
		t.Errorf("0400 answered %s", rc)
	}
	// Others of the list are sent meanwhile, again and again: the list was looked at.
	for range 8 {
		south := d.sale(money.Yuan(53), pan(t, "south", 53))
		if rc := w.ask(d.frame(t, south)).Text(39); rc != "00" {
			t.Fatalf("answered %s", rc)
		}
		w.ask(d.frame(t, d.reversal(south, "98")))
		await(t, "south has it back", func() bool { return s.states("south")[issuer.Approved] == 0 })
	}
	list, err := s.journal.DebtList(t.Context(), journal.Owed, 10)
	must(t, err)
	list = slices.DeleteFunc(list, func(e *journal.Entry) bool { return e.Issuer != "north" })
	if len(list) != 1 {
		t.Fatalf("%d reversals wait for north", len(list))
	}
	if list[0].Debt.Tries != 0 {
		t.Errorf("it was tried %d times while the line was down", list[0].Debt.Tries)
	}
	s.weather("north", issuer.Weather{})
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 1 {
		t.Errorf("the issuer has %v", got)
	}
}

// change alters rows behind the house's back.
func (s *street) change(sql string, args ...any) {
	s.t.Helper()
	must(s.t, s.db.Write(context.Background(), func(tx store.Tx) error {
		n, err := tx.Exec(sql, args...)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d rows changed, want 1", n)
		}
		return err
	}))
}

// Fault 29: the issuer refuses the reversal. It goes to a person and is not
// sent again.
func TestFault29_ReversalRefused(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withConfig(func(c *switching.Config) { c.Owed.MaxAttempts = 1000 }))
	d := s.device(t, 4)
	w := s.wire(t)
	refused := d.sale(money.Yuan(53), pan(t, "north", 54))
	if rc := w.ask(d.frame(t, refused)).Text(39); rc != "00" {
		t.Errorf("answered %s", rc)
	}
	s.outage("north")
	w.ask(d.frame(t, d.reversal(refused, "98")))
	// The row is damaged, so that its reversal names an amount that the issuer
	// never booked: it answers 64.
	s.change("update txn set amount = amount + 1 where id = $1", s.journalOf(d.tid)[0].ID)
	s.weather("north", issuer.Weather{})
	given := s.manual(1)[0]
	if !strings.Contains(given.Debt.Note, "64") {
		t.Errorf("left to a person with %q", given.Debt.Note)
	}
	asked := s.issuers["north"].Books()[0].Reversals
	sale := d.sale(money.Yuan(54), pan(t, "north", 55)) // time passes: another reversal runs its course
	w.ask(d.frame(t, sale))
	w.ask(d.frame(t, d.reversal(sale, "98")))
	await(t, "the other reversal is done", func() bool { return s.states("north")[issuer.Reversed] == 1 })
	if again := s.issuers["north"].Books()[0].Reversals; again != asked {
		t.Errorf("a refused reversal was sent %d times more", again-asked)
	}
	s.lawful()
}

// poisoned is an HSM that panics over one row's card.
type poisoned struct {
	hsm.HSM
	mu sync.Mutex
	id int64
}

func (p *poisoned) Decrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error) {
	p.mu.Lock()
	id := p.id
	p.mu.Unlock()
	if id != 0 && len(aad) == 8 && binary.BigEndian.Uint64(aad) == uint64(id) {
		panic("poison")
	}
	return p.HSM.Decrypt(ctx, key, aad, data)
}

// Fault 30: a record whose card cannot be opened, and one that makes its
// handler panic, hold up no other.
func TestFault30_PoisonRecords(t *testing.T) {
	t.Parallel()
	p := &poisoned{}
	s := newStreet(t, mayPanic, withHSM(func(h hsm.HSM) hsm.HSM { p.HSM = h; return p }),
		withConfig(func(c *switching.Config) { c.Owed.MaxAttempts, c.Owed.Concurrency = 6, 1 }))
	d := s.device(t, 4)
	w := s.wire(t)
	var sales []int64
	for i := range 6 {
		sale := d.sale(money.Yuan(55), pan(t, "north", 60+i))
		if rc := w.ask(d.frame(t, sale)).Text(39); rc != "00" {
			t.Fatalf("answered %s", rc)
		}
		rows := s.journalOf(d.tid)
		sales = append(sales, rows[len(rows)-1].ID)
	}
	s.outage("north")
	d.stan -= 6
	for i := range 6 { // the same sales again, to reverse them
		w.ask(d.frame(t, d.reversal(d.sale(money.Yuan(55), pan(t, "north", 60+i)), "98")))
	}
	s.change("update txn set sealed = $2 where id = $1", sales[0], []byte{0})
	p.mu.Lock()
	p.id = sales[1]
	p.mu.Unlock()
	s.weather("north", issuer.Weather{})
	left := s.manual(2)
	await(t, "the others are reversed", func() bool { return s.states("north")[issuer.Reversed] == 4 })
	for _, e := range left {
		if !slices.Contains(sales[:2], e.ID) {
			t.Errorf("%s is left to a person", e.RRN)
		}
	}
	if s.metric("acquirer_handler_panics_total") == 0 {
		t.Error("no panic was counted")
	}
	s.lawful()
}

// Fault 31: the issuer answers twice. The second answer is ignored.
func TestFault31_AnsweredTwice(t *testing.T) {
	t.Parallel()
	watch, seen := strays()
	s := newStreet(t, watch)
	d := s.device(t, 4)
	w := s.wire(t)
	for range 3 {
		if rc := w.ask(d.frame(t, d.sale(money.Yuan(56)+95, pan(t, "north", 70)))).Text(39); rc != "00" {
			t.Errorf("answered %s", rc)
		}
		awaitStray(t, seen, routing.Duplicate)
	}
	s.balanced()
}

// Fault 33: an issuer that answers slowly gets only so many at once; the next
// are refused soon, and other issuers are as quick as ever.
func TestFault33_SlowIssuer(t *testing.T) {
	t.Parallel()
	const many = 4
	answers := newGate()
	s := newStreet(t, withTerminals(16), withTimeout(patience), answers.option("north"),
		withLine(func(c *routing.Config) { c.MaxInFlight, c.QueueTimeout = many, 500*time.Millisecond }))
	answer := answers.shut()
	var devices []*device
	var slow []*wire
	for i := range many {
		d, w := s.device(t, 4+i), s.wire(t)
		w.send(d.frame(t, d.sale(money.Yuan(57), pan(t, "north", 80+i))))
		devices, slow = append(devices, d), append(slow, w)
	}
	s.booked(t, "north", many)
	d, w := s.device(t, 8), s.wire(t)
	for range 3 {
		if rc := w.ask(d.frame(t, d.sale(money.Yuan(57), pan(t, "north", 90)))).Text(39); rc != "91" {
			t.Errorf("beyond what the issuer is given: answered %s", rc)
		}
	}
	for i := range 20 {
		if rc := w.ask(d.frame(t, d.sale(money.Yuan(57), pan(t, []string{"south", "east", "west"}[i%3], 90)))).Text(39); rc != "00" {
			t.Errorf("another issuer: answered %s", rc)
		}
	}
	if n := len(s.issuers["north"].Books()); n != many {
		t.Errorf("the slow issuer was asked %d times", n)
	}
	answer()
	for i, w := range slow {
		if a := w.answer(); a.Text(39) != "00" || !devices[i].signed(a) {
			t.Errorf("the slow issuer's sale was answered %s", a.Text(39))
		}
	}
	s.balanced()
}

// The same for reversals: a long list of them that the issuer does not answer,
// and one of another issuer at its end.
func TestFault33_DeafIssuer(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withLine(func(c *routing.Config) { c.MaxInFlight = 4 }))
	d, w := s.device(t, 4), s.wire(t)
	var back [][]byte
	for i := range 40 {
		sale := d.sale(money.Yuan(58), pan(t, "north", 100+i))
		if rc := w.ask(d.frame(t, sale)).Text(39); rc != "00" {
			t.Fatalf("answered %s", rc)
		}
		back = append(back, d.frame(t, d.reversal(sale, "98")))
	}
	south := d.sale(money.Yuan(59), pan(t, "south", 91))
	w.ask(d.frame(t, south))
	s.weather("north", issuer.Weather{LostReversals: 1})
	for _, frame := range append(back, d.frame(t, d.reversal(south, "98"))) {
		if rc := w.ask(frame).Text(39); rc != "00" {
			t.Errorf("0400 answered %s", rc)
		}
	}
	await(t, "the other issuer has its reversal", func() bool { return s.states("south")[issuer.Reversed] == 1 })
	if got := s.states("north"); got[issuer.Reversed] != 0 {
		t.Errorf("the deaf issuer has %v", got)
	}
	s.weather("north", issuer.Weather{})
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 40 {
		t.Errorf("the issuer has %v", got)
	}
}

// A reversal owed to an issuer that the house no longer has goes to a person
// at the start.
func TestReversalToNobody(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	sale := d.sale(money.Yuan(60), pan(t, "north", 92))
	if rc := w.ask(d.frame(t, sale)).Text(39); rc != "00" {
		t.Fatalf("answered %s", rc)
	}
	s.outage("north")
	w.ask(d.frame(t, d.reversal(sale, "98")))

	legs := map[string]switching.Leg{}
	var routes []routing.Route
	for _, is := range simcard.Issuers {
		if is.Name == "north" {
			continue
		}
		legs[is.Name] = s.legs[is.Name]
		lengths, err := routing.LengthsOf(is.Len)
		must(t, err)
		routes = append(routes, routing.Route{BIN: is.BIN, Issuer: is.Name, Kind: routing.Debit, Lengths: lengths, Luhn: true})
	}
	bins, err := routing.NewTable(routes)
	must(t, err)
	s.house.Legs, s.house.BINs = legs, bins
	s.reopen()
	if e := s.manual(1)[0]; !strings.Contains(e.Debt.Note, "north") {
		t.Errorf("left to a person with %q", e.Debt.Note)
	}
	s.lawful()
}

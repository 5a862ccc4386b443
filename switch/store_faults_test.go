package switching_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	"acquirer/store"
	switching "acquirer/switch"
)

// The faults of store, HSM and process; see faults_test.go.

// crowd sells at n terminals until stop is closed or one of them is cut off
// for good. heard counts the answers by DE 39; "" is silence.
type crowd struct {
	mu    sync.Mutex
	heard map[string]int
	wg    sync.WaitGroup
	stop  chan struct{}
}

func (s *street) crowd(t testing.TB, n int) *crowd {
	t.Helper()
	c := &crowd{heard: map[string]int{}, stop: make(chan struct{})}
	banks := []string{"north", "south", "east", "west"}
	for i := range n {
		d, w := s.device(t, i), s.wire(t)
		c.wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-c.stop:
					return
				default:
				}
				rc := ""
				if err := w.trySend(d.frame(t, d.sale(money.Yuan(10), pan(t, banks[k%4], 100*i+k)))); err == nil {
					if _, err := w.receive(); err == nil {
						m := &spec.Message{}
						if err := spec.UnionPayPOS.Parse(m, w.body[11:]); err != nil {
							t.Errorf("an answer that cannot be read: %v", err)
							return
						}
						w.told.heard(m)
						rc = m.Text(39)
					}
				}
				c.mu.Lock()
				c.heard[rc]++
				c.mu.Unlock()
				if rc == "" {
					conn, err := net.Dial("tcp", s.addr)
					if err != nil {
						return // the house is closed
					}
					must(t, w.conn.Close())
					w = s.onto(t, conn)
				}
			}
		})
	}
	return c
}

func (c *crowd) count(rc string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard[rc]
}

func (c *crowd) end() map[string]int {
	close(c.stop)
	c.wg.Wait()
	return c.heard
}

func (c *crowd) only(t *testing.T, codes ...string) {
	t.Helper()
	for rc, n := range c.heard {
		if !strings.Contains(" "+strings.Join(codes, " ")+" ", " "+rc+" ") && rc != "" {
			t.Errorf("%d sales were answered %s", n, rc)
		}
	}
}

// Fault 36: the disk is full, under load. No approval leaves that is not
// durable; what was sent and could not be closed is reversed.
func TestFault36_DiskFull(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	for name := range s.issuers {
		s.weather(name, issuer.Weather{Delay: 3 * time.Millisecond})
	}
	pages := func(sql string) {
		t.Helper()
		await(t, sql, func() bool { // a full disk may fail this write like any other
			return s.db.Write(context.Background(), func(tx store.Tx) error {
				var now int64
				return tx.QueryRow(sql).Scan(&now)
			}) == nil
		})
	}
	c := s.crowd(t, 8)
	await(t, "the crowd sells", func() bool { return c.count("00") > 50 })
	pages("pragma max_page_count = 1") // the least it can be: as many as there are
	await(t, "the disk is full", func() bool { return c.count("96") > 50 })
	pages("pragma max_page_count = 1000000")
	before := c.count("00")
	await(t, "the crowd sells again", func() bool { return c.count("00") > before+50 })
	t.Log(c.end())
	c.only(t, "00", "96")
	await(t, "all requests are answered", func() bool { return s.sw.InFlight() == 0 })
	must(t, s.sw.Recover(context.Background())) // as the next start, or the sweep half a minute later
	s.balanced()
}

// The store is closed, under load: 96 or silence, no approval.
func TestFault41_StoreGone(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	for name := range s.issuers {
		s.weather(name, issuer.Weather{Delay: 3 * time.Millisecond})
	}
	c := s.crowd(t, 8)
	await(t, "the crowd sells", func() bool { return c.count("00") > 50 })
	must(t, s.db.Close())
	await(t, "no store", func() bool { return c.count("96") > 200 })
	t.Log(c.end())
	c.only(t, "00", "96")
	s.reopen()
	s.balanced()
}

// Fault 43: nobody knows whether the outcome was written. The terminal hears
// nothing, whatever became of it, and the approval does not stand.
func TestFault43_CloseInDoubt(t *testing.T) {
	t.Parallel()
	answers := newGate()
	s := newStreet(t, answers.option(), withTimeout(patience), withConfig(func(c *switching.Config) { c.StoreTimeout = 3 * time.Second }))
	waiting, hold := s.holdWriter(t)
	d := s.device(t, 4)
	w := s.wire(t)
	answer := answers.shut()
	sale := d.sale(money.Yuan(20), pan(t, "north", 1))
	w.send(d.frame(t, sale))
	s.booked(t, "north", 1)

	entered, release, first := hold()
	<-entered
	answer()
	await(t, "the close waits", func() bool { return waiting("journal") })
	entered2, release2, second := hold()
	await(t, "the second write waits", func() bool { return waiting("write") })
	release()
	must(t, <-first)
	<-entered2
	await(t, "the close is in doubt", func() bool { return strings.Contains(s.log.String(), "close failed") })
	release2()
	must(t, <-second)
	w.closed() // not a word
	await(t, "the approval was taken back", func() bool { return s.metric("acquirer_undelivered_total") == 1 })
	rows := s.journalOf(d.tid)
	if o := rows[0].Outcome; o == nil || o.Reason != journal.Approved {
		t.Errorf("the close that was in doubt did not stand: %v, the test shows nothing", o)
	}
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 1 {
		t.Errorf("the issuer has %v", got)
	}
}

// holdWriter gives what a test needs to keep a value of the journal in a
// transaction that does not end. The writer is held by a first write while the
// value and a second one gather behind it; the second holds both.
func (s *street) holdWriter(t *testing.T) (waiting func(queue string) bool, hold func() (entered <-chan struct{}, release func(), done <-chan error)) {
	t.Helper()
	depths := prometheus.NewRegistry()
	must(t, depths.Register(s.db))
	waiting = func(queue string) bool {
		s := street{t: t, metrics: depths}
		return s.metric("acquirer_store_queue_depth", queue) > 0
	}
	hold = func() (entered <-chan struct{}, release func(), done <-chan error) {
		in, out, end := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		var once sync.Once
		go func() {
			end <- s.db.Write(context.Background(), func(store.Tx) error {
				once.Do(func() { close(in) })
				<-out
				return nil
			})
		}()
		return in, sync.OnceFunc(func() { close(out) }), end
	}
	return waiting, hold
}

// Nobody knows whether a refund or an offline sale was recorded. It may be, and
// will then be done: the terminal is not told that it was refused.
func TestFault43_OpenInDoubt(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withConfig(func(c *switching.Config) { c.StoreTimeout = 3 * time.Second }))
	waiting, hold := s.holdWriter(t)
	d := s.device(t, 4)
	sale := d.sale(money.Yuan(50), pan(t, "north", 5))
	sold := s.wire(t).ask(d.frame(t, sale))
	for what, kind := range map[string]string{"refund": "25", "adjustment": "32"} {
		m := d.follow(sale, sold, 0x0220, map[string]string{"25": "200000", "32": "000000"}[kind], kind, money.Yuan(40))
		frame := d.frame(t, m)
		entered, release, first := hold()
		<-entered
		w := s.wire(t)
		w.send(frame)
		await(t, "the open waits", func() bool { return waiting("journal") })
		entered2, release2, second := hold()
		await(t, "the second write waits", func() bool { return waiting("write") })
		release()
		must(t, <-first)
		<-entered2
		w.closed() // not a word
		release2()
		must(t, <-second)
		must(t, s.sw.Recover(context.Background())) // as the next start
		if a := s.wire(t).ask(frame); a.Text(39) != "00" {
			t.Errorf("the repeat of the %s was answered %s", what, a.Text(39))
		}
		s.delivered()
		s.agree()
		sale = d.sale(money.Yuan(50), pan(t, "north", 5))
		sold = s.wire(t).ask(d.frame(t, sale))
	}
}

// frail is an HSM whose verbs fail on request.
type frail struct {
	hsm.HSM
	mac, verify, seal, translate, track, token atomic.Int32 // how often to fail; negative panics
}

var errBroken = errors.New("the HSM is broken")

func fails(n *atomic.Int32) error {
	switch v := n.Load(); {
	case v > 0:
		n.Add(-1)
		return errBroken
	case v < 0:
		n.Add(1)
		panic("the HSM's driver panics")
	}
	return nil
}

func (f *frail) MAC(ctx context.Context, key hsm.Key, alg hsm.MACAlg, data []byte) ([8]byte, error) {
	if err := fails(&f.mac); err != nil {
		return [8]byte{}, err
	}
	return f.HSM.MAC(ctx, key, alg, data)
}

func (f *frail) VerifyMAC(ctx context.Context, key hsm.Key, alg hsm.MACAlg, data, mac []byte) error {
	if err := fails(&f.verify); err != nil {
		return err
	}
	return f.HSM.VerifyMAC(ctx, key, alg, data, mac)
}

func (f *frail) Encrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error) {
	if err := fails(&f.seal); err != nil {
		return nil, err
	}
	return f.HSM.Encrypt(ctx, key, aad, data)
}

func (f *frail) TranslatePIN(ctx context.Context, in hsm.Key, inFormat hsm.PINFormat, block hsm.PINBlock, pan card.PAN, out hsm.Key, outFormat hsm.PINFormat) (hsm.PINBlock, error) {
	if err := fails(&f.translate); err != nil {
		return hsm.PINBlock{}, err
	}
	return f.HSM.TranslatePIN(ctx, in, inFormat, block, pan, out, outFormat)
}

func (f *frail) DecryptTrack(ctx context.Context, tdk hsm.Key, scheme hsm.TrackScheme, track []byte) ([]byte, error) {
	if err := fails(&f.track); err != nil {
		return nil, err
	}
	return f.HSM.DecryptTrack(ctx, tdk, scheme, track)
}

func (f *frail) Token(ctx context.Context, key hsm.Key, data []byte) ([16]byte, error) {
	if err := fails(&f.token); err != nil {
		return [16]byte{}, err
	}
	return f.HSM.Token(ctx, key, data)
}

// Fault 46: the HSM fails. Nothing is let through unchecked or in clear, the
// terminal hears 96, signed or not, and an approval that cannot be signed is
// taken back. The log says what failed.
func TestFault46_HSMDown(t *testing.T) {
	t.Parallel()
	f := &frail{}
	s := newStreet(t, mayPanic, withHSM(func(h hsm.HSM) hsm.HSM { f.HSM = h; return f }))
	ctx := context.Background()
	term := s.terminal(4, func(c *terminal.Config) { c.Profile.KeySet = 4 }) // with an encrypted track
	must(t, term.SignIn(ctx))
	c := chipCard(t, "north", 2)
	sell := func() (terminal.Result, error) {
		return term.Sale(ctx, terminal.Sale{Amount: money.Yuan(30), Card: c, PIN: c.PIN})
	}
	for what, verb := range map[string]*atomic.Int32{"verify": &f.verify, "encrypt": &f.seal, "translate": &f.translate, "track": &f.track, "token": &f.token} {
		for _, n := range []int32{1, -1} {
			said := strings.Count(s.log.String(), `"msg":"the HSM failed; answered 96"`)
			verb.Store(n)
			if res, err := sell(); err != nil || res.Code != "96" {
				t.Errorf("%s fails: answered %q, %v", what, res.Code, err)
			}
			if now := strings.Count(s.log.String(), `"msg":"the HSM failed; answered 96"`); n > 0 && now != said+1 {
				t.Errorf("%s fails: %d lines of the log say so", what, now-said)
			}
		}
	}
	if n := len(s.issuers["north"].Books()); n > 0 {
		t.Fatalf("%d sales were sent past a broken HSM", n)
	}
	must(t, term.Close())

	// Nothing works: nothing is checked, and the 96 leaves unsigned.
	d := s.device(t, 5)
	f.verify.Store(1)
	f.mac.Store(2)
	if a := s.wire(t).ask(d.frame(t, d.sale(money.Yuan(29), pan(t, "north", 3)))); a.Text(39) != "96" || a.Has(64) {
		t.Errorf("without any HSM: answered %s, signed %t", a.Text(39), a.Has(64))
	}

	// The approval is there and cannot be signed: 96, unsigned when the HSM is
	// not back for it.
	for _, tc := range []struct {
		what  string
		fails int32
		rc    string
	}{{"once", 1, "96"}, {"for good", 2, "96"}, {"panics", -1, "96"}, {"panics twice", -2, ""}} {
		w := s.wire(t)
		f.mac.Store(tc.fails)
		sale := d.frame(t, d.sale(money.Yuan(31), pan(t, "north", 3)))
		w.send(sale)
		if tc.rc == "" {
			w.closed()
		} else if a := w.answer(); a.Text(39) != tc.rc || a.Has(64) != (tc.fails != 2) {
			t.Errorf("MAC fails %s: answered %s, signed %t", tc.what, a.Text(39), a.Has(64))
		}
		s.balanced()
		if got := s.states("north"); got[issuer.Approved] != 0 {
			t.Errorf("MAC fails %s: the issuer has %v", tc.what, got)
		}
		if a := s.wire(t).ask(sale); a.Text(39) != "98" {
			t.Errorf("MAC fails %s: the repeat was answered %s", tc.what, a.Text(39))
		}
	}
	// What is not taken back is not refused either: silence, and the repeat hears
	// that it is done.
	for _, fails := range []int32{1, -1} {
		for what, kind := range map[string]string{"refund": "25", "adjustment": "32"} {
			sale := d.sale(money.Yuan(50), pan(t, "north", 3))
			sold := s.wire(t).ask(d.frame(t, sale))
			m := d.follow(sale, sold, 0x0220, map[string]string{"25": "200000", "32": "000000"}[kind], kind, money.Yuan(40))
			w := s.wire(t)
			f.mac.Store(fails)
			w.send(d.frame(t, m))
			w.closed()
			if a := s.wire(t).ask(d.frame(t, m)); a.Text(39) != "00" {
				t.Errorf("MAC of a %s fails: the repeat was answered %s", what, a.Text(39))
			}
			s.delivered()
		}
	}
	s.agree()
	// A reversal whose card cannot be looked up is not refused for good.
	w := s.wire(t)
	sale := d.sale(money.Yuan(32), pan(t, "north", 3))
	w.ask(d.frame(t, sale))
	f.token.Store(1)
	if a := w.ask(d.frame(t, d.reversal(sale, "98"))); a.Text(39) != "96" {
		t.Errorf("0400 without an HSM: answered %s", a.Text(39))
	}
	if a := w.ask(d.frame(t, d.reversal(sale, "98"))); a.Text(39) != "00" {
		t.Errorf("0400 again: answered %s", a.Text(39))
	}
	s.agree()
}

// A repeat shares the fate of its first: while one of them can still be told,
// the approval stands; when none could, it is taken back; and a repeat whose
// own answer is lost takes nothing back that was told.
func TestRepeatsShareTheirAnswer(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	reset := func(w *wire) {
		t.Helper()
		must(t, w.conn.(*net.TCPConn).SetLinger(0))
		must(t, w.conn.Close())
	}
	standing := func(want int) {
		t.Helper()
		s.balanced()
		if got := s.states("north")[issuer.Approved]; got != want {
			t.Errorf("the issuer has %d approvals standing, want %d", got, want)
		}
	}
	s.weather("north", issuer.Weather{Delay: 300 * time.Millisecond})

	frame := d.frame(t, d.sale(money.Yuan(33), pan(t, "north", 4)))
	first, second := s.wire(t), s.wire(t)
	first.send(frame)
	s.booked(t, "north", 1)
	second.send(frame)
	await(t, "both wait", func() bool { return s.sw.InFlight() == 2 })
	reset(first)
	if a := second.answer(); a.Text(39) != "00" {
		t.Errorf("the repeat was answered %s", a.Text(39))
	}
	standing(1)

	frame = d.frame(t, d.sale(money.Yuan(34), pan(t, "north", 4)))
	first, second = s.wire(t), s.wire(t)
	first.send(frame)
	s.booked(t, "north", 2)
	second.send(frame)
	await(t, "both wait", func() bool { return s.sw.InFlight() == 2 })
	reset(first)
	reset(second)
	await(t, "the approval was taken back", func() bool { return s.metric("acquirer_undelivered_total") == 1 })
	if a := s.wire(t).ask(frame); a.Text(39) != "98" {
		t.Errorf("the repeat of what was taken back was answered %s", a.Text(39))
	}
	standing(1)

	// Told, and asked again by somebody who is gone before the answer.
	s.weather("north", issuer.Weather{})
	frame = d.frame(t, d.sale(money.Yuan(35), pan(t, "north", 4)))
	if a := s.wire(t).ask(frame); a.Text(39) != "00" {
		t.Errorf("answered %s", a.Text(39))
	}
	for range 30 {
		gone := s.wire(t)
		gone.send(bytes.Repeat(frame, 4)) // more answers than a closed socket takes in silence
		reset(gone)
	}
	await(t, "all requests are answered", func() bool { return s.sw.InFlight() == 0 })
	standing(2)
}

// Fault 49: a stop while transactions run. They are answered, then the door is
// shut; who only waited is shown out at once.
func TestFault49_Shutdown(t *testing.T) {
	t.Parallel()
	answers := newGate()
	s := newStreet(t, answers.option(), withTimeout(patience))
	answer := answers.shut()
	idle := s.wire(t)
	var devices []*device
	var wires []*wire
	for i := range 8 {
		d, w := s.device(t, i), s.wire(t)
		w.send(d.frame(t, d.sale(money.Yuan(36), pan(t, simcard.Issuers[i%4].Name, 10+i))))
		devices, wires = append(devices, d), append(wires, w)
	}
	for _, is := range simcard.Issuers {
		s.booked(t, is.Name, 2)
	}
	var stopped atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		s.stop()
		stopped.Store(true)
	})
	idle.closed()
	if stopped.Load() {
		t.Error("the house stopped while transactions ran")
	}
	answer()
	for i, w := range wires {
		if a := w.answer(); a.Text(39) != "00" || !devices[i].signed(a) {
			t.Errorf("in flight at the stop: answered %s", a.Text(39))
		}
		w.closed()
	}
	wg.Wait()
	if conn, err := net.Dial("tcp", s.addr); err == nil {
		_ = conn.Close()
		t.Error("the house still listens")
	}
	s.balanced()
	s.reopen()
	s.balanced()
}

// A stop that does not wait for a slow issuer: what is left ends as unanswered
// or is owed by the next start, and in neither case told as approved.
func TestFault49_ShutdownOutOfTime(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withTimeout(500*time.Millisecond))
	s.weather("north", issuer.Weather{Silent: 1})
	d, w := s.device(t, 4), s.wire(t)
	w.send(d.frame(t, d.sale(money.Yuan(37), pan(t, "north", 20))))
	s.booked(t, "north", 1)
	drain, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.sw.Shutdown(drain); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the end of the drain is told as %v", err)
	}
	w.drained()
	s.reopen()
	s.weather("north", issuer.Weather{})
	s.balanced()
	if got := s.states("north"); got[issuer.Reversed] != 1 {
		t.Errorf("the issuer has %v", got)
	}
}

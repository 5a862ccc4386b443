package switching_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"acquirer/card"
	"acquirer/hsm/algo"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

// patience is what a test gives a thing that must happen. It is far more than
// any deadline of the house in its test.
const patience = 20 * time.Second

// wire is a terminal's socket in the hands of a test, which sends any bytes.
type wire struct {
	t    testing.TB
	conn net.Conn
	body []byte // the last frame, behind its length
	told *told
}

func (s *street) wire(t testing.TB) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	must(t, err)
	return s.onto(t, conn)
}

func (s *street) onto(t testing.TB, conn net.Conn) *wire {
	t.Cleanup(func() { _ = conn.Close() }) // most were closed from the other side
	return &wire{t: t, conn: conn, told: &s.told}
}

// told is what wires have heard, as a terminal's book would have it: the
// approvals by RRN, without those whose reversal was taken.
type told struct {
	mu sync.Mutex
	by map[string]claim
}

func (o *told) heard(m *spec.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.by == nil {
		o.by = map[string]claim{}
	}
	amount, _ := m.Int(4)
	switch {
	case m.MTI() == 0x0210 && m.Text(39) == "00":
		o.by[m.Text(37)] = claim{amount, m.Text(38)}
	case m.MTI() == 0x0410 && m.Text(39) == "00":
		delete(o.by, m.Text(37))
	}
}

// taken says that the approval rrn was reversed, for a test whose wires may
// have read the two answers the other way round.
func (o *told) taken(rrn string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.by, rrn)
}

func (w *wire) send(b []byte) {
	w.t.Helper()
	if err := w.trySend(b); err != nil {
		w.t.Fatalf("sending %d bytes: %v", len(b), err)
	}
}

func (w *wire) trySend(b []byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := w.conn.Write(b)
	return err
}

// receive reads one frame.
func (w *wire) receive() (spec.POSFrame, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return spec.POSFrame{}, err
	}
	frame, buf, err := spec.ReadPOSFrame(w.conn, nil, 4096)
	w.body = buf
	return frame, err
}

// answer reads the next answer; the connection must stand.
func (w *wire) answer() *spec.Message {
	w.t.Helper()
	frame, err := w.receive()
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	m := &spec.Message{}
	if err := spec.UnionPayPOS.Parse(m, frame.Body); err != nil {
		w.t.Fatalf("the answer cannot be read: %v", err)
	}
	w.told.heard(m)
	return m
}

// ask sends a frame and reads its answer.
func (w *wire) ask(frame []byte) *spec.Message {
	w.t.Helper()
	w.send(frame)
	return w.answer()
}

// closed waits for the other side to hang up, which it must do without a word.
func (w *wire) closed() {
	w.t.Helper()
	if n := w.drained(); n > 0 {
		w.t.Fatalf("%d bytes came before the end of the connection", n)
	}
}

// drained reads until the other side hangs up and returns how much came.
func (w *wire) drained() (n int64) {
	w.t.Helper()
	must(w.t, w.conn.SetReadDeadline(time.Now().Add(patience)))
	n, err := io.Copy(io.Discard, w.conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatalf("the connection still stands after %v", patience)
	}
	return n // any other error is an end: bytes that were never read make it a reset
}

// device is a terminal that has signed in, its keys in the open: for frames
// that no honest terminal sends.
type device struct {
	tid, mid string
	keys     algo.SignInKeys
	set      string // DE 60.3 of its sign-in; "" is 003
	batch    int
	stan     int
}

// device signs the i-th terminal in, over a connection of its own.
func (s *street) device(t testing.TB, i int) *device {
	t.Helper()
	tid, mid := simcard.SeedTerminal(i)
	d := &device{tid: tid, mid: mid, batch: 1}
	d.signIn(t, s.wire(t))
	return d
}

// signIn asks for working keys and takes them.
func (d *device) signIn(t testing.TB, w *wire) {
	t.Helper()
	d.take(t, w.ask(d.frame(t, d.signInRequest())))
}

func (d *device) signInRequest() *spec.Message {
	m := &spec.Message{}
	m.Reset(spec.UnionPayPOS, 0x0800)
	m.SetInt(11, int64(d.next()))
	m.Set(41, d.tid)
	m.Set(42, d.mid)
	m.Set(60, fmt.Sprintf("00%06d%s", d.batch, cmp.Or(d.set, "003")))
	m.Set(63, "01 ")
	return m
}

// take puts the keys of a sign-in's answer in force.
func (d *device) take(t testing.TB, answer *spec.Message) {
	t.Helper()
	if rc := answer.Text(39); rc != "00" {
		t.Fatalf("sign-in of %s answered %s", d.tid, rc)
	}
	d.keys = keysOf(t, d.tid, answer.Bytes(62))
}

func keysOf(t testing.TB, tid string, de62 []byte) algo.SignInKeys {
	t.Helper()
	clear := simcard.TestTMK(tid)
	tmk, err := algo.NewDESKey(clear[:])
	must(t, err)
	keys, err := algo.ParseDE62(tmk, de62)
	must(t, err)
	return keys
}

func (d *device) next() int {
	d.stan++
	return d.stan
}

// sale is a keyed sale without a PIN, the least that is sold with: DE 2, 3, 4,
// 11, 14, 22, 25, 41, 42, 49, 60 and 64.
func (d *device) sale(amount money.Amount, pan card.PAN) *spec.Message {
	m := &spec.Message{}
	m.Reset(spec.UnionPayPOS, 0x0200)
	m.Set(2, pan.Reveal())
	m.Set(3, "000000")
	m.SetInt(4, amount.Fen())
	m.SetInt(11, int64(d.next()))
	m.Set(14, simcard.ExpiryFor(pan.Reveal()))
	m.Set(22, "012")
	m.Set(25, "00")
	m.Set(41, d.tid)
	m.Set(42, d.mid)
	m.Set(49, money.CurrencyNumeric)
	m.Set(60, fmt.Sprintf("22%06d000600", d.batch))
	m.SetBytes(64, make([]byte, 8))
	return m
}

// reversal is the 0400 of a sale, for a reason in DE 39.
func (d *device) reversal(sale *spec.Message, why string) *spec.Message {
	m := &spec.Message{}
	m.Reset(spec.UnionPayPOS, 0x0400)
	m.Copy(sale, 2, 3, 4, 11, 14, 22, 25)
	m.Set(39, why)
	m.Copy(sale, 41, 42, 49, 60)
	m.SetBytes(64, make([]byte, 8))
	return m
}

// follow is what follows a sale or a pre-authorisation, keyed and without a
// PIN: kind is DE 60.1, answer the answer to its original.
func (d *device) follow(original, answer *spec.Message, mti spec.MTI, processing, kind string, amount money.Amount) *spec.Message {
	m := &spec.Message{}
	m.Reset(spec.UnionPayPOS, mti)
	m.Copy(original, 2, 14, 22, 25, 41, 42, 49)
	m.Set(3, processing)
	m.SetInt(4, amount.Fen())
	m.SetInt(11, int64(d.next()))
	m.Copy(answer, 37, 38)
	m.Set(60, fmt.Sprintf("%s%06d000600", kind, d.batch))
	m.Set(61, fmt.Sprintf("%s%s%s", original.Text(60)[2:8], original.Text(11), answer.Text(13)))
	if mti == 0x0220 {
		m.Set(63, "000")
	}
	m.SetBytes(64, make([]byte, 8))
	return m
}

// frame packs m, and signs it when it has DE 64.
func (d *device) frame(t testing.TB, m *spec.Message) []byte {
	t.Helper()
	b, err := spec.AppendRequest(nil, [5]byte{0x60, 0x00, 0x03, 0x00, 0x00}, [6]byte{0x60, 0x31, 0x00, 0x31, 0x11, 0x08}, m)
	must(t, err)
	if m.Has(64) {
		d.sign(b)
	}
	return b
}

// sign writes the MAC into the last eight bytes of a frame.
func (d *device) sign(frame []byte) {
	block, mac := spec.SignedPart(spec.FrameBody(frame))
	sum := d.keys.MAK.UnionPayMAC(block)
	copy(mac, sum[:])
}

// signed reports whether an answer's MAC is right under the device's key.
func (d *device) signed(answer *spec.Message) bool {
	block, mac := spec.SignedPart(answer.Raw())
	return answer.Has(64) && string(mac) == string(unionPayMAC(d.keys.MAK, block))
}

// clone is a copy that shares nothing with m.
func clone(m *spec.Message) *spec.Message {
	c := &spec.Message{}
	c.Reset(m.Dialect(), m.MTI())
	for n := 2; n <= 128; n++ {
		c.Copy(m, n)
	}
	return c
}

func unionPayMAC(k *algo.Key, block []byte) []byte {
	sum := k.UnionPayMAC(block)
	return sum[:]
}

// pan is the i-th good card of an issuer.
func pan(t testing.TB, bank string, i int) card.PAN {
	t.Helper()
	is, ok := simcard.IssuerNamed(bank)
	if !ok {
		t.Fatalf("no issuer %q", bank)
	}
	return is.PAN(i)
}

// chipCard is the first card of an issuer from the i-th on that has a chip.
func chipCard(t testing.TB, bank string, i int) *simcard.Card {
	t.Helper()
	for !simcard.HasChip(pan(t, bank, i).Reveal()) {
		i++
	}
	c, err := simcard.New(pan(t, bank, i))
	must(t, err)
	return c
}

// undisturbed sells at the i-th terminal, one sale after the other, until the
// returned function is called: every one must be approved, and the last begins
// after that call.
func (s *street) undisturbed(t testing.TB, i int) (end func()) {
	t.Helper()
	term := s.terminal(i)
	must(t, term.SignIn(context.Background()))
	c := chipCard(t, "west", 100+i)
	sell := func() error {
		res, err := term.Sale(context.Background(), terminal.Sale{Amount: money.Yuan(5), Card: c, PIN: c.PIN})
		if err == nil && res.Code != "00" {
			err = fmt.Errorf("answered %s", res.Code)
		}
		return err
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := sell(); err != nil {
				t.Errorf("a good terminal was disturbed: %v", err)
				return
			}
		}
	})
	return func() {
		t.Helper()
		close(stop)
		wg.Wait()
		if err := sell(); err != nil {
			t.Errorf("a good terminal was disturbed: %v", err)
		}
	}
}

// metric is the sum of a metric over all label values that
// include want.
func (s *street) metric(name string, want ...string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	must(s.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]bool{}
			for _, l := range m.GetLabel() {
				labels[l.GetValue()] = true
			}
			if !slices.ContainsFunc(want, func(v string) bool { return !labels[v] }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// await looks again and again until ok, which is an error after patience.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// pipes is a listener whose connections are net.Pipes: a write on one returns
// when the other side has read it, so that every write is a read of its own.
type pipes struct {
	s     *street
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// dial gives the near end of a new connection.
func (p *pipes) dial(t testing.TB) *wire {
	t.Helper()
	near, far := net.Pipe()
	select {
	case p.conns <- far:
	case <-p.done:
		t.Fatal("the house does not listen any more")
	}
	return p.s.onto(t, near)
}

// listenPipes lets the switch serve pipes as well.
func (s *street) listenPipes(t testing.TB) *pipes {
	p := &pipes{s: s, conns: make(chan net.Conn), done: make(chan struct{})}
	sw := s.sw
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sw.Serve(context.Background(), p); err != nil {
			t.Errorf("serving pipes: %v", err)
		}
	})
	t.Cleanup(func() {
		s.stop()
		wg.Wait()
	})
	return p
}

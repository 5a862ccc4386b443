// Package iso87 is a simulated card terminal that speaks ISO 8583:1987, in
// whatever encoding and framing a dialect of package spec has: it exchanges
// keys, sells, names originals in DE 90, reverses what it heard no answer to,
// and reconciles. It can misbehave on request.
//
// Like a terminal of simulate/terminal it does one thing at a time, for one
// goroutine, and starts none.
package iso87

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"acquirer/hsm/algo"
	"acquirer/money"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

// Config sets up a Terminal.
type Config struct {
	TID, MID string   // DE 41 (8 characters), DE 42 (15 characters)
	TMK      [16]byte // a TEST terminal master key
	Dialect  *spec.Dialect
	MAC      string // x919 or cmac; "" is the dialect's
	Dial     terminal.Dialer
	Timeout  time.Duration // for one answer; 0 is terminal.DefaultTimeout
	STAN     int           // the last trace number used
	KSN      string        // PINs go under DUKPT: the key serial number before the first, in hexadecimal; "" for the key exchange's
	// Observe sees every frame on the line, and whether it was sent.
	Observe func(sent bool, frame []byte)
}

// Terminal is one simulated terminal.
type Terminal struct {
	cfg   Config
	tmk   *algo.Key
	keys  algo.SignInKeys // of the last key exchange
	dukpt *device         // nil without DUKPT

	conn    net.Conn
	frames  spec.FrameReader
	stan    int
	out     []byte // the frame that was sent last
	last    *Slip  // of the last transaction that can be reversed
	pending bool   // its outcome is not known
	totals  Totals
}

// Totals are what DE 74 to 89 of a reconciliation say.
type Totals struct {
	Debit, DebitBack, Credit, CreditBack spec.Tally
}

// New checks the configuration. It opens nothing.
func New(cfg Config) (*Terminal, error) {
	if cfg.Dialect == nil || cfg.Dialect.UnionPay() || cfg.Dialect.Framing().CUPS {
		return nil, errors.New("iso87: the dialect is not one of ISO 8583:1987 terminals")
	}
	if cfg.MAC == "" {
		if rule := cfg.Dialect.MAC(); rule != nil {
			cfg.MAC = rule.Alg
		}
	}
	switch {
	case len(cfg.TID) != 8:
		return nil, fmt.Errorf("iso87: TID %q has not 8 characters", cfg.TID)
	case len(cfg.MID) != 15:
		return nil, fmt.Errorf("iso87: MID %q has not 15 characters", cfg.MID)
	case cfg.Dial == nil:
		return nil, errors.New("iso87: no Dial in the configuration")
	case cfg.Dialect.MAC() != nil && cfg.MAC != "x919" && cfg.MAC != "cmac":
		return nil, fmt.Errorf("iso87: MAC %q is neither x919 nor cmac", cfg.MAC)
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, terminal.DefaultTimeout)
	tmk, err := algo.NewDESKey(cfg.TMK[:])
	if err != nil {
		return nil, fmt.Errorf("iso87: TMK: %w", err)
	}
	t := &Terminal{cfg: cfg, tmk: tmk, stan: cfg.STAN}
	if cfg.KSN != "" {
		if cfg.Dialect.KSNField() == 0 {
			return nil, fmt.Errorf("iso87: %s has no field for a key serial number", cfg.Dialect.Name())
		}
		if t.dukpt, err = newDevice(cfg.KSN); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// TID names the terminal.
func (t *Terminal) TID() string { return t.cfg.TID }

// Dialect is what it speaks.
func (t *Terminal) Dialect() *spec.Dialect { return t.cfg.Dialect }

// Pending reports a transaction whose outcome the terminal does not know. It
// is reversed before the next one.
func (t *Terminal) Pending() bool { return t.pending }

// Close hangs up. The terminal may be used again and dials anew.
func (t *Terminal) Close() error {
	if t.conn == nil {
		return nil
	}
	err := t.conn.Close()
	t.conn = nil
	return err
}

// LastFrame is the bytes of the last request, to be sent again with Resend.
func (t *Terminal) LastFrame() []byte { return append([]byte(nil), t.out...) }

func (t *Terminal) failure(f terminal.Failure, what spec.MTI, cause error) error {
	if cause == nil {
		return fmt.Errorf("terminal %s: %s: %w", t.cfg.TID, what, f)
	}
	return fmt.Errorf("terminal %s: %s: %w: %w", t.cfg.TID, what, f, cause)
}

// NextSTAN takes the next trace number, 1 to 999999 and round again.
func (t *Terminal) NextSTAN() int {
	t.stan = t.stan%999999 + 1
	return t.stan
}

// SignOn, SignOff and Echo are 0800 with DE 70 001, 002 and 301. An answer that
// is not 00 is a *terminal.Refusal.
func (t *Terminal) SignOn(ctx context.Context) error {
	_, err := t.network(ctx, "sign-on", spec.NetworkSignOn)
	return err
}

// SignOff: see SignOn.
func (t *Terminal) SignOff(ctx context.Context) error {
	_, err := t.network(ctx, "sign-off", spec.NetworkSignOff)
	return err
}

// Echo: see SignOn.
func (t *Terminal) Echo(ctx context.Context) error {
	_, err := t.network(ctx, "echo", spec.NetworkEcho)
	return err
}

// ExchangeKeys asks for working keys (DE 70 101) and takes them.
func (t *Terminal) ExchangeKeys(ctx context.Context) error {
	a, err := t.network(ctx, "key exchange", spec.NetworkKeyExchange)
	if err != nil {
		return err
	}
	b, ok := t.cfg.Dialect.Keys(&a.Message)
	if !ok {
		return t.failure(terminal.ErrKeys, 0x0800, fmt.Errorf("DE %d carries none", t.cfg.Dialect.KeyField()))
	}
	keys, err := algo.ParseDE62(t.tmk, b)
	if err != nil {
		return t.failure(terminal.ErrKeys, 0x0800, err)
	}
	t.keys = keys
	return nil
}

func (t *Terminal) network(ctx context.Context, what string, code int64) (*Answer, error) {
	m := &spec.Message{}
	m.Reset(t.cfg.Dialect, 0x0800)
	t.stamp(m)
	m.Set(41, t.cfg.TID)
	t.put(m, 42, t.cfg.MID)
	m.SetInt(70, code)
	a, err := t.exchange(ctx, m, nil)
	if err != nil {
		return nil, err
	}
	if a.Code != "00" {
		return nil, &terminal.Refusal{TID: t.cfg.TID, What: what, Code: a.Code}
	}
	return a, nil
}

// stamp gives m the next trace number and, where the dialect has it, DE 7 in
// GMT.
func (t *Terminal) stamp(m *spec.Message) {
	t.put(m, 7, time.Now().UTC().Format("0102150405"))
	m.SetInt(11, int64(t.NextSTAN()))
}

// put sets a field that not every dialect has.
func (t *Terminal) put(m *spec.Message, n int, v string) {
	if v != "" && t.cfg.Dialect.Declares(n) {
		m.Set(n, v)
	}
}

// Answer is a host's answer.
type Answer struct {
	STAN     int
	Code     string // DE 39
	RRN      string // DE 37
	AuthCode string // DE 38
	Balance  *money.Amount
	Message  spec.Message
	Repeated *Answer // to the second copy of a Fault that sent the same bytes twice
}

// Approved reports a code that a terminal takes for a yes: 00, 10 and 11.
func (a *Answer) Approved() bool { return a.Code == "00" || a.Code == "10" || a.Code == "11" }

// Exchange sends a message that the caller built, signed where its kind is, and
// waits for the answer. The terminal remembers nothing of it.
func (t *Terminal) Exchange(ctx context.Context, m *spec.Message) (*Answer, error) {
	return t.exchange(ctx, m, nil)
}

// exchange signs m as its kind wants, sends it and waits for its answer.
func (t *Terminal) exchange(ctx context.Context, m *spec.Message, fault *terminal.Fault) (*Answer, error) {
	if fault == nil {
		fault = &terminal.Fault{}
	}
	if err := t.pack(m, fault); err != nil {
		return nil, err
	}
	if fault.Withhold {
		return nil, t.failure(terminal.ErrTimeout, m.MTI(), errors.New("not sent, as asked"))
	}
	frame := t.out
	if fault.Twice {
		frame = append(t.LastFrame(), t.out...)
	}
	if err := t.send(ctx, m.MTI(), frame); err != nil {
		return nil, err
	}
	if fault.HangUp {
		return nil, errors.Join(t.failure(terminal.ErrLine, m.MTI(), errors.New("hung up, as asked")), t.Close())
	}
	a, err := t.await(ctx, m)
	if err == nil && fault.Twice {
		a.Repeated, err = t.await(ctx, m)
	}
	if err == nil && fault.DropAnswer {
		return nil, t.failure(terminal.ErrTimeout, m.MTI(), errors.New("answer dropped, as asked"))
	}
	return a, err
}

// pack makes t.out the frame of m, signed when its kind is.
func (t *Terminal) pack(m *spec.Message, fault *terminal.Fault) error {
	d := t.cfg.Dialect
	if fault.Change != nil {
		fault.Change(m)
	}
	signs := d.Signs(m) && !fault.NoMAC
	if signs {
		if t.keys.MAK == nil {
			return t.failure(terminal.ErrNoKeys, m.MTI(), nil)
		}
		m.SetBytes(d.MACField(m), make([]byte, 8))
	}
	var err error
	if t.out, err = d.AppendFrame(t.out[:0], [5]byte{0x60, 0, 3, 0, 0}, make([]byte, d.Framing().Header), m); err != nil {
		return fmt.Errorf("terminal %s: packing %s: %w", t.cfg.TID, m.MTI(), err)
	}
	if signs {
		mac, err := t.SignFrame(t.out)
		if err != nil {
			return fmt.Errorf("terminal %s: MAC of %s: %w", t.cfg.TID, m.MTI(), err)
		}
		if fault.WrongMAC {
			mac[0] ^= 1
		}
	}
	if fault.Corrupt != nil {
		t.out = fault.Corrupt(t.out)
	}
	return nil
}

// SignFrame writes the MAC into the last eight bytes of a frame and returns
// where they are.
func (t *Terminal) SignFrame(frame []byte) ([]byte, error) {
	block, mac := spec.SignedPart(t.cfg.Dialect.FrameBody(frame))
	sum, err := t.mac(block)
	copy(mac, sum[:])
	return mac, err
}

func (t *Terminal) mac(block []byte) (out [8]byte, err error) {
	if t.cfg.MAC == "cmac" {
		return t.keys.MAK.CMAC(block), nil
	}
	_, err = t.keys.MAK.AppendRetailMAC(out[:0], algo.PadZeros, block)
	return out, err
}

// Resend sends bytes again and gives the answer to them.
func (t *Terminal) Resend(ctx context.Context, frame []byte) (*Answer, error) {
	var m spec.Message
	d := t.cfg.Dialect
	if err := d.Parse(&m, d.FrameBody(frame)); err != nil {
		return nil, fmt.Errorf("terminal %s: what is to be sent again: %w", t.cfg.TID, err)
	}
	if err := t.send(ctx, m.MTI(), frame); err != nil {
		return nil, err
	}
	return t.await(ctx, &m)
}

func (t *Terminal) send(ctx context.Context, what spec.MTI, frame []byte) error {
	if t.conn == nil {
		dial, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
		defer cancel()
		conn, err := t.cfg.Dial(dial)
		if err != nil {
			return t.failure(terminal.ErrDial, what, err)
		}
		t.conn, t.frames = conn, t.cfg.Dialect.Frames()
	}
	if t.cfg.Observe != nil {
		t.cfg.Observe(true, frame)
	}
	err := t.conn.SetDeadline(time.Now().Add(t.cfg.Timeout))
	if err == nil {
		_, err = t.conn.Write(frame)
	}
	if err != nil {
		return t.lost(ctx, what, err)
	}
	return nil
}

// lost hangs up after a line that failed.
func (t *Terminal) lost(ctx context.Context, what spec.MTI, err error) error {
	var bad *spec.FrameError
	f := terminal.ErrLine
	switch {
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		f = terminal.ErrTimeout
	case errors.As(err, &bad):
		f = terminal.ErrFormat
	}
	return t.failure(f, what, errors.Join(err, t.Close()))
}

// maxFrame is more than any answer has.
const maxFrame = 4096

// await reads until the answer to m is there; late answers to others are let
// pass. It is held against the request, and the MAC of an approval is verified.
func (t *Terminal) await(ctx context.Context, m *spec.Message) (*Answer, error) {
	conn := t.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // fails on a line that has failed
	defer stop()
	d := t.cfg.Dialect
	for {
		err := t.frames.Wait(conn)
		n := 0
		if err == nil {
			n, err = t.frames.Length(conn, maxFrame)
		}
		var frame spec.POSFrame
		if err == nil {
			frame, err = t.frames.Body(conn, make([]byte, n))
		}
		if err != nil {
			return nil, t.lost(ctx, m.MTI(), err)
		}
		a := &Answer{}
		if err := d.Parse(&a.Message, frame.Body); err != nil {
			return nil, t.failure(terminal.ErrFormat, m.MTI(), errors.Join(err, t.Close()))
		}
		if t.cfg.Observe != nil {
			t.cfg.Observe(false, frame.Body)
		}
		if a.Message.MTI() != m.MTI().Response() || a.Message.Has(11) && a.Message.Text(11) != m.Text(11) {
			continue
		}
		stan, _ := m.Int(11)
		a.STAN, a.Code, a.RRN, a.AuthCode = int(stan), a.Message.Text(39), a.Message.Text(37), a.Message.Text(38)
		if b, ok := balanceOf(a.Message.Text(54)); ok {
			a.Balance = &b
		}
		return a, t.check(m, a)
	}
}

func (t *Terminal) check(m *spec.Message, a *Answer) error {
	for _, n := range [...]int{3, 4, 41, 42, 70} {
		if m.Has(n) && a.Message.Has(n) && m.Text(n) != a.Message.Text(n) && (n != 42 || a.Code == "00") && (n != 4 || a.Code != "10") {
			return t.failure(terminal.ErrMismatch, m.MTI(), fmt.Errorf("DE %d is not the request's", n))
		}
	}
	d := t.cfg.Dialect
	if !m.Has(d.MACField(m)) || !a.Approved() {
		return nil
	}
	if !a.Message.Has(d.MACField(&a.Message)) {
		return t.failure(terminal.ErrMAC, m.MTI(), errors.New("an approval without MAC"))
	}
	block, mac := spec.SignedPart(a.Message.Raw())
	want, err := t.mac(block)
	if err != nil || subtle.ConstantTimeCompare(mac, want[:]) != 1 {
		return t.failure(terminal.ErrMAC, m.MTI(), err)
	}
	return nil
}

// balanceOf reads the first balance of DE 54: account type 2, amount type 2,
// currency 3, C or D, amount 12.
func balanceOf(de54 string) (money.Amount, bool) {
	if len(de54) < 20 {
		return 0, false
	}
	var v int64
	for _, c := range de54[8:20] {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if de54[7] == 'D' {
		v = -v
	}
	return money.Amount(v), true
}

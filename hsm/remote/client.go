package remote

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/audit"
)

// ErrUnavailable: nobody answers on the socket. Nothing was done, or nobody
// knows: every verb may be asked again.
var ErrUnavailable = errors.New("hsm: the HSM's process does not answer; start acquirer hsm serve, or look at its log")

// DialConfig is how a client reaches the HSM.
type DialConfig struct {
	Socket      string
	Connections int           // in the pool; 0 is 4
	Timeout     time.Duration // for one verb when its caller sets no earlier deadline; 0 is 3 s
	Log         *slog.Logger  // nil says nothing
}

// Client is the HSM behind a socket. Calls are spread over a few connections,
// many at once on each, and find their answers by number. A connection that
// breaks is dialled again; what was under way on it is asked again on another,
// since no verb does harm twice. PIN failures are counted here, where the
// terminal is known that a PIN came from (hsm.ForTerminal).
type Client struct {
	hsm.PINGuard
	cfg   DialConfig
	lines []*line
	next  atomic.Uint32
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

var _ hsm.Keeper = (*Client)(nil)

// Dial starts a client. The HSM need not be there yet: verbs wait for it as
// long as they may.
func Dial(cfg DialConfig) *Client {
	if cfg.Connections == 0 {
		cfg.Connections = 4
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 3 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{cfg: cfg, stop: stop}
	for range cfg.Connections {
		l := &line{cfg: &c.cfg, up: make(chan struct{})}
		c.lines = append(c.lines, l)
		c.wg.Go(func() { l.keep(ctx) })
	}
	return c
}

// Close ends the connections. Calls under way are told ErrUnavailable.
func (c *Client) Close() error {
	c.stop()
	c.wg.Wait()
	return nil
}

// String names the socket.
func (c *Client) String() string { return "HSM at " + c.cfg.Socket }

// Up reports whether a connection stands.
func (c *Client) Up() bool {
	for _, l := range c.lines {
		if l.conn.Load() != nil {
			return true
		}
	}
	return false
}

// line is one connection of the pool and what waits on it.
type line struct {
	cfg  *DialConfig
	conn atomic.Pointer[net.UnixConn] // nil while it is down

	mu      sync.Mutex
	id      uint64
	waiting map[uint64]chan []byte // closed without an answer when the line breaks
	up      chan struct{}          // closed when the line comes up
}

// keep dials, reads answers until the connection breaks, and dials again.
func (l *line) keep(ctx context.Context) {
	const least, most = 20 * time.Millisecond, time.Second
	pause := time.Duration(0)
	said := false
	for ctx.Err() == nil {
		if pause > 0 {
			t := time.NewTimer(pause)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", l.cfg.Socket)
		if err != nil {
			if !said {
				l.cfg.Log.Warn("the HSM cannot be reached", "socket", l.cfg.Socket, "error", err.Error())
				said = true
			}
			pause = min(max(2*pause, least), most)
			continue
		}
		began := time.Now()
		err = l.read(ctx, conn.(*net.UnixConn))
		if ctx.Err() == nil {
			l.cfg.Log.Warn("a connection to the HSM ended", "socket", l.cfg.Socket, "error", fmt.Sprint(err))
		}
		said = false
		if pause = least; time.Since(began) < least { // it refuses this user, or is in trouble
			pause = most
		}
	}
}

// read serves one connection.
func (l *line) read(ctx context.Context, conn *net.UnixConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	l.mu.Lock()
	l.waiting = map[uint64]chan []byte{}
	l.conn.Store(conn)
	close(l.up)
	l.mu.Unlock()
	defer func() {
		_ = conn.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conn.Store(nil)
		for _, ch := range l.waiting {
			close(ch)
		}
		l.waiting = nil
		l.up = make(chan struct{})
	}()
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		id, body, _, err := readFrame(in, nil)
		if err != nil {
			return err
		}
		l.mu.Lock()
		ch := l.waiting[id]
		delete(l.waiting, id)
		l.mu.Unlock()
		if ch != nil { // else its caller waits no longer
			ch <- body
		}
	}
}

// send writes one call. ok is false when the line is down.
func (l *line) send(frame []byte, deadline time.Time) (id uint64, answer chan []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn := l.conn.Load()
	if conn == nil || l.waiting == nil {
		return 0, nil, false
	}
	l.id++
	binary.BigEndian.PutUint64(frame[4:], l.id)
	answer = make(chan []byte, 1)
	l.waiting[l.id] = answer
	if err := conn.SetWriteDeadline(deadline); err == nil {
		if _, err = conn.Write(frame); err == nil {
			return l.id, answer, true
		}
	}
	delete(l.waiting, l.id)
	_ = conn.Close() // half a frame may have left: the reader ends the line
	return 0, nil, false
}

func (l *line) forget(id uint64) {
	l.mu.Lock()
	delete(l.waiting, id)
	l.mu.Unlock()
}

// raised is closed when the line is up, or was when it was asked.
func (l *line) raised() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// ask sends a call and returns the body of its answer.
func (c *Client) ask(ctx context.Context, name string, args ...any) (*reader, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	frame := appendFrame(make([]byte, 0, 512), 0)
	defer func() { clear(frame[:cap(frame)]) }()
	frame = appendBytes(frame, name)
	frame = binary.AppendUvarint(frame, uint64(max(1, time.Until(deadline).Milliseconds())))
	frame = appendValue(frame, reflect.ValueOf(audit.Custodians(ctx)))
	for _, a := range args {
		frame = appendValue(frame, reflect.ValueOf(a))
	}
	frame, err := endFrame(frame)
	if err != nil {
		return nil, err
	}
	for tries := 0; ; {
		l, err := c.pick(ctx)
		if err != nil {
			return nil, err
		}
		id, answer, ok := l.send(frame, deadline)
		if !ok {
			continue // down since it was picked
		}
		select {
		case body, whole := <-answer:
			if whole {
				return &reader{b: body}, nil
			}
			// When the HSM goes, the lines break one after the other.
			if tries++; tries > len(c.lines) {
				return nil, ErrUnavailable
			}
		case <-ctx.Done():
			l.forget(id)
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
}

// pick returns a line that is up, and waits for one when none is.
func (c *Client) pick(ctx context.Context) (*line, error) {
	n := uint32(len(c.lines))
	for {
		at := c.next.Add(1)
		for i := range n {
			if l := c.lines[(at+i)%n]; l.conn.Load() != nil {
				return l, nil
			}
		}
		select {
		case <-c.lines[at%n].raised():
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
}

// call0 to call3 are a verb with so many results before its error.
func call0(ctx context.Context, c *Client, name string, args ...any) error {
	r, err := c.ask(ctx, name, args...)
	if err != nil {
		return err
	}
	return results(r)
}

func call1[A any](ctx context.Context, c *Client, name string, args ...any) (a A, err error) {
	r, err := c.ask(ctx, name, args...)
	if err == nil {
		err = results(r, &a)
	}
	return a, err
}

func call2[A, B any](ctx context.Context, c *Client, name string, args ...any) (a A, b B, err error) {
	r, err := c.ask(ctx, name, args...)
	if err == nil {
		err = results(r, &a, &b)
	}
	return a, b, err
}

func call3[A, B, D any](ctx context.Context, c *Client, name string, args ...any) (a A, b B, d D, err error) {
	r, err := c.ask(ctx, name, args...)
	if err == nil {
		err = results(r, &a, &b, &d)
	}
	return a, b, d, err
}

// results reads an answer.
func results(r *reader, into ...any) error {
	head := r.take(1)
	if len(head) == 0 {
		return errCodec
	}
	if head[0] != 0 {
		return readError(r)
	}
	for _, p := range into {
		r.value(reflect.ValueOf(p).Elem())
	}
	return r.end()
}

// GenerateKey implements hsm.HSM, as do those after it.
func (c *Client) GenerateKey(ctx context.Context, use hsm.Use, alg hsm.Alg) (hsm.Key, hsm.KCV, error) {
	return call2[hsm.Key, hsm.KCV](ctx, c, "GenerateKey", use, alg)
}

func (c *Client) ImportKey(ctx context.Context, kek hsm.Key, use hsm.Use, cryptogram, kcv []byte) (hsm.Key, error) {
	return call1[hsm.Key](ctx, c, "ImportKey", kek, use, cryptogram, kcv)
}

func (c *Client) ExportKey(ctx context.Context, kek, key hsm.Key) (cryptogram, kcv []byte, err error) {
	return call2[[]byte, []byte](ctx, c, "ExportKey", kek, key)
}

func (c *Client) DeliverTMK(ctx context.Context, transport hsm.Key, alg hsm.Alg) (tmk hsm.Key, cryptogram, kcv []byte, err error) {
	return call3[hsm.Key, []byte, []byte](ctx, c, "DeliverTMK", transport, alg)
}

func (c *Client) WorkingKeys(ctx context.Context, tmk hsm.Key, set hsm.KeySet, shape hsm.MAKShape) (hsm.WorkingKeys, error) {
	return call1[hsm.WorkingKeys](ctx, c, "WorkingKeys", tmk, set, shape)
}

func (c *Client) CheckValue(ctx context.Context, key hsm.Key) (hsm.KCV, error) {
	return call1[hsm.KCV](ctx, c, "CheckValue", key)
}

func (c *Client) TranslatePIN(ctx context.Context, in hsm.Key, inFormat hsm.PINFormat, block hsm.PINBlock, pan card.PAN, out hsm.Key, outFormat hsm.PINFormat) (hsm.PINBlock, error) {
	if c.Locked(ctx, in) {
		return hsm.PINBlock{}, hsm.ErrPIN
	}
	translated, err := call1[hsm.PINBlock](ctx, c, "TranslatePIN", in, inFormat, block, pan, out, outFormat)
	if errors.Is(err, hsm.ErrPIN) {
		c.Failed(ctx, in)
	}
	return translated, err
}

func (c *Client) TranslateDUKPT(ctx context.Context, bdk hsm.Key, ksn []byte, inFormat hsm.PINFormat, block hsm.PINBlock, pan card.PAN, out hsm.Key, outFormat hsm.PINFormat) (hsm.PINBlock, error) {
	if c.Locked(ctx, bdk) {
		return hsm.PINBlock{}, hsm.ErrPIN
	}
	translated, err := call1[hsm.PINBlock](ctx, c, "TranslateDUKPT", bdk, ksn, inFormat, block, pan, out, outFormat)
	if errors.Is(err, hsm.ErrPIN) {
		c.Failed(ctx, bdk)
	}
	return translated, err
}

func (c *Client) VerifyPIN(ctx context.Context, key hsm.Key, format hsm.PINFormat, block hsm.PINBlock, pan card.PAN, pvk hsm.Key, ref hsm.PVV) error {
	if c.Locked(ctx, key) {
		return hsm.ErrPIN
	}
	err := call0(ctx, c, "VerifyPIN", key, format, block, pan, pvk, ref)
	if errors.Is(err, hsm.ErrPIN) {
		c.Failed(ctx, key)
	}
	return err
}

func (c *Client) VerifyCVV(ctx context.Context, cvk hsm.Key, pan card.PAN, expiry, service, cvv string) error {
	return call0(ctx, c, "VerifyCVV", cvk, pan, expiry, service, cvv)
}

func (c *Client) VerifyARQC(ctx context.Context, imk hsm.Key, g hsm.Cryptogram) (arpc [8]byte, err error) {
	return call1[[8]byte](ctx, c, "VerifyARQC", imk, g)
}

func (c *Client) MAC(ctx context.Context, key hsm.Key, alg hsm.MACAlg, data []byte) ([8]byte, error) {
	return call1[[8]byte](ctx, c, "MAC", key, alg, data)
}

func (c *Client) VerifyMAC(ctx context.Context, key hsm.Key, alg hsm.MACAlg, data, mac []byte) error {
	return call0(ctx, c, "VerifyMAC", key, alg, data, mac)
}

func (c *Client) Encrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error) {
	return call1[[]byte](ctx, c, "Encrypt", key, aad, data)
}

func (c *Client) Decrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error) {
	return call1[[]byte](ctx, c, "Decrypt", key, aad, data)
}

func (c *Client) Token(ctx context.Context, key hsm.Key, data []byte) ([16]byte, error) {
	return call1[[16]byte](ctx, c, "Token", key, data)
}

func (c *Client) DecryptTrack(ctx context.Context, tdk hsm.Key, scheme hsm.TrackScheme, track []byte) ([]byte, error) {
	return call1[[]byte](ctx, c, "DecryptTrack", tdk, scheme, track)
}

// FormKey implements hsm.Keeper, as do those after it. The components cross
// the socket: it is for test keys; a ceremony enters its own into the HSM.
func (c *Client) FormKey(ctx context.Context, use hsm.Use, alg hsm.Alg, components ...[]byte) (hsm.Key, hsm.KCV, error) {
	return call2[hsm.Key, hsm.KCV](ctx, c, "FormKey", use, alg, components)
}

func (c *Client) Inspect(ctx context.Context, key hsm.Key) (hsm.KeyInfo, error) {
	return call1[hsm.KeyInfo](ctx, c, "Inspect", key)
}

func (c *Client) Rewrap(ctx context.Context, key hsm.Key) (hsm.Key, error) {
	return call1[hsm.Key](ctx, c, "Rewrap", key)
}

func (c *Client) DeliverTMKBlock(ctx context.Context, kbpk hsm.Key, alg hsm.Alg) (tmk hsm.Key, block string, kcv hsm.KCV, err error) {
	return call3[hsm.Key, string, hsm.KCV](ctx, c, "DeliverTMKBlock", kbpk, alg)
}

func (c *Client) Masters(ctx context.Context) ([]hsm.KCV, error) {
	return call1[[]hsm.KCV](ctx, c, "Masters")
}

// Status says how the HSM stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call1[Status](ctx, c, "Status")
}

// Ready is nil when the HSM answers and is open: its health, for whoever
// depends on it.
func (c *Client) Ready(ctx context.Context) error {
	s, err := c.Status(ctx)
	if err == nil && s.Sealed {
		return ErrSealed
	}
	return err
}

// Unlock opens a vault that a passphrase opens.
func (c *Client) Unlock(ctx context.Context, passphrase []byte) error {
	return call0(ctx, c, "Unlock", passphrase)
}

// EnterComponent gives one custodian's component; see Vault.EnterComponent.
func (c *Client) EnterComponent(ctx context.Context, custodian string, value []byte) ([]string, error) {
	return call1[[]string](ctx, c, "EnterComponent", custodian, value)
}

// Seal takes the master key out of the HSM's memory.
func (c *Client) Seal(ctx context.Context) error { return call0(ctx, c, "Seal") }

// Change changes the master key; see Vault.Change.
func (c *Client) Change(ctx context.Context, change Change, custodians []string, passphrase []byte) ([]string, error) {
	return call1[[]string](ctx, c, "Change", change, custodians, passphrase)
}

// VerifyAudit has the HSM check its log, whose key only it has.
func (c *Client) VerifyAudit(ctx context.Context, noted string) (audit.Report, error) {
	return call1[audit.Report](ctx, c, "VerifyAudit", noted)
}

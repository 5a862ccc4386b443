package routing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/fault"
	"acquirer/spec"
)

// What Send refuses with. Every error of Send is one of the two, and the
// difference is money: after ErrUnreachable nothing left the house and nothing
// is owed; after ErrUnanswered the issuer may have booked the transaction and
// is owed a reversal.
var (
	ErrUnreachable = errors.New("routing: nothing left the house")
	ErrUnanswered  = errors.New("routing: it left the house, or may have, and no answer came")
)

// SendError says why Send failed. errors.Is tells ErrUnreachable from
// ErrUnanswered.
type SendError struct {
	Issuer string // or the wallet
	Wallet bool   // Issuer is a wallet
	Left   bool   // bytes left the house or may have left it
	Why    Why    // for people and metrics
	Err    error  // the cause, where there is one
}

// Why is a reason of a SendError, in words that never hold card data.
type Why string

// The reasons. The first group is ErrUnreachable, the second ErrUnanswered.
const (
	NoLine    Why = "no line is signed on"
	Drained   Why = "its lines were taken out of service"
	Busy      Why = "as many requests are in flight as the issuer is allowed"
	SameTrace Why = "the same request (STAN, RRN and terminal) is in flight"
	Unsigned  Why = "the message could not be built or signed"
	Unwritten Why = "the line stood still and the message was taken back"
	Closing   Why = "the issuer's lines are being closed"

	TimedOut  Why = "no answer in time"
	Broken    Why = "the line broke after the message was written"
	Abandoned Why = "the caller gave up waiting"
)

// label is the reason in a word, for metrics.
func (w Why) label() string {
	switch w {
	case NoLine:
		return "no_line"
	case Drained:
		return "drained"
	case Busy:
		return "busy"
	case SameTrace:
		return "duplicate"
	case Unsigned:
		return "unsigned"
	case Unwritten:
		return "unwritten"
	case Closing:
		return "closing"
	case TimedOut:
		return "timeout"
	case Broken:
		return "broken"
	case Abandoned:
		return "abandoned"
	}
	return "other"
}

func (e *SendError) Error() string {
	party := "issuer "
	if e.Wallet {
		party = "wallet "
	}
	s := "routing: " + party + e.Issuer + ": " + string(e.Why)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports which of the two sentences the error is.
func (e *SendError) Is(target error) bool {
	return target == ErrUnreachable && !e.Left || target == ErrUnanswered && e.Left
}

// Unwrap gives the cause.
func (e *SendError) Unwrap() error { return e.Err }

// Config describes an issuer, or the network that stands for it. Zero
// durations and numbers take the defaults named beside them.
type Config struct {
	Name        string   // as the BIN table has it
	Addrs       []string // one line each, "host:port"
	Drained     []int    // lines, from 1, that begin out of service, as Drain leaves them
	Institution string   // the issuer's institution code, header and DE 100; at most 11 digits
	Acquirer    string   // ours, header and DE 33; at most 11 digits

	// Dialect is what the issuer speaks; nil is spec.CUPS. CheckDialect says
	// what keeps one from being spoken.
	Dialect *spec.Dialect
	// Head is what stands before each message in framings other than CUPS's:
	// TPDU and header, each where the framing has one. Nil is TPDU 6000000000
	// and zeros.
	Head []byte

	Timeout        time.Duration // an answer later than this is late; 25 s, below the terminals' 60 s
	ConnectTimeout time.Duration // TCP and TLS together; 15 s
	WriteTimeout   time.Duration // one write on the socket; 5 s
	SignOnTimeout  time.Duration // sign-on and key exchange; 15 s
	EchoInterval   time.Duration // a line that brought nothing for so long is sent an echo; 30 s
	EchoTimeout    time.Duration // 10 s
	EchoMisses     int           // so many echoes in a row without answer close the line; 3
	BackoffMin     time.Duration // before the first reconnect at most this, doubled each time; 200 ms
	BackoffMax     time.Duration // 30 s
	TimeoutStreak  int           // so many requests in a row without answer, over two Timeouts or longer, close the line, though its echoes are answered; 10
	MaxInFlight    int           // the bulkhead: so many requests at once; 1024
	QueueTimeout   time.Duration // beyond MaxInFlight, or behind a line that takes no bytes, a request waits so long and is then ErrUnreachable; 500 ms

	TLS  *tls.Config                                              // nil for plain TCP
	Dial func(ctx context.Context, addr string) (net.Conn, error) // nil for TCP, or TLS when TLS is set

	// Keys signs and verifies DE 128 and takes new zone keys; see the
	// interface. Nil sends messages without a MAC, for lines inside one
	// machine that are measured, never for an issuer.
	Keys Keys
	// DoubleZAK asks for a MAC key of double length (X9.19) instead of single
	// (X9.9). A dialect that says how it is signed is always asked for one.
	DoubleZAK bool
	// Observe is told of every message that found no caller. It is called on
	// the line's reader and must not block; nil ignores them.
	Observe func(Stray)
	Log     *slog.Logger // nil for slog.Default
	Metrics *Metrics     // nil counts nothing
}

func (c *Config) defaults() error {
	if c.Name == "" || len(c.Addrs) == 0 {
		return errors.New("routing: an issuer needs a name and at least one address")
	}
	for _, code := range []string{c.Institution, c.Acquirer} {
		if len(code) > 11 || !digits(code) {
			return fmt.Errorf("routing: issuer %s: institution code %q is not up to 11 digits", c.Name, code)
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.Timeout, 25 * time.Second}, {&c.ConnectTimeout, 15 * time.Second}, {&c.WriteTimeout, 5 * time.Second},
		{&c.SignOnTimeout, 15 * time.Second}, {&c.EchoInterval, 30 * time.Second}, {&c.EchoTimeout, 10 * time.Second},
		{&c.BackoffMin, 200 * time.Millisecond}, {&c.BackoffMax, 30 * time.Second}, {&c.QueueTimeout, fault.Bound(500*time.Millisecond, 20*time.Millisecond)},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v < 0 {
			return fmt.Errorf("routing: issuer %s: a duration is negative", c.Name)
		}
	}
	if c.EchoMisses == 0 {
		c.EchoMisses = 3
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = fault.Bound(1024, 5)
	}
	if c.TimeoutStreak == 0 {
		c.TimeoutStreak = 10
	}
	if c.EchoMisses < 0 || c.MaxInFlight < 0 || c.TimeoutStreak < 0 {
		return fmt.Errorf("routing: issuer %s: a number is negative", c.Name)
	}
	if c.BackoffMax < c.BackoffMin {
		return fmt.Errorf("routing: issuer %s: back-off of at least %v and at most %v", c.Name, c.BackoffMin, c.BackoffMax)
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			if c.TLS != nil {
				return (&tls.Dialer{Config: c.TLS}).DialContext(ctx, "tcp", addr)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Observe == nil {
		c.Observe = func(Stray) {}
	}
	return nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Issuer is the way to one issuer: its lines, what is in flight on them, and
// its keys. Safe for concurrent use.
type Issuer struct {
	cfg   Config
	speak speech
	log   *slog.Logger
	met   *issuerMetrics
	links []*Link
	calls sync.Pool // of *call; per issuer, since a timer belongs to its synctest bubble

	mu      sync.Mutex
	pending map[uint64]*call // by callKey; calls that share one are a list
	recent  [recentSize]finished
	closing bool
	waiting int                      // of pending, those that are not network management
	empty   chan struct{}            // made by Close, closed when waiting is 0
	up      chan struct{}            // closed and renewed whenever a line comes up
	rolled  map[KeyUse]chan struct{} // closed when the next key of that use is in

	places chan struct{} // MaxInFlight of them, one for each request in flight
	queued atomic.Int32  // requests that wait for a place
	trace  atomic.Uint32 // STAN of our own management messages

	keyTurn chan struct{} // holds one token: who asks for keys
	keyed   atomic.Bool   // keys have come since a line last stood
	doubt   chan uint32   // 1-buffered: keys of that generation may not be the issuer's

	stop context.CancelFunc
	done sync.WaitGroup
}

// NewIssuer starts the lines of an issuer; they connect, sign on and stay up
// in the background until Close.
func NewIssuer(cfg Config) (*Issuer, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	speak, err := newSpeech(&cfg)
	if err != nil {
		return nil, fmt.Errorf("routing: issuer %s: %w", cfg.Name, err)
	}
	if speak.MAC() != nil {
		cfg.DoubleZAK = true
	}
	ctx, stop := context.WithCancel(context.Background())
	i := &Issuer{
		cfg: cfg, speak: speak, log: cfg.Log.With("issuer", cfg.Name),
		pending: map[uint64]*call{}, places: make(chan struct{}, cfg.MaxInFlight), up: make(chan struct{}), keyTurn: make(chan struct{}, 1), doubt: make(chan uint32, 1), rolled: map[KeyUse]chan struct{}{}, stop: stop,
	}
	i.calls.New = func() any { return newCall() }
	i.met = cfg.Metrics.of(i)
	for n, addr := range cfg.Addrs {
		l := &Link{issuer: i, number: n + 1, addr: addr, turned: make(chan struct{})}
		l.state.Line, l.state.Addr, l.state.Since, l.state.Drained = n+1, addr, time.Now(), slices.Contains(cfg.Drained, n+1)
		i.links = append(i.links, l)
		i.met.lineUp(n, false)
		i.met.lineDrained(n, l.state.Drained)
	}
	if cfg.Keys != nil {
		i.keyed.Store(cfg.Keys.Ready())
		i.done.Go(func() { i.keepKeys(ctx) })
	}
	for _, l := range i.links {
		i.done.Go(func() { l.run(ctx) })
	}
	return i, nil
}

// Name is the issuer's name.
func (i *Issuer) Name() string { return i.cfg.Name }

// Dialect is what the issuer speaks, for BuildRequest.
func (i *Issuer) Dialect() *spec.Dialect { return i.speak.Dialect }

// Institution is the issuer's institution code, for DE 100.
func (i *Issuer) Institution() string { return i.cfg.Institution }

// Timeout is how long Send waits for an answer.
func (i *Issuer) Timeout() time.Duration { return i.cfg.Timeout }

// Send sends req (0100, 0200, 0220, 0420, 0620, ... of Dialect, with DE 11,
// 37, 41 and mostly 4) on a line that is signed on and waits for its answer, which
// it parses into ans; both belong to the caller, and ans refers to bytes that
// nobody else touches. With Keys set, the MAC of req is overwritten and signed,
// and the answer's is verified.
//
// An answer is this request's when its MTI, STAN (DE 11) and every one of
// RRN (DE 37), terminal (DE 41) and amount (DE 4) that the request carried
// are the same, and its MAC is right. A request that takes a partial approval
// (DE 60.3.4) may also be answered with 10 and a smaller amount. Whatever else
// arrives is counted, told to Config.Observe and never handed to a caller, who
// stays waiting.
//
// A reversal prefers the line of what it reverses (its STAN in DE 90), so that
// it does not overtake it. Everything else goes by its own STAN, a void too:
// its sale was answered before.
//
// Every error is a *SendError and is ErrUnreachable or ErrUnanswered.
func (i *Issuer) Send(ctx context.Context, req, ans *spec.Message) error {
	began := time.Now()
	err := i.enter(ctx)
	if err == nil {
		err = i.send(ctx, i.cfg.Timeout-time.Since(began), req, ans)
		<-i.places
	}
	if err == nil {
		i.met.answered(time.Since(began))
	} else {
		i.met.failed(err)
	}
	return err
}

// enter takes a place among the requests in flight. When there is none it
// waits for one, but not long: what an issuer is slow with, its terminals hear
// soon, and nobody else waits for it.
func (i *Issuer) enter(ctx context.Context) error {
	select {
	case i.places <- struct{}{}:
		return nil
	default:
	}
	i.queued.Add(1)
	defer i.queued.Add(-1)
	late := time.NewTimer(min(i.cfg.QueueTimeout, i.cfg.Timeout))
	defer late.Stop()
	select {
	case i.places <- struct{}{}:
		return nil
	case <-late.C:
		return i.fail(false, Busy, nil)
	case <-ctx.Done():
		return i.fail(false, Busy, ctx.Err())
	}
}

func (i *Issuer) send(ctx context.Context, wait time.Duration, req, ans *spec.Message) error {
	c := i.calls.Get().(*call)
	defer c.release(&i.calls)
	if err := i.prepare(ctx, c, req, i.cfg.Keys != nil); err != nil {
		return i.fail(false, Unsigned, err)
	}
	return i.exchange(ctx, c, nil, wait, ans)
}

func (i *Issuer) fail(left bool, why Why, err error) error {
	return &SendError{Issuer: i.cfg.Name, Left: left, Why: why, Err: err}
}

// prepare fills c with the frame of req and with what its answer must show.
func (i *Issuer) prepare(ctx context.Context, c *call, req *spec.Message, sign bool) error {
	stan, ok := req.Int(11)
	if !ok {
		return errors.New("the message has no STAN (DE 11)")
	}
	c.reset(req.MTI().Response(), uint32(stan))
	c.rrn.set(req.Bytes(37))
	c.terminal.set(req.Bytes(41))
	c.amount.set(req.Bytes(4))
	c.partial = i.speak.CUPS() && AsksPartial(req.Bytes(60))
	c.prefer = uint32(stan)
	if req.MTI().Class() == 4 {
		if original, ok := spec.ParseDE90(req); ok {
			c.prefer = uint32(original.STAN)
		}
	}
	if sign {
		req.SetBytes(MACField(i.speak.Dialect, req), zeroMAC[:])
	}
	return i.pack(ctx, c, req, sign)
}

var zeroMAC [8]byte

// pack lays a frame with m into c.frame and signs it there.
func (i *Issuer) pack(ctx context.Context, c *call, m *spec.Message, sign bool) error {
	frame, err := i.speak.appendFrame(c.frame[:0], m)
	c.frame = frame
	if err != nil || !sign {
		return err
	}
	block, mac := spec.SignedPart(i.speak.body(frame))
	signed, generation, err := i.cfg.Keys.Sign(ctx, block)
	if err != nil {
		return err
	}
	copy(mac, signed[:])
	c.generation, c.signed = generation, true
	return nil
}

// exchange registers c, sends it on the session given or on the best one, and
// waits. It is the only place where a request's fate is decided.
func (i *Issuer) exchange(ctx context.Context, c *call, pinned *session, wait time.Duration, ans *spec.Message) error {
	c.management = pinned != nil
	if why := i.register(c); why != "" {
		return i.fail(false, why, nil)
	}
	ends := time.Now().Add(wait)
	if pinned == nil { // first as long as the socket may take to take it
		wait = min(wait, i.cfg.QueueTimeout)
	}
	c.timer.Reset(wait)
	defer c.timer.Stop()
	for {
		s := pinned
		if s == nil {
			if s = i.pick(c.prefer); s == nil {
				return i.settle(ctx, c, ans, false, i.noLine(), nil)
			}
		}
		if !s.enqueue(c) {
			// the session is closing; with its pointer gone from the link
			// the next pick gives another one or none
			if pinned != nil {
				return i.settle(ctx, c, ans, false, NoLine, s.cause())
			}
			s.link.retire(s)
			continue
		}
		s.link.inFlight.Add(1)
		gone, why, err := i.await(ctx, c, s, ends, ans)
		s.link.inFlight.Add(-1)
		s.ended(c)
		switch {
		case err == nil && !gone:
			return nil
		case !gone:
			// timed out or given up: what still lies in the queue is taken back
			if c.withdraw() {
				return i.settle(ctx, c, ans, false, Unwritten, nil)
			}
			err = i.settle(ctx, c, ans, true, why, err)
			if err != nil && why == TimedOut && !c.management {
				s.unheard()
			}
			return err
		default:
			s.link.retire(s)
			if !c.takeBack() {
				return i.settle(ctx, c, ans, true, Broken, s.cause())
			}
			// the session ended before the first byte of this frame: another
			// line may carry it
			if pinned != nil {
				return i.settle(ctx, c, ans, false, NoLine, s.cause())
			}
		}
	}
}

// await waits for the answer (nil error), the end of the session (gone), the
// moment when it ends or the caller's context. The timer rings a first time
// when the frame should have left; if it has, it is wound up for the answer,
// and if it has not, the writer does not get it any more.
func (i *Issuer) await(ctx context.Context, c *call, s *session, ends time.Time, ans *spec.Message) (gone bool, why Why, err error) {
	for {
		select {
		case <-c.arrived:
			if i.accept(ctx, c, ans) {
				return false, "", nil
			}
		case <-s.gone:
			return true, "", nil
		case <-c.timer.C:
			if left := time.Until(ends); left > 0 && !c.withdraw() {
				c.timer.Reset(left)
				continue
			}
			return false, TimedOut, context.DeadlineExceeded
		case <-ctx.Done():
			return false, Abandoned, ctx.Err()
		}
	}
}

// pick gives a session that may carry traffic: the one that prefer names, or
// the next one that is signed on, or nil.
func (i *Issuer) pick(prefer uint32) *session {
	n := uint32(len(i.links))
	for k := range n {
		if s := i.links[(prefer+k)%n].session.Load(); s != nil {
			return s
		}
	}
	return nil
}

// noLine says why there is no session to send on.
func (i *Issuer) noLine() Why {
	for _, l := range i.links {
		if !l.isDrained() {
			return NoLine
		}
	}
	return Drained
}

// AwaitUp waits until some line carries traffic.
func (i *Issuer) AwaitUp(ctx context.Context) error {
	for {
		i.mu.Lock()
		up := i.up
		i.mu.Unlock()
		if i.Up() {
			return nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return fmt.Errorf("routing: issuer %s: no line came up: %w", i.cfg.Name, ctx.Err())
		}
	}
}

// Close refuses new requests, waits until those in flight have ended or ctx
// has, signs off and closes the lines. Who still waits then hears
// ErrUnanswered. After Close no goroutine of the issuer runs.
func (i *Issuer) Close(ctx context.Context) error {
	i.mu.Lock()
	if i.closing {
		i.mu.Unlock()
		return errors.New("routing: issuer " + i.cfg.Name + " is closed already")
	}
	i.closing = true
	i.empty = make(chan struct{})
	if i.waiting == 0 {
		close(i.empty)
	}
	empty := i.empty
	i.mu.Unlock()
	var err error
	select {
	case <-empty:
	case <-ctx.Done():
		err = fmt.Errorf("routing: issuer %s: closing with requests in flight: %w", i.cfg.Name, ctx.Err())
	}
	i.stop()
	i.done.Wait()
	i.met.forget()
	return err
}

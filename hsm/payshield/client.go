package payshield

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/hsm"
	"acquirer/hsm/algo"
)

// ClientConfig says which devices there are and how they are spoken to. All of
// them have the same LMK.
type ClientConfig struct {
	Devices       []string      // host:port each; the device's own port is 1500
	Connections   int           // to each device; 4 when 0
	HeaderLength  int           // characters of message header, as the devices are set
	Timeout       time.Duration // for one command on one device, then the next is asked; 2 s when 0
	Probe         time.Duration // between two health checks of a device; 5 s when 0
	PerSecond     int           // calls per second that each device is licensed for; 0 for no limit
	Queue         int           // most callers that wait for one device; 1,000 when 0
	LMK           string        // identifier of two digits put behind every command; "" for none
	SeparateTypes bool          // the devices enforce key type 002 separation (PCI HSM): TPK 70D, TMK 80D, TEK 30B
	AllowTest     bool          // talk to what no real PIN may go to: a device with the published test LMK, or one in software
	TLS           *tls.Config   // nil for plain TCP
	Local         hsm.HSM       // data at rest and tokens, which no payShield does; may be nil
	Log           *slog.Logger
}

// Client is an hsm.HSM that asks payShields over their host interface.
// Commands are spread over the devices that answer; when one fails, the next
// is asked. It keeps no keys: they are stored as the device gave them, under
// its LMK.
type Client struct {
	hsm.PINGuard

	cfg     ClientConfig
	devices []*device
	turn    atomic.Uint64
	metrics *clientMetrics

	mu    sync.Mutex
	check string // of the LMK that all devices must have
	test  bool
	news  chan struct{} // closed, and made anew, when a device or a line comes

	stop context.CancelFunc
	wg   sync.WaitGroup
}

var _ hsm.HSM = (*Client)(nil)

// ErrSoftware says that what answers is acquirer hsm serve.
var ErrSoftware = errors.New("payshield: the device is one in software, which may not process PINs of real cardholders")

// ErrUnavailable says that no device could be asked.
var ErrUnavailable = errors.New("no payShield answers")

// device is one of the machines and the connections to it.
type device struct {
	addr  string
	pace  *pace
	trust atomic.Bool // the last health check was good

	mu    sync.Mutex
	lines []*line // nil where there is none
}

// NewClient starts to connect, in the background; AwaitUp waits for it.
func NewClient(cfg ClientConfig) (*Client, error) {
	if len(cfg.Devices) == 0 {
		return nil, errors.New("payshield: no device: name them as host:port")
	}
	if cfg.HeaderLength < 0 || cfg.HeaderLength > MaxHeader {
		return nil, fmt.Errorf("payshield: a message header of %d characters, want 0 to %d", cfg.HeaderLength, MaxHeader)
	}
	if cfg.LMK != "" && (len(cfg.LMK) != 2 || strings.Trim(cfg.LMK, "0123456789") != "") {
		return nil, fmt.Errorf("payshield: LMK identifier %q, want two digits", cfg.LMK)
	}
	for _, v := range []struct {
		to *int
		is int
	}{{&cfg.Connections, 4}, {&cfg.Queue, 1000}} {
		if *v.to == 0 {
			*v.to = v.is
		}
	}
	for _, v := range []struct {
		to *time.Duration
		is time.Duration
	}{{&cfg.Timeout, 2 * time.Second}, {&cfg.Probe, 5 * time.Second}} {
		if *v.to == 0 {
			*v.to = v.is
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{cfg: cfg, metrics: newClientMetrics(), news: make(chan struct{}), stop: stop}
	for _, addr := range cfg.Devices {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			stop()
			return nil, fmt.Errorf("payshield: device %q: %w", addr, err)
		}
		d := &device{addr: addr, pace: newPace(cfg.PerSecond, cfg.Queue), lines: make([]*line, cfg.Connections)}
		c.devices = append(c.devices, d)
		for i := range d.lines {
			c.wg.Go(func() { c.hold(ctx, d, i) })
		}
		c.wg.Go(func() { c.watch(ctx, d) })
	}
	return c, nil
}

// Close ends every connection. Commands that are on them fail.
func (c *Client) Close() error {
	c.stop()
	c.wg.Wait()
	return nil
}

// String names the devices.
func (c *Client) String() string { return "payShield at " + strings.Join(c.cfg.Devices, ", ") }

// Format keeps the client's inside out of logs.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// AwaitUp waits until a device answers and its LMK is one to work with.
func (c *Client) AwaitUp(ctx context.Context) error {
	for {
		c.mu.Lock()
		news := c.news
		c.mu.Unlock()
		for _, d := range c.devices {
			if d.up() {
				return nil
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("payshield: %w: %s: %w", ErrUnavailable, strings.Join(c.cfg.Devices, ", "), context.Cause(ctx))
		}
	}
}

func (c *Client) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.news)
	c.news = make(chan struct{})
}

// believe sets whether the device may be given commands.
func (c *Client) believe(d *device, good bool) {
	if d.trust.Swap(good) != good && good {
		c.tell()
	}
}

func (d *device) up() bool { return d.trust.Load() && d.line() != nil }

// line is the one with the fewest commands on it, nil when there is none.
func (d *device) line() (best *line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	least := 0
	for _, l := range d.lines {
		if l == nil || !l.alive() {
			continue
		}
		if n := l.inFlight(); best == nil || n < least {
			best, least = l, n
		}
	}
	return best
}

func (d *device) inFlight() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lines {
		if l != nil {
			n += l.inFlight()
		}
	}
	return n
}

// Waits between two attempts to connect.
const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 5 * time.Second
)

// hold keeps one connection to a device open until ctx ends.
func (c *Client) hold(ctx context.Context, d *device, slot int) {
	backoff := backoffMin
	for ctx.Err() == nil {
		conn, err := c.dial(ctx, d.addr)
		if err != nil {
			if backoff == backoffMin {
				c.cfg.Log.Warn("payShield cannot be reached", "device", d.addr, "error", err.Error())
			}
			pause(ctx, backoff/2+rand.N(backoff/2))
			backoff = min(2*backoff, backoffMax)
			continue
		}
		backoff = backoffMin
		l := newLine(conn, c.cfg.HeaderLength, c.cfg.Timeout)
		d.mu.Lock()
		d.lines[slot] = l
		d.mu.Unlock()
		if !d.trust.Load() { // do not wait for the next health check
			c.probe(ctx, d)
		}
		c.tell()
		select {
		case <-l.gone:
			if ctx.Err() == nil {
				c.cfg.Log.Warn("payShield connection lost", "device", d.addr, "error", l.failure().Error())
			}
			pause(ctx, backoffMin)
		case <-ctx.Done():
			l.close(ctx.Err())
		}
		d.mu.Lock()
		d.lines[slot] = nil
		d.mu.Unlock()
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (c *Client) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.cfg.Timeout, time.Second))
	defer cancel()
	if c.cfg.TLS != nil {
		return (&tls.Dialer{Config: c.cfg.TLS}).DialContext(ctx, "tcp", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// watch checks a device's health now and then.
func (c *Client) watch(ctx context.Context, d *device) {
	tick := time.NewTicker(c.cfg.Probe)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.probe(ctx, d)
		}
	}
}

// probe asks on every line for the LMK's check value (NC) and the state of the
// machine (JK, which may be disabled). A device with another LMK than the
// first, or with the published test LMK where that is not allowed, is not used.
func (c *Client) probe(ctx context.Context, d *device) {
	d.mu.Lock()
	lines := slices.Clone(d.lines)
	d.mu.Unlock()
	good, bad := 0, error(nil)
	for _, l := range lines {
		if l == nil || !l.alive() {
			continue
		}
		if err := c.healthy(ctx, l); err == nil {
			good++
		} else if bad == nil || !errors.Is(err, errLine) {
			bad = err
		}
	}
	if ctx.Err() != nil {
		return
	}
	well := good > 0 && (bad == nil || errors.Is(bad, errLine))
	switch was := d.trust.Load(); {
	case well && !was:
		c.cfg.Log.Info("payShield is up", "device", d.addr)
	case !well && bad != nil && (was || !errors.Is(bad, errLine)):
		c.cfg.Log.Error("payShield is not used", "device", d.addr, "error", bad.Error())
	}
	c.believe(d, well)
}

func (c *Client) healthy(ctx context.Context, l *line) error {
	answer, err := l.do(ctx, "NC"+c.lmkID(), c.cfg.Timeout)
	if err != nil {
		return err
	}
	fields, code, err := parseAnswer("NC", answer)
	if err != nil {
		return err
	}
	if code != OK || len(fields) < 16 {
		return &Error{"NC", code}
	}
	if fields[16:] == firmware && !c.cfg.AllowTest {
		return ErrSoftware
	}
	if err := c.sameLMK(fields[:16]); err != nil {
		return err
	}
	if answer, err = l.do(ctx, "JK", c.cfg.Timeout); err != nil {
		return err
	}
	fields, code, err = parseAnswer("JK", answer)
	if err == nil && code == OK && len(fields) > 30 && fields[30] == '2' {
		return errors.New("it says that it was tampered with")
	}
	return err
}

// realTestCheck is how a payShield shows the check value of its variant test
// LMK.
const realTestCheck = "268604"

// sameLMK holds every device to the LMK of the first.
func (c *Client) sameLMK(check string) error {
	own := algo.TestLMK().CheckValue()
	test := check == hexUpper(own[:]) || strings.HasPrefix(check, realTestCheck)
	if test && !c.cfg.AllowTest {
		return ErrTestLMK
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.check == "" {
		c.check, c.test = check, test
	}
	if c.check != check {
		return fmt.Errorf("its LMK has check value %s, the other's %s: every device needs the same LMK", check[:6], c.check[:6])
	}
	return nil
}

// lmkID is what selects the LMK, at the end of a command.
func (c *Client) lmkID() string {
	if c.cfg.LMK == "" {
		return ""
	}
	return "%" + c.cfg.LMK
}

// parseAnswer takes an answer apart that should be to the command.
func parseAnswer(command string, answer []byte) (fields string, code Code, err error) {
	if len(answer) < 4 || string(answer[:2]) != answerCode(command) {
		return "", "", fmt.Errorf("%w: what came is no answer to %s; is the header length that of the device?", errLine, command)
	}
	return string(answer[4:]), Code(answer[2:4]), nil
}

// broken are the codes of a device that is ill, where another may do.
var broken = []Code{BadLMK, "39", "40", "41", "42"}

// do asks one device after the other until one answers. All commands may be
// repeated: a key that was made twice is lost once, and nothing else is kept
// by a device. The code of the answer
// may be any but those of a broken device.
func (c *Client) do(ctx context.Context, command, fields string) (string, Code, error) {
	request := command + fields + c.lmkID()
	turn := int(c.turn.Add(1) % uint64(len(c.devices)))
	err := errors.New("none is connected")
	asked := false
	for i := range 2 * len(c.devices) { // the second round for one that has lost only some of its lines
		d := c.devices[(turn+i)%len(c.devices)]
		l := d.line()
		if l == nil || !d.trust.Load() || i >= len(c.devices) && !errors.Is(err, errLine) {
			continue
		}
		if asked {
			c.metrics.failovers.Inc()
		}
		asked = true
		var answer string
		var code Code
		if answer, code, err = c.ask(ctx, d, l, command, request); err == nil && !slices.Contains(broken, code) {
			return answer, code, nil
		}
		if ctx.Err() != nil {
			return "", "", fmt.Errorf("payshield: %s: %w", command, context.Cause(ctx))
		}
		if err == nil {
			err = &Error{command, code}
			c.believe(d, false)
		}
		if errors.Is(err, errQueueFull) {
			break // the others are as full, since callers are spread evenly
		}
	}
	return "", "", fmt.Errorf("payshield: %s: %w: %w", command, ErrUnavailable, err)
}

func (c *Client) ask(ctx context.Context, d *device, l *line, command, request string) (string, Code, error) {
	if err := d.pace.wait(ctx); err != nil {
		return "", "", err
	}
	began := time.Now()
	answer, err := l.do(ctx, request, c.cfg.Timeout)
	if err != nil {
		c.metrics.failed.WithLabelValues(d.addr, command).Inc()
		return "", "", err
	}
	fields, code, err := parseAnswer(command, answer)
	if err != nil {
		l.close(err)
		return "", "", err
	}
	c.metrics.seconds.WithLabelValues(d.addr, command).Observe(time.Since(began).Seconds())
	return fields, code, nil
}

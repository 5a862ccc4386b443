package street

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network is every line of the street, in memory and in the time of the bubble.
// A line carries whole messages, as the programs write them: each may be lost,
// late, doubled or overtaken by the next, and a line may break. The bytes of a
// message are never torn; fuzz targets and the socket tests do that.
type network struct {
	faults *faults

	mu        sync.Mutex
	rng       *rand.Rand
	weather   map[string]weather // by kind of line
	listeners map[string]*listener
	open      map[*wire]string // by kind of line
	dark      bool             // the house is dead: nothing is dialled
}

// weather is what may happen to the messages of one kind of line. Shares are
// probabilities of each message.
type weather struct {
	delay, jitter                       time.Duration
	lost, late, twice, overtaken, drops float64
	refused                             float64       // of dials
	lateness                            time.Duration // at most; a late message passes nobody's order
}

func newNetwork(rng *rand.Rand, f *faults) *network {
	return &network{rng: rng, faults: f, weather: map[string]weather{}, listeners: map[string]*listener{}, open: map[*wire]string{}}
}

func (n *network) set(kind string, w weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather[kind] = w
}

// calm ends every weather.
func (n *network) calm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.weather)
}

// listen opens an address of one kind of line.
func (n *network) listen(kind, addr string) net.Listener {
	l := &listener{n: n, kind: kind, addr: addr, waiting: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = l
	return l
}

// dial opens a line, or fails as dials do.
func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	refuse := l != nil && n.chance(n.weather[l.kind].refused)
	dark := n.dark
	n.mu.Unlock()
	if refuse {
		n.faults.fired(l.kind + " refuses a line")
	}
	if l == nil || refuse || dark {
		return nil, &net.OpError{Op: "dial", Net: "street", Err: syscall.ECONNREFUSED}
	}
	there, back := newHalf(), newHalf()
	w := &wire{there: there, back: back}
	n.mu.Lock()
	n.open[w] = l.kind
	n.mu.Unlock()
	near := &conn{n: n, kind: l.kind, wire: w, in: back, out: there, addr: l.addr}
	far := &conn{n: n, kind: l.kind, wire: w, in: there, out: back, addr: l.addr}
	select {
	case l.waiting <- far:
		return near, nil
	case <-l.closed:
		w.cut()
		return nil, &net.OpError{Op: "dial", Net: "street", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		w.cut()
		return nil, ctx.Err()
	}
}

// cut breaks every open line of a kind, or of all with "".
func (n *network) cut(kind string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w, k := range n.open {
		if kind == "" || k == kind {
			w.cut()
			delete(n.open, w)
		}
	}
}

// chance casts the dice; mu is held.
func (n *network) chance(p float64) bool { return p > 0 && n.rng.Float64() < p }

// carry says what becomes of a message: when each of its copies arrives, and
// whether the line breaks with it. A copy that is out of order comes when it
// comes; the others keep the line's order.
func (n *network) carry(kind string) (arrivals []arrival, drop bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.weather[kind]
	pause := w.delay
	if w.jitter > 0 {
		pause += time.Duration(n.rng.Int64N(int64(w.jitter)))
	}
	now := time.Now()
	upTo := func(d time.Duration) time.Duration { return time.Duration(1 + n.rng.Int64N(int64(d))) }
	switch {
	case n.chance(w.drops):
		n.faults.fired(kind + " line breaks")
		return nil, true
	case n.chance(w.lost):
		n.faults.fired(kind + " message lost")
		return nil, false
	case n.chance(w.late):
		n.faults.fired(kind + " message late")
		return []arrival{{now.Add(pause + upTo(w.lateness)), false}}, false
	case n.chance(w.overtaken):
		n.faults.fired(kind + " message overtaken")
		return []arrival{{now.Add(pause + upTo(3*time.Second)), false}}, false
	case n.chance(w.twice):
		n.faults.fired(kind + " message doubled")
		return []arrival{{now.Add(pause), true}, {now.Add(pause + upTo(5*time.Second)), false}}, false
	}
	return []arrival{{now.Add(pause), true}}, false
}

type arrival struct {
	at      time.Time
	inOrder bool
}

// wire is one line; each half is one direction.
type wire struct{ there, back *half }

func (w *wire) cut() {
	w.there.end(syscall.ECONNRESET, true)
	w.back.end(syscall.ECONNRESET, true)
}

// half is what is on its way in one direction.
type half struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and renewed at every change
	queue    []parcel      // by arrival
	newest   time.Time     // arrival of the last in order
	over     error         // no more will come: io.EOF, or why it broke
	closed   bool          // the reader has hung up
	deadline time.Time     // of the reader
}

type parcel struct {
	at    time.Time
	bytes []byte
}

func newHalf() *half { return &half{changed: make(chan struct{})} }

// tell wakes the reader; mu is held.
func (h *half) tell() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// end says that nothing more comes; now throws away what is on its way.
func (h *half) end(why error, now bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now {
		h.queue = nil
	}
	if h.over == nil {
		h.over = why
	}
	h.tell()
}

func (h *half) put(a arrival, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.inOrder {
		if a.at.Before(h.newest) {
			a.at = h.newest
		}
		h.newest = a.at
	}
	i := len(h.queue)
	for i > 0 && h.queue[i-1].at.After(a.at) {
		i--
	}
	h.queue = append(h.queue[:i], append([]parcel{{a.at, append([]byte(nil), b...)}}, h.queue[i:]...)...)
	h.tell()
}

// take reads what has arrived, or says when to look again: at a change or at a
// time. A message that is being read is read to its end before another.
func (h *half) take(b []byte) (n int, changed <-chan struct{}, next time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch {
	case h.closed:
		return 0, nil, next, net.ErrClosed
	case !h.deadline.IsZero() && !now.Before(h.deadline):
		return 0, nil, next, os.ErrDeadlineExceeded
	case len(h.queue) > 0 && !h.queue[0].at.After(now):
		first := &h.queue[0]
		n = copy(b, first.bytes)
		first.at, first.bytes = time.Time{}, first.bytes[n:] // the rest comes before anything else
		if len(first.bytes) == 0 {
			h.queue = h.queue[1:]
		}
		return n, nil, next, nil
	case len(h.queue) == 0 && h.over != nil:
		return 0, nil, next, h.over
	}
	next = h.deadline
	if len(h.queue) > 0 && (next.IsZero() || h.queue[0].at.Before(next)) {
		next = h.queue[0].at
	}
	return 0, h.changed, next, nil
}

// conn is one end of a line.
type conn struct {
	n       *network
	kind    string
	wire    *wire
	in, out *half
	addr    string
	tap     func(sent []byte)
}

func (c *conn) Read(b []byte) (int, error) {
	for {
		n, changed, next, err := c.in.take(b)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if next.IsZero() {
			<-changed
			continue
		}
		t := time.NewTimer(time.Until(next))
		select {
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

func (c *conn) Write(b []byte) (int, error) {
	c.in.mu.Lock()
	hungUp := c.in.closed
	c.in.mu.Unlock()
	c.out.mu.Lock()
	gone := c.out.closed || c.out.over != nil
	c.out.mu.Unlock()
	switch {
	case hungUp:
		return 0, net.ErrClosed
	case gone:
		return 0, syscall.EPIPE
	}
	if c.tap != nil {
		c.tap(b)
	}
	arrivals, drop := c.n.carry(c.kind)
	if drop {
		c.wire.cut()
		return 0, syscall.ECONNRESET
	}
	for _, a := range arrivals {
		c.out.put(a, b)
	}
	return len(b), nil
}

func (c *conn) Close() error {
	c.n.mu.Lock()
	delete(c.n.open, c.wire)
	c.n.mu.Unlock()
	c.in.mu.Lock()
	was := c.in.closed
	c.in.closed = true
	c.in.tell()
	c.in.mu.Unlock()
	if was {
		return net.ErrClosed
	}
	c.out.end(io.EOF, false)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.deadline = t
	c.in.tell()
	return nil
}

// Writes end at once here, so they need no deadline.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
func (c *conn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *conn) LocalAddr() net.Addr              { return address(c.addr) }
func (c *conn) RemoteAddr() net.Addr             { return address(c.addr) }

type address string

func (address) Network() string  { return "street" }
func (a address) String() string { return string(a) }

type listener struct {
	n          *network
	kind, addr string
	waiting    chan net.Conn
	closed     chan struct{}
	once       sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.closed:
		return nil, fmt.Errorf("accept %s: %w", l.addr, net.ErrClosed)
	}
}

func (l *listener) Close() error {
	err := errors.New("closed already")
	l.once.Do(func() {
		err = nil
		close(l.closed)
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		if l.n.listeners[l.addr] == l {
			delete(l.n.listeners, l.addr)
		}
	})
	return err
}

func (l *listener) Addr() net.Addr { return address(l.addr) }

// faults counts what went wrong on purpose, by kind.
type faults struct {
	mu    sync.Mutex
	count map[string]int
}

func (f *faults) fired(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[kind]++
}

// darken ends every line at once and lets no new one be made from the house:
// its process is dead. light ends that.
func (n *network) darken() {
	n.mu.Lock()
	n.dark = true
	n.mu.Unlock()
	n.cut("")
}

func (n *network) light() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dark = false
}

package routing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moov-io/iso8583"
	connection "github.com/moov-io/iso8583-connection"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/spec"
)

// session is one life of a line's TCP connection. It stands on
// moov-io/iso8583-connection, which owns the socket, its read loop, its write
// loop and its end; what is in flight, deadlines and matching are ours. The
// library's own Send is not used: it can hand an answer to the wrong caller
// and hang when a loaded line drops. Two of its doors are:
//
//   - MessageReader: the hook reads a frame and delivers it itself; it returns
//     no message, which the library takes for one already dealt with. So
//     nothing is unpacked by moov.
//   - Write: one call writes the frames of all callers that wait, made into
//     one buffer by our writer.
type session struct {
	link  *Link
	conn  *connection.Connection
	wire  *wire
	began time.Time

	mu     sync.Mutex
	queue  []*call
	closed bool
	err    error         // why it ended
	open   int           // callers' requests that were handed to the session and have not ended
	leaves bool          // it takes no more of them
	idle   chan struct{} // closed when it takes no more and the last has ended
	streak int           // requests without answer since the last one that had one
	deaf   time.Time     // when the first of the streak was sent

	wake chan struct{} // 1-buffered: the queue is not empty
	gone chan struct{} // closed when the writer has ended: every call's state is final

	heard    atomic.Int64 // nanoseconds from began to the last message
	requests chan []byte  // from the issuer, for the handler
	resigned chan struct{}

	in     spec.Message // of the reader
	frames frames
	done   sync.WaitGroup
}

// wire is the socket as the library sees it: every write has a deadline, and
// how much of the last one was written is remembered.
type wire struct {
	net.Conn
	timeout time.Duration
	writes  int // by the library's write loop; read after Write has returned
	wrote   int
}

func (w *wire) Write(p []byte) (int, error) {
	w.writes++
	w.wrote = 0
	if err := w.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	n, err := w.Conn.Write(p)
	w.wrote = n
	return n, err
}

// forever switches the library's own timers off.
const forever = 10 * 365 * 24 * time.Hour

func newSession(l *Link, nc net.Conn) (*session, error) {
	s := &session{
		link: l, wire: &wire{Conn: nc, timeout: l.issuer.cfg.WriteTimeout}, began: time.Now(),
		wake: make(chan struct{}, 1), gone: make(chan struct{}), idle: make(chan struct{}),
		requests: make(chan []byte, 16), resigned: make(chan struct{}, 1),
	}
	if speak := &l.issuer.speak; !speak.Framing().CUPS {
		s.frames.other = speak.Frames()
	}
	conn, err := connection.NewFrom(s.wire, nil, nil, nil,
		connection.SetMessageReader(s), connection.IdleTime(forever), connection.ReadTimeout(forever))
	if err != nil {
		return nil, err
	}
	s.conn = conn
	s.done.Go(s.write)
	s.done.Go(s.handle)
	return s, nil
}

// fail ends the session; the first reason stays.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.closed = true
	s.mu.Unlock()
	s.conn.TriggerFailure(err)
}

func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return errors.New("the line was closed")
	}
	return s.err
}

// enqueue hands a call to the writer; false when the session is ending.
func (s *session) enqueue(c *call) bool {
	c.hold()
	s.mu.Lock()
	if s.closed || s.leaves && !c.management {
		s.mu.Unlock()
		c.holders.Add(-1) // the caller still holds it
		return false
	}
	if !c.management {
		s.open++
	}
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// ended says that a caller does not wait for this session any more.
func (s *session) ended(c *call) {
	if c.management {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open--; s.open == 0 && s.leaves {
		close(s.idle) // once: it takes no more
	}
}

// takeNoMore refuses further requests of callers; idle is closed when those it
// has have ended.
func (s *session) takeNoMore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaves {
		return
	}
	if s.leaves = true; s.open == 0 {
		close(s.idle)
	}
}

// unheard counts a request that had no answer in time. A line that is
// connected and dead, or whose other end has lost its host, may answer echoes
// for hours: after so many requests in a row it is closed and dialled again. A
// burst times out all at once, so the streak must also be as long as two
// time-outs: by then an issuer that is only slow has answered something.
func (s *session) unheard() {
	cfg := &s.link.issuer.cfg
	s.mu.Lock()
	if s.streak++; s.streak == 1 {
		s.deaf = time.Now().Add(-cfg.Timeout)
	}
	n, silence := s.streak, time.Since(s.deaf)
	s.mu.Unlock()
	if n >= cfg.TimeoutStreak && silence >= 2*cfg.Timeout {
		s.link.retire(s)
		s.fail(fmt.Errorf("%d requests in a row without answer in %v", n, silence.Round(time.Millisecond)))
	}
}

// write is the session's writer. It yields once before it takes the queue, so
// that callers who are about to send share one write.
func (s *session) write() {
	var batch []*call
	var starts []int // of each frame of batch in buf
	var buf []byte
	pool := &s.link.issuer.calls
	defer func() {
		s.mu.Lock()
		s.closed = true
		left := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, c := range left {
			c.release(pool)
		}
		close(s.gone)
	}()
	for {
		select {
		case <-s.wake:
		case <-s.conn.Done():
			return
		}
		runtime.Gosched()
		s.mu.Lock()
		batch, s.queue = s.queue, batch[:0]
		s.mu.Unlock()
		buf, starts = buf[:0], starts[:0]
		for _, c := range batch {
			starts = append(starts, len(buf))
			if c.state.CompareAndSwap(queued, handed) {
				buf = append(buf, c.frame...)
			} else {
				starts[len(starts)-1] = -1 // withdrawn
			}
		}
		var err error
		if len(buf) > 0 {
			var n int
			n, err = s.send(buf)
			if err != nil {
				for k, c := range batch {
					if starts[k] >= n {
						c.state.Store(unsent)
					}
				}
			}
		}
		for k, c := range batch {
			c.release(pool)
			batch[k] = nil
		}
		if err != nil {
			s.fail(fmt.Errorf("writing: %w", err))
			return
		}
	}
}

// send writes buf in one write and returns how many of its bytes may have left
// the house. The library reports all of them even when it failed, so the wire
// is asked.
func (s *session) send(buf []byte) (int, error) {
	before := s.wire.writes
	fault.Hit("issuer.write.before")
	_, err := s.conn.Write(buf)
	fault.Hit("issuer.write.after")
	switch {
	case err == nil:
		return len(buf), nil
	case s.wire.writes == before:
		return 0, err // refused by the library: the connection has ended
	default:
		return s.wire.wrote, err
	}
}

// ReadMessage is the library's reading hook: one frame, delivered here, so the
// library is given nothing. An error ends the connection: behind a wrong
// header there is no next frame to be found.
func (s *session) ReadMessage(r io.Reader) (*iso8583.Message, error) {
	body, rejected, err := s.frames.read(r, &s.link.issuer.speak)
	if err != nil {
		s.mu.Lock()
		if s.err == nil {
			s.err = fmt.Errorf("reading: %w", err)
		}
		s.closed = true
		s.mu.Unlock()
		return nil, err
	}
	s.heard.Store(int64(time.Since(s.began)))
	i, line := s.link.issuer, s.link.number
	switch err := i.speak.Parse(&s.in, body); {
	case err != nil:
		i.log.Warn("message of the issuer is malformed", "line", line, "error", err)
		i.stray(Malformed, line, &s.in)
	case rejected:
		i.stray(Rejected, line, &s.in)
	case s.in.MTI().IsResponse():
		i.deliver(s, &s.in, body)
	default:
		select {
		case s.requests <- body:
		default:
			i.log.Warn("issuer sends requests faster than they are answered", "line", line)
			i.stray(Stranger, line, &s.in)
		}
	}
	return nil, nil
}

// handle answers what the issuer asks of us, apart from the reader, since a
// new key takes the HSM some time.
func (s *session) handle() {
	var m, reply spec.Message
	for {
		select {
		case body := <-s.requests:
			if err := s.link.issuer.speak.Parse(&m, body); err == nil {
				s.answer(&m, &reply)
			}
		case <-s.gone:
			return
		}
	}
}

func (s *session) answer(m, reply *spec.Message) {
	i := s.link.issuer
	info, _ := m.Int(70)
	code, came := "00", KeyUse(0)
	manages := m.MTI() == managementMTI(i.speak.Dialect)
	switch {
	case m.MTI() == 0x0800 && info == keyReset:
		var err error
		if came, code, err = i.takeKey(context.Background(), m); err != nil {
			i.log.Error("key of the issuer refused", "line", s.link.number, "error", err)
		}
		defer i.keyCame(came) // what waits for it leaves behind the answer: the issuer hears first that we have it
	case manages && (info == echoTest || info == signOn):
	case manages && info == signOff:
		select {
		case s.resigned <- struct{}{}:
		default:
		}
	default:
		i.stray(Stranger, s.link.number, m)
		return
	}
	reply.Reset(i.speak.Dialect, m.MTI().Response())
	reply.Copy(m, 7, 11, 33, 53, 70)
	reply.Set(39, code)
	if came != 0 {
		reply.SetBytes(MACField(i.speak.Dialect, reply), zeroMAC[:])
	}
	c := i.calls.Get().(*call)
	defer c.release(&i.calls)
	c.reset(reply.MTI(), 0)
	c.management = true
	if err := i.pack(context.Background(), c, reply, came != 0); err != nil {
		i.log.Error("answer to the issuer could not be built", "line", s.link.number, "error", err)
		return
	}
	s.enqueue(c)
}

// manage sends a network management code on this session and wants 00 in time.
func (s *session) manage(ctx context.Context, info int64, wait time.Duration, use KeyUse) error {
	i := s.link.issuer
	var m, ans spec.Message
	now := time.Now().In(calendar.Beijing)
	m.Reset(i.speak.Dialect, managementMTI(i.speak.Dialect))
	m.SetInt(7, transmissionTime(now))
	m.SetInt(11, int64(i.trace.Add(1)%999999+1))
	may(&m, 33, i.cfg.Acquirer)
	if use != 0 {
		control := []byte("1600000000000000")
		if control[0] = byte(use); use == ZAK && !i.cfg.DoubleZAK {
			control[1] = '0'
		}
		m.SetText(53, control)
	}
	m.SetInt(70, info)
	c := i.calls.Get().(*call)
	defer c.release(&i.calls)
	if err := i.prepare(ctx, c, &m, false); err != nil {
		return err
	}
	if err := i.exchange(ctx, c, s, wait, &ans); err != nil {
		return err
	}
	if code := ans.Text(39); code != "00" {
		return fmt.Errorf("routing: issuer %s answered %q to network management %03d", i.cfg.Name, code, info)
	}
	return nil
}

// transmissionTime is DE 7, MMDDhhmmss, as a number.
func transmissionTime(t time.Time) int64 {
	month, day := t.Month(), t.Day()
	h, m, s := t.Clock()
	return int64(month)*1e8 + int64(day)*1e6 + int64(h)*1e4 + int64(m)*100 + int64(s)
}

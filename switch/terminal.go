package switching

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/fault"
	"acquirer/journal"
	"acquirer/spec"
)

// Serve accepts UnionPay's terminals on l until ctx ends or Shutdown is called;
// every connection is one goroutine that reads a frame, handles it and answers
// it before it reads the next, so two frames in one segment are answered in
// order.
func (s *Switch) Serve(ctx context.Context, l net.Listener) error {
	return s.ServeDialect(ctx, l, spec.UnionPayPOS)
}

// ServeDialect is Serve for terminals of another dialect, one that Servable
// finds nothing wrong with.
func (s *Switch) ServeDialect(ctx context.Context, l net.Listener, d *spec.Dialect) error {
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	if !s.conns.listen(l) {
		return errors.Join(net.ErrClosed, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { s.conns.stopAccepting() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.conns.stopped() {
				return nil
			}
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			// Out of file descriptors and the like: the listener is still good.
			s.log.Error("accept failed; waiting before the next", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if !s.conns.add(conn, s.cfg.MaxConnections) {
			s.metrics.refused.WithLabelValues("full").Inc()
			s.closeQuietly(conn)
			continue
		}
		s.metrics.connections.Inc()
		s.conns.wg.Go(func() {
			defer s.metrics.connections.Dec()
			defer s.conns.remove(conn)
			why := s.serveTerminal(ctx, conn, d)
			s.metrics.frames.WithLabelValues(why).Inc()
		})
	}
}

// serveTerminal is one terminal's conversation. It returns why it ended, a
// word of a closed list. An idle terminal holds two bytes here and no buffer.
func (s *Switch) serveTerminal(ctx context.Context, conn net.Conn, d *spec.Dialect) (why string) {
	defer s.closeQuietly(conn)
	if err := s.shakeHands(ctx, conn); err != nil {
		return s.readEnded(conn, err)
	}
	frames := d.Frames()
	for !s.conns.stopped() {
		length, err := s.awaitFrame(conn, &frames)
		if err != nil {
			return s.readEnded(conn, err)
		}
		w := s.take(d, length)
		w.frame, err = frames.Body(conn, w.in)
		if err != nil {
			s.give(w)
			return s.readEnded(conn, err)
		}
		why := s.converse(ctx, conn, w)
		s.give(w)
		if why != "" {
			return why
		}
	}
	return "shutdown"
}

// shakeHands is TLS's beginning, under the frame deadline: who dials and says
// nothing must not stay for as long as a terminal that idles (fault 5).
func (s *Switch) shakeHands(ctx context.Context, conn net.Conn) error {
	c, over := conn.(*tls.Conn)
	if !over {
		return nil
	}
	if err := conn.SetDeadline(time.Now().Add(s.cfg.FrameTimeout)); err != nil {
		return err
	}
	if s.conns.stopped() { // after the deadline: stopAccepting sets its own
		return net.ErrClosed
	}
	return c.HandshakeContext(ctx)
}

// converse answers one frame and writes its log line. It returns why the
// connection cannot go on, or "". A panic ends the connection, never the
// switch.
func (s *Switch) converse(ctx context.Context, conn net.Conn, w *work) (why string) {
	s.working.Add(1)
	defer s.working.Add(-1)
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			why = "panic"
		}
	}()
	why = s.reply(ctx, conn, w)
	s.finish(ctx, w)
	return why
}

// reply answers one frame. Whatever happens, who shares its transaction is
// told how that went.
func (s *Switch) reply(ctx context.Context, conn net.Conn, w *work) (why string) {
	var cause error = errNoAnswer
	defer func() { s.landed(ctx, w, cause) }()
	s.answer(ctx, w)
	if w.silent {
		if w.reason == journal.StoreTrouble {
			return "in_doubt"
		}
		return "dropped"
	}
	cause = s.write(conn, w.out)
	w.step(stepWrite)
	if cause != nil {
		return "write_failed"
	}
	return ""
}

var errNoAnswer = errors.New("no answer was written")

// awaitFrame waits for a frame under the idle deadline; as soon as its first
// byte is there the whole frame runs under the frame deadline, so a terminal
// that sends one byte a second is not taken for one that is idle.
func (s *Switch) awaitFrame(conn net.Conn, frames *spec.FrameReader) (length int, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(s.cfg.IdleTimeout)); err != nil {
		return 0, err
	}
	if s.conns.stopped() { // after the deadline: stopAccepting sets its own
		return 0, net.ErrClosed
	}
	if err := frames.Wait(conn); err != nil {
		return 0, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(s.cfg.FrameTimeout)); err != nil {
		return 0, err
	}
	return frames.Length(conn, s.cfg.MaxFrame)
}

// readEnded says why a connection was left, and logs what an operator would
// want to look at.
func (s *Switch) readEnded(conn net.Conn, err error) string {
	var fe *spec.FrameError
	switch {
	case errors.As(err, &fe):
		s.log.Warn("bad frame; connection closed", "remote", conn.RemoteAddr().String(), "error", fe.Error())
		return "bad_frame"
	case errors.Is(err, spec.ErrFrameCut):
		return "cut_frame"
	case errors.Is(err, io.EOF):
		return "eof"
	case s.conns.stopped(), errors.Is(err, net.ErrClosed):
		return "shutdown"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "deadline"
	}
	return "read_failed"
}

func (s *Switch) write(conn net.Conn, out []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)); err != nil {
		return err
	}
	fault.Hit("terminal.answer.before")
	_, err := conn.Write(out)
	fault.Hit("terminal.answer.after")
	return err
}

// answer parses the frame and lets its handler fill the answer. A panic in a
// handler costs this message a 96, never the switch; a handler that had
// already opened a transaction leaves it open, so that it is owed. What will be
// done after all is not refused.
func (s *Switch) answer(ctx context.Context, w *work) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			if w.journaled && w.row.stands() {
				s.dropped(w, "a panic left it undecided")
				return
			}
			s.refuse(w, RCMalfunction)
		}
	}()
	if err := w.dialect.Parse(&w.req, w.frame.Body); err != nil {
		s.malformed(w, err)
		return
	}
	s.handle(ctx, w)
}

// panicked reports the defect that a recovered panic is.
func (s *Switch) panicked(p any) {
	s.metrics.panics.Inc()
	s.log.Error("handling a message panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// connections is the set of open terminals and the listeners they came from.
type connections struct {
	mu        sync.Mutex
	open      map[net.Conn]struct{}
	listeners []net.Listener
	closed    atomic.Bool
	wg        sync.WaitGroup
}

func (c *connections) listen(l net.Listener) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return false
	}
	c.listeners = append(c.listeners, l)
	return true
}

func (c *connections) add(conn net.Conn, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() || len(c.open) >= most {
		return false
	}
	if c.open == nil {
		c.open = map[net.Conn]struct{}{}
	}
	c.open[conn] = struct{}{}
	return true
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

func (c *connections) stopped() bool { return c.closed.Load() }

// stopAccepting closes the listeners and wakes every terminal that is waiting
// for its next frame; one in the middle of a transaction is answered first.
func (c *connections) stopAccepting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed.Store(true)
	for _, l := range c.listeners {
		_ = l.Close() // a second close of a listener is all that can go wrong
	}
	for conn := range c.open {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// closeAll ends what is left after the drain.
func (c *connections) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
}

// Connections is how many terminals are connected now.
func (s *Switch) Connections() int {
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	return len(s.conns.open)
}

// InFlight is how many requests are read and not yet answered.
func (s *Switch) InFlight() int { return int(s.working.Load()) }

// Shutdown stops accepting, lets running transactions answer until ctx ends,
// then closes what is left; what was sent and not closed is owed at the next
// start (W5).
func (s *Switch) Shutdown(ctx context.Context) error {
	s.conns.stopAccepting()
	done := make(chan struct{})
	go func() {
		s.conns.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.conns.closeAll()
		<-done
		return fmt.Errorf("switch: some transactions were still running at the end of the drain: %w", ctx.Err())
	}
}

func (s *Switch) closeQuietly(c io.Closer) {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("closing a terminal connection", "error", err, slog.String("kind", "close"))
	}
}

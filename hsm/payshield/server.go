package payshield

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// ServerConfig is how a Server listens.
type ServerConfig struct {
	HeaderLength   int           // characters of message header, 0 to MaxHeader
	MaxConnections int           // held at once; one more is closed at accept; 64 when 0
	IdleTimeout    time.Duration // silence between two commands; 0 for none, as the device has it
	WriteTimeout   time.Duration // for an answer to leave; 10 s when 0
	TLS            *tls.Config   // nil for plain TCP
	Log            *slog.Logger  // what connects and what fails; never a message
}

// Server answers the commands of a Device on the wire: pipelined commands of
// one connection in their order, connections beside each other.
type Server struct {
	d   *Device
	cfg ServerConfig

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	done  bool
	wg    sync.WaitGroup
}

// NewServer puts a device behind a wire.
func NewServer(d *Device, cfg ServerConfig) (*Server, error) {
	if cfg.HeaderLength < 0 || cfg.HeaderLength > MaxHeader {
		return nil, fmt.Errorf("payshield: a message header of %d characters, want 0 to %d", cfg.HeaderLength, MaxHeader)
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 64
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d.header = cfg.HeaderLength
	return &Server{d: d, cfg: cfg, conns: map[net.Conn]struct{}{}}, nil
}

// Serve accepts connections until ctx ends, and returns when all of them are
// closed. The command that a connection is at is answered first.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		if err := l.Close(); err != nil {
			s.cfg.Log.Warn("closing the listener", "error", err.Error())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done = true
		for c := range s.conns {
			_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes a reader; one that is closed already needs none
		}
	})
	defer stop()
	defer s.wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("payshield: accepting: %w", err)
		}
		if !s.admit(c) {
			s.cfg.Log.Warn("connection refused: as many as there may be are open", "most", s.cfg.MaxConnections)
			_ = c.Close() // nothing was said on it
		}
	}
}

func (s *Server) admit(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || len(s.conns) >= s.cfg.MaxConnections {
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Go(func() { s.converse(c) })
	return true
}

// converse is one connection, from accept to close.
func (s *Server) converse(c net.Conn) {
	defer func() {
		if v := recover(); v != nil { // one connection lost, not the device
			s.cfg.Log.Error("a command panicked; its connection was closed", "stack", string(debug.Stack()))
		}
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close() // what could not be written is lost anyway
	}()
	wire := c
	if s.cfg.TLS != nil {
		t := tls.Server(c, s.cfg.TLS)
		if err := c.SetDeadline(time.Now().Add(s.cfg.WriteTimeout)); err != nil {
			return
		}
		if err := t.Handshake(); err != nil {
			s.cfg.Log.Warn("TLS handshake", "peer", c.RemoteAddr().String(), "error", err.Error())
			return
		}
		if err := c.SetDeadline(time.Time{}); err != nil {
			return
		}
		wire = t
	}
	err := s.answerAll(wire)
	if err != nil && !errors.Is(err, io.EOF) && !s.stopping() {
		s.cfg.Log.Info("connection ended", "peer", c.RemoteAddr().String(), "error", err.Error())
	}
}

func (s *Server) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

// wholeFrame says that another command has arrived already, all of it.
func wholeFrame(r *bufio.Reader) bool {
	if r.Buffered() < 2 {
		return false
	}
	head, err := r.Peek(2)
	return err == nil && r.Buffered()-2 >= int(binary.BigEndian.Uint16(head))
}

// answerAll answers commands in their order. Answers leave together while
// further commands are there, which is what makes pipelining cheap.
func (s *Server) answerAll(c net.Conn) error {
	r, w := bufio.NewReaderSize(c, 16<<10), bufio.NewWriterSize(c, 16<<10)
	var buf, out []byte
	for {
		if s.cfg.IdleTimeout > 0 {
			if err := c.SetReadDeadline(time.Now().Add(s.cfg.IdleTimeout)); err != nil {
				return err
			}
		}
		if s.stopping() { // asked after the deadline is set, which the stop sets too
			return w.Flush()
		}
		frame, err := readFrame(r, buf)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && s.stopping() {
				err = nil
			}
			return errors.Join(err, w.Flush())
		}
		buf = frame
		n := min(s.cfg.HeaderLength, len(frame))
		header, request := frame[:n], string(frame[n:])
		answer := s.d.Do(request)
		clear(frame[n:])
		if out, err = appendFrame(out[:0], header, answer); err != nil {
			if out, err = appendFrame(out[:0], header, []byte(answerCode(request[:2])), []byte(BadDataLength)); err != nil {
				return err
			}
		}
		if err := c.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)); err != nil {
			return err
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
		if !wholeFrame(r) {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
}

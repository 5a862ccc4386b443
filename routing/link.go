package routing

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Link is one line to an issuer: it connects, signs on, is watched with echoes
// and connects again when it breaks.
type Link struct {
	issuer *Issuer
	number int // from 1
	addr   string

	session  atomic.Pointer[session] // set while the line carries traffic
	inFlight atomic.Int32            // network management included

	mu     sync.Mutex
	state  LineState
	turned chan struct{} // closed and renewed when the line is drained or resumed
}

// LineState is what a line is doing.
type LineState struct {
	Line       int           `json:"line"`
	Addr       string        `json:"addr"`
	Connected  bool          `json:"connected"`
	SignedOn   bool          `json:"signed_on"` // and carries traffic
	Drained    bool          `json:"drained"`   // taken out of service on request
	Since      time.Time     `json:"since"`     // of the last change of the three
	InFlight   int           `json:"in_flight"`
	LastEcho   time.Duration `json:"last_echo"` // round trip, 0 before the first
	EchoMisses int           `json:"echo_misses"`
	Drops      uint64        `json:"drops"`      // how often it broke since the start
	LastError  string        `json:"last_error"` // why it is down, or was
}

// State is what an issuer's lines are doing.
type State struct {
	Issuer    string      `json:"issuer"`
	InFlight  int         `json:"in_flight"`
	Queued    int         `json:"queued"` // requests that wait for a place among those in flight
	KeysReady bool        `json:"keys_ready"`
	Lines     []LineState `json:"lines"`
}

// Up reports whether some line carries traffic.
func (s *State) Up() bool {
	for i := range s.Lines {
		if s.Lines[i].SignedOn {
			return true
		}
	}
	return false
}

// State returns a snapshot.
func (i *Issuer) State() State {
	st := State{Issuer: i.cfg.Name, InFlight: len(i.places), Queued: int(i.queued.Load()), KeysReady: i.cfg.Keys == nil || i.cfg.Keys.Ready()}
	for _, l := range i.links {
		l.mu.Lock()
		line := l.state
		l.mu.Unlock()
		line.InFlight = int(l.inFlight.Load())
		st.Lines = append(st.Lines, line)
	}
	return st
}

// Up reports whether some line carries traffic.
func (i *Issuer) Up() bool { return i.pick(0) != nil }

func (l *Link) update(change func(*LineState)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.state
	change(&l.state)
	if was.Connected != l.state.Connected || was.SignedOn != l.state.SignedOn || was.Drained != l.state.Drained {
		l.state.Since = time.Now()
	}
}

// admit lets traffic onto the line, retire takes it off.
func (l *Link) admit(s *session) {
	l.session.Store(s)
	l.issuer.met.lineUp(l.number-1, true)
	l.update(func(st *LineState) { st.SignedOn, st.EchoMisses, st.LastError = true, 0, "" })
	i := l.issuer
	i.mu.Lock()
	close(i.up)
	i.up = make(chan struct{})
	i.mu.Unlock()
}

func (l *Link) retire(s *session) {
	if l.session.CompareAndSwap(s, nil) {
		l.issuer.met.lineUp(l.number-1, false)
		l.update(func(st *LineState) { st.SignedOn = false })
	}
}

// Drain takes a line of the issuer out of service, numbered from 1, or all of
// them with 0. The line takes no more requests; when those in flight have ended
// it signs off and is closed, and it stays down until Resume. What cannot go elsewhere is ErrUnreachable. State tells
// how far it is.
func (i *Issuer) Drain(line int) error { return i.turn(line, true) }

// Resume puts a line that was drained into service again, or with 0 all of
// them: it connects at once.
func (i *Issuer) Resume(line int) error { return i.turn(line, false) }

// Lines is how many lines the issuer has.
func (i *Issuer) Lines() int { return len(i.links) }

func (i *Issuer) turn(line int, out bool) error {
	if line < 0 || line > len(i.links) {
		return fmt.Errorf("routing: issuer %s has lines 1 to %d and no line %d", i.cfg.Name, len(i.links), line)
	}
	for _, l := range i.links {
		if line == 0 || line == l.number {
			l.turn(out)
		}
	}
	return nil
}

func (l *Link) turn(out bool) {
	changed := false
	l.update(func(st *LineState) {
		if st.Drained == out {
			return
		}
		changed, st.Drained = true, out
		close(l.turned)
		l.turned = make(chan struct{})
	})
	if changed {
		l.issuer.met.lineDrained(l.number-1, out)
		l.issuer.log.Info("issuer line is taken out of service or put back", "line", l.number, "drained", out)
	}
}

// turns gives whether the line is drained, and a channel that is closed when
// that changes.
func (l *Link) turns() (drained bool, turned <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Drained, l.turned
}

func (l *Link) isDrained() bool {
	drained, _ := l.turns()
	return drained
}

// errDrained ends a session on request.
var errDrained = errors.New("the line was taken out of service")

// run keeps the line up until ctx ends.
func (l *Link) run(ctx context.Context) {
	cfg := &l.issuer.cfg
	log := l.issuer.log.With("line", l.number)
	for attempt := 0; ctx.Err() == nil; {
		if drained, turned := l.turns(); drained {
			select {
			case <-turned:
			case <-ctx.Done():
			}
			attempt = 0
			continue
		}
		began := time.Now()
		err := l.live(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == errDrained {
			log.Info("issuer line is signed off and closed, out of service")
			continue
		}
		if time.Since(began) > cfg.BackoffMax {
			attempt = 0 // it lived; what broke it is news
		}
		pause := backoff(cfg.BackoffMin, cfg.BackoffMax, attempt)
		attempt++
		log.Warn("issuer line is down", "error", err, "again_in", pause)
		l.update(func(st *LineState) { st.LastError = err.Error() })
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// backoff draws a pause between nothing and a ceiling that doubles with each
// attempt ("full jitter"): lines that broke together do not come back
// together.
func backoff(least, most time.Duration, attempt int) time.Duration {
	ceiling := most
	if attempt < 32 && least<<attempt > 0 && least<<attempt < most {
		ceiling = least << attempt
	}
	return time.Duration(rand.Int64N(int64(ceiling) + 1))
}

// live is one life of the line, from the dial to its end; the error says why
// it ended.
func (l *Link) live(ctx context.Context) error {
	cfg := &l.issuer.cfg
	dial, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	nc, err := cfg.Dial(dial, l.addr)
	cancel()
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	s, err := newSession(l, nc)
	if err != nil {
		return errors.Join(err, nc.Close())
	}
	l.update(func(st *LineState) { st.Connected = true })
	err = l.serve(ctx, s)
	l.retire(s)
	if !l.issuer.Up() {
		l.issuer.keyed.Store(false)
	}
	s.fail(err)
	<-s.conn.Done()
	s.done.Wait()
	l.update(func(st *LineState) {
		if st.Connected = false; err != errDrained {
			st.Drops++
		}
	})
	return err
}

// serve signs on and stays until the session ends, the issuer signs off or ctx
// is over.
func (l *Link) serve(ctx context.Context, s *session) error {
	cfg := &l.issuer.cfg
	if err := s.manage(ctx, signOn, cfg.SignOnTimeout, 0); err != nil {
		return fmt.Errorf("signing on: %w", err)
	}
	if err := s.obtainKeys(ctx); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	l.admit(s)
	l.issuer.log.Info("issuer line is up", "line", l.number, "addr", l.addr)
	watch := time.NewTimer(cfg.EchoInterval)
	defer watch.Stop()
	for misses := 0; ; {
		drained, turned := l.turns()
		if drained {
			return l.drain(ctx, s)
		}
		select {
		case <-turned:
			continue
		case <-ctx.Done():
			return l.leave(s)
		case <-s.gone:
			return s.cause()
		case <-s.resigned:
			// no more traffic; what is in flight may still be answered until
			// the issuer hangs up or has had its time
			l.retire(s)
			select {
			case <-time.After(cfg.SignOnTimeout):
			case <-s.gone:
			case <-ctx.Done():
			}
			return errors.New("the issuer signed off")
		case <-watch.C:
		}
		if idle := time.Since(s.began) - time.Duration(s.heard.Load()); idle < cfg.EchoInterval {
			misses = 0
			watch.Reset(cfg.EchoInterval - idle)
			continue
		}
		sent := time.Now()
		err := s.manage(ctx, echoTest, cfg.EchoTimeout, 0)
		switch {
		case err == nil:
			misses = 0
			l.update(func(st *LineState) { st.LastEcho = time.Since(sent) })
			if l.session.Load() == nil {
				l.admit(s)
			}
			watch.Reset(cfg.EchoInterval)
		case ctx.Err() != nil:
			return l.leave(s)
		default:
			// a line that misses an echo carries no traffic until it is heard
			// again: what it would take would be owed a reversal
			misses++
			l.retire(s)
			l.update(func(st *LineState) { st.EchoMisses = misses })
			if misses >= cfg.EchoMisses {
				return fmt.Errorf("%d echoes in a row without answer", misses)
			}
			watch.Reset(0)
		}
	}
}

// signOffTimeout is short: a sign-off is a courtesy, and the house is closing.
const signOffTimeout = 2 * time.Second

// leave signs off; the house is closing.
func (l *Link) leave(s *session) error {
	l.retire(s)
	l.signOff(s)
	return errors.New("the house is closing")
}

// drain lets what is in flight end, which it has when its time is over at the
// latest, and signs off.
func (l *Link) drain(ctx context.Context, s *session) error {
	l.retire(s)
	s.takeNoMore()
	late := time.NewTimer(l.issuer.cfg.Timeout)
	defer late.Stop()
	select {
	case <-s.idle:
	case <-late.C:
	case <-s.gone:
		return errDrained
	case <-ctx.Done():
		return l.leave(s)
	}
	l.signOff(s)
	return errDrained
}

func (l *Link) signOff(s *session) {
	if err := s.manage(context.Background(), signOff, signOffTimeout, 0); err != nil {
		l.issuer.log.Warn("issuer did not take the sign-off", "line", l.number, "error", err)
	}
}

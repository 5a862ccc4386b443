package routing

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// BreakerConfig is when a breaker opens and closes.
type BreakerConfig struct {
	Streak  int           // so many failures in a row open it
	Percent int           // as does this part of the requests of a window
	Least   int           // which must be so many, for the percentage to mean something
	Window  time.Duration // windows follow each other
	Pause   time.Duration // from opening, or a failed probe, to the next probe
}

// Check refuses what could never open, or would for nothing.
func (c BreakerConfig) Check() error {
	if c.Streak < 1 || c.Percent < 1 || c.Percent > 100 || c.Least < 1 || c.Window <= 0 || c.Pause <= 0 {
		return fmt.Errorf("routing: a breaker of %+v: streak, least, window and pause must be above zero, percent 1 to 100", c)
	}
	return nil
}

// BreakerState is where a breaker stands.
type BreakerState uint8

// States of a breaker. The numbers are those of acquirer_route_breaker_state.
const (
	BreakerClosed   BreakerState = iota // requests pass
	BreakerHalfOpen                     // one request may pass, to see
	BreakerOpened                       // none passes
)

var breakerNames = [...]string{"closed", "half-open", "open"}

func (s BreakerState) String() string { return breakerNames[s] }

// Breaker keeps requests from an issuer that does not answer: it opens after a
// streak of failures, or when too large a part of a window's requests fails,
// lets one request through after a pause, and closes when that one is answered.
// A failure is what the issuer did not answer, or could not be told; a refusal
// is an answer. Safe for concurrent use.
type Breaker struct {
	cfg BreakerConfig

	mu      sync.Mutex
	state   BreakerState
	streak  int
	window  time.Time // when this one began
	asked   int       // in it
	failed  int
	until   time.Time // while open: when a probe may go
	unheard bool      // while open: the last failure was that there was no line
	probing bool      // half-open: the probe is on its way
	opened  uint64    // how often it has opened
	since   time.Time // of the last change of state
	epoch   uint32    // counts the changes of state
}

// Ticket is the leave of one request to pass.
type Ticket struct {
	epoch uint32
	probe bool
}

// NewBreaker makes a closed one.
func NewBreaker(cfg BreakerConfig) *Breaker { return &Breaker{cfg: cfg, since: time.Now()} }

// Passes reports whether Take would let a request through. up says whether a
// line to the issuer is signed on.
func (b *Breaker) Passes(up bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == BreakerClosed || b.state == BreakerHalfOpen && !b.probing || b.state == BreakerOpened && b.due(up)
}

// due reports that a probe may go: the pause is over, or what was missing was a
// line and there is one now.
func (b *Breaker) due(up bool) bool { return !time.Now().Before(b.until) || b.unheard && up }

// Take asks to send one request. When it may, Done must be called with the
// ticket and what became of it.
func (b *Breaker) Take(up bool) (Ticket, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == BreakerOpened && b.due(up) {
		b.to(BreakerHalfOpen)
	}
	switch {
	case b.state == BreakerOpened, b.state == BreakerHalfOpen && b.probing:
		return Ticket{}, false
	case b.state == BreakerHalfOpen:
		b.probing = true
	}
	return Ticket{b.epoch, b.probing}, true
}

// Done tells what became of a request that was let through: nil, or the error
// of Send. What says nothing about the issuer gives a probe back, and what left
// before the breaker changed says nothing about now.
func (b *Breaker) Done(t Ticket, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.epoch != b.epoch:
		return
	case !judges(err):
		b.probing = b.probing && !t.probe
		return
	}
	now := time.Now()
	if now.Sub(b.window) >= b.cfg.Window {
		b.window, b.asked, b.failed = now, 0, 0
	}
	b.asked++
	if err == nil {
		b.streak = 0
		if t.probe {
			b.to(BreakerClosed)
		}
		return
	}
	b.streak++
	b.failed++
	if t.probe || b.streak >= b.cfg.Streak || b.asked >= b.cfg.Least && b.failed*100 >= b.asked*b.cfg.Percent {
		var se *SendError
		b.unheard = errors.As(err, &se) && se.Why == NoLine
		b.until = now.Add(b.cfg.Pause)
		b.opened++
		b.to(BreakerOpened)
	}
}

// to changes the state. Every state begins with nothing counted.
func (b *Breaker) to(s BreakerState) {
	b.state, b.probing, b.streak, b.asked, b.failed, b.since = s, false, 0, 0, 0, time.Now()
	b.epoch++
}

// judges reports that the end of a request says something about the issuer.
// That as many are in flight as may be, that the message could not be made or
// that the house is closing says nothing.
func judges(err error) bool {
	var se *SendError
	if !errors.As(err, &se) {
		return err == nil
	}
	switch se.Why {
	case Drained, Busy, SameTrace, Unsigned, Closing, Abandoned, Barred:
		return false
	}
	return true
}

// Barred is why nothing is sent while a breaker is open.
const Barred Why = "the issuer's breaker is open"

// BreakerView is a breaker as people see it.
type BreakerView struct {
	State  string    `json:"state"`
	Since  time.Time `json:"since"`
	Opened uint64    `json:"opened"`         // how often since the start
	Probe  time.Time `json:"probe,omitzero"` // when the next request may pass, while it is open
}

// View is where it stands.
func (b *Breaker) View() BreakerView {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := BreakerView{State: b.state.String(), Since: b.since, Opened: b.opened}
	if b.state == BreakerOpened {
		v.Probe = b.until
	}
	return v
}

// State is the number of where it stands.
func (b *Breaker) State() BreakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

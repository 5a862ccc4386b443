package hsm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PINLimits say after how many PIN failures a key or a terminal is locked out.
// A failure is a block that holds no PIN, or a wrong PIN where one is
// verified; the caller hears ErrPIN for both, and the same ErrPIN, without its
// PIN being looked at, while the key or the terminal is locked.
type PINLimits struct {
	PerKey      int           // failures under one key within Window that lock it; 0 counts and never locks
	PerTerminal int           // the same from one terminal, as ForTerminal names it
	Window      time.Duration // begins with the first failure
	Lock        time.Duration // how long a lock holds; 0 until it is taken away
}

// defaultPINLimits count and lock nothing: how many failures are an attack, the
// house knows that runs the HSM.
var defaultPINLimits = PINLimits{Window: 10 * time.Minute}

type terminalKey struct{}

// ForTerminal names the terminal that a PIN comes from, for the verbs that are
// called with the context.
func ForTerminal(ctx context.Context, terminal string) context.Context {
	return context.WithValue(ctx, terminalKey{}, terminal)
}

// terminalOf is "" when the context names none.
func terminalOf(ctx context.Context) string {
	terminal, _ := ctx.Value(terminalKey{}).(string)
	return terminal
}

// pinSource is whom a failure is put down to.
type pinSource struct {
	key      Key
	terminal string // "" when it is not known
}

// pinSubject is one of the two.
type pinSubject struct {
	terminal bool
	name     string
}

func (w pinSource) subjects() [2]pinSubject {
	return [2]pinSubject{{false, string(w.key)}, {true, w.terminal}}
}

// maxPINSubjects bounds the memory of failures.
const maxPINSubjects = 1 << 16

// pinTally are the failures of one key or terminal since the window began, and
// its lock.
type pinTally struct {
	failures int
	since    time.Time
	locked   bool
	until    time.Time // of the lock; zero: until it is taken away
}

func (t *pinTally) isLocked(now time.Time) bool {
	return t.locked && (t.until.IsZero() || now.Before(t.until))
}

// pinGuard counts PIN failures. The zero pinGuard counts and never locks.
type pinGuard struct {
	known    atomic.Int32 // subjects that there is a tally of: none is the common case, and costs one load
	failures atomic.Uint64
	refused  atomic.Uint64

	mu      sync.RWMutex
	limits  *PINLimits
	tallies map[pinSubject]*pinTally
	swept   time.Time
}

func (g *pinGuard) limit() PINLimits {
	if g.limits == nil {
		return defaultPINLimits
	}
	return *g.limits
}

// counting reports whether there is anything to look up.
func (g *pinGuard) counting() bool { return g.known.Load() != 0 }

// locked reports whether a PIN of this source is not to be looked at.
func (g *pinGuard) locked(who pinSource) bool {
	if !g.counting() {
		return false
	}
	now := time.Now()
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, subject := range who.subjects() {
		if t := g.tallies[subject]; t != nil && t.isLocked(now) {
			g.refused.Add(1)
			return true
		}
	}
	return false
}

// failed counts a failure, and locks what has had its share.
func (g *pinGuard) failed(who pinSource) {
	g.failures.Add(1)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	limits := g.limit()
	for _, subject := range who.subjects() {
		if subject.name == "" {
			continue
		}
		t := g.tally(subject, now, limits)
		if t == nil {
			continue
		}
		most := limits.PerKey
		if subject.terminal {
			most = limits.PerTerminal
		}
		if t.failures++; most > 0 && t.failures >= most && !t.locked {
			t.locked = true
			if limits.Lock > 0 {
				t.until = now.Add(limits.Lock)
			}
		}
	}
	g.known.Store(int32(len(g.tallies)))
}

// tally finds the tally of a subject, begun anew when its window or its lock
// is over. It is nil when there is no room: then an attack is under way that
// the total shows.
func (g *pinGuard) tally(subject pinSubject, now time.Time, limits PINLimits) *pinTally {
	t := g.tallies[subject]
	if t == nil {
		if len(g.tallies) >= maxPINSubjects {
			g.sweep(now, limits)
		}
		if len(g.tallies) >= maxPINSubjects {
			return nil
		}
		if g.tallies == nil {
			g.tallies = make(map[pinSubject]*pinTally)
		}
		t = &pinTally{since: now}
		g.tallies[pinSubject{subject.terminal, strings.Clone(subject.name)}] = t
	}
	if t.over(now, limits) {
		*t = pinTally{since: now}
	}
	return t
}

// over says that a tally may be forgotten.
func (t *pinTally) over(now time.Time, limits PINLimits) bool {
	return !t.isLocked(now) && now.Sub(t.since) >= limits.Window || t.locked && !t.isLocked(now)
}

// sweep forgets what is over, at most 16 times in a window.
func (g *pinGuard) sweep(now time.Time, limits PINLimits) {
	if now.Sub(g.swept) < limits.Window/16 {
		return
	}
	g.swept = now
	for subject, t := range g.tallies {
		if t.over(now, limits) {
			delete(g.tallies, subject)
		}
	}
}

// LimitPIN sets when PIN failures lock a key or a terminal. What has been
// counted stays.
func (s *Software) LimitPIN(limits PINLimits) error {
	if limits.PerKey < 0 || limits.PerTerminal < 0 || limits.Window <= 0 || limits.Lock < 0 {
		return fmt.Errorf("hsm: LimitPIN: %d failures per key and %d per terminal in %v, locked for %v: want no negative numbers and a window", limits.PerKey, limits.PerTerminal, limits.Window, limits.Lock)
	}
	s.pins.mu.Lock()
	s.pins.limits = &limits
	s.pins.mu.Unlock()
	return nil
}

// UnlockKey takes the lock and the failures from a key; false when it was not
// locked.
func (s *Software) UnlockKey(key Key) bool { return s.pins.unlock(pinSubject{false, string(key)}) }

// UnlockTerminal takes the lock and the failures from a terminal; false when
// it was not locked.
func (s *Software) UnlockTerminal(terminal string) bool {
	return s.pins.unlock(pinSubject{true, terminal})
}

func (g *pinGuard) unlock(subject pinSubject) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tallies[subject]
	was := t != nil && t.isLocked(time.Now())
	delete(g.tallies, subject)
	g.known.Store(int32(len(g.tallies)))
	return was
}

// PINFailures is what the operator sees of them.
type PINFailures struct {
	Failures        uint64   // since the start
	Refused         uint64   // PINs that were not looked at, because their key or terminal was locked
	LockedKeys      []Key    // sorted
	LockedTerminals []string // sorted
}

// PINFailures returns the counters and what is locked now.
func (s *Software) PINFailures() PINFailures {
	g := &s.pins
	f := PINFailures{Failures: g.failures.Load(), Refused: g.refused.Load()}
	now := time.Now()
	g.mu.RLock()
	for subject, t := range g.tallies {
		switch {
		case !t.isLocked(now):
		case subject.terminal:
			f.LockedTerminals = append(f.LockedTerminals, subject.name)
		default:
			f.LockedKeys = append(f.LockedKeys, Key(subject.name))
		}
	}
	g.mu.RUnlock()
	slices.Sort(f.LockedKeys)
	slices.Sort(f.LockedTerminals)
	return f
}

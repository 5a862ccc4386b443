package console

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Rate is what one second brought.
type Rate struct{ Approved, Declined int }

// Window is how many seconds of rates are kept.
const Window = 60

// Tape is what the switch writes its outcomes on and the console reads. It
// counts every one; of the rows it takes as many as a person can look at, and
// none while nobody does. It is safe for concurrent use.
type Tape struct {
	wanted  atomic.Int32 // rows it still takes before the next look
	mu      sync.Mutex
	seconds [Window + 4]second
	issuers map[string]*latencies
	rows    []Row
}

type second struct {
	unix int64
	rate Rate
}

// NewTape returns an empty tape.
func NewTape() *Tape { return &Tape{issuers: map[string]*latencies{}} }

// Count notes an outcome at the moment the terminal was answered. issuer is a
// configured name, or "" when none was asked; took is how long it thought. It
// does not allocate.
func (t *Tape) Count(at time.Time, approved bool, issuer string, took time.Duration) {
	now := at.Unix()
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.seconds[uint64(now)%uint64(len(t.seconds))]
	if s.unix != now {
		*s = second{unix: now}
	}
	if approved {
		s.rate.Approved++
	} else {
		s.rate.Declined++
	}
	if issuer == "" {
		return
	}
	l := t.issuers[issuer]
	if l == nil {
		l = new(latencies)
		t.issuers[issuer] = l
	}
	l.add(now, took)
}

// Rates returns the last Window complete seconds before now, the oldest first.
func (t *Tape) Rates(now time.Time) [Window]Rate {
	var out [Window]Rate
	first := now.Unix() - Window
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range out {
		at := first + int64(i)
		if s := t.seconds[uint64(at)%uint64(len(t.seconds))]; s.unix == at {
			out[i] = s.rate
		}
	}
	return out
}

// Latency returns how long the issuer thought in the last 30 to 60 seconds:
// the median, the 99th percentile (each at most 6 % too high) and of how many.
func (t *Tape) Latency(issuer string, now time.Time) (p50, p99 time.Duration, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.issuers[issuer]
	if l == nil {
		return 0, 0, 0
	}
	return l.quantiles(now.Unix())
}

// Wants reports whether somebody would look at another row. Ask before making
// one: on a busy street most rows are never shown.
func (t *Tape) Wants() bool { return t.wanted.Load() > 0 }

// Put shows a row to whoever is looking; with nobody there it is forgotten. A
// row whose ID was put before replaces it on the screen.
func (t *Tape) Put(r Row) {
	if t.wanted.Add(-1) < 0 {
		t.wanted.Add(1)
		return
	}
	t.mu.Lock()
	t.rows = append(t.rows, r)
	t.mu.Unlock()
}

// want asks for n rows from now on, without waiting for the next look.
func (t *Tape) want(n int) { t.wanted.Store(int32(n)) }

// look returns the rows put since the last look, the oldest first, and asks
// for at most n more before the next.
func (t *Tape) look(n int) []Row {
	t.want(n)
	t.mu.Lock()
	defer t.mu.Unlock()
	rows := t.rows
	t.rows = nil
	return rows
}

// latencies is two half-minutes of a histogram with 16 steps to the octave of
// microseconds.
type latencies struct {
	half [2]struct {
		began int64 // unix second / halfMinute
		n     int
		count [368]uint32 // up to 2^26 us, 67 s
	}
}

const halfMinute = 30

func (l *latencies) add(now int64, took time.Duration) {
	began := now / halfMinute
	h := &l.half[began&1]
	if h.began != began {
		h.began, h.n = began, 0
		clear(h.count[:])
	}
	h.n++
	h.count[bucket(took)]++
}

func bucket(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	us = min(us, 1<<26-1)
	if us < 16 {
		return int(us)
	}
	shift := bits.Len64(us) - 5
	return (shift+1)*16 + int(us>>shift) - 16
}

// ceiling is the largest duration that falls into a bucket.
func ceiling(b int) time.Duration {
	if b < 16 {
		return time.Duration(b) * time.Microsecond
	}
	shift := b/16 - 1
	return time.Duration((uint64(b%16+16)+1)<<shift-1) * time.Microsecond
}

func (l *latencies) quantiles(now int64) (p50, p99 time.Duration, n int) {
	began := now / halfMinute
	for i := range l.half {
		if began-l.half[i].began <= 1 {
			n += l.half[i].n
		}
	}
	if n == 0 {
		return 0, 0, 0
	}
	at := func(rank int) time.Duration {
		for b := range l.half[0].count {
			for i := range l.half {
				if began-l.half[i].began <= 1 {
					rank -= int(l.half[i].count[b])
				}
			}
			if rank <= 0 {
				return ceiling(b)
			}
		}
		return ceiling(len(l.half[0].count) - 1)
	}
	return at((n + 1) / 2), at((n*99 + 99) / 100), n
}

package load

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"acquirer/simulate/terminal"
)

// Report is what a load did. A transaction counts once in Sent when its
// request left a terminal, and then in exactly one of Approved, Declined and
// the errors that come after sending: line, timeout, mac, format, mismatch,
// arpc, differs. The other errors (dial, pending, refused, keys, unsent,
// reversal) are beside that sum. Echo and sign-in answered 00 count as
// approved.
type Report struct {
	Sent     int64            `json:"sent"`
	Approved int64            `json:"approved"`
	Declined map[string]int64 `json:"declined"` // by DE 39
	Errors   map[string]int64 `json:"errors"`   // by kind
	Reversed int64            `json:"reversed"` // reversals that the host took
	TPS      float64          `json:"tps"`      // answers within the duration, per second of it
	Latency  Latency          `json:"latency_ms"`
	Duration float64          `json:"duration_s"`
}

// Latency is quantiles in milliseconds, of answers and of time-outs. In rate
// mode a latency begins when the transaction should have been sent, so that a
// stalled host is charged for all that it kept waiting.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Kinds of error beside terminal.Failure.
const (
	errRefused  = "refused"  // a management message was not answered 00, other than one of the mix
	errDiffers  = "differs"  // the two answers to the same bytes differ, or a wrong MAC was not answered A0
	errUnsent   = "unsent"   // rate mode: no terminal was free before the end
	errReversal = "reversal" // a reversal was not taken
	errOther    = "other"
)

// The histogram reaches from a microsecond to longer than any exchange.
const (
	histogramMax     = int64(10 * time.Minute / time.Microsecond)
	histogramFigures = 3
)

// tally collects what the workers see.
type tally struct {
	sent, approved, reversed, inTime atomic.Int64

	mu       sync.Mutex
	declined map[string]int64
	errors   map[string]int64
	latency  *hdrhistogram.Histogram // microseconds
}

func newTally() *tally {
	return &tally{declined: map[string]int64{}, errors: map[string]int64{}, latency: hdrhistogram.New(1, histogramMax, histogramFigures)}
}

func (t *tally) decline(code string) {
	t.mu.Lock()
	t.declined[code]++
	t.mu.Unlock()
}

func (t *tally) fail(kind string) {
	t.mu.Lock()
	t.errors[kind]++
	t.mu.Unlock()
}

func (t *tally) took(d time.Duration) {
	us := min(max(d.Microseconds(), 1), histogramMax)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.latency.RecordValue(us); err != nil {
		t.errors[errOther]++ // cannot be: us is within the histogram's range
	}
}

// Snapshot is a load's progress.
type Snapshot struct {
	Elapsed, Duration time.Duration
	Sent, Approved    int64
	Errors            int64
	P99               time.Duration
}

func (t *tally) snapshot(elapsed, duration time.Duration) Snapshot {
	s := Snapshot{Elapsed: elapsed, Duration: duration, Sent: t.sent.Load(), Approved: t.approved.Load()}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.errors {
		s.Errors += n
	}
	s.P99 = time.Duration(t.latency.ValueAtQuantile(99)) * time.Microsecond
	return s
}

func (t *tally) report(duration time.Duration) *Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	ms := func(q float64) float64 { return float64(t.latency.ValueAtQuantile(q)) / 1000 }
	return &Report{
		Sent: t.sent.Load(), Approved: t.approved.Load(), Reversed: t.reversed.Load(),
		Declined: t.declined, Errors: t.errors,
		TPS:      float64(t.inTime.Load()) / duration.Seconds(),
		Latency:  Latency{ms(50), ms(90), ms(99), ms(99.9), float64(t.latency.Max()) / 1000},
		Duration: duration.Seconds(),
	}
}

// errorKind names an error for Report.Errors, and says whether the request
// had left the terminal.
func errorKind(err error) (kind string, sent bool) {
	var f terminal.Failure
	if errors.As(err, &f) {
		switch f {
		case terminal.ErrDial, terminal.ErrPending, terminal.ErrNoKeys, terminal.ErrKeys, terminal.ErrState:
			return string(f), false
		}
		return string(f), true
	}
	var r *terminal.Refusal
	if errors.As(err, &r) {
		return errRefused, false
	}
	return errOther, false
}

package switching

import (
	"sync"
	"time"

	"acquirer/spec"
)

// Trace is one transaction as it happened, for people: the time of each step
// and its messages, described and masked. Traces live in memory only.
type Trace struct {
	ID       int64 // the journal's
	At       time.Time
	Took     time.Duration
	Code     ResponseCode
	Steps    []TraceStep
	Messages []TraceMessage
}

// TraceStep is one step and how long it took.
type TraceStep struct {
	Name string // check, open, issuer, close, write
	Took time.Duration
}

// TraceMessage is one message, masked.
type TraceMessage struct {
	From, To string // terminal, acquirer, issuer
	Dialect  string
	MTI      string
	Bytes    int
	Fields   []spec.Item
}

// The last keepTraces traces are kept, and at most tracesASecond are made:
// describing a message costs more than switching it, so under load only a
// sample is described.
const (
	keepTraces    = 512
	tracesASecond = 20
)

// traces is a ring of the newest traces.
type traces struct {
	mu     sync.Mutex
	ring   [keepTraces]Trace
	next   int
	second int64 // the second that made counts for
	made   int
}

// due reports whether another trace may be made now.
func (t *traces) due(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Only forwards, lest two transactions that end in turn begin the count
	// anew each time; but for a clock that was set back.
	if s := now.Unix(); s > t.second || s < t.second-60 {
		t.second, t.made = s, 0
	}
	if t.made >= tracesASecond {
		return false
	}
	t.made++
	return true
}

func (t *traces) keep(tr Trace) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring[t.next%keepTraces] = tr
	t.next++
}

// Trace finds what was kept of a transaction; false when it was not sampled or
// is too old. A repeat and a reversal are traced under their original.
func (s *Switch) Trace(id int64) ([]Trace, bool) {
	t := &s.traces
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Trace
	for i := range keepTraces {
		if tr := &t.ring[(t.next+i)%keepTraces]; tr.ID == id && id != 0 {
			out = append(out, *tr)
		}
	}
	return out, len(out) > 0
}

// record keeps a trace of w when one is due.
func (s *Switch) record(w *work) {
	if !w.journaled || !s.traces.due(w.last) {
		return
	}
	tr := Trace{ID: w.journalID, At: w.started, Took: w.last.Sub(w.started), Code: w.rc}
	for i, d := range w.took {
		if d > 0 {
			tr.Steps = append(tr.Steps, TraceStep{stepNames[i], d})
		}
	}
	for _, m := range [...]struct {
		from, to string
		m        *spec.Message
	}{
		{"terminal", "acquirer", &w.req}, {"acquirer", "issuer", &w.leg}, {"issuer", "acquirer", &w.legRep}, {"acquirer", "terminal", &w.rep},
	} {
		if m.m.MTI() != 0 {
			packed, err := m.m.Append(nil)
			if err != nil {
				continue // it never left, and the answer says why
			}
			tr.Messages = append(tr.Messages, TraceMessage{m.from, m.to, m.m.Dialect().Name(), m.m.MTI().String(), len(packed), spec.Describe(m.m)})
		}
	}
	s.traces.keep(tr)
}

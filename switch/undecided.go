package switching

import (
	"context"
	"sync"
	"time"

	"acquirer/journal"
)

// undecided are the transactions that this process has sent and not closed, so
// that a repeat can wait for the first instead of being sent too.
type undecided struct {
	mu sync.Mutex
	m  map[int64]chan struct{}
}

// begin notes that id is on its way and returns what to call at its end.
func (u *undecided) begin(id int64) (end func()) {
	done := make(chan struct{})
	u.mu.Lock()
	if u.m == nil {
		u.m = map[int64]chan struct{}{}
	}
	u.m[id] = done
	u.mu.Unlock()
	return func() {
		u.mu.Lock()
		delete(u.m, id)
		u.mu.Unlock()
		close(done)
	}
}

// of returns a channel that closes when id is decided here; nil, which never
// does, when another node has it.
func (u *undecided) of(id int64) <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.m[id]
}

// answerUndecided waits for the outcome of a transaction that a repeat asked
// for while it was in flight, and answers with it. It is never sent twice
// (fault 10). What another node is working on is looked at again and again.
func (s *Switch) answerUndecided(ctx context.Context, w *work, id int64) {
	const look = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.longest())
	defer cancel()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		done := s.undecide.of(id)
		e, err := s.journal.Get(ctx, id)
		if err == nil && e.Outcome != nil {
			s.answerEntry(w, e)
			return
		}
		select {
		case <-done:
		case <-tick.C:
		case <-ctx.Done():
			w.journalID, w.reason = id, journal.InProgress
			s.refuse(w, codeOf(journal.InProgress, ""))
			return
		}
	}
}

// longest is how long a transaction may stay undecided.
func (s *Switch) longest() time.Duration {
	var most time.Duration
	for _, leg := range s.legs {
		most = max(most, leg.Issuer.Timeout())
	}
	return most + s.cfg.StoreTimeout
}

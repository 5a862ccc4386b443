package switching

import (
	"context"
	"sync"
	"time"

	"acquirer/journal"
)

// undecided are the transactions that this process has sent and whose answers
// are not all written yet: a repeat waits here for the first instead of being
// sent too, and an approval is taken back only when it reached nobody.
type undecided struct {
	mu sync.Mutex
	m  map[int64]*flight
}

// flight is one of them. Its fields but decided are under undecided.mu.
type flight struct {
	id       int64
	decided  chan struct{} // closes when its outcome stands, or will not
	writers  int           // messages that are still to be answered with its outcome
	approved bool          // one of them was answered with an approval
	told     bool          // and that left
	back     chan struct{} // not nil while it is being taken back; closes then
}

// begin notes that id is on its way, for the message that sent it.
func (u *undecided) begin(id int64) *flight {
	f := &flight{id: id, decided: make(chan struct{}), writers: 1}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil {
		u.m = map[int64]*flight{}
	}
	u.m[id] = f
	return f
}

// join lets another message share the outcome of id; nil when it is not on
// its way here (any more): what the journal says from now on is how it ended.
func (u *undecided) join(id int64) *flight {
	u.mu.Lock()
	f := u.m[id]
	if f == nil {
		u.mu.Unlock()
		return nil
	}
	if back := f.back; back != nil {
		u.mu.Unlock()
		<-back
		return nil
	}
	f.writers++
	u.mu.Unlock()
	return f
}

// land ends one message's part in f. It returns true to the last one when an
// approval was to be told and reached nobody: take it back, then call gone.
func (u *undecided) land(f *flight, approved, told bool) (takeBack bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f.approved = f.approved || approved
	f.told = f.told || told
	if f.writers--; f.writers > 0 {
		return false
	}
	if f.approved && !f.told {
		f.back = make(chan struct{})
		return true
	}
	delete(u.m, f.id)
	return false
}

func (u *undecided) gone(f *flight) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.m, f.id)
	close(f.back)
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
	var decided <-chan struct{}
	for {
		if w.flight == nil {
			if w.flight = s.undecide.join(id); w.flight != nil {
				decided = w.flight.decided
			}
		}
		e, err := s.journal.Get(ctx, id)
		if err == nil && e.Outcome != nil {
			s.answerEntry(w, e)
			return
		}
		select {
		case <-decided:
			decided = nil // it closes once; without an outcome the sweep will bring one
		case <-tick.C:
		case <-ctx.Done():
			w.journalID, w.reason = id, journal.InProgress
			s.refuse(w, s.codeFor(journal.InProgress))
			return
		}
	}
}

// answerRepeat answers what was decided before. An approval whose first answer
// is still being written is shared with it, and read again: until then it may
// be taken back.
func (s *Switch) answerRepeat(ctx context.Context, w *work, first *journal.Entry) {
	if first.State() != journal.StateApproved {
		s.answerEntry(w, first)
		return
	}
	w.flight = s.undecide.join(first.ID)
	step, cancel := s.storeContext(ctx)
	defer cancel()
	e, err := s.journal.Get(step, first.ID)
	if err != nil {
		s.log.Error("a repeat's first could not be read; answered 96", "rrn", first.RRN, "error", err.Error())
		w.reason = journal.StoreTrouble
		s.refuse(w, RCMalfunction)
		return
	}
	s.answerEntry(w, e)
}

// longest is how long a transaction may stay undecided.
func (s *Switch) longest() time.Duration {
	var most time.Duration
	for _, leg := range s.legs {
		most = max(most, leg.Issuer.Timeout())
	}
	for _, way := range s.wallets {
		most = max(most, s.cfg.WalletPatience+way.Timeout())
	}
	return most + s.cfg.StoreTimeout
}

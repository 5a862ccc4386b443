package switching

import (
	"encoding/binary"
	"sync"

	"acquirer/journal"
	"acquirer/spec"
)

// chipCard is one of the cards of an account number.
type chipCard struct {
	token    [16]byte
	sequence string // DE 23
}

// counted is the chip of a transaction that stands on its own, and its counter.
func counted(w *work, t *journal.Transaction) (card chipCard, atc uint16, ok bool) {
	v, ok := spec.FindTLV(w.req.Bytes(55), 0x9F36)
	if !ok || len(v) != 2 || w.row.after != nil {
		return card, 0, false
	}
	return chipCard{t.PANToken, w.req.Text(23)}, binary.BigEndian.Uint16(v), true
}

// replayed notices a chip whose counter does not go up, and says whether the
// transaction is refused for it.
func (s *Switch) replayed(w *work, t *journal.Transaction) bool {
	card, atc, ok := counted(w, t)
	if !ok {
		return false
	}
	above, last := s.chips.above(card, atc)
	if above {
		return false
	}
	s.metrics.replays.Inc()
	s.log.Warn("a chip's counter does not go up", "rrn", t.RRN, "card", t.PANMasked, "terminal", t.Terminal, "counter", atc, "last", last, "refused", s.cfg.RefuseReplays)
	return s.cfg.RefuseReplays
}

// strikes count wrong MACs in a row, by terminal.
type strikes struct {
	mu sync.Mutex
	n  map[string]int
}

func (s *strikes) add(tid string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = map[string]int{}
	}
	s.n[tid]++
	return s.n[tid]
}

func (s *strikes) forget(tid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.n, tid)
}

package switching

import (
	"encoding/binary"
	"sync"

	"acquirer/journal"
	"acquirer/spec"
)

// chipCounters remember the last transaction counter (9F36) seen of each card:
// a chip counts up, so one that does not was copied, or its message was
// recorded. They are kept in this process only; the issuer has the last word.
type chipCounters struct {
	mu   sync.Mutex
	last map[[16]byte]uint16 // by card token
}

// maxCounters bounds the memory: some 4 MB.
const maxCounters = 1 << 16

// advances notes a card's counter and reports whether it is above the last.
func (c *chipCounters) advances(card [16]byte, atc uint16) (bool, uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.last[card]
	if known && atc <= last {
		return false, last
	}
	if c.last == nil {
		c.last = map[[16]byte]uint16{}
	}
	if !known && len(c.last) >= maxCounters {
		for victim := range c.last { // any: what is forgotten is only not noticed
			delete(c.last, victim)
			break
		}
	}
	c.last[card] = atc
	return true, last
}

// replayed notices a chip whose counter does not go up, and says whether the
// transaction is refused for it.
func (s *Switch) replayed(w *work, t *journal.Transaction) bool {
	v, ok := spec.FindTLV(w.req.Bytes(55), 0x9F36)
	if !ok || len(v) != 2 || w.row.after != nil {
		return false
	}
	atc := binary.BigEndian.Uint16(v)
	up, last := s.counters.advances(t.PANToken, atc)
	if up {
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

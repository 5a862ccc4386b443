package switching

import (
	"encoding/binary"
	"sync"

	"acquirer/journal"
	"acquirer/spec"
)

// chipCounters remember the highest transaction counter (9F36) of each card
// that its issuer has approved: a chip counts up, so one that does not was
// copied, or its message was recorded. What no issuer has vouched for is not
// remembered, or any number could be blocked with a counter out of the air.
// They are kept in this process only; the issuer has the last word.
type chipCounters struct {
	mu   sync.Mutex
	last map[chipCard]uint16
}

// chipCard is one of the cards of an account number.
type chipCard struct {
	token    [16]byte
	sequence string // DE 23
}

// maxCounters bounds the memory: some 5 MB.
const maxCounters = 1 << 16

// above reports whether a counter is above the last of its card.
func (c *chipCounters) above(card chipCard, atc uint16) (bool, uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.last[card]
	return !known || atc > last, last
}

// note remembers a counter.
func (c *chipCounters) note(card chipCard, atc uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.last[card]
	if known && atc <= last {
		return
	}
	if c.last == nil {
		c.last = map[chipCard]uint16{}
	}
	if !known && len(c.last) >= maxCounters {
		for victim := range c.last { // any: what is forgotten is only not noticed
			delete(c.last, victim)
			break
		}
	}
	c.last[card] = atc
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
	above, last := s.counters.above(card, atc)
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

package switching

import (
	"cmp"
	"sync"
)

// counters remember the highest counter of each subject that counts up. They
// are kept in this process only, and not more than maxCounters of them.
//
// For chips (9F36) only what an issuer has approved is noted: a chip counts up,
// so one that does not was copied, or its message was recorded. What no issuer
// has vouched for is not remembered, or any number could be blocked with a
// counter out of the air. The issuer has the last word.
type counters[K comparable, N cmp.Ordered] struct {
	mu   sync.Mutex
	last map[K]N
}

// maxCounters bounds the memory: some 5 MB.
const maxCounters = 1 << 16

// above reports whether n is above the last of its subject.
func (c *counters[K, N]) above(subject K, n N) (bool, N) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.last[subject]
	return !known || n > last, last
}

// note remembers n, and reports whether it was above the last.
func (c *counters[K, N]) note(subject K, n N) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.last[subject]
	if known && n <= last {
		return false
	}
	if c.last == nil {
		c.last = map[K]N{}
	}
	if !known && len(c.last) >= maxCounters {
		for victim := range c.last { // any: what is forgotten is only not noticed
			delete(c.last, victim)
			break
		}
	}
	c.last[subject] = n
	return true
}

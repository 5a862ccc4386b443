package switching

import (
	"encoding/hex"
	"strings"
	"sync"

	"acquirer/hsm"
)

// baseKey is the base derivation key of the terminal that a key serial number
// is of: the longest that its first digits name.
func (s *Switch) baseKey(ksn []byte) (bdk hsm.Key) {
	digits, named := strings.ToUpper(hex.EncodeToString(ksn)), 0
	for _, k := range s.baseKeys {
		if strings.HasPrefix(digits, k.KSI) && len(k.KSI) > named {
			bdk, named = hsm.Key(k.BDK), len(k.KSI)
		}
	}
	return bdk
}

// serials remember the highest counter of each DUKPT device that sent a PIN: a
// device uses no key twice, so one that comes again was recorded. They are
// kept in this process only; behind a restart the terminal's MAC and the
// journal's trace numbers still tell a recording.
type serials struct {
	mu   sync.Mutex
	last map[string]uint32
}

// maxSerials bounds the memory: some 10 MB.
const maxSerials = 1 << 16

// advance notes the counter of ksn and reports whether it was above the last.
func (c *serials) advance(ksn []byte) bool {
	device, counter, err := hsm.SplitKSN(ksn)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.last[device]
	if known && counter <= last {
		return false
	}
	if c.last == nil {
		c.last = map[string]uint32{}
	}
	if !known && len(c.last) >= maxSerials {
		for victim := range c.last { // any: what is forgotten is only not noticed
			delete(c.last, victim)
			break
		}
	}
	c.last[device] = counter
	return true
}

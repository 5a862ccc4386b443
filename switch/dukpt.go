package switching

import (
	"encoding/hex"
	"strings"

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

// usedUp notes the key that a PIN came under and reports whether its device has
// used it, or a later one, before: no key is used twice, so that was recorded.
// Behind a restart the terminal's MAC and the journal's trace numbers still
// tell a recording.
func (s *Switch) usedUp(ksn []byte) bool {
	device, counter, err := hsm.SplitKSN(ksn)
	return err != nil || !s.serials.note(device, counter)
}

package load

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Kind is one kind of transaction of a mix.
type Kind string

// The kinds.
const (
	Sale        Kind = "sale"        // a purchase as the card asks for it: chip, contactless, or stripe for a card without chip
	Chip        Kind = "chip"        // contact chip with PIN
	Contactless Kind = "contactless" // with PIN above 1000 yuan
	Stripe      Kind = "stripe"      // a card without chip, with PIN
	Keyed       Kind = "keyed"       // typed number, no PIN
	Reversal    Kind = "reversal"    // a purchase, then its terminal reversal
	Duplicate   Kind = "duplicate"   // the same bytes twice; both answers must say the same
	BadMAC      Kind = "badmac"      // a purchase with a wrong MAC; A0 is expected
	Echo        Kind = "echo"
	SignIn      Kind = "signin"
)

var kinds = []Kind{Sale, Chip, Contactless, Stripe, Keyed, Reversal, Duplicate, BadMAC, Echo, SignIn}

// Mix is weights of kinds.
type Mix struct {
	kinds  []Kind
	limits []int // cumulative weights
}

// DefaultMix is an ordinary day: mostly purchases, a few of them reversed.
const DefaultMix = "sale=95,reversal=3,duplicate=1,echo=1"

// ParseMix reads "sale=90,reversal=5,echo=5": kinds and whole weights, of any
// sum. A kind may stand once.
func ParseMix(s string) (Mix, error) {
	var m Mix
	total := 0
	for part := range strings.SplitSeq(s, ",") {
		name, weight, ok := strings.Cut(strings.TrimSpace(part), "=")
		k := Kind(name)
		if !ok || !slices.Contains(kinds, k) {
			return Mix{}, fmt.Errorf("load: mix: %q is not KIND=WEIGHT with one of %v", part, kinds)
		}
		n, err := strconv.Atoi(weight)
		if err != nil || n < 0 || n > 1000000 {
			return Mix{}, fmt.Errorf("load: mix: weight %q of %s is not a whole number from 0 to 1000000", weight, k)
		}
		if slices.Contains(m.kinds, k) {
			return Mix{}, fmt.Errorf("load: mix: %s stands twice", k)
		}
		total += n
		m.kinds, m.limits = append(m.kinds, k), append(m.limits, total)
	}
	if total == 0 {
		return Mix{}, fmt.Errorf("load: mix %q weighs nothing", s)
	}
	return m, nil
}

// pick draws a kind.
func (m *Mix) pick(rng *rand.Rand) Kind {
	if len(m.kinds) == 1 {
		return m.kinds[0]
	}
	n := rng.IntN(m.limits[len(m.limits)-1])
	for i, limit := range m.limits {
		if n < limit {
			return m.kinds[i]
		}
	}
	panic("load: a draw above the sum of the weights")
}

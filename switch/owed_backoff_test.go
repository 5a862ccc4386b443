package switching_test

import (
	"testing"
	"time"

	switching "acquirer/switch"
)

// The pause doubles with every try up to its limit and is drawn from its upper
// half, so that records that failed together do not come back together.
func TestOwedBackoff(t *testing.T) {
	c := switching.OwedConfig{Backoff: time.Second, BackoffMax: 5 * time.Minute}
	for tries, most := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 70: 5 * time.Minute, 1 << 40: 5 * time.Minute} {
		seen := map[time.Duration]bool{}
		for range 200 {
			d := switching.Backoff(c, tries)
			if d < most/2 || d > most {
				t.Fatalf("after %d tries %v, want %v to %v", tries, d, most/2, most)
			}
			seen[d] = true
		}
		if len(seen) < 100 {
			t.Errorf("after %d tries only %d different pauses of 200", tries, len(seen))
		}
	}
}

package switching_test

import (
	"testing"
	"time"

	switching "acquirer/switch"
)

// Twenty a second are traced, also when slow transactions that began a second
// ago end between quick ones, and when the clock is set back.
func TestTracesASecond(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var mixed []time.Time
	for range 500 {
		mixed = append(mixed, now, now.Add(-time.Second))
	}
	if n := switching.TracesMade(mixed); n != 20 {
		t.Errorf("%d traces in a second, want 20", n)
	}
	later := append(mixed, now.Add(time.Second), now.Add(-time.Hour))
	if n := switching.TracesMade(later); n != 22 {
		t.Errorf("%d traces, want one more for the next second and one for a clock that was set back", n)
	}
}

package journal_test

import (
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/store"
)

// A settlement that comes again after its batch has ended, as one does that
// was recorded on the line, changes nothing of what was settled.
func TestSettlingThatHasEnded(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		settle := func(claimed string) *journal.Settling {
			t.Helper()
			err := j.Settle(t.Context(), &journal.Settling{Day: businessDay, Terminal: "00000001", Merchant: "898310000000001", Batch: 7, Claimed: claimed, Ours: "ours", At: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			last, err := j.LastSettling(t.Context(), "00000001", 7, businessDay)
			if err != nil {
				t.Fatal(err)
			}
			return last
		}
		settle("first")
		if got := settle("second"); got.Claimed != "second" {
			t.Errorf("before the end: %q", got.Claimed)
		}
		if first, err := j.EndBatch(t.Context(), "00000001", 7, businessDay, time.Now()); err != nil || !first {
			t.Fatal(first, err)
		}
		if got := settle("third"); got.Claimed != "second" || got.Ended.IsZero() {
			t.Errorf("behind the end: %q, ended %v", got.Claimed, got.Ended)
		}
		if first, err := j.EndBatch(t.Context(), "00000001", 7, businessDay, time.Now()); err != nil || first {
			t.Fatal(first, err)
		}
	})
}

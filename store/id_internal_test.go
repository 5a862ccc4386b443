package store

import (
	"path/filepath"
	"testing"
	"time"
)

// Processes that are killed before they have moved the mark by themselves: no
// id comes twice, and many restarts do not carry the ids away from the clock.
func TestIDsOfProcessesThatAreKilledAtOnce(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "ids.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, start := range map[string]time.Duration{"the mark is behind the clock": -time.Hour, "the mark is before the clock": time.Hour, "no mark": 0} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now().Add(max(start, 0))
			if err := db.Write(t.Context(), func(tx Tx) error {
				if _, err := tx.Exec("delete from store_mark"); err != nil || start == 0 {
					return err
				}
				_, err := tx.Exec("insert into store_mark (node, tick) values ($1, $2)", Node(), IDAt(time.Now().Add(start))>>idShift<<idSeqBits)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			var last int64
			const lives = 20
			for life := range lives {
				ids.Lock()
				ids.last = 0 // a new process knows nothing
				ids.Unlock()
				k, err := keepIDs(t.Context(), db)
				if err != nil {
					t.Fatal(err)
				}
				for range 1000 {
					id := NewID()
					if id <= last {
						t.Fatalf("life %d: %d after %d", life+1, id, last)
					}
					last = id
				}
				close(k.quit) // killed: nothing is written any more
				<-k.done
			}
			if away := IDTime(last).Sub(begin); away > time.Since(begin.Add(-max(start, 0)))+2*markEvery+lives*markEvery/10+markEvery/10 {
				t.Errorf("after %d lives the ids are %v from where they began", lives, away)
			}
		})
	}
}

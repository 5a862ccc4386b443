package store

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A read that sorts more than a reader's cache holds does it in a file: the memory
// that the process takes does not follow the rows.
func TestSQLiteSortsInAFile(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200); err != nil { // the peak begins anew
		t.Skip(err)
	}
	before := peakMB(t)
	const rows = 300_000
	n := 0
	if err := db.Read(t.Context(), func(tx Tx) error {
		all, err := tx.Query(`with recursive n(i) as (select 1 union all select i + 1 from n where i < $1)
			select i, hex(zeroblob(200)) from n order by i % 1000, i`, rows) // 120 MB
		if err != nil {
			return err
		}
		defer all.Close()
		for n = 0; all.Next(); n++ {
		}
		return all.Err()
	}); err != nil || n != rows {
		t.Fatalf("%d rows, %v", n, err)
	}
	if more := peakMB(t) - before; more > 60 {
		t.Errorf("sorting 120 MB took %d MB of memory", more)
	}
}

func peakMB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb / 1024
}

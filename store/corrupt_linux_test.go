package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Fault 35: the power goes. What SQLite had synced is there; of the log behind
// it any part may be, whole, torn or as garbage. Whatever was answered is read
// back, and nothing else comes to life.
func TestFault35_TornLog(t *testing.T) {
	db, d := openTestSQLite(t, blobs)
	var answered [][]byte // the log as it was when each row had been answered
	for range 12 {
		if err := insertBlob(db, 3000); err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(d.path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		answered = append(answered, log)
	}
	file, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	last := answered[len(answered)-1]
	for n, synced := range answered[:len(answered)-1] {
		next := len(answered[n+1])
		for _, torn := range [][]byte{
			synced,
			last[:len(synced)+1],
			last[:(len(synced)+next)/2],
			last[:next-1],
			append(bytes.Clone(synced), bytes.Repeat([]byte{0xA5}, next-len(synced))...),
			append(append(bytes.Clone(synced), make([]byte, 4096)...), last[len(synced)+4096:]...), // its first page was not written, later ones were
		} {
			path := filepath.Join(t.TempDir(), "torn.db")
			for name, text := range map[string][]byte{path: file, path + "-wal": torn} {
				if err := os.WriteFile(name, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			again, err := Open(t.Context(), "sqlite:"+path, Schema{Name: "t", Steps: []string{blobs}})
			if err != nil {
				t.Fatal(err)
			}
			if there := len(blobIDs(t, again)); there != n+1 {
				t.Errorf("%d rows were answered, %d bytes of the log are left, and %d rows are there", n+1, len(torn), there)
			}
			healthy(t, again)
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Fault 38: a page of the file is damaged. The store says so, and stops, and
// never reads it as something else.
func TestFault38_DamagedPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	schema := Schema{Name: "t", Steps: []string{blobs}}
	db, err := Open(t.Context(), "sqlite:"+path, schema)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := insertBlob(db, 3000); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for page := 2; page < len(good)/4096; page += 17 {
		bad := bytes.Clone(good)
		copy(bad[page*4096:], bytes.Repeat([]byte{0xFF}, 16)) // the header of a b-tree page
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(t.Context(), "sqlite:"+path, schema)
		if err != nil {
			found++
			continue
		}
		err = db.Read(t.Context(), func(tx Tx) error {
			rows, err := tx.Query("select id, body from blob")
			_, err = All(rows, err, func(r *Rows, n *int) error {
				var id int64
				var body []byte
				if err := r.Scan(&id, &body); err != nil {
					return err
				}
				if len(body) != 3000 || bytes.Count(body, []byte{7}) != 3000 {
					return fmt.Errorf("row %d was read as something else", id)
				}
				return nil
			})
			return err
		})
		if err != nil {
			found++
			if strings.Contains(err.Error(), "something else") {
				t.Error(err)
			}
		}
		_ = db.Close() // a damaged file may not close well
	}
	if found < 5 {
		t.Errorf("damage was found %d times: the test proves less than it should", found)
	}
}

// Fault 39: somebody in this process opens the database file and closes it
// again, as a backup or a look at its size would. With POSIX locks the file
// would be unlocked from then on; ours are locks of the open file. (The shared
// index beside it, -shm, has POSIX locks even so: nobody opens that one.)
func TestFault39_StrayClose(t *testing.T) {
	db, d := openTestSQLite(t, blobs)
	locks := func() (n int) {
		t.Helper()
		text, err := os.ReadFile("/proc/locks")
		if err != nil {
			t.Skipf("SKIPPED: no /proc/locks, so that nobody tells which locks are held: %v", err)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(d.path, &st); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, fmt.Sprintf(":%d ", st.Ino)) {
				if !strings.Contains(line, "OFDLCK") {
					t.Errorf("a lock that any close of the file drops: %s", line)
				}
				n++
			}
		}
		return n
	}
	if err := insertBlob(db, 10); err != nil {
		t.Fatal(err)
	}
	before := locks()
	for _, name := range []string{d.path, d.path + "-wal"} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := locks(); before == 0 || after != before {
		t.Errorf("%d locks before the stray close, %d behind it", before, after)
	}
	if err := insertBlob(db, 10); err != nil {
		t.Error(err)
	}
	healthy(t, db)
}

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the process whose disk fails.
func init() {
	if path := os.Getenv("ACQUIRER_STORE_CHILD"); path != "" {
		if err := child(path, os.Getenv("ACQUIRER_STORE_CHILD_LIMIT") != ""); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// child writes rows until the system fails it, and says what it was told
// about each. With small it lets no file grow beyond a megabyte.
func child(path string, small bool) error {
	signal.Ignore(syscall.SIGXFSZ)
	db, err := Open(context.Background(), "sqlite:"+path, Schema{Name: "t", Steps: []string{blobs}})
	if err != nil {
		fmt.Println("not opened:", err)
		return nil
	}
	if small {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
			return err
		}
	}
	for id := int64(1); id <= 40; id++ {
		err := db.Write(context.Background(), func(tx Tx) error {
			_, err := tx.Exec("insert into blob (id, body) values ($1, $2)", id, make([]byte, 50_000))
			return err
		})
		switch {
		case err == nil:
			fmt.Println("ok", id)
			continue
		case errors.Is(err, ErrInDoubt):
			fmt.Println("doubt", id)
		case errors.Is(err, ErrFailed): // another writer of this store met the fault
			fmt.Println("refused", id)
		default:
			return fmt.Errorf("row %d: %w, want a success, ErrInDoubt or ErrFailed", id, err)
		}
		select {
		case <-db.Failed():
		default:
			return errors.New("the store goes on after a failed write")
		}
		if err := insertBlob(db, 1); !errors.Is(err, ErrFailed) {
			return fmt.Errorf("a write after the failure: %w, want ErrFailed", err)
		}
		fmt.Println("stopped")
		return nil
	}
	return nil
}

// report is what a child said.
type report struct {
	ok, doubt []int64
	stopped   bool
	text      string
}

func runChild(t *testing.T, cmd *exec.Cmd, env ...string) report {
	t.Helper()
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := report{text: string(out)}
	for lines := bufio.NewScanner(strings.NewReader(r.text)); lines.Scan(); {
		var id int64
		switch line := lines.Text(); {
		case scans(line, "ok %d", &id):
			r.ok = append(r.ok, id)
		case scans(line, "doubt %d", &id):
			r.doubt = append(r.doubt, id)
		case line == "stopped":
			r.stopped = true
		}
	}
	return r
}

// holds opens the file anew and compares it with what the child was told.
func (r report) holds(t *testing.T, path string) {
	t.Helper()
	db, err := Open(t.Context(), "sqlite:"+path, Schema{Name: "t", Steps: []string{blobs}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	there := blobIDs(t, db)
	for _, id := range r.ok {
		if !slices.Contains(there, id) {
			t.Errorf("row %d was answered and is lost", id)
		}
	}
	for _, id := range there {
		if !slices.Contains(r.ok, id) && !slices.Contains(r.doubt, id) {
			t.Errorf("row %d appeared from nowhere", id)
		}
	}
	healthy(t, db)
}

// A write error of the disk stops the store; what was answered is there when
// the next process opens the file (fault 37).
func TestSQLiteStopsOnWriteError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	r := runChild(t, exec.Command(os.Args[0]), "ACQUIRER_STORE_CHILD="+path, "ACQUIRER_STORE_CHILD_LIMIT=1")
	if len(r.ok) < 5 || len(r.doubt) != 1 || !r.stopped {
		t.Fatalf("%d answered, %d in doubt, stopped %v\n%s", len(r.ok), len(r.doubt), r.stopped, r.text)
	}
	r.holds(t, path)
}

// The Nth fsync fails, for every N on the way: whatever it belonged to, the
// store stops, is never told that a second fsync went well, and keeps what was
// answered.
func TestSQLiteStopsOnEveryFailedSync(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: fsync cannot be made to fail without strace")
	}
	if out, err := exec.Command(strace, "-qq", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: strace may not trace here: %v %s", err, out)
	}
	stopped := 0
	for n := 1; n <= 60; n += 1 + n/12 {
		path := filepath.Join(t.TempDir(), "a.db")
		cmd := exec.Command(strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync", "-e", fmt.Sprintf("inject=fsync,fdatasync:error=EIO:when=%d", n), os.Args[0])
		r := runChild(t, cmd, "ACQUIRER_STORE_CHILD="+path)
		if r.stopped {
			stopped++
		}
		r.holds(t, path)
		if t.Failed() {
			t.Fatalf("with the fsync %d failing:\n%s", n, r.text)
		}
	}
	if stopped < 5 {
		t.Errorf("the store stopped %d times: the fault was hardly met", stopped)
	}
}

func scans(line, format string, id *int64) bool {
	n, err := fmt.Sscanf(line, format, id)
	return err == nil && n == 1
}

func blobIDs(t *testing.T, db *DB) (ids []int64) {
	t.Helper()
	err := db.Read(t.Context(), func(tx Tx) error {
		rows, err := tx.Query("select id from blob order by id")
		ids, err = All(rows, err, func(r *Rows, id *int64) error { return r.Scan(id) })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func healthy(t *testing.T, db *DB) {
	t.Helper()
	var verdict string
	err := db.Read(t.Context(), func(tx Tx) error { return tx.QueryRow("pragma integrity_check").Scan(&verdict) })
	if err != nil || verdict != "ok" {
		t.Errorf("integrity: %s %v", verdict, err)
	}
}

// A full disk is in doubt once, then a plain no, and writing goes on when
// there is room: nothing that was refused comes to life (fault 36).
func TestSQLiteOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("SKIPPED: a disk of 8 MB cannot be mounted here: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 7_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.db")
	db, err := Open(t.Context(), "sqlite:"+path, Schema{Name: "t", Steps: []string{blobs}})
	if err != nil {
		t.Fatal(err)
	}
	write := func(id int64, size int) error {
		return db.Write(t.Context(), func(tx Tx) error {
			_, err := tx.Exec("insert into blob (id, body) values ($1, $2)", id, make([]byte, size))
			return err
		})
	}
	var ok []int64
	id := int64(1)
	for ; ; id++ {
		if err = write(id, 50_000); err != nil {
			break
		}
		ok = append(ok, id)
	}
	if !errors.Is(err, ErrInDoubt) {
		t.Errorf("the disk was full at COMMIT: %v, want ErrInDoubt", err)
	}
	select {
	case <-db.Failed():
		t.Fatal("a full disk stopped the store for good")
	default:
	}
	if err := write(id+1, 200_000); err == nil {
		t.Error("200,000 bytes fit on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := write(id+2, 50_000); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	ok = append(ok, id+2)
	// Read the file as a crashed process would leave it: the log anew.
	copyTo := t.TempDir()
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copyTo, "a.db"+suffix), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	for _, p := range []string{path, filepath.Join(copyTo, "a.db")} {
		again, err := Open(t.Context(), "sqlite:"+p, Schema{Name: "t", Steps: []string{blobs}})
		if err != nil {
			t.Fatal(err)
		}
		if there := blobIDs(t, again); !slices.Equal(there, ok) {
			t.Errorf("%s: rows %v, want %v", p, there, ok)
		}
		healthy(t, again)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func openTestSQLite(t *testing.T, steps ...string) (*DB, *sqliteDB) {
	t.Helper()
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "a.db"), Schema{Name: "t", Steps: steps})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, db.engine.(*sqliteDB)
}

func insertBlob(db *DB, size int) error {
	return db.Write(context.Background(), func(tx Tx) error {
		_, err := tx.Exec("insert into blob (id, body) values ($1, $2)", NewID(), bytes.Repeat([]byte{7}, size))
		return err
	})
}

const blobs = "create table blob (id BIGINT primary key, body BYTEA not null)"

// The log is copied into the database file and started again while writing
// goes on, so that it does not grow without end.
func TestSQLiteLogStaysBounded(t *testing.T) {
	db, d := openTestSQLite(t, blobs)
	for range 400 { // 400 MB, some 100,000 pages
		if err := insertBlob(db, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Stat(d.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(3 * checkpointPages * 4096); log.Size() > limit {
		t.Errorf("the log has %d bytes, want at most %d", log.Size(), limit)
	}
}

// A file without room refuses what does not fit and goes on with what does.
func TestSQLiteFullFileIsNoCatastrophe(t *testing.T) {
	db, d := openTestSQLite(t, blobs)
	limit := func(pages int) {
		t.Helper()
		if err := db.Write(t.Context(), func(Tx) error { // the writer's own connection, on its own goroutine
			_, err := d.conn.pragma(fmt.Sprintf("pragma max_page_count = %d", pages))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	limit(40)
	if err := insertBlob(db, 64<<10); err != nil {
		t.Fatal(err)
	}
	q := Gather(db, "blobs", func(tx Tx, batch []int) error {
		for _, size := range batch {
			if _, err := tx.Exec("insert into blob (id, body) values ($1, $2)", NewID(), make([]byte, size)); err != nil {
				return err
			}
		}
		return nil
	})
	big := q.Do(t.Context(), 1<<20)
	var e *sqliteError
	if !errors.As(big, &e) || e.code != 13 {
		t.Fatalf("one megabyte in 320 KB: %v, want SQLITE_FULL (13)", big)
	}
	if errors.Is(big, ErrInDoubt) {
		t.Errorf("refused before commit, yet in doubt: %v", big)
	}
	if err := q.Do(t.Context(), 10); err != nil {
		t.Errorf("ten bytes after that: %v", err)
	}
	select {
	case <-db.Failed():
		t.Error("a full file stopped the store for good")
	default:
	}
	limit(1 << 20)
	if err := q.Do(t.Context(), 1<<20); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// After a commit in doubt something else is committed over it first.
func TestSQLiteWritesOverADoubt(t *testing.T) {
	db, d := openTestSQLite(t, blobs)
	over := func() (n int64) {
		t.Helper()
		err := db.Read(t.Context(), func(tx Tx) error {
			return tx.QueryRow("select coalesce(max(tick), 0) from store_mark where node = -1").Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := insertBlob(db, 1); err != nil || over() != 0 {
		t.Fatalf("%v, %d resolved without a doubt", err, over())
	}
	if err := db.Write(t.Context(), func(Tx) error { // on the writer's goroutine
		d.doubt = true
		return errors.New("undone")
	}); err == nil {
		t.Fatal("want the error")
	}
	for range 3 {
		if err := insertBlob(db, 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := over(); n != 1 {
		t.Errorf("%d commits over one doubt, want 1", n)
	}
}

func TestSQLiteRefusesASecondOwner(t *testing.T) {
	_, d := openTestSQLite(t, blobs)
	_, err := Open(t.Context(), "sqlite:"+d.path)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second owner: %v, want a refusal that names process %d", err, os.Getpid())
	}
}

func TestSQLiteReadEndsWithItsContext(t *testing.T) {
	db, _ := openTestSQLite(t, blobs)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var n int64
	err := db.Read(ctx, func(tx Tx) error {
		return tx.QueryRow("with recursive c(x) as (select 1 union all select x + 1 from c where x < 1000000000) select count(*) from c").Scan(&n)
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a billion rows in 50 ms: %v, %d", err, n)
	}
	if err := db.Read(t.Context(), func(tx Tx) error { return tx.QueryRow("select count(*) from blob").Scan(&n) }); err != nil {
		t.Errorf("the next read: %v", err)
	}
}

func TestForSQLite(t *testing.T) {
	for in, want := range map[string]string{
		"create table a (id BIGINT primary key, b BYTEA)":            "create table a (id INTEGER primary key, b BLOB)",
		"select '$1 for update', \"bytea\" from a where x = $12":     "select '$1 for update', \"bytea\" from a where x = ?12",
		"select a from b order by a limit $1 for update skip locked": "select a from b order by a limit ?1",
		"select a from b where id = $1 FOR UPDATE":                   "select a from b where id = ?1",
		"select information_bytea, for_update from bigint_":          "select information_bytea, for_update from bigint_",
		"select 'it''s $1'": "select 'it''s $1'",
	} {
		if got := strings.TrimSpace(forSQLite(in)); strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("%s\n gave %s\n want %s", in, got, want)
		}
	}
}

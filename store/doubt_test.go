package store_test

import (
	"bytes"
	"context"
	"errors"

	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"acquirer/store"
	"acquirer/store/storetest"
)

// cutter is a line to PostgreSQL that can break around a COMMIT.
type cutter struct {
	listener net.Listener
	server   string
	mode     atomic.Int32
	cuts     atomic.Int32
	wg       sync.WaitGroup
}

const (
	passing       int32 = iota
	cutBefore           // the server never hears COMMIT
	cutAfter            // the server commits and its answer is lost
	cutEverything       // no connection lives
)

func newCutter(t *testing.T, server string) (*cutter, string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, server: u.Host}
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); c.wg.Wait() })
	u.Host = l.Addr().String()
	return c, u.String()
}

func (c *cutter) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	var lost atomic.Bool // answers go nowhere
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || lost.Load() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	defer func() { server.Close(); <-answered }()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		mode := c.mode.Load()
		if mode == cutEverything {
			return
		}
		commit := bytes.Contains(buf[:n], []byte("Q\x00\x00\x00\x0bcommit\x00"))
		if commit && mode == cutBefore {
			c.cuts.Add(1)
			return
		}
		lost.Store(commit && mode == cutAfter)
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
		if lost.Load() {
			c.cuts.Add(1)
			<-answered // the server has answered, so it has committed
			return
		}
	}
}

func TestCommitInDoubtOnPostgres(t *testing.T) {
	direct := storetest.PostgresURL(t)
	c, through := newCutter(t, direct)
	db, err := store.Open(t.Context(), through, things...)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	witness, err := store.Open(t.Context(), direct, things...)
	if err != nil {
		t.Fatal(err)
	}
	defer witness.Close()
	q := store.Gather(db, "doubt", func(tx store.Tx, batch []int64) error {
		for _, n := range batch {
			if err := insert(tx, n); err != nil {
				return err
			}
		}
		return nil
	})
	n := int64(0)
	for _, step := range []struct {
		mode    int32
		durable bool
	}{{cutAfter, true}, {cutBefore, false}, {cutAfter, true}} {
		for _, write := range []func(int64) error{
			func(n int64) error { return q.Do(t.Context(), n) },
			func(n int64) error {
				return db.Write(t.Context(), func(tx store.Tx) error { return insert(tx, n) })
			},
		} {
			n++
			before := count(t, witness)
			c.mode.Store(step.mode)
			err := write(n)
			c.mode.Store(passing)
			if !errors.Is(err, store.ErrInDoubt) {
				t.Fatalf("mode %d, value %d: %v, want ErrInDoubt", step.mode, n, err)
			}
			want := before
			if step.durable {
				want++
			}
			if got := count(t, witness); got != want {
				t.Errorf("mode %d, value %d: %d rows, want %d", step.mode, n, got, want)
			}
			n++
			if err := write(n); err != nil {
				t.Errorf("the next write on a new connection: %v", err)
			}
		}
	}
	if c.cuts.Load() != 6 {
		t.Errorf("the line was cut %d times, want 6", c.cuts.Load())
	}
}

// A line that breaks before COMMIT is a no; a stale pooled connection is not
// even noticed.
func TestLostConnectionOnPostgres(t *testing.T) {
	db := storetest.Postgres(t, things...)
	kill := func() {
		t.Helper()
		if err := db.Read(t.Context(), func(tx store.Tx) error {
			rows, err := tx.Query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return rows.Err()
		}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range int64(5) {
		kill()
		if err := db.Write(t.Context(), func(tx store.Tx) error { return insert(tx, n) }); err != nil {
			t.Errorf("after the connections were ended: %v", err)
		}
	}
	tries := 0
	err := db.Write(t.Context(), func(tx store.Tx) error {
		tries++
		if err := insert(tx, 100); err != nil {
			return err
		}
		_, err := tx.Exec("select pg_terminate_backend(pg_backend_pid())")
		return err
	})
	if err == nil || errors.Is(err, store.ErrInDoubt) {
		t.Errorf("ended inside the transaction: %v, want a plain no", err)
	}
	if n := count(t, db); n != 5 {
		t.Errorf("%d rows, want 5", n)
	}
}

func TestServerGoneIsANo(t *testing.T) {
	c, through := newCutter(t, storetest.PostgresURL(t))
	db, err := store.Open(t.Context(), through, things...)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q := store.Gather(db, "gone", func(tx store.Tx, batch []int64) error {
		for _, n := range batch {
			if err := insert(tx, n); err != nil {
				return err
			}
		}
		return nil
	})
	c.mode.Store(cutEverything)
	var wg sync.WaitGroup
	for n := range int64(50) {
		wg.Go(func() {
			if err := q.Do(context.Background(), n); err == nil || errors.Is(err, store.ErrInDoubt) {
				t.Errorf("with no server: %v, want a plain no", err)
			}
		})
	}
	wg.Wait()
	c.mode.Store(passing)
	if err := q.Do(t.Context(), 1); err != nil {
		t.Errorf("with the server back: %v", err)
	}
}

func TestPostgresMustPromiseDurability(t *testing.T) {
	base := storetest.PostgresURL(t)
	for _, setting := range []string{"synchronous_commit=off", "default_transaction_isolation=serializable"} {
		db, err := store.Open(t.Context(), base+"&options="+strings.ReplaceAll(url.QueryEscape("-c "+setting), "+", "%20"))
		if err == nil {
			db.Close()
			t.Errorf("%s was accepted", setting)
			continue
		}
		name, _, _ := strings.Cut(setting, "=")
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want an error that names it", setting, err)
		}
	}
	for _, bad := range []string{"", "mysql://x", "sqlite:", "sqlite::memory:", "postgres://user:geheim@127.0.0.1:1/x?sslmode=nonsense"} {
		db, err := store.Open(t.Context(), bad)
		if err == nil {
			db.Close()
			t.Errorf("%q was opened", bad)
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

// Fault 45: a copy that cannot be written to is no database to decide on.
func TestFault45_Standby(t *testing.T) {
	db, err := store.Open(t.Context(), storetest.PostgresURL(t)+"&options=-c%20default_transaction_read_only%3Don")
	if err == nil {
		db.Close()
		t.Fatal("a database that can only be read was opened")
	}
	if !strings.Contains(err.Error(), "standby") {
		t.Errorf("%v, want an error that says why", err)
	}
}

// A server that ends the connection while it commits may have committed or
// not: only an ERROR, after which the connection lives on, is a no.
func TestServerEndsTheConnectionInsideCommit(t *testing.T) {
	db := storetest.Postgres(t, things...)
	exec := func(sql string) {
		t.Helper()
		if err := db.Write(t.Context(), func(tx store.Tx) error { _, err := tx.Exec(sql); return err }); err != nil {
			t.Fatal(err)
		}
	}
	exec(`create function at_commit() returns trigger language plpgsql as $$ begin
		if new.n = 1 then perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5);
		elsif new.n = 2 then raise exception 'no' using errcode = '23514'; end if;
		return null; end $$`)
	exec("create constraint trigger at_commit after insert on thing deferrable initially deferred for each row execute function at_commit()")
	write := func(n int64) error {
		return db.Write(t.Context(), func(tx store.Tx) error { return insert(tx, n) })
	}
	if err := write(1); !errors.Is(err, store.ErrInDoubt) {
		t.Errorf("ended inside COMMIT: %v, want ErrInDoubt", err)
	}
	if err := write(2); err == nil || errors.Is(err, store.ErrInDoubt) {
		t.Errorf("refused by COMMIT: %v, want a plain no", err)
	}
	if err := write(3); err != nil || count(t, db) != 1 {
		t.Errorf("%v, %d rows, want 1", err, count(t, db))
	}
}

// What looks at everything there ever was is not cut off like the others.
func TestReadLongTakesItsTime(t *testing.T) {
	base := storetest.PostgresURL(t)
	db, err := store.Open(t.Context(), base+"&statement_timeout=200", things...)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sleep := func(tx store.Tx) error {
		_, err := tx.Exec("select pg_sleep(0.4)")
		return err
	}
	if err := db.Read(t.Context(), sleep); err == nil {
		t.Error("Read waited longer than its statement may")
	}
	if err := db.ReadLong(t.Context(), sleep); err != nil {
		t.Errorf("ReadLong was cut off: %v", err)
	}
	if err := db.Read(t.Context(), sleep); err == nil {
		t.Error("a Read behind a ReadLong had its time")
	}
}

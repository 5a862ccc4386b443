// Package storetest gives tests a real database of each engine: SQLite in a
// temporary directory, and PostgreSQL started from the binaries of this
// machine or named by ACQUIRER_TEST_POSTGRES (a URL of a database the tests
// may make schemas in).
package storetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"acquirer/store"
)

// Main runs the tests of a package, stops the PostgreSQL they started and
// looks for goroutines they left behind. A package that uses Postgres calls it
// from TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }
//
// leaves are goroutines that somebody else's library leaves.
func Main(m *testing.M, leaves ...goleak.Option) int {
	code := m.Run()
	Stop()
	if err := goleak.Find(leaves...); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Each runs f as a subtest on each engine, with an empty, migrated database.
func Each(t *testing.T, schemas []store.Schema, f func(t *testing.T, db *store.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, SQLite(t, schemas...)) })
	t.Run("postgres", func(t *testing.T) { f(t, Postgres(t, schemas...)) })
}

// SQLite opens a new database in a temporary directory.
func SQLite(t testing.TB, schemas ...store.Schema) *store.DB {
	t.Helper()
	return open(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db"), schemas)
}

// Postgres opens a new, empty database of the shared server.
func Postgres(t testing.TB, schemas ...store.Schema) *store.DB {
	t.Helper()
	return open(t, PostgresURL(t), schemas)
}

func open(t testing.TB, url string, schemas []store.Schema) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, schemas...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return db
}

// PostgresURL makes a new, empty database in the shared server and returns
// its URL. Without a server the test is skipped, loudly, or failed when
// ACQUIRER_TEST_REQUIRE_POSTGRES=1.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return create(t, "template1")
}

// PostgresCopy copies a database of the shared server that nobody has open.
func PostgresCopy(t testing.TB, from string) string {
	t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	return create(t, strings.TrimPrefix(u.Path, "/"))
}

// create makes a database like another, for the time of a test.
func create(t testing.TB, like string) string {
	t.Helper()
	server, err := shared()
	if err != nil {
		if os.Getenv("ACQUIRER_TEST_REQUIRE_POSTGRES") == "1" {
			t.Fatalf("PostgreSQL is required and missing: %v", err)
		}
		t.Skipf("SKIPPED ON POSTGRESQL: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	var random [6]byte
	rand.Read(random[:])
	name := "test_" + hex.EncodeToString(random[:])
	for {
		_, err := admin.Exec(ctx, "create database "+name+" template "+like)
		var said *pgconn.PgError
		if errors.As(err, &said) && said.Code == "55006" {
			continue // somebody is still leaving it; the server waited five seconds for that
		}
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		admin, err := pgx.Connect(ctx, server)
		if err != nil {
			t.Errorf("dropping the test database: %v", err)
			return
		}
		defer admin.Close(ctx)
		if _, err := admin.Exec(ctx, "drop database "+name+" with (force)"); err != nil {
			t.Errorf("dropping the test database: %v", err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

var server struct {
	once sync.Once
	url  string
	err  error
	pid  int
	stop func()
}

// shared is the URL of the server that all tests of this process use.
func shared() (string, error) {
	server.once.Do(func() {
		if url := os.Getenv("ACQUIRER_TEST_POSTGRES"); url != "" {
			server.url = url
			return
		}
		server.url, server.stop, server.err = start()
	})
	return server.url, server.err
}

// Stop ends the server that this process started, if it did.
func Stop() {
	if server.stop != nil {
		server.stop()
		server.stop = nil
	}
}

// start runs initdb and postgres in a temporary directory on a random port of
// the loopback address, with fsync on, as a real one would.
func start() (_ string, stop func(), err error) {
	bin, err := binaries()
	if err != nil {
		return "", nil, err
	}
	dir, as, err := makeData(bin)
	if err != nil {
		return "", nil, err
	}
	c, err := run(bin, dir, "data", as, "-c", "max_connections=200", "-c", "shared_buffers=64MB", "-c", "max_wal_size=1GB")
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	server.pid = c.cmd.Process.Pid
	return c.url(), func() { c.stop(); os.RemoveAll(dir) }, nil
}

// makeData makes a temporary folder with the data of a new server in it, owned by
// as.
func makeData(bin string) (dir string, as *account, err error) {
	if dir, err = os.MkdirTemp("", "acquirer-postgres-"); err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if as, err = unprivileged(dir); err != nil {
		return "", nil, err
	}
	initdb := command(filepath.Join(bin, "initdb"), as, "-D", filepath.Join(dir, "data"), "-U", "acquirer", "-A", "trust", "-E", "UTF8", "--locale=C")
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w: %s", err, tail(out))
	}
	return dir, as, nil
}

// cluster is a running postgres.
type cluster struct {
	cmd    *exec.Cmd
	port   int
	log    *os.File
	exited chan struct{}
	err    error // of the process, when it has exited
}

func (c *cluster) address() string { return fmt.Sprintf("127.0.0.1:%d", c.port) }
func (c *cluster) url() string {
	return "postgres://acquirer@" + c.address() + "/postgres?sslmode=disable"
}

// run starts postgres on the data in a folder of dir and waits until it answers.
// command makes it die with this process where the system can: one that outlives
// a killed test would keep its port and its disk.
func run(bin, dir, data string, as *account, args ...string) (_ *cluster, err error) {
	c := &cluster{exited: make(chan struct{})}
	if c.port, err = freePort(); err != nil {
		return nil, err
	}
	if c.log, err = os.Create(filepath.Join(dir, data+".log")); err != nil {
		return nil, err
	}
	c.cmd = command(filepath.Join(bin, "postgres"), as, append([]string{"-D", filepath.Join(dir, data), "-h", "127.0.0.1", "-p", strconv.Itoa(c.port), "-k", dir,
		"-c", "log_min_messages=warning"}, args...)...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		c.log.Close()
		return nil, err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		conn, err := pgx.Connect(ctx, c.url())
		if err == nil {
			conn.Close(ctx)
			cancel()
			return c, nil
		}
		cancel()
		select {
		case <-c.exited:
			text, _ := os.ReadFile(c.log.Name())
			c.stop()
			return nil, fmt.Errorf("postgres ended: %v: %s", c.err, tail(text))
		case <-time.After(30 * time.Millisecond): // polling: postgres has no way to say that it listens
		}
		if time.Now().After(deadline) {
			c.stop()
			return nil, fmt.Errorf("postgres does not answer: %w", err)
		}
	}
}

// stop ends it in order, or by force when it does not.
func (c *cluster) stop() {
	c.cmd.Process.Signal(os.Interrupt) // fast shutdown
	select {
	case <-c.exited:
	case <-time.After(20 * time.Second):
		c.cmd.Process.Kill()
		<-c.exited
	}
	c.log.Close()
}

// binaries finds the directory of initdb and postgres.
func binaries() (string, error) {
	var dirs []string
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // where Debian keeps them
	for i := len(found) - 1; i >= 0; i-- {
		dirs = append(dirs, found[i])
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, d := range dirs {
		ok := true
		for _, name := range []string{"initdb", "postgres"} {
			if _, err := os.Stat(filepath.Join(d, name)); err != nil {
				ok = false
			}
		}
		if ok {
			return d, nil
		}
	}
	return "", fmt.Errorf("no PostgreSQL: neither ACQUIRER_TEST_POSTGRES nor initdb and postgres (looked in %v, pg_config and PATH)", dirs)
}

// account is a user that postgres may run as: it refuses root.
type account struct{ uid, gid uint32 }

// unprivileged gives dir to another user when this process is root.
func unprivileged(dir string) (*account, error) {
	if runtime.GOOS == "windows" || os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &account{uint32(uid), uint32(gid)}, os.Chown(dir, int(uid), int(gid))
	}
	return nil, errors.New("postgres does not run as root and there is no user postgres or nobody")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func tail(b []byte) string {
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return string(b)
}

// ServerCPU is the processor time that the started PostgreSQL has used, for
// benchmarks; 0 where it cannot be told.
func ServerCPU() time.Duration {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || server.pid == 0 {
		return 0
	}
	var ticks int64
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // ended since
		}
		_, rest, ok := strings.Cut(string(text), ") ")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		pid, _, _ := strings.Cut(string(text), " ")
		if len(f) < 13 || f[1] != strconv.Itoa(server.pid) && pid != strconv.Itoa(server.pid) {
			continue
		}
		for _, n := range f[11:13] { // user and system time
			v, err := strconv.ParseInt(n, 10, 64)
			if err != nil {
				return 0
			}
			ticks += v
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// EveryChangeIsFound changes one byte of every column of one row of each table,
// in the way of a disk and not of the program, and fails when db.CheckRows does
// not name the row.
func EveryChangeIsFound(t *testing.T, db *store.DB, tables []store.Summed) {
	t.Helper()
	check := func() *store.RowReport {
		t.Helper()
		r, err := db.CheckRows(t.Context(), tables, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := check(); r.Found != 0 || r.Without != 0 || r.Rows == 0 {
		t.Fatalf("before anything was changed: %+v", r)
	}
	for _, s := range tables {
		columns := strings.Split(s.Columns, ",")
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		values, dest := make([]any, len(columns)+1), make([]any, len(columns)+1)
		for i := range values {
			dest[i] = &values[i]
		}
		if err := db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRow(fmt.Sprintf("select %s, %s from %s order by %s limit 1", s.Columns, s.Date, s.Table, columns[0])).Scan(dest...)
		}); err != nil {
			t.Fatal(err)
		}
		set := func(column string, to any, id int64) {
			t.Helper()
			if err := db.Write(t.Context(), func(tx store.Tx) error {
				n, err := tx.Exec(fmt.Sprintf("update %s set %s = $1 where %s = $2", s.Table, column, columns[0]), to, id)
				if err == nil && n != 1 {
					err = fmt.Errorf("%d rows changed", n)
				}
				return err
			}); err != nil {
				t.Fatalf("%s.%s: %v", s.Table, column, err)
			}
		}
		date := fmt.Sprintf("business date %v", values[len(columns)])
		for i, column := range columns {
			id := values[0].(int64)
			var bad any
			switch v := values[i].(type) {
			case nil:
				bad = []byte("x")
				if column == "resolves" {
					bad = "x"
				}
			case int64:
				if bad = v ^ 1; i == 0 {
					bad = v ^ 1<<30 // its neighbour may be a row
				}
			case string:
				bad = string(flipped([]byte(v)))
			case []byte:
				bad = flipped(v)
			}
			set(column, bad, id)
			if i == 0 {
				id = bad.(int64)
			}
			r := check()
			if want := fmt.Sprintf("%s %d, ", s.Table, id); r.Found != 1 || !strings.HasPrefix(r.Problems[0], want) || column != "txn" && column != "day" && column != "date" && !strings.Contains(r.Problems[0], date) {
				t.Errorf("%s.%s was %v and is %v: %+v, want %sof %s", s.Table, column, values[i], bad, r, want, date)
			}
			set(column, values[i], id)
		}
		if r := check(); r.Found != 0 {
			t.Fatalf("after all was put back: %+v", r)
		}
	}
}

// flipped is b with another last byte; text stays text.
func flipped(b []byte) []byte {
	if len(b) == 0 {
		return []byte("x")
	}
	b = append([]byte(nil), b...)
	b[len(b)-1] ^= 1
	return b
}

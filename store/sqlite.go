package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"acquirer/fault"
)

// sqliteDB is the embedded engine: one writer goroutine that gathers what
// waits into one transaction and one fsync, and readers beside it.
type sqliteDB struct {
	path   string
	m      *meters
	owner  *os.File
	conn   *sqliteConn
	bell   chan struct{}
	funcs  *Queue[func(Tx) error]
	ended  chan struct{} // the writer has ended
	doubt  bool          // the last commit failed: see resolve
	copied int64         // pages written up to the last checkpoint

	broken   chan struct{}
	breaking sync.Once

	mu      sync.Mutex
	queues  []gatherer
	closing bool

	readers chan *sqliteConn // idle
	tickets chan struct{}    // readers that may still be opened

	closed   sync.Once
	closeErr error
}

func openSQLite(ctx context.Context, path string, m *meters) (_ engine, err error) {
	if path == "" || path[0] == ':' {
		return nil, errors.New("store: sqlite: wants the path of a file")
	}
	owner, err := own1(path)
	if err != nil {
		return nil, err
	}
	d := &sqliteDB{
		path: path, m: m, owner: owner,
		bell:   make(chan struct{}, 1),
		broken: make(chan struct{}), ended: make(chan struct{}),
		readers: make(chan *sqliteConn, readerLimit), tickets: make(chan struct{}, readerLimit),
	}
	for range readerLimit {
		d.tickets <- struct{}{}
	}
	if d.conn, err = openWriter(path); err != nil {
		return nil, errors.Join(err, owner.Close())
	}
	d.funcs = &Queue[func(Tx) error]{name: "write", single: true}
	d.funcs.apply = func(tx Tx, fs []func(Tx) error) error { return fs[0](tx) }
	m.add("write", d.funcs.depth)
	d.attach(d.funcs)
	go d.writer()
	return d, nil
}

// readerLimit is how many reads run at once; more wait.
var readerLimit = max(4, 2*runtime.GOMAXPROCS(0))

// own1 takes the file that says which process owns the database. Two
// processes with in-memory state of the same file would each be right alone.
func own1(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := lockFile(f); err != nil {
		pid := make([]byte, 32)
		n, _ := f.ReadAt(pid, 0)
		f.Close()
		return nil, fmt.Errorf("%w: %s is in use by process %s: stop it first, or use PostgreSQL to share a database: %w", ErrInUse, path, pid[:n], err)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("store: %w", err)
	}
	if _, err := f.WriteAt(fmt.Append(nil, os.Getpid()), 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("store: %w", err)
	}
	return f, nil
}

// openWriter opens the writing connection and reads back what durability
// rests on.
func openWriter(path string) (*sqliteConn, error) {
	// Made here so that nobody else may read it; the log inherits its mode.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	c, err := openSQLiteConn(path)
	if err != nil {
		return nil, fmt.Errorf("store: opening %s: %w", path, err)
	}
	for _, p := range []string{
		// Before the first table. The journal's unique key touches a page of
		// its own for nearly every terminal, so small pages write less: 4 KB
		// costs 10 % less processor time than 8 KB, 20 % less than 16 KB.
		"pragma page_size = 4096",
		"pragma journal_mode = wal",
		"pragma synchronous = full",
		"pragma wal_autocheckpoint = 0", // see checkpoint
		"pragma cache_size = -65536",
		"pragma foreign_keys = on",
		"pragma temp_store = memory",
	} {
		if err := c.run(p); err != nil {
			return nil, errors.Join(fmt.Errorf("store: %s: %w", p, err), c.close())
		}
	}
	for _, want := range []struct {
		pragma string
		value  any
		why    string
	}{
		{"pragma journal_mode", "wal", "readers beside the writer need it"},
		{"pragma synchronous", int64(2), "an answered approval could be lost with the power"},
		{"pragma foreign_keys", int64(1), "rows could point nowhere"},
	} {
		got, err := c.pragma(want.pragma)
		if err != nil || got != want.value {
			return nil, errors.Join(fmt.Errorf("store: %s of %s is %v, want %v: %s", want.pragma, path, got, want.value, want.why), err, c.close())
		}
	}
	if fault.Planted("no-fsync") {
		return c, c.run("pragma synchronous = off")
	}
	return c, nil
}

func (d *sqliteDB) postgres() bool          { return false }
func (d *sqliteDB) failed() <-chan struct{} { return d.broken }

func (d *sqliteDB) attach(q gatherer) {
	q.connect(d.ring)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		q.shut(ErrClosed)
		return
	}
	// Copied, so that the writer may keep the slice it has read.
	d.queues = append(append([]gatherer(nil), d.queues...), q)
}

func (d *sqliteDB) ring() {
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

func (d *sqliteDB) write(ctx context.Context, f func(Tx) error) error {
	err := d.funcs.Do(ctx, f)
	if p, ok := err.(*panicked); ok {
		panic(p.value)
	}
	return err
}

func (d *sqliteDB) read(ctx context.Context, f func(Tx) error) (err error) {
	c, err := d.reader(ctx)
	if err != nil {
		return err
	}
	var stopped sync.WaitGroup
	var cut atomic.Bool
	stopped.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer stopped.Done()
		cut.Store(true)
		c.interrupt()
	})
	defer func() {
		if stop() {
			stopped.Done()
		}
		stopped.Wait()
		if e := d.release(c); err == nil {
			err = e
		}
		if err != nil && cut.Load() {
			err = context.Cause(ctx)
		}
	}()
	if err := c.run("begin"); err != nil {
		return err
	}
	tx := &sqliteTx{conn: c}
	err = f(tx)
	if tx.rows != nil {
		tx.rows.Close()
	}
	tx.settle(0, errReadOnly)
	if err == nil {
		err = tx.failed
	}
	return err
}

// errReadOnly is the fate of a read: nothing was written.
var errReadOnly = errors.New("store: only read")

// reader takes an idle reading connection, or opens one, or waits for one.
func (d *sqliteDB) reader(ctx context.Context) (*sqliteConn, error) {
	select {
	case c := <-d.readers:
		if c == nil {
			return nil, ErrClosed
		}
		return c, nil
	default:
	}
	select {
	case c := <-d.readers:
		if c == nil {
			return nil, ErrClosed
		}
		return c, nil
	case <-d.tickets:
		c, err := openReader(d.path)
		if err != nil {
			d.tickets <- struct{}{}
			return nil, err
		}
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-d.ended:
		return nil, ErrClosed
	}
}

func openReader(path string) (*sqliteConn, error) {
	c, err := openSQLiteConn(path)
	if err != nil {
		return nil, err
	}
	// A reader may sort a day of a million sales: what does not fit into its cache
	// goes to a file, so that it takes no more memory than any other read.
	for _, p := range []string{"pragma query_only = on", "pragma cache_size = -8192", "pragma temp_store = file"} {
		if err := c.run(p); err != nil {
			return nil, errors.Join(fmt.Errorf("store: %s: %w", p, err), c.close())
		}
	}
	return c, nil
}

// release ends the read and gives the connection back.
func (d *sqliteDB) release(c *sqliteConn) error {
	var err error
	if c.inTransaction() {
		err = c.run("rollback")
	}
	if err != nil { // an interrupt that came late, or worse: start afresh
		err = c.close()
		d.tickets <- struct{}{}
		return err
	}
	d.readers <- c
	return nil
}

// close lets what waits be written, then ends the writer and the readers.
func (d *sqliteDB) close() error {
	d.closed.Do(func() {
		d.mu.Lock()
		d.closing = true
		d.mu.Unlock()
		d.ring()
		<-d.ended
		var errs []error
		for range readerLimit { // waits for the reads in progress
			select {
			case c := <-d.readers:
				errs = append(errs, c.close())
			case <-d.tickets:
			}
		}
		if d.isBroken() {
			errs = append(errs, d.conn.keepLog())
		}
		errs = append(errs, d.conn.close(), d.owner.Close())
		d.closeErr = errors.Join(errs...)
	})
	return d.closeErr
}

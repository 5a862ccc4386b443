package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
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
	broken chan struct{}
	ended  chan struct{} // the writer has ended

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
	d.funcs = &Queue[func(Tx) error]{name: "write"}
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
		return nil, fmt.Errorf("store: %s is in use by process %s: stop it first, or use PostgreSQL to share a database: %w", path, pid[:n], err)
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
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	c, err := openSQLiteConn(path)
	if err != nil {
		return nil, fmt.Errorf("store: opening %s: %w", path, err)
	}
	for _, p := range []string{
		"pragma page_size = 8192", // before the first table: fewer, fuller pages per commit
		"pragma journal_mode = wal",
		"pragma synchronous = full",
		"pragma wal_autocheckpoint = 4096",
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

// writer is the only goroutine that writes.
func (d *sqliteDB) writer() {
	defer close(d.ended)
	// A function may end this goroutine (runtime.Goexit, as
	// testing.T.FailNow does); then nobody must wait for it.
	why := ErrFailed
	defer func() { d.stop(why) }()
	var groups []group
	for range d.bell {
		// Let the callers that the last commit released come back with their
		// next value: bigger groups, fewer fsyncs.
		runtime.Gosched()
		d.mu.Lock()
		queues, closing := d.queues, d.closing
		d.mu.Unlock()
		groups = groups[:0]
		for _, q := range queues {
			if g := q.take(); g != nil {
				groups = append(groups, g)
			}
		}
		if len(groups) > 0 {
			d.transact(groups)
		}
		if closing && len(groups) == 0 {
			why = ErrClosed
			return
		}
		if closing {
			d.ring()
		}
	}
}

// stop refuses everything that waits and that will come.
func (d *sqliteDB) stop(why error) {
	d.mu.Lock()
	d.closing = true
	queues := d.queues
	d.mu.Unlock()
	for _, q := range queues {
		q.shut(why)
	}
}

// transact carries groups through one transaction.
func (d *sqliteDB) transact(groups []group) {
	tx := &sqliteTx{conn: d.conn}
	results := make([][]error, len(groups))
	told := false
	defer func() {
		if !told { // a function has ended this goroutine
			tx.settle(0, ErrFailed)
			for _, g := range groups {
				for j := range g.size() {
					g.finish(j, ErrFailed)
				}
			}
		}
	}()
	err := d.conn.run("begin immediate")
	for i, g := range groups {
		results[i] = make([]error, g.size())
		d.m.size.WithLabelValues(g.label()).Observe(float64(g.size()))
		if err == nil {
			err = tx.carry(g, results[i])
		}
	}
	if err == nil {
		start := time.Now()
		err = d.conn.run("commit")
		d.m.committed(start)
		if err != nil {
			err = inDoubt(err)
			d.m.doubts.Inc()
		}
	}
	if err != nil && d.conn.inTransaction() {
		if e := d.conn.run("rollback"); e != nil {
			err = errors.Join(err, e)
		}
	}
	tx.settle(0, err)
	told = true
	for i, g := range groups {
		for j, e := range results[i] {
			if e == nil {
				e = err
			}
			g.finish(j, e)
		}
	}
}

// sqliteTx is the writer's or a reader's view of a transaction.
type sqliteTx struct {
	conn   *sqliteConn
	failed error // what a statement said; the rest must not run
	rows   *Rows
	after  []func(error)
}

// carry applies a group inside a savepoint: all of it, or, when that fails,
// one member after the other. It returns an error when the transaction itself
// is lost.
func (tx *sqliteTx) carry(g group, results []error) error {
	mark := len(tx.after)
	if g.size() > 1 && g.label() != "write" {
		err := tx.savepoint(func() error { return g.apply(tx) })
		if err == nil {
			return nil
		}
		tx.settle(mark, err)
		if !tx.conn.inTransaction() {
			return err
		}
	}
	for i := range g.size() {
		mark := len(tx.after)
		if err := tx.savepoint(func() error { return g.applyOne(tx, i) }); err != nil {
			tx.settle(mark, err)
			if !tx.conn.inTransaction() {
				return err
			}
			results[i] = err
		}
	}
	return nil
}

// savepoint runs f so that its failure undoes f alone.
func (tx *sqliteTx) savepoint(f func() error) error {
	tx.failed = nil
	if err := tx.conn.run("savepoint s"); err != nil {
		return err
	}
	err := f()
	if tx.rows != nil {
		tx.rows.Close()
		tx.rows = nil
	}
	if err == nil {
		err = tx.failed
	}
	tx.failed = nil
	if !tx.conn.inTransaction() {
		if err == nil {
			err = errors.New("store: the transaction was rolled back by SQLite")
		}
		return err
	}
	if err != nil {
		if e := tx.conn.run("rollback to s"); e != nil {
			return errors.Join(err, e)
		}
	}
	if e := tx.conn.run("release s"); e != nil {
		return errors.Join(err, e)
	}
	return err
}

// settle tells the hooks registered since mark what became of them.
func (tx *sqliteTx) settle(mark int, fate error) {
	hooks := tx.after[mark:]
	tx.after = tx.after[:mark]
	for _, f := range hooks {
		f(fate)
	}
}

func (tx *sqliteTx) Postgres() bool      { return false }
func (tx *sqliteTx) After(f func(error)) { tx.after = append(tx.after, f) }

func (tx *sqliteTx) ready(sql string) (*sqliteStmt, error) {
	if tx.failed != nil {
		return nil, fmt.Errorf("store: the transaction failed before: %w", tx.failed)
	}
	if tx.rows != nil && !tx.rows.over {
		tx.failed = errors.New("store: a statement before the rows of the last one were closed")
		return nil, tx.failed
	}
	s, err := tx.conn.prepare(sql)
	if err != nil {
		tx.failed = err
	}
	return s, err
}

func (tx *sqliteTx) Exec(sql string, args ...any) (int64, error) {
	s, err := tx.ready(sql)
	if err != nil {
		return 0, err
	}
	n, err := s.exec(args)
	if err != nil {
		tx.failed = err
	}
	return n, err
}

func (tx *sqliteTx) Query(sql string, args ...any) (*Rows, error) {
	s, err := tx.ready(sql)
	if err != nil {
		return nil, err
	}
	if err := s.bind(args); err != nil {
		tx.failed = err
		return nil, err
	}
	tx.rows = &Rows{from: sqliteCursor{s}}
	return tx.rows, nil
}

func (tx *sqliteTx) QueryRow(sql string, args ...any) Row {
	rows, err := tx.Query(sql, args...)
	return Row{rows, err}
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
	for _, p := range []string{"pragma query_only = on", "pragma cache_size = -8192", "pragma temp_store = memory"} {
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
		errs = append(errs, d.conn.close(), d.owner.Close())
		d.closeErr = errors.Join(errs...)
	})
	return d.closeErr
}

// isFull says that the disk or the file has no room: nothing is broken, and
// writing may go on when there is room again.
func isFull(err error) bool {
	var e *sqliteError
	return errors.As(err, &e) && e.code&0xff == sqlite3.SQLITE_FULL
}

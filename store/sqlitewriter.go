package store

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"acquirer/fault"
)

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
		d.checkpoint()
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

// transact carries groups through one transaction and tells every member
// what became of it.
func (d *sqliteDB) transact(groups []group) {
	results := make([][]error, len(groups))
	for i, g := range groups {
		results[i] = make([]error, g.size())
		d.m.size.WithLabelValues(g.label()).Observe(float64(g.size()))
	}
	told := false
	tx := &sqliteTx{conn: d.conn}
	defer func() {
		if !told { // a function has ended this goroutine
			tx.settle(0, ErrFailed)
			tell(groups, results, ErrFailed)
		}
	}()
	err := d.attempt(tx, groups, results)
	told = true
	tell(groups, results, err)
}

func tell(groups []group, results [][]error, err error) {
	for i, g := range groups {
		for j, e := range results[i] {
			if e == nil {
				e = err
			}
			g.finish(j, e)
		}
	}
}

// attempt returns nil when what is not in results is durable.
func (d *sqliteDB) attempt(tx *sqliteTx, groups []group, results [][]error) error {
	if d.isBroken() {
		return ErrFailed
	}
	if d.doubt {
		if err := d.resolve(); err != nil {
			return d.judge(err)
		}
	}
	err := d.conn.run("begin immediate")
	if err == nil && len(groups) == 1 && groups[0].whole() {
		// The usual case needs no savepoint, which would copy every page.
		if err = tx.run(func() error { return groups[0].apply(tx) }); err == nil {
			return d.commit(tx)
		}
		tx.settle(0, err)
		d.rollback()
		if len(results[0]) == 1 {
			return d.judge(err)
		}
		err = d.conn.run("begin immediate")
	}
	for i, g := range groups {
		if err == nil {
			err = tx.carry(g, results[i])
		}
	}
	if err == nil {
		return d.commit(tx)
	}
	tx.settle(0, err)
	d.rollback()
	return d.judge(err)
}

func (d *sqliteDB) commit(tx *sqliteTx) error {
	start := time.Now()
	fault.Hit("store.commit.before")
	err := d.conn.run("commit")
	fault.Hit("store.commit.after")
	d.m.committed(start)
	switch {
	case err == nil:
	case d.conn.inTransaction(): // refused, not failed: a constraint, a lock
		d.rollback()
	default:
		d.m.doubts.Inc()
		d.doubt = true
		if d.judge(err); !d.isBroken() {
			d.judge(d.resolve()) // in vain while the disk is full: tried again by the next write
		}
		err = inDoubt(err)
	}
	tx.settle(0, err)
	return err
}

// checkpointPages is how long the log grows before its pages are copied into
// the database file: 4 MB. Everybody waits while they are. With 32 MB and half
// a million sales in the journal that was 15 to 32 ms in every second, and was
// the 99th percentile of all terminals; with 4 MB it is 6 ms, eight times as
// often, and at 256 terminals costs two in a hundred of the throughput.
const checkpointPages = 1024

// checkpoint copies the log into the database file when it has grown, between
// transactions and before anybody is told anything untrue: SQLite's own
// automatic checkpoint ignores a failed fsync of the database file, and the
// next one, which succeeds, would then let the log go. (A connection of its
// own beside the writer was tried: the same disk makes the writer wait no
// less.)
func (d *sqliteDB) checkpoint() {
	if d.conn.pagesWritten()-d.copied <= fault.Bound[int64](checkpointPages, 64) {
		return
	}
	fault.Hit("store.checkpoint.before")
	d.judge(d.conn.checkpoint())
	fault.Hit("store.checkpoint.after")
	d.copied = d.conn.pagesWritten()
}

// rollback ends the transaction if an error has not done so already.
func (d *sqliteDB) rollback() {
	if d.conn.inTransaction() {
		if err := d.conn.run("rollback"); err != nil {
			d.fail()
		}
	}
}

// judge stops the store for good when err says that the disk broke its
// promise: a page whose fsync failed may be gone from the cache, and a second
// fsync would say that all is well (fault 37). A full disk is no such thing.
func (d *sqliteDB) judge(err error) error {
	var e *sqliteError
	if errors.As(err, &e) {
		switch e.code & 0xff {
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISUSE:
			d.fail()
		}
	}
	return err
}

func (d *sqliteDB) isBroken() bool {
	select {
	case <-d.broken:
		return true
	default:
		return false
	}
}

func (d *sqliteDB) fail() { d.breaking.Do(func() { close(d.broken) }) }

// resolve ends the doubt about a commit that failed: its pages may lie in the
// log, unseen, and come to life when the log is read anew after a crash. A
// later commit is written over them.
func (d *sqliteDB) resolve() error {
	for _, sql := range []string{"begin immediate", "insert into store_mark (node, tick) values (-1, 1) on conflict (node) do update set tick = tick + 1", "commit"} {
		if err := d.conn.run(sql); err != nil {
			d.rollback()
			return fmt.Errorf("store: writing again after a failed commit: %w", err)
		}
	}
	d.doubt = false
	return nil
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
	if g.size() > 1 && g.whole() {
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

// run calls f and adds what its statements said.
func (tx *sqliteTx) run(f func() error) error {
	tx.failed = nil
	err := f()
	if tx.rows != nil {
		tx.rows.Close()
		tx.rows = nil
	}
	if err == nil {
		err = tx.failed
	}
	tx.failed = nil
	return err
}

// savepoint runs f so that its failure undoes f alone.
func (tx *sqliteTx) savepoint(f func() error) error {
	if err := tx.conn.run("savepoint s"); err != nil {
		return err
	}
	err := tx.run(f)
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
	if err = s.bind(args); err != nil {
		tx.failed = err
		return 0, err
	}
	return tx.finish(s)
}

func (tx *sqliteTx) ExecArgs(sql string, args *Args) (int64, error) {
	s, err := tx.ready(sql)
	if err != nil {
		return 0, err
	}
	if err = s.bindArgs(args.list); err != nil {
		tx.failed = err
		return 0, err
	}
	return tx.finish(s)
}

func (tx *sqliteTx) finish(s *sqliteStmt) (int64, error) {
	n, err := s.exec()
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

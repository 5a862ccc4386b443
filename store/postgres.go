package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"acquirer/fault"
)

// postgresDB is the shared engine: a pool of connections, and two writers for
// every queue.
type postgresDB struct {
	pool   *pgxpool.Pool
	m      *meters
	broken chan struct{}

	mu      sync.Mutex
	queues  []gatherer
	closing bool
	quit    chan struct{}
	writers sync.WaitGroup

	closed sync.Once
}

const (
	// writersPerQueue: with one the database idles while a group is gathered,
	// with three and more the groups get smaller and the total falls.
	writersPerQueue = 2
	// attempts of a whole function on 40001 and 40P01.
	attempts = 5
	// groupTimeout bounds one group's transaction from begin to commit.
	groupTimeout = 15 * time.Second
)

func openPostgres(ctx context.Context, url string, m *meters) (engine, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("store: the postgres url cannot be read") // its text may hold a password
	}
	cfg.MaxConns = max(cfg.MaxConns, 16)
	cfg.ConnConfig.ConnectTimeout = cmp.Or(cfg.ConnConfig.ConnectTimeout, 3*time.Second)
	set := func(name, value string) {
		if _, given := cfg.ConnConfig.RuntimeParams[name]; !given {
			cfg.ConnConfig.RuntimeParams[name] = value
		}
	}
	set("statement_timeout", "10s")
	set("lock_timeout", "5s")
	set("idle_in_transaction_session_timeout", "30s")
	set("timezone", "UTC")
	node := fmt.Sprintf("acquirer node %d ", Node())
	me := node + process
	cfg.ConnConfig.RuntimeParams["application_name"] = me
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error { return inspect(ctx, c, node, me) }
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { keepWaiting(c); return nil }
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := firstConnection(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return &postgresDB{pool: pool, m: m, broken: make(chan struct{}), quit: make(chan struct{})}, nil
}

// keepWaiting sees to it that a COMMIT which waits for the synchronous standby is
// never told to stop waiting (fault 42): the server would then keep what it
// wrote and show it, and a standby that takes over would not have it. pgx asks
// the server to cancel when it gives up a connection; what runs there without us
// ends with its statement_timeout instead. When somebody else cancels the wait,
// the server commits and warns.
func keepWaiting(c *pgx.ConnConfig) {
	var connected atomic.Bool
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if connected.Load() { // to cancel: nothing else is dialled for a connection that stands
			return nil, errors.New("store: a statement is not cancelled")
		}
		return dial(ctx, network, addr)
	}
	c.AfterConnect = func(context.Context, *pgconn.PgConn) error { connected.Store(true); return nil }
	c.OnNotice = func(c *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			c.CustomData()[warned] = n.Message
		}
	}
}

// warned is where a connection keeps the last warning of its server.
const warned = "warned"

// process tells the connections of this process from those of another.
var process = fmt.Sprintf("%d-%08x", os.Getpid(), rand.Uint32())

// errTwin says that another process is this node.
var errTwin = errors.New("store: another process is connected as the same node: give each its own node number")

// firstConnection waits a moment for a predecessor's connections to end: the
// server notices a killed process a little later than its successor starts.
func firstConnection(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	var twin error
	for {
		err := pool.Ping(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errTwin):
			twin = errTwin
		case twin != nil && ctx.Err() != nil:
			return twin
		default:
			return fmt.Errorf("store: %w", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return twin
		}
	}
}

// inspect refuses a connection on which a committed write might be lost, and
// one that would make two processes the same node: their ids would collide,
// and each would take the other's open transactions for its own.
func inspect(ctx context.Context, c *pgx.Conn, node, me string) error {
	var commit, fsync, isolation string
	var twins int
	var replica bool
	err := c.QueryRow(ctx, `select current_setting('synchronous_commit'), current_setting('fsync'), current_setting('default_transaction_isolation'),
		pg_is_in_recovery() or current_setting('transaction_read_only') = 'on',
		(select count(*) from pg_stat_activity where datname = current_database() and starts_with(application_name, $1) and application_name <> $2)`,
		node, me).Scan(&commit, &fsync, &isolation, &replica, &twins)
	switch {
	case err != nil:
		return err
	case commit != "on" && commit != "remote_apply" && commit != "remote_write":
		return fmt.Errorf("store: synchronous_commit is %s: an answered approval could be lost; set it to on", commit)
	case fsync != "on":
		return fmt.Errorf("store: fsync is %s: an answered approval could be lost; set it to on", fsync)
	case replica:
		return errors.New("store: the database is read only, a standby perhaps: money is never decided on a copy; connect to the primary (target_session_attrs=read-write)")
	case isolation != "read committed":
		return fmt.Errorf("store: default_transaction_isolation is %q: want read committed", isolation)
	case twins > 0:
		return errTwin
	}
	return nil
}

// FreeNode is the number of a node that nobody is on a PostgreSQL, for a command
// that works there beside the house: two processes of one number are refused
// (inspect). The numbers from spareNodes up are taken first, since houses are
// numbered from 0.
func FreeNode(ctx context.Context, url string) (int, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return 0, errors.New("store: the postgres url cannot be read") // its text may hold a password
	}
	cfg.ConnConfig.ConnectTimeout = cmp.Or(cfg.ConnConfig.ConnectTimeout, 3*time.Second)
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select distinct application_name from pg_stat_activity where datname = current_database() and starts_with(application_name, 'acquirer node ')")
	if err != nil {
		return 0, fmt.Errorf("store: which nodes are there: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, fmt.Errorf("store: which nodes are there: %w", err)
	}
	var taken [MaxNode + 1]bool
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(name, "acquirer node %d ", &n); err == nil && n >= 0 && n <= MaxNode {
			taken[n] = true
		}
	}
	// Two commands that look at the same moment hardly ever choose the same one.
	first := spareNodes + rand.IntN(MaxNode+1-spareNodes)
	for i := range MaxNode + 1 {
		if n := (first + i) % (MaxNode + 1); !taken[n] {
			return n, nil
		}
	}
	return 0, fmt.Errorf("store: all %d nodes that there may be are connected", MaxNode+1)
}

// spareNodes is the first number that FreeNode likes to take.
const spareNodes = 64

func (d *postgresDB) postgres() bool          { return true }
func (d *postgresDB) failed() <-chan struct{} { return d.broken }

func (d *postgresDB) write(ctx context.Context, f func(Tx) error) error {
	if d.isClosing() {
		return ErrClosed
	}
	err := d.transact(ctx, func(tx Tx) error { return guard(func() error { return f(tx) }) })
	if p, ok := err.(*panicked); ok {
		panic(p.value)
	}
	return err
}

func (d *postgresDB) isClosing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closing
}

// transact runs f in a transaction, again as a whole when the database asks
// for it.
func (d *postgresDB) transact(ctx context.Context, f func(Tx) error) error {
	for try := 1; ; try++ {
		err := d.attempt(ctx, f)
		// Once more: a pooled connection may be stale, and who meant to be the first to
		// write a key may find it written by another.
		again := retryable(err) && try < attempts || try == 1 && (errors.Is(err, errLost) || errors.Is(err, ErrDuplicate))
		if err == nil || !again || errors.Is(err, ErrInDoubt) {
			return err
		}
		d.m.retries.Inc()
		pause := time.NewTimer(time.Duration(rand.Int64N(int64(try) * int64(4*time.Millisecond))))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

func (d *postgresDB) attempt(ctx context.Context, f func(Tx) error) (err error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return poolError(err)
	}
	defer conn.Release()
	tx := &postgresTx{ctx: ctx, conn: conn.Conn(), begin: "begin"}
	defer func() {
		for _, h := range tx.after {
			h(err)
		}
	}()
	err = f(tx)
	tx.closeRows()
	if err == nil {
		err = tx.failed
	}
	if err != nil {
		if conn.Conn().IsClosed() && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errLost, err)
		}
		tx.rollback()
		return err
	}
	if tx.begin != "" {
		return nil // not one statement
	}
	start := time.Now()
	fault.Hit("store.commit.before")
	said := tx.conn.PgConn().CustomData()
	delete(said, warned)
	tag, err := tx.conn.Exec(ctx, "commit")
	fault.Hit("store.commit.after")
	d.m.committed(start)
	if text, any := said[warned]; any && err == nil {
		err = fmt.Errorf("store: commit with a warning: %v", text) // the standby may lack it
	}
	return d.committed(tag, err)
}

// errLost says that the connection broke before COMMIT was sent.
var errLost = errors.New("store: the connection to the database was lost; nothing was written")

// committed reads what COMMIT said. Only an answer of the server, on a
// connection that lives on, is a no.
func (d *postgresDB) committed(tag pgconn.CommandTag, err error) error {
	var said *pgconn.PgError
	switch {
	case err == nil && tag.String() == "COMMIT":
		return nil
	case err == nil:
		return fmt.Errorf("store: the transaction had failed: commit answered %s", tag)
	case errors.As(err, &said) && said.Severity == "ERROR":
		return duplicate(err)
	}
	d.m.doubts.Inc()
	return inDoubt(err)
}

// retryable: a serialization failure, a deadlock, or a prepared statement that
// another node's migration has made stale.
func retryable(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && (said.Code == "40001" || said.Code == "40P01" ||
		said.Code == "0A000" && strings.Contains(said.Message, "cached plan"))
}

// duplicate lets errors.Is(err, ErrDuplicate) see a unique violation.
func duplicate(err error) error {
	var said *pgconn.PgError
	if errors.As(err, &said) && said.Code == "23505" {
		return fmt.Errorf("%w: %w", ErrDuplicate, err)
	}
	return err
}

func poolError(err error) error {
	if err != nil && err.Error() == "closed pool" {
		return ErrClosed
	}
	return err
}

// read sees one moment: REPEATABLE READ, which never blocks and never fails
// in a read-only transaction.
func (d *postgresDB) read(ctx context.Context, f func(Tx) error) error {
	if d.isClosing() {
		return ErrClosed
	}
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return poolError(err)
	}
	defer conn.Release()
	tx := &postgresTx{ctx: ctx, conn: conn.Conn(), begin: "begin isolation level repeatable read read only"}
	defer tx.rollback()
	err = f(tx)
	tx.closeRows()
	for _, h := range tx.after {
		h(errReadOnly)
	}
	if err == nil {
		err = tx.failed
	}
	return err
}

// postgresTx is one transaction on a connection of the pool. Its begin
// travels with the first statement, which saves a round trip.
type postgresTx struct {
	ctx    context.Context
	conn   *pgx.Conn
	begin  string // still to be sent
	failed error
	rows   *Rows
	after  []func(error)
}

func (tx *postgresTx) Postgres() bool      { return true }
func (tx *postgresTx) After(f func(error)) { tx.after = append(tx.after, f) }

// rollback also frees the connection when the caller's time is over. When it
// fails the connection is broken: the pool drops it, and the server rolls back
// by itself.
func (tx *postgresTx) rollback() {
	if tx.conn.IsClosed() || tx.conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), 5*time.Second)
	defer cancel()
	if _, err := tx.conn.Exec(ctx, "rollback"); err != nil {
		tx.conn.Close(ctx)
	}
}

func (tx *postgresTx) closeRows() {
	if tx.rows != nil {
		tx.rows.Close()
	}
}

func (tx *postgresTx) ready(args []any) error {
	if tx.failed != nil {
		return fmt.Errorf("store: the transaction failed before: %w", tx.failed)
	}
	if tx.rows != nil && !tx.rows.over {
		tx.failed = errors.New("store: a statement before the rows of the last one were closed")
		return tx.failed
	}
	for i, a := range args {
		p, err := plain(a, true)
		if err != nil {
			tx.failed = err
			return err
		}
		args[i] = p
	}
	return nil
}

func (tx *postgresTx) ExecArgs(sql string, args *Args) (int64, error) {
	return tx.Exec(sql, args.boxed()...)
}

func (tx *postgresTx) Exec(sql string, args ...any) (int64, error) {
	if err := tx.ready(args); err != nil {
		return 0, err
	}
	var tag pgconn.CommandTag
	var err error
	if first := tx.first(sql, args); first != nil {
		if _, err = first.Exec(); err == nil {
			tag, err = first.Exec()
		}
		if e := first.Close(); err == nil {
			err = e
		}
	} else {
		tag, err = tx.conn.Exec(tx.ctx, sql, args...)
	}
	if err != nil {
		tx.failed = duplicate(err)
		return 0, tx.failed
	}
	return tag.RowsAffected(), nil
}

// first sends begin together with the first statement; nil for the others.
// Its results are that of begin and that of the statement.
func (tx *postgresTx) first(sql string, args []any) pgx.BatchResults {
	if tx.begin == "" {
		return nil
	}
	var b pgx.Batch
	b.Queue(tx.begin)
	b.Queue(sql, args...)
	tx.begin = ""
	return tx.conn.SendBatch(tx.ctx, &b)
}

func (tx *postgresTx) Query(sql string, args ...any) (*Rows, error) {
	if err := tx.ready(args); err != nil {
		return nil, err
	}
	var rows pgx.Rows
	var err error
	first := tx.first(sql, args)
	if first != nil {
		if _, err = first.Exec(); err == nil {
			rows, err = first.Query()
		}
		if err != nil {
			err = errors.Join(err, first.Close())
		}
	} else {
		rows, err = tx.conn.Query(tx.ctx, sql, args...)
	}
	if err != nil {
		tx.failed = duplicate(err)
		return nil, tx.failed
	}
	tx.rows = &Rows{from: &postgresCursor{tx, rows, first}}
	return tx.rows, nil
}

func (tx *postgresTx) QueryRow(sql string, args ...any) Row {
	rows, err := tx.Query(sql, args...)
	return Row{rows, err}
}

type postgresCursor struct {
	tx    *postgresTx
	rows  pgx.Rows
	first pgx.BatchResults // what rows came with, or nil
}

func (c *postgresCursor) next() (bool, error) {
	if c.rows.Next() {
		return true, nil
	}
	return false, c.fail(c.rows.Err())
}

func (c *postgresCursor) fail(err error) error {
	if err != nil {
		err = duplicate(err)
		if c.tx.failed == nil {
			c.tx.failed = err
		}
	}
	return err
}

func (c *postgresCursor) close() error {
	c.rows.Close()
	err := c.rows.Err()
	if c.first != nil {
		if e := c.first.Close(); err == nil {
			err = e
		}
	}
	return c.fail(err)
}

func (c *postgresCursor) scan(dest []any) error {
	if n := len(c.rows.FieldDescriptions()); n != len(dest) {
		return fmt.Errorf("store: Scan into %d variables: the row has %d columns", len(dest), n)
	}
	values, err := c.rows.Values()
	if err != nil {
		return err
	}
	for i, v := range values {
		switch n := v.(type) {
		case int32:
			v = int64(n)
		case int16:
			v = int64(n)
		case bool:
			v = int64(0)
			if n {
				v = int64(1)
			}
		}
		if err := fill(dest[i], v); err != nil {
			return fmt.Errorf("%w (column %d)", err, i+1)
		}
	}
	return nil
}

func (d *postgresDB) attach(q gatherer) {
	bell := make(chan struct{}, 1)
	ring := func() {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
	q.connect(ring)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		q.shut(ErrClosed)
		return
	}
	d.queues = append(d.queues, q)
	for range writersPerQueue {
		d.writers.Add(1)
		go d.writer(q, bell)
	}
}

// writer serves one queue until the database closes.
func (d *postgresDB) writer(q gatherer, bell <-chan struct{}) {
	defer d.writers.Done()
	for {
		select {
		case <-bell:
			if g := q.take(); g != nil {
				d.carry(g)
			}
		case <-d.quit:
			for g := q.take(); g != nil; g = q.take() {
				d.carry(g)
			}
			return
		}
	}
}

// carry writes a group in one transaction, or, when that fails, one member
// after the other.
func (d *postgresDB) carry(g group) {
	d.m.size.WithLabelValues(g.label()).Observe(float64(g.size()))
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	err := d.transact(ctx, g.apply)
	if err == nil || g.size() == 1 || !oneByOne(err) || ctx.Err() != nil {
		for i := range g.size() {
			g.finish(i, err)
		}
		return
	}
	for i := range g.size() {
		g.finish(i, d.transact(ctx, func(tx Tx) error { return g.applyOne(tx, i) }))
	}
}

// oneByOne tells a fault of one member, which its neighbours need not share,
// from one of the database.
func oneByOne(err error) bool {
	var said *pgconn.PgError
	var died *panicked
	switch {
	case errors.Is(err, ErrInDoubt), errors.Is(err, errLost), errors.Is(err, ErrClosed):
		return false
	case errors.As(err, &said), errors.As(err, &died):
		return true
	default:
		var net interface{ Timeout() bool }
		return !errors.As(err, &net)
	}
}

// close lets what waits be written, then closes the pool.
func (d *postgresDB) close() error {
	d.closed.Do(func() {
		d.mu.Lock()
		d.closing = true
		queues := d.queues
		d.mu.Unlock()
		close(d.quit)
		d.writers.Wait()
		for _, q := range queues {
			q.shut(ErrClosed)
		}
		d.pool.Close()
	})
	return nil
}

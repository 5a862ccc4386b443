// Package store opens the one database, SQLite or PostgreSQL, migrates it and
// writes to it in groups.
//
// Both engines speak the same plain SQL: $1 placeholders, columns of BIGINT,
// INTEGER, TEXT and BYTEA, no serials. Times are BIGINT microseconds since
// 1970, dates INTEGER yyyymmdd, money BIGINT fen, ids come from NewID.
//
// A write that returned nil is on the disk (write rules W1 and W2 of
// docs/ARCHITECTURE.md). A write that returned ErrInDoubt may be: an error
// from COMMIT is not a "no". Every other error means nothing was written.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

var (
	// ErrInDoubt says that nobody knows whether the write is durable: COMMIT
	// failed, its answer was lost, or the caller stopped waiting for it. Read
	// it back before deciding anything (W4).
	ErrInDoubt = errors.New("store: the fate of the write is unknown")
	// ErrBusy says that a queue is full; nothing was written. Refuse the
	// transaction, do not wait.
	ErrBusy = errors.New("store: too many writes are waiting")
	// ErrClosed says that the store is closed; nothing was written.
	ErrClosed = errors.New("store: closed")
	// ErrFailed says that the disk broke its promise (a failed fsync): the
	// store writes no more and the process should stop and start again.
	ErrFailed = errors.New("store: stopped after a failed write to disk")
	// ErrInUse says that another process owns the embedded database.
	ErrInUse = errors.New("store: another process has the database")
	// ErrNotFound is what Row.Scan returns when there is no row.
	ErrNotFound = errors.New("store: not found")
	// ErrDuplicate says that a unique key exists already.
	ErrDuplicate = errors.New("store: duplicate key")
)

// Schema is the tables of one domain package. Steps are numbered by their
// place; a released step is never edited, a change is a new step at the end.
// A step may hold several statements separated by semicolons.
type Schema struct {
	Name  string
	Steps []string
}

// Tx is one transaction. Statements after a failed one fail too, and the
// transaction is then rolled back whatever its function returns. Rows must be
// read to the end or closed before the next statement.
type Tx interface {
	// Exec runs one statement and returns the number of rows it changed.
	// Arguments are integers, booleans (stored as 0 and 1), strings, byte
	// slices and arrays, types made of those, nil; on PostgreSQL also slices,
	// for unnest and = any($1).
	Exec(sql string, args ...any) (int64, error)
	// ExecArgs is Exec without an allocation for its arguments.
	ExecArgs(sql string, args *Args) (int64, error)
	Query(sql string, args ...any) (*Rows, error)
	QueryRow(sql string, args ...any) Row
	// Postgres tells set-wise statements (unnest, row locks) from loops. The
	// words FOR UPDATE [SKIP LOCKED] need no such question: SQLite has one
	// writer, so they are left out there.
	Postgres() bool
	// After registers f to be told, exactly once and before any waiting
	// caller, what became of what this transaction did so far: nil when it is
	// durable, ErrInDoubt when nobody knows, another error when it was rolled
	// back. It is for state in memory that shadows the tables.
	After(f func(fate error))
}

// DB is an open database. Its methods may be called from any goroutine. It is
// also a prometheus.Collector (acquirer_store_*).
type DB struct {
	engine engine
	meters *meters
	keeper *keeper

	closing  sync.Once
	closeErr error
}

// engine is what SQLite and PostgreSQL do differently.
type engine interface {
	write(ctx context.Context, f func(Tx) error) error
	read(ctx context.Context, f func(Tx) error) error
	attach(q gatherer)
	postgres() bool
	failed() <-chan struct{}
	close() error
}

// Open opens url and brings every schema up to date, each step in its own
// transaction. It refuses a database that is newer than the binary and a
// released step that was edited since.
//
//	sqlite:/var/lib/acquirer/acquirer.db      one process owns the file
//	postgres://user@host/db?sslmode=...       several nodes may share it
func Open(ctx context.Context, url string, schemas ...Schema) (*DB, error) {
	m := newMeters()
	var e engine
	var err error
	switch {
	case strings.HasPrefix(url, "sqlite:"):
		e, err = openSQLite(ctx, strings.TrimPrefix(strings.TrimPrefix(url, "sqlite:"), "//"), m)
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		e, err = openPostgres(ctx, url, m)
	default:
		// The value is not repeated: it may hold a password.
		return nil, errors.New("store: the url must begin with sqlite: or postgres://")
	}
	if err != nil {
		return nil, err
	}
	db := &DB{engine: e, meters: m}
	if err := db.migrate(ctx, schemas); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if db.keeper, err = keepIDs(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Postgres reports which engine this is.
func (db *DB) Postgres() bool { return db.engine.postgres() }

// Failed is closed when the store has stopped for good after a failed write
// to disk. The process should stop: a restart reads what is really there.
func (db *DB) Failed() <-chan struct{} { return db.engine.failed() }

// Close waits for writes in progress, refuses new ones and closes the
// database. It may be called twice.
func (db *DB) Close() error {
	db.closing.Do(func() {
		if db.keeper != nil {
			db.keeper.stop()
		}
		db.closeErr = db.engine.close()
	})
	return db.closeErr
}

// Write runs f in a transaction and returns after it is durable. When f fails
// everything it did is undone and its error returned. f may run more than
// once (after 40001, 40P01 or 23505, or when a neighbour's failure undid the group):
// its side effects belong after Write. On SQLite f runs in the one writer's
// goroutine, so f must be quick and must not call Write or Do; when ctx ends,
// a waiting f is withdrawn, while one that runs is waited for.
func (db *DB) Write(ctx context.Context, f func(Tx) error) error {
	return db.engine.write(ctx, f)
}

// Read runs f in a read-only transaction that sees one moment of the
// database.
func (db *DB) Read(ctx context.Context, f func(Tx) error) error {
	return db.engine.read(ctx, f)
}

// ReadLong is Read for what looks at everything there ever was: its statements
// may take as long as they need. On PostgreSQL those of Read have ten seconds,
// which are over before a ledger of a few million transfers is read.
func (db *DB) ReadLong(ctx context.Context, f func(Tx) error) error {
	return db.Read(ctx, func(tx Tx) error {
		if tx.Postgres() {
			if _, err := tx.Exec("set local statement_timeout = 0"); err != nil {
				return err
			}
		}
		return f(tx)
	})
}

// inDoubt wraps what COMMIT said.
func inDoubt(err error) error { return fmt.Errorf("%w: %w", ErrInDoubt, err) }

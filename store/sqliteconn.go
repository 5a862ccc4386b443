package store

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The pure Go SQLite is used below its database/sql driver: one goroutine
// owns a connection, so its mutex is left out, statements stay prepared, and
// arguments are copied into one buffer per statement instead of one
// allocation per value.

// sqliteConn is one connection, for one goroutine at a time.
type sqliteConn struct {
	tls   *libc.TLS
	db    uintptr
	stmts map[string]*sqliteStmt
}

// sqliteStmt is a prepared statement with the buffer its text and blob
// arguments live in while it runs.
type sqliteStmt struct {
	c      *sqliteConn
	p      uintptr
	params int
	buf    uintptr
	size   int
}

// sqliteError is a result code with its message. Messages of SQLite name
// tables and columns, never values.
type sqliteError struct {
	code int32 // extended
	text string
}

func (e *sqliteError) Error() string { return fmt.Sprintf("sqlite: %s (%d)", e.text, e.code) }

func (e *sqliteError) Is(target error) bool {
	return target == ErrDuplicate && (e.code == sqlite3.SQLITE_CONSTRAINT_UNIQUE ||
		e.code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || e.code == sqlite3.SQLITE_CONSTRAINT_ROWID)
}

// mem turns an address of SQLite's own memory, which Go's collector neither
// moves nor frees, into a pointer.
func mem(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

const pointerSize = types.Size_t(unsafe.Sizeof(uintptr(0)))

func openSQLiteConn(path string) (*sqliteConn, error) {
	// Locks of the open file, so that a stray close of another descriptor in
	// this process does not drop them (fault 39). Where the system has none,
	// the ownership lock of openSQLite still keeps other processes out.
	if _, err := sqlite.OFDLocking(true); err != nil && !errors.Is(err, sqlite.ErrOFDLockingUnavailable) {
		return nil, fmt.Errorf("store: %w", err)
	}
	c := &sqliteConn{tls: libc.NewTLS(), stmts: map[string]*sqliteStmt{}}
	name, err := libc.CString(path)
	if err != nil {
		c.tls.Close()
		return nil, err
	}
	defer libc.Xfree(c.tls, name)
	out := libc.Xcalloc(c.tls, 1, pointerSize)
	defer libc.Xfree(c.tls, out)
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, out,
		sqlite3.SQLITE_OPEN_READWRITE|sqlite3.SQLITE_OPEN_CREATE|sqlite3.SQLITE_OPEN_NOMUTEX|sqlite3.SQLITE_OPEN_EXRESCODE, 0)
	c.db = *(*uintptr)(mem(out))
	if rc == sqlite3.SQLITE_OK {
		rc = c.configure(sqlite3.SQLITE_DBCONFIG_DEFENSIVE)
	}
	if rc == sqlite3.SQLITE_OK {
		rc = sqlite3.Xsqlite3_busy_timeout(c.tls, c.db, 5000)
	}
	if rc != sqlite3.SQLITE_OK {
		err := c.error(rc)
		c.close()
		return nil, err
	}
	return c, nil
}

// configure switches one of SQLite's SQLITE_DBCONFIG_* on.
func (c *sqliteConn) configure(what int32) int32 {
	va := libc.NewVaList(int32(1), uintptr(0))
	defer libc.Xfree(c.tls, va)
	return sqlite3.Xsqlite3_db_config(c.tls, c.db, what, va)
}

// keepLog lets close leave the log as it is. After a failed write it is the
// only thing to trust, and the next process reads it anew.
func (c *sqliteConn) keepLog() error {
	if rc := c.configure(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE); rc != sqlite3.SQLITE_OK {
		return c.error(rc)
	}
	return nil
}

// error describes rc, which the last call on c returned.
func (c *sqliteConn) error(rc int32) error {
	text := libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 && sqlite3.Xsqlite3_extended_errcode(c.tls, c.db) == rc {
		if m := libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db)); m != text {
			text += ": " + m
		}
	}
	return &sqliteError{rc, text}
}

func (c *sqliteConn) close() error {
	for _, s := range c.stmts {
		s.finalize()
	}
	c.stmts = nil
	rc := int32(sqlite3.SQLITE_OK)
	if c.db != 0 {
		rc = sqlite3.Xsqlite3_close_v2(c.tls, c.db)
		c.db = 0
	}
	c.tls.Close()
	if rc != sqlite3.SQLITE_OK {
		return &sqliteError{rc, "closing the database"}
	}
	return nil
}

// interrupt stops the statement that runs on c. It may be called from another
// goroutine, with a thread state of its own.
func (c *sqliteConn) interrupt() {
	tls := libc.NewTLS()
	sqlite3.Xsqlite3_interrupt(tls, c.db)
	tls.Close()
}

// inTransaction tells whether a transaction is open: some errors roll it back
// by themselves.
func (c *sqliteConn) inTransaction() bool {
	return sqlite3.Xsqlite3_get_autocommit(c.tls, c.db) == 0
}

// statementLimit bounds the prepared statements of a connection: SQL text made
// up per call would otherwise grow them without end.
const statementLimit = 512

// prepare returns the statement for sql, prepared once per connection.
func (c *sqliteConn) prepare(sql string) (*sqliteStmt, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	if len(c.stmts) >= statementLimit {
		for k, s := range c.stmts {
			s.finalize()
			delete(c.stmts, k)
		}
	}
	text, err := libc.CString(forSQLite(sql))
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, text)
	out := libc.Xcalloc(c.tls, 2, pointerSize)
	defer libc.Xfree(c.tls, out)
	tail := out + uintptr(pointerSize)
	const persistent = 1 // SQLITE_PREPARE_PERSISTENT
	if rc := sqlite3.Xsqlite3_prepare_v3(c.tls, c.db, text, -1, persistent, out, tail); rc != sqlite3.SQLITE_OK {
		return nil, c.error(rc)
	}
	p := *(*uintptr)(mem(out))
	rest := libc.GoString(*(*uintptr)(mem(tail)))
	if p == 0 || strings.TrimSpace(rest) != "" {
		if p != 0 {
			sqlite3.Xsqlite3_finalize(c.tls, p)
		}
		return nil, errors.New("store: want exactly one statement")
	}
	s := &sqliteStmt{c: c, p: p, params: int(sqlite3.Xsqlite3_bind_parameter_count(c.tls, p))}
	c.stmts[sql] = s
	return s, nil
}

func (s *sqliteStmt) finalize() {
	sqlite3.Xsqlite3_finalize(s.c.tls, s.p)
	if s.buf != 0 {
		libc.Xfree(s.c.tls, s.buf)
	}
}

// bind sets all parameters. Text and blobs are copied into the statement's
// buffer and stay there until the next bind.
func (s *sqliteStmt) bind(args []any) error {
	if len(args) != s.params {
		return fmt.Errorf("store: the statement has %d parameters, got %d", s.params, len(args))
	}
	need := 1
	for i, a := range args {
		switch v := a.(type) {
		case int64, nil:
		case string:
			need += len(v)
		case []byte:
			need += len(v)
		default:
			p, err := plain(a, false)
			if err != nil {
				return err
			}
			args[i] = p
			switch v := p.(type) {
			case string:
				need += len(v)
			case []byte:
				need += len(v)
			}
		}
	}
	if err := s.reserve(need); err != nil {
		return err
	}
	tls, used := s.c.tls, 0
	room := unsafe.Slice((*byte)(mem(s.buf)), s.size)
	for i, a := range args {
		rc, n := int32(0), int32(i+1)
		switch v := a.(type) {
		case int64:
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.p, n, v)
		case string:
			rc = sqlite3.Xsqlite3_bind_text(tls, s.p, n, s.buf+uintptr(used), int32(len(v)), 0)
			used += copy(room[used:], v)
		case []byte:
			if v == nil {
				rc = sqlite3.Xsqlite3_bind_null(tls, s.p, n)
				break
			}
			rc = sqlite3.Xsqlite3_bind_blob(tls, s.p, n, s.buf+uintptr(used), int32(len(v)), 0)
			used += copy(room[used:], v)
		case nil:
			rc = sqlite3.Xsqlite3_bind_null(tls, s.p, n)
		}
		if rc != sqlite3.SQLITE_OK {
			return s.c.error(rc)
		}
	}
	return nil
}

// bindArgs is bind without boxes.
func (s *sqliteStmt) bindArgs(args []arg) error {
	if len(args) != s.params {
		return fmt.Errorf("store: the statement has %d parameters, got %d", s.params, len(args))
	}
	need := 1
	for i := range args {
		need += len(args[i].text) + len(args[i].bytes)
	}
	if err := s.reserve(need); err != nil {
		return err
	}
	tls, used := s.c.tls, 0
	room := unsafe.Slice((*byte)(mem(s.buf)), s.size)
	for i := range args {
		rc, n, a := int32(0), int32(i+1), &args[i]
		switch {
		case a.kind == argInt:
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.p, n, a.num)
		case a.kind == argText:
			rc = sqlite3.Xsqlite3_bind_text(tls, s.p, n, s.buf+uintptr(used), int32(len(a.text)), 0)
			used += copy(room[used:], a.text)
		case a.bytes == nil:
			rc = sqlite3.Xsqlite3_bind_null(tls, s.p, n)
		default:
			rc = sqlite3.Xsqlite3_bind_blob(tls, s.p, n, s.buf+uintptr(used), int32(len(a.bytes)), 0)
			used += copy(room[used:], a.bytes)
		}
		if rc != sqlite3.SQLITE_OK {
			return s.c.error(rc)
		}
	}
	return nil
}

func (s *sqliteStmt) reserve(need int) error {
	if need <= s.size {
		return nil
	}
	size := 256
	for size < need {
		size *= 2
	}
	p := libc.Xmalloc(s.c.tls, types.Size_t(size))
	if p == 0 {
		return errors.New("store: out of memory")
	}
	if s.buf != 0 {
		libc.Xfree(s.c.tls, s.buf)
	}
	s.buf, s.size = p, size
	return nil
}

// step moves to the next row and reports whether there is one.
func (s *sqliteStmt) step() (bool, error) {
	switch rc := sqlite3.Xsqlite3_step(s.c.tls, s.p); rc {
	case sqlite3.SQLITE_ROW:
		return true, nil
	case sqlite3.SQLITE_DONE:
		return false, nil
	default:
		return false, s.c.error(rc)
	}
}

// reset makes the statement ready to run again. Its result repeats the error
// that step gave already.
func (s *sqliteStmt) reset() { sqlite3.Xsqlite3_reset(s.c.tls, s.p) }

// exec runs the bound statement to its end and returns the number of rows
// changed.
func (s *sqliteStmt) exec() (int64, error) {
	defer s.reset()
	for {
		more, err := s.step()
		if err != nil {
			return 0, err
		}
		if !more {
			return sqlite3.Xsqlite3_changes64(s.c.tls, s.c.db), nil
		}
	}
}

// run executes a statement without arguments, such as begin or a pragma.
func (c *sqliteConn) run(sql string) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	_, err = s.exec()
	return err
}

// pragma runs sql and returns the first column of its first row.
func (c *sqliteConn) pragma(sql string) (any, error) {
	s, err := c.prepare(sql)
	if err != nil {
		return nil, err
	}
	defer s.reset()
	more, err := s.step()
	if err != nil || !more {
		return nil, err
	}
	return s.column(0), nil
}

// checkpoint copies what it can from the log into the database file without
// waiting for anybody.
func (c *sqliteConn) checkpoint() error {
	_, err := c.pragma("pragma wal_checkpoint(passive)")
	return err
}

// pagesWritten is how many pages this connection has written so far.
func (c *sqliteConn) pagesWritten() int64 {
	const cacheWrite = 9 // SQLITE_DBSTATUS_CACHE_WRITE
	room := libc.Xcalloc(c.tls, 2, 8)
	defer libc.Xfree(c.tls, room)
	if rc := sqlite3.Xsqlite3_db_status(c.tls, c.db, cacheWrite, room, room+8, 0); rc != sqlite3.SQLITE_OK {
		return 0
	}
	return int64(*(*uint32)(mem(room)))
}

func (s *sqliteStmt) column(i int) any {
	tls, n := s.c.tls, int32(i)
	switch sqlite3.Xsqlite3_column_type(tls, s.p, n) {
	case sqlite3.SQLITE_INTEGER:
		return sqlite3.Xsqlite3_column_int64(tls, s.p, n)
	case sqlite3.SQLITE_TEXT:
		return string(s.bytes(sqlite3.Xsqlite3_column_text(tls, s.p, n), n))
	case sqlite3.SQLITE_BLOB:
		return append([]byte{}, s.bytes(sqlite3.Xsqlite3_column_blob(tls, s.p, n), n)...)
	case sqlite3.SQLITE_NULL:
		return nil
	default:
		return fmt.Errorf("store: column %d is a float", i)
	}
}

// bytes are the bytes of a column, valid until the next step.
func (s *sqliteStmt) bytes(p uintptr, i int32) []byte {
	n := sqlite3.Xsqlite3_column_bytes(s.c.tls, s.p, i)
	if p == 0 || n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(mem(p)), int(n))
}

// The two halves of cursor.

type sqliteCursor struct{ s *sqliteStmt }

func (c sqliteCursor) next() (bool, error) { return c.s.step() }
func (c sqliteCursor) close() error        { c.s.reset(); return nil }

func (c sqliteCursor) scan(dest []any) error {
	s := c.s
	if n := int(sqlite3.Xsqlite3_column_count(s.c.tls, s.p)); n != len(dest) {
		return fmt.Errorf("store: Scan into %d variables: the row has %d columns", len(dest), n)
	}
	for i, d := range dest {
		if p, ok := d.(*int64); ok && sqlite3.Xsqlite3_column_type(s.c.tls, s.p, int32(i)) == sqlite3.SQLITE_INTEGER {
			*p = sqlite3.Xsqlite3_column_int64(s.c.tls, s.p, int32(i))
			continue
		}
		v := s.column(i)
		if err, bad := v.(error); bad {
			return err
		}
		if err := fill(d, v); err != nil {
			return fmt.Errorf("%w (column %d)", err, i+1)
		}
	}
	return nil
}

// forSQLite turns the shared SQL into SQLite's: $1 becomes ?1, which binds by
// its number; BIGINT PRIMARY KEY becomes the row's own key; BYTEA is BLOB;
// row locks vanish, since the one writer is alone.
func forSQLite(sql string) string {
	var b strings.Builder
	for i := 0; i < len(sql); {
		switch c := sql[i]; {
		case c == '\'' || c == '"':
			j := i + 1
			for j < len(sql) && sql[j] != c {
				j++
			}
			j = min(j+1, len(sql))
			b.WriteString(sql[i:j])
			i = j
		case c == '$' && i+1 < len(sql) && sql[i+1] >= '0' && sql[i+1] <= '9':
			b.WriteByte('?')
			i++
		case isWord(c):
			j := i
			for j < len(sql) && isWord(sql[j]) {
				j++
			}
			switch word := sql[i:j]; {
			case strings.EqualFold(word, "bytea"):
				b.WriteString("BLOB")
			case strings.EqualFold(word, "bigint"):
				b.WriteString("INTEGER")
			case strings.EqualFold(word, "for") && skipWords(sql[j:], "update", "skip", "locked") > 0:
				j += skipWords(sql[j:], "update", "skip", "locked")
			case strings.EqualFold(word, "for") && skipWords(sql[j:], "update") > 0:
				j += skipWords(sql[j:], "update")
			default:
				b.WriteString(word)
			}
			i = j
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// skipWords returns how much of s the given words take, 0 when they are not
// what follows.
func skipWords(s string, words ...string) int {
	at := 0
	for _, w := range words {
		i := at
		for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t') {
			i++
		}
		j := i
		for j < len(s) && isWord(s[j]) {
			j++
		}
		if !strings.EqualFold(s[i:j], w) {
			return 0
		}
		at = j
	}
	return at
}

package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Rows are the rows of a query. Next, Scan, and Err at the end; Close is only
// needed when the rows are not read to the end.
type Rows struct {
	from cursor
	err  error
	over bool
}

// cursor is an engine's side of Rows.
type cursor interface {
	next() (bool, error)
	scan(dest []any) error
	close() error
}

// Next moves to the next row and reports whether there is one.
func (r *Rows) Next() bool {
	if r.over {
		return false
	}
	more, err := r.from.next()
	if err != nil {
		r.err = err
	}
	if !more || err != nil {
		r.Close()
	}
	return !r.over
}

// Scan reads the row into dest: pointers to integers, bool, string, []byte,
// byte arrays, types made of those, pointers to such pointers where NULL may
// occur, or *any for int64, string, []byte or nil as it stands. A value that does not fit is an error.
func (r *Rows) Scan(dest ...any) error {
	if r.over {
		return errors.New("store: Scan without a row")
	}
	return r.from.scan(dest)
}

// Err is the error that ended the rows early, if any.
func (r *Rows) Err() error { return r.err }

// Close ends the reading. It may be called at any time.
func (r *Rows) Close() error {
	if r.over {
		return r.err
	}
	r.over = true
	if err := r.from.close(); err != nil && r.err == nil {
		r.err = err
	}
	return r.err
}

// Row is the one row a query is expected to give.
type Row struct {
	rows *Rows
	err  error
}

// Scan reads the row as Rows.Scan does; ErrNotFound when there is none.
func (r Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return ErrNotFound
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	return r.rows.Close()
}

// All reads the rows of a query into a slice, each by scan.
func All[T any](rows *Rows, err error, scan func(*Rows, *T) error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// Args are the arguments of one statement, for paths where the boxes of
// ...any would be felt. The zero Args is empty and ready; Reset makes it so
// again and keeps its memory.
type Args struct {
	list   []arg
	summed []byte // what Checksum reads
}

type arg struct {
	kind  uint8
	num   int64
	text  string
	bytes []byte
}

const (
	argInt uint8 = iota
	argText
	argBytes
)

// Reset empties a and returns it.
func (a *Args) Reset() *Args {
	if a.list == nil {
		a.list = make([]arg, 0, 32) // the widest table of the hot path
	}
	a.list = a.list[:0]
	return a
}

// Int appends an integer.
func (a *Args) Int(v int64) *Args {
	a.list = append(a.list, arg{kind: argInt, num: v})
	return a
}

// Text appends a string.
func (a *Args) Text(v string) *Args {
	a.list = append(a.list, arg{kind: argText, text: v})
	return a
}

// Bytes appends bytes, NULL when v is nil. They are read when the statement
// runs.
func (a *Args) Bytes(v []byte) *Args {
	a.list = append(a.list, arg{kind: argBytes, bytes: v})
	return a
}

// boxed is a as ordinary arguments.
func (a *Args) boxed() []any {
	all := make([]any, len(a.list))
	for i := range a.list {
		switch v := &a.list[i]; v.kind {
		case argInt:
			all[i] = v.num
		case argText:
			all[i] = v.text
		case argBytes:
			all[i] = v.bytes
		}
	}
	return all
}

// plain brings an argument to int64, string, []byte or nil; slices other than
// bytes pass untouched when sets are allowed.
func plain(arg any, sets bool) (any, error) {
	switch v := arg.(type) {
	case nil, int64, string, []byte:
		return v, nil
	case int:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case time.Time:
		return nil, errors.New("store: times are stored as UnixMicro")
	case driver.Valuer:
		return nil, fmt.Errorf("store: an argument of type %T: pass a plain value", arg)
	}
	v := reflect.ValueOf(arg)
	switch v.Kind() {
	case reflect.Bool:
		return plain(v.Bool(), sets)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return int64(v.Uint()), nil
	case reflect.String:
		return v.String(), nil
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(b), v)
			return b, nil
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.IsNil() {
				return nil, nil
			}
			return v.Bytes(), nil
		}
		if sets {
			return arg, nil
		}
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return plain(v.Elem().Interface(), sets)
	}
	return nil, fmt.Errorf("store: an argument of type %T: use integers, strings or bytes", arg)
}

// fill puts a value (int64, string, []byte or nil) into the variable that
// dest points to.
func fill(dest, value any) error {
	switch d := dest.(type) {
	case *any:
		*d = value
		return nil
	case *int64:
		if v, ok := value.(int64); ok {
			*d = v
			return nil
		}
	case *string:
		if v, ok := value.(string); ok {
			*d = v
			return nil
		}
	case *[]byte:
		switch v := value.(type) {
		case []byte:
			*d = v
			return nil
		case nil:
			*d = nil
			return nil
		}
	}
	d := reflect.ValueOf(dest)
	if d.Kind() != reflect.Pointer || d.IsNil() {
		return fmt.Errorf("store: Scan into %T: want a pointer", dest)
	}
	d = d.Elem()
	if d.Kind() == reflect.Pointer {
		if value == nil {
			d.SetZero()
			return nil
		}
		p := reflect.New(d.Type().Elem())
		if err := fill(p.Interface(), value); err != nil {
			return err
		}
		d.Set(p)
		return nil
	}
	switch v := value.(type) {
	case int64:
		switch d.Kind() {
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			if !d.OverflowInt(v) {
				d.SetInt(v)
				return nil
			}
		case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			if v >= 0 && !d.OverflowUint(uint64(v)) {
				d.SetUint(uint64(v))
				return nil
			}
		case reflect.Bool:
			if v == 0 || v == 1 {
				d.SetBool(v == 1)
				return nil
			}
		}
	case string:
		if d.Kind() == reflect.String {
			d.SetString(v)
			return nil
		}
	case []byte:
		switch {
		case d.Kind() == reflect.Slice && d.Type().Elem().Kind() == reflect.Uint8:
			d.SetBytes(v)
			return nil
		case d.Kind() == reflect.Array && d.Type().Elem().Kind() == reflect.Uint8 && d.Len() == len(v):
			reflect.Copy(d, reflect.ValueOf(v))
			return nil
		}
	case nil:
		if d.Kind() == reflect.Slice {
			d.SetZero()
			return nil
		}
	}
	return fmt.Errorf("store: Scan of a %T into %T: it does not fit", value, dest)
}

package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"time"
)

// A row that is written once carries a checksum of its columns, computed from
// what was meant and written by the same insert. Reading it back finds what a
// disk, memory or a hand has changed since and no engine notices: values that
// are well formed and wrong. It is CRC-32C, which misses no change within four
// bytes in a row and one in four thousand million of the others, and costs
// nothing that can be measured. It is no protection against somebody who
// computes it anew.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is that of the values of a row, in the order of their columns, but
// for empty texts at the end: a column of text that is added later is empty in
// the rows before it, and leaves their checksums as they are. The
// values are those that Exec takes; it panics for others, which no engine could
// have stored.
func Checksum(values ...any) int32 {
	for len(values) > 0 && values[len(values)-1] == "" {
		values = values[:len(values)-1]
	}
	return sum(encodeValues(make([]byte, 0, 512), values))
}

// encodeValues appends values, each in a way that none can be taken for another.
func encodeValues(b []byte, values []any) []byte {
	for _, v := range values {
		p, err := plain(v, false)
		if err != nil {
			panic(err)
		}
		switch v := p.(type) {
		case nil:
			b = append(b, 'n')
		case int64:
			b = sumInt(b, v)
		case string:
			b = append(sumLength(b, 't', len(v)), v...)
		case []byte:
			b = append(sumLength(b, 'b', len(v)), v...)
		}
	}
	return b
}

// Checksum is that of the arguments so far, in the order of their columns, as
// the function Checksum has it.
func (a *Args) Checksum() int32 {
	if a.summed == nil {
		a.summed = make([]byte, 0, 1024) // a transaction has some 600
	}
	n := len(a.list)
	for n > 0 && a.list[n-1].kind == argText && a.list[n-1].text == "" {
		n--
	}
	b := a.summed[:0]
	for i := range n {
		switch v := &a.list[i]; {
		case v.kind == argInt:
			b = sumInt(b, v.num)
		case v.kind == argText:
			b = append(sumLength(b, 't', len(v.text)), v.text...)
		case v.bytes == nil:
			b = append(b, 'n')
		default:
			b = append(sumLength(b, 'b', len(v.bytes)), v.bytes...)
		}
	}
	a.summed = b
	return sum(b)
}

// Kind and length stand before each value, so that nothing can move from one
// column to its neighbour unseen.
func sumInt(b []byte, v int64) []byte {
	return binary.LittleEndian.AppendUint64(append(b, 'i'), uint64(v))
}

func sumLength(b []byte, kind byte, n int) []byte {
	return binary.AppendUvarint(append(b, kind), uint64(n))
}

// sum fits the INTEGER of both engines.
func sum(b []byte) int32 { return int32(crc32.Checksum(b, castagnoli)) }

// Summed is a table whose rows carry a checksum.
type Summed struct {
	Table string
	// Columns are those that never change, in the order of their checksum. The
	// first is the key, an id of NewID.
	Columns string
	Sum     string // the column of the checksum; NULL in rows that are older than it, and in no others
	Date    string // SQL for a row's business date, 0 where it has none
}

// RowReport is what a check of rows found.
type RowReport struct {
	Rows     int      // read back and compared
	Without  int      // rows without a checksum because they are older than it
	Found    int      // rows that are not what was written
	Problems []string // the first hundred of them, in words
}

func (r *RowReport) problem(format string, args ...any) {
	if r.Found++; r.Found <= 100 {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// rowPage is how many rows one transaction reads back.
const rowPage = 2000

// CheckRows reads every row of tables back and compares it with its checksum.
// After each page of rows it rests for as long as rest says of the time the page
// took, so that others have the machine; nil never rests.
func (db *DB) CheckRows(ctx context.Context, tables []Summed, rest func(took time.Duration) time.Duration) (*RowReport, error) {
	r := &RowReport{}
	for _, s := range tables {
		sealed := false // rows have a checksum from here on
		for after, more := int64(math.MinInt64), true; more; {
			began := time.Now()
			var page RowReport
			var seen bool
			var last int64
			err := db.Read(ctx, func(tx Tx) (err error) {
				page, seen = *r, sealed
				last, more, err = page.compare(tx, s, after, &seen)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("store: checking the rows of %s behind %d: %w", s.Table, after, err)
			}
			*r, after, sealed = page, last, seen
			if rest == nil || !more {
				continue
			}
			if err := pause(ctx, rest(time.Since(began))); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// compare reads the page behind a row and says where it ended and whether it was
// full. seen is whether a row before had a checksum: those behind it have one too.
func (r *RowReport) compare(tx Tx, s Summed, after int64, seen *bool) (last int64, more bool, err error) {
	key, _, _ := strings.Cut(s.Columns, ",")
	rows, err := tx.Query(fmt.Sprintf("select %s, %s, %s from %s where %s > $1 order by %s limit %d", s.Columns, s.Sum, s.Date, s.Table, key, key, rowPage), after)
	if err != nil {
		return 0, false, err
	}
	defer rows.Close()
	n := strings.Count(s.Columns, ",") + 1
	values := make([]any, n+2)
	dest := make([]any, n+2)
	for i := range values {
		dest[i] = &values[i]
	}
	count := 0
	for last = after; rows.Next(); count++ {
		clear(values)
		err := rows.Scan(dest...)
		id, ok := values[0].(int64)
		if !ok {
			return 0, false, fmt.Errorf("a row behind %d cannot be read: %w", last, err)
		}
		last = id
		named := fmt.Sprintf("%s %d, business date %v, written %s", s.Table, id, values[n+1], IDTime(id).UTC().Format(time.RFC3339))
		switch want, sealed := values[n].(int64); {
		case err != nil:
			r.problem("%s: cannot be read: %v", named, err)
		case values[n] == nil && *seen:
			r.problem("%s: its checksum is gone", named)
		case values[n] == nil:
			r.Without++
			continue
		case !sealed || int64(Checksum(values[:n]...)) != want:
			r.problem("%s: it is not what was written", named)
		}
		*seen = true
		r.Rows++
	}
	return last, count == rowPage, rows.Err()
}

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"acquirer/fault"
)

// A checksum says that a row is what was written; it says nothing of a row that
// is gone, and neither do the books when everything that refers to it went too.
// So a while after rows were written a tally notes which there are: their keys,
// and the hash of what is in them, chained to the tally before. A row that is
// taken out leaves its key behind. Who writes the chain anew as well is caught by
// where it ended, when that was noted elsewhere.

// Tallied is a table whose rows are written once and never taken out.
type Tallied struct {
	Table string
	// Columns are hashed; they never change once a row is as old as a tally
	// (TallyAge). The first is the key, an id of NewID.
	Columns string
}

// TallyAge is how old rows are before they are counted: until then one with a
// smaller key may become visible.
const TallyAge = time.Minute

// Head is where a chain of hashes ends.
type Head struct {
	Seq  int64
	Hash [32]byte // of the last link
}

// String is what an operator writes down: SEQ:HASH.
func (h Head) String() string { return fmt.Sprintf("%d:%x", h.Seq, h.Hash) }

// ParseHead reads what String wrote.
func ParseHead(s string) (h Head, err error) {
	var hash string
	if _, err := fmt.Sscanf(s, "%d:%64s", &h.Seq, &hash); err == nil {
		if b, err := hex.DecodeString(hash); err == nil && copy(h.Hash[:], b) == 32 && h.String() == s {
			return h, nil
		}
	}
	return Head{}, fmt.Errorf("%q is not a head; write it as verify printed it, SEQ:HASH", s)
}

// tally is a row of store_tally: rows of a table behind after, up to upto.
type tally struct {
	seq         int64
	table       string
	after, upto int64
	rows        int64
	keys        []byte // each as what it is more than the one before, uvarint
	prev, hash  []byte
}

// sum is the tally's own hash, with what the rows are.
func (t *tally) sum(content [32]byte) [32]byte {
	b := append([]byte{}, t.prev...)
	for _, n := range []int64{t.seq, t.after, t.upto, t.rows, int64(len(t.table))} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return sha256.Sum256(append(append(append(b, t.table...), t.keys...), content[:]...))
}

// each calls do with every key; an error says that they are no keys.
func (t *tally) each(do func(key int64)) error {
	key, n := t.after, int64(0)
	for rest := t.keys; len(rest) > 0; n++ {
		more, size := binary.Uvarint(rest)
		if size <= 0 {
			return errors.New("its keys cannot be read")
		}
		key, rest = key+int64(more), rest[size:]
		do(key)
	}
	if n != t.rows {
		return fmt.Errorf("it has %d keys and says %d", n, t.rows)
	}
	return nil
}

// Tally notes the rows of tables that were written before a moment and are in
// no tally yet, and returns how many those are. Any node may call it, at any
// time; two at once note a row once. After each page it rests for as long as rest
// says of the time the page took; nil never rests.
func (db *DB) Tally(ctx context.Context, tables []Tallied, before time.Time, rest func(took time.Duration) time.Duration) (counted int, err error) {
	for _, x := range tables {
		for more := true; more; {
			began := time.Now()
			var n int
			if n, more, err = db.tallyPage(ctx, x, IDAt(before)); err != nil {
				return counted, fmt.Errorf("store: counting the rows of %s: %w", x.Table, err)
			}
			if counted += n; rest == nil || !more {
				continue
			}
			if err := pause(ctx, rest(time.Since(began))); err != nil {
				return counted, err
			}
		}
	}
	return counted, nil
}

// tallyPage counts the next rows of a table that are smaller than end.
func (db *DB) tallyPage(ctx context.Context, x Tallied, end int64) (counted int, more bool, err error) {
	t := tally{table: x.Table}
	var content [32]byte
	err = db.Read(ctx, func(tx Tx) error {
		t.seq, t.prev, t.after, t.rows, t.keys = 0, make([]byte, 32), 0, 0, nil
		if err := tx.QueryRow("select seq, hash from store_tally order by seq desc limit 1").Scan(&t.seq, &t.prev); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := tx.QueryRow("select upto from store_tally where name = $1 order by after desc limit 1", x.Table).Scan(&t.after); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		t.seq, t.upto = t.seq+1, t.after
		h := sha256.New()
		err := tallied(tx, x, t.after, end-1, rowPage, func(key int64, row []byte) {
			t.keys = binary.AppendUvarint(t.keys, uint64(key-t.upto))
			t.upto = key
			t.rows++
			h.Write(row)
		})
		h.Sum(content[:0])
		return err
	})
	if err != nil || t.rows == 0 {
		return 0, false, err
	}
	hash := t.sum(content)
	var won int64
	fault.Hit("store.tally.before")
	err = db.Write(ctx, func(tx Tx) (err error) {
		won, err = tx.Exec("insert into store_tally (seq, name, after, upto, n, keys, prev, hash) values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
			t.seq, t.table, t.after, t.upto, t.rows, t.keys, t.prev, hash[:])
		return err
	})
	fault.Hit("store.tally.after")
	if won == 0 { // another node was here first: it goes on
		return 0, false, err
	}
	return int(t.rows), t.rows == rowPage, err
}

// tallied reads rows with keys behind after, up to upto, and what is hashed of
// each.
func tallied(tx Tx, x Tallied, after, upto int64, limit int, do func(key int64, row []byte)) error {
	key, _, _ := strings.Cut(x.Columns, ",")
	rows, err := tx.Query(fmt.Sprintf("select %s from %s where %s > $1 and %s <= $2 order by %s limit %d", x.Columns, x.Table, key, key, key, limit), after, upto)
	if err != nil {
		return err
	}
	defer rows.Close()
	values := make([]any, strings.Count(x.Columns, ",")+1)
	dest := make([]any, len(values))
	for i := range values {
		dest[i] = &values[i]
	}
	b := make([]byte, 0, 1024)
	for rows.Next() {
		clear(values)
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		id, ok := values[0].(int64)
		if !ok {
			return fmt.Errorf("a row behind %d has no key", after)
		}
		b = encodeValues(b[:0], values)
		do(id, b)
		after = id
	}
	return rows.Err()
}

// TallyReport is what CheckTallies found.
type TallyReport struct {
	Head     Head // where the chain ends
	Rows     int  // counted, and compared
	Late     int  // rows as old as counted ones that are in no tally: they became visible late
	Found    int
	Problems []string // the first hundred, in words
}

func (r *TallyReport) problem(format string, args ...any) {
	if r.Found++; r.Found <= 100 {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// CheckTallies reads every tally from the first and looks for the rows that it
// counted: none is gone, none is another, and the chain is unbroken. noted, when
// not the zero head, was written down earlier and must be in it. It may run
// beside a house at work, and rests like Tally.
func (db *DB) CheckTallies(ctx context.Context, tables []Tallied, noted Head, rest func(took time.Duration) time.Duration) (*TallyReport, error) {
	r := &TallyReport{}
	seen := map[string]int64{} // up to where each table is counted
	prev := make([]byte, 32)
	known := noted == Head{}
	for {
		began := time.Now()
		var t tally
		err := db.Read(ctx, func(tx Tx) error {
			return tx.QueryRow("select seq, name, after, upto, n, keys, prev, hash from store_tally where seq > $1 order by seq limit 1", r.Head.Seq).
				Scan(&t.seq, &t.table, &t.after, &t.upto, &t.rows, &t.keys, &t.prev, &t.hash)
		})
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("store: reading the tallies behind %d: %w", r.Head.Seq, err)
		}
		if t.seq != r.Head.Seq+1 || !bytes.Equal(t.prev, prev) || t.after != seen[t.table] {
			r.problem("tally %d of %s does not follow the one before it: tallies are gone, or were changed", t.seq, t.table)
		}
		prev, seen[t.table], r.Head.Seq = t.hash, t.upto, t.seq
		copy(r.Head.Hash[:], t.hash)
		known = known || r.Head == noted
		if err := db.checkTally(ctx, tables, &t, r); err != nil {
			return nil, fmt.Errorf("store: comparing tally %d of %s: %w", t.seq, t.table, err)
		}
		if rest != nil {
			if err := pause(ctx, rest(time.Since(began))); err != nil {
				return nil, err
			}
		}
	}
	if !known {
		r.problem("the tallies do not have %s, which was noted: they were written anew, or set back", noted)
	}
	return r, nil
}

// checkTally holds what one tally counted against what is there.
func (db *DB) checkTally(ctx context.Context, tables []Tallied, t *tally, r *TallyReport) error {
	var x Tallied
	for _, one := range tables {
		if one.Table == t.table {
			x = one
		}
	}
	if x.Table == "" {
		r.problem("tally %d counts rows of %q, of which this binary counts none", t.seq, t.table)
		return nil
	}
	want := map[int64]bool{}
	if err := t.each(func(key int64) { want[key] = true }); err != nil {
		r.problem("tally %d of %s: %v", t.seq, t.table, err)
		return nil
	}
	h := sha256.New()
	late := 0
	if err := db.Read(ctx, func(tx Tx) error {
		h.Reset()
		late = 0
		return tallied(tx, x, t.after, t.upto, math.MaxInt32, func(key int64, row []byte) {
			if !want[key] {
				late++
				return
			}
			delete(want, key)
			h.Write(row)
		})
	}); err != nil {
		return err
	}
	r.Rows, r.Late = r.Rows+int(t.rows)-len(want), r.Late+late
	if len(want) > 0 {
		_ = t.each(func(key int64) {
			if want[key] {
				r.problem("%s %d, written %s: it was counted (tally %d) and is gone", t.table, key, IDTime(key).UTC().Format(time.RFC3339), t.seq)
			}
		})
		return nil
	}
	var content [32]byte
	h.Sum(content[:0])
	if sum := t.sum(content); !bytes.Equal(sum[:], t.hash) {
		r.problem("%s, from behind %d, written %s, to %d: a row is not what it was when it was counted (tally %d)", t.table, t.after, IDTime(t.after).UTC().Format(time.RFC3339), t.upto, t.seq)
	}
	return nil
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

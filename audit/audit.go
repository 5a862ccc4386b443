// Package audit is the log of what people and reloads did to the house: who,
// what, when, from where, and how it ended. It is a table of the store that is
// only added to; each row has the SHA-256 of the one before it, so that a row
// that is changed, taken out, put in or moved breaks the chain, and the row
// audit_head knows where the log ends. Whoever sets all of it back to an older
// moment is caught only by a head that was noted elsewhere, which is why
// `acquirer audit verify` prints it and takes it.
//
// What is done with keys has a log of its own beside the HSM (hsm/audit).
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"acquirer/fault"
	"acquirer/store"
)

// Schema is the log and where it ends.
var Schema = store.Schema{Name: "audit", Steps: []string{`
create table audit (
	seq     BIGINT NOT NULL PRIMARY KEY, -- from 1, without gaps
	at      BIGINT NOT NULL,             -- microseconds since 1970
	who     TEXT NOT NULL,
	origin  TEXT NOT NULL,
	op      TEXT NOT NULL,
	subject TEXT NOT NULL,
	detail  TEXT NOT NULL,
	result  TEXT NOT NULL,
	prev    BYTEA NOT NULL,              -- hash of the row before; 32 zero bytes in the first
	hash    BYTEA NOT NULL               -- SHA-256 of all the above
);
create table audit_head (
	id   BIGINT NOT NULL PRIMARY KEY, -- 1
	seq  BIGINT NOT NULL,
	hash BYTEA                        -- of the last row; NULL while there is none
);
insert into audit_head (id, seq) values (1, 0)`}}

// Done is the result of what succeeded; every other result says why not.
const Done = "done"

// MaxText is the most bytes that one text of an entry may have.
const MaxText = 64 * 1024

// Entry is one thing that was done, or refused. It never carries a card
// number, a key or a password.
type Entry struct {
	Seq     int64     `json:"seq"` // from 1; given by Record
	At      time.Time `json:"at"`  // given by Record
	Who     string    `json:"who"`
	From    string    `json:"from"`              // where it was asked for: command line, signal, file, the peer's address
	Op      string    `json:"op"`                // what, as the command that does it: "route reload", "owed resolve"
	Subject string    `json:"subject,omitempty"` // to what: a file, an RRN, a business date
	Detail  string    `json:"detail,omitempty"`  // what changed by it
	Result  string    `json:"result"`            // Done, or why it was not done
}

// Head is where the log ends.
type Head = store.Head

// ParseHead reads what Head's String wrote.
func ParseHead(s string) (Head, error) {
	h, err := store.ParseHead(s)
	if err != nil {
		return h, fmt.Errorf("audit: %w", err)
	}
	return h, nil
}

// Record adds an entry in the transaction of what it tells, so that both are
// there or neither; it returns the entry with its number and time. On
// PostgreSQL it holds the log's end until that transaction is over: call it
// last.
func Record(tx store.Tx, e Entry) (Entry, error) {
	for _, s := range []*string{&e.Who, &e.From, &e.Op, &e.Subject, &e.Detail, &e.Result} {
		*s = strings.ReplaceAll(strings.ToValidUTF8(*s, "\uFFFD"), "\x00", "\uFFFD") // PostgreSQL keeps nothing else
		if len(*s) > MaxText {
			return Entry{}, fmt.Errorf("audit: a text of %d bytes is longer than %d", len(*s), MaxText)
		}
	}
	if e.Who == "" || e.Op == "" || e.Result == "" {
		return Entry{}, errors.New("audit: an entry needs who, what and how it ended")
	}
	var last []byte
	if err := tx.QueryRow("update audit_head set seq = seq + 1 where id = 1 returning seq, hash").Scan(&e.Seq, &last); err != nil {
		return Entry{}, fmt.Errorf("audit: the end of the log could not be taken: %w", err)
	}
	var prev [32]byte
	copy(prev[:], last)
	at := time.Now().UnixMicro()
	e.At = time.UnixMicro(at)
	hash := e.hash(prev)
	if _, err := tx.Exec("insert into audit (seq, at, who, origin, op, subject, detail, result, prev, hash) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
		e.Seq, at, e.Who, e.From, e.Op, e.Subject, e.Detail, e.Result, prev, hash); err != nil {
		return Entry{}, fmt.Errorf("audit: the entry could not be added: %w", err)
	}
	if _, err := tx.Exec("update audit_head set hash = $1 where id = 1", hash); err != nil {
		return Entry{}, fmt.Errorf("audit: the end of the log could not be set: %w", err)
	}
	return e, nil
}

// Append is Record in a transaction of its own, for what does not change the
// store: a refusal, a reload, something that was looked at.
func Append(ctx context.Context, db *store.DB, e Entry) (recorded Entry, err error) {
	fault.Hit("audit.append.before")
	err = db.Write(ctx, func(tx store.Tx) error {
		recorded, err = Record(tx, e)
		return err
	})
	fault.Hit("audit.append.after")
	return recorded, err
}

// hash is the SHA-256 of an entry behind the row with hash prev. Every text has
// its length before it, so that nothing can move from one to the next.
func (e *Entry) hash(prev [32]byte) [32]byte {
	b := binary.BigEndian.AppendUint64(prev[:], uint64(e.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(e.At.UnixMicro()))
	for _, s := range []string{e.Who, e.From, e.Op, e.Subject, e.Detail, e.Result} {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
	}
	return sha256.Sum256(b)
}

const columns = "select seq, at, who, origin, op, subject, detail, result, prev, hash from audit "

// row is an entry as the table has it.
type row struct {
	Entry
	prev, sum [32]byte
}

func scan(rows *store.Rows, r *row) error {
	var at int64
	err := rows.Scan(&r.Seq, &at, &r.Who, &r.From, &r.Op, &r.Subject, &r.Detail, &r.Result, &r.prev, &r.sum)
	r.At = time.UnixMicro(at)
	return err
}

// List gives the newest entries, newest first, at most limit. before goes on
// from the number of the last one seen; 0 begins at the end. op chooses one
// kind of action; "" takes all.
func List(ctx context.Context, db *store.DB, op string, before int64, limit int) (out []Entry, err error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	err = db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(columns+"where seq < $1 and ($2 = '' or op = $2) order by seq desc limit $3", before, op, limit)
		out, err = store.All(rows, err, func(rows *store.Rows, e *Entry) error {
			var r row
			err := scan(rows, &r)
			*e = r.Entry
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audit: the log could not be read: %w", err)
	}
	return out, nil
}

// Broken says where the log is not what was written.
type Broken struct {
	Seq  int64
	What string
}

func (b *Broken) Error() string { return fmt.Sprintf("audit log, entry %d: %s", b.Seq, b.What) }

// Verify reads the whole log and returns where it ends. noted, when not the
// zero Head, was written down earlier and must be in it. The error is a *Broken
// when the log is not what was written.
func Verify(ctx context.Context, db *store.DB, noted Head) (head Head, err error) {
	err = db.Read(ctx, func(tx store.Tx) error {
		head, err = verify(tx, noted)
		return err
	})
	return head, err
}

func verify(tx store.Tx, noted Head) (head Head, err error) {
	rows, err := tx.Query(columns + "order by seq")
	if err != nil {
		return head, err
	}
	defer rows.Close()
	found := noted == Head{}
	for rows.Next() {
		var r row
		next := head.Seq + 1
		switch err := scan(rows, &r); {
		case err != nil:
			return head, &Broken{next, "it cannot be read: " + err.Error()}
		case r.Seq != next:
			return head, &Broken{next, fmt.Sprintf("it is missing; the next one is %d", r.Seq)}
		case r.prev != head.Hash:
			return head, &Broken{next, "it does not follow from the one before it: that one was changed or put in"}
		case r.hash(r.prev) != r.sum:
			return head, &Broken{next, "it was changed"}
		}
		head = Head{Seq: next, Hash: r.sum}
		found = found || head == noted
	}
	if err := rows.Err(); err != nil {
		return head, err
	}
	var end int64
	var last []byte
	if err := tx.QueryRow("select seq, hash from audit_head where id = 1").Scan(&end, &last); err != nil && !errors.Is(err, store.ErrNotFound) {
		return head, err
	}
	switch {
	case end > head.Seq:
		return head, &Broken{head.Seq + 1, fmt.Sprintf("it is missing: %d were written, the last ones were cut off", end)}
	case end < head.Seq || head.Seq > 0 && string(last) != string(head.Hash[:]):
		return head, &Broken{head.Seq, "the end of the log was set to another place"}
	case !found:
		return head, &Broken{min(noted.Seq, head.Seq+1), "the head that was noted is not in the log: it was cut off or written anew"}
	}
	return head, nil
}

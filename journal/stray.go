package journal

import (
	"context"
	"fmt"
	"time"

	"acquirer/store"
)

// Stray is a message of an issuer that named one of our transactions and that
// no caller was waiting for: an answer that came late, or twice, or was wrong.
// It decides nothing. An operator who looks at the transaction wants to see it:
// behind a late approval stands a customer whose account was charged until the
// reversal arrived.
type Stray struct {
	Txn    int64
	At     time.Time
	Issuer string
	Line   int    // from 1
	Kind   string // late, duplicate, mismatch, mac, ...: as the metrics have it
	MTI    string // four digits
	Code   string // DE 39, "" when it had none
}

// maxStrays are kept of one transaction: an issuer that repeats itself without
// end does not fill the disk.
const maxStrays = 8

// NoteStray keeps a message of an issuer with its transaction and reports
// whether it did: not when there is no such transaction, or enough are kept.
func (j *Journal) NoteStray(ctx context.Context, s Stray) (kept bool, err error) {
	err = j.db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec(`insert into stray (id, txn, at, issuer, line, kind, mti, code)
			select $1, t.id, $3, $4, $5, $6, $7, $8 from txn t
			where t.id = $2 and (select count(*) from stray s where s.txn = t.id) < $9`,
			store.NewID(), s.Txn, micro(s.At), s.Issuer, int64(s.Line), s.Kind, s.MTI, s.Code, int64(maxStrays))
		kept = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("journal: keeping a message about %d: %w", s.Txn, err)
	}
	return kept, nil
}

// Strays reads what was kept of a transaction's, in the order in which it came.
func (j *Journal) Strays(ctx context.Context, txn int64) (all []Stray, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select txn, at, issuer, line, kind, mti, code from stray where txn = $1 order by id", txn)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s Stray
			var at, line int64
			if err := rows.Scan(&s.Txn, &at, &s.Issuer, &line, &s.Kind, &s.MTI, &s.Code); err != nil {
				return err
			}
			s.At, s.Line = instant(at), int(line)
			all = append(all, s)
		}
		return rows.Close()
	})
	return all, err
}

package journal

import (
	"context"
	"fmt"
	"time"

	"acquirer/fault"
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

// NoteStrays keeps messages of issuers with their transactions, in one write,
// and reports of each whether it did: not when there is no such transaction, or
// enough are kept.
func (j *Journal) NoteStrays(ctx context.Context, strays []Stray) (kept []bool, err error) {
	fault.Hit("journal.stray.before")
	err = j.db.Write(ctx, func(tx store.Tx) error {
		kept = make([]bool, len(strays))
		for i, s := range strays {
			var err error
			if kept[i], err = noteStray(tx, s); err != nil {
				return err
			}
		}
		return nil
	})
	fault.Hit("journal.stray.after")
	if err != nil {
		return nil, fmt.Errorf("journal: keeping %d messages of issuers: %w", len(strays), err)
	}
	return kept, nil
}

func noteStray(tx store.Tx, s Stray) (kept bool, err error) {
	n, err := tx.Exec(`insert into stray (id, txn, at, issuer, line, kind, mti, code)
		select $1, t.id, $3, $4, $5, $6, $7, $8 from txn t
		where t.id = $2 and (select count(*) from stray s where s.txn = t.id) < $9`,
		store.NewID(), s.Txn, store.Micros(s.At), s.Issuer, int64(s.Line), s.Kind, s.MTI, s.Code, int64(maxStrays))
	return n == 1, err
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
			s.At, s.Line = store.Instant(at), int(line)
			all = append(all, s)
		}
		return rows.Close()
	})
	return all, err
}

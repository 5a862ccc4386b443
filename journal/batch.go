package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/store"
)

// A terminal's batch is what it did between two settlements, under one number
// (DE 60.2). It may span business dates, and is no word about money: the
// journal is, and what the terminal says otherwise is a break for a person.

// OfBatch reads a terminal's transactions of a batch that were opened on one
// of the given business dates, in the order they were opened.
func (j *Journal) OfBatch(ctx context.Context, terminal string, batch int32, days []calendar.Date) ([]*Entry, error) {
	args := []any{terminal, batch}
	list := make([]string, len(days))
	for i, d := range days {
		list[i] = fmt.Sprintf("$%d", i+3)
		args = append(args, d)
	}
	return j.many(ctx, entries+"where t.day in ("+strings.Join(list, ", ")+") and t.terminal = $1 and t.batch = $2 order by t.id", args...)
}

// Settling is a terminal's settlement (0500) of a batch: what it says, what
// the journal has, and how far its upload came.
type Settling struct {
	ID       int64
	Day      calendar.Date // business date of the settlement
	Terminal string
	Merchant string
	Batch    int32
	Claimed  string    // DE 48 as the terminal sent it
	Ours     string    // the same digits as the journal has them, with the flags that were answered
	At       time.Time // when it settled, the last time
	Reminded bool      // it was told to send missing signatures first
	Uploaded int32     // records that came
	Ended    time.Time // when its batch end came; zero before
}

const settlingColumns = `id, day, terminal, merchant, batch, claimed, ours, at, reminded, uploaded, ended`

func scanSettling(r *store.Rows, s *Settling) error {
	var at, reminded, ended int64
	err := r.Scan(&s.ID, &s.Day, &s.Terminal, &s.Merchant, &s.Batch, &s.Claimed, &s.Ours, &at, &reminded, &s.Uploaded, &ended)
	s.At, s.Reminded, s.Ended = store.Instant(at), reminded != 0, store.Instant(ended)
	return err
}

// Settle records a settlement; a repeat of one that has not ended replaces
// what it said.
func (j *Journal) Settle(ctx context.Context, s *Settling) error {
	if s.ID == 0 {
		s.ID = store.NewID()
	}
	fault.Hit("batch.totals.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("insert into settling ("+settlingColumns+`) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,0,0)
			on conflict (terminal, batch, day) do update set claimed = excluded.claimed, ours = excluded.ours, at = excluded.at,
				reminded = case when excluded.reminded > settling.reminded then excluded.reminded else settling.reminded end
			where settling.ended = 0`,
			s.ID, s.Day, s.Terminal, s.Merchant, s.Batch, clean(s.Claimed), clean(s.Ours), store.Micros(s.At), bit(s.Reminded))
		return err
	})
	fault.Hit("batch.totals.after")
	if err != nil {
		return fmt.Errorf("journal: recording the settlement of batch %d of %s: %w", s.Batch, s.Terminal, err)
	}
	return nil
}

// LastSettling reads the newest settlement of a terminal's batch since a
// business date; store.ErrNotFound when there is none.
func (j *Journal) LastSettling(ctx context.Context, terminal string, batch int32, since calendar.Date) (s *Settling, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+settlingColumns+" from settling where terminal = $1 and batch = $2 and day >= $3 order by day desc limit 1", terminal, batch, since)
		all, err := store.All(rows, err, scanSettling)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return store.ErrNotFound
		}
		s = &all[0]
		return nil
	})
	return s, err
}

// Settlings lists the settlements of a business date.
func (j *Journal) Settlings(ctx context.Context, day calendar.Date) (all []Settling, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+settlingColumns+" from settling where day = $1 order by terminal, batch", day)
		all, err = store.All(rows, err, scanSettling)
		return err
	})
	return all, err
}

// Difference is how an uploaded record and the journal disagree.
type Difference string

// The differences. NoDifference is a record that the journal has just so.
const (
	NoDifference Difference = ""
	NotHere      Difference = "not here"     // the terminal has it and the journal has not
	NotApproved  Difference = "not approved" // here it was refused or taken back
	OtherAmount  Difference = "other amount" // or another card
	NotThere     Difference = "not there"    // approved here, and the terminal did not upload it
	FailedThere  Difference = "failed there" // approved here, and failed at the terminal
	NoSignature  Difference = "no signature" // a sale that was to be signed and was not
	OtherTotals  Difference = "other totals" // the settlement did not balance, and no upload said why
	OtherCount   Difference = "other count"  // the batch end tells of more records than came
)

// Differences lists all but NoDifference.
var Differences = []Difference{NotHere, NotApproved, OtherAmount, NotThere, FailedThere, NoSignature, OtherTotals, OtherCount}

// Uploaded is one record of a terminal's upload, or a difference found
// without one.
type Uploaded struct {
	ID       int64
	Day      calendar.Date // business date of the upload
	Terminal string
	Merchant string
	Batch    int32
	STAN     int32
	Form     string       // which upload brought it: DE 60.3, or DE 60.1 of a notice
	Amount   money.Amount // as the terminal has it
	Masked   string       // the account number, as the terminal has it
	Txn      int64        // the journal's transaction, 0 when there is none
	What     Difference
	At       time.Time
	Resolved time.Time // when a person was done with it
}

const uploadedColumns = `id, day, terminal, merchant, batch, stan, form, amount, masked, txn, what, at, resolved`

func scanUploaded(r *store.Rows, u *Uploaded) error {
	var at, resolved int64
	err := r.Scan(&u.ID, &u.Day, &u.Terminal, &u.Merchant, &u.Batch, &u.STAN, &u.Form, &u.Amount, &u.Masked, &u.Txn, &u.What, &at, &resolved)
	u.At, u.Resolved = store.Instant(at), store.Instant(resolved)
	return err
}

// Upload records what a terminal uploaded. A record that came before changes
// nothing. It returns those that are new.
func (j *Journal) Upload(ctx context.Context, records []Uploaded) (fresh []Uploaded, err error) {
	fault.Hit("batch.upload.before")
	err = j.db.Write(ctx, func(tx store.Tx) error {
		fresh = nil
		for _, u := range records {
			u.ID = store.NewID()
			n, err := tx.Exec("insert into uploaded ("+uploadedColumns+`) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,0)
				on conflict (terminal, batch, stan, form, what, day) do nothing`,
				u.ID, u.Day, u.Terminal, u.Merchant, u.Batch, u.STAN, u.Form, u.Amount.Fen(), u.Masked, u.Txn, string(u.What), store.Micros(u.At))
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			fresh = append(fresh, u)
			if u.Form != "" {
				if _, err := tx.Exec("update settling set uploaded = uploaded + 1 where terminal = $1 and batch = $2 and day = $3", u.Terminal, u.Batch, u.Day); err != nil {
					return err
				}
			}
		}
		return nil
	})
	fault.Hit("batch.upload.after")
	if err != nil {
		return nil, fmt.Errorf("journal: recording an upload: %w", err)
	}
	return fresh, nil
}

// OfUpload reads what a terminal uploaded of a batch since a business date.
func (j *Journal) OfUpload(ctx context.Context, terminal string, batch int32, since calendar.Date) (all []Uploaded, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+uploadedColumns+" from uploaded where terminal = $1 and batch = $2 and day >= $3 order by id", terminal, batch, since)
		all, err = store.All(rows, err, scanUploaded)
		return err
	})
	return all, err
}

// EndBatch records a batch end, and reports whether it is the first.
func (j *Journal) EndBatch(ctx context.Context, terminal string, batch int32, since calendar.Date, at time.Time) (first bool, err error) {
	fault.Hit("batch.end.before")
	err = j.db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("update settling set ended = $1 where terminal = $2 and batch = $3 and day >= $4 and ended = 0", store.Micros(at), terminal, batch, since)
		first = n > 0
		return err
	})
	fault.Hit("batch.end.after")
	if err != nil {
		return false, fmt.Errorf("journal: ending batch %d of %s: %w", batch, terminal, err)
	}
	return first, nil
}

// Breaks lists up to n differences that wait for a person, the oldest first.
func (j *Journal) Breaks(ctx context.Context, n int) (all []Uploaded, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+uploadedColumns+" from uploaded where what <> '' and resolved = 0 order by id limit $1", n)
		all, err = store.All(rows, err, scanUploaded)
		return err
	})
	return all, err
}

// Resolve marks a difference as dealt with; a second time changes nothing.
func (j *Journal) Resolve(ctx context.Context, id int64, at time.Time) error {
	fault.Hit("batch.resolve.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("update uploaded set resolved = case when resolved = 0 then $1 else resolved end where id = $2 and what <> ''", store.Micros(at), id)
		if err == nil && n == 0 {
			err = store.ErrNotFound
		}
		return err
	})
	fault.Hit("batch.resolve.after")
	if err != nil {
		return fmt.Errorf("journal: resolving difference %d: %w", id, err)
	}
	return nil
}

// Signature is what a cardholder wrote on a terminal's screen, sealed.
type Signature struct {
	Txn      int64
	Sealed   []byte // JBIG, encrypted
	Received time.Time
}

// Sign keeps the signature of a transaction; a repeat replaces it.
func (j *Journal) Sign(ctx context.Context, s Signature) error {
	fault.Hit("journal.signature.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`insert into signature (txn, sealed, received) values ($1,$2,$3)
			on conflict (txn) do update set sealed = excluded.sealed, received = excluded.received`, s.Txn, s.Sealed, store.Micros(s.Received))
		return err
	})
	fault.Hit("journal.signature.after")
	if err != nil {
		return fmt.Errorf("journal: keeping the signature of %d: %w", s.Txn, err)
	}
	return nil
}

// SignatureOf reads a transaction's signature; store.ErrNotFound when there is
// none.
func (j *Journal) SignatureOf(ctx context.Context, txn int64) (s Signature, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		var received int64
		err := tx.QueryRow("select txn, sealed, received from signature where txn = $1", txn).Scan(&s.Txn, &s.Sealed, &received)
		s.Received = store.Instant(received)
		return err
	})
	return s, err
}

// Signed reports which of the transactions have a signature.
func (j *Journal) Signed(ctx context.Context, txns []int64) (map[int64]bool, error) {
	signed := make(map[int64]bool, len(txns))
	err := j.db.Read(ctx, func(tx store.Tx) error {
		for _, id := range txns {
			var one int64
			switch err := tx.QueryRow("select 1 from signature where txn = $1", id).Scan(&one); {
			case err == nil:
				signed[id] = true
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
		}
		return nil
	})
	return signed, err
}

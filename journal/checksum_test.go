package journal_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// Fault 38: one byte of one row is not what was written, and the row is well
// formed. It is named, with its business date, whichever column it is and on
// both engines; what changes in order is not taken for damage.
func TestFault38_ChangedRow(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, j *journal.Journal) {
		ctx := t.Context()
		moved := sale(money.Yuan(10)) // to another issuer, before anything is sent
		mustOpen(t, j, moved, journal.Fresh)
		if ok, err := j.Move(ctx, moved.ID, "south", moved.Deadline.Add(time.Second)); err != nil || !ok {
			t.Fatal(ok, err)
		}
		for i := range 3 {
			x := sale(money.Yuan(10))
			mustOpen(t, j, x, journal.Fresh)
			o := approved(x)
			o.Extra = []byte{}
			mustClose(t, j, x, o, true)
			if i == 0 {
				continue
			}
			owes := unanswered(t, j)
			claimed, err := j.ClaimFor(ctx, owes.Issuer, 1, time.Minute)
			if err != nil || len(claimed) != 1 {
				t.Fatal(claimed, err)
			}
			if i == 1 {
				err = j.Acknowledge(ctx, claimed[0].Debt.ID, "said 00")
			} else {
				err = j.Postpone(ctx, claimed[0].Debt.ID, time.Now().Add(time.Hour), "no answer")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		storetest.EveryChangeIsFound(t, db, journal.Summed)
	})
}

// One byte of the file is changed behind the database's back: every page is
// sound, and one sale has another RRN.
func TestFault38_ChangedByteOfTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	open := func() *store.DB {
		t.Helper()
		db, err := store.Open(t.Context(), "sqlite:"+path, schemas...)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	j := newJournal(t, db, nil)
	var x *journal.Transaction
	for range 50 {
		x = sale(money.Yuan(10))
		x.RRN = fmt.Sprintf("ABCDEF%06d", x.STAN)
		mustOpen(t, j, x, journal.Fresh)
		mustClose(t, j, x, approved(x), true)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, []byte(x.RRN))
	if at < 0 || bytes.Count(file, []byte(x.RRN)) != 1 {
		t.Fatalf("%s is not there once", x.RRN)
	}
	file[at+3] ^= 0x20
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	db = open()
	defer db.Close()
	r, err := db.CheckRows(t.Context(), journal.Summed, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("txn %d, business date %d, ", x.ID, x.Day); r.Found != 1 || !strings.HasPrefix(r.Problems[0], want) {
		t.Errorf("%+v, want %q", r, want)
	}
}

// Rows of before the checksums are counted and not taken for damage.
func TestRowsWithoutChecksum(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, j *journal.Journal) {
		x := sale(money.Yuan(10))
		mustOpen(t, j, x, journal.Fresh)
		mustClose(t, j, x, approved(x), true)
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("update txn set checksum = null")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		r, err := db.CheckRows(t.Context(), journal.Summed, nil)
		if err != nil || r.Found != 0 || r.Without != 1 || r.Rows != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// A transaction that is taken out whole leaves nothing behind that refers to it:
// the tallies miss it. What is done in order to a transaction that was counted,
// it is answered, taken back, delivered, is no damage.
func TestTransactionsThatAreGone(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, j *journal.Journal) {
		ctx := t.Context()
		check := func() *store.TallyReport {
			t.Helper()
			if _, err := db.Tally(ctx, journal.Tallied, time.Now().Add(time.Hour), nil); err != nil {
				t.Fatal(err)
			}
			r, err := db.CheckTallies(ctx, journal.Tallied, store.Head{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		moved, x := sale(money.Yuan(10)), sale(money.Yuan(20))
		mustOpen(t, j, moved, journal.Fresh)
		mustOpen(t, j, x, journal.Fresh)
		if r := check(); r.Found != 0 || r.Rows != 2 {
			t.Errorf("open: %+v", r)
		}
		if ok, err := j.Move(ctx, moved.ID, "south", moved.Deadline.Add(time.Second)); err != nil || !ok {
			t.Fatal(ok, err)
		}
		mustClose(t, j, x, approved(x), true)
		owes := unanswered(t, j)
		if r := check(); r.Found != 0 || r.Rows != 5 {
			t.Errorf("closed: %+v", r)
		}
		claimed, err := j.ClaimFor(ctx, owes.Issuer, 1, time.Minute)
		if err != nil || len(claimed) != 1 {
			t.Fatal(claimed, err)
		}
		if err := j.Acknowledge(ctx, claimed[0].Debt.ID, "said 00"); err != nil {
			t.Fatal(err)
		}
		if n, err := j.Forget(ctx, time.Now().Add(time.Hour), nil); err != nil || n == 0 {
			t.Fatal(n, err)
		}
		if r := check(); r.Found != 0 || r.Rows != 5 {
			t.Errorf("forgotten: %+v", r)
		}
		for i, sql := range []string{
			"delete from outcome where txn = $1", "delete from txn where id = $1",
		} {
			if err := db.Write(ctx, func(tx store.Tx) error { _, err := tx.Exec(sql, x.ID); return err }); err != nil {
				t.Fatal(err)
			}
			if r := check(); r.Found != 1+i || !strings.Contains(r.Problems[0], "is gone") {
				t.Errorf("%s: %+v", sql, r)
			}
		}
	})
}

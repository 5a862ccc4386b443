package reconcile

import (
	"errors"
	"iter"
	"testing"

	"acquirer/money"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

// Two nodes load two different files of one source and day: one of them counts,
// whole, and the other is refused; never lines of both.
func TestTwoFilesAtOnce(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		w.sale(alice, wednesday, 100_00)
		w.sale(alice, wednesday, 200_00)
		w.sale(alice, wednesday, 500_00)
		first := w.file("north", wednesday)
		w.sale(alice, wednesday, 300_00)
		w.sale(alice, wednesday, 400_00)
		second := w.file("north", wednesday)
		second.Name = "north-again"
		inner := first.Records
		reads := 0
		first.Records = func() iter.Seq2[clearing.Record, error] {
			if reads++; reads == 2 { // its row is made, its lines are not written
				if _, err := w.e.Load(t.Context(), second, at(wednesday, 24)); err != nil {
					t.Errorf("the second file: %v", err)
				}
			}
			return inner()
		}
		if _, err := w.e.Load(t.Context(), first, at(wednesday, 24)); !errors.Is(err, ErrAnother) {
			t.Errorf("the first file, behind the second: %v", err)
		}
		var lines int
		var sum, named money.Amount
		if err := db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRow("select count(*), cast(sum(l.amount) as BIGINT), max(f.amount) from recon_line l join recon_file f on f.id = l.file").Scan(&lines, &sum, &named)
		}); err != nil {
			t.Fatal(err)
		}
		if lines != 2 || sum != 700_00 || named != 700_00 {
			t.Errorf("%d lines of %s under a file of %s, want 2 of 700.00", lines, sum, named)
		}
	})
}

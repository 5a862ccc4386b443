package reconcile

import (
	"strings"
	"testing"

	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

// What a hand books as if reconciliation had found something is found by who
// asks for the difference: there is none, or it is another one.
func TestVerifyDifferences(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		_, r := w.sale(alice, wednesday, 100_00)
		r.IssuerFee += 7
		w.sale(alice, wednesday, 50_00)
		w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "000000099999", Amount: 30_00, Merchant: alice, Terminal: "10000001"})
		w.night(wednesday)
		w.sound()
		book := func(key, event, legs string) string {
			return "insert into ledger_transfer select max(id) + 1, '" + key + "', '" + event + "', max(date), 'x', 1, null, '" + legs + "', max(created), 0 from ledger_transfer"
		}
		for _, c := range []struct{ sql, want string }{
			{book("short-resolved/x", "SHORT_RESOLVED", "D5901 500,C1001 500"), "C of 5.00 has no business with 1001"},
			{book("short-resolved/x", "SHORT_RESOLVED", "D5901 500,C1901 500"), "for a difference that nobody found"},
			{book("short-found/x", "WHATEVER", "D1101 500,C1901 500"), "2 are booked as something of it"},
			{book("fee-difference/x", "FEE_DIFFERENCE", "D5101 500,C1101 500"), "for a difference that nobody found"},
			{"update ledger_transfer set legs = replace(legs, '3000', '2900') where key like 'long/%'", "it is booked with 29.00 and the difference is 30.00"},
			{"update ledger_transfer set event = 'SHORT_ITEM' where key like 'long/%'", "it is booked as SHORT_ITEM (posted), not as LONG_ITEM"},
			{"update ledger_transfer set kind = 2 where key like 'long/%'", "it is booked as LONG_ITEM (pending), not as LONG_ITEM"},
			{"update ledger_transfer set key = replace(key, 'long/', 'long/9') where key like 'long/%'", "for a difference that nobody found"},
		} {
			undo := spoil(t, w, c.sql)
			problems, err := Verify(t.Context(), w.db)
			if err != nil || !strings.Contains(strings.Join(problems, "; "), c.want) {
				t.Errorf("%s: %q, %v; want %q", c.sql, problems, err, c.want)
			}
			undo()
		}
		w.sound()
	})
}

// spoil does sql and returns what undoes it.
func spoil(t *testing.T, w *town, sql string) (undo func()) {
	t.Helper()
	exec := func(all ...string) {
		t.Helper()
		if err := w.db.Write(t.Context(), func(tx store.Tx) error {
			for _, sql := range all {
				if _, err := tx.Exec(sql); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	exec("create table was as select * from ledger_transfer", sql)
	return func() {
		exec("delete from ledger_transfer", "insert into ledger_transfer select * from was", "drop table was")
	}
}

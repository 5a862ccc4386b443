package journal_test

import (
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/store"
)

// Messages that found no caller stay with the transaction that they name, not
// without end, and not with one that never was.
func TestStrays(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		sale := sold(t, j, journal.Sale, 10000)
		at := time.Now().Truncate(time.Microsecond)
		note := func(s journal.Stray) bool {
			t.Helper()
			kept, err := j.NoteStrays(t.Context(), []journal.Stray{s})
			if err != nil {
				t.Fatal(err)
			}
			return kept[0]
		}
		late := journal.Stray{Txn: sale.ID, At: at, Issuer: "north", Line: 2, Kind: "late", MTI: "0210", Code: "00"}
		if !note(late) {
			t.Error("a late answer was not kept")
		}
		if nobodys := late; note(journal.Stray{Txn: nobodys.Txn + 1, At: at, Issuer: "north", Line: 1, Kind: "late", MTI: "0210"}) {
			t.Error("one of no transaction was kept")
		}
		for n := range 20 {
			if kept := note(journal.Stray{Txn: sale.ID, At: at, Issuer: "north", Line: 1, Kind: "duplicate", MTI: "0210", Code: "00"}); kept != (n < 7) {
				t.Errorf("repeat %d: kept %v", n, kept)
			}
		}
		second := sold(t, j, journal.Sale, 10000)
		kept, err := j.NoteStrays(t.Context(), []journal.Stray{{Txn: second.ID, Kind: "late"}, {Txn: 1, Kind: "late"}, {Txn: second.ID, Kind: "duplicate"}})
		if err != nil || len(kept) != 3 || !kept[0] || kept[1] || !kept[2] {
			t.Errorf("three in one write: %v, %v", kept, err)
		}
		got, err := j.Strays(t.Context(), sale.ID)
		if err != nil || len(got) != 8 || got[7].Kind != "duplicate" {
			t.Fatalf("%v, %+v", err, got)
		}
		if !got[0].At.Equal(at) {
			t.Errorf("at %v, want %v", got[0].At, at)
		}
		if got[0].At = at; got[0] != late {
			t.Errorf("%+v, want %+v", got[0], late)
		}
	})
}

package reconcile

import (
	"iter"
	"testing"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

// Money that nobody knows and receipts that lack something are breaks, which end
// by themselves when somebody has said what it is and the rest has come; the
// statement that has what was booked by itself matches it.
func TestCreditsAreBreaks(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		ctx := t.Context()
		came := func(entry, reference string, amount money.Amount, day calendar.Date) {
			t.Helper()
			if err := w.books.TakeCredit(ctx, settlement.Credit{Entry: entry, Reference: reference, Amount: amount, Booked: day}, at(day, 34)); err != nil {
				t.Fatal(err)
			}
		}
		compare := func(d calendar.Date) map[string]State {
			t.Helper()
			w.load(w.file("north", d))
			w.load(w.file("alipay", d))
			if _, err := w.e.Compare(ctx, d, at(d, 25)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.books.CloseDay(ctx, d, at(d, 26), false); err != nil {
				t.Fatal(err)
			}
			all, err := w.e.Breaks(ctx, Query{})
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]State{}
			for _, b := range all {
				out[string(b.Kind)+" "+b.Source+" "+b.RRN] = b.State
			}
			w.sound()
			return out
		}
		w.sale(alice, wednesday, 100_00)
		w.sale(alice, thursday, 200_00)
		if got := compare(wednesday); len(got) != 0 {
			t.Fatalf("%v", got)
		}
		net, err := w.books.Expected(ctx, wednesday, "")
		if err != nil {
			t.Fatal(err)
		}
		came("E1", "CUPS20261118", net-1_00, wednesday)
		came("E2", "CUPS20261119", 5_00, wednesday) // its date is not closed: nobody needs to look
		came("E3", "what is this", 7_00, wednesday)
		statement := []clearing.Record{{Line: 1, Kind: kindReceipt, RRN: "CUPS20261118", Amount: net - 1_00, Net: net - 1_00}, {Line: 2, Kind: kindReceipt, RRN: "CUPS20261119", Amount: 5_00, Net: 5_00},
			{Line: 3, Kind: kindReceipt, RRN: "what is this", Amount: 7_00, Net: 7_00}}
		w.load(File{Source: Bank, Date: thursday, Name: "statement", SHA: "statement", Records: func() iter.Seq2[clearing.Record, error] {
			return func(yield func(clearing.Record, error) bool) {
				for _, r := range statement {
					if !yield(r, nil) {
						return
					}
				}
			}
		}})
		if got := compare(thursday); len(got) != 2 || got["receipt_short network E1"] != Open || got["receipt_long bank E3"] != Open {
			t.Errorf("after Thursday: %v", got)
		}
		came("E4", "CUPS20261118", 1_00, thursday)
		for i, who := range []string{"wang", "li"} {
			if done, err := w.books.AssignCredit(ctx, "E3", "", 0, who, at(thursday, 35)); err != nil || done != (i == 1) {
				t.Errorf("%s: %t, %v", who, done, err)
			}
		}
		if got := compare(friday); len(got) != 2 || got["receipt_short network E1"] != Resolved || got["receipt_long bank E3"] != Resolved {
			t.Errorf("after Friday: %v", got)
		}
	})
}

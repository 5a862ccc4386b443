package reconcile

import (
	"errors"
	"testing"

	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

// Sales that are matched and then reversed here, before their date closes, wait for
// their reversals, which come with the next file. The date's close waits until it
// was compared again, and what the network owes is what its files say, whatever fees
// it took.
func TestReversedAfterItWasMatched(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		plain, _ := w.sale(alice, wednesday, 100_00)
		dear, r := w.sale(alice, wednesday, 200_00)
		r.IssuerFee += 50
		var back []clearing.Record
		for _, r := range w.files["north"] {
			r.Kind, r.Amount, r.IssuerFee, r.NetworkFee = clearing.Reversal, -r.Amount, -r.IssuerFee, -r.NetworkFee
			back = append(back, r)
		}
		w.sale(alice, wednesday, 500_00)
		w.load(w.file("north", wednesday))
		w.load(w.file("alipay", wednesday))
		if day, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 25)); err != nil || day.Matched != 3 || day.Kinds[Fee] != 1 {
			t.Fatalf("%+v, %v", day, err)
		}
		w.resolve(w.only(Query{}), Accept, wednesday)
		for _, f := range []settlement.Fact{plain, dear} {
			f.Taken, f.At, f.On = true, at(wednesday, 25), thursday
			w.fact(f)
		}
		if _, err := w.books.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.e.Gate(t.Context(), wednesday); !errors.Is(err, ErrIncomplete) {
			t.Errorf("the gate says %v", err)
		}
		if due, err := w.e.Due(t.Context(), at(wednesday, 26)); err != nil || len(due) != 1 || due[0] != wednesday {
			t.Errorf("due: %v, %v", due, err)
		}
		for range 2 {
			day, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 26))
			if err != nil || day.Kinds[LateReversal] != 2 || day.Waiting != 2 || day.Matched != 1 {
				t.Errorf("%+v, %v", day, err)
			}
		}
		if due, err := w.e.Due(t.Context(), at(wednesday, 26)); err != nil || len(due) != 0 {
			t.Errorf("due again: %v, %v", due, err)
		}
		if _, err := w.books.CloseDay(t.Context(), wednesday, at(wednesday, 27), false); err != nil {
			t.Fatal(err)
		}
		w.expects(wednesday)
		w.files["north"] = append(w.files["north"], back...)
		w.sale(alice, thursday, 900_00)
		if day := w.night(thursday); day.Breaks != 0 {
			t.Errorf("their reversals: %+v", day)
		}
		if open, err := w.e.Breaks(t.Context(), Query{State: Waiting}); err != nil || len(open) != 0 {
			t.Errorf("still waiting: %+v, %v", open, err)
		}
		w.wants("1901=0.00 2301=0.00")
		w.expects(thursday)
	})
}

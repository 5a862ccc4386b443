package dispute

import (
	"errors"
	"slices"
	"testing"

	"acquirer/store"
	"acquirer/store/storetest"
)

// Who let a retrieval pass cannot ask for the money when the chargeback comes,
// evidence or not: the merchant bears it.
func TestLateRetrievalIsNotRepresented(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		w.do("0 retrieval\n22 tick\n25 chargeback\n25 evidence")
		c := w.one()
		if !slices.Equal(c.Actions(), []Action{GiveIn}) {
			t.Errorf("it can have %v", c.Actions())
		}
		if _, err := w.e.Answer(t.Context(), c.ID, Represent, ann, at(monday.AddDays(26))); !errors.Is(err, ErrAction) {
			t.Errorf("represented: %v", err)
		}
		w.do("26 accept\n26 is chargeback lost late")
	})
}

// To give in to a pre-arbitration of what was represented gives the money to the
// issuer: two people say it, by whichever of the two ways.
func TestGivingMoneyTakesTwo(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		w.do("1 chargeback\n2 evidence\n2 represent\n5 pre_arbitration")
		id, now := w.one().ID, at(monday.AddDays(6))
		if c, err := w.e.Answer(t.Context(), id, GiveIn, ann, now); err != nil || c.State != Open || c.Asked != Lost || c.AskedBy != "ann" {
			t.Errorf("one person: %+v, %v", c, err)
		}
		w.do("6 is pre_arbitration open\n6 has 2101=496.40 2104=100.00 1101=592.11")
		if _, err := w.e.Answer(t.Context(), id, GiveIn, ann, now); !errors.Is(err, ErrTwoPeople) {
			t.Errorf("the same person again: %v", err)
		}
		if _, done, err := w.e.Close(t.Context(), id, Lost, "", ann, now); !errors.Is(err, ErrTwoPeople) || done {
			t.Errorf("the same person by the other way: %v, %v", done, err)
		}
		if c, err := w.e.Answer(t.Context(), id, GiveIn, bob, now); err != nil || c.State != Lost || c.Asked != "" {
			t.Errorf("the second: %+v, %v", c, err)
		}
		w.do("6 has 2101=496.40 2104=0.00 1101=492.11")
		events, err := w.e.Events(t.Context(), id)
		if last := events[len(events)-1]; err != nil || last.Who != "bob" || last.What != "lost: by hand, ann asked; accepted" {
			t.Errorf("the events: %+v, %v", events, err)
		}
	})
}

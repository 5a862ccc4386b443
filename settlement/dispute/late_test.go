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

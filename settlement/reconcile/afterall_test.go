package reconcile

import (
	"testing"

	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// What people gave up as short comes with a file days later: what was written off
// is recovered, what the merchant bore is long and the merchant's again, and what
// the network owes is what its files say.
func TestGivenUpAndThenItComes(t *testing.T) {
	for _, c := range []struct {
		name   string
		paid   bool // early, before its date's files
		action Action
		less   money.Amount // by which the file has less
		then   Kind         // break that it makes
		end    Action
		loses  string
	}{
		{name: "written off", action: ToLoss, loses: "0.00"},
		{name: "written off when it was paid", paid: true, action: ToLoss, loses: "0.00"},
		{name: "written off, with less", action: ToLoss, less: 10_00, then: Amount, end: ToLoss, loses: "10.00"},
		{name: "borne by the merchant when it was paid", paid: true, action: ToMerchant, then: Long, end: ToMerchant, loses: "0.00"},
		{name: "borne by the merchant", action: ToMerchant, then: Long, end: ToMerchant, loses: "0.00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
				w := newTown(t, db)
				who := alice
				if c.paid {
					who = early
				}
				f, _ := w.sale(who, wednesday, 100_00)
				late := w.drop("north", f.RRN)
				if c.paid {
					if _, err := w.books.CatchUp(t.Context()); err != nil {
						t.Fatal(err)
					}
					if _, err := w.books.PayEarly(t.Context(), wednesday, 1600, at(wednesday, 16)); err != nil {
						t.Fatal(err)
					}
				}
				for d := wednesday; d <= friday; d = d.AddDays(1) {
					w.sale(alice, d, 500_00)
					w.night(d)
				}
				w.resolve(w.only(Query{State: Open}), c.action, saturday)
				late.Amount -= c.less
				w.tell("north", late)
				w.sale(alice, saturday, 500_00)
				w.night(saturday)
				if c.then != "" {
					b := w.only(Query{Kind: c.then})
					w.resolve(b, c.end, saturday)
				}
				w.sale(alice, saturday.AddDays(1), 500_00)
				w.night(saturday.AddDays(1))
				w.wants("1101=0.00 1901=0.00 2301=0.00 5901=" + c.loses)
				if all, err := w.e.Breaks(t.Context(), Query{Kind: Short}); err != nil || len(all) != 1 || all[0].Action != c.action || (all[0].Note == "in the file of 2026-11-21 after all") != (c.action == ToLoss) {
					t.Errorf("%+v, %v", all, err)
				}
				w.sound()
			})
		})
	}
}

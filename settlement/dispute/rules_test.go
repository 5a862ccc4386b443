package dispute

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"acquirer/audit"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
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
		if _, err := w.e.Answer(t.Context(), id, GiveIn, ann, now); !errors.Is(err, audit.ErrTwoPeople) {
			t.Errorf("the same person again: %v", err)
		}
		if _, done, err := w.e.Close(t.Context(), id, Lost, "", ann, now); !errors.Is(err, audit.ErrTwoPeople) || done {
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

// An issuer of debit cards charges back once; what it does not believe then it
// takes to pre-arbitration.
func TestDebitCardHasNoSecondChargeback(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		w.do("1 chargeback debit\n2 evidence\n2 represent")
		it := Item{Key: "second", Source: "north", Stage: Second, Date: monday.AddDays(5), Payment: Payment{Txn: 1, RRN: "000000000001", Merchant: alice, Amount: 100_00, Debit: true}}
		if _, err := w.e.Take(t.Context(), it, north, at(monday.AddDays(5))); !errors.Is(err, ErrAction) || !strings.Contains(err.Error(), "none for debit cards") {
			t.Errorf("a second chargeback: %v", err)
		}
		if _, err := w.e.Tell(t.Context(), it, ann, at(monday.AddDays(5))); !errors.Is(err, ErrAction) {
			t.Errorf("by word: %v", err)
		}
		w.do(`
			5 is chargeback answered
			5 has 2101=496.40 2104=100.00 1101=592.11
			5 pre_arbitration debit
			6 arbitrate
			20 ruling-won debit
			20 has 2101=596.40 2104=0.00 1101=592.11`)
	})
}

// A payment is charged back a first time once, whatever came of it: another such
// item, with a number of its own, moves nothing. From a file it is a task.
func TestFirstChargebackComesOnce(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		for i, x := range []struct{ until, has string }{
			{"1 chargeback", "6 is chargeback open\n6 has 2101=496.40 2104=0.00 1101=492.11 5105=5.00"},
			{"1 chargeback\n2 evidence\n2 represent", "6 is chargeback answered\n6 has 2101=496.40 2104=100.00 1101=592.11 5105=5.00"},
			{"1 chargeback\n2 accept", "6 is chargeback lost\n6 has 2101=496.40 2104=0.00 1101=492.11 5105=5.00"},
			{"1 chargeback\n2 close won", "6 is chargeback won\n6 has 2101=596.40 2104=0.00 1101=592.11 5105=5.00"},
			{"1 chargeback 40.00\n2 evidence", "6 is chargeback open\n6 has 2101=556.40 2104=0.00 1101=552.11 5105=5.00"}, // nor for the rest
		} {
			if i > 0 && db.Postgres() {
				return // the engine differs in nothing of the others
			}
			if i > 0 {
				db = storetest.SQLite(t, schemas...)
			}
			w := newCourt(t, db, Terms{})
			w.do(x.until)
			now, p := at(monday.AddDays(6)), Payment{Txn: 1, RRN: "000000000001", Merchant: alice, Amount: 100_00}
			if _, err := w.e.Take(t.Context(), Item{Key: "again", Source: "north", Stage: Chargeback, Amount: 60_00, Fee: 5_00, Date: monday.AddDays(6), Payment: p}, north, now); !errors.Is(err, ErrAction) {
				t.Errorf("%q, then another: %v", x.until, err)
			}
			var b bytes.Buffer
			z := clearing.NewZME(&b, "01020000")
			if err := errors.Join(z.Write(clearing.ErrorItem{Kind: clearing.Chargeback, STAN: 9, Sent: "1122120000", Amount: 60_00, OriginalSTAN: 1, OriginalSent: "1116120000", Reason: "4853", Merchant: alice}), z.Close()); err != nil {
				t.Fatal(err)
			}
			got, err := w.e.Import(t.Context(), "north", monday.AddDays(6), func() iter.Seq2[clearing.ErrorItem, error] { return clearing.ReadZME(bytes.NewReader(b.Bytes())) },
				func(context.Context, clearing.ErrorItem) (Payment, error) { return p, nil }, north, now)
			if want := (Imported{Items: 1, Unfit: 1}); err != nil || got != want {
				t.Errorf("%q, then another by file: %+v, %v", x.until, got, err)
			}
			tasks, err := w.books.Tasks(t.Context(), 10)
			if err != nil || !slices.ContainsFunc(tasks, func(k settlement.Task) bool { return strings.Contains(k.Text, "a chargeback for case") }) {
				t.Errorf("%q: the tasks are %+v, %v", x.until, tasks, err)
			}
			w.do(x.has)
		}
	})
}

// A network rules on what it was asked to: not on a chargeback that was only
// represented.
func TestRulingNeedsArbitration(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		w.do("1 chargeback\n2 evidence\n2 represent")
		now := at(monday.AddDays(3))
		ruling := Item{Key: "ruling", Source: "north", Stage: Arbitration, Amount: 100_00, Won: true, Date: monday.AddDays(3), Payment: Payment{Txn: 1, RRN: "000000000001", Merchant: alice, Amount: 100_00}}
		if _, err := w.e.Take(t.Context(), ruling, north, now); !errors.Is(err, ErrAction) {
			t.Errorf("%v", err)
		}
		w.do("3 is chargeback answered\n3 has 2104=100.00")
	})
}

// What went back to the payer before is the answer to send: the history and the
// task say it.
func TestWhatWentBackIsSaid(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		now := at(monday.AddDays(1))
		it := Item{Key: "a", Source: "north", Stage: Chargeback, Amount: 100_00, Date: monday.AddDays(1), Payment: Payment{Txn: 1, RRN: "000000000001", Merchant: alice, Amount: 100_00, Gone: 60_00}}
		c, err := w.e.Take(t.Context(), it, north, now)
		if err != nil {
			t.Fatal(err)
		}
		const said = "60.00 of 100.00 went back to the payer before"
		events, err := w.e.Events(t.Context(), c.ID)
		if err != nil || !strings.Contains(events[0].What, said) {
			t.Errorf("%+v, %v", events, err)
		}
		tasks, err := w.books.Tasks(t.Context(), 10)
		if err != nil || !slices.ContainsFunc(tasks, func(k settlement.Task) bool { return strings.Contains(k.Text, said) }) {
			t.Errorf("%+v, %v", tasks, err)
		}
	})
}

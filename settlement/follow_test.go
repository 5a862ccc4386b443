package settlement

import (
	"fmt"
	"testing"

	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// after adds what follows a sale.
func (w *world) after(f Fact, does Does, amount money.Amount) Fact {
	w.txn++
	f.Txn, f.Original, f.Does, f.Amount, f.RRN = w.txn, f.Txn, does, amount, fmt.Sprintf("%012d", w.txn)
	return w.book.add(f)
}

// What follows a sale, and what the merchant has of it. MICRO-2025 takes 0.6 %
// and 3.00 of a credit card, so 100.00 brings 96.40.
func TestWhatFollowsASale(t *testing.T) {
	type step struct {
		does   Does
		amount money.Amount
		taken  bool // the step before is taken back
		after  money.Amount
	}
	for _, c := range []struct {
		name   string
		policy RefundFee
		steps  []step
	}{
		{"void", "", []step{{does: Voids, amount: 100_00, after: 0}}},
		{"void, and its reversal", "", []step{{does: Voids, amount: 100_00, after: 0}, {taken: true, after: 96_40}}},
		{"refund in parts, the rate comes back", ReturnPct, []step{{does: Refunds, amount: 33_33, after: 63_27}, {does: Refunds, amount: 33_33, after: 30_14}, {does: Refunds, amount: 33_34, after: -3_00}}},
		{"refund in parts, all comes back", ReturnAll, []step{{does: Refunds, amount: 33_33, after: 64_27}, {does: Refunds, amount: 33_33, after: 32_14}, {does: Refunds, amount: 33_34, after: 0}}},
		{"refund, nothing comes back", KeepFee, []step{{does: Refunds, amount: 40_00, after: 56_40}}},
		{"tip", "", []step{{does: Adjusts, amount: 10_00, after: 106_34}}},
		{"tip and void", "", []step{{does: Adjusts, amount: 10_00, after: 106_34}, {does: Voids, amount: 110_00, after: 0}}},
		{"tip and refund of all", ReturnPct, []step{{does: Adjusts, amount: 10_00, after: 106_34}, {does: Refunds, amount: 110_00, after: -3_00}}},
		{"less after all", "", []step{{does: Adjusts, amount: -10_00, after: 86_46}}},
		{"moves nothing", "", []step{{does: Nothing, after: 96_40}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
				w := newWorld(t, db)
				w.cfg.RefundFee = c.policy
				e := w.engine()
				mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
				sale := w.sale(mid, friday, 100_00)
				last := sale
				for i, s := range c.steps {
					if s.taken {
						w.takeBack(last, clock(friday, 13, 0))
					} else {
						last = w.after(sale, s.does, s.amount)
					}
					for range 2 { // booked again, nothing changes
						if _, err := e.CatchUp(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if err := e.Post(t.Context(), w.book.facts); err != nil {
						t.Fatal(err)
					}
					if got := w.balance(e, ledger.MerchantPayable, mid); got != s.after {
						t.Fatalf("step %d: the merchant has %v, want %v", i+1, got, s.after)
					}
					w.sound(e)
				}
				w.close(e, friday)
				w.sound(e)
			})
		})
	}
}

// A sale that was settled and is refunded days later: the merchant's next day
// pays for it.
func TestRefundAfterSettlement(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		sale := w.sale(mid, friday, 100_00)
		w.close(e, friday)
		refund := w.after(sale, Refunds, 50_00)
		refund.Date = monday
		w.book.facts[len(w.book.facts)-1].Date = monday
		w.sale(mid, monday, 200_00)
		d := w.close(e, monday)
		if d.Gross != 150_00 || d.Fee != 4_20-30 {
			t.Errorf("Monday came to gross %v, fee %v; want 150.00 and 3.90", d.Gross, d.Fee)
		}
		w.sound(e)
		days, _, err := e.Merchants(t.Context(), monday)
		if err != nil || len(days) != 1 || days[0].Sales != 1 || days[0].Gross != 200_00 || days[0].Taken != 50_00 {
			t.Errorf("Monday by merchant: %+v %v", days, err)
		}
	})
}

// A sale that was settled and then adjusted to less: the merchant owes the
// difference, and whatever else there is to book is booked.
func TestAdjustmentAfterSettlement(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		sale := w.sale(mid, friday, 100_00)
		w.close(e, friday)
		w.after(sale, Adjusts, -10_00)
		w.book.facts[len(w.book.facts)-1].Date = monday
		other := w.merchant(2, "MICRO-2025", merchant.T1, "00")
		w.sale(other, monday, 100_00)
		if _, err := e.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.balance(e, ledger.MerchantPayable, mid); got != 96_40-9_94 { // and 96.40 is on its way
			t.Errorf("the merchant has %v, want 86.46", got)
		}
		if got := w.balance(e, ledger.MerchantPayable, other); got != 96_40 {
			t.Errorf("the other merchant has %v, want 96.40", got)
		}
		w.close(e, monday)
		w.sound(e)
	})
}

// What follows a sale that is not booked waits for a person.
func TestFollowerWithoutItsSale(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		lost := Fact{At: clock(friday, 12, 0), Txn: 999, Date: friday, RRN: "000000000999", Merchant: mid, Terminal: "10000001", Issuer: "north", Channel: merchant.Card, CardType: merchant.Credit, Amount: 100_00}
		w.after(lost, Refunds, 40_00)
		w.close(e, friday)
		w.sound(e)
		tasks, err := e.Tasks(t.Context(), 10)
		if err != nil || len(tasks) != 1 || tasks[0].Kind != "unpriced" {
			t.Fatalf("tasks %+v %v", tasks, err)
		}
		if got := w.balance(e, ledger.MerchantPayable, mid); got != 0 {
			t.Errorf("the merchant has %v", got)
		}
	})
}

// A tip of nothing moves no money: it is booked, priced or not, and taken back
// without a posting, and does not keep what comes behind it.
func TestAdjustmentByNothing(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		sale := w.sale(mid, friday, 100_00)
		w.takeBack(w.after(sale, Adjusts, 0), clock(friday, 13, 0))
		lost := sale
		lost.Txn, lost.RRN = 999, "000000000999"
		w.after(lost, Adjusts, 0)
		w.takeBack(w.after(lost, Adjusts, 0), clock(friday, 13, 0))
		if _, err := e.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := w.close(e, friday); d.Gross != 100_00 {
			t.Errorf("friday %+v", d)
		}
		if r, err := e.VerifyJournal(t.Context()); err != nil || len(r.Problems) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		w.sound(e)
	})
}

// A void whose answer was lost is taken back by its terminal and asked for
// again, all before the ledger has looked once.
func TestTwoVoidsAtOneGlance(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		sale := w.sale(mid, friday, 100_00)
		for range 2 {
			w.takeBack(w.after(sale, Voids, 100_00), clock(friday, 13, 0))
		}
		w.after(sale, Voids, 100_00)
		for range 2 {
			if err := e.Post(t.Context(), w.book.facts); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.balance(e, ledger.MerchantPayable, mid); got != 0 {
			t.Errorf("a sale that was voided leaves the merchant %v", got)
		}
		if tasks, err := e.Tasks(t.Context(), 10); err != nil || len(tasks) != 0 {
			t.Errorf("tasks %+v %v", tasks, err)
		}
		w.close(e, friday)
		w.sound(e)
	})
}

// A refund whose sale nobody names costs the merchant what it gives back, and
// no fee as if it had sold.
func TestRefundOfNoSale(t *testing.T) {
	for _, policy := range []RefundFee{KeepFee, ReturnPct, ReturnAll} {
		t.Run(string(policy), func(t *testing.T) {
			storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
				w := newWorld(t, db)
				w.cfg.RefundFee = policy
				e := w.engine()
				mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
				w.after(Fact{At: clock(friday, 12, 0), Date: friday, Merchant: mid, Terminal: "10000001", Issuer: "north", Channel: merchant.Card, CardType: merchant.Credit}, Refunds, 40_00)
				if _, err := e.CatchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := w.balance(e, ledger.MerchantPayable, mid); got != -40_00 {
					t.Errorf("the merchant has %v, want -40.00", got)
				}
				for _, a := range []ledger.Account{ledger.IncomeRate, ledger.IncomeFixed, ledger.CostIssuer, ledger.CostNetwork} {
					if got := w.balance(e, a, ""); got != money.Amount(0) {
						t.Errorf("%v has %v", a, got)
					}
				}
				w.close(e, friday)
				w.sound(e)
			})
		})
	}
}

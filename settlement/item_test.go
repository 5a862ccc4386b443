package settlement

import (
	"errors"
	"testing"

	"acquirer/audit"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A chargeback comes off what the merchant is paid next and off what the
// network owes; won, it comes back without the network's fee. Twice has one
// effect.
func TestChargeback(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		sale := w.sale(mid, friday, 100_00)
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		second := w.sale(mid, monday, 50_00)
		cb := Chargeback{Key: "C1", Merchant: mid, Txn: sale.Txn, Amount: 100_00, Fee: 5_00, Text: "not as described"}
		for range 2 {
			must(t, e.Chargeback(ctx, cb, clock(monday, 11, 0)))
		}
		other := cb
		other.Amount = 99_00
		if err := e.Chargeback(ctx, other, clock(monday, 11, 0)); !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("another amount under its key: %v", err)
		}
		for _, bad := range []Chargeback{{}, {Key: "x", Merchant: mid}, {Key: "x", Amount: 1}, {Key: "x", Merchant: mid, Amount: 1, Fee: -1}} {
			if err := e.Chargeback(ctx, bad, clock(monday, 11, 0)); !errors.Is(err, ErrChargeback) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		w.sound(e)
		if d := w.close(e, monday); d.Gross != 50_00 || d.Other != -100_00 || d.CarryOut != 49_70-100_00 || d.Payouts != 0 {
			t.Errorf("monday %+v", d)
		}
		if a, err := e.Arrival(ctx, second.Txn, clock(friday, 12, 0)); err != nil || a.Other != -100_00 || len(a.Payouts) != 0 || a.Reason != "a debt of 50.30 is carried over" {
			t.Errorf("where the money of the second sale is: %+v, %v", a, err)
		}
		if owed, err := e.Expected(ctx, monday, ""); err != nil || owed != 50_00-25-105_00 {
			t.Errorf("the network owes %s, %v", owed, err)
		}
		w.sound(e)
		tuesday := monday.AddDays(1)
		if err := e.ChargebackWon(ctx, "C1", 101_00, clock(tuesday, 9, 0)); !errors.Is(err, ErrChargeback) {
			t.Errorf("won more than was lost: %v", err)
		}
		if err := e.ChargebackWon(ctx, "nobody", 1, clock(tuesday, 9, 0)); !errors.Is(err, ErrChargeback) {
			t.Errorf("won what nobody booked: %v", err)
		}
		for range 2 {
			must(t, e.ChargebackWon(ctx, "C1", 100_00, clock(tuesday, 9, 0)))
		}
		must(t, e.ExtraFee(ctx, "SIM-2", mid, 30_00, "SIM year 2", clock(tuesday, 9, 0)))
		if d := w.close(e, tuesday); d.Other != 70_00 || d.CarryOut != 0 || d.PayoutTotal != 49_70-30_00 {
			t.Errorf("tuesday %+v", d)
		}
		w.sound(e)
		for account, want := range map[ledger.Account]money.Amount{ledger.CostErrors: 5_00, ledger.IncomeDevice: 30_00, ledger.MerchantFrozen: 0} {
			if got := w.balance(e, account, ""); got != want {
				t.Errorf("%s: %s, want %s", account, got, want)
			}
		}
		// A fee that was charged by mistake goes back once, to whom it was taken from.
		wednesday := tuesday.AddDays(1)
		for range 2 {
			if fee, err := e.ExtraFeeBack(ctx, "SIM-2", mid, "by mistake", clock(wednesday, 9, 0)); err != nil || fee != 30_00 {
				t.Errorf("gave back %s, %v", fee, err)
			}
		}
		for key, of := range map[string]string{"SIM-2/back": mid, "SIM-3": mid, "SIM-2": "898110000000000"} {
			if fee, err := e.ExtraFeeBack(ctx, key, of, "by mistake", clock(wednesday, 9, 0)); !errors.Is(err, ErrNoFee) {
				t.Errorf("%s of %s: gave back %s, %v", key, of, fee, err)
			}
		}
		if d := w.close(e, wednesday); d.Other != 30_00 || d.PayoutTotal != 30_00 {
			t.Errorf("wednesday %+v", d)
		}
		if got := w.balance(e, ledger.IncomeDevice, ""); got != 0 {
			t.Errorf("%s of SIM years is kept", got)
		}
		w.sound(e)
	})
}

// A hold keeps money back from the moment it is asked for, out of what waits
// and out of payouts that were not sent; two people make it sure, two give it back.
func TestHold(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx, now := w.engine(), t.Context(), clock(saturday, 10, 0)
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		w.close(e, friday) // a payout of 99.40 waits for monday
		w.sale(mid, saturday, 50_00)
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if err := e.AskHold(ctx, Hold{Key: "H0", Merchant: mid, Amount: 149_11, Reason: "cash-out", AskedBy: "li"}, now); !errors.Is(err, ledger.ErrInsufficient) {
			t.Errorf("more than there is: %v", err)
		}
		h := Hold{Key: "H1", Merchant: mid, Amount: 60_00, Reason: "cash-out", AskedBy: "li"}
		for range 2 {
			must(t, e.AskHold(ctx, h, now))
		}
		h.Amount = 1
		if err := e.AskHold(ctx, h, now); !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("another amount under its key: %v", err)
		}
		if err := e.AskHold(ctx, Hold{Key: "H9", Merchant: mid, Amount: 1}, now); err == nil {
			t.Error("a hold without a reason or anybody who asks")
		}
		w.sound(e)
		if err := e.ConfirmHold(ctx, "H1", " Li", now); !errors.Is(err, audit.ErrTwoPeople) {
			t.Errorf("confirmed by who asked: %v", err)
		}
		if err := e.AskRelease(ctx, "H1", "li", now); !errors.Is(err, ErrHold) {
			t.Errorf("released before it is sure: %v", err)
		}
		for range 2 {
			must(t, e.ConfirmHold(ctx, "H1", "wang", now))
		}
		if err := e.RefuseHold(ctx, "H1", "wang", now); !errors.Is(err, ErrHold) {
			t.Errorf("refused after it is sure: %v", err)
		}
		if got := w.balance(e, ledger.MerchantFrozen, mid); got != 60_00 {
			t.Errorf("held %s", got)
		}
		w.sound(e)
		// 49.70 were waiting; the payout gave the rest.
		if d := w.close(e, saturday); d.Other != -49_70 || d.Payouts != 0 || d.CarryOut != 0 {
			t.Errorf("saturday %+v", d)
		}
		if p := w.pay(e, clock(monday, 10, 0)); p.Sent != 1 || p.Total != 99_40-10_30 {
			t.Errorf("monday %+v", p)
		}
		w.sound(e)
		// A chargeback uses what is held first.
		must(t, e.Chargeback(ctx, Chargeback{Key: "C1", Merchant: mid, Amount: 40_00, Hold: "H1"}, clock(monday, 11, 0)))
		if got := w.balance(e, ledger.MerchantPayable, mid); got != 0 {
			t.Errorf("payable %s", got)
		}
		must(t, e.AskRelease(ctx, "H1", "wang", clock(monday, 12, 0)))
		if err := e.Release(ctx, "H1", "WANG", clock(monday, 12, 0)); !errors.Is(err, audit.ErrTwoPeople) {
			t.Errorf("released by who asked: %v", err)
		}
		for range 2 {
			must(t, e.Release(ctx, "H1", "li", clock(monday, 12, 0)))
		}
		if d := w.close(e, monday); d.Other != 20_00 || d.PayoutTotal != 20_00 {
			t.Errorf("monday %+v", d)
		}
		w.sound(e)
		if all, err := e.Holds(ctx, mid, true, 10); err != nil || len(all) != 1 || all[0].State != HoldFreed || all[0].FreedBy != "li" || all[0].Remains != 0 {
			t.Errorf("holds %+v, %v", all, err)
		}
	})
}

// A hold that is refused or that nobody confirms gives everything back; one of
// a case needs no second person.
func TestHoldEnds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx, now := w.engine(), t.Context(), clock(friday, 23, 10)
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		w.close(e, friday)
		hold := func(key string, amount money.Amount) Hold {
			return Hold{Key: key, Merchant: mid, Amount: amount, Reason: "retrieval", AskedBy: "li"}
		}
		must(t, e.AskHold(ctx, hold("refused", 99_40), now)) // the whole payout: nothing is left of it
		days, _, err := e.Merchants(ctx, friday)
		if err != nil || len(days) != 1 || days[0].State != Failed || days[0].Reason != "cut by 99.40 for hold refused" {
			t.Errorf("the day of a payout that a hold took: %+v, %v", days, err)
		}
		if open, err := e.PayoutsOf(ctx, mid, 10); err != nil || len(open) != 1 || open[0].Child != "" {
			t.Errorf("the payout is shown as replaced: %+v, %v", open, err)
		}
		must(t, e.RefuseHold(ctx, "refused", "li", now))
		w.sound(e)
		if d := w.close(e, saturday); d.PayoutTotal != 99_40 {
			t.Errorf("saturday %+v", d)
		}
		if _, err := e.Reissue(ctx, "20261120-"+mid+"-T1-0", now); !errors.Is(err, ErrReissue) {
			t.Errorf("a payout that a hold took: %v", err)
		}
		must(t, e.AskHold(ctx, hold("forgotten", 30_00), clock(saturday, 23, 10)))
		must(t, w.db.Write(ctx, func(tx store.Tx) error {
			held, err := e.HoldForCaseTx(tx, hold("case", 20_00), clock(saturday, 23, 10))
			if err == nil && held != 20_00 {
				t.Errorf("held %s", held)
			}
			return err
		}))
		w.pay(e, clock(monday, 10, 0)) // 49.40
		w.pay(e, clock(monday.AddDays(1), 23, 11))
		w.sound(e)
		if err := e.ConfirmHold(ctx, "forgotten", "wang", clock(monday.AddDays(1), 23, 12)); !errors.Is(err, ErrHold) {
			t.Errorf("confirmed after it lapsed: %v", err)
		}
		for range 2 {
			must(t, w.db.Write(ctx, func(tx store.Tx) error {
				return e.ReleaseForCaseTx(tx, "case", "dispute", clock(monday.AddDays(1), 23, 12))
			}))
		}
		if err := w.db.Write(ctx, func(tx store.Tx) error { return e.ReleaseForCaseTx(tx, "forgotten", "dispute", now) }); !errors.Is(err, ErrHold) {
			t.Errorf("a case released what lapsed: %v", err)
		}
		if d := w.close(e, monday.AddDays(2)); d.PayoutTotal != 50_00 {
			t.Errorf("wednesday %+v", d)
		}
		w.sound(e)
		var paid money.Amount
		for _, p := range w.bank.Payouts() {
			paid += p.Amount
		}
		if paid != 49_40 {
			t.Errorf("the bank paid %s", paid)
		}
	})
}

package settlement

import (
	"errors"
	"testing"

	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// A hold takes from what is paid last, and what is left of that is paid on its day.
func TestHoldCutsWhatIsPaidLast(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.register(1, 2, "ESIGN-STD", merchant.T1) // 10,000.00 a day
		w.sale(mid, friday, 25_000_00)
		w.close(e, friday) // 10,000.00, 10,000.00 and 4,850.00
		must(t, e.AskHold(ctx, Hold{Key: "h", Merchant: mid, Amount: 6_000_00, Reason: "looks like a cash-out", AskedBy: "li"}, clock(friday, 23, 10)))
		ref := "20261120-" + mid + "-T1-0"
		for _, c := range []struct {
			ref    string
			state  PayoutState
			amount money.Amount
			child  string
		}{
			{ref, Created, 10_000_00, ""},
			{ref + "b", Failed, 10_000_00, ref + "b-R1"},
			{ref + "b-R1", Created, 8_850_00, ""},
			{ref + "c", Failed, 4_850_00, noChild},
		} {
			if p := w.payout(e, c.ref); p.state != c.state || p.amount != c.amount || p.child != c.child {
				t.Errorf("%s is %s of %s, replaced by %q; want %+v", c.ref, p.state, p.amount, p.child, c)
			}
		}
		if was, is := w.payout(e, ref+"b"), w.payout(e, ref+"b-R1"); was.due != is.due {
			t.Errorf("what is left is due %s, and was %s", is.due, was.due)
		}
		w.sound(e)
	})
}

// A case of the network's gives back what it held itself, and uses no other
// merchant's hold.
func TestHoldsAreNotEachOthers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx, now := w.engine(), t.Context(), clock(friday, 13, 0)
		a, b := w.merchant(1, "ESIGN-STD", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.T1, "00")
		w.sale(a, friday, 100_00)
		w.sale(b, friday, 100_00)
		catchUp(t, e)
		must(t, e.AskHold(ctx, Hold{Key: "people", Merchant: a, Amount: 40_00, Reason: "looks like a cash-out", AskedBy: "li"}, now))
		must(t, e.ConfirmHold(ctx, "people", "wang", now))
		if err := e.db.Write(ctx, func(tx store.Tx) error { return e.ReleaseForCaseTx(tx, "people", "dispute", now) }); !errors.Is(err, ErrHold) {
			t.Errorf("a case released what two people hold: %v", err)
		}
		if err := e.Chargeback(ctx, Chargeback{Key: "c", Merchant: b, Amount: 10_00, Hold: "people"}, now); !errors.Is(err, ErrHold) {
			t.Errorf("a chargeback of one merchant out of another's hold: %v", err)
		}
		if got := w.balance(e, ledger.MerchantFrozen, a); got != 40_00 {
			t.Errorf("held %s", got)
		}
		w.sound(e)
	})
}

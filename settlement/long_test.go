package settlement

import (
	"errors"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
)

// says lets the bank say something about a payout of 99.40, twice: what is heard
// again changes nothing.
func (w *world) says(e *Engine, ref string, status Status, now time.Time) {
	w.t.Helper()
	var before string
	for i := range 2 {
		if _, err := e.apply(w.t.Context(), Answer{Reference: ref, Status: status, Amount: 99_40, Reason: "so"}, now); err != nil {
			w.t.Fatal(err)
		}
		w.sound(e)
		w.derived(e)
		if i == 0 {
			before = w.tables()
		} else if after := w.tables(); after != before {
			w.t.Fatalf("%s again changed:\n%s", status, difference(before, after))
		}
	}
}

// failed makes a sale of 100.00 whose payout of 99.40 the bank never received, as
// it says two hours later.
func (w *world) failed(e *Engine, speed merchant.Speed) (mid, ref string) {
	w.t.Helper()
	mid = w.merchant(1, "ESIGN-STD", speed, "92")
	w.sale(mid, friday, 100_00)
	w.close(e, friday)
	w.pay(e, clock(monday, 10, 0))
	w.pay(e, clock(monday, 12, 0))
	ref = "20261120-" + mid + "-T1-0"
	if p := w.payout(e, ref); p.state != Failed {
		w.t.Fatalf("payout %+v", p)
	}
	return mid, ref
}

func (w *world) reissue(e *Engine, ref string, now time.Time) string {
	w.t.Helper()
	child, err := e.Reissue(w.t.Context(), ref, now)
	if err != nil {
		w.t.Fatal(err)
	}
	return child
}

// recover lets li ask for the end of a long payout and wang do it.
func (w *world) recover(e *Engine, ref string, loss bool, now time.Time) {
	w.t.Helper()
	for i, by := range []string{"li", "wang", "wang"} { // a third time changes nothing
		done, err := e.Recover(w.t.Context(), ref, loss, by, now)
		if err != nil || done != (i > 0) {
			w.t.Fatalf("%s recovers %s: done %v, %v", by, ref, done, err)
		}
		w.sound(e)
		w.derived(e)
	}
}

// tasksOf lists the keys of the tasks that wait.
func (w *world) tasksOf(e *Engine) string {
	w.t.Helper()
	tasks, err := e.Tasks(w.t.Context(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	var keys []string
	for _, x := range tasks {
		keys = append(keys, x.Key)
	}
	return strings.Join(keys, " ")
}

// stands compares balances: of the merchant's payable, of what came back for it,
// of suspense and of what was given up.
func (w *world) stands(e *Engine, mid string, payable, returned, suspense, given money.Amount) {
	w.t.Helper()
	for _, c := range []struct {
		account ledger.Account
		sub     string
		want    money.Amount
	}{{ledger.MerchantPayable, mid, payable}, {ledger.PayoutReturned, mid, returned}, {ledger.SuspenseShort, "", suspense}, {ledger.WriteOff, "", given}} {
		if got := w.balance(e, c.account, c.sub); got != c.want {
			w.t.Error(c.account, "is", got, "and not", c.want)
		}
	}
}

// Nothing replaced it: it is paid, as if the bank had said so in time, and may
// still come back.
func TestPaidAfterAll(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid, ref := w.failed(e, merchant.T1)
		bank := w.balance(e, ledger.ClientBank, "")
		w.says(e, ref, Succeeded, clock(monday, 13, 0))
		if p := w.payout(e, ref); p.state != Paid || p.long || p.reason != "paid after all: the bank never received it" || w.tasksOf(e) != "" {
			t.Errorf("payout %+v, tasks %s", p, w.tasksOf(e))
		}
		w.stands(e, mid, 0, 0, 0, 0)
		if got := bank - w.balance(e, ledger.ClientBank, ""); got != 99_40 {
			t.Errorf("%s left the bank", got)
		}
		if _, err := e.Reissue(t.Context(), ref, clock(monday, 14, 0)); !errors.Is(err, ErrReissue) {
			t.Errorf("issuing again what was paid: %v", err)
		}
		if _, err := e.Recover(t.Context(), ref, false, "li", clock(monday, 14, 0)); !errors.Is(err, ErrLong) || !strings.Contains(err.Error(), "still owed") {
			t.Errorf("recovering what was owed: %v", err)
		}
		w.says(e, ref, Returned, clock(monday, 15, 0))
		w.stands(e, mid, 0, 99_40, 0, 0)
		w.reissue(e, ref, clock(monday, 16, 0))
		w.sound(e)
		w.derived(e)
	})
}

// failedAdvance makes a sale of 100.00 that is paid early, and whose payout the
// bank never received.
func (w *world) failedAdvance(e *Engine) (mid, ref string, amount money.Amount) {
	w.t.Helper()
	mid = w.merchant(1, "ESIGN-STD", merchant.D0, "92")
	w.sale(mid, friday, 100_00)
	if _, err := e.PayEarly(w.t.Context(), friday, 1600, clock(friday, 16, 0)); err != nil {
		w.t.Fatal(err)
	}
	w.pay(e, clock(friday, 16, 5))
	w.pay(e, clock(friday, 18, 10))
	open, err := e.PayoutsOpen(w.t.Context(), 10)
	if err != nil || len(open) != 1 || open[0].State != Failed || !w.payout(e, open[0].Ref).advance {
		w.t.Fatalf("payouts %+v, %v", open, err)
	}
	return mid, open[0].Ref, open[0].Amount
}

// An advance is our own money, which is gone whether we still had it or not; the
// network's repays it.
func TestAdvancePaidAfterAll(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.PayoutCost = 50
		e := w.engine()
		w.fund(e, 100_00)
		_, ref, amount := w.failedAdvance(e)
		for range 2 {
			if _, err := e.apply(t.Context(), Answer{Reference: ref, Status: Succeeded, Amount: amount}, clock(friday, 20, 0)); err != nil {
				t.Fatal(err)
			}
			w.sound(e)
			w.derived(e)
		}
		if p := w.payout(e, ref); p.state != Paid || w.tasksOf(e) != "" {
			t.Errorf("payout %+v, tasks %s", p, w.tasksOf(e))
		}
		if own, lent := w.balance(e, ledger.OwnBank, ""), w.balance(e, ledger.AdvanceD0, ""); own != 100_00-amount-50 || lent != amount {
			t.Errorf("own money %s, lent %s", own, lent)
		}
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		w.sound(e)
		w.derived(e)
		if own, lent := w.balance(e, ledger.OwnBank, ""), w.balance(e, ledger.AdvanceD0, ""); own != 100_00-50 || lent != 0 {
			t.Errorf("repaid: own money %s, lent %s", own, lent)
		}
	})
}

// It was replaced: the replacement waits, and two people take it for what was
// paid; or the bank brings the money back, and the replacement is sent.
func TestLongReplaced(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid, ref := w.failed(e, merchant.T1)
		if err := w.reg.Put(ctx, []merchant.Merchant{w.shop(mid, "ESIGN-STD", merchant.T1, "00")}, nil); err != nil {
			t.Fatal(err)
		}
		child := w.reissue(e, ref, clock(monday, 13, 0))
		if _, err := e.Recover(ctx, ref, false, "li", clock(monday, 13, 0)); !errors.Is(err, ErrLong) {
			t.Errorf("recovering what only failed: %v", err)
		}
		w.says(e, ref, Succeeded, clock(monday, 13, 30))
		w.stands(e, mid, 99_40, 0, 99_40, 0)
		if p := w.pay(e, clock(monday, 14, 0)); p.Held != 1 || p.Sent != 0 {
			t.Errorf("the replacement of what was paid: %+v", p)
		}
		if got := w.tasksOf(e); got != "payout_long/"+ref+" held/"+child {
			t.Errorf("tasks %s", got)
		}
		if reason := w.payout(e, child).reason; !strings.Contains(reason, "acquirer payout recover "+ref) {
			t.Errorf("it waits for %q", reason)
		}
		if _, err := e.Recover(ctx, ref, false, "", clock(monday, 15, 0)); !errors.Is(err, ErrLong) {
			t.Errorf("recovered by nobody: %v", err)
		}
		for range 2 {
			if done, err := e.Recover(ctx, ref, true, "li", clock(monday, 15, 0)); !errors.Is(err, ErrLong) || done {
				t.Errorf("given up while it is not lost: %v, %v", done, err)
			}
		}
		if _, err := e.Recover(ctx, ref, false, "zhao", clock(monday, 15, 0)); err != nil {
			t.Fatal(err)
		}
		if done, err := e.Recover(ctx, ref, false, "zhao", clock(monday, 15, 0)); !errors.Is(err, audit.ErrTwoPeople) || done {
			t.Errorf("alone: %v, %v", done, err)
		}
		if done, err := e.Recover(ctx, ref, false, "wang", clock(monday, 15, 0)); !done || err != nil {
			t.Fatalf("by two: done %v, %v", done, err)
		}
		w.stands(e, mid, 0, 0, 0, 0)
		if p := w.payout(e, child); p.state != Failed || p.child != noChild || w.tasksOf(e) != "" {
			t.Errorf("the replacement is %+v, tasks %s", p, w.tasksOf(e))
		}
		if _, err := e.Reissue(ctx, child, clock(monday, 16, 0)); !errors.Is(err, ErrReissue) {
			t.Errorf("issuing it again: %v", err)
		}
		if _, err := e.Recover(ctx, ref, true, "li", clock(monday, 16, 0)); !errors.Is(err, ErrLong) {
			t.Errorf("giving up what was recovered: %v", err)
		}
		w.sound(e)
		w.derived(e)
		// The bank brings it back after all: it is the merchant's, with its next day.
		w.says(e, ref, Returned, clock(monday, 17, 0))
		w.stands(e, mid, 99_40, 0, 0, 0)
		w.close(e, monday)
		w.pay(e, clock(monday.AddDays(1), 10, 0))
		w.stands(e, mid, 0, 0, 0, 0)
		w.sound(e)
		w.derived(e)
	})
}

func TestLongBroughtBack(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid, ref := w.failed(e, merchant.T1)
		if err := w.reg.Put(ctx, []merchant.Merchant{w.shop(mid, "ESIGN-STD", merchant.T1, "00")}, nil); err != nil {
			t.Fatal(err)
		}
		child := w.reissue(e, ref, clock(monday, 13, 0))
		w.says(e, ref, Succeeded, clock(monday, 13, 30))
		w.pay(e, clock(monday, 14, 0))
		w.says(e, ref, Returned, clock(monday, 15, 0))
		w.says(e, ref, Succeeded, clock(monday, 15, 1)) // its feed, read again
		if p := w.pay(e, clock(monday, 16, 0)); p.Paid != 1 || w.payout(e, child).state != Paid || w.tasksOf(e) != "" {
			t.Errorf("%+v, tasks %s", p, w.tasksOf(e))
		}
		w.stands(e, mid, 0, 0, 0, 0)
	})
}

// Both were paid: the merchant has it twice. It is taken from what it sells next,
// or given up.
func TestLongPaidTwice(t *testing.T) {
	twice := func(w *world) (e *Engine, mid, ref string) {
		e = w.engine()
		mid, ref = w.failed(e, merchant.T1)
		if err := w.reg.Put(w.t.Context(), []merchant.Merchant{w.shop(mid, "ESIGN-STD", merchant.T1, "00")}, nil); err != nil {
			w.t.Fatal(err)
		}
		w.reissue(e, ref, clock(monday, 13, 0))
		w.pay(e, clock(monday, 13, 1))
		w.says(e, ref, Succeeded, clock(monday, 14, 0))
		w.stands(e, mid, 0, 0, 99_40, 0)
		return e, mid, ref
	}
	t.Run("taken", func(t *testing.T) {
		each(t, func(t *testing.T, w *world) {
			e, mid, ref := twice(w)
			w.recover(e, ref, false, clock(monday, 15, 0))
			w.stands(e, mid, -99_40, 0, 0, 0)
			w.sale(mid, monday, 200_00)
			w.close(e, monday)
			w.pay(e, clock(monday.AddDays(1), 10, 0))
			if p := w.payout(e, "20261123-"+mid+"-T1-0"); p.state != Paid || p.amount != 198_80-99_40 {
				t.Errorf("the next payout: %+v", p)
			}
			w.stands(e, mid, 0, 0, 0, 0)
			w.sound(e)
			w.derived(e)
		})
	})
	t.Run("given up", func(t *testing.T) {
		each(t, func(t *testing.T, w *world) {
			e, mid, ref := twice(w)
			w.recover(e, ref, true, clock(monday, 15, 0))
			w.stands(e, mid, 0, 0, 0, 99_40)
			w.says(e, ref, Returned, clock(monday, 16, 0))
			w.stands(e, mid, 0, 0, 0, 0)
		})
	})
}

// A refund used what the failed payout would have paid, so that not all of what
// the bank paid is owed.
func TestLongSpent(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid, ref := w.failed(e, merchant.T1)
		if err := e.ExtraFee(t.Context(), "repair", mid, 30_00, "repair", clock(monday, 13, 0)); err != nil {
			t.Fatal(err)
		}
		w.says(e, ref, Succeeded, clock(monday, 14, 0))
		w.stands(e, mid, 69_40, 0, 99_40, 0)
		w.recover(e, ref, false, clock(monday, 15, 0))
		w.stands(e, mid, -30_00, 0, 0, 0)
		if got := w.tasksOf(e); got != "" {
			t.Errorf("tasks %s", got)
		}
	})
}

// A hold took a part of the replacement: the rest is the merchant's debt.
func TestLongCut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid, ref := w.failed(e, merchant.T1)
		w.reissue(e, ref, clock(monday, 13, 0))
		if err := e.AskHold(ctx, Hold{Key: "H", Merchant: mid, Amount: 40_00, Reason: "risk", AskedBy: "li"}, clock(monday, 13, 10)); err != nil {
			t.Fatal(err)
		}
		if err := e.ConfirmHold(ctx, "H", "wang", clock(monday, 13, 20)); err != nil {
			t.Fatal(err)
		}
		w.says(e, ref, Succeeded, clock(monday, 14, 0))
		w.recover(e, ref, false, clock(monday, 15, 0))
		w.stands(e, mid, -40_00, 0, 0, 0)
		if err := errors.Join(e.AskRelease(ctx, "H", "wang", clock(monday, 16, 0)), e.Release(ctx, "H", "li", clock(monday, 16, 0))); err != nil {
			t.Fatal(err)
		}
		w.stands(e, mid, 0, 0, 0, 0)
		w.sound(e)
		w.derived(e)
	})
}

// The money of an advance that is not owed is our loss until it is back.
func TestLongAdvance(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		w.fund(e, 300_00)
		mid, ref, amount := w.failedAdvance(e)
		w.reissue(e, ref, clock(friday, 19, 30))
		if _, err := e.apply(t.Context(), Answer{Reference: ref, Status: Succeeded, Amount: amount}, clock(friday, 20, 0)); err != nil {
			t.Fatal(err)
		}
		w.sound(e)
		w.derived(e)
		if got := w.balance(e, ledger.AdvanceRisk, ""); got != amount {
			t.Errorf("lost %s, want %s", got, amount)
		}
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		w.recover(e, ref, false, clock(monday, 10, 0))
		if lost, own := w.balance(e, ledger.AdvanceRisk, ""), w.balance(e, ledger.OwnBank, ""); lost != 0 || own != 300_00 {
			t.Errorf("recovered: lost %s, own money %s", lost, own)
		}
		w.stands(e, mid, 0, 0, 0, 0)
	})
}

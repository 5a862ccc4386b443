package settlement

import (
	"strings"
	"testing"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// A run takes nothing while an earlier one gathers or another one nets: what is
// given back for a sale depends on what was taken for it.
func TestRunsGatherInTheirOrder(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, 100_000_00)
		mid := w.merchant(1, "ESIGN-STD", merchant.D0, "00")
		w.sale(mid, friday, 100_00)
		catchUp(t, e)
		begun := func(seq int) *run {
			t.Helper()
			r := &run{e: e, date: friday, seq: seq, due: monday, now: clock(friday, 12, 0)}
			must(t, r.begin(ctx))
			return r
		}
		lines := func(r *run) (n int) {
			t.Helper()
			must(t, e.db.Read(ctx, func(tx store.Tx) error {
				return tx.QueryRow("select count(*) from settlement_line where run = $1", r.id).Scan(&n)
			}))
			return n
		}
		noon, second := begun(1200), begun(1201)
		must(t, second.gather(ctx))
		if second.state != runGathering || lines(second) != 0 {
			t.Errorf("the second run took %d lines before the first", lines(second))
		}
		must(t, noon.gather(ctx)) // its line
		must(t, noon.gather(ctx)) // no more: it nets
		if noon.state != runNetting || lines(noon) != 1 {
			t.Errorf("the first run has %d lines and is in state %d", lines(noon), noon.state)
		}
		w.sale(mid, friday, 200_00)
		catchUp(t, e)
		must(t, second.gather(ctx))
		if second.state != runGathering || lines(second) != 0 {
			t.Errorf("the second run took %d lines while the first nets", lines(second))
		}
		must(t, e.Resume(ctx, clock(friday, 12, 2)))
		if lines(second) != 1 {
			t.Errorf("the second run has %d lines in the end", lines(second))
		}
		w.sound(e)
	})
}

// A window takes the debts of those whom it pays, and leaves the others' to the
// day's close.
func TestWindowLeavesOthersDebts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx, noon := w.engine(), t.Context(), clock(friday, 12, 0)
		w.fund(e, 100_000_00)
		fast, slow := w.merchant(1, "ESIGN-STD", merchant.D0, "00"), w.merchant(2, "ESIGN-STD", merchant.T1, "00")
		w.sale(fast, friday, 1_000_00)
		w.sale(slow, friday, 100_00)
		catchUp(t, e)
		must(t, e.ExtraFee(ctx, "repair-1", fast, 10_00, "repair", noon))
		must(t, e.ExtraFee(ctx, "repair-2", slow, 20_00, "repair", noon))
		if d, err := e.PayEarly(ctx, friday, 1200, noon); err != nil || d.Merchants != 1 || d.Other != -10_00 {
			t.Errorf("noon: %+v, %v", d, err)
		}
		if d := w.close(e, friday); d.Merchants != 1 || d.Other != -20_00 || d.PayoutTotal != 99_40-20_00 {
			t.Errorf("evening: %+v", d)
		}
		w.sound(e)
	})
}

// When a merchant's payable account holds less than its batches come to, the first
// is paid, the second is not, whole, and a person is asked; the day closes.
func TestPayableHoldsTooLittle(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, 100_000_00)
		mid := w.merchant(1, "ESIGN-STD", merchant.D0, "00")
		w.sale(mid, friday, 1_000_00)
		w.sale(mid, friday, 1_000_00)
		catchUp(t, e)
		if err := e.db.Write(ctx, func(tx store.Tx) error { // one of two, as T1
			_, err := tx.Exec("update settlement_line set speed = 'T1', speed_fee = 0 where id = 1")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		must(t, e.ledger.Post(ctx, ledger.ShortResolved("by hand", friday, mid, 500_00))) // and not in settlement
		d := w.close(e, friday)
		if d.Payouts != 1 || d.PayoutTotal != 993_50 && d.PayoutTotal != 994_00 || d.CarryOut != 994_00+993_50-d.PayoutTotal {
			t.Errorf("closed %+v", d)
		}
		tasks, err := e.Tasks(ctx, 10)
		if err != nil || len(tasks) != 1 || tasks[0].Kind != "payable_short" || !strings.Contains(tasks[0].Text, "nothing is paid") {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
	})
}

// A sale with a tip that was paid early and is voided gives the whole fee for speed
// back, the tip's too.
func TestVoidGivesTheSpeedFeeOfATipBack(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, 100_000_00)
		mid := w.merchant(1, "ESIGN-STD", merchant.D0, "00")
		sale := w.sale(mid, friday, 1_000_00)
		w.after(sale, Adjusts, 1_000_00)
		if d, err := e.PayEarly(ctx, friday, 1200, clock(friday, 12, 5)); err != nil || d.SpeedFee != 1_00 {
			t.Fatalf("noon: %+v, %v", d, err)
		}
		w.pay(e, clock(friday, 12, 6))
		w.after(sale, Voids, 2_000_00)
		if d := w.close(e, friday); d.SpeedFee != -1_00 || d.Fee != -12_00 || d.Gross != -2_000_00 {
			t.Errorf("evening: %+v", d)
		}
		if got := w.balance(e, ledger.IncomeD0, ""); got != money.Amount(0) {
			t.Errorf("fees for speed %s", got)
		}
		w.sound(e)
	})
}

// What failed takes no room of an account's day.
func TestFailedPayoutLeavesRoom(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.register(1, 2, "ESIGN-STD", merchant.T1)
		w.sale(mid, friday, 9_000_00)
		w.close(e, friday)
		now := clock(friday, 23, 10)
		must(t, e.AskHold(ctx, Hold{Key: "h", Merchant: mid, Amount: 8_946_00, Reason: "looks like a cash-out", AskedBy: "li"}, now)) // the whole payout
		must(t, e.RefuseHold(ctx, "h", "wang", now))
		w.sale(mid, saturday, 9_000_00)
		w.close(e, saturday)
		var due []string
		must(t, e.db.Read(ctx, func(tx store.Tx) error {
			rows, err := tx.Query("select due, amount from settlement_payout where state = 1 order by due")
			due, err = store.All(rows, err, func(r *store.Rows, s *string) error {
				var d calendar.Date
				var a money.Amount
				err := r.Scan(&d, &a)
				*s = d.String() + " " + a.String()
				return err
			})
			return err
		}))
		if got := strings.Join(due, ", "); got != "2026-11-23 10000.00, 2026-11-24 7892.00" {
			t.Errorf("payouts: %s", got)
		}
		w.sound(e)
	})
}

// Who enabled early payment stays on record when somebody does so again.
func TestEarlyPaymentIsEnabledOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.register(1, 1, "ESIGN-STD", merchant.S0)
		for _, by := range []string{"li", "wang"} {
			must(t, e.AllowFast(ctx, mid, by, clock(friday, 9, 0)))
		}
		var by string
		must(t, e.db.Read(ctx, func(tx store.Tx) error {
			return tx.QueryRow("select fast_by from settlement_merchant where merchant = $1", mid).Scan(&by)
		}))
		if by != "li" {
			t.Errorf("enabled by %s", by)
		}
	})
}

// A receipt is what it was: its reference with another amount is another one. What
// falls due on a date that is open is charged when it is closed.
func TestReceiptsAndExtrasInTheirOrder(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		w.close(e, friday)
		must(t, e.Receive(ctx, Receipt{Date: friday, Received: 99_52, Reference: "UP1"}, clock(monday, 9, 0)))
		if err := e.Receive(ctx, Receipt{Date: friday, Received: 99_53, Reference: "UP1"}, clock(monday, 9, 0)); err == nil || !strings.Contains(err.Error(), "99.52") {
			t.Errorf("the same reference with another amount: %v", err)
		}
		if _, err := e.ChargeExtras(ctx, saturday, clock(saturday, 12, 0)); err == nil || !strings.Contains(err.Error(), "is open") {
			t.Errorf("extras of the open date: %v", err)
		}
	})
}

// What a wallet keeps follows what is left of a payment, to the fen, however often
// something of it goes back.
func TestWalletFeeFollowsRefunds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.WalletPPM = 3_800
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		sale := w.book.add(Fact{At: clock(friday, 12, 0), Txn: 1, Date: friday, RRN: "000000000001", Merchant: mid, Terminal: "10000001", Issuer: "alipay", Wallet: "alipay", Channel: merchant.QR, Amount: 10_01})
		w.txn = 1
		left := sale.Amount
		for _, part := range []money.Amount{3_33, 3_33, 3_35} {
			w.after(sale, Refunds, part)
			catchUp(t, e)
			left -= part
			keeps, err := left.MulPPM(w.cfg.WalletPPM)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.balance(e, ledger.QRReceivable, "alipay"); got != left-keeps {
				t.Errorf("with %s left the wallet owes %s, want %s", left, got, left-keeps)
			}
		}
		w.sound(e)
	})
}

package settlement

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// shortDate sells on a Thursday, and on Friday advances 1,000.00 to a merchant
// while another gives back more than the date brings: the network owes nothing
// for it. The money of Thursday has come and was paid out.
func shortDate(t *testing.T, w *world) (e *Engine, fast, debtor string) {
	const thursday = friday - 1
	e = w.engine()
	w.fund(e, money.Yuan(10_000))
	fast, debtor = w.merchant(1, "ESIGN-STD", merchant.D0, "00"), w.merchant(2, "ESIGN-STD", merchant.T1, "00")
	old := w.sale(debtor, thursday, 3_000_00)
	w.close(e, thursday)
	w.receive(e, thursday, clock(friday, 9, 0))
	w.pay(e, clock(friday, 10, 0))
	w.sale(fast, friday, 1_000_00)
	refund := w.after(old, Refunds, 3_000_00)
	w.book.facts[refund.Cursor-1].Date = friday
	if _, err := e.PayEarly(t.Context(), friday, 1200, clock(friday, 12, 30)); err != nil {
		t.Fatal(err)
	}
	w.pay(e, clock(friday, 12, 31))
	w.close(e, friday)
	if sum, err := e.Expected(t.Context(), friday, ""); err != nil || sum >= 0 {
		t.Fatalf("the network owes %s for friday, %v", sum, err)
	}
	if lent := w.lent(e); lent == 0 || w.balance(e, ledger.MerchantPayable, debtor) >= 0 {
		t.Fatalf("lent %s; the debtor has %s", lent, w.balance(e, ledger.MerchantPayable, debtor))
	}
	return e, fast, debtor
}

// lent is what is advanced and not repaid, which both books must say.
func (w *world) lent(e *Engine) money.Amount {
	w.t.Helper()
	lent, due := w.balance(e, ledger.AdvanceD0, ""), w.balance(e, ledger.DueToOwnAdvance, "")
	if lent != due {
		w.t.Fatalf("OWN has lent %s and CLIENT owes it %s", lent, due)
	}
	return lent
}

// A date that comes to less than nothing has no money that could repay what was
// advanced for it. It is repaid from later money, but from none that a merchant is
// owed: not before the debts behind it are collected.
func TestAdvanceOfAShortDate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, _, debtor := shortDate(t, w)
		other := w.merchant(3, "ESIGN-STD", merchant.T1, "00")
		was := w.lent(e)
		bank := func(what string) {
			t.Helper()
			w.sound(e)
			w.derived(e)
			if have := w.balance(e, ledger.ClientBank, ""); have < 0 {
				t.Errorf("%s: the merchants' account holds %s", what, have)
			}
		}
		w.pay(e, clock(monday, 10, 0))
		if lent := w.lent(e); lent != was {
			t.Errorf("repaid %s of nothing", was-lent)
		}
		bank("nothing came")
		// Another merchant's money is not ours: it sells and is paid.
		w.sale(other, monday, 5_000_00)
		w.close(e, monday)
		w.receive(e, monday, clock(monday+1, 9, 0))
		if lent := w.lent(e); lent != was {
			t.Errorf("repaid %s with what another merchant is owed", was-lent)
		}
		w.pay(e, clock(monday+1, 10, 0))
		if lent := w.lent(e); lent != was {
			t.Errorf("repaid %s once that was paid", was-lent)
		}
		w.sound(e)
		// The debtor sells enough: what it owes is there, and so is the advance.
		w.sale(debtor, monday+1, 9_000_00)
		w.close(e, monday+1)
		w.receive(e, monday+1, clock(monday+2, 9, 0))
		if lent := w.lent(e); lent != 0 {
			t.Errorf("%s is still lent after the debt was collected", lent)
		}
		w.pay(e, clock(monday+2, 10, 0))
		w.sound(e)
		w.derived(e)
		if lent := w.lent(e); lent != 0 {
			t.Errorf("lent %s", lent)
		}
	})
}

// What the network deducts from the next date's money for a date that came to less
// than nothing is no difference; nor is what it takes from our account for it.
func TestReceiptOfAShortDate(t *testing.T) {
	for _, deducted := range []bool{true, false} {
		t.Run(map[bool]string{true: "deducted", false: "taken"}[deducted], func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				e, _, debtor := shortDate(t, w)
				ctx := t.Context()
				below, err := e.Expected(ctx, friday, "")
				must(t, err)
				w.sale(debtor, monday, 20_000_00) // what it brings pays for what the refund cost us too
				w.close(e, monday)
				next, err := e.Expected(ctx, monday, "")
				must(t, err)
				if err := e.Receive(ctx, Receipt{Date: monday, Received: -1, Reference: "X"}, clock(monday+1, 9, 0)); err == nil {
					t.Error("money was taken for a date that brings some")
				}
				if err := e.Receive(ctx, Receipt{Date: friday, Received: below - 1, Reference: "X"}, clock(monday+1, 9, 0)); err == nil {
					t.Error("more was taken than the date is short of")
				}
				receipts := []Receipt{{Date: monday, Received: next + below, Reference: "NET"}}
				if !deducted {
					receipts = []Receipt{{Date: friday, Received: below, Reference: "TAKEN"}, {Date: monday, Received: next, Reference: "NET"}}
				}
				for range 2 { // the second time changes nothing
					for _, r := range receipts {
						must(t, e.Receive(ctx, r, clock(monday+1, 9, 0)))
					}
				}
				w.pay(e, clock(monday+1, 10, 0))
				if tasks := w.tasksOf(e); tasks != "" {
					t.Errorf("a person is asked: %s", tasks)
				}
				for _, a := range []ledger.Account{ledger.NetworkReceivable, ledger.SuspenseLong, ledger.SuspenseShort} {
					if got := w.balance(e, a, ""); got != 0 {
						t.Errorf("%s holds %s", a, got)
					}
				}
				if lent := w.lent(e); lent != 0 {
					t.Errorf("lent %s", lent)
				}
				if have := w.balance(e, ledger.ClientBank, ""); have < 0 {
					t.Errorf("the merchants' account holds %s", have)
				}
				w.sound(e)
				w.derived(e)
			})
		})
	}
}

// Refunds may leave something of a date, but less than was advanced for it; or
// nothing at all, so that there is no receipt.
func TestAdvanceOfADateWithRefunds(t *testing.T) {
	for _, refund := range []money.Amount{600_00, 1_000_00} {
		each(t, func(t *testing.T, w *world) {
			e := w.engine()
			w.fund(e, money.Yuan(10_000))
			fast := w.merchant(1, "ESIGN-STD", merchant.D0, "00")
			sale := w.sale(fast, friday, 1_000_00)
			if _, err := e.PayEarly(t.Context(), friday, 1200, clock(friday, 12, 30)); err != nil {
				t.Fatal(err)
			}
			w.pay(e, clock(friday, 12, 31))
			w.after(sale, Refunds, refund)
			w.close(e, friday)
			if refund < sale.Amount {
				w.receive(e, friday, clock(monday, 9, 0))
			}
			w.pay(e, clock(monday, 10, 0))
			if have, lent := w.balance(e, ledger.ClientBank, ""), w.lent(e); have < 0 || lent == 0 {
				t.Errorf("the merchants' account holds %s; lent %s", have, lent)
			}
			w.sale(fast, monday, 3_000_00)
			w.close(e, monday)
			w.receive(e, monday, clock(monday+1, 9, 0))
			w.pay(e, clock(monday+1, 10, 0))
			w.receive(e, friday, clock(monday+1, 11, 0))
			if lent := w.lent(e); lent != 0 {
				t.Errorf("refund of %s: %s is still lent", refund, lent)
			}
			w.sound(e)
			w.derived(e)
		})
	}
}

// networksPay lets the network and the wallet pay every date. What a date comes to
// below nothing they deduct from the next one that they pay, or take at once.
func (m *model) networksPay(last calendar.Date) {
	ctx, deducts := m.t.Context(), rapid.Bool().Draw(m.rt, "deducts")
	for _, wallet := range []string{"", "alipay"} {
		below := map[calendar.Date]money.Amount{}
		receive := func(d calendar.Date, sum money.Amount) {
			if err := m.e.Receive(ctx, Receipt{Date: d, Wallet: wallet, Received: sum, Reference: "UP" + wallet + d.String()}, m.now); err != nil {
				m.rt.Fatal(err)
			}
			m.received += sum
		}
		for d := m.first.AddDays(-1); d <= last; d = d.AddDays(1) {
			sum, err := m.e.Expected(ctx, d, wallet)
			if err != nil {
				m.rt.Fatal(err)
			}
			if sum < 0 {
				m.below++
			}
			if sum < 0 && deducts {
				below[d] = sum
				continue
			}
			if sum > 0 {
				for _, less := range below {
					sum += less
				}
				clear(below)
			}
			receive(d, sum)
		}
		for d, sum := range below { // nobody sells any more
			receive(d, sum)
		}
	}
}

// lentForever says why what is lent at rest is not repaid: its dates brought less
// than was advanced for them, and what no merchant is owed does not repay it.
func (m *model) lentForever() {
	lent := m.lent(m.e)
	if lent == 0 {
		return
	}
	if err := m.db.Read(m.t.Context(), func(tx store.Tx) error {
		free, err := ledger.FreeTx(tx)
		if err != nil {
			return err
		}
		rows, err := tx.Query("select p.ref, p.amount, (select cast(coalesce(sum(q.amount), 0) as BIGINT) from settlement_payout q where q.date = p.date and q.advance = 1 and q.state in (5, 7)), " +
			"(select cast(coalesce(sum(r.received), 0) as BIGINT) from settlement_receipt r where r.date = p.date) from settlement_payout p where p.advance = 1 and p.repaid = 0 and p.state = 5")
		_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
			var ref string
			var amount, advanced, came money.Amount
			if err := r.Scan(&ref, &amount, &advanced, &came); err != nil {
				return err
			}
			m.unpaid++
			if lent -= amount; came >= advanced || amount <= min(free, m.balance(m.e, ledger.ClientBank, "")) {
				return fmt.Errorf("the advance %s of %s is not repaid; its date brought %s and %s was advanced for it, %s is nobody's", ref, amount, came, advanced, free)
			}
			return nil
		})
		return err
	}); err != nil {
		m.rt.Fatal(err)
	}
	if lent != 0 {
		m.rt.Fatalf("%s is lent for no payout", lent)
	}
}

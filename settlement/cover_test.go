package settlement

import (
	"testing"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// What is not advanced waits, with a reason, until the network and the wallet
// have paid; what is advanced does not.
func TestPayoutsWaitForTheNetwork(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.cfg.Covered = true
		e := w.engine()
		w.fund(e, 5000_00)
		early := w.merchant(10, "ESIGN-STD", merchant.D0, "00")
		silent := w.merchant(11, "ESIGN-STD", merchant.T1, "92") // its order is lost: it stays on its way
		first := w.merchant(12, "ESIGN-STD", merchant.T1, "00")
		great := w.merchant(13, "ESIGN-STD", merchant.T1, "00")
		small := w.merchant(14, "ESIGN-STD", merchant.T1, "00")
		w.sale(early, friday, 1000_00)
		w.sale(silent, friday, 1000_00)
		w.sale(first, friday, 1000_00)
		w.book.mu.Lock()
		w.book.facts[len(w.book.facts)-1].Channel, w.book.facts[len(w.book.facts)-1].Wallet = merchant.QR, "wechat"
		w.book.mu.Unlock()
		w.sale(great, friday, 5000_00)
		w.sale(small, friday, 10_00)
		w.close(e, friday)
		ref := func(mid string) string { return "20261120-" + mid + "-T1-0" }
		stands := func(when, mid string, state PayoutState, reason string) {
			t.Helper()
			if p := w.payout(e, ref(mid)); p.state != state || reason != "-" && p.reason != reason {
				t.Errorf("%s: payout %s is %s, %q; want %s, %q", when, p.ref, p.state, p.reason, state, reason)
			}
		}
		if p := w.pay(e, clock(friday, 23, 10)); p.Paid != 1 || p.Held != 0 {
			t.Errorf("what is advanced: %+v", p)
		}
		for range 2 { // asked twice it says the same
			if p := w.pay(e, clock(monday, 0, 0)); p.Sent != 0 || p.Held != 4 {
				t.Errorf("at midnight, before anybody has paid: %+v", p)
			}
		}
		for _, mid := range []string{silent, first, great, small} {
			stands("at midnight", mid, Created, notCovered)
		}
		list, err := e.PayoutsOpen(t.Context(), 10)
		if err != nil || len(list) != 4 || list[0].Reason != notCovered {
			t.Errorf("the list: %+v, %v", list, err)
		}

		// The wallet has paid for one. The first in the line takes it, and while its
		// order is on its way it is not there for the others.
		sum, err := e.Expected(t.Context(), friday, "wechat")
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Receive(t.Context(), Receipt{Date: friday, Wallet: "wechat", Received: sum, Reference: "WX-1"}, clock(monday, 8, 0)); err != nil {
			t.Fatal(err)
		}
		if p := w.pay(e, clock(monday, 8, 1)); p.Sent != 1 || p.Held != 3 {
			t.Errorf("after the wallet has paid: %+v", p)
		}
		stands("after the wallet", silent, Unknown, "-")
		if held := w.balance(e, ledger.ClientBank, ""); held != sum {
			t.Errorf("1001 is %s before the bank says that it paid, want %s", held, sum)
		}
		if p := w.pay(e, clock(monday, 8, 2)); p.Sent != 0 || p.Held != 3 {
			t.Errorf("while the order is on its way: %+v", p)
		}
		stands("while it is on its way", small, Created, notCovered)

		// The network pays a part of what it owes: one more is covered, the great one
		// is not, and the small one does not pass by it.
		if err := e.Receive(t.Context(), Receipt{Date: friday, Received: 2990_00, Reference: "UP-1"}, clock(monday, 8, 10)); err != nil {
			t.Fatal(err)
		}
		if p := w.pay(e, clock(monday, 8, 11)); p.Sent != 1 || p.Paid != 1 || p.Held != 2 {
			t.Errorf("after a part of the network's money: %+v", p)
		}
		stands("after a part", first, Paid, "")
		stands("after a part", great, Created, notCovered)
		stands("after a part", small, Created, notCovered)

		// A bank that gives credit.
		w.cfg.Credit = 5000_00
		e = w.engine()
		if p := w.pay(e, clock(monday, 8, 12)); p.Sent != 2 || p.Paid != 2 || p.Held != 0 {
			t.Errorf("with credit: %+v", p)
		}
		stands("with credit", great, Paid, "")
		if below := w.balance(e, ledger.ClientBank, ""); below >= 0 || below < -5000_00 {
			t.Errorf("1001 is %s", below)
		}
		w.sound(e)
	})
}

// The next turn after the receipt sends what waited, in the order in which it was
// due, and 1001 is never below zero; without Covered nobody waits.
func TestPayoutsGoAfterTheReceipt(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		var mids []string
		for i := range 20 {
			mids = append(mids, w.merchant(30+i, "ESIGN-STD", merchant.T1, "00"))
		}
		for _, x := range []struct {
			date, due calendar.Date
			covered   bool
		}{{friday, monday, true}, {monday, monday.AddDays(1), false}} {
			w.cfg.Covered = x.covered
			e := w.engine()
			for i, mid := range mids {
				w.sale(mid, x.date, money.Amount(100_00+i))
			}
			w.close(e, x.date)
			before := w.pay(e, clock(x.due, 0, 0))
			if want := map[bool]Payment{true: {Held: 20}, false: {Sent: 20, Paid: 20, Total: before.Total}}[x.covered]; before != want {
				t.Errorf("covered %t, before the receipt: %+v, want %+v", x.covered, before, want)
			}
			w.receive(e, x.date, clock(x.due, 9, 0))
			after := w.pay(e, clock(x.due, 9, 1))
			if after.Held != 0 || before.Paid+after.Paid != 20 {
				t.Errorf("covered %t, after the receipt: %+v", x.covered, after)
			}
			if held := w.balance(e, ledger.ClientBank, ""); held < 0 {
				t.Errorf("covered %t: 1001 is %s after the receipt", x.covered, held)
			}
			w.sound(e)
			if x.covered {
				w.close(e, saturday)
				w.close(e, saturday.AddDays(1))
			}
		}
	})
}

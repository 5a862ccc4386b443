package settlement

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/card"
	"acquirer/merchant"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
)

// cardOf is a debit card's number whose last digits choose the bank's weather.
func cardOf(t *testing.T, weather string) string {
	t.Helper()
	for i := range 10 {
		body := fmt.Sprintf("62284804%d2564890%s", i, weather[:1])
		if card.CheckDigit(body) == weather[1] {
			return body + weather[1:]
		}
	}
	t.Fatalf("no card ends in %s", weather)
	return ""
}

// A payout comes back, the merchant's account is changed by two people, and the
// payout that replaces it goes to the new one when that has cooled, over every
// rail.
func TestAccountChanged(t *testing.T) {
	eachRail(t, func(t *testing.T, w *world) {
		w.cfg.Cooling = 24 * time.Hour
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "95")
		w.sale(mid, friday, 1000_00)
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		w.exchange(e, clock(monday, 10, 1))
		w.bank.Advance(1)
		w.exchange(e, clock(monday, 11, 2))
		w.exchange(e, clock(monday, 11, 3))
		ref := fmt.Sprintf("20261120-%s-T1-0", mid)
		if p := w.payout(e, ref); p.state != CameBack {
			t.Fatalf("it is %s", p.state)
		}
		next, noon := cardOf(t, "00"), clock(monday, 12, 0)
		ask := AccountChange{Merchant: mid, Account: merchant.Account{Bank: "ICBC", Class: 1}, Why: "ticket 4711", AskedBy: "li"}
		logged := 0
		also := func(store.Tx) error { logged++; return nil }
		must(t, e.AskAccount(ctx, ask, NewNumber(next), noon, also))
		must(t, e.AskAccount(ctx, ask, NewNumber(next), noon.Add(time.Second), also)) // the same has no effect
		if logged != 1 {
			t.Errorf("logged %d times", logged)
		}
		// What was asked for outlives the process, and changes nothing yet.
		var err error
		if w.reg, err = merchant.OpenRegistry(ctx, w.db); err != nil {
			t.Fatal(err)
		}
		w.cfg.Merchants = w.reg
		e = w.engine()
		if m, _ := w.reg.Merchant([]byte(mid)); m.Account.Bank != "ABC" || !m.Account.Changed.IsZero() {
			t.Errorf("before it is confirmed: %+v", m.Account)
		}
		if tasks, err := e.Tasks(ctx, 10); err != nil || len(tasks) != 1 || !strings.Contains(tasks[0].Text, "another card (acquirer settle account ask)") {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		c, err := e.ConfirmAccount(ctx, mid, next[len(next)-4:], "wang", noon, also)
		if err != nil || c.State != AccountChanged || c.Account.Name != "owner" || c.AskedBy != "li" || logged != 2 {
			t.Errorf("%+v, logged %d, %v", c, logged, err)
		}
		tasks, err := e.Tasks(ctx, 10)
		if err != nil || len(tasks) != 1 || !strings.Contains(tasks[0].Text, "the merchant's account is now "+NewNumber(next).String()+", to which nothing is sent before 2026-11-24 12:00: acquirer payout reissue "+ref) {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		child, err := e.Reissue(ctx, ref, noon)
		if err != nil {
			t.Fatal(err)
		}
		if p := w.pay(e, noon.Add(24*time.Hour-time.Minute)); p.Held != 1 || p.Sent != 0 {
			t.Errorf("while it cools: %+v", p)
		}
		if tasks, err := e.Tasks(ctx, 10); err != nil || len(tasks) != 1 || tasks[0].Key != "held/"+child {
			t.Errorf("while it cools: tasks %+v, %v", tasks, err)
		}
		w.pay(e, noon.Add(24*time.Hour))
		w.exchange(e, noon.Add(24*time.Hour+time.Minute))
		if p := w.payout(e, child); p.state != Paid || p.account != NewNumber(next).String() {
			t.Errorf("issued again it is %s, to %s", p.state, p.account)
		}
		if tasks, err := e.Tasks(ctx, 10); err != nil || len(tasks) != 0 {
			t.Errorf("when it is paid: tasks %+v, %v", tasks, err)
		}
		if all := w.bank.Payouts(); len(all) != 2 || !slices.ContainsFunc(all, func(p simbank.Payout) bool { return p.Reference == child && p.Account() == next }) {
			t.Errorf("the bank has %+v", all)
		}
		w.sound(e)
	})
}

// A change of an account is refused with its reason, which never shows a number.
func TestAccountRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx, noon := w.engine(), t.Context(), clock(monday, 12, 0)
		mid, gone := w.merchant(1, "ESIGN-STD", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.T1, "00")
		close := func(mid string) {
			t.Helper()
			m := w.shop(mid, "ESIGN-STD", merchant.T1, "00")
			m.Status = merchant.Closed
			must(t, w.reg.Put(ctx, []merchant.Merchant{m}, nil))
		}
		good, old := cardOf(t, "18"), "4402"+mid[5:] // a company's account has no check digit
		m := w.shop(mid, "ESIGN-STD", merchant.T1, "00")
		m.Account.Sealed, m.Account.Masked = []byte(old), NewNumber(old).String()
		must(t, w.reg.Put(ctx, []merchant.Merchant{m}, nil))
		ask := AccountChange{Merchant: mid, Account: merchant.Account{Name: "owner", Bank: "ICBC", Class: 1}, Why: "ticket 4711", AskedBy: "li"}
		refused := func(err error, kind error, says string) {
			t.Helper()
			if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), good[4:12]) {
				t.Errorf("%v; want %q", err, says)
			}
		}
		slip := []byte(good)
		slip[9] ^= 1 // one digit is another
		for says, change := range map[string]func(c *AccountChange) string{
			"not registered":          func(c *AccountChange) string { c.Merchant = "898110054119999"; return good },
			"why in 1 to 200":         func(c *AccountChange) string { c.Why = " "; return good },
			"who asks":                func(c *AccountChange) string { c.AskedBy = ""; return good },
			"bank's name":             func(c *AccountChange) string { c.Account.Bank = ""; return good },
			"holder's name":           func(c *AccountChange) string { c.Account.Name = strings.Repeat("n", 141); return good },
			"class is 4":              func(c *AccountChange) string { c.Account.Class = 4; return good },
			"check digit is wrong":    func(c *AccountChange) string { return string(slip) },
			"11 or more":              func(c *AccountChange) string { return "12345678" },
			"8 to 34":                 func(c *AccountChange) string { return good + " " + good },
			"8 to 34 letters":         func(c *AccountChange) string { return "" },
			"is the account":          func(c *AccountChange) string { c.Account.Bank = "ABC"; return old },
			"8 to 34 letters and dig": func(c *AccountChange) string { return "6228480402564890\x00" },
		} {
			c := ask
			number := change(&c)
			refused(e.AskAccount(ctx, c, NewNumber(number), noon), ErrAccount, says)
		}
		close(gone)
		c := ask
		c.Merchant = gone
		refused(e.AskAccount(ctx, c, NewNumber(good), noon), ErrAccount, "is closed")

		_, err := e.ConfirmAccount(ctx, mid, good[12:], "wang", noon)
		refused(err, ErrAccount, "nobody asks")
		must(t, e.AskAccount(ctx, ask, NewNumber(good), noon))
		c = ask
		c.AskedBy = "zhang"
		refused(e.AskAccount(ctx, c, NewNumber(cardOf(t, "00")), noon), ErrAccount, "li asked for "+NewNumber(good).String())
		_, err = e.ConfirmAccount(ctx, mid, good[len(good)-4:], "li", noon)
		refused(err, audit.ErrTwoPeople, "li asked for it")
		_, err = e.ConfirmAccount(ctx, mid, "9999", "wang", noon)
		refused(err, ErrAccount, "does not end in")
		_, err = e.ConfirmAccount(ctx, mid, "", "wang", noon)
		refused(err, ErrAccount, "does not end in")
		_, err = e.ConfirmAccount(ctx, mid, good[len(good)-4:], "", noon)
		refused(err, ErrAccount, "who you are")
		if _, err = e.RefuseAccount(ctx, mid, "li", noon); err != nil {
			t.Error(err)
		}
		must(t, e.AskAccount(ctx, ask, NewNumber(good), noon.Add(time.Minute)))
		_, err = e.ConfirmAccount(ctx, mid, good[len(good)-4:], "wang", noon.Add(72*time.Hour+time.Minute))
		refused(err, ErrAccount, "lapsed")
		must(t, e.AskAccount(ctx, c, NewNumber(good), noon.Add(73*time.Hour)))
		close(mid)
		_, err = e.ConfirmAccount(ctx, mid, good[len(good)-4:], "wang", noon.Add(73*time.Hour))
		refused(err, ErrAccount, "closed")
		if now, _ := w.reg.Merchant([]byte(mid)); now.Account.Bank != "ABC" {
			t.Errorf("the account is %+v", now.Account)
		}
		all, err := e.AccountChanges(ctx, mid, true, noon.Add(74*time.Hour), 10)
		var states []string
		for _, x := range all {
			states = append(states, string(x.State))
		}
		if got := strings.Join(states, ", "); err != nil || got != "asked for, lapsed, refused" {
			t.Errorf("%s, %v", got, err)
		}
		if waits, err := e.AccountChanges(ctx, "", false, noon.Add(74*time.Hour), 10); err != nil || len(waits) != 1 || waits[0].AskedBy != "zhang" {
			t.Errorf("waits: %+v, %v", waits, err)
		}
		var sealed int
		if err := w.db.Read(ctx, func(tx store.Tx) error {
			return tx.QueryRow("select count(*) from settlement_account where sealed is not null").Scan(&sealed)
		}); err != nil || sealed != 1 {
			t.Errorf("%d sealed numbers are kept, %v", sealed, err)
		}
	})
}

// An order that was made for the account before is not sent: another process
// changed it meanwhile.
func TestAccountChangedMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.Cooling = 24 * time.Hour
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 1000_00)
		w.close(e, friday)
		must(t, w.db.Write(ctx, func(tx store.Tx) error {
			return merchant.SetAccountTx(tx, mid, merchant.Account{Sealed: []byte(cardOf(t, "18")), Masked: "x", Name: "owner", Bank: "ICBC", Class: 1}, clock(monday, 9, 59))
		}))
		if p := w.pay(e, clock(monday, 10, 0)); p.Sent != 0 || p.Held != 1 || len(w.bank.Payouts()) != 0 {
			t.Errorf("sent to the account before: %+v", p)
		}
		if _, err := w.reg.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if p := w.pay(e, clock(monday, 10, 1)); p.Sent != 0 || p.Held != 1 {
			t.Errorf("while it cools: %+v", p)
		}
		if p := w.pay(e, clock(monday.AddDays(1), 9, 59)); p.Sent != 1 {
			t.Errorf("afterwards: %+v", p)
		}
	})
}

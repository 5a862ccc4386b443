package settlement

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) { f(t, newWorld(t, db)) })
}

// One day of two merchants, to the last fen.
func TestOneDay(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		w.fund(e, money.Yuan(10_000))
		micro := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		early := w.merchant(2, "ESIGN-STD", merchant.D0, "00")
		w.sale(micro, friday, 100_00)
		gone := w.sale(micro, friday, 50_00)
		w.sale(early, friday, 5_000_00)
		w.takeBack(gone, clock(friday, 13, 0))

		d := w.close(e, friday)
		want := Day{Date: friday, Lines: 2, Merchants: 2, Gross: 5_100_00, Fee: 33_60, SpeedFee: 2_49, Payouts: 2, PayoutTotal: 96_40 + 4_967_51}
		if d != want {
			t.Errorf("closed %+v\nwant   %+v", d, want)
		}
		w.sound(e)
		// D0 goes the same evening, from our own money; T1 does not.
		if p := w.pay(e, clock(friday, 23, 10)); p.Sent != 1 || p.Paid != 1 || p.Total != 4_967_51 {
			t.Errorf("friday night: %+v", p)
		}
		if own := w.balance(e, ledger.OwnBank, ""); own != 10_000_00-4_967_51 {
			t.Errorf("own bank account %s", own)
		}
		if p := w.pay(e, clock(saturday, 10, 0)); p.Sent != 0 {
			t.Errorf("saturday: %+v", p)
		}
		w.receive(e, friday, clock(monday, 9, 0))
		if p := w.pay(e, clock(monday, 10, 0)); p.Sent != 1 || p.Total != 96_40 {
			t.Errorf("monday: %+v", p)
		}
		w.sound(e)
		for account, want := range map[ledger.Account]money.Amount{
			ledger.MerchantPayable: 0, ledger.PayoutInTransit: 0, ledger.AdvanceD0: 0, ledger.DueToOwnAdvance: 0,
			ledger.OwnBank: 10_000_00, ledger.NetworkReceivable: 0, ledger.IncomeRate: 30_60, ledger.IncomeFixed: 3_00, ledger.IncomeD0: 2_49,
			ledger.CostIssuer: 45 + 22_50, ledger.CostNetwork: 3 + 1_63, ledger.ClientBank: 33_60 + 2_49 - 22_95 - 1_66,
		} {
			if got := w.balance(e, account, ""); got != want {
				t.Errorf("%s: %s, want %s", account, got, want)
			}
		}
		var bank money.Amount
		for _, p := range w.bank.Payouts() {
			bank += p.Amount
		}
		if bank != 96_40+4_967_51 {
			t.Errorf("the bank paid %s", bank)
		}
		// Again, as often as one likes: nothing changes.
		before := w.tables()
		for range 3 {
			if again := w.close(e, friday); again != want {
				t.Errorf("closed again: %+v", again)
			}
			w.receive(e, friday, clock(monday, 11, 0))
			w.pay(e, clock(monday, 12, 0))
		}
		if after := w.tables(); after != before {
			t.Errorf("a second run changed:\n%s", difference(before, after))
		}
		if n := len(w.bank.Payouts()); n != 2 {
			t.Errorf("the bank has %d orders", n)
		}
	})
}

// A transaction taken back before it was booked, before it was settled, after
// it was settled, and with its two facts in the wrong order.
func TestTakenBack(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		a := w.sale(mid, friday, 10_00) // before it was booked
		w.takeBack(a, clock(friday, 12, 1))
		b := w.sale(mid, friday, 20_00) // before it was settled
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		w.takeBack(b, clock(friday, 12, 2))
		late := w.sale(mid, friday, 300_00) // after it was settled
		d := w.close(e, friday)
		if d.Lines != 1 || d.Gross != 300_00 {
			t.Errorf("friday %+v", d)
		}
		w.takeBack(late, clock(saturday, 9, 0))
		// The reversal's fact overtakes the sale's.
		c := Fact{Txn: 999, Date: saturday, At: clock(saturday, 10, 0), Merchant: mid, Channel: merchant.Card, CardType: merchant.Debit, Amount: 40_00}
		w.takeBack(c, clock(saturday, 10, 1))
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		w.book.add(c)
		w.sale(mid, saturday, 1000_00)
		w.sound(e)
		d = w.close(e, saturday)
		if d.Lines != 2 || d.Gross != 700_00 || d.Fee != 9_00-4_80 || d.PayoutTotal != 700_00-4_20 {
			t.Errorf("saturday %+v", d)
		}
		// Facts that come again change nothing.
		before := w.tables()
		if want := "line 3 2 20261121 " + mid + " -30000 "; !strings.Contains(before, want) {
			t.Errorf("no line %q: what is taken back after the close settles with the open date\n%s", want, before)
		}
		if err := e.Post(ctx, w.book.facts); err != nil {
			t.Fatal(err)
		}
		if after := w.tables(); after != before {
			t.Errorf("posting again changed:\n%s", difference(before, after))
		}
		w.receive(e, friday, clock(monday, 9, 0))
		w.receive(e, saturday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		w.sound(e)
		if got := w.balance(e, ledger.MerchantPayable, mid); got != 0 {
			t.Errorf("still owed %s", got)
		}
		if income := w.balance(e, ledger.IncomeRate, "") + w.balance(e, ledger.IncomeFixed, ""); income != 9_00 {
			t.Errorf("earned %s on one sale of 1000.00", income)
		}
	})
}

// What a merchant owes, or is owed too little of, waits for later days.
func TestCarry(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		debtor, small := w.merchant(1, "ESIGN-STD", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.T1, "00")
		days := []calendar.Date{20261116, 20261117, 20261118, 20261119, 20261120}
		first := w.sale(debtor, days[0], 500_00)
		w.sale(small, days[0], 90)
		if d := w.close(e, days[0]); d.PayoutTotal != 497_00 || d.CarryOut != 89 {
			t.Errorf("day 0 %+v", d)
		}
		w.takeBack(first, clock(days[1], 10, 0))
		w.sale(debtor, days[1], 100_00)
		if d := w.close(e, days[1]); d.Payouts != 0 || d.CarryOut != 99_40-497_00 {
			t.Errorf("day 1 %+v", d)
		}
		w.sale(debtor, days[2], 200_00)
		w.sale(small, days[2], 10)
		if d := w.close(e, days[2]); d.Payouts != 0 || d.CarryIn != 99_40-497_00+89 || d.CarryOut != 99_40+198_80-497_00+99 {
			t.Errorf("day 2 %+v", d)
		}
		w.sound(e)
		w.sale(debtor, days[3], 300_00)
		w.sale(small, days[3], 1_00)
		// small: 0.89 + 0.10 + 0.99
		if d := w.close(e, days[3]); d.Payouts != 2 || d.PayoutTotal != 99_40+198_80+298_20-497_00+1_98 || d.CarryOut != 0 {
			t.Errorf("day 3 %+v", d)
		}
		if d := w.close(e, days[4]); d != (Day{Date: days[4]}) {
			t.Errorf("an empty day: %+v", d)
		}
		w.pay(e, clock(days[4], 10, 0))
		w.sound(e)
		if owed := w.balance(e, ledger.MerchantPayable, ""); owed != 0 {
			t.Errorf("still owed %s", owed)
		}
	})
}

// Early payment needs our own money; without it the merchant is paid with the
// network's and pays nothing for speed.
func TestOwnFundsRunOut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		w.fund(e, 5_000_00)
		one, two := w.merchant(1, "ESIGN-STD", merchant.D0, "00"), w.merchant(2, "ESIGN-STD", merchant.D0, "00")
		w.sale(one, friday, 5_000_00)
		back := w.sale(two, friday, 5_000_00)
		d := w.close(e, friday)
		if d.SpeedFee != 2_49 || d.PayoutTotal != 4_967_51+4_970_00 {
			t.Errorf("closed %+v", d)
		}
		w.sound(e)
		if p := w.pay(e, clock(friday, 23, 30)); p.Sent != 1 || p.Total != 4_967_51 {
			t.Errorf("friday: %+v", p)
		}
		// Taken back later: no fee for speed comes back that was never taken.
		w.takeBack(back, clock(saturday, 9, 0))
		if d := w.close(e, saturday); d.SpeedFee != 0 || d.CarryOut != -4_970_00 {
			t.Errorf("saturday %+v", d)
		}
		w.sound(e)
		w.receive(e, friday, clock(monday, 9, 0))
		if p := w.pay(e, clock(monday, 10, 0)); p.Total != 4_970_00 {
			t.Errorf("monday: %+v", p)
		}
		w.sound(e)
		if own := w.balance(e, ledger.OwnBank, ""); own != 5_000_00 {
			t.Errorf("own funds %s after repayment", own)
		}
	})
}

// An advance that comes back: to our own account before the network paid, to
// the merchants' account afterwards.
func TestAdvanceComesBack(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		w.fund(e, 10_000_00)
		mid := w.merchant(1, "ESIGN-STD", merchant.D0, "95")
		for i, day := range []calendar.Date{friday, saturday} {
			w.sale(mid, day, 1_000_00)
			w.close(e, day)
			w.pay(e, clock(day, 23, 10))
			if i == 1 {
				w.receive(e, friday, clock(monday, 9, 0))
				w.receive(e, saturday, clock(monday, 9, 0))
			}
			w.bank.Advance(1)
			w.pay(e, clock(day, 23, 50))
			w.sound(e)
			for account, want := range map[ledger.Account]money.Amount{ledger.OwnBank: 10_000_00, ledger.AdvanceD0: 0, ledger.DueToOwnAdvance: 0,
				ledger.PayoutReturned: 993_50 * money.Amount(i+1), ledger.ClientBank: 995_17 * 2 * money.Amount(i)} {
				if got := w.balance(e, account, ""); got != want {
					t.Errorf("%s: %s is %s, want %s", day, account, got, want)
				}
			}
		}
	})
}

// D0 merchants may be paid during the day; each window has one effect.
// The books agree at every moment of a run too, not before and behind it alone: a
// check that comes between two of its writes finds what was gathered and is not
// netted yet.
func TestCheckBetweenTheWritesOfARun(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, 100_000_00)
		var shops []merchant.Merchant
		for i := range netBatch + 3 { // more than one write nets
			shops = append(shops, w.shop(fmt.Sprintf("8981100%08d", i), "ESIGN-STD", []merchant.Speed{merchant.T1, merchant.D0}[i%2], "00"))
		}
		must(t, w.reg.Put(ctx, shops, nil))
		for _, s := range shops {
			w.sale(s.MID, friday, 100_00)
			must(t, e.ExtraFee(ctx, s.MID, s.MID, 3_00, "a repair", clock(friday, 9, 0)))
		}
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		steps := map[string]int{}
		e.step = func(name string) error {
			steps[name]++
			problems, err := e.Check(ctx)
			if len(problems) > 0 {
				t.Errorf("%s: %v", name, problems)
			}
			return err
		}
		if _, err := e.PayEarly(ctx, friday, 1200, clock(friday, 12, 0)); err != nil {
			t.Error(err)
		}
		w.close(e, friday)
		if steps["gathered"] < 4 || steps["netted"] < 4 {
			t.Errorf("looked after %v", steps)
		}
	})
}

func TestPayEarly(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, 100_000_00)
		slow, fast := w.merchant(1, "ESIGN-STD", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.D0, "00")
		w.sale(slow, friday, 100_00)
		noon := w.sale(fast, friday, 1_000_00)
		for range 2 {
			d, err := e.PayEarly(ctx, friday, 1200, clock(friday, 12, 0))
			if err != nil || d.Merchants != 1 || d.PayoutTotal != 993_50 {
				t.Errorf("noon: %+v, %v", d, err)
			}
		}
		w.pay(e, clock(friday, 12, 1))
		w.takeBack(noon, clock(friday, 13, 0))
		w.sale(fast, friday, 3_000_00)
		if d := w.close(e, friday); d.Merchants != 2 || d.PayoutTotal != 99_40+2_980_51-993_50 {
			t.Errorf("evening: %+v", d)
		}
		// The close has not what the window had.
		if d, err := e.Early(ctx, friday); err != nil || d != (Day{Date: friday, Lines: 1, Merchants: 1, Gross: 1_000_00, Fee: 6_00, SpeedFee: 50, Payouts: 1, PayoutTotal: 993_50}) {
			t.Errorf("before the evening: %+v, %v", d, err)
		}
		w.pay(e, clock(friday, 23, 10))
		w.sound(e)
		// What is sold while a window is being netted waits for the next one.
		w.sale(fast, saturday, 100_00)
		sold := false
		e.step = func(name string) error {
			if name != "netted" || sold {
				return nil
			}
			sold = true
			w.sale(fast, saturday, 200_00)
			_, err := w.engine().CatchUp(ctx)
			return err
		}
		if d, err := e.PayEarly(ctx, saturday, 1200, clock(saturday, 12, 0)); err != nil || d.Gross != 100_00 || !sold {
			t.Errorf("saturday noon: %+v, %v", d, err)
		}
		if d := w.close(e, saturday); d.Gross != 200_00 {
			t.Errorf("saturday: %+v", d)
		}
		w.sound(e)
		if _, err := e.PayEarly(ctx, friday, 2500, clock(friday, 12, 0)); err == nil {
			t.Error("25:00 is a window")
		}
	})
}

func TestClosingInTime(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		if _, err := e.CloseDay(ctx, friday, clock(friday, 22, 59), false); !errors.Is(err, ErrEarly) || !strings.Contains(err.Error(), "23:00") {
			t.Errorf("at 22:59: %v", err)
		}
		w.book.undecided = 1
		if _, err := e.CloseDay(ctx, friday, clock(friday, 23, 0), false); !errors.Is(err, ErrUndecided) {
			t.Errorf("with a transaction under way: %v", err)
		}
		w.book.undecided = 0
		if d, err := e.CloseDay(ctx, friday, clock(friday, 22, 59), true); err != nil || d.Lines != 1 {
			t.Errorf("forced: %+v, %v", d, err)
		}
		if d, err := e.CloseDay(ctx, friday, clock(friday, 22, 59), false); err != nil || d.Lines != 1 {
			t.Errorf("again, when it is closed already: %+v, %v", d, err)
		}
		// What comes late settles with the next day and leaves the closed one alone.
		before, err := e.ledger.TrialBalance(ctx, friday)
		if err != nil {
			t.Fatal(err)
		}
		w.sale(mid, friday, 200_00)
		if d := w.close(e, friday); d.Lines != 1 {
			t.Errorf("friday grew: %+v", d)
		}
		// Skipped days are closed on the way.
		w.sale(mid, saturday, 300_00)
		if d := w.close(e, monday); d.Lines != 0 {
			t.Errorf("monday: %+v", d)
		}
		if d := w.close(e, saturday); d.Lines != 2 || d.Gross != 500_00 {
			t.Errorf("saturday: %+v", d)
		}
		after, err := e.ledger.TrialBalance(ctx, friday)
		if err != nil || fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("the closed day changed: %v\nwas %v (%v)", after, before, err)
		}
		if d := w.close(e, friday.AddDays(-30)); d.Lines != 0 {
			t.Errorf("a day long gone: %+v", d)
		}
		eve := calendar.Date(20261231) // of the first year that is not known: another test may have assumed one
		for _, err := calendar.SettleDate(eve); err == nil; _, err = calendar.SettleDate(eve) {
			eve += 1_0000
		}
		if _, err := e.CloseDay(ctx, eve, clock(eve, 23, 0), false); !errors.Is(err, calendar.ErrYear) {
			t.Errorf("into a year without a calendar: %v", err)
		}
		w.sound(e)
	})
}

// A sale that cannot be priced waits in suspense and stops nobody.
func TestUnpriced(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		good := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		bad := w.merchant(2, "GOLD", merchant.T1, "00")
		w.sale("898110054119999", friday, 10_00)
		back := w.sale(bad, friday, 20_00)
		w.sale(good, friday, 30_00)
		tiny := w.merchant(3, "MICRO-2025", merchant.T1, "00")
		w.sale(tiny, friday, 1_00) // its fee of 3.01 takes no more than there is
		old := w.sale(good, 20191231, 5_00)
		_ = old
		d := w.close(e, friday)
		if d.Lines != 2 || d.Gross != 31_00 || d.Fee != 18+1_00 || d.PayoutTotal != 29_82 {
			t.Errorf("closed %+v", d)
		}
		if got := w.balance(e, ledger.SuspenseLong, ""); got != 35_00 {
			t.Errorf("suspense %s", got)
		}
		tasks, err := e.Tasks(ctx, 10)
		if err != nil || len(tasks) != 3 || tasks[0].Kind != "unpriced" {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		w.takeBack(back, clock(saturday, 9, 0))
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if got := w.balance(e, ledger.SuspenseLong, ""); got != 15_00 {
			t.Errorf("suspense %s after one was taken back", got)
		}
		w.sound(e)
		if err := e.Post(ctx, []Fact{{Txn: 1, Date: friday}}); err == nil {
			t.Error("a fact without an amount was booked")
		}
	})
}

func TestReceipts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		scan := w.sale(mid, friday, 50_00)
		w.book.facts[1].Channel, w.book.facts[1].CardType, w.book.facts[1].Wallet = merchant.QR, "", "alipay"
		_ = scan
		if err := e.Receive(ctx, Receipt{Date: friday, Received: 1, Reference: "x"}, clock(friday, 12, 0)); err == nil || !strings.Contains(err.Error(), "not closed") {
			t.Errorf("before the close: %v", err)
		}
		w.close(e, friday)
		now := clock(monday, 9, 0)
		for range 2 {
			if err := e.Receive(ctx, Receipt{Date: friday, Received: 99_00, Reference: "UP1"}, now); err != nil {
				t.Fatal(err)
			}
			if err := e.Receive(ctx, Receipt{Date: friday, Wallet: "alipay", Received: 51_00, Reference: "ALI1"}, now); err != nil {
				t.Fatal(err)
			}
		}
		for account, want := range map[ledger.Account]money.Amount{ledger.NetworkReceivable: 0, ledger.QRReceivable: 0, ledger.ClientBank: 150_00,
			ledger.SuspenseShort: 52, ledger.SuspenseLong: 1_00} {
			if got := w.balance(e, account, ""); got != want {
				t.Errorf("%s: %s, want %s", account, got, want)
			}
		}
		if err := e.Receive(ctx, Receipt{Date: friday, Received: 99_52, Reference: "UP2"}, now); err == nil || !strings.Contains(err.Error(), "UP1") {
			t.Errorf("a second receipt: %v", err)
		}
		if err := e.Receive(ctx, Receipt{Date: friday}, now); err == nil {
			t.Error("a receipt without a reference")
		}
		if tasks, err := e.Tasks(ctx, 10); err != nil || len(tasks) != 2 {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		w.sound(e)
	})
}

// What was advanced for a day is given back when everybody has paid the day: one
// wallet's money alone would repay it out of what belongs to merchants.
func TestAdvanceWaitsForEveryReceipt(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, money.Yuan(10_000))
		mid := w.merchant(1, "ESIGN-STD", merchant.D0, "00")
		w.sale(mid, friday, 100_00)
		w.sale(mid, friday, 50_00)
		w.book.facts[1].Channel, w.book.facts[1].CardType, w.book.facts[1].Wallet = merchant.QR, "", "alipay"
		must(t, e.AllowFast(ctx, mid, "li", clock(friday, 8, 0)))
		w.close(e, friday)
		paid := w.pay(e, clock(friday, 23, 10))
		if paid.Paid != 1 || w.balance(e, ledger.DueToOwnAdvance, "") != paid.Total {
			t.Fatalf("advanced %+v", paid)
		}
		must(t, e.Receive(ctx, Receipt{Date: friday, Wallet: "alipay", Received: 50_00, Reference: "ALI1"}, clock(monday, 9, 0)))
		w.pay(e, clock(monday, 9, 5))
		if bank, due := w.balance(e, ledger.ClientBank, ""), w.balance(e, ledger.DueToOwnAdvance, ""); bank != 50_00 || due != paid.Total {
			t.Errorf("the wallet alone has paid: the merchants' bank account has %s and %s is to be repaid, want 50.00 and %s", bank, due, paid.Total)
		}
		w.receive(e, friday, clock(monday, 10, 0))
		if due := w.balance(e, ledger.DueToOwnAdvance, ""); due != 0 {
			t.Errorf("everybody has paid, and %s is to be repaid", due)
		}
		w.sound(e)
	})
}

// Two schedulers, and the poster, at once.
func TestTwoSchedulers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.fund(w.engine(), 1_000_000_00)
		for i := range 120 {
			speed := merchant.T1
			if i%3 == 0 {
				speed = merchant.D0
			}
			mid := w.merchant(i, "ESIGN-STD", speed, "00")
			for range 5 {
				w.sale(mid, friday, money.Amount(100_00+i))
			}
		}
		var wg sync.WaitGroup
		days := make([]Day, 4)
		for i := range days {
			wg.Go(func() {
				e := w.engine()
				var err error
				if days[i], err = e.CloseDay(ctx, friday, clock(friday, 23, 1), false); err != nil {
					t.Error(err)
				}
				if _, err := e.Pay(ctx, clock(friday, 23, 2)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		e := w.engine()
		w.receive(e, friday, clock(monday, 9, 0))
		for range 2 {
			wg.Go(func() {
				if _, err := w.engine().Pay(ctx, clock(monday, 10, 0)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.pay(e, clock(monday, 10, 5))
		for _, d := range days {
			if d != days[0] || d.Lines != 600 || d.Payouts != 120 {
				t.Errorf("%+v against %+v", d, days[0])
			}
		}
		if n := len(w.bank.Payouts()); n != 120 {
			t.Errorf("the bank has %d orders for 120 payouts", n)
		}
		for _, p := range w.bank.Payouts() {
			if p.Ordered() != 1 {
				t.Errorf("%s was ordered %d times", p.Reference, p.Ordered())
			}
		}
		if paid := money.Yuan(1_000_000) - w.bank.Balance(); paid != days[0].PayoutTotal {
			t.Errorf("the bank paid %s of %s", paid, days[0].PayoutTotal)
		}
		w.sound(e)
	})
}

// A process that ends between any two durable writes, and is started again:
// the end is the same as without.
func TestCrashAtEveryStep(t *testing.T) {
	play := func(t *testing.T, w *world, crash int) (names []string) {
		w.cfg.SubmitTimeout = time.Second
		w.cfg.Workers = 1
		e := w.engine()
		w.fund(e, 100_000_00)
		a, b := w.merchant(1, "MICRO-2025", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.D0, "00")
		mids := []string{a, b, w.merchant(3, "ESIGN-STD", merchant.T1, "91"), w.merchant(4, "ESIGN-STD", merchant.T1, "95"), w.merchant(5, "ESIGN-STD", merchant.T1, "93")}
		for _, mid := range mids {
			w.sale(mid, friday, 200_00)
		}
		back := w.sale(b, friday, 70_00)
		w.takeBack(w.sale(a, friday, 33_00), clock(friday, 15, 0))
		pay := func(now time.Time) func(context.Context, *Engine) error {
			return func(ctx context.Context, e *Engine) error { _, err := e.Pay(ctx, now); return err }
		}
		acts := []func(context.Context, *Engine) error{
			func(ctx context.Context, e *Engine) error { _, err := e.CatchUp(ctx); return err },
			func(ctx context.Context, e *Engine) error {
				_, err := e.CloseDay(ctx, friday, clock(friday, 23, 1), false)
				return err
			},
			pay(clock(friday, 23, 2)),
			func(ctx context.Context, e *Engine) error {
				if w.txn == 7 {
					w.takeBack(back, clock(saturday, 9, 0))
					w.sale(b, saturday, 100_00)
				}
				_, err := e.CloseDay(ctx, saturday, clock(saturday, 23, 1), false)
				return err
			},
			func(ctx context.Context, e *Engine) error {
				sum, err := e.Expected(ctx, friday, "")
				if err != nil {
					return err
				}
				return e.Receive(ctx, Receipt{Date: friday, Received: sum, Reference: "UP1"}, clock(monday, 9, 0))
			},
			pay(clock(monday, 10, 0)), pay(clock(monday, 10, 1)), pay(clock(monday, 10, 2)), pay(clock(monday, 10, 3)),
			func(context.Context, *Engine) error { w.bank.Advance(1); return nil },
			pay(clock(monday, 12, 0)), pay(clock(monday, 12, 1)),
		}
		ctx, hits := crashAt(t.Context(), e, crash)
		for i, act := range acts {
			if err := act(ctx, e); err != nil {
				if !errors.Is(err, errCrash) {
					t.Fatalf("crash at %d, act %d: %v", crash, i, err)
				}
				ctx, e = t.Context(), w.engine() // the next start
				if err := act(ctx, e); err != nil {
					t.Fatalf("crash at %d, act %d again: %v", crash, i, err)
				}
			}
			w.sound(e)
		}
		return *hits
	}
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.t = t
		steps := play(t, w, 1<<30)
		want, wantBank := w.tables(), w.bank.Balance()
		hit := map[string]bool{}
		stride := 1
		if db.Postgres() { // a new database for each takes a second
			stride = 3
		}
		for n := 1; n <= len(steps); n += stride {
			t.Run(fmt.Sprintf("%02d-%s", n, steps[n-1]), func(t *testing.T) {
				open := storetest.SQLite
				if db.Postgres() {
					open = storetest.Postgres
				}
				w := newWorld(t, open(t, schemas...))
				names := play(t, w, n)
				name := names[n-1]
				hit[name] = true
				got, bank := w.tables(), w.bank.Balance()
				if name == "claimed" {
					// The order may have left, so it is never sent again: it fails when the
					// bank has not known it for long enough, and a person issues it anew.
					if strings.Count(got, "task payout_failed/") != 1 || bank < wantBank {
						t.Errorf("the bank has %s (%s without a crash) and this is on disk:\n%s", bank, wantBank, difference(want, got))
					}
					return
				}
				if got != want {
					t.Errorf("the end is another:\n%s", difference(want, got))
				}
				if bank != wantBank {
					t.Errorf("the bank has %s, want %s", bank, wantBank)
				}
			})
		}
		for _, name := range []string{"posted", "begun", "gathered", "netted", "claimed", "sent", "answered", "changes taken", "received", "repaid", "asked"} {
			if !hit[name] && stride == 1 {
				t.Errorf("no crash at %q: %v", name, steps)
			}
		}
	})
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t, schemas...))
	for name, spoil := range map[string]func(*Config){
		"store":  func(c *Config) { c.DB = nil },
		"source": func(c *Config) { c.Source = nil },
		"people": func(c *Config) { c.Merchants = nil },
		"unseal": func(c *Config) { c.Unseal = nil },
	} {
		cfg := w.cfg
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("without %s", name)
		}
	}
	cfg := w.cfg
	cfg.Rail = nil
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Pay(context.Background(), time.Now()); err == nil {
		t.Error("paid without a bank")
	}
}

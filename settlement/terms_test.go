package settlement

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// register puts a merchant as it is when nobody has enabled anything for it.
func (w *world) register(n, class int, plan string, speed merchant.Speed) string {
	w.t.Helper()
	mid := fmt.Sprintf("89811005411%04d", n)
	m := w.shop(mid, plan, speed, "00")
	m.Account.Class = class
	if err := w.reg.Put(w.t.Context(), []merchant.Merchant{m}, nil); err != nil {
		w.t.Fatal(err)
	}
	return mid
}

// soldAt is a credit card sale at a moment.
func (w *world) soldAt(mid string, at time.Time, amount money.Amount) Fact {
	w.txn++
	return w.book.add(Fact{At: at, Txn: w.txn, Date: calendar.BusinessDate(at, calendar.CardCutoff), RRN: fmt.Sprintf("%012d", w.txn), Merchant: mid,
		Terminal: "10000001", Issuer: "north", Channel: merchant.Card, CardType: merchant.Credit, Amount: amount})
}

// accountChanged sets when a merchant's account became another one.
func (w *world) accountChanged(mid string, at time.Time) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), func(tx store.Tx) error {
		if _, err := tx.Exec("update merchant_version set version = version + 1"); err != nil {
			return err
		}
		_, err := tx.Exec("update merchant set account_changed = $1, version = (select version from merchant_version) where mid = $2", at.UnixMicro(), mid)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.reg.Refresh(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// lineOf reads a transaction's speed and why it has it.
func (w *world) lineOf(txn int64) (l line) {
	w.t.Helper()
	if err := w.db.Read(w.t.Context(), func(tx store.Tx) error {
		rows, err := tx.Query("select "+lineColumns+" from settlement_line where id = $1", txn)
		all, err := store.All(rows, err, scanLine)
		if err == nil && len(all) == 1 {
			l = all[0]
		}
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return l
}

// STL-04: the first sale is paid T+1 unless somebody has enabled early payment.
// The rule of 2016 asks for 90 days and 30 days in a row with sales besides.
func TestFirstSaleIsPaidLate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		fresh, enabled := w.register(1, 1, "MICRO-2025", merchant.S0), w.register(2, 1, "ESIGN-STD", merchant.D0)
		if err := e.AllowFast(ctx, enabled, "", clock(friday, 8, 0)); err == nil {
			t.Error("nobody enabled it")
		}
		must(t, e.AllowFast(ctx, enabled, "wang", clock(friday, 8, 0)))
		facts := []Fact{w.sale(fresh, friday, 100_00), w.sale(fresh, friday, 200_00), w.sale(enabled, friday, 100_00)}
		for range 2 { // facts that come again find what they made
			must(t, e.Post(ctx, facts))
		}
		for i, want := range []merchant.Speed{merchant.T1, merchant.S0, merchant.D0} {
			if l := w.lineOf(facts[i].Txn); l.speed != want || (l.note == "") != (i > 0) {
				t.Errorf("sale %d is paid %s (%s), want %s", i+1, l.speed, l.note, want)
			}
		}
		w.cfg.FastAfter, w.cfg.FastStreak = 90, 30
		strict, mid := w.engine(), w.register(3, 1, "ESIGN-STD", merchant.D0)
		start := calendar.Date(20260101)
		for day := range 125 {
			if day == 80 {
				continue // a day without sales: the row begins anew
			}
			must(t, strict.Post(ctx, []Fact{w.sale(mid, start.AddDays(day), 10_00)}))
			l := w.lineOf(w.txn)
			if fast := day >= 110; (l.speed == merchant.D0) != fast {
				t.Errorf("day %d: paid %s (%s)", day, l.speed, l.note)
			}
			if why := map[bool]string{true: "90 days", false: "30 days"}[day < 90]; day > 0 && day < 110 && !strings.Contains(l.note, why) {
				t.Errorf("day %d: %s", day, l.note)
			}
		}
	})
}

// STL-02: an S0 sale is on the merchant's card within 120 seconds, or is paid
// T+1 with a reason.
func TestInstant(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var took []time.Duration
		slow := map[Slow]int{}
		w.cfg.OnInstant = func(d time.Duration) { took = append(took, d) }
		w.cfg.BankFrom, w.cfg.BankTo, w.cfg.Cooling, w.cfg.AdvanceLimit = 8*time.Hour, 22*time.Hour+50*time.Minute, 24*time.Hour, 3_000_00
		w.cfg.OnSlow = func(cause Slow) { slow[cause]++ }
		e, ctx := w.engine(), t.Context()
		w.fund(e, 5_000_00)
		mid := w.merchant(1, "MICRO-2025", merchant.S0, "00")
		at := clock(friday, 12, 0)
		instant := func(after time.Duration) Payment {
			t.Helper()
			if _, err := e.CatchUp(ctx); err != nil {
				t.Fatal(err)
			}
			p, err := e.PayInstant(ctx, at.Add(after))
			must(t, err)
			w.sound(e)
			return p
		}
		first := w.soldAt(mid, at, 1_000_00)
		w.soldAt(mid, at.Add(time.Second), 500_00)
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if n, oldest, err := e.Instant(ctx, at.Add(3*time.Second)); err != nil || n != 2 || oldest != 3*time.Second {
			t.Errorf("%d wait for %s, %v", n, oldest, err)
		}
		if p := instant(4 * time.Second); p.Paid != 1 || p.Total != 991_00+494_00 {
			t.Errorf("paid %+v", p)
		}
		if len(took) != 1 || took[0] < 4*time.Second || took[0] > 120*time.Second {
			t.Errorf("took %s", took)
		}
		if p := instant(5 * time.Second); p.Sent != 0 {
			t.Errorf("paid again: %+v", p)
		}
		// The sale is voided: the next one pays for it.
		w.takeBack(first, at.Add(10*time.Second))
		if p := instant(11 * time.Second); p.Sent != 0 {
			t.Errorf("paid for a void: %+v", p)
		}
		w.soldAt(mid, at.Add(12*time.Second), 1_200_00)
		if p := instant(13 * time.Second); p.Total != 1_189_80-991_00 {
			t.Errorf("paid %+v after the void", p)
		}
		two, three, four := w.register(2, 2, "MICRO-2025", merchant.S0), w.register(3, 1, "MICRO-2025", merchant.S0), w.register(4, 1, "MICRO-2025", merchant.S0)
		for _, m := range []string{two, three, four} {
			must(t, e.AllowFast(ctx, m, "wang", at))
		}
		w.accountChanged(four, at)
		later := time.Minute
		refused := func(mid string, amount money.Amount, want string) {
			t.Helper()
			later += time.Minute
			f := w.soldAt(mid, at.Add(later), amount)
			if p := instant(later + time.Second); p.Sent != 0 {
				t.Errorf("%s: paid %+v", want, p)
			}
			if l := w.lineOf(f.Txn); l.speed != merchant.T1 || l.run != lineOpen || !strings.Contains(l.note, want) {
				t.Errorf("paid %s, run %d, %q; want %q", l.speed, l.run, l.note, want)
			}
		}
		refused(mid, 2_500_00, "3000.00 a day is advanced")
		refused(three, 2_900_00+700_00, "3000.00 a day is advanced")
		w.cfg.AdvanceLimit = 0
		e = w.engine()
		refused(two, 11_000_00, "10000.00 a day")
		refused(three, 4_000_00, "own funds")
		must(t, e.Watch(ctx, Watch{Merchant: three, Reason: "a case of cash-out is open", SetBy: "li"}, at))
		refused(three, 10_00, "watched since 2026-11-20: a case of cash-out")
		for _, who := range []string{"li", "wang"} {
			_, err := e.Unwatch(ctx, three, who, at)
			must(t, err)
		}
		refused(four, 10_00, "was changed")
		at, later = clock(saturday, 22, 50), 0
		refused(three, 10_00, "08:00 to 22:50")
		// A bank that never closes pays behind the cut-off too.
		w.cfg.BankFrom, w.cfg.BankTo = 0, 0
		e = w.engine()
		at = clock(saturday, 23, 30)
		w.soldAt(mid, at, 100_00)
		if p := instant(5 * time.Second); p.Paid != 1 || p.Total != 96_40 {
			t.Errorf("paid %+v at 23:30", p)
		}
		if want := (map[Slow]int{SlowFunds: 3, SlowAccount: 1, SlowRisk: 1, SlowMerchant: 1, SlowHours: 1}); !maps.Equal(slow, want) {
			t.Errorf("slowed down %v, want %v", slow, want)
		}
	})
}

// STL-06: a class II account takes 10,000 yuan a day, a class III account
// 2,000; what is more goes on the next days, whatever business dates it is of.
func TestAccountClasses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		two, three := w.register(1, 2, "ESIGN-STD", merchant.T1), w.register(2, 3, "ESIGN-STD", merchant.T1)
		w.sale(two, friday, 25_150_91) // 25,000.00 after 0.60 %
		w.sale(three, friday, 2_500_00)
		if d := w.close(e, friday); d.Payouts != 2 || d.PayoutTotal != 25_000_00+2_485_00 || d.CarryOut != 0 {
			t.Errorf("friday %+v", d)
		}
		w.sale(two, saturday, 100_00) // due on monday too, where no room is left, nor on tuesday
		w.close(e, saturday)
		w.sound(e)
		paid := map[string]string{}
		for day := range 4 {
			date := monday.AddDays(day)
			w.pay(e, clock(date, 10, 0))
			for _, p := range w.bank.Payouts() {
				if paid[p.Reference] == "" {
					paid[p.Reference] = fmt.Sprint(date, " ", p.Amount)
				}
			}
		}
		want := map[string]string{
			"20261120-" + two + "-T1-0": "2026-11-23 10000.00", "20261120-" + two + "-T1-0b": "2026-11-24 10000.00", "20261120-" + two + "-T1-0c": "2026-11-25 5000.00",
			"20261121-" + two + "-T1-0":   "2026-11-25 99.40",
			"20261120-" + three + "-T1-0": "2026-11-23 2000.00", "20261120-" + three + "-T1-0b": "2026-11-24 485.00",
		}
		if fmt.Sprint(paid) != fmt.Sprint(want) {
			t.Errorf("paid %v\nwant %v", paid, want)
		}
		w.sound(e)
	})
}

// Payouts wait for a day after the settlement account was changed; the same
// number sealed anew is no change.
func TestAccountCools(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.Cooling = 24 * time.Hour
		e := w.engine()
		mid := w.register(1, 1, "ESIGN-STD", merchant.T1)
		put := func(masked, weather string) time.Time {
			t.Helper()
			m := w.shop(mid, "ESIGN-STD", merchant.T1, weather)
			m.Account.Masked = masked
			must(t, w.reg.Put(t.Context(), []merchant.Merchant{m}, nil))
			now, _ := w.reg.Merchant([]byte(mid))
			return now.Account.Changed
		}
		if !put("622848******0000", "00").IsZero() || !put("622848******0000", "90").IsZero() {
			t.Error("the first account, sealed anew, counts as changed")
		}
		if changed := put("622848******0001", "01"); time.Since(changed).Abs() > time.Minute {
			t.Fatalf("changed %s", changed)
		}
		w.sale(mid, friday, 100_00)
		w.close(e, friday)
		w.accountChanged(mid, clock(monday, 0, 0))
		if p := w.pay(e, clock(monday, 23, 59)); p.Held != 1 || p.Sent != 0 {
			t.Errorf("while it cools: %+v", p)
		}
		if tasks, err := e.Tasks(t.Context(), 10); err != nil || len(tasks) != 1 || !strings.Contains(tasks[0].Text, "wait until 2026-11-24 00:00") {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		if p := w.pay(e, clock(monday.AddDays(1), 0, 0)); p.Sent != 1 {
			t.Errorf("afterwards: %+v", p)
		}
	})
}

// A debt that is 30 days old, or great, is moved to arrears and collected from
// what the merchant sells later.
func TestArrears(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.ArrearsDays, w.cfg.ArrearsOver = 30, 1_000_00
		e, ctx := w.engine(), t.Context()
		small, great := w.register(1, 1, "ESIGN-STD", merchant.T1), w.register(2, 1, "ESIGN-STD", merchant.T1)
		day := calendar.Date(20261010)
		must(t, e.Chargeback(ctx, Chargeback{Key: "S", Merchant: small, Amount: 60_00}, clock(day, 12, 0)))
		must(t, e.Chargeback(ctx, Chargeback{Key: "G", Merchant: great, Amount: 1_000_01}, clock(day, 12, 0)))
		if d := w.close(e, day); d.CarryOut != -60_00 {
			t.Errorf("day 0 %+v", d)
		}
		owes := func(mid string) money.Amount { return w.balance(e, ledger.Arrears, mid) }
		if owes(small) != 0 || owes(great) != 1_000_01 || w.balance(e, ledger.MerchantPayable, great) != 0 {
			t.Errorf("arrears %s and %s", owes(small), owes(great))
		}
		w.sale(small, day.AddDays(10), 10_00) // 9.94: the debt is as old as it was
		if d := w.close(e, day.AddDays(29)); d.CarryOut != 0 || owes(small) != 0 {
			t.Errorf("day 29 %+v, arrears %s", d, owes(small))
		}
		w.close(e, day.AddDays(30))
		if owes(small) != 50_06 || w.balance(e, ledger.MerchantPayable, small) != 0 {
			t.Errorf("after 30 days: arrears %s", owes(small))
		}
		w.sound(e)
		w.close(e, day.AddDays(31))
		w.sale(small, day.AddDays(32), 100_00)
		w.sale(great, day.AddDays(32), 100_00)
		if d := w.close(e, day.AddDays(32)); d.PayoutTotal != 99_40-50_06 || d.Payouts != 1 || d.CarryOut != 0 {
			t.Errorf("collected: %+v", d)
		}
		if owes(small) != 0 || owes(great) != 1_000_01-99_40 {
			t.Errorf("arrears %s and %s", owes(small), owes(great))
		}
		tasks, err := e.Tasks(ctx, 10)
		if err != nil || len(tasks) != 2 || tasks[0].Kind != "arrears" || !strings.Contains(tasks[1].Text, "50.06 since 2026-10-10") {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		w.sound(e)
		// Two batches of one close collect a debt once.
		next := day.AddDays(33)
		must(t, e.AllowFast(ctx, great, "wang", clock(next, 8, 0)))
		w.sale(great, next, 600_00)
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		must(t, w.reg.Put(ctx, []merchant.Merchant{w.shop(great, "ESIGN-STD", merchant.D0, "00")}, nil))
		w.sale(great, next, 600_00)
		w.close(e, next)
		if owes(great) != 0 {
			t.Errorf("arrears %s after two batches", owes(great))
		}
		w.sound(e)
	})
}

// STL-01, STL-03: T+1 is the next working day, make-up days among them, D+1 the
// next day and D+0 the same. The dates are the vectors of the calendar.
func TestWhenPayoutsAreDue(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		w.fund(e, money.Yuan(1_000_000))
		mids := map[merchant.Speed]string{merchant.T1: w.merchant(1, "ESIGN-STD", merchant.T1, "00"), merchant.D0: w.merchant(2, "ESIGN-STD", merchant.D0, "00")}
		for _, c := range []struct {
			moment time.Time
			date   calendar.Date
			due    calendar.Date
		}{
			{clock(20260213, 22, 59), 20260213, 20260214}, {clock(20260213, 23, 0), 20260214, 20260224}, {clock(20260215, 12, 0), 20260215, 20260224},
			{clock(20260223, 22, 59), 20260223, 20260224}, {clock(20260223, 23, 0), 20260224, 20260225}, {clock(20260430, 12, 0), 20260430, 20260506},
			{clock(20260508, 12, 0), 20260508, 20260509}, {clock(20260919, 12, 0), 20260919, 20260920}, {clock(20260924, 12, 0), 20260924, 20260928},
			{clock(20260930, 23, 30), 20261001, 20261008}, {clock(20261009, 12, 0), 20261009, 20261010}, {clock(20261120, 22, 59), 20261120, 20261123},
		} {
			for _, mid := range mids {
				if f := w.soldAt(mid, c.moment, 100_00); f.Date != c.date {
					t.Fatalf("%s is business date %s", c.moment, f.Date)
				}
			}
			w.close(e, c.date)
			for speed, due := range map[merchant.Speed]calendar.Date{merchant.T1: c.due, merchant.D0: c.date} {
				if p := w.payout(e, fmt.Sprintf("%08d-%s-%s-0", int32(c.date), mids[speed], speed)); p.due != due {
					t.Errorf("%s sold at %s is due %s, want %s", speed, c.moment, p.due, due)
				}
			}
		}
	})
}

// C13, C14: a small sale never costs the merchant more than it is; the sale of
// 1.00 that the terminal let pass pays nothing out and owes nothing.
func TestFeeIsNoMoreThanTheSale(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid := w.register(1, 1, "MICRO-2025", merchant.T1)
		for _, c := range []struct{ amount, net money.Amount }{{1_00, 0}, {3_01, 0}, {3_02, 0}, {10_00, 6_94}, {100_00, 96_40}} {
			f := w.sale(mid, friday, c.amount)
			must(t, e.Post(t.Context(), []Fact{f}))
			if l := w.lineOf(f.Txn); l.amount-l.feeRate-l.feeFixed != c.net {
				t.Errorf("%s leaves %s, want %s", c.amount, l.amount-l.feeRate-l.feeFixed, c.net)
			}
		}
		if d := w.close(e, friday); d.PayoutTotal != 103_34 || d.CarryOut != 0 {
			t.Errorf("friday %+v", d)
		}
		w.sound(e)
	})
}

// STL-07: the state of every transaction's money, and why it is not there yet.
func TestArrival(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.register(1, 1, "ESIGN-STD", merchant.D0) // its first sale is T+1
		sale := w.sale(mid, friday, 100_00)
		if _, err := e.Arrival(ctx, sale.Txn, clock(friday, 12, 0)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("before it is booked: %v", err)
		}
		at := func(line LineState, states ...PayoutState) {
			t.Helper()
			a, err := e.Arrival(ctx, sale.Txn, clock(friday, 12, 0))
			if err != nil || a.Line != line || a.Net != 99_40 || !strings.Contains(a.Reason, "first sale") || len(a.Payouts) != len(states) {
				t.Fatalf("%+v, %v; want %s and %v", a, err, line, states)
			}
			for i, p := range a.Payouts {
				if p.State != states[i] {
					t.Errorf("payout %d is %s, want %s", i, p.State, states[i])
				}
			}
		}
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		at(LineWaits)
		w.close(e, friday)
		at(LineSettled, Created)
		w.pay(e, clock(monday, 10, 0))
		at(LineSettled, Paid)
	})
}

// What was released or won for a merchant beside an S0 sale waits with it when
// nothing may be advanced: the run still adds up, and the close pays both.
func TestInstantPutsBackWhatWasWon(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.AdvanceLimit = 1_400_00
		e, ctx := w.engine(), t.Context()
		w.fund(e, 5_000_00)
		mid := w.merchant(1, "MICRO-2025", merchant.S0, "00")
		at := clock(friday, 12, 0)
		instant := func(amount, paid money.Amount) {
			t.Helper()
			at = at.Add(time.Minute)
			w.soldAt(mid, at, amount)
			if _, err := e.CatchUp(ctx); err != nil {
				t.Fatal(err)
			}
			p, err := e.PayInstant(ctx, at.Add(time.Second))
			if err != nil || p.Total != paid {
				t.Errorf("of %s paid %s, want %s: %v", amount, p.Total, paid, err)
			}
			w.sound(e)
		}
		instant(1_000_00, 991_00)
		must(t, e.Chargeback(ctx, Chargeback{Key: "C1", Merchant: mid, Amount: 100_00}, at))
		instant(500_00, 494_00-100_00)
		must(t, e.ChargebackWon(ctx, "C1", 100_00, at))
		instant(200_00, 0) // 15.00 more may be advanced
		w.close(e, friday)
		w.sound(e)
		var other money.Amount
		must(t, w.db.Read(ctx, func(tx store.Tx) error {
			return tx.QueryRow("select cast(sum(other) as BIGINT) from settlement_batch where merchant = $1", mid).Scan(&other)
		}))
		if other != 0 {
			t.Errorf("of what was charged back and won %s is left", other)
		}
	})
}

// A D+0 merchant whose account has just become another one is paid T+1 and pays
// nothing for speed; so is one whose plan does not offer its speed. The lines say why.
func TestEarlyPaymentThatIsNotToBeHad(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.Cooling = 24 * time.Hour
		e, ctx := w.engine(), t.Context()
		w.fund(e, 5_000_00)
		mid, plain := w.merchant(1, "ESIGN-STD", merchant.D0, "00"), w.merchant(2, "ESIGN-STD", merchant.S0, "00")
		w.accountChanged(mid, clock(friday, 11, 30))
		sale, other := w.sale(mid, friday, 1_000_00), w.sale(plain, friday, 100_00)
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		day, err := e.PayEarly(ctx, friday, 1600, clock(friday, 16, 0))
		if err != nil || day.Lines != 1 || day.SpeedFee != 0 || day.PayoutTotal != 994_00 {
			t.Fatalf("the window: %+v, %v", day, err)
		}
		a, err := e.Arrival(ctx, sale.Txn, clock(friday, 12, 0))
		if err != nil || len(a.Payouts) != 1 || a.Payouts[0].Due != monday || !strings.Contains(a.Reason, "the settlement account was changed") {
			t.Errorf("its money: %+v, %v", a, err)
		}
		if a, err = e.Arrival(ctx, other.Txn, clock(friday, 12, 0)); err != nil || a.Speed != merchant.T1 || a.Due != monday || a.Reason != "plan ESIGN-STD does not offer S0" {
			t.Errorf("where S0 is not on offer: %+v, %v", a, err)
		}
		w.close(e, friday)
		if p := w.pay(e, clock(monday, 9, 0)); p.Paid != 2 {
			t.Errorf("Monday: %+v", p)
		}
		w.sound(e)
	})
}

// On the last day of a year whose successor's holidays nobody has told, S0 is
// paid as ever; only what is paid T+1 waits for them.
func TestInstantAtTheEndOfTheCalendar(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, 5_000_00)
		mid := w.merchant(1, "MICRO-2025", merchant.S0, "00")
		eve := calendar.Date(20261231)
		for _, err := calendar.SettleDate(eve); err == nil; _, err = calendar.SettleDate(eve) {
			eve += 1_0000 // another test may have assumed a year
		}
		at := clock(eve, 12, 0)
		sale := w.soldAt(mid, at, 1_000_00)
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		p, err := e.PayInstant(ctx, at.Add(4*time.Second))
		if err != nil || p.Paid != 1 || p.Total != 991_00 {
			t.Errorf("paid %+v, %v", p, err)
		}
		if a, err := e.Arrival(ctx, sale.Txn, clock(friday, 12, 0)); err != nil || len(a.Payouts) != 1 || a.Payouts[0].Due != eve {
			t.Errorf("%+v, %v", a, err)
		}
		if got := w.balance(e, ledger.AdvanceD0, ""); got != 991_00 {
			t.Errorf("%s is lent", got)
		}
		w.sound(e)
	})
}

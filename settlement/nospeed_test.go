package settlement

import (
	"maps"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
)

// What a D+0 merchant sells behind the day's last window is sent when the date is
// closed, at midnight, or later when the date waited for the files of the others.
// On the eve of a working day that is no earlier than T+1, so it is T+1 and costs
// nothing for speed; before a weekend or a holiday it stays D+0 with its fee.
func TestNobodyPaysForSpeedThatIsNone(t *testing.T) {
	const thursday calendar.Date = 20261119
	for _, c := range []struct {
		name   string
		date   calendar.Date
		closed time.Time
		early  bool
		due    calendar.Date
	}{
		{"a Thursday at midnight", thursday, clock(friday, 0, 5), false, friday},
		{"a Thursday that is closed before midnight", thursday, clock(thursday, 23, 5), true, thursday},
		{"a Friday at midnight: T+1 is Monday", friday, clock(saturday, 0, 5), true, friday},
		{"a Friday that waited until Sunday", friday, clock(20261122, 23, 30), true, friday},
		{"a Friday that waited until Monday", friday, clock(monday, 9, 0), false, monday},
		{"a Friday that waited until Wednesday", friday, clock(20261125, 9, 0), false, monday},
		{"a Friday before a make-up Saturday", 20260213, clock(20260214, 0, 5), false, 20260214},
		{"a make-up Saturday before a holiday", 20260214, clock(20260215, 0, 5), true, 20260214},
		{"the last night of a holiday", 20261007, clock(20261008, 0, 5), false, 20261008},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				slow := map[Slow]int{}
				w.cfg.OnSlow = func(cause Slow) { slow[cause]++ }
				e, ctx := w.engine(), t.Context()
				w.fund(e, money.Yuan(10_000))
				mid := w.merchant(1, "ESIGN-STD", merchant.D0, "00")
				debtor := w.merchant(2, "ESIGN-STD", merchant.D0, "00")
				sale, other := w.sale(mid, c.date, 1_000_00), w.sale(debtor, c.date, 1_000_00)
				w.after(sale, Adjusts, 100_00) // its tip
				catchUp(t, e)
				must(t, e.ExtraFee(ctx, "a great repair", debtor, 2_000_00, "repair", clock(c.date, 12, 0)))
				day, err := e.CloseDay(ctx, c.date, c.closed, false)
				must(t, err)
				w.sound(e)
				w.derived(e)
				fees := map[bool]money.Amount{true: 50 + 5 + 50, false: 0}[c.early] // 0.05 % of the net
				if day.SpeedFee != fees || w.balance(e, ledger.IncomeD0, "") != fees {
					t.Errorf("for speed %s was taken, %s booked; want %s", day.SpeedFee, w.balance(e, ledger.IncomeD0, ""), fees)
				}
				a, err := e.Arrival(ctx, sale.Txn, c.closed)
				if err != nil || len(a.Payouts) != 1 || a.Payouts[0].Due != c.due || strings.Contains(a.Reason, whyLate) == c.early {
					t.Errorf("its money: %+v, %v; want it due %s", a, err, c.due)
				}
				days, _, err := e.Merchants(ctx, c.date)
				if err != nil || strings.Contains(days[0].Reason, whyLate) == c.early {
					t.Errorf("the batch: %+v, %v", days, err)
				}
				for _, id := range []int64{sale.Txn, sale.Txn + 2, other.Txn} { // the sale, its tip and the debtor's
					if l := w.lineOf(id); (l.speedFee == 0) == c.early || strings.Contains(l.note, whyLate) == c.early {
						t.Errorf("line %d costs %s for speed: %q", id, l.speedFee, l.note)
					}
				}
				want := map[Slow]int{SlowLate: 2}
				if c.early {
					want = map[Slow]int{}
				}
				if !maps.Equal(slow, want) {
					t.Errorf("slowed down %v, want %v", slow, want)
				}
				p := w.pay(e, c.closed.Add(time.Minute))
				if p.Paid != 1 || (w.balance(e, ledger.AdvanceD0, mid) > 0) != c.early {
					t.Errorf("paid %+v, lent %s", p, w.balance(e, ledger.AdvanceD0, mid))
				}
				// Taken back later, no fee comes back that was not taken.
				w.takeBack(other, c.closed.Add(2*time.Minute))
				catchUp(t, e)
				w.sound(e)
			})
		})
	}
}

// Sales of a date that waits to be closed are not paid early by a window, or at
// once, of the day on which its T+1 money goes: they wait for the close as T+1.
func TestLateSalesAreNotPaidEarly(t *testing.T) {
	const thursday calendar.Date = 20261119
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, money.Yuan(10_000))
		fast, instant := w.merchant(1, "ESIGN-STD", merchant.D0, "00"), w.merchant(2, "MICRO-2025", merchant.S0, "00")
		late, lateS0 := w.sale(fast, thursday, 1_000_00), w.sale(instant, thursday, 2_000_00)
		intime := w.sale(fast, friday, 3_000_00)
		catchUp(t, e)
		day, err := e.PayEarly(ctx, friday, 1200, clock(friday, 12, 0))
		if err != nil || day.Gross != 3_000_00 || day.SpeedFee == 0 {
			t.Errorf("the window: %+v, %v", day, err)
		}
		p, err := e.PayInstant(ctx, clock(friday, 12, 1))
		if err != nil || p.Sent != 0 {
			t.Errorf("at once: %+v, %v", p, err)
		}
		if n, _, err := e.Instant(ctx, clock(friday, 12, 2)); err != nil || n != 0 {
			t.Errorf("%d S0 sales wait, %v", n, err)
		}
		for _, f := range []Fact{late, lateS0} {
			a, err := e.Arrival(ctx, f.Txn, clock(friday, 12, 3))
			if err != nil || a.Line != LineWaits || a.Speed != merchant.T1 || a.Due != friday || a.Reason != whyLate {
				t.Errorf("transaction %d: %+v, %v", f.Txn, a, err)
			}
		}
		days, closed, err := e.Merchants(ctx, thursday)
		if err != nil || closed || len(days) != 2 || days[0].Reason != whyLate || days[1].Reason != whyLate {
			t.Errorf("the open day: %+v, %v", days, err)
		}
		day, err = e.CloseDay(ctx, thursday, clock(friday, 13, 0), false)
		if err != nil || day.Gross != 3_000_00 || day.SpeedFee != 0 {
			t.Errorf("the close: %+v, %v", day, err)
		}
		if p := w.pay(e, clock(friday, 13, 1)); p.Paid != 3 {
			t.Errorf("paid %+v", p)
		}
		if l := w.lineOf(intime.Txn); l.speedFee == 0 || l.note != "" {
			t.Errorf("what was in time: %+v", l)
		}
		w.sound(e)
		w.derived(e)
	})
}

// When a sale that waits is paid: what can no longer be paid early says so.
func TestPaidOn(t *testing.T) {
	const thursday calendar.Date = 20261119
	each(t, func(t *testing.T, w *world) {
		w.cfg.Windows, w.cfg.WalletCutOff = []int{1200, 2230, 2330}, calendar.WalletCutoff
		w.cfg.BankFrom, w.cfg.BankTo = 8*time.Hour, 23*time.Hour+30*time.Minute
		e := w.engine()
		for _, c := range []struct {
			date  calendar.Date
			speed merchant.Speed
			now   time.Time
			due   calendar.Date
			why   string
		}{
			{thursday, merchant.T1, clock(thursday, 12, 0), friday, ""},
			{thursday, merchant.T1, clock(saturday, 12, 0), saturday, ""}, // it waits for a file
			{thursday, merchant.D0, clock(thursday, 11, 0), thursday, ""},
			{thursday, merchant.D0, clock(thursday, 22, 30), thursday, ""},
			{thursday, merchant.D0, clock(thursday, 22, 31), friday, whyLate},
			{thursday, merchant.D0, clock(saturday, 9, 0), saturday, whyLate},
			{friday, merchant.D0, clock(thursday, 23, 30), friday, ""},
			{friday, merchant.D0, clock(friday, 22, 31), saturday, ""},
			{friday, merchant.D0, clock(20261122, 9, 0), 20261122, ""},
			{friday, merchant.D0, clock(monday, 9, 0), monday, whyLate},
			{thursday, merchant.D1, clock(thursday, 12, 0), friday, ""},
			{friday, merchant.D1, clock(friday, 12, 0), saturday, ""},
			{friday, merchant.D1, clock(monday, 9, 0), monday, whyLate},
			{thursday, merchant.S0, clock(thursday, 12, 0), thursday, ""},
			{friday, merchant.S0, clock(thursday, 23, 10), thursday, ""},
			{friday, merchant.S0, clock(thursday, 23, 40), monday, "the bank pays at once only from 08:00 to 23:30"},
			{thursday, merchant.S0, clock(friday, 9, 0), friday, whyLate},
			{friday, merchant.S0, clock(saturday, 9, 0), saturday, ""},
		} {
			if due, why, err := e.PaidOn(c.date, c.speed, c.now); err != nil || due != c.due || why != c.why {
				t.Errorf("%s of %s at %s: %s %q, %v; want %s %q", c.speed, c.date, c.now.In(calendar.Beijing).Format("2006-01-02 15:04"), due, why, err, c.due, c.why)
			}
		}
	})
}

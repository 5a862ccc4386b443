package settlement

import (
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
)

// D+1 is the next calendar day, whatever day that is: on a weekend and in a
// holiday it is paid before the network pays, from our own money; where the next
// day is a working one, a make-up day too, the network's money is there.
func TestNextCalendarDay(t *testing.T) {
	for _, c := range []struct {
		name     string
		date     calendar.Date
		due      calendar.Date
		networks calendar.Date // when the network pays
	}{
		{"an ordinary Thursday", 20261119, 20261120, 20261120},
		{"a Friday: paid on Saturday", friday, saturday, monday},
		{"a Saturday: paid on Sunday", saturday, 20261122, monday},
		{"a Sunday: paid with the network", 20261122, monday, monday},
		{"before a make-up Saturday", 20260213, 20260214, 20260214},
		{"on a make-up Saturday, before a holiday", 20260214, 20260215, 20260224},
		{"before a make-up Sunday", 20260919, 20260920, 20260920},
		{"in a holiday", 20261003, 20261004, 20261008},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				e := w.engine()
				w.fund(e, money.Yuan(10_000))
				mid := w.nextDay()
				w.sale(mid, c.date, 100_00)
				day := w.close(e, c.date)
				if day.Payouts != 1 || day.PayoutTotal != 99_40 {
					t.Fatalf("the day: %+v", day)
				}
				early := c.due < c.networks
				lent := func() money.Amount { return w.balance(e, ledger.AdvanceD0, mid) }
				for _, x := range []struct {
					at   time.Time
					paid int
				}{{clock(c.date, 23, 30), 0}, {clock(c.due, 0, 5), 1}, {clock(c.due, 12, 0), 0}} {
					if p := w.pay(e, x.at); p.Paid != x.paid || p.Sent != x.paid {
						t.Errorf("at %s: %+v, want %d", x.at, p, x.paid)
					}
				}
				if got := lent(); (got == 99_40) != early || (got == 0) == early {
					t.Errorf("%s is lent", got)
				}
				w.receive(e, c.date, clock(c.networks, 10, 0))
				if got := lent(); got != 0 {
					t.Errorf("%s is lent when the network has paid", got)
				}
				w.sound(e)
			})
		})
	}
}

// Without money of our own a D+1 sale over a weekend waits for the network.
func TestNextCalendarDayWithoutFunds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid := w.nextDay()
		w.sale(mid, friday, 100_00)
		w.close(e, friday)
		for _, d := range []calendar.Date{saturday, 20261122} {
			if p := w.pay(e, clock(d, 12, 0)); p.Sent != 0 {
				t.Errorf("%s: %+v", d, p)
			}
		}
		if p := w.pay(e, clock(monday, 9, 0)); p.Paid != 1 {
			t.Errorf("Monday: %+v", p)
		}
		w.sound(e)
	})
}

// nextDay registers a merchant of speed D1 on a plan that offers it; the plans
// that ship do not.
func (w *world) nextDay() string {
	w.t.Helper()
	if err := w.reg.ImportPlans(w.t.Context(), strings.NewReader(`{"plans": [{"code": "NEXT-DAY", "version": 1, "effective_from": "2020-01-01", "consent_policy": "explicit",
		"rules": [{"channel": "any", "card_type": "any", "ppm": 6000, "on_fee_ge_amount": "reject"}], "settle_fees": [{"speed": "D1", "base": "net", "bearer": "merchant"}]}]}`)); err != nil {
		w.t.Fatal(err)
	}
	return w.merchant(1, "NEXT-DAY", merchant.D1, "00")
}

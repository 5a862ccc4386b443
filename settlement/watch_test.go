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
	"acquirer/store"
)

// One person watches a merchant, two lift it; it ends by itself when it says so.
func TestWatch(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid, other := w.merchant(1, "MICRO-2025", merchant.S0, "00"), w.merchant(2, "MICRO-2025", merchant.S0, "00")
		at := clock(friday, 12, 0)
		for _, bad := range []Watch{{Merchant: "898110000000000", Reason: "x", SetBy: "li"}, {Merchant: mid, Reason: " ", SetBy: "li"}, {Merchant: mid, Reason: "x"},
			{Merchant: mid, Reason: strings.Repeat("x", 201), SetBy: "li"}, {Merchant: mid, Reason: "x", SetBy: "li", Until: at}} {
			if err := e.Watch(ctx, bad, at); !errors.Is(err, ErrWatch) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		if _, err := e.Unwatch(ctx, mid, "li", at); !errors.Is(err, ErrNoWatch) {
			t.Errorf("lifting what is not there: %v", err)
		}
		recorded := 0
		record := func(store.Tx) error { recorded++; return nil }
		x := Watch{Merchant: mid, Reason: "ticket 1", SetBy: "li"}
		for range 2 {
			must(t, e.Watch(ctx, x, at, record))
		}
		x.Reason = "ticket 2"
		if err := e.Watch(ctx, x, at.Add(time.Minute)); !errors.Is(err, ErrWatch) || !strings.Contains(err.Error(), "ticket 1") || strings.Contains(err.Error(), "no such") {
			t.Errorf("a second watch: %v", err)
		}
		must(t, e.Watch(ctx, Watch{Merchant: other, Reason: "a week", SetBy: "li", Until: at.Add(time.Hour)}, at))
		watched := func(mid string, at time.Time, want string) {
			t.Helper()
			must(t, w.db.Write(ctx, func(tx store.Tx) error {
				why, err := e.risky(tx, mid, friday, at)
				if (want == "") != (why == "") || !strings.Contains(why, want) {
					t.Errorf("at %s: %q, want %q", at.Format(time.TimeOnly), why, want)
				}
				return err
			}))
		}
		watched(other, at.Add(time.Hour-time.Second), "a week")
		watched(other, at.Add(time.Hour), "")
		for i, who := range []string{"li", "li", "wang"} {
			lifted, err := e.Unwatch(ctx, mid, who, at.Add(time.Hour), record)
			if lifted != (i == 2) || errors.Is(err, audit.ErrTwoPeople) != (i == 1) || i != 1 && err != nil {
				t.Errorf("%s lifts: %v, %v", who, lifted, err)
			}
			watched(mid, at, map[bool]string{true: "", false: "watched since 2026-11-20: ticket 1"}[lifted])
		}
		if recorded != 3 {
			t.Errorf("%d actions recorded", recorded)
		}
		// What was lifted, and what ended by itself, makes room for the next.
		must(t, e.Watch(ctx, x, at.Add(2*time.Hour)))
		must(t, e.Watch(ctx, Watch{Merchant: other, Reason: "again", SetBy: "li"}, at.Add(2*time.Hour)))
		for _, c := range []struct {
			ended bool
			want  int
		}{{false, 2}, {true, 4}} {
			if got, err := e.Watches(ctx, "", c.ended, at.Add(2*time.Hour), 10); err != nil || len(got) != c.want {
				t.Errorf("watches %+v, %v; want %d", got, err, c.want)
			}
		}
	})
}

// A merchant of whose sales too much goes back is not advanced money: by
// refunds, by chargebacks, while that is less than 30 days ago, and only when
// there are sales enough to say so.
func TestRiskRule(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.RiskPPM, w.cfg.RiskSales = 100_000, 4
		e, ctx := w.engine(), t.Context()
		w.fund(e, money.Yuan(100_000))
		mid := w.merchant(1, "MICRO-2025", merchant.S0, "00")
		at := clock(friday, 9, 0)
		sells := func(want string) {
			t.Helper()
			at = at.Add(time.Minute)
			f := w.soldAt(mid, at, 1_000_00)
			catchUp(t, e)
			p, err := e.PayInstant(ctx, at.Add(time.Second))
			must(t, err)
			if l := w.lineOf(f.Txn); (p.Sent == 1) != (want == "") || !strings.Contains(l.note, want) || (l.speed == merchant.T1) != (want != "") {
				t.Errorf("%s: %d sent, paid %s: %q, want %q", at, p.Sent, l.speed, l.note, want)
			}
			w.sound(e)
		}
		must(t, e.Chargeback(ctx, Chargeback{Key: "C1", Merchant: mid, Amount: 400_00}, at))
		for range 4 { // three sales say nothing yet
			sells("")
		}
		sells("") // 400.00 of 4,000.00 is 10 %, not more
		must(t, e.Chargeback(ctx, Chargeback{Key: "C2", Merchant: mid, Amount: 200_00}, at))
		sells("refunds and chargebacks are 600.00 of the 5000.00 sold in 30 days")
		must(t, e.ChargebackWon(ctx, "C2", 200_00, at))
		sells("")
		// A refund counts when it is settled.
		parent := w.soldAt(mid, at.Add(time.Minute), 1_000_00)
		refund := parent
		w.txn++
		refund.Txn, refund.Does, refund.Original, refund.Amount, refund.At = w.txn, Refunds, parent.Txn, 900_00, at.Add(2*time.Minute)
		w.book.add(refund)
		at = at.Add(3 * time.Minute)
		catchUp(t, e)
		if _, err := e.PayInstant(ctx, at); err != nil {
			t.Fatal(err)
		}
		sells("refunds and chargebacks are 1300.00 of the")
		// A month later it is forgotten; what was sold since counts anew.
		for d := friday; d < friday.AddDays(31); d = d.AddDays(1) {
			w.close(e, d)
		}
		at = clock(friday.AddDays(31), 9, 0)
		w.cfg.RiskSales = 0
		e = w.engine()
		sells("")
		if got := w.balance(e, ledger.AdvanceD0, mid); got <= 0 {
			t.Errorf("nothing is advanced: %s", got)
		}
	})
}

package settlement

import (
	"fmt"
	"strings"
	"testing"

	"acquirer/merchant"
	"acquirer/money"
)

// A merchant gets another plan between a sale and its booking: each sale is booked
// by the contract of its own business date, a refund by that of its sale, and all
// that is computed again by the lines agrees.
func TestMoveBeforeBooking(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.cfg.Source = timedBook{w.book}
		for code, ppm := range map[string]int{"OLD": 6000, "NEW": 7000} {
			must(t, w.reg.ImportPlans(ctx, strings.NewReader(fmt.Sprintf(`{"plans":[{"code":%q,"version":1,"effective_from":"2020-01-01","rules":[{"ppm":%d,"on_fee_ge_amount":"reject"}],
				"settle_fees":[{"speed":"T1","base":"net"},{"speed":"D0","ppm":%d,"base":"gross"}]}]}`, code, ppm, ppm/10))))
		}
		e := w.engine()
		w.fund(e, money.Yuan(1000))
		mid := w.merchant(1, "OLD", merchant.D0, "00")
		must(t, e.Post(ctx, []Fact{w.sale(mid, friday, 10_00)})) // the first is paid T+1
		booked, waits := w.sale(mid, friday, 100_00), w.sale(mid, friday, 100_00)
		must(t, e.Post(ctx, []Fact{booked}))
		c, err := w.reg.Move(ctx, mid, "NEW", friday)
		if err != nil || c.Signed != saturday {
			t.Fatalf("moved %+v, %v", c, err)
		}
		later, next := w.sale(mid, friday, 100_00), w.sale(mid, saturday, 100_00)
		back := w.after(booked, Refunds, 50_00)
		w.close(e, friday)
		for _, f := range []Fact{booked, waits, later} {
			if l := w.lineOf(f.Txn); l.plan != "OLD" || l.planVersion != 1 || l.feeRate != 60 || l.speedFee != 6 {
				t.Errorf("friday's %d: %+v", f.Txn, l)
			}
		}
		if l := w.lineOf(back.Txn); l.plan != "OLD" {
			t.Errorf("its refund: %+v", l)
		}
		w.close(e, saturday)
		if l := w.lineOf(next.Txn); l.plan != "NEW" || l.feeRate != 70 || l.speedFee != 7 {
			t.Errorf("saturday's: %+v", l)
		}
		w.sound(e)
		if r, err := e.VerifyPrices(ctx, friday, saturday); err != nil || r.Sales != 5 || r.Count != 0 {
			t.Errorf("verified %+v, %v", r, err)
		}
		old, err := w.reg.Plans().Version("OLD", 1)
		must(t, err)
		rows, err := e.Simulate(ctx, old, "", friday, saturday)
		must(t, err)
		if len(rows) != 2 || rows[0].Plan != "OLD" || rows[0].Sales != 4 || rows[0].Difference != 0 || rows[1].Plan != "NEW" || rows[1].Was != 77 || rows[1].Would != 66 {
			t.Errorf("simulated %+v", rows)
		}
	})
}

package settlement

import (
	"strings"
	"testing"

	"acquirer/merchant"
	"acquirer/store"
)

// A line whose fee or amount is not what its plan's version makes of the sale in
// the journal is named, whichever column is wrong.
func TestVerifyPricesFindsEveryWrongColumn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.cfg.Source = timedBook{w.book}
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		w.sale(mid, friday, 100_00) // 0.60 and 3.00
		w.sale(mid, friday, 200_00)
		w.close(e, friday)
		change := func(set string) {
			t.Helper()
			must(t, e.db.Write(ctx, func(tx store.Tx) error {
				_, err := tx.Exec("update settlement_line set " + set + " where id = 1")
				return err
			}))
		}
		for _, c := range []struct{ do, undo, says string }{
			{"fee_rate = 61", "fee_rate = 60", "booked 0.61 + 3.00 of 100.00"},
			{"fee_fixed = 301", "fee_fixed = 300", "booked 0.60 + 3.01 of 100.00"},
			{"amount = 10001", "amount = 10000", "booked 0.60 + 3.00 of 100.01"},
			{"plan_version = 9", "plan_version = 1", "MICRO-2025 has no version 9"},
		} {
			change(c.do)
			if r, err := e.VerifyPrices(ctx, friday, friday); err != nil || r.Sales != 2 || r.Count != 1 || len(r.Wrong) != 1 || !strings.Contains(r.Wrong[0], c.says) {
				t.Errorf("%s: %+v, %v; want %q", c.do, r, err, c.says)
			}
			change(c.undo)
		}
		if r, err := e.VerifyPrices(ctx, friday, friday); err != nil || r.Count != 0 {
			t.Errorf("in the end %+v, %v", r, err)
		}
	})
}

package settlement

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"acquirer/merchant"
)

// Two payouts that come due at once do not both pass the day's limit of an account.
func TestDayLimitOfTwoAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var asked atomic.Int32
		both := make(chan struct{})
		unseal := w.cfg.Unseal
		w.cfg.Unseal = func(ctx context.Context, sealed []byte) (string, error) {
			if asked.Add(1) == 2 {
				close(both)
			}
			select {
			case <-both:
			case <-time.After(500 * time.Millisecond):
			}
			return unseal(ctx, sealed)
		}
		e := w.engine()
		mid := w.register(1, 2, "ESIGN-STD", merchant.T1) // 10,000.00 a day
		w.sale(mid, friday, 9_000_00)
		w.sale(mid, monday, 9_000_00)
		w.close(e, friday)
		w.close(e, monday)
		w.pay(e, clock(monday.AddDays(1), 10, 0)) // Monday's was not sent on Monday
		if sent := len(w.bank.Payouts()); sent != 1 {
			t.Errorf("%d payouts of 8946.00 were sent to an account that takes 10000.00 a day", sent)
		}
	})
}

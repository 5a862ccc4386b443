package settlement

import (
	"testing"
	"time"

	"acquirer/merchant"
)

// A payout that was made during the day on which it is due waits since then: it
// has not waited since midnight, for which somebody would be woken (PayoutsWait).
func TestWaitingSinceItWasMade(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, at := w.engine(), clock(friday, 15, 0)
		w.fund(e, 5_000_00)
		w.bank.Open(false)
		w.soldAt(w.merchant(1, "MICRO-2025", merchant.S0, "00"), at, 1_000_00)
		if _, err := e.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		made := at.Add(4 * time.Second)
		if p, err := e.PayInstant(t.Context(), made); err != nil || p.Sent != 0 {
			t.Fatalf("%+v, %v", p, err)
		}
		standing, err := e.PayoutsStanding(t.Context())
		if err != nil || standing[Created].Payouts != 1 || !standing[Created].Since.Equal(made) {
			t.Errorf("it waits since %s, want %s: %+v, %v", standing[Created].Since, made, standing, err)
		}
		w.bank.Open(true)
		w.pay(e, at.Add(time.Minute))
		w.sound(e)
	})
}

package settlement

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
)

// A bank is gone for good while it has an order: after the time in which it may
// answer two people say what became of it, and what the bank says later is heard.
func TestDecide(t *testing.T) {
	for word, c := range map[string]struct {
		paid  bool
		state PayoutState
		later Status
		then  PayoutState
	}{"paid": {true, Paid, Returned, CameBack}, "failed": {false, Failed, Succeeded, Paid}} {
		t.Run(word, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				e, ctx := w.engine(), t.Context()
				mid := w.merchant(1, "ESIGN-STD", merchant.T1, "99") // nothing is heard until it is asked for
				w.sale(mid, friday, 100_00)
				w.close(e, friday)
				w.pay(e, clock(monday, 10, 0))
				ref := "20261120-" + mid + "-T1-0"
				if p := w.payout(e, ref); p.state != Unknown {
					t.Fatalf("payout %+v", p)
				}
				if _, err := e.Decide(ctx, ref, c.paid, "li", clock(monday, 10, 59)); !errors.Is(err, ErrDecide) || !strings.Contains(err.Error(), "may still say") {
					t.Errorf("while the bank may answer: %v", err)
				}
				now := clock(monday, 11, 0)
				for _, s := range []struct {
					by   string
					paid bool
					done bool
					err  error
				}{
					{"", c.paid, false, ErrDecide},
					{"li", !c.paid, false, nil},
					{"wang", c.paid, false, nil}, // another word: it begins again
					{"wang", c.paid, false, audit.ErrTwoPeople},
					{"li", c.paid, true, nil},
					{"li", c.paid, true, nil}, // again
					{"li", !c.paid, false, ErrDecide},
				} {
					if done, err := e.Decide(ctx, ref, s.paid, s.by, now); done != s.done || !errors.Is(err, s.err) {
						t.Errorf("%q says paid %v: done %v, %v", s.by, s.paid, done, err)
					}
					w.sound(e)
				}
				if p := w.payout(e, ref); p.state != c.state || p.reason != "decided by wang and li" {
					t.Errorf("payout %+v", p)
				}
				if got := w.balance(e, ledger.PayoutInTransit, ""); got != 0 {
					t.Errorf("%s in transit", got)
				}
				w.says(e, ref, c.later, clock(monday, 15, 0))
				if p := w.payout(e, ref); p.state != c.then {
					t.Errorf("when the bank spoke: %+v", p)
				}
			})
		})
	}
}

func TestDecideRefuses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		w.close(e, friday)
		ref := "20261120-" + mid + "-T1-0"
		for _, state := range []string{"created", "paid"} {
			if _, err := e.Decide(t.Context(), ref, true, "li", clock(monday, 10, 0)); !errors.Is(err, ErrDecide) || !strings.Contains(err.Error(), "it is "+state) {
				t.Errorf("a payout that is %s: %v", state, err)
			}
			w.pay(e, clock(monday, 10, 0))
		}
	})
}

// shutBank takes no orders and counts those who try; its feed has no end.
type shutBank struct {
	Rail
	err   error
	tried int
	pages int
}

func (b *shutBank) Send(context.Context, Instruction) (Answer, error) {
	b.tried++
	return Answer{}, b.err
}

func (b *shutBank) Flush(context.Context, time.Time) error { return nil }

func (b *shutBank) Changes(_ context.Context, after string) ([]Answer, string, error) {
	b.pages++
	return []Answer{{Reference: "somebody else's", Status: Succeeded, Amount: 1}}, after + "x", nil
}

// A bank that is closed or cannot be reached is asked once in a turn, one that
// cannot take an order for each; and a feed without an end ends the turn's reading.
func TestShutBank(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		tried int
	}{"closed": {ErrClosed, 1}, "not reached": {ErrNotSent, 1}, "unfit": {ErrUnfit, 3}} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				bank := &shutBank{err: c.err}
				w.cfg.Rail, w.cfg.Workers = bank, 1
				e := w.engine()
				for n := range 3 {
					w.sale(w.merchant(n, "ESIGN-STD", merchant.T1, "00"), friday, 100_00)
				}
				w.close(e, friday)
				p, err := e.Pay(t.Context(), clock(monday, 10, 0))
				if bank.tried != c.tried || p.Sent != 0 || (err != nil) != (name == "not reached") {
					t.Errorf("tried %d times, %+v, %v", bank.tried, p, err)
				}
				if bank.pages != feedPages {
					t.Errorf("read %d pages", bank.pages)
				}
				if got := w.balance(e, ledger.MerchantPayable, "89811005411"+"0000"); got != money.Amount(99_40) {
					t.Errorf("payable %s", got)
				}
				w.sound(e)
			})
		})
	}
}

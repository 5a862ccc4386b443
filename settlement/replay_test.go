package settlement

import (
	"math/rand/v2"
	"strings"
	"testing"

	"acquirer/merchant"
	"acquirer/money"
)

// Random histories of sales, tips, partial refunds, what of them was taken back
// before or after it was settled, and chargebacks: what was charged is, to the fen
// and sale by sale, what the simulation says of the plan that charged it. And a
// sale that is refunded whole in the end gives back exactly what it took.
func TestSimulateIsWhatWasCharged(t *testing.T) {
	for _, policy := range []RefundFee{KeepFee, ReturnPct, ReturnAll} {
		t.Run(string(policy), func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				ctx := t.Context()
				w.cfg.Source, w.cfg.RefundFee = timedBook{w.book}, policy
				must(t, w.reg.ImportPlans(ctx, strings.NewReader(repriced)))
				must(t, w.reg.ImportPlans(ctx, strings.NewReader(pricedT1)))
				e := w.engine()
				w.fund(e, money.Yuan(300))
				var mids []string
				for i, speed := range []merchant.Speed{merchant.T1, merchant.D0, merchant.S0, merchant.D0} {
					mids = append(mids, w.merchant(i, []string{"ODD", "T1COSTS"}[i%2], speed, "00"))
				}
				rng := rand.New(rand.NewPCG(11, uint64(len(policy))))
				type follower struct {
					Fact
					taken bool
				}
				type story struct {
					Fact
					sold, back money.Amount
					followers  []*follower
				}
				var sales []*story
				const steps = 260
				for i := range steps {
					day := friday
					if i >= steps/2 {
						day = saturday
					}
					now := clock(day, 9, i) // the journal's order is that of time
					switch {
					case i == steps/2:
						catchUp(t, e)
						w.close(e, friday)
					case i%40 == 20:
						if _, err := e.PayEarly(ctx, day, 900+i, now); err != nil {
							t.Fatal(err)
						}
					}
					if len(sales) < 8 || rng.IntN(5) == 0 {
						f := w.sale(mids[rng.IntN(len(mids))], day, money.Amount(10_00+rng.Int64N(90_000)))
						w.book.facts[f.Cursor-1].At = now
						sales = append(sales, &story{Fact: f, sold: f.Amount})
						continue
					}
					s := sales[rng.IntN(len(sales))]
					do := func(does Does, amount money.Amount) {
						f := w.after(s.Fact, does, amount)
						f.Date, f.At = day, now
						w.book.facts[f.Cursor-1] = f
						s.followers = append(s.followers, &follower{Fact: f})
					}
					switch rng.IntN(7) {
					case 0:
						if tip := money.Amount(rng.Int64N(2000) - 500); s.back == 0 && tip != 0 && s.sold+tip > 0 {
							s.sold += tip
							do(Adjusts, tip)
						}
					case 1, 2, 3:
						if left := s.sold - s.back; left > 0 {
							part := money.Amount(1 + rng.Int64N(int64(left)))
							s.back += part
							do(Refunds, part)
						}
					case 4, 5:
						if len(s.followers) == 0 {
							continue
						}
						switch f := s.followers[rng.IntN(len(s.followers))]; {
						case f.taken:
						case f.Does == Refunds:
							f.taken, s.back = true, s.back-f.Amount
							w.takeBack(f.Fact, now)
						case s.back == 0 && s.sold-f.Amount > 0:
							f.taken, s.sold = true, s.sold-f.Amount
							w.takeBack(f.Fact, now)
						}
					case 6:
						catchUp(t, e)
						must(t, e.Chargeback(ctx, Chargeback{Key: s.RRN, Merchant: s.Merchant, Txn: s.Txn, Amount: 1_00}, now))
					}
				}
				w.close(e, saturday)
				w.sound(e)
				w.derived(e)
				byTxn, looked, followed := map[int64]*story{}, 0, 0
				for _, s := range sales {
					byTxn[s.Txn] = s
				}
				must(t, e.eachSale(ctx, friday, saturday, func(f *Fact, l *line, s *sums) error {
					looked++
					followed += len(s.events)
					plan, err := w.reg.Plans().Version(l.plan, l.planVersion)
					if err != nil {
						return err
					}
					p := plan.Price(e.saleOf(f))
					was := s.rate + s.fixed + s.speedFee
					would, err := e.whole(plan, l, &p, s)
					if err != nil || would != was {
						t.Errorf("sale %d of %s at %s (%q) was charged %s, the same plan would have %s, %v", f.Txn, f.Amount, l.speed, l.note, was, would, err)
					}
					if want := byTxn[f.Txn]; s.sold != want.sold || s.back != want.back {
						t.Errorf("sale %d comes to %s less %s, want %s less %s", f.Txn, s.sold, s.back, want.sold, want.back)
					}
					if s.back == s.sold && (policy != KeepFee && s.rate != 0 || policy == ReturnAll && s.fixed != 0) {
						t.Errorf("sale %d was refunded whole and keeps %s + %s", f.Txn, s.rate, s.fixed)
					}
					return nil
				}))
				if looked != len(sales) || followed < 100 {
					t.Errorf("%d sales of %d, %d events", looked, len(sales), followed)
				}
				if r, err := e.VerifyPrices(ctx, friday, saturday); err != nil || r.Count != 0 {
					t.Errorf("verified %+v, %v", r, err)
				}
			})
		})
	}
}

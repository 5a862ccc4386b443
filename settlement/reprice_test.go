package settlement

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// What a plan does with a fee that is not below the amount is what the books do:
// a sale may cost its merchant more than it brings where the plan says so, and
// the merchant's next sales pay for it.
func TestFeeAboveTheSale(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.cfg.Source = timedBook{w.book}
		for _, policy := range []string{"reject", "cap_at_amount", "allow_negative"} {
			must(t, w.reg.ImportPlans(ctx, strings.NewReader(fmt.Sprintf(`{"plans":[{"code":%q,"version":1,"effective_from":"2020-01-01","consent_policy":"silent_is_consent",
				"rules":[{"ppm":6000,"fixed":"3.00","on_fee_ge_amount":%[1]q}],"settle_fees":[{"speed":"T1","base":"net"},{"speed":"D0","fixed":"0.50","base":"gross"}]}]}`, policy))))
		}
		e := w.engine()
		w.fund(e, money.Yuan(1000))
		paid := map[string]money.Amount{"reject": 0, "cap_at_amount": 0, "allow_negative": -2_01}
		mids, n := map[string]string{}, 0
		for policy, want := range paid {
			n++
			mids[policy] = w.merchant(n, policy, merchant.D0, "00")
			f := w.sale(mids[policy], friday, 1_00)
			must(t, e.Post(ctx, []Fact{f}))
			l := w.lineOf(f.Txn)
			if got := l.amount - l.feeRate - l.feeFixed; got != want || l.speedFee != 0 {
				t.Errorf("%s: 1.00 leaves %s and %s for speed, want %s and nothing", policy, got, l.speedFee, want)
			}
			small := w.sale(mids[policy], friday, 3_20) // 3.02, 0.18 is left for the speed
			must(t, e.Post(ctx, []Fact{small}))
			if l := w.lineOf(small.Txn); l.speedFee != 18 {
				t.Errorf("%s: %s for the speed of 0.18", policy, l.speedFee)
			}
		}
		w.sound(e)
		if d := w.close(e, friday); d.PayoutTotal != 0 || d.CarryOut != -2_01 {
			t.Errorf("friday %+v", d)
		}
		w.sale(mids["allow_negative"], saturday, 100_00)
		if d := w.close(e, saturday); d.PayoutTotal != 96_40-50-2_01 || d.CarryOut != 0 {
			t.Errorf("saturday %+v", d)
		}
		w.sound(e)
		if r, err := e.VerifyPrices(ctx, friday, saturday); err != nil || r.Sales != 7 || r.Count != 0 {
			t.Errorf("verified %+v, %v", r, err)
		}
	})
}

const repriced = `{"plans":[
	{"code":"ODD","version":1,"effective_from":"2020-01-01","rules":[
		{"channel":"card","card_type":"debit","ppm":5000,"cap":"20.00","on_fee_ge_amount":"cap_at_amount"},
		{"channel":"card","amount_to":"500.00","ppm":6137,"fixed":"0.33","min":"0.50","on_fee_ge_amount":"allow_negative"},
		{"ppm":5791,"on_fee_ge_amount":"reject"}],
	 "settle_fees":[{"speed":"T1","base":"net"},{"speed":"D0","ppm":777,"base":"net"}]},
	{"code":"ODD","version":2,"rules":[{"ppm":6543,"fixed":"0.07","on_fee_ge_amount":"cap_at_amount"}],
	 "settle_fees":[{"speed":"T1","base":"net"},{"speed":"D0","ppm":901,"base":"gross"}]}]}`

// Random days of sales, tips, refunds and voids, over a date on which some
// merchants get another version and one has objected: the version that prices
// a sale changes nothing in it, all that was taken is in the comparison, and what
// another version would have taken is what rationals make of the journal.
func TestSimulateAgainstTheJournal(t *testing.T) {
	for _, policy := range []RefundFee{KeepFee, ReturnPct, ReturnAll} {
		t.Run(string(policy), func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				ctx := t.Context()
				w.cfg.Source, w.cfg.RefundFee = timedBook{w.book}, policy
				must(t, w.reg.ImportPlans(ctx, strings.NewReader(repriced)))
				e := w.engine()
				w.fund(e, money.Yuan(100)) // not every merchant can be paid on the day
				silent, objects, early := w.merchant(1, "ODD", merchant.T1, "00"), w.merchant(2, "ODD", merchant.T1, "00"), w.merchant(3, "ODD", merchant.D0, "00")
				_, err := w.reg.Announce(ctx, "ODD", 2, saturday, saturday.AddDays(-30))
				must(t, err)
				_, err = w.reg.Answer(ctx, objects, 2, merchant.Objected, friday)
				must(t, err)
				rng := rand.New(rand.NewPCG(7, uint64(len(policy))))
				type sale struct {
					Fact
					tip, back money.Amount
				}
				var sales []sale
				for i := range 120 {
					day := friday
					if i >= 60 {
						day = saturday
					}
					if i == 60 {
						w.close(e, friday)
					}
					s := sale{Fact: w.sale([]string{silent, objects, early}[i%3], day, money.Amount(1+rng.Int64N(90_000)))}
					if rng.IntN(3) == 0 {
						s.CardType = merchant.Debit
						w.book.facts[len(w.book.facts)-1].CardType = merchant.Debit
					}
					switch rng.IntN(6) {
					case 0:
						s.tip = money.Amount(rng.Int64N(2000) - 1000)
						if s.tip = max(s.tip, 1-s.Amount); s.tip != 0 {
							w.after(s.Fact, Adjusts, s.tip)
						}
					case 1, 2:
						for range 1 + rng.IntN(3) {
							if left := s.Amount - s.back; left > 0 {
								part := money.Amount(1 + rng.Int64N(int64(left)))
								w.after(s.Fact, Refunds, part)
								s.back += part
							}
						}
					case 3:
						w.after(s.Fact, Voids, s.Amount)
						continue
					}
					sales = append(sales, s)
				}
				w.close(e, saturday)
				w.sound(e)
				var took money.Amount
				must(t, w.db.Read(ctx, func(tx store.Tx) error {
					return tx.QueryRow("select cast(sum(fee_rate + fee_fixed + speed_fee) as BIGINT) from settlement_line where run > 0").Scan(&took)
				}))
				for v := 1; v <= 2; v++ {
					plan, err := w.reg.Plans().Version("ODD", v)
					must(t, err)
					rows, err := e.Simulate(ctx, plan, "", friday, saturday)
					must(t, err)
					var all, would money.Amount
					var count int64
					versions := map[string]string{}
					for _, c := range rows {
						all, would, count = all+c.Was+c.RefusedFee, would+c.Would, count+c.Sales+c.Refused
						versions[c.Merchant] += fmt.Sprint(" v", c.Version)
						if c.Version == v && c.Difference != 0 {
							t.Errorf("the version that %s had: %+v", c.Merchant, c)
						}
						if c.Refused != 0 {
							t.Errorf("refused: %+v", c)
						}
					}
					if all != took || count != int64(len(sales)) {
						t.Errorf("v%d: took %s for %d sales, the lines say %s for %d", v, all, count, took, len(sales))
					}
					if versions[objects] != " v1" || len(versions[silent]) != 6 || len(versions[early]) != 6 {
						t.Errorf("versions %v", versions)
					}
					if v == 2 { // a rule without a cap or a minimum: by hand
						var want money.Amount
						for _, s := range sales {
							fee := min(halfUp(s.Amount, 6543, 1_000_000)+7, s.Amount)
							fixed := min(7, fee)
							rate := fee - fixed
							speed := money.Amount(0)
							if l := w.lineOf(s.Txn); l.speed == merchant.D0 && l.note == "" {
								speed = min(halfUp(s.Amount, 901, 1_000_000), s.Amount-fee)
							}
							want += halfUp(speed, int64(s.Amount+s.tip), int64(s.Amount))
							if s.tip != 0 {
								rate += halfUp(rate, int64(s.tip), int64(s.Amount))
							}
							if s.back > 0 && policy != KeepFee {
								rate -= halfUp(rate, int64(s.back), int64(s.Amount))
							}
							if s.back > 0 && policy == ReturnAll {
								fixed -= halfUp(fixed, int64(s.back), int64(s.Amount))
							}
							want += rate + fixed
						}
						if would != want {
							t.Errorf("would take %s, by hand %s", would, want)
						}
					}
				}
				if r, err := e.VerifyPrices(ctx, friday, saturday); err != nil || r.Count != 0 {
					t.Errorf("verified %+v, %v", r, err)
				}
			})
		})
	}
}

// halfUp is a x part / whole, half away from zero, by rationals.
func halfUp(a money.Amount, part, whole int64) money.Amount {
	r := new(big.Rat).Mul(new(big.Rat).SetInt64(int64(a)), big.NewRat(part, whole))
	half := big.NewRat(int64(r.Sign()), 2)
	r.Add(r, half)
	return money.Amount(new(big.Int).Quo(r.Num(), r.Denom()).Int64())
}

package settlement

import (
	"strconv"
	"strings"
	"testing"

	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
)

const pricedT1 = `{"plans":[{"code":"T1COSTS","version":1,"effective_from":"2020-01-01","consent_policy":"silent_is_consent","rules":[{"ppm":6000,"on_fee_ge_amount":"reject"}],
	"settle_fees":[{"speed":"T1","ppm":100,"base":"net"},{"speed":"D0","ppm":500,"base":"net"},{"speed":"S0","ppm":1000,"fixed":"0.10","base":"gross"}]}]}`

// A sale that asked to be paid early and is not is priced at the speed that it
// got, however it came to that: 5,000.00 less 30.00 leave 4,970.00, whose T+1 costs
// 0.50; D+0 would have been 2.49, S0 5.10.
func TestPricedAtTheSpeedItGot(t *testing.T) {
	const amount, t1, d0, s0, tip = money.Amount(5_000_00), 50, 2_49, 5_10, 500_00
	each(t, func(t *testing.T, w *world) {
		must(t, w.reg.ImportPlans(t.Context(), strings.NewReader(pricedT1)))
		w.cfg.Source = timedBook{w.book}
		e, ctx := w.engine(), t.Context()
		w.fund(e, money.Yuan(6_000)) // enough for one
		plain, slow, fast, instant := w.merchant(1, "T1COSTS", merchant.T1, "00"), w.merchant(2, "T1COSTS", merchant.D0, "00"), w.merchant(3, "T1COSTS", merchant.D0, "00"), w.merchant(4, "T1COSTS", merchant.S0, "00")
		other := w.merchant(5, "T1COSTS", merchant.D1, "00") // the plan does not offer it
		must(t, w.reg.Put(ctx, []merchant.Merchant{w.shop("898110054119000", "T1COSTS", merchant.D0, "00")}, nil))
		paid := w.sale(fast, friday, amount)
		catchUp(t, e)
		if _, err := e.PayEarly(ctx, friday, 1200, clock(friday, 12, 30)); err != nil {
			t.Fatal(err)
		}
		want := map[int64]money.Amount{paid.Txn: d0}
		note := map[int64]bool{}
		sells := func(mid string, isNote bool) Fact {
			f := w.sale(mid, friday, amount)
			want[f.Txn], note[f.Txn] = t1, isNote
			return f
		}
		sells(plain, false)
		unfunded := sells(slow, true)
		tipped := w.after(unfunded, Adjusts, tip)
		want[tipped.Txn], note[tipped.Txn] = 5, true
		sells(instant, true)
		sells(other, true)
		first := sells("898110054119000", true) // its first sale ever
		voided := sells(slow, true)
		catchUp(t, e)
		if _, err := e.PayInstant(ctx, clock(friday, 13, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := e.PayEarly(ctx, friday, 1600, clock(friday, 16, 0)); err != nil {
			t.Fatal(err)
		}
		back := w.after(voided, Voids, amount)
		want[back.Txn] = -t1
		w.close(e, friday)
		var sum money.Amount
		for id, fee := range want {
			sum += fee
			if l := w.lineOf(id); l.speedFee != fee || (l.note != "") != note[id] {
				t.Errorf("line %d pays %s for speed %s (%q), want %s", id, l.speedFee, l.speed, l.note, fee)
			}
		}
		if got := w.balance(e, ledger.IncomeD0, ""); got != sum {
			t.Errorf("%s was booked for speed, want %s", got, sum)
		}
		if f, booked, err := e.FeeOf(ctx, first.Txn, merchant.Sale{Channel: merchant.Card, CardType: merchant.Credit}); err != nil || !booked || f.Speed != t1 || f.Net != amount-30_00-t1 {
			t.Errorf("its receipt says %+v, %v", f, err)
		}
		w.sound(e)
		w.derived(e)
		if r, err := e.VerifyPrices(ctx, friday, friday); err != nil || r.Sales != 7 || r.Count != 0 {
			t.Errorf("verified %+v, %v", r, err)
		}
		plan, err := w.reg.Plans().Version("T1COSTS", 1)
		must(t, err)
		all, err := e.Simulate(ctx, plan, "", friday, friday)
		must(t, err)
		for _, c := range all {
			if c.Difference != 0 {
				t.Errorf("the same plan would have taken something else: %+v", c)
			}
		}
		q, err := plan.Quote("credit", merchant.S0, amount)
		if err != nil || q.SettleFee != s0 || q.IfT1 == nil || q.IfT1.SettleFee != t1 || q.IfT1.Net != amount-30_00-t1 {
			t.Errorf("quoted %+v, %v", q, err)
		}
		id := strconv.FormatInt(unfunded.Txn, 10)
		// Who made it free, or dear, is found.
		for _, sql := range []string{"update settlement_line set speed_fee = 0 where id = ", "update settlement_line set speed_fee = 249 where id = ", "update settlement_line set t1_fee = 1 where id = "} {
			w.exec(sql + id)
			if r, err := e.VerifyPrices(ctx, friday, friday); err != nil || r.Count != 1 {
				t.Errorf("%s: %+v, %v", sql, r, err)
			}
			w.exec("update settlement_line set speed_fee = 50, t1_fee = 50 where id = " + id)
		}
	})
}

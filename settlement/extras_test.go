package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

const simPlan = `{"plans":[{"code":"SIM","version":1,"effective_from":"2020-01-01","rules":[{"ppm":6000,"on_fee_ge_amount":"reject"}],
	"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"device","amount":"99.00","waiver":{"sales":"1000.00","within_days":30}},{"kind":"sim_year","amount":"36.00","free_days":365}]}]}`

// DEV-02, ONB-16: a device is free when the first month brings 1,000 yuan, and
// charged otherwise; the SIM card costs from the second year on; each once,
// with the close that follows.
func TestExtras(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		if err := w.reg.ImportPlans(ctx, strings.NewReader(simPlan)); err != nil {
			t.Fatal(err)
		}
		busy, quiet := w.merchant(1, "SIM", merchant.T1, "00"), w.merchant(2, "SIM", merchant.T1, "00")
		for i, mid := range []string{busy, quiet} {
			term := merchant.Terminal{TID: fmt.Sprintf("1000000%d", i), MID: mid, Serial: "SN", Status: merchant.Active, Batch: 1}
			if err := w.reg.Put(ctx, nil, []merchant.Terminal{term}); err != nil {
				t.Fatal(err)
			}
		}
		since := calendar.DateOf(time.Now())
		if _, err := calendar.Assume(since, since.AddDays(60)); err != nil {
			t.Fatal(err)
		}
		day := func(n int) calendar.Date { return since.AddDays(n) }
		e := w.engine()
		back := w.sale(busy, day(3), 50_00)
		w.sale(busy, day(2), 900_00)
		w.sale(busy, day(29), 100_00) // 1,000.00 without what was taken back
		w.takeBack(back, clock(day(3), 13, 0))
		w.sale(quiet, day(29), 999_99)
		w.sale(quiet, day(30), 500_00) // too late
		if _, err := e.ChargeExtras(ctx, day(29), clock(day(29), 23, 30)); err == nil {
			t.Error("extras were charged on a day that is open")
		}
		w.close(e, day(29))
		if x, err := e.ChargeExtras(ctx, day(29), clock(day(29), 23, 30)); err != nil || x.Charged+x.Waived != 0 {
			t.Errorf("the month is not over: %+v, %v", x, err)
		}
		w.close(e, day(30))
		// A crash in the middle, two nodes at once, and again: one effect.
		crash, _ := crashAt(ctx, e, 1)
		if _, err := e.ChargeExtras(crash, day(30), clock(day(30), 23, 30)); !errors.Is(err, errCrash) {
			t.Errorf("crashed: %v", err)
		}
		errs := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := w.engine().ChargeExtras(context.WithoutCancel(ctx), day(30), clock(day(30), 23, 30))
				errs <- err
			}()
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		e = w.engine()
		if x, err := e.ChargeExtras(ctx, day(30), clock(day(30), 23, 40)); err != nil || x.Charged+x.Waived != 0 {
			t.Errorf("again: %+v, %v", x, err)
		}
		if got := w.balance(e, ledger.IncomeDevice, ""); got != 99_00 {
			t.Errorf("devices brought %s", got)
		}
		w.sale(quiet, day(31), 200_00)
		d := w.close(e, day(31))
		if want := money.Amount(200_00 - 1_20 - 99_00); d.PayoutTotal != want {
			t.Errorf("paid %s, want %s: %+v", d.PayoutTotal, want, d)
		}
		w.sound(e)
		// The second year: one SIM card each, never the device again.
		if err := w.db.Write(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("update settlement_state set open_date = $1", day(366))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if x, err := e.ChargeExtras(ctx, day(364), clock(day(365), 0, 1)); err != nil || x.Charged != 0 {
			t.Errorf("in the first year: %+v, %v", x, err)
		}
		if x, err := e.ChargeExtras(ctx, day(365), clock(day(366), 0, 1)); err != nil || x.Charged != 2 || x.Total != 72_00 {
			t.Errorf("the second year: %+v, %v", x, err)
		}
		if got := w.balance(e, ledger.IncomeDevice, ""); got != 99_00+72_00 {
			t.Errorf("extras brought %s", got)
		}
	})
}

// timedBook is a book whose cursors are ids made of times, as the journal's.
type timedBook struct{ *book }

func (b timedBook) Facts(ctx context.Context, after int64, limit int) ([]Fact, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Fact
	for i, f := range b.facts {
		if f.Cursor = store.IDAt(f.At) + int64(i); f.Cursor > after {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b Fact) int { return cmp.Compare(a.Cursor, b.Cursor) })
	return out[:min(limit, len(out))], nil
}

// What another plan would have taken is, for the plan in force, to the fen what
// was taken: with tips, refunds in parts, and without what was voided or taken
// back before or after it was settled. Then the next version, by hand.
func TestSimulate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.cfg.Source = timedBook{w.book}
		e := w.engine()
		w.fund(e, money.Yuan(10_000))
		mid, other := w.merchant(1, "MICRO-2025", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.D0, "00")
		follow := func(does Does, of Fact, amount money.Amount, minute int) {
			w.txn++
			w.book.add(Fact{At: clock(of.Date, 14, minute), Txn: w.txn, Date: of.Date, Merchant: of.Merchant, Does: does, Original: of.Txn, Channel: of.Channel, CardType: of.CardType, Amount: amount})
		}
		w.sale(mid, friday, 100_00)
		refunded := w.sale(mid, friday, 100_00)
		for i, part := range []money.Amount{33_33, 33_33} {
			follow(Refunds, refunded, part, i)
		}
		tipped := w.sale(mid, friday, 200_00)
		follow(Adjusts, tipped, 20_00, 3)
		voided := w.sale(mid, friday, 70_00)
		follow(Voids, voided, 70_00, 4)
		w.takeBack(w.sale(mid, friday, 60_00), clock(friday, 12, 1))
		late := w.sale(mid, friday, 80_00)
		w.sale(other, friday, 5000_00)
		w.sale(mid, saturday, 1_000_00) // outside
		w.close(e, friday)
		w.takeBack(late, clock(saturday, 13, 0))
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		version := func(code string, v int) *merchant.FeePlan {
			p, err := w.reg.Plans().Version(code, v)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		same, err := e.Simulate(ctx, version("MICRO-2025", 1), "MICRO-2025", friday, friday)
		// 3.60 + (3.60 - 0.40) + 4.32
		if err != nil || len(same) != 1 || same[0].Sales != 3 || same[0].Was != 3_60+3_20+4_32 || same[0].Difference != 0 || same[0].Amount != 100_00+33_34+220_00 {
			t.Errorf("the same plan: %+v, %v", same, err)
		}
		next, err := e.Simulate(ctx, version("MICRO-2025", 2), "", friday, friday)
		// 3.65 + (3.00 + 0.22) + (3.00 + 1.43); the other: 32.50 + 3.00 without D0, took 30.00 + 2.49
		if err != nil || len(next) != 2 || next[0].Merchant != other || next[0].Was != 32_49 || next[0].Would != 35_50 || next[1].Would != 3_65+3_22+4_43 {
			t.Errorf("the next version: %+v, %v", next, err)
		}
		dear := *version("MICRO-2025", 1)
		dear.Rules = []merchant.Rule{{Fixed: 150_00, OnFeeGEAmount: merchant.RejectSale}}
		if got, err := e.Simulate(ctx, &dear, "MICRO-2025", friday, friday); err != nil || got[0].Refused != 2 || got[0].Sales != 1 {
			t.Errorf("a dear plan: %+v, %v", got, err)
		}
		if r, err := e.VerifyPrices(ctx, friday, saturday); err != nil || r.Sales != 6 || r.Count != 0 {
			t.Errorf("verified %+v, %v", r, err)
		}
		// FEE-11: each transaction says its fee and how it comes about.
		for _, c := range []struct {
			txn  int64
			want Fee
		}{
			{refunded.Txn, Fee{"MICRO-2025", 1, 3_60, 0, 96_40, "100.00 x 0.60% + 3.00 = 3.60"}},
			{refunded.Txn + 1, Fee{"MICRO-2025", 1, -20, 0, -33_13, ""}}, // 33.33 of it refunded
			{late.Txn + 1, Fee{"ESIGN-STD", 1, 32_49, 2_49, 4967_51, "5000.00 x 0.60% = 30.00"}},
		} {
			if got, booked, err := e.FeeOf(ctx, c.txn, merchant.Sale{Channel: merchant.Card, CardType: merchant.Credit}); err != nil || !booked || got != c.want {
				t.Errorf("transaction %d: %+v %v, %v; want %+v", c.txn, got, booked, err, c.want)
			}
		}
		if _, booked, err := e.FeeOf(ctx, 1<<40, merchant.Sale{}); err != nil || booked {
			t.Errorf("a transaction that is not there: %v, %v", booked, err)
		}
		if _, err := e.Simulate(ctx, &dear, "", saturday, friday); err == nil {
			t.Error("a period that ends before it begins")
		}
	})
}

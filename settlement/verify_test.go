package settlement

import (
	"strings"
	"testing"

	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/store"
)

// Every approved transaction of the journal has exactly its transfers; what is
// missing, doubled, of another amount or of nobody is found.
func TestVerifyJournal(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		sale := w.sale(mid, friday, 100_00)
		gone := w.sale(mid, friday, 50_00)
		w.takeBack(gone, clock(friday, 13, 0))
		w.after(sale, Refunds, 10_00)
		w.after(w.sale(mid, friday, 70_00), Voids, 70_00)
		w.after(sale, Nothing, 0)
		w.sale("898110054119999", friday, 5_00) // nobody knows it: in suspense
		overtaken := Fact{Txn: 777, Date: friday, At: clock(friday, 13, 0), On: friday, Merchant: mid, Channel: merchant.Card, CardType: merchant.Debit, Amount: 40_00}
		w.takeBack(overtaken, clock(friday, 13, 1))
		w.book.add(overtaken)
		w.close(e, friday)
		late := w.sale(mid, saturday, 30_00)
		right := func(behind int) *JournalReport {
			t.Helper()
			r, err := e.VerifyJournal(ctx)
			if err != nil || len(r.Problems) > 0 || r.Behind != behind {
				t.Fatalf("%+v, %v", r, err)
			}
			return r
		}
		right(1)
		if err := e.Post(ctx, []Fact{late}); err != nil {
			t.Fatal(err)
		}
		w.takeBack(sale, clock(saturday, 9, 0)) // after it was settled
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if r := right(0); r.Facts != 12 || r.Booked != 11 {
			t.Errorf("%+v", r)
		}
		for _, c := range []struct{ spoil, mend, want string }{
			{"update ledger_transfer set key = 'sale/4x' where key = 'sale/4'", "update ledger_transfer set key = 'sale/4' where key = 'sale/4x'", "transaction 4 is not booked as it should be: sale/4 is missing"},
			{"update ledger_transfer set legs = 'D1101 5000,C2101:M 5000' where key = 'sale/4'", "", "transaction 4, sale/4: it is booked with D1101 5000,C2101:M 5000, not with D1101 6966"},
			{"update ledger_transfer set key = 'reversal/2x' where key = 'reversal/2'", "update ledger_transfer set key = 'reversal/2' where key = 'reversal/2x'", "2 was taken back; booked true, reversed false"},
			{"update ledger_transfer set key = 'sale/12345' where key = 'long/unpriced-7'", "update ledger_transfer set key = 'long/unpriced-7' where key = 'sale/12345'", "the ledger has 6 transfers sale/... and only 5 of them stand for something"},
		} {
			var legs string
			if err := w.db.Write(ctx, func(tx store.Tx) error {
				if err := tx.QueryRow("select legs from ledger_transfer where key = 'sale/4'").Scan(&legs); err != nil {
					return err
				}
				n, err := tx.Exec(c.spoil)
				if n != 1 {
					t.Errorf("%s changed %d rows", c.spoil, n)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			r, err := e.VerifyJournal(ctx)
			if err != nil || !strings.Contains(strings.Join(r.Problems, "; "), c.want) {
				t.Errorf("%s: %+v, %v; want %q", c.spoil, r, err, c.want)
			}
			if err := w.db.Write(ctx, func(tx store.Tx) error {
				if c.mend == "" {
					_, err := tx.Exec("update ledger_transfer set legs = $1 where key = 'sale/4'", legs)
					return err
				}
				_, err := tx.Exec(c.mend)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			right(0)
		}
	})
}

// The balances of a date: what it began with, what was booked, what it ended
// with; and whether the merchants' money is all there.
func TestDailyBalances(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "MICRO-2025", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		must(t, e.Chargeback(ctx, Chargeback{Key: "C", Merchant: mid, Amount: 100_00, Fee: 5_00}, clock(monday, 11, 0)))
		d, err := e.Ledger().Daily(ctx, friday)
		if err != nil || d.Safeguarded != 99_52 || d.Owed != 96_40 || d.Short() != 0 {
			t.Errorf("friday %+v, %v", d, err)
		}
		d, err = e.Ledger().Daily(ctx, monday)
		if err != nil || d.Safeguarded != 3_12-105_00 || d.Owed != -100_00 || d.Short() != 1_88 {
			t.Errorf("monday %+v, %v", d, err)
		}
		for _, l := range d.Lines {
			want := map[ledger.Account]ledger.DayLine{
				ledger.ClientBank:        {Debit: 99_52, Credit: 96_40, Closing: 3_12},
				ledger.NetworkReceivable: {Opening: 99_52, Credit: 204_52, Closing: -105_00},
				ledger.MerchantPayable:   {Opening: 96_40, Debit: 196_40, Closing: -100_00},
				ledger.PayoutInTransit:   {Debit: 96_40, Credit: 96_40},
				ledger.IncomeRate:        {Opening: 60, Closing: 60}, ledger.IncomeFixed: {Opening: 3_00, Closing: 3_00},
				ledger.CostIssuer: {Opening: 45, Closing: 45}, ledger.CostNetwork: {Opening: 3, Closing: 3}, ledger.CostErrors: {Debit: 5_00, Closing: 5_00},
			}[l.Account]
			if l.Opening != want.Opening || l.Debit != want.Debit || l.Credit != want.Credit || l.Closing != want.Closing {
				t.Errorf("%s: %+v, want %+v", l.Account, l, want)
			}
		}
	})
}

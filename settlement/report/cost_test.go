package report

import (
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/settlement"
	"acquirer/store"
	"acquirer/store/storetest"
)

// What only a network's file says of a sale stands beside it, and so does what it
// took for a chargeback; the margin is what the ledger earned. By hand: 5,000.00
// of a credit card cost 22.50 and 1.63; the file has 22.40 and 1.63 and 0.75 for
// the brand, and the chargeback of another sale costs 5.00.
func TestCostsOfFiles(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		s := newStreet(t, db)
		ctx := t.Context()
		if err := s.engine.Ledger().Post(ctx, ledger.OwnFunds("start", friday, 10_000_00)); err != nil {
			t.Fatal(err)
		}
		first := s.sell(shop, friday, journal.Sale, journal.Credit, "north", 30_00, 0)
		sale := s.sell(shop, friday, journal.Sale, journal.Credit, "north", 5000_00, 0)
		at := friday.Time().Add(20 * time.Hour)
		for _, c := range []settlement.Chargeback{
			{Key: "1", Merchant: shop, Txn: first, Amount: 30_00, Fee: 5_00, Text: "chargeback 4853"},
			{Key: "2", Merchant: stall, Fee: 2_00, Text: "retrieval 4853"}, // of a sale that is not known, on a day without any
		} {
			if err := s.engine.Chargeback(ctx, c, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Write(ctx, func(tx store.Tx) error {
			for n, x := range []struct{ ours, issuer, network, brand, state int64 }{
				{sale, 22_40, 1_63, 75, 2},
				{first, 9_00, 9_00, 9_00, 3}, // differs in its amount: it is a break, not a cost
				{0, 9_00, 9_00, 9_00, 2},     // nothing of ours
			} {
				if _, err := tx.Exec(`insert into recon_line (id, file, n, source, date, kind, rrn, ours, terminal, merchant, amount, issuer_fee, network_fee, brand_fee, state)
					values ($1,1,$2,'north',$3,'S','',$4,'','',0,$5,$6,$7,$8)`, n+1, n+1, friday, x.ours, x.issuer, x.network, x.brand, x.state); err != nil {
					return err
				}
			}
			_, err := ledger.PostTx(tx, []ledger.Transfer{ledger.FeeDifference("fee/north/1", friday, "", -10, 0, 75)})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		s.close(friday)
		keys := []string{"merchant", "speed", "method", "count", "amount", "fee", "speed_fee", "issuer_fee", "network_fee", "brand_fee", "fee_difference", "cost", "error_fee", "cash_in", "merchant_net", "margin"}
		p := s.json(Request{Report: "cost", From: friday, To: friday})
		same(t, "costs", p.rows("明细", keys...),
			stall+" T+1 银行卡 0 0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00 2.00 -2.00 0.00 -2.00",
			shop+" D+0 贷记卡 1 5000.00 30.00 2.49 22.50 1.63 0.75 -0.10 24.78 0.00 4975.22 4967.51 7.71",
			shop+" T+1 贷记卡 1 30.00 0.18 0.00 0.14 0.01 0.00 0.00 0.15 5.00 24.85 29.82 -4.97")
		if got, want := p.total("明细", "brand_fee", "fee_difference", "cost", "error_fee", "cash_in", "margin"), "0.75 -0.10 24.93 7.00 4998.07 0.74"; got != want {
			t.Errorf("the total is %s, want %s", got, want)
		}
		same(t, "totals", p.rows("合计", "item", "amount")[5:], "品牌服务费 -0.75", "费用差异 0.10", "差错费 -7.00", "毛利 0.74")
		income, err := s.engine.Ledger().DayIncome(ctx, friday)
		if err != nil || income.Net().String() != "0.74" {
			t.Errorf("the ledger earned %s, %v", income.Net(), err)
		}
		only := s.json(Request{Report: "cost", Merchant: stall, From: friday, To: friday})
		if got := only.total("明细", "brand_fee", "error_fee", "margin"); got != "0.00 2.00 -2.00" {
			t.Errorf("of one merchant: %s", got)
		}
	})
}

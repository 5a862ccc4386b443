package settlement

import (
	"context"
	"strings"
	"testing"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// tampered are the tables a hand may have been in.
var tampered = []string{"ledger_transfer", "ledger_balance", "ledger_day", "settlement_line", "settlement_batch", "settlement_payout", "settlement_receipt"}

// Whatever a hand changes in the ledger is found: bluntly, where balances and
// checksums say so, and by one who makes balances and checksums right again and
// with them what settlement keeps, where the journal, or what the transfer stands
// for, says otherwise.
func TestTampering(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, money.Yuan(10_000))
		mid, early := w.merchant(1, "MICRO-2025", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.D0, "00")
		sale := w.sale(mid, friday, 100_00) // 1
		gone := w.sale(mid, friday, 50_00)  // 2
		w.sale(mid, friday, 70_00)          // 3
		w.sale(early, friday, 200_00)       // 4
		w.sale(mid, friday, 31_00)          // 5
		w.after(sale, Refunds, 10_00)       // 6
		w.takeBack(gone, clock(friday, 13, 0))
		w.sale("898110054119999", friday, 5_00) // 7, in suspense
		w.close(e, friday)
		w.pay(e, clock(friday, 23, 30))
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		must(t, e.Chargeback(ctx, Chargeback{Key: "C", Merchant: mid, Amount: 20_00, Fee: 5_00}, clock(monday, 11, 0)))
		w.sale(mid, monday, 12_00) // 8, open
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if found := w.wrong(e); len(found) > 0 {
			t.Fatalf("the books are wrong before anybody changed them: %s", strings.Join(found, "\n"))
		}
		w.exec(copies(tampered, "create table was_%s as select * from %s")...)
		defer func() { w.exec(copies(tampered, "drop table was_%s")...) }()

		blunt := []string{
			"update ledger_transfer set legs = 'D1101 5,C2101:M 5' where key = 'sale/3'",
			"update ledger_transfer set date = date + 1 where key = 'sale/3'",
			"update ledger_transfer set event = 'REFUND' where key = 'sale/3'",
			"update ledger_transfer set ref = '4' where key = 'sale/3'",
			"update ledger_transfer set created = created + 1 where key = 'sale/3'",
			"update ledger_transfer set key = 'sale/33' where key = 'sale/3'",
			"update ledger_transfer set kind = 4 where kind = 3 and event = 'PAYOUT_SUCCESS'",
			"update ledger_transfer set resolves = resolves || 'x' where resolves is not null",
			"update ledger_transfer set checksum = null where key = 'sale/5'",
			"update ledger_transfer set id = (select max(id) + 1 from ledger_transfer) where key = 'sale/3'", // its place
			"delete from ledger_transfer where key = 'sale/3'",
			"insert into ledger_transfer select id + 1, 'sale/77', event, date, '77', kind, resolves, legs, created, checksum from ledger_transfer where event = 'OWN_FUNDS'",
			"update ledger_balance set debit = debit + 1 where account = 1001",
			"update ledger_balance set debit = debit + 1, credit = credit + 1 where account = 1101",
			"update ledger_balance set pending_debit = 1 where account = 2101",
			"delete from ledger_balance where account = 5102",
			"insert into ledger_balance values (2105, '', 0, 0, 0, 0)",
			"update ledger_day set debit = debit + 1, credit = credit + 1 where account = 1001",
			"update ledger_day set date = date - 1 where account = 4101",
			"delete from ledger_day where account = 5102",
			"insert into ledger_day values (20261101, 2105, 0, 0)",
		}
		for _, sql := range blunt {
			w.exec(sql)
			if len(w.wrong(e)) == 0 {
				t.Errorf("nobody sees: %s", sql)
			}
			w.restore(tampered)
		}
		// A D1101 9952 of the sale of 100.00 stands for what its legs are: 45 + 3 + 60 + 300 + 9640.
		for _, sql := range []string{
			"update ledger_transfer set legs = replace(legs, '" + mid + "', '" + early + "') where key = 'sale/3'",
			"update ledger_transfer set legs = replace(legs, 'D1101', 'D1102:wechat') where key = 'sale/3'",
			"update ledger_transfer set legs = replace(legs, 'D5102', 'D5103') where key = 'sale/3'",
			"update ledger_transfer set legs = replace(legs, 'C4101', 'C4104') where key = 'sale/3'",
			"update ledger_transfer set legs = 'D1101 9952,D5101 45,D5102 3,C2101:" + mid + " 9639,C4101 61,C4102 300' where key = 'sale/1'",
			"update ledger_transfer set legs = 'D1101 9952,D5101 45,D5102 3,C2101:" + mid + " 9639,C4101 61,C4102 300' where key = 'sale/1'; update settlement_line set fee_rate = 61 where id = 1; update settlement_batch set fee = fee + 1, paid = paid - 1 where merchant = '" + mid + "'",
			"update ledger_transfer set date = 20261119 where key = 'sale/3'",
			"update ledger_transfer set date = 20261121 where key = 'sale/3'",
			"update ledger_transfer set date = 20261119 where event = 'SALE'; update settlement_line set date = 20261119 where effect = 1",
			"update ledger_transfer set event = 'ADJUSTMENT' where key = 'sale/3'",
			"update ledger_transfer set date = 20261119 where event = 'REVERSAL'",
			"update ledger_transfer set legs = replace(legs, 'C5102', 'C5103') where event = 'REVERSAL'",
			"delete from ledger_transfer where event = 'REVERSAL'",
			"delete from ledger_transfer where key in ('sale/3', 'sale/1')",
			"delete from ledger_transfer where key = 'sale/8'; delete from settlement_line where id = 8",
			"delete from ledger_transfer where event = 'NETWORK_RECEIPT'",
			"update ledger_transfer set legs = 'D1001 1,C1101 1' where event = 'NETWORK_RECEIPT'",
			"delete from ledger_transfer where event = 'ADVANCE_REPAID'",
			"delete from ledger_transfer where key like 'payout/%'",
			"update ledger_transfer set legs = replace(legs, 'C1001', 'C1101') where event = 'PAYOUT_SUCCESS' and kind = 1",
			"update ledger_transfer set legs = replace(legs, 'C4103', 'C4104') where event = 'D0_FEE'",
			"update ledger_transfer set legs = replace(legs, 'D5105', 'D5901') where event = 'CHARGEBACK'",
			"update ledger_transfer set date = date - 1 where event = 'CHARGEBACK'",
			"delete from ledger_transfer where key = 'long/unpriced-7'",
			"update ledger_transfer set legs = 'D1101 600,C2301 600' where key = 'long/unpriced-7'",
			inserted("funds/x", "OWN_FUNDS", "D1002 5,C3001 5"),
			inserted("receipt/x", "NETWORK_RECEIPT", "D1001 500,C1101 500"),
			inserted("sweep/2026-11-01", "SWEEP", "D2501 500,C1001 500,D1002 500,C4901 500"),
			inserted("payout/x/paid", "PAYOUT_SUCCESS", "D2102:"+mid+" 500,C1001 500"),
			inserted("payout/x/cost", "PAYOUT_COST", "D5104 500,C1002 500"),
			inserted("extra/x", "EXTRA_FEE", "D5901 500,C4104 500"),
			inserted("sale/99", "SALE", "D1101 500,C4101 500"),
			inserted("whatever", "WHATEVER", "D5901 500,C1001 500"),
			"update ledger_transfer set key = replace(key, '" + mid + "', 'OTHER'), ref = replace(ref, '" + mid + "', 'OTHER'), resolves = replace(resolves, '" + mid + "', 'OTHER'), legs = replace(legs, '" + mid + "', 'OTHER');" +
				"update settlement_line set merchant = 'OTHER' where merchant = '" + mid + "'; update settlement_batch set merchant = 'OTHER' where merchant = '" + mid + "';" +
				"update settlement_payout set merchant = 'OTHER', ref = replace(ref, '" + mid + "', 'OTHER') where merchant = '" + mid + "'",
		} {
			w.exec(strings.Split(sql, ";")...)
			w.smooth(e)
			found := w.wrong(e)
			if len(found) == 0 {
				t.Errorf("nobody sees: %s", sql)
			}
			for _, p := range found {
				if strings.Contains(p, "the transfers make") || strings.Contains(p, "not what was written") {
					t.Errorf("%s: was not made right: %s", sql, p)
				}
			}
			w.restore(tampered)
		}
		if found := w.wrong(e); len(found) > 0 {
			t.Fatalf("the books are wrong after everything was put back: %s", strings.Join(found, "\n"))
		}
	})
}

func noError(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func inserted(key, event, legs string) string {
	return "insert into ledger_transfer select max(id) + 1, '" + key + "', '" + event + "', max(date), 'x', 1, null, '" + legs + "', max(created), 0 from ledger_transfer"
}

func copies(tables []string, sql string) []string {
	out := make([]string, len(tables))
	for i, table := range tables {
		out[i] = strings.ReplaceAll(sql, "%s", table)
	}
	return out
}

// wrong is what every check together finds.
func (w *world) wrong(e *Engine) []string {
	w.t.Helper()
	ctx := context.Background()
	r, err := e.ledger.Verify(ctx)
	noError(w.t, err)
	j, err := e.VerifyJournal(ctx)
	noError(w.t, err)
	all, err := e.CheckAll(ctx)
	noError(w.t, err)
	rows, err := w.db.CheckRows(ctx, ledger.Summed, nil)
	noError(w.t, err)
	return append(append(append(all, r.Problems...), j.Problems...), rows.Problems...)
}

// derived fails unless everything that is booked follows from what happened.
func (w *world) derived(e *Engine) {
	w.t.Helper()
	r, err := e.VerifyJournal(context.Background())
	noError(w.t, err)
	if len(r.Problems) > 0 {
		w.t.Fatalf("what is booked does not follow: %s", strings.Join(r.Problems, "\n"))
	}
}

func (w *world) exec(all ...string) {
	w.t.Helper()
	noError(w.t, w.db.Write(context.Background(), func(tx store.Tx) error {
		for _, sql := range all {
			if _, err := tx.Exec(sql); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (w *world) restore(tables []string) {
	w.t.Helper()
	w.exec(append(copies(tables, "delete from %s"), copies(tables, "insert into %s select * from was_%s")...)...)
}

// smooth makes checksums, balances and days what the transfers make them.
func (w *world) smooth(e *Engine) {
	w.t.Helper()
	noError(w.t, w.db.Write(context.Background(), func(tx store.Tx) error {
		type row struct {
			id, created int64
			key, event  string
			date        calendar.Date
			ref         string
			kind        ledger.Kind
			resolves    *string
			legs        string
		}
		rows, err := tx.Query("select id, key, event, date, ref, kind, resolves, legs, created from ledger_transfer order by id")
		all, err := store.All(rows, err, func(r *store.Rows, x *row) error {
			return r.Scan(&x.id, &x.key, &x.event, &x.date, &x.ref, &x.kind, &x.resolves, &x.legs, &x.created)
		})
		if err != nil {
			return err
		}
		_, err = tx.Exec("delete from ledger_balance")
		if err == nil {
			_, err = tx.Exec("delete from ledger_day")
		}
		legs := map[string]string{}
		for _, x := range all {
			if err != nil {
				return err
			}
			legs[x.key] = x.legs
			var resolves any
			if x.resolves != nil {
				resolves, x.legs = *x.resolves, legs[*x.resolves]
			}
			if _, err = tx.Exec("update ledger_transfer set checksum = $1 where id = $2",
				store.Checksum(x.id, x.key, x.event, x.date, x.ref, int64(x.kind), resolves, legs[x.key], x.created), x.id); err != nil {
				return err
			}
			for leg := range strings.SplitSeq(x.legs, ",") {
				err = smoothLeg(tx, leg, x.date, x.kind)
			}
		}
		return err
	}))
}

// smoothLeg adds a leg to the balances, written down once more on purpose.
func smoothLeg(tx store.Tx, leg string, date calendar.Date, kind ledger.Kind) error {
	head, amount, _ := strings.Cut(leg, " ")
	account, sub, _ := strings.Cut(head[1:], ":")
	moved, reserved := "0", "0"
	switch kind {
	case ledger.Posted:
		moved = amount
	case ledger.Pending:
		reserved = amount
	case ledger.Posting:
		moved, reserved = amount, "-"+amount
	default:
		reserved = "-" + amount
	}
	values := moved + ", 0, " + reserved + ", 0"
	day := moved + ", 0"
	if head[0] == 'C' {
		values = "0, " + moved + ", 0, " + reserved
		day = "0, " + moved
	}
	subs := []string{""}
	if sub != "" {
		subs = append(subs, sub)
	}
	for _, s := range subs {
		if _, err := tx.Exec("insert into ledger_balance values (" + account + ", '" + s + "', " + values + `) on conflict (account, sub) do update set debit = ledger_balance.debit + excluded.debit,
			credit = ledger_balance.credit + excluded.credit, pending_debit = ledger_balance.pending_debit + excluded.pending_debit, pending_credit = ledger_balance.pending_credit + excluded.pending_credit`); err != nil {
			return err
		}
	}
	if moved == "0" {
		return nil
	}
	_, err := tx.Exec("insert into ledger_day values ($1, "+account+", "+day+") on conflict (date, account) do update set debit = ledger_day.debit + excluded.debit, credit = ledger_day.credit + excluded.credit", date)
	return err
}

package settlement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// Whatever is taken out of the books whole, with everything that refers to it,
// and with balances and checksums made right afterwards, is missed: the tallies
// counted its transfers. Those marked were missed by nobody before there were
// tallies, since what was left agreed.
func TestDeletion(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		w.fund(e, money.Yuan(10_000))
		mid, bad, early := w.merchant(1, "MICRO-2025", merchant.T1, "00"), w.merchant(2, "MICRO-2025", merchant.T1, "94"), w.merchant(3, "ESIGN-STD", merchant.D0, "00")
		gone := w.sale(mid, friday, 50_00)     // 1
		voided := w.sale(mid, friday, 60_00)   // 2
		w.after(voided, Voids, 60_00)          // 3
		returned := w.sale(mid, friday, 10_00) // 4
		w.after(returned, Refunds, 10_00)      // 5
		w.sale(mid, friday, 70_00)             // 6
		w.sale(bad, friday, 80_00)             // 7
		w.sale(early, friday, 200_00)          // 8
		w.takeBack(gone, clock(friday, 13, 0))
		w.sale("898110054119999", friday, 5_00) // 9, in suspense
		w.close(e, friday)
		w.pay(e, clock(friday, 23, 30))
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		failed := w.refOf("merchant = '" + bad + "'")
		must(t, w.reg.Put(ctx, []merchant.Merchant{w.shop(bad, "MICRO-2025", merchant.T1, "00")}, nil))
		again, err := e.Reissue(ctx, failed, clock(monday, 10, 30))
		must(t, err)
		w.pay(e, clock(monday, 10, 40))
		must(t, e.ExtraFee(ctx, "F", mid, 3_00, "a repair", clock(monday, 11, 0)))
		must(t, e.Chargeback(ctx, Chargeback{Key: "C", Merchant: early, Amount: 20_00, Fee: 5_00}, clock(monday, 11, 0)))
		w.sale(mid, monday, 500_00) // 10
		catchUp(t, e)
		must(t, e.AskHold(ctx, Hold{Key: "H", Merchant: mid, Amount: 1_00, Reason: "risk", AskedBy: "li"}, clock(monday, 12, 0)))
		must(t, e.RefuseHold(ctx, "H", "wang", clock(monday, 12, 1)))
		w.sale("898110054119999", monday, 6_00) // 11, in suspense, open
		catchUp(t, e)
		if found := append(w.wrong(e), w.missed()...); len(found) > 0 {
			t.Fatalf("the books are wrong before anybody changed them: %s", strings.Join(found, "\n"))
		}
		if n, err := w.db.Tally(ctx, ledger.Tallied, time.Now().Add(time.Hour), nil); err != nil || n < 20 {
			t.Fatalf("counted %d, %v", n, err)
		}
		tampered := slices.Concat(tampered, []string{"settlement_item", "settlement_hold", "settlement_task", "settlement_conduct", "settlement_carry"})
		w.exec(copies(tampered, "create table was_%s as select * from %s")...)
		defer func() { w.exec(copies(tampered, "drop table was_%s")...) }()
		facts := w.book.facts

		transfers := func(keys string) string { return "delete from ledger_transfer where " + keys }
		lines := func(ids string) string { return "delete from settlement_line where abs(id) in (" + ids + ")" }
		batch := func(of string, by int) string {
			return fmt.Sprintf("update settlement_batch set lines = lines - %d where merchant = '%s'", by, of)
		}
		for _, c := range []struct {
			what    string
			facts   []int64 // taken out of the journal
			sql     []string
			survive bool // but for the tallies
		}{
			{"one transfer", nil, []string{transfers("key = 'sale/6'")}, false},
			{"an entry of a transfer", nil, []string{"update ledger_transfer set legs = replace(replace(legs, ',D5102 2', ''), 'D1101 6966', 'D1101 6968') where key = 'sale/6'"}, false},
			{"the group of a payout", nil, []string{transfers("key like 'payout/" + again + "/%'")}, false},
			{"an outcome: the journal's alone", []int64{6}, nil, false},
			{"a sale", []int64{6}, []string{transfers("key = 'sale/6'"), lines("6"), batch(mid, 1)}, false},
			{"an open sale", []int64{10}, []string{transfers("key = 'sale/10'"), lines("10")}, true},
			{"a sale with its reversal", []int64{1}, []string{transfers("key in ('sale/1', 'reversal/1')"), lines("1")}, true},
			{"a sale with its void", []int64{2, 3}, []string{transfers("key in ('sale/2', 'void/3')"), lines("2, 3"), batch(mid, 2)}, true},
			{"a sale with its refund", []int64{4, 5}, []string{transfers("key in ('sale/4', 'refund/5')"), lines("4, 5"), batch(mid, 2)}, false},
			{"a sale without a price", []int64{11}, []string{transfers("key = 'long/unpriced-11'"), lines("11"), "delete from settlement_task where key = 'unpriced/11'"}, true},
			{"a payout", nil, []string{transfers("key like 'payout/" + again + "/%'"), "delete from settlement_payout where ref = '" + again + "'"}, false},
			{"a payout with what says that it was issued again", nil, []string{transfers("key like 'payout/" + again + "/%'"), "delete from settlement_payout where ref = '" + again + "'",
				"update settlement_payout set child = '' where ref = '" + failed + "'", "update settlement_task set done = 0 where ref = '" + failed + "'"}, true},
			{"a merchant's day, whole", []int64{7}, []string{transfers("key = 'sale/7' or ref like '%" + bad + "%'"), lines("7"), "delete from settlement_batch where merchant = '" + bad + "'",
				"delete from settlement_payout where merchant = '" + bad + "'", "delete from settlement_conduct where merchant = '" + bad + "'"}, true},
			{"a fee", nil, []string{transfers("key = 'extra/F'"), "delete from settlement_item where key = 'fee/F'"}, true},
			{"a chargeback", nil, []string{transfers("key = 'chargeback/C'"), "delete from settlement_item where key = 'chargeback/C'", "delete from settlement_conduct where merchant = '" + early + "' and sold = 0"}, true},
			{"a hold that was refused", nil, []string{transfers("key like 'hold/H%'"), "delete from settlement_hold"}, true},
			{"what the network paid", nil, []string{transfers("key like 'receipt/%'"), "delete from settlement_receipt"}, true},
			{"our own funds", nil, []string{transfers("key = 'funds/start'")}, true},
			{"a task: the payout that failed", nil, []string{"update settlement_payout set child = '' where ref = '" + failed + "'", "delete from settlement_task where ref = '" + failed + "'"}, false},
			{"a task: the sale without a price", nil, []string{"delete from settlement_task where key = 'unpriced/11'"}, false},
			{"everything", []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, copies(tampered, "delete from %s"), true},
		} {
			w.book.facts = slices.DeleteFunc(slices.Clone(facts), func(f Fact) bool { return slices.Contains(c.facts, f.Txn) })
			w.exec(c.sql...)
			w.smooth(e)
			left, missed := w.wrong(e), w.missed()
			switch {
			case c.survive && len(left) > 0:
				t.Errorf("%s: is found without the tallies: %s", c.what, strings.Join(left, "\n"))
			case !c.survive && len(left) == 0:
				t.Errorf("nobody sees that it is gone: %s", c.what)
			}
			if c.survive && !strings.Contains(strings.Join(missed, "\n"), "is gone") {
				t.Errorf("%s: the tallies do not miss it: %q", c.what, missed)
			}
			w.book.facts = facts
			w.restore(tampered)
		}
		if found := append(w.wrong(e), w.missed()...); len(found) > 0 {
			t.Fatalf("the books are wrong after everything was put back: %s", strings.Join(found, "\n"))
		}
	})
}

// missed is what the tallies find.
func (w *world) missed() []string {
	w.t.Helper()
	r, err := w.db.CheckTallies(w.t.Context(), ledger.Tallied, store.Head{}, nil)
	noError(w.t, err)
	return r.Problems
}

// refOf is the reference of the one payout that is so.
func (w *world) refOf(where string) (ref string) {
	w.t.Helper()
	noError(w.t, w.db.Read(w.t.Context(), func(tx store.Tx) error {
		return tx.QueryRow("select ref from settlement_payout where " + where).Scan(&ref)
	}))
	return ref
}

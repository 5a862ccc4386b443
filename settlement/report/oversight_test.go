package report

import (
	"testing"
	"time"

	"acquirer/settlement"
	"acquirer/store"
	"acquirer/store/storetest"
)

// The long and short list has every difference of its dates, whatever became of it.
func TestBreaks(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		s := newStreet(t, db)
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			for i, x := range []struct {
				date                           int
				kind, mid                      string
				ours, theirs, held, state, due int64
				action, askedBy, doneBy, rrn   string
			}{
				{20261119, "long", stall, 0, 1_00, 0, 3, 0, "file", "", "rule", "0"}, // another date
				{20261120, "short", stall, 100_00, 0, 1, 1, 20261123, "", "", "", "1"},
				{20261120, "long", shop, 0, 30_00, 0, 3, 20261123, "merchant", "li", "wang", "2"},
				{20261121, "long", shop, 0, 1_00, 0, 3, 0, "file", "", "rule", "4"},
				{20261120, "short", shop, 20_00, 0, 1, 2, 0, "write_off", "li", "", "3"},
			} {
				if _, err := tx.Exec(`insert into recon_break (key, id, kind, source, date, rrn, line, their, merchant, terminal, ours, theirs, our_fee, their_fee, detail, held, state, due, action, note, asked_by, done_by, found, done)
					values ($1,$2,$3,'north',$4,$1,0,0,$5,'10000001',$6,$7,0,0,'',$8,$9,$10,$11,'',$12,$13,0,0)`,
					x.rrn, i+1, x.kind, x.date, x.mid, x.ours, x.theirs, x.held, x.state, x.due, x.action, x.askedBy, x.doneBy); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		p := s.json(Request{Report: "breaks", From: friday, To: friday})
		same(t, "differences", p.rows("差异", "kind", "rrn", "merchant", "ours", "theirs", "held", "state", "due", "action", "asked_by", "done_by"),
			"短款 1 "+stall+" 100.00 0.00 是 等待后续文件 2026-11-23   ",
			"长款 2 "+shop+" 0.00 30.00 <nil> 已处理 <nil> 归商户 li wang",
			"短款 3 "+shop+" 20.00 0.00 是 待处理 <nil> 核销 li ")
		same(t, "kinds", p.rows("按类别", "kind", "count", "open", "ours", "theirs"), "短款 2 2 120.00 0.00", "长款 1 0 0.00 30.00")
		byRule := s.json(Request{Report: "breaks", From: saturday, To: saturday})
		same(t, "by a rule", byRule.rows("差异", "rrn", "action", "done_by"), "4 后续文件补到 规则")
		one := s.json(Request{Report: "breaks", Merchant: shop, From: friday, To: friday})
		same(t, "of one merchant", one.rows("按类别", "kind", "count", "open"), "长款 1 0", "短款 1 1")
	})
}

// An S0 payout that the bank paid 120 seconds after its first sale is in time, a
// moment later it is not.
func TestInstant(t *testing.T) {
	each(t, func(t *testing.T, s *street) {
		sold := friday.Time().Add(12 * time.Hour).UnixMicro()
		if err := s.db.Write(t.Context(), func(tx store.Tx) error {
			for _, x := range []struct {
				ref, speed string
				state      settlement.PayoutState
				sold, took int64
				days       int // behind Friday
			}{
				{"a", "S0", settlement.Paid, sold, 120_000_000, 0}, {"b", "S0", settlement.Paid, sold, 120_000_001, 0}, {"c", "S0", settlement.Unknown, sold, 0, 0}, {"d", "S0", settlement.CameBack, sold, 9, 0},
				{"j", "S0", settlement.Paid, sold, 1_000_000, 0}, {"k", "S0", settlement.Unknown, sold, 0, 0}, {"l", "S0", settlement.CameBack, sold, 9, 0},
				{"g", "S0", settlement.Paid, sold, 9, -1}, {"h", "S0", settlement.Paid, sold, 3_000_000, 1}, {"i", "S0", settlement.Paid, sold, 9, 2}, // of the dates around
				{"e", "S0", settlement.Paid, 0, 9, 0}, {"f", "T1", settlement.Paid, sold, 9, 0}, // one that replaced another, and one of another speed
			} {
				if _, err := tx.Exec(`insert into settlement_payout (ref, batch, merchant, date, due, speed, amount, advance, reissue, parent, child, state, reason, bank_id, account, submitted, asked, finished, repaid, long, sold)
					values ($1,0,$2,$3,$3,$4,1000,0,0,'','',$5,'','','',0,0,$6,0,0,$7)`, x.ref, shop, friday.AddDays(x.days), x.speed, x.state, x.sold+x.took, x.sold); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		p := s.json(Request{Report: "instant", From: friday, To: saturday})
		same(t, "days", p.rows("按结算日", "date", "payouts", "amount", "paid", "kept", "late", "open", "failed", "longest"), "2026-11-20 7 70.00 3 2 1 2 2 121", "2026-11-21 1 10.00 1 1 0 0 0 3")
		if got := p.total("按结算日", "payouts", "amount", "paid", "kept", "late", "open", "failed", "longest"); got != "8 80.00 4 3 1 2 2 121" {
			t.Errorf("the total: %s", got)
		}
		same(t, "why later", p.rows("转T+1原因", "reason", "count", "amount"), "商户首笔交易按T+1到账 1 30.00")
		// What happened more often stands first.
		if err := s.db.Write(t.Context(), func(tx store.Tx) error {
			n, err := tx.Exec(`update settlement_line set note = 'odd' where id in (select l.id from settlement_line l join settlement_run x on x.id = l.run
				where x.date = $1 and x.ended <> 0 and l.effect = 1 and l.note = '' order by l.id limit 2)`, friday)
			if err == nil && n != 2 {
				t.Fatalf("%d sales to note", n)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		again := s.json(Request{Report: "instant", From: friday, To: saturday})
		same(t, "why later, the most first", again.rows("转T+1原因", "reason", "count"), "odd 2", "商户首笔交易按T+1到账 1")
		none := s.json(Request{Report: "instant", Merchant: stall, From: friday, To: saturday})
		if got := none.total("按结算日", "payouts", "kept", "longest"); got != "0 0 0" {
			t.Errorf("a merchant without S0: %s", got)
		}
	})
}

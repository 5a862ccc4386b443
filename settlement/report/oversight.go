package report

import (
	"context"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

var (
	breakStates  = [...]string{"", "等待后续文件", "待处理", "已处理"}
	breakActions = map[string]string{"merchant": "归商户", "payer": "退付款人", "write_off": "核销", "accept": "知悉", "file": "后续文件补到"}
)

// breakList is the long and short list (长短款): what the other sides' files and the
// books did not agree on when a date was compared, and what became of it.
func (b *Books) breakList(ctx context.Context, r *Request, s sheet) error {
	facts, err := b.facts(r)
	if err != nil {
		return err
	}
	if err := s.begin(&head{"长短款清单", facts}); err != nil {
		return err
	}
	if err := s.table("差异", []Column{{"date", "对账日", Date}, {"kind", "类别", Text}, {"source", "来源", Text}, {"rrn", "参考号", Code}, {"merchant", "商户号", Code},
		{"terminal", "终端号", Code}, {"ours", "我方金额", Money}, {"theirs", "对方金额", Money}, {"our_fee", "我方费用", Money}, {"their_fee", "对方费用", Money},
		{"held", "暂缓结算", Text}, {"state", "状态", Text}, {"due", "等待至", Date}, {"action", "处理", Text}, {"asked_by", "经办", Text}, {"done_by", "复核", Text}}); err != nil {
		return err
	}
	type sum struct {
		count, open  int64
		ours, theirs money.Amount
	}
	sums, kinds := map[string]*sum{}, []string(nil)
	err = b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select date, kind, source, rrn, merchant, terminal, ours, theirs, our_fee, their_fee, held, state, due, action, asked_by, done_by from recon_break
			where date >= $1 and date <= $2 and ($3 = '' or merchant = $3) order by date, id`, r.From, r.To, r.Merchant)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				date, due                                             calendar.Date
				kind, source, rrn, mid, tid, action, askedBy, settled string
				ours, theirs, ourFee, theirFee                        money.Amount
				held, state                                           int
			)
			if err := rows.Scan(&date, &kind, &source, &rrn, &mid, &tid, &ours, &theirs, &ourFee, &theirFee, &held, &state, &due, &action, &askedBy, &settled); err != nil {
				return err
			}
			if state < 1 || state >= len(breakStates) || breakNames[kind] == "" {
				return fmt.Errorf("the break %q in state %d of %s %s has no name", kind, state, source, rrn)
			}
			x := sums[kind]
			if x == nil {
				x = &sum{}
				sums[kind], kinds = x, append(kinds, kind)
			}
			x.count, x.ours, x.theirs = x.count+1, x.ours+ours, x.theirs+theirs
			var out, waits any
			if held == 1 {
				out = "是"
			}
			if state == 1 {
				waits = due
			}
			if state < len(breakStates)-1 {
				x.open++
			}
			if name := breakActions[action]; name != "" {
				action = name
			}
			if settled == "rule" {
				settled = "规则"
			}
			if err := s.row([]any{date, breakNames[kind], source, rrn, mid, tid, ours, theirs, ourFee, theirFee, out, breakStates[state], waits, action, askedBy, settled}); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("report: reading the differences from %s to %s: %w", r.From, r.To, err)
	}
	if err := s.table("按类别", []Column{{"kind", "类别", Text}, {"count", "笔数", Count}, {"open", "未处理", Count}, {"ours", "我方金额", Money}, {"theirs", "对方金额", Money}}); err != nil {
		return err
	}
	for _, k := range kinds {
		if err := s.row([]any{breakNames[k], sums[k].count, sums[k].open, sums[k].ours, sums[k].theirs}); err != nil {
			return err
		}
	}
	return nil
}

// promised is how soon an S0 sale is paid after its approval.
const promised = 120 * time.Second

// instant is how the promise of S0 (秒到) was kept, by business date: from the approval
// of the first sale in a payout to the bank's word that it is paid.
func (b *Books) instant(ctx context.Context, r *Request, s sheet) error {
	facts, err := b.facts(r)
	if err != nil {
		return err
	}
	if err := s.begin(&head{"秒到时效", append(facts, [2]string{"承诺", fmt.Sprintf("批准后%d秒内到账", int(promised.Seconds()))})}); err != nil {
		return err
	}
	if err := s.table("按结算日", []Column{{"date", "结算日", Date}, {"payouts", "打款笔数", Count}, {"amount", "打款金额", Money}, {"paid", "已付", Count}, {"kept", "按时", Count},
		{"late", "超时", Count}, {"open", "在途", Count}, {"failed", "失败与退票", Count}, {"longest", "最长(秒)", Count}}); err != nil {
		return err
	}
	var total struct {
		n, paid, kept, open, failed, longest int64
		amount                               money.Amount
	}
	err = b.db.Read(ctx, func(tx store.Tx) error {
		// A payout that replaced another was promised nothing: sold is the first one's alone.
		rows, err := tx.Query(`select date, count(*), cast(sum(amount) as BIGINT), sum(case when state = $4 then 1 else 0 end),
				sum(case when state = $4 and finished - sold <= $5 then 1 else 0 end), sum(case when state < $4 then 1 else 0 end), sum(case when state > $4 then 1 else 0 end),
				max(case when state = $4 then finished - sold else 0 end)
			from settlement_payout where date >= $1 and date <= $2 and ($3 = '' or merchant = $3) and speed = 'S0' and sold > 0 group by date order by date`,
			r.From, r.To, r.Merchant, settlement.Paid, promised.Microseconds())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var date calendar.Date
			var n, paid, kept, open, failed, longest int64
			var amount money.Amount
			if err := rows.Scan(&date, &n, &amount, &paid, &kept, &open, &failed, &longest); err != nil {
				return err
			}
			longest = (longest + 999_999) / 1_000_000
			total.n, total.paid, total.kept, total.open, total.failed = total.n+n, total.paid+paid, total.kept+kept, total.open+open, total.failed+failed
			total.amount, total.longest = total.amount+amount, max(total.longest, longest)
			if err := s.row([]any{date, n, amount, paid, kept, paid - kept, open, failed, longest}); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("report: reading the S0 payouts from %s to %s: %w", r.From, r.To, err)
	}
	if err := s.total([]any{"合计", total.n, total.amount, total.paid, total.kept, total.paid - total.kept, total.open, total.failed, total.longest}); err != nil {
		return err
	}
	return b.fallenBack(ctx, r, s)
}

// fallenBack is why sales of S0 and D+0 merchants were paid T+1, by reason.
func (b *Books) fallenBack(ctx context.Context, r *Request, s sheet) error {
	if err := s.table("转T+1原因", []Column{{"reason", "原因", Text}, {"count", "笔数", Count}, {"amount", "金额", Money}}); err != nil {
		return err
	}
	err := b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select l.note, count(*), cast(sum(l.amount) as BIGINT) from settlement_run x join settlement_line l on l.run = x.id
			where x.date >= $1 and x.date <= $2 and x.ended <> 0 and l.run > 0 and l.effect = 1 and l.note <> '' and ($3 = '' or l.merchant = $3)
			group by l.note order by 2 desc, 1`, r.From, r.To, r.Merchant)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var note string
			var n int64
			var amount money.Amount
			if err := rows.Scan(&note, &n, &amount); err != nil {
				return err
			}
			if err := s.row([]any{reason(note), n, amount}); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("report: reading why sales from %s to %s were paid later: %w", r.From, r.To, err)
	}
	return nil
}

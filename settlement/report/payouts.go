package report

import (
	"context"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// payoutList is every payout that is sent in a period, and what those in each state
// come to. Here dates are the days of the bank: of what is sent on a day the
// business dates lie behind it.
func (b *Books) payoutList(ctx context.Context, r *Request, s sheet) error {
	facts, err := b.facts(r)
	if err != nil {
		return err
	}
	if err := s.begin(&head{"打款报表", facts}); err != nil {
		return err
	}
	if err := s.table("打款", []Column{{"due", "打款日", Date}, {"date", "结算日", Date}, {"payout", "打款单号", Code}, {"merchant", "商户号", Code}, {"name", "商户名称", Text},
		{"account", "收款账户", Code}, {"speed", "到账方式", Text}, {"amount", "金额", Money}, {"advance", "垫资", Text}, {"state", "状态", Text}, {"finished", "完成时间", Text},
		{"bank_id", "银行流水号", Code}, {"replaces", "代替", Code}, {"reason", "说明", Text}}); err != nil {
		return err
	}
	var states [len(stateNames)]struct {
		count int64
		sum   money.Amount
	}
	err = b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select ref, merchant, date, due, speed, amount, advance, parent, state, reason, bank_id, account, finished from settlement_payout
			where due >= $1 and due <= $2 and ($3 = '' or merchant = $3) order by due, ref`, r.From, r.To, r.Merchant)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				p             payout
				mid, parent   string
				bank          string
				advance, done int64
			)
			if err := rows.Scan(&p.ref, &mid, &p.date, &p.due, &p.speed, &p.amount, &advance, &parent, &p.state, &p.reason, &bank, &p.account, &done); err != nil {
				return err
			}
			name, own, at := "", "", ""
			if shop, known := b.merchants.Merchant([]byte(mid)); known {
				name = shop.Name
			}
			if advance == 1 {
				own = "是"
			}
			if done != 0 {
				at = time.UnixMicro(done).In(calendar.Beijing).Format(time.DateTime)
			}
			if int(p.state) >= len(states) {
				return fmt.Errorf("payout %s has the state %d that has no name", p.ref, p.state)
			}
			states[p.state].count++
			states[p.state].sum += p.amount
			if err := s.row([]any{p.due, p.date, p.ref, mid, name, p.account, merchant.SpeedName(p.speed), p.amount, own, stateNames[p.state], at, bank, parent, reason(p.reason)}); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("report: reading the payouts from %s to %s: %w", r.From, r.To, err)
	}
	if err := s.table("按状态", []Column{{"state", "状态", Text}, {"count", "笔数", Count}, {"amount", "金额", Money}}); err != nil {
		return err
	}
	for state := settlement.Created; int(state) < len(states); state++ {
		if x := states[state]; x.count > 0 {
			if err := s.row([]any{stateNames[state], x.count, x.sum}); err != nil {
				return err
			}
		}
	}
	return nil
}

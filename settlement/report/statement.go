package report

import (
	"context"
	"slices"
	"strings"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/money"
)

// statement is a merchant's day or month: what it sold in which way, what was
// taken and given back, what was paid, and what is carried over. It adds up:
//
//	opening + net of the days + other + arrears = paid + closing
func (b *Books) statement(ctx context.Context, r *Request, s sheet) error {
	facts, m, err := b.merchantFacts(r)
	if err != nil {
		return err
	}
	if plan, err := b.merchants.PlanOf(m, r.To); err == nil {
		facts = append(facts, [2]string{"费率", plan.Summary()})
	}
	facts = append(facts, [2]string{"结算账户", m.Account.Bank + " " + m.Account.Masked + " " + m.Account.Name})
	batches, err := b.batches(ctx, m.MID, r.From, r.To)
	if err != nil {
		return err
	}
	opening, err := b.carried(ctx, m.MID, r.From)
	if err != nil {
		return err
	}
	if err := s.begin(&head{"商户对账单", facts}); err != nil {
		return err
	}
	days, methods, items, err := b.gather(ctx, m.MID, batches)
	if err != nil {
		return err
	}
	if err := summary(s, opening, batches, methods, items); err != nil {
		return err
	}
	if err := byMethod(s, methods); err != nil {
		return err
	}
	if err := byDay(s, batches, days); err != nil {
		return err
	}
	if err := listItems(s, items); err != nil {
		return err
	}
	return b.paidOut(ctx, s, batches)
}

// listItems is what was taken and given that is no transaction, kind by kind.
func listItems(s sheet, items []item) error {
	if len(items) == 0 {
		return nil
	}
	if err := s.table("其他款项", []Column{{"kind", "类别", Text}, {"date", "日期", Date}, {"text", "说明", Text}, {"amount", "金额", Money}, {"key", "编号", Code}}); err != nil {
		return err
	}
	slices.SortStableFunc(items, func(a, b item) int { return kindOf(a.key) - kindOf(b.key) })
	var sum money.Amount
	for i := range items {
		it := &items[i]
		if err := s.row([]any{itemKinds[kindOf(it.key)].name, it.date, itemText(it), it.amount, it.key}); err != nil {
			return err
		}
		sum += it.amount
	}
	return s.total([]any{"合计", nil, nil, sum, nil})
}

// gather reads what stands behind the batches: by day, by way of paying, and the
// items. A merchant has at most a few batches a day.
func (b *Books) gather(ctx context.Context, mid string, batches []batch) (days map[calendar.Date]*methodSum, methods []methodSum, items []item, err error) {
	days = map[calendar.Date]*methodSum{}
	var seen []int64 // two speeds of one run
	for i := range batches {
		if slices.Contains(seen, batches[i].run) {
			continue
		}
		seen = append(seen, batches[i].run)
		some, err := b.methods(ctx, batches[i].run, mid)
		if err != nil {
			return nil, nil, nil, err
		}
		for j := range some {
			at := slices.IndexFunc(methods, func(m methodSum) bool { return m.channel == some[j].channel && m.wallet == some[j].wallet })
			if at < 0 {
				methods = append(methods, some[j])
			} else {
				methods[at].add(&some[j])
			}
			day := days[batches[i].date]
			if day == nil {
				day = &methodSum{}
				days[batches[i].date] = day
			}
			day.add(&some[j])
		}
		more, err := b.items(ctx, batches[i].run, mid)
		if err != nil {
			return nil, nil, nil, err
		}
		items = append(items, more...)
	}
	slices.SortFunc(methods, func(a, b methodSum) int {
		return strings.Compare(method(a.channel, a.wallet), method(b.channel, b.wallet))
	})
	return days, methods, items, nil
}

func summary(s sheet, opening money.Amount, batches []batch, methods []methodSum, items []item) error {
	var sold methodSum
	for i := range methods {
		sold.add(&methods[i])
	}
	sold.done()
	var arrears, paid money.Amount
	closing := opening
	for i := range batches {
		arrears, paid, closing = arrears+batches[i].arrears, paid+batches[i].paid, batches[i].carryOut
	}
	if err := s.table("汇总", []Column{{"item", "项目", Text}, {"count", "笔数", Count}, {"amount", "金额", Money}}); err != nil {
		return err
	}
	rows := [][]any{
		{"期初结转", nil, opening}, {"消费", sold.sales, sold.sold}, {"撤销、冲正与退货", sold.backs, -sold.back},
		{"手续费(按比例)", nil, -sold.rate}, {"手续费(每笔固定)", nil, -sold.fixed}, {"快速到账服务费", nil, -sold.speed},
	}
	sums := sumItems(items)
	for i, k := range itemKinds {
		rows = append(rows, []any{k.name, sums[i].count, sums[i].sum})
	}
	for _, row := range append(rows, []any{"转入或收回欠款", nil, arrears}, []any{"已结算打款", nil, -paid}, []any{"期末结转", nil, closing}) {
		if err := s.row(row); err != nil {
			return err
		}
	}
	return nil
}

func byMethod(s sheet, methods []methodSum) error {
	if err := s.table("按支付方式", []Column{{"method", "支付方式", Text}, {"sales", "消费笔数", Count}, {"sold", "消费金额", Money}, {"backs", "退款笔数", Count},
		{"back", "退款金额", Money}, {"fee", "手续费", Money}, {"net", "净额", Money}}); err != nil {
		return err
	}
	var sum methodSum
	for i := range methods {
		m := &methods[i]
		m.done()
		if err := s.row([]any{method(m.channel, m.wallet), m.sales, m.sold, m.backs, m.back, m.fees, m.net}); err != nil {
			return err
		}
		sum.add(m)
	}
	sum.done()
	return s.total([]any{"合计", sum.sales, sum.sold, sum.backs, sum.back, sum.fees, sum.net})
}

func byDay(s sheet, batches []batch, days map[calendar.Date]*methodSum) error {
	if err := s.table("按结算日", []Column{{"date", "结算日", Date}, {"sales", "消费笔数", Count}, {"sold", "消费金额", Money}, {"back", "退款金额", Money},
		{"fee", "手续费", Money}, {"other", "其他款项", Money}, {"paid", "打款", Money}, {"carry", "结转", Money}}); err != nil {
		return err
	}
	var sum methodSum
	var others, payouts money.Amount
	for i := 0; i < len(batches); {
		date := batches[i].date
		var other, paid, carry money.Amount
		for ; i < len(batches) && batches[i].date == date; i++ {
			other, paid, carry = other+batches[i].other+batches[i].arrears, paid+batches[i].paid, batches[i].carryOut
		}
		day := days[date]
		if day == nil {
			day = &methodSum{} // items alone
		}
		day.done()
		if err := s.row([]any{date, day.sales, day.sold, day.back, day.fees, other, paid, carry}); err != nil {
			return err
		}
		sum.add(day)
		others, payouts = others+other, payouts+paid
	}
	sum.done()
	return s.total([]any{"合计", sum.sales, sum.sold, sum.back, sum.fees, others, payouts, nil})
}

// paidOut lists the payouts of the batches, with those that replaced them.
func (b *Books) paidOut(ctx context.Context, s sheet, batches []batch) error {
	if err := s.table("打款明细", []Column{{"payout", "打款单号", Code}, {"date", "结算日", Date}, {"due", "打款日", Date}, {"speed", "到账方式", Text},
		{"amount", "金额", Money}, {"state", "状态", Text}, {"account", "收款账户", Code}, {"reason", "说明", Text}}); err != nil {
		return err
	}
	var sum money.Amount
	for i := range batches {
		if batches[i].payout == "" {
			continue
		}
		all, err := b.payouts(ctx, &batches[i])
		if err != nil {
			return err
		}
		for _, p := range all {
			state := ""
			if int(p.state) < len(stateNames) {
				state = stateNames[p.state]
			}
			if err := s.row([]any{p.ref, p.date, p.due, merchant.SpeedName(p.speed), p.amount, state, p.account, reason(p.reason)}); err != nil {
				return err
			}
			if p.child == "" { // what was replaced is in what replaced it
				sum += p.amount
			}
		}
	}
	return s.total([]any{"合计", nil, nil, nil, sum, nil, nil, nil})
}

package report

import (
	"context"
	"fmt"
	"strings"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// cost is what each merchant's sales of a day brought and cost, by speed and way
// of paying: fee less what the network took, for chargebacks too, is the margin.
// Only closed dates have figures.
func (b *Books) cost(ctx context.Context, r *Request, s sheet) error {
	facts, err := b.facts(r)
	if err != nil {
		return err
	}
	if err := s.begin(&head{"成本与毛利", facts}); err != nil {
		return err
	}
	if err := s.table("明细", []Column{{"date", "日期", Date}, {"merchant", "商户号", Code}, {"name", "商户名称", Text}, {"class", "商户类别", Text}, {"speed", "到账方式", Text},
		{"method", "支付方式", Text}, {"count", "笔数", Count}, {"amount", "交易金额", Money}, {"fee", "商户手续费", Money}, {"speed_fee", "到账费", Money},
		{"issuer_fee", "发卡行费", Money}, {"network_fee", "网络费", Money}, {"brand_fee", "品牌费", Money}, {"fee_difference", "费用差异", Money},
		{"cost", "成本合计", Money}, {"error_fee", "差错费", Money}, {"cash_in", "清算净额", Money}, {"merchant_net", "应结商户", Money}, {"margin", "毛利", Money}}); err != nil {
		return err
	}
	runs, err := b.runs(ctx, r.From, r.To)
	if err != nil {
		return err
	}
	var total methodSum
	for _, run := range runs {
		if err := b.costsOf(ctx, run, r.Merchant, s, &total); err != nil {
			return err
		}
	}
	total.done()
	if err := s.total(append([]any{"合计", nil, nil, nil, nil, nil}, total.costCells()...)); err != nil {
		return err
	}
	if err := s.table("合计", []Column{{"item", "项目", Text}, {"amount", "金额", Money}}); err != nil {
		return err
	}
	for _, row := range [][]any{{"交易金额", total.sold - total.back}, {"商户手续费", total.rate + total.fixed}, {"到账服务费", total.speed}, {"发卡行服务费", -total.issuer},
		{"网络服务费", -total.network}, {"品牌服务费", -total.brand}, {"费用差异", -total.rest}, {"差错费", -total.errors}, {"毛利", total.margin}} {
		if err := s.row(row); err != nil {
			return err
		}
	}
	return nil
}

// costCells are what a row of the cost report and its total have alike, from the
// count on.
func (m *methodSum) costCells() []any {
	amount := m.sold - m.back
	return []any{m.sales + m.backs, amount, m.rate + m.fixed, m.speed, m.issuer, m.network, m.brand, m.rest, m.cost(), m.errors, amount - m.cost() - m.errors, m.net, m.margin}
}

var classNames = map[string]string{"standard": "标准", "discount": "优惠", "exempt": "公益"}

// costSQL is methodSQL of a run's lines with what only the files of networks and
// wallets say of them, and of its items that a network took a fee for. What the
// files took beyond issuer's and network's fee of the line is the brand's fee or a
// difference. An item counts with the speed of the sale that it is about.
const costSQL = methodSQL + `, cast(sum(l.brand) as BIGINT), cast(sum(l.taken - l.issuer_fee - l.network_fee) as BIGINT), cast(sum(l.errors) as BIGINT), l.merchant, l.speed
	from (select abs(s.id) as txn, s.merchant, s.speed, s.wallet, s.effect, s.amount, s.fee_rate, s.fee_fixed, s.speed_fee, s.issuer_fee, s.network_fee, 0 as errors,
			(select coalesce(sum(r.brand_fee), 0) from recon_line r where r.ours = s.id and r.ours <> 0 and r.state = 2) as brand,
			(select coalesce(sum(r.issuer_fee + r.network_fee), s.issuer_fee + s.network_fee) from recon_line r where r.ours = s.id and r.ours <> 0 and r.state = 2) as taken
		from settlement_line s where s.run = $1 and s.run > 0 and ($2 = '' or s.merchant = $2)
		union all select i.txn, i.merchant, coalesce(s.speed, 'T1'), i.wallet, 0, 0, 0, 0, 0, 0, 0, -i.fee, 0, 0
		from settlement_item i left join settlement_line s on s.id = i.txn and i.txn <> 0
		where i.run = $1 and i.run > 0 and i.fee <> 0 and ($2 = '' or i.merchant = $2)) l left join txn t on t.id = l.txn
	group by l.merchant, l.speed, coalesce(t.channel, 0), l.wallet order by l.merchant, l.speed, 1, 2`

func (b *Books) costsOf(ctx context.Context, run run, mid string, s sheet, total *methodSum) error {
	err := b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(costSQL, run.id, mid)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m methodSum
			var of string
			var speed merchant.Speed
			if err := rows.Scan(append(m.dest(), &m.brand, &m.rest, &m.errors, &of, &speed)...); err != nil {
				return err
			}
			total.add(&m)
			m.done()
			name, class := "", ""
			if shop, known := b.merchants.Merchant([]byte(of)); known {
				name, class = shop.Name, classNames[b.merchants.Plans().MCCClass(shop.MCC)]
			}
			if err := s.row(append([]any{run.date, of, name, class, merchant.SpeedName(speed), method(m.channel, m.wallet)}, m.costCells()...)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("report: reading the costs of %s: %w", run.date, err)
	}
	return nil
}

// The accounts of a safeguarding report: what covers merchants' money, what is
// owed to merchants, and what else stands in the same book.
var (
	covering = []ledger.Account{ledger.ClientBank, ledger.NetworkReceivable, ledger.QRReceivable}
	owed     = []ledger.Account{ledger.MerchantPayable, ledger.PayoutInTransit, ledger.PayoutReturned, ledger.MerchantFrozen, ledger.MerchantDeposit}
	beside   = []ledger.Account{ledger.AdvanceD0, ledger.DueToOwnAdvance, ledger.SuspenseLong}
)

// safeguarding is the day by day state of merchants' money (备付金): the opening,
// the movements and the closing of each account, and whether what is there
// covers what is owed: 1001 + 1101 + 1102 >= 2101 + 2102 + 2103 + 2104 + 2105.
func (b *Books) safeguarding(ctx context.Context, r *Request, s sheet) error {
	if r.Merchant != "" {
		return refuse("safeguarding is of the whole house: name no merchant")
	}
	if err := s.begin(&head{"备付金日报", [][2]string{{"收单机构", b.acquirer}, {"账期", r.period()}}}); err != nil {
		return err
	}
	before, err := b.balances(ctx, r.From.AddDays(-1))
	if err != nil {
		return err
	}
	opening := before
	if err := s.table("科目余额", []Column{{"date", "日期", Date}, {"account", "科目", Code}, {"name", "名称", Text}, {"opening", "期初", Money}, {"debit", "借方", Money},
		{"credit", "贷方", Money}, {"closing", "期末", Money}}); err != nil {
		return err
	}
	for date := r.From; date <= r.To; date = date.AddDays(1) {
		after, err := b.balances(ctx, date)
		if err != nil {
			return err
		}
		for _, a := range append(append(append([]ledger.Account{}, covering...), owed...), beside...) {
			if err := s.row([]any{date, fmt.Sprint(int16(a)), accountName(a), before[a].Net(a), after[a].Debit - before[a].Debit, after[a].Credit - before[a].Credit, after[a].Net(a)}); err != nil {
				return err
			}
		}
		before = after
	}
	if err := s.table("覆盖检查", []Column{{"date", "日期", Date}, {"there", "存款与应收", Money}, {"owed", "应付商户", Money}, {"surplus", "差额", Money}, {"covered", "结论", Text}}); err != nil {
		return err
	}
	before = opening
	for date := r.From; date <= r.To; date = date.AddDays(1) {
		after, err := b.balances(ctx, date)
		if err != nil {
			return err
		}
		there, due := total(after, covering), total(after, owed)
		verdict := "足额"
		switch {
		case there < due:
			verdict = "不足"
		case after[ledger.ClientBank].Net(ledger.ClientBank) < 0: // covered by what has not come yet: more was paid than was there
			verdict = "足额,银行存款为负"
		}
		if err := s.row([]any{date, there, due, there - due, verdict}); err != nil {
			return err
		}
	}
	return nil
}

func total(balances map[ledger.Account]ledger.Balance, accounts []ledger.Account) (sum money.Amount) {
	for _, a := range accounts {
		sum += balances[a].Net(a)
	}
	return sum
}

// balances are the accounts at the end of a business date.
func (b *Books) balances(ctx context.Context, date calendar.Date) (map[ledger.Account]ledger.Balance, error) {
	lines, err := b.ledger.TrialBalance(ctx, date)
	if err != nil {
		return nil, err
	}
	out := map[ledger.Account]ledger.Balance{}
	for _, l := range lines {
		out[l.Account] = l.Balance
	}
	return out, nil
}

// trialBalance is every account at the end of the last date, and both books'
// sums.
func (b *Books) trialBalance(ctx context.Context, r *Request, s sheet) error {
	if r.Merchant != "" {
		return refuse("the trial balance is of the whole house: name no merchant")
	}
	lines, err := b.ledger.TrialBalance(ctx, r.To)
	if err != nil {
		return err
	}
	if err := s.begin(&head{"试算平衡表", [][2]string{{"收单机构", b.acquirer}, {"截至", r.asOf()}}}); err != nil {
		return err
	}
	if err := s.table("科目", []Column{{"account", "科目", Code}, {"name", "名称", Text}, {"book", "账簿", Text}, {"debit", "借方发生额", Money}, {"credit", "贷方发生额", Money},
		{"side", "方向", Text}, {"balance", "余额", Money}}); err != nil {
		return err
	}
	sums := map[ledger.Book]ledger.Balance{}
	for _, l := range lines {
		a := l.Account
		sum := sums[a.Book()]
		sum.Debit, sum.Credit = sum.Debit+l.Balance.Debit, sum.Credit+l.Balance.Credit
		sums[a.Book()] = sum
		if err := s.row([]any{fmt.Sprint(int16(a)), accountName(a), bookNames[a.Book()], l.Balance.Debit, l.Balance.Credit, sideNames[a.Side()], l.Balance.Net(a)}); err != nil {
			return err
		}
	}
	if err := s.table("合计", []Column{{"book", "账簿", Text}, {"debit", "借方", Money}, {"credit", "贷方", Money}, {"difference", "差额", Money}}); err != nil {
		return err
	}
	for _, book := range []ledger.Book{ledger.Client, ledger.Own} {
		if err := s.row([]any{bookNames[book], sums[book].Debit, sums[book].Credit, sums[book].Debit - sums[book].Credit}); err != nil {
			return err
		}
	}
	return nil
}

var (
	bookNames = map[ledger.Book]string{ledger.Client: "客户备付金", ledger.Own: "自有资金"}
	sideNames = map[ledger.Side]string{ledger.Debit: "借", ledger.Credit: "贷"}
)

// accountName is an account's name as an accountant reads it; one without a
// Chinese name keeps the chart's.
func accountName(a ledger.Account) string {
	if name := accountNames[a]; name != "" {
		return name
	}
	return a.Name()
}

var accountNames = map[ledger.Account]string{
	ledger.ClientBank: "银行存款", ledger.OwnBank: "自有资金存款", ledger.NetworkReceivable: "应收银联", ledger.QRReceivable: "应收渠道", ledger.AdvanceD0: "其他垫资",
	ledger.AdvanceRisk: "风险垫资", ledger.Arrears: "商户欠款", ledger.SuspenseShort: "短款", ledger.MerchantPayable: "商户待清算款", ledger.PayoutInTransit: "在途打款",
	ledger.PayoutReturned: "退票", ledger.MerchantFrozen: "风控冻结", ledger.MerchantDeposit: "商户保证金", ledger.DueToOwnAdvance: "应付自有垫资",
	ledger.DueToPayout: "应付代付垫资", ledger.SuspenseLong: "已入未登账", ledger.AgentProfit: "代理商收入", ledger.DueToOwnIncome: "未划收入", ledger.OwnCapital: "自有资本",
	ledger.IncomeRate: "收单收入(比例)", ledger.IncomeFixed: "收单收入(固定)", ledger.IncomeD0: "到账服务收入", ledger.IncomeDevice: "设备与流量收入", ledger.IncomeOwn: "已划收入",
	ledger.CostIssuer: "发卡行服务费", ledger.CostNetwork: "网络服务费", ledger.CostBrand: "品牌服务费", ledger.CostPayout: "代付费", ledger.CostErrors: "差错费", ledger.WriteOff: "核销",
}

// invoice is what we took from a merchant in a period: the base of a fee
// invoice (收费清单), not the tax document itself.
func (b *Books) invoice(ctx context.Context, r *Request, s sheet) error {
	facts, m, err := b.merchantFacts(r)
	if err != nil {
		return err
	}
	number := "INV-" + strings.ReplaceAll(r.From.String(), "-", "") + "-" + strings.ReplaceAll(r.To.String(), "-", "") + "-" + m.MID
	facts = append(facts, [2]string{"清单号", number})
	batches, err := b.batches(ctx, m.MID, r.From, r.To)
	if err != nil {
		return err
	}
	_, methods, items, err := b.gather(ctx, m.MID, batches)
	if err != nil {
		return err
	}
	if err := s.begin(&head{"手续费清单", facts}); err != nil {
		return err
	}
	if err := s.table("费用", []Column{{"item", "项目", Text}, {"method", "支付方式", Text}, {"count", "笔数", Count}, {"base", "交易金额", Money}, {"fee", "费用", Money}}); err != nil {
		return err
	}
	var sum money.Amount
	for i := range methods {
		p := &methods[i]
		p.done()
		name := method(p.channel, p.wallet)
		for _, f := range []struct {
			item string
			fee  money.Amount
		}{{"收单手续费(按比例)", p.rate}, {"收单手续费(每笔固定)", p.fixed}, {"快速到账服务费", p.speed}} {
			if f.fee == 0 {
				continue
			}
			sum += f.fee
			if err := s.row([]any{f.item, name, p.sales + p.backs, p.sold - p.back, f.fee}); err != nil {
				return err
			}
		}
	}
	for _, it := range items {
		if !strings.HasPrefix(it.key, "fee/") {
			continue
		}
		sum -= it.amount
		if err := s.row([]any{it.text, "", int64(1), nil, -it.amount}); err != nil {
			return err
		}
	}
	return s.total([]any{"合计", nil, nil, nil, sum})
}

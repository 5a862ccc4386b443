package report

import (
	"context"
	"fmt"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// run is a close of a business date, or one of its windows.
type run struct {
	id   int64
	date calendar.Date
}

// runs are the closed runs of the request's dates, in their order.
func (b *Books) runs(ctx context.Context, from, to calendar.Date) (all []run, err error) {
	err = b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select id, date from settlement_run where date >= $1 and date <= $2 and ended <> 0 order by date, id", from, to)
		all, err = store.All(rows, err, func(r *store.Rows, x *run) error { return r.Scan(&x.id, &x.date) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("report: reading the runs from %s to %s: %w", from, to, err)
	}
	return all, nil
}

// batch is a merchant's part of a run at one speed.
type batch struct {
	id, run                     int64
	date                        calendar.Date
	speed                       merchant.Speed
	lines                       int64
	gross, fee, speedFee, other money.Amount
	arrears                     money.Amount // debt that went to arrears, below zero what was collected of it
	carryIn, carryOut, paid     money.Amount
	payout, reason              string
}

func (b *Books) batches(ctx context.Context, mid string, from, to calendar.Date) (all []batch, err error) {
	err = b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select id, run, date, speed, lines, gross, fee, speed_fee, other, arrears, carry_in, carry_out, paid, payout, reason
			from settlement_batch where merchant = $1 and date >= $2 and date <= $3 order by id`, mid, from, to)
		all, err = store.All(rows, err, func(r *store.Rows, x *batch) error {
			return r.Scan(&x.id, &x.run, &x.date, &x.speed, &x.lines, &x.gross, &x.fee, &x.speedFee, &x.other, &x.arrears, &x.carryIn, &x.carryOut, &x.paid, &x.payout, &x.reason)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("report: reading what %s was settled: %w", mid, err)
	}
	return all, nil
}

// carried is what was carried over to a merchant's first day from a date on.
func (b *Books) carried(ctx context.Context, mid string, from calendar.Date) (sum money.Amount, err error) {
	err = b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select carry_out from settlement_batch where merchant = $1 and date < $2 order by id desc limit 1", mid, from)
		all, err := store.All(rows, err, func(r *store.Rows, a *money.Amount) error { return r.Scan(a) })
		if sum = 0; len(all) > 0 {
			sum = all[0]
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("report: reading what %s was carried over: %w", mid, err)
	}
	return sum, nil
}

// item is a fee, a chargeback or a hold that was netted.
type item struct {
	key, text string
	date      calendar.Date
	amount    money.Amount
}

func (b *Books) items(ctx context.Context, run int64, mid string) (all []item, err error) {
	err = b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select key, text, date, amount from settlement_item where run = $1 and run > 0 and merchant = $2 order by created, key", run, mid)
		all, err = store.All(rows, err, func(r *store.Rows, x *item) error { return r.Scan(&x.key, &x.text, &x.date, &x.amount) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("report: reading the items of %s: %w", mid, err)
	}
	return all, nil
}

// payout is an order to the bank as far as it is reported.
type payout struct {
	ref, account, reason, child string
	date, due                   calendar.Date
	speed                       merchant.Speed
	amount                      money.Amount
	state                       settlement.PayoutState
}

const payoutSQL = "select ref, account, reason, child, date, due, speed, amount, state from settlement_payout where "

func scanPayout(r *store.Rows, p *payout) error {
	return r.Scan(&p.ref, &p.account, &p.reason, &p.child, &p.date, &p.due, &p.speed, &p.amount, &p.state)
}

// payouts are those of a batch, for an account that takes only so much a day
// several, each followed by those that replaced it.
func (b *Books) payouts(ctx context.Context, of *batch) (all []payout, err error) {
	err = b.db.Read(ctx, func(tx store.Tx) error {
		all = nil
		// The batch's reference, and with a letter behind it.
		rows, err := tx.Query(payoutSQL+"ref >= $1 and ref < $2 and batch = $3 order by ref", of.payout, of.payout+"~", of.id)
		own, err := store.All(rows, err, scanPayout)
		if err != nil {
			return err
		}
		for _, p := range own {
			all = append(all, p)
			for p.child != "" {
				rows, err := tx.Query(payoutSQL+"ref = $1", p.child)
				next, err := store.All(rows, err, scanPayout)
				if err != nil || len(next) == 0 {
					return err
				}
				p = next[0]
				all = append(all, p)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("report: reading the payouts of %s: %w", of.payout, err)
	}
	return all, nil
}

// effectNames are what a line of the settlement does, by the number that is
// stored: sale, taken back, void, refund, adjustment.
var effectNames = [...]string{"", "消费", "冲正", "撤销", "退货", "调整"}

var stateNames = [...]string{settlement.Created: "待付", settlement.Submitted: "已提交", settlement.InProcess: "处理中", settlement.Unknown: "待查询",
	settlement.Paid: "已付", settlement.Failed: "失败", settlement.CameBack: "退票"}

// method is how a sale was paid, as the merchant knows it.
func method(channel journal.Channel, wallet string) string {
	switch channel {
	case journal.QR:
		return merchant.ChannelName(merchant.QR, "", wallet)
	case journal.Debit:
		return merchant.ChannelName(merchant.Card, merchant.Debit, "")
	case journal.Credit:
		return merchant.ChannelName(merchant.Card, merchant.Credit, "")
	case journal.QuasiCredit:
		return merchant.ChannelName(merchant.Card, merchant.QuasiCredit, "")
	}
	if wallet != "" {
		return merchant.WalletName(wallet)
	}
	return "银行卡"
}

// methodSum is what a merchant sold in one way and gave back.
type methodSum struct {
	channel                      journal.Channel
	wallet                       string
	sales, backs                 int64
	sold, back                   money.Amount // back above zero
	rate, fixed, speed, fees     money.Amount // fees is all three
	issuer, network, net, margin money.Amount
	brand, rest, errors          money.Amount // of cost: what only the files say, and the fees of chargebacks
}

const methodSQL = `select coalesce(t.channel, 0), l.wallet,
	sum(case when l.effect = 1 then 1 else 0 end), sum(case when l.effect in (2, 3, 4) then 1 else 0 end),
	cast(sum(case when l.effect in (1, 5) then l.amount else 0 end) as BIGINT), cast(sum(case when l.effect in (2, 3, 4) then -l.amount else 0 end) as BIGINT),
	cast(sum(l.fee_rate) as BIGINT), cast(sum(l.fee_fixed) as BIGINT), cast(sum(l.speed_fee) as BIGINT),
	cast(sum(l.issuer_fee) as BIGINT), cast(sum(l.network_fee) as BIGINT)`

func (m *methodSum) dest() []any {
	return []any{&m.channel, &m.wallet, &m.sales, &m.backs, &m.sold, &m.back, &m.rate, &m.fixed, &m.speed, &m.issuer, &m.network}
}

// done fills in what follows from the sums.
func (m *methodSum) done() {
	m.fees = m.rate + m.fixed + m.speed
	m.net = m.sold - m.back - m.fees
	m.margin = m.fees - m.cost() - m.errors
}

// cost is what the network took for the sales themselves.
func (m *methodSum) cost() money.Amount { return m.issuer + m.network + m.brand + m.rest }

func (m *methodSum) add(o *methodSum) {
	m.sales, m.backs = m.sales+o.sales, m.backs+o.backs
	for _, p := range [...]struct{ to, of *money.Amount }{{&m.sold, &o.sold}, {&m.back, &o.back}, {&m.rate, &o.rate}, {&m.fixed, &o.fixed}, {&m.speed, &o.speed},
		{&m.issuer, &o.issuer}, {&m.network, &o.network}, {&m.brand, &o.brand}, {&m.rest, &o.rest}, {&m.errors, &o.errors}} {
		*p.to += *p.of
	}
}

// methods adds up a merchant's lines of a run by the way of paying.
func (b *Books) methods(ctx context.Context, run int64, mid string) (all []methodSum, err error) {
	err = b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(methodSQL+` from settlement_line l left join txn t on t.id = abs(l.id)
			where l.run = $1 and l.run > 0 and l.merchant = $2 group by coalesce(t.channel, 0), l.wallet order by 1, 2`, run, mid)
		all, err = store.All(rows, err, func(r *store.Rows, m *methodSum) error { return r.Scan(m.dest()...) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("report: adding up what %s sold: %w", mid, err)
	}
	return all, nil
}

// merchantFacts are the lines above a report of one merchant.
func (b *Books) merchantFacts(r *Request) ([][2]string, *merchant.Merchant, error) {
	m, known := b.merchants.Merchant([]byte(r.Merchant))
	if !known {
		return nil, nil, refuse("no merchant has the MID %q", r.Merchant)
	}
	facts := [][2]string{{"收单机构", b.acquirer}, {"商户号", m.MID}, {"商户名称", m.Name}, {"账期", r.period()}}
	return facts, m, nil
}

// facts head a report: of the merchant that it is of, or of the house.
func (b *Books) facts(r *Request) ([][2]string, error) {
	if r.Merchant == "" {
		return [][2]string{{"收单机构", b.acquirer}, {"账期", r.period()}}, nil
	}
	facts, _, err := b.merchantFacts(r)
	return facts, err
}

package settlement

import (
	"context"
	"fmt"

	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// Check looks whether settlement and ledger agree now, and returns what is
// wrong in words: what the ledger owes a merchant is what waits to be settled,
// was carried over, or failed and waits for a person; what is held is on the
// list of holds; what is in transit is what was sent. It reads what is open, not the history.
func (e *Engine) Check(ctx context.Context) (problems []string, err error) {
	return e.check(ctx, e.db.Read, nowChecks)
}

// CheckAll is Check and the history: every batch is the sum of its lines and
// splits into what was paid and what was carried over, what only a person can
// move is a task, and every signed date was carried and swept as it earned.
func (e *Engine) CheckAll(ctx context.Context) (problems []string, err error) {
	problems, err = e.check(ctx, e.db.ReadLong, append(historyChecks[:len(historyChecks):len(historyChecks)], nowChecks...))
	if err != nil {
		return nil, err
	}
	var earned []string
	err = e.db.ReadLong(ctx, func(tx store.Tx) (err error) {
		earned, err = checkEarned(tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: check of what was earned: %w", err)
	}
	return append(problems, earned...), nil
}

func (e *Engine) check(ctx context.Context, read func(context.Context, func(store.Tx) error) error, checks []check) (problems []string, err error) {
	err = read(ctx, func(tx store.Tx) error {
		problems = nil
		for _, check := range checks {
			rows, err := tx.Query(check.sql, check.args...)
			if err != nil {
				return err
			}
			found, err := store.All(rows, nil, func(r *store.Rows, s *string) error {
				var what string
				var want, got money.Amount
				if err := r.Scan(&what, &want, &got); err != nil {
					return err
				}
				*s = fmt.Sprintf("%s: %s: %s against %s", check.name, what, want, got)
				return nil
			})
			if err != nil {
				return fmt.Errorf("%s: %w", check.name, err)
			}
			problems = append(problems, found...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: check: %w", err)
	}
	return problems, nil
}

// check selects what is wrong: a name and two amounts that should be equal.
type check struct {
	name string
	sql  string
	args []any
}

var historyChecks = []check{
	{name: "batch and lines", sql: `
		select b.merchant, b.gross - b.fee - b.speed_fee + b.other, coalesce(l.net, 0) + coalesce(i.net, 0) from settlement_batch b
		left join (select run, merchant, speed, cast(sum(amount - fee_rate - fee_fixed - speed_fee) as BIGINT) as net, count(*) as n
			from settlement_line where run > 0 group by run, merchant, speed) l
		on l.run = b.run and l.merchant = b.merchant and l.speed = b.speed
		left join (select run, merchant, cast(sum(amount) as BIGINT) as net from settlement_item where run > 0 group by run, merchant) i
		on i.run = b.run and i.merchant = b.merchant and b.speed = 'T1'
		where b.gross - b.fee - b.speed_fee <> coalesce(l.net, 0) or b.other <> coalesce(i.net, 0) or b.lines <> coalesce(l.n, 0) limit 20`},
	{name: "batch and payout", sql: `
		select b.merchant, b.gross - b.fee - b.speed_fee + b.other + b.arrears + b.carry_in, b.paid + b.carry_out from settlement_batch b
		left join (select batch, cast(sum(amount) as BIGINT) as amount from settlement_payout where parent = '' group by batch) p on p.batch = b.id
		where b.gross - b.fee - b.speed_fee + b.other + b.arrears + b.carry_in <> b.paid + b.carry_out or b.paid <> coalesce(p.amount, 0) limit 20`},
	{name: "task for a person", sql: `
		select p.ref, p.amount, 0 from settlement_payout p where p.state in (6, 7) and p.state > 5 and p.child = '' and p.long = 0
			and not exists (select 1 from settlement_task t where t.key in ('payout_failed/' || p.ref, 'payout_returned/' || p.ref))
		union all select 'transaction ' || cast(l.id as TEXT), l.amount, 0 from settlement_line l where l.run = -2
			and not exists (select 1 from settlement_task t where t.key = 'unpriced/' || cast(l.id as TEXT)) limit 20`},
}

var nowChecks = []check{
	{name: "payable", sql: `
		select m.merchant, cast(sum(m.amount) as BIGINT), coalesce(max(b.available), 0) from (
			select merchant, amount - fee_rate - fee_fixed as amount from settlement_line where run = 0
			union all select merchant, amount - fee_rate - fee_fixed from settlement_line where run = -3
			union all select merchant, amount from settlement_item where run = 0
			union all select l.merchant, l.amount - l.fee_rate - l.fee_fixed from settlement_run r cross join settlement_line l -- cross: SQLite begins with the few runs
				where r.state < 3 and l.run = r.id and l.run > 0 and (r.state = 1 or l.merchant > r.upto) -- gathered, and not netted yet
			union all select i.merchant, i.amount from settlement_run r cross join settlement_item i
				where r.state < 3 and i.run = r.id and i.run > 0 and (r.state = 1 or i.merchant > r.upto)
			union all select merchant, amount from settlement_carry
			union all select merchant, amount from settlement_payout where state = 6 and state > 5 and child = '' and reissue = 0
			union all select sub, 0 from ledger_balance where account = $1 and sub <> ''
		) m left join (select sub, credit - debit - pending_debit as available from ledger_balance where account = $1 and sub <> '') b on b.sub = m.merchant
		group by m.merchant having sum(m.amount) <> coalesce(max(b.available), 0) limit 20`, args: []any{ledger.MerchantPayable}},
	{name: "returned", sql: `
		select m.merchant, cast(sum(m.amount) as BIGINT), coalesce(max(b.available), 0) from (
			select merchant, case when state = 7 or reissue = 1 then amount else 0 end as amount from settlement_payout where state > 5 and child = ''
			union all select sub, 0 from ledger_balance where account = $1 and sub <> ''
		) m left join (select sub, credit - debit - pending_debit as available from ledger_balance where account = $1 and sub <> '') b on b.sub = m.merchant
		group by m.merchant having sum(m.amount) <> coalesce(max(b.available), 0) limit 20`, args: []any{ledger.PayoutReturned}},
	{name: "held", sql: `
		select m.merchant, cast(sum(m.amount) as BIGINT), coalesce(max(b.held), 0) from (
			select merchant, remains as amount from settlement_hold where state in (1, 2)
			union all select sub, 0 from ledger_balance where account = $1 and sub <> ''
		) m left join (select sub, credit - debit + pending_credit - pending_debit as held from ledger_balance where account = $1 and sub <> '') b on b.sub = m.merchant
		group by m.merchant having sum(m.amount) <> coalesce(max(b.held), 0) limit 20`, args: []any{ledger.MerchantFrozen}},
	{name: "in transit", sql: `
		select 'all', p.amount, b.amount from
			(select cast(coalesce(sum(amount), 0) as BIGINT) as amount from settlement_payout where state < 5) p,
			(select cast(coalesce(sum(credit - debit + pending_credit), 0) as BIGINT) as amount from ledger_balance where account = $1 and sub = '') b
		where p.amount <> b.amount`, args: []any{ledger.PayoutInTransit}},
}

package settlement

import (
	"context"
	"fmt"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// MerchantDay is what a merchant sold on a business date, and what became of
// the money as far as the day has come.
type MerchantDay struct {
	Merchant string         `json:"merchant"`
	Speed    merchant.Speed `json:"speed"`
	Plan     string         `json:"plan"`
	Sales    int64          `json:"sales"`
	Gross    money.Amount   `json:"gross"`
	Taken    money.Amount   `json:"taken"` // back after it was settled, positive
	Fee      money.Amount   `json:"fee"`   // settlement fee included
	Net      money.Amount   `json:"net"`

	Ref    string        `json:"ref,omitempty"` // of the payout; empty before there is one
	State  PayoutState   `json:"state"`         // 0 before there is one
	Paid   money.Amount  `json:"paid"`          // what the payout is for
	Due    calendar.Date `json:"due"`           // when it is sent
	Reason string        `json:"reason,omitempty"`
}

// Merchants lists a business date merchant by merchant, open or closed. closed
// says whether the date has been closed.
func (e *Engine) Merchants(ctx context.Context, date calendar.Date) (days []MerchantDay, closed bool, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		var open calendar.Date
		if err := tx.QueryRow("select open_date from settlement_state where id = 1").Scan(&open); err != nil {
			return err
		}
		closed = open > date
		// Two halves, each by an index of its own: what waits, and what was settled.
		rows, err := tx.Query(`select l.merchant, l.speed, max(l.plan), sum(case when l.effect = 1 then 1 else 0 end), cast(sum(case when l.effect in (1, 5) then l.amount else 0 end) as BIGINT),
			cast(sum(case when l.effect in (2, 3, 4) then -l.amount else 0 end) as BIGINT), cast(sum(l.fee_rate + l.fee_fixed + l.speed_fee) as BIGINT),
			coalesce(max(b.payout), ''), coalesce(max(b.reason), '')
			from (select * from settlement_line where run = 0 and date = $1
				union all select s.* from settlement_line s join settlement_run r on r.id = s.run where s.run > 0 and r.date = $1) l
			left join settlement_batch b on b.run = l.run and b.merchant = l.merchant and b.speed = l.speed
			group by l.merchant, l.speed, l.run order by l.merchant, l.speed`, date)
		days, err = store.All(rows, err, func(r *store.Rows, d *MerchantDay) error {
			if err := r.Scan(&d.Merchant, &d.Speed, &d.Plan, &d.Sales, &d.Gross, &d.Taken, &d.Fee, &d.Ref, &d.Reason); err != nil {
				return err
			}
			d.Net = d.Gross - d.Taken - d.Fee
			return nil
		})
		if err != nil {
			return err
		}
		for i := range days {
			d := &days[i]
			if d.Ref == "" {
				continue
			}
			var reason string
			if err := tx.QueryRow("select state, amount, due, reason from settlement_payout where ref = $1", d.Ref).Scan(&d.State, &d.Paid, &d.Due, &reason); err != nil {
				return err
			}
			if reason != "" {
				d.Reason = reason
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("settlement: reading %s: %w", date, err)
	}
	return days, closed, nil
}

// Troubled counts the payouts that need a look: came back or failed and not
// yet replaced, sent and their fate unknown.
func (e *Engine) Troubled(ctx context.Context) (returned, failed, unknown int, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow(`select coalesce(sum(case when state = $1 then 1 else 0 end), 0), coalesce(sum(case when state = $2 then 1 else 0 end), 0),
			coalesce(sum(case when state = $3 then 1 else 0 end), 0) from settlement_payout where state in ($1, $2, $3) and child = ''`,
			CameBack, Failed, Unknown).Scan(&returned, &failed, &unknown)
	})
	if err != nil {
		return 0, 0, 0, fmt.Errorf("settlement: counting payouts that need a look: %w", err)
	}
	return returned, failed, unknown, nil
}

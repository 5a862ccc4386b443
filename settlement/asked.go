package settlement

import (
	"context"
	"fmt"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
)

// PayoutAsk is what one person asked to be done with a payout and another has not
// done yet.
type PayoutAsk struct {
	audit.Ask
	Do       string // recover or decide
	Ref      string
	Merchant string
	Date     calendar.Date // business date that the payout settles
	Amount   money.Amount
}

// Loss reports that what is recovered is given up.
func (a *PayoutAsk) Loss() bool { return a.What == wayLoss }

// PayoutAsks lists up to limit of what was asked for (Recover, Decide), lapsed ones
// too, the oldest first.
func (e *Engine) PayoutAsks(ctx context.Context, limit int) (asks []PayoutAsk, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select a.verb, a.ref, p.merchant, p.date, p.amount, a.what, a.asked_by, a.asked from (
			select 'recover' verb, ref, way what, asked_by, asked from settlement_long where done = 0 and asked_by <> ''
			union all select 'decide', ref, word, asked_by, asked from settlement_decided where done = 0) a
			join settlement_payout p on p.ref = a.ref where a.verb = 'recover' or p.state in ($1, $2, $3) order by a.asked, a.ref limit $4`,
			Submitted, InProcess, Unknown, limit)
		asks, err = store.All(rows, err, func(r *store.Rows, a *PayoutAsk) error {
			var asked int64
			err := r.Scan(&a.Do, &a.Ref, &a.Merchant, &a.Date, &a.Amount, &a.What, &a.By, &asked)
			a.At = store.Instant(asked)
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: listing what was asked about payouts: %w", err)
	}
	return asks, nil
}

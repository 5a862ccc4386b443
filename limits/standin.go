package limits

import (
	"context"
	"fmt"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/store"
)

// StandIn takes a part of what a card may sell in a day without its issuer, at
// most count times and sum in all, and reports false, with nothing taken, when
// that would be more. What was taken is not given back: a card whose stand-in
// sale was reversed has a smaller share that day, never a larger one. With an
// error nobody knows whether it was taken; do not approve.
func StandIn(ctx context.Context, db *store.DB, day calendar.Date, card [16]byte, amount money.Amount, count int, sum money.Amount) (within bool, err error) {
	if amount <= 0 || amount > sum || count < 1 {
		return false, nil
	}
	if fault.Planted("stand-in-unbounded") {
		count, sum = 1_000_000, money.Yuan(1_000_000)
	}
	fault.Hit("limits.stand_in.before")
	err = db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec(`insert into limit_stand_in (day, card, count, amount) values ($1, $2, 1, $3)
			on conflict (day, card) do update set count = limit_stand_in.count + 1, amount = limit_stand_in.amount + $3
			where limit_stand_in.count < $4 and limit_stand_in.amount <= $5`, day, card, amount, count, sum-amount)
		within = n == 1
		return err
	})
	fault.Hit("limits.stand_in.after")
	if err != nil {
		return false, fmt.Errorf("limits: stand-in of a card: %w", err)
	}
	return within, nil
}

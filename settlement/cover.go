package settlement

import (
	"context"
	"fmt"
	"slices"

	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// What is not advanced is paid with the money of the networks and the wallets,
// which comes on the day on which it is due, hours after that day begins.

// notCovered is the reason of a payout that waits for it.
const notCovered = "the network's money has not come: 1001 does not cover it yet; it goes after the receipt"

// onTheWay is what the bank was ordered to pay from the merchants' account and
// has not said that it did.
const onTheWay = "select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_payout where state > 1 and state < 5 and advance = 0"

// covered keeps of the payouts that are due those that may be sent: what is
// advanced, and of the others, in the order in which they are due, those that the
// merchants' bank account (1001) covers, Config.Credit among it, less what is on
// its way and what came and is in suspense. One that is not covered keeps those behind it back too, or small ones
// would pass by a great one for ever. They wait, with a reason, for the next
// turn after a receipt. Without Config.Covered all go.
func (e *Engine) covered(ctx context.Context, due []payout, done *Payment) ([]payout, error) {
	if !e.cfg.Covered || len(due) == 0 {
		return due, nil
	}
	var left money.Amount
	err := e.db.Read(ctx, func(tx store.Tx) error {
		// In this order: what another node hears to be paid in between is counted
		// twice, not left out.
		var way money.Amount
		if err := tx.QueryRow(onTheWay).Scan(&way); err != nil {
			return err
		}
		var nobodys money.Amount // it may have to go back
		if err := tx.QueryRow("select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_credit where state = 1").Scan(&nobodys); err != nil {
			return err
		}
		bank, err := ledger.BalanceTx(tx, ledger.ClientBank, "")
		left = bank.Available(ledger.ClientBank) + e.cfg.Credit - way - nobodys
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: what covers the payouts: %w", err)
	}
	var payable, wait []payout
	for _, p := range due {
		switch {
		case p.advance:
			payable = append(payable, p)
		case len(wait) == 0 && p.amount <= left:
			left -= p.amount
			payable = append(payable, p)
		default:
			wait = append(wait, p)
		}
	}
	done.Held += len(wait)
	wait = slices.DeleteFunc(wait, func(p payout) bool { return p.reason == notCovered })
	for part := range slices.Chunk(wait, 500) { // a note: a turn that was interrupted writes it again
		err := e.db.Write(ctx, func(tx store.Tx) error {
			for _, p := range part {
				if _, err := tx.Exec("update settlement_payout set reason = $1 where ref = $2 and state = 1", notCovered, p.ref); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("settlement: saying why %d payouts wait: %w", len(part), err)
		}
	}
	return payable, nil
}

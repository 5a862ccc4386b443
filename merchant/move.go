package merchant

import (
	"context"
	"fmt"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/store"
)

// Move gives a merchant another plan, whose version in force it signs. today is
// the business date of its sales: those of today keep the price of the old
// contract, whenever they are booked, and the new one counts from the next
// business date. Done again it changes nothing and returns the same contract. A
// plan without the merchant's speed is refused with ErrPlan.
func (r *Registry) Move(ctx context.Context, mid, code string, today calendar.Date) (Contract, error) {
	if _, err := r.Refresh(ctx); err != nil {
		return Contract{}, err
	}
	plan, err := r.Plans().InForce(code, today)
	if err != nil {
		return Contract{}, err
	}
	var signed priceNews
	var moved Merchant
	var last Contract
	fault.Hit("plans.move.before")
	err = r.db.Write(ctx, func(tx store.Tx) error {
		signed = priceNews{}
		rows, err := tx.Query("select "+merchantColumns+" from merchant where mid = $1 for update", mid)
		found, err := store.All(rows, err, scanMerchant)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("%w: merchant %q", ErrUnknown, mid)
		}
		moved = found[0]
		// Read under the lock: another may have moved it since Refresh.
		rows, err = tx.Query("select "+contractColumns+" from merchant_contract where mid = $1 order by id", mid)
		contracts, err := store.All(rows, err, scanContract)
		if err != nil {
			return err
		}
		last = *(&Terms{Contracts: contracts}).last()
		if moved.Plan == code && last.Plan == code {
			return nil
		}
		if _, offered := plan.SpeedFee(moved.Speed, 0, 0); !offered {
			return fmt.Errorf("%w: %s does not settle at %s, which merchant %s has: change its speed first", ErrPlan, code, moved.Speed, mid)
		}
		moved.Plan = code
		if moved.Version, err = nextVersion(tx); err != nil {
			return err
		}
		if err := saveMerchant(tx, &moved); err != nil {
			return err
		}
		return r.sign(tx, &moved, &last, today, &signed)
	})
	fault.Hit("plans.move.after")
	if err != nil {
		return Contract{}, err
	}
	if len(signed.contracts) > 0 {
		last = signed.contracts[0]
	}
	if err := r.adoptPrices(&signed); err != nil {
		return Contract{}, err
	}
	r.adopt([]Merchant{moved}, nil)
	return last, nil
}

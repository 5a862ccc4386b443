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
			return fmt.Errorf("%w: %s does not settle at %s, which merchant %s has: change its speed first (acquirer settle speed)", ErrPlan, code, moved.Speed, mid)
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

// SetSpeed gives a merchant another settlement speed, for what it sells and is
// booked from now on; what waits stays at the speed it has. A speed that its plan
// does not offer, today or from the next business date on, is refused with ErrPlan.
// Whatever also writes is written with it; a speed that it has already changes
// nothing else.
func (r *Registry) SetSpeed(ctx context.Context, mid string, speed Speed, today calendar.Date, also ...func(tx store.Tx) error) error {
	if _, err := ParseSpeed(string(speed)); err != nil {
		return err
	}
	if _, err := r.Refresh(ctx); err != nil {
		return err
	}
	var m Merchant
	fault.Hit("merchant.speed.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+merchantColumns+" from merchant where mid = $1 for update", mid)
		found, err := store.All(rows, err, scanMerchant)
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return fmt.Errorf("%w: merchant %.20q", ErrUnknown, mid)
		case found[0].Status == Closed:
			return fmt.Errorf("%w: %s", ErrClosed, mid)
		}
		m = found[0]
		for _, date := range []calendar.Date{today, today.AddDays(1)} { // another plan may begin tomorrow
			plan, err := r.PlanOf(&m, date)
			if err != nil {
				return err
			}
			if _, offered := plan.SpeedFee(speed, 0, 0); !offered {
				return fmt.Errorf("%w: %s version %d, which merchant %s has on %s, does not settle at %s; give it another plan first (acquirer fees move)",
					ErrPlan, plan.Code, plan.Version, mid, date, speed)
			}
		}
		if m.Speed != speed {
			m.Speed = speed
			if m.Version, err = nextVersion(tx); err != nil {
				return err
			}
			if err := saveMerchant(tx, &m); err != nil {
				return err
			}
		}
		for _, f := range also {
			if err := f(tx); err != nil {
				return err
			}
		}
		return nil
	})
	fault.Hit("merchant.speed.after")
	if err != nil {
		return err
	}
	r.adopt([]Merchant{m}, nil)
	return nil
}

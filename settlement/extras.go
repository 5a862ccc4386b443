package settlement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// Extras is what ChargeExtras did.
type Extras struct {
	Through calendar.Date `json:"through"` // everything that fell due up to here is charged
	Charged int64         `json:"charged"`
	Total   money.Amount  `json:"total"`
	Waived  int64         `json:"waived"`
}

// extrasFeed is the row of settlement_feed that remembers how far ChargeExtras came.
const extrasFeed = "extras"

// ChargeExtras charges what merchants owe apart from their sales and that fell
// due since it last ran, up to a business date that is closed: devices and SIM
// years (merchant.Registry.ExtrasDue). A device whose merchant sold enough in its
// first days costs nothing. Each has a key of its own, so that a day that is
// charged again, or by two nodes, has one effect; it nets with the next close.
func (e *Engine) ChargeExtras(ctx context.Context, through calendar.Date, now time.Time) (x Extras, err error) {
	x.Through = through
	open, err := e.OpenDate(ctx)
	if err != nil {
		return x, err
	}
	if through >= open {
		return x, fmt.Errorf("settlement: extras up to %s cannot be charged while %s is open: what a merchant sold is not known yet", through, open)
	}
	last, err := e.extrasThrough(ctx)
	if err != nil || last >= through {
		return x, err
	}
	terminals := slices.Collect(e.cfg.Merchants.Terminals())
	slices.SortFunc(terminals, func(a, b *merchant.Terminal) int { return strings.Compare(a.TID, b.TID) })
	for _, t := range terminals {
		due, err := e.cfg.Merchants.ExtrasDue(t, through)
		if err != nil {
			return x, fmt.Errorf("settlement: what terminal %s owes: %w", t.TID, err)
		}
		for i := range due {
			if due[i].Due <= last {
				continue
			}
			waived, err := e.waived(ctx, &due[i])
			if err != nil {
				return x, err
			}
			if waived {
				x.Waived++
				continue
			}
			if err := e.ExtraFee(ctx, due[i].Key, due[i].Merchant, due[i].Amount, extraText(&due[i]), now); err != nil {
				return x, err
			}
			x.Charged++
			x.Total += due[i].Amount
		}
		if err := e.step("charged"); err != nil {
			return x, err
		}
	}
	fault.Hit("settlement.extras.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("insert into settlement_feed (name, cursor) values ($1,$2) on conflict (name) do update set cursor = excluded.cursor where settlement_feed.cursor < excluded.cursor",
			extrasFeed, through.String())
		return err
	})
	fault.Hit("settlement.extras.after")
	if err != nil {
		return x, fmt.Errorf("settlement: remembering that extras are charged up to %s: %w", through, err)
	}
	return x, nil
}

func (e *Engine) extrasThrough(ctx context.Context) (last calendar.Date, err error) {
	var text string
	err = e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select cursor from settlement_feed where name = $1", extrasFeed).Scan(&text)
	})
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("settlement: reading how far extras are charged: %w", err)
	}
	return calendar.ParseDate(text)
}

// waived says whether the merchant sold enough in the first days, its refunds
// and voids taken off.
func (e *Engine) waived(ctx context.Context, d *merchant.ExtraDue) (bool, error) {
	if d.Waiver == nil {
		return false, nil
	}
	var sold money.Amount
	err := e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select cast(coalesce(sum(gross), 0) as BIGINT) from settlement_batch where merchant = $1 and date >= $2 and date < $3",
			d.Merchant, d.First, d.Due).Scan(&sold)
	})
	if err != nil {
		return false, fmt.Errorf("settlement: what %s sold from %s to %s: %w", d.Merchant, d.First, d.Due, err)
	}
	return sold >= d.Waiver.Sales, nil
}

// extraText is what the merchant reads on its statement.
func extraText(d *merchant.ExtraDue) string {
	switch d.Kind {
	case merchant.Device:
		return "终端" + d.Terminal + "设备费"
	case merchant.SIMYear:
		return "终端" + d.Terminal + "流量卡年费(自" + d.Due.String() + "起一年)"
	}
	return d.Kind
}

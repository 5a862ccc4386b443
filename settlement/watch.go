package settlement

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
)

// A merchant that is watched, or too much of whose sales goes back, is not paid
// before the network pays: its S0 and D0 sales are paid T+1, and their lines say
// why.

// Watch is an operator's eye on a merchant. One person sets it; two lift it.
type Watch struct {
	Merchant string    `json:"merchant"`
	Reason   string    `json:"reason"`
	SetBy    string    `json:"set_by"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until,omitzero"`     // when it ends by itself
	AskedBy  string    `json:"asked_by,omitempty"` // who asked that it is lifted
	Asked    time.Time `json:"asked,omitzero"`
	LiftedBy string    `json:"lifted_by,omitempty"`
	Lifted   time.Time `json:"lifted,omitzero"`
}

var (
	// ErrWatch says that a watch does not make sense, or would be a second one.
	ErrWatch = errors.New("settlement: not a watch that can be set")
	// ErrNoWatch says that nobody watches a merchant.
	ErrNoWatch = errors.New("settlement: no such watch")
)

// Watch sets w, which needs a registered merchant, a reason and who sets it; with
// Until it ends by itself. A merchant is watched once: for another reason the one
// that stands is lifted first. The same watch again has no effect. Here and below,
// whatever also writes is written with it.
func (e *Engine) Watch(ctx context.Context, w Watch, now time.Time, also ...func(tx store.Tx) error) error {
	w.From = now
	_, known := e.cfg.Merchants.Merchant([]byte(w.Merchant))
	switch {
	case !known:
		return fmt.Errorf("%w: merchant %.20q is not registered", ErrWatch, w.Merchant)
	case strings.TrimSpace(w.Reason) == "" || len(w.Reason) > 200 || w.SetBy == "":
		return fmt.Errorf("%w: merchant %s: want who watches it, and why in 1 to 200 bytes", ErrWatch, w.Merchant)
	case !w.Until.IsZero() && !w.Until.After(now):
		return fmt.Errorf("%w: merchant %s: a watch until %s has ended before it begins", ErrWatch, w.Merchant, w.Until.In(calendar.Beijing).Format("2006-01-02 15:04"))
	}
	err := e.db.Write(ctx, func(tx store.Tx) error {
		// One that has ended by itself makes room.
		if _, err := tx.Exec("update settlement_watch set lifted = until where merchant = $1 and lifted = 0 and until > 0 and until <= $2", w.Merchant, now.UnixMicro()); err != nil {
			return err
		}
		was, err := watchOf(tx, w.Merchant)
		switch {
		case err == nil && was.Reason == w.Reason && store.Micros(was.Until) == store.Micros(w.Until):
			return nil
		case err == nil:
			return fmt.Errorf("%w: %s watches it since %s: %s; lift that one first", ErrWatch, was.SetBy, was.From.In(calendar.Beijing).Format("2006-01-02 15:04"), was.Reason)
		case !errors.Is(err, ErrNoWatch):
			return err
		}
		if _, err := tx.Exec("insert into settlement_watch ("+watchColumns+") values ($1,$2,$3,$4,$5,'',0,'',0)", w.Merchant, w.Reason, w.SetBy, store.Micros(w.From), store.Micros(w.Until)); err != nil {
			return err
		}
		return all(tx, also)
	})
	if err != nil {
		return fmt.Errorf("settlement: watching merchant %s: %w", w.Merchant, err)
	}
	return nil
}

// Unwatch lifts a merchant's watch: the first person asks, a second one lifts it
// (audit.Ask). lifted reports that both have.
func (e *Engine) Unwatch(ctx context.Context, mid, by string, now time.Time, also ...func(tx store.Tx) error) (lifted bool, err error) {
	if by == "" {
		return false, fmt.Errorf("%w: say who you are", ErrWatch)
	}
	err = e.db.Write(ctx, func(tx store.Tx) error {
		lifted = false
		w, err := watchOf(tx, mid)
		if err != nil {
			return err
		}
		ask := audit.Ask{By: w.AskedBy, At: w.Asked}
		if lifted, err = ask.Second("", by, now); err != nil {
			return err
		}
		if lifted {
			w.LiftedBy, w.Lifted = by, now
		}
		if _, err := tx.Exec("update settlement_watch set asked_by = $1, asked = $2, lifted_by = $3, lifted = $4 where merchant = $5 and lifted = 0",
			ask.By, store.Micros(ask.At), w.LiftedBy, store.Micros(w.Lifted), mid); err != nil {
			return err
		}
		return all(tx, also)
	})
	if err != nil {
		return false, fmt.Errorf("settlement: lifting the watch of merchant %.20q: %w", mid, err)
	}
	return lifted, nil
}

// Watches lists the watches of a merchant, or of all with "", the newest first:
// those that stand, or with ended all there ever were.
func (e *Engine) Watches(ctx context.Context, mid string, ended bool, now time.Time, limit int) (watches []Watch, err error) {
	which := 0
	if ended {
		which = 1
	}
	err = e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select "+watchColumns+` from settlement_watch where (merchant = $1 or $1 = '') and ($2 = 1 or lifted = 0 and (until = 0 or until > $3))
			order by since desc, merchant limit $4`, mid, which, now.UnixMicro(), limit)
		watches, err = store.All(rows, err, scanWatch)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: listing watches: %w", err)
	}
	return watches, nil
}

const watchColumns = "merchant, reason, set_by, since, until, asked_by, asked, lifted_by, lifted"

func scanWatch(r *store.Rows, w *Watch) error {
	var since, until, asked, lifted int64
	err := r.Scan(&w.Merchant, &w.Reason, &w.SetBy, &since, &until, &w.AskedBy, &asked, &w.LiftedBy, &lifted)
	w.From, w.Until, w.Asked, w.Lifted = store.Instant(since), store.Instant(until), store.Instant(asked), store.Instant(lifted)
	return err
}

// watchOf reads and locks the watch of a merchant that was not lifted; ErrNoWatch
// when there is none.
func watchOf(tx store.Tx, mid string) (Watch, error) {
	rows, err := tx.Query("select "+watchColumns+" from settlement_watch where merchant = $1 and lifted = 0 for update", mid)
	all, err := store.All(rows, err, scanWatch)
	if err == nil && len(all) == 0 {
		err = ErrNoWatch
	}
	if err != nil {
		return Watch{}, err
	}
	return all[0], nil
}

// riskDays is how far back a merchant's sales are looked at.
const riskDays = 30

// risky says why a merchant's money is not advanced: somebody watches it, or
// more of what it sold in the last 30 days went back than RiskPPM allows.
func (e *Engine) risky(tx store.Tx, mid string, date calendar.Date, now time.Time) (string, error) {
	switch w, err := watchOf(tx, mid); {
	case err == nil && (w.Until.IsZero() || now.Before(w.Until)):
		return "watched since " + w.From.In(calendar.Beijing).Format("2006-01-02") + ": " + w.Reason, nil
	case err != nil && !errors.Is(err, ErrNoWatch):
		return "", fmt.Errorf("settlement: who watches merchant %s: %w", mid, err)
	}
	if e.cfg.RiskPPM == 0 {
		return "", nil
	}
	var sales int64
	var sold, back money.Amount
	if err := tx.QueryRow(`select cast(coalesce(sum(sales), 0) as BIGINT), cast(coalesce(sum(sold), 0) as BIGINT), cast(coalesce(sum(back), 0) as BIGINT)
		from settlement_conduct where merchant = $1 and date > $2`, mid, date.AddDays(-riskDays)).Scan(&sales, &sold, &back); err != nil {
		return "", fmt.Errorf("settlement: what merchant %s sold: %w", mid, err)
	}
	allowed, err := max(0, sold).MulPPM(e.cfg.RiskPPM)
	if err != nil || sales < int64(e.cfg.RiskSales) || back <= allowed {
		return "", err
	}
	return fmt.Sprintf("refunds and chargebacks are %s of the %s sold in %d days", back, sold, riskDays), nil
}

// conduct adds to what a merchant sold, and what of it went back, on a date.
func conduct(tx store.Tx, mid string, date calendar.Date, sales int64, sold, back money.Amount) error {
	if sales == 0 && sold == 0 && back == 0 {
		return nil
	}
	_, err := tx.Exec(`insert into settlement_conduct (merchant, date, sales, sold, back) values ($1,$2,$3,$4,$5)
		on conflict (merchant, date) do update set sales = settlement_conduct.sales + excluded.sales, sold = settlement_conduct.sold + excluded.sold,
			back = settlement_conduct.back + excluded.back`, mid, date, sales, sold, back)
	if err != nil {
		return fmt.Errorf("settlement: remembering what merchant %s sold: %w", mid, err)
	}
	return nil
}

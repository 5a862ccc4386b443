package main

import (
	"context"
	"time"
)

// forgetter ends the life of sealed card data, for as long as the house runs.
func (v *house) forgetter(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := v.forgetCards(ctx, time.Now()); err != nil && ctx.Err() == nil {
			v.log.Error("sealed card data was not forgotten; it is tried again", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forgetCards forgets card numbers, chip data and signatures of transactions
// that are older than a dispute can be, but for those in dispute.
func (v *house) forgetCards(ctx context.Context, now time.Time) error {
	keep, err := v.disputes.Disputed(ctx)
	if err != nil {
		return err
	}
	n, err := v.journal.Forget(ctx, now.AddDate(0, 0, -v.cfg.Dispute.Keep), keep)
	if n > 0 {
		v.log.Info("card numbers, chip data and signatures were forgotten", "transactions", n, "older_than_days", v.cfg.Dispute.Keep)
	}
	return err
}

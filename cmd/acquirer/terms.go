package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
)

// unlimited, as settlement.credit, sends what is due whether money came or not.
const unlimited = "unlimited"

// terms puts the configured terms of settlement into c.
func (c Config) terms(to *settlement.Config) (err error) {
	s := &c.Settlement
	for _, a := range []struct {
		text string
		to   *money.Amount
	}{{s.MinPayout, &to.MinPayout}, {s.Advance, &to.AdvanceLimit}, {s.Debt, &to.ArrearsOver}} {
		if a.text == "" {
			continue
		}
		if *a.to, err = money.Parse(a.text); err != nil {
			return err
		}
	}
	if s.BankHours != "" {
		if to.BankFrom, to.BankTo, err = parseHours(s.BankHours); err != nil {
			return err
		}
	}
	if to.Payers, err = c.payers(); err != nil {
		return err
	}
	switch s.Credit {
	case unlimited:
	case "": // money that the house sees come is waited for
		to.Covered = len(to.Payers) > 0
	default:
		to.Covered = true
		if to.Credit, err = money.Parse(s.Credit); err != nil {
			return err
		}
	}
	to.CutOff, to.WalletCutOff, to.RefundFee = c.Switch.CutOff, c.Switch.WalletCutOff, settlement.RefundFee(s.RefundFee)
	to.RiskPPM, to.RiskSales = int64(s.RiskPPM), s.RiskSales
	if to.Windows, err = parseWindows(s.Windows); err != nil {
		return err
	}
	to.WalletPPM = int64(s.WalletPPM)
	to.FastAfter, to.FastStreak, to.Cooling, to.ArrearsDays = s.FastAfter, s.FastRow, s.Cooling, s.OldDebt
	return nil
}

// allowFast enables early payment for the merchants of the demo's street, as
// customer service does for others (acquirer settle fast).
func (v *house) allowFast(ctx context.Context) error {
	if !v.cfg.demo {
		return nil
	}
	for m := range v.terminals.Merchants() {
		if m.Speed == merchant.D0 || m.Speed == merchant.S0 {
			if err := v.books.AllowFast(ctx, m.MID, "acquirer demo", time.Now()); err != nil {
				return err
			}
		}
	}
	return nil
}

// instant is what is measured of S0 payouts.
type instant struct {
	took    prometheus.Histogram
	waiting prometheus.Gauge
	oldest  prometheus.Gauge
	slow    *prometheus.CounterVec
}

func newInstant(r prometheus.Registerer) instant {
	i := instant{
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "acquirer_instant_payout_seconds",
			Help: "From the approval of an S0 sale to the bank's word that the merchant has the money; 120 are promised.", Buckets: []float64{1, 2, 5, 10, 20, 30, 60, 90, 120, 300, 3600}}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "acquirer_instant_waiting", Help: "S0 sales and payouts that are not paid yet."}),
		oldest:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "acquirer_instant_oldest_seconds", Help: "Age of the oldest S0 sale that is not paid yet; 120 are promised."}),
	}
	i.slow = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_instant_slowed_total",
		Help: "Batches of S0, D+0 and D+1 sales that are paid T+1, by kind of reason: merchant, hours, risk, account, funds, late (T+1 is no later). The words stand at the line and the batch."}, []string{"cause"})
	for _, cause := range settlement.SlowCauses {
		i.slow.WithLabelValues(string(cause))
	}
	r.MustRegister(i.took, i.waiting, i.oldest, i.slow)
	return i
}

// instantPaid hears how long an S0 payout took.
func (v *house) instantPaid(took time.Duration) {
	if v.instant.took != nil {
		v.instant.took.Observe(took.Seconds())
	}
}

// slowedDown hears that sales are paid later than their merchant's speed says.
func (v *house) slowedDown(cause settlement.Slow) {
	if v.instant.slow != nil {
		v.instant.slow.WithLabelValues(string(cause)).Inc()
	}
}

// payInstantly pays S0 sales as they come, until ctx ends. The ledger's keeper
// brings them in, twice a second.
func (v *house) payInstantly(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	trouble := trouble{log: v.log}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			_, err := v.books.PayInstant(ctx, now)
			waiting, oldest, err2 := v.books.Instant(ctx, time.Now())
			v.instant.waiting.Set(float64(waiting))
			v.instant.oldest.Set(oldest.Seconds())
			if err := errors.Join(err, err2); ctx.Err() == nil {
				trouble.met("paying S0 sales", err)
			}
		}
	}
}

// parseHours reads two times of day like "08:00-22:30".
func parseHours(text string) (opens, closes time.Duration, err error) {
	from, to, ok := strings.Cut(text, "-")
	a, err1 := time.Parse("15:04", from)
	b, err2 := time.Parse("15:04", to)
	if !ok || err1 != nil || err2 != nil || !a.Before(b) {
		return 0, 0, fmt.Errorf("%.40q is not like 08:00-22:30", text)
	}
	return sinceMidnight(a), sinceMidnight(b), nil
}

// sinceMidnight is the time of day of t.
func sinceMidnight(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/ledger"
)

// summedTables are the tables whose rows are compared with their checksums.
var summedTables = slices.Concat(journal.Summed, ledger.Summed)

// inspector reads the whole database back once a day, so that damage is found
// while there are good copies: its pages by the engine's own check, and every
// row of journal and ledger by its checksum.
type inspector struct {
	v        *house
	problems *prometheus.GaugeVec
	pages    atomic.Int64 // when the last check of each ended, microseconds
	rows     atomic.Int64
}

func newInspector(v *house) *inspector {
	x := &inspector{v: v, problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_integrity_problems",
		Help: "What the last daily check found damaged, by check: pages (the engine's own) or rows (checksums); must stay 0."}, []string{"check"})}
	v.metrics.MustRegister(x.problems)
	for check, at := range map[string]*atomic.Int64{"pages": &x.pages, "rows": &x.rows} {
		x.problems.WithLabelValues(check)
		at.Store(time.Now().UnixMicro())
		v.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "acquirer_integrity_age_seconds",
			Help:        "Since the last daily check that could be carried out ended, or since the start.",
			ConstLabels: prometheus.Labels{"check": check}}, func() float64 { return time.Since(time.UnixMicro(at.Load())).Seconds() }))
	}
	return x
}

// run inspects every day at a time of day, Beijing, until ctx ends.
func (x *inspector) run(ctx context.Context, at time.Duration) {
	for {
		next := time.NewTimer(time.Until(nextAt(time.Now(), at)))
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
			if err := x.inspect(ctx); err != nil && ctx.Err() == nil {
				x.v.log.Error("inspecting the database", "error", err.Error())
			}
		}
	}
}

// nextAt is the next moment behind now that is at a time of day in Beijing.
func nextAt(now time.Time, at time.Duration) time.Time {
	y, m, d := now.In(calendar.Beijing).Date()
	next := time.Date(y, m, d, 0, 0, 0, 0, calendar.Beijing).Add(at)
	for !next.After(now) {
		next = next.AddDate(0, 0, 1)
	}
	return next
}

// inspect checks pages and rows now. That one check could not be carried out
// does not keep the other from it.
func (x *inspector) inspect(ctx context.Context) error {
	began := time.Now()
	var errs []error
	problems, err := x.v.db.CheckPages(ctx)
	if err != nil {
		errs = append(errs, err)
	} else {
		x.found("pages", len(problems), problems, &x.pages)
	}
	r, err := x.v.db.CheckRows(ctx, summedTables, x.v.letTerminalsFirst)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	x.found("rows", r.Found, r.Problems, &x.rows)
	x.v.log.Info("the database was inspected", "rows", r.Rows, "without_checksum", r.Without, "damaged_rows", r.Found, "page_problems", len(problems), "took", time.Since(began).String())
	return errors.Join(errs...)
}

func (x *inspector) found(check string, n int, problems []string, at *atomic.Int64) {
	x.problems.WithLabelValues(check).Set(float64(n))
	at.Store(time.Now().UnixMicro())
	if n > 0 {
		x.v.log.Error("the database is damaged", "check", check, "problems", n, "found", strings.Join(problems, "; "))
	}
}

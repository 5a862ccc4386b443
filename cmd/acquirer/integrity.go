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
	"acquirer/store"
)

// summedTables are the tables whose rows are compared with their checksums.
var summedTables = slices.Concat(journal.Summed, ledger.Summed)

// talliedTables are the tables whose rows are counted, so that one that is taken
// out is missed.
var talliedTables = slices.Concat(journal.Tallied, ledger.Tallied)

// tallyEvery is how often new rows are counted.
const tallyEvery = time.Minute

// inspector reads the whole database back once a day, so that damage is found
// while there are good copies: its pages by the engine's own check, every row of
// journal and ledger by its checksum, and by the tallies those that are gone.
type inspector struct {
	v        *house
	problems *prometheus.GaugeVec
	pages    atomic.Int64 // when the last check of each ended, microseconds
	rows     atomic.Int64
	tallies  atomic.Int64
}

func newInspector(v *house) *inspector {
	x := &inspector{v: v, problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_integrity_problems",
		Help: "What the last daily check found damaged, by check: pages (the engine's own), rows (checksums) or tallies (rows that are gone); must stay 0."}, []string{"check"})}
	v.metrics.MustRegister(x.problems)
	for check, at := range map[string]*atomic.Int64{"pages": &x.pages, "rows": &x.rows, "tallies": &x.tallies} {
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

// count notes every minute which rows there are, until ctx ends.
func (x *inspector) count(ctx context.Context) {
	tick := time.NewTicker(tallyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if _, err := x.v.db.Tally(ctx, talliedTables, now.Add(-store.TallyAge), x.v.letTerminalsFirst); err != nil && ctx.Err() == nil {
				x.v.log.Error("counting the rows of journal and ledger", "error", err.Error())
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

// inspect checks pages, rows and tallies now. That one check could not be carried out
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
	t, err := x.v.db.CheckTallies(ctx, talliedTables, store.Head{}, x.v.letTerminalsFirst)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	x.found("tallies", t.Found, t.Problems, &x.tallies)
	x.v.log.Info("the database was inspected", "rows", r.Rows, "without_checksum", r.Without, "damaged_rows", r.Found, "page_problems", len(problems),
		"counted", t.Rows, "rows_gone", t.Found, "tallies", t.Head.String(), "took", time.Since(began).String())
	return errors.Join(errs...)
}

func (x *inspector) found(check string, n int, problems []string, at *atomic.Int64) {
	x.problems.WithLabelValues(check).Set(float64(n))
	at.Store(time.Now().UnixMicro())
	if n > 0 {
		x.v.log.Error("the database is damaged", "check", check, "problems", n, "found", strings.Join(problems, "; "))
	}
}

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/store"
	"acquirer/store/storetest"
)

// The daily inspection names a changed row in the log, and both engines' metric
// says that somebody must look.
func TestFault38_Inspection(t *testing.T) {
	storetest.Each(t, schemas(), func(t *testing.T, db *store.DB) {
		var log bytes.Buffer
		x := newInspector(&house{db: db, metrics: prometheus.NewRegistry(), log: slog.New(slog.NewTextHandler(&log, nil))})
		date := calendar.Date(20260213)
		if err := ledger.New(db).Post(t.Context(), ledger.OwnFunds("opening", date, 1_00)); err != nil {
			t.Fatal(err)
		}
		tally := func() {
			t.Helper()
			if _, err := db.Tally(t.Context(), talliedTables, time.Now().Add(time.Hour), nil); err != nil {
				t.Fatal(err)
			}
		}
		inspect := func(wantRows, wantGone float64) {
			t.Helper()
			log.Reset()
			err := x.inspect(t.Context())
			if db.Postgres() && (err == nil || !strings.Contains(err.Error(), "amcheck")) || !db.Postgres() && err != nil {
				t.Errorf("%v", err) // a new database of PostgreSQL has no amcheck
			}
			if rows, gone := damaged(t, x.v.metrics, "rows"), damaged(t, x.v.metrics, "tallies"); rows != wantRows || gone != wantGone {
				t.Errorf("%v rows are damaged and %v gone, want %v and %v\n%s", rows, gone, wantRows, wantGone, &log)
			}
		}
		tally()
		inspect(0, 0)
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("update ledger_transfer set ref = ref || 'x'")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		inspect(1, 1) // it is not what was counted either
		if !strings.Contains(log.String(), "damaged") || !strings.Contains(log.String(), fmt.Sprintf("business date %d", date)) {
			t.Errorf("the log does not name it:\n%s", &log)
		}
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("delete from ledger_transfer")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		inspect(0, 1)
		if !strings.Contains(log.String(), "it was counted (tally 1) and is gone") {
			t.Errorf("the log does not name it:\n%s", &log)
		}
	})
}

// damaged reads what an alarm reads.
func damaged(t *testing.T, metrics *prometheus.Registry, check string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "acquirer_integrity_problems" && m.GetLabel()[0].GetValue() == check {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatal("acquirer_integrity_problems is not there")
	return 0
}

func TestNextInspection(t *testing.T) {
	at := func(text string) time.Time {
		t.Helper()
		when, err := time.ParseInLocation("2006-01-02 15:04:05", text, calendar.Beijing)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for from, want := range map[string]string{
		"2026-02-13 04:09:59": "2026-02-13 04:10:00",
		"2026-02-13 04:10:00": "2026-02-14 04:10:00",
		"2026-12-31 23:59:59": "2027-01-01 04:10:00",
	} {
		if got := nextAt(at(from).UTC(), 4*time.Hour+10*time.Minute); !got.Equal(at(want)) {
			t.Errorf("after %s: %s, want %s", from, got, want)
		}
	}
}

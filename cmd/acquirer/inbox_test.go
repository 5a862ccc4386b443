package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/calendar"
	"acquirer/settlement/clearing"
)

// A business date waits for its network's file, says so once, and closes by
// itself when the file has come; a damaged one is put away with the reason.
func TestDateWaitsForItsFile(t *testing.T) {
	v := openForReading(t, "sqlite:"+filepath.Join(t.TempDir(), "house.db"))
	inbox := t.TempDir()
	v.cfg.Clearing.Sources, v.cfg.Clearing.Inbox, v.cfg.Clearing.FeeLimit, v.cfg.Clearing.StopAbove = "north", inbox, "0.02", "0.00"
	v.cfg.Settlement.MinPayout, v.cfg.Settlement.RefundFee = "0.01", "return_pct"
	v.metrics = prometheus.NewRegistry()
	var log bytes.Buffer
	v.log = slog.New(slog.NewTextHandler(&log, nil))
	var err error
	if v.books, err = v.openBooks(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := v.openReconciler(); err != nil {
		t.Fatal(err)
	}
	if v.disputes, err = disputes(v.db, v.cfg, v.books); err != nil {
		t.Fatal(err)
	}
	metric := func(name string) float64 {
		t.Helper()
		all, err := v.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.GetName() == name {
				return f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue()
			}
		}
		t.Fatalf("no metric %s", name)
		return 0
	}
	const yesterday calendar.Date = 20261120
	now := yesterday.AddDays(1).Time().Add(9 * time.Hour)
	for range 2 {
		if err := v.settleDue(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "a business date waits"); n != 1 || metric("acquirer_business_date_waits") != 1 || !strings.Contains(v.waits, "north") {
		t.Errorf("it was said %d times: %s", n, log.String())
	}
	var file bytes.Buffer
	w, err := clearing.NewWriter(&file, clearing.Header{Source: "north", Acquirer: "1", Date: yesterday})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	put := func(name string, content []byte, age time.Duration) {
		t.Helper()
		path := filepath.Join(inbox, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	put("damaged", file.Bytes()[:file.Len()-5], time.Minute)
	put("being-written", file.Bytes(), 0)
	if err := v.settleDue(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if why, err := os.ReadFile(filepath.Join(inbox, "refused", "damaged.why")); err != nil || !strings.Contains(string(why), "line 2") {
		t.Errorf("%s, %v", why, err)
	}
	if metric("acquirer_clearing_files_refused_total") != 1 || metric("acquirer_business_date_waits") != 1 {
		t.Errorf("%v refused, waiting %v", metric("acquirer_clearing_files_refused_total"), metric("acquirer_business_date_waits"))
	}
	// The last run took it in and ended before it was moved away.
	if came, err := takeFile(t.Context(), v.recon, inbox, filepath.Join(inbox, "being-written"), now); err != nil || came.Date != yesterday {
		t.Fatalf("%+v, %v", came, err)
	}
	if err := v.settleDue(t.Context(), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if open, err := v.books.OpenDate(t.Context()); err != nil || open != yesterday.AddDays(1) || metric("acquirer_business_date_waits") != 0 {
		t.Errorf("open %s, %v, waiting %v: %s", open, err, metric("acquirer_business_date_waits"), log.String())
	}
	if _, err := os.Stat(filepath.Join(inbox, "accepted", "being-written")); err != nil {
		t.Error(err)
	}
}

// A folder of clearing files that has gone holds up nothing but what is in it:
// the date is closed all the same, and the error is told.
func TestInboxGone(t *testing.T) {
	v := openForReading(t, "sqlite:"+filepath.Join(t.TempDir(), "house.db"))
	inbox := filepath.Join(t.TempDir(), "put", "here")
	v.cfg.Clearing.Inbox, v.cfg.Clearing.FeeLimit, v.cfg.Clearing.StopAbove = inbox, "0.02", "0.00"
	v.cfg.Settlement.MinPayout, v.cfg.Settlement.RefundFee = "0.01", "return_pct"
	v.metrics, v.log = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	var err error
	if v.books, err = v.openBooks(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := v.openReconciler(); err != nil {
		t.Fatal(err)
	}
	if v.disputes, err = disputes(v.db, v.cfg, v.books); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(inbox); err != nil {
		t.Fatalf("the folder was not made: %v", err)
	}
	const yesterday calendar.Date = 20261120
	now := yesterday.AddDays(1).Time().Add(9 * time.Hour)
	if err := v.settleDue(t.Context(), now); err == nil || !strings.Contains(err.Error(), inbox) {
		t.Errorf("settling said %v, want the folder that is missing", err)
	}
	if open, err := v.books.OpenDate(t.Context()); err != nil || open <= yesterday {
		t.Errorf("%s is open, %v: the date was held up", open, err)
	}
}

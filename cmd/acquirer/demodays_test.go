package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/settlement/reconcile"
	"acquirer/store"
)

// Business dates over the holiday of October, with faults in every file: what
// the reconciliation finds is what was done to them, each rightly named. Then
// people do with it what they do.
func TestDemoDays(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "kept")
	status, stdout, stderr := runs(t, "demo", "--days", "3", "--transactions", "240", "--settle", "--json", "--keep", keep)
	if status != 0 {
		t.Fatalf("status %d: %s\n%s", status, stdout, stderr)
	}
	var r demoResult
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Breaks) != r.Injected || r.Injected < 25 || r.RefusedFiles != 6 {
		t.Errorf("%d breaks, %d faults, %d files refused", len(r.Breaks), r.Injected, r.RefusedFiles)
	}
	kinds := map[reconcile.Kind]int{}
	for _, b := range r.Breaks {
		kinds[b.Kind]++
		if b.Injected == "" || b.State == reconcile.Waiting {
			t.Errorf("%+v", b)
		}
	}
	for _, kind := range reconcile.Kinds {
		if kinds[kind] == 0 && kind != reconcile.LateReversal { // a late reversal needs luck: a sale that was reversed
			t.Errorf("no %s among %v", kind, kinds)
		}
	}
	if r.OwedOpen != 0 || !r.LedgerBalanced || r.IssuerMismatches != 0 || r.InvariantViolations != 0 || r.Payouts == 0 || r.ClientBank <= 0 {
		t.Errorf("%s", stdout)
	}

	// The commands, on the database that is left.
	database := "sqlite:" + filepath.Join(keep, "acquirer.db")
	settings := []string{"--database", database, "--clearing-sources", "north,south,east,west,wechat,alipay,unionpay-qr", "--settlement-wallet-ppm", "2000"}
	ask := func(want int, args ...string) string {
		t.Helper()
		status, stdout, stderr := runs(t, append(append([]string{"reconcile"}, args...), settings...)...)
		if status != want {
			t.Fatalf("%v: status %d: %s%s", args, status, stdout, stderr)
		}
		return stdout + stderr
	}
	var day reconcile.Day
	if err := json.Unmarshal([]byte(ask(0, "--date", "2026-09-30", "--json")), &day); err != nil {
		t.Fatal(err)
	}
	if day.Breaks == 0 || day.Ours == 0 || day.Matched == 0 || len(day.Missing) != 0 || len(day.Files) != 8 || day.Compared.IsZero() {
		t.Errorf("%+v", day)
	}
	if said := ask(0, "--date", "2026-09-30"); !strings.Contains(said, "business date   2026-09-30") || !strings.Contains(said, "breaks") {
		t.Errorf("%s", said)
	}
	// What cannot be compared is shown as far as it has come, and fails.
	if said := ask(1, "--date", "2026-11-20", "--json"); !strings.Contains(said, `"missing":["north"`) || !strings.Contains(said, "files are missing: of north, south") {
		t.Errorf("a date without files: %s", said)
	}
	if said := ask(1, "--date", "2099-01-01"); !strings.Contains(said, "compared        never") || !strings.Contains(said, "has not ended: 2099-01-01 ends at") {
		t.Errorf("a date that is not over: %s", said)
	}
	var open []reconcile.Break
	if err := json.Unmarshal([]byte(ask(0, "list", "--state", "open", "--json", "--limit", "1000")), &open); err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(open, func(b reconcile.Break) bool { return b.Kind == reconcile.Duplicate })
	id, err := json.Marshal(open[at].ID)
	if err != nil {
		t.Fatal(err)
	}
	if said := ask(0, "show", string(id)); !strings.Contains(said, `"action": "payer",`) || !strings.Contains(said, `"posting": "D2301 / C1101 `) || !strings.Contains(said, `"posting": "D2301 / C2101 `) || !strings.Contains(said, open[at].RRN) {
		t.Errorf("%s", said)
	}
	if said := ask(0, "resolve", string(id), "payer", "--note", "ticket"); !strings.Contains(said, "another person must confirm") {
		t.Errorf("%s", said)
	}
	if said := ask(0, "resolve", string(id), "merchant"); !strings.Contains(said, "merchant: asked for instead of payer, which "+whoRuns()+" had asked for; another person") {
		t.Errorf("another action: %s", said)
	}
	ask(0, "resolve", string(id), "payer")
	if said := ask(1, "resolve", string(id), "payer"); !strings.Contains(said, "second person") {
		t.Errorf("one person resolved it: %s", said)
	}
	if said := ask(1, "sign-off", "--date", "2026-09-30"); !strings.Contains(said, "open") {
		t.Errorf("signed with open breaks: %s", said)
	}
	// A quiet day of the holiday has nothing to resolve.
	if said := ask(0, "sign-off", "--date", "2026-10-05"); !strings.Contains(said, "another person must sign") {
		t.Errorf("%s", said)
	}
	if said := ask(1, "load", filepath.Join(keep, "inbox", "accepted", "north-2026-09-29-1.txt")); !strings.Contains(said, "loaded before") {
		t.Errorf("%s", said)
	}
	for _, wrong := range [][]string{{"--date", "x"}, {"list", "--kind", "odd"}, {"list", "--state", "odd"}, {"show", "x"}, {"resolve", "1"}} {
		ask(2, wrong...)
	}

	// The other person: the same errand under another name.
	v := openForReading(t, database)
	cfg, err := loadConfig(pflag.NewFlagSet("", pflag.ContinueOnError))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Clearing.Sources, cfg.Settlement.WalletPPM = settings[3], 2000
	c := reconcileCall{Do: "resolve", ID: open[at].ID, Action: reconcile.ToPayer}
	a, err := c.run(t.Context(), v.db, cfg, "somebody else")
	if err != nil || !a.(reconcileAnswer).Done {
		t.Fatalf("%+v, %v", a, err)
	}
	c = reconcileCall{Do: "sign", Date: calendar.Date(20261005)}
	if a, err := c.run(t.Context(), v.db, cfg, "somebody else"); err != nil || !a.(reconcileAnswer).Done {
		t.Errorf("%+v, %v", a, err)
	}
	entries, err := audit.List(t.Context(), v.db, "", 0, 100)
	if err != nil || len(entries) < 4 {
		t.Errorf("%d entries in the operators' log, %v", len(entries), err)
	}
	report, err := verifyLedger(t.Context(), v.db, v.books, store.Head{})
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("the ledger: %+v, %v", report, err)
	}
}

func TestDemoDaysRefusesWrongUse(t *testing.T) {
	for _, from := range []string{"x", "2026-12-20", "2031-01-01"} {
		if status, _, stderr := runs(t, "demo", "--days", "2", "--transactions", "10", "--settle", "--from", from); status != 2 || !strings.Contains(stderr, "--from") {
			t.Errorf("--from %s: status %d, %s", from, status, stderr)
		}
	}
	for _, args := range [][]string{{"--days", "5"}, {"--days", "13", "--transactions", "100", "--settle"}, {"--days", "5", "--transactions", "100"}, {"--days", "5", "--transactions", "4", "--settle"}, {"--days", "-1", "--transactions", "9", "--settle"}} {
		if status, stdout, stderr := runs(t, append([]string{"demo"}, args...)...); status != 2 || stdout != "" || !strings.Contains(stderr, "--days") {
			t.Errorf("demo %v: status %d, %q, %s", args, status, stdout, stderr)
		}
	}
}

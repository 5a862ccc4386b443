// Package deploy_test tries what deploy/ ships on the real programs: promtool,
// Prometheus, systemd-analyze.
package deploy_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.yaml.in/yaml/v3"

	"acquirer/deploy/deploytest"
	"acquirer/journal"
	"acquirer/routing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPromtool(t *testing.T) {
	promtool := deploytest.Program(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Every alert says what it means and what to do, wakes somebody or does not,
// and is seen firing in alerts_test.yml.
func TestEveryAlertIsExplainedAndTried(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "alerts.yml")), &rules); err != nil {
		t.Fatal(err)
	}
	tried := read(t, "alerts_test.yml")
	seen := map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if seen[r.Alert] {
				t.Errorf("%s stands twice", r.Alert)
			}
			seen[r.Alert] = true
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			for _, what := range []string{"summary", "description", "runbook"} {
				if len(r.Annotations[what]) < 20 {
					t.Errorf("%s: its %s says %q", r.Alert, what, r.Annotations[what])
				}
			}
			if !strings.Contains(tried, fmt.Sprintf(`{labels: '{alertname=%q`, r.Alert)) {
				t.Errorf("%s is never seen firing in alerts_test.yml", r.Alert)
			}
			q := deploytest.Query{Expr: r.Expr, Alert: true}
			if q.Measure() == r.Expr {
				t.Errorf("%s compares nothing: %s", r.Alert, r.Expr)
			}
		}
	}
	if len(seen) < 12 {
		t.Errorf("%d alerts were read", len(seen))
	}
}

// A metric, a reason or a kind that the rules and the dashboard name is one
// that the program has.
func TestNamesExist(t *testing.T) {
	var source strings.Builder
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "deploy" || d.Name() == "data"):
			return filepath.SkipDir
		case strings.HasSuffix(p, ".go") && !strings.HasSuffix(p, "_test.go"):
			b, err := os.ReadFile(p)
			source.Write(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := read(t, "alerts.yml") + read(t, "grafana/acquirer.json")
	names := map[string]bool{}
	for _, name := range regexp.MustCompile(`\bacquirer_[a-z_]+`).FindAllString(asked, -1) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		names[name] = true
	}
	for name := range names {
		if !strings.Contains(source.String(), `"`+name+`"`) {
			t.Errorf("nothing exports %s", name)
		}
	}
	if len(names) < 20 {
		t.Errorf("%d metrics are looked at", len(names))
	}

	reasons := map[string]bool{"none": true, "rc_.*": true} // switch/work.go, for what is not journaled
	for _, r := range journal.Reasons() {
		reasons[r.String()] = true
	}
	kinds := map[string]bool{string(routing.Mismatch): true, string(routing.BadMAC): true}
	for label, known := range map[string]map[string]bool{"reason": reasons, "kind": kinds} {
		found := regexp.MustCompile(`\b`+label+`(?:=|!=|=~|!~)\\?"([^"\\]+)`).FindAllStringSubmatch(asked, -1)
		if len(found) == 0 {
			t.Errorf("no %s is asked for", label)
		}
		for _, m := range found {
			for _, word := range strings.Split(m[1], "|") {
				if !known[word] {
					t.Errorf("%s %q does not exist", label, word)
				}
			}
		}
	}
}

// The panels lie side by side and not on each other.
func TestDashboardLayout(t *testing.T) {
	var board struct {
		Panels []struct {
			ID          int
			Title, Type string
			GridPos     struct{ X, Y, W, H int }
			Datasource  struct{ UID string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/acquirer.json")), &board); err != nil {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d, %q: an id twice, or no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && p.Datasource.UID != "${datasource}" {
			t.Errorf("%s asks %q, not the chosen Prometheus", p.Title, p.Datasource.UID)
		}
		g := p.GridPos
		if g.X < 0 || g.W < 1 || g.X+g.W > 24 || g.H < 1 {
			t.Errorf("%s lies at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// exporter is a house that trades a little between any two looks: what a
// running acquirer exports, with plausible values.
func exporter(t *testing.T) string {
	t.Helper()
	var looks atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := looks.Add(1)
		var b strings.Builder
		say := func(name, labels string, value float64) {
			if labels != "" {
				labels = "{" + labels + "}"
			}
			fmt.Fprintf(&b, "%s%s %v\n", name, labels, value)
		}
		histogram := func(name, labels string, perLook float64, le ...float64) {
			comma := ""
			if labels != "" {
				comma = ","
			}
			total := perLook * float64(n)
			for i, edge := range le {
				say(name+"_bucket", labels+comma+`le="`+strconv.FormatFloat(edge, 'g', -1, 64)+`"`, total*float64(i+1)/float64(len(le)))
			}
			say(name+"_bucket", labels+comma+`le="+Inf"`, total)
			say(name+"_sum", labels, total*le[0])
			say(name+"_count", labels, total)
		}
		for _, issuer := range []string{"north", "south"} {
			is := `issuer="` + issuer + `"`
			say("acquirer_transactions_total", `type="sale",reason="approved",`+is, float64(40*n))
			say("acquirer_transactions_total", `type="sale",reason="declined by issuer",`+is, float64(3*n))
			for _, line := range []string{"1", "2"} {
				say("acquirer_issuer_line_up", is+`,line="`+line+`"`, 1)
			}
			say("acquirer_issuer_in_flight", is, float64(n%4))
			say("acquirer_issuer_queued", is, 0)
			say("acquirer_issuer_line_drained", is+`,line="1"`, 0)
			say("acquirer_route_breaker_state", is, 0)
			say("acquirer_stand_in_total", is+`,result="approved"`, 0)
			histogram("acquirer_issuer_seconds", is, 43, .0025, .005, .01, .025)
			for _, outcome := range []string{"unreachable", "unanswered"} {
				say("acquirer_issuer_failures_total", is+`,outcome="`+outcome+`"`, 0)
			}
			for _, kind := range []string{"late", "duplicate", "stranger", "mismatch", "mac", "malformed", "rejected"} {
				say("acquirer_issuer_unmatched_total", is+`,kind="`+kind+`"`, 0)
			}
		}
		for _, wallet := range []string{"wechat", "alipay"} {
			for _, outcome := range []string{"unreachable", "unanswered"} {
				say("acquirer_wallet_failures_total", `wallet="`+wallet+`",outcome="`+outcome+`"`, 0)
			}
			histogram("acquirer_wallet_seconds", `wallet="`+wallet+`",question="pay"`, 5, .05, .1, .25)
		}
		for _, d := range journal.Differences {
			say("acquirer_batch_breaks_total", `what="`+string(d)+`"`, 0)
		}
		say("acquirer_transactions_total", `type="echo",reason="rc_00",issuer=""`, float64(n))
		histogram("acquirer_transaction_seconds", `type="sale"`, 86, .005, .01, .02, .05)
		for _, step := range []string{"check", "open", "issuer", "close", "write"} {
			histogram("acquirer_step_seconds", `step="`+step+`"`, 86, .0005, .001, .002)
		}
		histogram("acquirer_store_batch_size", `queue="opens"`, 30, 1, 2, 4, 8)
		histogram("acquirer_store_commit_seconds", "", 60, .0008, .0016, .0032)
		say("acquirer_store_queue_depth", `queue="opens"`, float64(n%3))
		for _, state := range []string{"due", "manual"} {
			say("acquirer_owed", `state="`+state+`"`, 0)
		}
		say("acquirer_reconcile_breaks", `kind="amount",state="open"`, 0)
		say("acquirer_dispute_cases", `stage="chargeback",state="open"`, 1)
		for _, state := range []string{"created", "unknown", "returned"} {
			say("acquirer_payouts", `state="`+state+`"`, 2)
			say("acquirer_payouts_yuan", `state="`+state+`"`, 1994.5)
			say("acquirer_payouts_oldest_seconds", `state="`+state+`"`, 3600)
		}
		for _, turn := range []string{"first", "second"} {
			say("acquirer_waiting", `turn="`+turn+`"`, 3)
			say("acquirer_waiting_oldest_seconds", `turn="`+turn+`"`, 3600)
		}
		say("acquirer_receipts_open_yuan", `payer="network"`, 995.17)
		say("acquirer_receipts_oldest_seconds", `payer="network"`, 3600)
		say("acquirer_credits_suspense", "", 0)
		histogram("acquirer_instant_payout_seconds", "", 1, 10, 60, 120)
		for _, use := range []string{"TMK", "ZMK", "TPK"} {
			say("acquirer_hsm_key_expires_seconds", `use="`+use+`"`, 5e6)
		}
		for name, value := range map[string]float64{
			"acquirer_terminal_connections": 20, "acquirer_transactions_in_flight": 2, "acquirer_mac_failures_total": 0, "acquirer_chip_replays_total": 0, "acquirer_owed_oldest_seconds": 0,
			"acquirer_undelivered_total": 0, "acquirer_handler_panics_total": 0, "acquirer_ledger_balanced": 1, "acquirer_ledger_lag_seconds": .3, "acquirer_instant_oldest_seconds": 2, "acquirer_instant_waiting": 1,
			"acquirer_self_check_failures_total": 0, "acquirer_bank_files_refused_total": 0, "acquirer_routing_stale": 0, "acquirer_clearing_files_refused_total": 0, "acquirer_business_date_waits": 0, "acquirer_calendar_days": 200, "acquirer_dispute_due_seconds": 1e6, "acquirer_dispute_missed_total": 0, "acquirer_store_in_doubt_total": 0, "acquirer_store_retries_total": 0,
			"go_goroutines": 90, "go_memstats_heap_inuse_bytes": 4e7, "process_open_fds": 70, "process_max_fds": 20000,
			"process_resident_memory_bytes": 9e7, "process_cpu_seconds_total": float64(n) / 10,
		} {
			say(name, "", value)
		}
		for _, check := range []string{"pages", "rows"} {
			say("acquirer_integrity_problems", `check="`+check+`"`, 0)
			say("acquirer_integrity_age_seconds", `check="`+check+`"`, 40_000)
		}
		for _, invariant := range []string{"I1", "I3", "I8"} {
			say("acquirer_invariant_violations_total", `invariant="`+invariant+`"`, 0)
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		if _, err := w.Write([]byte(b.String())); err != nil {
			t.Log(err) // Prometheus was stopped while it looked
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/metrics"
}

// A real Prometheus with the real rules has an answer to everything that the
// dashboard and the alerts ask.
func TestPrometheusAnswersEveryQuery(t *testing.T) {
	results := deploytest.RunPrometheus(t, exporter(t))
	deploytest.Check(t, results)
	alerts := 0
	for _, r := range results {
		if r.Alert {
			alerts++
		}
	}
	if alerts < 12 || len(results)-alerts < 30 {
		t.Errorf("%d alerts and %d queries of the dashboard were asked", alerts, len(results)-alerts)
	}
}

func TestMeasure(t *testing.T) {
	for expr, want := range map[string]string{
		`up == 0`:                             `up == bool 0`,
		`sum by (a) (x{b!="c",d=~"e>f"}) > 5`: `sum by (a) (x{b!="c",d=~"e>f"}) > bool 5`,
		`(a / b > 3 or vector(0)) >= 0.4`:     `(a / b > 3 or vector(0)) >= bool 0.4`,
		`x{y="}>\"("} < 1`:                    `x{y="}>\"("} < bool 1`,
		`no_comparison`:                       `no_comparison`,
	} {
		if got := (deploytest.Query{Expr: expr, Alert: true}).Measure(); got != want {
			t.Errorf("%s: %s, want %s", expr, got, want)
		}
		if got := (deploytest.Query{Expr: expr}).Measure(); got != expr {
			t.Errorf("a query of the dashboard was changed: %s", got)
		}
	}
}

// The check can fail.
func TestProblem(t *testing.T) {
	nan := func() float64 { v, _ := strconv.ParseFloat("NaN", 64); return v }()
	inf := func() float64 { v, _ := strconv.ParseFloat("Inf", 64); return v }()
	one := func(v ...float64) (out []deploytest.Sample) {
		for _, x := range v {
			out = append(out, deploytest.Sample{Value: x})
		}
		return out
	}
	for _, c := range []struct {
		name  string
		r     deploytest.Result
		sound bool
	}{
		{"nothing", deploytest.Result{}, false},
		{"no number", deploytest.Result{Samples: one(nan, nan)}, false},
		{"infinite", deploytest.Result{Samples: one(1, inf)}, false},
		{"negative", deploytest.Result{Samples: one(-1)}, false},
		{"zero", deploytest.Result{Samples: one(0)}, true},
		{"one series idle", deploytest.Result{Samples: one(nan, 3)}, true},
		{"quiet alert", deploytest.Result{Query: deploytest.Query{Alert: true}, Samples: one(0, 0)}, true},
		{"alert that holds", deploytest.Result{Query: deploytest.Query{Alert: true}, Samples: one(0, 1)}, false},
	} {
		if got := c.r.Problem(); (got == "") != c.sound {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// The units keep their exposure at 1.5 or better.
func TestUnitIsHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED: this machine has no systemd-analyze, so the units' exposure was not rated")
	}
	for _, unit := range []string{"./acquirer.service", "./acquirer-hsm.service"} {
		out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=15", unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
		if !strings.Contains(string(out), "Overall exposure level") {
			t.Errorf("%s: it says %s", unit, out)
		}
	}
}

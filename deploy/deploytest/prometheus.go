// Package deploytest runs a real Prometheus with the rules of deploy/ against
// a house that is up, and asks it everything the dashboard and the alerts ask:
// a query for a metric that nobody exports is an empty panel on the day it is
// needed.
package deploytest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Query is one question of the dashboard or of an alert.
type Query struct {
	Source string // "dashboard: Sale, first byte to last" or "alert: IssuerDown"
	Expr   string // as it stands in the file, Grafana's variables filled in
	Alert  bool
}

// Measure is what an alert looks at: its comparison asked as 0 or 1 for every
// series instead of as a filter. A healthy house has the measure and it is 0.
// Another query is its own measure.
func (q Query) Measure() string {
	if !q.Alert {
		return q.Expr
	}
	at, op := comparison(q.Expr)
	if at < 0 {
		return q.Expr
	}
	return q.Expr[:at+len(op)] + " bool" + q.Expr[at+len(op):]
}

// comparison finds the last comparison outside of brackets and quotes, -1 when
// there is none.
func comparison(expr string) (at int, op string) {
	at = -1
	depth := 0
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; c {
		case '(', '{', '[':
			depth++
		case ')', '}', ']':
			depth--
		case '"', '\'', '`':
			for i++; i < len(expr) && expr[i] != c; i++ {
				if expr[i] == '\\' && c != '`' {
					i++
				}
			}
		case '<', '>', '=', '!':
			if depth > 0 {
				continue
			}
			op = expr[i : i+1]
			if i+1 < len(expr) && expr[i+1] == '=' {
				op += "="
			}
			at = i
			i += len(op) - 1
		}
	}
	return at, op
}

// Sample is one series of an answer.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Result is what Prometheus answered to a query's measure.
type Result struct {
	Query
	Samples []Sample
}

// Firing reports whether an alert's condition holds now, whatever its "for".
func (r Result) Firing() bool {
	for _, s := range r.Samples {
		if r.Alert && s.Value != 0 {
			return true
		}
	}
	return false
}

// answered reports whether some series is a number.
func (r Result) answered() bool {
	for _, s := range r.Samples {
		if !math.IsNaN(s.Value) {
			return true
		}
	}
	return false
}

// Problem says what is wrong with an answer of a healthy house, "" when
// nothing is: no series, no number in any of them, a negative one, or an alert
// whose condition holds.
func (r Result) Problem() string {
	if len(r.Samples) == 0 {
		return "has no answer"
	}
	if !r.answered() {
		return "is not a number in any series"
	}
	for _, s := range r.Samples {
		if math.IsInf(s.Value, 0) || s.Value < 0 {
			return fmt.Sprintf("is %v for %v", s.Value, s.Labels)
		}
	}
	if r.Firing() {
		return fmt.Sprintf("holds on a healthy house: %v", r.Samples)
	}
	return ""
}

// Check fails t for every answer that is not one of a healthy house. Alerts
// named in mayFire may hold: a demo has weather.
func Check(t testing.TB, results []Result, mayFire ...string) {
	t.Helper()
	if len(results) == 0 {
		t.Error("no query was asked")
	}
	for _, r := range results {
		p := r.Problem()
		for _, name := range mayFire {
			if r.Firing() && r.Source == "alert: "+name {
				p = ""
			}
		}
		if p != "" {
			t.Errorf("%s: %s\n\t%s", r.Source, p, r.Measure())
		}
	}
}

// patience is how long a house may take to answer every query with a number:
// rates need two scrapes a second apart and something that happened between.
const patience = time.Minute

// RunPrometheus starts a real Prometheus with deploy/prometheus.yml and its
// rules against metricsURL (http://127.0.0.1:9583/metrics), waits until every
// query of the dashboard and of the alerts has an answer, a minute at most,
// and returns the answers as they are then. The house must be trading. Without
// Prometheus on the machine the test is skipped, or fails when
// ACQUIRER_TEST_REQUIRE=1.
func RunPrometheus(t testing.TB, metricsURL string) []Result {
	t.Helper()
	binary := Program(t, "prometheus")
	dir := Dir(t)
	api := startPrometheus(t, binary, dir, metricsURL)

	queries := append(alerts(t, api), Dashboard(t)...)
	results := make([]Result, len(queries))
	for i, q := range queries {
		results[i].Query = q
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		open := 0
		for i := range results {
			r := &results[i]
			if r.answered() {
				continue
			}
			samples, err := ask(ctx, api, r.Measure())
			if err != nil && ctx.Err() == nil {
				t.Fatalf("%s: %v\n\t%s", r.Source, err, r.Measure())
			}
			if r.Samples = samples; !r.answered() {
				open++
			}
		}
		if open == 0 {
			return results
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return results // the caller says what may be missing
		}
	}
}

// Program finds a program of the tests, or skips the test, or fails it with
// ACQUIRER_TEST_REQUIRE=1.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("ACQUIRER_TEST_REQUIRE") == "1" {
		t.Fatalf("%s is not installed and ACQUIRER_TEST_REQUIRE=1; install it with: sh deploy/test-deps.sh", name)
	}
	t.Skipf("SKIPPED: %s is not installed, so this was not tried; install it with: sh deploy/test-deps.sh", name)
	return ""
}

// Dir is the repository's deploy folder: tests run inside the repository.
func Dir(t testing.TB) string {
	t.Helper()
	at, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return filepath.Join(at, "deploy")
		}
		up := filepath.Dir(at)
		if up == at {
			t.Fatal("no go.mod above the working directory")
		}
		at = up
	}
}

// startPrometheus returns the base URL of its API. The configuration is the
// real one with three things changed: where to scrape, how often, and where
// the rules are.
func startPrometheus(t testing.TB, binary, dir, metricsURL string) string {
	t.Helper()
	target, err := url.Parse(metricsURL)
	if err != nil || target.Host == "" || target.Path != "/metrics" || target.Scheme != "http" {
		t.Fatalf("%q is not the address of metrics; give it like http://127.0.0.1:9583/metrics", metricsURL)
	}
	config, err := os.ReadFile(filepath.Join(dir, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(config)
	for old, now := range map[string]string{
		`"127.0.0.1:9583"`:         strconv.Quote(target.Host),
		"scrape_interval: 15s":     "scrape_interval: 1s",
		"evaluation_interval: 15s": "evaluation_interval: 1s",
		"- alerts.yml":             "- " + strconv.Quote(filepath.Join(dir, "alerts.yml")),
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("deploy/prometheus.yml does not say %q once; RunPrometheus replaces it", old)
		}
		text = strings.Replace(text, old, now, 1)
	}
	tmp := t.TempDir()
	file := filepath.Join(tmp, "prometheus.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(tmp, "data"),
		"--web.listen-address=127.0.0.1:0", "--log.format=logfmt")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		defer close(address)
		said := regexp.MustCompile(`msg="Listening on" address=(127\.0\.0\.1:[0-9]+)`)
		var tail []string
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if m := said.FindStringSubmatch(lines.Text()); m != nil && !strings.HasSuffix(m[1], ":0") {
				address <- m[1]
			}
			if tail = append(tail, lines.Text()); len(tail) > 20 {
				tail = tail[1:]
			}
		}
		err := cmd.Wait()
		ended <- fmt.Errorf("prometheus ended (%v): %s", err, strings.Join(tail, "\n"))
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-ended
	})
	select {
	case a, ok := <-address:
		if !ok {
			err := <-ended
			ended <- err
			t.Fatal(err)
		}
		return "http://" + a
	case <-time.After(patience):
		t.Fatal("prometheus did not say where it listens")
	}
	return ""
}

// alerts are the rules as Prometheus has loaded them; one that it cannot
// evaluate fails the test.
func alerts(t testing.TB, api string) []Query {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError, Type string }
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		waiting := 0
		if err := get(ctx, api+"/api/v1/rules", &data); err != nil {
			if ctx.Err() != nil {
				t.Fatalf("the rules were not read in time: %v", err)
			}
			waiting = 1 // it listens before it is ready
		}
		var out []Query
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				switch r.Health {
				case "ok":
				case "unknown":
					waiting++
				default:
					t.Fatalf("alert %s: %s: %s", r.Name, r.Health, r.LastError)
				}
				out = append(out, Query{Source: "alert: " + r.Name, Expr: r.Query, Alert: r.Type == "alerting"})
			}
		}
		if waiting == 0 && len(out) > 0 {
			return out
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the rules were not evaluated in time: %d read, %d waiting", len(out), waiting)
		}
	}
}

// Dashboard lists every query of the Grafana dashboard.
func Dashboard(t testing.TB) []Query {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Dir(t), "grafana", "acquirer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatalf("deploy/grafana/acquirer.json: %v", err)
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$issuer", ".*")
	var out []Query
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			q := Query{Source: "dashboard: " + p.Title, Expr: variables.Replace(target.Expr)}
			if strings.Contains(q.Expr, "$") {
				t.Errorf("%s: a variable that nothing fills in: %s", q.Source, q.Expr)
			}
			out = append(out, q)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("dashboard: %s asks nothing", p.Title)
		}
	}
	return out
}

// ask evaluates an instant query. A scalar is one sample without labels.
func ask(ctx context.Context, api, expr string) ([]Sample, error) {
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := get(ctx, api+"/api/v1/query?"+url.Values{"query": {expr}}.Encode(), &data); err != nil {
		return nil, err
	}
	if data.ResultType != "vector" {
		return nil, fmt.Errorf("the answer is a %s, want a vector", data.ResultType)
	}
	var series []struct {
		Metric map[string]string
		Value  [2]any // time, value as text
	}
	if err := json.Unmarshal(data.Result, &series); err != nil {
		return nil, err
	}
	out := make([]Sample, 0, len(series))
	for _, s := range series {
		text, ok := s.Value[1].(string)
		if !ok {
			return nil, fmt.Errorf("a value is %v", s.Value[1])
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, Sample{s.Metric, v})
	}
	return out, nil
}

// get reads one answer of the API.
func get(ctx context.Context, address string, data any) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return err
	}
	var envelope struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return fmt.Errorf("%s: %.200s", res.Status, body)
	}
	if envelope.Status != "success" {
		return fmt.Errorf("%s: %s", res.Status, envelope.Error)
	}
	return json.Unmarshal(envelope.Data, data)
}

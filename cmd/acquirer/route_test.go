package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
)

// write puts a file in its place as an editor that is careful does.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// measure waits until /metrics has a line.
func (d *openDemo) measure(line string) {
	d.t.Helper()
	var page string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		res, err := http.Get(d.metrics)
		if err != nil {
			d.t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			d.t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			d.t.Fatal(err)
		}
		if page = string(b); strings.Contains(page, "\n"+line+"\n") {
			return
		}
	}
	d.t.Fatalf("the metrics never said %s", line)
}

const (
	plainRoutes = `{"groups": [{"name": "home", "primary": "own", "alternates": ["west"]}],
"rules": [{"name": "debit", "kinds": ["debit"], "group": "home"}]}`
	cheapRoutes = `{"groups": [{"name": "cheap", "equals": [{"issuer": "north", "weight": 1}, {"issuer": "south", "weight": 1}], "least_cost": true}],
"rules": [{"name": "big", "from_amount": "1000.00", "group": "cheap"}],
"tariffs": [{"issuer": "north", "credit_ppm": 4500, "debit_ppm": 3500, "debit_cap": "13.00", "network_ppm": 325, "network_debit_cap": "3.25"},
 {"issuer": "south", "credit_ppm": 4500, "debit_ppm": 3000, "network_ppm": 325}],
"stand_in": [{"issuer": "north", "amount": "100.00", "count": 2, "sum": "150.00", "entries": ["chip"], "kinds": ["credit"]}]}`
)

// The files of a running switch are read again when they change, on SIGHUP and
// when a command asks; a bad one changes nothing, is told of, and all of it is
// in the operators' log.
func TestReloadRouting(t *testing.T) {
	dir := t.TempDir()
	rules, keep := filepath.Join(dir, "routes.json"), filepath.Join(dir, "kept")
	write(t, rules, plainRoutes)
	d := startDemo(t, "--keep", keep, "--routing-rules", rules, "--routing-watch", "10ms")
	same := []string{"--database", "sqlite:" + filepath.Join(keep, "acquirer.db"), "--seed", "demo", "--routing-rules", rules}
	explain := func(number, amount string) (a routeAnswer) {
		t.Helper()
		status, stdout, stderr := runs(t, append([]string{"route", "explain", number, "--amount", amount, "--json"}, same...)...)
		if status != 0 {
			t.Fatalf("status %d: %s%s", status, stdout, stderr)
		}
		if strings.Contains(stdout, number) {
			t.Errorf("the number is in the clear: %s", stdout)
		}
		if err := json.Unmarshal([]byte(stdout), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	south, ok := simcard.IssuerNamed("south")
	if !ok {
		t.Fatal("no south")
	}
	card := south.PAN(7).Reveal()
	d.measure(`acquirer_issuer_line_up{issuer="south",line="1"} 1`)
	d.measure(`acquirer_issuer_line_up{issuer="west",line="1"} 1`)
	a := explain(card, "5.00")
	if a.Choice != "south" || len(a.Ways) != 2 || a.Ways[1].Standing.String() != "ready" || a.Issuer["west"].State != "closed" || !strings.Contains(a.Asked, "has the same") {
		t.Errorf("%+v", a)
	}

	write(t, rules, cheapRoutes)
	d.measure(`acquirer_routing_reloads_total{result="done"} 1`)
	a = explain(card, "10000.00")
	if a.Choice != "north" || a.Ways[0].Cost != "16.25" || !strings.Contains(a.Asked, "has the same") {
		t.Errorf("%+v", a)
	}
	write(t, rules, cheapRoutes[:len(cheapRoutes)-3])
	d.measure(`acquirer_routing_stale 1`)
	if status, _, stderr := runs(t, append([]string{"route", "reload"}, same...)...); status != 1 || !strings.Contains(stderr, "line 5") {
		t.Errorf("a bad file reloaded by hand: status %d: %s", status, stderr)
	}
	write(t, rules, plainRoutes)
	d.measure(`acquirer_routing_stale 0`)
	d.measure(`acquirer_routing_reloads_total{result="done"} 2`)
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.measure(`acquirer_routing_reloads_total{result="done"} 3`)
	if status, stdout, stderr := runs(t, append([]string{"route", "reload"}, same...)...); status != 0 || strings.TrimSpace(stdout) != "nothing differs" {
		t.Errorf("a reload of the same: status %d: %s%s", status, stdout, stderr)
	}
	// A changed file that the switch has not read is told of.
	elsewhere := filepath.Join(dir, "other.json")
	write(t, elsewhere, cheapRoutes)
	same[len(same)-1] = elsewhere
	if a := explain(card, "5.00"); !strings.Contains(a.Asked, "ANOTHER") {
		t.Errorf("asked: %s", a.Asked)
	}

	status, stdout, stderr := runs(t, append([]string{"audit", "list", "--json", "--op", "route reload"}, same...)...)
	var list []audit.Entry
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || status != 0 {
		t.Fatalf("status %d, %v: %s", status, err, stderr)
	}
	var told []string
	for i := len(list) - 1; i >= 0; i-- {
		e := list[i]
		if e.Who != whoRuns() || !strings.Contains(e.Subject, "routes.json") {
			t.Errorf("%+v", e)
		}
		told = append(told, fmt.Sprintf("%s, %.8s, %d changes", strings.SplitN(e.From, ",", 2)[0], e.Result, strings.Count(e.Detail, "\n")))
	}
	want := []string{"change of a file, done, 7 changes", "change of a file, refused:, 0 changes", "admin address, refused:, 0 changes",
		"change of a file, done, 7 changes", "SIGHUP, done, 0 changes", "admin address, done, 0 changes"}
	if strings.Join(told, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	if !strings.Contains(list[len(list)-1].Detail, `+ stand-in north {"issuer":"north"`) || !strings.Contains(list[len(list)-2].Result, "line 5") {
		t.Errorf("%+v", list[len(list)-2:])
	}
	if d.stop() != 0 {
		t.Error(d.stderr.String())
	}
	text, err := os.ReadFile(filepath.Join(keep, "acquirer.log"))
	if err != nil || !strings.Contains(string(text), "new routing was refused") {
		t.Errorf("the log says nothing of the bad file: %v", err)
	}
}

func TestRouteCheckAndExplain(t *testing.T) {
	dir := t.TempDir()
	good, cheap, bad := filepath.Join(dir, "good.json"), filepath.Join(dir, "cheap.json"), filepath.Join(dir, "bad.json")
	write(t, good, plainRoutes)
	write(t, cheap, cheapRoutes)
	write(t, bad, strings.Replace(plainRoutes, `"west"`, `"bank"`, 1))
	here := []string{"--seed", "demo", "--database", "sqlite:" + filepath.Join(dir, "none.db"), "--routing-rules", good}
	call := func(stdin string, args ...string) (int, string, string) {
		t.Helper()
		var out, errs strings.Builder
		status := run(t.Context(), append(append([]string{"route", args[0]}, here...), args[1:]...), strings.NewReader(stdin), &out, &errs)
		return status, out.String(), errs.String()
	}
	north := simcard.Issuers[0].PAN(3).Reveal()
	for _, c := range []struct {
		stdin, args string
		status      int
		want        []string
	}{
		{"", "check", 0, []string{"good: 4 rows of the BIN table, 1 groups, 1 rules"}},
		{"", "check " + cheap, 0, []string{"+ group cheap", "- rule debit", "+ stand-in north"}},
		{"", "check " + good, 0, []string{"nothing differs"}},
		{"", "check " + bad, 1, []string{`line 1: issuer "bank" is not configured`}},
		{"", "check " + bad + "x", 1, []string{"bad.jsonx"}},
		{"", "check " + good + " --seed=", 2, []string{"no seed"}},
		{"", "explain " + north + " --amount 10.00", 0, []string{"way 1     north: own, not asked", "rule 1    debit: no, the card is credit, not [debit]", "good\n"}},
		{north + "\n", "explain - --amount 10.00", 0, []string{"choice    north"}},
		{north, "explain - --amount 10.00 --needs points", 0, []string{"choice    north"}},
		{"", "explain 134567890123452345 --amount 10.00", 0, []string{"choice    wechat", "134567********2345"}},
		{"", "explain 6228480000000000002 --code --amount 10.00", 0, []string{"unionpay-qr"}},
		{"", "explain 9000000000000000 --amount 10.00", 1, []string{"no row of the BIN table knows the card", "900000******0000"}},
		{"", "explain 9000000000000000 --code --amount 10.00", 1, []string{"no wallet"}},
		{"", "explain 123 --amount 10.00", 2, []string{"neither a card number"}},
		{"", "explain - --amount 10.00", 2, []string{"neither a card number"}},
		{"", "explain " + north, 2, []string{"amount"}},
		{"", "explain " + north + " --amount 0.00", 2, []string{"--amount"}},
		{"", "explain " + north + " --amount 1.00 --entry swipe", 2, []string{`entry "swipe"`}},
		{"", "explain " + north + " --amount 1.00 --currency CNY", 2, []string{"--currency"}},
		{"", "explain " + north + " --amount 1.00 --mcc 58", 2, []string{"--mcc"}},
		{"", "reload", 1, []string{"no switch with this configuration runs here"}},
	} {
		status, stdout, stderr := call(c.stdin, strings.Fields(c.args)...)
		for _, want := range c.want {
			if status != c.status || !strings.Contains(stdout+stderr, want) {
				t.Errorf("%s: status %d, want %d and %q: %s%s", c.args, status, c.status, want, stdout, stderr)
			}
		}
		if strings.Contains(stdout+stderr, north) {
			t.Errorf("%s: the number is in the clear: %s%s", c.args, stdout, stderr)
		}
	}
}

// The example that docs/routing.md shows is one that serve reads.
func TestRoutesExample(t *testing.T) {
	rules, err := routing.LoadRules("../../deploy/routes.example.json")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := routing.ParseCSV([]byte("bin,issuer,brand,kind,pan_lengths,luhn,name\n621000,bank,UnionPay,credit,16,yes,a credit card\n99991200-99991299,bank,UnionPay,semi-credit,16/19,no,x\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := routing.NewPlan(rows, rules, []string{"bank", "network"})
	if err != nil || len(p.Rules.Rules) != 4 {
		t.Fatalf("%+v %v", p, err)
	}
}

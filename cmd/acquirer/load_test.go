package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/money"
	"acquirer/simulate/issuer"
	"acquirer/simulate/load"
	"acquirer/simulate/terminal"
)

// calls runs one command as the root would.
func calls(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	root := newRootCmd()
	root.AddCommand(newLoadCmd())
	root.AddCommand(newSimulateTerminalCmd())
	var out, errs bytes.Buffer
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errs)
	if err := root.ExecuteContext(t.Context()); err != nil {
		errs.WriteString(err.Error())
		status = exitCode(err)
	}
	return status, out.String(), errs.String()
}

func TestLoadRefusesWrongUse(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "terminals.json")
	if err := os.WriteFile(empty, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--addr", "192.0.2.1:8583"}, "--allow-remote"},
		{[]string{"--addr", "nowhere"}, "HOST:PORT"},
		{[]string{"--mix", "sale"}, "KIND=WEIGHT"},
		{[]string{"--amount", "5.00-1.00"}, "lower one first"},
		{[]string{"--amount", "0"}, "above zero"},
		{[]string{"--amount", "1.001"}, "--amount"},
		{[]string{"--terminals", "0"}, "--terminals"},
		{[]string{"--seed", "moon"}, "--seed"},
		{[]string{"--keys", empty}, "no terminal"},
		{[]string{"--tls-skip-verify"}, "--tls"},
		{[]string{"--tls", "--tls-ca", empty}, "PEM"},
		{[]string{"--timeout", "0s"}, "--timeout"},
		{[]string{"--rate", "1", "--concurrency", "1"}, "none of the others"},
		{[]string{"more"}, "unknown command"},
	} {
		if status, _, stderr := calls(t, append([]string{"load"}, c.args...)...); status != 2 || !strings.Contains(stderr, c.says) {
			t.Errorf("load %v: status %d, %s", c.args, status, stderr)
		}
	}
}

func TestLoadSaysThatNobodyIsThere(t *testing.T) {
	status, stdout, stderr := calls(t, "load", "--addr", "127.0.0.1:1", "--terminals", "2", "--json")
	if status != 1 || stdout != "" || !strings.Contains(stderr, "no connection") || !strings.Contains(stderr, "terminal 1000002") {
		t.Errorf("status %d, %q, %s", status, stdout, stderr)
	}
}

func TestParseRange(t *testing.T) {
	for s, want := range map[string][2]money.Amount{"1.00-500.00": {100, 50000}, "12.34": {1234, 1234}, "1-2": {100, 200}} {
		lo, hi, err := parseRange(s)
		if err != nil || lo != want[0] || hi != want[1] {
			t.Errorf("%s: %s to %s, %v", s, lo, hi, err)
		}
	}
}

func TestBarText(t *testing.T) {
	s := load.Snapshot{Elapsed: 5 * time.Second, Duration: 10 * time.Second, Sent: 1000, Errors: 3, P99: 12345 * time.Microsecond}
	const want = "[############............]  50%  1000 sent  200/s  p99 12.3 ms  3 errors"
	if got := barText(s, 100); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	if got := barText(s, 20); len(got) != 20 {
		t.Errorf("%d characters in 20 columns", len(got))
	}
	if barText(load.Snapshot{Duration: time.Second}, -1) != "" || newBar(new(bytes.Buffer)) != nil {
		t.Error("a bar where there is no terminal")
	}
}

// The amounts that load draws for weather are those that issuers know.
func TestStormsAreKnown(t *testing.T) {
	if len(issuer.Storms()) == 0 {
		t.Fatal("no weather")
	}
	for _, a := range issuer.Storms() {
		if !issuer.Stormy(a) || a <= 0 {
			t.Errorf("%s asks for nothing", a)
		}
	}
}

func TestTerminalActions(t *testing.T) {
	p := till{amount: 1234, entry: terminal.Stripe, card: "north"}
	a, err := p.parse("sale")
	if err != nil || a.x.Amount != 1234 || a.x.Entry != terminal.Stripe || a.x.PIN == "" {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = p.parse("sale 5.00 contactless south:3")
	if err != nil || a.x.Amount != 500 || a.x.Entry != terminal.Contactless || a.x.PIN != "" || a.x.Card.PAN.BIN(8) != "62200011" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = p.parse("sale 1000.01 contactless south:3"); err != nil || a.x.PIN == "" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = p.parse("sale nopin"); err != nil || a.x.PIN != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = p.parse("reverse A0"); err != nil || a.reason != terminal.ReasonMAC {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = p.parse("void lunch"); err != nil || a.ref != "lunch" || a.x.Card != nil || a.x.Kind != terminal.KindVoid {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = p.parse("refund 3.00 stripe north as back"); err != nil || a.ref != "" || a.as != "back" || a.x.Card == nil || a.x.PIN != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = p.parse("complete"); err != nil || a.ref != last || a.sum {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = p.parse("offline_sale 45.00 north:5 auth:T12345"); err != nil || a.x.Entry != terminal.Keyed || a.x.AuthCode != "T12345" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = p.parse("offline_sale 45.00 north:5 stripe"); err != nil || a.x.Entry != terminal.Stripe {
		t.Errorf("%+v, %v", a, err)
	}
	// One card is one chip, whose counter goes up from sale to sale.
	if a, err = p.parse("sale chip east:3"); err != nil {
		t.Error(err)
	}
	if b, err := p.parse("sale chip east:3"); err != nil || b.x.Card != a.x.Card {
		t.Errorf("another card of the same name, %v", err)
	}
	if _, err = p.parse("tmk"); err != nil {
		t.Error(err)
	}
	p.noTTK = true
	if _, err = p.parse("tmk"); err == nil || !strings.Contains(err.Error(), "--ttk-file") {
		t.Errorf("tmk without its key: %v", err)
	}
	for word, want := range map[string]string{"wechat:1": "130000000000000001", "alipay:2": "280000000000000002", "unionpay:3": "6200000000000000003", "281234567890123456": "281234567890123456"} {
		if a, err = p.parse("qr 1.00 " + word); err != nil || a.x.PayCode != want {
			t.Errorf("%s: %q, %v", word, a.x.PayCode, err)
		}
	}
	for _, bad := range []string{"", "buy", "qr 1.00", "qr 1.00 cash:1", "tip last", "sale lunch", "void as", "settle now", "sign", "sign /nowhere/at/all", "sale 1.234", "sale -1.00", "sale chip moon", "reverse 99", "reverse 98 98", "echo 1"} {
		if _, err := p.parse(bad); err == nil {
			t.Errorf("action %q passes", bad)
		}
	}
}

// What is about a transaction that is not there is not sent, and says so
// without an amount.
func TestTerminalNamesNothing(t *testing.T) {
	for _, c := range []struct{ action, want string }{
		{"void nothing", `void: nothing was sent: no transaction of this batch is called "nothing"`},
		{"refund nothing 5.00", `refund: nothing was sent: no transaction of this batch is called "nothing"`},
	} {
		var out strings.Builder
		p := till{out: &out, card: "north", amount: 1_00, entry: terminal.Chip, signedIn: true}
		a, err := p.parse(c.action)
		if err != nil {
			t.Fatal(err)
		}
		if d := p.do(t.Context(), a); d.Approved || d.Amount != 0 || d.Error == "" || !strings.HasPrefix(out.String(), c.want) {
			t.Errorf("%s: %+v, %q", c.action, d, out.String())
		}
	}
}

func TestTerminalRefusesWrongUse(t *testing.T) {
	short := filepath.Join(t.TempDir(), "tmk")
	if err := os.WriteFile(short, []byte("0123456789ABCDEF\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--addr", "192.0.2.1:1", "echo"}, {"--amount", "x", "sale"}, {"--entry", "nose", "sale"}, {"--card", "moon", "sale"},
		{"--tid", "1", "echo"}, {"--mid", "1", "echo"}, {"--key-set", "6", "echo"}, {"--mac", "sm4", "echo"}, {"--tmk-file", short, "echo"},
		{"buy"}, {"sale", "reverse", "sale moon"},
	} {
		status, stdout, stderr := calls(t, append([]string{"terminal"}, args...)...)
		if status != 2 || stdout != "" || strings.Contains(stderr, "0123456789ABCDEF") {
			t.Errorf("%v: status %d, %q, %s", args, status, stdout, stderr)
		}
	}
}

// A terminal that finds nobody says so for each action and exits with 1.
func TestTerminalWithoutHost(t *testing.T) {
	status, stdout, _ := calls(t, "terminal", "--addr", "127.0.0.1:1", "--json", "echo", "sale")
	if status != 1 || strings.Count(stdout, "no connection") != 2 || strings.Contains(stdout, `"approved":true`) {
		t.Errorf("status %d, %s", status, stdout)
	}
}

func TestTerminalReadsActions(t *testing.T) {
	p := till{out: new(bytes.Buffer), json: true}
	term, err := terminal.New(terminal.Config{TID: "10000001", MID: "898110054110001", Dial: terminal.DialTCP("127.0.0.1:1", nil), TMK: [16]byte{1, 15: 2}})
	if err != nil {
		t.Fatal(err)
	}
	p.term = term
	if err := p.run(context.Background(), nil, strings.NewReader("echo\n\n  buy\n")); err != errNotApproved {
		t.Errorf("%v", err)
	}
	if out := p.out.(*bytes.Buffer).String(); strings.Count(out, "\n") != 2 || !strings.Contains(out, `"action":"buy"`) {
		t.Errorf("%s", out)
	}
}

package main

import (
	"context"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/simulate/card"
)

// openDemo is a demo that runs in this process until it is closed.
type openDemo struct {
	t        *testing.T
	console  string // URL, with a slash at its end
	metrics  string // URL
	terminal string // address
	wallets  string // URL of their books
	log      string // file
	stdout   *text
	stderr   *text
	cancel   context.CancelFunc
	ended    chan int // its exit status
}

// startDemo runs `acquirer demo` on free ports and reads from its greeting
// where everything is.
func startDemo(t *testing.T, more ...string) *openDemo {
	t.Helper()
	// The demo's folder is somewhere of the test's own.
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	d := &openDemo{t: t, stdout: newText(), stderr: newText(), cancel: cancel, ended: make(chan int, 1)}
	args := append([]string{"demo", "--terminals-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"}, more...)
	go func() {
		status := run(ctx, args, strings.NewReader(""), d.stdout, d.stderr)
		d.stdout.end()
		d.stderr.end()
		d.ended <- status
	}()
	t.Cleanup(func() { d.stop() })
	patience, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	if _, ok := d.stdout.await(patience, "Ctrl-C ends it"); !ok {
		t.Fatalf("the demo does not greet: %q, %q", d.stdout.String(), d.stderr.String())
	}
	for name, at := range map[string]*string{"console": &d.console, "metrics": &d.metrics, "terminals": &d.terminal, "wallets": &d.wallets, "log": &d.log} {
		m := regexp.MustCompile(`(?m)^  ` + name + ` +(\S+)$`).FindStringSubmatch(d.stdout.String())
		if m == nil {
			t.Fatalf("the greeting does not say where its %s is:\n%s", name, d.stdout.String())
		}
		*at = m[1]
	}
	return d
}

// stop is Ctrl-C; it returns the exit status, the same each time.
func (d *openDemo) stop() int {
	d.t.Helper()
	d.cancel()
	select {
	case status := <-d.ended:
		d.ended <- status
		return status
	case <-time.After(time.Minute):
		d.t.Fatal("the demo does not stop")
		return -1
	}
}

// sell does actions at the i-th terminal of the street and returns what is
// printed of the last.
func (d *openDemo) sell(i int, actions ...string) (last done) {
	d.t.Helper()
	tid, mid := simcard.SeedTerminal(i)
	_, stdout, stderr := runs(d.t, append([]string{"simulate", "terminal", "--addr", d.terminal, "--tid", tid, "--mid", mid, "--json"}, actions...)...)
	for line := range strings.Lines(stdout) {
		last = done{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			d.t.Fatalf("%v: %s", err, line)
		}
	}
	if want := strings.Fields(actions[len(actions)-1])[0]; last.Action != want {
		d.t.Fatalf("%v: %s%s", actions, stdout, stderr)
	}
	return last
}

// Twice in one folder: the second day goes on where the first ended, and
// counts and reconciles its own.
func TestDemoDay(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "kept")
	paid := money.Amount(0)
	for day := range 2 {
		status, stdout, stderr := runs(t, "demo", "--transactions", "200", "--settle", "--json", "--keep", keep)
		if status != 0 {
			t.Fatalf("day %d: status %d: %s\n%s", day+1, status, stdout, stderr)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal([]byte(stdout), &keys); err != nil {
			t.Fatalf("%v: %s", err, stdout)
		}
		want := []string{"approved", "declined", "invariant_violations", "issuer_mismatches", "ledger_balanced", "owed_open", "paid_total", "payouts", "reversed", "transactions"}
		var got []string
		for k := range keys {
			got = append(got, k)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("keys %v, want %v", got, want)
		}
		var r demoResult
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatal(err)
		}
		if r.Transactions != 200 || r.Approved+r.Declined+r.Reversed != 200 || r.Approved < 100 || r.Declined == 0 || r.Reversed == 0 {
			t.Errorf("day %d: %d transactions: %d approved, %d declined, %d reversed", day+1, r.Transactions, r.Approved, r.Declined, r.Reversed)
		}
		if r.OwedOpen != 0 || !r.LedgerBalanced || r.IssuerMismatches != 0 || r.InvariantViolations != 0 {
			t.Errorf("day %d: %s", day+1, stdout)
		}
		most := streetMerchants
		if now := time.Now(); calendar.BusinessDate(now, 23*time.Hour) != calendar.DateOf(now) {
			most *= 2 // wallets sell on the date before that of the cards
		}
		if r.Payouts < streetMerchants || r.Payouts > most || r.PaidTotal <= 0 {
			t.Errorf("day %d: %d payouts of %s, want one for each of %d merchants and date", day+1, r.Payouts, r.PaidTotal, streetMerchants)
		}
		paid += r.PaidTotal
	}

	v := openForReading(t, "sqlite:"+filepath.Join(keep, "acquirer.db"))
	entries, err := readJournal(t.Context(), v.journal)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 400 {
		t.Errorf("%d transactions in the journal of two days, want 400", len(entries))
	}
	booksAgree(t, v, entries)
	sold := money.Amount(0)
	for _, amount := range soldBy(entries) {
		sold += amount
	}
	if fees := sold - paid; fees <= 0 || fees > sold/20 {
		t.Errorf("%s sold, %s paid: fees of %s", sold, paid, fees)
	}
	if text, err := os.ReadFile(filepath.Join(keep, "acquirer.log")); err != nil || len(text) == 0 {
		t.Errorf("the log that was kept: %d bytes, %v", len(text), err)
	}
}

func TestDemoInWords(t *testing.T) {
	status, stdout, stderr := runs(t, "demo", "--transactions", "10")
	if status != 0 || !strings.Contains(stdout, "transactions  10\n") || !strings.Contains(stdout, "balanced: true") {
		t.Errorf("status %d: %s\n%s", status, stdout, stderr)
	}
}

// The demo as most people start it: it greets, serves, and leaves nothing
// behind when it is told to stop.
func TestDemoOpensTheStreet(t *testing.T) {
	before := goleak.IgnoreCurrent()
	d := startDemo(t)
	folder := filepath.Dir(d.log)
	if _, err := os.Stat(filepath.Join(folder, "acquirer.db")); err != nil {
		t.Errorf("no database beside the log: %v", err)
	}
	if x := d.sell(0, "sale 12.34 chip north"); !x.Approved || x.Amount != 1234 || x.RRN == "" || x.AuthCode == "" {
		t.Errorf("a sale: %+v", x)
	}
	if x := d.sell(1, "sale 12.51 chip north"); x.Approved || x.Code != "51" {
		t.Errorf("a sale whose amount asks for 51: %+v", x)
	}
	// A command that needs the HSM's file finds the demo's.
	number := filepath.Join(t.TempDir(), "number")
	if err := os.WriteFile(number, []byte("6228480402564890018\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, stdout, stderr := runs(t, "settle", "account", "ask", "898110054110001", "--account-file", number, "--bank", "ICBC", "--why", "card lost",
		"--database", "sqlite:"+filepath.Join(folder, "acquirer.db")); status != 0 || !strings.Contains(stdout, "is asked for") {
		t.Errorf("an account beside the demo: status %d, %s%s", status, stdout, stderr)
	}
	for _, page := range []string{d.metrics, strings.Replace(d.metrics, "/metrics", "/readyz", 1), strings.Replace(d.metrics, "/metrics", "/healthz", 1), d.console, d.wallets} {
		if u, err := url.Parse(page); err != nil || u.Host == "" {
			t.Errorf("%q is no address: %v", page, err)
		}
		if body := fetch(t, page); body == "" {
			t.Errorf("%s is empty", page)
		}
	}
	m, err := scrape(t.Context(), d.metrics)
	if err != nil || m[`acquirer_transactions_total{issuer="north",reason="approved",type="sale"}`] < 1 {
		t.Errorf("the sale is not in the metrics: %v, %d series", err, len(m))
	}
	if status := d.stop(); status != 0 {
		t.Errorf("stopped with status %d: %s", status, d.stderr.String())
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the demo left its folder: %v", err)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// A real process and a real signal.
func TestDemoEndsOnInterrupt(t *testing.T) {
	dir := t.TempDir()
	p := spawn(t, []string{"TMPDIR=" + dir}, "demo", "--terminals-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, ok := p.stdout.await(ctx, "Ctrl-C ends it"); !ok {
		t.Fatalf("it does not greet: %s%s", p.stdout.String(), p.stderr.String())
	}
	if status := p.stop(t); status != 0 || p.stderr.String() != "" {
		t.Errorf("status %d: %s", status, p.stderr.String())
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestDemoRefusesWrongUse(t *testing.T) {
	for _, args := range [][]string{{"--settle"}, {"--transactions", "-1"}, {"--terminals", "3"}, {"--environment", "moon"}, {"--hsm-kind", "remote"}, {"--hsm-kind", "payshield", "--hsm-payshield-devices", "127.0.0.1:1"}, {"more"}} {
		if status, stdout, stderr := runs(t, append([]string{"demo"}, args...)...); status != 2 || stdout != "" || !strings.Contains(stderr, "--help") {
			t.Errorf("demo %v: status %d, %q, %s", args, status, stdout, stderr)
		}
	}
}

// What stops serve at its start says what it is and what to do.
func TestServeRefuses(t *testing.T) {
	key, pass := masterKey(t)
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("another passphrase altogether"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	street := []string{"--seed", "demo", "--issuer", "north=127.0.0.1:1,south=127.0.0.1:1,east=127.0.0.1:1,west=127.0.0.1:1"}
	held := filepath.Join(t.TempDir(), "held.db")
	openForReading(t, "sqlite:"+held)
	noKey := filepath.Join(t.TempDir(), "nokey.json")
	if err := os.WriteFile(noKey, []byte(`{"issuers": [{"name": "bank", "institution": "01020000", "lines": ["127.0.0.1:1"], "zmk": "what hsm form printed"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		status int
		says   []string
	}{
		{"no seed", []string{}, 2, []string{"no seed", "demo"}},
		{"an issuer's key that is none", []string{"--seed", noKey}, 1, []string{"nokey.json", "zmk of issuer bank", "hsm form --use ZMK"}},
		{"a seed that is not there", []string{"--seed", filepath.Join(t.TempDir(), "street.json")}, 2, []string{"street.json"}},
		{"a simulated issuer is not named", []string{"--seed", "demo", "--issuer", "north=127.0.0.1:1"}, 2, []string{"--issuer south=", "simulate issuer"}},
		{"another passphrase", append([]string{"--hsm-passphrase-file", other}, street...), 1, []string{"passphrase"}},
		{"no passphrase", append([]string{"--hsm-passphrase-file", ""}, street...), 2, []string{"hsm.passphrase_file", "ACQUIRER_HSM_PASSPHRASE"}},
		{"no master key", append([]string{"--hsm-file", filepath.Join(t.TempDir(), "none")}, street...), 1, []string{"acquirer hsm init"}},
		{"the database is another process's", append([]string{"--database", "sqlite:" + held}, street...), 1, []string{"held.db", "process"}},
		{"no PostgreSQL there", append([]string{"--database", "postgres://acquirer@127.0.0.1:1/none"}, street...), 1, []string{"127.0.0.1"}},
		{"the terminals' port is taken", append([]string{"--terminals-listen", taken.Addr().String()}, street...), 1, []string{"terminals.listen", taken.Addr().String(), "in use"}},
		{"the metrics' port is taken", append([]string{"--admin-listen", taken.Addr().String()}, street...), 1, []string{"admin.listen", "in use"}},
		{"the console's port is taken", append([]string{"--console-listen", taken.Addr().String()}, street...), 1, []string{"console.listen", "in use"}},
		{"the test street in production", append([]string{"--environment", "production"}, street...), 2, []string{"production", "published keys"}},
		{"a console for everybody", append([]string{"--console-listen", "0.0.0.0:0"}, street...), 2, []string{"console.listen", "127.0.0.1:0", "ssh -L"}},
		{"metrics for everybody", append([]string{"--admin-listen", "0.0.0.0:0"}, street...), 2, []string{"admin.listen", "loopback"}},
		{"a profiler for everybody", append([]string{"--admin-pprof", "0.0.0.0:0"}, street...), 2, []string{"admin.pprof", "loopback"}},
		{"a certificate that is none", append([]string{"--terminals-tls-cert", other, "--terminals-tls-key", other}, street...), 1, []string{"terminals.tls_cert"}},
		{"a level that is none", append([]string{"--log-level", "loud"}, street...), 2, []string{"log.level"}},
		{"a node beyond the last", append([]string{"--node", "256"}, street...), 2, []string{"node", "ACQUIRER_NODE", "0 to 255"}},
		{"a BIN table that is not there", append([]string{"--routing-bins", filepath.Join(t.TempDir(), "bins.csv")}, street...), 1, []string{"bins.csv"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"serve", "--database", "sqlite:" + filepath.Join(t.TempDir(), "serve.db"), "--hsm-file", key, "--hsm-passphrase-file", pass,
				"--terminals-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0", "--log-file", filepath.Join(t.TempDir(), "log")}, c.args...)
			status, stdout, stderr := runs(t, args...)
			if status != c.status || stdout != "" {
				t.Errorf("status %d, want %d: %q, %s", status, c.status, stdout, stderr)
			}
			for _, want := range c.says {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q is missing in %s", want, stderr)
				}
			}
			if strings.Contains(stderr, "another passphrase altogether") {
				t.Errorf("it shows the passphrase: %s", stderr)
			}
		})
	}
}

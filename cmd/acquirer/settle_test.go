package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
)

// A day in a database that a switch left behind, settled by the command, twice.
func TestSettle(t *testing.T) {
	cfg := leftDay(t, "6228480402564890018")
	dir, pass := filepath.Dir(cfg.HSM.File), cfg.HSM.PassphraseFile
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bank, err := simbank.Start("127.0.0.1:0", simbank.Config{Opening: money.Yuan(1000)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := bank.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	args := []string{"--database", cfg.Database, "--hsm-file", cfg.HSM.File, "--hsm-passphrase-file", pass, "--settlement-bank", bank.URL(), "--date", "2026-11-20", "--json"}
	var out settlementRun
	run := func(more ...string) (string, int) {
		t.Helper()
		text, problem, code := call(t, newSettleCmd(), append(args, more...)...)
		out = settlementRun{}
		if code == 0 {
			if err := json.Unmarshal([]byte(text), &out); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
		return problem, code
	}
	if problem, code := run("--as-of", "2026-11-20T23:05:00+08:00"); code != 1 || !strings.Contains(problem, "2026-11-21T00:00") {
		t.Errorf("before the cut-off: %d %s", code, problem)
	}
	for range 2 {
		if problem, code := run("--as-of", "2026-11-21T00:05:00+08:00"); code != 0 || out.Day.Lines != 1 || out.Day.PayoutTotal != 96_40 || out.Payment.Sent != 0 || out.Expected != 99_52 {
			t.Errorf("friday night: %d %s %+v", code, problem, out)
		}
	}
	if problem, code := run("--as-of", "2026-11-23T09:00:00+08:00", "--settlement-credit", "0.00"); code != 0 || out.Payment.Sent != 0 || out.Payment.Held != 1 {
		t.Errorf("monday, before the network has paid: %d %s %+v", code, problem, out)
	}
	if text, problem, code := call(t, newPayoutCmd(), "list", "--database", cfg.Database); code != 0 || !strings.Contains(text, "1001 does not cover it yet") {
		t.Errorf("payout list: %d %s\n%s", code, problem, text)
	}
	if problem, code := run("--as-of", "2026-11-23T10:00:00+08:00", "--received", "expected", "--verify", "--settlement-credit", "0.00"); code != 0 || out.Payment.Paid != 1 || *out.Received != 99_52 || len(out.Problems) != 0 {
		t.Errorf("monday: %d %s %+v", code, problem, out)
	}
	if problem, code := run("--as-of", "2026-11-23T11:00:00+08:00", "--received", "99.52"); code != 0 || out.Payment.Sent != 0 || out.Tasks != 0 {
		t.Errorf("monday again: %d %s %+v", code, problem, out)
	}
	if got := money.Yuan(1000) - bank.Balance(); got != 96_40 {
		t.Errorf("the bank paid %s", got)
	}
	if p := bank.Payouts(); len(p) != 1 || p[0].Account() != "6228480402564890018" {
		t.Errorf("the bank paid %d orders", len(p))
	}
	text, problem, code := call(t, newSettleCmd(), append(args[:len(args)-1], "--as-of", "2026-11-23T11:00:00+08:00")...)
	if code != 0 || !strings.Contains(text, "to pay          96.40 in 1 payouts\nnetwork owes    99.52\n") || !strings.Contains(text, "books           right") {
		t.Errorf("in words: %d %s\n%s", code, problem, text)
	}
	for _, c := range []struct{ args, says string }{
		{"verify", "1 facts compared, 0 not booked yet"}, {"verify --json", `"problems":[]`}, {"trial-balance --date 2026-11-20", "safeguarded 99.52, owed to merchants 96.40"},
		{"trial-balance --date 2026-11-20", "business date 2026-11-20, closed\n"}, {"trial-balance --date 2026-11-21", "business date 2026-11-21, open: "},
		{"trial-balance --date 2099-12-31", "business date 2099-12-31, has not begun: "}, {"trial-balance --date 2099-12-31 --json", `{"state":"future","date":"2099-12-31","accounts":[{`},
		{"trial-balance --date 2026-11-23 --json", `"account":1001,"name":"client bank deposit","book":"CLIENT","side":"D","opening":"0.00","debit":"99.52","credit":"96.40","closing":"3.12"`},
	} {
		if text, problem, code := call(t, newLedgerCmd(), append(strings.Fields(c.args), "--database", cfg.Database)...); code != 0 || !strings.Contains(text, c.says) {
			t.Errorf("ledger %s: exit %d %s\n%s", c.args, code, problem, text)
		}
	}
	for rrn, want := range map[string]string{"not-an-rrn": "not an RRN of this house", "2WSLMB5IZITC": "no transaction has the RRN 2WSLMB5IZITC"} {
		if _, problem, code := call(t, newPayoutCmd(), "arrival", rrn, "--database", cfg.Database); code == 0 || !strings.Contains(problem, want) {
			t.Errorf("arrival of %s: exit %d %s, want %q", rrn, code, problem, want)
		}
	}
	if _, problem, code := call(t, newLedgerCmd(), "trial-balance", "--date", "friday"); code != 2 || !strings.Contains(problem, "2026-02-13") {
		t.Errorf("trial balance of friday: %d %s", code, problem)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--date tomorrow", 2, "2026-02-13"}, {"--as-of 2026-11-23", 2, "time zone"}, {"--received lots", 2, "expected"}, {"--received -1", 1, "received before"}, {"--received -1 --wallet alipay", 1, "only where it is below nothing"},
		{"--calendar /nonexistent.json", 1, "nonexistent"}, {"--calendar " + filepath.Join(dir, "empty"), 1, "2027"}, {"--database file.db", 2, "sqlite:"},
		{"--hsm-file " + filepath.Join(dir, "none"), 1, "hsm init"}, {"--date 2041-12-31 --force", 1, "2042.json"}, {"--received 1.00", 1, "received before"},
		{"--wallet alipay", 2, "--received"}, {"--reference N1", 2, "--received"}, {"--received 1.00 --wallet paypal", 2, "wechat"}, {"--settlement-credit much", 2, "settlement.credit"},
	} {
		if _, problem, code := call(t, newSettleCmd(), append(args[:len(args):len(args)], strings.Fields(c.args)...)...); code != c.code || !strings.Contains(problem, c.says) {
			t.Errorf("%s: exit %d %q, want %d and %q", c.args, code, problem, c.code, c.says)
		}
	}
	// A wallet pays beside the network, here for nothing: the money waits in
	// suspense, with a task.
	if problem, code := run("--as-of", "2026-11-23T12:00:00+08:00", "--received", "1.00", "--wallet", "alipay"); code != 0 || out.Expected != 0 || *out.Received != 1_00 || out.Tasks != 1 {
		t.Errorf("a wallet pays: %d %s %+v", code, problem, out)
	}
	text, problem, code = call(t, newSettleCmd(), append(args[:len(args)-1:len(args)-1], "--as-of", "2026-11-23T12:00:00+08:00", "--received", "1.00", "--wallet", "alipay")...)
	if code != 0 || !strings.Contains(text, "alipay paid     1.00\n") {
		t.Errorf("in words: %d %s\n%s", code, problem, text)
	}
	if text, problem, code := call(t, newLedgerCmd(), "trial-balance", "--date", "2026-11-23", "--json", "--database", cfg.Database); code != 0 || !strings.Contains(text, `"account":2301,"name":"suspense, long items","book":"CLIENT","side":"C","opening":"0.00","debit":"0.00","credit":"1.00","closing":"1.00"`) {
		t.Errorf("suspense: %d %s\n%s", code, problem, text)
	}
}

// leftDay makes a house in a folder of its own, with a database in which
// leaveADay left a day; commands find both by their settings.
func leftDay(t *testing.T, account string) Config {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{Database: "sqlite:" + filepath.Join(dir, "a.db")}
	cfg.HSM.File, cfg.HSM.PassphraseFile = filepath.Join(dir, "hsm.key"), filepath.Join(dir, "pass")
	t.Setenv("ACQUIRER_HSM_PASSPHRASE", "")
	t.Setenv("ACQUIRER_DATABASE", cfg.Database)
	t.Setenv("ACQUIRER_HSM_FILE", cfg.HSM.File)
	t.Setenv("ACQUIRER_HSM_PASSPHRASE_FILE", cfg.HSM.PassphraseFile)
	const passphrase = "correct horse battery staple"
	if err := os.WriteFile(cfg.HSM.PassphraseFile, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := hsm.Create(cfg.HSM.File, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	leaveADay(t, cfg, h, account)
	return cfg
}

// leaveADay writes a merchant and one approved credit sale of 100.00 on
// 2026-11-20; account is the merchant's.
func leaveADay(t *testing.T, cfg Config, h *hsm.Software, account string) {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	v := &house{cfg: cfg, hsm: h, db: db}
	if v.terminals, err = merchant.OpenRegistry(ctx, db); err != nil {
		t.Fatal(err)
	}
	const mid, tid = "898110054110001", "10000001"
	seed := &merchant.Seed{Merchants: []merchant.SeedMerchant{{Merchant: merchant.Merchant{MID: mid, Name: "王芳手工饰品", MCC: "5944", Plan: "MICRO-2025"},
		Account: merchant.SeedAccount{Number: account, Name: "王芳", Bank: "ABC"}}}}
	if err := v.importSeed(ctx, seed); err != nil {
		t.Fatal(err)
	}
	day := calendar.Date(20261120)
	noon := day.Time().Add(12 * time.Hour)
	j := journal.New(db, nil)
	sale := &journal.Transaction{ID: store.NewID(), Key: journal.Key{Day: day, Terminal: tid, Batch: 1, STAN: 1, Kind: journal.Sale}, Merchant: mid,
		MTI: 0x0200, Amount: 100_00, Currency: 156, PANMasked: "621000******0018", Channel: journal.Credit, Issuer: "north", RRN: "000000000001",
		Opened: noon, Deadline: noon.Add(time.Minute)}
	if _, err := j.Open(ctx, sale); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Close(ctx, sale, journal.Outcome{Reason: journal.Approved, Approval: "123456", Closed: noon.Add(time.Second)}); err != nil {
		t.Fatal(err)
	}
}

func TestSimulateBank(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	cmd := newSimulateBankCmd()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.SetErr(w)
	cmd.SetArgs([]string{"--listen", "127.0.0.1:0"})
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	line := make([]byte, 200)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	url, found := strings.CutPrefix(strings.TrimSpace(string(line[:n])), "bank on ")
	if !found {
		t.Fatalf("said %q", line[:n])
	}
	resp, err := http.Post(url+"/v1/payouts", "application/json", bytes.NewReader([]byte(`{"reference":"R1","amount":"1.00","account":"6228480402564890018","name":"a","bank":"b"}`)))
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("order: %v, %v", resp, err)
	}
	if err == nil {
		resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"--opening lots", "--slow 0s", "--limit 0"} {
		if _, _, code := call(t, newSimulateBankCmd(), strings.Fields(bad)...); code != 2 {
			t.Errorf("%s: exit %d", bad, code)
		}
	}
}

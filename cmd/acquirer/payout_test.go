package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
)

// A payout leaves in a file, comes back in one, is a task, and is issued again
// by a person, who is in the operators' log.
func TestPayoutByFile(t *testing.T) {
	cfg := leftDay(t, "6228480402564890095") // comes back after a day
	files := filepath.Join(filepath.Dir(cfg.HSM.File), "bank")
	settle := func(asOf string, more ...string) {
		t.Helper()
		args := append([]string{"--date", "2026-11-20", "--as-of", asOf,
			"--settlement-bank", "file:" + files, "--settlement-account-holder", "演示收单机构", "--settlement-account", "9999000000000001", "--settlement-account-bank", "演示银行"}, more...)
		if _, problem, code := call(t, newSettleCmd(), args...); code != 0 {
			t.Fatalf("settle as of %s: %d %s", asOf, code, problem)
		}
	}
	ask := func(args ...string) payoutAnswer {
		t.Helper()
		text, problem, code := call(t, newPayoutCmd(), append(args, "--json")...)
		var a payoutAnswer
		if err := json.Unmarshal([]byte(text), &a); err != nil || code != 0 {
			t.Fatalf("%v: %d %s, %v", args, code, problem, err)
		}
		return a
	}
	settle("2026-11-21T00:05:00+08:00")
	bank, err := simbank.Start("127.0.0.1:0", simbank.Config{Opening: money.Yuan(1000), Folder: files})
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
	settle("2026-11-23T10:00:00+08:00", "--received", "expected")
	order, err := os.ReadFile(filepath.Join(files, "outbox", "PO20261123-000001.xml"))
	if err != nil || !strings.Contains(string(order), "<EndToEndId>20261120-898110054110001-T1-0</EndToEndId>") {
		t.Fatalf("%s, %v", order, err)
	}
	const ref = "20261120-898110054110001-T1-0"
	if a := ask("list"); len(a.Payouts) != 1 || a.Payouts[0].Ref != ref || a.Payouts[0].State != settlement.InProcess || a.Payouts[0].Account != "622848*********0095" {
		t.Errorf("on its way: %+v", a.Payouts)
	}
	for range 2 {
		if err := bank.Exchange(); err != nil {
			t.Fatal(err)
		}
		bank.Advance(1)
	}
	settle("2026-11-24T10:00:00+08:00")
	if a := ask("list"); len(a.Payouts) != 1 || a.Payouts[0].State != settlement.CameBack {
		t.Errorf("came back: %+v", a.Payouts)
	}
	a := ask("tasks")
	if len(a.Tasks) != 1 || a.Tasks[0].Kind != "payout_returned" || !strings.Contains(a.Tasks[0].Text, "another card") {
		t.Fatalf("tasks: %+v", a.Tasks)
	}
	task := a.Tasks[0].Key
	for range 2 { // replaced once
		if a := ask("reissue", ref); !strings.Contains(a.Said, ref+"-R1 replaces") {
			t.Errorf("reissue: %q", a.Said)
		}
	}
	if a := ask("show", ref+"-R1"); len(a.Payouts) != 2 || a.Payouts[0].Child != ref+"-R1" || a.Payouts[1].Parent != ref || a.Payouts[1].State != settlement.Created {
		t.Errorf("the chain: %+v", a.Payouts)
	}
	if a := ask("list", "--merchant", "898110054110001"); len(a.Payouts) != 2 {
		t.Errorf("of the merchant: %+v", a.Payouts)
	}
	ask("done", task, "--note", "new card") // was done by the reissue: changes nothing
	if a := ask("tasks"); len(a.Tasks) != 0 {
		t.Errorf("tasks: %+v", a.Tasks)
	}
	later := time.Now().AddDate(0, 0, 1) // it was issued again just now, and is due today
	settle(later.Format(time.RFC3339))
	if _, err := os.Stat(filepath.Join(files, "outbox", fmt.Sprintf("PO%08d-000001.xml", int32(calendar.DateOf(later))))); err != nil {
		t.Errorf("the second payout is in no file: %v", err)
	}
	for _, c := range []struct{ args, says string }{
		{"show nothing", "payout list"}, {"reissue nothing", "payout list"}, {"done nothing", "payout tasks"}, {"reissue " + ref + "-R1", "is processing"},
		{"recover nothing", "payout list"}, {"decide nothing paid", "payout list"}, {"decide " + ref + " paid", "it is returned"}, {"recover " + ref, "was not paid after it failed"},
	} {
		if _, problem, code := call(t, newPayoutCmd(), strings.Fields(c.args)...); code != 1 || !strings.Contains(problem, c.says) {
			t.Errorf("%s: exit %d, %q; want %q", c.args, code, problem, c.says)
		}
	}
	if text, _, _ := call(t, newPayoutCmd(), "tasks"); text != "nothing waits for a person\n" {
		t.Errorf("in words: %q", text)
	}
	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := audit.List(t.Context(), db, "", 0, 100)
	if err != nil || len(entries) != 1 || entries[0].Op != "payout reissue" || entries[0].Subject != "payout "+ref {
		t.Errorf("the operators' log: %+v, %v", entries, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBankSettings(t *testing.T) {
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	set := func(f func(c *Config)) *house {
		var c Config
		c.Settlement.Bank, c.Settlement.Format = "file:"+dir, "pain.001"
		c.Settlement.Holder, c.Settlement.Account, c.Settlement.AtBank = "holder", "9999000000000001", "bank"
		f(&c)
		return &house{cfg: c}
	}
	if rail, err := set(func(*Config) {}).openRail(""); err != nil || rail == nil {
		t.Errorf("%v, %v", rail, err)
	}
	if rail, err := set(func(c *Config) { c.Settlement.Bank = "" }).openRail(""); err != nil || rail != nil {
		t.Errorf("without a bank: %v, %v", rail, err)
	}
	for says, f := range map[string]func(c *Config){
		"bank_format":             func(c *Config) { c.Settlement.Format = "mt103" },
		"settlement.account_bank": func(c *Config) { c.Settlement.AtBank = "" },
		"like http":               func(c *Config) { c.Settlement.Bank = "ftp://bank" },
	} {
		if _, err := set(f).openRail(""); err == nil || !strings.Contains(err.Error(), says) || exitCode(err) != 2 {
			t.Errorf("%s: %v", says, err)
		}
	}
	for says, secret := range map[string]string{"callback_secret_file": "", "32 or more": short, "no such file": filepath.Join(dir, "none")} {
		if _, _, err := set(func(c *Config) { c.Settlement.Callback, c.Settlement.Secret = "127.0.0.1:0", secret }).listenCallbacks(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

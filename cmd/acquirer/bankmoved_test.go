package main

import (
	"strings"
	"testing"

	"acquirer/audit"
	"acquirer/money"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
)

// Another bank in settlement.bank while a payout is on its way: settle refuses
// and says what to do; the same bank at another address goes on.
func TestAnotherBankInTheSettings(t *testing.T) {
	cfg := leftDay(t, "6228480402564890093") // in process, paid the next day
	bank, err := simbank.Start("127.0.0.1:0", simbank.Config{Opening: money.Yuan(1000)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bank.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	settle := func(bank string, more ...string) (string, int) {
		t.Helper()
		_, problem, code := call(t, newSettleCmd(), append([]string{"--date", "2026-11-20", "--as-of", "2026-11-23T10:00:00+08:00", "--received", "expected", "--settlement-bank", bank}, more...)...)
		return problem, code
	}
	if problem, code := settle(bank.URL(), "--force"); code != 0 {
		t.Fatalf("%d %s", code, problem)
	}
	if problem, code := settle("http://127.0.0.1:1"); code != 1 || !strings.Contains(problem, bank.URL()+", where 1 payouts of") || !strings.Contains(problem, "acquirer payout moved") {
		t.Errorf("another address: %d %s", code, problem)
	}
	files := []string{"--settlement-account-holder", "x", "--settlement-account", "9999000000000001", "--settlement-account-bank", "y"}
	if problem, code := settle("file:"+t.TempDir(), files...); code != 1 || !strings.Contains(problem, "files for account 999900******0001 at y does not know them") {
		t.Errorf("files: %d %s", code, problem)
	}
	if _, problem, code := call(t, newPayoutCmd(), "moved"); code != 2 || !strings.Contains(problem, "settlement.bank is empty") {
		t.Errorf("moved nowhere: %d %s", code, problem)
	}
	moved := strings.Replace(bank.URL(), "127.0.0.1", "localhost", 1)
	for _, says := range []string{moved + " is the bank that was " + bank.URL(), "through " + moved + " already"} {
		if text, problem, code := call(t, newPayoutCmd(), "moved", "--settlement-bank", moved+"/", "--note", "ticket"); code != 0 || !strings.Contains(text, says) {
			t.Errorf("moved: %d %s%s; want %q", code, text, problem, says)
		}
	}
	bank.Advance(1)
	if problem, code := settle(moved); code != 0 {
		t.Errorf("at the new address: %d %s", code, problem)
	}
	if text, _, _ := call(t, newPayoutCmd(), "list"); text != "no payouts\n" {
		t.Errorf("on their way: %s", text)
	}
	if problem, code := settle("file:"+t.TempDir(), files...); code != 0 {
		t.Errorf("with nothing on its way: %d %s", code, problem)
	}
	if text, _, _ := call(t, newPayoutCmd(), "tasks"); !strings.Contains(text, "went through "+moved+" before") {
		t.Errorf("tasks: %s", text)
	}
	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := audit.List(t.Context(), db, "", 0, 100)
	if err != nil || len(entries) != 1 || entries[0].Op != "payout moved" || entries[0].Subject != "bank "+moved || entries[0].Detail != "ticket" {
		t.Errorf("the operators' log: %+v, %v", entries, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBankName(t *testing.T) {
	for setting, want := range map[string]string{
		"http://Bank.example:7001/": "http://bank.example:7001", "https://user:secret@bank.example/Pay": "https://bank.example/Pay",
		"file:/a": "files for account 999900******0001 at 演示银行", "file:b": "files for account 999900******0001 at 演示银行",
	} {
		var c Config
		c.Settlement.Bank, c.Settlement.Account, c.Settlement.AtBank = setting, "9999000000000001", "演示银行"
		if got := c.bankName(); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/audit"
	"acquirer/settlement"
	simcard "acquirer/simulate/card"
	"acquirer/store"
)

// A merchant's account is changed beside the running switch and without one, by
// two people; the number stands in no log, no answer and no clear column.
func TestSettleAccount(t *testing.T) {
	const mid, number, old = "898110054110001", "6228480402564890018", "6228480402564890095"
	cfg := leftDay(t, old)
	dir := filepath.Dir(cfg.HSM.File)
	file := filepath.Join(dir, "number.txt")
	if err := os.WriteFile(file, []byte("6228 4804 0256 4890 018\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var heard strings.Builder
	says := func(want int, words string, args ...string) string {
		t.Helper()
		status, stdout, stderr := runs(t, append([]string{"settle", "account"}, args...)...)
		if heard.WriteString(stdout + stderr); status != want || !strings.Contains(stdout+stderr, words) {
			t.Errorf("%v: status %d, want %d and %q: %s%s", args, status, want, words, stdout, stderr)
		}
		return stdout
	}
	says(0, "no change of an account waits", "list")
	says(2, "--account-file", "ask", mid, "--bank", "ICBC", "--why", "ticket 4711")
	says(1, "no such file", "ask", mid, "--account-file", filepath.Join(dir, "none"), "--bank", "ICBC", "--why", "ticket 4711")
	says(1, "8 to 34", "ask", mid, "--account-file", "-", "--bank", "ICBC", "--why", "ticket 4711") // standard input is empty
	says(1, "nobody asks", "refuse", mid)

	args := []string{"serve", "--terminals-listen", "127.0.0.1:0", "--admin-listen", freeAddr(t), "--console-listen", "", "--seed", "demo",
		"--database", cfg.Database, "--hsm-file", cfg.HSM.File, "--hsm-passphrase-file", cfg.HSM.PassphraseFile}
	for _, is := range simcard.Issuers {
		args = append(args, "--issuer", is.Name+"="+freeAddr(t))
	}
	p := spawn(t, nil, args...)
	if _, ok := p.stderr.await(t.Context(), `"msg":"listening"`); !ok {
		t.Fatalf("it does not listen:\n%s", p.stderr.tail(20))
	}
	for range 2 { // the same has no effect
		says(0, "622848*********0018 at ICBC is asked for", "ask", mid, "--account-file", file, "--bank", "ICBC", "--why", "ticket 4711")
	}
	says(1, "second person", "confirm", mid, "0018")
	says(0, "622848*********0095", "list")
	if status := p.stop(t); status != 0 {
		t.Errorf("it ended with %d: %s", status, p.stderr.tail(20))
	}
	heard.WriteString(p.stderr.String())

	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	other := accountCall{Do: "confirm", Merchant: mid, Ends: "0018"}
	if _, err := other.run(t.Context(), db, configOf(t, nil), "wang"); err != nil {
		t.Error(err)
	}
	entries, err := audit.List(t.Context(), db, "", 0, 100)
	if err != nil || len(entries) != 2 || entries[0].Op != "settle account confirm" || entries[0].Who != "wang" || entries[1].Op != "settle account ask" ||
		entries[1].Subject != "merchant "+mid || entries[1].Detail != "622848*********0018 at ICBC: ticket 4711" {
		t.Errorf("the operators' log: %+v, %v", entries, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	says(0, "no change of an account waits", "list")
	var a accountAnswer
	if err := json.Unmarshal([]byte(says(0, "wang", "list", "--all", "--json")), &a); err != nil || len(a.Changes) != 1 || a.Changes[0].State != settlement.AccountChanged || a.Changes[0].Account.Name != "王芳" {
		t.Errorf("changes %+v, %v", a.Changes, err)
	}
	files, err := filepath.Glob(strings.TrimPrefix(cfg.Database, "sqlite:") + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		heard.Write(text)
	}
	for _, n := range []string{number, old} {
		if strings.Contains(heard.String(), n) {
			t.Errorf("%s stands in the clear somewhere", n)
		}
	}
}

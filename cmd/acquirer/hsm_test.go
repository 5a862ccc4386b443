package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/hsm"
)

// runHSM runs the hsm command alone and returns what it printed and its exit
// status.
func runHSM(t *testing.T, stdin string, args ...string) (string, string, int) {
	t.Helper()
	cmd := newHSMCmd()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	if err := cmd.Execute(); err != nil {
		return out.String(), err.Error(), exitCode(err)
	}
	return out.String(), "", 0
}

func TestHSMInit(t *testing.T) {
	dir := t.TempDir()
	pass := filepath.Join(dir, "passphrase")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(pass, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(passphraseVariable, "")

	key := filepath.Join(dir, "key.json")
	if _, text, code := runHSM(t, "", "init", "--file", key); code != 2 || !strings.Contains(text, passphraseVariable) {
		t.Errorf("no passphrase: %d %s", code, text)
	}
	if _, _, code := runHSM(t, "", "init"); code != 2 {
		t.Errorf("no file: %d", code)
	}
	if _, text, code := runHSM(t, "", "init", "--file", key, "--passphrase-file", filepath.Join(dir, "none")); code != 1 || !strings.Contains(text, "none") {
		t.Errorf("no such passphrase file: %d %s", code, text)
	}
	write("short\n")
	if _, text, code := runHSM(t, "", "init", "--file", key, "--passphrase-file", pass); code != 1 || !strings.Contains(text, "at least 8") {
		t.Errorf("short passphrase: %d %s", code, text)
	}
	write("two lines of\npassphrase\n")
	if _, text, code := runHSM(t, "", "init", "--file", key, "--passphrase-file", pass); code != 1 || !strings.Contains(text, "more than one line") {
		t.Errorf("two lines: %d %s", code, text)
	}
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Fatalf("a refused init left a file: %v", err)
	}

	write("correct horse\r\n")
	out, text, code := runHSM(t, "", "init", "--file", key, "--passphrase-file", pass)
	if code != 0 {
		t.Fatalf("%d %s", code, text)
	}
	s, err := hsm.Open(key, []byte("correct horse"))
	if err != nil || !strings.Contains(out, s.MasterCheckValue().Short()) {
		t.Errorf("%s: %v", out, err)
	}
	if _, text, code := runHSM(t, "", "init", "--file", key, "--passphrase-file", pass); code != 1 || !strings.Contains(text, "exists") {
		t.Errorf("a second init: %d %s", code, text)
	}
	if _, err := hsm.Open(key, []byte("correct horse")); err != nil {
		t.Errorf("the first key is gone: %v", err)
	}

	t.Setenv(passphraseVariable, "from the environment")
	other := filepath.Join(dir, "other.json")
	out, text, code = runHSM(t, "", "init", "--file", other, "--json")
	var got struct{ File, Check_value string }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || got.File != other {
		t.Fatalf("%s: %v, %d %s", out, err, code, text)
	}
	if s, err := hsm.Open(other, []byte("from the environment")); err != nil || s.MasterCheckValue().Short() != got.Check_value {
		t.Errorf("%v", err)
	}
}

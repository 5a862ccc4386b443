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

func TestHSMCheck(t *testing.T) {
	const file = "../../testdata/vectors/crypto.json"
	out, text, code := runHSM(t, "", "check", file)
	if code != 0 || !strings.Contains(out, " 0 failed, ") || !strings.Contains(out, "passed   mac.cup_ecb") {
		t.Fatalf("%d %s\n%s", code, text, out)
	}
	out, _, code = runHSM(t, "", "check", file, "--json")
	var report vectorReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
		t.Fatalf("%d %v", code, err)
	}
	if report.Failed != 0 || len(report.Failures) != 0 || report.Passed < 90 || report.Passed+report.Unknown != 190 {
		t.Errorf("%+v", report)
	}

	wrong := `[{"op":"kcv.zero","source":"a book","inputs":{"alg":"TDES","key":"0123456789ABCDEFFEDCBA9876543210"},"expected":{"kcv":"08D7B5"}},
	 {"op":"kcv.zero","inputs":{"alg":"TDES","key":"01"},"expected":{"kcv":"08D7B4"}},
	 {"op":"kcv.zero","inputs":{"alg":"TDES","key":"0123456789ABCDEFFEDCBA9876543210"},"expected":{"kcv":"08d7b4"}},
	 {"op":"of.tomorrow","inputs":{},"expected":{}}]`
	out, text, code = runHSM(t, wrong, "check", "-")
	if code != 1 || text != "2 of 4 vectors failed" {
		t.Errorf("%d %s", code, text)
	}
	for _, want := range []string{"expected 08D7B5, got 08D7B4", "vector 0, a book", "1 bytes is not a key", "unknown  of.tomorrow", "1 passed, 2 failed, 1 unknown"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	out, _, code = runHSM(t, wrong, "check", "-", "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || report.Failed != 2 || report.Unknown != 1 ||
		report.Failures[0].Expected != "08D7B5" || report.Failures[0].Got != "08D7B4" || report.Failures[1].Error == "" {
		t.Errorf("%d %v\n%s", code, err, out)
	}

	for _, bad := range []string{"", "not json", "{}"} {
		if _, _, code := runHSM(t, bad, "check", "-"); code != 1 {
			t.Errorf("%q: exit %d", bad, code)
		}
	}
	if _, text, code := runHSM(t, "", "check", "no/such/file.json"); code != 1 || !strings.Contains(text, "no/such/file.json") {
		t.Errorf("no file: %d %s", code, text)
	}
	if _, _, code := runHSM(t, "", "check"); code != 2 {
		t.Errorf("no argument: %d", code)
	}
}

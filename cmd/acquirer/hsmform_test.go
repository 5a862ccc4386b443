package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/hsm"
)

// What form prints is a key block that the same HSM can use, with the check
// value of the published component example (testdata/vectors/cup_pin_keys.json).
func TestHSMForm(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pass := file("pass", "correct horse battery\n")
	key := filepath.Join(dir, "hsm.key")
	if status, _, stderr := calls(t, "hsm", "init", "--file", key, "--passphrase-file", pass); status != 0 {
		t.Fatal(stderr)
	}
	a, b := file("a", "138C E5B3 2C0E 9126 C291 E970 EA98 764C\n"), file("b", "1FD3C2437F6EE6DCD9383E1A49E9674C")
	args := []string{"hsm", "form", "--file", key, "--passphrase-file", pass, "--use", "TMK", "--component", a}
	status, stdout, stderr := calls(t, append(args, "--component", b, "--json")...)
	var out struct {
		Block      hsm.Key `json:"block"`
		CheckValue string  `json:"check_value"`
	}
	if err := json.Unmarshal([]byte(stdout), &out); status != 0 || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, stderr)
	}
	h, err := hsm.Open(key, []byte("correct horse battery"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WorkingKeys(context.Background(), out.Block, hsm.Set003, hsm.MAKDouble); err != nil || out.CheckValue != "9BAE3E" {
		t.Errorf("check value %s, working keys: %v", out.CheckValue, err)
	}
	national := append([]string{}, args...)
	status, stdout, stderr = calls(t, append(national, "--component", b, "--cipher", "sm4", "--json")...)
	if err := json.Unmarshal([]byte(stdout), &out); status != 0 || err != nil {
		t.Fatalf("SM4: status %d, %v: %s", status, err, stderr)
	}
	if _, err := h.WorkingKeys(context.Background(), out.Block, hsm.Set005, hsm.MAKDouble); err != nil {
		t.Errorf("SM4 working keys: %v", err)
	}
	if status, _, stderr := calls(t, append(national, "--component", b, "--cipher", "DES")...); status != 2 || !strings.Contains(stderr, "--cipher") {
		t.Errorf("a cipher that is none: status %d, %s", status, stderr)
	}
	for _, c := range []struct {
		component string
		status    int
	}{{file("short", "138CE5B3"), 1}, {file("letters", strings.Repeat("XY", 16)), 1}, {filepath.Join(dir, "absent"), 1}, {"", 2}} {
		call := args
		if c.component != "" {
			call = append(append([]string{}, args...), "--component", c.component)
		}
		status, stdout, stderr := calls(t, call...)
		if status != c.status || stdout != "" || strings.Contains(stderr, "138CE5B3") || strings.Contains(stderr, "XYXY") {
			t.Errorf("%q: status %d, %s%s", c.component, status, stdout, stderr)
		}
	}
}

// FuzzFormComponent: a component file is 32 hexadecimal digits between white
// space, or it is refused without a word of what stands in it.
func FuzzFormComponent(f *testing.F) {
	for _, text := range []string{"0123456789ABCDEF FEDCBA9876543210\n", "0123456789abcdeffedcba987654321", "", "\x00", "0123456789ABCDEFFEDCBA98765432GG", "0123456789ABCDEFFEDCBA987654321000"} {
		f.Add([]byte(text))
	}
	file := filepath.Join(f.TempDir(), "c")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readComponent(file)
		digits := strings.Join(strings.Fields(string(text)), "")
		want, wrong := hex.DecodeString(digits)
		if wrong == nil && len(want) == 16 {
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%q: %X, %v", text, got, err)
			}
			return
		}
		if err == nil {
			t.Errorf("%q was taken for %X", text, got)
		} else if len(digits) > 8 && strings.Contains(err.Error(), digits) {
			t.Errorf("the error tells the component: %v", err)
		}
	})
}

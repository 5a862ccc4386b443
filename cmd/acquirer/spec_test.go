package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/spec"
)

// fenced is the first block of docs/dialects.md with a language.
func fenced(t *testing.T, page, language string) string {
	t.Helper()
	_, after, found := strings.Cut(page, "```"+language+"\n")
	block, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		t.Fatalf("no %s block", language)
	}
	return block
}

// What docs/dialects.md shows is what the binary does: the example checks,
// decodes the message that stands there, and encodes it back.
func TestDialectsPage(t *testing.T) {
	page := readDoc(t, "docs/dialects.md")
	t.Chdir(t.TempDir())
	const file = "harbour.json"
	if err := os.WriteFile(file, []byte(fenced(t, page, "json")), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, stderr := runs(t, "spec", "check", file)
	if want := "harbour.json: dialect harbour, 17 fields, 2 messages\n"; status != 0 || out != want {
		t.Fatalf("status %d, %q %s", status, out, stderr)
	}
	commands, err := commandsOf(strings.ReplaceAll(page, " > harbour.json", ""))
	if err != nil {
		t.Fatal(err)
	}
	var last pasted // of the messages that are decoded
	for _, c := range commands {
		if c.args[1] == "decode" {
			last = c
		}
	}
	status, out, stderr = runs(t, last.args[1:]...)
	var shown strings.Builder
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		shown.WriteString("    " + line + "\n")
	}
	if status != 0 || !strings.Contains(page, shown.String()) {
		t.Errorf("status %d, the page does not show\n%s%s", status, shown.String(), stderr)
	}
	status, masked, _ := runs(t, append([]string{"decode", "--json"}, last.args[2:]...)...)
	if status != 0 || strings.Contains(masked, "4761739001010010") {
		t.Errorf("status %d: %s", status, masked)
	}
	status, clear, _ := runs(t, append([]string{"decode", "--json", "--reveal"}, last.args[2:]...)...)
	if err := os.WriteFile("message.json", []byte(clear), 0o600); err != nil || status != 0 {
		t.Fatal(status, err)
	}
	status, back, stderr := runs(t, "encode", "--dialect", file, "--json-in", "message.json")
	if status != 0 || strings.TrimSpace(back) != last.args[len(last.args)-1] {
		t.Errorf("status %d: %s %s", status, back, stderr)
	}
	// Without the file nobody knows the dialect.
	if status, _, stderr := runs(t, "encode", "--json-in", "message.json"); status != 1 || !strings.Contains(stderr, `dialect "harbour": want unionpay-pos`) {
		t.Errorf("status %d: %s", status, stderr)
	}
	// The mistake that the page names is told in those words.
	wrong := strings.Replace(fenced(t, page, "json"), `"kind": "z"`, `"kind": "zz"`, 1)
	if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, stderr = runs(t, "spec", "check", file)
	if want := `harbour.json: line 20: field 35: kind "zz" is none of n, z, a, an, ns, ans, b`; status != 1 || out != "" || !strings.Contains(stderr, want) || !strings.Contains(page, want) {
		t.Errorf("status %d: %q %s", status, out, stderr)
	}
	status, out, _ = runs(t, "spec", "check", "--json", file)
	var result specCheckJSON
	if err := json.Unmarshal([]byte(out), &result); err != nil || status != 1 || result.OK || len(result.Mistakes) != 1 || result.Mistakes[0].Line != 20 {
		t.Errorf("status %d: %s %v", status, out, err)
	}
}

// Every dialect is listed, and what show --json prints is a file that check
// accepts and show prints again.
func TestSpecShow(t *testing.T) {
	status, out, _ := runs(t, "spec", "list", "--json")
	var list []dialectSummary
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != 0 || len(list) != len(spec.Names()) {
		t.Fatalf("status %d: %s %v", status, out, err)
	}
	_, plain, _ := runs(t, "spec", "list")
	for _, d := range list {
		if !strings.Contains(plain, d.Name) || d.Fields != 126 {
			t.Errorf("%+v", d)
		}
		status, text, stderr := runs(t, "spec", "show", "--json", d.Name)
		file := filepath.Join(t.TempDir(), d.Name+".json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil || status != 0 {
			t.Fatal(status, stderr, err)
		}
		if status, _, stderr := runs(t, "spec", "check", file); status != 0 {
			t.Errorf("%s: %s", d.Name, stderr)
		}
		if status, again, _ := runs(t, "spec", "show", "--json", file); status != 0 || again != text {
			t.Errorf("%s: printed from its file it differs", d.Name)
		}
		_, readable, _ := runs(t, "spec", "show", d.Name)
		_, fromFile, _ := runs(t, "spec", "show", file)
		if readable != fromFile || !strings.Contains(readable, "n..19 LL") {
			t.Errorf("%s: shown from its file it differs:\n%s\n%s", d.Name, readable, fromFile)
		}
	}
	status, out, _ = runs(t, "spec", "show", "unionpay-pos")
	for _, want := range []string{
		"mac       DE 64, unionpay\n",
		"  0200 sale, DE 3 begins 00 or 19, DE 25 00, DE 60 digits 1-2 = 22\n      mandatory  3 4 11 22 25 41 42 49 60 MAC\n      mandatory  2 when DE 35 absent\n",
		"  0400 reversal\n      mandatory  3 4 11 22 25 41 42 49 60 MAC\n      forbidden  35 36 52\n",
	} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("status %d, show lacks %q", status, want)
		}
	}
	if status, _, stderr := runs(t, "spec", "show", "visa"); status != 2 || !strings.Contains(stderr, "want unionpay-pos, cups, iso87-ascii, iso87-bcd") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// decode and encode work with a built-in dialect by its name alone.
func TestDecodeISO87(t *testing.T) {
	const body = "30383030" + "0020000000800000" + "303030303432" + "5445524D30303031"
	for _, c := range []struct{ dialect, hex string }{
		{"iso87-ascii", "001A" + body},
		{"iso87-ascii", body},
		{"iso87-bcd", "001A" + "6000030000" + "0800" + "0020000000800000" + "000042" + "5445524D30303031"},
	} {
		status, out, stderr := runs(t, "decode", "--dialect", c.dialect, "--json", "--reveal", c.hex)
		if status != 0 || !strings.Contains(out, `"fields":{"11":"000042","41":"TERM0001"}`) {
			t.Errorf("%s: status %d: %s %s", c.dialect, status, out, stderr)
			continue
		}
		file := filepath.Join(t.TempDir(), "m.json")
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, back, stderr := runs(t, "encode", "--json-in", file); status != 0 || strings.TrimSpace(back) != c.hex {
			t.Errorf("%s: status %d: %s %s", c.dialect, status, back, stderr)
		}
	}
	if status, _, stderr := runs(t, "decode", "--dialect", "iso87-ascii", "001B"+body); status != 1 || !strings.Contains(stderr, "length") {
		t.Errorf("a wrong length: status %d: %s", status, stderr)
	}
}

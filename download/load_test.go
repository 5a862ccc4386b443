package download

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/money"
)

func TestBuiltIn(t *testing.T) {
	s := BuiltIn()
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	if len(s.CAKeys) != 4 || len(s.Applications) != 4 || *s.House.Limits.NoPIN != money.Yuan(1000) || *s.House.Limits.NoSignature != money.Yuan(1000) {
		t.Errorf("%d keys, %d applications, limits %v", len(s.CAKeys), len(s.Applications), s.House.Limits)
	}
	if n := s.DropTestKeys(); n != 4 || len(s.CAKeys) != 0 {
		t.Errorf("%d test keys dropped, %d keys left", n, len(s.CAKeys))
	}
}

func load(t *testing.T, text string) (*Set, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "downloads.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func TestLoad(t *testing.T) {
	s, err := load(t, `{"parameters": {"12": "30"}, "limits": {"no_pin": "300.00"},
	 "overrides": {"10000001": {"parameters": {"23": "1"}}, "898110054110001": {"limits": {"no_signature": "0.00"}}}, "black_list": ["622999"]}`)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.CAKeys) != 4 || len(s.Applications) != 4 {
		t.Error("what the file leaves out is not the built-in")
	}
	if len(s.House.Parameters) != 1 || *s.House.Limits.NoPIN != money.Yuan(300) || s.House.Limits.NoSignature != nil {
		t.Errorf("house %+v", s.House)
	}
	if o := s.Overrides["898110054110001"]; *o.Limits.NoSignature != 0 || o.Limits.NoPIN != nil || s.Overrides["10000001"].Parameters["23"] != "1" {
		t.Errorf("overrides %+v", s.Overrides)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file loads")
	}
}

// Every mistake is found on its line, and no card number is repeated.
func TestLoadSaysTheLine(t *testing.T) {
	whole, err := os.ReadFile("builtin.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, line, word string }{
		{"{\n\"parameters\": {\n\"12\": \"6\"}}", "line 3", "parameter 12"},
		{"{\n\"parameters\":\n{\"99\": \"6\"}}", "line 3", "99"},
		{"{\n\"limits\": {\n\"no_pin\": \"1,000\"}}", "line 3", "1,000"},
		{"{\n\"limits\": {\n\"no_pin\": \"-1\"}}", "line", "yuan"},
		{"{\n\n\"limit\": {}}", "line 3", "limit"},
		{"{\n\"limits\": 5}", "line 2", "limits"},
		{"{\n\"limits\": {},\n}", "line 3", ""},
		{"{}\n{}", "line 2", "more text"},
		{"{\"black_list\": [\"6217\",\n\"62284800000000000x2\"]}", "line 2", "entry 2"},
		{"{\"overrides\": {\n\"1000\": {}}}", "line 2", "terminal"},
		{"{\"ca_keys\": [{\"rid\": \"A0000003\",\n\"modulus\": \"AB\"}]}", "line 2", "rid"},
		{"{\"ca_keys\": [\n{\"rid\": \"A00\"}]}", "line 2", "hex"},
		{"{\"applications\": [\n{\"aid\": \"a000000333010101\"}]}", "line 2", "version"},
		{strings.Replace(string(whole), "B61645", "B61646", 1), "line 4", "SHA-1"},
		{strings.Replace(string(whole), `"F1", "expires": "20351231"`, `"F1", "expires": "20351331"`, 1), "line 7", "YYYYMMDD"},
		{strings.Replace(string(whole), `"A000000333010102"`, `"A000000333010101"`, 1), "line 20", "twice"},
		{strings.Replace(string(whole), `"max_target": 99`, `"max_target": 100`, 1), "line 17", "target"},
		{strings.Replace(string(whole), `"exponent": "03"`, `"exponent": "05"`, 1), "line 4", "exponent"},
	} {
		_, err := load(t, c.text)
		if err == nil || !strings.Contains(err.Error(), c.line) || !strings.Contains(err.Error(), c.word) || strings.Contains(err.Error(), "62284800000") {
			t.Errorf("%.60q: %v, want %s and %q", c.text, err, c.line, c.word)
		}
	}
}

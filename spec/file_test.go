package spec

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every dialect prints as a file that reads back as the same dialect, those
// declared in Go included; the files of this package print as they are.
func TestDialectFilesRoundTrip(t *testing.T) {
	for _, name := range Names() {
		d, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		text := d.File()
		back, err := ReadDialect(name, text)
		if err != nil {
			t.Errorf("%s: its own file is refused: %v", name, err)
			continue
		}
		if !bytes.Equal(back.File(), text) {
			t.Errorf("%s: printed twice it differs", name)
		}
		if back.cells != d.cells || back.framing != d.framing || back.mti != d.mti || back.bitmap != d.bitmap || back.use != d.use {
			t.Errorf("%s: the table that came back is another", name)
		}
		if len(back.rules) != len(d.rules) {
			t.Errorf("%s: %d rules, %d came back", name, len(d.rules), len(back.rules))
		}
		if strings.HasPrefix(name, "iso87") && string(embedded("dialects/"+name+".json")) != string(text) {
			t.Errorf("dialects/%s.json is not in the form that spec show prints", name)
		}
	}
}

func TestLoad(t *testing.T) {
	a, err := Load("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Load("iso87-ascii"); err != nil || a != b {
		t.Error("a dialect is made anew each time", err)
	}
	path := filepath.Join(t.TempDir(), "mine.json")
	if err := os.WriteFile(path, bytes.Replace(a.File(), []byte(`"iso87-ascii"`), []byte(`"mine"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Load(path)
	if err != nil || d.Name() != "mine" {
		t.Fatal(d, err)
	}
	for _, c := range []struct{ name, want string }{
		{"iso87", `dialect "iso87": want unionpay-pos, cups, iso87-ascii, iso87-bcd, or the path of a dialect file`},
		{"nowhere.json", "dialect file: open nowhere.json: no such file or directory"},
	} {
		if _, err := Load(c.name); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// small is a dialect in which every line can be broken.
const small = `{
  "name": "small",
  "mti": "ascii",
  "bitmap": "hex",
  "numeric": "ascii",
  "track": "ascii",
  "prefixes": "ascii",
  "framing": {"length_bytes": 4, "length_encoding": "ascii"},
  "mac": {"alg": "cmac", "fields": [64]},
  "pin": {"ksn": 62},
  "fields": [
    {"field": 2, "name": "PAN", "kind": "n", "length": 19, "prefix": "LL"},
    {"field": 3, "name": "Processing code", "kind": "n", "length": 6},
    {"field": 35, "name": "Track 2", "kind": "z", "length": 37, "prefix": "LL"},
    {"field": 62, "name": "KSN", "kind": "ans", "length": 20},
    {"field": 64, "name": "MAC", "kind": "b", "length": 8}
  ],
  "presence": [
    {"message": "sale", "mti": "0200", "processing": "00", "mac": true,
     "mandatory": [3],
     "conditional": [{"field": 2, "if": "DE 35 absent"}]}
  ]
}
`

// Each row breaks one line of small; the mistake is told with the line and the
// field, and it is the only one.
func TestBrokenFiles(t *testing.T) {
	if _, err := ReadDialect("small.json", []byte(small)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, broken, want string }{
		{`"kind": "z"`, `"kind": "zz"`, `line 14: field 35: kind "zz" is none of n, z, a, an, ns, ans, b`},
		{`"length": 37`, `"length": 100`, `line 14: field 35: length 100: want a whole number from 1 to 99`},
		{`"length": 37`, `"length": "37"`, `line 14: field 35: length: want a number, found a text`},
		{`"length": 37`, `"length": 37.5`, `line 14: field 35: length 37.5: want a whole number from 1 to 99`},
		{`"length": 37, `, ``, `line 14: field 35: a field: key "length" is missing`},
		{`"prefix": "LL"},
    {"field": 62`, `"prefix": "LLLL"},
    {"field": 62`, `line 14: field 35: prefix "LLLL" is none of fixed, LL, LLL`},
		{`"name": "Track 2"`, `"nme": "x", "name": "Track 2"`, `line 14: field 35: unknown key "nme"; want field, name, kind, length, prefix, encoding, show`},
		{`"name": "Track 2"`, `"name": "x", "name": "Track 2"`, `line 14: field 35: key "name" stands twice, first on line 14`},
		{`"field": 62, "name"`, `"field": 3, "name"`, `line 15: field 3: declared twice, first on line 13
small.json: line 10: pin: field 62 must be declared as text or b to carry a key serial number`},
		{`"field": 62, "name"`, `"field": 65, "name"`, `line 15: field 65: bit 65 announces a third bitmap, which is not spoken
small.json: line 10: pin: field 62 must be declared as text or b to carry a key serial number`},
		{`"field": 62, "name"`, `"field": 129, "name"`, `line 15: field 129: field 129: want a whole number from 2 to 128
small.json: line 10: pin: field 62 must be declared as text or b to carry a key serial number`},
		{`"kind": "n", "length": 6`, `"kind": "n", "encoding": "ebcdic", "length": 6`, `line 13: field 3: encoding "ebcdic" is none of ascii, bcd-pad-right, bcd-pad-left, bcd-pad-either`},
		{`"kind": "n", "length": 6`, `"kind": "n", "encoding": "bcd-pad-either", "length": 6`, `line 13: field 3: encoding bcd-pad-either is for a fixed, odd number of digits`},
		{`"kind": "ans", "length": 20`, `"kind": "ans", "encoding": "ascii", "length": 20`, `line 15: field 62: encoding is for kinds n and z; ans is bytes as they are`},
		{`"small"`, `"Small dialect"`, `line 2: name "Small dialect": want letters a to z, digits and hyphens, at most 32`},
		{`"mti": "ascii"`, `"mti": "ebcdic"`, `line 3: mti "ebcdic" is none of ascii, bcd`},
		{`"bitmap": "hex"`, `"bitmap": 16`, `line 4: bitmap: want a text, found a number`},
		{`  "prefixes": "ascii",` + "\n", ``, `line 1: the file: key "prefixes" is missing`},
		{`"prefixes": "ascii"`, `"prefixes": "ascii", "colour": "red"`, `line 7: unknown key "colour"; want name, mti, bitmap, numeric, track, prefixes, framing, fields, title, use, mac, pin, keys, presence`},
		{`"length_bytes": 4`, `"length_bytes": 3`, `line 8: length_bytes 3: want 2 or 4`},
		{`"length_encoding": "ascii"`, `"length_encoding": "ascii", "header": 99`, `line 8: header 99: want a whole number from 0 to 32`},
		{`"length_encoding": "ascii"`, `"length_encoding": "ascii", "tpdu": "yes"`, `line 8: tpdu: want true or false, found a text`},
		{`"alg": "cmac"`, `"alg": "md5"`, `line 9: alg "md5" is none of x919, cmac, unionpay`},
		{`"fields": [64]`, `"fields": [63]`, `line 9: field of mac 63: want a whole number from 64 to 128`},
		{`"fields": [64]`, `"fields": [128]`, `line 9: mac: field 128 must be declared with kind b and a fixed length of 8 bytes`},
		{`"fields": [64]`, `"fields": []`, `line 9: mac: fields is empty; want 64, 128 or both`},
		{`"kind": "b", "length": 8`, `"kind": "b", "length": 16`, `line 9: mac: field 64 must be declared with kind b and a fixed length of 8 bytes`},
		{`"ksn": 62`, `"ksn": 3`, `line 10: pin: field 3 must be declared as text or b to carry a key serial number`},
		{`"pin": {"ksn": 62}`, `"keys": {"field": 62}`, `line 10: keys: field 62 must be declared as text or b of a variable length to carry working keys`},
		{`"pin": {"ksn": 62}`, `"keys": {"field": 61}`, `line 10: keys: field 61 must be declared as text or b of a variable length to carry working keys`},
		{`"pin": {"ksn": 62}`, `"keys": {}`, `line 10: keys: key "field" is missing`},
		{`"message": "sale"`, `"message": "sael"`, `line 19: message sael: message "sael" is none of ` + names(Rows)},
		{`"mti": "0200"`, `"mti": "0210"`, `line 19: message sale: mti 0210 is an answer; rules are for requests`},
		{`"mti": "0200"`, `"mti": "0201"`, `line 19: message sale: mti 0201 is a repeat; it goes by the rule of 0200`},
		{`"mti": "0200"`, `"mti": "20"`, `line 19: message sale: mti: want four digits like 0200, found "20"`},
		{`"processing": "00"`, `"processing": "0x"`, `line 19: message sale: processing "0x": want 1 to 6 digits`},
		{`"mandatory": [3]`, `"mandatory": [3, 3]`, `line 20: message sale: mandatory field 3 stands twice`},
		{`"mandatory": [3]`, `"mandatory": [3, 4]`, `line 20: message sale: mandatory field 4 is not declared`},
		{`"mandatory": [3]`, `"mandatory": [3], "forbidden": [3]`, `line 20: message sale: field 3 is mandatory and forbidden`},
		{`"DE 35 absent"`, `"DE 35 gone"`, `line 21: message sale: if "DE 35 gone": it asks for nothing this knows; want like "DE 35 absent", "DE 22 digit 3 = 1" or "DE 60 digits 1-2 = 22 23 and DE 25 != 06"`},
		{`"DE 35 absent"`, `"DE 3 digits 1-2 = 1"`, `line 21: message sale: if "DE 3 digits 1-2 = 1": "1" is not 2 characters; want like "DE 35 absent", "DE 22 digit 3 = 1" or "DE 60 digits 1-2 = 22 23 and DE 25 != 06"`},
		{`"DE 35 absent"`, `"DE 36 absent"`, `line 21: message sale: if asks for field 36, which is not declared`},
		{`[{"field": 2, "if": "DE 35 absent"}]`, `[2]`, `line 21: message sale: conditional: want {"field": 35, "if": "DE 2 absent"}, found a number`},
		{`"DE 35 absent"}]}`, `"DE 35 absent"}]},
    {"message": "void", "mti": "0200", "processing": "00"}`, `line 22: message void: no message can reach this rule: the one on line 19 asks for the same`},
		{`"mandatory": [3],`, `"mandatory": [3]`, `line 21: not JSON: invalid character '"' after object key:value pair`},
		{"  ]\n}\n", "  ]\n}\n{}", `line 23: not JSON: more text behind the end of the object`},
		{"  ]\n}\n", "", `line 22: not JSON: the file ends in the middle`},
		{small, "[]", `line 1: the file: want an object, found a list`},
		{small, "", `line 1: not JSON: the file ends in the middle`},
		{small, strings.Repeat(`{"a":`, 20), `line 1: not JSON: nested deeper than 8`},
	} {
		text := strings.Replace(small, c.old, c.broken, 1)
		if text == small {
			t.Errorf("%s: not in the file", c.old)
			continue
		}
		_, err := ReadDialect("small.json", []byte(text))
		var fe *FileError
		if !errors.As(err, &fe) {
			t.Errorf("%s: %v", c.broken, err)
			continue
		}
		// Mistakes are told in the order of their lines.
		want := strings.Split("small.json: "+c.want, "\n")
		got := strings.Split(err.Error(), "\n")
		if len(want) == 2 {
			want[0], want[1] = want[1], want[0]
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", err, strings.Join(want, "\n"))
		}
	}
}

// Several mistakes are told at once.
func TestAllMistakes(t *testing.T) {
	text := strings.NewReplacer(`"kind": "z"`, `"kind": "zz"`, `"mti": "ascii"`, `"mti": "utf8"`).Replace(small)
	_, err := ReadDialect("f", []byte(text))
	var fe *FileError
	if !errors.As(err, &fe) || len(fe.Mistakes) < 2 || fe.Mistakes[0].Line != 3 || fe.Mistakes[1].Line != 14 {
		t.Errorf("%v", err)
	}
}

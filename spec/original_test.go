package spec

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestDE90(t *testing.T) {
	for _, name := range []string{"iso87-ascii", "iso87-bcd", "cups"} {
		d, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		o := DE90{MTI: 0x0200, STAN: 123, Sent: [10]byte([]byte("0929103045")), Acquirer: [11]byte([]byte("00001020000"))}
		text := string(o.AppendText(nil))
		if text != "0200000123092910304500001020000"+"00000000000" {
			t.Fatal(text)
		}
		m := parsed(t, d, 0x0420, map[int]string{90: text})
		got, ok := ParseDE90(m)
		if want := o; !ok || got.MTI != want.MTI || got.STAN != want.STAN || got.Sent != want.Sent || got.Acquirer != want.Acquirer {
			t.Errorf("%s: %+v %v", name, got, ok)
		}
		orig, ok := FindOriginal(m)
		if !ok || orig.MTI != 0x0200 || orig.STAN != 123 || orig.Date != 929 || orig.Sent != o.Sent {
			t.Errorf("%s: %+v %v", name, orig, ok)
		}
	}
	m := parsed(t, CUPS, 0x0420, map[int]string{90: "000000012309291030450000000000000000000000"})
	if _, ok := ParseDE90(m); ok {
		t.Error("a message type 0000 is taken")
	}
	if _, ok := FindOriginal(parsed(t, CUPS, 0x0420, map[int]string{11: "000001"})); ok {
		t.Error("an original from nowhere")
	}
}

func TestFindOriginalOfTerminals(t *testing.T) {
	for _, c := range []struct {
		name   string
		mti    MTI
		fields map[int]string
		want   Original
		ok     bool
	}{
		{"a reversal uses the numbers again", 0x0400, map[int]string{11: "000007", 60: "22000003000500"}, Original{Batch: 3, STAN: 7}, true},
		{"a void names them", 0x0200, map[int]string{11: "000009", 60: "23000003000500", 61: "000002000007"}, Original{Batch: 2, STAN: 7}, true},
		{"with the date", 0x0220, map[int]string{60: "25000003000500", 61: "0000020000070929"}, Original{Batch: 2, STAN: 7, Date: 929}, true},
		{"zeros are unknown", 0x0220, map[int]string{60: "25000003000500", 61: "0000000000000000"}, Original{}, false},
		{"a sale has none", 0x0200, map[int]string{60: "22000003000500"}, Original{}, false},
	} {
		got, ok := FindOriginal(parsed(t, UnionPayPOS, c.mti, c.fields))
		if got != c.want || ok != c.ok {
			t.Errorf("%s: %+v %v", c.name, got, ok)
		}
	}
}

func TestNetworkCode(t *testing.T) {
	iso, err := Load("iso87-bcd")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		d     *Dialect
		field int
		value string
		want  int
		ok    bool
	}{
		{UnionPayPOS, 60, "00000001301", NetworkEcho, true},
		{UnionPayPOS, 60, "00000001", 0, false},
		{UnionPayPOS, 70, "301", 0, false},
		{CUPS, 70, "101", NetworkKeyExchange, true},
		{iso, 70, "001", NetworkSignOn, true},
		{iso, 70, "002", NetworkSignOff, true},
		{iso, 60, "00000001301", 0, false},
	} {
		got, ok := NetworkCode(parsed(t, c.d, 0x0800, map[int]string{c.field: c.value}))
		if got != c.want || ok != c.ok {
			t.Errorf("%s DE %d %s: %d %v", c.d.Name(), c.field, c.value, got, ok)
		}
	}
}

func TestKSN(t *testing.T) {
	d, err := Load("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	for _, right := range []string{"FFFF9876543210E00001", "123456789012345600000001"} {
		if ksn := d.KSN(parsed(t, d, 0x0200, map[int]string{62: right})); fmt.Sprintf("%X", ksn) != right || d.KSNField() != 62 {
			t.Errorf("%s: %X", right, ksn)
		}
	}
	for _, wrong := range []string{"FFFF9876543210E0000", "GGGG9876543210E00001", "1234567890"} {
		if ksn := d.KSN(parsed(t, d, 0x0200, map[int]string{62: wrong})); ksn == nil || len(ksn) > 0 {
			t.Errorf("%q is taken for %X", wrong, ksn)
		}
	}
	if ksn := d.KSN(parsed(t, d, 0x0200, nil)); ksn != nil {
		t.Errorf("without the field: %X", ksn)
	}
	if ksn := UnionPayPOS.KSN(parsed(t, UnionPayPOS, 0x0200, nil)); ksn != nil || UnionPayPOS.KSNField() != 0 {
		t.Error("UnionPay's terminals have no DUKPT")
	}
}

// Working keys travel as the dialect declares: hexadecimal in text, bytes in b.
func TestWorkingKeys(t *testing.T) {
	text, err := Load("iso87-bcd")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := ReadDialect("small.json", []byte(strings.NewReplacer(`"pin": {"ksn": 62}`, `"keys": {"field": 62}`,
		`"kind": "ans", "length": 20`, `"kind": "b", "length": 99, "prefix": "LL"`).Replace(small)))
	if err != nil {
		t.Fatal(err)
	}
	for shape, short := range map[string]bool{`"kind": "ans", "length": 79, "prefix": "LL"`: true, `"kind": "ans", "length": 80, "prefix": "LL"`: false,
		`"kind": "b", "length": 39, "prefix": "LL"`: true, `"kind": "b", "length": 40, "prefix": "LL"`: false} {
		_, err := ReadDialect("small.json", []byte(strings.NewReplacer(`"pin": {"ksn": 62}`, `"keys": {"field": 62}`, `"kind": "ans", "length": 20`, shape).Replace(small)))
		if want := "small.json: line 10: keys: field 62 is too short for two keys: want 40 bytes, or 80 characters of text"; short != (err != nil) || short && err.Error() != want {
			t.Errorf("%s: %v", shape, err)
		}
	}
	keys := bytes.Repeat([]byte{0x0A, 0xF1}, 20)
	for _, c := range []struct {
		d        *Dialect
		field    int
		wireSize int
	}{{text, 48, 80}, {binary, 62, 40}} {
		var m Message
		m.Reset(c.d, 0x0810)
		if _, ok := c.d.Keys(&m); ok {
			t.Errorf("%s: keys in a message without", c.d.Name())
		}
		c.d.SetKeys(&m, keys)
		got, ok := c.d.Keys(&m)
		if !ok || !bytes.Equal(got, keys) || m.Len(c.field) != c.wireSize || c.d.KeyField() != c.field {
			t.Errorf("%s: %X %v in %d of DE %d", c.d.Name(), got, ok, m.Len(c.field), c.d.KeyField())
		}
		for _, i := range Describe(&m) {
			if strings.Contains(i.Value, "0AF1") {
				t.Errorf("%s: keys are shown", c.d.Name())
			}
		}
	}
	var m Message
	m.Reset(text, 0x0810)
	m.Set(48, "0AF")
	if _, ok := text.Keys(&m); ok {
		t.Error("half a byte is taken for a key")
	}
	if UnionPayPOS.KeyField() != 0 {
		t.Error("UnionPay's terminals have their keys in DE 62, of which nothing is declared")
	}
}

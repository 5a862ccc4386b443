package spec

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestReadTerminalInfo(t *testing.T) {
	el := func(tag, value string) string {
		b, err := AppendDE59(nil, tag, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	whole := TerminalInfo{Type: "04", Serial: "00000201N91W0012", Version: "V2.1.7", Place: "+31.23037/+121.47370"}
	a2 := el("A2", el("01", whole.Type)+el("02", whole.Serial)+el("03", "000002")+el("04", "0123456789ABCDEF")+el("05", whole.Version))
	a3, a5 := el("A3", "134567890123456789"), el("A5", whole.Place)
	tests := []struct {
		name, de59 string
		want       TerminalInfo
	}{
		{"none", "", TerminalInfo{}},
		{"all of it", a2 + a3 + a5, whole},
		{"in another order", a5 + a3 + a2, whole},
		{"the place alone", a5, TerminalInfo{Place: whole.Place}},
		{"a code alone", a3, TerminalInfo{}},
		{"tags that nobody knows", el("12", "89860000000000000000") + el("A9", "x") + a5, TerminalInfo{Place: whole.Place}},
		{"data of its own before A2", "0x86" + a2, TerminalInfo{Type: whole.Type, Serial: whole.Serial, Version: whole.Version}},
		{"lengths of two digits", "A53" + "A520+31.23037/+121.47370"[3:], TerminalInfo{}},
		{"lengths of two digits, right", "A520+31.23037/+121.47370", TerminalInfo{Place: whole.Place}},
		{"a place in words", el("A5", "\xc9\xcf\xba\xa3\xca\xd0"), TerminalInfo{Place: "上海市"}},
		{"a place that is no text", el("A5", "\x00\x01\xff"), TerminalInfo{}},
		{"a line break", el("A5", "a\nb"), TerminalInfo{}},
		{"half a character", el("A5", "\xc9"), TerminalInfo{}},
		{"a place of 64", el("A5", strings.Repeat("x", 64)), TerminalInfo{Place: strings.Repeat("x", 64)}},
		{"a place of 65", el("A5", strings.Repeat("x", 65)), TerminalInfo{}},
		{"a serial number of 51", el("A2", el("01", "04")+el("02", strings.Repeat("9", 51))), TerminalInfo{Type: "04"}},
		{"a serial number that is no ASCII", el("A2", el("01", "04")+el("02", "\xc9\xcf")), TerminalInfo{Type: "04"}},
		{"cut short", a2[:len(a2)-3], TerminalInfo{}},
		{"A2 that cannot be read inside", el("A2", el("01", "04")+"02999short") + a5, TerminalInfo{Type: "04", Place: whole.Place}},
	}
	for _, x := range tests {
		if got := ReadTerminalInfo([]byte(x.de59)); got != x.want {
			t.Errorf("%s: %+v, want %+v", x.name, got, x.want)
		}
		again := ReadTerminalInfo([]byte(x.want.Device()))
		if again.Place = x.want.Place; again != x.want {
			t.Errorf("%s: %q is read as %+v", x.name, x.want.Device(), again)
		}
	}
	for name, de59 := range map[string][]byte{"nothing": nil, "a payment code": []byte(a3)} {
		if n := testing.AllocsPerRun(100, func() { ReadTerminalInfo(de59) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestWithoutCard(t *testing.T) {
	for tag := range emvSecret {
		if !namesCard(tag) {
			t.Errorf("%X is hidden and would be kept", tag)
		}
	}
	for _, x := range []struct{ name, de55, want string }{
		{"nothing to leave out", "9F2608112233445566778895050000000000", "9F2608112233445566778895050000000000"},
		{"track, number, name, expiry", "9F260811223344556677885A0862284800000000025713622848000000000212D3012201000000000F5F20024142" + "5F2403301231" + "9F36020007", "9F260811223344556677889F36020007"},
		{"a template", "70125A08622848000000000257066228480000FF9F36020007", "9F36020007"},
		{"only a number", "5A086228480000000002", ""},
		{"unreadable", "9F26081122", ""},
		{"unreadable behind a number", "5A0862284800000000029F36", ""},
		{"none", "", ""},
	} {
		in, err := hex.DecodeString(x.de55)
		if err != nil {
			t.Fatal(x.name, err)
		}
		before := bytes.Clone(in)
		if got := strings.ToUpper(hex.EncodeToString(WithoutCard(in))); got != x.want {
			t.Errorf("%s: %s, want %s", x.name, got, x.want)
		}
		if !bytes.Equal(in, before) {
			t.Errorf("%s: the message was changed", x.name)
		}
	}
}

// Whatever comes: no panic, nothing that is not text or too long, and no tag of
// a card in what may be kept.
func FuzzEvidence(f *testing.F) {
	f.Add([]byte("A2029010020402003123"), []byte{0x9F, 0x36, 2, 0, 7})
	f.Add([]byte("A5020+31.23037/+121.47370"), []byte{0x5A, 2, 0x62, 0x28, 0x9F, 0x36, 2, 0, 7})
	f.Fuzz(func(t *testing.T, de59, de55 []byte) {
		i := ReadTerminalInfo(de59)
		for _, s := range []string{i.Type, i.Serial, i.Version, i.Place} {
			if len(s) > maxPlace || strings.ContainsAny(s, "\x00\n\r") {
				t.Errorf("kept %q", s)
			}
		}
		if again := ReadTerminalInfo([]byte(i.Device())); again.Type != i.Type || again.Serial != i.Serial || again.Version != i.Version {
			t.Errorf("%+v is read as %+v", i, again)
		}
		for tlv, err := range WalkTLV(WithoutCard(de55)) {
			if err != nil || namesCard(tlv.Tag) {
				t.Errorf("kept %X, %v", tlv.Tag, err)
			}
		}
	})
}

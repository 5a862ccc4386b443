package spec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"iter"
	"strings"
	"testing"
)

func TestTLV(t *testing.T) {
	for _, c := range []struct{ name, hex, want string }{ // tag=value ..., ! at an error
		{"empty", "", ""},
		{"one", "9F360201AE", "9F36=01AE"},
		{"zero padding", "0000 9505008004E000 00 9A031807 06 00", "95=008004E000 9A=180706"},
		{"zeros at the end", "9C0100 000000", "9C=00"},
		{"zero length", "9F6300 9C0100", "9F63= 9C=00"},
		{"length 81", "57 81 02 6228", "57=6228"},
		{"length 82", "57 82 0002 6228", "57=6228"},
		{"length 83", "57 83 000002 6228", "57=6228"},
		{"length 84", "57 84 00000002 6228", "!"},
		{"indefinite", "70 80 9C0100 0000", "!"},
		{"length beyond", "9F3602", "!"},
		{"length far beyond", "5A 83 FFFFFF 01", "!"},
		{"length cut", "5A 82 01", "!"},
		{"no length", "5A", "!"},
		{"tag cut", "9F", "!"},
		{"tag without end", "9F FF FF FF FF 01 00", "!"},
		{"tag of three", "DF8105 01 02", "DF8105=02"},
		{"tag of four", "DF818105 01 02", "DF818105=02"},
		{"constructed stays whole", "72 05 86 03 010203", "72=8603010203"},
		{"second broken", "9C0100 5A0A62", "9C=00 !"},
	} {
		var got []string
		for tlv, err := range WalkTLV(unhex(t, c.hex)) {
			if err != nil {
				if !errors.Is(err, ErrTLV) {
					t.Errorf("%s: %v", c.name, err)
				}
				got = append(got, "!")
				continue
			}
			got = append(got, tagText(tlv.Tag)+"="+strings.ToUpper(hex.EncodeToString(tlv.Value)))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

func TestFindAndAppendTLV(t *testing.T) {
	var b []byte
	values := map[uint32]int{0x9A: 3, 0x9F36: 2, 0x9F26: 8, 0xDF8105: 127, 0xDF818105: 128, 0x71: 255, 0x72: 256, 0x5A: 65536}
	order := []uint32{0x9A, 0x9F36, 0x9F26, 0xDF8105, 0xDF818105, 0x71, 0x72, 0x5A}
	for _, tag := range order {
		b = AppendTLV(b, tag, bytes.Repeat([]byte{byte(tag)}, values[tag]))
	}
	for _, tag := range order {
		v, ok := FindTLV(b, tag)
		if !ok || len(v) != values[tag] || v[0] != byte(tag) {
			t.Errorf("%X: %d bytes, %v", tag, len(v), ok)
		}
	}
	if _, ok := FindTLV(b, 0x95); ok {
		t.Error("95 was found")
	}
	if v, ok := FindTLV(unhex(t, "00 5A84 9F360201AE"), 0x9F36); ok {
		t.Errorf("found behind an unreadable object: %X", v)
	}
	for range WalkTLV(b) {
		break // a caller may stop
	}
	if a := testing.AllocsPerRun(100, func() { FindTLV(b, 0x5A) }); a != 0 {
		t.Errorf("FindTLV: %v allocations", a)
	}
	if TagName(0x9F26) == "" || TagName(0x01) != "" {
		t.Error("tag names")
	}
}

func TestDE59(t *testing.T) {
	b, err := AppendDE59(nil, "A3", []byte("6228480402564890189"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = AppendDE59(b, "A4", nil); err != nil || string(b) != "A30196228480402564890189A4000" {
		t.Fatalf("%q %v", b, err)
	}
	if v, ok := FindDE59(b, "A3"); !ok || string(v) != "6228480402564890189" {
		t.Errorf("%q %v", v, ok)
	}
	if v, ok := FindDE59(b, "A4"); !ok || len(v) != 0 {
		t.Errorf("%q %v", v, ok)
	}
	if _, ok := FindDE59(b, "A5"); ok {
		t.Error("A5 was found")
	}
	for _, bad := range []string{"A", "A3", "A301", "A3001", "A300X1", "A3999abc", "A4000A3002"} {
		var last error
		for _, err := range WalkDE59([]byte(bad)) {
			last = err
		}
		if !errors.Is(last, ErrElement) {
			t.Errorf("%q: %v", bad, last)
		}
	}
	for e, err := range WalkDE59(b) {
		if err != nil || e.Tag != "A3" {
			t.Errorf("%+v %v", e, err)
		}
		break
	}
	if _, err := AppendDE59(nil, "A", nil); err == nil {
		t.Error("a tag of one character")
	}
	if _, err := AppendDE59(nil, "A3", make([]byte, 1000)); err == nil {
		t.Error("a value of 1000 bytes")
	}
	if a := testing.AllocsPerRun(100, func() { FindDE59(b, "A4") }); a != 0 {
		t.Errorf("FindDE59: %v allocations", a)
	}
}

func TestDE60To61(t *testing.T) {
	for text, want := range map[string]DE60{
		"22000001":          {MessageType: 22, Batch: 1, Digits: 8},
		"00000132003":       {Batch: 132, NetworkCode: 3, Digits: 11},
		"220000010006":      {MessageType: 22, Batch: 1, Capability: 6, Digits: 12},
		"2200000700050":     {MessageType: 22, Batch: 7, Capability: 5, Digits: 13},
		"22000006000601":    {MessageType: 22, Batch: 6, Capability: 6, PartialApproval: 1, Digits: 14},
		"220000060006010":   {MessageType: 22, Batch: 6, Capability: 6, PartialApproval: 1, Digits: 15},
		"22000006000521065": {MessageType: 22, Batch: 6, Capability: 5, ICCondition: 2, PartialApproval: 1, AccountType: 65, Digits: 17},
	} {
		var m Message
		m.Reset(UnionPayPOS, 0x0200)
		m.Set(60, text)
		if got, ok := ParseDE60(&m); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", text, got, ok, want)
		}
		if got := want.String(); text != "220000060006010" && got != text {
			t.Errorf("%+v is %s, want %s", want, got, text)
		}
	}
	var m Message
	if _, ok := ParseDE60(&m); ok {
		t.Error("DE 60 of nothing")
	}
	m.Reset(UnionPayPOS, 0x0200)
	m.Set(60, "2200000")
	if _, ok := ParseDE60(&m); ok {
		t.Error("seven digits")
	}
	m.Set(60, strings.Repeat("1", 999))
	if d, ok := ParseDE60(&m); !ok || d.Digits != 999 || len(d.String()) != 17 {
		t.Errorf("%+v %v", d, ok)
	}
	m.Set(61, "1000290001260626")
	if d, ok := ParseDE61(&m); !ok || d != (DE61{Batch: 100029, STAN: 126, Date: 626, Digits: 16}) || string(d.AppendText(nil)) != "1000290001260626" {
		t.Errorf("%+v %v", d, ok)
	}
	m.Set(61, "100029000126")
	if d, ok := ParseDE61(&m); !ok || d != (DE61{Batch: 100029, STAN: 126, Digits: 12}) || string(d.AppendText(nil)) != "100029000126" {
		t.Errorf("%+v %v", d, ok)
	}
	m.Set(61, "1")
	if _, ok := ParseDE61(&m); ok {
		t.Error("DE 61 of one digit")
	}
	if _, ok := ParseDE53(&m); ok {
		t.Error("DE 53 of nothing")
	}
	m.Set(53, "2610000000000000")
	if d, ok := ParseDE53(&m); !ok || d != (DE53{PINFormat: 2, Algorithm: 6, Track: 1}) {
		t.Errorf("%+v %v", d, ok)
	}
	if m.Err() != nil {
		t.Error(m.Err())
	}
}

func FuzzDE55(f *testing.F) {
	for _, c := range captures(f) {
		if p, err := ReadCapture(c.raw, nil); err == nil && p.Message.Has(55) {
			f.Add(p.Message.Bytes(55))
		}
	}
	f.Add(unhex(f, "5A84 FFFFFFFF"))
	f.Add(unhex(f, "7011 5A0A6228480402564890018F 9F36020196"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 999 {
			return
		}
		var again []byte
		whole := true
		for tlv, err := range WalkTLV(b) {
			if err != nil {
				whole = false
				break
			}
			again = AppendTLV(again, tlv.Tag, tlv.Value)
			if v, ok := FindTLV(b, tlv.Tag); !ok || v == nil && len(tlv.Value) > 0 {
				t.Fatalf("tag %X was walked and is not found", tlv.Tag)
			}
		}
		// Written anew, they read the same.
		if whole {
			next, stop := iter.Pull2(WalkTLV(again))
			defer stop()
			for want := range WalkTLV(b) {
				got, err, ok := next()
				if !ok || err != nil || got.Tag != want.Tag || !bytes.Equal(got.Value, want.Value) {
					t.Fatalf("%X: tag %X comes back as %X %v", b, want.Tag, got.Tag, err)
				}
			}
		}
		describeField(t, 55, b)
	})
}

func FuzzDE59(f *testing.F) {
	for _, c := range captures(f) {
		if p, err := ReadCapture(c.raw, nil); err == nil && p.Message.Has(59) {
			f.Add(p.Message.Bytes(59))
		}
	}
	f.Add([]byte("A2039010020202016000029021001570803006018890A30196228480402564890189"))
	f.Add([]byte("A3999"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 999 {
			return
		}
		var again []byte
		for e, err := range WalkDE59(b) {
			if err != nil {
				again = nil
				break
			}
			if _, ok := FindDE59(b, e.Tag); !ok {
				t.Fatalf("%q was walked and is not found", e.Tag)
			}
			if again, err = AppendDE59(again, e.Tag, e.Value); err != nil {
				t.Fatal(err)
			}
		}
		if again != nil && !bytes.Equal(again, b) {
			t.Fatalf("%q comes back as %q", b, again)
		}
		describeField(t, 59, b)
		describeField(t, 46, b)
		describeField(t, 62, b)
		describeField(t, 63, b)
	})
}

// describeField describes a message whose DE n is b, in several contexts, and
// brings it through JSON.
func describeField(t *testing.T, n int, b []byte) {
	for _, c := range []struct {
		mti MTI
		de  string
	}{{0x0200, "22000001000500"}, {0x0810, "00000001004"}, {0x0830, "00000001382"}, {0x0820, "00000001362"}, {0x0810, "00000001394"}, {0x0820, "07000001800"}} {
		x := &Capture{Dialect: UnionPayPOS, Length: -1}
		m := &x.Message
		m.Reset(UnionPayPOS, c.mti)
		m.Set(2, "6228480402564890018")
		m.Set(60, c.de)
		m.SetBytes(n, b)
		want, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		Describe(m)
		Reveal(m)
		j, err := x.JSON(true)
		if err != nil {
			t.Fatal(err)
		}
		back, err := CaptureFromJSON(j)
		if err != nil {
			t.Fatalf("%v: %s", err, j)
		}
		if got, err := back.Append(nil); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%X comes back as %X %v", want, got, err)
		}
	}
}

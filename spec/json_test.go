package spec

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestJSONRefusals(t *testing.T) {
	const head = `{"dialect":"unionpay-pos","framing":{"length":null,"tpdu":"","header":""},"mti":"0800",`
	for _, c := range []struct{ name, json, why string }{
		{"no JSON", `{`, "JSON"},
		{"text behind", head + `"bitmap":"","fields":{}} x`, "more text behind it"},
		{"unknown key", head + `"bitmaps":""}`, "bitmaps"},
		{"dialect", `{"dialect":"visa"}`, `dialect "visa"`},
		{"no dialect", `{}`, "dialect"},
		{"mti", strings.Replace(head, "0800", "800", 1) + `"fields":{}}`, "mti"},
		{"mti of version 1", strings.Replace(head, "0800", "1800", 1) + `"fields":{}}`, "mti"},
		{"no mti", `{"dialect":"unionpay-pos","fields":{"11":"000001"}}`, "mti"},
		{"field name", head + `"fields":{"eleven":"000001"}}`, `"eleven" is not a field number`},
		{"field 011", head + `"fields":{"011":"000001"}}`, `"011" is not a field number`},
		{"field 65", head + `"fields":{"65":"1"}}`, "DE 65"},
		{"field 129", head + `"fields":{"129":"1"}}`, `"129" is not a field number`},
		{"short field", head + `"fields":{"11":"1"}}`, "DE 11 (受卡方系统跟踪号 System trace audit number): length 1, want 6"},
		{"masked PAN", head + `"fields":{"2":"622848******0018"}}`, "DE 2 (主账号 Primary account number): the value is masked"},
		{"masked key", head + `"fields":{"62":"****900ECCE3"}}`, "masked"},
		{"masked text", head + `"fields":{"63":"SM016****************"}}`, "masked"},
		{"masked bytes of a text", head + `"fields":{"63":"hex:0102******"}}`, "masked"},
		{"bitmap", head + `"bitmap":"0020000000C00012","fields":{"11":"000001"}}`, "bitmap: want 0020000000000000"},
		{"not GBK", head + `"fields":{"63":"😀"}}`, "GBK does not have"},
		{"bad hex mark", head + `"fields":{"63":"hex:0G"}}`, "hexadecimal"},
		{"odd hex mark", head + `"fields":{"63":"hex:012"}}`, "even number"},
		{"tpdu", `{"dialect":"unionpay-pos","framing":{"tpdu":"60"},"mti":"0800"}`, "tpdu is 1 bytes, want 5"},
		{"another tpdu", `{"dialect":"unionpay-pos","framing":{"tpdu":"0000000000"},"mti":"0100"}`, "begin with 60"},
		{"FD as header", `{"dialect":"unionpay-pos","framing":{"header":"FD0000000000"},"mti":"0100"}`, "begins with FD"},
		{"header", `{"dialect":"unionpay-pos","framing":{"header":"60XX"},"mti":"0800"}`, "header is not hexadecimal"},
		{"negative length", `{"dialect":"unionpay-pos","framing":{"length":-1},"mti":"0800"}`, "negative"},
		{"extra", `{"dialect":"unionpay-pos","framing":{"tpdu":"6000000000","header":"600000000000","extra":"FD0002AA"},"mti":"0800"}`, "extra"},
		{"extra without header", `{"dialect":"unionpay-pos","framing":{"extra":"FD0001AA"},"mti":"0800"}`, "both are needed"},
		{"tpdu of cups", `{"dialect":"cups","framing":{"tpdu":"6000000000"},"mti":"0800"}`, "a header alone"},
		{"cups header", `{"dialect":"cups","framing":{"header":"2E02"},"mti":"0800"}`, "want 46"},
		{"cups header of letters", `{"dialect":"cups","framing":{"header":"` + strings.Repeat("41", 46) + `"},"mti":"0800"}`, "header length 2E"},
		{"header with fields", `{"dialect":"cups","framing":{"header":"2E023034303730333035303030312020203030303130303030202020414139013030303030303030003030303030"},"mti":"","fields":{"11":"000001"}}`, "mti"},
	} {
		p, err := CaptureFromJSON([]byte(c.json))
		if err == nil {
			_, err = p.Append(nil)
		}
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %s", c.name, err, c.why)
		}
		if err != nil && strings.Contains(err.Error(), "622848") {
			t.Errorf("%s: the error tells the value", c.name)
		}
	}
}

func TestJSONWithoutDerivedValues(t *testing.T) {
	p, err := CaptureFromJSON([]byte(`{"dialect":"unionpay-pos","framing":{"length":1,"tpdu":"6000060000","header":"603100311003"},"mti":"0820","fields":{"60":"00000001301","41":"10000019"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Append(nil)
	if err != nil || !bytes.Equal(got, unhex(t, "0025 6000060000 603100311003 0820 0000000000800010 3130303030303139 0011 000000013010")) {
		t.Errorf("%X %v", got, err)
	}
}

// Texts are shown as UTF-8 only when the bytes come back.
func TestShownText(t *testing.T) {
	for _, c := range []struct{ hex, shown string }{
		{"B3C9B9A6", "成功"},
		{"303120", "01 "},
		{"", ""},
		{"80", "€"},
		{"FF", "hex:FF"},
		{"B3", "hex:B3"},
		{"A1", "hex:A1"},
		{"013536", "hex:013536"},
		{"410A", "hex:410A"},
		{"7F", "hex:7F"},
		{"6865783A3431", "hex:6865783A3431"},
		{"2A2A2A", "hex:2A2A2A"},
		{"55424552202A2A54524950", "UBER **TRIP"},
		{"EFBFBD", "hex:EFBFBD"},
		{"A2E3", "hex:A2E3"},
	} {
		b := unhex(t, c.hex)
		s := shownText(b, 0, nil)
		if s != c.shown {
			t.Errorf("%s is shown as %q, want %q", c.hex, s, c.shown)
		}
		if back, why := wireText(s); why != "" || !bytes.Equal(back, b) {
			t.Errorf("%s comes back as %X %s", c.hex, back, why)
		}
	}
	// Every pair of bytes comes back.
	for i := range 1 << 16 {
		b := []byte{byte(i >> 8), byte(i)}
		if back, why := wireText(shownText(b, 0, nil)); why != "" || !bytes.Equal(back, b) {
			t.Fatalf("%X comes back as %X %s", b, back, why)
		}
	}
}

// What may not be seen of the captures is not seen: not in the description,
// not in the JSON, not in any form the bytes have.
func TestMasked(t *testing.T) {
	for _, c := range captures(t) {
		p, err := ReadCapture(c.raw, nil)
		if err != nil {
			continue
		}
		j, err := p.JSON(false)
		if err != nil {
			t.Fatal(err)
		}
		out := strings.ToUpper(string(j) + "\n" + strings.Join(shown(Describe(&p.Message)), "\n"))
		m := &p.Message
		hide := func(what, secret string) {
			if len(secret) < 8 || strings.Trim(secret, "0") == "" {
				return
			}
			for _, form := range []string{secret, hex.EncodeToString([]byte(secret))} {
				if strings.Contains(out, strings.ToUpper(form)) {
					t.Errorf("%s: %s is shown", c.ID, what)
				}
			}
		}
		hide("the account number", m.Text(2))
		hide("the PIN block", m.Text(52))
		track := strings.ReplaceAll(m.Text(35), "D", "=")
		pan, rest, _ := strings.Cut(track, "=")
		hide("the account number of track 2", pan)
		hide("track 2 behind the account number", rest)
		if m.Has(62) && m.MTI().Class() == 8 && m.Len(62) >= 40 && m.Len(62) <= 64 {
			hide("a key", m.Text(62)[:16])
			hide("another key", m.Text(62)[40:56])
		}
		if sm, ok := strings.CutPrefix(m.Text(63), "SM016"); ok {
			hide("the SM4 PIN", sm)
		}
		for _, n := range []int{102, 103} {
			hide("an account", m.Text(n))
		}
	}
}

// Card data in places where it does not belong is hidden as well.
func TestMaskedElsewhere(t *testing.T) {
	const pan, other, track = "6228480402564890018", "4761739001010010", "301222012345"
	for _, c := range []struct {
		name string
		d    *Dialect
		set  func(m *Message)
	}{
		{"repeated in texts", UnionPayPOS, func(m *Message) {
			m.Set(2, pan)
			m.Set(63, "CUP card "+pan+" thanks")
			m.SetBytes(62, []byte("x"+pan))
			m.SetBytes(55, append([]byte{0x9F, 0x7C, 19}, pan...))
			m.Set(48, "1234"+pan)
			m.Set(104, pan)
		}},
		{"of the chip alone", UnionPayPOS, func(m *Message) {
			m.SetBytes(55, unhex(t, "5A0A"+pan+"F"))
			m.Set(63, "CUP"+pan)
		}},
		{"of track 2 of the chip", UnionPayPOS, func(m *Message) {
			m.SetBytes(55, unhex(t, "5710"+pan+"D"+track))
			m.Set(57, pan)
		}},
		{"of track 3", UnionPayPOS, func(m *Message) { m.Set(36, pan+"="+track); m.Set(61, "000000"+pan) }},
		{"another card in a text", UnionPayPOS, func(m *Message) { m.Set(2, pan); m.Set(57, "to "+other+".") }},
		{"another card of CUPS", CUPS, func(m *Message) { m.Set(2, pan); m.Set(48, "AA016"); m.Set(62, other); m.Set(103, other) }},
		{"in a template of another scheme", UnionPayPOS, func(m *Message) { m.SetBytes(55, unhex(t, "FF8106 0C 5A0A"+pan+"F")) }},
		{"behind a broken object", UnionPayPOS, func(m *Message) { m.SetBytes(55, unhex(t, "9F3684 5A0A"+pan+"F")) }},
		{"tracks in texts", UnionPayPOS, func(m *Message) {
			m.Set(2, pan)
			m.Set(63, "CUP"+pan+"="+track)
			m.Set(57, other+"D"+track+" swiped")
			m.SetBytes(62, []byte(pan+"="+track))
		}},
		{"in upload details", UnionPayPOS, func(m *Message) {
			m.SetMTI(0x0320)
			m.Set(48, "0100000001"+"0"+pan+"000000000100")
		}},
		{"where an original should be", UnionPayPOS, func(m *Message) { m.Set(61, other) }},
		{"in details nobody knows", UnionPayPOS, func(m *Message) { m.Set(48, "01000001"+pan+"000000000100") }},
	} {
		var m Message
		m.Reset(c.d, 0x0200)
		c.set(&m)
		if m.Err() != nil {
			t.Fatal(c.name, m.Err())
		}
		x := &Capture{Dialect: c.d, Length: -1, Message: m}
		j, err := x.JSON(false)
		if err != nil {
			t.Fatal(err)
		}
		out := string(j) + strings.Join(shown(Describe(&m)), "\n")
		for _, secret := range []string{pan, other, track} {
			if strings.Contains(out, secret) || strings.Contains(out, strings.ToUpper(hex.EncodeToString([]byte(secret)))) {
				t.Errorf("%s: %s is shown: %s", c.name, secret, j)
			}
		}
		if _, err := CaptureFromJSON(j); err == nil || !strings.Contains(err.Error(), "masked") {
			t.Errorf("%s: masked JSON was encoded: %v", c.name, err)
		}
	}
}

// Errors of every kind keep silent about values.
func TestErrorsAreSilent(t *testing.T) {
	raw := unhex(t, "0200 7000000000000000 19 6228480402564890018 0 000000 0000000001A0")
	_, err := ReadCapture(raw, nil)
	if err == nil || strings.Contains(err.Error(), "0402564890018") {
		t.Error(err)
	}
}

func FuzzEncodeJSON(f *testing.F) {
	for _, c := range captures(f) {
		if p, err := ReadCapture(c.raw, nil); err == nil {
			j, err := p.JSON(true)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(j)
			if j, err = p.JSON(false); err == nil {
				f.Add(j)
			}
		}
	}
	f.Add([]byte(`{"dialect":"cups","framing":{},"mti":"0800","fields":{"48":"NK","63":"hex:FF","128":"0102030405060708"}}`))
	f.Fuzz(func(t *testing.T, j []byte) {
		p, err := CaptureFromJSON(j)
		if err != nil {
			return
		}
		first, err := p.Append(nil)
		if err != nil {
			return
		}
		again, err := p.JSON(true)
		if err != nil {
			t.Fatal(err)
		}
		q, err := CaptureFromJSON(again)
		if err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		if second, err := q.Append(nil); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%X comes back as %X %v", first, second, err)
		}
		if p.Message.MTI() == 0 {
			return
		}
		var m Message
		packed, err := p.Message.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Dialect.Parse(&m, packed); err != nil {
			t.Fatalf("what was encoded is not read: %v", err)
		}
		if _, err := ReadCapture(first, nil); err != nil {
			t.Fatalf("what was encoded is not decoded: %v: %X", err, first)
		}
	})
}

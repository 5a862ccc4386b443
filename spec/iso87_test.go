package spec

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// The bytes of one message as ISO 8583:1987 has them, in both encodings.
func TestISO87Wire(t *testing.T) {
	fields := map[int]string{2: "4761739001010010", 3: "000000", 22: "021", 35: "4761739001010010=3012201", 41: "10000001", 90: "020000000109291030450000000000000000000000", 128: "0102030405060708"}
	for _, c := range []struct{ name, want string }{
		{"iso87-ascii", strings.Join([]string{"30343230", "E000040020800000", "0000004000000001", "3136" + hexOf("4761739001010010"), hexOf("000000"), hexOf("021"),
			hexOf("24" + "4761739001010010=3012201"), hexOf("10000001"), hexOf("020000000109291030450000000000000000000000"), "0102030405060708"}, "")},
		{"iso87-bcd", strings.Join([]string{"0420", "E000040020800000", "0000004000000001", "16" + "4761739001010010", "000000", "0021",
			"24" + "4761739001010010D3012201", hexOf("10000001"), "020000000109291030450000000000000000000000", "0102030405060708"}, "")},
	} {
		d, err := Load(c.name)
		if err != nil {
			t.Fatal(err)
		}
		m := parsed(t, d, 0x0420, fields)
		if !bytes.Equal(m.Raw(), unhex(t, c.want)) {
			t.Errorf("%s:\n%X, want\n%s", c.name, m.Raw(), c.want)
		}
		if d.MACField(m) != 128 {
			t.Errorf("%s: the MAC is in DE %d", c.name, d.MACField(m))
		}
		block, mac := SignedPart(m.Raw())
		if len(block) != len(m.Raw())-8 || !bytes.Equal(mac, []byte{1, 2, 3, 4, 5, 6, 7, 8}) {
			t.Errorf("%s: MAC %X", c.name, mac)
		}
	}
}

func hexOf(s string) string { return upperHex([]byte(s)) }

// A recording of each dialect is read with whatever framing it has, described
// without card data, and comes back from its JSON as the same bytes.
func TestISO87Captures(t *testing.T) {
	dialects := append(oracleDialects(t)[2:], framed(t, `{"length_bytes": 4, "length_encoding": "ascii", "tpdu": true, "header": 3}`))
	for _, d := range dialects {
		var m Message
		m.Reset(d, 0x0200)
		for n, v := range map[int]string{2: goodPAN, 3: "000000", 35: goodTrack, 62: "FFFF9876543210E00001", 64: zero64} {
			m.Set(n, v)
		}
		if d.cells[55].kind != 0 {
			m.SetBytes(55, unhex(t, "5A0A6228480402564890018F9F36020001"))
			m.Set(48, "CVV2 123")
			m.Set(90, de90)
		}
		f := d.Framing()
		sent, err := d.AppendFrame(nil, [5]byte{0x60, 0, 3}, bytes.Repeat([]byte{'H'}, f.Header), &m)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range [][]byte{sent, sent[f.LengthBytes:], d.FrameBody(sent)} {
			c, err := ReadCapture(raw, d)
			if err != nil {
				t.Errorf("%s: %v", d.Name(), err)
				continue
			}
			for _, v := range shown(append(Describe(&c.Message), c.Framing()...)) {
				for _, secret := range []string{goodPAN, goodTrack, "CVV2", "30122201"} {
					if strings.Contains(v, secret) {
						t.Errorf("%s shows %s", d.Name(), secret)
					}
				}
			}
			j, err := c.JSON(true)
			if err != nil || !json.Valid(j) {
				t.Fatal(err)
			}
			back, err := CaptureFromJSON(j, d)
			if err != nil {
				t.Fatalf("%s: %v", d.Name(), err)
			}
			if again, err := back.Append(nil); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("%s: came back as\n%X, was\n%X: %v", d.Name(), again, raw, err)
			}
			masked, err := c.JSON(false)
			if err != nil || bytes.Contains(masked, []byte(goodPAN)) {
				t.Errorf("%s: %s %v", d.Name(), masked, err)
			}
			if _, err := CaptureFromJSON(masked, d); err == nil {
				t.Errorf("%s: masked JSON is encoded", d.Name())
			}
		}
	}
}

// A field of private use is shown when the file says so.
func TestShow(t *testing.T) {
	for _, show := range []bool{false, true} {
		text := small
		if show {
			text = strings.Replace(small, `"length": 20`, `"length": 20, "show": true`, 1)
		}
		d, err := ReadDialect("small", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		m := parsed(t, d, 0x0200, map[int]string{62: "FFFF9876543210E00001"})
		if got := Describe(m)[0].Value; (got == "FFFF9876543210E00001") != show {
			t.Errorf("show %v: %q", show, got)
		}
	}
}

func TestCaptureFromJSONDialects(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`{"dialect":"mine","mti":"0800"}`, `dialect "mine": want unionpay-pos, cups, iso87-ascii, iso87-bcd, or the name of a dialect file that is given`},
		{`{"dialect":"/etc/passwd","mti":"0800"}`, `dialect "/etc/passwd": want unionpay-pos, cups, iso87-ascii, iso87-bcd, or the name of a dialect file that is given`},
		{`{"dialect":"iso87-ascii","framing":{"tpdu":"6000030000"},"mti":"0800"}`, `framing: iso87-ascii has no tpdu`},
		{`{"dialect":"iso87-bcd","framing":{"header":"603100311108"},"mti":"0800"}`, `framing: iso87-bcd has no header`},
		{`{"dialect":"iso87-bcd","framing":{"extra":"FD0000"},"mti":"0800"}`, `framing: iso87-bcd has no FD block`},
	} {
		if _, err := CaptureFromJSON([]byte(c.json)); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", c.json, err)
		}
	}
}

// FuzzDialectFile: no text makes the reader panic; what it takes prints as a
// file that is taken too, and messages of such a dialect are read like moov
// reads them, and described, whatever their fields look like.
func FuzzDialectFile(f *testing.F) {
	// Small seeds: TestDialectFilesRoundTrip has the whole dialects.
	f.Add([]byte(small), []byte("020070000000200000051912345678901234567890000000003123"))
	odd := `{"name":"odd","mti":"bcd","bitmap":"binary","numeric":"bcd-pad-left","track":"bcd","prefixes":"bcd","framing":{"length_bytes":2,"length_encoding":"binary"},
"fields":[{"field":3,"name":"","kind":"n","length":1,"prefix":"LL"},{"field":22,"name":"","kind":"n","length":2},{"field":53,"name":"","kind":"b","length":2},{"field":90,"name":"","kind":"ans","length":42},{"field":12,"name":"","kind":"n","length":3}],
"presence":[{"message":"echo","mti":"0800","when":"DE 22 digit 2 = 1 and DE 53 digits 1-4 != ABCD","forbidden":[3]}]}`
	f.Add([]byte(odd), unhex(f, "0800 2010040000000800 00 0001 0012 FFFF"))
	f.Fuzz(func(t *testing.T, text, raw []byte) {
		d, err := ReadDialect("fuzz", text)
		if err != nil {
			return
		}
		printed := d.File()
		back, err := ReadDialect("printed", printed)
		if err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
		if !bytes.Equal(back.File(), printed) {
			t.Fatalf("printed twice:\n%s\n%s", printed, back.File())
		}
		compare(t, d, raw)
		var m Message
		if d.Parse(&m, raw) == nil {
			Describe(&m)
			Reveal(&m)
			ParseDE53(&m)
			ParseDE60(&m)
			ParseDE61(&m)
			ParseDE90(&m)
			FindOriginal(&m)
			NetworkCode(&m)
			d.KSN(&m)
			d.Check(&m)
			d.Signs(&m)
		}
		if c, err := ReadCapture(raw, d); err == nil {
			j, err := c.JSON(true)
			if err != nil {
				t.Fatal(err)
			}
			again, err := CaptureFromJSON(j, d)
			if err != nil {
				t.Fatalf("%v\n%s", err, j)
			}
			if out, err := again.Append(nil); err != nil || !slices.Equal(out, raw) {
				t.Fatalf("%X came back as %X: %v", raw, out, err)
			}
		}
	})
}

package spec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// malformed are the captures whose own notes call them so, with what must be
// said of them.
var malformed = map[string]string{
	// the dump stops before the announced DE 64: it is the block a MAC is computed over
	"sale-req-ic-landi": "unionpay-pos: DE 64 (报文鉴别码 Message authentication code) at byte 254: want 8 bytes, found the end of the message",
	// DE 14 was taken out by hand and the length left
	"void-resp-points": "frame of length 226 at byte 0: want 226 bytes behind the length, found 224",
}

// Some more have notes that call a value strange; as messages they are whole:
// settle-resp (DE 49 is 01 35 36, kept as bytes), kdb-signin-resp (DE 62 of 57
// bytes, the last check value cut), refund-req (DE 22 padded on the left).

func TestCaptures(t *testing.T) {
	cs := captures(t)
	if len(cs) < 55 {
		t.Fatalf("%d captures, want at least 55", len(cs))
	}
	seen := map[string]bool{}
	for _, c := range cs {
		seen[c.ID] = true
		t.Run(c.ID, func(t *testing.T) {
			p, err := ReadCapture(c.raw, nil)
			if want, bad := malformed[c.ID]; bad {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := UnionPayPOS
			if strings.HasPrefix(c.ID, "cup") {
				want = CUPS
			}
			if p.Dialect != want {
				t.Errorf("dialect %s, want %s", p.Dialect.Name(), want.Name())
			}
			if framed := c.raw[2] == 0x60 && c.raw[0] < 2; framed != (p.Length >= 0) {
				t.Errorf("length %d", p.Length)
			}
			if (p.Extra != nil) != (c.ID == "sale-req-ic-fdheader") {
				t.Errorf("FD block %X", p.Extra)
			}
			back, err := p.Append(nil)
			if err != nil || !bytes.Equal(back, c.raw) {
				t.Errorf("packed %X %v", back, err)
			}
			// DE by DE, set anew, it is the same message.
			if p.Message.MTI() != 0 {
				var m, n Message
				m.Reset(p.Dialect, p.Message.MTI())
				n.Reset(p.Dialect, p.Message.MTI())
				m.wide, n.wide = p.Message.wide, p.Message.wide
				for i := 128; i > 1; i-- {
					if p.Message.Has(i) {
						m.Copy(&p.Message, i)
						if i != 22 { // its text does not tell on which side refund-req padded it
							n.Set(i, p.Message.Text(i))
						} else {
							n.Copy(&p.Message, i)
						}
					}
				}
				for _, b := range []*Message{&m, &n} {
					packed, err := b.Append(nil)
					if err != nil || !bytes.HasSuffix(c.raw, packed) || len(packed) < 10 {
						t.Errorf("built anew %X %v", packed, err)
					}
				}
			}
			clear, err := p.JSON(true)
			if err != nil {
				t.Fatal(err)
			}
			q, err := CaptureFromJSON(clear)
			if err != nil {
				t.Fatal(err)
			}
			if back, err = q.Append(nil); err != nil || !bytes.Equal(back, c.raw) {
				t.Errorf("from JSON %X %v", back, err)
			}
			masked, err := p.JSON(false)
			if err != nil {
				t.Fatal(err)
			}
			_, err = CaptureFromJSON(masked)
			if secret := !bytes.Equal(masked, clear); secret != (err != nil) || secret && !strings.Contains(err.Error(), "masked") {
				t.Errorf("masked JSON was encoded: %v", err)
			}
		})
	}
	for id := range malformed {
		if !seen[id] {
			t.Errorf("%s is not among the captures", id)
		}
	}
}

// TestFramings wraps one message in every framing that recordings have.
func TestFramings(t *testing.T) {
	const tpdu, header = "6004010000", "603100310001"
	const msg = "0800 0020000000C00012 000029 3632393639303032 333031333130303438393930303031 0011 000001320030 0003 303031"
	n := len(unhex(t, msg))
	length := func(n int) string { return hex.EncodeToString([]byte{byte(n >> 8), byte(n)}) }
	for _, c := range []struct {
		name, hex string
		length    int
	}{
		{"message", msg, -1},
		{"TPDU, header, message", tpdu + header + msg, -1},
		{"length, TPDU, header, message", length(n+11) + tpdu + header + msg, n + 11},
		{"length, message", length(n) + msg, n},
		{"length, TPDU, message", length(n+5) + tpdu + msg, n + 5},
		{"TPDU, message", tpdu + msg, -1},
		{"header, message", header + msg, -1},
		{"length, header, message", length(n+6) + header + msg, n + 6},
		{"FD block", length(n+11+6) + tpdu + "FD0003010203" + header + msg, n + 17},
		{"FD block without length", tpdu + "FD0000" + header + msg, -1},
	} {
		raw := unhex(t, c.hex)
		p, err := ReadCapture(raw, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if p.Message.Text(41) != "62969002" || p.Length != c.length {
			t.Errorf("%s: length %d, DE 41 %q", c.name, p.Length, p.Message.Text(41))
		}
		j, err := p.JSON(true)
		if err != nil {
			t.Fatal(err)
		}
		q, err := CaptureFromJSON(j)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if back, err := q.Append(nil); err != nil || !bytes.Equal(back, raw) {
			t.Errorf("%s: %X %v", c.name, back, err)
		}
	}
	cups := unhex(t, "30383230 8220000000000000 0400000000000000 30383235313132343030 383633373433 303031")
	for _, withHeader := range []bool{false, true} {
		raw := cups
		if withHeader {
			h, err := AppendCUPSHeader(nil, CUPSHeader{Destination: "00010000", Source: "03050001"}, len(cups))
			if err != nil {
				t.Fatal(err)
			}
			raw = append(h, cups...)
		}
		p, err := ReadCapture(raw, nil)
		if err != nil || p.Dialect != CUPS || p.Message.Text(70) != "001" {
			t.Fatal(err)
		}
		if back, err := p.Append(nil); err != nil || !bytes.Equal(back, raw) {
			t.Errorf("%X %v", back, err)
		}
	}
}

// TestShapes reads messages of shapes that the captures do not have.
func TestShapes(t *testing.T) {
	wide := "C020000000000000 0400000000000000" // bits 1, 2, 11 and 70
	for _, c := range []struct {
		name, hex string
		field     int
		text      string
	}{
		{"POS with a second bitmap", "0800" + wide + "16 6228480402564890 000001 3010", 70, "301"},
		{"second bitmap without need", "0820 8020000000000000 0000000000000000 000001", 11, "000001"},
		{"0930 with DE 56 to 58", "0930 00200000000001D0 000001 0003 303030 0003 414243 0004 31323334 0008 07000727", 58, "1234"},
		{"DE 46, 57, 58", "0200 00000000000400C0 0003 010203 0002 4142 0001 43", 57, "AB"},
		{"DE 62 of 999", "0810 0000000000000004 0999" + strings.Repeat("5A", 999), 62, strings.Repeat("5A", 999)},
		{"empty DE 63", "0800 0000000000000002 0000", 63, ""},
		{"DE 2 padded with F", "0200 4000000000000000 19 6228480402564890018F", 2, "6228480402564890018"},
		{"track padded with F", "0200 0000000020000000 37 62284804025648900 18D301222012345000 00F", 35, "6228480402564890018=30122201234500000"},
		{"encrypted track", "0200 0000000020000000 36 622848040256489D3012ABCDEF0123456700", 35, "622848040256489=3012ABC=EF0123456700"},
		{"whole track encrypted", "0200 0000000020000000 48 0123456789ABCDEF FEDCBA9876543210 00000000DFFFFFFF", 35, "0123456789ABC=EFFE=CBA987654321000000000=FFFFFFF"},
		{"whole track encrypted under SM4", "0200 0000000020000000 64" + strings.Repeat("0123456789ABCDEF", 4), 35, strings.Repeat("0123456789ABC=EF", 4)},
		{"whole track 3 encrypted under SM4", "0200 0000000010000000 0128" + strings.Repeat("FEDCBA9876543210", 8), 36, strings.Repeat("FE=CBA9876543210", 8)},
		{"DE 23 padded with F", "0200 0000020000000000 F001", 23, "001"},
		{"DE 22 padded with F", "0200 0000040000000000 021F", 22, "021"},
		{"DE 103 and 128", "0200 8000000000000000 0000000002000001 03 313233 0102030405060708", 103, "123"},
		{"DE 90", "0420 8000000000000000 0000004000000000 020000000108251124000000922500000000922500", 90, "020000000108251124000000922500000000922500"},
		{"CUPS key reset", "30383030 8020000000000800 0400000100000000 303030303031 32303030303030303030303030303030 313031 0011223344556677", 96, "0011223344556677"},
		{"CUPS DE 48, 57 to 60", "30323030 00000000000100F0 303036 4E4B31323334 303034 41423132 303031 31 303032 3130 303033 313233", 57, "AB12"},
	} {
		raw := unhex(t, c.hex)
		p, err := ReadCapture(raw, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := p.Message.Text(c.field); got != c.text || !p.Message.Has(c.field) {
			t.Errorf("%s: DE %d is %q, want %q", c.name, c.field, got, c.text)
		}
		j, err := p.JSON(true)
		if err != nil {
			t.Fatal(err)
		}
		q, err := CaptureFromJSON(j)
		if err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, j)
			continue
		}
		if back, err := q.Append(nil); err != nil || !bytes.Equal(back, raw) {
			t.Errorf("%s: %X %v\n%s", c.name, back, err, j)
		}
	}
}

// TestRefusals: a wrong message says field, offset, what was expected and what
// was found; its type and the fields before the wrong one stay readable, and
// nothing behind it.
func TestRefusals(t *testing.T) {
	const good = "0200 3020048000C00010 000000 000000000100 000001 0210 00 3132333435363738 313233343536373839303132333435 0008 22000001"
	body := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	for _, c := range []struct {
		name, hex string
		field     int
		offset    int
		why       string
	}{
		{"A in an amount", body("000000000100", "0000000001A0"), 4, 18, "want decimal digits, found A0"},
		{"F in a STAN", body("000001 0210", "F00001 0210"), 11, 19, "want decimal digits, found F0"},
		{"wrong padding", body("0210", "1212"), 22, 23, "want padding nibble 0 or F on the right, found 12"},
		{"hexadecimal length", body("0008 22", "000A 22"), 60, 48, "want a decimal length"},
		{"field is not there", body("C00010", "C00011"), 64, 54, "want 8 bytes, found the end of the message"},
		{"cut", good[:len(good)-2], 60, 50, "want 4 bytes, found 3 before the end of the message"},
		{"cut in a length", good[:len(good)-11], 60, 48, "want a length of 2 bytes, found 1 before"},
		{"cut in the bitmap", "0200302004", 1, 2, "want 8 bytes, found 3"},
		{"cut in the second bitmap", "0200 8000000000000000 00", 1, 10, "want 8 bytes of the second bitmap, found 1"},
		{"third bitmap", "0200 8000000000000000 8000000000000000", 1, 10, "bit 65 clear"},
		{"trailing", good + "00", -1, 54, "want the end of the message, found 1 more bytes"},
		{"letters as MTI", "0A00" + good[4:], 0, 0, "want decimal digits, found 0A"},
		{"long PAN", "0200 4000000000000000 20 62284804025648901234", 2, 10, "want a length of at most 19, found 20"},
		{"one byte", "02", 0, 0, "want 2 bytes, found 1"},
		{"nothing", "", 0, 0, "want 2 bytes, found 0"},
	} {
		var m Message
		err := UnionPayPOS.Parse(&m, unhex(t, c.hex))
		var p *ParseError
		if !errors.As(err, &p) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if p.Field != c.field || p.Offset != c.offset || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: DE %d at %d: %v, want DE %d at %d: %s", c.name, p.Field, p.Offset, err, c.field, c.offset, c.why)
		}
		if known := c.field != 0; known != (m.MTI() == 0x0200) || !known && m.MTI() != 0 {
			t.Errorf("%s: the type is %s", c.name, m.MTI())
		}
		for _, n := range []int{3, 4, 11, 22, 25, 41, 42, 60} {
			if want := whole(t, good).Text(n); c.field == -1 || n < c.field && len(c.hex) > 50 {
				if m.Text(n) != want {
					t.Errorf("%s: DE %d is %q, want %q", c.name, n, m.Text(n), want)
				}
			} else if m.Has(n) {
				t.Errorf("%s: DE %d, behind the wrong one, is there", c.name, n)
			}
		}
	}
	for _, c := range []struct{ name, hex, why string }{
		{"letters in a CUPS amount", "30323030 1000000000000000 303030303030303030314130", "DE 4 (交易金额 Amount) at byte 22: want ASCII digits, found 41"},
		{"CUPS length of letters", "30323030 0000000000000010 304130", "DE 60 (自定义域 Reason, terminal, indicators) at byte 12: want a decimal length"},
		{"control in a CUPS track", "30323030 0000000020000000 3033 310032", "want printable ASCII, found 00"},
	} {
		var m Message
		if err := CUPS.Parse(&m, unhex(t, c.hex)); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %s", c.name, err, c.why)
		}
	}
}

func whole(t *testing.T, text string) *Message {
	var m Message
	if err := UnionPayPOS.Parse(&m, unhex(t, text)); err != nil {
		t.Fatal(err)
	}
	return &m
}

// TestWhichFraming: the error of a recording is about the framing it most
// likely has.
func TestWhichFraming(t *testing.T) {
	good := unhex(t, "003C600401000060310031000108000020000000C00012000029363239363930303233303133313030343839393030303100110000013200300003303031")
	cups := func(total, stan string) []byte {
		h := unhex(t, "2E023030363430333035303030312020203030303130303030202020414139013030303030303030003030303030")
		h = append(h, "0800\x00\x20\x00\x00\x00\x00\x00\x00"...)
		copy(h[2:], total)
		return append(h, stan...)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		why  string
	}{
		{"cut with its length", append([]byte{0, 58}, good[2:60]...), "length, TPDU, header, message: unionpay-pos: DE 63 (自定义域 Operator, scheme, texts) at byte 46: want 3 bytes, found 1 before the end of the message (byte 59 of the input)"},
		{"cut behind the length", good[:60], "DE 63"},
		{"longer than its length", append(bytes.Clone(good), 1, 2, 3), "frame of length 60 at byte 0: want 60 bytes behind the length, found 63"},
		{"without length, trailing", append(bytes.Clone(good[2:]), 1), "TPDU, header, message: unionpay-pos: after the last field at byte 49"},
		{"message alone, cut", good[13:61], "message: unionpay-pos: DE 63"},
		{"nothing", nil, "want a message, found nothing"},
		{"text", []byte("hello"), "MTI at byte 0"},
		{"CUPS", cups("0064", "00000A"), "header, message: cups: DE 11 (系统跟踪号 System trace audit number) at byte 17: want ASCII digits, found 41 (byte 63 of the input)"},
		{"CUPS total", cups("0063", "000001"), "cups: header at byte 2: want a total length of 64 as the input has, found 63"},
		{"CUPS header cut", cups("0064", "")[:45], "46 bytes of header"},
		{"TPDU alone", unhex(t, "6000000000"), "a header of 6 bytes"},
	} {
		_, err := ReadCapture(c.raw, nil)
		var ce *CaptureError
		if !errors.As(err, &ce) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %s", c.name, err, c.why)
		}
	}
}

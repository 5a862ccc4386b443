package spec

import (
	"slices"
	"strings"
	"testing"
)

// No captured request of a terminal fails the presence rules, and all but one
// are of a kind that the rules name: a refund with DE 60.1 64, a code that no
// other source has.
//
// DE 39 of a reversal and DE 42 of a sign-in are in the minimum of a known host
// and not mandatory here: one captured reversal and one captured sign-in have
// none.
func TestCapturedRequestsPass(t *testing.T) {
	without := []string{"refund-req"}
	n := 0
	for _, c := range captures(t) {
		p, err := ReadCapture(c.raw, nil)
		if err != nil || p.Dialect != UnionPayPOS || p.Message.MTI().IsResponse() {
			continue
		}
		n++
		if e := UnionPayPOS.Check(&p.Message); e != nil {
			t.Errorf("%s: %v", c.ID, e)
		}
		if row := UnionPayPOS.Row(&p.Message); (row == "") != slices.Contains(without, c.ID) {
			t.Errorf("%s is %q", c.ID, row)
		}
	}
	if n < 20 {
		t.Errorf("only %d requests", n)
	}
}

// checked is one message and what Check says of it.
type checked struct {
	name   string
	d      string
	mti    MTI
	fields map[int]string
	row    string
	want   string // "" is nothing wrong
}

const (
	goodPAN   = "6228480402564890018"
	goodTrack = "6228480402564890018=30122201234500000"
	zero64    = "0000000000000000"
	de90      = "020000012309291030450000000000000000000000"
)

// with is base changed by pairs of field and value; "-" takes a field away.
func with(base map[int]string, change ...any) map[int]string {
	out := map[int]string{}
	for n, v := range base {
		out[n] = v
	}
	for i := 0; i < len(change); i += 2 {
		n, v := change[i].(int), change[i+1].(string)
		if v == "-" {
			delete(out, n)
		} else {
			out[n] = v
		}
	}
	return out
}

func TestCheck(t *testing.T) {
	pos := map[int]string{3: "000000", 4: "000000001234", 11: "000001", 22: "021", 25: "00", 26: "12", 35: goodTrack, 41: "10000001",
		42: "898000000000001", 49: "156", 52: "1122334455667788", 53: "2600000000000000", 60: "22000001000500", 64: zero64}
	void := with(pos, 3, "200000", 22, "022", 26, "-", 35, "-", 52, "-", 53, "-", 37, "123456789012", 60, "23000001000500", 61, "000001000001")
	iso := map[int]string{3: "000000", 4: "000000001234", 11: "000001", 22: "021", 25: "00", 35: goodTrack, 41: "10000001",
		42: "898000000000001", 49: "978", 52: "1122334455667788", 64: zero64}
	const p, a, b = "unionpay-pos", "iso87-ascii", "iso87-bcd"
	for _, c := range []checked{
		{"a stripe sale", p, 0x0200, pos, "sale", ""},
		{"a sale without amount", p, 0x0200, with(pos, 4, "-"), "sale", "unionpay-pos: sale: DE 4 (交易金额 Amount) is missing"},
		{"a sale without DE 25", p, 0x0200, with(pos, 25, "-"), "sale", "unionpay-pos: sale: DE 25 (服务点条件码 Point of service condition code) is missing"},
		{"a sale without DE 22", p, 0x0200, with(pos, 22, "-"), "sale", "unionpay-pos: sale: DE 22 (服务点输入方式码 Point of service entry mode) is missing"},
		{"a sale without card", p, 0x0200, with(pos, 22, "052", 35, "-", 55, "9F36020001", 52, "-"), "sale", "unionpay-pos: sale: DE 2 (主账号 Primary account number) is missing when DE 35 absent"},
		{"a stripe sale without a track", p, 0x0200, with(pos, 2, goodPAN, 35, "-"), "sale", "unionpay-pos: sale: DE 35 (2磁道数据 Track 2) is missing when DE 22 digits 1-2 = 02 80 91"},
		{"a chip sale without chip data", p, 0x0200, with(pos, 22, "051"), "sale", "unionpay-pos: sale: DE 55 (IC卡数据域 IC card data) is missing when DE 22 digits 1-2 = 05 07 98"},
		{"a keyed sale without expiry", p, 0x0200, with(pos, 22, "011", 2, goodPAN, 35, "-"), "sale", "unionpay-pos: sale: DE 14 (卡有效期 Expiry date) is missing when DE 22 digits 1-2 = 01"},
		{"a keyed sale with a track", p, 0x0200, with(pos, 22, "011", 2, goodPAN, 14, "3012"), "sale", "unionpay-pos: sale: DE 35 (2磁道数据 Track 2) is not allowed when DE 22 digits 1-2 = 01"},
		{"a PIN that is not announced", p, 0x0200, with(pos, 22, "022"), "sale", "unionpay-pos: sale: DE 52 (个人标识码数据 PIN block) is not allowed when DE 22 digit 3 != 1"},
		{"an announced PIN that is not there", p, 0x0200, with(pos, 52, "-"), "sale", "unionpay-pos: sale: DE 52 (个人标识码数据 PIN block) is missing when DE 22 digit 3 = 1"},
		{"a sale without MAC", p, 0x0200, with(pos, 64, "-"), "sale", "unionpay-pos: sale: DE 64 (报文鉴别码 Message authentication code) is missing"},
		{"an instalment", p, 0x0200, with(pos, 25, "64"), "instalment", ""},
		{"points", p, 0x0200, with(pos, 25, "04"), "points", ""},
		{"a pre-authorisation", p, 0x0100, with(pos, 3, "030000", 25, "06", 60, "10000001000500"), "preauth", ""},
		{"a QR sale", p, 0x0200, with(pos, 22, "032", 26, "-", 35, "-", 52, "-", 53, "-", 59, "A3018100000000000000000"), "qr_sale", ""},
		{"a QR sale without its code", p, 0x0200, with(pos, 22, "032", 26, "-", 35, "-", 52, "-", 53, "-"), "qr_sale", "unionpay-pos: qr_sale: DE 59 (自定义域 QR code and terminal information) is missing"},
		{"a QR sale with a card", p, 0x0200, with(pos, 22, "032", 59, "A3018100000000000000000"), "qr_sale", "unionpay-pos: qr_sale: DE 35 (2磁道数据 Track 2) is not allowed"},
		{"a void", p, 0x0200, void, "void", ""},
		{"a void of nothing", p, 0x0200, with(void, 61, "-"), "void", "unionpay-pos: void: DE 61 (原始信息域 Original transaction) is missing"},
		{"a reversal with a track", p, 0x0400, with(pos, 26, "-", 52, "-", 53, "-", 39, "98"), "reversal", "unionpay-pos: reversal: DE 35 (2磁道数据 Track 2) is not allowed"},
		{"a sign-in", p, 0x0800, map[int]string{11: "000001", 41: "10000001", 60: "00000001003"}, "sign_in", ""},
		{"a sign-in of nobody", p, 0x0800, map[int]string{11: "000001", 60: "00000001003"}, "sign_in", "unionpay-pos: sign_in: DE 41 (受卡机终端标识码 Terminal) is missing"},
		{"a short DE 60", p, 0x0800, map[int]string{11: "000001", 60: "00000001"}, "", ""},
		{"a kind nobody knows", p, 0x0200, with(pos, 3, "990000"), "", ""},

		{"an ISO sale", a, 0x0200, iso, "sale", ""},
		{"an ISO sale in BCD", b, 0x0200, iso, "sale", ""},
		{"an ISO sale without currency", b, 0x0200, with(iso, 49, "-"), "sale", "iso87-bcd: sale: DE 49 (Currency code, transaction) is missing"},
		{"an ISO sale without MAC", a, 0x0200, with(iso, 64, "-"), "sale", "iso87-ascii: sale: DE 64 (Message authentication code) is missing"},
		{"a MAC in the wrong field", a, 0x0200, with(iso, 102, "1"), "sale", "iso87-ascii: sale: DE 128 (Message authentication code) is missing"},
		{"a completion without original", a, 0x0200, with(iso, 25, "06", 38, "123456"), "completion", "iso87-ascii: completion: DE 90 (Original data elements) is missing"},
		{"an ISO reversal", b, 0x0420, with(iso, 35, "-", 52, "-", 64, "-", 90, de90, 128, zero64), "reversal", ""},
		{"its repeat", b, 0x0421, with(iso, 35, "-", 52, "-", 64, "-", 90, de90, 128, zero64), "reversal", ""},
		{"a reversal without original", b, 0x0400, with(iso, 35, "-", 52, "-"), "reversal", "iso87-bcd: reversal: DE 90 (Original data elements) is missing"},
		{"a sign-on", a, 0x0800, map[int]string{11: "000001", 41: "10000001", 70: "001"}, "sign_in", ""},
		{"a sign-off", a, 0x0820, map[int]string{11: "000001", 41: "10000001", 70: "002"}, "sign_off", ""},
		{"a key exchange", b, 0x0800, map[int]string{11: "000001", 41: "10000001", 70: "101"}, "key_exchange", ""},
		{"an echo", b, 0x0800, map[int]string{70: "301"}, "echo", ""},
		{"an unknown network code", b, 0x0800, map[int]string{70: "999"}, "", ""},
	} {
		d, err := Load(c.d)
		if err != nil {
			t.Fatal(err)
		}
		m := parsed(t, d, c.mti, c.fields)
		got := ""
		e := d.Check(m)
		if e != nil {
			got = e.Error()
		}
		if got != c.want || d.Row(m) != c.row {
			t.Errorf("%s: %q of row %q, want %q of row %q", c.name, got, d.Row(m), c.want, c.row)
		}
		if e != nil && (strings.Contains(e.Error(), goodPAN) || !strings.HasSuffix(e.Note(), e.what()) || !strings.HasPrefix(e.Note(), "DE ")) {
			t.Errorf("%s: %v, %s", c.name, e, e.Note())
		}
	}
}

// parsed builds a message and reads it back, as a switch would get it.
func parsed(t testing.TB, d *Dialect, mti MTI, fields map[int]string) *Message {
	t.Helper()
	var m, back Message
	m.Reset(d, mti)
	for n, v := range fields {
		m.Set(n, v)
	}
	raw, err := m.Append(nil)
	if err == nil {
		err = d.Parse(&back, raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &back
}

// A rule of every row is there for the terminal dialect, but the one that it
// has no message for.
func TestEveryRowHasARule(t *testing.T) {
	have := map[string]bool{}
	for _, r := range UnionPayPOS.Presence() {
		have[r.Message] = true
	}
	for _, row := range Rows {
		if !have[row] && row != "key_exchange" { // working keys come with the sign-in
			t.Errorf("%s has no presence rule", row)
		}
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	for _, name := range []string{"unionpay-pos", "iso87-ascii"} {
		m, d := checkedSale(t, name)
		if n := testing.AllocsPerRun(100, func() {
			if d.Check(m) != nil {
				t.Error("refused")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func checkedSale(t testing.TB, name string) (*Message, *Dialect) {
	d, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	f := map[int]string{3: "000000", 4: "000000001234", 11: "000001", 22: "021", 25: "00", 35: goodTrack, 41: "10000001",
		42: "898000000000001", 49: "156", 52: "1122334455667788", 64: zero64}
	if d == UnionPayPOS {
		f[60] = "22000001000500"
	}
	return parsed(t, d, 0x0200, f), d
}

func BenchmarkCheck(b *testing.B) {
	for _, name := range []string{"unionpay-pos", "iso87-ascii"} {
		b.Run(name, func(b *testing.B) {
			m, d := checkedSale(b, name)
			b.ReportAllocs()
			for b.Loop() {
				if d.Check(m) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

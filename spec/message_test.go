package spec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sale is a chip sale of some 300 bytes with 20 fields, as bars are measured.
func sale(m *Message, d *Dialect) {
	m.Reset(d, 0x0200)
	m.Set(2, "6228480402564890018")
	m.SetInt(3, 0)
	m.SetInt(4, 12345)
	m.SetInt(11, 42)
	m.Set(14, "3012")
	m.Set(22, "051")
	m.Set(23, "001")
	m.Set(25, "00")
	m.Set(26, "12")
	m.Set(35, "6228480402564890018=30122201234500000")
	m.Set(41, "12345678")
	m.Set(42, "898310041310001")
	m.Set(49, "156")
	m.SetBytes(52, saleBlock)
	m.Set(53, "2600000000000000")
	m.SetBytes(55, saleICC)
	m.Set(60, "22000001000601")
	m.SetBytes(64, saleMAC)
}

var (
	saleBlock  = []byte{1, 2, 3, 4, 5, 6, 7, 8}
	saleMAC    = []byte("1A2B3C4D")
	saleICC, _ = hex.DecodeString("9F2608ACF958C80FF744039F2701809F101307010103A0A802010A010000000000328E7BDA9F37045FEA9AF89F360201969505008004E0009A031607269C01009F02060000000000015F2A02015682027C009F1A0201569F3303E0F0C89F34034203009F3501228408A0000003330101019F090200309F1E0835303730333636359F0306000000000000")
)

func TestBuildAndRead(t *testing.T) {
	want := map[int]string{
		2: "6228480402564890018", 3: "000000", 4: "000000012345", 11: "000042", 14: "3012", 22: "051", 23: "001", 25: "00", 26: "12",
		35: "6228480402564890018=30122201234500000", 41: "12345678", 42: "898310041310001", 49: "156", 52: "0102030405060708",
		53: "2600000000000000", 60: "22000001000601", 64: "3141324233433444",
	}
	for _, d := range []*Dialect{UnionPayPOS, CUPS} {
		var m, n Message
		sale(&m, d)
		packed, err := m.Append([]byte("before"))
		if err != nil {
			t.Fatal(d.Name(), err)
		}
		packed = packed[len("before"):]
		if err := d.Parse(&n, packed); err != nil {
			t.Fatal(d.Name(), err)
		}
		if n.MTI() != 0x0200 || n.MTI().Response() != 0x0210 || n.Dialect() != d {
			t.Errorf("%s: MTI %s", d.Name(), n.MTI())
		}
		for i := 2; i <= 128; i++ {
			w, has := want[i]
			if i == 55 {
				w, has = strings.ToUpper(hex.EncodeToString(saleICC)), true
			}
			if m.Has(i) != has || n.Has(i) != has || m.Text(i) != w || n.Text(i) != w {
				t.Errorf("%s: DE %d is %q when built, %q when read, want %q", d.Name(), i, m.Text(i), n.Text(i), w)
			}
		}
		if v, ok := n.Int(4); v != 12345 || !ok {
			t.Errorf("%s: DE 4 is %d %v", d.Name(), v, ok)
		}
		for _, i := range []int{35, 52, 12, 0, 1, 129, -1} {
			if v, ok := n.Int(i); ok {
				t.Errorf("%s: DE %d is the number %d", d.Name(), i, v)
			}
		}
		if !bytes.Equal(n.Raw(), packed) {
			t.Error("Raw is not what was parsed")
		}
		if block, mac := SignedPart(packed); string(mac) != "1A2B3C4D" || len(block) != len(packed)-8 {
			t.Error("SignedPart does not end where the MAC begins")
		}
		if block, mac := SignedPart(packed[:7]); block != nil || mac != nil {
			t.Error("SignedPart of seven bytes")
		}
	}
}

func TestWireForms(t *testing.T) {
	for _, c := range []struct {
		d     *Dialect
		n     int
		text  string
		bytes string // of the value, without length
	}{
		{UnionPayPOS, 22, "021", "0210"},
		{UnionPayPOS, 23, "001", "0001"},
		{UnionPayPOS, 2, "6228480402564890018", "62284804025648900180"},
		{UnionPayPOS, 35, "6228480402564890018=30122201234500000", "6228480402564890018D301222012345000000"},
		{UnionPayPOS, 35, "62284804025648=3", "62284804025648D3"},
		{UnionPayPOS, 61, "1000290001260626", "1000290001260626"},
		{UnionPayPOS, 60, "22000065000501", "22000065000501"},
		{UnionPayPOS, 52, "FFEEDDCCBBAA9988", "FFEEDDCCBBAA9988"},
		{UnionPayPOS, 63, "CUP", "435550"},
		{UnionPayPOS, 70, "301", "3010"},
		{UnionPayPOS, 102, "6231039", "36323331303339"},
		{CUPS, 22, "021", "303231"},
		{CUPS, 35, "62284804025648D3", "36323238343830343032353634384433"},
		{CUPS, 96, "0011223344556677", "0011223344556677"},
		{CUPS, 90, "020000001108251124000000922500000000", ""},
		{CUPS, 90, "020000001108251124000000092250000009225000", "303230303030303031313038323531313234303030303030303932323530303030303039323235303030"},
	} {
		var m Message
		m.Reset(c.d, 0x0200)
		m.Set(c.n, c.text)
		if c.bytes == "" {
			var e *SetError
			if _, err := m.Append(nil); !errors.As(err, &e) || e.Field != c.n {
				t.Errorf("%s DE %d %q: %v", c.d.Name(), c.n, c.text, err)
			}
			continue
		}
		packed, err := m.Append(nil)
		if err != nil {
			t.Errorf("%s DE %d: %v", c.d.Name(), c.n, err)
			continue
		}
		if got := hex.EncodeToString(m.Bytes(c.n)); !strings.EqualFold(got, c.bytes) {
			t.Errorf("%s DE %d %q: bytes %s, want %s", c.d.Name(), c.n, c.text, got, c.bytes)
		}
		var n Message
		if err := c.d.Parse(&n, packed); err != nil || n.Text(c.n) != c.text || n.Len(c.n) != m.Len(c.n) {
			t.Errorf("%s DE %d: read %q %v, want %q", c.d.Name(), c.n, n.Text(c.n), err, c.text)
		}
	}
}

// What a setter refuses is told once, by Append, and nothing half-set remains.
func TestSetRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*Message)
		n    int
		why  string
	}{
		{"short fixed", func(m *Message) { m.Set(4, "100") }, 4, "length 3, want 12"},
		{"long fixed text", func(m *Message) { m.Set(41, "123456789") }, 41, "length 9, want 8"},
		{"letter", func(m *Message) { m.Set(11, "12345A") }, 11, "character 6 is not a decimal digit"},
		{"long PAN", func(m *Message) { m.Set(2, "62284804025648900189") }, 2, "length 20, want at most 19"},
		{"track", func(m *Message) { m.Set(35, "6228 3012") }, 35, "character 5"},
		{"odd hex", func(m *Message) { m.Set(64, "123") }, 64, "3 hexadecimal digits"},
		{"no hex", func(m *Message) { m.Set(64, "12345678ABCDEFGH") }, 64, "not a hexadecimal digit"},
		{"short MAC", func(m *Message) { m.SetBytes(64, []byte("1234567")) }, 64, "length 7, want 8"},
		{"bytes as digits", func(m *Message) { m.SetBytes(4, []byte("000000000001")) }, 4, "not as bytes"},
		{"negative", func(m *Message) { m.SetInt(4, -1) }, 4, "negative"},
		{"wide number", func(m *Message) { m.SetInt(25, 100) }, 25, "length 3, want 2"},
		{"bitmap", func(m *Message) { m.Set(1, "1") }, 1, "not a field"},
		{"bit 65", func(m *Message) { m.Set(65, "1") }, 65, "not a field"},
		{"beyond", func(m *Message) { m.SetInt(129, 1) }, 129, "not a field"},
		{"long 62", func(m *Message) { m.SetBytes(62, make([]byte, 1000)) }, 62, "length 1000, want at most 999"},
		{"first error stays", func(m *Message) { m.Set(4, "1"); m.Set(11, "1") }, 4, "length 1"},
	} {
		var m Message
		m.Reset(UnionPayPOS, 0x0200)
		c.set(&m)
		out, err := m.Append([]byte("kept"))
		var e *SetError
		if !errors.As(err, &e) || e.Field != c.n || !strings.Contains(err.Error(), c.why) || m.Err() != err {
			t.Errorf("%s: %v, want DE %d: %s", c.name, err, c.n, c.why)
		}
		if string(out) != "kept" || m.Has(c.n) {
			t.Errorf("%s: something of it remains", c.name)
		}
		m.Reset(UnionPayPOS, 0x0200)
		if m.Err() != nil {
			t.Errorf("%s: the error survives Reset", c.name)
		}
	}
	var m Message
	m.Set(2, "1")
	if _, err := m.Append(nil); err == nil {
		t.Error("a message without dialect was packed")
	}
	if m.Has(2) || m.Text(2) != "" || m.Bytes(2) != nil || Describe(&m) != nil {
		t.Error("a message without dialect has fields")
	}
}

// A received message can be changed and packed again; unchanged fields keep
// their bytes, padding and all.
func TestChangeParsed(t *testing.T) {
	raw := unhex(t, "0220 3020048008C0801B 209000 000000000001 150752 0012 00 313530363437393034393437 3038303033333238 333039303430383533313130303033 313536 0011 640000020000 0016 0000000000000901 0003 303030 AE46C73E2B8471E2")
	var m Message
	if err := UnionPayPOS.Parse(&m, raw); err != nil {
		t.Fatal(err)
	}
	if m.Text(22) != "012" {
		t.Errorf("DE 22 padded on the left reads %q", m.Text(22))
	}
	m.SetMTI(m.MTI().Response())
	m.Set(39, "00")
	m.Unset(64)
	m.Unset(64)
	m.Unset(500)
	packed, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := append(unhex(t, "0230 302004800AC0801A"), raw[10:38]...)
	want = append(want, "00"...)
	want = append(want, raw[38:len(raw)-8]...)
	if !bytes.Equal(packed, want) {
		t.Errorf("\n got %X\nwant %X", packed, want)
	}
}

func TestCopyBetweenDialects(t *testing.T) {
	var pos, cups, back Message
	sale(&pos, UnionPayPOS)
	all := []int{2, 3, 4, 11, 14, 22, 23, 25, 26, 35, 37, 41, 42, 49, 52, 53, 55, 64}
	cups.Reset(CUPS, 0x0200)
	cups.Copy(&pos, all...)
	back.Reset(UnionPayPOS, 0x0200)
	back.Copy(&cups, all...)
	back.Copy(&pos, 60)
	a, err := pos.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := back.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("\n got %X\nwant %X", b, a)
	}
	if cups.Text(4) != "000000012345" || string(cups.Bytes(4)) != "000000012345" || cups.Has(37) {
		t.Errorf("DE 4 on the CUPS side: %q", cups.Bytes(4))
	}
	cups.Copy(&pos, 129)
	if cups.Err() != nil {
		t.Errorf("an absent field: %v", cups.Err())
	}
}

// The message path allocates nothing once its buffers have grown.
func TestNoAllocation(t *testing.T) {
	var m, n, r Message
	buf := make([]byte, 0, 2048)
	text := make([]byte, 0, 1024)
	for _, d := range []*Dialect{UnionPayPOS, CUPS} {
		sale(&m, d)
		packed, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		other := CUPS
		if d == CUPS {
			other = UnionPayPOS
		}
		work := map[string]func(){
			"Parse": func() { _ = d.Parse(&n, packed) },
			"AppendText": func() {
				for i := 2; i <= 64; i++ {
					text = n.AppendText(text[:0], i)
				}
			},
			"Int":    func() { _, _ = n.Int(4) },
			"Set":    func() { sale(&m, d) },
			"Copy":   func() { r.Reset(other, 0x0200); r.Copy(&n, 2, 3, 4, 11, 14, 22, 35, 41, 42, 49, 52, 53, 55) },
			"Append": func() { buf, _ = m.Append(buf[:0]) },
			"DE 60":  func() { _, _ = ParseDE60(&n) },
			"DE 55":  func() { _, _ = FindTLV(n.Bytes(55), 0x9F03) },
		}
		for name, f := range work {
			f()
			if a := testing.AllocsPerRun(100, f); a != 0 {
				t.Errorf("%s %s: %v allocations", d.Name(), name, a)
			}
		}
		if m.Err() != nil || n.Err() != nil || r.Err() != nil {
			t.Error(m.Err(), n.Err(), r.Err())
		}
	}
}

func benchMessage(b *testing.B, d *Dialect) []byte {
	var m Message
	sale(&m, d)
	packed, err := m.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	return packed
}

func BenchmarkParse(b *testing.B) {
	for _, d := range []*Dialect{UnionPayPOS, CUPS} {
		b.Run(d.Name(), func(b *testing.B) {
			packed := benchMessage(b, d)
			var m Message
			b.ReportAllocs()
			b.SetBytes(int64(len(packed)))
			for b.Loop() {
				if err := d.Parse(&m, packed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, d := range []*Dialect{UnionPayPOS, CUPS} {
		b.Run(d.Name(), func(b *testing.B) {
			var m Message
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				sale(&m, d)
				var err error
				if buf, err = m.Append(buf[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRelay is the codec work of one purchase: the request read and built
// anew for the issuer, the answer read and built anew for the terminal.
func BenchmarkRelay(b *testing.B) {
	request, answer := benchMessage(b, UnionPayPOS), benchMessage(b, CUPS)
	var in, out Message
	buf := make([]byte, 0, 1024)
	fields := []int{2, 3, 4, 11, 14, 22, 23, 25, 26, 35, 41, 42, 49, 52, 53, 55, 64}
	b.ReportAllocs()
	for b.Loop() {
		for _, way := range [2]struct {
			from, to *Dialect
			raw      []byte
		}{{UnionPayPOS, CUPS, request}, {CUPS, UnionPayPOS, answer}} {
			if err := way.from.Parse(&in, way.raw); err != nil {
				b.Fatal(err)
			}
			out.Reset(way.to, in.MTI())
			out.Copy(&in, fields...)
			var err error
			if buf, err = out.Append(buf[:0]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

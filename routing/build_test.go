package routing

import (
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/money"
	"acquirer/spec"
)

func sampleRequest(t testing.TB) *Request {
	return &Request{
		Processing: "000000", Amount: money.Amount(123456), STAN: 42, RRN: "261123000042",
		Sent: time.Date(2026, 11, 22, 16, 5, 9, 0, time.UTC), // the 23rd, 00:05:09 in Beijing
		PAN:  pan(t, "6210000000000000001"), Expiry: "3512", Track2: []byte("6210000000000000001=35122010000000000"), Sequence: "001",
		ICData: []byte{0x95, 5, 0, 0, 0, 0, 0}, EntryMode: "051", Condition: "00", PINBlock: []byte{1, 2, 3, 4, 5, 6, 7, 8},
		Acquirer: "08980000", Forwarder: "08980001", Receiver: "01020000", Terminal: "10000001", Merchant: "898110054110001",
		Name: []byte("TEST SHOP"), Category: "5411", Approval: "123456", Capability: '6', ICCondition: '1',
	}
}

// reread packs what was built and parses it again: what the issuer will see.
func reread(t *testing.T, m *spec.Message) *spec.Message {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := new(spec.Message)
	if err := spec.CUPS.Parse(out, b); err != nil {
		t.Fatal(err)
	}
	return out
}

func fields(t *testing.T, m *spec.Message, want map[int]string) {
	t.Helper()
	for n := 2; n <= 128; n++ {
		if m.Text(n) != want[n] {
			t.Errorf("DE %d is %q, want %q", n, m.Text(n), want[n])
		}
	}
}

func TestBuildRequest(t *testing.T) {
	var m spec.Message
	BuildRequest(spec.CUPS, &m, sampleRequest(t))
	out := reread(t, &m)
	if out.MTI() != 0x0200 {
		t.Errorf("MTI %v", out.MTI())
	}
	whole := map[int]string{
		2: "6210000000000000001", 3: "000000", 4: "000000123456", 7: "1123000509", 11: "000042", 12: "000509", 13: "1123", 14: "3512",
		18: "5411", 22: "051", 23: "001", 25: "00", 26: "06", 32: "08980000", 33: "08980001", 35: "6210000000000000001=35122010000000000",
		37: "261123000042", 38: "123456", 41: "10000001", 42: "898110054110001", 43: "TEST SHOP" + strings.Repeat(" ", 31), 49: "156",
		52: "0102030405060708", 53: "2600000000000000", 55: "95050000000000", 60: "000006100300000", 100: "01020000",
	}
	fields(t, out, whole)
	p := sampleRequest(t)
	p.MTI, p.PAN, p.Track2, p.PINBlock, p.ICData, p.Approval, p.Sequence, p.Expiry, p.Name, p.Capability, p.ICCondition = 0x0100, card.PAN{}, nil, nil, nil, "", "", "", nil, 0, 0
	BuildRequest(spec.CUPS, &m, p)
	out = reread(t, &m)
	if out.MTI() != 0x0100 {
		t.Errorf("MTI %v", out.MTI())
	}
	for _, n := range []int{2, 14, 23, 26, 35, 38, 43, 52, 53, 55} {
		delete(whole, n)
	}
	whole[60] = "000000000300000"
	fields(t, out, whole)
	p.RRN = "short"
	BuildRequest(spec.CUPS, &m, p)
	if _, err := m.Append(nil); err == nil {
		t.Error("an RRN of five characters was packed")
	}
}

// Each kind of transaction on an issuer's line, by what tells it from others.
func TestBuildEveryKind(t *testing.T) {
	sale := sampleRequest(t).AsOriginal()
	auth := sale
	auth.MTI = 0x0100
	const behind = "0000421123000509" + "00008980000" + "00008980001"
	for _, c := range []struct {
		kind            string
		mti             spec.MTI
		code, condition string
		original        *Original
		repeat          bool
		sent            spec.MTI
		de90            string
	}{
		{"balance", 0x0200, "310000", "00", nil, false, 0x0200, ""},
		{"sale", 0, "000000", "00", nil, false, 0x0200, ""},
		{"void", 0x0200, "200000", "00", &sale, false, 0x0200, "0200" + behind},
		{"refund", 0x0220, "200000", "00", &sale, false, 0x0220, "0200" + behind},
		{"refund without its sale, repeated", 0x0220, "200000", "00", nil, true, 0x0221, ""},
		{"preauth", 0x0100, "030000", "06", nil, false, 0x0100, ""},
		{"preauth_void", 0x0100, "200000", "06", &auth, false, 0x0100, "0100" + behind},
		{"completion", 0x0200, "000000", "06", &auth, false, 0x0200, "0100" + behind},
		{"completion_void", 0x0200, "200000", "06", &sale, false, 0x0200, "0200" + behind},
		{"completion_notice", 0x0220, "000000", "06", &auth, true, 0x0221, "0100" + behind},
		{"adjust", 0x0220, "020000", "00", &sale, false, 0x0220, "0200" + behind},
		{"script_result", 0x0620, "000000", "00", &sale, false, 0x0620, "0200" + behind},
		{"script_result, repeated", 0x0620, "000000", "00", &sale, true, 0x0621, "0200" + behind},
	} {
		r := sampleRequest(t)
		r.MTI, r.Processing, r.Condition, r.Original, r.Repeat = c.mti, c.code, c.condition, c.original, c.repeat
		if c.kind == "balance" {
			r.Amount = 0
		}
		var m spec.Message
		BuildRequest(spec.CUPS, &m, r)
		out := reread(t, &m)
		if out.MTI() != c.sent || out.Text(3) != c.code || out.Text(25) != c.condition || out.Text(90) != c.de90 || out.Has(4) == (c.kind == "balance") {
			t.Errorf("%s: %v, DE 3 %s, DE 25 %s, DE 90 %q, DE 4 %q", c.kind, out.MTI(), out.Text(3), out.Text(25), out.Text(90), out.Text(4))
		}
		if out.Text(7) != "1123000509" || out.Text(11) != "000042" {
			t.Errorf("%s: sent at %s as %s", c.kind, out.Text(7), out.Text(11))
		}
	}
	r := sampleRequest(t)
	r.Partial = true
	var m spec.Message
	BuildRequest(spec.CUPS, &m, r)
	if got := reread(t, &m).Text(60); got != "000006100300000"+"0000001" {
		t.Errorf("DE 60 of a terminal that takes a partial approval is %q", got)
	}
}

func TestBuildReversal(t *testing.T) {
	var m spec.Message
	r := Reversal{
		Original: *sampleRequest(t), STAN: 77, Sent: time.Date(2026, 12, 31, 23, 59, 58, 0, calendar.Beijing),
		Approval: "654321", Reason: ReasonTimeout, ICData: []byte{0x95, 1, 0xAA},
	}
	BuildReversal(spec.CUPS, &m, &r)
	out := reread(t, &m)
	want := map[int]string{
		2: "6210000000000000001", 3: "000000", 4: "000000123456", 7: "1231235958", 11: "000077", 12: "235958", 13: "1231", 14: "3512",
		18: "5411", 22: "051", 23: "001", 25: "00", 32: "08980000", 33: "08980001", 37: "261123000042", 38: "654321",
		41: "10000001", 42: "898110054110001", 43: "TEST SHOP" + strings.Repeat(" ", 31), 49: "156", 55: "9501AA", 60: "402106100300000",
		90: "0200" + "000042" + "1123000509" + "00008980000" + "00008980001", 100: "01020000",
	}
	fields(t, out, want)
	if out.MTI() != 0x0420 {
		t.Errorf("MTI %v", out.MTI())
	}
	r.Repeat, r.STAN, r.Approval, r.ICData = true, 78, "", nil
	r.Original.MTI = 0x0100
	r.Original.Original = &Original{STAN: 1, Sent: r.Sent} // what a void voids is not what its reversal names
	BuildReversal(spec.CUPS, &m, &r)
	out = reread(t, &m)
	delete(want, 38)
	delete(want, 55)
	want[11], want[90] = "000078", "0100"+want[90][4:]
	fields(t, out, want)
	if out.MTI() != 0x0421 || out.MTI().Response() != 0x0430 {
		t.Errorf("MTI %v, answered by %v", out.MTI(), out.MTI().Response())
	}
}

func TestFitGBK(t *testing.T) {
	two := "\xb1\xb1" // one character of two bytes
	for _, c := range []struct{ in, want string }{
		{"", "      "}, {"abc", "abc   "}, {"abcdef", "abcdef"}, {"abcdefg", "abcdef"}, {two + two + two, two + two + two},
		{"a" + two + two + two, "a" + two + two + " "}, {two + "abcd" + two, two + "abcd"}, {"abc\xb1", "abc   "},
	} {
		if got := string(fitGBK(nil, []byte(c.in), 6)); got != c.want {
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
	}
}

func TestBuildAllocatesNothing(t *testing.T) {
	p := sampleRequest(t)
	sale := p.AsOriginal()
	p.Original, p.Partial = &sale, true
	r := Reversal{Original: *p, STAN: 77, Sent: p.Sent, Reason: ReasonTimeout}
	var m spec.Message
	var b []byte
	build := func() {
		BuildRequest(spec.CUPS, &m, p)
		b, _ = m.Append(b[:0])
		BuildReversal(spec.CUPS, &m, &r)
		b, _ = m.Append(b[:0])
	}
	build()
	if n := testing.AllocsPerRun(100, build); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBuildRequest(b *testing.B) {
	p := sampleRequest(b)
	var m spec.Message
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		BuildRequest(spec.CUPS, &m, p)
		var err error
		if out, err = m.Append(out[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

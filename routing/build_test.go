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

func samplePurchase(t testing.TB) *Purchase {
	return &Purchase{
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

func TestBuildPurchase(t *testing.T) {
	var m spec.Message
	BuildPurchase(&m, samplePurchase(t))
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
	p := samplePurchase(t)
	p.MTI, p.PAN, p.Track2, p.PINBlock, p.ICData, p.Approval, p.Sequence, p.Expiry, p.Name, p.Capability, p.ICCondition = 0x0100, card.PAN{}, nil, nil, nil, "", "", "", nil, 0, 0
	BuildPurchase(&m, p)
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
	BuildPurchase(&m, p)
	if _, err := m.Append(nil); err == nil {
		t.Error("an RRN of five characters was packed")
	}
}

func TestBuildReversal(t *testing.T) {
	var m spec.Message
	r := Reversal{
		Original: *samplePurchase(t), STAN: 77, Sent: time.Date(2026, 12, 31, 23, 59, 58, 0, calendar.Beijing),
		Approval: "654321", Reason: ReasonTimeout, ICData: []byte{0x95, 1, 0xAA},
	}
	BuildReversal(&m, &r)
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
	BuildReversal(&m, &r)
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
	p := samplePurchase(t)
	r := Reversal{Original: *p, STAN: 77, Sent: p.Sent, Reason: ReasonTimeout}
	var m spec.Message
	var b []byte
	build := func() {
		BuildPurchase(&m, p)
		b, _ = m.Append(b[:0])
		BuildReversal(&m, &r)
		b, _ = m.Append(b[:0])
	}
	build()
	if n := testing.AllocsPerRun(100, build); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBuildPurchase(b *testing.B) {
	p := samplePurchase(b)
	var m spec.Message
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		BuildPurchase(&m, p)
		var err error
		if out, err = m.Append(out[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

package clearing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"

	"acquirer/money"
)

var header = Header{Source: "north", Acquirer: "01020000", Date: 20261120}

func sale(n int, amount money.Amount) Record {
	r := Record{Kind: Sale, RRN: fmt.Sprintf("%012d", n), STAN: uint32(n % 1_000_000), Sent: "1120093000", PAN: "621000******0002", Terminal: "10000001",
		Merchant: "898110054110001", Approval: "000123", Amount: amount, IssuerFee: amount * 45 / 10_000, NetworkFee: amount * 3 / 10_000}
	if amount < 0 {
		r.Kind = Refund
	}
	r.Net = r.Amount - r.Fee()
	return r
}

func write(t testing.TB, records ...Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, header)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(b []byte) (records []Record, totals Totals, err error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, Totals{}, err
	}
	for rec, err := range r.Records() {
		if err != nil {
			return records, r.Totals(), err
		}
		records = append(records, rec)
	}
	return records, r.Totals(), nil
}

// golden compares with a file of testdata; -test.run with ACQUIRER_REWRITE=1
// writes it anew.
func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("ACQUIRER_REWRITE") == "1" {
		if err := os.WriteFile(path, have, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s:\n%s\nwant\n%s", name, have, want)
	}
}

func TestNetworkFile(t *testing.T) {
	in := []Record{sale(1, 100_00), sale(2, 12_34), sale(3, -40_00)}
	in[2].Original = in[0].RRN
	file := write(t, in...)
	golden(t, "network-clear.txt", file)
	out, totals, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range in {
		in[i].Line = i + 2
		if out[i] != in[i] {
			t.Errorf("record %d:\n%+v\nwant\n%+v", i, out[i], in[i])
		}
	}
	if totals.Count != 3 || totals.Amount != 72_34 || totals.Net != in[0].Net+in[1].Net+in[2].Net {
		t.Errorf("totals %+v", totals)
	}
	if empty, _, err := read(write(t)); err != nil || len(empty) != 0 {
		t.Errorf("an empty day: %v, %v", empty, err)
	}
}

// Whatever is wrong with a file is said with its line and column.
func TestNetworkFileRefused(t *testing.T) {
	good := string(write(t, sale(1, 100_00), sale(2, 12_34)))
	lines := strings.SplitAfter(good, "\n")
	for _, c := range []struct {
		name, file string
		line, col  int
		says       string
	}{
		{"empty", "", 0, 0, "empty"},
		{"another file", "BILL,1\n", 1, 7, "fields"},
		{"another version", strings.Replace(good, "CLEAR|1|", "CLEAR|2|", 1), 1, 17, "version"},
		{"a date that is none", strings.Replace(good, "2026-11-20", "2026-11-31", 1), 1, 34, "date"},
		{"no trailer", lines[0] + lines[1] + lines[2], 4, 1, "cut off"},
		{"cut in a line", good[:len(lines[0])+30], 2, 31, "cut off"},
		{"a line is missing", lines[0] + lines[1] + lines[3], 3, 3, "counts 2"},
		{"a line twice", lines[0] + lines[1] + lines[1] + lines[2] + lines[3], 3, 3, "number"},
		{"a field too few", strings.Replace(good, "|000123|1234", "|1234", 1), 3, 99, "15 fields"},
		{"an amount that is none", strings.Replace(good, "|10000|", "|1e4|", 1), 2, 91, "amount"},
		{"fees that do not add up", strings.Replace(good, "|45|", "|46|", 1), 2, 104, "less fees"},
		{"a sale below zero", strings.Replace(good, "|sale|", "|void|", 1), 2, 5, "above zero"},
		{"a kind that is none", strings.Replace(good, "|sale|", "|gift|", 1), 2, 5, "kind"},
		{"a wrong sum", strings.Replace(good, "T|2|11234|", "T|2|11235|", 1), 4, 5, "sum of amount"},
		{"a changed card", strings.Replace(good, "******0002", "******0003", 1), 4, 24, "SHA-256"},
		{"Chinese", strings.Replace(good, "10000001", "1000000号", 1), 2, 66, "ASCII"},
		{"a very long line", strings.Replace(good, "10000001", strings.Repeat("9", 600), 1), 2, 512, "longer than 512"},
		{"a long field", strings.Replace(good, "10000001", "100000012", 1), 2, 59, "terminal"},
		{"more behind the trailer", good + "D\n", 5, 1, "behind the trailer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := read([]byte(c.file))
			var e *Error
			if !errors.As(err, &e) || e.Line != c.line || e.Column != c.col || !strings.Contains(e.What, c.says) {
				t.Errorf("%v; want line %d, column %d, %q", err, c.line, c.col, c.says)
			}
		})
	}
}

func TestWriterRefuses(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, header)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Record){
		"a bar":           func(r *Record) { r.Terminal = "1|2" },
		"a long merchant": func(r *Record) { r.Merchant = strings.Repeat("9", 16) },
		"no kind":         func(r *Record) { r.Kind = "" },
		"nothing":         func(r *Record) { r.Amount, r.IssuerFee, r.NetworkFee = 0, 0, 0 },
	} {
		r := sale(1, 100)
		change(&r)
		if err := w.Write(r); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if _, err := NewWriter(io.Discard, Header{Source: "x", Date: 20261399}); err == nil {
		t.Error("a date that is none was written")
	}
}

// generated is a file of n records that is made while it is read.
func generated(t *testing.T, n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		out, err := NewWriter(w, header)
		for i := 1; i <= n && err == nil; i++ {
			err = out.Write(sale(i, 100_00))
		}
		if err == nil {
			_, err = out.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

// A long file is read in constant memory.
func TestNetworkFileStreams(t *testing.T) {
	const records = 200_000
	r, err := NewReader(generated(t, records))
	if err != nil {
		t.Fatal(err)
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	for _, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == records/2 {
			runtime.GC()
			runtime.ReadMemStats(&now)
		}
	}
	if n != records || r.Totals().Amount != records*100_00 {
		t.Errorf("%d records of %s", n, r.Totals().Amount)
	}
	if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("half way through the file %d bytes more are held", grown)
	}
}

func TestZMLayout(t *testing.T) {
	for _, c := range []struct {
		name         string
		fields       []field
		count, bytes int
	}{{"ZM", zmFields, 42, 607}, {"older ZM", zmOldFields, 41, 607}, {"ZME", zmeFields, 22, 339}} {
		if len(c.fields) != c.count || lineLength(c.fields) != c.bytes {
			t.Errorf("%s has %d fields, %d bytes; want %d, %d", c.name, len(c.fields), lineLength(c.fields), c.count, c.bytes)
		}
	}
}

func TestZM(t *testing.T) {
	in := []Record{sale(1, 100_00), sale(2, -40_00)}
	in[1].Original = in[0].RRN
	var b bytes.Buffer
	z := NewZM(&b, "01020000")
	for _, r := range in {
		if err := z.Write(r, "5812"); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "INN26112001ZM_898110054110001", b.Bytes())
	check := func(file []byte, original string) {
		t.Helper()
		n := 0
		for r, err := range ReadZM(bytes.NewReader(file), "") {
			if err != nil {
				t.Fatal(err)
			}
			want := in[n]
			want.Line, want.Approval = n+1, ""
			want.IssuerFee, want.NetworkFee = want.Fee(), 0
			want.Original = original
			if n == 0 {
				want.Original = ""
			}
			if r != want {
				t.Errorf("%+v\nwant\n%+v", r, want)
			}
			n++
		}
		if n != 2 {
			t.Errorf("%d records", n)
		}
	}
	check(b.Bytes(), in[0].RRN)
	check(bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\r\n")), in[0].RRN)

	// The older layout has one reserved field, here with Chinese in it.
	reserved, err := simplifiedchinese.GBK.NewEncoder().String("备用")
	if err != nil {
		t.Fatal(err)
	}
	var old bytes.Buffer
	for line := range bytes.Lines(b.Bytes()) {
		text := line[:len(line)-1]
		old.Write(text[:zmLength-zmOldReserved])
		old.WriteString(strings.Repeat(reserved, 32) + "***\n")
	}
	check(old.Bytes(), "")
}

// A file for another acquirer is one; codes that are padded with zeros are the same.
func TestFileForAnother(t *testing.T) {
	h := Header{Source: "north", Acquirer: "01020000"}
	for _, ours := range []string{"", "01020000", "1020000", "00001020000"} {
		if err := h.For(ours); err != nil {
			t.Errorf("%q: %v", ours, err)
		}
	}
	var e *Error
	if err := h.For("48020000"); !errors.As(err, &e) || e.Line != 1 || e.Column != 25 || !strings.Contains(e.What, "48020000") {
		t.Errorf("%v", err)
	}
	if err := (Header{Source: "north"}).For("48020000"); err != nil {
		t.Error(err)
	}
}

func TestZMRefused(t *testing.T) {
	var b bytes.Buffer
	z := NewZM(&b, "01020000")
	if err := errors.Join(z.Write(sale(1, 100_00), "5812"), z.Close()); err != nil {
		t.Fatal(err)
	}
	good := b.String()
	for _, c := range []struct {
		name, file string
		col        int
		says       string
	}{
		{"cut off", good[:300], 301, "cut off"},
		{"too short", good[:300] + "\n", 301, "layout"},
		{"displaced", "9" + good[:606] + "\n", 4, "displaced"},
		{"not GBK", strings.Replace(good, "1120093000", "112009300\xff", 1), 36, "GBK"},
		{"another type", strings.Replace(good, " 01                                                  ", " 77                                                  ", 1), 216, "type"},
		{"an amount that is none", strings.Replace(good, "000000010000", "00000001000x", 1), 67, "amount"},
		{"neither C nor D", strings.Replace(good, "C000000010000", "X000000010000", 1), 181, "C or D"},
		{"of another acquirer", strings.Replace(good, "01020000", "01030000", 1), 5, "we are 01020000"},
		{"a net that is wrong", strings.Replace(good, "C000000009952", "C000000009953", 1), 375, "less fees"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, err := range ReadZM(strings.NewReader(c.file), "01020000") {
				var e *Error
				if !errors.As(err, &e) || e.Line != 1 || e.Column != c.col || !strings.Contains(e.What, c.says) {
					t.Errorf("%v; want column %d, %q", err, c.col, c.says)
				}
				return
			}
			t.Error("it was read")
		})
	}
}

func TestZME(t *testing.T) {
	in := []ErrorItem{
		{Kind: Chargeback, STAN: 7, Sent: "1201120000", PAN: "621000******0002", Amount: 100_00, OriginalSTAN: 1, OriginalSent: "1120093000", OriginalRRN: "000000000001",
			Reason: "4853", Fee: 5_00, Settle: -105_00, Merchant: "898110054110001"},
		{Kind: Retrieval, STAN: 8, Sent: "1201120001", PAN: "621000******0002", Amount: 12_34, OriginalSTAN: 2, OriginalSent: "1120093001", Reason: "01", Merchant: "898110054110001"},
	}
	var b bytes.Buffer
	z := NewZME(&b, "01020000")
	for _, e := range in {
		if err := z.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "INN26120101ZME_898110054110001", b.Bytes())
	n := 0
	for e, err := range ReadZME(bytes.NewReader(b.Bytes())) {
		if err != nil {
			t.Fatal(err)
		}
		in[n].Line = n + 1
		if e != in[n] {
			t.Errorf("%+v\nwant\n%+v", e, in[n])
		}
		n++
	}
	if n != len(in) {
		t.Errorf("%d items", n)
	}
	for _, err := range ReadZME(strings.NewReader(strings.Replace(b.String(), "E02", "E99", 1))) {
		var e *Error
		if !errors.As(err, &e) || e.Column != 1 {
			t.Errorf("%v", err)
		}
		return
	}
}

func FuzzNetwork(f *testing.F) {
	f.Add(write(f, sale(1, 100_00), sale(2, -12_34)))
	f.Add(write(f))
	f.Add([]byte("H|NETWORK-CLEAR|1|north|01020000|2026-11-20\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		records, totals, err := read(file)
		if err != nil {
			return
		}
		// What was read whole is written as it came.
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w, err := NewWriter(&b, r.Header())
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			if err := w.Write(rec); err != nil {
				t.Fatal(err)
			}
		}
		if again, err := w.Close(); err != nil || again != totals || !bytes.Equal(b.Bytes(), file) {
			t.Errorf("%+v, %v:\n%s\nwant %+v\n%s", again, err, b.Bytes(), totals, file)
		}
	})
}

func FuzzUnionPay(f *testing.F) {
	for _, name := range []string{"INN26112001ZM_898110054110001", "INN26120101ZME_898110054110001"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		for r, err := range ReadZM(bytes.NewReader(file), "") {
			if err == nil && r.check() != nil {
				t.Errorf("%+v was read: %v", r, r.check())
			}
		}
		for e, err := range ReadZME(bytes.NewReader(file)) {
			if err == nil && (e.Amount <= 0 || e.Kind == "") {
				t.Errorf("%+v was read", e)
			}
		}
	})
}

package routing

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"acquirer/card"
	simcard "acquirer/simulate/card"
)

func pan(t testing.TB, digits string) card.PAN {
	t.Helper()
	p, err := card.ParsePAN(digits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestShippedTable(t *testing.T) {
	fromCSV, err := LoadTable("../testdata/bin/bins.csv")
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := LoadTable("../testdata/bin/bins.json")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fromCSV, fromJSON) {
		t.Error("bins.csv and bins.json differ")
	}
	if got := fromCSV.Issuers(); !reflect.DeepEqual(got, []string{"north", "south", "east", "west"}) {
		t.Errorf("issuers %v", got)
	}
	ours := map[string]bool{}
	for _, is := range simcard.Issuers {
		ours[is.BIN] = true
		for n := range 2000 {
			p := is.PAN(n * 977)
			r, ok := fromCSV.Route(p)
			if !ok || r.BIN != is.BIN || r.Issuer != is.Name || (r.Kind == Debit) != is.Debit || r.Check(p) != nil {
				t.Fatalf("card %d of %s goes to %+v: %v", n, is.Name, r, r.Check(p))
			}
		}
	}
	for _, r := range fromCSV.Routes() {
		if !ours[r.BIN] && !strings.HasPrefix(r.BIN, "9999") {
			t.Errorf("BIN %s is not synthetic", r.BIN)
		}
	}
	for _, c := range []struct {
		pan, issuer string
		kind        Kind
		check       error
	}{
		{"9999010000000001", "north", Debit, ErrCheckDigit},
		{"9999010000000002", "north", Debit, nil},
		{"99991200000000012", "west", Credit, ErrLength},
		{"9999120000000009", "west", Credit, nil},
		{"9999128800000009", "west", SemiCredit, nil},
		{"9999116600200000007", "south", Debit, nil},
		{"9999116600100000008", "east", Prepaid, nil},
		{"999921700000000001", "south", Debit, nil},
		{"6228480000000000002", "", Unknown, nil},
		{"9999000000000000", "", Unknown, nil},
	} {
		r, ok := fromCSV.Route(pan(t, c.pan))
		if ok != (c.issuer != "") || r.Issuer != c.issuer || r.Kind != c.kind {
			t.Errorf("%s goes to %q as %v, want %q as %v", c.pan, r.Issuer, r.Kind, c.issuer, c.kind)
		}
		if !ok {
			continue
		}
		if c.check == nil && r.Luhn {
			// the table of cases keeps readable digits; give them their check digit
			c.pan = c.pan[:len(c.pan)-1] + string(card.CheckDigit(c.pan[:len(c.pan)-1]))
		}
		if err := r.Check(pan(t, c.pan)); !errors.Is(err, c.check) {
			t.Errorf("check of %s: %v, want %v", c.pan, err, c.check)
		}
	}
}

// TestLongestWins holds the table against the obvious way: try every row.
func TestLongestWins(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var rows []Route
	seen := map[string]bool{}
	for len(rows) < 500 {
		b := make([]byte, MinBIN+rng.IntN(MaxBIN-MinBIN+1))
		for i := range b {
			b[i] = byte('0' + rng.IntN(3)) // few digits, so that BINs nest
		}
		if seen[string(b)] {
			continue
		}
		seen[string(b)] = true
		rows = append(rows, Route{BIN: string(b), Issuer: "i" + string(b), Kind: Debit, Lengths: 1 << 16})
	}
	table, err := NewTable(rows)
	if err != nil {
		t.Fatal(err)
	}
	hits := 0
	for range 20000 {
		b := make([]byte, 13+rng.IntN(7))
		for i := range b {
			b[i] = byte('0' + rng.IntN(3))
		}
		want := ""
		for _, r := range rows {
			if strings.HasPrefix(string(b), r.BIN) && len(r.BIN) > len(want) {
				want = r.BIN
			}
		}
		got, ok := table.Route(pan(t, string(b)))
		if got.BIN != want || ok != (want != "") {
			t.Fatalf("%s matched %q, want %q", b, got.BIN, want)
		}
		if ok {
			hits++
		}
	}
	if hits < 1000 {
		t.Errorf("only %d numbers matched; the test tests little", hits)
	}
	if _, ok := table.Route(card.PAN{}); ok {
		t.Error("no card has a route")
	}
}

func TestTableRefusesWhole(t *testing.T) {
	const head = "bin,issuer,brand,kind,pan_lengths,luhn,name\n999901,a,U,debit,16,yes,x\n"
	for _, c := range []struct{ name, csv, want string }{
		{"empty", "", "empty"},
		{"no rows", "bin,issuer,brand,kind,pan_lengths,luhn,name\n", "no BIN"},
		{"columns", "bin,issuer\n", "line 1"},
		{"other columns", "bin,issuer,brand,type,pan_lengths,luhn,name\n", "line 1"},
		{"short BIN", head + "99990,a,U,debit,16,yes,x\n", "line 3"},
		{"long BIN", head + "999900000000,a,U,debit,16,yes,x\n", "line 3"},
		{"letters", head + "99990A,a,U,debit,16,yes,x\n", "line 3"},
		{"twice", head + "# comment\n999901,b,U,debit,16,yes,x\n", "line 4"},
		{"kind", head + "999902,a,U,unknown,16,yes,x\n", "line 3"},
		{"length", head + "999902,a,U,debit,12,yes,x\n", "line 3"},
		{"lengths", head + "999902,a,U,debit,16-19,yes,x\n", "line 3"},
		{"luhn", head + "999902,a,U,debit,16,,x\n", "line 3"},
		{"no issuer", head + "999902,,U,debit,16,yes,x\n", "line 3"},
		{"few columns", head + "999902,a,U\n", "line 3"},
	} {
		table, err := ParseCSV([]byte(c.csv))
		if err == nil || table != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.want)
		}
	}
	const row = `[{"bin":"999901","issuer":"a","brand":"U","kind":"debit","pan_lengths":[16],"luhn":true,"name":"x"}`
	for _, c := range []struct{ name, json, want string }{
		{"empty", "", "line 1"},
		{"not a list", "{}", "line 1"},
		{"no rows", "[]", "no BIN"},
		{"unknown name", row + ",\n{\"bni\":\"999902\"}]", "line 2"},
		{"kind", row + ",\n{\"bin\":\"999902\",\"issuer\":\"a\",\"kind\":\"gold\"}]", "line 2"},
		{"no kind", row + ",\n{\"bin\":\"999902\",\"issuer\":\"a\",\"pan_lengths\":[16]}]", "line 2"},
		{"no length", row + ",\n{\"bin\":\"999902\",\"issuer\":\"a\",\"kind\":\"debit\"}]", "line 2"},
		{"twice", row + ",\n" + row[1:] + "]", "line 2"},
		{"not closed", row + "\n", "not closed"},
		{"more behind", row + "]\n[]", "line 2"},
	} {
		table, err := ParseJSON([]byte(c.json))
		if err == nil || table != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "bins.txt")
	if err := os.WriteFile(path, []byte(head), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadTable(path); err == nil || !strings.Contains(err.Error(), "bins.txt") {
		t.Errorf("a .txt table: %v", err)
	}
	if _, err := LoadTable(path + ".csv"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing table: %v", err)
	}
	if _, err := NewTable([]Route{{BIN: "999901"}}); err == nil {
		t.Error("a row without an issuer passed")
	}
}

func TestRouteAllocatesNothing(t *testing.T) {
	table, err := LoadTable("../testdata/bin/bins.csv")
	if err != nil {
		t.Fatal(err)
	}
	p := pan(t, "9999116600100000008")
	var sink int
	if n := testing.AllocsPerRun(100, func() {
		r, _ := table.Route(p)
		if r.Check(p) == nil {
			sink++
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRoute(b *testing.B) {
	table, err := LoadTable("../testdata/bin/bins.csv")
	if err != nil {
		b.Fatal(err)
	}
	p := pan(b, "9999010000000002")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := table.Route(p); !ok {
			b.Fatal("no route")
		}
	}
}

func FuzzTables(f *testing.F) {
	f.Add([]byte("bin,issuer,brand,kind,pan_lengths,luhn,name\n999901,a,U,debit,16,yes,x\n"))
	f.Add([]byte("bin,issuer,brand,kind,pan_lengths,luhn,name\n621000-621099,a,U,debit,16,yes,x\n6210500,b,U,debit,16,yes,x\n"))
	f.Add([]byte(`[{"bin":"999901","issuer":"a","kind":"debit","pan_lengths":[16]}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) (*Table, error){ParseCSV, ParseJSON} {
			table, err := parse(b)
			if (table == nil) != (err != nil) {
				t.Fatal("neither a table nor an error, or both")
			}
			if table == nil {
				continue
			}
			for _, r := range table.Routes() {
				got, ok := table.Route(pan(t, (r.BIN + "0000000000")[:16]))
				if !ok || len(got.BIN) < len(r.BIN) {
					t.Fatalf("BIN %s does not find itself", r.BIN)
				}
			}
		}
	})
}

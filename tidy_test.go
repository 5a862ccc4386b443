package acquirer

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// rows is the import table of docs/ARCHITECTURE.md: a package may import rows
// below its own, never its own row and never a row above.
var rows = map[string]int{
	"cmd/acquirer": 3,

	"switch": 2, "settlement": 2, "settlement/report": 2, "settlement/reconcile": 2, "settlement/dispute": 2, "portal": 2, "console": 2,
	"settlement/bankfile": 1, "settlement/clearing": 1, "simulate/terminal": 2, "simulate/issuer": 2, "simulate/bank": 2, "simulate/wallet": 2, "simulate/load": 2, "simulate/card": 2, "simulate/iso87": 2, "bench/relay": 2,

	"audit": 1, "merchant": 1, "journal": 1, "ledger": 1, "limits": 1, "risk": 1, "routing": 1, "download": 1, "hsm": 1, "hsm/payshield": 1, "hsm/hsmtest": 1,
	"routing/wallet": 1, "hsm/remote": 1, "hsm/audit": 1, "hsm/harden": 1,

	"spec": 0, "spec/jbig": 0, "card": 0, "money": 0, "calendar": 0, "store": 0, "settlement/bankfile/schematest": 0,

	"fault": -1,
}

// beside are the few neighbours that may meet, each with its reason.
var beside = map[[2]string]string{
	{"store/storetest", "store"}:            "the PostgreSQL that tests run on",
	{"settlement/report", "settlement"}:     "reports name the states of payouts",
	{"hsm", "hsm/algo"}:                     "the primitives on clear keys are the inside of the HSM",
	{"hsm/payshield", "hsm"}:                "a driver of devices implements the HSM, and a device seals its LMK in one",
	{"hsm/payshield", "hsm/algo"}:           "a device in software computes with clear keys inside",
	{"hsm/hsmtest", "hsm"}:                  "what every HSM does alike",
	{"hsm/hsmtest", "hsm/algo"}:             "the other side of an HSM in those tests",
	{"settlement/dispute", "settlement"}:    "a chargeback is settlement's to book",
	{"settlement/reconcile", "settlement"}:  "what settlement has booked is what is compared",
	{"simulate/terminal", "hsm/algo"}:       "a terminal's secure element computes with its own keys",
	{"simulate/card", "hsm/algo"}:           "a chip computes its own cryptogram",
	{"routing/wallet", "routing"}:           "a wallet is paid by payment code, and fails as a line does",
	{"simulate/terminal", "simulate/card"}:  "a card is put into a terminal",
	{"simulate/iso87", "hsm/algo"}:          "a terminal's secure element, here too",
	{"simulate/iso87", "simulate/card"}:     "and its card",
	{"simulate/iso87", "simulate/terminal"}: "terminals of two makes fail and misbehave alike",
	{"simulate/load", "simulate/terminal"}:  "the load is made of terminals",
	{"simulate/load", "simulate/card"}:      "and of cards",
	{"simulate/load", "hsm/algo"}:           "the keys of those terminals",
	{"simulate/issuer", "simulate/card"}:    "the issuer knows the secrets of the cards it issued",
	{"simulate/issuer", "hsm/algo"}:         "test keys of the simulated scheme",
	{"hsm/audit", "hsm"}:                    "the log stands between the HSM and who uses it",
	{"hsm/remote", "hsm"}:                   "the HSM in a process of its own",
	{"hsm/remote", "hsm/audit"}:             "which keeps a log",
	{"hsm/remote", "hsm/harden"}:            "and guards its memory",
}

func TestImportsPointDown(t *testing.T) {
	for file, imports := range goImports(t) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		from := path.Dir(file)
		for _, imp := range imports {
			to, ours := strings.CutPrefix(imp, "acquirer/")
			if !ours || beside[[2]string{from, to}] != "" {
				continue
			}
			fr, known := rows[from]
			if !known && from != "hsm/algo" && from != "store/storetest" {
				t.Errorf("%s: package %s is not in the import table", file, from)
				continue
			}
			tr, known := rows[to]
			if to == "hsm/algo" && fr > 2 {
				continue // the composition root may look into every room
			}
			if !known || tr >= fr {
				t.Errorf("%s: %s may not import %s", file, from, to)
			}
		}
	}
}

// Some doors stay shut whatever the row: moov types stay inside the codec and
// the links, SQL drivers inside the store, the clear-key primitives out of the
// switch.
func TestDoorsThatStayShut(t *testing.T) {
	only := map[string][]string{
		"github.com/moov-io/iso8583-connection": {"routing", "bench/relay"},
		"github.com/moov-io/iso8583":            {"spec", "routing", "bench/relay"},
		"modernc.org/sqlite":                    {"store"},
		"github.com/jackc/pgx":                  {"store", "store/storetest"},
		"database/sql":                          {"store"},
		"math/rand":                             {},
	}
	for file, imports := range goImports(t) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, imp := range imports {
			for door, keys := range only {
				if imp != door && !strings.HasPrefix(imp, door+"/") || imp == "math/rand/v2" {
					continue
				}
				if strings.HasPrefix(imp, "github.com/moov-io/iso8583-connection") && door == "github.com/moov-io/iso8583" {
					continue
				}
				allowed := false
				for _, k := range keys {
					allowed = allowed || path.Dir(file) == k
				}
				if !allowed {
					t.Errorf("%s imports %s, which only %v may", file, imp, keys)
				}
			}
		}
	}
}

var unfinished = regexp.MustCompile(`(?i)\b(TODO|FIXME|XXX|not implemented|unimplemented|for now|placeholder|hard-?coded|dummy)\b`)

func TestNothingUnfinished(t *testing.T) {
	eachFile(t, func(name string, text []byte) {
		ext := path.Ext(name)
		if name == "tidy_test.go" || ext != ".go" && ext != ".html" && ext != ".js" && ext != ".css" && ext != ".sql" {
			return
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := unfinished.FindString(line); m != "" {
				if ext == ".html" && strings.Contains(line, "placeholder=") {
					continue
				}
				t.Errorf("%s:%d: %q: finish it or delete it", name, i+1, m)
			}
		}
		if n := strings.Count(string(text), "\n"); ext == ".go" && n > 800 {
			t.Errorf("%s: %d lines; a file tells one story in at most 800", name, n)
		}
	})
}

func goImports(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	eachFile(t, func(name string, text []byte) {
		if path.Ext(name) != ".go" {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		for _, s := range f.Imports {
			p, err := strconv.Unquote(s.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			out[name] = append(out[name], p)
		}
	})
	return out
}

func eachFile(t *testing.T, visit func(name string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "data") {
				return filepath.SkipDir
			}
			return nil
		}
		switch path.Ext(p) {
		case ".go", ".html", ".js", ".css", ".sql":
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			visit(filepath.ToSlash(p), text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

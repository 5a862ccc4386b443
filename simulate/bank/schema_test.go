package simbank

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/settlement/bankfile/schematest"
)

// What the bank writes is what ISO's schemas demand, whatever it says.
func TestFilesAreValid(t *testing.T) {
	pain, camt := schematest.Pain002(t), schematest.Camt054(t)
	changes := []Payout{
		{Reference: "20261120-898110054110001-T1-0", Status: Succeeded, Amount: 96440, BankID: "B000000001"},
		{Reference: "20261120-898110054110002-T1-0", Status: Processing, Amount: 1, BankID: "B000000002"},
		{Reference: strings.Repeat("R", 35), Status: Rejected, Amount: 200000, BankID: "B000000003", Reason: "账户<已>销户"},
	}
	moves := []move{
		{kind: "payout", amount: 96440, ref: changes[0].Reference, bankID: "B000000001"},
		{kind: "payout", amount: 200000, message: "PO20261123-000001", orders: 2, bankID: "B000000004"},
		{kind: "return", credit: true, amount: 96440, ref: changes[0].Reference, bankID: "B000000005", reason: "AC01 户名不符"},
		{kind: "receipt", credit: true, amount: 995200, ref: "UNIONPAY-20261123", bankID: "R000000001"},
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "inbox"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := start(t, Config{Folder: dir})
	if err := b.refuseMessage("PO20261123-000001", false); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "inbox", "STS-*.xml"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	refused, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		schema *schematest.Schema
		text   []byte
	}{
		{"statuses", pain, statusXML("STS-20261123-000001", "PO20261123-000001", changes, Fine)},
		{"strange statuses", pain, statusXML("STS-20261123-000001", "PO20261123-000001", changes, Strange)},
		{"a refused message", pain, refused},
		{"movements", camt, movesXML("NTF-20261123-000001", "9999000000000001", moves, time.Now(), Fine)},
		{"strange movements", camt, movesXML("NTF-20261123-000001", "9999000000000001", moves, time.Now(), Strange)},
		{"no movements", camt, movesXML("NTF-20261123-000001", "9999000000000001", nil, time.Now(), Fine)},
	} {
		for _, what := range c.schema.Breaks(c.text) {
			t.Errorf("%s: %s", c.name, what)
		}
	}
}

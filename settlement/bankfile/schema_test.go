package bankfile

import (
	"bytes"
	"strings"
	"testing"

	"acquirer/money"
	"acquirer/settlement/bankfile/schematest"
)

// Whatever orders we take, the file is what ISO's schema demands: every element in
// its place, as often as it may be and no longer than it may be.
func TestPain001IsValid(t *testing.T) {
	schema := schematest.Pain001(t)
	longest := Order{Reference: strings.Repeat("R", 35), Merchant: strings.Repeat("8", 15), Amount: 9_999_999_999_999_99, Name: strings.Repeat("王", 140), Account: strings.Repeat("9", 34), Bank: strings.Repeat("行", 140)}
	shortest := Order{Reference: "R", Amount: 1, Name: "王", Account: "12345678", Bank: "&"}
	odd := Order{Reference: `<a>&"'b`, Amount: 100, Name: "  <王> ]]> & \u00b7 \U00020000", Account: "ABCDEFGH", Bank: "中国农业银行\u3000北京分行"}
	highest := shortest
	highest.Amount = 999_999_999_999_999_999 // 18 digits
	for name, orders := range map[string][]Order{"longest": {longest}, "shortest": {shortest}, "odd": {odd}, "highest": {highest}, "some": someOrders(), "all": {longest, shortest, odd}} {
		b := batchOf(orders)
		b.MessageID = strings.Repeat("M", 35)
		b.Debtor = Debtor{Name: longest.Name, Account: longest.Account, Bank: longest.Bank}
		var out bytes.Buffer
		if err := WritePain001(&out, b, seq(orders)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, what := range schema.Breaks(out.Bytes()) {
			t.Errorf("%s: %s", name, what)
		}
	}
	// The check itself sees what is wrong.
	text := load(t, "pain001.xml")
	if got := schema.Breaks([]byte(text)); len(got) > 0 {
		t.Errorf("the file of the other tests: %q", got)
	}
	for _, c := range []struct{ old, new, says string }{
		{"<PmtMtd>TRF</PmtMtd>", "", "PmtMtd stands 0 times"}, {"<PmtMtd>TRF</PmtMtd><BtchBookg>false</BtchBookg>", "<BtchBookg>false</BtchBookg><PmtMtd>TRF</PmtMtd>", "not in this place"},
		{"<PmtMtd>TRF", "<PmtMtd>TRX", "not one of its codes"}, {"<BtchBookg>false", "<BtchBookg>no", "not as xs:boolean"}, {"</PmtMtd>", "</PmtMtd><ReqdAdvcTp/>", "not in this place"},
		{` Ccy="CNY"`, "", "no attribute Ccy"}, {`Ccy="CNY"`, `Ccy="yuan"`, "not of its pattern"}, {`Ccy="CNY"`, `Ccy="CNY" id="1"`, "attributes that are not there"},
		{">964.40<", ">-964.40<", "below 0"}, {">964.40<", ">964.400001<", "too many digits"}, {">964.40<", ">964,40<", "not as xs:decimal"}, {">964.40<", ">1234567890123456789<", "too many digits"},
		{"2026-11-23</Dt>", "20261123</Dt>", "not as xs:date"}, {"2026-11-23</Dt>", "2026-11-31</Dt>", "no day"}, {"T10:00:00", "T25:00:00", "no time"}, {"<Dt>2026-11-23</Dt>", "", "is a choice and has 0"},
		{"<MsgId>", "<MsgId>" + strings.Repeat("x", 36), "51 characters"}, {"<Nm>王芳</Nm>", "<Nm></Nm>", "0 characters"}, {"pain.001.001.09", "pain.001.001.03", "the root is"},
		{"<NbOfTxs>2", "<NbOfTxs>two", "not of its pattern"}, {"<Cd>SUPP</Cd>", "<Cd>SUPP</Cd><Prtry>x</Prtry>", "is a choice and has 2"},
	} {
		if !strings.Contains(text, c.old) {
			t.Fatalf("no %q to spoil", c.old)
		}
		if got := strings.Join(schema.Breaks([]byte(strings.Replace(text, c.old, c.new, 1))), "\n"); !strings.Contains(got, c.says) {
			t.Errorf("%q for %q: %q; want %q", c.new, c.old, got, c.says)
		}
	}
	// What the schema or XML has no room for is no order.
	for _, bad := range []string{"\ufffe", "王\uffff", "   ", "\u3000", "王\x00"} {
		o := shortest
		o.Name = bad
		if o.Check() == nil {
			t.Errorf("the name %q is taken", bad)
		}
		o = shortest
		o.Merchant = bad
		if o.Check() == nil {
			t.Errorf("the merchant %q is taken", bad)
		}
	}
	tooMuch := shortest
	tooMuch.Amount = 1_000_000_000_000_000_000
	sum := batchOf([]Order{highest})
	sum.Sum = money.Amount(1_000_000_000_000_000_000)
	if tooMuch.Check() == nil || sum.check() == nil {
		t.Error("19 digits are taken")
	}
}

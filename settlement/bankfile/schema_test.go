package bankfile

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// child is an element of a sequence in a schema, by its name, and how often it
// may stand there; most 0 is without a limit.
type child struct {
	name, is    string // is: a type of kinds, or of facets
	least, most int
}

// kinds are as much of the complex types of pain.001.001.09 as lies on the way of
// a payment: what may stand in each, in the schema's order. What is left out
// of a sequence is what we never write.
var kinds = map[string][]child{
	"Document":               {{"CstmrCdtTrfInitn", "Initiation", 1, 1}},
	"Initiation":             {{"GrpHdr", "GroupHeader85", 1, 1}, {"PmtInf", "PaymentInstruction30", 1, 0}},
	"GroupHeader85":          {{"MsgId", "Max35Text", 1, 1}, {"CreDtTm", "ISODateTime", 1, 1}, {"NbOfTxs", "Max15NumericText", 1, 1}, {"CtrlSum", "DecimalNumber", 0, 1}, {"InitgPty", "Party135", 1, 1}},
	"Party135":               {{"Nm", "Max140Text", 0, 1}},
	"PaymentInstruction30":   {{"PmtInfId", "Max35Text", 1, 1}, {"PmtMtd", "PaymentMethod3Code", 1, 1}, {"BtchBookg", "Boolean", 0, 1}, {"NbOfTxs", "Max15NumericText", 0, 1}, {"CtrlSum", "DecimalNumber", 0, 1}, {"PmtTpInf", "PaymentType26", 0, 1}, {"ReqdExctnDt", "DateChoice", 1, 1}, {"Dbtr", "Party135", 1, 1}, {"DbtrAcct", "CashAccount38", 1, 1}, {"DbtrAgt", "Agent6", 1, 1}, {"CdtTrfTxInf", "CreditTransfer34", 1, 0}},
	"PaymentType26":          {{"CtgyPurp", "CategoryPurpose", 0, 1}},
	"CategoryPurpose":        {{"Cd", "Max4Code", 1, 1}},
	"DateChoice":             {{"Dt", "ISODate", 1, 1}},
	"CashAccount38":          {{"Id", "AccountChoice", 1, 1}, {"Ccy", "Currency", 0, 1}},
	"AccountChoice":          {{"Othr", "GenericAccount1", 1, 1}},
	"GenericAccount1":        {{"Id", "Max34Text", 1, 1}},
	"Agent6":                 {{"FinInstnId", "FinancialInstitution18", 1, 1}},
	"FinancialInstitution18": {{"Nm", "Max140Text", 0, 1}},
	"CreditTransfer34":       {{"PmtId", "PaymentId6", 1, 1}, {"Amt", "AmountChoice", 1, 1}, {"CdtrAgt", "Agent6", 0, 1}, {"Cdtr", "Party135", 0, 1}, {"CdtrAcct", "CashAccount38", 0, 1}, {"RmtInf", "Remittance16", 0, 1}},
	"PaymentId6":             {{"InstrId", "Max35Text", 0, 1}, {"EndToEndId", "Max35Text", 1, 1}},
	"AmountChoice":           {{"InstdAmt", "Amount", 1, 1}},
	"Remittance16":           {{"Ustrd", "Max140Text", 0, 0}},
}

// facets are its simple types: the form of the text, and its length in
// characters where that is limited.
var facets = map[string]struct {
	form string
	most int
}{
	"Max4Code": {`[A-Z]{1,4}`, 4}, "Max34Text": {`(?s).+`, 34}, "Max35Text": {`(?s).+`, 35}, "Max140Text": {`(?s).+`, 140},
	"Max15NumericText": {`[0-9]{1,15}`, 15}, "DecimalNumber": {`[0-9]{1,16}(\.[0-9]{1,17})?`, 19}, "Amount": {`[0-9]{1,16}(\.[0-9]{1,5})?`, 19},
	"PaymentMethod3Code": {`CHK|TRF|TRA`, 3}, "Boolean": {`true|false|1|0`, 5}, "Currency": {`[A-Z]{3}`, 3},
	"ISODate": {`\d{4}-\d\d-\d\d`, 10}, "ISODateTime": {`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`, 40},
}

type node struct {
	name     xml.Name
	attr     []xml.Attr
	text     string
	children []*node
}

func tree(r io.Reader) (*node, error) {
	d := xml.NewDecoder(r)
	open := []*node{{}}
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return open[0].children[0], nil
		}
		if err != nil {
			return nil, err
		}
		top := open[len(open)-1]
		switch t := tok.(type) {
		case xml.StartElement:
			n := &node{name: t.Name, attr: t.Attr}
			top.children = append(top.children, n)
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			top.text += string(t)
		}
	}
}

// breaks says where a document is not what the schema says.
func (n *node) breaks(path, is string) (all []string) {
	if n.name.Space != Pain001 {
		all = append(all, path+" is in another namespace")
	}
	if f, simple := facets[is]; simple {
		if !regexp.MustCompile(`^(`+f.form+`)$`).MatchString(n.text) || utf8.RuneCountInString(n.text) > f.most || len(n.children) > 0 {
			all = append(all, fmt.Sprintf("%s is %q, no %s", path, n.text, is))
		}
		if currency := len(n.attr) == 1 && n.attr[0] == (xml.Attr{Name: xml.Name{Local: "Ccy"}, Value: "CNY"}); currency != (is == "Amount") {
			all = append(all, path+": the currency of an amount, and nothing else, is an attribute")
		}
		return all
	}
	if strings.TrimSpace(n.text) != "" {
		all = append(all, path+" holds text")
	}
	rest := n.children
	for _, c := range kinds[is] {
		count := 0
		for len(rest) > 0 && rest[0].name.Local == c.name {
			all = append(all, rest[0].breaks(path+"/"+c.name, c.is)...)
			rest, count = rest[1:], count+1
		}
		if count < c.least || c.most > 0 && count > c.most {
			all = append(all, fmt.Sprintf("%s/%s stands %d times", path, c.name, count))
		}
	}
	for _, c := range rest {
		all = append(all, path+"/"+c.name.Local+" is not there, or not in this place")
	}
	return all
}

// Whatever orders we take, the file is what the schema demands: every element in
// its place, as often as it may be and no longer than it may be.
func TestPain001IsValid(t *testing.T) {
	longest := Order{Reference: strings.Repeat("R", 35), Merchant: strings.Repeat("8", 15), Amount: 9_999_999_999_999_99, Name: strings.Repeat("王", 140), Account: strings.Repeat("9", 34), Bank: strings.Repeat("行", 140)}
	shortest := Order{Reference: "R", Amount: 1, Name: "王", Account: "12345678", Bank: "&"}
	odd := Order{Reference: `<a>&"'b`, Amount: 100, Name: "  <王> ]]> & \u00b7 \U00020000", Account: "ABCDEFGH", Bank: "中国农业银行\u3000北京分行"}
	for name, orders := range map[string][]Order{"longest": {longest}, "shortest": {shortest}, "odd": {odd}, "some": someOrders(), "all": {longest, shortest, odd}} {
		b := batchOf(orders)
		b.MessageID = strings.Repeat("M", 35)
		b.Debtor = Debtor{Name: longest.Name, Account: longest.Account, Bank: longest.Bank}
		var out bytes.Buffer
		if err := WritePain001(&out, b, seq(orders)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		doc, err := tree(bytes.NewReader(out.Bytes()))
		if err != nil || doc.name.Local != "Document" {
			t.Fatalf("%s: %v, %v", name, doc, err)
		}
		for _, what := range doc.breaks("Document", "Document") {
			t.Errorf("%s: %s", name, what)
		}
		if got := doc.children[0].children[1].children; got[len(got)-1].children[3].children[0].text != orders[len(orders)-1].Name {
			t.Errorf("%s: the name changed on the way: %q", name, got[len(got)-1].children[3].children[0].text)
		}
	}
	// The check itself sees what is wrong.
	text := load(t, "pain001.xml")
	for _, c := range []struct{ old, new, says string }{
		{"<PmtMtd>TRF</PmtMtd>", "", "PmtMtd stands 0 times"}, {"<PmtMtd>TRF</PmtMtd><BtchBookg>false</BtchBookg>", "<BtchBookg>false</BtchBookg><PmtMtd>TRF</PmtMtd>", "not in this place"},
		{`Ccy="CNY"`, "", "currency"}, {"2026-11-23</Dt>", "20261123</Dt>", "no ISODate"}, {"<MsgId>", "<MsgId>" + strings.Repeat("x", 36), "no Max35Text"}, {"pain.001.001.09", "pain.001.001.03", "namespace"},
	} {
		if !strings.Contains(text, c.old) {
			t.Fatalf("no %q to spoil", c.old)
		}
		doc, err := tree(strings.NewReader(strings.Replace(text, c.old, c.new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(doc.breaks("Document", "Document"), "\n"); !strings.Contains(got, c.says) {
			t.Errorf("%q for %q: %q; want %q", c.new, c.old, got, c.says)
		}
	}
	// What XML has no character for, and a name of blanks, is no order.
	for _, bad := range []string{"\ufffe", "王\uffff", "   ", "\u3000", "王\x00"} {
		o := shortest
		o.Name = bad
		if o.Check() == nil {
			t.Errorf("the name %q is taken", bad)
		}
	}
}

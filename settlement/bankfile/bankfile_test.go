package bankfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

var house = Debtor{Name: "演示收单机构", Account: "9999000000000001", Bank: "演示银行"}

func someOrders() []Order {
	return []Order{
		{Reference: "20261120-898110054110001-T1-0", Merchant: "898110054110001", Amount: 96440, Name: "王芳", Account: "6228480402564890018", Bank: "农业银行北京分行"},
		{Reference: "20261120-898110054110002-T1-0", Merchant: "898110054110002", Amount: 200000, Name: `李"四" & <子>, 有限`, Account: "6222000000000000", Bank: "工商银行"},
	}
}

func batchOf(orders []Order) *Batch {
	b := &Batch{MessageID: "PO20261123-0001", Created: time.Date(2026, 11, 23, 10, 0, 0, 0, calendar.Beijing), Execute: 20261123, Debtor: house, Count: len(orders)}
	for _, o := range orders {
		b.Sum += o.Amount
	}
	return b
}

func seq(orders []Order) iter.Seq2[Order, error] {
	return func(yield func(Order, error) bool) {
		for _, o := range orders {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// The order file is what the schema of pain.001.001.09 demands: its elements in
// its order, read back by another reader.
func TestPain001(t *testing.T) {
	orders := someOrders()
	var out, again bytes.Buffer
	for _, w := range []io.Writer{&out, &again} {
		if err := WritePain001(w, batchOf(orders), seq(orders)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same batch made other bytes")
	}
	golden, err := os.ReadFile("testdata/pain001.xml")
	if err != nil || !bytes.Equal(golden, out.Bytes()) {
		t.Errorf("the file is not testdata/pain001.xml (%v):\n%s", err, out.String())
	}
	var doc struct {
		XMLName xml.Name
		Init    struct {
			Header struct {
				MsgID   string `xml:"MsgId"`
				Created string `xml:"CreDtTm"`
				Count   int    `xml:"NbOfTxs"`
				Sum     string `xml:"CtrlSum"`
				Name    string `xml:"InitgPty>Nm"`
			} `xml:"GrpHdr"`
			Payments []struct {
				ID     string `xml:"PmtInfId"`
				Method string `xml:"PmtMtd"`
				Count  int    `xml:"NbOfTxs"`
				Sum    string `xml:"CtrlSum"`
				Date   string `xml:"ReqdExctnDt>Dt"`
				Orders []struct {
					Ref    string `xml:"PmtId>EndToEndId"`
					Amount struct {
						Currency string `xml:"Ccy,attr"`
						Value    string `xml:",chardata"`
					} `xml:"Amt>InstdAmt"`
					Name    string `xml:"Cdtr>Nm"`
					Account string `xml:"CdtrAcct>Id>Othr>Id"`
				} `xml:"CdtTrfTxInf"`
			} `xml:"PmtInf"`
		} `xml:"CstmrCdtTrfInitn"`
	}
	if err := xml.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	h, p := doc.Init.Header, doc.Init.Payments
	if doc.XMLName != (xml.Name{Space: Pain001, Local: "Document"}) || h.MsgID != "PO20261123-0001" || h.Created != "2026-11-23T10:00:00+08:00" || h.Count != 2 || h.Sum != "2964.40" || h.Name != house.Name {
		t.Errorf("head %+v", h)
	}
	if len(p) != 1 || p[0].Method != "TRF" || p[0].Count != 2 || p[0].Sum != "2964.40" || p[0].Date != "2026-11-23" || len(p[0].Orders) != 2 {
		t.Fatalf("payments %+v", p)
	}
	for i, o := range p[0].Orders {
		if o.Ref != orders[i].Reference || o.Name != orders[i].Name || o.Account != orders[i].Account || o.Amount.Currency != "CNY" || o.Amount.Value != orders[i].Amount.String() {
			t.Errorf("order %d is %+v", i, o)
		}
	}
}

// Orders that no bank takes, and totals that are not theirs, make no file; the
// error never shows an account number.
func TestOrdersRefused(t *testing.T) {
	for name, spoil := range map[string]func(b *Batch, o []Order){
		"a long reference":   func(_ *Batch, o []Order) { o[0].Reference = strings.Repeat("x", 36) },
		"no name":            func(_ *Batch, o []Order) { o[0].Name = "" },
		"a long name":        func(_ *Batch, o []Order) { o[0].Name = strings.Repeat("王", 141) },
		"a name with a line": func(_ *Batch, o []Order) { o[0].Name = "王\n芳" },
		"not UTF-8":          func(_ *Batch, o []Order) { o[0].Name = "\xcd\xf5" },
		"a small letter":     func(_ *Batch, o []Order) { o[0].Account = "6228480402564890018a" },
		"a short account":    func(_ *Batch, o []Order) { o[0].Account = "6228480" },
		"a long account":     func(_ *Batch, o []Order) { o[0].Account = strings.Repeat("6", 35) },
		"an odd account":     func(_ *Batch, o []Order) { o[0].Account = "6228480402564890018'" },
		"nothing":            func(_ *Batch, o []Order) { o[0].Amount = 0 },
		"another count":      func(b *Batch, _ []Order) { b.Count = 3 },
		"another sum":        func(b *Batch, _ []Order) { b.Sum++ },
		"no message":         func(b *Batch, _ []Order) { b.MessageID = "" },
		"no debtor":          func(b *Batch, _ []Order) { b.Debtor.Account = "" },
	} {
		for kind, write := range map[string]func(io.Writer, *Batch, iter.Seq2[Order, error]) error{"pain.001": WritePain001, "csv": WriteCSV} {
			orders := someOrders()
			b := batchOf(orders)
			spoil(b, orders)
			if err := write(io.Discard, b, seq(orders)); err == nil {
				t.Errorf("%s, %s: was written", kind, name)
			} else if strings.Contains(err.Error(), "6228480402564890018") {
				t.Errorf("%s, %s: shows the account: %v", kind, name, err)
			}
		}
	}
}

func TestWriteCSV(t *testing.T) {
	orders := someOrders()
	var out bytes.Buffer
	if err := WriteCSV(&out, batchOf(orders), seq(orders)); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	head := strings.Join(lines[:3], "")
	sum := sha256.Sum256([]byte(head))
	want := []string{
		"H,PAYOUT,1,PO20261123-0001,2026-11-23T10:00:00+08:00,2026-11-23,演示收单机构,9999000000000001,演示银行\n",
		"D,1,20261120-898110054110001-T1-0,898110054110001,王芳,6228480402564890018,农业银行北京分行,,58,96440,CNY,settlement\n",
		`D,2,20261120-898110054110002-T1-0,898110054110002,"李""四"" & <子>, 有限",6222000000000000,工商银行,,58,200000,CNY,settlement` + "\n",
		"T,2,296440," + hex.EncodeToString(sum[:]) + "\n", "",
	}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), strings.Join(want, ""))
	}
}

func statuses(t *testing.T, r io.Reader) (*Report, []Status, error) {
	t.Helper()
	head, rows, err := ReadStatus(r)
	if err != nil {
		return nil, nil, err
	}
	var all []Status
	for s, err := range rows {
		if err != nil {
			return head, all, err
		}
		all = append(all, s)
	}
	return head, all, nil
}

func entries(t *testing.T, r io.Reader) (*Statement, []Entry, error) {
	t.Helper()
	head, rows, err := ReadStatement(r)
	if err != nil {
		return nil, nil, err
	}
	var all []Entry
	for e, err := range rows {
		if err != nil {
			return head, all, err
		}
		all = append(all, e)
	}
	return head, all, nil
}

func load(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPain002(t *testing.T) {
	head, got, err := statuses(t, strings.NewReader(load(t, "pain002.xml")))
	if err != nil {
		t.Fatal(err)
	}
	if *head != (Report{MessageID: "BANK-20261123-1", About: "PO20261123-0001", Count: 3, Sum: 296440}) {
		t.Errorf("head %+v", *head)
	}
	want := []Status{
		{Reference: "20261120-898110054110001-T1-0", Code: Paid, Amount: 96440, BankID: "B000000001", Line: 13},
		{Reference: "20261120-898110054110002-T1-0", Code: Refused, Reason: "AC04 账户已销户", Line: 17},
		{Reference: "20261120-898110054110003-T1-0", Code: Processing, Line: 21},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A bank may answer a message as a whole.
func TestPain002Group(t *testing.T) {
	for status, want := range map[string]Code{"ACCP": Processing, "ACSP": Processing, "ACSC": Paid, "RJCT": Refused} {
		doc := `<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.03"><CstmrPmtStsRpt><GrpHdr><MsgId>B1</MsgId></GrpHdr>
<OrgnlGrpInfAndSts><OrgnlMsgId>M1</OrgnlMsgId><GrpSts>` + status + `</GrpSts><StsRsnInf><Rsn><Cd>DU01</Cd></Rsn></StsRsnInf></OrgnlGrpInfAndSts></CstmrPmtStsRpt></Document>`
		head, got, err := statuses(t, strings.NewReader(doc))
		if err != nil || len(got) != 0 || head.Group != want || head.About != "M1" || head.Reason != "DU01" || head.Count != -1 || head.Sum != -1 {
			t.Errorf("%s: %+v, %v, %v", status, head, got, err)
		}
	}
}

func TestCamt(t *testing.T) {
	text := load(t, "camt054.xml")
	want := []Entry{
		{Reference: "20261120-898110054110001-T1-0", Amount: 96440, Booked: 20261124, Kind: Payout, BankID: "B000000001", Line: 11},
		{Reference: "20261120-898110054110001-T1-0", Amount: 96440, Credit: true, Booked: 20261125, Kind: Return, Reason: "AC01 户名不符", Line: 15},
		{Reference: "UNIONPAY-20261123", Amount: 995200, Credit: true, Booked: 20261124, Kind: Receipt, Line: 19},
		{Reference: "4", Amount: 5760, Booked: 20261124, Kind: Fee, Line: 21},
		{Batch: "PO20261124-0002", Count: 2, Amount: 200000, Booked: 20261124, Kind: Payout, Line: 25},
	}
	statement := strings.NewReplacer("camt.054.001.08", "camt.053.001.08", "BkToCstmrDbtCdtNtfctn", "BkToCstmrStmt", "Ntfctn>", "Stmt>").Replace(text)
	for name, doc := range map[string]string{"camt.054": text, "camt.053": statement} {
		again, yes := IsStatement(strings.NewReader(doc))
		if !yes {
			t.Errorf("%s is not taken for a statement", name)
		}
		head, got, err := entries(t, again)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if *head != (Statement{MessageID: "BANK-N-20261124", Account: "9999000000000001", Day: 20261124}) {
			t.Errorf("%s: head %+v", name, *head)
		}
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Fatalf("%s: got  %+v\nwant %+v", name, got, want)
			}
		}
	}
}

// csvFile seals lines with T.
func csvFile(lines ...string) string {
	text := strings.Join(lines, "\n") + "\n"
	var sum int64
	for _, l := range lines[1:] {
		if cells := strings.Split(l, ","); len(cells) > 4 {
			var n int64
			_, _ = fmt.Sscan(cells[4], &n)
			sum += n
		}
	}
	hash := sha256.Sum256([]byte(text))
	return text + fmt.Sprintf("T,%d,%d,%s\n", len(lines)-1, sum, hex.EncodeToString(hash[:]))
}

var (
	goodResults   = csvFile("H,RESULT,1,R1,PO1,2026-11-23T10:05:00+08:00", "D,1,P1,SUCCEEDED,96440,B1,2026-11-23T10:01:00+08:00,,", `D,2,P2,REJECTED,200000,,,AC04,"closed, for good"`)
	goodStatement = csvFile("H,STATEMENT,1,S1,9999000000000001,2026-11-23", "D,1,2026-11-23,D,96440,payout,P1,B1,", "D,2,2026-11-23,C,995200,receipt,UNIONPAY-20261120,B2,", "D,3,2026-11-23,C,96440,return,P1,B3,AC01")
)

func TestCSV(t *testing.T) {
	head, got, err := statuses(t, strings.NewReader(goodResults))
	if err != nil || *head != (Report{MessageID: "R1", About: "PO1", Count: -1, Sum: -1}) {
		t.Fatalf("%+v, %v", head, err)
	}
	if want := []Status{{"P1", Paid, 96440, "B1", "", 2}, {"P2", Refused, 200000, "", "AC04 closed, for good", 3}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	again, yes := IsStatement(strings.NewReader(goodStatement))
	account, moves, err := entries(t, again)
	if err != nil || !yes || *account != (Statement{"S1", "9999000000000001", 20261123}) || len(moves) != 3 {
		t.Fatalf("%+v, %+v, %v", account, moves, err)
	}
	if moves[2] != (Entry{Reference: "P1", Amount: 96440, Credit: true, Booked: 20261123, Kind: Return, BankID: "B3", Reason: "AC01", Line: 4}) {
		t.Errorf("%+v", moves[2])
	}
}

// Every damage is refused with its place, by an error that says nothing of the
// account numbers in the file.
func TestDamage(t *testing.T) {
	pain, camt := load(t, "pain002.xml"), load(t, "camt054.xml")
	swap := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("no %q to damage", old)
		}
		return strings.Replace(s, old, new, 1)
	}
	for _, c := range []struct {
		name, text string
		line       int
		what       string
	}{
		{"pain.002 cut", pain[:len(pain)/2], 0, "unexpected EOF"},
		{"pain.002 unknown status", swap(pain, "<TxSts>ACSC", "<TxSts>YES!"), 14, "is not known"},
		{"pain.002 no reference", swap(pain, "<OrgnlEndToEndId>20261120-898110054110003-T1-0</OrgnlEndToEndId>", ""), 23, "no OrgnlEndToEndId"},
		{"pain.002 dollars", swap(pain, `Ccy="CNY"`, `Ccy="USD"`), 15, "currency"},
		{"pain.002 not an amount", swap(pain, ">964.40<", ">964,40<"), 15, "not an amount"},
		{"pain.002 three decimals", swap(pain, ">964.40<", ">964.401<"), 15, "not an amount"},
		{"pain.002 more orders than it says", swap(pain, "<OrgnlNbOfTxs>3", "<OrgnlNbOfTxs>2"), 0, "3 orders are listed of a message of 2"},
		{"pain.002 another count", swap(pain, "<DtldNbOfTxs>1", "<DtldNbOfTxs>2"), 0, "the head says 2"},
		{"pain.002 of another family", swap(pain, "pain.002.001.10", "pain.008.001.10"), 0, "want Document"},
		{"pain.002 refused whole with one paid", swap(pain, "PART", "RJCT"), 16, "as a whole"},
		{"pain.002 about nothing", swap(pain, "<OrgnlMsgId>PO20261123-0001</OrgnlMsgId>", ""), 0, "OrgnlMsgId"},
		{"pain.002 with an entity", swap(pain, "BANK-20261123-1", "&file;"), 4, "not XML"},
		{"pain.002 with a document type", swap(pain, "<Document", `<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/passwd">]><Document`), 2, "document type"},
		{"pain.002 not in GBK", swap(pain, `encoding="UTF-8"`, `encoding="GBK"`), 19, "not GB 18030, which the file says it is in"},
		{"pain.002 in Big5", swap(pain, `encoding="UTF-8"`, `encoding="Big5"`), 1, `in "Big5"; want UTF-8`},
		{"pain.002 broken UTF-8", swap(pain, "账", "\xd5"), 19, "not XML"},
		{"pain.002 with a tail", pain + "<more/>", 27, "more after"},
		{"camt with another sum", swap(camt, "13938.41", "13938.42"), 0, "the summary says 13938.42"},
		{"camt with another count", swap(camt, "<NbOfNtries>6", "<NbOfNtries>7"), 0, "the summary says 7"},
		{"camt without an account", swap(camt, "<Id>9999000000000001</Id>", ""), 0, "no account"},
		{"camt with an odd account", swap(camt, "<Id>9999000000000001</Id>", "<Id>99-99</Id>"), 7, "account number"},
		{"camt details that do not add up", swap(camt, "<TxDtls><Refs>", `<TxDtls><Amt Ccy="CNY">1.00</Amt><Refs>`), 0, "add up to 1.00"},
		{"camt without a side", swap(camt, "<CdtDbtInd>DBIT</CdtDbtInd>", ""), 0, "no CdtDbtInd"},
		{"camt without a date", swap(camt, "<BookgDt><Dt>2026-11-24</Dt></BookgDt>", ""), 0, "no booking date"},
		{"camt with a date that is none", swap(camt, "<BookgDt><Dt>2026-11-24</Dt>", "<BookgDt><Dt>2026-11-31</Dt>"), 10, "not a date"},
		{"results with another hash", swap(goodResults, "96440", "96441"), 0, "add up"},
		{"results with a changed word", swap(goodResults, "closed", "Closed"), 4, "SHA-256"},
		{"results cut at a line", goodResults[:strings.Index(goodResults, "\nT,")+1], 4, "without its last line"},
		{"results cut in a line", goodResults[:len(goodResults)-10], 4, "middle of a line"},
		{"results out of order", swap(goodResults, "D,2", "D,3"), 3, "want 2"},
		{"results with another status", swap(goodResults, "SUCCEEDED", "PERHAPS"), 2, "not known"},
		{"results whose last line lacks its hash", goodResults[:strings.LastIndex(goodResults, ",")] + "\n", 4, "T has 3 cells"},
		{"results with a tail", goodResults + "D,3\n", 5, "more after"},
		{"results in GBK", swap(goodResults, "closed", "\xd2\xd1"), 3, "not UTF-8"},
		{"results with a cell too few", swap(goodResults, "AC04,", ""), 3, "D has 8 cells"},
		{"results with a broken quote", swap(goodResults, `"closed`, `closed"`), 3, "bare \""},
		{"results of another version", swap(goodResults, "RESULT,1", "RESULT,2"), 1, "first line"},
		{"statement on the wrong side", swap(goodStatement, "C,96440,return", "D,96440,return"), 4, "wrong side"},
		{"statement of nothing", swap(goodStatement, "D,96440,payout", "D,0,payout"), 2, "of nothing"},
		{"statement with another kind", swap(goodStatement, "receipt", "present"), 3, "not known"},
		{"nothing", "", 0, "empty"},
		{"a long line", "H,RESULT,1," + strings.Repeat("x", maxLine) + "\n", 1, "longer"},
	} {
		var err error
		if again, yes := IsStatement(strings.NewReader(c.text)); yes {
			_, _, err = entries(t, again)
		} else {
			_, _, err = statuses(t, again)
		}
		var where *Error
		switch {
		case !errors.As(err, &where):
			t.Errorf("%s: %v", c.name, err)
		case !strings.Contains(err.Error(), c.what) || c.line > 0 && where.Line != c.line:
			t.Errorf("%s: line %d: %v; want line %d, %q", c.name, where.Line, err, c.line, c.what)
		case (where.Line > 0) != strings.Contains(err.Error(), "bankfile: line "):
			t.Errorf("%s: line %d is said as %v", c.name, where.Line, err)
		case strings.Contains(err.Error(), "999900"):
			t.Errorf("%s: shows the account: %v", c.name, err)
		}
	}
}

// Damage is pointed at: an invalid byte by its column. A file that goes on and on
// is not read to an end that it may not have.
func TestWhereAndHowMuch(t *testing.T) {
	_, _, err := statuses(t, strings.NewReader(strings.Replace(goodResults, "closed", "clo\xd2ed", 1)))
	var where *Error
	if !errors.As(err, &where) || where.Line != 3 || where.Column != 35 {
		t.Errorf("%v", err)
	}
	if got, err := io.ReadAll(&limited{r: strings.NewReader("0123456789"), left: 9}); string(got) != "012345678" || !errors.As(err, &where) || where.Line != 0 || strings.Contains(err.Error(), "line") {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := io.ReadAll(&limited{r: strings.NewReader("0123456789"), left: 11}); string(got) != "0123456789" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A file of a hundred thousand orders is written and read in bounded memory.
func TestStreams(t *testing.T) {
	const many = 100_000
	r, w := io.Pipe()
	go func() {
		b := &Batch{MessageID: "M", Created: time.Unix(0, 0), Execute: 20261123, Debtor: house, Count: many, Sum: many * 100}
		w.CloseWithError(WritePain001(w, b, func(yield func(Order, error) bool) {
			for i := range many {
				if !yield(Order{Reference: fmt.Sprintf("P%06d", i), Amount: 100, Name: "王芳", Account: "6222000000000000", Bank: "银行"}, nil) {
					return
				}
			}
		}))
	}()
	var peak, base runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&base)
	s := newScanner(r)
	if _, err := s.open("pain.001.001"); err != nil {
		t.Fatal(err)
	}
	n, sum := 0, money.Amount(0)
	for {
		e, err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.ends && strings.HasSuffix(e.path, "CdtTrfTxInf/Amt/InstdAmt") {
			a, err := s.amount(e.path, e.text)
			if err != nil {
				t.Fatal(err)
			}
			sum += a
			if n++; n == many/2 {
				runtime.GC()
				runtime.ReadMemStats(&peak)
			}
		}
	}
	if n != many || sum != many*100 {
		t.Errorf("read %d orders of %s", n, sum)
	}
	if grown := int64(peak.HeapAlloc) - int64(base.HeapAlloc); grown > 4<<20 {
		t.Errorf("halfway %d KB are held", grown>>10)
	}
}

// Whatever the bytes: no panic, and an error is one that says where.
func FuzzRead(f *testing.F) {
	for _, s := range []string{load(f, "pain002.xml"), load(f, "camt054.xml"), load(f, "pain001.xml"), goodResults, goodStatement, "", "<", "H,RESULT,1,a,b,c\nT,0,0,x\n",
		camt054("<FrToDt><FrDtTm>2026-11-24T00:00:00</FrDtTm><ToDtTm>2026-11-25T00:00:00</ToDtTm></FrToDt>", "<TxsSummry><TtlNtries><Sum>928.80</Sum></TtlNtries></TxsSummry>",
			ntry("928.80", "DBIT", issued, "<NtryDtls><Btch><PmtInfId>PO1</PmtInfId></Btch>"+tx(endToEnd(payout)+`<Amt Ccy="CNY">964.40</Amt>`)+tx(`<AmtDtls><TxAmt><Amt Ccy="CNY">35.60</Amt></TxAmt></AmtDtls><CdtDbtInd>CRDT</CdtDbtInd>`+cameBack)+"</NtryDtls>")),
		strings.Replace(pain002Doc("<GrpSts>ACSP</GrpSts>", block("<PmtInfSts>RJCT</PmtInfSts>", orderStatus("A", ""))), "UTF-8", "GBK", 1)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var err error
		if again, yes := IsStatement(bytes.NewReader(b)); yes {
			var all []Entry
			_, all, err = entries(t, again)
			for _, e := range all {
				if e.Amount <= 0 || !e.Booked.Valid() || e.Kind == "" || e.Reference == "" && e.Batch == "" && e.Kind == Payout {
					t.Errorf("an entry that says too little: %+v", e)
				}
			}
		} else {
			var all []Status
			_, all, err = statuses(t, again)
			for _, s := range all {
				if s.Reference == "" || s.Code == "" || s.Amount < 0 {
					t.Errorf("a status that says too little: %+v", s)
				}
			}
		}
		var where *Error
		if err != nil && !errors.As(err, &where) {
			t.Errorf("%T: %v", err, err)
		}
	})
}

package bankfile

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"

	"acquirer/settlement/bankfile/schematest"
)

// camt054 is a notification with these entries; head stands behind Id.
func camt054(head, summary, entries string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn><GrpHdr><MsgId>N1</MsgId><CreDtTm>2026-11-24T23:30:00+08:00</CreDtTm></GrpHdr><Ntfctn><Id>N1</Id>` +
		head + `<Acct><Id><Othr><Id>9999000000000001</Id></Othr></Id><Ccy>CNY</Ccy></Acct>` + summary + entries + `</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>`
}

const (
	issued   = "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>ICDT</Cd><SubFmlyCd>DMCT</SubFmlyCd></Fmly></Domn></BkTxCd>"
	cameBack = "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>ICDT</Cd><SubFmlyCd>RRTN</SubFmlyCd></Fmly></Domn></BkTxCd>"
	charged  = "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>ICDT</Cd><SubFmlyCd>CHRG</SubFmlyCd></Fmly></Domn><Prtry><Cd>806</Cd></Prtry></BkTxCd>"
	payout   = "20261120-898110054110001-T1-0"
)

// ntry is a booked entry of the 24th.
func ntry(amount, side, code, details string) string {
	return `<Ntry><Amt Ccy="CNY">` + amount + `</Amt><CdtDbtInd>` + side + `</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-24</Dt></BookgDt>` + code + details + `</Ntry>`
}

func tx(inside string) string { return "<TxDtls>" + inside + "</TxDtls>" }

func endToEnd(ref string) string { return "<Refs><EndToEndId>" + ref + "</EndToEndId></Refs>" }

var beginnings = regexp.MustCompile(`<(/?)([A-Z])`)

// prefixed is a document whose elements bear their namespace's prefix.
func prefixed(doc string) string {
	return beginnings.ReplaceAllString(strings.Replace(doc, "xmlns=", "xmlns:x=", 1), "<${1}x:$2")
}

// Banks fill the same schema differently. What is valid and clear is read, whatever
// is left out, doubled or put otherwise.
func TestCamtAsBanksWriteIt(t *testing.T) {
	schema := schematest.Camt054(t)
	details := func(all ...string) string { return "<NtryDtls>" + strings.Join(all, "") + "</NtryDtls>" }
	paid := Entry{Reference: payout, Amount: 96440, Booked: 20261124, Kind: Payout, Line: 1}
	other := paid
	other.Reference, other.Amount = "P2", 3560
	came := paid
	came.Credit, came.Kind = true, Return
	one := ntry("964.40", "DBIT", issued, details(tx(endToEnd(payout))))
	for _, c := range []struct {
		name, doc string
		want      []Entry
		day       int
	}{
		{name: "a summary that counts alone", doc: camt054("", "<TxsSummry><TtlNtries><NbOfNtries>1</NbOfNtries></TtlNtries></TxsSummry>", one), want: []Entry{paid}},
		{name: "a summary that adds alone", doc: camt054("", "<TxsSummry><TtlNtries><Sum>964.4</Sum></TtlNtries></TxsSummry>", one), want: []Entry{paid}},
		{name: "no date of its own", doc: camt054("", "", one), want: []Entry{paid}},
		{name: "until midnight", doc: camt054("<FrToDt><FrDtTm>2026-11-24T00:00:00</FrDtTm><ToDtTm>2026-11-25T00:00:00</ToDtTm></FrToDt>", "", one), want: []Entry{paid}},
		{name: "until the last second", doc: camt054("<CreDtTm>2026-11-25T01:00:00</CreDtTm><FrToDt><FrDtTm>2026-11-24T00:00:00</FrDtTm><ToDtTm>2026-11-24T23:59:59.999</ToDtTm></FrToDt>", "", one), want: []Entry{paid}},
		{name: "a day without times", doc: camt054("<FrToDt><FrDtTm>2026-11-24T00:00:00</FrDtTm><ToDtTm>2026-11-24T00:00:00</ToDtTm></FrToDt>", "", one), want: []Entry{paid}},
		{name: "of the next day", doc: camt054("<CreDtTm>2026-11-25T00:00:00</CreDtTm>", "", one), want: []Entry{paid}, day: 20261125},
		{name: "somebody's reference with blanks", doc: camt054("", "", one+ntry("5.00", "CRDT", issued, details(tx(endToEnd("INVOICE 4711"))))),
			want: []Entry{paid, {Reference: "INVOICE 4711", Amount: 500, Credit: true, Booked: 20261124, Kind: Receipt, Line: 1}}},
		{name: "somebody's batch with blanks", doc: camt054("", "", one+ntry("5.00", "DBIT", issued, details("<Btch><MsgId>SALARIES 11</MsgId></Btch>"))),
			want: []Entry{paid, {Batch: "SALARIES 11", Amount: 500, Booked: 20261124, Kind: Payout, Line: 1}}},
		{name: "nothing was charged", doc: camt054("", "<TxsSummry><TtlNtries><NbOfNtries>2</NbOfNtries><Sum>964.40</Sum></TtlNtries></TxsSummry>", ntry("0", "DBIT", charged, "")+one), want: []Entry{paid}},
		{name: "a fee that names the payout", doc: camt054("", "", ntry("0.50", "DBIT", charged, details(tx(endToEnd(payout))))),
			want: []Entry{{Reference: payout, Amount: 50, Booked: 20261124, Kind: Fee, Line: 1}}},
		{name: "the fee among the details", doc: camt054("", "", ntry("964.90", "DBIT", issued, details(tx(endToEnd(payout)+`<Amt Ccy="CNY">964.40</Amt>`), tx(endToEnd(payout)+`<Amt Ccy="CNY">0.50</Amt>`+charged)))),
			want: []Entry{paid, {Reference: payout, Amount: 50, Booked: 20261124, Kind: Fee, Line: 1}}},
		{name: "returned by its code", doc: camt054("", "", ntry("964.40", "CRDT", cameBack, details(tx(endToEnd(payout))))), want: []Entry{came}},
		{name: "returned by the code of the detail", doc: camt054("", "", ntry("964.40", "CRDT", issued, details(tx(endToEnd(payout)+cameBack)))), want: []Entry{came}},
		{name: "two notifications of the account", doc: camt054("", "", one+`</Ntfctn><Ntfctn><Id>N2</Id><Acct><Id><Othr><Id>9999000000000001</Id></Othr></Id></Acct>`+strings.NewReplacer(payout, "P2", "964.40", "35.60").Replace(one)), want: []Entry{paid, other}},
		{name: "both sides in one entry", doc: camt054("", "", ntry("928.80", "DBIT", issued, details(tx(endToEnd(payout)+`<Amt Ccy="CNY">964.40</Amt><CdtDbtInd>DBIT</CdtDbtInd>`), tx(endToEnd("P2")+`<Amt Ccy="CNY">35.60</Amt><CdtDbtInd>CRDT</CdtDbtInd>`+cameBack)))),
			want: []Entry{paid, {Reference: "P2", Amount: 3560, Credit: true, Booked: 20261124, Kind: Return, Line: 1}}},
		{name: "a sum with its orders", doc: camt054("", "", ntry("1000.00", "DBIT", issued, details("<Btch><PmtInfId>PO1</PmtInfId><NbOfTxs>2</NbOfTxs></Btch>"+tx(endToEnd(payout)+`<Amt Ccy="CNY">964.40</Amt>`)+tx(endToEnd("P2")+`<Amt Ccy="CNY">35.60</Amt>`)))),
			want: []Entry{paid, other}},
		{name: "its orders in several details", doc: camt054("", "", ntry("1000.00", "DBIT", issued, details(tx(endToEnd(payout)+`<Amt Ccy="CNY">964.40</Amt>`))+details(tx(endToEnd("P2")+`<Amt Ccy="CNY">35.60</Amt>`)))),
			want: []Entry{paid, other}},
		{name: "a sum with a detail that names none", doc: camt054("", "", ntry("1000.00", "DBIT", issued, details("<Btch><PmtInfId>PO1</PmtInfId><NbOfTxs>2</NbOfTxs></Btch>"+tx("<Refs><PmtInfId>PO1</PmtInfId></Refs>")))),
			want: []Entry{{Batch: "PO1", Count: 2, Amount: 100000, Booked: 20261124, Kind: Payout, Line: 1}}},
		{name: "amounts of the underlying payments", doc: camt054("", "", ntry("1000.00", "DBIT", issued, details(tx(endToEnd(payout)+`<AmtDtls><InstdAmt><Amt Ccy="USD">1.00</Amt></InstdAmt><TxAmt><Amt Ccy="CNY">964.40</Amt></TxAmt></AmtDtls>`), tx(endToEnd("P2")+`<AmtDtls><InstdAmt><Amt Ccy="CNY">35.60</Amt></InstdAmt></AmtDtls>`)))),
			want: []Entry{paid, other}},
		{name: "a value date alone", doc: camt054("", "", strings.ReplaceAll(one, "BookgDt", "ValDt")), want: []Entry{paid}},
		{name: "a decimal as XML has them", doc: camt054("", "", strings.Replace(one, "964.40", "+0964.40000", 1)+strings.NewReplacer("964.40", ".5", payout, "P2").Replace(one)),
			want: []Entry{paid, {Reference: "P2", Amount: 50, Booked: 20261124, Kind: Payout, Line: 1}}},
		{name: "a prefix, a byte order mark, an extension of the bank's", doc: "\xef\xbb\xbf" + prefixed(camt054("", "", strings.Replace(one, "</TxDtls>", `<SplmtryData><Envlp><b:own xmlns:b="urn:bank"><b:Ntry/></b:own></Envlp></SplmtryData></TxDtls>`, 1))), want: []Entry{paid}},
	} {
		for _, what := range schema.Breaks([]byte(strings.TrimPrefix(c.doc, "\xef\xbb\xbf"))) {
			t.Errorf("%s: no valid example: %s", c.name, what)
		}
		again, yes := IsStatement(strings.NewReader(c.doc))
		head, got, err := entries(t, again)
		if err != nil || !yes {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.day == 0 {
			c.day = 20261124
		}
		if !reflect.DeepEqual(got, c.want) || int(head.Day) != c.day {
			t.Errorf("%s: of %s\ngot  %+v\nwant %+v", c.name, head.Day, got, c.want)
		}
	}
	// Up to version 3 a detail has no Amt of its own, and a status no Cd.
	old := strings.NewReplacer("054.001.08", "054.001.02", "<Sts><Cd>BOOK</Cd></Sts>", "<Sts>BOOK</Sts>").Replace(
		camt054("", "", ntry("1000.00", "DBIT", issued, details(tx(endToEnd(payout)+`<AmtDtls><TxAmt><Amt Ccy="CNY">964.40</Amt></TxAmt></AmtDtls>`), tx(endToEnd("P2")+`<AmtDtls><TxAmt><Amt Ccy="CNY">35.60</Amt></TxAmt></AmtDtls>`)))))
	if _, got, err := entries(t, strings.NewReader(old)); err != nil || !reflect.DeepEqual(got, []Entry{paid, other}) {
		t.Errorf("version 2: %+v, %v", got, err)
	}
	for name, doc := range map[string]string{
		"another sum":     camt054("", "<TxsSummry><TtlNtries><Sum>964.41</Sum></TtlNtries></TxsSummry>", one),
		"another count":   camt054("", "<TxsSummry><TtlNtries><NbOfNtries>2</NbOfNtries></TtlNtries></TxsSummry>", one),
		"no side":         camt054("", "", strings.Replace(one, "<TxDtls>", "<TxDtls><CdtDbtInd>DEBT</CdtDbtInd>", 1)),
		"sides that miss": camt054("", "", ntry("964.40", "DBIT", issued, details(tx(endToEnd(payout)+"<CdtDbtInd>CRDT</CdtDbtInd>")))),
		"two accounts":    camt054("", "", one+`</Ntfctn><Ntfctn><Id>N2</Id><Acct><Id><Othr><Id>9999000000000002</Id></Othr></Id></Acct>`+one),
		"no status":       camt054("", "", strings.Replace(one, "<Sts><Cd>BOOK</Cd></Sts>", "", 1)),
		"no dates":        camt054("", "", strings.NewReplacer("<BookgDt><Dt>2026-11-24</Dt></BookgDt>", "").Replace(one)),
	} {
		if _, got, err := entries(t, strings.NewReader(doc)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// pain002 is a status report: what is said of the message, and of its payments.
func pain002Doc(group, blocks string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt><GrpHdr><MsgId>BANK 1</MsgId><CreDtTm>2026-11-23T10:05:00</CreDtTm></GrpHdr>` +
		`<OrgnlGrpInfAndSts><OrgnlMsgId>PO1</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>` + group + `</OrgnlGrpInfAndSts>` + blocks + `</CstmrPmtStsRpt></Document>`
}

func block(head string, orders ...string) string {
	return "<OrgnlPmtInfAndSts><OrgnlPmtInfId>PO1</OrgnlPmtInfId>" + head + strings.Join(orders, "") + "</OrgnlPmtInfAndSts>"
}

func orderStatus(ref, status string) string {
	if status != "" {
		status = "<TxSts>" + status + "</TxSts>"
	}
	return "<TxInfAndSts><OrgnlEndToEndId>" + ref + "</OrgnlEndToEndId>" + status + "</TxInfAndSts>"
}

func TestPain002AsBanksWriteIt(t *testing.T) {
	schema := schematest.Pain002(t)
	counted := func(status, n string) string {
		return "<NbOfTxsPerSts><DtldNbOfTxs>" + n + "</DtldNbOfTxs><DtldSts>" + status + "</DtldSts></NbOfTxsPerSts>"
	}
	is := func(ref string, c Code) Status { return Status{Reference: ref, Code: c, Line: 1} }
	for _, c := range []struct {
		name, doc string
		group     Code
		want      []Status
		refused   string
	}{
		{name: "status of the message alone", doc: pain002Doc("<GrpSts>ACTC</GrpSts>", ""), group: Processing},
		{name: "status of the payment alone", doc: pain002Doc("", block("<PmtInfSts>RJCT</PmtInfSts>")), group: Refused},
		{name: "both", doc: pain002Doc("<GrpSts>ACCP</GrpSts>", block("<PmtInfSts>RJCT</PmtInfSts>")), group: Refused},
		{name: "both, in part", doc: pain002Doc("<GrpSts>PART</GrpSts>", block("<PmtInfSts>PART</PmtInfSts>", orderStatus("A", "ACSC"), orderStatus("B", "RJCT"))), want: []Status{is("A", Paid), is("B", Refused)}},
		{name: "counted twice", doc: pain002Doc("<GrpSts>PART</GrpSts>"+counted("ACSC", "1")+counted("RJCT", "1"), block(counted("ACSC", "1")+counted("RJCT", "1"), orderStatus("A", "ACSC"), orderStatus("B", "RJCT"))), want: []Status{is("A", Paid), is("B", Refused)}},
		{name: "counted wrong below", doc: pain002Doc(counted("ACSC", "1"), block(counted("ACSC", "2"), orderStatus("A", "ACSC"))), refused: "the head says 2"},
		{name: "counted, and the exceptions listed", doc: pain002Doc("<GrpSts>PART</GrpSts>"+counted("ACSP", "98")+counted("RJCT", "1"), block("", orderStatus("B", "RJCT"))), want: []Status{is("B", Refused)}},
		{name: "split by how they fare", doc: pain002Doc("", block("<PmtInfSts>ACSC</PmtInfSts>"+counted("ACSC", "1"), orderStatus("A", ""))+block("<PmtInfSts>RJCT</PmtInfSts>"+counted("RJCT", "1"), orderStatus("B", "RJCT"))), group: "", want: []Status{is("A", Paid), is("B", Refused)}},
		{name: "split, counted together", doc: pain002Doc("", block(counted("ACSC", "1"), orderStatus("A", "ACSC"))+block(counted("ACSC", "1"), orderStatus("B", "ACSC"))), want: []Status{is("A", Paid), is("B", Paid)}},
		{name: "an order without a status of its own", doc: pain002Doc("<GrpSts>RJCT</GrpSts>", block("", orderStatus("A", ""))), group: Refused, want: []Status{is("A", Refused)}},
		{name: "an order without any status", doc: pain002Doc("", block("", orderStatus("A", ""))), refused: "no TxSts"},
		{name: "all refused, and one paid", doc: pain002Doc("<GrpSts>RJCT</GrpSts>", block("", orderStatus("A", "ACSC"))), refused: "as a whole"},
		{name: "all refused, and the payment settled", doc: pain002Doc("<GrpSts>RJCT</GrpSts>", block("<PmtInfSts>ACSC</PmtInfSts>")), refused: "ACSC in a message that is REJECTED as a whole"},
		{name: "the payment settled, and one refused", doc: pain002Doc("", block("<PmtInfSts>ACSC</PmtInfSts>", orderStatus("A", "RJCT"))), refused: "as a whole"},
		{name: "blocked", doc: pain002Doc("<GrpSts>PATC</GrpSts>", block("", orderStatus("A", "BLCK"), orderStatus("B", "ACPD"))), group: Processing, want: []Status{is("A", Processing), is("B", Processing)}},
		{name: "a status counted that is none", doc: pain002Doc(counted("YES!", "1"), block("", orderStatus("A", "ACSC"))), refused: "is not known"},
	} {
		for _, what := range schema.Breaks([]byte(c.doc)) {
			t.Errorf("%s: no valid example: %s", c.name, what)
		}
		head, got, err := statuses(t, strings.NewReader(c.doc))
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %+v, %v; want %q", c.name, got, err, c.refused)
			}
			continue
		}
		if err != nil || head.Group != c.group || head.MessageID != "BANK 1" || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v\ngot  %+v\nwant %+v", c.name, head, err, got, c.want)
		}
	}
}

// A file in GB 18030 that says so is read as one in UTF-8.
func TestGB18030(t *testing.T) {
	text := load(t, "pain002.xml")
	_, want, err := statuses(t, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"GB18030", "gbk", "GB2312"} {
		gb, err := simplifiedchinese.GB18030.NewEncoder().String(strings.Replace(text, "UTF-8", name, 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, got, err := statuses(t, strings.NewReader(gb)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	ascii := strings.NewReplacer("UTF-8", "US-ASCII", "账户已销户", "closed").Replace(text)
	if _, _, err := statuses(t, strings.NewReader(ascii)); err != nil {
		t.Error(err)
	}
}

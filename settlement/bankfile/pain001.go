package bankfile

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"iter"
	"time"

	"acquirer/calendar"
)

// Pain001 is the namespace of the orders.
const Pain001 = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"

// xmlOrder is CdtTrfTxInf.
type xmlOrder struct {
	XMLName   xml.Name  `xml:"CdtTrfTxInf"`
	EndToEnd  string    `xml:"PmtId>EndToEndId"`
	Amount    xmlAmount `xml:"Amt>InstdAmt"`
	Bank      string    `xml:"CdtrAgt>FinInstnId>Nm"`
	Name      string    `xml:"Cdtr>Nm"`
	Account   string    `xml:"CdtrAcct>Id>Othr>Id"`
	Narrative string    `xml:"RmtInf>Ustrd,omitempty"`
}

type xmlAmount struct {
	Currency string `xml:"Ccy,attr"`
	Value    string `xml:",chardata"`
}

// Currency of everything in these files.
const Currency = "CNY"

// WritePain001 writes a batch of orders as customer credit transfer initiation,
// ISO 20022 pain.001.001.09, one PmtInf. The same batch and orders make the same
// bytes. The orders must add up to what the batch says, or it returns an error
// and what was written is no file.
func WritePain001(w io.Writer, b *Batch, orders iter.Seq2[Order, error]) error {
	if err := b.check(); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	put := func(s string) { _, _ = out.WriteString(s) } // bufio keeps the first error for Flush
	leaf := func(name, value string) {
		put("<" + name + ">")
		_ = xml.EscapeText(out, []byte(value)) // as put
		put("</" + name + ">")
	}
	put(xml.Header + `<Document xmlns="` + Pain001 + `"><CstmrCdtTrfInitn>` + "\n<GrpHdr>")
	leaf("MsgId", b.MessageID)
	leaf("CreDtTm", b.Created.In(calendar.Beijing).Format(time.RFC3339))
	leaf("NbOfTxs", fmt.Sprint(b.Count))
	leaf("CtrlSum", b.Sum.String())
	put("<InitgPty>")
	leaf("Nm", b.Debtor.Name)
	put("</InitgPty></GrpHdr>\n<PmtInf>")
	leaf("PmtInfId", b.MessageID)
	leaf("PmtMtd", "TRF")
	leaf("BtchBookg", "false") // a debit for each order, so that the statement names each
	leaf("NbOfTxs", fmt.Sprint(b.Count))
	leaf("CtrlSum", b.Sum.String())
	put("<PmtTpInf><CtgyPurp>")
	leaf("Cd", "SUPP")
	put("</CtgyPurp></PmtTpInf><ReqdExctnDt>")
	leaf("Dt", isoDate(b.Execute))
	put("</ReqdExctnDt><Dbtr>")
	leaf("Nm", b.Debtor.Name)
	put("</Dbtr><DbtrAcct><Id><Othr>")
	leaf("Id", b.Debtor.Account)
	put("</Othr></Id>")
	leaf("Ccy", Currency)
	put("</DbtrAcct><DbtrAgt><FinInstnId>")
	leaf("Nm", b.Debtor.Bank)
	put("</FinInstnId></DbtrAgt>\n")
	enc := xml.NewEncoder(out)
	err := b.totals(orders, func(_ int, o *Order) error {
		err := enc.Encode(&xmlOrder{EndToEnd: o.Reference, Amount: xmlAmount{Currency, o.Amount.String()}, Bank: o.Bank, Name: o.Name, Account: o.Account, Narrative: o.Merchant})
		put("\n")
		return err
	})
	if err != nil {
		return err
	}
	put("</PmtInf></CstmrCdtTrfInitn></Document>\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("bankfile: writing message %s: %w", b.MessageID, err)
	}
	return nil
}

func isoDate(d calendar.Date) string {
	return fmt.Sprintf("%04d-%02d-%02d", d.Year(), d.Month(), d.Day())
}

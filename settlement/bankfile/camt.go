package bankfile

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// camt reads a statement or a notification.
type camt struct {
	s    *scanner
	head Statement

	created   calendar.Date // of the message
	from      time.Time     // FrToDt/FrDtTm
	saidCount int           // of TxsSummry/TtlNtries; -1 where it is not there
	saidSum   money.Amount  // likewise
	count     int
	sum       money.Amount

	entry  camtEntry
	detail camtDetail
}

// camtEntry is Ntry as far as it has been read.
type camtEntry struct {
	line          int
	ref, bank     string
	amount        money.Amount
	said          bool // Amt came
	credit, known bool // known: CdtDbtInd came
	reversal      bool
	status        string
	booked, value calendar.Date
	fee, came     bool // by BkTxCd: a fee; a payment that came back
	batch         string
	batchCount    int
	details       int
	named         int // details with an end-to-end identification
	detailSum     money.Amount
}

// camtDetail is TxDtls.
type camtDetail struct {
	line          int
	ref, bank     string
	amount        money.Amount
	underlying    money.Amount // of AmtDtls: versions up to 3 have no Amt here
	credit, known bool         // known: CdtDbtInd came
	fee, returned bool
	reason, text  string
	debtor        string // account that it came from
}

// ReadCamt reads a statement (ISO 20022 camt.053.001.NN) or a notification of
// debits and credits (camt.054.001.NN): its head, then every booked entry, one
// Entry for each of its transactions. Entries that are only announced are left
// out.
func ReadCamt(r io.Reader) (*Statement, iter.Seq2[Entry, error], error) {
	c := &camt{s: newScanner(r), saidCount: -1, saidSum: -1}
	e, err := c.s.open("camt.054.001", "camt.053.001")
	for ; err == nil; e, err = c.s.next() {
		if !e.ends && c.below(e.path) == "Ntry" {
			break
		}
		if err = c.top(e); err != nil {
			break
		}
	}
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	if c.head.MessageID == "" || c.head.Account == "" {
		return nil, nil, c.s.bad("", "no GrpHdr/MsgId or no account before the first entry")
	}
	if c.head.Day == 0 {
		c.head.Day = c.created
	}
	ended := err == io.EOF
	return &c.head, func(yield func(Entry, error) bool) {
		err := error(nil)
		if ended {
			err = c.totals()
		} else {
			err = c.entries(yield)
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}, nil
}

// below is a path without the two elements around every entry.
func (c *camt) below(path string) string {
	for _, around := range [...]string{"BkToCstmrDbtCdtNtfctn/Ntfctn/", "BkToCstmrStmt/Stmt/"} {
		if rest, ok := strings.CutPrefix(path, around); ok {
			return rest
		}
	}
	return ""
}

func (c *camt) top(e event) (err error) {
	switch {
	case !e.ends:
		return nil
	case strings.HasSuffix(e.path, "/GrpHdr/MsgId"):
		c.head.MessageID, err = c.s.title(e.path, e.text)
		return err
	case strings.HasSuffix(e.path, "/GrpHdr/CreDtTm"):
		c.created, err = c.s.date(e.path, e.text)
		return err
	}
	switch c.below(e.path) {
	case "CreDtTm":
		c.head.Day, err = c.s.date(e.path, e.text)
	case "FrToDt/FrDtTm":
		c.from, err = c.s.moment(e.path, e.text)
	case "FrToDt/ToDtTm":
		var to time.Time
		if to, err = c.s.moment(e.path, e.text); err != nil {
			return err
		}
		c.head.Day = calendar.DateOf(to)
		if !c.from.IsZero() && calendar.DateOf(c.from) < c.head.Day && calendar.DateOf(to.Add(-1)) != c.head.Day {
			c.head.Day = c.head.Day.AddDays(-1) // it ends with the midnight behind the day
		}
	case "Acct/Id/Othr/Id", "Acct/Id/IBAN":
		if !accountNumber(e.text) {
			return c.s.bad(e.path, "not an account number of 8 to 34 letters and digits")
		}
		if c.head.Account != "" && c.head.Account != e.text {
			return c.s.bad(e.path, "a second account; want one account a file")
		}
		c.head.Account = e.text
	case "TxsSummry/TtlNtries/NbOfNtries":
		var n int
		n, err = c.s.count(e.path, e.text)
		c.saidCount = max(c.saidCount, 0) + n
	case "TxsSummry/TtlNtries/Sum":
		var sum money.Amount
		if sum, err = c.s.sum(e.path, e.text); err != nil {
			return err
		}
		if c.saidSum, err = max(c.saidSum, 0).Add(sum); err != nil {
			return c.s.bad(e.path, err.Error())
		}
	}
	return err
}

// entries reads from the first Ntry, which has begun, to the end.
func (c *camt) entries(yield func(Entry, error) bool) error {
	c.begin()
	for {
		e, err := c.s.next()
		if err == io.EOF {
			return c.totals()
		}
		if err != nil {
			return err
		}
		path := c.below(e.path)
		switch {
		case !e.ends && path == "Ntry":
			c.begin()
		case !e.ends && path == "Ntry/NtryDtls/TxDtls":
			c.detail = camtDetail{line: c.s.at.line}
		case e.ends && path == "Ntry/NtryDtls/TxDtls":
			out, some, err := c.transaction(e)
			if err != nil {
				return err
			}
			if some && !yield(out, nil) {
				return nil
			}
		case e.ends && path == "Ntry":
			out, some, err := c.whole(e)
			if err != nil {
				return err
			}
			if some && !yield(out, nil) {
				return nil
			}
		case e.ends && strings.HasPrefix(path, "Ntry/"):
			err = c.field(e, strings.TrimPrefix(path, "Ntry/"))
		default:
			err = c.top(e)
		}
		if err != nil {
			return err
		}
	}
}

func (c *camt) begin() { c.entry = camtEntry{line: c.s.at.line} }

func (c *camt) field(e event, path string) (err error) {
	n := &c.entry
	switch path {
	case "NtryRef":
		n.ref = e.text
	case "Amt":
		n.amount, err = c.s.amount(e.path, e.text)
		n.said = true
	case "CdtDbtInd":
		n.credit, err = c.side(e)
		n.known = true
	case "RvslInd":
		n.reversal = e.text == "true" || e.text == "1"
	case "Sts", "Sts/Cd", "Sts/Prtry":
		if e.text != "" {
			n.status = e.text
		}
	case "BookgDt/Dt", "BookgDt/DtTm":
		n.booked, err = c.s.date(e.path, e.text)
	case "AcctSvcrRef":
		n.bank = e.text
	case "ValDt/Dt", "ValDt/DtTm":
		n.value, err = c.s.date(e.path, e.text)
	case "BkTxCd/Domn/Fmly/SubFmlyCd", "BkTxCd/Prtry/Cd":
		n.fee, n.came = n.fee || feeCodes[e.text], n.came || e.text == returnCode
	case "NtryDtls/Btch/PmtInfId", "NtryDtls/Btch/MsgId":
		n.batch = shortened(e.text)
	case "NtryDtls/Btch/NbOfTxs":
		n.batchCount, err = c.s.count(e.path, e.text)
	case "NtryDtls/TxDtls/Refs/EndToEndId":
		if e.text != "NOTPROVIDED" {
			c.detail.ref = shortened(e.text) // anybody's
		}
	case "NtryDtls/TxDtls/Refs/AcctSvcrRef":
		c.detail.bank = e.text
	case "NtryDtls/TxDtls/Amt":
		c.detail.amount, err = c.s.amount(e.path, e.text)
	case "NtryDtls/TxDtls/AmtDtls/TxAmt/Amt", "NtryDtls/TxDtls/AmtDtls/InstdAmt/Amt":
		if c.s.yuan() { // else it was exchanged
			c.detail.underlying, err = c.s.sum(e.path, e.text)
		}
	case "NtryDtls/TxDtls/CdtDbtInd":
		c.detail.credit, err = c.side(e)
		c.detail.known = true
	case "NtryDtls/TxDtls/BkTxCd/Domn/Fmly/SubFmlyCd", "NtryDtls/TxDtls/BkTxCd/Prtry/Cd":
		c.detail.fee, c.detail.returned = c.detail.fee || feeCodes[e.text], c.detail.returned || e.text == returnCode
	case "NtryDtls/TxDtls/RtrInf/Rsn/Cd", "NtryDtls/TxDtls/RtrInf/Rsn/Prtry", "NtryDtls/TxDtls/RtrInf/AddtlInf":
		c.detail.reason = shortened(c.detail.reason + " " + e.text)
	case "NtryDtls/TxDtls/RtrInf":
		c.detail.returned = true
	case "NtryDtls/TxDtls/RltdPties/DbtrAcct/Id/Othr/Id", "NtryDtls/TxDtls/RltdPties/DbtrAcct/Id/IBAN":
		if accountNumber(e.text) { // of another form it tells nobody apart
			c.detail.debtor = e.text
		}
	case "NtryDtls/TxDtls/RmtInf/Ustrd":
		c.detail.text = shortened(c.detail.text + e.text)
	}
	return err
}

// feeCodes are the codes of what a bank takes for its services (external code set
// ExternalBankTransactionSubFamily1Code), returnCode that of a payment that came back.
var feeCodes = map[string]bool{"CHRG": true, "FEES": true, "COMM": true}

const returnCode = "RRTN"

// side reads CdtDbtInd.
func (c *camt) side(e event) (credit bool, err error) {
	if e.text != "CRDT" && e.text != "DBIT" {
		return false, c.s.bad(e.path, fmt.Sprintf("%.8q is neither CRDT nor DBIT", e.text))
	}
	return e.text == "CRDT", nil
}

// ready checks what an entry must have said before its transactions.
func (c *camt) ready(e event) error {
	n := &c.entry
	if n.booked == 0 {
		n.booked = n.value
	}
	switch {
	case !n.said:
		return c.s.bad(e.path, "the entry has no amount before its details")
	case !n.known:
		return c.s.bad(e.path, "the entry has no CdtDbtInd before its details")
	case n.status == "":
		return c.s.bad(e.path, "the entry has no status before its details")
	case n.status == "BOOK" && !n.booked.Valid():
		return c.s.bad(e.path, "the entry has no booking date before its details")
	}
	return nil
}

// transaction ends a TxDtls.
func (c *camt) transaction(e event) (out Entry, booked bool, err error) {
	if err := c.ready(e); err != nil {
		return out, false, err
	}
	n, d := &c.entry, &c.detail
	amount := cmp.Or(d.amount, d.underlying, n.amount) // the only one, or the sum will tell
	credit := n.credit
	if d.known {
		credit = d.credit
	}
	signed := amount
	if credit != n.credit {
		signed = -amount // the entry is what is left of both sides
	}
	n.details++
	if n.detailSum, err = n.detailSum.Add(signed); err != nil {
		return out, false, c.s.bad(e.path, err.Error())
	}
	if d.ref != "" {
		n.named++
	} else if n.batch != "" && !credit {
		return out, false, nil // orders of a message that are not told apart: whole says so
	}
	out = Entry{Reference: d.ref, Amount: amount, Credit: credit, Booked: n.booked, BankID: shortened(cmp.Or(d.bank, n.bank)), Reason: d.reason, Line: d.line}
	if d.bank == "" && n.bank != "" && n.details > 1 {
		out.BankID = fmt.Sprintf("%s#%d", out.BankID, n.details)
	}
	if credit {
		out.Account = d.debtor
	}
	out.Kind = kindOf(credit, d.returned || n.came || n.reversal, d.fee || n.fee, d.ref != "")
	if out.Kind == Return && d.ref == "" {
		out.Kind = Receipt // of whatever came back nobody says: a person's
	}
	if out.Reference == "" && said(d.text) {
		out.Reference = d.text // a network's receipt names its day there
	}
	if out.Reference == "" && identifier(n.ref, 70) {
		out.Reference = n.ref
	}
	return out, n.status == "BOOK" && amount > 0, nil
}

// whole ends a Ntry; it is an entry of its own when it had no transactions, or
// none that tells which order of its message it is.
func (c *camt) whole(e event) (out Entry, booked bool, err error) {
	if err := c.ready(e); err != nil {
		return out, false, err
	}
	n := &c.entry
	c.count++
	if c.sum, err = c.sum.Add(n.amount); err != nil {
		return out, false, c.s.bad(e.path, err.Error())
	}
	if n.details > 0 && n.detailSum != n.amount {
		return out, false, c.s.bad(e.path, fmt.Sprintf("its transactions add up to %s, the entry is %s", n.detailSum, n.amount))
	}
	if n.named > 0 || n.details > 0 && (n.batch == "" || n.credit) {
		return out, false, nil
	}
	out = Entry{Batch: n.batch, Count: n.batchCount, Amount: n.amount, Credit: n.credit, Booked: n.booked, BankID: shortened(n.bank), Line: n.line}
	if n.batch == "" && identifier(n.ref, 70) {
		out.Reference = n.ref
	}
	out.Kind = kindOf(n.credit, n.came || n.reversal, n.fee, n.batch != "")
	if out.Kind == Return && out.Reference == "" {
		out.Kind = Receipt // of whatever came back nobody says: a person's
	}
	return out, n.status == "BOOK" && n.amount > 0, nil
}

// kindOf tells what a movement is for. named says that it carries an end-to-end
// identification or the message of a batch.
func kindOf(credit, returned, fee, named bool) Kind {
	switch {
	case credit && returned:
		return Return
	case credit:
		return Receipt
	case fee:
		return Fee
	case named:
		return Payout
	}
	return Other
}

// totals compares what was read with the summary.
func (c *camt) totals() error {
	switch {
	case c.saidCount >= 0 && c.saidCount != c.count:
		return c.s.bad("TxsSummry/TtlNtries", fmt.Sprintf("%d entries were read; the summary says %d", c.count, c.saidCount))
	case c.saidSum >= 0 && c.saidSum != c.sum:
		return c.s.bad("TxsSummry/TtlNtries", fmt.Sprintf("entries of %s were read; the summary says %s", c.sum, c.saidSum))
	}
	return nil
}

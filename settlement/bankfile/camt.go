package bankfile

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"strings"

	"acquirer/calendar"
	"acquirer/money"
)

// camt reads a statement or a notification.
type camt struct {
	s    *scanner
	head Statement

	saidCount int // of TxsSummry/TtlNtries; -1 where it is not there
	saidSum   money.Amount
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
	credit, known bool // known: CdtDbtInd came
	reversal      bool
	status        string
	booked        calendar.Date
	family        string // BkTxCd
	batch         string
	batchCount    int
	details       int
	detailSum     money.Amount
}

// camtDetail is TxDtls.
type camtDetail struct {
	line         int
	ref, bank    string
	amount       money.Amount
	returned     bool
	reason, text string
}

// ReadCamt reads a statement (ISO 20022 camt.053.001.NN) or a notification of
// debits and credits (camt.054.001.NN): its head, then every booked entry, one
// Entry for each of its transactions. Entries that are only announced are left
// out.
func ReadCamt(r io.Reader) (*Statement, iter.Seq2[Entry, error], error) {
	c := &camt{s: newScanner(r), saidCount: -1}
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
		c.head.MessageID, err = c.s.name(e.path, e.text)
		return err
	}
	switch c.below(e.path) {
	case "CreDtTm":
		c.head.Day, err = c.s.date(e.path, e.text)
	case "FrToDt/ToDtTm":
		c.head.Day, err = c.s.date(e.path, e.text)
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
		sum, err = c.s.sum(e.path, e.text)
		c.saidSum += sum
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
	case "CdtDbtInd":
		if e.text != "CRDT" && e.text != "DBIT" {
			return c.s.bad(e.path, fmt.Sprintf("%.8q is neither CRDT nor DBIT", e.text))
		}
		n.credit, n.known = e.text == "CRDT", true
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
	case "BkTxCd/Domn/Fmly/SubFmlyCd", "BkTxCd/Prtry/Cd":
		n.family = e.text
	case "NtryDtls/Btch/PmtInfId", "NtryDtls/Btch/MsgId":
		n.batch, err = c.s.name(e.path, e.text)
	case "NtryDtls/Btch/NbOfTxs":
		n.batchCount, err = c.s.count(e.path, e.text)
	case "NtryDtls/TxDtls/Refs/EndToEndId":
		if e.text != "NOTPROVIDED" {
			c.detail.ref, err = c.s.name(e.path, e.text)
		}
	case "NtryDtls/TxDtls/Refs/AcctSvcrRef":
		c.detail.bank = e.text
	case "NtryDtls/TxDtls/Amt":
		c.detail.amount, err = c.s.amount(e.path, e.text)
	case "NtryDtls/TxDtls/RtrInf/Rsn/Cd", "NtryDtls/TxDtls/RtrInf/Rsn/Prtry", "NtryDtls/TxDtls/RtrInf/AddtlInf":
		c.detail.reason = shortened(c.detail.reason + " " + e.text)
	case "NtryDtls/TxDtls/RtrInf":
		c.detail.returned = true
	case "NtryDtls/TxDtls/RmtInf/Ustrd":
		c.detail.text = shortened(c.detail.text + e.text)
	}
	return err
}

// ready checks what an entry must have said before its transactions.
func (c *camt) ready(e event) error {
	n := &c.entry
	switch {
	case n.amount <= 0:
		return c.s.bad(e.path, "the entry has no amount above zero before its details")
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
	amount := d.amount
	if amount == 0 {
		amount = n.amount // the only one, or the sum will tell
	}
	n.details++
	if n.detailSum, err = n.detailSum.Add(amount); err != nil {
		return out, false, c.s.bad(e.path, err.Error())
	}
	out = Entry{Reference: d.ref, Amount: amount, Credit: n.credit, Booked: n.booked, BankID: shortened(cmp.Or(d.bank, n.bank)), Reason: d.reason, Line: d.line}
	out.Kind = n.kind(d.ref != "", d.returned)
	if out.Reference == "" && identifier(d.text, 70) {
		out.Reference = d.text // a network's receipt names its day there
	}
	if out.Reference == "" && identifier(n.ref, 70) {
		out.Reference = n.ref
	}
	return out, n.status == "BOOK", nil
}

// whole ends a Ntry; it is an entry of its own when it had no transactions.
func (c *camt) whole(e event) (out Entry, booked bool, err error) {
	if err := c.ready(e); err != nil {
		return out, false, err
	}
	n := &c.entry
	c.count++
	if c.sum, err = c.sum.Add(n.amount); err != nil {
		return out, false, c.s.bad(e.path, err.Error())
	}
	if n.details > 0 {
		if n.detailSum != n.amount {
			return out, false, c.s.bad(e.path, fmt.Sprintf("its transactions add up to %s, the entry is %s", n.detailSum, n.amount))
		}
		return out, false, nil
	}
	out = Entry{Batch: n.batch, Count: n.batchCount, Amount: n.amount, Credit: n.credit, Booked: n.booked, BankID: shortened(n.bank), Line: n.line}
	if n.batch == "" && identifier(n.ref, 70) {
		out.Reference = n.ref
	}
	out.Kind = n.kind(n.batch != "", false)
	if out.Kind == Return && out.Reference == "" {
		out.Kind = Receipt // of whatever came back nobody says: a person's
	}
	return out, n.status == "BOOK", nil
}

// kind tells what a movement is for. named says that it carries an end-to-end
// identification or the message of a batch.
func (n *camtEntry) kind(named, returned bool) Kind {
	switch {
	case n.credit && (returned || n.reversal):
		return Return
	case n.credit:
		return Receipt
	case n.family == "CHRG" || n.family == "FEES" || n.family == "COMM":
		return Fee
	case named:
		return Payout
	}
	return Other
}

// totals compares what was read with the summary.
func (c *camt) totals() error {
	if c.saidCount >= 0 && (c.saidCount != c.count || c.saidSum != c.sum) {
		return c.s.bad("TxsSummry/TtlNtries", fmt.Sprintf("%d entries of %s were read; the summary says %d of %s", c.count, c.sum, c.saidCount, c.saidSum))
	}
	return nil
}

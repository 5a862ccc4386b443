package bankfile

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"strings"
)

// codes are the statuses of ISO 20022 (external code sets
// ExternalPaymentTransactionStatus1Code, ExternalPaymentGroupStatus1Code and
// ExternalPaymentInformationStatus1Code) in the house's words. What is blocked or was
// accepted in part may end either way.
var codes = map[string]Code{
	"ACSC": Paid, "ACCC": Paid,
	"RCVD": Processing, "PDNG": Processing, "ACTC": Processing, "PATC": Processing, "ACCP": Processing, "ACFC": Processing, "ACSP": Processing, "ACWC": Processing, "ACWP": Processing, "ACPD": Processing, "BLCK": Processing,
	"RJCT": Refused, "CANC": Refused,
}

// partly is the group status of a message whose orders fare differently.
const partly = "PART"

// pain002 reads a payment status report.
type pain002 struct {
	s      *scanner
	report Report
	group  Code // of the message; empty where it has none, or fares partly
	block  Code // of the payment information that is being read, likewise
	blocks int
	// counted are the orders by status as the bank counted them, of the message and,
	// added up, of its payment informations.
	counted [2]map[string]int
	said    int // DtldNbOfTxs, until DtldSts comes
	listed  map[string]int
	orders  int
	now     Status
	raw     string // now's status as the file has it
	reason  []string
}

const (
	groupPath = "CstmrPmtStsRpt/OrgnlGrpInfAndSts/"
	infoPath  = "CstmrPmtStsRpt/OrgnlPmtInfAndSts/"
	txPath    = infoPath + "TxInfAndSts"
)

// ReadPain002 reads a customer payment status report, ISO 20022 pain.002.001.NN:
// its head, then the statuses of single orders.
func ReadPain002(r io.Reader) (*Report, iter.Seq2[Status, error], error) {
	p := &pain002{s: newScanner(r), report: Report{Count: -1, Sum: -1}, counted: [2]map[string]int{{}, {}}, listed: map[string]int{}}
	e, err := p.s.open("pain.002.001")
	for ; err == nil; e, err = p.s.next() {
		if !e.ends && e.path == txPath {
			break
		}
		if err = p.head(e); err != nil {
			break
		}
	}
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	ended := err == io.EOF
	switch {
	case p.report.MessageID == "" || p.report.About == "":
		return nil, nil, p.s.bad("", "the report has no MsgId or no OrgnlMsgId before its first transaction")
	case ended && p.report.Group == "":
		return nil, nil, p.s.bad("", "the report has neither a status for the message nor one for an order")
	}
	return &p.report, func(yield func(Status, error) bool) {
		if ended {
			return
		}
		err := p.transactions(yield)
		if err != nil {
			yield(Status{}, err)
		}
	}, nil
}

// head takes what stands outside of single orders.
func (p *pain002) head(e event) (err error) {
	path, ofBlock := strings.CutPrefix(e.path, infoPath)
	of := 0
	if ofBlock {
		of = 1
	} else {
		path = strings.TrimPrefix(path, groupPath)
	}
	switch {
	case !e.ends && e.path == strings.TrimSuffix(infoPath, "/"):
		p.block = ""
		return nil
	case !e.ends:
		return nil
	}
	switch path {
	case "CstmrPmtStsRpt/GrpHdr/MsgId":
		p.report.MessageID, err = p.s.title(e.path, e.text)
	case "OrgnlMsgId":
		p.report.About, err = p.s.name(e.path, e.text)
	case "OrgnlNbOfTxs":
		p.report.Count, err = p.s.count(e.path, e.text)
	case "OrgnlCtrlSum":
		p.report.Sum, err = p.s.sum(e.path, e.text)
	case "GrpSts":
		if e.text != partly {
			p.group, err = p.code(e)
		}
		p.report.Group = p.group
	case "PmtInfSts":
		err = p.payment(e)
	case "StsRsnInf/Rsn/Cd", "StsRsnInf/Rsn/Prtry", "StsRsnInf/AddtlInf":
		p.report.Reason = shortened(p.report.Reason + " " + e.text)
	case "NbOfTxsPerSts/DtldNbOfTxs":
		p.said, err = p.s.count(e.path, e.text)
	case "NbOfTxsPerSts/DtldSts":
		_, err = p.code(e)
		p.counted[of][e.text] += p.said
		p.said = 0
	}
	return err
}

// payment takes the status of a payment information. Our messages have one, whose
// status is that of the message; a bank may split it by how the orders fare.
func (p *pain002) payment(e event) (err error) {
	if e.text != partly {
		if p.block, err = p.code(e); err != nil {
			return err
		}
	}
	if final(p.group) && p.block != p.group {
		return p.s.bad(e.path, fmt.Sprintf("%.8s in a message that is %s as a whole", e.text, p.group))
	}
	if p.blocks++; p.blocks == 1 {
		p.report.Group = cmp.Or(p.block, p.group)
	} else if p.report.Group != p.block {
		p.report.Group = "" // not the same for all
	}
	return nil
}

// final holds for what does not change any more, but by a return.
func final(c Code) bool { return c == Paid || c == Refused }

func (p *pain002) code(e event) (Code, error) {
	c, ok := codes[e.text]
	if !ok {
		return "", p.s.bad(e.path, fmt.Sprintf("status %.8q is not known", e.text))
	}
	return c, nil
}

// transactions reads from the first TxInfAndSts, which has begun, to the end.
func (p *pain002) transactions(yield func(Status, error) bool) error {
	p.now.Line = p.s.at.line
	for {
		e, err := p.s.next()
		if err == io.EOF {
			return p.counts()
		}
		if err != nil {
			return err
		}
		switch {
		case !e.ends && e.path == txPath:
			p.now, p.raw, p.reason = Status{Line: p.s.at.line}, "", nil
		case e.ends && e.path == txPath:
			if err := p.complete(); err != nil {
				return err
			}
			if !yield(p.now, nil) {
				return nil
			}
		case strings.HasPrefix(e.path, txPath+"/"):
			err = p.transaction(e)
		default:
			err = p.head(e)
		}
		if err != nil {
			return err
		}
	}
}

func (p *pain002) transaction(e event) (err error) {
	if !e.ends {
		return nil
	}
	switch strings.TrimPrefix(e.path, txPath+"/") {
	case "OrgnlEndToEndId":
		p.now.Reference, err = p.s.name(e.path, e.text)
	case "TxSts":
		p.raw = e.text
		p.now.Code, err = p.code(e)
	case "AcctSvcrRef":
		p.now.BankID = shortened(e.text)
	case "OrgnlTxRef/Amt/InstdAmt":
		p.now.Amount, err = p.s.amount(e.path, e.text)
	case "StsRsnInf/Rsn/Cd", "StsRsnInf/Rsn/Prtry", "StsRsnInf/AddtlInf":
		if len(p.reason) < 8 {
			p.reason = append(p.reason, e.text)
		}
	}
	return err
}

// complete checks a transaction that has ended. One without a status has that of
// its payment information or message.
func (p *pain002) complete() error {
	p.now.Reason = shortened(strings.Join(p.reason, " "))
	above := cmp.Or(p.block, p.group)
	if p.raw != "" {
		p.listed[p.raw]++
	} else if p.now.Code == "" {
		p.now.Code = above
	}
	p.orders++
	switch {
	case p.now.Reference == "":
		return p.s.bad(txPath, "no OrgnlEndToEndId")
	case p.now.Code == "":
		return p.s.bad(txPath, "no TxSts, and no status for all")
	case final(above) && p.now.Code != above:
		return p.s.bad(txPath, fmt.Sprintf("order %s is %s in a message that is %s as a whole", p.now.Reference, p.now.Code, above))
	}
	return nil
}

// counts compares the orders that were listed with the bank's own counts. Of a
// status that is not listed nothing can be said: a bank may list exceptions alone.
func (p *pain002) counts() error {
	for status, n := range p.listed {
		for _, counted := range p.counted {
			if said, ok := counted[status]; ok && said != n {
				return p.s.bad(groupPath+"NbOfTxsPerSts", fmt.Sprintf("%d orders are listed as %s; the head says %d", n, status, said))
			}
		}
	}
	if p.report.Count >= 0 && p.orders > p.report.Count {
		return p.s.bad(groupPath+"OrgnlNbOfTxs", fmt.Sprintf("%d orders are listed of a message of %d", p.orders, p.report.Count))
	}
	return nil
}

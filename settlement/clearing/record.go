// Package clearing reads and writes the files in which others tell what they
// have on their books: the network's daily clearing file (NETWORK-CLEAR v1, a
// layout of this house: docs/clearing.md) and UnionPay's files for merchants (ZM
// and ZME, fixed width, GBK).
//
// Files are read as a stream. What is wrong with one is an Error with its line
// and column; a reader that met one gives no more records, and whoever loads a
// file reads it to its end once before anything of it counts.
package clearing

import (
	"errors"
	"fmt"

	"acquirer/calendar"
	"acquirer/money"
)

// Kind is what a record does to the acquirer's money.
type Kind string

// The kinds of a clearing record. A reversal takes back what an earlier file
// had; what was reversed before its file was written is in no file.
const (
	Sale     Kind = "sale"   // also a completion, and what was approved offline
	Void     Kind = "void"   // takes a sale back whole, under its own RRN
	Refund   Kind = "refund" // gives a part back, under its own RRN
	Adjust   Kind = "adjust" // changes a sale by the amount: a tip
	Reversal Kind = "reversal"
)

// back reports that the kind's amount is below zero.
func (k Kind) back() bool { return k == Void || k == Refund || k == Reversal }

func (k Kind) valid() bool {
	switch k {
	case Sale, Void, Refund, Adjust, Reversal:
		return true
	}
	return false
}

// Record is one cleared movement. Amounts are in fen and below zero where money
// goes back to the cardholder; fees have the amount's sign.
type Record struct {
	Line     int    // in the file, from 1
	Kind     Kind   //
	RRN      string // DE 37 of the message that moved it; of the sale for a reversal
	Original string // DE 37 of the sale that it follows; "" when it follows none or the file does not say
	STAN     uint32 // DE 11 towards the issuer
	Sent     string // DE 7 towards the issuer, MMDDhhmmss
	PAN      string // masked
	Terminal string // DE 41
	Merchant string // DE 42
	Approval string // DE 38

	Amount     money.Amount
	IssuerFee  money.Amount // of a ZM file, which names one fee: all of it
	NetworkFee money.Amount
	BrandFee   money.Amount
	Net        money.Amount // amount less the fees: what is settled with the acquirer
	Orders     int          // of a bank's movement that books a batch as one sum: how many; else 0
}

// Fee is the sum of the three fees.
func (r *Record) Fee() money.Amount { return r.IssuerFee + r.NetworkFee + r.BrandFee }

// Header says whose file it is and for which day.
type Header struct {
	Source   string        // the issuer or network by routing's name
	Acquirer string        // institution code, DE 32
	Date     calendar.Date // the network's settlement date
}

// Totals are the sums of a file's records.
type Totals struct {
	Count      int          `json:"count"`
	Amount     money.Amount `json:"amount"`
	IssuerFee  money.Amount `json:"issuer_fee"`
	NetworkFee money.Amount `json:"network_fee"`
	BrandFee   money.Amount `json:"brand_fee"`
	Net        money.Amount `json:"net"`
}

// Add adds a record. An error is a sum that does not fit.
func (t *Totals) Add(r *Record) error {
	t.Count++
	for _, p := range []struct {
		sum *money.Amount
		by  money.Amount
	}{{&t.Amount, r.Amount}, {&t.IssuerFee, r.IssuerFee}, {&t.NetworkFee, r.NetworkFee}, {&t.BrandFee, r.BrandFee}, {&t.Net, r.Net}} {
		s, err := p.sum.Add(p.by)
		if err != nil {
			return err
		}
		*p.sum = s
	}
	return nil
}

// Error is what is wrong with a file, and where.
type Error struct {
	Line   int // from 1; 0 for the file as a whole
	Column int // byte of the line, from 1
	What   string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return "clearing: " + e.What
	}
	return fmt.Sprintf("clearing: line %d, column %d: %s", e.Line, e.Column, e.What)
}

// check looks at what every record must have, whatever its file.
func (r *Record) check() error {
	if err := r.checkKind(); err != nil {
		return err
	}
	return r.addsUp()
}

// checkKind says whether the amount is what the kind has.
func (r *Record) checkKind() error {
	switch {
	case !r.Kind.valid():
		return fmt.Errorf("kind %q is none of sale, void, refund, adjust, reversal", r.Kind)
	case r.Kind != Adjust && r.Kind.back() != (r.Amount < 0) || r.Amount == 0:
		return fmt.Errorf("a %s of %s: a sale is above zero, what goes back below", r.Kind, r.Amount)
	}
	return nil
}

// addsUp says whether the net is the amount less the fees.
func (r *Record) addsUp() error {
	net, err := money.Sum(r.Amount, -r.IssuerFee, -r.NetworkFee, -r.BrandFee)
	if err != nil {
		return err
	}
	if net != r.Net {
		return fmt.Errorf("the amount %s less fees of %s, %s and %s is %s, and the file says %s", r.Amount, r.IssuerFee, r.NetworkFee, r.BrandFee, net, r.Net)
	}
	return nil
}

// ErrOpen says that a writer was closed, or used after it.
var ErrOpen = errors.New("clearing: the file is finished")

package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"strconv"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/spec/jbig"
)

// ErrNoReceipt is what House.Receipt returns for a kind of transaction that
// nothing is printed of, such as a balance inquiry.
var ErrNoReceipt = errors.New("console: nothing is printed of such a transaction")

// Receipt is what a terminal printed of an approved transaction (签购单), to be
// printed once more. Row.Amount is what the transaction came to.
type Receipt struct {
	Row
	Answered     time.Time // as DE 12 and 13 told the terminal
	BusinessDate calendar.Date
	Batch        string // DE 60.2
	Voucher      string // DE 11
	RRN          string // DE 37
	Approval     string // DE 38
	Clears       string // DE 15, MMDD; empty when the issuer gave none
	Code         string // 交易特征码, of DE 15 and 37; empty when they make none
	Entry        string // "chip", "stripe", ...: a key entry.* of the texts, or shown as it is; "code" is a payment code
	PIN          bool   // one was typed
	Scheme       string // of the card, as DE 63 has it: a key scheme.* of the texts, or shown as it is; empty for payment codes
	IssuerNo     string // institutions, of DE 44; may be empty
	AcquirerNo   string
	Asked        money.Amount // what was asked for, when less was approved
	Original     *ReceiptOriginal
	Signing      Signing
}

// ReceiptOriginal is what a receipt says of the transaction that its own
// follows.
type ReceiptOriginal struct {
	Type     string        // as Row.Type
	Date     calendar.Date // as DE 13 told the terminal
	Batch    string
	Voucher  string
	RRN      string
	Approval string
	// Before is what the original came to before its tip or adjustment; 0 for
	// all other kinds.
	Before money.Amount
}

// Total is what a sale comes to with its tip or adjustment.
func (r Receipt) Total() (money.Amount, error) { return r.Original.Before.Add(r.Amount) }

// Signing is what stands where the cardholder signs.
type Signing uint8

// The ways of signing. The zero value asks for none.
const (
	SigningNone    Signing = iota // nobody signs: a payment code, a tip
	SigningOpen                   // a line to sign on: no picture of a signature has come
	SigningPicture                // House.Signature has it
	SigningWaived                 // contactless within the limits for which neither PIN nor signature is asked (免密免签)
)

// String is the key of the template's branch.
func (s Signing) String() string {
	return [...]string{"none", "open", "picture", "waived"}[min(int(s), 3)]
}

// slip is one copy of a receipt.
type slip struct {
	Receipt
	Copy string // "merchant" or "cardholder": a key copy.* of the texts
}

// Slips are the copies of the receipt.
func (p *page) Slips() []slip { return []slip{{p.Receipt, "merchant"}, {p.Receipt, "cardholder"}} }

// noReceipt says, by a key of the texts, why a transaction has no receipt.
type noReceipt string

func (n noReceipt) Error() string { return "console: no receipt: " + string(n) }

// receipt asks the house for a receipt; where there is none the error is a
// noReceipt.
func (s *Server) receipt(ctx context.Context, id int64) (Receipt, error) {
	r, err := s.house.Receipt(ctx, id)
	switch {
	case errors.Is(err, ErrNoReceipt):
		return r, noReceipt("receipt.none.kind")
	case err != nil || r.Outcome == Approved:
		return r, err
	case r.Outcome == Declined:
		return r, noReceipt("receipt.none.declined")
	case r.Outcome == Undecided:
		return r, noReceipt("receipt.none.undecided")
	}
	return r, noReceipt("receipt.none.reversed")
}

// signature serves the picture of a transaction's signature. It is decoded
// anew each time: nothing of it is kept.
func (s *Server) signature(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		http.Error(w, "no such transaction", http.StatusNotFound)
		return
	}
	ask, cancel := patience(r)
	defer cancel()
	packed, err := s.house.Signature(ask, id)
	switch {
	case errors.Is(err, ErrNotFound):
		http.Error(w, "no signature has come for this transaction", http.StatusNotFound)
		return
	case err != nil:
		s.complain(err)
		http.Error(w, "the signature could not be read; the log says why", http.StatusServiceUnavailable)
		return
	}
	drawn, err := DrawSignature(packed)
	if err != nil {
		s.complain(fmt.Errorf("console: the signature of transaction %d: %w", id, err))
		http.Error(w, "the signature could not be drawn; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(drawn)))
	if _, err := w.Write(drawn); err != nil {
		s.log.Debug("console: the browser went away", "error", err)
	}
}

// DrawSignature turns a signature, JBIG, into PNG, one bit for a pixel.
func DrawSignature(packed []byte) ([]byte, error) {
	picture, err := jbig.Decode(packed)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Package bankfile writes and reads the files that pass between the acquirer
// and the bank that pays its merchants: orders as ISO 20022 pain.001.001.09 or
// CSV, their statuses as pain.002 or CSV, movements on the account as camt.053,
// camt.054 or CSV.
//
// A file is read record by record in bounded memory. Whoever takes it in does so
// in one transaction and only when the last record came without an error: a
// damaged file is refused whole. Errors are *Error and say where.
package bankfile

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"acquirer/calendar"
	"acquirer/money"
)

// Order is one payment that the bank is to make.
type Order struct {
	Reference string // end-to-end identification, 1 to 35 characters
	Merchant  string // for people, at most 140 characters; may be empty
	Amount    money.Amount
	Name      string // of the account's holder, 1 to 140 characters
	Account   string // number, 8 to 34 letters and digits; clear, since the bank needs it
	Bank      string // of the account, 1 to 140 characters
}

// Batch is a file of orders: who pays, when, and the totals that stand in the
// file before its orders.
type Batch struct {
	MessageID string // 1 to 35 characters; the bank takes a message once
	Created   time.Time
	Execute   calendar.Date // when the bank is to pay
	Count     int
	Sum       money.Amount
	Debtor    Debtor
}

// Debtor is the account that is paid from.
type Debtor struct {
	Name    string // 1 to 140 characters
	Account string // number
	Bank    string // name or BIC of the bank that keeps it
}

// Code is what a bank says of one order.
type Code string

// The codes; their texts are the house's words for a payout's fate.
const (
	Paid       Code = "SUCCEEDED"
	Processing Code = "PROCESSING"
	Refused    Code = "REJECTED"
	Returned   Code = "RETURNED"
)

// Status is a bank's word about one order.
type Status struct {
	Reference string
	Code      Code
	Amount    money.Amount // 0 where the file names none
	BankID    string
	Reason    string // code and words, at most 200 bytes
	Line      int
}

// Report is the head of a file of statuses.
type Report struct {
	MessageID string
	About     string // message that it answers
	// Group is the one status that holds for every order of the message; then
	// no order is listed.
	Group  Code
	Reason string       // of Group
	Count  int          // orders of the message, as the bank counted them; -1 where it did not say
	Sum    money.Amount // and their sum; -1 where it did not say
}

// Kind is what a movement on the account is for.
type Kind string

// The kinds.
const (
	Payout  Kind = "payout"  // we paid a merchant
	Return  Kind = "return"  // a payout that came back
	Receipt Kind = "receipt" // somebody paid us: a network, a wallet
	Fee     Kind = "fee"     // the bank took it for its services
	Other   Kind = "other"
)

// Entry is one booked movement on the account.
type Entry struct {
	Reference string // end-to-end identification, or of a receipt what the remitter wrote, at most 140 bytes
	Batch     string // message whose orders it books as one sum; then Reference is empty and Count says how many
	Count     int
	Amount    money.Amount // above zero
	Credit    bool         // money came in
	Booked    calendar.Date
	Kind      Kind
	BankID    string // the servicer's reference of this movement and no other: #2 and so on stand behind it where an entry's transactions share one
	Account   string // number that a credit came from; empty where the file does not say
	Reason    string // of a return
	Line      int
}

// Statement is the head of a file of movements.
type Statement struct {
	MessageID string
	Account   string // number, as the file has it
	Day       calendar.Date
}

// Error says what is wrong with a file, and where.
type Error struct {
	Line, Column int    // from 1; 0 where it is about the file as a whole
	Path         string // of an XML element, like GrpHdr/MsgId
	What         string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("bankfile: ")
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Column)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.What)
	return b.String()
}

// mostFen is what an amount of ISO 20022 has digits for, 18.
const mostFen = 1_000_000_000_000_000_000 - 1

// check holds an order against what every format can carry.
func (o *Order) check() error {
	switch {
	case !identifier(o.Reference, 35):
		return fmt.Errorf("bankfile: reference %.64q: want 1 to 35 characters without blanks", o.Reference)
	case o.Amount <= 0 || o.Amount > mostFen:
		return fmt.Errorf("bankfile: order %s: amount %s is not above zero, or has more than 18 digits", o.Reference, o.Amount)
	case o.Merchant != "" && !text(o.Merchant, 140):
		return fmt.Errorf("bankfile: order %s: the merchant has %d characters; want at most 140", o.Reference, utf8.RuneCountInString(o.Merchant))
	case !text(o.Name, 140):
		return fmt.Errorf("bankfile: order %s: the holder's name has %d characters; want 1 to 140", o.Reference, utf8.RuneCountInString(o.Name))
	case !text(o.Bank, 140):
		return fmt.Errorf("bankfile: order %s: the bank's name has %d characters; want 1 to 140", o.Reference, utf8.RuneCountInString(o.Bank))
	case !accountNumber(o.Account):
		return fmt.Errorf("bankfile: order %s: the account number is not 8 to 34 letters and digits", o.Reference)
	}
	return nil
}

// Check says whether an order can stand in a file. The error never shows the
// account number.
func (o *Order) Check() error { return o.check() }

func (b *Batch) check() error {
	switch {
	case !identifier(b.MessageID, 35):
		return fmt.Errorf("bankfile: message %.64q: want 1 to 35 characters without blanks", b.MessageID)
	case b.Count <= 0 || b.Sum <= 0:
		return fmt.Errorf("bankfile: message %s has no orders", b.MessageID)
	case b.Sum > mostFen:
		return fmt.Errorf("bankfile: message %s: %s has more than 18 digits", b.MessageID, b.Sum)
	case !text(b.Debtor.Name, 140) || !text(b.Debtor.Bank, 140):
		return errors.New("bankfile: the debtor's name or bank is missing or longer than 140 characters")
	case !accountNumber(b.Debtor.Account):
		return errors.New("bankfile: the debtor's account number is not 8 to 34 letters and digits")
	}
	return nil
}

// totals checks while orders are written that they are what the head says.
func (b *Batch) totals(orders iter.Seq2[Order, error], write func(n int, o *Order) error) error {
	var n int
	var sum money.Amount
	for o, err := range orders {
		if err != nil {
			return err
		}
		if err := o.check(); err != nil {
			return err
		}
		n++
		if sum, err = sum.Add(o.Amount); err != nil {
			return fmt.Errorf("bankfile: message %s: %w", b.MessageID, err)
		}
		if err := write(n, &o); err != nil {
			return err
		}
	}
	if n != b.Count || sum != b.Sum {
		return fmt.Errorf("bankfile: message %s has %d orders of %s; its head says %d of %s", b.MessageID, n, sum, b.Count, b.Sum)
	}
	return nil
}

// identifier holds for what banks take as an identification: printable ASCII
// without blanks.
func identifier(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// text holds for a name of 1 to most characters, not all of them blanks, that no
// file format breaks on: XML has no U+FFFE and U+FFFF.
func text(s string, most int) bool {
	return strings.TrimSpace(s) != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= most &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == utf8.RuneError || r == 0xfffe || r == 0xffff })
}

// said holds for what somebody wrote who paid us.
func said(s string) bool { return s == strings.TrimSpace(s) && text(s, 140) && len(s) <= 140 }

func accountNumber(s string) bool {
	return len(s) >= 8 && len(s) <= 34 && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z') })
}

// shortened is a bank's reason as it may stand in a row.
func shortened(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	for len(s) > 200 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// limited refuses to read more than a file may hold.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, &Error{What: fmt.Sprintf("the file is longer than %d MB", MaxSize>>20)}
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}

// MaxSize is the longest file that is read, 1 GB.
const MaxSize = 1 << 30

package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"acquirer/calendar"
	"acquirer/money"
)

// Leg is one side of a transfer. Sub is the sub-account, "" for none.
type Leg struct {
	Side    Side
	Account Account
	Sub     string
	Amount  money.Amount // above zero
}

// Kind is what a transfer does to balances.
type Kind uint8

// A Posted transfer moves money. A Pending one reserves it: what it would take
// is no longer available. A pending transfer is ended once, by a Posting, which
// moves what was reserved, or by a Voiding or Expiry, which give it back.
const (
	Posted Kind = iota + 1
	Pending
	Posting
	Voiding
	Expiry
)

func (k Kind) String() string {
	switch k {
	case Posted:
		return "posted"
	case Pending:
		return "pending"
	case Posting:
		return "posting"
	case Voiding:
		return "voiding"
	case Expiry:
		return "expiry"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Transfer is a group of legs that is written once and never changed. A
// correction is another transfer.
type Transfer struct {
	Key   string        // unique for ever; the same key again has no effect
	Event Event         // what it stands for
	Date  calendar.Date // business date, fixed by the caller
	Ref   string        // what it belongs to: a transaction, a payout
	Kind  Kind
	Legs  []Leg
	// Resolves is the key of the pending transfer that a Posting, Voiding or
	// Expiry ends. Such a transfer names no legs: they are those of the pending.
	Resolves string
}

var (
	// ErrInsufficient says that an account would be overdrawn. Nothing was posted.
	ErrInsufficient = errors.New("ledger: not enough money in the account")
	// ErrConflict says that a key was used before for a transfer of other
	// content. Nothing was posted.
	ErrConflict = errors.New("ledger: the key belongs to another transfer")
	// ErrResolved says that a pending transfer does not exist or has been ended
	// in another way. Nothing was posted.
	ErrResolved = errors.New("ledger: no such open pending transfer")
)

// most is the most that a leg may move: ten trillion yuan. Balances then cannot
// outgrow 64 bits in thousands of such legs.
const most money.Amount = 1_000_000_000_000_000

// bounded refuses amounts that no house books: they come from a slip of the hand
// or a damaged row, and a sum of them would not fit.
func (t *Transfer) bounded() error {
	for _, l := range t.Legs {
		if l.Amount > most || l.Amount < -most {
			return fmt.Errorf("ledger: transfer %q (%s): %s of %s: %w", t.Key, t.Event, l.Amount, l.Account, money.ErrOverflow)
		}
	}
	return nil
}

// check panics when legs do not balance: a program that books such a thing must
// not go on. The panic undoes the transaction it happens in. Everything else
// that is wrong with a transfer is a defect of the caller too.
func (t *Transfer) check() {
	bad := func(format string, args ...any) {
		panic(fmt.Sprintf("ledger: transfer %q (%s): %s", t.Key, t.Event, fmt.Sprintf(format, args...)))
	}
	if t.Key == "" || t.Event == "" || t.Date == 0 {
		bad("needs a key, an event and a date")
	}
	switch t.Kind {
	case Posted, Pending:
		if len(t.Legs) < 2 || t.Resolves != "" {
			bad("a %s transfer has legs and resolves nothing", t.Kind)
		}
	case Posting, Voiding, Expiry:
		if len(t.Legs) != 0 || t.Resolves == "" {
			bad("a %s resolves another transfer and has no legs of its own", t.Kind)
		}
	default:
		bad("has no kind")
	}
	var sum [Own + 1]money.Amount
	for _, l := range t.Legs {
		if chart[l.Account].book == 0 || l.Amount <= 0 || strings.ContainsAny(l.Sub, ", ") {
			bad("leg %s%d:%s %s: want an account of the chart, an amount above zero, a plain sub-account", l.Side, l.Account, l.Sub, l.Amount)
		}
		amount := l.Amount
		if l.Side == Credit {
			amount = -amount
		}
		var err error
		if sum[l.Account.Book()], err = sum[l.Account.Book()].Add(amount); err != nil {
			bad("%v", err)
		}
	}
	for _, b := range [...]Book{Client, Own} {
		if sum[b] != 0 {
			bad("debits less credits of book %s are %s, not 0.00: %s", b, sum[b], encodeLegs(t.Legs))
		}
	}
}

// Differs says in words how a transfer that is booked is not the one that
// should be, "" when it is. Keys are not compared, nor are dates when the
// wanted one is 0.
func (t *Transfer) Differs(want *Transfer) string {
	switch {
	case t.Event != want.Event:
		return fmt.Sprintf("it is booked as %s, not as %s", t.Event, want.Event)
	case t.Kind != want.Kind || t.Resolves != want.Resolves:
		return fmt.Sprintf("it is booked as a %s of %q, not as a %s of %q", t.Kind, t.Resolves, want.Kind, want.Resolves)
	case t.Ref != want.Ref:
		return fmt.Sprintf("it is booked for %q, not for %q", t.Ref, want.Ref)
	case !slices.Equal(t.Legs, want.Legs):
		return fmt.Sprintf("it is booked with %s, not with %s", encodeLegs(t.Legs), encodeLegs(want.Legs))
	case want.Date != 0 && t.Date != want.Date:
		return fmt.Sprintf("it is booked on %s, not on %s", t.Date, want.Date)
	}
	return ""
}

// encodeLegs writes legs as they stand in the table: "D1101 9952,C2101:MID 9952",
// amounts in fen.
func encodeLegs(legs []Leg) string {
	b := make([]byte, 0, 24*len(legs))
	for i, l := range legs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, l.Side.String()...)
		b = strconv.AppendInt(b, int64(l.Account), 10)
		if l.Sub != "" {
			b = append(b, ':')
			b = append(b, l.Sub...)
		}
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(l.Amount), 10)
	}
	return string(b)
}

// decodeLegs reads what encodeLegs wrote.
func decodeLegs(s string) ([]Leg, error) {
	if s == "" {
		return nil, nil
	}
	legs := make([]Leg, 0, strings.Count(s, ",")+1)
	for part := range strings.SplitSeq(s, ",") {
		head, amount, found := strings.Cut(part, " ")
		l := Leg{Side: Debit}
		code, ok := strings.CutPrefix(head, "D")
		if !ok {
			l.Side = Credit
			code, ok = strings.CutPrefix(head, "C")
		}
		code, l.Sub, _ = strings.Cut(code, ":")
		n, err1 := strconv.ParseInt(code, 10, 16)
		fen, err2 := strconv.ParseInt(amount, 10, 64)
		l.Account, l.Amount = Account(n), money.Amount(fen)
		if !found || !ok || err1 != nil || err2 != nil || chart[l.Account].book == 0 || fen <= 0 {
			return nil, fmt.Errorf("ledger: %q is not a leg like D1101 9952", part)
		}
		legs = append(legs, l)
	}
	return legs, nil
}

package console

import (
	"context"
	"errors"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// ErrNotFound is what a House returns for an id nobody knows.
var ErrNotFound = errors.New("console: no such thing")

// House is what the console asks the rest of the program. It is asked once a
// second for all watchers together, and once for each page that is opened;
// every call carries a deadline of a few seconds. Nothing it returns may hold a
// clear account number, a track, a PIN block or a key: it is shown as it comes.
type House interface {
	// Overview is the state of the street now: cheap, from memory.
	Overview(ctx context.Context) (Overview, error)
	// Recent returns the last n transactions, the newest (largest ID) first.
	Recent(ctx context.Context, n int) ([]Row, error)
	// Transaction returns one transaction with its steps and messages, or
	// ErrNotFound.
	Transaction(ctx context.Context, id int64) (Detail, error)
	// Owed returns at most n reversals that issuers have not acknowledged:
	// those left to a person first, then the oldest first.
	Owed(ctx context.Context, n int) ([]Owed, error)
	// Settlement returns a business date with a line per merchant; date 0 is
	// the business date that is open now. Asked every five seconds.
	Settlement(ctx context.Context, date calendar.Date) (Settlement, error)
	// Receipt returns what is printed of a transaction. One that is not
	// approved comes with its outcome and is not printed. ErrNotFound, or
	// ErrNoReceipt for a kind that is never printed.
	Receipt(ctx context.Context, id int64) (Receipt, error)
	// Signature returns what the cardholder wrote on the terminal's screen, as
	// JBIG, or ErrNotFound.
	Signature(ctx context.Context, id int64) ([]byte, error)
	// Batches returns at most n settlements of terminals on a business date and
	// at most n open differences of any; date 0 is the business date that is
	// open now. Asked once a second for each date that is watched.
	Batches(ctx context.Context, date calendar.Date, n int) (Batches, error)
	// Report makes a report of the settlement; ErrReport when it cannot be asked
	// for like that. It may take minutes, and ctx says how many.
	Report(ctx context.Context, q ReportQuery) (ReportFile, error)
	// Compared returns the last days that were compared with the books of others,
	// and at most n differences and disputes that wait. Asked once a second while
	// it is watched.
	Compared(ctx context.Context, n int) (Compared, error)
	// Waiting returns what waits for a person or for a second one, at most n of each
	// kind. Asked every five seconds.
	Waiting(ctx context.Context, n int) ([]Wait, error)
	// Resolve marks a difference as dealt with, or returns ErrNotFound; a
	// second time changes nothing.
	Resolve(ctx context.Context, id int64) error
}

// Words are said in the operator's language.
type Words struct{ ZH, EN string }

// Outcome is where a transaction stands.
type Outcome uint8

// The outcomes. The zero value approves nothing.
const (
	Undecided Outcome = iota // opened, no outcome yet
	Approved
	Declined  // by us or by the issuer; the reason says which
	Reversing // its outcome is unknown or unwanted: a reversal is owed
	Manual    // owed, and no machine tries any more
	Reversed  // the issuer has acknowledged
)

// Row is one transaction in one line.
type Row struct {
	ID       int64
	At       time.Time     // when the request was read
	Took     time.Duration // until the answer had left; 0 while undecided
	Type     string        // "sale", "preauth_void", ...: a key type.* of the texts, or shown as it is
	Merchant string        // name on the street
	MID, TID string        // DE 42, DE 41
	PAN      string        // masked: 622848******0002; empty for payment codes
	Amount   money.Amount
	Issuer   string
	Outcome  Outcome
	Code     string // DE 39 as the terminal heard it; empty while undecided
	Reason   Words  // what Code means, or why nothing was answered
}

// Detail is one transaction as far as anybody knows it.
type Detail struct {
	Row
	BusinessDate calendar.Date
	Batch        string // DE 60.2
	STAN         string // DE 11
	RRN          string // DE 37
	Approval     string // DE 38
	Facts        []Fact // whatever else there is to say: entry mode, fee, the limit that said no
	Steps        []Step // in the order in which they began
	Messages     []Message
	Printed      bool          // it has a receipt
	Related      []Related     // what it follows, and what followed it
	Left         *money.Amount // what is left of it after its void, refunds and tips; nil when nothing changed it
}

// Fact is one more line of a transaction.
type Fact struct {
	Name  Words
	Value string
}

// Step is one thing that was done, and how long it took.
type Step struct {
	Name   string // "check", "open", "issuer", "close", "write", "reversal", "delivery": a key step.* of the texts, or shown as it is
	At     time.Time
	Took   time.Duration
	Note   Words // what came of it; may be empty
	Failed bool
}

// Message is one message that came or went, described and masked.
type Message struct {
	At       time.Time
	From, To string // "terminal", "acquirer", "issuer": keys party.* of the texts
	Dialect  string
	MTI      string
	Bytes    int // on the wire
	Fields   []Field
}

// Field is one data element, or a part of one: the tree of spec.Describe.
type Field struct {
	Field string // "2", "55", "9F26", "60.3"
	Name  string
	Value string // masked
	Sub   []Field
}

// Related is the transaction that this one follows, or one that followed it: a
// void, a refund, a completion, a tip.
type Related struct {
	Original bool // this one follows it
	Row      Row
}

// Overview is the state of the house in one look.
type Overview struct {
	Environment  string // "demo", "test", "production"
	Version      string
	Node         int
	Started      time.Time
	BusinessDate calendar.Date
	CutOff       time.Time // when BusinessDate ends
	Terminals    int       // connections open
	InFlight     int       // requests read and not yet answered
	Owed         OwedTotal
	Issuers      []Issuer
	Ledger       Ledger
	Payouts      PayoutTotal
	Violations   []Violation // invariants broken since the start; empty is what we promise
}

// OwedTotal is how much is owed to issuers.
type OwedTotal struct {
	Due    int       // tried again by itself
	Manual int       // left to a person
	Oldest time.Time // since when the oldest of either is owed; zero when nothing is
}

// Total is both together.
func (o OwedTotal) Total() int { return o.Due + o.Manual }

// PayoutTotal is how many payouts, of any business date, want a look.
type PayoutTotal struct{ Returned, Unknown, Failed int }

// Issuer is a place that transactions are routed to.
type Issuer struct {
	Name     string
	InFlight int
	Breaker  string // closed, half-open or open; "" where there is none
	Lines    []Line
}

// Line is one connection to an issuer.
type Line struct {
	Number    int // from 1
	Addr      string
	Connected bool
	SignedOn  bool          // and carries traffic
	Drained   bool          // taken out of service by an operator
	Since     time.Time     // of the last change of the two
	Echo      time.Duration // round trip of the last echo; 0 before the first
	Drops     uint64        // how often it broke since the start
	LastError string        // why it is down, or was
}

// Ledger is the last self-check of the books.
type Ledger struct {
	Checked    time.Time // zero before the first check
	Balanced   bool
	Difference money.Amount  // debits less credits
	Unposted   int           // approved and not yet posted
	Lag        time.Duration // age of the oldest of them
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string // "I8"
	What      Words
	Count     int64
}

// Owed is a reversal that the issuer has not acknowledged.
type Owed struct {
	ID       int64 // of the transaction it undoes
	Since    time.Time
	TID      string
	Merchant string
	PAN      string // masked
	Amount   money.Amount
	Issuer   string
	Why      Words
	Attempts int
	Next     time.Time // of the next try; zero when left to a person
	LastSaid string    // what the last try brought: a DE 39, or why there was none
	Manual   bool
}

// DayState is how far a business date has come.
type DayState uint8

// The states of a business date, in order.
const (
	DayOpen    DayState = iota // taking transactions
	DayCut                     // past its cut-off, being cleared
	DayCleared                 // netted; payouts under way
	DayPaid                    // every payout final
)

// Settlement is a business date, merchant by merchant.
type Settlement struct {
	Date      calendar.Date
	State     DayState
	CutOff    time.Time
	Merchants []MerchantDay
	Holds     []Hold // those that stand, of whatever date
}

// Hold is a merchant's money that is kept out of payouts, by two people.
type Hold struct {
	Key       string
	MID, Name string
	Remains   money.Amount // neither released nor used
	Sure      bool         // a second person has confirmed it
	Release   bool         // somebody asked to release it; a second person may
	By        string       // who asked for it
	Reason    string
}

// MerchantDay is what a merchant sold on a business date and is paid for it.
type MerchantDay struct {
	MID, Name  string
	Plan       string // fee plan
	Speed      string // "T1", "D0", "S0"
	Sales      int
	Gross      money.Amount // sales less voids and reversals
	Refunds    money.Amount // positive
	Fees       money.Amount // positive, settlement fee included
	Net        money.Amount // what is paid
	Payout     PayoutState
	PayOn      calendar.Date // when it reaches the account
	Reference  string        // idempotent reference at the bank; empty before the payout is made
	PayoutNote Words         // why it was returned, failed or waits; may be empty
}

// PayoutState is how far a merchant's money has come.
type PayoutState uint8

// The states of a payout. Unknown, Returned and Failed need a look.
const (
	PayoutNone     PayoutState = iota // the day is still open, or there is nothing to pay
	PayoutDue                         // netted, not yet sent
	PayoutSent                        // at the bank
	PayoutPaid                        // the bank said so
	PayoutUnknown                     // sent, the answer was lost; asked again by its reference, never re-sent
	PayoutReturned                    // the bank gave it back
	PayoutFailed                      // the bank refused it; it is issued again by a person
)

// Package journal keeps every transaction the switch has seen, and where it
// stands. A transaction is opened once and closed once, each a durable write
// of its own; what was opened and not closed, or approved and then taken back,
// is owed a reversal.
//
// The tables are appended to: txn (opened) and outcome (closed). The second
// of two closers loses on the key of outcome, which is the compare-and-set of
// write rule W3. Only owed, the work list of reversals, is updated.
package journal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/store"
)

// Kind is the kind of business a transaction does, part of its key: one trace
// number serves a sale and, later, its reversal.
type Kind uint8

// The numbers are stored.
const (
	Sale           Kind = 1
	Void           Kind = 2
	Refund         Kind = 3
	PreAuth        Kind = 4
	PreAuthVoid    Kind = 5
	Completion     Kind = 6
	CompletionVoid Kind = 7
	Inquiry        Kind = 8
	OfflineSale    Kind = 9  // the terminal approved it; it is recorded
	Adjustment     Kind = 10 // of an offline sale, or a tip: Amount is the difference, below zero too
	Load           Kind = 11 // of a purse or e-cash, where an issuer takes it
	ScriptResult   Kind = 12 // what a chip made of the issuer's scripts
)

var kindNames = [...]string{"none", "sale", "void", "refund", "pre-authorisation", "pre-authorisation void", "completion", "completion void", "inquiry",
	"offline sale", "adjustment", "load", "script result"}

// Undoes reports that a transaction of the kind takes its original back whole.
func (k Kind) Undoes() bool { return k == Void || k == PreAuthVoid || k == CompletionVoid }

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown kind"
}

// Channel is what the fee and the limits depend on.
type Channel uint8

// The numbers are stored.
const (
	Credit Channel = 1
	Debit  Channel = 2
	QR     Channel = 3
	// QuasiCredit is a card with a deposit that may be overdrawn (准贷记卡): limited
	// and cleared as a credit card, with a price of its own where a plan has one.
	QuasiCredit Channel = 4
)

var channelNames = [...]string{"none", "credit", "debit", "qr", "quasi_credit"}

func (c Channel) String() string {
	if int(c) < len(channelNames) {
		return channelNames[c]
	}
	return "unknown channel"
}

// Key is what makes two messages of a terminal the same transaction.
type Key struct {
	Day      calendar.Date // business date
	Terminal string        // DE 41
	Batch    int32         // DE 60.2
	STAN     int32         // DE 11
	Kind     Kind
}

// Transaction is one transaction as it was opened. It never changes, but that
// another issuer may be asked while nothing has left for the first (Move), and
// that what is sealed of it is forgotten when its time is over (Forget).
type Transaction struct {
	ID       int64  // store.NewID
	Key             // unique
	Merchant string // DE 42

	MTI            uint16 // as hex, 0x0200
	ProcessingCode int32  // DE 3
	EntryMode      int32  // DE 22
	Condition      int32  // DE 25
	Amount         money.Amount
	Currency       int32  // DE 49, 156
	Original       int64  // the transaction that this one follows: voids, refunds, completes, adjusts; 0 for none
	Scheme         string // of a foreign card, as DE 63 has it: VIS, MCC, ...; "" for UnionPay and payment codes
	Place          string // DE 59 A5, where the terminal said that it was; "" when it did not
	Device         string // DE 59 A2, what it said of itself, as spec.TerminalInfo writes it; "" when it did not

	PANToken  [16]byte // keyed token of the account number, for look-ups and limits
	PANMasked string
	PANSealed []byte // account number, expiry and chip data under the data key, for the reversal and for disputes; nil when not needed, and once forgotten
	Channel   Channel
	Issuer    string // routing's name of where it goes; "" when it goes nowhere

	RRN         string    // DE 37, given by this house
	Trace       int32     // DE 11 towards the issuer
	Transmitted time.Time // DE 7 towards the issuer
	Fingerprint [16]byte  // over what a repeat must have in common

	Opened   time.Time
	Deadline time.Time // after this nobody waits for it any more
	Node     int32     // store.Node
	// SpentOn is the Beijing calendar day whose limits it spends; 0 when it
	// spends none.
	SpentOn calendar.Date
}

// Abroad reports a foreign card: the second half of a terminal's totals.
func (t *Transaction) Abroad() bool { return t.Scheme != "" }

// Advice reports that the transaction tells the issuer what was done and does
// not ask: it is delivered until it is acknowledged, and never reversed. The
// void of a QR sale is one, since what a wallet has given back stays there.
func (t *Transaction) Advice() bool {
	return t.MTI == 0x0220 || t.Kind == OfflineSale || t.Kind == ScriptResult || t.Kind == Void && t.Channel == QR
}

// Outcome is how a transaction was closed. It never changes. With the
// Transaction it holds everything the first answer was made of.
type Outcome struct {
	ID         int64 // in the order of closing
	Reason     Reason
	Approval   string       // DE 38
	IssuerCode string       // DE 39 as the issuer gave it
	Additional string       // DE 44
	Chip       []byte       // DE 55 of the answer
	Settles    int32        // DE 15 of the issuer, as MMDD; 0 when absent
	Part       money.Amount // what was approved when it was less than asked for (DE 39 10); 0 when all of it
	Extra      []byte       // whatever else the answer carried, in a form of switch's own; no card data
	Note       string       // one line for people: which limit, which field
	Closed     time.Time
}

// Why says what made a reversal necessary: DE 39 of the terminal's 0400 (98,
// 96, A0, 06) or one of ours.
type Why string

// Reasons of this house.
const (
	WhyUnanswered  Why = "unanswered"  // no answer from the issuer in time
	WhyInterrupted Why = "interrupted" // the process ended, or the store failed
	WhyUndelivered Why = "undelivered" // approved, and the terminal could not be told
	WhyAnswerWrong Why = "answer"      // an answer that does not match
)

// WhyDelivery is not a reversal: an advice that was taken over from the
// terminal is owed to the issuer until it acknowledges it.
const WhyDelivery Why = "delivery"

// Debt is what is owed to an issuer: a reversal, or the delivery of an advice.
type Debt struct {
	ID      int64
	Why     Why
	Created time.Time
	Due     time.Time // when to try (again)
	Tries   int32     // how often it was sent
	State   State     // Owed, Reversed or Manual
	Note    string    // what the last try met
	Chip    []byte    // DE 55 of the terminal's 0400, for the issuer
	Ended   time.Time // when it was acknowledged or given up
}

// Delivery reports that an advice is owed, and no reversal.
func (d *Debt) Delivery() bool { return d.Why == WhyDelivery }

// Entry is a transaction with everything known about it. Outcome is nil while
// it is open, Debt is nil unless something is or was owed for it.
type Entry struct {
	Transaction
	Outcome *Outcome
	Debt    *Debt
}

// Sum is the amount that counts: what was asked for, or the part of it that
// was approved.
func (e *Entry) Sum() money.Amount {
	if e.Outcome != nil && e.Outcome.Part != 0 {
		return e.Outcome.Part
	}
	return e.Amount
}

// StoodIn reports a sale that the house approved for an issuer that could not
// be told: the one approval of a card that no issuer's code stands behind. The
// issuer is owed its advice; when the sale is taken back, nothing if it has not
// been told, and else what gives the amount back.
func (e *Entry) StoodIn() bool {
	return e.Kind == Sale && e.Channel != QR && e.MTI == 0x0200 && e.Debt != nil && e.Outcome != nil && e.Outcome.Reason == Approved && e.Outcome.IssuerCode == ""
}

// TakenBack reports that the transaction's reversal is or was owed.
func (e *Entry) TakenBack() bool { return e.Debt != nil && !e.Debt.Delivery() }

// State is where the transaction stands. An advice is approved while its
// delivery is still owed.
func (e *Entry) State() State {
	switch {
	case e.TakenBack():
		return e.Debt.State
	case e.Outcome == nil:
		return Open
	case e.Outcome.Reason == Approved:
		return StateApproved
	default:
		return StateDeclined
	}
}

// Limits is what the journal needs of velocity limits: their spending is part
// of its own writes. cmd wires the package limits in.
type Limits interface {
	// Begin is called before anything of a batch is written, with the days
	// that may be spent.
	Begin(tx store.Tx, days []calendar.Date) error
	// Move gives back what the first transactions had spent, takes again what
	// the second gave back before (the void of one was itself reversed: it is
	// sold, whatever the rules say now), and then asks for the quota of the
	// third, one after the other. refuse is called with the index of each that
	// does not get it, LimitAmount or LimitCount, and the rule in words.
	Move(tx store.Tx, back, again, spend []*Transaction, refuse func(i int, r Reason, note string)) error
}

// Journal writes and reads transactions. Its methods may be called from any
// goroutine.
type Journal struct {
	db     *store.DB
	limits Limits
	queue  *store.Queue[*op]
	feed   feed
	dates  [WalletDates + 1]atomic.Int32 // the open business dates as this node has seen them

	sweep  sync.Mutex // one sweep at a time; holds what follows
	swept  int64      // everything below is closed; 0 not read yet
	marked int64      // what the database knows of it
}

// New makes a journal on db, which was opened with Schema. limits may be nil:
// nothing is limited then.
func New(db *store.DB, limits Limits) *Journal {
	j := &Journal{db: db, limits: limits}
	j.queue = store.Gather(db, "journal", j.apply)
	return j
}

// op is one value on the hot path: exactly one of its halves is used. The
// answers are written by the store's writer.
type op struct {
	what uint8
	txn  Transaction
	shut bool    // out is to be recorded: opClose, and an opOpen that is refused at once
	out  Outcome // how it closes
	owe  Debt    // opClose: the debt, when out.Reason owes one; opReverse: why and when
	also calendar.Date
	told bool // opReverse: on no other date
	byID bool

	dated bool          // opOpen: on the business date that is open
	asked calendar.Date // its day as the caller's clock has it

	standing money.Amount // opOpen: what Transaction.Original must still come to; 0 any

	// answers
	opened  Opened
	closed  Closed
	reverse Reversal
	event   *Entry // for the feed
}

// ops are used again when their answer was read. One whose caller got an error
// may still be in a writer's hands and is left to the collector.
var ops = sync.Pool{New: func() any { return new(op) }}

func newOp(what uint8) *op {
	o := ops.Get().(*op)
	*o = op{what: what}
	return o
}

const (
	opOpen uint8 = iota
	opClose
	opReverse
)

// Verdict is what became of an Open.
type Verdict uint8

const (
	// Fresh: recorded, and its limits are spent. Send it.
	Fresh Verdict = iota + 1
	// Refused: recorded and closed. First.Outcome says why.
	Refused
	// Repeat: the same was opened before and is closed: First is how. Where
	// First.State is not StateApproved, an approval must not be repeated: it
	// was taken back since.
	Repeat
	// InFlight: the same was opened before and is not decided. Do not send it.
	InFlight
	// Conflict: the key belongs to a transaction with another fingerprint.
	Conflict
	// Buried: its reversal came first. Refuse it.
	Buried
	// TakenOver: an advice was recorded and approved, and its delivery is owed.
	// First is the entry.
	TakenOver
)

var verdictNames = [...]string{"none", "fresh", "refused", "repeat", "in flight", "conflict", "buried", "taken over"}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown verdict"
}

// Opened answers Open. First is the recorded transaction the verdict speaks
// of: the new one when Refused, the earlier one when Repeat, InFlight,
// Conflict or Buried, nil when Fresh.
type Opened struct {
	Verdict Verdict
	First   *Entry
}

// OpenOption refines an Open.
type OpenOption func(*op)

// AlsoOn looks for the same transaction on another business date too: a
// repeat that comes just after the cut-off carries yesterday's key.
func AlsoOn(day calendar.Date) OpenOption { return func(o *op) { o.also = day } }

// ClosedWith records t and closes it at once, in the same write: a refusal
// that leaves a trace. Nothing is spent.
func ClosedWith(out Outcome) OpenOption { return func(o *op) { o.shut, o.out = true, out } }

// TakeOver records an advice as approved and owes its delivery, in the same
// write: the terminal has done it and the issuer will hear of it.
func TakeOver(out Outcome) OpenOption {
	return func(o *op) { o.shut, o.out, o.owe.Why = true, out, WhyDelivery }
}

// Standing says what t.Original was taken to come to, with everything that
// followed it, when t was made. If that has changed meanwhile t is refused
// with OriginalBusy.
func Standing(a money.Amount) OpenOption { return func(o *op) { o.standing = a } }

// Open records t before anything is sent (W1). When it returns Fresh, t and
// the limits it spent are durable. With store.ErrInDoubt they may be: send
// nothing; if the row is there the sweep finds it. t.ID is given here when it
// is 0.
func (j *Journal) Open(ctx context.Context, t *Transaction, options ...OpenOption) (Opened, error) {
	if t.ID == 0 {
		t.ID = store.NewID()
	}
	o := newOp(opOpen)
	o.txn, o.asked = *t, t.Day
	for _, f := range options {
		f(o)
	}
	fault.Hit("journal.open.before")
	if err := j.queue.Do(ctx, o); err != nil {
		return Opened{}, err
	}
	fault.Hit("journal.open.after")
	answer := o.opened
	t.Day = o.txn.Day
	ops.Put(o)
	return answer, nil
}

// Move makes issuer the one that an open transaction goes to, and deadline the
// time after which nobody waits for it. Call it before anything is sent there
// and only when nothing has left for the one before: the row names whoever may
// have heard (W1). It reports false when the transaction was closed meanwhile;
// nothing may be sent then.
func (j *Journal) Move(ctx context.Context, id int64, issuer string, deadline time.Time) (moved bool, err error) {
	fault.Hit("journal.move.before")
	err = j.db.Write(ctx, func(tx store.Tx) error {
		moved = false
		if err := hold(tx, id); err != nil { // as the reversal does, which copies the issuer
			return err
		}
		var closed int64
		if err := tx.QueryRow("select count(*) from outcome where txn = $1", id).Scan(&closed); err != nil || closed > 0 {
			return err
		}
		e, err := entry(tx, entryByID, id)
		if err != nil || e == nil {
			return err
		}
		e.Issuer, e.Deadline = issuer, deadline
		var a store.Args
		n, err := tx.Exec("update txn set issuer = $2, deadline = $3, checksum = $4 where id = $1", id, issuer, store.Micros(deadline), e.Transaction.args(&a).Checksum())
		moved = n == 1
		return err
	})
	fault.Hit("journal.move.after")
	if err != nil {
		return false, fmt.Errorf("journal: moving %d to %s: %w", id, issuer, err)
	}
	return moved, nil
}

// Closed answers Close. Winner is the outcome that stands: the caller's own
// when Won, another closer's otherwise (the sweep's, or a reversal's).
type Closed struct {
	Won    bool
	Winner Outcome
	// DebtID is the reversal owed, when this close owes one.
	DebtID int64
}

// CloseOption refines a Close.
type CloseOption func(*op)

// DueAt is when the reversal is to be sent, for reasons that owe one; at once
// when not given.
func DueAt(t time.Time) CloseOption { return func(o *op) { o.owe.Due = t } }

// Because is why the reversal is owed; derived from the reason when not given.
// WhyDelivery with an approval owes the delivery of an advice.
func Because(w Why) CloseOption { return func(o *op) { o.owe.Why = w } }

// Close records how t, which Open said is Fresh, ended (W2), puts the
// reversal on the list when the reason owes one, and gives its limits back
// unless it was approved, all in one write. Only the first closer wins (W3).
// With store.ErrInDoubt the outcome may stand: tell the terminal nothing;
// Close again with the same outcome tells, or Get does.
func (j *Journal) Close(ctx context.Context, t *Transaction, out Outcome, options ...CloseOption) (Closed, error) {
	o := newOp(opClose)
	o.txn, o.shut, o.out = *t, true, out
	for _, f := range options {
		f(o)
	}
	if fault.Planted("answer-before-commit") {
		go j.queue.Do(context.WithoutCancel(ctx), o)
		return Closed{Won: true, Winner: out}, nil
	}
	fault.Hit("journal.close.before")
	if err := j.queue.Do(ctx, o); err != nil {
		return Closed{}, err
	}
	fault.Hit("journal.close.after")
	answer := o.closed
	ops.Put(o)
	return answer, nil
}

// Effect is what a reversal met.
type Effect uint8

const (
	// NotFound: no such original. A tombstone stands in its place, so that it
	// is refused if it comes late (fault 15).
	NotFound Effect = iota + 1
	// WasInFlight: the original was open; it is closed now as
	// TerminalReversed, and the reversal is owed.
	WasInFlight
	// Reversing: the original was approved; its limits are given back and the
	// reversal is owed.
	Reversing
	// AlreadyReversed: a reversal is owed or done already, or it was voided.
	AlreadyReversed
	// NothingToDo: the original was refused; the issuer holds nothing.
	NothingToDo
	// Mismatch: the original has another amount or card. Nothing was done.
	Mismatch
	// Followed: the original was refunded, completed or adjusted, or that is
	// under way; or it is an advice, which no reversal takes back. Nothing was
	// done.
	Followed
)

var effectNames = [...]string{"none", "not found", "was in flight", "reversing", "already reversed", "nothing to do", "mismatch", "followed"}

func (e Effect) String() string {
	if int(e) < len(effectNames) {
		return effectNames[e]
	}
	return "unknown effect"
}

// Reversal answers Reverse and ReverseByID. Original is the transaction that
// was found, after what was done to it; the tombstone when NotFound.
type Reversal struct {
	Effect   Effect
	Original *Entry
}

// ReverseOption refines a Reverse.
type ReverseOption func(*op)

// OriginalAlsoOn looks for the original on another business date too.
func OriginalAlsoOn(day calendar.Date) ReverseOption { return func(o *op) { o.also = day } }

// DateTold says that the terminal told the original's date: one with the same
// trace number on the date that is open now is another transaction.
func DateTold() ReverseOption { return func(o *op) { o.told = true } }

// ChipSaid gives the reversal the chip data of the terminal's 0400 (DE 55).
func ChipSaid(de55 []byte) ReverseOption { return func(o *op) { o.owe.Chip = de55 } }

// Reverse takes a transaction back because the terminal asks (0400). t is the
// original as the reversal describes it: its key, amount, card and whatever a
// tombstone should hold; t.Fingerprint is not compared. A zero PANToken
// matches any card. at is when the reversal is to be sent to the issuer.
// Repeating it changes nothing and gives AlreadyReversed.
func (j *Journal) Reverse(ctx context.Context, t *Transaction, why Why, at time.Time, options ...ReverseOption) (Reversal, error) {
	if t.ID == 0 {
		t.ID = store.NewID()
	}
	o := newOp(opReverse)
	o.txn, o.owe = *t, Debt{Why: why, Due: at}
	for _, f := range options {
		f(o)
	}
	fault.Hit("journal.reverse.before")
	if err := j.queue.Do(ctx, o); err != nil {
		return Reversal{}, err
	}
	fault.Hit("journal.reverse.after")
	return o.reverse, nil
}

// ReverseByID takes a transaction back because this house must: it was
// approved and the terminal could not be told. NotFound leaves no tombstone.
func (j *Journal) ReverseByID(ctx context.Context, id int64, why Why, at time.Time) (Reversal, error) {
	o := newOp(opReverse)
	o.byID, o.txn, o.owe = true, Transaction{ID: id}, Debt{Why: why, Due: at}
	fault.Hit("journal.take_back.before")
	if err := j.queue.Do(ctx, o); err != nil {
		return Reversal{}, err
	}
	fault.Hit("journal.take_back.after")
	return o.reverse, nil
}

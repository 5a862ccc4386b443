package issuer

import (
	"strconv"
	"sync"
	"time"

	"acquirer/card"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// State is what became of an authorisation in the issuer's books.
type State string

// The states.
const (
	Approved State = "approved"
	Declined State = "declined"
	Reversed State = "reversed" // approved, and undone by a reversal or a void
	Unknown  State = "unknown"  // its reversal came and it never had; it will be declined if it comes

	undecided State = "" // being looked at
)

// Trace is what makes a message unique between two institutions and what
// DE 90 of a reversal repeats.
type Trace struct {
	MTI      spec.MTI `json:"-"`
	STAN     uint32   `json:"stan"`
	Sent     uint32   `json:"sent"` // DE 7, MMDDhhmmss
	Acquirer uint64   `json:"acquirer"`
}

// Entry is one line of the issuer's books.
type Entry struct {
	Trace
	Type      string       `json:"mti"`
	RRN       string       `json:"rrn"`
	Terminal  string       `json:"terminal"`
	Merchant  string       `json:"merchant"`
	PAN       card.PAN     `json:"pan"` // prints masked
	Kind      string       `json:"kind"`
	Amount    money.Amount `json:"amount"`
	Code      string       `json:"code"` // DE 39 of its answer
	Approval  string       `json:"approval,omitempty"`
	State     State        `json:"state"`
	Answered  bool         `json:"answered"`  // an answer was written to the line
	Repeats   int          `json:"repeats"`   // how often the same request came again
	Reversals int          `json:"reversals"` // how often its reversal came
	At        time.Time    `json:"at"`

	storm  Storm
	debits money.Amount // what it took from the account
}

// account is one card's money. It comes into being when its card is first
// used, with the balance that every account starts with.
type account struct {
	available money.Amount
}

// bank is accounts and books. All of it is in memory.
type bank struct {
	mu       sync.Mutex
	opening  money.Amount
	accounts map[string]*account
	books    []*Entry
	byTrace  map[Trace]*Entry
	approval uint32
}

func newBank(opening money.Amount) *bank {
	return &bank{opening: opening, accounts: map[string]*account{}, byTrace: map[Trace]*Entry{}}
}

// void undoes an approved purchase or pre-authorisation on the merchant's
// word and returns DE 39 of the void.
func (b *bank) void(original Trace, amount money.Amount) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byTrace[original]
	switch {
	case e == nil || e.State == undecided:
		return "25"
	case e.State != Approved:
		return "12"
	case e.Amount != amount:
		return "64"
	}
	b.account(e.PAN).available += e.debits
	e.State = Reversed
	return "00"
}

// traceOf reads a request's trace.
func traceOf(m *spec.Message) (t Trace, ok bool) {
	stan, ok1 := m.Int(11)
	sent, ok2 := m.Int(7)
	acq, ok3 := m.Int(32)
	return Trace{MTI: m.MTI(), STAN: uint32(stan), Sent: uint32(sent), Acquirer: uint64(acq)}, ok1 && ok2 && ok3
}

// originalOf reads DE 90: MTI 4, STAN 6, DE 7 10, acquirer 11, forwarder 11.
func originalOf(m *spec.Message) (t Trace, ok bool) {
	b := m.Bytes(90)
	if len(b) != 42 {
		return t, false
	}
	num := func(from, to int) (v uint64) {
		for _, c := range b[from:to] {
			v = v*10 + uint64(c-'0')
		}
		return v
	}
	mti := uint64(0)
	for _, c := range b[:4] {
		mti = mti<<4 | uint64(c-'0')
	}
	return Trace{MTI: spec.MTI(mti), STAN: uint32(num(4, 10)), Sent: uint32(num(10, 20)), Acquirer: num(20, 31)}, true
}

// claim enters a request that nobody has decided yet, or gives the entry that
// its trace has already.
func (b *bank) claim(e *Entry) (older *Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if older := b.byTrace[e.Trace]; older != nil {
		return older
	}
	b.enter(e)
	return nil
}

func (b *bank) enter(e *Entry) {
	b.books = append(b.books, e)
	b.byTrace[e.Trace] = e
}

// decide closes a claimed request: code is "00" or the refusal found so far.
// The balance is looked at here, where it is also changed.
func (b *bank) decide(e *Entry, code string, takes money.Amount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.State == Unknown { // its reversal came while it was being looked at
		e.Code = codeReversedBefore
		return
	}
	acc := b.account(e.PAN)
	if code == "00" && takes > acc.available {
		code = "51"
	}
	e.Code, e.State = code, Declined
	if code == "00" {
		acc.available -= takes
		b.approval = b.approval%999999 + 1
		e.Approval = pad(uint64(b.approval), 6)
		e.State, e.debits = Approved, takes
	}
}

// codeReversedBefore declines an original that comes after its reversal.
const codeReversedBefore = "22"

// account finds or opens the account of a card; mu is held.
func (b *bank) account(pan card.PAN) *account {
	number := pan.Reveal()
	acc := b.accounts[number]
	if acc == nil {
		acc = &account{available: b.opening}
		if simcard.ConditionOf(number) == simcard.NoMoney {
			acc.available = 0
		}
		b.accounts[number] = acc
	}
	return acc
}

// balance is what a card may spend.
func (b *bank) balance(pan card.PAN) money.Amount {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.account(pan).available
}

// deposit sets what a card may spend.
func (b *bank) deposit(pan card.PAN, available money.Amount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.account(pan).available = available
}

// reverse undoes an authorisation, once however often it is asked to, and
// returns DE 39. An original that is not there is 25 and leaves a line that
// refuses it should it come after all; one that was declined, or is reversed,
// is 00: what the reversal wants is so.
func (b *bank) reverse(original Trace, m *spec.Message, now time.Time) (code string, e *Entry) {
	amount, _ := m.Int(4)
	b.mu.Lock()
	defer b.mu.Unlock()
	e = b.byTrace[original]
	if e == nil {
		e = entryOf(m, original, "reversal before its original", now)
		e.Code, e.State, e.Reversals = "25", Unknown, 1
		b.enter(e)
		return "25", e
	}
	e.Reversals++
	switch {
	case e.State == Unknown, e.State == undecided:
		e.State = Unknown
		return "25", e
	case e.State == Approved && e.Amount != money.Amount(amount):
		return "64", e
	case e.State == Approved:
		b.account(e.PAN).available += e.debits
		e.State = Reversed
	}
	return "00", e
}

// firstReversal gives the weather that an original's amount asked for its
// first reversal, once.
func (b *bank) firstReversal(original Trace) Storm {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byTrace[original]
	if e == nil || e.storm != LostReversal && e.storm != DeafReversal {
		return Calm
	}
	s := e.storm
	e.storm = Calm
	return s
}

func (b *bank) answered(e *Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Answered = true
}

func (b *bank) snapshot() []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Entry, len(b.books))
	for i, e := range b.books {
		out[i] = *e
	}
	return out
}

// entryOf copies what the books keep of a request.
func entryOf(m *spec.Message, t Trace, kind string, now time.Time) *Entry {
	amount, _ := m.Int(4)
	e := &Entry{
		Trace: t, Type: t.MTI.String(), RRN: m.Text(37), Terminal: m.Text(41), Merchant: m.Text(42),
		Kind: kind, Amount: money.Amount(amount), At: now,
	}
	// a request without a readable account number is refused before it is
	// booked; a reversal's is only kept for people
	e.PAN, _ = card.ParsePAN(m.Bytes(2))
	return e
}

func pad(v uint64, n int) string {
	s := strconv.FormatUint(v, 10)
	for len(s) < n {
		s = "0" + s
	}
	return s
}

// Totals are the books in numbers.
type Totals struct {
	Requests       int          `json:"requests"`
	Approved       int          `json:"approved"` // and still standing
	Declined       int          `json:"declined"`
	Reversed       int          `json:"reversed"`
	Unknown        int          `json:"unknown"`
	Unanswered     int          `json:"unanswered"`      // approved, standing, and no answer was written
	ApprovedAmount money.Amount `json:"approved_amount"` // taken from accounts and not given back
	Repeats        int          `json:"repeats"`
}

func (b *bank) totals() (t Totals) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.books {
		t.Requests++
		t.Repeats += e.Repeats
		switch e.State {
		case Approved:
			t.Approved++
			t.ApprovedAmount += e.debits
			if !e.Answered {
				t.Unanswered++
			}
		case Declined:
			t.Declined++
		case Reversed:
			t.Reversed++
		case Unknown:
			t.Unknown++
		}
	}
	return t
}

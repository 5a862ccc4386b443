package issuer

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"acquirer/card"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// State is what became of a transaction in the issuer's books.
type State string

// The states. What is approved stands; everything else takes no money and
// holds none.
const (
	Approved  State = "approved"
	Declined  State = "declined"
	Reversed  State = "reversed"  // approved, and undone by its reversal
	Voided    State = "voided"    // approved, and undone by a void that stands, or an adjustment whose sale is
	Completed State = "completed" // a pre-authorisation whose hold a completion has taken
	Unknown   State = "unknown"   // its reversal came and it never had; it will be declined if it comes

	undecided State = "" // being looked at
)

// Trace is what makes a message unique between two institutions and what
// DE 90 repeats. A repeat (0221) has the trace of its first sending.
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
	Kind      Kind         `json:"kind"`
	Amount    money.Amount `json:"amount"`             // DE 4
	Part      money.Amount `json:"part,omitempty"`     // what was approved of it, when that is less (10)
	Original  string       `json:"original,omitempty"` // RRN of what it stands on
	Code      string       `json:"code"`               // DE 39 of its answer
	Approval  string       `json:"approval,omitempty"`
	State     State        `json:"state"`
	Takes     money.Amount `json:"takes"`             // from the account, as it stands; negative when it gives
	Holds     money.Amount `json:"holds,omitempty"`   // of the account, as it stands
	Scripts   string       `json:"scripts,omitempty"` // DF31 of a script result, in hex
	OldATC    bool         `json:"old_atc,omitempty"` // its chip's counter was not above an earlier one's
	Answered  bool         `json:"answered"`          // an answer was written to the line
	Repeats   int          `json:"repeats"`           // how often the same request came again
	Reversals int          `json:"reversals"`         // how often its reversal came
	At        time.Time    `json:"at"`

	storm    Storm
	approved bool // 00 or 10, whatever came later
	reversed bool
	credit   bool     // an adjustment in the holder's favour
	on       *Entry   // what it stands on
	by       []*Entry // what was approved and stands on it
	de54     string   // of its answer
	de55     []byte
}

// account is one card's money. It comes into being when its card is first
// used, with the balance that every account starts with.
type account struct {
	opening money.Amount // with what was deposited since
	ledger  money.Amount // opening less everything that Entries take
	held    money.Amount
	atc     uint16 // the highest that an ARQC had
}

// available is what the holder may spend.
func (a *account) available() money.Amount { return a.ledger - a.held }

// bank is accounts and books. All of it is in memory.
type bank struct {
	mu         sync.Mutex
	opening    money.Amount
	completion int64 // percent of a hold that a completion may take
	forgetful  bool  // Config.Forgetful
	accounts   map[string]*account
	books      []*Entry
	byTrace    map[Trace]*Entry
	approval   uint32
	cleared    cleared
}

func newBank(opening money.Amount, completion int, forgetful bool) *bank {
	return &bank{opening: opening, completion: int64(completion), forgetful: forgetful, accounts: map[string]*account{}, byTrace: map[Trace]*Entry{}}
}

// alive reports whether e was approved and not reversed.
func (e *Entry) alive() bool { return e.approved && !e.reversed }

// under reports whether something alive of these kinds stands on e.
func (e *Entry) under(kinds func(Kind) bool) bool {
	for _, x := range e.by {
		if x.alive() && kinds(x.Kind) {
			return true
		}
	}
	return false
}

// granted is what was approved.
func (e *Entry) granted() money.Amount {
	if e.Part != 0 {
		return e.Part
	}
	return e.Amount
}

// settle says what e takes and holds as things stand. It follows from what was
// approved and what was reversed alone, so that whatever is undone leaves the
// books as if it had not been. A completion that was voided has still used its
// pre-authorisation up; one that was reversed has not.
func (e *Entry) settle() {
	e.Takes, e.Holds = 0, 0
	switch {
	case !e.approved: // State says why
		return
	case e.reversed:
		e.State = Reversed
		return
	case e.under(Kind.voids), e.Kind == Adjust && e.on.under(Kind.voids):
		e.State = Voided
		return
	case e.under(Kind.completes):
		e.State = Completed
		return
	}
	e.State = Approved
	switch e.Kind {
	case Sale, Completion, CompletionNotice, OfflineSale, ChipOfflineSale:
		e.Takes = e.granted()
	case Refund:
		e.Takes = -e.Amount
	case Adjust:
		if e.Takes = e.Amount; e.credit {
			e.Takes = -e.Amount
		}
	case Preauth:
		e.Holds = e.Amount
	}
}

// settle brings the account in line with e, what it stands on and what stands
// on that; mu is held.
func (b *bank) settle(e *Entry) {
	for e.on != nil {
		e = e.on
	}
	b.settleTree(b.account(e.PAN), e)
}

func (b *bank) settleTree(acc *account, e *Entry) {
	takes, holds := e.Takes, e.Holds
	e.settle()
	acc.ledger -= e.Takes - takes
	acc.held += e.Holds - holds
	for _, x := range e.by {
		b.settleTree(acc, x)
	}
}

// worth is what e and its adjustments take, and what of it was refunded.
func (e *Entry) worth() (total, refunded money.Amount) {
	total = e.Takes
	for _, x := range e.by {
		switch {
		case !x.alive():
		case x.Kind == Adjust:
			total += x.Takes
		case x.Kind == Refund:
			refunded -= x.Takes
		}
	}
	return total, refunded
}

// traceOf reads a request's trace.
func traceOf(m *spec.Message) (t Trace, ok bool) {
	stan, ok1 := m.Int(11)
	sent, ok2 := m.Int(7)
	acq, ok3 := m.Int(32)
	return Trace{MTI: m.MTI() &^ 1, STAN: uint32(stan), Sent: uint32(sent), Acquirer: uint64(acq)}, ok1 && ok2 && ok3
}

// originalOf reads DE 90: MTI 4, STAN 6, DE 7 10, acquirer 11, forwarder 11.
func originalOf(m *spec.Message) (t Trace, ok bool) {
	b := []byte(m.Text(90))
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
	return Trace{MTI: spec.MTI(mti) &^ 1, STAN: uint32(num(4, 10)), Sent: uint32(num(10, 20)), Acquirer: num(20, 31)}, true
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

// wish is what a request asks for beyond its amount.
type wish struct {
	original *Trace // DE 90
	approval string // DE 38: of the original, or of a sale that was approved before
	part     bool   // an approval of a part will do (DE 60.3.4)
	half     bool   // the weather wants one of half
	answer   bool   // the balance is wanted in DE 54
	atc      *[2]byte
	strict   bool // an old counter is refused
}

// decide closes a claimed request: code is "00" or the refusal found so far.
// Everything that the books say is looked at here, where they also change.
func (b *bank) decide(e *Entry, code string, w wish) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.State == Unknown { // its reversal came while it was being looked at
		e.Code = codeReversedBefore
		return
	}
	acc := b.account(e.PAN)
	if w.atc != nil {
		atc := uint16(w.atc[0])<<8 | uint16(w.atc[1])
		if e.OldATC = atc <= acc.atc; e.OldATC && w.strict && code == "00" {
			code = "05"
		}
		acc.atc = max(acc.atc, atc)
	}
	if code == "00" {
		code = b.stand(e, w)
	}
	if code == "00" {
		code = b.afford(e, acc, w)
	}
	e.Code, e.State = code, Declined
	if code != "00" && code != "10" {
		return
	}
	e.approved = true
	if e.on != nil {
		e.on.by = append(e.on.by, e)
		e.Original = e.on.RRN
	}
	switch {
	case e.Kind == Balance, e.Kind == ScriptResult:
	case w.approval != "" && (e.Kind == OfflineSale || e.Kind == ChipOfflineSale):
		e.Approval = w.approval // given by telephone, and on the receipt
	default:
		b.approval = b.approval%999999 + 1
		e.Approval = pad(uint64(b.approval), 6)
	}
	b.settle(e)
	if e.Kind == Balance || w.answer {
		e.de54 = balances(acc.ledger, acc.available())
	}
}

// stand finds what e stands on and says whether it may (DE 39); mu is held.
func (b *bank) stand(e *Entry, w wish) string {
	kinds, follows := originals[e.Kind]
	switch {
	case !follows:
		return "00"
	case w.original == nil && e.Kind == Refund: // the sale is not known any more
		return "00"
	case w.original == nil:
		return "30"
	}
	o := b.byTrace[*w.original]
	switch {
	case o == nil || o.State == undecided || o.State == Unknown || !o.PAN.Equal(e.PAN):
		return "25"
	case w.approval != "" && o.Approval != "" && w.approval != o.Approval:
		return "25"
	case !slices.Contains(kinds, o.Kind):
		return "12"
	case e.Kind == ScriptResult: // told of whatever became of it
		e.on = o
		return "00"
	case o.State != Approved:
		return "12"
	}
	total, refunded := o.worth()
	switch {
	case e.Kind.voids() && refunded != 0:
		return "12"
	case e.Kind.voids() && e.Amount != total+o.Holds:
		return "64"
	case e.Kind.completes() && e.Amount*100 > o.Holds*money.Amount(b.completion):
		return "61"
	case (e.Kind == Refund || e.Kind == Adjust && e.credit) && e.Amount > total-refunded:
		return "61"
	}
	e.on = o
	return "00"
}

// afford looks at the balance; mu is held. What was spent already is booked
// whatever the balance is.
func (b *bank) afford(e *Entry, acc *account, w wish) string {
	needs := e.Amount
	switch {
	case e.Kind == Completion:
		needs -= e.on.Holds
	case e.Kind != Sale && e.Kind != Preauth:
		return "00"
	}
	part := acc.available()
	if w.half {
		part = e.Amount / 2
	}
	switch {
	case (needs <= 0 || needs <= acc.available()) && !w.half:
		return "00"
	case e.Kind == Sale && w.part && part > 0 && part <= acc.available():
		e.Part = part
		return "10"
	}
	return "51"
}

// codeReversedBefore declines an original that comes after its reversal.
const codeReversedBefore = "22"

// account finds or opens the account of a card; mu is held.
func (b *bank) account(pan card.PAN) *account {
	number := pan.Reveal()
	acc := b.accounts[number]
	if acc == nil {
		acc = &account{opening: b.opening, ledger: b.opening}
		if simcard.ConditionOf(number) == simcard.NoMoney {
			acc = &account{}
		}
		b.accounts[number] = acc
	}
	return acc
}

// balance is what a card may spend.
func (b *bank) balance(pan card.PAN) money.Amount {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.account(pan).available()
}

// deposit sets what a card may spend.
func (b *bank) deposit(pan card.PAN, available money.Amount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	acc := b.account(pan)
	more := available - acc.available()
	acc.opening += more
	acc.ledger += more
}

// reverse undoes a request, once however often it is asked to, and returns
// DE 39. An original that is not there is 25 and leaves a line that refuses it
// should it come after all; one that was declined, or is reversed, is 00: what
// the reversal wants is so. What a completion, a refund or an adjustment stands
// on is not taken away under it: 12.
func (b *bank) reverse(original Trace, m *spec.Message, now time.Time) (code string, e *Entry) {
	amount, _ := m.Int(4)                      // a balance inquiry's has none
	pan, _ := card.ParsePAN([]byte(m.Text(2))) // the zero PAN is nobody's
	b.mu.Lock()
	defer b.mu.Unlock()
	e = b.byTrace[original]
	if e == nil {
		e = entryOf(m, original, Reversal, now)
		e.Code, e.State, e.Reversals = "25", Unknown, 1
		if !b.forgetful {
			b.enter(e)
		}
		return "25", e
	}
	e.Reversals++
	switch {
	case e.State == Unknown, e.State == undecided:
		e.State = Unknown
		return "25", e
	case !e.PAN.Equal(pan):
		return "25", e
	case !e.alive():
		return "00", e
	case e.Amount != money.Amount(amount) && e.granted() != money.Amount(amount):
		return "64", e
	case e.under(func(k Kind) bool { return !k.voids() && k != ScriptResult }):
		return "12", e
	}
	e.reversed = true
	b.settle(e)
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
		out[i].on, out[i].by = nil, nil // the live books
	}
	return out
}

// entryOf copies what the books keep of a request.
func entryOf(m *spec.Message, t Trace, kind Kind, now time.Time) *Entry {
	amount, _ := m.Int(4)
	e := &Entry{
		Trace: t, Type: t.MTI.String(), RRN: m.Text(37), Terminal: m.Text(41), Merchant: m.Text(42),
		Kind: kind, Amount: money.Amount(amount), At: now,
	}
	if kind == Adjust {
		e.credit = m.Text(3)[:2] == "22"
	}
	// a request without a readable account number is refused before it is
	// booked; a reversal's is only kept for people
	e.PAN, _ = card.ParsePAN([]byte(m.Text(2)))
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
	Requests       int                 `json:"requests"`
	Approved       int                 `json:"approved"` // and still standing
	Declined       int                 `json:"declined"`
	Reversed       int                 `json:"reversed"`
	Voided         int                 `json:"voided"`
	Completed      int                 `json:"completed"`
	Unknown        int                 `json:"unknown"`
	Unanswered     int                 `json:"unanswered"`      // approved, standing, and no answer was written
	ApprovedAmount money.Amount        `json:"approved_amount"` // taken from accounts and not given back
	HeldAmount     money.Amount        `json:"held_amount"`     // on them for pre-authorisations
	Repeats        int                 `json:"repeats"`
	OldATCs        int                 `json:"old_atcs"` // chips whose counter went backwards
	Kinds          map[Kind]KindTotals `json:"kinds"`
}

// KindTotals are the books of one kind.
type KindTotals struct {
	Requests int          `json:"requests"`
	Standing int          `json:"standing"`
	Takes    money.Amount `json:"takes"` // what stands takes from accounts; negative when it gives
	Holds    money.Amount `json:"holds,omitempty"`
}

func (b *bank) totals() (t Totals) {
	t.Kinds = map[Kind]KindTotals{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.books {
		t.Requests++
		t.Repeats += e.Repeats
		t.ApprovedAmount += e.Takes
		t.HeldAmount += e.Holds
		if e.OldATC {
			t.OldATCs++
		}
		k := t.Kinds[e.Kind]
		k.Requests++
		k.Takes += e.Takes
		k.Holds += e.Holds
		switch e.State {
		case Approved:
			t.Approved++
			k.Standing++
			if !e.Answered {
				t.Unanswered++
			}
		case Declined:
			t.Declined++
		case Reversed:
			t.Reversed++
		case Voided:
			t.Voided++
		case Completed:
			t.Completed++
		case Unknown:
			t.Unknown++
		}
		t.Kinds[e.Kind] = k
	}
	return t
}

package journal

// Reason is why a transaction ended as it did: the one internal verdict.
// switch/response.go alone turns it into DE 39. The numbers are stored; a
// number is never given a second meaning.
type Reason uint8

const (
	// Undecided is the zero Reason: it approves nothing.
	Undecided Reason = 0
	// Approved: the issuer said yes. Its own code is in Outcome.IssuerCode.
	Approved Reason = 1
	// Declined: the issuer said no, with the code in Outcome.IssuerCode.
	Declined Reason = 2

	// What a terminal sent cannot be used.
	FormatError      Reason = 10 // a field is missing or wrong
	NotSupported     Reason = 11 // a message or processing code this house does not serve
	BadMAC           Reason = 12 // never journaled: a message with a wrong MAC has no effect
	BadPIN           Reason = 13 // the PIN block cannot be translated
	AmountInvalid    Reason = 14 // zero, or more than the field may hold
	CurrencyInvalid  Reason = 15
	CardInvalid      Reason = 16 // account number, check digit or track
	CardExpired      Reason = 17
	EntryNotAllowed  Reason = 18 // this way of reading the card, for this card or terminal
	UnknownCard      Reason = 19 // no issuer is known for the card
	Duplicate        Reason = 20 // the key of another transaction
	InProgress       Reason = 21 // a repeat of a transaction that is not decided yet
	OriginalNotFound Reason = 22
	OriginalDiffers  Reason = 23 // amount or card are not the original's
	Tombstoned       Reason = 24 // its reversal came before it

	// Who sent it.
	UnknownTerminal   Reason = 30
	TerminalNotActive Reason = 31
	MerchantNotActive Reason = 32
	NotSignedIn       Reason = 33 // no working keys, or another batch

	// How much.
	LimitAmount Reason = 40
	LimitCount  Reason = 41
	FeeExceeds  Reason = 42 // the fee would eat the sale

	// What went wrong on the way.
	Unreachable      Reason = 50 // nothing left the house: no reversal
	Unanswered       Reason = 51 // it left, no answer came in time: owes a reversal
	AnswerWrong      Reason = 52 // an answer that is not to this question: owes
	Interrupted      Reason = 53 // this process or its predecessor lost it: owes
	TerminalReversed Reason = 54 // the terminal reversed it while it was in flight: owes
	IssuerBusy       Reason = 55 // too many in flight there already: nothing left
	HSMTrouble       Reason = 56 // nothing left
	StoreTrouble     Reason = 57 // nothing left
	RiskRefused      Reason = 58
)

var reasonNames = map[Reason]string{
	Undecided: "undecided", Approved: "approved", Declined: "declined by issuer",
	FormatError: "format error", NotSupported: "not supported", BadMAC: "wrong MAC", BadPIN: "PIN block wrong",
	AmountInvalid: "invalid amount", CurrencyInvalid: "invalid currency", CardInvalid: "invalid card", CardExpired: "card expired",
	EntryNotAllowed: "entry mode not allowed", UnknownCard: "no issuer for card", Duplicate: "duplicate key",
	InProgress: "still in progress", OriginalNotFound: "original not found", OriginalDiffers: "original differs",
	Tombstoned: "reversed before it came", UnknownTerminal: "unknown terminal", TerminalNotActive: "terminal not active",
	MerchantNotActive: "merchant not active", NotSignedIn: "not signed in", LimitAmount: "amount limit", LimitCount: "count limit",
	FeeExceeds: "fee exceeds amount", Unreachable: "issuer unreachable", Unanswered: "issuer did not answer",
	AnswerWrong: "answer does not match", Interrupted: "interrupted", TerminalReversed: "reversed by terminal in flight",
	IssuerBusy: "issuer at capacity", HSMTrouble: "HSM trouble", StoreTrouble: "store trouble", RiskRefused: "refused by risk",
}

// String names the reason in English, for logs, metrics and operators.
func (r Reason) String() string {
	if s, ok := reasonNames[r]; ok {
		return s
	}
	return "unknown reason"
}

// Reasons lists every reason there is, Undecided first.
func Reasons() []Reason {
	var all []Reason
	for r := range 256 {
		if _, ok := reasonNames[Reason(r)]; ok {
			all = append(all, Reason(r))
		}
	}
	return all
}

// Owes reports whether a transaction closed for r owes the issuer a reversal:
// the request left the house and its fate there is unknown or unwanted.
func (r Reason) Owes() bool {
	switch r {
	case Unanswered, AnswerWrong, Interrupted, TerminalReversed:
		return true
	}
	return false
}

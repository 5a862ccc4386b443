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
	OriginalUndone   Reason = 25 // the original was voided, refunded or completed already
	OriginalClosed   Reason = 26 // the original's batch or business date is closed, or it is too old
	OriginalBusy     Reason = 27 // the original, or something that follows it, is not decided yet
	AmountDiffers    Reason = 28 // not the amount of the original
	AmountOver       Reason = 29 // more than the original allows

	// Who sent it.
	UnknownTerminal   Reason = 30
	TerminalNotActive Reason = 31
	MerchantNotActive Reason = 32
	NotSignedIn       Reason = 33 // no working keys
	BatchOutOfStep    Reason = 34 // not the batch number that this house has given

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

	// What the card or its issuer does not do.
	IssuerCannot Reason = 60 // a kind of transaction that this issuer's line does not carry
	UseChip      Reason = 61 // the stripe of a card that has a chip
	PINRequired  Reason = 62 // contactless above what goes without a PIN
	ChipDiffers  Reason = 63 // the chip's data speak of another amount or currency
	ChipReplayed Reason = 64 // the chip's counter is not above the last one seen
	CardBlocked  Reason = 65 // on the black list
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
	OriginalUndone: "original undone already", OriginalClosed: "original closed", OriginalBusy: "original not decided",
	AmountDiffers: "amount differs from the original", AmountOver: "more than the original allows", BatchOutOfStep: "batch out of step",
	IssuerCannot: "not carried by the issuer", UseChip: "card has a chip", PINRequired: "PIN required", ChipDiffers: "chip data differ",
	ChipReplayed: "chip counter replayed", CardBlocked: "card on the black list",
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

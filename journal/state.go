package journal

import "fmt"

// State is where a transaction stands.
type State uint8

const (
	// Open: recorded, perhaps sent, not decided (INTENT and SENT).
	Open State = iota + 1
	// StateApproved: the issuer said yes and the terminal may hear it.
	StateApproved
	// StateDeclined: refused, and nothing is owed.
	StateDeclined
	// Owed: a reversal is owed to the issuer and not yet acknowledged
	// (IN_DOUBT, REV_PENDING).
	Owed
	// Reversed: the issuer acknowledged the reversal.
	Reversed
	// Manual: the reversal was refused or gave up; a person must look.
	Manual
)

var stateNames = [...]string{"none", "open", "approved", "declined", "owed", "reversed", "manual"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown state"
}

// Event moves a transaction from one state to the next.
type Event uint8

const (
	// Closes with Approved.
	Approve Event = iota + 1
	// Closes with a refusal that owes nothing.
	Decline
	// Closes with a reason that owes a reversal, or an approval that could
	// not be delivered, or was reversed by the terminal.
	Owe
	// The issuer acknowledged the reversal.
	Acknowledge
	// The reversal was refused for good, or tried often enough.
	GiveUp
	// A person decided to send the reversal again.
	Resume
)

var eventNames = [...]string{"none", "approve", "decline", "owe", "acknowledge", "give up", "resume"}

func (e Event) String() string {
	if int(e) < len(eventNames) {
		return eventNames[e]
	}
	return "unknown event"
}

// Next is the one place where states move. An arrow that is not here does not
// exist; meeting one is an error and changes nothing.
//
//	open ── approve ──▶ approved ── owe ──▶ owed ── acknowledge ──▶ reversed
//	  ├──── decline ──▶ declined             ▲ └──── give up ──▶ manual
//	  └──── owe ─────────────────────────────┘ ◀──── resume ───────┤
//	                                           reversed ◀── acknowledge
func (s State) Next(e Event) (State, error) {
	switch {
	case s == Open && e == Approve:
		return StateApproved, nil
	case s == Open && e == Decline:
		return StateDeclined, nil
	case (s == Open || s == StateApproved) && e == Owe:
		return Owed, nil
	case (s == Owed || s == Manual) && e == Acknowledge:
		return Reversed, nil
	case s == Owed && e == GiveUp:
		return Manual, nil
	case s == Manual && e == Resume:
		return Owed, nil
	}
	return s, fmt.Errorf("journal: a transaction that is %s cannot %s", s, e)
}

// event is what closing with r means.
func (r Reason) event() Event {
	switch {
	case r == Approved:
		return Approve
	case r.Owes():
		return Owe
	default:
		return Decline
	}
}

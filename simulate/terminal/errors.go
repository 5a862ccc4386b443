package terminal

import (
	"fmt"

	"acquirer/spec"
)

// Failure is why a terminal has no valid answer, in one word. It stands in
// the error's chain: errors.Is(err, ErrTimeout).
type Failure string

// The failures. After all of them but ErrDial, ErrNoKeys, ErrPending, ErrFull
// and ErrState the host may have acted, so a sale leaves a pending reversal
// with the reason shown.
const (
	ErrDial     Failure = "dial"     // no connection: nothing has left the terminal
	ErrLine     Failure = "line"     // the connection broke while an answer was awaited (98)
	ErrTimeout  Failure = "timeout"  // no answer in time (98)
	ErrMAC      Failure = "mac"      // the approval's MAC is wrong or missing (A0)
	ErrFormat   Failure = "format"   // the answer cannot be read (06)
	ErrMismatch Failure = "mismatch" // the answer does not fit the request, protocol.md 1.6 (06)
	ErrARPC     Failure = "arpc"     // the card refused the issuer's cryptogram (06)
	ErrNoKeys   Failure = "no_keys"  // the terminal has not signed in
	ErrPending  Failure = "pending"  // the pending reversal was not taken, nothing is sold before it is
	ErrKeys     Failure = "keys"     // the working keys of a sign-in are unusable
	ErrState    Failure = "state"    // the state could not be saved, nothing was sent
	ErrFull     Failure = "full"     // the batch holds as many transactions as its totals can count
	ErrUploads  Failure = "uploads"  // notices wait that the host has not taken, nothing is settled before
	ErrBalance  Failure = "balance"  // the host did not compare the totals of a settlement
)

var failureTexts = map[Failure]string{
	ErrDial:     "no connection",
	ErrLine:     "connection lost before the answer",
	ErrTimeout:  "no answer in time",
	ErrMAC:      "MAC of the answer is wrong or missing",
	ErrFormat:   "answer cannot be read",
	ErrMismatch: "answer does not fit the request",
	ErrARPC:     "card refused the issuer's cryptogram",
	ErrNoKeys:   "not signed in",
	ErrPending:  "a reversal is pending and was not taken by the host",
	ErrKeys:     "working keys refused",
	ErrDownload: "what the host gave for download cannot be used",
	ErrState:    "state not saved",
	ErrFull:     "the batch is full: settle first",
	ErrUploads:  "notices wait that the host has not taken",
	ErrBalance:  "the host did not compare the totals",
}

func (f Failure) Error() string { return failureTexts[f] }

// failure wraps the cause of f with the terminal and the type of the message
// it was about, 0 for raw bytes.
func (t *Terminal) failure(f Failure, what spec.MTI, cause error) error {
	name := "raw bytes"
	if what != 0 {
		name = what.String()
	}
	if cause == nil {
		return fmt.Errorf("terminal %s: %s: %w", t.cfg.TID, name, f)
	}
	return fmt.Errorf("terminal %s: %s: %w: %w", t.cfg.TID, name, f, cause)
}

// Refusal is an answer to a management message that is not 00.
type Refusal struct {
	TID, What string
	Code      string // DE 39
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("terminal %s: %s answered %s", r.TID, r.What, r.Code)
}

package issuer

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"math/rand/v2"

	"acquirer/money"
)

// Storm is what an amount asks of the issuer: the last two digits of a
// purchase's or a pre-authorisation's fen choose it. Amounts whose last two
// digits stand nowhere here are treated as a good issuer treats them.
type Storm uint8

// The storms.
const (
	Calm           Storm = iota
	Decline              // answered with those two digits as DE 39
	RollKey              // booked; the ZAK is rolled before the answer, which is signed with the old one
	LostReversal         // booked, never answered; its first reversal is lost too: neither booked nor answered
	DeafReversal         // booked, never answered; its first reversal is booked and not answered
	WrongReference       // booked, answered with another RRN (DE 37)
	WrongMAC             // booked, answered with a wrong MAC
	DropBefore           // the line is dropped, nothing is booked
	DropAfter            // booked, then the line is dropped
	WrongAmount          // booked, answered with another amount (DE 4)
	Twice                // booked, answered twice
	Late                 // booked, answered after Config.Late
	Lost                 // neither booked nor answered
	Silent               // booked, never answered
)

// storms is the table that --help prints.
var storms = [100]struct {
	storm Storm
	what  string
}{
	51: {Decline, "declined: 51 insufficient funds"},
	55: {Decline, "declined: 55 wrong PIN"},
	57: {Decline, "declined: 57 not permitted to the cardholder"},
	61: {Decline, "declined: 61 amount limit exceeded"},
	65: {Decline, "declined: 65 count limit exceeded"},
	75: {Decline, "declined: 75 PIN tries exceeded"},
	86: {LostReversal, "booked, never answered; the first reversal is lost: neither booked nor answered"},
	87: {DeafReversal, "booked, never answered; the first reversal is booked and not answered"},
	88: {RollKey, "booked; the MAC key is rolled before the answer, which comes under the old one"},
	89: {WrongReference, "booked, answered with another RRN"},
	90: {WrongMAC, "booked, answered with a wrong MAC"},
	91: {Decline, "declined: 91 issuer inoperative"},
	92: {DropBefore, "the line is dropped, nothing is booked"},
	93: {DropAfter, "booked, then the line is dropped"},
	94: {WrongAmount, "booked, answered with another amount"},
	95: {Twice, "booked, answered twice"},
	96: {Late, "booked, answered late"},
	97: {Lost, "neither booked nor answered"},
	98: {Silent, "booked, never answered"},
}

// StormOf tells what an amount asks for.
func StormOf(a money.Amount) Storm {
	if a <= 0 {
		return Calm
	}
	return storms[a%100].storm
}

// Stormy reports whether an amount asks for something other than good service.
func Stormy(a money.Amount) bool { return StormOf(a) != Calm }

// Storms lists one amount for every line of the table, between 100.00 and
// 101.00 yuan.
func Storms() []money.Amount {
	var out []money.Amount
	for fen := range storms {
		if storms[fen].storm != Calm {
			out = append(out, money.Yuan(100)+money.Amount(fen))
		}
	}
	return out
}

// AmountTable prints the table of amounts, a line each.
func AmountTable() string {
	var b strings.Builder
	for fen, s := range storms {
		if s.storm != Calm {
			fmt.Fprintf(&b, "  .%02d  %s\n", fen, s.what)
		}
	}
	return b.String()
}

// Weather is how the issuer behaves whatever the amount: for load and chaos.
// Shares are probabilities from 0 to 1, drawn in the order of the fields; the
// zero Weather is good.
type Weather struct {
	Delay  time.Duration `json:"delay"`  // before every answer
	Jitter time.Duration `json:"jitter"` // and up to so much more

	Drop     float64 `json:"drop"`     // purchases: as .93
	Lost     float64 `json:"lost"`     // as .97
	Silent   float64 `json:"silent"`   // as .98
	Late     float64 `json:"late"`     // as .96
	Twice    float64 `json:"twice"`    // as .95
	Declined float64 `json:"declined"` // answered 05

	LostReversals float64 `json:"lost_reversals"` // reversals neither booked nor answered
	DeafReversals float64 `json:"deaf_reversals"` // reversals booked and not answered

	// Closed refuses sign-ons with 91 and drops the lines that stand.
	Closed bool `json:"closed"`
}

func (w *Weather) check() error {
	if w.Delay < 0 || w.Jitter < 0 {
		return errors.New("issuer: weather: a delay is negative")
	}
	sum := 0.0
	for _, p := range []float64{w.Drop, w.Lost, w.Silent, w.Late, w.Twice, w.Declined} {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("issuer: weather: a share of %v is not from 0 to 1", p)
		}
		sum += p
	}
	if sum > 1 {
		return fmt.Errorf("issuer: weather: shares of purchases add up to %v", sum)
	}
	if !(w.LostReversals >= 0 && w.DeafReversals >= 0 && w.LostReversals+w.DeafReversals <= 1) {
		return errors.New("issuer: weather: shares of reversals are not from 0 to 1 together")
	}
	return nil
}

// sky is the weather of a host and the dice it is drawn with.
type sky struct {
	mu  sync.Mutex
	now Weather
	rng *rand.Rand
}

// purchase draws what happens to a purchase; declined says DE 39 is 05.
func (s *sky) purchase() (storm Storm, declined bool, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.now
	pause = s.pause()
	if w.Drop+w.Lost+w.Silent+w.Late+w.Twice+w.Declined == 0 {
		return Calm, false, pause
	}
	d := s.rng.Float64()
	for _, c := range []struct {
		share float64
		storm Storm
	}{{w.Drop, DropAfter}, {w.Lost, Lost}, {w.Silent, Silent}, {w.Late, Late}, {w.Twice, Twice}} {
		if d < c.share {
			return c.storm, false, pause
		}
		d -= c.share
	}
	return Calm, d < w.Declined, pause
}

// reversal draws what happens to a reversal: Calm, LostReversal or
// DeafReversal.
func (s *sky) reversal() (storm Storm, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause = s.pause()
	if s.now.LostReversals+s.now.DeafReversals == 0 {
		return Calm, pause
	}
	switch d := s.rng.Float64(); {
	case d < s.now.LostReversals:
		return LostReversal, pause
	case d < s.now.LostReversals+s.now.DeafReversals:
		return DeafReversal, pause
	}
	return Calm, pause
}

func (s *sky) pause() time.Duration {
	if s.now.Jitter == 0 {
		return s.now.Delay
	}
	return s.now.Delay + time.Duration(s.rng.Int64N(int64(s.now.Jitter)+1))
}

func (s *sky) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.Closed
}

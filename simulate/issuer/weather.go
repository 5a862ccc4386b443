package issuer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"acquirer/money"
	simcard "acquirer/simulate/card"
)

// Storm is what an amount asks of the issuer: the last two digits of a sale's
// or a pre-authorisation's fen choose it. Amounts whose last two digits stand
// nowhere here are treated as a good issuer treats them, and so is whatever
// follows an earlier transaction: its weather comes by chance, or by Next.
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
	Half                 // approved in part: half, when the terminal takes that (DE 60.3.4), else 51
	Script71             // approved; a chip is sent a script in 71
	Script72             // approved; a chip is sent a script in 72
	ForgedScript         // approved; a chip is sent a script in 72 whose MAC is wrong
	Silent               // booked, never answered
)

// scripts are what a chip is sent.
var scripts = map[Storm]simcard.Script{
	Script71:     {Template: simcard.ScriptBefore, ID: [4]byte{0, 0, 0, 0x71}, Command: simcard.UnblockPIN},
	Script72:     {Template: simcard.ScriptAfter, ID: [4]byte{0, 0, 0, 0x72}, Command: simcard.PutData(0x9F54), Data: []byte{0, 0, 0, 0x50, 0, 0}}, // the most it spends offline
	ForgedScript: {Template: simcard.ScriptAfter, ID: [4]byte{0, 0, 0, 0x73}, Command: simcard.BlockApplication},
}

// stormNames are how people and JSON name storms.
var stormNames = [...]string{
	Calm: "calm", Decline: "declined", RollKey: "roll-key", LostReversal: "lost-reversal", DeafReversal: "deaf-reversal",
	WrongReference: "wrong-reference", WrongMAC: "wrong-mac", DropBefore: "drop-before", DropAfter: "drop-after",
	WrongAmount: "wrong-amount", Twice: "twice", Late: "late", Lost: "lost", Half: "half", Script71: "script-71",
	Script72: "script-72", ForgedScript: "forged-script", Silent: "silent",
}

// StormNames lists the names of all storms.
func StormNames() []string { return slices.Clone(stormNames[:]) }

func (s Storm) String() string {
	if int(s) < len(stormNames) {
		return stormNames[s]
	}
	return fmt.Sprintf("Storm(%d)", uint8(s))
}

// MarshalText writes the name.
func (s Storm) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a name.
func (s *Storm) UnmarshalText(b []byte) error {
	n := slices.Index(stormNames[:], string(b))
	if n < 0 {
		return fmt.Errorf("issuer: no storm is called %q; there are %s", b, strings.Join(stormNames[:], ", "))
	}
	*s = Storm(n)
	return nil
}

// storms is the table that --help prints.
var storms = [100]struct {
	storm Storm
	what  string
}{
	10: {Half, "approved in part, half of it, when the terminal takes that, else declined: 51"},
	51: {Decline, "declined: 51 insufficient funds"},
	55: {Decline, "declined: 55 wrong PIN"},
	57: {Decline, "declined: 57 not permitted to the cardholder"},
	61: {Decline, "declined: 61 amount limit exceeded"},
	65: {Decline, "declined: 65 count limit exceeded"},
	71: {Script71, "approved; a chip is sent a script in 71 (unblock the PIN)"},
	72: {Script72, "approved; a chip is sent a script in 72 (its offline limit)"},
	73: {ForgedScript, "approved; a chip is sent a script in 72 whose MAC is wrong"},
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
// Shares are probabilities from 0 to 1 of a message of any kind, drawn in the
// order of the fields; the zero Weather is good.
type Weather struct {
	Delay  time.Duration `json:"delay"`  // before every answer
	Jitter time.Duration `json:"jitter"` // and up to so much more

	Drop     float64 `json:"drop"`     // as .93
	Lost     float64 `json:"lost"`     // as .97
	Silent   float64 `json:"silent"`   // as .98
	Late     float64 `json:"late"`     // as .96
	Twice    float64 `json:"twice"`    // as .95
	Declined float64 `json:"declined"` // requests and refunds: answered 05

	LostReversals float64 `json:"lost_reversals"` // reversals neither booked nor answered
	DeafReversals float64 `json:"deaf_reversals"` // reversals booked and not answered

	// Closed refuses sign-ons with 91 and drops the lines that stand.
	Closed bool `json:"closed"`
}

// Order is weather for the next messages of one kind, before anything that an
// amount or chance wants.
type Order struct {
	Kind  Kind   `json:"kind"`
	Count int    `json:"count"` // 0 is one
	Storm Storm  `json:"storm"`
	Code  string `json:"code,omitempty"` // DE 39 of Decline; "" is 05
}

// MostOrdered is how many messages one Order can be for.
const MostOrdered = 1 << 20

func (o *Order) check() error {
	if o.Count == 0 {
		o.Count = 1
	}
	if o.Storm == Decline && o.Code == "" {
		o.Code = "05"
	}
	switch {
	case !known(o.Kind):
		return fmt.Errorf("issuer: no kind of transaction is called %q; there are %v", o.Kind, Kinds)
	case o.Count < 0 || o.Count > MostOrdered:
		return fmt.Errorf("issuer: weather for %d messages, want 1 to %d", o.Count, MostOrdered)
	case int(o.Storm) >= len(stormNames):
		return fmt.Errorf("issuer: %v is no storm", o.Storm)
	case (o.Storm == Decline) != (o.Code != "") || o.Code != "" && len(o.Code) != 2:
		return fmt.Errorf("issuer: storm %v with DE 39 %q: a refusal has a code of two characters, and nothing else has one", o.Storm, o.Code)
	}
	return nil
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
		return fmt.Errorf("issuer: weather: shares add up to %v", sum)
	}
	if !(w.LostReversals >= 0 && w.DeafReversals >= 0 && w.LostReversals+w.DeafReversals <= 1) {
		return errors.New("issuer: weather: shares of reversals are not from 0 to 1 together")
	}
	return nil
}

// sky is the weather of a host and the dice it is drawn with.
type sky struct {
	mu   sync.Mutex
	now  Weather
	next map[Kind][]Order
	rng  *rand.Rand
}

// order adds weather for the next messages of a kind.
func (s *sky) order(o Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = map[Kind][]Order{}
	}
	s.next[o.Kind] = append(s.next[o.Kind], o)
}

// draw says what happens to a message of a kind: what was ordered for it, or
// chance. A refusal comes with its code.
func (s *sky) draw(k Kind) (o Order, ordered bool, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause = s.pause()
	if list := s.next[k]; len(list) > 0 {
		o = list[0]
		if list[0].Count--; list[0].Count == 0 {
			s.next[k] = list[1:]
		}
		return o, true, pause
	}
	w := &s.now
	type share struct {
		of    float64
		storm Storm
	}
	shares := []share{{w.Drop, DropAfter}, {w.Lost, Lost}, {w.Silent, Silent}, {w.Late, Late}, {w.Twice, Twice}, {w.Declined, Decline}}
	if k == Reversal {
		shares = []share{{w.LostReversals, LostReversal}, {w.DeafReversals, DeafReversal}}
	}
	d := -1.0 // not yet cast
	for _, c := range shares {
		if c.of == 0 {
			continue
		}
		if d < 0 {
			d = s.rng.Float64()
		}
		if d >= c.of {
			d -= c.of
			continue
		}
		if o.Storm = c.storm; o.Storm == Decline {
			o.Code = "05"
			if k.told() {
				o = Order{} // what was done already is not refused for no reason
			}
		}
		return o, false, pause
	}
	return o, false, pause
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

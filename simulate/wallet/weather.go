package simwallet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"acquirer/money"
)

// Storm is what an amount asks of the wallet: the last two digits of a
// payment's fen choose it. Amounts whose last two digits stand nowhere here are
// paid at once. A storm falls on the first question that brings the order; a
// repeat of it is answered well.
type Storm uint8

// The storms.
const (
	Calm         Storm = iota
	Decline            // failed, with the code beside the amount
	TypesAsked         // typing; paid once Config.Asks queries have come
	TypesAWhile        // typing; paid after Config.Typing
	TypesForever       // typing, and nothing more
	GivesUp            // typing; failed once Config.Asks queries have come
	Blind              // booked, never answered, and the first Config.Asks queries are answered UNKNOWN
	LostCancel         // booked, never answered; its first cancel is lost too: neither booked nor answered
	DeafCancel         // booked, never answered; its first cancel is booked and not answered
	LaterCancel        // booked, never answered; its first cancel is answered UNKNOWN: try again
	NeverCancel        // booked, never answered; its cancels are refused for good
	LateSuccess        // typing; paid in the moment the cancel comes, which gives it back
	ErrorAfter         // booked, answered UNKNOWN
	ErrorBefore        // answered UNKNOWN, nothing is booked
	OtherOrder         // booked, answered about another order
	WrongSign          // booked, answered with a wrong signature
	DropBefore         // the connection breaks, nothing is booked
	DropAfter          // booked, then the connection breaks
	OtherAmount        // booked, answered with another amount
	Breaks             // booked, answered with HTTP 500
	Late               // booked, answered after Config.Late
	Lost               // neither booked nor answered
	Silent             // booked, never answered
	Delayed            // never answered; booked only after Config.Late, when a cancel may have come
)

// storms is the table that --help prints. UNKNOWN is SYSTEMERROR at WeChat Pay,
// 20000 at Alipay, 04 at UnionPay QR.
var storms = [100]struct {
	storm Storm
	code  string
	what  string
}{
	51: {Decline, "NOT_ENOUGH", "failed: NOT_ENOUGH"},
	52: {Decline, "CODE_INVALID", "failed: CODE_INVALID"},
	54: {Decline, "CODE_EXPIRED", "failed: CODE_EXPIRED"},
	55: {Decline, "BUYER_REFUSED", "failed: BUYER_REFUSED, the password was wrong too often"},
	57: {Decline, "NOT_PERMITTED", "failed: NOT_PERMITTED"},
	61: {Decline, "OVER_LIMIT", "failed: OVER_LIMIT"},
	78: {NeverCancel, "", "booked, never answered; its cancels are refused for good"},
	79: {LateSuccess, "", "the buyer types, and pays just before the cancel"},
	80: {TypesAsked, "", "the buyer types; paid at the second query"},
	81: {TypesAWhile, "", "the buyer types; paid after two seconds"},
	82: {TypesForever, "", "the buyer types, and never ends"},
	83: {GivesUp, "BUYER_REFUSED", "the buyer types, and gives up at the second query"},
	84: {Blind, "", "booked, never answered; the first two queries are answered UNKNOWN"},
	85: {ErrorAfter, "", "booked, answered UNKNOWN"},
	86: {LostCancel, "", "booked, never answered; the first cancel is lost: neither booked nor answered"},
	87: {DeafCancel, "", "booked, never answered; the first cancel is booked and not answered"},
	88: {LaterCancel, "", "booked, never answered; the first cancel is answered UNKNOWN"},
	89: {OtherOrder, "", "booked, answered about another order"},
	90: {WrongSign, "", "booked, answered with a wrong signature"},
	91: {ErrorBefore, "", "answered UNKNOWN, nothing is booked"},
	92: {DropBefore, "", "the connection breaks, nothing is booked"},
	93: {DropAfter, "", "booked, then the connection breaks"},
	94: {OtherAmount, "", "booked, answered with another amount"},
	95: {Breaks, "", "booked, answered with HTTP 500"},
	96: {Late, "", "booked, answered late"},
	97: {Lost, "", "neither booked nor answered"},
	98: {Silent, "", "booked, never answered"},
	99: {Delayed, "", "never answered, and booked late: a cancel may come before it"},
}

// StormOf tells what an amount asks for.
func StormOf(a money.Amount) Storm {
	if a <= 0 {
		return Calm
	}
	return storms[a%100].storm
}

// Storms lists one amount for every line of the table, between 20.00 and 21.00
// yuan.
func Storms() []money.Amount {
	var out []money.Amount
	for fen := range storms {
		if storms[fen].storm != Calm {
			out = append(out, money.Yuan(20)+money.Amount(fen))
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

// Weather is how the wallets behave whatever the amount: for load and chaos.
// Shares are probabilities from 0 to 1, drawn in the order of the fields for
// each payment whose amount asks for nothing; the zero Weather is good.
type Weather struct {
	Delay  time.Duration `json:"delay"`  // before every answer
	Jitter time.Duration `json:"jitter"` // and up to so much more

	Failed  float64 `json:"failed"`  // as .51
	Typing  float64 `json:"typing"`  // as .80
	Forever float64 `json:"forever"` // as .82
	Drop    float64 `json:"drop"`    // as .93
	Breaks  float64 `json:"breaks"`  // as .95
	Late    float64 `json:"late"`    // as .96
	Lost    float64 `json:"lost"`    // as .97
	Silent  float64 `json:"silent"`  // as .98
	Delayed float64 `json:"delayed"` // as .99

	LostCancels float64 `json:"lost_cancels"` // cancels neither booked nor answered
	DeafCancels float64 `json:"deaf_cancels"` // cancels booked and not answered

	// Closed answers every question with HTTP 503 and books nothing.
	Closed bool `json:"closed"`
}

func (w *Weather) check() error {
	if w.Delay < 0 || w.Jitter < 0 || w.Delay > time.Hour || w.Jitter > time.Hour {
		return errors.New("simwallet: weather: a delay is not from 0 to an hour")
	}
	sum := 0.0
	for _, s := range w.shares() {
		if !(s.share >= 0 && s.share <= 1) {
			return fmt.Errorf("simwallet: weather: a share of %v is not from 0 to 1", s.share)
		}
		sum += s.share
	}
	if sum > 1 {
		return fmt.Errorf("simwallet: weather: shares of payments add up to %v", sum)
	}
	if !(w.LostCancels >= 0 && w.DeafCancels >= 0 && w.LostCancels+w.DeafCancels <= 1) {
		return errors.New("simwallet: weather: shares of cancels are not from 0 to 1 together")
	}
	return nil
}

type share struct {
	share float64
	storm Storm
}

func (w *Weather) shares() [9]share {
	return [...]share{{w.Failed, Decline}, {w.Typing, TypesAsked}, {w.Forever, TypesForever}, {w.Drop, DropAfter}, {w.Breaks, Breaks},
		{w.Late, Late}, {w.Lost, Lost}, {w.Silent, Silent}, {w.Delayed, Delayed}}
}

// gust is a storm and the code of the failure it brings.
type gust struct {
	storm Storm
	code  string
}

// sky is the weather, the dice it is drawn with, and what Next asked for.
type sky struct {
	mu   sync.Mutex
	now  Weather
	rng  *rand.Rand
	next []gust
	calm bool // amounts choose nothing
}

// payment draws what falls on a payment, and the code of a failure.
func (s *sky) payment(a money.Amount) (Storm, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.next) > 0 {
		g := s.next[0]
		s.next = s.next[1:]
		return g.storm, g.code
	}
	if asked := storms[a%100]; asked.storm != Calm && !s.calm {
		return asked.storm, asked.code
	}
	d := s.rng.Float64()
	for _, c := range s.now.shares() {
		if d < c.share {
			return c.storm, codeOf(c.storm)
		}
		d -= c.share
	}
	return Calm, ""
}

func codeOf(s Storm) string {
	for _, row := range storms {
		if row.storm == s {
			return row.code
		}
	}
	return ""
}

// cancel draws what falls on a cancel: Calm, LostCancel or DeafCancel.
func (s *sky) cancel() Storm {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch d := s.rng.Float64(); {
	case d < s.now.LostCancels:
		return LostCancel
	case d < s.now.LostCancels+s.now.DeafCancels:
		return DeafCancel
	}
	return Calm
}

// pause is how long the next answer waits, and whether there is service at all.
func (s *sky) pause() (d time.Duration, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Jitter > 0 {
		d = time.Duration(s.rng.Int64N(int64(s.now.Jitter) + 1))
	}
	return s.now.Delay + d, s.now.Closed
}

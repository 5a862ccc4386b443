// Package wallet is the way to the wallets that buyers pay with by payment
// code: WeChat Pay, Alipay and UnionPay QR. Wallet asks and waits alike for all
// three; a Wire knows what one of them says over HTTP. ReadBill reads their
// daily bills.
package wallet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing"
)

// State is where an order stands at a wallet.
type State uint8

// The states. The zero state knows nothing and comes with an error only.
const (
	Unknown     State = iota
	BuyerPaying       // the buyer is typing the password: nothing is decided
	Paid              // the buyer has paid; some of it may have been refunded since
	Failed            // nothing was paid and nothing will be
	Closed            // cancelled before it was paid; it can never be paid
	Refunded          // paid, and it has gone back
	NoOrder           // the wallet has not heard of the order; it may still be on its way
)

var states = [...]string{"unknown", "buyer paying", "paid", "failed", "closed", "refunded", "no order"}

func (s State) String() string {
	if int(s) < len(states) {
		return states[s]
	}
	return fmt.Sprintf("wallet state %d", uint8(s))
}

// Final reports whether nothing but a refund will change the state any more.
func (s State) Final() bool { return s == Paid || s == Failed || s == Closed || s == Refunded }

// Why a wallet refused, in words that all wallets share: Result.Code. Another
// reason is Other.
const (
	NotEnough     = "NOT_ENOUGH"     // balance or credit line too small
	BuyerRefused  = "BUYER_REFUSED"  // the buyer did not agree, or typed wrong passwords
	NotPermitted  = "NOT_PERMITTED"  // the account may not pay, or not here
	OverLimit     = "OVER_LIMIT"     // the buyer's limit
	CodeInvalid   = "CODE_INVALID"   // no such payment code
	CodeExpired   = "CODE_EXPIRED"   // the payment code is too old, or has paid
	OrderConflict = "ORDER_CONFLICT" // the order or refund number belongs to another one
	BadRequest    = "BAD_REQUEST"    // the question was malformed
	NotPaid       = "NOT_PAID"       // a refund of what is not paid
	OverRefund    = "OVER_REFUND"    // refunds would be more than was paid
	Stuck         = "STUCK"          // a refund that the wallet cannot carry out by itself
	Other         = "OTHER"
)

// Order names one order at a wallet. All of it is known before the wallet is
// asked for the first time, and stays: asking again with the same Order is
// about the same order.
type Order struct {
	Number   string       // ours, the RRN: 1 to 32 letters and digits, never used for anything else
	Merchant string       // DE 42
	Terminal string       // DE 41
	Amount   money.Amount // of the payment
	Made     time.Time    // when it was opened
}

// Payment is a payment by payment code.
type Payment struct {
	Order
	Code routing.PayCode
	Name string // what the buyer's telephone shows, in UTF-8
}

// Refund is a part or the whole of an order that goes back.
type Refund struct {
	Number string // ours, the RRN of the void or refund: 1 to 32 letters and digits
	Amount money.Amount
	Made   time.Time // when it was opened
}

// Result is a wallet's word about an order or a refund.
type Result struct {
	State       State
	Amount      money.Amount // of the order; 0 when the wallet did not say
	Transaction string       // the wallet's own number, for its bills; at most 64 characters
	Code        string       // why, when Failed
	Said        string       // the wallet's own code and text for it; at most 64 characters
}

// Reasons of a *routing.SendError that wallets add.
const (
	Unconnected routing.Why = "no connection could be made"              // ErrUnreachable
	Unsaid      routing.Why = "the question could not be made"           // ErrUnreachable
	TooEarly    routing.Why = "the wallet takes no cancel so early"      // ErrUnreachable
	Distrusted  routing.Why = "the answer cannot be trusted"             // ErrUnanswered, as the rest
	Undecided   routing.Why = "the wallet does not know yet"             // ask again
	Refused     routing.Why = "the wallet refused the question for good" // asking again does not help
)

// Wire is a wallet's own language: WeChat, Alipay or UnionPay makes one.
type Wire interface {
	manners() manners
	// ask lays a question into a POST.
	ask(base string, q *question) (call, error)
	// answer reads the body of HTTP status 200. An error that is a *said is
	// the wallet's word, any other means that the body cannot be trusted.
	answer(q *question, body []byte) (Result, error)
	// bill fetches the bill of q.date.
	bill(ctx context.Context, w *Wallet, q *question, to io.Writer) error
}

// manners are a wallet's times, from its public pages.
type manners struct {
	poll        time.Duration // between queries while the buyer types
	unknown     time.Duration // before the query after "system error"
	cancelAfter time.Duration // no cancel before this since the payment
	billFrom    time.Duration // time of the next day from which a bill is ready, Beijing
}

// verb is what is asked.
type verb string

const (
	pay         verb = "pay"
	query       verb = "query"
	cancel      verb = "cancel"
	refund      verb = "refund"
	refundQuery verb = "refund_query"
	bill        verb = "bill"
)

// question is what a wire puts into its own words.
type question struct {
	verb verb
	Order
	sub    string // the merchant's number at the wallet
	code   routing.PayCode
	name   string
	refund Refund
	date   calendar.Date
	at     time.Time
}

// call is one POST.
type call struct {
	url, kind string // kind is the Content-Type
	body      []byte
}

// said is a wallet's word that is no answer: why is Undecided or Refused.
type said struct {
	why  routing.Why
	text string
}

func (s *said) Error() string { return s.text }

// Config describes a wallet. Zero durations and numbers take the defaults
// named beside them, or the wire's own.
type Config struct {
	Name string // as routing.WalletOf has it
	URL  string // http or https
	Wire Wire

	// Merchants are our merchants' numbers at the wallet by DE 42. Nil sends
	// DE 42 itself; otherwise a merchant who is not there cannot be asked for.
	Merchants map[string]string

	Timeout        time.Duration // one question; 5 s
	ConnectTimeout time.Duration // TCP and TLS together; 3 s
	Poll           time.Duration // between queries while the buyer types; WeChat and UnionPay 5 s, Alipay 3 s
	Unknown        time.Duration // before the query after the wallet did not know; WeChat and UnionPay 5 s, Alipay 3 s
	CancelAfter    time.Duration // no cancel before this since the payment; WeChat 15 s
	BillFrom       time.Duration // time of the next day from which a bill is ready; WeChat and UnionPay 10:00, Alipay 9:00
	MaxConnections int           // questions at once; more wait for their turn; 64

	TLS     *tls.Config                                              // nil for the system's roots; WeChat's cancels and refunds need a client certificate
	Dial    func(ctx context.Context, addr string) (net.Conn, error) // nil for TCP
	Metrics *Metrics                                                 // nil counts nothing
}

func (c *Config) defaults() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("wallet %s: its address is not a URL like https://127.0.0.1:7002/wechat", c.Name)
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if c.Name == "" || c.Wire == nil {
		return fmt.Errorf("wallet at %s: it needs a name and a wire", u.Host)
	}
	own := c.Wire.manners()
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.Timeout, 5 * time.Second}, {&c.ConnectTimeout, 3 * time.Second}, {&c.Poll, own.poll}, {&c.Unknown, own.unknown},
		{&c.CancelAfter, own.cancelAfter}, {&c.BillFrom, own.billFrom}} {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v < 0 {
			return fmt.Errorf("wallet %s: a duration is negative", c.Name)
		}
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 64
	}
	if c.MaxConnections < 0 {
		return fmt.Errorf("wallet %s: %d connections", c.Name, c.MaxConnections)
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	return nil
}

// Wallet is the way to one wallet. Safe for concurrent use.
//
// Every error of its questions is a *routing.SendError and is ErrUnreachable
// (nothing of this question left the house) or ErrUnanswered (the wallet may
// have acted on it). A wallet's no is a Result, not an error.
type Wallet struct {
	cfg    Config
	client *http.Client
	met    walletMetrics
}

// New checks the configuration; it connects when there is something to ask.
func New(cfg Config) (*Wallet, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	return &Wallet{cfg: cfg, client: newClient(&cfg), met: cfg.Metrics.of(cfg.Name)}, nil
}

// Name is the wallet's name.
func (w *Wallet) Name() string { return w.cfg.Name }

// Timeout is how long one question waits for its answer.
func (w *Wallet) Timeout() time.Duration { return w.cfg.Timeout }

// CancelFrom is the time from which the wallet takes a cancel of an order.
func (w *Wallet) CancelFrom(o Order) time.Time { return o.Made.Add(w.cfg.CancelAfter) }

// Close closes the connections that stand idle.
func (w *Wallet) Close() { w.client.CloseIdleConnections() }

// Pay asks the wallet once to take the amount from whoever showed the code.
// It answers Paid, Failed or BuyerPaying; a repeat with the same order number
// pays nothing twice and answers what became of the first, which may then be
// Closed or Refunded too.
//
// After ErrUnreachable nothing is owed. After ErrUnanswered, and when the
// buyer is still typing and nobody waits any more, the order is owed a Cancel.
func (w *Wallet) Pay(ctx context.Context, p Payment) (Result, error) {
	return w.pay(ctx, p, w.cfg.Timeout)
}

func (w *Wallet) pay(ctx context.Context, p Payment, timeout time.Duration) (Result, error) {
	if p.Code.IsZero() || p.Amount <= 0 {
		return Result{}, w.fail(false, Unsaid, errors.New("there is no payment code, or no amount above zero"))
	}
	r, err := w.ask(ctx, &question{verb: pay, Order: p.Order, code: p.Code, name: p.Name}, timeout)
	if err == nil && !r.State.Final() && r.State != BuyerPaying {
		return Result{}, w.fail(true, Undecided, nil)
	}
	return r, err
}

// PayAndWait pays, and while the buyer types or the answer is missing it asks
// what became of it, until the wallet has decided or patience has ended. The
// last question is asked when patience ends, so that a Cancel may follow it at
// once; the whole takes at most patience and one Timeout.
//
// Undecided to the end, it returns BuyerPaying without an error or, when
// nothing at all is known, ErrUnanswered: either way the order is owed a
// Cancel. The same holds when ctx ends first.
func (w *Wallet) PayAndWait(ctx context.Context, p Payment, patience time.Duration) (Result, error) {
	end := time.Now().Add(patience)
	r, err := w.pay(ctx, p, min(w.cfg.Timeout, patience))
	for last := err; r.State == BuyerPaying || errors.Is(err, routing.ErrUnanswered); {
		pause, left := w.cfg.Poll, time.Until(end)
		if whyIs(last, Undecided) {
			pause = w.cfg.Unknown
		}
		if left <= 0 || !rest(ctx, min(pause, left)) {
			break
		}
		var q Result
		if q, last = w.Query(ctx, p.Order); last == nil && q.State != NoOrder {
			r, err = q, nil // otherwise no wiser: the payment may still be on its way
		}
	}
	return r, err
}

func whyIs(err error, why routing.Why) bool {
	var e *routing.SendError
	return errors.As(err, &e) && e.Why == why
}

// rest waits, and is false when ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Query asks once where an order stands. NoOrder is an answer, and no proof
// that the order will not arrive yet.
func (w *Wallet) Query(ctx context.Context, o Order) (Result, error) {
	return w.ask(ctx, &question{verb: query, Order: o}, w.cfg.Timeout)
}

// Cancel asks once to end an order: Refunded when it was paid, else Closed,
// after which it can never be paid; NoOrder from a wallet that has not heard of
// it, which does not keep it from arriving later.
//
// An error means that the order is still owed a Cancel, whichever it is, and
// a Cancel may be repeated without end. Before CancelFrom nothing is asked.
func (w *Wallet) Cancel(ctx context.Context, o Order) (Result, error) {
	if time.Now().Before(w.CancelFrom(o)) {
		return Result{}, w.fail(false, TooEarly, nil)
	}
	r, err := w.ask(ctx, &question{verb: cancel, Order: o}, w.cfg.Timeout)
	if err != nil || r.State != Unknown {
		return r, err
	}
	// It is ended, and the wallet did not say whether it had been paid: then it
	// knows of money that went back.
	r, err = w.ask(ctx, &question{verb: refundQuery, Order: o}, w.cfg.Timeout)
	if err == nil && r.State != Refunded {
		r.State = Closed
	}
	return r, err
}

// Refund gives back an amount of a paid order, once per refund number: a repeat
// with the same number answers the same. It answers Refunded when the wallet
// has taken the refund over, or Failed. An error that is ErrUnanswered is
// settled by asking again with the same number.
func (w *Wallet) Refund(ctx context.Context, o Order, back Refund) (Result, error) {
	if !orderNumber(back.Number) || back.Amount <= 0 || back.Amount > o.Amount {
		return Result{}, w.fail(false, Unsaid, errors.New("a refund needs a number of 1 to 32 letters and digits and an amount above zero and within its order's"))
	}
	q := &question{verb: refund, Order: o, refund: back}
	r, err := w.ask(ctx, q, w.cfg.Timeout)
	if err != nil || r.State != Unknown {
		return r, err
	}
	// It is taken over, which is not yet done. Whoever cannot ask does not know.
	q.verb = refundQuery
	if r, err = w.ask(ctx, q, w.cfg.Timeout); errors.Is(err, routing.ErrUnreachable) {
		err = w.fail(true, Undecided, errors.New(err.Error()))
	}
	return r, err
}

func orderNumber(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

func (w *Wallet) fail(left bool, why routing.Why, err error) error {
	return &routing.SendError{Issuer: w.cfg.Name, Wallet: true, Left: left, Why: why, Err: err}
}

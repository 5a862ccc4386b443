package routing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"acquirer/money"
)

// WalletState is where an order stands at a wallet.
type WalletState uint8

// The states. The zero state knows nothing and comes with an error only.
const (
	WalletUnknown WalletState = iota
	BuyerPaying               // the buyer is typing the password: nothing is decided
	Paid                      // the buyer has paid; some of it may have been refunded since
	Failed                    // nothing was paid and nothing will be
	Closed                    // cancelled before it was paid; it can never be paid
	Refunded                  // paid, and all of it has gone back
	NoOrder                   // the wallet has not heard of the order; it may still be on its way
)

var walletStates = [...]string{"unknown", "buyer paying", "paid", "failed", "closed", "refunded", "no order"}

func (s WalletState) String() string {
	if int(s) < len(walletStates) {
		return walletStates[s]
	}
	return fmt.Sprintf("wallet state %d", uint8(s))
}

// Final reports whether nothing but a refund will change the state any more.
func (s WalletState) Final() bool {
	return s == Paid || s == Failed || s == Closed || s == Refunded
}

// Why a wallet refused: WalletResult.Code. Others may come.
const (
	NotEnough     = "NOT_ENOUGH"     // balance or credit line too small
	BuyerRefused  = "BUYER_REFUSED"  // the buyer did not agree, or typed wrong passwords
	NotPermitted  = "NOT_PERMITTED"  // the account may not pay, or not here
	OverLimit     = "OVER_LIMIT"     // the buyer's limit
	CodeInvalid   = "CODE_INVALID"   // no such payment code
	CodeExpired   = "CODE_EXPIRED"   // the payment code is too old
	CodeUsed      = "CODE_USED"      // the payment code has paid another order
	OrderConflict = "ORDER_CONFLICT" // the order or refund number belongs to another one
	BadRequest    = "BAD_REQUEST"    // the question was malformed
	NotPaid       = "NOT_PAID"       // a refund of what is not paid
	OverRefund    = "OVER_REFUND"    // refunds would be more than was paid
)

// WalletPayment is a payment by payment code.
type WalletPayment struct {
	Order    string // ours, the RRN: 1 to 32 letters and digits, never used for anything else
	Code     PayCode
	Amount   money.Amount
	Merchant string // DE 42
	Terminal string // DE 41
	Name     string // what the buyer's telephone shows, in UTF-8
}

// WalletResult is a wallet's word about an order.
type WalletResult struct {
	State       WalletState
	Order       string       // ours
	Amount      money.Amount // of the order; 0 when the wallet has none
	Refunded    money.Amount // of it, so far
	Transaction string       // the wallet's own number, for its bills; at most 32 characters
	Voucher     string       // what the terminal keeps for void and refund, DE 59 A4; at most 20 characters
	Code        string       // why, when Failed
	PaidAt      time.Time    // zero when it was never paid
}

// More reasons of a SendError, of wallets.
const (
	Unconnected Why = "no connection could be made"              // ErrUnreachable
	Distrusted  Why = "the answer cannot be trusted"             // ErrUnanswered, as the rest
	Undecided   Why = "the wallet does not know yet"             // ask again
	Refused     Why = "the wallet refused the question for good" // a fault of ours: asking again does not help
)

// WalletConfig describes a wallet. Zero durations and numbers take the
// defaults named beside them.
type WalletConfig struct {
	Name string    // as WalletOf has it
	URL  string    // http or https; the four questions are /v1/pay, query, cancel and refund below it
	MAC  WalletMAC // signs and verifies; WalletKey makes one

	Timeout        time.Duration // one question; 5 s
	ConnectTimeout time.Duration // TCP and TLS together; 3 s
	AskMin         time.Duration // before the first query of PayAndWait or repeat of Cancel, doubled each time; 1 s
	AskMax         time.Duration // 5 s
	MaxConnections int           // questions at once; more wait for their turn; 64

	TLS     *tls.Config                                              // nil for the system's roots
	Dial    func(ctx context.Context, addr string) (net.Conn, error) // nil for TCP
	Metrics *WalletMetrics                                           // nil counts nothing
}

func (c *WalletConfig) defaults() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("routing: wallet %s: its address is not a URL like https://127.0.0.1:7002/wechat", c.Name)
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if c.Name == "" || c.MAC == nil {
		return fmt.Errorf("routing: wallet at %s: it needs a name and a key", u.Host)
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.Timeout, 5 * time.Second}, {&c.ConnectTimeout, 3 * time.Second}, {&c.AskMin, time.Second}, {&c.AskMax, 5 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v < 0 {
			return fmt.Errorf("routing: wallet %s: a duration is negative", c.Name)
		}
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 64
	}
	if c.MaxConnections < 0 || c.AskMax < c.AskMin {
		return fmt.Errorf("routing: wallet %s: %d connections, questions every %v to %v", c.Name, c.MaxConnections, c.AskMin, c.AskMax)
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
// Every error of its methods is a *SendError and is ErrUnreachable (nothing of
// this question left the house) or ErrUnanswered (the wallet may have acted on
// it). A wallet's no is a WalletResult, not an error.
type Wallet struct {
	cfg    WalletConfig
	client *http.Client
	met    walletMetrics
}

// NewWallet checks the configuration; it connects when there is something to
// ask.
func NewWallet(cfg WalletConfig) (*Wallet, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	return &Wallet{cfg: cfg, client: newWalletClient(&cfg), met: cfg.Metrics.of(cfg.Name)}, nil
}

// Name is the wallet's name.
func (w *Wallet) Name() string { return w.cfg.Name }

// Timeout is how long one question waits for its answer.
func (w *Wallet) Timeout() time.Duration { return w.cfg.Timeout }

// Close closes the connections that stand idle.
func (w *Wallet) Close() { w.client.CloseIdleConnections() }

// Pay asks the wallet once to take the amount from whoever showed the code.
// It answers Paid, Failed or BuyerPaying; a repeat with the same order number
// pays nothing twice and answers what became of the first, which may then be
// Closed or Refunded too.
//
// After ErrUnreachable nothing is owed. After ErrUnanswered, and when the
// buyer is still typing and nobody waits any more, the order is owed a Cancel.
func (w *Wallet) Pay(ctx context.Context, p WalletPayment) (WalletResult, error) {
	return w.pay(ctx, p, w.cfg.Timeout)
}

func (w *Wallet) pay(ctx context.Context, p WalletPayment, timeout time.Duration) (WalletResult, error) {
	if err := p.check(); err != nil {
		return WalletResult{}, w.fail(false, Unsigned, err)
	}
	a, err := w.ask(ctx, "pay", &walletQuestion{Order: p.Order, Code: p.Code.Reveal(), Fen: p.Amount.Fen(), Merchant: p.Merchant, Terminal: p.Terminal, Name: p.Name}, timeout)
	if err != nil {
		return WalletResult{}, err
	}
	if a.State == wireRefused {
		a.State = wireFailed // nothing was paid by this question
	}
	r, err := w.result(a, wirePaid, wireFailed, wirePaying, wireClosed, wireRefunded)
	if err == nil && (r.State == Paid || r.State == Refunded) && r.Amount != p.Amount {
		return WalletResult{}, w.fail(true, Distrusted, fmt.Errorf("asked for %s it took %s", p.Amount, r.Amount))
	}
	return r, err
}

func (p *WalletPayment) check() error {
	switch {
	case !orderNumber(p.Order):
		return errors.New("the order number is not 1 to 32 letters and digits")
	case p.Code.IsZero():
		return errors.New("there is no payment code")
	case p.Amount <= 0:
		return errors.New("the amount is not above zero")
	}
	return nil
}

func orderNumber(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// PayAndWait pays, and while the buyer types or the answer is missing it asks
// what became of it, with growing pauses, until the wallet has decided or
// patience has ended. The last question is asked when patience ends, so that a
// Cancel may follow it at once; the whole takes at most patience and one
// Timeout.
//
// Undecided to the end, it returns BuyerPaying without an error or, when
// nothing at all is known, ErrUnanswered: either way the order is owed a
// Cancel. The same holds when ctx ends first.
func (w *Wallet) PayAndWait(ctx context.Context, p WalletPayment, patience time.Duration) (WalletResult, error) {
	end := time.Now().Add(patience)
	r, err := w.pay(ctx, p, min(w.cfg.Timeout, patience))
	for pause := w.cfg.AskMin; r.State == BuyerPaying || errors.Is(err, ErrUnanswered); pause = min(2*pause, w.cfg.AskMax) {
		left := time.Until(end)
		if left <= 0 || !rest(ctx, min(pause, left)) {
			break
		}
		q, failed := w.Query(ctx, p.Order)
		if failed != nil || q.State == NoOrder || q.Amount != p.Amount && (q.State == Paid || q.State == Refunded) {
			continue // no wiser: the payment may still be on its way
		}
		r, err = q, nil
	}
	return r, err
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
// that the order will not arrive yet: only Cancel makes sure.
func (w *Wallet) Query(ctx context.Context, order string) (WalletResult, error) {
	if !orderNumber(order) {
		return WalletResult{}, w.fail(false, Unsigned, errors.New("the order number is not 1 to 32 letters and digits"))
	}
	a, err := w.ask(ctx, "query", &walletQuestion{Order: order}, w.cfg.Timeout)
	if err != nil {
		return WalletResult{}, err
	}
	return w.result(a, wirePaid, wireFailed, wirePaying, wireClosed, wireRefunded, wireNoOrder)
}

// Cancel ends an order for good: Refunded when it was paid, else Closed, after
// which it can never be paid, not even by a payment that is still on its way;
// so the wallet closes an order number that it has not heard of too. Cancel is
// repeated, with growing pauses, until the wallet gives one of the two answers
// or ctx ends; a ctx without an end lets it try for ever.
//
// An error means that the order is still owed a Cancel, whichever it is.
func (w *Wallet) Cancel(ctx context.Context, order string) (WalletResult, error) {
	if !orderNumber(order) {
		return WalletResult{}, w.fail(false, Unsigned, errors.New("the order number is not 1 to 32 letters and digits"))
	}
	left := false
	for pause := w.cfg.AskMin; ; pause = min(2*pause, w.cfg.AskMax) {
		r, err := w.cancel(ctx, order)
		if err == nil {
			return r, nil
		}
		e := err.(*SendError)
		left = left || e.Left
		if e.Why == Refused || !rest(ctx, pause) {
			e.Left = left
			return WalletResult{}, e
		}
	}
}

func (w *Wallet) cancel(ctx context.Context, order string) (WalletResult, error) {
	a, err := w.ask(ctx, "cancel", &walletQuestion{Order: order}, w.cfg.Timeout)
	if err != nil {
		return WalletResult{}, err
	}
	return w.result(a, wireClosed, wireRefunded)
}

// Refund gives back amount of a paid order, once per refund number: a repeat
// with the same number answers the same. It answers Refunded when this refund
// has been made (WalletResult.Refunded is the sum of all), or Failed. An error
// that is ErrUnanswered is settled by asking again with the same number.
func (w *Wallet) Refund(ctx context.Context, order, refund string, amount money.Amount) (WalletResult, error) {
	if !orderNumber(order) || !orderNumber(refund) || amount <= 0 {
		return WalletResult{}, w.fail(false, Unsigned, errors.New("a refund needs two numbers of 1 to 32 letters and digits and an amount above zero"))
	}
	a, err := w.ask(ctx, "refund", &walletQuestion{Order: order, Refund: refund, Fen: amount.Fen()}, w.cfg.Timeout)
	if err != nil {
		return WalletResult{}, err
	}
	if a.State == wireRefused {
		a.State = wireFailed
	}
	r, err := w.result(a, wireReturned, wireFailed)
	if err == nil && r.State == Refunded && (a.Refund != refund || r.Refunded < amount) {
		return WalletResult{}, w.fail(true, Distrusted, fmt.Errorf("asked to refund %s it refunded %s in all", amount, r.Refunded))
	}
	return r, err
}

func (w *Wallet) fail(left bool, why Why, err error) error {
	return &SendError{Issuer: w.cfg.Name, Wallet: true, Left: left, Why: why, Err: err}
}

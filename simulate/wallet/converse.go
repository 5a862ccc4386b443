package simwallet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
)

// question is what any question may hold, whatever the wallet's wire.
type question struct {
	verb     string // pay, query, cancel, refund, refundquery, bill
	order    string
	refund   string
	code     string
	amount   money.Amount // of the payment or the refund
	total    money.Amount // of the order that a refund is of, where the wire has it
	merchant string
	terminal string
	name     string
	date     calendar.Date
	at       time.Time // of the question; zero where the wire has none
	echo     map[string]string
}

// reply is an answer before it has the words of a wire.
type reply struct {
	state   string // PAID, FAILED, PAYING, CLOSED, REFUNDED, RETURNED (this refund), NO_ORDER, NO_REFUND, UNKNOWN, REFUSED
	code    string // why, in the words of routing/wallet
	order   Order
	refund  Refund
	another bool // a repeat of a refund that was made before
	bill    []byte
}

// tongue is a wallet's wire, from its side.
type tongue interface {
	// hear verifies and reads a question. A refusal is what the wallet answers
	// to whoever it does not know, nil when the question is one.
	hear(r *http.Request, body []byte) (q *question, refusal []byte)
	// say lays an answer into bytes; forged signs it wrongly.
	say(q *question, a *reply, forged bool) []byte
	// daily writes a bill.
	daily(date calendar.Date, rows []wallet.BillRecord) []byte
}

func tongueOf(name string, k Keys) (tongue, error) {
	switch name {
	case routing.WeChat:
		sign, err := wallet.NewHMAC(k.APIKey)
		if err != nil {
			return nil, fmt.Errorf("simwallet: %s: %w", name, err)
		}
		return &wechat{sign}, nil
	case routing.Alipay, routing.UnionPayQR:
		if k.Signer.String() == "" {
			return nil, fmt.Errorf("simwallet: %s has no keys", name)
		}
		if name == routing.Alipay {
			return &alipay{k.Signer}, nil
		}
		return &unionpay{k.Signer}, nil
	}
	return nil, fmt.Errorf("simwallet: wallet %q is none of %v", name, routing.Wallets)
}

// conversation is one question under way.
type conversation struct {
	s      *Wallets
	w      http.ResponseWriter
	r      *http.Request
	wallet string
	tongue tongue
	*question
}

// converse verifies a question and answers it.
func (s *Wallets) converse(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("wallet")
	t := s.tongues[name]
	if t == nil {
		http.Error(w, "no such wallet", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<10))
	if err != nil {
		http.Error(w, "the question cannot be read", http.StatusRequestEntityTooLarge)
		return
	}
	q, refusal := t.hear(r, body)
	if refusal != nil {
		_, _ = w.Write(refusal) // a client that is gone asks again
		return
	}
	c := &conversation{s, w, r, name, t, q}
	if pause, closed := s.sky.pause(); closed {
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return
	} else if pause > 0 {
		wait(r.Context(), pause)
	}
	switch {
	case !q.at.IsZero() && time.Since(q.at).Abs() > s.cfg.Skew:
		c.refuse(wallet.BadRequest)
	case q.verb == "bill":
		c.bill()
	case !number(q.order) && (q.verb != "refundquery" || !number(q.refund)):
		c.refuse(wallet.BadRequest)
	case q.verb == "pay":
		c.pay()
	case q.verb == "query":
		c.query()
	case q.verb == "cancel":
		c.cancel()
	case q.verb == "refund":
		c.giveBack()
	case q.verb == "refundquery":
		c.refundQuery()
	default:
		http.Error(w, "no such question", http.StatusNotFound)
	}
}

// number reports whether s may name an order.
func number(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

func (c *conversation) answer(a *reply) { c.send(a, false) }

func (c *conversation) send(a *reply, forged bool) {
	_, _ = c.w.Write(c.tongue.say(c.question, a, forged)) // a client that is gone asks again
}

func (c *conversation) refuse(code string) {
	c.answer(&reply{state: "REFUSED", code: code})
}

// about is what the wallet says of an order.
func about(o *Order) *reply { return &reply{state: string(o.State), code: o.Failure, order: *o} }

// hold never answers: it keeps the connection until the client leaves.
func (c *conversation) hold() {
	wait(c.r.Context(), c.s.cfg.Silence)
	panic(http.ErrAbortHandler) // breaks the connection
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pay takes a payment: a known order is answered as it stands, a new one as
// its storm has it.
func (c *conversation) pay() {
	code, err := routing.ParsePayCode(c.code)
	if err != nil || c.amount <= 0 {
		c.refuse(wallet.BadRequest)
		return
	}
	n := &Order{Wallet: c.wallet, Number: c.order, Amount: c.amount, Merchant: c.merchant, Terminal: c.terminal, Name: c.name, code: code}
	if o, known, ok := c.s.books.repeat(n); known {
		c.stands(&o, ok)
		return
	}
	storm, failure := c.s.sky.payment(n.Amount)
	n.storm = storm
	switch storm {
	case DropBefore:
		panic(http.ErrAbortHandler)
	case Lost:
		c.hold()
	case ErrorBefore:
		c.answer(&reply{state: "UNKNOWN"})
		return
	case Delayed:
		wait(c.s.running, c.s.cfg.Late)
		if c.s.running.Err() != nil {
			panic(http.ErrAbortHandler)
		}
	}
	o, ok, err := c.s.books.pay(n, failure)
	if err != nil {
		http.Error(c.w, err.Error(), http.StatusInsufficientStorage)
		return
	}
	switch storm {
	case Silent, Blind, LostCancel, DeafCancel, LaterCancel, NeverCancel:
		c.hold()
	case ErrorAfter:
		c.answer(&reply{state: "UNKNOWN"})
		return
	case DropAfter, Delayed:
		panic(http.ErrAbortHandler)
	case Late:
		wait(c.s.running, c.s.cfg.Late)
	case Breaks:
		http.Error(c.w, "internal error", http.StatusInternalServerError)
		return
	case OtherOrder:
		o.Number = "X" + o.Number
	case OtherAmount:
		o.Amount++
	case WrongSign:
		c.send(about(&o), true)
		return
	}
	c.stands(&o, ok)
}

// stands answers with an order, or refuses the question that gave its number
// to another.
func (c *conversation) stands(o *Order, ok bool) {
	if !ok {
		c.refuse(wallet.OrderConflict)
		return
	}
	c.answer(about(o))
}

func (c *conversation) query() {
	o, known, sure := c.s.books.query(key{c.wallet, c.order})
	if !known { // some wires ask for refunds in the same words
		if o, back, ok := c.s.books.findRefund(c.wallet, "", c.order); ok {
			c.answer(&reply{state: "RETURNED", order: o, refund: back})
			return
		}
	}
	switch {
	case !known:
		c.answer(&reply{state: "NO_ORDER"})
	case !sure:
		c.answer(&reply{state: "UNKNOWN"})
	default:
		c.answer(about(&o))
	}
}

func (c *conversation) cancel() {
	o, storm, err := c.s.books.cancel(key{c.wallet, c.order}, c.s.sky.cancel(), c.s.cfg.Strict)
	switch {
	case err != nil:
		http.Error(c.w, err.Error(), http.StatusInsufficientStorage)
	case storm == LostCancel || storm == DeafCancel:
		c.hold()
	case storm == LaterCancel:
		c.answer(&reply{state: "UNKNOWN"})
	case storm == NeverCancel:
		c.refuse(TooLate)
	case o.Number == "":
		c.answer(&reply{state: "NO_ORDER"})
	default:
		c.answer(about(&o))
	}
}

// TooLate is why a wallet ends no order any more.
const TooLate = "TOO_LATE"

func (c *conversation) giveBack() {
	if !number(c.question.refund) || c.amount <= 0 {
		c.refuse(wallet.BadRequest)
		return
	}
	if o, known := c.s.books.find(key{c.wallet, c.order}); known && c.total != 0 && c.total != o.Amount {
		c.answer(&reply{state: "FAILED", code: wallet.BadRequest, order: o})
		return
	}
	o, back, again, why := c.s.books.refund(key{c.wallet, c.order}, c.question.refund, c.amount)
	if why != "" {
		c.answer(&reply{state: "FAILED", code: why, order: o})
		return
	}
	c.answer(&reply{state: "RETURNED", order: o, refund: back, another: again})
}

// refundQuery answers about one refund, or about any of an order.
func (c *conversation) refundQuery() {
	o, back, ok := c.s.books.findRefund(c.wallet, c.order, c.question.refund)
	if !ok {
		c.answer(&reply{state: "NO_REFUND", order: o})
		return
	}
	c.answer(&reply{state: "RETURNED", order: o, refund: back})
}

func (c *conversation) bill() {
	if !c.date.Valid() || c.date >= calendar.DateOf(time.Now()) {
		c.answer(&reply{state: "NO_ORDER"})
		return
	}
	text, rows := c.s.Bill(c.wallet, c.date)
	if rows == 0 {
		c.answer(&reply{state: "NO_ORDER"})
		return
	}
	c.answer(&reply{state: "PAID", bill: text})
}

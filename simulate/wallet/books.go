package simwallet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
)

// State is where an order stands, in the words of the wire.
type State string

// The states.
const (
	Paying   State = "PAYING" // the buyer is typing
	Paid     State = "PAID"
	Failed   State = "FAILED"
	Closed   State = "CLOSED"   // cancelled before it was paid
	Refunded State = "REFUNDED" // all of it
)

// Refund is money that went back.
type Refund struct {
	ID     string       `json:"refund"` // "" when a cancel did it
	Number string       `json:"number"` // the wallet's own
	Amount money.Amount `json:"amount"`
	Fee    money.Amount `json:"fee"` // that went back with it
	At     time.Time    `json:"at"`
}

// Order is one order on a wallet's books.
type Order struct {
	Wallet      string       `json:"wallet"`
	Number      string       `json:"order"`
	State       State        `json:"state"`
	Amount      money.Amount `json:"amount"` // 0 when a cancel came before the order
	Fee         money.Amount `json:"fee"`    // what the wallet keeps of it
	Refunded    money.Amount `json:"refunded"`
	Code        string       `json:"payment_code"` // masked
	Merchant    string       `json:"merchant"`
	Terminal    string       `json:"terminal"`
	Name        string       `json:"name"` // what the buyer's telephone showed
	Transaction string       `json:"transaction"`
	Failure     string       `json:"failure,omitempty"`
	At          time.Time    `json:"at"`
	PaidAt      time.Time    `json:"paid_at,omitzero"`
	Refunds     []Refund     `json:"refunds,omitempty"`
	Pays        int          `json:"pays"`    // how often the payment came
	Queries     int          `json:"queries"` // how often it was asked for
	Cancels     int          `json:"cancels"`

	code  routing.PayCode
	storm Storm
}

// Standing is what the buyer has paid and not got back.
func (o *Order) Standing() money.Amount {
	if o.PaidAt.IsZero() {
		return 0
	}
	return o.Amount - o.Refunded
}

// Totals are one wallet's books in numbers.
type Totals struct {
	Orders   int          `json:"orders"`
	Paid     money.Amount `json:"paid"`
	Refunded money.Amount `json:"refunded"`
	Standing money.Amount `json:"standing"`
}

type key struct{ wallet, number string }

type books struct {
	asks   int
	typing time.Duration
	limit  int
	ppm    int64
	now    func() time.Time

	mu      sync.Mutex
	orders  map[key]*Order
	order   []*Order
	used    map[key]*Order // which order a payment code has paid, by its digits
	refunds map[key]*Order // which order a refund number belongs to
	backs   int            // refunds and cancels that gave back
	changed chan struct{}  // closed and renewed at every change
}

var errFull = errors.New("simwallet: the books are full")

func newBooks(cfg *Config) *books {
	return &books{asks: cfg.Asks, typing: cfg.Typing, limit: cfg.Limit, ppm: cfg.FeePPM, now: cfg.Now, orders: map[key]*Order{}, used: map[key]*Order{}, refunds: map[key]*Order{}, changed: make(chan struct{})}
}

// tell wakes whoever awaits. b.mu is held.
func (b *books) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// add puts an order on the books. b.mu is held.
func (b *books) add(o *Order) error {
	if len(b.order) >= b.limit {
		return errFull
	}
	b.order = append(b.order, o)
	b.orders[key{o.Wallet, o.Number}] = o
	seq := len(b.order)
	o.At = b.now()
	o.Transaction = fmt.Sprintf("%s%s%015d", o.Wallet[:1], o.At.Format("20060102"), seq)
	return nil
}

// repeat answers a payment whose order is known; ok is false when its terms
// are others.
func (b *books) repeat(n *Order) (o Order, known, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.again(n)
}

// again is repeat with b.mu held.
func (b *books) again(n *Order) (o Order, known, ok bool) {
	old := b.orders[key{n.Wallet, n.Number}]
	if old == nil {
		return Order{}, false, false
	}
	old.Pays++
	b.tell()
	same := old.Amount == n.Amount && old.code.Equal(n.code) && old.Merchant == n.Merchant && old.Terminal == n.Terminal
	return *old, true, same || old.Amount == 0
}

// pay books a new payment; should the order have come in the meantime, it
// answers as repeat does.
func (b *books) pay(n *Order, failure string) (o Order, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, known, ok := b.again(n); known {
		return o, ok, nil
	}
	if err := b.add(n); err != nil {
		return Order{}, false, err
	}
	n.Pays, n.Code = 1, n.code.Masked()
	whose, known := routing.WalletOf(n.code)
	behind := key{n.Wallet, n.code.Reveal()}
	switch {
	case !known || whose != n.Wallet:
		b.end(n, Failed, wallet.CodeInvalid)
	case b.used[behind] != nil:
		b.end(n, Failed, wallet.CodeExpired) // it was good for one payment
	case n.storm == Decline:
		b.end(n, Failed, failure)
	case n.storm == TypesAsked || n.storm == TypesAWhile || n.storm == TypesForever || n.storm == GivesUp || n.storm == LateSuccess:
		b.used[behind] = n
		b.end(n, Paying, "")
		if n.storm == TypesAWhile {
			time.AfterFunc(b.typing, func() { b.decide(n, true) })
		}
	default:
		b.used[behind] = n
		b.end(n, Paid, "")
	}
	return *n, true, nil
}

// end moves an order. b.mu is held.
func (b *books) end(o *Order, s State, failure string) {
	o.State, o.Failure = s, failure
	if s == Paid {
		o.PaidAt = b.now()
		o.Fee = b.feeOf(o.Amount)
	}
	b.tell()
}

// feeOf is the fee of an amount, rounded half up.
func (b *books) feeOf(a money.Amount) money.Amount {
	fee, err := a.MulPPM(b.ppm)
	if err != nil {
		return 0 // nothing that a question can ask for is so much
	}
	return fee
}

// decide ends the buyer's typing.
func (b *books) decide(o *Order, pays bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.typed(o, pays)
}

func (b *books) decideFor(k key, pays bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.orders[k]
	return o != nil && b.typed(o, pays)
}

// typed is decide with b.mu held; false when nobody types.
func (b *books) typed(o *Order, pays bool) bool {
	switch {
	case o.State != Paying:
		return false
	case pays:
		b.end(o, Paid, "")
	default:
		b.end(o, Failed, wallet.BuyerRefused)
	}
	return true
}

// query answers where an order stands; sure is false when the wallet says that
// it does not know yet.
func (b *books) query(k key) (o Order, known, sure bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.orders[k]
	if p == nil {
		return Order{}, false, true
	}
	p.Queries++
	if p.Queries >= b.asks && (p.storm == TypesAsked || p.storm == GivesUp) {
		b.typed(p, p.storm == TypesAsked)
	}
	b.tell()
	return *p, true, p.storm != Blind || p.Queries > b.asks
}

// cancel ends an order for good, and answers with the storm that fell on the
// cancel.
// Of an order that nobody knows, strict answers one without a number and keeps
// nothing; otherwise its number is closed.
func (b *books) cancel(k key, drawn Storm, strict bool) (o Order, storm Storm, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.tell()
	p := b.orders[k]
	if p == nil {
		if drawn == LostCancel || strict {
			return Order{}, drawn, nil
		}
		p = &Order{Wallet: k.wallet, Number: k.number, State: Closed, Cancels: 1}
		if err := b.add(p); err != nil {
			return Order{}, Calm, err
		}
		return *p, drawn, nil
	}
	p.Cancels++
	storm = drawn
	if p.Cancels == 1 && (p.storm == LostCancel || p.storm == DeafCancel || p.storm == LaterCancel) {
		storm = p.storm
	}
	switch {
	case p.storm == NeverCancel:
		return *p, NeverCancel, nil
	case storm == LostCancel || storm == LaterCancel:
		return *p, storm, nil
	case p.storm == LateSuccess: // the buyer was quicker than the cancel
		b.typed(p, true)
	}
	switch p.State {
	case Paid:
		b.giveBack(p, "", p.Amount-p.Refunded)
	case Paying, Failed:
		p.State = Closed
	}
	return *p, storm, nil
}

// giveBack books a refund. b.mu is held.
func (b *books) giveBack(o *Order, id string, amount money.Amount) {
	before := b.feeOf(o.Amount - o.Refunded)
	o.Refunded += amount
	b.backs++
	now := b.now()
	back := Refund{id, fmt.Sprintf("%s%s%015dR", o.Wallet[:1], now.Format("20060102"), b.backs), amount, before - b.feeOf(o.Amount-o.Refunded), now}
	o.Refunds = append(o.Refunds[:len(o.Refunds):len(o.Refunds)], back)
	if id != "" {
		b.refunds[key{o.Wallet, id}] = o
	}
	if o.Refunded == o.Amount {
		o.State = Refunded
	}
}

// refund gives back a part of an order, once per refund number: again tells
// that it had been made before. why is the wallet's no.
func (b *books) refund(k key, id string, amount money.Amount) (o Order, back Refund, again bool, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.tell()
	p := b.orders[k]
	if old := b.refunds[key{k.wallet, id}]; old != nil {
		back = old.refund(id)
		if old != p || back.Amount != amount {
			return *old, Refund{}, false, wallet.OrderConflict
		}
		return *p, back, true, ""
	}
	switch {
	case p == nil:
		return Order{Wallet: k.wallet, Number: k.number}, Refund{}, false, wallet.NotPaid
	case p.PaidAt.IsZero():
		return *p, Refund{}, false, wallet.NotPaid
	case amount > p.Amount-p.Refunded:
		return *p, Refund{}, false, wallet.OverRefund
	}
	b.giveBack(p, id, amount)
	return *p, p.refund(id), false, ""
}

func (o *Order) refund(id string) Refund {
	for _, r := range o.Refunds {
		if r.ID == id {
			return r
		}
	}
	return Refund{}
}

// findRefund finds a refund by its number, or the first of an order.
func (b *books) findRefund(name, order, id string) (Order, Refund, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.orders[key{name, order}]
	if id != "" {
		o = b.refunds[key{name, id}]
	}
	if o == nil || len(o.Refunds) == 0 {
		return Order{Wallet: name, Number: order}, Refund{}, false
	}
	if id == "" {
		return *o, o.Refunds[0], true
	}
	return *o, o.refund(id), true
}

func (b *books) all() []Order {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Order, len(b.order))
	for i, o := range b.order {
		out[i] = *o
	}
	return out
}

func (b *books) find(k key) (Order, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.orders[k]; o != nil {
		return *o, true
	}
	return Order{}, false
}

// await waits until the order is as wanted.
func (b *books) await(ctx context.Context, k key, wanted func(*Order) bool) error {
	for {
		b.mu.Lock()
		changed, there := b.changed, false
		if o := b.orders[k]; o != nil {
			seen := *o
			there = wanted(&seen)
		}
		b.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("simwallet: order %s of %s did not become what was awaited: %w", k.number, k.wallet, ctx.Err())
		}
	}
}

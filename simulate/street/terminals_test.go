package street

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
	"acquirer/spec"
)

// codes gives every buyer another payment code.
type codes struct {
	mu sync.Mutex
	n  int
}

func (c *codes) next(wallet string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return terminal.PayCode(wallet, c.n)
}

// clerk is one terminal and who stands at it.
type clerk struct {
	w        *world
	rng      *rand.Rand
	config   terminal.Config
	term     *terminal.Terminal
	signedIn bool
	kept     terminal.State // what survives a power cut
	cards    []*simcard.Card
	think    time.Duration // between two customers, on average
}

// newClerk is terminal i, with cards that no other has.
func (w *world) newClerk(i int, seed uint64, think time.Duration) *clerk {
	tid, mid := simcard.SeedTerminal(i)
	c := &clerk{w: w, rng: rand.New(rand.NewPCG(seed, uint64(100+i))), think: think}
	for k, is := range simcard.Issuers {
		for n := range 2 {
			card, err := simcard.New(is.PAN(654_321_000 + i*10 + k + 100*n))
			w.must(err)
			c.cards = append(c.cards, card)
		}
	}
	foreign, err := simcard.New(simcard.Abroad.PAN(654_321_000 + i))
	w.must(err)
	c.cards = append(c.cards, foreign)
	c.config = terminal.Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Book: &w.book, KeepSlips: true,
		Dial:    func(ctx context.Context) (net.Conn, error) { return w.dialSwitch(ctx) },
		Save:    func(s terminal.State) error { c.kept = s; return nil },
		Profile: terminal.Profile{KeySet: []int{3, 4, 1}[i%3]}}
	c.power()
	return c
}

// dialSwitch is a terminal's line, on which somebody listens.
func (w *world) dialSwitch(ctx context.Context) (net.Conn, error) {
	nc, err := w.net.dial(ctx, "switch")
	if err != nil {
		return nil, err
	}
	nc.(*conn).tap = func(sent []byte) {
		var m spec.Message
		pin := len(sent) > 13 && spec.UnionPayPOS.Parse(&m, sent[13:]) == nil && m.Has(52)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.heard) < 400 {
			w.heard = append(w.heard, bytes.Clone(sent))
		}
		if pin && len(w.pins) < 40 {
			w.pins = append(w.pins, string(m.Bytes(52)))
		}
	}
	return nc, nil
}

// power switches the terminal on with what it kept.
func (c *clerk) power() {
	var err error
	c.config.State = c.kept
	c.term, err = terminal.New(c.config)
	c.w.must(err)
	c.signedIn = false
}

// work serves customers until the street heals, and then ends the day with
// nothing pending.
func (c *clerk) work() {
	ctx := context.Background()
	for c.w.awaitOpen() {
		pause := time.Duration(c.rng.ExpFloat64() * float64(c.think))
		if c.w.has(c.rng, "terminal idles", 0.03) {
			pause += 4 * time.Minute
		}
		time.Sleep(pause)
		if !c.signedIn && !c.signIn(ctx) {
			continue
		}
		c.serve(ctx)
		if c.w.has(c.rng, "terminal loses its power", 0.04) {
			_ = c.term.Close()
			c.power()
		}
	}
	for tries := 0; ; tries++ {
		c.w.awaitOpen()
		if c.rest(ctx) {
			break
		}
		if tries > 60 {
			c.w.t.Errorf("terminal %s does not come to rest", c.term.TID())
			break
		}
		time.Sleep(5 * time.Second)
	}
	_ = c.term.Close()
}

func (c *clerk) signIn(ctx context.Context) bool {
	c.signedIn = c.term.SignIn(ctx) == nil
	return c.signedIn
}

// rest ends what is pending, and reports whether nothing is.
func (c *clerk) rest(ctx context.Context) bool {
	if !c.signedIn && !c.signIn(ctx) {
		return false
	}
	if c.term.Pending() {
		if _, err := c.term.Reverse(ctx, terminal.Reversal{}); err != nil {
			c.stuck(err)
			return false
		}
	}
	if c.term.Waiting() > 0 {
		if err := c.term.Deliver(ctx); err != nil {
			return false
		}
	}
	return !c.term.Pending() && c.term.Waiting() == 0
}

// serve does one thing that terminals do, right or wrong.
func (c *clerk) serve(ctx context.Context) {
	switch n := c.rng.IntN(100); {
	case n < 3:
		if c.w.has(c.rng, "terminal signs in again", 1) {
			_ = c.term.SignIn(ctx)
		}
	case n < 5:
		_, _ = c.term.Settle(ctx)
	case n < 7:
		_ = c.term.Echo(ctx)
	default:
		c.transact(ctx)
	}
}

// transact draws a transaction and what goes wrong with it.
func (c *clerk) transact(ctx context.Context) {
	x := c.draw()
	withheld := false
	switch {
	case c.w.has(c.rng, "wrong MAC", 0.03):
		x.Fault = &terminal.Fault{WrongMAC: true}
	case c.w.has(c.rng, "no MAC", 0.03):
		x.Fault = &terminal.Fault{NoMAC: true}
	case c.w.has(c.rng, "request sent twice", 0.06):
		x.Fault = &terminal.Fault{Twice: true}
	case c.w.has(c.rng, "hangs up before the answer", 0.04):
		x.Fault = &terminal.Fault{HangUp: true}
	case c.w.has(c.rng, "answer dropped", 0.04):
		x.Fault = &terminal.Fault{DropAnswer: true}
	case x.Kind.Reversible() && c.w.has(c.rng, "request behind its reversal", 0.03):
		x.Fault, withheld = &terminal.Fault{Withhold: true}, true
	}
	before := c.term.State()
	res, err := c.term.Transact(ctx, x)
	after := c.term.State()
	key := terminal.Key{TID: c.term.TID(), Batch: after.Batch, STAN: after.STAN}
	switch {
	case x.Kind.Reversible() && x.Fault != nil && (x.Fault.WrongMAC || x.Fault.NoMAC) && after.Batch == before.Batch && after.STAN == before.STAN+1:
		c.w.note(c.w.forged, key)
	case err == nil && x.Kind.Reversible() && res.Approved() && c.rng.IntN(30) == 0:
		_, err = c.term.Reverse(ctx, terminal.Reversal{Reason: terminal.ReasonOther}) // the printer was out of paper
	}
	c.stuck(err)
	if withheld && errors.Is(err, terminal.ErrTimeout) {
		frame := c.term.LastFrame()
		if _, err := c.term.Reverse(ctx, terminal.Reversal{}); err == nil && c.term.Send(ctx, frame) == nil {
			_, _ = c.term.Receive(ctx) // whatever it says, the books will show
		}
	}
	if errors.Is(err, terminal.ErrMAC) && x.Fault == nil {
		c.w.t.Errorf("terminal %s: %v", c.term.TID(), err)
	}
}

// stuck sees to a terminal that wants to reverse the void of a payment by code:
// the host says 22, since what a wallet has given back stays there, and whoever
// stands at the terminal clears it by hand (docs/divergences.md).
func (c *clerk) stuck(err error) {
	var refused *terminal.Refusal
	if !c.term.Pending() || !errors.As(err, &refused) || refused.Code != "22" {
		return
	}
	pending := c.reversing()
	if r, _ := c.w.book.Get(pending); r.Kind != terminal.KindQRVoid {
		return
	}
	c.w.note(c.w.cleared, pending)
	c.kept = c.term.State()
	c.kept.Pending = nil
	_ = c.term.Close()
	c.power()
}

// reversing is what the pending reversal is of.
func (c *clerk) reversing() terminal.Key {
	var m spec.Message
	c.w.must(spec.UnionPayPOS.Parse(&m, c.term.State().Pending))
	stan, _ := m.Int(11)
	de60, _ := spec.ParseDE60(&m)
	return terminal.Key{TID: c.term.TID(), Batch: de60.Batch, STAN: int(stan)}
}

// note adds a transaction to a set.
func (w *world) note(set map[terminal.Key]bool, k terminal.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	set[k] = true
}

// amount is up to 200 yuan; some end in digits that ask an issuer or a wallet
// for trouble.
func (c *clerk) amount() money.Amount {
	a := money.Yuan(int64(5 + c.rng.IntN(195)))
	if c.w.has(c.rng, "amount that asks for trouble", 0.25) {
		a += money.Amount(c.rng.IntN(100))
	}
	if simwallet.StormOf(a) == simwallet.NeverCancel {
		a++ // what a wallet keeps for good is a person's work, and nobody works here
	}
	return a
}

// draw is a transaction: half of them follow an earlier one, where there is one.
func (c *clerk) draw() terminal.Transaction {
	card := c.cards[c.rng.IntN(len(c.cards))]
	x := terminal.Transaction{Kind: terminal.KindSale, Amount: c.amount(), Card: card, Entry: c.entry(card)}
	if c.rng.IntN(2) == 0 {
		x.PIN = card.PIN
	}
	if slips := c.term.Slips(); len(slips) > 0 && c.rng.IntN(3) == 0 {
		if y, ok := c.following(slips[c.rng.IntN(len(slips))]); ok {
			return y
		}
	}
	switch n := c.rng.IntN(20); {
	case n < 9:
		x.Partial = c.rng.IntN(3) == 0
	case n < 13:
		wallet := routing.Wallets[c.rng.IntN(len(routing.Wallets))]
		return terminal.Transaction{Kind: terminal.KindQRSale, Amount: x.Amount, PayCode: c.w.codes.next(wallet)}
	case n < 16:
		x.Kind = terminal.KindPreauth
	case n < 17:
		x.Kind, x.Amount = terminal.KindBalance, 0
	case n < 18:
		x.Kind, x.Entry, x.PIN, x.AuthCode, x.Later = terminal.KindOfflineSale, terminal.Keyed, "", "123456", c.rng.IntN(2) == 0
	case n < 19:
		x.Kind, x.Entry, x.PIN = terminal.KindRefund, terminal.Stripe, "" // of a sale that nobody names
	}
	return x
}

// following draws what may come after a slip.
func (c *clerk) following(s terminal.Slip) (terminal.Transaction, bool) {
	x := terminal.Transaction{Original: &s, Amount: s.Due(), Entry: terminal.Stripe}
	for _, card := range c.cards {
		if card.PAN.Equal(s.PAN) {
			x.Card, x.Entry = card, c.entry(card)
			if c.rng.IntN(2) == 0 {
				x.PIN = card.PIN
			}
		}
	}
	part := money.Amount(1 + c.rng.Int64N(max(1, x.Amount.Fen())))
	later := c.rng.IntN(2) == 0
	switch s.Kind {
	case terminal.KindSale:
		switch c.rng.IntN(4) {
		case 0:
			x.Kind, x.Amount, x.Entry, x.PIN = terminal.KindRefund, part, terminal.Stripe, ""
		case 1:
			x.Kind, x.Tip, x.Amount, x.Entry, x.PIN, x.Later = terminal.KindTip, 1+s.Amount/20, 0, terminal.Keyed, "", later
		default:
			x.Kind = terminal.KindVoid
		}
	case terminal.KindOfflineSale:
		x.Kind, x.Amount, x.Entry, x.PIN, x.Later = terminal.KindAdjust, s.Due()-s.Due()/10, terminal.Keyed, "", later
	case terminal.KindPreauth:
		switch c.rng.IntN(3) {
		case 0:
			x.Kind = terminal.KindPreauthVoid
		case 1:
			x.Kind, x.PIN, x.Later = terminal.KindCompletionNotice, "", later
		default:
			x.Kind = terminal.KindCompletion
		}
	case terminal.KindCompletion:
		x.Kind = terminal.KindCompletionVoid
	case terminal.KindQRSale:
		x.Card, x.Entry, x.PIN = nil, 0, ""
		if x.Kind = terminal.KindQRVoid; c.rng.IntN(2) == 0 {
			x.Kind, x.Amount = terminal.KindQRRefund, part
		}
	default:
		return x, false
	}
	return x, true
}

func (c *clerk) entry(card *simcard.Card) terminal.Entry {
	if card.HasChip {
		return []terminal.Entry{terminal.Chip, terminal.Contactless}[c.rng.IntN(2)]
	}
	return []terminal.Entry{terminal.Stripe, terminal.Stripe, terminal.Keyed}[c.rng.IntN(3)]
}

// replay sends what it has heard on terminals' lines again, until the street
// heals.
func (w *world) replay(rng *rand.Rand) {
	for w.awaitOpen() {
		time.Sleep(time.Duration(5+rng.IntN(60)) * time.Second)
		w.mu.Lock()
		var frame []byte
		if n := len(w.heard); n > 0 {
			i := rng.IntN(n)
			frame = w.heard[i]
			if n == 400 { // make room for what comes
				w.heard = append(w.heard[:i], w.heard[i+1:]...)
			}
		}
		w.mu.Unlock()
		if frame == nil || !w.has(rng, "frame replayed", 0.7) {
			continue
		}
		nc, err := w.net.dial(context.Background(), "switch")
		if err != nil {
			continue
		}
		if _, err := nc.Write(frame); err == nil {
			_ = nc.SetReadDeadline(time.Now().Add(90 * time.Second))
			head := make([]byte, 2)
			_, _ = io.ReadFull(nc, head)
		}
		_ = nc.Close()
	}
}

package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
)

// worker drives its terminals, one transaction at a time.
type worker struct {
	run              *run
	terminals        []*terminal.Terminal
	turn             int
	rng              *rand.Rand
	all, chip, plain []*simcard.Card
	fault            terminal.Fault
	failures         int // in a row, before anything was sent
}

// closed begins a transaction when the last one ended.
func (w *worker) closed(ctx context.Context) {
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(w.run.end) {
			return
		}
		w.one(ctx, now)
	}
}

// open takes the next transaction that is due, waits for its moment if that
// lies ahead, and charges it for the delay if it has passed.
func (w *worker) open(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil && time.Now().Before(w.run.end) {
		due := w.run.due(w.run.slot.Add(1) - 1)
		if !due.Before(w.run.end) {
			return
		}
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		w.one(ctx, due)
	}
}

// one does one transaction of the mix that was due at a moment.
func (w *worker) one(ctx context.Context, due time.Time) {
	t := w.terminals[w.turn]
	w.turn = (w.turn + 1) % len(w.terminals)
	tally := w.run.tally
	if t.Pending() { // left by an earlier purchase whose reversal was not taken
		if w.reverse(ctx, t); t.Pending() {
			return
		}
	}
	kind := w.run.cfg.Mix.pick(w.rng)

	code, err := w.do(ctx, t, kind)
	now := time.Now()
	if err != nil && ctx.Err() != nil {
		return // interrupted by us: it says nothing about the host
	}
	if err != nil {
		name, sent := errorKind(err)
		tally.fail(name)
		if !sent {
			w.pause(ctx)
			return
		}
		w.failures = 0
		tally.sent.Add(1)
		if name == string(terminal.ErrTimeout) {
			tally.took(now.Sub(due))
		}
	} else {
		w.failures = 0
		tally.sent.Add(1)
		tally.took(now.Sub(due))
		if !now.After(w.run.end) {
			tally.inTime.Add(1)
		}
		w.book(kind, code)
	}
	if t.Pending() || err == nil && kind == Reversal && approved(code) {
		w.reverse(ctx, t)
	}
}

func (w *worker) book(kind Kind, code string) {
	switch {
	case code == differs:
		w.run.tally.fail(errDiffers)
	case kind == BadMAC && code != "A0":
		w.run.tally.fail(errDiffers)
	case approved(code):
		w.run.tally.approved.Add(1)
	default:
		w.run.tally.decline(code)
	}
}

func approved(code string) bool {
	r := terminal.Result{Code: code}
	return r.Approved()
}

func (w *worker) reverse(ctx context.Context, t *terminal.Terminal) {
	_, err := t.Reverse(ctx, terminal.Reversal{})
	switch {
	case err == nil:
		w.run.tally.reversed.Add(1)
	case ctx.Err() == nil:
		w.run.tally.fail(errReversal)
		w.pause(ctx)
	}
}

// pause keeps a worker whose host is away from spinning: 50 ms, twice as long
// after each failure in a row, at most 2 s.
func (w *worker) pause(ctx context.Context) {
	d := min(50*time.Millisecond<<min(w.failures, 6), 2*time.Second)
	w.failures++
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// differs stands for a DE 39 when two answers to the same bytes were not one.
const differs = "differs"

// do does one transaction and returns DE 39 of its answer.
func (w *worker) do(ctx context.Context, t *terminal.Terminal, kind Kind) (string, error) {
	switch kind {
	case Echo:
		return managed(t.Echo(ctx))
	case SignIn:
		return managed(t.SignIn(ctx))
	}
	s := w.purchase(kind)
	res, err := t.Sale(ctx, s)
	if err != nil {
		return "", err
	}
	if kind == Duplicate && (res.Repeated == nil || res.Repeated.Code != res.Code || res.Repeated.RRN != res.RRN || res.Repeated.AuthCode != res.AuthCode) {
		return differs, nil
	}
	return res.Code, nil
}

// managed turns a refused management message into its DE 39.
func managed(err error) (string, error) {
	var r *terminal.Refusal
	switch {
	case err == nil:
		return "00", nil
	case errors.As(err, &r):
		return r.Code, nil
	}
	return "", err
}

// contactlessLimit is the amount up to which a contactless purchase asks for
// no PIN (小额免密, protocol.md 3.6).
const contactlessLimit = 1000_00

// purchase draws card, amount and entry for a kind.
func (w *worker) purchase(kind Kind) terminal.Sale {
	s := terminal.Sale{Amount: w.amount()}
	switch kind {
	case Chip:
		s.Card, s.Entry = pick(w.rng, w.chip), terminal.Chip
	case Contactless:
		s.Card, s.Entry = pick(w.rng, w.chip), terminal.Contactless
	case Stripe:
		s.Card, s.Entry = pick(w.rng, w.plain), terminal.Stripe
	case Keyed:
		s.Card, s.Entry = pick(w.rng, w.all), terminal.Keyed
	default:
		s.Card = pick(w.rng, w.all)
		switch {
		case !s.Card.HasChip:
			s.Entry = terminal.Stripe
		case w.rng.IntN(5) < 2:
			s.Entry = terminal.Contactless
		}
	}
	if s.Entry != terminal.Keyed && (s.Entry != terminal.Contactless || s.Amount > contactlessLimit) {
		s.PIN = s.Card.PIN
	}
	switch kind {
	case Duplicate:
		w.fault = terminal.Fault{Twice: true}
		s.Fault = &w.fault
	case BadMAC:
		w.fault = terminal.Fault{WrongMAC: true}
		s.Fault = &w.fault
	}
	return s
}

func pick(rng *rand.Rand, from []*simcard.Card) *simcard.Card { return from[rng.IntN(len(from))] }

// maxDraws bounds the search for an amount without weather. Weather is rare
// among amounts; a range that holds nothing else gets what it holds.
const maxDraws = 100

func (w *worker) amount() money.Amount {
	cfg := &w.run.cfg
	if cfg.Weather > 0 && w.rng.Float64() < cfg.Weather {
		return cfg.Storms[w.rng.IntN(len(cfg.Storms))]
	}
	for range maxDraws {
		a := cfg.Min + money.Amount(w.rng.Int64N(int64(cfg.Max-cfg.Min)+1))
		if cfg.Stormy == nil || !cfg.Stormy(a) {
			return a
		}
	}
	return cfg.Min
}

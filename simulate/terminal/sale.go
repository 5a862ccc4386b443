package terminal

import (
	"context"
	"errors"
	"fmt"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// Sale is a purchase at the terminal.
type Sale struct {
	Amount money.Amount
	Card   *simcard.Card
	Entry  Entry
	PIN    string // what was typed; "" for none
	Fault  *Fault
}

// Reason is DE 39 of a 0400: why the terminal reverses (protocol.md 8.1).
type Reason string

// The reasons.
const (
	ReasonTimeout Reason = "98" // no answer
	ReasonMAC     Reason = "A0" // the answer's MAC was wrong
	ReasonOther   Reason = "06" // anything else, and after the host refused a first try
)

// Sale sells: Transact of a sale.
func (t *Terminal) Sale(ctx context.Context, s Sale) (Result, error) {
	return t.Transact(ctx, Transaction{Kind: KindSale, Amount: s.Amount, Card: s.Card, Entry: s.Entry, PIN: s.PIN, Fault: s.Fault})
}

func reasonFor(err error) Reason {
	switch {
	case errors.Is(err, ErrMAC):
		return ReasonMAC
	case errors.Is(err, ErrTimeout), errors.Is(err, ErrLine):
		return ReasonTimeout
	}
	return ReasonOther
}

// heard remembers that a host wants a sign-in: by DE 39 (protocol.md 7,
// category B, and 77) or by its header (1.5).
func (t *Terminal) heard(res *Result) {
	switch res.Code {
	case "77", "99", "A0":
		t.resign = true
	}
	if res.Demand == spec.DemandSignIn {
		t.resign = true
	}
	t.told(res.Demand)
}

// Reversal asks for the last transaction that can be reversed to be.
type Reversal struct {
	Reason Reason // "" is the pending reversal's own, or 98
	Fault  *Fault // of the first try
}

// Reverse reverses the last transaction of a reversible kind, whether its
// outcome is unknown or it was approved, and returns the answer that settled it. It sends up to
// Profile.Tries times, from the second refusal on with reason 06 (protocol.md
// 8.4); 00 and 25 settle a reversal.
func (t *Terminal) Reverse(ctx context.Context, r Reversal) (Result, error) {
	if len(t.last) == 0 {
		return Result{}, fmt.Errorf("terminal %s: no transaction to reverse", t.cfg.TID)
	}
	if t.keys.MAK == nil {
		return Result{}, t.failure(ErrNoKeys, 0x0400, nil)
	}
	if !t.Pending() {
		t.state.Pending, t.state.Reason = t.last, ReasonTimeout
	}
	if r.Reason != "" {
		t.state.Reason = r.Reason
	}
	t.cfg.Book.move(t.lastKey, Unknown, nil)
	if err := t.save(); err != nil {
		return Result{}, t.failure(ErrState, 0x0400, err)
	}
	return t.reverse(ctx, r.Fault)
}

// reverse sends the pending reversal until the host takes it.
func (t *Terminal) reverse(ctx context.Context, fault *Fault) (Result, error) {
	var last error
	for range t.cfg.Profile.Tries {
		res, err := t.reverseOnce(ctx, fault)
		fault = nil
		if err == nil && (res.Approved() || res.Code == "25") {
			t.state.Pending = nil
			t.forget(t.lastKey)
			t.cfg.Book.move(t.lastKey, Reversed, &res)
			if err := t.save(); err != nil {
				return res, t.failure(ErrState, 0x0400, err)
			}
			return res, nil
		}
		if err == nil {
			t.heard(&res)
			t.state.Reason = ReasonOther
			err = &Refusal{TID: t.cfg.TID, What: "reversal", Code: res.Code}
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	if t.cfg.Profile.GiveUp && ctx.Err() == nil {
		t.state.Pending = nil
		t.cfg.Book.move(t.lastKey, Abandoned, nil)
		last = errors.Join(last, t.save())
	}
	return Result{}, last
}

func (t *Terminal) reverseOnce(ctx context.Context, fault *Fault) (Result, error) {
	if t.resign {
		if err := t.SignIn(ctx); err != nil {
			return Result{}, err
		}
	}
	if err := t.connect(ctx, 0x0400); err != nil {
		return Result{}, err
	}
	req, err := t.buildReversal(t.state.Reason)
	if err != nil {
		return Result{}, err
	}
	if err := t.pack(req, fault); err != nil {
		return Result{}, err
	}
	return t.roundTrip(ctx, req, fault)
}

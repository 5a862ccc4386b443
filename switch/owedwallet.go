package switching

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/fault"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
)

// Case is something about a transaction that a person must look into.
type Case struct {
	Key      string // the same case has the same key, however often it is raised
	Kind     string // late_success
	ID       int64  // the journal's
	RRN      string
	Merchant string
	Wallet   string
	Amount   money.Amount
	Text     string
	At       time.Time
}

// orderOf is what a payment by code is called at its wallet.
func orderOf(t *journal.Transaction) wallet.Order {
	return wallet.Order{Number: t.RRN, Merchant: t.Merchant, Terminal: t.Terminal, Amount: t.Amount, Made: t.Opened}
}

// refundOf is what a void or refund of one is called.
func refundOf(t *journal.Transaction) wallet.Refund {
	return wallet.Refund{Number: t.RRN, Amount: t.Amount, Made: t.Opened}
}

// sendWallet ends an order that nobody decided, or gives back what a void or
// refund promised. Both can be repeated without end.
func (s *Switch) sendWallet(ctx context.Context, e *journal.Entry, way *wallet.Wallet) (result string) {
	if e.Debt.Delivery() {
		return s.sendRefund(ctx, e, way)
	}
	return s.sendCancel(ctx, e, way)
}

// sendCancel asks once more and cancels at once after it: nothing may happen
// between the last question and the cancel that the question could have told.
// What turns out to be paid is given back by the cancel, and is a case.
func (s *Switch) sendCancel(ctx context.Context, e *journal.Entry, way *wallet.Wallet) (result string) {
	o := orderOf(&e.Transaction)
	if from := way.CancelFrom(o); time.Now().Before(from) {
		s.settled(e, "rescheduled", s.journal.Postpone(ctx, e.Debt.ID, from, string(wallet.TooEarly)))
		return "not_yet"
	}
	asked, _ := way.Query(ctx, o) // what it does not say, the cancel decides
	raised := s.raiseIfLate(ctx, e, asked)
	r, err := way.Cancel(ctx, o)
	if r.State == wallet.NoOrder && (asked.State == wallet.Closed || asked.State == wallet.Refunded) {
		r = asked // ended by an earlier try
	}
	raised = errors.Join(raised, s.raiseIfLate(ctx, e, r))
	var se *routing.SendError
	switch {
	case errors.As(err, &se) && se.Why == wallet.Refused:
		s.giveUp(ctx, e, fmt.Sprintf("the wallet refused the cancel: %v", se.Err))
		return "refused"
	case err != nil && !fault.Planted("cancel-sent-once"):
		s.again(ctx, e, whyOf(err))
		return "unanswered"
	case raised != nil:
		s.again(ctx, e, "the order is "+r.State.String()+"; its case could not be raised")
		return "failed"
	case r.State == wallet.NoOrder && !time.Now().After(e.Deadline.Add(journal.Grace)):
		// The payment may still be on its way there (fault 28).
		s.retry(ctx, e, time.Now().Add(backoff(s.cfg.Owed, int(e.Debt.Tries))), "the wallet has no such order, which is not final before its time is over")
		return "not_yet"
	case r.State == wallet.NoOrder:
		s.acknowledge(ctx, e, "the wallet has no such order")
		return "unknown_there"
	}
	s.acknowledge(ctx, e, "the order is "+r.State.String())
	return "acknowledged"
}

// raiseIfLate raises a case when an order that was to be cancelled because
// nobody knew of a payment has been paid.
func (s *Switch) raiseIfLate(ctx context.Context, e *journal.Entry, r wallet.Result) error {
	paid := r.State == wallet.Paid || r.State == wallet.Refunded
	if !paid || e.Outcome != nil && e.Outcome.Reason == journal.Approved {
		return nil // not paid; or approved and taken back by its terminal
	}
	s.log.Warn("an order was paid after its cancel was decided", "rrn", e.RRN, "wallet", e.Issuer, "amount", e.Amount.String())
	if s.raise == nil {
		return nil
	}
	err := s.raise(ctx, Case{Key: "late_success:" + e.RRN, Kind: "late_success", ID: e.ID, RRN: e.RRN, Merchant: e.Merchant, Wallet: e.Issuer, Amount: e.Amount, At: time.Now(),
		Text: fmt.Sprintf("%s: order %s of %s yuan was paid after its terminal had heard that it failed; the cancel gives it back. Look whether the buyer left with the goods.",
			e.Issuer, e.RRN, e.Amount)})
	if err != nil {
		s.log.Error("a case could not be raised; the cancel comes due again", "rrn", e.RRN, "error", err.Error())
	}
	return err
}

// sendRefund gives back what a void or refund promised, once per RRN.
func (s *Switch) sendRefund(ctx context.Context, e *journal.Entry, way *wallet.Wallet) (result string) {
	original, err := s.journal.Get(ctx, e.Original)
	if err != nil {
		s.again(ctx, e, "the original could not be read: "+err.Error())
		return "failed"
	}
	r, err := way.Refund(ctx, orderOf(&original.Transaction), refundOf(&e.Transaction))
	switch {
	case err != nil:
		s.again(ctx, e, whyOf(err))
		return "unanswered"
	case r.State == wallet.Refunded:
		s.acknowledge(ctx, e, "refunded")
		return "acknowledged"
	}
	s.giveUp(ctx, e, "the wallet refused the refund: "+noteOf(r))
	return "refused"
}

package dispute

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
)

// Imported is what came of a network's error file.
type Imported struct {
	Items   int `json:"items"`
	Taken   int `json:"taken"`   // cases opened or moved on, or known before
	Ours    int `json:"ours"`    // what we sent ourselves, in return
	Unknown int `json:"unknown"` // no payment of ours; each is a task
	Unfit   int `json:"unfit"`   // do not fit their case's stage; each is a task
}

// absurdFee is the fee that no file is believed without a look, if it is more
// than what is in dispute too.
const absurdFee money.Amount = 1_000_00

// Import takes a network's error file: it is read to its end first, so that a
// damaged one changes nothing, and may be imported again. find says which
// payment an item is about; ErrUnknown when none.
func (e *Engine) Import(ctx context.Context, source string, date calendar.Date, items func() iter.Seq2[clearing.ErrorItem, error],
	find func(context.Context, clearing.ErrorItem) (Payment, error), who Who, now time.Time) (done Imported, err error) {
	if source == "" || !date.Valid() {
		return done, fmt.Errorf("dispute: an error file needs its source and date")
	}
	for _, err := range items() {
		if err != nil {
			return done, fmt.Errorf("dispute: the file is refused: %w", err)
		}
	}
	for x, err := range items() {
		if err != nil {
			return done, fmt.Errorf("dispute: the file changed while it was read: %w", err)
		}
		done.Items++
		stage, ours := stageOf(x.Kind)
		if ours {
			done.Ours++
			continue
		}
		key := fmt.Sprintf("zme/%s/%s/%06d/%s", source, x.Sent, x.STAN, x.Kind)
		p, err := find(ctx, x)
		if err == nil && x.Fee > max(x.Amount, absurdFee) {
			err = fmt.Errorf("%w: a fee of %s; if that is right, two people say so (acquirer dispute open)", ErrAction, x.Fee)
		}
		if err == nil {
			_, err = e.Take(ctx, Item{Key: key, Source: source, Stage: stage, Payment: p, Amount: x.Amount, Fee: x.Fee, Reason: x.Reason, Date: date, Won: x.Settle > 0}, who, now)
		}
		switch {
		case err == nil:
			done.Taken++
			continue
		case errors.Is(err, ErrUnknown):
			done.Unknown++
		case errors.Is(err, ErrAction):
			done.Unfit++
		default:
			return done, err
		}
		task := settlement.Task{Key: "dispute/" + key, Kind: "dispute", Merchant: x.Merchant, Ref: key, Created: now,
			Text: fmt.Sprintf("%s's %s of %s over %s, reason %s, line %d: %v", source, x.Kind, date, x.Amount, x.Reason, x.Line, err)}
		fault.Hit("dispute.unknown.before")
		err = e.db.Write(ctx, func(tx store.Tx) error { return settlement.AddTaskTx(tx, task) })
		fault.Hit("dispute.unknown.after")
		if err != nil {
			return done, fmt.Errorf("dispute: line %d: %w", x.Line, err)
		}
	}
	return done, nil
}

// stageOf is the stage that a kind of item begins; ours are those that tell of
// what we sent.
func stageOf(k clearing.ErrorKind) (s Stage, ours bool) {
	switch k {
	case clearing.Retrieval:
		return Retrieval, false
	case clearing.Chargeback:
		return Chargeback, false
	case clearing.SecondChargeback:
		return Second, false
	case clearing.PreArbitration:
		return PreArbitration, false
	case clearing.Arbitration:
		return Arbitration, false
	}
	return "", true
}

package journal

import (
	"fmt"
	"slices"
	"time"

	"acquirer/calendar"
	"acquirer/store"
)

// apply writes a batch: the opens, then the closes, then the reversals, and
// the limits they move. It runs inside the store's writer and may run again,
// so it writes every answer anew.
func (j *Journal) apply(tx store.Tx, batch []*op) error {
	if j.limits != nil {
		if err := j.limits.Begin(tx, spentDays(batch)); err != nil {
			return err
		}
	}
	b := &moves{}
	for _, o := range batch {
		o.opened, o.closed, o.reverse, o.event = Opened{}, Closed{}, Reversal{}, nil
	}
	var sorted [3][]*op
	for _, o := range batch {
		sorted[o.what] = append(sorted[o.what], o)
	}
	if tx.Postgres() {
		if err := openSet(tx, sorted[opOpen], b); err != nil {
			return err
		}
		if err := closeSet(tx, sorted[opClose], b); err != nil {
			return err
		}
	} else {
		for _, o := range sorted[opOpen] {
			if err := open(tx, o, b); err != nil {
				return err
			}
		}
		for _, o := range sorted[opClose] {
			if err := closing(tx, o, b); err != nil {
				return err
			}
		}
	}
	for _, o := range sorted[opReverse] {
		if err := reverse(tx, o, b); err != nil {
			return err
		}
	}
	if err := j.spend(tx, b); err != nil {
		return err
	}
	if j.feed.listened() {
		tx.After(func(fate error) {
			if fate == nil {
				j.feed.publish(batch)
			}
		})
	}
	return nil
}

// spentDays are the days whose limits a batch may spend: one, or two around
// midnight.
func spentDays(batch []*op) []calendar.Date {
	var days []calendar.Date
	for _, o := range batch {
		if o.what == opOpen && o.txn.SpentOn != 0 && !slices.Contains(days, o.txn.SpentOn) {
			days = append(days, o.txn.SpentOn)
		}
	}
	return days
}

// moves are the limits a batch moves.
type moves struct {
	back    []*Transaction
	spend   []*Transaction
	spender []*op // of spend
}

// giveBack returns the quota of t. What was opened in this very batch has not
// spent it yet, and does not.
func (b *moves) giveBack(t *Transaction) {
	for i, s := range b.spend {
		if s.ID == t.ID {
			b.spend = slices.Delete(b.spend, i, i+1)
			b.spender = slices.Delete(b.spender, i, i+1)
			return
		}
	}
	b.back = append(b.back, t)
}

// spend moves the limits and closes what they refuse.
func (j *Journal) spend(tx store.Tx, b *moves) error {
	if j.limits == nil || len(b.back)+len(b.spend) == 0 {
		return nil
	}
	var refused []*op
	err := j.limits.Move(tx, b.back, b.spend, func(i int, r Reason, note string) {
		o := b.spender[i]
		out := &Outcome{Reason: r, Note: note, Closed: o.txn.Opened}
		o.opened = Opened{Refused, &Entry{Transaction: o.txn, Outcome: out}}
		refused = append(refused, o)
	})
	if err != nil {
		return err
	}
	for _, o := range refused {
		out := o.opened.First.Outcome
		out.ID = store.NewID()
		won, err := writeOutcome(tx, o.txn.ID, out)
		if err != nil {
			return err
		}
		if !won {
			return fmt.Errorf("journal: transaction %d has an outcome before it was decided", o.txn.ID)
		}
		o.event = o.opened.First
	}
	return nil
}

// open records one transaction, or finds the one that was there before.
func open(tx store.Tx, o *op, b *moves) error {
	if o.also != 0 && o.also != o.txn.Day {
		k := o.txn.Key
		k.Day = o.also
		first, err := entryAt(tx, k)
		if err != nil {
			return err
		}
		if first != nil {
			o.opened = met(o, first)
			return nil
		}
	}
	fresh, err := writeTxn(tx, &o.txn)
	if err != nil {
		return err
	}
	if !fresh {
		first, err := entryAt(tx, o.txn.Key)
		if err != nil {
			return err
		}
		if first == nil {
			return fmt.Errorf("journal: the transaction that stood in the way of %d is gone", o.txn.ID)
		}
		o.opened = met(o, first)
		return nil
	}
	return o.recorded(tx, b)
}

// recorded goes on with a transaction that is new.
func (o *op) recorded(tx store.Tx, b *moves) error {
	if o.close == nil {
		o.opened = Opened{Verdict: Fresh}
		if o.txn.SpentOn != 0 {
			b.spend = append(b.spend, &o.txn)
			b.spender = append(b.spender, o)
		}
		return nil
	}
	out := o.decided()
	if _, err := writeOutcome(tx, o.txn.ID, out); err != nil {
		return err
	}
	o.opened = Opened{Refused, &Entry{Transaction: o.txn, Outcome: out}}
	o.event = o.opened.First
	return nil
}

// decided is a copy of the caller's outcome with its place in the order.
func (o *op) decided() *Outcome {
	out := *o.close
	out.ID = store.NewID()
	if out.Closed.IsZero() {
		out.Closed = o.txn.Opened
	}
	out.Approval, out.IssuerCode, out.Additional, out.Note = clean(out.Approval), clean(out.IssuerCode), clean(out.Additional), clean(out.Note)
	return &out
}

// met says what an earlier transaction with the same key means for o.
func met(o *op, first *Entry) Opened {
	switch {
	case first.Outcome != nil && first.Outcome.Reason == Tombstoned:
		return Opened{Buried, first}
	case first.Fingerprint != o.txn.Fingerprint:
		return Opened{Conflict, first}
	case first.Outcome == nil:
		return Opened{InFlight, first}
	default:
		return Opened{Repeat, first}
	}
}

// closing records one outcome; the first wins.
func closing(tx store.Tx, o *op, b *moves) error {
	out := o.decided()
	won, err := writeOutcome(tx, o.txn.ID, out)
	if err != nil {
		return err
	}
	if !won {
		return o.lost(tx)
	}
	return o.closes(tx, out, b)
}

// lost reads the outcome that stands.
func (o *op) lost(tx store.Tx) error {
	e, err := entry(tx, entryByID, o.txn.ID)
	if err != nil {
		return err
	}
	if e == nil || e.Outcome == nil {
		return fmt.Errorf("journal: closing %d: its outcome stands and its transaction does not", o.txn.ID)
	}
	o.closed = Closed{Winner: *e.Outcome}
	return nil
}

// closes goes on with an outcome that won.
func (o *op) closes(tx store.Tx, out *Outcome, b *moves) error {
	o.closed = Closed{Won: true, Winner: *out}
	e := &Entry{Transaction: o.txn, Outcome: out}
	if out.Reason.Owes() {
		d := o.owe
		if d.Why == "" {
			d.Why = why(out.Reason)
		}
		if err := owe(tx, e, &d); err != nil {
			return err
		}
		o.closed.DebtID = d.ID
	}
	if out.Reason != Approved && o.txn.SpentOn != 0 {
		b.giveBack(&o.txn)
	}
	o.event = e
	return nil
}

func why(r Reason) Why {
	switch r {
	case Interrupted:
		return WhyInterrupted
	case AnswerWrong:
		return WhyAnswerWrong
	default:
		return WhyUnanswered
	}
}

// owe puts the reversal of e on the list. e must have its outcome.
func owe(tx store.Tx, e *Entry, d *Debt) error {
	d.ID, d.State, d.Created = store.NewID(), Owed, e.Outcome.Closed
	if e.Outcome.Reason == Approved {
		d.Created = time.Now()
	}
	if d.Due.IsZero() {
		d.Due = d.Created
	}
	d.Why = Why(clean(string(d.Why)))
	fresh, err := writeOwed(tx, &e.Transaction, d, e.Outcome.Reason == Approved)
	if err != nil {
		return err
	}
	if !fresh {
		return fmt.Errorf("journal: the reversal of %d is on the list already", e.ID)
	}
	e.Debt = d
	return nil
}

// reverse takes back one transaction, or leaves a tombstone where it would be.
func reverse(tx store.Tx, o *op, b *moves) error {
	e, err := o.original(tx)
	if err != nil {
		return err
	}
	if e == nil {
		if o.byID {
			o.reverse = Reversal{Effect: NotFound}
			return nil
		}
		if e, err = o.bury(tx); err != nil || e != nil {
			return err
		}
		// Another node wrote it in between.
		if e, err = o.original(tx); err != nil {
			return err
		}
		if e == nil {
			return fmt.Errorf("journal: reversing: the original of %d is neither there nor absent", o.txn.ID)
		}
	}
	o.reverse.Original = e
	if e.Outcome != nil && e.Outcome.Reason == Tombstoned {
		o.reverse.Effect = NotFound
		return nil
	}
	if !o.byID && (e.Amount != o.txn.Amount || o.txn.PANToken != [16]byte{} && e.PANToken != o.txn.PANToken) {
		o.reverse.Effect = Mismatch
		return nil
	}
	if e.Outcome == nil {
		out := &Outcome{ID: store.NewID(), Reason: TerminalReversed, Closed: o.now()}
		if o.byID {
			out.Reason = Interrupted
		}
		won, err := writeOutcome(tx, e.ID, out)
		if err != nil {
			return err
		}
		if !won { // closed by another node in between
			if e, err = entry(tx, entryByID, e.ID); err != nil {
				return err
			}
			o.reverse.Original = e
		} else {
			e.Outcome = out
			o.reverse.Effect = WasInFlight
			return o.takeBack(tx, e, b)
		}
	}
	switch {
	case e.Debt != nil:
		o.reverse.Effect = AlreadyReversed
	case e.Outcome.Reason == Approved:
		o.reverse.Effect = Reversing
		return o.takeBack(tx, e, b)
	default:
		o.reverse.Effect = NothingToDo
	}
	return nil
}

// now is when the reversal was asked for.
func (o *op) now() time.Time {
	if !o.txn.Opened.IsZero() {
		return o.txn.Opened
	}
	return time.Now()
}

func (o *op) original(tx store.Tx) (*Entry, error) {
	if o.byID {
		return entry(tx, entryByID, o.txn.ID)
	}
	e, err := entryAt(tx, o.txn.Key)
	if e == nil && err == nil && o.also != 0 && o.also != o.txn.Day {
		k := o.txn.Key
		k.Day = o.also
		e, err = entryAt(tx, k)
	}
	return e, err
}

// takeBack owes the reversal of e and gives its limits back.
func (o *op) takeBack(tx store.Tx, e *Entry, b *moves) error {
	d := o.owe
	if err := owe(tx, e, &d); err != nil {
		return err
	}
	if e.SpentOn != 0 {
		b.giveBack(&e.Transaction)
	}
	o.event = e
	return nil
}

// bury writes the tombstone; nil when the original has come meanwhile.
func (o *op) bury(tx store.Tx) (*Entry, error) {
	o.txn.SpentOn = 0
	fresh, err := writeTxn(tx, &o.txn)
	if err != nil || !fresh {
		return nil, err
	}
	out := &Outcome{ID: store.NewID(), Reason: Tombstoned, Note: clean("reversed with reason " + string(o.owe.Why) + " before it came"), Closed: o.now()}
	if _, err := writeOutcome(tx, o.txn.ID, out); err != nil {
		return nil, err
	}
	e := &Entry{Transaction: o.txn, Outcome: out}
	o.reverse = Reversal{NotFound, e}
	o.event = e
	return e, nil
}

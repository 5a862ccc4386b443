package journal

import (
	"fmt"
	"slices"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
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
	b := &writing{listened: j.feed.listened()}
	for _, o := range batch {
		o.opened, o.closed, o.reverse, o.event = Opened{}, Closed{}, Reversal{}, nil
	}
	var sorted [3][]*op
	for _, o := range batch {
		sorted[o.what] = append(sorted[o.what], o)
	}
	if err := j.date(tx, sorted[opOpen]); err != nil {
		return err
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
	if b.listened {
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

// writing is a batch while it is written.
type writing struct {
	args     store.Args
	listened bool // somebody wants to hear of it

	// The limits it moves.
	back    []*Transaction
	again   []*Transaction
	spend   []*Transaction
	spender []*op // of spend
}

// giveBack returns the quota of t. What was opened in this very batch has not
// spent it yet, and does not.
func (b *writing) giveBack(t *Transaction) {
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
func (j *Journal) spend(tx store.Tx, b *writing) error {
	if j.limits == nil || len(b.back)+len(b.again)+len(b.spend) == 0 {
		return nil
	}
	var refused []*op
	err := j.limits.Move(tx, b.back, b.again, b.spend, func(i int, r Reason, note string) {
		o := b.spender[i]
		o.out = Outcome{Reason: r, Note: note}
		refused = append(refused, o)
	})
	if err != nil {
		return err
	}
	for _, o := range refused {
		o.decide()
		won, err := writeOutcome(tx, &b.args, o.txn.ID, &o.out)
		if err != nil {
			return err
		}
		if !won {
			return fmt.Errorf("journal: transaction %d has an outcome before it was decided", o.txn.ID)
		}
		if err := o.refused(tx, b); err != nil {
			return err
		}
	}
	return nil
}

// open records one transaction, or finds the one that was there before.
func open(tx store.Tx, o *op, b *writing) error {
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
	fresh, err := writeTxn(tx, &b.args, &o.txn)
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
func (o *op) recorded(tx store.Tx, b *writing) error {
	if o.follows() {
		if err := o.follow(tx); err != nil {
			return err
		}
	}
	if !o.shut {
		o.opened = Opened{Verdict: Fresh}
		if o.txn.SpentOn != 0 {
			b.spend = append(b.spend, &o.txn)
			b.spender = append(b.spender, o)
		}
		return nil
	}
	o.decide()
	if _, err := writeOutcome(tx, &b.args, o.txn.ID, &o.out); err != nil {
		return err
	}
	return o.refused(tx, b)
}

// refused answers an open that was closed at once.
func (o *op) refused(tx store.Tx, b *writing) error {
	o.event = o.entry()
	if o.out.Reason != Approved {
		o.opened = Opened{Refused, o.event}
		return nil
	}
	o.event.Debt = &Debt{Why: WhyDelivery, Due: o.owe.Due}
	o.opened = Opened{TakenOver, o.event}
	return owe(tx, b, &o.txn, &o.out, o.event.Debt)
}

// entry is a copy of what o has recorded, for those who keep it.
func (o *op) entry() *Entry {
	out := o.out
	return &Entry{Transaction: o.txn, Outcome: &out}
}

// decide gives the outcome its place in the order. An advice whose answer is
// missing is not taken back: it is delivered again until it is acknowledged.
func (o *op) decide() {
	out := &o.out
	out.ID = store.NewID()
	if out.Reason.Owes() && o.txn.Advice() {
		out.Note = out.Reason.String()
		out.Reason, out.IssuerCode, o.owe.Why = Approved, "", WhyDelivery
	}
	if out.Closed.IsZero() {
		out.Closed = o.txn.Opened
	}
	out.Approval, out.IssuerCode, out.Additional, out.Note = clean(out.Approval), clean(out.IssuerCode), clean(out.Additional), clean(out.Note)
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
func closing(tx store.Tx, o *op, b *writing) error {
	o.decide()
	won, err := writeOutcome(tx, &b.args, o.txn.ID, &o.out)
	if err != nil {
		return err
	}
	if !won && !fault.Planted("second-closer-wins") {
		return o.lost(tx)
	}
	return o.closes(tx, b)
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
func (o *op) closes(tx store.Tx, b *writing) error {
	o.closed = Closed{Won: true, Winner: o.out}
	var d *Debt
	approved := o.out.Reason == Approved
	if o.out.Reason.Owes() && o.txn.Kind != Inquiry && !fault.Planted("reversal-without-row") || approved && o.owe.Why == WhyDelivery {
		d = &Debt{Why: o.owe.Why, Due: o.owe.Due}
		if d.Why == "" {
			d.Why = why(o.out.Reason)
		}
		if err := owe(tx, b, &o.txn, &o.out, d); err != nil {
			return err
		}
		o.closed.DebtID = d.ID
	}
	switch {
	case !approved && o.txn.SpentOn != 0 && !fault.Planted("quota-leaks"):
		b.giveBack(&o.txn)
	case approved && o.txn.undoes():
		original, err := undone(tx, &o.txn)
		if err != nil {
			return err
		}
		if original.SpentOn != 0 {
			b.giveBack(&original.Transaction)
		}
	}
	if b.listened {
		o.event = o.entry()
		o.event.Debt = d
	}
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

// owe puts the reversal of t, which closed as out, on the list.
func owe(tx store.Tx, b *writing, t *Transaction, out *Outcome, d *Debt) error {
	d.ID, d.State, d.Created = store.NewID(), Owed, out.Closed
	if out.Reason == Approved && !d.Delivery() {
		d.Created = time.Now()
	}
	if d.Due.IsZero() {
		d.Due = d.Created
	}
	d.Why = Why(clean(string(d.Why)))
	fresh, err := writeOwed(tx, &b.args, t, d, out.Reason == Approved)
	if err != nil {
		return err
	}
	if !fresh {
		return fmt.Errorf("journal: the reversal of %d is on the list already", t.ID)
	}
	return nil
}

// reverse takes back one transaction, or leaves a tombstone where it would be.
func reverse(tx store.Tx, o *op, b *writing) error {
	e, err := o.original(tx)
	if err != nil {
		return err
	}
	if e == nil {
		if o.byID {
			o.reverse = Reversal{Effect: NotFound}
			return nil
		}
		if e, err = o.bury(tx, b); err != nil || e != nil {
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
	if !o.byID && !fault.Planted("reverses-another") && (e.Amount != o.txn.Amount || o.txn.PANToken != [16]byte{} && e.PANToken != o.txn.PANToken) {
		o.reverse.Effect = Mismatch
		return nil
	}
	switch {
	case e.Advice():
		o.reverse.Effect = Followed
		return nil
	case e.Kind == Inquiry:
		o.reverse.Effect = NothingToDo
		return nil
	}
	if e.Outcome == nil { // its issuer may be another by now (Move)
		if err := hold(tx, e.ID); err != nil {
			return err
		}
		if e, err = entry(tx, entryByID, e.ID); err != nil {
			return err
		}
		o.reverse.Original = e
	}
	if e.Outcome == nil {
		out := &Outcome{ID: store.NewID(), Reason: TerminalReversed, Closed: o.now()}
		if o.byID {
			out.Reason = Interrupted
		}
		won, err := writeOutcome(tx, &b.args, e.ID, out)
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
	case e.TakenBack(), e.Debt != nil && !e.StoodIn():
		o.reverse.Effect = AlreadyReversed
	case e.Outcome.Reason == Approved:
		effect, err := standing(tx, e)
		if err != nil || effect != Reversing {
			o.reverse.Effect = effect
			return err
		}
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
	if e != nil || err != nil || o.told {
		return e, err
	}
	// Its caller may not know yet that the date has moved on.
	open, err := openDates(tx)
	if err != nil {
		return nil, err
	}
	for _, day := range open {
		if k := o.txn.Key; e == nil && day > k.Day {
			k.Day = day
			if e, err = entryAt(tx, k); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

// takeBack owes the reversal of e and gives its limits back.
func (o *op) takeBack(tx store.Tx, e *Entry, b *writing) error {
	due, unsent := o.owe.Due, false
	if e.Debt != nil { // the advice of a sale that the house approved for the issuer
		free, err := callOff(tx, e.Debt)
		if err != nil {
			return err
		}
		if unsent = e.Debt.Tries == 0; free.After(due) {
			due = free
		}
	}
	e.Debt = &Debt{Why: o.owe.Why, Due: due, Chip: o.owe.Chip}
	if err := owe(tx, b, &e.Transaction, e.Outcome, e.Debt); err != nil {
		return err
	}
	if unsent {
		d := e.Debt
		d.State, d.Ended, d.Note = Reversed, d.Created, "its issuer had not been told"
		if _, err := tx.Exec("update owed set state = $2, ended = $3, note = $4 where id = $1", d.ID, d.State, store.Micros(d.Ended), d.Note); err != nil {
			return err
		}
	}
	if e.SpentOn != 0 {
		b.giveBack(&e.Transaction)
	}
	if e.undoes() && e.Outcome.Reason == Approved {
		original, err := undone(tx, &e.Transaction)
		if err != nil {
			return err
		}
		if original.SpentOn != 0 {
			b.again = append(b.again, &original.Transaction)
		}
	}
	o.event = e
	return nil
}

// callOff takes the delivery d of an advice off the list, because what undoes
// it takes its place, and says until when it may be on its way: before that it
// would be overtaken. d.Tries is then how often it was sent.
func callOff(tx store.Tx, d *Debt) (free time.Time, err error) {
	var leased int64
	if err := tx.QueryRow("select leased, tries from owed where id = $1 for update", d.ID).Scan(&leased, &d.Tries); err != nil {
		return free, err
	}
	_, err = tx.Exec("delete from owed where id = $1", d.ID)
	return store.Instant(leased), err
}

// bury writes the tombstone; nil when the original has come meanwhile.
func (o *op) bury(tx store.Tx, b *writing) (*Entry, error) {
	o.txn.SpentOn = 0
	if fault.Planted("tombstone-ignored") {
		o.reverse = Reversal{NotFound, &Entry{Transaction: o.txn}}
		return o.reverse.Original, nil
	}
	fresh, err := writeTxn(tx, &b.args, &o.txn)
	if err != nil || !fresh {
		return nil, err
	}
	out := &Outcome{ID: store.NewID(), Reason: Tombstoned, Note: clean("reversed with reason " + string(o.owe.Why) + " before it came"), Closed: o.now()}
	if _, err := writeOutcome(tx, &b.args, o.txn.ID, out); err != nil {
		return nil, err
	}
	e := &Entry{Transaction: o.txn, Outcome: out}
	o.reverse = Reversal{NotFound, e}
	o.event = e
	return e, nil
}

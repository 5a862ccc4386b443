package journal

import (
	"context"
	"errors"
	"fmt"

	"acquirer/fault"
	"acquirer/money"
	"acquirer/store"
)

// A transaction that follows another (a void, a refund, a completion, an
// adjustment) names it in Original, and whether it may is decided inside the
// write that opens it, under a lock on the original's row: what follows the
// same original at the same time is decided one after the other. Nothing is
// marked on the original; what became of it is read from its followers.

// follows reports that whether o may be is decided by its original.
func (o *op) follows() bool { return o.txn.Original != 0 && o.what == opOpen }

// Following is an original with what follows it and counts: under way or
// approved, and not taken back. Script results do not count.
type Following struct {
	Original  *Entry
	Followers []*Entry

	charged money.Amount // of the original; read where a follower is decided
}

// Standing is what the original comes to with its adjustments and refunds.
func (f *Following) Standing() money.Amount {
	sum := f.Original.Sum()
	for _, e := range f.Followers {
		switch e.Kind {
		case Adjustment:
			sum += e.Amount // both are bounded by DE 4, twelve digits
		case Refund:
			sum -= e.Amount
		}
	}
	return sum
}

// has reports a follower of one of the kinds.
func (f *Following) has(kinds ...Kind) bool {
	for _, e := range f.Followers {
		for _, k := range kinds {
			if e.Kind == k {
				return true
			}
		}
	}
	return false
}

// busy reports a follower that is not decided.
func (f *Following) busy() bool {
	for _, e := range f.Followers {
		if e.Outcome == nil {
			return true
		}
	}
	return false
}

var followers = entries + `where t.original = $1 and t.original <> 0 and t.kind <> 12 and (o.id is null or o.reason = 1) and (w.id is null or w.why = 'delivery') order by t.id`

func following(tx store.Tx, original *Entry) (*Following, error) {
	rows, err := tx.Query(followers, original.ID)
	if err != nil {
		return nil, err
	}
	all, err := scanEntries(rows)
	return &Following{Original: original, Followers: all}, err
}

// Following reads a transaction and what follows it; store.ErrNotFound when
// there is none.
func (j *Journal) Following(ctx context.Context, id int64) (f *Following, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		e, err := entry(tx, entryByID, id)
		if err != nil {
			return err
		}
		if e == nil {
			return store.ErrNotFound
		}
		f, err = following(tx, e)
		return err
	})
	return f, err
}

// hold locks a transaction's row until the write ends.
func hold(tx store.Tx, id int64) error {
	if fault.Planted("decided-outside-the-lock") {
		return nil
	}
	var is int64
	return tx.QueryRow("select id from txn where id = $1 for update", id).Scan(&is)
}

// Charged says how much of a sale its issuer took back by chargeback, or may
// take again: the payer does not get that from a refund too. It takes the place of
// what was said before, in the write of whoever books it, under the lock under which
// a refund is decided. What the journal does not have is nobody's to refund.
func Charged(tx store.Tx, txn int64, amount money.Amount) error {
	err := hold(tx, txn)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		_, err = tx.Exec("insert into charged (txn, amount) values ($1, $2) on conflict (txn) do update set amount = excluded.amount", txn, amount)
	}
	if err != nil {
		return fmt.Errorf("journal: what was charged back of %d: %w", txn, err)
	}
	return nil
}

// charged is what Charged said last.
func charged(tx store.Tx, txn int64) (amount money.Amount, err error) {
	err = tx.QueryRow("select amount from charged where txn = $1", txn).Scan(&amount)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return amount, err
}

// follow decides whether o, which is recorded, may follow its original, and
// closes it when it may not.
func (o *op) follow(tx store.Tx) error {
	if o.shut && o.out.Reason != Approved {
		return nil // refused already
	}
	if err := hold(tx, o.txn.Original); err != nil {
		return fmt.Errorf("journal: the original of %d: %w", o.txn.ID, err)
	}
	e, err := entry(tx, entryByID, o.txn.Original)
	if err != nil {
		return err
	}
	f, err := following(tx, e)
	if err != nil {
		return err
	}
	if o.txn.Kind == Refund || o.txn.Kind.Undoes() {
		if f.charged, err = charged(tx, e.ID); err != nil {
			return err
		}
	}
	f.without(o.txn.ID)
	if r, note := f.mayBe(&o.txn, o.standing); r != Undecided {
		o.shut, o.out, o.owe = true, Outcome{Reason: r, Note: note}, Debt{}
	}
	return nil
}

func (f *Following) without(id int64) {
	for i, e := range f.Followers {
		if e.ID == id {
			f.Followers = append(f.Followers[:i], f.Followers[i+1:]...)
			return
		}
	}
}

// mayBe decides whether t may follow: Undecided when it may. standing is what
// the original is thought to come to, 0 for any.
func (f *Following) mayBe(t *Transaction, standing money.Amount) (Reason, string) {
	e := f.Original
	switch {
	case e.Outcome == nil:
		return OriginalBusy, "the original is not decided yet"
	case e.State() != StateApproved:
		return OriginalNotFound, "the original is " + e.State().String()
	case t.Kind == ScriptResult:
		return Undecided, ""
	case f.has(Void, PreAuthVoid, CompletionVoid) && !fault.Planted("voided-twice"):
		if f.busy() {
			return OriginalBusy, "the original is being voided"
		}
		return OriginalUndone, "the original was voided"
	}
	now := f.Standing()
	switch t.Kind {
	case Refund:
		switch left := now - f.charged; {
		case f.charged > 0 && left <= 0:
			return OriginalUndone, "its issuer has charged the original back"
		case t.Amount > left:
			return AmountOver, fmt.Sprintf("there is %v left to refund", left)
		}
		return Undecided, ""
	case Adjustment:
		switch {
		case f.has(Refund):
			return OriginalUndone, "the original was refunded"
		case standing != 0 && standing != now:
			return OriginalBusy, "the original was adjusted meanwhile"
		}
		return Undecided, ""
	}
	switch {
	case f.has(Refund, Completion):
		if f.busy() {
			return OriginalBusy, "what follows the original is not decided yet"
		}
		return OriginalUndone, "the original was refunded or completed"
	case t.Kind.Undoes() && f.charged > 0:
		return OriginalUndone, "its issuer has charged the original back"
	case t.Kind.Undoes() && t.Amount != now:
		return AmountDiffers, fmt.Sprintf("the original comes to %v", now)
	}
	return Undecided, ""
}

func (t *Transaction) undoes() bool { return t.Kind.Undoes() && t.Original != 0 }

// undone is the original of an undoing transaction.
func undone(tx store.Tx, t *Transaction) (*Entry, error) {
	e, err := entry(tx, entryByID, t.Original)
	if err == nil && e == nil {
		err = fmt.Errorf("journal: %d undoes %d, which is not there", t.ID, t.Original)
	}
	return e, err
}

// standing says what a reversal of e meets, which is read again under the lock:
// Reversing when it stands still and nothing that counts follows it.
func standing(tx store.Tx, e *Entry) (Effect, error) {
	if err := hold(tx, e.ID); err != nil {
		return 0, err
	}
	now, err := entry(tx, entryByID, e.ID)
	if err != nil {
		return 0, err
	}
	*e = *now
	f, err := following(tx, e)
	switch {
	case err != nil:
		return 0, err
	case e.TakenBack(), e.Debt != nil && !e.StoodIn():
		return AlreadyReversed, nil
	case len(f.Followers) == 0:
		return Reversing, nil
	case f.busy():
		return Followed, nil
	case f.has(Void, PreAuthVoid, CompletionVoid):
		return AlreadyReversed, nil
	}
	return Followed, nil
}

package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// A bank may pay after all what it had refused or had not known. While nothing
// replaced the payout that is what was wanted, and the payout is paid. Otherwise
// the merchant has the money twice, or would have: the payout is long, its money
// stands in suspense (an advance's with what we lost), and a replacement that was
// not sent yet waits. It ends when the bank brings the money back, when two people
// take it from the merchant, or when they give it up.

// long is a payout that the bank paid after it had failed.
type long struct {
	ref      string
	way      string // while it waits: what was asked for
	askedBy  string
	asked    int64
	doneBy   string
	done     int64
	returned money.Amount // of wayMerchant: taken of what had come back
	back     bool         // the bank brought it back
}

// The ways in which it ends; wayOwed is no long one, and done at once.
const (
	wayOwed     = "owed"
	wayMerchant = "merchant"
	wayLoss     = "loss"
	wayBank     = "bank"
)

const longColumns = "ref, way, asked_by, asked, done_by, done, returned, back"

func scanLong(r *store.Rows, l *long) error {
	return r.Scan(&l.ref, &l.way, &l.askedBy, &l.asked, &l.doneBy, &l.done, &l.returned, &l.back)
}

// longOf reads and locks what is known of a payout that was paid after it had
// failed; store.ErrNotFound when it never was.
func longOf(tx store.Tx, ref string) (long, error) {
	rows, err := tx.Query("select "+longColumns+" from settlement_long where ref = $1 for update", ref)
	all, err := store.All(rows, err, scanLong)
	if err == nil && len(all) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return long{}, err
	}
	return all[0], nil
}

func (l *long) insert(tx store.Tx) error {
	_, err := tx.Exec("insert into settlement_long ("+longColumns+") values ($1,$2,$3,$4,$5,$6,$7,$8)", l.ref, l.way, l.askedBy, l.asked, l.doneBy, l.done, l.returned, l.back)
	return err
}

func (l *long) save(tx store.Tx) error {
	_, err := tx.Exec("update settlement_long set way = $1, asked_by = $2, asked = $3, done_by = $4, done = $5, returned = $6, back = $7 where ref = $8",
		l.way, l.askedBy, l.asked, l.doneBy, l.done, l.returned, l.back, l.ref)
	return err
}

// booked is what the ledger must have of l besides what a failed payout has.
func (l *long) booked(book *ledger.Payout) []ledger.Transfer {
	if l.way == wayOwed {
		return book.Late()
	}
	all := book.Long()
	switch {
	case l.done == 0:
	case l.way == wayBank:
		all = append(all, book.LongReturned()...)
	case l.way == wayLoss:
		all = append(all, book.Lost()...)
		if l.back {
			all = append(all, book.FoundAgain()...)
		}
	case l.way == wayMerchant:
		all = append(all, book.Recovered(book.Amount-l.returned, l.returned))
		if l.back {
			all = append(all, book.RecoveredTwice())
		}
	}
	return all
}

// lastOf reads and locks the payouts that replaced p, one after the other, and
// returns the last one: p itself when nothing did.
func lastOf(tx store.Tx, p *payout) (*payout, error) {
	for p.child != "" && p.child != noChild {
		next, err := lockPayout(tx, p.child)
		if err != nil {
			return nil, err
		}
		p = next
	}
	return p, nil
}

// longBefore names a long payout that p replaces and that waits for an end; ""
// when there is none.
func longBefore(tx store.Tx, p *payout) (ref string, err error) {
	if p.parent == "" {
		return "", nil
	}
	first, from, to := chainOf(p.ref)
	err = tx.QueryRow("select ref from settlement_long where (ref = $1 or ref > $2 and ref < $3) and done = 0 order by ref limit 1", first, from, to).Scan(&ref)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return ref, err
}

// source is where the money of a failed or returned payout is.
func (p *payout) source() ledger.Account {
	if p.reissue || p.state == CameBack {
		return ledger.PayoutReturned
	}
	return ledger.MerchantPayable
}

// paidAfterAll books that the bank paid p, which has failed here.
func (p *payout) paidAfterAll(tx store.Tx, now time.Time, date calendar.Date, cost money.Amount) ([]ledger.Transfer, *Task, error) {
	if _, err := longOf(tx, p.ref); !errors.Is(err, store.ErrNotFound) {
		return nil, nil, err // heard before
	}
	if _, err := lastOf(tx, p); err != nil { // nobody sends it while this is written
		return nil, nil, err
	}
	book := p.booking(date, cost)
	owed, err := ledger.BalanceTx(tx, p.source(), p.merchant)
	if err != nil {
		return nil, nil, err
	}
	if p.child == "" && owed.Available(p.source()) >= p.amount {
		p.state, p.reason, p.finished = Paid, "paid after all: "+p.reason, now.UnixMicro()
		l := long{ref: p.ref, way: wayOwed, doneBy: wayBank, done: now.UnixMicro()}
		return book.Late(), nil, errors.Join(l.insert(tx), endTasks(tx, now, "payout_failed/"+p.ref))
	}
	p.long = true
	l := long{ref: p.ref}
	if err := l.insert(tx); err != nil {
		return nil, nil, err
	}
	text := fmt.Sprintf("the bank paid payout %s of %s after it was booked as failed (%s)", p.ref, p.amount, p.reason)
	if p.child == "" {
		text += ", and the merchant is not owed so much any more"
	} else {
		text += fmt.Sprintf(" and replaced by %s", p.child)
	}
	return book.Long(), &Task{Key: "payout_long/" + p.ref, Kind: "payout_long", Merchant: p.merchant, Ref: p.ref, Created: now,
		Text: text + "; let the bank bring it back, or take it from the merchant: acquirer payout recover " + p.ref}, endTasks(tx, now, "payout_failed/"+p.ref)
}

// broughtBack books that the bank brought back the money of p, which was long.
func (p *payout) broughtBack(tx store.Tx, now time.Time, date calendar.Date) ([]ledger.Transfer, *Task, error) {
	l, err := longOf(tx, p.ref)
	if errors.Is(err, store.ErrNotFound) || err == nil && (l.back || l.way == wayOwed) {
		return nil, nil, nil // it came and went before anybody heard of it, or was heard before
	}
	if err != nil {
		return nil, nil, err
	}
	l.back = true
	book := p.booking(date, 0)
	var booked []ledger.Transfer
	var task *Task
	switch {
	case l.done == 0:
		l.way, l.doneBy, l.done, p.long = wayBank, wayBank, now.UnixMicro(), false
		booked = book.LongReturned()
		if p.child == "" {
			task = &Task{Key: "payout_returned/" + p.ref, Kind: "payout_returned", Merchant: p.merchant, Ref: p.ref, Created: now,
				Text: fmt.Sprintf("payout %s of %s failed, was paid after all, and came back; ask the merchant for another card (acquirer settle account ask), then issue it again", p.ref, p.amount)}
		}
		err = endTasks(tx, now, "payout_long/"+p.ref)
	case l.way == wayMerchant: // who has paid it back already
		booked = []ledger.Transfer{book.RecoveredTwice()}
		_, err = addItem(tx, &item{key: "recovered-twice/" + p.ref, merchant: p.merchant, date: date, amount: p.amount, text: "payout " + p.ref + " was paid twice and came back"}, now)
	default:
		booked = book.FoundAgain()
	}
	return booked, task, errors.Join(err, l.save(tx))
}

// ErrLong says that a payout is not long, or that what is asked of it does not
// fit.
var ErrLong = errors.New("settlement: nothing to recover")

// Recover ends a long payout: the first person asks, a second one who asks the
// same does it (audit.Ask), while nothing else became of the replacement. The money is taken from the merchant: a replacement that was not
// sent is given up, what is missing then nets with the merchant's next days. With
// loss it is given up instead, which is only possible when the replacement is
// gone too; an advance stays among the losses (1202), where it is. done reports
// that it has ended; done again has no effect. Whatever also writes is written with it.
func (e *Engine) Recover(ctx context.Context, ref string, loss bool, by string, now time.Time, also ...func(tx store.Tx) error) (done bool, err error) {
	way := wayMerchant
	if loss {
		way = wayLoss
	}
	if by == "" {
		return false, fmt.Errorf("%w: say who you are", ErrLong)
	}
	fault.Hit("payout.recover.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		done = false
		date, err := e.lockBooks(tx, now)
		if err != nil {
			return err
		}
		p, err := lockPayout(tx, ref)
		if err != nil {
			return err
		}
		l, err := longOf(tx, ref)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return fmt.Errorf("%w: it is %s, and was not paid after it failed", ErrLong, p.state)
		case l.way == wayOwed:
			return fmt.Errorf("%w: it was paid after it failed and was still owed; it is %s", ErrLong, p.state)
		case err != nil:
			return err
		case l.done > 0 && l.way == way:
			done = true
			return nil
		case l.done > 0:
			return fmt.Errorf("%w: it has ended, by the %s (%s)", ErrLong, l.way, l.doneBy)
		}
		last, err := lastOf(tx, p)
		if err != nil {
			return err
		}
		unsent := last.state == Created || last.state > Paid && last.child == ""
		if loss && unsent {
			return fmt.Errorf("%w: nothing is lost, %s was not paid; take it from the merchant", ErrLong, last.ref)
		}
		ask := audit.Ask{What: l.way, By: l.askedBy, At: store.Instant(l.asked)}
		what := way
		if unsent { // else, or when another is sent meanwhile, nothing is given up for it
			if what += ": " + last.ref + " is given up"; ask.At.IsZero() && ask.What == way {
				ask.What = what
			}
		}
		if done, err = ask.Second(what, by, now); err != nil {
			return err
		}
		if !done {
			l.way, l.askedBy, l.asked = what, by, now.UnixMicro()
			return errors.Join(l.save(tx), all(tx, also))
		}
		l.way, l.doneBy, l.done = way, by, now.UnixMicro()
		if loss {
			_, err = ledger.PostTx(tx, p.booking(date, 0).Lost())
		} else {
			l.returned, err = takeLong(tx, p, last, unsent, date, now)
		}
		if err != nil {
			return err
		}
		return errors.Join(l.save(tx), endTasks(tx, now, "payout_long/"+ref, "held/"+last.ref, "payout_failed/"+last.ref, "payout_returned/"+last.ref), all(tx, also))
	})
	fault.Hit("payout.recover.after")
	if err != nil {
		return false, fmt.Errorf("settlement: recovering payout %.64q: %w", ref, err)
	}
	return done, nil
}

// takeLong takes the money of the long payout p from its merchant: what last,
// the end of its replacements, would have paid first. It returns what of it had
// come back.
func takeLong(tx store.Tx, p, last *payout, unsent bool, date calendar.Date, now time.Time) (returned money.Amount, err error) {
	var transfers []ledger.Transfer
	rest := p.amount
	if unsent {
		if last.state == Created {
			transfers = last.booking(date, 0).Failed()
			last.state, last.finished = Failed, now.UnixMicro()
			last.reason = "not needed: " + p.ref + " was paid after all"
		}
		if last.source() == ledger.PayoutReturned {
			returned = last.amount
		}
		rest -= last.amount
		last.child = noChild
		if err := last.save(tx); err != nil {
			return 0, err
		}
	}
	if rest > 0 {
		if _, err := addItem(tx, &item{key: "recover/" + p.ref, merchant: p.merchant, date: date, amount: -rest, text: "payout " + p.ref + " was paid twice"}, now); err != nil {
			return 0, err
		}
	}
	_, err = ledger.PostTx(tx, append(transfers, p.booking(date, 0).Recovered(p.amount-returned, returned)))
	return returned, err
}

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

var (
	// ErrAction says that a break cannot have the action, or a day the signature,
	// or that they have one.
	ErrAction = errors.New("that cannot be done")
)

// errWithdrawn says that the sale of a break is not held any more.
var errWithdrawn = fmt.Errorf("%w: its sale was reversed here meanwhile, by which the next comparison resolves it (acquirer reconcile --date D)", ErrAction)

// Who does something, and from where, for the audit log.
type Who struct {
	Name string
	From string // command line, console
}

// Resolve says what becomes of a break. The first person asks; a second one who
// names the same action confirms, and it is booked. Whoever names another action
// begins anew, which Break.Instead and the operators' log say: nobody then has
// confirmed anything. done reports that it is booked; of a terminal's batch, that
// may be said again.
func (e *Engine) Resolve(ctx context.Context, id int64, a Action, note string, who Who, now time.Time) (b Break, done bool, err error) {
	fault.Hit("reconcile.resolve.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		done = false
		open, err := settlement.LockTx(tx)
		if err != nil {
			return err
		}
		if b, err = readBreak(tx, id); err != nil {
			return err
		}
		switch {
		case who.Name == "":
			return fmt.Errorf("%w: say who you are", ErrAction)
		case b.State == Resolved && b.Kind == TerminalBatch && b.Action == a:
			done = true // the upload, which is marked behind this write, may not be
			return nil
		case b.State == Resolved:
			return fmt.Errorf("%w: it was resolved by %s: %s", ErrAction, b.DoneBy, b.Action)
		case !slices.Contains(b.Suggested(), a):
			return fmt.Errorf("%w: break %d (%s, %s) can go to %v, not to %q", ErrAction, b.ID, b.Kind, b.Theirs, b.Suggested(), a)
		}
		ask := audit.Ask{What: string(b.Action), By: b.AskedBy, At: b.Asked}
		second, err := ask.Second(string(a), who.Name, now)
		op, detail := "reconcile resolve", string(a)+" "+note
		switch {
		case err != nil:
			return err
		case !second:
			if b.AskedBy != "" && b.Action != a {
				b.Instead = fmt.Sprintf("%s, which %s had asked for", b.Action, b.AskedBy)
				detail = fmt.Sprintf("%s instead of %s %s", a, b.Instead, note)
			}
			b.Action, b.AskedBy, b.Asked, b.Note = a, ask.By, ask.At, note
			op += " ask"
		default:
			if err := e.book(ctx, tx, &b, max(calendar.DateOf(now), open), now); err != nil {
				return err
			}
			if note != "" {
				b.Note = note
			}
			b.State, b.DoneBy, b.Done, b.Held, done = Resolved, who.Name, now, false, true
		}
		if err := b.update(tx); err != nil {
			return err
		}
		_, err = audit.Record(tx, audit.Entry{Who: who.Name, From: who.From, Op: op, Subject: b.Key, Detail: detail, Result: audit.Done})
		return err
	})
	fault.Hit("reconcile.resolve.after")
	if err != nil {
		return Break{}, false, fmt.Errorf("reconcile: break %d: %w", id, err)
	}
	if done && b.Kind == TerminalBatch && e.cfg.ResolveTerminal != nil {
		var x int64
		if _, err := fmt.Sscanf(b.Key, "terminal/%d", &x); err != nil {
			return b, done, fmt.Errorf("reconcile: break %s names no upload: %w", b.Key, err)
		}
		err = e.cfg.ResolveTerminal(ctx, x, now)
	}
	return b, done, err
}

func readBreak(tx store.Tx, id int64) (Break, error) {
	rows, err := tx.Query("select "+breakColumns+" from recon_break where id = $1 for update", id)
	all, err := store.All(rows, err, scanBreak)
	if err != nil {
		return Break{}, err
	}
	if len(all) == 0 {
		return Break{}, fmt.Errorf("%w: acquirer reconcile list has their numbers", store.ErrNotFound)
	}
	return all[0], nil
}

// book posts what an action means, under keys made from the break.
func (e *Engine) book(ctx context.Context, tx store.Tx, b *Break, date calendar.Date, now time.Time) error {
	wallet := e.wallet(b.Source)
	diff := b.net()
	expect := func(what string, date calendar.Date, by int64) error {
		return settlement.ExpectTx(tx, "recon/"+b.Key+"/"+what, date, wallet, money.Amount(by))
	}
	owe := func() error {
		_, err := settlement.OweTx(tx, "recon/"+b.Key, b.Merchant, diff, 0, string(b.Kind)+" "+b.RRN, now)
		return err
	}
	release := func() error {
		if !b.Held {
			return nil
		}
		l, err := settlement.LineTx(tx, b.line)
		if err != nil {
			return err
		}
		settles, err := settlement.ReleaseTx(tx, b.line, date)
		if err == nil && settles == 0 {
			err = errWithdrawn
		}
		if err != nil {
			return err
		}
		return expect("release", settles, -l.Net().Fen())
	}
	drop := func() error {
		dropped, err := settlement.DropTx(tx, b.line, date)
		if err == nil && !dropped {
			err = errWithdrawn
		}
		return err
	}
	t, books := e.posting(b, b.Action, date)
	post := func() error {
		if !books {
			return nil
		}
		_, err := ledger.PostTx(tx, []ledger.Transfer{t})
		return err
	}
	switch b.Kind {
	case Long, Duplicate, LateReversal, Amount:
		switch {
		case b.Kind == LateReversal && b.Held && b.Action == ToMerchant: // its sale goes back here too
			return errors.Join(drop(), b.backMatched(tx), post())
		case b.Kind == Amount || b.Kind == LateReversal:
			if err := release(); err != nil {
				return err
			}
		}
		switch {
		case diff != 0 && b.Action == ToMerchant:
			return errors.Join(owe(), post())
		case diff > 0: // the network takes it back from what it owes
			return errors.Join(expect("back", date, -diff.Fen()), post())
		}
		return post()
	case Short:
		// It may have been resolved before it was old enough to be in suspense.
		if err := postDifference(tx, b, wallet, date); err != nil {
			return err
		}
		switch {
		case b.Action == ToLoss:
			return errors.Join(release(), post())
		case b.Held:
			return errors.Join(drop(), post())
		}
		return errors.Join(owe(), post())
	}
	return nil
}

// posting is the transfer that ends what a break has in suspense when an action
// is confirmed; false when nothing is booked.
func (e *Engine) posting(b *Break, a Action, date calendar.Date) (t ledger.Transfer, books bool) {
	wallet, diff, merchant := e.wallet(b.Source), b.net(), ""
	if a == ToMerchant {
		merchant = b.Merchant
	}
	switch {
	case (b.Kind == Short || b.Kind == LateReversal) && a == ToMerchant && b.Held: // its line is taken back
		return ledger.ShortFound(b.Key, date, wallet, -diff), true
	case b.Kind == Short:
		return ledger.ShortResolved(b.Key, date, merchant, -diff), true
	case !slices.Contains([]Kind{Long, Duplicate, LateReversal, Amount}, b.Kind) || diff == 0:
		return ledger.Transfer{}, false
	case diff > 0:
		return ledger.LongResolved(b.Key, date, wallet, merchant, diff), true
	}
	return ledger.ShortResolved(b.Key, date, merchant, -diff), true
}

// Suggestion is what can become of a break, and how that is booked.
type Suggestion struct {
	Action  Action `json:"action"`
	Posting string `json:"posting,omitempty"` // like "D2301 / C1101 99.52"; empty when nothing is booked
}

// Suggest lists what can become of a break, the usual first.
func (e *Engine) Suggest(b *Break) []Suggestion {
	var out []Suggestion
	for _, a := range b.Suggested() {
		s := Suggestion{Action: a}
		if t, books := e.posting(b, a, b.Date); books && len(t.Legs) == 2 {
			s.Posting = fmt.Sprintf("D%d / C%d %s", t.Legs[0].Account, t.Legs[1].Account, t.Legs[0].Amount)
		}
		out = append(out, s)
	}
	return out
}

// SignOff signs a compared day: the first person made the reconciliation, a
// second checks it, and in the same write what the day earned is carried
// (settlement.SignedTx). Nothing of the day may be open for people; what waits may
// turn open later, which Day.Reopened says. A difference of the day that is found, turns
// open or is resolved between the two takes the first signature away. signed reports that both have.
func (e *Engine) SignOff(ctx context.Context, date calendar.Date, who Who, now time.Time) (signed bool, err error) {
	fault.Hit("reconcile.sign.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		signed = false
		if _, err := settlement.LockTx(tx); err != nil {
			return err
		}
		var maker, checker string
		var open int
		err := tx.QueryRow("select maker, checker from recon_day where date = $1 for update", date).Scan(&maker, &checker)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: the day was not compared", ErrIncomplete)
		}
		if err != nil {
			return err
		}
		if err := tx.QueryRow("select count(*) from recon_break where date = $1 and state = $2", date, int(Open)).Scan(&open); err != nil {
			return err
		}
		column := "maker = $1, made = $2"
		switch {
		case who.Name == "":
			return fmt.Errorf("%w: say who you are", ErrAction)
		case open > 0:
			return fmt.Errorf("%w: %d breaks of the day are open; resolve them first", ErrAction, open)
		case checker != "":
			return fmt.Errorf("%w: %s and %s have signed it", ErrAction, maker, checker)
		case maker != "" && audit.SamePerson(maker, who.Name):
			return fmt.Errorf("%w: %s has signed it", audit.ErrTwoPeople, maker)
		case maker != "":
			column, signed = "checker = $1, checked = $2", true
		}
		if _, err := tx.Exec("update recon_day set "+column+" where date = $3", who.Name, now.UnixMicro(), date); err != nil {
			return err
		}
		if signed {
			if err := settlement.SignedTx(tx, date, now); err != nil {
				return err
			}
		}
		_, err = audit.Record(tx, audit.Entry{Who: who.Name, From: who.From, Op: "reconcile sign-off", Subject: date.String(), Result: audit.Done})
		return err
	})
	fault.Hit("reconcile.sign.after")
	if err != nil {
		return false, fmt.Errorf("reconcile: signing %s off: %w", date, err)
	}
	return signed, nil
}

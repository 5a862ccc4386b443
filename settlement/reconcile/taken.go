package reconcile

import (
	"context"
	"errors"
	"fmt"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/settlement"
	"acquirer/store"
)

// takenDays is for how many days a matched sale is looked at for having been
// reversed here since.
const takenDays = 7

// takenSince reads the lines of files that were matched with a sale of ours, of one
// of the days, that was taken back here before it was settled. One whose reversal
// is matched too is done.
func (e *Engine) takenSince(tx store.Tx, from, to calendar.Date) (all []theirs, err error) {
	lines, err := settlement.TakenTx(tx, from, to)
	if err != nil {
		return nil, err
	}
	for _, id := range lines {
		rows, err := tx.Query("select "+theirColumns+` from recon_line where ours = $1 and ours <> 0 and state = $2
			and not exists (select 1 from recon_line back where back.ours = $3 and back.ours <> 0 and back.state = $2) order by id`, id, lineMatched, -id)
		found, err := store.All(rows, err, scanTheirs)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// takenBack makes a late reversal of each: the other side had it as a sale when it
// wrote its file, and its reversal comes with a later one. What the network owes is
// what its files say again, since no run has the sale any more.
func (c *comparison) takenBack(ctx context.Context) error {
	fault.Hit("reconcile.taken.before")
	err := c.e.db.Write(ctx, func(tx store.Tx) error {
		if err := c.lock(tx); err != nil {
			return err
		}
		all, err := c.e.takenSince(tx, c.date.AddDays(-takenDays), c.date)
		if err != nil {
			return err
		}
		for i := range all {
			if err := c.unmatch(tx, &all[i]); err != nil {
				return fmt.Errorf("line %d of %s: %w", all[i].n, all[i].source, err)
			}
		}
		return nil
	})
	fault.Hit("reconcile.taken.after")
	return err
}

func (c *comparison) unmatch(tx store.Tx, t *theirs) error {
	l, err := settlement.LineTx(tx, t.ours)
	if err != nil {
		return err
	}
	b, wallet := c.of(LateReversal, t), c.e.wallet(t.source)
	b.Merchant, b.Terminal, b.Detail = l.Merchant, l.Terminal, "reversed here after it was matched; the other side had it as a sale when it wrote its file"
	if l.Date != t.date { // it was to be paid with another day than it settled with
		if err := errors.Join(settlement.ExpectTx(tx, "recon/"+b.Key+"/paid", t.date, wallet, -l.Net()), settlement.ExpectTx(tx, "recon/"+b.Key+"/run", l.Date, wallet, l.Net())); err != nil {
			return err
		}
	}
	if more := t.fee() - l.IssuerFee - l.NetworkFee; more != 0 { // the file's fees counted; with the sale they are gone
		if err := settlement.ExpectTx(tx, "recon/"+b.Key+"/fee", t.date, wallet, more); err != nil {
			return err
		}
		if _, err := ledger.PostTx(tx, []ledger.Transfer{ledger.FeeDifference(c.key("cancelled", t), c.booked, wallet, -more, 0, 0)}); err != nil {
			return err
		}
	}
	return c.add(tx, t, &b)
}

// withdrawn ends what holds a line that was reversed here meanwhile: one that no file
// has, which neither side has then, and one whose reversal the other side had first.
// One that the other side has with another amount is its alone then, and waits for its
// reversal.
func (c *comparison) withdrawn(ctx context.Context) error {
	fault.Hit("reconcile.withdrawn.before")
	err := c.e.db.Write(ctx, func(tx store.Tx) error {
		if err := c.lock(tx); err != nil {
			return err
		}
		rows, err := tx.Query("select " + breakColumns + ` from recon_break where state < 3 and held = 1
			and exists (select 1 from settlement_line l where l.id = recon_break.line and l.run = -1) order by id`)
		all, err := store.All(rows, err, scanBreak)
		if err != nil {
			return err
		}
		for i := range all {
			if err := c.withdraw(tx, &all[i]); err != nil {
				return fmt.Errorf("break %s: %w", all[i].Key, err)
			}
		}
		return nil
	})
	fault.Hit("reconcile.withdrawn.after")
	return err
}

func (c *comparison) withdraw(tx store.Tx, b *Break) error {
	wallet := c.e.wallet(b.Source)
	if b.Kind != Short || b.State == Open {
		if _, err := ledger.PostTx(tx, outOfSuspense(b, c.booked, wallet)); err != nil {
			return err
		}
	}
	if b.Kind == LateReversal {
		if err := b.backMatched(tx); err != nil {
			return err
		}
	}
	if b.Kind == Amount {
		rows, err := tx.Query("select "+theirColumns+" from recon_line where id = $1", b.their)
		theirs, err := store.All(rows, err, scanTheirs)
		if err != nil {
			return err
		}
		if len(theirs) != 1 {
			return errors.New("the line of their file is not there")
		}
		t := &theirs[0]
		late := c.of(LateReversal, t)
		late.Merchant, late.Terminal, late.Detail = b.Merchant, b.Terminal, "reversed here; the other side had it as a sale, with another amount, when it wrote its file"
		if err := errors.Join(settlement.ExpectTx(tx, "recon/"+b.Key+"/withdrawn", t.date, wallet, -t.settles()), c.add(tx, t, &late)); err != nil {
			return err
		}
	}
	b.resolve(Accept, "rule: reversed here since", c.now)
	return b.update(tx)
}

// backMatched marks the other side's reversal as one that we have too.
func (b *Break) backMatched(tx store.Tx) error {
	_, err := tx.Exec("update recon_line set state = $1 where id = $2", lineMatched, b.their)
	return err
}

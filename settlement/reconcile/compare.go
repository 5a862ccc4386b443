package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
)

// Compare compares a business date with the files that came for it. It may be
// run again at any time, also after it was interrupted: what was compared stays
// as it is. ErrIncomplete when files of the date are missing, ErrEarly and
// ErrUndecided of settlement while more may be sold on it: what came behind the
// comparison would be settled though no file has it.
func (e *Engine) Compare(ctx context.Context, date calendar.Date, now time.Time) (Day, error) {
	if err := e.cfg.Books.Whole(ctx, date, now); err != nil {
		return Day{}, fmt.Errorf("reconcile: %s cannot be compared yet: %w", date, err)
	}
	if _, err := e.cfg.Books.CatchUp(ctx); err != nil {
		return Day{}, err
	}
	var missing []string
	if err := e.db.Read(ctx, func(tx store.Tx) (err error) {
		missing, err = e.missing(tx, date)
		return err
	}); err != nil {
		return Day{}, fmt.Errorf("reconcile: looking for the files of %s: %w", date, err)
	}
	if len(missing) > 0 {
		return Day{}, fmt.Errorf("%w: of %s for %s: put them into the folder of clearing.inbox, or load them (acquirer reconcile load)", ErrIncomplete, strings.Join(missing, ", "), date)
	}
	due, err := calendar.Chinese().AddWorkingDays(date, e.cfg.Age)
	if err != nil {
		return Day{}, err
	}
	c := &comparison{e: e, date: date, due: due, now: now}
	for _, step := range []func(context.Context) error{c.withdrawn, c.takenBack, c.files, c.lines, c.bank, c.terminals, c.receipts, c.again, c.age, c.day} {
		if err := step(ctx); err != nil {
			return Day{}, fmt.Errorf("reconcile: comparing %s: %w", date, err)
		}
	}
	return e.Day(ctx, date)
}

// comparison is one date being compared.
type comparison struct {
	e       *Engine
	date    calendar.Date
	due     calendar.Date // until which an item may wait for a later file
	now     time.Time
	matched int64
	booked  calendar.Date // what is found is booked on: the date, or the open one when the date is closed
}

// lock keeps closing and booking out, and says on which date is booked.
func (c *comparison) lock(tx store.Tx) error {
	open, err := settlement.LockTx(tx)
	c.booked = max(c.date, open)
	return err
}

// files goes through the lines of the date's files that were not compared yet.
func (c *comparison) files(ctx context.Context) error {
	for {
		n := 0
		fault.Hit("reconcile.theirs.before")
		err := c.e.db.Write(ctx, func(tx store.Tx) error {
			if err := c.lock(tx); err != nil {
				return err
			}
			rows, err := tx.Query("select "+theirColumns+` from recon_line where state = 1 and file in (select id from recon_file where date = $1 and state = $2) order by file, n limit $3`,
				c.date, fileLoaded, loadBatch)
			page, err := store.All(rows, err, scanTheirs)
			if err != nil {
				return err
			}
			n = len(page)
			for i := range page {
				t := &page[i]
				// One that cancelled another of this page out is done already.
				if err := tx.QueryRow("select state from recon_line where id = $1", t.id).Scan(&t.state); err != nil {
					return err
				}
				if t.state != lineNew {
					continue
				}
				if t.source == Bank {
					err = c.movement(tx, t)
				} else {
					err = c.theirs(ctx, tx, t)
				}
				if err != nil {
					return fmt.Errorf("line %d of %s: %w", t.n, t.source, err)
				}
			}
			return nil
		})
		fault.Hit("reconcile.theirs.after")
		if err != nil || n == 0 {
			return err
		}
	}
}

func (c *comparison) mark(tx store.Tx, t *theirs, state int) error {
	t.state = state
	_, err := tx.Exec("update recon_line set state = $1, ours = $2 where id = $3", state, t.ours, t.id)
	return err
}

// find is the line of ours that t is about; false when there is none that
// counts.
func (c *comparison) find(tx store.Tx, t *theirs) (l settlement.Line, found bool, err error) {
	if t.ours == 0 {
		return l, false, nil
	}
	l, err = settlement.LineTx(tx, t.ours)
	if errors.Is(err, store.ErrNotFound) && t.kind == clearing.Reversal && c.e.wallet(t.source) != "" {
		// A wallet's money that went back has its payment's number; here it may
		// be a void, which has one of its own.
		followers, err := settlement.FollowersTx(tx, -t.ours)
		if err != nil {
			return l, false, err
		}
		for _, f := range followers {
			taken, err := c.taken(tx, t, f.ID)
			if err != nil {
				return l, false, err
			}
			if f.Amount == t.amount && f.State != settlement.LineTaken && !taken {
				t.ours = f.ID
				return f, true, nil
			}
		}
		return l, false, nil
	}
	if errors.Is(err, store.ErrNotFound) {
		return l, false, nil
	}
	if err == nil && c.elsewhere(t, &l) {
		t.ours = 0 // it is not ours, and must not stand in the way of the one that is
		return settlement.Line{}, false, nil
	}
	return l, err == nil && l.State != settlement.LineTaken && l.Issuer == t.source, err
}

// elsewhere reports whether a network has our number at another terminal than
// we: that is another sale. What wallets call a terminal is not always ours.
func (c *comparison) elsewhere(t *theirs, l *settlement.Line) bool {
	theirs, ours := strings.TrimSpace(t.terminal), strings.TrimSpace(l.Terminal)
	return c.e.wallet(t.source) == "" && theirs != "" && ours != "" && theirs != ours
}

// taken reports whether another line of the source was matched with ours.
func (c *comparison) taken(tx store.Tx, t *theirs, ours int64) (bool, error) {
	var n int
	err := tx.QueryRow("select count(*) from recon_line where ours = $1 and ours <> 0 and source = $2 and state in (2, 3) and id <> $3", ours, t.source, t.id).Scan(&n)
	return n > 0, err
}

// theirs compares one line of a network's file or a wallet's bill.
func (c *comparison) theirs(ctx context.Context, tx store.Tx, t *theirs) error {
	named := t.ours
	l, found, err := c.find(tx, t)
	if err != nil {
		return err
	}
	if named != 0 && t.ours == 0 {
		b := c.of(Long, t)
		b.Detail = "here the number is that of another terminal's sale"
		return c.add(tx, t, &b)
	}
	twice, err := c.taken(tx, t, t.ours)
	if err != nil {
		return err
	}
	switch {
	case found && twice, !found && twice && t.kind != clearing.Reversal:
		return c.duplicate(tx, t, &l)
	case found:
		return c.match(tx, t, &l)
	}
	if done, err := c.cancelled(tx, t); err != nil || done {
		return err
	}
	if t.kind == clearing.Reversal {
		return c.reversal(tx, t)
	}
	return c.long(ctx, tx, t)
}

// cancelled matches a payment that nobody here has with the line of the same
// file that takes it back.
func (c *comparison) cancelled(tx store.Tx, t *theirs) (bool, error) {
	if t.ours == 0 {
		return false, nil
	}
	rows, err := tx.Query("select "+theirColumns+" from recon_line where ours = $1 and file = $2 and amount = $3 and state = 1 order by n limit 1", -t.ours, t.file, -t.amount)
	pair, err := store.All(rows, err, scanTheirs)
	if err != nil || len(pair) == 0 {
		return false, err
	}
	sale := t.ours
	if t.kind == clearing.Reversal {
		sale = -t.ours
	}
	switch l, err := settlement.LineTx(tx, sale); {
	case err == nil && l.State != settlement.LineTaken:
		return false, nil // it stands here: the reversal is news
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return false, err
	}
	if t.settles()+pair[0].settles() != 0 {
		if err := settlement.ExpectTx(tx, c.key("cancelled", t), t.date, c.e.wallet(t.source), t.settles()+pair[0].settles()); err != nil {
			return false, err
		}
		if _, err := ledger.PostTx(tx, []ledger.Transfer{ledger.FeeDifference(c.key("cancelled", t), c.booked, c.e.wallet(t.source), t.issuer+pair[0].issuer, t.net+pair[0].net, t.brd+pair[0].brd)}); err != nil {
			return false, err
		}
	}
	return true, errors.Join(c.mark(tx, t, lineMatched), c.mark(tx, &pair[0], lineMatched))
}

// key names what is booked for a line: kind, source, date, which of the day's
// files where there are several, and line.
func (c *comparison) key(what string, t *theirs) string {
	if t.part != "" {
		return fmt.Sprintf("%s/%s/%s/%s/%d", what, t.source, t.date, t.part, t.n)
	}
	return fmt.Sprintf("%s/%s/%s/%d", what, t.source, t.date, t.n)
}

// match compares what both sides have.
func (c *comparison) match(tx store.Tx, t *theirs, l *settlement.Line) error {
	wallet := c.e.wallet(t.source)
	short, err := breakOfLine(tx, l.ID)
	if err != nil {
		return err
	}
	if short != nil && short.Kind != Short {
		short = nil
	}
	if short == nil {
		if done, err := c.afterAll(tx, t, l); err != nil || done {
			return err
		}
	}
	if l.Amount != t.amount {
		return c.amount(tx, t, l, short)
	}
	if short != nil {
		return errors.Join(c.found(tx, t, l, short), c.fees(tx, t, l))
	}
	settles := l.Date
	if l.Run != 0 {
		if settles, err = settlement.RunDateTx(tx, l.Run); err != nil {
			return err
		}
	}
	// What the network pays with another day than the one it settles with here.
	if settles != t.date {
		key := fmt.Sprintf("recon/shift/%s/%d", t.source, l.ID)
		if err := errors.Join(settlement.ExpectTx(tx, key+"/paid", t.date, wallet, l.Net()), settlement.ExpectTx(tx, key+"/run", settles, wallet, -l.Net())); err != nil {
			return err
		}
	}
	return c.fees(tx, t, l)
}

// afterAll takes a line that people had given up as short, and that a file brings
// now. What was written off stands again, and is compared as if it had never been short.
// What the merchant gave back is long: people give it to the merchant again, done.
func (c *comparison) afterAll(tx store.Tx, t *theirs, l *settlement.Line) (done bool, err error) {
	rows, err := tx.Query("select "+breakColumns+" from recon_break where line = $1 and line <> 0 and state = $2 and kind = $3 and action in ($4, $5)", l.ID, int(Resolved), string(Short), string(ToLoss), string(ToMerchant))
	given, err := store.All(rows, err, scanBreak)
	if err != nil || len(given) == 0 {
		return false, err
	}
	old, wallet := &given[0], c.e.wallet(t.source)
	if old.Action == ToMerchant {
		b := c.of(Long, t)
		b.State, b.Due, b.line, b.Merchant, b.Terminal = Open, 0, 0, l.Merchant, l.Terminal
		b.Detail = "the merchant bore it as " + old.Key
		return true, c.add(tx, t, &b)
	}
	settles := l.Date
	if l.Run != 0 {
		if settles, err = settlement.RunDateTx(tx, l.Run); err != nil {
			return false, err
		}
	}
	if _, err := ledger.PostTx(tx, []ledger.Transfer{ledger.ShortRecovered(old.Key, c.booked, wallet, -old.net())}); err != nil {
		return false, err
	}
	old.Note = strings.TrimPrefix(old.Note+"; in the file of "+t.date.String()+" after all", "; ")
	return false, errors.Join(settlement.ExpectTx(tx, "recon/"+old.Key+"/recovered", settles, wallet, l.Net()), old.update(tx))
}

// amount makes a break of a line that both have with different amounts. Its
// money comes with the file's day as the file has it. short is the break that
// the line had because no file had it at all.
func (c *comparison) amount(tx store.Tx, t *theirs, l *settlement.Line, short *Break) error {
	wallet := c.e.wallet(t.source)
	b := c.of(Amount, t)
	b.line, b.Ours, b.OurFee, b.Merchant, b.Terminal = l.ID, l.Amount, l.IssuerFee+l.NetworkFee, l.Merchant, l.Terminal
	b.State, b.Due = Open, 0
	b.Detail = fmt.Sprintf("%s here, %s there", l.Amount, t.amount)
	if b.Held = l.State == settlement.LineHeld; !b.Held {
		var err error
		if b.Held, err = settlement.HoldTx(tx, l.ID); err != nil {
			return err
		}
	}
	expect := t.settles()
	switch {
	case short != nil:
		if short.State == Open || !short.Held {
			if _, err := ledger.PostTx(tx, []ledger.Transfer{ledger.ShortFound(short.Key, c.booked, wallet, -short.net())}); err != nil {
				return err
			}
		}
		short.resolve(ByFile, "it came with the file of "+t.date.String()+", with another amount", c.now)
		if err := short.update(tx); err != nil {
			return err
		}
	case !b.Held:
		expect -= l.Net() // the run has it
	}
	return errors.Join(settlement.ExpectTx(tx, "recon/"+b.Key, t.date, wallet, expect), c.difference(tx, &b, wallet), c.mark(tx, t, lineBreak), b.insert(tx))
}

// fees books by how much the file's fees differ; the file's own count.
func (c *comparison) fees(tx store.Tx, t *theirs, l *settlement.Line) error {
	more := t.fee() - l.IssuerFee - l.NetworkFee
	if more == 0 {
		return c.mark(tx, t, lineMatched)
	}
	wallet := c.e.wallet(t.source)
	b := c.of(Fee, t)
	b.line, b.Ours, b.OurFee, b.Merchant, b.Terminal, b.Due = l.ID, l.Amount, l.IssuerFee+l.NetworkFee, l.Merchant, l.Terminal, 0
	b.Detail = fmt.Sprintf("fees of %s here, %s there", b.OurFee, b.TheirFee)
	b.State = Open
	if more <= c.e.cfg.FeeLimit && more >= -c.e.cfg.FeeLimit {
		b.resolve(Accept, "rule: fees up to "+c.e.cfg.FeeLimit.String(), c.now)
	}
	issuer, network := t.issuer-l.IssuerFee, t.net-l.NetworkFee
	if t.net == 0 && t.brd == 0 { // a file that names one fee
		issuer, network = more, 0
	}
	if _, err := ledger.PostTx(tx, []ledger.Transfer{ledger.FeeDifference(b.Key, c.booked, wallet, issuer, network, t.brd)}); err != nil {
		return err
	}
	return errors.Join(settlement.ExpectTx(tx, "recon/"+b.Key, t.date, wallet, -more), c.mark(tx, t, lineMatched), b.insert(tx))
}

// of begins a break of a line of a file; it waits.
func (c *comparison) of(k Kind, t *theirs) Break {
	return Break{ID: store.NewID(), Key: c.key(string(k), t), Kind: k, Source: t.source, Date: c.date, RRN: t.rrn, Merchant: t.merchant, Terminal: t.terminal,
		Theirs: t.amount, TheirFee: t.fee(), State: Waiting, Due: c.due, Found: c.now, their: t.id, line: t.ours}
}

// difference books what a break settles more, or less, into suspense.
func (c *comparison) difference(tx store.Tx, b *Break, wallet string) error {
	return postDifference(tx, b, wallet, c.booked)
}

func postDifference(tx store.Tx, b *Break, wallet string, date calendar.Date) error {
	t := ledger.LongItem(b.Key, date, wallet, b.net())
	switch net := b.net(); {
	case net == 0:
		return nil
	case net < 0:
		t = ledger.ShortItem(b.Key, date, wallet, -net)
	}
	_, err := ledger.PostTx(tx, []ledger.Transfer{t})
	return err
}

// outOfSuspense takes back what postDifference booked: the receivable has it again.
func outOfSuspense(b *Break, date calendar.Date, wallet string) []ledger.Transfer {
	switch net := b.net(); {
	case net > 0:
		return []ledger.Transfer{ledger.LongResolved(b.Key, date, wallet, "", net)}
	case net < 0:
		return []ledger.Transfer{ledger.ShortFound(b.Key, date, wallet, -net)}
	}
	return nil
}

// long is money that only the other side has.
func (c *comparison) long(ctx context.Context, tx store.Tx, t *theirs) error {
	seen := Nothing
	if c.e.cfg.Journal != nil {
		var err error
		if seen, err = c.e.cfg.Journal(ctx, t.rrn); err != nil {
			return err
		}
	}
	b := c.of(Long, t)
	b.Detail = "the journal has it as " + string(seen)
	switch seen {
	case WasReversed:
		b = c.of(LateReversal, t)
		b.Detail = "reversed here; the other side had it as a sale when it wrote its file"
	case Nothing:
		b.Detail = "the journal has nothing of it"
	}
	return c.add(tx, t, &b)
}

// add books a break of the other side's alone: its money comes with the file's
// day and waits in suspense.
func (c *comparison) add(tx store.Tx, t *theirs, b *Break) error {
	wallet := c.e.wallet(t.source)
	return errors.Join(c.difference(tx, b, wallet), settlement.ExpectTx(tx, "recon/"+b.Key, t.date, wallet, t.settles()), c.mark(tx, t, lineBreak), b.insert(tx))
}

func (c *comparison) duplicate(tx store.Tx, t *theirs, l *settlement.Line) error {
	b := c.of(Duplicate, t)
	b.State, b.Due, b.line, b.Detail = Open, 0, 0, "the other side has the number twice"
	if l.Merchant != "" {
		b.Merchant, b.Terminal = l.Merchant, l.Terminal
	}
	return c.add(tx, t, &b)
}

// reversal takes back what an earlier file had. When that one waits as a break,
// both are done; when its sale stands here, we have not heard of it.
func (c *comparison) reversal(tx store.Tx, t *theirs) error {
	rows, err := tx.Query("select "+breakColumns+" from recon_break where state < 3 and source = $1 and rrn = $2 and kind in ($3, $4) and theirs = $5 order by id limit 1",
		t.source, t.rrn, Long, LateReversal, -t.amount)
	waiting, err := store.All(rows, err, scanBreak)
	if err != nil {
		return err
	}
	if len(waiting) == 1 {
		b := &waiting[0]
		wallet := c.e.wallet(t.source)
		if err := settlement.ExpectTx(tx, "recon/"+b.Key+"/back", t.date, wallet, t.settles()); err != nil {
			return err
		}
		transfers := []ledger.Transfer{ledger.LongResolved(b.Key, c.booked, wallet, "", b.net())}
		if rest := b.net() + t.settles(); rest != 0 { // fees that stay with the network
			transfers = append(transfers, ledger.FeeDifference(b.Key, c.booked, wallet, -rest, 0, 0))
		}
		if _, err := ledger.PostTx(tx, transfers); err != nil {
			return err
		}
		b.resolve(ByFile, "its reversal came with the file of "+t.date.String(), c.now)
		return errors.Join(c.mark(tx, t, lineMatched), b.update(tx))
	}
	b := c.of(LateReversal, t)
	b.State, b.Due, b.Detail = Open, 0, "reversed there; here its sale stands"
	if t.ours != 0 {
		if err := c.holdSale(tx, t, &b); err != nil {
			return err
		}
	}
	return c.add(tx, t, &b)
}

// holdSale keeps the sale that t takes back out of payouts, if it waits for one: the
// network will not pay for it. The run that would have it then expects nothing of it.
func (c *comparison) holdSale(tx store.Tx, t *theirs, b *Break) error {
	l, err := settlement.LineTx(tx, -t.ours)
	if errors.Is(err, store.ErrNotFound) || err == nil && (l.State != settlement.LineWaits || l.Issuer != t.source || l.Amount != -t.amount) {
		return nil
	}
	if err != nil {
		return err
	}
	if b.Held, err = settlement.HoldTx(tx, l.ID); err != nil || !b.Held {
		return err
	}
	b.line, b.Merchant, b.Terminal = l.ID, l.Merchant, l.Terminal
	return settlement.ExpectTx(tx, "recon/"+b.Key+"/run", l.Date, c.e.wallet(t.source), l.Net())
}

// found ends the break of a line that a later file brought: it settles with
// that file's day.
func (c *comparison) found(tx store.Tx, t *theirs, l *settlement.Line, b *Break) error {
	wallet := c.e.wallet(t.source)
	if b.State == Open || !b.Held { // it is in suspense
		if _, err := ledger.PostTx(tx, []ledger.Transfer{ledger.ShortFound(b.Key, c.booked, wallet, -b.net())}); err != nil {
			return err
		}
	}
	if b.Held {
		settles, err := settlement.ReleaseTx(tx, l.ID, t.date)
		if err != nil {
			return err
		}
		if settles != t.date && settles != 0 {
			if err := settlement.ExpectTx(tx, "recon/"+b.Key+"/run", settles, wallet, -l.Net()); err != nil {
				return err
			}
		}
		if settles != t.date {
			if err := settlement.ExpectTx(tx, "recon/"+b.Key+"/paid", t.date, wallet, l.Net()); err != nil {
				return err
			}
		}
		l.State, l.Date = settlement.LineWaits, settles
	} else if err := settlement.ExpectTx(tx, "recon/"+b.Key+"/paid", t.date, wallet, l.Net()); err != nil {
		return err
	}
	b.resolve(ByFile, "it came with the file of "+t.date.String(), c.now)
	return b.update(tx)
}

// lines goes through our lines of the date and looks for those that no file
// has.
func (c *comparison) lines(ctx context.Context) error {
	var page []settlement.Line
	flush := func() error {
		if len(page) == 0 {
			return nil
		}
		matched := c.matched
		fault.Hit("reconcile.ours.before")
		err := c.e.db.Write(ctx, func(tx store.Tx) error {
			c.matched = matched // it may run again
			if err := c.lock(tx); err != nil {
				return err
			}
			for i := range page {
				if err := c.line(tx, &page[i]); err != nil {
					return fmt.Errorf("our line %s: %w", page[i].RRN, err)
				}
			}
			return nil
		})
		fault.Hit("reconcile.ours.after")
		page = page[:0]
		return err
	}
	for l, err := range c.e.cfg.Books.Lines(ctx, c.date) {
		if err != nil {
			return err
		}
		if !c.e.knows(l.Issuer) {
			continue
		}
		known := 0
		if err := c.e.db.Read(ctx, func(tx store.Tx) error {
			return tx.QueryRow("select count(*) from recon_line where ours = $1 and ours <> 0 and source = $2 and state = 2", l.ID, l.Issuer).Scan(&known)
		}); err != nil {
			return err
		}
		if known > 0 {
			c.matched++
			continue
		}
		if page = append(page, l); len(page) == loadBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// line is one that no file has, unless an earlier file brought it too soon.
func (c *comparison) line(tx store.Tx, l *settlement.Line) error {
	now, err := settlement.LineTx(tx, l.ID)
	if err != nil || now.State != settlement.LineWaits && now.State != settlement.LineSettled {
		return err
	}
	if b, err := breakOfLine(tx, l.ID); err != nil {
		return err
	} else if b != nil {
		if b.Kind != Long && b.Kind != LateReversal || b.Theirs != l.Amount {
			return nil // it is known
		}
		// An earlier file had it, the sale or its reversal, and its money came, or went,
		// with that file's day.
		wallet := c.e.wallet(l.Issuer)
		if _, err := ledger.PostTx(tx, outOfSuspense(b, c.booked, wallet)); err != nil {
			return err
		}
		if fee := b.TheirFee - l.IssuerFee - l.NetworkFee; fee != 0 {
			if _, err := ledger.PostTx(tx, []ledger.Transfer{ledger.FeeDifference(b.Key, c.booked, wallet, fee, 0, 0)}); err != nil {
				return err
			}
		}
		if err := settlement.ExpectTx(tx, "recon/"+b.Key+"/run", c.date, wallet, -l.Net()); err != nil {
			return err
		}
		if _, err := tx.Exec("update recon_line set state = $1, ours = $2 where id = $3", lineMatched, l.ID, b.their); err != nil {
			return err
		}
		c.matched++
		b.resolve(ByFile, "the file of "+b.Date.String()+" had it before we booked it", c.now)
		return b.update(tx)
	}
	// People may have let it settle though no file has it, or not so.
	known := 0
	if err := tx.QueryRow(`select (select count(*) from recon_line where ours = $1 and ours <> 0 and source = $2 and state in (2, 3)) +
		(select count(*) from recon_break where line = $1 and line <> 0 and source = $2 and kind = $3 and action <> $4)`, l.ID, l.Issuer, string(Short), string(ByFile)).Scan(&known); err != nil || known > 0 {
		return err
	}
	b := Break{ID: store.NewID(), Key: "short/" + l.Issuer + "/" + strconv.FormatInt(l.ID, 10), Kind: Short, Source: l.Issuer, Date: c.date, RRN: l.RRN,
		Merchant: l.Merchant, Terminal: l.Terminal, Ours: l.Amount, OurFee: l.IssuerFee + l.NetworkFee, State: Waiting, Due: c.due, Found: c.now, line: l.ID,
		Detail: "no file has it"}
	if b.Held, err = settlement.HoldTx(tx, l.ID); err != nil {
		return err
	}
	if !b.Held { // paid already, by a run during the day
		b.Detail = "no file has it, and it is paid already"
		wallet := c.e.wallet(l.Issuer)
		if err := errors.Join(postDifference(tx, &b, wallet, c.booked), settlement.ExpectTx(tx, "recon/"+b.Key, c.date, wallet, -l.Net())); err != nil {
			return err
		}
	}
	return b.insert(tx)
}

// terminals makes breaks of what terminals' batches say otherwise.
func (c *comparison) terminals(ctx context.Context) error {
	if c.e.cfg.Terminals == nil {
		return nil
	}
	all, err := c.e.cfg.Terminals(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	fault.Hit("reconcile.terminals.before")
	err = c.e.db.Write(ctx, func(tx store.Tx) error {
		for _, x := range all {
			if x.Date > c.date {
				continue
			}
			b := Break{ID: store.NewID(), Key: "terminal/" + strconv.FormatInt(x.ID, 10), Kind: TerminalBatch, Source: "terminal", Date: c.date, RRN: x.RRN,
				Merchant: x.Merchant, Terminal: x.Terminal, Theirs: x.Amount, Detail: x.What, State: Open, Found: c.now, line: 0, their: 0}
			if err := b.insert(tx); err != nil {
				return err
			}
		}
		return nil
	})
	fault.Hit("reconcile.terminals.after")
	return err
}

// age hands what has waited long enough to people; a sale that never came is
// in suspense from then on.
func (c *comparison) age(ctx context.Context) error {
	for {
		n := 0
		fault.Hit("reconcile.age.before")
		err := c.e.db.Write(ctx, func(tx store.Tx) error {
			if err := c.lock(tx); err != nil {
				return err
			}
			rows, err := tx.Query("select "+breakColumns+" from recon_break where state = 1 and due < $1 order by id limit $2", c.date, loadBatch)
			old, err := store.All(rows, err, scanBreak)
			if err != nil {
				return err
			}
			n = len(old)
			for i := range old {
				b := &old[i]
				if b.Kind == Short && b.Held {
					if err := c.difference(tx, b, c.e.wallet(b.Source)); err != nil {
						return err
					}
				}
				b.State = Open
				if err := b.update(tx); err != nil {
					return err
				}
			}
			return nil
		})
		fault.Hit("reconcile.age.after")
		if err != nil || n < loadBatch {
			return err
		}
	}
}

// day records that the date was compared, and with it its files: a comparison
// that did not come to here is due again.
func (c *comparison) day(ctx context.Context) error {
	fault.Hit("reconcile.day.before")
	err := c.e.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(`update recon_file set state = $1 where date = $2 and state = $3
			and not exists (select 1 from recon_line where file = recon_file.id and state = $4)`, fileCompared, c.date, fileLoaded, lineNew); err != nil {
			return err
		}
		var theirs int64
		if err := tx.QueryRow("select cast(coalesce(sum(lines), 0) as BIGINT) from recon_file where date = $1 and state > $2", c.date, fileLoading).Scan(&theirs); err != nil {
			return err
		}
		// What is held is in no run: it is counted by its breaks.
		var apart int64
		if err := tx.QueryRow("select count(*) from recon_break where date = $1 and kind in ($2, $3)", c.date, string(Short), string(Amount)).Scan(&apart); err != nil {
			return err
		}
		_, err := tx.Exec(`insert into recon_day (date, compared, ours, theirs, matched, maker, made, checker, checked) values ($1,$2,$3,$4,$5,'',0,'',0)
			on conflict (date) do update set compared = excluded.compared, ours = excluded.ours, theirs = excluded.theirs, matched = excluded.matched`,
			c.date, c.now.UnixMicro(), c.matched+apart, theirs, c.matched)
		return err
	})
	fault.Hit("reconcile.day.after")
	return err
}

// breakOfLine is the break of one of our lines that is not resolved; nil when
// there is none.
func breakOfLine(tx store.Tx, line int64) (*Break, error) {
	rows, err := tx.Query("select "+breakColumns+" from recon_break where line = $1 and line <> 0 and state < 3 and kind in ($2, $3, $4, $5) order by id limit 1", line, Short, Long, Amount, LateReversal)
	all, err := store.All(rows, err, scanBreak)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// unsigned takes the first signature of the break's day away: a second person
// would sign for more than the first one saw.
func (b *Break) unsigned(tx store.Tx) error {
	_, err := tx.Exec("update recon_day set maker = '', made = 0 where date = $1 and maker <> '' and checker = ''", b.Date)
	return err
}

// insert writes a break that was not known before.
func (b *Break) insert(tx store.Tx) error {
	n, err := tx.Exec("insert into recon_break ("+breakColumns+") values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25) on conflict (key) do nothing",
		b.ID, b.Key, string(b.Kind), b.Source, b.Date, b.RRN, b.line, b.their, b.Merchant, b.Terminal, b.Ours, b.Theirs, b.OurFee, b.TheirFee, b.Detail, b.Held,
		int(b.State), b.Due, string(b.Action), b.Note, b.AskedBy, store.Micros(b.Asked), b.DoneBy, b.Found.UnixMicro(), store.Micros(b.Done))
	if err != nil || n == 0 {
		return err
	}
	return b.unsigned(tx)
}

// update writes what changes of a break.
func (b *Break) update(tx store.Tx) error {
	_, err := tx.Exec("update recon_break set state = $1, action = $2, note = $3, asked_by = $4, asked = $5, done_by = $6, done = $7, held = $8 where id = $9",
		int(b.State), string(b.Action), b.Note, b.AskedBy, store.Micros(b.Asked), b.DoneBy, store.Micros(b.Done), b.Held, b.ID)
	if err != nil {
		return err
	}
	return b.unsigned(tx)
}

// resolve ends a break by a rule.
func (b *Break) resolve(a Action, rule string, now time.Time) {
	b.State, b.Action, b.Note, b.DoneBy, b.Done, b.Held = Resolved, a, rule, "rule", now, false
}

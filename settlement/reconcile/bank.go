package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
)

// movement compares one movement of a bank's statement with our payouts and
// receipts.
func (c *comparison) movement(tx store.Tx, t *theirs) error {
	n, err := movements(tx, t.rrn, t.kind, t.id)
	if err != nil {
		return err
	}
	var message settlement.Message // what t pays: of one payout, or all of a message
	if message, err = messageOf(tx, t); err != nil {
		return err
	}
	for _, p := range message.Payouts {
		other := 0
		if t.kind == kindPayout {
			other, err = movements(tx, message.ID, kindBatch, 0)
		} else {
			other, err = movements(tx, p.Ref, kindPayout, 0)
		}
		if err != nil {
			return err
		}
		n += other
	}
	b, err := c.judge(tx, t)
	if err != nil {
		return err
	}
	if n > 0 && t.kind != kindReceipt {
		b = c.ofBank(PayoutLong, t)
		b.State, b.Due, b.Detail = Open, 0, "the bank has it twice"
	}
	if b != nil {
		return errors.Join(c.mark(tx, t, lineBreak), b.insert(tx))
	}
	for _, p := range message.Payouts {
		if err := c.arrived(tx, "payout_short/"+p.Ref, t); err != nil {
			return err
		}
	}
	return c.mark(tx, t, lineMatched)
}

// movements counts what statements have of a reference and was compared, but for
// one line.
func movements(tx store.Tx, ref string, kind clearing.Kind, but int64) (n int, err error) {
	if ref == "" {
		return 0, nil
	}
	err = tx.QueryRow("select count(*) from recon_line where rrn = $1 and ours = 0 and source = $2 and kind = $3 and state in (2, 3) and id <> $4", ref, Bank, string(kind), but).Scan(&n)
	return n, err
}

// messageOf is what a movement pays: all orders of a message of ours, or the one
// payout and the message that it went out in, if it went out in one.
func messageOf(tx store.Tx, t *theirs) (m settlement.Message, err error) {
	switch t.kind {
	case kindBatch:
		if m, err = settlement.MessageTx(tx, t.rrn); errors.Is(err, store.ErrNotFound) {
			err = nil
		}
	case kindPayout:
		m.Payouts = []settlement.Sent{{Ref: t.rrn}}
		m.ID, err = settlement.MessageOfTx(tx, t.rrn)
	}
	return m, err
}

// batch judges a sum over a message of ours: what was not refused of it must
// come to that.
func (c *comparison) batch(tx store.Tx, t *theirs) (*Break, error) {
	m, err := settlement.MessageTx(tx, t.rrn)
	b := c.ofBank(PayoutLong, t)
	switch {
	case errors.Is(err, store.ErrNotFound):
		b.State, b.Due, b.Detail = Open, 0, "nobody sent a message of that name"
		return b, nil
	case err != nil:
		return nil, err
	}
	stands, unpaid := 0, 0
	for _, p := range m.Payouts {
		if p.State == settlement.Failed {
			continue
		}
		stands, b.Ours = stands+1, b.Ours+p.Amount
		if p.State != settlement.Paid && p.State != settlement.CameBack {
			unpaid++
		}
	}
	switch {
	case t.orders != 0 && t.orders != stands, t.amount != b.Ours:
		b.Detail = fmt.Sprintf("one sum of %s for %d orders; of the message's %d orders %d stand, of %s", t.amount, t.orders, len(m.Payouts), stands, b.Ours)
	case unpaid > 0:
		b.Detail = fmt.Sprintf("the bank paid it, and %d of its %d payouts are not paid here", unpaid, stands)
	default:
		return nil, nil
	}
	return b, nil
}

// ofBank begins a break of a movement; it waits for what we may learn later.
func (c *comparison) ofBank(k Kind, t *theirs) *Break {
	b := c.of(k, t)
	return &b
}

// judge says what is wrong with a movement as things stand; nil when nothing
// is.
func (c *comparison) judge(tx store.Tx, t *theirs) (*Break, error) {
	if t.kind == kindReceipt {
		booked, err := settlement.CameTx(tx, t.rrn)
		switch {
		case err != nil:
			return nil, err
		case len(booked) == 0:
			switch p, err := settlement.SentTx(tx, t.rrn); {
			case err == nil && p.State == settlement.CameBack:
				return nil, nil // the bank did not say that it is a return; its reference does
			case err != nil && !errors.Is(err, store.ErrNotFound):
				return nil, err
			}
			b := c.ofBank(ReceiptLong, t)
			b.Detail = "it came, and nobody booked it"
			return b, nil
		case !slices.Contains(booked, t.amount):
			b := c.ofBank(ReceiptLong, t)
			if booked[0] > t.amount {
				b.Kind = ReceiptShort
			}
			b.State, b.Due, b.Ours, b.Detail = Open, 0, booked[0], fmt.Sprintf("%s was booked, %s came", booked[0], t.amount)
			return b, nil
		}
		return nil, nil
	}
	if t.kind == kindBatch {
		return c.batch(tx, t)
	}
	p, err := settlement.SentTx(tx, t.rrn)
	switch {
	case errors.Is(err, store.ErrNotFound):
		b := c.ofBank(PayoutLong, t)
		b.State, b.Due, b.Detail = Open, 0, "nobody ordered it"
		return b, nil
	case err != nil:
		return nil, err
	}
	b := c.ofBank(PayoutLong, t)
	b.Merchant, b.Ours = p.Merchant, p.Amount
	switch {
	case t.kind == kindReturn && p.State == settlement.CameBack:
		return nil, nil
	case t.kind == kindReturn:
		b.Kind, b.Detail = ReceiptLong, "it came back, and is "+p.State.String()+" here"
	case p.Amount != t.amount:
		b.State, b.Due, b.Detail = Open, 0, fmt.Sprintf("%s was ordered, %s paid", p.Amount, t.amount)
	case p.State == settlement.Paid || p.State == settlement.CameBack:
		return nil, nil
	default:
		b.Ours, b.Detail = 0, "the bank paid it, and it is "+p.State.String()+" here"
	}
	return b, nil
}

// bank looks for payouts that we booked as paid on the date, or before it (after
// their statement was written, or on days that have none), and no statement has.
func (c *comparison) bank(ctx context.Context) error {
	from, err := c.unstated(ctx)
	if err != nil {
		return err
	}
	for day := from; day <= c.date; day = day.AddDays(1) {
		if err := c.paidOn(ctx, day); err != nil {
			return err
		}
	}
	return nil
}

// statementLag is for how many days a payout is looked for anew.
const statementLag = 3

// unstated is the first day whose payouts are looked for in the date's statement:
// a bank may be silent over a whole holiday, or a statement be lost.
func (c *comparison) unstated(ctx context.Context) (from calendar.Date, err error) {
	from = c.date
	err = c.e.db.Read(ctx, func(tx store.Tx) error {
		var files int
		var last calendar.Date
		if err := tx.QueryRow("select count(*) from recon_file where source = $1 and date = $2 and state > $3", Bank, c.date, fileLoading).Scan(&files); err != nil || files == 0 {
			return err
		}
		if err := tx.QueryRow("select coalesce(max(date), 0) from recon_file where source = $1 and date < $2 and state > $3", Bank, c.date, fileLoading).Scan(&last); err != nil {
			return err
		}
		from = c.date.AddDays(-statementLag)
		if last != 0 {
			from = min(from, last)
		}
		return nil
	})
	return from, err
}

func (c *comparison) paidOn(ctx context.Context, day calendar.Date) error {
	after, last := "", ""
	for {
		n := 0
		fault.Hit("reconcile.bank.before")
		err := c.e.db.Write(ctx, func(tx store.Tx) error {
			var files int
			if err := tx.QueryRow("select count(*) from recon_file where source = $1 and date = $2 and state > $3", Bank, c.date, fileLoading).Scan(&files); err != nil || files == 0 {
				return err
			}
			paid, err := settlement.PaidOnTx(tx, day, after, loadBatch)
			if err != nil {
				return err
			}
			n = len(paid)
			for _, p := range paid {
				last = p.Ref
				message, err := settlement.MessageOfTx(tx, p.Ref)
				if err != nil {
					return err
				}
				var known int
				if err := tx.QueryRow("select count(*) from recon_line where ours = 0 and source = $1 and (rrn = $2 and kind = $3 or rrn = $4 and kind = $5) and file in (select id from recon_file where source = $1 and state > $6)",
					Bank, p.Ref, string(kindPayout), message, string(kindBatch), fileLoading).Scan(&known); err != nil {
					return err
				}
				if known > 0 {
					continue
				}
				b := Break{ID: store.NewID(), Key: "payout_short/" + p.Ref, Kind: PayoutShort, Source: Bank, Date: c.date, RRN: p.Ref, Merchant: p.Merchant, Ours: p.Amount,
					State: Waiting, Due: c.due, Found: c.now, Detail: "booked as paid, and no statement has it"}
				if err := b.insert(tx); err != nil {
					return err
				}
			}
			return nil
		})
		fault.Hit("reconcile.bank.after")
		if err != nil || n < loadBatch {
			return err
		}
		after = last
	}
}

// arrived ends a break of a payout that a later statement has.
func (c *comparison) arrived(tx store.Tx, key string, t *theirs) error {
	return c.overtaken(tx, key, "the statement of "+t.date.String()+" has it")
}

// again judges the movements that wait for what we may have learnt since.
func (c *comparison) again(ctx context.Context) error {
	fault.Hit("reconcile.again.before")
	err := c.e.db.Write(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+breakColumns+" from recon_break where state = 1 and source = $1 and their <> 0 order by id", Bank)
		waiting, err := store.All(rows, err, scanBreak)
		if err != nil {
			return err
		}
		for i := range waiting {
			b := &waiting[i]
			rows, err := tx.Query("select "+theirColumns+" from recon_line where id = $1", b.their)
			line, err := store.All(rows, err, scanTheirs)
			if err != nil {
				return err
			}
			if len(line) == 0 {
				return fmt.Errorf("break %s is of a line that is not there", b.Key)
			}
			wrong, err := c.judge(tx, &line[0])
			if err != nil {
				return err
			}
			if wrong != nil {
				continue
			}
			b.resolve(ByFile, "booked here since", c.now)
			if err := errors.Join(c.mark(tx, &line[0], lineMatched), b.update(tx)); err != nil {
				return err
			}
		}
		return nil
	})
	fault.Hit("reconcile.again.after")
	return err
}

// receipts makes breaks of what came otherwise than expected, and of what came
// that nobody knows. Settlement has put the difference, or all of it, into
// suspense; what has left it since is resolved.
func (c *comparison) receipts(ctx context.Context) error {
	fault.Hit("reconcile.receipts.before")
	err := c.e.db.Write(ctx, func(tx store.Tx) error {
		wrong, err := settlement.DifferingReceiptsTx(tx)
		if err != nil {
			return err
		}
		for _, r := range wrong {
			b := Break{ID: store.NewID(), Key: "receipt/" + r.Reference, Kind: ReceiptLong, Source: r.Wallet, Date: c.date, RRN: r.Reference, Ours: r.Expected, Theirs: r.Receipt.Received,
				State: Open, Found: c.now, Detail: fmt.Sprintf("for %s %s was expected, %s came", r.Date, r.Expected, r.Receipt.Received)}
			if b.Source == "" {
				b.Source = "network"
			}
			if r.Receipt.Received < r.Expected {
				b.Kind = ReceiptShort
			}
			if err := b.insert(tx); err != nil {
				return err
			}
			if r.Lacks() == 0 {
				if err := c.overtaken(tx, b.Key, "what was missing came later"); err != nil {
					return err
				}
			}
		}
		return c.credits(tx)
	})
	fault.Hit("reconcile.receipts.after")
	return err
}

// credits makes breaks of what is in suspense for people.
func (c *comparison) credits(tx store.Tx) error {
	odd, err := settlement.OddCreditsTx(tx)
	if err != nil {
		return err
	}
	stands := map[string]bool{}
	for _, x := range odd {
		b := Break{ID: store.NewID(), Key: "credit/" + x.Entry, Kind: ReceiptLong, Source: cmp.Or(x.Payer, Bank), Date: c.date, RRN: x.Entry, Theirs: x.Amount,
			State: Open, Found: c.now, Detail: fmt.Sprintf("%s came on %s, %q, and is in suspense: %s; acquirer settle credit", x.Amount, x.Booked, x.Reference, x.Why)}
		stands[b.Key] = true
		if err := b.insert(tx); err != nil {
			return err
		}
	}
	rows, err := tx.Query("select key from recon_break where state < 3 and kind = $1 and substr(key, 1, 7) = 'credit/'", string(ReceiptLong))
	keys, err := store.All(rows, err, func(r *store.Rows, key *string) error { return r.Scan(key) })
	if err != nil {
		return err
	}
	for _, key := range keys {
		if stands[key] {
			continue
		}
		if err := c.overtaken(tx, key, "it is in suspense no more"); err != nil {
			return err
		}
	}
	return nil
}

// overtaken ends a break that is overtaken.
func (c *comparison) overtaken(tx store.Tx, key, note string) error {
	rows, err := tx.Query("select "+breakColumns+" from recon_break where key = $1 and state < 3", key)
	old, err := store.All(rows, err, scanBreak)
	if err != nil || len(old) == 0 {
		return err
	}
	old[0].resolve(ByFile, note, c.now)
	return old[0].update(tx)
}

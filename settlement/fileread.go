package settlement

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"acquirer/money"
	"acquirer/settlement/bankfile"
	"acquirer/store"
)

// statusesFirst puts files of statuses before files of movements: a sum that a
// bank booked leaves out what its statuses refuse.
func statusesFirst(dir string, names []string) error {
	moves := map[string]bool{}
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // another node has moved it away
		}
		if err != nil {
			return err
		}
		_, moves[name] = bankfile.IsStatement(f)
		if err := f.Close(); err != nil {
			return err
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case moves[a] == moves[b]:
			return 0
		case moves[a]:
			return 1
		}
		return -1
	})
	return nil
}

// bankHead is what the head of a bank's file says.
type bankHead struct{ message, about string }

// readFile reads one file of the bank and hands its answers on, page by page; at
// least once, with the head. Everything wrong with it is a refusal.
func (r *FileRail) readFile(ctx context.Context, path string, take func(h bankHead, some []Answer, credits []Credit) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	again, statement := bankfile.IsStatement(f)
	if statement {
		return r.readStatement(ctx, again, take)
	}
	return r.readStatus(ctx, again, take)
}

func (r *FileRail) readStatus(ctx context.Context, in io.Reader, take func(bankHead, []Answer, []Credit) error) error {
	report, rows, err := bankfile.ReadStatus(in)
	if err != nil {
		return &refusal{err: err}
	}
	h := bankHead{report.MessageID, report.About}
	orders, sum, err := r.message(ctx, h.about)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &refusal{err: fmt.Errorf("it is about message %s, which we never wrote", h.about)}
	case err != nil:
		return err
	case report.Count >= 0 && int64(report.Count) != orders, report.Sum >= 0 && report.Sum != sum:
		return &refusal{err: fmt.Errorf("it says that message %s has %d orders of %s; it has %d of %s", h.about, report.Count, report.Sum, orders, sum)}
	}
	p := pages{rail: r, h: h, take: take}
	listed := map[string]bool{}
	whole := Answer{Status: Status(report.Group), Reason: report.Reason}
	for s, err := range rows {
		if err != nil {
			return &refusal{err: err}
		}
		listed[s.Reference] = true
		a := Answer{Reference: s.Reference, Status: Status(s.Code), Amount: s.Amount, BankID: s.BankID, Reason: s.Reason}
		if again(a) || again(whole) {
			continue
		}
		if err := p.add(ctx, a, s.Line); err != nil {
			return err
		}
	}
	// Of a message that is refused or paid as a whole a bank lists some orders, to say
	// more of them; one that is processing may list those that are not.
	whole = Answer{Status: Status(report.Group), Reason: report.Reason}
	final := report.Group == bankfile.Paid || report.Group == bankfile.Refused
	if final || report.Group != "" && len(listed) == 0 {
		if err := p.all(ctx, h.about, whole, listed); err != nil {
			return err
		}
	}
	return p.end(ctx)
}

// cameIn reports that an entry is money that somebody paid us.
func cameIn(e *bankfile.Entry) bool {
	return e.Kind == bankfile.Receipt || e.Kind == bankfile.Other && e.Credit
}

// creditOf is an entry as a credit.
func creditOf(e *bankfile.Entry) Credit {
	return Credit{Entry: e.BankID, Reference: e.Reference, Account: NewNumber(e.Account), Amount: e.Amount, Booked: e.Booked, line: e.Line}
}

// StatementCredits yields what came into an account by a statement (camt or CSV),
// to its end or to the first error, which says where it is. CheckCredit says
// whether each can be booked.
func StatementCredits(r io.Reader) iter.Seq2[Credit, error] {
	return func(yield func(Credit, error) bool) {
		_, rows, err := bankfile.ReadStatement(r)
		if err != nil {
			yield(Credit{}, err)
			return
		}
		for e, err := range rows {
			if err == nil && !cameIn(&e) {
				continue
			}
			if !yield(creditOf(&e), err) || err != nil {
				return
			}
		}
	}
}

// readStatement takes from a statement what is ours in it: payouts that were
// booked, payouts that came back, and what others paid in. The rest is for the
// reconciliation.
func (r *FileRail) readStatement(ctx context.Context, in io.Reader, take func(bankHead, []Answer, []Credit) error) error {
	head, rows, err := bankfile.ReadStatement(in)
	if err != nil {
		return &refusal{err: err}
	}
	if head.Account != r.cfg.Debtor.Account {
		return &refusal{err: errors.New("it is of another account than the one we pay from")}
	}
	p := pages{rail: r, h: bankHead{message: head.MessageID}, take: take, strangers: true}
	for e, err := range rows {
		if err != nil {
			return &refusal{err: err}
		}
		a := Answer{Reference: e.Reference, Status: Succeeded, Amount: e.Amount, BankID: e.BankID, Reason: e.Reason}
		switch {
		case cameIn(&e):
			ours, err := r.ordered(ctx, e.Reference)
			if err != nil {
				return err
			}
			if ours { // a return, also when the bank does not say so: nobody else pays in under a payout's name
				a.Status = Returned
				break
			}
			if r.cfg.Credits {
				if err := p.credit(ctx, &e); err != nil {
					return err
				}
			}
			continue
		case e.Kind == bankfile.Return:
			a.Status = Returned
		case e.Kind != bankfile.Payout:
			continue
		}
		if e.Batch == "" {
			err = p.add(ctx, a, e.Line)
		} else {
			err = p.booked(ctx, &e)
		}
		if err != nil {
			return err
		}
	}
	return p.end(ctx)
}

// ordered reports that a reference is one of our payouts'.
func (r *FileRail) ordered(ctx context.Context, ref string) (ours bool, err error) {
	if ref == "" {
		return false, nil
	}
	err = r.db.Read(ctx, func(tx store.Tx) error {
		var n int
		err := tx.QueryRow("select count(*) from bankfile_order where ref = $1", ref).Scan(&n)
		ours = n > 0
		return err
	})
	return ours, err
}

func (r *FileRail) message(ctx context.Context, id string) (orders int64, sum money.Amount, err error) {
	err = r.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select orders, sum from bankfile_message where id = $1", id).Scan(&orders, &sum)
	})
	return orders, sum, err
}

// pages gathers answers, checks them against our orders, and hands them on.
type pages struct {
	rail      *FileRail
	h         bankHead
	take      func(bankHead, []Answer, []Credit) error
	strangers bool // references that are not ours are left out, not refused
	some      []Answer
	credits   []Credit
	lines     []int
	count     int
}

func (p *pages) add(ctx context.Context, a Answer, line int) error {
	p.some, p.lines, p.count = append(p.some, a), append(p.lines, line), p.count+1
	if len(p.some) < page {
		return nil
	}
	return p.flush(ctx)
}

func (p *pages) credit(ctx context.Context, e *bankfile.Entry) error {
	c := creditOf(e)
	if err := c.check(); err != nil {
		return &refusal{err: err}
	}
	if p.credits = append(p.credits, c); len(p.credits) < page {
		return nil
	}
	return p.flush(ctx)
}

func (p *pages) end(ctx context.Context) error {
	if len(p.some)+len(p.credits) > 0 {
		return p.flush(ctx)
	}
	return p.take(p.h, nil, nil)
}

// flush checks a page and hands it on.
func (p *pages) flush(ctx context.Context) error {
	kept := p.some[:0]
	err := p.rail.db.Read(ctx, func(tx store.Tx) error {
		kept = p.some[:0]
		for i, a := range p.some {
			var message string
			var amount money.Amount
			err := tx.QueryRow("select message, amount from bankfile_order where ref = $1", a.Reference).Scan(&message, &amount)
			switch {
			case errors.Is(err, store.ErrNotFound) && p.strangers:
				continue
			case errors.Is(err, store.ErrNotFound), err == nil && p.h.about != "" && message != p.h.about:
				return &refusal{err: &bankfile.Error{Line: p.lines[i], Column: 1, What: fmt.Sprintf("order %.40q is not in message %s", a.Reference, p.h.about)}}
			case err != nil:
				return err
			}
			if a.Amount == 0 {
				a.Amount = amount
			}
			kept = append(kept, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = p.take(p.h, kept, p.credits)
	p.some, p.lines, p.credits = p.some[:0], p.lines[:0], p.credits[:0]
	return err
}

// all says the same of every order of a message but those left out.
func (p *pages) all(ctx context.Context, message string, a Answer, without map[string]bool) error {
	if again(a) {
		return nil
	}
	for o, err := range p.rail.orders(ctx, message) {
		if err != nil {
			return err
		}
		if without[o.Reference] {
			continue
		}
		a.Reference, a.Amount = o.Reference, o.Amount
		if err := p.add(ctx, a, 0); err != nil {
			return err
		}
	}
	return nil
}

// had are the reasons of ISO 20022 (ExternalStatusReason1Code) by which a bank says
// that it has had this message, payment or order already.
var had = map[string]bool{"AM05": true, "DU01": true, "DU02": true, "DU03": true, "DU04": true, "DU05": true}

// again holds for a refusal because the bank has had it before: no word about
// the order, which may be paid. Ours was written twice.
func again(a Answer) bool {
	return a.Status == Rejected && slices.ContainsFunc(strings.Fields(a.Reason), func(w string) bool { return had[w] })
}

// booked takes a message that the bank booked as one sum: all of its orders, or
// all but those that the bank's statuses refused.
func (p *pages) booked(ctx context.Context, e *bankfile.Entry) error {
	orders, sum, err := p.rail.message(ctx, e.Batch)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil // not ours
	case err != nil:
		return err
	}
	comesTo := func(orders int64, sum money.Amount) bool {
		return e.Amount == sum && (e.Count == 0 || int64(e.Count) == orders)
	}
	a := Answer{Status: Succeeded, BankID: e.BankID}
	if comesTo(orders, sum) {
		return p.all(ctx, e.Batch, a, nil)
	}
	without, less, err := p.rail.rejected(ctx, e.Batch)
	if err != nil {
		return err
	}
	left := int64(len(without))
	if left > 0 && comesTo(orders-left, sum-less) {
		return p.all(ctx, e.Batch, a, without)
	}
	said := fmt.Sprintf("as %d orders of %s", e.Count, e.Amount)
	if e.Count == 0 {
		said = fmt.Sprintf("as one sum of %s", e.Amount)
	}
	but := "and no status so far refused one of them"
	if left > 0 {
		but = fmt.Sprintf("and %d of %s without the %d that were refused", orders-left, sum-less, left)
	}
	return &refusal{&bankfile.Error{Line: e.Line, Column: 1, What: fmt.Sprintf("it books message %s %s; it has %d of %s, %s", e.Batch, said, orders, sum, but)},
		"if a status that refuses the others is still to come, put this file into the inbox again behind it; else " + askAgain}
}

// rejected are the orders of a message of which the bank's files said last that
// they are refused, and what they come to.
func (r *FileRail) rejected(ctx context.Context, message string) (refs map[string]bool, sum money.Amount, err error) {
	err = r.db.Read(ctx, func(tx store.Tx) error {
		refs, sum = map[string]bool{}, 0
		rows, err := tx.Query(`select o.ref, o.amount from bankfile_order o where o.message = $1 and $2 = (select c.status from bankfile_change c
			join bankfile_inbox i on i.message = c.message where c.ref = o.ref and i.done > 0 order by i.done desc, c.seq desc limit 1)`, message, Rejected)
		_, err = store.All(rows, err, func(rows *store.Rows, _ *struct{}) error {
			var ref string
			var amount money.Amount
			if err := rows.Scan(&ref, &amount); err != nil {
				return err
			}
			refs[ref] = true
			sum += amount
			return nil
		})
		return err
	})
	return refs, sum, err
}

package ledger

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"acquirer/money"
	"acquirer/store"
)

// Report is what a check of the ledger found.
type Report struct {
	Transfers int      // how many were read; 0 for a SelfCheck
	Problems  []string // empty when the ledger is right
	// Safeguarded is what CLIENT holds or is owed by networks; Owed is what it
	// owes merchants. Safeguarded should not be less.
	Safeguarded, Owed money.Amount
}

// OK reports that nothing was found.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// problemLimit keeps the report of a broken ledger readable.
const problemLimit = 100

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) < problemLimit {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// SelfCheck looks at the balances alone: each book balances, sub-accounts sum
// up to their control account, nothing reserved is negative. It is cheap
// enough for every minute.
func (l *Ledger) SelfCheck(ctx context.Context) (*Report, error) {
	r := &Report{}
	err := l.db.Read(ctx, func(tx store.Tx) error {
		*r = Report{}
		stored, err := readSums(tx)
		if err != nil {
			return err
		}
		r.balances(stored)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: self-check: %w", err)
	}
	return r, nil
}

// sums are an account's control balance and the sum of its sub-accounts.
type sums struct {
	control, subs Balance
	hasSubs       bool
}

func readSums(tx store.Tx) (map[Account]*sums, error) {
	rows, err := tx.Query(`select account, case when sub = '' then 0 else 1 end as is_sub, cast(sum(debit) as BIGINT), cast(sum(credit) as BIGINT),
		cast(sum(pending_debit) as BIGINT), cast(sum(pending_credit) as BIGINT) from ledger_balance group by account, is_sub`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[Account]*sums{}
	for rows.Next() {
		var a Account
		var sub bool
		var b Balance
		if err := rows.Scan(&a, &sub, &b.Debit, &b.Credit, &b.PendingDebit, &b.PendingCredit); err != nil {
			return nil, err
		}
		s := out[a]
		if s == nil {
			s = &sums{}
			out[a] = s
		}
		if sub {
			s.subs, s.hasSubs = b, true
		} else {
			s.control = b
		}
	}
	return out, rows.Err()
}

// balances checks what must hold of balances whatever was booked.
func (r *Report) balances(stored map[Account]*sums) {
	var books [Own + 1]Balance
	for _, a := range Chart() {
		s := stored[a]
		if s == nil {
			continue
		}
		books[a.Book()] = books[a.Book()].plus(s.control)
		if s.hasSubs && s.subs != s.control {
			r.problem("%s: the sub-accounts sum up to %s and the control account is %s", a, s.subs, s.control)
		}
		if s.control.PendingDebit < 0 || s.control.PendingCredit < 0 {
			r.problem("%s: reserved amounts are below zero: %s", a, s.control)
		}
		switch held, owed := a.safeguards(); {
		case held:
			r.Safeguarded += s.control.Net(a)
		case owed:
			r.Owed += s.control.Net(a)
		}
	}
	for _, b := range [...]Book{Client, Own} {
		if books[b].Debit != books[b].Credit {
			r.problem("book %s: debits %s, credits %s", b, books[b].Debit, books[b].Credit)
		}
		if books[b].PendingDebit != books[b].PendingCredit {
			r.problem("book %s: reserved debits %s, credits %s", b, books[b].PendingDebit, books[b].PendingCredit)
		}
	}
}

// Verify recomputes everything from the first transfer: every transfer
// balances in each book, every pending one is ended at most once, and the
// balances, the days and the control accounts are exactly what the transfers
// make them. Memory grows with the number of accounts, not of transfers.
func (l *Ledger) Verify(ctx context.Context) (*Report, error) {
	r := &Report{}
	err := l.db.ReadLong(ctx, func(tx store.Tx) error {
		*r = Report{}
		return r.recompute(tx)
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: verify: %w", err)
	}
	return r, nil
}

func (r *Report) recompute(tx store.Tx) error {
	move := movement{}
	if err := r.replay(tx, &move); err != nil {
		return err
	}
	if err := r.compareBalances(tx, move.balances); err != nil {
		return err
	}
	if err := r.compareDays(tx, move.days); err != nil {
		return err
	}
	stored, err := readSums(tx)
	if err != nil {
		return err
	}
	r.balances(stored)
	return nil
}

// skew is by how much the clocks that number transfers may differ: an end may
// stand before its pending transfer by so much and not by more.
const skew = time.Minute

// replay reads every transfer in order and adds it to move.
func (r *Report) replay(tx store.Tx, move *movement) error {
	rows, err := tx.Query("select id, key, event, date, ref, kind, coalesce(resolves, ''), legs from ledger_transfer order by id")
	if err != nil {
		return err
	}
	defer rows.Close()
	open := map[string][]Leg{} // pending transfers not ended yet
	late := map[string]Transfer{}
	ended := map[string]time.Time{} // when those of late say they were written
	for rows.Next() {
		var id int64
		var t Transfer
		var text string
		if err := rows.Scan(&id, &t.Key, &t.Event, &t.Date, &t.Ref, &t.Kind, &t.Resolves, &text); err != nil {
			return err
		}
		r.Transfers++
		if t.Legs, err = decodeLegs(text); err != nil {
			r.problem("transfer %q: %v", t.Key, err)
			continue
		}
		if wrong := unsound(&t); wrong != "" {
			r.problem("%s", wrong)
			continue
		}
		legs := t.Legs
		switch t.Kind {
		case Pending:
			open[t.Key] = legs
			if at, early := ended[t.Key]; early && store.IDTime(id).Sub(at) > skew {
				r.problem("transfer %q ends %q, which was written %s later", late[t.Key].Key, t.Key, store.IDTime(id).Sub(at).Round(time.Second))
			}
		case Posting, Voiding, Expiry:
			var known bool
			if legs, known = open[t.Resolves]; !known {
				late[t.Resolves], ended[t.Resolves] = t, store.IDTime(id) // ids of two nodes may be in another order
				continue
			}
			delete(open, t.Resolves)
		}
		move.add(&t, legs)
	}
	for key, t := range late {
		legs, known := open[key]
		if !known {
			r.problem("transfer %q ends %q, which is not pending or was ended before", t.Key, key)
			continue
		}
		delete(open, key)
		move.add(&t, legs)
	}
	return rows.Err()
}

// unsound is check for transfers that are on disk: words instead of a panic.
func unsound(t *Transfer) (wrong string) {
	defer func() {
		if v := recover(); v != nil {
			wrong = fmt.Sprint(v)
		}
	}()
	t.check()
	return ""
}

func (r *Report) compareBalances(tx store.Tx, want map[place]Balance) error {
	rows, err := tx.Query("select account, sub, debit, credit, pending_debit, pending_credit from ledger_balance order by account, sub")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p place
		var b Balance
		if err := rows.Scan(&p.account, &p.sub, &b.Debit, &b.Credit, &b.PendingDebit, &b.PendingCredit); err != nil {
			return err
		}
		switch w, known := want[p]; {
		case !known:
			r.problem("%s: there is a balance, %s, and no transfer makes one", p, b)
		case b != w:
			r.problem("%s: the balance is %s and the transfers make %s", p, b, w)
		}
		delete(want, p)
	}
	for _, p := range sortedPlaces(want) {
		r.problem("%s: there is no balance and the transfers make %s", p, want[p])
	}
	return rows.Err()
}

func sortedPlaces(m map[place]Balance) []place {
	out := make([]place, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b place) int {
		if a.account != b.account {
			return int(a.account) - int(b.account)
		}
		return slices.Compare([]byte(a.sub), []byte(b.sub))
	})
	return out
}

func (r *Report) compareDays(tx store.Tx, want map[dayPlace]Balance) error {
	rows, err := tx.Query("select date, account, debit, credit from ledger_day order by date, account")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p dayPlace
		var b Balance
		if err := rows.Scan(&p.date, &p.account, &b.Debit, &b.Credit); err != nil {
			return err
		}
		w, known := want[p]
		w.PendingDebit, w.PendingCredit = 0, 0 // what is reserved belongs to no day
		switch {
		case !known:
			r.problem("%s on %s: the day has %s and no transfer moves anything", p.account, p.date, b)
		case b != w:
			r.problem("%s on %s: the day has %s and the transfers make %s", p.account, p.date, b, w)
		}
		delete(want, p)
	}
	missing := make([]dayPlace, 0, len(want))
	for p := range want {
		missing = append(missing, p)
	}
	slices.SortFunc(missing, func(a, b dayPlace) int { return cmp.Or(cmp.Compare(a.date, b.date), cmp.Compare(a.account, b.account)) })
	for _, p := range missing {
		r.problem("%s on %s: the day has nothing and the transfers make %s", p.account, p.date, want[p])
	}
	return rows.Err()
}

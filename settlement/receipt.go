package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// ErrNotClosed says that a business date was not closed yet.
var ErrNotClosed = errors.New("settlement: the business date is not closed")

// Receipt is what a network, or a wallet, paid for a business date.
type Receipt struct {
	Date      calendar.Date // the business date it pays for
	Wallet    string        // "" for the card network
	Received  money.Amount
	Reference string // the bank's, unique
}

// Expected is what the network owes for a closed business date: the sales that
// settled with it less issuer and network fees, less what was taken or charged
// back, and what the comparison with the network's file has changed (ExpectTx).
func (e *Engine) Expected(ctx context.Context, date calendar.Date, wallet string) (sum money.Amount, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		sum, err = expected(tx, date, wallet)
		return err
	})
	return sum, err
}

const owedForDate = `select cast(coalesce(sum(owed), 0) as BIGINT) from (
		select l.amount - l.issuer_fee - l.network_fee as owed from settlement_run r join settlement_line l on l.run = r.id where r.date = $1 and l.run > 0 and l.wallet = $2
		union all select i.network from settlement_run r join settlement_item i on i.run = r.id where r.date = $1 and i.run > 0 and i.wallet = $2) x`

func expected(tx store.Tx, date calendar.Date, wallet string) (sum money.Amount, err error) {
	err = tx.QueryRow(owedForDate, date, wallet).Scan(&sum)
	if err != nil {
		return 0, err
	}
	var more money.Amount
	err = tx.QueryRow("select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_expected where date = $1 and wallet = $2", date, wallet).Scan(&more)
	return sum + more, err
}

// Receive books what came in for a closed business date; a difference to what
// was expected waits in suspense, with a task. A date that comes to less than
// nothing is received with an amount below zero, when the network took it from our
// account, or with the next date whose money came short by exactly that. The same
// receipt again has no effect; another one for the same date is refused.
func (e *Engine) Receive(ctx context.Context, r Receipt, now time.Time) error {
	if r.Reference == "" {
		return fmt.Errorf("settlement: a receipt for %s needs a reference", r.Date)
	}
	open, err := e.OpenDate(ctx)
	if err != nil {
		return err
	}
	if open <= r.Date {
		return fmt.Errorf("%w: what the network owes for %s is not known yet; close it first", ErrNotClosed, r.Date)
	}
	if err := e.Resume(ctx, now); err != nil { // what a run has not gathered yet is not among what is owed
		return err
	}
	fault.Hit("settlement.receive.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		date, err := e.bookOn(tx, now)
		if err != nil {
			return err
		}
		was, err := receiptFor(tx, r.Date, r.Wallet)
		switch {
		case err == nil && was.Reference == r.Reference && was.Received == r.Received:
			return nil
		case err == nil:
			return fmt.Errorf("settlement: %s was received before as %s, %s", r.Date, was.Reference, was.Received)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		if closed, err := isClosed(tx, r.Date); err != nil {
			return err
		} else if !closed {
			return fmt.Errorf("%w: %s is being closed; book what came in again in a moment", ErrNotClosed, r.Date)
		}
		return bookReceipt(tx, date, r, now, ledger.NetworkReceipt)
	})
	fault.Hit("settlement.receive.after")
	if err != nil {
		return fmt.Errorf("settlement: receipt %s: %w", r.Reference, err)
	}
	if err := e.step("received"); err != nil {
		return err
	}
	if err := e.repay(ctx, now); err != nil {
		return err
	}
	return e.Earn(ctx, now)
}

// Due is what the network, or a wallet, owes for a closed business date, and what
// came of it.
type Due struct {
	Date     calendar.Date `json:"date"`
	Due      calendar.Date `json:"due"`   // day on which it is to come: T+1
	Payer    string        `json:"payer"` // network, or a wallet
	Expected money.Amount  `json:"expected"`
	Received money.Amount  `json:"received"`
	Open     money.Amount  `json:"open"` // below zero what came too much
	Came     bool          `json:"came"` // something did, be it too little
}

// DueDays is how many days back receipts are watched: the longest holiday, and
// the days that a person needs.
const DueDays = 21

// Dues lists what is owed for the business dates of a span that are closed, and
// what came of it, by date and payer.
func (e *Engine) Dues(ctx context.Context, from, to calendar.Date) (out []Due, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		out = nil
		rows, err := tx.Query("select date from settlement_run where seq = $1 and state = $2 and date >= $3 and date <= $4 order by date", seqClose, runClosed, from, to)
		dates, err := store.All(rows, err, func(r *store.Rows, d *calendar.Date) error { return r.Scan(d) })
		if err != nil {
			return err
		}
		for _, date := range dates {
			due, err := calendar.SettleDate(date)
			if err != nil {
				return err
			}
			rows, err := tx.Query(payersOf+" union select wallet from settlement_receipt where date = $1 order by wallet", date)
			wallets, err := store.All(rows, err, func(r *store.Rows, w *string) error { return r.Scan(w) })
			if err != nil {
				return err
			}
			for _, wallet := range wallets {
				d := Due{Date: date, Due: due, Payer: payerName(wallet)}
				if d.Expected, err = expected(tx, date, wallet); err != nil {
					return err
				}
				switch r, err := receiptFor(tx, date, wallet); {
				case err == nil:
					d.Expected, d.Received, d.Came = r.Expected, r.Received+r.More, true
				case !errors.Is(err, store.ErrNotFound):
					return err
				}
				d.Open = d.Expected - d.Received
				out = append(out, d)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: what is owed for %s to %s: %w", from, to, err)
	}
	return out, nil
}

// receiptFor reads what was received for a business date; ErrNotFound of store
// when nothing was.
func receiptFor(tx store.Tx, date calendar.Date, wallet string) (Received, error) {
	all, err := receipts(tx, "date = $1 and wallet = $2", date, wallet)
	if err == nil && len(all) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return Received{}, err
	}
	return all[0], nil
}

// bookReceipt books a receipt on a date by one of the ledger's templates.
func bookReceipt(tx store.Tx, date calendar.Date, r Receipt, now time.Time,
	book func(ref string, date calendar.Date, wallet string, expected, received money.Amount) (ledger.Transfer, bool)) error {
	want, err := expected(tx, r.Date, r.Wallet)
	if err != nil {
		return err
	}
	if want != r.Received {
		if want, err = netted(tx, r, want, now); err != nil {
			return err
		}
	}
	if r.Received < min(0, want) {
		return fmt.Errorf("%s was taken for %s, which comes to %s: no more than that is taken, and only where it is below nothing", -r.Received, r.Date, want)
	}
	if _, err := tx.Exec("insert into settlement_receipt (ref, date, wallet, expected, received, booked) values ($1,$2,$3,$4,$5,$6)",
		r.Reference, r.Date, r.Wallet, want, r.Received, now.UnixMicro()); err != nil {
		return err
	}
	if want != r.Received {
		if err := addTask(tx, Task{Key: "receipt/" + r.Reference, Kind: "receipt", Ref: r.Reference, Created: now,
			Text: fmt.Sprintf("for %s came %s from %s and %s was expected", r.Date, r.Received, payerName(r.Wallet), want)}); err != nil {
			return err
		}
	}
	t, any := book(r.Reference, date, r.Wallet, want, r.Received)
	if !any {
		return nil
	}
	_, err = ledger.PostTx(tx, []ledger.Transfer{t})
	return err
}

// deducts is how many days later a network may still deduct what a date came to
// below nothing.
const deducts = 40

// netted is what a receipt comes to when the network has deducted from it what
// earlier dates came to below nothing, which it has then received too; want when
// it has not.
func netted(tx store.Tx, r Receipt, want money.Amount, now time.Time) (money.Amount, error) {
	rows, err := tx.Query(`select distinct u.date from settlement_run u where u.date < $1 and u.date > $2
		and not exists (select 1 from settlement_receipt p where p.date = u.date and p.wallet = $3) order by u.date`, r.Date, r.Date.AddDays(-deducts), r.Wallet)
	days, err := store.All(rows, err, func(r *store.Rows, d *calendar.Date) error { return r.Scan(d) })
	if err != nil {
		return 0, err
	}
	less, below := want, []calendar.Date{}
	for _, day := range days {
		sum, err := expected(tx, day, r.Wallet)
		if err != nil {
			return 0, err
		}
		if sum < 0 {
			less, below = less+sum, append(below, day)
		}
	}
	if len(below) == 0 || less != r.Received {
		return want, nil
	}
	for _, day := range below { // nothing of it is left to come: no transfer of its own
		if _, err := tx.Exec("insert into settlement_receipt (ref, date, wallet, expected, received, booked) values ($1,$2,$3,0,0,$4)",
			r.Reference+"/"+day.String(), day, r.Wallet, now.UnixMicro()); err != nil {
			return 0, err
		}
	}
	return less, nil
}

// advanced are the payouts that were paid from our own money, which has not come
// back.
const advanced = "settlement_payout where advance = 1 and repaid = 0 and state = 5"

// advance is what may be repaid: a payout of a closed date whose money has come,
// as far as any comes.
type advance struct {
	ref    string
	date   calendar.Date
	amount money.Amount
}

// repay returns to our own account what was advanced for days that the network
// and the wallets have paid since. Refunds may leave less of a date than was
// advanced for it, or nothing: what its own money does not repay waits for money
// that no merchant is owed.
func (e *Engine) repay(ctx context.Context, now time.Time) error {
	var due []advance
	left := map[calendar.Date]money.Amount{} // of a date's money
	err := e.db.Read(ctx, func(tx store.Tx) (err error) {
		due = nil
		rows, err := tx.Query("select distinct date from " + advanced + " and date < (select open_date from settlement_state where id = 1) order by date")
		days, err := store.All(rows, err, func(r *store.Rows, d *calendar.Date) error { return r.Scan(d) })
		if err != nil {
			return err
		}
		for _, day := range days {
			if waits, err := moneyWaits(tx, day); err != nil {
				return err
			} else if waits {
				continue
			}
			rows, err := tx.Query("select ref, date, amount from "+advanced+" and date = $1 order by ref", day)
			of, err := store.All(rows, err, func(r *store.Rows, a *advance) error { return r.Scan(&a.ref, &a.date, &a.amount) })
			if err != nil {
				return err
			}
			due = append(due, of...)
			var came, spent money.Amount
			if err := tx.QueryRow(`select cast(coalesce(sum(x), 0) as BIGINT) from (select received as x from settlement_receipt where date = $1
				union all select amount from settlement_credit where date = $1 and state = 3) y`, day).Scan(&came); err != nil {
				return err
			}
			if err := tx.QueryRow("select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_payout where date = $1 and advance = 1 and repaid = 1 and state > 4", day).Scan(&spent); err != nil {
				return err
			}
			left[day] = came - spent
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settlement: looking for advances to repay: %w", err)
	}
	for _, a := range due {
		repaid := false
		fault.Hit("payout.repay.before")
		err := e.db.Write(ctx, func(tx store.Tx) (err error) {
			repaid, err = e.repayOne(tx, a, left[a.date], now)
			return err
		})
		fault.Hit("payout.repay.after")
		if err != nil {
			return fmt.Errorf("settlement: repaying the advance of %s: %w", a.ref, err)
		}
		if !repaid {
			continue
		}
		left[a.date] -= a.amount
		if err := e.step("repaid"); err != nil {
			return err
		}
	}
	return nil
}

// repayOne repays an advance, and says whether it is repaid now. left is what is
// left of its date's money.
func (e *Engine) repayOne(tx store.Tx, a advance, left money.Amount, now time.Time) (repaid bool, err error) {
	date, err := e.lockBooks(tx, now) // so that two do not repay with the same money
	if err != nil {
		return false, err
	}
	p, err := lockPayout(tx, a.ref)
	if err != nil || p.state != Paid || p.repaid {
		return err == nil && p.repaid, err
	}
	if p.amount > left {
		free, err := ledger.FreeTx(tx)
		if err != nil {
			return false, err
		}
		bank, err := ledger.BalanceTx(tx, ledger.ClientBank, "")
		if err != nil || p.amount > min(free, bank.Available(ledger.ClientBank)) {
			return false, err
		}
	}
	p.repaid = true
	if _, err := ledger.PostTx(tx, p.booking(date, 0).Repaid()); err != nil {
		return false, err
	}
	return true, p.save(tx)
}

package ledger

import (
	"context"
	"fmt"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
)

// DayLine is what a business date did to an account, on the account's normal
// side: what it began with, what was booked, what it ended with.
type DayLine struct {
	Account Account      `json:"account"`
	Name    string       `json:"name"`
	Book    string       `json:"book"`
	Side    string       `json:"side"` // D or C: which side grows it
	Opening money.Amount `json:"opening"`
	Debit   money.Amount `json:"debit"`
	Credit  money.Amount `json:"credit"`
	Closing money.Amount `json:"closing"`
}

// Daily is a business date's balances.
type Daily struct {
	Date  calendar.Date `json:"date"`
	Lines []DayLine     `json:"accounts"` // by code; those that were ever used
	// Safeguarded is what the merchants' bank account holds and networks and
	// wallets owe it at the end of the date; Owed is what it owes merchants.
	// When less is safeguarded than owed, the acquirer's own money is missing.
	Safeguarded money.Amount `json:"safeguarded"`
	Owed        money.Amount `json:"owed"`
}

// Short is what is missing of the merchants' money, 0 when nothing is.
func (d *Daily) Short() money.Amount { return max(0, d.Owed-d.Safeguarded) }

// safeguards says on which side of the safeguarding check an account stands.
func (a Account) safeguards() (held, owed bool) {
	switch a {
	case ClientBank, NetworkReceivable, QRReceivable:
		return true, false
	case MerchantPayable, PayoutInTransit, PayoutReturned, MerchantFrozen, MerchantDeposit:
		return false, true
	}
	return false, false
}

// Daily reads the balances of a business date, without pending amounts. What is
// booked later never changes those of a closed date.
func (l *Ledger) Daily(ctx context.Context, date calendar.Date) (*Daily, error) {
	out := &Daily{Date: date}
	err := l.db.Read(ctx, func(tx store.Tx) error {
		*out = Daily{Date: date}
		rows, err := tx.Query(`select account, cast(sum(case when date < $1 then debit else 0 end) as BIGINT), cast(sum(case when date < $1 then credit else 0 end) as BIGINT),
			cast(sum(case when date = $1 then debit else 0 end) as BIGINT), cast(sum(case when date = $1 then credit else 0 end) as BIGINT)
			from ledger_day where date <= $1 group by account order by account`, date)
		out.Lines, err = store.All(rows, err, func(r *store.Rows, line *DayLine) error {
			var before Balance
			if err := r.Scan(&line.Account, &before.Debit, &before.Credit, &line.Debit, &line.Credit); err != nil {
				return err
			}
			a := line.Account
			line.Name, line.Book, line.Side = a.Name(), a.Book().String(), a.Side().String()
			line.Opening = before.Net(a)
			line.Closing = before.plus(Balance{Debit: line.Debit, Credit: line.Credit}).Net(a)
			switch held, owed := a.safeguards(); {
			case held:
				out.Safeguarded += line.Closing
			case owed:
				out.Owed += line.Closing
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: balances of %s: %w", date, err)
	}
	return out, nil
}

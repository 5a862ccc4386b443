package settlement

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/card"
	"acquirer/fault"
	"acquirer/merchant"
	"acquirer/settlement/bankfile"
	"acquirer/store"
)

// A merchant's settlement account is changed by two people: one asks, with the
// number that the merchant gave; another, who has the end of the number from the
// merchant too, confirms it. Payouts then wait (Config.Cooling), and those that
// failed or came back can be issued again.

// AccountState is where a change of an account stands.
type AccountState string

// The states. One that nobody confirms lapses.
const (
	AccountAsked   AccountState = "asked for"
	AccountChanged AccountState = "changed"
	AccountRefused AccountState = "refused"
	AccountLapsed  AccountState = "lapsed"
)

// AccountChange is another settlement account for a merchant.
type AccountChange struct {
	Merchant string           `json:"merchant"`
	Account  merchant.Account `json:"account"`
	Before   string           `json:"before"` // the number it replaces, masked
	Why      string           `json:"why"`
	State    AccountState     `json:"state"`
	AskedBy  string           `json:"asked_by"`
	Asked    time.Time        `json:"asked"`
	Lapses   time.Time        `json:"lapses"` // when it ends if nobody confirms it
	DoneBy   string           `json:"done_by,omitempty"`
	Done     time.Time        `json:"done,omitzero"`
}

// ErrAccount says that a settlement account cannot be changed so.
var ErrAccount = errors.New("settlement: the account cannot be changed")

// checkAccount holds an account against what banks take. A number of 16 to 19
// digits that begins with 62 is a UnionPay card's and has a check digit; that of
// a company's account has none. It never shows the number.
func checkAccount(mid string, a merchant.Account, number Number) error {
	digits := number.Reveal()
	trial := bankfile.Order{Reference: mid, Amount: 1, Name: a.Name, Account: digits, Bank: a.Bank}
	if err := trial.Check(); err != nil {
		return err
	}
	if len(digits) < 11 { // it would be masked whole, and nobody could compare its end
		return fmt.Errorf("the number has %d digits; want 11 or more", len(digits))
	}
	if a.Class < 1 || a.Class > 3 {
		return fmt.Errorf("the class is %d; want 1, 2 or 3", a.Class)
	}
	if pan, err := card.ParsePAN(digits); err == nil && len(digits) >= 16 && pan.BIN(2) == "62" && !pan.Luhn() {
		return errors.New("the number is a card's and its check digit is wrong; compare it with the card")
	}
	return nil
}

// AskAccount asks that c.Account, with a number that is sealed here, becomes the
// account of c.Merchant; c needs the bank, the class, why and who asks, and the
// holder stays when no name is given. One change of a merchant waits at a time;
// the same again has no effect. ErrAccount says what is wrong, without the
// number. Here and below, whatever also writes is written with it.
func (e *Engine) AskAccount(ctx context.Context, c AccountChange, number Number, now time.Time, also ...func(tx store.Tx) error) error {
	if e.cfg.Seal == nil || e.cfg.Unseal == nil {
		return errors.New("settlement: changing an account needs the HSM that seals its number")
	}
	m, known := e.cfg.Merchants.Merchant([]byte(c.Merchant))
	switch {
	case !known:
		return fmt.Errorf("%w: merchant %.20q is not registered", ErrAccount, c.Merchant)
	case m.Status == merchant.Closed:
		return fmt.Errorf("%w: merchant %s is closed, and is paid nothing more", ErrAccount, c.Merchant)
	case strings.TrimSpace(c.Why) == "" || len(c.Why) > 200 || c.AskedBy == "":
		return fmt.Errorf("%w: merchant %s: want who asks, and why in 1 to 200 bytes", ErrAccount, c.Merchant)
	}
	if c.Account.Name == "" {
		c.Account.Name = m.Account.Name
	}
	if err := checkAccount(c.Merchant, c.Account, number); err != nil {
		return fmt.Errorf("%w: merchant %s: %w", ErrAccount, c.Merchant, err)
	}
	c.Account.Masked, c.Before = number.String(), m.Account.Masked
	c.State, c.Asked, c.Lapses = AccountAsked, now, now.Add(audit.Lapses)
	switch same, err := e.isAccount(ctx, m.Account, c.Account, number); {
	case err != nil:
		return err
	case same:
		return fmt.Errorf("%w: %s is the account of merchant %s already", ErrAccount, c.Account.Masked, c.Merchant)
	}
	was, err := e.waitingAccount(ctx, c.Merchant)
	if err != nil {
		return err
	}
	same, err := e.isAccount(ctx, was.Account, c.Account, number)
	if err != nil {
		return err
	}
	if same && was.AskedBy == c.AskedBy && was.Why == c.Why && now.Before(was.Lapses) {
		return nil
	}
	if c.Account.Sealed, err = e.cfg.Seal(ctx, number.Reveal()); err != nil {
		return fmt.Errorf("settlement: sealing the account of merchant %s: %w", c.Merchant, err)
	}
	fault.Hit("account.ask.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		switch was, err := accountAsked(tx, c.Merchant, now); {
		case err == nil:
			return fmt.Errorf("%w: %s asked for %s on %s; that is confirmed or refused first", ErrAccount, was.AskedBy, was.Account.Masked, was.Asked.In(calendar.Beijing).Format("2006-01-02 15:04"))
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		if _, err := tx.Exec("insert into settlement_account ("+accountColumns+") values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,'',0)",
			c.Merchant, c.Account.Sealed, c.Account.Masked, c.Account.Name, c.Account.Bank, c.Account.Class, c.Before, c.Why, string(c.State), c.AskedBy, store.Micros(c.Asked), store.Micros(c.Lapses)); err != nil {
			return err
		}
		return all(tx, also)
	})
	fault.Hit("account.ask.after")
	if err != nil {
		return fmt.Errorf("settlement: the account of merchant %s: %w", c.Merchant, err)
	}
	return nil
}

// isAccount reports whether an account is another one to the last digit.
func (e *Engine) isAccount(ctx context.Context, was, is merchant.Account, number Number) (bool, error) {
	if len(was.Sealed) == 0 || was.Masked != is.Masked || was.Name != is.Name || was.Bank != is.Bank || was.Class != is.Class {
		return false, nil
	}
	digits, err := e.cfg.Unseal(ctx, was.Sealed)
	if err != nil {
		return false, fmt.Errorf("settlement: opening the account %s: %w", was.Masked, err)
	}
	return digits == number.Reveal(), nil
}

// ConfirmAccount makes what was asked for the merchant's account. by is not who
// asked, and ends are the last four characters of the number, so that another
// number than the one meant is not confirmed. The tasks of payouts that failed
// or came back then say how they are issued again.
func (e *Engine) ConfirmAccount(ctx context.Context, mid, ends, by string, now time.Time, also ...func(tx store.Tx) error) (AccountChange, error) {
	return e.moveAccount(ctx, mid, by, now, also, func(tx store.Tx, c *AccountChange) error {
		switch {
		case audit.SamePerson(c.AskedBy, by):
			return fmt.Errorf("%w: %s asked for it", audit.ErrTwoPeople, c.AskedBy)
		case len(ends) != 4 || !strings.HasSuffix(c.Account.Masked, ends):
			return fmt.Errorf("%w: %s asked for %s, which does not end in %.4q; ask the merchant", ErrAccount, c.AskedBy, c.Account.Masked, ends)
		}
		c.State = AccountChanged
		if err := merchant.SetAccountTx(tx, mid, c.Account, now); err != nil {
			return fmt.Errorf("%w: %w", ErrAccount, err)
		}
		return e.tellTasks(tx, c, now)
	})
}

// RefuseAccount ends what was asked for. Whoever asked may take it back too.
func (e *Engine) RefuseAccount(ctx context.Context, mid, by string, now time.Time, also ...func(tx store.Tx) error) (AccountChange, error) {
	return e.moveAccount(ctx, mid, by, now, also, func(_ store.Tx, c *AccountChange) error {
		c.State = AccountRefused
		return nil
	})
}

// moveAccount ends the change that waits as do says. The sealed number is kept
// with the merchant alone.
func (e *Engine) moveAccount(ctx context.Context, mid, by string, now time.Time, also []func(tx store.Tx) error, do func(tx store.Tx, c *AccountChange) error) (c AccountChange, err error) {
	if by == "" {
		return c, fmt.Errorf("%w: say who you are", ErrAccount)
	}
	fault.Hit("account.move.before")
	err = e.db.Write(ctx, func(tx store.Tx) (err error) {
		c, err = accountAsked(tx, mid, now)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: nobody asks for another one, or it lapsed", ErrAccount)
		}
		if err != nil {
			return err
		}
		c.DoneBy, c.Done = by, now
		if err := do(tx, &c); err != nil {
			return err
		}
		if _, err := tx.Exec("update settlement_account set state = $1, done_by = $2, done = $3, sealed = null where merchant = $4 and done = 0", string(c.State), by, store.Micros(now), mid); err != nil {
			return err
		}
		return all(tx, also)
	})
	fault.Hit("account.move.after")
	if err != nil {
		return AccountChange{}, fmt.Errorf("settlement: the account of merchant %.20q: %w", mid, err)
	}
	_, err = e.cfg.Merchants.Refresh(ctx)
	return c, err
}

// tellTasks lets the tasks about payouts that failed or came back say that the
// merchant has another account.
func (e *Engine) tellTasks(tx store.Tx, c *AccountChange, now time.Time) error {
	rows, err := tx.Query("select "+payoutColumns+" from settlement_payout where state > 5 and child = '' and merchant = $1 and long = 0 order by ref", c.Merchant)
	payouts, err := store.All(rows, err, scanPayout)
	if err != nil {
		return err
	}
	for _, p := range payouts {
		text := fmt.Sprintf("payout %s of %s is %s: %s; the merchant's account is now %s, to which nothing is sent before %s: acquirer payout reissue %s",
			p.ref, p.amount, p.state, p.reason, c.Account.Masked, now.Add(e.cfg.Cooling).In(calendar.Beijing).Format("2006-01-02 15:04"), p.ref)
		if _, err := tx.Exec("update settlement_task set text = $1 where ref = $2 and done = 0 and kind in ('payout_failed', 'payout_returned')", text, p.ref); err != nil {
			return err
		}
	}
	return nil
}

// AccountChanges lists the changes of a merchant's account, or of all with "",
// the newest first: those that wait, or with ended all there ever were.
func (e *Engine) AccountChanges(ctx context.Context, mid string, ended bool, now time.Time, limit int) (changes []AccountChange, err error) {
	which := 0
	if ended {
		which = 1
	}
	err = e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select "+accountColumns+` from settlement_account where (merchant = $1 or $1 = '') and ($2 = 1 or done = 0 and lapses > $3)
			order by asked desc, merchant limit $4`, mid, which, now.UnixMicro(), limit)
		changes, err = store.All(rows, err, scanAccount)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: listing changes of accounts: %w", err)
	}
	for i := range changes {
		if c := &changes[i]; c.State == AccountAsked && !now.Before(c.Lapses) {
			c.State, c.Done = AccountLapsed, c.Lapses
		}
	}
	return changes, nil
}

// waitingAccount is the change of a merchant that waits, zero without one.
func (e *Engine) waitingAccount(ctx context.Context, mid string) (AccountChange, error) {
	var changes []AccountChange
	err := e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select "+accountColumns+" from settlement_account where merchant = $1 and done = 0", mid)
		changes, err = store.All(rows, err, scanAccount)
		return err
	})
	if err != nil || len(changes) == 0 {
		return AccountChange{}, err
	}
	return changes[0], nil
}

const accountColumns = "merchant, sealed, masked, name, bank, class, was, why, state, asked_by, asked, lapses, done_by, done"

func scanAccount(r *store.Rows, c *AccountChange) error {
	var asked, lapses, done int64
	a := &c.Account
	err := r.Scan(&c.Merchant, &a.Sealed, &a.Masked, &a.Name, &a.Bank, &a.Class, &c.Before, &c.Why, &c.State, &c.AskedBy, &asked, &lapses, &c.DoneBy, &done)
	c.Asked, c.Lapses, c.Done = store.Instant(asked), store.Instant(lapses), store.Instant(done)
	return err
}

// accountAsked reads and locks the change of a merchant that waits, and ends one
// that lapsed; store.ErrNotFound when there is none.
func accountAsked(tx store.Tx, mid string, now time.Time) (AccountChange, error) {
	if _, err := tx.Exec("update settlement_account set state = $1, done = lapses, sealed = null where merchant = $2 and done = 0 and lapses <= $3", string(AccountLapsed), mid, store.Micros(now)); err != nil {
		return AccountChange{}, err
	}
	rows, err := tx.Query("select "+accountColumns+" from settlement_account where merchant = $1 and done = 0 for update", mid)
	all, err := store.All(rows, err, scanAccount)
	if err == nil && len(all) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return AccountChange{}, err
	}
	return all[0], nil
}

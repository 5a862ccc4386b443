package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// The terms on which merchants are paid: who may be paid early, what an account
// takes in a day, what becomes of old debts.

// dayLimit is what a merchant's account takes in a day (银发〔2016〕302号): a
// class II account 10,000 yuan, a class III account 2,000. 0 is no limit.
func (e *Engine) dayLimit(mid string) money.Amount {
	m, known := e.cfg.Merchants.Merchant([]byte(mid))
	switch {
	case known && m.Account.Class == 2:
		return 10_000_00
	case known && m.Account.Class == 3:
		return 2_000_00
	}
	return 0
}

// roomOn is what is left of an account's limit on a day.
func roomOn(tx store.Tx, mid string, due calendar.Date, limit money.Amount) (money.Amount, error) {
	var taken money.Amount
	err := tx.QueryRow("select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_payout where merchant = $1 and due = $2 and state < $3", mid, due, Failed).Scan(&taken)
	return limit - taken, err
}

// fullToday says that an account has been sent what it takes in a day; the
// payout then goes the next one. It is asked in the write that claims the payout,
// under a lock on the merchant's row, so that of several that come due at once no
// two pass.
func (e *Engine) fullToday(tx store.Tx, p *payout, now time.Time) (string, error) {
	limit := e.dayLimit(p.merchant)
	if limit == 0 || p.amount > limit { // cut before the account was one of a class: the bank decides
		return "", nil
	}
	var mid string
	if err := tx.QueryRow("select mid from merchant where mid = $1 for update", p.merchant).Scan(&mid); err != nil {
		return "", err
	}
	var sent money.Amount
	today := calendar.DateOf(now)
	if err := tx.QueryRow(`select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_payout where merchant = $1 and state > $2 and state < $3 and submitted >= $4 and submitted < $5`,
		p.merchant, Created, Failed, today.Time().UnixMicro(), today.AddDays(1).Time().UnixMicro()).Scan(&sent); err != nil {
		return "", fmt.Errorf("settlement: what merchant %s was sent today: %w", p.merchant, err)
	}
	if sent+p.amount > limit {
		return "the account takes " + limit.String() + " a day and was sent " + sent.String(), nil
	}
	return "", nil
}

// Slow is what kind of reason a batch is not paid early for.
type Slow string

// The kinds.
const (
	SlowMerchant Slow = "merchant" // not active, or its account has just changed
	SlowHours    Slow = "hours"    // the bank does not pay at once now
	SlowRisk     Slow = "risk"     // it is watched, or too much goes back
	SlowAccount  Slow = "account"  // its account takes no more that day
	SlowFunds    Slow = "funds"    // our own money does not cover it, or no more is lent to it
	SlowLate     Slow = "late"     // it would be sent no earlier than T+1
)

// SlowCauses lists them all.
var SlowCauses = []Slow{SlowMerchant, SlowHours, SlowRisk, SlowAccount, SlowFunds, SlowLate}

// whyLate is the reason of SlowLate: nobody pays for speed that is none.
const whyLate = "it would be sent no earlier than T+1"

// overdue is the last business date whose T+1 is a day or before it; 0 when the
// calendar does not say.
func overdue(day calendar.Date) calendar.Date {
	for d := day.AddDays(-1); d > day.AddDays(-40); d = d.AddDays(-1) { // no holiday is as long
		if due, err := calendar.SettleDate(d); err == nil && due <= day {
			return d
		}
	}
	return 0
}

// PaidOn is the day on which a sale of a business date that waits is sent, as
// things stand now, if nothing comes between, and why it is later than its speed
// says, "" when it is not. calendar.ErrYear when nobody knows the day yet.
func (e *Engine) PaidOn(date calendar.Date, speed merchant.Speed, now time.Time) (due calendar.Date, why string, err error) {
	today := calendar.DateOf(now)
	if speed == merchant.S0 {
		switch {
		case date <= overdue(today):
			why = whyLate
		case !e.bankPays(now):
			why = e.bankHours()
		default:
			return today, "", nil
		}
	}
	if due, err = calendar.SettleDate(date); err != nil {
		return 0, why, err
	}
	sent, closes := due, max(today, calendar.DateOf(e.ends(date)))
	switch {
	case speed == merchant.D0 && e.windowComes(date, now):
		sent = max(today, date)
	case speed == merchant.D0:
		sent = closes
	case speed == merchant.D1:
		sent = max(closes, date.AddDays(1))
	}
	if sent < due {
		return sent, "", nil
	}
	if speed == merchant.D0 || speed == merchant.D1 && date.AddDays(1) < due {
		why = whyLate
	}
	return max(today, due), why, nil
}

// windowComes says whether D0 sales of a business date are paid in a window
// before the date is closed. A window that begins in this minute still comes.
func (e *Engine) windowComes(date calendar.Date, now time.Time) bool {
	for _, w := range e.cfg.Windows {
		at := time.Duration(w/100)*time.Hour + time.Duration(w%100)*time.Minute
		if at < e.cfg.CutOff && date.Time().Add(at+time.Minute).After(now) {
			return true
		}
	}
	return false
}

// tooFast says why a batch cannot be paid before the network pays; "" when it
// can.
func (r *run) tooFast(tx store.Tx, b *batch, net, funds money.Amount) (cause Slow, why string, err error) {
	e := r.e
	m, known := e.cfg.Merchants.Merchant([]byte(b.merchant))
	switch {
	case !known:
		return SlowMerchant, "the merchant is not registered", nil
	case m.Status != merchant.Active:
		return SlowMerchant, "the merchant is " + string(m.Status), nil
	case b.speed == merchant.S0 && !e.bankPays(r.now):
		return SlowHours, e.bankHours(), nil
	case b.speed != merchant.D1 && e.cooling(m, r.now) != "": // tomorrow it may have passed
		return SlowMerchant, e.cooling(m, r.now), nil
	}
	if why, err := e.risky(tx, b.merchant, r.date, r.now); err != nil || why != "" {
		return SlowRisk, why, err
	}
	if limit := e.dayLimit(b.merchant); limit > 0 {
		room, err := roomOn(tx, b.merchant, b.due, limit)
		if err != nil || net > room {
			return SlowAccount, "the account takes " + limit.String() + " a day", err
		}
	}
	if e.cfg.AdvanceLimit > 0 {
		var lent money.Amount
		err := tx.QueryRow("select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_payout where merchant = $1 and due = $2 and advance = 1 and state < $3", b.merchant, b.due, Failed).Scan(&lent)
		if err != nil || net > e.cfg.AdvanceLimit-lent {
			return SlowFunds, "no more than " + e.cfg.AdvanceLimit.String() + " a day is advanced to one merchant", err
		}
	}
	if net > funds {
		return SlowFunds, "own funds do not cover it", nil
	}
	return "", "", nil
}

// slowed tells OnSlow once the write that slows a batch down is durable.
func (r *run) slowed(tx store.Tx, cause Slow) {
	if r.e.cfg.OnSlow == nil {
		return
	}
	tx.After(func(fate error) {
		if fate == nil {
			r.e.cfg.OnSlow(cause)
		}
	})
}

// bankPays says whether the bank takes orders that it pays at once.
func (e *Engine) bankPays(now time.Time) bool {
	if e.cfg.BankFrom == e.cfg.BankTo {
		return true
	}
	clock := now.Sub(calendar.DateOf(now).Time())
	return clock >= e.cfg.BankFrom && clock < e.cfg.BankTo
}

func (e *Engine) bankHours() string {
	return "the bank pays at once only from " + clockOf(e.cfg.BankFrom) + " to " + clockOf(e.cfg.BankTo)
}

func clockOf(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

// cooling says until when nothing is paid to an account that was just changed:
// whoever stole a merchant's login has not its money yet.
func (e *Engine) cooling(m *merchant.Merchant, now time.Time) string {
	until := m.Account.Changed.Add(e.cfg.Cooling)
	if m.Account.Changed.IsZero() || !now.Before(until) {
		return ""
	}
	return "the settlement account was changed; payouts wait until " + until.In(calendar.Beijing).Format("2006-01-02 15:04")
}

// arrears moves a merchant's debt that has become old or great out of the
// payable account, once all its batches of the run are netted, and collects
// from what it sells later; collected is what its other batches of this
// transaction collect already.
func (r *run) arrears(tx store.Tx, transfers []ledger.Transfer, b *batch, net, available, collected money.Amount, last bool) ([]ledger.Transfer, error) {
	switch {
	case net > 0:
		owes, err := ledger.BalanceTx(tx, ledger.Arrears, b.merchant)
		if err != nil {
			return nil, err
		}
		if b.arrears = -max(0, min(net, available, owes.Net(ledger.Arrears)-collected)); b.arrears == 0 {
			return transfers, nil
		}
		b.reason = "collected " + (-b.arrears).String() + " of arrears"
		return append(transfers, ledger.ToArrears(r.ref(b, "collected"), r.date, b.merchant, b.arrears)), nil
	case net < 0 && last && r.seq == seqClose:
		old := r.e.cfg.ArrearsDays > 0 && b.since > 0 && b.carryIn < 0 && b.since <= r.date.AddDays(-r.e.cfg.ArrearsDays)
		great := r.e.cfg.ArrearsOver > 0 && -net > r.e.cfg.ArrearsOver
		if !old && !great {
			return transfers, nil
		}
		b.arrears, b.reason = -net, "a debt of "+(-net).String()+" moved to arrears"
		since := r.date
		if b.carryIn < 0 && b.since > 0 {
			since = b.since
		}
		if err := addTask(tx, Task{Key: "arrears/" + r.ref(b, ""), Kind: "arrears", Merchant: b.merchant, Ref: r.ref(b, ""), Created: r.now,
			Text: fmt.Sprintf("merchant %s owes %s since %s; it is collected from what it sells, write to it", b.merchant, -net, since)}); err != nil {
			return nil, err
		}
		return append(transfers, ledger.ToArrears(r.ref(b, "arrears"), r.date, b.merchant, b.arrears)), nil
	}
	return transfers, nil
}

// terms is what settlement knows of a merchant's past.
type terms struct {
	firstTxn  int64         // its first sale, 0 before there is one
	firstDate calendar.Date // and when that was
	lastDate  calendar.Date // of its newest sale
	streak    int           // days in a row with sales, up to lastDate
	fastBy    string        // who enabled early payment, "" nobody
}

// seen remembers a sale of a merchant: the first, and the days with sales.
func (e *Engine) seen(tx store.Tx, l *line) error {
	if last, known := e.lastSale.Load(l.merchant); known && last.(calendar.Date) >= l.txnDate {
		return nil
	}
	if _, err := tx.Exec(`insert into settlement_merchant (merchant, first_txn, first_date, last_date, streak, fast_by, fast) values ($1,$2,$3,$3,1,'',0)
		on conflict (merchant) do update set
			first_txn = case when settlement_merchant.first_txn = 0 then excluded.first_txn else settlement_merchant.first_txn end,
			first_date = case when settlement_merchant.first_txn = 0 then excluded.first_date else settlement_merchant.first_date end,
			streak = case when settlement_merchant.last_date = $4 then settlement_merchant.streak + 1 else 1 end,
			last_date = excluded.last_date
		where settlement_merchant.last_date < excluded.last_date`, l.merchant, l.txn, l.txnDate, l.txnDate.AddDays(-1)); err != nil {
		return fmt.Errorf("settlement: remembering the sales of merchant %s: %w", l.merchant, err)
	}
	tx.After(func(fate error) {
		if fate == nil {
			e.lastSale.Store(l.merchant, l.txnDate)
		}
	})
	return nil
}

// mayBeFast says why a sale of a merchant that is paid early is not: its first
// one (unless somebody has enabled early payment for it), and where the
// profile asks for it, one of a merchant that is new or does not sell every day.
func (e *Engine) mayBeFast(tx store.Tx, l *line) (string, error) {
	var t terms
	if err := tx.QueryRow("select first_txn, first_date, last_date, streak, fast_by from settlement_merchant where merchant = $1", l.merchant).
		Scan(&t.firstTxn, &t.firstDate, &t.lastDate, &t.streak, &t.fastBy); err != nil {
		return "", fmt.Errorf("settlement: reading the sales of merchant %s: %w", l.merchant, err)
	}
	switch {
	case t.firstTxn == l.txn && t.fastBy == "":
		return "the first sale of a merchant is paid T+1", nil
	case t.firstDate.DaysUntil(l.txnDate) < e.cfg.FastAfter:
		return fmt.Sprintf("early payment begins %d days after the first sale", e.cfg.FastAfter), nil
	case t.streak < e.cfg.FastStreak:
		return fmt.Sprintf("early payment begins after %d days in a row with sales", e.cfg.FastStreak), nil
	}
	return "", nil
}

// AllowFast enables early payment for a merchant from its first sale on; by
// says who did so. FastAfter and FastStreak of the Config still hold.
func (e *Engine) AllowFast(ctx context.Context, mid, by string, now time.Time, also ...func(tx store.Tx) error) error {
	if mid == "" || by == "" {
		return errors.New("settlement: early payment is enabled for a merchant by somebody: both must be named")
	}
	if _, known := e.cfg.Merchants.Merchant([]byte(mid)); !known {
		return fmt.Errorf("settlement: merchant %q is not registered", mid)
	}
	fault.Hit("settlement.fast.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`insert into settlement_merchant (merchant, first_txn, first_date, last_date, streak, fast_by, fast) values ($1,0,0,0,0,$2,$3)
			on conflict (merchant) do update set fast_by = excluded.fast_by, fast = excluded.fast where settlement_merchant.fast_by = ''`, mid, by, now.UnixMicro())
		if err != nil {
			return err
		}
		return all(tx, also)
	})
	fault.Hit("settlement.fast.after")
	if err != nil {
		return fmt.Errorf("settlement: enabling early payment of merchant %s: %w", mid, err)
	}
	return nil
}

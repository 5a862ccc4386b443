package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/settlement/bankfile"
	"acquirer/store"
)

// What networks and wallets pay arrives on the merchants' bank account. The
// bank's statement says so, one credit an entry, and each is booked once: as the
// receipt of the business date that its payer names, or in suspense (2301) until
// the date is closed or two people say what it is.

// Network is the card network's name among payers; wallets have their own.
const Network = "network"

func payerName(wallet string) string { return cmp.Or(wallet, Network) }

func walletOf(payer string) string {
	if payer == Network {
		return ""
	}
	return payer
}

// Credit is money that came in, as a bank's statement has it.
type Credit struct {
	Entry     string        // the bank's reference of the entry, 1 to 200 bytes; it is booked once
	Reference string        // what the payer wrote, at most 200 bytes; may be empty
	Account   Number        // it came from; may be empty
	Amount    money.Amount  // above zero
	Booked    calendar.Date // by the bank
	line      int           // of the statement that it stands in; 0 for none
}

// check says whether it can be booked, and once; of a statement with the line.
func (c *Credit) check() error {
	err := c.wrong()
	if err != nil && c.line > 0 {
		return &bankfile.Error{Line: c.line, Column: 1, What: err.Error()}
	}
	return err
}

func (c *Credit) wrong() error {
	plain := func(s string, most int) bool {
		return len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
	}
	switch {
	case c.Entry == "" || !plain(c.Entry, 200):
		return fmt.Errorf("settlement: a credit of %s has no reference of the bank of 1 to 200 characters, so that nobody can tell whether it was booked before", c.Amount)
	case !plain(c.Reference, 200) || !plain(c.Account.Reveal(), 34):
		return fmt.Errorf("settlement: credit %.64q: what its payer wrote is longer than 200 characters, or its account than 34, or not text", c.Entry)
	case c.Amount <= 0 || !c.Booked.Valid():
		return fmt.Errorf("settlement: credit %.64q is %s, booked on %s; want an amount above zero and a date", c.Entry, c.Amount, c.Booked)
	}
	return nil
}

// Payer is a rule by which a credit is known as what the network, or a wallet,
// pays for a business date. Of several that fit the first one counts.
type Payer struct {
	Wallet  string // "" for the card network
	Account string // that it pays from; empty is any
	// Reference is what it writes: {date} stands for the business date, 20261120 or
	// 2026-11-20, and * for anything.
	Reference string
}

// Check refuses a rule that says no date.
func (p *Payer) Check() error {
	_, err := p.pattern()
	return err
}

// pattern is the rule's reference as a regular expression.
func (p *Payer) pattern() (*regexp.Regexp, error) {
	if strings.Count(p.Reference, "{date}") != 1 {
		return nil, fmt.Errorf("settlement: the reference %.64q of payer %s has no {date}, or several; write it like NET{date}", p.Reference, payerName(p.Wallet))
	}
	text := regexp.QuoteMeta(p.Reference)
	text = strings.ReplaceAll(text, `\*`, ".*")
	return regexp.Compile("^" + strings.Replace(text, `\{date\}`, `(\d{4})-?(\d\d)-?(\d\d)`, 1) + "$")
}

// payerRule is a Payer ready to be asked.
type payerRule struct {
	Payer
	reference *regexp.Regexp
}

func payerRules(payers []Payer) ([]payerRule, error) {
	var out []payerRule
	for _, p := range payers {
		re, err := p.pattern()
		if err != nil {
			return nil, err
		}
		out = append(out, payerRule{p, re})
	}
	return out, nil
}

// payerOf tells whose a credit is and which business date it pays for; "" and 0
// when no rule knows it.
func (e *Engine) payerOf(c *Credit) (payer string, date calendar.Date) {
	for _, p := range e.payers {
		if p.Account != "" && p.Account != c.Account.Reveal() {
			continue
		}
		m := p.reference.FindStringSubmatch(c.Reference)
		if m == nil {
			continue
		}
		if date, err := calendar.ParseDate(m[1] + "-" + m[2] + "-" + m[3]); err == nil {
			return payerName(p.Wallet), date
		}
	}
	return "", 0
}

// CreditState says where a credit stands.
type CreditState int

// The states.
const (
	CreditSuspense CreditState = iota + 1 // in 2301
	CreditReceipt                         // the receipt of its date
	CreditMore                            // what the receipt of its date lacked
	CreditBack                            // back to its payer
)

var creditStates = [...]string{"none", "suspense", "receipt", "more", "back"}

func (s CreditState) String() string {
	if s < 0 || int(s) >= len(creditStates) {
		return fmt.Sprintf("state %d", int(s))
	}
	return creditStates[s]
}

// MarshalText writes String; UnmarshalText reads it.
func (s CreditState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *CreditState) UnmarshalText(text []byte) error {
	for i, name := range creditStates {
		if name == string(text) {
			*s = CreditState(i)
			return nil
		}
	}
	return fmt.Errorf("settlement: %.40q is no state of a credit", text)
}

// Credited is a credit that was taken in.
type Credited struct {
	Entry     string        `json:"entry"`
	Reference string        `json:"reference"`
	Account   string        `json:"account"` // masked
	Amount    money.Amount  `json:"amount"`
	Booked    calendar.Date `json:"booked"`
	Taken     time.Time     `json:"taken"`
	Payer     string        `json:"payer,omitempty"` // network or a wallet
	Date      calendar.Date `json:"date,omitzero"`   // business date that it pays for
	State     CreditState   `json:"state"`
	Why       string        `json:"why,omitempty"`  // it is in suspense
	Word      string        `json:"word,omitempty"` // what somebody said that becomes of it
	AskedBy   string        `json:"asked_by,omitempty"`
	Asked     time.Time     `json:"asked,omitzero"`
	DoneBy    string        `json:"done_by,omitempty"`

	suspense bool // it was, or is, in 2301
}

// Waits says that no person needs to look at it: its date is not closed yet.
func (c Credited) Waits() bool { return c.State == CreditSuspense && c.Why == notClosed }

const creditColumns = "entry, reference, account, amount, booked, taken, payer, date, state, suspense, why, word, asked_by, asked, done_by"

func scanCredit(r *store.Rows, c *Credited) error {
	var taken, asked int64
	err := r.Scan(&c.Entry, &c.Reference, &c.Account, &c.Amount, &c.Booked, &taken, &c.Payer, &c.Date, &c.State, &c.suspense, &c.Why, &c.Word, &c.AskedBy, &asked, &c.DoneBy)
	c.Taken, c.Asked = store.Instant(taken), store.Instant(asked)
	return err
}

func readCredits(tx store.Tx, where string, args ...any) ([]Credited, error) {
	rows, err := tx.Query("select "+creditColumns+" from settlement_credit where "+where, args...)
	all, err := store.All(rows, err, scanCredit)
	if err != nil {
		return nil, fmt.Errorf("settlement: reading credits: %w", err)
	}
	return all, nil
}

func (c *Credited) save(tx store.Tx) error {
	_, err := tx.Exec("update settlement_credit set payer = $1, date = $2, state = $3, suspense = $4, why = $5, word = $6, asked_by = $7, asked = $8, done_by = $9 where entry = $10",
		c.Payer, c.Date, int(c.State), c.suspense, c.Why, c.Word, c.AskedBy, store.Micros(c.Asked), c.DoneBy, c.Entry)
	return err
}

// takeCredits reads the bank's credits from where they were left and books them,
// then places those whose date has closed since.
func (e *Engine) takeCredits(ctx context.Context, now time.Time) error {
	if !e.TakesCredits() {
		return nil
	}
	for range feedPages {
		var after string
		err := e.db.Read(ctx, func(tx store.Tx) (err error) {
			after, err = feedAt(tx, creditFeed)
			return err
		})
		if err != nil {
			return fmt.Errorf("settlement: reading the cursor of the bank's credits: %w", err)
		}
		credits, next, err := e.cfg.Rail.Credits(ctx, after)
		if err != nil {
			return err
		}
		for _, c := range credits {
			if err := e.TakeCredit(ctx, c, now); err != nil {
				return err
			}
		}
		if err := e.step("credits taken"); err != nil {
			return err
		}
		if next == after || len(credits) == 0 {
			break
		}
		fault.Hit("credit.cursor.before")
		if err := e.db.Write(ctx, func(tx store.Tx) error { return setFeed(tx, creditFeed, next) }); err != nil {
			return fmt.Errorf("settlement: saving the cursor of the bank's credits: %w", err)
		}
		fault.Hit("credit.cursor.after")
	}
	return e.placeWaiting(ctx, now)
}

// cameBack reports that a credit bears a payout's reference: it is that payout,
// returned, which the rail says.
func cameBack(tx store.Tx, c *Credit) (bool, error) {
	var n int
	err := tx.QueryRow("select count(*) from settlement_payout where ref = $1", c.Reference).Scan(&n)
	return n > 0, err
}

// CheckCredit says whether a credit of a statement can be booked, and once; else a
// *bankfile.Error with its line.
func (e *Engine) CheckCredit(ctx context.Context, c Credit) error {
	return e.db.Read(ctx, func(tx store.Tx) error {
		if back, err := cameBack(tx, &c); err != nil || back {
			return err
		}
		return c.check()
	})
}

// TakesCredits says that there are rules of who pays us, by which credits are
// booked.
func (e *Engine) TakesCredits() bool { return len(e.payers) > 0 }

// TakeCredit books money that came in, once for its entry. What a rule knows is
// the receipt of its date. Anything else is in suspense: until its date is closed,
// or as a task for people. Another amount or reference under an entry that was
// taken before changes nothing and is a task.
func (e *Engine) TakeCredit(ctx context.Context, c Credit, now time.Time) error {
	fault.Hit("credit.take.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		if _, err := openDateTx(tx); err != nil { // one credit at a time, and no date closes meanwhile
			return err
		}
		if back, err := cameBack(tx, &c); err != nil || back {
			return err
		}
		if err := c.check(); err != nil {
			return err
		}
		row := Credited{Entry: c.Entry, Reference: c.Reference, Account: c.Account.String(), Amount: c.Amount, Booked: c.Booked, Taken: now}
		row.Payer, row.Date = e.payerOf(&c)
		was, err := readCredits(tx, "entry = $1", c.Entry)
		if err != nil {
			return err
		}
		if len(was) > 0 {
			if w := &was[0]; w.Amount != row.Amount || w.Reference != row.Reference {
				return addTask(tx, Task{Key: "credit_differs/" + c.Entry, Kind: "credit", Ref: c.Entry, Created: now,
					Text: fmt.Sprintf("the bank's entry %s was taken as %s, %q; now it says %s, %q: ask the bank; what was booked stands", c.Entry, w.Amount, w.Reference, row.Amount, row.Reference)})
			}
			return nil
		}
		if _, err := tx.Exec("insert into settlement_credit ("+creditColumns+") values ($1,$2,$3,$4,$5,$6,$7,$8,1,0,'','','',0,'')",
			row.Entry, row.Reference, row.Account, row.Amount, row.Booked, now.UnixMicro(), row.Payer, row.Date); err != nil {
			return err
		}
		return e.place(tx, &row, now)
	})
	fault.Hit("credit.take.after")
	if err != nil {
		return fmt.Errorf("settlement: credit %s of %s: %w", c.Entry, c.Amount, err)
	}
	if err := e.step("credited"); err != nil {
		return err
	}
	return e.Earn(ctx, now)
}

// notClosed is why a credit waits that no person needs to look at.
const notClosed = "its business date is not closed yet"

// place books what a credit pays for, as far as that can be said now, and writes
// how it stands. The caller has locked the books.
func (e *Engine) place(tx store.Tx, c *Credited, now time.Time) error {
	date, err := e.lockBooks(tx, now)
	if err != nil {
		return err
	}
	t, why, err := c.pays(tx, date, now)
	if err != nil {
		return err
	}
	if c.State == CreditSuspense && c.suspense && c.Why == why {
		return nil
	}
	c.Why = why
	switch {
	case c.State != CreditSuspense:
		err = endTasks(tx, now, "credit/"+c.Entry)
	case why != notClosed:
		err = addTask(tx, Task{Key: "credit/" + c.Entry, Kind: "credit", Ref: c.Entry, Created: now,
			Text: fmt.Sprintf("%s came on %s from account %s, %q, entry %s, and is in suspense (2301): %s; acquirer settle credit says what becomes of it", c.Amount, c.Booked, cmp.Or(c.Account, "unknown"), c.Reference, c.Entry, why)})
	}
	if err != nil {
		return err
	}
	if len(t) > 0 {
		if _, err := ledger.PostTx(tx, t); err != nil {
			return err
		}
	}
	return c.save(tx)
}

// pays decides what a credit is and returns what is to be booked beside a
// receipt, which it books; or why the credit is in suspense.
func (c *Credited) pays(tx store.Tx, date calendar.Date, now time.Time) (t []ledger.Transfer, why string, err error) {
	if !c.suspense {
		t = append(t, ledger.CreditIn(c.Entry, date, c.Amount))
	}
	toSuspense := func(why string) ([]ledger.Transfer, string, error) {
		c.State, c.suspense = CreditSuspense, true
		return t, why, nil
	}
	var closed bool
	if closed, err = isClosed(tx, c.Date); err != nil {
		return nil, "", err
	}
	switch {
	case c.Payer == "":
		return toSuspense("no rule of settlement.payers knows who paid it")
	case c.Date > calendar.DateOf(now):
		return toSuspense(fmt.Sprintf("it says that it is for %s, which has not come", c.Date))
	case !closed:
		return toSuspense(notClosed)
	}
	was, err := receiptFor(tx, c.Date, walletOf(c.Payer))
	if errors.Is(err, store.ErrNotFound) {
		book := ledger.NetworkReceipt
		if c.suspense {
			book = ledger.CreditReceipt
		}
		c.State = CreditReceipt
		return nil, "", bookReceipt(tx, date, Receipt{Date: c.Date, Wallet: walletOf(c.Payer), Received: c.Amount, Reference: c.Entry}, now, book)
	}
	if err != nil {
		return nil, "", err
	}
	var others int
	if err := tx.QueryRow("select count(*) from settlement_credit where date = $1 and payer = $2 and state in (2, 3)", c.Date, c.Payer).Scan(&others); err != nil {
		return nil, "", err
	}
	switch lacks := was.Lacks(); {
	case others == 0 && was.Received == c.Amount && !c.suspense: // a person booked it before the statement came
		c.State = CreditReceipt
		return nil, "", nil
	case lacks == c.Amount, lacks > c.Amount && c.DoneBy != "":
		c.State, c.suspense = CreditMore, true
		return append(t, ledger.CreditMore(c.Entry, date, c.Amount)), "", nil
	}
	return toSuspense(fmt.Sprintf("%s was paid by %s before, %s under %s", c.Date, c.Payer, was.Received, was.Reference))
}

// isClosed reports that a business date is closed and its runs have gathered what
// is owed for it.
func isClosed(tx store.Tx, date calendar.Date) (closed bool, err error) {
	var open, gathering int
	err = tx.QueryRow("select (select count(*) from settlement_state where open_date <= $1), (select count(*) from settlement_run where state < 3 and state = $2 and date = $1)", date, runGathering).Scan(&open, &gathering)
	return open == 0 && gathering == 0, err
}

// placeWaiting places the credits whose business date has closed since they came.
func (e *Engine) placeWaiting(ctx context.Context, now time.Time) error {
	var waiting []Credited
	err := e.db.Read(ctx, func(tx store.Tx) (err error) {
		waiting, err = readCredits(tx, `state = 1 and why = $1 and date < (select open_date from settlement_state where id = 1)
			and not exists (select 1 from settlement_run r where r.state < 3 and r.state = $2 and r.date = settlement_credit.date) order by taken, entry`, notClosed, runGathering)
		return err
	})
	if err != nil {
		return err
	}
	for _, w := range waiting {
		fault.Hit("credit.place.before")
		err := e.db.Write(ctx, func(tx store.Tx) error {
			c, err := lockCredit(tx, w.Entry)
			if err != nil || c.State != CreditSuspense {
				return err
			}
			return e.place(tx, &c, now)
		})
		fault.Hit("credit.place.after")
		if err != nil {
			return fmt.Errorf("settlement: placing credit %s of %s: %w", w.Entry, w.Amount, err)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	return e.Earn(ctx, now)
}

// lockCredit takes the books and reads a credit; ErrNotFound of store when none
// has such an entry.
func lockCredit(tx store.Tx, entry string) (Credited, error) {
	if _, err := openDateTx(tx); err != nil {
		return Credited{}, err
	}
	all, err := readCredits(tx, "entry = $1", entry)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no credit has the entry %.64q: %w", entry, store.ErrNotFound)
	}
	if err != nil {
		return Credited{}, err
	}
	return all[0], nil
}

// ErrCredit says that a credit cannot become what somebody says.
var ErrCredit = errors.New("settlement: the credit cannot become that")

// AssignCredit says what a credit in suspense is: what payer, network or a wallet,
// pays for a business date, or with payer "" money that went back to whoever paid
// it or that a person had booked already. One person says it, another one the same
// (audit.Ask), and it is booked. Whatever also writes is written with
// it. done reports that it is booked.
func (e *Engine) AssignCredit(ctx context.Context, entry, payer string, day calendar.Date, who string, now time.Time, also ...func(tx store.Tx) error) (done bool, err error) {
	word := "back"
	if payer != "" {
		word = payer + " " + day.String()
	}
	fault.Hit("credit.assign.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		done = false
		c, err := lockCredit(tx, entry)
		if err != nil {
			return err
		}
		switch {
		case who == "":
			return fmt.Errorf("%w: say who you are", ErrCredit)
		case c.State != CreditSuspense:
			return fmt.Errorf("%w: it is in suspense no more: %s", ErrCredit, c.State)
		}
		ask := audit.Ask{What: c.Word, By: c.AskedBy, At: c.Asked}
		if done, err = ask.Second(word, who, now); err != nil {
			return err
		}
		if !done {
			c.Word, c.AskedBy, c.Asked = ask.What, ask.By, ask.At
			return errors.Join(c.save(tx), all(tx, also))
		}
		c.DoneBy = who
		if payer == "" {
			date, err := e.lockBooks(tx, now)
			if err != nil {
				return err
			}
			c.State, c.Why = CreditBack, ""
			_, err = ledger.PostTx(tx, []ledger.Transfer{ledger.CreditBack(c.Entry, date, c.Amount)})
			return errors.Join(err, c.save(tx), endTasks(tx, now, "credit/"+c.Entry), all(tx, also))
		}
		c.Payer, c.Date, c.Why = payer, day, "assigned"
		if err := e.place(tx, &c, now); err != nil {
			return err
		}
		if c.State == CreditSuspense {
			return fmt.Errorf("%w: %s", ErrCredit, c.Why)
		}
		return all(tx, also)
	})
	fault.Hit("credit.assign.after")
	if err != nil {
		return false, fmt.Errorf("settlement: credit %.64q: %w", entry, err)
	}
	if !done {
		return false, nil
	}
	return true, errors.Join(e.repay(ctx, now), e.Earn(ctx, now))
}

// OddCreditsTx lists the credits in suspense that are for people.
func OddCreditsTx(tx store.Tx) ([]Credited, error) {
	return readCredits(tx, "state = 1 and why <> $1 order by taken, entry", notClosed)
}

// Credits lists up to limit credits, the newest first; with open only those in
// suspense.
func (e *Engine) Credits(ctx context.Context, open bool, limit int) (list []Credited, err error) {
	where := "1 = 1"
	if open {
		where = "state = 1"
	}
	err = e.db.Read(ctx, func(tx store.Tx) (err error) {
		list, err = readCredits(tx, where+" order by taken desc, entry limit $1", limit)
		return err
	})
	return list, err
}

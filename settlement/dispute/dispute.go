// Package dispute keeps the cases in which an issuer asks for a slip or takes a
// payment back: retrieval (调单), chargeback (一次退单), representment (再请款),
// second chargeback (二次退单), pre-arbitration, arbitration.
//
// A case is a payment; it goes through stages. In each stage one side has to
// answer until a date that the network's terms set: while we have to, the case is
// open, while they have to, it is answered. Money follows the stages: what a
// retrieval is about is held, a chargeback takes it (out of the hold first), a
// representment gives it back and holds it until the issuer can ask no more.
package dispute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// Schema is the cases, what happened to them, and what was put with them.
var Schema = store.Schema{Name: "dispute", Steps: []string{`
create table dispute_case (
	id       BIGINT primary key,
	source   TEXT not null,      -- the network or issuer, or the wallet
	txn      BIGINT not null,    -- the journal's id; 0 when nobody knows it
	rrn      TEXT not null,
	merchant TEXT not null,
	terminal TEXT not null,
	wallet   TEXT not null,
	pan      TEXT not null,      -- masked
	amount   BIGINT not null,    -- in dispute
	fee      BIGINT not null,    -- what the network took for it so far
	reason   TEXT not null,      -- the network's code
	stage    TEXT not null,
	state    TEXT not null,
	round    INTEGER not null,   -- how often the money was taken: part of the keys of postings
	late     INTEGER not null,   -- 1: we did not answer a retrieval in time, and may not represent
	began    INTEGER not null,   -- date on which the clock of the stage began
	due      INTEGER not null,   -- last date of whoever has to answer; 0 when nobody has to
	reminded INTEGER not null,   -- 50, 80 or 100 percent of the clock were told
	proof    TEXT not null,      -- SHA-256 of the evidence that was exported last
	asked    TEXT not null,      -- outcome that one person asked for
	asked_by TEXT not null,
	opened   BIGINT not null,
	changed  BIGINT not null
);
create index dispute_case_open on dispute_case (due) where due <> 0;
create index dispute_case_txn on dispute_case (txn) where txn <> 0;
create table dispute_event (
	id      BIGINT primary key,
	case_id BIGINT not null,
	key     TEXT not null unique, -- of the network's item, or of the step: each counts once
	at      BIGINT not null,
	what    TEXT not null,
	who     TEXT not null,
	note    TEXT not null,
	amount  BIGINT not null
);
create index dispute_event_case on dispute_event (case_id, id);
create table dispute_file (
	id      BIGINT primary key,
	case_id BIGINT not null,
	name    TEXT not null,
	sha     TEXT not null,
	added   BIGINT not null,
	who     TEXT not null,
	content BYTEA not null,
	unique (case_id, name)
)`, `
create unique index dispute_case_once on dispute_case (source, txn) where txn <> 0`, `
alter table dispute_case add column packed INTEGER not null default 0; -- how many of the files put with it are in the evidence that was exported last
update dispute_case set packed = (select count(*) from dispute_file where case_id = dispute_case.id) where proof <> ''`}}

// Stage is how far a case has gone.
type Stage string

// The stages.
const (
	Retrieval      Stage = "retrieval"
	Chargeback     Stage = "chargeback"
	Second         Stage = "second_chargeback"
	PreArbitration Stage = "pre_arbitration"
	Arbitration    Stage = "arbitration"
)

// State says whose turn it is, or how it ended.
type State string

// The states.
const (
	Open     State = "open"     // ours to answer
	Answered State = "answered" // theirs
	Won      State = "won"
	Lost     State = "lost"
	Closed   State = "closed" // a retrieval that nothing followed
)

func (s State) over() bool { return s == Won || s == Lost || s == Closed }

// Action is what we do with a case that is open.
type Action string

// The actions.
const (
	Fulfil    Action = "fulfil"    // send what a retrieval asks for
	Represent Action = "represent" // 再请款: send the evidence and ask for the money
	Arbitrate Action = "arbitrate" // do not give in to a second chargeback or a pre-arbitration
	GiveIn    Action = "accept"    // the merchant bears it
)

// Actions lists what can be done with the case now.
func (c *Case) Actions() []Action {
	switch {
	case c.State != Open:
		return nil
	case c.Stage == Retrieval:
		return []Action{Fulfil}
	case c.Stage == Chargeback && c.Late:
		return []Action{GiveIn}
	case c.Stage == Chargeback:
		return []Action{Represent, GiveIn}
	}
	return []Action{Arbitrate, GiveIn}
}

// Case is a payment in dispute.
type Case struct {
	ID       int64         `json:"id"`
	Source   string        `json:"source"`
	Txn      int64         `json:"txn,omitempty"`
	RRN      string        `json:"rrn"`
	Merchant string        `json:"merchant"`
	Terminal string        `json:"terminal,omitempty"`
	Wallet   string        `json:"wallet,omitempty"`
	PAN      string        `json:"pan,omitempty"` // masked
	Amount   money.Amount  `json:"amount"`
	Fee      money.Amount  `json:"fee"`
	Reason   string        `json:"reason"`
	Stage    Stage         `json:"stage"`
	State    State         `json:"state"`
	Late     bool          `json:"late,omitempty"` // a retrieval was not answered in time: no representment
	Began    calendar.Date `json:"began"`
	Due      calendar.Date `json:"due,omitzero"`
	Reminded int           `json:"reminded,omitempty"`
	Proof    string        `json:"evidence_sha256,omitempty"`
	Asked    State         `json:"asked,omitempty"`
	AskedBy  string        `json:"asked_by,omitempty"`
	Opened   time.Time     `json:"opened"`
	Changed  time.Time     `json:"changed"`
	Instead  string        `json:"instead,omitempty"` // what Asked replaced and who asked for that, as Close says it

	round, packed int
}

// key names a step of the case for the ledger.
func (c *Case) key(step string) string { return fmt.Sprintf("dispute/%d/%d/%s", c.ID, c.round, step) }

const caseColumns = `id, source, txn, rrn, merchant, terminal, wallet, pan, amount, fee, reason, stage, state, round, late, began, due, reminded, proof, asked, asked_by, opened, changed, packed`

func scanCase(r *store.Rows, c *Case) error {
	var opened, changed int64
	err := r.Scan(&c.ID, &c.Source, &c.Txn, &c.RRN, &c.Merchant, &c.Terminal, &c.Wallet, &c.PAN, &c.Amount, &c.Fee, &c.Reason, &c.Stage, &c.State, &c.round, &c.Late,
		&c.Began, &c.Due, &c.Reminded, &c.Proof, &c.Asked, &c.AskedBy, &opened, &changed, &c.packed)
	c.Opened, c.Changed = time.UnixMicro(opened), time.UnixMicro(changed)
	return err
}

func (c *Case) args() []any {
	return []any{c.ID, c.Source, c.Txn, c.RRN, c.Merchant, c.Terminal, c.Wallet, c.PAN, c.Amount, c.Fee, c.Reason, string(c.Stage), string(c.State), c.round, c.Late,
		c.Began, c.Due, c.Reminded, c.Proof, string(c.Asked), c.AskedBy, c.Opened.UnixMicro(), c.Changed.UnixMicro(), c.packed}
}

// Terms are a network's deadlines, in days from the day on which the clock of a
// stage begins; 0 is the default. They differ by network and by edition of its
// rules, so all are settings.
type Terms struct {
	Retrieval   int  `json:"retrieval"`    // ours, to send what was asked for; default 20
	AfterSlip   int  `json:"after_slip"`   // theirs, to charge back after that; default 30
	Represent   int  `json:"represent"`    // ours, after a chargeback; default 30
	Second      int  `json:"second"`       // theirs, after a representment; default 30
	Arbitrate   int  `json:"arbitrate"`    // ours, after a second chargeback or a pre-arbitration; default 15
	Ruling      int  `json:"ruling"`       // the network's; default 45
	WorkingDays bool `json:"working_days"` // count working days, make-up days among them; else calendar days
}

func (t Terms) filled() Terms {
	for _, x := range []struct {
		p *int
		d int
	}{{&t.Retrieval, 20}, {&t.AfterSlip, 30}, {&t.Represent, 30}, {&t.Second, 30}, {&t.Arbitrate, 15}, {&t.Ruling, 45}} {
		if *x.p <= 0 {
			*x.p = x.d
		}
	}
	return t
}

// until is the last day of a clock of n days that began on a date.
func (t Terms) until(began calendar.Date, n int) (calendar.Date, error) {
	if t.WorkingDays {
		return calendar.Chinese().AddWorkingDays(began, n)
	}
	return began.AddDays(n), nil
}

// Payment is what a case is about, as the journal has it.
type Payment struct {
	Txn      int64
	RRN      string
	Merchant string
	Terminal string
	Wallet   string
	PAN      string // masked
	Amount   money.Amount
}

// Config is what an Engine stands on.
type Config struct {
	DB    *store.DB
	Books *settlement.Engine
	// Terms by source; the entry "" is everybody else's.
	Terms map[string]Terms
}

// Engine keeps cases. Its methods may be called from any goroutine and on any
// number of nodes.
type Engine struct {
	cfg Config
	db  *store.DB
}

// New checks the configuration.
func New(cfg Config) (*Engine, error) {
	if cfg.DB == nil || cfg.Books == nil {
		return nil, errors.New("dispute: needs a store and the books")
	}
	return &Engine{cfg: cfg, db: cfg.DB}, nil
}

func (e *Engine) terms(source string) Terms {
	t, ok := e.cfg.Terms[source]
	if !ok {
		t = e.cfg.Terms[""]
	}
	return t.filled()
}

var (
	// ErrAction says that a case cannot have an action, or is past it.
	ErrAction = errors.New("dispute: the case cannot go that way")
	// ErrTwoPeople says that the person who asked may not confirm.
	ErrTwoPeople = errors.New("dispute: a second person must confirm it")
	// ErrEvidence says that the evidence was not put together yet, or lacks a file.
	ErrEvidence = errors.New("dispute: export the evidence first")
)

// Item is what the other side says of a payment.
type Item struct {
	Key     string // the item's own name, at its source: each counts once
	Source  string
	Stage   Stage
	Payment Payment
	Amount  money.Amount  // in dispute; 0 for the whole payment
	Fee     money.Amount  // what the network takes for it
	Reason  string        // its code
	Date    calendar.Date // when it was sent: the clock begins
	Won     bool          // of a ruling (Arbitration): for us
}

// Take records an item and moves its payment's case on, or opens one. The same
// item again changes nothing. An item that does not fit the case's stage is
// ErrAction.
func (e *Engine) Take(ctx context.Context, it Item, now time.Time) (Case, error) {
	if it.Key == "" || it.Source == "" || it.Payment.Merchant == "" || !it.Date.Valid() || it.Fee < 0 {
		return Case{}, fmt.Errorf("dispute: item %q of %q: want a key, a source, a payment and a date", it.Key, it.Source)
	}
	if it.Amount == 0 {
		it.Amount = it.Payment.Amount
	}
	if it.Amount <= 0 || it.Payment.Amount > 0 && it.Amount > it.Payment.Amount {
		return Case{}, fmt.Errorf("%w: item %s disputes %s of a payment of %s", ErrAction, it.Key, it.Amount, it.Payment.Amount)
	}
	c, known, err := e.caseOf(ctx, &it)
	if err != nil || known {
		return c, err
	}
	// Money first: each step has a key made from the case, so that it is safe
	// to repeat when the case could not be written behind it.
	switch {
	case c.ID == 0 && it.Stage != Retrieval && it.Stage != Chargeback:
		return Case{}, fmt.Errorf("%w: a %s of %s, and no case is open for it", ErrAction, it.Stage, it.Payment.RRN)
	case c.ID == 0:
		c = Case{ID: store.NewID(), Source: it.Source, Txn: it.Payment.Txn, RRN: it.Payment.RRN, Merchant: it.Payment.Merchant, Terminal: it.Payment.Terminal,
			Wallet: it.Payment.Wallet, PAN: it.Payment.PAN, Amount: it.Amount, Opened: now}
		if c, err = e.begin(ctx, c, it); err != nil {
			return Case{}, err
		}
	}
	t := e.terms(c.Source)
	event := "the " + string(it.Stage) + " came, reason " + it.Reason
	c.Reason, c.Reminded, c.Asked, c.AskedBy = it.Reason, 0, "", ""
	days := 0
	switch it.Stage {
	case Retrieval:
		if c.Stage != "" && c.Stage != Retrieval {
			return c, fmt.Errorf("%w: a retrieval of case %d, which is a %s", ErrAction, c.ID, c.Stage)
		}
		if c.State == Closed { // asked for once more: the hold of the first time is over
			c.round++
		}
		if err := e.holdFor(ctx, &c, "retrieval", "retrieval "+it.Reason, now); err != nil {
			return c, err
		}
		days = t.Retrieval
	case Chargeback:
		if c.Stage != "" && c.Stage != Retrieval || c.State.over() && c.State != Closed {
			return c, fmt.Errorf("%w: a first chargeback of case %d, which is a %s, %s", ErrAction, c.ID, c.Stage, c.State)
		}
		if err := e.takeBack(ctx, &c, it, "retrieval", now); err != nil {
			return c, err
		}
		days = t.Represent
	case Second:
		if c.Stage != Chargeback || c.State != Answered {
			return c, fmt.Errorf("%w: a second chargeback of case %d, which is a %s, %s", ErrAction, c.ID, c.Stage, c.State)
		}
		c.Amount = it.Amount
		if err := e.takeBack(ctx, &c, it, "represented", now); err != nil {
			return c, err
		}
		days = t.Arbitrate
	case PreArbitration:
		if c.State != Answered || c.Stage != Second && c.Stage != Chargeback {
			return c, fmt.Errorf("%w: a pre-arbitration of case %d, which is a %s, %s", ErrAction, c.ID, c.Stage, c.State)
		}
		days = t.Arbitrate
	case Arbitration:
		if c.State != Answered || c.Stage != Second && c.Stage != PreArbitration {
			return c, fmt.Errorf("%w: a ruling for case %d, which is a %s, %s", ErrAction, c.ID, c.Stage, c.State)
		}
		outcome := Lost
		if it.Won {
			outcome = Won
		}
		return e.finish(ctx, c, outcome, "the network's ruling", it.Key, audit.Entry{Who: it.Source, From: "file", Op: "dispute ruling"}, now)
	default:
		return c, fmt.Errorf("%w: stage %q is not known", ErrAction, it.Stage)
	}
	if c.Due, err = t.until(it.Date, days); err != nil {
		return c, err
	}
	c.Stage, c.State, c.Began, c.Fee = it.Stage, Open, it.Date, c.Fee+it.Fee
	return c, e.save(ctx, &c, it.Key, event, it.Source, it.Amount, nil, now)
}

// caseOf finds the case of an item: by the item itself, which is then known, or
// by its payment.
func (e *Engine) caseOf(ctx context.Context, it *Item) (c Case, known bool, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+caseColumns+" from dispute_case where id in (select case_id from dispute_event where key = $1)", it.Key)
		all, err := store.All(rows, err, scanCase)
		if err != nil {
			return err
		}
		if known = len(all) > 0; known {
			c = all[0]
			return nil
		}
		where, arg := "txn = $2 and txn <> 0", any(it.Payment.Txn)
		if it.Payment.Txn == 0 {
			where, arg = "rrn = $2 and txn = 0", it.Payment.RRN
		}
		rows, err = tx.Query("select "+caseColumns+" from dispute_case where source = $1 and "+where+" order by id desc limit 1", it.Source, arg)
		if all, err = store.All(rows, err, scanCase); err == nil && len(all) > 0 {
			c = all[0]
		}
		return err
	})
	if err != nil {
		return Case{}, false, fmt.Errorf("dispute: looking for the case of %s: %w", it.Payment.RRN, err)
	}
	return c, known, nil
}

// begin writes a new case before anything is booked for it, so that what is
// booked finds it again. It has no stage yet.
func (e *Engine) begin(ctx context.Context, c Case, it Item) (Case, error) {
	c.Changed, c.State, c.Began = c.Opened, Open, it.Date
	fault.Hit("dispute.open.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("insert into dispute_case ("+caseColumns+`) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24)
			on conflict do nothing`, c.args()...)
		if err != nil || n == 1 {
			return err
		}
		// Another node has just opened it.
		rows, err := tx.Query("select "+caseColumns+" from dispute_case where source = $1 and txn = $2", c.Source, c.Txn)
		all, err := store.All(rows, err, scanCase)
		if err == nil && len(all) == 1 {
			c = all[0]
		}
		return err
	})
	fault.Hit("dispute.open.after")
	if err != nil {
		return Case{}, fmt.Errorf("dispute: opening a case for %s: %w", c.RRN, err)
	}
	return c, nil
}

// save writes how a case stands and what happened to it, in one write.
func (e *Engine) save(ctx context.Context, c *Case, key, what, who string, amount money.Amount, log *audit.Entry, now time.Time) error {
	c.Changed = now
	fault.Hit("dispute.move.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec(`insert into dispute_event (id, case_id, key, at, what, who, note, amount) values ($1,$2,$3,$4,$5,$6,$7,$8) on conflict (key) do nothing`,
			store.NewID(), c.ID, key, now.UnixMicro(), what, who, "", amount)
		if err != nil || n == 0 {
			return err // it happened before
		}
		if _, err := tx.Exec(`update dispute_case set amount = $1, fee = $2, reason = $3, stage = $4, state = $5, round = $6, late = $7, began = $8, due = $9, reminded = $10,
			proof = $11, packed = $12, asked = $13, asked_by = $14, changed = $15 where id = $16`,
			c.Amount, c.Fee, c.Reason, string(c.Stage), string(c.State), c.round, c.Late, c.Began, c.Due, c.Reminded, c.Proof, c.packed, string(c.Asked), c.AskedBy, now.UnixMicro(), c.ID); err != nil {
			return err
		}
		if c.State == Open && c.Reminded == 0 {
			if err := settlement.AddTaskTx(tx, settlement.Task{Key: fmt.Sprintf("dispute/%d/%s/%d", c.ID, c.Stage, c.round), Kind: "dispute", Merchant: c.Merchant, Ref: fmt.Sprint(c.ID), Created: now,
				Text: fmt.Sprintf("%s of %s at merchant %s, reason %s: answer it until %s", c.Stage, c.Amount, c.Merchant, c.Reason, c.Due)}); err != nil {
				return err
			}
		}
		if log != nil {
			log.Subject, log.Detail, log.Result = fmt.Sprintf("case %d", c.ID), what, audit.Done
			_, err = audit.Record(tx, *log)
		}
		return err
	})
	fault.Hit("dispute.move.after")
	if err != nil {
		return fmt.Errorf("dispute: case %d: %w", c.ID, err)
	}
	return nil
}

// holdFor keeps the amount of a case back while it is not decided. A merchant
// that is owed less is asked for it when it comes to a chargeback.
func (e *Engine) holdFor(ctx context.Context, c *Case, step, reason string, now time.Time) error {
	err := e.cfg.Books.HoldForCase(ctx, settlement.Hold{Key: c.key(step), Merchant: c.Merchant, Amount: c.Amount, Reason: reason, AskedBy: fmt.Sprintf("dispute case %d", c.ID)}, now)
	if errors.Is(err, ledger.ErrInsufficient) {
		return nil
	}
	return err
}

// freeHold gives back what is still held for a step.
func (e *Engine) freeHold(ctx context.Context, c *Case, step string, now time.Time) error {
	err := e.cfg.Books.ReleaseForCase(ctx, c.key(step), fmt.Sprintf("dispute case %d", c.ID), now)
	if errors.Is(err, settlement.ErrHold) {
		return nil // nothing was held, or it is used up
	}
	return err
}

// takeBack books that the network takes the money, out of the hold of the step
// before if there is one.
func (e *Engine) takeBack(ctx context.Context, c *Case, it Item, held string, now time.Time) error {
	hold := c.key(held)
	c.round++
	b := settlement.Chargeback{Key: c.key("chargeback"), Merchant: c.Merchant, Txn: c.Txn, Wallet: c.Wallet, Amount: it.Amount, Fee: it.Fee, Hold: hold,
		Text: string(it.Stage) + " " + it.Reason}
	err := e.cfg.Books.Chargeback(ctx, b, now)
	if errors.Is(err, settlement.ErrHold) { // nothing was held
		b.Hold = ""
		err = e.cfg.Books.Chargeback(ctx, b, now)
	}
	return err
}

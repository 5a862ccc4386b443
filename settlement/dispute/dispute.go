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
	"strconv"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// Schema is the cases, what happened to them, and what was put with them. It
// comes after the journal's.
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
update dispute_case set packed = (select count(*) from dispute_file where case_id = dispute_case.id) where proof <> ''`, `
alter table dispute_case add column hold TEXT not null default '';           -- key of the hold that stands for it
alter table dispute_case add column took TEXT not null default '';           -- key of the chargeback whose money the issuer has
alter table dispute_case add column provisional INTEGER not null default 0;  -- working days of a clock that runs into a year whose holidays are not known; 0 when due is sure
update dispute_case set took = 'dispute/' || id || '/' || round || '/chargeback'
	where due <> 0 and (stage = 'second_chargeback' or stage = 'chargeback' and state = 'open' or stage = 'pre_arbitration' and round > 1);
update dispute_case set hold = 'dispute/' || id || '/' || round || '/retrieval' where due <> 0 and stage = 'retrieval';
update dispute_case set hold = 'dispute/' || id || '/' || round || '/represented' where due <> 0 and took = '' and stage in ('chargeback', 'pre_arbitration');
create table dispute_told (                -- what a person was told otherwise than by a file, until a second one says the same
	key      TEXT primary key,             -- the item's
	item     TEXT not null,                -- JSON
	asked_by TEXT not null,
	asked    BIGINT not null,
	done     INTEGER not null
)`, `
-- What the step before left out of the cases that were running. Only a second
-- chargeback takes what was represented, however often a slip was asked for.
update dispute_case set took = '', hold = 'dispute/' || id || '/' || round || '/represented'
	where due <> 0 and stage = 'pre_arbitration' and took <> ''
	and not exists (select 1 from dispute_event where case_id = dispute_case.id and what like 'the second_chargeback came%');
-- What is held beyond a part that was charged back is the merchant's when it ends.
update dispute_case set hold = 'dispute/' || id || '/' || (round - 1) || '/retrieval'
	where due <> 0 and took <> '' and hold = '' and stage = 'chargeback';
update dispute_case set hold = 'dispute/' || id || '/' || (round - 1) || '/represented'
	where due <> 0 and took <> '' and hold = '' and stage in ('second_chargeback', 'pre_arbitration');
-- The case is about that part.
update dispute_case set amount = (select min(amount) from dispute_event where case_id = dispute_case.id and what like 'the chargeback came%')
	where due <> 0 and took <> '' and stage = 'chargeback' and exists (select 1 from dispute_event where case_id = dispute_case.id and what like 'the chargeback came%')`, `
insert into charged (txn, amount) select txn, max(amount) from dispute_case -- the journal's: Case.charged
	where txn <> 0 and stage in ('chargeback', 'second_chargeback', 'pre_arbitration') and state <> 'won' group by txn`, `
alter table dispute_case add column asked_at BIGINT not null default 0 -- when asked_by did, microseconds; 0 before that was kept`}}

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

// Known reports whether s is a stage.
func (s Stage) Known() bool {
	switch s {
	case Retrieval, Chargeback, Second, PreArbitration, Arbitration:
		return true
	}
	return false
}

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
	AskedAt  time.Time     `json:"asked_at,omitzero"`
	Opened   time.Time     `json:"opened"`
	Changed  time.Time     `json:"changed"`
	Instead  string        `json:"instead,omitempty"` // what Asked replaced and who asked for that, as Close says it
	// Provisional is not 0 while Due is counted through a year whose holidays are
	// not known, with its weekends alone: the working days of the clock.
	Provisional int `json:"provisional,omitempty"`

	round, packed int
	hold, took    string
}

// charged is what of the payment the issuer has, or may take again.
func (c *Case) charged() money.Amount {
	if c.Stage == "" || c.Stage == Retrieval || c.State == Won {
		return 0
	}
	return c.Amount
}

// key names a step of the case for the ledger.
func (c *Case) key(step string) string { return fmt.Sprintf("dispute/%d/%d/%s", c.ID, c.round, step) }

const caseColumns = `id, source, txn, rrn, merchant, terminal, wallet, pan, amount, fee, reason, stage, state, round, late, began, due, reminded, proof, asked, asked_by, asked_at, opened, changed, packed, hold, took, provisional`

func scanCase(r *store.Rows, c *Case) error {
	var asked, opened, changed int64
	err := r.Scan(&c.ID, &c.Source, &c.Txn, &c.RRN, &c.Merchant, &c.Terminal, &c.Wallet, &c.PAN, &c.Amount, &c.Fee, &c.Reason, &c.Stage, &c.State, &c.round, &c.Late,
		&c.Began, &c.Due, &c.Reminded, &c.Proof, &c.Asked, &c.AskedBy, &asked, &opened, &changed, &c.packed, &c.hold, &c.took, &c.Provisional)
	c.AskedAt, c.Opened, c.Changed = store.Instant(asked), time.UnixMicro(opened), time.UnixMicro(changed)
	return err
}

func (c *Case) args() []any {
	return []any{c.ID, c.Source, c.Txn, c.RRN, c.Merchant, c.Terminal, c.Wallet, c.PAN, c.Amount, c.Fee, c.Reason, string(c.Stage), string(c.State), c.round, c.Late,
		c.Began, c.Due, c.Reminded, c.Proof, string(c.Asked), c.AskedBy, store.Micros(c.AskedAt), c.Opened.UnixMicro(), c.Changed.UnixMicro(), c.packed, c.hold, c.took, c.Provisional}
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
	Window      int  `json:"window"`       // theirs, calendar days after the sale to ask for a slip or charge it back; default 120
	WorkingDays bool `json:"working_days"` // count working days, make-up days among them; else calendar days
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
	Date     calendar.Date // its business date; 0 when it is not known
	Gone     money.Amount  // of Amount, what went back to the payer before
	Debit    bool          // by a UnionPay debit card: its issuer charges back once
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
	cfg      Config
	db       *store.DB
	calendar func() *calendar.Calendar // in use
}

// New checks the configuration.
func New(cfg Config) (*Engine, error) {
	if cfg.DB == nil || cfg.Books == nil {
		return nil, errors.New("dispute: needs a store and the books")
	}
	for source, t := range cfg.Terms {
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("dispute: the terms of %q: %w", source, err)
		}
	}
	return &Engine{cfg: cfg, db: cfg.DB, calendar: calendar.Chinese}, nil
}

func (e *Engine) terms(source string) Terms {
	t, ok := e.cfg.Terms[source]
	if !ok {
		t = e.cfg.Terms[""]
	}
	return t.filled()
}

// Who returns one of these says whose it is and about what.
var (
	// ErrAction says that a case cannot have an action, or is past it.
	ErrAction = errors.New("the case cannot go that way")
	// ErrEvidence says that the evidence was not put together yet, or lacks a file.
	ErrEvidence = errors.New("export the evidence first (acquirer dispute evidence CASE --out FILE)")
)

var errNoCase = fmt.Errorf("%w: acquirer dispute list shows the cases that there are", store.ErrNotFound)

// locked reads a case and keeps its row until the write ends.
func locked(tx store.Tx, id int64) (Case, error) {
	rows, err := tx.Query("select "+caseColumns+" from dispute_case where id = $1 for update", id)
	all, err := store.All(rows, err, scanCase)
	if err == nil && len(all) == 0 {
		err = errNoCase
	}
	if err != nil {
		return Case{}, err
	}
	return all[0], nil
}

// step is something that happened to a case.
type step struct {
	key    string // the item's; "" for a step of our own
	what   string
	who    Who
	op     string // for the operators' log; "" when it does not belong there
	amount money.Amount
	turn   bool   // it is somebody else's turn, or over: earlier tasks are overtaken
	task   string // what a person has to know or do now; "" for nothing
}

// move locks a case, lets do change it and book what that means, and writes how
// it stands and what happened: all in one write, so that no crash and nobody
// else comes between the money and the case. No step changes nothing.
func (e *Engine) move(ctx context.Context, id int64, now time.Time, do func(tx store.Tx, c *Case) (*step, error)) (c Case, err error) {
	fault.Hit("dispute.move.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		was, err := locked(tx, id)
		if err != nil {
			return err
		}
		c = was
		s, err := do(tx, &c)
		if err != nil {
			c = was
			return err
		}
		return write(tx, &c, s, now)
	})
	fault.Hit("dispute.move.after")
	if err != nil {
		return c, fmt.Errorf("dispute: case %d: %w", id, err)
	}
	return c, nil
}

// write writes how a case stands, and a step of it; nil is none.
func write(tx store.Tx, c *Case, s *step, now time.Time) error {
	if s == nil {
		return nil
	}
	c.Changed = now
	event := store.NewID()
	if s.key == "" {
		s.key = fmt.Sprintf("dispute/%d/step/%d", c.ID, event)
	}
	if _, err := tx.Exec(`insert into dispute_event (id, case_id, key, at, what, who, note, amount) values ($1,$2,$3,$4,$5,$6,$7,$8)`,
		event, c.ID, s.key, now.UnixMicro(), s.what, s.who.Name, "", s.amount); err != nil {
		return err
	}
	if _, err := tx.Exec(`update dispute_case set amount = $1, fee = $2, reason = $3, stage = $4, state = $5, round = $6, late = $7, began = $8, due = $9, reminded = $10,
		proof = $11, packed = $12, asked = $13, asked_by = $14, asked_at = $15, changed = $16, hold = $17, took = $18, provisional = $19 where id = $20`,
		c.Amount, c.Fee, c.Reason, string(c.Stage), string(c.State), c.round, c.Late, c.Began, c.Due, c.Reminded, c.Proof, c.packed, string(c.Asked), c.AskedBy, store.Micros(c.AskedAt), now.UnixMicro(),
		c.hold, c.took, c.Provisional, c.ID); err != nil {
		return err
	}
	if c.Txn != 0 {
		if err := journal.Charged(tx, c.Txn, c.charged()); err != nil {
			return err
		}
	}
	ref := strconv.FormatInt(c.ID, 10)
	if s.turn || s.task != "" { // one task a case: the newest
		if err := settlement.EndTasksTx(tx, "dispute", ref, now); err != nil {
			return err
		}
	}
	if s.task != "" {
		if err := settlement.AddTaskTx(tx, settlement.Task{Key: fmt.Sprintf("dispute/%d/%d", c.ID, event), Kind: "dispute", Merchant: c.Merchant, Ref: ref, Created: now, Text: s.task}); err != nil {
			return err
		}
	}
	if s.op == "" {
		return nil
	}
	_, err := audit.Record(tx, audit.Entry{Who: s.who.Name, From: s.who.From, Op: s.op, Subject: "case " + ref, Detail: s.what, Result: audit.Done})
	return err
}

// keep holds up to an amount of a case back while it is not decided. What the
// merchant is not owed now is taken from what it sells when it comes to that.
func (e *Engine) keep(tx store.Tx, c *Case, name, reason string, now time.Time) error {
	key := c.key(name)
	held, err := e.cfg.Books.HoldForCaseTx(tx, settlement.Hold{Key: key, Merchant: c.Merchant, Amount: c.Amount, Reason: reason, AskedBy: fmt.Sprintf("dispute case %d", c.ID)}, now)
	if err == nil && held > 0 {
		c.hold = key
	}
	return err
}

// free gives back what is still held.
func (e *Engine) free(tx store.Tx, c *Case, now time.Time) error {
	if c.hold == "" {
		return nil
	}
	err := e.cfg.Books.ReleaseForCaseTx(tx, c.hold, fmt.Sprintf("dispute case %d", c.ID), now)
	if errors.Is(err, settlement.ErrHold) {
		err = nil // there is none: two people have released it
	}
	c.hold = ""
	return err
}

// takeBack books that the network takes the case's amount: out of its hold
// first, else out of payouts that were not sent yet when what waits is not enough.
// What is held beyond that is the merchant's again.
func (e *Engine) takeBack(tx store.Tx, c *Case, fee money.Amount, text string, now time.Time) error {
	c.round++
	key := c.key("chargeback")
	if c.hold == "" {
		cut, err := e.cfg.Books.CutForCaseTx(tx, settlement.Hold{Key: c.key("cut"), Merchant: c.Merchant, Amount: c.Amount, Reason: text, AskedBy: fmt.Sprintf("dispute case %d", c.ID)}, now)
		if err != nil {
			return err
		}
		if cut > 0 {
			c.hold = c.key("cut")
		}
	}
	b := settlement.Chargeback{Key: key, Merchant: c.Merchant, Txn: c.Txn, Wallet: c.Wallet, Amount: c.Amount, Fee: fee, Hold: c.hold, Text: text}
	err := e.cfg.Books.ChargebackTx(tx, b, now)
	if errors.Is(err, settlement.ErrHold) { // two people have released it
		b.Hold = ""
		err = e.cfg.Books.ChargebackTx(tx, b, now)
	}
	if err != nil {
		return err
	}
	c.took = key
	return e.free(tx, c, now)
}

// giveBack books that the network pays again what the issuer had.
func (e *Engine) giveBack(tx store.Tx, c *Case, now time.Time) error {
	if c.took == "" {
		return nil
	}
	err := e.cfg.Books.ChargebackWonTx(tx, c.took, c.Amount, now)
	c.took = ""
	return err
}

// end ends a case and books what its outcome means.
func (e *Engine) end(tx store.Tx, c *Case, outcome State, now time.Time) (err error) {
	switch {
	case outcome == Won:
		err = e.giveBack(tx, c, now)
	case outcome == Lost && c.took == "":
		err = e.takeBack(tx, c, 0, "lost as "+string(c.Stage)+" "+c.Reason, now)
	}
	if err == nil {
		err = e.free(tx, c, now)
	}
	c.State, c.Due, c.Provisional, c.Reminded, c.Asked, c.AskedBy, c.AskedAt = outcome, 0, 0, 0, "", "", time.Time{}
	return err
}

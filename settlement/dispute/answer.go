package dispute

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// Who does something, and from where, for the audit log.
type Who struct {
	Name string
	From string
}

func (w Who) entry(op string) audit.Entry { return audit.Entry{Who: w.Name, From: w.From, Op: op} }

// Answer does what we can do with a case that is open. A retrieval and a
// representment need the evidence, which must have been exported, with every file
// that was put with the case.
func (e *Engine) Answer(ctx context.Context, id int64, a Action, who Who, now time.Time) (Case, error) {
	c, err := e.Case(ctx, id)
	if err != nil {
		return Case{}, err
	}
	later, err := e.unpacked(ctx, &c)
	if err != nil {
		return c, err
	}
	today, t := calendar.DateOf(now), e.terms(c.Source)
	switch {
	case who.Name == "":
		return c, fmt.Errorf("%w: say who you are", ErrAction)
	case !slices.Contains(c.Actions(), a):
		return c, fmt.Errorf("%w: case %d is a %s, %s: it can have %v, not %q", ErrAction, id, c.Stage, c.State, c.Actions(), a)
	case (a == Fulfil || a == Represent) && c.Proof == "":
		return c, fmt.Errorf("%w: of case %d", ErrEvidence, id)
	case (a == Fulfil || a == Represent) && later > 0:
		return c, fmt.Errorf("%w: what was attached to case %d since it was exported last (files: %d) is not in that package", ErrEvidence, id, later)
	case today > c.Due:
		return c, fmt.Errorf("%w: the last day was %s", ErrAction, c.Due)
	}
	days := 0
	stage := c.Stage
	switch a {
	case GiveIn:
		return e.finish(ctx, c, Lost, "accepted", c.key("accept"), who.entry("dispute answer"), now)
	case Fulfil:
		days = t.AfterSlip
	case Represent:
		// The network pays again with the representment; the issuer may still
		// take it a second time.
		if err := e.cfg.Books.ChargebackWon(ctx, c.key("chargeback"), c.Amount, now); err != nil {
			return c, err
		}
		if err := e.holdFor(ctx, &c, "represented", "represented, until the issuer can ask no more", now); err != nil {
			return c, err
		}
		days = t.Second
	case Arbitrate:
		days = t.Ruling
	}
	if c.Due, err = t.until(today, days); err != nil {
		return c, err
	}
	c.State, c.Began, c.Reminded = Answered, today, 0
	log := who.entry("dispute answer")
	return c, e.save(ctx, &c, c.key("answer/"+string(stage)), string(a), who.Name, c.Amount, &log, now)
}

// finish ends a case and books what its outcome means.
func (e *Engine) finish(ctx context.Context, c Case, outcome State, why, key string, log audit.Entry, now time.Time) (Case, error) {
	var err error
	switch {
	case outcome == Won && c.Stage != Chargeback && c.Stage != Retrieval:
		// After a second chargeback the money is with the issuer: it comes back.
		// When the network went straight to arbitration from a representment, it
		// is here and held.
		if c.taken() {
			err = e.cfg.Books.ChargebackWon(ctx, c.key("chargeback"), c.Amount, now)
		} else {
			err = e.freeHold(ctx, &c, "represented", now)
		}
	case outcome == Won:
		err = e.freeHold(ctx, &c, "represented", now)
	case outcome == Closed:
		err = e.freeHold(ctx, &c, "retrieval", now)
	case outcome == Lost && !c.taken() && c.Stage != Retrieval:
		// Lost in arbitration without a second chargeback: it is taken now.
		err = e.takeBack(ctx, &c, Item{Stage: Arbitration, Amount: c.Amount, Reason: c.Reason}, "represented", now)
	}
	if err != nil {
		return c, err
	}
	c.State, c.Due, c.Reminded, c.Asked, c.AskedBy = outcome, 0, 0, "", ""
	return c, e.save(ctx, &c, key, string(outcome)+": "+why, log.Who, c.Amount, &log, now)
}

// taken reports whether the issuer has the money.
func (c *Case) taken() bool {
	switch c.Stage {
	case Chargeback:
		return c.State == Open
	case Second:
		return true
	case PreArbitration, Arbitration:
		return c.round > 1
	}
	return false
}

// Close ends a case by hand, for what the other side told us otherwise than by
// a file. One person asks for an outcome, another confirms it; whoever names
// another outcome begins anew, which Case.Instead and the case's events say. done
// reports that it is booked.
func (e *Engine) Close(ctx context.Context, id int64, outcome State, note string, who Who, now time.Time) (c Case, done bool, err error) {
	if c, err = e.Case(ctx, id); err != nil {
		return c, false, err
	}
	switch {
	case who.Name == "":
		return c, false, fmt.Errorf("%w: say who you are", ErrAction)
	case c.State.over():
		return c, false, fmt.Errorf("%w: case %d is over: %s", ErrAction, id, c.State)
	case c.Stage == Retrieval && outcome != Closed, c.Stage != Retrieval && outcome != Won && outcome != Lost:
		return c, false, fmt.Errorf("%w: a %s ends closed if it is a retrieval, else won or lost", ErrAction, c.Stage)
	case c.Asked == outcome && audit.SamePerson(c.AskedBy, who.Name):
		return c, false, fmt.Errorf("%w: %s asked for it", ErrTwoPeople, c.AskedBy)
	case c.Asked == outcome:
		if outcome == Won && c.Stage == Chargeback && c.State == Open { // they gave in before we represented
			if err := e.cfg.Books.ChargebackWon(ctx, c.key("chargeback"), c.Amount, now); err != nil {
				return c, false, err
			}
		}
		c, err = e.finish(ctx, c, outcome, note, c.key("close"), who.entry("dispute close"), now)
		return c, err == nil, err
	}
	instead := ""
	if c.Asked != "" {
		c.Instead = fmt.Sprintf("%s, which %s had asked for", c.Asked, c.AskedBy)
		instead = " instead of " + c.Instead
	}
	c.Asked, c.AskedBy = outcome, who.Name
	log := who.entry("dispute close ask")
	return c, false, e.save(ctx, &c, c.key(fmt.Sprintf("ask/%s/%s/%d", outcome, who.Name, now.UnixMicro())), "asks to end it as "+string(outcome)+instead+" "+note, who.Name, c.Amount, &log, now)
}

// Tick does what deadlines ask for: it reminds at 50, 80 and 100 percent of a
// clock of ours, and past its last day ends what was not answered. It returns
// how many cases it changed.
func (e *Engine) Tick(ctx context.Context, now time.Time) (changed int, err error) {
	today := calendar.DateOf(now)
	after := int64(0)
	for {
		cases, err := e.Cases(ctx, Query{Running: true, After: after, Limit: 200})
		if err != nil {
			return changed, err
		}
		for i := range cases {
			c := &cases[i]
			after = c.ID
			moved, err := e.tick(ctx, c, today, now)
			if err != nil {
				return changed, err
			}
			if moved {
				changed++
			}
		}
		if len(cases) < 200 {
			return changed, nil
		}
	}
}

func (e *Engine) tick(ctx context.Context, c *Case, today calendar.Date, now time.Time) (bool, error) {
	house := Who{Name: "rule: deadline", From: "clock"}
	t := e.terms(c.Source)
	switch {
	case c.Due == 0 || c.Stage == "":
		return false, nil
	case today > c.Due && c.State == Open && c.Stage == Retrieval:
		// The issuer may charge back now, and we may not represent.
		due, err := t.until(today, t.AfterSlip)
		if err != nil {
			return false, err
		}
		c.State, c.Late, c.Began, c.Due, c.Reminded = Answered, true, today, due, 0
		log := house.entry("dispute deadline")
		return true, e.save(ctx, c, c.key("late"), "not answered in time", house.Name, c.Amount, &log, now)
	case today > c.Due && c.State == Open:
		_, err := e.finish(ctx, *c, Lost, "not answered in time", c.key("late/"+string(c.Stage)), house.entry("dispute deadline"), now)
		return true, err
	case today > c.Due && c.Stage == Retrieval:
		_, err := e.finish(ctx, *c, Closed, "nothing followed", c.key("quiet"), house.entry("dispute deadline"), now)
		return true, err
	case today > c.Due && c.Stage == Chargeback:
		_, err := e.finish(ctx, *c, Won, "no second chargeback came", c.key("quiet"), house.entry("dispute deadline"), now)
		return true, err
	}
	percent, err := t.percent(c.Began, c.Due, today)
	if err != nil {
		return false, err
	}
	level := 0
	for _, l := range []int{50, 80, 100} {
		if percent >= l {
			level = l
		}
	}
	if level <= c.Reminded || c.State != Open && level < 100 {
		return false, nil // the other side's clock concerns us when it is over
	}
	c.Reminded = level
	fault.Hit("dispute.remind.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		text := fmt.Sprintf("%d %% of the time to answer the %s of %s at merchant %s is over: until %s", level, c.Stage, c.Amount, c.Merchant, c.Due)
		if c.State != Open {
			text = fmt.Sprintf("nobody has ruled on the %s of %s at merchant %s until %s: ask the network", c.Stage, c.Amount, c.Merchant, c.Due)
		}
		if err := settlement.AddTaskTx(tx, settlement.Task{Key: fmt.Sprintf("dispute/%d/%s/%d/%d", c.ID, c.Stage, c.round, level), Kind: "dispute", Merchant: c.Merchant, Ref: fmt.Sprint(c.ID),
			Created: now, Text: text}); err != nil {
			return err
		}
		_, err := tx.Exec("update dispute_case set reminded = $1 where id = $2", level, c.ID)
		return err
	})
	fault.Hit("dispute.remind.after")
	if err != nil {
		return false, fmt.Errorf("dispute: reminding of case %d: %w", c.ID, err)
	}
	return true, nil
}

// percent is how much of a clock is over at the beginning of a day, in the days
// that the terms count.
func (t Terms) percent(began, due, today calendar.Date) (int, error) {
	count := func(to calendar.Date) (n int, err error) {
		for d := began; d < to; d = d.AddDays(1) {
			counts := true
			if t.WorkingDays {
				if counts, err = calendar.Chinese().WorkingDay(d.AddDays(1)); err != nil {
					return 0, err
				}
			}
			if counts {
				n++
			}
		}
		return n, nil
	}
	whole, err := count(due)
	if err != nil || whole == 0 {
		return 100, err
	}
	gone, err := count(min(today, due))
	return gone * 100 / whole, err
}

// Query selects cases; zero fields select all.
type Query struct {
	Running bool // only those with a clock
	State   State
	After   int64
	Limit   int // default 100
}

// Cases lists cases in the order in which they were opened.
func (e *Engine) Cases(ctx context.Context, q Query) (all []Case, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	where := "id > $1 and (state = $2 or $2 = '')"
	if q.Running {
		where += " and due <> 0"
	}
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+caseColumns+" from dispute_case where "+where+" order by id limit $3", q.After, string(q.State), q.Limit)
		all, err = store.All(rows, err, scanCase)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dispute: listing cases: %w", err)
	}
	return all, nil
}

// Disputed lists the journal's ids of the payments whose cases are not over:
// what is kept of them is still needed.
func (e *Engine) Disputed(ctx context.Context) (all []int64, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select distinct txn from dispute_case where txn <> 0 and state in ($1, $2) order by txn", string(Open), string(Answered))
		all, err = store.All(rows, err, func(r *store.Rows, id *int64) error { return r.Scan(id) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dispute: listing what is in dispute: %w", err)
	}
	return all, nil
}

// Case reads one; store.ErrNotFound when there is none.
func (e *Engine) Case(ctx context.Context, id int64) (c Case, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+caseColumns+" from dispute_case where id = $1", id)
		all, err := store.All(rows, err, scanCase)
		if err == nil && len(all) == 0 {
			err = store.ErrNotFound
		}
		if err != nil {
			return err
		}
		c = all[0]
		return nil
	})
	if err != nil {
		return Case{}, fmt.Errorf("dispute: case %d: %w", id, err)
	}
	return c, nil
}

// Event is something that happened to a case.
type Event struct {
	At     time.Time    `json:"at"`
	What   string       `json:"what"`
	Who    string       `json:"who"`
	Amount money.Amount `json:"amount"`
}

// Events lists what happened to a case, the oldest first.
func (e *Engine) Events(ctx context.Context, id int64) (all []Event, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select at, what, who, amount from dispute_event where case_id = $1 order by id", id)
		all, err = store.All(rows, err, func(r *store.Rows, x *Event) error {
			var at int64
			err := r.Scan(&at, &x.What, &x.Who, &x.Amount)
			x.At = time.UnixMicro(at)
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dispute: the events of case %d: %w", id, err)
	}
	return all, nil
}

// Standing counts the cases that are not over, by stage and state, and says
// when the next of ours is due; 0 when none is.
func (e *Engine) Standing(ctx context.Context) (counts map[Stage]map[State]int, next calendar.Date, err error) {
	counts = map[Stage]map[State]int{}
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select stage, state, count(*), min(due) from dispute_case where due <> 0 group by stage, state")
		type group struct {
			stage Stage
			state State
			n     int
			due   calendar.Date
		}
		groups, err := store.All(rows, err, func(r *store.Rows, g *group) error { return r.Scan(&g.stage, &g.state, &g.n, &g.due) })
		for _, g := range groups {
			if counts[g.stage] == nil {
				counts[g.stage] = map[State]int{}
			}
			counts[g.stage][g.state] = g.n
			if g.state == Open && (next == 0 || g.due < next) {
				next = g.due
			}
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("dispute: counting cases: %w", err)
	}
	return counts, next, nil
}

// ErrUnknown says that no payment of ours is meant.
var ErrUnknown = errors.New("dispute: no payment of this house")

package dispute

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
)

// Who does something, and from where, for the audit log.
type Who struct {
	Name string
	From string
}

// Answer does what we can do with a case that is open. A retrieval and a
// representment need the evidence, which must have been exported, with every file
// that was put with the case. To give in while the money is here gives it to the
// issuer: one person asks for that, which Case.Asked says then, and another confirms it.
func (e *Engine) Answer(ctx context.Context, id int64, a Action, who Who, now time.Time) (Case, error) {
	if who.Name == "" {
		return Case{}, fmt.Errorf("dispute: %w: say who you are", ErrAction)
	}
	return e.move(ctx, id, now, func(tx store.Tx, c *Case) (*step, error) {
		today, t := calendar.DateOf(now), e.terms(c.Source)
		switch {
		case !slices.Contains(c.Actions(), a):
			return nil, fmt.Errorf("%w: it is a %s, %s: %s, not %q", ErrAction, c.Stage, c.State, said(c.Actions()), a)
		case today > c.Due && c.Provisional == 0:
			return nil, fmt.Errorf("%w: the last day was %s", ErrAction, c.Due)
		}
		if a == Fulfil || a == Represent {
			if err := whole(tx, c); err != nil {
				return nil, err
			}
		}
		s := step{what: string(a), who: who, op: "dispute answer", amount: c.Amount, turn: true}
		days := 0
		switch a {
		case GiveIn:
			if c.took == "" {
				s, _, err := e.agreed(tx, c, Lost, "dispute answer", "accepted", who, now)
				return s, err
			}
			s.what = "lost: accepted"
			return &s, e.end(tx, c, Lost, now)
		case Fulfil:
			days = t.AfterSlip
		case Represent:
			// The network pays again with the representment; the issuer may still
			// take it a second time.
			if err := e.giveBack(tx, c, now); err != nil {
				return nil, err
			}
			if err := e.free(tx, c, now); err != nil {
				return nil, err
			}
			if err := e.keep(tx, c, "represented", "represented, until the issuer can ask no more", now); err != nil {
				return nil, err
			}
			days = t.Second
		case Arbitrate:
			days = t.Ruling
		}
		c.State, c.Asked, c.AskedBy, c.AskedAt = Answered, "", "", time.Time{}
		c.start(e.calendar(), t, today, days)
		return &s, nil
	})
}

// whole refuses evidence that was not exported, or before a file was put with it.
func whole(tx store.Tx, c *Case) error {
	if c.Proof == "" {
		return ErrEvidence
	}
	var files int
	if err := tx.QueryRow("select count(*) from dispute_file where case_id = $1", c.ID).Scan(&files); err != nil {
		return err
	}
	if later := files - c.packed; later > 0 {
		return fmt.Errorf("%w: what was attached since it was exported last (files: %d) is not in that package", ErrEvidence, later)
	}
	return nil
}

// Close ends a case by hand, for what the other side told us otherwise than by
// a file. One person asks for an outcome, another confirms it; whoever names
// another outcome begins anew, which Case.Instead and the case's events say. done
// reports that it is booked.
func (e *Engine) Close(ctx context.Context, id int64, outcome State, note string, who Who, now time.Time) (c Case, done bool, err error) {
	if who.Name == "" {
		return c, false, fmt.Errorf("dispute: %w: say who you are", ErrAction)
	}
	c, err = e.move(ctx, id, now, func(tx store.Tx, c *Case) (s *step, err error) {
		switch {
		case c.State.over():
			return nil, fmt.Errorf("%w: it is over: %s", ErrAction, c.State)
		case c.Stage == Retrieval && outcome != Closed, c.Stage != Retrieval && outcome != Won && outcome != Lost:
			return nil, fmt.Errorf("%w: a %s ends closed if it is a retrieval, else won or lost", ErrAction, c.Stage)
		}
		s, done, err = e.agreed(tx, c, outcome, "dispute close", note, who, now)
		return s, err
	})
	return c, done && err == nil, err
}

// agreed ends a case by hand when another person has asked for that outcome, and
// else asks for it. done reports that it is booked.
func (e *Engine) agreed(tx store.Tx, c *Case, outcome State, op, note string, who Who, now time.Time) (s *step, done bool, err error) {
	ask := audit.Ask{What: string(c.Asked), By: c.AskedBy, At: c.AskedAt}
	switch done, err = ask.Second(string(outcome), who.Name, now); {
	case err != nil:
		return nil, false, err
	case done:
		s := step{what: string(outcome) + ": by hand, " + c.AskedBy + " asked; " + note, who: who, op: op, amount: c.Amount, turn: true}
		return &s, true, e.end(tx, c, outcome, now)
	}
	s = &step{what: "asks to end it as " + string(outcome), who: who, op: op + " ask", amount: c.Amount}
	if c.Asked != "" && c.Asked != outcome {
		c.Instead = fmt.Sprintf("%s, which %s had asked for", c.Asked, c.AskedBy)
		s.what += " instead of " + c.Instead
	}
	if note != "" {
		s.what += ": " + note
	}
	c.Asked, c.AskedBy, c.AskedAt = outcome, ask.By, ask.At
	return s, false, nil
}

// Query selects cases; zero fields select all.
type Query struct {
	Running  bool // only those with a clock
	State    State
	Stage    Stage
	Source   string
	Merchant string
	Due      calendar.Date // only those whose last day is this or before
	ByDue    bool          // the next last day first; those that are over at the end
	After    int64
	Limit    int // default 100
}

// Cases lists cases in the order in which they were opened, or of their last days.
func (e *Engine) Cases(ctx context.Context, q Query) (all []Case, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	where := "id > $1 and (state = $2 or $2 = '') and (stage = $3 or $3 = '') and (source = $4 or $4 = '') and (merchant = $5 or $5 = '') and (due <= $6 and due <> 0 or $6 = 0)"
	if q.Running {
		where += " and due <> 0"
	}
	order := "id"
	if q.ByDue {
		order = "case due when 0 then 1 else 0 end, due, id"
	}
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+caseColumns+" from dispute_case where "+where+" order by "+order+" limit $7", q.After, string(q.State), string(q.Stage), q.Source, q.Merchant, q.Due, q.Limit)
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
			err = errNoCase
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
var ErrUnknown = errors.New("no payment of this house")

// said is in words what can be done with a case.
func said(actions []Action) string {
	if len(actions) == 0 {
		return "it waits for the other side or has ended, and can have nothing"
	}
	return fmt.Sprintf("it can have %v", actions)
}

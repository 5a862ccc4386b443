package dispute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/store"
)

// maxDays is the longest term: ten years.
const maxDays = 3660

// all names the terms and their defaults.
func (t *Terms) all() [7]struct {
	name string
	days *int
	or   int
} {
	return [7]struct {
		name string
		days *int
		or   int
	}{{"retrieval", &t.Retrieval, 20}, {"after_slip", &t.AfterSlip, 30}, {"represent", &t.Represent, 30}, {"second", &t.Second, 30}, {"arbitrate", &t.Arbitrate, 15}, {"ruling", &t.Ruling, 45}, {"window", &t.Window, 120}}
}

func (t Terms) check() error {
	for _, x := range t.all() {
		if *x.days < 0 || *x.days > maxDays {
			return fmt.Errorf("%s is %d days; want 1 to %d, or 0 for the default, %d", x.name, *x.days, maxDays, x.or)
		}
	}
	return nil
}

func (t Terms) filled() Terms {
	for _, x := range t.all() {
		if *x.days == 0 {
			*x.days = x.or
		}
	}
	return t
}

// counts reports whether a day counts. sure is false in a year whose holidays are
// not known: there Monday to Friday count.
func (t Terms) counts(by *calendar.Calendar, d calendar.Date) (is, sure bool) {
	if !t.WorkingDays {
		return true, true
	}
	working, err := by.WorkingDay(d)
	if err != nil {
		w := d.Weekday()
		return w != time.Saturday && w != time.Sunday, false
	}
	return working, true
}

// until is the last day of a clock of n days that began on a date.
func (t Terms) until(by *calendar.Calendar, began calendar.Date, n int) (due calendar.Date, sure bool) {
	sure = true
	for due = began; n > 0; {
		due = due.AddDays(1)
		is, known := t.counts(by, due)
		if sure = sure && known; is {
			n--
		}
	}
	return due, sure
}

// start starts the clock of a stage.
func (c *Case) start(by *calendar.Calendar, t Terms, began calendar.Date, days int) {
	due, sure := t.until(by, began, days)
	c.Began, c.Due, c.Reminded, c.Provisional = began, due, 0, 0
	if !sure {
		c.Provisional = days
	}
}

// told is what came, in words.
func (c *Case) told() string {
	return fmt.Sprintf("%s of %s at merchant %s, %s", c.Stage, c.Amount, c.Merchant, reasonOf(c.Reason))
}

func reasonOf(code string) string {
	if code == "" {
		return "without a reason"
	}
	return "reason " + code
}

// until is the last day in words.
func (c *Case) until() string {
	if c.Provisional > 0 {
		return c.Due.String() + " (provisional: the holidays of a year until then are not known)"
	}
	return c.Due.String()
}

// Ticked is what deadlines did.
type Ticked struct {
	Changed int // cases reminded of, or ended
	Missed  int // of them, those that we did not answer in time
}

// Tick does what deadlines ask for: it reminds at 50, 80 and 100 percent of a
// clock of ours, and past its last day ends what was not answered. A case that
// fails holds up no other.
func (e *Engine) Tick(ctx context.Context, now time.Time) (did Ticked, err error) {
	after := int64(0)
	var failed []error
	for {
		cases, err := e.Cases(ctx, Query{Running: true, After: after, Limit: 200})
		if err != nil {
			return did, errors.Join(append(failed, err)...)
		}
		for i := range cases {
			after = cases[i].ID
			moved, missed, err := e.tick(ctx, &cases[i], now)
			if err != nil {
				failed = append(failed, err)
			}
			if moved {
				did.Changed++
			}
			if missed {
				did.Missed++
			}
		}
		if len(cases) < 200 {
			return did, errors.Join(failed...)
		}
	}
}

// tick looks at a case without a lock, and again with it when something is due.
func (e *Engine) tick(ctx context.Context, seen *Case, now time.Time) (moved, missed bool, err error) {
	if s, err := e.deadline(nil, seen, now); err != nil || s == nil {
		return false, false, err
	}
	_, err = e.move(ctx, seen.ID, now, func(tx store.Tx, c *Case) (*step, error) {
		open := c.State == Open
		s, err := e.deadline(tx, c, now)
		moved = s != nil
		missed = moved && s.op != "" && open
		return s, err
	})
	return moved && err == nil, missed && err == nil, err
}

// deadline is what a clock asks for at a moment, nil when nothing. Without tx it only
// says so.
func (e *Engine) deadline(tx store.Tx, c *Case, now time.Time) (*step, error) {
	if c.Due == 0 {
		return nil, nil
	}
	today, t := calendar.DateOf(now), e.terms(c.Source)
	s := step{who: Who{Name: "rule: deadline", From: "clock"}, op: "dispute deadline", amount: c.Amount, turn: true}
	if c.Provisional > 0 {
		if due, sure := t.until(e.calendar(), c.Began, c.Provisional); sure {
			c.Due, c.Provisional, c.Reminded = due, 0, 0
			s.what, s.op, s.turn = "the holidays are known: the last day is "+due.String(), "", false
			if c.State == Open {
				s.task = c.told() + ": answer it until " + c.until() + "; the last day was provisional before"
			}
			return &s, nil
		}
	}
	end := func(outcome State, why string) (*step, error) {
		s.what = string(outcome) + ": " + why
		if tx == nil {
			return &s, nil
		}
		return &s, e.end(tx, c, outcome, now)
	}
	switch over := today > c.Due && c.Provisional == 0; { // a provisional day ends nothing
	case over && c.State == Open && c.Stage == Retrieval:
		s.what = "not answered in time"
		s.task = fmt.Sprintf("nobody answered the retrieval of %s at merchant %s until %s: what the issuer charges back now cannot be represented", c.Amount, c.Merchant, c.Due)
		c.State, c.Late = Answered, true
		c.start(e.calendar(), t, today, t.AfterSlip)
		return &s, nil
	case over && c.State == Open:
		s.task = fmt.Sprintf("nobody answered the %s of %s at merchant %s until %s: it is lost, the merchant bears it; find out why", c.Stage, c.Amount, c.Merchant, c.Due)
		return end(Lost, "not answered in time")
	case over && c.Stage == Retrieval:
		return end(Closed, "nothing followed")
	case over && c.Stage == Chargeback:
		return end(Won, "no second chargeback came")
	}
	percent, level := t.percent(e.calendar(), c.Began, c.Due, today), 0
	for _, l := range []int{50, 80, 100} {
		if percent >= l {
			level = l
		}
	}
	if level <= c.Reminded || c.State != Open && level < 100 {
		return nil, nil // the other side's clock concerns us when it is over
	}
	c.Reminded = level
	s.op, s.turn = "", false
	s.what = fmt.Sprintf("%d %% of the time are over", level)
	s.task = fmt.Sprintf("%d %% of the time to answer the %s of %s at merchant %s is over: until %s", level, c.Stage, c.Amount, c.Merchant, c.until())
	if c.State != Open {
		s.task = ""
		if c.Stage == Second || c.Stage == PreArbitration {
			s.task = fmt.Sprintf("nobody has ruled on the %s of %s at merchant %s until %s: ask the network", c.Stage, c.Amount, c.Merchant, c.until())
		}
	}
	return &s, nil
}

// percent is how much of a clock is over at the beginning of a day, in the days
// that the terms count.
func (t Terms) percent(by *calendar.Calendar, began, due, today calendar.Date) int {
	count := func(to calendar.Date) (n int) {
		for d := began; d < to; {
			d = d.AddDays(1)
			if is, _ := t.counts(by, d); is {
				n++
			}
		}
		return n
	}
	whole := count(due)
	if whole == 0 {
		return 100
	}
	return count(min(today, due)) * 100 / whole
}

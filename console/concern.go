package console

import (
	"time"
)

// When waiting becomes a matter for a person. deploy/alerts.yml pages at the
// same marks.
const (
	owedTooLong      = 10 * time.Minute
	uncheckedTooLong = 5 * time.Minute
	lagTooLong       = 5 * time.Minute
)

// level is how much of an operator a concern wants.
type level uint8

const (
	watch level = iota
	act
)

// concern is one thing that is not in order.
type concern struct {
	Level level
	Text  string
	Href  string
}

func (c concern) Act() bool { return c.Level == act }

// concerns says what is not in order, what needs a hand first. problem is why
// the house could not be asked, "" when it could.
func concerns(l Lang, now time.Time, o Overview, problem string) []concern {
	var acts, watches []concern
	add := func(lv level, href, text string) {
		if lv == act {
			acts = append(acts, concern{lv, text, href})
		} else {
			watches = append(watches, concern{lv, text, href})
		}
	}
	if problem != "" {
		add(act, "", problem)
	}
	for _, v := range o.Violations {
		if v.Count > 0 {
			add(act, "", l.say("concern.invariant", v.Invariant, v.Count, v.What.in(l)))
		}
	}
	if !o.Ledger.Checked.IsZero() {
		if !o.Ledger.Balanced {
			add(act, "", l.say("concern.ledger", yuan(o.Ledger.Difference)))
		}
		if d := now.Sub(o.Ledger.Checked); d > uncheckedTooLong {
			add(act, "", l.say("concern.unchecked", l.about(d)))
		}
	}
	if o.Ledger.Lag > lagTooLong {
		add(act, "", l.say("concern.lag", l.about(o.Ledger.Lag)))
	}
	if o.Owed.Manual > 0 {
		add(act, "/owed", l.count("concern.manual", o.Owed.Manual))
	} else if !o.Owed.Oldest.IsZero() && now.Sub(o.Owed.Oldest) > owedTooLong {
		add(act, "/owed", l.say("concern.owed", l.about(now.Sub(o.Owed.Oldest))))
	}
	for _, is := range o.Issuers {
		switch up, want := is.up(), is.inService(); {
		case want == 0 && len(is.Lines) > 0:
			add(watch, "/lines", l.say("concern.drained", is.Name))
		case up == 0:
			add(act, "/lines", l.say("concern.issuer", is.Name))
		case up < want:
			add(watch, "/lines", l.named("concern.line", want-up, is.Name))
		case is.Breaker == "open":
			add(act, "/lines", l.say("concern.breaker", is.Name))
		}
	}
	if bad := o.Payouts.Returned + o.Payouts.Unknown; bad > 0 {
		add(act, "/waiting", l.count("concern.payouts", bad))
	}
	if o.Payouts.Failed > 0 {
		add(watch, "/waiting", l.count("concern.failed", o.Payouts.Failed))
	}
	return append(acts, watches...)
}

// named is count for a text that says a name before the number.
func (l Lang) named(key string, n int, name string) string {
	if n == 1 {
		key += ".1"
	}
	return l.say(key, name, n)
}

// inService counts the lines that nobody took out of service.
func (i Issuer) inService() int {
	n := 0
	for _, line := range i.Lines {
		if !line.Drained {
			n++
		}
	}
	return n
}

func (i Issuer) up() int {
	n := 0
	for _, line := range i.Lines {
		if line.SignedOn {
			n++
		}
	}
	return n
}

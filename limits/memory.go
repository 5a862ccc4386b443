package limits

import (
	"errors"
	"fmt"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/store"
)

// Source calls each with every spend that still holds quota of a day: what
// the counters are a function of. The journal is the one there is.
type Source func(tx store.Tx, day calendar.Date, each func(*Spend)) error

// memory counts in maps. Only the store's writer touches it, so it has no
// lock; what it does in a transaction is undone with the transaction.
type memory struct {
	counters []counter
	source   Source
	days     map[calendar.Date]map[key]used
	newest   calendar.Date
	doubtful bool // a commit's fate is unknown: count again before deciding
	keys     []key
}

// change is how a counter was moved.
type change struct {
	key key
	by  used
}

// load counts the days that are about to be spent from the source. It comes
// before anything of the batch is written, so that the batch is not counted
// twice.
func (m *memory) load(tx store.Tx, days []calendar.Date) error {
	if m.doubtful {
		clear(m.days)
		m.doubtful = false
	}
	for _, d := range days {
		if m.days[d] != nil {
			continue
		}
		c := map[key]used{}
		err := m.source(tx, d, func(s *Spend) {
			m.keys = keys(m.keys[:0], m.counters, s)
			for _, k := range m.keys {
				u := c[k]
				c[k] = used{u.count + 1, u.amount + s.Amount.Fen()}
			}
		})
		if err != nil {
			return fmt.Errorf("limits: counting %v from the journal: %w", d, err)
		}
		m.days[d] = c
		tx.After(func(fate error) {
			if fate != nil {
				delete(m.days, d) // counted inside a transaction that is no more
			}
		})
		if d > m.newest {
			m.newest = d
			for old := range m.days {
				if old < d.AddDays(-1) {
					delete(m.days, old)
				}
			}
		}
	}
	return nil
}

// move changes the counters and sees to it that they follow the fate of the
// transaction.
func (m *memory) move(tx store.Tx, rules []Rule, back, again, ask []*Spend, answer []Decision) {
	var done []change
	add := func(s *Spend, sign int64) {
		c := m.days[s.Day]
		if c == nil {
			// Nothing is decided on that day now; when it is, it will be
			// counted from the journal, which knows.
			return
		}
		m.keys = keys(m.keys[:0], m.counters, s)
		for _, k := range m.keys {
			by := used{sign, sign * s.Amount.Fen()}
			u := c[k]
			c[k] = used{u.count + by.count, u.amount + by.amount}
			done = append(done, change{k, by})
		}
	}
	for _, s := range back {
		add(s, -1)
	}
	for _, s := range again {
		add(s, 1)
	}
	for i, s := range ask {
		c := m.days[s.Day]
		answer[i] = decide(rules, s, func(k key) used { return c[k] })
		if answer[i].OK && fault.Planted("limit-outside-write") {
			defer add(s, 1)
		} else if answer[i].OK {
			add(s, 1)
		}
	}
	if len(done) == 0 {
		return
	}
	tx.After(func(fate error) {
		switch {
		case fate == nil:
		case errors.Is(fate, store.ErrInDoubt):
			m.doubtful = true
		default:
			for _, d := range done {
				if c := m.days[d.key.day]; c != nil {
					u := c[d.key]
					c[d.key] = used{u.count - d.by.count, u.amount - d.by.amount}
				}
			}
		}
	})
}

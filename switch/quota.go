package switching

import (
	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/store"
)

// OpenJournal makes a journal whose opens spend the limits of rules and whose
// refusals, failures and reversals give them back, in the same writes. What a
// merchant was assessed as is read from terminals.
func OpenJournal(db *store.DB, rules []limits.Rule, terminals *merchant.Registry) (*journal.Journal, error) {
	q := &quota{terminals: terminals}
	var j *journal.Journal
	l, err := limits.New(db, rules, func(tx store.Tx, day calendar.Date, each func(*limits.Spend)) error {
		return j.SpentOn(tx, day, func(t *journal.Transaction) { each(q.spend(t)) })
	})
	if err != nil {
		return nil, err
	}
	q.limits = l
	j = journal.New(db, q)
	return j, nil
}

// quota is where journal and limits, who do not know each other, meet, inside
// the store's writers: one on SQLite, two beside each other on PostgreSQL.
type quota struct {
	limits    *limits.Limits
	terminals *merchant.Registry
}

func (q *quota) spend(t *journal.Transaction) *limits.Spend {
	m, known := q.terminals.Merchant([]byte(t.Merchant))
	channel := limits.Channel(t.Channel)
	if t.Channel == journal.QuasiCredit {
		channel = limits.Channel(journal.Credit)
	}
	return &limits.Spend{Day: t.SpentOn, Channel: channel, Amount: t.Amount, Card: t.PANToken,
		Terminal: t.Terminal, Merchant: t.Merchant, Unassessed: !known || m.Tier == merchant.Unassessed}
}

// Begin implements journal.Limits.
func (q *quota) Begin(tx store.Tx, days []calendar.Date) error { return q.limits.Begin(tx, days) }

// Move implements journal.Limits.
func (q *quota) Move(tx store.Tx, back, again, ask []*journal.Transaction, refuse func(i int, r journal.Reason, note string)) error {
	decisions, err := q.limits.Move(tx, q.spends(back), q.spends(again), q.spends(ask))
	if err != nil {
		return err
	}
	for i, d := range decisions {
		switch {
		case d.OK:
		case d.Kind == limits.Count:
			refuse(i, journal.LimitCount, d.String())
		default:
			refuse(i, journal.LimitAmount, d.String())
		}
	}
	return nil
}

func (q *quota) spends(ts []*journal.Transaction) []*limits.Spend {
	out := make([]*limits.Spend, len(ts))
	for i, t := range ts {
		out[i] = q.spend(t)
	}
	return out
}

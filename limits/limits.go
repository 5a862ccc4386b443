// Package limits says how much may be sold: per transaction and per Beijing
// calendar day, by amount and by count, for a card, a terminal or a merchant.
//
// A decision is made and its quota taken inside the write that opens the
// transaction, so that two transactions never share the last fen. A refused,
// failed or reversed transaction gives its quota back, once; a refund does
// not.
//
// On SQLite, where one process owns the file and one goroutine writes, the
// counters live in memory and are rebuilt from the journal. On PostgreSQL
// they are rows, changed under row locks that are taken in the order of
// their keys, so that several nodes share them.
package limits

import (
	"cmp"
	"fmt"
	"slices"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
)

// Scope is whose quota a rule counts.
type Scope uint8

// The numbers are stored.
const (
	Card     Scope = 1
	Terminal Scope = 2
	Merchant Scope = 3
)

var scopeNames = [...]string{"none", "card", "terminal", "merchant"}

func (s Scope) String() string {
	if int(s) < len(scopeNames) {
		return scopeNames[s]
	}
	return "unknown scope"
}

// Channel is what was presented. The numbers are stored, and are those of
// journal.Channel.
type Channel uint8

// Any in a rule means every channel together.
const (
	Any    Channel = 0
	Credit Channel = 1
	Debit  Channel = 2
	QR     Channel = 3
)

var channelNames = [...]string{"any", "credit", "debit", "qr"}

func (c Channel) String() string {
	if int(c) < len(channelNames) {
		return channelNames[c]
	}
	return "unknown channel"
}

// Rule is one limit. All rules that apply to a transaction must let it pass,
// so a stricter rule for one merchant is simply one more rule.
type Rule struct {
	Scope   Scope
	Channel Channel // Any: all channels are counted together
	Subject string  // only for this terminal or merchant; "" for each
	// Unassessed restricts the rule to terminals whose merchant has not been
	// assessed for risk (LIM-03).
	Unassessed bool
	Single     money.Amount // most that one transaction may be; 0 no limit
	DayAmount  money.Amount // most that a day's transactions may sum to; 0 no limit
	DayCount   int64        // most transactions a day; 0 no limit
}

// Defaults are the limits of the product (domain.md 1.10): credit 50,000
// single and 300,000 a day, debit the same (LIM-05), QR 5,000 and 50,000,
// 5,000 single while a merchant is unassessed. In yuan.
func Defaults() []Rule {
	return []Rule{
		{Scope: Merchant, Channel: Credit, Single: money.Yuan(50_000), DayAmount: money.Yuan(300_000)},
		{Scope: Merchant, Channel: Debit, Single: money.Yuan(50_000), DayAmount: money.Yuan(300_000)},
		{Scope: Merchant, Channel: QR, Single: money.Yuan(5_000), DayAmount: money.Yuan(50_000)},
		{Scope: Terminal, Unassessed: true, Single: money.Yuan(5_000)},
	}
}

// Validate refuses a rule that says nothing or cannot be counted.
func (r Rule) Validate() error {
	switch {
	case r.Scope < Card || r.Scope > Merchant:
		return fmt.Errorf("limits: a rule's scope must be card, terminal or merchant")
	case r.Channel > QR:
		return fmt.Errorf("limits: a %s rule's channel must be credit, debit, qr or any", r.Scope)
	case r.Single < 0 || r.DayAmount < 0 || r.DayCount < 0:
		return fmt.Errorf("limits: a %s rule has a negative limit", r.Scope)
	case r.Single == 0 && r.DayAmount == 0 && r.DayCount == 0:
		return fmt.Errorf("limits: a %s rule limits nothing: set a single amount, a day amount or a day count", r.Scope)
	case r.Scope == Card && r.Subject != "":
		return fmt.Errorf("limits: a card rule applies to every card: it has no subject")
	}
	return nil
}

// Spend is what one transaction asks for.
type Spend struct {
	Day        calendar.Date // Beijing calendar day
	Channel    Channel
	Amount     money.Amount
	Card       [16]byte // token of the account number
	Terminal   string
	Merchant   string
	Unassessed bool
}

// Kind is what a rule counted when it refused.
type Kind uint8

const (
	None   Kind = iota
	Amount      // DE 39 61
	Count       // DE 39 65
)

// Decision is the answer to a Spend. The zero Decision refuses nothing yet
// explains nothing; OK says that the quota was taken.
type Decision struct {
	OK    bool
	Kind  Kind
	Rule  Rule
	Limit int64 // fen or transactions
	Used  int64
	Asked int64
	day   bool
}

// String explains the decision: "merchant day amount 300000.00 (credit): used
// 299990.00, asked 20.00".
func (d Decision) String() string {
	if d.OK {
		return "within limits"
	}
	span := "single"
	if d.day {
		span = "day"
	}
	who := d.Rule.Scope.String()
	if d.Rule.Unassessed {
		who = "unassessed " + who
	}
	channel := ""
	if d.Rule.Channel != Any {
		channel = " (" + d.Rule.Channel.String() + ")"
	}
	switch d.Kind {
	case Count:
		return fmt.Sprintf("%s %s count %d%s: used %d", who, span, d.Limit, channel, d.Used)
	case Amount:
		if !d.day {
			return fmt.Sprintf("%s %s amount %v%s: asked %v", who, span, money.Amount(d.Limit), channel, money.Amount(d.Asked))
		}
		return fmt.Sprintf("%s %s amount %v%s: used %v, asked %v", who, span, money.Amount(d.Limit), channel, money.Amount(d.Used), money.Amount(d.Asked))
	}
	return "not asked"
}

// key is one counter: a day's use by one subject on one channel, or on all.
type key struct {
	day     calendar.Date
	scope   Scope
	channel Channel
	subject string
}

func (k key) compare(l key) int {
	return cmp.Or(cmp.Compare(k.day, l.day), cmp.Compare(k.scope, l.scope), cmp.Compare(k.channel, l.channel), cmp.Compare(k.subject, l.subject))
}

// used is what a counter holds.
type used struct{ count, amount int64 }

// subject is who s counts for in a scope. A card's token is opaque text.
func (s *Spend) subject(scope Scope) string {
	switch scope {
	case Card:
		return string(s.Card[:])
	case Terminal:
		return s.Terminal
	default:
		return s.Merchant
	}
}

// applies tells whether the rule speaks of s.
func (r *Rule) applies(s *Spend) bool {
	return (r.Channel == Any || r.Channel == s.Channel) && (!r.Unassessed || s.Unassessed) &&
		(r.Subject == "" || r.Subject == s.subject(r.Scope))
}

// counter names the counters that rules with a day limit need: every
// transaction moves these, whichever rules apply to it, so that a rule for
// one merchant counts what was sold before it was made.
type counter struct {
	scope   Scope
	channel Channel
}

func counters(rules []Rule) []counter {
	var all []counter
	for _, r := range rules {
		if r.DayAmount == 0 && r.DayCount == 0 {
			continue
		}
		if c := (counter{r.Scope, r.Channel}); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// keys appends the counters that s moves.
func keys(dst []key, cs []counter, s *Spend) []key {
	for _, c := range cs {
		if c.channel == Any || c.channel == s.Channel {
			dst = append(dst, key{s.Day, c.scope, c.channel, s.subject(c.scope)})
		}
	}
	return dst
}

// decide asks every rule, single limits first, then the day's in the order of
// the rules. at reads a counter.
func decide(rules []Rule, s *Spend, at func(key) used) Decision {
	if s.Amount < 0 {
		return Decision{Kind: Amount, Asked: s.Amount.Fen()}
	}
	for i := range rules {
		r := &rules[i]
		if r.Single > 0 && s.Amount > r.Single && r.applies(s) {
			return Decision{Kind: Amount, Rule: *r, Limit: r.Single.Fen(), Asked: s.Amount.Fen()}
		}
	}
	for i := range rules {
		r := &rules[i]
		if r.DayAmount == 0 && r.DayCount == 0 || !r.applies(s) {
			continue
		}
		u := at(key{s.Day, r.Scope, r.Channel, s.subject(r.Scope)})
		// Written as a difference: used + asked could overflow.
		if r.DayAmount > 0 && s.Amount.Fen() > r.DayAmount.Fen()-u.amount {
			return Decision{Kind: Amount, Rule: *r, Limit: r.DayAmount.Fen(), Used: u.amount, Asked: s.Amount.Fen(), day: true}
		}
		if r.DayCount > 0 && u.count >= r.DayCount {
			return Decision{Kind: Count, Rule: *r, Limit: r.DayCount, Used: u.count, Asked: 1, day: true}
		}
	}
	return Decision{OK: true}
}

// Limits decides and counts. Its methods belong into a store transaction.
type Limits struct {
	rules    []Rule
	counters []counter
	memory   *memory // nil when the counters are rows
}

// New makes the limits of db. source is what counters in memory are rebuilt
// from; on PostgreSQL it is not asked.
func New(db *store.DB, rules []Rule, source Source) (*Limits, error) {
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			return nil, err
		}
	}
	l := &Limits{rules: slices.Clone(rules), counters: counters(rules)}
	if !db.Postgres() {
		l.memory = &memory{counters: l.counters, source: source, days: map[calendar.Date]map[key]used{}}
	}
	return l, nil
}

// Begin comes before anything else is written in a transaction that will
// Move, with the days that may be spent.
func (l *Limits) Begin(tx store.Tx, days []calendar.Date) error {
	if l.memory == nil {
		return nil
	}
	return l.memory.load(tx, days)
}

// Move gives back what back had spent, counts again, unasked, then decides
// about ask, one after the other, and takes the quota of those that are within
// their limits. The answers are in the order of ask.
func (l *Limits) Move(tx store.Tx, back, again, ask []*Spend) ([]Decision, error) {
	answer := make([]Decision, len(ask))
	if l.memory != nil {
		l.memory.move(tx, l.rules, back, again, ask, answer)
		return answer, nil
	}
	return answer, moveRows(tx, l.rules, l.counters, back, again, ask, answer)
}

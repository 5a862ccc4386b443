package routing

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"acquirer/card"
	"acquirer/money"
)

// Plan is one state of the routing: a BIN table and the rules over it. It never
// changes once made; a reload makes another, and what is on its way keeps the
// one it began with.
type Plan struct {
	BINs  *Table
	Rules *Rules
}

// NewPlan checks that every issuer that is named is one of those there are.
// Without rules every card goes to its own issuer.
func NewPlan(bins *Table, rules *Rules, issuers []string) (*Plan, error) {
	if rules == nil {
		rules = &Rules{}
	}
	for _, name := range bins.Issuers() {
		if !slices.Contains(issuers, name) {
			return nil, fmt.Errorf("routing: the BIN table names issuer %q, which is not configured (%s are)", name, strings.Join(issuers, ", "))
		}
	}
	var stranger error
	rules.issuers(func(name string, line int) {
		if stranger == nil && name != "" && name != Own && !slices.Contains(issuers, name) {
			stranger = fmt.Errorf("routing: the routing file, line %d: issuer %q is not configured (%s are)", line, name, strings.Join(issuers, ", "))
		}
	})
	if stranger != nil {
		return nil, stranger
	}
	for _, g := range rules.Groups {
		for _, e := range g.Equals {
			for _, own := range bins.Issuers() {
				if g.LeastCost && e.Issuer == Own && rules.tariff(own) == nil {
					return nil, fmt.Errorf("routing: the routing file, line %d: group %s chooses by cost among own issuers too, and no tariff says what %s costs", g.line, g.Name, own)
				}
			}
		}
	}
	return &Plan{bins, rules}, nil
}

// Standing is how an issuer stands when a way is looked for.
type Standing uint8

// How an issuer may stand.
const (
	Ready    Standing = iota
	Down              // no line is signed on
	Tripped           // its breaker is open
	Cannot            // its line does not carry what is asked for
	NotAsked          // nobody looked
)

var standingNames = [...]string{"ready", "no line is signed on", "its breaker is open", "its line does not carry that", "not asked"}

func (s Standing) String() string { return standingNames[s] }

// MarshalText writes it in words.
func (s Standing) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the words.
func (s *Standing) UnmarshalText(b []byte) error {
	i := slices.Index(standingNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("routing: %q is no standing of an issuer", b)
	}
	*s = Standing(i)
	return nil
}

// Way is one issuer that a transaction may go to.
type Way struct {
	Issuer   string
	Role     string       // own, primary, equal or alternate
	Weight   int          // of an equal
	Cost     money.Amount // where the group chooses by cost
	Standing Standing
}

// Chooser chooses ways. Its functions look at the house as it is now.
type Chooser struct {
	// Standing says how an issuer stands, and whether its line carries what is
	// needed.
	Standing func(issuer, needs string) Standing
	// Cost is what a sale costs by a tariff.
	Cost func(t Fees, kind Kind, amount money.Amount) (money.Amount, error)
}

// Choice is where a transaction may go: the issuers in the order in which they
// are asked. Nothing in it is shared.
type Choice struct {
	Rule string // the rule that matched, "" for none
	N    int    // how many Ways there are; 0 when none carries what is needed
	Ways [MaxWays]string
}

// Choose applies the first rule that matches, or sends to the card's own
// issuer. Those that are ready come before those that are not: the latter stay
// in the list, since a line may come back before they are asked. draw is a
// random number and decides among equals.
func (c *Chooser) Choose(p *Plan, q *Query, draw uint32) Choice {
	var ways [MaxWays]Way
	var out Choice
	rule := p.Rules.matched(q)
	if rule >= 0 {
		out.Rule = p.Rules.Rules[rule].Name
	}
	for _, w := range c.ways(p, rule, q, draw, ways[:0]) {
		if w.Standing != Cannot {
			out.Ways[out.N] = w.Issuer
			out.N++
		}
	}
	return out
}

// ways lists where a rule sends q, -1 being no rule, in the order in which they
// are asked.
func (c *Chooser) ways(p *Plan, rule int, q *Query, draw uint32, out []Way) []Way {
	if rule < 0 {
		return append(out, Way{Issuer: q.Route.Issuer, Role: Own, Standing: c.Standing(q.Route.Issuer, q.Needs)})
	}
	g := &p.Rules.Groups[p.Rules.Rules[rule].group]
	add := func(w Way) {
		if w.Issuer == Own {
			w.Issuer = q.Route.Issuer
		}
		if !slices.ContainsFunc(out, func(o Way) bool { return o.Issuer == w.Issuer }) { // the own one may be named too
			w.Standing = c.Standing(w.Issuer, q.Needs)
			out = append(out, w)
		}
	}
	if g.Primary != "" {
		add(Way{Issuer: g.Primary, Role: "primary"})
	}
	for _, e := range g.Equals {
		w := Way{Issuer: e.Issuer, Role: "equal", Weight: e.Weight}
		add(w)
	}
	shuffle(out, draw)
	if g.LeastCost {
		for i := range out {
			cost, err := c.Cost(p.Rules.tariff(out[i].Issuer).Fees, q.Route.Kind, q.Amount)
			if err != nil {
				cost = math.MaxInt64 // a fee that does not fit is the dearest
			}
			out[i].Cost = cost
		}
		byCost(out)
	}
	for _, name := range g.Alternates {
		add(Way{Issuer: name, Role: "alternate"})
	}
	slices.SortStableFunc(out, func(a, b Way) int { return later(a) - later(b) })
	return out
}

func later(w Way) int {
	if w.Standing == Ready || w.Standing == NotAsked {
		return 0
	}
	return 1
}

// shuffle draws equals by their weights: each stands first as often as its
// weight is of the sum, and of the rest likewise.
func shuffle(ways []Way, draw uint32) {
	sum := uint32(0)
	for _, w := range ways {
		sum += uint32(w.Weight)
	}
	for i := 0; i+1 < len(ways) && sum > 0; i++ {
		at, k := draw%sum, i
		for at >= uint32(ways[k].Weight) {
			at -= uint32(ways[k].Weight)
			k++
		}
		sum -= uint32(ways[k].Weight)
		drawn := ways[k]
		copy(ways[i+1:k+1], ways[i:k])
		ways[i] = drawn
		draw = draw*1664525 + 1013904223 // another number for the next place
	}
}

// Explanation is why a card goes where it goes.
type Explanation struct {
	Card   string        `json:"card"` // masked
	BIN    string        `json:"bin"`  // its row of the BIN table
	Name   string        `json:"name,omitempty"`
	Kind   Kind          `json:"kind"`
	Own    string        `json:"own_issuer"`
	Number string        `json:"number"` // whether it may be a card number of that BIN
	Rules  []RuleVerdict `json:"rules"`
	Group  string        `json:"group,omitempty"`
	Ways   []WayVerdict  `json:"ways"`
	Choice string        `json:"choice"` // the issuer that is asked first; "" for none
	Why    string        `json:"why"`
	// StandIn is what the house does when none of the ways can be reached.
	StandIn string `json:"stand_in"`
}

// RuleVerdict is what came of looking at a rule.
type RuleVerdict struct {
	Rule    string `json:"rule"`
	Matches bool   `json:"matches"`
	Why     string `json:"why"`
}

// WayVerdict is one of the ways, in the order in which they are asked.
type WayVerdict struct {
	Issuer   string   `json:"issuer"`
	Role     string   `json:"role"`
	Weight   int      `json:"weight,omitempty"`
	Cost     string   `json:"cost,omitempty"` // yuan
	Standing Standing `json:"standing"`
}

// ErrUnknownCard says that no row of the BIN table knows a card.
var ErrUnknownCard = fmt.Errorf("routing: no row of the BIN table knows the card; it is answered 15")

// Explain is Choose with its reasons. Among equals without least cost it shows
// them by weight; a real sale draws.
func (c *Chooser) Explain(p *Plan, pan card.PAN, q Query) (Explanation, error) {
	route, ok := p.BINs.Route(pan)
	if !ok {
		return Explanation{Card: pan.Masked()}, ErrUnknownCard
	}
	q.PAN, q.Route = pan, route
	e := Explanation{Card: pan.Masked(), BIN: route.String(), Name: route.Name, Kind: route.Kind, Own: route.Issuer, Number: "good", Rules: []RuleVerdict{}, Ways: []WayVerdict{}}
	if err := route.Check(pan); err != nil {
		e.Number = strings.TrimPrefix(err.Error(), "routing: ")
	}
	rule := p.Rules.matched(&q)
	for i := range p.Rules.Rules {
		u := &p.Rules.Rules[i]
		v := RuleVerdict{Rule: u.Name, Matches: i == rule, Why: "every condition holds"}
		switch {
		case rule >= 0 && i > rule:
			v.Why = "not looked at: an earlier one matched"
		case i != rule:
			v.Why = u.because(u.mismatch(&q), &q)
		}
		e.Rules = append(e.Rules, v)
	}
	e.Why = "no rule matches: the issuer of the BIN table"
	var least bool
	if rule >= 0 {
		u := &p.Rules.Rules[rule]
		e.Group, least = u.Group, p.Rules.Groups[u.group].LeastCost
		e.Why = "rule " + u.Name + " sends to group " + u.Group
	}
	ways := c.ways(p, rule, &q, 0, nil)
	for _, w := range ways {
		v := WayVerdict{Issuer: w.Issuer, Role: w.Role, Weight: w.Weight, Standing: w.Standing}
		if least && w.Role == "equal" {
			v.Cost = w.Cost.String()
		}
		e.Ways = append(e.Ways, v)
		if e.Choice == "" && w.Standing != Cannot {
			e.Choice = w.Issuer
			switch {
			case w.Role == "equal" && least:
				e.Why += ", of whose equals it is the cheapest that is ready"
			case w.Role == "equal":
				e.Why += ", whose equals are drawn by their weights"
			case w.Role == "alternate":
				e.Why += ", whose first ones are not ready"
			}
			if w.Standing == Down || w.Standing == Tripped {
				e.Why += "; none is ready, so it would be answered 91"
			}
		}
	}
	if e.Choice == "" {
		e.Why += "; no line carries what is needed, so it would be answered 40"
	}
	e.StandIn = "none for " + route.Issuer
	if s := p.Rules.StandsIn(route.Issuer); s != nil {
		if e.StandIn = s.Refuses(&q, false); e.StandIn == "" {
			e.StandIn = fmt.Sprintf("up to %d sales and %v a day of the card", s.Count, s.Sum)
		}
	}
	return e, nil
}

// because says in words which condition did not hold.
func (r *Rule) because(condition string, q *Query) string {
	is := func(what string, is, want any) string { return fmt.Sprintf("%s is %v, not %v", what, is, want) }
	switch condition {
	case "bins":
		return "the card begins with none of " + strings.Join(r.BINs, ", ")
	case "issuers":
		return is("its own issuer", q.Route.Issuer, strings.Join(r.Issuers, ", "))
	case "kinds":
		return is("the card", q.Route.Kind, r.Kinds)
	case "from_amount":
		return fmt.Sprintf("the amount %v is below %v", q.Amount, r.FromAmount)
	case "to_amount":
		return fmt.Sprintf("the amount %v is above %v", q.Amount, r.ToAmount)
	case "entries":
		return is("the entry", q.Entry, r.Entries)
	case "currencies":
		return is("the currency", fmt.Sprintf("%03d", q.Currency), strings.Join(r.Currencies, ", "))
	}
	return is("the merchant category", q.MCC, strings.Join(r.MCCs, ", "))
}

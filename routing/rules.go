package routing

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"

	"acquirer/card"
	"acquirer/money"
)

// Own is the name, in a group, of the issuer that the BIN table has for the
// card.
const Own = "own"

// MaxWays is the most issuers that a group may name.
const MaxWays = 8

// Entry is how a card was read, as far as rules ask.
type Entry uint8

// Ways of reading a card. The zero Entry is none of those that rules name.
const (
	OtherEntry Entry = iota
	Keyed
	Stripe
	Fallback // the stripe, because the chip failed
	Chip
	Contactless
)

var entryNames = [...]string{"other", "keyed", "stripe", "fallback", "chip", "contactless"}

func (e Entry) String() string { return entryNames[e] }

// MarshalText writes the name.
func (e Entry) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads a name; other is not one that a rule may say.
func (e *Entry) UnmarshalText(b []byte) error {
	i := slices.Index(entryNames[1:], string(b))
	if i < 0 {
		return fmt.Errorf("entry %q is not one of %s", b, strings.Join(entryNames[1:], ", "))
	}
	*e = Entry(i + 1)
	return nil
}

// EntryOf is how a card was read, from the first two digits of DE 22.
func EntryOf(mode int) Entry {
	switch mode {
	case 1, 92:
		return Keyed
	case 2:
		return Stripe
	case 80:
		return Fallback
	case 5:
		return Chip
	case 7, 91, 96, 98:
		return Contactless
	}
	return OtherEntry
}

// Rules are what the routing file says (docs/routing.md). They never change
// once made.
type Rules struct {
	Groups  []Group   // in the order of the file, as all the rest
	Rules   []Rule    // the first that matches decides
	Tariffs []Tariff  // what a sale costs at an issuer
	StandIn []StandIn // who answers for an issuer that cannot be reached
}

// Group is the issuers that rules send to.
type Group struct {
	Name       string   `json:"name"`
	Primary    string   `json:"primary,omitempty"`    // an issuer, or Own
	Equals     []Equal  `json:"equals,omitempty"`     // instead of a primary: they share the traffic
	LeastCost  bool     `json:"least_cost,omitempty"` // of the equals the cheapest comes first
	Alternates []string `json:"alternates,omitempty"` // in order, when nothing could leave for those before

	line int // of the file
}

// Equal is one of the issuers that share the traffic of a group.
type Equal struct {
	Issuer string `json:"issuer"`
	Weight int    `json:"weight"` // its part of the sum of all weights; 1 to 1000
}

// Rule sends what it matches to a group. Empty conditions match everything.
type Rule struct {
	Name       string       `json:"name"`
	BINs       []string     `json:"bins,omitempty"`       // beginnings of card numbers: 621000, or 621000-621099
	Issuers    []string     `json:"issuers,omitempty"`    // as the BIN table has them
	Kinds      []Kind       `json:"kinds,omitempty"`      // of card
	Entries    []Entry      `json:"entries,omitempty"`    // how it was read
	Currencies []string     `json:"currencies,omitempty"` // ISO 4217 numbers: 156
	MCCs       []string     `json:"mccs,omitempty"`       // of the merchant: 5812, or 5000-5999
	FromAmount money.Amount `json:"from_amount,omitzero"` // at least
	ToAmount   money.Amount `json:"to_amount,omitzero"`   // at most; 0 for no end
	Group      string       `json:"group"`

	bins, mccs []digitRange
	group      int // its place in Rules.Groups
	line       int
}

// Tariff is what a sale costs at an issuer: its own fee and the network's.
// Rates are in ppm, a cap of 0 is none. The fields are those of ledger.Tariff.
type Tariff struct {
	Issuer string `json:"issuer"`
	Fees

	line int
}

// Fees are the numbers of a Tariff.
type Fees struct {
	CreditPPM       int64        `json:"credit_ppm"`
	DebitPPM        int64        `json:"debit_ppm"`
	DebitCap        money.Amount `json:"debit_cap,omitzero"`
	NetworkPPM      int64        `json:"network_ppm"`
	NetworkDebitCap money.Amount `json:"network_debit_cap,omitzero"`
}

// StandIn says up to where the house answers for an issuer that cannot be
// reached. Every condition must hold.
type StandIn struct {
	Issuer  string       `json:"issuer"`        // as the BIN table has it
	Amount  money.Amount `json:"amount"`        // most that one sale may be
	Count   int          `json:"count"`         // most sales of one card in a day
	Sum     money.Amount `json:"sum"`           // most that they may come to
	Entries []Entry      `json:"entries"`       // how the card may have been read
	Kinds   []Kind       `json:"kinds"`         // of card
	PIN     bool         `json:"pin,omitempty"` // also where a PIN was typed, which nobody can verify

	line int
}

// digitRange is a range of beginnings of n digits.
type digitRange struct {
	n           int
	first, last uint64
}

func (r digitRange) has(digits string) bool {
	if len(digits) < r.n {
		return false
	}
	var v uint64
	for i := range r.n {
		v = v*10 + uint64(digits[i]-'0')
	}
	return r.first <= v && v <= r.last
}

// parseRanges reads 5812 and 5000-5999, with least to most digits.
func parseRanges(texts []string, what string, least, most int) ([]digitRange, error) {
	var out []digitRange
	for _, s := range texts {
		first, last, ranged := strings.Cut(s, "-")
		if !ranged {
			last = first
		}
		a, b := number(first), number(last)
		if len(first) < least || len(first) > most || len(last) != len(first) || a < 0 || b < a {
			return nil, fmt.Errorf("%s %q is neither %d to %d digits nor a range of them that goes up", what, s, least, most)
		}
		out = append(out, digitRange{len(first), uint64(a), uint64(b)})
	}
	return out, nil
}

// number reads up to eleven digits; -1 when s is none.
func number(s string) int64 {
	if s == "" || len(s) > MaxBIN || !digits(s) {
		return -1
	}
	var v int64
	for i := range len(s) {
		v = v*10 + int64(s[i]-'0')
	}
	return v
}

// LoadRules reads a routing file, whole or not at all: the first wrong entry
// refuses the file and is named by its line.
func LoadRules(path string) (*Rules, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("routing: reading the routing file: %w", err)
	}
	r, err := ParseRules(b)
	if err != nil {
		return nil, fmt.Errorf("routing: %s: %w", path, err)
	}
	return r, nil
}

// ParseRules reads the text of a routing file: an object of the lists groups,
// rules, tariffs and stand_in.
func ParseRules(b []byte) (*Rules, error) {
	line := func(offset int64) int { return 1 + bytes.Count(b[:min(offset, int64(len(b)))], []byte{'\n'}) }
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		var broken *json.SyntaxError
		if errors.As(err, &broken) {
			return nil, fmt.Errorf("line %d: %w", line(broken.Offset), err)
		}
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	at := func() int { // where the next value begins
		offset := d.InputOffset()
		for offset < int64(len(b)) && bytes.IndexByte([]byte(" \t\r\n,:"), b[offset]) >= 0 {
			offset++
		}
		return line(offset)
	}
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, errors.New(`line 1: a routing file is an object: { "groups": [...], "rules": [...], "tariffs": [...], "stand_in": [...] }`)
	}
	r := &Rules{}
	seen := map[string]bool{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at(), err)
		}
		name := tok.(string) // the decoder lets nothing else be a name
		if seen[name] {
			return nil, fmt.Errorf("line %d: %q is here twice", at(), name)
		}
		seen[name] = true
		switch name {
		case "groups":
			r.Groups, err = listOf(d, at, func(g *Group, line int) error { g.line = line; return g.check() })
		case "rules":
			r.Rules, err = listOf(d, at, func(u *Rule, line int) error { u.line = line; return u.check() })
		case "tariffs":
			r.Tariffs, err = listOf(d, at, func(t *Tariff, line int) error { t.line = line; return t.check() })
		case "stand_in":
			r.StandIn, err = listOf(d, at, func(s *StandIn, line int) error { s.line = line; return s.check() })
		default:
			err = fmt.Errorf("line %d: %q is none of groups, rules, tariffs, stand_in", at(), name)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := r.connect(); err != nil {
		return nil, err
	}
	return r, nil
}

// listOf reads a list and checks each entry as it comes.
func listOf[T any](d *json.Decoder, at func() int, check func(v *T, line int) error) ([]T, error) {
	if tok, err := d.Token(); err != nil || tok != json.Delim('[') {
		return nil, fmt.Errorf("line %d: want a list: [ {...}, ... ]", at())
	}
	var out []T
	for d.More() {
		line := at()
		var v T
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if err := check(&v, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		out = append(out, v)
	}
	_, err := d.Token() // its end, which is there: the text is well formed
	return out, err
}

func checkName(what, s string) error {
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%s %q: a name is 1 to 64 bytes that can be printed", what, s)
	}
	return nil
}

func (g *Group) check() error {
	if err := checkName("group", g.Name); err != nil {
		return err
	}
	names := slices.Clone(g.Alternates)
	for _, e := range g.Equals {
		if e.Weight < 1 || e.Weight > 1000 {
			return fmt.Errorf("group %s: the weight of %s is %d, not 1 to 1000", g.Name, e.Issuer, e.Weight)
		}
		names = append(names, e.Issuer)
	}
	if g.Primary != "" {
		names = append(names, g.Primary)
	}
	slices.Sort(names)
	switch {
	case (g.Primary == "") == (len(g.Equals) == 0):
		return fmt.Errorf("group %s: name a primary, or equals, and not both", g.Name)
	case g.LeastCost && len(g.Equals) < 2:
		return fmt.Errorf("group %s: least_cost chooses among equals: name two or more", g.Name)
	case len(names) > MaxWays:
		return fmt.Errorf("group %s: %d issuers are more than %d", g.Name, len(names), MaxWays)
	case names[0] == "":
		return fmt.Errorf("group %s: an issuer has no name", g.Name)
	case len(slices.Compact(names)) != len(names):
		return fmt.Errorf("group %s: an issuer is here twice", g.Name)
	}
	return nil
}

func (r *Rule) check() (err error) {
	if err := checkName("rule", r.Name); err != nil {
		return err
	}
	wrong := func(err error) error { return fmt.Errorf("rule %s: %w", r.Name, err) }
	if r.bins, err = parseRanges(r.BINs, "BIN", 1, MaxBIN); err != nil {
		return wrong(err)
	}
	if r.mccs, err = parseRanges(r.MCCs, "merchant category", 4, 4); err != nil {
		return wrong(err)
	}
	for _, c := range r.Currencies {
		if len(c) != 3 || !digits(c) {
			return wrong(fmt.Errorf("currency %q is not three digits (ISO 4217)", c))
		}
	}
	switch {
	case r.FromAmount < 0 || r.ToAmount < 0 || r.ToAmount != 0 && r.ToAmount < r.FromAmount:
		return wrong(fmt.Errorf("amounts from %v to %v", r.FromAmount, r.ToAmount))
	case r.Group == "":
		return wrong(errors.New("it names no group"))
	}
	return nil
}

func (t *Tariff) check() error {
	for _, ppm := range []int64{t.CreditPPM, t.DebitPPM, t.NetworkPPM} {
		if ppm < 0 || ppm > money.Million {
			return fmt.Errorf("tariff of %q: a rate of %d is not 0 to 1000000 ppm", t.Issuer, ppm)
		}
	}
	if t.DebitCap < 0 || t.NetworkDebitCap < 0 {
		return fmt.Errorf("tariff of %q: a cap is below zero", t.Issuer)
	}
	return nil
}

func (s *StandIn) check() error {
	switch {
	case s.Amount <= 0 || s.Sum < s.Amount || s.Count < 1:
		return fmt.Errorf("stand_in of %q: amount and count must be above zero, and sum not below amount", s.Issuer)
	case len(s.Entries) == 0 || len(s.Kinds) == 0:
		return fmt.Errorf("stand_in of %q: say which entries and which kinds of card", s.Issuer)
	}
	return nil
}

// connect finds the groups of the rules and holds the lists against each other.
func (r *Rules) connect() error {
	if err := once(r.Groups, func(g *Group) (string, int) { return "group " + g.Name, g.line }); err != nil {
		return err
	}
	if err := once(r.Rules, func(u *Rule) (string, int) { return "rule " + u.Name, u.line }); err != nil {
		return err
	}
	if err := once(r.Tariffs, func(t *Tariff) (string, int) { return "the tariff of " + t.Issuer, t.line }); err != nil {
		return err
	}
	if err := once(r.StandIn, func(s *StandIn) (string, int) { return "stand_in of " + s.Issuer, s.line }); err != nil {
		return err
	}
	for _, g := range r.Groups {
		for _, e := range g.Equals {
			if g.LeastCost && r.tariff(e.Issuer) == nil && e.Issuer != Own {
				return fmt.Errorf("line %d: group %s chooses by cost, and no tariff says what %s costs", g.line, g.Name, e.Issuer)
			}
		}
	}
	for i := range r.Rules {
		u := &r.Rules[i]
		if u.group = slices.IndexFunc(r.Groups, func(g Group) bool { return g.Name == u.Group }); u.group < 0 {
			return fmt.Errorf("line %d: rule %s: there is no group %s", u.line, u.Name, u.Group)
		}
	}
	return nil
}

// once refuses two entries of one name.
func once[T any](list []T, name func(*T) (string, int)) error {
	seen := map[string]int{}
	for i := range list {
		n, line := name(&list[i])
		if was, twice := seen[n]; twice {
			return fmt.Errorf("line %d: %s is on line %d too", line, n, was)
		}
		seen[n] = line
	}
	return nil
}

func (r *Rules) tariff(issuer string) *Tariff {
	for i := range r.Tariffs {
		if r.Tariffs[i].Issuer == issuer {
			return &r.Tariffs[i]
		}
	}
	return nil
}

// StandsIn is the rule by which the house answers for an issuer; nil when it
// does not.
func (r *Rules) StandsIn(issuer string) *StandIn {
	for i := range r.StandIn {
		if r.StandIn[i].Issuer == issuer {
			return &r.StandIn[i]
		}
	}
	return nil
}

// Refuses says why the house does not answer for the issuer, "" when it may, as
// far as the sale itself tells. The day's count and sum are counted elsewhere.
func (s *StandIn) Refuses(q *Query, pin bool) string {
	switch {
	case q.Amount > s.Amount:
		return "above its stand-in amount of " + s.Amount.String()
	case !slices.Contains(s.Entries, q.Entry):
		return "no stand-in for entry " + q.Entry.String()
	case !slices.Contains(s.Kinds, q.Route.Kind):
		return "no stand-in for kind " + q.Route.Kind.String()
	case pin && !s.PIN:
		return "no stand-in where a PIN was typed"
	}
	return ""
}

// issuers gives every issuer that the rules name, with the line of the entry.
func (r *Rules) issuers(each func(name string, line int)) {
	for _, g := range r.Groups {
		each(g.Primary, g.line)
		for _, e := range g.Equals {
			each(e.Issuer, g.line)
		}
		for _, name := range g.Alternates {
			each(name, g.line)
		}
	}
	for _, u := range r.Rules {
		for _, name := range u.Issuers {
			each(name, u.line)
		}
	}
	for _, t := range r.Tariffs {
		each(t.Issuer, t.line)
	}
	for _, s := range r.StandIn {
		each(s.Issuer, s.line)
	}
}

// Query is what a way is asked for.
type Query struct {
	PAN      card.PAN
	Route    Route // its row of the BIN table
	Amount   money.Amount
	Entry    Entry
	Currency int32  // ISO 4217 number
	MCC      string // of the merchant
	Needs    string // what not every issuer's line carries; "" for nothing
}

// mismatch is the first condition of a rule that does not hold, "" when all
// do.
func (r *Rule) mismatch(q *Query) string {
	has := func(ranges []digitRange, digits string) bool {
		for _, d := range ranges {
			if d.has(digits) {
				return true
			}
		}
		return len(ranges) == 0
	}
	switch {
	case !has(r.bins, q.PAN.Reveal()):
		return "bins"
	case len(r.Issuers) > 0 && !slices.Contains(r.Issuers, q.Route.Issuer):
		return "issuers"
	case len(r.Kinds) > 0 && !slices.Contains(r.Kinds, q.Route.Kind):
		return "kinds"
	case q.Amount < r.FromAmount:
		return "from_amount"
	case r.ToAmount != 0 && q.Amount > r.ToAmount:
		return "to_amount"
	case len(r.Entries) > 0 && !slices.Contains(r.Entries, q.Entry):
		return "entries"
	case len(r.Currencies) > 0 && !slices.ContainsFunc(r.Currencies, func(c string) bool { return number(c) == int64(q.Currency) }):
		return "currencies"
	case !has(r.mccs, q.MCC):
		return "mccs"
	}
	return ""
}

// matched is the place of the first rule that matches, -1 for none.
func (r *Rules) matched(q *Query) int {
	for i := range r.Rules {
		if r.Rules[i].mismatch(q) == "" {
			return i
		}
	}
	return -1
}

// byCost orders ways by what they cost; equal ones stay as they are.
func byCost(ways []Way) {
	slices.SortStableFunc(ways, func(a, b Way) int { return cmp.Compare(a.Cost, b.Cost) })
}

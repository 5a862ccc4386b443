package spec

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Rows are the kinds of messages by the names that logs, metrics and stories
// use. A presence rule gives one of them to the messages it fits.
var Rows = []string{
	"sale", "void", "refund", "preauth", "preauth_void", "completion", "completion_notice", "completion_void", "balance",
	"offline_sale", "adjust", "tip", "chip_offline_sale", "ecash_load", "ecash_cash_load", "ecash_load_other", "ecash_load_void",
	"topup_check", "topup_cash", "topup_account", "instalment", "points", "qr_sale", "qr_void", "qr_refund",
	"reversal", "script_result", "settlement", "batch_upload", "batch_end", "notice_upload", "chip_upload",
	"sign_in", "sign_off", "key_exchange", "echo", "parameter_download", "status_upload",
	"capk_query", "capk_download", "capk_end", "aid_query", "aid_download", "aid_end",
	"blacklist_download", "blacklist_end", "qps_download", "qps_end", "tmk_download", "esign",
}

// rule says which fields a kind of request has. The first rule that fits a
// message is its rule.
type rule struct {
	row       string
	mti       MTI      // a repeat (0421) fits the rule of its first sending
	codes     []string // beginnings of DE 3; none: not asked
	condition []string // DE 25; a message without it fits too, so that its absence can be told
	when      condition
	mac       bool
	must      fieldSet
	mustNot   fieldSet
	may       fieldSet // what senders also send; not asked
	needs     []need
	forbids   []need
}

// need is a field that is mandatory or forbidden when something else holds.
type need struct {
	field int
	when  condition
}

type fieldSet [2]uint64

func (s *fieldSet) add(n int) {
	h, b := mask(n)
	s[h] |= b
}

func (s fieldSet) has(n int) bool {
	h, b := mask(n)
	return s[h]&b != 0
}

// list gives the fields in ascending order.
func (s fieldSet) list() (out []int) {
	for half, w := range s {
		for ; w != 0; w &= w - 1<<(63-bits.LeadingZeros64(w)) {
			out = append(out, half<<6+bits.LeadingZeros64(w)+1)
		}
	}
	return out
}

// first is the lowest field that is in s and for which have says want.
func (s fieldSet) first(have [2]uint64, want bool) int {
	for half, w := range s {
		if want {
			w &= have[half]
		} else {
			w &^= have[half]
		}
		if w != 0 {
			return half<<6 + bits.LeadingZeros64(w) + 1
		}
	}
	return 0
}

// PresenceError is a field that a message must have and has not, or must not
// have and has.
type PresenceError struct {
	Dialect string
	Row     string // "sale"
	Field   int
	Name    string
	Missing bool   // else it is there and forbidden
	When    string // the condition of the rule, "" when there is none
}

func (e *PresenceError) Error() string {
	return fmt.Sprintf("%s: %s: DE %d (%s) %s", e.Dialect, e.Row, e.Field, e.Name, e.what())
}

// Note is the error in short, for a reader who knows the message: "DE 25 is
// missing".
func (e *PresenceError) Note() string { return fmt.Sprintf("DE %d %s", e.Field, e.what()) }

func (e *PresenceError) what() string {
	what := "is missing"
	if !e.Missing {
		what = "is not allowed"
	}
	if e.When != "" {
		what += " when " + e.When
	}
	return what
}

// Check holds a request against the presence rules of the dialect. It is nil
// when the message has what its kind needs, and when no rule fits: then the
// message is of a kind the dialect does not know, see Row. Nothing is allocated
// unless something is wrong. The result is a pointer, not an error, lest a nil
// one be taken for a mistake.
//
// A MAC that is missing is told like any field, and one trace number used for
// two different messages is not seen here: a host that answers those with codes
// of their own looks at them before, or records the refusal as it records sales.
func (d *Dialect) Check(m *Message) *PresenceError {
	r := d.rule(m)
	if r == nil {
		return nil
	}
	if n := r.must.first(m.bits, false); n != 0 {
		return d.absent(r, n, true, nil)
	}
	for i := range r.needs {
		if w := &r.needs[i]; !m.Has(w.field) && w.when.holds(m) {
			return d.absent(r, w.field, true, w.when)
		}
	}
	if r.mac {
		if n := d.MACField(m); !m.Has(n) {
			return d.absent(r, n, true, nil)
		}
	}
	if n := r.mustNot.first(m.bits, true); n != 0 {
		return d.absent(r, n, false, nil)
	}
	for i := range r.forbids {
		if w := &r.forbids[i]; m.Has(w.field) && w.when.holds(m) {
			return d.absent(r, w.field, false, w.when)
		}
	}
	return nil
}

func (d *Dialect) absent(r *rule, n int, missing bool, when condition) *PresenceError {
	return &PresenceError{Dialect: d.name, Row: r.row, Field: n, Name: d.FieldName(n), Missing: missing, When: when.String()}
}

// Row is the kind of a request by its presence rule, one of Rows; "" when no
// rule fits.
func (d *Dialect) Row(m *Message) string {
	if r := d.rule(m); r != nil {
		return r.row
	}
	return ""
}

// Signs reports whether messages of this kind carry a MAC.
func (d *Dialect) Signs(m *Message) bool {
	r := d.rule(m)
	return r != nil && r.mac
}

// rule is the first that fits m.
func (d *Dialect) rule(m *Message) *rule {
	if m.d != d {
		return nil
	}
	var room3, room25 [8]byte
	var code, pos []byte
	mti := m.mti &^ 1
	for i := range d.rules {
		r := &d.rules[i]
		if r.mti != mti {
			continue
		}
		if code == nil {
			code, pos = m.head(room3[:0], 3, 6), m.head(room25[:0], 25, 2)
		}
		if r.fits(m, code, pos) {
			return r
		}
	}
	return nil
}

func (r *rule) fits(m *Message, code, pos []byte) bool {
	ok := len(r.codes) == 0
	for _, c := range r.codes {
		ok = ok || len(c) <= len(code) && string(code[:len(c)]) == c
	}
	if !ok {
		return false
	}
	if len(r.condition) > 0 && len(pos) > 0 {
		ok = false
		for _, c := range r.condition {
			ok = ok || string(pos) == c
		}
	}
	return ok && r.when.holds(m)
}

// head appends the first units characters of the text of DE n, fewer when it is
// shorter.
func (m *Message) head(dst []byte, n, units int) []byte {
	if !m.Has(n) {
		return dst
	}
	k, have := m.d.cells[n].kind, int(m.slots[n].units)
	w := m.wire(n)
	if k == BCDEither {
		k = either(w, have)
	}
	switch {
	case k == Binary:
		units = min(units, 2*have)
		return k.appendText(dst, w[:(units+1)/2], 0)[:len(dst)+units]
	case k == BCDRight && have&1 != 0 && units < have:
		return k.appendText(dst, w, have)[:len(dst)+units]
	}
	units = min(units, have)
	return k.appendText(dst, w[:k.size(units)], units)
}

// condition is a list of tests that must all hold; an empty one holds always.
type condition []test

// test asks one thing of one field.
type test struct {
	field    int
	op       testOp
	from, to int // digits, from 1; 0: the whole value
	values   []string
}

type testOp uint8

const (
	isPresent testOp = iota + 1
	isAbsent
	isOneOf
	isNoneOf
)

func (c condition) holds(m *Message) bool {
	for i := range c {
		if !c[i].holds(m) {
			return false
		}
	}
	return true
}

// longestTest is how far into a field a test can look.
const longestTest = 40

func (t *test) holds(m *Message) bool {
	switch t.op {
	case isPresent:
		return m.Has(t.field)
	case isAbsent:
		return !m.Has(t.field)
	}
	var room [longestTest + 1]byte
	end := t.to
	if end == 0 {
		end = longestTest + 1
	}
	text := m.head(room[:0], t.field, end)
	if t.to > 0 {
		if len(text) < t.to {
			text = nil // the digits are not there
		} else {
			text = text[t.from-1 : t.to]
		}
	}
	for _, v := range t.values {
		if string(text) == v {
			return t.op == isOneOf
		}
	}
	return t.op == isNoneOf
}

// String is the condition in the words of a dialect file.
func (c condition) String() string {
	parts := make([]string, len(c))
	for i, t := range c {
		s := "DE " + strconv.Itoa(t.field)
		switch {
		case t.to > 0 && t.from == t.to:
			s += " digit " + strconv.Itoa(t.from)
		case t.to > 0:
			s += " digits " + strconv.Itoa(t.from) + "-" + strconv.Itoa(t.to)
		}
		switch t.op {
		case isPresent:
			s += " present"
		case isAbsent:
			s += " absent"
		case isOneOf:
			s += " = " + strings.Join(t.values, " ")
		case isNoneOf:
			s += " != " + strings.Join(t.values, " ")
		}
		parts[i] = s
	}
	return strings.Join(parts, " and ")
}

// parseCondition reads the words of a dialect file:
//
//	DE 35 absent
//	DE 22 digit 3 = 1
//	DE 60 digits 1-2 = 22 23 and DE 25 != 06
func parseCondition(s string) (condition, error) {
	var c condition
	for part := range strings.SplitSeq(s, " and ") {
		t, err := parseTest(strings.Fields(part))
		if err != nil {
			return nil, fmt.Errorf("%q: %w; want like \"DE 35 absent\", \"DE 22 digit 3 = 1\" or \"DE 60 digits 1-2 = 22 23 and DE 25 != 06\"", s, err)
		}
		c = append(c, t)
	}
	return c, nil
}

func parseTest(w []string) (t test, err error) {
	if len(w) < 3 || w[0] != "DE" {
		return t, fmt.Errorf("a test is DE, a number and what it asks")
	}
	if t.field, err = strconv.Atoi(w[1]); err != nil || t.field < 2 || t.field > maxField {
		return t, fmt.Errorf("%q is not a field from 2 to %d", w[1], maxField)
	}
	w = w[2:]
	if len(w) == 1 {
		switch w[0] {
		case "present":
			t.op = isPresent
			return t, nil
		case "absent":
			t.op = isAbsent
			return t, nil
		}
	}
	if w[0] == "digit" || w[0] == "digits" {
		if len(w) < 2 {
			return t, fmt.Errorf("which digit is not told")
		}
		from, to, isRange := strings.Cut(w[1], "-")
		if !isRange {
			to = from
		}
		t.from, err = strconv.Atoi(from)
		if err == nil {
			t.to, err = strconv.Atoi(to)
		}
		if err != nil || t.from < 1 || t.to < t.from || t.to > longestTest {
			return t, fmt.Errorf("%q is not a digit or a range of digits from 1 to %d", w[1], longestTest)
		}
		w = w[2:]
	}
	if len(w) < 2 || w[0] != "=" && w[0] != "!=" {
		return t, fmt.Errorf("it asks for nothing this knows")
	}
	t.op = isOneOf
	if w[0] == "!=" {
		t.op = isNoneOf
	}
	t.values = w[1:]
	for _, v := range t.values {
		if want := t.to - t.from + 1; t.to > 0 && len(v) != want {
			return t, fmt.Errorf("%q is not %d characters", v, want)
		} else if len(v) > longestTest {
			return t, fmt.Errorf("a value of more than %d characters", longestTest)
		}
	}
	return t, nil
}

// readPresence gives a dialect that is declared in Go its rules.
func (d *Dialect) readPresence(name string) error {
	root, bad := readTree(embedded(name))
	if bad != nil {
		return &FileError{name, []Mistake{*bad}}
	}
	r := &review{}
	o := r.object(&root, "the file", "presence")
	d.rules = r.presence(o["presence"], func(n int) bool { return d.cells[n].kind != 0 }, d.mac != nil)
	if len(r.mistakes) > 0 {
		return &FileError{name, r.mistakes}
	}
	return nil
}

// presence reads the rules of a file; has says which fields it declares.
func (r *review) presence(n *node, has func(int) bool, mac bool) []rule {
	var rules []rule
	seen := map[string]int{}
	list := r.optional(n, "presence")
	for i := range list {
		if u, ok := r.rule(&list[i], has, mac); ok {
			key := fmt.Sprint(u.mti, u.codes, u.condition, u.when)
			if line := seen[key]; line != 0 {
				r.where = "message " + u.row
				r.wrong(list[i].line, "no message can reach this rule: the one on line %d asks for the same", line)
				r.where = ""
			}
			seen[key] = list[i].line
			rules = append(rules, u)
		}
	}
	return rules
}

// optional is items of a key that may be left out.
func (r *review) optional(n *node, what string) []node {
	if n == nil {
		return nil
	}
	return r.items(n, what)
}

func (r *review) rule(n *node, has func(int) bool, mac bool) (u rule, ok bool) {
	if n.shape == anObject {
		for i := range n.keys {
			if k := &n.keys[i]; k.name == "message" && k.value.shape == aString {
				r.where = "message " + k.value.text
			}
		}
	}
	defer func() { r.where = "" }()
	had := len(r.mistakes)
	o := r.object(n, "a presence rule", "message", "mti", "|", "processing", "condition", "when", "mac", "mandatory", "conditional", "forbidden", "optional")
	if s := o["message"]; s != nil && r.is(s, "message", aString) {
		if u.row = s.text; !slices.Contains(Rows, u.row) {
			r.wrong(s.line, "message %q is none of %s", u.row, names(Rows))
		}
	}
	if s := o["mti"]; s != nil && r.is(s, "mti", aString) {
		m, err := parseMTI(s.text)
		switch {
		case err != nil:
			r.wrong(s.line, "%v", err)
		case m.IsResponse():
			r.wrong(s.line, "mti %s is an answer; rules are for requests", m)
		case m&1 != 0:
			r.wrong(s.line, "mti %s is a repeat; it goes by the rule of %s", m, m&^1)
		}
		u.mti = m
	}
	digits := func(key string, least, most int) (out []string) {
		for _, s := range r.words(o[key], key) {
			if len(s) < least || len(s) > most || strings.Trim(s, "0123456789") != "" {
				r.wrong(o[key].line, "%s %q: want %d to %d digits", key, s, least, most)
			}
			out = append(out, s)
		}
		return out
	}
	u.codes, u.condition = digits("processing", 1, 6), digits("condition", 2, 2)
	if o["when"] != nil {
		u.when = r.condition(o["when"], "when", has)
	}
	if u.mac = r.yes(o["mac"], "mac"); u.mac && !mac {
		r.wrong(o["mac"].line, "the dialect declares no mac")
	}
	r.fields(o["mandatory"], "mandatory", has, &u.must, nil)
	r.fields(o["conditional"], "conditional", has, nil, &u.needs)
	r.fields(o["forbidden"], "forbidden", has, &u.mustNot, &u.forbids)
	r.fields(o["optional"], "optional", has, &u.may, nil)
	for _, f := range u.must.list() {
		if u.mustNot.has(f) {
			r.wrong(o["forbidden"].line, "field %d is mandatory and forbidden", f)
		}
	}
	return u, len(r.mistakes) == had
}

func (r *review) condition(n *node, what string, has func(int) bool) condition {
	s := r.word(n, what)
	if n == nil || n.shape != aString {
		return nil
	}
	c, err := parseCondition(s)
	if err != nil {
		r.wrong(n.line, "%s %v", what, err)
		return nil
	}
	for _, t := range c {
		if !has(t.field) {
			r.wrong(n.line, "%s asks for field %d, which is not declared", what, t.field)
		}
	}
	return c
}

// fields reads a list of field numbers into set and of {"field", "if"} into
// needs, where the key takes them.
func (r *review) fields(n *node, what string, has func(int) bool, set *fieldSet, needs *[]need) {
	list := r.optional(n, what)
	for i := range list {
		e := &list[i]
		if e.shape == anObject && needs != nil {
			o := r.object(e, what, "field", "if")
			f := r.number(o["field"], "field", 2, maxField)
			c := r.condition(o["if"], "if", has)
			if f != 0 && !has(f) {
				r.wrong(e.line, "%s field %d is not declared", what, f)
			}
			*needs = append(*needs, need{f, c})
			continue
		}
		if set == nil {
			r.wrong(e.line, "%s: want {\"field\": 35, \"if\": \"DE 2 absent\"}, found %s", what, shapeNames[e.shape])
			continue
		}
		f := r.number(e, what+" field", 2, maxField)
		switch {
		case f == 0:
		case !has(f):
			r.wrong(e.line, "%s field %d is not declared", what, f)
		case set.has(f):
			r.wrong(e.line, "%s field %d stands twice", what, f)
		default:
			set.add(f)
		}
	}
}

// Package routing decides where a card goes and brings it there: a table from
// BINs to issuers, and lines to those issuers that speak the CUPS dialect over
// moov-io/iso8583-connection. What left the house and what did not is told
// apart without guessing, since a reversal is owed for one and not the other.
package routing

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"acquirer/card"
)

// A BIN (issuer identification number, ISO/IEC 7812-1) has 6 to 11 digits.
const (
	MinBIN = 6
	MaxBIN = 11
)

// Kind says what sort of account stands behind a card. The zero Kind is
// Unknown and is priced by nobody.
type Kind uint8

// Kinds of card, as a BIN table names them.
const (
	Unknown Kind = iota
	Debit
	Credit
	Prepaid
	SemiCredit // 准贷记卡, limited and cleared as credit
)

var kindNames = [...]string{"unknown", "debit", "credit", "prepaid", "semi-credit"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// MarshalText writes the name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a name; Unknown is not one that a table may say.
func (k *Kind) UnmarshalText(b []byte) error {
	for i, n := range kindNames {
		if i > 0 && n == string(b) {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("kind %q is not one of %s", b, strings.Join(kindNames[1:], ", "))
}

// PANLengths is the set of account-number lengths a BIN issues, 13 to 19 digits.
type PANLengths uint32

// LengthsOf makes a set.
func LengthsOf(lengths ...int) (PANLengths, error) {
	var s PANLengths
	for _, n := range lengths {
		if n < 13 || n > 19 {
			return 0, fmt.Errorf("account-number length %d is not 13 to 19", n)
		}
		s |= 1 << n
	}
	return s, nil
}

// Has reports whether n is in the set.
func (s PANLengths) Has(n int) bool { return n >= 13 && n <= 19 && s>>n&1 == 1 }

func (s PANLengths) String() string {
	var out strings.Builder
	for m := uint32(s); m != 0; m &= m - 1 {
		if out.Len() > 0 {
			out.WriteByte('/')
		}
		fmt.Fprint(&out, bits.TrailingZeros32(m))
	}
	return out.String()
}

// Route is one row of the table.
type Route struct {
	BIN     string     // the digits that matched; of a range, its first
	Last    string     // the last of a range, as many digits; "" for one BIN
	Issuer  string     // name of the issuer, as the configuration has it
	Brand   string     // card scheme, "UnionPay"
	Name    string     // the card's product name, for people
	Kind    Kind       // debit, credit, prepaid
	Lengths PANLengths // account-number lengths this BIN issues
	Luhn    bool       // the last digit is a check digit
}

// schemes are what terminals call card schemes (DE 63).
var schemes = map[string]string{"": "CUP", "unionpay": "CUP", "visa": "VIS", "mastercard": "MCC", "maestro": "MAE", "jcb": "JCB", "diners": "DCC", "discover": "DCC", "amex": "AMX", "american express": "AMX"}

// Scheme is what a terminal calls the card's scheme (DE 63): CUP for UnionPay
// and where the table names no brand, VIS, MCC, MAE, JCB, DCC, AMX, or the
// brand's first three letters.
func (r *Route) Scheme() string {
	brand := strings.ToLower(r.Brand)
	if s, ok := schemes[brand]; ok {
		return s
	}
	return strings.ToUpper((brand + "   ")[:3])
}

// Refusals of Check. Both are DE 39 14, invalid card number.
var (
	ErrLength     = errors.New("routing: the card number has a length that its BIN does not issue")
	ErrCheckDigit = errors.New("routing: the card number's check digit is wrong")
)

// Check holds an account number against its BIN: length and, where the issuer
// uses one, check digit. It allocates nothing.
func (r *Route) Check(pan card.PAN) error {
	if !r.Lengths.Has(len(pan.Reveal())) {
		return ErrLength
	}
	if r.Luhn && !pan.Luhn() {
		return ErrCheckDigit
	}
	return nil
}

// String names the row as a table writes it: "621000" or "621000-621099".
func (r *Route) String() string {
	if r.Last == "" {
		return r.BIN
	}
	return r.BIN + "-" + r.Last
}

// Table maps BINs and ranges of them to routes. It never changes once made; a
// reload makes another. Safe for concurrent use.
type Table struct {
	routes []Route
	spans  [MaxBIN + 1][]span // by number of digits, in order; they do not overlap
}

// span is the BINs of one row.
type span struct {
	first, last uint64
	row         int32
}

// NewTable makes a table from rows. Two rows of equally many digits must not
// overlap; of rows with different numbers of digits the longest wins.
func NewTable(routes []Route) (*Table, error) {
	t := &Table{routes: append([]Route(nil), routes...)}
	if err := t.index(func(row int32) string { return fmt.Sprintf("row %d", row+1) }); err != nil {
		return nil, fmt.Errorf("routing: %w", err)
	}
	return t, nil
}

// index checks the rows and lays out their spans; at names a row for people.
func (t *Table) index(at func(row int32) string) error {
	for i := range t.routes {
		row := int32(i)
		if err := t.add(row); err != nil {
			return fmt.Errorf("%s: %w", at(row), err)
		}
	}
	for _, spans := range t.spans {
		slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
		for i := 1; i < len(spans); i++ {
			if was, is := spans[i-1], spans[i]; is.first <= was.last {
				a, b := &t.routes[min(was.row, is.row)], &t.routes[max(was.row, is.row)]
				return fmt.Errorf("%s: BIN %s overlaps %s of %s, for %s and for %s", at(max(was.row, is.row)), b, a, at(min(was.row, is.row)), a.Issuer, b.Issuer)
			}
		}
	}
	return nil
}

func (t *Table) add(row int32) error {
	r := &t.routes[row]
	first, err := parseBIN(r.BIN)
	if err != nil {
		return err
	}
	last := first
	if r.Last != "" {
		if last, err = parseBIN(r.Last); err != nil {
			return err
		}
		if len(r.Last) != len(r.BIN) || last < first {
			return fmt.Errorf("the range %s does not go up to as many digits", r)
		}
	}
	switch {
	case r.Issuer == "":
		return fmt.Errorf("BIN %s names no issuer", r)
	case r.Kind == Unknown:
		return fmt.Errorf("BIN %s names no kind of card", r)
	case r.Lengths == 0:
		return fmt.Errorf("BIN %s names no account-number length", r)
	}
	t.spans[len(r.BIN)] = append(t.spans[len(r.BIN)], span{first, last, row})
	return nil
}

func parseBIN(s string) (uint64, error) {
	if len(s) < MinBIN || len(s) > MaxBIN {
		return 0, fmt.Errorf("BIN %q has %d digits, want %d to %d", s, len(s), MinBIN, MaxBIN)
	}
	var v uint64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, fmt.Errorf("BIN %q is not digits", s)
		}
		v = v*10 + uint64(s[i]-'0')
	}
	return v, nil
}

// Route finds the row with the longest BIN that the number starts with. It
// does not judge the number itself; Check does. It allocates nothing.
func (t *Table) Route(pan card.PAN) (Route, bool) {
	d := pan.Reveal()
	var prefix [MaxBIN + 1]uint64
	longest := min(len(d), MaxBIN)
	for i := range longest {
		prefix[i+1] = prefix[i]*10 + uint64(d[i]-'0')
	}
	for n := longest; n >= MinBIN; n-- {
		spans := t.spans[n]
		i, is := slices.BinarySearchFunc(spans, prefix[n], func(s span, v uint64) int { return cmp.Compare(s.first, v) })
		if !is {
			i--
		}
		if i >= 0 && prefix[n] <= spans[i].last {
			return t.routes[spans[i].row], true
		}
	}
	return Route{}, false
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.routes) }

// Issuers lists the names that the table routes to, each once, in the order of
// their first row: the caller checks them against the issuers it has.
func (t *Table) Issuers() []string {
	var names []string
	seen := map[string]bool{}
	for i := range t.routes {
		if n := t.routes[i].Issuer; !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}

// Routes returns a copy of the rows.
func (t *Table) Routes() []Route { return append([]Route(nil), t.routes...) }

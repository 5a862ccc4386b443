// Package routing decides where a card goes and brings it there: a table from
// BINs to issuers, and lines to those issuers that speak the CUPS dialect over
// moov-io/iso8583-connection. What left the house and what did not is told
// apart without guessing, since a reversal is owed for one and not the other.
package routing

import (
	"errors"
	"fmt"
	"math/bits"
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
	SemiCredit // 准贷记卡, priced as credit
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
	BIN     string     // the digits that matched
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

// Table maps BINs to routes. It never changes once made; a reload makes
// another and the caller swaps the pointer. Safe for concurrent use.
type Table struct {
	routes []Route
	byBIN  [MaxBIN + 1]map[uint64]int32 // by length of the BIN; nil where no BIN has it
}

// NewTable makes a table from rows. The same BIN twice is an error, the same
// digits at different lengths are not: the longest wins.
func NewTable(routes []Route) (*Table, error) {
	t := &Table{routes: append([]Route(nil), routes...)}
	for i := range t.routes {
		if err := t.add(int32(i)); err != nil {
			return nil, fmt.Errorf("routing: row %d: %w", i+1, err)
		}
	}
	return t, nil
}

func (t *Table) add(i int32) error {
	r := &t.routes[i]
	key, err := parseBIN(r.BIN)
	if err != nil {
		return err
	}
	switch {
	case r.Issuer == "":
		return fmt.Errorf("BIN %s names no issuer", r.BIN)
	case r.Kind == Unknown:
		return fmt.Errorf("BIN %s names no kind of card", r.BIN)
	case r.Lengths == 0:
		return fmt.Errorf("BIN %s names no account-number length", r.BIN)
	}
	m := t.byBIN[len(r.BIN)]
	if m == nil {
		m = map[uint64]int32{}
		t.byBIN[len(r.BIN)] = m
	}
	if old, twice := m[key]; twice {
		return fmt.Errorf("BIN %s is here twice, for %s and for %s", r.BIN, t.routes[old].Issuer, r.Issuer)
	}
	m[key] = i
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
		if i, ok := t.byBIN[n][prefix[n]]; ok {
			return t.routes[i], true
		}
	}
	return Route{}, false
}

// Len is the number of BINs.
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

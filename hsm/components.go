package hsm

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrComponents: the components do not make the key that they should.
var ErrComponents = errors.New("components do not fit")

// maxCustodians is as many as a ceremony has room for; FormKey takes as many
// components.
const maxCustodians = 9

// masterBytes is the length of a master key and of everything that makes one.
const masterBytes = 32

// Component is one custodian's part of a key of 32 bytes. It prints without
// its value; AppendText shows it.
type Component struct {
	Index     int // 1 to 9
	Custodian string
	Value     [masterBytes]byte
}

// String shows whose it is and its check value, which everybody may know.
func (c Component) String() string {
	return fmt.Sprintf("component %d of %s, check value %s", c.Index, c.Custodian, c.CheckValue().Short())
}
func (c Component) GoString() string              { return c.String() }
func (c Component) Format(f fmt.State, verb rune) { fmt.Fprint(f, c.String()) }
func (c Component) MarshalText() ([]byte, error)  { return []byte(c.String()), nil }

// CheckValue is the CMAC of a zero block under the component as an AES-256 key.
func (c *Component) CheckValue() KCV { return masterCheckValue(c.Value[:]) }

// AppendText writes the component for its custodian, value and all: in groups
// of four digits, as one reads it from paper.
func (c *Component) AppendText(dst []byte) []byte {
	dst = fmt.Appendf(dst, "# component %d, custodian %s\n", c.Index, c.Custodian)
	digits := make([]byte, 2*masterBytes)
	defer clear(digits)
	hex.Encode(digits, c.Value[:])
	for i := 0; i < len(digits); i += 4 {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, bytes.ToUpper(digits[i:i+4])...)
	}
	return fmt.Appendf(dst, "\ncheck value %s\n", c.CheckValue().Short())
}

// ParseComponent reads what a custodian has: 64 hex digits with or without
// spaces, lines that begin with # apart, and the check value when it is there.
// Errors never repeat what was read.
func ParseComponent(text []byte) (value [masterBytes]byte, err error) {
	digits := make([]byte, 0, 2*masterBytes)
	defer func() { clear(digits[:cap(digits)]) }()
	check := ""
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if bytes.HasPrefix(line, []byte("#")) {
			continue
		}
		if rest, ok := bytes.CutPrefix(line, []byte("check value ")); ok {
			check = strings.ToUpper(string(rest))
			continue
		}
		for _, c := range line {
			if c == ' ' || c == '\t' || c == '-' {
				continue
			}
			if len(digits) == 2*masterBytes {
				return value, fmt.Errorf("component: more than %d hex digits", 2*masterBytes)
			}
			digits = append(digits, c)
		}
	}
	if len(digits) != 2*masterBytes {
		return value, fmt.Errorf("component: %d characters, want %d hex digits", len(digits), 2*masterBytes)
	}
	if _, err := hex.Decode(value[:], digits); err != nil {
		clear(value[:])
		return value, errors.New("component: a character that is no hex digit")
	}
	if got := masterCheckValue(value[:]); check != "" && check != got.Short() {
		clear(value[:])
		if len(check) != len(got.Short()) {
			return value, fmt.Errorf("component: %w: its check value is %s, and what stands beside it has %d characters", ErrKCV, got.Short(), len(check))
		}
		return value, fmt.Errorf("component: %w: its check value is %s and not the %s that stands beside it", ErrKCV, got.Short(), check)
	}
	return value, nil
}

// Custodians are who holds the components of a key, how many of them make it,
// and the check values that say so. There is no secret in it.
type Custodians struct {
	Needed     int         `json:"needed"`
	CheckValue string      `json:"check_value"` // of the key, 6 hex digits
	People     []Custodian `json:"people"`
}

// Custodian is one of them.
type Custodian struct {
	Name       string `json:"name"`
	CheckValue string `json:"check_value"` // of the component, 6 hex digits
}

// check refuses what NewComponents never makes.
func (c *Custodians) check() error {
	if len(c.People) < 2 || len(c.People) > maxCustodians {
		return fmt.Errorf("%d custodians, want 2 to %d", len(c.People), maxCustodians)
	}
	if c.Needed < 2 || c.Needed > len(c.People) {
		return fmt.Errorf("%d of %d custodians needed, want at least 2 and at most all", c.Needed, len(c.People))
	}
	seen := map[string]bool{}
	for _, p := range c.People {
		if p.Name == "" || strings.ContainsAny(p.Name, "\r\n,\"") || strings.TrimSpace(p.Name) != p.Name {
			return fmt.Errorf("custodian %q: a name has no quotes, commas, line ends or spaces at its ends", p.Name)
		}
		if seen[strings.ToLower(p.Name)] {
			return fmt.Errorf("custodian %s stands twice: two people are needed", p.Name)
		}
		seen[strings.ToLower(p.Name)] = true
	}
	return nil
}

// Index finds a custodian, counted from 1; 0 when there is none of that name.
func (c *Custodians) Index(name string) int {
	for i, p := range c.People {
		if strings.EqualFold(p.Name, name) {
			return i + 1
		}
	}
	return 0
}

// String says how many of whom are needed.
func (c *Custodians) String() string {
	names := make([]string, len(c.People))
	for i, p := range c.People {
		names[i] = p.Name
	}
	return fmt.Sprintf("%d of %s", c.Needed, strings.Join(names, ", "))
}

// NewComponents makes a random key of 32 bytes in components for the people
// named, of which any needed make it again. When all are needed the components
// are combined by XOR, as key components are everywhere; when fewer are, they
// are shares of Shamir's scheme over GF(2^8). In both fewer than needed say
// nothing about the key. The caller clears key and components.
func NewComponents(names []string, needed int) (*Custodians, []Component, []byte, error) {
	c := &Custodians{Needed: needed}
	for _, n := range names {
		c.People = append(c.People, Custodian{Name: n})
	}
	if err := c.check(); err != nil {
		return nil, nil, nil, fmt.Errorf("hsm: components: %w", err)
	}
	key := make([]byte, masterBytes)
	rand.Read(key) // never fails, ends the process instead
	parts := make([]Component, len(names))
	for i := range parts {
		parts[i].Index, parts[i].Custodian = i+1, names[i]
	}
	if needed == len(names) {
		last := &parts[len(parts)-1]
		copy(last.Value[:], key)
		for i := range parts[:len(parts)-1] {
			rand.Read(parts[i].Value[:])
			subtle.XORBytes(last.Value[:], last.Value[:], parts[i].Value[:])
		}
	} else {
		share(key, parts, needed)
	}
	for i := range parts {
		c.People[i].CheckValue = parts[i].CheckValue().Short()
	}
	c.CheckValue = masterCheckValue(key).Short()
	return c, parts, key, nil
}

// GatherComponents is NewComponents for components that custodians made each
// for themselves: all of them are needed, combined by XOR.
func GatherComponents(parts []Component) (*Custodians, []byte, error) {
	c := &Custodians{Needed: len(parts)}
	key := make([]byte, masterBytes)
	for i := range parts {
		c.People = append(c.People, Custodian{parts[i].Custodian, parts[i].CheckValue().Short()})
		subtle.XORBytes(key, key, parts[i].Value[:])
	}
	if err := c.check(); err != nil {
		return nil, nil, fmt.Errorf("hsm: components: %w", err)
	}
	if subtle.ConstantTimeCompare(key, make([]byte, masterBytes)) == 1 {
		return nil, nil, fmt.Errorf("hsm: components: %w: together they are nothing", ErrComponents)
	}
	c.CheckValue = masterCheckValue(key).Short()
	return c, key, nil
}

// NewComponent is one custodian's own component, for GatherComponents.
func NewComponent(custodian string, index int) Component {
	c := Component{Index: index, Custodian: custodian}
	rand.Read(c.Value[:])
	return c
}

// Admit says whether a component is the one that its custodian was given, and
// sets its index.
func (c *Custodians) Admit(p *Component) error {
	i := c.Index(p.Custodian)
	if i == 0 {
		return fmt.Errorf("hsm: %w: %s is no custodian of this key; they are %s", ErrComponents, p.Custodian, c)
	}
	if got := p.CheckValue().Short(); got != c.People[i-1].CheckValue {
		return fmt.Errorf("hsm: %w: the component of %s has check value %s, want %s", ErrComponents, p.Custodian, got, c.People[i-1].CheckValue)
	}
	p.Index = i
	return nil
}

// Combine makes the key of components of different custodians, as many as are
// needed. The caller clears it.
func (c *Custodians) Combine(parts []Component) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("hsm: components: %w", err)
	}
	if len(parts) < c.Needed {
		return nil, fmt.Errorf("hsm: %w: %d were given, %d are needed", ErrComponents, len(parts), c.Needed)
	}
	parts = parts[:c.Needed]
	seen := map[int]bool{}
	for i := range parts {
		if err := c.Admit(&parts[i]); err != nil {
			return nil, err
		}
		if seen[parts[i].Index] {
			return nil, fmt.Errorf("hsm: %w: the component of %s was given twice", ErrComponents, parts[i].Custodian)
		}
		seen[parts[i].Index] = true
	}
	key := make([]byte, masterBytes)
	if c.Needed == len(c.People) {
		for i := range parts {
			subtle.XORBytes(key, key, parts[i].Value[:])
		}
	} else {
		unshare(key, parts)
	}
	if got := masterCheckValue(key).Short(); got != c.CheckValue {
		clear(key)
		return nil, fmt.Errorf("hsm: %w: together they have check value %s, want %s", ErrComponents, got, c.CheckValue)
	}
	return key, nil
}

// share gives each component the value at its index of random polynomials over
// GF(2^8), one for each byte of the key, which is their value at 0 (A. Shamir,
// How to share a secret, 1979).
func share(key []byte, parts []Component, needed int) {
	coefficients := make([]byte, needed)
	defer clear(coefficients)
	for b := range key {
		rand.Read(coefficients)
		coefficients[0] = key[b]
		for i := range parts {
			y := byte(0)
			for k := needed - 1; k >= 0; k-- {
				y = gfMul(y, byte(parts[i].Index)) ^ coefficients[k]
			}
			parts[i].Value[b] = y
		}
	}
}

// unshare is the value at 0 of the polynomials through the components
// (Lagrange).
func unshare(key []byte, parts []Component) {
	for i := range parts {
		weight := byte(1)
		for j := range parts {
			if i != j {
				weight = gfMul(weight, gfMul(byte(parts[j].Index), gfInverse(byte(parts[j].Index^parts[i].Index))))
			}
		}
		for b := range key {
			key[b] ^= gfMul(weight, parts[i].Value[b])
		}
	}
}

// gfMul multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1, without a branch or a
// table that depends on the secret.
func gfMul(a, b byte) (p byte) {
	for range 8 {
		p ^= -(b & 1) & a
		a = a<<1 ^ -(a>>7)&0x1B
		b >>= 1
	}
	return p
}

// gfInverse is a^254.
func gfInverse(a byte) byte {
	out := byte(1)
	for range 7 {
		a = gfMul(a, a)
		out = gfMul(out, a)
	}
	return out
}

package payshield

import (
	"encoding/hex"
	"strconv"
	"strings"

	"acquirer/hsm/algo"
)

// field is an encrypted key as it stands in a message: a scheme's letter and
// what follows it, or hexadecimal digits alone.
type field struct {
	letter byte // 0 when there is none
	text   string
}

// scheme of a field without letter is Z, and X when it has double length:
// pairs of keys that older messages carry so, each half by itself.
func (f field) scheme() algo.Scheme {
	switch {
	case f.letter != 0:
		return algo.Scheme(f.letter)
	case len(f.text) == 32:
		return algo.SchemeX
	}
	return algo.SchemeZ
}

// bytes are the key, encrypted; the digits have been looked at.
func (f field) bytes() []byte {
	digits := f.text
	if f.letter != 0 {
		digits = digits[1:]
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil
	}
	return b
}

// write writes a key in the form of the field: without letter where f has
// none and the scheme is the same.
func (f field) write(s algo.Scheme, sealed []byte) string {
	if f.letter == 0 && s == f.scheme() {
		return hexUpper(sealed)
	}
	return algo.FormatKeyField(s, sealed)
}

// field reads a key. A pair without letter has 32 digits, another key 16.
func (c *command) field(pair bool) (f field) {
	if c.failed() {
		return f
	}
	n := 16
	switch letter := c.peek(); letter {
	case 'U', 'X':
		n, f.letter = 33, letter
	case 'T', 'Y':
		n, f.letter = 49, letter
	case 'Z':
		n, f.letter = 17, letter
	case 'S', 'R':
		f.letter = letter
		if c.left() < 17 {
			c.fail(BlockHeader)
			return f
		}
		length, err := strconv.Atoi(c.in[c.at+2 : c.at+6])
		if err != nil || length < 16 {
			c.fail(BlockHeader)
			return f
		}
		n = 1 + length
	case 'K':
		c.fail(NoUserStorage)
		return f
	default:
		if pair {
			n = 32
		}
	}
	f.text = c.text(n)
	if c.failed() || f.letter == 'S' || f.letter == 'R' {
		return f
	}
	for i := range len(f.text) {
		if !isHex(f.text[i]) && (i > 0 || f.letter == 0) {
			c.fail(BadInput)
		}
	}
	return f
}

// parity is the error of the next key's parity.
func (c *command) parity() Code {
	c.keys++
	if c.keys == 1 {
		return SourceParity
	}
	return DestParity
}

// key reads a key under the LMK and expands it.
func (c *command) key(t keyType) *algo.Key { return c.expand(c.field(false), t) }

// pair reads a key of double length that may have no letter.
func (c *command) pair(t keyType) *algo.Key { return c.expand(c.field(true), t) }

// noKey stands where none could be read; the request has failed.
var noKey = func() *algo.Key {
	k, err := algo.NewKey(algo.DES, make([]byte, 8))
	if err != nil {
		panic("payshield: " + err.Error())
	}
	return k
}()

func (c *command) expand(f field, t keyType) *algo.Key {
	parity := c.parity()
	if c.failed() {
		return noKey
	}
	kind := t.code
	if f.letter == 'S' { // what a block may be for is not in the code
		kind = strings.Join(t.usages, " ")
	}
	if k := c.d.cache.get(kind, f.text); k != nil {
		return k
	}
	clearKey, h, code := c.d.lmk.decrypt(f, t, parity)
	if code != "" {
		c.fail(code)
		return noKey
	}
	defer clear(clearKey)
	k, err := newKey(h, clearKey)
	if err != nil {
		c.fail(BadKeyLength)
		return noKey
	}
	c.d.cache.put(kind, f.text, k)
	return k
}

// newKey expands a key: AES when a key block says so, else DES.
func newKey(h algo.Header, clearKey []byte) (*algo.Key, error) {
	if h.Algorithm == 'A' {
		return algo.NewKey(algo.AES, clearKey)
	}
	return algo.NewDESKey(clearKey)
}

// secret is a key whose clear value a command needs, to put it under another.
// The command wipes it when it is answered.
type secret struct {
	field  field
	header algo.Header // of a key block
	clear  []byte
}

// secret reads a key under the LMK.
func (c *command) secret(pair bool, t keyType) *secret {
	s := &secret{field: c.field(pair)}
	parity := c.parity()
	if c.failed() {
		return s
	}
	var code Code
	if s.clear, s.header, code = c.d.lmk.decrypt(s.field, t, parity); code != "" {
		c.fail(code)
	}
	c.secrets = append(c.secrets, s.clear)
	return s
}

// checkValue is the check value of a clear key: 16 hexadecimal digits, or the
// first 6. AES keys have 6 (a CMAC, X9.24-1).
func checkValue(h algo.Header, clearKey []byte, short bool) string {
	k, err := newKey(h, clearKey)
	if err != nil {
		return ""
	}
	return checkValueOf(k, short)
}

func checkValueOf(k *algo.Key, short bool) string {
	if k.Cipher() == algo.AES {
		return hexUpper(k.CheckValueCMAC()[:3])
	}
	v := hexUpper(k.CheckValue())
	if short {
		return v[:6]
	}
	return v
}

package algo

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// PINFormat is a PIN block format of ISO 9564-1:2017.
type PINFormat uint8

// The formats in one 8-byte block. 0 is ANSI X9.8, the one UnionPay terminals
// send; 1 is not bound to an account number; 2 lives between a terminal and a
// chip; 3 is 0 with random fill.
const (
	ISO0 PINFormat = 0
	ISO1 PINFormat = 1
	ISO2 PINFormat = 2
	ISO3 PINFormat = 3
)

// ErrPINBlock is the one answer to a block that does not hold a PIN: which
// check failed would be an oracle.
var ErrPINBlock = errors.New("algo: not a PIN block of this format and account number")

// PIN is 4 to 12 digits in clear. It exists for as long as a block is turned
// into another one, and prints as stars.
type PIN struct {
	digits [12]byte // values 0 to 9
	n      int
}

// ParsePIN takes 4 to 12 ASCII digits.
func ParsePIN[T string | []byte](digits T) (PIN, error) {
	var p PIN
	if len(digits) < 4 || len(digits) > 12 {
		return p, errors.New("algo: a PIN has 4 to 12 digits")
	}
	for i := range len(digits) {
		d := digits[i] - '0'
		if d > 9 {
			return PIN{}, errors.New("algo: a PIN has 4 to 12 digits")
		}
		p.digits[i] = d
	}
	p.n = len(digits)
	return p, nil
}

// String, GoString, Format, MarshalText and LogValue show nothing.
func (p PIN) String() string                { return "****" }
func (p PIN) GoString() string              { return "algo.PIN(****)" }
func (p PIN) MarshalText() ([]byte, error)  { return []byte("****"), nil }
func (p PIN) LogValue() slog.Value          { return slog.StringValue("****") }
func (p PIN) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, "****") }

// EncodePIN builds the clear PIN block. pan is the account number with its
// check digit, used by formats 0 and 3 only.
func EncodePIN(format PINFormat, pin PIN, pan string) ([8]byte, error) {
	var b [8]byte
	if pin.n < 4 || pin.n > 12 {
		return b, errors.New("algo: a PIN has 4 to 12 digits")
	}
	switch format {
	case ISO0, ISO2:
		b = [8]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	case ISO1:
		randomFill(&b, false)
	case ISO3:
		randomFill(&b, true)
	default:
		return b, fmt.Errorf("algo: PIN block format %d is none of 0 to 3", format)
	}
	b[0] = byte(format)<<4 | byte(pin.n)
	for i := range pin.n {
		setNibble(&b, 2+i, pin.digits[i])
	}
	if format == ISO0 || format == ISO3 {
		account, ok := accountField(pan)
		if !ok {
			return [8]byte{}, errors.New("algo: PIN block without an account number")
		}
		for i := range b {
			b[i] ^= account[i]
		}
	}
	return b, nil
}

// DecodePIN takes a clear block apart and checks all of it: control nibble,
// length 4 to 12, decimal digits, fill. Every failure is ErrPINBlock, and the
// checks do not stop at the first.
func DecodePIN(format PINFormat, block [8]byte, pan string) (PIN, error) {
	if format > ISO3 {
		return PIN{}, ErrPINBlock
	}
	bad := 0
	if format == ISO0 || format == ISO3 {
		account, ok := accountField(pan)
		if !ok {
			bad = 1
		}
		for i := range block {
			block[i] ^= account[i]
		}
	}
	n := int(block[0] & 15)
	bad |= int(block[0]>>4) ^ int(format)
	bad |= less(n, 4) | less(12, n)
	var p PIN
	for i := range 14 {
		v := int(nibble(&block, 2+i))
		inside := less(i, n)
		fill := 0
		switch format {
		case ISO0, ISO2:
			fill = v ^ 15
		case ISO3:
			fill = less(v, 10)
		}
		bad |= inside & less(9, v)
		bad |= (1 - inside) * fill
		if i < len(p.digits) {
			p.digits[i] = byte(inside * v)
		}
	}
	if bad != 0 {
		return PIN{}, ErrPINBlock
	}
	p.n = n
	return p, nil
}

// less is 1 when a < b and 0 otherwise, for small non-negative numbers,
// without a branch.
func less(a, b int) int { return int(uint(a-b) >> 63) }

// accountField is 0000 and the twelve digits left of the check digit, zeros
// in front when there are fewer.
func accountField(pan string) (b [8]byte, ok bool) {
	if len(pan) < 2 || len(pan) > 19 || !isDigits(pan) {
		return b, false
	}
	pan = pan[:len(pan)-1]
	for i := range min(12, len(pan)) {
		setNibble(&b, 15-i, pan[len(pan)-1-i]-'0')
	}
	return b, true
}

func nibble(b *[8]byte, i int) byte { return b[i/2] >> (4 * (1 - i%2)) & 15 }

func setNibble(b *[8]byte, i int, v byte) {
	shift := 4 * (1 - i%2)
	b[i/2] = b[i/2]&^(15<<shift) | v<<shift
}

// randomFill fills b with random nibbles, of A to F only when letters is set
// (ISO 9564-1:2017, 9.3.5). rand.Read does not fail: it ends the process when
// the system has no randomness.
func randomFill(b *[8]byte, letters bool) {
	s := scratches.Get().(*scratch)
	for i := 0; i < 16; {
		rand.Read(s.a[:])
		for _, v := range s.a {
			switch {
			case i == 16:
			case !letters:
				setNibble(b, i, v&15)
				i++
			case v < 252: // the largest multiple of 6: no letter is likelier than another
				setNibble(b, i, 10+v%6)
				i++
			}
		}
	}
	s.release()
}

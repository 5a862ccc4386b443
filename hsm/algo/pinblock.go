package algo

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// PINFormat is how a PIN lies in its block.
type PINFormat uint8

// The formats of ISO 9564-1:2017. 0 is ANSI X9.8, the one UnionPay terminals
// send; 1 is not bound to an account number; 2 lives between a terminal and a
// chip; 3 is 0 with random fill. They have 8 bytes. 4 is 16 bytes under AES,
// encrypted twice with the account number in between.
const (
	ISO0 PINFormat = 0
	ISO1 PINFormat = 1
	ISO2 PINFormat = 2
	ISO3 PINFormat = 3
	ISO4 PINFormat = 4
)

// The other formats of UnionPay terminals. UnionPayNoPAN is format 0 with
// zeros for the account number (DE 53 digit 1 = 1): bound to no account, and
// nothing in it says so. SM4WithPAN and SM4NoPAN are the same two in one block
// of SM4, 16 bytes: filled with F to the end, the twelve digits of the account
// number in the last 6 bytes (docs/hsm.md).
const (
	UnionPayNoPAN PINFormat = iota + 16
	SM4WithPAN
	SM4NoPAN
)

// String names the format.
func (f PINFormat) String() string {
	switch f {
	case ISO0, ISO1, ISO2, ISO3, ISO4:
		return fmt.Sprintf("ISO %d", uint8(f))
	case UnionPayNoPAN:
		return "UnionPay without PAN"
	case SM4WithPAN:
		return "SM4 with PAN"
	case SM4NoPAN:
		return "SM4 without PAN"
	}
	return fmt.Sprintf("PIN block format %d", uint8(f))
}

// known says that the format is one of those above.
func (f PINFormat) known() bool { return f <= ISO4 || f >= UnionPayNoPAN && f <= SM4NoPAN }

// size is the length of a block in bytes.
func (f PINFormat) size() int {
	if f == ISO4 || f == SM4WithPAN || f == SM4NoPAN {
		return 16
	}
	return 8
}

// bound says that the account number is XORed into the clear block. That of
// format 4 comes in between its two encryptions.
func (f PINFormat) bound() bool { return f == ISO0 || f == ISO3 || f == SM4WithPAN }

// control is the first nibble of the block.
func (f PINFormat) control() byte {
	if f <= ISO4 {
		return byte(f)
	}
	return 0
}

// FitsPIN reports whether PIN blocks of the format are made with this kind of
// key: DES and TDES for 8 bytes, AES for format 4, SM4 for its own two.
func (k *Key) FitsPIN(f PINFormat) bool {
	if f == ISO4 {
		return k.cipher == AES
	}
	if f.size() == 16 {
		return k.cipher == SM4
	}
	return k.cipher == DES || k.cipher == TDES
}

// PINBlock is an encrypted PIN block of 8 or 16 bytes, by value. The zero
// PINBlock holds none and is refused wherever a PIN is asked for. It prints its
// length only.
type PINBlock struct {
	bytes [16]byte
	n     uint8
}

// PINBlockOf takes an encrypted block as it lies in a message: 8 or 16 bytes,
// any other length gives the zero PINBlock.
func PINBlockOf(b []byte) (p PINBlock) {
	if len(b) == 8 || len(b) == 16 {
		p.n = uint8(copy(p.bytes[:], b))
	}
	return p
}

// Len is 8 or 16, 0 for the zero PINBlock.
func (p PINBlock) Len() int { return int(p.n) }

// Bytes returns the block; it is part of p.
func (p *PINBlock) Bytes() []byte { return p.bytes[:p.n] }

// String, GoString, Format, MarshalText and LogValue show the length.
func (p PINBlock) String() string                { return fmt.Sprintf("PIN block of %d bytes", p.n) }
func (p PINBlock) GoString() string              { return p.String() }
func (p PINBlock) MarshalText() ([]byte, error)  { return []byte(p.String()), nil }
func (p PINBlock) LogValue() slog.Value          { return slog.StringValue(p.String()) }
func (p PINBlock) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, p.String()) }

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

// SealPIN makes the encrypted PIN block of any format. pan is the account
// number with its check digit, used by the formats that are bound to it.
func SealPIN(k *Key, format PINFormat, pin PIN, pan string) (p PINBlock, err error) {
	if !k.FitsPIN(format) {
		return p, fmt.Errorf("algo: no PIN block of format %v is made with a %v", format, k)
	}
	clear, err := encodePIN(format, pin, pan)
	if err != nil {
		return p, err
	}
	if format == ISO4 {
		return sealPIN4(k, clear, pan)
	}
	s := scratches.Get().(*scratch)
	s.a = clear
	p.n = uint8(format.size())
	k.block.Encrypt(s.a[:p.n], s.a[:p.n])
	p.bytes = s.a
	s.release()
	return p, nil
}

// sealPIN4 encrypts the clear block of format 4.
func sealPIN4(k *Key, field [16]byte, pan string) (p PINBlock, err error) {
	account, ok := accountField4(pan)
	if !ok {
		return p, errPINAccount
	}
	s := scratches.Get().(*scratch)
	s.a = field
	k.block.Encrypt(s.a[:], s.a[:])
	subtle.XORBytes(s.a[:], s.a[:], account[:])
	k.block.Encrypt(s.a[:], s.a[:])
	p.bytes, p.n = s.a, 16
	s.release()
	return p, nil
}

// OpenPIN is the inverse of SealPIN, with all the checks of DecodePIN. Every
// failure is ErrPINBlock, also a length or a key that is not the format's.
func OpenPIN(k *Key, format PINFormat, p PINBlock, pan string) (PIN, error) {
	if !format.known() || !k.FitsPIN(format) || int(p.n) != format.size() {
		return PIN{}, ErrPINBlock
	}
	s := scratches.Get().(*scratch)
	s.a = p.bytes
	k.block.Decrypt(s.a[:p.n], s.a[:p.n])
	known := true
	if format == ISO4 {
		var account [16]byte
		account, known = accountField4(pan)
		subtle.XORBytes(s.a[:], s.a[:], account[:])
		k.block.Decrypt(s.a[:], s.a[:])
	}
	clear := s.a
	s.release()
	pin, err := decodePIN(format, clear, pan)
	if !known {
		return PIN{}, ErrPINBlock
	}
	return pin, err
}

// EncodePIN builds the clear PIN block of a format of 8 bytes. pan is the
// account number with its check digit, used by formats 0 and 3 only.
func EncodePIN(format PINFormat, pin PIN, pan string) ([8]byte, error) {
	if format.size() != 8 {
		return [8]byte{}, fmt.Errorf("algo: a PIN block of format %v has 16 bytes", format)
	}
	b, err := encodePIN(format, pin, pan)
	return [8]byte(b[:8]), err
}

// DecodePIN takes a clear block apart and checks all of it: control nibble,
// length 4 to 12, decimal digits, fill. Every failure is ErrPINBlock, and the
// checks do not stop at the first.
func DecodePIN(format PINFormat, block [8]byte, pan string) (PIN, error) {
	if !format.known() || format.size() != 8 {
		return PIN{}, ErrPINBlock
	}
	var b [16]byte
	copy(b[:], block[:])
	return decodePIN(format, b, pan)
}

var errPINAccount = errors.New("algo: PIN block without an account number")

// encodePIN fills the first 8 or all 16 bytes of b.
func encodePIN(format PINFormat, pin PIN, pan string) (b [16]byte, err error) {
	if pin.n < 4 || pin.n > 12 {
		return b, errors.New("algo: a PIN has 4 to 12 digits")
	}
	if !format.known() {
		return b, fmt.Errorf("algo: PIN block format %d is none of 0 to 4 and of UnionPay's", format)
	}
	size := format.size()
	switch format {
	case ISO1:
		randomFill(&b, false)
	case ISO3:
		randomFill(&b, true)
	case ISO4:
		randomFill(&b, false)
		copy(b[8:], b[:8])
		for i := range 8 {
			b[i] = 0xAA
		}
	default:
		for i := range size {
			b[i] = 0xFF
		}
	}
	b[0] = format.control()<<4 | byte(pin.n)
	for i := range pin.n {
		setNibble(b[:], 2+i, pin.digits[i])
	}
	if format.bound() {
		account, ok := accountField(pan)
		if !ok {
			return [16]byte{}, errPINAccount
		}
		for i, v := range account {
			b[size-8+i] ^= v
		}
	}
	return b, nil
}

// decodePIN reads the first 8 or all 16 bytes of b.
func decodePIN(format PINFormat, b [16]byte, pan string) (PIN, error) {
	bad, size := 0, format.size()
	if format.bound() {
		account, ok := accountField(pan)
		if !ok {
			bad = 1
		}
		for i, v := range account {
			b[size-8+i] ^= v
		}
	}
	n := int(b[0] & 15)
	bad |= int(b[0]>>4) ^ int(format.control())
	bad |= less(n, 4) | less(12, n)
	cells := 2*size - 2
	if format == ISO4 {
		cells = 14 // the other half is random
	}
	var p PIN
	for i := range cells {
		v := int(nibble(b[:], 2+i))
		inside := less(i, n)
		fill := 0
		switch format {
		case ISO1:
		case ISO3:
			fill = less(v, 10)
		case ISO4:
			fill = v ^ 10
		default:
			fill = v ^ 15
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
		digit, at := pan[len(pan)-1-i]-'0', 15-i
		b[at/2] |= digit << (4 * (1 - at%2))
	}
	return b, true
}

// accountField4 is the account number of format 4: how many digits it has over
// 12, the digits from the left, zeros behind. One with fewer than 12 has zeros
// in front.
func accountField4(pan string) (b [16]byte, ok bool) {
	if len(pan) < 1 || len(pan) > 19 || !isDigits(pan) {
		return b, false
	}
	b[0] = byte(max(len(pan)-12, 0)) << 4
	at := 1 + max(12-len(pan), 0)
	for i := range len(pan) {
		setNibble(b[:], at+i, pan[i]-'0')
	}
	return b, true
}

func nibble(b []byte, i int) byte { return b[i/2] >> (4 * (1 - i%2)) & 15 }

func setNibble(b []byte, i int, v byte) {
	shift := 4 * (1 - i%2)
	b[i/2] = b[i/2]&^(15<<shift) | v<<shift
}

// randomFill fills the first 8 bytes of b with random nibbles, of A to F only
// when letters is set (ISO 9564-1:2017, 9.3.5). rand.Read does not fail: it
// ends the process when the system has no randomness.
func randomFill(b *[16]byte, letters bool) {
	s := scratches.Get().(*scratch)
	for i := 0; i < 16; {
		rand.Read(s.a[:])
		for _, v := range s.a {
			switch {
			case i == 16:
			case !letters:
				setNibble(b[:], i, v&15)
				i++
			case v < 252: // the largest multiple of 6: no letter is likelier than another
				setNibble(b[:], i, 10+v%6)
				i++
			}
		}
	}
	s.release()
}

package spec

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Kind says how the value of a field lies on the wire. It is an
// encoding.Encoder of moov-io/iso8583, so that one declaration serves moov and
// the table; the stock BCD encoders build a 256-entry table for every field.
type Kind uint8

// The kinds of values. Lengths count digits for BCDLeft, BCDRight and Track,
// bytes for all others.
const (
	BCDLeft    Kind = iota + 1 // n: two digits a byte, an odd one padded on the right (DE 61, 29 digits)
	BCDEither                  // n of odd fixed length: written like BCDLeft (DE 22 021 -> 0210), also read when its sender padded on the left (0021)
	BCDRight                   // n: padded on the left (DE 23 001 -> 0001)
	Track                      // z: nibbles, the separator D read as '='; ciphertext may hold A to F
	Digits                     // n: ASCII digits
	Text                       // an, ans: bytes, text in GBK
	TrackText                  // z: ASCII, '=' or 'D' as separator
	Binary                     // b: bytes, hexadecimal as text
	mtiBCD                     // four digits in two bytes
	mtiASCII                   // four ASCII digits
	bitmapBits                 // 8 or 16 bytes
	bitmapHex                  // 16 or 32 hexadecimal characters, in upper case
)

// size is the number of bytes that n units take.
func (k Kind) size(n int) int {
	switch k {
	case BCDLeft, BCDEither, BCDRight, Track, mtiBCD:
		return (n + 1) / 2
	case bitmapHex:
		return 2 * n
	}
	return n
}

// numeric says that only decimal digits are allowed.
func (k Kind) numeric() bool {
	switch k {
	case BCDLeft, BCDEither, BCDRight, Digits, mtiBCD, mtiASCII:
		return true
	}
	return false
}

const trackDigits = "0123456789ABC=EF"
const hexDigits = "0123456789ABCDEF"

// check validates w, the wire form of n units: it returns the position of the
// first wrong byte and what is wrong with it, or -1. Nothing of the value
// is told but the offending nibble or byte.
func (k Kind) check(w []byte, n int) (int, string, byte) {
	if k == BCDEither {
		k = either(w, n)
	}
	switch k {
	case BCDLeft, mtiBCD:
		last := len(w)
		if n&1 != 0 {
			last--
			if b := w[last]; b>>4 > 9 {
				return last, "decimal digits", b
			} else if p := b & 15; p != 0 && p != 15 {
				return last, "padding nibble 0 or F on the right", b
			}
		}
		if i := firstBadBCD(w[:last]); i >= 0 {
			return i, "decimal digits", w[i]
		}
	case BCDRight:
		if n&1 != 0 {
			if b := w[0]; b&15 > 9 {
				return 0, "decimal digits", b
			} else if p := b >> 4; p != 0 && p != 15 {
				return 0, "padding nibble 0 or F on the left", b
			}
			if i := firstBadBCD(w[1:]); i >= 0 {
				return i + 1, "decimal digits", w[i+1]
			}
			return -1, "", 0
		}
		if i := firstBadBCD(w); i >= 0 {
			return i, "decimal digits", w[i]
		}
	case Track:
		if n&1 != 0 {
			if p := w[len(w)-1] & 15; p != 0 && p != 15 {
				return len(w) - 1, "padding nibble 0 or F on the right", w[len(w)-1]
			}
		}
	case Digits, mtiASCII:
		for i, c := range w {
			if c-'0' > 9 {
				return i, "ASCII digits", c
			}
		}
	case TrackText:
		for i, c := range w {
			if c < ' ' || c > '~' {
				return i, "printable ASCII", c
			}
		}
	case bitmapHex:
		for i, c := range w {
			if c-'0' > 9 && c-'A' > 5 {
				return i, "hexadecimal characters in upper case", c
			}
		}
	}
	return -1, "", 0
}

// either decides on which side an odd number of digits was padded. Only a
// sender that pads on the left leaves a digit 1 to 9 in the last nibble and 0
// in the first; all else is read as padded on the right.
func either(w []byte, n int) Kind {
	if n&1 != 0 && w[0]>>4 == 0 {
		if p := w[len(w)-1] & 15; p != 0 && p < 10 {
			return BCDRight
		}
	}
	return BCDLeft
}

func firstBadBCD(w []byte) int {
	for i, b := range w {
		if b > 0x99 || b&15 > 9 {
			return i
		}
	}
	return -1
}

// appendText appends the text of n units that lie as w on the wire: digits,
// text, or upper-case hexadecimal for Binary.
func (k Kind) appendText(dst, w []byte, n int) []byte {
	if k == BCDEither {
		k = either(w, n)
	}
	switch k {
	case BCDLeft, BCDRight, mtiBCD:
		return appendNibbles(dst, w, n, k == BCDRight, hexDigits)
	case Track:
		return appendNibbles(dst, w, n, false, trackDigits)
	case Binary, bitmapBits:
		return appendNibbles(dst, w, 2*len(w), false, hexDigits)
	}
	return append(dst, w...)
}

// appendNibbles writes n nibbles of w as characters; the padding of an odd
// number is in front when right is set.
func appendNibbles(dst, w []byte, n int, right bool, digits string) []byte {
	_ = digits[15]
	start := len(dst)
	dst = slices.Grow(dst, n)[:start+n]
	out := dst[start:]
	if right && n&1 != 0 {
		out[0] = digits[w[0]&15]
		out, w = out[1:], w[1:]
	}
	for len(out) >= 2 {
		out[0], out[1] = digits[w[0]>>4], digits[w[0]&15]
		out, w = out[2:], w[1:]
	}
	if len(out) > 0 {
		out[0] = digits[w[0]>>4]
	}
	return dst
}

// appendWire appends the wire form of a text and gives its length in units.
// For Binary the text is hexadecimal. pad is the nibble behind (before, for
// BCDRight) an odd digit.
func (k Kind) appendWire(dst []byte, text []byte, pad byte) ([]byte, int, error) {
	n := len(text)
	switch k {
	case BCDLeft, BCDEither, BCDRight, mtiBCD:
		start, size := len(dst), (n+1)/2
		dst = slices.Grow(dst, size)[:start+size]
		w, t := dst[start:], text
		bad := byte(0)
		if k == BCDRight && n&1 != 0 {
			bad = badDigit(t[0])
			w[0] = pad<<4 | t[0]&15
			w, t = w[1:], t[1:]
		}
		for len(t) >= 2 && len(w) > 0 {
			bad |= badDigit(t[0]) | badDigit(t[1])
			w[0] = t[0]<<4 | t[1]&15
			w, t = w[1:], t[2:]
		}
		if len(t) > 0 {
			bad |= badDigit(t[0])
			w[0] = t[0]<<4 | pad
		}
		if bad != 0 {
			i := 0
			for text[i]-'0' < 10 {
				i++
			}
			return dst[:start], 0, fmt.Errorf("character %d is not a decimal digit", i+1)
		}
		return dst, n, nil
	case Track:
		start := len(dst)
		for i, c := range text {
			v := trackNibble(c)
			if v > 15 {
				return dst[:start], 0, fmt.Errorf("character %d is not a digit, '=' or a letter A to F", i+1)
			}
			if i&1 == 0 {
				dst = append(dst, v<<4|pad)
			} else {
				dst[len(dst)-1] = dst[len(dst)-1]&0xf0 | v
			}
		}
		return dst, n, nil
	case Binary, bitmapBits:
		if n&1 != 0 {
			return dst, 0, fmt.Errorf("%d hexadecimal digits, an even number is needed", n)
		}
		start := len(dst)
		for i := 0; i < n; i += 2 {
			h, l := hexNibble(text[i]), hexNibble(text[i+1])
			if h > 15 || l > 15 {
				return dst[:start], 0, fmt.Errorf("character %d or %d is not a hexadecimal digit", i+1, i+2)
			}
			dst = append(dst, h<<4|l)
		}
		return dst, n / 2, nil
	case Digits, mtiASCII, TrackText:
		if i, want, _ := k.check(text, n); i >= 0 {
			return dst, 0, fmt.Errorf("character %d: want %s", i+1, want)
		}
	}
	return append(dst, text...), n, nil
}

// badDigit is 0 for the characters 0 to 9.
func badDigit(c byte) byte {
	c ^= '0'
	return (c | (c + 6)) & 0xf0
}

func trackNibble(c byte) byte {
	switch {
	case c-'0' <= 9:
		return c - '0'
	case c == '=':
		return 13
	case c-'A' <= 5:
		return c - 'A' + 10
	}
	return 255
}

func hexNibble(c byte) byte {
	switch {
	case c-'0' <= 9:
		return c - '0'
	case c-'A' <= 5:
		return c - 'A' + 10
	case c-'a' <= 5:
		return c - 'a' + 10
	}
	return 255
}

// Encode makes Kind an encoding.Encoder: text (bytes, for Binary) to wire form.
func (k Kind) Encode(data []byte) ([]byte, error) {
	if k == bitmapHex {
		return bitmapBits.appendText(nil, data, 0), nil
	}
	if k == Binary || k == bitmapBits {
		return append([]byte(nil), data...), nil
	}
	w, _, err := k.appendWire(make([]byte, 0, len(data)), data, 0)
	return w, err
}

// Decode makes Kind an encoding.Encoder: length units of wire form to text
// (bytes, for Binary), and the number of bytes read.
func (k Kind) Decode(data []byte, length int) ([]byte, int, error) {
	if length < 0 || length > math.MaxInt32 {
		return nil, 0, fmt.Errorf("length %d is out of range", length)
	}
	size := k.size(length)
	if size > len(data) {
		return nil, 0, fmt.Errorf("want %d bytes, found %d", size, len(data))
	}
	w := data[:size]
	if i, want, got := k.check(w, length); i >= 0 {
		return nil, 0, fmt.Errorf("byte %d: want %s, found %02X", i, want, got)
	}
	switch k {
	case Binary, bitmapBits:
		return append([]byte(nil), w...), size, nil
	case bitmapHex:
		b, _, err := bitmapBits.appendWire(nil, w, 0)
		return b, size, err
	}
	return k.appendText(make([]byte, 0, length), w, length), size, nil
}

// Length says how the length of a field lies before its value. It is a
// prefix.Prefixer of moov-io/iso8583.
type Length uint8

// The length rules. The number counts units: see Kind.
const (
	Fixed    Length = iota + 1
	BCDLL           // two digits in one byte
	BCDLLL          // three digits in two bytes
	ASCIILL         // two ASCII digits
	ASCIILLL        // three ASCII digits
)

// size is the number of bytes the length itself takes.
func (l Length) size() int {
	switch l {
	case BCDLL:
		return 1
	case BCDLLL, ASCIILL:
		return 2
	case ASCIILLL:
		return 3
	}
	return 0
}

// most is the greatest number the rule can write.
func (l Length) most() int {
	switch l {
	case BCDLL, ASCIILL:
		return 99
	case BCDLLL, ASCIILLL:
		return 999
	}
	return math.MaxInt32
}

// read gives the number in b, which holds size bytes; -1 when it is not one.
func (l Length) read(b []byte) int {
	switch l {
	case BCDLL:
		if b[0] > 0x99 || b[0]&15 > 9 {
			return -1
		}
		return int(b[0]>>4)*10 + int(b[0]&15)
	case BCDLLL:
		if b[0] > 0x99 || b[0]&15 > 9 || b[1] > 0x99 || b[1]&15 > 9 {
			return -1
		}
		return int(b[0]>>4)*1000 + int(b[0]&15)*100 + int(b[1]>>4)*10 + int(b[1]&15)
	case ASCIILL, ASCIILLL:
		n := 0
		for _, c := range b[:l.size()] {
			if c-'0' > 9 {
				return -1
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	return -1
}

// write puts n, which is at most most(), at the start of b.
func (l Length) write(b []byte, n int) {
	switch l {
	case BCDLL:
		b[0] = byte(n/10<<4 | n%10)
	case BCDLLL:
		b[0], b[1] = byte(n/100), byte(n/10%10<<4|n%10)
	case ASCIILL:
		b[0], b[1] = byte('0'+n/10), byte('0'+n%10)
	case ASCIILLL:
		b[0], b[1], b[2] = byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10)
	}
}

// EncodeLength makes Length a prefix.Prefixer.
func (l Length) EncodeLength(maxLen, length int) ([]byte, error) {
	if l == Fixed {
		if length != maxLen {
			return nil, fmt.Errorf("length %d, want %d", length, maxLen)
		}
		return []byte{}, nil
	}
	if length > maxLen || length > l.most() {
		return nil, fmt.Errorf("length %d, want at most %d", length, min(maxLen, l.most()))
	}
	b := make([]byte, l.size())
	l.write(b, length)
	return b, nil
}

// DecodeLength makes Length a prefix.Prefixer.
func (l Length) DecodeLength(maxLen int, data []byte) (int, int, error) {
	if l == Fixed {
		return maxLen, 0, nil
	}
	size := l.size()
	if len(data) < size {
		return 0, 0, fmt.Errorf("want a length of %d bytes, found %d", size, len(data))
	}
	n := l.read(data)
	if n < 0 {
		return 0, 0, fmt.Errorf("length is not decimal")
	}
	if n > maxLen {
		return 0, 0, fmt.Errorf("length %d, want at most %d", n, maxLen)
	}
	return n, size, nil
}

// Inspect makes Length a prefix.Prefixer.
func (l Length) Inspect() string {
	switch l {
	case Fixed:
		return "UnionPay.Fixed"
	case BCDLL, BCDLLL:
		return "UnionPay.BCD." + strconv.Itoa(l.size()+1)
	}
	return "UnionPay.ASCII." + strconv.Itoa(l.size())
}

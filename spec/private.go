package spec

import (
	"errors"
	"fmt"
	"iter"
	"strconv"
)

// DE60 is the terminal dialect's DE 60, read as far as it goes: senders stop
// after 8, 11, 13, 14, 15 or 17 digits. Sub-fields that are not there are 0.
type DE60 struct {
	MessageType     int // 60.1, n2: 22 sale, 23 void, 0 management
	Batch           int // 60.2, n6
	NetworkCode     int // 60.3, n3: 1, 3, 4 sign-in, 2 sign-off, 301 echo, 201 settlement
	Capability      int // 60.4, n1: 2 stripe only, 5 contact chip, 6 contactless
	ICCondition     int // 60.5, n1: 1 last chip read good, 2 fallback after a failed one
	PartialApproval int // 60.6, n1: 1 partial approval and balance supported
	AccountType     int // 60.7, n3
	Digits          int // how many digits were there
}

// de60Ends are the digit positions behind each sub-field.
var de60Ends = [...]int{2, 8, 11, 12, 13, 14, 17}

// ParseDE60 reads DE 60 of a terminal message; false when it is absent, of
// another dialect or shorter than the batch number. A sub-field that is cut
// counts as absent.
func ParseDE60(m *Message) (DE60, bool) {
	if m.d == nil || m.d.use != useUnionPay || m.Len(60) < 8 {
		return DE60{}, false
	}
	var room [17]byte
	n := min(m.Len(60), len(room))
	d := parseDE60(BCDLeft.appendText(room[:0], m.Bytes(60)[:(n+1)/2], n))
	d.Digits = m.Len(60)
	return d, true
}

func parseDE60(digits []byte) DE60 {
	var v [len(de60Ends)]int
	start := 0
	for i, end := range de60Ends {
		if end > len(digits) {
			break
		}
		v[i] = decimal(digits[start:end])
		start = end
	}
	return DE60{v[0], v[1], v[2], v[3], v[4], v[5], v[6], len(digits)}
}

// AppendText appends the first Digits digits of d, of at most 17.
func (d DE60) AppendText(dst []byte) []byte {
	start := len(dst)
	for i, v := range [...]int{d.MessageType, d.Batch, d.NetworkCode, d.Capability, d.ICCondition, d.PartialApproval, d.AccountType} {
		width := de60Ends[i]
		if i > 0 {
			width -= de60Ends[i-1]
		}
		dst = appendDecimal(dst, v, width)
	}
	return dst[:start+min(max(d.Digits, 0), 17)]
}

// String is AppendText as a string.
func (d DE60) String() string { return string(d.AppendText(nil)) }

// DE61 is the original transaction a void, refund or completion names.
type DE61 struct {
	Batch  int // 61.1, n6
	STAN   int // 61.2, n6
	Date   int // 61.3, n4 MMDD, 0 when not known
	Digits int
}

// ParseDE61 reads DE 61 of a terminal message; false when it is absent, of
// another dialect or shorter than batch and STAN.
func ParseDE61(m *Message) (DE61, bool) {
	if m.d == nil || m.d.use != useUnionPay || m.Len(61) < 12 {
		return DE61{}, false
	}
	var room [16]byte
	n := min(m.Len(61), len(room))
	t := BCDLeft.appendText(room[:0], m.Bytes(61)[:(n+1)/2], n)
	d := DE61{Batch: decimal(t[:6]), STAN: decimal(t[6:12]), Digits: m.Len(61)}
	if len(t) >= 16 {
		d.Date = decimal(t[12:16])
	}
	return d, true
}

// AppendText appends the 12 digits of batch and STAN, or 16 with the date when
// Digits is more than 12.
func (d DE61) AppendText(dst []byte) []byte {
	dst = appendDecimal(appendDecimal(dst, d.Batch, 6), d.STAN, 6)
	if d.Digits > 12 {
		dst = appendDecimal(dst, d.Date, 4)
	}
	return dst
}

// DE53 is the security control information of both dialects, its first three
// digits.
type DE53 struct {
	PINFormat int // 0 no PIN, 1 without PAN, 2 with PAN (CUPS also names keys here: 16 reset PIK, 20 reset MAK)
	Algorithm int // 0 single DES, 6 double-length 3DES, 4 (or 3) SM4
	Track     int // 1 track data encrypted
}

// ParseDE53 reads DE 53; false when it is absent or not one of 16 digits.
func ParseDE53(m *Message) (DE53, bool) {
	if m.Len(53) != 16 || !m.d.cells[53].kind.numeric() {
		return DE53{}, false
	}
	var room [16]byte
	t := m.AppendText(room[:0], 53)
	return DE53{int(t[0] - '0'), int(t[1] - '0'), int(t[2] - '0')}, true
}

// decimal is the value of digits, which are known to be some.
func decimal(digits []byte) int {
	v := 0
	for _, c := range digits {
		v = v*10 + int(c-'0')
	}
	return v
}

func appendDecimal(dst []byte, v, width int) []byte {
	start := len(dst)
	for range width {
		dst = append(dst, '0')
	}
	for i := start + width - 1; i >= start && v > 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
	return dst
}

// Element is one element of DE 59, DE 63 of CUPS and their kind: a tag of two
// characters, a length of three digits, a value.
type Element struct {
	Tag   string
	Value []byte // refers to the walked bytes
}

// ErrElement says that elements cannot be read further.
var ErrElement = errors.New("spec: wrong element")

// WalkDE59 walks elements of two characters of tag and three digits of length:
// A2 terminal information, A3 payment code, A4 voucher code. It stops after
// the first error.
func WalkDE59(b []byte) iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		for o := 0; o < len(b); {
			v, n, err := readElement(b, o, 3)
			e := Element{Value: v}
			if err == nil {
				e.Tag = string(b[o : o+2])
			}
			if !yield(e, err) || err != nil {
				return
			}
			o += n
		}
	}
}

// readElement reads the element at o, whose length has width digits (3 but for
// the variant of de59Start).
func readElement(b []byte, o, width int) (value []byte, n int, err error) {
	head := 2 + width
	if len(b)-o < head {
		return nil, 0, fmt.Errorf("%w: byte %d: want a tag of 2 and a length of %d, found %d bytes", ErrElement, o, width, len(b)-o)
	}
	length := 0
	for _, c := range b[o+2 : o+head] {
		if c-'0' > 9 {
			return nil, 0, fmt.Errorf("%w: byte %d: the length is not %d digits", ErrElement, o+2, width)
		}
		length = length*10 + int(c-'0')
	}
	if length > len(b)-o-head {
		return nil, 0, fmt.Errorf("%w: byte %d: length %d, but %d bytes are left", ErrElement, o+2, length, len(b)-o-head)
	}
	return b[o+head : o+head+length : o+head+length], head + length, nil
}

// FindDE59 gives the value of the first element with a tag, without
// allocation; false also when the elements before it cannot be read.
func FindDE59(b []byte, tag string) ([]byte, bool) {
	for o := 0; o < len(b); {
		v, n, err := readElement(b, o, 3)
		if err != nil {
			return nil, false
		}
		if string(b[o:o+2]) == tag {
			return v, true
		}
		o += n
	}
	return nil, false
}

// AppendDE59 appends an element. A tag that is not two characters or a value
// above 999 bytes is an error.
func AppendDE59(dst []byte, tag string, value []byte) ([]byte, error) {
	if len(tag) != 2 || len(value) > 999 {
		return dst, fmt.Errorf("%w: tag %q with %s bytes, want two characters and at most 999 bytes", ErrElement, tag, strconv.Itoa(len(value)))
	}
	dst = appendDecimal(append(dst, tag...), len(value), 3)
	return append(dst, value...), nil
}

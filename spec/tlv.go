package spec

import (
	"errors"
	"fmt"
	"iter"
)

// TLV is one BER-TLV data object of DE 55 (EMV book 3, annex B).
type TLV struct {
	Tag   uint32 // 0x9F26, 0x95: the tag's bytes as a number
	Value []byte // refers to the walked bytes
}

// ErrTLV says that data objects cannot be read further.
var ErrTLV = errors.New("spec: wrong TLV")

// WalkTLV walks data objects: tags of up to four bytes, lengths of up to four
// (short, 81, 82, 83), zero bytes between objects skipped. It stops after the
// first error. It does not go into constructed objects.
func WalkTLV(b []byte) iter.Seq2[TLV, error] {
	return func(yield func(TLV, error) bool) {
		for o := 0; o < len(b); {
			if b[o] == 0 {
				o++
				continue
			}
			t, n, err := readTLV(b[o:], o)
			if !yield(t, err) || err != nil {
				return
			}
			o += n
		}
	}
}

// readTLV reads the data object at the start of b; at is b's offset for the
// error.
func readTLV(b []byte, at int) (t TLV, n int, err error) {
	t.Tag = uint32(b[0])
	o := 1
	if b[0]&0x1f == 0x1f {
		for {
			if o == len(b) || o == 4 {
				return t, 0, fmt.Errorf("%w: byte %d: a tag without end", ErrTLV, at)
			}
			t.Tag = t.Tag<<8 | uint32(b[o])
			o++
			if b[o-1]&0x80 == 0 {
				break
			}
		}
	}
	if o == len(b) {
		return t, 0, fmt.Errorf("%w: byte %d: tag %X without a length", ErrTLV, at, t.Tag)
	}
	length := int(b[o])
	o++
	if length > 0x7f {
		k := length & 0x7f
		if k < 1 || k > 3 || len(b)-o < k {
			return t, 0, fmt.Errorf("%w: byte %d: tag %X: length form %02X", ErrTLV, at, t.Tag, length)
		}
		length = 0
		for range k {
			length = length<<8 | int(b[o])
			o++
		}
	}
	if length > len(b)-o {
		return t, 0, fmt.Errorf("%w: byte %d: tag %X: length %d, but %d bytes are left", ErrTLV, at, t.Tag, length, len(b)-o)
	}
	t.Value = b[o : o+length : o+length]
	return t, o + length, nil
}

// FindTLV gives the value of the first object with a tag, without allocation.
// False also when the objects before it cannot be read.
func FindTLV(b []byte, tag uint32) ([]byte, bool) {
	for o := 0; o < len(b); {
		if b[o] == 0 {
			o++
			continue
		}
		t, n, err := readTLV(b[o:], o)
		if err != nil {
			return nil, false
		}
		if t.Tag == tag {
			return t.Value, true
		}
		o += n
	}
	return nil, false
}

// AppendTLV appends a data object. The tag is written with as many bytes as
// its number needs, the length in the shortest form.
func AppendTLV(dst []byte, tag uint32, value []byte) []byte {
	switch {
	case tag > 0xffffff:
		dst = append(dst, byte(tag>>24), byte(tag>>16), byte(tag>>8), byte(tag))
	case tag > 0xffff:
		dst = append(dst, byte(tag>>16), byte(tag>>8), byte(tag))
	case tag > 0xff:
		dst = append(dst, byte(tag>>8), byte(tag))
	default:
		dst = append(dst, byte(tag))
	}
	switch n := len(value); {
	case n > 0xffff:
		dst = append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	case n > 0xff:
		dst = append(dst, 0x82, byte(n>>8), byte(n))
	case n > 0x7f:
		dst = append(dst, 0x81, byte(n))
	default:
		dst = append(dst, byte(n))
	}
	return append(dst, value...)
}

// WithoutCard is DE 55 without what names a card or its holder (numbers,
// tracks, names, documents, PIN data: the tags that Describe hides) and its
// expiry date (5F24), and without templates, which may hold them: what may be kept of
// a chip. It is de55 itself when there is nothing to leave out, and nil when it
// cannot be read to its end.
func WithoutCard(de55 []byte) []byte {
	names := false
	for t, err := range WalkTLV(de55) {
		if err != nil {
			return nil
		}
		names = names || namesCard(t.Tag)
	}
	if !names {
		return de55
	}
	var kept []byte
	for t := range WalkTLV(de55) {
		if !namesCard(t.Tag) {
			kept = AppendTLV(kept, t.Tag, t.Value)
		}
	}
	return kept
}

// namesCard is emvSecret as a switch, for every request passes here.
func namesCard(tag uint32) bool {
	switch tag {
	case 0x56, 0x57, 0x5A, 0x99, 0x5F20, 0x5F24, 0x9F0B, 0x9F1F, 0x9F20, 0x9F61, 0x9F6B:
		return true
	}
	return constructed(tag)
}

package spec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
)

// Message is one message, received (Dialect.Parse) or being built (Reset, Set,
// Append), in the wire form of its dialect. The zero value is ready, a used
// one is reused without allocation; it is not safe for concurrent use.
type Message struct {
	d     *Dialect
	mti   MTI
	wide  bool // a second bitmap even without a field above 64
	bits  [2]uint64
	own   [2]uint64 // the value lies in arena instead of raw
	raw   []byte
	arena []byte
	text  []byte // scratch of Copy
	err   error
	slots [maxField + 1]slot
}

// slot is where a value lies, and its length in units.
type slot struct {
	off   uint32
	units uint16
}

// Reset empties m and starts a message of dialect d.
func (m *Message) Reset(d *Dialect, mti MTI) {
	m.d, m.mti, m.wide, m.err = d, mti, false, nil
	m.bits, m.own = [2]uint64{}, [2]uint64{}
	m.raw, m.arena = nil, m.arena[:0]
}

// Dialect is the dialect given to Reset or Parse.
func (m *Message) Dialect() *Dialect { return m.d }

// MTI is the message type.
func (m *Message) MTI() MTI { return m.mti }

// SetMTI changes the message type.
func (m *Message) SetMTI(mti MTI) { m.mti = mti }

// Raw is the bytes given to Parse, nil for a message that was built.
func (m *Message) Raw() []byte { return m.raw }

// Err is the first error of a Set, which Append will return.
func (m *Message) Err() error { return m.err }

func mask(n int) (int, uint64) { return (n - 1) >> 6, 1 << (63 - (n-1)&63) }

// Has reports whether DE n is present.
func (m *Message) Has(n int) bool {
	if n < 2 || n > maxField {
		return false
	}
	h, b := mask(n)
	return m.bits[h]&b != 0
}

// Bytes is the value of DE n as it lies on the wire, without its length; nil
// when it is absent. It is valid until the next change of m.
func (m *Message) Bytes(n int) []byte {
	if !m.Has(n) {
		return nil
	}
	return m.wire(n)
}

// wire is Bytes of a field that is present.
func (m *Message) wire(n int) []byte {
	s := m.slots[n]
	end := s.off + uint32(m.d.cells[n].kind.size(int(s.units)))
	if h, b := mask(n); m.own[h]&b != 0 {
		return m.arena[s.off:end:end]
	}
	return m.raw[s.off:end:end]
}

// Len is the length of DE n as its dialect counts it: digits or bytes; 0 when
// it is absent.
func (m *Message) Len(n int) int {
	if !m.Has(n) {
		return 0
	}
	return int(m.slots[n].units)
}

// AppendText appends the text of DE n: digits, text (GBK as received), a track
// with '=', upper-case hexadecimal for a binary field; nothing when it is
// absent.
func (m *Message) AppendText(dst []byte, n int) []byte {
	if !m.Has(n) {
		return dst
	}
	return m.d.cells[n].kind.appendText(dst, m.wire(n), int(m.slots[n].units))
}

// Text is AppendText as a string, "" when DE n is absent.
func (m *Message) Text(n int) string {
	if !m.Has(n) {
		return ""
	}
	switch m.d.cells[n].kind {
	case Text, Digits, TrackText:
		return string(m.Bytes(n))
	}
	var room [64]byte
	return string(m.AppendText(room[:0], n))
}

// Int is the value of a field of at most 18 decimal digits; false when it is
// absent or something else.
func (m *Message) Int(n int) (int64, bool) {
	if !m.Has(n) || m.slots[n].units == 0 || m.slots[n].units > 18 {
		return 0, false
	}
	var room [18]byte
	if m.d.cells[n].kind == Binary {
		return 0, false
	}
	var v int64
	for _, c := range m.AppendText(room[:0], n) {
		if c-'0' > 9 {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	return v, true
}

// SetError is a value that does not fit its field; the value is not told.
type SetError struct {
	Dialect string
	Field   int
	Name    string
	Why     string
}

func (e *SetError) Error() string {
	return fmt.Sprintf("%s: DE %d (%s): %s", e.Dialect, e.Field, e.Name, e.Why)
}

func (m *Message) refuse(n int, why string) {
	if m.err != nil {
		return
	}
	e := &SetError{Field: n, Why: why}
	if m.d != nil {
		e.Dialect, e.Name = m.d.name, m.d.FieldName(n)
	}
	m.err = e
}

// cell gives the table's entry for DE n, or nil and the sticky error.
func (m *Message) cell(n int) *cell {
	if m.d == nil {
		m.refuse(n, "Reset was not called")
		return nil
	}
	if n < 2 || n > maxField || m.d.cells[n].kind == 0 {
		m.refuse(n, "not a field of this dialect")
		return nil
	}
	return &m.d.cells[n]
}

// begin makes room for the length of a value in the arena and gives where the
// value will start.
func (m *Message) begin(c *cell) int {
	switch c.prefix {
	case 1:
		m.arena = append(m.arena, 0)
	case 2:
		m.arena = append(m.arena, 0, 0)
	case 3:
		m.arena = append(m.arena, 0, 0, 0)
	}
	return len(m.arena)
}

// put records that the arena from start is DE n, and writes its length before
// it, so that fields set in their order lie as they are sent.
func (m *Message) put(n int, c *cell, start, units int) {
	switch {
	case c.length == Fixed && units != int(c.max):
		m.refuse(n, "length "+strconv.Itoa(units)+", want "+strconv.Itoa(int(c.max)))
	case units > int(c.max):
		m.refuse(n, "length "+strconv.Itoa(units)+", want at most "+strconv.Itoa(int(c.max)))
	default:
		c.length.write(m.arena[start-int(c.prefix):], units)
		m.slots[n] = slot{off: uint32(start), units: uint16(units)}
		h, b := mask(n)
		m.bits[h] |= b
		m.own[h] |= b
		return
	}
	m.arena = m.arena[:start-int(c.prefix)]
}

// Set gives DE n the value that text says: digits, text, a track with '=' or
// 'D', hexadecimal for a binary field. Nothing is padded: a fixed field must
// be given whole. An error is kept and returned by Append.
func (m *Message) Set(n int, text string) {
	m.text = append(m.text[:0], text...)
	m.setText(n, m.text, 0)
}

// SetText is Set for bytes.
func (m *Message) SetText(n int, text []byte) { m.setText(n, text, 0) }

func (m *Message) setText(n int, text []byte, pad byte) {
	c := m.cell(n)
	if c == nil {
		return
	}
	m.encode(n, c, c.kind, text, pad)
}

// encode appends a text to the arena as kind k and makes it DE n.
func (m *Message) encode(n int, c *cell, k Kind, text []byte, pad byte) {
	start := m.begin(c)
	a, units, err := k.appendWire(m.arena, text, pad)
	m.arena = a
	if err != nil {
		m.refuse(n, err.Error())
		m.arena = m.arena[:start-int(c.prefix)]
		return
	}
	m.put(n, c, start, units)
}

// SetBytes gives a binary or text field its bytes.
func (m *Message) SetBytes(n int, b []byte) {
	c := m.cell(n)
	if c == nil {
		return
	}
	if c.kind != Binary && c.kind != Text {
		m.refuse(n, "digits are set with Set or SetInt, not as bytes")
		return
	}
	start := m.begin(c)
	m.arena = append(m.arena, b...)
	m.put(n, c, start, len(b))
}

// SetInt gives a numeric field a value, padded with zeros on the left to the
// length of a fixed field.
func (m *Message) SetInt(n int, v int64) {
	c := m.cell(n)
	if c == nil {
		return
	}
	if v < 0 {
		m.refuse(n, "a negative number")
		return
	}
	var room [32]byte
	i := len(room)
	for v > 0 || i == len(room) {
		i--
		room[i] = byte('0' + v%10)
		v /= 10
	}
	if c.length == Fixed {
		for len(room)-i < int(c.max) && i > 0 {
			i--
			room[i] = '0'
		}
	}
	m.setText(n, room[i:], 0)
}

// Copy takes fields over from another message, of the same dialect or another
// (then by way of the text); absent ones are skipped.
func (m *Message) Copy(from *Message, fields ...int) {
	for _, n := range fields {
		if !from.Has(n) {
			continue
		}
		c := m.cell(n)
		if c == nil {
			return
		}
		w, units := from.wire(n), int(from.slots[n].units)
		switch fk := from.d.cells[n].kind; {
		case fk == c.kind:
			start := m.begin(c)
			m.arena = append(m.arena, w...)
			m.put(n, c, start, units)
		case fk.numeric() && c.kind == Digits, fk == Track && c.kind == TrackText:
			start := m.begin(c)
			m.arena = fk.appendText(m.arena, w, units)
			m.put(n, c, start, units)
		case fk == Digits || fk == TrackText:
			m.encode(n, c, c.kind, w, 0)
		default:
			m.text = fk.appendText(m.text[:0], w, units)
			m.encode(n, c, c.kind, m.text, 0)
		}
	}
}

// Unset takes DE n away.
func (m *Message) Unset(n int) {
	if n < 2 || n > maxField {
		return
	}
	h, b := mask(n)
	m.bits[h] &^= b
	m.own[h] &^= b
}

// Append packs the MTI, the bitmap and the fields behind dst. The bitmap has
// its second half when a field above 64 is present or when the parsed message
// had one. The error is the first of the Set calls.
func (m *Message) Append(dst []byte) ([]byte, error) {
	if m.err != nil {
		return dst, m.err
	}
	if m.d == nil {
		return dst, errors.New("spec: Append of a message that was neither parsed nor reset")
	}
	if m.d.mti == mtiBCD {
		dst = append(dst, byte(m.mti>>8), byte(m.mti))
	} else {
		t := m.mti.digits()
		dst = append(dst, t[:]...)
	}
	if m.d.bitmap == bitmapHex {
		dst = append(dst, m.Bitmap()...)
	} else if m.bits[1] != 0 || m.wide {
		dst = binary.BigEndian.AppendUint64(dst, m.bits[0]|1<<63)
		dst = binary.BigEndian.AppendUint64(dst, m.bits[1])
	} else {
		dst = binary.BigEndian.AppendUint64(dst, m.bits[0])
	}
	// A run is a stretch of raw or arena in which the fields already lie as
	// they are sent: a message built in order is one run, a relayed one few.
	var run []byte
	start, end := uint32(0), uint32(0)
	ours := false
	for half, w := range m.bits {
		for w != 0 {
			z := bits.LeadingZeros64(w)
			bit := uint64(1) << (63 - z)
			w &^= bit
			n := half<<6 + z + 1
			c, s := &m.d.cells[n], m.slots[n]
			first := s.off - uint32(c.prefix)
			last := s.off + uint32(c.kind.size(int(s.units)))
			if own := m.own[half]&bit != 0; run == nil || own != ours || first != end {
				dst = append(dst, run[start:end]...)
				run, ours, start = m.raw, own, first
				if own {
					run = m.arena
				}
			}
			end = last
		}
	}
	return append(dst, run[start:end]...), nil
}

// SignedPart splits a packed message that ends in DE 64 or DE 128 into the
// block a MAC is computed over and the eight bytes of the MAC, both inside
// packed: to sign, pack with eight zero bytes and overwrite mac. Both are nil
// when the message is shorter than a MAC.
func SignedPart(packed []byte) (block, mac []byte) {
	if len(packed) < 8 {
		return nil, nil
	}
	n := len(packed) - 8
	return packed[:n:n], packed[n:]
}

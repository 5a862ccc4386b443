package spec

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"
)

// maxField is the last field of a message; tertiary bitmaps are not spoken.
const maxField = 128

// Dialect is a message specification compiled into a table. It is read-only
// and safe for concurrent use.
type Dialect struct {
	name   string
	moov   *iso8583.MessageSpec
	mti    Kind
	bitmap Kind
	cells  [maxField + 1]cell

	title   string // for people
	use     usage
	framing Framing
	mac     *MACRule
	pin     *PINRule
	keys    *KeyRule
	rules   []rule
	letters [maxField + 1]string // the kind a file declared, where the table does not tell it: an, a
	show    [maxField + 1]bool   // a field of private use that may be shown
}

// usage says whose meaning the fields of private use have.
type usage uint8

const (
	useUnionPay usage = iota + 1 // DE 46, 48 and 59 to 63 as UnionPay's terminals use them
	useCUPS
	useOpen // ISO 8583 alone; what private fields hold is between the two ends
)

// cell is one field of the table.
type cell struct {
	kind   Kind
	length Length
	max    uint16 // units; for Fixed the length
	size   uint16 // bytes of a Fixed value
	prefix uint8  // bytes of the length
	name   string
}

// Compile turns a moov specification into a table. Field 0 must be a String of
// four digits, field 1 a Bitmap of 8 bytes that expands, and every other field
// a String or Binary whose encoder is a Kind and whose prefixer is a Length of
// this package, without padding; anything else is an error that names the
// field.
func Compile(name string, s *iso8583.MessageSpec) (*Dialect, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("spec: dialect %s: %w", name, err)
	}
	d := &Dialect{name: name, moov: s}
	for n, f := range s.Fields {
		fs := f.Spec()
		k, ok := fs.Enc.(Kind)
		if !ok {
			return nil, fmt.Errorf("spec: dialect %s: DE %d: the encoder is not a Kind of this package", name, n)
		}
		switch n {
		case 0:
			if (k != mtiBCD && k != mtiASCII) || fs.Length != 4 {
				return nil, fmt.Errorf("spec: dialect %s: the MTI is not four digits", name)
			}
			d.mti = k
			continue
		case 1:
			if fs.DisableAutoExpand || (fs.Length != 0 && fs.Length != 8) || k != bitmapBits && k != bitmapHex {
				return nil, fmt.Errorf("spec: dialect %s: the bitmap is not 8 bytes that expand", name)
			}
			d.bitmap = k
			continue
		}
		l, ok := fs.Pref.(Length)
		switch {
		case n < 0 || n > maxField || n == 65:
			return nil, fmt.Errorf("spec: dialect %s: DE %d cannot be defined: fields are 2 to 64 and 66 to 128", name, n)
		case !ok:
			return nil, fmt.Errorf("spec: dialect %s: DE %d: the prefixer is not a Length of this package", name, n)
		case fs.Pad != nil || fs.Packer != nil || fs.Unpacker != nil:
			return nil, fmt.Errorf("spec: dialect %s: DE %d: padding and packers are not compiled", name, n)
		case fs.Length < 1 || fs.Length > 999 || fs.Length > l.most():
			return nil, fmt.Errorf("spec: dialect %s: DE %d: length %d does not fit its prefix", name, n, fs.Length)
		}
		switch f.(type) {
		case *field.String:
			ok = k != Binary
		case *field.Binary:
			ok = k == Binary
		default:
			ok = false
		}
		if !ok || k >= mtiBCD {
			return nil, fmt.Errorf("spec: dialect %s: DE %d: want a String, or a Binary with kind Binary", name, n)
		}
		c := cell{kind: k, length: l, max: uint16(fs.Length), prefix: uint8(l.size()), name: fs.Description}
		if l == Fixed {
			c.size = uint16(k.size(fs.Length))
		}
		d.cells[n] = c
	}
	return d, nil
}

// Name is the dialect's name on the command line and in JSON: "unionpay-pos".
func (d *Dialect) Name() string { return d.name }

// UnionPay reports whether the fields of private use mean what they mean at
// UnionPay's terminals, and messages are told apart by DE 60.
func (d *Dialect) UnionPay() bool { return d.use == useUnionPay }

// CUPS reports whether the fields of private use mean what they mean on
// UnionPay's network side.
func (d *Dialect) CUPS() bool { return d.use == useCUPS }

// Declares reports whether the dialect has DE n.
func (d *Dialect) Declares(n int) bool { return n >= 2 && n <= maxField && d.cells[n].kind != 0 }

// FieldName is the Chinese and English name of DE n, "" when it is not defined.
func (d *Dialect) FieldName(n int) string {
	if n < 2 || n > maxField {
		return ""
	}
	return d.cells[n].name
}

// Format is the kind and length of DE n in the notation of the standard:
// "n6", "n..19 LL", "b..999 LLL", "" when it is not defined.
func (d *Dialect) Format(n int) string {
	if n < 2 || n > maxField || d.cells[n].kind == 0 {
		return ""
	}
	c := &d.cells[n]
	s := d.kindWord(n)
	if c.length != Fixed {
		s += ".."
	}
	s += strconv.Itoa(int(c.max))
	switch c.length {
	case BCDLL, ASCIILL:
		s += " LL"
	case BCDLLL, ASCIILLL:
		s += " LLL"
	}
	return s
}

// ParseError says what is wrong with a received message. It carries nothing of
// a field's value but the byte that does not belong.
type ParseError struct {
	Dialect string
	Field   int // data element; 0 the MTI, 1 the bitmap, -1 what follows the last field
	Name    string
	Offset  int // bytes from the MTI
	Want    string
	Got     string
}

func (e *ParseError) Error() string {
	var what string
	switch e.Field {
	case -1:
		what = "after the last field"
	case 0:
		what = "MTI"
	case 1:
		what = "bitmap"
	default:
		what = "DE " + strconv.Itoa(e.Field)
		if e.Name != "" {
			what += " (" + e.Name + ")"
		}
	}
	return fmt.Sprintf("%s: %s at byte %d: want %s, found %s", e.Dialect, what, e.Offset, e.Want, e.Got)
}

func (d *Dialect) fail(n, offset int, want, got string) *ParseError {
	return &ParseError{Dialect: d.name, Field: n, Name: d.FieldName(n), Offset: offset, Want: want, Got: got}
}

// Parse reads b, which starts at the MTI, into m: an index of offsets into b,
// which m refers to until the next Parse or Reset. Every value is validated,
// nothing is decoded or allocated. An error is a *ParseError; m then has the
// message type and the fields before the one it names, so that a refusal can
// say whom it answers. Its MTI is 0 when not even that could be read.
func (d *Dialect) Parse(m *Message, b []byte) error {
	err := d.parse(m, b)
	if err != nil {
		m.keepBelow(err.Field, b)
		return err
	}
	return nil
}

func (d *Dialect) parse(m *Message, b []byte) *ParseError {
	m.Reset(d, 0)
	o := d.mti.size(4)
	if len(b) < o {
		return d.fail(0, 0, strconv.Itoa(o)+" bytes", strconv.Itoa(len(b)))
	}
	if i, want, got := d.mti.check(b[:o], 4); i >= 0 {
		return d.fail(0, i, want, hexByte(got))
	}
	if d.mti == mtiBCD {
		m.mti = MTI(b[0])<<8 | MTI(b[1])
	} else {
		m.mti = MTI(b[0]&15)<<12 | MTI(b[1]&15)<<8 | MTI(b[2]&15)<<4 | MTI(b[3]&15)
	}
	if d.bitmap == bitmapHex {
		return d.parseHexBitmap(m, b, o)
	}
	if len(b) < o+8 {
		return d.fail(1, o, "8 bytes", strconv.Itoa(len(b)-o))
	}
	first := binary.BigEndian.Uint64(b[o:])
	var second uint64
	o += 8
	if first>>63 != 0 {
		if len(b) < o+8 {
			return d.fail(1, o, "8 bytes of the second bitmap", strconv.Itoa(len(b)-o))
		}
		second = binary.BigEndian.Uint64(b[o:])
		if second>>63 != 0 {
			return d.fail(1, o, "bit 65 clear (a third bitmap is not spoken)", "bit 65 set")
		}
		o += 8
		m.wide = true
	}
	return d.parseFields(m, b, o, first, second)
}

// parseHexBitmap reads a bitmap of hexadecimal characters, then the fields.
func (d *Dialect) parseHexBitmap(m *Message, b []byte, o int) *ParseError {
	var words [2]uint64
	for half := range words {
		if len(b) < o+16 {
			return d.fail(1, o, "16 hexadecimal characters", strconv.Itoa(len(b)-o))
		}
		if i, want, got := bitmapHex.check(b[o:o+16], 8); i >= 0 {
			return d.fail(1, o+i, want, hexByte(got))
		}
		for _, c := range b[o : o+16] {
			words[half] = words[half]<<4 | uint64(hexNibble(c))
		}
		if half == 1 && words[1]>>63 != 0 {
			return d.fail(1, o, "bit 65 clear (a third bitmap is not spoken)", "bit 65 set")
		}
		o += 16
		if words[0]>>63 == 0 {
			break
		}
		m.wide = true
	}
	return d.parseFields(m, b, o, words[0], words[1])
}

func (d *Dialect) parseFields(m *Message, b []byte, o int, first, second uint64) *ParseError {
	m.bits = [2]uint64{first &^ (1 << 63), second}
	for half, w := range m.bits {
		for w != 0 {
			z := bits.LeadingZeros64(w)
			w &^= 1 << (63 - z)
			n := half<<6 + z + 1
			c := &d.cells[n]
			units, size := int(c.max), int(c.size)
			if c.length != Fixed {
				if c.kind == 0 {
					return d.fail(n, o, "a field of this dialect", "a bit for an undefined one")
				}
				p := int(c.prefix)
				if len(b)-o < p {
					return d.fail(n, o, "a length of "+strconv.Itoa(p)+" bytes", found(len(b)-o))
				}
				units = c.length.read(b[o:])
				if units < 0 {
					return d.fail(n, o, "a decimal length", "other characters")
				}
				if units > int(c.max) {
					return d.fail(n, o, "a length of at most "+strconv.Itoa(int(c.max)), strconv.Itoa(units))
				}
				o += p
				size = c.kind.size(units)
			}
			if len(b)-o < size {
				return d.fail(n, o, strconv.Itoa(size)+" bytes", found(len(b)-o))
			}
			if c.kind != Text && c.kind != Binary {
				if i, want, got := c.kind.check(b[o:o+size], units); i >= 0 {
					return d.fail(n, o+i, want, hexByte(got))
				}
			}
			m.slots[n] = slot{off: uint32(o), units: uint16(units)}
			o += size
		}
	}
	if o != len(b) {
		return d.fail(-1, o, "the end of the message", strconv.Itoa(len(b)-o)+" more bytes")
	}
	m.raw = b
	return nil
}

func found(left int) string {
	if left <= 0 {
		return "the end of the message"
	}
	return strconv.Itoa(left) + " before the end of the message"
}

func hexByte(b byte) string { return string([]byte{hexDigits[b>>4], hexDigits[b&15]}) }

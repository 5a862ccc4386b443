package spec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// captureJSON is the JSON form of a capture:
//
//	{"dialect":"unionpay-pos",
//	 "framing":{"length":60,"tpdu":"6004010000","header":"603100310001"},
//	 "mti":"0800","bitmap":"0020000000C00012",
//	 "fields":{"11":"000029","60":"00000132003"}}
//
// length is null when there is none; extra, the FD block, is there only when
// the frame has one. Fields are text for n, an, ans and z, hexadecimal for b;
// text that is not GBK is "hex:" and hexadecimal. A digit field that its
// sender padded in its own way is shown with the padding: 'f' for a nibble F,
// and all four nibbles for a left-padded DE 22 ("0021").
type captureJSON struct {
	Dialect string            `json:"dialect"`
	Framing framingJSON       `json:"framing"`
	MTI     string            `json:"mti"`
	Bitmap  string            `json:"bitmap"`
	Fields  map[string]string `json:"fields"`
}

type framingJSON struct {
	Length *int    `json:"length"`
	TPDU   string  `json:"tpdu"`
	Header string  `json:"header"`
	Extra  *string `json:"extra,omitempty"`
}

// JSON is the capture as JSON, fields in the order of their numbers. Masked
// (reveal false) it cannot be encoded again.
func (c *Capture) JSON(reveal bool) ([]byte, error) {
	framing := framingJSON{TPDU: upperHex(c.TPDU), Header: upperHex(c.Header)}
	if c.Length >= 0 {
		framing.Length = &c.Length
	}
	if c.Extra != nil {
		x := upperHex(c.Extra)
		framing.Extra = &x
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	var failed error
	write := func(v any) {
		if err := e.Encode(v); err != nil {
			failed = err
			return
		}
		out.Truncate(out.Len() - 1) // Encode ends the line
	}
	m := &c.Message
	mti, bitmap := "", ""
	if m.mti != 0 {
		mti, bitmap = m.mti.String(), m.Bitmap()
	}
	out.WriteString(`{"dialect":`)
	write(c.Dialect.name)
	out.WriteString(`,"framing":`)
	write(framing)
	out.WriteString(`,"mti":`)
	write(mti)
	out.WriteString(`,"bitmap":`)
	write(bitmap)
	out.WriteString(`,"fields":{`)
	v := newView(m, reveal)
	first := true
	for n := 2; n <= maxField; n++ {
		if !m.Has(n) {
			continue
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		out.WriteString(`"` + strconv.Itoa(n) + `":`)
		write(v.exact(n))
	}
	out.WriteString(`}}`)
	return out.Bytes(), failed
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// Bitmap is the bitmap as hexadecimal, 16 or 32 digits.
func (m *Message) Bitmap() string {
	if m.bits[1] != 0 || m.wide {
		return fmt.Sprintf("%016X%016X", m.bits[0]|1<<63, m.bits[1])
	}
	return fmt.Sprintf("%016X", m.bits[0])
}

// CaptureFromJSON reads the form that JSON(true) writes. Keys that are not
// part of it are refused. The bitmap may be left out; when it is given it must
// agree with the fields, and one of 32 digits keeps the second half even when
// no field needs it. The value of length is computed again by Append, only
// whether it is there counts.
//
// The dialect is one of more when it has that name, else one of Names.
func CaptureFromJSON(b []byte, more ...*Dialect) (*Capture, error) {
	var j captureJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return nil, fmt.Errorf("the JSON of a message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the JSON of a message: more text behind it")
	}
	c := &Capture{Length: -1}
	var err error
	if c.Dialect, err = dialectNamed(j.Dialect, more); err != nil {
		return nil, err
	}
	if err = c.framing(&j.Framing); err != nil {
		return nil, err
	}
	m := &c.Message
	m.Reset(c.Dialect, 0)
	if j.MTI == "" && c.Dialect.framing.CUPS && len(c.Header) > 0 {
		if len(j.Fields) > 0 || j.Bitmap != "" {
			return nil, errors.New("mti: empty although there are fields")
		}
		return c, nil
	}
	mti, err := parseMTI(j.MTI)
	if err != nil {
		return nil, err
	}
	m.mti = mti
	for n := 2; n <= maxField; n++ {
		if s, ok := j.Fields[strconv.Itoa(n)]; ok {
			m.setExact(n, s)
			if m.err != nil {
				return nil, m.err
			}
			delete(j.Fields, strconv.Itoa(n))
		}
	}
	for k := range j.Fields {
		return nil, fmt.Errorf("fields: %q is not a field number from 2 to %d", k, maxField)
	}
	if len(j.Bitmap) == 32 {
		m.wide = true
	}
	if j.Bitmap != "" && !strings.EqualFold(j.Bitmap, m.Bitmap()) {
		return nil, fmt.Errorf("bitmap: want %s for these fields, found %q; leave it out to have it computed", m.Bitmap(), j.Bitmap)
	}
	return c, nil
}

func dialectNamed(name string, more []*Dialect) (*Dialect, error) {
	for _, d := range more {
		if d.name == name {
			return d, nil
		}
	}
	if slices.Contains(Names(), name) {
		return Load(name)
	}
	return nil, fmt.Errorf("dialect %q: want %s, or the name of a dialect file that is given", name, names(Names()))
}

// parseMTI reads the four digits of a message type of version 0.
func parseMTI(s string) (MTI, error) {
	w, n, err := mtiBCD.appendWire(nil, []byte(s), 0)
	if err != nil || n != 4 || w[0]>>4 != 0 || w[0] == 0 {
		return 0, fmt.Errorf("mti: want four digits like 0200, found %q", s)
	}
	return MTI(w[0])<<8 | MTI(w[1]), nil
}

func (c *Capture) framing(f *framingJSON) error {
	part := func(name, s string, sizes ...int) ([]byte, error) {
		if s == "" {
			return nil, nil
		}
		b, err := hex.DecodeString(s)
		if err != nil {
			return nil, fmt.Errorf("framing: %s is not hexadecimal", name)
		}
		for _, n := range sizes {
			if len(b) == n {
				return b, nil
			}
		}
		return nil, fmt.Errorf("framing: %s is %d bytes, want %d", name, len(b), sizes[0])
	}
	var err error
	d := c.Dialect
	if d.framing.CUPS {
		if f.Length != nil || f.TPDU != "" || f.Extra != nil {
			return errors.New("framing: a cups message has a header alone")
		}
		if c.Header, err = part("header", f.Header, CUPSHeaderSize); err != nil || c.Header == nil {
			return err
		}
		_, _, err = ParseCUPSHeader(c.Header)
		return err
	}
	if !d.framing.TPDU && f.TPDU != "" {
		return fmt.Errorf("framing: %s has no tpdu", d.name)
	}
	if d.framing.Header == 0 && f.Header != "" {
		return fmt.Errorf("framing: %s has no header", d.name)
	}
	if !d.framing.UnionPay && f.Extra != nil {
		return fmt.Errorf("framing: %s has no FD block", d.name)
	}
	if f.Length != nil {
		c.Length = *f.Length
		if c.Length < 0 {
			return errors.New("framing: length is negative; want null when there is none")
		}
	}
	if c.TPDU, err = part("tpdu", f.TPDU, tpduSize); err != nil {
		return err
	}
	if c.TPDU != nil && c.TPDU[0] != 0x60 {
		return errors.New("framing: tpdu does not begin with 60")
	}
	if c.Header, err = part("header", f.Header, d.framing.Header); err != nil {
		return err
	}
	if d.framing.UnionPay && c.Header != nil && c.Header[0] == extraTag {
		return errors.New("framing: header begins with FD, which is read as an FD block; give that as extra")
	}
	if f.Extra != nil {
		x, err := hex.DecodeString(*f.Extra)
		if err != nil || len(x) < 3 || x[0] != extraTag || int(x[1])<<8|int(x[2]) != len(x)-3 {
			return errors.New("framing: extra is not FD, a length of two bytes and as many bytes")
		}
		if c.TPDU == nil || c.Header == nil {
			return errors.New("framing: extra stands between a TPDU and a header; both are needed")
		}
		c.Extra = x
	}
	return nil
}

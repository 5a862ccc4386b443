package spec

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// Capture is a message as it was recorded, with whatever framing stands before
// it: a terminal's message with or without its length, TPDU, FD block
// and header, a CUPS message with or without its 46-byte header, or that header
// alone.
type Capture struct {
	Dialect *Dialect
	Length  int     // what the length says, -1 when there is none
	TPDU    []byte  // 5 bytes or none
	Header  []byte  // as long as the dialect's framing has it, or none
	Extra   []byte  // the FD block with tag and length, or none
	Message Message // MTI 0 when there is nothing behind the header
}

// CaptureError is a recording that cannot be read: in which framing it was
// tried and what is wrong. The bytes themselves are not told.
type CaptureError struct {
	Framing string
	Base    int    // where the message begins in the recording
	Err     error  // *ParseError, *FrameError or *HeaderError
	Fields  []Item // what was read before, masked
}

func (e *CaptureError) Error() string {
	s := e.Framing + ": " + e.Err.Error()
	var p *ParseError
	if e.Base > 0 && errors.As(e.Err, &p) {
		s += " (byte " + strconv.Itoa(e.Base+p.Offset) + " of the input)"
	}
	return s
}

func (e *CaptureError) Unwrap() error { return e.Err }

// shape is one way in which a recording may be framed.
type shape struct {
	name                 string
	length, tpdu, header bool
}

// shapes are tried in this order; the first that reads to the end is taken.
var shapes = [...]shape{
	{"length, TPDU, header, message", true, true, true},
	{"TPDU, header, message", false, true, true},
	{"message", false, false, false},
	{"length, message", true, false, false},
	{"length, TPDU, message", true, true, false},
	{"TPDU, message", false, true, false},
	{"length, header, message", true, false, true},
	{"header, message", false, false, true},
}

// ReadCapture finds the framing of b and, when d is nil, which of UnionPay's
// two dialects it is in; any other must be given. The
// capture refers to b. The error is a *CaptureError about the framing that
// reads furthest.
func ReadCapture(b []byte, d *Dialect) (*Capture, error) {
	if len(b) == 0 {
		return nil, &CaptureError{Framing: "recording", Err: &FrameError{Want: "a message", Got: "nothing"}}
	}
	c := &Capture{Length: -1}
	var best *CaptureError
	reach := -2
	note := func(framing string, base, got int, err error) {
		if got > reach {
			reach = got
			best = &CaptureError{Framing: framing, Base: base, Err: err}
			if got > 4 {
				best.Fields = Describe(&c.Message)
			}
		}
	}
	terminal := d
	if d == nil {
		terminal = UnionPayPOS
	}
	if f := &terminal.framing; !f.CUPS {
		for _, s := range shapes {
			if s.tpdu && !f.TPDU || s.header && f.Header == 0 {
				continue // the framing has no such part
			}
			base, got, err := c.readPOS(terminal, b, s)
			if err == nil {
				return c, nil
			}
			note(s.name, base, got, err)
		}
	}
	if d == nil || d.framing.CUPS {
		network := d
		if d == nil {
			network = CUPS
		}
		if len(b) > 0 && b[0] == CUPSHeaderSize {
			got, err := c.readCUPSHeader(network, b)
			if err == nil {
				return c, nil
			}
			note("header, message", CUPSHeaderSize, got, err)
		}
		c.TPDU, c.Header, c.Extra, c.Length = nil, nil, nil, -1
		got, err := c.message(network, b, 0)
		if err == nil {
			return c, nil
		}
		note("message", 0, got, err)
	}
	return nil, best
}

// message parses the message at base; got is how far the reading made sense.
func (c *Capture) message(d *Dialect, b []byte, base int) (got int, err error) {
	c.Dialect = d
	if base > len(b) {
		return -1, d.fail(0, 0, strconv.Itoa(d.mti.size(4))+" bytes", "the end of the input")
	}
	m := &c.Message
	err = d.Parse(m, b[base:])
	var p *ParseError
	if errors.As(err, &p) && p.Field == 0 {
		return -1, err
	}
	if m.mti>>12 != 0 || m.mti>>8 == 0 {
		return -1, d.fail(0, 0, "a message type of version 0", m.mti.String())
	}
	if err != nil {
		return base + p.Offset, err
	}
	return len(b), nil
}

// keepBelow makes what was read of raw before field n failed a message: all of
// it when n is -1, what follows the last field.
func (m *Message) keepBelow(n int, raw []byte) {
	m.raw = raw
	for i := 2; i <= maxField && n >= 0; i++ {
		if i >= n {
			m.Unset(i)
		}
	}
}

// readPOS tries one framing. A right length counts for more than any number of
// fields read without it.
func (c *Capture) readPOS(d *Dialect, b []byte, s shape) (base, got int, err error) {
	c.Length, c.TPDU, c.Header, c.Extra = -1, nil, nil, nil
	o := 0
	var wrong error
	f := &d.framing
	if s.length {
		if len(b) < f.LengthBytes {
			return 0, -1, &FrameError{Length: len(b), Want: strconv.Itoa(f.LengthBytes) + " bytes of length", Got: strconv.Itoa(len(b))}
		}
		if c.Length, err = f.read(b[:f.LengthBytes]); err != nil {
			return 0, -1, err
		}
		o = f.LengthBytes
		if c.Length != len(b)-o {
			wrong = &FrameError{Length: c.Length, Want: strconv.Itoa(c.Length) + " bytes behind the length", Got: strconv.Itoa(len(b) - o)}
		}
	}
	if s.tpdu {
		if o+tpduSize > len(b) || b[o] != 0x60 {
			return 0, -1, &FrameError{Length: len(b), Offset: o, Want: "a TPDU of 5 bytes, beginning with 60", Got: found(len(b) - o)}
		}
		c.TPDU = b[o : o+tpduSize : o+tpduSize]
		o += tpduSize
		if f.UnionPay && s.header && o+3 <= len(b) && b[o] == extraTag {
			n := 3 + int(binary.BigEndian.Uint16(b[o+1:]))
			if o+n > len(b) {
				return 0, 3, &FrameError{Length: len(b), Offset: o, Want: "an FD block of " + strconv.Itoa(n-3) + " bytes", Got: found(len(b) - o - 3)}
			}
			c.Extra = b[o : o+n : o+n]
			o += n
		}
	}
	if s.header {
		if o+f.Header > len(b) {
			if s.tpdu && !s.length {
				got = 3
			}
			return 0, got - 1, &FrameError{Length: len(b), Offset: o, Want: "a header of " + strconv.Itoa(f.Header) + " bytes", Got: found(len(b) - o)}
		}
		c.Header = b[o : o+f.Header : o+f.Header]
		o += f.Header
	}
	got, err = c.message(d, b, o)
	switch {
	case got < 0: // no message there: the more of the framing fits, the likelier it is meant
		switch {
		case s.length && wrong == nil:
			got = 4
		case s.tpdu && s.header && !s.length:
			got = 3
		case s.length && s.tpdu && s.header:
			got = 2
		case !s.length && !s.tpdu && !s.header:
			got = 1
		}
		return o, got, err
	case wrong == nil && err != nil && s.length:
		return o, got + len(b), err
	case wrong == nil:
		return o, got, err
	}
	var p *ParseError
	if err == nil || errors.As(err, &p) && p.Field == -1 {
		return o, got + 1, wrong
	}
	return o, got, err
}

// readCUPSHeader reads a header and what follows, if anything does.
func (c *Capture) readCUPSHeader(d *Dialect, b []byte) (got int, err error) {
	c.Length, c.TPDU, c.Extra = -1, nil, nil
	_, total, err := ParseCUPSHeader(b)
	if err != nil {
		return min(5, len(b)-1), err
	}
	c.Header = b[:CUPSHeaderSize:CUPSHeaderSize]
	if len(b) == CUPSHeaderSize {
		c.Dialect = d
		c.Message.Reset(d, 0)
		return len(b), nil
	}
	got, err = c.message(d, b, CUPSHeaderSize)
	if total != len(b) && (err == nil || got < CUPSHeaderSize) {
		return 2 * len(b), &HeaderError{Offset: 2, Want: "a total length of " + strconv.Itoa(len(b)) + " as the input has", Got: strconv.Itoa(total)}
	}
	return got + len(b), err
}

// Append writes the capture behind dst, the length and the CUPS header's total
// length computed.
func (c *Capture) Append(dst []byte) ([]byte, error) {
	start, f := len(dst), &c.Dialect.framing
	if c.Length >= 0 {
		var room [4]byte
		dst = append(dst, room[:f.LengthBytes]...)
	}
	dst = append(dst, c.TPDU...)
	dst = append(dst, c.Extra...)
	dst = append(dst, c.Header...)
	if c.Message.mti == 0 && f.CUPS && len(c.Header) > 0 {
		return dst, nil
	}
	dst, err := c.Message.Append(dst)
	if err != nil {
		return dst[:start], err
	}
	if c.Length >= 0 {
		n := len(dst) - start - f.LengthBytes
		if n > f.most() {
			return dst[:start], &FrameError{Length: n, Want: "at most " + strconv.Itoa(f.most()) + " bytes", Got: strconv.Itoa(n)}
		}
		f.write(dst[start:], n)
	}
	if f.CUPS && len(c.Header) > 0 {
		n := len(dst) - start
		if n > CUPSMaxLength {
			return dst[:start], &HeaderError{Offset: 2, Want: "a total length of at most 9999", Got: strconv.Itoa(n)}
		}
		appendDecimal(dst[:start+2], n, 4)
	}
	return dst, nil
}

// Framing describes what stands before the message.
func (c *Capture) Framing() []Item {
	var out []Item
	if c.Length >= 0 {
		out = append(out, Item{Field: "length", Name: "报文长度 Length", Value: strconv.Itoa(c.Length)})
	}
	if t := c.TPDU; len(t) == tpduSize {
		out = append(out, Item{Field: "tpdu", Name: "传输协议数据单元 TPDU", Value: upperHex(t), Sub: []Item{
			{Field: "tpdu.1", Name: "标识 identifier", Value: upperHex(t[:1])},
			{Field: "tpdu.2", Name: "目的地址 destination", Value: upperHex(t[1:3])},
			{Field: "tpdu.3", Name: "源地址 source", Value: upperHex(t[3:])},
		}})
	}
	if c.Extra != nil {
		out = append(out, Item{Field: "extra", Name: "终端扩展信息 FD block", Value: upperHex(c.Extra), Note: strconv.Itoa(len(c.Extra)-3) + " bytes"})
	}
	switch h := c.Header; {
	case len(h) == 0:
	case c.Dialect.framing.UnionPay:
		out = append(out, Item{Field: "header", Name: "报文头 Header", Value: upperHex(h), Sub: []Item{
			{Field: "header.1", Name: "应用类别 application class", Value: upperHex(h[:1])},
			{Field: "header.2", Name: "软件总版本 software version", Value: upperHex(h[1:2])},
			{Field: "header.3", Name: "终端状态 terminal status", Value: upperHex(h[2:3])[:1]},
			{Field: "header.4", Name: "处理要求 processing requirement", Value: upperHex(h[2:3])[1:], Note: demandNames[h[2]&15]},
			{Field: "header.5", Name: "软件分版本 software sub-version", Value: upperHex(h[3:])},
		}})
	case c.Dialect.framing.CUPS:
		text := func(from, to int) string { return shownText(h[from:to], 0, nil) }
		out = append(out, Item{Field: "header", Name: "报文头 Header", Value: upperHex(h), Sub: []Item{
			{Field: "header.1", Name: "头长度 header length", Value: strconv.Itoa(int(h[0]))},
			{Field: "header.2", Name: "版本 version", Value: strconv.Itoa(int(h[1]))},
			{Field: "header.3", Name: "整个报文长度 total length", Value: text(2, 6)},
			{Field: "header.4", Name: "目的标识 destination", Value: text(6, 17)},
			{Field: "header.5", Name: "源标识 source", Value: text(17, 28)},
			{Field: "header.6", Name: "保留 reserved", Value: text(28, 31)},
			{Field: "header.7", Name: "批次号 batch", Value: strconv.Itoa(int(h[31]))},
			{Field: "header.8", Name: "交易信息 transaction information", Value: text(32, 40)},
			{Field: "header.9", Name: "用户信息 user information", Value: strconv.Itoa(int(h[40]))},
			{Field: "header.10", Name: "拒绝码 reject code", Value: text(41, 46)},
		}})
	default:
		out = append(out, Item{Field: "header", Name: "报文头 Header", Value: upperHex(h)})
	}
	return out
}

// demandNames are the processing requirements of a reply's header.
var demandNames = [16]string{
	DemandNothing: "无 none", DemandParameters: "下载终端参数 download parameters", DemandStatus: "上传终端状态 upload status",
	DemandSignIn: "重新签到 sign in again", DemandCAPK: "更新公钥 download CA keys", DemandICParameters: "下载IC卡参数 download chip parameters",
	DemandTMS: "TMS参数下载 TMS download", DemandBlackList: "卡BIN黑名单下载 download black list",
}

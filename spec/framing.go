package spec

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Framing is how the messages of a dialect follow each other on a terminal's
// line: a length, which does not count itself, a TPDU, a header, the message.
type Framing struct {
	LengthBytes int  // 2 or 4
	LengthASCII bool // the length is decimal digits, not a big-endian number
	TPDU        bool // five bytes, 60 first; an answer exchanges destination and source
	Header      int  // bytes between TPDU and message, sent back as they came; at most 32
	UnionPay    bool // a block FD may stand before the header, whose third byte carries a Demand
	CUPS        bool // the 46-byte header, which carries the length; nothing else of this type counts
}

// maxHeader is the longest header a framing may have.
const maxHeader = 32

// posFraming is the framing of UnionPay terminals.
var posFraming = Framing{LengthBytes: lengthSize, TPDU: true, Header: headerSize, UnionPay: true}

// least is the fewest bytes a frame may have behind its length.
func (f *Framing) least() int {
	if f.TPDU {
		return tpduSize + f.Header
	}
	return f.Header
}

// most is the greatest length the prefix can tell.
func (f *Framing) most() int {
	switch {
	case f.LengthASCII && f.LengthBytes == 2:
		return 99
	case f.LengthASCII:
		return 9999
	}
	return maxFrameSize // four bytes could tell more, a message of this package cannot be longer
}

// head is the number of bytes before the message in a frame without FD block.
func (f *Framing) head() int { return f.LengthBytes + f.least() }

// String says the framing in words: "length 2 binary, TPDU 5, header 6".
func (f *Framing) String() string {
	if f.CUPS {
		return "header 46 with the length in it"
	}
	s := fmt.Sprintf("length %d binary", f.LengthBytes)
	if f.LengthASCII {
		s = fmt.Sprintf("length %d ASCII digits", f.LengthBytes)
	}
	if f.TPDU {
		s += ", TPDU 5"
	}
	if f.Header > 0 {
		s += fmt.Sprintf(", header %d", f.Header)
	}
	return s
}

// read gives the number that the bytes of a length tell.
func (f *Framing) read(b []byte) (int, error) {
	if !f.LengthASCII {
		n := uint64(0)
		for _, c := range b {
			n = n<<8 | uint64(c)
		}
		return int(n), nil
	}
	n := 0
	for i, c := range b {
		if c-'0' > 9 {
			return 0, &FrameError{Offset: -len(b) + i, Want: "a length of decimal digits", Got: hexByte(c)}
		}
		n = n*10 + int(c-'0')
	}
	return n, nil
}

// write puts the length n into b.
func (f *Framing) write(b []byte, n int) {
	switch {
	case f.LengthASCII:
		appendDecimal(b[:0], n, f.LengthBytes)
	case f.LengthBytes == 4:
		binary.BigEndian.PutUint32(b, uint32(n))
	default:
		binary.BigEndian.PutUint16(b, uint16(n))
	}
}

func (f *Framing) check(n, max int) error {
	if n < f.least() {
		return &FrameError{Length: n, Want: fmt.Sprintf("at least %d bytes (%s)", f.least(), f), Got: fmt.Sprint(n)}
	}
	if n > max {
		return &FrameError{Length: n, Want: fmt.Sprintf("at most %d bytes", max), Got: fmt.Sprint(n)}
	}
	return nil
}

// Framing is how the dialect's messages are framed.
func (d *Dialect) Framing() Framing { return d.framing }

// Frames is a reader of the frames of one connection in this dialect. CUPS is
// not a terminal's dialect and panics: its lines read their own header.
func (d *Dialect) Frames() FrameReader {
	if d.framing.CUPS {
		panic("spec: the lines of " + d.name + " are read with CUPSLength")
	}
	if d.framing == posFraming {
		return FrameReader{}
	}
	return FrameReader{other: &d.framing}
}

// AppendFrame appends a frame as a terminal of this dialect sends it. The
// header must have the length that the framing says; tpdu is not used when the
// framing has none.
func (d *Dialect) AppendFrame(dst []byte, tpdu [5]byte, header []byte, m *Message) ([]byte, error) {
	f := &d.framing
	if f.CUPS || len(header) != f.Header {
		return dst, fmt.Errorf("spec: %s: a header of %d bytes, want %d", d.name, len(header), f.Header)
	}
	return f.append(dst, tpdu, header, m)
}

// FrameBody is the message inside a frame made by AppendReply or AppendFrame of
// this dialect, to be signed in place.
func (d *Dialect) FrameBody(frame []byte) []byte {
	return frame[min(len(frame), d.framing.head()):]
}

func (f *Framing) append(dst []byte, tpdu [5]byte, header []byte, m *Message) ([]byte, error) {
	start := len(dst)
	var room [4]byte
	dst = append(dst, room[:f.LengthBytes]...)
	if f.TPDU {
		dst = append(dst, tpdu[:]...)
	}
	dst = append(dst, header...)
	dst, err := m.Append(dst)
	if err != nil {
		return dst[:start], err
	}
	n := len(dst) - start - f.LengthBytes
	if n > f.most() {
		return dst[:start], &FrameError{Length: n, Want: fmt.Sprintf("at most %d bytes", f.most()), Got: fmt.Sprint(n)}
	}
	f.write(dst[start:], n)
	return dst, nil
}

// split takes a frame apart whose length is already off.
func (f *Framing) split(b []byte) (POSFrame, error) {
	out := POSFrame{other: f}
	if err := f.check(len(b), len(b)); err != nil {
		return POSFrame{}, err
	}
	o := 0
	if f.TPDU {
		o = copy(out.TPDU[:], b[:tpduSize])
	}
	out.Other = b[o : o+f.Header : o+f.Header]
	out.Body = b[o+f.Header:]
	return out, nil
}

// length reads the rest of a length prefix of another framing.
func (f *FrameReader) length(r io.Reader, max int) (int, error) {
	o := f.other
	if f.have < o.LengthBytes {
		n, err := io.ReadFull(r, f.head[f.have:o.LengthBytes])
		f.have += n
		if err != nil {
			if f.have > 0 {
				err = cut(err)
			}
			return 0, err
		}
	}
	n, err := o.read(f.head[:o.LengthBytes])
	if err != nil {
		return 0, err
	}
	return n, o.check(n, min(max, o.most()))
}

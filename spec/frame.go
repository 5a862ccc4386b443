package spec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// A frame of a UnionPay terminal is a two-byte length, a TPDU of five bytes, a
// header of six and the message (docs/fields.md). The UnionPay TLS front puts
// a block FD + two-byte length + data between TPDU and header.
const (
	lengthSize   = 2
	tpduSize     = 5
	headerSize   = 6
	minFrame     = tpduSize + headerSize
	frameHead    = lengthSize + minFrame
	extraTag     = 0xFD
	maxFrameSize = math.MaxUint16
)

// POSFrame is one frame of a terminal's line. Extra, Other and Body refer to
// the buffer it was read into.
type POSFrame struct {
	TPDU   [5]byte // zeros when the framing has none
	Header [6]byte // of UnionPay terminals
	Other  []byte  // the header of another dialect's framing
	Extra  []byte  // the FD block with its tag and length; nil when there is none
	Body   []byte  // the message, from the MTI
	other  *Framing
}

// Demand is what a reply asks of the terminal: the low nibble of the third
// byte of its header.
type Demand uint8

// The demands terminals act on when the transaction is over.
const (
	DemandNothing      Demand = 0
	DemandParameters   Demand = 1
	DemandStatus       Demand = 2
	DemandSignIn       Demand = 3
	DemandCAPK         Demand = 4
	DemandICParameters Demand = 5
	DemandTMS          Demand = 6
	DemandBlackList    Demand = 7
)

// FrameError is a frame that cannot be read.
type FrameError struct {
	Length    int // what the length said
	Offset    int // behind the length, negative inside it
	Want, Got string
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("frame of length %d at byte %d: want %s, found %s", e.Length, e.Offset, e.Want, e.Got)
}

// ErrFrameCut says that the connection ended inside a frame.
var ErrFrameCut = errors.New("spec: the connection ended inside a frame")

// FrameReader reads the frames of one connection in three steps, so that the
// caller can wait for a terminal without a buffer and set a deadline from the
// first byte on:
//
//	fr.Wait(conn)                         // idle: no buffer, no frame deadline
//	conn.SetReadDeadline(now + perFrame)
//	n, err := fr.Length(conn, max)        // capped before anything is allocated
//	frame, err := fr.Body(conn, buf[:n])  // buf from a pool
//
// The zero value reads the frames of UnionPay terminals; Dialect.Frames gives
// the reader of any dialect.
type FrameReader struct {
	head  [4]byte
	have  int
	other *Framing // nil: UnionPay's
}

// Wait returns when the first byte of a frame is there. io.EOF is the end of
// the connection between two frames.
func (f *FrameReader) Wait(r io.Reader) error {
	size := lengthSize
	if f.other != nil {
		size = f.other.LengthBytes
	}
	for f.have == 0 {
		n, err := r.Read(f.head[:size])
		f.have = n
		if n == 0 && err != nil {
			return err
		}
	}
	return nil
}

// Length completes the bytes of the length and gives the number of bytes that
// follow. A frame longer than max or too short for TPDU and header is a
// *FrameError.
func (f *FrameReader) Length(r io.Reader, max int) (int, error) {
	if f.other != nil {
		return f.length(r, max)
	}
	if f.have < lengthSize {
		n, err := io.ReadFull(r, f.head[f.have:lengthSize])
		f.have += n
		if err != nil {
			if f.have > 0 {
				err = cut(err)
			}
			return 0, err
		}
	}
	n := int(binary.BigEndian.Uint16(f.head[:]))
	return n, checkFrameLength(n, max)
}

func checkFrameLength(n, max int) error {
	if n < minFrame {
		return &FrameError{Length: n, Want: "at least 11 bytes (TPDU and header)", Got: fmt.Sprint(n)}
	}
	if n > max {
		return &FrameError{Length: n, Want: fmt.Sprintf("at most %d bytes", max), Got: fmt.Sprint(n)}
	}
	return nil
}

// Body fills body, which has the length that Length gave, and splits it.
func (f *FrameReader) Body(r io.Reader, body []byte) (POSFrame, error) {
	f.have = 0
	if _, err := io.ReadFull(r, body); err != nil {
		return POSFrame{}, cut(err)
	}
	if f.other != nil {
		return f.other.split(body)
	}
	return ParsePOSFrame(body)
}

func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrFrameCut
	}
	return err
}

// ReadPOSFrame reads one frame into buf, which grows when it is too small and
// is returned for the next call. The length is checked against max before
// anything is allocated; io.EOF is the end of the connection between two
// frames, ErrFrameCut inside one, *FrameError a frame that cannot be one.
func ReadPOSFrame(r io.Reader, buf []byte, max int) (POSFrame, []byte, error) {
	if cap(buf) < lengthSize {
		buf = make([]byte, lengthSize)
	}
	buf = buf[:cap(buf)]
	if n, err := io.ReadFull(r, buf[:lengthSize]); err != nil {
		if n > 0 {
			err = cut(err)
		}
		return POSFrame{}, buf, err
	}
	n := int(binary.BigEndian.Uint16(buf))
	if err := checkFrameLength(n, max); err != nil {
		return POSFrame{}, buf, err
	}
	if n > len(buf) {
		buf = make([]byte, n)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return POSFrame{}, buf, cut(err)
	}
	f, err := ParsePOSFrame(buf[:n])
	return f, buf, err
}

// ParsePOSFrame splits a frame whose two-byte length is already off.
func ParsePOSFrame(b []byte) (POSFrame, error) {
	var f POSFrame
	if len(b) < minFrame {
		return f, checkFrameLength(len(b), maxFrameSize)
	}
	o := copy(f.TPDU[:], b)
	if b[o] == extraTag {
		n := 3 + int(binary.BigEndian.Uint16(b[o+1:]))
		if o+n+headerSize > len(b) {
			return f, &FrameError{Length: len(b), Offset: o + 1, Want: fmt.Sprintf("an FD block of at most %d bytes", len(b)-minFrame-3), Got: fmt.Sprint(n - 3)}
		}
		f.Extra = b[o : o+n : o+n]
		o += n
	}
	o += copy(f.Header[:], b[o:])
	f.Body = b[o:]
	return f, nil
}

// AppendReply appends the whole answer to f behind dst, for one Write: length,
// TPDU with source and destination exchanged, the request's header with the
// demand in its third byte, and m. The FD block is not sent back. A frame of
// another dialect is answered in its framing, its header as it came, without a
// demand. When m ends in a MAC, the last eight bytes are it: see SignedPart.
func (f *POSFrame) AppendReply(dst []byte, demand Demand, m *Message) ([]byte, error) {
	tpdu := [5]byte{f.TPDU[0], f.TPDU[3], f.TPDU[4], f.TPDU[1], f.TPDU[2]}
	if f.other != nil {
		return f.other.append(dst, tpdu, f.Other, m)
	}
	header := f.Header
	header[2] = header[2]&0xf0 | byte(demand)&0x0f
	return AppendRequest(dst, tpdu, header, m)
}

// AppendRequest appends a frame as a terminal sends it.
func AppendRequest(dst []byte, tpdu [5]byte, header [6]byte, m *Message) ([]byte, error) {
	start := len(dst)
	dst = append(dst, 0, 0)
	dst = append(dst, tpdu[:]...)
	dst = append(dst, header[:]...)
	dst, err := m.Append(dst)
	if err != nil {
		return dst[:start], err
	}
	n := len(dst) - start - lengthSize
	if n > maxFrameSize {
		return dst[:start], &FrameError{Length: n, Want: "at most 65535 bytes", Got: fmt.Sprint(n)}
	}
	binary.BigEndian.PutUint16(dst[start:], uint16(n))
	return dst, nil
}

// FrameBody is the message inside a UnionPay frame made by AppendReply or
// AppendRequest, to be signed in place. Dialect.FrameBody is for any dialect.
func FrameBody(frame []byte) []byte { return frame[min(len(frame), frameHead):] }

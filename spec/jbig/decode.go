package jbig

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The flags of the header's last byte that matter to one layer, and those that
// tell of a table behind the header.
const (
	lrltwo  = 0x40
	vlength = 0x20
	tpbon   = 0x08

	dpTable     = 0x04 | 0x02 // DPON and DPPRIV, without DPLAST
	dpMask      = 0x04 | 0x02 | 0x01
	dpTableSize = 1728
)

const headerSize = 20

// escape begins a marker; what it is says the byte behind it.
const (
	escape  = 0xFF
	stuff   = 0x00 // a coded byte FF, not a marker
	sdnorm  = 0x02 // end of a stripe
	sdrst   = 0x03 // end of a stripe, the next one begins as the first
	abort   = 0x04
	newlen  = 0x05
	atmove  = 0x06
	comment = 0x07
)

var (
	// ErrLayers is a picture of several resolution layers (D > 0). Send it in
	// one, as terminals do.
	ErrLayers = errors.New("the picture has several resolution layers, only one is read")
	// ErrTooLarge is a picture of more than MaxPixels.
	ErrTooLarge = errors.New("the picture is too large")
	// ErrTruncated is a picture whose data ends before its last stripe.
	ErrTruncated = errors.New("the data ends before the picture does")
	// ErrAborted is a picture that its sender gave up, by the marker ABORT.
	ErrAborted = errors.New("the sender gave the picture up")
)

// Decode reads one bi-level image entity, header included, with nothing behind
// it. A picture of more than MaxPixels is refused before room is made for it.
//
// Coded bytes cannot be wrong, only give another picture: what is refused is a
// header or a marker. The error says which, and is or wraps ErrLayers,
// ErrTooLarge, ErrTruncated or ErrAborted where it is one of these.
func Decode(b []byte) (*Bitmap, error) {
	return decode(b, MaxPixels)
}

func decode(b []byte, maxPixels uint64) (*Bitmap, error) {
	h, err := parseHeader(b)
	if err != nil {
		return nil, fmt.Errorf("jbig: header: %w", err)
	}
	height, err := h.scan(b, maxPixels)
	if err != nil {
		return nil, fmt.Errorf("jbig: %w", err)
	}
	out := newBitmap(int(h.width), int(height))
	p := newPlane(out, h.flags)
	r := h.reader(b)
	lines := int(min(h.lines, height))
	for y := 0; y < out.height; y += lines {
		s, err := r.stripe()
		if err != nil {
			return nil, fmt.Errorf("jbig: %w", err)
		}
		end := min(y+lines, out.height)
		p.stripe(newDecoder(s.coded), y, end, s.moves)
		if s.reset {
			p.reset(end)
		}
	}
	return out, nil
}

// header is what one plane in one layer leaves open.
type header struct {
	width, height uint32 // height is the most, with VLENGTH
	lines         uint32 // of a stripe
	mx, my        int
	flags         byte
	size          int // with a table behind it
}

func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize {
		return header{}, fmt.Errorf("%d bytes instead of %d: %w", len(b), headerSize, ErrTruncated)
	}
	h := header{
		width: binary.BigEndian.Uint32(b[4:]), height: binary.BigEndian.Uint32(b[8:]), lines: binary.BigEndian.Uint32(b[12:]),
		mx: int(b[16]), my: int(b[17]), flags: b[19], size: headerSize,
	}
	order := b[18]
	switch {
	case b[0] > b[1]:
		return h, fmt.Errorf("first layer DL %d is behind the last, D %d", b[0], b[1])
	case b[1] > 0:
		return h, fmt.Errorf("last layer D is %d: %w", b[1], ErrLayers)
	case b[2] != 1:
		return h, fmt.Errorf("%d planes (P) instead of 1, black and white", b[2])
	case b[3] != 0:
		return h, fmt.Errorf("byte 3 is %02X instead of 00", b[3])
	case h.width == 0 || h.height == 0 || h.lines == 0:
		return h, fmt.Errorf("width XD %d, height YD %d or lines of a stripe L0 %d is 0", h.width, h.height, h.lines)
	case h.mx > 127:
		return h, fmt.Errorf("adaptive pixel range MX %d is over 127", h.mx)
	case order&0xF0 != 0 || order&7 == 1 || order&7 == 7:
		return h, fmt.Errorf("order %02X is none of T.82's", order)
	case h.flags&0x80 != 0:
		return h, fmt.Errorf("flags %02X have the reserved bit 80", h.flags)
	}
	if h.flags&dpMask == dpTable {
		h.size += dpTableSize
	}
	if len(b) < h.size {
		return h, fmt.Errorf("the table of DPPRIV is cut: %w", ErrTruncated)
	}
	return h, nil
}

// scan walks over the markers, without decoding, and returns the height. It is
// known only at the end: NEWLEN may follow the last stripe that has pixels.
func (h header) scan(b []byte, maxPixels uint64) (uint32, error) {
	if h.flags&vlength == 0 && uint64(h.width)*uint64(h.height) > maxPixels {
		return 0, fmt.Errorf("%d by %d pixels, at most %d are read: %w", h.width, h.height, maxPixels, ErrTooLarge)
	}
	r := h.reader(b)
	next := func(line uint64) error {
		s, err := r.stripe()
		if err == nil && line >= uint64(r.height) && len(s.coded) > 0 {
			return fmt.Errorf("byte %d: the end of a stripe behind the last, NEWLEN told %d lines", r.at-2, r.height)
		}
		return err
	}
	line := uint64(0)
	for ; line < uint64(r.height); line += uint64(h.lines) {
		if err := next(line); err != nil {
			return 0, err
		}
	}
	if h.flags&vlength != 0 && r.at < len(b) { // NEWLEN and an empty stripe
		if err := next(line); err != nil {
			return 0, err
		}
	}
	if r.at < len(b) {
		return 0, fmt.Errorf("%d bytes behind the last stripe", len(b)-r.at)
	}
	if uint64(h.width)*uint64(r.height) > maxPixels {
		return 0, fmt.Errorf("%d by %d pixels, at most %d are read: %w", h.width, r.height, maxPixels, ErrTooLarge)
	}
	return r.height, nil
}

// reader takes the stripes from behind a header, one after the other.
type reader struct {
	header
	b     []byte
	at    int
	moves []move
}

func (h header) reader(b []byte) *reader { return &reader{header: h, b: b, at: h.size} }

// stripe is one stripe's data: what is coded, and what was said before it. It
// holds until the next one is read.
type stripe struct {
	coded []byte
	moves []move
	reset bool
}

func (r *reader) stripe() (stripe, error) {
	r.moves = r.moves[:0]
	for {
		floating, err := r.segment()
		if err != nil {
			return stripe{}, err
		}
		if !floating {
			break
		}
	}
	from := r.at
	for r.at+1 < len(r.b) {
		if r.b[r.at] != escape {
			r.at++
			continue
		}
		marker := r.b[r.at+1]
		r.at += 2
		switch marker {
		case stuff:
		case sdnorm, sdrst:
			return stripe{coded: r.b[from : r.at-2], moves: r.moves, reset: marker == sdrst}, nil
		case abort:
			return stripe{}, fmt.Errorf("byte %d: %w", r.at-2, ErrAborted)
		default:
			return stripe{}, fmt.Errorf("byte %d: marker FF%02X inside of a stripe", r.at-2, marker)
		}
	}
	return stripe{}, ErrTruncated
}

// segment reads the marker segment that stands here, if one does that may come
// before a stripe.
func (r *reader) segment() (bool, error) {
	b := r.b[r.at:]
	if len(b) < 2 || b[0] != escape {
		return false, nil
	}
	size := 6
	switch b[1] {
	case newlen, comment:
	case atmove:
		size = 8
	default:
		return false, nil
	}
	if len(b) < size {
		return false, fmt.Errorf("byte %d: marker FF%02X is cut: %w", r.at, b[1], ErrTruncated)
	}
	word := binary.BigEndian.Uint32(b[2:])
	switch b[1] {
	case comment:
		if uint64(word) > uint64(len(b)-size) {
			return false, fmt.Errorf("byte %d: a comment of %d bytes: %w", r.at, word, ErrTruncated)
		}
		size += int(word)
	case newlen:
		if r.flags&vlength == 0 || word == 0 || word > r.height {
			return false, fmt.Errorf("byte %d: NEWLEN to %d of %d lines, with flags %02X", r.at, word, r.height, r.flags)
		}
		r.height = word
	case atmove:
		m := move{line: word, tx: int(int8(b[6])), ty: int(b[7])}
		if m.tx < -r.mx || m.tx > r.mx || m.ty > r.my || m.ty == 0 && m.tx < 0 {
			return false, fmt.Errorf("byte %d: ATMOVE to %d, %d, with MX %d and MY %d", r.at, m.tx, m.ty, r.mx, r.my)
		}
		if n := len(r.moves); n > 0 && m.line < r.moves[n-1].line {
			return false, fmt.Errorf("byte %d: ATMOVE at line %d behind one at line %d", r.at, m.line, r.moves[n-1].line)
		}
		r.moves = append(r.moves, m)
	}
	r.at += size
	return true, nil
}

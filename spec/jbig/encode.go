package jbig

import "encoding/binary"

// Options are how a picture is written. The zero value is good: three lines of
// neighbours, one stripe. The terminal on record sends TwoLine and Typical.
type Options struct {
	TwoLine bool // LRLTWO: neighbours from two lines instead of three
	Typical bool // TPBON: a line like the one above it costs next to nothing
	Lines   int  // of a stripe (L0), 0 or less for all; may be more than the picture has
	Reset   bool // SDRST: each stripe learns anew
}

// Encode writes a picture as one bi-level image entity, which Decode reads.
func Encode(b *Bitmap, o Options) []byte {
	return encode(b, o, nil)
}

// encode has the moves of the adaptive pixel by the number of their stripe.
func encode(b *Bitmap, o Options, moves map[int][]move) []byte {
	lines := o.Lines
	if lines <= 0 {
		lines = b.height
	}
	lines = min(lines, MaxPixels) // which no picture is higher than
	var flags, end, mx, my byte = 0, sdnorm, 0, 0
	if o.TwoLine {
		flags |= lrltwo
	}
	if o.Typical {
		flags |= tpbon
	}
	if o.Reset {
		end = sdrst
	}
	for _, ms := range moves {
		for _, m := range ms {
			mx, my = max(mx, byte(max(m.tx, -m.tx))), max(my, byte(m.ty))
		}
	}

	out := []byte{0, 0, 1, 0}
	out = binary.BigEndian.AppendUint32(out, uint32(b.width))
	out = binary.BigEndian.AppendUint32(out, uint32(b.height))
	out = binary.BigEndian.AppendUint32(out, uint32(lines))
	out = append(out, mx, my, 0, flags)

	p := newPlane(b, flags)
	for y := 0; y < b.height; y += lines {
		here := moves[y/lines]
		for _, m := range here {
			out = append(out, escape, atmove)
			out = binary.BigEndian.AppendUint32(out, m.line)
			out = append(out, byte(m.tx), byte(m.ty))
		}
		n := newEncoder()
		p.stripe(n, y, min(y+lines, b.height), here)
		out = append(append(out, n.finish()...), escape, end)
		if o.Reset {
			p.reset(y + lines)
		}
	}
	return out
}

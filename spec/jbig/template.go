package jbig

import "bytes"

// plane is a picture being decoded or encoded, line by line: both look at the
// same neighbours of a pixel, learn the same and repeat the same lines, so
// both are this one walk with another coder.
type plane struct {
	picture  *Bitmap
	twoLine  bool // LRLTWO, figure 15 of T.82; without it three lines, figure 14
	typical  bool // TPBON
	contexts [1024]context
	lntp     byte // 1 when the last line was not a copy of the line above it
	tx, ty   int  // where the adaptive pixel is; 0, 0 is where it begins
	top      int  // lines above are taken as white
	white    []byte
}

func newPlane(picture *Bitmap, flags byte) *plane {
	p := &plane{
		picture: picture, twoLine: flags&lrltwo != 0, typical: flags&tpbon != 0,
		white: make([]byte, picture.stride),
	}
	p.reset(0)
	return p
}

// move is a marker ATMOVE: from a line of the stripe on, the adaptive pixel is
// tx columns left of and ty lines above the pixel being coded.
type move struct {
	line   uint32
	tx, ty int
}

// reset forgets what was learned: at the first line, and at the line after
// SDRST.
func (p *plane) reset(y int) {
	p.contexts = [1024]context{}
	p.lntp = 1
	p.tx, p.ty = 0, 0
	p.top = y
}

// stripe codes lines from (inclusive) to to (exclusive). The moves are in the
// order of their lines.
func (p *plane) stripe(c coder, from, to int, moves []move) {
	for y := from; y < to; y++ {
		for len(moves) > 0 && int64(moves[0].line) == int64(y-from) {
			p.tx, p.ty = moves[0].tx, moves[0].ty
			moves = moves[1:]
		}
		if !p.typical || !p.repeats(c, y) {
			p.line(c, y)
		}
	}
}

// repeats codes whether a line is a copy of the line above, as a change
// against what was so of the line before, and makes it one (typical
// prediction).
func (p *plane) repeats(c coder, y int) bool {
	cx := &p.contexts[0x0E5]
	if p.twoLine {
		cx = &p.contexts[0x195]
	}
	row, above := p.picture.row(y), p.above(y, 1)
	same, lntp := bytes.Equal(row, above), byte(1)
	if same {
		lntp = 0
	}
	p.lntp = 1 ^ p.lntp ^ c.code(cx, 1^lntp^p.lntp)
	if p.lntp == 0 && !same {
		copy(row, above)
	}
	return p.lntp == 0
}

// line codes the pixels of a line. The neighbours run along as shift registers:
// up2 is the line two above, up as far as the adaptive pixel's first place, two
// columns ahead, and left what is already coded.
func (p *plane) line(c coder, y int) {
	row, above, above2 := p.picture.row(y), p.above(y, 1), p.above(y, 2)
	moved := p.tx != 0 || p.ty != 0
	place := 2 // of the adaptive pixel in cx
	if p.twoLine {
		place = 4
	}
	up2 := uint32(bit(above2, 0))
	up := uint32(bit(above, 0))<<1 | uint32(bit(above, 1))
	left := uint32(0)
	for x := range p.picture.width {
		up2 = up2<<1 | uint32(bit(above2, x+1))
		up = up<<1 | uint32(bit(above, x+2))
		cx := up2&7<<7 | up&0x1F<<2 | left&3
		if p.twoLine {
			cx = up&0x3F<<4 | left&0xF
		}
		if moved {
			cx = cx&^(1<<place) | uint32(p.adaptive(x, y))<<place
		}
		was := bit(row, x)
		is := c.code(&p.contexts[cx], was)
		if is != was {
			row[x>>3] ^= 0x80 >> (x & 7)
		}
		left = left<<1 | uint32(is)
	}
}

// above is the line n lines above line y.
func (p *plane) above(y, n int) []byte {
	if y-n < p.top {
		return p.white
	}
	return p.picture.row(y - n)
}

// adaptive is the moved adaptive pixel of (x, y).
func (p *plane) adaptive(x, y int) byte {
	if y-p.ty < p.top {
		return 0
	}
	return p.picture.pixel(x-p.tx, y-p.ty)
}

package jbig

// The arithmetic coder of T.82 clause 6.8. Registers have the standard's names:
// a is the interval, c the code, ct the shifts until the next byte.

// context is what was learned about the pixels of one neighbourhood: twice the
// row of table 24, plus the more probable pixel.
type context uint8

// estimate is table 24 for a context: the size of the less probable interval,
// and the contexts that follow a less and a more probable pixel.
type estimate struct {
	lsz      uint32
	lps, mps context
}

var estimates = func() (out [2 * len(table24)]estimate) {
	for i, row := range table24 {
		for mps := range context(2) {
			e := estimate{lsz: uint32(row.lsz), lps: 2*context(row.nlps) | mps, mps: 2*context(row.nmps) | mps}
			if row.flip {
				e.lps ^= 1
			}
			out[2*i+int(mps)] = e
		}
	}
	return out
}()

// coder is a decoder or an encoder. It is given a pixel and returns it; a
// decoder ignores the given one and returns what it reads.
type coder interface {
	code(cx *context, pixel byte) byte
}

// decoder reads the coded bytes of a stripe, in which every FF is followed by
// a 00 that does not count. Behind their end it reads zeros.
type decoder struct {
	data []byte
	c, a uint32
	ct   int
}

func newDecoder(data []byte) *decoder {
	d := &decoder{data: data, a: 0x10000}
	for range 3 {
		d.c <<= 8
		d.byteIn()
	}
	return d
}

func (d *decoder) byteIn() {
	d.ct = 8
	if len(d.data) == 0 {
		return
	}
	v := d.data[0]
	d.data = d.data[1:]
	if v == escape && len(d.data) > 0 {
		d.data = d.data[1:]
	}
	d.c += uint32(v) << 8
}

func (d *decoder) code(cx *context, _ byte) byte {
	e := &estimates[*cx]
	pixel := byte(*cx & 1)
	d.a -= e.lsz
	less := d.a < e.lsz // the intervals are exchanged
	if d.c>>16 < d.a {
		if d.a >= 0x8000 {
			return pixel
		}
	} else {
		d.c -= d.a << 16
		d.a = e.lsz
		less = !less
	}
	if less {
		pixel ^= 1
		*cx = e.lps
	} else {
		*cx = e.mps
	}
	for {
		if d.ct == 0 {
			d.byteIn()
		}
		d.a <<= 1
		d.c <<= 1
		d.ct--
		if d.a >= 0x8000 {
			return pixel
		}
	}
}

// encoder writes the coded bytes of a stripe, without the 00 behind FF.
type encoder struct {
	out  []byte
	c, a uint32
	ct   int
}

func newEncoder() *encoder { return &encoder{a: 0x10000, ct: 11} }

func (n *encoder) code(cx *context, pixel byte) byte {
	e := &estimates[*cx]
	n.a -= e.lsz
	exchanged := n.a < e.lsz
	if pixel == byte(*cx&1) {
		if n.a >= 0x8000 {
			return pixel
		}
		*cx = e.mps
		if exchanged {
			n.c += n.a
			n.a = e.lsz
		}
	} else {
		*cx = e.lps
		if !exchanged {
			n.c += n.a
			n.a = e.lsz
		}
	}
	for n.a < 0x8000 {
		n.a <<= 1
		n.c <<= 1
		n.ct--
		if n.ct == 0 {
			n.byteOut(n.c)
			n.c &= 0x7FFFF
			n.ct = 8
		}
	}
	return pixel
}

// byteOut writes bits 19 to 26 of c, and carries bit 27 into what is written.
func (n *encoder) byteOut(c uint32) {
	if c > 0x7FFFFFF {
		i := len(n.out) - 1
		for n.out[i]++; n.out[i] == 0; n.out[i]++ {
			i--
		}
	}
	n.out = append(n.out, byte(c>>19))
}

// finish returns the stripe's coded bytes as they are sent: the shortest
// value in the last interval, without the zeros at its end, a 00 behind each FF.
func (n *encoder) finish() []byte {
	c := (n.c + n.a - 1) &^ 0xFFFF
	if c < n.c {
		c += 0x8000
	}
	c <<= n.ct
	n.byteOut(c)
	n.byteOut(c << 8 & 0x7FFFFFF)
	end := len(n.out)
	for end > 0 && n.out[end-1] == 0 {
		end--
	}
	var sent []byte
	for _, v := range n.out[:end] {
		sent = append(sent, v)
		if v == escape {
			sent = append(sent, stuff)
		}
	}
	return sent
}

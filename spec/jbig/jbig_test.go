package jbig

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"acquirer/spec"
)

func TestRoundTrip(t *testing.T) {
	for width := 1; width <= 20; width++ {
		for height := 1; height <= 9; height++ {
			b := New(width, height)
			draw(b, func(x, y int) bool { return x*y%3 == 1 || x == width-1 })
			options(b, func(o Options) { roundTrip(t, fmt.Sprint(width, "x", height), b, o, nil) })
		}
	}
	pictures(func(name string, b *Bitmap) {
		options(b, func(o Options) { roundTrip(t, name, b, o, nil) })
	})
}

// roundTrip returns the coded size.
func roundTrip(t *testing.T, name string, b *Bitmap, o Options, moves map[int][]move) int {
	t.Helper()
	before := bytes.Clone(b.bits)
	raw := encode(b, o, moves)
	if !bytes.Equal(before, b.bits) {
		t.Fatalf("%s %+v: writing changed the picture", name, o)
	}
	got, err := Decode(raw)
	if err != nil {
		t.Fatalf("%s %+v: %v", name, o, err)
	}
	if got.Bounds() != b.Bounds() || !bytes.Equal(got.bits, b.bits) {
		t.Fatalf("%s %+v: another picture", name, o)
	}
	return len(raw)
}

// The test picture of T.82 clause 7.2.1 and the sizes it must have by the
// table there, tests 1 to 3.
func TestConformance(t *testing.T) {
	b := newBitmap(1960, 1951)
	var repeat [8]bool
	shift, black := uint32(1), 0
	draw(b, func(x, y int) bool {
		switch {
		case y < 192:
			return false
		case y < 1023 || x>>3&3 == 0:
			shift = shift<<1 | (shift^shift>>2^shift>>11^shift>>15)&1
			repeat[x&7] = shift&3 == 0
		}
		if repeat[x&7] {
			black++
		}
		return repeat[x&7]
	})
	if black != 861965 {
		t.Fatalf("the test picture has %d black pixels instead of 861965", black)
	}
	for _, c := range []struct {
		name  string
		o     Options
		moves map[int][]move
		want  int
	}{
		{"three lines", Options{}, nil, 317384},
		{"two lines", Options{TwoLine: true}, nil, 317132},
		{"typical, adaptive", Options{Typical: true, Lines: 128}, map[int][]move{9: {{0, 8, 0}}}, 253653},
	} {
		raw := encode(b, c.o, c.moves)
		if len(raw) != c.want {
			t.Errorf("%s: %d bytes instead of %d", c.name, len(raw), c.want)
		}
		got, err := decode(raw, 1<<22)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !bytes.Equal(got.bits, b.bits) {
			t.Errorf("%s: another picture", c.name)
		}
		if _, err := Decode(raw); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: over MaxPixels: %v", c.name, err)
		}
	}
}

// The adaptive pixel lands where ATMOVE says: once it is on the pixel that is
// always the same as the one being coded, noise costs next to nothing. JBIG-KIT
// never moves it up, so this is the proof of that.
func TestAdaptivePixel(t *testing.T) {
	for _, m := range []move{{7, 9, 0}, {7, 127, 0}, {7, 0, 5}, {7, 3, 5}, {7, -3, 5}, {7, -127, 12}, {7, 127, 255}} {
		for _, o := range []Options{{}, {TwoLine: true}, {Typical: true, Lines: 1 << 30}} {
			r := rand.New(rand.NewPCG(1, 2))
			b := New(300, 600)
			draw(b, func(x, y int) bool {
				fromX, fromY := x-m.tx, y-m.ty
				if fromX < 0 || fromX >= b.width || fromY < 0 {
					return r.IntN(2) == 0
				}
				return b.Black(fromX, fromY)
			})
			without := roundTrip(t, "noise", b, o, nil)
			with := roundTrip(t, "noise", b, o, map[int][]move{0: {m}})
			if with >= without*7/8 {
				t.Errorf("%+v, %+v: %d bytes, %d without", m, o, with, without)
			}
		}
	}

	// Several in a stripe, kept in the next stripe, forgotten by SDRST, never
	// above the line after SDRST.
	r := rand.New(rand.NewPCG(3, 4))
	b := New(40, 64)
	draw(b, func(x, y int) bool { return r.IntN(3) == 0 })
	moves := map[int][]move{0: {{0, 3, 1}, {2, 4, 0}, {2, -4, 7}, {90, 1, 1}}, 2: {{5, 0, 9}}}
	for _, o := range []Options{{Lines: 10}, {Lines: 10, Reset: true}, {Lines: 10, TwoLine: true, Typical: true, Reset: true}} {
		roundTrip(t, "moves", b, o, moves)
	}
}

// The signature of a terminal on record: "08240000" printed, and a pen over it.
func TestRecordedSignature(t *testing.T) {
	m := recorded(t, "kdb-esign-req")
	b, err := Decode(m.Bytes(62))
	if err != nil {
		t.Fatal(err)
	}
	if b.Bounds() != image.Rect(0, 0, 128, 64) {
		t.Fatalf("the picture is %v", b.Bounds())
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(pbm(b))); got != "dcd89be3f738e0da209d2630a3befb2e3f35a57a164ce11c4aef9588a0686f2b" {
		t.Errorf("the picture's checksum is %s", got)
	}
	for y, want := range []string{ // the first character printed, 0
		".###.",
		"#...#", "#...#", "#...#", "#...#", "#...#", "#...#",
		".###.",
	} {
		for x, c := range want {
			if b.Black(41+x, 22+y) != (c == '#') {
				t.Errorf("pixel %d, %d is wrong: want %q in line %d", 41+x, 22+y, want, 22+y)
			}
		}
	}
	// Written as the terminal does, but for the range of the adaptive pixel,
	// which it does not use.
	got := Encode(b, Options{TwoLine: true, Typical: true, Lines: 128})
	got[16] = 127
	if !bytes.Equal(got, m.Bytes(62)) {
		t.Errorf("written again:\n%X, was\n%X", got, m.Bytes(62))
	}
}

// recorded is a message of testdata/vectors/cup_messages.json.
func recorded(t testing.TB, id string) *spec.Message {
	t.Helper()
	b, err := os.ReadFile("../../testdata/vectors/cup_messages.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ ID, Hex string }
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.ID == id {
			got, err := spec.ReadCapture(unhex(t, c.Hex), nil)
			if err != nil {
				t.Fatal(err)
			}
			return &got.Message
		}
	}
	t.Fatalf("no message %s", id)
	return nil
}

func TestPNG(t *testing.T) {
	b := New(9, 2)
	b.SetBlack(0, 0, true)
	b.SetBlack(8, 1, true)
	b.SetBlack(8, 1, false)
	b.SetBlack(7, 1, true)
	for _, outside := range [][2]int{{-1, 0}, {9, 0}, {0, -1}, {0, 2}} {
		b.SetBlack(outside[0], outside[1], true)
		if b.Black(outside[0], outside[1]) {
			t.Errorf("%v is outside and black", outside)
		}
	}
	if b.At(0, 0) != (color.Gray{}) || b.At(1, 0) != (color.Gray{Y: 0xFF}) || b.At(9, 0) != (color.Gray{Y: 0xFF}) {
		t.Errorf("colours %v, %v, outside %v", b.At(0, 0), b.At(1, 0), b.At(9, 0))
	}
	var file bytes.Buffer
	if err := png.Encode(&file, b); err != nil {
		t.Fatal(err)
	}
	got, err := png.Decode(&file)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := got.(*image.Paletted); !ok || len(p.Palette) != 2 || got.Bounds() != b.Bounds() {
		t.Fatalf("a PNG of type %T, %v", got, got.Bounds())
	}
	black := 0
	for y := range 2 {
		for x := range 9 {
			is := color.GrayModel.Convert(got.At(x, y)).(color.Gray).Y == 0
			if is != b.Black(x, y) {
				t.Errorf("pixel %d, %d is black: %v", x, y, is)
			}
			if is {
				black++
			}
		}
	}
	if black != 2 {
		t.Errorf("%d pixels are black instead of 2", black)
	}
}

func TestNewPanics(t *testing.T) {
	for _, size := range [][2]int{{0, 1}, {1, 0}, {-1, -1}, {MaxPixels + 1, 1}, {2, MaxPixels}, {math.MaxInt, math.MaxInt}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a picture of %v was made", size)
				}
			}()
			New(size[0], size[1])
		}()
	}
}

// What may stand around the stripes.
func TestMarkers(t *testing.T) {
	b := New(12, 10)
	draw(b, func(x, y int) bool { return (x+y)%5 < 2 })
	raw := Encode(b, Options{Lines: 5})
	first := headerSize + bytes.Index(raw[headerSize:], []byte{escape, sdnorm}) + 2

	insert := func(at int, b ...byte) []byte {
		return append(append(bytes.Clone(raw[:at]), b...), raw[at:]...)
	}
	with := func(raw []byte, height uint32, flags byte) []byte {
		raw = bytes.Clone(raw)
		binary.BigEndian.PutUint32(raw[8:], height)
		raw[19] |= flags
		return raw
	}
	text := []byte{escape, comment, 0, 0, 0, 3, escape, sdnorm, 'x'}
	told := []byte{escape, newlen, 0, 0, 0, 10}
	for _, c := range []struct {
		name string
		raw  []byte
	}{
		{"comment first", insert(headerSize, text...)},
		{"comments between", insert(first, append(text, text...)...)},
		{"flags of other layers", with(raw, 10, 0x10|0x04)},
		{"table of another BIE", with(raw, 10, 0x07)},
		{"own table", with(insert(headerSize, make([]byte, dpTableSize)...), 10, 0x06)},
		{"order SEQ", func() []byte { b := bytes.Clone(raw); b[18] = 0x0C; return b }()},
		{"height told first", with(insert(headerSize, told...), 0xFFFFFFFF, vlength)},
		{"height told between", with(insert(first, told...), 11, vlength)},
		{"height told at last", with(append(bytes.Clone(raw), append(told, escape, sdnorm)...), 4000, vlength)},
		{"same height told at last", with(append(bytes.Clone(raw), append(told, escape, sdrst)...), 10, vlength)},
		{"height told twice", with(insert(headerSize, append([]byte{escape, newlen, 0, 0, 1, 0}, told...)...), 4000, vlength)},
		{"height not told", with(raw, 10, vlength)},
	} {
		got, err := Decode(c.raw)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !bytes.Equal(pbm(got), pbm(b)) {
			t.Errorf("%s: another picture", c.name)
		}
	}

	cut, err := Decode(with(append(bytes.Clone(raw), escape, newlen, 0, 0, 0, 7, escape, sdnorm), 10, vlength))
	if err != nil || cut.Bounds() != image.Rect(0, 0, 12, 7) || !bytes.Equal(cut.bits, b.bits[:7*b.stride]) {
		t.Errorf("cut to 7 lines by NEWLEN: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	b := New(12, 10)
	draw(b, func(x, y int) bool { return (x+y)%5 < 2 })
	raw := Encode(b, Options{Lines: 5})
	header := func(at int, v ...byte) []byte {
		out := bytes.Clone(raw)
		copy(out[at:], v)
		return out
	}
	before := func(flags byte, v ...byte) []byte {
		out := append(append(bytes.Clone(raw[:headerSize]), v...), raw[headerSize:]...)
		out[19] |= flags
		return out
	}
	vl := func(v ...byte) []byte {
		out := append(bytes.Clone(raw), v...)
		out[19] |= vlength
		return out
	}
	for _, c := range []struct {
		name string
		raw  []byte
		want string
		is   error
	}{
		{"nothing", nil, "header: 0 bytes instead of 20", ErrTruncated},
		{"half a header", raw[:19], "header: 19 bytes instead of 20", ErrTruncated},
		{"layers the wrong way round", header(0, 1), "header: first layer DL 1 is behind the last, D 0", nil},
		{"progressive", header(1, 2), "header: last layer D is 2", ErrLayers},
		{"grey", header(2, 4), "header: 4 planes", nil},
		{"no plane", header(2, 0), "header: 0 planes", nil},
		{"fill byte", header(3, 9), "header: byte 3 is 09", nil},
		{"no width", header(4, 0, 0, 0, 0), "XD 0", nil},
		{"no height", header(8, 0, 0, 0, 0), "YD 0", nil},
		{"no lines", header(12, 0, 0, 0, 0), "L0 0 is 0", nil},
		{"MX", header(16, 128), "MX 128", nil},
		{"order SMID", header(18, 1), "order 01", nil},
		{"order of three", header(18, 7), "order 07", nil},
		{"order with more", header(18, 0x13), "order 13", nil},
		{"reserved flag", header(19, 0x80), "flags 80", nil},
		{"no table", header(19, 0x06), "the table of DPPRIV is cut", ErrTruncated},

		{"just too large", header(4, 0, 1, 0x99, 0x9A), "104858 by 10 pixels, at most 1048576", ErrTooLarge},
		{"largest", header(4, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF), "4294967295 by 4294967295 pixels", ErrTooLarge},
		{"too large, told late", func() []byte {
			out := vl(escape, newlen, 0, 0, 0, 10, escape, sdnorm)
			copy(out[4:], []byte{0xFF, 0xFF, 0xFF, 0xFF})
			return out
		}(), "4294967295 by 10 pixels", ErrTooLarge},

		{"header alone", raw[:headerSize], "the data ends before", ErrTruncated},
		{"last marker cut", raw[:len(raw)-1], "the data ends before", ErrTruncated},
		{"last stripe missing", raw[:headerSize+bytes.Index(raw[headerSize:], []byte{escape, sdnorm})+2], "the data ends before", ErrTruncated},
		{"height never told", header(8, 0, 0, 1, 0), "the data ends before", ErrTruncated},
		{"more bytes", append(bytes.Clone(raw), 0), "1 bytes behind the last stripe", nil},
		{"more stripes", append(bytes.Clone(raw), escape, sdnorm), "2 bytes behind the last stripe", nil},
		{"more stripes, VLENGTH", vl(1, 2, escape, sdnorm), "the end of a stripe behind the last", nil},
		{"more stripes, NEWLEN", before(vlength, escape, newlen, 0, 0, 0, 5), "the end of a stripe behind the last, NEWLEN told 5 lines", nil},
		{"told and no stripe", vl(escape, newlen, 0, 0, 0, 10), "the data ends before", ErrTruncated},

		{"abort", before(0, escape, abort), "byte 20: the sender gave", ErrAborted},
		{"abort inside", before(0, 1, 2, escape, abort), "byte 22: the sender gave", ErrAborted},
		{"reserved marker", before(0, escape, 1), "byte 20: marker FF01", nil},
		{"no marker", before(0, escape, escape), "byte 20: marker FFFF", nil},
		{"comment inside", before(0, 5, escape, comment, 0, 0, 0, 0), "byte 21: marker FF07 inside of a stripe", nil},
		{"comment longer than all", before(0, escape, comment, 0xFF, 0xFF, 0xFF, 0xFF), "byte 20: a comment of 4294967295 bytes", ErrTruncated},
		{"comment cut", append(bytes.Clone(raw[:headerSize]), escape, comment, 0, 0, 0), "byte 20: marker FF07 is cut", ErrTruncated},
		{"height told unasked", before(0, escape, newlen, 0, 0, 0, 10), "byte 20: NEWLEN to 10 of 10 lines, with flags 00", nil},
		{"height grown", before(vlength, escape, newlen, 0, 0, 0, 11), "byte 20: NEWLEN to 11 of 10 lines", nil},
		{"height told 0", before(vlength, escape, newlen, 0, 0, 0, 0), "byte 20: NEWLEN to 0", nil},
		{"move beyond MX", before(0, escape, atmove, 0, 0, 0, 0, 1, 0), "byte 20: ATMOVE to 1, 0, with MX 0 and MY 0", nil},
		{"move beyond MY", before(0, escape, atmove, 0, 0, 0, 0, 0, 1), "byte 20: ATMOVE to 0, 1", nil},
		{"move to what is not yet coded", func() []byte {
			out := before(0, escape, atmove, 0, 0, 0, 0, 0xFF, 0)
			out[16] = 9
			return out
		}(), "byte 20: ATMOVE to -1, 0", nil},
		{"moves not in order", before(0, escape, atmove, 0, 0, 0, 2, 0, 0, escape, atmove, 0, 0, 0, 1, 0, 0), "byte 28: ATMOVE at line 1 behind one at line 2", nil},
	} {
		got, err := Decode(c.raw)
		if err == nil {
			t.Errorf("%s: read as %v", c.name, got.Bounds())
			continue
		}
		if !strings.HasPrefix(err.Error(), "jbig: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, want %q", c.name, err, c.want)
		}
		for _, is := range []error{ErrLayers, ErrTooLarge, ErrTruncated, ErrAborted} {
			if errors.Is(err, is) != (is == c.is) {
				t.Errorf("%s: is %q: %v", c.name, is, errors.Is(err, is))
			}
		}
	}
}

// Decode reads or refuses, and what it reads it can write and read again.
func FuzzDecode(f *testing.F) {
	f.Add(recorded(f, "kdb-esign-req").Bytes(62))
	pictures(func(_ string, b *Bitmap) {
		if b.width == 65 || b.width == 7 {
			f.Add(Encode(b, Options{Typical: true, TwoLine: true}))
			f.Add(encode(b, Options{Lines: 4, Reset: true}, map[int][]move{1: {{2, -3, 2}}}))
		}
	})
	f.Add(unhex(f, "000001000000000800000FFF0000000300000020"+"02FF02"+"0304FF02"+"FF0500000005"+"FF02"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := Decode(raw)
		if err != nil {
			if b != nil || !strings.HasPrefix(err.Error(), "jbig: ") {
				t.Fatalf("%v, %v", b, err)
			}
			return
		}
		size := b.Bounds().Size()
		if size.X < 1 || size.Y < 1 || size.X*size.Y > MaxPixels {
			t.Fatalf("a picture of %v", size)
		}
		roundTrip(t, hex.EncodeToString(raw), b, Options{TwoLine: len(raw)%2 == 0, Typical: true, Lines: 9}, nil)
	})
}

func BenchmarkDecode(b *testing.B) {
	raw := recorded(b, "kdb-esign-req").Bytes(62)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// pictures are of all kinds and sizes: empty, full, noise, a stroke, and a
// halftone of eight columns.
func pictures(visit func(name string, b *Bitmap)) {
	r := rand.New(rand.NewPCG(82, 1993))
	for _, size := range [][2]int{{1, 1}, {6, 2}, {7, 33}, {8, 8}, {65, 17}, {128, 64}, {201, 130}} {
		for _, kind := range []struct {
			name  string
			black func(x, y int) bool
		}{
			{"white", func(x, y int) bool { return false }},
			{"black", func(x, y int) bool { return true }},
			{"noise", func(x, y int) bool { return r.IntN(2) == 0 }},
			{"stroke", func(x, y int) bool { return (x-y/2)*(x-y/2)/40+(y-20)*(y-20)/9 == 9 }},
			{"halftone", func(x, y int) bool { return y > 3 && (x*x+y*y/16)%8 < 3 && x%8 != y/8%8 }},
		} {
			b := New(size[0], size[1])
			draw(b, kind.black)
			visit(fmt.Sprintf("%s %dx%d", kind.name, b.width, b.height), b)
		}
	}
}

func draw(b *Bitmap, black func(x, y int) bool) {
	for y := range b.height {
		for x := range b.width {
			b.SetBlack(x, y, black(x, y))
		}
	}
}

func options(b *Bitmap, visit func(Options)) {
	for i := range 8 {
		for _, lines := range []int{0, 1, 7, b.height + 64} {
			if lines == 1 && b.height > 40 {
				continue
			}
			visit(Options{TwoLine: i&1 != 0, Typical: i&2 != 0, Reset: i&4 != 0, Lines: lines})
		}
	}
}

package jbig

import (
	"fmt"
	"image"
	"image/color"
)

// MaxPixels is the most that Decode makes: width times height, 1024 by 1024 or
// any other shape of that size. A signature has some 8,000.
const MaxPixels = 1 << 20

// Bitmap is a picture in black and white: 1 is black, 0 is white. It is an
// image.Image. Pixels outside of it read as white.
type Bitmap struct {
	width, height int
	stride        int    // bytes of a line
	bits          []byte // leftmost pixel in the high bit; what is right of a line is 0
}

// New is a white picture. It panics unless both sides are 1 or more and the
// picture has at most MaxPixels.
func New(width, height int) *Bitmap {
	if width < 1 || height < 1 || height > MaxPixels/width {
		panic(fmt.Sprintf("jbig: a picture of %d by %d: sides are 1 or more, pixels at most %d", width, height, MaxPixels))
	}
	return newBitmap(width, height)
}

// newBitmap leaves two columns of room right of a line: the template looks that
// far ahead.
func newBitmap(width, height int) *Bitmap {
	stride := (width + 2 + 7) / 8
	return &Bitmap{width: width, height: height, stride: stride, bits: make([]byte, stride*height)}
}

// Black tells whether a pixel is black; x counts from the left, y from the top.
func (b *Bitmap) Black(x, y int) bool { return b.pixel(x, y) == 1 }

// SetBlack makes a pixel black or white. Outside of the picture it does nothing.
func (b *Bitmap) SetBlack(x, y int, black bool) {
	if x < 0 || x >= b.width || y < 0 || y >= b.height {
		return
	}
	mask := byte(0x80) >> (x & 7)
	if black {
		b.bits[y*b.stride+x>>3] |= mask
	} else {
		b.bits[y*b.stride+x>>3] &^= mask
	}
}

func (b *Bitmap) pixel(x, y int) byte {
	if x < 0 || x >= b.width || y < 0 || y >= b.height {
		return 0
	}
	return bit(b.row(y), x)
}

func (b *Bitmap) row(y int) []byte { return b.bits[y*b.stride : (y+1)*b.stride] }

func bit(row []byte, x int) byte { return row[x>>3] >> (7 - x&7) & 1 }

var palette = color.Palette{color.Gray{Y: 0xFF}, color.Gray{}}

// Bounds is the picture's size; its corner is (0, 0).
func (b *Bitmap) Bounds() image.Rectangle { return image.Rect(0, 0, b.width, b.height) }

// ColorModel is the palette white, black.
func (b *Bitmap) ColorModel() color.Model { return palette }

// At is white or black.
func (b *Bitmap) At(x, y int) color.Color { return palette[b.pixel(x, y)] }

// ColorIndexAt is the pixel as T.82 counts it, 1 for black; with it the picture
// is an image.PalettedImage, which image/png writes with one bit per pixel.
func (b *Bitmap) ColorIndexAt(x, y int) uint8 { return b.pixel(x, y) }

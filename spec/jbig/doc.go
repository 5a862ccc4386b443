// Package jbig reads and writes the pictures of electronic signatures: DE 62
// of the electronic signature message (DE 60.1 = 07 or DE 60.3 = 800,
// docs/fields.md) is one bi-level image entity of JBIG1, ITU-T T.82, with its
// header of 20 bytes. The sample on record is 128 by 64 pixels in 126 bytes.
//
// A pixel is white (0, the background) or black (1, the pen), as in T.82 and
// PBM, not as in most picture formats. Bitmap is an image.Image, so image/png
// writes it, with a palette of these two.
//
// The header, most significant byte first:
//
//	byte   name  here
//	0      DL    0
//	1      D     0, one resolution layer
//	2      P     1, one plane
//	3      fill  0
//	4-7    XD    width, 1 or more
//	8-11   YD    height, 1 or more
//	12-15  L0    lines of a stripe, 1 or more, may be more than YD
//	16     MX    most columns the adaptive pixel may move, up to 127
//	17     MY    most lines it may move
//	18     order HITOLO 08, SEQ 04, ILEAVE 02, SMID 01
//	19     flags LRLTWO 40, VLENGTH 20, TPDON 10, TPBON 08, DPON 04, DPPRIV 02, DPLAST 01
//
// Behind it stands one stripe after the other: marker segments ATMOVE, NEWLEN
// (with VLENGTH alone) and COMMENT, the coded bytes, and SDNORM or SDRST. With
// one plane and one layer every order that T.82 defines is this one. TPDON,
// DPON and DPPRIV speak of further layers and change nothing here, but that
// the table of DPPRIV is stepped over.
//
// All of that is decoded. Not decoded are pictures of several resolution
// layers (D > 0, ErrLayers) or planes, which no electronic signature has been
// seen to use. What is written has one layer, one plane, and no adaptive pixel
// movement.
package jbig

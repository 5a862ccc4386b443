package jbig

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The test sequence of T.82 clause 7.1 has two contexts. That of T.81 clause
// K.4.1 is for the same coder with one.
var sequences = []struct{ name, pixels, contexts, coded string }{
	{
		"T.82 7.1",
		"05E000008B0001C4170000347FFF1A3F951B05D81D17E7700000000006560E6A",
		"0FE000000F0000F0FF0000000000000000000000000000000000000000000000",
		"6989995C32EAFAA0D5FF00527FFF00FF00FF00C00000003FFF002D208291",
	},
	{
		"T.81 K.4.1",
		"00020051000000C00352872AAAAAAAAA82C02000FCD79EF674EAABF7697EE74C",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"655B5144F7969D517855BFFF00FC5184C7CEF93900287D46708ECBC0F6",
	},
}

func TestSequences(t *testing.T) {
	for _, s := range sequences {
		t.Run(s.name, func(t *testing.T) {
			pixels, contexts, coded := unhex(t, s.pixels), unhex(t, s.contexts), unhex(t, s.coded)
			at := func(b []byte, i int) byte { return b[i>>3] >> (7 - i&7) & 1 }

			var cx [2]context
			n := newEncoder()
			for i := range 256 {
				n.code(&cx[at(contexts, i)], at(pixels, i))
			}
			if got := n.finish(); !bytes.Equal(got, coded) {
				t.Errorf("coded\n%X, want\n%X", got, coded)
			}

			cx = [2]context{}
			d := newDecoder(coded)
			for i := range 256 {
				if got := d.code(&cx[at(contexts, i)], 0); got != at(pixels, i) {
					t.Fatalf("pixel %d is read as %d", i, got)
				}
			}
		})
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

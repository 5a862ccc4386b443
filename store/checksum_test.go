package store

import "testing"

// A column of text that is added behind the others, empty in the rows before
// it, leaves their checksums; one that is filled does not, nor does an empty
// one in between. Both ways to a checksum agree.
func TestChecksumOfAddedColumns(t *testing.T) {
	sum := func(texts ...string) int32 {
		t.Helper()
		var a Args
		a.Int(7).Bytes([]byte{1})
		values := []any{int64(7), []byte{1}}
		for _, s := range texts {
			a.Text(s)
			values = append(values, s)
		}
		if a.Checksum() != Checksum(values...) {
			t.Errorf("%q: two checksums", texts)
		}
		return a.Checksum()
	}
	before := sum("x")
	if sum("x", "") != before || sum("x", "", "") != before {
		t.Error("an empty column changed the checksum")
	}
	if sum("x", "y") == before || sum("x", "", "y") == sum("x", "y") || sum("", "x") == before || sum("") != sum() {
		t.Error("a filled column did not")
	}
}

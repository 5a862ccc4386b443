package spec

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTransactionCode(t *testing.T) {
	for _, c := range []struct{ de15, de37, want string }{
		{"0214", "142530000045", "32141460"},
		{"", "142530000045", "30001460"},
		{"0824", "000000000000", "08240000"}, // printed in the recorded signature
		{"0824", "X00004002761", "0C243761"}, // X is 33, 1 of it is left
		{"1231", "ABCDEF012345", "FD308888"},
		{"1231", "abcdef012345", "FD308888"},
		{"0000", "000GHIJKLWXZ", "12345013"},
		{"", "00000000ZZZZ", "00003333"},
	} {
		got, err := TransactionCode(c.de15, c.de37)
		if err != nil || got != c.want {
			t.Errorf("%q, %q: %s %v, want %s", c.de15, c.de37, got, err, c.want)
		}
	}
	for _, c := range []struct{ de15, de37, want string }{
		{"214", "142530000045", `DE 15 is "214"`},
		{"02140", "142530000045", `DE 15 is "02140"`},
		{"0A14", "142530000045", `DE 15 is "0A14"`},
		{"0214", "", "DE 37 is 0 characters"},
		{"0214", "14253000004", "DE 37 is 11 characters"},
		{"0214", "1425300000450", "DE 37 is 13 characters"},
		{"0214", "14253000004 ", "' ' as character 12"},
		{"0214", "-42530000045", "'-' as character 1"},
	} {
		got, err := TransactionCode(c.de15, c.de37)
		if got != "" || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %q: %q %v, want %s", c.de15, c.de37, got, err, c.want)
		}
	}
}

// With hexadecimal digits alone it is the rule as it is published.
func TestTransactionCodeOfHex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		date := rapid.StringMatching(`[0-9]{4}`).Draw(t, "DE 15")
		rrn := rapid.StringMatching(`[0-9A-F]{12}`).Draw(t, "DE 37")
		b, err := hex.DecodeString(date + rrn)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%08X", binary.BigEndian.Uint32(b)^binary.BigEndian.Uint32(b[4:]))
		if got, err := TransactionCode(date, rrn); err != nil || got != want {
			t.Fatalf("%s %v, want %s", got, err, want)
		}
	})
}

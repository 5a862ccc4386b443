package spec

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestTotals(t *testing.T) {
	full := Totals{
		Domestic: SideTotals{Debit: Tally{123456, 3}, Credit: Tally{1000, 1}, Balance: Balanced},
		Foreign:  SideTotals{Debit: Tally{999999999999, 999}, Balance: BalanceError},
	}
	const digits = "00000012345600300000000100000119999999999999990000000000000003"
	got, err := AppendTotals([]byte("x"), full)
	if err != nil || string(got) != "x"+digits {
		t.Errorf("%s, %v", got, err)
	}
	if back, err := ParseTotals([]byte(digits)); err != nil || back != full {
		t.Errorf("%+v, %v", back, err)
	}
	for name, bad := range map[string]Totals{
		"sum":     {Domestic: SideTotals{Debit: Tally{Fen: 1e12}}},
		"below":   {Foreign: SideTotals{Credit: Tally{Fen: -1}}},
		"count":   {Foreign: SideTotals{Debit: Tally{Count: 1000}}},
		"balance": {Domestic: SideTotals{Balance: 4}},
	} {
		if got, err := AppendTotals([]byte("x"), bad); !errors.Is(err, ErrTotals) || string(got) != "x" {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", digits[1:], digits + "0", "A" + digits[1:], digits[:30] + "4" + digits[31:]} {
		if _, err := ParseTotals([]byte(bad)); !errors.Is(err, ErrTotals) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestDetails(t *testing.T) {
	two := []Detail{{STAN: 42, PAN: "6228480000000000018", Fen: 12345}, {Foreign: true, STAN: 43, Fen: 100}}
	const digits = "02" + "00" + "000042" + "06228480000000000018" + "000000012345" + "01" + "000043" + "00000000000000000000" + "000000000100"
	got, err := AppendDetails(nil, two)
	if err != nil || string(got) != digits {
		t.Errorf("%s, %v", got, err)
	}
	if back, err := ParseDetails([]byte(digits)); err != nil || !slices.Equal(back, two) {
		t.Errorf("%v, %v", back, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		if text := fmt.Sprintf(verb, two); strings.Contains(text, "00000000001") || !strings.Contains(text, "622848*********0018") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
	if text := slog.AnyValue(two[0]).Resolve().String(); !strings.Contains(text, "622848*********0018") {
		t.Errorf("slog prints %s", text)
	}
	for name, bad := range map[string][]Detail{
		"none": nil, "nine": make([]Detail, 9), "zero in front": {{PAN: "0123"}}, "letters": {{PAN: "6228A"}}, "amount": {{Fen: -1}}, "STAN": {{STAN: 1e6}},
	} {
		if got, err := AppendDetails([]byte("x"), bad); !errors.Is(err, ErrTotals) || string(got) != "x" {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "00", digits[:82-1], "03" + digits[2:], "0202" + digits[4:], strings.Repeat("0", 2+9*40)} {
		if _, err := ParseDetails([]byte(bad)); !errors.Is(err, ErrTotals) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got, err := AppendDetailCount(nil, 12); err != nil || string(got) != "0012" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := AppendDetailCount(nil, 10000); !errors.Is(err, ErrTotals) {
		t.Error("ten thousand records in four digits")
	}
	if n, err := ParseDetailCount([]byte("0012")); err != nil || n != 12 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := ParseDetailCount([]byte("012")); !errors.Is(err, ErrTotals) {
		t.Error("three digits are a number of records")
	}
}

func TestChipDetail(t *testing.T) {
	for digits, d := range map[string]ChipDetail{
		"610000000000012345156":        {Fen: 12345, Currency: "156"},
		"710111000000000100156" + "10": {Failure: ChipRefused, Foreign: true, Fen: 100, Currency: "156"},
		"710005000000000100156" + "22": {Failure: ChipBadARPC, Fen: 100, Currency: "156"},
	} {
		got, err := AppendChipDetail(nil, d)
		if err != nil || string(got) != digits {
			t.Errorf("%+v: %s, %v", d, got, err)
		}
		if back, err := ParseChipDetail([]byte(digits)); err != nil || back != d {
			t.Errorf("%s: %+v, %v", digits, back, err)
		}
	}
	for _, bad := range []string{"", "610200000000012345156", "61000500000001234515622", "71000000000000010015610", "71001100000000010015622", "610000000000012345156AB"} {
		if _, err := ParseChipDetail([]byte(bad)); !errors.Is(err, ErrTotals) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := AppendChipDetail(nil, ChipDetail{Currency: "CNY"}); !errors.Is(err, ErrTotals) {
		t.Error("a currency of letters")
	}
}

func TestMissingSignatures(t *testing.T) {
	got, err := AppendMissingSignatures(nil, []int{42, 999999})
	if err != nil || string(got) != "ES02000042999999" {
		t.Errorf("%s, %v", got, err)
	}
	if back, err := ParseMissingSignatures(got); err != nil || !slices.Equal(back, []int{42, 999999}) {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "ES00", "ES01", "ES0200004299999", "XX01000042", "ES0100004A"} {
		if _, err := ParseMissingSignatures([]byte(bad)); !errors.Is(err, ErrTotals) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range [][]int{nil, {1e6}, make([]int, 100)} {
		if _, err := AppendMissingSignatures(nil, bad); !errors.Is(err, ErrTotals) {
			t.Errorf("%d signatures: %v", len(bad), err)
		}
	}
}

// Whatever can be read is written back as it was.
func FuzzTotals(f *testing.F) {
	for _, s := range []string{
		"00000012345600300000000100000119999999999999990000000000000003",
		"010000004206228480000000000018000000012345", "0012", "610000000000012345156", "71000500000000010015622", "ES02000042999999",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, got []byte, err error) {
			t.Helper()
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("%s: %q came back as %q, %v", what, b, got, err)
			}
		}
		if v, err := ParseTotals(b); err == nil {
			got, err := AppendTotals(nil, v)
			same("totals", got, err)
		}
		if v, err := ParseDetails(b); err == nil {
			got, err := AppendDetails(nil, v)
			same("details", got, err)
		}
		if v, err := ParseDetailCount(b); err == nil {
			got, err := AppendDetailCount(nil, v)
			same("count", got, err)
		}
		if v, err := ParseChipDetail(b); err == nil {
			got, err := AppendChipDetail(nil, v)
			same("chip detail", got, err)
		}
		if v, err := ParseMissingSignatures(b); err == nil {
			got, err := AppendMissingSignatures(nil, v)
			same("signatures", got, err)
		}
	})
}

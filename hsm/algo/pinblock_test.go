package algo

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

const testPAN = "5555555551234567"

func TestPINBlockRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`[0-9]{4,12}`).Draw(t, "pin")
		pan := rapid.StringMatching(`[0-9]{13,19}`).Draw(t, "pan")
		format := PINFormat(rapid.IntRange(0, 3).Draw(t, "format"))
		pin, err := ParsePIN(digits)
		if err != nil {
			t.Fatal(err)
		}
		block, err := EncodePIN(format, pin, pan)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodePIN(format, block, pan)
		if err != nil || back.reveal() != digits {
			t.Fatalf("format %d: %v", format, err)
		}
		for other := ISO0; other <= ISO3; other++ {
			if _, err := DecodePIN(other, block, pan); other != format && err != ErrPINBlock {
				t.Fatalf("format %d read as %d: %v", format, other, err)
			}
		}
	})
}

// TestPINBlockChecks walks through what ISO 9564-1 says about a block, before
// the account number is XORed in.
func TestPINBlockChecks(t *testing.T) {
	for _, c := range []struct {
		what   string
		format PINFormat
		clear  string
		ok     bool
	}{
		{"four digits", ISO0, "041234FFFFFFFFFF", true},
		{"twelve digits", ISO0, "0C123456789012FF", true},
		{"three digits", ISO0, "03123FFFFFFFFFFF", false},
		{"no digits", ISO0, "00FFFFFFFFFFFFFF", false},
		{"thirteen digits", ISO0, "0D1234567890123F", false},
		{"length fifteen", ISO0, "0F12345678901234", false},
		{"letter for a digit", ISO0, "04123AFFFFFFFFFF", false},
		{"letter F for a digit", ISO0, "0412F4FFFFFFFFFF", false},
		{"fill not F", ISO0, "041234FFFFFFFFFE", false},
		{"first fill not F", ISO0, "0412340FFFFFFFFF", false},
		{"control 4", ISO0, "441234FFFFFFFFFF", false},
		{"control 1", ISO0, "141234FFFFFFFFFF", false},
		{"any fill", ISO1, "1412340123456789", true},
		{"letter for a digit", ISO1, "14123A0123456789", false},
		{"control 0", ISO1, "041234FFFFFFFFFF", false},
		{"fill F", ISO2, "241234FFFFFFFFFF", true},
		{"fill A", ISO2, "241234AAAAAAAAAA", false},
		{"letters", ISO3, "341234ABCDEFABCD", true},
		{"a digit in the fill", ISO3, "341234ABCDEF9BCD", false},
		{"control 0", ISO3, "041234FFFFFFFFFF", false},
		{"no such format", 4, "441234AAAAAAAAAA", false},
	} {
		var block [8]byte
		copy(block[:], mustHex(t, c.clear))
		if c.format == ISO0 || c.format == ISO3 {
			account, _ := accountField(testPAN)
			for i := range block {
				block[i] ^= account[i]
			}
		}
		_, err := DecodePIN(c.format, block, testPAN)
		if c.ok && err != nil || !c.ok && err != ErrPINBlock {
			t.Errorf("format %d, %s: %v", c.format, c.what, err)
		}
	}
}

func TestPINBlockAnotherAccount(t *testing.T) {
	pin, err := ParsePIN("123456")
	if err != nil {
		t.Fatal(err)
	}
	block, err := EncodePIN(ISO0, pin, testPAN)
	if err != nil {
		t.Fatal(err)
	}
	for _, pan := range []string{"6228480402564890018", "", "5", "555555555123456x", "55555555512345671234"} {
		if _, err := DecodePIN(ISO0, block, pan); err != ErrPINBlock {
			t.Errorf("account of %d digits: %v, want ErrPINBlock", len(pan), err)
		}
	}
	for _, pan := range []string{"", "5", "555555555123456x"} {
		if _, err := EncodePIN(ISO3, pin, pan); err == nil {
			t.Errorf("account of %d characters was taken", len(pan))
		}
	}
	if _, err := EncodePIN(ISO0, PIN{}, testPAN); err == nil {
		t.Error("the zero PIN was taken")
	}
	if _, err := EncodePIN(4, pin, testPAN); err == nil {
		t.Error("format 4 was taken")
	}
}

func TestPINBlockFillIsNotTheSameTwice(t *testing.T) {
	pin, err := ParsePIN("1234")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []PINFormat{ISO1, ISO3} {
		seen := map[[8]byte]bool{}
		for range 20 {
			b, err := EncodePIN(format, pin, testPAN)
			if err != nil {
				t.Fatal(err)
			}
			seen[b] = true
		}
		if len(seen) < 19 {
			t.Errorf("format %d: %d different blocks of 20", format, len(seen))
		}
	}
}

func TestParsePIN(t *testing.T) {
	for _, s := range []string{"", "123", "1234567890123", "12a4", "12 4", "١٢٣٤"} {
		if _, err := ParsePIN(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	pin, err := ParsePIN("918273")
	if err != nil {
		t.Fatal(err)
	}
	k := mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210")
	holder := struct {
		P PIN
		K *Key
	}{pin, k}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, v := range []any{pin, &pin} {
			if got := fmt.Sprintf(verb, v); got != "****" {
				t.Errorf("%s of a PIN: %s", verb, got)
			}
		}
		if got := fmt.Sprintf(verb, k); got != "TDES key of 16 bytes" {
			t.Errorf("%s of a key: %s", verb, got)
		}
		if got, want := fmt.Sprintf(verb, holder.P), "****"; got != want {
			t.Errorf("%s: %s", verb, got)
		}
	}
	if got := fmt.Sprintf("%+v", holder); got != "{P:**** K:TDES key of 16 bytes}" {
		t.Error(got)
	}
}

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
		{"four digits", UnionPayNoPAN, "041234FFFFFFFFFF", true},
		{"twelve digits", UnionPayNoPAN, "0C123456789012FF", true},
		{"no digits", UnionPayNoPAN, "00FFFFFFFFFFFFFF", false},
		{"fill not F", UnionPayNoPAN, "041234FFFFFFFFFE", false},
		{"letter for a digit", UnionPayNoPAN, "04123AFFFFFFFFFF", false},
		{"control 1", UnionPayNoPAN, "141234FFFFFFFFFF", false},
		{"a format of 16 bytes", SM4WithPAN, "041234FFFFFFFFFF", false},
		{"a format of 16 bytes", SM4NoPAN, "041234FFFFFFFFFF", false},
		{"a format of 16 bytes", ISO4, "441234AAAAAAAAAA", false},
		{"no such format", 5, "541234FFFFFFFFFF", false},
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

// TestSM4PINBlockChecks is TestPINBlockChecks for the block of 16 bytes.
func TestSM4PINBlockChecks(t *testing.T) {
	k := mustKey(t, SM4, "F351D490994603795C6EBEE8FAEBB481")
	for _, c := range []struct {
		what, clear string
		ok          bool
	}{
		{"four digits", "041234FFFFFFFFFFFFFFFFFFFFFFFFFF", true},
		{"twelve digits", "0C123456789012FFFFFFFFFFFFFFFFFF", true},
		{"three digits", "03123FFFFFFFFFFFFFFFFFFFFFFFFFFF", false},
		{"thirteen digits", "0D1234567890123FFFFFFFFFFFFFFFFF", false},
		{"letter for a digit", "04123AFFFFFFFFFFFFFFFFFFFFFFFFFF", false},
		{"first fill not F", "0412340FFFFFFFFFFFFFFFFFFFFFFFFF", false},
		{"middle fill not F", "041234FFFFFFFFFFF0FFFFFFFFFFFFFF", false},
		{"last fill not F", "041234FFFFFFFFFFFFFFFFFFFFFFFFFE", false},
		{"an 8-byte block and zeros", "041234FFFFFFFFFF0000000000000000", false},
		{"control 1", "141234FFFFFFFFFFFFFFFFFFFFFFFFFF", false},
		{"control 4", "441234FFFFFFFFFFFFFFFFFFFFFFFFFF", false},
	} {
		for _, format := range []PINFormat{SM4NoPAN, SM4WithPAN} {
			b := mustHex(t, c.clear)
			if format == SM4WithPAN {
				account, _ := accountField(testPAN)
				for i, v := range account {
					b[8+i] ^= v
				}
			}
			if err := k.EncryptECB(b, b); err != nil {
				t.Fatal(err)
			}
			_, err := OpenPIN(k, format, PINBlockOf(b), testPAN)
			if c.ok && err != nil || !c.ok && err != ErrPINBlock {
				t.Errorf("%v, %s: %v", format, c.what, err)
			}
		}
	}
}

// TestISO4Checks is TestPINBlockChecks for format 4, whose second half is
// random.
func TestISO4Checks(t *testing.T) {
	for _, key := range []string{"00112233445566778899AABBCCDDEEFF", "00112233445566778899AABBCCDDEEFF0011223344556677", "00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEF0"} {
		k := mustKey(t, AES, key)
		for _, c := range []struct {
			what, clear string
			ok          bool
		}{
			{"four digits", "441234AAAAAAAAAA0000000000000000", true},
			{"twelve digits", "4C123456789012AAFFFFFFFFFFFFFFFF", true},
			{"three digits", "43123AAAAAAAAAAA0000000000000000", false},
			{"thirteen digits", "4D1234567890123A0000000000000000", false},
			{"letter for a digit", "44123AAAAAAAAAAA0000000000000000", false},
			{"fill F", "441234FFFFFFFFFF0000000000000000", false},
			{"last fill a digit", "441234AAAAAAAAA10000000000000000", false},
			{"control 0", "041234AAAAAAAAAA0000000000000000", false},
		} {
			block, err := sealPIN4(k, [16]byte(mustHex(t, c.clear)), testPAN)
			if err != nil {
				t.Fatal(err)
			}
			_, err = OpenPIN(k, ISO4, block, testPAN)
			if c.ok && err != nil || !c.ok && err != ErrPINBlock {
				t.Errorf("%s: %v", c.what, err)
			}
			for _, pan := range []string{"", "12345678901234567890", "622848040256489001x", "9" + testPAN[1:]} {
				if _, err := OpenPIN(k, ISO4, block, pan); err != ErrPINBlock {
					t.Errorf("%s for account %q: %v", c.what, pan, err)
				}
			}
		}
		pin, err := ParsePIN("1234")
		if err != nil {
			t.Fatal(err)
		}
		one, err := SealPIN(k, ISO4, pin, testPAN)
		two, err2 := SealPIN(k, ISO4, pin, testPAN)
		if err != nil || err2 != nil || one == two {
			t.Errorf("two blocks of one PIN are equal, or not made: %v, %v", err, err2)
		}
		if _, err := SealPIN(k, ISO4, pin, ""); err == nil {
			t.Error("format 4 without an account number")
		}
	}
}

// TestSM4PINBlockOfPublicBank: the clear block that a bank printed for its
// terminals (nameidi.com/n/9rd4jp1z.html).
func TestSM4PINBlockOfPublicBank(t *testing.T) {
	const account = "6230606601007726888"
	pin, err := ParsePIN("123654")
	if err != nil {
		t.Fatal(err)
	}
	k := mustKey(t, SM4, "F351D490994603795C6EBEE8FAEBB481")
	for format, want := range map[PINFormat]string{
		SM4WithPAN: "06123654FFFFFFFFFFFF99FEFF88D977",
		SM4NoPAN:   "06123654FFFFFFFFFFFFFFFFFFFFFFFF",
	} {
		block, err := SealPIN(k, format, pin, account)
		if err != nil || block.Len() != 16 {
			t.Fatalf("%v: %v, %v", format, block, err)
		}
		clear := make([]byte, 16)
		if err := k.DecryptECB(clear, block.Bytes()); err != nil || hexUpper(clear) != want {
			t.Errorf("%v: %X, %v, want %s", format, clear, err, want)
		}
	}
}

// TestSealedPINs: every format with the keys it takes and those it does not.
func TestSealedPINs(t *testing.T) {
	keys := []*Key{
		mustKey(t, DES, "0123456789ABCDEF"), mustKey(t, TDES, "807A23AD32B36D457AE91FDF927570EA"),
		mustKey(t, AES, "807A23AD32B36D457AE91FDF927570EA"), mustKey(t, SM4, "807A23AD32B36D457AE91FDF927570EA"),
	}
	formats := []PINFormat{ISO0, ISO1, ISO2, ISO3, ISO4, UnionPayNoPAN, SM4WithPAN, SM4NoPAN}
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`[0-9]{4,12}`).Draw(t, "pin")
		account := rapid.StringMatching(`[0-9]{13,19}`).Draw(t, "account")
		format := rapid.SampledFrom(formats).Draw(t, "format")
		k := rapid.SampledFrom(keys).Draw(t, "key")
		pin, err := ParsePIN(digits)
		if err != nil {
			t.Fatal(err)
		}
		wide := format == SM4WithPAN || format == SM4NoPAN || format == ISO4
		block, err := SealPIN(k, format, pin, account)
		fits := k.cipher == DES || k.cipher == TDES
		switch format {
		case ISO4:
			fits = k.cipher == AES
		case SM4WithPAN, SM4NoPAN:
			fits = k.cipher == SM4
		}
		if !fits {
			if err == nil || block != (PINBlock{}) {
				t.Fatalf("%v under %v was made", format, k)
			}
			return
		}
		if err != nil || (block.Len() == 16) != wide {
			t.Fatalf("%v under %v: %v, %v", format, k, block, err)
		}
		if back, err := OpenPIN(k, format, PINBlockOf(block.Bytes()), account); err != nil || back.reveal() != digits {
			t.Fatalf("%v under %v: %v", format, k, err)
		}
		if !wide {
			clear := k.Decrypt8([8]byte(block.Bytes()))
			if back, err := DecodePIN(format, clear, account); err != nil || back.reveal() != digits {
				t.Fatalf("%v in clear: %v", format, err)
			}
		}
		for _, cut := range []PINBlock{{}, PINBlockOf(block.Bytes()[:7]), PINBlockOf(append(block.Bytes(), 0))} {
			if _, err := OpenPIN(k, format, cut, account); err != ErrPINBlock {
				t.Fatalf("%v of %d bytes: %v", format, cut.Len(), err)
			}
		}
	})
	pin, err := ParsePIN("1234")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []PINFormat{5, 15, SM4NoPAN + 1, 255} {
		for _, k := range keys {
			if block, err := SealPIN(k, format, pin, testPAN); err == nil || block != (PINBlock{}) {
				t.Errorf("format %v was made under %v", format, k)
			}
			if _, err := OpenPIN(k, format, PINBlockOf(make([]byte, 8)), testPAN); err != ErrPINBlock {
				t.Errorf("format %v under %v: %v", format, k, err)
			}
		}
	}
	if _, err := EncodePIN(SM4NoPAN, pin, ""); err == nil {
		t.Error("16 bytes in 8")
	}
	for _, account := range []string{"", "5", "62284804025648900x8"} {
		if _, err := SealPIN(keys[3], SM4WithPAN, pin, account); err == nil {
			t.Errorf("account of %d characters was taken", len(account))
		}
		if _, err := SealPIN(keys[3], SM4NoPAN, pin, account); err != nil {
			t.Errorf("without account number: %v", err)
		}
	}
}

// TestNoPANIsZeroDigits: terminals that put 16 zero digits in the place of the
// account number make the same block.
func TestNoPANIsZeroDigits(t *testing.T) {
	pin, err := ParsePIN("123456")
	if err != nil {
		t.Fatal(err)
	}
	zeros, err := EncodePIN(ISO0, pin, "0000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	if none, err := EncodePIN(UnionPayNoPAN, pin, ""); err != nil || none != zeros || hexUpper(none[:]) != "06123456FFFFFFFF" {
		t.Errorf("%X, %v, want %X", none, err, zeros)
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
	for _, format := range []PINFormat{ISO4, 5} {
		if _, err := EncodePIN(format, pin, testPAN); err == nil {
			t.Errorf("format %d was taken for 8 bytes", format)
		}
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
	block, err := SealPIN(k, ISO0, pin, testPAN)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, block); got != "PIN block of 8 bytes" {
			t.Errorf("%s of a block: %s", verb, got)
		}
	}
	if got := fmt.Sprintf("%+v", holder); got != "{P:**** K:TDES key of 16 bytes}" {
		t.Error(got)
	}
}

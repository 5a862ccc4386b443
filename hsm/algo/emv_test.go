package algo

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

// The published vectors are in vectors_test.go; here is what is refused.
func TestEMVRefusals(t *testing.T) {
	imk := mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210")
	aes := mustKey(t, AES, "2B7E151628AED2A6ABF7158809CF4F3C")
	for what, err := range map[string]error{
		"no account":        second(ICCKey(imk, OptionA, "", "00")),
		"20 digits":         second(ICCKey(imk, OptionA, "12345678901234567890", "00")),
		"letters":           second(ICCKey(imk, OptionB, "12345678901234567x", "00")),
		"sequence of three": second(ICCKey(imk, OptionA, "1234567890123456", "001")),
		"AES master key":    second(ICCKey(aes, OptionA, "1234567890123456", "00")),
		"AES session":       second(PBOCSessionKey(aes, [2]byte{})),
		"AES script":        second(VisaScriptKey(aes, OptionA, "1234567890123456", "00", [2]byte{})),
		"AES ARQC":          second(ARQC(aes, PadBit, nil)),
		"AES ARPC 1":        second(ARPC1(aes, [8]byte{}, [2]byte{})),
		"AES ARPC 2":        second(ARPC2(aes, [8]byte{}, [4]byte{}, nil)),
		"9 bytes of ARPC 2": second(ARPC2(imk, [8]byte{}, [4]byte{}, make([]byte, 9))),
		"PVV under AES":     second(VisaPVV(aes, "1234567890123456", '1', PIN{n: 4})),
		"PVV of no PIN":     second(VisaPVV(imk, "1234567890123456", '1', PIN{})),
		"PVV, 11 digits":    second(VisaPVV(imk, "12345678901", '1', PIN{n: 4})),
		"CVV under AES":     second(CVV(aes, "1234567890123456", "2912", "220")),
		"CVV, letters":      second(CVV(imk, "1234567890123456", "29x2", "220")),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	short, err := ICCKey(imk, OptionA, "1234567890123456", "")
	if err != nil {
		t.Fatal(err)
	}
	long, err := ICCKey(imk, OptionB, "1234567890123456", "00")
	if err != nil || !bytes.Equal(short.CheckValue(), long.CheckValue()) {
		t.Errorf("no sequence number is 00, and option B of 16 digits is option A: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestSecretsDoNotLog(t *testing.T) {
	pin, err := ParsePIN("918273")
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewProtector('D', bytes.Repeat([]byte{0x41}, 32))
	if err != nil {
		t.Fatal(err)
	}
	k := mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210")
	var out bytes.Buffer
	for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
		log.Info("secrets", "key", k, "pin", pin, "protector", p, "keys", SignInKeys{PIK: k, MAK: k})
	}
	for _, v := range []any{k, pin, p, SignInKeys{PIK: k}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	for _, secret := range []string{"918273", "0123456789", "FEDCBA98", "AAAA", "[1 35", "[65 65"} {
		if strings.Contains(strings.ToUpper(out.String()), secret) {
			t.Errorf("%s was logged", secret)
		}
	}
	if !strings.Contains(out.String(), "TDES key of 16 bytes") || !strings.Contains(out.String(), "****") {
		t.Errorf("next to nothing was logged: %s", out.String())
	}
}

package algo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestVariantLMK takes every published key to its cryptogram and back, under
// the whole test set where the pair is one of it.
func TestVariantLMK(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Op               string
		Inputs, Expected map[string]string
	}
	_ = json.Unmarshal(data, &all) // other operations have other types
	lmk, n := TestLMK(), 0
	for _, v := range all {
		if v.Op != "lmk.encrypt_key" {
			continue
		}
		pair := -1
		for i, p := range testLMK {
			if p == v.Inputs["lmk_pair"] {
				pair = i
			}
		}
		s, variant := Scheme(v.Inputs["scheme"][0]), int(v.Inputs["variant"][0]-'0')
		clear, _ := unhex(v.Inputs["clear"])
		got, err := lmk.EncryptKey(pair, variant, s, clear)
		if err != nil || hexUpper(got) != v.Expected["encrypted"] {
			t.Errorf("%v: %X, %v", v.Inputs, got, err)
			continue
		}
		back, err := lmk.DecryptKey(pair, variant, s, got)
		if err != nil || !bytes.Equal(back, clear) {
			t.Errorf("%v: back to %X, %v", v.Inputs, back, err)
		}
		n++
	}
	if n < 12 {
		t.Errorf("%d vectors ran", n)
	}
}

// TestKeysUnderKeys: cryptograms that a payShield simulator gave for schemes
// under a ZMK (commands A8, FC and GC of payshield_wire.json), and the parts
// of every scheme.
func TestKeysUnderKeys(t *testing.T) {
	lmk := TestLMK()
	field := func(s string) []byte {
		t.Helper()
		scheme, b, rest, err := ParseKeyField(s)
		if err != nil || rest != "" {
			t.Fatalf("%s: %q, %v", s, rest, err)
		}
		if FormatKeyField(scheme, b) != s {
			t.Fatalf("%s is written %s", s, FormatKeyField(scheme, b))
		}
		return b
	}
	zmk, err := lmk.DecryptKey(2, 0, SchemeU, field("U1457FF6ADF6250C66C368416B4C9D383"))
	if err != nil {
		t.Fatal(err)
	}
	tpk, err := lmk.DecryptKey(7, 0, SchemeU, field("U8463435FC4B4DAA0C49025272C29B12C"))
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[Scheme]string{
		SchemeU: "U2C62A23D001B97412950CD8BE66C7639",
		SchemeX: "XF7D53991678347EFB3026882F724E6EE",
	} {
		got, err := EncryptKey(zmk, s, tpk)
		if err != nil || FormatKeyField(s, got) != want {
			t.Errorf("scheme %v: %X, %v, want %s", s, got, err, want)
		}
	}
	long := append(append([]byte(nil), tpk...), zmk[:8]...)
	for s, key := range map[Scheme][]byte{SchemeZ: tpk[:8], SchemeU: tpk, SchemeX: tpk, SchemeT: long, SchemeY: long} {
		sealed, err := EncryptKey(zmk, s, key)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecryptKey(zmk, s, sealed); err != nil || !bytes.Equal(back, key) {
			t.Errorf("scheme %v does not come back: %v", s, err)
		}
		if _, err := EncryptKey(zmk, s, key[1:]); !errors.Is(err, ErrScheme) {
			t.Errorf("scheme %v took a key that is short: %v", s, err)
		}
	}
	plain, _ := EncryptKey(zmk, SchemeY, long)
	variant, _ := EncryptKey(zmk, SchemeT, long)
	for i := range 3 {
		if bytes.Equal(plain[8*i:8*i+8], variant[8*i:8*i+8]) {
			t.Errorf("part %d of scheme T has no variant", i+1)
		}
	}
	for _, s := range []Scheme{SchemeU, SchemeT} {
		if _, err := EncryptKey(zmk[:8], s, make([]byte, s.KeyLen())); !errors.Is(err, ErrScheme) {
			t.Errorf("scheme %v under a single-length key: %v", s, err)
		}
	}
	if _, err := EncryptKey(zmk, 'S', tpk); !errors.Is(err, ErrScheme) {
		t.Errorf("scheme S: %v", err)
	}
	if _, err := EncryptKey(zmk[:5], SchemeZ, tpk[:8]); err == nil {
		t.Error("a key of 5 bytes encrypted another")
	}
}

func TestKeyFields(t *testing.T) {
	for _, s := range []string{"", "U", "U123", "0406FBB23A5214D", "T" + strings.Repeat("0", 47), "0406FBB23A5214DG", "X" + strings.Repeat("G", 32)} {
		if _, _, _, err := ParseKeyField(s); !errors.Is(err, ErrScheme) {
			t.Errorf("%q: %v", s, err)
		}
	}
	s, b, rest, err := ParseKeyField("Y" + strings.Repeat("0A", 24) + ";XU1")
	if s != SchemeY || len(b) != 24 || rest != ";XU1" || err != nil {
		t.Errorf("%v, %d bytes, %q, %v", s, len(b), rest, err)
	}
	for code, want := range map[string][2]int{"000": {2, 0}, "001": {3, 0}, "002": {7, 0}, "402": {7, 4}, "003": {8, 0}, "008": {13, 0},
		"009": {14, 0}, "109": {14, 1}, "209": {14, 2}, "309": {14, 3}, "709": {14, 7}, "00A": {15, 0}, "00B": {16, 0}, "30B": {16, 3}, "70D": {18, 7}, "90d": {18, 9}} {
		pair, variant, err := KeyTypePair(code)
		if err != nil || pair != want[0] || variant != want[1] {
			t.Errorf("%s: pair %d, variant %d, %v", code, pair, variant, err)
		}
	}
	for _, code := range []string{"", "00", "0000", "A00", "00E", "0FF", "FFF", "0G0"} {
		if _, _, err := KeyTypePair(code); err == nil {
			t.Errorf("key type %q was taken", code)
		}
	}
}

func TestTestLMKIsRecognised(t *testing.T) {
	lmk := TestLMK()
	if !lmk.IsTest() {
		t.Error("the test LMK is not recognised")
	}
	pairs := lmk.pairs
	pairs[19][15] ^= 2
	if other := NewVariantLMK(pairs); other.IsTest() || strings.Contains(other.String(), "test") {
		t.Error("another LMK passes for the test LMK")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if s := fmt.Sprintf(verb, lmk); s != "the Thales test LMK" {
			t.Errorf("%s prints %s", verb, s)
		}
	}
	for _, at := range [][2]int{{-1, 0}, {20, 0}, {0, -1}, {0, 10}} {
		if _, err := lmk.EncryptKey(at[0], at[1], SchemeZ, make([]byte, 8)); err == nil {
			t.Errorf("pair %d, variant %d encrypted", at[0], at[1])
		}
		if _, err := lmk.DecryptKey(at[0], at[1], SchemeZ, make([]byte, 8)); err == nil {
			t.Errorf("pair %d, variant %d decrypted", at[0], at[1])
		}
	}
}

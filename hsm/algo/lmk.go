package algo

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// Scheme says how the parts of a DES key are encrypted under another key. It
// is the letter in front of the key in the messages of a payShield.
type Scheme byte

// The schemes. Z is a single-length key; X and Y are double and triple length
// in ECB (ANSI X9.17); U and T are double and triple length in the variant
// scheme of Racal and Thales, each part under a key of its own.
const (
	SchemeZ Scheme = 'Z'
	SchemeU Scheme = 'U'
	SchemeT Scheme = 'T'
	SchemeX Scheme = 'X'
	SchemeY Scheme = 'Y'
)

// ErrScheme says that a key field, a scheme and a length do not go together.
var ErrScheme = errors.New("algo: key field does not fit its scheme")

// KeyLen is the length in bytes of keys of the scheme, 0 for a letter that is
// no scheme.
func (s Scheme) KeyLen() int {
	switch s {
	case SchemeZ:
		return 8
	case SchemeU, SchemeX:
		return 16
	case SchemeT, SchemeY:
		return 24
	}
	return 0
}

// String is the scheme's letter.
func (s Scheme) String() string { return string(rune(s)) }

// partVariants are XORed into byte 8 of the encrypting key, one for each part
// of the encrypted one.
var partVariants = map[Scheme][]byte{
	SchemeU: {0xA6, 0x5A},
	SchemeT: {0x6A, 0xDE, 0x2B},
}

// lmkVariants are XORed into byte 0 of a pair of the LMK. 0 is no variant.
var lmkVariants = [...]byte{0, 0xA6, 0x5A, 0x6A, 0xDE, 0x2B, 0x50, 0x74, 0x9C, 0xFA}

// EncryptKey encrypts the DES key clear under kek, of 8, 16 or 24 bytes, in a
// scheme. U and T want a kek of two parts at least: the variant goes into the
// second. Parity and weak keys are the caller's to look at.
func EncryptKey(kek []byte, s Scheme, clear []byte) ([]byte, error) {
	return cryptKey(kek, s, clear, (*Key).EncryptECB)
}

// DecryptKey is the inverse of EncryptKey.
func DecryptKey(kek []byte, s Scheme, encrypted []byte) ([]byte, error) {
	return cryptKey(kek, s, encrypted, (*Key).DecryptECB)
}

func cryptKey(kek []byte, s Scheme, in []byte, crypt func(k *Key, dst, src []byte) error) ([]byte, error) {
	if n := s.KeyLen(); n == 0 || len(in) != n {
		return nil, fmt.Errorf("%w: a key of %d bytes in scheme %q", ErrScheme, len(in), string(rune(s)))
	}
	variants := partVariants[s]
	if variants != nil && len(kek) < 16 {
		return nil, fmt.Errorf("%w: scheme %v under a key of %d bytes", ErrScheme, s, len(kek))
	}
	under := append([]byte(nil), kek...)
	defer clear(under)
	out := make([]byte, len(in))
	for i := 0; i < len(in); i += 8 {
		if variants != nil {
			under[8] = kek[8] ^ variants[i/8]
		}
		k, err := NewDESKey(under)
		if err != nil {
			return nil, err
		}
		if err := crypt(k, out[i:i+8], in[i:i+8]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ParseKeyField reads an encrypted DES key from the front of a payShield
// message: a scheme's letter and its hex digits, or 16 hex digits of a single
// length. rest is what stands behind it.
func ParseKeyField(field string) (s Scheme, encrypted []byte, rest string, err error) {
	s = SchemeZ
	if len(field) > 0 && Scheme(field[0]).KeyLen() != 0 {
		s, field = Scheme(field[0]), field[1:]
	}
	n := 2 * s.KeyLen()
	if len(field) < n {
		return 0, nil, "", fmt.Errorf("%w: %d characters in scheme %v, want %d", ErrScheme, len(field), s, n)
	}
	if encrypted, err = hex.DecodeString(field[:n]); err != nil {
		return 0, nil, "", fmt.Errorf("%w: not hex", ErrScheme)
	}
	return s, encrypted, field[n:], nil
}

// FormatKeyField is the inverse of ParseKeyField; a single length has no
// letter.
func FormatKeyField(s Scheme, encrypted []byte) string {
	if s == SchemeZ {
		return hexUpper(encrypted)
	}
	return s.String() + hexUpper(encrypted)
}

// LMKPairs is how many pairs of keys a variant LMK has. They are called by
// the numbers of their two keys: pair 0 is 00-01, pair 19 is 38-39.
const LMKPairs = 20

// VariantLMK is a local master key of the variant kind: 20 double-length DES
// keys, each for keys of some types, told further apart by variants. It exists
// for the published test set and for what is to be compared with it; package
// hsm keeps its own keys in key blocks. It prints as what it is.
type VariantLMK struct{ pairs [LMKPairs][16]byte }

// String says whether it is the test set.
func (l *VariantLMK) String() string {
	if l.IsTest() {
		return "the Thales test LMK"
	}
	return "variant LMK"
}
func (l *VariantLMK) GoString() string { return l.String() }

// Format keeps every verb from printing keys.
func (l *VariantLMK) Format(f fmt.State, verb rune) { _, _ = f.Write([]byte(l.String())) }

// NewVariantLMK takes the 20 pairs.
func NewVariantLMK(pairs [LMKPairs][16]byte) *VariantLMK { return &VariantLMK{pairs} }

// testLMK is the set that every payShield in its test state and every
// simulator has (nickntg/thalessimulatorlibrary, timgabets/pythales
// and jPOS print it).
var testLMK = [LMKPairs]string{
	"01010101010101017902CD1FD36EF8BA",
	"20202020202020203131313131313131",
	"40404040404040405151515151515151",
	"61616161616161617070707070707070",
	"80808080808080809191919191919191",
	"A1A1A1A1A1A1A1A1B0B0B0B0B0B0B0B0",
	"C1C1010101010101D0D0010101010101",
	"E0E0010101010101F1F1010101010101",
	"1C587F1C13924FEF0101010101010101",
	"01010101010101010101010101010101",
	"02020202020202020404040404040404",
	"07070707070707071010101010101010",
	"13131313131313131515151515151515",
	"16161616161616161919191919191919",
	"1A1A1A1A1A1A1A1A1C1C1C1C1C1C1C1C",
	"23232323232323232525252525252525",
	"26262626262626262929292929292929",
	"2A2A2A2A2A2A2A2A2C2C2C2C2C2C2C2C",
	"2F2F2F2F2F2F2F2F3131313131313131",
	"01010101010101010101010101010101",
}

// testLMKCheck is the check value of the test set.
var testLMKCheck = [8]byte{0x7B, 0x44, 0xAC, 0x1D, 0xDE, 0xE2, 0xA9, 0x4B}

// TestLMK is the published test set. What is under it is not secret.
func TestLMK() *VariantLMK {
	l := new(VariantLMK)
	for i, s := range testLMK {
		if _, err := hex.Decode(l.pairs[i][:], []byte(s)); err != nil {
			panic("algo: the test LMK is not hex: " + err.Error())
		}
	}
	return l
}

// CheckValue is all 40 keys XORed together, as simulators answer it to NC.
// How a payShield makes the one it prints (268604 for the test set) is not
// published.
func (l *VariantLMK) CheckValue() (check [8]byte) {
	for _, pair := range l.pairs {
		for i, b := range pair {
			check[i%8] ^= b
		}
	}
	return check
}

// IsTest recognises the test set by its check value. Whatever serves real
// keys refuses it.
func (l *VariantLMK) IsTest() bool { return l.CheckValue() == testLMKCheck }

// under is the pair in a variant.
func (l *VariantLMK) under(pair, variant int) ([16]byte, error) {
	if pair < 0 || pair >= LMKPairs || variant < 0 || variant >= len(lmkVariants) {
		return [16]byte{}, fmt.Errorf("algo: LMK pair %d, variant %d: there are pairs 0 to %d and variants 0 to %d",
			pair, variant, LMKPairs-1, len(lmkVariants)-1)
	}
	k := l.pairs[pair]
	k[0] ^= lmkVariants[variant]
	return k, nil
}

// EncryptKey encrypts a clear DES key under a pair and variant. Under an LMK
// the schemes X and Y are never used.
func (l *VariantLMK) EncryptKey(pair, variant int, s Scheme, clear []byte) ([]byte, error) {
	k, err := l.under(pair, variant)
	if err != nil {
		return nil, err
	}
	return EncryptKey(k[:], s, clear)
}

// DecryptKey is the inverse of EncryptKey.
func (l *VariantLMK) DecryptKey(pair, variant int, s Scheme, encrypted []byte) ([]byte, error) {
	k, err := l.under(pair, variant)
	if err != nil {
		return nil, err
	}
	return DecryptKey(k[:], s, encrypted)
}

// lmkPairOf is the pair of a key type's last two characters, in hex: the code
// counts the pairs that keys are kept under.
var lmkPairOf = [...]int{
	0x00: 2,  // 04-05
	0x01: 3,  // 06-07
	0x02: 7,  // 14-15
	0x03: 8,  // 16-17
	0x04: 9,  // 18-19
	0x05: 10, // 20-21
	0x06: 11, // 22-23
	0x07: 12, // 24-25
	0x08: 13, // 26-27
	0x09: 14, // 28-29
	0x0A: 15, // 30-31
	0x0B: 16, // 32-33
	0x0C: 17, // 34-35
	0x0D: 18, // 36-37
}

// KeyTypePair reads a key type code of three characters: the variant, then
// the pair's code. 000 is a ZMK, 001 a ZPK, 402 a CVK, 70D a TPK where it is
// kept apart from other keys of 002.
func KeyTypePair(code string) (pair, variant int, err error) {
	var low [1]byte
	if len(code) == 3 && code[0] >= '0' && code[0] <= '9' {
		if _, err := hex.Decode(low[:], []byte(code[1:])); err == nil && int(low[0]) < len(lmkPairOf) {
			return lmkPairOf[low[0]], int(code[0] - '0'), nil
		}
	}
	return 0, 0, fmt.Errorf("algo: key type %q is none of 000 to 90D", code)
}

package payshield

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"acquirer/hsm"
	"acquirer/hsm/algo"
)

// LMK is a device's local master key: a variant set of 20 pairs for keys with
// the schemes Z, U, T, X and Y, and an AES-256 key for key blocks (scheme S).
// A real device holds them as two LMKs with identifiers of their own; here a
// key's scheme says which one it is under.
type LMK struct {
	variant *algo.VariantLMK
	blocks  *algo.Protector
	check   [3]byte // of the key block LMK
}

// testBlockLMK is the published AES test LMK for key blocks. Its check value
// is 9D04A0.
const testBlockLMK = "9B71333A13F9FAE72F9D0E2DAB4AD6784718012F9244033F3F26A2DE0C8AA11A"

var testBlockCheck = [3]byte{0x9D, 0x04, 0xA0}

// ErrTestLMK says that a published LMK stands where keys are to be secret.
var ErrTestLMK = errors.New("payshield: this is the published test LMK: everybody can read what is under it")

// TestLMK is the pair of published Thales test LMKs. What is under them is
// not secret.
func TestLMK() *LMK {
	block, err := hex.DecodeString(testBlockLMK)
	if err != nil {
		panic("payshield: the test LMK is not hex: " + err.Error())
	}
	l, err := newLMK(algo.TestLMK(), block)
	if err != nil {
		panic("payshield: the test LMK: " + err.Error())
	}
	return l
}

func newLMK(variant *algo.VariantLMK, block []byte) (*LMK, error) {
	p, err := algo.NewProtector('D', block)
	if err != nil {
		return nil, err
	}
	k, err := algo.NewKey(algo.AES, block)
	if err != nil {
		return nil, err
	}
	l := &LMK{variant: variant, blocks: p}
	copy(l.check[:], k.CheckValueCMACEmpty())
	return l, nil
}

// IsTest recognises the published LMKs, either of them, by their check values.
func (l *LMK) IsTest() bool { return l.variant.IsTest() || l.check == testBlockCheck }

// CheckValue is the check value of the variant set.
func (l *LMK) CheckValue() [8]byte { return l.variant.CheckValue() }

// BlockCheckValue is the check value of the key block LMK, 3 bytes.
func (l *LMK) BlockCheckValue() [3]byte { return l.check }

// String shows check values only.
func (l *LMK) String() string {
	check := l.CheckValue()
	return fmt.Sprintf("LMK, check values %X and %X", check[:3], l.check)
}
func (l *LMK) GoString() string             { return l.String() }
func (l *LMK) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(l.String())) }
func (l *LMK) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Vault seals what a device must find again after a start. The software HSM
// is one: the LMK lies sealed under a key that its master key wraps, so that a
// change of the master key re-wraps that one key block.
type Vault interface {
	GenerateKey(ctx context.Context, use hsm.Use, alg hsm.Alg) (hsm.Key, hsm.KCV, error)
	Encrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error)
	Decrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error)
}

// sealedLMK is an LMK at rest. DEK is a key block of the vault; the check
// values tell sets apart without opening them.
type sealedLMK struct {
	Format     string  `json:"format"`
	Version    int     `json:"version"`
	DEK        hsm.Key `json:"dek"`
	Check      string  `json:"check_value"`
	BlockCheck string  `json:"block_check_value"`
	Sealed     string  `json:"sealed"`
}

const sealedLMKFormat = "acquirer-payshield-lmk"

// lmkBytes are 20 pairs and the key block LMK.
const lmkBytes = algo.LMKPairs*16 + 32

func (f *sealedLMK) aad() []byte { return fmt.Appendf(nil, "%s|%d|%s", f.Format, f.Version, f.DEK) }

// MakeLMK makes a random LMK and returns it with the text of the file that
// OpenLMK takes.
func MakeLMK(ctx context.Context, v Vault) (*LMK, []byte, error) {
	raw := make([]byte, lmkBytes)
	defer clear(raw)
	for i := 0; i < algo.LMKPairs*16; i += 16 {
		pair := randomDES(16)
		copy(raw[i:], pair)
		clear(pair)
	}
	rand.Read(raw[algo.LMKPairs*16:]) // never fails, ends the process instead
	l, err := parseLMK(raw)
	if err != nil {
		return nil, nil, err
	}
	dek, _, err := v.GenerateKey(ctx, hsm.UseDEK, hsm.AES32)
	if err != nil {
		return nil, nil, fmt.Errorf("payshield: a key to seal the LMK with: %w", err)
	}
	check, block := l.CheckValue(), l.BlockCheckValue()
	f := sealedLMK{Format: sealedLMKFormat, Version: 1, DEK: dek, Check: hexUpper(check[:]), BlockCheck: hexUpper(block[:])}
	sealed, err := v.Encrypt(ctx, dek, f.aad(), raw)
	if err != nil {
		return nil, nil, fmt.Errorf("payshield: sealing the LMK: %w", err)
	}
	f.Sealed = hexUpper(sealed)
	text, err := json.MarshalIndent(f, "", "  ")
	return l, append(text, '\n'), err
}

// OpenLMK opens what MakeLMK sealed. It refuses an LMK that is published.
func OpenLMK(ctx context.Context, v Vault, text []byte) (*LMK, error) {
	var f sealedLMK
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, errors.New("payshield: the LMK file is cut off or not JSON: restore it from a copy")
	}
	if f.Format != sealedLMKFormat || f.Version != 1 {
		return nil, fmt.Errorf("payshield: the LMK file has format %q and version %d, want %q and 1", f.Format, f.Version, sealedLMKFormat)
	}
	sealed, err := hex.DecodeString(f.Sealed)
	if err != nil {
		return nil, errors.New("payshield: the LMK file is damaged: restore it from a copy")
	}
	raw, err := v.Decrypt(ctx, f.DEK, f.aad(), sealed)
	if err != nil {
		return nil, fmt.Errorf("payshield: the LMK file does not open under this master key; use the one that it was made under: %w", err)
	}
	defer clear(raw)
	l, err := parseLMK(raw)
	if err == nil && l.IsTest() {
		err = ErrTestLMK
	}
	return l, err
}

func parseLMK(raw []byte) (*LMK, error) {
	if len(raw) != lmkBytes {
		return nil, fmt.Errorf("payshield: an LMK of %d bytes, want %d", len(raw), lmkBytes)
	}
	var pairs [algo.LMKPairs][16]byte
	for i := range pairs {
		copy(pairs[i][:], raw[16*i:])
	}
	defer clear(pairs[:])
	return newLMK(algo.NewVariantLMK(pairs), raw[algo.LMKPairs*16:])
}

// keyType is what a key under the LMK is for: the code that chooses pair and
// variant, and the usages of the key blocks that stand for it.
type keyType struct {
	code   string
	usages []string // X9.143, and Thales' own of digits
}

// The key types (hsm.md section 4). 70D to 90D and 30B are what 002 and 00B
// are divided into where a device enforces the separation of PCI HSM.
var (
	typeZMK   = keyType{"000", []string{"K0", "52"}}
	typeZPK   = keyType{"001", []string{"P0", "72"}}
	type002   = keyType{"002", []string{"K0", "51", "P0", "71", "V0", "V1", "V2"}}
	typeTMK   = keyType{"80D", []string{"K0", "51"}}
	typeTPK   = keyType{"70D", []string{"P0", "71"}}
	typePVK   = keyType{"002", []string{"V0", "V1", "V2"}}
	typeTAK   = keyType{"003", []string{"M0", "M1", "M3", "M6"}}
	typeZAK   = keyType{"008", []string{"M0", "M1", "M3", "M6"}}
	typeBDK   = keyType{"009", []string{"B0", "41"}}
	typeMKAC  = keyType{"109", []string{"E0"}}
	typeMKSMI = keyType{"209", []string{"E2"}}
	typeMKSMC = keyType{"309", []string{"E1"}}
	typeCVK   = keyType{"402", []string{"C0", "11", "12", "13"}}
	typeZEK   = keyType{"00A", []string{"D0", "22"}}
	typeDEK   = keyType{"00B", []string{"D0", "21"}}
	typeTEK   = keyType{"30B", []string{"D0", "23"}}
)

// namedTypes are the types that a request may name.
var namedTypes = func() map[string]keyType {
	m := map[string]keyType{}
	for _, t := range []keyType{typeZMK, typeZPK, type002, typeTMK, typeTPK, typeTAK, typeZAK, typeBDK, typeMKAC, typeMKSMI, typeMKSMC,
		typeCVK, typeZEK, typeDEK, typeTEK, {"90D", []string{"K0"}}, {"709", []string{"E6"}}} {
		m[t.code] = t
	}
	return m
}()

// anyBlock stands for the type FFF: the key block itself says what it is for.
var anyBlock = keyType{code: "FFF"}

// takes says that a key block of the usage may stand where the type is wanted.
func (t keyType) takes(usage string) bool {
	if t.usages == nil { // FFF, for any use
		return true
	}
	for _, u := range t.usages {
		if u == usage {
			return true
		}
	}
	return false
}

// decrypt takes a key out of a field under the LMK. The code is what a device
// answers, with parity for a key that does not come out as one.
func (l *LMK) decrypt(f field, t keyType, parity Code) (clearKey []byte, h algo.Header, code Code) {
	if f.letter == 'S' {
		h, clearKey, err := l.blocks.Unwrap(inner(f.text))
		switch {
		case errors.Is(err, algo.ErrKeyBlockMAC):
			return nil, h, BlockMAC
		case err != nil:
			return nil, h, BlockHeader
		case !t.takes(string(h.Usage[:])):
			clear(clearKey)
			return nil, h, BlockUsage
		}
		return clearKey, h, ""
	}
	if t.code == anyBlock.code {
		return nil, h, BadKeyType
	}
	pair, variant, err := algo.KeyTypePair(t.code)
	if err != nil {
		return nil, h, BadKeyType
	}
	clearKey, err = l.variant.DecryptKey(pair, variant, f.scheme(), f.bytes())
	if err != nil {
		return nil, h, BadScheme
	}
	if !algo.OddParity(clearKey) {
		clear(clearKey)
		return nil, h, parity
	}
	return clearKey, h, ""
}

// encrypt puts a DES key under the variant LMK.
func (l *LMK) encrypt(t keyType, s algo.Scheme, clearKey []byte) (string, Code) {
	pair, variant, err := algo.KeyTypePair(t.code)
	if err != nil {
		return "", BadKeyType
	}
	sealed, err := l.variant.EncryptKey(pair, variant, s, clearKey)
	if err != nil {
		return "", BadScheme
	}
	return algo.FormatKeyField(s, sealed), ""
}

// block puts a key into a key block under the LMK. Outside it looks like the
// one of a payShield, scheme S and version 1 (AES); what a payShield has
// inside is not published, this has X9.143 version D.
func (l *LMK) block(h algo.Header, clearKey []byte) (string, error) {
	h.Version = 'D'
	b, err := l.blocks.Wrap(h, clearKey, 0)
	if err != nil {
		return "", err
	}
	return "S1" + b[1:], nil
}

// inner is the X9.143 block of a field of scheme S.
func inner(text string) string {
	if !strings.HasPrefix(text, "S1") {
		return ""
	}
	return "D" + text[2:]
}

// randomDES makes a DES key of 8, 16 or 24 bytes, of odd parity and not weak.
func randomDES(n int) []byte {
	key := make([]byte, n)
	for {
		rand.Read(key) // never fails, ends the process instead
		algo.SetOddParity(key)
		if algo.CheckDES(key) == nil {
			return key
		}
	}
}

package hsm

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"acquirer/hsm/algo"
)

// algRules says how each kind of key is written in a key block. SM4 has no
// letter in X9.143; digits are left to the parties.
var algRules = [...]struct {
	name   string
	letter byte
	length int // bytes
	cipher algo.Cipher
}{
	DES8:   {"DES", 'D', 8, algo.DES},
	TDES16: {"TDES of 16 bytes", 'T', 16, algo.TDES},
	TDES24: {"TDES of 24 bytes", 'T', 24, algo.TDES},
	AES16:  {"AES-128", 'A', 16, algo.AES},
	AES32:  {"AES-256", 'A', 32, algo.AES},
	SM4:    {"SM4", '4', 16, algo.SM4},
	HMAC32: {"HMAC-SHA-256", 'H', 32, 0},
}

// String names the kind of key.
func (a Alg) String() string {
	if a == 0 || int(a) >= len(algRules) {
		return fmt.Sprintf("algorithm %d", uint8(a))
	}
	return algRules[a].name
}

// des reports whether parity and weak keys matter.
func (a Alg) des() bool { return a == DES8 || a == TDES16 || a == TDES24 }

// travels reports whether a key of kind a may be encrypted by one of kind kek:
// DES keys under TDES, SM4 keys under SM4, none under a shorter one (PCI PIN
// requirement 8-4).
func (a Alg) travels(kek Alg) bool {
	if a == SM4 || kek == SM4 {
		return a == kek
	}
	return a.des() && kek.des() && algRules[a].length <= algRules[kek].length
}

// check refuses a kind of key that a use does not take.
func (u Use) check(verb string, alg Alg) error {
	if u == 0 || u >= uses {
		return fmt.Errorf("hsm: %s: %v is no use of a key", verb, u)
	}
	if !slices.Contains(useRules[u].algs, alg) {
		return fmt.Errorf("hsm: %s: a %v is not a %v key: %w", verb, u, alg, ErrKeyUse)
	}
	return nil
}

// header writes what a key block says about its key.
func header(use Use, alg Alg, export byte) algo.Header {
	r := useRules[use]
	h := algo.Header{
		Version: 'D', Usage: [2]byte([]byte(r.usage)), Algorithm: algRules[alg].letter, Mode: r.mode,
		KeyVersion: [2]byte{'0', '0'}, Export: export,
		Optional: []algo.OptionalBlock{{ID: "LB", Data: r.name}},
	}
	if alg == HMAC32 {
		h.Optional = append(h.Optional, algo.OptionalBlock{ID: "HM", Data: "21"}) // SHA-256
	}
	return h
}

// readHeader is the inverse of header: the label names the use, and everything
// else must be what that use is written with.
func readHeader(h algo.Header, length int) (Use, Alg, bool) {
	label := ""
	for _, o := range h.Optional {
		if o.ID == "LB" {
			label = o.Data
		}
	}
	for use := UseTMK; use < uses; use++ {
		r := &useRules[use]
		if r.name != label || r.usage != string(h.Usage[:]) || r.mode != h.Mode || h.Export != 'N' && h.Export != 'S' {
			continue
		}
		for _, alg := range r.algs {
			if algRules[alg].letter == h.Algorithm && algRules[alg].length == length {
				return use, alg, true
			}
		}
	}
	return 0, 0, false
}

// wrap makes the key block and the check value of a clear key.
func (s *Software) wrap(use Use, alg Alg, export byte, clearKey []byte) (Key, KCV, error) {
	k, err := expand(use, alg, export, clearKey)
	if err != nil {
		return "", KCV{}, err
	}
	hide := 32
	if alg.des() {
		hide = 24
	}
	block, err := s.blocks.Wrap(header(use, alg, export), clearKey, hide)
	if err != nil {
		return "", KCV{}, err
	}
	return Key(block), k.checkValue(), nil
}

// random makes a clear key: of odd parity, not weak and not of equal parts
// when it is for DES.
func random(alg Alg) []byte {
	key := make([]byte, algRules[alg].length)
	for {
		rand.Read(key) // never fails, ends the process instead
		if !alg.des() {
			return key
		}
		algo.SetOddParity(key)
		if algo.CheckDES(key) == nil {
			return key
		}
	}
}

// GenerateKey implements HSM.
func (s *Software) GenerateKey(_ context.Context, use Use, alg Alg) (Key, KCV, error) {
	if err := use.check("GenerateKey", alg); err != nil {
		return "", KCV{}, err
	}
	clearKey := random(alg)
	defer clear(clearKey)
	key, kcv, err := s.wrap(use, alg, useRules[use].export, clearKey)
	if err != nil {
		return "", KCV{}, fmt.Errorf("hsm: GenerateKey: %w", err)
	}
	return key, kcv, nil
}

// FormKey makes a key out of two to nine components by XOR, as at a key
// ceremony: components go in, the key comes out as its block and its check
// value. DES keys get odd parity; weak ones are refused.
//
// It is how a TMK that also sits in a terminal, or a ZMK that also sits at an
// issuer, gets in. The caller clears the components.
func (s *Software) FormKey(_ context.Context, use Use, alg Alg, components ...[]byte) (Key, KCV, error) {
	if err := use.check("FormKey", alg); err != nil {
		return "", KCV{}, err
	}
	if len(components) < 2 || len(components) > 9 {
		return "", KCV{}, fmt.Errorf("hsm: FormKey: %d components, want 2 to 9", len(components))
	}
	clearKey := make([]byte, algRules[alg].length)
	defer clear(clearKey)
	for i, c := range components {
		if len(c) != len(clearKey) {
			return "", KCV{}, fmt.Errorf("hsm: FormKey: component %d has %d bytes, want %d", i+1, len(c), len(clearKey))
		}
		subtle.XORBytes(clearKey, clearKey, c)
	}
	if err := admit(alg, clearKey); err != nil {
		return "", KCV{}, fmt.Errorf("hsm: FormKey: %w", err)
	}
	key, kcv, err := s.wrap(use, alg, 'N', clearKey)
	if err != nil {
		return "", KCV{}, fmt.Errorf("hsm: FormKey: %w", err)
	}
	return key, kcv, nil
}

// admit sets the parity of a DES key that comes from outside and refuses weak
// keys.
func admit(alg Alg, clearKey []byte) error {
	if alg.des() {
		algo.SetOddParity(clearKey)
		return algo.CheckDES(clearKey)
	}
	if subtle.ConstantTimeCompare(clearKey, make([]byte, len(clearKey))) == 1 {
		return errors.New("key is all zeros")
	}
	return nil
}

// ImportKey implements HSM. Which kind of key it is follows from the length
// of the cryptogram and the family of the key above it.
func (s *Software) ImportKey(_ context.Context, kek Key, use Use, cryptogram, kcv []byte) (Key, error) {
	const verb = "ImportKey"
	above, err := s.load(verb, kek, UseTMK, UseZMK)
	if err != nil {
		return "", err
	}
	var alg Alg
	switch n := len(cryptogram); {
	case above.alg == SM4 && n == 16:
		alg = SM4
	case above.alg == SM4:
		return "", fmt.Errorf("hsm: %s: cryptogram of %d bytes under an SM4 key, want 16", verb, n)
	case n == 8:
		alg = DES8
	case n == 16:
		alg = TDES16
	case n == 24:
		alg = TDES24
	default:
		return "", fmt.Errorf("hsm: %s: cryptogram of %d bytes, want 8, 16 or 24", verb, n)
	}
	if err := use.check(verb, alg); err != nil {
		return "", err
	}
	if err := above.carries(verb, use, alg); err != nil {
		return "", err
	}
	if whole := algRules[alg].cipher.BlockSize(); kcv != nil && (len(kcv) < 3 || len(kcv) > whole) {
		return "", fmt.Errorf("hsm: %s: check value of %d bytes, want 3 to %d", verb, len(kcv), whole)
	}
	clearKey := make([]byte, len(cryptogram))
	defer clear(clearKey)
	if err := above.key.DecryptECB(clearKey, cryptogram); err != nil {
		return "", fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if kcv == nil && !alg.des() {
		return "", fmt.Errorf("hsm: %s: %w: none was given, and a key of %v has no parity", verb, ErrKCV, alg)
	}
	if kcv == nil && !algo.OddParity(clearKey) {
		return "", fmt.Errorf("hsm: %s: %w: no check value was given, and the key has no odd parity", verb, ErrKCV)
	}
	if kcv != nil {
		got, err := algo.NewKey(algRules[alg].cipher, clearKey)
		if err != nil {
			return "", fmt.Errorf("hsm: %s: %w", verb, err)
		}
		if subtle.ConstantTimeCompare(got.CheckValue()[:len(kcv)], kcv) != 1 {
			return "", fmt.Errorf("hsm: %s of a %v: %w", verb, use, ErrKCV)
		}
	}
	if err := admit(alg, clearKey); err != nil {
		return "", fmt.Errorf("hsm: %s of a %v: %w", verb, use, err)
	}
	key, _, err := s.wrap(use, alg, 'N', clearKey)
	if err != nil {
		return "", fmt.Errorf("hsm: %s: %w", verb, err)
	}
	return key, nil
}

// carries says whether this key may encrypt a key of the given use and kind:
// a terminal's keys travel under its TMK, a zone's under the ZMK.
func (k *expanded) carries(verb string, use Use, alg Alg) error {
	if useRules[use].kek != k.use {
		return fmt.Errorf("hsm: %s of a %v under a %v: %w", verb, use, k.use, ErrKeyUse)
	}
	if !alg.travels(k.alg) {
		return fmt.Errorf("hsm: %s of a %v of %v under a %v of %v: %w", verb, use, alg, k.use, k.alg, ErrKeyUse)
	}
	return nil
}

// ExportKey implements HSM.
func (s *Software) ExportKey(_ context.Context, kek, key Key) (cryptogram, kcv []byte, err error) {
	const verb = "ExportKey"
	h, clearKey, _, err := s.open(key)
	if err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w (%w)", verb, ErrKey, err)
	}
	defer clear(clearKey)
	use, alg, ok := readHeader(h, len(clearKey))
	if !ok {
		return nil, nil, fmt.Errorf("hsm: %s: %w: its header names no use known here", verb, ErrKey)
	}
	if h.Export != 'S' {
		return nil, nil, fmt.Errorf("hsm: %s of a %v that may not leave: %w", verb, use, ErrKeyUse)
	}
	above, err := s.load(verb, kek, UseTMK, UseZMK)
	if err != nil {
		return nil, nil, err
	}
	if err := above.carries(verb, use, alg); err != nil {
		return nil, nil, err
	}
	out, err := expand(use, alg, h.Export, clearKey)
	if err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	cryptogram = make([]byte, len(clearKey))
	if err := above.key.EncryptECB(cryptogram, clearKey); err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	check := out.checkValue()
	return cryptogram, check[:], nil
}

// DeliverTMK implements HSM.
func (s *Software) DeliverTMK(_ context.Context, transport Key, alg Alg) (tmk Key, cryptogram, kcv []byte, err error) {
	const verb = "DeliverTMK"
	if err := UseTMK.check(verb, alg); err != nil {
		return "", nil, nil, err
	}
	ttk, err := s.load(verb, transport, UseTTK)
	if err != nil {
		return "", nil, nil, err
	}
	if !alg.travels(ttk.alg) {
		return "", nil, nil, fmt.Errorf("hsm: %s of %v under a TTK of %v: %w", verb, alg, ttk.alg, ErrKeyUse)
	}
	clearKey := random(alg)
	defer clear(clearKey)
	tmk, check, err := s.wrap(UseTMK, alg, 'N', clearKey)
	if err != nil {
		return "", nil, nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	cryptogram = make([]byte, len(clearKey))
	if err := ttk.key.EncryptECB(cryptogram, clearKey); err != nil {
		return "", nil, nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	return tmk, cryptogram, check[:], nil
}

// CheckValue implements HSM.
func (s *Software) CheckValue(_ context.Context, key Key) (KCV, error) {
	k := s.cache.get(key)
	if k == nil {
		var err error
		if k, err = s.unwrap(key); err != nil {
			return KCV{}, fmt.Errorf("hsm: CheckValue: %w", err)
		}
	}
	return k.checkValue(), nil
}

// WorkingKeys implements HSM. The keys may not be exported again: a terminal
// that lost them signs in.
func (s *Software) WorkingKeys(_ context.Context, tmk Key, set KeySet, shape MAKShape) (WorkingKeys, error) {
	const verb = "WorkingKeys"
	fail := func(err error) (WorkingKeys, error) { return WorkingKeys{}, fmt.Errorf("hsm: %s: %w", verb, err) }
	pinAlg, macAlg, trackAlg, macUse := TDES16, TDES16, Alg(0), UseTAK
	switch shape {
	case MAKSingle:
		macAlg = DES8
	case MAKDouble:
	case MAKRetail:
		macUse = UseTAK919
	case MAKCMAC:
		macUse = UseTAKCMAC
	default:
		return fail(fmt.Errorf("no such shape of MAC key: %d", shape))
	}
	switch set {
	case Set001:
		pinAlg, macAlg = DES8, DES8
	case Set003:
	case Set004:
		trackAlg = TDES16
	case Set005:
		pinAlg, macAlg, trackAlg = SM4, SM4, SM4
	default:
		return fail(fmt.Errorf("DE 60.3 %03d names no key set known here, want 001, 003, 004 or 005", set))
	}
	if err := macUse.check(verb, macAlg); err != nil {
		return WorkingKeys{}, err
	}
	kek, err := s.load(verb, tmk, UseTMK)
	if err != nil {
		return WorkingKeys{}, err
	}
	if !pinAlg.travels(kek.alg) {
		return fail(fmt.Errorf("set %03d under a TMK of %v: %w", set, kek.alg, ErrKeyUse))
	}
	pik, mak := random(pinAlg), random(macAlg)
	defer clear(pik)
	defer clear(mak)
	var tdk []byte
	var out WorkingKeys
	if trackAlg != 0 {
		tdk = random(trackAlg)
		defer clear(tdk)
		if out.TDK, _, err = s.wrap(UseTDK, trackAlg, 'N', tdk); err != nil {
			return fail(err)
		}
	}
	if out.TPK, _, err = s.wrap(UseTPK, pinAlg, 'N', pik); err != nil {
		return fail(err)
	}
	if out.TAK, _, err = s.wrap(macUse, macAlg, 'N', mak); err != nil {
		return fail(err)
	}
	if out.DE62, err = algo.AppendDE62(nil, kek.key, pik, mak, tdk); err != nil {
		return fail(err)
	}
	return out, nil
}

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

// ImportKey implements HSM.
func (s *Software) ImportKey(_ context.Context, kek Key, use Use, cryptogram, kcv []byte) (Key, error) {
	const verb = "ImportKey"
	var alg Alg
	switch len(cryptogram) {
	case 8:
		alg = DES8
	case 16:
		alg = TDES16
	case 24:
		alg = TDES24
	default:
		return "", fmt.Errorf("hsm: %s: cryptogram of %d bytes, want 8, 16 or 24", verb, len(cryptogram))
	}
	if err := use.check(verb, alg); err != nil {
		return "", err
	}
	k, err := s.loadKEK(verb, kek, use, len(cryptogram))
	if err != nil {
		return "", err
	}
	if kcv != nil && (len(kcv) < 3 || len(kcv) > 8) {
		return "", fmt.Errorf("hsm: %s: check value of %d bytes, want 3 to 8", verb, len(kcv))
	}
	clearKey := make([]byte, len(cryptogram))
	defer clear(clearKey)
	if err := k.key.DecryptECB(clearKey, cryptogram); err != nil {
		return "", fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if kcv == nil && !algo.OddParity(clearKey) {
		return "", fmt.Errorf("hsm: %s: %w: no check value was given, and the key has no odd parity", verb, ErrKCV)
	}
	if kcv != nil {
		got, err := algo.NewDESKey(clearKey)
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

// loadKEK loads a ZMK or TMK that may encrypt a key of the given use and
// length: a terminal's keys travel under its TMK, a zone's under the ZMK, and
// no key under a shorter one (PCI PIN requirement 8-4).
func (s *Software) loadKEK(verb string, kek Key, use Use, length int) (*expanded, error) {
	k, err := s.load(verb, kek, UseTMK, UseZMK)
	if err != nil {
		return nil, err
	}
	if useRules[use].kek != k.use {
		return nil, fmt.Errorf("hsm: %s of a %v under a %v: %w", verb, use, k.use, ErrKeyUse)
	}
	if k.key.Len() < length {
		return nil, fmt.Errorf("hsm: %s of a %v of %d bytes under a %v of %d: %w", verb, use, length, k.use, k.key.Len(), ErrKeyUse)
	}
	return k, nil
}

// ExportKey implements HSM.
func (s *Software) ExportKey(_ context.Context, kek, key Key) (cryptogram, kcv []byte, err error) {
	const verb = "ExportKey"
	h, clearKey, err := s.blocks.Unwrap(string(key))
	if err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w (%w)", verb, ErrKey, err)
	}
	defer clear(clearKey)
	use, alg, ok := readHeader(h, len(clearKey))
	if !ok {
		return nil, nil, fmt.Errorf("hsm: %s: %w: its header names no use known here", verb, ErrKey)
	}
	if h.Export != 'S' || !alg.des() {
		return nil, nil, fmt.Errorf("hsm: %s of a %v that may not leave: %w", verb, use, ErrKeyUse)
	}
	k, err := s.loadKEK(verb, kek, use, len(clearKey))
	if err != nil {
		return nil, nil, err
	}
	out, err := expand(use, alg, h.Export, clearKey)
	if err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	cryptogram = make([]byte, len(clearKey))
	if err := k.key.EncryptECB(cryptogram, clearKey); err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	check := out.checkValue()
	return cryptogram, check[:], nil
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
	pinAlg, macAlg, macUse := TDES16, TDES16, UseTAK
	switch {
	case shape > MAKCMAC:
		return WorkingKeys{}, fmt.Errorf("hsm: %s: no such shape of MAC key: %d", verb, shape)
	case set != Set001 && set != Set003 && set != Set004:
		return WorkingKeys{}, fmt.Errorf("hsm: %s: DE 60.3 %03d names no key set known here, want 001, 003 or 004", verb, set)
	case set == Set001:
		pinAlg, macAlg = DES8, DES8
	case shape == MAKSingle:
		macAlg = DES8
	}
	switch shape {
	case MAKRetail:
		macUse = UseTAK919
	case MAKCMAC:
		macUse = UseTAKCMAC
	}
	if err := macUse.check(verb, macAlg); err != nil {
		return WorkingKeys{}, err
	}
	kek, err := s.load(verb, tmk, UseTMK)
	if err != nil {
		return WorkingKeys{}, err
	}
	pik, mak := random(pinAlg), random(macAlg)
	defer clear(pik)
	defer clear(mak)
	var tdk []byte
	var out WorkingKeys
	if set == Set004 {
		tdk = random(TDES16)
		defer clear(tdk)
		if out.TDK, _, err = s.wrap(UseTDK, TDES16, 'N', tdk); err != nil {
			return WorkingKeys{}, fmt.Errorf("hsm: %s: %w", verb, err)
		}
	}
	if out.TPK, _, err = s.wrap(UseTPK, pinAlg, 'N', pik); err != nil {
		return WorkingKeys{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if out.TAK, _, err = s.wrap(macUse, macAlg, 'N', mak); err != nil {
		return WorkingKeys{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if out.DE62, err = algo.AppendDE62(nil, kek.key, pik, mak, tdk); err != nil {
		return WorkingKeys{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	return out, nil
}

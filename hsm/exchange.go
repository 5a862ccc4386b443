package hsm

import (
	"context"
	"fmt"
	"strings"

	"acquirer/hsm/algo"
)

// foreignModes are the modes of use (X9.143:2021, table 4) in which another
// party may send a key of a usage: it writes what the key does there. N, no
// special restriction, goes with all.
var foreignModes = map[string]string{
	"K0": "BDEN", "P0": "BDEN", "D0": "BDEN", "M1": "CGVN", "M3": "CGVN", "M6": "CGVN",
	"B0": "XN", "E0": "XN", "E1": "XN", "E2": "XN", "V1": "CGVN", "V2": "CGVN", "C0": "CGVN",
}

// protector prepares a ZMK or TMK to protect key blocks of a version: TDES for
// A, B and C, AES for D.
func (s *Software) protector(verb string, kek Key, version byte) (*algo.Protector, *expanded, error) {
	above, err := s.load(verb, kek, UseTMK, UseZMK)
	if err != nil {
		return nil, nil, err
	}
	_, clearKEK, _, err := s.open(kek)
	if err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w (%w)", verb, ErrKey, err)
	}
	defer clear(clearKEK)
	if (version == 'D') != (above.key.Cipher() == algo.AES) || version != 'D' && above.key.Cipher() != algo.TDES {
		return nil, nil, fmt.Errorf("hsm: %s: key blocks of version %q are not under a %v of %v: %w", verb, string(rune(version)), above.use, above.alg, ErrKeyUse)
	}
	p, err := algo.NewProtector(version, clearKEK)
	if err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	return p, above, nil
}

// fits refuses a block key that is weaker than what it would carry: TDES of 16
// bytes counts 80 bits, of 24 112, SM4 and AES-128 128, AES-256 256 (NIST SP
// 800-57 part 1, 5.6.1; PCI PIN requirement 8-4). A terminal's keys are under
// its TMK, a zone's under the ZMK.
func (k *expanded) fits(verb string, use Use, alg Alg) error {
	bits := map[Alg]int{DES8: 56, TDES16: 80, TDES24: 112, AES16: 128, SM4: 128, AES32: 256}
	if useRules[use].kek != k.use {
		return fmt.Errorf("hsm: %s of a %v under a %v: %w", verb, use, k.use, ErrKeyUse)
	}
	if alg == HMAC32 || bits[alg] > bits[k.alg] {
		return fmt.Errorf("hsm: %s of a %v of %v under a %v of %v: %w", verb, use, alg, k.use, k.alg, ErrKeyUse)
	}
	return nil
}

// ImportBlock takes a key that another party sent as a key block (X9.143:2021,
// TR-31) under a shared ZMK or a TMK: versions A to C under TDES, D under AES.
// The block's usage must be that of use, and its mode one of it. The key never
// leaves again. A block that was changed is ErrKey.
func (s *Software) ImportBlock(_ context.Context, kek Key, use Use, block string) (Key, error) {
	const verb = "ImportBlock"
	if use == 0 || use >= uses {
		return "", fmt.Errorf("hsm: %s: %v is no use of a key", verb, use)
	}
	if block == "" {
		return "", fmt.Errorf("hsm: %s: %w: it is empty", verb, ErrKey)
	}
	p, above, err := s.protector(verb, kek, block[0])
	if err != nil {
		return "", err
	}
	h, clearKey, err := p.Unwrap(block)
	if err != nil {
		return "", fmt.Errorf("hsm: %s: %w (%w)", verb, ErrKey, err)
	}
	defer clear(clearKey)
	usage := string(h.Usage[:])
	if usage != useRules[use].usage || !strings.ContainsRune(foreignModes[usage], rune(h.Mode)) {
		return "", fmt.Errorf("hsm: %s: a block of usage %s and mode %q holds no %v: %w", verb, usage, string(rune(h.Mode)), use, ErrKeyUse)
	}
	for _, alg := range useRules[use].algs {
		rule := algRules[alg]
		if rule.length != len(clearKey) || rule.letter != h.Algorithm && !(alg == DES8 && h.Algorithm == 'T') {
			continue
		}
		if err := above.fits(verb, use, alg); err != nil {
			return "", err
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
	return "", fmt.Errorf("hsm: %s: a key of %d bytes of algorithm %q is no %v: %w", verb, len(clearKey), string(rune(h.Algorithm)), use, ErrKeyUse)
}

// ExportBlock gives a key that GenerateKey made to another party as a key
// block of a version under a shared ZMK or a TMK. The block says that the key
// may not be exported again.
func (s *Software) ExportBlock(_ context.Context, kek, key Key, version byte) (string, error) {
	const verb = "ExportBlock"
	h, clearKey, _, err := s.open(key)
	if err != nil {
		return "", fmt.Errorf("hsm: %s: %w (%w)", verb, ErrKey, err)
	}
	defer clear(clearKey)
	use, alg, ok := readHeader(h, len(clearKey))
	if !ok {
		return "", fmt.Errorf("hsm: %s: %w: its header names no use known here", verb, ErrKey)
	}
	if h.Export != 'S' {
		return "", fmt.Errorf("hsm: %s of a %v that may not leave: %w", verb, use, ErrKeyUse)
	}
	p, above, err := s.protector(verb, kek, version)
	if err != nil {
		return "", err
	}
	if err := above.fits(verb, use, alg); err != nil {
		return "", err
	}
	out := header(use, alg, 'N')
	out.Version, out.Optional = version, nil
	block, err := p.Wrap(out, clearKey, 0)
	if err != nil {
		return "", fmt.Errorf("hsm: %s: %w", verb, err)
	}
	return block, nil
}

package hsm

import (
	"context"
	"crypto/subtle"
	"fmt"

	"acquirer/hsm/algo"
)

// Keeper is what the keeping of keys asks of an HSM beyond its verbs: the
// ceremony, the key registry, rotation, and the loading of devices. Nothing on
// the way of a transaction calls it.
type Keeper interface {
	HSM
	// FormKey makes a key out of its custodians' components.
	FormKey(ctx context.Context, use Use, alg Alg, components ...[]byte) (Key, KCV, error)
	// Inspect says what a key block is, and under which master key.
	Inspect(ctx context.Context, key Key) (KeyInfo, error)
	// Rewrap brings a key block under the current master key; one that is
	// there already comes back as it is.
	Rewrap(ctx context.Context, key Key) (Key, error)
	// DeliverTMKBlock makes a random TMK for a device that is loaded from a
	// file: for the house as key block, for the device as a key block of
	// ANSI X9.143 under a key block protection key shared with whoever loads
	// it (a KBPK): version D under AES, version B under TDES.
	DeliverTMKBlock(ctx context.Context, kbpk Key, alg Alg) (tmk Key, block string, kcv KCV, err error)
	// Masters are the check values of the master keys, the current one first;
	// a second one is there while keys are brought from it to the first.
	Masters(ctx context.Context) ([]KCV, error)
}

var _ Keeper = (*Software)(nil)

// KeyInfo is what may be known of a key.
type KeyInfo struct {
	Use    Use
	Alg    Alg
	KCV    KCV
	Master KCV  // check value of the master key above it
	Export bool // may leave under a ZMK or TMK
}

// generation is one master key: what wraps, and its check value.
type generation struct {
	blocks *algo.Protector
	check  KCV
}

func newGeneration(master []byte) (*generation, error) {
	if len(master) != masterBytes {
		return nil, fmt.Errorf("hsm: master key of %d bytes, want %d", len(master), masterBytes)
	}
	if subtle.ConstantTimeCompare(master, make([]byte, masterBytes)) == 1 {
		return nil, fmt.Errorf("hsm: master key is all zeros")
	}
	blocks, err := algo.NewProtector('D', master)
	if err != nil {
		return nil, fmt.Errorf("hsm: master key: %w", err)
	}
	return &generation{blocks, masterCheckValue(master)}, nil
}

// masterCheckValue is the CMAC of a zero block under an AES-256 key (X9.24-1).
// The key must have 32 bytes.
func masterCheckValue(master []byte) (kcv KCV) {
	k, err := algo.NewKey(algo.AES, master)
	if err != nil {
		panic("hsm: check value of a key that is none: " + err.Error())
	}
	copy(kcv[:], k.CheckValueCMAC())
	return kcv
}

// open takes a key out of its block, under the current master key or the one
// before it. The caller clears the key.
func (s *Software) open(key Key) (h algo.Header, clearKey []byte, master KCV, err error) {
	h, clearKey, err = s.blocks.Unwrap(string(key))
	if err == nil || s.previous == nil {
		return h, clearKey, s.check, err
	}
	var old error
	if h, clearKey, old = s.previous.blocks.Unwrap(string(key)); old == nil {
		return h, clearKey, s.previous.check, nil
	}
	return h, nil, KCV{}, err
}

// read is open, and what the header says.
func (s *Software) read(verb string, key Key) (h algo.Header, clearKey []byte, i KeyInfo, err error) {
	h, clearKey, i.Master, err = s.open(key)
	if err != nil {
		return h, nil, i, fmt.Errorf("hsm: %s: %w (%w)", verb, ErrKey, err)
	}
	var ok bool
	if i.Use, i.Alg, ok = readHeader(h, len(clearKey)); !ok {
		clear(clearKey)
		return h, nil, i, fmt.Errorf("hsm: %s: %w: its header names no use known here", verb, ErrKey)
	}
	i.Export = h.Export != 'N'
	return h, clearKey, i, nil
}

// Inspect implements Keeper.
func (s *Software) Inspect(_ context.Context, key Key) (KeyInfo, error) {
	h, clearKey, i, err := s.read("Inspect", key)
	if err != nil {
		return KeyInfo{}, err
	}
	defer clear(clearKey)
	k, err := expand(i.Use, i.Alg, h.Export, clearKey)
	if err != nil {
		return KeyInfo{}, fmt.Errorf("hsm: Inspect: %w", err)
	}
	i.KCV = k.checkValue()
	return i, nil
}

// Rewrap implements Keeper.
func (s *Software) Rewrap(_ context.Context, key Key) (Key, error) {
	h, clearKey, i, err := s.read("Rewrap", key)
	if err != nil {
		return "", err
	}
	defer clear(clearKey)
	if i.Master == s.check {
		return key, nil
	}
	out, _, err := s.wrap(i.Use, i.Alg, h.Export, clearKey)
	if err != nil {
		return "", fmt.Errorf("hsm: Rewrap of a %v: %w", i.Use, err)
	}
	return out, nil
}

// DeliverTMKBlock implements Keeper.
func (s *Software) DeliverTMKBlock(_ context.Context, kbpk Key, alg Alg) (tmk Key, block string, kcv KCV, err error) {
	const verb = "DeliverTMKBlock"
	fail := func(err error) (Key, string, KCV, error) {
		return "", "", KCV{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if err := UseTMK.check(verb, alg); err != nil {
		return "", "", KCV{}, err
	}
	_, above, info, err := s.read(verb, kbpk)
	if err != nil {
		return "", "", KCV{}, err
	}
	defer clear(above)
	if info.Use != UseKBPK {
		return fail(fmt.Errorf("under a %v: %w", info.Use, ErrKeyUse))
	}
	version := byte('D')
	if info.Alg.des() {
		version = 'B'
		if !alg.travels(info.Alg) { // AES is at least as strong as any of these (PCI PIN annex C)
			return fail(fmt.Errorf("of %v under a KBPK of %v: %w", alg, info.Alg, ErrKeyUse))
		}
	}
	transport, err := algo.NewProtector(version, above)
	if err != nil {
		return fail(err)
	}
	clearKey := random(alg)
	defer clear(clearKey)
	if tmk, kcv, err = s.wrap(UseTMK, alg, 'N', clearKey); err != nil {
		return fail(err)
	}
	h := header(UseTMK, alg, 'N')
	h.Version = version
	h.Optional = nil // the label is this house's own
	if block, err = transport.Wrap(h, clearKey, len(clearKey)); err != nil {
		return fail(err)
	}
	return tmk, block, kcv, nil
}

// Masters implements Keeper.
func (s *Software) Masters(context.Context) ([]KCV, error) {
	if s.previous == nil {
		return []KCV{s.check}, nil
	}
	return []KCV{s.check, s.previous.check}, nil
}

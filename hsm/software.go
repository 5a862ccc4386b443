package hsm

import (
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"acquirer/hsm/algo"
)

// Software is the HSM in software. It holds the master key in memory, expanded,
// and nothing else that lasts: keys live in their blocks, which the caller
// stores, and expanded ones in a bounded cache.
//
// What it cannot promise is written in docs/hsm.md.
type Software struct {
	blocks   *algo.Protector // key blocks of version D under the master key
	check    KCV
	previous *generation // the master key before, which only unwraps; nil without a rotation
	cache    *cache
	pins     pinGuard
}

var _ HSM = (*Software)(nil)

// NewSoftware starts an HSM with a master key of 32 bytes (AES-256), of which
// it keeps no copy: the caller clears it. A previous master key unwraps what
// was wrapped under it and wraps nothing. Create and Open keep a master key in
// a sealed file.
func NewSoftware(master []byte, previous ...[]byte) (*Software, error) {
	now, err := newGeneration(master)
	if err != nil {
		return nil, err
	}
	s := &Software{blocks: now.blocks, check: now.check, cache: newCache(cacheKeys)}
	switch len(previous) {
	case 0:
	case 1:
		if s.previous, err = newGeneration(previous[0]); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("hsm: %d previous master keys, want at most one", len(previous))
	}
	return s, nil
}

// MasterCheckValue tells master keys apart: the first 4 bytes of the CMAC of a
// zero block (X9.24-1).
func (s *Software) MasterCheckValue() KCV { return s.check }

// String, GoString, Format and LogValue show the check value of the master
// key.
func (s *Software) String() string {
	if s == nil {
		return "no HSM"
	}
	return "software HSM, master key " + s.check.Short()
}
func (s *Software) GoString() string              { return s.String() }
func (s *Software) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, s.String()) }
func (s *Software) LogValue() slog.Value          { return slog.StringValue(s.String()) }
func (s *Software) MarshalText() ([]byte, error)  { return []byte(s.String()), nil }

// expanded is a key taken out of its block and made ready for its verbs.
type expanded struct {
	use    Use
	alg    Alg
	export byte
	key    *algo.Key   // every key but HMAC keys
	aead   cipher.AEAD // DEK
	hmacs  *sync.Pool  // HMAC key: *hmacState
	recent atomic.Bool // asked for since the cache last made room
}

type hmacState struct {
	hash hash.Hash
	sum  [sha256.Size]byte
}

// String and Format keep the pointers of an expanded key out of logs.
func (k *expanded) String() string                { return k.use.String() }
func (k *expanded) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, k.String()) }

// load returns the expanded key for a verb that takes the uses wanted.
func (s *Software) load(verb string, key Key, wanted ...Use) (*expanded, error) {
	k := s.cache.get(key)
	if k == nil {
		var err error
		if k, err = s.unwrap(key); err != nil {
			return nil, fmt.Errorf("hsm: %s: %w", verb, err)
		}
		s.cache.put(key, k)
	}
	for _, u := range wanted {
		if k.use == u {
			return k, nil
		}
	}
	return nil, fmt.Errorf("hsm: %s with a %v: %w", verb, k.use, ErrKeyUse)
}

// unwrap takes a key out of its block and checks that the block says of it
// what this HSM writes.
func (s *Software) unwrap(key Key) (*expanded, error) {
	h, clearKey, _, err := s.open(key)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrKey, err)
	}
	defer clear(clearKey)
	use, alg, ok := readHeader(h, len(clearKey))
	if !ok {
		return nil, fmt.Errorf("%w: its header names no use known here", ErrKey)
	}
	return expand(use, alg, h.Export, clearKey)
}

func expand(use Use, alg Alg, export byte, clearKey []byte) (*expanded, error) {
	k := &expanded{use: use, alg: alg, export: export}
	if alg == HMAC32 {
		secret := slices.Clone(clearKey)
		k.hmacs = &sync.Pool{New: func() any { return &hmacState{hash: hmac.New(sha256.New, secret)} }}
		return k, nil
	}
	var err error
	if k.key, err = algo.NewKey(algRules[alg].cipher, clearKey); err != nil {
		return nil, err
	}
	if use == UseDEK {
		k.aead, err = cipher.NewGCMWithRandomNonce(k.key.Block())
	}
	return k, err
}

// checkValue of DES keys and SM4 is an encrypted zero block, of AES keys a
// CMAC (X9.24-1), of HMAC keys the HMAC of nothing.
func (k *expanded) checkValue() (kcv KCV) {
	switch k.alg {
	case HMAC32:
		st := k.hmacs.Get().(*hmacState)
		st.hash.Reset()
		copy(kcv[:], st.hash.Sum(st.sum[:0]))
		k.hmacs.Put(st)
	case AES16, AES32:
		copy(kcv[:], k.key.CheckValueCMAC())
	default:
		copy(kcv[:], k.key.CheckValue())
	}
	return kcv
}

// MAC implements HSM.
func (s *Software) MAC(_ context.Context, key Key, alg MACAlg, data []byte) ([8]byte, error) {
	return s.mac("MAC", key, alg, data)
}

// VerifyMAC implements HSM.
func (s *Software) VerifyMAC(_ context.Context, key Key, alg MACAlg, data, mac []byte) error {
	want, err := s.mac("VerifyMAC", key, alg, data)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want[:], mac) != 1 {
		return ErrMAC
	}
	return nil
}

func (s *Software) mac(verb string, key Key, alg MACAlg, data []byte) (mac [8]byte, err error) {
	k, err := s.load(verb, key, UseTAK, UseZAK, UseTAK919, UseZAK919, UseTAKCMAC, UseZAKCMAC)
	if err != nil {
		return mac, err
	}
	if !slices.Contains(useRules[k.use].macs, alg) {
		return mac, fmt.Errorf("hsm: %s of this kind with a %v: %w", verb, k.use, ErrKeyUse)
	}
	switch alg {
	case MACUnionPay:
		return k.key.UnionPayMAC(data), nil
	case MACX919:
		_, err = k.key.AppendRetailMAC(mac[:0], algo.PadZeros, data)
		return mac, err
	case MACX99:
		return k.key.X99MAC(data), nil
	default:
		return k.key.CMAC(data), nil
	}
}

// Encrypt implements HSM. The result is 28 bytes longer than data: 12 of
// nonce, 16 of tag. Nonces are random, so one DEK is good for 2^32 of them
// (NIST SP 800-38D, 8.3).
func (s *Software) Encrypt(_ context.Context, key Key, aad, data []byte) ([]byte, error) {
	k, err := s.load("Encrypt", key, UseDEK)
	if err != nil {
		return nil, err
	}
	return k.aead.Seal(make([]byte, 0, len(data)+k.aead.Overhead()), nil, data, aad), nil
}

// Decrypt implements HSM.
func (s *Software) Decrypt(_ context.Context, key Key, aad, data []byte) ([]byte, error) {
	k, err := s.load("Decrypt", key, UseDEK)
	if err != nil {
		return nil, err
	}
	out, err := k.aead.Open(nil, nil, data, aad)
	if err != nil {
		return nil, ErrData
	}
	return out, nil
}

// Token implements HSM.
func (s *Software) Token(_ context.Context, key Key, data []byte) (token [16]byte, err error) {
	k, err := s.load("Token", key, UseHMAC)
	if err != nil {
		return token, err
	}
	st := k.hmacs.Get().(*hmacState)
	st.hash.Reset()
	st.hash.Write(data)
	copy(token[:], st.hash.Sum(st.sum[:0]))
	k.hmacs.Put(st)
	return token, nil
}

// DecryptTrack implements HSM.
func (s *Software) DecryptTrack(_ context.Context, tdk Key, scheme TrackScheme, track []byte) ([]byte, error) {
	k, err := s.load("DecryptTrack", tdk, UseTDK)
	if err != nil {
		return nil, err
	}
	out, err := algo.AppendDecryptedTrack(nil, k.key, scheme, track)
	if err != nil {
		return nil, ErrTrack
	}
	return out, nil
}

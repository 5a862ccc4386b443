package algo

import (
	"crypto/subtle"
	"errors"
	"fmt"
)

// ErrDE62 says that working keys could not be read.
var ErrDE62 = errors.New("algo: DE 62 does not hold working keys under this TMK")

// SignInKeys are a terminal's working keys, expanded. TDK is nil when the set
// has none.
type SignInKeys struct{ PIK, MAK, TDK *Key }

// AppendDE62 appends the working keys of a sign-in answer: each key encrypted
// under the TMK (ECB), followed by 4 bytes of check value (UnionPay POS
// terminal specification; docs/hsm.md). Keys of 8 bytes for PIK and MAK make
// the 24 bytes of set 001; a PIK of 16 the 40 bytes of set 003, where a MAK
// of 8 bytes stands before 8 zero bytes; a TDK of 16 the 60 bytes of set 004.
// Under an SM4 TMK all three are SM4 keys: the 60 bytes of set 005.
func AppendDE62(dst []byte, tmk *Key, pik, mak, tdk []byte) ([]byte, error) {
	var err error
	switch sm4 := tmk.cipher == SM4; {
	case sm4 && len(pik) == 16 && len(mak) == 16 && len(tdk) == 16,
		!sm4 && len(pik) == 8 && len(mak) == 8 && tdk == nil,
		!sm4 && len(pik) == 16 && (len(mak) == 8 || len(mak) == 16) && (tdk == nil || len(tdk) == 16):
	default:
		return dst, fmt.Errorf("algo: working keys of %d, %d and %d bytes under a %v TMK are no set of DE 60.3 001, 003, 004 or 005", len(pik), len(mak), len(tdk), tmk.cipher)
	}
	start := len(dst)
	for _, key := range [][]byte{pik, mak, tdk} {
		if key != nil {
			if dst, err = appendWorkingKey(dst, tmk, key, len(pik)); err != nil {
				return dst[:start], err
			}
		}
	}
	return dst, nil
}

// appendWorkingKey appends one key, in a slot of the given length, and its
// check value.
func appendWorkingKey(dst []byte, tmk *Key, key []byte, slot int) ([]byte, error) {
	k, err := newWorkingKey(tmk, key)
	if err != nil {
		return dst, err
	}
	sealed := make([]byte, slot)
	if err := tmk.EncryptECB(sealed, key); err != nil {
		return dst, err
	}
	return append(append(dst, sealed...), k.CheckValue()[:4]...), nil
}

// newWorkingKey expands a key that travels under tmk: they are of one family.
func newWorkingKey(tmk *Key, key []byte) (*Key, error) {
	if tmk.cipher == SM4 {
		return NewKey(SM4, key)
	}
	return NewDESKey(key)
}

// ParseDE62 reads 24, 40 or 60 bytes of working keys and compares every check
// value. A MAK whose second half on the wire is zeros has single length. Under
// an SM4 TMK it reads the 60 bytes of set 005, and the 57 that some hosts send:
// the last check value cut to one byte.
func ParseDE62(tmk *Key, de62 []byte) (SignInKeys, error) {
	clears, err := splitDE62(tmk, de62)
	if err != nil {
		return SignInKeys{}, err
	}
	var keys SignInKeys
	for i, to := range []**Key{&keys.PIK, &keys.MAK, &keys.TDK}[:len(clears)] {
		*to, err = newWorkingKey(tmk, clears[i])
		clear(clears[i])
		if err != nil {
			return SignInKeys{}, err
		}
	}
	return keys, nil
}

// splitDE62 returns the clear keys.
func splitDE62(tmk *Key, de62 []byte) ([][]byte, error) {
	slot, sm4 := 16, tmk.cipher == SM4
	switch n := len(de62); {
	case tmk.cipher == AES:
		return nil, fmt.Errorf("%w: the TMK is a %v key", ErrDE62, tmk.cipher)
	case sm4 && (n == 57 || n == 60), !sm4 && (n == 40 || n == 60):
	case sm4:
		return nil, fmt.Errorf("%w: %d bytes under an SM4 TMK, want 57 or 60", ErrDE62, n)
	case n == 24:
		slot = 8
	default:
		return nil, fmt.Errorf("%w: %d bytes, want 24, 40 or 60", ErrDE62, n)
	}
	var keys [][]byte
	for at := 0; at < len(de62); at += slot + 4 {
		sealed, kcv := de62[at:at+slot], de62[at+slot:min(at+slot+4, len(de62))]
		if i := at / (slot + 4); i == 1 && slot == 16 && !sm4 && allZero(sealed[8:]) {
			sealed = sealed[:8]
		}
		key := make([]byte, len(sealed))
		if err := tmk.DecryptECB(key, sealed); err != nil {
			return nil, err
		}
		k, err := newWorkingKey(tmk, key)
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(k.CheckValue()[:len(kcv)], kcv) != 1 {
			return nil, fmt.Errorf("%w: check value of key %d", ErrDE62, at/(slot+4)+1)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func allZero(b []byte) bool {
	var or byte
	for _, v := range b {
		or |= v
	}
	return or == 0
}

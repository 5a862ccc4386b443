package algo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// KSN is a key serial number of DUKPT as it travels: 10 bytes with TDES, 12
// with AES. It says which initial key a terminal got, and which of the keys
// derived from it a message used.
type KSN []byte

// ErrKSN says that a key serial number can be of no terminal: its length, a
// counter of zero, or one with more one bits than a terminal ever counts to.
var ErrKSN = errors.New("algo: key serial number of no DUKPT terminal")

// Counter is the transaction counter: of 21 bits with TDES, of 32 with AES.
func (k KSN) Counter() (uint32, error) {
	if len(k) == 12 {
		return k.aesCounter()
	}
	return k.tdesCounter()
}

// tdesCounter is the transaction counter of a KSN of 10 bytes: its last 21
// bits. Terminals skip counters with more than 10 one bits (X9.24-1:2009, A.2).
func (k KSN) tdesCounter() (uint32, error) {
	if len(k) != 10 {
		return 0, fmt.Errorf("%w: %d bytes, want 10 for TDES", ErrKSN, len(k))
	}
	counter := binary.BigEndian.Uint32(k[6:]) & 0x1FFFFF
	if counter == 0 || bits.OnesCount32(counter) > 10 {
		return 0, fmt.Errorf("%w: counter %06X, want 1 to 10 one bits", ErrKSN, counter)
	}
	return counter, nil
}

// aesCounter is the transaction counter of a KSN of 12 bytes: its last 32
// bits. Terminals skip counters with more than 16 one bits, and the last is
// FFFF0000 (X9.24-3:2017, 6.3).
func (k KSN) aesCounter() (uint32, error) {
	if len(k) != 12 {
		return 0, fmt.Errorf("%w: %d bytes, want 12 for AES", ErrKSN, len(k))
	}
	counter := binary.BigEndian.Uint32(k[8:])
	if counter == 0 || bits.OnesCount32(counter) > 16 {
		return 0, fmt.Errorf("%w: counter %08X, want 1 to 16 one bits", ErrKSN, counter)
	}
	return counter, nil
}

// dukptMask makes the second half of keys, and of what is derived with them
// (X9.24-1:2009, A.6): C0 in bytes 0 to 3 and 8 to 11.
var dukptMask = [16]byte{0xC0, 0xC0, 0xC0, 0xC0, 8: 0xC0, 9: 0xC0, 10: 0xC0, 11: 0xC0}

func xor16(a, b [16]byte) [16]byte {
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}

// TDESInitialKey is the key that a terminal gets: the KSN without its counter
// under the base derivation key of 16 bytes (X9.24-1:2009, A.6).
func TDESInitialKey(bdk []byte, ksn KSN) (ik [16]byte, err error) {
	if len(bdk) != 16 {
		return ik, fmt.Errorf("algo: a TDES base derivation key of %d bytes, want 16", len(bdk))
	}
	if len(ksn) != 10 {
		return ik, fmt.Errorf("%w: %d bytes, want 10 for TDES", ErrKSN, len(ksn))
	}
	serial := [8]byte(ksn[:8])
	serial[7] &= 0xE0
	base := [16]byte(bdk)
	defer clear(base[:])
	for i, key := range [2][16]byte{base, xor16(base, dukptMask)} {
		k, err := NewKey(TDES, key[:])
		if err != nil {
			return ik, err
		}
		half := k.Encrypt8(serial)
		copy(ik[8*i:], half[:])
	}
	return ik, nil
}

// TDESTransactionKey derives the key of one transaction from an initial key:
// one step for every one bit of the counter, from the highest (X9.24-1:2009,
// A.3). It is never used by itself: variants of it are (TDESWorkingKey).
func TDESTransactionKey(ik [16]byte, ksn KSN) (key [16]byte, err error) {
	counter, err := ksn.tdesCounter()
	if err != nil {
		return key, err
	}
	register := [8]byte(ksn[2:])
	register[5] &= 0xE0
	register[6], register[7] = 0, 0
	key = ik
	for bit := uint32(1 << 20); bit > 0; bit >>= 1 {
		if counter&bit == 0 {
			continue
		}
		register[5] |= byte(bit >> 16)
		register[6] |= byte(bit >> 8)
		register[7] |= byte(bit)
		var next [16]byte
		for i, from := range [2][16]byte{xor16(key, dukptMask), key} { // left, then right half
			k, err := NewKey(DES, from[:8])
			if err != nil {
				return key, err
			}
			in := register
			for j := range in {
				in[j] ^= from[8+j]
			}
			in = k.Encrypt8(in)
			for j := range in {
				next[8*i+j] = in[j] ^ from[8+j]
			}
		}
		key = next
	}
	return key, nil
}

// DUKPTUse is what a working key of DUKPT is for. The values are the key usage
// indicators of X9.24-3:2017, table 1; TDES has some of them.
type DUKPTUse uint16

// The uses. Request is what the terminal sends and response what it gets: MAC
// generation and data encryption are of the terminal, MAC verification and
// data decryption of the host's answer.
const (
	DUKPTKeyEncryption DUKPTUse = 0x0002
	DUKPTPIN           DUKPTUse = 0x1000
	DUKPTMACRequest    DUKPTUse = 0x2000
	DUKPTMACResponse   DUKPTUse = 0x2001
	DUKPTMACBoth       DUKPTUse = 0x2002
	DUKPTDataRequest   DUKPTUse = 0x3000
	DUKPTDataResponse  DUKPTUse = 0x3001
	DUKPTDataBoth      DUKPTUse = 0x3002

	dukptDerivation DUKPTUse = 0x8000
	dukptInitialKey DUKPTUse = 0x8001
)

// tdesVariants are the bytes of each half that a use complements
// (X9.24-1:2009, A.4.1).
var tdesVariants = map[DUKPTUse]int{
	DUKPTPIN: 7, DUKPTMACRequest: 6, DUKPTMACResponse: 4, DUKPTDataRequest: 5, DUKPTDataResponse: 3,
}

// TDESWorkingKey is the variant of a transaction key for a use. That for data
// is encrypted under itself once more, so that a data key found out does not
// give the PIN key.
func TDESWorkingKey(transaction [16]byte, use DUKPTUse) (key [16]byte, err error) {
	at, ok := tdesVariants[use]
	if !ok {
		return key, fmt.Errorf("algo: TDES DUKPT has no key of use %04X", uint16(use))
	}
	key = transaction
	key[at] ^= 0xFF
	key[8+at] ^= 0xFF
	if use == DUKPTDataRequest || use == DUKPTDataResponse {
		k, err := NewKey(TDES, key[:])
		if err != nil {
			return key, err
		}
		if err := k.EncryptECB(key[:], key[:]); err != nil {
			return key, err
		}
	}
	return key, nil
}

// DUKPTAlg is the kind of a key of AES DUKPT (X9.24-3:2017, table 2).
type DUKPTAlg uint16

// The kinds. A derived key is never stronger than the one it comes from.
const (
	DUKPTTDES2   DUKPTAlg = 0
	DUKPTTDES3   DUKPTAlg = 1
	DUKPTAES128  DUKPTAlg = 2
	DUKPTAES192  DUKPTAlg = 3
	DUKPTAES256  DUKPTAlg = 4
	DUKPTHMAC128 DUKPTAlg = 5 | 128<<4 // HMAC has one indicator; the length tells its sizes apart
	DUKPTHMAC192 DUKPTAlg = 5 | 192<<4
	DUKPTHMAC256 DUKPTAlg = 5 | 256<<4
)

// bits is the length of such a key, and the strength it stands for.
func (a DUKPTAlg) bits() (length, strength int) {
	switch a {
	case DUKPTTDES2:
		return 128, 80
	case DUKPTTDES3:
		return 192, 112
	case DUKPTAES128, DUKPTHMAC128:
		return 128, 128
	case DUKPTAES192, DUKPTHMAC192:
		return 192, 192
	case DUKPTAES256, DUKPTHMAC256:
		return 256, 256
	}
	return 0, 0
}

// aesAlg is the kind of a clear AES key.
func aesAlg(key []byte) (DUKPTAlg, error) {
	switch len(key) {
	case 16:
		return DUKPTAES128, nil
	case 24:
		return DUKPTAES192, nil
	case 32:
		return DUKPTAES256, nil
	}
	return 0, fmt.Errorf("algo: an AES DUKPT key of %d bytes, want 16, 24 or 32", len(key))
}

// deriveAES makes one key from another (X9.24-3:2017, 6.2 and 6.3): blocks of
// version, block counter, use, kind and length, and 8 bytes that say whose key
// it is, encrypted until there is enough of it.
func deriveAES(from []byte, use DUKPTUse, alg DUKPTAlg, whose [8]byte) ([]byte, error) {
	fromAlg, err := aesAlg(from)
	if err != nil {
		return nil, err
	}
	length, strength := alg.bits()
	if _, most := fromAlg.bits(); length == 0 || strength > most {
		return nil, fmt.Errorf("algo: AES DUKPT derives no key of kind %d from one of %d bytes", alg&15, len(from))
	}
	k, err := NewKey(AES, from)
	if err != nil {
		return nil, err
	}
	block := [16]byte{0: 1}
	binary.BigEndian.PutUint16(block[2:], uint16(use))
	binary.BigEndian.PutUint16(block[4:], uint16(alg&15))
	binary.BigEndian.PutUint16(block[6:], uint16(length))
	copy(block[8:], whose[:])
	var out []byte
	for len(out)*8 < length {
		block[1]++
		sealed := make([]byte, 16)
		if err := k.EncryptECB(sealed, block[:]); err != nil {
			return nil, err
		}
		out = append(out, sealed...)
	}
	return out[:length/8], nil
}

// AESInitialKey is the key that a terminal gets: its initial key ID of 8
// bytes, the front of its KSN, under a base derivation key of 16, 24 or 32
// bytes. The initial key has the length of the base key.
func AESInitialKey(bdk, id []byte) ([]byte, error) {
	if len(id) != 8 {
		return nil, fmt.Errorf("%w: an initial key ID of %d bytes, want 8", ErrKSN, len(id))
	}
	alg, err := aesAlg(bdk)
	if err != nil {
		return nil, err
	}
	return deriveAES(bdk, dukptInitialKey, alg, [8]byte(id))
}

// AESDerivationKey derives the key of one transaction from an initial key: one
// step for every one bit of the counter, from the highest. Working keys come
// from it (AESWorkingKey).
func AESDerivationKey(ik []byte, ksn KSN) ([]byte, error) {
	counter, err := ksn.aesCounter()
	if err != nil {
		return nil, err
	}
	alg, err := aesAlg(ik)
	if err != nil {
		return nil, err
	}
	key, reached := ik, uint32(0)
	for bit := uint32(1 << 31); bit > 0; bit >>= 1 {
		if counter&bit == 0 {
			continue
		}
		reached |= bit
		if key, err = deriveAES(key, dukptDerivation, alg, whose(ksn, reached)); err != nil {
			return nil, err
		}
	}
	return key, nil
}

// AESWorkingKey derives a transaction's key for a use.
func AESWorkingKey(derivation []byte, ksn KSN, use DUKPTUse, alg DUKPTAlg) ([]byte, error) {
	counter, err := ksn.aesCounter()
	if err != nil {
		return nil, err
	}
	return deriveAES(derivation, use, alg, whose(ksn, counter))
}

// whose names a transaction: the last 4 bytes of the initial key ID and the
// counter.
func whose(ksn KSN, counter uint32) (b [8]byte) {
	copy(b[:], ksn[4:8])
	binary.BigEndian.PutUint32(b[4:], counter)
	return b
}

package algo

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/bits"
)

// Reasons why a DES key is refused. crypto/des checks none of this.
var (
	ErrWeakKey       = errors.New("algo: weak or semi-weak DES key")
	ErrRepeatedParts = errors.New("algo: parts of the key are equal: a single-length key in the clothes of a longer one")
	ErrParity        = errors.New("algo: key without odd parity")
)

// SetOddParity makes every byte odd by its lowest bit, which DES ignores
// (FIPS 46-3).
func SetOddParity(key []byte) {
	for i, b := range key {
		key[i] = b&0xFE | byte(bits.OnesCount8(b>>1)+1)&1
	}
}

// OddParity reports whether every byte has an odd number of ones.
func OddParity(key []byte) bool {
	even := 0
	for _, b := range key {
		even |= bits.OnesCount8(b) + 1
	}
	return even&1 == 0
}

// weakKeys are the 4 weak and 12 semi-weak keys of DES with odd parity
// (NIST SP 800-67 rev. 2, 3.3.2).
var weakKeys = [...]uint64{
	0x0101010101010101, 0xFEFEFEFEFEFEFEFE, 0xE0E0E0E0F1F1F1F1, 0x1F1F1F1F0E0E0E0E,
	0x011F011F010E010E, 0x1F011F010E010E01, 0x01E001E001F101F1, 0xE001E001F101F101,
	0x01FE01FE01FE01FE, 0xFE01FE01FE01FE01, 0x1FE01FE00EF10EF1, 0xE01FE01FF10EF10E,
	0x1FFE1FFE0EFE0EFE, 0xFE1FFE1FFE0EFE0E, 0xE0FEE0FEF1FEF1FE, 0xFEE0FEE0FEF1FEF1,
}

// CheckDES refuses keys that no device should take: a weak or semi-weak
// part, two equal parts. Parity bits do not matter to it.
func CheckDES(key []byte) error {
	if len(key) != 8 && len(key) != 16 && len(key) != 24 {
		return errors.New("algo: a DES key has 8, 16 or 24 bytes")
	}
	odd := bytes.Clone(key)
	defer clear(odd)
	SetOddParity(odd)
	for i := 0; i < len(odd); i += 8 {
		part := binary.BigEndian.Uint64(odd[i:])
		weak := 0
		for _, w := range weakKeys {
			weak |= subtle.ConstantTimeEq(int32(part>>32), int32(w>>32)) &
				subtle.ConstantTimeEq(int32(part), int32(w))
		}
		if weak != 0 {
			return ErrWeakKey
		}
		for j := range i / 8 {
			if subtle.ConstantTimeCompare(odd[i:i+8], odd[j*8:j*8+8]) == 1 {
				return ErrRepeatedParts
			}
		}
	}
	return nil
}

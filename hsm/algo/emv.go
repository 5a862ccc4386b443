package algo

import (
	"crypto/sha1"
	"crypto/subtle"
	"errors"
)

// Derivation is how a card's own key comes from the issuer's master key (EMV
// 4.4 Book 2, A1.4).
type Derivation uint8

// OptionA takes the rightmost 16 digits of account number and sequence
// number; OptionB hashes account numbers of more than 16 digits and is option
// A for the others.
const (
	OptionA Derivation = iota
	OptionB
)

var errCardKey = errors.New("algo: a card key wants a TDES master key, an account number of at most 19 digits and two digits of sequence number")

// ICCKey derives a card's key from the issuer master key imk.
func ICCKey(imk *Key, d Derivation, pan, psn string) (*Key, error) {
	b, err := iccKey(imk, d, pan, psn)
	if err != nil {
		return nil, err
	}
	defer clear(b[:])
	return NewKey(TDES, b[:])
}

func iccKey(imk *Key, d Derivation, pan, psn string) (key [16]byte, err error) {
	if psn == "" {
		psn = "00"
	}
	if imk.cipher != TDES || len(pan) < 1 || len(pan) > 19 || len(psn) != 2 || !isDigits(pan) || !isDigits(psn) {
		return key, errCardKey
	}
	digits := pan + psn
	if d == OptionB && len(pan) > 16 {
		if len(digits)%2 == 1 {
			digits = "0" + digits
		}
		sum := sha1.Sum(packBCD(nil, digits))
		digits = string(decimalise(nil, sum[:], 16))
	}
	for len(digits) < 16 {
		digits = "0" + digits
	}
	var y [8]byte
	packBCD(y[:0], digits[len(digits)-16:])
	left := imk.Encrypt8(y)
	for i := range y {
		y[i] = ^y[i]
	}
	right := imk.Encrypt8(y)
	copy(key[:], left[:])
	copy(key[8:], right[:])
	SetOddParity(key[:])
	return key, nil
}

// pair makes a key of two encrypted blocks.
func pair(icc *Key, left, right [8]byte) (*Key, error) {
	if icc.cipher != TDES {
		return nil, errCardKey
	}
	var key [16]byte
	l, r := icc.Encrypt8(left), icc.Encrypt8(right)
	copy(key[:], l[:])
	copy(key[8:], r[:])
	defer clear(key[:])
	return NewKey(TDES, key[:])
}

// CommonSessionKey derives the EMV common session key (Book 2, A1.3.1) from
// the card's key and the diversification value r: CommonR of the transaction
// counter for cryptograms, the ARQC for scripts.
func CommonSessionKey(icc *Key, r [8]byte) (*Key, error) {
	left, right := r, r
	left[2], right[2] = 0xF0, 0x0F
	return pair(icc, left, right)
}

// CommonR is the diversification value of cryptograms: the counter, then
// zeros.
func CommonR(atc [2]byte) [8]byte { return [8]byte{atc[0], atc[1]} }

// MChipR is the diversification value of M/Chip 2.1: counter, two zeros,
// unpredictable number.
func MChipR(atc [2]byte, un [4]byte) [8]byte {
	return [8]byte{atc[0], atc[1], 0, 0, un[0], un[1], un[2], un[3]}
}

// PBOCSessionKey derives the session key of PBOC 3.0 and UnionPay cards: the
// counter at the end of a block of zeros, and its complement there.
func PBOCSessionKey(icc *Key, atc [2]byte) (*Key, error) {
	return pair(icc,
		[8]byte{6: atc[0], 7: atc[1]},
		[8]byte{6: ^atc[0], 7: ^atc[1]})
}

// VisaScriptKey derives the key of Visa issuer scripts: the counter and its
// complement XORed into the ends of the two halves of the card's key.
func VisaScriptKey(imk *Key, d Derivation, pan, psn string, atc [2]byte) (*Key, error) {
	b, err := iccKey(imk, d, pan, psn)
	if err != nil {
		return nil, err
	}
	defer clear(b[:])
	b[6] ^= atc[0]
	b[7] ^= atc[1]
	b[14] ^= ^atc[0]
	b[15] ^= ^atc[1]
	return NewKey(TDES, b[:])
}

// ARQC is the application cryptogram over the values the card put together:
// ISO 9797-1 algorithm 3. The card's scheme gives key and padding: PBOC its
// session key and PadBit, Visa CVN 10 the card's key and PadZeros.
func ARQC(key *Key, pad Padding, data []byte) ([8]byte, error) {
	var ac [8]byte
	_, err := key.AppendRetailMAC(ac[:0], pad, data)
	return ac, err
}

// ARPC1 is the issuer's answer of method 1 (Book 2, 8.2.1): the cryptogram
// with the authorisation response code, two characters as sent in DE 39, over
// its first two bytes, encrypted.
func ARPC1(key *Key, arqc [8]byte, arc [2]byte) ([8]byte, error) {
	if key.cipher != TDES {
		return [8]byte{}, ErrRetailKey
	}
	subtle.XORBytes(arqc[:2], arqc[:2], arc[:])
	return key.Encrypt8(arqc), nil
}

// ARPC2 is the issuer's answer of method 2 (Book 2, 8.2.2): 4 bytes of MAC
// over the cryptogram, the card status update and up to 8 bytes of
// proprietary data.
func ARPC2(key *Key, arqc [8]byte, csu [4]byte, proprietary []byte) ([4]byte, error) {
	var arpc [4]byte
	if len(proprietary) > 8 {
		return arpc, errors.New("algo: ARPC method 2 takes at most 8 bytes of proprietary data")
	}
	var buf [20]byte
	data := append(append(append(buf[:0], arqc[:]...), csu[:]...), proprietary...)
	var mac [8]byte
	if _, err := key.AppendRetailMAC(mac[:0], PadBit, data); err != nil {
		return arpc, err
	}
	copy(arpc[:], mac[:])
	return arpc, nil
}

package algo

import (
	"bytes"
	"errors"
	"fmt"
)

// ScriptPadding is how the confidential data of an issuer script is brought to
// whole blocks and encrypted.
type ScriptPadding uint8

// The paddings. ScriptEMV always appends 80 and zeros, CBC from zeros (EMV
// Book 2, A1.2.1; CCD). ScriptMChip does so only when the data is not whole
// blocks, CBC. ScriptVisa puts the length in one byte in front, 80 and zeros
// behind when that is not whole blocks, ECB.
const (
	ScriptEMV ScriptPadding = iota + 1
	ScriptMChip
	ScriptVisa
)

// ScriptMAC is the MAC of an issuer script: ISO 9797-1 algorithm 3, padding 2,
// of which the card takes the first 4 to 8 bytes. key is the session key of
// message integrity; data is the command's header and data, with what the
// scheme puts in front of or between them.
func ScriptMAC(key *Key, data []byte) ([8]byte, error) {
	var mac [8]byte
	_, err := key.AppendRetailMAC(mac[:0], PadBit, data)
	return mac, err
}

// EncryptScript encrypts the confidential data of a script under the session
// key of message confidentiality.
func EncryptScript(key *Key, pad ScriptPadding, data []byte) ([]byte, error) {
	if key.cipher != TDES {
		return nil, errors.New("algo: script data is encrypted under a TDES key")
	}
	if len(data) == 0 || len(data) > 255 {
		return nil, fmt.Errorf("algo: %d bytes of script data, want 1 to 255", len(data))
	}
	var b []byte
	switch pad {
	case ScriptEMV:
		b = append(bytes.Clone(data), 0x80)
	case ScriptMChip:
		if b = bytes.Clone(data); len(b)%8 != 0 {
			b = append(b, 0x80)
		}
	case ScriptVisa:
		if b = append([]byte{byte(len(data))}, data...); len(b)%8 != 0 {
			b = append(b, 0x80)
		}
	default:
		return nil, fmt.Errorf("algo: script padding %d is none of EMV, M/Chip and Visa", pad)
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	if pad == ScriptVisa {
		return b, key.EncryptECB(b, b)
	}
	return b, key.EncryptCBC(make([]byte, 8), b, b)
}

// VisaPINBlock is the clear PIN block of a PIN change for a Visa card (VIS 1.5,
// appendix C): format 0 with 4 bytes of the card's own cryptogram key, made of
// imk, in the place of the account number; and the current PIN XORed over its
// front when the card has to be shown that too (nil when not).
func VisaPINBlock(imk *Key, d Derivation, pan, psn string, pin PIN, current *PIN) (b [8]byte, err error) {
	udk, err := iccKey(imk, d, pan, psn)
	if err != nil {
		return b, err
	}
	defer clear(udk[:])
	full, err := encodePIN(UnionPayNoPAN, pin, "") // 0, the length, the PIN, F
	if err != nil {
		return b, err
	}
	copy(b[:], full[:8])
	for i := range 4 {
		b[4+i] ^= udk[4+i]
	}
	if current != nil {
		for i := range current.n {
			setNibble(b[:], i, nibble(b[:], i)^current.digits[i])
		}
	}
	return b, nil
}

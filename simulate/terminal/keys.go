package terminal

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"acquirer/hsm/algo"
)

// MACAlg is how a terminal computes DE 64 under its TAK.
type MACAlg string

// The MAC algorithms of terminal profiles. The UnionPay MAC fills DE 64 with
// 8 upper-case hex characters, the others with 8 bytes.
const (
	MACUnionPay MACAlg = "unionpay" // ECB fold, single or double length (protocol.md 5.2)
	MACX99      MACAlg = "x99"      // CBC-MAC, single or double length
	MACX919     MACAlg = "x919"     // retail MAC, double length only (5.3)
	MACCMAC     MACAlg = "cmac"     // CMAC of the key's cipher, NIST SP 800-38B
	MACSM4      MACAlg = "sm4"      // ECB fold under an SM4 key (5.4)
)

// computeMAC is DE 64 over block, which runs from the MTI to the field before
// it. It does not allocate.
func computeMAC(tak *algo.Key, alg MACAlg, block []byte) (out [8]byte, err error) {
	switch alg {
	case MACUnionPay:
		return tak.UnionPayMAC(block), nil
	case MACSM4:
		if tak.Cipher() != algo.SM4 {
			return out, fmt.Errorf("terminal: the profile's MAC is sm4, but its key is a %v", tak)
		}
		return tak.UnionPayMAC(block), nil
	case MACX99:
		return tak.X99MAC(block), nil
	case MACX919:
		_, err := tak.AppendRetailMAC(out[:0], algo.PadZeros, block)
		return out, err
	case MACCMAC:
		return tak.CMAC(block), nil
	}
	return out, fmt.Errorf("terminal: profile names MAC %q; it is unionpay, x99, x919, cmac or sm4", alg)
}

// PINStyle is how a terminal makes PIN blocks: DE 53, first digit.
type PINStyle string

// The styles.
const (
	PINWithPAN    PINStyle = "pan"    // 2: X9.8 with the account number
	PINWithoutPAN PINStyle = "no-pan" // 1: X9.8 without it
)

// sm4PINTag begins DE 63 with a PIN block under SM4 (protocol.md 6.4).
const sm4PINTag = "SM"

// sealPIN makes the PIN block under the TPK: of 8 bytes for DE 52 (protocol.md
// 6.1, 6.2), or, under an SM4 key, of 16 for DE 63, and DE 52 is zeros (6.4).
func sealPIN(tpk *algo.Key, style PINStyle, pin, pan string) (block [8]byte, sm4 []byte, err error) {
	p, err := algo.ParsePIN(pin)
	if err != nil {
		return block, nil, err
	}
	format := algo.ISO0
	switch wide := tpk.Cipher() == algo.SM4; {
	case wide && style == PINWithoutPAN:
		format = algo.SM4NoPAN
	case wide:
		format = algo.SM4WithPAN
	case style == PINWithoutPAN:
		format = algo.UnionPayNoPAN
	}
	sealed, err := algo.SealPIN(tpk, format, p, pan)
	if err != nil {
		return block, nil, err
	}
	if sealed.Len() == 16 {
		return block, sealed.Bytes(), nil
	}
	return [8]byte(sealed.Bytes()), nil, nil
}

// TrackScheme is which part of a track a terminal encrypts under its TDK.
type TrackScheme string

// The schemes.
const (
	TrackTDB    TrackScheme = "tdb"    // the 8 bytes before the last one (protocol.md 2.3)
	TrackWhole  TrackScheme = "whole"  // all of the packed track
	TrackLength TrackScheme = "length" // its length before it, then all of it
)

// sealTrack appends track 2 as DE 35 carries it.
func sealTrack(dst []byte, tdk *algo.Key, scheme TrackScheme, track string) ([]byte, error) {
	how := algo.TrackTDB
	switch scheme {
	case TrackWhole:
		how = algo.TrackWhole
	case TrackLength:
		how = algo.TrackLength
	}
	return algo.AppendEncryptedTrack(dst, tdk, how, []byte(track))
}

// masterKey expands a TMK or TTK for a key set: SM4 for set 5, else DES.
func masterKey(set int, key []byte) (*algo.Key, error) {
	if set == 5 {
		return algo.NewKey(algo.SM4, key)
	}
	return algo.NewDESKey(key)
}

// workingKeys reads DE 62 of a sign-in answer and demands the keys of the set.
func workingKeys(tmk *algo.Key, set int, de62 []byte) (algo.SignInKeys, error) {
	keys, err := algo.ParseDE62(tmk, de62)
	if err == nil && ((set == 4 || set == 5) != (keys.TDK != nil) || (set == 1) != (keys.PIK.Len() == 8)) {
		err = fmt.Errorf("DE 62 of %d bytes is not set %03d", len(de62), set)
	}
	if err != nil {
		return algo.SignInKeys{}, err
	}
	return keys, nil
}

// checkedKey expands a key whose check value must fit.
func checkedKey(set int, key, kcv []byte) (*algo.Key, error) {
	k, err := masterKey(set, key)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(k.CheckValue()[:len(kcv)], kcv) != 1 {
		return nil, errors.New("its check value does not fit")
	}
	return k, nil
}

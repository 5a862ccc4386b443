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
	MACCMAC     MACAlg = "cmac"     // TDES CMAC, NIST SP 800-38B
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
		tak.AppendCBCMAC(out[:0], algo.PadZeros, block)
		return out, nil
	case MACX919:
		_, err := tak.AppendRetailMAC(out[:0], algo.PadZeros, block)
		return out, err
	case MACCMAC:
		tak.AppendCMAC(out[:0], block)
		return out, nil
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

// sealPIN makes DE 52 under the TPK: format 0, with sixteen zeros in place of
// the account number in the style without it (protocol.md 6.1, 6.2). Under an
// SM4 key DE 52 would be zeros and sm4 the block of 16 bytes for DE 63; its
// clear form is not published, so that is an error.
func sealPIN(tpk *algo.Key, style PINStyle, pin, pan string) (block [8]byte, sm4 []byte, err error) {
	p, err := algo.ParsePIN(pin)
	if err != nil {
		return block, nil, err
	}
	if tpk.Cipher() == algo.SM4 {
		return block, nil, errors.New("the clear PIN block of 16 bytes for SM4 is not known; type no PIN, or take another key set")
	}
	if style == PINWithoutPAN {
		pan = "0000000000000000"
	}
	clear, err := algo.EncodePIN(algo.ISO0, p, pan)
	if err != nil {
		return block, nil, err
	}
	return tpk.Encrypt8(clear), nil, nil
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
	if scheme != TrackTDB {
		return dst, fmt.Errorf("tracks cannot be encrypted by the scheme %q here; tdb can", scheme)
	}
	return algo.AppendEncryptedTrack(dst, tdk, []byte(track))
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
	if set == 5 {
		return sm4Keys(tmk, de62)
	}
	keys, err := algo.ParseDE62(tmk, de62)
	if err == nil && ((set == 4) != (keys.TDK != nil) || (set == 1) != (keys.PIK.Len() == 8)) {
		err = fmt.Errorf("DE 62 of %d bytes is not set %03d", len(de62), set)
	}
	if err != nil {
		return algo.SignInKeys{}, err
	}
	return keys, nil
}

// sm4Keys reads set 005: PIK, MAK and perhaps TDK, each of 16 bytes under SM4
// with 4 bytes of check value, of which the last may be cut (protocol.md 4.6).
func sm4Keys(tmk *algo.Key, de62 []byte) (keys algo.SignInKeys, err error) {
	if len(de62) != 40 && (len(de62) < 57 || len(de62) > 60) {
		return keys, fmt.Errorf("DE 62 of %d bytes is not set 005", len(de62))
	}
	for i, to := range []**algo.Key{&keys.PIK, &keys.MAK, &keys.TDK} {
		if len(de62) == 0 {
			break
		}
		var key [16]byte
		if err := tmk.DecryptECB(key[:], de62[:16]); err != nil {
			return algo.SignInKeys{}, err
		}
		kcv := de62[16:min(20, len(de62))]
		if *to, err = checkedKey(5, key[:], kcv); err != nil {
			return algo.SignInKeys{}, fmt.Errorf("key %d: %w", i+1, err)
		}
		de62 = de62[16+len(kcv):]
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

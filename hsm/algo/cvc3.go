package algo

import (
	"encoding/binary"
	"fmt"
)

// CVC3 is the dynamic card verification code of a contactless card in
// magnetic-stripe mode (Mastercard PayPass M/Stripe): the last two bytes of
// what the card's key makes of the track's own value, the unpredictable number
// and the transaction counter, as five digits. Cards send the last three or
// so of them. track is track 1 in ASCII or track 2 packed, as it is
// personalised, with the places of CVC3, number and counter as zeros.
func CVC3(imk *Key, d Derivation, pan, psn string, track []byte, un [4]byte, atc [2]byte) (string, error) {
	icc, err := ICCKey(imk, d, pan, psn)
	if err != nil {
		return "", err
	}
	iv, err := cvc3IV(icc, track)
	if err != nil {
		return "", err
	}
	return cvc3(icc, iv, un, atc), nil
}

// cvc3IV is the value of the track: the last two bytes of its MAC.
func cvc3IV(icc *Key, track []byte) (iv [2]byte, err error) {
	var mac [8]byte
	if _, err := icc.AppendRetailMAC(mac[:0], PadBit, track); err != nil {
		return iv, err
	}
	return [2]byte(mac[6:]), nil
}

func cvc3(icc *Key, iv [2]byte, un [4]byte, atc [2]byte) string {
	in := [8]byte{iv[0], iv[1], un[0], un[1], un[2], un[3], atc[0], atc[1]}
	out := icc.Encrypt8(in)
	return fmt.Sprintf("%05d", binary.BigEndian.Uint16(out[6:]))
}

package terminal

import (
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
)

// computeMAC is DE 64 over block, which runs from the MTI to the field before
// it. It does not allocate.
func computeMAC(tak *algo.Key, alg MACAlg, block []byte) (out [8]byte, err error) {
	switch alg {
	case MACUnionPay:
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
	return out, fmt.Errorf("terminal: profile names MAC %q; it is unionpay, x99, x919 or cmac", alg)
}

// pinBlock is DE 52: format 0 under the TPK (protocol.md 6.1, 6.2).
func pinBlock(tpk *algo.Key, pin, pan string) ([8]byte, error) {
	p, err := algo.ParsePIN(pin)
	if err != nil {
		return [8]byte{}, err
	}
	clear, err := algo.EncodePIN(algo.ISO0, p, pan)
	if err != nil {
		return [8]byte{}, err
	}
	return tpk.Encrypt8(clear), nil
}

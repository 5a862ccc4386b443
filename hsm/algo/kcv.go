package algo

// CheckValue returns one encrypted zero block, of which check values of DES
// keys are the first 3 (payShield) or 4 bytes (UnionPay sign-in). Giving away
// more than 5 bytes of it is never needed.
func (k *Key) CheckValue() []byte {
	out := make([]byte, k.cipher.BlockSize())
	k.block.Encrypt(out, out)
	return out
}

// CheckValueCMAC returns the CMAC of one zero block: the check value of AES
// keys is its first 3 or 5 bytes (ANSI X9.24-1:2017 annex A, X9.143).
func (k *Key) CheckValueCMAC() []byte {
	return k.AppendCMAC(nil, make([]byte, k.cipher.BlockSize()))
}

// CheckValueCMACEmpty returns the CMAC of the empty message, which payShield
// prints as the check value of its AES key-block LMK.
func (k *Key) CheckValueCMACEmpty() []byte { return k.AppendCMAC(nil, nil) }

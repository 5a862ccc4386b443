package algo

import "fmt"

// opTDESDUKPT makes every key of a transaction, and what they make of the PIN
// and the data that are given. Data is filled with zeros and encrypted in CBC.
func opTDESDUKPT(in *inputs) map[string]string {
	ksn := KSN(in.hex("ksn"))
	var ik [16]byte
	var err error
	if in.has("ik") {
		ik = in.bytes16("ik")
	} else if ik, err = TDESInitialKey(in.hex("bdk"), ksn); err != nil {
		in.fail(err)
	}
	txn, err := TDESTransactionKey(ik, ksn)
	if err != nil {
		in.fail(err)
	}
	if in.err != nil {
		return nil
	}
	out := results{"ik": hexUpper(ik[:]), "txn_key": hexUpper(txn[:])}
	keys := map[DUKPTUse]*Key{}
	for use, name := range map[DUKPTUse]string{
		DUKPTPIN: "pin", DUKPTMACRequest: "mac_request", DUKPTMACResponse: "mac_response", DUKPTDataRequest: "data_request", DUKPTDataResponse: "data_response",
	} {
		key, err := TDESWorkingKey(txn, use)
		if err != nil {
			in.fail(err)
			return nil
		}
		out[name+"_key"] = hexUpper(key[:])
		keys[use] = in.expand("TDES", key[:])
	}
	if in.has("pin") {
		format := ISO0
		if in.has("format") {
			format = in.pinFormat()
		}
		block, err := SealPIN(keys[DUKPTPIN], format, in.pin(), in.text("pan"))
		if err != nil {
			in.fail(err)
		}
		out["enc_pinblock"] = hexUpper(block.Bytes())
	}
	if !in.has("data") {
		return out
	}
	data := in.hex("data")
	for use, name := range map[DUKPTUse]string{DUKPTMACRequest: "mac_request", DUKPTMACResponse: "mac_response"} {
		mac, err := keys[use].AppendRetailMAC(nil, PadZeros, data)
		if err != nil {
			in.fail(err)
			return nil
		}
		out[name+"4"], out[name+"8"] = hexUpper(mac[:4]), hexUpper(mac)
	}
	out["enc_request"] = in.sealFilled(keys[DUKPTDataRequest], data)
	out["enc_response"] = in.sealFilled(keys[DUKPTDataResponse], data)
	return out
}

// sealFilled encrypts data filled with zeros to whole blocks, chained from
// zeros.
func (in *inputs) sealFilled(k *Key, data []byte) string {
	n := k.cipher.BlockSize()
	sealed := make([]byte, (len(data)+n-1)/n*n)
	copy(sealed, data)
	if err := k.EncryptCBC(make([]byte, n), sealed, sealed); err != nil {
		in.fail(err)
	}
	return hexUpper(sealed)
}

var dukptUseNames = map[DUKPTUse]string{
	DUKPTKeyEncryption: "key_enc_key", DUKPTPIN: "pin_key",
	DUKPTMACRequest: "mac_gen_key", DUKPTMACResponse: "mac_ver_key", DUKPTMACBoth: "mac_both_key",
	DUKPTDataRequest: "data_enc_key", DUKPTDataResponse: "data_dec_key", DUKPTDataBoth: "data_both_key",
}

var dukptAlgNames = map[DUKPTAlg]string{
	DUKPTTDES2: "tdes2", DUKPTTDES3: "tdes3", DUKPTAES128: "aes128", DUKPTAES192: "aes192", DUKPTAES256: "aes256",
	DUKPTHMAC128: "hmac128", DUKPTHMAC192: "hmac192", DUKPTHMAC256: "hmac256",
}

// derivationKey is the key of a transaction, given or derived from an initial
// or a base key.
func (in *inputs) derivationKey(ksn KSN) []byte {
	if in.has("derivation_key") {
		return in.hex("derivation_key")
	}
	var ik []byte
	var err error
	switch {
	case in.has("ik"):
		ik = in.hex("ik")
	case len(ksn) != 12:
		err = fmt.Errorf("%w: %d bytes, want 12 for AES", ErrKSN, len(ksn))
	default:
		ik, err = AESInitialKey(in.hex("bdk"), ksn[:8])
	}
	if err != nil {
		in.fail(err)
		return nil
	}
	key, err := AESDerivationKey(ik, ksn)
	if err != nil {
		in.fail(err)
	}
	return key
}

// opAESDUKPT makes the working keys of every use and kind that the derivation
// key is strong enough for, and the PIN block of format 4 under a PIN key of
// its own kind.
func opAESDUKPT(in *inputs) map[string]string {
	ksn := KSN(in.hex("ksn"))
	derivation := in.derivationKey(ksn)
	if in.err != nil {
		return nil
	}
	own, err := aesAlg(derivation)
	if err != nil {
		in.fail(err)
		return nil
	}
	out := results{"derivation_key": hexUpper(derivation)}
	if in.has("bdk") && !in.has("ik") && !in.has("derivation_key") {
		ik, err := AESInitialKey(in.hex("bdk"), ksn[:8])
		if err != nil {
			in.fail(err)
			return nil
		}
		out["ik"] = hexUpper(ik)
	}
	for use, useName := range dukptUseNames {
		for alg, algName := range dukptAlgNames {
			_, strength := alg.bits()
			if _, most := own.bits(); strength > most {
				continue
			}
			key, err := AESWorkingKey(derivation, ksn, use, alg)
			if err != nil {
				in.fail(err)
				return nil
			}
			out[useName+"_"+algName] = hexUpper(key)
			if alg == own {
				out[useName] = hexUpper(key)
			}
		}
	}
	if in.has("pan") {
		key, err := AESWorkingKey(derivation, ksn, DUKPTPIN, own)
		if err != nil {
			in.fail(err)
			return nil
		}
		field := [16]byte{}
		if in.has("pinfield") {
			field = in.bytes16("pinfield")
		} else {
			field = in.pinField4()
		}
		block, err := sealPIN4(in.expand("AES", key), field, in.text("pan"))
		if err != nil {
			in.fail(err)
		}
		out["enc_pinblock"] = hexUpper(block.Bytes())
	}
	return out
}

func opAESDUKPTMAC(in *inputs) map[string]string {
	ksn := KSN(in.hex("ksn"))
	derivation := in.derivationKey(ksn)
	data := in.hex("data")
	if in.err != nil {
		return nil
	}
	own, err := aesAlg(derivation)
	if err != nil {
		in.fail(err)
		return nil
	}
	key := func(use DUKPTUse) *Key {
		b, err := AESWorkingKey(derivation, ksn, use, own)
		if err != nil {
			in.fail(err)
		}
		return in.expand("AES", b)
	}
	return results{
		"cmac_request":  hexUpper(key(DUKPTMACRequest).AppendCMAC(nil, data)),
		"cmac_response": hexUpper(key(DUKPTMACResponse).AppendCMAC(nil, data)),
		"enc_request":   in.sealFilled(key(DUKPTDataRequest), data),
		"enc_response":  in.sealFilled(key(DUKPTDataResponse), data),
	}
}

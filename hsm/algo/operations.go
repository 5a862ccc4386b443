package algo

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// results are what an operation says, by the names vectors use.
type results map[string]string

var operations = map[string]func(in *inputs) map[string]string{
	"block.ecb_encrypt": func(in *inputs) map[string]string {
		out := in.hex("data")
		if err := in.key("key").EncryptECB(out, out); err != nil {
			in.fail(err)
		}
		return results{"out": hexUpper(out)}
	},
	"block.ecb_encrypt_iter": func(in *inputs) map[string]string {
		k, out, n := in.key("key"), in.hex("data"), in.number("iterations")
		if n < 0 {
			in.fail(errors.New("algo: a negative number of iterations"))
		}
		for range n {
			if err := k.EncryptECB(out, out); err != nil {
				in.fail(err)
				break
			}
		}
		return results{"out": hexUpper(out)}
	},
	"block.cbc_encrypt": func(in *inputs) map[string]string {
		k, out := in.key("key"), in.hex("data")
		iv := make([]byte, k.cipher.BlockSize())
		if in.has("iv") {
			iv = in.hex("iv")
		}
		if err := k.EncryptCBC(iv, out, out); err != nil {
			in.fail(err)
		}
		return results{"out": hexUpper(out)}
	},
	"kcv.zero": func(in *inputs) map[string]string {
		return results{"kcv": hexUpper(in.key("key").CheckValue())}
	},
	"kcv.cmac": func(in *inputs) map[string]string {
		return results{"kcv": hexUpper(in.key("key").CheckValueCMAC())}
	},
	"kcv.cmac_empty": func(in *inputs) map[string]string {
		return results{"kcv": hexUpper(in.key("key").CheckValueCMACEmpty())}
	},
	"key.form_from_components": opFormKey,
	"key.encrypt_under_kek":    opEncryptKey,
	"lmk.encrypt_key": func(in *inputs) map[string]string {
		under := in.bytes16("lmk_pair")
		variant := 0
		if in.has("variant") {
			variant = in.number("variant")
		}
		if variant < 0 || variant >= len(lmkVariants) {
			in.fail(fmt.Errorf("algo: LMK variant %d, want 0 to %d", variant, len(lmkVariants)-1))
			return nil
		}
		under[0] ^= lmkVariants[variant]
		out, err := EncryptKey(under[:], in.scheme(), in.hex("clear"))
		if err != nil {
			in.fail(err)
		}
		return results{"encrypted": hexUpper(out)}
	},
	"key.unionpay_signin_f62": opSignIn,
	"pinblock.encode":         opEncodePIN,
	"pinblock.decode":         opDecodePIN,
	"pinblock.iso4.encrypt": func(in *inputs) map[string]string {
		block, err := sealPIN4(in.cipherKey("AES", "key"), in.pinField4(), in.text("pan"))
		if err != nil {
			in.fail(err)
		}
		return results{"block": hexUpper(block.Bytes())}
	},
	"pinblock.iso4.decrypt": func(in *inputs) map[string]string {
		pin, err := OpenPIN(in.cipherKey("AES", "key"), ISO4, PINBlockOf(in.hex("block")), in.text("pan"))
		if err != nil {
			in.fail(err)
		}
		return results{"pin": pin.reveal()}
	},
	"pinblock.iso4.panfield": func(in *inputs) map[string]string {
		field, ok := accountField4(in.text("pan"))
		if !ok {
			in.fail(errPINAccount)
		}
		return results{"field": hexUpper(field[:])}
	},
	"pin.ibm3624": opIBM3624,
	"pin.visa_pvv": func(in *inputs) map[string]string {
		index := in.text("pvki")
		if len(index) != 1 {
			in.fail(errors.New("algo: pvki is one digit"))
			return nil
		}
		pvv, err := VisaPVV(in.key("pvk"), in.text("pan"), index[0], in.pin())
		if err != nil {
			in.fail(err)
		}
		return results{"pvv": string(pvv[:])}
	},
	"cvc3.dynamic": opCVC3,
	"cvv": func(in *inputs) map[string]string {
		cvv, err := CVV(in.key("cvk"), in.text("pan"), in.text("expiry"), in.text("service_code"))
		if err != nil {
			in.fail(err)
		}
		return results{"cvv": string(cvv[:])}
	},
	"mac.iso9797_alg1": func(in *inputs) map[string]string {
		return macResults(in.key("key").AppendCBCMAC(nil, in.padding(), in.hex("data")))
	},
	"mac.iso9797_alg3": func(in *inputs) map[string]string { return in.retail(in.padding()) },
	"mac.x9_19":        func(in *inputs) map[string]string { return in.retail(in.paddingOr(PadZeros)) },
	"mac.iso9797_alg3_block": func(in *inputs) map[string]string {
		mac, err := AppendRetailMAC2(nil, in.key("key1"), in.key("key2"), in.padding(), in.hex("data"))
		if err != nil {
			in.fail(err)
			return nil
		}
		return macResults(mac)
	},
	"mac.x9_9": func(in *inputs) map[string]string {
		return macResults(in.key("key").AppendCBCMAC(nil, in.paddingOr(PadZeros), in.hex("data")))
	},
	"mac.cmac": func(in *inputs) map[string]string {
		return macResults(in.key("key").AppendCMAC(nil, in.hex("data")))
	},
	"mac.cup_ecb":           opUnionPayMAC,
	"emv.arqc_arpc":         opCryptogram,
	"emv.script_mac":        opScriptMAC,
	"emv.sm_mac":            opScriptMAC,
	"emv.script_pin_change": opPINChange,

	"dukpt.tdes.ik": func(in *inputs) map[string]string {
		ik, err := TDESInitialKey(in.hex("bdk"), in.hex("ksn"))
		if err != nil {
			in.fail(err)
		}
		return results{"ik": hexUpper(ik[:])}
	},
	"dukpt.tdes": opTDESDUKPT,
	"dukpt.aes.ik": func(in *inputs) map[string]string {
		id := "ikid"
		if !in.has(id) {
			id = "ksn"
		}
		ikid := in.hex(id)
		if id == "ksn" && len(ikid) == 12 {
			ikid = ikid[:8]
		}
		ik, err := AESInitialKey(in.hex("bdk"), ikid)
		if err != nil {
			in.fail(err)
		}
		return results{"ik": hexUpper(ik)}
	},
	"dukpt.aes":     opAESDUKPT,
	"dukpt.aes.mac": opAESDUKPTMAC,

	"sm3.hash": func(in *inputs) map[string]string {
		hash := SM3(in.hex("data"))
		return results{"hash": hexUpper(hash[:])}
	},
	"sm2.verify": func(in *inputs) map[string]string {
		pub, msg := in.hex("pub"), in.hex("msg")
		if len(pub) == 64 { // X and Y alone
			pub = append([]byte{4}, pub...)
		}
		id := []byte(SM2DefaultID)
		if in.has("uid") {
			id = in.hex("uid")
		}
		za, e, err := SM2Digest(pub, id, msg)
		if err != nil {
			in.fail(err)
			return nil
		}
		valid, err := SM2Verify(pub, id, msg, in.hex("r"), in.hex("s"))
		if err != nil {
			in.fail(err)
		}
		return results{"za": hexUpper(za[:]), "e": hexUpper(e[:]), "valid": fmt.Sprint(valid)}
	},
	"sm2.decrypt": func(in *inputs) map[string]string {
		plain, err := SM2Decrypt(in.hex("priv"), in.hex("cipher"), in.oneOf("order", "", "C1C3C2", "C1C2C3") == "C1C2C3")
		if err != nil {
			in.fail(err)
		}
		return results{"plain": hexUpper(plain)}
	},
	"tr31.unwrap": func(in *inputs) map[string]string {
		block := in.text("block")
		if block == "" {
			in.fail(ErrKeyBlock)
			return nil
		}
		p, err := NewProtector(block[0], in.hex("kbpk"))
		if err != nil {
			in.fail(err)
			return nil
		}
		h, key, err := p.Unwrap(block)
		if err != nil {
			in.fail(err)
		}
		return results{
			"key": hexUpper(key), "version": string(h.Version), "usage": string(h.Usage[:]), "algorithm": string(h.Algorithm),
			"mode": string(h.Mode), "key_version": string(h.KeyVersion[:]), "exportability": string(h.Export),
		}
	},
	"track.tdb": func(in *inputs) map[string]string {
		name := "track2"
		if !in.has(name) && in.has("track3") {
			name = "track3"
		}
		track := in.text(name)
		if len(track) > maxTrack || !trackDigits([]byte(track)) {
			in.fail(ErrTrack)
			return nil
		}
		from, to, ok := tdb(len(track), 8)
		if !ok {
			in.fail(ErrTrack)
			return nil
		}
		block := strings.ReplaceAll(track[from:to], "=", "D")
		return results{"tdb": block, "tdb" + name[5:]: block}
	},
}

// reveal is for vectors, whose PINs are published.
func (p PIN) reveal() string {
	out := make([]byte, p.n)
	for i := range out {
		out[i] = '0' + p.digits[i]
	}
	return string(out)
}

func (in *inputs) retail(pad Padding) results {
	mac, err := in.key("key").AppendRetailMAC(nil, pad, in.hex("data"))
	if err != nil {
		in.fail(err)
		return nil
	}
	return macResults(mac)
}

// macResults are a MAC and the parts of it that are sent.
func macResults(mac []byte) results {
	return results{"mac": hexUpper(mac), "mac4": hexUpper(mac[:4]), "mac8": hexUpper(mac[:8])}
}

// opEncodePIN takes the fill of formats 1 and 3 from "random", as many hex
// digits as are needed: it is not the same twice otherwise.
func opEncodePIN(in *inputs) map[string]string {
	format := in.pinFormat()
	if format == ISO4 {
		field := in.pinField4()
		return results{"block": hexUpper(field[:])}
	}
	pin := in.pin()
	block, err := encodePIN(format, pin, in.optional("pan"))
	if err != nil {
		in.fail(err)
		return nil
	}
	if format != ISO1 && format != ISO3 {
		return results{"block": hexUpper(block[:format.size()])}
	}
	random := strings.ToUpper(in.text("random"))
	account, _ := accountField(in.optional("pan"))
	for i := pin.n; i < 14; i++ {
		at := strings.IndexByte(upperHex, (random + strings.Repeat("-", 14))[i-pin.n])
		if at < 0 || format == ISO3 && at < 10 {
			in.fail(fmt.Errorf("algo: the random fill of a PIN block of format %d is %d hex digits, A to F in format 3", format, 14-pin.n))
			return nil
		}
		v := byte(at)
		if format == ISO3 {
			v ^= nibble(account[:], 2+i)
		}
		setNibble(block[:], 2+i, v)
	}
	return results{"block": hexUpper(block[:8])}
}

func opDecodePIN(in *inputs) map[string]string {
	format := in.pinFormat()
	var block [16]byte
	b := in.hex("block")
	if !format.known() || len(b) != format.size() {
		in.fail(ErrPINBlock)
		return nil
	}
	copy(block[:], b)
	pin, err := decodePIN(format, block, in.optional("pan"))
	if err != nil {
		in.fail(err)
	}
	return results{"pin": pin.reveal()}
}

// pinField4 is the clear block of format 4 with the random half of the vector.
func (in *inputs) pinField4() [16]byte {
	random := in.bytes8("random")
	field, err := encodePIN(ISO4, in.pin(), "")
	if err != nil {
		in.fail(err)
	}
	copy(field[8:], random[:])
	return field
}

// cipherKey expands a key of a cipher that the operation implies.
func (in *inputs) cipherKey(alg, name string) *Key {
	return in.expand(alg, in.hex(name))
}

func (in *inputs) scheme() Scheme {
	s := in.text("scheme")
	if len(s) != 1 || Scheme(s[0]).KeyLen() == 0 {
		in.fail(fmt.Errorf("%w: %q is none of Z, U, T, X, Y", ErrScheme, s))
		return SchemeZ
	}
	return Scheme(s[0])
}

func opEncryptKey(in *inputs) map[string]string {
	clear := in.hex("clear")
	if in.has("scheme") {
		out, err := EncryptKey(in.hex("kek"), in.scheme(), clear)
		if err != nil {
			in.fail(err)
		}
		return results{"encrypted": hexUpper(out)}
	}
	if len(clear) == 0 {
		in.fail(errors.New("algo: no key to encrypt"))
	}
	if err := in.key("kek").EncryptECB(clear, clear); err != nil {
		in.fail(err)
	}
	return results{"encrypted": hexUpper(clear)}
}

// opIBM3624 makes the PIN of an offset, or the offset of a PIN.
func opIBM3624(in *inputs) map[string]string {
	pvk, table, data := in.key("pvk"), in.text("dec_table"), in.bytes8("validation_data")
	var pin PIN
	var err error
	if in.has("offset") {
		pin, err = IBM3624PIN(pvk, table, data, in.text("offset"))
	} else {
		pin = in.pin()
	}
	if err != nil {
		in.fail(err)
	}
	if in.err != nil {
		return nil
	}
	offset, err := IBM3624Offset(pvk, table, data, pin, 0)
	if err != nil {
		in.fail(err)
		return nil
	}
	natural, err := naturalPIN(pvk, table, data, pin.n)
	if err != nil {
		in.fail(err)
	}
	return results{"pin": pin.reveal(), "offset": offset, "natural_pin": natural.reveal()}
}

func opCVC3(in *inputs) map[string]string {
	icc, err := ICCKey(in.key("imk"), in.derivation(), in.text("pan"), in.optional("psn"))
	if err != nil {
		in.fail(err)
		return nil
	}
	var iv [2]byte
	if in.has("ivcvc3") {
		iv = in.bytes2("ivcvc3")
	} else if iv, err = cvc3IV(icc, in.hex("track")); err != nil {
		in.fail(err)
	}
	code := cvc3(icc, iv, in.bytes4("un"), in.bytes2("atc"))
	return results{"cvc3": code, "cvc3_last3": code[2:], "cvc3_last4": code[1:], "ivcvc3": hexUpper(iv[:])}
}

func opFormKey(in *inputs) map[string]string {
	list, _ := in.values["components"].([]any)
	if len(list) < 2 {
		in.fail(errors.New("algo: a key is formed from at least two components"))
		return nil
	}
	var key []byte
	for i, c := range list {
		b, err := unhex(text(c))
		if err != nil || i > 0 && len(b) != len(key) {
			in.fail(fmt.Errorf("algo: component %d is not hex of the length of the first", i+1))
			return nil
		}
		if i == 0 {
			key = make([]byte, len(b))
		}
		subtle.XORBytes(key, key, b)
	}
	alg := in.optional("alg")
	if alg == "" {
		alg = "TDES"
	}
	k := in.expand(alg, key)
	kcv := k.CheckValue()
	if k.cipher == AES {
		kcv = k.CheckValueCMAC()
	}
	return results{"key": hexUpper(key), "kcv": hexUpper(kcv)}
}

func opSignIn(in *inputs) map[string]string {
	tmk := in.key("tmk")
	keys, err := splitDE62(tmk, in.hex("f62"))
	if err != nil {
		in.fail(err)
		return nil
	}
	out := results{}
	for i, name := range []string{"pik", "mak", "tdk"}[:len(keys)] {
		out[name+"_clear"] = hexUpper(keys[i])
		k, err := newWorkingKey(tmk, keys[i])
		if err != nil {
			in.fail(err)
			return nil
		}
		out[name+"_kcv"] = hexUpper(k.CheckValue()[:4])
	}
	return out
}

func opUnionPayMAC(in *inputs) map[string]string {
	k, mab := in.key("key"), in.hex("mab")
	n := k.cipher.BlockSize()
	fold := make([]byte, n)
	foldXOR(fold, mab)
	step1 := []byte(hexUpper(fold)[:n])
	if err := k.EncryptECB(step1, step1); err != nil {
		in.fail(err)
	}
	var s scratch
	k.unionPay(&s, n, mab)
	mac := k.UnionPayMAC(mab)
	return results{
		"fold": hexUpper(fold), "step1": hexUpper(step1), "full": hexUpper(s.a[:n]),
		"field64_ascii": string(mac[:]), "field64_ascii_prefix": string(mac[:]), "mac": string(mac[:]),
	}
}

func (in *inputs) derivation() Derivation {
	if in.oneOf("mkd", "", "A", "B") == "B" {
		return OptionB
	}
	return OptionA
}

// session derives the session key that "skd" names from the master key called
// imk, and returns the card's key beside it.
func (in *inputs) session(imk string) (icc, sk *Key) {
	d := in.derivation()
	master, pan, psn := in.key(imk), in.text("pan"), in.optional("psn")
	icc, err := ICCKey(master, d, pan, psn)
	if err != nil {
		in.fail(err)
		return nil, nil
	}
	switch skd := in.text("skd"); skd {
	case "NONE":
		sk = icc
	case "CSK_R":
		sk, err = CommonSessionKey(icc, in.bytes8("r"))
	case "CSK_ATC":
		sk, err = CommonSessionKey(icc, CommonR(in.bytes2("atc")))
	case "MCHIP":
		sk, err = CommonSessionKey(icc, MChipR(in.bytes2("atc"), in.bytes4("un")))
	case "PBOC":
		sk, err = PBOCSessionKey(icc, in.bytes2("atc"))
	case "VISA_SM":
		sk, err = VisaScriptKey(master, d, pan, psn, in.bytes2("atc"))
	default:
		err = fmt.Errorf("algo: unknown session key derivation %q", skd)
	}
	if err != nil {
		in.fail(err)
	}
	return icc, sk
}

func opScriptMAC(in *inputs) map[string]string {
	icc, sk := in.session("imk_smi")
	if in.err != nil {
		return nil
	}
	mac, err := ScriptMAC(sk, in.hex("data"))
	if err != nil {
		in.fail(err)
	}
	return results{"mac": hexUpper(mac[:]), "sk_kcv": hexUpper(sk.CheckValue()), "udk_kcv": hexUpper(icc.CheckValue())}
}

func opCryptogram(in *inputs) map[string]string {
	icc, sk := in.session("imk")
	pad := PadBit
	if in.oneOf("pad", "1", "2") == "1" {
		pad = PadZeros
	}
	data := in.hex("data")
	if in.err != nil {
		return nil
	}
	ac, err := ARQC(sk, pad, data)
	if err != nil {
		in.fail(err)
		return nil
	}
	out := results{"ac": hexUpper(ac[:]), "sk_kcv": hexUpper(sk.CheckValue()), "udk_kcv": hexUpper(icc.CheckValue())}
	answer := sk
	if in.oneOf("arpc_key", "", "SK", "UDK") == "UDK" {
		answer = icc
	}
	switch in.oneOf("arpc_method", "", "1", "2") {
	case "1":
		arpc, err := ARPC1(answer, ac, in.bytes2("arc"))
		if err != nil {
			in.fail(err)
		}
		out["arpc"] = hexUpper(arpc[:])
	case "2":
		proprietary, err := unhex(in.optional("pad_data"))
		if err != nil {
			in.fail(err)
		}
		arpc, err := ARPC2(answer, ac, in.bytes4("csu"), proprietary)
		if err != nil {
			in.fail(err)
		}
		out["arpc"] = hexUpper(arpc[:])
	}
	return out
}

// opPINChange makes the data and the MAC of a PIN CHANGE command: the PIN
// block, given or made as Visa's, encrypted under the key of confidentiality,
// and the command's header and that under the key of integrity.
func opPINChange(in *inputs) map[string]string {
	_, integrity := in.session("imk_smi")
	_, confidentiality := in.session("imk_smc")
	pads := map[string]ScriptPadding{"EMV": ScriptEMV, "CCD": ScriptEMV, "MC": ScriptMChip, "VISA": ScriptVisa}
	pad := pads[in.oneOf("enc_pad", "EMV", "CCD", "MC", "VISA")]
	var block []byte
	if in.has("vis_pin") {
		block = in.visaPINBlock()
	} else {
		block = in.hex("pinblock")
	}
	header := in.hex("header")
	if in.err != nil {
		return nil
	}
	sealed, err := EncryptScript(confidentiality, pad, block)
	if err != nil {
		in.fail(err)
		return nil
	}
	mac, err := ScriptMAC(integrity, append(header, sealed...))
	if err != nil {
		in.fail(err)
	}
	return results{"enc": hexUpper(sealed), "mac": hexUpper(mac[:]), "pinblock": hexUpper(block)}
}

func (in *inputs) visaPINBlock() []byte {
	pin, err := ParsePIN(in.text("vis_pin"))
	if err != nil {
		in.fail(err)
	}
	var current *PIN
	if in.has("vis_current_pin") {
		old, err := ParsePIN(in.text("vis_current_pin"))
		if err != nil {
			in.fail(err)
		}
		current = &old
	}
	block, err := VisaPINBlock(in.key("imk_ac"), in.derivation(), in.text("pan"), in.optional("psn"), pin, current)
	if err != nil {
		in.fail(err)
	}
	return block[:]
}

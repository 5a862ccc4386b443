package algo

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Vector is one published test vector: an operation on clear test keys, what
// goes in and what must come out, all as text.
type Vector struct {
	Op       string         `json:"op"`
	Source   string         `json:"source"`
	Inputs   map[string]any `json:"inputs"`
	Expected map[string]any `json:"expected"`
	Note     string         `json:"note,omitempty"`
}

// ErrUnknownOp says that a vector names an operation that is not here.
var ErrUnknownOp = errors.New("algo: unknown operation")

// ReadVectors reads a vector file: a JSON array of vectors.
func ReadVectors(data []byte) ([]Vector, error) {
	var all []Vector
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("algo: not a JSON array of vectors with op, inputs and expected: %w", err)
	}
	return all, nil
}

// Operations lists the operations that Run knows, sorted.
func Operations() []string {
	names := make([]string, 0, len(operations))
	for name := range operations {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Run carries out the vector and returns everything it can say about the
// result, by the names vectors use. ErrUnknownOp when the operation is not
// here.
func (v Vector) Run() (map[string]string, error) {
	op, ok := operations[v.Op]
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownOp, v.Op)
	}
	in := &inputs{values: v.Inputs}
	out := op(in)
	if in.err != nil {
		return nil, in.err
	}
	return out, nil
}

// Mismatch is a result that is not the published one.
type Mismatch struct {
	Op, Name  string
	Got, Want string
}

// Error names operation and result, and both values: vectors are public.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("algo: %s: %s is %s, want %s", m.Op, m.Name, m.Got, m.Want)
}

// Check runs the vector and compares; it returns nil, ErrUnknownOp, a
// *Mismatch, or why the operation refused its inputs. Check values and names
// that end in _prefix are compared as far as the vector goes, 4 characters at
// least.
func (v Vector) Check() error {
	got, err := v.Run()
	if err != nil {
		return err
	}
	if len(v.Expected) == 0 {
		return errors.New("algo: vector expects nothing")
	}
	names := make([]string, 0, len(v.Expected))
	for name := range v.Expected {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		want := strings.ToUpper(text(v.Expected[name]))
		have, ok := got[name]
		if !ok {
			return &Mismatch{v.Op, name, "no such result", want}
		}
		if (strings.HasSuffix(name, "kcv") || strings.HasSuffix(name, "_prefix")) && len(want) >= 4 && len(have) > len(want) {
			have = have[:len(want)]
		}
		if have != want {
			return &Mismatch{v.Op, name, have, want}
		}
	}
	return nil
}

func text(v any) string {
	switch t := v.(type) {
	case string:
		return t
	case float64:
		return strconv.FormatFloat(t, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// inputs reads the fields of a vector and keeps the first error.
type inputs struct {
	values map[string]any
	err    error
}

func (in *inputs) fail(err error) {
	if in.err == nil {
		in.err = err
	}
}

func (in *inputs) has(name string) bool { _, ok := in.values[name]; return ok }

func (in *inputs) text(name string) string {
	v, ok := in.values[name]
	if !ok {
		in.fail(fmt.Errorf("algo: vector has no input %q", name))
		return ""
	}
	return text(v)
}

func (in *inputs) hex(name string) []byte {
	b, err := unhex(in.text(name))
	if err != nil {
		in.fail(fmt.Errorf("input %q: %w", name, err))
	}
	return b
}

// bytes2, bytes4 and bytes8 read an exact number of bytes.
func (in *inputs) bytes2(name string) (out [2]byte) { in.exact(out[:], name); return }
func (in *inputs) bytes4(name string) (out [4]byte) { in.exact(out[:], name); return }
func (in *inputs) bytes8(name string) (out [8]byte) { in.exact(out[:], name); return }

func (in *inputs) exact(out []byte, name string) {
	b := in.hex(name)
	if in.err == nil && len(b) != len(out) {
		in.fail(fmt.Errorf("algo: input %q has %d bytes, want %d", name, len(b), len(out)))
	}
	copy(out, b)
}

func (in *inputs) number(name string) int {
	n, err := strconv.Atoi(in.text(name))
	if err != nil {
		in.fail(fmt.Errorf("algo: input %q is not a number", name))
	}
	return n
}

func (in *inputs) padding() Padding {
	p := Padding(in.number("padding"))
	if p < PadZeros || p > PadLength {
		in.fail(errors.New("algo: padding is none of 1 to 3"))
	}
	return p
}

// key expands the key called name with the cipher that "alg" says, TDES by
// default. It never returns nil, so that an operation may run to its end
// before the error is looked at.
func (in *inputs) key(name string) *Key {
	clear := in.hex(name)
	alg := "TDES"
	if in.has("alg") {
		alg = in.text("alg")
	}
	return in.expand(alg, clear)
}

func (in *inputs) expand(alg string, clear []byte) *Key {
	var k *Key
	var err error
	switch {
	case alg == "DES" || alg == "TDES" || alg == "3DES":
		k, err = NewDESKey(clear)
	case strings.HasPrefix(alg, "AES"):
		k, err = NewKey(AES, clear)
	case alg == "SM4":
		k, err = NewKey(SM4, clear)
	default:
		err = fmt.Errorf("algo: unknown cipher %q", alg)
	}
	if err != nil {
		in.fail(err)
		k, _ = NewKey(DES, make([]byte, 8))
	}
	return k
}

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
		k, out := in.key("key"), in.hex("data")
		for range in.number("iterations") {
			if err := k.EncryptECB(out, out); err != nil {
				in.fail(err)
				break
			}
		}
		return results{"out": hexUpper(out)}
	},
	"block.cbc_encrypt": func(in *inputs) map[string]string {
		out := in.hex("data")
		if err := in.key("key").EncryptCBC(in.hex("iv"), out, out); err != nil {
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
	"key.encrypt_under_kek": func(in *inputs) map[string]string {
		out := in.hex("clear")
		if err := in.key("kek").EncryptECB(out, out); err != nil {
			in.fail(err)
		}
		return results{"encrypted": hexUpper(out)}
	},
	"key.unionpay_signin_f62": opSignIn,
	"pinblock.encode":         opEncodePIN,
	"pinblock.decode": func(in *inputs) map[string]string {
		pin, err := DecodePIN(PINFormat(in.number("format")), in.bytes8("block"), in.optional("pan"))
		if err != nil {
			in.fail(err)
		}
		return results{"pin": pin.reveal()}
	},
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
	"cvv": func(in *inputs) map[string]string {
		cvv, err := CVV(in.key("cvk"), in.text("pan"), in.text("expiry"), in.text("service_code"))
		if err != nil {
			in.fail(err)
		}
		return results{"cvv": string(cvv[:])}
	},
	"mac.iso9797_alg1": func(in *inputs) map[string]string {
		return results{"mac": hexUpper(in.key("key").AppendCBCMAC(nil, in.padding(), in.hex("data")))}
	},
	"mac.iso9797_alg3": func(in *inputs) map[string]string { return in.retail(in.padding()) },
	"mac.x9_19":        func(in *inputs) map[string]string { return in.retail(PadZeros) },
	"mac.iso9797_alg3_block": func(in *inputs) map[string]string {
		mac, err := AppendRetailMAC2(nil, in.key("key1"), in.key("key2"), in.padding(), in.hex("data"))
		if err != nil {
			in.fail(err)
		}
		return results{"mac": hexUpper(mac)}
	},
	"mac.x9_9": func(in *inputs) map[string]string {
		mac := hexUpper(in.key("key").AppendCBCMAC(nil, PadZeros, in.hex("data")))
		return results{"mac": mac, "mac4": mac[:8]}
	},
	"mac.cmac": func(in *inputs) map[string]string {
		return results{"mac": hexUpper(in.key("key").AppendCMAC(nil, in.hex("data")))}
	},
	"mac.cup_ecb":    opUnionPayMAC,
	"emv.arqc_arpc":  opCryptogram,
	"emv.script_mac": opScriptMAC,
	"emv.sm_mac":     opScriptMAC,
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
		return results{"key": hexUpper(key), "usage": string(h.Usage[:])}
	},
	"track.tdb": func(in *inputs) map[string]string {
		track := in.text("track2")
		from, to, ok := tdb(len(track), 8)
		if !ok {
			in.fail(ErrTrack)
			return nil
		}
		block := strings.ReplaceAll(track[from:to], "=", "D")
		return results{"tdb": block, "tdb2": block}
	},
}

func (in *inputs) optional(name string) string {
	if !in.has(name) {
		return ""
	}
	return in.text(name)
}

// oneOf reads an input that has a closed set of values; "" among them makes
// it optional.
func (in *inputs) oneOf(name string, values ...string) string {
	v := in.optional(name)
	if !slices.Contains(values, v) {
		in.fail(fmt.Errorf("algo: input %q is none of %q", name, values))
	}
	return v
}

func (in *inputs) pin() PIN {
	pin, err := ParsePIN(in.text("pin"))
	if err != nil {
		in.fail(err)
	}
	return pin
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
	}
	return results{"mac": hexUpper(mac)}
}

func opEncodePIN(in *inputs) map[string]string {
	format := PINFormat(in.number("format"))
	if format == ISO1 || format == ISO3 {
		in.fail(fmt.Errorf("algo: a PIN block of format %d has random fill and is not the same twice", format))
		return nil
	}
	block, err := EncodePIN(format, in.pin(), in.optional("pan"))
	if err != nil {
		in.fail(err)
	}
	return results{"block": hexUpper(block[:])}
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
	return results{"key": hexUpper(key), "kcv": hexUpper(in.expand(alg, key).CheckValue())}
}

func opSignIn(in *inputs) map[string]string {
	keys, err := splitDE62(in.key("tmk"), in.hex("f62"))
	if err != nil {
		in.fail(err)
		return nil
	}
	out := results{}
	for i, name := range []string{"pik", "mak", "tdk"}[:len(keys)] {
		out[name+"_clear"] = hexUpper(keys[i])
		out[name+"_kcv"] = hexUpper(in.expand("TDES", keys[i]).CheckValue()[:4])
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

// session derives the session key that "skd" names from the master key called
// imk, and returns the card's key beside it.
func (in *inputs) session(imk string) (icc, sk *Key) {
	d := OptionA
	if in.oneOf("mkd", "", "A", "B") == "B" {
		d = OptionB
	}
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
	mac, err := sk.AppendRetailMAC(nil, PadBit, in.hex("data"))
	if err != nil {
		in.fail(err)
	}
	return results{"mac": hexUpper(mac), "sk_kcv": hexUpper(sk.CheckValue()), "udk_kcv": hexUpper(icc.CheckValue())}
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

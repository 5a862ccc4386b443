package algo

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
)

func TestPublishedVectors(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	all, err := ReadVectors(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 190 {
		t.Errorf("%d vectors, want 190", len(all))
	}
	ran := map[string]int{}
	for i, v := range all {
		if err := v.Check(); err != nil {
			t.Errorf("vector %d (%s): %v", i, v.Source, err)
			continue
		}
		ran[v.Op]++
	}
	for _, op := range Operations() {
		if ran[op] == 0 {
			t.Errorf("%s: no vector ran", op)
		}
	}
	t.Logf("%d operations, %v", len(ran), ran)
}

// TestVectorsCanFail: a runner that agrees with everything would pass the test
// above.
func TestVectorsCanFail(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	all, err := ReadVectors(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range all {
		if v.Op == "block.ecb_encrypt_iter" || errors.Is(v.Check(), ErrUnknownOp) {
			continue // a million rounds would be run for every input
		}
		for name := range v.Expected {
			right := v.Expected[name].(string)
			last := right[len(right)-1]
			v.Expected[name] = right[:len(right)-1] + string('0'+(last-'0'+1)%10)
			var m *Mismatch
			if err := v.Check(); !errors.As(err, &m) || m.Name != name || m.Want == m.Got {
				t.Errorf("vector %d, %s: another %s was expected, and got %v", i, v.Op, name, err)
			}
			v.Expected[name] = right
		}
		// Every input counts: without it, or with nonsense, the vector fails.
		for name, right := range v.Inputs {
			v.Inputs[name] = "no such thing"
			if v.Check() == nil {
				t.Errorf("vector %d, %s: input %s does not matter", i, v.Op, name)
			}
			v.Inputs[name] = right
		}
		if err := v.Check(); err != nil {
			t.Errorf("vector %d was not put back: %v", i, err)
		}
	}
	for _, v := range []Vector{
		{Op: "kcv.zero"},
		{Op: "kcv.zero", Inputs: map[string]any{"key": "00"}, Expected: map[string]any{"kcv": "00"}},
		{Op: "kcv.zero", Inputs: map[string]any{"key": "0123456789ABCDEF"}},
		{Op: "kcv.zero", Inputs: map[string]any{"key": "0123456789ABCDEF"}, Expected: map[string]any{"other": "00"}},
		{Op: "kcv.zero", Inputs: map[string]any{"key": "0123456789ABCDEF", "alg": "ROT13"}, Expected: map[string]any{"kcv": "00"}},
		{Op: "tr31.unwrap", Inputs: map[string]any{"block": "", "kbpk": ""}, Expected: map[string]any{"key": "00"}},
		{Op: "tr31.unwrap", Inputs: map[string]any{"block": "B0040P0TE00E00", "kbpk": "0123456789ABCDEFFEDCBA9876543210"}, Expected: map[string]any{"key": "00"}},
		{Op: "pin.visa_pvv", Inputs: map[string]any{"pvki": "12"}, Expected: map[string]any{"pvv": "0000"}},
		{Op: "key.form_from_components", Inputs: map[string]any{"components": []any{"00"}}, Expected: map[string]any{"kcv": "0000"}},
		{Op: "key.form_from_components", Inputs: map[string]any{"components": []any{"00", "0011"}}, Expected: map[string]any{"kcv": "0000"}},
		{Op: "emv.arqc_arpc", Inputs: map[string]any{}, Expected: map[string]any{"ac": "00"}},
	} {
		if err := v.Check(); err == nil || errors.Is(err, ErrUnknownOp) {
			t.Errorf("%s of %v: %v", v.Op, v.Inputs, err)
		}
	}
	for _, text := range []string{"", "{}", "[1]", `[{"op":1}]`} {
		if _, err := ReadVectors([]byte(text)); err == nil {
			t.Errorf("%q was taken for vectors", text)
		}
	}
}

// TestVectorsThatExpectRefusal: a vector may say that its inputs are bad, and
// fails when they are taken.
func TestVectorsThatExpectRefusal(t *testing.T) {
	type m = map[string]any
	const bdk = "0123456789ABCDEFFEDCBA9876543210"
	good := m{"bdk": bdk, "ksn": "FFFF9876543210E00001"}
	for _, c := range []struct {
		op           string
		in, expected m
		pass         bool
	}{
		{"dukpt.tdes", m{"bdk": bdk, "ksn": "FFFF9876543210E00000"}, m{"error": "counter"}, true},
		{"dukpt.tdes", m{"bdk": bdk, "ksn": "FFFF9876543210E00000"}, m{"error": true}, true},
		{"dukpt.tdes", m{"bdk": bdk, "ksn": "FFFF9876543210FFFFFF"}, m{"valid": false}, true},
		{"dukpt.tdes", good, m{"error": "counter"}, false},
		{"dukpt.tdes", good, m{"valid": "false"}, false},
		{"dukpt.tdes", good, m{"valid": "true"}, true},
		{"dukpt.tdes", good, m{"error": false, "ik": "6ac292faa1315b4d858ab3a3d7d5933a"}, true},
		{"dukpt.tdes", m{"bdk": bdk}, m{"error": "no KSN"}, false}, // the vector is incomplete, the KSN is not bad
		{"no.such", good, m{"error": "unknown"}, false},
		{"dukpt.aes", m{"bdk": bdk, "ksn": "12345678901234560001FFFF"}, m{"error": "counter"}, true},
		{"tr31.unwrap", m{"block": "B0080K0TN00N00001C414014375212C24995E405B5EE052CB92B67F455EA2680F6751088F9F1C229", "kbpk": "EFE0853B256B583D868F251CE99EA1D9"}, m{"error": "MAC"}, true},
		{"tr31.unwrap", m{"block": "B0080K0TB00N00001C414014375212C24995E405B5EE052CB92B67F455EA2680F6751088F9F1C228", "kbpk": "EFE0853B256B583D868F251CE99EA1D9"}, m{"valid": false}, true},
		{"pinblock.decode", m{"format": 0, "block": "041261AAAAEDCBA8", "pan": "5555555551234567"}, m{"error": "fill"}, true},
		{"pinblock.encode", m{"format": 0, "pin": "123", "pan": "5555555551234567"}, m{"error": "length"}, true},
		{"pinblock.encode", m{"format": 3, "pin": "1234", "pan": "5555555551234567", "random": "ABCDEFABC9"}, m{"error": "fill"}, true},
		{"pinblock.encode", m{"format": 3, "pin": "1234", "pan": "5555555551234567", "random": "ffffffffff"}, m{"block": "341261AAAAEDCBA9"}, true},
		{"pinblock.encode", m{"format": 1, "pin": "1234", "random": "FFFFFFFFFF"}, m{"block": "141234FFFFFFFFFF"}, true},
		{"pinblock.encode", m{"format": 1, "pin": "1234", "random": "FFFF"}, m{"error": "short"}, true},
		{"pinblock.iso4.decrypt", m{"block": "39B69B1B91FE05D48F7EF0D68EB2CBD6", "key": "00112233445566778899AABBCCDDEEFF", "pan": "2"}, m{"error": "account"}, true},
		{"lmk.encrypt_key", m{"clear": bdk, "lmk_pair": bdk, "scheme": "Z", "variant": "0"}, m{"error": "length"}, true},
		{"lmk.encrypt_key", m{"clear": bdk, "lmk_pair": bdk, "scheme": "U", "variant": "10"}, m{"error": "variant"}, true},
		{"key.encrypt_under_kek", m{"kek": bdk, "clear": bdk, "scheme": "T"}, m{"error": "length"}, true},
		{"key.encrypt_under_kek", m{"kek": bdk, "clear": ""}, m{"error": "empty"}, true},
		{"pin.ibm3624", m{"pvk": bdk, "dec_table": "1234567890123456", "validation_data": "1122334455667788", "pin": "1234"}, m{"offset": "7710", "natural_pin": "4524"}, true},
		{"mac.x9_19", m{"key": "838652DF68A246046DAB6104583B201A", "data": []any{"30303030", "3030303031"}}, m{"mac": "2FE7118F"}, true},
		{"mac.x9_19", m{"key": "838652DF68A246046DAB6104583B201A", "data": "303030303030303031"}, m{"mac": "2FE7"}, false},                                                       // cut too short to say anything
		{"key.form_from_components", m{"alg": "AES", "components": []any{"3F419E1CB7079442AA37474C2EFBF8B8", "00000000000000000000000000000000"}}, m{"kcv": "08793E25AB"}, true}, // X9.143:2021, 8.1
		{"sm2.verify", m{"pub": "04", "msg": "", "r": "01", "s": "01"}, m{"valid": "false"}, true},
		{"cvv", m{"cvk": "0123456789ABCDEF", "pan": "4123456789012345", "expiry": "8701", "service_code": "101"}, m{"error": "key"}, true},
		{"mac.iso9797_alg3", m{"key": "0123456789ABCDEF", "padding": 1, "data": ""}, m{"error": "key"}, true},

		// What a vector may leave out, and how it may write what it says.
		{"block.cbc_encrypt", m{"alg": "tdes", "key": "12345678123456781234567812345678", "data": "00112233445566770011223344556677"}, m{"out": "abfa6f3c28a8cb0c99c22188f56dae9f"}, true},
		{"block.cbc_encrypt", m{"alg": "TDES", "key": "12345678123456781234567812345678", "iv": nil, "data": "00112233445566770011223344556677"}, m{"out": "ABFA6F3C28A8CB0C99C22188F56DAE9F"}, true},
		{"block.cbc_encrypt", m{"alg": "TDES", "key": "12345678123456781234567812345678", "iv": "00", "data": ""}, m{"error": "iv"}, true},
		{"kcv.cmac_empty", m{"key": "9B71333A13F9FAE72F9D0E2DAB4AD6784718012F9244033F3F26A2DE0C8AA11A"}, m{"kcv": "9D04A0"}, true},
		{"kcv.cmac", m{"alg": "aes-128", "key": "3F419E1CB7079442AA37474C2EFBF8B8"}, m{"kcv": "08793E"}, true},
		{"lmk.encrypt_key", m{"clear": "13345779133457791334577913345779", "lmk_pair": "61616161616161617070707070707070", "scheme": "U"}, m{"encrypted": "34E2FC8EAD7CD07BFA2B7ED5FE4D8212"}, true},
		{"mac.x9_19", m{"key": "838652DF68A246046DAB6104583B201A", "data": "303030303030303031"}, m{"mac4": "2FE7118F"}, true},
		{"mac.x9_19", m{"key": "41414141414141414242424242424242", "data": "68656C6C6F20776F726C64", "padding": "1"}, m{"mac8": "3DDE5C5511661CBF"}, true},
		{"mac.x9_19", m{"key": "41414141414141414242424242424242", "data": "68656C6C6F20776F726C64", "padding": "2"}, m{"mac": "3DDE5C5511661CBF"}, false},
		{"emv.arqc_arpc", m{"imk": "0123456789ABCDEFFEDCBA9876543210", "mkd": nil, "pan": "9901234567890123", "psn": "45", "r": "1234567890123456", "skd": "CSK_R", "pad": "1", "data": "0123456789ABCDEF0123456789ABCDEF"}, m{"ac": "922F3E83125EB46B"}, true},
		{"dukpt.aes", m{"bdk": "FEDCBA9876543210F1F1F1F1F1F1F1F1", "ksn": "123456789012345600000002"}, m{"ik": "1273671EA26AC29AFA4D1084127652A1", "derivation_key": "2F34D68DE10F68D38091A73B9E7C437C"}, true},
		{"dukpt.aes", m{"ik": "1273671EA26AC29AFA4D1084127652A1", "ksn": "123456789012345600000002"}, m{"derivation_key": "2F34D68DE10F68D38091A73B9E7C437C"}, true},
		{"pinblock.encode", m{"format": "ISO-0", "pan": "5555555551234567", "pin": "1234"}, m{"block": "041261AAAAEDCBA9"}, true},
		{"pinblock.decode", m{"format": "iso 3", "pan": "5555555551234567", "block": "341261aaaaedcba9"}, m{"pin": "1234"}, true},
		{"pinblock.encode", m{"format": "SM4", "pan": "6230606601007726888", "pin": "123654"}, m{"block": "06123654FFFFFFFFFFFF99FEFF88D977"}, true}, // a bank's page, docs/hsm.md
		{"pinblock.decode", m{"format": "SM4", "pan": "6230606601007726888", "block": "06123654FFFFFFFFFFFF99FEFF88D977"}, m{"pin": "123654"}, true},
		{"pinblock.decode", m{"format": "SM4", "block": "06123654FFFFFFFFFFFFFFFFFFFFFFFF"}, m{"pin": "123654"}, true},
		{"pinblock.decode", m{"format": "256", "pan": "5555555551234567", "block": "041261AAAAEDCBA9"}, m{"error": "format"}, true},
		{"pinblock.encode", m{"format": "-3", "pan": "5555555551234567", "pin": "1234", "random": "FFFFFFFFFF"}, m{"error": "format"}, true},
		{"mac.iso9797_alg1", m{"alg": "DES", "key": "0123456789ABCDEF", "padding": 257, "data": ""}, m{"error": "padding"}, true},
		{"block.ecb_encrypt_iter", m{"alg": "DES", "key": "0123456789ABCDEF", "data": "0000000000000000", "iterations": -1}, m{"error": "iterations"}, true},
		{"track.tdb", m{"track3": "1234567890123456789=0508201781999168302"}, m{"tdb3": "0820178199916830"}, true},
		{"track.tdb", m{"track2": "234567890123456789D0508201781999168302"}, m{"tdb2": "5082017819991683"}, true}, // an even number of digits
		{"track.tdb", m{"track2": "123456789D12345"}, m{"error": "short"}, true},
		{"track.tdb", m{"track2": "12345678901234567890X1234"}, m{"error": "digits"}, true},
		{"sm2.verify", m{"pub": "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13", "msg": "6D65737361676520646967657374", "r": "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3", "s": "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"}, m{"valid": true}, true},
	} {
		v := Vector{Op: c.op, Inputs: c.in, Expected: c.expected}
		if err := v.Check(); (err == nil) != c.pass {
			t.Errorf("%s of %v, expecting %v: %v", c.op, c.in, c.expected, err)
		}
	}
}

func FuzzVectors(f *testing.F) {
	data, err := os.ReadFile("../../testdata/vectors/crypto.json")
	if err != nil {
		f.Fatal(err)
	}
	var each []json.RawMessage
	if err := json.Unmarshal(data, &each); err != nil {
		f.Fatal(err)
	}
	for _, v := range each {
		f.Add([]byte("[" + string(v) + "]"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := ReadVectors(data)
		if err != nil {
			return
		}
		for _, v := range all {
			if v.Op == "block.ecb_encrypt_iter" {
				continue // may ask for a billion rounds
			}
			_ = v.Check() // nothing may panic
		}
	})
}

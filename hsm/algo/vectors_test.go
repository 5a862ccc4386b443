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

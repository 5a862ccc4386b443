package payshield

import (
	"encoding/json"
	"os"
	"testing"
)

// wireVector is a published request with its answer.
type wireVector struct {
	Op     string `json:"op"`
	Inputs struct {
		Request string `json:"request"`
	} `json:"inputs"`
	Expected struct {
		Response string `json:"response"`
	} `json:"expected"`
}

func wireVectors(t testing.TB) []wireVector {
	t.Helper()
	text, err := os.ReadFile("../../testdata/vectors/payshield_wire.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []wireVector
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestWireVectors: every published pair, byte for byte.
func TestWireVectors(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	all := wireVectors(t)
	if len(all) != 54 {
		t.Fatalf("%d vectors, want 54", len(all))
	}
	for i, v := range all {
		if got := string(d.Do(v.Inputs.Request)); got != v.Expected.Response {
			t.Errorf("%d %s %s\n got %s\nwant %s", i, v.Op, v.Inputs.Request, got, v.Expected.Response)
		}
	}
}

package spec

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// capture is one message of testdata/vectors/cup_messages.json.
type capture struct {
	ID, Hex, What, Notes string
	raw                  []byte
}

func captures(t testing.TB) []capture {
	t.Helper()
	b, err := os.ReadFile("../testdata/vectors/cup_messages.json")
	if err != nil {
		t.Fatal(err)
	}
	var cs []capture
	if err := json.Unmarshal(b, &cs); err != nil {
		t.Fatal(err)
	}
	for i := range cs {
		if cs[i].raw, err = hex.DecodeString(cs[i].Hex); err != nil {
			t.Fatal(cs[i].ID, err)
		}
	}
	return cs
}

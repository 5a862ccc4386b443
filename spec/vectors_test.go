package spec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

type capture struct{ ID, Hex, What, Notes string }

func TestSmoke(t *testing.T) {
	b, err := os.ReadFile("../testdata/vectors/cup_messages.json")
	if err != nil {
		t.Fatal(err)
	}
	var cs []capture
	if err := json.Unmarshal(b, &cs); err != nil {
		t.Fatal(err)
	}
	malformed := map[string]bool{"sale-req-ic-landi": true, "void-resp-points": true}
	for _, c := range cs {
		if malformed[c.ID] {
			continue
		}
		raw, err := hex.DecodeString(c.Hex)
		if err != nil {
			t.Fatal(c.ID, err)
		}
		d := UnionPayPOS
		body := raw
		if raw[0] == 0x30 {
			d = CUPS
		} else if raw[0] == 0x2e {
			t.Log(ParseCUPSHeader(raw))
			continue
		} else if raw[0] == 0x60 {
			f, err := ParsePOSFrame(raw)
			if err != nil {
				t.Error(c.ID, err)
			}
			body = f.Body
		} else if raw[2] == 0x60 {
			f, _, err := ReadPOSFrame(bytes.NewReader(raw), nil, 4096)
			if err != nil {
				t.Error(c.ID, err)
			}
			body = f.Body
		}
		var m Message
		if err := d.Parse(&m, body); err != nil {
			t.Error(c.ID, err)
			continue
		}
		out, err := m.Append(nil)
		if err != nil || !bytes.Equal(out, body) {
			t.Error(c.ID, err)
		}
	}
}

package algo

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
)

func TestWorkingKeysOfPublicTerminals(t *testing.T) {
	text, err := os.ReadFile("../../testdata/vectors/cup_pin_keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Type, Name, PAN, PIN string
		TMK                  string `json:"tmk_hex"`
		Encrypted            string `json:"encrypted_hex"`
		Clear                string `json:"clear_hex"`
		KCV                  string `json:"kcv_hex"`
		Key                  string `json:"key_hex"`
		C1                   string `json:"component1_hex"`
		C1KCV                string `json:"component1_kcv"`
		C2                   string `json:"component2_hex"`
		C2KCV                string `json:"component2_kcv"`
		PIKEncrypted         string `json:"pik_encrypted_hex"`
		PIKClear             string `json:"pik_clear_hex"`
		ClearBlock           string `json:"clear_block_hex"`
		F52                  string `json:"f52_hex"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	kcv := func(key string) string {
		k, err := NewDESKey(mustHex(t, key))
		if err != nil {
			t.Fatal(err)
		}
		return hexUpper(k.CheckValue())
	}
	under := func(tmk, encrypted string) string {
		out := mustHex(t, encrypted)
		if err := mustKey(t, TDES, tmk).DecryptECB(out, out); err != nil {
			t.Fatal(err)
		}
		return hexUpper(out)
	}
	ran := map[string]int{}
	for i, v := range vectors {
		ran[v.Type]++
		switch v.Type {
		case "working key":
			if got := under(v.TMK, v.Encrypted); got != v.Clear {
				t.Errorf("%d %s: key differs", i, v.Name)
			}
			if got := kcv(v.Clear)[:8]; got != v.KCV {
				t.Errorf("%d %s: check value %s, want %s", i, v.Name, got, v.KCV)
			}
		case "TMK check value":
			if got := kcv(v.Key)[:8]; got != v.KCV {
				t.Errorf("%d: check value %s, want %s", i, got, v.KCV)
			}
		case "TMK from two components (XOR)":
			c1, c2 := mustHex(t, v.C1), mustHex(t, v.C2)
			for j := range c1 {
				c1[j] ^= c2[j]
			}
			if hexUpper(c1) != v.Key || kcv(v.Key)[:6] != v.KCV || kcv(v.C1)[:6] != v.C1KCV || kcv(v.C2)[:6] != v.C2KCV {
				t.Errorf("%d: components", i)
			}
		case "PIN block ANSI X9.8 with PAN":
			if under(v.TMK, v.PIKEncrypted) != v.PIKClear {
				t.Errorf("%d: PIK", i)
			}
			pin, err := ParsePIN(v.PIN)
			if err != nil {
				t.Fatal(err)
			}
			block, err := EncodePIN(ISO0, pin, v.PAN)
			if err != nil || hexUpper(block[:]) != v.ClearBlock {
				t.Errorf("%d: clear block %X, %v, want %s", i, block, err, v.ClearBlock)
			}
			sealed := mustKey(t, TDES, v.PIKClear).Encrypt8(block)
			if hexUpper(sealed[:]) != v.F52 {
				t.Errorf("%d: DE 52 %X, want %s", i, sealed, v.F52)
			}
		default:
			t.Errorf("%d: %q is not looked at", i, v.Type)
		}
	}
	if ran["working key"] != 7 || len(ran) != 4 {
		t.Errorf("ran %v", ran)
	}
}

var testTMK = "CA5D92598DCA48CE8A4C76361A9269E9"

func TestDE62RoundTrip(t *testing.T) {
	tmk := mustKey(t, TDES, testTMK)
	single, double := mustHex(t, "5BB5C72CD00B7338"), mustHex(t, "807A23AD32B36D457AE91FDF927570EA")
	track := mustHex(t, "C9A0F37E18EA3FF71E3BDA58ACCEFCE0")
	for _, c := range []struct {
		what          string
		pik, mak, tdk []byte
		length        int
	}{
		{"001", single, single, nil, 24},
		{"003, single MAK", double, single, nil, 40},
		{"003, double MAK", double, double, nil, 40},
		{"004, single MAK", double, single, track, 60},
		{"004, double MAK", double, double, track, 60},
	} {
		de62, err := AppendDE62([]byte("kept"), tmk, c.pik, c.mak, c.tdk)
		if err != nil || len(de62) != 4+c.length || string(de62[:4]) != "kept" {
			t.Fatalf("%s: %d bytes, %v", c.what, len(de62), err)
		}
		clears, err := splitDE62(tmk, de62[4:])
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		for i, want := range [][]byte{c.pik, c.mak, c.tdk} {
			if want != nil && string(clears[i]) != string(want) {
				t.Errorf("%s: key %d differs", c.what, i+1)
			}
		}
		keys, err := ParseDE62(tmk, de62[4:])
		if err != nil || keys.PIK.Len() != len(c.pik) || keys.MAK.Len() != len(c.mak) || (keys.TDK != nil) != (c.tdk != nil) {
			t.Errorf("%s: %v, %v", c.what, keys, err)
		}
		for i := range c.length {
			de62[4+i] ^= 0x10
			if _, err := ParseDE62(tmk, de62[4:]); !errors.Is(err, ErrDE62) {
				t.Errorf("%s: byte %d changed: %v, want ErrDE62", c.what, i, err)
			}
			de62[4+i] ^= 0x10
		}
	}
	for _, c := range [][3][]byte{
		{nil, nil, nil}, {single, double, nil}, {double, nil, nil}, {single, single, track},
		{double, double, single}, {track[:15], single, nil},
	} {
		if out, err := AppendDE62(nil, tmk, c[0], c[1], c[2]); err == nil || out != nil {
			t.Errorf("keys of %d, %d, %d bytes were taken", len(c[0]), len(c[1]), len(c[2]))
		}
	}
}

// TestSM4DE62: set 005, the 57 bytes some hosts make of it, and keys of the
// other family.
func TestSM4DE62(t *testing.T) {
	tmk := mustKey(t, SM4, "1234567890ABCDEFABCDEF0987654321")
	pik, mak, tdk := mustHex(t, "F351D490994603795C6EBEE8FAEBB481"), mustHex(t, "807A23AD32B36D457AE91FDF927570EA"), mustHex(t, "C9A0F37E18EA3FF71E3BDA58ACCEFCE0")
	de62, err := AppendDE62([]byte("kept"), tmk, pik, mak, tdk)
	if err != nil || len(de62) != 64 || string(de62[:4]) != "kept" {
		t.Fatalf("%d bytes, %v", len(de62), err)
	}
	de62 = de62[4:]
	// The cryptogram and check value of this PIK are published
	// (nameidi.com/n/9rd4jp1z.html).
	if got := hexUpper(de62[:20]); got != "3D66234C49E4296FF9C78D8BACBD6A76861E83E3" {
		t.Errorf("PIK %s", got)
	}
	v := Vector{Op: "key.unionpay_signin_f62",
		Inputs:   map[string]any{"alg": "SM4", "tmk": "1234567890ABCDEFABCDEF0987654321", "f62": hexUpper(de62)},
		Expected: map[string]any{"pik_clear": hexUpper(pik), "pik_kcv": "861E83E3", "tdk_clear": hexUpper(tdk)}}
	if err := v.Check(); err != nil {
		t.Errorf("as a vector: %v", err)
	}
	for n := range 106 {
		b := append(de62[:len(de62):len(de62)], make([]byte, 60)...)[:n]
		keys, err := ParseDE62(tmk, b)
		if n != 57 && n != 60 {
			if !errors.Is(err, ErrDE62) || keys != (SignInKeys{}) {
				t.Errorf("%d bytes: %v, want ErrDE62", n, err)
			}
			continue
		}
		if err != nil || keys.PIK.Cipher() != SM4 || keys.MAK.Cipher() != SM4 || keys.TDK.Cipher() != SM4 {
			t.Fatalf("%d bytes: %v, %v", n, keys, err)
		}
		for i, k := range []*Key{keys.PIK, keys.MAK, keys.TDK} {
			want, err := NewKey(SM4, [][]byte{pik, mak, tdk}[i])
			if err != nil || hexUpper(k.CheckValue()) != hexUpper(want.CheckValue()) {
				t.Errorf("%d bytes: key %d differs, %v", n, i+1, err)
			}
		}
		for i := range b {
			changed := append([]byte(nil), b...)
			changed[i] ^= 0x10
			if _, err := ParseDE62(tmk, changed); !errors.Is(err, ErrDE62) {
				// One byte of check value misses a key in 256; with these it does not.
				t.Errorf("%d bytes, byte %d changed: %v, want ErrDE62", n, i, err)
			}
		}
	}
	tdes := mustKey(t, TDES, testTMK)
	if _, err := ParseDE62(tdes, de62); !errors.Is(err, ErrDE62) {
		t.Errorf("SM4 keys under a TDES TMK: %v", err)
	}
	if _, err := ParseDE62(mustKey(t, AES, testTMK), de62); !errors.Is(err, ErrDE62) {
		t.Errorf("an AES TMK: %v", err)
	}
	for _, c := range [][3][]byte{
		{nil, nil, nil}, {pik, mak, nil}, {pik, mak[:8], tdk}, {pik[:8], mak[:8], nil}, {pik, mak, tdk[:8]}, {pik, nil, tdk},
	} {
		if out, err := AppendDE62(nil, tmk, c[0], c[1], c[2]); err == nil || out != nil {
			t.Errorf("SM4 keys of %d, %d, %d bytes were taken", len(c[0]), len(c[1]), len(c[2]))
		}
	}
}

func FuzzDE62(f *testing.F) {
	tmk := mustKey(f, TDES, testTMK)
	f.Add(mustHex(f, "6701EAD6A9AD51E51AA406E2C27FCFA98D0A74B8B651F9E9BACE9AE10000000000000000AB7153CA"))
	f.Add(make([]byte, 24))
	f.Add(make([]byte, 60))
	national := mustKey(f, SM4, "1234567890ABCDEFABCDEF0987654321")
	key := make([]byte, 16)
	sm4Keys, err := AppendDE62(nil, national, key, key, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sm4Keys)
	f.Add(sm4Keys[:57])
	f.Add([]byte("Sequence No10SXXX00000001"))
	f.Fuzz(func(t *testing.T, de62 []byte) {
		keys, err := ParseDE62(tmk, de62)
		if (err == nil) != (keys.PIK != nil && keys.MAK != nil) {
			t.Fatalf("%v, %v", keys, err)
		}
		if err == nil && (keys.TDK != nil) != (len(de62) == 60) {
			t.Fatalf("%d bytes: %v", len(de62), keys)
		}
		keys, err = ParseDE62(national, de62)
		if all := keys.PIK != nil && keys.MAK != nil && keys.TDK != nil; (err == nil) != all || err != nil && !errors.Is(err, ErrDE62) {
			t.Fatalf("SM4: %v, %v", keys, err)
		}
	})
}

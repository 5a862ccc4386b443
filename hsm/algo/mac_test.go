package algo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/emmansun/gmsm/cbcmac"
)

func mustKey(t testing.TB, c Cipher, text string) *Key {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKey(c, b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustHex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestUnionPayMACs recomputes the MACs of cup_mac.json: real messages with the
// value their senders put into field 64.
func TestUnionPayMACs(t *testing.T) {
	text, err := os.ReadFile("../../testdata/vectors/cup_mac.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Source, Algorithm string
		Key               string `json:"key_hex"`
		Data              string `json:"data_hex"`
		MAC               string `json:"mac_hex"`
		Computed          string `json:"computed"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 4 {
		t.Fatalf("%d vectors, know 4", len(vectors))
	}
	data := func(i int) []byte { return mustHex(t, vectors[i].Data) }

	double := mustKey(t, TDES, vectors[0].Key)
	if mac := double.UnionPayMAC(data(0)); hexUpper(mac[:]) != vectors[0].MAC {
		t.Errorf("%s: %s, want %s", vectors[0].Source, mac[:], vectors[0].MAC)
	}

	// The second gives the last block before it is written as text.
	single := mustKey(t, DES, vectors[1].Key)
	if mac := single.UnionPayMAC(data(1)); string(mac[:]) != vectors[1].MAC[:8] {
		t.Errorf("%s: %s, want %s", vectors[1].Source, mac[:], vectors[1].MAC[:8])
	}

	// X9.19, of which the first 8 hex characters travel.
	mac, err := mustKey(t, TDES, vectors[2].Key).AppendRetailMAC(nil, PadZeros, data(2))
	if err != nil {
		t.Fatal(err)
	}
	if got := hexUpper([]byte(hexUpper(mac)[:8])); got != vectors[2].MAC {
		t.Errorf("%s: %s, want %s", vectors[2].Source, got, vectors[2].MAC)
	}

	// Of SM4 only the fold was published.
	fold := make([]byte, 16)
	foldXOR(fold, data(3))
	if hexUpper(fold) != vectors[3].Computed {
		t.Errorf("%s: fold %X, want %s", vectors[3].Source, fold, vectors[3].Computed)
	}
}

// TestUnionPayMACIsCBCMACOfTheFold: what lets a plain HSM make it.
func TestUnionPayMACIsCBCMACOfTheFold(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	keys := []*Key{
		mustKey(t, DES, "0123456789ABCDEF"),
		mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210"),
		mustKey(t, SM4, "0123456789ABCDEFFEDCBA9876543210"),
	}
	for _, k := range keys {
		for n := range 100 {
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			fold := make([]byte, k.cipher.BlockSize())
			for i, b := range data {
				fold[i%len(fold)] ^= b
			}
			want := hexUpper(k.AppendCBCMAC(nil, PadZeros, []byte(hexUpper(fold))))[:8]
			if got := k.UnionPayMAC(data); string(got[:]) != want {
				t.Fatalf("%v, %d bytes: %s, want %s", k, n, got[:], want)
			}
		}
	}
}

// TestMACsAgainstAnotherImplementation compares with gmsm's cbcmac at every
// length up to five blocks.
func TestMACsAgainstAnotherImplementation(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	keys := []*Key{
		mustKey(t, DES, "133457799BBCDFF1"),
		mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210"),
		mustKey(t, TDES, "0123456789ABCDEFFEDCBA987654321089ABCDEF01234567"),
		mustKey(t, AES, "2B7E151628AED2A6ABF7158809CF4F3C"),
		mustKey(t, AES, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6"),
		mustKey(t, SM4, "0123456789ABCDEFFEDCBA9876543210"),
	}
	for _, k := range keys {
		size := k.cipher.BlockSize()
		for n := 1; n <= 80; n++ { // of an empty message gmsm's padding 1 makes no block
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			same := func(name string, got, want []byte) {
				t.Helper()
				if !bytes.Equal(got, want) {
					t.Fatalf("%s of %v over %d bytes: %X, want %X", name, k, n, got, want)
				}
			}
			if size == 16 { // gmsm v0.44.0 multiplies by the wrong polynomial for blocks of 8
				same("CMAC", k.AppendCMAC(nil, data), cbcmac.NewCMAC(k.block, size).MAC(data))
			}
			same("CBC-MAC, padding 2", k.AppendCBCMAC(nil, PadBit, data), cbcmac.NewCBCMAC(k.block, size).MAC(data))
			if k.cipher == TDES && k.length == 16 {
				got, err := k.AppendRetailMAC(nil, PadBit, data)
				if err != nil {
					t.Fatal(err)
				}
				right := mustKey(t, DES, "FEDCBA9876543210")
				split, err := AppendRetailMAC2(nil, mustKey(t, DES, "0123456789ABCDEF"), right, PadBit, data)
				if err != nil {
					t.Fatal(err)
				}
				same("retail MAC", got, split)
			}
		}
	}
}

// TestTDESCMAC has the three-key examples of NIST SP 800-38B, D.4.
func TestTDESCMAC(t *testing.T) {
	k := mustKey(t, TDES, "8AA83BF8CBDA10620BC1BF19FBB6CD58BC313D4A371CA8B5")
	for data, want := range map[string]string{
		"":                 "B7A688E122FFAF95",
		"6BC1BEE22E409F96": "8E8F293136283797",
		"6BC1BEE22E409F96E93D7E117393172AAE2D8A57":                         "743DDBE0CE2DC2ED",
		"6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E51": "33E6B1092400EAE5",
	} {
		if got := hexUpper(k.AppendCMAC(nil, mustHex(t, data))); got != want {
			t.Errorf("over %d bytes: %s, want %s", len(data)/2, got, want)
		}
	}
}

// TestShortMACs: DE 64 has the first 8 bytes, whatever the cipher's block.
func TestShortMACs(t *testing.T) {
	data := []byte("0200 and what else a message has")
	for c, key := range map[Cipher]string{
		DES: "0123456789ABCDEF", TDES: "807A23AD32B36D457AE91FDF927570EA",
		AES: "2B7E151628AED2A6ABF7158809CF4F3C", SM4: "0123456789ABCDEFFEDCBA9876543210",
	} {
		k := mustKey(t, c, key)
		if got, want := k.X99MAC(data), k.AppendCBCMAC(nil, PadZeros, data)[:8]; !bytes.Equal(got[:], want) {
			t.Errorf("X9.9 with %v: %X, want %X", c, got, want)
		}
		if got, want := k.CMAC(data), k.AppendCMAC(nil, data)[:8]; !bytes.Equal(got[:], want) {
			t.Errorf("CMAC with %v: %X, want %X", c, got, want)
		}
	}
}

// TestSM4UnionPayMAC: the worked example of crypto.json goes on after the
// steps it prints; its field 64 is by our own computation.
func TestSM4UnionPayMAC(t *testing.T) {
	k := mustKey(t, SM4, "12345678901234567890123456789012")
	mab := mustHex(t, "36303030313132303138313131343131303033303230313730393330313031303130313230313731303235303030373535303030303030303035353533")
	if mac := k.UnionPayMAC(mab); string(mac[:]) != "1E80F373" {
		t.Errorf("%s, want 1E80F373", mac[:])
	}
}

func TestMACOfNothing(t *testing.T) {
	k := mustKey(t, DES, "0123456789ABCDEF")
	zero := k.CheckValue()
	// ISO 9797-1, 6.3.2: an empty string is padded to one block of zeros.
	if got := k.AppendCBCMAC(nil, PadZeros, nil); !bytes.Equal(got, zero) {
		t.Errorf("padding 1: %X, want %X", got, zero)
	}
	if got, want := k.AppendCBCMAC(nil, PadBit, nil), k.Encrypt8([8]byte{0x80}); !bytes.Equal(got, want[:]) {
		t.Errorf("padding 2: %X, want %X", got, want)
	}
	// Padding 3 of nothing is the length block, then one block of zeros
	// (6.3.4).
	first := k.Encrypt8([8]byte{})
	if got, want := k.AppendCBCMAC(nil, PadLength, nil), k.Encrypt8(first); !bytes.Equal(got, want[:]) {
		t.Errorf("padding 3: %X, want %X", got, want)
	}
}

func TestRetailMACWantsTwoHalves(t *testing.T) {
	for _, k := range []*Key{
		mustKey(t, DES, "0123456789ABCDEF"),
		mustKey(t, TDES, "0123456789ABCDEFFEDCBA987654321089ABCDEF01234567"),
		mustKey(t, AES, "2B7E151628AED2A6ABF7158809CF4F3C"),
	} {
		if mac, err := k.AppendRetailMAC(nil, PadZeros, []byte("data")); err != ErrRetailKey || mac != nil {
			t.Errorf("%v: %X, %v; want ErrRetailKey", k, mac, err)
		}
	}
}

func TestMACsDoNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget")
	}
	des := mustKey(t, DES, "0123456789ABCDEF")
	tdes := mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210")
	aes := mustKey(t, AES, "2B7E151628AED2A6ABF7158809CF4F3C")
	sm4 := mustKey(t, SM4, "0123456789ABCDEFFEDCBA9876543210")
	data := make([]byte, 203)
	pin, err := ParsePIN("123456")
	if err != nil {
		t.Fatal(err)
	}
	block, err := EncodePIN(ISO0, pin, "6228480402564890018")
	if err != nil {
		t.Fatal(err)
	}
	wide, err := SealPIN(sm4, SM4WithPAN, pin, "6228480402564890018")
	if err != nil {
		t.Fatal(err)
	}
	track, room := []byte(track2), make([]byte, 0, 256)
	for name, f := range map[string]func(){
		"UnionPay single": func() { des.UnionPayMAC(data) },
		"UnionPay double": func() { tdes.UnionPayMAC(data) },
		"UnionPay SM4":    func() { sm4.UnionPayMAC(data) },
		"X9.9":            func() { var m [8]byte; des.AppendCBCMAC(m[:0], PadZeros, data) },
		"X9.19":           func() { var m [8]byte; _, _ = tdes.AppendRetailMAC(m[:0], PadZeros, data) },
		"CMAC AES":        func() { var m [16]byte; aes.AppendCMAC(m[:0], data) },
		"PIN block 0":     func() { _, _ = EncodePIN(ISO0, pin, "6228480402564890018") },
		"PIN block 1":     func() { _, _ = EncodePIN(ISO1, pin, "") },
		"PIN block 3":     func() { _, _ = EncodePIN(ISO3, pin, "6228480402564890018") },
		"PIN decode":      func() { _, _ = DecodePIN(ISO0, block, "6228480402564890018") },
		"X9.9 SM4":        func() { sm4.X99MAC(data) },
		"CMAC SM4":        func() { sm4.CMAC(data) },
		"SM4 PIN seal":    func() { _, _ = SealPIN(sm4, SM4WithPAN, pin, "6228480402564890018") },
		"SM4 PIN open":    func() { _, _ = OpenPIN(sm4, SM4WithPAN, wide, "6228480402564890018") },
		"PIN seal":        func() { _, _ = SealPIN(tdes, ISO0, pin, "6228480402564890018") },
		"track, TDB":      func() { _, _ = AppendEncryptedTrack(room, tdes, TrackTDB, track) },
		"track, whole":    func() { _, _ = AppendEncryptedTrack(room, sm4, TrackWhole, track) },
		"track, length":   func() { _, _ = AppendEncryptedTrack(room, tdes, TrackLength, track) },
		"one block":       func() { tdes.Encrypt8(block) },
	} {
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkMAC200(b *testing.B) {
	data := make([]byte, 200)
	des := mustKey(b, DES, "0123456789ABCDEF")
	tdes := mustKey(b, TDES, "0123456789ABCDEFFEDCBA9876543210")
	aes := mustKey(b, AES, "2B7E151628AED2A6ABF7158809CF4F3C")
	sm4 := mustKey(b, SM4, "0123456789ABCDEFFEDCBA9876543210")
	var m [16]byte
	for _, bench := range []struct {
		name string
		f    func()
	}{
		{"UnionPaySingle", func() { des.UnionPayMAC(data) }},
		{"UnionPayDouble", func() { tdes.UnionPayMAC(data) }},
		{"UnionPaySM4", func() { sm4.UnionPayMAC(data) }},
		{"X99SM4", func() { sm4.X99MAC(data) }},
		{"X99", func() { des.AppendCBCMAC(m[:0], PadZeros, data) }},
		{"X919", func() { _, _ = tdes.AppendRetailMAC(m[:0], PadZeros, data) }},
		{"CMACAES", func() { aes.AppendCMAC(m[:0], data) }},
		{"CMACSM4", func() { sm4.AppendCMAC(m[:0], data) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bench.f()
			}
		})
	}
}

func BenchmarkNewKeyTDES(b *testing.B) {
	key := mustHex(b, "0123456789ABCDEFFEDCBA9876543210")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewKey(TDES, key); err != nil {
			b.Fatal(err)
		}
	}
}

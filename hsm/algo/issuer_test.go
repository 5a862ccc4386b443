package algo

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/big"
	"testing"

	"github.com/emmansun/gmsm/sm2"
	"pgregory.net/rapid"
)

func TestDecimalisationTables(t *testing.T) {
	for table, ok := range map[string]bool{
		"0123456789012345": true, "1234567890123456": true, "0000111122223333": false, "0000123456712345": true,
		"0000012345678912": false, "": false, "012345678901234": false, "01234567890123456": false, "012345678901234A": false,
	} {
		if err := CheckDecimalisation(table); ok != (err == nil) {
			t.Errorf("%q: %v", table, err)
		}
	}
}

// TestIBM3624RoundTrip: the offset of a PIN gives the PIN again, for every
// length of both.
func TestIBM3624RoundTrip(t *testing.T) {
	pvk := mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210")
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`[0-9]{4,12}`).Draw(t, "pin")
		n := rapid.IntRange(4, len(digits)).Draw(t, "check length")
		data := [8]byte(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "validation data"))
		pin, err := ParsePIN(digits)
		if err != nil {
			t.Fatal(err)
		}
		offset, err := IBM3624Offset(pvk, "0123456789012345", data, pin, n)
		if err != nil || len(offset) != n {
			t.Fatalf("%q, %v", offset, err)
		}
		back, err := IBM3624PIN(pvk, "0123456789012345", data, offset)
		if err != nil || back.reveal() != digits[:n] {
			t.Fatalf("%s is %s again, %v", digits, back.reveal(), err)
		}
	})
	pin, _ := ParsePIN("123456")
	for _, c := range []struct {
		pvk    *Key
		table  string
		offset string
		n      int
	}{
		{pvk, "012345678901234", "0000", 4},
		{pvk, "012345678901234A", "0000", 4},
		{pvk, "0123456789012345", "000", 3},
		{pvk, "0123456789012345", "0000000000000", 7},
		{pvk, "0123456789012345", "00x0", -1},
		{mustKey(t, AES, "0123456789ABCDEFFEDCBA9876543210"), "0123456789012345", "0000", 4},
	} {
		if p, err := IBM3624PIN(c.pvk, c.table, [8]byte{}, c.offset); err == nil || p.n != 0 {
			t.Errorf("%+v: PIN %v", c, err)
		}
		if _, err := IBM3624Offset(c.pvk, c.table, [8]byte{}, pin, c.n); err == nil {
			t.Errorf("%+v: offset", c)
		}
	}
}

func TestScriptPaddings(t *testing.T) {
	k := mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210")
	for _, c := range []struct {
		pad  ScriptPadding
		data string
		want string // in clear
	}{
		{ScriptEMV, "11", "1180000000000000"},
		{ScriptEMV, "1122334455667788", "11223344556677888000000000000000"},
		{ScriptMChip, "1122334455667788", "1122334455667788"},
		{ScriptMChip, "112233", "1122338000000000"},
		{ScriptVisa, "1122334455667788", "08112233445566778880000000000000"},
		{ScriptVisa, "11223344556677", "0711223344556677"},
	} {
		sealed, err := EncryptScript(k, c.pad, mustHex(t, c.data))
		if err != nil {
			t.Fatal(err)
		}
		clear := make([]byte, len(sealed))
		if c.pad == ScriptVisa {
			err = k.DecryptECB(clear, sealed)
		} else {
			err = k.DecryptCBC(make([]byte, 8), clear, sealed)
		}
		if err != nil || hexUpper(clear) != c.want {
			t.Errorf("padding %d of %s: %X, %v, want %s", c.pad, c.data, clear, err, c.want)
		}
	}
	for _, c := range []struct {
		k   *Key
		pad ScriptPadding
		n   int
	}{{k, 0, 8}, {k, 4, 8}, {k, ScriptEMV, 0}, {k, ScriptVisa, 256}, {mustKey(t, SM4, "0123456789ABCDEFFEDCBA9876543210"), ScriptEMV, 8}} {
		if _, err := EncryptScript(c.k, c.pad, make([]byte, c.n)); err == nil {
			t.Errorf("padding %d of %d bytes under %v was made", c.pad, c.n, c.k)
		}
	}
	if _, err := ScriptMAC(mustKey(t, DES, "0123456789ABCDEF"), []byte{1}); !errors.Is(err, ErrRetailKey) {
		t.Errorf("script MAC under single DES: %v", err)
	}
	if _, err := VisaPINBlock(k, OptionA, "", "", PIN{}, nil); err == nil {
		t.Error("a PIN block for no card")
	}
	if _, err := VisaPINBlock(k, OptionA, "4761739001010119", "", PIN{}, nil); err == nil {
		t.Error("a PIN block without PIN")
	}
}

// TestCVC3Inputs: every one of them counts.
func TestCVC3Inputs(t *testing.T) {
	imk := mustKey(t, TDES, "01234567899876543210012345678998")
	track := mustHex(t, "5123456789012345D35121010000000000000F")
	codes := map[string]bool{}
	for _, c := range []struct {
		pan, psn string
		track    []byte
		un       [4]byte
		atc      [2]byte
	}{
		{"5123456789012345", "00", track, [4]byte{0, 0, 8, 0x99}, [2]byte{0, 0x5E}},
		{"5123456789012346", "00", track, [4]byte{0, 0, 8, 0x99}, [2]byte{0, 0x5E}},
		{"5123456789012345", "01", track, [4]byte{0, 0, 8, 0x99}, [2]byte{0, 0x5E}},
		{"5123456789012345", "00", track[1:], [4]byte{0, 0, 8, 0x99}, [2]byte{0, 0x5E}},
		{"5123456789012345", "00", track, [4]byte{0, 0, 8, 0x98}, [2]byte{0, 0x5E}},
		{"5123456789012345", "00", track, [4]byte{0, 0, 8, 0x99}, [2]byte{0, 0x5F}},
	} {
		code, err := CVC3(imk, OptionA, c.pan, c.psn, c.track, c.un, c.atc)
		if err != nil || len(code) != 5 || codes[code] {
			t.Errorf("%+v: %q, %v", c, code, err)
		}
		codes[code] = true
	}
	if !codes["29488"] {
		t.Errorf("the published code is not among %v", codes)
	}
	if _, err := CVC3(imk, OptionA, "x", "", track, [4]byte{}, [2]byte{}); err == nil {
		t.Error("a code for no card")
	}
}

func TestSM2(t *testing.T) {
	key, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	priv := key.D.FillBytes(make([]byte, 32))
	pub := append([]byte{4}, append(key.X.FillBytes(make([]byte, 32)), key.Y.FillBytes(make([]byte, 32))...)...)
	for _, old := range []bool{false, true} {
		order := sm2.C1C3C2
		if old {
			order = sm2.C1C2C3
		}
		// No text of one byte: one time in 256 its mask is zero, and the second try
		// of the library that encrypts here is wrong (gmsm v0.44.0).
		for _, text := range [][]byte{[]byte("text"), bytes.Repeat([]byte("encryption"), 40)} {
			sealed, err := sm2.Encrypt(rand.Reader, &key.PublicKey, text, sm2.NewPlainEncrypterOpts(sm2.MarshalUncompressed, order))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := SM2Decrypt(priv, sealed, old); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes, old order %v: %v", len(text), old, err)
			}
			if _, err := SM2Decrypt(priv, sealed, !old); err == nil {
				t.Errorf("%d bytes came out of the wrong order", len(text))
			}
			sealed[len(sealed)-1] ^= 1
			if _, err := SM2Decrypt(priv, sealed, old); err == nil {
				t.Error("a changed ciphertext was decrypted")
			}
		}
	}
	for _, c := range [][2][]byte{{nil, make([]byte, 100)}, {make([]byte, 32), make([]byte, 100)}, {priv, nil}, {priv, make([]byte, 98)}, {priv, append(pub, make([]byte, 32)...)}, {priv, append(pub, make([]byte, 40)...)}} {
		if _, err := SM2Decrypt(c[0], c[1], false); err == nil {
			t.Errorf("key of %d bytes, ciphertext of %d: taken", len(c[0]), len(c[1]))
		}
	}

	msg := []byte("message digest")
	for _, id := range []string{"", SM2DefaultID, "ALICE123@YAHOO.COM"} {
		_, e, err := SM2Digest(pub, []byte(id), msg)
		if err != nil {
			t.Fatal(err)
		}
		r, s, err := sm2.Sign(rand.Reader, &key.PrivateKey, e[:])
		if err != nil {
			t.Fatal(err)
		}
		large := new(big.Int).Add(r, sm2.P256().Params().N)
		for what, c := range map[string]struct {
			id, msg string
			r, s    []byte
			want    bool
		}{
			"as signed":    {id, string(msg), r.Bytes(), s.Bytes(), true},
			"zeros before": {id, string(msg), append([]byte{0}, r.Bytes()...), s.Bytes(), true},
			"another id":   {id + "x", string(msg), r.Bytes(), s.Bytes(), false},
			"another text": {id, "message digesT", r.Bytes(), s.Bytes(), false},
			"s and r":      {id, string(msg), s.Bytes(), r.Bytes(), false},
			"r of zero":    {id, string(msg), nil, s.Bytes(), false},
			"s of zero":    {id, string(msg), r.Bytes(), []byte{0}, false},
			"r and n":      {id, string(msg), large.Bytes(), s.Bytes(), false},
			"s far too":    {id, string(msg), r.Bytes(), bytes.Repeat([]byte{0xFF}, 70), false},
		} {
			if ok, err := SM2Verify(pub, []byte(c.id), []byte(c.msg), c.r, c.s); err != nil || ok != c.want {
				t.Errorf("id %q, %s: %v, %v", id, what, ok, err)
			}
		}
	}
	for _, bad := range [][]byte{nil, pub[1:], append([]byte{4}, make([]byte, 64)...), append(append([]byte{4}, pub[33:]...), pub[1:33]...)} {
		if ok, err := SM2Verify(bad, nil, msg, []byte{1}, []byte{1}); err == nil || ok {
			t.Errorf("public key of %d bytes: %v, %v", len(bad), ok, err)
		}
		if _, _, err := SM2Digest(bad, nil, msg); err == nil {
			t.Errorf("public key of %d bytes: taken", len(bad))
		}
	}
	if _, _, err := SM2Digest(pub, make([]byte, 8192), nil); err == nil {
		t.Error("an identity of 8192 bytes was taken")
	}
}

package algo

import (
	"bytes"
	"errors"
	"math/bits"
	"testing"
)

func TestOddParity(t *testing.T) {
	for b := range 256 {
		key := []byte{byte(b)}
		wasOdd := bits.OnesCount8(byte(b))%2 == 1
		if OddParity(key) != wasOdd {
			t.Errorf("OddParity(%02X) = %v", b, !wasOdd)
		}
		SetOddParity(key)
		if !OddParity(key) || key[0]&0xFE != byte(b)&0xFE {
			t.Errorf("SetOddParity(%02X) = %02X", b, key[0])
		}
	}
	if OddParity([]byte{0x01, 0x02, 0x03}) {
		t.Error("one even byte of three went unnoticed")
	}
	if !OddParity(mustHex(t, "0123456789ABCDEF")) {
		t.Error("0123456789ABCDEF has odd parity")
	}
}

func TestCheckDES(t *testing.T) {
	const good, other, third = "0123456789ABCDEF", "FEDCBA9876543210", "89ABCDEF01234567"
	for _, c := range []struct {
		what, key string
		want      error
	}{
		{"single", good, nil},
		{"double", good + other, nil},
		{"triple", good + other + third, nil},
		{"equal halves", good + good, ErrRepeatedParts},
		{"halves equal but for parity", good + "0022446688AACCEE", ErrRepeatedParts},
		{"first and second equal", good + good + other, ErrRepeatedParts},
		{"second and third equal", good + other + other, ErrRepeatedParts},
		{"first and third equal", good + other + good, ErrRepeatedParts},
		{"zeros", "0000000000000000", ErrWeakKey},
		{"ones", "FFFFFFFFFFFFFFFF", ErrWeakKey},
		{"weak right half", good + "1F1F1F1F0E0E0E0E", ErrWeakKey},
		{"semi-weak without parity", "001F001F000E000E", ErrWeakKey},
	} {
		key := mustHex(t, c.key)
		kept := bytes.Clone(key)
		if err := CheckDES(key); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
		if !bytes.Equal(key, kept) {
			t.Errorf("%s: the key was changed", c.what)
		}
	}
	if CheckDES(make([]byte, 7)) == nil || CheckDES(nil) == nil {
		t.Error("a key of no DES length was taken")
	}
}

// TestWeakKeysAreWeak: encrypting twice with a weak key, or with the two of a
// semi-weak pair, gives the message back. The table cannot hold a typing
// mistake.
func TestWeakKeysAreWeak(t *testing.T) {
	msg := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	for i, w := range weakKeys {
		partner := w
		if i >= 4 {
			partner = weakKeys[4+(i-4)^1]
		}
		a, b := keyOf(t, w), keyOf(t, partner)
		if b.Encrypt8(a.Encrypt8(msg)) != msg {
			t.Errorf("weak key %d is not", i)
		}
	}
}

func keyOf(t *testing.T, v uint64) *Key {
	t.Helper()
	var b [8]byte
	for i := range b {
		b[i] = byte(v >> (56 - 8*i))
	}
	if !OddParity(b[:]) {
		t.Errorf("%X has no odd parity", v)
	}
	k, err := NewKey(DES, b[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyLengths(t *testing.T) {
	for _, c := range []Cipher{DES, TDES, AES, SM4, 0, 9} {
		for n := range 41 {
			_, err := NewKey(c, make([]byte, n))
			want := c == DES && n == 8 || c == TDES && (n == 16 || n == 24) ||
				c == AES && (n == 16 || n == 24 || n == 32) || c == SM4 && n == 16
			if (err == nil) != want {
				t.Errorf("%v key of %d bytes: %v", c, n, err)
			}
		}
	}
}

func TestWholeBlocksOnly(t *testing.T) {
	k := mustKey(t, TDES, "0123456789ABCDEFFEDCBA9876543210")
	out := make([]byte, 16)
	for name, err := range map[string]error{
		"ECB":          k.EncryptECB(out, make([]byte, 9)),
		"ECB back":     k.DecryptECB(out, make([]byte, 9)),
		"ECB short":    k.EncryptECB(out[:8], make([]byte, 16)),
		"CBC":          k.EncryptCBC(make([]byte, 8), out, make([]byte, 9)),
		"CBC bad IV":   k.EncryptCBC(make([]byte, 7), out, make([]byte, 8)),
		"CBC back":     k.DecryptCBC(make([]byte, 8), out, make([]byte, 9)),
		"CBC back iv":  k.DecryptCBC(nil, out, make([]byte, 8)),
		"CBC short to": k.DecryptCBC(make([]byte, 8), out[:8], make([]byte, 16)),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	iv, msg := []byte("initial "), []byte("sixteen bytes of")
	if err := k.EncryptCBC(iv, out, msg); err != nil {
		t.Fatal(err)
	}
	if err := k.DecryptCBC(iv, out, out); err != nil || !bytes.Equal(out, msg) {
		t.Errorf("CBC there and back: %q, %v", out, err)
	}
}

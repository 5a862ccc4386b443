// Package algo holds the primitives of card payment cryptography on clear
// keys: block ciphers, check values, MACs, PIN blocks, EMV keys and
// cryptograms, key blocks. It decides nothing and remembers nothing: package
// hsm binds keys to a use and keeps them wrapped; simulated terminals and
// cards, which are secure devices of their own, use the primitives directly.
//
// The ciphers themselves are crypto/des, crypto/aes and emmansun/gmsm.
package algo

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/emmansun/gmsm/sm4"
)

// Cipher names a block cipher.
type Cipher uint8

// The ciphers. TDES is the two-key (16 bytes) or three-key (24 bytes) form of
// ISO/IEC 18033-3; SM4 is GB/T 32907-2016.
const (
	DES Cipher = iota + 1
	TDES
	AES
	SM4
)

// String returns the cipher's name as the vector files write it.
func (c Cipher) String() string {
	switch c {
	case DES:
		return "DES"
	case TDES:
		return "TDES"
	case AES:
		return "AES"
	case SM4:
		return "SM4"
	}
	return "unknown cipher"
}

// BlockSize is 8 for DES and TDES, 16 for AES and SM4.
func (c Cipher) BlockSize() int {
	if c == DES || c == TDES {
		return 8
	}
	return 16
}

// Key is a clear key, expanded and ready. It is safe for concurrent use, and
// it prints as its cipher and length, never as its value. Its verbs on single
// blocks and its MACs do not allocate.
type Key struct {
	cipher Cipher
	length int // bytes of key
	block  cipher.Block
	left   cipher.Block // single DES of the left half, TDES only
}

// NewKey expands a key: 8 bytes for DES, 16 or 24 for TDES, 16, 24 or 32 for
// AES, 16 for SM4. It keeps no reference to the bytes. Weak keys and parity
// are not looked at here: CheckDES does.
func NewKey(c Cipher, key []byte) (*Key, error) {
	k := &Key{cipher: c, length: len(key)}
	var err error
	switch {
	case c == DES && len(key) == 8:
		k.block, err = des.NewCipher(key)
	case c == TDES && len(key) == 16:
		var full [24]byte
		copy(full[:], key)
		copy(full[16:], key)
		k.block, err = des.NewTripleDESCipher(full[:])
		clear(full[:])
	case c == TDES && len(key) == 24:
		k.block, err = des.NewTripleDESCipher(key)
	case c == AES && (len(key) == 16 || len(key) == 24 || len(key) == 32):
		k.block, err = aes.NewCipher(key)
	case c == SM4 && len(key) == 16:
		k.block, err = sm4.NewCipher(key)
	default:
		return nil, fmt.Errorf("algo: a key of %d bytes is not a key of %v", len(key), c)
	}
	if err == nil && c == TDES {
		k.left, err = des.NewCipher(key[:8])
	}
	if err != nil {
		return nil, fmt.Errorf("algo: expanding a %v key: %w", c, err)
	}
	return k, nil
}

// NewDESKey takes a DES key of any length: 8 bytes are single DES, 16 and 24
// are TDES.
func NewDESKey(key []byte) (*Key, error) {
	if len(key) == 8 {
		return NewKey(DES, key)
	}
	return NewKey(TDES, key)
}

// Cipher returns the key's cipher.
func (k *Key) Cipher() Cipher { return k.cipher }

// Len returns the length of the key in bytes.
func (k *Key) Len() int { return k.length }

// Block is the expanded cipher, for the modes of package crypto/cipher.
func (k *Key) Block() cipher.Block { return k.block }

// String, GoString, Format and LogValue say what kind of key it is.
func (k *Key) String() string {
	if k == nil {
		return "no key"
	}
	return fmt.Sprintf("%v key of %d bytes", k.cipher, k.length)
}
func (k *Key) GoString() string              { return k.String() }
func (k *Key) LogValue() slog.Value          { return slog.StringValue(k.String()) }
func (k *Key) MarshalText() ([]byte, error)  { return []byte(k.String()), nil }
func (k *Key) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, k.String()) }

// scratch is the memory that crosses the cipher.Block interface. Arrays on
// the stack would escape there, one allocation per call.
type scratch struct{ a, b [16]byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// release wipes s before the next caller sees it: it has held PIN blocks.
func (s *scratch) release() {
	*s = scratch{}
	scratches.Put(s)
}

// Encrypt8 encrypts one block of DES or TDES.
func (k *Key) Encrypt8(in [8]byte) (out [8]byte) {
	s := scratches.Get().(*scratch)
	copy(s.a[:8], in[:])
	k.block.Encrypt(s.a[:8], s.a[:8])
	copy(out[:], s.a[:8])
	s.release()
	return out
}

// Decrypt8 decrypts one block of DES or TDES.
func (k *Key) Decrypt8(in [8]byte) (out [8]byte) {
	s := scratches.Get().(*scratch)
	copy(s.a[:8], in[:])
	k.block.Decrypt(s.a[:8], s.a[:8])
	copy(out[:], s.a[:8])
	s.release()
	return out
}

// EncryptECB encrypts whole blocks, each by itself; dst and src may be the
// same. UnionPay terminals take their keys this way (ANSI X9.17).
func (k *Key) EncryptECB(dst, src []byte) error {
	n := k.cipher.BlockSize()
	if len(src)%n != 0 || len(dst) < len(src) {
		return fmt.Errorf("algo: %d bytes are not whole blocks of %v", len(src), k.cipher)
	}
	for i := 0; i < len(src); i += n {
		k.block.Encrypt(dst[i:i+n], src[i:i+n])
	}
	return nil
}

// DecryptECB is the inverse of EncryptECB.
func (k *Key) DecryptECB(dst, src []byte) error {
	n := k.cipher.BlockSize()
	if len(src)%n != 0 || len(dst) < len(src) {
		return fmt.Errorf("algo: %d bytes are not whole blocks of %v", len(src), k.cipher)
	}
	for i := 0; i < len(src); i += n {
		k.block.Decrypt(dst[i:i+n], src[i:i+n])
	}
	return nil
}

// EncryptCBC encrypts whole blocks chained from iv; dst and src may be the
// same.
func (k *Key) EncryptCBC(iv, dst, src []byte) error {
	n := k.cipher.BlockSize()
	if len(iv) != n || len(src)%n != 0 || len(dst) < len(src) {
		return fmt.Errorf("algo: %d bytes behind an initial value of %d are not whole blocks of %v", len(src), len(iv), k.cipher)
	}
	cipher.NewCBCEncrypter(k.block, iv).CryptBlocks(dst[:len(src)], src)
	return nil
}

// DecryptCBC is the inverse of EncryptCBC.
func (k *Key) DecryptCBC(iv, dst, src []byte) error {
	n := k.cipher.BlockSize()
	if len(iv) != n || len(src)%n != 0 || len(dst) < len(src) {
		return fmt.Errorf("algo: %d bytes behind an initial value of %d are not whole blocks of %v", len(src), len(iv), k.cipher)
	}
	cipher.NewCBCDecrypter(k.block, iv).CryptBlocks(dst[:len(src)], src)
	return nil
}

package algo

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
)

// Padding is a padding method of ISO/IEC 9797-1:2011, clause 6.3.
type Padding uint8

// PadZeros fills with zeros, none when the data fills its blocks (an empty
// message becomes one zero block). PadBit appends a one bit, then zeros.
// PadLength puts the length in bits into a block of its own before the data,
// then fills with zeros.
const (
	PadZeros  Padding = 1
	PadBit    Padding = 2
	PadLength Padding = 3
)

// cbc chains data, padded, through b and leaves the last block, not yet
// encrypted, in s.a. The block size is n.
func (s *scratch) cbc(b interface{ Encrypt(dst, src []byte) }, n int, pad Padding, data []byte) {
	x := s.a[:n]
	clear(x)
	if pad == PadLength {
		bits := uint64(len(data)) * 8
		for i := range 8 {
			x[n-1-i] = byte(bits >> (8 * i))
		}
		b.Encrypt(x, x)
	}
	for len(data) > n || pad == PadBit && len(data) == n {
		xorBlock(x, data)
		b.Encrypt(x, x)
		data = data[n:]
	}
	subtle.XORBytes(x, x, data)
	if pad == PadBit {
		x[len(data)] ^= 0x80
	}
}

// AppendCBCMAC appends the whole last block of ISO/IEC 9797-1 MAC algorithm 1
// (CBC-MAC, zero initial value). Callers cut it to the length they send.
// With single DES and PadZeros it is ANSI X9.9, of which the first 4 bytes are
// sent.
func (k *Key) AppendCBCMAC(dst []byte, pad Padding, data []byte) []byte {
	n := k.cipher.BlockSize()
	s := scratches.Get().(*scratch)
	s.cbc(k.block, n, pad, data)
	k.block.Encrypt(s.a[:n], s.a[:n])
	dst = append(dst, s.a[:n]...)
	s.release()
	return dst
}

// ErrRetailKey says that a retail MAC was asked of a key that has no two
// halves.
var ErrRetailKey = errors.New("algo: ISO 9797-1 algorithm 3 wants a double-length TDES key")

// AppendRetailMAC appends the 8 bytes of ISO/IEC 9797-1 MAC algorithm 3:
// single DES of the left half over all blocks, and on the last one decryption
// by the right and encryption by the left half, which together are one TDES.
// With PadZeros it is ANSI X9.19, with PadBit the cryptogram of EMV.
func (k *Key) AppendRetailMAC(dst []byte, pad Padding, data []byte) ([]byte, error) {
	if k.cipher != TDES || k.length != 16 {
		return dst, ErrRetailKey
	}
	s := scratches.Get().(*scratch)
	s.cbc(k.left, 8, pad, data)
	k.block.Encrypt(s.a[:8], s.a[:8])
	dst = append(dst, s.a[:8]...)
	s.release()
	return dst, nil
}

// AppendRetailMAC2 is AppendRetailMAC with the two keys apart, for any cipher
// (GB/T 15852.1-2020 uses SM4). It appends one block.
func AppendRetailMAC2(dst []byte, k1, k2 *Key, pad Padding, data []byte) ([]byte, error) {
	if k1.cipher != k2.cipher {
		return dst, errors.New("algo: ISO 9797-1 algorithm 3 wants two keys of one cipher")
	}
	n := k1.cipher.BlockSize()
	s := scratches.Get().(*scratch)
	s.cbc(k1.block, n, pad, data)
	k1.block.Encrypt(s.a[:n], s.a[:n])
	k2.block.Decrypt(s.a[:n], s.a[:n])
	k1.block.Encrypt(s.a[:n], s.a[:n])
	dst = append(dst, s.a[:n]...)
	s.release()
	return dst, nil
}

// AppendCMAC appends the whole block of CMAC (NIST SP 800-38B, ISO/IEC 9797-1
// MAC algorithm 5).
func (k *Key) AppendCMAC(dst, data []byte) []byte {
	n := k.cipher.BlockSize()
	s := scratches.Get().(*scratch)
	sub := s.b[:n]
	clear(sub)
	k.block.Encrypt(sub, sub)
	double(sub)
	whole := len(data) > 0 && len(data)%n == 0
	pad := PadZeros
	if !whole {
		double(sub)
		pad = PadBit
	}
	s.cbc(k.block, n, pad, data)
	subtle.XORBytes(s.a[:n], s.a[:n], sub)
	k.block.Encrypt(s.a[:n], s.a[:n])
	dst = append(dst, s.a[:n]...)
	s.release()
	return dst
}

// double multiplies by x in GF(2^64) or GF(2^128) (SP 800-38B, 5.3).
func double(b []byte) {
	r := byte(0x87)
	if len(b) == 8 {
		r = 0x1B
	}
	carry := b[0] >> 7
	for i := 0; i < len(b)-1; i++ {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ -carry&r
}

// X99MAC is the first 8 bytes of AppendCBCMAC with zero fill, as DE 64 carries
// them: all of it under DES and TDES, half of the block under SM4 and AES.
func (k *Key) X99MAC(data []byte) (mac [8]byte) {
	var block [16]byte
	k.AppendCBCMAC(block[:0], PadZeros, data)
	copy(mac[:], block[:])
	return mac
}

// CMAC is the first 8 bytes of AppendCMAC, as DE 64 carries them.
func (k *Key) CMAC(data []byte) (mac [8]byte) {
	var block [16]byte
	k.AppendCMAC(block[:0], data)
	copy(mac[:], block[:])
	return mac
}

const upperHex = "0123456789ABCDEF"

// UnionPayMAC is the MAC of UnionPay POS terminals ("ECB" method of the
// terminal specification, field 64): the message is XORed together block by
// block, the block is written as hex text, and that text is CBC-MACed; the
// first 8 hex characters of the result are the MAC. With DES and TDES the
// block has 8 bytes, with SM4 16.
//
// How many characters of the SM4 result a network expects is not published
// end to end; the first 8 are taken, which is what fits field 64.
func (k *Key) UnionPayMAC(data []byte) [8]byte {
	n := k.cipher.BlockSize()
	s := scratches.Get().(*scratch)
	k.unionPay(s, n, data)
	var mac [8]byte
	for i := range 4 {
		mac[2*i], mac[2*i+1] = upperHex[s.a[i]>>4], upperHex[s.a[i]&15]
	}
	s.release()
	return mac
}

// unionPay leaves the last block in s.a, before it is written as text.
func (k *Key) unionPay(s *scratch, n int, data []byte) {
	fold := s.b[:n]
	foldXOR(fold, data)
	x := s.a[:n]
	for i := range n / 2 {
		x[2*i], x[2*i+1] = upperHex[fold[i]>>4], upperHex[fold[i]&15]
	}
	k.block.Encrypt(x, x)
	for i := range n / 2 {
		f := fold[n/2+i]
		x[2*i] ^= upperHex[f>>4]
		x[2*i+1] ^= upperHex[f&15]
	}
	k.block.Encrypt(x, x)
}

// foldXOR XORs data into out, block by block, the last one filled with zeros.
func foldXOR(out, data []byte) {
	clear(out)
	for len(data) > len(out) {
		xorBlock(out, data)
		data = data[len(out):]
	}
	subtle.XORBytes(out, out, data)
}

// xorBlock XORs as much of data as x has, 8 or 16 bytes, into x.
func xorBlock(x, data []byte) {
	for i := 0; i < len(x); i += 8 {
		binary.NativeEndian.PutUint64(x[i:], binary.NativeEndian.Uint64(x[i:])^binary.NativeEndian.Uint64(data[i:]))
	}
}

// hexUpper writes bytes the way every published vector does.
func hexUpper(b []byte) string {
	out := make([]byte, 0, 2*len(b))
	for _, v := range b {
		out = append(out, upperHex[v>>4], upperHex[v&15])
	}
	return string(out)
}

// unhex reads an even number of hex digits.
func unhex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("algo: not an even number of hex digits")
	}
	return b, nil
}

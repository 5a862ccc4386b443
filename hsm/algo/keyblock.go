package algo

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
)

// Header is the clear part of a key block (ANSI X9.143:2021, TR-31:2018). It
// is under the block's MAC: what it says about the key cannot be changed.
type Header struct {
	Version    byte    // 'A' to 'D': how the block is protected
	Usage      [2]byte // "P0", "M1", ...
	Algorithm  byte    // 'T', 'D', 'A', ...
	Mode       byte    // mode of use
	KeyVersion [2]byte // "00" when not used
	Export     byte    // 'E', 'N', 'S'
	Optional   []OptionalBlock
}

// OptionalBlock is a field behind the fixed header: two characters of name
// and printable text. Padding blocks (PB) are not listed when reading.
type OptionalBlock struct{ ID, Data string }

// Errors of key blocks. They never carry key material.
var (
	ErrKeyBlock    = errors.New("algo: malformed key block")
	ErrKeyBlockMAC = errors.New("algo: key block was changed, or is under another key")
)

// maxKeyBlock bounds what is read: its length field has four digits.
const maxKeyBlock = 9999

const fixedHeader = 16

// ParseHeader reads the clear header of a key block and returns how many
// characters it takes. It does not check the MAC.
func ParseHeader(block string) (Header, int, error) {
	bad := func(what string, args ...any) (Header, int, error) {
		return Header{}, 0, fmt.Errorf("%w: %s", ErrKeyBlock, fmt.Sprintf(what, args...))
	}
	if len(block) < fixedHeader {
		return bad("%d characters, the header alone has %d", len(block), fixedHeader)
	}
	if len(block) > maxKeyBlock {
		return bad("%d characters, want at most %d", len(block), maxKeyBlock)
	}
	for i := range len(block) {
		if block[i] < 0x20 || block[i] > 0x7E {
			return bad("character %d is not printable ASCII", i)
		}
	}
	h := Header{
		Version:    block[0],
		Usage:      [2]byte{block[5], block[6]},
		Algorithm:  block[7],
		Mode:       block[8],
		KeyVersion: [2]byte{block[9], block[10]},
		Export:     block[11],
	}
	if h.Version < 'A' || h.Version > 'D' {
		return bad("version is none of A to D")
	}
	if !isDigits(block[1:5]) || !isDigits(block[12:14]) {
		return bad("length or number of optional blocks is not decimal")
	}
	if n, _ := strconv.Atoi(block[1:5]); n != len(block) {
		return bad("says %d characters, has %d", n, len(block))
	}
	count, _ := strconv.Atoi(block[12:14])
	at := fixedHeader
	for i := range count {
		id, data, next, ok := optionalBlock(block, at)
		if !ok {
			return bad("optional block %d does not fit", i+1)
		}
		if id != "PB" {
			h.Optional = append(h.Optional, OptionalBlock{id, data})
		}
		at = next
	}
	return h, at, nil
}

// optionalBlock reads one optional block at position at: two characters of
// name, two hex digits of length counting all of it, or "00", how many bytes
// the length has, and the length in twice as many hex digits: 0002 0136
// (X9.143, 6.2, table 1).
func optionalBlock(block string, at int) (id, data string, next int, ok bool) {
	if len(block)-at < 4 {
		return
	}
	id = block[at : at+2]
	head := 4
	n, err := strconv.ParseUint(block[at+2:at+4], 16, 16)
	if err == nil && n == 0 {
		if len(block)-at < 6 {
			return
		}
		size, err2 := strconv.ParseUint(block[at+4:at+6], 16, 16)
		if err2 != nil || size == 0 || size > 4 || len(block)-at < 6+2*int(size) {
			return
		}
		head = 6 + 2*int(size)
		n, err = strconv.ParseUint(block[at+6:at+head], 16, 32)
	}
	if err != nil || n < uint64(head) || n > uint64(len(block)-at) {
		return
	}
	return id, block[at+head : at+int(n)], at + int(n), true
}

// Protector wraps and unwraps key blocks of one version under one key block
// protection key. It is safe for concurrent use.
type Protector struct {
	version byte
	enc     *Key
	mac     *Key
}

// String says nothing about the keys.
func (p *Protector) String() string {
	return fmt.Sprintf("key block protection, version %c", p.version)
}
func (p *Protector) GoString() string { return p.String() }

// NewProtector prepares a protection key: TDES of 16 or 24 bytes for versions
// A, B and C, AES of 16, 24 or 32 bytes for version D.
func NewProtector(version byte, kbpk []byte) (*Protector, error) {
	p := &Protector{version: version}
	var enc, mac []byte
	cipher := TDES
	switch version {
	case 'A', 'C':
		enc, mac = make([]byte, len(kbpk)), make([]byte, len(kbpk))
		for i, b := range kbpk {
			enc[i], mac[i] = b^'E', b^'M'
		}
	case 'B', 'D':
		if version == 'D' {
			cipher = AES
		}
		k, err := NewKey(cipher, kbpk)
		if err != nil {
			return nil, err
		}
		enc, mac = deriveBlockKey(k, 0), deriveBlockKey(k, 1)
	default:
		return nil, fmt.Errorf("%w: version is none of A to D", ErrKeyBlock)
	}
	defer clear(enc)
	defer clear(mac)
	var err error
	if p.enc, err = NewKey(cipher, enc); err != nil {
		return nil, err
	}
	p.mac, err = NewKey(cipher, mac)
	return p, err
}

// deriveBlockKey is the CMAC key derivation of versions B and D (X9.143,
// 7.3.1): usage 0 gives the encryption key, 1 the MAC key.
func deriveBlockKey(kbpk *Key, usage byte) []byte {
	var alg byte
	switch {
	case kbpk.cipher == TDES && kbpk.length == 16:
		alg = 0
	case kbpk.cipher == TDES:
		alg = 1
	default:
		alg = byte(kbpk.length / 8) // 2, 3, 4 for AES-128, 192, 256
	}
	bits := kbpk.length * 8
	var out []byte
	for counter := byte(1); len(out) < kbpk.length; counter++ {
		out = kbpk.AppendCMAC(out, []byte{counter, 0, usage, 0, 0, alg, byte(bits >> 8), byte(bits)})
	}
	return out[:kbpk.length]
}

// macLen is the length of the MAC in bytes.
func macLen(version byte) int {
	switch version {
	case 'A', 'C':
		return 4
	case 'B':
		return 8
	}
	return 16
}

// appendMAC appends the block's MAC: over header and clear payload for B and
// D, over header and encrypted payload for A and C.
func (p *Protector) appendMAC(dst []byte, header string, payload []byte) []byte {
	data := append([]byte(header), payload...)
	defer clear(data)
	if p.version == 'A' || p.version == 'C' {
		return p.mac.AppendCBCMAC(dst, PadZeros, data)[:len(dst)+4]
	}
	return p.mac.AppendCMAC(dst, data)
}

// Wrap builds a key block. The payload is filled with random bytes as if the
// key had at least hide bytes, so that the length of the block does not tell
// the length of the key.
func (p *Protector) Wrap(h Header, key []byte, hide int) (string, error) {
	if len(key) == 0 || len(key) > 1024 || hide < 0 || hide > 1024 {
		return "", fmt.Errorf("%w: a key of %d bytes does not fit", ErrKeyBlock, len(key))
	}
	n := p.enc.cipher.BlockSize()
	size := 2 + max(len(key), hide)
	size += (n - size%n) % n
	payload := make([]byte, size)
	defer clear(payload)
	payload[0], payload[1] = byte(len(key)*8>>8), byte(len(key)*8)
	copy(payload[2:], key)
	rand.Read(payload[2+len(key):]) // never fails, ends the process instead
	return p.seal(h, payload)
}

// seal protects a payload that is filled already.
func (p *Protector) seal(h Header, payload []byte) (string, error) {
	n := p.enc.cipher.BlockSize()
	header, err := p.header(h, len(payload))
	if err != nil {
		return "", err
	}
	out := make([]byte, len(payload))
	var mac []byte
	if p.version == 'A' || p.version == 'C' {
		if err := p.enc.EncryptCBC([]byte(header[:n]), out, payload); err != nil {
			return "", err
		}
		mac = p.appendMAC(nil, header, out)
	} else {
		mac = p.appendMAC(nil, header, payload)
		if err := p.enc.EncryptCBC(mac, out, payload); err != nil {
			return "", err
		}
	}
	return header + hexUpper(out) + hexUpper(mac), nil
}

// header writes the clear part, optional blocks padded by PB to whole cipher
// blocks.
func (p *Protector) header(h Header, payload int) (string, error) {
	n := p.enc.cipher.BlockSize()
	var opt []byte
	count := len(h.Optional)
	for _, o := range h.Optional {
		if len(o.ID) != 2 || len(o.Data) > maxKeyBlock {
			return "", fmt.Errorf("%w: optional block %q of %d characters does not fit", ErrKeyBlock, o.ID, len(o.Data))
		}
		if 4+len(o.Data) < 256 {
			opt = fmt.Appendf(opt, "%s%02X%s", o.ID, 4+len(o.Data), o.Data)
		} else {
			opt = fmt.Appendf(opt, "%s0002%04X%s", o.ID, 10+len(o.Data), o.Data)
		}
	}
	if len(opt)%n != 0 {
		fill := n - (len(opt)+4)%n
		if fill == n {
			fill = 0
		}
		opt = fmt.Appendf(opt, "PB%02X", 4+fill)
		for range fill {
			opt = append(opt, '0')
		}
		count++
	}
	total := fixedHeader + len(opt) + 2*payload + 2*macLen(p.version)
	if total > maxKeyBlock || count > 99 {
		return "", fmt.Errorf("%w: %d characters, want at most %d", ErrKeyBlock, total, maxKeyBlock)
	}
	header := fmt.Sprintf("%c%04d%s%c%c%s%c%02d00%s", p.version, total, h.Usage[:], h.Algorithm, h.Mode,
		h.KeyVersion[:], h.Export, count, opt)
	if i := unprintable(header); i >= 0 {
		return "", fmt.Errorf("%w: character %d of its header is not printable ASCII", ErrKeyBlock, i)
	}
	return header, nil
}

// unprintable is the place of the first character that is not printable
// ASCII, -1 when there is none.
func unprintable(s string) int {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7E {
			return i
		}
	}
	return -1
}

// Unwrap checks the MAC of a key block and returns its header and the clear
// key.
func (p *Protector) Unwrap(block string) (Header, []byte, error) {
	h, at, err := ParseHeader(block)
	if err != nil {
		return Header{}, nil, err
	}
	payload, err := p.open(h, block, at)
	if err != nil {
		return Header{}, nil, err
	}
	defer clear(payload)
	bits := int(payload[0])<<8 | int(payload[1])
	if bits == 0 || bits%8 != 0 || bits/8 > len(payload)-2 {
		return Header{}, nil, fmt.Errorf("%w: a key of %d bits does not fit its payload", ErrKeyBlock, bits)
	}
	return h, append([]byte(nil), payload[2:2+bits/8]...), nil
}

// open decrypts the payload behind the header of at characters and checks
// the MAC.
func (p *Protector) open(h Header, block string, at int) ([]byte, error) {
	if h.Version != p.version {
		return nil, fmt.Errorf("%w: version %c, want %c", ErrKeyBlock, h.Version, p.version)
	}
	n, m := p.enc.cipher.BlockSize(), macLen(p.version)
	body, err := unhex(block[at:])
	if err != nil {
		return nil, fmt.Errorf("%w: payload is not hex", ErrKeyBlock)
	}
	if len(body) < n+m || (len(body)-m)%n != 0 {
		return nil, fmt.Errorf("%w: payload and MAC of %d bytes are not whole blocks", ErrKeyBlock, len(body))
	}
	sealed, mac := body[:len(body)-m], body[len(body)-m:]
	payload := make([]byte, len(sealed))
	var want []byte
	if p.version == 'A' || p.version == 'C' {
		want = p.appendMAC(nil, block[:at], sealed)
		err = p.enc.DecryptCBC([]byte(block[:n]), payload, sealed)
	} else {
		if err = p.enc.DecryptCBC(mac, payload, sealed); err == nil {
			want = p.appendMAC(nil, block[:at], payload)
		}
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(want, mac) != 1 {
		clear(payload)
		return nil, ErrKeyBlockMAC
	}
	return payload, nil
}

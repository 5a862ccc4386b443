package algo

import "errors"

// TrackScheme is what of a track is encrypted under the TDK, and how it comes
// to whole blocks. Acquirers differ; a terminal's profile names its own.
type TrackScheme uint8

// The schemes. A block has 8 bytes under TDES and 16 under SM4; all are ECB.
// TrackTDB is the one of the UnionPay specification and keeps the track's
// length; under the other two every digit is ciphertext, and DE 35 and 36
// carry a multiple of 16 digits (32 under SM4).
const (
	TrackTDB    TrackScheme = iota + 1 // the one block that ends just before the last byte of the packed track
	TrackWhole                         // the packed track, filled with F
	TrackLength                        // its number of digits in BCD (one byte, two from 100 on), the packed track, filled with zeros
)

// maxTrack is the most digits a track has: track 3 in DE 36.
const maxTrack = 104

// ErrTrack says that a track could not be encrypted or decrypted. It shows
// nothing of it.
var ErrTrack = errors.New("algo: not a track that this scheme encrypts, or not digits once it is decrypted")

// tdb finds the digits of a track of n digits that UnionPay encrypts: the
// block of the packed track that ends just before its last byte (UnionPay POS
// terminal specification, 4.4).
func tdb(n, block int) (from, to int, ok bool) {
	to = n - 2 + n%2
	return to - 2*block, to, to >= 2*block
}

// trackNibble reads a digit of a track as it travels in DE 35 and 36: '=' is D.
func trackNibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c == '=':
		return 0xD, true
	}
	return 0, false
}

// AppendEncryptedTrack appends track 2 or 3, given as digits with '=' or 'D',
// encrypted under the TDK (TDES or SM4). What is ciphertext comes out as
// hexadecimal digits, as DE 35 and 36 take it.
func AppendEncryptedTrack(dst []byte, tdk *Key, scheme TrackScheme, track []byte) ([]byte, error) {
	if !trackKey(tdk) || len(track) == 0 || len(track) > maxTrack || !trackDigits(track) {
		return dst, ErrTrack
	}
	start, block := len(dst), tdk.cipher.BlockSize()
	switch scheme {
	case TrackTDB:
		return appendTDB(dst, block, tdk.EncryptECB, track, false)
	case TrackWhole:
		dst = appendPacked(dst, track, 0xF)
		for (len(dst)-start)%block != 0 {
			dst = append(dst, 0xFF)
		}
	case TrackLength:
		if n := len(track); n > 99 {
			dst = append(dst, byte(n/100), byte(n/10%10<<4|n%10))
		} else {
			dst = append(dst, byte(n/10<<4|n%10))
		}
		dst = appendPacked(dst, track, 0)
		for (len(dst)-start)%block != 0 {
			dst = append(dst, 0)
		}
	default:
		return dst, ErrTrack
	}
	if err := tdk.EncryptECB(dst[start:], dst[start:]); err != nil {
		clear(dst[start:])
		return dst[:start], err
	}
	return unpack(dst, start), nil
}

// AppendDecryptedTrack is the inverse of AppendEncryptedTrack. Separators in
// the decrypted digits are written '='. A wrong key is noticed when the
// digits come out as none.
func AppendDecryptedTrack(dst []byte, tdk *Key, scheme TrackScheme, track []byte) ([]byte, error) {
	if !trackKey(tdk) {
		return dst, ErrTrack
	}
	return AppendDecryptedTrackBy(dst, tdk.cipher.BlockSize(), tdk.DecryptECB, scheme, track)
}

// AppendDecryptedTrackBy is AppendDecryptedTrack for a key that is elsewhere:
// decrypt is asked once, for whole blocks of block bytes in ECB, and may have
// dst and src the same. Its error is returned.
func AppendDecryptedTrackBy(dst []byte, block int, decrypt func(dst, src []byte) error, scheme TrackScheme, track []byte) ([]byte, error) {
	if scheme == TrackTDB {
		return appendTDB(dst, block, decrypt, track, true)
	}
	if len(track) == 0 || len(track)%(2*block) != 0 || len(track) > sealedDigits(maxTrack, block) {
		return dst, ErrTrack
	}
	for _, c := range track {
		if _, ok := trackNibble(c); !ok {
			return dst, ErrTrack
		}
	}
	start := len(dst)
	dst = appendPacked(dst, track, 0)
	if err := decrypt(dst[start:], dst[start:]); err != nil {
		clear(dst[start:])
		return dst[:start], err
	}
	dst = unpack(dst, start)
	out := dst[start:]
	var n int
	switch scheme {
	case TrackWhole:
		n = wholeTrack(out, block)
	case TrackLength:
		n = countedTrack(out, block)
	}
	if n == 0 || n > maxTrack || !trackDigits(out[:n]) {
		clear(out)
		return dst[:start], ErrTrack
	}
	clear(out[n:])
	for i, c := range out[:n] {
		if c == 'D' {
			out[i] = '='
		}
	}
	return dst[:start+n], nil
}

// wholeTrack is the number of digits before the fill, 0 when there is more
// than a block of it.
func wholeTrack(digits []byte, block int) int {
	n := len(digits)
	for n > 0 && digits[n-1] == 'F' {
		n--
	}
	if len(digits)-n >= 2*block {
		return 0
	}
	return n
}

// countedTrack moves the digits behind their number to the front and returns
// it, 0 when the number and what follows do not fit each other.
func countedTrack(digits []byte, block int) int {
	for _, head := range [...]int{2, 4} {
		n := 0
		for _, c := range digits[:head] {
			if c < '0' || c > '9' {
				return 0
			}
			n = 10*n + int(c-'0')
		}
		if (n > 99) != (head == 4) || n > maxTrack || sealedDigits(n, block) != len(digits) {
			continue
		}
		for _, c := range digits[head+n:] {
			if c != '0' {
				return 0
			}
		}
		copy(digits, digits[head:head+n])
		return n
	}
	return 0
}

// sealedDigits is the length of a track of n digits under TrackLength, which
// is never shorter than under TrackWhole.
func sealedDigits(n, block int) int {
	head := 1
	if n > 99 {
		head = 2
	}
	return 2 * block * ((head + (n+1)/2 + block - 1) / block)
}

func trackKey(tdk *Key) bool { return tdk.cipher == TDES || tdk.cipher == SM4 }

// trackDigits says that there are only digits and separators.
func trackDigits(track []byte) bool {
	for _, c := range track {
		if v, ok := trackNibble(c); !ok || v > 9 && v != 0xD {
			return false
		}
	}
	return true
}

// appendTDB appends a track with its block encrypted or decrypted.
func appendTDB(dst []byte, size int, crypt func(dst, src []byte) error, track []byte, decrypt bool) ([]byte, error) {
	from, to, ok := tdb(len(track), size)
	if !ok || len(track) > maxTrack || !trackDigits(track[:from]) || !trackDigits(track[to:]) {
		return dst, ErrTrack
	}
	for _, c := range track[from:to] {
		if _, ok := trackNibble(c); !ok {
			return dst, ErrTrack
		}
	}
	start := len(dst)
	dst = append(dst, track...)
	end := len(dst)
	dst = appendPacked(dst, track[from:to], 0)
	err := crypt(dst[end:], dst[end:])
	dst = unpack(dst, end)
	block := dst[end:]
	if err == nil && decrypt && !trackDigits(block) {
		err = ErrTrack
	}
	for i, c := range block {
		if decrypt && c == 'D' {
			c = '='
		}
		dst[start+from+i] = c
	}
	clear(block)
	if err != nil {
		clear(dst[start:])
		return dst[:start], err
	}
	return dst[:end], nil
}

// appendPacked appends digits two to a byte; fill stands behind an odd one.
// The digits have been looked at.
func appendPacked(dst, digits []byte, fill byte) []byte {
	for i := 0; i < len(digits); i += 2 {
		high, _ := trackNibble(digits[i])
		low := fill
		if i+1 < len(digits) {
			low, _ = trackNibble(digits[i+1])
		}
		dst = append(dst, high<<4|low)
	}
	return dst
}

// unpack writes the bytes from start on as hexadecimal digits in their place.
func unpack(dst []byte, start int) []byte {
	n := len(dst) - start
	for range n {
		dst = append(dst, 0)
	}
	b := dst[start:]
	for i := n - 1; i >= 0; i-- {
		v := b[i]
		b[2*i], b[2*i+1] = upperHex[v>>4], upperHex[v&15]
	}
	return dst
}

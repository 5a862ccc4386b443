package algo

import "errors"

// ErrTrack says that a track could not be encrypted or decrypted. It shows
// nothing of it.
var ErrTrack = errors.New("algo: not a track of at least 17 digits whose encrypted block holds digits")

// tdb finds the 16 digits of a track that UnionPay encrypts: the 8 bytes of
// the packed track that end just before its last byte (UnionPay POS terminal
// specification, 4.4).
func tdb(n int) (from, to int, ok bool) {
	to = n - 2 + n%2
	return to - 16, to, to >= 16
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
// with its TDB encrypted under the TDK (TDES ECB). The 16 characters come out
// as hex digits.
//
// This is the variant of the UnionPay specification; acquirers are known that
// encrypt other parts of the track.
func AppendEncryptedTrack(dst []byte, tdk *Key, track []byte) ([]byte, error) {
	return appendTrack(dst, tdk, track, false)
}

// AppendDecryptedTrack is the inverse of AppendEncryptedTrack. Separators in
// the decrypted digits are written '='. A wrong key is noticed when the
// digits come out as none.
func AppendDecryptedTrack(dst []byte, tdk *Key, track []byte) ([]byte, error) {
	return appendTrack(dst, tdk, track, true)
}

func appendTrack(dst []byte, tdk *Key, track []byte, decrypt bool) ([]byte, error) {
	from, to, ok := tdb(len(track))
	if !ok || tdk.cipher != TDES {
		return dst, ErrTrack
	}
	var block [8]byte
	for i := range len(track) {
		v, ok := trackNibble(track[i])
		inside := i >= from && i < to
		if !ok || v > 9 && v != 0xD && !(decrypt && inside) {
			return dst, ErrTrack
		}
		if inside {
			setNibble(&block, i-from, v)
		}
	}
	if decrypt {
		block = tdk.Decrypt8(block)
	} else {
		block = tdk.Encrypt8(block)
	}
	start := len(dst)
	dst = append(dst, track...)
	for i := range 16 {
		v := nibble(&block, i)
		c := upperHex[v]
		if decrypt && v > 9 {
			if v != 0xD {
				clear(dst[start:])
				return dst[:start], ErrTrack
			}
			c = '='
		}
		dst[start+from+i] = c
	}
	return dst, nil
}

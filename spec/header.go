package spec

import (
	"fmt"
	"strings"
)

// CUPSHeaderSize is the header before every message of the CUPS line.
const CUPSHeaderSize = 46

// CUPSMaxLength is the greatest total length the header's four digits tell.
const CUPSMaxLength = 9999

// CUPSHeader is the 46-byte header of the CUPS line. Its total length is
// computed when it is written and checked when it is read. Zero values are
// written as zeros and blanks: Version 0 becomes 2.
type CUPSHeader struct {
	Version     byte
	Destination string // institution, at most 11 characters, blank padded
	Source      string
	Reserved    string // 3 characters
	Batch       byte
	Transaction string // 8 characters of transaction information
	User        byte
	Reject      string // 5 digits, "00000" when the message is not a rejected one
}

// AppendCUPSHeader appends the header of a message of payload bytes.
func AppendCUPSHeader(dst []byte, h CUPSHeader, payload int) ([]byte, error) {
	total := CUPSHeaderSize + payload
	if payload < 0 || total > CUPSMaxLength {
		return dst, fmt.Errorf("spec: cups header: total length %d, want at most %d", total, CUPSMaxLength)
	}
	for _, f := range [...]struct {
		name string
		s    string
		size int
	}{{"destination", h.Destination, 11}, {"source", h.Source, 11}, {"reserved", h.Reserved, 3}, {"transaction information", h.Transaction, 8}, {"reject code", h.Reject, 5}} {
		if len(f.s) > f.size {
			return dst, fmt.Errorf("spec: cups header: %s is %d characters, want at most %d", f.name, len(f.s), f.size)
		}
	}
	if h.Version == 0 {
		h.Version = 2
	}
	dst = append(dst, CUPSHeaderSize, h.Version)
	dst = append(dst, byte('0'+total/1000), byte('0'+total/100%10), byte('0'+total/10%10), byte('0'+total%10))
	dst = appendPadded(dst, h.Destination, 11, ' ')
	dst = appendPadded(dst, h.Source, 11, ' ')
	dst = appendPadded(dst, h.Reserved, 3, '0')
	dst = append(dst, h.Batch)
	dst = appendPadded(dst, h.Transaction, 8, '0')
	dst = append(dst, h.User)
	return appendPadded(dst, h.Reject, 5, '0'), nil
}

func appendPadded(dst []byte, s string, size int, pad byte) []byte {
	dst = append(dst, s...)
	for range size - len(s) {
		dst = append(dst, pad)
	}
	return dst
}

// CUPSLength reads the total length, header included, from the first bytes of
// a header (at least 6), without allocation.
func CUPSLength(b []byte) (int, error) {
	if len(b) < 6 {
		return 0, &HeaderError{Offset: len(b), Want: "46 bytes of header", Got: fmt.Sprint(len(b))}
	}
	if b[0] != CUPSHeaderSize {
		return 0, &HeaderError{Offset: 0, Want: "header length 2E", Got: hexByte(b[0])}
	}
	n := ASCIILLL.read(b[2:5])
	if n < 0 || b[5]-'0' > 9 {
		return 0, &HeaderError{Offset: 2, Want: "total length in four ASCII digits", Got: "other characters"}
	}
	n = n*10 + int(b[5]-'0')
	if n < CUPSHeaderSize {
		return 0, &HeaderError{Offset: 2, Want: "total length of at least 46", Got: fmt.Sprint(n)}
	}
	return n, nil
}

// ParseCUPSHeader reads the header at the start of b and gives the total
// length it tells, which counts the header. That so many bytes follow is for
// the caller to see. Blank padding is taken away.
func ParseCUPSHeader(b []byte) (h CUPSHeader, total int, err error) {
	if total, err = CUPSLength(b); err != nil {
		return h, 0, err
	}
	if len(b) < CUPSHeaderSize {
		return h, 0, &HeaderError{Offset: len(b), Want: "46 bytes of header", Got: fmt.Sprint(len(b))}
	}
	return CUPSHeader{
		Version:     b[1],
		Destination: strings.TrimRight(string(b[6:17]), " "),
		Source:      strings.TrimRight(string(b[17:28]), " "),
		Reserved:    string(b[28:31]),
		Batch:       b[31],
		Transaction: string(b[32:40]),
		User:        b[40],
		Reject:      string(b[41:46]),
	}, total, nil
}

// HeaderError says what is wrong with a CUPS header.
type HeaderError struct {
	Offset    int
	Want, Got string
}

func (e *HeaderError) Error() string {
	return fmt.Sprintf("cups: header at byte %d: want %s, found %s", e.Offset, e.Want, e.Got)
}

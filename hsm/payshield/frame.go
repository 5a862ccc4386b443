package payshield

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A message on the wire: two bytes of length of what follows, most significant
// first; the header, of a length that is set at the device (commonly 4) and
// answered untouched; two characters of command; fields. An answer has the
// command with its second character moved on by one, and two characters of
// error code before its fields.

// MaxHeader is the longest header that a device can be set to.
const MaxHeader = 255

// maxFrame is what two bytes of length can say.
const maxFrame = 1<<16 - 1

// errFrameLength says that a message is longer than two bytes can tell.
var errFrameLength = errors.New("payshield: a message has at most 65535 bytes")

// appendFrame appends one framed message of parts.
func appendFrame(dst []byte, parts ...[]byte) ([]byte, error) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > maxFrame {
		return dst, fmt.Errorf("%w, this one %d", errFrameLength, n)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst, nil
}

// readFrame reads one message into buf, which grows when it must. io.EOF is
// an end between two messages; an end inside one is io.ErrUnexpectedEOF.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf, nil
}

// answerCode is the code of the answer to a command: A0 is answered by A1, CY
// by CZ. A code that none can follow is answered by ZZ.
func answerCode(command string) string {
	if len(command) != 2 || !isCommand(command) {
		return "ZZ"
	}
	next := command[1] + 1
	if !isUpper(next) && !isDigit(next) {
		return "ZZ"
	}
	return string([]byte{command[0], next})
}

func isCommand(s string) bool {
	return (isUpper(s[0]) || isDigit(s[0])) && (isUpper(s[1]) || isDigit(s[1]))
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isHex(c byte) bool {
	return isDigit(c) || c >= 'A' && c <= 'F' || c >= 'a' && c <= 'f'
}

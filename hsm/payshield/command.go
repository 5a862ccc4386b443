package payshield

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// command is one request being read and its answer being written. The first
// thing that is wrong with a request stays in code; after it every reader
// returns a zero value, so that a handler reads all of its fields in a row and
// looks once, at end.
type command struct {
	d    *Device
	in   string // what is behind the command code
	at   int
	code Code
	keys int // read so far: the parity of the first is error 10, of the others 11
	tail string
	out  []byte

	warning Code     // instead of OK, with the fields
	secrets [][]byte // wiped when the command is answered
}

// fail keeps the first error.
func (c *command) fail(code Code) {
	if c.code == "" {
		c.code = code
	}
}

func (c *command) failed() bool { return c.code != "" }

// left is what has not been read.
func (c *command) left() int { return len(c.in) - c.at }

// peek is the next character, 0 at the end.
func (c *command) peek() byte {
	if c.at < len(c.in) {
		return c.in[c.at]
	}
	return 0
}

// text reads n characters of any kind.
func (c *command) text(n int) string {
	if c.failed() || n < 0 || c.left() < n {
		c.fail(BadInput)
		return ""
	}
	s := c.in[c.at : c.at+n]
	c.at += n
	return s
}

// option reads one character when it is the next, and says whether it was.
func (c *command) option(char byte) bool {
	if c.failed() || c.peek() != char || c.left() == 0 {
		return false
	}
	c.at++
	return true
}

// char reads one character out of a set.
func (c *command) char(set string, wrong Code) byte {
	s := c.text(1)
	if c.failed() {
		return 0
	}
	if !strings.Contains(set, s) {
		c.fail(wrong)
		return 0
	}
	return s[0]
}

// literal wants the text as it is.
func (c *command) literal(want string) {
	if c.text(len(want)) != want {
		c.fail(BadInput)
	}
}

// digits reads n decimal digits.
func (c *command) digits(n int, wrong Code) string {
	s := c.text(n)
	for i := range len(s) {
		if !isDigit(s[i]) {
			c.fail(wrong)
			return ""
		}
	}
	return s
}

// number reads n decimal digits as a number.
func (c *command) number(n int, wrong Code) int {
	v, _ := strconv.Atoi(c.digits(n, wrong))
	return v
}

// hexNumber reads n hexadecimal digits as a number.
func (c *command) hexNumber(n int, wrong Code) int {
	s := c.text(n)
	if c.failed() {
		return 0
	}
	v, err := strconv.ParseUint(s, 16, 32)
	if err != nil {
		c.fail(wrong)
		return 0
	}
	return int(v)
}

// hex reads n bytes written as 2n hexadecimal digits.
func (c *command) hex(n int) []byte {
	s := c.text(2 * n)
	if c.failed() {
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		c.fail(BadInput)
		return nil
	}
	return b
}

// hex8 reads 16 hexadecimal digits.
func (c *command) hex8() (b [8]byte) {
	copy(b[:], c.hex(8))
	return b
}

// binary reads n bytes as they are.
func (c *command) binary(n int) []byte { return []byte(c.text(n)) }

// upTo reads to the delimiter and takes it too.
func (c *command) upTo(delimiter byte, most int) string {
	i := strings.IndexByte(c.in[c.at:], delimiter)
	if c.failed() || i < 0 || i > most {
		c.fail(BadInput)
		return ""
	}
	s := c.text(i)
	c.at++
	return s
}

// end is behind the last field: an LMK identifier, a trailer, nothing more.
func (c *command) end() bool {
	if c.option('%') {
		if id := c.digits(2, BadLMK); id != "00" && id != "01" {
			c.fail(BadLMK)
		}
	}
	c.trailer()
	if !c.failed() && c.left() > 0 {
		c.fail(BadInput)
	}
	return !c.failed()
}

// endOfMessage comes before the trailer, of up to 32 characters, which is
// answered untouched.
const (
	endOfMessage = 0x19
	maxTrailer   = 32
)

func (c *command) trailer() {
	if c.option(endOfMessage) {
		if c.left() > maxTrailer {
			c.fail(BadInput)
			return
		}
		c.tail = c.in[c.at-1:]
		c.at = len(c.in)
	}
}

// write appends to the answer.
func (c *command) write(parts ...string) {
	for _, p := range parts {
		c.out = append(c.out, p...)
	}
}

const upperHex = "0123456789ABCDEF"

// hexUpper is how every field of bytes is written.
func hexUpper(b []byte) string {
	out := make([]byte, 0, 2*len(b))
	for _, v := range b {
		out = append(out, upperHex[v>>4], upperHex[v&15])
	}
	return string(out)
}

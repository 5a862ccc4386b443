package payshield

import (
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"acquirer/hsm/algo"
)

// The place of a block of data in a message that comes in several commands.
const (
	onlyBlock   = '0'
	firstBlock  = '1'
	middleBlock = '2'
	lastBlock   = '3'
)

// A format of data in M0 to M8.
const (
	dataBinary = '0'
	dataHex    = '1'
	dataText   = '2'
)

// macKeyType reads 003 or 008, or FFF for a key block.
func (c *command) macKeyType() keyType {
	switch code := c.text(3); code {
	case typeTAK.code:
		return typeTAK
	case typeZAK.code:
		return typeZAK
	case anyBlock.code:
		return keyType{anyBlock.code, typeTAK.usages}
	}
	c.fail(BadLengthFlag)
	return typeTAK
}

// data reads a field of the given format behind its length of four hexadecimal
// digits, which counts the characters of the field.
func (c *command) data(format byte) []byte {
	n := c.hexNumber(4, BadMessageLen)
	if c.failed() {
		return nil
	}
	if n == 0 || n > c.left() || format == dataHex && n%2 != 0 {
		c.fail(BadMessageLen)
		return nil
	}
	if format != dataHex {
		return c.binary(n)
	}
	b, err := hex.DecodeString(c.text(n))
	if err != nil {
		c.fail(BadMessage)
	}
	return b
}

// macRequest is what M6 and M8 have in common.
type macRequest struct {
	mode, format, size, alg, pad byte
	key                          *algo.Key
	left                         *algo.Key // single DES of the first half, for algorithm 3 in parts
	iv, data                     []byte
}

// mac reads the fields of M6 and M8 up to the data.
func (c *command) mac() (q macRequest) {
	q.mode = c.char("0123", BadMode)
	q.format = c.char("012", BadComponents)
	q.size = c.char("01", BadKeyType)
	q.alg = c.char("1356", BadKeyType)
	q.pad = c.char("0123", BadPadding)
	t := c.macKeyType()
	f := c.field(false)
	q.key = c.expand(f, t)
	block := q.key.Cipher().BlockSize()
	if q.mode == middleBlock || q.mode == lastBlock {
		q.iv = c.hex(block)
	}
	q.data = c.data(q.format)
	if c.failed() {
		return q
	}
	aes := q.key.Cipher() == algo.AES
	switch {
	case q.alg == '3' && q.key.Len() != 16 || q.alg == '3' && aes || q.alg == '5' && !aes || q.alg == '1' && aes:
		c.fail(BadKeyLength)
	case q.alg == '6' && q.mode != onlyBlock:
		c.fail(BadMode)
	case (q.mode == firstBlock || q.mode == middleBlock || q.pad == '0') && len(q.data)%block != 0:
		c.fail(BadMessageLen)
	case q.pad == '3' && q.mode != onlyBlock: // the length stands in front
		c.fail(BadPadding)
	}
	if q.alg == '3' && (q.mode == firstBlock || q.mode == middleBlock) {
		q.left = c.leftHalf(f, t)
	}
	return q
}

// leftHalf is single DES with the first half of a key.
func (c *command) leftHalf(f field, t keyType) *algo.Key {
	if c.failed() {
		return noKey
	}
	clearKey, _, code := c.d.lmk.decrypt(f, t, SourceParity)
	if code != "" {
		c.fail(code)
		return noKey
	}
	defer clear(clearKey)
	k, err := algo.NewKey(algo.DES, clearKey[:8])
	if err != nil {
		c.fail(BadKeyLength)
		return noKey
	}
	return k
}

// chained is data, filled to whole blocks, with the state of the blocks before
// it. The fill comes first: a last block of less than the state takes all of
// it.
func chained(iv, data []byte, pad algo.Padding) []byte {
	out := append([]byte(nil), data...)
	if pad == algo.PadBit {
		out = append(out, 0x80)
	}
	for len(out)%len(iv) != 0 {
		out = append(out, 0)
	}
	subtle.XORBytes(out, out, iv)
	return out
}

// value is the MAC, or the state that the next command takes on.
func (c *command) value(q macRequest) []byte {
	if c.failed() {
		return nil
	}
	part := q.mode == firstBlock || q.mode == middleBlock // whole blocks, more to come
	pad := algo.PadZeros
	switch {
	case part:
	case q.pad == '2':
		pad = algo.PadBit
	case q.pad == '3':
		pad = algo.PadLength
	}
	data := q.data
	if q.iv != nil {
		data, pad = chained(q.iv, q.data, pad), algo.PadZeros
	}
	if part {
		k := q.key
		if q.left != nil {
			k = q.left
		}
		return k.AppendCBCMAC(nil, algo.PadZeros, data)
	}
	switch q.alg {
	case '3':
		out, err := q.key.AppendRetailMAC(nil, pad, data)
		if err != nil {
			c.fail(BadKeyLength)
		}
		return out
	case '6':
		return q.key.AppendCMAC(nil, data)
	}
	return q.key.AppendCBCMAC(nil, pad, data)
}

// sized cuts a MAC to 8 or 16 hexadecimal digits.
func (q macRequest) sized(mac []byte) string {
	if q.size == '0' {
		return hexUpper(mac[:4])
	}
	return hexUpper(mac[:8])
}

// makeMAC is M6. For data in hexadecimal the answer has its length before the
// MAC, as the public vectors have it; docs/hsm.md.
func makeMAC(c *command) {
	q := c.mac()
	if !c.end() {
		return
	}
	mac := c.value(q)
	if c.failed() {
		return
	}
	if q.mode == firstBlock || q.mode == middleBlock {
		c.write(hexUpper(mac))
		return
	}
	text := q.sized(mac)
	if q.format == dataHex {
		c.write(fmt.Sprintf("%04X", len(text)))
	}
	c.write(text)
}

// verifyMAC is M8.
func verifyMAC(c *command) {
	q := c.mac()
	part := q.mode == firstBlock || q.mode == middleBlock
	want := ""
	if !part {
		want = c.text(8 + 8*int(q.size&1))
	}
	if !c.end() {
		return
	}
	mac := c.value(q)
	switch {
	case c.failed():
	case part:
		c.write(hexUpper(mac))
	case subtle.ConstantTimeCompare([]byte(q.sized(mac)), []byte(want)) != 1:
		c.fail(VerifyFailed)
	}
}

// makeX99 is MA: X9.9 over what is left of the message, in hexadecimal.
func makeX99(c *command) {
	tak := c.key(typeTAK)
	data := c.rest()
	if c.end() {
		c.write(c.x99(tak, data))
	}
}

// rest reads the data of MA, MC and ME, which have no length.
func (c *command) rest() []byte {
	n := 0
	for c.at+n < len(c.in) && isHex(c.in[c.at+n]) {
		n++
	}
	if n == 0 || n%2 != 0 {
		c.fail(BadDataLength)
	}
	return c.hex(n / 2)
}

func (c *command) x99(k *algo.Key, data []byte) string {
	if c.failed() {
		return ""
	}
	return hexUpper(k.AppendCBCMAC(nil, algo.PadZeros, data)[:4])
}

// verifyX99 is MC.
func verifyX99(c *command) {
	tak := c.key(typeTAK)
	want := c.text(8)
	data := c.rest()
	if c.end() {
		c.compareMAC(c.x99(tak, data), want)
	}
}

func (c *command) compareMAC(got, want string) {
	if !c.failed() && subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		c.fail(VerifyFailed)
	}
}

// translateX99 is ME: verified under one key, made under another.
func translateX99(c *command) {
	from, to := c.key(typeTAK), c.key(typeTAK)
	want := c.text(8)
	data := c.rest()
	if !c.end() {
		return
	}
	c.compareMAC(c.x99(from, data), want)
	c.write(c.x99(to, data))
}

// makeLargeMAC is MS: X9.9 or X9.19, by the length of the key, over a message
// in parts.
func makeLargeMAC(c *command) {
	mode := c.char("0123", BadLengthFlag)
	t := typeTAK
	if c.char("01", BadKeyType) == '1' {
		t = typeZAK
	}
	double := c.char("01", BadLengthFlag) == '1'
	format := c.char("01", BadLengthFlag)
	f := c.field(false)
	k := c.expand(f, t)
	q := macRequest{mode: mode, format: format, size: '1', alg: '1', pad: '1', key: k}
	if double {
		q.alg = '3'
	}
	if !c.failed() && (k.Len() == 16) != double {
		c.fail(BadKeyLength)
	}
	if mode == middleBlock || mode == lastBlock {
		q.iv = c.hex(8)
	}
	n := c.hexNumber(4, BadDataLength) // of the data, whatever it is written in
	if !c.failed() && n == 0 {
		c.fail(BadDataLength)
	}
	if format == dataHex {
		q.data = c.hex(n)
	} else {
		q.data = c.binary(n)
	}
	part := mode == firstBlock || mode == middleBlock
	if part && n%8 != 0 {
		c.fail(BadDataLength)
	}
	if part && double {
		q.left = c.leftHalf(f, t)
	}
	if !c.end() {
		return
	}
	if mac := c.value(q); !c.failed() {
		c.write(hexUpper(mac))
	}
}

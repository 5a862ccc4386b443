package payshield

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"

	"acquirer/hsm/algo"
)

// options are the three characters behind a semicolon: scheme under the key
// encryption key, scheme under the LMK, kind of check value.
type options struct {
	kek, lmk byte // 0 when not given
	short    bool // check value of 6 digits, not 16
}

func (c *command) options() (o options) {
	if !c.option(';') {
		return o
	}
	const letters = "0ZUTXY"
	o.kek, o.lmk = c.char(letters, BadScheme), c.char(letters, BadScheme)
	o.short = c.char("01", BadInput) == '1'
	if o.kek == '0' {
		o.kek = 0
	}
	if o.lmk == '0' {
		o.lmk = 0
	}
	return o
}

// schemeOf is the scheme asked for, or else the one of the field, and wants it
// to fit the key.
func (c *command) schemeOf(asked byte, f field, clearKey []byte) algo.Scheme {
	s := f.scheme()
	if asked != 0 {
		s = algo.Scheme(asked)
	}
	if !c.failed() && s.KeyLen() != len(clearKey) {
		c.fail(BadScheme)
	}
	return s
}

// terminalType is the type of a terminal's keys: 002 for all of them, or one
// of its own where types are separate.
func (c *command) terminalType(separate keyType) keyType {
	if c.d.separate {
		return separate
	}
	return keyType{type002.code, separate.usages}
}

// keyType reads three characters.
func (c *command) keyType() keyType {
	code := c.text(3)
	if code == anyBlock.code {
		return anyBlock
	}
	t, ok := namedTypes[code]
	if !ok {
		c.fail(BadKeyType)
	}
	return t
}

// attributes of a new key block: "#", usage 2, algorithm and length 2, mode of
// use, key version 2, exportability, number of optional blocks 2.
func (c *command) attributes() (h algo.Header, length int) {
	if !c.option('#') {
		c.fail(BlockHeader)
		return h, 0
	}
	usage, alg := c.text(2), c.text(2)
	h.Mode = c.char("BCDEGNSTVXY", "A8")
	version := c.text(2)
	h.Export = c.char("ENS", BlockExport)
	if c.text(2) != "00" {
		c.fail(BlockHeader)
	}
	if c.failed() {
		return h, 0
	}
	h.Usage, h.KeyVersion = [2]byte{usage[0], usage[1]}, [2]byte{version[0], version[1]}
	lengths := map[string]int{"D1": 8, "T1": 8, "T2": 16, "T3": 24, "A1": 16, "A2": 24, "A3": 32}
	if length = lengths[alg]; length == 0 {
		c.fail(BadKeyLength)
		return h, 0
	}
	if h.Algorithm = alg[0]; length == 8 {
		h.Algorithm = 'D'
	}
	return h, length
}

// under writes a key under the LMK: in the variant scheme, or in a block.
func (c *command) under(t keyType, scheme byte, h algo.Header, clearKey []byte) string {
	if c.failed() {
		return ""
	}
	if scheme == 'S' {
		out, err := c.d.lmk.block(h, clearKey)
		if err != nil {
			c.fail(BlockHeader)
		}
		return out
	}
	if algo.Scheme(scheme).KeyLen() != len(clearKey) || h.Algorithm == 'A' {
		c.fail(BadScheme)
		return ""
	}
	out, code := c.d.lmk.encrypt(t, algo.Scheme(scheme), clearKey)
	if code != "" {
		c.fail(code)
	}
	return out
}

// transport writes a key under a key encryption key, in the form of a field.
// No key leaves under a shorter one (PCI PIN 8-4).
func (c *command) transport(kek []byte, s algo.Scheme, f field, clearKey []byte) string {
	if c.failed() {
		return ""
	}
	if len(kek) < len(clearKey) {
		c.fail(BadKeyLength)
		return ""
	}
	sealed, err := algo.EncryptKey(kek, s, clearKey)
	if err != nil {
		c.fail(BadScheme)
		return ""
	}
	return f.write(s, sealed)
}

// arrived reads a key that another party sent under kek, the next field. Wrong
// parity is put right, with a warning.
func (c *command) arrived(kek *secret, f field) []byte {
	if c.failed() {
		return nil
	}
	if len(kek.clear) < f.scheme().KeyLen() {
		c.fail(BadKeyLength)
		return nil
	}
	clearKey, err := algo.DecryptKey(kek.clear, f.scheme(), f.bytes())
	if err != nil {
		c.fail(BadScheme)
		return nil
	}
	c.secrets = append(c.secrets, clearKey)
	if !algo.OddParity(clearKey) {
		algo.SetOddParity(clearKey)
		c.warning = VerifyFailed
	}
	c.refuseWeak(clearKey)
	return clearKey
}

func (c *command) refuseWeak(clearKey []byte) {
	switch err := algo.CheckDES(clearKey); {
	case errors.Is(err, algo.ErrRepeatedParts):
		c.fail(MasqueradeKey)
	case err != nil:
		c.fail(DestParity)
	}
}

// random makes a key of n bytes, for DES or, when the block says so, for AES. It
// is wiped when the command is answered.
func (c *command) random(n int, h algo.Header) []byte {
	if n == 0 {
		c.fail(BadScheme)
		return nil
	}
	var key []byte
	if h.Algorithm == 'A' {
		key = make([]byte, n)
		rand.Read(key) // never fails, ends the process instead
	} else {
		key = randomDES(n)
	}
	c.secrets = append(c.secrets, key)
	return key
}

// generateKey is A0: a random key under the LMK and, in mode 1, under a ZMK or
// TMK too.
func generateKey(c *command) {
	mode := c.char("01", BadMode)
	t := c.keyType()
	scheme := c.char("ZUTXYS", BadScheme)
	var kek *secret
	var kekScheme byte
	if c.option(';') && mode == '1' {
		kt := typeZMK
		if c.char("01", BadInput) == '1' {
			kt = c.terminalType(typeTMK)
		}
		kek = c.secret(false, kt)
		kekScheme = c.char("ZUTXY", BadScheme)
	}
	if mode == '1' && kek == nil {
		c.fail(BadInput)
	}
	var h algo.Header
	length := algo.Scheme(scheme).KeyLen()
	if scheme == 'S' {
		h, length = c.attributes()
	} else if t.code == anyBlock.code {
		c.fail(BadKeyType)
	}
	if !c.end() {
		return
	}
	key := c.random(length, h)
	own := c.under(t, scheme, h, key)
	sent := ""
	if kek != nil {
		if h.Export == 'N' {
			c.fail(BlockExport)
		}
		sent = c.transport(kek.clear, c.schemeOf(kekScheme, field{letter: kekScheme}, key), field{letter: kekScheme}, key)
	}
	c.write(own, sent, checkValue(h, key, true))
}

// formKey is A4: two to nine components, each under the LMK, become a key.
func formKey(c *command) {
	n := c.number(1, BadComponents)
	if !c.failed() && n < 2 {
		c.fail(BadComponents)
	}
	t := c.keyType()
	scheme := c.char("ZUTXY", BadScheme)
	var key []byte
	for i := range n {
		part := c.secret(false, t)
		if c.failed() {
			return
		}
		if i == 0 {
			key = make([]byte, len(part.clear))
			c.secrets = append(c.secrets, key)
		}
		if len(part.clear) != len(key) {
			c.fail(BadKeyLength)
			return
		}
		subtle.XORBytes(key, key, part.clear)
	}
	if !c.end() {
		return
	}
	algo.SetOddParity(key)
	c.refuseWeak(key)
	c.write(c.under(t, scheme, algo.Header{}, key), checkValue(algo.Header{}, key, true))
}

// importKey is A6: a key under a ZMK, or a TR-31 block, comes under the LMK.
func importKey(c *command) {
	t := c.keyType()
	zmk := c.secret(false, typeZMK)
	f := c.field(false)
	scheme := c.char("ZUTXYS", BadScheme)
	var h algo.Header
	var key []byte
	if f.letter == 'R' {
		h, key = c.openTR31(zmk, f, t)
	} else {
		key = c.arrived(zmk, f)
		if scheme == 'S' {
			var length int
			if h, length = c.attributes(); !c.failed() && (length != len(key) || h.Algorithm == 'A') {
				c.fail(BadKeyLength)
			}
		}
	}
	if !c.end() {
		return
	}
	c.write(c.under(t, scheme, h, key), checkValue(h, key, true))
}

// exportKey is A8: a key under the LMK goes under a ZMK, or into a TR-31
// block.
func exportKey(c *command) {
	t := c.keyType()
	zmk := c.secret(false, typeZMK)
	key := c.secret(false, t)
	scheme := c.char("ZUTXYR", BadScheme)
	if !c.end() {
		return
	}
	if key.header.Export == 'N' {
		c.fail(BlockExport)
		return
	}
	if scheme == 'R' {
		c.write(c.sealTR31(zmk, key), checkValue(key.header, key.clear, true))
		return
	}
	if key.header.Algorithm == 'A' {
		c.fail(BadScheme)
		return
	}
	s := c.schemeOf(scheme, key.field, key.clear)
	c.write(c.transport(zmk.clear, s, field{letter: scheme}, key.clear), checkValue(key.header, key.clear, true))
}

// tr31 is how blocks under a ZMK are protected: B under a DES key, D under an
// AES key.
func tr31(zmk *secret) (*algo.Protector, error) {
	if zmk.header.Algorithm == 'A' {
		return algo.NewProtector('D', zmk.clear)
	}
	return algo.NewProtector('B', zmk.clear)
}

func (c *command) openTR31(zmk *secret, f field, t keyType) (h algo.Header, key []byte) {
	if c.failed() {
		return h, nil
	}
	p, err := tr31(zmk)
	if err != nil {
		c.fail(BadKeyLength)
		return h, nil
	}
	h, key, err = p.Unwrap(f.text[1:])
	switch {
	case errors.Is(err, algo.ErrKeyBlockMAC):
		c.fail(BlockMAC)
	case err != nil:
		c.fail(BlockHeader)
	case !t.takes(string(h.Usage[:])):
		c.fail(BlockUsage)
	case h.Algorithm != 'A' && !algo.OddParity(key):
		c.fail(DestParity)
	case h.Algorithm != 'A':
		c.refuseWeak(key)
	}
	c.secrets = append(c.secrets, key)
	return h, key
}

func (c *command) sealTR31(zmk, key *secret) string {
	h := key.header
	if h.Algorithm == 0 { // from a variant LMK, which says neither usage nor mode
		c.fail(BlockHeader)
		return ""
	}
	p, err := tr31(zmk)
	if err != nil {
		c.fail(BadKeyLength)
		return ""
	}
	h.Version = 'B'
	if zmk.header.Algorithm == 'A' {
		h.Version = 'D'
	}
	block, err := p.Wrap(h, key.clear, 0)
	if err != nil {
		c.fail(BlockHeader)
	}
	return "R" + block
}

// checkKey is BU: the check value of a key, whose type is two digits (variant
// and pair) or FF and three behind the key.
func checkKey(c *command) {
	code := c.text(2)
	lengthFlag := c.char("0123F", BadLengthFlag)
	if c.failed() {
		return
	}
	f := c.field(false)
	t := anyBlock
	switch {
	case code == "FF":
		if c.option(';') {
			t = c.keyType()
		}
	default:
		known, ok := namedTypes[code[:1]+"0"+code[1:]]
		if !ok {
			c.fail(BadKeyType)
		}
		t = known
	}
	short := false
	if c.option(';') {
		c.literal("00")
		short = c.char("01", BadInput) == '1'
	}
	if !c.end() {
		return
	}
	key, h, wrong := c.d.lmk.decrypt(f, t, SourceParity)
	if wrong != "" {
		c.fail(wrong)
		return
	}
	c.secrets = append(c.secrets, key)
	if lengthFlag != 'F' && h.Algorithm != 'A' && int(lengthFlag-'0') != len(key)/8-1 {
		c.fail(BadLengthFlag)
		return
	}
	c.write(checkValue(h, key, short))
}

// makeUnder is HC, HA, IA and FI: a random key under a key encryption key and
// under the LMK. The length follows from the schemes, single without any.
func (c *command) makeUnder(kek *secret, t keyType) (sent, own string, key []byte, o options) {
	o = c.options()
	if !c.end() {
		return "", "", nil, o
	}
	scheme, kekScheme := byte('Z'), byte('Z')
	if o.lmk != 0 {
		scheme, kekScheme = o.lmk, o.lmk
	}
	if o.kek != 0 {
		kekScheme = o.kek
	}
	key = c.random(algo.Scheme(scheme).KeyLen(), algo.Header{})
	own = c.under(t, scheme, algo.Header{}, key)
	if !c.failed() && algo.Scheme(kekScheme).KeyLen() != len(key) {
		c.fail(BadScheme)
	}
	sent = c.transport(kek.clear, algo.Scheme(kekScheme), field{letter: kekScheme}, key)
	return sent, own, key, o
}

// makeTerminalKey is HC, for a TMK, TPK or PVK under a TMK.
func makeTerminalKey(c *command) {
	if c.d.separate { // 002 does not say which of the three it is
		c.fail(Disabled)
		return
	}
	sent, own, _, _ := c.makeUnder(c.secret(false, type002), type002)
	c.write(sent, own)
}

// makeTAK is HA.
func makeTAK(c *command) {
	sent, own, _, _ := c.makeUnder(c.secret(false, c.terminalType(typeTMK)), typeTAK)
	c.write(sent, own)
}

// makeZPK is IA.
func makeZPK(c *command) {
	sent, own, key, o := c.makeUnder(c.secret(false, typeZMK), typeZPK)
	c.write(sent, own, checkValue(algo.Header{}, key, o.short))
}

// zoneKeyType reads the flag of FI, FK and FM: 0 ZEK, 1 ZAK.
func (c *command) zoneKeyType() keyType {
	if c.char("01", BadInput) == '1' {
		return typeZAK
	}
	return typeZEK
}

// makeZEK is FI.
func makeZEK(c *command) {
	t := c.zoneKeyType()
	sent, own, key, o := c.makeUnder(c.secret(false, typeZMK), t)
	c.write(sent, own, checkValue(algo.Header{}, key, o.short))
}

// fromZMK is FA, FC, MI: a key under a ZMK comes under the LMK.
func fromZMK(t keyType) func(*command) {
	return func(c *command) { c.fromZMK(t, false) }
}

// pairFromZMK is DW and AW, whose keys have double length.
func pairFromZMK(t keyType) func(*command) {
	return func(c *command) { c.fromZMK(t, true) }
}

// zekFromZMK is FK.
func zekFromZMK(c *command) { c.fromZMK(c.zoneKeyType(), false) }

func (c *command) fromZMK(t keyType, pair bool) {
	if c.d.separate && t.code == type002.code {
		c.fail(Disabled)
		return
	}
	zmk := c.secret(false, typeZMK)
	f := c.field(pair)
	o := c.options()
	if !c.end() {
		return
	}
	key := c.arrived(zmk, f)
	s := c.schemeOf(o.lmk, f, key)
	own := c.under(t, byte(s), algo.Header{}, key)
	if f.letter == 0 && s == f.scheme() && s == algo.SchemeX && own != "" {
		own = own[1:]
	}
	c.write(own, checkValue(algo.Header{}, key, o.short))
}

// toZMK is GC, FE, MG: a key under the LMK goes under a ZMK.
func toZMK(t keyType) func(*command) {
	return func(c *command) { c.toZMK(t, false) }
}

// pairToZMK is DY and AU.
func pairToZMK(t keyType) func(*command) {
	return func(c *command) { c.toZMK(t, true) }
}

// zekToZMK is FM.
func zekToZMK(c *command) { c.toZMK(c.zoneKeyType(), false) }

func (c *command) toZMK(t keyType, pair bool) {
	if c.d.separate && t.code == type002.code {
		c.fail(Disabled)
		return
	}
	zmk := c.secret(false, typeZMK)
	key := c.secret(pair, t)
	o := c.options()
	if !c.end() {
		return
	}
	sent := c.transport(zmk.clear, c.schemeOf(o.kek, key.field, key.clear), key.field, key.clear)
	c.write(sent, checkValue(key.header, key.clear, o.short))
}

// terminalKeyToTMK is AE: a TMK, TPK or PVK goes under a TMK, without check
// value.
func terminalKeyToTMK(c *command) {
	if c.d.separate {
		c.fail(Disabled)
		return
	}
	c.toTMK(type002, false)
}

// takToTMK is AG, with one.
func takToTMK(c *command) { c.toTMK(typeTAK, true) }

func (c *command) toTMK(t keyType, withCheck bool) {
	tmk := c.secret(false, c.terminalType(typeTMK))
	key := c.secret(false, t)
	o := c.options()
	if !c.end() {
		return
	}
	c.write(c.transport(tmk.clear, c.schemeOf(o.kek, key.field, key.clear), key.field, key.clear))
	if withCheck {
		c.write(checkValue(key.header, key.clear, o.short))
	}
}

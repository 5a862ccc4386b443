package payshield

import (
	"crypto/subtle"
	"strings"

	"acquirer/hsm/algo"
)

// PIN block format codes. Those that are bound to no account and are no
// format of ISO 9564 are taken under the test LMK only.
const (
	formatISO0 = "01"
	formatIBM  = "03" // Diebold and IBM: the PIN's digits, filled with F
	formatISO1 = "05"
	formatISO3 = "47"
)

var pinFormats = map[string]algo.PINFormat{formatISO0: algo.ISO0, formatISO1: algo.ISO1, formatISO3: algo.ISO3}

// pinFormat reads a format code.
func (c *command) pinFormat() string {
	code := c.text(2)
	if c.failed() {
		return ""
	}
	switch _, iso := pinFormats[code]; {
	case iso:
	case code == formatIBM && c.d.lmk.IsTest():
	case strings.Contains("02 03 04 34 35 41 42 48", code) && !strings.Contains(code, " "):
		c.fail(FormatOff)
	default:
		c.fail(BadFormatCode)
	}
	return code
}

// bound says that the account number is in blocks of the format.
func bound(code string) bool { return code == formatISO0 || code == formatISO3 }

// account reads the 12 rightmost digits of an account number without its check
// digit, and puts one behind them, which no format looks at.
func (c *command) account() string { return c.digits(12, BadAccount) + "0" }

// openPIN decrypts a block. Everything that can be wrong with it is error 20.
func (c *command) openPIN(k *algo.Key, block [8]byte, format, account string) (pin algo.PIN) {
	if c.failed() {
		return pin
	}
	var err error
	if f, ok := pinFormats[format]; ok {
		pin, err = algo.OpenPIN(k, f, algo.PINBlockOf(block[:]), account)
	} else if k.Cipher() == algo.AES {
		err = algo.ErrPINBlock
	} else {
		text := hexUpper(decrypt8(k, block))
		digits := strings.TrimRight(text, "F")
		pin, err = algo.ParsePIN(digits)
	}
	if err != nil {
		c.d.wrong.Add(1)
		c.fail(BadPINBlock)
	}
	return pin
}

func decrypt8(k *algo.Key, block [8]byte) []byte {
	out := k.Decrypt8(block)
	return out[:]
}

// sealPIN encrypts a block.
func (c *command) sealPIN(k *algo.Key, pin algo.PIN, format, account string) string {
	if c.failed() {
		return ""
	}
	if f, ok := pinFormats[format]; ok {
		block, err := algo.SealPIN(k, f, pin, account)
		if err != nil {
			c.fail(BadPINBlock)
			return ""
		}
		return hexUpper(block.Bytes())
	}
	var block [8]byte
	for i := range block {
		block[i] = 0xFF
	}
	for i, d := range pinDigits(pin) {
		shift := 4 * (1 - i%2)
		block[i/2] = block[i/2]&^(15<<shift) | byte(d-'0')<<shift
	}
	out := k.Encrypt8(block)
	return hexUpper(out[:])
}

// pinDigits are the digits of a PIN, which a block of format 0 without account
// shows.
func pinDigits(pin algo.PIN) string {
	block, err := algo.EncodePIN(algo.ISO0, pin, "0000000000000")
	if err != nil {
		return ""
	}
	text := hexUpper(block[:])
	return text[2 : 2+int(block[0]&15)]
}

// legal is the matrix of ISO 9564-1 and PCI PIN 3-3: a block bound to an
// account does not become one that is not, except for format 03, which only
// the test LMK knows.
func legal(from, to string) bool { return bound(to) || !bound(from) || to == formatIBM }

// translateTPK is CA.
func translateTPK(c *command) { c.translatePIN(c.terminalType(typeTPK)) }

// translateZPK is CC.
func translateZPK(c *command) { c.translatePIN(typeZPK) }

func (c *command) translatePIN(source keyType) {
	from, to := c.key(source), c.key(typeZPK)
	if n := c.number(2, BadPINLength); !c.failed() && n != 12 {
		c.fail(BadPINLength)
	}
	block := c.hex8()
	inFormat, outFormat := c.pinFormat(), c.pinFormat()
	account := c.account()
	if !c.end() {
		return
	}
	c.translated(from, block, inFormat, to, outFormat, account)
}

// translated writes a block that has come under another key.
func (c *command) translated(from *algo.Key, block [8]byte, inFormat string, to *algo.Key, outFormat, account string) {
	if !legal(inFormat, outFormat) {
		c.fail(BadFormatCode)
		return
	}
	pin := c.openPIN(from, block, inFormat, account)
	sealed := c.sealPIN(to, pin, outFormat, account)
	n := len(pinDigits(pin))
	c.write(string([]byte{'0' + byte(n/10), '0' + byte(n%10)}), sealed, outFormat)
}

// verifyTerminalPVV is DC.
func verifyTerminalPVV(c *command) { c.verifyPVV(c.terminalType(typeTPK)) }

// verifyZonePVV is EC.
func verifyZonePVV(c *command) { c.verifyPVV(typeZPK) }

func (c *command) verifyPVV(source keyType) {
	k, pvk := c.key(source), c.pair(typePVK)
	block, format, account := c.hex8(), c.pinFormat(), c.account()
	index, want := c.digits(1, BadInput), c.digits(4, BadInput)
	if !c.end() {
		return
	}
	pin := c.openPIN(k, block, format, account)
	c.compare(c.pvv(pvk, account, index, pin), want)
}

// pvv is the value of a PIN.
func (c *command) pvv(pvk *algo.Key, account, index string, pin algo.PIN) string {
	if c.failed() {
		return ""
	}
	v, err := algo.VisaPVV(pvk, account, index[0], pin)
	if err != nil {
		c.fail(BadKeyLength)
		return ""
	}
	return string(v[:])
}

// compare is in constant time; a difference is error 01 and counted.
func (c *command) compare(got, want string) {
	if c.failed() {
		return
	}
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		c.d.wrong.Add(1)
		c.fail(VerifyFailed)
	}
}

// clearPIN reads a PIN under the LMK of n characters, a setting of the device
// that no message tells. The encryption of a
// payShield (LMK pair 02-03) is not published; simulators have the PIN behind
// a 0, and so has the test LMK here. Under another LMK there is none.
func (c *command) clearPIN(n int) (pin algo.PIN) {
	if !c.d.lmk.IsTest() {
		c.fail(Disabled)
		return pin
	}
	text := c.digits(n, BadPINUnder)
	if c.failed() {
		return pin
	}
	if len(text) < 5 || text[0] != '0' {
		c.fail(BadPINUnder)
		return pin
	}
	pin, err := algo.ParsePIN(text[1:])
	if err != nil {
		c.fail(BadPINUnder)
	}
	return pin
}

// makePVV is DG, of a PIN under the LMK.
func makePVV(c *command) {
	pvk := c.pair(typePVK)
	pin := c.clearPIN(c.before(12 + 1))
	account, index := c.account(), c.digits(1, BadInput)
	if !c.end() {
		return
	}
	c.write(c.pvv(pvk, account, index, pin))
}

// makePVVOfBlock is FW, of a PIN under a TPK or ZPK.
func makePVVOfBlock(c *command) {
	k := c.key(c.pinKeyType())
	pvk := c.pair(typePVK)
	block, format, account := c.hex8(), c.pinFormat(), c.account()
	index := c.digits(1, BadInput)
	if !c.end() {
		return
	}
	c.write(c.pvv(pvk, account, index, c.openPIN(k, block, format, account)))
}

// pinKeyType reads a key type that PIN blocks are under.
func (c *command) pinKeyType() keyType {
	switch t := c.keyType(); t.code {
	case typeZPK.code, anyBlock.code:
		return typeZPK
	case type002.code, typeTPK.code:
		return c.terminalType(typeTPK)
	}
	c.fail(BadKeyType)
	return typeZPK
}

// changePVV is CU: the PIN in the first block is right, what is the PVV of the
// one in the second?
func changePVV(c *command) {
	k := c.key(c.pinKeyType())
	pvk := c.pair(typePVK)
	block, format, account := c.hex8(), c.pinFormat(), c.account()
	index, want, next := c.digits(1, BadInput), c.digits(4, BadInput), c.hex8()
	if !c.end() {
		return
	}
	c.compare(c.pvv(pvk, account, index, c.openPIN(k, block, format, account)), want)
	c.write(c.pvv(pvk, account, index, c.openPIN(k, next, format, account)))
}

// makeCVV is CW.
func makeCVV(c *command) {
	cvk := c.pair(typeCVK)
	c.write(c.cvv(cvk))
}

// verifyCVV is CY.
func verifyCVV(c *command) {
	cvk := c.pair(typeCVK)
	want := c.digits(3, BadInput)
	c.compare(c.cvv(cvk), want)
}

// cvv reads account number, expiry and service code, and the end.
func (c *command) cvv(cvk *algo.Key) string {
	pan := c.upTo(';', 19)
	expiry, service := c.digits(4, BadInput), c.digits(3, BadInput)
	if !c.end() {
		return ""
	}
	if cvk.Len() != 16 {
		c.fail(BadKeyLength)
		return ""
	}
	v, err := algo.CVV(cvk, pan, expiry, service)
	if err != nil {
		c.fail(BadAccount)
		return ""
	}
	return string(v[:])
}

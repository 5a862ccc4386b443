package payshield

import (
	"encoding/hex"
	"strconv"
	"strings"

	"acquirer/hsm/algo"
)

// before is how many characters are left before the end of the message, but
// for those of the fields that follow. Messages with binary fields cannot be
// asked so: an LMK identifier and a trailer are told by their first character.
func (c *command) before(following int) int {
	rest := c.in[c.at:]
	if i := strings.IndexAny(rest, "%\x19"); i >= 0 {
		rest = rest[:i]
	}
	return len(rest) - following
}

// ksn reads a descriptor and a key serial number of n hexadecimal digits, 12
// to 20; shorter ones than 20 are the end of one that starts with F. The
// descriptor tells the lengths of its parts, which TDES DUKPT does not need.
func (c *command) ksn(n int) algo.KSN {
	if _, err := strconv.ParseUint(c.text(3), 16, 16); err != nil {
		c.fail(BadInput)
	}
	if n < 12 || n > 20 {
		c.fail(BadInput)
	}
	text := c.text(n)
	if c.failed() {
		return nil
	}
	ksn, err := hex.DecodeString(strings.Repeat("F", 20-n) + text)
	if err != nil {
		c.fail(BadInput)
	}
	return ksn
}

// derived is the key of a transaction. A counter that no terminal reaches is
// an error in the input.
func (c *command) derived(bdk *secret, ksn algo.KSN, use algo.DUKPTUse) *algo.Key {
	if c.failed() {
		return noKey
	}
	if bdk.header.Algorithm == 'A' || len(bdk.clear) != 16 {
		c.fail(BadKeyLength)
		return noKey
	}
	ik, err := algo.TDESInitialKey(bdk.clear, ksn)
	defer clear(ik[:])
	if err == nil {
		var key [16]byte
		defer clear(key[:])
		if key, err = algo.TDESTransactionKey(ik, ksn); err == nil {
			if key, err = algo.TDESWorkingKey(key, use); err == nil {
				var k *algo.Key
				if k, err = algo.NewKey(algo.TDES, key[:]); err == nil {
					return k
				}
			}
		}
	}
	c.fail(BadInput)
	return noKey
}

// translateDUKPT is CI: from a terminal with DUKPT to a ZPK, in one format.
func translateDUKPT(c *command) {
	bdk, zpk := c.secret(true, typeBDK), c.key(typeZPK)
	ksn := c.ksn(c.before(3 + 16 + 2 + 12))
	block, format, account := c.hex8(), c.pinFormat(), c.account()
	if !c.end() {
		return
	}
	c.translated(c.derived(bdk, ksn, algo.DUKPTPIN), block, format, zpk, format, account)
}

// translateDUKPT3 is G0: to a ZPK, or behind "*" or "~" to another terminal's
// DUKPT.
func translateDUKPT3(c *command) {
	bdk := c.secret(true, typeBDK)
	var zpk *algo.Key
	var next *secret
	if c.option('*') || c.option('~') {
		next = c.secret(true, typeBDK)
	} else {
		zpk = c.key(typeZPK)
	}
	n := c.before(3 + 16 + 2 + 2 + 12)
	if next != nil {
		n = (n - 3) / 2
	}
	ksn := c.ksn(n)
	if next != nil {
		ksn2 := c.ksn(n)
		zpk = c.derived(next, ksn2, algo.DUKPTPIN)
	}
	block, inFormat, outFormat, account := c.hex8(), c.pinFormat(), c.pinFormat(), c.account()
	if !c.end() {
		return
	}
	c.translated(c.derived(bdk, ksn, algo.DUKPTPIN), block, inFormat, zpk, outFormat, account)
}

// offsetFields are what an IBM 3624 PIN is checked or made with: check length
// 2, account 12, decimalisation table 16, validation data 12.
type offsetFields struct {
	check      int
	account    string
	table      string
	validation [8]byte
}

const offsetLength = 2 + 12 + 16 + 12

func (c *command) offsetFields() (q offsetFields) {
	if q.check = c.number(2, BadPINLength); !c.failed() && (q.check < 4 || q.check > 12) {
		c.fail(BadPINLength)
	}
	q.account, q.table = c.account(), c.text(16)
	text := c.text(12)
	if c.failed() {
		return q
	}
	if algo.CheckDecimalisation(q.table) != nil {
		c.fail(BadDecTable)
		return q
	}
	// N stands where the last five digits of the account number go.
	text = strings.Replace(text, "N", q.account[7:12], 1)
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 8 {
		c.fail(BadInput)
		return q
	}
	q.validation = [8]byte(b)
	return q
}

// offset of a PIN, filled with F to 12.
func (c *command) offset(pvk *algo.Key, q offsetFields, pin algo.PIN) string {
	if c.failed() {
		return ""
	}
	if len(pinDigits(pin)) < q.check {
		c.fail("81")
		return ""
	}
	o, err := algo.IBM3624Offset(pvk, q.table, q.validation, pin, q.check)
	if err != nil {
		c.fail(BadKeyLength)
		return ""
	}
	return o + strings.Repeat("F", 12-len(o))
}

// wantedOffset reads an offset of 12 characters, filled with F.
func (c *command) wantedOffset(q offsetFields) string {
	text := c.text(12)
	for i := range len(text) {
		if i < q.check && !isDigit(text[i]) {
			c.fail(BadInput)
		}
	}
	if c.failed() {
		return ""
	}
	return text[:q.check] + strings.Repeat("F", 12-q.check)
}

// verifyTerminalOffset is DA, verifyZoneOffset EA.
func verifyTerminalOffset(c *command) { c.verifyOffset(c.terminalType(typeTPK)) }
func verifyZoneOffset(c *command)     { c.verifyOffset(typeZPK) }

func (c *command) verifyOffset(source keyType) {
	k, pvk := c.key(source), c.key(typePVK)
	if n := c.number(2, BadPINLength); !c.failed() && n != 12 {
		c.fail(BadPINLength)
	}
	block, format := c.hex8(), c.pinFormat()
	q := c.offsetFields()
	want := c.wantedOffset(q)
	if !c.end() {
		return
	}
	c.compare(c.offset(pvk, q, c.openPIN(k, block, format, q.account)), want)
}

// makeOffset is DE, of a PIN under the LMK.
func makeOffset(c *command) {
	pvk := c.key(typePVK)
	pin := c.clearPIN(c.before(offsetLength))
	q := c.offsetFields()
	if !c.end() {
		return
	}
	c.write(c.offset(pvk, q, pin))
}

// makeOffsetOfBlock is BK, of a PIN under a TPK or ZPK.
func makeOffsetOfBlock(c *command) {
	k := c.key(c.pinKeyType())
	pvk := c.key(typePVK)
	block, format := c.hex8(), c.pinFormat()
	q := c.offsetFields()
	if !c.end() {
		return
	}
	c.write(c.offset(pvk, q, c.openPIN(k, block, format, q.account)))
}

// verifyDUKPTOffset is GO, in mode 0: no MAC goes with the PIN.
func verifyDUKPTOffset(c *command) {
	c.char("0", BadMode)
	bdk, pvk := c.secret(true, typeBDK), c.key(typePVK)
	ksn := c.ksn(c.before(3 + 16 + 2 + offsetLength + 12))
	block, format := c.hex8(), c.pinFormat()
	q := c.offsetFields()
	want := c.wantedOffset(q)
	if !c.end() {
		return
	}
	k := c.derived(bdk, ksn, algo.DUKPTPIN)
	c.compare(c.offset(pvk, q, c.openPIN(k, block, format, q.account)), want)
}

// verifyDUKPTPVV is GQ, in mode 0.
func verifyDUKPTPVV(c *command) {
	c.char("0", BadMode)
	bdk, pvk := c.secret(true, typeBDK), c.pair(typePVK)
	ksn := c.ksn(c.before(3 + 16 + 2 + 12 + 1 + 4))
	block, format, account := c.hex8(), c.pinFormat(), c.account()
	index, want := c.digits(1, BadInput), c.digits(4, BadInput)
	if !c.end() {
		return
	}
	k := c.derived(bdk, ksn, algo.DUKPTPIN)
	c.compare(c.pvv(pvk, account, index, c.openPIN(k, block, format, account)), want)
}

// dukptMAC is GW: X9.19 under the MAC key of the transaction. Modes 1 to 3
// verify all 8 bytes, the first 4 or the last 4; modes 4 to 6 make them. The
// KSN has 20 digits, since nothing behind it tells where it ends.
func dukptMAC(c *command) {
	mode := c.char("123456", BadMode)
	c.char("1", BadKeyType)
	bdk := c.secret(true, typeBDK)
	ksn := c.ksn(20)
	from, to := 0, 16
	switch mode {
	case '2', '5':
		to = 8
	case '3', '6':
		from = 8
	}
	want := ""
	if mode <= '3' {
		want = c.text(to - from)
	}
	n := c.number(4, BadDataLength)
	if !c.failed() && (n == 0 || n%8 != 0) {
		c.fail(BadDataLength)
	}
	data := c.binary(n)
	if !c.end() {
		return
	}
	k := c.derived(bdk, ksn, algo.DUKPTMACRequest)
	if c.failed() {
		return
	}
	mac, err := k.AppendRetailMAC(nil, algo.PadZeros, data)
	if err != nil {
		c.fail(BadKeyLength)
		return
	}
	got := hexUpper(mac)[from:to]
	if mode <= '3' {
		c.compareMAC(got, want)
		return
	}
	c.write(got)
}

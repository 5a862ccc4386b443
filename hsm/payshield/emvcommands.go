package payshield

import (
	"crypto/subtle"

	"acquirer/hsm/algo"
)

// chipCard reads account number and sequence number, packed into n bytes with
// zeros in front.
func (c *command) chipCard(n int) (pan, psn string) {
	digits := hexUpper(c.binary(n))
	if c.failed() {
		return "", ""
	}
	for i := range len(digits) {
		if !isDigit(digits[i]) {
			c.fail(BadAccount)
			return "", ""
		}
	}
	pan, psn = digits[:len(digits)-2], digits[len(digits)-2:]
	for len(pan) > 19 && pan[0] == '0' {
		pan = pan[1:]
	}
	return pan, psn
}

// cardKey derives the key of a card.
func (c *command) cardKey(mk *algo.Key, d algo.Derivation, pan, psn string) *algo.Key {
	if c.failed() {
		return noKey
	}
	k, err := algo.ICCKey(mk, d, pan, psn)
	if err != nil {
		c.fail(BadKeyLength)
		return noKey
	}
	return k
}

func (c *command) session(icc *algo.Key, r [8]byte) *algo.Key {
	if c.failed() {
		return noKey
	}
	k, err := algo.CommonSessionKey(icc, r)
	if err != nil {
		c.fail(BadKeyLength)
		return noKey
	}
	return k
}

// transactionData reads what the card's cryptogram is over, and the delimiter
// behind it. Padding is the host's: the device only fills with zeros.
func (c *command) transactionData() []byte {
	n := c.hexNumber(2, BadDataLength)
	if !c.failed() && n == 0 {
		c.fail("81")
	}
	data := c.binary(n)
	c.literal(";")
	return data
}

// cryptogram compares the one that came with the one that the card should have
// made.
func (c *command) cryptogram(k *algo.Key, data []byte, got [8]byte) {
	if c.failed() {
		return
	}
	want, err := algo.ARQC(k, algo.PadZeros, data)
	if err != nil {
		c.fail(BadKeyLength)
		return
	}
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		c.fail(VerifyFailed)
	}
}

func (c *command) binary8() (b [8]byte) {
	copy(b[:], c.binary(8))
	return b
}

// verifyARQC is KQ: Visa CVN 10 (scheme 0) and M/Chip (scheme 1). The ARPC is
// made by method 1 under the card's own key.
func verifyARQC(c *command) {
	mode := c.char("012", BadKeyType)
	scheme := c.char("01", BadLengthFlag)
	mk := c.pair(typeMKAC)
	pan, psn := c.chipCard(8)
	atc, un := c.binary(2), c.binary(4)
	var data []byte
	if mode != '2' {
		data = c.transactionData()
	}
	arqc := c.binary8()
	var arc []byte
	if mode != '0' {
		arc = c.binary(2)
	}
	if !c.end() {
		return
	}
	icc := c.cardKey(mk, algo.OptionA, pan, psn)
	k := icc
	if scheme == '1' {
		k = c.session(icc, algo.MChipR([2]byte(atc), [4]byte(un)))
	}
	if mode != '2' {
		c.cryptogram(k, data, arqc)
	}
	if mode != '0' {
		c.arpc1(icc, arqc, arc)
	}
}

func (c *command) arpc1(k *algo.Key, arqc [8]byte, arc []byte) {
	if c.failed() {
		return
	}
	arpc, err := algo.ARPC1(k, arqc, [2]byte(arc))
	if err != nil {
		c.fail(BadKeyLength)
		return
	}
	c.write(string(arpc[:]))
}

// verifyCommonARQC is KW with the common session key of EMV: scheme 2 derives
// the card's key by option A, scheme 3 by option B. Schemes 0 and 1, the key
// tree of EMV 2000, are not here. Modes 1 and 2 make the ARPC by method 1,
// modes 3 and 4 by method 2.
func verifyCommonARQC(c *command) {
	mode := c.char("01234", BadKeyType)
	scheme := c.char("23", BadLengthFlag)
	mk := c.pair(typeMKAC)
	derivation, n := algo.OptionA, 8
	if scheme == '3' {
		derivation = algo.OptionB
		if n = c.number(2, BadAccount); !c.failed() && (n < 2 || n > 11) {
			c.fail(BadAccount)
		}
	}
	pan, psn := c.chipCard(n)
	if scheme == '3' {
		c.literal(";")
	}
	atc := c.binary(2)
	verify := mode == '0' || mode == '1' || mode == '3'
	var data []byte
	if verify {
		data = c.transactionData()
	}
	arqc := c.binary8()
	var arc, csu, proprietary []byte
	switch mode {
	case '1', '2':
		arc = c.binary(2)
	case '3', '4':
		csu = c.binary(4)
		if n := c.number(1, BadDataLength); n > 8 {
			c.fail(BadDataLength)
		} else {
			proprietary = c.binary(n)
		}
	}
	if !c.end() {
		return
	}
	k := c.session(c.cardKey(mk, derivation, pan, psn), algo.CommonR([2]byte(atc)))
	if verify {
		c.cryptogram(k, data, arqc)
	}
	switch {
	case c.failed():
	case arc != nil:
		c.arpc1(k, arqc, arc)
	case csu != nil:
		arpc, err := algo.ARPC2(k, arqc, [4]byte(csu), proprietary)
		if err != nil {
			c.fail(BadKeyLength)
			return
		}
		c.write(string(arpc[:]))
	}
}

// scriptMAC is KU in mode 0, integrity only: scheme 0 is Visa, whose session
// data are six zeros and the counter, scheme 1 M/Chip, whose are the random
// number. The layouts of the other modes, confidentiality and PIN change, are
// not published; they are refused as unknown modes.
func scriptMAC(c *command) {
	c.char("0", BadKeyType)
	scheme := c.char("01", BadLengthFlag)
	mk := c.pair(typeMKSMI)
	pan, psn := c.chipCard(8)
	data := c.binary8()
	text := c.script()
	if !c.end() {
		return
	}
	if scheme == '1' {
		c.scriptValue(c.session(c.cardKey(mk, algo.OptionA, pan, psn), data), text)
		return
	}
	k, err := algo.VisaScriptKey(mk, algo.OptionA, pan, psn, [2]byte(data[6:]))
	if err != nil {
		c.fail(BadKeyLength)
		return
	}
	c.scriptValue(k, text)
}

// commonScriptMAC is KY in mode 0 with the common session key, whose session
// data are the cryptogram.
func commonScriptMAC(c *command) {
	c.char("0", BadKeyType)
	mk := c.pair(typeMKSMI)
	pan, psn := c.chipCard(8)
	data := c.binary8()
	text := c.script()
	if !c.end() {
		return
	}
	c.scriptValue(c.session(c.cardKey(mk, algo.OptionA, pan, psn), data), text)
}

// script reads the command to the card behind its length.
func (c *command) script() []byte {
	n := c.hexNumber(4, BadDataLength)
	if !c.failed() && n == 0 {
		c.fail(BadDataLength)
	}
	text := c.binary(n)
	c.literal(";")
	return text
}

func (c *command) scriptValue(k *algo.Key, text []byte) {
	if c.failed() {
		return
	}
	mac, err := k.AppendRetailMAC(nil, algo.PadBit, text)
	if err != nil {
		c.fail(BadKeyLength)
		return
	}
	c.write(string(mac))
}

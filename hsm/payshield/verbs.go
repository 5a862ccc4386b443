package payshield

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/algo"
)

// pinCode is a format's code, "" for one that no payShield has.
func pinCode(f hsm.PINFormat) string {
	switch f {
	case hsm.ISO0:
		return formatISO0
	case hsm.ISO1:
		return formatISO1
	case hsm.ISO3:
		return formatISO3
	}
	return ""
}

// account are the 12 rightmost digits without the check digit.
func account(pan card.PAN) string {
	digits := pan.Reveal()
	digits = "000000000000" + digits[:max(0, len(digits)-1)]
	return digits[len(digits)-12:]
}

// TranslatePIN implements hsm.HSM (CA, CC). One account number goes with a
// command, so that a block without one cannot get it here.
func (c *Client) TranslatePIN(ctx context.Context, in hsm.Key, inFormat hsm.PINFormat, block hsm.PINBlock, pan card.PAN, out hsm.Key, outFormat hsm.PINFormat) (hsm.PINBlock, error) {
	const verb = "TranslatePIN"
	from, err := c.load(verb+" from", in, hsm.UseTPK, hsm.UseZPK)
	if err != nil {
		return hsm.PINBlock{}, err
	}
	to, err := c.load(verb+" to", out, hsm.UseZPK)
	if err != nil {
		return hsm.PINBlock{}, err
	}
	if !hsm.LegalPIN(inFormat, outFormat) {
		return hsm.PINBlock{}, fmt.Errorf("%w: format %v may not become %v", hsm.ErrPIN, inFormat, outFormat)
	}
	inCode, outCode := pinCode(inFormat), pinCode(outFormat)
	if inCode == "" || outCode == "" {
		return hsm.PINBlock{}, fmt.Errorf("hsm: %s from format %v to %v: %w: have the terminal send format ISO 0", verb, inFormat, outFormat, ErrNoCommand)
	}
	if c.Locked(ctx, in) {
		return hsm.PINBlock{}, hsm.ErrPIN
	}
	if block.Len() != 8 || pan.Reveal() == "" {
		c.Failed(ctx, in)
		return hsm.PINBlock{}, hsm.ErrPIN
	}
	command := "CA"
	if from.use == hsm.UseZPK {
		command = "CC"
	}
	return c.translate(ctx, verb, command, from.field+to.field+"12"+hexUpper(block.Bytes())+inCode+outCode+account(pan), in)
}

// TranslateDUKPT implements hsm.HSM (G0): TDES only, since the command for AES
// is not published.
func (c *Client) TranslateDUKPT(ctx context.Context, bdk hsm.Key, ksn []byte, inFormat hsm.PINFormat, block hsm.PINBlock, pan card.PAN, out hsm.Key, outFormat hsm.PINFormat) (hsm.PINBlock, error) {
	const verb, command = "TranslateDUKPT", "G0"
	base, err := c.load(verb, bdk, hsm.UseBDK)
	if err != nil {
		return hsm.PINBlock{}, err
	}
	to, err := c.load(verb+" to", out, hsm.UseZPK)
	if err != nil {
		return hsm.PINBlock{}, err
	}
	if !hsm.LegalPIN(inFormat, outFormat) {
		return hsm.PINBlock{}, fmt.Errorf("%w: format %v may not become %v", hsm.ErrPIN, inFormat, outFormat)
	}
	inCode, outCode := pinCode(inFormat), pinCode(outFormat)
	switch {
	case len(ksn) == 12 || inCode == "" || outCode == "":
		return hsm.PINBlock{}, fmt.Errorf("hsm: %s of %d bytes of key serial number from format %v to %v: %w", verb, len(ksn), inFormat, outFormat, ErrNoCommand)
	case len(ksn) != 10:
		return hsm.PINBlock{}, fmt.Errorf("hsm: %s: %w: %d bytes, want 10", verb, hsm.ErrKSN, len(ksn))
	case c.Locked(ctx, bdk):
		return hsm.PINBlock{}, hsm.ErrPIN
	case block.Len() != 8 || pan.Reveal() == "":
		c.Failed(ctx, bdk)
		return hsm.PINBlock{}, hsm.ErrPIN
	}
	// The descriptor 605: six digits of key set, no sub-key, five of device.
	return c.translate(ctx, verb, command, base.field+to.field+"605"+hexUpper(ksn)+hexUpper(block.Bytes())+inCode+outCode+account(pan), bdk)
}

// translate asks for a PIN block: a length, and 16 digits behind it.
func (c *Client) translate(ctx context.Context, verb, command, request string, key hsm.Key) (hsm.PINBlock, error) {
	answer, code, err := c.do(ctx, command, request)
	if err != nil {
		return hsm.PINBlock{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if command == "G0" && code == BadInput {
		return hsm.PINBlock{}, fmt.Errorf("hsm: %s: %w", verb, hsm.ErrKSN)
	}
	if err := c.pinRefusal(ctx, key, verb, command, code); err != nil {
		return hsm.PINBlock{}, err
	}
	if len(answer) < 18 {
		return hsm.PINBlock{}, garbled(verb, command)
	}
	b, err := hex.DecodeString(answer[2:18])
	if err != nil {
		return hsm.PINBlock{}, garbled(verb, command)
	}
	return hsm.PINBlockOf(b), nil
}

// pinRefusal makes one error of everything that can be wrong with a PIN, and
// counts it.
func (c *Client) pinRefusal(ctx context.Context, key hsm.Key, verb, command string, code Code) error {
	switch code {
	case OK:
		return nil
	case VerifyFailed, BadPINBlock, BadPINUnder, BadAccount, BadPINLength:
		c.Failed(ctx, key)
		return hsm.ErrPIN
	}
	return refusal(verb, command, code)
}

// VerifyPIN implements hsm.HSM (DC, EC).
func (c *Client) VerifyPIN(ctx context.Context, key hsm.Key, format hsm.PINFormat, block hsm.PINBlock, pan card.PAN, pvk hsm.Key, ref hsm.PVV) error {
	const verb = "VerifyPIN"
	k, err := c.load(verb, key, hsm.UseTPK, hsm.UseZPK)
	if err != nil {
		return err
	}
	verify, err := c.load(verb+" against", pvk, hsm.UsePVK)
	if err != nil {
		return err
	}
	if !hsm.LegalPIN(format, format) {
		return fmt.Errorf("%w: a block of format %v is not verified", hsm.ErrPIN, format)
	}
	code := pinCode(format)
	if code == "" {
		return fmt.Errorf("hsm: %s of format %v: %w", verb, format, ErrNoCommand)
	}
	if c.Locked(ctx, key) {
		return hsm.ErrPIN
	}
	if block.Len() != 8 || pan.Reveal() == "" || !isDigit(ref.Index) || strings.Trim(string(ref.Value[:]), "0123456789") != "" {
		c.Failed(ctx, key)
		return hsm.ErrPIN
	}
	command := "DC"
	if k.use == hsm.UseZPK {
		command = "EC"
	}
	_, got, err := c.do(ctx, command, k.field+verify.field+hexUpper(block.Bytes())+code+account(pan)+string(ref.Index)+string(ref.Value[:]))
	if err != nil {
		return fmt.Errorf("hsm: %s: %w", verb, err)
	}
	return c.pinRefusal(ctx, key, verb, command, got)
}

// VerifyCVV implements hsm.HSM (CY).
func (c *Client) VerifyCVV(ctx context.Context, cvk hsm.Key, pan card.PAN, expiry, service, cvv string) error {
	const verb = "VerifyCVV"
	k, err := c.load(verb, cvk, hsm.UseCVK)
	if err != nil {
		return err
	}
	if pan.Reveal() == "" || len(expiry) != 4 || len(service) != 3 || len(cvv) != 3 || strings.Trim(expiry+service+cvv, "0123456789") != "" {
		return hsm.ErrCVV
	}
	_, code, err := c.do(ctx, "CY", k.field+cvv+pan.Reveal()+";"+expiry+service)
	switch {
	case err != nil:
		return fmt.Errorf("hsm: %s: %w", verb, err)
	case code == VerifyFailed:
		return hsm.ErrCVV
	case code != OK:
		return refusal(verb, "CY", code)
	}
	return nil
}

// VerifyARQC implements hsm.HSM: KQ for CVN 10 and M/Chip, KW for what uses
// the common session key. No command for PBOC is published.
func (c *Client) VerifyARQC(ctx context.Context, imk hsm.Key, q hsm.Cryptogram) (arpc [8]byte, err error) {
	const verb = "VerifyARQC"
	k, err := c.load(verb, imk, hsm.UseIMK)
	if err != nil {
		return arpc, err
	}
	if q.Scheme == hsm.PBOC {
		return arpc, fmt.Errorf("hsm: %s of a PBOC cryptogram: %w that is published: have it checked by the software HSM", verb, ErrNoCommand)
	}
	psn := q.PSN
	if psn == "" {
		psn = "00"
	}
	digits := q.PAN.Reveal() + psn
	if q.PAN.Reveal() == "" || len(psn) != 2 || strings.Trim(digits, "0123456789") != "" {
		return arpc, fmt.Errorf("%w: the card's key cannot be derived", hsm.ErrARQC)
	}
	optionB := q.OptionB && len(q.PAN.Reveal()) > 16
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	if !optionB {
		digits = "0000000000000000" + digits
		digits = digits[len(digits)-16:]
	}
	who, err := hex.DecodeString(digits)
	if err != nil {
		return arpc, fmt.Errorf("%w: the card's key cannot be derived", hsm.ErrARQC)
	}
	data := append([]byte(nil), q.Data...)
	if q.Scheme != hsm.CVN10 {
		data = append(data, 0x80) // the host pads, the device fills with zeros
	}
	if len(data) == 0 || len(data) > 255 || len(q.Private) > 8 {
		return arpc, fmt.Errorf("hsm: %s: %d bytes under the cryptogram and %d of proprietary data, want 1 to 255 and at most 8", verb, len(data), len(q.Private))
	}
	card, length := "2"+k.field+string(who), 8
	if optionB {
		card = "3" + k.field + fmt.Sprintf("%02d", len(who)) + string(who) + ";"
	}
	var command, fields string
	switch q.Scheme {
	case hsm.CVN10, hsm.MChip:
		if optionB {
			return arpc, fmt.Errorf("hsm: %s of scheme %d with a card key of option B: %w", verb, q.Scheme, ErrNoCommand)
		}
		command, fields = "KQ", "10"
		if q.Scheme == hsm.MChip {
			fields = "11"
		}
		fields += k.field + string(who) + string(q.ATC[:]) + string(q.UN[:]) + sized(data) + ";" + string(q.ARQC[:]) + string(q.ARC[:])
	case hsm.EMVCommon:
		command, fields = "KW", "1"+card+string(q.ATC[:])+sized(data)+";"+string(q.ARQC[:])+string(q.ARC[:])
	case hsm.CVN18:
		command, fields = "KW", "3"+card+string(q.ATC[:])+sized(data)+";"+string(q.ARQC[:])+string(q.CSU[:])+fmt.Sprint(len(q.Private))+string(q.Private)
		length = 4
	default:
		return arpc, fmt.Errorf("hsm: %s: cryptogram scheme %d is none of PBOC, CVN 10, CVN 18, M/Chip and EMV common", verb, q.Scheme)
	}
	answer, code, err := c.do(ctx, command, fields)
	switch {
	case err != nil:
		return arpc, fmt.Errorf("hsm: %s: %w", verb, err)
	case code == VerifyFailed:
		return arpc, hsm.ErrARQC
	case code != OK:
		return arpc, refusal(verb, command, code)
	case len(answer) != length:
		return arpc, garbled(verb, command)
	}
	copy(arpc[:], answer)
	if q.Scheme == hsm.CVN18 {
		copy(arpc[4:], q.CSU[:])
	}
	return arpc, nil
}

// sized is data behind its length of two hexadecimal digits.
func sized(data []byte) string { return fmt.Sprintf("%02X", len(data)) + string(data) }

// maxMACData bounds a message that one command signs: a device's buffer has 32
// KB at most.
const maxMACData = 30_000

// macFields are those of M6 and M8 up to the MAC. The UnionPay MAC is CBC-MAC
// of 16 characters, the hexadecimal text of the folded message, of which the
// first 8 hexadecimal digits travel.
func (c *Client) macFields(verb string, key hsm.Key, alg hsm.MACAlg, data []byte) (fields string, err error) {
	k, err := c.load(verb, key, hsm.UseTAK, hsm.UseZAK, hsm.UseTAK919, hsm.UseZAK919, hsm.UseTAKCMAC, hsm.UseZAKCMAC)
	if err != nil {
		return "", err
	}
	if !k.use.Makes(alg) {
		return "", fmt.Errorf("hsm: %s of this kind with a %v: %w", verb, k.use, hsm.ErrKeyUse)
	}
	size, algorithm := "1", "1"
	switch alg {
	case hsm.MACUnionPay:
		size, data = "0", foldedText(data)
	case hsm.MACX919:
		algorithm = "3"
	case hsm.MACCMAC:
		algorithm = "6"
	}
	if len(data) == 0 && alg == hsm.MACCMAC {
		return "", fmt.Errorf("hsm: %s of an empty message: %w", verb, ErrNoCommand)
	}
	if len(data) == 0 {
		data = make([]byte, 8) // one block of zeros, which is what padding makes of nothing
	}
	if len(data) > maxMACData {
		return "", fmt.Errorf("hsm: %s: %d bytes, a payShield takes %d in one command", verb, len(data), maxMACData)
	}
	return "00" + size + algorithm + "1" + c.typeOf(k.use).code + k.field + fmt.Sprintf("%04X", len(data)) + string(data), nil
}

// foldedText XORs the blocks of a message and writes the result in
// hexadecimal.
func foldedText(data []byte) []byte {
	var fold [8]byte
	for i, b := range data {
		fold[i%8] ^= b
	}
	return []byte(hexUpper(fold[:]))
}

// MAC implements hsm.HSM (M6).
func (c *Client) MAC(ctx context.Context, key hsm.Key, alg hsm.MACAlg, data []byte) (mac [8]byte, err error) {
	const verb = "MAC"
	fields, err := c.macFields(verb, key, alg, data)
	if err != nil {
		return mac, err
	}
	answer, err := c.askOK(ctx, verb, "M6", fields)
	if err != nil {
		return mac, err
	}
	want := 16
	if alg == hsm.MACUnionPay {
		want = 8
	}
	if len(answer) == want+4 { // some versions put the length before it
		answer = answer[4:]
	}
	b, err := hex.DecodeString(answer)
	if err != nil || len(answer) != want {
		return mac, garbled(verb, "M6")
	}
	if alg == hsm.MACUnionPay {
		copy(mac[:], strings.ToUpper(answer))
	} else {
		copy(mac[:], b)
	}
	return mac, nil
}

// VerifyMAC implements hsm.HSM (M8).
func (c *Client) VerifyMAC(ctx context.Context, key hsm.Key, alg hsm.MACAlg, data, mac []byte) error {
	const verb = "VerifyMAC"
	fields, err := c.macFields(verb, key, alg, data)
	if err != nil {
		return err
	}
	text := hexUpper(mac)
	if alg == hsm.MACUnionPay {
		text = string(mac)
	}
	if len(mac) != 8 || strings.Trim(text, upperHex) != "" {
		return hsm.ErrMAC
	}
	_, code, err := c.do(ctx, "M8", fields+text)
	switch {
	case err != nil:
		return fmt.Errorf("hsm: %s: %w", verb, err)
	case code == VerifyFailed:
		return hsm.ErrMAC
	case code != OK:
		return refusal(verb, "M8", code)
	}
	return nil
}

// Encrypt implements hsm.HSM by the software HSM beside the devices.
func (c *Client) Encrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error) {
	if c.cfg.Local == nil {
		return nil, noLocal("Encrypt")
	}
	return c.cfg.Local.Encrypt(ctx, key, aad, data)
}

// Decrypt implements hsm.HSM likewise.
func (c *Client) Decrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error) {
	if c.cfg.Local == nil {
		return nil, noLocal("Decrypt")
	}
	return c.cfg.Local.Decrypt(ctx, key, aad, data)
}

// Token implements hsm.HSM likewise.
func (c *Client) Token(ctx context.Context, key hsm.Key, data []byte) ([16]byte, error) {
	if c.cfg.Local == nil {
		return [16]byte{}, noLocal("Token")
	}
	return c.cfg.Local.Token(ctx, key, data)
}

// DecryptTrack implements hsm.HSM (M2).
func (c *Client) DecryptTrack(ctx context.Context, tdk hsm.Key, scheme hsm.TrackScheme, track []byte) ([]byte, error) {
	const verb = "DecryptTrack"
	k, err := c.load(verb, tdk, hsm.UseTDK)
	if err != nil {
		return nil, err
	}
	decrypt := func(dst, src []byte) error {
		answer, err := c.askOK(ctx, verb, "M2", "0000"+c.typeOf(k.use).code+k.field+fmt.Sprintf("%04X", len(src))+string(src))
		if err != nil {
			return err
		}
		if len(answer) != 4+len(src) {
			return garbled(verb, "M2")
		}
		copy(dst, answer[4:])
		return nil
	}
	out, err := algo.AppendDecryptedTrackBy(nil, 8, decrypt, scheme, track)
	if errors.Is(err, algo.ErrTrack) {
		return nil, hsm.ErrTrack
	}
	return out, err
}

package hsm

import (
	"context"
	"crypto/subtle"
	"fmt"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// legalPair is the matrix of ISO 9564-1 and PCI PIN 3-3 for the formats of
// this house: a block bound to an account number (0, 3) never becomes one that
// is not (1).
func legalPair(in, out PINFormat) bool {
	known := func(f PINFormat) bool { return f == ISO0 || f == ISO1 || f == ISO3 }
	return known(in) && known(out) && (out != ISO1 || in == ISO1)
}

// TranslatePIN implements HSM. There is one account number: a caller cannot
// move a PIN from one card to another.
func (s *Software) TranslatePIN(_ context.Context, in Key, inFormat PINFormat, block [8]byte, pan card.PAN, out Key, outFormat PINFormat) ([8]byte, error) {
	from, err := s.load("TranslatePIN from", in, UseTPK, UseZPK)
	if err != nil {
		return [8]byte{}, err
	}
	to, err := s.load("TranslatePIN to", out, UseZPK)
	if err != nil {
		return [8]byte{}, err
	}
	if !legalPair(inFormat, outFormat) {
		return [8]byte{}, fmt.Errorf("%w: format %d may not become %d", ErrPIN, inFormat, outFormat)
	}
	digits := pan.Reveal()
	pin, err := algo.DecodePIN(inFormat, from.key.Decrypt8(block), digits)
	if err != nil {
		return [8]byte{}, ErrPIN
	}
	clear, err := algo.EncodePIN(outFormat, pin, digits)
	if err != nil {
		return [8]byte{}, ErrPIN
	}
	return to.key.Encrypt8(clear), nil
}

// VerifyPIN implements HSM.
func (s *Software) VerifyPIN(_ context.Context, key Key, format PINFormat, block [8]byte, pan card.PAN, pvk Key, ref PVV) error {
	k, err := s.load("VerifyPIN", key, UseTPK, UseZPK)
	if err != nil {
		return err
	}
	verify, err := s.load("VerifyPIN against", pvk, UsePVK)
	if err != nil {
		return err
	}
	if !legalPair(format, format) {
		return fmt.Errorf("%w: format %d is none of 0, 1, 3", ErrPIN, format)
	}
	digits := pan.Reveal()
	pin, err := algo.DecodePIN(format, k.key.Decrypt8(block), digits)
	if err != nil {
		return ErrPIN
	}
	pvv, err := algo.VisaPVV(verify.key, digits, ref.Index, pin)
	if err != nil || subtle.ConstantTimeCompare(pvv[:], ref.Value[:]) != 1 {
		return ErrPIN
	}
	return nil
}

// VerifyCVV implements HSM.
func (s *Software) VerifyCVV(_ context.Context, cvk Key, pan card.PAN, expiry, service, cvv string) error {
	k, err := s.load("VerifyCVV", cvk, UseCVK)
	if err != nil {
		return err
	}
	want, err := algo.CVV(k.key, pan.Reveal(), expiry, service)
	if err != nil || subtle.ConstantTimeCompare(want[:], []byte(cvv)) != 1 {
		return ErrCVV
	}
	return nil
}

// VerifyARQC implements HSM.
func (s *Software) VerifyARQC(_ context.Context, imk Key, c Cryptogram) (arpc [8]byte, err error) {
	k, err := s.load("VerifyARQC", imk, UseIMK)
	if err != nil {
		return arpc, err
	}
	if c.Scheme < PBOC || c.Scheme > CVN18 {
		return arpc, fmt.Errorf("hsm: VerifyARQC: cryptogram scheme %d is none of PBOC, CVN 10, CVN 18", c.Scheme)
	}
	icc, err := algo.ICCKey(k.key, algo.OptionA, c.PAN.Reveal(), c.PSN)
	if err != nil {
		return arpc, fmt.Errorf("%w: the card's key cannot be derived", ErrARQC)
	}
	key, pad := icc, algo.PadBit
	switch c.Scheme {
	case PBOC:
		key, err = algo.PBOCSessionKey(icc, c.ATC)
	case CVN10:
		pad = algo.PadZeros
	case CVN18:
		key, err = algo.CommonSessionKey(icc, algo.CommonR(c.ATC))
	}
	if err != nil {
		return arpc, fmt.Errorf("hsm: VerifyARQC: %w", err)
	}
	want, err := algo.ARQC(key, pad, c.Data)
	if err != nil {
		return arpc, fmt.Errorf("hsm: VerifyARQC: %w", err)
	}
	if subtle.ConstantTimeCompare(want[:], c.ARQC[:]) != 1 {
		return arpc, ErrARQC
	}
	if c.Scheme != CVN18 {
		return algo.ARPC1(key, c.ARQC, c.ARC)
	}
	short, err := algo.ARPC2(key, c.ARQC, c.CSU, nil)
	if err != nil {
		return arpc, fmt.Errorf("hsm: VerifyARQC: %w", err)
	}
	copy(arpc[:], short[:])
	copy(arpc[4:], c.CSU[:])
	return arpc, nil
}

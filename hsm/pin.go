package hsm

import (
	"context"
	"crypto/subtle"
	"fmt"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// bound says that the account number is in the block.
func bound(f PINFormat) bool { return f == ISO0 || f == ISO3 || f == SM4WithPAN }

// legalPair is the matrix of ISO 9564-1 and PCI PIN 3-3 for the formats of
// this house: a block bound to an account number never becomes one that is
// not. A format without account number that UnionPay terminals send becomes
// bound here and goes no further as it is.
func legalPair(in, out PINFormat) bool {
	switch in {
	case ISO0, ISO3, SM4WithPAN, UnionPayNoPAN, SM4NoPAN:
		return bound(out)
	case ISO1:
		return bound(out) || out == ISO1
	}
	return false
}

// TranslatePIN implements HSM. There is one account number: a caller cannot
// move a PIN that is bound from one card to another.
func (s *Software) TranslatePIN(_ context.Context, in Key, inFormat PINFormat, block PINBlock, pan card.PAN, out Key, outFormat PINFormat) (PINBlock, error) {
	from, err := s.load("TranslatePIN from", in, UseTPK, UseZPK)
	if err != nil {
		return PINBlock{}, err
	}
	to, err := s.load("TranslatePIN to", out, UseZPK)
	if err != nil {
		return PINBlock{}, err
	}
	if !legalPair(inFormat, outFormat) {
		return PINBlock{}, fmt.Errorf("%w: format %v may not become %v", ErrPIN, inFormat, outFormat)
	}
	if !to.key.FitsPIN(outFormat) {
		return PINBlock{}, fmt.Errorf("hsm: TranslatePIN to format %v under a %v of %v: %w", outFormat, to.use, to.alg, ErrKeyUse)
	}
	digits := pan.Reveal()
	pin, err := algo.OpenPIN(from.key, inFormat, block, digits)
	if err != nil {
		return PINBlock{}, ErrPIN
	}
	sealed, err := algo.SealPIN(to.key, outFormat, pin, digits)
	if err != nil {
		return PINBlock{}, ErrPIN
	}
	return sealed, nil
}

// VerifyPIN implements HSM.
func (s *Software) VerifyPIN(_ context.Context, key Key, format PINFormat, block PINBlock, pan card.PAN, pvk Key, ref PVV) error {
	k, err := s.load("VerifyPIN", key, UseTPK, UseZPK)
	if err != nil {
		return err
	}
	verify, err := s.load("VerifyPIN against", pvk, UsePVK)
	if err != nil {
		return err
	}
	if !legalPair(format, format) {
		return fmt.Errorf("%w: a block of format %v is not verified", ErrPIN, format)
	}
	digits := pan.Reveal()
	pin, err := algo.OpenPIN(k.key, format, block, digits)
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

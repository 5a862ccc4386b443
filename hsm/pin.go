package hsm

import (
	"context"
	"crypto/subtle"
	"fmt"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// bound says that the account number is in the block.
func bound(f PINFormat) bool { return f == ISO0 || f == ISO3 || f == ISO4 || f == SM4WithPAN }

// legalPair is the matrix of ISO 9564-1 and PCI PIN 3-3 for the formats of
// this house: a block bound to an account number never becomes one that is
// not. A format without account number that UnionPay terminals send becomes
// bound here and goes no further as it is.
func legalPair(in, out PINFormat) bool {
	switch in {
	case ISO0, ISO3, ISO4, SM4WithPAN, UnionPayNoPAN, SM4NoPAN:
		return bound(out)
	case ISO1:
		return bound(out) || out == ISO1
	}
	return false
}

// TranslatePIN implements HSM. There is one account number: a caller cannot
// move a PIN that is bound from one card to another.
func (s *Software) TranslatePIN(ctx context.Context, in Key, inFormat PINFormat, block PINBlock, pan card.PAN, out Key, outFormat PINFormat) (PINBlock, error) {
	from, err := s.load("TranslatePIN from", in, UseTPK, UseZPK)
	if err != nil {
		return PINBlock{}, err
	}
	to, err := s.load("TranslatePIN to", out, UseZPK)
	if err != nil {
		return PINBlock{}, err
	}
	if err := mayBecome("TranslatePIN", inFormat, to, outFormat); err != nil {
		return PINBlock{}, err
	}
	if s.pins.counting() && s.pins.locked(pinSource{key: in, terminal: terminalOf(ctx)}) {
		return PINBlock{}, ErrPIN
	}
	sealed, err := translate(from.key, inFormat, block, pan, to.key, outFormat)
	if err != nil {
		s.pins.failed(pinSource{key: in, terminal: terminalOf(ctx)})
	}
	return sealed, err
}

// mayBecome refuses pairs of formats and a format that the key on the way out
// does not make: the house's own mistakes, of which no PIN is to blame.
func mayBecome(verb string, in PINFormat, to *expanded, out PINFormat) error {
	if !legalPair(in, out) {
		return fmt.Errorf("%w: format %v may not become %v", ErrPIN, in, out)
	}
	if !to.key.FitsPIN(out) {
		return fmt.Errorf("hsm: %s to format %v under a %v of %v: %w", verb, out, to.use, to.alg, ErrKeyUse)
	}
	return nil
}

// translate opens a block and seals the PIN again. Every failure is ErrPIN.
func translate(from *algo.Key, inFormat PINFormat, block PINBlock, pan card.PAN, to *algo.Key, outFormat PINFormat) (PINBlock, error) {
	digits := pan.Reveal()
	pin, err := algo.OpenPIN(from, inFormat, block, digits)
	if err != nil {
		return PINBlock{}, ErrPIN
	}
	sealed, err := algo.SealPIN(to, outFormat, pin, digits)
	if err != nil {
		return PINBlock{}, ErrPIN
	}
	return sealed, nil
}

// VerifyPIN implements HSM.
func (s *Software) VerifyPIN(ctx context.Context, key Key, format PINFormat, block PINBlock, pan card.PAN, pvk Key, ref PVV) error {
	verify, err := s.load("VerifyPIN against", pvk, UsePVK)
	if err != nil {
		return err
	}
	return s.verifyPIN(ctx, "VerifyPIN", key, format, block, pan, func(pin algo.PIN) bool {
		pvv, err := algo.VisaPVV(verify.key, pan.Reveal(), ref.Index, pin)
		return err == nil && subtle.ConstantTimeCompare(pvv[:], ref.Value[:]) == 1
	})
}

// verifyPIN opens a block and asks whether the PIN in it is the right one.
func (s *Software) verifyPIN(ctx context.Context, verb string, key Key, format PINFormat, block PINBlock, pan card.PAN, right func(algo.PIN) bool) error {
	k, err := s.load(verb, key, UseTPK, UseZPK)
	if err != nil {
		return err
	}
	if !legalPair(format, format) {
		return fmt.Errorf("%w: a block of format %v is not verified", ErrPIN, format)
	}
	who := pinSource{key: key, terminal: terminalOf(ctx)}
	if s.pins.locked(who) {
		return ErrPIN
	}
	pin, err := algo.OpenPIN(k.key, format, block, pan.Reveal())
	if err != nil || !right(pin) {
		s.pins.failed(who)
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

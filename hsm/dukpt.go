package hsm

import (
	"context"
	"crypto/subtle"
	"fmt"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// ErrKSN says that a key serial number can be of no DUKPT terminal: its
// length, a counter of zero, or one that terminals skip.
var ErrKSN = algo.ErrKSN

// dukptKey derives a working key of one transaction from the base derivation
// key: of TDES for a KSN of 10 bytes, of AES for one of 12. alg is the kind of
// the key where AES has a choice.
func (s *Software) dukptKey(verb string, bdk Key, ksn []byte, use algo.DUKPTUse, alg func(own algo.DUKPTAlg) (algo.DUKPTAlg, algo.Cipher)) (*algo.Key, error) {
	fail := func(err error) (*algo.Key, error) { return nil, fmt.Errorf("hsm: %s: %w", verb, err) }
	if _, err := s.load(verb, bdk, UseBDK); err != nil {
		return nil, err
	}
	h, base, _, err := s.open(bdk) // the derivation wants the bytes; only their expansion is kept
	if err != nil {
		return fail(fmt.Errorf("%w (%w)", ErrKey, err))
	}
	defer clear(base)
	if h.Algorithm == 'T' {
		ik, err := algo.TDESInitialKey(base, ksn)
		if err != nil {
			return fail(err)
		}
		defer clear(ik[:])
		txn, err := algo.TDESTransactionKey(ik, ksn)
		if err != nil {
			return fail(err)
		}
		defer clear(txn[:])
		key, err := algo.TDESWorkingKey(txn, use)
		if err != nil {
			return fail(err)
		}
		defer clear(key[:])
		return algo.NewKey(algo.TDES, key[:])
	}
	if len(ksn) != 12 {
		return fail(fmt.Errorf("%w: %d bytes, want 12 for AES", ErrKSN, len(ksn)))
	}
	ik, err := algo.AESInitialKey(base, ksn[:8])
	if err != nil {
		return fail(err)
	}
	defer clear(ik)
	derivation, err := algo.AESDerivationKey(ik, ksn)
	if err != nil {
		return fail(err)
	}
	defer clear(derivation)
	own := algo.DUKPTAES128
	if len(base) == 32 {
		own = algo.DUKPTAES256
	}
	kind, cipher := alg(own)
	key, err := algo.AESWorkingKey(derivation, ksn, use, kind)
	if err != nil {
		return fail(err)
	}
	defer clear(key)
	return algo.NewKey(cipher, key)
}

// TranslateDUKPT implements HSM. Under an AES base key format 4 is under an AES
// key of its length, the formats of 8 bytes under a TDES key of 16. This HSM
// remembers nothing of a terminal but its failures.
func (s *Software) TranslateDUKPT(ctx context.Context, bdk Key, ksn []byte, inFormat PINFormat, block PINBlock, pan card.PAN, out Key, outFormat PINFormat) (PINBlock, error) {
	const verb = "TranslateDUKPT"
	to, err := s.load(verb+" to", out, UseZPK)
	if err != nil {
		return PINBlock{}, err
	}
	if err := mayBecome(verb, inFormat, to, outFormat); err != nil {
		return PINBlock{}, err
	}
	who := pinSource{key: bdk, terminal: terminalOf(ctx)}
	if who.terminal == "" {
		who.terminal = dukptTerminal(ksn)
	}
	if s.pins.locked(who) {
		return PINBlock{}, ErrPIN
	}
	from, err := s.dukptKey(verb, bdk, ksn, algo.DUKPTPIN, func(own algo.DUKPTAlg) (algo.DUKPTAlg, algo.Cipher) {
		if inFormat == ISO4 {
			return own, algo.AES
		}
		return algo.DUKPTTDES2, algo.TDES
	})
	if err != nil {
		return PINBlock{}, err
	}
	sealed, err := translate(from, inFormat, block, pan, to.key, outFormat)
	if err != nil {
		s.pins.failed(who)
	}
	return sealed, err
}

// SplitKSN is what a key serial number says: which device (base key and
// number), and its transaction counter, which only goes up. ErrKSN.
func SplitKSN(ksn []byte) (device string, counter uint32, err error) {
	counter, err = algo.KSN(ksn).Counter()
	return dukptTerminal(ksn), counter, err
}

// dukptTerminal names a terminal by its key serial number without the counter.
func dukptTerminal(ksn []byte) string {
	switch len(ksn) {
	case 10:
		return fmt.Sprintf("KSN %X%02X", ksn[:7], ksn[7]&0xE0)
	case 12:
		return fmt.Sprintf("KSN %X", ksn[:8])
	}
	return ""
}

// MACDUKPT signs an answer to a DUKPT terminal: X9.19 under a TDES key (of
// which 4 bytes are commonly sent), the first 8 bytes of CMAC under an AES one.
func (s *Software) MACDUKPT(_ context.Context, bdk Key, ksn, data []byte) ([8]byte, error) {
	return s.macDUKPT("MACDUKPT", bdk, ksn, algo.DUKPTMACResponse, data)
}

// VerifyMACDUKPT checks the MAC of what a DUKPT terminal sent, of 4 or 8
// bytes; ErrMAC.
func (s *Software) VerifyMACDUKPT(_ context.Context, bdk Key, ksn, data, mac []byte) error {
	want, err := s.macDUKPT("VerifyMACDUKPT", bdk, ksn, algo.DUKPTMACRequest, data)
	if err != nil {
		return err
	}
	if len(mac) != 4 && len(mac) != 8 || subtle.ConstantTimeCompare(want[:len(mac)], mac) != 1 {
		return ErrMAC
	}
	return nil
}

func (s *Software) macDUKPT(verb string, bdk Key, ksn []byte, use algo.DUKPTUse, data []byte) (mac [8]byte, err error) {
	k, err := s.dukptKey(verb, bdk, ksn, use, func(own algo.DUKPTAlg) (algo.DUKPTAlg, algo.Cipher) { return own, algo.AES })
	if err != nil {
		return mac, err
	}
	if k.Cipher() == algo.AES {
		return k.CMAC(data), nil
	}
	_, err = k.AppendRetailMAC(mac[:0], algo.PadZeros, data)
	return mac, err
}

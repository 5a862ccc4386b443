package hsm

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"acquirer/card"
	"acquirer/hsm/algo"
)

func derivation(optionB bool) algo.Derivation {
	if optionB {
		return algo.OptionB
	}
	return algo.OptionA
}

// VerifyARQC implements HSM.
func (s *Software) VerifyARQC(_ context.Context, imk Key, c Cryptogram) (arpc [8]byte, err error) {
	k, err := s.load("VerifyARQC", imk, UseIMK)
	if err != nil {
		return arpc, err
	}
	if c.Scheme < PBOC || c.Scheme > EMVCommon {
		return arpc, fmt.Errorf("hsm: VerifyARQC: cryptogram scheme %d is none of PBOC, CVN 10, CVN 18, M/Chip and EMV common", c.Scheme)
	}
	icc, err := algo.ICCKey(k.key, derivation(c.OptionB), c.PAN.Reveal(), c.PSN)
	if err != nil {
		return arpc, fmt.Errorf("%w: the card's key cannot be derived", ErrARQC)
	}
	key, pad := icc, algo.PadBit
	switch c.Scheme {
	case PBOC:
		key, err = algo.PBOCSessionKey(icc, c.ATC)
	case CVN10:
		pad = algo.PadZeros
	case CVN18, EMVCommon:
		key, err = algo.CommonSessionKey(icc, algo.CommonR(c.ATC))
	case MChip:
		key, err = algo.CommonSessionKey(icc, algo.MChipR(c.ATC, c.UN))
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
	switch c.Scheme {
	case CVN18:
		short, err := algo.ARPC2(key, c.ARQC, c.CSU, c.Private)
		if err != nil {
			return arpc, fmt.Errorf("hsm: VerifyARQC: %w", err)
		}
		copy(arpc[:], short[:])
		copy(arpc[4:], c.CSU[:])
		return arpc, nil
	case MChip:
		return algo.ARPC1(icc, c.ARQC, c.ARC)
	}
	return algo.ARPC1(key, c.ARQC, c.ARC)
}

// Script is a command that the issuer sends to a card, and the card.
type Script struct {
	Scheme  EMVScheme
	PAN     card.PAN
	PSN     string // two digits; "" is "00"
	OptionB bool   // as in Cryptogram
	ATC     [2]byte
	ARQC    [8]byte // the cryptogram that the script answers
	Data    []byte  // CLA to Lc and the data, with what the scheme puts in front of them for the MAC
}

// scriptKey derives the session key of a script: PBOC from the counter, Visa
// by XORing the counter into the card's key, the others from the cryptogram.
func scriptKey(verb string, master *algo.Key, c Script) (*algo.Key, error) {
	d, digits := derivation(c.OptionB), c.PAN.Reveal()
	icc, err := algo.ICCKey(master, d, digits, c.PSN)
	if err != nil {
		return nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	switch c.Scheme {
	case PBOC:
		return algo.PBOCSessionKey(icc, c.ATC)
	case CVN10, CVN18:
		return algo.VisaScriptKey(master, d, digits, c.PSN, c.ATC)
	case MChip, EMVCommon:
		return algo.CommonSessionKey(icc, c.ARQC)
	}
	return nil, fmt.Errorf("hsm: %s: scheme %d is none of PBOC, CVN 10, CVN 18, M/Chip and EMV common", verb, c.Scheme)
}

// ScriptMAC signs an issuer script under a key derived from smi. The card
// takes the first 4 to 8 bytes.
func (s *Software) ScriptMAC(_ context.Context, smi Key, c Script) (mac [8]byte, err error) {
	const verb = "ScriptMAC"
	k, err := s.load(verb, smi, UseSMI)
	if err != nil {
		return mac, err
	}
	session, err := scriptKey(verb, k.key, c)
	if err != nil {
		return mac, err
	}
	return algo.ScriptMAC(session, c.Data)
}

// IssuerKeys are the master keys of a card's scripts: of MACs, of encryption,
// and of cryptograms, which Visa's PIN block has a part of.
type IssuerKeys struct{ SMI, SMC, IMK Key }

// ScriptPINChange makes the script that gives a card another PIN, which comes
// in a block under a TPK or ZPK: the encrypted data, and the MAC over c.Data,
// which is what stands in front of it, and the data. The PIN block is format 2
// for M/Chip and EMV common, Visa's for the others. Every failure of the PIN
// is ErrPIN.
func (s *Software) ScriptPINChange(ctx context.Context, key Key, format PINFormat, block PINBlock, keys IssuerKeys, c Script) (data []byte, mac [8]byte, err error) {
	const verb = "ScriptPINChange"
	smi, err := s.load(verb, keys.SMI, UseSMI)
	if err != nil {
		return nil, mac, err
	}
	smc, err := s.load(verb, keys.SMC, UseSMC)
	if err != nil {
		return nil, mac, err
	}
	imk, err := s.load(verb, keys.IMK, UseIMK)
	if err != nil {
		return nil, mac, err
	}
	integrity, err := scriptKey(verb, smi.key, c)
	if err != nil {
		return nil, mac, err
	}
	confidentiality, err := scriptKey(verb, smc.key, c)
	if err != nil {
		return nil, mac, err
	}
	var clearBlock [8]byte
	defer clear(clearBlock[:])
	err = s.verifyPIN(ctx, verb, key, format, block, c.PAN, func(pin algo.PIN) bool {
		var err error
		if c.Scheme == MChip || c.Scheme == EMVCommon {
			clearBlock, err = algo.EncodePIN(algo.ISO2, pin, "")
		} else {
			clearBlock, err = algo.VisaPINBlock(imk.key, derivation(c.OptionB), c.PAN.Reveal(), c.PSN, pin, nil)
		}
		return err == nil
	})
	if err != nil {
		return nil, mac, err
	}
	pad := algo.ScriptVisa
	switch c.Scheme {
	case MChip:
		pad = algo.ScriptMChip
	case EMVCommon:
		pad = algo.ScriptEMV
	}
	if data, err = algo.EncryptScript(confidentiality, pad, clearBlock[:]); err != nil {
		return nil, mac, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	mac, err = algo.ScriptMAC(integrity, append(append([]byte(nil), c.Data...), data...))
	return data, mac, err
}

// Offset is an IBM 3624 reference of a PIN: a decimalisation table of 16
// digits, 8 bytes of validation data, and the offset, whose length is how many
// digits of the PIN are compared.
type Offset struct {
	Table      string
	Validation [8]byte
	Value      string
}

// VerifyOffset is the issuer's check of a PIN by IBM 3624 offset. A wrong PIN
// and a broken block are both ErrPIN. A table that would tell PINs apart is
// refused (algo.CheckDecimalisation): tables come from callers.
func (s *Software) VerifyOffset(ctx context.Context, key Key, format PINFormat, block PINBlock, pan card.PAN, pvk Key, ref Offset) error {
	const verb = "VerifyOffset"
	verify, err := s.load(verb+" against", pvk, UsePVKIBM)
	if err != nil {
		return err
	}
	if err := algo.CheckDecimalisation(ref.Table); err != nil {
		return fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if n := len(ref.Value); n < 4 || n > 12 {
		return errors.New("hsm: VerifyOffset: an offset has 4 to 12 digits")
	}
	return s.verifyPIN(ctx, verb, key, format, block, pan, func(pin algo.PIN) bool {
		got, err := algo.IBM3624Offset(verify.key, ref.Table, ref.Validation, pin, len(ref.Value))
		return err == nil && subtle.ConstantTimeCompare([]byte(got), []byte(ref.Value)) == 1
	})
}

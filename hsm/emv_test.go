package hsm

import (
	"errors"
	"testing"

	"acquirer/hsm/algo"
)

// TestVerifyARQCSchemes: published cryptograms of the schemes whose keys have
// two different halves, and the others against the primitives.
func TestVerifyARQCSchemes(t *testing.T) {
	s := newHSM(t)
	imk := formed(t, s, UseIMK, TDES16, publishedBDK)
	c := Cryptogram{Scheme: MChip, PAN: pan(t, "1234567890123456"), PSN: "00", ATC: [2]byte{0, 0x1C}, UN: [4]byte{0xAB, 0xCD, 0xEF, 0x12},
		Data: mustHex(t, "00000000999900000000000001248000000000012420990600ABCDEF121800001C1501850440B100000000B00000000000000000000000"),
		ARQC: [8]byte(mustHex(t, "18932FECA2D84326"))}
	issuer, err := algo.NewKey(algo.TDES, mustHex(t, publishedBDK))
	if err != nil {
		t.Fatal(err)
	}
	icc, err := algo.ICCKey(issuer, algo.OptionA, "1234567890123456", "00")
	if err != nil {
		t.Fatal(err)
	}
	want, err := algo.ARPC1(icc, c.ARQC, c.ARC)
	if err != nil {
		t.Fatal(err)
	}
	if arpc, err := s.VerifyARQC(ctx, imk, c); err != nil || arpc != want {
		t.Errorf("M/Chip: %X, %v, want %X", arpc, err, want)
	}
	c.UN[0] ^= 1
	if _, err := s.VerifyARQC(ctx, imk, c); err != ErrARQC {
		t.Errorf("M/Chip, another number: %v", err)
	}

	// Option B, common session key, with and without proprietary data.
	long := "8901234567890123456"
	for _, scheme := range []EMVScheme{EMVCommon, CVN18} {
		c := Cryptogram{Scheme: scheme, PAN: pan(t, long), OptionB: true, ATC: [2]byte{1, 2}, Data: []byte("terminal data"), CSU: [4]byte{9, 8, 7, 6}, Private: []byte{1, 2, 3}}
		icc, err := algo.ICCKey(issuer, algo.OptionB, long, "")
		if err != nil {
			t.Fatal(err)
		}
		sk, err := algo.CommonSessionKey(icc, algo.CommonR(c.ATC))
		if err != nil {
			t.Fatal(err)
		}
		if c.ARQC, err = algo.ARQC(sk, algo.PadBit, c.Data); err != nil {
			t.Fatal(err)
		}
		var want [8]byte
		if scheme == EMVCommon {
			want, err = algo.ARPC1(sk, c.ARQC, c.ARC)
		} else {
			var short [4]byte
			short, err = algo.ARPC2(sk, c.ARQC, c.CSU, c.Private)
			copy(want[:], short[:])
			copy(want[4:], c.CSU[:])
		}
		if err != nil {
			t.Fatal(err)
		}
		if arpc, err := s.VerifyARQC(ctx, imk, c); err != nil || arpc != want {
			t.Errorf("scheme %d: %X, %v, want %X", scheme, arpc, err, want)
		}
		c.OptionB = false
		if _, err := s.VerifyARQC(ctx, imk, c); err != ErrARQC {
			t.Errorf("scheme %d by option A: %v", scheme, err)
		}
		if c.OptionB, c.Private = true, make([]byte, 9); scheme == CVN18 {
			if _, err := s.VerifyARQC(ctx, imk, c); err == nil {
				t.Error("9 bytes of proprietary data were taken")
			}
		}
	}
}

// TestScripts: the published MACs and PIN changes whose keys this HSM takes.
func TestScripts(t *testing.T) {
	s := newHSM(t)
	smi := formed(t, s, UseSMI, TDES16, "FEDCBA98765432100123456789ABCDEF")
	c := Script{Scheme: CVN18, PAN: pan(t, "1234567890123456"), PSN: "00", ATC: [2]byte{0, 0x1C}, Data: mustHex(t, "8418000008001C7A788EA6B8A3E733"), ARQC: [8]byte(mustHex(t, "7A788EA6B8A3E733"))}
	if mac, err := s.ScriptMAC(ctx, smi, c); err != nil || mac != [8]byte(mustHex(t, "04EDE90BC24CC35E")) {
		t.Errorf("Visa: %X, %v", mac, err)
	}
	c.Scheme = EMVCommon
	if mac, err := s.ScriptMAC(ctx, smi, c); err != nil || mac != [8]byte(mustHex(t, "A4805748F846D851")) {
		t.Errorf("by the cryptogram: %X, %v", mac, err)
	}
	c.Scheme = PBOC
	pboc, err := s.ScriptMAC(ctx, smi, c)
	c.ATC[1]++
	if other, err2 := s.ScriptMAC(ctx, smi, c); err != nil || err2 != nil || other == pboc {
		t.Errorf("PBOC: %X and %X, %v, %v", pboc, other, err, err2)
	}
	c.Scheme = 0
	if _, err := s.ScriptMAC(ctx, smi, c); err == nil {
		t.Error("a script of no scheme")
	}
	c.Scheme, c.PSN = PBOC, "x"
	if _, err := s.ScriptMAC(ctx, smi, c); err == nil {
		t.Error("a script for no card")
	}

	zpk, sender := form(t, s, UseZPK, TDES16, compC, compD)
	keys := IssuerKeys{
		SMI: formed(t, s, UseSMI, TDES16, publishedBDK),
		SMC: formed(t, s, UseSMC, TDES16, "11111111111111112222222222222222"),
		IMK: formed(t, s, UseIMK, TDES16, "FEDCBA98765432100123456789ABCDEF"),
	}
	const account = "1234567890123456"
	for _, v := range []struct {
		scheme    EMVScheme
		data, mac string
	}{
		{MChip, "28367E05DE3381C2", "8C4D10091A093B5B"},
		{EMVCommon, "28367E05DE3381C29D30A6055A8DEB86", "69DA1EE208823022"},
		{CVN10, "D421231A6FD2F0FAEE671384F0D3A7B9", "F67E37E67B06AB99"},
	} {
		c := Script{Scheme: v.scheme, PAN: pan(t, account), PSN: "01", ATC: [2]byte{0xFF, 0xFF}, ARQC: [8]byte(mustHex(t, "ABCDEF1234567890")), Data: mustHex(t, "8424000210")}
		block := pinBlock(t, sender, ISO0, "9999", account)
		data, mac, err := s.ScriptPINChange(ctx, zpk, ISO0, block, keys, c)
		if err != nil || string(data) != string(mustHex(t, v.data)) || mac != [8]byte(mustHex(t, v.mac)) {
			t.Errorf("scheme %d: %X, %X, %v", v.scheme, data, mac, err)
		}
		if data, mac, err := s.ScriptPINChange(ctx, zpk, ISO3, block, keys, c); err != ErrPIN || data != nil || mac != [8]byte{} {
			t.Errorf("scheme %d, a block of another format: %X, %v", v.scheme, data, err)
		}
	}
}

// TestVerifyOffset: published natural PINs and offsets of IBM 3624.
func TestVerifyOffset(t *testing.T) {
	s := newHSM(t)
	zpk, sender := form(t, s, UseZPK, TDES16, compC, compD)
	pvk := formed(t, s, UsePVKIBM, TDES16, publishedBDK)
	for _, c := range []struct {
		pin, offset string
		ok          bool
	}{
		{"4524", "0000", true}, {"5635", "1111", true}, {"0000", "6586", true}, {"1234", "7710", true}, {"12349", "7710", true},
		{"4525", "0000", false}, {"4524", "0001", false}, {"4524", "00000", false},
	} {
		ref := Offset{Table: "1234567890123456", Validation: [8]byte(mustHex(t, "1122334455667788")), Value: c.offset}
		err := s.VerifyOffset(ctx, zpk, ISO0, pinBlock(t, sender, ISO0, c.pin, testPAN), pan(t, testPAN), pvk, ref)
		if c.ok && err != nil || !c.ok && err != ErrPIN {
			t.Errorf("%s with offset %s: %v", c.pin, c.offset, err)
		}
	}
	block := pinBlock(t, sender, ISO0, "1234", testPAN)
	for _, table := range []string{"", "0000000000000000", "0000000000000001"} {
		if err := s.VerifyOffset(ctx, zpk, ISO0, block, pan(t, testPAN), pvk, Offset{Table: table, Value: "0000"}); !errors.Is(err, algo.ErrDecimalisation) {
			t.Errorf("table %q: %v", table, err)
		}
	}
	for _, offset := range []string{"", "000", "0000000000000"} {
		if err := s.VerifyOffset(ctx, zpk, ISO0, block, pan(t, testPAN), pvk, Offset{Table: "0123456789012345", Value: offset}); err == nil || errors.Is(err, ErrPIN) {
			t.Errorf("offset %q: %v", offset, err)
		}
	}
	if f := s.PINFailures(); f.Failures != 3 {
		t.Errorf("%d failures were counted, want 3", f.Failures)
	}
}

package hsm

import (
	"errors"
	"testing"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// anotherPAN differs where it turns a digit of the test's PIN into a letter;
// the random fill of format 3 notices other differences by chance only.
const anotherPAN = "6228488402564890018"

func TestTranslatePIN(t *testing.T) {
	s := newHSM(t)
	tpk, terminal := form(t, s, UseTPK, TDES16, compA, compB)
	zpk, issuer := form(t, s, UseZPK, TDES16, compC, compD)
	zpk2, network := form(t, s, UseZPK, TDES16, compA, compD)
	p := pan(t, testPAN)
	for in := ISO0; in <= 5; in++ {
		for out := ISO0; out <= 5; out++ {
			legal := (in == ISO0 || in == ISO3 || in == ISO1) && (out == ISO0 || out == ISO3) || in == ISO1 && out == ISO1
			var block [8]byte
			if in <= ISO3 {
				block = pinBlock(t, terminal, in, "90210", testPAN)
			}
			sent, err := s.TranslatePIN(ctx, tpk, in, block, p, zpk, out)
			if !legal {
				if !errors.Is(err, ErrPIN) || sent != [8]byte{} {
					t.Errorf("format %d to %d: %v, want ErrPIN", in, out, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("format %d to %d: %v", in, out, err)
				continue
			}
			want, err := algo.ParsePIN("90210")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := algo.DecodePIN(out, issuer.Decrypt8(sent), testPAN); err != nil || got != want {
				t.Errorf("format %d to %d: another PIN arrived: %v", in, out, err)
			}
			if _, err := algo.DecodePIN(out, issuer.Decrypt8(sent), anotherPAN); (err == nil) != (out == ISO1) {
				t.Errorf("format %d to %d: the block is good for another card: %v", in, out, err)
			}
			// On from zone to zone.
			onward, err := s.TranslatePIN(ctx, zpk, out, sent, p, zpk2, out)
			if err != nil {
				t.Errorf("zone to zone, format %d: %v", out, err)
			}
			if got, err := algo.DecodePIN(out, network.Decrypt8(onward), testPAN); err != nil || got != want {
				t.Errorf("zone to zone, format %d: %v", out, err)
			}
		}
	}
}

// TestPINFailuresLookAlike: one error, one text, whatever was wrong with the
// block.
func TestPINFailuresLookAlike(t *testing.T) {
	s := newHSM(t)
	tpk, terminal := form(t, s, UseTPK, TDES16, compA, compB)
	zpk, _ := form(t, s, UseZPK, TDES16, compC, compD)
	pvk, _ := form(t, s, UsePVK, TDES16, compB, compD)
	p := pan(t, testPAN)
	under := func(clearBlock string) [8]byte { return terminal.Encrypt8([8]byte(mustHex(t, clearBlock))) }
	good := pinBlock(t, terminal, ISO0, "1234", testPAN)
	other := pinBlock(t, terminal, ISO0, "1234", "6228480402564891115")
	flipped := good
	flipped[3] ^= 4
	for what, c := range map[string]struct {
		format PINFormat
		block  [8]byte
		pan    card.PAN
	}{
		"zeros":              {ISO0, [8]byte{}, p},
		"a bit flipped":      {ISO0, flipped, p},
		"another card":       {ISO0, other, p},
		"no account":         {ISO0, good, card.PAN{}},
		"format 1 said":      {ISO1, good, p},
		"format 3 said":      {ISO3, good, p},
		"a PIN of 3":         {ISO1, under("1312345678901234"), p},
		"a PIN of 15":        {ISO1, under("1F12345678901234"), p},
		"letters in the PIN": {ISO1, under("14ABCD5678901234"), p},
	} {
		if out, err := s.TranslatePIN(ctx, tpk, c.format, c.block, c.pan, zpk, ISO0); err != ErrPIN || out != [8]byte{} {
			t.Errorf("translate, %s: %v, want ErrPIN itself", what, err)
		}
		if err := s.VerifyPIN(ctx, tpk, c.format, c.block, c.pan, pvk, PVV{'1', [4]byte{'0', '0', '0', '0'}}); err != ErrPIN {
			t.Errorf("verify, %s: %v, want ErrPIN itself", what, err)
		}
	}
}

func TestVerifyPIN(t *testing.T) {
	s := newHSM(t)
	zpk, zone := form(t, s, UseZPK, TDES16, compC, compD)
	pvk, bureau := form(t, s, UsePVK, TDES16, compB, compD)
	p := pan(t, testPAN)
	pin, err := algo.ParsePIN("123456")
	if err != nil {
		t.Fatal(err)
	}
	value, err := algo.VisaPVV(bureau, testPAN, '1', pin)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []PINFormat{ISO0, ISO1, ISO3} {
		right, wrong := pinBlock(t, zone, format, "123456", testPAN), pinBlock(t, zone, format, "923456", testPAN)
		if err := s.VerifyPIN(ctx, zpk, format, right, p, pvk, PVV{'1', value}); err != nil {
			t.Errorf("format %d: %v", format, err)
		}
		if err := s.VerifyPIN(ctx, zpk, format, wrong, p, pvk, PVV{'1', value}); err != ErrPIN {
			t.Errorf("format %d, wrong PIN: %v", format, err)
		}
		for _, index := range []byte{'2', 1, 0, 'x'} {
			if err := s.VerifyPIN(ctx, zpk, format, right, p, pvk, PVV{index, value}); err != ErrPIN {
				t.Errorf("format %d, index %q: %v", format, index, err)
			}
		}
	}
	if err := s.VerifyPIN(ctx, zpk, 2, pinBlock(t, zone, 2, "123456", ""), p, pvk, PVV{'1', value}); !errors.Is(err, ErrPIN) {
		t.Errorf("format 2: %v", err)
	}
}

func TestVerifyCVV(t *testing.T) {
	s := newHSM(t)
	// Visa's worked example.
	cvk, _, err := s.FormKey(ctx, UseCVK, TDES16, mustHex(t, "0123456789ABCDEFFEDCBA9876543210"), make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	p := pan(t, "4123456789012345")
	if err := s.VerifyCVV(ctx, cvk, p, "8701", "101", "561"); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ expiry, service, cvv string }{
		{"8701", "101", "562"}, {"8701", "101", ""}, {"8701", "101", "5610"}, {"0187", "101", "561"},
		{"8701", "000", "561"}, {"87", "101", "561"}, {"8701", "1a1", "561"},
	} {
		if err := s.VerifyCVV(ctx, cvk, p, c.expiry, c.service, c.cvv); err != ErrCVV {
			t.Errorf("%v: %v, want ErrCVV", c, err)
		}
	}
}

// TestVerifyARQC: published cryptograms of each scheme.
func TestVerifyARQC(t *testing.T) {
	s := newHSM(t)
	key := func(imk string) Key {
		k, _, err := s.FormKey(ctx, UseIMK, TDES16, mustHex(t, imk), make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, v := range []struct {
		what, imk string
		c         Cryptogram
		arqc      string
		arpc      string
	}{
		{
			"PBOC, 1024Planet", "F0C34A8124CEE0A91A0B034AA97D6EAC",
			Cryptogram{Scheme: PBOC, PAN: pan(t, "6228000100001"), PSN: "01", ATC: [2]byte{0x02, 0x40},
				Data: mustHex(t, "000000000001000000000000015600800460000156140701001E78EEBC7D00024003A04002"), ARC: [2]byte{'0', '1'}},
			"5D016C91005E7CC2", "21415243527CE78F",
		},
		{
			"CVN 10, pyemv", "0123456789ABCDEFFEDCBA9876543210",
			Cryptogram{Scheme: CVN10, PAN: pan(t, "1234567890123456"), ATC: [2]byte{0x00, 0x1C},
				Data: mustHex(t, "0000000040000000000000000124800004800001241911050152BF45851800001C03A06010"), ARC: [2]byte{'0', '0'}},
			"29CCA15AE665FA2E", "28993816AFAE4AEB",
		},
		{
			"CVN 18, jPOS CSKD_P80", "13345779133457791334577913345779",
			Cryptogram{Scheme: CVN18, PAN: pan(t, "1234567890123456"), PSN: "00", ATC: [2]byte{0x34, 0x56}, CSU: [4]byte{0x00, 0x12},
				Data: mustHex(t, "000000010000000000001000084000000010800840980704001111111158003456A08003242000")},
			"55BE45DD2C9E0CBF", "B4C698B600120000",
		},
	} {
		if v.c.Scheme == CVN18 {
			// Its key has two equal halves, which this HSM does not take.
			if _, _, err := s.FormKey(ctx, UseIMK, TDES16, mustHex(t, v.imk), make([]byte, 16)); !errors.Is(err, algo.ErrRepeatedParts) {
				t.Errorf("%s: %v, want ErrRepeatedParts", v.what, err)
			}
			continue
		}
		imk := key(v.imk)
		copy(v.c.ARQC[:], mustHex(t, v.arqc))
		arpc, err := s.VerifyARQC(ctx, imk, v.c)
		if err != nil || arpc != [8]byte(mustHex(t, v.arpc)) {
			t.Errorf("%s: %X, %v, want %s", v.what, arpc, err, v.arpc)
		}
		for what, c := range map[string]func(c *Cryptogram){
			"cryptogram": func(c *Cryptogram) { c.ARQC[7] ^= 1 },
			"data":       func(c *Cryptogram) { c.Data = append([]byte{1}, c.Data[1:]...) },
			"card":       func(c *Cryptogram) { c.PAN = pan(t, testPAN) },
			"no card":    func(c *Cryptogram) { c.PAN = card.PAN{} },
			"sequence":   func(c *Cryptogram) { c.PSN = "09" },
			"bad number": func(c *Cryptogram) { c.PSN = "1" },
		} {
			changed := v.c
			c(&changed)
			if arpc, err := s.VerifyARQC(ctx, imk, changed); !errors.Is(err, ErrARQC) || arpc != [8]byte{} {
				t.Errorf("%s, other %s: %v, want ErrARQC", v.what, what, err)
			}
		}
		changed := v.c
		changed.ATC[1]++
		if _, err := s.VerifyARQC(ctx, imk, changed); (err == ErrARQC) != (v.c.Scheme == PBOC) {
			t.Errorf("%s, other counter: %v", v.what, err) // CVN 10 has no session key
		}
		for _, scheme := range []EMVScheme{0, CVN18 + 1} {
			changed.Scheme = scheme
			if _, err := s.VerifyARQC(ctx, imk, changed); err == nil {
				t.Errorf("scheme %d was taken", scheme)
			}
		}
	}
}

// TestVerifyARQCCommonSessionKey: CVN 18 against the primitives, which pass
// the published vectors.
func TestVerifyARQCCommonSessionKey(t *testing.T) {
	s := newHSM(t)
	imk, issuer := form(t, s, UseIMK, TDES16, compC, compD)
	c := Cryptogram{Scheme: CVN18, PAN: pan(t, testPAN), PSN: "01", ATC: [2]byte{0, 7}, Data: []byte("what the card put together"), CSU: [4]byte{3, 0x82, 0, 0}}
	icc, err := algo.ICCKey(issuer, algo.OptionA, testPAN, "01")
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
	want, err := algo.ARPC2(sk, c.ARQC, c.CSU, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.VerifyARQC(ctx, imk, c)
	if err != nil || [4]byte(got[:4]) != want || [4]byte(got[4:]) != c.CSU {
		t.Errorf("%X, %v, want %X and the CSU", got, err, want)
	}
}

package hsm

import (
	"errors"
	"slices"
	"testing"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// anotherPAN differs where it turns a digit of the test's PIN into a letter;
// the random fill of format 3 notices other differences by chance only.
const anotherPAN = "6228488402564890018"

// pinParty is a sender or receiver of PIN blocks: its key in the HSM and in
// its own hands, for 8-byte formats under TDES and 16-byte ones under AES or SM4.
type pinParty struct {
	tdes, aes, sm4                Key
	tdesClear, aesClear, sm4Clear *algo.Key
}

func newPINParty(t *testing.T, s *Software, use Use, a, b string) (p pinParty) {
	t.Helper()
	p.tdes, p.tdesClear = form(t, s, use, TDES16, a, b)
	p.aes, p.aesClear = form(t, s, use, AES16, a, b)
	p.sm4, p.sm4Clear = form(t, s, use, SM4, a, b)
	return p
}

func (p *pinParty) keyFor(f PINFormat) (Key, *algo.Key) {
	if f == ISO4 {
		return p.aes, p.aesClear
	}
	if f == SM4WithPAN || f == SM4NoPAN {
		return p.sm4, p.sm4Clear
	}
	return p.tdes, p.tdesClear
}

// TestTranslatePIN: every format into every other, and onward to a network.
func TestTranslatePIN(t *testing.T) {
	s := newHSM(t)
	terminal := newPINParty(t, s, UseTPK, compA, compB)
	issuer := newPINParty(t, s, UseZPK, compC, compD)
	network := newPINParty(t, s, UseZPK, compA, compD)
	p := pan(t, testPAN)
	want, err := algo.ParsePIN("90210")
	if err != nil {
		t.Fatal(err)
	}
	outs := map[PINFormat][]PINFormat{
		ISO0:          {ISO0, ISO3, ISO4, SM4WithPAN},
		ISO1:          {ISO0, ISO1, ISO3, ISO4, SM4WithPAN},
		ISO3:          {ISO0, ISO3, ISO4, SM4WithPAN},
		ISO4:          {ISO0, ISO3, ISO4, SM4WithPAN},
		UnionPayNoPAN: {ISO0, ISO3, ISO4, SM4WithPAN},
		SM4WithPAN:    {ISO0, ISO3, ISO4, SM4WithPAN},
		SM4NoPAN:      {ISO0, ISO3, ISO4, SM4WithPAN},
	}
	for in := range SM4NoPAN + 2 {
		for out := range SM4NoPAN + 2 {
			from, sender := terminal.keyFor(in)
			to, receiver := issuer.keyFor(out)
			block := PINBlockOf(make([]byte, 8))
			if in <= ISO4 || in >= UnionPayNoPAN && in <= SM4NoPAN {
				block = pinBlock(t, sender, in, "90210", testPAN)
			}
			sent, err := s.TranslatePIN(ctx, from, in, block, p, to, out)
			if !slices.Contains(outs[in], out) {
				if !errors.Is(err, ErrPIN) || sent != (PINBlock{}) {
					t.Errorf("format %v to %v: %v, want ErrPIN", in, out, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("format %v to %v: %v", in, out, err)
				continue
			}
			if got, err := algo.OpenPIN(receiver, out, sent, testPAN); err != nil || got != want {
				t.Errorf("format %v to %v: another PIN arrived: %v", in, out, err)
			}
			if _, err := algo.OpenPIN(receiver, out, sent, anotherPAN); (err == nil) != (out == ISO1) {
				t.Errorf("format %v to %v: the block is good for another card: %v", in, out, err)
			}
			onKey, onClear := network.keyFor(out)
			onward, err := s.TranslatePIN(ctx, to, out, sent, p, onKey, out)
			if err != nil {
				t.Errorf("zone to zone, format %v: %v", out, err)
			}
			if got, err := algo.OpenPIN(onClear, out, onward, testPAN); err != nil || got != want {
				t.Errorf("zone to zone, format %v: %v", out, err)
			}
		}
	}
}

// TestPINBlocksKeepToTheirCiphers: a block of 16 bytes under TDES or one of 8
// under SM4 is a bad PIN on the way in and a misused key on the way out.
func TestPINBlocksKeepToTheirCiphers(t *testing.T) {
	s := newHSM(t)
	terminal := newPINParty(t, s, UseTPK, compA, compB)
	issuer := newPINParty(t, s, UseZPK, compC, compD)
	p := pan(t, testPAN)
	eight := pinBlock(t, terminal.tdesClear, ISO0, "1234", testPAN)
	sixteen := pinBlock(t, terminal.sm4Clear, SM4WithPAN, "1234", testPAN)
	for _, c := range []struct {
		what   string
		key    Key
		format PINFormat
		block  PINBlock
	}{
		{"SM4 format, TDES key", terminal.tdes, SM4WithPAN, sixteen},
		{"SM4 format without PAN, TDES key", terminal.tdes, SM4NoPAN, sixteen},
		{"format 0, SM4 key", terminal.sm4, ISO0, eight},
		{"format 0, 16 bytes", terminal.tdes, ISO0, sixteen},
		{"SM4 format, 8 bytes", terminal.sm4, SM4WithPAN, eight},
		{"no block", terminal.tdes, ISO0, PINBlock{}},
		{"7 bytes", terminal.tdes, ISO0, PINBlockOf(make([]byte, 7))},
		{"17 bytes", terminal.sm4, SM4WithPAN, PINBlockOf(make([]byte, 17))},
	} {
		if out, err := s.TranslatePIN(ctx, c.key, c.format, c.block, p, issuer.tdes, ISO0); err != ErrPIN || out != (PINBlock{}) {
			t.Errorf("%s: %v, want ErrPIN itself", c.what, err)
		}
	}
	for key, format := range map[Key]PINFormat{issuer.tdes: SM4WithPAN, issuer.sm4: ISO0} {
		if _, err := s.TranslatePIN(ctx, terminal.tdes, ISO0, eight, p, key, format); !errors.Is(err, ErrKeyUse) {
			t.Errorf("out in format %v: %v, want ErrKeyUse", format, err)
		}
	}
}

// TestPINFailuresLookAlike: one error, one text, whatever was wrong with the
// block.
func TestPINFailuresLookAlike(t *testing.T) {
	s := newHSM(t)
	terminal := newPINParty(t, s, UseTPK, compA, compB)
	zpk, _ := form(t, s, UseZPK, TDES16, compC, compD)
	pvk, _ := form(t, s, UsePVK, TDES16, compB, compD)
	p := pan(t, testPAN)
	under := func(clearBlock string) PINBlock {
		b := mustHex(t, clearBlock)
		k := terminal.tdesClear
		if len(b) == 16 {
			k = terminal.sm4Clear
		}
		if err := k.EncryptECB(b, b); err != nil {
			t.Fatal(err)
		}
		return PINBlockOf(b)
	}
	good := pinBlock(t, terminal.tdesClear, ISO0, "1234", testPAN)
	wide := pinBlock(t, terminal.sm4Clear, SM4WithPAN, "1234", testPAN)
	flip := func(b PINBlock) PINBlock {
		b.Bytes()[3] ^= 4
		return b
	}
	for what, c := range map[string]struct {
		format PINFormat
		block  PINBlock
		pan    card.PAN
	}{
		"zeros":                   {ISO0, PINBlockOf(make([]byte, 8)), p},
		"a bit flipped":           {ISO0, flip(good), p},
		"another card":            {ISO0, pinBlock(t, terminal.tdesClear, ISO0, "1234", "6228480402564891115"), p},
		"no account":              {ISO0, good, card.PAN{}},
		"format 1 said":           {ISO1, good, p},
		"format 3 said":           {ISO3, good, p},
		"without PAN said":        {UnionPayNoPAN, good, p},
		"with PAN said":           {ISO0, pinBlock(t, terminal.tdesClear, UnionPayNoPAN, "1234", ""), p},
		"no account to bind to":   {UnionPayNoPAN, pinBlock(t, terminal.tdesClear, UnionPayNoPAN, "1234", ""), card.PAN{}},
		"a PIN of 3":              {ISO1, under("1312345678901234"), p},
		"a PIN of 15":             {ISO1, under("1F12345678901234"), p},
		"letters in the PIN":      {ISO1, under("14ABCD5678901234"), p},
		"no PIN":                  {UnionPayNoPAN, under("00FFFFFFFFFFFFFF"), p},
		"fill not F":              {UnionPayNoPAN, under("041234FFFFFFFFF0"), p},
		"control of format 1":     {UnionPayNoPAN, under("141234FFFFFFFFFF"), p},
		"SM4, zeros":              {SM4WithPAN, PINBlockOf(make([]byte, 16)), p},
		"SM4, a bit flipped":      {SM4WithPAN, flip(wide), p},
		"SM4, another card":       {SM4WithPAN, pinBlock(t, terminal.sm4Clear, SM4WithPAN, "1234", "6228480402564891115"), p},
		"SM4, without PAN said":   {SM4NoPAN, wide, p},
		"SM4, fill not F":         {SM4NoPAN, under("041234FFFFFFFFFFFFFFFFFFFFFFFF0F"), p},
		"SM4, block of 8 in 16":   {SM4NoPAN, under("041234FFFFFFFFFF0000000000000000"), p},
		"SM4, letters in the PIN": {SM4NoPAN, under("04123AFFFFFFFFFFFFFFFFFFFFFFFFFF"), p},
	} {
		tpk, _ := terminal.keyFor(c.format)
		if out, err := s.TranslatePIN(ctx, tpk, c.format, c.block, c.pan, zpk, ISO0); err != ErrPIN || out != (PINBlock{}) {
			t.Errorf("translate, %s: %v, want ErrPIN itself", what, err)
		}
		err := s.VerifyPIN(ctx, tpk, c.format, c.block, c.pan, pvk, PVV{'1', [4]byte{'0', '0', '0', '0'}})
		if unbound := c.format == UnionPayNoPAN || c.format == SM4NoPAN; !errors.Is(err, ErrPIN) || !unbound && err != ErrPIN {
			t.Errorf("verify, %s: %v, want ErrPIN itself", what, err)
		}
	}
}

func TestVerifyPIN(t *testing.T) {
	s := newHSM(t)
	zone := newPINParty(t, s, UseZPK, compC, compD)
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
	for _, format := range []PINFormat{ISO0, ISO1, ISO3, ISO4, SM4WithPAN} {
		zpk, sender := zone.keyFor(format)
		right, wrong := pinBlock(t, sender, format, "123456", testPAN), pinBlock(t, sender, format, "923456", testPAN)
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
	for _, format := range []PINFormat{algo.ISO2, UnionPayNoPAN, SM4NoPAN} {
		zpk, sender := zone.keyFor(format)
		if err := s.VerifyPIN(ctx, zpk, format, pinBlock(t, sender, format, "123456", ""), p, pvk, PVV{'1', value}); !errors.Is(err, ErrPIN) {
			t.Errorf("format %v: %v", format, err)
		}
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
		for _, scheme := range []EMVScheme{0, EMVCommon + 1} {
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

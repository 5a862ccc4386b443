package hsm

import (
	"testing"

	"acquirer/hsm/algo"
)

// verbs are the ones on a transaction's way, with cached keys.
func verbs(tb testing.TB) map[string]func() error {
	s := newHSM(tb)
	var h HSM = s // as the switch calls it
	tpk, terminal := form(tb, s, UseTPK, TDES16, compA, compB)
	zpk, _ := form(tb, s, UseZPK, TDES16, compC, compD)
	single := generate(tb, s, UseTAK, DES8)
	double := generate(tb, s, UseTAK, TDES16)
	zak := generate(tb, s, UseZAK, TDES16)
	zak919 := generate(tb, s, UseZAK919, TDES16)
	cmac := generate(tb, s, UseTAKCMAC, AES16)
	sm4 := generate(tb, s, UseTAK, SM4)
	cmacSM4 := generate(tb, s, UseTAKCMAC, SM4)
	tpkSM4, terminalSM4 := form(tb, s, UseTPK, SM4, compA, compB)
	zpkSM4, _ := form(tb, s, UseZPK, SM4, compC, compD)
	tpkAES, terminalAES := form(tb, s, UseTPK, AES16, compA, compB)
	zpkAES, _ := form(tb, s, UseZPK, AES32, compC+compA, compD+compB)
	token := generate(tb, s, UseHMAC, HMAC32)
	p := pan(tb, testPAN)
	translate := func(from Key, k *algo.Key, in PINFormat, to Key, out PINFormat) func() error {
		block := pinBlock(tb, k, in, "123456", testPAN)
		return func() error { _, err := h.TranslatePIN(ctx, from, in, block, p, to, out); return err }
	}
	data := make([]byte, 200)
	sign := func(k Key, alg MACAlg) func() error {
		return func() error { _, err := h.MAC(ctx, k, alg, data); return err }
	}
	verify := func(k Key, alg MACAlg) func() error {
		mac, err := h.MAC(ctx, k, alg, data)
		if err != nil {
			tb.Fatal(err)
		}
		return func() error { return h.VerifyMAC(ctx, k, alg, data, mac[:]) }
	}
	return map[string]func() error{
		"MAC/UnionPaySingle":       sign(single, MACUnionPay),
		"MAC/UnionPayDouble":       sign(double, MACUnionPay),
		"MAC/UnionPaySM4":          sign(sm4, MACUnionPay),
		"MAC/X99":                  sign(zak, MACX99),
		"MAC/X919":                 sign(zak919, MACX919),
		"MAC/CMACAES":              sign(cmac, MACCMAC),
		"VerifyMAC/UnionPayDouble": verify(double, MACUnionPay),
		"VerifyMAC/X99":            verify(zak, MACX99),
		"MAC/CMACSM4":              sign(cmacSM4, MACCMAC),
		"MAC/X99SM4":               sign(sm4, MACX99),
		"TranslatePIN/0to0":        translate(tpk, terminal, ISO0, zpk, ISO0),
		"TranslatePIN/0to3":        translate(tpk, terminal, ISO0, zpk, ISO3),
		"TranslatePIN/NoPANto0":    translate(tpk, terminal, UnionPayNoPAN, zpk, ISO0),
		"TranslatePIN/4to0":        translate(tpkAES, terminalAES, ISO4, zpk, ISO0),
		"TranslatePIN/4to4":        translate(tpkAES, terminalAES, ISO4, zpkAES, ISO4),
		"TranslatePIN/SM4to0":      translate(tpkSM4, terminalSM4, SM4WithPAN, zpk, ISO0),
		"TranslatePIN/SM4toSM4":    translate(tpkSM4, terminalSM4, SM4NoPAN, zpkSM4, SM4WithPAN),
		"Token":                    func() error { _, err := h.Token(ctx, token, data[:16]); return err },
	}
}

func TestHotVerbsDoNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget")
	}
	all := verbs(t)
	// A PIN failure elsewhere makes the guard look into its table.
	s := newHSM(t)
	tpk, terminal := form(t, s, UseTPK, TDES16, compA, compB)
	zpk, _ := form(t, s, UseZPK, TDES16, compC, compD)
	block, p := pinBlock(t, terminal, ISO0, "1234", testPAN), pan(t, testPAN)
	if _, err := s.TranslatePIN(ForTerminal(ctx, "10000001"), tpk, ISO0, PINBlock{}, p, zpk, ISO0); err != ErrPIN {
		t.Fatal(err)
	}
	from := ForTerminal(ctx, "10000002")
	all["TranslatePIN/guarded"] = func() error { _, err := s.TranslatePIN(from, tpk, ISO0, block, p, zpk, ISO0); return err }
	for name, f := range all {
		if err := f(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := testing.AllocsPerRun(500, func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkVerbs(b *testing.B) {
	all := verbs(b)
	for _, name := range []string{
		"TranslatePIN/0to0", "TranslatePIN/0to3", "TranslatePIN/NoPANto0", "TranslatePIN/4to0", "TranslatePIN/4to4", "TranslatePIN/SM4to0", "TranslatePIN/SM4toSM4",
		"MAC/UnionPaySingle", "MAC/UnionPayDouble", "MAC/UnionPaySM4",
		"MAC/X99", "MAC/X99SM4", "MAC/X919", "MAC/CMACAES", "MAC/CMACSM4", "VerifyMAC/UnionPayDouble", "VerifyMAC/X99", "Token",
	} {
		f := all[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParallel(b *testing.B) {
	f := verbs(b)["TranslatePIN/0to0"]
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f(); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkOthers(b *testing.B) {
	s := newHSM(b)
	tmk, _ := form(b, s, UseTMK, TDES16, compA, compB)
	imk, issuer := form(b, s, UseIMK, TDES16, compC, compD)
	dek := generate(b, s, UseDEK, AES32)
	tak := generate(b, s, UseTAK, TDES16)
	c := Cryptogram{Scheme: PBOC, PAN: pan(b, testPAN), PSN: "01", ATC: [2]byte{0, 7}, Data: make([]byte, 40), ARC: [2]byte{'0', '0'}}
	icc, err := algo.ICCKey(issuer, algo.OptionA, testPAN, "01")
	if err != nil {
		b.Fatal(err)
	}
	sk, err := algo.PBOCSessionKey(icc, c.ATC)
	if err != nil {
		b.Fatal(err)
	}
	if c.ARQC, err = algo.ARQC(sk, algo.PadBit, c.Data); err != nil {
		b.Fatal(err)
	}
	dukpt := func(alg Alg, base, ksn string, use algo.DUKPTUse) func() error {
		bdk, serial := formed(b, s, UseBDK, alg, base), mustHex(b, ksn)
		return func() error {
			_, err := s.dukptKey("bench", bdk, serial, use, func(own algo.DUKPTAlg) (algo.DUKPTAlg, algo.Cipher) { return own, algo.AES })
			return err
		}
	}
	sealed, err := s.Encrypt(ctx, dek, nil, make([]byte, 19))
	if err != nil {
		b.Fatal(err)
	}
	for _, v := range []struct {
		name string
		f    func() error
	}{
		{"DUKPT/TDES10bits", dukpt(TDES16, publishedBDK, "FFFF9876543210FFF800", algo.DUKPTMACResponse)},
		{"DUKPT/AES16bits", dukpt(AES16, "FEDCBA9876543210F1F1F1F1F1F1F1F1", "1234567890123456FFFF0000", algo.DUKPTPIN)},
		{"VerifyARQC", func() error { _, err := s.VerifyARQC(ctx, imk, c); return err }},
		{"Encrypt19", func() error { _, err := s.Encrypt(ctx, dek, nil, sealed[:19]); return err }},
		{"Decrypt19", func() error { _, err := s.Decrypt(ctx, dek, nil, sealed); return err }},
		{"WorkingKeys", func() error { _, err := s.WorkingKeys(ctx, tmk, Set003, MAKSingle); return err }},
		{"UnwrapTDES", func() error { _, err := s.unwrap(tak); return err }},
	} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := v.f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

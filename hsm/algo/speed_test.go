package algo

import (
	"testing"
)

// BenchmarkPrimitives: what docs/performance.md has beside the figures of
// other implementations. Keys are expanded once where a device keeps them so.
func BenchmarkPrimitives(b *testing.B) {
	key := func(c Cipher, hex string) *Key {
		k, err := NewKey(c, mustHex(b, hex))
		if err != nil {
			b.Fatal(err)
		}
		return k
	}
	const double = "0123456789ABCDEFFEDCBA9876543210"
	des, tdes, aes, sm4 := key(DES, double[:16]), key(TDES, double), key(AES, double), key(SM4, double)
	clear, data, out := mustHex(b, double), make([]byte, 200), make([]byte, 16)
	pin, err := ParsePIN("1234")
	if err != nil {
		b.Fatal(err)
	}
	tdesKSN, aesKSN := KSN(mustHex(b, "FFFF9876543210FFF800")), KSN(mustHex(b, "1234567890123456FFFF0000"))
	ik, err := TDESInitialKey(clear, tdesKSN)
	if err != nil {
		b.Fatal(err)
	}
	aesIK, err := AESInitialKey(clear, aesKSN[:8])
	if err != nil {
		b.Fatal(err)
	}
	const blockD = "D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34"
	const blockB = "B0080K0TN00N00001C414014375212C24995E405B5EE052CB92B67F455EA2680F6751088F9F1C228"
	unwrap := func(block, kbpk string) func() error {
		clear := mustHex(b, kbpk)
		return func() error {
			p, err := NewProtector(block[0], clear)
			if err != nil {
				return err
			}
			_, _, err = p.Unwrap(block)
			return err
		}
	}
	pub := mustHex(b, "0409F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13")
	r := mustHex(b, "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3")
	s := mustHex(b, "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA")
	for _, v := range []struct {
		name string
		f    func() error
	}{
		{"DESBlock", func() error { return des.EncryptECB(out[:8], clear[:8]) }},
		{"TDESBlock", func() error { return tdes.EncryptECB(out[:8], clear[:8]) }},
		{"TDESKey", func() error { _, err := NewKey(TDES, clear); return err }},
		{"SM4Block", func() error { return sm4.EncryptECB(out, clear) }},
		{"AESBlock", func() error { return aes.EncryptECB(out, clear) }},
		{"X919Of200", func() error { _, err := tdes.AppendRetailMAC(out[:0], PadZeros, data); return err }},
		{"CBCMACOf200", func() error { tdes.AppendCBCMAC(out[:0], PadZeros, data); return nil }},
		{"UnionPayMACOf200", func() error { tdes.UnionPayMAC(data); return nil }},
		{"CMACAESOf200", func() error { aes.AppendCMAC(out[:0], data); return nil }},
		{"CMACSM4Of200", func() error { sm4.AppendCMAC(out[:0], data); return nil }},
		{"ARQCOfCVN18", func() error {
			icc, err := ICCKey(tdes, OptionA, testPAN, "00")
			if err != nil {
				return err
			}
			sk, err := CommonSessionKey(icc, CommonR([2]byte{0, 7}))
			if err != nil {
				return err
			}
			_, err = ARQC(sk, PadBit, data[:40])
			return err
		}},
		{"PVV", func() error { _, err := VisaPVV(tdes, testPAN, '1', pin); return err }},
		{"CVV", func() error { _, err := CVV(tdes, testPAN, "2912", "220"); return err }},
		{"DUKPTTDES10bits", func() error { _, err := TDESTransactionKey(ik, tdesKSN); return err }},
		{"DUKPTAES16bits", func() error { _, err := AESDerivationKey(aesIK, aesKSN); return err }},
		{"UnwrapD", unwrap(blockD, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6")},
		{"UnwrapB", unwrap(blockB, "EFE0853B256B583D868F251CE99EA1D9")},
		{"SM2Verify", func() error { _, err := SM2Verify(pub, nil, data[:14], r, s); return err }},
		{"SM3Of200", func() error { SM3(data); return nil }},
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

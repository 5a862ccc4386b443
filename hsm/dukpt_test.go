package hsm

import (
	"errors"
	"testing"

	"acquirer/hsm/algo"
)

// formed puts a published key in.
func formed(t testing.TB, s *Software, use Use, alg Alg, key string) Key {
	t.Helper()
	b := mustHex(t, key)
	k, _, err := s.FormKey(ctx, use, alg, b, make([]byte, len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const publishedBDK = "0123456789ABCDEFFEDCBA9876543210"

// TestTranslateDUKPT: the PIN blocks of X9.24-1 and X9.24-3 arrive under a ZPK.
func TestTranslateDUKPT(t *testing.T) {
	s := newHSM(t)
	issuer := newPINParty(t, s, UseZPK, compC, compD)
	tdes := formed(t, s, UseBDK, TDES16, publishedBDK)
	aes := formed(t, s, UseBDK, AES16, "FEDCBA9876543210F1F1F1F1F1F1F1F1")
	for _, c := range []struct {
		bdk        Key
		ksn, block string
		format     PINFormat
		pan        string
	}{
		{tdes, "FFFF9876543210E00001", "1B9C1845EB993A7A", ISO0, "4012345678909"},
		{tdes, "FFFF9876543210EFF800", "33365F5CC6F23C35", ISO0, "4012345678909"},
		{aes, "123456789012345600000002", "52A00503BD34BA1383F6A7EE9FE2547F", ISO4, "4111111111111111"},
	} {
		block := PINBlockOf(mustHex(t, c.block))
		for _, out := range []PINFormat{ISO0, ISO3, ISO4, SM4WithPAN} {
			to, receiver := issuer.keyFor(out)
			sent, err := s.TranslateDUKPT(ctx, c.bdk, mustHex(t, c.ksn), c.format, block, pan(t, c.pan), to, out)
			if err != nil {
				t.Fatalf("%s to %v: %v", c.ksn, out, err)
			}
			want, err := algo.ParsePIN("1234")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := algo.OpenPIN(receiver, out, sent, c.pan); err != nil || got != want {
				t.Errorf("%s to %v: another PIN arrived: %v", c.ksn, out, err)
			}
		}
		other := mustHex(t, c.ksn)
		other[len(other)-1] ^= 0x10
		if sent, err := s.TranslateDUKPT(ctx, c.bdk, other, c.format, block, pan(t, c.pan), issuer.tdes, ISO0); err != ErrPIN || sent != (PINBlock{}) {
			t.Errorf("%s, another transaction: %v, want ErrPIN itself", c.ksn, err)
		}
		if _, err := s.TranslateDUKPT(ctx, c.bdk, mustHex(t, c.ksn), c.format, block, pan(t, c.pan), issuer.tdes, ISO1); !errors.Is(err, ErrPIN) {
			t.Errorf("%s to format 1: %v", c.ksn, err)
		}
		for _, ksn := range []string{"", c.ksn[:8], c.ksn + "00", c.ksn[:14] + map[bool]string{true: "FFFFFF", false: "FFFFFFFFFF"}[len(c.ksn) == 20], c.ksn[:14] + map[bool]string{true: "E00000", false: "5600000000"}[len(c.ksn) == 20]} {
			if _, err := s.TranslateDUKPT(ctx, c.bdk, mustHex(t, ksn), c.format, block, pan(t, c.pan), issuer.tdes, ISO0); !errors.Is(err, ErrKSN) {
				t.Errorf("KSN %q: %v, want ErrKSN", ksn, err)
			}
		}
	}
}

// TestDUKPTUnderAES: blocks of 8 bytes under an AES base key, and of format 4
// under one of 32 bytes.
func TestDUKPTUnderAES(t *testing.T) {
	s := newHSM(t)
	zpk, receiver := form(t, s, UseZPK, TDES16, compC, compD)
	ksn := algo.KSN(mustHex(t, "123456789012345600000007"))
	for _, base := range []string{"FEDCBA9876543210F1F1F1F1F1F1F1F1", "FEDCBA9876543210F1F1F1F1F1F1F1F1FEDCBA9876543210F1F1F1F1F1F1F1F1"} {
		alg, kind := AES16, algo.DUKPTAES128
		if len(base) == 64 {
			alg, kind = AES32, algo.DUKPTAES256
		}
		bdk := formed(t, s, UseBDK, alg, base)
		ik, err := algo.AESInitialKey(mustHex(t, base), ksn[:8])
		if err != nil {
			t.Fatal(err)
		}
		derivation, err := algo.AESDerivationKey(ik, ksn)
		if err != nil {
			t.Fatal(err)
		}
		for format, of := range map[PINFormat]algo.DUKPTAlg{ISO0: algo.DUKPTTDES2, ISO4: kind} {
			working, err := algo.AESWorkingKey(derivation, ksn, algo.DUKPTPIN, of)
			if err != nil {
				t.Fatal(err)
			}
			cipher := algo.TDES
			if format == ISO4 {
				cipher = algo.AES
			}
			terminal, err := algo.NewKey(cipher, working)
			if err != nil {
				t.Fatal(err)
			}
			sent, err := s.TranslateDUKPT(ctx, bdk, ksn, format, pinBlock(t, terminal, format, "4711", testPAN), pan(t, testPAN), zpk, ISO0)
			if err != nil {
				t.Fatalf("format %v under a base key of %d bytes: %v", format, len(base)/2, err)
			}
			if _, err := algo.OpenPIN(receiver, ISO0, sent, testPAN); err != nil {
				t.Errorf("format %v: %v", format, err)
			}
		}
	}
}

// TestMACDUKPT: the MACs of X9.24-1 and of the AES example.
func TestMACDUKPT(t *testing.T) {
	s := newHSM(t)
	tdes := formed(t, s, UseBDK, TDES16, publishedBDK)
	data, ksn := mustHex(t, "3430313233343536373839303944393837"), mustHex(t, "FFFF9876543210E00001")
	if mac, err := s.MACDUKPT(ctx, tdes, ksn, data); err != nil || mac != [8]byte(mustHex(t, "20364223C1FF00FA")) {
		t.Errorf("%X, %v", mac, err)
	}
	aes, aesKSN := formed(t, s, UseBDK, AES16, "FEDCBA9876543210F1F1F1F1F1F1F1F1"), mustHex(t, "123456789012345600000001")
	if mac, err := s.MACDUKPT(ctx, aes, aesKSN, data); err != nil || mac != [8]byte(mustHex(t, "DD4E1895FD9BF53D")) {
		t.Errorf("%X, %v", mac, err)
	}
	for _, c := range []struct {
		bdk Key
		ksn []byte
		mac string
	}{{tdes, ksn, "9CCC78173FC4FB64"}, {aes, aesKSN, "A2EB5C1C35809E58"}} {
		mac := mustHex(t, c.mac)
		for n := range 10 {
			err := s.VerifyMACDUKPT(ctx, c.bdk, c.ksn, data, append(mac, 0, 0)[:n])
			if ok := n == 4 || n == 8; ok != (err == nil) || !ok && err != ErrMAC {
				t.Errorf("%d bytes of MAC: %v", n, err)
			}
		}
		mac[3] ^= 1
		if err := s.VerifyMACDUKPT(ctx, c.bdk, c.ksn, data, mac[:4]); err != ErrMAC {
			t.Errorf("a wrong MAC: %v", err)
		}
		if err := s.VerifyMACDUKPT(ctx, c.bdk, nil, data, mac); !errors.Is(err, ErrKSN) {
			t.Errorf("no KSN: %v", err)
		}
	}
}

package algo

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

var tdesBDK, aesBDK = "0123456789ABCDEFFEDCBA9876543210", "FEDCBA9876543210F1F1F1F1F1F1F1F1"

// TestDUKPTCounters: a counter that no terminal reaches is refused, at both
// ends of what is taken.
func TestDUKPTCounters(t *testing.T) {
	ik, err := TDESInitialKey(mustHex(t, tdesBDK), mustHex(t, "FFFF9876543210E00000"))
	if err != nil {
		t.Fatal(err)
	}
	for ksn, ok := range map[string]bool{
		"FFFF9876543210E00001": true, "FFFF9876543210E003FF": true, "FFFF9876543210FFF800": true, "FFFF9876543210FFFC00": false,
		"FFFF9876543210E00000": false, "FFFF9876543210E007FF": false, "FFFF9876543210FFFFFF": false,
		"FFFF9876543210E000": false, "FFFF9876543210E0000100": false, "": false,
	} {
		_, err := TDESTransactionKey(ik, mustHex(t, ksn))
		if ok && err != nil || !ok && !errors.Is(err, ErrKSN) {
			t.Errorf("TDES %s: %v", ksn, err)
		}
	}
	aesIK, err := AESInitialKey(mustHex(t, aesBDK), mustHex(t, "1234567890123456"))
	if err != nil {
		t.Fatal(err)
	}
	for ksn, ok := range map[string]bool{
		"123456789012345600000001": true, "12345678901234560000FFFF": true, "1234567890123456FFFF0000": true,
		"123456789012345600000000": false, "12345678901234560001FFFF": false, "1234567890123456FFFF0001": false, "1234567890123456FFFFFFFF": false,
		"1234567890123456000001": false, "12345678901234560000000100": false, "": false,
	} {
		_, err := AESDerivationKey(aesIK, mustHex(t, ksn))
		if ok && err != nil || !ok && !errors.Is(err, ErrKSN) {
			t.Errorf("AES %s: %v", ksn, err)
		}
		_, err = AESWorkingKey(aesIK, mustHex(t, ksn), DUKPTPIN, DUKPTAES128)
		if ok && err != nil || !ok && !errors.Is(err, ErrKSN) {
			t.Errorf("AES working key of %s: %v", ksn, err)
		}
	}
}

// TestDUKPTKeysDiffer: every use and kind has a key of its own, of its length,
// and none that is stronger than what it comes from.
func TestDUKPTKeysDiffer(t *testing.T) {
	ksn := KSN(mustHex(t, "123456789012345600000003"))
	lengths := map[DUKPTAlg]int{DUKPTTDES2: 16, DUKPTTDES3: 24, DUKPTAES128: 16, DUKPTAES192: 24, DUKPTAES256: 32, DUKPTHMAC128: 16, DUKPTHMAC192: 24, DUKPTHMAC256: 32}
	strong := map[DUKPTAlg]int{DUKPTAES192: 24, DUKPTAES256: 32, DUKPTHMAC192: 24, DUKPTHMAC256: 32} // bytes of key they want above them
	for _, n := range []int{16, 24, 32} {
		bdk := bytes.Repeat(mustHex(t, aesBDK), 2)[:n]
		ik, err := AESInitialKey(bdk, ksn[:8])
		if err != nil || len(ik) != n {
			t.Fatalf("%d bytes: %d, %v", n, len(ik), err)
		}
		derivation, err := AESDerivationKey(ik, ksn)
		if err != nil || len(derivation) != n {
			t.Fatalf("%d bytes: %d, %v", n, len(derivation), err)
		}
		seen := map[string]string{string(ik): "initial key", string(derivation): "derivation key"}
		for use, useName := range dukptUseNames {
			for alg, length := range lengths {
				name := useName + " " + dukptAlgNames[alg]
				key, err := AESWorkingKey(derivation, ksn, use, alg)
				if strong[alg] > n {
					if err == nil {
						t.Errorf("%s came from %d bytes", name, n)
					}
					continue
				}
				if err != nil || len(key) != length {
					t.Errorf("%s from %d bytes: %d bytes, %v", name, n, len(key), err)
				}
				if other := seen[string(key)]; other != "" {
					t.Errorf("%s is also the %s", name, other)
				}
				seen[string(key)] = name
			}
		}
	}
	if _, err := AESWorkingKey(mustHex(t, aesBDK), ksn, DUKPTPIN, 6); err == nil {
		t.Error("a kind of key that does not exist was made")
	}
	if _, err := AESWorkingKey(mustHex(t, "0011"), ksn, DUKPTPIN, DUKPTAES128); err == nil {
		t.Error("a derivation key of 2 bytes was taken")
	}
	if _, err := AESInitialKey(mustHex(t, aesBDK), ksn); !errors.Is(err, ErrKSN) {
		t.Errorf("a whole KSN for an initial key ID: %v", err)
	}
	for _, n := range []int{0, 8, 24} {
		if _, err := TDESInitialKey(make([]byte, n), make([]byte, 10)); err == nil {
			t.Errorf("a TDES base key of %d bytes was taken", n)
		}
	}
	seen := map[string]bool{}
	for _, use := range []DUKPTUse{DUKPTPIN, DUKPTMACRequest, DUKPTMACResponse, DUKPTDataRequest, DUKPTDataResponse} {
		key, err := TDESWorkingKey([16]byte(mustHex(t, tdesBDK)), use)
		if err != nil || seen[string(key[:])] {
			t.Errorf("TDES use %04X: %v", use, err)
		}
		seen[string(key[:])] = true
	}
	for _, use := range []DUKPTUse{DUKPTKeyEncryption, DUKPTMACBoth, DUKPTDataBoth, 0} {
		if _, err := TDESWorkingKey([16]byte{}, use); err == nil {
			t.Errorf("TDES use %04X was made", use)
		}
	}
}

// TestTDESInitialKeyIgnoresTheCounter: a terminal's initial key is one, however
// far it has counted, and two terminals have two.
func TestTDESInitialKeyIgnoresTheCounter(t *testing.T) {
	keys := map[string][]string{}
	for _, ksn := range []string{"FFFF9876543210E00000", "FFFF9876543210E00001", "FFFF9876543210FFFFFF", "FFFF9876543210C00001"} {
		ik, err := TDESInitialKey(mustHex(t, tdesBDK), mustHex(t, ksn))
		if err != nil {
			t.Fatal(err)
		}
		keys[string(ik[:])] = append(keys[string(ik[:])], ksn)
	}
	if len(keys) != 2 {
		t.Errorf("%d initial keys: %v", len(keys), fmt.Sprintf("%x", keys))
	}
}

// FuzzKSN: a key serial number is one of a terminal, or ErrKSN; none panics.
func FuzzKSN(f *testing.F) {
	for _, ksn := range []string{"FFFF9876543210E00001", "FFFF9876543210FFF800", "FFFF9876543210E00000", "123456789012345600000001", "1234567890123456FFFF0000", "12345678901234560001FFFF", "FFFF98", ""} {
		f.Add(mustHex(f, ksn))
	}
	base := mustHex(f, aesBDK)
	f.Fuzz(func(t *testing.T, ksn []byte) {
		ones := 0
		for i := range 21 {
			if len(ksn) == 10 {
				ones += int(ksn[9-i/8] >> (i % 8) & 1)
			}
		}
		ik, err := TDESInitialKey(base, ksn)
		if (err == nil) != (len(ksn) == 10) || err != nil && !errors.Is(err, ErrKSN) {
			t.Fatalf("TDES initial key of %X: %v", ksn, err)
		}
		_, err = TDESTransactionKey(ik, ksn)
		if (err == nil) != (ones >= 1 && ones <= 10) || err != nil && !errors.Is(err, ErrKSN) {
			t.Fatalf("TDES %X, %d ones: %v", ksn, ones, err)
		}
		ones = 0
		for i := range 32 {
			if len(ksn) == 12 {
				ones += int(ksn[11-i/8] >> (i % 8) & 1)
			}
		}
		_, err = AESDerivationKey(base, ksn)
		if (err == nil) != (ones >= 1 && ones <= 16) || err != nil && !errors.Is(err, ErrKSN) {
			t.Fatalf("AES %X, %d ones: %v", ksn, ones, err)
		}
		if _, err := AESWorkingKey(base, ksn, DUKPTPIN, DUKPTAES128); (err == nil) != (ones >= 1 && ones <= 16) {
			t.Fatalf("AES working key of %X: %v", ksn, err)
		}
	})
}

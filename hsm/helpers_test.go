package hsm

import (
	"context"
	"encoding/hex"
	"testing"

	"acquirer/card"
	"acquirer/hsm/algo"
)

var ctx = context.Background()

const testPAN = "6228480402564890018"

// Components of known keys, so that a test can stand on the other side of the
// HSM: K1 and K2 are what they make.
const (
	compA   = "138CE5B32C0E9126C291E970EA98764C"
	compB   = "1FD3C2437F6EE6DCD9383E1A49E9674C"
	formK   = "0D5E26F1526176FB1AA8D66BA2701001" // compA XOR compB, with odd parity
	formSM4 = "0C5F27F0536077FA1BA9D76AA3711100" // the same, without parity
	compC   = "258FB0AB70D025CDB99DF2C4D302D646"
	compD   = "CE62D1F28DC50DFD98424413D67E4FA3"
)

func mustHex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newHSM(t testing.TB) *Software {
	t.Helper()
	master := make([]byte, 32)
	for i := range master {
		master[i] = byte(i + 1)
	}
	s, err := NewSoftware(master)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// form puts a key in by two components and returns it also in clear, as the
// other party has it.
func form(t testing.TB, s *Software, use Use, alg Alg, a, b string) (Key, *algo.Key) {
	t.Helper()
	ca, cb := mustHex(t, a), mustHex(t, b)
	key, _, err := s.FormKey(ctx, use, alg, ca, cb)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ca {
		ca[i] ^= cb[i]
	}
	if alg.des() {
		algo.SetOddParity(ca)
	}
	other, err := algo.NewKey(algRules[alg].cipher, ca)
	if err != nil {
		t.Fatal(err)
	}
	return key, other
}

func generate(t testing.TB, s *Software, use Use, alg Alg) Key {
	t.Helper()
	key, _, err := s.GenerateKey(ctx, use, alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pan(t testing.TB, digits string) card.PAN {
	t.Helper()
	p, err := card.ParsePAN(digits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pinBlock is what a terminal sends: a PIN under a key it knows.
func pinBlock(t testing.TB, k *algo.Key, format PINFormat, pin, account string) PINBlock {
	t.Helper()
	p, err := algo.ParsePIN(pin)
	if err != nil {
		t.Fatal(err)
	}
	b, err := algo.SealPIN(k, format, p, account)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

package simwallet

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"

	"acquirer/routing"
	"acquirer/routing/wallet"
)

// The keys of the simulated wallets and of the acquirer towards them. They are
// TEST keys: they stand in the open, and whoever reads this has them.
//
//go:embed testkeys
var testKeys embed.FS

// TestAPIKey is the key of the simulated WeChat Pay.
var TestAPIKey = func() string {
	h := sha256.Sum256([]byte("acquirer TEST key of wallet " + routing.WeChat))
	return hex.EncodeToString(h[:16])
}()

// The simulated wallets know the acquirer by these.
const (
	TestApp      = "wx0000000000000001" // appid, app_id
	TestMerchant = "1900000109"         // mch_id, merId
)

// TestKey is one of the embedded keys in PEM: of acquirer or wallet, wallet.RSA
// or wallet.SM2, the private or the public half.
func TestKey(whose, kind string, private bool) string {
	half := "pub"
	if private {
		half = "key"
	}
	text, err := testKeys.ReadFile("testkeys/" + whose + "-" + kind + "." + half)
	if err != nil {
		panic(fmt.Sprintf("simwallet: no test key of %s in %s: %v", whose, kind, err))
	}
	return string(text)
}

// TestWire is how the acquirer speaks to a simulated wallet that has the test
// keys; kind is wallet.RSA, or wallet.SM2 for UnionPay QR.
func TestWire(name, kind string) wallet.Wire {
	switch name {
	case routing.WeChat:
		sign, err := wallet.NewHMAC(TestAPIKey)
		if err != nil {
			panic(err)
		}
		return &wallet.WeChat{App: TestApp, Merchant: TestMerchant, Sign: sign}
	case routing.Alipay:
		return &wallet.Alipay{App: TestApp, Sign: testSigner("acquirer", "wallet", wallet.RSA)}
	}
	return &wallet.UnionPay{Merchant: TestMerchant, Certificate: "69629715588", Sign: testSigner("acquirer", "wallet", kind)}
}

func testSigner(ours, theirs, kind string) wallet.Signer {
	s, err := wallet.NewSigner(kind, TestKey(ours, kind, true), TestKey(theirs, kind, false))
	if err != nil {
		panic(fmt.Sprintf("simwallet: the test keys are damaged: %v", err))
	}
	return s
}

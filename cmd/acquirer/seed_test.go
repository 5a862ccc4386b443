package main

import (
	"os"
	"testing"

	"acquirer/merchant"
)

// The example that docs/seed.md shows is one that serve reads.
func TestSeedExample(t *testing.T) {
	seed, err := merchant.LoadSeed("../../deploy/seed.example.json")
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := readIssuers(seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir()) // where the key lies that the example names
	if err := os.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("data/wechat.key", []byte(walletHexKey), 0o600); err != nil {
		t.Fatal(err)
	}
	wallets, err := readWallets(seed)
	if err != nil || len(wallets) != 1 || wallets[0].Name != "wechat" || wallets[0].timeout == 0 {
		t.Errorf("%+v, %v", wallets, err)
	}
	if len(seed.Merchants) != 1 || len(seed.Terminals) != 1 || seed.Terminals[0].TMK == "" || len(issuers) != 1 || issuers[0].ZMK == "" || len(issuers[0].Lines) != 1 {
		t.Errorf("%+v %+v", seed, issuers)
	}
}

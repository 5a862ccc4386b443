package main

import (
	"os"
	"testing"

	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
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
	if err := os.WriteFile("data/wechat.key", []byte(walletAPIKey), 0o600); err != nil {
		t.Fatal(err)
	}
	wallets, err := readWallets(seed)
	if err != nil || len(wallets) != 1 || wallets[0].Name != "wechat" || wallets[0].Timeout == 0 {
		t.Errorf("%+v, %v", wallets, err)
	}
	if len(seed.Merchants) != 1 || len(seed.Terminals) != 2 || seed.Terminals[0].TMK == "" || seed.Terminals[1].TTK == "" ||
		len(issuers) != 1 || issuers[0].ZMK == "" || len(issuers[0].Lines) != 1 || len(issuers[0].Carries) != 2 {
		t.Errorf("%+v %+v", seed, issuers)
	}
	want := merchant.Profile{MAC: merchant.MACUnionPay, Shape: merchant.ShapeSingle, KeySet: 4, Track: merchant.TrackTDB, Batch: merchant.BatchLeads,
		Delivery: "420", Unlinked: money.Yuan(500), Signature: true}
	if got := seed.Terminals[1].Profile; got != want {
		t.Errorf("profile %+v, want %+v", got, want)
	}
	registered(t, seed)
}

// registered imports a seed as serve does: what is wrong with a merchant or a
// terminal is found there.
func registered(t *testing.T, seed *merchant.Seed) {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:seed.db", schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	reg, err := merchant.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Import(t.Context(), seed, func(string) ([]byte, error) { return []byte("sealed"), nil }); err != nil {
		t.Error(err)
	}
}

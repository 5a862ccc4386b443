package main

import (
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
	if len(seed.Merchants) != 1 || len(seed.Terminals) != 1 || seed.Terminals[0].TMK == "" || len(issuers) != 1 || issuers[0].ZMK == "" || len(issuers[0].Lines) != 1 {
		t.Errorf("%+v %+v", seed, issuers)
	}
}

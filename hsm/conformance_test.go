package hsm_test

import (
	"crypto/rand"
	"testing"

	"acquirer/hsm"
	"acquirer/hsm/hsmtest"
)

// TestConformance: the software HSM does what every HSM of this house does.
func TestConformance(t *testing.T) {
	var master [32]byte
	if _, err := rand.Read(master[:]); err != nil {
		t.Fatal(err)
	}
	s, err := hsm.NewSoftware(master[:])
	if err != nil {
		t.Fatal(err)
	}
	hsmtest.Run(t, hsmtest.Subject{HSM: s, Form: s.FormKey})
}

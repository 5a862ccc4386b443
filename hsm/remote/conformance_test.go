package remote

import (
	"testing"

	"acquirer/hsm/hsmtest"
)

// Over the socket it is the same HSM.
func TestConformance(t *testing.T) {
	v, socket := open(t), socketOf(t)
	serve(t, Config{Vault: v, Socket: socket})
	c := dial(t, socket)
	hsmtest.Run(t, hsmtest.Subject{HSM: c, Form: c.FormKey})
}

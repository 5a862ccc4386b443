package switching_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/hsm"
	"acquirer/hsm/payshield"
	"acquirer/simulate/terminal"
)

// withPayShield puts all payment keys of a house into a payShield: a device in
// software under the test LMK, asked over its wire. Data at rest and look-up
// tokens stay with the software HSM.
func withPayShield(t *testing.T) streetOption {
	t.Helper()
	return func(p *streetPlan) {
		p.device = func(local *hsm.Software) keyHSM {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			s, err := payshield.NewServer(payshield.NewDevice(payshield.TestLMK(), false), payshield.ServerConfig{HeaderLength: 4})
			must(t, err)
			ctx, stop := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := s.Serve(ctx, l); err != nil {
					t.Errorf("the device: %v", err)
				}
			})
			t.Cleanup(func() { stop(); wg.Wait() })
			c, err := payshield.NewClient(payshield.ClientConfig{Devices: []string{l.Addr().String()}, HeaderLength: 4, AllowTest: true, Local: local, Timeout: 10 * time.Second})
			must(t, err)
			t.Cleanup(func() { must(t, c.Close()) })
			up, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			must(t, c.AwaitUp(up))
			return c
		}
	}
}

// TestFlowsOnPayShield: the stories go the same way when a payShield has the
// keys. That of the profiles has SM4 and PINs without account number, which no
// payShield does; what is left of it is told below. Nor does one derive keys of
// AES DUKPT by a published command.
func TestFlowsOnPayShield(t *testing.T) {
	if *rewrite {
		t.Skip("the stories are written by TestFlows")
	}
	eachFlowBut(t, []string{"profiles", "iso87-dukpt-aes"}, func(t *testing.T) []streetOption { return []streetOption{withPayShield(t)} })
}

// TestProfilesOnPayShield: every kind of key set, MAC and track that a
// payShield can do gives what the software HSM gives.
func TestProfilesOnPayShield(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../testdata/flows/profiles.txt")
	must(t, err)
	var kept []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "  ") || len(words) < 2 || words[1] == "T1" || words[1] == "T2" || words[1] == "T6" {
			continue // what was seen; SM4; a PIN without account number
		}
		kept = append(kept, line)
	}
	if len(kept) < 15 {
		t.Fatalf("only %d lines of the story are left", len(kept))
	}
	story := strings.Join(kept, "") + "journal\n"
	if one, two := tell(t, story), tell(t, story, withPayShield(t)); one != two {
		t.Errorf("a payShield makes a difference:\n%s", difference(one, two))
	}
}

// TestPayShieldHasNoSM4: a sign-in that wants SM4 keys is refused, and the log
// says why.
func TestPayShieldHasNoSM4(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withPayShield(t))
	_, _, err := s.hsm.FormKey(t.Context(), hsm.UseTMK, hsm.SM4, make([]byte, 16), make([]byte, 16))
	if !errors.Is(err, payshield.ErrNoCommand) || !errors.Is(err, hsm.ErrKeyUse) {
		t.Errorf("an SM4 key: %v", err)
	}
	term := s.terminal(0, func(c *terminal.Config) { c.Profile.KeySet = 5 })
	var refused *terminal.Refusal
	if err := term.SignIn(t.Context()); !errors.As(err, &refused) || refused.Code != "12" {
		t.Errorf("sign-in with SM4 keys: %v, want 12", err)
	}
	if !strings.Contains(s.log.String(), "does not carry this set of keys") {
		t.Error("the log does not say why")
	}
}

package iso87

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"acquirer/hsm/algo"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

func load(t *testing.T, name string) *spec.Dialect {
	t.Helper()
	d, err := spec.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConfig(t *testing.T) {
	dial := func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") }
	good := Config{TID: "10000001", MID: "898110054110001", TMK: simcard.TestTMK("10000001"), Dialect: load(t, "iso87-ascii"), Dial: dial}
	for what, change := range map[string]func(*Config){
		"TID":        func(c *Config) { c.TID = "1" },
		"MID":        func(c *Config) { c.MID = "1" },
		"no dial":    func(c *Config) { c.Dial = nil },
		"no dialect": func(c *Config) { c.Dialect = nil },
		"UnionPay":   func(c *Config) { c.Dialect = spec.UnionPayPOS },
		"CUPS":       func(c *Config) { c.Dialect = spec.CUPS },
		"MAC":        func(c *Config) { c.MAC = "x99" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	term, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	c, err := simcard.New(simcard.Issuers[0].PAN(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := term.SignOn(t.Context()); !errors.Is(err, terminal.ErrDial) {
		t.Errorf("nobody there: %v", err)
	}
	sale := Transaction{Kind: "sale", Amount: 100, Card: c, Entry: terminal.Stripe}
	if _, _, err := term.Transact(t.Context(), sale); !errors.Is(err, terminal.ErrNoKeys) || term.Pending() {
		t.Errorf("without keys: %v, pending %v", err, term.Pending())
	}
	for _, x := range []Transaction{{Kind: "lottery"}, {Kind: "void"}, {Kind: "sale"}} {
		if _, _, err := term.Transact(t.Context(), x); err == nil {
			t.Errorf("%s is done", x.Kind)
		}
	}
	if _, err := term.Reverse(t.Context(), Reversal{}); err == nil {
		t.Error("nothing is reversed")
	}
}

// host answers what a terminal sends with what answer makes of it.
func host(t *testing.T, d *spec.Dialect, conn net.Conn, answer func(req, rep *spec.Message)) {
	frames := d.Frames()
	for {
		if frames.Wait(conn) != nil {
			return
		}
		n, err := frames.Length(conn, maxFrame)
		if err != nil {
			t.Error(err)
			return
		}
		frame, err := frames.Body(conn, make([]byte, n))
		if err != nil {
			t.Error(err)
			return
		}
		var req, rep spec.Message
		if err := d.Parse(&req, frame.Body); err != nil {
			t.Error(err)
			return
		}
		rep.Reset(d, req.MTI().Response())
		rep.Copy(&req, 3, 4, 11, 41, 42, 70, 90)
		rep.Set(39, "00")
		answer(&req, &rep)
		out, err := frame.AppendReply(nil, 0, &rep)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// A terminal takes no answer for granted.
func TestAnswersThatDoNotFit(t *testing.T) {
	d := load(t, "iso87-bcd")
	near, far := net.Pipe()
	key := simcard.TestTMK("10000001")
	tmk, err := algo.NewDESKey(key[:])
	if err != nil {
		t.Fatal(err)
	}
	pik, mak := simcard.TestKey("PIK"), simcard.TestKey("MAK")
	keys, err := algo.AppendDE62(nil, tmk, pik[:], mak[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	var answer func(req, rep *spec.Message)
	done := make(chan struct{})
	go func() {
		defer close(done)
		host(t, d, far, func(req, rep *spec.Message) { answer(req, rep) })
	}()
	term, err := New(Config{TID: "10000001", MID: "898110054110001", TMK: key, Dialect: d, Timeout: 5 * time.Second,
		Dial: func(context.Context) (net.Conn, error) { return near, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(term.Close(), near.Close()); err != nil {
			t.Error(err)
		}
		<-done
	}()

	answer = func(_, rep *spec.Message) { rep.Set(39, "96") }
	var refused *terminal.Refusal
	if err := term.SignOn(t.Context()); !errors.As(err, &refused) || refused.Code != "96" {
		t.Errorf("refused: %v", err)
	}
	answer = func(_, rep *spec.Message) {}
	if err := term.ExchangeKeys(t.Context()); !errors.Is(err, terminal.ErrKeys) {
		t.Errorf("no keys: %v", err)
	}
	answer = func(_, rep *spec.Message) { d.SetKeys(rep, append([]byte{1}, keys[1:]...)) }
	if err := term.ExchangeKeys(t.Context()); !errors.Is(err, terminal.ErrKeys) {
		t.Errorf("keys of another check value: %v", err)
	}
	answer = func(_, rep *spec.Message) { d.SetKeys(rep, keys) }
	if err := term.ExchangeKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := simcard.New(simcard.Issuers[0].PAN(0))
	if err != nil {
		t.Fatal(err)
	}
	for want, wrong := range map[terminal.Failure]func(req, rep *spec.Message){
		terminal.ErrMAC:      func(_, rep *spec.Message) { rep.SetBytes(64, make([]byte, 8)) },
		terminal.ErrMismatch: func(_, rep *spec.Message) { rep.SetInt(4, 1) },
	} {
		answer = wrong
		if _, _, err := term.Transact(t.Context(), Transaction{Kind: "sale", Amount: 100, Card: c, Entry: terminal.Stripe}); !errors.Is(err, want) || !term.Pending() {
			t.Errorf("want %s: %v, pending %v", want, err, term.Pending())
		}
		answer = func(_, rep *spec.Message) { rep.Set(39, "25") }
		if a, err := term.Reverse(t.Context(), Reversal{}); err != nil || a.Code != "25" || term.Pending() {
			t.Errorf("reversal: %v, pending %v", err, term.Pending())
		}
	}
	answer = func(_, rep *spec.Message) {}
	if _, _, err := term.Transact(t.Context(), Transaction{Kind: "sale", Amount: 100, Card: c, Entry: terminal.Stripe}); !errors.Is(err, terminal.ErrMAC) {
		t.Errorf("an approval without MAC: %v", err)
	}
}

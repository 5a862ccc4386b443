package payshield

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/hsmtest"

	"github.com/prometheus/client_golang/prometheus"
)

// listen serves a device until the test ends, or until stop is called.
func listen(t testing.TB, d *Device, cfg ServerConfig) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), serveOn(t, l, d, cfg)
}

func serveOn(t testing.TB, l net.Listener, d *Device, cfg ServerConfig) (stop func()) {
	t.Helper()
	s, err := NewServer(d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func software(t testing.TB) *hsm.Software {
	t.Helper()
	master := make([]byte, 32)
	master[0] = 1
	return softwareOf(t, master)
}

func softwareOf(t testing.TB, master []byte) *hsm.Software {
	t.Helper()
	s, err := hsm.NewSoftware(master)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shut(t testing.TB, c *Client) {
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func connect(t testing.TB, cfg ClientConfig) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, c) })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestConformance: the client does what every HSM of this house does, with
// headers of any length, an LMK identifier, types kept apart, several devices.
func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name     string
		header   int
		separate bool
		lmk      string
		devices  int
	}{
		{"as devices are set", 4, false, "", 1},
		{"no header", 0, false, "", 1},
		{"long header and LMK identifier", 12, false, "00", 2},
		{"separate key types", 4, true, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := ClientConfig{HeaderLength: c.header, SeparateTypes: c.separate, LMK: c.lmk, AllowTest: true, Local: software(t), Timeout: 10 * time.Second}
			for range c.devices {
				addr, _ := listen(t, NewDevice(TestLMK(), c.separate), ServerConfig{HeaderLength: c.header})
				cfg.Devices = append(cfg.Devices, addr)
			}
			client := connect(t, cfg)
			hsmtest.Run(t, hsmtest.Subject{HSM: client, Form: client.FormKey, NoSM4: true, NoUnboundPIN: true, NoPBOC: true, NoAESDUKPT: true, NoImportByTMK: true, NoExportOfTDK: true, NoExportOfTPK: c.separate})
		})
	}
}

// TestTestDevicesAreRefused: a client that is not told so works with no
// published LMK, and with no device in software.
func TestTestDevicesAreRefused(t *testing.T) {
	own, _, err := MakeLMK(context.Background(), software(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, lmk := range []*LMK{TestLMK(), own} {
		addr, _ := listen(t, NewDevice(lmk, false), ServerConfig{HeaderLength: 4})
		c, err := NewClient(ClientConfig{Devices: []string{addr}, HeaderLength: 4, Probe: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { shut(t, c) })
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if err := c.AwaitUp(ctx); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v: the device is used: %v", lmk, err)
		}
		if _, _, err := c.GenerateKey(ctx, hsm.UseZPK, hsm.TDES16); err == nil {
			t.Errorf("%v: a key was made", lmk)
		}
	}
}

func TestDevicesOfOneLMK(t *testing.T) {
	own, _, err := MakeLMK(context.Background(), software(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{Devices: []string{"127.0.0.1:1"}, HeaderLength: 4, AllowTest: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, c) })
	first, second := TestLMK().CheckValue(), own.CheckValue()
	if err := c.sameLMK(hexUpper(first[:])); err != nil {
		t.Fatal(err)
	}
	if err := c.sameLMK(hexUpper(second[:])); err == nil {
		t.Error("devices with two LMKs are used together")
	}
	c.cfg.AllowTest = false
	for _, check := range []string{hexUpper(first[:]), "2686040000000000"} {
		if err := c.sameLMK(check); !errors.Is(err, ErrTestLMK) {
			t.Errorf("check value %s: %v", check, err)
		}
	}
}

// TestFailover: commands go on when a device stops, and come back to it.
func TestFailover(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	addr1, stop1 := listen(t, d, ServerConfig{HeaderLength: 4})
	addr2, _ := listen(t, d, ServerConfig{HeaderLength: 4})
	c := connect(t, ClientConfig{Devices: []string{addr1, addr2}, HeaderLength: 4, AllowTest: true, Probe: 20 * time.Millisecond, Timeout: time.Second})
	ctx := context.Background()
	until := func(what string, ok func() bool) {
		t.Helper()
		wait, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for !ok() {
			if wait.Err() != nil {
				t.Fatalf("not seen in time: %s", what)
			}
			pause(wait, 5*time.Millisecond)
		}
	}
	until("both devices up", func() bool { return c.devices[0].up() && c.devices[1].up() })
	ask := func(n int) {
		t.Helper()
		for range n {
			if _, _, err := c.GenerateKey(ctx, hsm.UseZPK, hsm.TDES16); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask(4)
	stop1()
	ask(50)
	until("the stopped device is given up", func() bool { return !c.devices[0].up() })
	l, err := net.Listen("tcp", addr1)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, d, ServerConfig{HeaderLength: 4})
	until("the device is used again", func() bool { return c.devices[0].up() })
	ask(4)
}

// TestSilentDevice: a device that takes commands and does not answer costs one
// timeout, not the transaction.
func TestSilentDevice(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := NewDevice(TestLMK(), false)
	addr, _ := listen(t, d, ServerConfig{HeaderLength: 4})
	var mute sync.Map
	var wg sync.WaitGroup
	wg.Go(func() { // answers health checks, and nothing else
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				buf := make([]byte, 4096)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					if n >= 8 && (string(buf[6:8]) == "NC" || string(buf[6:8]) == "JK") {
						out, err := appendFrame(nil, buf[2:6], d.Do(string(buf[6:8])))
						if err == nil {
							_, _ = conn.Write(out)
						}
						continue
					}
					mute.Store("asked", true)
				}
			})
		}
	})
	t.Cleanup(func() { _ = silent.Close(); wg.Wait() })
	c := connect(t, ClientConfig{Devices: []string{silent.Addr().String(), addr}, Connections: 1, HeaderLength: 4, AllowTest: true, Timeout: 100 * time.Millisecond})
	t.Cleanup(func() { shut(t, c) })
	wait, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for !c.devices[0].up() || !c.devices[1].up() {
		pause(wait, time.Millisecond)
	}
	for range 4 {
		if _, _, err := c.GenerateKey(wait, hsm.UseZPK, hsm.TDES16); err != nil {
			t.Fatal(err)
		}
	}
	if _, asked := mute.Load("asked"); !asked {
		t.Error("the silent device was never asked: the test proves nothing")
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	found, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range found {
		if m.GetName() == "acquirer_payshield_failovers_total" && m.GetMetric()[0].GetCounter().GetValue() < 1 {
			t.Error("no failover was counted")
		}
	}
}

// TestDeadline: a caller's own deadline ends its waiting, and its late answer
// goes to nobody else.
func TestDeadline(t *testing.T) {
	addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{HeaderLength: 4})
	c := connect(t, ClientConfig{Devices: []string{addr}, HeaderLength: 4, AllowTest: true})
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := c.GenerateKey(over, hsm.UseZPK, hsm.TDES16); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	for i := range 200 {
		text := fmt.Sprintf("%04d", i)
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Microsecond)
		answer, _, err := c.do(ctx, "B2", "0004"+text)
		cancel()
		if err == nil && answer != text {
			t.Fatalf("echo of %s is %s", text, answer)
		}
	}
}

// TestPace: no more calls than the licence has, the others wait and are seen,
// and too many are turned away.
func TestPace(t *testing.T) {
	addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{HeaderLength: 4})
	c := connect(t, ClientConfig{Devices: []string{addr}, HeaderLength: 4, AllowTest: true, PerSecond: 100, Queue: 20})
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var done, refused int
	turnedAway := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return refused > 0
	}
	for n := 0; n < 60 || !turnedAway() && time.Since(began) < 20*time.Second; n++ { // more, where a busy machine starts them slowly
		wg.Go(func() {
			_, _, err := c.do(context.Background(), "B2", "0004ping")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done++
			case errors.Is(err, errQueueFull):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// A tenth of a second's calls at once, one more every 10 ms.
	if took, least := time.Since(began), time.Duration(done-11)*10*time.Millisecond; took < least {
		t.Errorf("%d calls in %v, want %v at least", done, took, least)
	}
	if refused == 0 || done < 20 {
		t.Errorf("%d done, %d turned away", done, refused)
	}
	text, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, m := range text {
		names += m.GetName() + " "
	}
	for _, want := range []string{"acquirer_payshield_up", "acquirer_payshield_queue", "acquirer_payshield_in_flight", "acquirer_payshield_command_seconds"} {
		if !strings.Contains(names, want) {
			t.Errorf("no metric %s among %s", want, names)
		}
	}
}

// TestKeysAreNotConfused: the software HSM refuses a key of a payShield and the
// other way round.
func TestKeysAreNotConfused(t *testing.T) {
	ctx := context.Background()
	s := software(t)
	addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{HeaderLength: 4})
	c := connect(t, ClientConfig{Devices: []string{addr}, HeaderLength: 4, AllowTest: true})
	block, _, err := s.GenerateKey(ctx, hsm.UseZAK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := c.GenerateKey(ctx, hsm.UseZAK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.MAC(ctx, text, hsm.MACX99, nil); !errors.Is(err, hsm.ErrKey) {
		t.Errorf("the software HSM: %v", err)
	}
	if _, err := c.MAC(ctx, block, hsm.MACX99, nil); !errors.Is(err, hsm.ErrKey) {
		t.Errorf("the client: %v", err)
	}
	for what, err := range map[string]error{
		"Encrypt":     second(c.Encrypt(ctx, block, nil, nil)),
		"Decrypt":     second(c.Decrypt(ctx, block, nil, nil)),
		"Token":       second(c.Token(ctx, block, nil)),
		"GenerateKey": third(c.GenerateKey(ctx, hsm.UseDEK, hsm.AES32)),
	} {
		if !errors.Is(err, ErrNoCommand) || !strings.Contains(err.Error(), "hsm.file") {
			t.Errorf("%s without a software HSM beside it: %v", what, err)
		}
	}
	for _, bad := range []string{"PS:TPK:N:", "PS:TPK:X:0123456789ABCDEF", "PS:ABC:N:0123456789ABCDEF", "PS:TMK:N:0123456789ABCDEF", "PS:TPK:N:0123456789ABCDEF0", "PS:TPK:N:Z0123456789ABCDEF", "PS:ZPK:N:XU"} {
		if _, err := c.CheckValue(ctx, hsm.Key(bad)); err == nil {
			t.Errorf("%s is a key", bad)
		}
	}
	if k, err := NewKey(hsm.UseZMK, "U1457FF6ADF6250C66C368416B4C9D383"); err != nil || k != "PS:ZMK:N:U1457FF6ADF6250C66C368416B4C9D383" {
		t.Errorf("%s, %v", k, err)
	}
}

func second[T any](_ T, err error) error { return err }
func third[T, U any](_ T, _ U, err error) error {
	return err
}

// TestPINLockOut: a terminal that guesses is locked out before the device is
// asked again.
func TestPINLockOut(t *testing.T) {
	addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{HeaderLength: 4})
	c := connect(t, ClientConfig{Devices: []string{addr}, HeaderLength: 4, AllowTest: true})
	if err := c.LimitPIN(hsm.PINLimits{PerTerminal: 3, Window: time.Hour, Lock: time.Hour}); err != nil {
		t.Fatal(err)
	}
	ctx := hsm.ForTerminal(context.Background(), "00000001")
	zpk, _, err := c.GenerateKey(ctx, hsm.UseZPK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	pan, err := card.ParsePAN("6228480402564890018")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		block := hsm.PINBlockOf([]byte{1, 2, 3, 4, 5, 6, 7, byte(i)})
		if _, err := c.TranslatePIN(ctx, zpk, hsm.ISO0, block, pan, zpk, hsm.ISO0); !errors.Is(err, hsm.ErrPIN) {
			t.Fatal(err)
		}
	}
	if f := c.PINFailures(); f.Failures != 3 || f.Refused != 7 || len(f.LockedTerminals) != 1 {
		t.Errorf("%+v", f)
	}
}

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"acquirer/hsm/algo"
	"acquirer/simulate/card"
	"acquirer/spec"
)

// approver is a host that says yes to everybody and knows one set of keys. The
// whole switch has its own tests; here the commands are tested.
type approver struct {
	t   *testing.T
	mak *algo.Key
}

// approve listens, with TLS when conf is not nil, and returns the address.
func approve(t *testing.T, conf *tls.Config) string {
	t.Helper()
	clear := simcard.TestKey("approver MAK")
	mak, err := algo.NewDESKey(clear[:])
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	a := &approver{t: t, mak: mak}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed below
			}
			wg.Go(func() {
				defer c.Close()
				a.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return l.Addr().String()
}

func (a *approver) serve(c net.Conn) {
	var req, ans spec.Message
	var buf []byte
	for {
		f, b, err := spec.ReadPOSFrame(c, buf, 4096)
		if buf = b; err != nil {
			return // the terminal hung up, or does not trust us
		}
		if err := spec.UnionPayPOS.Parse(&req, f.Body); err != nil {
			a.t.Error(err)
			return
		}
		ans.Reset(spec.UnionPayPOS, req.MTI().Response())
		ans.Copy(&req, 3, 4, 11, 41, 42, 60)
		ans.Set(39, "00")
		if req.MTI() == 0x0800 {
			clear := simcard.TestTMK(req.Text(41))
			tmk, err := algo.NewDESKey(clear[:])
			if err != nil {
				a.t.Error(err)
				return
			}
			pik, mak := simcard.TestKey("approver PIK"), simcard.TestKey("approver MAK")
			de62, err := algo.AppendDE62(nil, tmk, pik[:], mak[:], nil)
			if err != nil {
				a.t.Error(err)
				return
			}
			ans.SetBytes(62, de62)
		}
		if req.MTI() == 0x0500 { // both sides agree
			totals := req.AppendText(nil, 48)
			totals[30], totals[61] = '1', '1'
			ans.SetText(48, totals)
		}
		if req.Has(64) {
			ans.Set(37, "523456789012")
			ans.SetBytes(64, make([]byte, 8))
		}
		out, err := f.AppendReply(nil, 0, &ans)
		if err != nil {
			a.t.Error(err)
			return
		}
		if req.Has(64) {
			block, mac := spec.SignedPart(spec.FrameBody(out))
			sum := a.mak.UnionPayMAC(block)
			copy(mac, sum[:])
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func TestLoadCommand(t *testing.T) {
	addr := approve(t, nil)
	status, stdout, stderr := calls(t, "load", "--addr", addr, "--terminals", "4", "--rate", "200", "--duration", "300ms",
		"--mix", "sale=3,reversal=1", "--cards", "16", "--json")
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"sent", "approved", "declined", "errors", "reversed", "tps", "latency_ms", "duration_s"} {
		if got[key] == nil {
			t.Errorf("no %s in %s", key, stdout)
		}
	}
	if len(got) != 8 || string(got["sent"]) == "0" || !bytes.Equal(got["sent"], got["approved"]) || string(got["errors"]) != "{}" {
		t.Errorf("%s", stdout)
	}

	status, stdout, stderr = calls(t, "load", "--addr", addr, "--terminals", "2", "--concurrency", "1", "--duration", "100ms", "--cards", "8")
	if status != 0 || !strings.Contains(stdout, "approved") || !strings.Contains(stdout, "p99.9") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}

// Every message is shown, and nothing in it that is secret.
func TestTerminalCommand(t *testing.T) {
	addr := approve(t, nil)
	status, stdout, stderr := calls(t, "terminal", "--addr", addr, "--amount", "12.34", "--stan", "77", "sale", "sale 5.00 stripe east:1", "reverse", "sign-off", "echo")
	if status != 0 {
		t.Fatalf("status %d: %s%s", status, stdout, stderr)
	}
	for _, want := range []string{"mti 0800", "mti 0210", "mti 0400", "mti 0830", "sale 12.34, trace number 000078: 00 交易成功, approved", "reference 523456789012", "621000******", "echo: 00"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	for _, name := range []string{"north", "east:1"} {
		pan, err := simcard.ParseCard(name)
		if err != nil {
			t.Fatal(err)
		}
		number := pan.Reveal()
		if strings.Contains(stdout, number) || strings.Contains(stdout, simcard.Track2For(number)[len(number)+1:]) {
			t.Errorf("the card %s is shown", pan)
		}
	}

	status, stdout, _ = calls(t, "terminal", "--addr", addr, "--json", "sale 1.00 keyed west:2")
	signIn, sale, _ := strings.Cut(stdout, "\n")
	if !strings.Contains(signIn, `"sign-in"`) {
		t.Errorf("no sign-in before the sale: %s", stdout)
	}
	var d done
	if err := json.Unmarshal([]byte(sale), &d); status != 0 || err != nil || !d.Approved || d.Code != "00" || d.Amount != 100 || d.RRN == "" {
		t.Errorf("status %d, %v: %s", status, err, stdout)
	}
}

// A day at one terminal: what is named is voided, completed and signed, the
// notice goes behind the next transaction, and the batch is closed.
func TestTerminalDay(t *testing.T) {
	addr := approve(t, nil)
	image := filepath.Join(t.TempDir(), "signature.jbg")
	if err := os.WriteFile(image, append(make([]byte, 20), 0xFF, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := calls(t, "terminal", "--addr", addr, "--json", "--batch", "12",
		"sale 10.00 stripe as lunch", "void lunch", "preauth 50.00 stripe as room", "offline_sale 5.00 keyed auth:T12345 later",
		"complete room 43.21", "qr 8.00 wechat:7 as tea", "refund 1.00 keyed", "sale 20.00 stripe as dinner", "tip dinner 2.00",
		"sign "+image+" dinner", "balance", "deliver", "settle")
	if status != 0 {
		t.Fatalf("status %d: %s%s", status, stdout, stderr)
	}
	byAction := map[string]done{}
	for line := range strings.Lines(stdout) {
		var d done
		if err := json.Unmarshal([]byte(line), &d); err != nil || !d.Approved {
			t.Errorf("%v: %s", err, line)
		}
		byAction[d.Action] = d
	}
	if len(byAction) != 13 || byAction["void"].Amount != 1000 || byAction["complete"].Amount != 4321 || byAction["tip"].Amount != 2200 {
		t.Errorf("%+v", byAction)
	}
	want := settled{Batch: 12, Domestic: 1, Foreign: 1, Debit: 1000 + 500 + 4321 + 800 + 2200, Credit: 1100, Next: 13}
	if got := byAction["settle"].Settled; got == nil || *got != want {
		t.Errorf("settled %+v, want %+v", got, want)
	}
	if status, stdout, _ = calls(t, "terminal", "--addr", addr, "settle"); status != 0 || !strings.Contains(stdout, "domestic balanced, foreign balanced, 0 records uploaded") {
		t.Errorf("status %d: %s", status, stdout)
	}
	status, stdout, _ = calls(t, "terminal", "--addr", addr, "chip_offline_sale 5.00 north:bad-chip", "void breakfast")
	if status != 1 || !strings.Contains(stdout, `chip_offline_sale 5.00, trace number`) || !strings.Contains(stdout, `called "breakfast"`) {
		t.Errorf("status %d: %s", status, stdout)
	}
}

func TestTerminalOverTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := approve(t, &tls.Config{Certificates: web.TLS.Certificates})
	for _, c := range []struct {
		args   []string
		status int
	}{{[]string{"--tls", "--tls-ca", ca}, 0}, {[]string{"--tls", "--tls-skip-verify"}, 0}, {[]string{"--tls"}, 1}} {
		status, stdout, stderr := calls(t, append([]string{"terminal", "--addr", addr, "--json", "sale"}, c.args...)...)
		if status != c.status {
			t.Errorf("%v: status %d: %s%s", c.args, status, stdout, stderr)
		}
	}
}

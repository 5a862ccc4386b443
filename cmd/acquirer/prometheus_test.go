package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/deploy/deploytest"
	"acquirer/simulate/card"
)

// A real Prometheus looks at the demo while money moves: every query of the
// dashboard and of the alerts has a sensible answer, and no alert is raised.
func TestPrometheus(t *testing.T) {
	deploytest.Program(t, "prometheus") // before a demo is started for it
	d := startDemo(t)
	// One of each kind before the crowd: approved, declined by the issuer,
	// refused by the house, never answered, and reversed by the terminal.
	for _, c := range []struct {
		actions []string
		code    string
	}{
		{[]string{"sale 12.34 chip north"}, "00"}, {[]string{"sale 12.51 chip south"}, "51"}, {[]string{"sale 60000.00 chip west:1"}, "61"},
		{[]string{"qr 9.00 wechat:7"}, "00"}, {[]string{"sale 10.98 chip north"}, "98"}, {[]string{"sale 8.00 contactless west", "reverse"}, "00"},
	} {
		if last := d.sell(60, c.actions...); last.Code != c.code {
			t.Errorf("%v: %+v, want %s", c.actions, last, c.code)
		}
	}
	crowd(t, d)
	results := deploytest.RunPrometheus(t, d.metrics)
	// A disk that the other tests write on, too, may be slow.
	deploytest.Check(t, results, "StoreCommitSlow")
	alerts := 0
	for _, r := range results {
		if r.Alert {
			alerts++
		}
	}
	t.Logf("%d queries, %d of them alerts", len(results), alerts)
	if alerts == 0 || alerts == len(results) {
		t.Error("either no alert or no dashboard was asked")
	}
	if status := d.stop(); status != 0 {
		t.Errorf("the demo stopped with status %d: %s", status, d.stderr.String())
	}
}

// crowd keeps sixteen terminals busy until the test ends: others than the
// demo's own, who would have to sign in again.
func crowd(t *testing.T, d *openDemo) {
	t.Helper()
	type device struct {
		TID string `json:"tid"`
		MID string `json:"mid"`
		TMK string `json:"tmk"`
	}
	var devices []device
	for i := range 16 {
		tid, mid := simcard.SeedTerminal(100 + i)
		key := simcard.TestTMK(tid)
		devices = append(devices, device{tid, mid, hex.EncodeToString(key[:])})
	}
	b, err := json.Marshal(devices)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "terminals.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	stdout, stderr := newText(), newText()
	go func() {
		defer close(ended)
		// Its report is not looked at: it is cut off in the middle.
		run(ctx, []string{"load", "--addr", d.terminal, "--keys", file, "--rate", "30", "--duration", "5m", "--mix", "sale=90,reversal=8,duplicate=2", "--json"},
			strings.NewReader(""), stdout, stderr)
	}()
	t.Cleanup(func() {
		select {
		case <-ended:
			t.Errorf("the crowd went home early: %s%s", stdout.String(), stderr.String())
		default:
		}
		cancel()
		<-ended
	})
}

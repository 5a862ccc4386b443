package main

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/card"
	"acquirer/hsm"
)

// TestGuardPINs: the settings lock a terminal, and the metrics show it.
func TestGuardPINs(t *testing.T) {
	h, err := hsm.NewSoftware([]byte("a master key of this test, 32 by"))
	if err != nil {
		t.Fatal(err)
	}
	var cfg Config
	if err := guardPINs(cfg, h, prometheus.NewRegistry()); exitCode(err) != 2 {
		t.Errorf("no window: %v", err)
	}
	cfg.HSM.PINLimit, cfg.HSM.PINWindow, cfg.HSM.PINLock = 3, time.Minute, time.Minute
	metrics := prometheus.NewRegistry()
	if err := guardPINs(cfg, h, metrics); err != nil {
		t.Fatal(err)
	}
	zpk, _, err := h.GenerateKey(t.Context(), hsm.UseZPK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	pan, err := card.ParsePAN("6228480402564890018")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := h.TranslatePIN(hsm.ForTerminal(context.Background(), "10000001"), zpk, hsm.ISO0, hsm.PINBlock{}, pan, zpk, hsm.ISO0); err != hsm.ErrPIN {
			t.Fatal(err)
		}
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"acquirer_hsm_pin_failures_total": 3, "acquirer_hsm_pin_refused_total": 2, "acquirer_hsm_pin_locked terminal": 1, "acquirer_hsm_pin_locked key": 0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"acquirer/hsm"
)

// pinCounter is an HSM that counts PIN failures.
type pinCounter interface {
	LimitPIN(limits hsm.PINLimits) error
	PINFailures() hsm.PINFailures
}

// guardPINs sets when PIN failures lock a terminal or a key, and shows them.
func guardPINs(cfg Config, h pinCounter, metrics prometheus.Registerer) error {
	if err := h.LimitPIN(hsm.PINLimits{
		PerTerminal: cfg.HSM.PINLimit, PerKey: cfg.HSM.PINLimitKey, Window: cfg.HSM.PINWindow, Lock: cfg.HSM.PINLock,
	}); err != nil {
		return usageError{err}
	}
	for name, of := range map[string]struct {
		help  string
		value func(hsm.PINFailures) float64
	}{
		"acquirer_hsm_pin_failures_total": {"PIN blocks that held no PIN, or a wrong one where it is verified.",
			func(f hsm.PINFailures) float64 { return float64(f.Failures) }},
		"acquirer_hsm_pin_refused_total": {"PINs that were not looked at because their terminal or key was locked.",
			func(f hsm.PINFailures) float64 { return float64(f.Refused) }},
	} {
		metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: of.help},
			func() float64 { return of.value(h.PINFailures()) }))
	}
	metrics.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "acquirer_hsm_pin_locked", Help: "Terminals and PIN keys that are locked after PIN failures.", ConstLabels: prometheus.Labels{"what": "terminal"}},
			func() float64 { return float64(len(h.PINFailures().LockedTerminals)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "acquirer_hsm_pin_locked", Help: "Terminals and PIN keys that are locked after PIN failures.", ConstLabels: prometheus.Labels{"what": "key"}},
			func() float64 { return float64(len(h.PINFailures().LockedKeys)) }))
	return nil
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"acquirer/hsm"
	"acquirer/hsm/payshield"
)

// awaitPayShield bounds how long a start waits for the first device.
const awaitPayShield = 30 * time.Second

// openPayShield connects to the payShields that the settings name. local is
// the software HSM beside them, for data at rest and look-up tokens.
func openPayShield(ctx context.Context, cfg Config, log *slog.Logger, local hsm.HSM) (*payshield.Client, error) {
	p := cfg.HSM.PayShield
	conf, err := clientTLS(p.TLSCA, p.TLSCert, p.TLSKey)
	if err != nil {
		return nil, err
	}
	c, err := payshield.NewClient(payshield.ClientConfig{
		Devices: splitList(p.Devices), Connections: p.Connections, HeaderLength: p.HeaderLength, Timeout: p.Timeout, Probe: p.Probe,
		PerSecond: p.CallsPerSecond, Queue: p.Queue, LMK: p.LMK, SeparateTypes: p.SeparateTypes,
		AllowTest: cfg.Environment == "test", TLS: conf, Local: local, Log: log,
	})
	if err != nil {
		return nil, usageError{err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, awaitPayShield, fmt.Errorf("no answer in %v; see the log for why", awaitPayShield))
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// clientTLS is nil for plain TCP.
func clientTLS(ca, cert, key string) (*tls.Config, error) {
	if ca == "" {
		return nil, nil
	}
	pool, err := certificates(ca)
	if err != nil {
		return nil, fmt.Errorf("hsm.payshield.tls_ca: %w", err)
	}
	conf := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("hsm.payshield.tls_cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

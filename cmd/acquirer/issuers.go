package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/spec"
	switching "acquirer/switch"
)

// issuerConfig is an issuer as a seed file lists it (docs/seed.md). What is left
// out takes the defaults of routing.Config.
type issuerConfig struct {
	Name        string   `json:"name"`              // as the BIN table has it
	Institution string   `json:"institution"`       // up to 11 digits
	Lines       []string `json:"lines"`             // host:port each
	ZMK         hsm.Key  `json:"zmk"`               // key block of the zone master key
	Dialect     string   `json:"dialect,omitempty"` // a name or a file, spec.Load; cups when empty
	Head        string   `json:"head,omitempty"`    // in hexadecimal: TPDU and header before each message, for framings that have them
	X919        bool     `json:"x919,omitempty"`    // for cups; other dialects say how they are signed
	Carries     []string `json:"carries,omitempty"` // of what not every issuer takes: switching.Leg

	Timeout        span     `json:"timeout,omitempty"` // of an answer; without it switch.issuer_timeout
	ConnectTimeout span     `json:"connect_timeout,omitempty"`
	WriteTimeout   span     `json:"write_timeout,omitempty"`
	SignOnTimeout  span     `json:"sign_on_timeout,omitempty"`
	EchoInterval   span     `json:"echo_interval,omitempty"`
	EchoTimeout    span     `json:"echo_timeout,omitempty"`
	EchoMisses     int      `json:"echo_misses,omitempty"`
	TimeoutStreak  int      `json:"timeout_streak,omitempty"`
	BackoffMin     span     `json:"backoff_min,omitempty"`
	BackoffMax     span     `json:"backoff_max,omitempty"`
	MaxInFlight    int      `json:"max_in_flight,omitempty"`
	QueueTimeout   span     `json:"queue_timeout,omitempty"`
	TLS            *lineTLS `json:"tls,omitempty"`
}

// span is a time above zero, written like 25s or 200ms.
type span time.Duration

// UnmarshalText reads it.
func (s *span) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a time above zero, like 25s or 200ms", b)
	}
	*s = span(d)
	return nil
}

// MarshalText writes it.
func (s span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// lineTLS is how the lines of an issuer are encrypted: PEM files.
type lineTLS struct {
	CA         string `json:"ca,omitempty"`          // who signs the issuer's certificate; without it those that this machine trusts
	Cert       string `json:"cert,omitempty"`        // ours, when the issuer asks for one
	Key        string `json:"key,omitempty"`         // of it
	ServerName string `json:"server_name,omitempty"` // in the issuer's certificate; without it the host of the line
}

// config reads the files.
func (l *lineTLS) config() (*tls.Config, error) {
	if l == nil {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: l.ServerName}
	if l.CA != "" {
		var err error
		if conf.RootCAs, err = certPool(l.CA); err != nil {
			return nil, fmt.Errorf("tls: ca: %w", err)
		}
	}
	if (l.Cert == "") != (l.Key == "") {
		return nil, errors.New("tls: cert and key go together")
	}
	if l.Cert != "" {
		cert, err := tls.LoadX509KeyPair(l.Cert, l.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// certPool reads the certificates of a PEM file.
func certPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no PEM certificate in it", path)
	}
	return pool, nil
}

// readIssuers takes the issuers of a seed file. Keys that it does not know are
// refused: a misspelt one would be a setting that is not there.
func readIssuers(s *merchant.Seed) ([]issuerConfig, error) {
	if len(s.Issuers) == 0 {
		return nil, nil
	}
	var out []issuerConfig
	d := json.NewDecoder(bytes.NewReader(s.Issuers))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("seed: issuers: %w", err)
	}
	return out, nil
}

// speaks is the issuer's dialect and what stands before its messages.
func (is *issuerConfig) speaks() (*spec.Dialect, []byte, error) {
	dialect, err := spec.Load(cmp.Or(is.Dialect, spec.CUPS.Name()))
	if err != nil {
		return nil, nil, err
	}
	if is.X919 && dialect.MAC() != nil {
		return nil, nil, fmt.Errorf("x919 is for dialect cups; %s says itself that it is signed with %s", dialect.Name(), dialect.MAC().Alg)
	}
	head, err := hex.DecodeString(is.Head)
	if err != nil {
		return nil, nil, fmt.Errorf("head %q is not hexadecimal", is.Head)
	}
	return dialect, head, nil
}

// startIssuers starts the lines of every issuer; they connect, sign on and
// fetch their keys in the background.
func (v *house) startIssuers(ctx context.Context, issuers []issuerConfig) error {
	met := routing.NewMetrics()
	v.metrics.MustRegister(met)
	drained, err := drainedLines(ctx, v.db)
	if err != nil {
		return err
	}
	for _, is := range issuers {
		if _, twice := v.legs[is.Name]; twice {
			return usageError{fmt.Errorf("issuer %s is there twice", is.Name)}
		}
		secure, err := is.TLS.config()
		if err != nil {
			return usageError{fmt.Errorf("issuer %s: %w", is.Name, err)}
		}
		timeout := time.Duration(is.Timeout)
		if timeout == 0 {
			timeout = v.cfg.Switch.IssuerTimeout
		}
		dialect, head, err := is.speaks()
		if err != nil {
			return usageError{fmt.Errorf("issuer %s: %w", is.Name, err)}
		}
		keys := switching.NewZoneKeys(v.db, is.Name, v.hsm, is.ZMK, dialect, is.X919)
		line, err := routing.NewIssuer(routing.Config{
			Name: is.Name, Addrs: is.Lines, Drained: drained[is.Name], Institution: is.Institution, Acquirer: v.cfg.Switch.Acquirer, Dialect: dialect, Head: head,
			Timeout: timeout, ConnectTimeout: time.Duration(is.ConnectTimeout), WriteTimeout: time.Duration(is.WriteTimeout), SignOnTimeout: time.Duration(is.SignOnTimeout),
			EchoInterval: time.Duration(is.EchoInterval), EchoTimeout: time.Duration(is.EchoTimeout), EchoMisses: is.EchoMisses, TimeoutStreak: is.TimeoutStreak,
			BackoffMin: time.Duration(is.BackoffMin), BackoffMax: time.Duration(is.BackoffMax),
			MaxInFlight: is.MaxInFlight, QueueTimeout: time.Duration(is.QueueTimeout),
			TLS: secure, DoubleZAK: is.X919, Keys: keys, Observe: v.strays.observe, Log: v.log, Metrics: met,
		})
		if err != nil {
			return usageError{err}
		}
		v.legs[is.Name] = switching.Leg{Issuer: line, Keys: keys, Carries: is.Carries}
	}
	return nil
}

// followZoneKeys takes up the zone keys that other nodes receive, long before
// issuers stop taking those before them.
func (v *house) followZoneKeys(ctx context.Context, every time.Duration) {
	look := time.NewTicker(every)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		for _, leg := range v.legs {
			if _, err := leg.Keys.Newest(ctx); err != nil && ctx.Err() == nil {
				v.log.Error("looking for newer zone keys", "error", err.Error())
			}
		}
	}
}

package routing

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/spec"
)

// certificate is a self-signed one for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() { defer nc.Close(); honest(newPeer(nc)) })
		}
	})
	cfg := Config{
		Name: "north", Addrs: []string{ln.Addr().String()}, Institution: "01020000", Acquirer: "08980000", Keys: readyKeys(),
		Log: slog.New(slog.DiscardHandler), TLS: &tls.Config{RootCAs: pool}, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond,
	}
	i, err := NewIssuer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	up(t, i)
	for stan := range uint32(20) {
		var ans spec.Message
		if err := i.Send(t.Context(), request(stan+1), &ans); err != nil || ans.Text(39) != "00" {
			t.Fatal(err)
		}
	}
	cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	distrusting, err := NewIssuer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !strings.Contains(distrusting.State().Lines[0].LastError, "certificate"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", distrusting.State())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := errors.Join(i.Close(ctx), distrusting.Close(ctx), ln.Close()); err != nil {
		t.Error(err)
	}
	served.Wait()
}

func TestConfigRefused(t *testing.T) {
	good := Config{Name: "north", Addrs: []string{"127.0.0.1:1"}, Institution: "01020000"}
	for name, change := range map[string]func(*Config){
		"no name":           func(c *Config) { c.Name = "" },
		"no address":        func(c *Config) { c.Addrs = nil },
		"institution":       func(c *Config) { c.Institution = "0102A" },
		"long institution":  func(c *Config) { c.Acquirer = "123456789012" },
		"negative time":     func(c *Config) { c.Timeout = -1 },
		"negative number":   func(c *Config) { c.MaxInFlight = -1 },
		"back-off reversed": func(c *Config) { c.BackoffMin, c.BackoffMax = time.Minute, time.Second },
	} {
		cfg := good
		change(&cfg)
		if i, err := NewIssuer(cfg); err == nil {
			t.Errorf("%s passed", name)
			_ = i.Close(context.Background())
		}
	}
}

// BenchmarkSend is a purchase to an issuer on loopback and back, by many
// callers over one line; the peer's work is in it.
func BenchmarkSend(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		honest(newPeer(nc))
	})
	i, err := NewIssuer(Config{
		Name: "north", Addrs: []string{ln.Addr().String()}, Institution: "01020000", Acquirer: "08980000", Keys: readyKeys(),
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := i.AwaitUp(b.Context()); err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	stan := uint32(0)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		var m, ans spec.Message
		p := sampleRequest(b)
		for pb.Next() {
			mu.Lock()
			stan = stan%999999 + 1
			p.STAN = stan
			mu.Unlock()
			BuildRequest(spec.CUPS, &m, p)
			if err := i.Send(context.Background(), &m, &ans); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	if err := errors.Join(i.Close(context.Background()), ln.Close()); err != nil {
		b.Error(err)
	}
	served.Wait()
}

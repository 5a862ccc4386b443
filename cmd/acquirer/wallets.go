package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/simulate/wallet"
)

// walletConfig is a wallet as a seed file lists it.
type walletConfig struct {
	Name    string `json:"name"`               // one of routing.Wallets
	URL     string `json:"url"`                // https://host/path; its questions are below it
	KeyFile string `json:"key_file,omitempty"` // the shared key in hexadecimal; without it ACQUIRER_WALLET_KEY_NAME is read
	Timeout string `json:"timeout,omitempty"`  // for one question, like 5s

	key     []byte
	timeout time.Duration
}

// loadWallets takes the wallets of a seed file, or the simulated ones at the
// addresses given.
func loadWallets(cfg Config, seed *merchant.Seed, simulated map[string]string) ([]walletConfig, error) {
	if cfg.Seed != "demo" {
		if len(simulated) > 0 {
			return nil, errors.New("--wallet is for --seed demo; list the wallets in the seed file")
		}
		return readWallets(seed)
	}
	var out []walletConfig
	for name, at := range simulated {
		out = append(out, walletConfig{Name: name, URL: at, key: simwallet.TestKey(name)})
	}
	return out, checkWallets(out)
}

// readWallets takes the wallets of a seed file and reads their keys.
func readWallets(s *merchant.Seed) ([]walletConfig, error) {
	if len(s.Wallets) == 0 {
		return nil, nil
	}
	var out []walletConfig
	d := json.NewDecoder(bytes.NewReader(s.Wallets))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("seed: wallets: %w", err)
	}
	if err := checkWallets(out); err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	for i := range out {
		w := &out[i]
		var err error
		if w.key, err = walletKey(w); err != nil {
			return nil, fmt.Errorf("seed: wallet %s: %w", w.Name, err)
		}
		if w.Timeout != "" {
			if w.timeout, err = time.ParseDuration(w.Timeout); err != nil || w.timeout <= 0 {
				return nil, fmt.Errorf("seed: wallet %s: timeout %q is not a time above zero, like 5s", w.Name, w.Timeout)
			}
		}
	}
	return out, nil
}

// checkWallets refuses names that no payment code leads to.
func checkWallets(wallets []walletConfig) error {
	seen := map[string]bool{}
	for _, w := range wallets {
		if !slices.Contains(routing.Wallets, w.Name) {
			return fmt.Errorf("wallets: %q is none of %s", w.Name, strings.Join(routing.Wallets, ", "))
		}
		if seen[w.Name] {
			return fmt.Errorf("wallets: %s is there twice", w.Name)
		}
		seen[w.Name] = true
	}
	return nil
}

// walletKey reads a wallet's key. The text itself appears in no error.
func walletKey(w *walletConfig) ([]byte, error) {
	from, text := walletKeyVariable(w.Name), os.Getenv(walletKeyVariable(w.Name))
	if w.KeyFile != "" {
		f, err := os.Open(w.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("key_file: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, 1<<10))
		if err != nil {
			return nil, fmt.Errorf("key_file: %w", err)
		}
		from, text = w.KeyFile, strings.TrimSpace(string(b))
	}
	if text == "" {
		return nil, fmt.Errorf("no key: name its key_file, or set %s", from)
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) < 16 {
		return nil, fmt.Errorf("%s does not hold at least 32 hexadecimal digits and nothing else", from)
	}
	return key, nil
}

func walletKeyVariable(name string) string {
	return "ACQUIRER_WALLET_KEY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// openWallets makes the clients of the wallets; they connect when there is
// something to ask.
func (v *house) openWallets() error {
	v.wallets = map[string]*routing.Wallet{}
	met := routing.NewWalletMetrics()
	v.metrics.MustRegister(met)
	for _, c := range v.cfg.wallets {
		if _, taken := v.legs[c.Name]; taken {
			return fmt.Errorf("wallet %s: an issuer has that name", c.Name)
		}
		if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" && v.cfg.Environment == "production" {
			return fmt.Errorf("wallet %s: in production its URL begins with https, for the payment code is worth the buyer's money", c.Name)
		}
		mac, err := routing.WalletKey(c.key)
		if err != nil {
			return fmt.Errorf("wallet %s: %w", c.Name, err)
		}
		w, err := routing.NewWallet(routing.WalletConfig{Name: c.Name, URL: c.URL, MAC: mac, Timeout: c.timeout, Metrics: met})
		if err != nil {
			return err
		}
		v.wallets[c.Name] = w
	}
	return nil
}

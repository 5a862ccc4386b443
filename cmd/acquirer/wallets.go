package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/settlement"
	"acquirer/simulate/wallet"
	switching "acquirer/switch"
)

// walletConfig is a wallet as a seed file lists it.
type walletConfig struct {
	Name        string `json:"name"`                      // one of routing.Wallets
	URL         string `json:"url"`                       // https://host/path; its questions are below it, Alipay's is the gateway's own
	App         string `json:"app,omitempty"`             // appid of WeChat Pay, app_id of Alipay
	Merchant    string `json:"merchant,omitempty"`        // mch_id of WeChat Pay, merId of UnionPay QR
	KeyFile     string `json:"key_file,omitempty"`        // WeChat Pay's API key, or our private key in PEM; without it ACQUIRER_WALLET_KEY_NAME is read
	WalletKey   string `json:"wallet_key_file,omitempty"` // the public key or certificate of Alipay or UnionPay, in PEM
	Sign        string `json:"sign,omitempty"`            // UnionPay QR: rsa or sm2
	Certificate string `json:"cert_id,omitempty"`         // UnionPay QR: the serial number of our certificate
	ClientCert  string `json:"client_cert,omitempty"`     // TLS certificate in PEM, which WeChat Pay wants for cancels and refunds
	ClientKey   string `json:"client_key,omitempty"`      // and its key

	Merchants   map[string]string `json:"merchants,omitempty"`    // our merchants' numbers at the wallet, by DE 42
	Timeout     duration          `json:"timeout,omitempty"`      // for one question
	Poll        duration          `json:"poll,omitempty"`         // between questions while the buyer types
	Unknown     duration          `json:"unknown,omitempty"`      // before the question after the wallet did not know
	CancelAfter duration          `json:"cancel_after,omitempty"` // no cancel before this since the payment
	BillFrom    string            `json:"bill_from,omitempty"`    // time of the next day from which a bill is ready, like 10:00

	wire     wallet.Wire
	tls      *tls.Config
	billFrom time.Duration
}

// duration is a time above zero in a seed file, like 5s; 0 when it is not
// there.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return fmt.Errorf("%q is not a time above zero, like 5s", text)
	}
	*d = duration(v)
	return nil
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
		out = append(out, simulatedWallet(name, at))
	}
	return out, checkWallets(out)
}

// simulatedPause is how long a simulated wallet is left alone: a real one wants
// seconds, which nobody would watch.
const simulatedPause = duration(time.Second)

// simulatedWallet is a simulated wallet with the TEST keys.
func simulatedWallet(name, at string) walletConfig {
	return walletConfig{Name: name, URL: at, wire: simwallet.TestWire(name, wallet.RSA), Poll: simulatedPause, Unknown: simulatedPause, CancelAfter: simulatedPause}
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
		err := w.readKeys()
		if err == nil && w.BillFrom != "" {
			w.billFrom, err = timeOfDay(w.BillFrom)
		}
		if err != nil {
			return nil, fmt.Errorf("seed: wallet %s: %w", w.Name, err)
		}
	}
	return out, nil
}

// timeOfDay reads 00:01 to 23:59.
func timeOfDay(text string) (time.Duration, error) {
	t, err := time.Parse("15:04", text)
	d := sinceMidnight(t)
	if err != nil || d == 0 {
		return 0, fmt.Errorf("bill_from %q is not a time of day from 00:01 on, like 10:00", text)
	}
	return d, nil
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

// readKeys makes the wire of a wallet from its keys. No key appears in an
// error.
func (w *walletConfig) readKeys() error {
	ours, from, err := walletSecret(w.KeyFile, w.Name)
	if err != nil {
		return err
	}
	if (w.ClientCert == "") != (w.ClientKey == "") {
		return errors.New("client_cert and client_key go together")
	}
	if w.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(w.ClientCert, w.ClientKey)
		if err != nil {
			return fmt.Errorf("client_cert: %w", err)
		}
		w.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	needs := func(what, value string) {
		if value == "" && err == nil {
			err = errors.New(what + " is missing")
		}
	}
	if w.Name == routing.WeChat {
		needs("app", w.App)
		needs("merchant", w.Merchant)
		sign, keyErr := wallet.NewHMAC(ours)
		if keyErr != nil {
			return fmt.Errorf("%s: %w", from, keyErr)
		}
		w.wire = &wallet.WeChat{App: w.App, Merchant: w.Merchant, Sign: sign}
		return err
	}
	kind := wallet.RSA
	if w.Name == routing.UnionPayQR && w.Sign != "" {
		kind = w.Sign
	} else if w.Sign != "" && w.Sign != wallet.RSA {
		return errors.New("sign is for unionpay-qr")
	}
	needs("wallet_key_file", w.WalletKey)
	if err != nil {
		return err
	}
	theirs, _, err := walletSecret(w.WalletKey, "")
	if err != nil {
		return err
	}
	signer, err := wallet.NewSigner(kind, ours, theirs)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", from, w.WalletKey, err)
	}
	if w.Name == routing.Alipay {
		needs("app", w.App)
		w.wire = &wallet.Alipay{App: w.App, Sign: signer}
		return err
	}
	needs("merchant", w.Merchant)
	w.wire = &wallet.UnionPay{Merchant: w.Merchant, Certificate: w.Certificate, Sign: signer}
	return err
}

// walletSecret reads a key's file, or the variable of a wallet that names no
// file, and says which.
func walletSecret(file, name string) (text, from string, err error) {
	if file == "" {
		from = walletKeyVariable(name)
		text = os.Getenv(from)
	} else {
		f, err := os.Open(file)
		if err != nil {
			return "", file, fmt.Errorf("key: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, 1<<16))
		if err != nil {
			return "", file, fmt.Errorf("key: %w", err)
		}
		text, from = string(b), file
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", from, fmt.Errorf("no key: name its key_file, or set %s", from)
	}
	return text, from, nil
}

func walletKeyVariable(name string) string {
	return "ACQUIRER_WALLET_KEY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// openWallets makes the clients of the wallets; they connect when there is
// something to ask.
func (v *house) openWallets() error {
	v.wallets = map[string]*wallet.Wallet{}
	met := wallet.NewMetrics()
	v.metrics.MustRegister(met)
	for _, c := range v.cfg.wallets {
		if _, taken := v.legs[c.Name]; taken {
			return fmt.Errorf("wallet %s: an issuer has that name", c.Name)
		}
		if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" && v.cfg.Environment == "production" {
			return fmt.Errorf("wallet %s: in production its URL begins with https, for the payment code is worth the buyer's money", c.Name)
		}
		w, err := wallet.New(wallet.Config{Name: c.Name, URL: c.URL, Wire: c.wire, Merchants: c.Merchants, TLS: c.tls, Metrics: met, Timeout: time.Duration(c.Timeout),
			Poll: time.Duration(c.Poll), Unknown: time.Duration(c.Unknown), CancelAfter: time.Duration(c.CancelAfter), BillFrom: c.billFrom})
		if err != nil {
			return err
		}
		v.wallets[c.Name] = w
	}
	return nil
}

// raise makes a case of the switch a task for a person.
func (v *house) raise(ctx context.Context, c switching.Case) error {
	return v.books.AddTask(ctx, settlement.Task{Key: c.Key, Kind: c.Kind, Merchant: c.Merchant, Ref: strconv.FormatInt(c.ID, 10), Text: c.Text, Created: c.At})
}

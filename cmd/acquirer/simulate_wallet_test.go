package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/simulate/terminal"
	"acquirer/simulate/wallet"
	switching "acquirer/switch"
)

const walletHexKey = "000102030405060708090A0B0C0D0E0F"

// startWallets runs `acquirer simulate wallet` until stop, which returns its
// error.
func startWallets(t *testing.T, args ...string) (base string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := newSimulateWalletCmd()
	text := new(watchedOutput)
	cmd.SetErr(text)
	cmd.SetArgs(append([]string{"--listen", "127.0.0.1:0"}, args...))
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if m := regexp.MustCompile(`wallets .* on (http://\S+)\n`).FindStringSubmatch(text.String()); m != nil {
			return m[1], func() error { cancel(); return <-done }
		}
		if time.Now().After(end) {
			cancel()
			t.Fatal(text.String())
		}
	}
}

// payOnce pays by code at the wallet that a configuration names.
func payOnce(t *testing.T, c walletConfig) (routing.WalletResult, error) {
	t.Helper()
	mac, err := routing.WalletKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	w, err := routing.NewWallet(routing.WalletConfig{Name: c.Name, URL: c.URL, MAC: mac, Timeout: c.timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	code, err := routing.ParsePayCode(terminal.PayCode(c.Name, 7))
	if err != nil {
		t.Fatal(err)
	}
	return w.Pay(t.Context(), routing.WalletPayment{Order: "R1", Code: code, Amount: 12_34, Merchant: "898110058120001", Terminal: "11000001"})
}

func TestSimulateWallet(t *testing.T) {
	folder := t.TempDir()
	books, keyFile := filepath.Join(folder, "books.json"), filepath.Join(folder, "key")
	if err := os.WriteFile(keyFile, []byte(walletHexKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base, stop := startWallets(t, "--books", books)
	wallets, err := loadWallets(Config{Seed: "demo"}, nil, map[string]string{"wechat": base + "/wechat", "alipay": base + "/alipay", "unionpay-qr": base + "/unionpay-qr"})
	if err != nil || len(wallets) != 3 {
		t.Fatalf("%v, %v", wallets, err)
	}
	for _, c := range wallets {
		if r, err := payOnce(t, c); err != nil || r.State != routing.Paid {
			t.Errorf("%s: %+v, %v", c.Name, r, err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(books)
	var written struct {
		Totals map[string]simwallet.Totals
		Orders []simwallet.Order
	}
	if err != nil || json.Unmarshal(b, &written) != nil || len(written.Orders) != 3 || written.Totals["alipay"].Standing != 12_34 {
		t.Errorf("%v %s", err, b)
	}

	// With keys of its own it serves those wallets only.
	base, stop = startWallets(t, "--key-file", "wechat="+keyFile)
	mine, err := readWallets(&merchant.Seed{Wallets: []byte(`[{"name":"wechat","url":"` + base + `/wechat","key_file":"` + keyFile + `","timeout":"9s"}]`)})
	if err != nil || len(mine) != 1 || mine[0].timeout != 9*time.Second {
		t.Fatalf("%+v, %v", mine, err)
	}
	if r, err := payOnce(t, mine[0]); err != nil || r.State != routing.Paid {
		t.Errorf("with a key of its own: %+v, %v", r, err)
	}
	if r, err := payOnce(t, walletConfig{Name: "alipay", URL: base + "/alipay", key: simwallet.TestKey("alipay")}); err == nil {
		t.Errorf("a wallet that is not served: %+v", r)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"--asks 0", "--late 0s", "--limit -1", "--key-file paypal=" + keyFile, "--key-file wechat=" + books, "--key-file wechat=" + folder + "/none"} {
		if _, text, code := call(t, newSimulateWalletCmd(), strings.Fields(bad)...); code != 2 || text == "" {
			t.Errorf("%s: exit %d, %q", bad, code, text)
		}
	}
}

// The house hands the switch a client for each wallet of its configuration.
func TestHouseOpensWallets(t *testing.T) {
	base, stop := startWallets(t)
	wallets := func(change func(*Config, *walletConfig)) (*house, error) {
		c := walletConfig{Name: "wechat", URL: base + "/wechat", key: simwallet.TestKey("wechat")}
		cfg := Config{Environment: "test"}
		change(&cfg, &c)
		cfg.wallets = []walletConfig{c}
		v := &house{cfg: cfg, metrics: prometheus.NewRegistry(), legs: map[string]switching.Leg{"north": {}}}
		return v, v.openWallets()
	}
	v, err := wallets(func(*Config, *walletConfig) {})
	if err != nil || len(v.wallets) != 1 || v.wallets["wechat"].Name() != "wechat" {
		t.Fatalf("%v, %v", v.wallets, err)
	}
	if r, err := v.wallets["wechat"].Query(t.Context(), "R1"); err != nil || r.State != routing.NoOrder {
		t.Errorf("%+v, %v", r, err)
	}
	v.legs = nil // there is no line to close
	if err := v.close(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Config, *walletConfig){
		"https":       func(cfg *Config, _ *walletConfig) { cfg.Environment = "production" },
		"issuer":      func(_ *Config, c *walletConfig) { c.Name = "north" },
		"URL":         func(_ *Config, c *walletConfig) { c.URL = "wallet" },
		"at least 16": func(_ *Config, c *walletConfig) { c.key = nil },
	} {
		if _, err := wallets(change); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A seed's wallets are read with their keys, or the start says what is wrong
// and never shows a key.
func TestReadWallets(t *testing.T) {
	folder := t.TempDir()
	short := filepath.Join(folder, "short")
	if err := os.WriteFile(short, []byte(walletHexKey[2:]), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ACQUIRER_WALLET_KEY_UNIONPAY_QR", walletHexKey)
	t.Setenv("ACQUIRER_WALLET_KEY_ALIPAY", "not hexadecimal, and secret")
	seed := func(text string) *merchant.Seed { return &merchant.Seed{Wallets: []byte(text)} }
	if w, err := readWallets(seed(`[{"name":"unionpay-qr","url":"https://wallet/u"}]`)); err != nil || len(w) != 1 || len(w[0].key) != 16 || w[0].timeout != 0 {
		t.Errorf("%+v, %v", w, err)
	}
	if w, err := readWallets(&merchant.Seed{}); err != nil || w != nil {
		t.Errorf("%+v, %v", w, err)
	}
	for text, says := range map[string]string{
		`{}`:                                    "wallets",
		`[{"name":"paypal"}]`:                   "none of wechat",
		`[{"name":"wechat","key":"00"}]`:        "key",
		`[{"name":"wechat"},{"name":"wechat"}]`: "twice",
		`[{"name":"wechat"}]`:                   "ACQUIRER_WALLET_KEY_WECHAT",
		`[{"name":"alipay"}]`:                   "hexadecimal",
		`[{"name":"wechat","key_file":"` + short + `"}]`:       "hexadecimal",
		`[{"name":"wechat","key_file":"` + folder + `/none"}]`: "key_file",
		`[{"name":"unionpay-qr","timeout":"soon"}]`:            "timeout",
		`[{"name":"unionpay-qr","timeout":"-1s"}]`:             "timeout",
	} {
		if w, err := readWallets(seed(text)); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), walletHexKey[2:]) {
			t.Errorf("%s: %+v, %v", text, w, err)
		}
	}
	if _, err := loadWallets(Config{Seed: "street.json"}, &merchant.Seed{}, map[string]string{"wechat": "http://x"}); err == nil {
		t.Error("--wallet was taken beside a seed file")
	}
	if _, err := loadWallets(Config{Seed: "demo"}, nil, map[string]string{"paypal": "http://x"}); err == nil {
		t.Error("--wallet paypal was taken")
	}
}

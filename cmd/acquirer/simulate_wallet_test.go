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
	"acquirer/routing/wallet"
	"acquirer/simulate/terminal"
	"acquirer/simulate/wallet"
	switching "acquirer/switch"
)

const walletAPIKey = "000102030405060708090A0B0C0D0E0F"

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
func payOnce(t *testing.T, c walletConfig) (wallet.Result, error) {
	t.Helper()
	w, err := wallet.New(wallet.Config{Name: c.Name, URL: c.URL, Wire: c.wire, Timeout: time.Duration(c.Timeout), TLS: c.tls})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	code, err := routing.ParsePayCode(terminal.PayCode(c.Name, 7))
	if err != nil {
		t.Fatal(err)
	}
	return w.Pay(t.Context(), wallet.Payment{Code: code, Order: walletOrder})
}

var walletOrder = wallet.Order{Number: "R1", Merchant: "898110058120001", Terminal: "11000001", Amount: 12_34, Made: time.Now()}

// keyFiles writes the test keys into a folder, by name: ours, theirs.
func keyFiles(t *testing.T, kind string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, text := range map[string]string{
		"api.key": walletAPIKey + "\n", "ours.pem": simwallet.TestKey("acquirer", kind, true), "ours.pub": simwallet.TestKey("acquirer", kind, false),
		"theirs.pem": simwallet.TestKey("wallet", kind, true), "theirs.pub": simwallet.TestKey("wallet", kind, false),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestSimulateWallet(t *testing.T) {
	folder := keyFiles(t, wallet.SM2)
	books, keyFile := filepath.Join(folder, "books.json"), filepath.Join(folder, "api.key")
	base, stop := startWallets(t, "--books", books)
	wallets, err := loadWallets(Config{Seed: "demo"}, nil, map[string]string{"wechat": base + "/wechat", "alipay": base + "/alipay", "unionpay-qr": base + "/unionpay-qr"})
	if err != nil || len(wallets) != 3 {
		t.Fatalf("%v, %v", wallets, err)
	}
	for _, c := range wallets {
		if r, err := payOnce(t, c); err != nil || r.State != wallet.Paid {
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

	// With keys of its own it serves those wallets only, UnionPay QR in SM2.
	base, stop = startWallets(t, "--key-file", "wechat="+keyFile, "--key-file", "unionpay-qr="+folder+"/theirs.pem", "--acquirer-key-file", "unionpay-qr="+folder+"/ours.pub", "--sign", "sm2")
	mine, err := readWallets(&merchant.Seed{Wallets: []byte(`[
		{"name":"wechat","url":"` + base + `/wechat","app":"wx1","merchant":"1900000001","key_file":"` + keyFile + `","timeout":"9s","cancel_after":"20s","bill_from":"10:30"},
		{"name":"unionpay-qr","url":"` + base + `/unionpay-qr","merchant":"777290058110097","sign":"sm2","cert_id":"1","key_file":"` + folder + `/ours.pem","wallet_key_file":"` + folder + `/theirs.pub"}]`)})
	if err != nil || len(mine) != 2 || time.Duration(mine[0].Timeout) != 9*time.Second || mine[0].billFrom != 10*time.Hour+30*time.Minute || time.Duration(mine[0].CancelAfter) != 20*time.Second {
		t.Fatalf("%+v, %v", mine, err)
	}
	for _, c := range mine {
		if r, err := payOnce(t, c); err != nil || r.State != wallet.Paid {
			t.Errorf("%s with a key of its own: %+v, %v", c.Name, r, err)
		}
	}
	if r, err := payOnce(t, walletConfig{Name: "alipay", URL: base + "/alipay", wire: simwallet.TestWire("alipay", wallet.RSA)}); err == nil {
		t.Errorf("a wallet that is not served: %+v", r)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"--asks 0", "--late 0s", "--limit -1", "--key-file paypal=" + keyFile, "--key-file wechat=" + folder + "/ours.pem", "--key-file wechat=" + folder + "/none",
		"--sign md5", "--key-file alipay=" + folder + "/theirs.pem", "--key-file alipay=" + keyFile + " --acquirer-key-file alipay=" + keyFile, "--fee -1"} {
		if _, text, code := call(t, newSimulateWalletCmd(), strings.Fields(bad)...); code != 2 || text == "" {
			t.Errorf("%s: exit %d, %q", bad, code, text)
		}
	}
}

// The house hands the switch a client for each wallet of its configuration.
func TestHouseOpensWallets(t *testing.T) {
	base, stop := startWallets(t)
	wallets := func(change func(*Config, *walletConfig)) (*house, error) {
		c := walletConfig{Name: "wechat", URL: base + "/wechat", wire: simwallet.TestWire("wechat", wallet.RSA)}
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
	if r, err := v.wallets["wechat"].Query(t.Context(), walletOrder); err != nil || r.State != wallet.NoOrder {
		t.Errorf("%+v, %v", r, err)
	}
	v.legs = nil // there is no line to close
	if err := v.close(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Config, *walletConfig){
		"https":  func(cfg *Config, _ *walletConfig) { cfg.Environment = "production" },
		"issuer": func(_ *Config, c *walletConfig) { c.Name = "north" },
		"URL":    func(_ *Config, c *walletConfig) { c.URL = "wallet" },
		"a wire": func(_ *Config, c *walletConfig) { c.wire = nil },
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
	folder := keyFiles(t, wallet.RSA)
	if err := os.WriteFile(filepath.Join(folder, "short"), []byte(walletAPIKey[:15]), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ACQUIRER_WALLET_KEY_UNIONPAY_QR", simwallet.TestKey("acquirer", wallet.RSA, true))
	t.Setenv("ACQUIRER_WALLET_KEY_ALIPAY", "no key, and secret")
	seed := func(text string) *merchant.Seed {
		return &merchant.Seed{Wallets: []byte(strings.ReplaceAll(text, "FOLDER", folder))}
	}
	if w, err := readWallets(seed(`[{"name":"unionpay-qr","url":"https://wallet/u","merchant":"1","wallet_key_file":"FOLDER/theirs.pub"}]`)); err != nil || len(w) != 1 || w[0].wire == nil || w[0].Timeout != 0 {
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
		`[{"name":"alipay","app":"1"}]`:         "wallet_key_file",
		`[{"name":"alipay","app":"1","wallet_key_file":"FOLDER/theirs.pub"}]`:                                                              "private key",
		`[{"name":"alipay","key_file":"FOLDER/ours.pem","wallet_key_file":"FOLDER/theirs.pub"}]`:                                           "app",
		`[{"name":"alipay","app":"1","sign":"sm2","key_file":"FOLDER/ours.pem","wallet_key_file":"FOLDER/theirs.pub"}]`:                    "sign",
		`[{"name":"wechat","app":"1","merchant":"2","key_file":"FOLDER/short"}]`:                                                           "16 printable",
		`[{"name":"wechat","merchant":"2","key_file":"FOLDER/api.key"}]`:                                                                   "app",
		`[{"name":"wechat","app":"2","key_file":"FOLDER/api.key"}]`:                                                                        "merchant",
		`[{"name":"wechat","app":"1","merchant":"2","key_file":"FOLDER/none"}]`:                                                            "none",
		`[{"name":"wechat","app":"1","merchant":"2","key_file":"FOLDER/api.key","client_cert":"FOLDER/ours.pem"}]`:                         "together",
		`[{"name":"wechat","app":"1","merchant":"2","key_file":"FOLDER/api.key","client_cert":"FOLDER/x","client_key":"FOLDER/ours.pem"}]`: "client_cert",
		`[{"name":"wechat","app":"1","merchant":"2","key_file":"FOLDER/api.key","bill_from":"noon"}]`:                                      "bill_from",
		`[{"name":"unionpay-qr","merchant":"1","sign":"md5","wallet_key_file":"FOLDER/theirs.pub"}]`:                                       "md5",
		`[{"name":"unionpay-qr","merchant":"1","sign":"sm2","wallet_key_file":"FOLDER/theirs.pub"}]`:                                       "SM2",
		`[{"name":"unionpay-qr","timeout":"soon"}]`:                                                                                        "soon",
		`[{"name":"unionpay-qr","poll":"-1s"}]`:                                                                                            "above zero",
	} {
		if w, err := readWallets(seed(text)); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), walletAPIKey[:15]) {
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

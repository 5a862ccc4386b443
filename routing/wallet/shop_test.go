package wallet_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/simulate/wallet"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		http.DefaultClient.CloseIdleConnections()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// shop is a wallet's server that says whatever the test wants, signed as that
// wallet signs, over connections in memory.
type shop struct {
	name, kind string
	pipe       *simwallet.Pipe
	asked      atomic.Int32
	does       func(w http.ResponseWriter, r *http.Request, question string, n int)
	signer     wallet.Signer
	hmac       wallet.HMAC
}

func openShop(t *testing.T, name, kind string) *shop {
	t.Helper()
	s := &shop{name: name, kind: kind, pipe: simwallet.NewPipe()}
	s.signer = simwallet.TestKeys(name, kind).Signer
	if name == routing.WeChat {
		var err error
		if s.hmac, err = wallet.NewHMAC(simwallet.TestAPIKey); err != nil {
			t.Fatal(err)
		}
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(s.asked.Add(1)) - 1
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client broke off
		}
		question := r.URL.Path
		if name == routing.Alipay {
			v, err := url.ParseQuery(string(body))
			if err != nil {
				t.Error(err)
			}
			question = v.Get("method")
		}
		if name == routing.UnionPayQR {
			v, err := url.ParseQuery(string(body))
			if err != nil {
				t.Error(err)
			}
			question += " " + v.Get("txnType")
		}
		s.does(w, r, question, n)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(s.pipe) // ends with Close
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return s
}

// way is a client of the shop.
func (s *shop) way(t *testing.T, change func(*wallet.Config)) *wallet.Wallet {
	t.Helper()
	cfg := wallet.Config{Name: s.name, URL: "http://shop/" + s.name, Wire: simwallet.TestWire(s.name, s.kind), Dial: s.pipe.Dial}
	if change != nil {
		change(&cfg)
	}
	w, err := wallet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// signed is an answer from "k=v k=v", which the wallet signs.
func (s *shop) signed(question, pairs string) string {
	p := map[string]string{}
	for _, pair := range strings.Fields(pairs) {
		k, v, _ := strings.Cut(pair, "=")
		p[k] = strings.ReplaceAll(v, "_", " ")
		if strings.HasSuffix(k, "!") { // as it stands
			delete(p, k)
			p[strings.TrimSuffix(k, "!")] = v
		}
	}
	switch s.name {
	case routing.WeChat:
		base := map[string]string{"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": simwallet.TestApp, "mch_id": simwallet.TestMerchant, "nonce_str": "5K8264ILTKCH16CQ"}
		maps.Copy(base, p)
		base["sign"] = s.hmac(base)
		return string(wallet.MarshalXML(base))
	case routing.Alipay:
		text, err := json.Marshal(p)
		if err != nil {
			panic(err)
		}
		sig, err := s.signer.Sign(text)
		if err != nil {
			panic(err)
		}
		return fmt.Sprintf(`{"%s_response":%s,"sign":"%s"}`, strings.ReplaceAll(question, ".", "_"), text, base64.StdEncoding.EncodeToString(sig))
	}
	base := map[string]string{"merId": simwallet.TestMerchant, "orderId": "R1", "respCode": "00"}
	maps.Copy(base, p)
	sig, err := s.signer.Sign(wallet.SignedText(s.signer, base))
	if err != nil {
		panic(err)
	}
	base["signature"] = base64.StdEncoding.EncodeToString(sig)
	v := url.Values{}
	for k := range base {
		v.Set(k, base[k])
	}
	return v.Encode()
}

// script answers one after the other, the last for ever; "" breaks the line.
func (s *shop) script(answers ...string) {
	s.asked.Store(0)
	s.does = func(w http.ResponseWriter, _ *http.Request, question string, n int) {
		a := answers[min(n, len(answers)-1)]
		if a == "" {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, s.signed(question, a))
	}
}

const walletCode = "134567890123456789"

func payment(t testing.TB, amount money.Amount) wallet.Payment {
	t.Helper()
	c, err := routing.ParsePayCode(walletCode)
	if err != nil {
		t.Fatal(err)
	}
	return wallet.Payment{Order: order(amount), Code: c, Name: "老王烧烤"}
}

func order(amount money.Amount) wallet.Order {
	return wallet.Order{Number: "R1", Merchant: "898110058120001", Terminal: "11000001", Amount: amount, Made: time.Now()}
}

func back(amount money.Amount) wallet.Refund {
	return wallet.Refund{Number: "B1", Amount: amount, Made: time.Now()}
}

// paid is the answer of a payment of 12.34.
var paid = map[string]string{
	routing.WeChat:     "out_trade_no=R1 total_fee=1234 transaction_id=4200001",
	routing.Alipay:     "code=10000 out_trade_no=R1 total_amount=12.34 trade_no=4200001",
	routing.UnionPayQR: "respCode=00 txnAmt=1234 queryId=4200001",
}

package wallet_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/simulate/wallet"
)

var (
	typing = map[string]string{routing.WeChat: "result_code=FAIL err_code=USERPAYING", routing.Alipay: "code=10003 out_trade_no=R1", routing.UnionPayQR: "respCode=05"}
	typed  = map[string]string{routing.WeChat: "out_trade_no=R1 trade_state=USERPAYING", routing.Alipay: "code=10000 out_trade_no=R1 trade_status!=WAIT_BUYER_PAY", routing.UnionPayQR: "origRespCode=05"}
	found  = map[string]string{routing.WeChat: paid[routing.WeChat] + " trade_state=SUCCESS", routing.Alipay: paid[routing.Alipay] + " trade_status!=TRADE_SUCCESS",
		routing.UnionPayQR: paid[routing.UnionPayQR] + " origRespCode=00"}
	unsure = map[string]string{routing.WeChat: "result_code=FAIL err_code=SYSTEMERROR", routing.Alipay: "code=20000 sub_code!=ACQ.SYSTEM_ERROR", routing.UnionPayQR: "respCode=04"}
	none   = map[string]string{routing.WeChat: "result_code=FAIL err_code=ORDERNOTEXIST", routing.Alipay: "code=40004 sub_code!=ACQ.TRADE_NOT_EXIST", routing.UnionPayQR: "respCode=34"}
)

// The times of each wallet, to the millisecond of fake time: when it is asked,
// and that the last question stands at the end of the patience (faults 24, 25,
// 53).
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		what    string
		wallet  string
		answers []map[string]string
		asked   []time.Duration // after the payment
		state   wallet.State
		err     error
	}{
		{"paid", routing.WeChat, []map[string]string{paid}, []time.Duration{0}, wallet.Paid, nil},
		{"system error, which is no failure", routing.WeChat, []map[string]string{unsure, found}, []time.Duration{0, 5}, wallet.Paid, nil},
		{"system error", routing.Alipay, []map[string]string{unsure, found}, []time.Duration{0, 3}, wallet.Paid, nil},
		{"system error", routing.UnionPayQR, []map[string]string{unsure, unsure, found}, []time.Duration{0, 5, 10}, wallet.Paid, nil},
		{"typing", routing.WeChat, []map[string]string{typing, typed, typed, found}, []time.Duration{0, 5, 10, 15}, wallet.Paid, nil},
		{"typing", routing.Alipay, []map[string]string{typing, typed, typed, found}, []time.Duration{0, 3, 6, 9}, wallet.Paid, nil},
		{"typing", routing.UnionPayQR, []map[string]string{typing, typed, found}, []time.Duration{0, 5, 10}, wallet.Paid, nil},
		{"typing, a system error, typing", routing.WeChat, []map[string]string{typing, unsure, typed, found}, []time.Duration{0, 5, 10, 15}, wallet.Paid, nil},
		{"typing for ever", routing.WeChat, []map[string]string{typing, typed}, []time.Duration{0, 5, 10, 15, 20, 22}, wallet.BuyerPaying, nil},
		{"typing for ever", routing.Alipay, []map[string]string{typing, typed}, []time.Duration{0, 3, 6, 9, 12, 15, 18, 21, 22}, wallet.BuyerPaying, nil},
		{"lost, and never heard of", routing.WeChat, []map[string]string{{}, none}, []time.Duration{0, 5, 10, 15, 20, 22}, wallet.Unknown, routing.ErrUnanswered},
		{"lost, then found", routing.UnionPayQR, []map[string]string{{}, none, {}, found}, []time.Duration{0, 5, 10, 15}, wallet.Paid, nil},
		{"never a word", routing.Alipay, []map[string]string{unsure}, []time.Duration{0, 3, 6, 9, 12, 15, 18, 21, 22}, wallet.Unknown, routing.ErrUnanswered},
	} {
		t.Run(c.wallet+" "+c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openShop(t, c.wallet, wallet.RSA)
				w := s.way(t, nil)
				began := time.Now()
				var asked []time.Duration
				s.does = func(w http.ResponseWriter, _ *http.Request, question string, n int) {
					asked = append(asked, time.Since(began)/time.Second)
					a := c.answers[min(n, len(c.answers)-1)][c.wallet]
					if a == "" {
						panic(http.ErrAbortHandler)
					}
					_, _ = io.WriteString(w, s.signed(question, a))
				}
				r, err := w.PayAndWait(t.Context(), payment(t, 1234), 22*time.Second)
				if r.State != c.state || !errors.Is(err, c.err) || !slices.Equal(asked, c.asked) {
					t.Errorf("%+v, %v; asked at %v, want %v", r, err, asked, c.asked)
				}
				if c.state != wallet.Paid && time.Since(began) != 22*time.Second {
					t.Errorf("it took %s", time.Since(began))
				}
				w.Close()
			})
		})
	}
}

// A silent wallet holds nobody longer than patience and one question.
func TestSilentWallet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openShop(t, routing.WeChat, wallet.RSA)
		w := s.way(t, nil)
		s.does = func(_ http.ResponseWriter, r *http.Request, _ string, _ int) { <-r.Context().Done() }
		began := time.Now()
		r, err := w.PayAndWait(t.Context(), payment(t, 1234), 40*time.Second)
		if !errors.Is(err, routing.ErrUnanswered) || r.State != wallet.Unknown {
			t.Errorf("%+v, %v", r, err)
		}
		if took := time.Since(began); took < 40*time.Second || took > 45*time.Second {
			t.Errorf("it took %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		began = time.Now()
		if _, err := w.PayAndWait(ctx, payment(t, 1234), time.Hour); !errors.Is(err, routing.ErrUnanswered) || time.Since(began) != 7*time.Second {
			t.Errorf("given up after %s: %v", time.Since(began), err)
		}
		w.Close()
	})
}

// WeChat takes no cancel within 15 seconds of the payment, and is not asked.
func TestCancelNotTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openShop(t, routing.WeChat, wallet.RSA)
		w := s.way(t, nil)
		o := order(1234)
		time.Sleep(15*time.Second - 1)
		_, err := w.Cancel(t.Context(), o)
		var se *routing.SendError
		if !errors.As(err, &se) || se.Why != wallet.TooEarly || !errors.Is(err, routing.ErrUnreachable) || s.asked.Load() != 0 {
			t.Errorf("%v after %d questions", err, s.asked.Load())
		}
		time.Sleep(time.Until(w.CancelFrom(o)))
		s.script("recall=N", "result_code=FAIL err_code=REFUNDNOTEXIST")
		if r, err := w.Cancel(t.Context(), o); err != nil || r.State != wallet.Closed {
			t.Errorf("%+v, %v", r, err)
		}
		w.Close()
		for _, name := range []string{routing.Alipay, routing.UnionPayQR} {
			w := openShop(t, name, wallet.RSA).way(t, nil)
			if o := order(1234); !w.CancelFrom(o).Equal(o.Made) {
				t.Errorf("%s takes a cancel from %s on", name, w.CancelFrom(o).Sub(o.Made))
			}
		}
	})
}

// A refund that the wallet has taken over is not undone by a question that
// does not get there.
func TestRefundTakenOverAndNoLineLeft(t *testing.T) {
	for name, taken := range map[string]string{routing.WeChat: "out_trade_no=R1 out_refund_no=B1 refund_fee=200", routing.UnionPayQR: "orderId=B1 txnAmt=200"} {
		s := openShop(t, name, wallet.RSA)
		s.does = func(rw http.ResponseWriter, _ *http.Request, question string, _ int) {
			rw.Header().Set("Connection", "close")
			_, _ = io.WriteString(rw, s.signed(question, taken))
		}
		dials := 0
		w := s.way(t, func(c *wallet.Config) {
			dial := c.Dial
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				if dials++; dials > 1 {
					return nil, errors.New("no line")
				}
				return dial(ctx, addr)
			}
		})
		o := order(1234)
		r, err := w.Refund(t.Context(), o, wallet.Refund{Number: "B1", Amount: 200, Made: o.Made})
		if dials != 2 || !errors.Is(err, routing.ErrUnanswered) || errors.Is(err, routing.ErrUnreachable) {
			t.Errorf("%s: %+v, %v after %d dials", name, r, err, dials)
		}
	}
}

// What left the house and what did not (faults 22 to 24).
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openShop(t, routing.WeChat, wallet.RSA)
		s.does = func(_ http.ResponseWriter, r *http.Request, _ string, _ int) { <-r.Context().Done() }
		expect := func(what string, err, target error, why routing.Why) {
			t.Helper()
			var se *routing.SendError
			if !errors.Is(err, target) || !errors.As(err, &se) || se.Why != why {
				t.Errorf("%s: %v, want %v because %s", what, err, target, why)
			}
		}
		ctx := t.Context()
		nobody := func(c *wallet.Config) {
			c.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody listens") }
		}
		_, err := s.way(t, nobody).PayAndWait(ctx, payment(t, 1234), time.Hour)
		expect("nobody listens", err, routing.ErrUnreachable, wallet.Unconnected)
		slow := func(c *wallet.Config) {
			c.Dial = func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}
		began := time.Now()
		_, err = s.way(t, slow).Pay(ctx, payment(t, 1234))
		expect("the connection takes too long", err, routing.ErrUnreachable, wallet.Unconnected)
		if time.Since(began) != 3*time.Second {
			t.Errorf("it took %s to give up connecting", time.Since(began))
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err = s.way(t, nil).Pay(gone, payment(t, 1234))
		expect("given up before", err, routing.ErrUnreachable, routing.Abandoned)
		w := s.way(t, func(c *wallet.Config) { c.Merchants = map[string]string{"898110058120002": "1"} })
		_, err = w.Pay(ctx, payment(t, 1234))
		expect("a merchant without a number there", err, routing.ErrUnreachable, wallet.Unsaid)
		if n := s.asked.Load(); n != 0 {
			t.Fatalf("%d questions left the house", n)
		}

		way := s.way(t, nil)
		_, err = way.Pay(ctx, payment(t, 1234))
		expect("no answer", err, routing.ErrUnanswered, routing.TimedOut)
		one := s.way(t, func(c *wallet.Config) { c.MaxConnections = 1 })
		going, stop := context.WithCancel(ctx)
		given := make(chan error)
		go func() {
			_, err := one.Pay(going, payment(t, 1234))
			given <- err
		}()
		synctest.Wait()
		brief, end := context.WithTimeout(ctx, time.Second)
		defer end()
		_, err = one.Pay(brief, payment(t, 1234))
		expect("no connection was free", err, routing.ErrUnreachable, routing.Abandoned)
		stop()
		expect("given up", <-given, routing.ErrUnanswered, routing.Abandoned)

		// What cannot be a question is not asked.
		n := s.asked.Load()
		for _, change := range []func(*wallet.Payment){
			func(p *wallet.Payment) { p.Number = "" }, func(p *wallet.Payment) { p.Number = strings.Repeat("R", 33) }, func(p *wallet.Payment) { p.Number = "R-1" },
			func(p *wallet.Payment) { p.Code = routing.PayCode{} }, func(p *wallet.Payment) { p.Amount = 0 }, func(p *wallet.Payment) { p.Amount = -1 },
		} {
			bad := payment(t, 1234)
			change(&bad)
			_, err := way.PayAndWait(ctx, bad, time.Hour)
			expect("a bad payment", err, routing.ErrUnreachable, wallet.Unsaid)
		}
		_, err = way.Query(ctx, wallet.Order{Number: "R 1"})
		expect("a bad query", err, routing.ErrUnreachable, wallet.Unsaid)
		_, err = way.Cancel(ctx, wallet.Order{})
		expect("a bad cancel", err, routing.ErrUnreachable, wallet.Unsaid)
		for _, r := range []wallet.Refund{{Number: "", Amount: 1}, {Number: "B1", Amount: 0}, {Number: "B1", Amount: 1235}} {
			_, err = way.Refund(ctx, order(1234), r)
			expect("a bad refund", err, routing.ErrUnreachable, wallet.Unsaid)
		}
		if s.asked.Load() != n {
			t.Error("a bad question was asked")
		}
		way.Close()
		one.Close()
	})
}

// WeChat's cancels and refunds want the merchant's certificate on the line.
func TestClientCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/secapi/") && len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		s := &shop{name: routing.WeChat}
		var err error
		if s.hmac, err = wallet.NewHMAC(simwallet.TestAPIKey); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, s.signed("", "recall=N out_trade_no=R1 out_refund_no_0=x refund_status_0=SUCCESS"))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "merchant"}},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for _, with := range []bool{false, true} {
		conf := &tls.Config{RootCAs: roots}
		if with {
			conf.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
		}
		w, err := wallet.New(wallet.Config{Name: routing.WeChat, URL: server.URL, Wire: simwallet.TestWire(routing.WeChat, wallet.RSA), TLS: conf, CancelAfter: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.Cancel(t.Context(), wallet.Order{Number: "R1", Merchant: "898110058120001", Amount: 1})
		if with != (err == nil) || with != (r.State == wallet.Refunded) {
			t.Errorf("with a certificate %v: %+v, %v", with, r, err)
		}
		w.Close()
	}
	// A certificate that no root vouches for is no wallet.
	w, err := wallet.New(wallet.Config{Name: routing.WeChat, URL: server.URL, Wire: simwallet.TestWire(routing.WeChat, wallet.RSA)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Pay(t.Context(), payment(t, 1234)); !errors.Is(err, routing.ErrUnreachable) {
		t.Errorf("a stranger: %v", err)
	}
}

func TestConfig(t *testing.T) {
	good := wallet.Config{Name: routing.Alipay, URL: "https://127.0.0.1:1/x", Wire: simwallet.TestWire(routing.Alipay, wallet.RSA)}
	for what, change := range map[string]func(*wallet.Config){
		"no name": func(c *wallet.Config) { c.Name = "" }, "no wire": func(c *wallet.Config) { c.Wire = nil }, "no URL": func(c *wallet.Config) { c.URL = "" },
		"ftp": func(c *wallet.Config) { c.URL = "ftp://x" }, "no host": func(c *wallet.Config) { c.URL = "http://" }, "a query": func(c *wallet.Config) { c.URL += "?a=b" },
		"a password": func(c *wallet.Config) { c.URL = "https://u:p@x" }, "negative": func(c *wallet.Config) { c.Timeout = -1 },
		"connections": func(c *wallet.Config) { c.MaxConnections = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := wallet.New(bad); err == nil {
			t.Errorf("%s passed", what)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: the error shows a password: %v", what, err)
		}
	}
	w, err := wallet.New(good)
	if err != nil || w.Name() != routing.Alipay || w.Timeout() != 5*time.Second {
		t.Errorf("%v %v", w, err)
	}
	for _, name := range routing.Wallets {
		wire := simwallet.TestWire(name, wallet.RSA)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			out := fmt.Sprintf(verb, wire)
			if strings.Contains(out, simwallet.TestAPIKey) || len(out) > 200 {
				t.Errorf("a key prints: %s", out)
			}
		}
	}
	for s, want := range map[wallet.State]bool{wallet.Unknown: false, wallet.BuyerPaying: false, wallet.NoOrder: false, wallet.Paid: true, wallet.Failed: true, wallet.Closed: true, wallet.Refunded: true} {
		if s.Final() != want || s.String() == "" {
			t.Errorf("%s is final: %v", s, s.Final())
		}
	}
	if wallet.State(99).String() != "wallet state 99" {
		t.Error(wallet.State(99).String())
	}
}

// Keys in every form that wallets and OpenSSL give them, and what is none.
func TestKeys(t *testing.T) {
	for _, kind := range []string{wallet.RSA, wallet.SM2} {
		ours, err := wallet.NewSigner(kind, simwallet.TestKey("acquirer", kind, true), simwallet.TestKey("wallet", kind, false))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := wallet.NewSigner(kind, simwallet.TestKey("wallet", kind, true), simwallet.TestKey("acquirer", kind, false))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := ours.Sign([]byte("text"))
		if err != nil || !theirs.Verify([]byte("text"), sig) || theirs.Verify([]byte("texts"), sig) || ours.Verify([]byte("text"), sig) || theirs.Verify([]byte("text"), nil) {
			t.Errorf("%s: %v", kind, err)
		}
		bare := strings.Split(strings.TrimSpace(simwallet.TestKey("acquirer", kind, true)), "\n")
		if _, err := wallet.NewSigner(kind, strings.Join(bare[1:len(bare)-1], ""), simwallet.TestKey("wallet", kind, false)); err != nil {
			t.Errorf("%s, base64 alone: %v", kind, err)
		}
		for what, pair := range map[string][2]string{
			"no key": {"", simwallet.TestKey("wallet", kind, false)}, "a public key as ours": {simwallet.TestKey("wallet", kind, false), simwallet.TestKey("wallet", kind, false)},
			"no public key": {simwallet.TestKey("acquirer", kind, true), "secret text"}, "another kind": {simwallet.TestKey("acquirer", other(kind), true), simwallet.TestKey("wallet", other(kind), false)},
		} {
			if _, err := wallet.NewSigner(kind, pair[0], pair[1]); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, %s: %v", kind, what, err)
			}
		}
	}
	if _, err := wallet.NewSigner("md5", simwallet.TestKey("acquirer", wallet.RSA, true), simwallet.TestKey("wallet", wallet.RSA, false)); err == nil {
		t.Error("md5 passed")
	}
	for _, key := range []string{"", "short", "with a blank in between"} {
		if _, err := wallet.NewHMAC(key); err == nil {
			t.Errorf("%q passed", key)
		}
	}
}

func other(kind string) string {
	if kind == wallet.RSA {
		return wallet.SM2
	}
	return wallet.RSA
}

// What is asked is counted by question, what has no answer by whether it left.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openShop(t, routing.Alipay, wallet.RSA)
		met := wallet.NewMetrics()
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(met)
		w := s.way(t, func(c *wallet.Config) { c.Metrics = met })
		s.script("", paid[routing.Alipay], unsure[routing.Alipay])
		for range 3 {
			_, _ = w.Pay(t.Context(), payment(t, 1234)) // counted, whichever it is
		}
		families, err := reg.Gather()
		if err != nil || len(families) != 2 {
			t.Fatalf("%d families, %v", len(families), err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				switch label := fmt.Sprint(m.GetLabel()); {
				case f.GetName() == "acquirer_wallet_seconds" && m.GetHistogram().GetSampleCount() != 2,
					strings.Contains(label, "unanswered") && m.GetCounter().GetValue() != 1,
					strings.Contains(label, "unreachable") && m.GetCounter().GetValue() != 0:
					t.Errorf("%s %s %v", f.GetName(), label, m)
				}
			}
		}
		w.Close()
	})
}

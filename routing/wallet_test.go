package routing

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/money"
)

var walletTestKey = []byte("a key of twenty bytes")

// shop is a wallet's server that answers with whatever the test says, rightly
// signed, and counts the questions.
type shop struct {
	*httptest.Server
	asked  atomic.Int32
	answer atomic.Pointer[func(w http.ResponseWriter, r *http.Request, q map[string]any, sign func(status int, body string))]
}

func openShop(t *testing.T) *shop {
	t.Helper()
	s := new(shop)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client broke off
		}
		h := hmac.New(sha256.New, walletTestKey)
		fmt.Fprintf(h, "%s\n%s\n%s\n%s", r.Method, r.URL.Path, r.Header.Get("Wallet-Time"), body)
		signature := hex.EncodeToString(h.Sum(nil))
		if r.Header.Get("Wallet-Signature") != signature {
			t.Errorf("the question %s %s is not signed", r.URL.Path, body)
		}
		var q map[string]any
		if err := json.Unmarshal(body, &q); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		(*s.answer.Load())(w, r, q, func(status int, body string) {
			h := hmac.New(sha256.New, walletTestKey)
			fmt.Fprintf(h, "%s\n%d\n%s", signature, status, body)
			w.Header().Set("Wallet-Signature", hex.EncodeToString(h.Sum(nil)))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *shop) does(f func(w http.ResponseWriter, r *http.Request, q map[string]any, sign func(int, string))) {
	s.answer.Store(&f)
}

func (s *shop) says(status int, body string) {
	s.does(func(_ http.ResponseWriter, _ *http.Request, _ map[string]any, sign func(int, string)) {
		sign(status, body)
	})
}

func purse(t *testing.T, url string, change func(*WalletConfig)) *Wallet {
	t.Helper()
	mac, err := WalletKey(walletTestKey)
	if err != nil {
		t.Fatal(err)
	}
	cfg := WalletConfig{Name: WeChat, URL: url, MAC: mac, AskMin: time.Millisecond, AskMax: 2 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	w, err := NewWallet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

const walletCode = "134567890123456789"

func payment(t *testing.T, amount money.Amount) WalletPayment {
	t.Helper()
	c, err := ParsePayCode(walletCode)
	if err != nil {
		t.Fatal(err)
	}
	return WalletPayment{Order: "R1", Code: c, Amount: amount, Merchant: "898110058120001", Terminal: "11000001", Name: "老王烧烤"}
}

const paidAnswer = `{"order":"R1","state":"PAID","fen":1234,"transaction":"w2026","voucher":"26080700000000000001","paid_at":1786060800000,"more":[1]}`

func TestWalletAnswers(t *testing.T) {
	s := openShop(t)
	w := purse(t, s.URL+"/wechat/", nil)
	ctx := t.Context()
	s.does(func(_ http.ResponseWriter, r *http.Request, q map[string]any, sign func(int, string)) {
		if r.Method != "POST" || r.URL.Path != "/wechat/v1/pay" || q["order"] != "R1" || q["code"] != walletCode || q["fen"] != 1234.0 || q["name"] != "老王烧烤" ||
			q["merchant"] != "898110058120001" || q["terminal"] != "11000001" || r.Header.Get("Idempotency-Key") != "" {
			t.Errorf("asked %s %v", r.URL.Path, q)
		}
		sign(200, paidAnswer)
	})
	want := WalletResult{State: Paid, Order: "R1", Amount: 1234, Transaction: "w2026", Voucher: "26080700000000000001", PaidAt: time.UnixMilli(1786060800000)}
	if r, err := w.Pay(ctx, payment(t, 1234)); err != nil || r != want {
		t.Errorf("paid: %+v, %v", r, err)
	}
	pay := func() (WalletResult, error) { return w.Pay(ctx, payment(t, 1234)) }
	query := func() (WalletResult, error) { return w.Query(ctx, "R1") }
	cancel := func() (WalletResult, error) { return w.Cancel(ctx, "R1") }
	refund := func() (WalletResult, error) { return w.Refund(ctx, "R1", "B1", 200) }
	for _, c := range []struct {
		what   string
		ask    func() (WalletResult, error)
		status int
		body   string
		state  WalletState
		code   string
	}{
		{"pay", pay, 200, `{"order":"R1","state":"PAYING","fen":1234}`, BuyerPaying, ""},
		{"pay", pay, 200, `{"order":"R1","state":"FAILED","fen":1234,"code":"NOT_ENOUGH"}`, Failed, NotEnough},
		{"pay", pay, 409, `{"order":"R1","state":"REFUSED","code":"ORDER_CONFLICT"}`, Failed, OrderConflict},
		{"pay", pay, 400, `{"order":"R1","state":"REFUSED","code":"BAD_REQUEST"}`, Failed, BadRequest},
		{"pay", pay, 200, `{"order":"R1","state":"CLOSED"}`, Closed, ""},
		{"pay", pay, 200, `{"order":"R1","state":"REFUNDED","fen":1234,"refunded":1234}`, Refunded, ""},
		{"query", query, 200, paidAnswer, Paid, ""},
		{"query", query, 200, `{"order":"R1","state":"NO_ORDER"}`, NoOrder, ""},
		{"query", query, 200, `{"order":"R1","state":"FAILED","code":"BUYER_REFUSED"}`, Failed, BuyerRefused},
		{"cancel", cancel, 200, `{"order":"R1","state":"CLOSED"}`, Closed, ""},
		{"cancel", cancel, 200, `{"order":"R1","state":"REFUNDED","fen":1,"refunded":1}`, Refunded, ""},
		{"refund", refund, 200, `{"order":"R1","refund":"B1","state":"RETURNED","fen":1234,"refunded":300}`, Refunded, ""},
		{"refund", refund, 200, `{"order":"R1","refund":"B1","state":"FAILED","fen":1234,"refunded":1234,"code":"OVER_REFUND"}`, Failed, OverRefund},
		{"refund", refund, 409, `{"order":"R1","refund":"B1","state":"REFUSED","code":"ORDER_CONFLICT"}`, Failed, OrderConflict},
	} {
		s.says(c.status, c.body)
		if r, err := c.ask(); err != nil || r.State != c.state || r.Code != c.code || r.Order != "R1" {
			t.Errorf("%s, %s: %+v, %v", c.what, c.body, r, err)
		}
	}
}

// A wallet that answers nonsense never makes a payment succeed or fail: it is
// unanswered, and asked once.
func TestWalletDistrusts(t *testing.T) {
	s := openShop(t)
	w := purse(t, s.URL, nil)
	replace := func(old, new string) string { return strings.Replace(paidAnswer, old, new, 1) }
	signed := func(status int, body string) func(http.ResponseWriter, *http.Request, map[string]any, func(int, string)) {
		return func(_ http.ResponseWriter, _ *http.Request, _ map[string]any, sign func(int, string)) {
			sign(status, body)
		}
	}
	for what, does := range map[string]func(http.ResponseWriter, *http.Request, map[string]any, func(int, string)){
		"nothing":           signed(200, ""),
		"a page":            signed(200, "<html>log in</html>"),
		"HTTP 500":          signed(500, paidAnswer),
		"HTTP 503":          signed(503, `{"order":"R1","state":"FAILED"}`),
		"HTTP 404":          signed(404, `{"order":"R1","state":"REFUSED"}`),
		"paid with 409":     signed(409, paidAnswer),
		"refused with 200":  signed(200, `{"order":"R1","state":"REFUSED"}`),
		"another order":     signed(200, replace("R1", "R2")),
		"another amount":    signed(200, replace("1234", "1235")),
		"no amount":         signed(200, replace("1234", "0")),
		"a fraction":        signed(200, replace("1234", "12.34")),
		"below zero":        signed(200, replace("1234", "-1234")),
		"over-refunded":     signed(200, replace(`"more"`, `"refunded":1235,"more"`)),
		"half refunded":     signed(200, `{"order":"R1","state":"REFUNDED","fen":1234,"refunded":1}`),
		"a strange state":   signed(200, replace("PAID", "MAYBE")),
		"no state":          signed(200, replace("PAID", "")),
		"not to this":       signed(200, `{"order":"R1","state":"NO_ORDER"}`),
		"nor this":          signed(200, `{"order":"R1","state":"RETURNED","fen":1234,"refunded":1234}`),
		"a long voucher":    signed(200, replace("26080700000000000001", "260807000000000000012")),
		"a strange voucher": signed(200, replace("26080700000000000001", "付款")),
		"it does not know":  signed(200, `{"order":"R1","state":"UNKNOWN"}`),
		"too much":          signed(200, replace(`[1]`, `"`+strings.Repeat("x", maxWalletAnswer)+`"`)),
		"redirect": func(w http.ResponseWriter, r *http.Request, _ map[string]any, _ func(int, string)) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"unsigned": func(w http.ResponseWriter, _ *http.Request, _ map[string]any, _ func(int, string)) {
			_, _ = io.WriteString(w, paidAnswer)
		},
		"signed for another question": func(w http.ResponseWriter, _ *http.Request, _ map[string]any, _ func(int, string)) {
			h := hmac.New(sha256.New, walletTestKey)
			fmt.Fprintf(h, "%064d\n%d\n%s", 0, 200, paidAnswer)
			w.Header().Set("Wallet-Signature", hex.EncodeToString(h.Sum(nil)))
			_, _ = io.WriteString(w, paidAnswer)
		},
		"a broken line": func(http.ResponseWriter, *http.Request, map[string]any, func(int, string)) {
			panic(http.ErrAbortHandler)
		},
		"half an answer": func(w http.ResponseWriter, _ *http.Request, _ map[string]any, _ func(int, string)) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, paidAnswer)
			panic(http.ErrAbortHandler)
		},
	} {
		s.does(does)
		s.asked.Store(0)
		r, err := w.Pay(t.Context(), payment(t, 1234))
		var se *SendError
		if !errors.Is(err, ErrUnanswered) || errors.Is(err, ErrUnreachable) || !errors.As(err, &se) || !se.Wallet || se.Issuer != WeChat || r != (WalletResult{}) {
			t.Errorf("%s: %+v, %v", what, r, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), "routing: wallet wechat: ") || strings.Contains(err.Error(), walletCode) {
			t.Errorf("%s: %v", what, err)
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("%s: asked %d times", what, n)
		}
	}
	s.says(200, `{"order":"R1","refund":"B2","state":"RETURNED","fen":1234,"refunded":300}`)
	if r, err := w.Refund(t.Context(), "R1", "B1", 200); !errors.Is(err, ErrUnanswered) {
		t.Errorf("another refund: %+v, %v", r, err)
	}
	s.says(200, `{"order":"R1","refund":"B1","state":"RETURNED","fen":1234,"refunded":199}`)
	if r, err := w.Refund(t.Context(), "R1", "B1", 200); !errors.Is(err, ErrUnanswered) {
		t.Errorf("a part of the refund: %+v, %v", r, err)
	}
	// A question refused for good is not repeated, and is no word on the order.
	s.says(400, `{"order":"R1","state":"REFUSED","code":"BAD_REQUEST"}`)
	s.asked.Store(0)
	for what, ask := range map[string]func(context.Context, string) (WalletResult, error){"query": w.Query, "cancel": w.Cancel} {
		var se *SendError
		if r, err := ask(t.Context(), "R1"); !errors.As(err, &se) || se.Why != Refused || !se.Left {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	if n := s.asked.Load(); n != 2 {
		t.Errorf("two refused questions were asked %d times", n)
	}
}

// What left the house and what did not.
func TestWalletLeaving(t *testing.T) {
	s := openShop(t)
	let, came := make(chan struct{}), make(chan struct{}, 10)
	s.does(func(_ http.ResponseWriter, r *http.Request, _ map[string]any, _ func(int, string)) {
		came <- struct{}{}
		select {
		case <-let:
		case <-r.Context().Done():
		}
	})
	expect := func(what string, err, target error, why Why) {
		t.Helper()
		var se *SendError
		if !errors.Is(err, target) || !errors.As(err, &se) || se.Why != why {
			t.Errorf("%s: %v, want %v because %s", what, err, target, why)
		}
	}
	ctx := t.Context()

	_, err := purse(t, "http://127.0.0.1:1", nil).Pay(ctx, payment(t, 1234))
	expect("nobody listens", err, ErrUnreachable, Unconnected)
	_, err = purse(t, "https"+strings.TrimPrefix(s.URL, "http"), nil).Pay(ctx, payment(t, 1234))
	expect("it speaks no TLS", err, ErrUnreachable, Unconnected)
	_, err = purse(t, s.URL, func(c *WalletConfig) {
		c.Dial = func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		c.ConnectTimeout = time.Millisecond
	}).Pay(ctx, payment(t, 1234))
	expect("the connection takes too long", err, ErrUnreachable, Unconnected)
	_, err = purse(t, s.URL, func(c *WalletConfig) {
		c.MAC = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("the HSM is away") }
	}).Pay(ctx, payment(t, 1234))
	expect("it cannot be signed", err, ErrUnreachable, Unsigned)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = purse(t, s.URL, nil).Pay(gone, payment(t, 1234))
	expect("given up before", err, ErrUnreachable, Abandoned)
	if n := s.asked.Load(); n != 0 {
		t.Fatalf("%d questions left the house", n)
	}

	_, err = purse(t, s.URL, func(c *WalletConfig) { c.Timeout = 300 * time.Millisecond }).Pay(ctx, payment(t, 1234))
	expect("no answer", err, ErrUnanswered, TimedOut)
	<-came
	going, cancel := context.WithCancel(ctx)
	one := purse(t, s.URL, func(c *WalletConfig) { c.MaxConnections = 1 })
	given := make(chan error)
	go func() {
		_, err := one.Pay(going, payment(t, 1234))
		given <- err
	}()
	<-came
	brief, stop := context.WithTimeout(ctx, 20*time.Millisecond)
	defer stop()
	_, err = one.Pay(brief, payment(t, 1234))
	expect("no connection was free", err, ErrUnreachable, Abandoned)
	cancel()
	expect("given up", <-given, ErrUnanswered, Abandoned)
	close(let)

	// What cannot be a question is not asked.
	n := s.asked.Load()
	w := purse(t, s.URL, nil)
	for _, p := range []func(*WalletPayment){
		func(p *WalletPayment) { p.Order = "" }, func(p *WalletPayment) { p.Order = strings.Repeat("R", 33) }, func(p *WalletPayment) { p.Order = "R-1" },
		func(p *WalletPayment) { p.Code = PayCode{} }, func(p *WalletPayment) { p.Amount = 0 }, func(p *WalletPayment) { p.Amount = -1 },
	} {
		bad := payment(t, 1234)
		p(&bad)
		_, err := w.PayAndWait(ctx, bad, time.Hour)
		expect("a bad payment", err, ErrUnreachable, Unsigned)
	}
	_, err = w.Query(ctx, "R 1")
	expect("a bad query", err, ErrUnreachable, Unsigned)
	_, err = w.Cancel(ctx, "")
	expect("a bad cancel", err, ErrUnreachable, Unsigned)
	_, err = w.Refund(ctx, "R1", "", 1)
	expect("a bad refund", err, ErrUnreachable, Unsigned)
	_, err = w.Refund(ctx, "R1", "B1", 0)
	expect("a refund of nothing", err, ErrUnreachable, Unsigned)
	if s.asked.Load() != n {
		t.Error("a bad question was asked")
	}
}

// PayAndWait follows the buyer to the end, or to the end of its patience.
func TestPayAndWait(t *testing.T) {
	s := openShop(t)
	script := func(answers ...string) {
		var i atomic.Int32
		s.asked.Store(0)
		s.does(func(w http.ResponseWriter, r *http.Request, _ map[string]any, sign func(int, string)) {
			k := int(i.Add(1)) - 1
			if (k == 0) != strings.HasSuffix(r.URL.Path, "/pay") {
				t.Errorf("question %d is %s", k, r.URL.Path)
			}
			switch a := answers[min(k, len(answers)-1)]; a {
			case "":
				panic(http.ErrAbortHandler)
			default:
				sign(200, a)
			}
		})
	}
	const typing, failed, none = `{"order":"R1","state":"PAYING","fen":1234}`, `{"order":"R1","state":"FAILED","code":"BUYER_REFUSED"}`, `{"order":"R1","state":"NO_ORDER"}`
	other := strings.Replace(paidAnswer, "1234", "1235", 1)
	w := purse(t, s.URL, nil)
	for what, c := range map[string]struct {
		answers  []string
		patience time.Duration
		state    WalletState
		err      error
		asked    int32 // at least
	}{
		"paid":              {[]string{paidAnswer}, time.Minute, Paid, nil, 1},
		"typing, then paid": {[]string{typing, typing, "", typing, paidAnswer}, time.Minute, Paid, nil, 5},
		"typing, then not":  {[]string{typing, typing, failed}, time.Minute, Failed, nil, 3},
		"lost, then paid":   {[]string{"", "", none, paidAnswer}, time.Minute, Paid, nil, 4},
		"lost and failed":   {[]string{"", failed}, time.Minute, Failed, nil, 2},
		"typing for ever":   {[]string{typing}, 300 * time.Millisecond, BuyerPaying, nil, 3},
		"typing, then lost": {[]string{typing, ""}, 300 * time.Millisecond, BuyerPaying, nil, 3},
		"never a word":      {[]string{""}, 300 * time.Millisecond, WalletUnknown, ErrUnanswered, 3},
		"never arrived":     {[]string{"", none}, 300 * time.Millisecond, WalletUnknown, ErrUnanswered, 3},
		"another amount":    {[]string{"", other}, 300 * time.Millisecond, WalletUnknown, ErrUnanswered, 3},
		"no patience":       {[]string{typing}, time.Nanosecond, WalletUnknown, ErrUnreachable, 0},
	} {
		script(c.answers...)
		r, err := w.PayAndWait(t.Context(), payment(t, 1234), c.patience)
		if r.State != c.state || !errors.Is(err, c.err) || s.asked.Load() < c.asked {
			t.Errorf("%s: %+v, %v after %d questions", what, r, err, s.asked.Load())
		}
	}
	script(typing)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, err := w.PayAndWait(ctx, payment(t, 1234), time.Hour); err != nil || r.State != BuyerPaying {
		t.Errorf("given up: %+v, %v", r, err)
	}
	if r, err := purse(t, "http://127.0.0.1:1", nil).PayAndWait(t.Context(), payment(t, 1234), time.Hour); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody listens: %+v, %v", r, err)
	}
}

// Cancel is repeated until it is final, whatever stands in its way.
func TestCancelIsRepeated(t *testing.T) {
	s := openShop(t)
	var i atomic.Int32
	s.does(func(_ http.ResponseWriter, _ *http.Request, _ map[string]any, sign func(int, string)) {
		switch i.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			sign(500, `{"order":"R1","state":"CLOSED"}`)
		case 3:
			sign(200, `{"order":"R1","state":"UNKNOWN"}`)
		case 4:
			sign(200, paidAnswer) // no answer to a cancel
		default:
			sign(200, `{"order":"R1","state":"REFUNDED","fen":1234,"refunded":1234}`)
		}
	})
	met := NewWalletMetrics()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(met)
	w := purse(t, s.URL, func(c *WalletConfig) { c.Metrics = met })
	if r, err := w.Cancel(t.Context(), "R1"); err != nil || r.State != Refunded || i.Load() != 5 {
		t.Errorf("%+v, %v after %d", r, err, i.Load())
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch label := fmt.Sprint(m.GetLabel()); {
			case f.GetName() == "acquirer_wallet_seconds" && m.GetHistogram().GetSampleCount() != 3,
				strings.Contains(label, "unanswered") && m.GetCounter().GetValue() != 2,
				strings.Contains(label, "unreachable") && m.GetCounter().GetValue() != 0:
				t.Errorf("%s %s %v", f.GetName(), label, m)
			}
		}
	}
	if len(families) != 2 {
		t.Errorf("%d families of metrics", len(families))
	}
	s.does(func(http.ResponseWriter, *http.Request, map[string]any, func(int, string)) {
		panic(http.ErrAbortHandler)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, err := w.Cancel(ctx, "R1"); !errors.Is(err, ErrUnanswered) {
		t.Errorf("never answered: %+v, %v", r, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, err := purse(t, "http://127.0.0.1:1", nil).Cancel(ctx, "R1"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody listens: %+v, %v", r, err)
	}
}

func TestWalletConfig(t *testing.T) {
	mac, err := WalletKey(walletTestKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := WalletKey(walletTestKey[:15]); err == nil {
		t.Error("a short key passed")
	}
	good := WalletConfig{Name: Alipay, URL: "https://127.0.0.1:1/x", MAC: mac}
	for what, change := range map[string]func(*WalletConfig){
		"no name": func(c *WalletConfig) { c.Name = "" }, "no key": func(c *WalletConfig) { c.MAC = nil }, "no URL": func(c *WalletConfig) { c.URL = "" },
		"ftp": func(c *WalletConfig) { c.URL = "ftp://x" }, "no host": func(c *WalletConfig) { c.URL = "http://" }, "a query": func(c *WalletConfig) { c.URL += "?a=b" },
		"a password": func(c *WalletConfig) { c.URL = "https://u:p@x" }, "negative": func(c *WalletConfig) { c.Timeout = -1 },
		"connections": func(c *WalletConfig) { c.MaxConnections = -1 }, "pauses": func(c *WalletConfig) { c.AskMin, c.AskMax = 2, 1 },
	} {
		bad := good
		change(&bad)
		if _, err := NewWallet(bad); err == nil {
			t.Errorf("%s passed", what)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: the error shows a password: %v", what, err)
		}
	}
	w, err := NewWallet(good)
	if err != nil || w.Name() != Alipay || w.Timeout() != 5*time.Second {
		t.Errorf("%v %v", w, err)
	}
	if strings.Contains(fmt.Sprintf("%+v %#v", good, w.cfg), string(walletTestKey)) {
		t.Error("the key prints")
	}
	for s, want := range map[WalletState]bool{WalletUnknown: false, BuyerPaying: false, NoOrder: false, Paid: true, Failed: true, Closed: true, Refunded: true} {
		if s.Final() != want || s.String() == "" {
			t.Errorf("%s is final: %v", s, s.Final())
		}
	}
	if WalletState(99).String() != "wallet state 99" {
		t.Error(WalletState(99).String())
	}
}

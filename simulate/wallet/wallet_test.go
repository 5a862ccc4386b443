package simwallet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/money"
	"acquirer/routing"
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

// open starts wallets whose silences are short enough to be waited for.
func open(t *testing.T, cfg Config) *Wallets {
	t.Helper()
	s, err := Start("127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func client(t *testing.T, s *Wallets, name string, change func(*routing.WalletConfig)) *routing.Wallet {
	t.Helper()
	mac, err := routing.WalletKey(TestKey(name))
	if err != nil {
		t.Fatal(err)
	}
	cfg := routing.WalletConfig{Name: name, URL: s.URL(name), MAC: mac, AskMin: time.Millisecond, AskMax: 4 * time.Millisecond, Timeout: 10 * time.Second}
	if change != nil {
		change(&cfg)
	}
	w, err := routing.NewWallet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func brief(c *routing.WalletConfig) { c.Timeout = 100 * time.Millisecond }

func code(t *testing.T, n int) routing.PayCode {
	t.Helper()
	c, err := routing.ParsePayCode(fmt.Sprintf("13%016d", n))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sale(t *testing.T, n int, amount money.Amount) routing.WalletPayment {
	t.Helper()
	return routing.WalletPayment{Order: fmt.Sprintf("R%d", n), Code: code(t, n), Amount: amount, Merchant: "898110058120001", Terminal: "11000001", Name: "老王烧烤"}
}

// Every amount of the table: what the payment is answered, what a query says,
// and that a cancel leaves nothing standing.
func TestWeather(t *testing.T) {
	// An amount without silence is given time; one with it is not waited for.
	s := open(t, Config{Typing: time.Millisecond, Late: time.Second})
	patient, quick := client(t, s, routing.WeChat, nil), client(t, s, routing.WeChat, brief)
	type want struct {
		pay   routing.WalletState // WalletUnknown is ErrUnanswered
		code  string
		query routing.WalletState
		end   routing.WalletState
	}
	lost := want{routing.WalletUnknown, "", routing.Paid, routing.Refunded}
	wants := map[int]want{
		0:  {routing.Paid, "", routing.Paid, routing.Refunded},
		51: {routing.Failed, routing.NotEnough, routing.Failed, routing.Closed},
		52: {routing.Failed, routing.CodeInvalid, routing.Failed, routing.Closed},
		54: {routing.Failed, routing.CodeExpired, routing.Failed, routing.Closed},
		55: {routing.Failed, routing.BuyerRefused, routing.Failed, routing.Closed},
		57: {routing.Failed, routing.NotPermitted, routing.Failed, routing.Closed},
		61: {routing.Failed, routing.OverLimit, routing.Failed, routing.Closed},
		80: {routing.BuyerPaying, "", routing.BuyerPaying, routing.Closed},
		81: {routing.BuyerPaying, "", routing.Paid, routing.Refunded},
		82: {routing.BuyerPaying, "", routing.BuyerPaying, routing.Closed},
		83: {routing.BuyerPaying, "", routing.BuyerPaying, routing.Closed},
		84: {routing.WalletUnknown, "", routing.WalletUnknown, routing.Refunded},
		86: lost, 87: lost, 88: lost, 89: lost, 90: lost,
		92: {routing.WalletUnknown, "", routing.NoOrder, routing.Closed},
		93: lost, 94: lost, 95: lost, 96: lost,
		97: {routing.WalletUnknown, "", routing.NoOrder, routing.Closed},
		98: lost,
		99: {routing.WalletUnknown, "", routing.NoOrder, routing.Closed},
	}
	amounts := append(Storms(), money.Yuan(20))
	if len(amounts) != len(wants) {
		t.Fatalf("%d amounts in the table, %d here", len(amounts), len(wants))
	}
	for n, amount := range amounts {
		n := n + 1
		digits := int(amount % 100)
		c := wants[digits]
		w := patient
		if strings.Contains(storms[digits].what, "answer") || c.query == routing.NoOrder {
			w = quick
		}
		p := sale(t, n, amount)
		r, err := w.Pay(t.Context(), p)
		if r.State != c.pay || r.Code != c.code || (err != nil) != (c.pay == routing.WalletUnknown) || err != nil && !errors.Is(err, routing.ErrUnanswered) {
			t.Errorf(".%02d %s: pay: %+v, %v", digits, storms[digits].what, r, err)
		}
		if r.State == routing.Paid && (len(r.Voucher) != 20 || r.Transaction == "" || r.Amount != amount || time.Since(r.PaidAt).Abs() > time.Minute) {
			t.Errorf(".%02d: %+v", digits, r)
		}
		if digits == 81 {
			if err := s.Await(t.Context(), routing.WeChat, p.Order, func(o *Order) bool { return o.State == Paid }); err != nil {
				t.Fatal(err)
			}
		}
		if r, err = patient.Query(t.Context(), p.Order); r.State != c.query || (err != nil) != (c.query == routing.WalletUnknown) {
			t.Errorf(".%02d %s: query: %+v, %v", digits, storms[digits].what, r, err)
		}
		if r, err = quick.Cancel(t.Context(), p.Order); err != nil || r.State != c.end {
			t.Errorf(".%02d %s: cancel: %+v, %v", digits, storms[digits].what, r, err)
		}
		// A payment on its way is let arrive; it finds the order closed.
		if digits == 99 {
			if err := s.Await(t.Context(), routing.WeChat, p.Order, func(o *Order) bool { return o.Pays == 1 }); err != nil {
				t.Fatal(err)
			}
		}
		for _, ask := range []func() (routing.WalletResult, error){
			func() (routing.WalletResult, error) { return patient.Cancel(t.Context(), p.Order) },
			func() (routing.WalletResult, error) { return patient.Pay(t.Context(), p) },
			func() (routing.WalletResult, error) { return patient.Query(t.Context(), p.Order) },
		} {
			if digits == 84 { // keeps its secret for a query more
				if _, err := patient.Query(t.Context(), p.Order); err != nil && !errors.Is(err, routing.ErrUnanswered) {
					t.Error(err)
				}
			}
			if r, err = ask(); err != nil || r.State != c.end {
				t.Errorf(".%02d %s: after the cancel: %+v, %v", digits, storms[digits].what, r, err)
			}
		}
		if o, ok := s.Order(routing.WeChat, p.Order); !ok || o.Standing() != 0 {
			t.Errorf(".%02d: %s stands of %+v", digits, o.Standing(), o)
		}
	}
	if len(strings.Split(strings.TrimSpace(AmountTable()), "\n")) != len(Storms()) {
		t.Error("the table of amounts is not the table of storms")
	}
}

// The buyer who types: queries bring the end, and PayAndWait waits for it.
func TestTyping(t *testing.T) {
	s := open(t, Config{Asks: 3, Typing: 20 * time.Millisecond})
	w := client(t, s, routing.WeChat, nil)
	for n, c := range []struct {
		amount money.Amount
		state  routing.WalletState
	}{{20_80, routing.Paid}, {20_81, routing.Paid}, {20_83, routing.Failed}, {20_84, routing.Paid}} {
		w := w
		if c.amount == 20_84 {
			w = client(t, s, routing.WeChat, brief)
		}
		if r, err := w.PayAndWait(t.Context(), sale(t, n, c.amount), time.Minute); err != nil || r.State != c.state {
			t.Errorf("%s: %+v, %v", c.amount, r, err)
		}
	}
	p := sale(t, 10, 20_82)
	if r, err := w.PayAndWait(t.Context(), p, 300*time.Millisecond); err != nil || r.State != routing.BuyerPaying {
		t.Errorf("%+v, %v", r, err)
	}
	if s.Decide(routing.Alipay, p.Order, true) || s.Decide(routing.WeChat, "nobody", true) {
		t.Error("decided for nobody")
	}
	done := make(chan routing.WalletState)
	go func() {
		r, err := w.PayAndWait(t.Context(), p, time.Minute)
		if err != nil {
			t.Error(err)
		}
		done <- r.State
	}()
	if err := s.Await(t.Context(), routing.WeChat, p.Order, func(o *Order) bool { return o.Pays == 2 }); err != nil {
		t.Fatal(err)
	}
	if !s.Decide(routing.WeChat, p.Order, true) || s.Decide(routing.WeChat, p.Order, false) {
		t.Error("the buyer did not decide once")
	}
	if state := <-done; state != routing.Paid {
		t.Errorf("decided: %s", state)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Await(ended, routing.WeChat, "nobody", func(*Order) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("awaited nobody: %v", err)
	}
}

// An order pays once, a code pays one order, and a number belongs to one order.
func TestOnce(t *testing.T) {
	s := open(t, Config{})
	w := client(t, s, routing.WeChat, nil)
	ctx := t.Context()
	p := sale(t, 1, 10_00)
	first, err := w.Pay(ctx, p)
	if err != nil || first.State != routing.Paid {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := w.Pay(ctx, p); err != nil || again != first {
		t.Errorf("repeated: %+v, %v; first %+v", again, err, first)
	}
	for what, change := range map[string]func(*routing.WalletPayment){
		"another amount": func(p *routing.WalletPayment) { p.Amount++ }, "another code": func(p *routing.WalletPayment) { p.Code = code(t, 2) },
		"another merchant": func(p *routing.WalletPayment) { p.Merchant = "898110058120002" }, "another terminal": func(p *routing.WalletPayment) { p.Terminal = "11000002" },
	} {
		other := p
		change(&other)
		if r, err := w.Pay(ctx, other); err != nil || r.State != routing.Failed || r.Code != routing.OrderConflict {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	used := sale(t, 3, 10_00)
	used.Code = p.Code
	if r, err := w.Pay(ctx, used); err != nil || r.State != routing.Failed || r.Code != routing.CodeUsed {
		t.Errorf("a used code: %+v, %v", r, err)
	}
	foreign := sale(t, 4, 10_00)
	if r, err := client(t, s, routing.Alipay, nil).Pay(ctx, foreign); err != nil || r.State != routing.Failed || r.Code != routing.CodeInvalid {
		t.Errorf("another wallet's code: %+v, %v", r, err)
	}
	// The same number at another wallet is another order.
	if r, err := client(t, s, routing.Alipay, nil).Query(ctx, p.Order); err != nil || r.State != routing.NoOrder {
		t.Errorf("at another wallet: %+v, %v", r, err)
	}
	if got := s.Totals()[routing.WeChat]; got.Standing != 10_00 || got.Paid != 10_00 || got.Orders != 2 {
		t.Errorf("totals %+v", got)
	}
}

// Refunds never give back more than was paid, each number once; a cancel gives
// back the rest.
func TestRefunds(t *testing.T) {
	s := open(t, Config{})
	w := client(t, s, routing.WeChat, nil)
	ctx := t.Context()
	p := sale(t, 1, 10_00)
	if r, err := w.Pay(ctx, p); err != nil || r.State != routing.Paid {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, c := range []struct {
		order, id string
		amount    money.Amount
		state     routing.WalletState
		code      string
		sum       money.Amount
	}{
		{"R1", "B1", 3_00, routing.Refunded, "", 3_00},
		{"R1", "B1", 3_00, routing.Refunded, "", 3_00},
		{"R1", "B1", 4_00, routing.Failed, routing.OrderConflict, 0},
		{"R1", "B2", 7_01, routing.Failed, routing.OverRefund, 3_00},
		{"R1", "B3", 2_00, routing.Refunded, "", 5_00},
		{"R9", "B4", 1_00, routing.Failed, routing.NotPaid, 0},
	} {
		if r, err := w.Refund(ctx, c.order, c.id, c.amount); err != nil || r.State != c.state || r.Code != c.code || r.Refunded != c.sum {
			t.Errorf("%d: %+v, %v", i, r, err)
		}
	}
	if r, err := w.Query(ctx, "R1"); err != nil || r.State != routing.Paid || r.Refunded != 5_00 || r.Amount != 10_00 {
		t.Errorf("half refunded: %+v, %v", r, err)
	}
	if r, err := w.Cancel(ctx, "R1"); err != nil || r.State != routing.Refunded || r.Refunded != 10_00 {
		t.Errorf("cancelled: %+v, %v", r, err)
	}
	if r, err := w.Refund(ctx, "R1", "B5", 1); err != nil || r.State != routing.Failed || r.Code != routing.OverRefund {
		t.Errorf("after the cancel: %+v, %v", r, err)
	}
	if r, err := w.Refund(ctx, "R1", "B3", 2_00); err != nil || r.State != routing.Refunded {
		t.Errorf("a repeat after the cancel: %+v, %v", r, err)
	}
	typing := sale(t, 2, 20_82)
	if _, err := w.Pay(ctx, typing); err != nil {
		t.Error(err)
	}
	if r, err := w.Refund(ctx, "R2", "B6", 1); err != nil || r.State != routing.Failed || r.Code != routing.NotPaid {
		t.Errorf("while the buyer types: %+v, %v", r, err)
	}
	o, _ := s.Order(routing.WeChat, "R1")
	if len(o.Refunds) != 3 || o.Refunds[2].ID != "" || o.Refunds[2].Amount != 5_00 {
		t.Errorf("booked %+v", o.Refunds)
	}
}

// Whatever the client does in whatever weather, once each undecided order has
// been cancelled both sides agree on every fen.
func TestRandomWalk(t *testing.T) {
	seeds := 6
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := open(t, Config{Seed: seed, Late: 60 * time.Millisecond, Typing: time.Millisecond,
				Weather: Weather{Jitter: time.Millisecond, Failed: .1, Typing: .1, Forever: .05, Drop: .05, Breaks: .05, Late: .05, Lost: .05, Silent: .05, Delayed: .05,
					LostCancels: .1, DeafCancels: .1}})
			var wg sync.WaitGroup
			var mu sync.Mutex
			believed := map[string]map[string]money.Amount{}
			var clients []*routing.Wallet
			for k, name := range routing.Wallets {
				believed[name] = map[string]money.Amount{}
				w := client(t, s, name, func(c *routing.WalletConfig) { c.Timeout = 40 * time.Millisecond })
				for lane := range 4 {
					rng := rand.New(rand.NewPCG(seed, uint64(k*10+lane)))
					wg.Go(func() {
						for n := range 40 {
							p := walkSale(t, name, lane*1000+n, rng)
							standing := walk(t, w, p, rng)
							mu.Lock()
							believed[name][p.Order] = standing
							mu.Unlock()
						}
					})
				}
				clients = append(clients, w)
			}
			wg.Wait()
			for _, w := range clients {
				w.Close() // a server that is stopping waits for connections that never carried anything
			}
			// What is still on its way arrives before the books are compared.
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if err := s.server.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			var ours, theirs money.Amount
			for _, o := range s.Orders() {
				theirs += o.Standing()
				if o.Refunded > o.Amount || o.Standing() < 0 {
					t.Errorf("%+v has impossible amounts", o)
				}
				if o.Standing() != believed[o.Wallet][o.Number] {
					t.Errorf("%s %s: %s stands, believed %s: %+v", o.Wallet, o.Number, o.Standing(), believed[o.Wallet][o.Number], o)
				}
			}
			orders := 0
			for _, standing := range believed {
				for _, a := range standing {
					ours += a
					orders++
				}
			}
			if ours != theirs || ours == 0 || orders != 3*4*40 {
				t.Errorf("%d orders: we believe %s, the wallets have %s", orders, ours, theirs)
			}
		})
	}
}

func walkSale(t *testing.T, wallet string, n int, rng *rand.Rand) routing.WalletPayment {
	digits := map[string]string{routing.WeChat: "13%016d", routing.Alipay: "28%016d", routing.UnionPayQR: "62%017d"}[wallet]
	c, err := routing.ParsePayCode(fmt.Sprintf(digits, n))
	if err != nil {
		t.Error(err)
	}
	amount := money.Amount(1 + rng.IntN(20_00)) // half of the amounts ask for weather themselves
	if rng.IntN(2) == 0 {
		amount = amount/100*100 + 1
	}
	return routing.WalletPayment{Order: fmt.Sprintf("R%d", n), Code: c, Amount: amount, Merchant: "M", Terminal: "T"}
}

// walk takes one payment to its end as a careful acquirer does, and returns
// what stands of it.
func walk(t *testing.T, w *routing.Wallet, p routing.WalletPayment, rng *rand.Rand) money.Amount {
	ctx := t.Context()
	r, err := w.PayAndWait(ctx, p, time.Duration(rng.IntN(100))*time.Millisecond)
	switch {
	case errors.Is(err, routing.ErrUnreachable):
		return 0
	case err != nil || !r.State.Final() || r.State == routing.Paid && rng.IntN(4) == 0:
		if r, err = w.Cancel(ctx, p.Order); err != nil || r.State != routing.Closed && r.State != routing.Refunded {
			t.Errorf("cancel of %s: %+v, %v", p.Order, r, err)
		}
		return 0
	case r.State == routing.Failed:
		return 0
	case r.State != routing.Paid:
		t.Errorf("%s: %+v", p.Order, r)
	}
	standing := p.Amount
	for n := range rng.IntN(4) {
		part := money.Amount(1 + rng.IntN(int(p.Amount)))
		id := fmt.Sprintf("%sB%d", p.Order, n)
		for range 1 + rng.IntN(2) { // now and then repeated
			err = routing.ErrUnanswered
			for try := 0; err != nil && try < 1000; try++ {
				r, err = w.Refund(ctx, p.Order, id, part)
			}
		}
		switch {
		case err != nil:
			t.Errorf("refund of %s: %v", p.Order, err)
		case r.State == routing.Refunded:
			standing -= part
		case part <= standing:
			t.Errorf("%s: refund of %s was refused with %s standing: %+v", p.Order, part, standing, r)
		}
	}
	if standing < 0 {
		t.Errorf("%s: more was refunded than paid", p.Order)
	}
	return standing
}

// What the wallets refuse, and what their watchers see.
func TestRefusalsAndViews(t *testing.T) {
	s := open(t, Config{Limit: 2})
	w := client(t, s, routing.WeChat, nil)
	ctx := t.Context()
	wrong, err := routing.WalletKey([]byte("another key of 32 bytes, and not"))
	if err != nil {
		t.Fatal(err)
	}
	stranger := client(t, s, routing.WeChat, func(c *routing.WalletConfig) { c.MAC = wrong })
	nowhere := client(t, s, routing.WeChat, func(c *routing.WalletConfig) { c.URL = s.URL("paypal") })
	for what, w := range map[string]*routing.Wallet{"a stranger": stranger, "an unknown wallet": nowhere} {
		if r, err := w.Pay(ctx, sale(t, 1, 10_00)); !errors.Is(err, routing.ErrUnanswered) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	late := open(t, Config{Skew: time.Nanosecond})
	if r, err := client(t, late, routing.WeChat, nil).Pay(ctx, sale(t, 1, 10_00)); err != nil || r.State != routing.Failed || r.Code != "BAD_TIME" {
		t.Errorf("an old question: %+v, %v", r, err)
	}
	if len(s.Orders())+len(late.Orders()) != 0 {
		t.Errorf("booked %+v", s.Orders())
	}
	if err := s.SetWeather(Weather{Closed: true}); err != nil {
		t.Fatal(err)
	}
	if r, err := w.Pay(ctx, sale(t, 1, 10_00)); !errors.Is(err, routing.ErrUnanswered) {
		t.Errorf("closed: %+v, %v", r, err)
	}

	get := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		has                string
	}{
		{"PUT", "/weather", `{"silent":2}`, 400, "share"}, {"PUT", "/weather", `{"failed":0.6,"lost":0.6}`, 400, "add up"}, {"PUT", "/weather", `{"delay":-1}`, 400, "delay"},
		{"PUT", "/weather", `{"lost_cancels":0.6,"deaf_cancels":0.6}`, 400, "cancels"}, {"PUT", "/weather", `{"rain":1}`, 400, "rain"},
		{"PUT", "/weather", `{"delay":1}`, 200, `"delay":1`}, {"GET", "/weather", "", 200, `"closed":false`},
		{"POST", "/next?digits=x", "", 400, "00 to 99"}, {"POST", "/next?digits=61", "", 200, "ok"}, {"GET", "/healthz", "", 200, "ok"},
		{"POST", "/decide?wallet=wechat&order=R1&pays=perhaps", "", 400, "true or false"}, {"POST", "/decide?wallet=wechat&order=R1&pays=true", "", 404, "nobody"},
		{"POST", "/wechat/v1/pay", "{}", 401, "signature"}, {"GET", "/wechat/v1/pay", "", 405, ""}, {"POST", "/wechat/v1/pay", strings.Repeat(" ", 17<<10), 413, "read"},
	} {
		if status, body := get(c.method, c.path, c.body); status != c.status || !strings.Contains(body, c.has) {
			t.Errorf("%s %s %.40s: %d %s", c.method, c.path, c.body, status, body)
		}
	}
	if r, err := w.Pay(ctx, sale(t, 1, 10_00)); err != nil || r.Code != routing.OverLimit {
		t.Errorf("the storm asked for: %+v, %v", r, err)
	}
	s.Next(TypesForever)
	if r, err := w.Pay(ctx, sale(t, 2, 10_00)); err != nil || r.State != routing.BuyerPaying {
		t.Errorf("the storm asked for: %+v, %v", r, err)
	}
	if status, _ := get("POST", "/decide?wallet=wechat&order=R2&pays=true", ""); status != 200 {
		t.Error("the buyer could not decide")
	}
	// The books are full.
	if r, err := w.Pay(ctx, sale(t, 3, 10_00)); !errors.Is(err, routing.ErrUnanswered) {
		t.Errorf("full: %+v, %v", r, err)
	}
	brief, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if r, err := w.Cancel(brief, "R3"); err == nil {
		t.Errorf("full: %+v", r)
	}
	if status, body := get("GET", "/totals", ""); status != 200 || !strings.Contains(body, `"wechat":{"orders":2,"paid":"10.00","refunded":"0.00","standing":"10.00"}`) {
		t.Errorf("totals %d %s", status, body)
	}
	status, body := get("GET", "/books", "")
	var books struct {
		Totals map[string]Totals
		Orders []Order
	}
	if err := json.Unmarshal([]byte(body), &books); status != 200 || err != nil || len(books.Orders) != 2 || books.Orders[1].State != Paid || books.Orders[1].Name != "老王烧烤" {
		t.Errorf("books %d %s %v", status, body, err)
	}
	if strings.Contains(body, code(t, 2).Reveal()) || !strings.Contains(body, code(t, 2).Masked()) {
		t.Errorf("the books show the payment code: %s", body)
	}
	for what, cfg := range map[string]Config{
		"paypal": {Keys: map[string][]byte{"paypal": TestKey("paypal")}}, "a short key": {Keys: map[string][]byte{routing.Alipay: []byte("short")}}, "weather": {Weather: Weather{Lost: 2}},
	} {
		if _, err := Start("127.0.0.1:0", cfg); err == nil {
			t.Errorf("%s started", what)
		}
	}
	if _, err := Start("127.0.0.1:99999", Config{}); err == nil {
		t.Error("a port that does not exist opened")
	}
}

// Closing lets a silent question go.
func TestCloseWithASilentQuestion(t *testing.T) {
	s := open(t, Config{Silence: time.Hour})
	w := client(t, s, routing.WeChat, func(c *routing.WalletConfig) { c.Timeout = time.Hour })
	ended := make(chan error)
	go func() {
		_, err := w.Pay(t.Context(), sale(t, 1, 20_98))
		ended <- err
	}()
	if err := s.Await(t.Context(), routing.WeChat, "R1", func(o *Order) bool { return o.State == Paid }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, routing.ErrUnanswered) {
		t.Errorf("the silent question: %v", err)
	}
}

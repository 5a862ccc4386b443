package simwallet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
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

func client(t *testing.T, s *Wallets, name string, change func(*wallet.Config)) *wallet.Wallet {
	t.Helper()
	cfg := wallet.Config{Name: name, URL: s.URL(name), Wire: TestWire(name, wallet.RSA), Poll: 2 * time.Millisecond, Unknown: 2 * time.Millisecond, CancelAfter: 1,
		Timeout: 10 * time.Second}
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

func brief(c *wallet.Config) { c.Timeout = 100 * time.Millisecond }

func code(t *testing.T, name string, n int) routing.PayCode {
	t.Helper()
	c, err := routing.ParsePayCode(fmt.Sprintf(map[string]string{routing.WeChat: "13%016d", routing.Alipay: "28%016d", routing.UnionPayQR: "62%017d"}[name], n))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sale(t *testing.T, name string, n int, amount money.Amount) wallet.Payment {
	t.Helper()
	return wallet.Payment{Code: code(t, name, n), Name: "老王烧烤",
		Order: wallet.Order{Number: fmt.Sprintf("R%d", n), Merchant: "898110058120001", Terminal: "11000001", Amount: amount, Made: time.Now()}}
}

// Every amount of the table, at every wallet: what the payment is answered,
// what a query says, and that a cancel leaves nothing standing.
func TestWeather(t *testing.T) {
	for _, name := range routing.Wallets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { everyStorm(t, name) })
		})
	}
}

func everyStorm(t *testing.T, name string) {
	// An amount without silence is given time; one with it is not waited for.
	pipe := NewPipe()
	s, err := Serve(pipe, Config{Typing: time.Millisecond, Late: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	patient := client(t, s, name, func(c *wallet.Config) { c.Dial = pipe.Dial })
	quick := client(t, s, name, func(c *wallet.Config) { brief(c); c.Dial = pipe.Dial })
	type want struct {
		pay   wallet.State // Unknown is ErrUnanswered
		code  string
		query wallet.State
		end   wallet.State // of a cancel; Unknown is refused for good
	}
	// Alipay has no order of what failed; each wallet has words of its own for
	// codes that it does not take.
	failed, code54, used := wallet.Failed, wallet.CodeExpired, wallet.NotPermitted
	if name == routing.Alipay {
		failed, code54 = wallet.Closed, wallet.CodeInvalid
	}
	lost := want{wallet.Unknown, "", wallet.Paid, wallet.Refunded}
	wants := map[int]want{
		0:  {wallet.Paid, "", wallet.Paid, wallet.Refunded},
		51: {wallet.Failed, wallet.NotEnough, failed, wallet.Closed},
		52: {wallet.Failed, wallet.CodeInvalid, failed, wallet.Closed},
		54: {wallet.Failed, code54, failed, wallet.Closed},
		55: {wallet.Failed, wallet.BuyerRefused, failed, wallet.Closed},
		57: {wallet.Failed, used, failed, wallet.Closed},
		61: {wallet.Failed, wallet.OverLimit, failed, wallet.Closed},
		78: {wallet.Unknown, "", wallet.Paid, wallet.Unknown},
		79: {wallet.BuyerPaying, "", wallet.BuyerPaying, wallet.Refunded},
		80: {wallet.BuyerPaying, "", wallet.BuyerPaying, wallet.Closed},
		81: {wallet.BuyerPaying, "", wallet.Paid, wallet.Refunded},
		82: {wallet.BuyerPaying, "", wallet.BuyerPaying, wallet.Closed},
		83: {wallet.BuyerPaying, "", wallet.BuyerPaying, wallet.Closed},
		84: {wallet.Unknown, "", wallet.Unknown, wallet.Refunded},
		85: lost, 86: lost, 87: lost, 88: lost, 89: lost, 90: lost,
		91: {wallet.Unknown, "", wallet.NoOrder, wallet.Closed},
		92: {wallet.Unknown, "", wallet.NoOrder, wallet.Closed},
		93: lost, 94: lost, 95: lost, 96: lost,
		97: {wallet.Unknown, "", wallet.NoOrder, wallet.Closed},
		98: lost,
		99: {wallet.Unknown, "", wallet.NoOrder, wallet.Closed},
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
		if strings.Contains(storms[digits].what, "answer") || c.query == wallet.NoOrder {
			w = quick
		}
		p := sale(t, name, n, amount)
		r, err := w.Pay(t.Context(), p)
		if r.State != c.pay || r.Code != c.code || (err != nil) != (c.pay == wallet.Unknown) || err != nil && !errors.Is(err, routing.ErrUnanswered) {
			t.Errorf(".%02d %s: pay: %+v, %v", digits, storms[digits].what, r, err)
		}
		if r.State == wallet.Paid && (r.Transaction == "" || r.Amount != amount) {
			t.Errorf(".%02d: %+v", digits, r)
		}
		if digits == 81 {
			if err := s.Await(t.Context(), name, p.Number, func(o *Order) bool { return o.State == Paid }); err != nil {
				t.Fatal(err)
			}
		}
		if r, err = patient.Query(t.Context(), p.Order); r.State != c.query || (err != nil) != (c.query == wallet.Unknown) {
			t.Errorf(".%02d %s: query: %+v, %v", digits, storms[digits].what, r, err)
		}
		time.Sleep(time.Millisecond) // no wallet takes a cancel at the very moment of the payment
		if r, err = end(t, quick, p.Order); r.State != c.end || (err != nil) != (c.end == wallet.Unknown) {
			t.Errorf(".%02d %s: cancel: %+v, %v", digits, storms[digits].what, r, err)
		}
		if c.end == wallet.Unknown { // its wallet keeps the money
			if o, ok := s.Order(name, p.Number); !ok || o.Standing() != amount {
				t.Errorf(".%02d: %+v", digits, o)
			}
			continue
		}
		// A payment on its way is let arrive; it finds the order closed.
		if digits == 99 {
			if err := s.Await(t.Context(), name, p.Number, func(o *Order) bool { return o.Pays == 1 }); err != nil {
				t.Fatal(err)
			}
		}
		if r, err = patient.Cancel(t.Context(), p.Order); err != nil || r.State != c.end {
			t.Errorf(".%02d %s: the cancel again: %+v, %v", digits, storms[digits].what, r, err)
		}
		for _, ask := range []func() (wallet.Result, error){
			func() (wallet.Result, error) { return patient.Pay(t.Context(), p) },
			func() (wallet.Result, error) { return patient.Query(t.Context(), p.Order) },
		} {
			if digits == 84 { // keeps its secret for a query more
				if _, err := patient.Query(t.Context(), p.Order); err != nil && !errors.Is(err, routing.ErrUnanswered) {
					t.Error(err)
				}
			}
			if r, err = ask(); err != nil || r.State != wallet.Closed && r.State != c.end {
				t.Errorf(".%02d %s: after the cancel: %+v, %v", digits, storms[digits].what, r, err)
			}
		}
		if o, ok := s.Order(name, p.Number); !ok || o.Standing() != 0 {
			t.Errorf(".%02d: %s stands of %+v", digits, o.Standing(), o)
		}
	}
	if len(strings.Split(strings.TrimSpace(AmountTable()), "\n")) != len(Storms()) {
		t.Error("the table of amounts is not the table of storms")
	}
}

// end cancels until the wallet has done it, or refuses for good.
func end(t *testing.T, w *wallet.Wallet, o wallet.Order) (r wallet.Result, err error) {
	for range 100 {
		r, err = w.Cancel(t.Context(), o)
		var se *routing.SendError
		if err == nil || errors.As(err, &se) && se.Why == wallet.Refused {
			break
		}
	}
	return r, err
}

// The buyer who types: queries bring the end, and PayAndWait waits for it.
func TestTyping(t *testing.T) {
	s := open(t, Config{Asks: 3, Typing: 20 * time.Millisecond})
	w := client(t, s, routing.WeChat, nil)
	for n, c := range []struct {
		amount money.Amount
		state  wallet.State
	}{{20_80, wallet.Paid}, {20_81, wallet.Paid}, {20_83, wallet.Failed}, {20_84, wallet.Paid}, {20_85, wallet.Paid}} {
		w := w
		if c.amount == 20_84 {
			w = client(t, s, routing.WeChat, brief)
		}
		if r, err := w.PayAndWait(t.Context(), sale(t, routing.WeChat, n, c.amount), time.Minute); err != nil || r.State != c.state {
			t.Errorf("%s: %+v, %v", c.amount, r, err)
		}
	}
	p := sale(t, routing.WeChat, 10, 20_82)
	if r, err := w.PayAndWait(t.Context(), p, 300*time.Millisecond); err != nil || r.State != wallet.BuyerPaying {
		t.Errorf("%+v, %v", r, err)
	}
	if s.Decide(routing.Alipay, p.Number, true) || s.Decide(routing.WeChat, "nobody", true) {
		t.Error("decided for nobody")
	}
	done := make(chan wallet.State)
	go func() {
		r, err := w.PayAndWait(t.Context(), p, time.Minute)
		if err != nil {
			t.Error(err)
		}
		done <- r.State
	}()
	if err := s.Await(t.Context(), routing.WeChat, p.Number, func(o *Order) bool { return o.Pays == 2 }); err != nil {
		t.Fatal(err)
	}
	if !s.Decide(routing.WeChat, p.Number, true) || s.Decide(routing.WeChat, p.Number, false) {
		t.Error("the buyer did not decide once")
	}
	if state := <-done; state != wallet.Paid {
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
	p := sale(t, routing.WeChat, 1, 10_00)
	first, err := w.Pay(ctx, p)
	if err != nil || first.State != wallet.Paid {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := w.Pay(ctx, p); err != nil || again != first {
		t.Errorf("repeated: %+v, %v; first %+v", again, err, first)
	}
	for what, change := range map[string]func(*wallet.Payment){
		"another amount": func(p *wallet.Payment) { p.Amount++ }, "another code": func(p *wallet.Payment) { p.Code = code(t, routing.WeChat, 2) },
		"another merchant": func(p *wallet.Payment) { p.Merchant = "898110058120002" }, "another terminal": func(p *wallet.Payment) { p.Terminal = "11000002" },
	} {
		other := p
		change(&other)
		if r, err := w.Pay(ctx, other); err != nil || r.State != wallet.Failed || r.Code != wallet.OrderConflict {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	used := sale(t, routing.WeChat, 3, 10_00)
	used.Code = p.Code
	if r, err := w.Pay(ctx, used); err != nil || r.State != wallet.Failed || r.Code != wallet.CodeExpired {
		t.Errorf("a used code: %+v, %v", r, err)
	}
	foreign := sale(t, routing.WeChat, 4, 10_00)
	if r, err := client(t, s, routing.Alipay, nil).Pay(ctx, foreign); err != nil || r.State != wallet.Failed || r.Code != wallet.CodeInvalid {
		t.Errorf("another wallet's code: %+v, %v", r, err)
	}
	// The same number at another wallet is another order.
	if r, err := client(t, s, routing.Alipay, nil).Query(ctx, p.Order); err != nil || r.State != wallet.NoOrder {
		t.Errorf("at another wallet: %+v, %v", r, err)
	}
	if got := s.Totals()[routing.WeChat]; got.Standing != 10_00 || got.Paid != 10_00 || got.Orders != 2 {
		t.Errorf("totals %+v", got)
	}
}

// Refunds never give back more than was paid, each number once; a cancel gives
// back the rest.
func TestRefunds(t *testing.T) {
	for _, name := range routing.Wallets {
		t.Run(name, func(t *testing.T) { refunds(t, name) })
	}
}

func refunds(t *testing.T, name string) {
	s := open(t, Config{})
	w := client(t, s, name, nil)
	ctx := t.Context()
	p := sale(t, name, 1, 10_00)
	if r, err := w.Pay(ctx, p); err != nil || r.State != wallet.Paid {
		t.Fatalf("%+v, %v", r, err)
	}
	back := func(o wallet.Order, id string, amount money.Amount, state wallet.State, code string) {
		t.Helper()
		if r, err := w.Refund(ctx, o, wallet.Refund{Number: id, Amount: amount, Made: time.Now()}); err != nil || r.State != state || r.Code != code {
			t.Errorf("%s of %s: %+v, %v; want %s %s", id, o.Number, r, err, state, code)
		}
	}
	back(p.Order, "B1", 3_00, wallet.Refunded, "")
	back(p.Order, "B1", 3_00, wallet.Refunded, "")
	back(p.Order, "B1", 4_00, wallet.Failed, wallet.OrderConflict)
	back(p.Order, "B2", 7_01, wallet.Failed, wallet.OverRefund)
	back(p.Order, "B3", 2_00, wallet.Refunded, "")
	nobody := p.Order
	nobody.Number = "R9"
	back(nobody, "B4", 1_00, wallet.Failed, wallet.NotPaid)
	if name == routing.WeChat { // which wants to hear the order's whole amount
		other := p.Order
		other.Amount++
		back(other, "B7", 1_00, wallet.Failed, wallet.BadRequest)
	}
	half := wallet.Paid
	if name == routing.WeChat {
		half = wallet.Refunded // some of it: trade_state REFUND
	}
	if r, err := w.Query(ctx, p.Order); err != nil || r.State != half {
		t.Errorf("half refunded: %+v, %v", r, err)
	}
	if r, err := w.Cancel(ctx, p.Order); err != nil || r.State != wallet.Refunded {
		t.Errorf("cancelled: %+v, %v", r, err)
	}
	back(p.Order, "B5", 1, wallet.Failed, wallet.OverRefund)
	back(p.Order, "B3", 2_00, wallet.Refunded, "") // a repeat after the cancel
	typing := sale(t, name, 2, 20_82)
	if _, err := w.Pay(ctx, typing); err != nil {
		t.Error(err)
	}
	back(typing.Order, "B6", 1, wallet.Failed, wallet.NotPaid)
	o, _ := s.Order(name, "R1")
	if len(o.Refunds) != 3 || o.Refunds[2].ID != "" || o.Refunds[2].Amount != 5_00 || o.Standing() != 0 {
		t.Errorf("booked %+v", o.Refunds)
	}
	fees := o.Fee
	for _, r := range o.Refunds {
		fees -= r.Fee
	}
	if o.Fee != 2 || fees != 0 {
		t.Errorf("a fee of %s, of which %s stayed", o.Fee, fees)
	}
}

// Whatever the client does in whatever weather, once each undecided order has
// been cancelled both sides agree on every fen (faults 24 to 27, 31, 53).
func TestRandomWalk(t *testing.T) {
	seeds := 4
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { randomWalk(t, seed) }) })
	}
}

func randomWalk(t *testing.T, seed uint64) {
	pipe := NewPipe()
	s, err := Serve(pipe, Config{Seed: seed, Late: 60 * time.Millisecond, Typing: time.Millisecond,
		Weather: Weather{Jitter: time.Millisecond, Failed: .1, Typing: .1, Forever: .05, Drop: .05, Breaks: .05, Late: .05, Lost: .05, Silent: .05, Delayed: .05,
			LostCancels: .1, DeafCancels: .1}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	believed := map[string]map[string]money.Amount{}
	var clients []*wallet.Wallet
	for k, name := range routing.Wallets {
		believed[name] = map[string]money.Amount{}
		w := client(t, s, name, func(c *wallet.Config) { c.Timeout, c.Dial = 40*time.Millisecond, pipe.Dial })
		for lane := range 4 {
			rng := rand.New(rand.NewPCG(seed, uint64(k*10+lane)))
			wg.Go(func() {
				for n := range 20 {
					p := walkSale(t, name, lane*1000+n, rng)
					standing := walk(t, w, p, rng)
					mu.Lock()
					believed[name][p.Number] = standing
					mu.Unlock()
				}
			})
		}
		clients = append(clients, w)
	}
	wg.Wait()
	for _, w := range clients {
		w.Close()
	}
	time.Sleep(time.Minute) // what is still on its way arrives before the books are compared
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
	if ours != theirs || ours == 0 || orders != 3*4*20 {
		t.Errorf("%d orders: we believe %s, the wallets have %s", orders, ours, theirs)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func walkSale(t *testing.T, name string, n int, rng *rand.Rand) wallet.Payment {
	amount := money.Amount(1 + rng.IntN(20_00)) // half of the amounts ask for weather themselves
	if rng.IntN(2) == 0 || amount%100 == 78 {   // a cancel that is never taken leaves the money there
		amount = amount/100*100 + 1
	}
	return sale(t, name, n, amount)
}

// walk takes one payment to its end as a careful acquirer does, and returns
// what stands of it.
func walk(t *testing.T, w *wallet.Wallet, p wallet.Payment, rng *rand.Rand) money.Amount {
	ctx := t.Context()
	r, err := w.PayAndWait(ctx, p, time.Duration(rng.IntN(100))*time.Millisecond)
	switch {
	case errors.Is(err, routing.ErrUnreachable):
		return 0
	case err != nil || !r.State.Final() || r.State == wallet.Paid && rng.IntN(4) == 0:
		if r, err = end(t, w, p.Order); err != nil || r.State != wallet.Closed && r.State != wallet.Refunded {
			t.Errorf("cancel of %s: %+v, %v", p.Number, r, err)
		}
		return 0
	case r.State == wallet.Failed || r.State == wallet.Closed:
		return 0
	case r.State != wallet.Paid:
		t.Errorf("%s: %+v", p.Number, r)
	}
	standing := p.Amount
	for n := range rng.IntN(4) {
		part := wallet.Refund{Number: fmt.Sprintf("%sB%d", p.Number, n), Amount: money.Amount(1 + rng.IntN(int(p.Amount))), Made: time.Now()}
		for range 1 + rng.IntN(2) { // now and then repeated
			err = routing.ErrUnanswered
			for try := 0; err != nil && try < 1000; try++ {
				r, err = w.Refund(ctx, p.Order, part)
			}
		}
		switch {
		case err != nil:
			t.Errorf("refund of %s: %v", p.Number, err)
		case r.State == wallet.Refunded:
			standing -= part.Amount
		case part.Amount <= standing:
			t.Errorf("%s: refund of %s was refused with %s standing: %+v", p.Number, part.Amount, standing, r)
		}
	}
	if standing < 0 {
		t.Errorf("%s: more was refunded than paid", p.Number)
	}
	return standing
}

// What the wallets refuse, and what their watchers see.
func TestRefusalsAndViews(t *testing.T) {
	s := open(t, Config{Limit: 2})
	w := client(t, s, routing.WeChat, nil)
	ctx := t.Context()
	wrong := &wallet.WeChat{App: TestApp, Merchant: TestMerchant}
	var err error
	if wrong.Sign, err = wallet.NewHMAC("another key of no wallet"); err == nil {
		t.Error("a key with blanks passed")
	}
	if wrong.Sign, err = wallet.NewHMAC("another-key-of-no-wallet-at-all"); err != nil {
		t.Fatal(err)
	}
	stranger := client(t, s, routing.WeChat, func(c *wallet.Config) { c.Wire = wrong })
	nowhere := client(t, s, routing.WeChat, func(c *wallet.Config) { c.URL = s.URL("paypal") })
	for what, w := range map[string]*wallet.Wallet{"a stranger": stranger, "an unknown wallet": nowhere} {
		if r, err := w.Pay(ctx, sale(t, routing.WeChat, 1, 10_00)); !errors.Is(err, routing.ErrUnanswered) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	// Alipay and UnionPay say why they do not know somebody.
	swapped := client(t, s, routing.UnionPayQR, func(c *wallet.Config) { c.Wire = TestWire(routing.UnionPayQR, wallet.SM2) })
	if r, err := swapped.Pay(ctx, sale(t, routing.UnionPayQR, 1, 10_00)); !errors.Is(err, routing.ErrUnanswered) {
		t.Errorf("another signature: %+v, %v", r, err)
	}
	late := open(t, Config{Skew: time.Nanosecond})
	if r, err := client(t, late, routing.Alipay, nil).Pay(ctx, sale(t, routing.Alipay, 1, 10_00)); err != nil || r.State != wallet.Failed || r.Code != wallet.BadRequest {
		t.Errorf("an old question: %+v, %v", r, err)
	}
	if len(s.Orders())+len(late.Orders()) != 0 {
		t.Errorf("booked %+v", s.Orders())
	}
	if err := s.SetWeather(Weather{Closed: true}); err != nil {
		t.Fatal(err)
	}
	if r, err := w.Pay(ctx, sale(t, routing.WeChat, 1, 10_00)); !errors.Is(err, routing.ErrUnanswered) {
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
		{"POST", "/wechat/pay/micropay", "{}", 200, "FAIL"}, {"GET", "/wechat/pay/micropay", "", 405, ""}, {"POST", "/wechat/pay/micropay", strings.Repeat(" ", 17<<10), 413, "read"},
		{"POST", "/wechat/pay/other", "<xml><a>1</a></xml>", 200, "no such interface"}, {"POST", "/alipay/gateway.do", "method=alipay.trade.pay", 200, "isv.invalid-signature"},
		{"POST", "/unionpay-qr/gateway/api/queryTrans.do", "txnType=01", 200, "respCode=10"}, {"POST", "/spoil?wallet=wechat&fault=rain", "", 400, "missing"},
		{"GET", "/bill?wallet=paypal&date=2026-08-07", "", 400, "no such wallet"}, {"GET", "/bill?wallet=wechat&date=never", "", 400, "date"}, {"GET", "/alipay/bill?date=2026-08-07&sign=x", "", 403, "signature"},
	} {
		if status, body := get(c.method, c.path, c.body); status != c.status || !strings.Contains(body, c.has) {
			t.Errorf("%s %s %.40s: %d %s", c.method, c.path, c.body, status, body)
		}
	}
	if r, err := w.Pay(ctx, sale(t, routing.WeChat, 1, 10_00)); err != nil || r.Code != wallet.OverLimit {
		t.Errorf("the storm asked for: %+v, %v", r, err)
	}
	s.Next(TypesForever)
	if r, err := w.Pay(ctx, sale(t, routing.WeChat, 2, 10_00)); err != nil || r.State != wallet.BuyerPaying {
		t.Errorf("the storm asked for: %+v, %v", r, err)
	}
	if status, _ := get("POST", "/decide?wallet=wechat&order=R2&pays=true", ""); status != 200 {
		t.Error("the buyer could not decide")
	}
	// The books are full.
	if r, err := w.Pay(ctx, sale(t, routing.WeChat, 3, 10_00)); !errors.Is(err, routing.ErrUnanswered) {
		t.Errorf("full: %+v, %v", r, err)
	}
	brief, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if r, err := w.Cancel(brief, sale(t, routing.WeChat, 3, 10_00).Order); err == nil {
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
	if strings.Contains(body, code(t, routing.WeChat, 2).Reveal()) || !strings.Contains(body, code(t, routing.WeChat, 2).Masked()) {
		t.Errorf("the books show the payment code: %s", body)
	}
	for what, cfg := range map[string]Config{
		"paypal": {Keys: map[string]Keys{"paypal": {APIKey: TestAPIKey}}}, "a short key": {Keys: map[string]Keys{routing.WeChat: {APIKey: "short"}}}, "no keys": {Keys: map[string]Keys{routing.Alipay: {}}}, "a fee": {FeePPM: -1}, "weather": {Weather: Weather{Lost: 2}},
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
	w := client(t, s, routing.WeChat, func(c *wallet.Config) { c.Timeout = time.Hour })
	ended := make(chan error)
	go func() {
		_, err := w.Pay(t.Context(), sale(t, routing.WeChat, 1, 20_98))
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

// Whatever is posted to a wallet, it is answered and nothing is booked that
// nobody has signed.
func FuzzPosted(f *testing.F) {
	for i, body := range []string{"<xml><out_trade_no>R1</out_trade_no></xml>", "method=alipay.trade.pay&biz_content={}", "txnType=01&txnSubType=06&version=5.1.0", "", "%zz", "<!DOCTYPE a>"} {
		f.Add(uint8(i), body)
	}
	s, err := Serve(NewPipe(), Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	paths := []string{"/wechat/pay/micropay", "/alipay/gateway.do", "/unionpay-qr/gateway/api/backTransReq.do", "/wechat/secapi/pay/refund", "/alipay", "/unionpay-qr/gateway/api/queryTrans.do", "/unionpay-qr/", "/wechat/pay/downloadbill"}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		w := httptest.NewRecorder()
		s.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, paths[int(which)%len(paths)], strings.NewReader(body)))
		if w.Code == http.StatusOK && w.Body.Len() == 0 || len(s.Orders()) != 0 {
			t.Errorf("%s: HTTP %d %q, %d orders", body, w.Code, w.Body, len(s.Orders()))
		}
	})
}

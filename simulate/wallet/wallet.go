// Package simwallet is the wallets that buyers pay with by payment code,
// simulated: one HTTP server for all of them, each with its own wire, with books
// that pay each order once, cancel and refund, write daily bills, and misbehave
// on request.
//
//	POST /wechat/pay/micropay, pay/orderquery, secapi/pay/reverse,
//	     secapi/pay/refund, pay/refundquery, pay/downloadbill        XML, HMAC-SHA256
//	POST /alipay/gateway.do                                          form and JSON, RSA2
//	POST /unionpay-qr/gateway/api/backTransReq.do, queryTrans.do,
//	     unionpay-qr/                                                form, RSA or SM2
//
// Besides, unsigned and for loopback only:
//
//	GET  /books                                  every order
//	GET  /totals                                 the books in numbers
//	GET  /weather, PUT /weather                  {"delay":1000000,"silent":0.01}, delays in nanoseconds
//	POST /next?digits=98                         the next new payment is treated as those two digits ask
//	POST /decide?wallet=W&order=N&pays=true      the buyer who types comes to an end
//	GET  /bill?wallet=W&date=2026-08-07          the bill as the wallet gives it, today's too
//	POST /spoil?wallet=W&fault=missing           what is wrong with the bills from now on; none ends it
//
// The last two digits of an amount choose the weather (StormOf), or Weather
// draws it by chance. A payment code pays one order only.
package simwallet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
)

// Keys are what one wallet signs with and knows the acquirer by: APIKey at
// WeChat Pay, Signer at the others.
type Keys struct {
	APIKey string
	Signer wallet.Signer
}

// TestKeys are the keys that TestWire is the other side of; kind is wallet.RSA,
// or wallet.SM2 for UnionPay QR.
func TestKeys(name, kind string) Keys {
	if name == routing.WeChat {
		return Keys{APIKey: TestAPIKey}
	}
	if name == routing.Alipay {
		kind = wallet.RSA
	}
	return Keys{Signer: testSigner("wallet", "acquirer", kind)}
}

// Config of the wallets. Zero durations and numbers take the defaults named
// beside them.
type Config struct {
	Keys        map[string]Keys  // of each wallet that is served; nil for all of routing.Wallets with their TestKeys
	Asks        int              // queries until a buyer who types comes to an end; 2
	Typing      time.Duration    // how long a buyer of .81 types; 2 s
	Late        time.Duration    // how late a late answer is; 10 s
	Silence     time.Duration    // longest a silent question holds its connection; 1 minute
	Skew        time.Duration    // how far the time of a question may be off, where it has one; 5 minutes
	Limit       int              // orders the books take; a million
	FeePPM      int64            // what a wallet keeps of a payment, ppm; 2,000
	Now         func() time.Time // its clock, for the dates of its books and bills; time.Now
	Strict      bool             // a cancel of an order that nobody knows is answered so, and closes nothing
	CalmAmounts bool             // amounts do not choose the weather
	Weather     Weather          // at the start
	Seed        uint64           // of the weather's dice
}

// Wallets are running wallets.
type Wallets struct {
	cfg      Config
	listener net.Listener
	server   *http.Server
	running  context.Context // ends with Close
	quit     context.CancelFunc
	done     sync.WaitGroup
	failed   atomic.Pointer[error]
	tongues  map[string]tongue
	books    *books
	sky      sky
	spoilt   spoilt
}

// Start opens the wallets on an address; port 0 chooses one (Addr).
func Start(addr string, cfg Config) (*Wallets, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("simwallet: %w", err)
	}
	s, err := Serve(l, cfg)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

// Serve opens the wallets on l, which is theirs from then on.
func Serve(l net.Listener, cfg Config) (*Wallets, error) {
	if cfg.Keys == nil {
		cfg.Keys = map[string]Keys{}
		for _, name := range routing.Wallets {
			cfg.Keys[name] = TestKeys(name, wallet.RSA)
		}
	}
	tongues := map[string]tongue{}
	for name, k := range cfg.Keys {
		t, err := tongueOf(name, k)
		if err != nil {
			return nil, err
		}
		tongues[name] = t
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.FeePPM == 0 {
		cfg.FeePPM = 2_000
	}
	if cfg.FeePPM < 0 || cfg.FeePPM > money.Million {
		return nil, fmt.Errorf("simwallet: a fee of %d ppm is not from 0 to a million", cfg.FeePPM)
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&cfg.Typing, 2 * time.Second}, {&cfg.Late, 10 * time.Second}, {&cfg.Silence, time.Minute}, {&cfg.Skew, 5 * time.Minute}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if cfg.Asks == 0 {
		cfg.Asks = 2
	}
	if cfg.Limit == 0 {
		cfg.Limit = 1_000_000
	}
	if err := cfg.Weather.check(); err != nil {
		return nil, err
	}
	running, quit := context.WithCancel(context.Background())
	s := &Wallets{cfg: cfg, listener: l, running: running, quit: quit, tongues: tongues, books: newBooks(&cfg),
		sky: sky{now: cfg.Weather, calm: cfg.CalmAmounts, rng: rand.New(rand.NewPCG(cfg.Seed, 0))}}
	s.server = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return running }}
	s.done.Go(func() {
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed.Store(&err)
		}
	})
	return s, nil
}

// Addr is the address the wallets listen on.
func (s *Wallets) Addr() string { return s.listener.Addr().String() }

// URL is where a wallet is found: what wallet.Config.URL takes.
func (s *Wallets) URL(name string) string {
	at := "http://" + s.Addr() + "/" + name
	if name == routing.Alipay {
		at += "/gateway.do"
	}
	return at
}

// Names are the wallets that are served, sorted.
func (s *Wallets) Names() []string { return slices.Sorted(maps.Keys(s.cfg.Keys)) }

// Close ends the wallets: silent questions are let go, the rest is answered.
// The books stay readable.
func (s *Wallets) Close(ctx context.Context) error {
	s.quit()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	s.done.Wait()
	if failed := s.failed.Load(); failed != nil {
		err = errors.Join(err, *failed)
	}
	return err
}

// Orders copies the books, in the order of arrival.
func (s *Wallets) Orders() []Order { return s.books.all() }

// Order finds one order.
func (s *Wallets) Order(wallet, number string) (Order, bool) {
	return s.books.find(key{wallet, number})
}

// Totals are the books of every wallet in numbers.
func (s *Wallets) Totals() map[string]Totals {
	out := map[string]Totals{}
	for name := range s.cfg.Keys {
		out[name] = Totals{}
	}
	for _, o := range s.books.all() {
		t := out[o.Wallet]
		t.Orders++
		if !o.PaidAt.IsZero() {
			t.Paid += o.Amount
		}
		t.Refunded += o.Refunded
		t.Standing += o.Standing()
		out[o.Wallet] = t
	}
	return out
}

// Await waits until an order is on the books and as wanted.
func (s *Wallets) Await(ctx context.Context, wallet, number string, wanted func(*Order) bool) error {
	return s.books.await(ctx, key{wallet, number}, wanted)
}

// Decide ends a buyer's typing: paid, or given up. False when nobody types for
// that order.
func (s *Wallets) Decide(wallet, number string, pays bool) bool {
	return s.books.decideFor(key{wallet, number}, pays)
}

// Next lets storms fall on the next new payments, one each, before anything
// else chooses their weather.
func (s *Wallets) Next(storms ...Storm) {
	for _, storm := range storms {
		s.next(gust{storm, codeOf(storm)})
	}
}

func (s *Wallets) next(g gust) {
	s.sky.mu.Lock()
	defer s.sky.mu.Unlock()
	s.sky.next = append(s.sky.next, g)
}

// SetWeather changes the weather.
func (s *Wallets) SetWeather(w Weather) error {
	if err := w.check(); err != nil {
		return err
	}
	s.sky.mu.Lock()
	defer s.sky.mu.Unlock()
	s.sky.now = w
	return nil
}

// Weather is the weather now.
func (s *Wallets) Weather() Weather {
	s.sky.mu.Lock()
	defer s.sky.mu.Unlock()
	return s.sky.now
}

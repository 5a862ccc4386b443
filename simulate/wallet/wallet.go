// Package simwallet is the wallets that buyers pay with by payment code,
// simulated: one HTTP server for all of them, with books that pay each order
// once, cancel and refund, and misbehave on request.
//
//	POST /WALLET/v1/pay     {"order","code","fen","merchant","terminal","name"}
//	POST /WALLET/v1/query   {"order"}
//	POST /WALLET/v1/cancel  {"order"}
//	POST /WALLET/v1/refund  {"order","refund","fen"}
//
// WALLET is wechat, alipay or unionpay-qr. Questions and answers are signed
// with HMAC-SHA-256: a question over its method, path, time and body, an answer
// over the question's signature, its status and its body. Besides, unsigned and
// for loopback only:
//
//	GET  /books                                  every order
//	GET  /totals                                 the books in numbers
//	GET  /weather, PUT /weather                  {"delay":1000000,"silent":0.01}, delays in nanoseconds
//	POST /next?digits=98                         the next new payment is treated as those two digits ask
//	POST /decide?wallet=W&order=N&pays=true      the buyer who types comes to an end
//
// The last two digits of an amount choose the weather (StormOf), or Weather
// draws it by chance. A payment code pays one order only.
package simwallet

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/money"
	"acquirer/routing"
)

// TestKey is the key of a simulated wallet. It is a TEST key: anybody can
// compute it.
func TestKey(wallet string) []byte {
	h := sha256.Sum256([]byte("acquirer TEST key of wallet " + wallet))
	return h[:]
}

// Config of the wallets. Zero durations and numbers take the defaults named
// beside them.
type Config struct {
	Keys        map[string][]byte // of each wallet that is served; nil for all of routing.Wallets with their TestKey
	Asks        int               // queries until a buyer who types comes to an end; 2
	Typing      time.Duration     // how long a buyer of .81 types; 2 s
	Late        time.Duration     // how late a late answer is; 10 s
	Silence     time.Duration     // longest a silent question holds its connection; 1 minute
	Skew        time.Duration     // how far the time of a question may be off; 5 minutes
	Limit       int               // orders the books take; a million
	CalmAmounts bool              // amounts do not choose the weather
	Weather     Weather           // at the start
	Seed        uint64            // of the weather's dice
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
	books    *books
	sky      sky
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
		cfg.Keys = map[string][]byte{}
		for _, name := range routing.Wallets {
			cfg.Keys[name] = TestKey(name)
		}
	}
	for name, k := range cfg.Keys {
		if !slices.Contains(routing.Wallets, name) || len(k) < 16 {
			return nil, fmt.Errorf("simwallet: wallet %q with a key of %d bytes; want one of %v with at least 16", name, len(k), routing.Wallets)
		}
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
	s := &Wallets{cfg: cfg, listener: l, running: running, quit: quit, books: newBooks(&cfg),
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

// URL is where a wallet is found.
func (s *Wallets) URL(wallet string) string { return "http://" + s.Addr() + "/" + wallet }

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

// question is what any of the four questions may hold.
type question struct {
	Order    string `json:"order"`
	Refund   string `json:"refund"`
	Code     string `json:"code"`
	Fen      int64  `json:"fen"`
	Merchant string `json:"merchant"`
	Terminal string `json:"terminal"`
	Name     string `json:"name"`
}

// reply is an answer on the wire.
type reply struct {
	Order       string `json:"order"`
	Refund      string `json:"refund,omitempty"`
	State       string `json:"state"`
	Fen         int64  `json:"fen,omitempty"`
	Refunded    int64  `json:"refunded,omitempty"`
	Transaction string `json:"transaction,omitempty"`
	Voucher     string `json:"voucher,omitempty"`
	Code        string `json:"code,omitempty"`
	PaidAt      int64  `json:"paid_at,omitempty"` // milliseconds since 1970
}

// about is what the wallet says about an order.
func about(o *Order) *reply {
	a := &reply{Order: o.Number, State: string(o.State), Fen: o.Amount.Fen(), Refunded: o.Refunded.Fen(), Transaction: o.Transaction, Code: o.Failure}
	if !o.PaidAt.IsZero() {
		a.Voucher, a.PaidAt = o.Voucher, o.PaidAt.UnixMilli()
	}
	return a
}

func refused(q *question, code string) *reply {
	return &reply{Order: q.Order, Refund: q.Refund, State: "REFUSED", Code: code}
}

// conversation is one signed question under way.
type conversation struct {
	s         *Wallets
	w         http.ResponseWriter
	r         *http.Request
	wallet    string
	signature string
	question
}

// signed verifies a question and gives it to its handler.
func (s *Wallets) signed(answer func(*conversation)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("wallet")
		if s.cfg.Keys[name] == nil {
			http.Error(w, "no such wallet", http.StatusNotFound)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<10))
		if err != nil {
			http.Error(w, "the question cannot be read", http.StatusRequestEntityTooLarge)
			return
		}
		c := &conversation{s: s, w: w, r: r, wallet: name, signature: r.Header.Get("Wallet-Signature")}
		at := r.Header.Get("Wallet-Time")
		got, err := hex.DecodeString(c.signature)
		if err != nil || !hmac.Equal(got, c.mac(r.Method, r.URL.EscapedPath(), at, string(body))) {
			http.Error(w, "the signature is missing or wrong", http.StatusUnauthorized)
			return
		}
		if pause, closed := s.sky.pause(); closed {
			http.Error(w, "closed", http.StatusServiceUnavailable)
			return
		} else if pause > 0 {
			wait(r.Context(), pause)
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		nano, timeErr := strconv.ParseInt(at, 10, 64)
		switch err := d.Decode(&c.question); {
		case timeErr != nil || time.Since(time.Unix(0, nano)).Abs() > s.cfg.Skew:
			c.answer(http.StatusUnauthorized, refused(&c.question, "BAD_TIME"))
		case err != nil || !number(c.Order):
			c.answer(http.StatusBadRequest, refused(&c.question, routing.BadRequest))
		default:
			answer(c)
		}
	}
}

// number reports whether s may name an order.
func number(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// mac signs parts that stand one on a line.
func (c *conversation) mac(parts ...string) []byte {
	h := hmac.New(sha256.New, c.s.cfg.Keys[c.wallet])
	for i, p := range parts {
		if i > 0 {
			h.Write([]byte{'\n'})
		}
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// answer signs and sends.
func (c *conversation) answer(status int, a *reply) {
	c.send(status, a, false)
}

func (c *conversation) send(status int, a *reply, forged bool) {
	text, err := json.Marshal(a)
	if err != nil {
		http.Error(c.w, err.Error(), http.StatusInternalServerError)
		return
	}
	mac := c.mac(c.signature, strconv.Itoa(status), string(text))
	if forged {
		mac[0] ^= 1
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Wallet-Signature", hex.EncodeToString(mac))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(text) // a client that is gone asks again
}

// hold never answers: it keeps the connection until the client leaves.
func (c *conversation) hold() {
	wait(c.r.Context(), c.s.cfg.Silence)
	panic(http.ErrAbortHandler) // breaks the connection
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pay takes a payment: a known order is answered as it stands, a new one as
// its storm has it.
func (c *conversation) pay() {
	code, err := routing.ParsePayCode(c.Code)
	if err != nil || c.Fen <= 0 || c.Refund != "" {
		c.answer(http.StatusBadRequest, refused(&c.question, routing.BadRequest))
		return
	}
	n := &Order{Wallet: c.wallet, Number: c.Order, Amount: money.Amount(c.Fen), Merchant: c.Merchant, Terminal: c.Terminal, Name: c.Name, code: code}
	if o, known, ok := c.s.books.repeat(n); known {
		c.stands(&o, ok)
		return
	}
	storm, failure := c.s.sky.payment(n.Amount)
	n.storm = storm
	switch storm {
	case DropBefore:
		panic(http.ErrAbortHandler)
	case Lost:
		c.hold()
	case Delayed:
		wait(c.s.running, c.s.cfg.Late)
		if c.s.running.Err() != nil {
			panic(http.ErrAbortHandler)
		}
	}
	o, ok, err := c.s.books.pay(n, failure)
	if err != nil {
		http.Error(c.w, err.Error(), http.StatusInsufficientStorage)
		return
	}
	switch storm {
	case Silent, Blind, LostCancel, DeafCancel, LaterCancel:
		c.hold()
	case DropAfter, Delayed:
		panic(http.ErrAbortHandler)
	case Late:
		wait(c.s.running, c.s.cfg.Late)
	case Breaks:
		http.Error(c.w, "internal error", http.StatusInternalServerError)
		return
	case OtherOrder:
		o.Number = "X" + o.Number
	case OtherAmount:
		o.Amount++
	case WrongSign:
		c.send(http.StatusOK, about(&o), true)
		return
	}
	c.stands(&o, ok)
}

// stands answers with an order, or refuses the question that gave its number
// to another.
func (c *conversation) stands(o *Order, ok bool) {
	if !ok {
		c.answer(http.StatusConflict, refused(&c.question, routing.OrderConflict))
		return
	}
	c.answer(http.StatusOK, about(o))
}

func (c *conversation) query() {
	o, known, sure := c.s.books.query(key{c.wallet, c.Order})
	switch {
	case !known:
		c.answer(http.StatusOK, &reply{Order: c.Order, State: "NO_ORDER"})
	case !sure:
		c.answer(http.StatusOK, &reply{Order: c.Order, State: "UNKNOWN"})
	default:
		c.answer(http.StatusOK, about(&o))
	}
}

func (c *conversation) cancel() {
	o, storm, err := c.s.books.cancel(key{c.wallet, c.Order}, c.s.sky.cancel())
	switch {
	case err != nil:
		http.Error(c.w, err.Error(), http.StatusInsufficientStorage)
	case storm == LostCancel || storm == DeafCancel:
		c.hold()
	case storm == LaterCancel:
		c.answer(http.StatusOK, &reply{Order: c.Order, State: "UNKNOWN"})
	default:
		c.answer(http.StatusOK, about(&o))
	}
}

func (c *conversation) refund() {
	if !number(c.Refund) || c.Fen <= 0 {
		c.answer(http.StatusBadRequest, refused(&c.question, routing.BadRequest))
		return
	}
	o, why := c.s.books.refund(key{c.wallet, c.Order}, c.Refund, money.Amount(c.Fen))
	a := about(&o)
	a.Refund = c.Refund
	switch why {
	case "":
		a.State, a.Code = "RETURNED", ""
	case routing.OrderConflict:
		c.answer(http.StatusConflict, refused(&c.question, why))
		return
	default:
		a.State, a.Code = "FAILED", why
	}
	c.answer(http.StatusOK, a)
}

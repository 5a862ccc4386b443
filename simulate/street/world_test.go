package street

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/calendar"
	"acquirer/download"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/settlement"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
	"acquirer/spec"
	"acquirer/store"
	switching "acquirer/switch"
)

const (
	terminals     = 12
	acquirerCode  = "48020000"
	cutOff        = calendar.CardCutoff
	walletCutOff  = calendar.WalletCutoff
	issuerTimeout = 25 * time.Second
	ownFunds      = 100_000 // yuan, for merchants who are paid on the same day
)

// rules are narrow, so that some sales meet them.
func rules() []limits.Rule {
	return append(limits.Defaults(),
		limits.Rule{Scope: limits.Merchant, Channel: limits.Any, DayAmount: money.Yuan(9_000), DayCount: 150},
		limits.Rule{Scope: limits.Card, Channel: limits.Any, DayCount: 25})
}

// world is one street: issuers, wallets, network and terminals stay, the house
// in their middle comes and goes.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	swarm  swarm
	faults *faults
	net    *network
	file   string
	log    lockedLog
	slog   *slog.Logger

	hsm               *hsm.Software
	dataKey, tokenKey hsm.Key
	zmk               map[string]hsm.Key
	seed              *merchant.Seed
	bins              *routing.Table

	issuers map[string]*issuer.Host
	wallets *simwallet.Wallets
	book    terminal.Book
	codes   codes
	serving sync.WaitGroup // issuers
	closed  map[calendar.Date][]settlement.MerchantDay

	mu      sync.Mutex
	house   *house                // nil while it is closed
	open    chan struct{}         // closed while it is open
	forged  map[terminal.Key]bool // sent with a wrong MAC, or none
	cleared map[terminal.Key]bool // taken out of a terminal by hand
	heard   [][]byte              // frames that terminals sent
	pins    []string              // some of their PIN blocks
	healing chan struct{}
}

// house is one run of the acquirer on the street's file.
type house struct {
	w        *world
	db       *store.DB
	registry *merchant.Registry
	journal  *journal.Journal
	ledger   *ledger.Ledger
	books    *settlement.Engine
	legs     map[string]switching.Leg
	wallets  map[string]*wallet.Wallet
	sw       *switching.Switch
	metrics  *prometheus.Registry
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// lockedLog is the house's log, written by many and read once.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// newWorldAt builds everything but the house, on a morning or an evening of a
// day: one street in two sees the cut-off.
func newWorldAt(t *testing.T, seed uint64, file string, day time.Time, f *faults) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	at := day.In(calendar.Beijing).Truncate(24 * time.Hour).Add([]time.Duration{9 * time.Hour, 14*time.Hour + 40*time.Minute, 15*time.Hour + 40*time.Minute}[rng.IntN(3)]) // 17:00, 22:40 and 23:40 in Beijing
	time.Sleep(time.Until(at))
	w := &world{t: t, rng: rng, swarm: drawSwarm(rng), faults: f, net: newNetwork(rand.New(rand.NewPCG(seed, 1)), f), file: file,
		zmk: map[string]hsm.Key{}, issuers: map[string]*issuer.Host{}, closed: map[calendar.Date][]settlement.MerchantDay{},
		open: make(chan struct{}), forged: map[terminal.Key]bool{}, cleared: map[terminal.Key]bool{}, healing: make(chan struct{})}
	w.slog = slog.New(slog.NewJSONHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx := context.Background()
	var err error
	w.hsm, err = hsm.NewSoftware(bytes.Repeat([]byte{7}, 32))
	w.must(err)
	w.dataKey, _, err = w.hsm.GenerateKey(ctx, hsm.UseDEK, hsm.AES32)
	w.must(err)
	w.tokenKey, _, err = w.hsm.GenerateKey(ctx, hsm.UseHMAC, hsm.HMAC32)
	w.must(err)

	var routes []routing.Route
	for i, is := range append(simcard.Issuers[:len(simcard.Issuers):len(simcard.Issuers)], simcard.Abroad) {
		kind := routing.Credit
		if is.Debit {
			kind = routing.Debit
		}
		lengths, err := routing.LengthsOf(is.Len)
		w.must(err)
		route := routing.Route{BIN: is.BIN, Issuer: is.Name, Kind: kind, Lengths: lengths, Luhn: true}
		if is.Name == simcard.Abroad.Name {
			route.Brand = is.Brand
		}
		routes = append(routes, route)
		w.zmk[is.Name] = w.formKey(hsm.UseZMK, issuer.TestZMK(is.Name))
		host, err := issuer.New(issuer.Config{Name: is.Name, Seed: seed + uint64(i), Forgetful: w.has(rng, "issuer forgets early reversals", 1), Log: slog.New(slog.DiscardHandler)})
		w.must(err)
		w.issuers[is.Name] = host
		l := w.net.listen(issuerLine, is.Name)
		w.serving.Go(func() { w.check(host.Serve(l)) })
	}
	w.bins, err = routing.NewTable(routes)
	w.must(err)
	w.wallets, err = simwallet.Serve(w.net.listen(walletLine, "wallets:80"), simwallet.Config{Seed: seed, Strict: seed%2 == 1})
	w.must(err)
	w.seed = w.register()
	return w
}

// end stops what newWorld started.
func (w *world) end() {
	for _, host := range w.issuers {
		host.Close()
	}
	w.serving.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	w.check(w.wallets.Close(ctx))
}

// register is the street's merchants: the first unassessed and paid the same
// day, the second the next working day, the third by another plan.
func (w *world) register() *merchant.Seed {
	seed := &merchant.Seed{}
	for j, m := range []merchant.Merchant{
		{Plan: "MICRO-2025", Tier: merchant.Unassessed, Speed: merchant.D0},
		{Plan: "ESIGN-STD", Tier: merchant.Assessed, Speed: merchant.T1},
		{Plan: "ESIGN-STD", Tier: merchant.Assessed, Speed: merchant.D0},
	} {
		m.MID, m.Name, m.MCC, m.Area = simcard.SeedMerchant(j), "夜市小摊", "5812", "110100"
		seed.Merchants = append(seed.Merchants, merchant.SeedMerchant{Merchant: m,
			Account: merchant.SeedAccount{Number: fmt.Sprintf("62220000111122%02d", j), Name: "王", Bank: "演示银行", Class: 1}})
	}
	for i := range terminals {
		tid, mid := simcard.SeedTerminal(i)
		seed.Terminals = append(seed.Terminals, merchant.SeedTerminal{Terminal: merchant.Terminal{TID: tid, MID: mid, Serial: tid},
			TMK: string(w.formKey(hsm.UseTMK, simcard.TestTMK(tid)))})
	}
	return seed
}

func (w *world) formKey(use hsm.Use, key [16]byte) hsm.Key {
	var mask, rest [16]byte
	for i := range rest {
		mask[i] = byte(w.rng.Uint32())
		rest[i] = mask[i] ^ key[i]
	}
	k, _, err := w.hsm.FormKey(context.Background(), use, hsm.TDES16, mask[:], rest[:])
	w.must(err)
	return k
}

// start opens the house on the street's file: what the last run left open is
// owed before it listens.
func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())
	h := &house{w: w, legs: map[string]switching.Leg{}, wallets: map[string]*wallet.Wallet{}, metrics: prometheus.NewRegistry(), cancel: cancel}
	w.openForReading(h)
	w.must(h.registry.Import(ctx, w.seed, func(number string) ([]byte, error) {
		return w.hsm.Encrypt(ctx, w.dataKey, []byte("settlement account"), []byte(number))
	}))
	h.openBooks()
	if err := h.ledger.Post(ctx, ledger.OwnFunds("opening", calendar.BusinessDate(time.Now(), cutOff), money.Yuan(ownFunds))); !errors.Is(err, ledger.ErrConflict) {
		w.must(err)
	}
	downloads, err := download.Open(ctx, h.db, switching.NewCardVault(w.hsm, w.dataKey, w.tokenKey))
	w.must(err)
	w.must(downloads.Import(ctx, download.BuiltIn()))
	w.net.light()
	for name, host := range w.issuers {
		keys := switching.NewZoneKeys(h.db, name, w.hsm, w.zmk[name], spec.CUPS, false)
		line, err := routing.NewIssuer(routing.Config{Name: name, Addrs: []string{name, name}, Institution: host.Institution(), Acquirer: acquirerCode,
			Timeout: issuerTimeout, Keys: keys, Log: w.slog, Dial: w.net.dial})
		w.must(err)
		h.legs[name] = switching.Leg{Issuer: line, Keys: keys}
	}
	for _, name := range routing.Wallets {
		h.wallets[name], err = wallet.New(wallet.Config{Name: name, URL: "http://wallets/" + name, Wire: simwallet.TestWire(name, wallet.RSA), Dial: w.net.dial})
		w.must(err)
	}
	h.sw, err = switching.New(switching.Config{
		MaxConnections: 64, MaxFrame: 4096, FrameTimeout: 10 * time.Second, IdleTimeout: 3 * time.Minute, WriteTimeout: 10 * time.Second,
		TimeoutCode: "98", ReversalNotFound: "25", Acquirer: acquirerCode, CutOff: cutOff, WalletCutOff: walletCutOff,
		Owed: switching.OwedConfig{Interval: 2 * time.Second, Backoff: 2 * time.Second, BackoffMax: time.Minute, MaxAttempts: 10_000, Concurrency: 4},
	}, switching.House{
		Store: h.db, Journal: h.journal, Terminals: h.registry, Downloads: downloads, BINs: w.bins, Legs: h.legs, Wallets: h.wallets,
		HSM: w.hsm, DataKey: w.dataKey, TokenKey: w.tokenKey, Log: w.slog, Metrics: h.metrics,
	})
	w.must(err)
	w.must(h.sw.Recover(ctx))
	l := w.net.listen(terminalLine, "switch")
	h.running.Go(func() {
		if err := h.sw.Serve(ctx, l); err != nil && !errors.Is(err, net.ErrClosed) {
			w.t.Errorf("serving: %v", err)
		}
	})
	h.running.Go(func() { h.sw.RunOwed(ctx) })
	h.running.Go(func() { h.keepBooks(ctx) })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.house = h
	close(w.open)
}

// keepBooks posts what was approved and closes business dates behind their
// cut-off, while terminals sell.
func (h *house) keepBooks(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := h.settleDue(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, settlement.ErrUndecided) && !errors.Is(err, store.ErrClosed) {
			h.w.t.Errorf("keeping the books: %v", err)
		}
	}
}

func (h *house) settleDue(ctx context.Context) error {
	if _, err := h.books.CatchUp(ctx); err != nil {
		return err
	}
	now := time.Now()
	today := calendar.BusinessDate(now, cutOff)
	open, err := h.books.OpenDate(ctx)
	if err != nil {
		return err
	}
	if ended := h.books.Ended(now); open <= ended {
		if _, err := h.books.CloseDay(ctx, ended, now, false); err != nil {
			return err
		}
		days, _, err := h.books.Merchants(ctx, ended)
		if err != nil {
			return err
		}
		h.w.mu.Lock()
		h.w.closed[ended] = days
		h.w.mu.Unlock()
	}
	if minute := now.In(calendar.Beijing).Minute(); minute%20 == 0 && calendar.DateOf(now) == today {
		hour := now.In(calendar.Beijing).Hour()
		_, err = h.books.PayEarly(ctx, today, hour*100+minute+1, now)
	}
	return err
}

// close ends the house: in good order, or as a crash does, with its lines cut
// and its store shut in the middle of whatever it was doing. Either way nothing
// of it runs when close returns.
func (w *world) close(orderly bool) {
	w.mu.Lock()
	h := w.house
	w.house, w.open = nil, make(chan struct{})
	w.mu.Unlock()
	drain, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	if !orderly {
		w.net.darken()
		w.check(h.db.Close())
		cancel()
		h.cancel()
	}
	err := h.sw.Shutdown(drain)
	cancel()
	if orderly {
		w.check(err)
	}
	h.cancel()
	h.running.Wait()
	leave, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, leg := range h.legs {
		if err := leg.Issuer.Close(leave); orderly {
			w.check(err)
		}
	}
	for _, way := range h.wallets {
		way.Close()
	}
	w.check(h.db.Close())
	w.checkMetrics(h)
}

// openForReading opens the store of a closed house again, and nothing else.
func (w *world) openForReading(h *house) {
	var err error
	h.db, err = store.Open(context.Background(), "sqlite:"+w.file, merchant.Schema, journal.Schema, limits.Schema, download.Schema, ledger.Schema, settlement.Schema, switching.ZoneSchema)
	w.must(err)
	h.registry, err = merchant.OpenRegistry(context.Background(), h.db)
	w.must(err)
	h.openBooks()
}

// openBooks is what the house keeps its books with.
func (h *house) openBooks() {
	var err error
	h.journal, err = switching.OpenJournal(h.db, rules(), h.registry)
	h.w.must(err)
	h.ledger = ledger.New(h.db)
	h.books, err = settlement.New(settlement.Config{DB: h.db, Source: settlement.FromJournal(h.journal, switching.EntryOf), Merchants: h.registry, CutOff: cutOff})
	h.w.must(err)
}

// checkMetrics looks for panics, which the switch survives and the street does not.
func (w *world) checkMetrics(h *house) {
	families, err := h.metrics.Gather()
	w.check(err)
	for _, f := range families {
		if f.GetName() == "acquirer_handler_panics_total" && f.Metric[0].GetCounter().GetValue() > 0 {
			w.t.Errorf("%v handlers panicked", f.Metric[0].GetCounter().GetValue())
		}
	}
}

// awaitOpen waits until the house is open, and reports whether the street still
// misbehaves.
func (w *world) awaitOpen() (stormy bool) {
	w.mu.Lock()
	open := w.open
	w.mu.Unlock()
	<-open
	select {
	case <-w.healing:
		return false
	default:
		return true
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

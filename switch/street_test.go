package switching_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/calendar"
	"acquirer/download"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/routing/wallet"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
	"acquirer/spec"
	"acquirer/store"
	"acquirer/store/storetest"
	switching "acquirer/switch"
)

// street is a whole house for tests: a real store, real sockets, simulated
// issuers and terminals around the switch.
type street struct {
	t        testing.TB
	db       *store.DB
	zones    *store.DB // the issuers' keys
	download *download.Book
	journal  *journal.Journal
	registry *merchant.Registry
	sw       *switching.Switch
	addr     string
	issuers  map[string]*issuer.Host
	wallets  *simwallet.Wallets
	mu       sync.Mutex
	cases    map[string]switching.Case // raised, by key

	refuseCase func() error // asked before a case is taken
	legs       map[string]switching.Leg
	metrics    *prometheus.Registry
	log        *syncBuffer
	book       *terminal.Book
	told       told // approvals that reached a wire instead of a terminal

	plan   *streetPlan
	hsm    keyHSM
	config switching.Config
	house  switching.House
	stop   func() // ends serving; may be called twice
}

// syncBuffer is a log that tests read while the house writes it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// keyHSM is an HSM that test keys can be put into.
type keyHSM interface {
	hsm.HSM
	FormKey(ctx context.Context, use hsm.Use, alg hsm.Alg, components ...[]byte) (hsm.Key, hsm.KCV, error)
}

type streetOption func(*streetPlan)

type streetPlan struct {
	url           string
	terminals     int
	issuerTimeout time.Duration
	config        func(*switching.Config)
	rules         []limits.Rule
	profile       func(i int, t *merchant.Terminal)
	line          func(*routing.Config)
	device        func(*hsm.Software) keyHSM // the HSM of the house, instead of the software one
	weaken        func(hsm.HSM) hsm.HSM      // what the switch gets instead of the HSM
	carries       map[string][]string        // by issuer
	dialect       *spec.Dialect              // of the lines to issuers, instead of CUPS
	routing       *routing.Rules
	breaker       routing.BreakerConfig // instead of one that never opens
	mayPanic      bool
	wallets       bool          // the simulated wallets stand behind it
	cancelAfter   time.Duration // no cancel before this since the payment
	abroad        bool          // and an issuer of a foreign scheme
	log           *slog.Logger  // instead of the buffer that street.log reads
}

func withTimeout(d time.Duration) streetOption {
	return func(p *streetPlan) { p.issuerTimeout = d }
}
func withRules(r []limits.Rule) streetOption { return func(p *streetPlan) { p.rules = r } }
func withConfig(f func(*switching.Config)) streetOption {
	return func(p *streetPlan) { p.config = f }
}
func withStore(url string) streetOption            { return func(p *streetPlan) { p.url = url } }
func withTerminals(n int) streetOption             { return func(p *streetPlan) { p.terminals = n } }
func withLineDialect(d *spec.Dialect) streetOption { return func(p *streetPlan) { p.dialect = d } }
func withLine(f func(*routing.Config)) streetOption {
	return func(p *streetPlan) {
		before := p.line
		p.line = func(c *routing.Config) {
			if before != nil {
				before(c)
			}
			f(c)
		}
	}
}

// withAll has everything that stories meet.
func withAll(p *streetPlan) { p.wallets, p.abroad = true, true }

func withLog(l *slog.Logger) streetOption { return func(p *streetPlan) { p.log = l } }

// mayPanic lets handlers panic; in every other house none may.
func mayPanic(p *streetPlan)                       { p.mayPanic = true }
func withHSM(f func(hsm.HSM) hsm.HSM) streetOption { return func(p *streetPlan) { p.weaken = f } }

// newStreet opens a house with every simulated issuer and eight terminals of
// two merchants: the first on MICRO-2025 and unassessed, the second on
// ESIGN-STD and assessed.
func newStreet(t testing.TB, options ...streetOption) *street {
	t.Helper()
	p := streetPlan{url: "sqlite:" + filepath.Join(t.TempDir(), "street.db"), terminals: 8, issuerTimeout: slower * time.Second, rules: limits.Defaults()}
	for _, o := range options {
		o(&p)
	}
	ctx := context.Background()
	s := &street{t: t, plan: &p, issuers: map[string]*issuer.Host{}, legs: map[string]switching.Leg{}, log: &syncBuffer{}, book: &terminal.Book{}}
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if p.log != nil {
		log = p.log
	}

	var master [32]byte
	if _, err := rand.Read(master[:]); err != nil {
		t.Fatal(err)
	}
	software, err := hsm.NewSoftware(master[:])
	must(t, err)
	var h keyHSM = software
	if p.device != nil {
		h = p.device(software)
	}
	s.hsm = h
	t.Cleanup(func() {
		if s.db != nil {
			must(t, s.db.Close())
		}
	})

	var routes []routing.Route
	for _, is := range simcard.Issuers {
		s.startIssuer(ctx, h, is.Name, p.issuerTimeout, log)
		lengths, err := routing.LengthsOf(is.Len)
		must(t, err)
		kind := routing.Credit
		if is.Debit {
			kind = routing.Debit
		}
		routes = append(routes, routing.Route{BIN: is.BIN, Issuer: is.Name, Kind: kind, Lengths: lengths, Luhn: true})
	}
	if p.abroad {
		is := simcard.Abroad
		s.startIssuer(ctx, h, is.Name, p.issuerTimeout, log)
		lengths, err := routing.LengthsOf(is.Len)
		must(t, err)
		routes = append(routes, routing.Route{BIN: is.BIN, Issuer: is.Name, Brand: is.Brand, Kind: routing.Credit, Lengths: lengths, Luhn: true})
	}
	bins, err := routing.NewTable(routes)
	must(t, err)
	dataKey, _, err := h.GenerateKey(ctx, hsm.UseDEK, hsm.AES32)
	must(t, err)
	tokenKey, _, err := h.GenerateKey(ctx, hsm.UseHMAC, hsm.HMAC32)
	must(t, err)

	s.config = switching.Config{
		MaxConnections: 64, MaxFrame: 4096, FrameTimeout: slower * 2 * time.Second, IdleTimeout: slower * 20 * time.Second, WriteTimeout: slower * 2 * time.Second, StoreTimeout: slower * 5 * time.Second,
		WalletPatience: slower * time.Second, TimeoutCode: "98", ReversalNotFound: "25", Acquirer: "48020000", CutOff: 23 * time.Hour,
		Owed: switching.OwedConfig{Interval: 20 * time.Millisecond, Backoff: 20 * time.Millisecond, BackoffMax: 200 * time.Millisecond, MaxAttempts: 12, Concurrency: 4},
	}
	// A day that ended while a test runs would close what the test follows up.
	if time.Now().In(calendar.Beijing).Hour() >= 22 {
		s.config.CutOff, s.config.WalletCutOff = 12*time.Hour, 12*time.Hour
	}
	// The weather of other tests breaks no breaker: those that are about them set
	// their own.
	s.config.Breaker = cmp.Or(p.breaker, routing.BreakerConfig{Streak: 1000, Percent: 100, Least: 1000, Window: time.Minute, Pause: slower * time.Second})
	if p.config != nil {
		p.config(&s.config)
	}
	s.house = switching.House{BINs: bins, Rules: p.routing, Legs: s.legs, HSM: h, DataKey: dataKey, TokenKey: tokenKey, Log: log}
	for _, k := range simcard.TestBaseKeys {
		alg := hsm.TDES16
		if k.AES {
			if p.device != nil {
				continue // no command of a payShield derives from one
			}
			alg = hsm.AES16
		}
		s.house.BaseKeys = append(s.house.BaseKeys, merchant.BaseKey{KSI: k.KSI, BDK: string(formKeyOf(t, h, hsm.UseBDK, alg, k.Key))})
	}
	if p.wallets {
		s.startWallets()
	}
	if p.weaken != nil {
		s.house.HSM = p.weaken(h)
	}
	s.open()
	return s
}

// open opens the database, makes a switch on it and serves.
func (s *street) open() {
	s.t.Helper()
	ctx := context.Background()
	var err error
	s.db, err = store.Open(ctx, s.plan.url, merchant.Schema, journal.Schema, limits.Schema, download.Schema)
	must(s.t, err)
	s.registry, err = merchant.OpenRegistry(ctx, s.db)
	must(s.t, err)
	s.seed(ctx, s.hsm, s.plan)
	s.journal, err = switching.OpenJournal(s.db, s.plan.rules, s.registry)
	must(s.t, err)
	s.download, err = download.Open(ctx, s.db, switching.NewCardVault(s.house.HSM, s.house.DataKey, s.house.TokenKey))
	must(s.t, err)
	must(s.t, s.download.Import(ctx, download.BuiltIn()))
	s.house.Downloads = s.download
	s.metrics = prometheus.NewRegistry()
	s.house.Store, s.house.Journal, s.house.Terminals, s.house.Metrics = s.db, s.journal, s.registry, s.metrics
	s.sw, err = switching.New(s.config, s.house)
	must(s.t, err)
	must(s.t, s.sw.Recover(ctx))
	s.serve()
}

// reopen ends the switch and its store as a stop of the process does, and
// starts both again on the same database. The issuers live on.
func (s *street) reopen() {
	s.t.Helper()
	s.stop()
	must(s.t, s.db.Close())
	s.open()
}

func (s *street) serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.t, err)
	s.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	sw := s.sw
	wg.Go(func() {
		if err := sw.Serve(ctx, l); err != nil && !errors.Is(err, net.ErrClosed) { // stopped before it began
			s.t.Errorf("serving: %v", err)
		}
	})
	wg.Go(func() { sw.RunOwed(ctx) })
	s.stop = sync.OnceFunc(func() {
		drain, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		if err := sw.Shutdown(drain); err != nil {
			s.t.Errorf("shutdown: %v", err)
		}
		cancel()
		wg.Wait()
		if n := s.metric("acquirer_handler_panics_total"); n > 0 && !s.plan.mayPanic {
			s.t.Errorf("%v handlers panicked", n)
		}
	})
	s.t.Cleanup(s.stop)
}

func (s *street) seed(ctx context.Context, h keyHSM, p *streetPlan) {
	seed := &merchant.Seed{}
	for j := range (p.terminals + 3) / 4 {
		m := merchant.Merchant{MID: simcard.SeedMerchant(j), Name: "夜市小摊", MCC: "5812", Area: "110100", Plan: "ESIGN-STD", Speed: merchant.T1, Tier: merchant.Assessed}
		if j == 0 {
			m.Plan, m.Tier, m.Speed = "MICRO-2025", merchant.Unassessed, merchant.D0
		}
		seed.Merchants = append(seed.Merchants, merchant.SeedMerchant{Merchant: m, Account: merchant.SeedAccount{Number: "6222000011112222", Name: "王", Bank: "演示银行", Class: 1}})
	}
	for i := range p.terminals {
		tid, mid := simcard.SeedTerminal(i)
		tmk := formKey(s.t, h, hsm.UseTMK, simcard.TestTMK(tid))
		mt := merchant.Terminal{TID: tid, MID: mid, Serial: tid}
		if p.profile != nil {
			p.profile(i, &mt)
		}
		seed.Terminals = append(seed.Terminals, merchant.SeedTerminal{Terminal: mt, TMK: string(tmk)})
	}
	must(s.t, s.registry.Import(ctx, seed, func(string) ([]byte, error) { return []byte{1}, nil }))
}

// networkIssuer is the issuer that takes the cards of all the others too, when a rule
// sends them there.
const networkIssuer = "west"

func (s *street) startIssuer(ctx context.Context, h keyHSM, name string, timeout time.Duration, log *slog.Logger) {
	var bins []string
	if name == networkIssuer {
		for _, is := range simcard.Issuers {
			bins = append(bins, is.BIN)
		}
	}
	host, err := issuer.New(issuer.Config{Name: name, BINs: bins, Dialect: s.plan.dialect, Late: timeout + 300*time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	must(s.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := host.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
			s.t.Errorf("issuer %s: %v", name, err)
		}
	})
	if s.zones == nil { // the lines outlive what a test does to the database of the house
		s.zones = storetest.SQLite(s.t, switching.ZoneSchema)
	}
	keys := switching.NewZoneKeys(s.zones, name, h, formKey(s.t, h, hsm.UseZMK, issuer.TestZMK(name)), cmp.Or(s.plan.dialect, spec.CUPS), false)
	cfg := routing.Config{Name: name, Addrs: []string{l.Addr().String()}, Institution: host.Institution(), Acquirer: "48020000", Dialect: s.plan.dialect,
		Timeout: timeout, QueueTimeout: timeout, BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond, Keys: keys, Log: log}
	if s.plan.line != nil {
		s.plan.line(&cfg)
	}
	line, err := routing.NewIssuer(cfg)
	must(s.t, err)
	up, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	must(s.t, line.AwaitUp(up))
	s.issuers[name], s.legs[name] = host, switching.Leg{Issuer: line, Keys: keys, Carries: s.plan.carries[name]}
	s.t.Cleanup(func() {
		end, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(s.t, line.Close(end))
		host.Close()
		wg.Wait()
	})
}

// startWallets starts the simulated wallets and the ways to them.
func (s *street) startWallets() {
	var err error
	s.wallets, err = simwallet.Start("127.0.0.1:0", simwallet.Config{Late: slower * 2 * time.Second, Typing: 50 * time.Millisecond})
	must(s.t, err)
	ways := map[string]*wallet.Wallet{}
	for _, name := range routing.Wallets {
		ways[name], err = wallet.New(wallet.Config{Name: name, URL: s.wallets.URL(name), Wire: simwallet.TestWire(name, wallet.RSA), Timeout: slower * 400 * time.Millisecond,
			Poll: 20 * time.Millisecond, Unknown: 20 * time.Millisecond, CancelAfter: cmp.Or(s.plan.cancelAfter, time.Nanosecond)})
		must(s.t, err)
	}
	s.house.Raise = func(_ context.Context, c switching.Case) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refuseCase != nil {
			if err := s.refuseCase(); err != nil {
				return err
			}
		}
		if s.cases == nil {
			s.cases = map[string]switching.Case{}
		}
		s.cases[c.Key] = c
		return nil
	}
	s.house.Wallets = ways
	s.t.Cleanup(func() {
		for _, way := range ways {
			way.Close()
		}
		end, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(s.t, s.wallets.Close(end))
	})
}

func formKey(t testing.TB, h keyHSM, use hsm.Use, key [16]byte) hsm.Key {
	t.Helper()
	return formKeyOf(t, h, use, hsm.TDES16, key)
}

func formKeyOf(t testing.TB, h keyHSM, use hsm.Use, alg hsm.Alg, key [16]byte) hsm.Key {
	t.Helper()
	var a, b [16]byte
	if _, err := rand.Read(a[:]); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = a[i] ^ key[i]
	}
	k, _, err := h.FormKey(context.Background(), use, alg, a[:], b[:])
	must(t, err)
	return k
}

// terminal makes the i-th seeded terminal, not yet signed in.
func (s *street) terminal(i int, change ...func(*terminal.Config)) *terminal.Terminal {
	s.t.Helper()
	tid, mid := simcard.SeedTerminal(i)
	cfg := terminal.Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Dial: terminal.DialTCP(s.addr, nil), Timeout: patience, Book: s.book}
	for _, c := range change {
		c(&cfg)
	}
	t, err := terminal.New(cfg)
	must(s.t, err)
	s.t.Cleanup(func() { must(s.t, t.Close()) })
	return t
}

// settled waits until nothing is owed that a machine still tries.
func (s *street) settled() journal.DebtCounts {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c, err := s.journal.Debts(context.Background())
		must(s.t, err)
		if c.Owed == 0 {
			return c
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("still owed after %v: %+v", patience, c)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

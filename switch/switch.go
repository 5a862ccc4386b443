// Package switching is the switch: terminals in, answers out. (The folder is
// switch; that word is a keyword of the language.)
//
// One message runs from serveTerminal (terminal.go) through handle
// (handlers.go) to its own file: purchase.go, reversal.go, signin.go. What the
// issuers are owed is in owed.go, DE 39 in response.go alone. Terminals of other
// dialects than UnionPay's are read in dialect.go.
package switching

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/card"
	"acquirer/download"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/store"
)

// Config is how the switch behaves; cmd/acquirer fills it from the settings of
// docs/configuration.md.
type Config struct {
	MaxConnections   int
	MaxFrame         int // bytes
	FrameTimeout     time.Duration
	IdleTimeout      time.Duration
	WriteTimeout     time.Duration
	TLS              *tls.Config
	StoreTimeout     time.Duration // for one durable step; after it the transaction is in doubt
	TimeoutCode      ResponseCode  // DE 39 when the issuer did not answer: 98 or 68
	ReversalNotFound ResponseCode  // DE 39 for a reversal without an original: 25 or 00
	BadMACs          int           // wrong MACs in a row after which a terminal is told to sign in again
	Fallback         bool          // the stripe of a chip card is taken when the terminal says that the chip failed
	FallbackCode     ResponseCode  // DE 39 when it is not: 45
	RefuseReplays    bool          // a chip's counter that goes backwards is refused, not only noticed
	CompletionPPM    int64         // the most a completion may be of its pre-authorisation, ppm: 1,150,000
	TipPPM           int64         // the most a tip may be of its sale, ppm
	RefundDays       int           // how long a sale may be refunded
	PreAuthDays      int           // how long a pre-authorisation may be completed
	WalletPatience   time.Duration // how long a terminal waits for a buyer who types the password
	Acquirer         string        // DE 32, 8 to 11 digits
	CutOff           time.Duration // time of day, Beijing, at which cards change their business date
	WalletCutOff     time.Duration // and wallets; 0 is midnight
	Behind           time.Duration // business dates are asked for as of so long ago: for who plays dates that are past
	Breaker          routing.BreakerConfig
	Owed             OwedConfig
}

// Leg is one issuer as the switch uses it: its lines and its keys.
type Leg struct {
	Issuer  *routing.Issuer
	Keys    *ZoneKeys
	Carries []string // of what not every issuer takes: instalment, points, reservation, ecash, purse, topup
}

// House is what the switch stands on. Every field but Rules, Wallets, Raise
// and Tell is needed.
type House struct {
	Store     *store.DB
	Journal   *journal.Journal
	Terminals *merchant.Registry
	Downloads *download.Book // what terminals download
	BINs      *routing.Table
	Rules     *routing.Rules // over the BIN table; nil sends every card to its own issuer
	Legs      map[string]Leg // by issuer name, as the BIN table has it
	// Wallets are by name, as routing.WalletOf has it; without them payment
	// codes are refused.
	Wallets map[string]*wallet.Wallet
	// Raise, when given, takes a case for a person. It keeps each key once;
	// after an error the same case is raised again.
	Raise    func(context.Context, Case) error
	HSM      hsm.HSM
	DataKey  hsm.Key            // seals account numbers at rest (hsm.UseDEK)
	TokenKey hsm.Key            // makes their look-up tokens (hsm.UseHMAC)
	BaseKeys []merchant.BaseKey // of terminals whose PINs come under DUKPT
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	// Tell, when given, hears of every financial message after its answer has
	// left, in the goroutine of its connection: it must be quick.
	Tell func(Told)
}

// Told is one financial message, answered.
type Told struct {
	ID         int64 // the journal's; 0 when it was not journaled
	At         time.Time
	Took       time.Duration // until the answer had left
	IssuerTook time.Duration // 0 when no issuer was asked
	Kind       string        // sale, reversal
	Terminal   *merchant.Terminal
	PAN        card.PAN
	Amount     money.Amount
	Issuer     string
	Reason     journal.Reason
	Code       ResponseCode // "" when nothing was answered
}

// Switch serves terminals. Make it with New, recover with Recover, then Serve.
type Switch struct {
	cfg       Config
	store     *store.DB
	journal   *journal.Journal
	terminals *merchant.Registry
	downloads *download.Book
	plan      atomic.Pointer[routing.Plan]
	legs      map[string]Leg
	breakers  map[string]*routing.Breaker // by issuer
	wallets   map[string]*wallet.Wallet
	hsm       hsm.HSM
	dataKey   hsm.Key
	tokenKey  hsm.Key
	baseKeys  []merchant.BaseKey
	log       *slog.Logger
	metrics   *metrics
	tell      func(Told)
	raise     func(context.Context, Case) error
	tls       *tls.Config

	conns    connections
	working  atomic.Int64 // requests read and not yet answered
	works    sync.Pool
	trace    atomic.Uint32 // DE 11 towards the issuers
	undecide undecided
	strikes  strikes
	chips    counters[chipCard, uint16] // 9F36
	serials  counters[string, uint32]   // of DUKPT devices
	traces   traces
	owedBell chan struct{}
}

// New checks that the house is complete.
func New(cfg Config, h House) (*Switch, error) {
	for what, missing := range map[string]bool{
		"store": h.Store == nil, "journal": h.Journal == nil, "terminals": h.Terminals == nil, "downloads": h.Downloads == nil,
		"BIN table": h.BINs == nil, "HSM": h.HSM == nil, "data key": h.DataKey == "", "token key": h.TokenKey == "", "log": h.Log == nil, "metrics": h.Metrics == nil,
	} {
		if missing {
			return nil, errors.New("switch: no " + what)
		}
	}
	for name, leg := range h.Legs {
		if leg.Issuer == nil || leg.Keys == nil {
			return nil, fmt.Errorf("switch: issuer %q has no lines or no keys", name)
		}
		for _, carried := range leg.Carries {
			if !slices.Contains(carriable(), carried) {
				return nil, fmt.Errorf("switch: issuer %q carries %q, which is none of %s", name, carried, strings.Join(carriable(), ", "))
			}
			if d := leg.Issuer.Dialect(); !d.CUPS() {
				return nil, fmt.Errorf("switch: issuer %q cannot carry %q: it goes in DE 48 as UnionPay has it, and %s has no such field; leave it out of carries, or let the issuer speak cups", name, carried, d.Name())
			}
		}
	}
	cfg.defaults()
	s := &Switch{cfg: cfg, wallets: h.Wallets, store: h.Store, journal: h.Journal, terminals: h.Terminals, downloads: h.Downloads, legs: h.Legs, breakers: map[string]*routing.Breaker{},
		hsm: h.HSM, dataKey: h.DataKey, tokenKey: h.TokenKey, baseKeys: h.BaseKeys, log: h.Log, metrics: newMetrics(h.Metrics), tell: h.Tell, raise: h.Raise, tls: cfg.TLS, owedBell: make(chan struct{}, 1)}
	if err := cfg.Breaker.Check(); err != nil {
		return nil, err
	}
	for name := range h.Legs {
		b := routing.NewBreaker(cfg.Breaker)
		s.breakers[name] = b
		h.Metrics.MustRegister(breakerMetrics(name, b)...)
		for _, result := range []string{"approved", "refused", "limit", "failed"} { // from 0 on, so that the first one is an increase
			s.metrics.standIn.WithLabelValues(name, result)
		}
	}
	plan, err := routing.NewPlan(h.BINs, h.Rules, s.issuerNames())
	if err != nil {
		return nil, err
	}
	s.plan.Store(plan)
	h.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "acquirer_transactions_in_flight",
		Help: "Requests read and not yet answered."}, func() float64 { return float64(s.working.Load()) }))
	s.works.New = func() any { return new(work) }
	s.trace.Store(rand.Uint32N(1_000_000)) // a restart does not reuse the numbers in flight at the last stop
	return s, nil
}

// carriable is what an issuer's line may carry besides what all do.
func carriable() []string {
	var all []string
	for i := range rows {
		if n := rows[i].needy; n != "" && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// defaults fills in what is zero.
func (c *Config) defaults() {
	fill(&c.StoreTimeout, 10*time.Second)
	fill(&c.BadMACs, 3)
	fill(&c.FallbackCode, RCUseChip)
	fill(&c.CompletionPPM, 1_150_000)
	fill(&c.TipPPM, 200_000)
	fill(&c.RefundDays, 180)
	fill(&c.PreAuthDays, 30)
	fill(&c.WalletPatience, 40*time.Second)
	fill(&c.Breaker, routing.BreakerConfig{Streak: 5, Percent: 50, Least: 20, Window: 30 * time.Second, Pause: 10 * time.Second})
}

func fill[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// nextTrace is DE 11 towards the issuers: 1 to 999999, unique among what is in
// flight together with the RRN.
func (s *Switch) nextTrace() int { return int(s.trace.Add(1)%999_999) + 1 }

// rrnOf is DE 37: the journal's id in base 36, twelve characters, so that a
// receipt names its row (docs/ARCHITECTURE.md).
func rrnOf(id int64) string {
	text := strings.ToUpper(strconv.FormatInt(id, 36))
	return strings.Repeat("0", max(0, 12-len(text))) + text
}

// storeContext bounds one durable step. It does not end with the connection or
// the listener: a transaction that began is carried to its end.
func (s *Switch) storeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StoreTimeout)
}

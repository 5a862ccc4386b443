// Package issuer is an issuer's host for tests, load and the demo: it speaks
// CUPS or another dialect that goes to issuers, keeps accounts and books, checks PINs, cryptograms and MACs in
// an HSM of its own, and misbehaves on request. Its cards, and the secrets
// that it shares with them, are those of simulate/card.
//
// Weather comes in three ways: an amount chooses it (StormOf; the table is
// AmountTable), Weather draws it by chance, or Next orders it for the next
// messages of a kind.
package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/card"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// Config describes an issuer.
type Config struct {
	Name        string        // of simcard.Issuers, or another that gives its own BINs
	BINs        []string      // whose cards it has; nil for the BIN of simcard's issuer
	Institution string        // its institution code, up to 11 digits; "" for InstitutionOf(Name)
	ZMK         *[16]byte     // the TEST zone master key of its lines; nil for TestZMK(Name)
	Dialect     *spec.Dialect // what its lines speak; nil for spec.CUPS, else one with presence rules that routing.CheckDialect takes

	Balance      money.Amount  // of every account; 0 for a billion yuan
	Late         time.Duration // how late a late answer is; 0 for 40 s
	Completion   int           // percent of a hold that a completion may take; 0 for 115
	StrictATC    bool          // a chip whose counter went backwards is refused with 05; else the books note it
	Forgetful    bool          // a reversal before its original leaves nothing behind: the original is then taken when it comes
	CalmAmounts  bool          // amounts do not choose the weather
	Weather      Weather       // at the start
	Seed         uint64        // of the weather's dice
	KeyGrace     time.Duration // how long the zone key before the current one is still taken; 0 for a minute, longer than any request is in flight
	WriteTimeout time.Duration // 0 for 5 s
	Log          *slog.Logger  // nil for slog.Default
}

// InstitutionOf is the institution code of a simulated issuer: 0102 and its
// place among simcard.Issuers, 01030001 abroad; others are 01020099.
func InstitutionOf(name string) string {
	if name == simcard.Abroad.Name {
		return "01030001"
	}
	for i, is := range simcard.Issuers {
		if is.Name == name {
			return fmt.Sprintf("0102%04d", i+1)
		}
	}
	return "01020099"
}

// Host is a running issuer.
type Host struct {
	cfg   Config
	log   *slog.Logger
	vault *vault
	bank  *bank
	sky   sky

	mu      sync.Mutex
	lines   map[*line]bool
	waiting map[uint32]func(code string) // 0810s by STAN
	ended   bool

	trace atomic.Uint32 // STAN of its own 0800s
	quit  chan struct{}

	serving sync.WaitGroup // lines; added to under mu, before ended
	late    sync.WaitGroup // answers on their way; added to by lines
}

// New makes an issuer; Serve lets it answer.
func New(cfg Config) (*Host, error) {
	if is, ok := simcard.IssuerNamed(cfg.Name); ok && len(cfg.BINs) == 0 {
		cfg.BINs = []string{is.BIN}
	}
	if cfg.Name == "" || len(cfg.BINs) == 0 {
		return nil, fmt.Errorf("issuer %q: give it BINs, or the name of one of the simulated ones", cfg.Name)
	}
	for _, b := range cfg.BINs {
		if len(b) < 6 || len(b) > 11 || strings.Trim(b, "0123456789") != "" {
			return nil, fmt.Errorf("issuer %s: BIN %q is not 6 to 11 digits", cfg.Name, b)
		}
	}
	if cfg.Institution == "" {
		cfg.Institution = InstitutionOf(cfg.Name)
	}
	if cfg.Dialect == nil {
		cfg.Dialect = spec.CUPS
	}
	if err := routing.CheckDialect(cfg.Dialect); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", cfg.Name, err)
	}
	if !cfg.Dialect.CUPS() && len(cfg.Dialect.Presence()) == 0 {
		return nil, fmt.Errorf("issuer %s: dialect %s has no presence rules, by which it would tell what a message is", cfg.Name, cfg.Dialect.Name())
	}
	if cfg.Balance == 0 {
		cfg.Balance = money.Yuan(1e9)
	}
	if cfg.Completion == 0 {
		cfg.Completion = 115
	}
	if cfg.Completion < 0 {
		return nil, fmt.Errorf("issuer %s: a completion of %d percent of its hold", cfg.Name, cfg.Completion)
	}
	if cfg.Late == 0 {
		cfg.Late = 40 * time.Second
	}
	if cfg.KeyGrace == 0 {
		cfg.KeyGrace = time.Minute
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := cfg.Weather.check(); err != nil {
		return nil, err
	}
	zmk := TestZMK(cfg.Name)
	if cfg.ZMK != nil {
		zmk = *cfg.ZMK
	}
	v, err := newVault(cfg.Name, zmk, simcard.TestIMK(cfg.Name), cfg.Dialect, cfg.KeyGrace)
	if err != nil {
		return nil, err
	}
	return &Host{
		cfg: cfg, log: cfg.Log.With("host", cfg.Name), vault: v, bank: newBank(cfg.Balance, cfg.Completion, cfg.Forgetful),
		sky:   sky{now: cfg.Weather, rng: rand.New(rand.NewPCG(cfg.Seed, 0))},
		lines: map[*line]bool{}, waiting: map[uint32]func(string){}, quit: make(chan struct{}),
	}, nil
}

// Name is the issuer's name, Institution its institution code.
func (h *Host) Name() string        { return h.cfg.Name }
func (h *Host) Institution() string { return h.cfg.Institution }

// BINs are the beginnings of its cards' numbers.
func (h *Host) BINs() []string { return slices.Clone(h.cfg.BINs) }

// Serve accepts lines on ln until Close, and returns when every line has ended.
func (h *Host) Serve(ln net.Listener) error {
	var lines sync.WaitGroup
	defer lines.Wait()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-h.quit:
		case <-stopped:
		}
		ln.Close() // ends Accept; its error says nothing new
	}()
	for {
		nc, err := ln.Accept()
		if err != nil {
			select {
			case <-h.quit:
				return nil
			default:
				return fmt.Errorf("issuer %s: %w", h.cfg.Name, err)
			}
		}
		lines.Go(func() { h.ServeConn(nc) })
	}
}

// ServeConn answers on one connection until it ends.
func (h *Host) ServeConn(nc net.Conn) {
	l := newLine(h, nc)
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		_ = nc.Close()
		return
	}
	h.lines[l] = true
	h.serving.Add(1)
	h.mu.Unlock()
	defer h.serving.Done()
	err := l.serve()
	h.mu.Lock()
	delete(h.lines, l)
	h.mu.Unlock()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		h.log.Info("line ended", "error", err)
	}
}

// Close drops the lines and ends what Serve serves. The books stay readable.
func (h *Host) Close() {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		return
	}
	h.ended = true
	close(h.quit)
	h.mu.Unlock()
	h.DropLines()
	h.serving.Wait()
	h.late.Wait()
}

// DropLines hangs up on every line.
func (h *Host) DropLines() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.lines {
		l.drop()
	}
}

// SetWeather changes the weather.
func (h *Host) SetWeather(w Weather) error {
	if err := w.check(); err != nil {
		return err
	}
	h.sky.mu.Lock()
	h.sky.now = w
	h.sky.mu.Unlock()
	if w.Closed {
		h.DropLines()
	}
	return nil
}

// Next orders weather for the next messages of a kind: that a void is lost, or
// the second of two reversals. Orders for one kind are served in their order,
// before what an amount or chance wants.
func (h *Host) Next(orders ...Order) error {
	for i := range orders {
		if err := orders[i].check(); err != nil {
			return err
		}
	}
	for _, o := range orders {
		h.sky.order(o)
	}
	return nil
}

// Weather is the weather now.
func (h *Host) Weather() Weather {
	h.sky.mu.Lock()
	defer h.sky.mu.Unlock()
	return h.sky.now
}

// Books are all entries, in the order they came.
func (h *Host) Books() []Entry { return h.bank.snapshot() }

// Totals are the books in numbers.
func (h *Host) Totals() Totals { return h.bank.totals() }

// Balance is what a card may spend: its money less what is held on it. Deposit
// sets it.
func (h *Host) Balance(pan card.PAN) money.Amount            { return h.bank.balance(pan) }
func (h *Host) Deposit(pan card.PAN, available money.Amount) { h.bank.deposit(pan, available) }

// RollKey sends the acquirer a new zone key on a line that is signed on and
// waits for its 0810. The old key is still taken for KeyGrace.
func (h *Host) RollKey(ctx context.Context, use routing.KeyUse) error {
	l := h.signedOn()
	if l == nil {
		return fmt.Errorf("issuer %s: no line is signed on", h.cfg.Name)
	}
	_, zak := h.vault.keyLengths()
	return l.sendKey(ctx, use, use == routing.ZPK || zak == 16)
}

func (h *Host) signedOn() *line {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.lines {
		if l.signedOn.Load() {
			return l
		}
	}
	return nil
}

// ours reports whether the issuer has cards of that number.
func (h *Host) ours(number string) bool {
	return slices.ContainsFunc(h.cfg.BINs, func(b string) bool { return strings.HasPrefix(number, b) })
}

// WriteBooks writes the books as JSON: the form that GET /books has too.
func (h *Host) WriteBooks(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(struct {
		Issuer  string  `json:"issuer"`
		Totals  Totals  `json:"totals"`
		Entries []Entry `json:"entries"`
	}{h.cfg.Name, h.Totals(), h.Books()})
}

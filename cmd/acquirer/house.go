package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/console"
	"acquirer/download"
	"acquirer/fault"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing/wallet"
	"acquirer/settlement"
	"acquirer/settlement/dispute"
	"acquirer/settlement/reconcile"
	"acquirer/store"
	switching "acquirer/switch"
)

// house is everything that stands behind the listeners. openHouse is the one
// place where it is put together; serve, demo, settle and the end-to-end tests
// all use it.
type house struct {
	cfg       Config
	log       *slog.Logger
	metrics   *prometheus.Registry
	db        *store.DB
	hsm       hsm.HSM
	terminals *merchant.Registry
	downloads *download.Book
	journal   *journal.Journal
	ledger    *ledger.Ledger
	books     *settlement.Engine
	recon     *reconcile.Engine
	disputes  *dispute.Engine
	missed    prometheus.Counter // disputes that nobody answered in time
	rail      bankRail           // nil without a bank
	routing   *rerouter
	keys      *keyBook // nil when the HSM is a device that keeps its own books
	legs      map[string]switching.Leg
	wallets   map[string]*wallet.Wallet
	strays    *strays
	instant   instant
	sw        *switching.Switch
	started   time.Time

	receipts     *receiptGauge
	refusedFiles prometheus.Counter
	waiting      prometheus.Gauge // 1 while a date waits at the gate

	windows    []int  // HHMM at which D+0 merchants are paid
	waits      string // why a date is not settled yet; the settler's alone
	paidWindow int64  // the last one done, as yyyymmddHHMM; the settler's alone
}

// schemas are every table there is, in the order in which they are made.
func schemas() []store.Schema {
	return []store.Schema{keySchema, registrySchema, linesSchema, merchant.Schema, journal.Schema, limits.Schema, ledger.Schema, settlement.Schema, settlement.FileSchema, download.Schema, audit.Schema, reconcile.Schema, dispute.Schema, switching.ZoneSchema}
}

// openHouse opens the store, the HSM and the registry, loads the seed, and
// starts the lines to the issuers. It does not listen yet.
func openHouse(ctx context.Context, cfg Config, log *slog.Logger, h hsm.HSM, issuers []issuerConfig, tape *console.Tape) (_ *house, err error) {
	v := &house{cfg: cfg, log: log, hsm: h, metrics: prometheus.NewRegistry(), legs: map[string]switching.Leg{}, started: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if err := importCalendars(splitList(cfg.Settlement.Calendar)); err != nil {
		return nil, fmt.Errorf("settlement.calendar: %w", err)
	}
	v.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "acquirer_calendar_days",
		Help: "Days until the last business date whose T+1 day is known; the holidays of the year after are needed before it is 0."}, func() float64 {
		today := calendar.DateOf(time.Now())
		return float64(today.DaysUntil(calendar.Chinese().Last(today)))
	}))
	v.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if c, ok := h.(pinCounter); ok {
		if err := guardPINs(cfg, c, v.metrics); err != nil {
			return nil, err
		}
	}
	if c, ok := h.(prometheus.Collector); ok {
		v.metrics.MustRegister(c)
	}
	if err := store.SetNode(cfg.Node); err != nil {
		return nil, err
	}
	if err := makeFolder(cfg.Database); err != nil {
		return nil, err
	}
	if v.db, err = store.Open(ctx, cfg.Database, schemas()...); err != nil {
		return nil, err
	}
	v.metrics.MustRegister(v.db)
	if v.terminals, err = merchant.OpenRegistry(ctx, v.db); err != nil {
		return nil, err
	}
	if v.journal, err = switching.OpenJournal(v.db, limits.Defaults(), v.terminals); err != nil {
		return nil, err
	}
	v.ledger = ledger.New(v.db)
	dataKey, err := v.storedKey(ctx, "data", hsm.UseDEK, hsm.AES32)
	if err != nil {
		return nil, err
	}
	tokenKey, err := v.storedKey(ctx, "token", hsm.UseHMAC, hsm.HMAC32)
	if err != nil {
		return nil, err
	}
	if v.downloads, err = download.Open(ctx, v.db, switching.NewCardVault(h, dataKey, tokenKey)); err != nil {
		return nil, err
	}
	if err := v.importDownloads(ctx); err != nil {
		return nil, err
	}
	if v.windows, err = parseWindows(cfg.Settlement.Windows); err != nil {
		return nil, err
	}
	v.instant = newInstant(v.metrics)
	if v.books, err = v.openBooks(ctx, dataKey); err != nil {
		return nil, err
	}
	v.receipts = newReceiptGauge(v.metrics)
	if cfg.Settlement.Bank != "" && !v.books.TakesCredits() {
		log.Warn("settlement.payers names nobody: what networks and wallets pay is booked by hand (acquirer settle --received), and T+1 payouts are sent before it comes unless settlement.credit says otherwise")
	}
	if err := v.openReconciler(); err != nil {
		return nil, err
	}
	if v.disputes, err = disputes(v.db, cfg, v.books); err != nil {
		return nil, err
	}
	v.missed = newMissed()
	v.metrics.MustRegister(newCaseGauge(v.disputes), v.missed, newPayoutGauge(v.books), newWaitGauge(v.desk()))
	bins, rules, err := loadRouting(cfg)
	if err != nil {
		return nil, err
	}
	if k, ok := h.(hsm.Keeper); ok {
		if v.keys, err = newKeyBook(v.db, k, cfg, issuers); err != nil {
			return nil, err
		}
		v.metrics.MustRegister(v.keys)
	}
	for _, k := range cfg.baseKeys {
		if _, err := h.CheckValue(ctx, hsm.Key(k.BDK)); err != nil {
			return nil, fmt.Errorf("the base key of key serial numbers %s: %w", k.KSI, err)
		}
	}
	v.strays = watchStrays(v.journal, log)
	if err := v.startIssuers(ctx, issuers); err != nil {
		return nil, err
	}
	if err := v.openWallets(); err != nil {
		return nil, err
	}
	tlsConfig, err := terminalTLS(cfg)
	if err != nil {
		return nil, err
	}
	v.routing = newRerouter(v)
	v.sw, err = switching.New(switching.Config{
		MaxConnections: cfg.Terminals.MaxConnections, MaxFrame: cfg.Terminals.MaxFrame,
		FrameTimeout: cfg.Terminals.FrameTimeout, IdleTimeout: cfg.Terminals.IdleTimeout, WriteTimeout: cfg.Terminals.WriteTimeout, TLS: tlsConfig,
		TimeoutCode: switching.ResponseCode(cfg.Switch.TimeoutCode), ReversalNotFound: switching.ResponseCode(cfg.Switch.ReversalNotFound),
		Acquirer: cfg.Switch.Acquirer, CutOff: cfg.Switch.CutOff, WalletCutOff: cfg.Switch.WalletCutOff, Behind: cfg.clockBack,
		BadMACs: cfg.Switch.BadMACs, Fallback: cfg.Switch.Fallback, FallbackCode: switching.ResponseCode(cfg.Switch.FallbackCode), RefuseReplays: cfg.Switch.RefuseReplays,
		CompletionPPM: int64(cfg.Switch.CompletionPercent) * percent, TipPPM: int64(cfg.Switch.TipPercent) * percent,
		RefundDays: cfg.Switch.RefundDays, PreAuthDays: cfg.Switch.PreAuthDays, WalletPatience: cfg.Switch.WalletPatience,
		Breaker: cfg.breaker(),
		Owed: switching.OwedConfig{Interval: cfg.Owed.Interval, Backoff: cfg.Owed.Backoff, BackoffMax: cfg.Owed.BackoffMax,
			MaxAttempts: cfg.Owed.MaxAttempts, Concurrency: cfg.Owed.Concurrency},
	}, switching.House{
		Store: v.db, Journal: v.journal, Terminals: v.terminals, Downloads: v.downloads, BINs: bins, Rules: rules, Legs: v.legs, Wallets: v.wallets, Raise: v.raise,
		HSM: h, DataKey: dataKey, TokenKey: tokenKey, BaseKeys: cfg.baseKeys, Log: log, Metrics: v.metrics, Tell: v.tell(tape),
	})
	return v, err
}

const percent = money.Million / 100 // in ppm

// importDownloads makes the house hold what the settings say that terminals
// download.
func (v *house) importDownloads(ctx context.Context) error {
	set := download.BuiltIn()
	if v.cfg.Downloads != "" {
		var err error
		if set, err = download.Load(v.cfg.Downloads); err != nil {
			return usageError{fmt.Errorf("downloads: %w", err)}
		}
	}
	if v.cfg.Environment == "production" {
		if n := set.DropTestKeys(); n > 0 {
			v.log.Warn("test CA keys are not offered in production; list the real ones in the file of the setting downloads", "keys", n)
		}
	}
	return v.downloads.Import(ctx, set)
}

// splitList reads a setting that is a list.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// close ends the lines and the store; what is half open is closed as far as it
// got.
func (v *house) close() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, leg := range v.legs {
		errs = append(errs, leg.Issuer.Close(ctx))
	}
	if v.strays != nil {
		v.strays.close()
	}
	for _, w := range v.wallets {
		w.Close()
	}
	if v.rail != nil {
		v.rail.Close() // a bank that is stopping would wait for connections held here
	}
	if v.db != nil {
		errs = append(errs, v.db.Close())
	}
	return errors.Join(errs...)
}

func makeFolder(database string) error {
	path, ok := strings.CutPrefix(database, "sqlite:")
	if !ok {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("the database's folder: %w", err)
	}
	return nil
}

// terminalTLS is nil for plain TCP.
func terminalTLS(cfg Config) (*tls.Config, error) {
	if cfg.Terminals.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.Terminals.TLSCert, cfg.Terminals.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("terminals.tls_cert: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// keySchema holds the house's own keys, as key blocks.
var keySchema = store.Schema{Name: "house", Steps: []string{`
create table house_key (
	name  TEXT NOT NULL PRIMARY KEY, -- data: seals account numbers; token: makes their look-up tokens
	block TEXT NOT NULL,             -- X9.143 key block under the HSM's master key
	made  BIGINT NOT NULL            -- microseconds since 1970
)`}}

// storedKey finds the house's key of a name or makes it. Two nodes that start
// together agree: the row that is there wins.
func (v *house) storedKey(ctx context.Context, name string, use hsm.Use, alg hsm.Alg) (hsm.Key, error) {
	fresh, _, err := v.hsm.GenerateKey(ctx, use, alg)
	if err != nil {
		return "", err
	}
	var block string
	fault.Hit("house.key.before")
	err = v.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec("insert into house_key (name, block, made) values ($1, $2, $3) on conflict (name) do nothing", name, string(fresh), time.Now().UnixMicro()); err != nil {
			return err
		}
		return tx.QueryRow("select block from house_key where name = $1", name).Scan(&block)
	})
	fault.Hit("house.key.after")
	if err != nil {
		return "", fmt.Errorf("the house's %s key: %w", name, err)
	}
	if _, err := v.hsm.CheckValue(ctx, hsm.Key(block)); err != nil && !errors.Is(err, hsm.ErrKey) {
		return "", fmt.Errorf("the house's %s key: %w", name, err)
	} else if err != nil {
		return "", fmt.Errorf("the house's %s key in the database was made by another HSM; use the master key file that belongs to this database: %w", name, err)
	}
	return hsm.Key(block), nil
}

// importSeed registers what the seed lists and this database does not know.
func (v *house) importSeed(ctx context.Context, s *merchant.Seed) error {
	dataKey, err := v.storedKey(ctx, "data", hsm.UseDEK, hsm.AES32)
	if err != nil {
		return err
	}
	return v.terminals.Import(ctx, s, func(number string) ([]byte, error) { return v.sealAccount(dataKey)(ctx, number) })
}

// accountAAD is bound to every sealed settlement account.
var accountAAD = []byte("settlement account")

// loopback refuses an address that others could reach.
func loopback(setting, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", setting, err)}
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return usageError{fmt.Errorf("%s: %s is not a loopback address; put a reverse proxy with authentication in front instead", setting, addr)}
}

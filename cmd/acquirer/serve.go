package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/console"
	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/simulate/card"
	"acquirer/simulate/issuer"
)

func newServeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the switch, configured by file, environment and flags",
		Long: `serve runs the switch for real: terminals in, issuers out, the ledger behind them,
business dates closed at cut-off and payouts sent. Everything that can be set is
in docs/configuration.md and in acquirer config.

It needs a master key file (acquirer hsm init) and a seed file that lists
merchants, terminals, issuers and wallets; --seed demo takes the simulated street,
whose issuers must then run (acquirer simulate issuer), and whose wallets may
(acquirer simulate wallet, --wallet).`,
		Example: `  acquirer hsm init --file data/hsm.key --passphrase-file pass
  acquirer serve --config acquirer.yaml
  ACQUIRER_DATABASE=postgres://acquirer@db/acquirer acquirer serve --seed street.json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	lines := cmd.Flags().StringToString("issuer", nil, "where a simulated issuer of --seed demo listens, name=host:port; may be given again")
	wallets := cmd.Flags().StringToString("wallet", nil, "where a simulated wallet of --seed demo is found, name=URL; may be given again, or left out")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(cmd.Flags())
		if err != nil {
			return err
		}
		log, closeLog, err := openLog(cfg, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		defer closeLog()
		for _, name := range strangeVariables(os.Environ()) {
			log.Warn("a variable of the environment is no setting", "variable", name)
		}
		h, err := openHSM(cmd.Context(), cfg, log)
		if err != nil {
			return err
		}
		defer closeHSM(h, log)
		seed, issuers, err := loadSeed(cmd.Context(), cfg, h, *lines)
		if err != nil {
			return err
		}
		if cfg.wallets, err = loadWallets(cfg, seed, *wallets); err != nil {
			return usageError{err}
		}
		return serve(cmd.Context(), cfg, log, h, seed, issuers, nil)
	}
	return cmd
}

// shownAs is the environment as the console names it: the demo's street is one
// of its own.
func shownAs(cfg Config) string {
	if cfg.demo {
		return "demo"
	}
	return cfg.Environment
}

// loadSeed reads merchants, terminals and issuers.
func loadSeed(ctx context.Context, cfg Config, h hsm.HSM, lines map[string]string) (*merchant.Seed, []issuerConfig, error) {
	switch cfg.Seed {
	case "":
		return nil, nil, usageError{errors.New("no seed: set seed to a JSON file of merchants, terminals and issuers, or to demo")}
	case "demo":
		seed, err := demoSeed(ctx, h, seedTerminals)
		if err != nil {
			return nil, nil, err
		}
		issuers, err := demoIssuers(ctx, h, lines)
		return seed, issuers, err
	}
	seed, err := merchant.LoadSeed(cfg.Seed)
	if err != nil {
		return nil, nil, usageError{err}
	}
	issuers, err := readIssuers(seed)
	if err != nil {
		return nil, nil, usageError{err}
	}
	for _, is := range issuers {
		if _, err := h.CheckValue(ctx, is.ZMK); err != nil {
			return nil, nil, fmt.Errorf("%s: zmk of issuer %s: %w; form it with acquirer hsm form --use ZMK", cfg.Seed, is.Name, err)
		}
	}
	return seed, issuers, nil
}

// demoIssuers are the simulated issuers at the addresses given, each of which
// may be several separated by "+".
func demoIssuers(ctx context.Context, h hsm.HSM, lines map[string]string) ([]issuerConfig, error) {
	var out []issuerConfig
	for _, is := range simcard.Issuers {
		addr, ok := lines[is.Name]
		if !ok {
			return nil, usageError{fmt.Errorf("--seed demo needs --issuer %s=HOST:PORT for each of its issuers; start them with acquirer simulate issuer", is.Name)}
		}
		zmk, err := formKey(ctx, h, hsm.UseZMK, issuer.TestZMK(is.Name))
		if err != nil {
			return nil, err
		}
		out = append(out, issuerConfig{Name: is.Name, Institution: issuer.InstitutionOf(is.Name), Lines: strings.Split(addr, "+"), ZMK: zmk})
	}
	return out, nil
}

// errFinished ends serve from its started hook without being a failure.
var errFinished = errors.New("finished")

// spareMemoryForSpeed lets the heap grow to five times what lives before it is
// collected: the message path leaves little behind, and collecting it costs a
// seventh of the CPU at Go's default (docs/performance.md). GOGC overrides it.
func spareMemoryForSpeed() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// running is what serve tells its caller once everything listens.
type running struct {
	house    *house
	keeper   *keeper
	terminal string            // address of the terminals' listener
	dialects map[string]string // by the addresses of the others
	admin    string            // of /metrics
	console  string
}

// serve puts the house together, recovers, listens and runs until ctx ends or
// something that cannot be done without fails. started, when given, hears when
// everything listens.
func serve(ctx context.Context, cfg Config, log *slog.Logger, h hsm.HSM, seed *merchant.Seed, issuers []issuerConfig, started func(context.Context, running) error) (err error) {
	cfg.baseKeys = seed.BaseKeys
	if err := loopback("admin.listen", cfg.Admin.Listen); err != nil {
		return err
	}
	spareMemoryForSpeed()
	tape := console.NewTape()
	v, err := openHouse(ctx, cfg, log, h, issuers, tape)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	if seed != nil {
		if err := v.importSeed(ctx, seed); err != nil {
			return err
		}
	}
	keep, inspect := newKeeper(v), newInspector(v)
	// What the last run left open is owed before anybody can connect (W5).
	if err := v.sw.Recover(ctx); err != nil {
		return err
	}

	if err := v.bookOwnFunds(ctx); err != nil {
		return err
	}
	if err := v.allowFast(ctx); err != nil {
		return err
	}
	// The first date that this database will close is fixed before it sells. What
	// else is due (files, closes, payouts) is the settler's: terminals do not wait
	// for a file of a million lines.
	if !cfg.byHand {
		if err := v.books.Begin(ctx, time.Now()); err != nil {
			log.Error("beginning the books", "error", err.Error())
		}
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	background := func(what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	terminals, err := net.Listen("tcp", cfg.Terminals.Listen)
	if err != nil {
		return fmt.Errorf("terminals.listen: %w", err)
	}
	entries, others, err := listenDialects(cfg.Terminals.Dialects, log)
	if err != nil {
		return errors.Join(err, terminals.Close())
	}
	served := false
	defer func() {
		if !served { // nobody else closes them
			err = errors.Join(err, terminals.Close(), closeListeners(others))
		}
	}()
	adm := &admin{v: v}
	adminListener, err := net.Listen("tcp", cfg.Admin.Listen)
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	shut := func() error { return nil }
	if adm.token, shut, err = openDoor(cfg, adminListener.Addr().String()); err != nil {
		return errors.Join(err, adminListener.Close())
	}
	defer func() { err = errors.Join(err, shut()) }()
	background("admin", func() error { return serveHTTP(ctx, adminListener, adm.handler()) })
	run := running{house: v, keeper: keep, terminal: terminals.Addr().String(), admin: adminListener.Addr().String()}
	if cfg.Admin.Pprof != "" {
		if err := loopback("admin.pprof", cfg.Admin.Pprof); err != nil {
			return err
		}
		l, err := net.Listen("tcp", cfg.Admin.Pprof)
		if err != nil {
			return fmt.Errorf("admin.pprof: %w", err)
		}
		background("pprof", func() error { return serveHTTP(ctx, l, pprofHandler()) })
	}
	if cfg.Console.Listen != "" {
		l, err := console.Listen(cfg.Console.Listen)
		if err != nil {
			err = fmt.Errorf("console.listen: %w", err)
			if op := (*net.OpError)(nil); !errors.As(err, &op) {
				err = usageError{err} // not a matter of the machine: it will never listen there
			}
			return err
		}
		page, err := console.New(console.Config{House: consoleHouse{v: v, k: keep, name: shownAs(cfg)}, Tape: tape, Log: log})
		if err != nil {
			return errors.Join(err, l.Close())
		}
		run.console = "http://" + l.Addr().String() + "/"
		background("console", func() error { return page.Serve(ctx, l) })
	}
	if cfg.Settlement.Callback != "" {
		l, handler, err := v.listenCallbacks()
		if err != nil {
			return err
		}
		background("bank callbacks", func() error { return serveHTTP(ctx, l, handler) })
	}
	background("routing", func() error { v.routing.run(ctx); return nil })
	background("owed", func() error { v.sw.RunOwed(ctx); return nil })
	background("ledger", func() error { keep.run(ctx); return nil })
	background("integrity", func() error { inspect.run(ctx, cfg.Integrity.At); return nil })
	background("tallies", func() error { inspect.count(ctx); return nil })
	if !cfg.byHand {
		background("settlement", func() error { v.settler(ctx, 10*time.Second); return nil })
		background("retention", func() error { v.forgetter(ctx, time.Hour); return nil })
		background("bills", func() error { v.billFetcher(ctx, 10*time.Minute); return nil })
	}
	if v.rail != nil && !cfg.byHand {
		background("instant payouts", func() error { v.payInstantly(ctx, 2*time.Second); return nil })
	}
	background("registry", func() error {
		v.terminals.Watch(ctx, time.Second, func(err error) { log.Error("refreshing the registry", "error", err.Error()) })
		return nil
	})
	if v.keys != nil {
		background("keys", func() error {
			v.keys.run(ctx, time.Minute, func(err error) { log.Error("keeping the key registry", "error", err.Error()) })
			return nil
		})
	}
	if v.db.Postgres() { // there may be other nodes
		background("zone keys", func() error { v.followZoneKeys(ctx, time.Second); return nil })
	}
	background("downloads", func() error {
		v.downloads.Watch(ctx, time.Second, func(err error) { log.Error("refreshing what terminals download", "error", err.Error()) })
		return nil
	})
	background("store", func() error {
		select {
		case <-v.db.Failed():
			return errors.New("the store has failed; restart to read what is really on disk")
		case <-ctx.Done():
			return nil
		}
	})
	if _, err := calendar.SettleDate(calendar.BusinessDate(time.Now(), cfg.Switch.CutOff)); err != nil {
		log.Warn("the calendar ends too soon; settlement will stop", "error", err.Error())
	}
	// The switch is stopped by Shutdown, not by ctx: what runs is answered.
	serving := context.WithoutCancel(ctx)
	served = true
	background("terminals", func() error { return v.sw.Serve(serving, terminals) })
	run.dialects = serveDialects(serving, v.sw, entries, others, background)
	adm.ready.Store(true)
	log.Info("listening", "terminals", run.terminal, "dialects", run.dialects, "admin", run.admin, "console", run.console)
	if started != nil {
		wg.Go(func() {
			if err := started(ctx, run); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	adm.ready.Store(false)
	log.Info("stopping: running transactions are answered first")
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), cfg.Switch.IssuerTimeout+5*time.Second)
	defer stop()
	err = v.sw.Shutdown(drain)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, errFinished) {
		err = errors.Join(cause, err)
	}
	return err
}

// openLog makes the log. Lines are written by a buffer that is flushed ten
// times a second and at the end: one system call for many transactions.
func openLog(cfg Config, stderr io.Writer) (*slog.Logger, func(), error) {
	out, closeFile := stderr, func() error { return nil }
	if cfg.Log.File != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.Log.File), 0o700); err != nil {
			return nil, nil, fmt.Errorf("log.file: %w", err)
		}
		f, err := os.OpenFile(cfg.Log.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("log.file: %w", err)
		}
		out, closeFile = f, f.Close
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return nil, nil, usageError{fmt.Errorf("log.level: %w", err)}
	}
	buffer := newLogBuffer(out)
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(buffer, options)
	if cfg.Log.Format == "text" {
		handler = slog.NewTextHandler(buffer, options)
	}
	return slog.New(handler), func() {
		if err := errors.Join(buffer.Close(), closeFile()); err != nil {
			fmt.Fprintln(stderr, "acquirer: closing the log:", err)
		}
	}, nil
}

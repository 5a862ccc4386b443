package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/hsm"
	"acquirer/money"
	"acquirer/simulate/bank"
	"acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/wallet"
)

func newDemoCmd() *cobra.Command {
	var (
		transactions int
		settle       bool
		asJSON       bool
		terminals    int
		keep         string
		days         int
		from         string
		dice         uint64
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Everything in one process: a seeded street, issuers, wallets, a bank, money moving",
		Long: `demo opens the whole house on an embedded database: the switch, four issuers,
three wallets, a bank, six merchants with 24 terminals, the console. It prints
what to look at and keeps a gentle flow of transactions going until it is interrupted.

With --transactions it runs so many instead and ends; with --settle it then closes
the day, pays the merchants, compares the journal with the issuers' own books,
and fails unless everything holds.

With --days it plays so many business dates one after the other, from --from over
the holiday of October: issuers, wallets and the bank write their files from their own
books, with faults of every kind in them, each date is compared with its files before it
is settled, and dates without trade follow until nothing waits any more. It fails unless
the differences found are those that were caused, each rightly named.`,
		Example: `  acquirer demo
  acquirer demo --transactions 500 --settle --json
  acquirer demo --days 5 --transactions 2000 --settle --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	f := cmd.Flags()
	f.IntVar(&transactions, "transactions", 0, "run this many transactions and end; 0 keeps a gentle flow going")
	f.BoolVar(&settle, "settle", false, "close the day, pay and reconcile after --transactions")
	f.BoolVar(&asJSON, "json", false, "print the result of --transactions as JSON")
	f.IntVar(&terminals, "terminals", seedTerminals, "how many terminals are registered; the first 24 stand on the street")
	f.IntVar(&days, "days", 0, "with --transactions and --settle: play so many business dates, with files and their faults; at most 12")
	f.StringVar(&from, "from", "2026-09-29", "with --days: the first business date")
	f.Uint64Var(&dice, "dice", 7, "what is sold is drawn by this number")
	f.StringVar(&keep, "keep", "", "keep database, key and log in this folder, and go on with what it holds; without it they go when the demo ends")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if settle && transactions == 0 {
			return usageError{errors.New("--settle needs --transactions")}
		}
		if transactions < 0 || terminals < streetTerminals {
			return usageError{fmt.Errorf("--transactions must not be negative and --terminals not below %d", streetTerminals)}
		}
		if days != 0 && (days < 1 || days > 12 || !settle || transactions < days) {
			return usageError{errors.New("--days is 1 to 12 and needs --settle and as many --transactions")}
		}
		first, err := calendar.ParseDate(from)
		if err == nil && days > 0 {
			_, err = calendar.SettleDate(first.AddDays(days + quietDays + 10))
		}
		if err != nil {
			return usageError{fmt.Errorf("--from: %w", err)}
		}
		cfg, err := loadConfig(cmd.Flags())
		if err != nil {
			return err
		}
		if cfg.Environment == "production" {
			return usageError{errors.New("environment is production: the demo has a software HSM whose passphrase lies beside its key, and published keys; run acquirer serve instead, or leave environment at test")}
		}
		if cfg.HSM.Kind != "software" {
			return usageError{fmt.Errorf("hsm.kind is %s: the demo makes a software HSM of its own; run acquirer serve --seed demo for another", cfg.HSM.Kind)}
		}
		w := &world{out: cmd.OutOrStdout(), progress: cmd.ErrOrStderr(), json: asJSON, transactions: transactions, settle: settle, terminals: terminals, days: days, from: first, dice: dice}
		return w.run(cmd.Context(), cfg, cmd, keep)
	}
	return cmd
}

// world is the demo: the house and everything around it.
type world struct {
	out, progress io.Writer
	json, settle  bool
	transactions  int
	terminals     int
	days          int           // how many dates are played; 0 is the one day of the clock
	from          calendar.Date // the first of them
	dice          uint64
	play          *dayByDay // with days

	issuers map[string]*issuer.Host
	bank    *simbank.Bank
	wallets *simwallet.Wallets
	first   int64           // journal ids from here on are this day's
	before  calendar.Date   // sales of dates up to here may be an earlier process's
	paid    map[string]bool // what network and wallets have paid, by reference
	result  demoResult
}

// run opens the world in its own folder and lets serve run the house in it.
func (w *world) run(ctx context.Context, cfg Config, cmd *cobra.Command, keep string) (err error) {
	folder := keep
	if folder == "" {
		if folder, err = os.MkdirTemp("", "acquirer-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	} else if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	w.paid = map[string]bool{}
	if _, err := os.Stat(filepath.Join(folder, "acquirer.db")); err == nil {
		w.before = calendar.BusinessDate(time.Now(), cfg.Switch.CutOff)
	}
	w.arrange(&cfg, cmd, folder)
	today := calendar.DateOf(time.Now()) // what it sells is paid within two weeks
	if years, err := calendar.Assume(today, today.AddDays(14)); err != nil {
		return err
	} else if len(years) > 0 {
		fmt.Fprintf(w.progress, "the holidays of %v are not known yet: the demo takes New Year's Day alone\n", years)
	}
	now := time.Now
	if w.days > 0 {
		if err := w.arrangeDays(&cfg, folder); err != nil {
			return err
		}
		now = w.play.clock
	}
	log, closeLog, err := openLog(cfg, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer closeLog()
	// What a command asks this process for may open the HSM's file too.
	cfg.HSM.File, cfg.HSM.PassphraseFile = filepath.Join(folder, "hsm.key"), filepath.Join(folder, "hsm.key.pass")
	h, err := demoHSM(cfg.HSM.File, cfg.HSM.PassphraseFile)
	if err != nil {
		return err
	}
	seed, err := demoSeed(ctx, h, w.terminals)
	if err != nil {
		return err
	}
	lines, stop, err := w.startIssuers(cfg)
	if err != nil {
		return err
	}
	defer stop()
	issuers, err := demoIssuers(ctx, h, lines)
	if err != nil {
		return err
	}
	if w.bank, err = simbank.Start("127.0.0.1:0", simbank.Config{Opening: money.Yuan(100_000_000)}); err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, w.bank.Close(end))
	}()
	cfg.Settlement.Bank = w.bank.URL()
	if w.wallets, err = simwallet.Start("127.0.0.1:0", simwallet.Config{Late: cfg.Switch.IssuerTimeout + time.Second, Now: now}); err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, w.wallets.Close(end))
	}()
	for _, name := range w.wallets.Names() {
		way := simulatedWallet(name, w.wallets.URL(name))
		way.Timeout = duration(cfg.Switch.IssuerTimeout)
		cfg.wallets = append(cfg.wallets, way)
	}
	err = serve(ctx, cfg, log, h, seed, issuers, w.started)
	if err == nil && w.transactions > 0 {
		err = w.report()
	}
	return err
}

// arrange gives the demo what it needs without being told: a database and a log
// in its folder, shorter waits than a real network's, and free ports when the
// usual ones are taken or nobody is to look.
func (w *world) arrange(cfg *Config, cmd *cobra.Command, folder string) {
	given := func(key string) bool {
		f := cmd.Flags().Lookup(flagName(key))
		_, env := os.LookupEnv(envName(key))
		return f.Changed || env || cmd.Flags().Changed("config")
	}
	if !given("database") {
		cfg.Database = "sqlite:" + filepath.Join(folder, "acquirer.db")
	}
	if !given("log.file") {
		cfg.Log.File = filepath.Join(folder, "acquirer.log")
	}
	if !given("switch.issuer_timeout") {
		cfg.Switch.IssuerTimeout = 3 * time.Second
	}
	if !given("owed.backoff") {
		cfg.Owed.Backoff, cfg.Owed.BackoffMax = 200*time.Millisecond, 5*time.Second
	}
	if !given("settlement.own_funds") {
		cfg.Settlement.OwnFunds = "1000000.00"
	}
	if !given("settlement.wallet_ppm") {
		cfg.Settlement.WalletPPM = 2_000 // as simulated wallets keep
	}
	cfg.demoPayers = streetPayers()
	if !given("settlement.timeout") {
		cfg.Settlement.Timeout = 2 * time.Second
	}
	for key, addr := range map[string]*string{"terminals.listen": &cfg.Terminals.Listen, "admin.listen": &cfg.Admin.Listen, "console.listen": &cfg.Console.Listen} {
		if !given(key) && (w.transactions > 0 || taken(*addr)) {
			*addr = "127.0.0.1:0"
		}
	}
	cfg.Environment, cfg.demo = "test", true
}

// taken reports whether somebody listens there already.
func taken(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return true
	}
	return l.Close() != nil
}

// demoHSM opens the demo's own master key, which is new in a new folder. Its
// passphrase stands beside it: this is a demo.
func demoHSM(file, passFile string) (*hsm.Software, error) {
	pass, err := os.ReadFile(passFile)
	if err == nil {
		return hsm.Open(file, pass)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	pass = make([]byte, 32)
	if _, err := rand.Read(pass[:16]); err != nil {
		return nil, err
	}
	hex.Encode(pass, pass[:16])
	if err := os.WriteFile(passFile, pass, 0o600); err != nil {
		return nil, err
	}
	return hsm.Create(file, pass)
}

// startIssuers opens the four issuers, each on a port of its own.
func (w *world) startIssuers(cfg Config) (lines map[string]string, stop func(), err error) {
	lines = map[string]string{}
	w.issuers = map[string]*issuer.Host{}
	var wg sync.WaitGroup
	stop = func() {
		for _, host := range w.issuers {
			host.Close()
		}
		wg.Wait()
	}
	for i, is := range simcard.Issuers {
		host, err := issuer.New(issuer.Config{Name: is.Name, Late: cfg.Switch.IssuerTimeout + time.Second, Seed: uint64(i) + 1, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, nil, errors.Join(err, closing(stop))
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, errors.Join(err, closing(stop))
		}
		w.issuers[is.Name], lines[is.Name] = host, l.Addr().String()
		wg.Go(func() {
			if err := host.Serve(l); err != nil {
				fmt.Fprintf(w.progress, "issuer %s: %v\n", is.Name, err)
			}
		})
	}
	return lines, stop, nil
}

func closing(stop func()) error {
	stop()
	return nil
}

// started runs when everything listens.
func (w *world) started(ctx context.Context, r running) error {
	for name, leg := range r.house.legs {
		up, cancel := context.WithTimeout(ctx, 15*time.Second)
		err := leg.Issuer.AwaitUp(up)
		cancel()
		if err != nil {
			return fmt.Errorf("issuer %s: %w", name, err)
		}
	}
	if w.transactions > 0 {
		play := w.day
		if w.days > 0 {
			play = w.playDays
		}
		if err := play(ctx, r); err != nil {
			return err
		}
		return errFinished
	}
	w.greet(r)
	var paying sync.WaitGroup
	open, shut := context.WithCancel(ctx)
	paying.Go(func() { w.payers(open, r) })
	err := w.flow(ctx, r)
	shut()
	paying.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (w *world) greet(r running) {
	cfg := r.house.cfg
	fmt.Fprintf(w.out, `The street is open: %d merchants, %d terminals, 4 issuers, 3 wallets, a bank.

  console    %s
  metrics    http://%s/metrics
  terminals  %s
  wallets    http://%s/books
  log        %s

Money is moving: a transaction or so a second. Try, in another terminal:

  acquirer load --addr %s --terminals 64 --rate 100 --duration 10s
  acquirer simulate terminal --addr %s sale --amount 12.34 --entry chip

The last two digits of an amount choose the weather (10.98 stays unanswered;
acquirer simulate issuer --help has the table). Ctrl-C ends it.
`, streetMerchants, w.terminals, r.console, r.admin, r.terminal, w.wallets.Addr(), cfg.Log.File, r.terminal, r.terminal)
}

// demoResult is what --transactions came to.
type demoResult struct {
	Transactions        int          `json:"transactions"`
	Approved            int          `json:"approved"`
	Declined            int          `json:"declined"`
	Reversed            int          `json:"reversed"`
	OwedOpen            int          `json:"owed_open"`
	LedgerBalanced      bool         `json:"ledger_balanced"`
	IssuerMismatches    int          `json:"issuer_mismatches"`
	Payouts             int          `json:"payouts"`
	PaidTotal           money.Amount `json:"paid_total"`
	InvariantViolations int          `json:"invariant_violations"`

	// With --days.
	Injected     int          `json:"faults_injected,omitempty"`
	Breaks       []breakFound `json:"breaks,omitempty"`
	RefusedFiles int          `json:"files_refused,omitempty"`
	ClientBank   money.Amount `json:"client_bank,omitzero"` // 1001 in the end

	found []string // what was wrong, in words
}

// report prints the result and fails unless all of it holds.
func (w *world) report() error {
	r := &w.result
	if w.json {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w.out, "%s\n", b); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintf(w.out, `transactions  %d
approved      %d
declined      %d
reversed      %d, still owed %d
ledger        balanced: %t
issuers       %d differences to their own books
payouts       %d, %s yuan
invariants    %d violated
`, r.Transactions, r.Approved, r.Declined, r.Reversed, r.OwedOpen, r.LedgerBalanced, r.IssuerMismatches, r.Payouts, r.PaidTotal, r.InvariantViolations); err != nil {
		return err
	}
	if w.days > 0 && !w.json {
		if _, err := fmt.Fprintf(w.out, "breaks        %d found, %d faults were put in, %d files refused\n", len(r.Breaks), r.Injected, r.RefusedFiles); err != nil {
			return err
		}
	}
	var errs []error
	if r.OwedOpen > 0 {
		errs = append(errs, fmt.Errorf("%d reversals are still owed", r.OwedOpen))
	}
	if !r.LedgerBalanced {
		errs = append(errs, errors.New("the ledger is not balanced"))
	}
	if r.IssuerMismatches > 0 {
		errs = append(errs, fmt.Errorf("%d transactions differ from the issuers' books", r.IssuerMismatches))
	}
	if r.Approved+r.Declined+r.Reversed != r.Transactions {
		errs = append(errs, fmt.Errorf("%d approved, %d declined and %d reversed are not %d transactions", r.Approved, r.Declined, r.Reversed, r.Transactions))
	}
	for _, f := range r.found {
		errs = append(errs, errors.New(f))
	}
	return errors.Join(errs...)
}

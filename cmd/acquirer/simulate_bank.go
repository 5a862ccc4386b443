package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"acquirer/money"
	simbank "acquirer/simulate/bank"
)

// newSimulateBankCmd is `acquirer simulate bank`.
func newSimulateBankCmd() *cobra.Command {
	var (
		cfg             simbank.Config
		listen, opening string
		hours, secret   string
		every           time.Duration
	)
	cmd := &cobra.Command{
		Use:   "bank",
		Short: "The bank that pays merchants: orders over HTTP, books, and weather by account",
		Long: `bank takes payout orders over HTTP, and with --files in files too, pays each
reference once and keeps books.

  POST /v1/payouts               {"reference","amount","account","name","bank"}
  GET  /v1/payouts/REFERENCE
  GET  /v1/changes?after=CURSOR
  GET  /v1/credits?after=CURSOR  what others paid in, each with its entry of the statement
  POST /v1/advance?days=N        moves its day on
  GET  /v1/statement             its day and balance; with ?date=2026-11-20 the movements of its
                                 day (or of &day=0) as the statement of that date: camt.054, or
                                 CSV with &format=csv. acquirer reconcile load takes it
  POST /v1/misstate              what the next statement with payouts has wrong:
                                 ["left out","invented","doubled"]; GET /v1/misstated lists it
  POST /v1/receipts              {"reference","amount","account"}: a network pays the acquirer; with
                                 "twice":true the credit is told a second time
  PUT  /v1/open?open=false       closes the counter: orders are answered 503 CLOSED
  POST /v1/exchange?spoil=KIND   files pass now; the next file of answers is wrong:
                                 cut, sum, strange (an order nobody gave), repeated

The last two digits of the account number ask for weather:

  90  slow                       95  paid, returned later
  91  paid, never answered       96  every callback comes twice
  92  the order never arrives    97  paid, answered with HTTP 500
  93  in process, paid later     98  in process, refused later
  94  refused                    99  never answered, in process, paid later
  89  refused, paid the next day

Every other account is paid at once.`,
		Example: `  acquirer simulate bank --listen 127.0.0.1:7001
  acquirer serve --settlement-bank http://127.0.0.1:7001 --seed street.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.Opening, err = money.Parse(opening); err != nil {
				return usageError{fmt.Errorf("--opening: %w", err)}
			}
			if cfg.Slow <= 0 || cfg.Silence <= 0 || cfg.Limit <= 0 {
				return usageError{errors.New("--slow, --silence and --limit must be above zero")}
			}
			if hours != "" {
				if cfg.Opens, cfg.Closes, err = parseHours(hours); err != nil {
					return usageError{fmt.Errorf("--hours: %w", err)}
				}
			}
			if secret != "" {
				text, err := os.ReadFile(secret)
				if err != nil {
					return usageError{fmt.Errorf("--callback-secret-file: %w", err)}
				}
				cfg.Secret = bytes.TrimSpace(text)
			}
			if cfg.Folder != "" {
				for _, d := range []string{"outbox", "inbox"} {
					if err := os.MkdirAll(filepath.Join(cfg.Folder, d), 0o700); err != nil {
						return err
					}
				}
			}
			bank, err := simbank.Start(listen, cfg)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "bank on %s\n", bank.URL())
			err = nil
			if cfg.Folder != "" {
				err = exchangeFiles(cmd.Context(), bank, every)
			} else {
				<-cmd.Context().Done()
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 10*time.Second)
			defer cancel()
			return errors.Join(err, bank.Close(ctx))
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:7001", "address to listen on")
	f.StringVar(&opening, "opening", "1000000.00", "what the acquirer has on its account, in yuan")
	f.StringVar(&cfg.Callback, "callback", "", "URL that hears of every change")
	f.StringVar(&secret, "callback-secret-file", "", "file with the secret that signs callbacks")
	f.StringVar(&hours, "hours", "", "when orders are taken, Beijing, like 08:00-22:30 (default: always)")
	f.IntVar(&cfg.ReturnDays, "return-days", 1, "days until a payout comes back")
	f.StringVar(&cfg.Folder, "files", "", "folder with outbox and inbox, as acquirer serve --settlement-bank file:DIR has it")
	f.BoolVar(&cfg.OneSum, "one-sum", false, "book the payouts of a pain.001 message as one sum (Btch)")
	f.DurationVar(&every, "every", 2*time.Second, "how often files pass")
	f.StringVar(&cfg.Account, "account", "9999000000000001", "number of the acquirer's account, in statements")
	f.DurationVar(&cfg.Slow, "slow", 2*time.Second, "how long a slow order takes")
	f.DurationVar(&cfg.Silence, "silence", time.Minute, "how long an order that is never answered holds its connection")
	f.IntVar(&cfg.Limit, "limit", 1_000_000, "orders the books take")
	return cmd
}

// exchangeFiles lets files pass until ctx ends.
func exchangeFiles(ctx context.Context, bank *simbank.Bank, every time.Duration) error {
	tick := time.NewTicker(max(every, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := bank.Exchange(); err != nil {
				return err
			}
		}
	}
}

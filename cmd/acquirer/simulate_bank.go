package main

import (
	"context"
	"errors"
	"fmt"
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
	)
	cmd := &cobra.Command{
		Use:   "bank",
		Short: "The bank that pays merchants: orders over HTTP, books, and weather by account",
		Long: `bank takes payout orders over HTTP, pays each reference once and keeps books.

  POST /v1/payouts               {"reference","amount","account","name","bank"}
  GET  /v1/payouts/REFERENCE
  GET  /v1/changes?after=CURSOR
  POST /v1/advance?days=N        moves its day on
  GET  /v1/statement

The last two digits of the account number ask for weather:

  90  slow                       95  paid, returned the next day
  91  paid, never answered       96  every callback comes twice
  92  the order never arrives    97  paid, answered with HTTP 500
  93  in process, paid later     98  in process, refused later
  94  refused                    99  never answered, in process, paid later

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
			bank, err := simbank.Start(listen, cfg)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "bank on %s\n", bank.URL())
			<-cmd.Context().Done()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 10*time.Second)
			defer cancel()
			return bank.Close(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:7001", "address to listen on")
	f.StringVar(&opening, "opening", "1000000.00", "what the acquirer has on its account, in yuan")
	f.StringVar(&cfg.Callback, "callback", "", "URL that hears of every change")
	f.DurationVar(&cfg.Slow, "slow", 2*time.Second, "how long a slow order takes")
	f.DurationVar(&cfg.Silence, "silence", time.Minute, "how long an order that is never answered holds its connection")
	f.IntVar(&cfg.Limit, "limit", 1_000_000, "orders the books take")
	return cmd
}

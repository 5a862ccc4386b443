package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/routing"
	"acquirer/simulate/wallet"
)

// newSimulateWalletCmd is `acquirer simulate wallet`: all wallets in one
// process.
func newSimulateWalletCmd() *cobra.Command {
	var (
		cfg           simwallet.Config
		listen, books string
		keys          map[string]string
	)
	cmd := &cobra.Command{
		Use:   "wallet",
		Short: "The wallets that buyers pay with by payment code: orders, refunds, books, and weather by amount",
		Long: `wallet answers like the wallets ` + strings.Join(routing.Wallets, ", ") + `, each below a path of its name:

  POST /WALLET/v1/pay     {"order","code","fen","merchant","terminal","name"}
  POST /WALLET/v1/query   {"order"}
  POST /WALLET/v1/cancel  {"order"}
  POST /WALLET/v1/refund  {"order","refund","fen"}

signed with HMAC-SHA-256. An order pays once, and so does a payment code. For
people, unsigned:

  GET  /books, GET /totals                  the books
  GET  /weather, PUT /weather               weather by chance
  POST /next?digits=98                      weather of the next new payment
  POST /decide?wallet=W&order=N&pays=true   the buyer who types comes to an end

The last two digits of a payment's amount, in fen, ask for weather:

` + simwallet.AmountTable() + `
Every other amount is paid at once.

Without --key-file its keys are TEST keys that anybody can compute. Listen on a
loopback address: it knows no users.`,
		Example: `  acquirer simulate wallet --listen 127.0.0.1:7002
  acquirer simulate wallet --listen 127.0.0.1:7002 --key-file wechat=wechat.key --key-file alipay=alipay.key --books wallets.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Asks <= 0 || cfg.Typing <= 0 || cfg.Late <= 0 || cfg.Silence <= 0 || cfg.Limit <= 0 {
				return usageError{errors.New("--asks, --typing, --late, --silence and --limit must be above zero")}
			}
			for name, file := range keys {
				w := walletConfig{Name: name, KeyFile: file}
				if err := checkWallets([]walletConfig{w}); err != nil {
					return usageError{fmt.Errorf("--key-file: %w", err)}
				}
				key, err := walletKey(&w)
				if err != nil {
					return usageError{fmt.Errorf("--key-file %s: %w", name, err)}
				}
				if cfg.Keys == nil {
					cfg.Keys = map[string][]byte{}
				}
				cfg.Keys[name] = key
			}
			wallets, err := simwallet.Start(listen, cfg)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wallets %s on http://%s\n", strings.Join(wallets.Names(), ", "), wallets.Addr())
			<-cmd.Context().Done()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 10*time.Second)
			defer cancel()
			err = wallets.Close(ctx)
			if books == "" {
				return err
			}
			return errors.Join(err, writeWalletBooks(wallets, books))
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:7002", "address to listen on; loopback only")
	f.StringToStringVar(&keys, "key-file", nil, "wallet=FILE with its key in hexadecimal; may be given again, and then only these wallets are served")
	f.IntVar(&cfg.Asks, "asks", 2, "queries until a buyer of .80 or .83 comes to an end")
	f.DurationVar(&cfg.Typing, "typing", 2*time.Second, "how long a buyer of .81 types")
	f.DurationVar(&cfg.Late, "late", 10*time.Second, "how late a late answer is")
	f.DurationVar(&cfg.Silence, "silence", time.Minute, "how long a question that is never answered holds its connection")
	f.IntVar(&cfg.Limit, "limit", 1_000_000, "orders the books take")
	f.BoolVar(&cfg.CalmAmounts, "calm", false, "amounts do not ask for weather")
	f.StringVar(&books, "books", "", "file that the books are written to at the end, as JSON")
	return cmd
}

func writeWalletBooks(wallets *simwallet.Wallets, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("simulate wallet: --books: %w", err)
	}
	return errors.Join(wallets.WriteBooks(f), f.Close())
}

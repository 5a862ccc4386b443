package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/simulate/wallet"
)

// newSimulateWalletCmd is `acquirer simulate wallet`: all wallets in one
// process.
func newSimulateWalletCmd() *cobra.Command {
	var (
		cfg           simwallet.Config
		listen, books string
		keys, theirs  map[string]string
		sign          string
	)
	cmd := &cobra.Command{
		Use:   "wallet",
		Short: "The wallets that buyers pay with by payment code: orders, refunds, books, and weather by amount",
		Long: `wallet answers like the wallets ` + strings.Join(routing.Wallets, ", ") + `, each below a path of its name:

  wechat       POST /wechat/pay/micropay, pay/orderquery, secapi/pay/reverse,
               secapi/pay/refund, pay/refundquery, pay/downloadbill
  alipay       POST /alipay/gateway.do: alipay.trade.pay, query, cancel, refund,
               fastpay.refund.query, data.dataservice.bill.downloadurl.query
  unionpay-qr  POST /unionpay-qr/gateway/api/backTransReq.do, queryTrans.do,
               and /unionpay-qr/ for files

signed as they sign: HMAC-SHA256, RSA2, RSA or SM2. An order pays once, and so
does a payment code. For people, unsigned:

  GET  /books, GET /totals                  the books
  GET  /weather, PUT /weather               weather by chance
  POST /next?digits=98                      weather of the next new payment
  POST /decide?wallet=W&order=N&pays=true   the buyer who types comes to an end
  GET  /bill?wallet=W&date=2026-08-07       a day's bill, today's too
  POST /spoil?wallet=W&fault=missing        what is wrong with the bills from now
                                            on: missing, extra, amount, fee,
                                            truncated, none

The last two digits of a payment's amount, in fen, ask for weather:

` + simwallet.AmountTable() + `
Every other amount is paid at once.

Without --key-file its keys are TEST keys that anybody can read. Listen on a
loopback address: it knows no users.`,
		Example: `  acquirer simulate wallet --listen 127.0.0.1:7002
  acquirer simulate wallet --listen 127.0.0.1:7002 --key-file wechat=wechat.key --books wallets.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Asks <= 0 || cfg.Typing <= 0 || cfg.Late <= 0 || cfg.Silence <= 0 || cfg.Limit <= 0 || cfg.FeePPM <= 0 || cfg.FeePPM > money.Million {
				return usageError{errors.New("--asks, --typing, --late, --silence, --limit and --fee must be above zero, and --fee at most a million")}
			}
			if sign != wallet.RSA && sign != wallet.SM2 {
				return usageError{fmt.Errorf("--sign %q is neither %s nor %s", sign, wallet.RSA, wallet.SM2)}
			}
			var err error
			if cfg.Keys, err = simulatedKeys(keys, theirs, sign); err != nil {
				return usageError{err}
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
	f.StringToStringVar(&keys, "key-file", nil, "wallet=FILE with WeChat Pay's API key, or the wallet's private key in PEM; may be given again, and then only these wallets are served")
	f.StringToStringVar(&theirs, "acquirer-key-file", nil, "wallet=FILE with the acquirer's public key in PEM, for alipay and unionpay-qr")
	f.StringVar(&sign, "sign", wallet.RSA, "signatures of unionpay-qr: rsa or sm2")
	f.Int64Var(&cfg.FeePPM, "fee", 2_000, "what a wallet keeps of a payment, in ppm")
	f.BoolVar(&cfg.Strict, "strict", false, "a cancel of an order that nobody knows is answered so, and closes nothing")
	f.IntVar(&cfg.Asks, "asks", 2, "queries until a buyer of .80 or .83 comes to an end")
	f.DurationVar(&cfg.Typing, "typing", 2*time.Second, "how long a buyer of .81 types")
	f.DurationVar(&cfg.Late, "late", 10*time.Second, "how late a late answer is")
	f.DurationVar(&cfg.Silence, "silence", time.Minute, "how long a question that is never answered holds its connection")
	f.IntVar(&cfg.Limit, "limit", 1_000_000, "orders the books take")
	f.BoolVar(&cfg.CalmAmounts, "calm", false, "amounts do not ask for weather")
	f.StringVar(&books, "books", "", "file that the books are written to at the end, as JSON")
	return cmd
}

// simulatedKeys are the keys of the wallets that have files, or of all.
func simulatedKeys(files, theirs map[string]string, sign string) (map[string]simwallet.Keys, error) {
	out := map[string]simwallet.Keys{}
	for name, file := range files {
		if err := checkWallets([]walletConfig{{Name: name}}); err != nil {
			return nil, fmt.Errorf("--key-file: %w", err)
		}
		text, _, err := walletSecret(file, name)
		if err != nil {
			return nil, fmt.Errorf("--key-file %s: %w", name, err)
		}
		if name == routing.WeChat {
			if _, err := wallet.NewHMAC(text); err != nil {
				return nil, fmt.Errorf("--key-file %s: %w", name, err)
			}
			out[name] = simwallet.Keys{APIKey: text}
			continue
		}
		if theirs[name] == "" {
			return nil, fmt.Errorf("--key-file %s: --acquirer-key-file %s=FILE is missing", name, name)
		}
		public, _, err := walletSecret(theirs[name], name)
		if err != nil {
			return nil, fmt.Errorf("--acquirer-key-file %s: %w", name, err)
		}
		kind := wallet.RSA
		if name == routing.UnionPayQR {
			kind = sign
		}
		signer, err := wallet.NewSigner(kind, text, public)
		if err != nil {
			return nil, fmt.Errorf("--key-file %s: %w", name, err)
		}
		out[name] = simwallet.Keys{Signer: signer}
	}
	for _, name := range routing.Wallets {
		if len(files) == 0 {
			out[name] = simwallet.TestKeys(name, sign)
		}
	}
	return out, nil
}

func writeWalletBooks(wallets *simwallet.Wallets, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("simulate wallet: --books: %w", err)
	}
	return errors.Join(wallets.WriteBooks(f), f.Close())
}

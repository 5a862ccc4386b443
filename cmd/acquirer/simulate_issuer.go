package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
)

// newSimulateIssuerCmd is `acquirer simulate issuer`: one issuer's host, alone.
func newSimulateIssuerCmd() *cobra.Command {
	var (
		cfg                             issuer.Config
		listen, control, books, balance string
	)
	names := make([]string, len(simcard.Issuers))
	for i, is := range simcard.Issuers {
		names[i] = is.Name
	}
	cmd := &cobra.Command{
		Use:   "issuer",
		Short: "An issuer's host: accounts, PINs, cryptograms, books, and weather by amount",
		Long: `issuer answers on the CUPS line like an issuer: sign-on, zone keys, MAC, PIN,
chip cryptogram, balance, reversals, and books of everything it decided.

The last two digits of a purchase's amount, in fen, ask for weather:

` + issuer.AmountTable() + `
Every other amount is served well. Weather by chance is set over HTTP
(--control): PUT /weather; GET /books and GET /totals show the books.

Its zone master key and its cards' keys are TEST keys that anybody can compute.`,
		Example: `  acquirer simulate issuer --name north --listen 127.0.0.1:9501
  acquirer simulate issuer --name south --listen 127.0.0.1:9502 --control 127.0.0.1:9602 --books south.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			spareMemoryForSpeed()
			if cfg.Balance, err = money.Parse(balance); err != nil {
				return usageError{fmt.Errorf("--balance: %w", err)}
			}
			host, err := issuer.New(cfg)
			if err != nil {
				return usageError{err}
			}
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("simulate issuer: %w", err)
			}
			ended := make(chan error, 2)
			if control != "" {
				cl, err := net.Listen("tcp", control)
				if err != nil {
					return errors.Join(fmt.Errorf("simulate issuer: --control: %w", err), ln.Close())
				}
				web := &http.Server{Handler: host.Handler(), ReadHeaderTimeout: 5 * time.Second}
				go func() { ended <- web.Serve(cl) }()
				defer web.Close()
				fmt.Fprintf(cmd.ErrOrStderr(), "control on http://%s\n", cl.Addr())
			}
			go func() { ended <- host.Serve(ln) }()
			fmt.Fprintf(cmd.ErrOrStderr(), "issuer %s on %s, BINs %s\n", cfg.Name, ln.Addr(), strings.Join(host.BINs(), " "))
			select {
			case err = <-ended:
			case <-cmd.Context().Done():
			}
			host.Close()
			if books == "" {
				return err
			}
			return errors.Join(err, writeBooks(host, books))
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Name, "name", "", "one of "+strings.Join(names, ", ")+", or another with --bins")
	f.StringVar(&listen, "listen", "127.0.0.1:0", "address of the CUPS line")
	f.StringSliceVar(&cfg.BINs, "bins", nil, "BINs of its cards, 6 to 11 digits (default: those of its simulated cards)")
	f.StringVar(&cfg.Institution, "institution", "", "institution code, up to 11 digits (default: by its name)")
	f.StringVar(&balance, "balance", "1000000000.00", "what every account starts with, in yuan")
	f.DurationVar(&cfg.Late, "late", 40*time.Second, "how late a late answer is")
	f.BoolVar(&cfg.CalmAmounts, "calm", false, "amounts do not ask for weather")
	f.StringVar(&control, "control", "", "address of books and weather over HTTP; loopback only, it knows no users")
	f.StringVar(&books, "books", "", "file that the books are written to at the end, as JSON")
	if err := cmd.MarkFlagRequired("name"); err != nil {
		panic(err) // the flag stands two lines above
	}
	return cmd
}

func writeBooks(host *issuer.Host, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("simulate issuer: --books: %w", err)
	}
	return errors.Join(host.WriteBooks(f), f.Close())
}

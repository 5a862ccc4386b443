package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/spec"
)

// newSimulateIssuerCmd is `acquirer simulate issuer`: one issuer's host, alone.
func newSimulateIssuerCmd() *cobra.Command {
	var (
		cfg                             issuer.Config
		listen, control, books, balance string
		dialect, zmkFile                string
		secure                          hostTLS
	)
	var names []string
	for _, is := range append(slices.Clone(simcard.Issuers), simcard.Abroad) {
		names = append(names, is.Name)
	}
	kinds, storms := lines(issuer.Kinds, 2), lines(issuer.StormNames(), 17)
	cmd := &cobra.Command{
		Use:   "issuer",
		Short: "An issuer's host: accounts, PINs, cryptograms, books, and weather by amount",
		Long: `issuer answers on its lines like an issuer, in CUPS or another dialect: sign-on, zone keys, MAC, PIN,
chip cryptogram, accounts with what is held on them, reversals, and books of
everything it decided, by kind and by what stands:

  ` + kinds + `

The last two digits of the amount of a sale or a pre-authorisation, in fen, ask
for weather:

` + issuer.AmountTable() + `
Every other amount is served well, and so is whatever follows an earlier
transaction: a void has the amount of its sale. Over HTTP (--control):

  PUT  /weather  weather by chance, for messages of every kind: {"silent":0.01}
  POST /next     weather for the next messages of one kind:
                 {"kind":"void","count":2,"storm":"silent"}
                 {"kind":"reversal","storm":"declined","code":"96"}
                 storms: ` + storms + `
  GET  /books, GET /totals
  GET  /clearing?date=2026-11-20   its clearing file of the date (docs/clearing.md), as
                 ZM with &format=zm, spoilt with &damage=truncated, trailer or encoding
  POST /misclear faults of its next clearing file: ["late","fee"]; also missing,
                 extra, amount, duplicate, stale
  POST /dispute  an item of its next error file (ZME): {"rrn":"...","kind":"chargeback"}
  GET  /errors   that file

Its cards' keys, and its zone master key without --zmk-file, are TEST keys that
anybody can compute.`,
		Example: `  acquirer simulate issuer --name north --listen 127.0.0.1:9501
  acquirer simulate issuer --name south --listen 127.0.0.1:9502 --control 127.0.0.1:9602 --books south.json
  acquirer simulate issuer --name east --listen 127.0.0.1:9503 --tls-cert east.pem --tls-key east.key --tls-client-ca acquirers.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			spareMemoryForSpeed()
			if cfg.Balance, err = money.Parse(balance); err != nil {
				return usageError{fmt.Errorf("--balance: %w", err)}
			}
			if cfg.Dialect, err = spec.Load(dialect); err != nil {
				return usageError{fmt.Errorf("--dialect: %w", err)}
			}
			if zmkFile != "" {
				zmk, err := keyFile("--zmk-file", zmkFile)
				if err != nil {
					return usageError{err}
				}
				cfg.ZMK = &zmk
			}
			host, err := issuer.New(cfg)
			if err != nil {
				return usageError{err}
			}
			conf, err := secure.config()
			if err != nil {
				return usageError{err}
			}
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("simulate issuer: %w", err)
			}
			if conf != nil {
				ln = tls.NewListener(ln, conf)
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
	f.StringVar(&zmkFile, "zmk-file", "", "file with the TEST zone master key of its lines as 32 hex digits (default: one by its name)")
	f.StringVar(&listen, "listen", "127.0.0.1:0", "address that acquirers connect to")
	f.StringVar(&dialect, "dialect", "cups", "what the lines speak: cups, iso87-ascii, iso87-bcd, or a dialect file (docs/dialects.md)")
	f.StringSliceVar(&cfg.BINs, "bins", nil, "BINs of its cards, 6 to 11 digits (default: those of its simulated cards)")
	f.StringVar(&cfg.Institution, "institution", "", "institution code, up to 11 digits (default: by its name)")
	f.StringVar(&balance, "balance", "1000000000.00", "what every account starts with, in yuan")
	f.DurationVar(&cfg.Late, "late", 40*time.Second, "how late a late answer is")
	f.DurationVar(&cfg.KeyGrace, "key-grace", time.Minute, "how long the zone key before the current one is still taken")
	f.IntVar(&cfg.Completion, "completion", 115, "percent of a hold that a completion may take")
	f.BoolVar(&cfg.StrictATC, "strict-atc", false, "refuse a chip whose transaction counter went backwards, with 05")
	f.BoolVar(&cfg.CalmAmounts, "calm", false, "amounts do not ask for weather")
	f.StringVar(&secure.cert, "tls-cert", "", "PEM certificate; with it lines speak TLS 1.2 or later only")
	f.StringVar(&secure.key, "tls-key", "", "PEM private key of it")
	f.StringVar(&secure.clientCA, "tls-client-ca", "", "PEM certificates of who signs acquirers' certificates; with it each line must show one")
	f.StringVar(&control, "control", "", "address of books and weather over HTTP; loopback only, it knows no users")
	f.StringVar(&books, "books", "", "file that the books are written to at the end, as JSON")
	if err := cmd.MarkFlagRequired("name"); err != nil {
		panic(err) // the flag stands two lines above
	}
	return cmd
}

// hostTLS is how an issuer's host takes lines: PEM files, all empty for plain TCP.
type hostTLS struct{ cert, key, clientCA string }

func (h hostTLS) config() (*tls.Config, error) {
	switch {
	case h == hostTLS{}:
		return nil, nil
	case h.cert == "" || h.key == "":
		return nil, errors.New("--tls-cert and --tls-key go together, and --tls-client-ca with them")
	}
	cert, err := tls.LoadX509KeyPair(h.cert, h.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if h.clientCA != "" {
		if conf.ClientCAs, err = certPool(h.clientCA); err != nil {
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// lines sets names in lines of some sixty characters, all but the first indented.
func lines[T ~string](names []T, indent int) string {
	var b strings.Builder
	width := 0
	for i, n := range names {
		if i > 0 && width+len(n) > 60 {
			b.WriteString("\n" + strings.Repeat(" ", indent))
			width = 0
		} else if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString(string(n))
		width += len(n) + 1
	}
	return b.String()
}

func writeBooks(host *issuer.Host, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("simulate issuer: --books: %w", err)
	}
	return errors.Join(host.WriteBooks(f), f.Close())
}

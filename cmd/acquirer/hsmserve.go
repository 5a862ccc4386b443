package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"acquirer/hsm"
	"acquirer/hsm/payshield"
)

// hsmServeFlags are those of `acquirer hsm serve`.
type hsmServeFlags struct {
	listen, cert, key, clientCA string
	lmk, lmkFile                string
	file, passphraseFile        string
	environment                 string
	header, connections         int
	idle                        time.Duration
	separate                    bool
}

// newHSMServeCmd is `acquirer hsm serve`: the software HSM in a process of its
// own, or behind the host interface of a payShield.
func newHSMServeCmd() *cobra.Command {
	var s socketServe
	var f hsmServeFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the software HSM as a process of its own, or as a payShield",
		Long: `serve holds the keys in a process of its own: the switch speaks to it over a unix
socket (hsm.kind: remote, hsm.socket) and never has a clear key. The kernel says
who connects; anybody but this user, root and --group is refused, and only this
user and root may do more than use keys.

Its memory is locked, it writes no core dump and may not be attached to; what the
system does not allow is said at the start and by hsm status. It starts sealed
when components open the master key file, or when there is no passphrase:
acquirer hsm unseal opens it.

With --listen it is a payShield instead: it listens as one does on its host port
and answers the commands that an acquirer and an issuer need: keys, PINs, MACs,
card verification values, chip cryptograms, data, health. docs/hsm.md lists them,
and what differs from the machine. That is for development, rehearsal and test:
no PIN of a real cardholder may come here.

--lmk test works under the published Thales test LMKs, so that everything under
them is known to everybody; it is refused when the environment (--environment or
ACQUIRER_ENVIRONMENT) is production. --lmk store works under an LMK of its own,
made by acquirer hsm lmk and sealed by the software HSM's master key.`,
		Example: `  acquirer hsm serve --socket data/hsm/hsm.sock --file data/hsm.key --passphrase-file pass
  acquirer hsm serve --socket /run/acquirer-hsm/hsm.sock --file /var/lib/acquirer-hsm/hsm.key --group acquirer
  acquirer hsm serve --listen 127.0.0.1:1500 --lmk test
  acquirer hsm lmk --lmk-file data/lmk.json --file data/hsm.key --passphrase-file pass
  acquirer hsm serve --listen :1500 --lmk store --lmk-file data/lmk.json --file data/hsm.key --passphrase-file pass --tls-cert hsm.pem --tls-key hsm-key.pem --client-ca switch-ca.pem`,
		Args: cobra.NoArgs,
	}
	fl := cmd.Flags()
	fl.StringVar(&s.file, "file", "data/hsm.key", "sealed master key of the software HSM")
	fl.StringVar(&s.passphraseFile, "passphrase-file", "", "file with its passphrase; without it "+passphraseVariable+" is read, and without that --socket starts sealed")
	fl.StringVar(&s.socket, "socket", defaultSocket, "socket to listen on, in a folder that is open to nobody else")
	fl.StringVar(&s.group, "group", "", "group, by name or number, whose processes may use keys besides those of this user")
	fl.StringVar(&s.logFile, "audit", "", "log of what is done with keys; --file with .audit at its end when it is not given")

	fl.StringVar(&f.listen, "listen", "", "be a payShield at this address; a payShield has port 1500")
	fl.StringVar(&f.lmk, "lmk", "", "test, the published LMKs, or store, one of its own")
	fl.StringVar(&f.lmkFile, "lmk-file", "data/lmk.json", "sealed LMK, for --lmk store")
	fl.StringVar(&f.environment, "environment", os.Getenv(envName("environment")), "test or production; production refuses the test LMKs")
	fl.IntVar(&f.header, "header-length", 4, "characters of message header, as the device setting, 0 to 255")
	fl.IntVar(&f.connections, "max-connections", 64, "connections held at once")
	fl.DurationVar(&f.idle, "idle-timeout", 10*time.Minute, "silence before a connection is closed; 0 for never")
	fl.BoolVar(&f.separate, "separate-key-types", false, "keep the keys of type 002 apart as PCI HSM wants it: TPK 70D, TMK 80D, TEK 30B")
	fl.StringVar(&f.cert, "tls-cert", "", "PEM certificate; with it the listener speaks TLS 1.2 or later only")
	fl.StringVar(&f.key, "tls-key", "", "PEM private key of the certificate")
	fl.StringVar(&f.clientCA, "client-ca", "", "PEM certificates of who signs clients' certificates; with it a client must show one")
	cmd.MarkFlagsMutuallyExclusive("listen", "socket")
	cmd.MarkFlagsRequiredTogether("listen", "lmk")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.listen == "" {
			return s.run(cmd)
		}
		f.file, f.passphraseFile = s.file, s.passphraseFile
		return servePayShield(cmd.Context(), f, cmd.ErrOrStderr())
	}
	return cmd
}

// newHSMLMKCmd is `acquirer hsm lmk`.
func newHSMLMKCmd() *cobra.Command {
	var lmkFile, file, passphraseFile string
	cmd := &cobra.Command{
		Use:   "lmk",
		Short: "Make a local master key for acquirer hsm serve and seal it into a new file",
		Long: `lmk makes a random LMK, a variant set of 20 pairs and an AES-256 key for key
blocks, and seals it under a key that the software HSM's master key wraps. The
file must not exist yet. Keys under an LMK are lost with it: keep a copy.`,
		Example: `  acquirer hsm lmk --lmk-file data/lmk.json --file data/hsm.key --passphrase-file pass`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			vault, err := openVault(file, passphraseFile)
			if err != nil {
				return err
			}
			lmk, text, err := payshield.MakeLMK(cmd.Context(), vault)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(lmkFile), 0o700); err != nil {
				return fmt.Errorf("LMK file: %w", err)
			}
			if err := writeOnce(lmkFile, text, 0o600); err != nil {
				return fmt.Errorf("LMK file: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, sealed in %s\n", lmk, lmkFile)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&lmkFile, "lmk-file", "data/lmk.json", "file to write, which must not exist")
	fl.StringVar(&file, "file", "data/hsm.key", "sealed master key of the software HSM")
	fl.StringVar(&passphraseFile, "passphrase-file", "", "file with its passphrase; without it "+passphraseVariable+" is read")
	return cmd
}

// openVault opens the software HSM that seals an LMK.
func openVault(file, passphraseFile string) (payshield.Vault, error) {
	passphrase, err := readPassphrase(passphraseFile)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	return hsm.Open(file, passphrase)
}

// lmkOf is the LMK that the flags name.
func (f hsmServeFlags) lmkOf(ctx context.Context) (*payshield.LMK, error) {
	switch {
	case f.environment != "" && f.environment != "test" && f.environment != "production":
		return nil, usageError{fmt.Errorf("--environment %q is neither test nor production", f.environment)}
	case f.lmk == "test" && f.environment == "production":
		return nil, usageError{fmt.Errorf("--lmk test in production: %w", payshield.ErrTestLMK)}
	case f.lmk == "test":
		return payshield.TestLMK(), nil
	case f.lmk != "store":
		return nil, usageError{fmt.Errorf("--lmk %q is neither test nor store", f.lmk)}
	}
	text, err := os.ReadFile(f.lmkFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("LMK file: %w; make one with acquirer hsm lmk --lmk-file %s", err, f.lmkFile)
	}
	if err != nil {
		return nil, fmt.Errorf("LMK file: %w", err)
	}
	vault, err := openVault(f.file, f.passphraseFile)
	if err != nil {
		return nil, err
	}
	return payshield.OpenLMK(ctx, vault, text)
}

// servePayShield listens until ctx ends.
func servePayShield(ctx context.Context, f hsmServeFlags, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	lmk, err := f.lmkOf(ctx)
	if err != nil {
		return err
	}
	conf, err := serverTLS(f.cert, f.key, f.clientCA)
	if err != nil {
		return err
	}
	if f.connections < 1 || f.idle < 0 {
		return usageError{errors.New("--max-connections is at least 1, and --idle-timeout not below 0")}
	}
	s, err := payshield.NewServer(payshield.NewDevice(lmk, f.separate), payshield.ServerConfig{
		HeaderLength: f.header, MaxConnections: f.connections, IdleTimeout: f.idle, TLS: conf, Log: log,
	})
	if err != nil {
		return usageError{err}
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if lmk.IsTest() {
		log.Warn("the LMK is the published test LMK: what is under it is not secret")
	}
	log.Info("answering as a payShield", "address", l.Addr().String(), "lmk", lmk.String(), "tls", conf != nil, "header", f.header)
	return s.Serve(ctx, l)
}

// serverTLS is nil for plain TCP.
func serverTLS(cert, key, clientCA string) (*tls.Config, error) {
	switch {
	case cert == "" && key == "" && clientCA == "":
		return nil, nil
	case cert == "" || key == "":
		return nil, usageError{errors.New("--tls-cert and --tls-key go together, and --client-ca with them")}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		if conf.ClientCAs, err = certificates(clientCA); err != nil {
			return nil, fmt.Errorf("--client-ca: %w", err)
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// certificates reads a PEM file of them.
func certificates(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return pool, nil
}

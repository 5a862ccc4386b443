package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/hsm"
	"acquirer/settlement"
	"acquirer/settlement/bankfile"
)

// bankRail is the way to the payout bank.
type bankRail interface {
	settlement.Rail
	Close()
}

// openRail is the way to the bank that settlement.bank names, nil without one.
func (v *house) openRail(dataKey hsm.Key) (bankRail, error) {
	refused := prometheus.NewCounter(prometheus.CounterOpts{Name: "acquirer_bank_files_refused_total",
		Help: "Files of the payout bank that were damaged, repeated or about orders that are not ours, and so were not taken in."})
	if v.metrics != nil {
		v.metrics.MustRegister(refused)
	}
	s := &v.cfg.Settlement
	if s.Bank == "" {
		return nil, nil
	}
	dir, files := strings.CutPrefix(s.Bank, "file:")
	if !files {
		rail, err := settlement.NewHTTPRail(s.Bank, s.Timeout)
		if err != nil {
			return nil, usageError{fmt.Errorf("settlement.bank: %w", err)}
		}
		return rail, nil
	}
	if s.Format != "pain.001" && s.Format != "csv" {
		return nil, usageError{fmt.Errorf("settlement.bank_format: %.40q is neither pain.001 nor csv", s.Format)}
	}
	payers, err := v.cfg.payers()
	if err != nil {
		return nil, err
	}
	rail, err := settlement.NewFileRail(settlement.FileConfig{
		DB: v.db, Dir: dir, CSV: s.Format == "csv", Credits: len(payers) > 0, Debtor: bankfile.Debtor{Name: s.Holder, Account: s.Account, Bank: s.AtBank},
		Seal:   v.sealAccount(dataKey),
		Unseal: v.openAccount(dataKey),
		Refused: func(file string, why error) {
			refused.Inc()
			if v.log != nil {
				v.log.Error("a file of the bank was refused whole", "file", file, "why", why.Error())
			}
		},
	})
	if err != nil {
		return nil, usageError{fmt.Errorf("settlement.bank: %w (settlement.account_holder, settlement.account, settlement.account_bank)", err)}
	}
	return rail, nil
}

// bankName is what settlement.bank names, as the store remembers it: an address,
// without a password that stands in it; or for files our account, wherever the
// folder is.
func (c *Config) bankName() string {
	s := &c.Settlement
	if strings.HasPrefix(s.Bank, "file:") {
		return fmt.Sprintf("files for account %s at %s", settlement.NewNumber(s.Account), s.AtBank)
	}
	u, err := url.Parse(s.Bank)
	if err != nil {
		return s.Bank
	}
	return strings.ToLower(u.Scheme+"://"+u.Host) + strings.TrimRight(u.Path, "/")
}

// sealAccount seals settlement accounts.
func (v *house) sealAccount(dataKey hsm.Key) func(ctx context.Context, number string) ([]byte, error) {
	return func(ctx context.Context, number string) ([]byte, error) {
		return v.hsm.Encrypt(ctx, dataKey, accountAAD, []byte(number))
	}
}

// openAccount opens sealed settlement accounts.
func (v *house) openAccount(dataKey hsm.Key) func(ctx context.Context, sealed []byte) (string, error) {
	return func(ctx context.Context, sealed []byte) (string, error) {
		number, err := v.hsm.Decrypt(ctx, dataKey, accountAAD, sealed)
		return string(number), err
	}
}

// listenCallbacks opens the door for the bank's callbacks.
func (v *house) listenCallbacks() (net.Listener, http.Handler, error) {
	s := &v.cfg.Settlement
	if s.Secret == "" {
		return nil, nil, usageError{fmt.Errorf("settlement.callback needs settlement.callback_secret_file: unsigned callbacks are not heard")}
	}
	text, err := os.ReadFile(s.Secret)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("settlement.callback_secret_file: %w", err)}
	}
	secret := strings.TrimSpace(string(text))
	if len(secret) < 32 {
		return nil, nil, usageError{fmt.Errorf("settlement.callback_secret_file: %s holds %d characters; want 32 or more", s.Secret, len(secret))}
	}
	l, err := net.Listen("tcp", s.Callback)
	if err != nil {
		return nil, nil, fmt.Errorf("settlement.callback: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/payout-changed", v.books.Callback([]byte(secret)))
	return l, mux, nil
}

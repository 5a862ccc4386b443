package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"acquirer/hsm"
	"acquirer/hsm/audit"
	"acquirer/hsm/payshield"
	"acquirer/hsm/remote"
	"acquirer/routing"
	"acquirer/simulate/card"
)

// openHSM opens the HSM that the settings name. closeHSM ends it.
func openHSM(ctx context.Context, cfg Config, log *slog.Logger) (hsm.HSM, error) {
	k, err := openKeeper(ctx, cfg, log)
	if err != nil || cfg.HSM.Kind != "payshield" {
		return k, err
	}
	d, err := openPayShield(ctx, cfg, log, k)
	if err != nil {
		closeHSM(k, log)
		return nil, err
	}
	return &deviceHSM{d, k}, nil
}

// deviceHSM is the payShields, and beside them the software HSM that keeps data
// at rest and look-up tokens.
type deviceHSM struct {
	*payshield.Client
	local hsm.HSM
}

// Close ends both.
func (d *deviceHSM) Close() error {
	err := d.Client.Close()
	if c, ok := d.local.(interface{ Close() error }); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}

// openKeeper opens the software HSM, in this process or in its own.
func openKeeper(ctx context.Context, cfg Config, log *slog.Logger) (hsm.Keeper, error) {
	if cfg.HSM.Kind == "remote" {
		c := remote.Dial(remote.DialConfig{Socket: cfg.HSM.Socket, Log: log})
		if err := awaitHSM(ctx, c, log); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}
	pass, err := cfg.passphrase()
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	k, err := hsm.ReadKeyFile(cfg.HSM.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w; make one with acquirer hsm init --file %s", err, cfg.HSM.File)
	}
	if err != nil {
		return nil, err
	}
	if k.Custodians != nil {
		return nil, fmt.Errorf("hsm: %s: %w (%s); run it with acquirer hsm serve and set hsm.kind to remote", cfg.HSM.File, hsm.ErrCustodians, k.Custodians)
	}
	r, err := k.Open(pass)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	return openRing(r, auditFile(cfg.HSM.File, cfg.HSM.Audit))
}

// loggedHSM is the software HSM in this process, and the log before it.
type loggedHSM struct {
	hsm.Keeper               // writes the log
	inside     *hsm.Software // does not: for test keys
	log        *audit.Log
}

// LimitPIN and PINFailures make it count PIN failures as what is inside does.
func (h *loggedHSM) LimitPIN(limits hsm.PINLimits) error { return h.inside.LimitPIN(limits) }

// PINFailures are the counters.
func (h *loggedHSM) PINFailures() hsm.PINFailures { return h.inside.PINFailures() }

// Close closes the log.
func (h *loggedHSM) Close() error { return h.log.Close() }

// openRing starts the software HSM with its audit log.
func openRing(r *hsm.Ring, logFile string) (*loggedHSM, error) {
	s, err := r.Software()
	if err != nil {
		return nil, err
	}
	l, err := audit.Open(logFile)
	if err != nil {
		return nil, err
	}
	key := r.AuditKey()
	defer clear(key)
	l.SetKey(key)
	return &loggedHSM{audit.WatchKeeper(s, l, whoRuns()), s, l}, nil
}

// auditFile is where the audit log of a master key file is.
func auditFile(keyFile, set string) string {
	if set != "" {
		return set
	}
	return keyFile + ".audit"
}

// awaitHSM waits until the HSM's process answers and is open: after a power
// cut the switch is up long before the custodians.
func awaitHSM(ctx context.Context, c *remote.Client, log *slog.Logger) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	said := ""
	for {
		err := c.Ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if text := err.Error(); text != said {
			log.Warn("waiting for the HSM", "socket", c.String(), "error", text)
			said = text
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// closeHSM ends what openHSM opened.
func closeHSM(h hsm.HSM, log *slog.Logger) {
	if c, ok := h.(interface{ Close() error }); ok {
		if err := c.Close(); err != nil {
			log.Warn("closing the HSM", "error", err.Error())
		}
	}
}

// honest refuses real cardholders to a software HSM: in production, with a BIN
// that somebody may hold a card of, PINs belong into a certified device (PCI
// PIN requirement 1). A BIN is nobody's when it begins with 9999, which no card
// of the world does, or when it is one that simulate/card makes cards for
// (testdata/bin/README.md).
func honest(cfg Config, routes []routing.Route) error {
	if cfg.Environment != "production" || cfg.HSM.Kind == "payshield" {
		return nil
	}
	for _, r := range routes {
		if nobodys := synthetic(r.BIN); nobodys == "" || !strings.HasPrefix(cmp.Or(r.Last, r.BIN), nobodys) {
			return usageError{fmt.Errorf("environment is production, hsm.kind is %s, and BIN %s of issuer %s may be on real cards: a software HSM may not process real cardholders' PINs (PCI PIN requirement 1; docs/hsm.md says what it cannot promise). "+
				"Use a certified device, or the synthetic BINs (testdata/bin/bins.csv), or environment test", cfg.HSM.Kind, r.String(), r.Issuer)}
		}
	}
	return nil
}

// synthetic is the beginning of a BIN that makes it nobody's; "" when it may be
// somebody's.
func synthetic(bin string) string {
	for _, nobodys := range []string{"9999", simcard.Abroad.BIN} {
		if strings.HasPrefix(bin, nobodys) {
			return nobodys
		}
	}
	for _, is := range simcard.Issuers {
		if strings.HasPrefix(bin, is.BIN) {
			return is.BIN
		}
	}
	return ""
}

// parsePeriods reads hsm.periods: USE=DAYS, separated by commas.
func parsePeriods(s string) (map[string]time.Duration, error) {
	out := map[string]time.Duration{}
	for _, part := range splitList(s) {
		use, days, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 36500 || use == "" {
			return nil, fmt.Errorf("%q is not a use and its days, like TMK=730", part)
		}
		out[use] = time.Duration(n) * 24 * time.Hour
	}
	return out, nil
}

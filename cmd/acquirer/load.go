package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/load"
	"acquirer/simulate/terminal"
)

// lineFlags are how a simulated terminal reaches its host.
type lineFlags struct {
	addr, ca        string
	tls, skipVerify bool
	allowRemote     bool
	timeout         time.Duration
}

func (l *lineFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.addr, "addr", "127.0.0.1:8583", "address of the switch")
	f.BoolVar(&l.tls, "tls", false, "speak TLS to the switch")
	f.StringVar(&l.ca, "tls-ca", "", "PEM file of the authority that signed the switch's certificate")
	f.BoolVar(&l.skipVerify, "tls-skip-verify", false, "take any certificate; for test switches")
	f.BoolVar(&l.allowRemote, "allow-remote", false, "allow an address that is not on this machine")
	f.DurationVar(&l.timeout, "timeout", terminal.DefaultTimeout, "how long a terminal waits for an answer")
}

// dialer checks the address and makes the dial function.
func (l *lineFlags) dialer(ctx context.Context) (terminal.Dialer, error) {
	if l.timeout <= 0 {
		return nil, usageError{fmt.Errorf("--timeout %s: must be above zero", l.timeout)}
	}
	if !l.allowRemote {
		if err := load.CheckAddress(ctx, l.addr); err != nil {
			return nil, usageError{err}
		}
	}
	if !l.tls {
		if l.ca != "" || l.skipVerify {
			return nil, usageError{fmt.Errorf("--tls-ca and --tls-skip-verify need --tls")}
		}
		return terminal.DialTCP(l.addr, nil), nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: l.skipVerify}
	if l.ca != "" {
		var err error
		if conf.RootCAs, err = certPool(l.ca); err != nil {
			return nil, usageError{fmt.Errorf("--tls-ca: %w", err)}
		}
	}
	return terminal.DialTCP(l.addr, conf), nil
}

func newLoadCmd() *cobra.Command {
	var (
		line                    lineFlags
		cfg                     load.Config
		terminals, skip         int
		mix, amount, keys, seed string
		place                   string
		issuers                 []string
		asJSON                  bool
	)
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Drive many terminals against a switch and measure",
		Long: `load signs terminals in and lets them transact for a while, then says what they
saw. A terminal does one transaction at a time.

With --rate the load is open: that many transactions a second are due whether or
not the switch keeps up, and a latency begins when its transaction was due. With
--concurrency, or neither, it is closed: each busy terminal begins a transaction
when its last one ended.

The mix is KIND=WEIGHT,... of: sale chip contactless stripe keyed reversal (a
sale, then its reversal) duplicate (the same bytes twice) badmac echo signin.

Terminals and their TEST keys come from the seeded world (--seed world: the
street of "acquirer demo" and of "serve --seed demo") or from a file (--keys):
[{"tid":"10000001","mid":"898110054110001","tmk":"32 hex digits","profile":{}}].

--weather is the share of sales whose amount asks a simulated issuer to
misbehave; "acquirer simulate issuer --help" lists those amounts. The other
sales avoid them.

In the JSON, sent is approved + declined + the errors line, timeout, mac,
format, mismatch, arpc and differs; other errors are of requests that were never
sent, or of reversals.`,
		Example: `  acquirer load --terminals 64 --duration 30s
  acquirer load --terminals 256 --rate 2000 --duration 1m --mix sale=90,reversal=5,badmac=5 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spareMemoryForSpeed()
			var err error
			if cfg.Dial, err = line.dialer(cmd.Context()); err != nil {
				return err
			}
			cfg.Timeout = line.timeout
			if cfg.Mix, err = load.ParseMix(mix); err != nil {
				return usageError{err}
			}
			if cfg.Min, cfg.Max, err = parseRange(amount); err != nil {
				return usageError{err}
			}
			if cfg.Devices, err = devices(keys, seed, skip, terminals, cmd.Flags().Changed("terminals")); err != nil {
				return usageError{err}
			}
			for i := range cfg.Devices {
				cfg.Devices[i].Profile.Device.Place = cmp.Or(place, cfg.Devices[i].Profile.Device.Place)
			}
			for _, name := range issuers {
				is, ok := simcard.IssuerNamed(name)
				if !ok {
					return usageError{fmt.Errorf("--issuers: %q is none of north, south, east, west", name)}
				}
				cfg.Issuers = append(cfg.Issuers, is)
			}
			cfg.Stormy, cfg.Storms = issuer.Stormy, issuer.Storms()
			bar := newBar(cmd.ErrOrStderr())
			if bar != nil {
				cfg.Progress = bar.draw
			}
			rep, err := load.Run(cmd.Context(), cfg)
			if bar != nil {
				bar.clear()
			}
			var refused *terminal.Refusal
			if errors.As(err, &refused) && refused.Code == "97" {
				return fmt.Errorf("%w: the switch does not know this terminal; start it with the demo seed, use fewer terminals, or name its own with --keys", err)
			}
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(rep)
			}
			return printReport(cmd.OutOrStdout(), rep)
		},
	}
	line.add(cmd)
	f := cmd.Flags()
	f.IntVar(&terminals, "terminals", 16, "how many terminals; with --keys, all of the file unless given")
	f.IntVar(&skip, "skip", 0, "so many of the first terminals are left to another load")
	f.Float64Var(&cfg.Rate, "rate", 0, "transactions per second, open loop")
	f.IntVar(&cfg.Concurrency, "concurrency", 0, "terminals busy at once, closed loop (default all)")
	f.DurationVar(&cfg.Duration, "duration", 10*time.Second, "how long")
	f.StringVar(&mix, "mix", load.DefaultMix, "weights of the kinds of transaction")
	f.StringVar(&amount, "amount", "1.00-500.00", "amounts of the sales, in yuan")
	f.Float64Var(&cfg.Weather, "weather", 0, "share of sales, 0 to 1, whose amount asks for weather")
	f.StringSliceVar(&issuers, "issuers", nil, "whose cards are used, of north, south, east, west (default all)")
	f.IntVar(&cfg.Cards, "cards", 0, "cards in use (default 64 per terminal, at least 4096)")
	f.Uint64Var(&cfg.Seed, "random", 0, "seed of the draws of cards, amounts and kinds")
	f.StringVar(&keys, "keys", "", "terminals file")
	f.StringVar(&place, "place", "", "where the terminals stand, told in every transaction: +31.23037/+121.47370; not told when empty")
	f.StringVar(&seed, "seed", "world", "where terminals come from without --keys: world")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.MarkFlagsMutuallyExclusive("rate", "concurrency")
	return cmd
}

// devices lists the terminals to drive.
func devices(file, seed string, skip, n int, counted bool) ([]load.Device, error) {
	if n < 1 || n > 100000 {
		return nil, fmt.Errorf("--terminals %d: must be 1 to 100000", n)
	}
	if skip < 0 || skip > 100000 {
		return nil, fmt.Errorf("--skip %d: must be 0 to 100000", skip)
	}
	if file == "" {
		if seed != "world" {
			return nil, fmt.Errorf("--seed %q: the only seeded world is called world; other terminals come with --keys", seed)
		}
		return load.World(skip + n)[skip:], nil
	}
	all, err := load.ReadDevices(file)
	if err != nil {
		return nil, err
	}
	if skip >= len(all) {
		return nil, fmt.Errorf("--skip %d: %s lists %d", skip, file, len(all))
	}
	if all = all[skip:]; !counted {
		return all, nil
	}
	if n > len(all) {
		return nil, fmt.Errorf("--terminals %d: %s lists %d behind --skip", n, file, len(all))
	}
	return all[:n], nil
}

// parseRange reads "1.00-500.00", or one amount.
func parseRange(s string) (lowest, highest money.Amount, err error) {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		to = from
	}
	if lowest, err = money.Parse(from); err == nil {
		highest, err = money.Parse(to)
	}
	if err == nil && (lowest <= 0 || highest < lowest) {
		err = fmt.Errorf("amounts must be above zero, the lower one first")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("--amount %q: %w", s, err)
	}
	return lowest, highest, nil
}

func printReport(w io.Writer, r *load.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "sent      %10d   in %.1f s, %.0f answers/s\n", r.Sent, r.Duration, r.TPS)
	fmt.Fprintf(&b, "approved  %10d\n", r.Approved)
	fmt.Fprintf(&b, "reversed  %10d\n", r.Reversed)
	for _, code := range slices.Sorted(maps.Keys(r.Declined)) {
		fmt.Fprintf(&b, "declined  %10d   %s\n", r.Declined[code], code)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(&b, "error     %10d   %s\n", r.Errors[kind], kind)
	}
	l := r.Latency
	fmt.Fprintf(&b, "latency   p50 %.2f   p90 %.2f   p99 %.2f   p99.9 %.2f   max %.2f ms\n", l.P50, l.P90, l.P99, l.P999, l.Max)
	_, err := io.WriteString(w, b.String())
	return err
}

// bar is a progress bar on a terminal.
type bar struct{ w *os.File }

// newBar returns nil when w is not a terminal.
func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &bar{f}
}

func (b *bar) draw(s load.Snapshot) {
	width, _, err := term.GetSize(int(b.w.Fd()))
	if err != nil || width < 1 {
		width = 80
	}
	// A bar that cannot be drawn does not stop the load.
	_, _ = io.WriteString(b.w, "\r\x1b[K"+barText(s, width-1))
}

func (b *bar) clear() { _, _ = io.WriteString(b.w, "\r\x1b[K") }

// barText is the bar in at most width characters.
func barText(s load.Snapshot, width int) string {
	share := min(1, s.Elapsed.Seconds()/s.Duration.Seconds())
	tps := 0.0
	if s.Elapsed > 0 {
		tps = float64(s.Sent) / s.Elapsed.Seconds()
	}
	const cells = 24
	done := int(share * cells)
	text := fmt.Sprintf("[%s%s] %3.0f%%  %d sent  %.0f/s  p99 %.1f ms  %d errors",
		strings.Repeat("#", done), strings.Repeat(".", cells-done), share*100, s.Sent, tps, float64(s.P99.Microseconds())/1000, s.Errors)
	return text[:min(len(text), max(width, 0))]
}

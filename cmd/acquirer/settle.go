package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/settlement"
)

// settlementRun is what acquirer settle did, as --json prints it.
type settlementRun struct {
	Day      settlement.Day      `json:"day"`   // the close
	Early    settlement.Day      `json:"early"` // what was settled before it: D+0 in its windows, S0
	Expected money.Amount        `json:"network_owes"`
	Received *money.Amount       `json:"network_paid,omitempty"`
	Payment  *settlement.Payment `json:"payment,omitempty"`
	Tasks    int                 `json:"tasks"`
	Problems []string            `json:"problems"`
	payer    string
}

// newSettleCmd is `acquirer settle`.
func newSettleCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settle",
		Short: "Close a business date, pay what is due; safe to repeat",
		Long: `settle books what the journal has, closes the business date, nets every merchant,
and sends the payouts that are due through the bank (settlement.bank). It may be
run again at any time, also after it was interrupted, and while another node
runs it: nothing is settled or paid twice. T+1 payouts are due on the next
working day; run it then, or leave that to acquirer serve, which does the same.

Exit status 1 when something is wrong with the books.`,
		Example: `  acquirer settle --date 2026-11-20
  acquirer settle --date 2026-11-20 --received expected --as-of 2026-11-23T10:00:00+08:00 --json
  acquirer settle --date 2026-11-20 --received 1234.50 --wallet alipay --reference 2026112300017`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newHoldCmd(), newReleaseCmd(), newAccountCmd(), newFastCmd(), newSpeedCmd())
	cmd.AddCommand(watchCmds()...)
	cmd.AddCommand(receiptCmds()...)
	addConfigFlags(cmd)
	f := cmd.Flags()
	date := f.String("date", "", "business date to close, like 2026-11-20 (default: the last one that has ended)")
	asOf := f.String("as-of", "", "do what is due at this moment, like 2026-11-23T10:00:00+08:00 (default: now)")
	received := f.String("received", "", "book that the card network, or the wallet, paid the date: an amount in yuan, below zero what it took for a date that comes to less than nothing, or expected")
	wallet := f.String("wallet", "", "with --received: the wallet that paid, one of "+strings.Join(routing.Wallets, ", ")+" (default: the card network)")
	reference := f.String("reference", "", "the payment's reference (default: NET, the wallet and the date)")
	force := f.Bool("force", false, "close before the cut-off")
	verify := f.Bool("verify", false, "recompute the whole ledger from its first transfer and add up every batch")
	asJSON := f.Bool("json", false, "print the result as JSON")
	years := f.StringArray("calendar", nil, "JSON file with the holidays of one more year; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s := settleArgs{now: time.Now(), received: *received, wallet: *wallet, reference: *reference, force: *force, verify: *verify}
		if err := s.parse(*date, *asOf); err != nil {
			return err
		}
		if err := importCalendars(*years); err != nil {
			return err
		}
		cfg, err := loadConfig(cmd.Flags())
		if err != nil {
			return err
		}
		h, err := openKeeper(cmd.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer closeHSM(h, slog.New(slog.DiscardHandler))
		books, end, err := openBooksAlone(cmd.Context(), cfg, h)
		if err != nil {
			return err
		}
		out, err := s.settle(cmd.Context(), cfg, books)
		if err := errors.Join(err, end()); err != nil {
			return err
		}
		if *asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(out)
		} else {
			err = out.print(cmd.OutOrStdout())
		}
		if err == nil && len(out.Problems) > 0 {
			err = fmt.Errorf("the books are wrong: %s", strings.Join(out.Problems, "; "))
		}
		return err
	}
	return cmd
}

// importCalendars adds the years in files to the calendar in use.
func importCalendars(files []string) error {
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("calendar file: %w", err)
		}
		if err := calendar.Import(strings.NewReader(string(text))); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// openBooksAlone opens settlement without the switch around it: store,
// merchants, journal, ledger and bank.
func openBooksAlone(ctx context.Context, cfg Config, h hsm.HSM) (_ *settlement.Engine, end func() error, err error) {
	v := &house{cfg: cfg, hsm: h}
	err = v.openAlone(ctx)
	return v.books, func() error { return v.db.Close() }, err
}

// openAlone opens a house whose settings and HSM are given, for settlement.
func (v *house) openAlone(ctx context.Context) (err error) {
	if err := makeFolder(v.cfg.Database); err != nil {
		return err
	}
	if v.db, err = openBeside(ctx, v.cfg); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.db.Close())
		}
	}()
	if v.terminals, err = merchant.OpenRegistry(ctx, v.db); err != nil {
		return err
	}
	v.journal, v.ledger = journal.New(v.db, nil), ledger.New(v.db)
	dataKey, err := v.storedKey(ctx, "data", hsm.UseDEK, hsm.AES32)
	if err != nil {
		return err
	}
	if v.books, err = v.openBooks(ctx, dataKey); err != nil {
		return err
	}
	v.recon, err = reconciler(v.db, v.cfg, v.journal, v.books)
	return err
}

// settleArgs is what the command was asked for.
type settleArgs struct {
	date                calendar.Date
	now                 time.Time
	received, reference string
	wallet              string // "" for the card network
	amount              money.Amount
	force, verify       bool
}

func (s *settleArgs) parse(date, asOf string) (err error) {
	if asOf != "" {
		if s.now, err = time.Parse(time.RFC3339, asOf); err != nil {
			return usageError{fmt.Errorf("--as-of: %q is not a timestamp with a time zone; write it like 2026-11-23T10:00:00+08:00", asOf)}
		}
	}
	if date != "" {
		if s.date, err = calendar.ParseDate(date); err != nil {
			return usageError{fmt.Errorf("--date: %w", err)}
		}
	}
	if s.wallet != "" && (s.received == "" || !slices.Contains(routing.Wallets, s.wallet)) {
		return usageError{fmt.Errorf("--wallet: %q; it goes with --received and is one of %s", s.wallet, strings.Join(routing.Wallets, ", "))}
	}
	if s.reference != "" && s.received == "" {
		return usageError{errors.New("--reference: it is the reference of what was received, and goes with --received")}
	}
	if s.received != "" && s.received != "expected" {
		if s.amount, err = money.Parse(s.received); err != nil {
			return usageError{fmt.Errorf("--received: %q is neither an amount like 99.52 nor the word expected", s.received)}
		}
	}
	return nil
}

func (s *settleArgs) settle(ctx context.Context, cfg Config, books *settlement.Engine) (out settlementRun, err error) {
	if s.date == 0 {
		s.date = books.Ended(s.now)
	}
	if out.Day, err = books.CloseDay(ctx, s.date, s.now, s.force); err != nil {
		return out, err
	}
	if err := chargeExtras(ctx, books, s.date, s.now, slog.New(slog.DiscardHandler)); err != nil {
		return out, err
	}
	if out.Early, err = books.Early(ctx, s.date); err != nil {
		return out, err
	}
	out.payer = cmp.Or(s.wallet, "network")
	if out.Expected, err = books.Expected(ctx, s.date, s.wallet); err != nil {
		return out, err
	}
	if s.received != "" {
		if s.received == "expected" {
			s.amount = out.Expected
		}
		if s.reference == "" {
			s.reference = "NET" + s.wallet + s.date.String()
		}
		if err := books.Receive(ctx, settlement.Receipt{Date: s.date, Wallet: s.wallet, Received: s.amount, Reference: s.reference}, s.now); err != nil {
			return out, err
		}
		out.Received = &s.amount
	}
	if cfg.Settlement.Bank != "" {
		p, err := books.Pay(ctx, s.now)
		if err != nil {
			return out, fmt.Errorf("the day is closed, paying met problems: %w", err)
		}
		out.Payment = &p
	}
	agree, add := books.Check, books.Ledger().SelfCheck
	if s.verify {
		agree, add = books.CheckAll, books.Ledger().Verify
	}
	if out.Problems, err = agree(ctx); err != nil {
		return out, err
	}
	report, err := add(ctx)
	if err != nil {
		return out, err
	}
	out.Problems = append(append([]string{}, out.Problems...), report.Problems...)
	tasks, err := books.Tasks(ctx, 1000)
	out.Tasks = len(tasks)
	return out, err
}

func (out *settlementRun) print(w io.Writer) error {
	d, early := &out.Day, &out.Early
	var b strings.Builder
	fmt.Fprintf(&b, "business date   %s\ntransactions    %d of %d merchants\ngross           %s\nfees            %s, for speed %s\nother           %s (holds, releases, chargebacks, charges)\ncarried         in %s, out %s\nto pay          %s in %d payouts\n",
		d.Date, d.Lines, d.Merchants, d.Gross, d.Fee, d.SpeedFee, d.Other, d.CarryIn, d.CarryOut, d.PayoutTotal, d.Payouts)
	if early.Merchants > 0 {
		fmt.Fprintf(&b, "paid before it  %s in %d payouts, of %d more transactions, gross %s, fees %s, for speed %s\n", early.PayoutTotal, early.Payouts, early.Lines, early.Gross, early.Fee, early.SpeedFee)
	}
	fmt.Fprintf(&b, "%-15s %s\n", out.payer+" owes", out.Expected)
	if out.Received != nil {
		fmt.Fprintf(&b, "%-15s %s\n", out.payer+" paid", *out.Received)
	}
	if p := out.Payment; p != nil {
		fmt.Fprintf(&b, "bank            %d sent, %d paid (%s), %d not known yet, %d failed, %d returned, %d held\n", p.Sent, p.Paid, p.Total, p.Unknown, p.Failed, p.Returned, p.Held)
	} else {
		b.WriteString("bank            none configured (settlement.bank): nothing was sent\n")
	}
	fmt.Fprintf(&b, "for people      %d tasks\n", out.Tasks)
	if len(out.Problems) == 0 {
		b.WriteString("books           right\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

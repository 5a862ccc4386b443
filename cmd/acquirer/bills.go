package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/settlement/reconcile"
)

// billDays is how many days back bills are looked for: what a long weekend
// without the house has left.
const billDays = 4

// billFetcher brings the wallets' daily bills into the inbox, from where the
// reconciliation takes them.
func (v *house) billFetcher(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := v.fetchBills(ctx, time.Now()); err != nil && ctx.Err() == nil {
			v.log.Error("a wallet's bill was not fetched; it is tried again", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// fetchBills fetches each bill once: of the wallets whose files a business date
// needs, of the last days, when it is ready.
func (v *house) fetchBills(ctx context.Context, now time.Time) error {
	inbox := v.cfg.Clearing.Inbox
	if inbox == "" {
		return nil
	}
	var errs []error
	for _, name := range splitList(v.cfg.Clearing.Sources) {
		way := v.wallets[name]
		if way == nil {
			continue
		}
		for back := billDays; back >= 1; back-- {
			date := calendar.DateOf(now).AddDays(-back)
			err := fetchBill(ctx, way, date, inbox)
			if early := (*wallet.NotYetError)(nil); err != nil && !errors.As(err, &early) {
				errs = append(errs, fmt.Errorf("%s of %s: %w", name, date, err))
			}
		}
	}
	return errors.Join(errs...)
}

// fetchBill puts a bill into the inbox, as a whole or not at all; one that came
// before, read or refused, is left alone. A day without a bill is said so.
func fetchBill(ctx context.Context, way *wallet.Wallet, date calendar.Date, inbox string) (err error) {
	name := way.Name() + "-" + date.String()
	for _, ext := range []string{".bill", reconcile.NoBill} {
		for _, folder := range []string{way.Name(), "accepted", "refused"} {
			switch _, err := os.Lstat(filepath.Join(inbox, folder, name+ext)); {
			case err == nil:
				return nil
			case !errors.Is(err, fs.ErrNotExist):
				return err
			}
		}
	}
	folder := filepath.Join(inbox, way.Name())
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	part := filepath.Join(folder, "."+name+".part") // the inbox passes over names that begin with a dot
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	ext := ".bill"
	err = way.FetchBill(ctx, date, f)
	if errors.Is(err, wallet.ErrNoBill) {
		ext = reconcile.NoBill
		_, err = fmt.Fprintf(f, "%s has no bill of %s: nothing was paid or went back\n", way.Name(), date)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	fault.Hit("inbox.bill.before")
	err = os.Rename(part, filepath.Join(folder, name+ext))
	fault.Hit("inbox.bill.after")
	return err
}

// newBillCmd is `acquirer bill`: a wallet's daily bill, fetched or from a file.
func newBillCmd() *cobra.Command {
	var (
		file, name, out string
		day             string
		asJSON          bool
	)
	cmd := &cobra.Command{
		Use:   "bill",
		Short: "A wallet's daily bill: fetch it, or read a file; say where one is damaged",
		Long: `bill fetches the bill of a wallet's day (midnight to midnight, Beijing) from the
wallets of --seed, or reads a file that was fetched before, and prints its
records. --out keeps the bill as the wallet gave it: the folder of clearing.inbox
takes it as it is. A bill that is damaged, of another day than --date, or whose
totals are not those of its lines is refused whole, with line and column; the exit
status is then 1.`,
		Example: `  acquirer bill --seed street.json --wallet wechat --date 2026-08-07 --out wechat-2026-08-07.bill
  acquirer bill --wallet alipay --file alipay-2026-08-07.bill --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&name, "wallet", "", "wechat, alipay or unionpay-qr")
	f.StringVar(&day, "date", "", "the day, like 2026-08-07; left out, yesterday, or with --file whatever the file's is")
	f.StringVar(&file, "file", "", "a bill to read instead of fetching one")
	f.StringVar(&out, "out", "", "file to keep the fetched bill in; it must not exist")
	f.BoolVar(&asJSON, "json", false, "one JSON object a record")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(routing.Wallets, name) {
			return usageError{fmt.Errorf("--wallet %q is none of %v", name, routing.Wallets)}
		}
		var date calendar.Date
		if day != "" {
			var err error
			if date, err = calendar.ParseDate(day); err != nil {
				return usageError{fmt.Errorf("--date: %w", err)}
			}
		}
		if file == "" {
			if date == 0 {
				date = calendar.DateOf(time.Now()).AddDays(-1)
			}
			kept, end, err := fetchForPeople(cmd, name, date, out)
			if err != nil {
				return err
			}
			defer end()
			file = kept
		}
		return printBill(cmd.OutOrStdout(), name, date, file, asJSON)
	}
	return cmd
}

// fetchForPeople fetches a bill into a file; end removes it unless it is to be
// kept.
func fetchForPeople(cmd *cobra.Command, name string, date calendar.Date, out string) (file string, end func(), err error) {
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		return "", nil, err
	}
	if cfg.Seed == "" || cfg.Seed == "demo" {
		return "", nil, usageError{errors.New("--seed names the file that has the wallet and its keys")}
	}
	seed, err := merchant.LoadSeed(cfg.Seed)
	if err != nil {
		return "", nil, usageError{err}
	}
	if cfg.wallets, err = readWallets(seed); err != nil {
		return "", nil, usageError{err}
	}
	v := &house{cfg: cfg, metrics: prometheus.NewRegistry()}
	if err := v.openWallets(); err != nil {
		return "", nil, err
	}
	way := v.wallets[name]
	if way == nil {
		return "", nil, usageError{fmt.Errorf("%s has no wallet %s", cfg.Seed, name)}
	}
	defer way.Close()
	end = func() {}
	var f *os.File
	if out != "" {
		f, err = os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	} else if f, err = os.CreateTemp("", "acquirer-bill-"); err == nil {
		end = func() { _ = os.Remove(f.Name()) } // it is in the folder for such files
	}
	if err != nil {
		return "", nil, err
	}
	if err = errors.Join(way.FetchBill(cmd.Context(), date, f), f.Close()); err != nil {
		return "", nil, errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), end, nil
}

// billLine is a record as --json prints it.
type billLine struct {
	Line         int    `json:"line"`
	Kind         string `json:"kind"`
	Order        string `json:"order"`
	Refund       string `json:"refund,omitempty"`
	Number       string `json:"number"`
	RefundNumber string `json:"refund_number,omitempty"`
	Time         string `json:"time"`
	Merchant     string `json:"merchant,omitempty"`
	Terminal     string `json:"terminal,omitempty"`
	Amount       string `json:"amount"`
	Fee          string `json:"fee"`
}

func printBill(w io.Writer, name string, day calendar.Date, file string, asJSON bool) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	return printRecords(w, wallet.ReadBill(name, day, f, info.Size()), asJSON)
}

func printRecords(w io.Writer, bill iter.Seq2[wallet.BillRecord, error], asJSON bool) error {
	js := json.NewEncoder(w)
	for r, err := range bill {
		if err != nil {
			return err
		}
		when := r.Time.In(calendar.Beijing).Format(time.DateTime)
		if asJSON {
			err = js.Encode(billLine{r.Line, r.Kind.String(), r.Order, r.Refund, r.Number, r.RefundNumber, when, r.Merchant, r.Terminal, r.Amount.String(), r.Fee.String()})
		} else {
			refund := ""
			if r.Refund != "" {
				refund = "  refund " + r.Refund
			}
			_, err = fmt.Fprintf(w, "%-7s  %s  order %s  amount %10s  fee %6s%s\n", r.Kind, when, r.Order, r.Amount, r.Fee, refund)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

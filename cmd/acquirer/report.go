package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/settlement/report"
	"acquirer/store"
)

// newReportCmd is `acquirer report`.
func newReportCmd() *cobra.Command {
	var r report.Request
	var date, month, from, to, out string
	cmd := &cobra.Command{
		Use:   "report " + strings.Join(report.Reports(), "|"),
		Short: "Write a report of the settlement: statement, detail, cost, safeguarding, invoice, payouts, breaks, instant, trial-balance",
		Long: `report writes what was settled on closed business dates.

  statement      a merchant's day or month: sales by way of paying, fees, payouts, what is carried over
  detail         every settled transaction of a merchant, of all, or of one payout (--payout)
  cost           what sales brought and cost, and the margin, by merchant, speed and way of paying
  safeguarding   merchants' money day by day, and whether what is there covers what is owed
  invoice        what was taken from a merchant, by kind of fee
  payouts        every payout that is sent in these days, its state, and the sum of each state
  breaks         what files and books did not agree on, and what became of it (长短款)
  instant        whether S0 sales were paid within 120 seconds, and why sales were paid later
  trial-balance  every account at the end of the last date

--out is a file, a folder, or - for the standard output; in a folder the file is called after the
report, its dates, the merchant and the first digits of its SHA-256. A running acquirer serve that
has an embedded database is asked for it.`,
		Example: `  acquirer report statement --merchant 898110054110001 --month 2026-11 --format pdf --out reports/
  acquirer report detail --payout 20261120-898110054110001-T1-0 --format csv --out -
  acquirer report cost --date 2026-11-20 --format xlsx --out cost.xlsx`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: report.Reports(),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Report = args[0]
			if err := reportPeriod(&r, date, month, from, to); err != nil {
				return err
			}
			f, err := makeReport(cmd, r, out)
			if errors.Is(err, report.ErrRequest) {
				return usageError{err}
			}
			if err == nil && out != "-" {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %d bytes  sha256 %s\n", f.Path, f.Size, f.Sum)
			}
			return err
		},
	}
	addConfigFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&date, "date", "", "one business date, like 2026-11-20")
	f.StringVar(&month, "month", "", "a month, like 2026-11")
	f.StringVar(&from, "from", "", "first business date of another period")
	f.StringVar(&to, "to", "", "last business date of it")
	f.StringVar(&r.Merchant, "merchant", "", "MID of the merchant")
	f.StringVar(&r.Payout, "payout", "", "only what is in this payout, by its reference")
	f.StringVar(&r.Format, "format", "csv", strings.Join(report.Formats, ", "))
	f.StringVar(&out, "out", ".", "file, folder, or - for the standard output")
	cmd.MarkFlagsMutuallyExclusive("date", "month", "from", "payout")
	cmd.MarkFlagsRequiredTogether("from", "to")
	return cmd
}

// reportPeriod reads the dates of a report.
func reportPeriod(r *report.Request, date, month, from, to string) error {
	if month != "" {
		t, err := time.Parse("2006-01", month)
		if err != nil {
			return usageError{fmt.Errorf("--month: %q is not a month like 2026-11", month)}
		}
		r.From, r.To = report.Month(calendar.NewDate(t.Date()))
		return nil
	}
	if date != "" {
		if err := parseDate(date, "date", &r.From); err != nil {
			return err
		}
		r.To = r.From
		return nil
	}
	if err := parseDate(from, "from", &r.From); err != nil {
		return err
	}
	if err := parseDate(to, "to", &r.To); err != nil {
		return err
	}
	if r.From == 0 && r.Payout == "" {
		return usageError{errors.New("name a --date, a --month, --from and --to, or a --payout")}
	}
	return nil
}

// makeReport writes a report here, or has the process that has the database
// write it, and puts it where it is wanted.
func makeReport(cmd *cobra.Command, r report.Request, out string) (f report.File, err error) {
	folder, name := out, ""
	if info, bad := os.Stat(out); out == "-" || bad != nil || !info.IsDir() {
		folder, name = filepath.Dir(out), filepath.Base(out)
	}
	if out == "-" {
		folder = os.TempDir()
	} else if strings.HasSuffix(out, "/") {
		folder, name = out, ""
		if err := os.MkdirAll(out, 0o700); err != nil {
			return f, err
		}
	}
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		return f, err
	}
	err = withDatabase(cmd, func(ctx context.Context, db *store.DB) error {
		books, err := reportBooks(ctx, db, cfg)
		if err == nil {
			f, err = books.Make(ctx, r, folder)
		}
		return err
	})
	if keptByAnother(err) {
		var bad error
		f, bad = fetchReport(cmd.Context(), doorOf(cfg), r, folder)
		var no *refusal
		switch {
		case errors.As(bad, &no) && no.status == http.StatusUnprocessableEntity:
			return f, usageError{errors.New(no.text)}
		case bad != nil:
			return f, fmt.Errorf("%w; and that process was asked in vain: %w", err, bad)
		}
		err = nil
	}
	switch {
	case err != nil:
		return f, err
	case out == "-":
		return f, errors.Join(copyOut(cmd.OutOrStdout(), f.Path), os.Remove(f.Path))
	case name != "":
		f.Path, err = filepath.Join(folder, name), os.Rename(f.Path, filepath.Join(folder, name))
	}
	return f, err
}

func copyOut(w io.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, file)
	return errors.Join(err, file.Close())
}

// reportBooks are the reports of a database.
func reportBooks(ctx context.Context, db *store.DB, cfg Config) (*report.Books, error) {
	reg, err := merchant.OpenRegistry(ctx, db)
	if err != nil {
		return nil, err
	}
	return report.New(db, reg, acquirerOf(cfg)), nil
}

// acquirerOf is our institution as it stands on reports: its name, where one is
// set, and its code.
func acquirerOf(cfg Config) string {
	return strings.TrimSpace(strings.TrimSpace(cfg.Switch.AcquirerName) + " " + cfg.Switch.Acquirer)
}

// The headers under which a process hands a report over.
const (
	reportName = "X-Report-Name"
	reportSum  = "X-Report-Sha256"
)

// serveReport makes a report for a command.
func serveReport(v *house, token string, log *slog.Logger) http.HandlerFunc {
	return behindDoor(token, "acquirer report", func(w http.ResponseWriter, r *http.Request) {
		var q report.Request
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		file, f, err := v.openReport(r.Context(), q)
		switch {
		case errors.Is(err, report.ErrRequest):
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer file.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(f.Size, 10))
		w.Header().Set(reportName, f.Name)
		w.Header().Set(reportSum, f.Sum)
		if _, err := io.Copy(w, file); err != nil {
			log.Debug("handing a report over", "report", f.Name, "error", err.Error())
		}
	})
}

// openReport makes a report in a file that has no name any more: it is gone when
// it is closed, however this process ends.
func (v *house) openReport(ctx context.Context, q report.Request) (*os.File, report.File, error) {
	f, err := report.New(v.db, v.terminals, acquirerOf(v.cfg)).Make(ctx, q, os.TempDir())
	if err != nil {
		return nil, f, err
	}
	file, err := os.Open(f.Path)
	if bad := os.Remove(f.Path); bad != nil && err == nil {
		err = errors.Join(bad, file.Close())
	}
	return file, f, err
}

// fetchReport asks the process that has the database for a report and keeps it
// in a folder.
func fetchReport(ctx context.Context, door string, r report.Request, folder string) (f report.File, err error) {
	resp, err := knock(ctx, door, "report", r)
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	tmp, err := os.CreateTemp(folder, ".report-*")
	if err != nil {
		return f, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	sum := sha256.New()
	f.Size, err = io.Copy(io.MultiWriter(tmp, sum), resp.Body)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return f, err
	}
	f.Sum, f.Name = hex.EncodeToString(sum.Sum(nil)), filepath.Base(resp.Header.Get(reportName))
	if f.Sum != resp.Header.Get(reportSum) {
		return f, errors.New("the report did not arrive whole")
	}
	f.Path = filepath.Join(folder, f.Name)
	return f, os.Rename(tmp.Name(), f.Path)
}

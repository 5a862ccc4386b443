package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/reconcile"
	"acquirer/store"
)

// newLedgerCmd is `acquirer ledger`.
func newLedgerCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ledger",
		Short:   "The double entry: verify it from its first transfer, balances of a date",
		Example: "  acquirer ledger verify",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLedgerVerifyCmd(), newTrialBalanceCmd())
	return cmd
}

// ledgerCall is an errand about the ledger.
type ledgerCall struct {
	Do   string        `json:"do"` // verify or trial-balance
	Date calendar.Date `json:"date"`
	Head string        `json:"head,omitempty"` // of the tallies, noted earlier
}

// ledgerAnswer is what came of it.
type ledgerAnswer struct {
	Verified *ledgerVerified `json:"verified,omitempty"`
	Daily    *trialBalance   `json:"daily,omitempty"`
}

// trialBalance is a business date's balances, and whether they are its last.
type trialBalance struct {
	State dateState `json:"state"`
	*ledger.Daily
}

// dateState says what may still change of a business date.
type dateState string

const (
	dateClosed dateState = "closed" // nothing
	dateOpen   dateState = "open"   // everything that is booked on it until its close
	dateFuture dateState = "future" // it has not begun
)

// says is the state in words.
func (s dateState) says() string {
	switch s {
	case dateOpen:
		return "open: until its close more may be booked on it"
	case dateFuture:
		return "has not begun: these are the balances so far"
	}
	return "closed"
}

// ledgerVerified is what verify found, as --json prints it.
type ledgerVerified struct {
	Transfers   int          `json:"transfers"` // recomputed, from the first
	Facts       int          `json:"facts"`     // of the journal, from the first
	Behind      int          `json:"behind"`    // facts that are not booked yet
	Rows        int          `json:"rows"`      // of journal and ledger, compared with their checksums
	Without     int          `json:"without"`   // rows that have none
	Counted     int          `json:"counted"`   // rows of journal and ledger that the tallies have, and are there
	Late        int          `json:"late"`      // rows that they do not have because they became visible late
	Head        string       `json:"head"`      // where the tallies end
	Safeguarded money.Amount `json:"safeguarded"`
	Owed        money.Amount `json:"owed"`
	Problems    []string     `json:"problems"`
}

func (c *ledgerCall) name() string { return "ledger" }

func (c *ledgerCall) run(ctx context.Context, db *store.DB, cfg Config, _ string) (any, error) {
	books, err := booksAlone(ctx, db, cfg)
	if err != nil {
		return nil, err
	}
	switch c.Do {
	case "verify":
		var noted store.Head
		if c.Head != "" {
			if noted, err = store.ParseHead(c.Head); err != nil {
				return nil, usageError{err}
			}
		}
		v, err := verifyLedger(ctx, db, books, noted)
		return ledgerAnswer{Verified: v}, err
	case "trial-balance":
		open, err := books.OpenDate(ctx)
		if err != nil {
			return nil, err
		}
		today := max(open, calendar.BusinessDate(time.Now(), cfg.Switch.CutOff))
		if c.Date == 0 {
			c.Date = today
		}
		b := trialBalance{State: dateClosed}
		switch {
		case c.Date > today:
			b.State = dateFuture
		case c.Date >= open:
			b.State = dateOpen
		}
		b.Daily, err = books.Ledger().Daily(ctx, c.Date)
		return ledgerAnswer{Daily: &b}, err
	}
	return nil, usageError{fmt.Errorf("%q is nothing that can be done with the ledger", c.Do)}
}

// verifyLedger recomputes the ledger from its first transfer and from the
// journal, adds every batch up, reads the rows back, and looks for those that
// are gone.
func verifyLedger(ctx context.Context, db *store.DB, books *settlement.Engine, noted store.Head) (*ledgerVerified, error) {
	r, err := books.Ledger().Verify(ctx)
	if err != nil {
		return nil, err
	}
	j, err := books.VerifyJournal(ctx)
	if err != nil {
		return nil, err
	}
	batches, err := books.CheckAll(ctx)
	if err != nil {
		return nil, err
	}
	differences, err := reconcile.Verify(ctx, db)
	if err != nil {
		return nil, err
	}
	rows, err := db.CheckRows(ctx, summedTables, nil)
	if err != nil {
		return nil, err
	}
	tallies, err := db.CheckTallies(ctx, talliedTables, noted, nil)
	if err != nil {
		return nil, err
	}
	out := &ledgerVerified{Transfers: r.Transfers, Facts: j.Facts, Behind: j.Behind, Rows: rows.Rows, Without: rows.Without, Counted: tallies.Rows, Late: tallies.Late, Head: tallies.Head.String(),
		Safeguarded: r.Safeguarded, Owed: r.Owed, Problems: []string{}}
	out.Problems = append(out.Problems, slices.Concat(r.Problems, j.Problems, batches, differences, rows.Problems, tallies.Problems)...)
	return out, nil
}

func newLedgerVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the whole ledger, from its first transfer and from the journal",
		Long: `verify reads every transfer from the first: each balances in both books, pending
ones were ended at most once, and all balances, days and control accounts are
what the transfers make them. Then it reads the journal from its first
transaction: what was approved is settled with its merchant, at its amount and the
price of its plan, and booked with exactly the legs that follow from that; what was
taken back has the mirror of it. Payouts, receipts, batches, chargebacks, fees and
holds have the transfers that their states ask for, what reconciliation booked is of
a difference it found, and no other transfer is there.
Then every batch is the sum of its lines and is what was paid and carried over, the
income of every signed date was carried and swept once, as its movements make it,
and every row is what was written. Every row of journal and ledger that was counted,
a minute or two after it was written, is still there. It may run beside a house at work.

It prints where the tallies end. Write that down where nobody with access to the
database can change it: --head finds tallies that were written anew.

Exit status 1 when anything is wrong.`,
		Example: `  acquirer ledger verify
  acquirer ledger verify --json --database postgres://acquirer@db/acquirer
  acquirer ledger verify --head "$(cat /mnt/elsewhere/head)"`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the result as JSON")
	head := cmd.Flags().String("head", "", "where the tallies ended earlier, SEQ:HASH")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *head != "" {
			if _, err := store.ParseHead(*head); err != nil {
				return usageError{fmt.Errorf("--head: %w", err)}
			}
		}
		var a ledgerAnswer
		if err := send(cmd, &ledgerCall{Do: "verify", Head: *head}, &a); err != nil {
			return err
		}
		var err error
		if v := a.Verified; *asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(v)
		} else {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "transfers    %d recomputed\njournal      %d facts compared, %d not booked yet\nrows         %d compared with their checksums, %d have none\ncounted      %d are still there, %d came too late to be counted\nsafeguarded  %s of %s owed to merchants\nhead         %s\n",
				v.Transfers, v.Facts, v.Behind, v.Rows, v.Without, v.Counted, v.Late, v.Safeguarded, v.Owed, v.Head)
		}
		if err == nil && len(a.Verified.Problems) > 0 {
			err = fmt.Errorf("the ledger is wrong: %s", strings.Join(a.Verified.Problems, "; "))
		}
		return err
	}
	return cmd
}

func newTrialBalanceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trial-balance",
		Short: "Every account of a business date: opening, movements, closing; and the safeguarding check",
		Long: `trial-balance shows what each account began a business date with, what was booked,
and what it ended with, each on its normal side; both books, and whether what is
safeguarded covers what is owed to merchants. A closed date does not change; of one
that is open, or has not begun, it says so.`,
		Example: `  acquirer ledger trial-balance --date 2026-11-20
  acquirer ledger trial-balance --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	date := cmd.Flags().String("date", "", "business date, like 2026-11-20 (default: the open one)")
	asJSON := cmd.Flags().Bool("json", false, "print the balances as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c := ledgerCall{Do: "trial-balance"}
		if *date != "" {
			var err error
			if c.Date, err = calendar.ParseDate(*date); err != nil {
				return usageError{fmt.Errorf("--date: %w", err)}
			}
		}
		var a ledgerAnswer
		if err := send(cmd, &c, &a); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(a.Daily)
		}
		return printDaily(cmd.OutOrStdout(), a.Daily)
	}
	return cmd
}

func printDaily(w io.Writer, d *trialBalance) error {
	var b strings.Builder
	fmt.Fprintf(&b, "business date %s, %s\n\n%-6s  %-32s  %s  %16s  %16s  %16s  %16s\n", d.Date, d.State.says(), "book", "account", " ", "opening", "debit", "credit", "closing")
	sums := map[string][2]money.Amount{} // closing debits and credits by book
	for _, l := range d.Lines {
		fmt.Fprintf(&b, "%-6s  %-32s  %s  %16s  %16s  %16s  %16s\n", l.Book, fmt.Sprintf("%d %s", l.Account, l.Name), l.Side, l.Opening, l.Debit, l.Credit, l.Closing)
		s := sums[l.Book]
		if l.Side == "D" {
			s[0] += l.Closing
		} else {
			s[1] += l.Closing
		}
		sums[l.Book] = s
	}
	for _, book := range []string{"CLIENT", "OWN"} {
		fmt.Fprintf(&b, "\n%-6s  debit balances %s, credit balances %s", book, sums[book][0], sums[book][1])
	}
	fmt.Fprintf(&b, "\n\nsafeguarded %s, owed to merchants %s", d.Safeguarded, d.Owed)
	if short := d.Short(); short > 0 {
		fmt.Fprintf(&b, ": %s of our own money is missing there", short)
	}
	_, err := io.WriteString(w, b.String()+"\n")
	return err
}

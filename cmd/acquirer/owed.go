package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/store"
)

// newOwedCmd is `acquirer owed`: what a person does with reversals and advices
// that the house could not bring to an end by itself (docs/runbook.md).
func newOwedCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "owed",
		Short: "What is owed to issuers and wallets: list it, send one again, record that one is settled",
		Long: `owed shows the reversals and advices that issuers and wallets have not
acknowledged, first what was left to a person. An advice tells what was done
already: an offline sale, a tip, a completion notice, a refund. When the issuer
says that it can take one now, retry sends it once more; when it has confirmed by
other means that its books are right, close records that.

It opens the database itself: an embedded one only while acquirer serve is stopped.`,
		Example: "  acquirer owed list --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newOwedListCmd(), newOwedRetryCmd(), newOwedCloseCmd())
	return cmd
}

func newOwedListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "What is owed, those left to a person first",
		Example: `  acquirer owed list
  acquirer owed list --json --database postgres://acquirer@db/acquirer`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print one JSON array")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withJournal(cmd, func(ctx context.Context, j *journal.Journal) error {
			var all []*journal.Entry
			for _, s := range [...]journal.State{journal.Manual, journal.Owed} {
				some, err := j.DebtList(ctx, s, 10_000)
				if err != nil {
					return err
				}
				all = append(all, some...)
			}
			return printOwed(cmd.OutOrStdout(), all, *asJSON)
		})
	}
	return cmd
}

// owedRow is what is owed for a transaction as --json prints it.
type owedRow struct {
	RRN      string       `json:"rrn"`
	What     string       `json:"what"`  // reversal or advice
	State    string       `json:"state"` // owed, or manual: left to a person
	Issuer   string       `json:"issuer"`
	Trace    string       `json:"trace"` // DE 11 towards the issuer
	Sent     time.Time    `json:"sent"`  // DE 7 towards the issuer
	PAN      string       `json:"pan"`   // masked
	Amount   money.Amount `json:"amount"`
	Terminal string       `json:"terminal"`
	Merchant string       `json:"merchant"`
	Why      string       `json:"why"`
	Since    time.Time    `json:"since"`
	Tries    int          `json:"tries"`
	Last     string       `json:"last"` // what the last try met
}

func printOwed(w io.Writer, all []*journal.Entry, asJSON bool) error {
	rows := make([]owedRow, len(all))
	for i, e := range all {
		rows[i] = owedRow{RRN: e.RRN, What: whatIsOwed(e), State: e.Debt.State.String(), Issuer: e.Issuer, Trace: fmt.Sprintf("%06d", e.Trace), Sent: e.Transmitted, PAN: e.PANMasked,
			Amount: e.Amount, Terminal: e.Terminal, Merchant: e.Merchant, Why: string(e.Debt.Why), Since: e.Debt.Created, Tries: int(e.Debt.Tries), Last: e.Debt.Note}
	}
	if asJSON {
		return json.NewEncoder(w).Encode(rows)
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "nothing is owed")
		return err
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%s  %-8s  %-6s  %-8s  trace %s of %s  %s  %10s  since %s, %d tries, last: %s\n",
			r.RRN, r.What, r.State, r.Issuer, r.Trace, r.Sent.Format("01-02 15:04:05"), r.PAN, r.Amount, r.Since.Format("2006-01-02 15:04"), r.Tries, r.Last); err != nil {
			return err
		}
	}
	return nil
}

// whatIsOwed is the word for what is owed for a transaction.
func whatIsOwed(e *journal.Entry) string {
	if e.Debt.Delivery() {
		return "advice"
	}
	return "reversal"
}

// standsAs is where what is owed for a transaction stands, in a word.
func standsAs(e *journal.Entry) string {
	if e.Debt.Delivery() && e.Debt.State == journal.Reversed {
		return "delivered"
	}
	return e.Debt.State.String()
}

func newOwedRetryCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "retry RRN",
		Short:   "Send a reversal or advice that was left to a person once more",
		Example: "  acquirer owed retry 2WSLMB5IZITC",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withJournal(cmd, func(ctx context.Context, j *journal.Journal) error {
			e, err := owedByRRN(ctx, j, args[0])
			if err != nil {
				return err
			}
			if e.Debt.State != journal.Manual {
				return fmt.Errorf("the %s of %s is %s: only one that was left to a person is sent again", whatIsOwed(e), e.RRN, standsAs(e))
			}
			if err := j.Resume(ctx, e.Debt.ID, time.Now()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the %s of %s is owed again; acquirer serve sends it at once\n", whatIsOwed(e), e.RRN)
			return err
		})
	}
	return cmd
}

func newOwedCloseCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "close RRN",
		Short: "Record that an issuer's books are right about a transaction by other means",
		Long: `close ends a reversal or advice that the issuer has settled by other means: its
operations confirmed that the original is reversed there, or never came, or that
what the advice tells is booked. The note says who confirmed it; it stays with
the transaction.`,
		Example: `  acquirer owed close 2WSLMB5IZITC --note "north operations, ticket 4711"`,
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	note := cmd.Flags().String("note", "", "who confirmed it, and where that is written")
	if err := cmd.MarkFlagRequired("note"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(*note) == "" {
			return usageError{errors.New("--note is empty: say who confirmed it")}
		}
		return withJournal(cmd, func(ctx context.Context, j *journal.Journal) error {
			e, err := owedByRRN(ctx, j, args[0])
			if err != nil {
				return err
			}
			if s := e.Debt.State; s != journal.Manual && s != journal.Owed {
				return fmt.Errorf("the %s of %s is %s already", whatIsOwed(e), e.RRN, standsAs(e))
			}
			if err := j.Acknowledge(ctx, e.Debt.ID, "by hand: "+*note); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the %s of %s is settled\n", whatIsOwed(e), e.RRN)
			return err
		})
	}
	return cmd
}

// withJournal is withDatabase for what needs the journal alone.
func withJournal(cmd *cobra.Command, f func(context.Context, *journal.Journal) error) error {
	return withDatabase(cmd, func(ctx context.Context, db *store.DB) error { return f(ctx, journal.New(db, nil)) })
}

// owedByRRN finds a transaction for which something is or was owed. An RRN of this
// house is the journal's id in base 36.
func owedByRRN(ctx context.Context, j *journal.Journal, rrn string) (*journal.Entry, error) {
	rrn = strings.ToUpper(rrn)
	id, err := strconv.ParseInt(rrn, 36, 64)
	if err != nil {
		return nil, usageError{fmt.Errorf("%q is not an RRN of this house: 12 letters and digits", rrn)}
	}
	e, err := j.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.RRN != rrn {
		return nil, fmt.Errorf("no transaction has the RRN %s", rrn)
	}
	if err == nil && e.Debt == nil {
		err = fmt.Errorf("the transaction %s is %s: nothing is owed for it", rrn, e.State())
	}
	return e, err
}

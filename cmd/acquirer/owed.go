package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/journal"
	"acquirer/money"
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
other means that its books are right, resolve records that.

It opens the database itself, or, where acquirer serve has an embedded one, asks
that process; whoever may read the database's files may do that.`,
		Example: "  acquirer owed list --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newOwedListCmd(), newOwedRetryCmd(), newOwedResolveCmd())
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
		a, err := askOwed(cmd, owedCall{Do: "list"})
		if err != nil {
			return err
		}
		return printOwed(cmd.OutOrStdout(), a.Rows, *asJSON)
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

func owedRowOf(e *journal.Entry) owedRow {
	return owedRow{RRN: e.RRN, What: whatIsOwed(e), State: e.Debt.State.String(), Issuer: e.Issuer, Trace: fmt.Sprintf("%06d", e.Trace), Sent: e.Transmitted, PAN: e.PANMasked,
		Amount: e.Amount, Terminal: e.Terminal, Merchant: e.Merchant, Why: string(e.Debt.Why), Since: e.Debt.Created, Tries: int(e.Debt.Tries), Last: e.Debt.Note}
}

func printOwed(w io.Writer, rows []owedRow, asJSON bool) error {
	if asJSON {
		if rows == nil {
			rows = []owedRow{}
		}
		return json.NewEncoder(w).Encode(rows)
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "nothing is owed")
		return err
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%s  %-8s  %-6s  %-8s  trace %s of %s  %s  %10s  since %s, %d tries, last: %s\n",
			r.RRN, r.What, r.State, r.Issuer, r.Trace, r.Sent.Format("01-02 15:04:05"), r.PAN, r.Amount, minuteOf(r.Since), r.Tries, r.Last); err != nil {
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
		return sayOwed(cmd, owedCall{Do: "retry", RRN: args[0]})
	}
	return cmd
}

func newOwedResolveCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve RRN",
		Short: "Record that an issuer's books are right about a transaction by other means",
		Long: `resolve ends a reversal or advice that the issuer has settled by other means: its
operations confirmed that the original is reversed there, or never came, or that
what the advice tells is booked. The note says who confirmed it; it stays with
the transaction and in the operators' log (acquirer audit list).`,
		Example: `  acquirer owed resolve 2WSLMB5IZITC --note "north operations, ticket 4711"`,
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
		return sayOwed(cmd, owedCall{Do: "resolve", RRN: args[0], Note: *note})
	}
	return cmd
}

func sayOwed(cmd *cobra.Command, c owedCall) error {
	a, err := askOwed(cmd, c)
	if err == nil {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), a.Said)
	}
	return err
}

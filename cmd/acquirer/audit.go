package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/store"
)

// newAuditCmd is `acquirer audit`: what people did to the house.
func newAuditCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The log of what operators did: list it, verify that it is whole",
		Long: `audit shows who did what to the house, when, from where and how it ended. Each
entry carries the hash of the one before it. What is done with keys is in a log
of its own: acquirer hsm audit.

Beside a running acquirer serve with an embedded database it asks that process.`,
		Example: "  acquirer audit list --limit 20",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuditListCmd(), newAuditVerifyCmd())
	return cmd
}

func newAuditListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "The newest entries, newest first",
		Example: `  acquirer audit list
  acquirer audit list --op "route reload" --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	op := cmd.Flags().String("op", "", "only this action")
	before := cmd.Flags().Int64("before", 0, "go on before this number")
	limit := cmd.Flags().Int("limit", 100, "at most so many")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON array")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 1 || *limit > 100_000 {
			return usageError{fmt.Errorf("--limit %d is not 1 to 100000", *limit)}
		}
		list := []audit.Entry{}
		if err := send(cmd, &auditCall{Do: "list", Op: *op, Before: *before, Limit: *limit}, &list); err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *asJSON {
			return json.NewEncoder(out).Encode(list)
		}
		for _, e := range list {
			// Quoted, so that no text can pass for an entry of its own or
			// speak to the operator's terminal.
			if _, err := fmt.Fprintf(out, "%d  %s  %q from %q: %q %q: %q\n", e.Seq, e.At.In(calendar.Beijing).Format("2006-01-02 15:04:05"), e.Who, e.From, e.Op, e.Subject, e.Result); err != nil {
				return err
			}
			for line := range strings.Lines(e.Detail) {
				if _, err := fmt.Fprintf(out, "    %q\n", strings.TrimSuffix(line, "\n")); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return cmd
}

// auditCall is an errand about the log.
type auditCall struct {
	Do     string `json:"do"` // list or verify
	Op     string `json:"op,omitempty"`
	Before int64  `json:"before,omitempty"`
	Limit  int    `json:"limit,omitempty"`
	Head   string `json:"head,omitempty"`
}

// auditEnd is where the log ends, when it is whole.
type auditEnd struct {
	Entries int64  `json:"entries"`
	Head    string `json:"head"`
}

func (c *auditCall) name() string { return "audit" }

func (c *auditCall) run(ctx context.Context, db *store.DB, _ Config, _ string) (any, error) {
	switch c.Do {
	case "list":
		list, err := audit.List(ctx, db, c.Op, c.Before, c.Limit)
		if list == nil {
			list = []audit.Entry{}
		}
		return list, err
	case "verify":
		var noted audit.Head
		if c.Head != "" {
			var err error
			if noted, err = audit.ParseHead(c.Head); err != nil {
				return nil, usageError{err}
			}
		}
		end, err := audit.Verify(ctx, db, noted)
		return auditEnd{end.Seq, end.String()}, err
	}
	return nil, usageError{fmt.Errorf("%q is nothing that can be done with the log: list or verify", c.Do)}
}

func newAuditVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Find any entry that was changed, taken out, put in, moved or cut off",
		Long: `verify reads the log from its first entry and prints its head. Write the head
down where nobody with access to the database can change it: --head finds a log
that was written anew or set back as a whole.

The exit status is 1 when the log is not what was written.`,
		Example: `  acquirer audit verify
  acquirer audit verify --head "$(cat /mnt/elsewhere/head)"`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	head := cmd.Flags().String("head", "", "a head that was noted earlier, SEQ:HASH")
	asJSON := cmd.Flags().Bool("json", false, "print the result as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *head != "" {
			if _, err := audit.ParseHead(*head); err != nil {
				return usageError{err}
			}
		}
		var end auditEnd
		if err := send(cmd, &auditCall{Do: "verify", Head: *head}, &end); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(end)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "whole: %d entries\nhead   %s\n", end.Entries, end.Head)
		return err
	}
	return cmd
}

// byHand is an entry for what this process's user asked for on the command
// line. An err that is not nil says that it was not done.
func byHand(op, subject, detail string, err error) audit.Entry {
	e := audit.Entry{Who: whoRuns(), From: "command line", Op: op, Subject: subject, Detail: detail, Result: audit.Done}
	if err != nil {
		e.Result = "refused: " + err.Error()
	}
	return e
}

// withDatabase opens the configured database, which must be there.
func withDatabase(cmd *cobra.Command, f func(context.Context, *store.DB) error) error {
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		return err
	}
	if path, embedded := strings.CutPrefix(cfg.Database, "sqlite:"); embedded {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("database: %w", err) // opening it would make an empty one
		}
	}
	db, err := openBeside(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(cmd.Context(), db), db.Close())
}

// openBeside opens the database for a command, which may stand beside the house:
// on PostgreSQL as a node of its own, whatever the house's number is.
func openBeside(ctx context.Context, cfg Config) (*store.DB, error) {
	node := cfg.Node
	if !strings.HasPrefix(cfg.Database, "sqlite:") {
		var err error
		if node, err = store.FreeNode(ctx, cfg.Database); err != nil {
			return nil, err
		}
	}
	if err := store.SetNode(node); err != nil {
		return nil, err
	}
	return store.Open(ctx, cfg.Database, schemas()...)
}

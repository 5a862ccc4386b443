package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"acquirer/spec"
)

func newSpecCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spec",
		Short: "Dialects of ISO 8583: list, print, check a file of your own",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSpecListCmd(), newSpecShowCmd(), newSpecCheckCmd())
	return cmd
}

// dialectSummary is a dialect in one line.
type dialectSummary struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Framing  string `json:"framing"`
	Fields   int    `json:"fields"`
	Messages int    `json:"messages"` // presence rules
}

func summaryOf(d *spec.Dialect) dialectSummary {
	f := d.Framing()
	s := dialectSummary{Name: d.Name(), Title: d.Title(), Framing: f.String(), Messages: len(d.Presence())}
	for n := 2; n <= 128; n++ {
		if d.Format(n) != "" {
			s.Fields++
		}
	}
	return s
}

func newSpecListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [--json]",
		Short: "The dialects that are built in",
		Example: `  acquirer spec list
  acquirer spec list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []dialectSummary
			for _, name := range spec.Names() {
				d, err := spec.Load(name)
				if err != nil {
					return err
				}
				all = append(all, summaryOf(d))
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			for _, s := range all {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-13s %s; %s; %d fields, %d messages\n", s.Name, s.Title, s.Framing, s.Fields, s.Messages); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func newSpecShowCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show [--json] DIALECT|FILE",
		Short: "Print a dialect: encodings, fields, which fields each message needs",
		Long: `show prints a built-in dialect or a dialect file for people. With --json it
prints the dialect as a dialect file, which "acquirer spec check" accepts: the
way to a dialect of your own begins with a copy of one that is near.`,
		Example: `  acquirer spec show unionpay-pos
  acquirer spec show --json iso87-ascii > mine.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := loadDialect(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				_, err := cmd.OutOrStdout().Write(d.File())
				return err
			}
			return writeDialect(cmd.OutOrStdout(), d)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a dialect file")
	return cmd
}

// specCheckJSON is what check --json prints.
type specCheckJSON struct {
	File     string          `json:"file"`
	OK       bool            `json:"ok"`
	Dialect  *dialectSummary `json:"dialect,omitempty"`
	Mistakes []spec.Mistake  `json:"mistakes,omitempty"`
}

func newSpecCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [--json] FILE",
		Short: "Read a dialect file and say what is wrong with it, with lines",
		Long: `check reads a dialect file as serve and decode do. It prints every mistake with
its line, the field or message and the reason, and ends with exit status 1 when
there is one.`,
		Example: `  acquirer spec check mine.json
  acquirer spec check --json mine.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			d, err := spec.LoadFile(args[0])
			var fe *spec.FileError
			if err != nil && !errors.As(err, &fe) {
				return err
			}
			if asJSON {
				result := specCheckJSON{File: args[0], OK: err == nil}
				if fe != nil {
					result.Mistakes = fe.Mistakes
				} else {
					s := summaryOf(d)
					result.Dialect = &s
				}
				if err := json.NewEncoder(out).Encode(result); err != nil {
					return err
				}
			}
			if fe != nil {
				if asJSON {
					return fmt.Errorf("%s: %s", args[0], mistakes(len(fe.Mistakes)))
				}
				return fe
			}
			if !asJSON {
				s := summaryOf(d)
				_, err = fmt.Fprintf(out, "%s: dialect %s, %d fields, %d messages\n", args[0], s.Name, s.Fields, s.Messages)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func mistakes(n int) string {
	if n == 1 {
		return "1 mistake"
	}
	return strconv.Itoa(n) + " mistakes"
}

// loadDialect is spec.Load, with a name that does not exist as a wrong use.
func loadDialect(name string) (*spec.Dialect, error) {
	d, err := spec.Load(name)
	if err != nil && !strings.ContainsAny(name, `/\`) && !strings.HasSuffix(name, ".json") {
		return nil, usageError{err}
	}
	return d, err
}

// writeDialect prints a dialect for people.
func writeDialect(w io.Writer, d *spec.Dialect) error {
	var b strings.Builder
	mti, bitmap, numeric, track, prefixes := d.Encodings()
	f := d.Framing()
	fmt.Fprintf(&b, "%s: %s\n\n", d.Name(), d.Title())
	fmt.Fprintf(&b, "frame     %s\nmti       %s\nbitmap    %s\nnumbers   %s\ntracks    %s\nlengths   %s\n", f.String(), mti, bitmap, numeric, track, prefixes)
	if m := d.MAC(); m != nil {
		fmt.Fprintf(&b, "mac       DE %s, %s\n", numbers(m.Fields), m.Alg)
	}
	if n := d.KSNField(); n != 0 {
		fmt.Fprintf(&b, "ksn       DE %d\n", n)
	}
	if n := d.KeyField(); n != 0 {
		fmt.Fprintf(&b, "keys      DE %d\n", n)
	}
	b.WriteString("\nfields\n")
	for n := 2; n <= 128; n++ {
		if s := d.Format(n); s != "" {
			fmt.Fprintf(&b, "  %-4d%-14s%s\n", n, s, d.FieldName(n))
		}
	}
	if rules := d.Presence(); len(rules) > 0 {
		b.WriteString("\nmessages, the first that fits\n")
		for _, r := range rules {
			fmt.Fprintf(&b, "  %s %s%s\n", r.MTI, r.Message, selector(&r))
			if len(r.Mandatory) > 0 || r.MAC {
				fmt.Fprintf(&b, "      mandatory  %s\n", strings.TrimSpace(numbers(r.Mandatory)+macNote(r.MAC)))
			}
			for _, c := range r.Conditional {
				fmt.Fprintf(&b, "      mandatory  %d when %s\n", c.Field, c.When)
			}
			var never []int
			for _, c := range r.Forbidden {
				if c.When == "" {
					never = append(never, c.Field)
				}
			}
			if len(never) > 0 {
				fmt.Fprintf(&b, "      forbidden  %s\n", numbers(never))
			}
			for _, c := range r.Forbidden {
				if c.When != "" {
					fmt.Fprintf(&b, "      forbidden  %d when %s\n", c.Field, c.When)
				}
			}
			if len(r.Optional) > 0 {
				fmt.Fprintf(&b, "      optional   %s\n", numbers(r.Optional))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func macNote(mac bool) string {
	if mac {
		return " MAC"
	}
	return ""
}

// selector says which messages a rule is for.
func selector(r *spec.PresenceRule) string {
	var s string
	if len(r.Processing) > 0 {
		s += ", DE 3 begins " + strings.Join(r.Processing, " or ")
	}
	if len(r.Condition) > 0 {
		s += ", DE 25 " + strings.Join(r.Condition, " or ")
	}
	if r.When != "" {
		s += ", " + r.When
	}
	return s
}

func numbers(list []int) string {
	s := make([]string, len(list))
	for i, n := range list {
		s[i] = strconv.Itoa(n)
	}
	return strings.Join(s, " ")
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/settlement"
	"acquirer/settlement/reconcile"
	"acquirer/store"
	switching "acquirer/switch"
)

// reconcileCall is what a person asks of the reconciliation.
type reconcileCall struct {
	Do     string           `json:"do"` // day, load, list, show, resolve or sign
	Date   calendar.Date    `json:"date,omitempty"`
	Path   string           `json:"path,omitempty"` // of load
	Source string           `json:"source,omitempty"`
	ID     int64            `json:"id,omitempty"`
	State  string           `json:"state,omitempty"`
	Kind   string           `json:"kind,omitempty"`
	Action reconcile.Action `json:"action,omitempty"`
	Note   string           `json:"note,omitempty"`
	After  int64            `json:"after,omitempty"`
	Limit  int              `json:"limit,omitempty"`
}

// reconcileAnswer is what came of it.
type reconcileAnswer struct {
	Day    *reconcile.Day    `json:"day,omitempty"`
	Breaks []reconcile.Break `json:"breaks,omitempty"`
	Came   *cameIn           `json:"file,omitempty"`
	// Suggested is what can become of the one that show names.
	Suggested []reconcile.Suggestion `json:"suggested,omitempty"`

	Done bool   `json:"done,omitempty"` // the second person has confirmed
	Why  string `json:"why,omitempty"`  // the day was not compared
}

func (c *reconcileCall) name() string { return "reconcile" }

// plainReconciler is the reconciliation on a database, with books that post and
// pay nothing by themselves.
func plainReconciler(ctx context.Context, db *store.DB, cfg Config) (*reconcile.Engine, error) {
	reg, err := merchant.OpenRegistry(ctx, db)
	if err != nil {
		return nil, err
	}
	j := journal.New(db, nil)
	books, err := settlement.New(settlement.Config{DB: db, Source: settlement.FromJournal(j, switching.EntryOf), Merchants: reg,
		CutOff: cfg.Switch.CutOff, WalletCutOff: cfg.Switch.WalletCutOff, RefundFee: settlement.RefundFee(cfg.Settlement.RefundFee), WalletPPM: int64(cfg.Settlement.WalletPPM)})
	if err != nil {
		return nil, err
	}
	return reconciler(db, cfg, j, books)
}

func (c *reconcileCall) run(ctx context.Context, db *store.DB, cfg Config, who string) (any, error) {
	e, err := plainReconciler(ctx, db, cfg)
	if err != nil {
		return nil, err
	}
	return c.on(ctx, e, reconcile.Who{Name: who, From: "command line"}, time.Now())
}

// on does the errand.
func (c *reconcileCall) on(ctx context.Context, e *reconcile.Engine, who reconcile.Who, now time.Time) (a reconcileAnswer, err error) {
	switch c.Do {
	case "load":
		f, end, err := e.OpenFile(c.Path, c.Source, c.Date)
		if err != nil {
			return a, err
		}
		totals, err := e.Load(ctx, f, now)
		a.Came = &cameIn{Name: f.Name, Source: f.Source, Date: f.Date, Lines: totals.Count, Net: totals.Net}
		return a, errors.Join(err, end())
	case "list":
		q := reconcile.Query{Date: c.Date, Kind: reconcile.Kind(c.Kind), After: c.After, Limit: c.Limit}
		if c.State != "" {
			if err := q.State.UnmarshalText([]byte(c.State)); err != nil {
				return a, usageError{err}
			}
		}
		a.Breaks, err = e.Breaks(ctx, q)
		return a, err
	case "show":
		b, err := e.Break(ctx, c.ID)
		a.Breaks, a.Suggested = []reconcile.Break{b}, e.Suggest(&b)
		return a, err
	case "resolve":
		b, done, err := e.Resolve(ctx, c.ID, c.Action, c.Note, who, now)
		a.Breaks, a.Done = []reconcile.Break{b}, done
		return a, err
	case "sign":
		if a.Done, err = e.SignOff(ctx, c.Date, who, now); err != nil {
			return a, err
		}
		day, err := e.Day(ctx, c.Date)
		a.Day = &day
		return a, err
	}
	if c.Source != "" { // --complete
		if err := e.Complete(ctx, c.Date, c.Source, who, now); err != nil {
			return a, err
		}
	}
	day, err := e.Compare(ctx, c.Date, now)
	if errors.Is(err, reconcile.ErrIncomplete) || errors.Is(err, settlement.ErrEarly) || errors.Is(err, settlement.ErrUndecided) { // what is there is shown
		a.Why = err.Error()
		day, err = e.Day(ctx, c.Date)
	}
	a.Day = &day
	return a, err
}

// newReconcileCmd is `acquirer reconcile`.
func newReconcileCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare a day with the files of networks, wallets and the bank; resolve and sign what differs",
		Long: `reconcile compares a business date with the files that have come for it, and says
what matches and what does not (docs/clearing.md). It may be run again at any time.
Money moves only by a rule, or when two people have named the same action; two
people sign a day whose breaks are resolved. Everything is in the operators' log.

The exit status is 0 when the date was compared, whatever was found: --json says how
many breaks are waiting and open. It is 1 when the date could not be compared, because
it is not over or files are missing; what has come is shown all the same.

Who you are is the user of this machine that runs the command. It opens the database
itself or, where acquirer serve has an embedded one, asks that process.`,
		Example: `  acquirer reconcile --date 2026-11-20 --json
  acquirer reconcile --date 2026-11-20 --complete north
  acquirer reconcile load north-2026-11-20.txt
  acquirer reconcile list --state open
  acquirer reconcile resolve 123456789 payer --note "north, ticket 4711"
  acquirer reconcile sign-off --date 2026-11-20`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	date := cmd.Flags().String("date", "", "business date, like 2026-11-20 (default: yesterday)")
	complete := cmd.Flags().String("complete", "", "a source that has no more files of the date: compare with those that have come")
	asJSON := cmd.Flags().Bool("json", false, "print the day as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := askReconcile(cmd, reconcileCall{Do: "day", Source: *complete}, *date)
		if err != nil {
			return err
		}
		if *asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(a.Day)
		} else {
			err = printDay(cmd.OutOrStdout(), a.Day)
		}
		if err == nil && a.Why != "" {
			err = errors.New(a.Why)
		}
		return err
	}
	cmd.AddCommand(newReconcileLoadCmd(), newReconcileListCmd(), newReconcileShowCmd(), newReconcileResolveCmd(), newReconcileSignCmd())
	return cmd
}

func askReconcile(cmd *cobra.Command, c reconcileCall, date string) (a reconcileAnswer, err error) {
	switch {
	case date != "":
		if c.Date, err = calendar.ParseDate(date); err != nil {
			return a, usageError{fmt.Errorf("--date: %w", err)}
		}
	case c.Do == "day" || c.Do == "sign":
		c.Date = calendar.DateOf(time.Now()).AddDays(-1)
	}
	return a, send(cmd, &c, &a)
}

func newReconcileLoadCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "load FILE",
		Short: "Load a clearing file, a ZM file, a wallet's bill or a bank's statement",
		Long: `load reads a file to its end and takes it in, whole or not at all. A clearing file and
a statement say whose they are and of which day; for a ZM file name --source, for a
wallet's bill --source and --date. The path is read by the process that has the database.`,
		Example: `  acquirer reconcile load north-2026-11-20.txt
  acquirer reconcile load bill.csv --source wechat --date 2026-11-20`,
		Args: cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	source := cmd.Flags().String("source", "", "issuer or wallet")
	date := cmd.Flags().String("date", "", "the file's date")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := filepath.Abs(args[0]) // the process that has the database stands elsewhere
		if err != nil {
			return err
		}
		a, err := askReconcile(cmd, reconcileCall{Do: "load", Path: path, Source: *source}, *date)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s of %s, %d lines, %s net\n", a.Came.Name, a.Came.Source, a.Came.Date, a.Came.Lines, a.Came.Net)
		return err
	}
	return cmd
}

func newReconcileListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List breaks, the oldest first",
		Example: `  acquirer reconcile list --state open
  acquirer reconcile list --date 2026-11-20 --kind short --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	f := cmd.Flags()
	date := f.String("date", "", "only those of a business date")
	state := f.String("state", "", "only waiting, open or resolved ones")
	kind := f.String("kind", "", "only those of a kind")
	limit := f.Int("limit", 100, "at most so many")
	after := f.Int64("after", 0, "only those behind this number")
	asJSON := f.Bool("json", false, "print one JSON array")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *kind != "" && !slices.Contains(reconcile.Kinds, reconcile.Kind(*kind)) {
			return usageError{fmt.Errorf("--kind: %q is none of %v", *kind, reconcile.Kinds)}
		}
		a, err := askReconcile(cmd, reconcileCall{Do: "list", State: *state, Kind: *kind, Limit: *limit, After: *after}, *date)
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(append([]reconcile.Break{}, a.Breaks...))
		}
		if len(a.Breaks) == 0 {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "no breaks")
			return err
		}
		return printBreaks(cmd.OutOrStdout(), a.Breaks)
	}
	return cmd
}

func newReconcileShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a break, and what can become of it",
		Example: "  acquirer reconcile show 123456789",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%q is not the number of a break", args[0])}
		}
		a, err := askReconcile(cmd, reconcileCall{Do: "show", ID: id}, "")
		if err != nil {
			return err
		}
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			reconcile.Break
			Suggested []reconcile.Suggestion `json:"suggested"`
		}{a.Breaks[0], a.Suggested})
	}
	return cmd
}

func newReconcileResolveCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve ID ACTION",
		Short: "Say what becomes of a break, or confirm what another person said",
		Long: `resolve names an action: payer (given back), merchant (the merchant gets or bears it),
write_off (the house bears it), accept (known, nothing is booked); show says which a
break can have, the usual first. The first person asks, a second one who names the same
action confirms it, and only then it is booked, as show says. Whoever names another action asks for
that instead, and another person must confirm it.`,
		Example: `  acquirer reconcile resolve 123456789 payer --note "north, ticket 4711"`,
		Args:    cobra.ExactArgs(2),
	}
	addConfigFlags(cmd)
	note := cmd.Flags().String("note", "", "why, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%q is not the number of a break", args[0])}
		}
		a, err := askReconcile(cmd, reconcileCall{Do: "resolve", ID: id, Action: reconcile.Action(args[1]), Note: *note}, "")
		if err != nil {
			return err
		}
		b, said := a.Breaks[0], "asked for; another person must confirm it"
		switch {
		case a.Done:
			said = "booked"
		case b.Instead != "":
			said = "asked for instead of " + b.Instead + "; another person must confirm it"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", b.Key, args[1], said)
		return err
	}
	return cmd
}

func newReconcileSignCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sign-off",
		Short:   "Sign a compared day; a second person signs it too",
		Example: "  acquirer reconcile sign-off --date 2026-11-20",
		Args:    cobra.NoArgs,
	}
	addConfigFlags(cmd)
	date := cmd.Flags().String("date", "", "business date (default: yesterday)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := askReconcile(cmd, reconcileCall{Do: "sign"}, *date)
		if err != nil {
			return err
		}
		said := "signed; another person must sign it too"
		if a.Done {
			said = "signed by two people"
		}
		if n := a.Day.Waiting; n > 0 {
			said += fmt.Sprintf("; %d of its differences wait for a later file and may become people's", n)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
		return err
	}
	return cmd
}

func printDay(w io.Writer, d *reconcile.Day) error {
	var b strings.Builder
	fmt.Fprintf(&b, "business date   %s\n", d.Date)
	if len(d.Missing) > 0 {
		fmt.Fprintf(&b, "files missing   %s\n", strings.Join(d.Missing, ", "))
	}
	if len(d.Files)+len(d.Missing) == 0 {
		b.WriteString("files           none came and none is asked for (clearing.sources): nothing was compared with a network's or wallet's books\n")
	}
	for _, f := range d.Files {
		fmt.Fprintf(&b, "%-15s %d lines, %d matched, %s, fees %s, net %s (%s)\n", f.Source, f.Lines, f.Matched, f.Amount, f.Fees, f.Net, f.Name)
	}
	if d.Compared.IsZero() {
		b.WriteString("compared        never\n")
	} else {
		fmt.Fprintf(&b, "ours            %d, %d matched\nbreaks          %d: %d waiting, %d open, %s unresolved\n", d.Ours, d.Matched, d.Breaks, d.Waiting, d.Open, d.OpenSum)
	}
	for _, k := range reconcile.Kinds {
		if n := d.Kinds[k]; n > 0 {
			fmt.Fprintf(&b, "  %-14s%d\n", k, n)
		}
	}
	switch {
	case d.Checker != "":
		fmt.Fprintf(&b, "signed          %s, %s\n", d.Maker, d.Checker)
		if d.Reopened > 0 {
			fmt.Fprintf(&b, "since signed    %d differences have become people's; the signatures stand, and they are to be resolved\n", d.Reopened)
		}
		if d.Earned != nil {
			fmt.Fprintf(&b, "earned          %s, %s\n", d.Earned.Net, d.Earned.State)
		}
	case d.Maker != "":
		fmt.Fprintf(&b, "signed          %s; a second person must sign\n", d.Maker)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return printBreaks(w, d.List)
}

func printBreaks(w io.Writer, all []reconcile.Break) error {
	for _, b := range all {
		end := b.State.String()
		if b.Action != "" {
			end += " " + string(b.Action)
		}
		if b.Note != "" {
			b.Detail += "; " + b.Note
		}
		switch {
		case b.State == reconcile.Resolved:
			end += " by " + b.DoneBy
		case b.AskedBy != "":
			end += ", asked for by " + b.AskedBy
		}
		if _, err := fmt.Fprintf(w, "%d  %s  %-13s %-10s %s  ours %s, theirs %s  %s: %s\n", b.ID, b.Date, b.Kind, b.Source, b.RRN, b.Ours, b.Theirs, end, b.Detail); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/settlement"
)

// feesCommand is a command that sends one feesCall and prints its answer, as
// JSON or in words. Prices that are wrong are its error.
func feesCommand(cmd *cobra.Command, call *feesCall, words func(*cobra.Command, *feesAnswer) error) *cobra.Command {
	addConfigFlags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the answer as JSON")
	prepare := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if prepare != nil {
			if err := prepare(cmd, args); err != nil {
				return err
			}
		}
		var a feesAnswer
		if err := send(cmd, call, &a); err != nil {
			return err
		}
		var err error
		if *asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(a)
		} else {
			err = words(cmd, &a)
		}
		if r := a.Repriced; err == nil && r != nil && r.Count > 0 {
			err = fmt.Errorf("%d of %d booked fees are wrong: %s", r.Count, r.Sales, strings.Join(r.Wrong, "; "))
		}
		return err
	}
	return cmd
}

func said(cmd *cobra.Command, a *feesAnswer) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), a.Said)
	return err
}

func newFeesImportCmd() *cobra.Command {
	call := &feesCall{Do: "import"}
	return feesCommand(&cobra.Command{
		Use:   "import FILE",
		Short: "Add versions of fee plans from a JSON file; nobody pays by them yet",
		Long: `import checks every version in the file and adds those that are not known, all or
none. A known version with other content is refused: a new price is a new version.`,
		Example: `  acquirer fees import plans-2027.json`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			call.Text = string(text)
			return err
		},
	}, call, said)
}

func newFeesListCmd() *cobra.Command {
	call := &feesCall{Do: "list"}
	cmd := feesCommand(&cobra.Command{
		Use:   "list",
		Short: "The plans, their versions, and how many merchants have and answered each",
		Example: `  acquirer fees list
  acquirer fees list --merchant 898110054110001 --json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if call.Merchant != "" {
				call.Do = "terms"
			}
			return nil
		},
	}, call, func(cmd *cobra.Command, a *feesAnswer) error {
		var b strings.Builder
		for _, p := range a.Plans {
			from := "not announced"
			if p.Effective != 0 {
				from = "from " + p.Effective.String()
			}
			fmt.Fprintf(&b, "%-12s v%-3d %-16s %6d merchants  %s\n", p.Plan, p.Version, from, p.InForce, p.Prices)
			if n := p.Agreed + p.Silent + p.Objected; n > 0 {
				fmt.Fprintf(&b, "%17s told %d since %s (%s): %d agreed, %d silent, %d objected\n", "", n, p.Notice, p.Policy, p.Agreed, p.Silent, p.Objected)
			}
		}
		if t := a.Terms; t != nil {
			fmt.Fprintf(&b, "%s pays by %s v%d: %s\n", t.Merchant, t.Plan, t.Version, t.Prices)
			for _, c := range t.Contracts {
				fmt.Fprintf(&b, "  from %s  signed %s v%d, category %s\n", c.Signed, c.Plan, c.Version, c.MCC)
			}
			for _, n := range t.Notices {
				starts := "its price stays"
				if n.Starts != 0 {
					starts = "pays it from " + n.Starts.String()
				}
				fmt.Fprintf(&b, "  %s  told of %s v%d, effective %s: %s, %s\n", n.Told, n.Plan, n.Version, n.Effective, n.Consent, starts)
			}
		}
		_, err := fmt.Fprint(cmd.OutOrStdout(), b.String())
		return err
	})
	cmd.Flags().StringVar(&call.Merchant, "merchant", "", "what this merchant signed, was told, and pays")
	return cmd
}

func newFeesAnnounceCmd() *cobra.Command {
	call := &feesCall{Do: "announce"}
	var effective string
	cmd := feesCommand(&cobra.Command{
		Use:   "announce",
		Short: "Tell the merchants of a plan that a new version takes effect; at least 30 days before",
		Long: `announce dates a version of a plan and writes the notice of every merchant on it,
with the text that is sent (fees notices). Each is priced by the new version 30 days after
its own notice at the earliest. Run it again, also after an interruption, to tell those
who were not told yet; merchants that sign later are told when they do. A version that lacks
a speed or an extra that merchants of the plan have now is refused without --yes.`,
		Example: `  acquirer fees announce --plan MICRO-2025 --plan-version 2 --effective 2027-01-15`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) (err error) { return parseDate(effective, "effective", &call.To) },
	}, call, said)
	f := cmd.Flags()
	f.StringVar(&call.Plan, "plan", "", "code of the plan")
	f.IntVar(&call.Version, "plan-version", 0, "the new version")
	f.BoolVar(&call.Yes, "yes", false, "announce it although it lacks a speed or an extra that merchants of the plan have now")
	f.StringVar(&effective, "effective", "", "first business date at the new price, like 2027-01-15; may be left out when announced before")
	mustMark(cmd, "plan", "plan-version")
	return cmd
}

func newFeesNoticesCmd() *cobra.Command {
	call := &feesCall{Do: "notices"}
	cmd := feesCommand(&cobra.Command{
		Use:     "notices",
		Short:   "What each merchant was told of a version, and what it said",
		Long:    `notices lists them for whoever sends the messages (SMS and push) and for who calls those that object.`,
		Example: `  acquirer fees notices --plan MICRO-2025 --plan-version 2 --json`,
		Args:    cobra.NoArgs,
	}, call, func(cmd *cobra.Command, a *feesAnswer) error {
		for _, n := range a.Notices {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  told %s, effective %s  %-8s  %s\n", n.MID, n.Told, n.Effective, n.Consent, n.Text); err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Flags().StringVar(&call.Plan, "plan", "", "code of the plan")
	cmd.Flags().IntVar(&call.Version, "plan-version", 0, "its version")
	mustMark(cmd, "plan", "plan-version")
	return cmd
}

func newFeesConsentCmd() *cobra.Command {
	call := &feesCall{Do: "consent"}
	cmd := feesCommand(&cobra.Command{
		Use:   "consent agreed|objected",
		Short: "Record what a merchant says to a new version of its plan",
		Long: `consent records the answer. Who objects before the version starts keeps its price until
it agrees or gets another plan; who agrees late gets the new one from the next business
date. The version
that already prices a merchant's sales can no longer be objected to.`,
		Example: `  acquirer fees consent objected --merchant 898110054110001 --plan-version 2`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { call.Answer = args[0]; return nil },
	}, call, said)
	cmd.Flags().StringVar(&call.Merchant, "merchant", "", "MID of the merchant")
	cmd.Flags().IntVar(&call.Version, "plan-version", 0, "the version of its plan that it was told of")
	mustMark(cmd, "merchant", "plan-version")
	return cmd
}

func newFeesMoveCmd() *cobra.Command {
	call := &feesCall{Do: "move"}
	cmd := feesCommand(&cobra.Command{
		Use:   "move",
		Short: "Give a merchant another plan, whose version in force it signs",
		Long: `move is for a merchant that asks for another plan, or that objected to a new version of
its own. The new plan prices its sales from the next business date; those of the date that
is open keep the old price, also when they are booked later.`,
		Example: `  acquirer fees move --merchant 898110054110001 --plan ESIGN-STD`,
		Args:    cobra.NoArgs,
	}, call, said)
	cmd.Flags().StringVar(&call.Merchant, "merchant", "", "MID of the merchant")
	cmd.Flags().StringVar(&call.Plan, "plan", "", "code of its new plan")
	mustMark(cmd, "merchant", "plan")
	return cmd
}

func newFeesChargeCmd() *cobra.Command {
	call := &feesCall{Do: "charge"}
	cmd := feesCommand(&cobra.Command{
		Use:   "charge",
		Short: "Charge a repair at the price of the merchant's plan, with its next close",
		Long: `charge takes a repair from what the merchant is owed. The reference (a work order's
number) makes it happen once. Devices and SIM years are charged by themselves when they
fall due. With --back what was charged is given back whole, once, with the next close: a
repair by its work order, a device by its terminal (--kind device --ref TID), a SIM year by
terminal and the date it began (--kind sim_year --ref TID/2027-11-26).`,
		Example: `  acquirer fees charge --merchant 898110054110001 --kind repair --ref WO-4711
  acquirer fees charge --merchant 898110054110001 --kind repair --ref WO-4711 --back`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if strings.TrimSpace(call.Ref) == "" || len(call.Ref) > 64 {
				return usageError{fmt.Errorf("--ref: name the work order in at most 64 characters, so that it is charged once")}
			}
			return nil
		},
	}, call, said)
	f := cmd.Flags()
	f.StringVar(&call.Merchant, "merchant", "", "MID of the merchant")
	f.StringVar(&call.Kind, "kind", "repair", "repair; with --back also device or sim_year")
	f.BoolVar(&call.Back, "back", false, "give back what was charged under the reference")
	f.StringVar(&call.Ref, "ref", "", "the work order it is for")
	mustMark(cmd, "merchant", "ref")
	return cmd
}

func newFeesSimulateCmd() *cobra.Command {
	call := &feesCall{Do: "simulate"}
	var from, to, file string
	cmd := feesCommand(&cobra.Command{
		Use:   "simulate",
		Short: "What merchants would have paid for their real sales under another plan",
		Long: `simulate prices the booked sales of a period again, by a known version or one in a
file, and compares with what was taken, merchant by merchant, the greatest rise first. Voided
sales are left out; refunds give back fees as settlement.refund_fee says.`,
		Example: `  acquirer fees simulate --plan MICRO-2025 --plan-version 2 --of MICRO-2025 --from 2026-11-01 --to 2026-11-30`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if file != "" {
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				call.Text = string(text)
			}
			return parsePeriod(from, to, call)
		},
	}, call, printComparisons)
	f := cmd.Flags()
	f.StringVar(&call.Plan, "plan", "", "code of the plan to compare with")
	f.IntVar(&call.Version, "plan-version", 0, "its version (default the highest)")
	f.StringVar(&file, "plans", "", "JSON file with the plan, when it is not imported")
	f.StringVar(&call.Of, "of", "", "only sales under this plan")
	f.StringVar(&from, "from", "", "first business date, like 2026-11-01")
	f.StringVar(&to, "to", "", "last business date")
	mustMark(cmd, "plan", "from", "to")
	return cmd
}

func printComparisons(cmd *cobra.Command, a *feesAnswer) error {
	var b strings.Builder
	var t settlement.Comparison
	merchants := map[string]bool{}
	for _, c := range a.Comparisons {
		fmt.Fprintf(&b, "%s  %-12s v%-3d %7d sales %14s  took %10s  would take %10s  %10s more", c.Merchant, c.Plan, c.Version, c.Sales, c.Amount, c.Was, c.Would, c.Difference)
		if c.Refused > 0 {
			fmt.Fprintf(&b, "  would refuse %d of %s, which brought %s", c.Refused, c.RefusedAmount, c.RefusedFee)
		}
		b.WriteString("\n")
		merchants[c.Merchant] = true
		t.Sales, t.Amount, t.Was, t.Would, t.Difference = t.Sales+c.Sales, t.Amount+c.Amount, t.Was+c.Was, t.Would+c.Would, t.Difference+c.Difference
		t.Refused, t.RefusedAmount, t.RefusedFee = t.Refused+c.Refused, t.RefusedAmount+c.RefusedAmount, t.RefusedFee+c.RefusedFee
	}
	fmt.Fprintf(&b, "%s: %d merchants, %d sales of %s: took %s, would take %s, %s more, and would refuse %d", a.Under, len(merchants), t.Sales, t.Amount, t.Was, t.Would, t.Difference, t.Refused)
	if t.Refused > 0 {
		fmt.Fprintf(&b, " of %s, which brought %s", t.RefusedAmount, t.RefusedFee)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), b.String())
	return err
}

func newFeesVerifyCmd() *cobra.Command {
	call := &feesCall{Do: "verify"}
	var from, to string
	cmd := feesCommand(&cobra.Command{
		Use:     "verify",
		Short:   "Compute the fees of booked sales again, by the versions that their lines name",
		Long:    `verify exits with status 1 when a booked fee is not what the signed price makes it.`,
		Example: `  acquirer fees verify --from 2026-11-01 --to 2026-11-30`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return parsePeriod(from, to, call) },
	}, call, func(cmd *cobra.Command, a *feesAnswer) error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d sales, %d wrong\n", a.Repriced.Sales, a.Repriced.Count)
		return err
	})
	cmd.Flags().StringVar(&from, "from", "", "first business date, like 2026-11-01")
	cmd.Flags().StringVar(&to, "to", "", "last business date")
	mustMark(cmd, "from", "to")
	return cmd
}

func parsePeriod(from, to string, call *feesCall) error {
	if err := parseDate(from, "from", &call.From); err != nil {
		return err
	}
	if err := parseDate(to, "to", &call.To); err != nil {
		return err
	}
	if call.To < call.From {
		return usageError{fmt.Errorf("--to %s is before --from %s", to, from)}
	}
	return nil
}

// parseDate reads a flag that is a date; empty leaves it as it is.
func parseDate(text, flag string, into *calendar.Date) (err error) {
	if text == "" {
		return nil
	}
	if *into, err = calendar.ParseDate(text); err != nil {
		return usageError{fmt.Errorf("--%s: %w", flag, err)}
	}
	return nil
}

// mustMark makes flags of a command required.
func mustMark(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flags are defined beside the call
		}
	}
}

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/money"
)

func newFeesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fees",
		Short: "What a sale costs the merchant: quote, plans, new versions, consent, charges",
		Long: `fees keeps the fee plans. quote and the built-in plans need no database; the other
commands work on the configured one, also beside acquirer serve. A version of a plan is
imported once and never changed; announce tells its merchants, and it prices their sales
30 days later at the earliest (docs/fees.md).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFeesQuoteCmd(), newFeesImportCmd(), newFeesListCmd(), newFeesAnnounceCmd(), newFeesNoticesCmd(), newFeesConsentCmd(), newFeesMoveCmd(),
		newFeesChargeCmd(), newFeesSimulateCmd(), newFeesVerifyCmd())
	return cmd
}

func newFeesQuoteCmd() *cobra.Command {
	var (
		code, channel, speed, amount, date string
		version                            int
		files                              []string
		asJSON                             bool
	)
	cmd := &cobra.Command{
		Use:   "quote",
		Short: "Price one sale under a fee plan, with the formula",
		Long: `quote computes the whole price of a sale: the merchant's fee, the fee for the
settlement speed, and what reaches the account. A sale whose fee is not below
its amount is refused with the reason and exit status 1. --channel all compares the
ways of paying, the one that leaves the merchant most first.`,
		Example: `  acquirer fees quote --plan MICRO-2025 --channel credit --amount 100.00
  acquirer fees quote --plan ESIGN-STD --channel credit --speed D0 --amount 5000 --json
  acquirer fees quote --plan MICRO-2025 --channel all --amount 20.00`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plans := merchant.BuiltIn()
			for _, name := range files {
				var err error
				if plans, err = addPlans(plans, name); err != nil {
					return err
				}
			}
			sum, err := money.Parse(amount)
			if err != nil {
				return usageError{err}
			}
			v, err := merchant.ParseSpeed(speed)
			if err != nil {
				return usageError{err}
			}
			day := calendar.DateOf(time.Now())
			if date != "" {
				if day, err = calendar.ParseDate(date); err != nil {
					return usageError{err}
				}
			}
			var plan *merchant.FeePlan
			if version > 0 {
				plan, err = plans.Version(code, version)
			} else {
				plan, err = plans.InForce(code, day)
			}
			if err != nil {
				return usageError{err}
			}
			if channel == "all" {
				return compareQuotes(cmd, plan, v, sum, asJSON)
			}
			q, err := plan.Quote(channel, v, sum)
			if err != nil {
				return usageError{err}
			}
			return printQuote(cmd, &q, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&code, "plan", "", "code of the fee plan, such as MICRO-2025 or ESIGN-STD")
	f.StringVar(&channel, "channel", "", "credit, debit, qr, or all to compare them")
	f.StringVar(&amount, "amount", "", "the sale in yuan, like 100.00")
	f.StringVar(&speed, "speed", "T1", "T1, D0 or S0")
	f.StringVar(&date, "date", "", "business date whose version of the plan applies, like 2026-11-20 (default today)")
	f.IntVar(&version, "plan-version", 0, "a version of the plan, in force or not")
	f.StringArrayVar(&files, "plans", nil, "JSON file with more fee plans; may be repeated")
	f.BoolVar(&asJSON, "json", false, "print the quote as JSON")
	for _, name := range []string{"plan", "channel", "amount"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

func addPlans(plans *merchant.Plans, name string) (*merchant.Plans, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("fee plans: %w", err)
	}
	more, err := plans.With(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return more, nil
}

// printQuote writes the quote and returns an error for a refused sale.
func printQuote(cmd *cobra.Command, q *merchant.Quote, asJSON bool) error {
	out := cmd.OutOrStdout()
	var err error
	switch {
	case asJSON:
		err = json.NewEncoder(out).Encode(q)
	case q.Refused == merchant.NotRefused:
		_, err = fmt.Fprintf(out, "plan        %s v%d, %s, %s\namount      %12s\nfee         %12s\nsettle fee  %12s\nnet         %12s\n\n%s\n",
			q.Plan, q.Version, q.Channel, q.Speed, q.Amount, q.Fee, q.SettleFee, q.Net, q.Formula)
	}
	if err != nil {
		return err
	}
	if q.Refused != merchant.NotRefused {
		return errors.New("sale refused: " + q.Reason)
	}
	return nil
}

// compareQuotes prices a sale in every way of paying, the one that leaves the
// merchant most first and those that are refused last.
func compareQuotes(cmd *cobra.Command, plan *merchant.FeePlan, speed merchant.Speed, amount money.Amount, asJSON bool) error {
	var all []merchant.Quote
	for _, channel := range []string{"credit", "debit", "qr"} {
		q, err := plan.Quote(channel, speed, amount)
		if err != nil {
			return usageError{err}
		}
		all = append(all, q)
	}
	slices.SortStableFunc(all, func(a, b merchant.Quote) int {
		return cmp.Or(cmp.Compare(len(a.Refused), len(b.Refused)), cmp.Compare(b.Net, a.Net))
	})
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
	}
	var b strings.Builder
	for _, q := range all {
		if q.Refused != merchant.NotRefused {
			fmt.Fprintf(&b, "%-7s refused: %s\n", q.Channel, q.Reason)
			continue
		}
		fmt.Fprintf(&b, "%-7s net %12s  fee %10s  %s\n", q.Channel, q.Net, q.Fee+q.SettleFee, q.Formula)
	}
	_, err := fmt.Fprint(cmd.OutOrStdout(), b.String())
	return err
}

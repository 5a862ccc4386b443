package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
)

func newFeesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fees",
		Short: "What a sale costs the merchant: quote, plans, new versions, consent, charges",
		Long: `fees keeps the fee plans. quote needs no database; the other
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
		wallet, entry, mcc                 string
		version                            int
		files                              []string
		asJSON                             bool
	)
	cmd := &cobra.Command{
		Use:   "quote",
		Short: "Price one sale under a fee plan, with the formula",
		Long: `quote computes the whole price of a sale: the merchant's fee, the fee for the
settlement speed, and what reaches the account, and names what the plan takes apart
from sales (device, SIM card, repair, deposit). A sale whose fee is not below its
amount is refused with the reason and exit status 1 where the plan says so.
--channel all compares the ways of paying, the one that leaves the merchant most first.
The version in force in the configured database is quoted when there is one, else that of
the plans that ship with the binary; --plans reads those and a file, and no database.`,
		Example: `  acquirer fees quote --plan MICRO-2025 --channel credit --amount 100.00
  acquirer fees quote --plan ESIGN-STD --channel credit --speed D0 --amount 5000 --json
  acquirer fees quote --plan MICRO-2025 --channel all --amount 20.00
  acquirer fees quote --plan GOLD --plans gold.json --channel qr --wallet alipay --mcc 5411 --amount 20.00`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
			switch {
			case mcc != "" && (len(mcc) != 4 || strings.Trim(mcc, "0123456789") != ""):
				return usageError{fmt.Errorf("--mcc: %q is not the four digits of a category code", mcc)}
			case entry != "" && entry != string(merchant.ContactlessNoPIN):
				return usageError{fmt.Errorf("--entry: %q is not %s; leave it out for every other", entry, merchant.ContactlessNoPIN)}
			case wallet != "" && !slices.Contains(routing.Wallets, wallet):
				return usageError{fmt.Errorf("--wallet: %q is none of %s", wallet, strings.Join(routing.Wallets, ", "))}
			case version < 0:
				return usageError{fmt.Errorf("--plan-version: %d is no version; they are numbered from 1", version)}
			case wallet != "" && channel != "qr", entry != "" && (channel == "qr" || channel == "all"):
				return usageError{errors.New("--wallet is for --channel qr, --entry for a card")}
			}
			plan, class, err := quotedPlan(cmd, &feesCall{Do: "quote", Plan: code, Version: version, From: day, MCC: mcc}, files)
			if err != nil {
				return err
			}
			of := merchant.Sale{Wallet: wallet, Entry: merchant.Entry(entry), MCCClass: class, Amount: sum}
			channels := []string{channel}
			if channel == "all" {
				channels = []string{"credit", "debit", "qr"}
			}
			var quotes []merchant.Quote
			for _, c := range channels {
				way, err := merchant.ParseChannel(c)
				if err != nil {
					return usageError{err}
				}
				of.Channel, of.CardType = way.Channel, way.CardType
				quotes = append(quotes, plan.QuoteSale(c, of, v))
			}
			if channel == "all" {
				return compareQuotes(cmd, quotes, asJSON)
			}
			return printQuote(cmd, &quotes[0], asJSON)
		},
	}
	addConfigFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&code, "plan", "", "code of the fee plan, such as MICRO-2025 or ESIGN-STD")
	f.StringVar(&channel, "channel", "", "credit, debit, quasi_credit, qr, or all to compare them")
	f.StringVar(&wallet, "wallet", "", "of a payment by code: wechat, alipay or unionpay-qr")
	f.StringVar(&entry, "entry", "", "contactless_no_pin for a tap without PIN (小额双免)")
	f.StringVar(&mcc, "mcc", "", "category code of the merchant, whose class may have a price of its own (default a standard one)")
	f.StringVar(&amount, "amount", "", "the sale in yuan, like 100.00")
	f.StringVar(&speed, "speed", "T1", "T1, D1, D0 or S0")
	f.StringVar(&date, "date", "", "business date whose version of the plan applies, like 2026-11-20 (default today)")
	f.IntVar(&version, "plan-version", 0, "a version of the plan, in force or not")
	f.StringArrayVar(&files, "plans", nil, "JSON file with more fee plans than ship with the binary, instead of a database; may be repeated")
	f.BoolVar(&asJSON, "json", false, "print the quote as JSON")
	for _, name := range []string{"plan", "channel", "amount"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

// quotedPlan is the version that call asks for and the class of its category: of
// the files and what ships with the binary, or of the configured database. Where
// there is none, and none was named, what ships with the binary counts.
func quotedPlan(cmd *cobra.Command, call *feesCall, files []string) (*merchant.FeePlan, string, error) {
	if len(files) == 0 {
		var a feesAnswer
		err := send(cmd, call, &a)
		if err == nil {
			return a.Quoted, a.Class, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || cmd.Flags().Changed("database") {
			return nil, "", err
		}
	}
	plans := merchant.BuiltIn()
	for _, name := range files {
		var err error
		if plans, err = addPlans(plans, name); err != nil {
			return nil, "", err
		}
	}
	return call.quoted(plans)
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
		if err == nil && q.IfT1 != nil {
			_, err = fmt.Fprintf(out, "paid no earlier than T+1, it pays %s for that and brings %s\n", q.IfT1.SettleFee, q.IfT1.Net)
		}
		for i := range q.Extras {
			if i == 0 && err == nil {
				_, err = fmt.Fprint(out, "\napart from sales\n")
			}
			if err == nil {
				_, err = fmt.Fprintf(out, "%-11s %12s%s\n", q.Extras[i].Kind, q.Extras[i].Amount, q.Extras[i].Conditions())
			}
		}
	}
	if err != nil {
		return err
	}
	if q.Refused != merchant.NotRefused {
		return errors.New("sale refused: " + q.Reason)
	}
	return nil
}

// compareQuotes lists the ways of paying, the one that leaves the merchant most
// first and those that are refused last.
func compareQuotes(cmd *cobra.Command, all []merchant.Quote, asJSON bool) error {
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

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"acquirer/card"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	switching "acquirer/switch"
)

// newRouteCmd is `acquirer route`: where cards go, and why.
func newRouteCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "route",
		Short: "Where cards go and why: explain one, check a routing file, reload a running switch",
		Long: `route works on the BIN table (routing.bins) and the routing file (routing.rules)
of the configuration; docs/routing.md has their layout.`,
		Example: "  acquirer route explain 6210000000000003 --amount 100.00",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRouteExplainCmd(), newRouteCheckCmd(), newRouteReloadCmd())
	return cmd
}

func newRouteReloadCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Let the running switch read its BIN table and routing file now",
		Long: `reload asks the running acquirer serve of the same configuration, on the machine
where it runs, to read both files, whole or not at all, and prints what is
different now. With several nodes each reads its own.`,
		Example: "  acquirer route reload",
		Args:    cobra.NoArgs,
	}
	addConfigFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		body, err := askHouse(cmd, http.MethodPost, "/routes/reload")
		if err != nil {
			return err
		}
		var diff []string
		if err := json.Unmarshal(body, &diff); err != nil {
			return fmt.Errorf("what the switch answered is not a list of changes: %w", err)
		}
		return printDiff(cmd.OutOrStdout(), diff)
	}
	return cmd
}

func printDiff(w io.Writer, diff []string) error {
	if len(diff) == 0 {
		diff = []string{"nothing differs"}
	}
	_, err := fmt.Fprintln(w, strings.Join(diff, "\n"))
	return err
}

func newRouteCheckCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say whether a routing file is good, and what it would change",
		Long: `check reads FILE, or the routing file of the configuration, as a reload does: its
layout, its issuers against those of the seed, and the BIN table with it. With FILE it
prints what that would change of the configured one. Nothing is changed. The exit
status is 1 when the file is refused.`,
		Example: `  acquirer route check
  acquirer route check new-routes.json --routing-rules routes.json --routing-bins bins.csv --seed street.json`,
		Args: cobra.MaximumNArgs(1),
	}
	addConfigFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := loadConfig(cmd.Flags())
		if err != nil {
			return err
		}
		old := cfg
		if len(args) > 0 {
			cfg.Routing.Rules = args[0]
		}
		p, err := planOf(cfg)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if _, err := fmt.Fprintf(out, "good: %d rows of the BIN table, %d groups, %d rules, %d tariffs, %d stand-in rules\n",
			p.BINs.Len(), len(p.Rules.Groups), len(p.Rules.Rules), len(p.Rules.Tariffs), len(p.Rules.StandIn)); err != nil {
			return err
		}
		if len(args) == 0 {
			return nil
		}
		before, err := planOf(old)
		if err != nil {
			return fmt.Errorf("the configured routing, with which it would be compared: %w", err)
		}
		return printDiff(out, p.Diff(before))
	}
	return cmd
}

// planOf reads the routing of a configuration and holds it against the issuers
// of its seed.
func planOf(cfg Config) (*routing.Plan, error) {
	bins, rules, err := loadRouting(cfg)
	if err != nil {
		return nil, err
	}
	names, err := seedIssuers(cfg)
	if err != nil {
		return nil, err
	}
	return routing.NewPlan(bins, rules, names)
}

// seedIssuers are the names of the issuers that serve would have.
func seedIssuers(cfg Config) (names []string, err error) {
	if cfg.Seed == "demo" {
		for _, is := range simcard.Issuers {
			names = append(names, is.Name)
		}
		return names, nil
	}
	if cfg.Seed == "" {
		return nil, usageError{errors.New("no seed: the issuers that the files may name are those of the setting seed, a JSON file or demo")}
	}
	seed, err := merchant.LoadSeed(cfg.Seed)
	if err != nil {
		return nil, err
	}
	issuers, err := readIssuers(seed)
	for _, is := range issuers {
		names = append(names, is.Name)
	}
	return names, err
}

// routeQuestion is what route explain was asked.
type routeQuestion struct {
	amount, entry, currency, mcc, needs string
	code, asJSON                        bool
}

func newRouteExplainCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain PAN|CODE|-",
		Short: "Which way a card or a payment code would go, and why",
		Long: `explain shows what the BIN table knows of a card, every rule and why it does or does
not match, the issuers in the order in which they would be asked with what each
costs and how it stands, and what is chosen. How they stand it asks the running
switch of the configuration; when none runs here it says so.

The number is printed masked and never logged. As an argument it can be seen by
others on this machine while the command runs, and stays in the shell's history:
write - and give it on standard input instead.

A number that may be both a card and a payment code is explained as a card;
--code explains the code.`,
		Example: `  acquirer route explain 6210000000000003 --amount 100.00 --seed demo
  acquirer route explain - --amount 5000.00 --entry chip --mcc 5812 --json < card.txt`,
		Args: cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	var q routeQuestion
	f := cmd.Flags()
	f.StringVar(&q.amount, "amount", "", "yuan, like 100.00")
	f.StringVar(&q.entry, "entry", "chip", "keyed, stripe, fallback, chip or contactless")
	f.StringVar(&q.currency, "currency", money.CurrencyNumeric, "ISO 4217 number")
	f.StringVar(&q.mcc, "mcc", "", "merchant category, four digits")
	f.StringVar(&q.needs, "needs", "", "what not every issuer's line carries: instalment, points, ...")
	f.BoolVar(&q.code, "code", false, "the number is a payment code")
	f.BoolVar(&q.asJSON, "json", false, "print JSON")
	if err := cmd.MarkFlagRequired("amount"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return explainRoute(cmd, args[0], q) }
	return cmd
}

// routeAnswer is what route explain prints.
type routeAnswer struct {
	routing.Explanation
	Asked  string                         `json:"asked"` // how the issuers were asked
	Issuer map[string]routing.BreakerView `json:"breakers,omitempty"`
}

func explainRoute(cmd *cobra.Command, text string, asked routeQuestion) error {
	if text == "-" {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64)).ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		text = strings.TrimSpace(line)
	}
	q, err := asked.query()
	if err != nil {
		return usageError{err}
	}
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		return err
	}
	p, err := planOf(cfg)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	code, badCode := routing.ParsePayCode(text)
	pan, badPAN := card.ParsePAN(text)
	if badPAN != nil && badCode != nil {
		return usageError{errors.New("that is neither a card number (13 to 19 digits) nor a payment code (16 to 24)")}
	}
	var wallet string
	if badCode == nil {
		wallet, _ = routing.WalletOf(code)
	}
	if asked.code || badPAN != nil {
		return explainCode(out, code, wallet, asked.asJSON)
	}
	if _, known := p.BINs.Route(pan); !known && wallet != "" {
		return explainCode(out, code, wallet, asked.asJSON)
	}
	now, how, err := standingNow(cmd, p)
	if err != nil {
		return err
	}
	chooser := routing.Chooser{Cost: switching.CostOf, Standing: func(issuer, needs string) routing.Standing {
		is, ok := now.Issuers[issuer]
		switch {
		case !ok:
			return routing.NotAsked
		case needs != "" && !slices.Contains(is.Carries, needs):
			return routing.Cannot
		}
		return is.Standing
	}}
	e, err := chooser.Explain(p, pan, q)
	if err != nil {
		return fmt.Errorf("%s: %w", pan.Masked(), err)
	}
	a := routeAnswer{Explanation: e, Asked: how, Issuer: map[string]routing.BreakerView{}}
	for _, w := range e.Ways {
		if is, ok := now.Issuers[w.Issuer]; ok {
			a.Issuer[w.Issuer] = is.Breaker
		}
	}
	if asked.asJSON {
		return json.NewEncoder(out).Encode(a)
	}
	if wallet != "" {
		if _, err := fmt.Fprintf(out, "as a card; %s gives payment codes like it too (--code)\n", wallet); err != nil {
			return err
		}
	}
	return printRoute(out, &a)
}

// query reads the flags.
func (r routeQuestion) query() (q routing.Query, err error) {
	if q.Amount, err = money.Parse(r.amount); err != nil || q.Amount <= 0 {
		return q, fmt.Errorf("--amount %q is not yuan above zero, like 100.00", r.amount)
	}
	if err := q.Entry.UnmarshalText([]byte(r.entry)); err != nil {
		return q, fmt.Errorf("--%w", err)
	}
	number, err := strconv.ParseUint(r.currency, 10, 31)
	if err != nil || len(r.currency) != 3 {
		return q, fmt.Errorf("--currency %q is not three digits, like 156", r.currency)
	}
	if r.mcc != "" && (len(r.mcc) != 4 || strings.Trim(r.mcc, "0123456789") != "") {
		return q, fmt.Errorf("--mcc %q is not four digits", r.mcc)
	}
	q.Currency, q.MCC, q.Needs = int32(number), r.mcc, r.needs
	return q, nil
}

// standingNow asks the running switch how the issuers stand.
func standingNow(cmd *cobra.Command, p *routing.Plan) (now routesNow, how string, err error) {
	body, err := askHouse(cmd, http.MethodGet, "/routes")
	if err != nil {
		return now, "not asked: " + err.Error(), nil
	}
	if err := json.Unmarshal(body, &now); err != nil {
		return now, "", fmt.Errorf("what the switch answered is not how its issuers stand: %w", err)
	}
	how = "the running switch, which has the same table and rules"
	if now.Digest != p.Digest() {
		how = "the running switch, which has ANOTHER table or other rules than the files: reload it, or look whether it refused them"
	}
	return now, how, nil
}

func explainCode(w io.Writer, code routing.PayCode, wallet string, asJSON bool) error {
	if wallet == "" {
		return fmt.Errorf("%s: no wallet gives payment codes like it", code.Masked())
	}
	why := fmt.Sprintf("payment codes that begin and are as long as this one are %s's; no rule is asked", wallet)
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]string{"code": code.Masked(), "choice": wallet, "why": why})
	}
	_, err := fmt.Fprintf(w, "code      %s\nchoice    %s\nwhy       %s\n", code.Masked(), wallet, why)
	return err
}

func printRoute(w io.Writer, a *routeAnswer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "card\t%s, %s\n", a.Card, a.Number)
	fmt.Fprintf(t, "BIN\t%s %s, %s of %s\n", a.BIN, a.Name, a.Kind, a.Own)
	for i, r := range a.Rules {
		does := "no"
		if r.Matches {
			does = "YES"
		}
		fmt.Fprintf(t, "rule %d\t%s: %s, %s\n", i+1, r.Rule, does, r.Why)
	}
	if a.Group != "" {
		fmt.Fprintf(t, "group\t%s\n", a.Group)
	}
	for i, way := range a.Ways {
		about := way.Role
		if way.Weight > 0 {
			about += fmt.Sprintf(" of weight %d", way.Weight)
		}
		if way.Cost != "" {
			about += ", costs " + way.Cost
		}
		about += ", " + way.Standing.String()
		if b, ok := a.Issuer[way.Issuer]; ok {
			about += ", breaker " + b.State
		}
		fmt.Fprintf(t, "way %d\t%s: %s\n", i+1, way.Issuer, about)
	}
	fmt.Fprintf(t, "choice\t%s\n", a.Choice)
	fmt.Fprintf(t, "why\t%s\n", a.Why)
	fmt.Fprintf(t, "stand-in\t%s\n", a.StandIn)
	fmt.Fprintf(t, "standing\t%s\n", a.Asked)
	return t.Flush()
}

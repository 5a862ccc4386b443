package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/routing"
	"acquirer/settlement"
	"acquirer/store"
)

// payers reads who pays the house, by the bank's statement: the file of
// settlement.payers, a list of {"payer","account","reference"}.
func (c Config) payers() ([]settlement.Payer, error) {
	if c.Settlement.Payers == "" {
		return c.demoPayers, nil
	}
	text, err := os.ReadFile(c.Settlement.Payers)
	if err != nil {
		return nil, usageError{fmt.Errorf("settlement.payers: %w", err)}
	}
	out, err := readPayers(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("settlement.payers: %s: %w; docs/payouts.md has an example", c.Settlement.Payers, err)}
	}
	return out, nil
}

// readPayers reads the text of such a file; errors name the line.
func readPayers(text []byte) ([]settlement.Payer, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	at := func(err error) error {
		return fmt.Errorf("line %d: %w", 1+bytes.Count(text[:min(d.InputOffset(), int64(len(text)))], []byte{'\n'}), err)
	}
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, at(errors.Join(errors.New("want a list of payers"), err))
	}
	var out []settlement.Payer
	for d.More() {
		var p struct {
			Payer     string `json:"payer"`
			Account   string `json:"account"`
			Reference string `json:"reference"`
		}
		err := d.Decode(&p)
		if err == nil && p.Payer != settlement.Network && !slices.Contains(routing.Wallets, p.Payer) {
			err = fmt.Errorf("%.40q is none of %s, %v", p.Payer, settlement.Network, routing.Wallets)
		}
		rule := settlement.Payer{Account: p.Account, Reference: p.Reference}
		if p.Payer != settlement.Network {
			rule.Wallet = p.Payer
		}
		if err == nil {
			err = rule.Check()
		}
		if err != nil {
			return nil, at(err)
		}
		out = append(out, rule)
	}
	if _, err := d.Token(); err != nil {
		return nil, at(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, at(errors.New("there is more behind the list"))
	}
	if len(out) == 0 {
		return nil, errors.New("it names no payer")
	}
	return out, nil
}

// receiptGauge is what networks and wallets owe for dates whose day has come.
type receiptGauge struct {
	open, oldest *prometheus.GaugeVec
	suspense     prometheus.Gauge
	looked       time.Time // the settler's alone
}

// receiptsEvery is how often what is owed is added up: of a great day that takes
// a second.
const receiptsEvery = 5 * time.Minute

func newReceiptGauge(r prometheus.Registerer) *receiptGauge {
	g := &receiptGauge{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_receipts_open_yuan",
			Help: "What the network and the wallets owe for business dates whose day of payment has come, and have not paid."}, []string{"payer"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_receipts_oldest_seconds",
			Help: "How long ago the day began on which the oldest of it was to come."}, []string{"payer"}),
		suspense: prometheus.NewGauge(prometheus.GaugeOpts{Name: "acquirer_credits_suspense",
			Help: "Credits on the bank's statement that nobody knows what they pay for, in suspense for people."}),
	}
	for _, payer := range append([]string{settlement.Network}, routing.Wallets...) {
		g.open.WithLabelValues(payer)
		g.oldest.WithLabelValues(payer)
	}
	r.MustRegister(g.open, g.oldest, g.suspense)
	return g
}

// watchReceipts looks every few minutes what is owed and has not come, where the
// house sees what comes.
func (v *house) watchReceipts(ctx context.Context, now time.Time) error {
	if v.receipts == nil || !v.books.TakesCredits() || now.Sub(v.receipts.looked) < receiptsEvery {
		return nil
	}
	today := calendar.DateOf(now)
	dues, err := v.books.Dues(ctx, today.AddDays(-settlement.DueDays), today)
	if err != nil {
		return err
	}
	odd, err := v.books.Credits(ctx, true, 10_000)
	if err != nil {
		return err
	}
	open, oldest := map[string]float64{}, map[string]float64{}
	for _, d := range dues {
		if d.Came || d.Open <= 0 || d.Due > today {
			continue
		}
		open[d.Payer] += float64(d.Open.Fen()) / 100
		oldest[d.Payer] = max(oldest[d.Payer], now.Sub(d.Due.Time()).Seconds())
	}
	for _, payer := range append([]string{settlement.Network}, routing.Wallets...) {
		v.receipts.open.WithLabelValues(payer).Set(open[payer])
		v.receipts.oldest.WithLabelValues(payer).Set(oldest[payer])
	}
	v.receipts.suspense.Set(float64(len(slices.DeleteFunc(odd, settlement.Credited.Waits))))
	v.receipts.looked = now
	return nil
}

// creditCall is an errand about money that came in.
type creditCall struct {
	Do    string        `json:"do"` // list, assign, back or receipts
	All   bool          `json:"all,omitempty"`
	Entry string        `json:"entry,omitempty"`
	Payer string        `json:"payer,omitempty"`
	Date  calendar.Date `json:"date,omitzero"`
	From  calendar.Date `json:"from,omitzero"`
	To    calendar.Date `json:"to,omitzero"`
}

type creditAnswer struct {
	Said    string                `json:"said,omitempty"`
	Credits []settlement.Credited `json:"credits,omitempty"`
	Dues    []settlement.Due      `json:"receipts,omitempty"`
}

func (c *creditCall) name() string { return "credit" }

func (c *creditCall) run(ctx context.Context, db *store.DB, cfg Config, who string) (any, error) {
	books, err := booksAlone(ctx, db, cfg)
	if err != nil {
		return nil, err
	}
	var a creditAnswer
	now := time.Now()
	switch c.Do {
	case "list":
		if a.Credits, err = books.Credits(ctx, !c.All, creditsShown); len(a.Credits) == 0 {
			a.Said = "nothing is in suspense"
		}
	case "receipts":
		if c.To == 0 {
			c.To = calendar.DateOf(now)
		}
		if c.From == 0 {
			c.From = c.To.AddDays(-settlement.DueDays)
		}
		if a.Dues, err = books.Dues(ctx, c.From, c.To); len(a.Dues) == 0 {
			a.Said = fmt.Sprintf("no business date from %s to %s is closed, or nobody owes anything for one", c.From, c.To)
		}
	case "assign", "back":
		var done bool
		word := "it went back to whoever paid it, or was booked before"
		if c.Do == "assign" {
			word = fmt.Sprintf("%s pays %s with it", c.Payer, c.Date)
		}
		done, err = books.AssignCredit(ctx, c.Entry, c.Payer, c.Date, who, now, recorded(who, "settle credit "+c.Do, "credit "+c.Entry, word))
		if a.Said = fmt.Sprintf("credit %s is booked: %s", c.Entry, word); !done {
			a.Said = fmt.Sprintf("%s says of credit %s: %s. Somebody else says the same, with the same command", who, c.Entry, word)
		}
	default:
		err = usageError{fmt.Errorf("%q is nothing that can be done with money that came in", c.Do)}
	}
	return a, err
}

// creditsShown is how many credits a list has at most.
const creditsShown = 1000

func (a *creditAnswer) print(w io.Writer) error {
	if a.Said != "" {
		_, err := fmt.Fprintln(w, a.Said)
		return err
	}
	for _, c := range a.Credits {
		what := c.State.String()
		if c.Payer != "" {
			what += ", " + c.Payer
		}
		if c.Date != 0 {
			what += " " + c.Date.String()
		}
		if c.Why != "" {
			what += ": " + c.Why
		}
		if c.Word != "" && c.DoneBy == "" {
			what += fmt.Sprintf("; %s says %s", c.AskedBy, c.Word)
		}
		if _, err := fmt.Fprintf(w, "%-26s %s %14s  %q from %s  %s\n", c.Entry, c.Booked, c.Amount, c.Reference, cmp.Or(c.Account, "unknown"), what); err != nil {
			return err
		}
	}
	if len(a.Dues) > 0 {
		if _, err := fmt.Fprintf(w, "%-10s  %-12s  %-10s  %15s  %15s  %15s\n", "date", "payer", "due", "expected", "received", "open"); err != nil {
			return err
		}
	}
	for _, d := range a.Dues {
		if _, err := fmt.Fprintf(w, "%s  %-12s  %s  %15s  %15s  %15s\n", d.Date, d.Payer, d.Due, d.Expected, d.Received, d.Open); err != nil {
			return err
		}
	}
	return nil
}

// receiptCmds are `acquirer settle credit` and `acquirer settle receipts`.
func receiptCmds() []*cobra.Command {
	credit := &cobra.Command{
		Use:   "credit",
		Short: "Money that came in and is in suspense: list it, and say by two people what it is",
		Long: `What the bank's statement says that came in is booked by itself as the receipt of
the business date that its payer names (settlement.payers). What nobody knows is in
suspense (2301), covers no payout, and is a task. Two people say what it is.`,
		Example: "  acquirer settle credit list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := &cobra.Command{Use: "list", Short: "The credits in suspense, the newest first; or all", Example: "  acquirer settle credit list --all --json", Args: cobra.NoArgs}
	all := list.Flags().Bool("all", false, "those that are booked too")
	assign := &cobra.Command{Use: "assign ENTRY", Short: "Say which business date a credit pays for, and whose it is",
		Example: "  acquirer settle credit assign R261123090000000001 --date 2026-11-20 --payer alipay", Args: cobra.ExactArgs(1)}
	date := assign.Flags().String("date", "", "the business date, closed, like 2026-11-20")
	payer := assign.Flags().String("payer", settlement.Network, "who paid: network, or a wallet")
	back := &cobra.Command{Use: "back ENTRY", Short: "Say that a credit went back to whoever paid it, or was booked by hand before",
		Example: "  acquirer settle credit back R261123090000000001", Args: cobra.ExactArgs(1)}
	receipts := &cobra.Command{Use: "receipts", Short: "What the network and the wallets owe for each business date, what came, and what is open",
		Example: "  acquirer settle receipts --from 2026-11-16 --to 2026-11-20 --json", Args: cobra.NoArgs}
	from := receipts.Flags().String("from", "", fmt.Sprintf("first business date (default: %d days back)", settlement.DueDays))
	to := receipts.Flags().String("to", "", "last business date (default: today)")
	run := func(cmd *cobra.Command, call func(args []string) (*creditCall, error)) *cobra.Command {
		addConfigFlags(cmd)
		return errandRun(cmd, func(args []string) (errand, error) {
			c, err := call(args)
			return c, err
		}, (*creditAnswer).print)
	}
	credit.AddCommand(
		run(list, func([]string) (*creditCall, error) { return &creditCall{Do: "list", All: *all}, nil }),
		run(assign, func(args []string) (*creditCall, error) {
			c := &creditCall{Do: "assign", Entry: args[0], Payer: *payer}
			var err error
			if c.Date, err = calendar.ParseDate(*date); err != nil {
				return c, usageError{fmt.Errorf("--date: %w", err)}
			}
			if c.Payer != settlement.Network && !slices.Contains(routing.Wallets, c.Payer) {
				return c, usageError{fmt.Errorf("--payer: %q is none of %s, %v", c.Payer, settlement.Network, routing.Wallets)}
			}
			return c, nil
		}),
		run(back, func(args []string) (*creditCall, error) { return &creditCall{Do: "back", Entry: args[0]}, nil }),
	)
	run(receipts, func([]string) (*creditCall, error) {
		c := &creditCall{Do: "receipts"}
		for _, x := range []struct {
			flag, text string
			to         *calendar.Date
		}{{"--from", *from, &c.From}, {"--to", *to, &c.To}} {
			if x.text == "" {
				continue
			}
			var err error
			if *x.to, err = calendar.ParseDate(x.text); err != nil {
				return c, usageError{fmt.Errorf("%s: %w", x.flag, err)}
			}
		}
		return c, nil
	})
	return []*cobra.Command{credit, receipts}
}

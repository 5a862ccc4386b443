package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
	switching "acquirer/switch"
)

// newPayoutCmd is `acquirer payout`: what a person does with payouts
// (docs/payouts.md).
func newPayoutCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "payout",
		Short: "Payouts to merchants: list them, show one with what replaced it, issue one again, recover one",
		Long: `payout shows what is paid to merchants and what became of it. A payout whose fate
is unknown is asked for until the bank says, and is never sent again. One that
failed or came back is issued again, as a new payout that names the old one, when
the merchant has given another card. What the bank paid although it had failed is
recovered, by two people.`,
		Example: "  acquirer payout list --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPayoutListCmd(), newPayoutShowCmd(), newPayoutArrivalCmd(), newPayoutReissueCmd(), newPayoutRecoverCmd(), newPayoutDecideCmd(), newPayoutTasksCmd(), newPayoutDoneCmd(), newPayoutMovedCmd())
	return cmd
}

// payoutGauge counts the payouts that are not at their end, at the moment of
// asking.
type payoutGauge struct {
	e                 *settlement.Engine
	count, yuan, wait *prometheus.Desc
}

func newPayoutGauge(e *settlement.Engine) *payoutGauge {
	return &payoutGauge{e: e,
		count: prometheus.NewDesc("acquirer_payouts", "Payouts that are not at their end, by state; failed and returned ones until they are issued again.", []string{"state"}, nil),
		yuan:  prometheus.NewDesc("acquirer_payouts_yuan", "What they come to.", []string{"state"}, nil),
		wait:  prometheus.NewDesc("acquirer_payouts_oldest_seconds", "How long the oldest of them has waited since it was sent; created ones since the day began on which they were due, or since they were made on that day. Held ones, which are tasks, do not count.", []string{"state"}, nil)}
}

// Describe implements prometheus.Collector.
func (g *payoutGauge) Describe(ch chan<- *prometheus.Desc) { ch <- g.count; ch <- g.yuan; ch <- g.wait }

// Collect implements prometheus.Collector.
func (g *payoutGauge) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts, err := g.e.PayoutsStanding(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(g.count, err)
		return
	}
	for s := settlement.Created; s <= settlement.CameBack; s++ {
		if s != settlement.Paid {
			ch <- prometheus.MustNewConstMetric(g.count, prometheus.GaugeValue, float64(counts[s].Payouts), s.String())
			ch <- prometheus.MustNewConstMetric(g.yuan, prometheus.GaugeValue, float64(counts[s].Sum.Fen())/100, s.String())
		}
		if s < settlement.Paid {
			waits := 0.0
			if since := counts[s].Since; !since.IsZero() {
				waits = max(0, time.Since(since).Seconds())
			}
			ch <- prometheus.MustNewConstMetric(g.wait, prometheus.GaugeValue, waits, s.String())
		}
	}
}

// payoutCall is an errand about payouts.
type payoutCall struct {
	Do       string `json:"do"` // list, show, arrival, reissue, recover, decide, tasks, done or moved
	Ref      string `json:"ref,omitempty"`
	Merchant string `json:"merchant,omitempty"`
	Note     string `json:"note,omitempty"`
	Loss     bool   `json:"loss,omitempty"` // recover gives up
	Paid     bool   `json:"paid,omitempty"` // decide says so
}

// payoutAnswer is what came of it.
type payoutAnswer struct {
	Payouts []settlement.PayoutView `json:"payouts,omitempty"`
	Arrival *settlement.Arrival     `json:"arrival,omitempty"`
	Tasks   []settlement.Task       `json:"tasks,omitempty"`
	Said    string                  `json:"said,omitempty"`
}

const payoutsShown = 10_000

func (c *payoutCall) name() string { return "payout" }

func (c *payoutCall) run(ctx context.Context, db *store.DB, cfg Config, who string) (any, error) {
	books, err := booksAlone(ctx, db, cfg)
	if err != nil {
		return nil, err
	}
	var a payoutAnswer
	switch c.Do {
	case "list":
		if c.Merchant != "" {
			a.Payouts, err = books.PayoutsOf(ctx, c.Merchant, payoutsShown)
		} else {
			a.Payouts, err = books.PayoutsOpen(ctx, payoutsShown)
		}
	case "show":
		a.Payouts, err = books.PayoutChain(ctx, c.Ref)
	case "arrival":
		var id int64
		if id, err = strconv.ParseInt(strings.ToUpper(c.Ref), 36, 64); err != nil {
			return a, usageError{fmt.Errorf("%q is not an RRN of this house: 12 letters and digits", c.Ref)}
		}
		if a.Arrival, err = books.Arrival(ctx, id, time.Now()); errors.Is(err, store.ErrNotFound) {
			return a, notBooked(ctx, db, c.Ref, id)
		}
	case "reissue":
		var child string
		child, err = books.Reissue(ctx, c.Ref, time.Now(), c.record(who, "payout "+c.Ref))
		a.Said = fmt.Sprintf("%s replaces %s; it is sent to the account that the merchant has when it is due", child, c.Ref)
	case "recover":
		var done bool
		done, err = books.Recover(ctx, c.Ref, c.Loss, who, time.Now(), c.record(who, "payout "+c.Ref))
		switch {
		case !done:
			a.Said = "asked for; somebody else does it with the same command"
		case c.Loss:
			a.Said = c.Ref + " is given up"
		default:
			a.Said = c.Ref + " is taken from the merchant: acquirer payout show " + c.Ref
		}
	case "decide":
		var done bool
		done, err = books.Decide(ctx, c.Ref, c.Paid, who, time.Now(), c.record(who, "payout "+c.Ref))
		a.Said = c.Ref + " is decided: acquirer payout show " + c.Ref
		if !done {
			a.Said = "said; somebody else decides it with the same command"
		}
	case "tasks":
		a.Tasks, err = books.Tasks(ctx, payoutsShown)
	case "done":
		err = books.Done(ctx, c.Ref, time.Now(), c.record(who, "task "+c.Ref))
		a.Said = "task " + c.Ref + " is done"
	case "moved":
		if cfg.Settlement.Bank == "" {
			return a, usageError{errors.New("settlement.bank is empty: set it to where the bank is now")}
		}
		name, was := cfg.bankName(), ""
		was, err = settlement.SameBank(ctx, db, name, c.record(who, "bank "+name))
		a.Said = fmt.Sprintf("%s is the bank that was %s: payouts on their way are asked for there; start acquirer serve again with it", name, was)
		if was == name {
			a.Said = "the house pays through " + name + " already"
		}
	default:
		err = usageError{fmt.Errorf("%q is nothing that can be done with payouts", c.Do)}
	}
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w; acquirer payout list and acquirer payout tasks show what there is", err)
	}
	return a, err
}

// notBooked says why the books do not have a transaction.
func notBooked(ctx context.Context, db *store.DB, rrn string, id int64) error {
	switch e, err := journal.New(db, nil).Get(ctx, id); {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("no transaction has the RRN %s; it is on the receipt, and in the log as rrn", strings.ToUpper(rrn))
	case err != nil:
		return err
	case e.Outcome == nil:
		return fmt.Errorf("transaction %s is not decided yet: it is under way, or its answer is waited for; ask again in a minute", e.RRN)
	case e.Outcome.Reason != journal.Approved:
		return fmt.Errorf("transaction %s was not approved (%s): no money comes of it", e.RRN, e.Outcome.Reason)
	case e.TakenBack():
		return fmt.Errorf("transaction %s was taken back by a reversal: no money comes of it", e.RRN)
	default:
		return fmt.Errorf("transaction %s of %s is approved and not in the books: a sale is there after a second (acquirer_ledger_lag_seconds); what moves no money never is", e.RRN, e.Sum())
	}
}

func (c *payoutCall) record(who, subject string) func(tx store.Tx) error {
	return recorded(who, "payout "+c.Do, subject, c.Note)
}

// booksAlone is the settlement engine on a database, without a bank. more adds
// to its configuration.
func booksAlone(ctx context.Context, db *store.DB, cfg Config, more ...func(*settlement.Config)) (*settlement.Engine, error) {
	merchants, err := merchant.OpenRegistry(ctx, db)
	if err != nil {
		return nil, err
	}
	c := settlement.Config{DB: db, Source: settlement.FromJournal(journal.New(db, nil), switching.EntryOf), Merchants: merchants}
	if err := cfg.terms(&c); err != nil {
		return nil, err
	}
	for _, f := range more {
		f(&c)
	}
	return settlement.New(c)
}

func newPayoutListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Payouts on their way, and those that want a person; or all of a merchant",
		Example: `  acquirer payout list
  acquirer payout list --merchant 898110058120001 --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	mid := cmd.Flags().String("merchant", "", "all payouts of this merchant, the latest first")
	return payoutRun(cmd, func([]string) payoutCall { return payoutCall{Do: "list", Merchant: *mid} })
}

func newPayoutShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show REF",
		Short:   "A payout with those it replaces and those that replaced it",
		Example: "  acquirer payout show 20261120-898110058120001-T1-0",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	return payoutRun(cmd, func(args []string) payoutCall { return payoutCall{Do: "show", Ref: args[0]} })
}

func newPayoutArrivalCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "arrival RRN",
		Short:   "Where the money of one transaction stands, and why it is not there yet",
		Example: "  acquirer payout arrival 2WSLMB5IZITC",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	return payoutRun(cmd, func(args []string) payoutCall { return payoutCall{Do: "arrival", Ref: args[0]} })
}

func newPayoutReissueCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reissue REF",
		Short: "Replace a payout that failed or came back by a new one",
		Long: `reissue makes a new payout of one that failed or came back, to the account that
the merchant has now. A payout is replaced once: asked again, it names the same
replacement.`,
		Example: "  acquirer payout reissue 20261120-898110058120001-T1-0",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	return payoutRun(cmd, func(args []string) payoutCall { return payoutCall{Do: "reissue", Ref: args[0]} })
}

func newPayoutRecoverCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover REF",
		Short: "Take from its merchant what the bank paid after it had failed, by two people",
		Long: `recover ends a payout that the bank paid after it was booked as failed, and that the
merchant is not owed any more. One person asks, another gives the same command. The
replacement that was not sent is given up for it; what that does not cover is taken
from what the merchant sells next. With --write-off it is given up, which is refused
while there is a replacement to take. When the bank brings the money back by itself,
nothing needs to be done.`,
		Example: `  acquirer payout recover 20261120-898110058120001-T1-0 --note "the bank says it cannot call it back"`,
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	loss := cmd.Flags().Bool("write-off", false, "give it up")
	note := cmd.Flags().String("note", "", "why, for the operators' log")
	return payoutRun(cmd, func(args []string) payoutCall {
		return payoutCall{Do: "recover", Ref: args[0], Loss: *loss, Note: *note}
	})
}

func newPayoutDecideCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "decide REF paid|failed",
		Short: "Say in the bank's place what became of a payout, by two people",
		Long: `decide ends a payout whose fate the bank does not tell any more: it is gone, or has
lost the order. One person says whether the merchant got the money, by a statement or
the bank's letter; another gives the same command. It is refused while the bank may
still answer. A payout that failed is issued again like others.`,
		Example: `  acquirer payout decide 20261120-898110058120001-T1-0 failed --note "the bank's letter of 2026-11-25"`,
		Args:    cobra.ExactArgs(2),
	}
	addConfigFlags(cmd)
	note := cmd.Flags().String("note", "", "how it is known, for the operators' log")
	return errandRun(cmd, func(args []string) (errand, error) {
		if args[1] != "paid" && args[1] != "failed" {
			return nil, usageError{fmt.Errorf("%q is not paid or failed", args[1])}
		}
		return &payoutCall{Do: "decide", Ref: args[0], Paid: args[1] == "paid", Note: *note}, nil
	}, func(a *payoutAnswer, w io.Writer) error { return a.print(w, "decide") })
}

func newPayoutTasksCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tasks",
		Short:   "What waits for a person: returned and held payouts, the bank's odd answers, refused files",
		Example: "  acquirer payout tasks",
		Args:    cobra.NoArgs,
	}
	addConfigFlags(cmd)
	return payoutRun(cmd, func([]string) payoutCall { return payoutCall{Do: "tasks"} })
}

func newPayoutDoneCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "done KEY",
		Short:   "Record that a task is done",
		Example: `  acquirer payout done payout_returned/20261120-898110058120001-T1-0 --note "new card, ticket 4711"`,
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	note := cmd.Flags().String("note", "", "what was done, for the operators' log")
	return payoutRun(cmd, func(args []string) payoutCall { return payoutCall{Do: "done", Ref: args[0], Note: *note} })
}

func newPayoutMovedCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "moved",
		Short: "Say that the bank in settlement.bank is the same as before, at another address",
		Long: `moved says that the bank which settlement.bank names now is the one that payouts
went through so far, at another address: it knows what is on its way, and is asked
there. Of another bank say nothing: settlement.bank changes by itself when
nothing is on its way any more. A bank that does not know a payout makes it fail,
and whoever issues it again then pays twice.`,
		Example: `  acquirer payout moved --settlement-bank https://bank.example:8443 --note "new data centre, ticket 4711"`,
		Args:    cobra.NoArgs,
	}
	addConfigFlags(cmd)
	note := cmd.Flags().String("note", "", "why, for the operators' log")
	return payoutRun(cmd, func([]string) payoutCall { return payoutCall{Do: "moved", Note: *note} })
}

// payoutRun makes cmd do an errand about payouts and print its answer.
func payoutRun(cmd *cobra.Command, call func(args []string) payoutCall) *cobra.Command {
	var c payoutCall
	return errandRun(cmd, func(args []string) (errand, error) {
		c = call(args)
		return &c, nil
	}, func(a *payoutAnswer, w io.Writer) error { return a.print(w, c.Do) })
}

func (a *payoutAnswer) print(w io.Writer, do string) error {
	if a.Said != "" {
		_, err := fmt.Fprintln(w, a.Said)
		return err
	}
	if x := a.Arrival; x != nil {
		text := fmt.Sprintf("%s  %s  business date %s  %s", x.Net, x.Speed, x.Date, x.Line)
		if x.Due != 0 {
			text += ", due " + x.Due.String()
		}
		if x.Reason != "" {
			text += ": " + x.Reason
		}
		for _, also := range []struct {
			amount money.Amount
			what   string
		}{{x.Other, "chargebacks, fees and holds"}, {x.CarryIn, "carried over from before"}} {
			if also.amount != 0 {
				text += fmt.Sprintf("; netted with %s of %s", also.amount, also.what)
			}
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
		a.Payouts = x.Payouts
	}
	if a.Arrival == nil && len(a.Payouts)+len(a.Tasks) == 0 {
		_, err := fmt.Fprintln(w, map[string]string{"tasks": "nothing waits for a person"}[do]+map[string]string{"list": "no payouts"}[do])
		return err
	}
	for _, p := range a.Payouts {
		text := fmt.Sprintf("%-40s %-10s %12s  due %s  %-20s %s", p.Ref, p.State, p.Amount, p.Due, p.Account, p.Reason)
		if _, err := fmt.Fprintln(w, strings.TrimRight(text, " ")); err != nil {
			return err
		}
	}
	for _, t := range a.Tasks {
		if _, err := fmt.Fprintf(w, "%s  %s\n    %s\n", minuteOf(t.Created), t.Key, t.Text); err != nil {
			return err
		}
	}
	return nil
}

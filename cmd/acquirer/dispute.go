package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/settlement/dispute"
	"acquirer/store"
)

// disputes makes the engine of cases, with the terms of the setting
// dispute.terms.
func disputes(db *store.DB, cfg Config, books *settlement.Engine) (*dispute.Engine, error) {
	dc := dispute.Config{DB: db, Books: books}
	if cfg.Dispute.Terms != "" {
		text, err := os.ReadFile(cfg.Dispute.Terms)
		if err != nil {
			return nil, fmt.Errorf("dispute.terms: %w", err)
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&dc.Terms); err != nil {
			return nil, fmt.Errorf("dispute.terms: %s: %w; docs/clearing.md has an example", cfg.Dispute.Terms, err)
		}
	}
	return dispute.New(dc)
}

// disputeCall is what a person asks of the cases.
type disputeCall struct {
	Do      string         `json:"do"` // open, asked, confirm, refuse, list, show, answer, attach, evidence, close or import
	Key     string         `json:"key,omitempty"`
	ID      int64          `json:"id,omitempty"`
	RRN     string         `json:"rrn,omitempty"`
	Source  string         `json:"source,omitempty"`
	Stage   dispute.Stage  `json:"stage,omitempty"`
	Amount  string         `json:"amount,omitempty"`
	Fee     string         `json:"fee,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Ref     string         `json:"ref,omitempty"`
	Date    calendar.Date  `json:"date,omitempty"`
	Action  dispute.Action `json:"action,omitempty"`
	Outcome dispute.State  `json:"outcome,omitempty"`
	Query   dispute.Query  `json:"query,omitzero"`
	Note    string         `json:"note,omitempty"`
	Name    string         `json:"name,omitempty"`
	Content []byte         `json:"content,omitempty"`
	Won     bool           `json:"won,omitempty"`
}

// disputeAnswer is what came of it.
type disputeAnswer struct {
	Cases    []dispute.Case    `json:"cases,omitempty"`
	Asked    []dispute.Told    `json:"asked,omitempty"`
	Events   []dispute.Event   `json:"events,omitempty"`
	Files    []dispute.File    `json:"files,omitempty"`
	Actions  []dispute.Action  `json:"actions,omitempty"`
	Imported *dispute.Imported `json:"imported,omitempty"`
	SHA      string            `json:"sha256,omitempty"`
	Zip      []byte            `json:"zip,omitempty"`
}

func (c *disputeCall) name() string { return "dispute" }

func (c *disputeCall) run(ctx context.Context, db *store.DB, cfg Config, who string) (any, error) {
	reg, err := merchant.OpenRegistry(ctx, db)
	if err != nil {
		return nil, err
	}
	books, err := plainBooks(db, cfg, reg)
	if err != nil {
		return nil, err
	}
	e, err := disputes(db, cfg, books)
	if err != nil {
		return nil, err
	}
	a := archive{journal: journal.New(db, nil), merchants: reg}
	if c.Do == "evidence" { // signatures are sealed
		h, err := openKeeper(ctx, cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		defer closeHSM(h, slog.New(slog.DiscardHandler))
		a.hsm = h
		if a.dataKey, err = (&house{cfg: cfg, hsm: h, db: db}).storedKey(ctx, "data", hsm.UseDEK, hsm.AES32); err != nil {
			return nil, err
		}
	}
	return c.on(ctx, e, a, dispute.Who{Name: who, From: "command line"}, time.Now())
}

// on does the errand.
func (c *disputeCall) on(ctx context.Context, e *dispute.Engine, own archive, who dispute.Who, now time.Time) (a disputeAnswer, err error) {
	one := func(x dispute.Case, err error) (disputeAnswer, error) {
		a.Cases, a.Actions = []dispute.Case{x}, x.Actions()
		return a, err
	}
	switch c.Do {
	case "open":
		it, err := c.item(ctx, own)
		if err != nil {
			return a, err
		}
		t, err := e.Tell(ctx, it, who, now)
		a.Asked = []dispute.Told{t}
		return a, err
	case "asked":
		a.Asked, err = e.Asked(ctx)
		return a, err
	case "confirm", "refuse":
		return one(e.Confirm(ctx, c.Key, c.Do == "refuse", who, now))
	case "list":
		a.Cases, err = e.Cases(ctx, c.Query)
		return a, err
	case "show":
		if a.Events, err = e.Events(ctx, c.ID); err != nil {
			return a, err
		}
		if a.Files, err = e.Files(ctx, c.ID); err != nil {
			return a, err
		}
		return one(e.Case(ctx, c.ID))
	case "answer":
		return one(e.Answer(ctx, c.ID, c.Action, who, now))
	case "attach":
		return a, e.Attach(ctx, c.ID, c.Name, c.Content, who, now)
	case "evidence":
		x, err := e.Case(ctx, c.ID)
		if err != nil {
			return a, err
		}
		files, missing, err := own.evidence(ctx, x.Txn)
		if err != nil {
			return a, err
		}
		var b bytes.Buffer
		a.SHA, err = e.Export(ctx, &b, c.ID, files, missing, who, now)
		a.Zip = b.Bytes()
		return a, err
	case "close":
		x, _, err := e.Close(ctx, c.ID, c.Outcome, c.Note, who, now)
		return one(x, err)
	case "import":
		items := func() iter.Seq2[clearing.ErrorItem, error] { return clearing.ReadZME(bytes.NewReader(c.Content)) }
		done, err := e.Import(ctx, c.Source, c.Date, items, func(ctx context.Context, x clearing.ErrorItem) (dispute.Payment, error) {
			return own.payment(ctx, c.Source, c.Date, x)
		}, who, now)
		a.Imported = &done
		return a, err
	}
	return a, usageError{fmt.Errorf("dispute: nobody knows how to %q", c.Do)}
}

// item is what a person was told otherwise than by a file.
func (c *disputeCall) item(ctx context.Context, own archive) (it dispute.Item, err error) {
	id, ok := journal.IDOf(c.RRN)
	if !ok {
		return it, usageError{fmt.Errorf("%q is not a reference number (DE 37)", c.RRN)}
	}
	f, err := own.journal.Following(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return it, fmt.Errorf("the journal has no transaction %s", c.RRN)
	}
	if err != nil {
		return it, err
	}
	source := f.Original.Issuer
	it = dispute.Item{Key: "hand/" + source + "/" + c.Ref, Source: source, Stage: c.Stage, Reason: c.Reason, Date: c.Date, Won: c.Won}
	if c.Ref == "" {
		it.Key = fmt.Sprintf("hand/%s/%s/%s", c.RRN, c.Stage, c.Date)
	}
	if it.Payment, err = paymentOf(f); err != nil {
		return it, err
	}
	if c.Amount != "" {
		if it.Amount, err = money.Parse(c.Amount); err != nil || it.Amount <= 0 {
			return it, usageError{fmt.Errorf("--amount: %q is not an amount above zero, like 40.00", c.Amount)}
		}
	}
	if c.Fee != "" {
		if it.Fee, err = money.Parse(c.Fee); err != nil || it.Fee < 0 {
			return it, usageError{fmt.Errorf("--fee: %q is not an amount like 5.00", c.Fee)}
		}
	}
	return it, nil
}

// newDisputeCmd is `acquirer dispute`.
func newDisputeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dispute",
		Short: "Retrievals, chargebacks and what follows them: deadlines, evidence, outcomes",
		Long: `dispute keeps the cases in which an issuer asks for a slip or takes a payment back
(docs/clearing.md). Cases come from the network's error file (import) or by hand, when
two people say the same (open, confirm); money is held and moved with each stage, and
deadlines remind by tasks, a metric and an alert. What is sent to the network is the
evidence: one zip with everything the house has of the payment.`,
		Example: `  acquirer dispute list --state open --due 2026-12-01
  acquirer dispute import INN26112001ZME_898110054110001 --source north --date 2026-11-20
  acquirer dispute evidence 123456789 --out case.zip
  acquirer dispute answer 123456789 represent`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDisputeOpenCmd(), newDisputeAskedCmd(), newDisputeConfirmCmd(), newDisputeRefuseCmd(), newDisputeListCmd(), newDisputeShowCmd(), newDisputeAnswerCmd(), newDisputeAttachCmd(), newDisputeEvidenceCmd(), newDisputeCloseCmd(), newDisputeImportCmd())
	return cmd
}

// caseCmd is a command about the case that its first argument names.
func caseCmd(use, short, example string, args int, fill func(cmd *cobra.Command, c *disputeCall, args []string) error, say func(w io.Writer, a disputeAnswer) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ExactArgs(args)}
	addConfigFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := disputeCall{Do: cmd.Name()}
		var err error
		if c.ID, err = strconv.ParseInt(args[0], 10, 64); err != nil {
			return usageError{fmt.Errorf("%q is not the number of a case", args[0])}
		}
		if err := fill(cmd, &c, args[1:]); err != nil {
			return err
		}
		var a disputeAnswer
		if err := send(cmd, &c, &a); err != nil {
			return err
		}
		return say(cmd.OutOrStdout(), a)
	}
	return cmd
}

func nothingMore(*cobra.Command, *disputeCall, []string) error { return nil }

func sayCases(w io.Writer, a disputeAnswer) error {
	for _, c := range a.Cases {
		because, due := "without a reason", ""
		if c.Reason != "" {
			because = "reason " + c.Reason
		}
		if c.Due != 0 {
			due = ", until " + c.Due.String()
		}
		if c.Provisional > 0 {
			due += " (provisional: the holidays of a year until then are not known)"
		}
		if _, err := fmt.Fprintf(w, "%d  %-17s %-8s  %s  %s  %s at %s, %s%s\n", c.ID, c.Stage, c.State, c.Source, c.RRN, c.Amount, c.Merchant, because, due); err != nil {
			return err
		}
	}
	return nil
}

func sayCase(w io.Writer, a disputeAnswer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		dispute.Case
		Actions []dispute.Action `json:"actions"`
		Events  []dispute.Event  `json:"events,omitempty"`
		Files   []dispute.File   `json:"files,omitempty"`
	}{a.Cases[0], a.Actions, a.Events, a.Files})
}

func newDisputeShowCmd() *cobra.Command {
	return caseCmd("show ID", "Show a case, what happened to it, and what can be done", "  acquirer dispute show 123456789", 1, nothingMore, sayCase)
}

func newDisputeAnswerCmd() *cobra.Command {
	return caseCmd("answer ID ACTION", "Answer: fulfil (send the slip), represent, arbitrate, or accept", "  acquirer dispute answer 123456789 represent", 2,
		func(_ *cobra.Command, c *disputeCall, args []string) error {
			c.Action = dispute.Action(args[0])
			return nil
		}, sayEnded)
}

func newDisputeAttachCmd() *cobra.Command {
	return caseCmd("attach ID FILE", "Put a file with a case: a delivery note, a photo, a letter", "  acquirer dispute attach 123456789 delivery.jpg", 2,
		func(_ *cobra.Command, c *disputeCall, args []string) (err error) {
			c.Name = filepath.Base(args[0])
			c.Content, err = readUpTo(args[0], dispute.MaxFile)
			return err
		}, func(w io.Writer, _ disputeAnswer) error {
			_, err := fmt.Fprintln(w, "attached")
			return err
		})
}

func newDisputeEvidenceCmd() *cobra.Command {
	var out string
	cmd := caseCmd("evidence ID", "Export everything there is about a case as one zip", "  acquirer dispute evidence 123456789 --out case.zip", 1,
		func(*cobra.Command, *disputeCall, []string) error {
			if out == "" {
				return usageError{errors.New("--out: name the file to write")}
			}
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("--out: %s is there already; name another", out)
			}
			if info, err := os.Stat(filepath.Dir(out)); err != nil || !info.IsDir() {
				return fmt.Errorf("--out: there is no folder %s", filepath.Dir(out))
			}
			return nil
		}, func(w io.Writer, a disputeAnswer) error {
			if err := writeNew(out, a.Zip); err != nil {
				return fmt.Errorf("the evidence was not written, export it again: %w", err)
			}
			_, err := fmt.Fprintf(w, "%s  %s\n", a.SHA, out)
			return err
		})
	cmd.Flags().StringVar(&out, "out", "", "file to write, new and readable by its owner alone")
	return cmd
}

// writeNew writes a file that was not there, for its owner alone.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// sayEnded says how a case stands, or that one person alone has asked for its end.
func sayEnded(w io.Writer, a disputeAnswer) error {
	if a.Cases[0].Asked == "" {
		return sayCases(w, a)
	}
	said := "asked for"
	if x := a.Cases[0].Instead; x != "" {
		said += " instead of " + x
	}
	_, err := fmt.Fprintln(w, said+"; another person must confirm it")
	return err
}

func newDisputeCloseCmd() *cobra.Command {
	var note string
	cmd := caseCmd("close ID OUTCOME", "End a case as won, lost or closed by hand; a second person confirms", "  acquirer dispute close 123456789 won --note \"letter of 2026-12-01\"", 2,
		func(_ *cobra.Command, c *disputeCall, args []string) error {
			c.Outcome, c.Note = dispute.State(args[0]), note
			return nil
		}, sayEnded)
	cmd.Flags().StringVar(&note, "note", "", "why, for the record")
	return cmd
}

func newDisputeOpenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "open RRN STAGE",
		Short: "Say what a network says of a payment when it did not come by file; a second person confirms",
		Long: `open asks for a stage (retrieval, chargeback, second_chargeback, pre_arbitration,
arbitration) of the payment with the reference number, as import takes each line of an
error file. It moves money, so that another person confirms it (confirm) before anything
is booked. --ref is the network's own number of it: each counts once.`,
		Example: `  acquirer dispute open 2WSLMB5IZITC chargeback --reason 4853 --ref N-4711 --fee 5.00`,
		Args:    cobra.ExactArgs(2),
	}
	addConfigFlags(cmd)
	f := cmd.Flags()
	c := disputeCall{Do: "open"}
	f.StringVar(&c.Amount, "amount", "", "yuan in dispute (default: the whole payment, or what of it is in dispute)")
	f.StringVar(&c.Fee, "fee", "", "yuan that the network takes for it")
	f.StringVar(&c.Reason, "reason", "", "the network's reason code")
	f.StringVar(&c.Ref, "ref", "", "the network's number of it")
	f.BoolVar(&c.Won, "won", false, "of arbitration: ruled for us")
	date := f.String("date", "", "when the network sent it (default: today)")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c.RRN, c.Stage, c.Date = args[0], dispute.Stage(args[1]), calendar.DateOf(time.Now())
		if !c.Stage.Known() {
			return usageError{fmt.Errorf("stage %q is none of retrieval, chargeback, second_chargeback, pre_arbitration, arbitration", c.Stage)}
		}
		if *date != "" {
			if c.Date, err = calendar.ParseDate(*date); err != nil {
				return usageError{fmt.Errorf("--date: %w", err)}
			}
		}
		var a disputeAnswer
		if err := send(cmd, &c, &a); err != nil {
			return err
		}
		return sayAsked(cmd.OutOrStdout(), a)
	}
	return cmd
}

func sayAsked(w io.Writer, a disputeAnswer) error {
	for _, t := range a.Asked {
		amount, instead := "all of "+t.Payment.Amount.String(), ""
		if t.Amount > 0 {
			amount = t.Amount.String()
		}
		if t.Payment.Gone > 0 {
			amount += " (" + t.Payment.Gone.String() + " went back to the payer before)"
		}
		if t.Instead != "" {
			instead = ", instead of a " + t.Instead
		}
		if _, err := fmt.Fprintf(w, "%s of %s: %s at %s, fee %s, reason %s, of %s; %s asked for it%s; another person confirms: acquirer dispute confirm %s\n",
			t.Stage, t.Payment.RRN, amount, t.Payment.Merchant, t.Fee, t.Reason, t.Date, t.AskedBy, instead, t.Key); err != nil {
			return err
		}
	}
	return nil
}

func newDisputeAskedCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "asked",
		Short:   "List what one person was told and a second has not confirmed",
		Example: "  acquirer dispute asked --json",
		Args:    cobra.NoArgs,
	}
	addConfigFlags(cmd)
	return errandRun(cmd, func([]string) (errand, error) { return &disputeCall{Do: "asked"}, nil }, func(a *disputeAnswer, w io.Writer) error {
		if len(a.Asked) == 0 {
			_, err := fmt.Fprintln(w, "nothing waits for a second person")
			return err
		}
		return sayAsked(w, *a)
	})
}

func newDisputeConfirmCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "confirm KEY",
		Short:   "Confirm what another person was told (open): the case is opened or moved on",
		Example: "  acquirer dispute confirm hand/north/N-4711",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	return errandRun(cmd, func(args []string) (errand, error) { return &disputeCall{Do: "confirm", Key: args[0]}, nil },
		func(a *disputeAnswer, w io.Writer) error { return sayCases(w, *a) })
}

func newDisputeRefuseCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "refuse KEY",
		Short:   "Forget what a person was told (open); whoever asked may too",
		Example: "  acquirer dispute refuse hand/north/N-4711",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	return errandRun(cmd, func(args []string) (errand, error) { return &disputeCall{Do: "refuse", Key: args[0]}, nil },
		func(_ *disputeAnswer, w io.Writer) error {
			_, err := fmt.Fprintln(w, "refused; nothing was booked")
			return err
		})
}

// casesShown is the most cases of a list.
const casesShown = 10_000

func newDisputeListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List cases, the next last day first",
		Example: `  acquirer dispute list --state open --due 2026-12-01
  acquirer dispute list --merchant 898110054110001 --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	q := dispute.Query{ByDue: true, Limit: casesShown}
	f := cmd.Flags()
	state := f.String("state", "", "only open (ours to answer), answered, won, lost or closed ones")
	stage := f.String("stage", "", "only those at retrieval, chargeback, second_chargeback or pre_arbitration")
	f.StringVar(&q.Source, "source", "", "only those of a network, issuer or wallet")
	f.StringVar(&q.Merchant, "merchant", "", "only those of a merchant, by MID")
	due := f.String("due", "", "only those whose last day is this or before, like 2026-12-01")
	asJSON := f.Bool("json", false, "print one JSON array")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		switch q.State = dispute.State(*state); q.State {
		case "", dispute.Open, dispute.Answered, dispute.Won, dispute.Lost, dispute.Closed:
		default:
			return usageError{fmt.Errorf("--state: %q is none of open, answered, won, lost, closed", *state)}
		}
		switch q.Stage = dispute.Stage(*stage); q.Stage {
		case "", dispute.Retrieval, dispute.Chargeback, dispute.Second, dispute.PreArbitration:
		default:
			return usageError{fmt.Errorf("--stage: %q is none of retrieval, chargeback, second_chargeback, pre_arbitration", *stage)}
		}
		if *due != "" {
			if q.Due, err = calendar.ParseDate(*due); err != nil {
				return usageError{fmt.Errorf("--due: %w", err)}
			}
		}
		var a disputeAnswer
		if err := send(cmd, &disputeCall{Do: "list", Query: q}, &a); err != nil {
			return err
		}
		if len(a.Cases) == casesShown {
			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "only the first %d are shown; ask for fewer with --due, --state, --source or --merchant\n", casesShown); err != nil {
				return err
			}
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(append([]dispute.Case{}, a.Cases...))
		}
		if len(a.Cases) == 0 {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "no cases")
			return err
		}
		return sayCases(cmd.OutOrStdout(), a)
	}
	return cmd
}

func newDisputeImportCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "import FILE",
		Short:   "Take a network's error file (ZME): cases are opened and moved on",
		Example: "  acquirer dispute import INN26112001ZME_898110054110001 --source north --date 2026-11-20",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	source := cmd.Flags().String("source", "", "the network or issuer whose file it is")
	date := cmd.Flags().String("date", "", "the file's date (default: as its name has it)")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c := disputeCall{Do: "import", Source: *source}
		if c.Source == "" {
			return usageError{errors.New("--source: name the network or issuer")}
		}
		if _, c.Date, err = sourceOf(filepath.Dir(args[0]), args[0]); err != nil {
			return usageError{err}
		}
		named := c.Date
		if *date != "" {
			if c.Date, err = calendar.ParseDate(*date); err != nil {
				return usageError{fmt.Errorf("--date: %w", err)}
			}
		}
		switch {
		case c.Date == 0:
			return usageError{fmt.Errorf("--date: name the file's date; %s does not say it", filepath.Base(args[0]))}
		case named != 0 && named != c.Date:
			return usageError{fmt.Errorf("--date: %s is of %s by its name, not of %s", filepath.Base(args[0]), named, c.Date)}
		}
		if c.Content, err = readUpTo(args[0], 4<<20); err != nil {
			return err
		}
		var a disputeAnswer
		if err := send(cmd, &c, &a); err != nil {
			return err
		}
		d := a.Imported
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d items: %d taken, %d of ours in return, %d of no payment known here, %d that do not fit their case\n", d.Items, d.Taken, d.Ours, d.Unknown, d.Unfit)
		return err
	}
	return cmd
}

// readUpTo reads a file that may not be longer.
func readUpTo(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return b, errors.Join(err, f.Close())
}

func newMissed() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "acquirer_dispute_missed_total",
		Help: "Disputes that we did not answer by their last day: retrievals, which forfeits the representment, and others, which are lost."})
}

// caseGauge counts the cases that are not over, and says when the next one of
// ours is due.
type caseGauge struct {
	e          *dispute.Engine
	cases, due *prometheus.Desc
}

func newCaseGauge(e *dispute.Engine) *caseGauge {
	return &caseGauge{e: e, cases: prometheus.NewDesc("acquirer_dispute_cases", "Disputes that are not over, by stage and state; open ones are ours to answer.", []string{"stage", "state"}, nil),
		due: prometheus.NewDesc("acquirer_dispute_due_seconds", "Until the end of the last day on which the next open dispute can be answered; below zero when it is over. +Inf when none is open.", nil, nil)}
}

// Describe implements prometheus.Collector.
func (g *caseGauge) Describe(ch chan<- *prometheus.Desc) { ch <- g.cases; ch <- g.due }

// Collect implements prometheus.Collector.
func (g *caseGauge) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts, next, err := g.e.Standing(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(g.cases, err)
		return
	}
	for _, stage := range []dispute.Stage{dispute.Retrieval, dispute.Chargeback, dispute.Second, dispute.PreArbitration} {
		for _, state := range []dispute.State{dispute.Open, dispute.Answered} {
			ch <- prometheus.MustNewConstMetric(g.cases, prometheus.GaugeValue, float64(counts[stage][state]), string(stage), string(state))
		}
	}
	left := math.Inf(1)
	if next != 0 {
		left = time.Until(next.AddDays(1).Time()).Seconds()
	}
	ch <- prometheus.MustNewConstMetric(g.due, prometheus.GaugeValue, left)
}

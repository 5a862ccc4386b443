package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/settlement"
	"acquirer/settlement/reconcile"
	"acquirer/store"
)

// reconciler compares the books with what others have on theirs.
func reconciler(db *store.DB, cfg Config, j *journal.Journal, books *settlement.Engine) (*reconcile.Engine, error) {
	fee, err := money.Parse(cfg.Clearing.FeeLimit)
	if err != nil {
		return nil, fmt.Errorf("clearing.fee_limit: %w", err)
	}
	stop, err := money.Parse(cfg.Clearing.StopAbove)
	if err != nil {
		return nil, fmt.Errorf("clearing.stop_above: %w", err)
	}
	rc := reconcile.Config{DB: db, Books: books, ID: journal.IDOf, Acquirer: cfg.Switch.Acquirer, Account: cfg.Settlement.Account, Age: cfg.Clearing.Age, FeeLimit: fee, StopAbove: stop,
		Journal: seenInJournal(j), Began: j.Began, Terminals: terminalBreaks(j), ResolveTerminal: j.Resolve}
	for _, name := range splitList(cfg.Clearing.Sources) {
		rc.Sources = append(rc.Sources, reconcile.Source{Name: name, Wallet: slices.Contains(routing.Wallets, name)})
	}
	return reconcile.New(rc)
}

// seenInJournal says what became of a transaction that is not on the books.
func seenInJournal(j *journal.Journal) func(context.Context, string) (reconcile.Seen, error) {
	return func(ctx context.Context, rrn string) (reconcile.Seen, error) {
		id, ok := journal.IDOf(rrn)
		if !ok {
			return reconcile.Nothing, nil
		}
		e, err := j.Get(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return reconcile.Nothing, nil
		case err != nil:
			return "", err
		case e.TakenBack():
			return reconcile.WasReversed, nil
		}
		switch e.State() {
		case journal.StateApproved:
			return reconcile.WasApproved, nil
		case journal.StateDeclined:
			return reconcile.WasDeclined, nil
		}
		return reconcile.IsUndecided, nil
	}
}

// terminalBreaks lists what terminals' batches say otherwise.
func terminalBreaks(j *journal.Journal) func(context.Context) ([]reconcile.Terminal, error) {
	return func(ctx context.Context) ([]reconcile.Terminal, error) {
		all, err := j.Breaks(ctx, 10_000)
		if err != nil {
			return nil, err
		}
		out := make([]reconcile.Terminal, len(all))
		for i, u := range all {
			out[i] = reconcile.Terminal{ID: u.ID, Date: u.Day, Terminal: u.Terminal, Merchant: u.Merchant, Amount: u.Amount,
				RRN: fmt.Sprintf("batch %06d trace %06d", u.Batch, u.STAN), What: string(u.What)}
		}
		return out, nil
	}
}

// dateInName finds 2026-11-20 or 20261120 in a file's name, or the 261120 of
// UnionPay's INN261120...
var dateInName = regexp.MustCompile(`(20\d\d)-?(\d\d)-?(\d\d)|INN(\d\d)(\d\d)(\d\d)`)

// sourceOf reads from a file's place and name whose it is and of which day:
// INBOX/SOURCE/...DATE... Clearing files and statements say it themselves.
func sourceOf(inbox, path string) (source string, date calendar.Date, err error) {
	rel, err := filepath.Rel(inbox, path)
	if err != nil {
		return "", 0, err
	}
	if dir := filepath.Dir(rel); dir != "." {
		source = dir
	}
	if m := dateInName.FindStringSubmatch(filepath.Base(path)); m != nil {
		text := m[1] + "-" + m[2] + "-" + m[3]
		if m[1] == "" {
			text = "20" + m[4] + "-" + m[5] + "-" + m[6]
		}
		if date, err = calendar.ParseDate(text); err != nil {
			return "", 0, fmt.Errorf("%s: the date in its name: %w", path, err)
		}
	}
	return source, date, nil
}

// cameIn says what became of a file of the inbox.
type cameIn struct {
	Name   string        `json:"name"`
	Source string        `json:"source,omitempty"`
	Date   calendar.Date `json:"date,omitzero"`
	Lines  int           `json:"lines"`
	Net    money.Amount  `json:"net"`
	Why    string        `json:"refused,omitempty"`
}

// settleBefore is how old a file must be before it is taken: whoever writes it
// in place may still be at it. Files that are moved in are whole at once.
const settleBefore = 2 * time.Second

// takeFiles loads the files of the inbox and moves them to accepted or, with
// the reason beside them, to refused.
func takeFiles(ctx context.Context, e *reconcile.Engine, inbox string, now time.Time) (all []cameIn, err error) {
	err = filepath.WalkDir(inbox, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != inbox && (d.Name() == "accepted" || d.Name() == "refused"):
			return filepath.SkipDir
		case d.IsDir() || strings.HasPrefix(d.Name(), "."):
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < settleBefore {
			return err
		}
		t, why := takeFile(ctx, e, inbox, path, now)
		if errors.Is(why, fs.ErrNotExist) {
			return nil // another node has taken it
		}
		if why != nil && !refuses(why) {
			return why // the store's trouble, or the end: the file stays
		}
		t.Name = d.Name()
		if why != nil {
			t.Why = why.Error()
		}
		all = append(all, t)
		return putAway(inbox, path, why)
	})
	if err != nil {
		return all, fmt.Errorf("the folder of clearing files: %w", err)
	}
	return all, nil
}

func takeFile(ctx context.Context, e *reconcile.Engine, inbox, path string, now time.Time) (t cameIn, err error) {
	source, date, err := sourceOf(inbox, path)
	if err != nil {
		return t, badFile{err}
	}
	f, end, err := e.OpenFile(path, source, date)
	if err != nil {
		return t, badFile{err}
	}
	totals, err := e.Load(ctx, f, now)
	if errors.Is(err, reconcile.ErrUnmoved) {
		// It counts, and only was not moved away, if it does not lie there.
		if _, bad := os.Lstat(filepath.Join(inbox, "accepted", f.Name)); errors.Is(bad, fs.ErrNotExist) {
			err = nil
		}
	}
	return cameIn{Source: f.Source, Date: f.Date, Lines: totals.Count, Net: totals.Net}, errors.Join(err, end())
}

// badFile is a file that cannot even be recognised.
type badFile struct{ error }

func (b badFile) Unwrap() error { return b.error }

// refuses reports whether an error is the file's and not the house's.
func refuses(err error) bool {
	var bad badFile
	return errors.As(err, &bad) || errors.Is(err, reconcile.ErrFile)
}

func putAway(inbox, path string, why error) error {
	folder := "accepted"
	if why != nil {
		folder = "refused"
	}
	to := filepath.Join(inbox, folder)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	name := filepath.Join(to, filepath.Base(path))
	for n := 2; ; n++ { // never over another
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = filepath.Join(to, fmt.Sprintf("%s.%d", filepath.Base(path), n))
	}
	if why != nil {
		if err := os.WriteFile(name+".why", []byte(why.Error()+"\n"), 0o600); err != nil {
			return err
		}
	}
	fault.Hit("inbox.put_away.before")
	if err := os.Rename(path, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fault.Hit("inbox.put_away.after")
	return nil
}

// reconcileDue takes the files that have come and compares the days that have
// all of theirs.
func (v *house) reconcileDue(ctx context.Context, now time.Time) error {
	if v.recon == nil || v.cfg.Clearing.Inbox == "" {
		return nil
	}
	came, err := takeFiles(ctx, v.recon, v.cfg.Clearing.Inbox, now)
	for _, t := range came {
		if t.Why != "" {
			v.refusedFiles.Inc()
			v.log.Error("a clearing file was refused", "file", t.Name, "why", t.Why)
			continue
		}
		v.log.Info("a clearing file came", "file", t.Name, "source", t.Source, "date", t.Date.String(), "lines", t.Lines, "net", t.Net.String())
	}
	if err != nil {
		return err
	}
	days, err := v.recon.Due(ctx, now)
	if err != nil {
		return err
	}
	for _, date := range days {
		day, err := v.recon.Compare(ctx, date, now)
		if err != nil {
			return err
		}
		v.log.Info("a day was compared", "date", date.String(), "ours", day.Ours, "theirs", day.Theirs, "matched", day.Matched, "breaks", day.Breaks, "open", day.Open)
	}
	return nil
}

// openReconciler makes the reconciler and its metrics.
func (v *house) openReconciler() (err error) {
	if inbox := v.cfg.Clearing.Inbox; inbox != "" {
		if err := os.MkdirAll(inbox, 0o700); err != nil {
			return fmt.Errorf("clearing.inbox: %w", err)
		}
	}
	if v.recon, err = reconciler(v.db, v.cfg, v.journal, v.books); err != nil {
		return err
	}
	v.refusedFiles = prometheus.NewCounter(prometheus.CounterOpts{Name: "acquirer_clearing_files_refused_total",
		Help: "Files of networks, wallets and the bank that were refused whole."})
	v.waiting = prometheus.NewGauge(prometheus.GaugeOpts{Name: "acquirer_business_date_waits",
		Help: "1 while an ended business date is not settled: it waits for files or signatures, or closing it fails."})
	v.metrics.MustRegister(v.refusedFiles, v.waiting, &breakGauge{v: v, desc: prometheus.NewDesc("acquirer_reconcile_breaks",
		"Differences to the books of others that are not resolved, by kind and state.", []string{"kind", "state"}, nil)})
	return nil
}

// breakGauge counts what is not resolved, at the moment of asking.
type breakGauge struct {
	v    *house
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (g *breakGauge) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

// Collect implements prometheus.Collector.
func (g *breakGauge) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts, err := g.v.recon.Standing(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(g.desc, err)
		return
	}
	for _, kind := range reconcile.Kinds {
		for _, state := range []reconcile.State{reconcile.Waiting, reconcile.Open} {
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(counts[kind][state]), string(kind), state.String())
		}
	}
}

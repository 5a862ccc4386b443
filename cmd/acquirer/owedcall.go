package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/journal"
	"acquirer/store"
)

// owedCall is what a person asks of the list of what is owed.
type owedCall struct {
	Do   string `json:"do"` // list, retry or resolve
	RRN  string `json:"rrn,omitempty"`
	Note string `json:"note,omitempty"` // of resolve: who confirmed it
}

// owedAnswer is what became of it.
type owedAnswer struct {
	Rows []owedRow `json:"rows,omitempty"`
	Said string    `json:"said,omitempty"`
}

func (c *owedCall) name() string { return "owed" }

func (c *owedCall) run(ctx context.Context, db *store.DB, _ Config, who string) (any, error) {
	a, err := c.do(ctx, db, who)
	return a, err
}

// do does what was asked. What changes something is in the operators' log in
// the same write.
func (c *owedCall) do(ctx context.Context, db *store.DB, who string) (a owedAnswer, err error) {
	j := journal.New(db, nil)
	if c.Do == "list" {
		for _, s := range [...]journal.State{journal.Manual, journal.Owed} {
			some, err := j.DebtList(ctx, s, 10_000)
			if err != nil {
				return a, err
			}
			for _, e := range some {
				a.Rows = append(a.Rows, owedRowOf(e))
			}
		}
		return a, nil
	}
	e, err := owedByRRN(ctx, j, c.RRN)
	if err != nil {
		return a, err
	}
	record := recorded(who, "owed "+c.Do, "RRN "+e.RRN, c.Note)
	switch c.Do {
	case "retry":
		if e.Debt.State != journal.Manual {
			return a, fmt.Errorf("the %s of %s is %s: only one that was left to a person is sent again", whatIsOwed(e), e.RRN, standsAs(e))
		}
		a.Said = fmt.Sprintf("the %s of %s is owed again; acquirer serve sends it at once", whatIsOwed(e), e.RRN)
		return a, j.Resume(ctx, e.Debt.ID, time.Now(), record)
	case "resolve":
		if s := e.Debt.State; s != journal.Manual && s != journal.Owed {
			return a, fmt.Errorf("the %s of %s is %s already", whatIsOwed(e), e.RRN, standsAs(e))
		}
		a.Said = fmt.Sprintf("the %s of %s is settled", whatIsOwed(e), e.RRN)
		return a, j.Acknowledge(ctx, e.Debt.ID, "by hand: "+c.Note, record)
	}
	return a, usageError{fmt.Errorf("%q is nothing that can be done with what is owed: list, retry or resolve", c.Do)}
}

// askOwed does what was asked where the database is open.
func askOwed(cmd *cobra.Command, c owedCall) (a owedAnswer, err error) {
	return a, send(cmd, &c, &a)
}

// owedByRRN finds a transaction for which something is or was owed. An RRN of this
// house is the journal's id in base 36.
func owedByRRN(ctx context.Context, j *journal.Journal, rrn string) (*journal.Entry, error) {
	rrn = strings.ToUpper(rrn)
	id, err := strconv.ParseInt(rrn, 36, 64)
	if err != nil {
		return nil, usageError{fmt.Errorf("%q is not an RRN of this house: 12 letters and digits", rrn)}
	}
	e, err := j.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.RRN != rrn {
		return nil, fmt.Errorf("no transaction has the RRN %s", rrn)
	}
	if err == nil && e.Debt == nil {
		err = fmt.Errorf("the transaction %s is %s: nothing is owed for it", rrn, e.State())
	}
	return e, err
}

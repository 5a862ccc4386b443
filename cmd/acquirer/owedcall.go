package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/audit"
	"acquirer/journal"
	"acquirer/store"
)

// owedCall is what a person asks of the list of what is owed.
type owedCall struct {
	Do   string `json:"do"` // list, retry or resolve
	RRN  string `json:"rrn,omitempty"`
	Note string `json:"note,omitempty"` // of resolve: who confirmed it
	Who  string `json:"who"`            // asks
}

// owedAnswer is what became of it.
type owedAnswer struct {
	Rows  []owedRow `json:"rows,omitempty"`
	Said  string    `json:"said,omitempty"`
	Error string    `json:"error,omitempty"` // of the process that was asked
	Usage bool      `json:"usage,omitempty"` // the error is in how it was asked
}

// run does what was asked where the database is open. What changes
// something is in the operators' log in the same write.
func (c owedCall) run(ctx context.Context, db *store.DB) (a owedAnswer, err error) {
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
	record := func(tx store.Tx) error {
		_, err := audit.Record(tx, audit.Entry{Who: c.Who, From: "command line", Op: "owed " + c.Do, Subject: "RRN " + e.RRN, Detail: c.Note, Result: audit.Done})
		return err
	}
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

// askOwed does what was asked: on the database itself, or, when acquirer serve
// has an embedded one, through that process.
func askOwed(cmd *cobra.Command, c owedCall) (a owedAnswer, err error) {
	c.Who = whoRuns()
	err = withDatabase(cmd, func(ctx context.Context, db *store.DB) error {
		a, err = c.run(ctx, db)
		return err
	})
	if !errors.Is(err, store.ErrInUse) {
		return a, err
	}
	cfg, bad := loadConfig(cmd.Flags())
	if bad != nil {
		return a, bad
	}
	if a, bad = c.through(cmd.Context(), doorOf(cfg)); bad != nil {
		return a, fmt.Errorf("%w; and that process was asked in vain: %w", err, bad)
	}
	switch {
	case a.Usage:
		return a, usageError{errors.New(a.Error)}
	case a.Error != "":
		return a, errors.New(a.Error)
	}
	return a, nil
}

// doorOf is the file that says how a running process is asked: beside its
// embedded database, or else beside its HSM's file, under the number of its node.
func doorOf(cfg Config) string {
	if path, embedded := strings.CutPrefix(cfg.Database, "sqlite:"); embedded {
		return path + ".door"
	}
	return filepath.Join(filepath.Dir(cfg.HSM.File), fmt.Sprintf("acquirer-%d.door", cfg.Node))
}

// door is what stands in that file: only who may read the files of the house
// may read it.
type door struct {
	URL   string `json:"url"` // of the admin listener
	Token string `json:"token"`
}

// openedDoor reads the file.
func openedDoor(path string) (d door, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// openDoor lets who may read the database's files ask this process through
// the admin listener, and returns what to check there and how to close it
// again.
func openDoor(cfg Config, admin string) (token string, shut func() error, err error) {
	path := doorOf(cfg)
	d := door{URL: "http://" + admin, Token: rand.Text()}
	text, err := json.Marshal(d)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", nil, fmt.Errorf("the file that lets acquirer owed and acquirer lines ask this process: %w", err)
	}
	return d.Token, func() error { return os.Remove(path) }, nil
}

// through asks the process that has the database.
func (c owedCall) through(ctx context.Context, path string) (a owedAnswer, err error) {
	d, err := openedDoor(path)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	body, err := json.Marshal(c)
	if err != nil {
		return a, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL+"/owed", bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Authorization", "Bearer "+d.Token)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("%s answered %s", d.URL, resp.Status)
	}
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// behindDoor answers who has the token. It is needed: other users of this
// machine reach the listener too, and pages in their browsers.
func behindDoor(token, command string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		given := []byte(r.Header.Get("Authorization"))
		if token == "" || subtle.ConstantTimeCompare(given, []byte("Bearer "+token)) != 1 {
			http.Error(w, "only "+command+" asks here, with what stands in the file beside the database", http.StatusUnauthorized)
			return
		}
		h(w, r)
	}
}

// serveOwed is the process's side.
func serveOwed(db *store.DB, token string, log *slog.Logger) http.HandlerFunc {
	return behindDoor(token, "acquirer owed", func(w http.ResponseWriter, r *http.Request) {
		var c owedCall
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.Who = cmp.Or(c.Who, "somebody who may read the database's files")
		a, err := c.run(r.Context(), db)
		if err != nil {
			var usage usageError
			a = owedAnswer{Error: err.Error(), Usage: errors.As(err, &usage)}
		} else if c.Do != "list" {
			log.Warn("what is owed was changed by hand", "who", c.Who, "did", c.Do, "rrn", strings.ToUpper(c.RRN), "note", c.Note)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if err := json.NewEncoder(w).Encode(a); err != nil {
			log.Debug("answering acquirer owed", "error", err.Error())
		}
	})
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

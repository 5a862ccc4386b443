package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/audit"
	"acquirer/fault"
	"acquirer/routing"
	"acquirer/store"
)

// issuers answers what every issuer's lines are doing.
func (a *admin) issuers(w http.ResponseWriter, r *http.Request) {
	states := []routing.State{}
	for _, name := range slices.Sorted(maps.Keys(a.v.legs)) {
		states = append(states, a.v.legs[name].Issuer.State())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(states); err != nil {
		a.v.log.Debug("whoever asked for the issuers went away", "error", err.Error())
	}
}

// order drains or resumes an issuer, or its line of the query.
func (a *admin) order(w http.ResponseWriter, r *http.Request) {
	name, order := r.PathValue("name"), r.PathValue("order")
	leg, ok := a.v.legs[name]
	if !ok {
		http.Error(w, fmt.Sprintf("no issuer is called %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(a.v.legs)), ", ")), http.StatusNotFound)
		return
	}
	line := 0
	if text := r.URL.Query().Get("line"); text != "" {
		var err error
		if line, err = strconv.Atoi(text); err != nil || line < 1 {
			http.Error(w, fmt.Sprintf("line %q is not a number from 1", text), http.StatusBadRequest)
			return
		}
	}
	act := map[string]func(int) error{"drain": leg.Issuer.Drain, "resume": leg.Issuer.Resume}[order]
	if act == nil {
		http.Error(w, fmt.Sprintf("order %q is neither drain nor resume", order), http.StatusNotFound)
		return
	}
	if line > leg.Issuer.Lines() {
		http.Error(w, fmt.Sprintf("issuer %s has lines 1 to %d and no line %d", name, leg.Issuer.Lines(), line), http.StatusBadRequest)
		return
	}
	// It is written down first: what nobody could answer for is not done.
	e := audit.Entry{Who: whoAsks(r), From: "command line, " + r.RemoteAddr, Op: "lines " + order, Subject: name, Result: audit.Done}
	lines := []int{line}
	if line > 0 {
		e.Detail = fmt.Sprintf("line %d", line)
	} else {
		lines = lines[:0]
		for n := range leg.Issuer.Lines() {
			lines = append(lines, n+1)
		}
	}
	fault.Hit("lines.order.before")
	err := a.v.db.Write(r.Context(), func(tx store.Tx) error {
		for _, n := range lines {
			sql := "delete from drained_line where node = $1 and issuer = $2 and line = $3"
			if order == "drain" {
				sql = "insert into drained_line (node, issuer, line) values ($1, $2, $3) on conflict do nothing"
			}
			if _, err := tx.Exec(sql, int64(store.Node()), name, int64(n)); err != nil {
				return err
			}
		}
		_, err := audit.Record(tx, e)
		return err
	})
	fault.Hit("lines.order.after")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err := act(line); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.say(w, nil)
}

// linesSchema remembers which lines of a node were taken out of service: a
// restart does not put them back.
var linesSchema = store.Schema{Name: "lines", Steps: []string{`
create table drained_line (
	node   INTEGER NOT NULL,
	issuer TEXT NOT NULL,
	line   INTEGER NOT NULL, -- from 1, as the seed lists them
	primary key (node, issuer, line)
)`}}

// drainedLines are the lines of this node that are out of service, by issuer.
func drainedLines(ctx context.Context, db *store.DB) (map[string][]int, error) {
	drained := map[string][]int{}
	err := db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select issuer, line from drained_line where node = $1", int64(store.Node()))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var line int64
			if err := rows.Scan(&name, &line); err != nil {
				return err
			}
			drained[name] = append(drained[name], int(line))
		}
		return rows.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("which lines are out of service: %w", err)
	}
	return drained, nil
}

// newLinesCmd is `acquirer lines`: what the lines of a running switch do, and
// orders to them.
func newLinesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lines",
		Short: "The lines to issuers of a running switch: list them, take one out of service, put it back",
		Long: `lines asks the running acquirer serve of the same configuration, on the machine
where it runs.

drain takes one line, or all lines of an issuer, out of service: it takes no more
requests, what is in flight ends, it signs off and is closed. With no other line
its transactions are answered 91, and what is owed waits. It stays so until
resume, also over a restart. With several nodes each has lines of its own.`,
		Example: "  acquirer lines list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLinesListCmd(), newLineOrderCmd("drain", "is being drained", "Take a line, or all of an issuer's, out of service"), newLineOrderCmd("resume", "is resumed", "Put a line, or all of an issuer's, back into service"))
	return cmd
}

func newLinesListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "What every line is doing",
		Example: "  acquirer lines list --json",
		Args:    cobra.NoArgs,
	}
	addConfigFlags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print one JSON array")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		body, err := askHouse(cmd, http.MethodGet, "/issuers")
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *asJSON {
			_, err := out.Write(body)
			return err
		}
		var states []routing.State
		if err := json.Unmarshal(body, &states); err != nil {
			return fmt.Errorf("lines: what the switch answered is not a list of issuers: %w", err)
		}
		return printLines(out, states)
	}
	return cmd
}

func newLineOrderCmd(order, done, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     order + " ISSUER",
		Short:   short,
		Example: fmt.Sprintf("  acquirer lines %s north\n  acquirer lines %s north --line 2", order, order),
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	line := cmd.Flags().Int("line", 0, "number of the line; 0 is all of the issuer's")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := "/issuers/" + url.PathEscape(args[0]) + "/" + order
		switch {
		case *line < 0:
			return usageError{fmt.Errorf("--line %d: lines are numbered from 1", *line)}
		case *line > 0:
			path += fmt.Sprintf("?line=%d", *line)
		}
		if _, err := askHouse(cmd, http.MethodPost, path); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s; acquirer lines list shows it\n", args[0], done)
		return err
	}
	return cmd
}

// askHouse asks the running switch of the configuration and gives what it
// answered.
func askHouse(cmd *cobra.Command, method, path string) ([]byte, error) {
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		return nil, err
	}
	d, err := openedDoor(doorOf(cfg))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no switch with this configuration runs here: %w", err)
	} else if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, d.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+d.Token)
	req.Header.Set(operatorHeader, whoRuns())
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no switch answers at %s: %w", d.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("the switch at %s: %w", d.URL, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the switch at %s: %s", d.URL, cmp.Or(strings.TrimSpace(string(body)), res.Status))
	}
	return body, nil
}

func printLines(w io.Writer, states []routing.State) error {
	for _, st := range states {
		for _, l := range st.Lines {
			does := "down"
			switch {
			case l.Drained && l.Connected:
				does = "draining"
			case l.Drained:
				does = "drained"
			case l.SignedOn:
				does = "up"
			case l.Connected:
				does = "connected"
			}
			if _, err := fmt.Fprintf(w, "%-12s %2d  %-21s  %-9s since %s  %4d in flight  %d drops  %s\n",
				st.Issuer, l.Line, l.Addr, does, l.Since.Format("01-02 15:04:05"), l.InFlight, l.Drops, l.LastError); err != nil {
				return err
			}
		}
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/audit"
	"acquirer/store"
)

// errand is what a command asks of the database, wherever it is open: in the
// command's own process, or, when acquirer serve has an embedded one, in that.
type errand interface {
	// name is the command's.
	name() string
	// run does what was asked, for a person. The answer is written as JSON. What
	// changes something is in the operators' log.
	run(ctx context.Context, db *store.DB, cfg Config, who string) (any, error)
}

// errands are those that a process does for others.
var errands = map[string]func() errand{
	"account":   func() errand { return &accountCall{} },
	"credit":    func() errand { return &creditCall{} },
	"audit":     func() errand { return &auditCall{} },
	"fees":      func() errand { return &feesCall{} },
	"ledger":    func() errand { return &ledgerCall{} },
	"owed":      func() errand { return &owedCall{} },
	"payout":    func() errand { return &payoutCall{} },
	"dispute":   func() errand { return &disputeCall{} },
	"reconcile": func() errand { return &reconcileCall{} },
	"settle":    func() errand { return &termsCall{} },
}

// reply is what a process says of an errand.
type reply struct {
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  string          `json:"error,omitempty"`
	Usage  bool            `json:"usage,omitempty"` // the error is in how it was asked
}

// errandTime is how long a command waits for another process.
const errandTime = 5 * time.Minute

// errandRun makes cmd do an errand and print its answer of type A: in words, or
// as JSON when it is asked to.
func errandRun[A any](cmd *cobra.Command, call func(args []string) (errand, error), words func(a *A, w io.Writer) error) *cobra.Command {
	asJSON := cmd.Flags().Bool("json", false, "print the answer as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := call(args)
		if err != nil {
			return err
		}
		var a A
		if err := send(cmd, c, &a); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(a)
		}
		return words(&a, cmd.OutOrStdout())
	}
	return cmd
}

// recorded puts what a person's command does into the operators' log, in the
// same write.
func recorded(who, op, subject, detail string) func(tx store.Tx) error {
	return func(tx store.Tx) error {
		_, err := audit.Record(tx, audit.Entry{Who: who, From: "command line", Op: op, Subject: subject, Detail: detail, Result: audit.Done})
		return err
	}
}

// send does an errand on the database, or through the process that has it, and
// fills in the answer.
func send(cmd *cobra.Command, e errand, answer any) error {
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		return err
	}
	var text []byte
	err = withDatabase(cmd, func(ctx context.Context, db *store.DB) error {
		a, err := e.run(ctx, db, cfg, whoRuns())
		if err != nil {
			return err
		}
		text, err = json.Marshal(a)
		return err
	})
	if keptByAnother(err) {
		r, bad := sendThrough(cmd.Context(), doorOf(cfg), e)
		switch {
		case bad != nil:
			return fmt.Errorf("%w; and that process was asked in vain: %w", err, bad)
		case r.Usage:
			return usageError{errors.New(r.Error)}
		case r.Error != "":
			return errors.New(r.Error)
		}
		text, err = r.Answer, nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

// keptByAnother says that the database was not opened because the running
// process has it, or because it is another user's who runs that process.
func keptByAnother(err error) bool {
	return errors.Is(err, store.ErrInUse) || errors.Is(err, fs.ErrPermission)
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
	mode := fs.FileMode(0o600)
	if info, bad := os.Stat(filepath.Dir(path)); bad == nil && info.Mode()&fs.ModeSetgid != 0 {
		mode = 0o640 // the file gets the folder's group: its people may ask, each under the own name
	}
	if err == nil {
		err = os.WriteFile(path, text, mode)
	}
	if err == nil {
		err = os.Chmod(path, mode) // whatever the mask is, and what a killed process left
	}
	if err != nil {
		return "", nil, fmt.Errorf("the file that lets commands ask this process: %w", err)
	}
	return d.Token, func() error { return os.Remove(path) }, nil
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

// refusal is a process's answer that it does not do what it was asked.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("it answered %d: %s", r.status, r.text) }

// knock asks the process that has the database for something. The body of the
// answer is the caller's to close.
func knock(ctx context.Context, path, what string, ask any) (*http.Response, error) {
	d, err := openedDoor(path)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL+"/"+what, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+d.Token)
	req.Header.Set(operatorHeader, whoRuns())
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		text, bad := io.ReadAll(io.LimitReader(resp.Body, 4096))
		err = errors.Join(&refusal{resp.StatusCode, strings.TrimSpace(string(text))}, bad, resp.Body.Close())
	}
	return resp, err
}

func sendThrough(ctx context.Context, path string, e errand) (r reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, errandTime)
	defer cancel()
	resp, err := knock(ctx, path, "errand/"+e.name(), e)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

// doErrands is the process's side.
func doErrands(db *store.DB, cfg Config, token string, log *slog.Logger) http.HandlerFunc {
	return behindDoor(token, "a command of acquirer", func(w http.ResponseWriter, r *http.Request) {
		fresh := errands[r.PathValue("errand")]
		if fresh == nil {
			http.Error(w, "no such errand", http.StatusNotFound)
			return
		}
		e := fresh()
		if err := json.NewDecoder(io.LimitReader(r.Body, 8<<20)).Decode(e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		who := whoAsks(r)
		w.Header().Set("Cache-Control", "no-store")
		a, err := e.run(r.Context(), db, cfg, who)
		var out reply
		if err == nil {
			out.Answer, err = json.Marshal(a)
		}
		if err != nil {
			var usage usageError
			out = reply{Error: err.Error(), Usage: errors.As(err, &usage)}
		}
		log.Info("an errand was done for a command", "command", e.name(), "who", who, "error", out.Error)
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(out); err != nil {
			log.Debug("answering a command", "command", e.name(), "error", err.Error())
		}
	})
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"acquirer/hsm"
	"acquirer/hsm/audit"
	"acquirer/hsm/harden"
	"acquirer/hsm/remote"
	"acquirer/store"
)

const defaultSocket = "data/hsm/hsm.sock"

// socketServe is `acquirer hsm serve --socket`: the software HSM in a process
// of its own.
type socketServe struct {
	socket, file, passphraseFile, group, logFile string
}

func (s *socketServe) run(cmd *cobra.Command) (err error) {
	log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
	group, err := groupID(s.group)
	if err != nil {
		return usageError{err}
	}
	shape := harden.Process() // before a key is here
	for _, m := range shape.Missing {
		log.Warn("hardening", "missing", m)
	}
	l, err := audit.Open(auditFile(s.file, s.logFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	vault, err := remote.NewVault(s.file, l, shape)
	if err != nil {
		return err
	}
	if err := l.Append(audit.Entry{Op: "start", Who: whoRuns(), Note: "process " + strconv.Itoa(os.Getpid())}); err != nil {
		return err
	}
	k, err := hsm.ReadKeyFile(s.file)
	if err != nil {
		return err
	}
	if k.Custodians == nil && (s.passphraseFile != "" || os.Getenv(passphraseVariable) != "") {
		pass, err := readPassphrase(s.passphraseFile)
		if err != nil {
			return err
		}
		err = vault.Unlock(whoRuns(), pass)
		clear(pass)
		if err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(s.socket)), 0o700); err != nil {
		return err
	}
	cfg := remote.Config{Vault: vault, Socket: s.socket, Group: group, Log: log}
	listener, err := remote.Listen(cfg)
	if err != nil {
		return err
	}
	status, err := vault.Status()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	log.Info("listening", "socket", s.socket, "sealed", status.Sealed, "opened_by", status.OpenedBy)
	err = cfg.ServeOn(cmd.Context(), listener)
	return errors.Join(err, l.Append(audit.Entry{Op: "stop", Who: whoRuns(), Note: "process " + strconv.Itoa(os.Getpid())}))
}

func groupID(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	id, err := strconv.Atoi(name)
	if err != nil {
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, fmt.Errorf("--group: %w", err)
		}
		if id, err = strconv.Atoi(g.Gid); err != nil {
			return 0, fmt.Errorf("--group: %s has the number %q", name, g.Gid)
		}
	}
	if id < 1 {
		return 0, fmt.Errorf("--group: %s is root's group, or none", name)
	}
	return id, nil
}

// served fails when nobody listens on socket: a person at the keyboard hears that
// at once, while a client waits for the HSM as long as its deadline.
func served(ctx context.Context, socket string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("no HSM listens on %s; start acquirer hsm serve, or name its socket: %w", socket, err)
	}
	return conn.Close()
}

// withSocket runs a command against the HSM's process.
func withSocket(cmd *cobra.Command, socket string, do func(c *remote.Client) error) error {
	if err := served(cmd.Context(), socket); err != nil {
		return err
	}
	c := remote.Dial(remote.DialConfig{Socket: socket, Connections: 1, Timeout: 30 * time.Second})
	return errors.Join(do(c), c.Close())
}

func newHSMUnsealCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unseal",
		Short: "Enter a custodian's component, or the passphrase, into the HSM's process",
		Long: `unseal gives the HSM's process (hsm serve) a component. Custodians come one after
the other, each alone at the keyboard; when as many as are needed were there, the
HSM opens. Entered into an HSM that is open, components allow a change of the
master key (hsm rotate) for ten minutes.

With neither --component nor --passphrase-file, the component of --custodian is
asked for and not shown.`,
		Example: `  acquirer hsm unseal --custodian alice
  acquirer hsm unseal --custodian bob --component bob.component
  acquirer hsm unseal --passphrase-file pass`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	socket := f.String("socket", defaultSocket, "socket of acquirer hsm serve")
	passphraseFile := f.String("passphrase-file", "", "file with the passphrase on its only line")
	names := f.StringArray("custodian", nil, "whose component it is")
	components := f.StringArray("component", nil, "file with the component, or - for the terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(*components) == 0 && len(*names) == 1 {
			*components = []string{"-"}
		}
		if len(*components) == 0 {
			pass, err := readPassphrase(*passphraseFile)
			if err != nil {
				return err
			}
			defer clear(pass)
			return withSocket(cmd, *socket, func(c *remote.Client) error {
				if err := c.Unlock(cmd.Context(), pass); err != nil {
					return err
				}
				return sayStatus(cmd, c)
			})
		}
		whom, err := pairs(*names, *components)
		if err != nil {
			return err
		}
		return withSocket(cmd, *socket, func(c *remote.Client) error {
			for i, file := range *components {
				part, err := readMasterComponent(cmd, whom[i], file)
				if err != nil {
					return err
				}
				_, err = c.EnterComponent(cmd.Context(), part.Custodian, part.Value[:])
				clear(part.Value[:])
				if err != nil {
					return err
				}
			}
			return sayStatus(cmd, c)
		})
	}
	return cmd
}

// sayStatus says in a line how the HSM stands now.
func sayStatus(cmd *cobra.Command, c *remote.Client) error {
	s, err := c.Status(cmd.Context())
	if err != nil {
		return err
	}
	switch {
	case s.Sealed && len(s.Entered) > 0:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "sealed; entered so far: %s (%s are needed)\n", strings.Join(s.Entered, ", "), s.OpenedBy)
	case s.Sealed:
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "sealed")
	case len(s.Authorised) > 0:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "open; %s stand by for a change of the master key until %s\n", strings.Join(s.Authorised, ", "), s.Until.Local().Format(time.TimeOnly))
	case len(s.Entered) > 0:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "open; entered for a change of the master key: %s (%s are needed)\n", strings.Join(s.Entered, ", "), s.OpenedBy)
	default:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "open; master key %s\n", s.Masters[0][:6])
	}
	return err
}

func newHSMSealCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "seal",
		Short:   "Take the master key out of the memory of the HSM's process",
		Example: `  acquirer hsm seal --socket data/hsm/hsm.sock`,
		Args:    cobra.NoArgs,
	}
	socket := cmd.Flags().String("socket", defaultSocket, "socket of acquirer hsm serve")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withSocket(cmd, *socket, func(c *remote.Client) error {
			if err := c.Seal(cmd.Context()); err != nil {
				return err
			}
			return sayStatus(cmd, c)
		})
	}
	return cmd
}

// hsmStatus is what status prints as JSON.
type hsmStatus struct {
	remote.Status
	Keys     []useStatus `json:"keys"`
	Registry string      `json:"registry,omitempty"` // why the keys are not counted
}

type useStatus struct {
	Use     string    `json:"use"`
	Count   int64     `json:"count"`
	Oldest  time.Time `json:"oldest"`
	Expires time.Time `json:"expires,omitzero"` // the first
}

func newHSMStatusCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "How the HSM stands: sealed or open, master key, keys by use, hardening, audit log",
		Long: `status asks the HSM's process (hsm.kind remote) or reads the master key file (hsm.kind
software, which is always in the switch's process). Keys are counted from the
registry in the database; an embedded one that acquirer serve has open is not
read, and /metrics has the same figures then (acquirer_hsm_keys).

Write the head of the audit log down where nobody with access to this machine
can change it: acquirer hsm audit verify --head finds a log that was set back.`,
		Example: `  acquirer hsm status --hsm-kind remote --hsm-socket data/hsm/hsm.sock
  acquirer hsm status --json`,
		Args: cobra.NoArgs,
	}
	addConfigFlags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print it as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(cmd.Flags())
		if err != nil {
			return err
		}
		var s hsmStatus
		if cfg.HSM.Kind == "remote" {
			err = withSocket(cmd, cfg.HSM.Socket, func(c *remote.Client) (err error) {
				s.Status, err = c.Status(cmd.Context())
				return err
			})
		} else {
			s.Status, err = statusOfFile(cfg)
		}
		if err != nil {
			return err
		}
		s.Keys = []useStatus{}
		if err := withStore(cmd.Context(), cfg, func(db *store.DB) error {
			uses, err := keysByUse(cmd.Context(), db)
			for _, u := range uses {
				one := useStatus{Use: u.Use, Count: u.Count, Oldest: time.UnixMicro(u.Oldest).UTC()}
				if u.Expires > 0 {
					one.Expires = time.UnixMicro(u.Expires).UTC()
				}
				s.Keys = append(s.Keys, one)
			}
			return err
		}); err != nil {
			s.Registry = err.Error()
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
		}
		return s.print(cmd.OutOrStdout())
	}
	return cmd
}

// statusOfFile is the status where there is no process of its own.
func statusOfFile(cfg Config) (remote.Status, error) {
	l, err := audit.Open(auditFile(cfg.HSM.File, cfg.HSM.Audit))
	if err != nil {
		return remote.Status{}, err
	}
	v, err := remote.NewVault(cfg.HSM.File, l, harden.Report{Missing: []string{"keys are in the switch's process; hsm.kind remote gives them one of their own"}})
	if err != nil {
		return remote.Status{}, errors.Join(err, l.Close())
	}
	s, err := v.Status()
	s.Process = 0
	return s, errors.Join(err, l.Close())
}

func (s hsmStatus) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := "open"
	switch {
	case s.Process == 0:
		state = "in its file"
	case s.Sealed:
		state = "sealed"
	}
	fmt.Fprintf(out, "master key\t%s, opened by %s\n", state, s.OpenedBy)
	for i, m := range s.Masters {
		what := "check value"
		if i > 0 {
			what = "old, unwraps only"
		}
		fmt.Fprintf(out, "%s\t%s\n", what, m[:6])
	}
	if len(s.Entered) > 0 {
		fmt.Fprintf(out, "entered\t%s\n", strings.Join(s.Entered, ", "))
	}
	if len(s.Authorised) > 0 {
		fmt.Fprintf(out, "authorised\t%s until %s\n", strings.Join(s.Authorised, ", "), s.Until.Format(time.RFC3339))
	}
	for _, u := range s.Keys {
		expires := "never expire"
		if !u.Expires.IsZero() {
			expires = "the first expires " + u.Expires.Format(time.DateOnly)
		}
		fmt.Fprintf(out, "%s\t%d keys, the oldest of %s, %s\n", u.Use, u.Count, u.Oldest.Format(time.DateOnly), expires)
	}
	if s.Registry != "" {
		fmt.Fprintf(out, "keys\tnot counted: %s\n", s.Registry)
	}
	if s.Process != 0 {
		fmt.Fprintf(out, "process\t%d since %s\nmemory\t%s\ncore dumps\t%s\nattaching\t%s\n", s.Process, s.Since.Format(time.RFC3339), s.Hardening.Memory, s.Hardening.CoreDumps, s.Hardening.Dumpable)
	} else {
		fmt.Fprintf(out, "hardening\t%s\n", strings.Join(s.Hardening.Missing, "; "))
	}
	fmt.Fprintf(out, "audit log\t%s\nits head\t%s\n", s.AuditFile, s.AuditHead)
	return out.Flush()
}

func newHSMAuditCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The log of what was done with keys",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	verify := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Find any line of the log that was changed, taken out, put in, moved or cut off",
		Long: `verify reads the log from its first line: each carries the hash of the one before
it and a MAC under a key of the master key file, and a counter file beside the
log knows how many there are. The MACs are checked with the master key file and
its passphrase, or by the HSM's process (--socket), which has the key; with
neither the chain alone is, which whoever can write the file can make anew, and
the result says so. A head that was written down earlier (hsm status prints it)
finds a log that was set back together with its counter file.

The exit status is 1 when the log is not what was written.`,
		Example: `  acquirer hsm audit verify data/hsm.key.audit --key-file data/hsm.key --passphrase-file pass
  acquirer hsm audit verify --socket data/hsm/hsm.sock`,
		Args: cobra.MaximumNArgs(1),
	}
	f := verify.Flags()
	socket := f.String("socket", "", "socket of acquirer hsm serve, which checks its own log")
	keyFile := f.String("key-file", "", "sealed master key file, for the key of the MACs")
	passphraseFile := f.String("passphrase-file", "", "file with its passphrase")
	head := f.String("head", "", "a head that was noted earlier, LINES:HASH")
	asJSON := f.Bool("json", false, "print the result as JSON")
	verify.RunE = func(cmd *cobra.Command, args []string) error {
		var r audit.Report
		var err error
		if *socket != "" {
			if len(args) > 0 || *keyFile != "" {
				return usageError{errors.New("--socket checks the log of the HSM's process; name no other file")}
			}
			err = withSocket(cmd, *socket, func(c *remote.Client) (err error) {
				r, err = c.VerifyAudit(cmd.Context(), *head)
				return err
			})
		} else {
			r, err = verifyFile(args, *keyFile, *passphraseFile, *head)
		}
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
		}
		macs := fmt.Sprintf("%d signed, %d written while the HSM was sealed", r.Signed, r.Unsigned)
		switch {
		case !r.Checked && *socket != "":
			macs = "MACs were not checked: the HSM is sealed"
		case !r.Checked:
			macs = "MACs were not checked: name --key-file or --socket"
		case r.Uncovered > 0:
			macs += fmt.Sprintf(", the last %d of them covered by the chain only", r.Uncovered)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "whole: %d lines; %s\nhead   %s\n", r.Lines, macs, r.Head)
		return err
	}
	cmd.AddCommand(verify)
	return cmd
}

func verifyFile(args []string, keyFile, passphraseFile, head string) (audit.Report, error) {
	noted := audit.Head{}
	var err error
	if head != "" {
		if noted, err = audit.ParseHead(head); err != nil {
			return audit.Report{}, usageError{err}
		}
	}
	var key []byte
	if keyFile != "" {
		k, err := hsm.ReadKeyFile(keyFile)
		if err != nil {
			return audit.Report{}, err
		}
		if k.Custodians != nil {
			return audit.Report{}, fmt.Errorf("hsm: %s: %w (%s): have the HSM's process check its log, with --socket", keyFile, hsm.ErrCustodians, k.Custodians)
		}
		pass, err := readPassphrase(passphraseFile)
		if err != nil {
			return audit.Report{}, err
		}
		defer clear(pass)
		r, err := k.Open(pass)
		if err != nil {
			return audit.Report{}, err
		}
		defer r.Wipe()
		key = r.AuditKey()
		defer clear(key)
	}
	file := auditFile(keyFile, "")
	if len(args) > 0 {
		file = args[0]
	} else if keyFile == "" {
		return audit.Report{}, usageError{errors.New("which log? Name its file, the master key file it stands beside, or --socket")}
	}
	return audit.Verify(file, key, noted)
}

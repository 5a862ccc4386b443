package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"acquirer/hsm"
	"acquirer/hsm/algo"
)

// passphraseVariable may hold the passphrase of the master key. A flag may
// not: other users of the machine can read the arguments of a process.
const passphraseVariable = "ACQUIRER_HSM_PASSPHRASE"

func newHSMCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hsm",
		Short: "The software HSM: its master key, and its algorithms against published vectors",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newHSMInitCmd(), newHSMFormCmd(), newHSMCheckCmd())
	return cmd
}

func newHSMInitCmd() *cobra.Command {
	var path, passphraseFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a master key and seal it into a new file",
		Long: `init makes a random AES-256 master key and seals it under a passphrase (Argon2id,
AES-256-GCM) into a file that must not exist yet. Every key that the switch
stores is wrapped under this master key: keep copies of the file, and the
passphrase apart from them. Losing either loses all keys.

The passphrase has at least ` + fmt.Sprint(hsm.MinPassphrase) + ` bytes and comes from the file named by
--passphrase-file (one line) or from the environment variable
` + passphraseVariable + `.`,
		Example: `  acquirer hsm init --file master-key.json --passphrase-file passphrase.txt
  ` + passphraseVariable + `=... acquirer hsm init --file master-key.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			passphrase, err := readPassphrase(passphraseFile)
			if err != nil {
				return err
			}
			defer clear(passphrase)
			s, err := hsm.Create(path, passphrase)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"file": path, "check_value": s.MasterCheckValue().Short()})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "master key with check value %s sealed in %s\n", s.MasterCheckValue().Short(), path)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&path, "file", "", "file to write, which must not exist")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase on its only line")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// readPassphrase takes the passphrase from a file, or from the environment
// when no file is named.
func readPassphrase(file string) ([]byte, error) {
	if file == "" {
		text, ok := os.LookupEnv(passphraseVariable)
		if !ok || text == "" {
			return nil, usageError{fmt.Errorf("no passphrase: name a file with --passphrase-file, or set %s", passphraseVariable)}
		}
		return []byte(text), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(text, "\r\n") {
		clear(text)
		return nil, fmt.Errorf("passphrase: %s has more than one line", file)
	}
	return text, nil
}

func newHSMCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE.json",
		Short: "Run published test vectors through the HSM's algorithms",
		Long: `check runs a file of test vectors, a JSON array of objects with op, inputs and
expected (hex and digits as text), and prints what passed, what failed with both
values, and which operations are not known. "-" reads standard input. The exit
status is 1 when a vector failed.`,
		Example: `  acquirer hsm check testdata/vectors/crypto.json
  acquirer hsm check vectors.json --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			vectors, err := readVectors(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			report := runVectors(vectors)
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(report)
			} else {
				err = report.print(cmd.OutOrStdout())
			}
			if err == nil && report.Failed > 0 {
				err = vectorsFailed{report.Failed, len(vectors)}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func readVectors(stdin io.Reader, name string) ([]algo.Vector, error) {
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(stdin)
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	vectors, err := algo.ReadVectors(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return vectors, nil
}

// vectorsFailed is the exit status of a check that found a difference; what
// failed is printed already.
type vectorsFailed struct{ failed, total int }

func (e vectorsFailed) Error() string {
	return fmt.Sprintf("%d of %d vectors failed", e.failed, e.total)
}

// ExitCode is 1: the command did its work, the answer is no.
func (e vectorsFailed) ExitCode() int { return 1 }

// vectorReport is what check prints.
type vectorReport struct {
	Passed     int             `json:"passed"`
	Failed     int             `json:"failed"`
	Unknown    int             `json:"unknown"`
	PassedOps  map[string]int  `json:"passed_ops"`
	UnknownOps map[string]int  `json:"unknown_ops"`
	Failures   []vectorFailure `json:"failures"`
}

// vectorFailure is one vector that failed: a result that differs, or an
// operation that refused its inputs.
type vectorFailure struct {
	Index    int    `json:"index"`
	Op       string `json:"op"`
	Source   string `json:"source"`
	Result   string `json:"result,omitempty"`
	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
	Error    string `json:"error,omitempty"`
}

func runVectors(vectors []algo.Vector) vectorReport {
	r := vectorReport{PassedOps: map[string]int{}, UnknownOps: map[string]int{}, Failures: []vectorFailure{}}
	for i, v := range vectors {
		err := v.Check()
		switch {
		case err == nil:
			r.Passed++
			r.PassedOps[v.Op]++
			continue
		case errors.Is(err, algo.ErrUnknownOp):
			r.Unknown++
			r.UnknownOps[v.Op]++
			continue
		}
		r.Failed++
		f := vectorFailure{Index: i, Op: v.Op, Source: v.Source}
		var m *algo.Mismatch
		if errors.As(err, &m) {
			f.Result, f.Expected, f.Got = m.Name, m.Want, m.Got
		} else {
			f.Error = err.Error()
		}
		r.Failures = append(r.Failures, f)
	}
	return r
}

func (r vectorReport) print(w io.Writer) error {
	var out bytes.Buffer
	for _, op := range slices.Sorted(maps.Keys(r.PassedOps)) {
		fmt.Fprintf(&out, "passed   %-26s %d\n", op, r.PassedOps[op])
	}
	for _, op := range slices.Sorted(maps.Keys(r.UnknownOps)) {
		fmt.Fprintf(&out, "unknown  %-26s %d\n", op, r.UnknownOps[op])
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&out, "failed   %-26s vector %d, %s\n", f.Op, f.Index, f.Source)
		if f.Error != "" {
			fmt.Fprintf(&out, "         %s\n", f.Error)
		} else {
			fmt.Fprintf(&out, "         %s: expected %s, got %s\n", f.Result, f.Expected, f.Got)
		}
	}
	fmt.Fprintf(&out, "%d passed, %d failed, %d unknown\n", r.Passed, r.Failed, r.Unknown)
	_, err := w.Write(out.Bytes())
	return err
}

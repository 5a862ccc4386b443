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
	"strconv"

	"github.com/spf13/cobra"

	"acquirer/hsm/algo"
)

func newHSMCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE.json",
		Short: "Run published test vectors through the HSM's algorithms",
		Long: `check runs a file of test vectors, a JSON array of objects with op, inputs and
expected (hex and digits as text), and prints what passed, what failed with both
values, and which operations are not known. "-" reads standard input. A vector
that expects "error" passes when its inputs are refused. The exit status is 1
when a vector failed and 2 when the file could not be read; operations that are
not known are counted and fail nothing.`,
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
		return nil, usageError{err}
	}
	vectors, err := algo.ReadVectors(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", name, err)}
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
	Total      int             `json:"total"`
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
	ID       string `json:"id,omitempty"`
	Op       string `json:"op"`
	Source   string `json:"source"`
	Result   string `json:"result,omitempty"`
	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
	Error    string `json:"error,omitempty"`
}

// name is the place of the vector in its file, with its id and its source
// where it has them.
func (f vectorFailure) name() string {
	name := strconv.Itoa(f.Index)
	for _, s := range []string{f.ID, f.Source} {
		if s != "" {
			name += ", " + s
		}
	}
	return name
}

func runVectors(vectors []algo.Vector) vectorReport {
	r := vectorReport{Total: len(vectors), PassedOps: map[string]int{}, UnknownOps: map[string]int{}, Failures: []vectorFailure{}}
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
		f := vectorFailure{Index: i, ID: v.ID, Op: v.Op, Source: v.Source}
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
		fmt.Fprintf(&out, "failed   %-26s vector %s\n", f.Op, f.name())
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

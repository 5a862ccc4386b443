//go:build !fault

package fault

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	call = regexp.MustCompile(`\bfault\.Hit\((.*)\)`)
	name = regexp.MustCompile(`^"([a-z_]+\.[a-z_]+)\.(before|after)"$`)
	row  = regexp.MustCompile(`(?m)^\t"([a-z_.]+)": +"[a-z]+",$`)
)

// steps are the steps that the code marks, each with the sides it has.
func steps(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range call.FindAllSubmatch(text, -1) {
			side := name.FindSubmatch(m[1])
			if side == nil {
				t.Errorf("%s: %s: want the name in quotes, like \"journal.open.before\"", path, m[0])
				continue
			}
			found[string(side[1])] = append(found[string(side[1])], string(side[2]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Every step has two sides, and the campaign knows it and no others.
func TestPoints(t *testing.T) {
	found := steps(t)
	text, err := os.ReadFile("points_fault.go")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range row.FindAllSubmatch(text, -1) {
		known[string(m[1])] = true
	}
	for step, sides := range found {
		slices.Sort(sides)
		if sides = slices.Compact(sides); !slices.Equal(sides, []string{"after", "before"}) {
			t.Errorf("%s has only %v", step, sides)
		}
		if !known[step] {
			t.Errorf("%s is not in points_fault.go: say there which part of the campaign walks over it", step)
		}
	}
	for step := range known {
		if found[step] == nil {
			t.Errorf("%s is in points_fault.go and nowhere in the code", step)
		}
	}
	if len(found) < 40 {
		t.Errorf("only %d steps: %v", len(found), slices.Sorted(maps.Keys(found)))
	}
}

// The binary without the tag knows nothing of all this.
func TestNoTrace(t *testing.T) {
	if testing.Short() {
		t.Skip("links the program")
	}
	bin := filepath.Join(t.TempDir(), "acquirer")
	if out, err := exec.Command("go", "build", "-o", bin, "acquirer/cmd/acquirer").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	traces := []string{"acquirer/fault.Hit", "ACQUIRER_FAULT"}
	for step := range steps(t) {
		traces = append(traces, step+".before", step+".after")
	}
	traces = append(traces, "acquirer/fault.Planted", "ACQUIRER_PLANT")
	for bug := range planted(t) {
		traces = append(traces, bug)
	}
	for _, trace := range traces {
		if bytes.Contains(text, []byte(trace)) {
			t.Errorf("the binary has %q in it", trace)
		}
	}
	if !bytes.Contains(text, []byte("acquirer/journal.")) {
		t.Error("the binary has no names at all: nothing is proved")
	}
}

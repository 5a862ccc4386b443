package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
)

// A step of the schema that databases have is never edited, not in a comment
// either: a binary that has another text of it does not open them. What is not in
// the list is not released yet.
func TestReleasedStepsStand(t *testing.T) {
	text, err := os.ReadFile("../../testdata/schemas/released.txt")
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string]string{}
	for _, s := range schemas() {
		for i, step := range s.Steps {
			steps[fmt.Sprintf("%s %d", s.Name, i+1)] = fmt.Sprintf("%x", sha256.Sum256([]byte(step)))
		}
	}
	checked := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("%q is not a name, a step and a sum", line)
		}
		if got := steps[f[0]+" "+f[1]]; got != f[2] {
			t.Errorf("schema %s, step %s is not what databases have (%.8s, released as %.8s): set its text back and add a step", f[0], f[1], got, f[2])
		}
		checked++
	}
	if checked < 38 {
		t.Errorf("the list has %d steps", checked)
	}
}

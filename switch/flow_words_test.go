package switching_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/simulate/terminal"
)

// Every verb that a story begins a line with, and every kind of transaction,
// stands in the page that explains them.
func TestFlowWordsAreExplained(t *testing.T) {
	page, err := os.ReadFile("../testdata/flows/README.md")
	must(t, err)
	verbs := map[string]bool{}
	for _, k := range terminal.Kinds() {
		verbs[k.String()] = true
	}
	files, err := filepath.Glob("../testdata/flows/*.txt")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for line := range strings.Lines(string(text)) {
			if verb, _, _ := strings.Cut(strings.TrimRight(line, "\n"), " "); verb != "" && verb != "#" {
				verbs[verb] = true
			}
		}
	}
	if len(verbs) < 50 {
		t.Errorf("only %d verbs were found", len(verbs))
	}
	for verb := range verbs {
		if !strings.Contains(string(page), "`"+verb+"`") && !strings.Contains(string(page), "`"+verb+" ") {
			t.Errorf("testdata/flows/README.md does not explain %q", verb)
		}
	}
}

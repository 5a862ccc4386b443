package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The runbook has a section for each alert, in the order of the rules, and
// each says what it means, where to look and what to do.
func TestRunbookFollowsTheAlerts(t *testing.T) {
	var alerts []string
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(readDoc(t, "deploy/alerts.yml"), -1) {
		alerts = append(alerts, m[1])
	}
	if len(alerts) < 10 {
		t.Fatalf("only %d alerts found", len(alerts))
	}
	sections := strings.Split(readDoc(t, "docs/runbook.md"), "\n### ")
	var told []string
	for _, s := range sections[1:] {
		name, body, _ := strings.Cut(s, "\n")
		body, _, _ = strings.Cut(body, "\n## ")
		told = append(told, name)
		at := 0
		for _, part := range []string{"**Means.** ", "**Look.** ", "**Do.** "} {
			i := strings.Index(body[at:], part)
			if i < 0 {
				t.Errorf("%s has no %s in its place", name, strings.TrimSpace(part))
				continue
			}
			at += i + len(part)
		}
	}
	if !slices.Equal(told, alerts) {
		t.Errorf("sections %v\nalerts   %v", told, alerts)
	}
}

// Metrics, settings and log lines that the runbook names are the binary's own.
func TestRunbookNamesWhatThereIs(t *testing.T) {
	var source strings.Builder
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		source.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	code := source.String()
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.key] = true
	}
	page := strings.ReplaceAll(readDoc(t, "docs/runbook.md"), "\n", " ")
	seen := map[string]int{}
	for _, m := range regexp.MustCompile("(?i)(log lines? )?`([^`]+)`").FindAllStringSubmatch(page, -1) {
		name := m[2]
		switch {
		case m[1] != "":
			seen["log"]++
			if !strings.Contains(code, `("`+name+`"`) {
				t.Errorf("no log line says %q", name)
			}
		case strings.HasPrefix(name, "acquirer_"):
			seen["metric"]++
			if !strings.Contains(code, `"`+name+`"`) {
				t.Errorf("there is no metric %s", name)
			}
		case regexp.MustCompile(`^[a-z]+\.[a-z_]+$`).MatchString(name) && !slices.Contains([]string{".db", ".yml", ".md"}, filepath.Ext(name)):
			seen["setting"]++
			if !known[name] {
				t.Errorf("there is no setting %s", name)
			}
		}
	}
	for what, least := range map[string]int{"log": 8, "metric": 15, "setting": 5} {
		if seen[what] < least {
			t.Errorf("only %d of %s found in the runbook", seen[what], what)
		}
	}
}

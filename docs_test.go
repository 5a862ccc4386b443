package acquirer

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every test that docs/reliability.md names is there, and each fault from 1 to
// 49 has one.
func TestReliabilityNamesItsTests(t *testing.T) {
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	for _, m := range named.FindAllSubmatch(text, -1) {
		if !there[string(m[1])] {
			t.Errorf("docs/reliability.md names %s, which is in no _test.go", m[1])
		}
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \|.*$`)
	tests := map[int]int{}
	for _, m := range row.FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		tests[n] += len(named.FindAll(m[0], -1))
	}
	for n := 1; n <= 49; n++ {
		if tests[n] == 0 {
			t.Errorf("docs/reliability.md has no test for fault %d", n)
		}
	}
}

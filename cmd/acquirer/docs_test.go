package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"acquirer/card"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// repository is the way from this package to the top.
const repository = "../.."

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What is wrong with a configuration is said with its setting, whichever way it
// came, and a call that cannot work is told how it is written.
func TestConfigurationRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acquirer.yaml")
	if err := os.WriteFile(file, []byte("terminals:\n  lisen: 127.0.0.1:8583\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"config", "--check", "--config", file}, "terminals.lisen is not a setting"},
		{[]string{"config", "--check", "--terminals-idle-timeout", "5"}, "terminals.idle_timeout (ACQUIRER_TERMINALS_IDLE_TIMEOUT): time: missing unit"},
		{[]string{"config", "--check", "--node", "one"}, "node (ACQUIRER_NODE): "},
		{[]string{"config", "--check", "--dispute-keep-days", "100"}, "dispute.keep_days"},
		{[]string{"settle", "hold", "ask"}, "Usage: acquirer settle hold ask KEY"},
	} {
		status, stdout, stderr := runs(t, row.args...)
		if status != 2 || stdout != "" || !strings.Contains(stderr, row.want) || strings.Contains(stderr, "\n\n") {
			t.Errorf("%q: status %d, %q, want 2 and %q", row.args, status, stderr, row.want)
		}
	}
	t.Setenv("ACQUIRER_TERMINALS_LISEN", "127.0.0.1:8583")
	if status, _, stderr := runs(t, "config", "--check"); status != 0 || !strings.Contains(stderr, "ACQUIRER_TERMINALS_LISEN") {
		t.Errorf("a variable with a slip: status %d, %q", status, stderr)
	}
}

func TestConfigurationPage(t *testing.T) {
	const name = "docs/configuration.md"
	status, page, stderr := runs(t, "config", "--markdown")
	if status != 0 {
		t.Fatalf("config --markdown: status %d: %s", status, stderr)
	}
	if *update {
		if err := os.WriteFile(filepath.Join(repository, name), []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if readDoc(t, name) != page {
		t.Errorf("%s is not what the binary prints; write it anew with: make docs", name)
	}
}

// pasted is one line of a ```sh block.
type pasted struct {
	line int
	text string
	env  []string // VARIABLE=value in front of it
	args []string
}

// commandsOf finds what a reader would paste into a shell.
func commandsOf(markdown string) (out []pasted, err error) {
	inside := false
	whole, from := "", 0
	for i, line := range strings.Split(markdown, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = !inside && line == "```sh"
			continue
		case !inside:
			continue
		}
		if whole == "" {
			from = i + 1
		}
		var more bool
		if line, more = strings.CutSuffix(line, `\`); more {
			whole += line
			continue
		}
		words, err := split(whole + line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", from, err)
		}
		c := pasted{line: from, text: strings.TrimSpace(whole + line)}
		whole = ""
		for len(words) > 0 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0]) {
			c.env, words = append(c.env, words[0]), words[1:]
		}
		if c.args = words; len(words) > 0 {
			out = append(out, c)
		}
	}
	return out, nil
}

// split is as much of a shell as the pages need: words, quotes, comments.
// Anything beyond that (pipes, variables) is an error, since it would not be
// run as it stands.
func split(line string) (words []string, err error) {
	var word strings.Builder
	begun := false
	var quote rune
	for i, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t':
			if begun {
				words, begun = append(words, word.String()), false
				word.Reset()
			}
		case r == '#' && !begun:
			return words, nil
		case strings.ContainsRune("|&;<>$`()*?\\", r):
			return nil, fmt.Errorf("%q at %d: the test knows no %q", line, i, r)
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("%q: a quote is open", line)
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

func TestCommandsOfAPage(t *testing.T) {
	page := "text `acquirer nothing`\n```\nacquirer not-shell\n```\n```sh\nmake run     # the demo\n\n# only words\nA=1 acquirer load --mix 'sale=90, echo=10' \\\n  --rate 5\n```\nacquirer outside\n```sh\nacquirer \"two words\" ''\n```\n"
	got, err := commandsOf(page)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range got {
		lines = append(lines, fmt.Sprintf("%d %q %q", c.line, c.env, c.args))
	}
	want := []string{`6 [] ["make" "run"]`, `9 ["A=1"] ["acquirer" "load" "--mix" "sale=90, echo=10" "--rate" "5"]`, `14 [] ["acquirer" "two words" ""]`}
	if !slices.Equal(lines, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(lines, "\n     "), strings.Join(want, "\n     "))
	}
	for _, bad := range []string{"acquirer decode < file", "acquirer 'open", "acquirer decode | head", "echo $HOME"} {
		if words, err := split(bad); err == nil {
			t.Errorf("%s: %q", bad, words)
		}
	}
}

// notRun are the commands of README.md that the test does not run, each with
// its reason.
var notRun = map[string]string{}

// What the README tells a newcomer to type works. Commands that talk to a
// running demo get one; make targets must exist.
func TestReadmeCommands(t *testing.T) {
	commands, err := commandsOf(readDoc(t, "README.md"))
	if err != nil {
		t.Fatalf("README.md: %v", err)
	}
	if len(commands) < 5 {
		t.Errorf("only %d commands found in README.md", len(commands))
	}
	makefile := readDoc(t, "Makefile")
	var d *openDemo // started when the first command needs it
	ran := map[string]bool{}
	for _, c := range commands {
		ran[c.text] = true
		if notRun[c.text] != "" {
			continue
		}
		args := c.args
		if len(args) > 2 && args[0] == "go" && args[1] == "run" && args[2] == "./cmd/acquirer" {
			args = append([]string{"acquirer"}, args[3:]...)
		}
		switch {
		case args[0] == "make":
			for _, target := range args[1:] {
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + `:`).MatchString(makefile) {
					t.Errorf("README.md:%d: %s: the Makefile has no target %s", c.line, c.text, target)
				}
			}
		case slices.Equal(args, []string{"acquirer", "demo"}):
			// Started, looked at and stopped by TestDemoOpensTheStreet.
		case args[0] == "acquirer":
			args = slices.Clone(args[1:])
			for i, a := range args {
				if strings.Contains(a, "127.0.0.1:8583") {
					if d == nil {
						d = startDemo(t)
					}
					args[i] = strings.ReplaceAll(a, "127.0.0.1:8583", d.terminal)
				}
			}
			for _, e := range c.env {
				name, value, _ := strings.Cut(e, "=")
				t.Setenv(name, value)
			}
			status, stdout, stderr := runs(t, args...)
			if status != 0 || stdout == "" {
				t.Errorf("README.md:%d: %s: status %d\n%s%s", c.line, c.text, status, stdout, stderr)
			}
		default:
			t.Errorf("README.md:%d: %s: the test cannot run it; put it into the form acquirer ..., make ..., or name it in notRun with a reason", c.line, c.text)
		}
	}
	for text := range notRun {
		if !ran[text] {
			t.Errorf("notRun names %q, which README.md does not", text)
		}
	}
}

// everyCommand calls f for each command of the binary but cobra's own.
func everyCommand(f func(path []string, c *cobra.Command)) {
	var walk func(path []string, c *cobra.Command)
	walk = func(path []string, c *cobra.Command) {
		if len(path) > 0 && (path[0] == "help" || path[0] == "completion") {
			return
		}
		f(path, c)
		for _, sub := range c.Commands() {
			walk(append(slices.Clone(path), sub.Name()), sub)
		}
	}
	walk(nil, newRootCmd())
}

// cardNumber finds numbers that read as a UnionPay card's.
var cardNumber = regexp.MustCompile(`\b62[0-9]{14,17}\b`)

// Every command explains itself with an example that its own flags and
// arguments would take, and says 2 to what can never work.
func TestEveryCommand(t *testing.T) {
	n := 0
	everyCommand(func(path []string, c *cobra.Command) {
		n++
		name := strings.Join(append([]string{"acquirer"}, path...), " ")
		status, stdout, stderr := runs(t, append(slices.Clone(path), "--help")...)
		if status != 0 || stderr != "" || !strings.Contains(stdout, "Usage:") {
			t.Errorf("%s --help: status %d: %s%s", name, status, stdout, stderr)
		}
		if lines := strings.Count(stdout, "\n"); lines > 100 {
			t.Errorf("%s --help has %d lines: who asks for help reads one or two screens", name, lines)
		}
		for _, number := range cardNumber.FindAllString(stdout, -1) {
			if pan, err := card.ParsePAN(number); err != nil || !pan.Luhn() {
				t.Errorf("%s --help shows %s, which is no card: its check digit is wrong", name, number)
			}
		}
		if c.Short == "" {
			t.Errorf("%s has no one-line description", name)
		}
		if !c.HasSubCommands() && !strings.Contains(stdout, "Examples:") {
			t.Errorf("%s has no example", name)
		}
		for line := range strings.Lines(c.Example) {
			if err := wouldRun(strings.TrimSpace(line)); err != nil {
				t.Errorf("%s: its example %q: %v", name, strings.TrimSpace(line), err)
			}
		}
		status, stdout, stderr = runs(t, append(slices.Clone(path), "--no-such-flag")...)
		if status != 2 || stdout != "" || !strings.Contains(stderr, "--no-such-flag") || !strings.Contains(stderr, "--help") {
			t.Errorf("%s --no-such-flag: status %d, want 2: %q, %q", name, status, stdout, stderr)
		}
		if c.HasSubCommands() {
			status, stdout, stderr = runs(t, append(slices.Clone(path), "no-such-command")...)
			if status != 2 || stdout != "" || !strings.Contains(stderr, "no-such-command") {
				t.Errorf("%s no-such-command: status %d, want 2: %q, %q", name, status, stdout, stderr)
			}
		}
	})
	if n < 15 {
		t.Errorf("only %d commands found", n)
	}
}

// wouldRun looks whether a command line names a command, flags and as many
// arguments as there are. A comment behind two spaces is left away, and so is
// what stands behind a pipe or in front of one.
func wouldRun(line string) error {
	if line == "" {
		return nil
	}
	for part := range strings.SplitSeq(line, " | ") {
		if before, _, found := strings.Cut(part, " > "); found {
			part = before
		}
		if before, _, found := strings.Cut(part, " < "); found {
			part = before
		}
		words, err := split(part)
		if err != nil {
			return err
		}
		for len(words) > 0 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) == 0 || words[0] != "acquirer" {
			continue
		}
		root := newRootCmd()
		c, rest, err := root.Find(words[1:])
		if err != nil {
			return err
		}
		if err := c.ParseFlags(rest); err != nil {
			return err
		}
		if err := c.ValidateArgs(c.Flags().Args()); err != nil {
			return err
		}
		if err := c.ValidateRequiredFlags(); err != nil {
			return err
		}
	}
	return nil
}

func TestWouldRun(t *testing.T) {
	for _, good := range []string{"", "acquirer demo", "A=b acquirer serve --seed x", "acquirer decode --json 0200   # a comment", "cat f | acquirer decode - > out"} {
		if err := wouldRun(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"acquirer fly", "acquirer demo --fly", "acquirer demo now", "acquirer hsm init", "acquirer decode 'x"} {
		if wouldRun(bad) == nil {
			t.Errorf("%s would run", bad)
		}
	}
}

// Pages, alerts and units name only commands and flags that exist.
func TestPagesNameRealCommands(t *testing.T) {
	names := map[string]bool{}
	everyCommand(func(path []string, _ *cobra.Command) { names[strings.Join(path, " ")] = true })
	flags := map[string]bool{}
	everyCommand(func(_ []string, c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
	})
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, filepath.Join(repository, "README.md"), filepath.Join(repository, "deploy", "alerts.yml"), filepath.Join(repository, "deploy", "acquirer.service"))
	quoted := regexp.MustCompile("(?m)[`']acquirer ([a-z][^`'\n]*)[`']|^(?:[A-Z_]+=\\S+ )*acquirer ([a-z].*)$|ExecStart=/usr/local/bin/acquirer (.*)$")
	seen := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		shells := strings.HasSuffix(page, ".md")
		inside := false
		for i, line := range strings.Split(string(b), "\n") {
			if shells && strings.HasPrefix(line, "```") {
				inside = !inside && line == "```sh"
				continue
			}
			for _, m := range quoted.FindAllStringSubmatch(line, -1) {
				if m[2] != "" && !inside {
					continue // prose that happens to begin with the name
				}
				seen++
				words := strings.Fields(m[1] + m[2] + m[3])
				if !names[words[0]] {
					t.Errorf("%s:%d: acquirer %s: there is no such command", filepath.Base(page), i+1, words[0])
					continue
				}
				if len(words) > 1 && !names[words[0]+" "+words[1]] && slices.Contains([]string{"simulate", "hsm", "fees", "calendar", "spec"}, words[0]) {
					t.Errorf("%s:%d: acquirer %s %s: there is no such command", filepath.Base(page), i+1, words[0], words[1])
				}
				for _, w := range words {
					name, _, _ := strings.Cut(w, "=")
					if strings.HasPrefix(name, "--") && name != "--help" && !flags[strings.TrimRight(name, ",.;:)")] {
						t.Errorf("%s:%d: %s is a flag of no command", filepath.Base(page), i+1, name)
					}
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d commands found on the pages", seen)
	}
}

// What fails for another reason than its wording ends with 1; but hsm check, of
// which 1 is an answer: that vectors failed.
func TestFailuresEndWithOne(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for _, args := range [][]string{
		{"decode", "0200"},
		{"decode", nowhere},
		{"encode", "--json-in", nowhere},
		{"load", "--addr", "127.0.0.1:1", "--terminals", "1"},
		{"simulate", "terminal", "--addr", "127.0.0.1:1", "echo"},
		{"simulate", "issuer", "--name", "north", "--listen", "127.0.0.1:99999"},
		{"calendar", "settle-date", "2039-01-01T00:00:00+08:00"},
		{"fees", "quote", "--plan", "MICRO-2025", "--channel", "credit", "--amount", "0.01", "--speed", "S0"},
		{"spec", "check", nowhere},
		{"spec", "show", nowhere},
	} {
		if status, _, stderr := runs(t, args...); status != 1 || !strings.HasPrefix(stderr, "acquirer: ") {
			t.Errorf("acquirer %s: status %d, want 1: %s", strings.Join(args, " "), status, stderr)
		}
	}
}

// Pages link to and name only files that exist.
func TestPagesNameRealFiles(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	paths := regexp.MustCompile("`((?:[a-z0-9_.-]+/)+[a-z0-9_.-]+\\.(?:go|md|yml|json|sh|txt|csv))`")
	seen := 0
	for _, page := range append(pages, filepath.Join(repository, "README.md")) {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, look := range []struct {
			from string
			what *regexp.Regexp
		}{{filepath.Dir(page), links}, {repository, paths}} {
			for _, m := range look.what.FindAllStringSubmatch(string(b), -1) {
				seen++
				if _, err := os.Stat(filepath.Join(look.from, m[1])); err != nil {
					t.Errorf("%s names %s, which does not exist", filepath.Base(page), m[1])
				}
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d files found on the pages", seen)
	}
}

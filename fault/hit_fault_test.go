//go:build fault

package fault

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// dies walks over two points three times each.
func dies() {
	for range 3 {
		Hit("journal.open.before")
		Hit("journal.open.after")
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(Setting) != "" {
		dies()
		os.Exit(7)
	}
	os.Exit(m.Run())
}

func TestHitKills(t *testing.T) {
	for setting, want := range map[string]string{
		"journal.open.after@2": "journal.open.after any=4 journal.open.after=2 journal.open.before=2\n",
		"any@5":                "journal.open.before any=5 journal.open.after=2 journal.open.before=3\n",
		"journal.open.after@9,journal.open.before@1": "journal.open.before any=1 journal.open.before=1\n",
	} {
		p := exec.Command(os.Args[0])
		p.Env = append(os.Environ(), Setting+"="+setting)
		out, err := p.CombinedOutput()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || string(out) != Fired+want {
			t.Errorf("%s: %v: %s", setting, err, out)
		}
	}
	p := exec.Command(os.Args[0])
	p.Env = append(os.Environ(), Setting+"=journal.open.after@4")
	if out, err := p.CombinedOutput(); err == nil || p.ProcessState.ExitCode() != 7 {
		t.Errorf("never hit: %v: %s", err, out)
	}
	p = exec.Command(os.Args[0])
	p.Env = append(os.Environ(), Setting+"=journal.open")
	if out, _ := p.CombinedOutput(); !strings.Contains(string(out), "want point@count") {
		t.Errorf("a setting without a count: %s", out)
	}
}

func TestUnknownPoint(t *testing.T) {
	for _, name := range []string{"nobody.knows.before", "journal.open"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was taken", name)
				}
			}()
			Hit(name)
		}()
	}
}

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var key = []byte("an audit key for tests only 1234")

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func add(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(Entry{Op: "generate", Who: "test", Use: "TMK", KCV: fmt.Sprintf("%06X", i), Custodians: []string{"alice", "bob"}}); err != nil {
			t.Fatal(err)
		}
	}
}

// written is a log of ten lines: two while sealed, eight signed.
func written(t *testing.T) (path string, head Head) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	add(t, l, 2)
	l.SetKey(key)
	add(t, l, 8)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path, l.Head()
}

func TestWholeLog(t *testing.T) {
	path, head := written(t)
	r, err := Verify(path, key, head)
	if err != nil || r.Lines != 10 || r.Signed != 8 || r.Unsigned != 2 || r.Uncovered != 0 || !r.Checked || r.Head != head.String() {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := Verify(path, nil, Head{}); err != nil || r.Checked || r.Signed != 0 {
		t.Errorf("without a key: %+v, %v", r, err)
	}
	if h, err := ParseHead(head.String()); err != nil || h != head {
		t.Errorf("%v, %v", h, err)
	}
	for _, bad := range []string{"", "10", "10:ab", "x:" + head.Hash, head.String() + "0"} {
		if _, err := ParseHead(bad); err == nil {
			t.Errorf("%q is a head", bad)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// It goes on where it ended.
	l := open(t, path)
	add(t, l, 1)
	if r, err := Verify(path, key, Head{}); err != nil || r.Lines != 11 || r.Uncovered != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Whatever is done to the file is found: every byte changed, every line taken
// out, doubled or moved, every cut at the end.
func TestTampering(t *testing.T) {
	path, head := written(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	lines = lines[:len(lines)-1]
	found := func(what string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		var broken *Broken
		if r, err := Verify(path, key, Head{}); !errors.As(err, &broken) {
			t.Errorf("%s: not found: %+v, %v", what, r, err)
		}
	}
	for i := range good {
		changed := bytes.Clone(good)
		changed[i] ^= 1
		found(fmt.Sprintf("byte %d", i), changed)
	}
	for i := range lines {
		rest := append(append([][]byte{}, lines[:i]...), lines[i+1:]...)
		found(fmt.Sprintf("line %d taken out", i+1), bytes.Join(rest, nil))
		twice := append(append(append([][]byte{}, lines[:i+1]...), lines[i]), lines[i+1:]...)
		found(fmt.Sprintf("line %d twice", i+1), bytes.Join(twice, nil))
		found(fmt.Sprintf("cut behind line %d", i), bytes.Join(lines[:i], nil))
		if i > 0 {
			moved := append([][]byte{}, lines...)
			moved[i-1], moved[i] = moved[i], moved[i-1]
			found(fmt.Sprintf("lines %d and %d changed places", i, i+1), bytes.Join(moved, nil))
		}
	}
	for n := range len(lines[9]) {
		found(fmt.Sprintf("cut %d bytes into the last line", n), good[:len(good)-len(lines[9])+n])
	}

	// Somebody without the key writes the whole chain anew, counter file and
	// all: the MACs are wrong. With nothing signed, the noted head tells.
	forged := filepath.Join(t.TempDir(), "forged.log")
	l := open(t, forged)
	l.SetKey([]byte("not the key of this house"))
	add(t, l, 10)
	if _, err := Verify(forged, key, Head{}); err == nil || !strings.Contains(err.Error(), "MAC is wrong") {
		t.Errorf("written anew: %v", err)
	}
	if _, err := Verify(forged, nil, Head{}); err != nil {
		t.Errorf("without a key nobody can tell: %v", err)
	}
	if _, err := Verify(forged, nil, head); err == nil || !strings.Contains(err.Error(), "noted") {
		t.Errorf("the noted head is not missed: %v", err)
	}
}

// Log and counter file set back together: only the noted head knows.
func TestSetBack(t *testing.T) {
	path, head := written(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	cut := bytes.Join(lines[:6], nil)
	last := bytes.TrimSuffix(lines[5], []byte("\n"))
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(AnchorOf(path), fmt.Appendf(nil, "%020d:%s\n", 6, hashOf(last)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(path, key, Head{}); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := Verify(path, key, head); err == nil {
		t.Error("the noted head is not missed")
	}
	for _, text := range []string{"", "garbage"} {
		if err := os.WriteFile(AnchorOf(path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(path, key, Head{}); err == nil {
			t.Errorf("counter file %q: not found", text)
		}
	}
	if err := os.Remove(AnchorOf(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(path, key, Head{}); err == nil {
		t.Error("a counter file that is gone was not found")
	}
}

// Open goes on after a crash, never after a change.
func TestOpenAfter(t *testing.T) {
	path, _ := written(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of the eleventh line.
	if err := os.WriteFile(path, append(bytes.Clone(good), []byte(`{"n":11,"time":"20`)...), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path)
	l.SetKey(key)
	add(t, l, 1)
	if r, err := Verify(path, key, Head{}); err != nil || r.Lines != 11 {
		t.Errorf("%+v, %v", r, err)
	}
	// A crash between the log and its counter file.
	if err := os.WriteFile(AnchorOf(path), fmt.Appendf(nil, "%020d:%s\n", 9, lineHash(good, 9)), 0o600); err != nil {
		t.Fatal(err)
	}
	add(t, open(t, path), 1)
	if r, err := Verify(path, key, Head{}); err != nil || r.Lines != 12 {
		t.Errorf("%+v, %v", r, err)
	}
	for what, text := range map[string][]byte{"cut": good[:len(good)/2], "changed": bytes.Replace(good, []byte("TMK"), []byte("ZMK"), 1)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
}

func lineHash(text []byte, n int) string {
	return hashOf(bytes.TrimSuffix(bytes.SplitAfter(text, []byte("\n"))[n-1], []byte("\n")))
}

// Many writers, two logs on one file, one chain.
func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a, b := open(t, path), open(t, path)
	a.SetKey(key)
	b.SetKey(key)
	var wg sync.WaitGroup
	for i := range 16 {
		l := a
		if i%2 == 1 {
			l = b
		}
		wg.Go(func() {
			for range 10 {
				if err := l.Append(Entry{Op: "generate", Who: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if r, err := Verify(path, key, Head{}); err != nil || r.Lines != 160 || r.Signed != 160 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A disk that takes no more refuses the entry, and every one after it.
func TestDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("SKIPPED: no /dev/full here, so a full disk is not tried")
	}
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	add(t, l, 1)
	good := l.file
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.file = full
	l.size = 0 // as that file has it
	if err := l.Append(Entry{Op: "export"}); err == nil {
		t.Fatal("a full disk took an entry")
	}
	l.file = good
	if err := l.Append(Entry{Op: "export"}); err == nil || !strings.Contains(err.Error(), "earlier") {
		t.Errorf("it went on: %v", err)
	}
	if err := full.Close(); err != nil {
		t.Fatal(err)
	}
}

// A process killed while it appends loses nothing that it acknowledged.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	acknowledged := int64(0)
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAppender$")
		cmd.Env = append(os.Environ(), "AUDIT_APPENDER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var n int64
		for range 20 {
			if _, err := fmt.Fscanln(out, &n); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := fmt.Fscanln(out, &n); err != nil {
				break
			}
		}
		_ = cmd.Wait() // it was killed
		acknowledged = n
		l := open(t, path)
		if got := l.Head().Lines; got < acknowledged {
			t.Errorf("%d lines were acknowledged and %d are there", acknowledged, got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(path, key, Head{}); err != nil || r.Signed < acknowledged {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// TestAppender is the process that TestKilled kills.
func TestAppender(t *testing.T) {
	path := os.Getenv("AUDIT_APPENDER")
	if path == "" {
		t.Skip("it is TestKilled's other process")
	}
	l := open(t, path)
	l.SetKey(key)
	for {
		add(t, l, 1)
		fmt.Println(l.Head().Lines)
	}
}

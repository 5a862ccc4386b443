package harden

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// A process says of itself what was done for it, and the kernel agrees. It is
// one of its own: none of it can be taken back.
func TestProcess(t *testing.T) {
	if os.Getenv("HARDEN_ME") != "" {
		r := Process()
		if err := json.NewEncoder(os.Stdout).Encode(struct {
			Report
			Found []string
		}{r, found()}); err != nil {
			t.Fatal(err)
		}
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$")
	cmd.Env = append(os.Environ(), "HARDEN_ME=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Report
		Found []string
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, f := range r.Found {
		t.Error(f)
	}
	if r.Memory == "" || r.CoreDumps == "" || r.Dumpable == "" {
		t.Errorf("something is not said: %+v", r.Report)
	}
	if runtime.GOOS != "linux" && len(r.Missing) == 0 {
		t.Errorf("nothing is missing on %s: %+v", runtime.GOOS, r.Report)
	}
	t.Logf("%+v", r.Report)
}

func TestSecret(t *testing.T) {
	s, err := NewSecret(32)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Bytes()) != 32 || !bytes.Equal(s.Bytes(), make([]byte, 32)) {
		t.Errorf("%d bytes", len(s.Bytes()))
	}
	copy(s.Bytes(), "a key")
	s.Free()
	if s.Bytes() != nil {
		t.Error("it is still there")
	}
	s.Free()
	(*Secret)(nil).Free()
}

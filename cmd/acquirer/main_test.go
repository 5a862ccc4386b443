package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/store/storetest"
)

// asProgram makes the test binary be the program: it then holds exactly what
// go build would link, so that a test can start it and kill it.
const asProgram = "ACQUIRER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		// toxiproxy leaves the links of connections that broke under a toxic.
		os.Exit(storetest.Main(m, goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"), goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run")))
	}
	// Standard input is a pipe that the test holds: a process whose test was
	// killed ends too.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	programs[os.Getenv(asProgram)]()
}

// programs are what the test binary can be, by the value of asProgram.
var programs = map[string]func(){"1": main}

// process is the program, running.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *text
	stderr *text
	ended  chan struct{} // closed when it has ended
	err    error         // how, once ended is closed
}

// spawn starts the program. It is killed at the end of the test if it still
// runs.
func spawn(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return spawned(t, env, exec.Command(exe, args...))
}

// spawned is spawn with a command that starts the program itself.
func spawned(t *testing.T, env []string, cmd *exec.Cmd) *process {
	t.Helper()
	var err error
	p := &process{cmd: cmd, stdout: newText(), stderr: newText(), ended: make(chan struct{})}
	p.cmd.Env = append(append(clean(os.Environ()), asProgram+"=1"), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		p.stdout.end()
		p.stderr.end()
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	return p
}

// clean leaves away what the tester's own environment says to the program.
func clean(env []string) (out []string) {
	for _, e := range env {
		if !strings.HasPrefix(e, "ACQUIRER_") || strings.HasPrefix(e, "ACQUIRER_PLANT=") { // a planted bug is the program's
			out = append(out, e)
		}
	}
	return out
}

// kill is kill -9, and waits until the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

// stop is what Ctrl-C or systemd does; it returns the exit status.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Errorf("the process had ended already: %v", p.cmd.ProcessState)
	}
	return p.wait(t)
}

// wait returns the exit status.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		t.Fatalf("the process does not end:\n%s", p.stderr.tail(30))
		return -1
	}
}

// text is what a program writes: to be read while it still writes.
type text struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	grown chan struct{} // closed at the next write, and at the end
	over  bool
}

func newText() *text { return &text{grown: make(chan struct{})} }

func (x *text) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.grown)
	x.grown = make(chan struct{})
	return x.buf.Write(b)
}

// end says that nothing more will come.
func (x *text) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		x.over = true
		close(x.grown)
		x.grown = make(chan struct{})
	}
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.String()
}

// tail is its last n lines.
func (x *text) tail(n int) string {
	lines := strings.SplitAfter(x.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// await returns the first line that holds what; false when the text ended, or
// ctx, before there was one.
func (x *text) await(ctx context.Context, what string) (line string, ok bool) {
	for {
		x.mu.Lock()
		all, grown, over := x.buf.String(), x.grown, x.over
		x.mu.Unlock()
		if i := strings.Index(all, what); i >= 0 {
			from := strings.LastIndexByte(all[:i], '\n') + 1
			if to := strings.IndexByte(all[i:], '\n'); to >= 0 {
				return all[from : i+to], true
			}
		}
		if over {
			return "", false
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return "", false
		}
	}
}

// runs calls the program in this process, as main does.
func runs(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out, errs text
	out.grown, errs.grown = make(chan struct{}), make(chan struct{})
	status = run(ctx, args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// freeAddr is an address that nobody listens on and that no ":0" and no
// outgoing connection is given: below the ports the kernel hands out, and each
// only once in this process.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+(os.Getpid()*7+int(nextPort.Add(1)))%12_000)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue // somebody's: the next one
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no free port from 20000 to 31999")
	return ""
}

var nextPort atomic.Int32

// masterKey makes a sealed master key and the file with its passphrase.
func masterKey(t *testing.T) (key, passphrase string) {
	t.Helper()
	dir := t.TempDir()
	key, passphrase = filepath.Join(dir, "hsm.key"), filepath.Join(dir, "pass")
	if err := os.WriteFile(passphrase, []byte("a passphrase for tests only\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := runs(t, "hsm", "init", "--file", key, "--passphrase-file", passphrase); status != 0 {
		t.Fatalf("hsm init: status %d: %s", status, stderr)
	}
	return key, passphrase
}

// fetch reads a page that must be there.
func fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // no connection is left behind
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", url, res.Status, err, body)
	}
	return string(body)
}

// need skips a test loudly for want of a program, or fails it when
// ACQUIRER_TEST_REQUIRE=1.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("ACQUIRER_TEST_REQUIRE") == "1" {
		t.Fatalf("no %s found and ACQUIRER_TEST_REQUIRE=1; install it with: sh deploy/test-deps.sh", program)
	}
	t.Skipf("SKIPPED: no %s found, so this is not proved; install it with: sh deploy/test-deps.sh", program)
}

//go:build unix

package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"acquirer/simulate/terminal"
)

// respondUntilStdinCloses is the test binary as a host in a process of its own.
func respondUntilStdinCloses() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go newResponder().listen(l)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		panic(err)
	}
}

func startResponder(tb testing.TB) (addr string) {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LOAD_TEST_RESPONDER=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := in.Close(); err != nil {
			tb.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			tb.Error(err)
		}
	})
	addr, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkGenerator is what a transaction costs the generator: its own CPU,
// against a trivial responder in another process.
func BenchmarkGenerator(b *testing.B) {
	for _, kinds := range []string{"stripe=1", "chip=1", "sale=1", DefaultMix, "echo=1"} {
		for _, n := range []int{16, 64, 256} {
			b.Run(fmt.Sprintf("%s/terminals=%d", kinds, n), func(b *testing.B) {
				addr := startResponder(b)
				m, err := ParseMix(kinds)
				if err != nil {
					b.Fatal(err)
				}
				cfg := Config{Devices: World(n), Dial: terminal.DialTCP(addr, nil), Mix: m, Min: 100, Max: 50000, Duration: time.Second}
				r := &run{cfg: cfg, tally: newTally()}
				if err := r.makeWorkers(); err != nil {
					b.Fatal(err)
				}
				defer r.close()
				if err := r.signIn(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.ResetTimer()
				before := cpu()
				rep := r.drive(b.Context())
				used := cpu() - before
				if len(rep.Errors)+len(rep.Declined) > 0 {
					b.Fatalf("%+v", rep)
				}
				b.ReportMetric(float64(used.Microseconds())/float64(rep.Sent), "cpu-us/txn")
				b.ReportMetric(rep.TPS, "tps")
			})
		}
	}
}

// The whole way over TCP, as the command goes it.
func TestOverTCP(t *testing.T) {
	addr := startResponder(t)
	m, err := ParseMix("sale=10,reversal=1,echo=1")
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Run(t.Context(), Config{Devices: World(8), Dial: terminal.DialTCP(addr, nil), Rate: 200, Duration: 500 * time.Millisecond,
		Mix: m, Min: 100, Max: 50000, Cards: 64})
	if err != nil {
		t.Fatal(err)
	}
	check(t, rep)
	if rep.Sent+rep.Errors["unsent"] != 100 || rep.Sent == 0 || rep.Approved != rep.Sent {
		t.Errorf("%+v", rep)
	}
}

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/bench/relay"
	simcard "acquirer/simulate/card"
	"acquirer/store/storetest"
)

var (
	duration    = flag.Duration("duration", 5*time.Second, "how long each row is measured")
	connections = flag.String("connections", "16,64,256", "terminals, a row each")
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// BenchmarkTable is `make bench`: every row is its own set of processes, and
// the ratios are against reference C (a relay of moov messages with our
// encoders over moov-io/iso8583-connection, one write per frame, nothing
// durable) at the same number of terminals in the same run.
func BenchmarkTable(b *testing.B) {
	bin := filepath.Join(b.TempDir(), "acquirer")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, "../cmd/acquirer").CombinedOutput(); err != nil {
		b.Fatalf("building: %v\n%s", err, out)
	}
	b.ResetTimer()
	for range b.N {
		table(b, bin)
	}
}

type row struct {
	what               string
	terminals          int
	cpu, tps, p50, p99 float64
	note               string
}

func table(b *testing.B, bin string) {
	b.Logf("%s, %d processors, %s per row", runtime.Version(), runtime.NumCPU(), *duration)
	fmt.Printf("%-28s %9s %10s %9s %9s %9s %8s\n", "", "terminals", "CPU us/txn", "TPS", "p50 ms", "p99 ms", "TPS / C")
	var counts []int
	for _, s := range strings.Split(*connections, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		counts = append(counts, n)
	}
	for _, n := range counts {
		var reference float64
		show := func(r row) {
			ratio := ""
			if reference > 0 {
				ratio = fmt.Sprintf("%.2f", r.tps/reference)
			}
			fmt.Printf("%-28s %9d %10.1f %9.0f %9.2f %9.2f %8s %s\n", r.what, r.terminals, r.cpu, r.tps, r.p50, r.p99, ratio, r.note)
		}
		rows, err := relay.Compare(b.Context(), bin, []int{n}, 1, *duration, nil)
		if err != nil {
			b.Fatal(err)
		}
		names := map[string]string{"echo": "a  raw framed echo", "relay-moov": "C  relay, moov messages", "relay": "b  relay, table codec"}
		for _, r := range rows {
			if r.What == "relay-moov" {
				reference = r.TPS
			}
		}
		for _, r := range rows {
			show(row{what: names[r.What], terminals: n, cpu: r.CPUMicros, tps: r.TPS, p50: r.P50Millis, p99: r.P99Millis})
		}
		show(theSwitch(b, bin, "c  switch, SQLite, stripe", "sqlite:"+filepath.Join(b.TempDir(), "bench.db"), "stripe=100", n))
		show(theSwitch(b, bin, "c  switch, SQLite, chip", "sqlite:"+filepath.Join(b.TempDir(), "bench.db"), "chip=100", n))
		show(theSwitch(b, bin, "c  switch, PostgreSQL, stripe", storetest.PostgresURL(b), "stripe=100", n))
	}
}

// theSwitch runs serve with everything on, four issuers and the load
// generator, each a process of its own.
func theSwitch(b *testing.B, bin, what, database, mix string, terminals int) row {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), *duration+2*time.Minute)
	defer cancel()
	dir := b.TempDir()
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("a bench needs no secret"), 0o600); err != nil {
		b.Fatal(err)
	}
	key := filepath.Join(dir, "hsm.key")
	if out, err := exec.CommandContext(ctx, bin, "hsm", "init", "--file", key, "--passphrase-file", pass).CombinedOutput(); err != nil {
		b.Fatalf("hsm init: %v\n%s", err, out)
	}
	var lines []string
	var processes []*exec.Cmd
	defer func() { stop(b, processes) }()
	for i, is := range simcard.Issuers {
		addr := fmt.Sprintf("127.0.0.1:%d", 19501+i)
		processes = append(processes, start(b, ctx, bin, "simulate", "issuer", "--name", is.Name, "--listen", addr, "--calm"))
		lines = append(lines, is.Name+"="+addr)
	}
	const terminal, admin = "127.0.0.1:18583", "127.0.0.1:19583"
	serve := start(b, ctx, bin, "serve", "--seed", "demo", "--issuer", strings.Join(lines, ","), "--hsm-file", key, "--hsm-passphrase-file", pass,
		"--database", database, "--log-file", filepath.Join(dir, "log"), "--terminals-listen", terminal, "--admin-listen", admin, "--console-listen", "")
	processes = append(processes, serve)
	ready(b, ctx, "http://"+admin+"/readyz")

	before := cpuOf(b, serve)
	load := exec.CommandContext(ctx, bin, "load", "--addr", terminal, "--terminals", strconv.Itoa(terminals), "--concurrency", strconv.Itoa(terminals),
		"--duration", duration.String(), "--mix", mix, "--amount", "4.00-9.00", "--json")
	var stderr bytes.Buffer
	load.Stderr = &stderr
	out, err := load.Output()
	if err != nil {
		b.Fatalf("load: %v\n%s", err, stderr.String())
	}
	used := cpuOf(b, serve) - before
	var report struct {
		Sent     int            `json:"sent"`
		Approved int            `json:"approved"`
		Errors   map[string]int `json:"errors"`
		TPS      float64        `json:"tps"`
		Latency  struct{ P50, P99 float64 }
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(out, &report); err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(out, &raw); err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(raw["latency_ms"], &report.Latency); err != nil {
		b.Fatal(err)
	}
	if report.Approved != report.Sent || len(report.Errors) > 0 {
		b.Fatalf("%s: of %d sales %d were approved, errors %v", what, report.Sent, report.Approved, report.Errors)
	}
	return row{what: what, terminals: terminals, cpu: float64(used.Microseconds()) / float64(report.Sent), tps: report.TPS, p50: report.Latency.P50, p99: report.Latency.P99}
}

// start runs one process of the street and ends it with the benchmark's row.
func start(b *testing.B, ctx context.Context, bin string, args ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.CommandContext(ctx, bin, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd
}

// stop ends the processes of a row, the switch before its issuers, and waits:
// the next row takes the same ports.
func stop(b *testing.B, processes []*exec.Cmd) {
	for i := len(processes) - 1; i >= 0; i-- {
		cmd := processes[i]
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			b.Errorf("stopping %v: %v", cmd.Args[1:3], err)
		}
		if err := cmd.Wait(); err != nil {
			b.Errorf("%v ended with %v: %s", cmd.Args[1:3], err, cmd.Stderr)
		}
	}
}

func ready(b *testing.B, ctx context.Context, url string) {
	b.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			b.Fatal(err)
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			ok := res.StatusCode == http.StatusOK
			if err := res.Body.Close(); err != nil {
				b.Fatal(err)
			}
			if ok {
				return
			}
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatal("the switch was not ready within a minute")
		}
	}
}

// cpuOf is the CPU time of a running process, from /proc.
func cpuOf(b *testing.B, cmd *exec.Cmd) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		b.Skipf("CPU time of another process is read from /proc: %v", err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

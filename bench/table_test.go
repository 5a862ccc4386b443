package bench

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
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
	half               float64 // p99 of an open loop at half of tps; 0 when not measured
}

func table(b *testing.B, bin string) {
	b.Logf("%s, %d processors, %s per row", runtime.Version(), runtime.NumCPU(), *duration)
	fmt.Printf("%-30s %9s %10s %9s %9s %9s %12s %8s\n", "", "terminals", "CPU us/txn", "TPS", "p50 ms", "p99 ms", "p99 at half", "TPS / C")
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
			half := ""
			if r.half > 0 {
				half = fmt.Sprintf("%.2f", r.half)
			}
			fmt.Printf("%-30s %9d %10.1f %9.0f %9.2f %9.2f %12s %8s\n", r.what, r.terminals, r.cpu, r.tps, r.p50, r.p99, half, ratio)
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

// theSwitch measures serve with everything on under a closed loop, the issuers
// and the load generator each a process of its own and every card from one
// issuer, as the relays have one; then, for the tail, an open
// loop at half of that peak.
func theSwitch(b *testing.B, bin, what, database, mix string, terminals int) row {
	b.Helper()
	s := openStreet(b, bin, database)
	defer s.stop(b)
	before := cpuOf(b, s.serve)
	peak := s.load(b, bin, terminals, mix, "--concurrency", strconv.Itoa(terminals))
	used := cpuOf(b, s.serve) - before
	half := s.load(b, bin, terminals, mix, "--rate", strconv.Itoa(int(peak.TPS/2)))
	return row{what: what, terminals: terminals, cpu: float64(used.Microseconds()) / float64(peak.Sent), tps: peak.TPS, p50: peak.Latency.P50, p99: peak.Latency.P99,
		half: half.Latency.P99}
}

// street is the switch and its issuers, as processes.
type street struct {
	terminal  string
	serve     *exec.Cmd
	processes []*exec.Cmd
}

func openStreet(b *testing.B, bin, database string, more ...string) *street {
	b.Helper()
	dir := b.TempDir()
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("a bench needs no secret"), 0o600); err != nil {
		b.Fatal(err)
	}
	key := filepath.Join(dir, "hsm.key")
	if out, err := exec.Command(bin, "hsm", "init", "--file", key, "--passphrase-file", pass).CombinedOutput(); err != nil {
		b.Fatalf("hsm init: %v\n%s", err, out)
	}
	s := &street{terminal: "127.0.0.1:18583"}
	var lines []string
	for i, is := range simcard.Issuers {
		addr := fmt.Sprintf("127.0.0.1:%d", 19501+i)
		s.processes = append(s.processes, start(b, bin, "simulate", "issuer", "--name", is.Name, "--listen", addr, "--calm"))
		lines = append(lines, is.Name+"="+addr)
	}
	const admin = "127.0.0.1:19583"
	s.serve = start(b, bin, append([]string{"serve", "--seed", "demo", "--issuer", strings.Join(lines, ","), "--hsm-file", key, "--hsm-passphrase-file", pass,
		"--database", database, "--log-file", filepath.Join(dir, "log"), "--terminals-listen", s.terminal, "--admin-listen", admin, "--console-listen", ""}, more...)...)
	s.processes = append(s.processes, s.serve)
	ready(b, "http://"+admin+"/readyz")
	return s
}

// stop ends the processes, the switch before its issuers, and waits: the next
// row takes the same ports.
func (s *street) stop(b *testing.B) {
	for i := len(s.processes) - 1; i >= 0; i-- {
		cmd := s.processes[i]
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			b.Errorf("stopping %v: %v", cmd.Args[1:3], err)
		}
		if err := cmd.Wait(); err != nil {
			b.Errorf("%v ended with %v: %s", cmd.Args[1:3], err, cmd.Stderr)
		}
	}
}

type loadReport struct {
	Sent     int            `json:"sent"`
	Approved int            `json:"approved"`
	Declined map[string]int `json:"declined"`
	Errors   map[string]int `json:"errors"`
	TPS      float64        `json:"tps"`
	Latency  struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_ms"`
}

func (s *street) load(b *testing.B, bin string, terminals int, mix string, loop ...string) loadReport {
	b.Helper()
	cmd := exec.Command(bin, append([]string{"load", "--addr", s.terminal, "--terminals", strconv.Itoa(terminals),
		"--duration", duration.String(), "--issuers", "north", "--mix", mix, "--amount", "4.00-9.00", "--json"}, loop...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("load: %v\n%s", err, stderr.String())
	}
	var r loadReport
	if err := json.Unmarshal(out, &r); err != nil {
		b.Fatal(err)
	}
	delete(r.Errors, "unsent") // an open loop that a busy machine could not follow: its tail says so
	if r.Approved != r.Sent || len(r.Errors) > 0 {
		b.Fatalf("of %d sales %d were approved; declined %v, errors %v", r.Sent, r.Approved, r.Declined, r.Errors)
	}
	return r
}

// start runs one process of the street.
func start(b *testing.B, bin string, args ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Stderr = &bytes.Buffer{}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd
}

func ready(b *testing.B, url string) {
	b.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
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

// BenchmarkIdle is what a terminal costs that is connected and says nothing:
// resident memory of the switch over connections, plain and with TLS.
func BenchmarkIdle(b *testing.B) {
	bin := filepath.Join(b.TempDir(), "acquirer")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, "../cmd/acquirer").CombinedOutput(); err != nil {
		b.Fatalf("building: %v\n%s", err, out)
	}
	const terminals = 4000
	for range b.N {
		for _, secure := range []bool{false, true} {
			b.ReportMetric(idle(b, bin, terminals, secure), map[bool]string{false: "plain-B/terminal", true: "TLS-B/terminal"}[secure])
		}
	}
}

func idle(b *testing.B, bin string, terminals int, secure bool) float64 {
	b.Helper()
	var tlsArgs []string
	var conf *tls.Config
	if secure {
		cert, key, pool := selfSigned(b)
		tlsArgs = []string{"--terminals-tls-cert", cert, "--terminals-tls-key", key}
		conf = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	}
	s := openStreet(b, bin, "sqlite:"+filepath.Join(b.TempDir(), "idle.db"), tlsArgs...)
	defer s.stop(b)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.terminal)
		if err != nil {
			b.Fatal(err)
		}
		if !secure {
			return c
		}
		t := tls.Client(c, conf)
		if err := t.Handshake(); err != nil {
			b.Fatal(err)
		}
		return t
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			if err := c.Close(); err != nil {
				b.Error(err)
			}
		}
	}()
	for range terminals { // fill what the start left free
		conns = append(conns, dial())
	}
	before := rssOf(b, s.serve)
	for range terminals {
		conns = append(conns, dial())
	}
	return float64(rssOf(b, s.serve)-before) / float64(terminals)
}

// rssOf is a process's resident memory in bytes.
func rssOf(b *testing.B, cmd *exec.Cmd) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", cmd.Process.Pid))
	if err != nil {
		b.Skipf("memory of another process is read from /proc: %v", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// selfSigned makes a P-256 certificate for localhost.
func selfSigned(b *testing.B) (certFile, keyFile string, pool *x509.CertPool) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(cert)
	return certFile, keyFile, pool
}

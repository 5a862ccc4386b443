package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"

	"acquirer/money"
)

// payShields starts `hsm serve` and returns where it listens and how it is
// stopped.
func payShields(t *testing.T, args ...string) (addr string, stop func() (int, string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stderr := newText()
	done := make(chan int, 1)
	go func() {
		status := run(ctx, append([]string{"hsm", "serve", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), io.Discard, stderr)
		stderr.end()
		done <- status
	}()
	wait, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	line, ok := stderr.await(wait, "answering as a payShield")
	if !ok {
		cancel()
		t.Fatalf("hsm serve ended with %d: %s", <-done, stderr.String())
	}
	_, addr, _ = strings.Cut(line, "address=")
	addr, _, _ = strings.Cut(addr, " ")
	stopped := false
	stop = func() (int, string) {
		stopped = true
		cancel()
		return <-done, stderr.String()
	}
	t.Cleanup(func() {
		if !stopped {
			stop()
		}
	})
	return addr, stop
}

// askDevice sends one command with a header of four and returns the answer.
func askDevice(t *testing.T, c net.Conn, request string) string {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	frame := binary.BigEndian.AppendUint16(nil, uint16(4+len(request)))
	if _, err := c.Write(append(append(frame, "HDR1"...), request...)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, binary.BigEndian.Uint16(n[:]))
	if _, err := io.ReadFull(r, answer); err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(string(answer), "HDR1")
	if !ok {
		t.Fatalf("answer %q does not begin with the header", answer)
	}
	return text
}

// TestHSMServe: the published pairs over the wire, as the program answers
// them.
func TestHSMServe(t *testing.T) {
	addr, stop := payShields(t, "--lmk", "test")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	text, err := os.ReadFile("../../testdata/vectors/payshield_wire.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Inputs   struct{ Request string }
		Expected struct{ Response string }
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) != 54 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for _, v := range vectors {
		if got := askDevice(t, c, v.Inputs.Request); got != v.Expected.Response {
			t.Errorf("%s\n got %s\nwant %s", v.Inputs.Request, got, v.Expected.Response)
		}
	}
	status, log := stop()
	if status != 0 || !strings.Contains(log, "not secret") {
		t.Errorf("status %d, log\n%s", status, log)
	}
	for _, secret := range []string{"0406FBB23A5214DF", "DC80B186C30902B0"} {
		if strings.Contains(log, secret) {
			t.Error("the log shows a field of a message")
		}
	}
}

func TestHSMServeRefusals(t *testing.T) {
	key, pass := masterKey(t)
	for _, c := range []struct {
		what   string
		args   []string
		env    string
		status int
		want   string
	}{
		{"no LMK", nil, "", 2, "lmk"},
		{"an LMK that is none", []string{"--lmk", "demo"}, "", 2, "neither test nor store"},
		{"the test LMK in production", []string{"--lmk", "test", "--environment", "production"}, "", 2, "test LMK"},
		{"the test LMK in production by variable", []string{"--lmk", "test"}, "production", 2, "test LMK"},
		{"an environment that is none", []string{"--lmk", "test", "--environment", "prod"}, "", 2, "neither test nor production"},
		{"no LMK file", []string{"--lmk", "store", "--lmk-file", filepath.Join(t.TempDir(), "none"), "--file", key, "--passphrase-file", pass}, "", 1, "acquirer hsm lmk"},
		{"a header that is too long", []string{"--lmk", "test", "--header-length", "256"}, "", 2, "0 to 255"},
		{"a certificate without key", []string{"--lmk", "test", "--tls-cert", "x"}, "", 2, "go together"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Setenv("ACQUIRER_ENVIRONMENT", c.env)
			status, _, stderr := runs(t, append([]string{"hsm", "serve", "--listen", "127.0.0.1:0"}, c.args...)...)
			if status != c.status || !strings.Contains(stderr, c.want) {
				t.Errorf("status %d: %s", status, stderr)
			}
		})
	}
}

// TestHSMServeStore: an LMK of its own, which is there again after a start.
func TestHSMServeStore(t *testing.T) {
	key, pass := masterKey(t)
	lmk := filepath.Join(t.TempDir(), "deep", "lmk.json")
	store := []string{"--lmk-file", lmk, "--file", key, "--passphrase-file", pass}
	status, out, stderr := runs(t, append([]string{"hsm", "lmk"}, store...)...)
	if status != 0 || !strings.Contains(out, "check value") {
		t.Fatalf("hsm lmk: %d %s %s", status, out, stderr)
	}
	if status, _, _ := runs(t, append([]string{"hsm", "lmk"}, store...)...); status != 1 {
		t.Error("an LMK file is overwritten")
	}
	if info, err := os.Stat(lmk); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	made := ""
	for range 2 {
		addr, stop := payShields(t, append([]string{"--lmk", "store", "--environment", "production"}, store...)...)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if made == "" {
			made = askDevice(t, c, "A00001U")[4:]
		}
		if got := askDevice(t, c, "BU011"+made[:33]+";001"); got != "BV00"+made[33:] {
			t.Errorf("the key is not known: %s", got)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if status, log := stop(); status != 0 || strings.Contains(log, "not secret") {
			t.Errorf("%d %s", status, log)
		}
	}
}

// certificate makes a self-signed one and writes it and its key.
func certificate(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// TestHSMServeTLS: with --client-ca only who shows a certificate is answered,
// and `acquirer serve` has one to show.
func TestHSMServeTLS(t *testing.T) {
	cert, key := certificate(t, "device")
	clientCert, clientKey := certificate(t, "switch")
	addr, _ := payShields(t, "--lmk", "test", "--tls-cert", cert, "--tls-key", key, "--client-ca", clientCert)
	conf, err := clientTLS(cert, clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", addr, conf)
	if err != nil {
		t.Fatal(err)
	}
	if got := askDevice(t, c, "B20002hi"); got != "B300hi" {
		t.Error(got)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	conf.Certificates = nil
	stranger, err := tls.Dial("tcp", addr, conf)
	if err == nil { // TLS 1.3 tells on the first read
		if _, err = stranger.Write([]byte("\x00\x0cHDR1B20002hi")); err == nil {
			_, err = stranger.Read(make([]byte, 1))
		}
		_ = stranger.Close() // it is refused already
	}
	if err == nil {
		t.Error("a client without certificate is answered")
	}
	plain, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if _, err := plain.Write([]byte("\x00\x0cHDR1B20002hi")); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(plain); strings.Contains(string(b), "B300") {
		t.Error("plain TCP is answered")
	}
}

// TestServeOnPayShield: the whole program with its payment keys in a payShield:
// a terminal signs in and sells with PIN.
func TestServeOnPayShield(t *testing.T) {
	device, _ := payShields(t, "--lmk", "test")
	key, pass := masterKey(t)
	dir := t.TempDir()
	args := []string{"serve", "--hsm-kind", "payshield", "--hsm-payshield-devices", device, "--hsm-file", key, "--hsm-passphrase-file", pass,
		"--database", "sqlite:" + filepath.Join(dir, "acquirer.db"), "--seed", "demo", "--log-format", "text",
		"--terminals-listen", freeAddr(t), "--admin-listen", freeAddr(t), "--console-listen", ""}
	for _, is := range simcard.Issuers {
		host, err := issuer.New(issuer.Config{Name: is.Name})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = host.Serve(l) }() // ends with Close
		t.Cleanup(host.Close)
		args = append(args, "--issuer", is.Name+"="+l.Addr().String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	stderr := newText()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, args, strings.NewReader(""), io.Discard, stderr)
		stderr.end()
	}()
	defer func() {
		cancel()
		if status := <-done; status != 0 {
			t.Errorf("serve ended with %d:\n%s", status, stderr.tail(20))
		}
	}()
	wait, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	line, ok := stderr.await(wait, "msg=listening")
	if !ok {
		t.Fatalf("it does not listen:\n%s", stderr.tail(20))
	}
	field := func(name string) string {
		_, v, _ := strings.Cut(line, name+"=")
		v, _, _ = strings.Cut(v, " ")
		return v
	}
	tid, mid := simcard.SeedTerminal(0)
	term, err := terminal.New(terminal.Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Dial: terminal.DialTCP(field("terminals"), nil), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = term.Close() }()
	if err := term.SignIn(wait); err != nil {
		t.Fatal(err)
	}
	card, err := simcard.New(simcard.Issuers[0].PAN(7))
	if err != nil {
		t.Fatal(err)
	}
	var res terminal.Result
	for wait.Err() == nil { // the issuer's keys come after the listener opens
		if res, err = term.Sale(wait, terminal.Sale{Amount: money.Yuan(5), Card: card, Entry: terminal.Chip, PIN: card.PIN}); err == nil && res.Approved() {
			break
		}
	}
	if err != nil || !res.Approved() {
		t.Fatalf("sale with PIN: %+v, %v\n%s", res, err, stderr.tail(20))
	}
	metrics := fetch(t, "http://"+field("admin")+"/metrics")
	for _, want := range []string{`acquirer_payshield_up{device="` + device + `"} 1`, `acquirer_payshield_command_seconds_count{command="CA"`, "acquirer_hsm_pin_failures_total"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s among the metrics", want)
		}
	}
}

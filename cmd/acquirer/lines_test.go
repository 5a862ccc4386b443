package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/audit"
	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/simulate/issuer"
	"acquirer/spec"
	"acquirer/store"
	switching "acquirer/switch"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, a.cert = a.make(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) make(c *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, out
}

func (a *authority) file(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// ca is the authority's own certificate.
func (a *authority) ca() string { return a.file("ca.pem", "CERTIFICATE", a.cert.Raw) }

// issue makes a certificate for a host name and gives the files of it and its key.
func (a *authority) issue(host string) (cert, key string) {
	k, c := a.make(&x509.Certificate{Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.file(host+".pem", "CERTIFICATE", c.Raw), a.file(host+".key", "EC PRIVATE KEY", der)
}

// simulateIssuer runs the command until the test ends and gives its address.
func simulateIssuer(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd, text, done := newSimulateIssuerCmd(), new(watchedOutput), make(chan error, 1)
	cmd.SetErr(text)
	cmd.SetArgs(args)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if at := regexp.MustCompile(`issuer \S+ on (127\.0\.0\.1:\d+)`).FindStringSubmatch(text.String()); at != nil {
			return at[1]
		}
		if time.Now().After(end) {
			t.Fatal(text.String())
		}
	}
}

// wayOut is as much of a house as its lines need, with the issuers of a seed.
func wayOut(t *testing.T, seed func(zmk hsm.Key) string) (*house, error) {
	t.Helper()
	master := make([]byte, 32)
	if _, err := rand.Read(master); err != nil {
		t.Fatal(err)
	}
	box, err := hsm.NewSoftware(master)
	if err != nil {
		t.Fatal(err)
	}
	zmk, err := formKey(t.Context(), box, hsm.UseZMK, issuer.TestZMK("north"))
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := readIssuers(&merchant.Seed{Issuers: json.RawMessage(seed(zmk))})
	if err != nil {
		return nil, err
	}
	v := &house{hsm: box, metrics: prometheus.NewRegistry(), legs: map[string]switching.Leg{}, log: slog.New(slog.DiscardHandler)}
	v.strays = watchStrays(nil, v.log)
	v.cfg.Switch.Acquirer, v.cfg.Switch.IssuerTimeout = "48020000", 5*time.Second
	if v.db, err = store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "lines.db"), audit.Schema, linesSchema, switching.ZoneSchema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.close(); err != nil {
			t.Error(err)
		}
	})
	return v, v.startIssuers(t.Context(), issuers)
}

func (v *house) awaitLine(t *testing.T, what string, is func(routing.LineState) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		st := v.legs["north"].Issuer.State()
		if is(st.Lines[0]) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %+v", what, st)
		}
	}
}

// A line with certificates on both sides, all of it from the seed; and every
// way in which one side does not trust the other.
func TestLinesOverMutualTLS(t *testing.T) {
	banks, acquirers, strangers := newAuthority(t, "banks"), newAuthority(t, "acquirers"), newAuthority(t, "strangers")
	hostCert, hostKey := banks.issue("north.example")
	ourCert, ourKey := acquirers.issue("acquirer.example")
	falseCert, falseKey := strangers.issue("acquirer.example")
	at := simulateIssuer(t, "--name", "north", "--tls-cert", hostCert, "--tls-key", hostKey, "--tls-client-ca", acquirers.ca())
	for _, c := range []struct{ name, tls, why string }{
		{"trusted", fmt.Sprintf(`{"ca": %q, "cert": %q, "key": %q, "server_name": "north.example"}`, banks.ca(), ourCert, ourKey), ""},
		{"no certificate of ours", fmt.Sprintf(`{"ca": %q, "server_name": "north.example"}`, banks.ca()), "certificate required"},
		{"ours is of somebody else", fmt.Sprintf(`{"ca": %q, "cert": %q, "key": %q, "server_name": "north.example"}`, banks.ca(), falseCert, falseKey), "certificate"},
		{"theirs is of somebody else", fmt.Sprintf(`{"ca": %q, "cert": %q, "key": %q, "server_name": "north.example"}`, strangers.ca(), ourCert, ourKey), "unknown authority"},
		{"another server", fmt.Sprintf(`{"ca": %q, "cert": %q, "key": %q, "server_name": "south.example"}`, banks.ca(), ourCert, ourKey), "north.example, not south.example"},
		{"plain", "null", "signing on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := wayOut(t, func(zmk hsm.Key) string {
				return fmt.Sprintf(`[{"name": "north", "institution": "01020001", "lines": [%q], "zmk": %q, "tls": %s, "backoff_min": "1ms", "backoff_max": "10ms", "sign_on_timeout": "2s"}]`, at, zmk, c.tls)
			})
			if err != nil {
				t.Fatal(err)
			}
			v.awaitLine(t, "want "+c.why, func(l routing.LineState) bool {
				return c.why == "" && l.SignedOn || c.why != "" && !l.SignedOn && strings.Contains(l.LastError, c.why)
			})
		})
	}
}

// A dialect of an operator's own, by the seed on one side and --dialect on the
// other.
func TestLineInADialectOfAFile(t *testing.T) {
	d, err := spec.Load("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "harbour.json")
	text := strings.NewReplacer(`"iso87-ascii"`, `"harbour"`, `"tpdu": false, "header": 0`, `"tpdu": true, "header": 2`, `"x919"`, `"cmac"`).Replace(string(d.File()))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := simulateIssuer(t, "--name", "north", "--dialect", file)
	v, err := wayOut(t, func(zmk hsm.Key) string {
		return fmt.Sprintf(`[{"name": "north", "institution": "01020001", "lines": [%q], "zmk": %q, "dialect": %q, "head": "6000010002FFFF"}]`, at, zmk, file)
	})
	if err != nil {
		t.Fatal(err)
	}
	v.awaitLine(t, "it signs on and has its keys", func(l routing.LineState) bool { return l.SignedOn })
	if name := v.legs["north"].Issuer.Dialect().Name(); name != "harbour" {
		t.Errorf("it speaks %s", name)
	}
}

func TestIssuerOfASeedIsRefused(t *testing.T) {
	for _, c := range []struct{ what, entry, why string }{
		{"a misspelt key", `"timeouts": "3s"`, "unknown field"},
		{"a time without unit", `"timeout": "25"`, `"25" is not a time above zero`},
		{"a time below zero", `"queue_timeout": "-1s"`, "not a time above zero"},
		{"half a certificate", `"tls": {"cert": "a.pem"}`, "cert and key go together"},
		{"no such authority", `"tls": {"ca": "nowhere.pem"}`, "nowhere.pem"},
		{"a cap below zero", `"max_in_flight": -1`, "a number is negative"},
		{"a dialect that is none", `"dialect": "esperanto"`, "esperanto"},
		{"the dialect of terminals", `"dialect": "unionpay-pos"`, "UnionPay's terminals"},
		{"a MAC that the dialect has", `"dialect": "iso87-ascii", "x919": true`, "says itself that it is signed with x919"},
		{"a head that is none", `"head": "60zz"`, "not hexadecimal"},
		{"a head for CUPS", `"head": "6000000000"`, "without the header of CUPS"},
		{"back-off upside down", `"backoff_min": "10s", "backoff_max": "1s"`, "back-off of at least 10s"},
	} {
		_, err := wayOut(t, func(zmk hsm.Key) string {
			return fmt.Sprintf(`[{"name": "north", "institution": "01020001", "lines": ["127.0.0.1:1"], "zmk": %q, %s}]`, zmk, c.entry)
		})
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %s", c.what, err, c.why)
		}
	}
}

// The commands drain, list and resume against a running house.
func TestLinesCommands(t *testing.T) {
	at := simulateIssuer(t, "--name", "north")
	v, err := wayOut(t, func(zmk hsm.Key) string {
		return fmt.Sprintf(`[{"name": "north", "institution": "01020001", "lines": [%q], "zmk": %q}]`, at, zmk)
	})
	if err != nil {
		t.Fatal(err)
	}
	v.awaitLine(t, "it signs on", func(l routing.LineState) bool { return l.SignedOn })
	v.cfg.Database = "sqlite:" + filepath.Join(t.TempDir(), "lines.db")
	a := &admin{v: v}
	web := httptest.NewUnstartedServer(nil)
	token, shut, err := openDoor(v.cfg, web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a.token = token
	web.Config.Handler = a.handler()
	web.Start()
	defer web.Close()
	lines := func(want int, args ...string) string {
		t.Helper()
		out, text, code := call(t, newLinesCmd(), append(args, "--database", v.cfg.Database)...)
		if code != want {
			t.Errorf("%v: exit %d, %s", args, code, text)
		}
		return out + text
	}
	if s := lines(0, "list"); !strings.Contains(s, "north") || !strings.Contains(s, " up ") {
		t.Errorf("list says %s", s)
	}
	lines(0, "drain", "north", "--line", "1")
	v.awaitLine(t, "it is drained", func(l routing.LineState) bool { return l.Drained && !l.Connected })
	if s := lines(0, "list"); !strings.Contains(s, " drained ") {
		t.Errorf("list says %s", s)
	}
	// The next process finds it out of service.
	if drained, err := drainedLines(t.Context(), v.db); err != nil || len(drained) != 1 || !slices.Equal(drained["north"], []int{1}) {
		t.Errorf("after a restart: %v, %v", err, drained)
	}
	again := *v
	again.legs, again.metrics = map[string]switching.Leg{}, prometheus.NewRegistry()
	if err := again.startIssuers(t.Context(), []issuerConfig{{Name: "north", Institution: "01020001", Lines: []string{at}}}); err != nil {
		t.Fatal(err)
	}
	if st := again.legs["north"].Issuer.State().Lines[0]; !st.Drained || st.Connected {
		t.Errorf("after a restart: %+v", st)
	}
	if err := again.legs["north"].Issuer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	lines(0, "resume", "north")
	v.awaitLine(t, "it is back", func(l routing.LineState) bool { return l.SignedOn && !l.Drained })
	var states []routing.State
	if err := json.Unmarshal([]byte(lines(0, "list", "--json")), &states); err != nil || len(states) != 1 || states[0].Issuer != "north" {
		t.Errorf("%v, %+v", err, states)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, `no issuer is called "nobody"; there are north`, []string{"drain", "nobody"}},
		{1, "has lines 1 to 1 and no line 2", []string{"drain", "north", "--line", "2"}},
		{2, "numbered from 1", []string{"drain", "north", "--line", "-1"}},
	} {
		if s := lines(c.code, c.args...); !strings.Contains(s, c.want) {
			t.Errorf("%v: %s", c.args, s)
		}
	}
	list, err := audit.List(t.Context(), v.db, "", 0, 10)
	if err != nil || len(list) != 2 || list[1].Op != "lines drain" || list[1].Subject != "north" || list[1].Detail != "line 1" || list[1].Who != whoRuns() || list[0].Op != "lines resume" {
		t.Errorf("the audit log has %v, %+v", err, list)
	}
	res, err := http.Post(web.URL+"/issuers/north/drain", "", nil) // as a page in a browser on this machine could
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %v, status %d", err, res.StatusCode)
	}
	if drained, err := drainedLines(t.Context(), v.db); err != nil || len(drained) != 0 {
		t.Errorf("resumed, and after a restart: %v, %v", err, drained)
	}
	if st := v.legs["north"].Issuer.State(); st.Lines[0].Drained {
		t.Error("it drained the line")
	}
	if err := shut(); err != nil {
		t.Error(err)
	}
	if s := lines(1, "list"); !strings.Contains(s, "no switch with this configuration runs here") {
		t.Errorf("nobody there: %s", s)
	}
}

package remote

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/audit"
	"acquirer/hsm/harden"
)

var passphrase = []byte("a passphrase for tests only")

// vaultOf is a vault over a new key file, sealed.
func vaultOf(t testing.TB, custodians *hsm.Custodians, secret []byte) *Vault {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "hsm.key")
	if err := hsm.CreateKeyFile(path, hsm.NewRing(), custodians, secret); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(filepath.Join(dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	v, err := NewVault(path, log, harden.Report{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// open is a vault that is open, under a passphrase.
func open(t testing.TB) *Vault {
	t.Helper()
	v := vaultOf(t, nil, passphrase)
	if err := v.Unlock("test", passphrase); err != nil {
		t.Fatal(err)
	}
	return v
}

// serve serves a vault until the test ends or the returned function is called.
func serve(t testing.TB, cfg Config) (stop func()) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cfg.ServeOn(ctx, l) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func socketOf(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hsm") // short: the path of a socket has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s", "hsm.sock")
}

func dial(t testing.TB, socket string) *Client {
	t.Helper()
	c := Dial(DialConfig{Socket: socket, Timeout: 20 * time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Every verb comes through, with the answers of the HSM behind it.
func TestVerbs(t *testing.T) {
	ctx := t.Context()
	v, socket := open(t), socketOf(t)
	serve(t, Config{Vault: v, Socket: socket})
	c := dial(t, socket)
	inside, err := v.HSM()
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tak, kcv, err := c.GenerateKey(ctx, hsm.UseTAK, hsm.TDES16)
	must(err)
	if got, err := inside.CheckValue(ctx, tak); err != nil || got != kcv {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.CheckValue(ctx, tak); err != nil || got != kcv {
		t.Errorf("%v, %v", got, err)
	}
	mac, err := c.MAC(ctx, tak, hsm.MACUnionPay, []byte("data"))
	must(err)
	if want, err := inside.MAC(ctx, tak, hsm.MACUnionPay, []byte("data")); err != nil || want != mac {
		t.Errorf("%x, %v", want, err)
	}
	must(c.VerifyMAC(ctx, tak, hsm.MACUnionPay, []byte("data"), mac[:]))
	if err := c.VerifyMAC(ctx, tak, hsm.MACUnionPay, []byte("date"), mac[:]); err != hsm.ErrMAC {
		t.Errorf("a wrong MAC: %v", err)
	}
	if _, err := c.MAC(ctx, tak, hsm.MACX919, nil); !errors.Is(err, hsm.ErrKeyUse) || errors.Is(err, hsm.ErrKey) {
		t.Errorf("another MAC: %v", err)
	}
	if _, err := c.CheckValue(ctx, "nonsense"); !errors.Is(err, hsm.ErrKey) {
		t.Errorf("nonsense: %v", err)
	}

	a, b := bytes.Repeat([]byte{0x13}, 16), bytes.Repeat([]byte{0xC8}, 16)
	b[15] = 0x37
	zmk, _, err := c.FormKey(ctx, hsm.UseZMK, hsm.TDES16, a, b)
	must(err)
	zpk, _, err := c.GenerateKey(ctx, hsm.UseZPK, hsm.TDES16)
	must(err)
	cryptogram, check, err := c.ExportKey(ctx, zmk, zpk)
	must(err)
	if _, err := c.ImportKey(ctx, zmk, hsm.UseZPK, cryptogram, check); err != nil {
		t.Error(err)
	}
	if _, err := c.ImportKey(ctx, zmk, hsm.UseZPK, cryptogram, nil); err != nil { // by parity: nil comes as nil
		t.Error(err)
	}
	if _, err := c.ImportKey(ctx, zmk, hsm.UseZPK, cryptogram, []byte{}); err == nil {
		t.Error("an empty check value came as none")
	}
	if _, err := c.ImportKey(ctx, zmk, hsm.UseZPK, cryptogram, []byte{1, 2, 3}); !errors.Is(err, hsm.ErrKCV) {
		t.Errorf("a wrong check value: %v", err)
	}
	tmk, _, err := c.FormKey(ctx, hsm.UseTMK, hsm.TDES16, a, b)
	must(err)
	keys, err := c.WorkingKeys(ctx, tmk, hsm.Set004, hsm.MAKDouble)
	must(err)
	if keys.TDK == "" || len(keys.DE62) != 60 {
		t.Errorf("%+v", keys)
	}
	ttk, _, err := c.GenerateKey(ctx, hsm.UseTTK, hsm.TDES16)
	must(err)
	if _, cryptogram, kcv, err := c.DeliverTMK(ctx, ttk, hsm.TDES16); err != nil || len(cryptogram) != 16 || len(kcv) != 4 {
		t.Errorf("%v", err)
	}
	kbpk, _, err := c.GenerateKey(ctx, hsm.UseKBPK, hsm.AES16)
	must(err)
	if _, block, _, err := c.DeliverTMKBlock(ctx, kbpk, hsm.TDES16); err != nil || block[0] != 'D' {
		t.Errorf("%v", err)
	}

	pan, err := card.ParsePAN("6210000000000019")
	must(err)
	if _, err := c.TranslatePIN(ctx, keys.TPK, hsm.ISO0, hsm.PINBlockOf(make([]byte, 8)), pan, zpk, hsm.ISO0); err != hsm.ErrPIN {
		t.Errorf("a block of zeros: %v", err)
	}
	dek, _, err := c.GenerateKey(ctx, hsm.UseDEK, hsm.AES32)
	must(err)
	sealed, err := c.Encrypt(ctx, dek, []byte("row"), []byte("secret"))
	must(err)
	if got, err := c.Decrypt(ctx, dek, []byte("row"), sealed); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Decrypt(ctx, dek, []byte("other"), sealed); err != hsm.ErrData {
		t.Errorf("another row: %v", err)
	}
	hk, _, err := c.GenerateKey(ctx, hsm.UseHMAC, hsm.HMAC32)
	must(err)
	token, err := c.Token(ctx, hk, []byte(pan.Reveal()))
	must(err)
	if want, err := inside.Token(ctx, hk, []byte(pan.Reveal())); err != nil || want != token {
		t.Errorf("%v", err)
	}
	if i, err := c.Inspect(ctx, zmk); err != nil || i.Use != hsm.UseZMK || i.Master != inside.MasterCheckValue() {
		t.Errorf("%+v, %v", i, err)
	}
	if k, err := c.Rewrap(ctx, zmk); err != nil || k != zmk {
		t.Errorf("%v", err)
	}
	if m, err := c.Masters(ctx); err != nil || len(m) != 1 || m[0] != inside.MasterCheckValue() {
		t.Errorf("%v, %v", m, err)
	}
	if s, err := c.Status(ctx); err != nil || s.Sealed || s.Process != os.Getpid() {
		t.Errorf("%+v, %v", s, err)
	}
	if r, err := c.VerifyAudit(ctx, ""); err != nil || r.Lines < 12 || r.Uncovered != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = c.VerifyAudit(ctx, audit.Head{Lines: 1, Hash: strings.Repeat("a", 64)}.String())
	if broken := (*audit.Broken)(nil); !errors.As(err, &broken) || broken.Line != 1 {
		t.Errorf("a head that is not there: %v", err)
	}
}

// zeros are arguments of the right types.
func zeros(m reflect.Value, ctx context.Context) []reflect.Value {
	in := []reflect.Value{reflect.ValueOf(ctx)}
	for i := 1; i < m.Type().NumIn(); i++ {
		in = append(in, reflect.Zero(m.Type().In(i)))
	}
	return in
}

// Every verb of the client has one of its name and its types behind it: called
// with nothing useful, the other side refuses, and the connection stays.
func TestNoVerbIsMissing(t *testing.T) {
	v, socket := open(t), socketOf(t)
	serve(t, Config{Vault: v, Socket: socket})
	c := dial(t, socket)
	client := reflect.ValueOf(c)
	for name := range verbs {
		m := client.MethodByName(name)
		if !m.IsValid() {
			t.Errorf("the client has no %s", name)
			continue
		}
		var out []reflect.Value
		if m.Type().IsVariadic() {
			out = m.CallSlice(zeros(m, t.Context()))
		} else {
			out = m.Call(zeros(m, t.Context()))
		}
		err, _ := out[len(out)-1].Interface().(error)
		if errors.Is(err, ErrUnavailable) || errors.Is(err, errCodec) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "Seal" { // it did
			if err := v.Unlock("test", passphrase); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The errors of package hsm that callers ask for are all known by name.
func TestSentinels(t *testing.T) {
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, s := range sentinels {
		known[s.Error()] = true
	}
	n := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Err") {
				return true
			}
			if call, ok := spec.Values[0].(*ast.CallExpr); ok && len(call.Args) == 1 {
				if text, ok := call.Args[0].(*ast.BasicLit); ok {
					n++
					if !known[strings.Trim(text.Value, `"`)] {
						t.Errorf("%s: %s is not in sentinels", name, spec.Names[0].Name)
					}
				}
			}
			return true
		})
	}
	if n < 12 {
		t.Errorf("%d errors were found", n)
	}
}

// Sealed it refuses; two of three components open it, each entered by itself;
// a wrong one is refused and everything is in the log.
func TestCustodians(t *testing.T) {
	ctx := t.Context()
	people, parts, key, err := hsm.NewComponents([]string{"alice", "bob", "carol"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	v, socket := vaultOf(t, people, key), socketOf(t)
	serve(t, Config{Vault: v, Socket: socket})
	c := dial(t, socket)
	if err := c.Ready(ctx); err != ErrSealed {
		t.Errorf("sealed: %v", err)
	}
	if _, _, err := c.GenerateKey(ctx, hsm.UseTMK, hsm.TDES16); err != ErrSealed {
		t.Errorf("sealed: %v", err)
	}
	if err := c.Unlock(ctx, passphrase); !errors.Is(err, hsm.ErrCustodians) {
		t.Errorf("by passphrase: %v", err)
	}
	if _, err := c.EnterComponent(ctx, "bob", parts[0].Value[:]); !errors.Is(err, hsm.ErrComponents) {
		t.Errorf("alice's as bob's: %v", err)
	}
	if in, err := c.EnterComponent(ctx, "carol", parts[2].Value[:]); err != nil || len(in) != 1 || in[0] != "carol" {
		t.Errorf("%v, %v", in, err)
	}
	if in, err := c.EnterComponent(ctx, "carol", parts[2].Value[:]); err != nil || len(in) != 1 {
		t.Errorf("carol twice: %v, %v", in, err)
	}
	if s, err := c.Status(ctx); err != nil || !s.Sealed || len(s.Entered) != 1 || s.OpenedBy != "2 of alice, bob, carol" {
		t.Errorf("%+v, %v", s, err)
	}
	if in, err := c.EnterComponent(ctx, "alice", parts[0].Value[:]); err != nil || len(in) != 0 {
		t.Errorf("%v, %v", in, err)
	}
	if err := c.Ready(ctx); err != nil {
		t.Error(err)
	}
	tmk, _, err := c.GenerateKey(ctx, hsm.UseTMK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	// A change of the master key wants two of them again, within ten minutes.
	if _, err := c.Change(ctx, Rotate, []string{"alice", "bob"}, nil); err == nil || !strings.Contains(err.Error(), "components") {
		t.Errorf("nobody entered anything: %v", err)
	}
	enter := func() {
		t.Helper()
		for _, i := range []int{0, 1} {
			if _, err := c.EnterComponent(ctx, parts[i].Custodian, parts[i].Value[:]); err != nil {
				t.Fatal(err)
			}
		}
	}
	enter()
	v.now = func() time.Time { return time.Now().Add(authorised + time.Second) }
	if _, err := c.Change(ctx, Rotate, nil, nil); err == nil {
		t.Error("too late, and it was done")
	}
	v.now = time.Now
	enter()
	if s, err := c.Status(ctx); err != nil || len(s.Authorised) != 2 || s.Until.IsZero() {
		t.Errorf("%+v, %v", s, err)
	}
	masters, err := c.Change(ctx, Rotate, nil, nil)
	if err != nil || len(masters) != 2 {
		t.Fatalf("%v, %v", masters, err)
	}
	moved, err := c.Rewrap(ctx, tmk)
	if err != nil || moved == tmk {
		t.Fatalf("%v", err)
	}
	if _, err := c.WorkingKeys(ctx, tmk, hsm.Set003, hsm.MAKDouble); err != nil {
		t.Errorf("the old generation: %v", err)
	}
	if _, err := c.Change(ctx, Retire, nil, nil); err == nil {
		t.Error("the authority was used twice")
	}
	enter()
	if _, err := c.Change(ctx, Retire, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Inspect(ctx, tmk); !errors.Is(err, hsm.ErrKey) {
		t.Errorf("retired: %v", err)
	}
	if err := c.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(ctx); err != ErrSealed {
		t.Errorf("sealed again: %v", err)
	}
	enter()
	if i, err := c.Inspect(ctx, moved); err != nil || i.Use != hsm.UseTMK {
		t.Errorf("%v, %v", i, err)
	}
	if r, err := c.VerifyAudit(ctx, ""); err != nil || r.Unsigned == 0 || r.Signed == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	text, err := os.ReadFile(v.Log().Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"op":"component"`, `"op":"unseal"`, `"op":"seal"`, `"op":"rotate"`, `"op":"retire"`, `"custodians":["alice","bob"]`, `"op":"generate"`, fmt.Sprintf("uid %d", os.Getuid())} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("the log has no %s", want)
		}
	}
	file, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{key, parts[0].Value[:], parts[1].Value[:]} {
		digits := []byte(hex.EncodeToString(secret[:8]))
		if bytes.Contains(bytes.ToLower(append(text, file...)), digits) || bytes.Contains(append(text, file...), secret) {
			t.Error("a secret is in the log or the key file")
		}
	}
}

// Where a passphrase opens the file two different people are named.
func TestTwoPeople(t *testing.T) {
	v := open(t)
	for _, names := range [][]string{nil, {"alice"}, {"alice", "Alice "}, {"alice", ""}} {
		if _, err := v.Change("test", Rotate, names, passphrase); err == nil {
			t.Errorf("%q changed the master key", names)
		}
	}
	if _, err := v.Change("test", Rotate, []string{"alice", "bob"}, []byte("another passphrase")); !errors.Is(err, hsm.ErrPassphrase) {
		t.Errorf("%v", err)
	}
	if _, err := v.Change("test", Retire, []string{"alice", "bob"}, passphrase); err == nil {
		t.Error("the only master key was retired")
	}
	if m, err := v.Change("test", Rotate, []string{"alice", "bob"}, passphrase); err != nil || len(m) != 2 {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := v.Change("test", Rotate, []string{"alice", "bob"}, passphrase); !errors.Is(err, hsm.ErrRotating) {
		t.Errorf("twice: %v", err)
	}
}

// A socket for others is refused, one that is served too, one that is left
// behind is taken over.
func TestListen(t *testing.T) {
	v, socket := open(t), socketOf(t)
	cfg := Config{Vault: v, Socket: socket}
	dir := filepath.Dir(socket)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(cfg); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder that is open to all: %v", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := Listen(cfg); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("twice: %v", err)
	}
	l.SetUnlinkOnClose(false) // as a crash leaves it
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Listen(cfg); err != nil {
		t.Fatalf("left behind: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(cfg); err == nil {
		t.Error("a file was taken for a socket")
	}
	if _, err := os.Stat(socket); errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was removed")
	}
}

// The HSM goes away under load and comes back; every call is answered, and a
// caller that cannot wait is told.
func TestReconnect(t *testing.T) {
	v, socket := open(t), socketOf(t)
	stop := serve(t, Config{Vault: v, Socket: socket})
	c := dial(t, socket)
	key, _, err := c.GenerateKey(t.Context(), hsm.UseTAK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	began := make(chan struct{}, 64)
	for range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := c.MAC(t.Context(), key, hsm.MACUnionPay, []byte("data")); err != nil {
					t.Error(err)
					return
				}
				select {
				case began <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 3 {
		for range 64 {
			<-began
		}
		stop()
		stop = serve(t, Config{Vault: v, Socket: socket})
	}
	for range 64 {
		<-began
	}
	cancel()
	wg.Wait()
	stop()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.MAC(short, key, hsm.MACUnionPay, nil); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody there: %v", err)
	}
}

// Garbage ends its own connection and nothing else.
func TestGarbage(t *testing.T) {
	v, socket := open(t), socketOf(t)
	serve(t, Config{Vault: v, Socket: socket})
	c := dial(t, socket)
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"\xFF\xFF\xFF\xFF", "\x00\x00\x00\x00", "\x00\x00\x00\x0A\x00\x00\x00\x00\x00\x00\x00\x01\xFF\xFF",
		"\x00\x00\x00\x0D\x00\x00\x00\x00\x00\x00\x00\x01\x04MAC\x01", "GET / HTTP/1.1\r\n\r\n"} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n > 0 {
			t.Errorf("%q was answered: %v", text, err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// FuzzBody: whatever a body says, reading it ends, without a panic.
func FuzzBody(f *testing.F) {
	f.Add([]byte("\x04MAC\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range verbs {
			r := &reader{b: b}
			for _, in := range v.ins {
				r.value(reflect.New(in).Elem())
			}
			if err := r.end(); err == nil && len(b) > 0 && len(v.ins) == 0 {
				t.Errorf("%x was read as nothing", b)
			}
		}
	})
}

func BenchmarkMAC(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("%d callers", callers), func(b *testing.B) {
			v, socket := open(b), socketOf(b)
			serve(b, Config{Vault: v, Socket: socket})
			c := dial(b, socket)
			key, _, err := c.GenerateKey(context.Background(), hsm.UseTAK, hsm.TDES16)
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, 200)
			b.SetParallelism(callers)
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if _, err := c.MAC(context.Background(), key, hsm.MACUnionPay, data); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// zeroOf is an argument as the wire has it, of the zero value of its type.
func zeroOf(t reflect.Type) []byte { return appendValue(nil, reflect.Zero(t)) }

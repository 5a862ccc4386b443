package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"acquirer/hsm"
	"acquirer/hsm/audit"
	"acquirer/hsm/remote"
	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/simulate/card"
	"acquirer/store"
	"acquirer/store/storetest"
)

// good runs a command that must succeed and returns what it printed.
func good(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := runs(t, args...)
	if status != 0 {
		t.Fatalf("%s: status %d: %s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

// bad runs one that must fail, for the reasons given.
func bad(t *testing.T, status int, says []string, args ...string) {
	t.Helper()
	got, stdout, stderr := runs(t, args...)
	if got != status {
		t.Errorf("%s: status %d, want %d: %s%s", strings.Join(args, " "), got, status, stdout, stderr)
	}
	for _, want := range says {
		if !strings.Contains(stderr, want) {
			t.Errorf("%s: %q is missing in %s", strings.Join(args, " "), want, stderr)
		}
	}
}

// shortDir is a folder with a short name: the path of a socket has 108 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hsm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// hsmProcess starts acquirer hsm serve and waits until it listens.
func hsmProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := spawn(t, nil, append([]string{"hsm", "serve"}, args...)...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, ok := p.stderr.await(ctx, `"msg":"listening"`); !ok {
		t.Fatalf("it does not listen:\n%s", p.stderr.tail(20))
	}
	return p
}

func onlyLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux tells who is at the other end of a socket, so the HSM's process is not tried here")
	}
}

// A ceremony from its first component to a key in use, each step by the
// command that a person calls.
func TestHSMCeremony(t *testing.T) {
	onlyLinux(t)
	dir := shortDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	key, socket := at("hsm.key"), at("run/hsm.sock")
	out := good(t, "hsm", "components", "--custodian", "alice", "--custodian", "bob", "--custodian", "carol", "--needed", "2", "--out", at("c"))
	if !strings.Contains(out, "2 of 3 needed") {
		t.Error(out)
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		info, err := os.Stat(at("c/" + name + ".component"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	init := []string{"hsm", "init", "--file", key, "--custodians", at("c/custodians.json")}
	bad(t, 1, []string{"1 were given, 2 are needed"}, append(init, "--component", at("c/alice.component"))...)
	bad(t, 2, []string{"alice twice"}, append(init, "--component", at("c/alice.component"), "--component", at("c/alice.component"))...)
	bad(t, 1, []string{"check value"}, append(init, "--component", at("c/alice.component"), "--component", at("c/carol.component"), "--custodian", "alice", "--custodian", "bob")...)
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Fatalf("a refused init left a file: %v", err)
	}
	good(t, append(init, "--component", at("c/alice.component"), "--component", at("c/bob.component"))...)

	p := hsmProcess(t, "--socket", socket, "--file", key)
	unseal := []string{"hsm", "unseal", "--socket", socket, "--component"}
	bad(t, 1, []string{"sealed"}, "hsm", "form", "--socket", socket, "--use", "ZMK", "--component", hexFile(t, "a", 0x13), "--component", hexFile(t, "b", 0x31))
	if out := good(t, append(unseal, at("c/carol.component"))...); !strings.Contains(out, "carol") || !strings.Contains(out, "sealed") {
		t.Error(out)
	}
	if out := good(t, append(unseal, at("c/bob.component"))...); !strings.Contains(out, "open; master key") {
		t.Error(out)
	}
	var formed struct {
		Block hsm.Key `json:"block"`
	}
	text := good(t, "hsm", "form", "--socket", socket, "--use", "ZMK", "--component", hexFile(t, "erin", 0x13), "--component", hexFile(t, "frank", 0x31), "--json")
	if err := json.Unmarshal([]byte(text), &formed); err != nil {
		t.Fatal(err)
	}
	c := remote.Dial(remote.DialConfig{Socket: socket})
	defer c.Close()
	if i, err := c.Inspect(t.Context(), formed.Block); err != nil || i.Use != hsm.UseZMK {
		t.Errorf("%+v, %v", i, err)
	}

	settings := []string{"--hsm-kind", "remote", "--hsm-socket", socket, "--database", "sqlite:" + at("a.db")}
	var s hsmStatus
	if err := json.Unmarshal([]byte(good(t, append([]string{"hsm", "status", "--json"}, settings...)...)), &s); err != nil {
		t.Fatal(err)
	}
	if s.Sealed || s.Hardening.CoreDumps != "off" || s.Process != p.cmd.Process.Pid || s.OpenedBy != "2 of alice, bob, carol" {
		t.Errorf("%+v", s)
	}
	if words := good(t, append([]string{"hsm", "status"}, settings...)...); !strings.Contains(words, s.Masters[0][:6]) || !strings.Contains(words, s.AuditHead) {
		t.Error(words)
	}
	// The kernel says the same of the process.
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid)); err != nil || !strings.Contains(string(limits), "Max core file size        0                    0") {
		t.Errorf("%v: %s", err, limits)
	}

	if out := good(t, "hsm", "seal", "--socket", socket); out != "sealed\n" {
		t.Error(out)
	}
	if err := c.Ready(t.Context()); err != remote.ErrSealed {
		t.Errorf("%v", err)
	}
	if out := good(t, "hsm", "audit", "verify", "--socket", socket); !strings.Contains(out, "MACs were not checked: the HSM is sealed") {
		t.Error(out)
	}
	good(t, append(unseal, at("c/alice.component"), "--component", at("c/bob.component"))...)
	if out := good(t, "hsm", "audit", "verify", "--socket", socket, "--head", s.AuditHead); !strings.Contains(out, "whole") {
		t.Error(out)
	}
	if code := p.stop(t); code != 0 {
		t.Errorf("it ended with %d: %s", code, p.stderr.tail(10))
	}
	log, err := os.ReadFile(key + ".audit")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"op":"init"`, `"op":"start"`, `"op":"component"`, `"op":"unseal"`, `"op":"form"`, `"custodians":["erin","frank"]`, `"op":"seal"`, `"op":"stop"`} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	// One byte of a line in the middle.
	log[len(log)/2] ^= 1
	if err := os.WriteFile(key+".audit", log, 0o600); err != nil {
		t.Fatal(err)
	}
	bad(t, 1, []string{"audit log, line"}, "hsm", "audit", "verify", key+".audit")
	bad(t, 1, []string{"audit log, line"}, "hsm", "serve", "--socket", socket, "--file", key)
	// No component is in any file but its own.
	component, err := os.ReadFile(at("c/alice.component"))
	if err != nil {
		t.Fatal(err)
	}
	digits := strings.ReplaceAll(strings.Split(string(component), "\n")[1], " ", "")
	file, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(log), string(file), p.stdout.String(), p.stderr.String()} {
		if strings.Contains(strings.ToUpper(text), digits[:16]) {
			t.Error("a component is in the log, the key file or the output")
		}
	}
}

func hexFile(t *testing.T, name string, b byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".txt")
	text := make([]byte, 16)
	for i := range text {
		text[i] = b + byte(i)
	}
	if err := os.WriteFile(path, []byte(hex.EncodeToString(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The street trades with its keys in another process, which is killed, and
// started again, under load. The switch has neither key file nor passphrase.
func TestStreetWithHSMProcess(t *testing.T) {
	onlyLinux(t)
	t.Parallel() // half a minute of it is waiting
	dir := shortDir(t)
	key, pass := masterKey(t)
	socket := filepath.Join(dir, "run", "hsm.sock")
	args := []string{"--socket", socket, "--file", key, "--passphrase-file", pass}
	keys := hsmProcess(t, args...)
	s := openStreet(t, streetOf{database: "sqlite:" + filepath.Join(t.TempDir(), "street.db"), seed: crashSeed(t), limit: crashTimeout})
	defer s.close()
	none := filepath.Join(dir, "none")
	s.args = append(s.args, "--hsm-kind", "remote", "--hsm-socket", socket, "--hsm-file", none, "--hsm-passphrase-file", none)
	p := s.start()
	s.awaitListening(p)
	for range 3 {
		s.awaitSales(2 * crashTerminals)
		keys.kill()
		keys = hsmProcess(t, args...)
	}
	s.awaitSales(2 * crashTerminals)
	s.calm()
	s.awaitNothingOwed(p)
	if status := p.stop(t); status != 0 {
		t.Errorf("told to stop, it ended with status %d:\n%s", status, p.stderr.tail(20))
	}
	e, v := s.evidence()
	if len(e.told) < 4*crashTerminals {
		t.Errorf("only %d transactions", len(e.told))
	}
	for _, found := range e.violations() {
		t.Error(found)
	}
	booksAgree(t, v, e.journal)
	if code := keys.stop(t); code != 0 {
		t.Errorf("the HSM ended with %d: %s", code, keys.stderr.tail(10))
	}
	if out := good(t, "hsm", "audit", "verify", "--key-file", key, "--passphrase-file", pass); !strings.Contains(out, "whole") {
		t.Error(out)
	}
	if log, err := os.ReadFile(key + ".audit"); err != nil || strings.Count(string(log), `"op":"working keys"`) < crashTerminals {
		t.Errorf("the sign-ins are not in the log: %v", err)
	}
}

// A software HSM refuses real cards in production, whatever process it is in;
// nobody's cards it takes, and in test it takes any.
func TestHonest(t *testing.T) {
	key, pass := masterKey(t)
	dir := t.TempDir()
	real := filepath.Join(dir, "real.csv")
	if err := os.WriteFile(real, []byte("bin,issuer,brand,kind,pan_lengths,luhn,name\n99991234,bank,UnionPay,debit,16,yes,invented\n622848,bank,UnionPay,debit,19,yes,real\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seed := filepath.Join(dir, "seed.json")
	if err := os.WriteFile(seed, []byte(`{"merchants":[],"terminals":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := []string{"serve", "--environment", "production", "--seed", seed, "--routing-bins", real, "--database", "sqlite:" + filepath.Join(dir, "a.db"), "--hsm-file", key,
		"--hsm-passphrase-file", pass, "--terminals-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--console-listen", ""}
	bad(t, 2, []string{"BIN 622848", "production", "hsm.kind is software", "PCI PIN requirement 1", "certified device", "environment test"}, serve...)

	bad(t, 2, []string{"production", "software HSM"}, "demo", "--environment", "production", "--transactions", "1")

	route := func(bin string) []routing.Route {
		first, last, _ := strings.Cut(bin, "-")
		return []routing.Route{{BIN: first, Last: last, Issuer: "bank"}}
	}
	for _, c := range []struct {
		environment, kind, bin string
		ok                     bool
	}{
		{"production", "software", "622848", false}, {"production", "remote", "622848", false}, {"production", "software", "6210001", true},
		{"production", "software", "621001", false}, {"production", "software", "999912", true}, {"production", "software", "9998", false},
		{"production", "software", "62100", false}, {"production", "payshield", "622848", true}, {"test", "software", "622848", true},
		{"production", "software", "999900-999999", true}, {"production", "software", "6210000-6210009", true},
		{"production", "software", "621000-621001", false}, {"production", "software", "621000-999912", false},
	} {
		cfg := Config{Environment: c.environment}
		cfg.HSM.Kind = c.kind
		if err := honest(cfg, route(c.bin)); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
	shipped, err := routing.LoadTable("../../testdata/bin/bins.csv")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Environment: "production"}
	cfg.HSM.Kind = "software"
	if err := honest(cfg, shipped.Routes()); err != nil {
		t.Errorf("the published table: %v", err)
	}
}

// keyHouse is a database with a few terminals, signed in twice, and a seed
// file with an issuer's key: every place where a key block is stored.
func keyHouse(t *testing.T, database string, terminals int) (settings []string, seedFile string) {
	t.Helper()
	dir := t.TempDir()
	key, pass := masterKey(t)
	if database == "" {
		database = "sqlite:" + filepath.Join(dir, "keys.db")
	}
	settings = []string{"--database", database, "--hsm-file", key, "--hsm-passphrase-file", pass}
	ctx := t.Context()
	h, db := openKeys(t, settings)
	v := &house{db: db, hsm: h}
	for name, use := range map[string]struct {
		use hsm.Use
		alg hsm.Alg
	}{"data": {hsm.UseDEK, hsm.AES32}, "token": {hsm.UseHMAC, hsm.HMAC32}} {
		if _, err := v.storedKey(ctx, name, use.use, use.alg); err != nil {
			t.Fatal(err)
		}
	}
	seed := merchant.Seed{Merchants: []merchant.SeedMerchant{{Merchant: merchant.Merchant{MID: simcard.SeedMerchant(0), Name: "shop", MCC: "5411"}}}}
	var printed []map[string]any
	for i := range terminals {
		tid, _ := simcard.SeedTerminal(i)
		tmk, _, err := h.GenerateKey(ctx, hsm.UseTMK, hsm.TDES16)
		if err != nil {
			t.Fatal(err)
		}
		ttk, _, err := h.GenerateKey(ctx, hsm.UseTTK, hsm.TDES16)
		if err != nil {
			t.Fatal(err)
		}
		seed.Terminals = append(seed.Terminals, merchant.SeedTerminal{Terminal: merchant.Terminal{TID: tid, MID: simcard.SeedMerchant(0), Serial: "SN" + tid}, TMK: string(tmk), TTK: string(ttk)})
		printed = append(printed, map[string]any{"tid": tid, "mid": simcard.SeedMerchant(0), "serial": "SN" + tid, "tmk": tmk})
	}
	reg, err := merchant.OpenRegistry(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Import(ctx, &seed, func(string) ([]byte, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	for _, st := range seed.Terminals {
		for range 2 { // the second sign-in is not confirmed: both generations are there
			keys, err := h.WorkingKeys(ctx, hsm.Key(st.TMK), hsm.Set004, hsm.MAKDouble)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := reg.SignIn(ctx, st.TID, merchant.Keys{TPK: string(keys.TPK), TAK: string(keys.TAK), TDK: string(keys.TDK)}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	zmk, _, err := h.GenerateKey(ctx, hsm.UseZMK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	seedFile = filepath.Join(dir, "seed.json")
	text, err := json.MarshalIndent(map[string]any{"merchants": []any{}, "terminals": printed,
		"issuers": []any{map[string]any{"name": "bank", "institution": "01020000", "lines": []string{"127.0.0.1:1"}, "zmk": zmk}}}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(seedFile, text, 0o640); err != nil {
		t.Fatal(err)
	}
	closeKeys(t, h, db)
	return settings, seedFile
}

func configOf(t *testing.T, settings []string) Config {
	t.Helper()
	cmd := newHSMKeysCmd()
	if err := cmd.ParseFlags(settings); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func openKeys(t *testing.T, settings []string) (hsm.Keeper, *store.DB) {
	t.Helper()
	cfg := configOf(t, settings)
	h, err := openKeeper(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	return h, db
}

func closeKeys(t *testing.T, h hsm.Keeper, db *store.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if c, ok := h.(interface{ Close() error }); ok {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// allKeys is the check value of every stored key by its place, and under how
// many master keys they are.
func allKeys(t *testing.T, settings []string, seedFile string) (kcvs map[string]string, masters map[string]int) {
	t.Helper()
	h, db := openKeys(t, settings)
	defer closeKeys(t, h, db)
	kcvs, masters = map[string]string{}, map[string]int{}
	add := func(place string, k hsm.Key) {
		i, err := h.Inspect(t.Context(), k)
		if err != nil {
			t.Fatalf("%s: %v", place, err)
		}
		kcvs[place] = i.Use.String() + " " + i.KCV.String()
		masters[i.Master.String()]++
	}
	house, err := houseKeys(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range house {
		add(k.Slot, k.Block)
	}
	blocks, _, _, err := merchant.KeyBlocks(t.Context(), db, "", 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		add(b.TID+" "+b.Slot, hsm.Key(b.Block))
	}
	seed, err := merchant.LoadSeed(seedFile)
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := readIssuers(seed)
	if err != nil {
		t.Fatal(err)
	}
	add("seed zmk", issuers[0].ZMK)
	for _, st := range seed.Terminals {
		add("seed "+st.TID, hsm.Key(st.TMK))
	}
	return kcvs, masters
}

// The master key changes while the command is killed again and again; no key
// is lost, both generations can be read at every moment, and the old master
// key goes only when nothing is under it.
func TestRotateKilled(t *testing.T) {
	const terminals = 12
	settings, seedFile := keyHouse(t, "", terminals)
	before, masters := allKeys(t, settings, seedFile)
	if len(masters) != 1 || len(before) != 2+terminals*9+1 { // house, TMK TTK 2x3 per terminal and its TMK in the seed, ZMK
		t.Fatalf("%d keys under %v", len(before), masters)
	}
	same := func() (under int) {
		t.Helper()
		now, masters := allKeys(t, settings, seedFile)
		if len(now) != len(before) {
			t.Errorf("%d keys, were %d", len(now), len(before))
		}
		for place, kcv := range before {
			if now[place] != kcv {
				t.Errorf("%s was %s and is %s", place, kcv, now[place])
			}
		}
		return len(masters)
	}
	args := append([]string{"hsm", "rotate", "--batch", "1", "--seed-file", seedFile, "--custodian", "alice", "--custodian", "bob"}, settings...)
	bad(t, 2, []string{"two different"}, append([]string{"hsm", "rotate", "--custodian", "alice"}, settings...)...)
	bad(t, 2, []string{"no-such.json"}, append(args, "--seed-file", filepath.Join(t.TempDir(), "no-such.json"))...)
	bad(t, 2, []string{"named twice"}, append([]string{"hsm", "rotate", "--custodian", "alice", "--custodian", "ALICE"}, settings...)...)
	bad(t, 1, []string{"no old master key"}, append(args, "--retire")...) // what was refused changed nothing

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	mixed, killed := 0, 0
	for _, line := range []string{"new master key", "token key moved", "terminals up to", "", "seed.json"} {
		p := spawn(t, nil, args...)
		if line == "" { // in the middle of the terminals
			tid, _ := simcard.SeedTerminal(terminals / 2)
			line = "up to " + tid
		}
		if _, ok := p.stderr.await(ctx, line); ok {
			killed++
		}
		p.kill()
		if same() == 2 {
			mixed++
		}
	}
	if killed < 4 || mixed < 3 {
		t.Errorf("killed %d times on the way, %d times with keys of both kinds: the test proves less than it should", killed, mixed)
	}
	var out rotationResult
	if err := json.Unmarshal([]byte(good(t, append(args, "--json")...)), &out); err != nil {
		t.Fatal(err)
	}
	if !out.Finished || out.Retired || out.Moved != 2+terminals*8 || same() != 1 {
		t.Errorf("%+v, %d kinds", out, same())
	}
	if info, err := os.Stat(seedFile); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	cfg := configOf(t, settings)
	if k, err := hsm.ReadKeyFile(cfg.HSM.File); err != nil || len(k.Masters) != 2 {
		t.Fatalf("%v", err)
	}
	var retired rotationResult
	if err := json.Unmarshal([]byte(good(t, append(args, "--retire", "--json")...)), &retired); err != nil {
		t.Fatal(err)
	}
	if !retired.Retired || retired.New != out.New || same() != 1 {
		t.Errorf("%+v", retired)
	}
	if k, err := hsm.ReadKeyFile(cfg.HSM.File); err != nil || len(k.Masters) != 1 || k.Masters[0].CheckValue != out.New {
		t.Errorf("%v", err)
	}
	if text := good(t, "hsm", "audit", "verify", "--key-file", cfg.HSM.File, "--passphrase-file", cfg.HSM.PassphraseFile); !strings.Contains(text, "whole") {
		t.Error(text)
	}
	log, err := os.ReadFile(cfg.HSM.File + ".audit")
	if err != nil || !strings.Contains(string(log), `"op":"rotate"`) || !strings.Contains(string(log), `"op":"retire"`) || !strings.Contains(string(log), `"custodians":["alice","bob"]`) {
		t.Errorf("%v: the change is not in the log", err)
	}
	if n := strings.Count(string(log), `"op":"rotate"`); n != 1 {
		t.Errorf("the master key was changed %d times", n)
	}
}

// hook is a progress that does something at a line.
type hook func(line string)

func (h hook) Write(b []byte) (int, error) { h(string(b)); return len(b), nil }

// A switch that was not started again wraps under the old master key while
// others are brought away from it: found, and brought over too. One that goes
// on and on is named, and the old key stays.
func TestRotateBesideAnOldSwitch(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		settings, seedFile := keyHouse(t, "", 3)
		cfg := configOf(t, settings)
		h, db := openKeys(t, settings) // the switch, with the master key of its start
		reg, err := merchant.OpenRegistry(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := simcard.SeedTerminal(0)
		last, _ := simcard.SeedTerminal(2)
		did := 0
		r := rotation{cfg: cfg, db: db, custodians: []string{"alice", "bob"}, seeds: []string{seedFile}, batch: 1}
		r.progress = hook(func(line string) {
			if !strings.Contains(line, "up to "+last) || did > 0 && !stubborn {
				return
			}
			did++
			key, _, err := h.GenerateKey(t.Context(), hsm.UseTAK, hsm.TDES16)
			if err == nil {
				_, err = reg.SignIn(t.Context(), first, merchant.Keys{TPK: string(key), TAK: string(key)}, time.Now())
			}
			if err != nil {
				t.Error(err)
			}
		})
		out, err := r.run(t.Context())
		closeKeys(t, h, db)
		if did == 0 {
			t.Fatal("nothing happened beside it: the test proves nothing")
		}
		_, masters := allKeys(t, settings, seedFile)
		if !stubborn && (err != nil || !out.Finished || len(masters) != 1) {
			t.Errorf("%+v, %v, %v", out, err, masters)
		}
		if stubborn && (err == nil || !strings.Contains(err.Error(), "restart the switch") || len(masters) != 2) {
			t.Errorf("%+v, %v, %v", out, err, masters)
		}
		k, err := hsm.ReadKeyFile(cfg.HSM.File)
		if err != nil || len(k.Masters) != 2 {
			t.Errorf("the old master key is gone: %v", err)
		}
	}
}

// The change in the HSM's process: components authorise it, the switch's
// settings find it there.
func TestRotateRemote(t *testing.T) {
	onlyLinux(t)
	settings, seedFile := keyHouse(t, "", 3)
	cfg := configOf(t, settings)
	socket := filepath.Join(shortDir(t), "run", "hsm.sock")
	hsmProcess(t, "--socket", socket, "--file", cfg.HSM.File, "--passphrase-file", cfg.HSM.PassphraseFile)
	settings = append(settings, "--hsm-kind", "remote", "--hsm-socket", socket)
	before, _ := allKeys(t, settings, seedFile)
	args := append([]string{"hsm", "rotate", "--seed-file", seedFile, "--custodian", "alice", "--custodian", "bob", "--retire"}, settings...)
	bad(t, 1, []string{"no old master key"}, args...)
	good(t, append(args[:len(args):len(args)], "--retire=false")...)
	good(t, args...)
	after, masters := allKeys(t, settings, seedFile)
	if len(masters) != 1 || len(after) != len(before) {
		t.Errorf("%v", masters)
	}
	for place, kcv := range before {
		if after[place] != kcv {
			t.Errorf("%s was %s and is %s", place, kcv, after[place])
		}
	}
}

// The registry knows every key, what is changed and what is only wrapped anew.
func TestHSMKeys(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { tryKeys(t, "") })
	t.Run("postgres", func(t *testing.T) { tryKeys(t, storetest.PostgresURL(t)) })
}

func tryKeys(t *testing.T, database string) {
	settings, seedFile := keyHouse(t, database, 2)
	list := func(more ...string) (all []registeredKey) {
		t.Helper()
		text := good(t, append(append([]string{"hsm", "keys", "--json", "--seed", seedFile}, settings...), more...)...)
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatal(err)
		}
		for _, k := range all {
			if len(k.KCV) != 8 || len(k.Master) != 8 || k.Created.IsZero() || k.Rolled.IsZero() {
				t.Errorf("%+v", k)
			}
		}
		return all
	}
	first := list()
	if len(first) != 2+2*8+1 {
		t.Fatalf("%d keys: %+v", len(first), first)
	}
	by := func(all []registeredKey) map[string]registeredKey {
		out := map[string]registeredKey{}
		for _, k := range all {
			out[k.Owner+" "+k.Slot] = k
		}
		return out
	}
	if k := by(first)["issuer bank zmk"]; k.Use != "ZMK" || k.Expires.Sub(k.Rolled) != 730*24*time.Hour {
		t.Errorf("%+v", k)
	}
	good(t, append([]string{"hsm", "rotate", "--seed-file", seedFile, "--custodian", "alice", "--custodian", "bob"}, settings...)...)
	second := by(list())
	for place, k := range by(first) {
		now := second[place]
		if now.Master == k.Master || now.KCV != k.KCV || !now.Rolled.Equal(k.Rolled) || !now.Created.Equal(k.Created) {
			t.Errorf("wrapped anew, %+v became %+v", k, now)
		}
	}
	// A new TMK, and working keys that go with the old one.
	h, db := openKeys(t, settings)
	reg, err := merchant.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	tid, _ := simcard.SeedTerminal(0)
	tmk, _, err := h.GenerateKey(t.Context(), hsm.UseTMK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.SetTMK(t.Context(), tid, string(tmk)); err != nil {
		t.Fatal(err)
	}
	closeKeys(t, h, db)
	third := by(list())
	place := "terminal " + tid + " tmk"
	if k := third[place]; k.KCV == second[place].KCV || !k.Rolled.After(second[place].Rolled) || !k.Created.Equal(second[place].Created) {
		t.Errorf("%+v became %+v", second[place], k)
	}
	if len(third) != len(second)-6 {
		t.Errorf("%d keys, were %d", len(third), len(second))
	}
	if expired := list("--hsm-periods", "TMK=730", "--expired"); len(expired) != 0 {
		t.Errorf("%+v", expired)
	}
	if words := good(t, append([]string{"hsm", "keys", "--use", "zmk", "--seed", seedFile}, settings...)...); strings.Count(words, "\n") != 2 || !strings.Contains(words, "issuer bank") {
		t.Error(words)
	}
	bad(t, 2, []string{`--use "TMZ"`}, append([]string{"hsm", "keys", "--use", "TMZ"}, settings...)...)
	if words := good(t, append([]string{"hsm", "status"}, settings...)...); !strings.Contains(words, "2 keys") {
		t.Error(words)
	}
}

// A batch of devices is loaded from a file; what the loader has is what the
// house has.
func TestHSMInject(t *testing.T) {
	settings, _ := keyHouse(t, "", 3)
	cfg := configOf(t, settings)
	dir := t.TempDir()
	var formed struct {
		Block string `json:"block"`
	}
	text := good(t, "hsm", "form", "--file", cfg.HSM.File, "--passphrase-file", cfg.HSM.PassphraseFile, "--use", "KBPK", "--cipher", "AES",
		"--component", hexFile(t, "alice", 0x13), "--component", hexFile(t, "bob", 0x71), "--json")
	if err := json.Unmarshal([]byte(text), &formed); err != nil {
		t.Fatal(err)
	}
	kek := filepath.Join(dir, "kek")
	if err := os.WriteFile(kek, []byte(formed.Block+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := simcard.SeedTerminal(0)
	b, _ := simcard.SeedTerminal(2)
	out := filepath.Join(dir, "batch.json")
	args := append([]string{"hsm", "inject", "--terminals", a + "," + b, "--kek", kek, "--out", out}, settings...)
	bad(t, 1, []string{"not registered"}, append([]string{"hsm", "inject", "--terminals", "99999999", "--kek", kek, "--out", out}, settings...)...)
	bad(t, 2, []string{"names no terminal"}, append([]string{"hsm", "inject", "--terminals", "", "--kek", kek, "--out", out}, settings...)...)
	bad(t, 2, []string{"twice"}, append([]string{"hsm", "inject", "--terminals", a + "," + a, "--kek", kek, "--out", out}, settings...)...)
	var said struct {
		Manifest string `json:"manifest_sha256"`
	}
	if err := json.Unmarshal([]byte(good(t, append(args, "--json")...)), &said); err != nil {
		t.Fatal(err)
	}
	bad(t, 1, []string{"exists"}, args...)
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var i injection
	if err := json.Unmarshal(file, &i); err != nil {
		t.Fatal(err)
	}
	if len(i.Terminals) != 2 || i.Manifest != said.Manifest || i.manifest() != i.Manifest {
		t.Errorf("%+v", i)
	}
	i.Terminals[0].Serial = "another"
	if i.manifest() == i.Manifest {
		t.Error("the manifest does not notice a change")
	}
	h, db := openKeys(t, settings)
	blocks, _, _, err := merchant.KeyBlocks(t.Context(), db, "", 100, 0)
	if err != nil {
		t.Fatal(err)
	}
	closeKeys(t, h, db)
	kcvs := map[string]string{}
	for _, k := range blocks {
		if k.Slot == "tmk" {
			info, err := h.Inspect(t.Context(), hsm.Key(k.Block))
			if err != nil {
				t.Fatal(err)
			}
			kcvs[k.TID] = info.KCV.Short()
		}
		if (k.TID == a || k.TID == b) && strings.HasSuffix(k.Slot, "tak") {
			t.Errorf("%s kept working keys of its old master key", k.TID)
		}
	}
	for _, d := range i.Terminals {
		if kcvs[d.TID] != d.CheckValue || d.KeyBlock[0] != 'D' || d.KeyBlock[5:7] != "K0" {
			t.Errorf("the house has %s, the file %+v", kcvs[d.TID], d)
		}
	}
	csv := filepath.Join(dir, "batch.csv")
	good(t, append([]string{"hsm", "inject", "--terminals", a, "--kek", formed.Block, "--out", csv}, settings...)...)
	if text, err := os.ReadFile(csv); err != nil || strings.Count(string(text), "\n") != 3 || !strings.Contains(string(text), a+",SN"+a) {
		t.Errorf("%v: %s", err, text)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := audit.Verify(cfg.HSM.File+".audit", nil, audit.Head{}); err != nil {
		t.Error(err)
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/hsm"
)

// Components that custodians made for themselves are all needed.
func TestHSMOwnComponents(t *testing.T) {
	dir := t.TempDir()
	screen := good(t, "hsm", "components", "--custodian", "alice")
	if !strings.Contains(screen, "check value") || !strings.Contains(screen, "alice") {
		t.Error(screen)
	}
	alice := filepath.Join(dir, "alice.component")
	if err := os.WriteFile(alice, []byte(screen), 0o600); err != nil {
		t.Fatal(err)
	}
	good(t, "hsm", "components", "--custodian", "bob", "--out", dir)
	bad(t, 1, []string{"exists"}, "hsm", "components", "--custodian", "bob", "--out", dir)
	bad(t, 2, []string{"--out"}, "hsm", "components", "--custodian", "alice", "--custodian", "bob")
	bad(t, 2, []string{"--needed"}, "hsm", "components", "--custodian", "alice", "--needed", "2")
	key := filepath.Join(dir, "hsm.key")
	bad(t, 2, []string{"--component"}, "hsm", "init", "--file", key, "--custodian", "alice")
	bad(t, 2, []string{"2 to 9"}, "hsm", "init", "--file", key, "--component", alice)
	good(t, "hsm", "init", "--file", key, "--component", alice, "--component", filepath.Join(dir, "bob.component"))
	k, err := hsm.ReadKeyFile(key)
	if err != nil || k.Custodians.Needed != 2 || k.Custodians.People[1].Name != "bob" {
		t.Errorf("%+v, %v", k, err)
	}
	_, pass := masterKey(t)
	for _, args := range [][]string{{"hsm", "form", "--file", key, "--passphrase-file", pass, "--use", "ZMK", "--component", hexFile(t, "a", 1), "--component", hexFile(t, "b", 9)},
		{"hsm", "audit", "verify", "--key-file", key, "--passphrase-file", pass},
		{"hsm", "keys", "--hsm-file", key, "--hsm-passphrase-file", pass, "--database", "sqlite:" + filepath.Join(dir, "a.db")}} {
		bad(t, 1, []string{"opened by its custodians", "2 of alice, bob"}, args...)
	}
}

// Who asks an HSM that is not there hears so at once, not after half a minute.
func TestHSMNotThere(t *testing.T) {
	dir := shortDir(t)
	gone := filepath.Join(dir, "gone.sock")
	settings := []string{"--hsm-kind", "remote", "--hsm-socket", gone, "--database", "sqlite:" + filepath.Join(dir, "a.db")}
	a, b := hexFile(t, "alice", 0x13), hexFile(t, "bob", 0x31)
	began := time.Now()
	for _, args := range [][]string{
		{"hsm", "seal", "--socket", gone},
		{"hsm", "unseal", "--socket", gone, "--passphrase-file", a},
		{"hsm", "audit", "verify", "--socket", gone},
		{"hsm", "form", "--socket", gone, "--use", "TMK", "--component", a, "--component", b},
		append([]string{"hsm", "status"}, settings...),
	} {
		bad(t, 1, []string{"no HSM listens on " + gone, "acquirer hsm serve", "no such file"}, args...)
	}
	if took := time.Since(began); took > 25*time.Second { // less than a single one that waits
		t.Errorf("it took %v", took)
	}
}

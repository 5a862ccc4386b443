package hsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var passphrase = []byte("correct horse battery staple")

func TestCreateAndOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.json")
	s, err := Create(path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info.Mode(), err)
	}
	key := generate(t, s, UseTAK, TDES16)
	mac, err := s.MAC(ctx, key, MACUnionPay, []byte("data"))
	if err != nil {
		t.Fatal(err)
	}

	again, err := Open(path, passphrase)
	if err != nil || again.MasterCheckValue() != s.MasterCheckValue() {
		t.Fatalf("%v, %v", again, err)
	}
	if err := again.VerifyMAC(ctx, key, MACUnionPay, []byte("data"), mac[:]); err != nil {
		t.Errorf("a key of before the restart: %v", err)
	}
	if _, err := Open(path, []byte("correct horse battery stapl")); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), path) {
		t.Errorf("wrong passphrase: %v", err)
	}

	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, passphrase); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Create over a file: %v, want ErrExist", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".master-key-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	other, err := Create(filepath.Join(t.TempDir(), "other.json"), passphrase)
	if err != nil || other.MasterCheckValue() == s.MasterCheckValue() {
		t.Errorf("the same master key twice: %v", err)
	}
}

func TestCreateRefusals(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(filepath.Join(dir, "a"), []byte("short")); err == nil || !strings.Contains(err.Error(), "at least 8") {
		t.Errorf("short passphrase: %v", err)
	}
	if _, err := Create(filepath.Join(dir, "no", "such", "folder"), passphrase); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(filepath.Join(dir, "link"), passphrase); !errors.Is(err, fs.ErrExist) {
		t.Errorf("dangling link: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "none"), passphrase); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Open(dir, passphrase); err == nil {
		t.Error("a folder was opened")
	}
}

// quick is Argon2id that costs nothing: what is tested is the file.
var quick = sealedKDF{Name: "argon2id", Time: 1, MemoryKiB: 8, Threads: 1}

func TestDamagedFile(t *testing.T) {
	master := bytes.Repeat([]byte{0xA7}, 32)
	text, err := seal(master, passphrase, quick)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unseal(text, passphrase); err != nil || !bytes.Equal(got, master) {
		t.Fatalf("%v", err)
	}
	for n := range len(text) - 1 { // the last byte is the end of the line
		if _, err := unseal(text[:n], passphrase); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v, want ErrDamaged", n, err)
		}
	}
	for i := range len(text) {
		changed := bytes.Clone(text)
		changed[i] ^= 2
		got, err := unseal(changed, passphrase)
		if err == nil && bytes.Equal(got, master) && strings.TrimSpace(string(text[i:i+1])) == "" {
			continue // white space between the fields
		}
		if err == nil || errors.Is(err, ErrPassphrase) {
			t.Errorf("byte %d changed from %q to %q: %v", i, text[i], changed[i], err)
		}
	}
	if _, err := unseal(append(bytes.Clone(text), text...), passphrase); !errors.Is(err, ErrDamaged) {
		t.Errorf("twice: %v", err)
	}
	if _, err := unseal(bytes.Repeat([]byte{' '}, maxSealedFile+1), passphrase); !errors.Is(err, ErrDamaged) {
		t.Errorf("too long: %v", err)
	}
}

// TestForgedFile: someone who mends the checksum still does not get the key,
// and cannot make Open burn memory.
func TestForgedFile(t *testing.T) {
	text, err := seal(bytes.Repeat([]byte{0xA7}, 32), passphrase, quick)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(change func(f *sealedFile)) error {
		var f sealedFile
		if err := json.Unmarshal(text, &f); err != nil {
			t.Fatal(err)
		}
		change(&f)
		f.Sum = f.sum()
		forged, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		_, err = unseal(forged, passphrase)
		return err
	}
	if err := forge(func(*sealedFile) {}); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(f *sealedFile){
		"key":   func(f *sealedFile) { f.Sealed = "00" + f.Sealed[2:] },
		"nonce": func(f *sealedFile) { f.Nonce = "000000" + f.Nonce[6:] },
		"salt":  func(f *sealedFile) { f.KDF.Salt = "000000" + f.KDF.Salt[6:] },
		"time":  func(f *sealedFile) { f.KDF.Time = 2 },
	} {
		if err := forge(change); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: %v, want ErrPassphrase", what, err)
		}
	}
	for what, change := range map[string]func(f *sealedFile){
		"memory":      func(f *sealedFile) { f.KDF.MemoryKiB = 1 << 31 },
		"much time":   func(f *sealedFile) { f.KDF.Time = 1 << 30 },
		"no time":     func(f *sealedFile) { f.KDF.Time = 0 },
		"no threads":  func(f *sealedFile) { f.KDF.Threads = 0 },
		"short key":   func(f *sealedFile) { f.Sealed = f.Sealed[2:] },
		"no key":      func(f *sealedFile) { f.Sealed = "" },
		"short nonce": func(f *sealedFile) { f.Nonce = f.Nonce[2:] },
		"no hex":      func(f *sealedFile) { f.KDF.Salt = "salt" },
		"short salt":  func(f *sealedFile) { f.KDF.Salt = "00" },
		"format":      func(f *sealedFile) { f.Format = "something else" },
	} {
		if err := forge(change); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", what, err)
		}
	}
	for what, change := range map[string]func(f *sealedFile){
		"version": func(f *sealedFile) { f.Version = 2 },
		"kdf":     func(f *sealedFile) { f.KDF.Name = "scrypt" },
		"cipher":  func(f *sealedFile) { f.Cipher = "aes-128-gcm" },
	} {
		if err := forge(change); err == nil || !strings.Contains(err.Error(), "the program that wrote it") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

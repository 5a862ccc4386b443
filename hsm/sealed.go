package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/argon2"

	"acquirer/fault"
)

// Errors of the sealed master key file.
var (
	// ErrPassphrase: the file is whole, but this passphrase does not open it.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrDamaged: the file was cut or changed since it was written.
	ErrDamaged = errors.New("master key file is damaged: restore it from a copy")
	// ErrCustodians: no passphrase opens the file, its custodians' components
	// do.
	ErrCustodians = errors.New("this master key file is opened by its custodians")
)

// MinPassphrase is the least number of bytes of a passphrase that Create
// takes. Argon2id makes guessing slow, not impossible.
const MinPassphrase = 8

const sealedFormat = "acquirer-hsm-master-key"

// sealedFile is the file at rest: how the passphrase becomes a key, and the
// master key under it. Sum is over all other fields, so that damage is not
// mistaken for a wrong passphrase.
type sealedFile struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	KDF     sealedKDF `json:"kdf"`
	Cipher  string    `json:"cipher"`
	Nonce   string    `json:"nonce"`
	Sealed  string    `json:"sealed"`
	Sum     string    `json:"sha256"`
}

type sealedKDF struct {
	Name      string `json:"name"`
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
	Salt      string `json:"salt"`
}

// newKDF is the second recommendation of RFC 9106, section 4: 64 MiB.
var newKDF = sealedKDF{Name: "argon2id", Time: 3, MemoryKiB: 64 * 1024, Threads: 4}

// Bounds on what Open reads, so that a forged file costs neither all memory
// nor all day.
const (
	maxSealedFile = 64 * 1024
	maxTime       = 64
	maxMemoryKiB  = 4 * 1024 * 1024
)

// Create makes a random master key, seals it into a new file that only its
// owner may read, and starts the HSM with it. It refuses to overwrite: a master
// key that is gone takes every stored key with it.
func Create(path string, passphrase []byte) (*Software, error) {
	if len(passphrase) < MinPassphrase {
		return nil, fmt.Errorf("hsm: passphrase of %d bytes, want at least %d", len(passphrase), MinPassphrase)
	}
	master := make([]byte, 32)
	defer clear(master)
	rand.Read(master) // never fails, ends the process instead
	text, err := seal(master, passphrase, newKDF)
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, text); err != nil {
		return nil, fmt.Errorf("hsm: master key file: %w", err)
	}
	return NewSoftware(master)
}

// Open reads the file that Create wrote, or one of version 2 that a passphrase
// opens. Its errors are ErrPassphrase, ErrDamaged, ErrCustodians, or what the
// file system said.
func Open(path string, passphrase []byte) (*Software, error) {
	k, err := ReadKeyFile(path)
	if err != nil {
		return nil, err
	}
	if k.Custodians != nil {
		return nil, fmt.Errorf("hsm: %s: %w: %s", path, ErrCustodians, k.Custodians)
	}
	r, err := k.Open(passphrase)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	return r.Software()
}

func seal(master, passphrase []byte, kdf sealedKDF) ([]byte, error) {
	var salt [16]byte
	var nonce [12]byte
	rand.Read(salt[:])
	rand.Read(nonce[:])
	kdf.Salt = hex.EncodeToString(salt[:])
	f := sealedFile{Format: sealedFormat, Version: 1, KDF: kdf, Cipher: "aes-256-gcm", Nonce: hex.EncodeToString(nonce[:])}
	gcm, err := f.gcm(passphrase, salt[:])
	if err != nil {
		return nil, err
	}
	f.Sealed = hex.EncodeToString(gcm.Seal(nil, nonce[:], master, f.header()))
	f.Sum = f.sum()
	text, err := json.MarshalIndent(f, "", "  ")
	return append(text, '\n'), err
}

func unseal(text, passphrase []byte) ([]byte, error) {
	damaged := func(what string) ([]byte, error) { return nil, fmt.Errorf("%w (%s)", ErrDamaged, what) }
	if len(text) > maxSealedFile {
		return damaged("it is too long to be one")
	}
	var f sealedFile
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return damaged("it is cut off or not JSON")
	}
	if _, err := dec.Token(); err != io.EOF {
		return damaged("something stands behind its end")
	}
	if f.Format != sealedFormat {
		return damaged("it is no master key file")
	}
	if f.Version != 1 || f.KDF.Name != "argon2id" || f.Cipher != "aes-256-gcm" {
		return nil, fmt.Errorf("master key file of version %d is not read by this program: use the program that wrote it", f.Version)
	}
	if f.Sum != f.sum() {
		return damaged("its checksum does not fit")
	}
	salt, err1 := hex.DecodeString(f.KDF.Salt)
	nonce, err2 := hex.DecodeString(f.Nonce)
	sealed, err3 := hex.DecodeString(f.Sealed)
	if errors.Join(err1, err2, err3) != nil || len(salt) < 16 || len(nonce) != 12 || len(sealed) != 48 {
		return damaged("salt, nonce or key have the wrong length")
	}
	if f.KDF.Time < 1 || f.KDF.Time > maxTime || f.KDF.MemoryKiB > maxMemoryKiB || f.KDF.Threads < 1 {
		return damaged("its Argon2id parameters are out of bounds")
	}
	gcm, err := f.gcm(passphrase, salt)
	if err != nil {
		return nil, err
	}
	master, err := gcm.Open(nil, nonce, sealed, f.header())
	if err != nil {
		return nil, ErrPassphrase
	}
	return master, nil
}

func (f *sealedFile) gcm(passphrase, salt []byte) (cipher.AEAD, error) {
	key := argon2.IDKey(passphrase, salt, f.KDF.Time, f.KDF.MemoryKiB, f.KDF.Threads, 32)
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// header is what is bound to the sealed key.
func (f *sealedFile) header() []byte {
	return fmt.Appendf(nil, "%s|%d|%s|%d|%d|%d|%s|%s", f.Format, f.Version, f.KDF.Name,
		f.KDF.Time, f.KDF.MemoryKiB, f.KDF.Threads, f.KDF.Salt, f.Cipher)
}

func (f *sealedFile) sum() string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(f.header(), "|%s|%s", f.Nonce, f.Sealed)))
}

// writeNew writes a file that did not exist, whole or not at all, and on disk
// when it returns.
func writeNew(path string, text []byte) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".master-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if gone := os.Remove(tmp.Name()); err == nil {
			err = gone
		}
	}()
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	fault.Hit("keyfile.create.before")
	if err := os.Link(tmp.Name(), path); err != nil { // unlike a rename, refuses to replace
		return err
	}
	err = syncDir(dir)
	fault.Hit("keyfile.create.after")
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closed := d.Close(); err == nil {
		err = closed
	}
	return err
}

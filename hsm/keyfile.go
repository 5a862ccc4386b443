package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"acquirer/fault"
)

// Ring is what a master key file holds: the master key, the one before it
// while keys are brought from it to the new one, and the key of the audit
// log. It prints its check values.
type Ring struct {
	masters []Master
	audit   [sha256.Size]byte
}

// Master is one master key as the file shows it without being opened.
type Master struct {
	CheckValue string    `json:"check_value"` // 8 hex digits
	Made       time.Time `json:"made,omitzero"`

	key [masterBytes]byte
}

// ErrRotating: there are two master keys already.
var ErrRotating = errors.New("a change of the master key is under way")

// NewRing makes a random master key and a random key of the audit log.
func NewRing() *Ring {
	r := &Ring{}
	rand.Read(r.audit[:]) // never fails, ends the process instead
	r.push()
	return r
}

func (r *Ring) push() {
	m := Master{Made: time.Now().UTC().Truncate(time.Second)}
	rand.Read(m.key[:])
	m.CheckValue = masterCheckValue(m.key[:]).String()
	r.masters = append([]Master{m}, r.masters...)
}

// Rotate makes a new master key; the old one only unwraps from now on.
func (r *Ring) Rotate() error {
	if len(r.masters) > 1 {
		return fmt.Errorf("hsm: %w: bring all keys from %s to %s first", ErrRotating, r.masters[1].CheckValue, r.masters[0].CheckValue)
	}
	r.push()
	return nil
}

// Retire forgets the master key before the current one. Key blocks under it
// are lost.
func (r *Ring) Retire() error {
	if len(r.masters) < 2 {
		return errors.New("hsm: there is no old master key to retire")
	}
	clear(r.masters[1].key[:])
	r.masters = r.masters[:1]
	return nil
}

// Masters are the master keys without their values, the current one first.
func (r *Ring) Masters() []Master {
	out := make([]Master, len(r.masters))
	for i, m := range r.masters {
		out[i] = Master{CheckValue: m.CheckValue, Made: m.Made}
	}
	return out
}

// AuditKey is the HMAC key of the audit log. The caller clears it.
func (r *Ring) AuditKey() []byte { return bytes.Clone(r.audit[:]) }

// Software starts an HSM with the ring's master keys.
func (r *Ring) Software() (*Software, error) {
	if len(r.masters) > 1 {
		return NewSoftware(r.masters[0].key[:], r.masters[1].key[:])
	}
	return NewSoftware(r.masters[0].key[:])
}

// Wipe clears the ring, which is then of no use.
func (r *Ring) Wipe() {
	clear(r.audit[:])
	for i := range r.masters {
		clear(r.masters[i].key[:])
	}
	r.masters = nil
}

// String shows the check values.
func (r *Ring) String() string {
	switch len(r.masters) {
	case 0:
		return "no master key"
	case 1:
		return "master key " + r.masters[0].CheckValue
	}
	return "master key " + r.masters[0].CheckValue + ", before it " + r.masters[1].CheckValue
}
func (r *Ring) GoString() string              { return r.String() }
func (r *Ring) Format(f fmt.State, verb rune) { fmt.Fprint(f, r.String()) }

// pack is what gets sealed: a count, the audit key, the master keys.
func (r *Ring) pack() []byte {
	out := append([]byte{byte(len(r.masters))}, r.audit[:]...)
	for i := range r.masters {
		out = append(out, r.masters[i].key[:]...)
	}
	return out
}

// KeyFile is a sealed master key file that was read: it says how it is opened
// and what is in it, and holds no secret. Version 1 has one master key under a
// passphrase (Create); version 2 has what a Ring has, under a passphrase or
// under a key that custodians' components make.
type KeyFile struct {
	Custodians *Custodians // nil when a passphrase opens it
	Masters    []Master    // current first; empty in version 1, which does not say

	path string
	text []byte // version 1
	file ringFile
}

// ringFile is version 2 of the file at rest. Sum is over all other fields.
type ringFile struct {
	Format     string      `json:"format"`
	Version    int         `json:"version"`
	KDF        *sealedKDF  `json:"kdf,omitempty"`
	Custodians *Custodians `json:"custodians,omitempty"`
	Masters    []Master    `json:"masters"`
	Cipher     string      `json:"cipher"`
	Nonce      string      `json:"nonce"`
	Sealed     string      `json:"sealed"`
	Sum        string      `json:"sha256"`
}

// ReadKeyFile reads a sealed master key file of either version. Errors are
// ErrDamaged or what the file system said.
func ReadKeyFile(path string) (*KeyFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("hsm: master key file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSealedFile+1))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("hsm: master key file: %w", err)
	}
	k := &KeyFile{path: path, text: text}
	if err := k.parse(); err != nil {
		return nil, fmt.Errorf("hsm: %s: %w", path, err)
	}
	return k, nil
}

func (k *KeyFile) parse() error {
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(k.text, &head); err != nil || head.Format != sealedFormat || head.Version != 2 {
		return nil // version 1, or damaged, which unseal says better
	}
	damaged := func(what string) error { return fmt.Errorf("%w (%s)", ErrDamaged, what) }
	f := &k.file
	dec := json.NewDecoder(bytes.NewReader(k.text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(f); err != nil {
		return damaged("it is cut off or not JSON")
	}
	if f.Cipher != "aes-256-gcm" || f.KDF != nil && f.KDF.Name != "argon2id" {
		return errors.New("master key file is sealed in a way that is not read by this program: use the program that wrote it")
	}
	if f.Sum != f.sum() {
		return damaged("its checksum does not fit")
	}
	if (f.KDF == nil) == (f.Custodians == nil) || len(f.Masters) < 1 || len(f.Masters) > 2 {
		return damaged("it does not say how it is opened, or what it holds")
	}
	if f.Custodians != nil {
		if err := f.Custodians.check(); err != nil {
			return damaged(err.Error())
		}
	}
	k.Custodians, k.Masters, k.text = f.Custodians, f.Masters, nil
	return nil
}

// Open opens the file with its passphrase, or with the key that its
// custodians' components make (Custodians.Combine). ErrPassphrase when it is
// another.
func (k *KeyFile) Open(secret []byte) (*Ring, error) {
	r, err := k.open(secret)
	if err != nil {
		return nil, fmt.Errorf("hsm: %s: %w", k.path, err)
	}
	return r, nil
}

func (k *KeyFile) open(secret []byte) (*Ring, error) {
	if k.text != nil {
		master, err := unseal(k.text, secret)
		if err != nil {
			return nil, err
		}
		defer clear(master)
		r := &Ring{masters: []Master{{CheckValue: masterCheckValue(master).String()}}}
		copy(r.masters[0].key[:], master)
		// This version has no key of its own for the audit log.
		mac := hmac.New(sha256.New, master)
		mac.Write([]byte("acquirer hsm audit log"))
		mac.Sum(r.audit[:0])
		return r, nil
	}
	f := &k.file
	gcm, err := f.gcm(secret)
	if err != nil {
		return nil, err
	}
	nonce, err1 := hex.DecodeString(f.Nonce)
	sealed, err2 := hex.DecodeString(f.Sealed)
	if errors.Join(err1, err2) != nil || len(nonce) != gcm.NonceSize() {
		return nil, fmt.Errorf("%w (nonce or key are no hex digits)", ErrDamaged)
	}
	clearRing, err := gcm.Open(nil, nonce, sealed, f.header())
	if err != nil {
		return nil, ErrPassphrase
	}
	defer clear(clearRing)
	r := &Ring{}
	if len(clearRing) != 1+sha256.Size+len(f.Masters)*masterBytes || int(clearRing[0]) != len(f.Masters) {
		return nil, fmt.Errorf("%w (it holds another number of keys than it says)", ErrDamaged)
	}
	at := 1 + copy(r.audit[:], clearRing[1:])
	for _, m := range f.Masters {
		at += copy(m.key[:], clearRing[at:])
		r.masters = append(r.masters, m)
	}
	return r, nil
}

// CreateKeyFile seals a ring into a new file: under a passphrase, or under the
// key of custodians when there are any. It refuses to overwrite.
func CreateKeyFile(path string, r *Ring, custodians *Custodians, secret []byte) error {
	text, err := sealRing(r, custodians, newKDF, secret)
	if err != nil {
		return err
	}
	if err := writeNew(path, text); err != nil {
		return fmt.Errorf("hsm: master key file: %w", err)
	}
	return nil
}

// Replace writes the file anew with another ring, opened as before. It is the
// old file or the new one on disk, whatever happens, and the new one when
// Replace returns nil.
func (k *KeyFile) Replace(r *Ring, secret []byte) error {
	old, err := k.open(secret)
	if err != nil { // or the file could not be opened again by those who did
		return fmt.Errorf("hsm: %s: %w", k.path, err)
	}
	old.Wipe()
	kdf := newKDF
	if k.file.KDF != nil {
		kdf = *k.file.KDF
	}
	text, err := sealRing(r, k.Custodians, kdf, secret)
	if err != nil {
		return err
	}
	if err := ReplaceFile(k.path, text, 0o600); err != nil {
		return fmt.Errorf("hsm: master key file: %w", err)
	}
	return nil
}

func sealRing(r *Ring, custodians *Custodians, kdf sealedKDF, secret []byte) ([]byte, error) {
	f := ringFile{Format: sealedFormat, Version: 2, Custodians: custodians, Masters: r.Masters(), Cipher: "aes-256-gcm"}
	if custodians == nil {
		if len(secret) < MinPassphrase {
			return nil, fmt.Errorf("hsm: passphrase of %d bytes, want at least %d", len(secret), MinPassphrase)
		}
		var salt [16]byte
		rand.Read(salt[:])
		kdf.Salt = hex.EncodeToString(salt[:])
		f.KDF = &kdf
	}
	gcm, err := f.gcm(secret)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	clearRing := r.pack()
	defer clear(clearRing)
	f.Nonce = hex.EncodeToString(nonce)
	f.Sealed = hex.EncodeToString(gcm.Seal(nil, nonce, clearRing, f.header()))
	f.Sum = f.sum()
	text, err := json.MarshalIndent(f, "", "  ")
	return append(text, '\n'), err
}

// gcm is the cipher of the secret that opens the file.
func (f *ringFile) gcm(secret []byte) (cipher.AEAD, error) {
	if f.KDF != nil {
		salt, err := hex.DecodeString(f.KDF.Salt)
		if err != nil || len(salt) < 16 || f.KDF.Time < 1 || f.KDF.Time > maxTime || f.KDF.MemoryKiB > maxMemoryKiB || f.KDF.Threads < 1 {
			return nil, fmt.Errorf("%w (its Argon2id parameters are out of bounds)", ErrDamaged)
		}
		return (&sealedFile{KDF: *f.KDF}).gcm(secret, salt)
	}
	if len(secret) != masterBytes {
		return nil, ErrPassphrase
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// header is what is bound to the sealed ring: everything that the file says
// about it.
func (f *ringFile) header() []byte {
	h := *f
	h.Nonce, h.Sealed, h.Sum = "", "", ""
	text, err := json.Marshal(h)
	if err != nil {
		panic("hsm: the header of a key file: " + err.Error()) // strings, numbers and times
	}
	return text
}

func (f *ringFile) sum() string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(f.header(), "|%s|%s", f.Nonce, f.Sealed)))
}

// ReplaceFile writes a file that has keys in it, sealed or wrapped: whole or
// not at all, with the permissions given, on disk when it returns.
func ReplaceFile(path string, text []byte, perm os.FileMode) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".master-key-*") // mode 0600 until it is whole
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Chmod(perm)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		fault.Hit("keyfile.replace.before")
		err = os.Rename(tmp.Name(), path)
		fault.Hit("keyfile.replace.after")
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncDir(dir)
}

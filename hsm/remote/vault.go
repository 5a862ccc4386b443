package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/hsm"
	"acquirer/hsm/audit"
	"acquirer/hsm/harden"
)

// What the vault refuses.
var (
	// ErrSealed: the HSM has no master key in memory.
	ErrSealed = errors.New("hsm: sealed: its custodians must enter their components (acquirer hsm unseal), or a passphrase")
	// ErrForbidden: the peer may use keys, not keep them.
	ErrForbidden = errors.New("hsm: only the user that the HSM runs as may do this")
)

// authorised is how long entered components are good for a change of the
// master key.
const authorised = 10 * time.Minute

// Vault is an HSM that can be sealed: the master key file, what of it is in
// memory, and the components that custodians have entered so far.
type Vault struct {
	path  string
	log   *audit.Log
	shape harden.Report
	since time.Time

	current atomic.Pointer[hsm.Software] // nil while sealed

	mu      sync.Mutex
	pending map[string]*harden.Secret // components by custodian
	grant   *harden.Secret            // the key of all of them, for a change of the master key
	granted []string                  // whose
	expires time.Time                 // of grant and pending
	now     func() time.Time
}

// Status is the state of a vault, without a secret.
type Status struct {
	Sealed     bool          `json:"sealed"`
	OpenedBy   string        `json:"opened_by"`           // passphrase, or "2 of alice, bob, carol"
	Entered    []string      `json:"entered"`             // whose components are in
	Authorised []string      `json:"authorised"`          // who stands by for a change of the master key
	Until      time.Time     `json:"until,omitzero"`      // when that ends
	Masters    []string      `json:"masters"`             // check values, current first; of the file while sealed
	Made       time.Time     `json:"made,omitzero"`       // when the current master key was made
	Since      time.Time     `json:"since"`               // start of the process
	AuditHead  string        `json:"audit_head"`          // to be noted elsewhere
	AuditFile  string        `json:"audit_file"`          // on the machine of the HSM
	Process    int           `json:"process"`             // its number
	Hardening  harden.Report `json:"hardening,omitempty"` // what was done for its memory
}

// NewVault is a sealed vault over a master key file. log hears of everything;
// shape is what was done to harden the process.
func NewVault(path string, log *audit.Log, shape harden.Report) (*Vault, error) {
	if _, err := hsm.ReadKeyFile(path); err != nil {
		return nil, err
	}
	return &Vault{path: path, log: log, shape: shape, since: time.Now().UTC().Truncate(time.Second), pending: map[string]*harden.Secret{}, now: time.Now}, nil
}

// HSM is the opened HSM.
func (v *Vault) HSM() (*hsm.Software, error) {
	if s := v.current.Load(); s != nil {
		return s, nil
	}
	return nil, ErrSealed
}

// Log is the audit log.
func (v *Vault) Log() *audit.Log { return v.log }

// Status says how it stands.
func (v *Vault) Status() (Status, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expire()
	k, err := hsm.ReadKeyFile(v.path)
	if err != nil {
		return Status{}, err
	}
	s := Status{Sealed: v.current.Load() == nil, OpenedBy: "passphrase", Entered: []string{}, Authorised: append([]string{}, v.granted...), Since: v.since,
		AuditHead: v.log.Head().String(), AuditFile: v.log.Path(), Process: os.Getpid(), Hardening: v.shape}
	if k.Custodians != nil {
		s.OpenedBy = k.Custodians.String()
		for _, p := range k.Custodians.People {
			if v.pending[p.Name] != nil {
				s.Entered = append(s.Entered, p.Name)
			}
		}
	}
	if len(v.granted) > 0 || len(s.Entered) > 0 {
		s.Until = v.expires
	}
	for i, m := range k.Masters {
		if i == 0 {
			s.Made = m.Made
		}
		s.Masters = append(s.Masters, m.CheckValue)
	}
	if h := v.current.Load(); h != nil {
		s.Masters = s.Masters[:0]
		all, err := h.Masters(context.Background())
		if err != nil {
			return Status{}, err
		}
		for _, m := range all {
			s.Masters = append(s.Masters, m.String())
		}
	}
	return s, nil
}

// expire forgets what was entered too long ago. v.mu is held.
func (v *Vault) expire() {
	if !v.expires.IsZero() && v.now().After(v.expires) {
		v.forget()
	}
}

// forget clears components and what they made. v.mu is held.
func (v *Vault) forget() {
	for name, s := range v.pending {
		s.Free()
		delete(v.pending, name)
	}
	v.grant.Free()
	v.grant, v.granted, v.expires = nil, nil, time.Time{}
}

// note writes what became of an operation, and returns its error or the log's.
func (v *Vault) note(e audit.Entry, err error) error {
	if err != nil {
		e.Error = err.Error()
	}
	if failed := v.log.Append(e); failed != nil {
		return failed
	}
	return err
}

// Unlock opens a vault that a passphrase opens.
func (v *Vault) Unlock(who string, passphrase []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, err := hsm.ReadKeyFile(v.path)
	if err == nil && k.Custodians != nil {
		err = fmt.Errorf("hsm: %s: %w: %s", v.path, hsm.ErrCustodians, k.Custodians)
	}
	kcv := ""
	if err == nil {
		kcv, err = v.open(k, passphrase)
	}
	return v.note(audit.Entry{Op: "unseal", Who: who, KCV: kcv, Note: "by passphrase"}, err)
}

// open puts the master key into memory. v.mu is held.
func (v *Vault) open(k *hsm.KeyFile, secret []byte) (kcv string, err error) {
	r, err := k.Open(secret)
	if err != nil {
		return "", err
	}
	defer r.Wipe()
	return v.adopt(r)
}

// adopt works with a ring from now on. v.mu is held.
func (v *Vault) adopt(r *hsm.Ring) (kcv string, err error) {
	s, err := r.Software()
	if err != nil {
		return "", err
	}
	key := r.AuditKey()
	defer clear(key)
	v.log.SetKey(key)
	v.current.Store(s)
	return s.MasterCheckValue().Short(), nil
}

// EnterComponent takes one custodian's component. When as many are in as are
// needed, a sealed vault opens; one that is open is authorised for a change of
// the master key for ten minutes. It returns whose components are still in,
// none when they have just done their work.
func (v *Vault) EnterComponent(who, custodian string, value []byte) (entered []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expire()
	kcv, note, err := v.enter(custodian, value)
	if err = v.note(audit.Entry{Op: "component", Who: who, Custodians: []string{custodian}, KCV: kcv, Note: note}, err); err != nil {
		return nil, err
	}
	k, err := hsm.ReadKeyFile(v.path)
	if err != nil {
		return nil, err
	}
	var parts []hsm.Component
	defer func() {
		for i := range parts {
			clear(parts[i].Value[:])
		}
	}()
	for _, p := range k.Custodians.People {
		if s := v.pending[p.Name]; s != nil {
			entered = append(entered, p.Name)
			parts = append(parts, hsm.Component{Custodian: p.Name, Value: [32]byte(s.Bytes())})
		}
	}
	if len(parts) < k.Custodians.Needed {
		return entered, nil
	}
	key, err := k.Custodians.Combine(parts)
	v.forget()
	if err != nil {
		return nil, v.note(audit.Entry{Op: "unseal", Who: who, Custodians: entered}, err)
	}
	defer clear(key)
	if v.current.Load() == nil {
		kcv, err := v.open(k, key)
		return nil, v.note(audit.Entry{Op: "unseal", Who: who, Custodians: entered, KCV: kcv}, err)
	}
	if v.grant, err = harden.NewSecret(len(key)); err != nil {
		return nil, err
	}
	copy(v.grant.Bytes(), key)
	v.granted, v.expires = entered, v.now().Add(authorised)
	return nil, v.note(audit.Entry{Op: "authorise", Who: who, Custodians: entered}, nil)
}

// enter checks a component and keeps it. v.mu is held.
func (v *Vault) enter(custodian string, value []byte) (kcv, note string, err error) {
	k, err := hsm.ReadKeyFile(v.path)
	if err != nil {
		return "", "", err
	}
	if k.Custodians == nil {
		return "", "", errors.New("hsm: a passphrase opens this master key file, not components")
	}
	if len(value) != 32 {
		return "", "", fmt.Errorf("hsm: component of %d bytes, want 32", len(value))
	}
	c := hsm.Component{Custodian: custodian, Value: [32]byte(value)}
	defer clear(c.Value[:])
	kcv = c.CheckValue().Short()
	if err := k.Custodians.Admit(&c); err != nil {
		return kcv, "", err
	}
	name := k.Custodians.People[c.Index-1].Name
	if v.pending[name] == nil {
		if v.pending[name], err = harden.NewSecret(len(value)); err != nil {
			delete(v.pending, name)
			return kcv, "", err
		}
	}
	copy(v.pending[name].Bytes(), value)
	v.expires = v.now().Add(authorised)
	return kcv, fmt.Sprintf("%d of %d needed", len(v.pending), k.Custodians.Needed), nil
}

// Seal takes the master key out of memory. Expanded keys go with the HSM that
// held them, as far as Go's collector clears what it frees.
func (v *Vault) Seal(who string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget()
	if v.current.Load() == nil {
		return ErrSealed
	}
	err := v.note(audit.Entry{Op: "seal", Who: who}, nil)
	v.current.Store(nil) // whatever the log says
	v.log.SetKey(nil)
	return err
}

// Change is a change of the master key.
type Change string

// The changes: a new master key, the old one only unwraps; the old one is
// forgotten.
const (
	Rotate Change = "rotate"
	Retire Change = "retire"
)

// Change does one. Two custodians must stand by: those whose components are
// in, or, where a passphrase opens the file, the two that are named. It
// returns the check values, current first.
func (v *Vault) Change(who string, c Change, custodians []string, passphrase []byte) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expire()
	masters, names, err := v.change(c, custodians, passphrase)
	e := audit.Entry{Op: string(c), Who: who, Custodians: names}
	if err == nil {
		e.KCV, e.Note = masters[0], strings.Join(masters, " before it ")
	}
	return masters, v.note(e, err)
}

func (v *Vault) change(c Change, custodians []string, passphrase []byte) (masters, names []string, err error) {
	k, err := hsm.ReadKeyFile(v.path)
	if err != nil {
		return nil, custodians, err
	}
	if v.current.Load() == nil {
		return nil, custodians, ErrSealed
	}
	secret := passphrase
	if k.Custodians != nil {
		if v.grant == nil {
			return nil, custodians, fmt.Errorf("hsm: a change of the master key needs the components of %s first (acquirer hsm unseal, also while it is open)", k.Custodians)
		}
		secret, custodians = v.grant.Bytes(), append([]string{}, v.granted...)
		defer v.forget()
	}
	if err := TwoPeople(custodians); err != nil {
		return nil, custodians, err
	}
	r, err := ChangeFile(k, c, secret)
	if err != nil {
		return nil, custodians, err
	}
	defer r.Wipe()
	if _, err := v.adopt(r); err != nil {
		return nil, custodians, err
	}
	for _, m := range r.Masters() {
		masters = append(masters, m.CheckValue)
	}
	return masters, custodians, nil
}

// ChangeFile changes the master key in its file and returns the ring.
func ChangeFile(k *hsm.KeyFile, c Change, secret []byte) (*hsm.Ring, error) {
	r, err := k.Open(secret)
	if err != nil {
		return nil, err
	}
	switch c {
	case Rotate:
		err = r.Rotate()
	case Retire:
		err = r.Retire()
	default:
		err = fmt.Errorf("hsm: %q is no change of a master key", c)
	}
	if err == nil {
		err = k.Replace(r, secret)
	}
	if err != nil {
		r.Wipe()
		return nil, err
	}
	return r, nil
}

// VerifyAudit checks the log with the key that the vault has.
func (v *Vault) VerifyAudit(noted string) (audit.Report, error) {
	var head audit.Head
	var err error
	if noted != "" {
		if head, err = audit.ParseHead(noted); err != nil {
			return audit.Report{}, err
		}
	}
	return v.log.Verify(head)
}

// TwoPeople refuses a thing that needs two when there are not two.
func TwoPeople(names []string) error {
	if len(names) < 2 {
		return fmt.Errorf("hsm: %d custodian is named, and this needs two different ones: --custodian NAME twice", len(names))
	}
	seen := map[string]bool{}
	for _, n := range names {
		n = strings.ToLower(strings.TrimSpace(n))
		if n == "" || seen[n] {
			return fmt.Errorf("hsm: custodian %s is named twice or without a name, and this needs two different people", strconv.Quote(n))
		}
		seen[n] = true
	}
	return nil
}

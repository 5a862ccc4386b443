// Package download is what the house gives its terminals besides money: CA
// public keys, chip applications, terminal parameters, contactless limits and
// the black list. It knows which terminal has the newest of each, what an
// operator wants of a terminal, and what a terminal last said of itself.
//
// The content comes from a JSON file over a built-in set (Load, Import) and
// can be changed while the house works (Override, Block, Unblock). It lies in
// the store and, as this node knows it, in memory.
//
// Card numbers on the black list are sealed by the HSM and found again by
// their keyed token; the beginnings of card numbers beside them are no card
// data and stand in the clear.
package download

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"acquirer/money"
	"acquirer/spec"
)

// Kind is one thing that terminals download.
type Kind int

// The kinds.
const (
	Parameters Kind = iota
	CAKeys
	Applications
	Limits
	BlackList
	kinds
)

var kindNames = [kinds]string{"parameters", "ca_keys", "applications", "limits", "black_list"}

func (k Kind) String() string {
	if k >= 0 && k < kinds {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// demands tells how the header of an answer asks for a kind (its third byte);
// no demand is known for the contactless limits.
var demands = [kinds]spec.Demand{spec.DemandParameters, spec.DemandCAPK, spec.DemandICParameters, spec.DemandNothing, spec.DemandBlackList}

// CAKey is a CA public key with what only the house wants to know.
type CAKey struct {
	spec.CAKey
	Test bool // made for tests: DropTestKeys
}

// Small are the amounts up to which a contactless sale needs no PIN and no
// signature; nil says nothing, so that what is said further up counts.
type Small struct {
	NoPIN, NoSignature *money.Amount
}

// Override is what is different for one merchant or one terminal.
type Override struct {
	Parameters map[string]string // tag -> text, as spec.AppendParameter takes it
	Limits     Small
}

// Set is everything the house gives its terminals.
type Set struct {
	CAKeys       []CAKey
	Applications []spec.Application
	House        Override
	Overrides    map[string]Override // by MID (15 characters) or TID (8); the terminal's own counts most
	BlackList    []string            // 4 to 12 digits that numbers begin with, or numbers of 13 to 19
}

// DropTestKeys takes the CA keys away that were made for tests, and returns
// how many they were.
func (s *Set) DropTestKeys() int {
	before := len(s.CAKeys)
	s.CAKeys = slices.DeleteFunc(slices.Clone(s.CAKeys), func(k CAKey) bool { return k.Test })
	return before - len(s.CAKeys)
}

// flaw is what is wrong with a set, and the text by which the place is found
// in a file.
type flaw struct {
	at  string
	err error
}

func (f *flaw) Error() string { return f.err.Error() }
func (f *flaw) Unwrap() error { return f.err }

// check refuses what a terminal could not be given.
func (s *Set) check() error {
	seen := map[string]bool{}
	for i := range s.CAKeys {
		if err := checkKey(&s.CAKeys[i].CAKey, seen); err != nil {
			return err
		}
	}
	for i := range s.Applications {
		a := &s.Applications[i]
		name := fmt.Sprintf("%X", a.AID)
		if err := a.Check(); err != nil {
			return &flaw{name, err}
		}
		if seen[name] {
			return &flaw{name, fmt.Errorf("application %s stands twice", name)}
		}
		seen[name] = true
	}
	if err := s.House.check("the house"); err != nil {
		return err
	}
	for _, scope := range slices.Sorted(maps.Keys(s.Overrides)) {
		if err := checkScope(scope); err != nil {
			return &flaw{scope, err}
		}
		o := s.Overrides[scope]
		if err := o.check(scope); err != nil {
			return err
		}
	}
	for i, e := range s.BlackList {
		if !blackEntry(e) {
			return &flaw{e, fmt.Errorf("entry %d of the black list is not 4 to 19 digits", i+1)}
		}
	}
	return nil
}

func checkKey(k *spec.CAKey, seen map[string]bool) error {
	name := k.CAKeyID.String()
	bad := func(format string, args ...any) error {
		return &flaw{fmt.Sprintf("%X", k.Modulus), fmt.Errorf("CA key %s: %s", name, fmt.Sprintf(format, args...))}
	}
	_, err := time.Parse("20060102", k.Expires)
	switch {
	case err != nil:
		return bad("it expires on %q; write YYYYMMDD", k.Expires)
	case k.HashAlg != 1 || k.KeyAlg != 1:
		return bad("only SHA-1 (1) and RSA (1) are known")
	case len(k.Modulus) < 64 || len(k.Modulus) > 248:
		return bad("the modulus has %d bytes, not 64 to 248", len(k.Modulus))
	case string(k.Exponent) != "\x03" && string(k.Exponent) != "\x01\x00\x01":
		return bad("the exponent is %X, not 03 or 010001", k.Exponent)
	case k.Digest() != k.CheckHash:
		return bad("the hash is %X, but SHA-1 over RID, index, modulus and exponent is %X", k.CheckHash, k.Digest())
	case seen[name]:
		return bad("it stands twice")
	}
	seen[name] = true
	return nil
}

func (o *Override) check(whose string) error {
	for _, tag := range slices.Sorted(maps.Keys(o.Parameters)) {
		if _, err := spec.AppendParameter(nil, tag, o.Parameters[tag]); err != nil {
			return &flaw{tag, fmt.Errorf("parameters of %s: %w", whose, err)}
		}
	}
	for _, a := range [...]*money.Amount{o.Limits.NoPIN, o.Limits.NoSignature} {
		if a != nil && (*a < 0 || a.Fen() > 999_999_999_999) {
			return &flaw{a.String(), fmt.Errorf("limits of %s: %s yuan is not 0.00 to 9999999999.99", whose, a)}
		}
	}
	return nil
}

// settings are an override as rows: parameters by their tag of two digits,
// limits by theirs of six characters, in fen.
func (o *Override) settings() map[string]string {
	out := maps.Clone(o.Parameters)
	if out == nil {
		out = map[string]string{}
	}
	if a := o.Limits.NoPIN; a != nil {
		out[spec.LimitNoPIN] = strconv.FormatInt(a.Fen(), 10)
	}
	if a := o.Limits.NoSignature; a != nil {
		out[spec.LimitNoSignature] = strconv.FormatInt(a.Fen(), 10)
	}
	return out
}

// kindOf is what a setting belongs to.
func kindOf(tag string) Kind {
	if len(tag) == 2 {
		return Parameters
	}
	return Limits
}

// ErrScope says that something names neither a merchant nor a terminal.
var ErrScope = errors.New("download: an override is for a merchant (15 letters and digits) or a terminal (8)")

func checkScope(scope string) error {
	for i := range len(scope) {
		if c := scope[i] | 0x20; (c < 'a' || c > 'z') && (scope[i] < '0' || scope[i] > '9') {
			return ErrScope
		}
	}
	if len(scope) != 15 && len(scope) != 8 {
		return ErrScope
	}
	return nil
}

// longestBeginning is how many digits an entry of the black list may have
// without being a card number.
const longestBeginning = 12

func blackEntry(e string) bool {
	for i := range len(e) {
		if e[i] < '0' || e[i] > '9' {
			return false
		}
	}
	return len(e) >= 4 && len(e) <= 19
}

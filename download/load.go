package download

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"acquirer/money"
	"acquirer/spec"
)

// builtIn is the set of a house that was told nothing: TEST keys, the four
// UnionPay applications and usual parameters. It shows the layout of a file.
//
//go:embed builtin.json
var builtIn []byte

// BuiltIn is a fresh copy of the built-in set.
func BuiltIn() *Set {
	s, err := decode(builtIn)
	if err != nil {
		panic(err) // the embedded file is wrong: found by any test
	}
	return s.over(&Set{})
}

// Load reads a JSON file in the layout of builtin.json. What it leaves out is
// that of the built-in set. An error says the line.
func Load(path string) (*Set, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	s, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("download: %s: %w", path, err)
	}
	return s.over(BuiltIn()), nil
}

// file is the layout. A section that is missing is nil.
type file struct {
	Keys         []fileKey               `json:"ca_keys"`
	Applications []fileApplication       `json:"applications"`
	Parameters   map[string]string       `json:"parameters"`
	Limits       *fileLimits             `json:"limits"`
	Overrides    map[string]fileOverride `json:"overrides"`
	BlackList    []string                `json:"black_list"`
}

type fileLimits struct {
	NoPIN       *yuan `json:"no_pin,omitempty"`
	NoSignature *yuan `json:"no_signature,omitempty"`
}

func (l *fileLimits) small() Small {
	if l == nil {
		return Small{}
	}
	return Small{(*money.Amount)(l.NoPIN), (*money.Amount)(l.NoSignature)}
}

type fileOverride struct {
	Parameters map[string]string `json:"parameters,omitempty"`
	Limits     *fileLimits       `json:"limits,omitempty"`
}

type fileKey struct {
	RID      octets `json:"rid"`
	Index    octets `json:"index"`
	Expires  string `json:"expires"` // YYYYMMDD
	Modulus  octets `json:"modulus"`
	Exponent octets `json:"exponent"`
	Hash     octets `json:"hash"` // SHA-1 over RID, index, modulus and exponent
	Test     bool   `json:"test,omitempty"`
}

type fileApplication struct {
	AID              octets `json:"aid"`
	Exact            bool   `json:"exact,omitempty"`
	Version          octets `json:"version"`
	TACDefault       octets `json:"tac_default"`
	TACOnline        octets `json:"tac_online"`
	TACDenial        octets `json:"tac_denial"`
	FloorLimit       yuan   `json:"floor_limit"`
	Threshold        yuan   `json:"threshold"`
	MaxTarget        int    `json:"max_target"`
	Target           int    `json:"target"`
	DDOL             octets `json:"ddol"`
	OnlinePIN        bool   `json:"online_pin"`
	ContactlessFloor yuan   `json:"contactless_floor"`
	ContactlessLimit yuan   `json:"contactless_limit"`
	CVMLimit         yuan   `json:"cvm_limit"`
	ECashLimit       yuan   `json:"ecash_limit"`
}

// yuan is an amount whose error says where it stands.
type yuan money.Amount

func (y *yuan) UnmarshalText(b []byte) error {
	a, err := money.Parse(string(b))
	if err != nil {
		return &flaw{string(b), err}
	}
	*y = yuan(a)
	return nil
}

// octets are bytes as hex digits.
type octets []byte

func (o *octets) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	if err != nil {
		return &flaw{string(b), errors.New("want an even number of hex digits")}
	}
	*o = v
	return nil
}

// decode reads and checks a file.
func decode(text []byte) (*file, error) {
	var f file
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("more text after the JSON value")
		}
	}
	at := d.InputOffset()
	if err == nil {
		var s *Set
		if s, err = f.set(); err == nil {
			err = s.check()
		}
	}
	if err == nil {
		return &f, nil
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var wrong *flaw
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	case errors.As(err, &wrong):
		at = find(text, `"`+wrong.at+`"`)
	default:
		if name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
			at = find(text, name)
		}
	}
	return nil, fmt.Errorf("line %d: %w", 1+bytes.Count(text[:min(int(at), len(text))], []byte("\n")), err)
}

// find is where what stands last in text, whatever the case of its letters: of
// two entries with one name the second is the one too many. 0 when it does not.
func find(text []byte, what string) int64 {
	return int64(max(0, bytes.LastIndex(bytes.ToUpper(text), bytes.ToUpper([]byte(what)))))
}

// set turns the texts of a file into values.
func (f *file) set() (*Set, error) {
	s := &Set{House: Override{f.Parameters, f.Limits.small()}, Overrides: map[string]Override{}, BlackList: f.BlackList}
	for scope, o := range f.Overrides {
		s.Overrides[scope] = Override{o.Parameters, o.Limits.small()}
	}
	for _, k := range f.Keys {
		out := CAKey{Test: k.Test, CAKey: spec.CAKey{Expires: k.Expires, HashAlg: 1, KeyAlg: 1, Modulus: k.Modulus, Exponent: k.Exponent}}
		if len(k.RID) != 5 || len(k.Index) != 1 || len(k.Hash) != 20 {
			return nil, &flaw{fmt.Sprintf("%X", []byte(k.Modulus)), errors.New("a CA key has a rid of 5 bytes, an index of 1 and a hash of 20, in hex digits")}
		}
		out.RID, out.Index, out.CheckHash = [5]byte(k.RID), k.Index[0], [20]byte(k.Hash)
		s.CAKeys = append(s.CAKeys, out)
	}
	for _, a := range f.Applications {
		out := spec.Application{AID: a.AID, Exact: a.Exact, FloorLimit: int64(a.FloorLimit), Threshold: int64(a.Threshold), MaxTarget: a.MaxTarget, Target: a.Target,
			DDOL: a.DDOL, OnlinePIN: a.OnlinePIN, ContactlessFloor: int64(a.ContactlessFloor), ContactlessLimit: int64(a.ContactlessLimit), CVMLimit: int64(a.CVMLimit), ECashLimit: int64(a.ECashLimit)}
		if len(a.Version) != 2 || len(a.TACDefault) != 5 || len(a.TACOnline) != 5 || len(a.TACDenial) != 5 {
			return nil, &flaw{fmt.Sprintf("%X", []byte(a.AID)), fmt.Errorf("application %X: the version has 2 bytes, a terminal action code 5", []byte(a.AID))}
		}
		out.Version, out.TACDefault, out.TACOnline, out.TACDenial = [2]byte(a.Version), [5]byte(a.TACDefault), [5]byte(a.TACOnline), [5]byte(a.TACDenial)
		s.Applications = append(s.Applications, out)
	}
	return s, nil
}

// over is the file's set, with the sections that it leaves out taken from
// base. The file was checked.
func (f *file) over(base *Set) *Set {
	s, err := f.set()
	if err != nil {
		panic(err) // decode had the same answer for it
	}
	if f.Keys == nil {
		s.CAKeys = base.CAKeys
	}
	if f.Applications == nil {
		s.Applications = base.Applications
	}
	if f.Parameters == nil {
		s.House.Parameters = base.House.Parameters
	}
	if f.Limits == nil {
		s.House.Limits = base.House.Limits
	}
	return s
}

package merchant

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"acquirer/card"
)

// Seed is a file of merchants and terminals to register at start. Issuers and
// wallets are left as they stand for whoever routes.
type Seed struct {
	Merchants []SeedMerchant  `json:"merchants"`
	Terminals []SeedTerminal  `json:"terminals"`
	BaseKeys  []BaseKey       `json:"base_keys,omitempty"`
	Issuers   json.RawMessage `json:"issuers,omitempty"`
	Wallets   json.RawMessage `json:"wallets,omitempty"`
}

// SeedMerchant is a merchant as a seed writes it: with the account number in
// the clear, which is sealed on the way in.
type SeedMerchant struct {
	Merchant
	Account SeedAccount `json:"account"`
}

// SeedAccount is a settlement account with its number.
type SeedAccount struct {
	Number string `json:"number"`
	Name   string `json:"name"`
	Bank   string `json:"bank"`
	Class  int    `json:"class"`
}

// SeedTerminal is a terminal as a seed writes it. TMK is a key block of the
// house's HSM; without it the terminal cannot sign in until SetTMK.
type SeedTerminal struct {
	Terminal
	TMK string `json:"tmk,omitempty"`
	TTK string `json:"ttk,omitempty"` // key block of the key that a TMK is delivered under
}

// BaseKey is a base derivation key of DUKPT terminals: a key block of the
// house's HSM, and the first digits of the key serial numbers that it is for
// (the key set identifier, 6 to 16 upper-case hexadecimal digits).
type BaseKey struct {
	KSI string `json:"ksi"`
	BDK string `json:"bdk"`
}

func (k BaseKey) check() error {
	if len(k.KSI) < 6 || len(k.KSI) > 16 || strings.Trim(k.KSI, "0123456789ABCDEF") != "" {
		return fmt.Errorf("ksi %q is not 6 to 16 upper-case hexadecimal digits", k.KSI)
	}
	if k.BDK == "" {
		return fmt.Errorf("ksi %s has no bdk", k.KSI)
	}
	return nil
}

// LoadSeed reads a seed file as JSON. An error says the line.
func LoadSeed(path string) (*Seed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("merchant: seed: %w", err)
	}
	defer f.Close()
	var s Seed
	if err := decodeStrict(f, &s); err != nil {
		return nil, fmt.Errorf("merchant: seed %s: %w", path, err)
	}
	for i, k := range s.BaseKeys {
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("merchant: seed %s: base key %d: %w", path, i+1, err)
		}
	}
	return &s, nil
}

// Import registers those merchants and terminals of the seed that are not
// registered yet; the others stay as they are, for what has happened to them
// since counts more. seal turns an account number into sealed bytes. What a
// seed leaves out has a default: active, unassessed, T1, plan ESIGN-STD,
// account class 1, MAC unionpay with a double key, key set 3, batch 1 that the
// house follows, tdb of a track encrypted, static PIN keys.
func (r *Registry) Import(ctx context.Context, s *Seed, seal func(number string) ([]byte, error)) error {
	if _, err := r.Refresh(ctx); err != nil {
		return err
	}
	var merchants []Merchant
	for _, in := range s.Merchants {
		m := in.Merchant
		if _, known := r.Merchant([]byte(m.MID)); known {
			continue
		}
		m.Status, m.Tier, m.Speed = either(m.Status, Active), either(m.Tier, Unassessed), either(m.Speed, T1)
		m.Plan = either(m.Plan, "ESIGN-STD")
		if len(r.Plans().byCode[m.Plan]) == 0 {
			return fmt.Errorf("merchant: seed: merchant %s: %w; import it first (acquirer fees import)", m.MID, r.Plans().unknown(m.Plan))
		}
		m.Account = Account{Name: either(in.Account.Name, m.Name), Bank: in.Account.Bank, Class: either(in.Account.Class, 1),
			Masked: string(card.AppendMasked(nil, in.Account.Number))}
		if in.Account.Number != "" {
			sealed, err := seal(in.Account.Number)
			if err != nil {
				return fmt.Errorf("merchant: sealing the account of %s: %w", m.MID, err)
			}
			m.Account.Sealed = sealed
		}
		merchants = append(merchants, m)
	}
	var terminals []Terminal
	for _, in := range s.Terminals {
		t := in.Terminal
		if _, known := r.Terminal([]byte(t.TID)); known {
			continue
		}
		t.TMK, t.TTK, t.Status, t.Batch = in.TMK, in.TTK, either(t.Status, Active), either(t.Batch, 1)
		terminals = append(terminals, t)
	}
	if len(merchants)+len(terminals) == 0 {
		return nil
	}
	return r.Put(ctx, merchants, terminals)
}

// defaults fills in what is left out.
func (p *Profile) defaults() {
	p.MAC, p.Shape, p.KeySet = either(p.MAC, MACUnionPay), either(p.Shape, ShapeDouble), either(p.KeySet, 3)
	p.Track, p.Batch = either(p.Track, TrackTDB), either(p.Batch, BatchFollows)
	p.PIN = either(p.PIN, PINStatic)
}

// either returns v, or other when v is the zero value.
func either[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

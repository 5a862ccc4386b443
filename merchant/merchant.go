package merchant

import (
	"errors"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// Status says whether a merchant or a terminal may sell.
type Status string

// Only Active sells. Pending waits for approval or activation, Suspended may
// come back, Closed does not.
const (
	Pending   Status = "pending"
	Active    Status = "active"
	Suspended Status = "suspended"
	Closed    Status = "closed"
)

// Tier is how far a merchant was assessed; limits depend on it.
type Tier string

// An Unassessed merchant has the small single limit of one who skipped the
// risk assessment.
const (
	Unassessed Tier = "unassessed"
	Assessed   Tier = "assessed"
)

// Account is where a merchant's money goes. The number is sealed by the HSM
// and shown masked.
type Account struct {
	Sealed []byte `json:"-"`
	Masked string `json:"masked"`
	Name   string `json:"name"`
	Bank   string `json:"bank"`
	Class  int    `json:"class"` // 1, 2 or 3: a class II account takes 10,000 yuan a day
	// Changed is when the merchant's account became another one; zero for the
	// first. The Registry keeps it.
	Changed time.Time `json:"changed,omitzero"`
}

// Merchant is who sells. A *Merchant from the Registry is a snapshot shared by
// all readers: never write to it.
type Merchant struct {
	MID     string  `json:"mid"` // DE 42, 15 characters
	Name    string  `json:"name"`
	MCC     string  `json:"mcc"` // merchant category code, 4 digits
	Status  Status  `json:"status"`
	City    string  `json:"city"`
	Area    string  `json:"area"` // administrative division, 6 digits
	Plan    string  `json:"plan"` // code of the fee plan
	Speed   Speed   `json:"speed"`
	Tier    Tier    `json:"tier"`
	Account Account `json:"account"`
	Version int64   `json:"-"` // grows with every change of any merchant or terminal
}

// Profile is what differs between terminals in the way they speak.
type Profile struct {
	MAC    string `json:"mac"`                  // MACUnionPay, MACX919, MACX99 or MACCMAC
	Shape  string `json:"shape"`                // ShapeSingle or ShapeDouble: the MAC key of sets 3 and 4
	KeySet int    `json:"key_set"`              // working keys at sign-in, DE 60.3: 1, 3, 4, or 5 (SM4)
	Track  string `json:"track,omitempty"`      // TrackTDB, TrackWhole or TrackLength: what of a track is encrypted
	Batch  string `json:"batch_rule,omitempty"` // BatchFollows, BatchLeads or BatchStrict
	// Delivery is the DE 60.3 under which the terminal asks for its master key:
	// "420", "682", "003" (with 99 in DE 60.1), or "" for never.
	Delivery string `json:"tmk_delivery,omitempty"`
	// Unlinked is the most that a refund without its sale may be; 0 allows none.
	Unlinked money.Amount `json:"unlinked_refund,omitempty"`
	// PIN is how the key of a PIN block comes to be: PINStatic, the TPK of the
	// last key exchange, or PINDUKPT, another for each transaction.
	PIN string `json:"pin,omitempty"`
	// Signature says that its sales are signed on the screen and are to be
	// there before it settles.
	Signature bool `json:"signature,omitempty"`
}

// The keys of PIN blocks. Where the message names a key serial number, it is
// DUKPT in any case; a terminal set to it sends no PIN without (docs/dialects.md).
const (
	PINStatic = "static"
	PINDUKPT  = "dukpt"
)

// What of a track a terminal encrypts (docs/hsm.md).
const (
	TrackTDB    = "tdb"
	TrackWhole  = "whole"
	TrackLength = "length"
)

// The rules about a terminal's batch number (DE 60.2): the house follows
// whatever it says; the house leads, gives its own at sign-in, and answers 77
// to a transaction with another; or is strict, and answers 77 at sign-in too.
const (
	BatchFollows = "follow"
	BatchLeads   = "lead"
	BatchStrict  = "strict"
)

// The MAC algorithms and key shapes of a Profile.
const (
	MACUnionPay = "unionpay"
	MACX919     = "x919"
	MACX99      = "x99"
	MACCMAC     = "cmac"

	ShapeSingle = "single"
	ShapeDouble = "double"
)

// Keys are the working keys of one sign-in, as key blocks nobody here can open.
type Keys struct {
	TPK, TAK, TDK string // PIN, MAC and track keys; TDK only of key set 4
	Generation    int64  // one higher with every sign-in
	SignedIn      int64  // microseconds since 1970
}

// Terminal is a place where cards are read. A *Terminal from the Registry is a
// snapshot shared by all readers: never write to it.
type Terminal struct {
	TID     string  `json:"tid"` // DE 41, 8 characters
	MID     string  `json:"mid"`
	Serial  string  `json:"serial"`
	Status  Status  `json:"status"`
	Profile Profile `json:"profile"`
	TMK     string  `json:"-"` // key block of the terminal master key
	TTK     string  `json:"-"` // key block of the key that a TMK is delivered under
	// Keys are the newest. Until their first use the keys before them stay
	// good, for the answer that carried the new ones may have been lost.
	Keys     Keys `json:"-"`
	Previous Keys `json:"-"` // zero once Keys were used
	Batch    int  `json:"batch"`
	// Since is the day on which it was registered, from which its SIM card's
	// years count; 0 for one that is older than these records.
	Since   calendar.Date `json:"since"`
	Version int64         `json:"-"`
}

// None reports that there are no keys.
func (k *Keys) None() bool { return k.TAK == "" }

// SignedIn reports whether the terminal has working keys.
func (t *Terminal) SignedIn() bool { return !t.Keys.None() }

// ErrUnknown says that no such merchant or terminal is registered.
var ErrUnknown = errors.New("merchant: not registered")

func (m *Merchant) check() error {
	bad := func(what string, v any) error {
		return fmt.Errorf("merchant: merchant %q: %s is %q", m.MID, what, v)
	}
	switch {
	case !alphanumeric(m.MID, 15):
		return bad("the MID must be 15 letters and digits and", m.MID)
	case m.Name == "":
		return bad("the name", m.Name)
	case !digits(m.MCC, 4):
		return bad("the category code must be 4 digits and", m.MCC)
	case m.Area != "" && !digits(m.Area, 6):
		return bad("the area must be 6 digits and", m.Area)
	case m.Plan == "":
		return bad("the fee plan", m.Plan)
	case m.Speed != T1 && m.Speed != D1 && m.Speed != D0 && m.Speed != S0:
		return bad("the speed must be T1, D1, D0 or S0 and", m.Speed)
	case m.Tier != Unassessed && m.Tier != Assessed:
		return bad("the tier must be unassessed or assessed and", m.Tier)
	case m.Account.Class < 1 || m.Account.Class > 3:
		return bad("the account's class must be 1, 2 or 3 and", fmt.Sprint(m.Account.Class))
	}
	return m.Status.check("merchant", m.MID)
}

func (t *Terminal) check() error {
	bad := func(what string, v any) error {
		return fmt.Errorf("merchant: terminal %q: %s is %q", t.TID, what, fmt.Sprint(v))
	}
	p := t.Profile
	switch {
	case !alphanumeric(t.TID, 8):
		return bad("the TID must be 8 letters and digits and", t.TID)
	case !alphanumeric(t.MID, 15):
		return bad("the MID must be 15 letters and digits and", t.MID)
	case p.MAC != MACUnionPay && p.MAC != MACX919 && p.MAC != MACX99 && p.MAC != MACCMAC:
		return bad("the MAC must be unionpay, x919, x99 or cmac and", p.MAC)
	case p.Shape != ShapeSingle && p.Shape != ShapeDouble:
		return bad("the MAC key's shape must be single or double and", p.Shape)
	case p.KeySet != 1 && p.KeySet != 3 && p.KeySet != 4 && p.KeySet != 5:
		return bad("the key set must be 1, 3, 4 or 5 and", p.KeySet)
	case p.Track != TrackTDB && p.Track != TrackWhole && p.Track != TrackLength:
		return bad("the encrypted part of a track must be tdb, whole or length and", p.Track)
	case p.Batch != BatchFollows && p.Batch != BatchLeads && p.Batch != BatchStrict:
		return bad("the rule for the batch number must be follow, lead or strict and", p.Batch)
	case p.Delivery != "" && p.Delivery != "420" && p.Delivery != "682" && p.Delivery != "003":
		return bad("the delivery of a master key must be 420, 682 or 003 and", p.Delivery)
	case p.PIN != PINStatic && p.PIN != PINDUKPT:
		return bad("the PIN key must be static or dukpt and", p.PIN)
	case p.Unlinked < 0:
		return bad("an amount must not be below zero and", p.Unlinked)
	case t.Batch < 1 || t.Batch > 999999:
		return bad("the batch number must be 1 to 999999 and", t.Batch)
	}
	return t.Status.check("terminal", t.TID)
}

func (s Status) check(what, id string) error {
	switch s {
	case Pending, Active, Suspended, Closed:
		return nil
	}
	return fmt.Errorf("merchant: %s %q: the status must be pending, active, suspended or closed and is %q", what, id, string(s))
}

func alphanumeric(s string, n int) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return len(s) == n
}

// newKeys puts the keys of a sign-in on a terminal. The keys to fall back to
// are the last that were used: a sign-in repeated because its answer was lost
// does not push them out.
func (t *Terminal) newKeys(k Keys, now time.Time) {
	if t.Previous.None() && !t.Keys.None() {
		t.Previous = t.Keys
	}
	k.Generation, k.SignedIn = t.Keys.Generation+1, now.UnixMicro()
	t.Keys = k
}

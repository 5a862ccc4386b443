// Package simcard is the synthetic cards of the simulated world: which account
// numbers exist, who issued them, and every secret that a card and its issuer
// share. Each fact of a card follows from its account number alone, so that
// terminals, issuers, the load generator and the tests agree without a file.
//
// The keys here are TEST keys, computed from public labels. They protect
// nothing and must never stand in a device or an HSM that sees real cards.
package simcard

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"acquirer/card"
)

// Issuer is one of the synthetic issuers. Its BIN is assigned to nobody in
// this repository's scheme and stands in testdata's BIN table.
type Issuer struct {
	Name  string
	BIN   string // 6 to 11 digits; a card belongs to the issuer with the longest match
	Len   int    // digits of its account numbers, the check digit included
	Debit bool
	Brand string // card scheme, as a BIN table names it
}

// Issuers are the domestic issuers, in a fixed order.
var Issuers = []Issuer{
	{Name: "north", BIN: "621000", Len: 16, Debit: false, Brand: "UnionPay"},
	{Name: "south", BIN: "62200011", Len: 19, Debit: true, Brand: "UnionPay"},
	{Name: "east", BIN: "6230001", Len: 16, Debit: true, Brand: "UnionPay"},
	{Name: "west", BIN: "62500022333", Len: 19, Debit: false, Brand: "UnionPay"},
}

// Abroad is an issuer of another scheme, whose cards a terminal totals apart
// (DE 48 of a settlement) and names by its scheme (DE 63). It is not among
// Issuers: a world has it when it asks for it.
var Abroad = Issuer{Name: "abroad", BIN: "400000", Len: 16, Debit: false, Brand: "VISA"}

// IssuerOf finds the issuer of an account number by its BIN, Abroad too.
func IssuerOf(pan string) (Issuer, bool) {
	for _, is := range Issuers { // no BIN is a prefix of another
		if is.has(pan) {
			return is, true
		}
	}
	return Abroad, Abroad.has(pan)
}

func (is Issuer) has(pan string) bool {
	return len(pan) > len(is.BIN) && pan[:len(is.BIN)] == is.BIN
}

// IssuerNamed finds an issuer by name, Abroad too.
func IssuerNamed(name string) (Issuer, bool) {
	for _, is := range Issuers {
		if is.Name == name {
			return is, true
		}
	}
	return Abroad, name == Abroad.Name
}

// Condition is what is the matter with a card. It is written in the three
// digits before the check digit of its account number.
type Condition string

// The conditions, each with the DE 39 that an issuer answers
// (protocol.md 7). A card of any other digits is good.
const (
	Good       Condition = ""
	NoAccount  Condition = "991" // 14: the issuer knows no such account
	Lost       Condition = "992" // 41
	Stolen     Condition = "993" // 43
	Expired    Condition = "994" // 54: its expiry date is past
	WrongPIN   Condition = "995" // 55: whoever holds it types another PIN than the issuer expects
	NoMoney    Condition = "996" // 51: the balance is zero
	Restricted Condition = "997" // 62
	BadChip    Condition = "998" // its cryptograms are wrong; the issuer answers 05
	TriedOut   Condition = "999" // 75: the PIN tries are used up
)

var codes = map[Condition]string{
	Good: "00", NoAccount: "14", Lost: "41", Stolen: "43", Expired: "54",
	WrongPIN: "55", NoMoney: "51", Restricted: "62", BadChip: "05", TriedOut: "75",
}

var conditionNames = map[string]Condition{
	"good": Good, "no-account": NoAccount, "lost": Lost, "stolen": Stolen, "expired": Expired, "wrong-pin": WrongPIN,
	"no-money": NoMoney, "restricted": Restricted, "bad-chip": BadChip, "tried-out": TriedOut,
}

// ParseCard reads how people name a card: an issuer, and behind a colon its
// index or its condition: "north", "south:17", "east:lost". The conditions are
// no-account, lost, stolen, expired, wrong-pin, no-money, restricted, bad-chip
// and tried-out.
func ParseCard(name string) (card.PAN, error) {
	issuer, which, _ := strings.Cut(name, ":")
	is, ok := IssuerNamed(issuer)
	if !ok {
		return card.PAN{}, fmt.Errorf("simcard: %q is not a card of north, south, east, west or abroad", name)
	}
	if c, ok := conditionNames[which]; ok {
		return is.PANWith(c, 0), nil
	}
	if which == "" {
		return is.PAN(0), nil
	}
	i, err := strconv.Atoi(which)
	if err != nil || i < 0 {
		return card.PAN{}, fmt.Errorf("simcard: %q: behind the colon stands an index or a condition", name)
	}
	return is.PAN(i), nil
}

// ConditionOf reads a card's condition from its account number.
func ConditionOf(pan string) Condition {
	if len(pan) < 4 {
		return Good
	}
	c := Condition(pan[len(pan)-4 : len(pan)-1])
	if _, ok := codes[c]; !ok {
		return Good
	}
	return c
}

// Code is the DE 39 that an issuer answers to a card of this condition when
// nothing else is wrong: "00" for a good one. WrongPIN holds only when a PIN
// came along, BadChip only when a cryptogram did.
func (c Condition) Code() string { return codes[c] }

// Cards is how many good account numbers the issuer has.
func (is Issuer) Cards() int {
	n := 991
	for range is.Len - len(is.BIN) - 1 - 3 {
		n *= 10
	}
	return n
}

// PAN returns the issuer's i-th good account number, i counted from 0 and
// taken modulo Cards. The numbers are spread so that neighbours differ in
// more than their last digits.
func (is Issuer) PAN(i int) card.PAN {
	n := is.Cards()
	i %= n
	if i < 0 {
		i += n
	}
	return is.number(i/991, strconv.Itoa(1000 + i%991)[1:])
}

// PANWith returns the issuer's i-th account number of a bad condition.
func (is Issuer) PANWith(c Condition, i int) card.PAN {
	if c == Good {
		return is.PAN(i)
	}
	return is.number(i%(is.Cards()/991), string(c))
}

func (is Issuer) number(high int, low string) card.PAN {
	digits := fmt.Sprintf("%s%0*d%s", is.BIN, is.Len-len(is.BIN)-4, high, low)
	p, err := card.ParsePAN(digits + string(card.CheckDigit(digits)))
	if err != nil {
		panic(fmt.Sprintf("simcard: issuer %s makes account numbers of a wrong shape: %v", is.Name, err))
	}
	return p
}

// draw gives 64 bits that depend on the label and the account number alone.
func draw(label, pan string) uint64 {
	h := sha256.Sum256([]byte("acquirer test " + label + " " + pan))
	return binary.BigEndian.Uint64(h[:])
}

// PINFor is the PIN that the issuer expects: six digits.
func PINFor(pan string) string { return digitsOf("PIN", pan, 6) }

// TypedPIN is the PIN that the card's holder types: PINFor, or another one
// when the condition is WrongPIN.
func TypedPIN(pan string) string {
	pin := PINFor(pan)
	if ConditionOf(pan) != WrongPIN {
		return pin
	}
	return pin[:5] + string('0'+(pin[5]-'0'+1)%10)
}

// ExpiryFor is the expiry date, YYMM, in the years 2035 to 2044; 2001 (January
// 2020) for an expired card.
func ExpiryFor(pan string) string {
	if ConditionOf(pan) == Expired {
		return "2001"
	}
	d := draw("expiry", pan)
	return fmt.Sprintf("%02d%02d", 35+d%10, 1+d/10%12)
}

// ChiplessOneIn says how rare cards without a chip are.
const ChiplessOneIn = 16

// ServiceCodeFor is the service code of track 2 (ISO/IEC 7813): 101 for the
// one card in ChiplessOneIn without a chip, 220 (chip, always online) for a
// quarter of the others, else 201.
func ServiceCodeFor(pan string) string {
	d := draw("service code", pan)
	switch {
	case ConditionOf(pan) != BadChip && d%ChiplessOneIn == 0:
		return "101"
	case d/ChiplessOneIn%4 == 0:
		return "220"
	}
	return "201"
}

// HasChip says whether the card carries a chip: what the service code of its
// stripe says, so that a terminal can tell a fallback from a card that has none.
func HasChip(pan string) bool { return ServiceCodeFor(pan)[0] == '2' }

// PSNFor is the card's sequence number (tag 5F34, DE 23): 0 or 1.
func PSNFor(pan string) byte { return byte(draw("PSN", pan) % 4 / 3) }

// Track2For is the card's track 2 with '=' as separator, 37 characters with
// the discretionary data. An issuer may compare the whole of it.
func Track2For(pan string) string {
	return pan + "=" + ExpiryFor(pan) + ServiceCodeFor(pan) + digitsOf("discretionary", pan, 37-8-len(pan))
}

// digitsOf draws n decimal digits, n at most 18.
func digitsOf(label, pan string, n int) string {
	mod := uint64(1)
	for range n {
		mod *= 10
	}
	return fmt.Sprintf("%0*d", n, draw(label, pan)%mod)
}

// TestKey is a double-length TEST key: the first 16 bytes of SHA-256 over
// "acquirer test " and the label, with odd parity.
func TestKey(label string) [16]byte {
	h := sha256.Sum256([]byte("acquirer test " + label))
	var k [16]byte
	for i := range k {
		k[i] = h[i] &^ 1
		if bits.OnesCount8(k[i])%2 == 0 {
			k[i] |= 1
		}
	}
	return k
}

// TestIMK is the TEST issuer master key from which an issuer derives the keys
// of its chips: TestKey("IMK "+name).
func TestIMK(issuer string) [16]byte { return TestKey("IMK " + issuer) }

// TestTMK is the TEST terminal master key of a terminal in the seeded world:
// TestKey("TMK "+tid). With it load and demo agree on keys without a file.
func TestTMK(tid string) [16]byte { return TestKey("TMK " + tid) }

// TerminalsPerMerchant is how many terminals of the seeded world stand with
// one merchant.
const TerminalsPerMerchant = 4

// BaseKey is a published base derivation key of DUKPT, and the key serial
// numbers that it is for.
type BaseKey struct {
	KSI string // their first digits
	Key [16]byte
	AES bool
}

// TestBaseKeys are those of the test vectors of X9.24: of TDES (X9.24-1) and
// AES-128 (X9.24-3).
var TestBaseKeys = [...]BaseKey{
	{"FFFF987654", [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}, false},
	{"12345678", [16]byte{0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1}, true},
}

// StreetTerminals is how many terminals of the seeded world the demo's own
// clerks stand at. Load and terminals started by hand take those behind them:
// two that sign in as one would push each other's keys out.
const StreetTerminals = 24

// SeedTerminal names the i-th terminal of the seeded world, i from 0: its TID
// (DE 41, 8 digits from 10000001), and the MID (DE 42) of the merchant it
// stands with. A terminal's TMK there is TestTMK of its TID.
func SeedTerminal(i int) (tid, mid string) {
	return strconv.Itoa(10000001 + i), SeedMerchant(i / TerminalsPerMerchant)
}

// SeedMerchant is the MID of the j-th merchant of the seeded world, j from 0:
// institution 898, area 1100 (Beijing), category 5411, then the merchant's
// number (3 + 4 + 4 + 4 digits).
func SeedMerchant(j int) string { return fmt.Sprintf("89811005411%04d", 1+j) }

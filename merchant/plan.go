package merchant

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"acquirer/calendar"
	"acquirer/money"
)

// FeePlan is one version of a price list. Versions are data and never edited; a
// new price is a new version, which Registry.Announce dates.
type FeePlan struct {
	Code          string        `json:"code"`
	Version       int           `json:"version"`
	EffectiveFrom calendar.Date `json:"effective_from"` // from when new merchants sign it; zero: not announced
	NoticeSent    calendar.Date `json:"notice_sent"`    // when it was announced
	ConsentPolicy string        `json:"consent_policy"` // SilentIsConsent or Explicit
	Rules         []Rule        `json:"rules"`          // the first that matches prices the sale
	SettleFees    []SettleFee   `json:"settle_fees"`    // the speeds on offer
	Extras        []Extra       `json:"extras,omitempty"`
}

// Rule prices the sales it matches. Empty matchers match everything; From is
// the first amount of the band, To the first one above it, 0 for no end.
type Rule struct {
	Channel       Channel      `json:"channel"`
	CardType      CardType     `json:"card_type"`
	Wallet        string       `json:"wallet,omitempty"`
	Entry         Entry        `json:"entry,omitempty"`
	MCCClass      string       `json:"mcc_class,omitempty"`
	From          money.Amount `json:"amount_from,omitempty"`
	To            money.Amount `json:"amount_to,omitempty"`
	PPM           int64        `json:"ppm"` // rate in millionths: 0.60 % is 6000
	Fixed         money.Amount `json:"fixed,omitempty"`
	Min           money.Amount `json:"min,omitempty"`
	Cap           money.Amount `json:"cap,omitempty"`        // 0: no cap
	MinAmount     money.Amount `json:"min_amount,omitempty"` // smallest sale accepted
	OnFeeGEAmount string       `json:"on_fee_ge_amount"`     // RejectSale, CapAtAmount or AllowNegative
}

// What a rule does with a sale whose fee is not below its amount.
const (
	RejectSale    = "reject"
	CapAtAmount   = "cap_at_amount"
	AllowNegative = "allow_negative"
)

// SettleFee is the price of a settlement speed.
type SettleFee struct {
	Speed  Speed        `json:"speed"`
	PPM    int64        `json:"ppm,omitempty"`
	Fixed  money.Amount `json:"fixed,omitempty"`
	Cap    money.Amount `json:"cap,omitempty"`
	Base   string       `json:"base"`   // BaseNet or BaseGross
	Bearer string       `json:"bearer"` // merchant
}

// What a settlement fee is taken of.
const (
	BaseNet   = "net"
	BaseGross = "gross"
)

// NoticeDays is how long before a new version takes effect merchants must have
// been told.
const NoticeDays = 30

// Plans holds every known version of every plan and the classes of merchant
// category codes. It is immutable and safe for concurrent use.
type Plans struct {
	byCode  map[string][]*FeePlan // ascending version
	classes map[string]string     // MCC -> class
}

//go:embed plans.json
var builtInPlans []byte

var builtIn = func() *Plans {
	p, err := (&Plans{}).With(bytes.NewReader(builtInPlans))
	if err != nil {
		panic("merchant: embedded plans.json: " + err.Error())
	}
	return p
}()

// BuiltIn returns the plans that ship with the binary: ESIGN-STD and MICRO-2025.
func BuiltIn() *Plans { return builtIn }

// ErrPlan says that there is no such plan or version.
var ErrPlan = errors.New("merchant: no such fee plan")

// With returns the plans with those that r holds added, as JSON in the layout
// of the embedded plans.json. A version that is already known may be repeated
// but not changed.
func (p *Plans) With(r io.Reader) (*Plans, error) {
	var file struct {
		Classes map[string][]string `json:"mcc_classes"`
		Plans   []*FeePlan          `json:"plans"`
	}
	if err := decodeStrict(r, &file); err != nil {
		return nil, fmt.Errorf("merchant: fee plans: %w", err)
	}
	out := p.clone()
	for class, codes := range file.Classes {
		if !mccClass(class) {
			return nil, fmt.Errorf("merchant: fee plans: class %q is not standard, discount or exempt", class)
		}
		for _, mcc := range codes {
			if !digits(mcc, 4) {
				return nil, fmt.Errorf("merchant: fee plans: MCC %q of class %s is not four digits", mcc, class)
			}
			if was := out.classes[mcc]; was != "" && was != class {
				return nil, fmt.Errorf("merchant: fee plans: MCC %s is known as %s and cannot become %s: old prices depend on it", mcc, was, class)
			}
			out.classes[mcc] = class
		}
	}
	for i, plan := range file.Plans {
		if plan == nil {
			return nil, fmt.Errorf("merchant: fee plans: plan %d is null", i+1)
		}
		for j := range plan.Rules { // "any" is the empty matcher
			r := &plan.Rules[j]
			r.Wallet, r.MCCClass = unlessAny([]byte(r.Wallet)), unlessAny([]byte(r.MCCClass))
		}
		if err := plan.check(); err != nil {
			return nil, err
		}
		if known, err := out.Version(plan.Code, plan.Version); err == nil {
			if !samePlan(known, plan) {
				return nil, fmt.Errorf("merchant: plan %s version %d is known with other content; a new price needs a new version", plan.Code, plan.Version)
			}
			continue
		}
		out.put(plan)
	}
	return out, nil
}

func (p *Plans) clone() *Plans {
	out := &Plans{byCode: map[string][]*FeePlan{}, classes: map[string]string{}}
	for code, versions := range p.byCode {
		out.byCode[code] = slices.Clone(versions)
	}
	maps.Copy(out.classes, p.classes)
	return out
}

// put adds a version or replaces it.
func (p *Plans) put(plan *FeePlan) {
	versions := p.byCode[plan.Code]
	i, known := slices.BinarySearchFunc(versions, plan.Version, func(v *FeePlan, n int) int { return v.Version - n })
	if known {
		versions[i] = plan
		return
	}
	p.byCode[plan.Code] = slices.Insert(versions, i, plan)
}

// undated is the plan without what Announce says of it.
func (p *FeePlan) undated() *FeePlan {
	out := *p
	out.EffectiveFrom, out.NoticeSent = 0, 0
	return &out
}

// samePlan compares what plans say. A date that b leaves out may be any.
func samePlan(a, b *FeePlan) bool {
	x, errX := json.Marshal(a.undated())
	y, errY := json.Marshal(b.undated())
	return errX == nil && errY == nil && bytes.Equal(x, y) &&
		(b.EffectiveFrom == 0 || b.EffectiveFrom == a.EffectiveFrom) && (b.NoticeSent == 0 || b.NoticeSent == a.NoticeSent)
}

// check refuses a plan whose data cannot be meant.
func (p *FeePlan) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("merchant: plan %q version %d: %s", p.Code, p.Version, fmt.Sprintf(format, args...))
	}
	if p.Code == "" || p.Version < 1 {
		return bad("needs a code and a version from 1")
	}
	if p.Version > 1 && p.EffectiveFrom != 0 && (p.NoticeSent == 0 || p.EffectiveFrom < p.NoticeSent.AddDays(NoticeDays)) {
		return bad("takes effect %s, which is not %d days after its notice (%s)", p.EffectiveFrom, NoticeDays, p.NoticeSent)
	}
	if p.ConsentPolicy != "" && p.ConsentPolicy != SilentIsConsent && p.ConsentPolicy != Explicit {
		return bad("consent_policy %q is not silent_is_consent or explicit", p.ConsentPolicy)
	}
	if len(p.Rules) == 0 || len(p.SettleFees) == 0 {
		return bad("needs at least one rule and one settle fee")
	}
	for i := range p.Extras {
		if err := p.Extras[i].check(); err != nil {
			return bad("extra %d: %s", i+1, err)
		}
		if p.Extra(p.Extras[i].Kind) != &p.Extras[i] {
			return bad("extra %d: %s is named twice", i+1, p.Extras[i].Kind)
		}
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		switch {
		case r.Channel != Card && r.Channel != QR && r.Channel != AnyChannel:
			return bad("rule %d: channel %q is not card, qr or any", i+1, r.Channel)
		case r.CardType != Credit && r.CardType != Debit && r.CardType != QuasiCredit && r.CardType != AnyCardType:
			return bad("rule %d: card_type %q is not credit, debit, quasi_credit or any", i+1, r.CardType)
		case r.Entry != AnyEntry && r.Entry != ContactlessNoPIN:
			return bad("rule %d: entry %q is not contactless_no_pin or any", i+1, r.Entry)
		case r.PPM < 0 || r.PPM > money.Million || r.Fixed < 0 || r.Min < 0 || r.Cap < 0 || r.MinAmount < 0 || r.From < 0 || r.To < 0:
			return bad("rule %d: rates are 0 to 1000000 ppm and amounts not negative", i+1)
		case r.MCCClass != "" && !mccClass(r.MCCClass):
			return bad("rule %d: mcc_class %q is not standard, discount, exempt or any", i+1, r.MCCClass)
		case max(r.Fixed, r.Min, r.Cap, r.MinAmount, r.From, r.To) > mostInPlan:
			return bad("rule %d: an amount is above %s", i+1, mostInPlan)
		case r.Cap > 0 && r.Min > r.Cap:
			return bad("rule %d: the minimum %s is above the cap %s", i+1, r.Min, r.Cap)
		case r.To > 0 && r.To <= r.From:
			return bad("rule %d: the band from %s to %s is empty", i+1, r.From, r.To)
		case r.OnFeeGEAmount != RejectSale && r.OnFeeGEAmount != CapAtAmount && r.OnFeeGEAmount != AllowNegative:
			return bad("rule %d: on_fee_ge_amount %q is not reject, cap_at_amount or allow_negative", i+1, r.OnFeeGEAmount)
		}
		if before := slices.IndexFunc(p.Rules[:i], func(b Rule) bool { return b.covers(r) }); before >= 0 {
			return bad("rule %d can never match: rule %d before it takes all of its sales; put the narrower rule first", i+1, before+1)
		}
	}
	for i := range p.SettleFees {
		s := &p.SettleFees[i]
		if s.Speed != T1 && s.Speed != D1 && s.Speed != D0 && s.Speed != S0 || s.Base != BaseNet && s.Base != BaseGross ||
			s.PPM < 0 || s.PPM > money.Million || s.Fixed < 0 || s.Cap < 0 || max(s.Fixed, s.Cap) > mostInPlan {
			return bad("settle fee %d: speed is T1, D1, D0 or S0, base net or gross, rates 0 to 1000000 ppm, amounts at most %s", i+1, mostInPlan)
		}
		if s.Bearer != "" && s.Bearer != "merchant" {
			return bad("settle fee %d: bearer %q is not merchant, who alone pays for speed", i+1, s.Bearer)
		}
		if slices.IndexFunc(p.SettleFees, func(o SettleFee) bool { return o.Speed == s.Speed }) != i {
			return bad("settle fee %d: %s has a price already", i+1, s.Speed)
		}
	}
	return nil
}

// covers says that every sale which o matches matches r.
func (r *Rule) covers(o *Rule) bool {
	return (r.Channel == AnyChannel || r.Channel == o.Channel) &&
		(r.CardType == AnyCardType || r.CardType == o.CardType) &&
		(r.Wallet == "" || r.Wallet == o.Wallet) &&
		(r.Entry == AnyEntry || r.Entry == o.Entry) &&
		(r.MCCClass == "" || r.MCCClass == o.MCCClass) &&
		r.From <= o.From && (r.To == 0 || o.To != 0 && o.To <= r.To)
}

// mostInPlan is the greatest amount that a plan may name, so that fees never
// overflow: a hundred million yuan.
const mostInPlan = money.Amount(100_000_000_00)

func mccClass(s string) bool { return s == "standard" || s == "discount" || s == "exempt" }

// UnmarshalText reads "any" as the empty matcher.
func (c *Channel) UnmarshalText(b []byte) error { *c = Channel(unlessAny(b)); return nil }

// UnmarshalText reads "any" as the empty matcher.
func (c *CardType) UnmarshalText(b []byte) error { *c = CardType(unlessAny(b)); return nil }

// UnmarshalText reads "any" as the empty matcher.
func (e *Entry) UnmarshalText(b []byte) error { *e = Entry(unlessAny(b)); return nil }

func unlessAny(b []byte) string {
	if string(b) == "any" {
		return ""
	}
	return string(b)
}

// All walks every version of every plan, by code and version.
func (p *Plans) All() iter.Seq[*FeePlan] {
	return func(yield func(*FeePlan) bool) {
		for _, code := range p.Codes() {
			for _, v := range p.byCode[code] {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// Newest is the number of a plan's highest version, in force or not; 0 when
// there is no such plan.
func (p *Plans) Newest(code string) int {
	versions := p.byCode[code]
	if len(versions) == 0 {
		return 0
	}
	return versions[len(versions)-1].Version
}

// Codes lists the codes of the known plans, in order.
func (p *Plans) Codes() []string { return slices.Sorted(maps.Keys(p.byCode)) }

// InForce returns the version of a plan that a merchant who signs on a date
// gets: the highest one that has taken effect by then.
func (p *Plans) InForce(code string, date calendar.Date) (*FeePlan, error) {
	versions := p.byCode[code]
	for i := len(versions) - 1; i >= 0; i-- {
		if v := versions[i]; v.EffectiveFrom != 0 && v.EffectiveFrom <= date {
			return v, nil
		}
	}
	if len(versions) == 0 {
		return nil, p.unknown(code)
	}
	return nil, fmt.Errorf("%w: no version of %s is in force on %s", ErrPlan, code, date)
}

// Version returns one version of a plan, in force or not.
func (p *Plans) Version(code string, version int) (*FeePlan, error) {
	for _, v := range p.byCode[code] {
		if v.Version == version {
			return v, nil
		}
	}
	if len(p.byCode[code]) == 0 {
		return nil, p.unknown(code)
	}
	var known []string
	for _, v := range p.byCode[code] {
		known = append(known, strconv.Itoa(v.Version))
	}
	return nil, fmt.Errorf("%w: %s has no version %d; it has %s", ErrPlan, code, version, strings.Join(known, ", "))
}

func (p *Plans) unknown(code string) error {
	return fmt.Errorf("%w: %q; known are %s", ErrPlan, code, strings.Join(p.Codes(), ", "))
}

// MCCClass returns the class of a merchant category code: exempt, discount or
// standard.
func (p *Plans) MCCClass(mcc string) string {
	if class, named := p.classes[mcc]; named {
		return class
	}
	return "standard"
}

package merchant

import (
	"errors"
	"fmt"

	"acquirer/calendar"
	"acquirer/money"
)

// Extra is a fee that no sale causes: the SIM card's year, the device, a repair.
type Extra struct {
	Kind     string       `json:"kind"` // SIMYear, Device, Repair or Deposit
	Amount   money.Amount `json:"amount"`
	FreeDays int          `json:"free_days,omitempty"` // a SIM card's first days are free
	Waiver   *Waiver      `json:"waiver,omitempty"`
}

// The kinds of Extra. A deposit is not earned: it is named so that a plan can
// say that none is taken.
const (
	SIMYear = "sim_year"
	Device  = "device"
	Repair  = "repair"
	Deposit = "deposit"
)

// Waiver lets the device's fee go when the merchant sells enough in the first
// days of the device.
type Waiver struct {
	Sales      money.Amount `json:"sales"`
	WithinDays int          `json:"within_days"`
}

func (x *Extra) check() error {
	switch {
	case x.Kind != SIMYear && x.Kind != Device && x.Kind != Repair && x.Kind != Deposit:
		return fmt.Errorf("kind %q is not sim_year, device, repair or deposit", x.Kind)
	case x.Amount > mostInPlan:
		return fmt.Errorf("%s costs more than %s", x.Kind, mostInPlan)
	case x.Amount < 0 || x.FreeDays < 0 || x.FreeDays > 3660:
		return fmt.Errorf("the amount of %s must not be negative, and at most 3660 days are free", x.Kind)
	case x.FreeDays > 0 && x.Kind != SIMYear:
		return fmt.Errorf("free_days are of the SIM card, not of %s; a device has a waiver", x.Kind)
	case x.Kind == Deposit && x.Amount != 0:
		return errors.New("a deposit is not taken through a fee plan")
	case x.Waiver != nil && (x.Kind != Device || x.Waiver.Sales <= 0 || x.Waiver.WithinDays < 1 || x.Waiver.WithinDays > 366):
		return errors.New("a waiver is for the device, with sales above zero within 1 to 366 days")
	}
	return nil
}

// Extra returns the plan's extra of a kind; nil when it has none.
func (p *FeePlan) Extra(kind string) *Extra {
	for i := range p.Extras {
		if p.Extras[i].Kind == kind {
			return &p.Extras[i]
		}
	}
	return nil
}

// Conditions says when an extra is not taken: ", the first 365 days free". Empty
// when it always is, and when it is nothing anyway.
func (x *Extra) Conditions() string {
	switch {
	case x.Amount == 0:
		return ""
	case x.Waiver != nil:
		return fmt.Sprintf(", free when the first %d days bring %s", x.Waiver.WithinDays, x.Waiver.Sales)
	case x.FreeDays > 0:
		return fmt.Sprintf(" a year, the first %d days free", x.FreeDays)
	case x.Kind == SIMYear:
		return " a year"
	}
	return ""
}

// ExtraDue is an extra that a merchant owes from a date on.
type ExtraDue struct {
	Key      string // the same for the same thing: kind, terminal, and for a year the date it begins
	Kind     string
	Merchant string
	Terminal string
	Amount   money.Amount
	Due      calendar.Date
	// Waiver lets it go when sales from First on reach Waiver.Sales before Due.
	Waiver *Waiver
	First  calendar.Date
}

// ExtrasDue lists what a terminal has ever cost its merchant up to a date,
// apart from its sales, each at the price of the plan that was in force when it
// fell due: the device, which is known after the days of its waiver, and each
// year of the SIM card behind the free days, both from the day of its activation. Repairs are charged by people.
func (r *Registry) ExtrasDue(t *Terminal, today calendar.Date) ([]ExtraDue, error) {
	m, known := r.Merchant([]byte(t.MID))
	since := t.Since
	if since == 0 {
		since = r.Terms(t.MID).Since()
	}
	if !known || since == 0 || t.Status == Closed || t.Status == Pending || m.Status == Closed {
		return nil, nil
	}
	var out []ExtraDue
	first, err := r.PlanOf(m, since)
	if err != nil {
		return nil, err
	}
	if x := first.Extra(Device); x != nil && x.Amount > 0 {
		d := ExtraDue{Key: Device + "/" + t.TID, Kind: Device, Merchant: t.MID, Terminal: t.TID, Amount: x.Amount, Due: since, First: since, Waiver: x.Waiver}
		if x.Waiver != nil {
			d.Due = since.AddDays(x.Waiver.WithinDays)
		}
		if d.Due <= today {
			out = append(out, d)
		}
	}
	x := first.Extra(SIMYear)
	if x == nil {
		return out, nil
	}
	begins := since.AddDays(x.FreeDays)
	for year := 0; ; year++ {
		due := calendar.NewDate(begins.Year()+year, begins.Month(), begins.Day())
		if due > today {
			return out, nil
		}
		p, err := r.PlanOf(m, due)
		if err != nil {
			return nil, err
		}
		if x := p.Extra(SIMYear); x != nil && x.Amount > 0 {
			out = append(out, ExtraDue{Key: SIMYear + "/" + t.TID + "/" + due.String(), Kind: SIMYear, Merchant: t.MID, Terminal: t.TID, Amount: x.Amount, Due: due})
		}
	}
}

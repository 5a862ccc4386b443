package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/settlement"
	"acquirer/store"
	switching "acquirer/switch"
)

// feesCall is what a person asks of the fee plans in the database.
type feesCall struct {
	Do       string        `json:"do"`             // quote, import, list, terms, announce, notices, consent, move, charge, simulate or verify
	Text     string        `json:"text,omitempty"` // of import: the plans, as JSON
	Plan     string        `json:"plan,omitempty"`
	Version  int           `json:"version,omitempty"`
	Of       string        `json:"of,omitempty"`   // of simulate: only sales under this plan
	Back     bool          `json:"back,omitempty"` // of charge: give it back
	Yes      bool          `json:"yes,omitempty"`  // of announce: also when it lacks what merchants have
	Merchant string        `json:"merchant,omitempty"`
	Answer   string        `json:"answer,omitempty"` // of consent: agreed or objected
	Kind     string        `json:"kind,omitempty"`   // of charge: repair
	Ref      string        `json:"ref,omitempty"`    // of charge: what it is for, once
	MCC      string        `json:"mcc,omitempty"`    // of quote: the category of the merchant
	From     calendar.Date `json:"from,omitempty"`
	To       calendar.Date `json:"to,omitempty"` // of announce: when it takes effect
}

// feesAnswer is what came of it.
type feesAnswer struct {
	Said        string                  `json:"said,omitempty"`
	Quoted      *merchant.FeePlan       `json:"quoted,omitempty"`
	Class       string                  `json:"class,omitempty"` // of the category of a quote
	Plans       []planRow               `json:"plans,omitempty"`
	Terms       *termsRow               `json:"terms,omitempty"`
	Notices     []merchant.Notice       `json:"notices,omitempty"`
	Announced   *merchant.Announcement  `json:"announced,omitempty"`
	Under       string                  `json:"under,omitempty"` // of simulate: the version that sales are priced by again
	Comparisons []settlement.Comparison `json:"comparisons,omitempty"`
	Repriced    *settlement.Repriced    `json:"repriced,omitempty"`
}

// planRow is a version of a plan in a list, with how many merchants have it.
type planRow struct {
	Plan      string        `json:"plan"`
	Version   int           `json:"plan_version"`
	Prices    string        `json:"prices"`
	Policy    string        `json:"consent_policy"`
	Effective calendar.Date `json:"effective_from"`
	Notice    calendar.Date `json:"notice_sent"`
	InForce   int           `json:"in_force"` // merchants that it prices today
	Agreed    int           `json:"agreed"`
	Silent    int           `json:"silent"`
	Objected  int           `json:"objected"`
}

// termsRow is what one merchant signed, was told, and pays today.
type termsRow struct {
	Merchant  string              `json:"merchant"`
	Plan      string              `json:"plan"`
	Version   int                 `json:"plan_version"`
	Prices    string              `json:"prices"`
	Contracts []merchant.Contract `json:"contracts"`
	Notices   []merchant.Notice   `json:"notices"`
}

func (c *feesCall) name() string { return "fees" }

func (c *feesCall) run(ctx context.Context, db *store.DB, cfg Config, who string) (any, error) {
	reg, err := merchant.OpenRegistry(ctx, db)
	if err != nil {
		return nil, err
	}
	today := calendar.DateOf(time.Now())
	var a feesAnswer
	switch c.Do {
	case "quote":
		a.Quoted, a.Class, err = c.quoted(reg.Plans())
		return a, err
	case "list":
		a.Plans = c.plans(reg, today)
		return a, nil
	case "terms":
		a.Terms, err = c.terms(reg, today)
		return a, err
	case "notices":
		if _, err := reg.Plans().Version(c.Plan, c.Version); err != nil {
			return nil, usageError{err}
		}
		a.Notices = reg.Notices(c.Plan, c.Version)
		return a, nil
	case "simulate":
		plan, err := c.simulated(reg)
		if err != nil {
			return nil, err
		}
		books, err := plainBooks(db, cfg, reg)
		if err != nil {
			return nil, err
		}
		a.Under = fmt.Sprintf("%s v%d", plan.Code, plan.Version)
		a.Comparisons, err = books.Simulate(ctx, plan, c.Of, c.From, c.To)
		return a, err
	case "verify":
		books, err := plainBooks(db, cfg, reg)
		if err != nil {
			return nil, err
		}
		r, err := books.VerifyPrices(ctx, c.From, c.To)
		a.Repriced = &r
		return a, err
	}
	// What changes something is logged whether it succeeds or not.
	err = c.change(ctx, db, cfg, reg, today, &a)
	entry := audit.Entry{Who: who, From: "command line", Op: "fees " + c.Do, Subject: c.subject(), Detail: a.Said, Result: audit.Done}
	if err != nil {
		entry.Result = "refused: " + err.Error()
	}
	if _, bad := audit.Append(ctx, db, entry); bad != nil && err == nil {
		err = fmt.Errorf("%s; but the operators' log could not be written: %w", a.Said, bad)
	}
	return a, err
}

func (c *feesCall) subject() string {
	switch c.Do {
	case "announce":
		return fmt.Sprintf("plan %s version %d", c.Plan, c.Version)
	case "consent", "charge", "move":
		return "merchant " + c.Merchant
	}
	return ""
}

func (c *feesCall) change(ctx context.Context, db *store.DB, cfg Config, reg *merchant.Registry, today calendar.Date, a *feesAnswer) error {
	switch c.Do {
	case "import":
		before := c.plans(reg, today)
		if err := reg.ImportPlans(ctx, strings.NewReader(c.Text)); err != nil {
			return err
		}
		a.Plans = c.plans(reg, today)
		a.Plans = slices.DeleteFunc(a.Plans, func(p planRow) bool {
			return slices.ContainsFunc(before, func(b planRow) bool { return b.Plan == p.Plan && b.Version == p.Version })
		})
		a.Said = fmt.Sprintf("%d new versions of fee plans", len(a.Plans))
		for _, p := range a.Plans {
			a.Said += fmt.Sprintf("; %s version %d", p.Plan, p.Version)
		}
		return nil
	case "announce":
		lacks, err := reg.Lacks(c.Plan, c.Version, today)
		if err != nil {
			return err
		}
		if len(lacks) > 0 && !c.Yes {
			return fmt.Errorf("plan %s version %d does not offer %s; import a version that does, or announce it with --yes when that is meant", c.Plan, c.Version, strings.Join(lacks, "; "))
		}
		x, err := reg.Announce(ctx, c.Plan, c.Version, c.To, today)
		a.Announced = &x
		a.Said = fmt.Sprintf("plan %s version %d takes effect %s; %d merchants told today, %d before", x.Plan, x.Version, x.Effective, x.Told, x.Already)
		if len(lacks) > 0 {
			a.Said += "; it does not offer " + strings.Join(lacks, "; ")
		}
		return err
	case "consent":
		on, err := pricedDate(ctx, db, cfg)
		if err != nil {
			return err
		}
		n, err := reg.Answer(ctx, c.Merchant, c.Version, merchant.Consent(c.Answer), on)
		if err != nil {
			return err
		}
		a.Notices = []merchant.Notice{n}
		a.Said = fmt.Sprintf("merchant %s %s to %s version %d; it prices its sales from %s", n.MID, n.Consent, n.Plan, n.Version, n.Starts)
		if n.Starts == 0 {
			a.Said = fmt.Sprintf("merchant %s %s to %s version %d; its price stays as it is", n.MID, n.Consent, n.Plan, n.Version)
		}
		return nil
	case "move":
		on, err := pricedDate(ctx, db, cfg)
		if err != nil {
			return err
		}
		if _, err := reg.Plans().InForce(c.Plan, on); err != nil {
			return usageError{err}
		}
		n, err := reg.Move(ctx, c.Merchant, c.Plan, on)
		if err != nil {
			return err
		}
		plan, err := reg.Plans().Version(n.Plan, n.Version)
		if err != nil {
			return err
		}
		a.Said = fmt.Sprintf("merchant %s has signed %s version %d, which prices its sales from %s: %s", n.MID, n.Plan, n.Version, n.Signed, plan.Summary())
		return nil
	case "charge":
		return c.charge(ctx, db, cfg, reg, today, a)
	}
	return usageError{fmt.Errorf("fees: %q is nothing that can be done with fee plans", c.Do)}
}

// pricedDate is the last business date that sales have a price of already: the one
// that is open, which a forced close or another node's clock may have opened
// early, or the clock's, whose first sale opens it.
func pricedDate(ctx context.Context, db *store.DB, cfg Config) (calendar.Date, error) {
	open, err := journal.LatestDate(ctx, db)
	return max(open, calendar.BusinessDate(time.Now(), cfg.Switch.CutOff)), err
}

// charge takes an extra that the merchant's plan names, at its price.
func (c *feesCall) charge(ctx context.Context, db *store.DB, cfg Config, reg *merchant.Registry, today calendar.Date, a *feesAnswer) error {
	m, known := reg.Merchant([]byte(c.Merchant))
	if !known {
		return fmt.Errorf("%w: merchant %q", merchant.ErrUnknown, c.Merchant)
	}
	if c.Back {
		return c.giveBack(ctx, db, cfg, reg, a)
	}
	plan, err := reg.PlanOf(m, today)
	if err != nil {
		return err
	}
	x := plan.Extra(c.Kind)
	if c.Kind != merchant.Repair {
		return usageError{fmt.Errorf("--kind %q: devices and SIM years are charged by themselves; repair is charged by hand", c.Kind)}
	}
	if x == nil || x.Amount == 0 {
		return fmt.Errorf("plan %s version %d takes nothing for a %s", plan.Code, plan.Version, c.Kind)
	}
	books, err := plainBooks(db, cfg, reg)
	if err != nil {
		return err
	}
	if err := books.ExtraFee(ctx, c.Kind+"/"+m.MID+"/"+c.Ref, m.MID, x.Amount, "维修费("+c.Ref+")", time.Now()); err != nil {
		return err
	}
	a.Said = fmt.Sprintf("merchant %s pays %s for the %s %s, with its next close", m.MID, x.Amount, c.Kind, c.Ref)
	return nil
}

// giveBack gives back what was charged for a repair, a device or a SIM year.
func (c *feesCall) giveBack(ctx context.Context, db *store.DB, cfg Config, reg *merchant.Registry, a *feesAnswer) error {
	key := c.Kind + "/" + c.Ref // as merchant.ExtrasDue and charge make them
	switch c.Kind {
	case merchant.Repair:
		key = c.Kind + "/" + c.Merchant + "/" + c.Ref
	case merchant.Device, merchant.SIMYear:
	default:
		return usageError{fmt.Errorf("--kind %q: what can be given back is a repair, a device or a sim_year", c.Kind)}
	}
	books, err := plainBooks(db, cfg, reg)
	if err != nil {
		return err
	}
	fee, err := books.ExtraFeeBack(ctx, key, c.Merchant, "退还收费("+c.Ref+")", time.Now())
	if err != nil {
		return err
	}
	a.Said = fmt.Sprintf("merchant %s gets %s back for the %s %s, with its next close", c.Merchant, fee, c.Kind, c.Ref)
	return nil
}

// quoted is the version that is asked for, or the one in force on From, and the
// class of a category.
func (c *feesCall) quoted(plans *merchant.Plans) (plan *merchant.FeePlan, class string, err error) {
	if c.Version > 0 {
		plan, err = plans.Version(c.Plan, c.Version)
	} else {
		plan, err = plans.InForce(c.Plan, c.From)
	}
	if err != nil {
		return nil, "", usageError{err}
	}
	return plan, plans.MCCClass(c.MCC), nil
}

// simulated is the plan to compare with: one of the text's, or one that is known.
func (c *feesCall) simulated(reg *merchant.Registry) (*merchant.FeePlan, error) {
	plans := reg.Plans()
	if c.Text != "" {
		var err error
		if plans, err = plans.With(strings.NewReader(c.Text)); err != nil {
			return nil, err
		}
	}
	version := c.Version
	if version == 0 {
		version = plans.Newest(c.Plan)
	}
	p, err := plans.Version(c.Plan, version)
	if err != nil {
		return nil, usageError{err}
	}
	return p, nil
}

func (c *feesCall) plans(reg *merchant.Registry, today calendar.Date) []planRow {
	type key struct {
		code    string
		version int
	}
	rows := map[key]*planRow{}
	for p := range reg.Plans().All() {
		rows[key{p.Code, p.Version}] = &planRow{Plan: p.Code, Version: p.Version, Prices: p.Summary(), Policy: cmp.Or(p.ConsentPolicy, merchant.SilentIsConsent), Effective: p.EffectiveFrom, Notice: p.NoticeSent}
	}
	for m := range reg.Merchants() {
		if p, err := reg.PlanOf(m, today); err == nil && m.Status != merchant.Closed {
			rows[key{p.Code, p.Version}].InForce++
		}
		for _, n := range reg.Terms(m.MID).Notices {
			row := rows[key{n.Plan, n.Version}]
			switch n.Consent {
			case merchant.Agreed:
				row.Agreed++
			case merchant.Objected:
				row.Objected++
			default:
				row.Silent++
			}
		}
	}
	out := make([]planRow, 0, len(rows))
	for _, row := range rows {
		out = append(out, *row)
	}
	slices.SortFunc(out, func(a, b planRow) int { return cmp.Or(strings.Compare(a.Plan, b.Plan), a.Version-b.Version) })
	return out
}

func (c *feesCall) terms(reg *merchant.Registry, today calendar.Date) (*termsRow, error) {
	m, known := reg.Merchant([]byte(c.Merchant))
	if !known {
		return nil, fmt.Errorf("%w: merchant %q", merchant.ErrUnknown, c.Merchant)
	}
	p, err := reg.PlanOf(m, today)
	if err != nil {
		return nil, err
	}
	t := reg.Terms(m.MID)
	return &termsRow{m.MID, p.Code, p.Version, p.Summary(), t.Contracts, t.Notices}, nil
}

// plainBooks are the books of a database, without a bank.
func plainBooks(db *store.DB, cfg Config, reg *merchant.Registry) (*settlement.Engine, error) {
	return settlement.New(settlement.Config{DB: db, Source: settlement.FromJournal(journal.New(db, nil), switching.EntryOf), Merchants: reg,
		CutOff: cfg.Switch.CutOff, RefundFee: settlement.RefundFee(cfg.Settlement.RefundFee), WalletPPM: int64(cfg.Settlement.WalletPPM)})
}

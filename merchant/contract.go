package merchant

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/store"
)

// Contract is what a merchant signed: a version of a plan, which never changes,
// so that the price of every sale under it can be computed again for ever.
type Contract struct {
	MID     string        `json:"merchant"`
	Plan    string        `json:"plan"`
	Version int           `json:"plan_version"`
	MCC     string        `json:"mcc"`
	Signed  calendar.Date `json:"signed"` // first business date that it prices; the first contract prices those before it too
	id      int64
}

const contractColumns = "id, mid, plan, version, mcc, signed"

func scanContract(r *store.Rows, c *Contract) error {
	return r.Scan(&c.id, &c.MID, &c.Plan, &c.Version, &c.MCC, &c.Signed)
}

// Consent is what a merchant said to a new version of its plan.
type Consent string

// Silent is a merchant that has not answered.
const (
	Silent   Consent = "silent"
	Agreed   Consent = "agreed"
	Objected Consent = "objected"
)

// What silence means, in a plan's ConsentPolicy; empty is SilentIsConsent.
const (
	SilentIsConsent = "silent_is_consent"
	Explicit        = "explicit"
)

// Notice is what one merchant was told of one new version of its plan, and
// what it said.
type Notice struct {
	MID       string        `json:"merchant"`
	Plan      string        `json:"plan"`
	Version   int           `json:"plan_version"`
	Told      calendar.Date `json:"told"`
	Effective calendar.Date `json:"effective"` // at least NoticeDays after Told
	Consent   Consent       `json:"consent"`
	Decided   calendar.Date `json:"decided"` // zero: not answered
	Starts    calendar.Date `json:"starts"`  // first business date at the new price, zero: stays at the old one
	Text      string        `json:"text"`    // the message (SMS and push)
}

// Terms is everything a merchant signed and was told, oldest first.
type Terms struct {
	Contracts []Contract
	Notices   []Notice
}

// version is the version that prices the sales of a date under a contract: the one signed, or the
// newest later one that has started for the merchant.
func (t *Terms) version(c *Contract, date calendar.Date) int {
	version := c.Version
	for i := range t.Notices {
		n := &t.Notices[i]
		if n.Plan == c.Plan && n.Version > version && n.Starts != 0 && n.Starts <= date {
			version = n.Version
		}
	}
	return version
}

// last is the newest contract, one of no plan when there is none.
func (t *Terms) last() *Contract {
	if n := len(t.Contracts); n > 0 {
		return &t.Contracts[n-1]
	}
	return &Contract{}
}

// Since is the day on which the merchant signed for the first time, zero when
// it never did.
func (t *Terms) Since() calendar.Date {
	if len(t.Contracts) == 0 {
		return 0
	}
	return t.Contracts[0].Signed
}

// On is the contract that was the newest on a date, the first one for dates
// before it; false when there is none.
func (t *Terms) On(date calendar.Date) (Contract, bool) {
	for i := len(t.Contracts) - 1; i >= 0; i-- {
		if t.Contracts[i].Signed <= date || i == 0 {
			return t.Contracts[i], true
		}
	}
	return Contract{}, false
}

// Plans are the fee plans as this node knows them.
func (r *Registry) Plans() *Plans { return r.plans.Load() }

// Terms are what a merchant signed and was told. Read only.
func (r *Registry) Terms(mid string) *Terms {
	if t := (*r.terms.Load())[mid]; t != nil {
		return t
	}
	return &Terms{}
}

// PlanOf returns the version that prices a merchant's sales of a business date:
// of the plan that its contract of that date names, the newest whose notice to
// this merchant has run out and to which it consented as the plan asks for, else
// the one it signed. A merchant without a contract has its plan's version in
// force. It does not allocate.
func (r *Registry) PlanOf(m *Merchant, date calendar.Date) (*FeePlan, error) {
	plans := r.plans.Load()
	t := (*r.terms.Load())[m.MID]
	if t == nil {
		return plans.InForce(m.Plan, date)
	}
	c, signed := t.On(date)
	if !signed {
		return plans.InForce(m.Plan, date)
	}
	if p, err := plans.Version(c.Plan, t.version(&c, date)); err != nil || p.EffectiveFrom <= date {
		return p, err
	}
	return plans.InForce(c.Plan, date)
}

// MCCClass is the class (Plans.MCCClass) of the trade that a merchant had signed
// by a business date. It does not allocate.
func (r *Registry) MCCClass(m *Merchant, date calendar.Date) string {
	mcc := m.MCC
	if t := (*r.terms.Load())[m.MID]; t != nil {
		if c, signed := t.On(date); signed {
			mcc = c.MCC
		}
	}
	return r.plans.Load().MCCClass(mcc)
}

// ImportPlans adds the plans that text holds, in the layout of Plans.With, to
// those in the store. Importing again changes nothing; a known version with
// other content is refused. A version takes effect for nobody until Announce.
func (r *Registry) ImportPlans(ctx context.Context, text io.Reader) error {
	body, err := io.ReadAll(text)
	if err != nil {
		return fmt.Errorf("merchant: reading fee plans: %w", err)
	}
	known := r.Plans()
	all, err := known.With(strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	var fresh []*FeePlan
	for _, code := range all.Codes() {
		for _, p := range all.byCode[code] {
			if _, err := known.Version(code, p.Version); err != nil {
				fresh = append(fresh, p)
			}
		}
	}
	if len(fresh) == 0 && maps.Equal(all.classes, known.classes) {
		return nil
	}
	fault.Hit("plans.save.before")
	err = r.db.Write(ctx, func(tx store.Tx) error {
		change, err := nextVersion(tx)
		if err != nil {
			return err
		}
		for _, p := range fresh {
			if err := savePlan(tx, p, change); err != nil {
				return err
			}
		}
		for mcc, class := range all.classes {
			if known.classes[mcc] == "" {
				if _, err := tx.Exec("insert into merchant_mcc_class (mcc, class, change) values ($1,$2,$3) on conflict (mcc) do nothing", mcc, class, change); err != nil {
					return err
				}
			}
		}
		return nil
	})
	fault.Hit("plans.save.after")
	if err != nil {
		return fmt.Errorf("merchant: saving fee plans: %w", err)
	}
	_, err = r.Refresh(ctx)
	return err
}

func savePlan(tx store.Tx, p *FeePlan, change int64) error {
	body, err := json.Marshal(p.undated())
	if err != nil {
		return err
	}
	_, err = tx.Exec(`insert into merchant_plan (code, version, body, effective, notice, change) values ($1,$2,$3,$4,$5,$6)
		on conflict (code, version) do nothing`, p.Code, p.Version, string(body), p.EffectiveFrom, p.NoticeSent, change)
	return err
}

// sign writes the merchant's contract when last, the newest it has, is of
// another plan or category, with the notice of every version that is announced
// and still to come. A contract that follows another counts from the business
// date after today, so that a date has one price. A plan that is not known, or
// not on sale yet, cannot be signed.
func (r *Registry) sign(tx store.Tx, m *Merchant, last *Contract, today calendar.Date, signed *priceNews) error {
	plans := r.Plans()
	if last.Plan == m.Plan && last.MCC == m.MCC {
		return nil
	}
	p, err := plans.InForce(m.Plan, today)
	if last.Plan == m.Plan { // another trade, the same price
		p, err = r.PlanOf(m, today)
	}
	if err != nil {
		return nil // its sales have no price, which is said where they are made
	}
	change := m.Version
	if change == 0 {
		if change, err = nextVersion(tx); err != nil {
			return err
		}
	}
	c := Contract{MID: m.MID, Plan: m.Plan, Version: p.Version, MCC: m.MCC, Signed: today, id: store.NewID()}
	if last.Plan != "" {
		c.Signed = today.AddDays(1)
	}
	if _, err := tx.Exec("insert into merchant_contract (id, mid, plan, version, mcc, signed, change) values ($1,$2,$3,$4,$5,$6,$7)",
		c.id, c.MID, c.Plan, c.Version, c.MCC, c.Signed, change); err != nil {
		return err
	}
	signed.contracts = append(signed.contracts, c)
	for _, next := range plans.byCode[m.Plan] {
		if next.Version > p.Version && next.EffectiveFrom > today {
			n := next.noticeTo(m.MID, today)
			fresh, err := n.insert(tx, change)
			if err != nil {
				return err
			}
			if fresh { // who was told before keeps that date and its answer
				signed.notices = append(signed.notices, n)
			}
		}
	}
	return nil
}

// signAll writes the contracts of merchants that were registered before
// contracts were kept: at the price that is in force for them.
func (r *Registry) signAll(ctx context.Context) error {
	var unsigned []*Merchant
	for m := range r.Merchants() {
		if len(r.Terms(m.MID).Contracts) == 0 {
			unsigned = append(unsigned, m)
		}
	}
	today := calendar.DateOf(time.Now())
	for part := range slices.Chunk(unsigned, noticeBatch) {
		var news priceNews
		fault.Hit("plans.sign.before")
		err := r.db.Write(ctx, func(tx store.Tx) error {
			news = priceNews{}
			change, err := nextVersion(tx)
			if err != nil {
				return err
			}
			for _, m := range part {
				m := *m
				m.Version = change
				if err := r.sign(tx, &m, &Contract{}, today, &news); err != nil {
					return err
				}
			}
			return nil
		})
		fault.Hit("plans.sign.after")
		if err != nil {
			return fmt.Errorf("merchant: writing contracts: %w", err)
		}
		if err := r.adoptPrices(&news); err != nil {
			return err
		}
	}
	return nil
}

// priceNews is what one read or one write brought of plans and contracts.
type priceNews struct {
	plans     []*FeePlan
	classes   map[string]string
	contracts []Contract
	notices   []Notice
}

// read takes in what changed after a change number.
func (n *priceNews) read(tx store.Tx, after int64) error {
	rows, err := tx.Query("select body, effective, notice from merchant_plan where change > $1", after)
	n.plans, err = store.All(rows, err, func(r *store.Rows, p **FeePlan) error {
		var body string
		var effective, notice calendar.Date
		if err := r.Scan(&body, &effective, &notice); err != nil {
			return err
		}
		*p = &FeePlan{}
		if err := json.Unmarshal([]byte(body), *p); err != nil {
			return fmt.Errorf("merchant: a stored fee plan: %w", err)
		}
		(*p).EffectiveFrom, (*p).NoticeSent = effective, notice
		return nil
	})
	if err != nil {
		return err
	}
	rows, err = tx.Query("select mcc, class from merchant_mcc_class where change > $1", after)
	classes, err := store.All(rows, err, func(r *store.Rows, c *[2]string) error { return r.Scan(&c[0], &c[1]) })
	if err != nil {
		return err
	}
	n.classes = map[string]string{}
	for _, c := range classes {
		n.classes[c[0]] = c[1]
	}
	rows, err = tx.Query("select "+contractColumns+" from merchant_contract where change > $1", after)
	n.contracts, err = store.All(rows, err, scanContract)
	if err != nil {
		return err
	}
	rows, err = tx.Query("select "+noticeColumns+" from merchant_notice where change > $1 order by mid, plan, version", after)
	n.notices, err = store.All(rows, err, scanNotice)
	return err
}

// adoptPrices takes news in, in whatever order they came: plans by version and
// contracts by id find their place. Old readers keep the maps they have.
func (r *Registry) adoptPrices(n *priceNews) error {
	r.growing.Lock()
	defer r.growing.Unlock()
	if len(n.plans)+len(n.classes) > 0 {
		plans := r.plans.Load().clone()
		for _, p := range n.plans {
			plans.put(p)
		}
		maps.Copy(plans.classes, n.classes)
		r.plans.Store(plans)
	}
	if len(n.contracts)+len(n.notices) == 0 {
		return nil
	}
	terms := maps.Clone(*r.terms.Load())
	fresh := map[string]bool{} // whose Terms are this call's own
	own := func(mid string) *Terms {
		t := terms[mid]
		switch {
		case t == nil:
			t = &Terms{}
		case !fresh[mid]:
			t = &Terms{slices.Clone(t.Contracts), slices.Clone(t.Notices)}
		}
		terms[mid], fresh[mid] = t, true
		return t
	}
	for _, c := range n.contracts {
		t := own(c.MID)
		i, known := slices.BinarySearchFunc(t.Contracts, c.id, func(x Contract, id int64) int { return int(min(1, max(-1, x.id-id))) })
		if !known {
			t.Contracts = slices.Insert(t.Contracts, i, c)
		}
	}
	for _, x := range n.notices {
		t := own(x.MID)
		i := slices.IndexFunc(t.Notices, func(o Notice) bool { return o.Plan == x.Plan && o.Version == x.Version })
		if i < 0 {
			t.Notices = append(t.Notices, x)
		} else {
			t.Notices[i] = x
		}
	}
	r.terms.Store(&terms)
	return nil
}

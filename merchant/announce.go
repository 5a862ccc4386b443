package merchant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/store"
)

// noticeBatch is how many merchants one transaction tells: the one writer of
// SQLite also serves the terminals and must not be held long.
const noticeBatch = 256

// ErrConsent says that a merchant's answer cannot be taken.
var ErrConsent = errors.New("merchant: the answer to a new price cannot be taken")

const noticeColumns = "mid, plan, version, told, effective, consent, decided, starts, text"

func scanNotice(r *store.Rows, n *Notice) error {
	return r.Scan(&n.MID, &n.Plan, &n.Version, &n.Told, &n.Effective, &n.Consent, &n.Decided, &n.Starts, &n.Text)
}

// insert writes a notice unless the merchant has been told before.
func (n *Notice) insert(tx store.Tx, change int64) (bool, error) {
	rows, err := tx.Exec("insert into merchant_notice ("+noticeColumns+`, change) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)
		on conflict (mid, plan, version) do nothing`, n.MID, n.Plan, n.Version, n.Told, n.Effective, n.Consent, n.Decided, n.Starts, n.Text, change)
	return rows == 1, err
}

// Announcement is what Announce did.
type Announcement struct {
	Plan      string        `json:"plan"`
	Version   int           `json:"plan_version"`
	Notice    calendar.Date `json:"notice"`
	Effective calendar.Date `json:"effective"`
	Told      int           `json:"told"`    // merchants told now
	Already   int           `json:"already"` // told before, or on a later version
}

// Announce tells every merchant of a plan that a version of it takes effect on
// a date, at least NoticeDays from today, and writes one notice each. Done
// again, also after it was interrupted, it tells those who were not told yet;
// the date then stands and may be left out (zero). A merchant told late gets
// its NoticeDays all the same.
func (r *Registry) Announce(ctx context.Context, code string, version int, effective, today calendar.Date) (Announcement, error) {
	a := Announcement{Plan: code, Version: version, Notice: today, Effective: effective}
	if _, err := r.Refresh(ctx); err != nil {
		return a, err
	}
	p, err := r.Plans().Version(code, version)
	if err != nil {
		return a, err
	}
	if p.EffectiveFrom == 0 {
		if err := r.setDates(ctx, p, effective, today); err != nil {
			return a, err
		}
	} else if effective != 0 && effective != p.EffectiveFrom {
		return a, fmt.Errorf("merchant: plan %s version %d takes effect %s, announced %s; another date needs another version", code, version, p.EffectiveFrom, p.NoticeSent)
	}
	if p, err = r.Plans().Version(code, version); err != nil {
		return a, err
	}
	a.Notice, a.Effective = p.NoticeSent, p.EffectiveFrom
	var waiting []*Merchant
	for m := range r.Merchants() {
		if m.Plan == code && m.Status != Closed {
			waiting = append(waiting, m)
		}
	}
	slices.SortFunc(waiting, func(a, b *Merchant) int { return strings.Compare(a.MID, b.MID) })
	for part := range slices.Chunk(waiting, noticeBatch) {
		told := 0
		fault.Hit("plans.tell.before")
		err := r.db.Write(ctx, func(tx store.Tx) error {
			told = 0
			change, err := nextVersion(tx)
			if err != nil {
				return err
			}
			for _, m := range part {
				t := r.Terms(m.MID)
				if c := t.last(); c.Plan == code && t.version(c, today) >= version {
					continue
				}
				n := p.noticeTo(m.MID, today)
				fresh, err := n.insert(tx, change)
				if err != nil {
					return err
				}
				if fresh {
					told++
				}
			}
			return nil
		})
		fault.Hit("plans.tell.after")
		if err != nil {
			return a, fmt.Errorf("merchant: telling merchants of plan %s version %d; announce it again to go on: %w", code, version, err)
		}
		a.Told += told
		a.Already += len(part) - told
	}
	_, err = r.Refresh(ctx)
	return a, err
}

// Lacks says in words what merchants of a plan have today and a version of it does
// not offer: a speed, without which they are paid T+1 from its date on, and
// extras. Nothing for a version that was announced, whose date stands.
func (r *Registry) Lacks(code string, version int, today calendar.Date) ([]string, error) {
	next, err := r.Plans().Version(code, version)
	if err != nil || next.EffectiveFrom != 0 {
		return nil, err
	}
	speeds, extras := map[Speed]int{}, map[string]int{}
	for m := range r.Merchants() {
		if m.Plan != code || m.Status == Closed {
			continue
		}
		now, err := r.PlanOf(m, today)
		if err != nil {
			return nil, err
		}
		_, has := now.SpeedFee(m.Speed, 0, 0)
		if _, offered := next.SpeedFee(m.Speed, 0, 0); has && !offered {
			speeds[m.Speed]++
		}
		for i := range now.Extras {
			if kind := now.Extras[i].Kind; next.Extra(kind) == nil {
				extras[kind]++
			}
		}
	}
	var lacks []string
	for _, speed := range slices.Sorted(maps.Keys(speeds)) {
		lacks = append(lacks, fmt.Sprintf("%s, so that %d merchants would be paid T1", speed, speeds[speed]))
	}
	for _, kind := range slices.Sorted(maps.Keys(extras)) {
		lacks = append(lacks, fmt.Sprintf("%s, which the plan of %d merchants names", kind, extras[kind]))
	}
	return lacks, nil
}

// setDates makes a version the newest one of its plan. A plan of which no version
// has a date is new: nobody has to be told, and it may begin today.
func (r *Registry) setDates(ctx context.Context, p *FeePlan, effective, today calendar.Date) error {
	var newest *FeePlan
	for _, v := range r.Plans().byCode[p.Code] {
		if v.EffectiveFrom != 0 {
			newest = v
		}
	}
	switch {
	case newest == nil && effective == 0:
		effective = today
	case newest == nil && effective < today:
		return fmt.Errorf("merchant: plan %s version %d cannot begin %s: today is %s", p.Code, p.Version, effective, today)
	case newest == nil:
	case effective == 0:
		return fmt.Errorf("merchant: plan %s version %d needs the date from which it takes effect: merchants are told %d days before, so %s is the first day that may be",
			p.Code, p.Version, NoticeDays, today.AddDays(NoticeDays))
	case p.Version < newest.Version:
		return fmt.Errorf("merchant: plan %s version %d is older than version %d, which takes effect %s: whoever has the newer one keeps it; import the price under a higher number",
			p.Code, p.Version, newest.Version, newest.EffectiveFrom)
	case effective < today.AddDays(NoticeDays):
		return fmt.Errorf("merchant: plan %s version %d cannot take effect %s: merchants are told %d days before, so %s is the first day that may be",
			p.Code, p.Version, effective, NoticeDays, today.AddDays(NoticeDays))
	}
	fault.Hit("plans.date.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		change, err := nextVersion(tx)
		if err != nil {
			return err
		}
		_, err = tx.Exec("update merchant_plan set effective = $1, notice = $2, change = $3 where code = $4 and version = $5 and effective = 0",
			effective, today, change, p.Code, p.Version)
		return err
	})
	fault.Hit("plans.date.after")
	if err != nil {
		return fmt.Errorf("merchant: announcing plan %s version %d: %w", p.Code, p.Version, err)
	}
	_, err = r.Refresh(ctx)
	return err
}

// noticeTo is the notice of a version to one merchant.
func (p *FeePlan) noticeTo(mid string, today calendar.Date) Notice {
	n := Notice{MID: mid, Plan: p.Code, Version: p.Version, Told: today, Effective: max(p.EffectiveFrom, today.AddDays(NoticeDays)), Consent: Silent}
	silence := "未明确同意前继续按原费率收取"
	if p.ConsentPolicy != Explicit {
		n.Starts, silence = n.Effective, "逾期未答复视为同意"
	}
	n.Text = fmt.Sprintf("费率调整通知:您的收单费率自%s起调整为:%s。如有异议,请在生效前联系客服;%s。(%s v%d)", n.Effective, p.Summary(), silence, p.Code, p.Version)
	return n
}

// Answer records what a merchant says to a version that it was told of. today is
// the business date of its sales. Who agrees gets the version on its date, or
// from the next business date when that has come, so that a date has one price;
// who objects before it starts stays at the old price until it agrees or an
// operator gives it another plan. The version that already prices a merchant's
// sales can no longer be objected to.
func (r *Registry) Answer(ctx context.Context, mid string, version int, answer Consent, today calendar.Date) (n Notice, err error) {
	if answer != Agreed && answer != Objected {
		return n, fmt.Errorf("%w: %q is not agreed or objected", ErrConsent, answer)
	}
	if _, err := r.Refresh(ctx); err != nil {
		return n, err
	}
	m, known := r.Merchant([]byte(mid))
	if !known {
		return n, fmt.Errorf("%w: merchant %q", ErrUnknown, mid)
	}
	fault.Hit("plans.answer.before")
	err = r.db.Write(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+noticeColumns+" from merchant_notice where mid = $1 and plan = $2 and version = $3 for update", mid, m.Plan, version)
		all, err := store.All(rows, err, scanNotice)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return fmt.Errorf("%w: merchant %s was not told of version %d of its plan %s; announce it first", ErrConsent, mid, version, m.Plan)
		}
		n = all[0]
		switch {
		case answer == Agreed && n.Starts == 0:
			n.Starts = max(n.Effective, today.AddDays(1))
		case answer == Objected && n.Starts != 0 && n.Starts <= today:
			return fmt.Errorf("%w: version %d of %s has priced the sales of %s since %s; give the merchant another plan", ErrConsent, version, m.Plan, mid, n.Starts)
		case answer == Objected:
			n.Starts = 0
		}
		n.Consent, n.Decided = answer, today
		change, err := nextVersion(tx)
		if err != nil {
			return err
		}
		_, err = tx.Exec("update merchant_notice set consent = $1, decided = $2, starts = $3, change = $4 where mid = $5 and plan = $6 and version = $7",
			n.Consent, n.Decided, n.Starts, change, mid, m.Plan, version)
		return err
	})
	fault.Hit("plans.answer.after")
	if err != nil {
		return n, err
	}
	_, err = r.Refresh(ctx)
	return n, err
}

// Notices lists what merchants were told of a version of a plan and what they
// said, by MID.
func (r *Registry) Notices(code string, version int) []Notice {
	var all []Notice
	for _, t := range *r.terms.Load() {
		for _, n := range t.Notices {
			if n.Plan == code && n.Version == version {
				all = append(all, n)
			}
		}
	}
	slices.SortFunc(all, func(a, b Notice) int { return strings.Compare(a.MID, b.MID) })
	return all
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"acquirer/calendar"
	"acquirer/console"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/settlement"
	"acquirer/settlement/report"
	"acquirer/spec"
	switching "acquirer/switch"
)

// consoleHouse answers the console's questions from the running house.
type consoleHouse struct {
	v    *house
	k    *keeper
	name string // environment as shown
}

// tell writes what the switch answered on the console's tape.
func (v *house) tell(tape *console.Tape) func(switching.Told) {
	return func(t switching.Told) {
		tape.Count(t.At, t.Code.Approves(), t.Issuer, t.IssuerTook)
		if t.ID == 0 || !tape.Wants() {
			return
		}
		if t.Kind == "reversal" {
			return // what it did to its sale is the sale's row, drawn anew at the next look
		}
		r := console.Row{ID: t.ID, At: t.At, Took: t.Took, Type: t.Kind, PAN: t.PAN.Masked(), Amount: t.Amount, Issuer: t.Issuer, Code: string(t.Code),
			Outcome: console.Declined, Reason: words(t.Code)}
		if t.Terminal != nil {
			r.TID, r.MID = t.Terminal.TID, t.Terminal.MID
			r.Merchant = v.merchantName(r.MID)
		}
		switch {
		case t.Reason.Owes():
			r.Outcome = console.Reversing
		case t.Code.Approves():
			r.Outcome = console.Approved
		}
		tape.Put(r)
	}
}

func words(c switching.ResponseCode) console.Words {
	return console.Words{ZH: c.Chinese(), EN: c.English()}
}

func (v *house) merchantName(mid string) string {
	if m, ok := v.terminals.Merchant([]byte(mid)); ok {
		return m.Name
	}
	return mid
}

// Overview implements console.House.
func (h consoleHouse) Overview(ctx context.Context) (console.Overview, error) {
	v := h.v
	debts, err := v.journal.Debts(ctx)
	if err != nil {
		return console.Overview{}, err
	}
	now := time.Now()
	day := v.today(now)
	o := console.Overview{
		Environment: h.name, Version: version(), Node: v.cfg.Node, Started: v.started, BusinessDate: day, CutOff: calendar.Closes(day, v.cfg.Switch.CutOff),
		Terminals: v.sw.Connections(), InFlight: v.sw.InFlight(),
		Owed:   console.OwedTotal{Due: debts.Owed, Manual: debts.Manual, Oldest: debts.Oldest},
		Ledger: console.Ledger{Balanced: h.k.balanced.Load(), Lag: h.k.lag(now)},
	}
	if at := h.k.checked.Load(); at != 0 {
		o.Ledger.Checked = time.UnixMicro(at)
	}
	payouts, err := v.books.PayoutsStanding(ctx)
	if err != nil {
		return console.Overview{}, err
	}
	o.Payouts = console.PayoutTotal{Returned: int(payouts[settlement.CameBack].Payouts), Failed: int(payouts[settlement.Failed].Payouts), Unknown: int(payouts[settlement.Unknown].Payouts)}
	for _, x := range h.k.violated() {
		o.Violations = append(o.Violations, console.Violation{Invariant: x.invariant, What: console.Words{ZH: x.what, EN: x.what}, Count: x.count})
	}
	if o.Ledger.Lag < 2*time.Second {
		o.Ledger.Lag = 0
	}
	breakers := v.sw.Breakers()
	for _, name := range v.issuerOrder() {
		st := v.legs[name].Issuer.State()
		is := console.Issuer{Name: name, InFlight: st.InFlight, Breaker: breakers[name].State}
		for _, l := range st.Lines {
			is.Lines = append(is.Lines, console.Line{Number: l.Line, Addr: l.Addr, Connected: l.Connected, SignedOn: l.SignedOn, Drained: l.Drained, Since: l.Since,
				Echo: l.LastEcho, Drops: l.Drops, LastError: l.LastError})
		}
		o.Issuers = append(o.Issuers, is)
	}
	return o, nil
}

// Recent implements console.House.
func (h consoleHouse) Recent(ctx context.Context, n int) ([]console.Row, error) {
	entries, err := h.v.journal.Last(ctx, n)
	if err != nil {
		return nil, err
	}
	rows := make([]console.Row, len(entries))
	for i, e := range entries {
		rows[i] = h.row(e)
	}
	return rows, nil
}

func (h consoleHouse) row(e *journal.Entry) console.Row {
	r := console.Row{ID: e.ID, At: e.Opened, Type: typeOf(&e.Transaction), MID: e.Merchant, Merchant: h.v.merchantName(e.Merchant), TID: e.Terminal,
		PAN: e.PANMasked, Amount: e.Sum(), Issuer: e.Issuer}
	if e.Outcome != nil {
		r.Took = e.Outcome.Closed.Sub(e.Opened)
		code := switching.CodeOf(e.Outcome.Reason, e.Outcome.IssuerCode)
		r.Code, r.Reason = string(code), words(code)
	}
	switch e.State() {
	case journal.StateApproved:
		r.Outcome = console.Approved
	case journal.StateDeclined:
		r.Outcome = console.Declined
	case journal.Owed:
		r.Outcome = console.Reversing
	case journal.Reversed:
		r.Outcome = console.Reversed
	case journal.Manual:
		r.Outcome = console.Manual
	}
	return r
}

// Transaction implements console.House.
func (h consoleHouse) Transaction(ctx context.Context, id int64) (console.Detail, error) {
	f, err := h.v.journal.Following(ctx, id)
	if err != nil {
		return console.Detail{}, unknown(err)
	}
	e := f.Original
	d := console.Detail{Row: h.row(e), BusinessDate: e.Day, Batch: fmt.Sprintf("%06d", e.Batch), STAN: fmt.Sprintf("%06d", e.STAN), RRN: e.RRN,
		Printed: e.State() == journal.StateApproved && prints(e.Kind)}
	if err := h.relate(ctx, &d, f); err != nil {
		return console.Detail{}, err
	}
	d.Facts = append(d.Facts,
		console.Fact{Name: console.Words{ZH: "卡片读取方式 (DE 22)", EN: "entry mode (DE 22)"}, Value: fmt.Sprintf("%03d", e.EntryMode)},
		console.Fact{Name: console.Words{ZH: "发卡方流水号", EN: "trace towards the issuer"}, Value: fmt.Sprintf("%06d", e.Trace)})
	if o := e.Outcome; o != nil {
		d.Approval = o.Approval
		if o.Part != 0 {
			d.Facts = append(d.Facts, console.Fact{Name: console.Words{ZH: "请求金额", EN: "asked for"}, Value: e.Amount.String()})
		}
		d.Facts = append(d.Facts, console.Fact{Name: console.Words{ZH: "结论", EN: "verdict"}, Value: o.Reason.String()})
		if o.Note != "" {
			d.Facts = append(d.Facts, console.Fact{Name: console.Words{ZH: "说明", EN: "note"}, Value: o.Note})
		}
	}
	fee, err := h.feeOf(ctx, &e.Transaction)
	if err != nil {
		return console.Detail{}, err
	}
	d.Facts = append(d.Facts, fee...)
	if w := e.Debt; w != nil {
		name, why, tries := "reversal", console.Words{ZH: "冲正原因", EN: "reversed because"}, console.Words{ZH: "冲正次数", EN: "reversal tries"}
		if w.Delivery() {
			name, why, tries = "delivery", console.Words{ZH: "拖欠", EN: "owed"}, console.Words{ZH: "通知次数", EN: "tries"}
		}
		step := console.Step{Name: name, At: w.Created, Note: console.Words{ZH: w.Note, EN: w.Note}, Failed: w.State == journal.Manual}
		if !w.Ended.IsZero() {
			step.Took = w.Ended.Sub(w.Created)
		}
		d.Steps = append(d.Steps, step)
		d.Facts = append(d.Facts, console.Fact{Name: why, Value: string(w.Why)}, console.Fact{Name: tries, Value: strconv.Itoa(int(w.Tries))})
	}
	strays, err := h.v.journal.Strays(ctx, id)
	if err != nil {
		return console.Detail{}, err
	}
	for _, s := range strays {
		d.Steps = append(d.Steps, console.Step{Name: "stray", At: s.At, Failed: true, Note: strayWords(s)})
	}
	traces, _ := h.v.sw.Trace(id)
	var steps []console.Step
	for _, tr := range traces {
		at := tr.At
		for _, s := range tr.Steps {
			steps = append(steps, console.Step{Name: s.Name, At: at, Took: s.Took})
			at = at.Add(s.Took)
		}
		for _, m := range tr.Messages {
			d.Messages = append(d.Messages, console.Message{At: tr.At, From: m.From, To: m.To, Dialect: m.Dialect, MTI: m.MTI, Bytes: m.Bytes, Fields: fields(m.Fields)})
		}
	}
	d.Steps = append(steps, d.Steps...)
	return d, nil
}

// feeOf is what the transaction cost its merchant, with the formula (FEE-11);
// nothing before it is booked.
func (h consoleHouse) feeOf(ctx context.Context, t *journal.Transaction) ([]console.Fact, error) {
	how := merchant.Sale{Entry: switching.EntryOf(t.EntryMode)}
	how.Channel, how.CardType = settlement.WayOf(t.Channel)
	f, booked, err := h.v.books.FeeOf(ctx, t.ID, how)
	if err != nil || !booked {
		return nil, err
	}
	text := f.Total.String()
	if f.Formula != "" {
		text = f.Formula
	}
	if f.Speed != 0 {
		text += fmt.Sprintf("; + %s = %s", f.Speed, f.Total)
	}
	return []console.Fact{
		{Name: console.Words{ZH: "商户手续费", EN: "merchant's fee"}, Value: fmt.Sprintf("%s (%s v%d)", text, f.Plan, f.Version)},
		{Name: console.Words{ZH: "应结商户", EN: "merchant gets"}, Value: f.Net.String()},
	}, nil
}

// strayWords says what a message was that found no caller.
func strayWords(s journal.Stray) console.Words {
	kind := map[routing.StrayKind]console.Words{
		routing.Late: {ZH: "迟到", EN: "late"}, routing.Duplicate: {ZH: "重复", EN: "a second time"}, routing.Stranger: {ZH: "无人等待", EN: "nobody waited for it"},
		routing.Mismatch: {ZH: "与请求不符", EN: "differs from the request"}, routing.BadMAC: {ZH: "MAC 错误", EN: "its MAC is wrong"},
		routing.Malformed: {ZH: "格式错误", EN: "malformed"}, routing.Rejected: {ZH: "被网络拒绝", EN: "rejected by the network"},
	}[routing.StrayKind(s.Kind)]
	from := fmt.Sprintf("%s, %s #%d, DE 39 %s", s.MTI, s.Issuer, s.Line, s.Code)
	return console.Words{ZH: kind.ZH + ": " + from, EN: kind.EN + ": " + from}
}

func fields(items []spec.Item) []console.Field {
	out := make([]console.Field, len(items))
	for i, it := range items {
		out[i] = console.Field{Field: it.Field, Name: it.Name, Value: it.Value, Sub: fields(it.Sub)}
		if it.Note != "" {
			out[i].Value += " · " + it.Note
		}
	}
	return out
}

// Owed implements console.House.
func (h consoleHouse) Owed(ctx context.Context, n int) ([]console.Owed, error) {
	var out []console.Owed
	for _, state := range [...]journal.State{journal.Manual, journal.Owed} {
		entries, err := h.v.journal.DebtList(ctx, state, n-len(out))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			o := console.Owed{ID: e.ID, Since: e.Debt.Created, TID: e.Terminal, Merchant: h.v.merchantName(e.Merchant), PAN: e.PANMasked, Amount: e.Amount, Issuer: e.Issuer,
				Why: console.Words{ZH: string(e.Debt.Why), EN: string(e.Debt.Why)}, Attempts: int(e.Debt.Tries), LastSaid: e.Debt.Note, Manual: state == journal.Manual}
			if !o.Manual {
				o.Next = e.Debt.Due
			}
			out = append(out, o)
		}
		if len(out) >= n {
			break
		}
	}
	return out, nil
}

// Settlement implements console.House.
func (h consoleHouse) Settlement(ctx context.Context, date calendar.Date) (console.Settlement, error) {
	if date == 0 {
		date = h.v.today(time.Now())
	}
	days, closed, err := h.v.books.Merchants(ctx, date)
	if err != nil {
		return console.Settlement{}, err
	}
	s := console.Settlement{Date: date, CutOff: calendar.Closes(date, h.v.cfg.Switch.CutOff)}
	now, paid := time.Now(), true
	for _, d := range days {
		m := console.MerchantDay{MID: d.Merchant, Name: h.v.merchantName(d.Merchant), Plan: d.Plan, Speed: string(d.Speed), Sales: int(d.Sales), Gross: d.Gross,
			Refunds: d.Taken, Fees: d.Fee, Net: d.Net, Reference: d.Ref, PayOn: d.Due, PayoutNote: console.Words{ZH: d.Reason, EN: d.Reason}}
		if m.PayOn == 0 && !closed { // the year's holidays may not be known: then nobody knows the day
			due, why, err := h.v.books.PaidOn(date, d.Speed, now)
			if err != nil && !errors.Is(err, calendar.ErrYear) {
				return console.Settlement{}, err
			}
			m.PayOn = due
			if d.Reason == "" {
				m.PayoutNote = console.Words{ZH: why, EN: why}
			}
		}
		m.Payout = payoutStates[d.State]
		paid = paid && (m.Payout == console.PayoutPaid || m.Payout == console.PayoutNone)
		s.Merchants = append(s.Merchants, m)
	}
	holds, err := h.v.books.Holds(ctx, "", false, 100)
	if err != nil {
		return console.Settlement{}, err
	}
	for _, x := range holds {
		s.Holds = append(s.Holds, console.Hold{Key: x.Key, MID: x.Merchant, Name: h.v.merchantName(x.Merchant), Remains: x.Remains,
			Sure: x.State == settlement.HoldSure, Release: x.FreeBy != "", By: x.AskedBy, Reason: x.Reason})
	}
	switch {
	case closed && paid:
		s.State = console.DayPaid
	case closed:
		s.State = console.DayCleared
	case time.Now().After(s.CutOff):
		s.State = console.DayCut
	}
	return s, nil
}

var payoutStates = map[settlement.PayoutState]console.PayoutState{
	0: console.PayoutNone, settlement.Created: console.PayoutDue, settlement.Submitted: console.PayoutSent, settlement.InProcess: console.PayoutSent,
	settlement.Unknown: console.PayoutUnknown, settlement.Paid: console.PayoutPaid, settlement.Failed: console.PayoutFailed, settlement.CameBack: console.PayoutReturned,
}

// Report implements console.House.
func (h consoleHouse) Report(ctx context.Context, q console.ReportQuery) (console.ReportFile, error) {
	file, f, err := h.v.openReport(ctx, report.Request{Report: q.Report, Merchant: q.Merchant, Payout: q.Payout, From: q.From, To: q.To, Format: q.Format})
	if errors.Is(err, report.ErrRequest) {
		return console.ReportFile{}, fmt.Errorf("%w: %w", console.ErrReport, err)
	}
	if err != nil {
		return console.ReportFile{}, err
	}
	return console.ReportFile{Name: f.Name, Size: f.Size, Body: file}, nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/console"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/settlement"
	"acquirer/settlement/dispute"
	"acquirer/settlement/reconcile"
)

// desk is where everything lies that waits for a person, or that one person asked
// for and another has to do.
type desk struct {
	books     *settlement.Engine
	recon     *reconcile.Engine
	disputes  *dispute.Engine
	journal   *journal.Journal
	merchants *merchant.Registry
}

// Waiting implements console.House.
func (h consoleHouse) Waiting(ctx context.Context, n int) ([]console.Wait, error) {
	return h.v.desk().waits(ctx, time.Now(), n)
}

func (v *house) desk() *desk {
	return &desk{books: v.books, recon: v.recon, disputes: v.disputes, journal: v.journal, merchants: v.terminals}
}

// waits lists what lies there, at most limit of each kind.
func (d *desk) waits(ctx context.Context, now time.Time, limit int) ([]console.Wait, error) {
	var all []console.Wait
	done := map[string]bool{} // what is in the list under a better name: payouts, cases, uploads
	var errs []error
	for _, look := range []func(context.Context, time.Time, int, map[string]bool) ([]console.Wait, error){
		d.payoutAsks, d.payoutsUnknown, d.cases, d.told, d.breaks, d.unsigned, d.credits, d.holds, d.accounts, d.watches, d.debts, d.uploads, d.prices, d.tasks} {
		some, err := look(ctx, now, limit, done)
		all, errs = append(all, some...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

func (d *desk) name(mid string) string {
	if m, ok := d.merchants.Merchant([]byte(mid)); ok {
		return m.Name
	}
	return mid
}

// payoutAsks are the halves of `payout recover` and `payout decide`.
func (d *desk) payoutAsks(ctx context.Context, now time.Time, limit int, done map[string]bool) (all []console.Wait, err error) {
	asks, err := d.books.PayoutAsks(ctx, limit)
	for _, a := range asks {
		if !a.Waits(now) {
			continue
		}
		done[a.Ref] = true
		w := console.Wait{Kind: a.Do, Ref: a.Ref, Merchant: d.name(a.Merchant), Amount: a.Amount, Since: a.At, By: a.By, Href: dayOf(a.Date)}
		command := "acquirer payout " + a.Do + " " + a.Ref
		switch {
		case a.Do == "decide":
			command += " " + a.What
			w.What = console.Words{ZH: "认定为 " + a.What, EN: "say in the bank's place that it " + map[string]string{"paid": "was paid", "failed": "failed"}[a.What]}
		case a.Loss():
			command += " --write-off"
			w.What = console.Words{ZH: "作为损失核销", EN: "give it up as a loss"}
		default:
			_, how, _ := strings.Cut(a.What, ": ")
			w.What = console.Words{ZH: strings.TrimSuffix("从商户收回；"+how, "；"), EN: strings.TrimSuffix("take it from the merchant; "+how, "; ")}
		}
		w.Commands = []string{command}
		all = append(all, w)
	}
	return all, err
}

// payoutsUnknown are those of which the bank does not say what became of them.
func (d *desk) payoutsUnknown(ctx context.Context, now time.Time, limit int, done map[string]bool) (all []console.Wait, err error) {
	payouts, err := d.books.PayoutsUnknown(ctx, limit)
	for _, p := range payouts {
		if done[p.Ref] {
			continue
		}
		w := console.Wait{Kind: "unknown", Ref: p.Ref, Merchant: d.name(p.Merchant), Amount: p.Amount, Since: p.Submitted, Href: dayOf(p.Date), Commands: []string{"acquirer payout show " + p.Ref},
			What: console.Words{ZH: "银行未答复，系统继续查询，不会重发；可致电银行核实", EN: "the bank did not answer; it is asked again and never sent again: call the bank with the reference"}}
		if now.Sub(p.Submitted) >= d.books.NotFoundAfter() {
			w.Commands = decides(p.Ref)
		}
		all = append(all, w)
	}
	return all, err
}

// cases are disputes that are ours to answer, and those that one person ended.
func (d *desk) cases(ctx context.Context, now time.Time, limit int, done map[string]bool) (all []console.Wait, err error) {
	cases, err := d.disputes.Cases(ctx, dispute.Query{Running: true, ByDue: true, Limit: limit})
	for _, c := range cases {
		id := strconv.FormatInt(c.ID, 10)
		w := console.Wait{Kind: "answer", Ref: id, Merchant: d.name(c.Merchant), Amount: c.Amount, Since: c.Changed, Href: txnOr(c.Txn, "/compared#disputes"),
			Commands: []string{"acquirer dispute show " + id}, What: console.Words{ZH: string(c.Stage) + "，原因 " + c.Reason, EN: string(c.Stage) + " of " + c.Source + ", reason " + c.Reason}}
		if c.State == dispute.Open {
			done["case/"+id] = true
			w.Due = c.Due.AddDays(1).Time()
			w.Commands = nil
			for _, a := range c.Actions() {
				w.Commands = append(w.Commands, "acquirer dispute answer "+id+" "+string(a))
			}
		}
		if ask := (audit.Ask{What: string(c.Asked), By: c.AskedBy, At: c.AskedAt}); ask.Waits(now) {
			w.Kind, w.By, w.Since, w.Commands = "close", ask.By, cmp.Or(ask.At, c.Changed), []string{"acquirer dispute close " + id + " " + ask.What}
			w.What = console.Words{ZH: "以 " + ask.What + " 了结：" + w.What.ZH, EN: "end it as " + ask.What + ": " + w.What.EN}
		} else if c.State != dispute.Open {
			continue
		}
		all = append(all, w)
	}
	return all, err
}

// told are items of disputes that did not come by file.
func (d *desk) told(ctx context.Context, _ time.Time, limit int, _ map[string]bool) (all []console.Wait, err error) {
	asked, err := d.disputes.Asked(ctx)
	for _, t := range asked[:min(len(asked), limit)] {
		all = append(all, console.Wait{Kind: "told", Ref: t.Payment.RRN, Merchant: d.name(t.Payment.Merchant), Amount: t.Amount, Since: t.Asked, By: t.AskedBy,
			Href: txnOr(t.Payment.Txn, "/compared#disputes"), Commands: []string{"acquirer dispute confirm " + shellWord(t.Key)},
			What: console.Words{ZH: string(t.Stage) + "，原因 " + t.Reason + "，日期 " + t.Date.String(), EN: string(t.Stage) + " of " + t.Source + ", reason " + t.Reason + ", of " + t.Date.String()}})
	}
	return all, err
}

// breaks are differences to the books of others that no rule resolved.
func (d *desk) breaks(ctx context.Context, now time.Time, limit int, done map[string]bool) (all []console.Wait, err error) {
	open, err := d.recon.Breaks(ctx, reconcile.Query{State: reconcile.Open, Limit: limit})
	for _, b := range open {
		done[b.Key] = true
		w := console.Wait{Kind: "resolve", Ref: string(b.Kind) + " " + b.RRN, Merchant: b.Merchant, Since: b.Found, Href: txnOr(txnOf(b), "/compared#compared-open")}
		if b.Merchant != "" {
			w.Merchant = d.name(b.Merchant)
		}
		ours, theirs := sides(b)
		w.Amount = theirs - ours
		says := fmt.Sprintf("%s: here %s, there %s; ", b.Source, ours, theirs)
		zh := fmt.Sprintf("%s：我方 %s，对方 %s；", b.Source, ours, theirs)
		ask := audit.Ask{What: string(b.Action), By: b.AskedBy, At: b.Asked}
		var how []string
		for _, s := range d.recon.Suggest(&b) {
			if !ask.Waits(now) || string(s.Action) == ask.What {
				how = append(how, strings.TrimSpace(string(s.Action)+" "+s.Posting))
				w.Commands = append(w.Commands, fmt.Sprintf("acquirer reconcile resolve %d %s", b.ID, s.Action))
			}
		}
		if ask.Waits(now) {
			w.By, w.Since = ask.By, cmp.Or(ask.At, b.Found)
		}
		w.What = console.Words{ZH: zh + strings.Join(how, "，或 "), EN: says + strings.Join(how, ", or ")}
		all = append(all, w)
	}
	return all, err
}

// unsigned are compared days that one or two people have still to sign.
func (d *desk) unsigned(ctx context.Context, now time.Time, limit int, _ map[string]bool) (all []console.Wait, err error) {
	days, err := d.recon.Unsigned(ctx, limit)
	for _, x := range days {
		w := console.Wait{Kind: "sign", Ref: x.Date.String(), Since: x.Compared, Href: "/compared#compared-days", Commands: []string{"acquirer reconcile sign-off --date " + x.Date.String()},
			What: console.Words{ZH: "当日没有未决差错，可以签核", EN: "no difference of the day is open: it can be signed"}}
		if x.By != "" {
			w.By, w.Since = x.By, x.At
		}
		all = append(all, w)
	}
	return all, err
}

// credits are money that came in and that no rule knows.
func (d *desk) credits(ctx context.Context, now time.Time, limit int, done map[string]bool) (all []console.Wait, err error) {
	credits, err := d.books.Credits(ctx, true, limit)
	for _, c := range credits {
		if c.Waits() {
			continue
		}
		done["credit/"+c.Entry] = true
		entry := shellWord(c.Entry)
		assign, back := "acquirer settle credit assign "+entry+" --payer ", "acquirer settle credit back "+entry
		w := console.Wait{Kind: "credit", Ref: c.Entry, Amount: c.Amount, Since: c.Taken, Commands: []string{assign + "PAYER --date DATE", back},
			What: console.Words{ZH: fmt.Sprintf("“%s”，入账 %s，挂账 2301：%s", c.Reference, c.Booked, c.Why), EN: fmt.Sprintf("%q, booked %s, in suspense (2301): %s", c.Reference, c.Booked, c.Why)}}
		if ask := (audit.Ask{What: c.Word, By: c.AskedBy, At: c.Asked}); ask.Waits(now) {
			w.By, w.Since, w.Commands = ask.By, ask.At, []string{back}
			w.What = console.Words{ZH: "退回付款方，或已手工入账：" + w.What.ZH, EN: "it went back, or was booked by hand: " + w.What.EN}
			if payer, date, ours := strings.Cut(ask.What, " "); ours {
				w.Commands = []string{assign + payer + " --date " + date}
				w.What = console.Words{ZH: payer + " " + date + " 的结算款：" + w.What.ZH, EN: "what " + payer + " pays for " + date + ": " + w.What.EN}
			}
		}
		all = append(all, w)
	}
	return all, err
}

// holds are those that were asked for, and those whose release was.
func (d *desk) holds(ctx context.Context, now time.Time, limit int, _ map[string]bool) (all []console.Wait, err error) {
	holds, err := d.books.Holds(ctx, "", false, limit)
	for _, h := range holds {
		w := console.Wait{Kind: "hold", Ref: h.Key, Merchant: d.name(h.Merchant), Amount: h.Remains, Since: h.Asked, Due: h.Lapses, By: h.AskedBy, Href: "/settlement#holds",
			Commands: []string{"acquirer settle hold confirm " + shellWord(h.Key)}, What: console.Words{ZH: h.Reason, EN: h.Reason}}
		if h.State == settlement.HoldSure {
			ask := audit.Ask{By: h.FreeBy, At: h.Free}
			if !ask.Waits(now) {
				continue
			}
			w.Kind, w.Since, w.Due, w.By = "release", h.Free, h.Free.Add(audit.Lapses), h.FreeBy
			w.Commands = []string{"acquirer settle release confirm " + shellWord(h.Key)}
		}
		all = append(all, w)
	}
	return all, err
}

// accounts are changes of settlement accounts. Whoever confirms one has the end of
// the number from the merchant and not from here.
func (d *desk) accounts(ctx context.Context, now time.Time, limit int, _ map[string]bool) (all []console.Wait, err error) {
	changes, err := d.books.AccountChanges(ctx, "", false, now, limit)
	for _, c := range changes {
		all = append(all, console.Wait{Kind: "account", Ref: c.Merchant, Merchant: d.name(c.Merchant), Since: c.Asked, Due: c.Lapses, By: c.AskedBy, Href: "/reports?merchant=" + c.Merchant,
			Commands: []string{"acquirer settle account confirm " + c.Merchant + " LAST4"}, What: console.Words{
				ZH: fmt.Sprintf("改付至 %s 在 %s 的账户：%s", c.Account.Name, c.Account.Bank, c.Why), EN: fmt.Sprintf("pay to an account of %s at %s: %s", c.Account.Name, c.Account.Bank, c.Why)}})
	}
	return all, err
}

// watches are those that one person wants lifted.
func (d *desk) watches(ctx context.Context, now time.Time, limit int, _ map[string]bool) (all []console.Wait, err error) {
	watches, err := d.books.Watches(ctx, "", false, now, limit)
	for _, x := range watches {
		if ask := (audit.Ask{By: x.AskedBy, At: x.Asked}); ask.Waits(now) {
			all = append(all, console.Wait{Kind: "unwatch", Ref: x.Merchant, Merchant: d.name(x.Merchant), Since: cmp.Or(x.Asked, x.From), By: x.AskedBy, Href: "/reports?merchant=" + x.Merchant,
				Commands: []string{"acquirer settle unwatch " + x.Merchant}, What: console.Words{ZH: "恢复提前付款；关注原因：" + x.Reason, EN: "pay it early again; it is watched for: " + x.Reason}})
		}
	}
	return all, err
}

// debts are reversals and advices that no machine tries any more.
func (d *desk) debts(ctx context.Context, _ time.Time, limit int, _ map[string]bool) (all []console.Wait, err error) {
	entries, err := d.journal.DebtList(ctx, journal.Manual, limit)
	for _, e := range entries {
		all = append(all, console.Wait{Kind: "manual", Ref: e.RRN, Merchant: d.name(e.Merchant), Amount: e.Amount, Since: e.Debt.Created, Href: txnOr(e.ID, "/owed"),
			Commands: []string{"acquirer owed resolve " + e.RRN + ` --note ""`, "acquirer owed retry " + e.RRN}, What: console.Words{ZH: e.Issuer + "：" + e.Debt.Note, EN: e.Issuer + ": " + e.Debt.Note}})
	}
	return all, err
}

// uploads are what terminals' batches say otherwise, until the day is compared and
// they are breaks.
func (d *desk) uploads(ctx context.Context, _ time.Time, limit int, done map[string]bool) (all []console.Wait, err error) {
	breaks, err := d.journal.Breaks(ctx, limit)
	for _, u := range breaks {
		if done[fmt.Sprintf("terminal/%d", u.ID)] {
			continue
		}
		w := console.Wait{Kind: "batch", Ref: fmt.Sprintf("%s %06d", u.Terminal, u.Batch), Merchant: d.name(u.Merchant), Amount: u.Amount, Since: u.At, Href: "/batches#differences", What: differences[u.What]}
		if u.What == journal.OtherCount { // counted in records, not in money
			w.Amount = 0
		}
		all = append(all, w)
	}
	return all, err
}

// prices are versions of plans that were announced and that merchants have not
// agreed to, until they start.
func (d *desk) prices(_ context.Context, now time.Time, limit int, _ map[string]bool) (all []console.Wait, err error) {
	today := calendar.DateOf(now)
	for p := range d.merchants.Plans().All() {
		ref, about := fmt.Sprintf("%s v%d", p.Code, p.Version), fmt.Sprintf(" --plan %s --plan-version %d", shellWord(p.Code), p.Version)
		if p.EffectiveFrom <= today { // 0 before it is announced
			continue
		}
		objected, silent := 0, 0
		for _, n := range d.merchants.Notices(p.Code, p.Version) {
			switch {
			case n.Consent == merchant.Objected:
				objected++
			case n.Consent != merchant.Agreed && p.ConsentPolicy == merchant.Explicit:
				silent++
			}
		}
		w := console.Wait{Ref: ref, Since: p.NoticeSent.Time(), Due: p.EffectiveFrom.Time(), Commands: []string{"acquirer fees notices" + about}}
		if objected > 0 {
			w.Kind, w.What = "objected", console.Words{ZH: fmt.Sprintf("%d 家商户维持原价，可联系或换方案", objected), EN: fmt.Sprintf("%d keep their price: call them, or give them another plan", objected)}
			all = append(all, w)
		}
		if silent > 0 {
			w.Kind, w.What = "unanswered", console.Words{ZH: fmt.Sprintf("%d 家商户未答复；未明示同意则维持原价", silent), EN: fmt.Sprintf("%d have not answered, and keep their price without a yes", silent)}
			all = append(all, w)
		}
		if len(all) >= limit {
			break
		}
	}
	return all, nil
}

// tasks are settlement's, but for those that stand here under a better name.
func (d *desk) tasks(ctx context.Context, _ time.Time, limit int, done map[string]bool) (all []console.Wait, err error) {
	tasks, err := d.books.Tasks(ctx, limit)
	for _, t := range tasks {
		if done[t.Key] || t.Kind == "dispute" && done["case/"+t.Ref] || (t.Kind == "payout_long" || t.Kind == "payout_slow") && done[t.Ref] {
			continue
		}
		w := console.Wait{Kind: t.Kind, Ref: cmp.Or(t.Ref, t.Key), Amount: t.Amount, Since: t.Created, What: console.Words{ZH: t.Text, EN: t.Text}, Commands: []string{"acquirer payout done " + shellWord(t.Key) + ` --note ""`}}
		if t.Merchant != "" {
			w.Merchant = d.name(t.Merchant)
		}
		if t.Date != 0 {
			w.Href = dayOf(t.Date)
		} else if id, err := strconv.ParseInt(t.Ref, 10, 64); err == nil && t.Kind != "dispute" {
			w.Href = txnOr(id, "")
		}
		switch t.Kind {
		case "payout_failed", "payout_returned":
			w.Commands = []string{"acquirer payout reissue " + t.Ref}
		case "payout_long":
			w.Commands = []string{"acquirer payout recover " + t.Ref}
		case "payout_slow":
			w.Commands = decides(t.Ref)
		case "payout_held":
			w.Commands = []string{"acquirer payout show " + t.Ref}
		}
		all = append(all, w)
	}
	return all, err
}

// dayOf is the page of a business date.
func dayOf(date calendar.Date) string { return "/settlement?date=" + date.String() }

// txnOr is the page of a transaction, or another one where there is none.
func txnOr(id int64, other string) string {
	if id == 0 {
		return other
	}
	return "/transactions/" + strconv.FormatInt(id, 10)
}

// decides are the two ways to say what became of a payout.
func decides(ref string) []string {
	return []string{"acquirer payout decide " + ref + " paid", "acquirer payout decide " + ref + " failed"}
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// shellWord is s as a shell takes it for one word.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// waitGauge counts what waits for people, at the moment of asking.
type waitGauge struct {
	d             *desk
	count, oldest *prometheus.Desc
}

func newWaitGauge(d *desk) *waitGauge {
	return &waitGauge{d: d,
		count:  prometheus.NewDesc("acquirer_waiting", "What waits for people, as the console's page Waiting lists it, by whose turn it is: first, or second where one person asked; at most 1000 of a kind.", []string{"turn"}, nil),
		oldest: prometheus.NewDesc("acquirer_waiting_oldest_seconds", "How long the oldest of them has waited; of first without what has an end of its own, such as a dispute.", []string{"turn"}, nil)}
}

// Describe implements prometheus.Collector.
func (g *waitGauge) Describe(ch chan<- *prometheus.Desc) { ch <- g.count; ch <- g.oldest }

// Collect implements prometheus.Collector.
func (g *waitGauge) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	now := time.Now()
	all, err := g.d.waits(ctx, now, 1000)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(g.count, err)
		return
	}
	count, oldest := map[string]int{}, map[string]time.Duration{}
	for _, w := range all {
		turn := "first"
		if w.By != "" {
			turn = "second"
		}
		count[turn]++
		if !w.Since.IsZero() && (turn == "second" || w.Due.IsZero()) {
			oldest[turn] = max(oldest[turn], now.Sub(w.Since))
		}
	}
	for _, turn := range []string{"first", "second"} {
		ch <- prometheus.MustNewConstMetric(g.count, prometheus.GaugeValue, float64(count[turn]), turn)
		ch <- prometheus.MustNewConstMetric(g.oldest, prometheus.GaugeValue, oldest[turn].Seconds(), turn)
	}
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/settlement"
	"acquirer/settlement/reconcile"
	simbank "acquirer/simulate/bank"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
	"acquirer/store"
)

// demo --days plays business dates one after the other. They are data: the
// switch's clock is so far back that the rows of the journal alone say which
// date is open, and the demo moves them. Without --from the first trading day is
// the last working day but one before the holiday of October 2026, so that what
// is sold on the holiday is paid after it.

// quietDays bounds the dates without trade that are played behind the last
// trading day, so that what waits for a later file grows old.
const quietDays = 25

// breakFound is a difference that the reconciliation found, and what was done
// to the files so that it would.
type breakFound struct {
	Kind     reconcile.Kind  `json:"kind"`
	Source   string          `json:"source"`
	Date     calendar.Date   `json:"date"`
	RRN      string          `json:"rrn"`
	State    reconcile.State `json:"state"`
	Injected string          `json:"injected"` // the fault; empty when nobody ordered one
}

// misdeed is a fault that was put into a file, a statement, a receipt or a
// terminal, and the break that it must become.
type misdeed struct {
	fault  string
	kind   reconcile.Kind
	source string
	rrn    string // or its beginning; "" where the source alone is known
	state  reconcile.State
	met    bool
}

// dayByDay is what the demo's dates need beside the world.
type dayByDay struct {
	inbox    string
	day      atomic.Int32 // the date being played, for the wallets' clock
	began    time.Time
	nets     map[calendar.Date]map[string]money.Amount // what the files of a date come to, by wallet, "" for cards
	received map[calendar.Date]bool
	misdeeds []misdeed
	refused  int // files that must be refused
	closed   []settlement.Day
}

// clock is the wallets' time: noon of the date being played, and on.
func (p *dayByDay) clock() time.Time {
	return calendar.Date(p.day.Load()).Time().Add(12*time.Hour + time.Since(p.began))
}

// arrangeDays gives the demo's dates their settings.
func (w *world) arrangeDays(cfg *Config, folder string) error {
	w.play = &dayByDay{inbox: filepath.Join(folder, "inbox"), began: time.Now(), nets: map[calendar.Date]map[string]money.Amount{}, received: map[calendar.Date]bool{}}
	w.play.day.Store(int32(w.from))
	if err := os.MkdirAll(w.play.inbox, 0o700); err != nil {
		return err
	}
	var sources []string
	for _, is := range simcard.Issuers {
		sources = append(sources, is.Name)
	}
	cfg.Clearing.Sources = strings.Join(append(sources, routing.Wallets...), ",")
	cfg.Clearing.Inbox = w.play.inbox
	cfg.byHand = true
	if today := calendar.DateOf(time.Now()); today >= w.from {
		cfg.clockBack = time.Duration(w.from.DaysUntil(today)+2) * 24 * time.Hour
	}
	return nil
}

// playDays plays the trading dates and as many quiet ones as it takes until
// nothing waits for a later file any more.
func (w *world) playDays(ctx context.Context, r running) error {
	clerks, err := w.clerks(ctx, r.terminal)
	if err != nil {
		return err
	}
	w.first = store.NewID()
	for i := range w.days + quietDays {
		date := w.from.AddDays(i)
		w.play.day.Store(int32(date))
		if err := r.house.journal.CutOver(ctx, date); err != nil {
			return err
		}
		if err := w.morning(ctx, r, date); err != nil {
			return fmt.Errorf("the morning of %s: %w", date, err)
		}
		if i < w.days {
			share := w.transactions/w.days + min(1, w.transactions%w.days/(i+1))
			if err := w.trade(ctx, r, clerks, share, i == 0); err != nil {
				return fmt.Errorf("trading on %s: %w", date, err)
			}
		}
		if err := w.night(ctx, r, date, i); err != nil {
			return fmt.Errorf("the night of %s: %w", date, err)
		}
		if i >= w.days {
			standing, err := r.house.recon.Standing(ctx)
			if err != nil {
				return err
			}
			waiting := 0
			for _, states := range standing {
				waiting += states[reconcile.Waiting]
			}
			if waiting == 0 && len(w.play.received) >= w.days {
				break
			}
		}
	}
	for _, c := range clerks {
		if err := c.term.Close(); err != nil {
			return err
		}
	}
	if err := w.count(ctx, r); err != nil {
		return err
	}
	if err := w.judge(ctx, r); err != nil {
		return err
	}
	return w.audit(ctx, r)
}

// trade lets the clerks sell so much, take back what is owed, and settle their
// terminals' batches. On the first day one terminal loses a slip before that.
func (w *world) trade(ctx context.Context, r running, clerks []*clerk, transactions int, lose bool) error {
	if err := w.sell(ctx, r, clerks, transactions); err != nil {
		return err
	}
	for _, c := range clerks {
		if lose {
			if slip, ok := c.term.Lose(terminal.KindSale); ok {
				lose = false
				w.play.misdeeds = append(w.play.misdeeds, misdeed{fault: "slip lost", kind: reconcile.TerminalBatch, source: "terminal",
					rrn: fmt.Sprintf("batch %06d ", slip.Batch), state: reconcile.Open}) // the totals differ, or the record is missed
			}
		}
		if _, err := c.term.Settle(ctx); err != nil {
			return fmt.Errorf("terminal %s could not settle: %w", c.term.TID(), err)
		}
	}
	return r.keeper.post(ctx)
}

// morning is what the bank does on a day: the network and the wallets pay what
// their files of the dates that are due come to, and the payouts that are due
// are sent.
func (w *world) morning(ctx context.Context, r running, today calendar.Date) error {
	for _, d := range w.play.closed {
		due, err := calendar.SettleDate(d.Date)
		if err != nil {
			return err
		}
		if due > today || w.play.received[d.Date] {
			continue
		}
		w.play.received[d.Date] = true
		nets := w.play.nets[d.Date]
		for _, wallet := range slices.Sorted(maps.Keys(nets)) {
			sum, payer := nets[wallet], cmp.Or(wallet, settlement.Network)
			if sum <= 0 {
				continue
			}
			var m misdeed
			if d.Date == w.from.AddDays(1) { // faults: of the cards' money a yuan is missing, the first wallet sends one too many
				switch wallet {
				case "":
					sum -= money.Yuan(1)
					m = misdeed{fault: "a yuan less received", kind: reconcile.ReceiptShort, source: payer, state: reconcile.Open}
				case routing.Wallets[0]:
					sum += money.Yuan(1)
					m = misdeed{fault: "a yuan more received", kind: reconcile.ReceiptLong, source: payer, state: reconcile.Open}
				}
			}
			entry, err := w.payHouse(ctx, payer, d.Date, sum)
			if err != nil {
				return err
			}
			if m.rrn = entry; m.fault != "" {
				w.play.misdeeds = append(w.play.misdeeds, m)
			}
		}
	}
	return w.payOut(ctx, r, today.Time().Add(10*time.Hour))
}

// payOut sends what is due; an order that was not answered is asked for, minute
// by minute.
func (w *world) payOut(ctx context.Context, r running, moment time.Time) error {
	for minute := range 30 {
		p, err := r.house.books.Pay(ctx, moment.Add(time.Duration(minute)*2*time.Minute))
		if err != nil {
			return err
		}
		w.result.Payouts += p.Paid
		w.result.PaidTotal += p.Total
		if p.Sent == 0 && p.Asked == 0 {
			return nil
		}
	}
	return nil
}

// night is what happens to a date when it has ended: the others write their
// files, the files are taken and compared, and the date is closed.
func (w *world) night(ctx context.Context, r running, date calendar.Date, i int) error {
	if err := w.order(i); err != nil {
		return err
	}
	late := date.Time().Add(23*time.Hour + 30*time.Minute)
	if err := w.writeFiles(date, i, late); err != nil {
		return err
	}
	over := date.AddDays(1).Time().Add(time.Hour) // wallets end at midnight
	if err := r.house.reconcileDue(ctx, over); err != nil {
		return err
	}
	day, err := r.house.books.CloseDay(ctx, date, over, false)
	if err != nil {
		return err
	}
	w.play.closed = append(w.play.closed, day)
	return w.payOut(ctx, r, date.AddDays(1).Time().Add(-10*time.Minute)) // D+0 before a day off; on other nights it is T+1
}

// faultsOf are the faults of the issuers' files, by trading day, in turn.
var faultsOf = [][]issuer.FileFault{
	{issuer.FaultMissing, issuer.FaultLate}, {issuer.FaultExtra, issuer.FaultStale}, {issuer.FaultAmount, issuer.FaultFee}, {issuer.FaultDuplicate, issuer.FaultLate}, {issuer.FaultAmount},
}

// order asks the others for the faults of a trading day.
func (w *world) order(i int) error {
	if i >= w.days {
		return nil
	}
	for j, is := range simcard.Issuers {
		if err := w.issuers[is.Name].Misclear(faultsOf[(i+j)%len(faultsOf)]...); err != nil {
			return err
		}
	}
	w.bank.Misstate([...]simbank.Misstatement{simbank.LeftOut, simbank.Invented, simbank.Doubled}[i%3])
	fault := [...]simwallet.BillFault{simwallet.BillMissing, simwallet.BillExtra, simwallet.BillAmount}[i%3]
	if i >= 3 { // one that is invented a second time would be the first again
		fault = simwallet.BillGood
	}
	return w.wallets.SpoilBills(routing.Wallets[i%len(routing.Wallets)], fault)
}

// becomes is what a fault of an issuer's file must be found as, and how it
// stands in the end.
var becomes = map[issuer.FileFault]misdeed{
	issuer.FaultMissing:   {kind: reconcile.Short, state: reconcile.Open},
	issuer.FaultLate:      {kind: reconcile.Short, state: reconcile.Resolved},
	issuer.FaultExtra:     {kind: reconcile.Long, state: reconcile.Open},
	issuer.FaultAmount:    {kind: reconcile.Amount, state: reconcile.Open},
	issuer.FaultFee:       {kind: reconcile.Fee, state: reconcile.Open},
	issuer.FaultDuplicate: {kind: reconcile.Duplicate, state: reconcile.Open},
	issuer.FaultStale:     {kind: reconcile.LateReversal, state: reconcile.Resolved},
}

// writeFiles puts the files of a date into the inbox, some of them spoilt
// first: those must be refused, and the good ones behind them taken.
func (w *world) writeFiles(date calendar.Date, i int, at time.Time) error {
	nets := map[string]money.Amount{}
	w.play.nets[date] = nets
	damages := []string{"truncated", "trailer", "encoding"}
	for j, is := range simcard.Issuers {
		file, totals, err := w.issuers[is.Name].ClearingFile(date)
		if err != nil {
			return err
		}
		nets[""] += totals.Net
		name := is.Name + "-" + date.String()
		if i < w.days && j == i%len(simcard.Issuers) {
			spoilt, err := issuer.Damage(file, damages[i%len(damages)])
			if err != nil {
				return err
			}
			if err := w.put("", name+"-0.txt", spoilt, at); err != nil {
				return err
			}
			if err := w.put("", name+"-2.txt", file, at); err != nil { // the good one comes twice
				return err
			}
			w.play.refused += 2
		}
		if err := w.put("", name+"-1.txt", file, at); err != nil {
			return err
		}
	}
	for j, name := range routing.Wallets {
		bill, _ := w.wallets.Bill(name, date)
		var err error
		if nets[name], err = w.owes(name, date, 0); err != nil {
			return err
		}
		if err := w.put(name, date.String()+".bill", bill, at); err != nil {
			return err
		}
		if i < w.days && i < 3 && j == i%len(routing.Wallets) {
			kind := [...]reconcile.Kind{reconcile.Short, reconcile.Long, reconcile.Amount}[i]
			w.play.misdeeds = append(w.play.misdeeds, misdeed{fault: "bill", kind: kind, source: name, state: reconcile.Open})
		}
		if err := w.wallets.SpoilBills(name, simwallet.BillGood); err != nil {
			return err
		}
	}
	var statement bytes.Buffer
	if err := w.bank.Statement(&statement, "ST"+strings.ReplaceAll(date.String(), "-", ""), i, at, i%2 == 0); err != nil {
		return err
	}
	w.bank.Advance(1)
	return w.put("", "statement-"+date.String(), statement.Bytes(), at)
}

// put moves a file into the inbox, whole, as old as the night it came in.
func (w *world) put(source, name string, content []byte, at time.Time) error {
	folder := filepath.Join(w.play.inbox, source)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return os.Chtimes(path, at.Add(-time.Hour), at.Add(-time.Hour))
}

// judge compares what the reconciliation found with what was done to the files.
func (w *world) judge(ctx context.Context, r running) error {
	for name, host := range w.issuers {
		for _, x := range host.Misclears() {
			m := becomes[x.Fault]
			m.fault, m.source, m.rrn = string(x.Fault), name, x.RRN
			w.play.misdeeds = append(w.play.misdeeds, m)
		}
	}
	for _, x := range w.bank.Misstatements() {
		m := misdeed{fault: string(x.What), kind: reconcile.PayoutLong, source: reconcile.Bank, rrn: x.Reference, state: reconcile.Open}
		if x.What == simbank.LeftOut {
			m.kind = reconcile.PayoutShort
		}
		w.play.misdeeds = append(w.play.misdeeds, m)
	}
	for after := int64(0); ; {
		page, err := r.house.recon.Breaks(ctx, reconcile.Query{After: after, Limit: 500})
		if err != nil {
			return err
		}
		for _, b := range page {
			after = b.ID
			f := breakFound{Kind: b.Kind, Source: b.Source, Date: b.Date, RRN: b.RRN, State: b.State}
			at := slices.IndexFunc(w.play.misdeeds, func(m misdeed) bool {
				return !m.met && m.kind == b.Kind && m.source == b.Source && strings.HasPrefix(b.RRN, m.rrn) && m.state == b.State
			})
			if at >= 0 {
				w.play.misdeeds[at].met = true
				f.Injected = w.play.misdeeds[at].fault
			} else {
				w.result.found = append(w.result.found, fmt.Sprintf("a %s of %s, %s, %s on %s that nobody caused: %s", b.Kind, b.Source, b.RRN, b.State, b.Date, b.Detail))
			}
			w.result.Breaks = append(w.result.Breaks, f)
		}
		if len(page) < 500 {
			break
		}
	}
	w.result.Injected = len(w.play.misdeeds)
	for _, m := range w.play.misdeeds {
		if !m.met {
			w.result.found = append(w.result.found, fmt.Sprintf("the fault %q of %s, %s, was not found as a %s, %s", m.fault, m.source, m.rrn, m.kind, m.state))
		}
	}
	refused, err := filepath.Glob(filepath.Join(w.play.inbox, "refused", "*.why"))
	if err != nil {
		return err
	}
	if w.result.RefusedFiles = len(refused); len(refused) != w.play.refused {
		w.result.found = append(w.result.found, fmt.Sprintf("%d files were refused, %d were spoilt or came twice", len(refused), w.play.refused))
	}
	return w.paidForDays(ctx, r)
}

// paidForDays checks the dates of the days: each was closed once, in its order,
// T+1 money of the holiday is due behind it, nothing is owed for what the files
// have but what a receipt lacks, what the network and the wallets owe in the end
// is what they have not paid for yet, and they have paid for every payout.
func (w *world) paidForDays(ctx context.Context, r running) error {
	for i, d := range w.play.closed {
		if d.Date != w.from.AddDays(i) {
			w.result.found = append(w.result.found, fmt.Sprintf("date %d of the demo is %s", i, d.Date))
		}
	}
	owing := map[string]money.Amount{}
	for date, nets := range w.play.nets {
		for wallet, net := range nets {
			if net <= 0 || !w.play.received[date] {
				owing[wallet] += net
			}
			expected, err := r.house.books.Expected(ctx, date, wallet)
			if err != nil {
				return err
			}
			if expected != net {
				w.result.found = append(w.result.found, fmt.Sprintf("for %s %s of %q is expected, its files come to %s", date, expected, wallet, net))
			}
		}
	}
	for wallet, want := range owing {
		account := ledger.NetworkReceivable
		if wallet != "" {
			account = ledger.QRReceivable
		}
		b, err := r.house.ledger.Balance(ctx, account, wallet)
		if err != nil {
			return err
		}
		if b.Net(account) != want {
			w.result.found = append(w.result.found, fmt.Sprintf("%d of %q stands at %s, and its files not paid for come to %s", account, wallet, b.Net(account), want))
		}
	}
	bank, err := r.house.ledger.Balance(ctx, ledger.ClientBank, "")
	if err != nil {
		return err
	}
	if w.result.ClientBank = bank.Net(ledger.ClientBank); w.result.ClientBank < 0 {
		w.result.found = append(w.result.found, fmt.Sprintf("more left the merchants' bank account than came: it stands at %s", w.result.ClientBank))
	}
	return nil
}

//go:build fault

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/settlement/dispute"
	"acquirer/settlement/reconcile"
	simbank "acquirer/simulate/bank"
	simwallet "acquirer/simulate/wallet"
	"acquirer/store"
	switching "acquirer/switch"
)

const (
	deedDate   calendar.Date = 20261120 // a Friday
	slowPaid                 = "898110054110001"
	earlyPaid                = "898110054110002"
	plainFile                = "north-2026-11-20-1.txt"
	terminalOf               = "10000001"
)

// settles is a turn of the house's scheduler.
func settles(now time.Time) func(context.Context, *house) error {
	return func(ctx context.Context, v *house) error { return v.settleDue(ctx, now) }
}

// pays is what the scheduler does about the bank at a moment.
func pays(now time.Time) func(context.Context, *house) error {
	return func(ctx context.Context, v *house) error {
		_, err := v.books.Pay(ctx, now)
		return err
	}
}

// deeds are done one after the other: a Friday of two merchants, one of whom is
// paid during the day, and what came of it.
var deeds = []deed{
	{name: "own funds", walks: "ledger.post", do: func(_ context.Context, v *house) error { return v.bookOwnFunds(context.Background()) }},
	{name: "counted", walks: "store.tally", do: func(ctx context.Context, v *house) error {
		_, err := v.db.Tally(ctx, talliedTables, time.Now().Add(time.Hour), nil)
		return err
	}},
	{name: "fast", walks: "settlement.fast", args: says("settle fast " + earlyPaid)},
	{name: "paid early", walks: "bankfile.order bankfile.gather bankfile.write bankfile.written", do: settles(at(deedDate, 16, 1)), leaves: map[string]*regexp.Regexp{
		// Whether the order stands in the list is asked for in the next minutes; one
		// that does not is a person's after a day.
		"bankfile.order.before": regexp.MustCompile(`^settlement_payout .* state=2 .*\n-\nbankfile_message .*\nbankfile_order .*\nfile .*\nsettlement_payout .* state=3 .*$`),
		"bankfile.order.after":  regexp.MustCompile(`^settlement_payout .* state=2 .*\n-\nsettlement_payout .* state=3 .*$`),
	}},
	{name: "bank answers", walks: "bankfile.begin bankfile.lines bankfile.load bankfile.accept", first: (*deedHouse).exchange, do: settles(at(deedDate, 16, 30))},
	{name: "file refused", walks: "bankfile.refuse bankfile.set_aside", first: func(w *deedHouse) { w.put("bank/inbox/nonsense.xml", "<Document>") }, do: settles(at(deedDate, 16, 40))},
	{name: "task done", walks: "task.done", args: func(w *deedHouse) []string { return append(strings.Fields("payout done"), w.task("bank_file")) }},
	{name: "day closed", walks: "reconcile.load reconcile.lines reconcile.loaded inbox.put_away reconcile.withdrawn reconcile.taken reconcile.theirs reconcile.ours reconcile.bank reconcile.terminals reconcile.receipts reconcile.again reconcile.age reconcile.day" +
		" journal.cut_over settlement.extras limits.forget", first: (*deedHouse).clearingFile, do: settles(at(deedDate.AddDays(1), 9, 0)), leaves: map[string]*regexp.Regexp{
		// What falls due by the calendar is charged with the next day's close.
		"settlement.extras.before": regexp.MustCompile(`^\n-\nsettlement_feed name=extras cursor=2026-11-20$`),
	}},
	{name: "break resolved", walks: "reconcile.resolve batch.resolve", first: func(w *deedHouse) {
		b := w.breakOf(reconcile.TerminalBatch)
		w.second(&reconcileCall{Do: "resolve", ID: b.ID, Action: reconcile.Accept})
	}, args: func(w *deedHouse) []string {
		return append(strings.Fields("reconcile resolve"), strconv.FormatInt(w.breakOf(reconcile.TerminalBatch).ID, 10), "accept")
	}},
	{name: "signed off", walks: "reconcile.sign", first: (*deedHouse).resolveAll, args: says("reconcile sign-off --date " + deedDate.String()), again: "has signed it"},
	{name: "signed by two", walks: "reconcile.sign", do: func(ctx context.Context, v *house) error {
		_, err := (&reconcileCall{Do: "sign", Date: deedDate}).run(ctx, v.db, v.cfg, "zhang")
		return err
	}, again: "have signed it"},
	{name: "network pays", walks: "payout.repay settlement.earn", do: func(ctx context.Context, v *house) error {
		return v.books.Receive(ctx, settlement.Receipt{Date: deedDate, Received: money.Yuan(1), Reference: "NET20261120"}, at(20261123, 9, 30))
	}},
	{name: "hold asked", walks: "hold.ask", args: says("settle hold ask K1 --merchant " + slowPaid + " --amount 10.00 --reason cash-out")},
	{name: "hold confirmed", walks: "hold.move", first: func(w *deedHouse) {
		w.second(&termsCall{Do: "hold", Key: "K2", Merchant: slowPaid, Amount: money.Yuan(5), Reason: "cash-out"})
	}, args: says("settle hold confirm K2"), again: "already"},
	{name: "hold released", walks: "hold.move", first: func(w *deedHouse) { w.second(&termsCall{Do: "ask-release", Key: "K2"}) }, args: says("settle release confirm K2"), again: "no such hold"},
	{name: "reissued", walks: "payout.reissue", first: (*deedHouse).returned, args: says("payout reissue 20261120-" + slowPaid + "-T1-0")},
	{name: "decided", walks: "payout.decide", first: (*deedHouse).unheard, args: says("payout decide 20261120-" + slowPaid + "-T1-0-R1 failed")},
	{name: "recovered", walks: "payout.recover", first: (*deedHouse).paidAfterAll, args: says("payout recover 20261120-" + slowPaid + "-T1-0-R1")},
	{name: "case asked", walks: "dispute.tell", args: func(w *deedHouse) []string {
		return append(strings.Fields("dispute open"), w.sale(2).RRN, "chargeback", "--reason", "4853", "--fee", "5.00", "--ref", "N-0")
	}},
	{name: "case opened", walks: "dispute.tell", first: func(w *deedHouse) {
		w.second(&disputeCall{Do: "open", RRN: w.sale(2).RRN, Stage: dispute.Chargeback, Reason: "4853", Fee: "5.00", Ref: "N-1", Date: calendar.DateOf(time.Now())})
	}, args: func(w *deedHouse) []string {
		return []string{"dispute", "confirm", "hand/" + w.sale(2).Issuer + "/N-1"}
	}, again: "nothing waits"},
	{name: "evidence put", walks: "dispute.attach", first: func(w *deedHouse) { w.put("delivery.txt", "delivered") }, args: func(w *deedHouse) []string {
		return append(strings.Fields("dispute attach"), w.aCase(), "DIR/delivery.txt")
	}},
	{name: "case answered", walks: "dispute.move", first: (*deedHouse).export, args: func(w *deedHouse) []string { return append(strings.Fields("dispute answer"), w.aCase(), "represent") }, again: "answered"},
	{name: "case ended", walks: "dispute.move", first: func(w *deedHouse) {
		id, err := strconv.ParseInt(w.aCase(), 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		w.second(&disputeCall{Do: "close", ID: id, Outcome: dispute.Won})
	}, args: func(w *deedHouse) []string { return append(strings.Fields("dispute close"), w.aCase(), "won") }, again: "is over"},
	{name: "error file", walks: "dispute.unknown", first: (*deedHouse).errorFile, args: says("dispute import DIR/INNZME_x --source north --date 2026-11-23")},
	{name: "reminded", walks: "dispute.move", first: func(w *deedHouse) {
		good(w.t, append([]string{"dispute", "open", w.sale(0).RRN, "retrieval", "--ref", "N-2"}, w.settings()...)...)
		w.second(&disputeCall{Do: "confirm", Key: "hand/" + w.sale(0).Issuer + "/N-2"})
	}, do: func(ctx context.Context, v *house) error {
		all, err := v.disputes.Cases(ctx, dispute.Query{State: dispute.Open})
		if err == nil {
			_, err = v.disputes.Tick(ctx, at(all[0].Due, 9, 0))
		}
		return err
	}},
	{name: "prices announced", walks: "plans.date plans.tell audit.append", first: (*deedHouse).newPrice, args: says("fees announce --plan MICRO-2025 --plan-version 3 --yes --effective " + calendar.DateOf(time.Now()).AddDays(31).String())},
	{name: "price refused", walks: "plans.answer", args: says("fees consent objected --merchant " + slowPaid + " --plan-version 3")},
	{name: "speed", walks: "merchant.speed", args: says("settle speed " + slowPaid + " D0 --why ticket")},
	{name: "plan moved", walks: "plans.move", args: says("fees move --merchant " + slowPaid + " --plan ESIGN-STD")},
	{name: "repair charged", walks: "settlement.extra_fee", args: says("fees charge --merchant " + earlyPaid + " --ref WO-1")},
	{name: "account asked", walks: "account.ask", first: func(w *deedHouse) { w.put("number", "6228480402564890018\n") },
		args: says("settle account ask " + slowPaid + " --account-file DIR/number --bank ICBC --why ticket")},
	{name: "account changed", walks: "account.move", first: func(w *deedHouse) {
		w.second(&accountCall{Do: "ask", Merchant: earlyPaid, Number: "6228480402564890018", Bank: "ICBC", Class: 1, Why: "ticket"})
	}, args: says("settle account confirm " + earlyPaid + " 0018"), again: "nobody asks"},
	{name: "contracts signed", walks: "plans.sign", first: func(w *deedHouse) { w.exec("delete from merchant_contract where mid = '" + earlyPaid + "'") },
		do: func(ctx context.Context, v *house) error { return nil }},
	{name: "case of the switch", walks: "task.add", do: func(ctx context.Context, v *house) error {
		return v.raise(ctx, switching.Case{Key: "wallet/1", Kind: "wallet", Merchant: slowPaid, ID: 1, Text: "look", At: at(20261124, 9, 0)})
	}},
	{name: "what nobody ordered", walks: "payout.strange", first: (*deedHouse).strangeOrder, args: func(w *deedHouse) []string {
		return strings.Fields("settle --date 2026-11-20 --as-of 2026-11-24T11:00:00+08:00 --settlement-bank " + w.live.URL())
	}},
	// A card's share is taken once more: it has a smaller one that day, as
	// limits.StandIn says.
	{name: "stood in", walks: "limits.stand_in", do: func(ctx context.Context, v *house) error {
		within, err := limits.StandIn(ctx, v.db, deedDate, [16]byte{1}, money.Yuan(10), 3, money.Yuan(100))
		if err == nil && !within {
			err = errors.New("the card has no share left")
		}
		return err
	}, leaves: map[string]*regexp.Regexp{"limits.stand_in.after": regexp.MustCompile(`^limit_stand_in .* count=2 amount=2000\n-\nlimit_stand_in .* count=1 amount=1000$`)}},
	{name: "advice called off", walks: "owed.hurry", first: func(w *deedHouse) {
		w.exec("insert into owed (id, txn, issuer, why, created, due, tries, state, holder, leased, note, ended, approved) values (1, 1, 'north', '96', 1, 4000000000000000, 0, 4, 0, 0, '', 0, 1)")
	}, do: func(ctx context.Context, v *house) error { return v.journal.Hurry(ctx, 1) }},
	{name: "bill fetched", walks: "inbox.bill", first: (*deedHouse).openWallet, do: fetchesBill},
	{name: "no more files", walks: "reconcile.complete", first: (*deedHouse).oneOfSeveral, do: func(ctx context.Context, v *house) error {
		return v.recon.Complete(ctx, deedDate.AddDays(1), "north", reconcile.Who{Name: "wang"}, at(20261123, 9, 0))
	}},
	{name: "credits come", walks: "credit.take credit.cursor", first: func(w *deedHouse) {
		w.bank.Receive("NET20261121", "", money.Yuan(1), false)
		w.bank.Receive("hello", "", money.Yuan(2), false)
		w.exchange()
	}, do: pays(at(20261124, 12, 0))},
	{name: "credit placed", walks: "credit.place", first: func(w *deedHouse) {
		w.with(func(v *house) error {
			_, err := v.books.CloseDay(w.t.Context(), deedDate.AddDays(1), at(20261124, 12, 1), true)
			return err
		})
	}, do: pays(at(20261124, 12, 5))},
	{name: "credit went back", walks: "credit.assign", first: func(w *deedHouse) { w.second(&creditCall{Do: "back", Entry: w.suspended()}) },
		args: func(w *deedHouse) []string { return append(strings.Fields("settle credit back"), w.suspended()) }, again: "in suspense no more"},
	{name: "line drained", walks: "lines.order", beside: true, first: func(w *deedHouse) { w.put("routes.json", plainRoutes) }, args: says("lines drain south --seed demo"),
		looks: regexp.MustCompile("^drained_line |^done .*lines")},
	{name: "routing reloaded", walks: "audit.append", beside: true, args: says("route reload --seed demo"), looks: regexp.MustCompile("^done .*route")},
	{name: "key gone", walks: "keybook.gone", first: func(w *deedHouse) {
		w.exec("insert into hsm_key (owner, slot, use, alg, kcv, master, block, created, rolled, expires, gone) values ('terminal 99999999', 'TMK', 'TMK', 'AES', '000000', '000000', 'x', 1, 1, 0, 0)")
	}, args: says("hsm keys --json"), looks: regexp.MustCompile("^hsm_key owner=terminal 99999999")},
	{name: "master key made", walks: "keyfile.create", args: says("hsm init --file DIR/new.key --passphrase-file DIR/pass"), again: "exists"},
}

// says is a command that needs to know nothing of the house.
func says(s string) func(*deedHouse) []string {
	return func(*deedHouse) []string { return strings.Fields(s) }
}

func newDeedHouse(t *testing.T, postgres string) *deedHouse {
	w := &deedHouse{t: t, dir: t.TempDir(), postgres: postgres}
	const passphrase = "correct horse battery staple"
	w.put("pass", passphrase+"\n")
	w.put("payers.json", `[{"payer": "network", "reference": "NET{date}"}]`)
	for _, folder := range []string{"inbox", "bank"} {
		if err := os.Mkdir(filepath.Join(w.dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h, err := hsm.Create(filepath.Join(w.dir, "hsm.key"), []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	w.hsm = h
	w.with(func(v *house) error {
		seed := &merchant.Seed{}
		for mid, account := range map[string]string{slowPaid: "6228480402564890095", earlyPaid: "6228480402564890018"} { // 95 sends it back after a day
			m := merchant.SeedMerchant{Merchant: merchant.Merchant{MID: mid, Name: "王芳手工饰品", MCC: "5944", Plan: "MICRO-2025"}, Account: merchant.SeedAccount{Number: account, Name: "王芳", Bank: "ABC"}}
			if mid == earlyPaid {
				m.Speed = merchant.D0
			}
			seed.Merchants = append(seed.Merchants, m)
		}
		if err := v.importSeed(t.Context(), seed); err != nil {
			return err
		}
		for i, amount := range []int64{100, 50, 30, 200} {
			mid := slowPaid
			if i == 3 {
				mid = earlyPaid
			}
			if err := w.sell(v, mid, int32(i+1), money.Yuan(amount)); err != nil {
				return err
			}
		}
		return v.db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("insert into uploaded (id, day, terminal, merchant, batch, stan, form, amount, masked, txn, what, at, resolved) values ($1,$2,$3,$4,1,9,'',100,'',0,'nobody knows it',$5,0)",
				store.NewID(), deedDate, terminalOf, slowPaid, at(deedDate, 22, 0).UnixMicro())
			return err
		})
	})
	if w.bank, err = simbank.Start("127.0.0.1:0", simbank.Config{Opening: money.Yuan(1000), Folder: filepath.Join(w.dir, "bank")}); err != nil {
		t.Fatal(err)
	}
	if w.live, err = simbank.Start("127.0.0.1:0", simbank.Config{Opening: money.Yuan(1000)}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *deedHouse) close() {
	for _, b := range []*simbank.Bank{w.bank, w.live} {
		if err := b.Close(context.Background()); err != nil {
			w.t.Error(err)
		}
	}
}

// sell writes an approved sale with a credit card of north.
func (w *deedHouse) sell(v *house, mid string, stan int32, amount money.Amount) error {
	noon := at(deedDate, 12, int(stan))
	id := store.NewID()
	x := &journal.Transaction{ID: id, Key: journal.Key{Day: deedDate, Terminal: terminalOf, Batch: 1, STAN: stan, Kind: journal.Sale}, Merchant: mid,
		MTI: 0x0200, Amount: amount, Currency: 156, PANMasked: "621000******0018", Channel: journal.Credit, Issuer: "north", RRN: rrnOf(id),
		Opened: noon, Deadline: noon.Add(time.Minute)}
	if _, err := v.journal.Open(w.t.Context(), x); err != nil {
		return err
	}
	_, err := v.journal.Close(w.t.Context(), x, journal.Outcome{Reason: journal.Approved, Approval: "123456", Closed: noon.Add(time.Second)})
	return err
}

// sale is the i-th sale of the day.
func (w *deedHouse) sale(i int) *journal.Entry {
	w.t.Helper()
	var all []*journal.Entry
	w.with(func(v *house) (err error) {
		all, err = readJournal(w.t.Context(), v.journal)
		return err
	})
	at := slices.IndexFunc(all, func(e *journal.Entry) bool { return e.Key.STAN == int32(i+1) })
	return all[at]
}

func (w *deedHouse) put(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	old := at(deedDate, 0, 0) // nobody is writing it any more
	if err := os.Chtimes(path, old, old); err != nil {
		w.t.Fatal(err)
	}
}

func (w *deedHouse) exec(sql string) {
	w.t.Helper()
	w.with(func(v *house) error {
		return v.db.Write(w.t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec(sql)
			return err
		})
	})
}

// suspended is the entry of the one credit in suspense.
func (w *deedHouse) suspended() (entry string) {
	w.t.Helper()
	w.with(func(v *house) error {
		open, err := v.books.Credits(w.t.Context(), true, 10)
		if err == nil && len(open) != 1 {
			err = fmt.Errorf("in suspense are %+v", open)
		}
		if err == nil {
			entry = open[0].Entry
		}
		return err
	})
	return entry
}

// exchange lets the bank read our files and write its own.
func (w *deedHouse) exchange() {
	w.t.Helper()
	if err := w.bank.Exchange(); err != nil {
		w.t.Fatal(err)
	}
}

// task is the key of the open task of a kind.
func (w *deedHouse) task(kind string) (key string) {
	w.t.Helper()
	w.with(func(v *house) error {
		tasks, err := v.books.Tasks(w.t.Context(), 100)
		for _, x := range tasks {
			if x.Kind == kind {
				key = x.Key
			}
		}
		return err
	})
	if key == "" {
		w.t.Fatalf("no task of kind %s", kind)
	}
	return key
}

// clearingFile is north's, in which one of our sales is missing and one stands
// that nobody knows.
func (w *deedHouse) clearingFile() {
	w.t.Helper()
	var b bytes.Buffer
	f, err := clearing.NewWriter(&b, clearing.Header{Source: "north", Acquirer: "48020000", Date: deedDate})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range []int{0, 1, 3} {
		e := w.sale(i)
		if err := f.Write(clearing.Record{Kind: clearing.Sale, RRN: e.RRN, Sent: "1120120000", Terminal: terminalOf, Merchant: e.Merchant, Amount: e.Amount}); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := f.Write(clearing.Record{Kind: clearing.Sale, RRN: "000000000999", Sent: "1120120000", Terminal: terminalOf, Merchant: slowPaid, Amount: money.Yuan(7)}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.put("inbox/"+plainFile, b.String())
}

// oneOfSeveral loads a ZM file of the next day.
func (w *deedHouse) oneOfSeveral() {
	w.t.Helper()
	const name = "INN26112101ZM_" + slowPaid
	w.put(name, "")
	w.with(func(v *house) error {
		f, end, err := v.recon.OpenFile(filepath.Join(w.dir, name), "north", 0)
		if err != nil {
			return err
		}
		_, err = v.recon.Load(w.t.Context(), f, at(20261123, 9, 0))
		return errors.Join(err, end())
	})
}

func (w *deedHouse) breaks() (all []reconcile.Break) {
	w.t.Helper()
	w.with(func(v *house) (err error) {
		all, err = v.recon.Breaks(w.t.Context(), reconcile.Query{Limit: 100})
		return err
	})
	return all
}

func (w *deedHouse) breakOf(kind reconcile.Kind) reconcile.Break {
	w.t.Helper()
	for _, b := range w.breaks() {
		if b.Kind == kind {
			return b
		}
	}
	w.t.Fatalf("no break of kind %s among %+v", kind, w.breaks())
	return reconcile.Break{}
}

// resolveAll has two people resolve what is open.
func (w *deedHouse) resolveAll() {
	for _, b := range w.breaks() {
		if b.State != reconcile.Open {
			continue
		}
		c := &reconcileCall{Do: "resolve", ID: b.ID, Action: b.Suggested()[0]}
		w.second(c)
		w.with(func(v *house) error {
			_, err := c.run(w.t.Context(), v.db, v.cfg, "zhang")
			return err
		})
	}
}

// returned pays what is due on Monday and has it come back on Tuesday.
func (w *deedHouse) returned() {
	w.t.Helper()
	for _, now := range []time.Time{at(20261123, 10, 0), at(20261124, 10, 0)} {
		w.with(func(v *house) error {
			_, err := v.books.Pay(w.t.Context(), now)
			return err
		})
		for range 2 {
			w.exchange()
			w.bank.Advance(1)
		}
	}
	w.with(func(v *house) error {
		_, err := v.books.Pay(w.t.Context(), at(20261124, 10, 30))
		return err
	})
}

// fickle is a bank that does not answer orders, and says of each later that it
// paid.
type fickle map[string]money.Amount

func (f fickle) Send(_ context.Context, i settlement.Instruction) (settlement.Answer, error) {
	f[i.Reference] = i.Amount
	return settlement.Answer{}, errors.New("nobody answered")
}

func (f fickle) Query(_ context.Context, ref string) (settlement.Answer, error) {
	return settlement.Answer{Reference: ref, Status: settlement.Succeeded, Amount: f[ref]}, nil
}

func (f fickle) Changes(_ context.Context, after string) ([]settlement.Answer, string, error) {
	return nil, after, nil
}

func (f fickle) Credits(_ context.Context, after string) ([]settlement.Credit, string, error) {
	return nil, after, nil
}

func (f fickle) Flush(context.Context, time.Time) error { return nil }

// at lets the books of a bank do something.
func (f fickle) at(w *deedHouse, do func(ctx context.Context, books *settlement.Engine) error) {
	w.t.Helper()
	w.with(func(v *house) error {
		books, err := booksAlone(w.t.Context(), v.db, v.cfg, func(c *settlement.Config) {
			c.Rail, c.Unseal = f, func(context.Context, []byte) (string, error) { return "6228480402564890095", nil }
		})
		if err != nil {
			return err
		}
		return do(w.t.Context(), books)
	})
}

const again = "20261120-" + slowPaid + "-T1-0-R1"

// unheard sends the replacement of what came back to a bank that does not answer,
// long ago; one person says that it failed.
func (w *deedHouse) unheard() {
	w.t.Helper()
	w.silent = fickle{}
	w.silent.at(w, func(ctx context.Context, books *settlement.Engine) error {
		_, err := books.Pay(ctx, time.Now())
		return err
	})
	w.exec("update settlement_payout set submitted = 1 where ref = '" + again + "'")
	w.second(&payoutCall{Do: "decide", Ref: again})
}

// paidAfterAll issues it again, and lets the bank say that it has paid; one person
// asks for the money.
func (w *deedHouse) paidAfterAll() {
	w.t.Helper()
	w.silent.at(w, func(ctx context.Context, books *settlement.Engine) error {
		if _, err := books.Reissue(ctx, again, time.Now()); err != nil {
			return err
		}
		return books.Notified(ctx, again, time.Now())
	})
	w.second(&payoutCall{Do: "recover", Ref: again})
}

// openWallet opens one whose address the house finds in a file.
func (w *deedHouse) openWallet() {
	w.t.Helper()
	s, err := simwallet.Start("127.0.0.1:0", simwallet.Config{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			w.t.Error(err)
		}
	})
	w.put("wallet", s.URL(routing.WeChat))
}

// fetchesBill is what the house does every hour, for one day.
func fetchesBill(ctx context.Context, v *house) error {
	inbox := v.cfg.Clearing.Inbox
	url, err := os.ReadFile(filepath.Join(filepath.Dir(inbox), "wallet"))
	if err != nil {
		return err
	}
	way, err := wallet.New(wallet.Config{Name: routing.WeChat, URL: string(url), Wire: simwallet.TestWire(routing.WeChat, wallet.RSA)})
	if err != nil {
		return err
	}
	defer way.Close()
	return fetchBill(ctx, way, calendar.DateOf(time.Now()).AddDays(-2), inbox)
}

// aCase is the number of the first case.
func (w *deedHouse) aCase() (id string) {
	w.t.Helper()
	w.with(func(v *house) error {
		all, err := v.disputes.Cases(w.t.Context(), dispute.Query{})
		if err == nil {
			id = strconv.FormatInt(all[0].ID, 10)
		}
		return err
	})
	return id
}

func (w *deedHouse) export() {
	good(w.t, append([]string{"dispute", "evidence", w.aCase(), "--out", filepath.Join(w.t.TempDir(), "case.zip")}, w.settings()...)...)
}

// errorFile is one about a payment that nobody knows.
func (w *deedHouse) errorFile() {
	w.t.Helper()
	var b bytes.Buffer
	z := clearing.NewZME(&b, "01020000")
	if err := z.Write(clearing.ErrorItem{Kind: clearing.Retrieval, STAN: 7, Sent: "1123101500", Amount: money.Yuan(9), OriginalSTAN: 77, OriginalSent: "1120101500", Reason: "01", Merchant: slowPaid}); err != nil {
		w.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.put("INNZME_x", b.String())
}

func (w *deedHouse) newPrice() {
	w.put("next.json", `{"plans":[{"code":"MICRO-2025","version":3,"consent_policy":"explicit","rules":[{"channel":"card","ppm":6800,"fixed":"3.00","on_fee_ge_amount":"reject"}],
		"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"repair","amount":"100.00"}]}]}`)
	good(w.t, append([]string{"fees", "import", filepath.Join(w.dir, "next.json")}, w.settings()...)...)
}

// strangeOrder is one that the bank has and we never gave.
func (w *deedHouse) strangeOrder() {
	w.t.Helper()
	w.exec("delete from settlement_feed where name in ('bank', 'bank at')") // another bank tells from its beginning
	rail, err := settlement.NewHTTPRail(w.live.URL(), time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rail.Close()
	if _, err := rail.Send(w.t.Context(), settlement.Instruction{Reference: "STRANGE-1", Amount: money.Yuan(3), Account: settlement.NewNumber("6228480402564890018"), Name: "x", Bank: "ABC"}); err != nil {
		w.t.Fatal(err)
	}
}

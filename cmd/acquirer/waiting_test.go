package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/calendar"
	"acquirer/console"
	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/settlement/dispute"
	"acquirer/settlement/reconcile"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
	"acquirer/store/storetest"
	switching "acquirer/switch"
)

const (
	waitFriday calendar.Date = 20261120
	waitMonday calendar.Date = 20261123
)

// office is a house without listeners, with a bank that is real but for its
// money, in which things are left undone.
type office struct {
	t    *testing.T
	db   *store.DB
	bank *simbank.Bank
	d    *desk
	n    int32           // sales so far
	seen map[string]bool // kinds that waited, " second" behind those that one person asked for; and commands
}

func clockAt(day calendar.Date, hour, minute int) time.Time {
	return day.Time().Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
}

func newOffice(t *testing.T, db *store.DB) *office {
	t.Helper()
	o := &office{t: t, db: db, seen: map[string]bool{}}
	reg, err := merchant.OpenRegistry(t.Context(), db)
	o.must(err)
	o.bank, err = simbank.Start("127.0.0.1:0", simbank.Config{Opening: money.Yuan(1_000_000), Silence: 10 * time.Millisecond, Slow: time.Millisecond})
	o.must(err)
	rail, err := settlement.NewHTTPRail(o.bank.URL(), 30*time.Second)
	o.must(err)
	t.Cleanup(func() {
		rail.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		o.must(o.bank.Close(ctx))
	})
	j := journal.New(db, nil)
	books, err := settlement.New(settlement.Config{DB: db, Source: settlement.FromJournal(j, switching.EntryOf), Merchants: reg, Rail: rail, WalletCutOff: calendar.CardCutoff, NotFoundAfter: time.Hour,
		Seal:   func(_ context.Context, number string) ([]byte, error) { return []byte(number), nil },
		Unseal: func(_ context.Context, sealed []byte) (string, error) { return string(sealed), nil }})
	o.must(err)
	recon, err := reconcile.New(reconcile.Config{DB: db, Books: books, ID: journal.IDOf, Sources: []reconcile.Source{{Name: "north"}},
		Journal: seenInJournal(j), Terminals: terminalBreaks(j), ResolveTerminal: j.Resolve})
	o.must(err)
	cases, err := dispute.New(dispute.Config{DB: db, Books: books})
	o.must(err)
	o.d = &desk{books: books, recon: recon, disputes: cases, journal: j, merchants: reg}
	o.must(books.Ledger().Post(t.Context(), ledger.OwnFunds("start", waitFriday, money.Yuan(100_000))))
	return o
}

func (o *office) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// shop registers a merchant; the weather is what the bank makes of its account.
func (o *office) shop(n int, weather simbank.Weather) string {
	o.t.Helper()
	mid := "8981100541200" + strconv.Itoa(10+n)
	o.must(o.d.merchants.Put(o.t.Context(), []merchant.Merchant{{MID: mid, Name: "shop " + string(weather), MCC: "5999", Status: merchant.Active, Plan: "ESIGN-STD", Speed: merchant.T1, Tier: merchant.Assessed,
		Account: merchant.Account{Sealed: []byte("62284804" + mid[9:] + string(weather)), Name: "owner", Bank: "ABC", Class: 1}}}, nil))
	return mid
}

// sale is one of 100.00 at noon, with how it ended.
func (o *office) sale(mid string, day calendar.Date, reason journal.Reason) (*journal.Transaction, journal.Closed) {
	o.t.Helper()
	o.n++
	id, noon := store.NewID(), clockAt(day, 12, 0)
	rrn := strings.ToUpper(strconv.FormatInt(id, 36))
	x := &journal.Transaction{ID: id, Key: journal.Key{Day: day, Terminal: "10000001", Batch: 1, STAN: o.n, Kind: journal.Sale}, Merchant: mid, MTI: 0x0200, Amount: 100_00, Currency: 156,
		PANMasked: "621000******0018", Channel: journal.Credit, Issuer: "north", RRN: strings.Repeat("0", 12-len(rrn)) + rrn, Opened: noon, Deadline: noon.Add(time.Minute)}
	_, err := o.d.journal.Open(o.t.Context(), x)
	o.must(err)
	closed, err := o.d.journal.Close(o.t.Context(), x, journal.Outcome{Reason: reason, Approval: "123456", Closed: noon.Add(time.Second)})
	o.must(err)
	return x, closed
}

func (o *office) pay(now time.Time) {
	o.t.Helper()
	_, err := o.d.books.Pay(o.t.Context(), now)
	o.must(err)
}

// look lists what waits and remembers what kinds were seen.
func (o *office) look(now time.Time) []console.Wait {
	o.t.Helper()
	all, err := o.d.waits(o.t.Context(), now, 100)
	o.must(err)
	console.SortWaits(all, now)
	for _, w := range all {
		o.seen[strings.TrimSpace(w.Kind+map[bool]string{true: " second"}[w.By != ""])] = true
		if w.What == (console.Words{}) || len(w.Commands) == 0 && w.Kind != "batch" || w.By != "" && len(w.Commands) != 1 || w.Since.IsZero() {
			o.t.Errorf("a row says too little: %+v", w)
		}
		if strings.Contains(strings.Join(w.Commands, "")+w.What.EN+w.What.ZH+w.Ref, "6228480") {
			o.t.Errorf("a row shows an account number: %+v", w)
		}
		for _, c := range w.Commands {
			if o.seen[c] {
				continue
			}
			o.seen[c] = true
			if err := wouldRun(c); err != nil {
				o.t.Errorf("%s: %s: %v", w.Kind, c, err)
			}
		}
	}
	return all
}

// sees compares a row, found by kind and part of its reference, with what it
// should say; want is parts of its command, its words and its address.
func (o *office) sees(now time.Time, kind, ref, by string, amount money.Amount, since time.Time, want ...string) {
	o.t.Helper()
	all := o.look(now)
	i := slices.IndexFunc(all, func(w console.Wait) bool { return w.Kind == kind && strings.Contains(w.Ref, ref) })
	if i < 0 {
		o.t.Errorf("no %s about %s among %+v", kind, ref, all)
		return
	}
	w := all[i]
	if w.By != by || w.Amount != amount || w.Since.Before(since) || w.Since.After(since.Add(10*time.Minute)) { // answers are noted when they come
		o.t.Errorf("%s: %s, asked by %q since %s; want %s, %q, %s", kind, w.Amount, w.By, w.Since, amount, by, since)
	}
	for _, part := range want {
		if text := strings.Join(w.Commands, "\n") + "\n" + w.What.EN + "\n" + w.Href; !strings.Contains(text, part) {
			o.t.Errorf("%s: %q is not in %q", kind, part, text)
		}
	}
}

// gone says that nothing of a kind waits any more.
func (o *office) gone(now time.Time, kind string) {
	o.t.Helper()
	if all := o.look(now); slices.ContainsFunc(all, func(w console.Wait) bool { return w.Kind == kind }) {
		o.t.Errorf("%s still waits: %+v", kind, all)
	}
}

// Whatever waits for a person or for a second one is in the list, says since when,
// by whom, what it would do and with which command, and leaves it when it is done.
func TestEverythingThatWaits(t *testing.T) {
	storetest.Each(t, schemas(), func(t *testing.T, db *store.DB) {
		o := newOffice(t, db)
		if all := o.look(clockAt(waitFriday, 9, 0)); len(all) != 0 {
			t.Errorf("on an empty desk: %+v", all)
		}
		o.payouts()
		o.merchantsMoney()
		o.othersBooks()
		o.pricesAndTheRest()
		for _, kind := range []string{"recover second", "decide second", "unwatch second", "hold second", "release second", "account second", "resolve", "resolve second", "sign", "sign second", "told second",
			"answer", "close second", "unknown", "manual", "batch", "objected", "unanswered", "payout_failed", "payout_returned", "payout_long", "payout_slow", "payout_held", "receipt",
			"credit", "credit second", "arrears", "unpriced", "bank_answer", "bank_changed", "bank_file", "late_success", "payable_short", "dispute"} {
			if !o.seen[kind] {
				t.Errorf("nothing of kind %s ever waited", kind)
			}
		}
	})
}

// payouts that the bank refuses, sends back, does not answer, or pays after all.
func (o *office) payouts() {
	o.t.Helper()
	ctx, books := o.t.Context(), o.d.books
	refs := map[string]string{}
	for n, x := range []struct {
		name    string
		weather simbank.Weather
	}{{"silent", simbank.SilentThenLate}, {"decided", simbank.SilentThenLate}, {"failed", simbank.Closed}, {"back", simbank.Bounces}, {"long", simbank.Resurrects}, {"taken", simbank.Resurrects},
		{"lost", simbank.Resurrects}, {"slow", simbank.Late}, {"fair", "00"}} {
		mid := o.shop(n, x.weather)
		o.sale(mid, waitFriday, journal.Approved)
		refs[x.name] = "20261120-" + mid + "-T1-0"
	}
	_, err := books.CloseDay(ctx, waitFriday, clockAt(waitFriday, 23, 5), false)
	o.must(err)

	ten := clockAt(waitMonday, 10, 0)
	o.pay(ten)
	o.sees(ten, "payout_failed", refs["failed"], "", 99_40, ten, "payout reissue "+refs["failed"], "/settlement?date=2026-11-20", "failed")
	o.sees(ten.Add(time.Minute), "unknown", refs["silent"], "", 99_40, ten, "payout show "+refs["silent"], "never sent again")

	// One is decided in the bank's place.
	eleven := clockAt(waitMonday, 11, 0)
	_, err = books.Decide(ctx, refs["decided"], true, "li", eleven)
	o.must(err)
	o.sees(eleven, "unknown", refs["silent"], "", 99_40, ten, "payout decide "+refs["silent"]+" paid\n", "payout decide "+refs["silent"]+" failed\n")
	o.sees(eleven, "decide", refs["decided"], "li", 99_40, eleven, "payout decide "+refs["decided"]+" paid", "it was paid", "/settlement?date=2026-11-20")
	_, err = books.Decide(ctx, refs["decided"], true, "wang", eleven)
	o.must(err)
	o.gone(eleven, "decide")

	// One is replaced, and its replacement paid before the bank pays it after all; two
	// others are replaced when it has.
	mid := refs["lost"][9:24]
	m, _ := o.d.merchants.Merchant([]byte(mid))
	good := *m
	good.Account.Sealed = []byte("6228480400000000")
	o.must(o.d.merchants.Put(ctx, []merchant.Merchant{good}, nil))
	_, err = books.Reissue(ctx, refs["lost"], eleven)
	o.must(err)
	late := clockAt(waitMonday, 11, 5)
	o.pay(late)
	o.sees(late, "payout_slow", refs["slow"], "", 99_40, late, "payout decide "+refs["slow"]+" failed\n", "still processing")
	o.bank.Advance(1)
	tuesday := clockAt(waitMonday.AddDays(1), 10, 0)
	for _, name := range []string{"long", "taken"} {
		_, err = books.Reissue(ctx, refs[name], tuesday)
		o.must(errors.Join(err, books.Notified(ctx, refs[name], tuesday)))
	}
	o.pay(tuesday)
	o.sees(tuesday, "payout_held", refs["long"]+"-R1", "", 99_40, tuesday, "payout show "+refs["long"]+"-R1", "/settlement?date=2026-11-20")
	o.sees(tuesday, "payout_returned", refs["back"], "", 99_40, tuesday, "payout reissue "+refs["back"], "another card")
	o.sees(tuesday, "payout_long", refs["long"], "", 99_40, tuesday, "payout recover "+refs["long"])
	for name, loss := range map[string]bool{"taken": false, "lost": true} {
		_, err = books.Recover(ctx, refs[name], loss, "li", tuesday)
		o.must(err)
	}
	o.sees(tuesday, "recover", refs["taken"], "li", 99_40, tuesday, "payout recover "+refs["taken"], "take it from the merchant; "+refs["taken"]+"-R1 is given up")
	o.sees(tuesday, "recover", refs["lost"], "li", 99_40, tuesday, "payout recover "+refs["lost"]+" --write-off", "give it up as a loss")
	for name, loss := range map[string]bool{"taken": false, "lost": true} {
		done, err := books.Recover(ctx, refs[name], loss, "wang", tuesday)
		if o.must(err); !done {
			o.t.Errorf("%s was not recovered", name)
		}
	}
	o.gone(tuesday, "recover")
}

// A command is given as it stands: what a name holds does not end the word.
func TestShellWord(t *testing.T) {
	for s, want := range map[string]string{"hand/north/N-1": "hand/north/N-1", "case 4711": "'case 4711'", "it's; rm *": `'it'\''s; rm *'`, "": "''"} {
		if got := shellWord(s); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
	}
}

// merchantsMoney is what people do to it: holds, watches, other accounts.
func (o *office) merchantsMoney() {
	o.t.Helper()
	ctx, books, now := o.t.Context(), o.d.books, clockAt(waitMonday.AddDays(1), 11, 0)
	mid := o.shop(30, "00")
	o.sale(mid, waitMonday, journal.Approved)
	_, err := books.CatchUp(ctx)
	o.must(err)
	o.must(books.AskHold(ctx, settlement.Hold{Key: "case 4711", Merchant: mid, Amount: 60_00, Reason: "own card", AskedBy: "li"}, now))
	o.sees(now, "hold", "case 4711", "li", 60_00, now, "settle hold confirm 'case 4711'", "own card", "/settlement#holds")
	o.must(books.ConfirmHold(ctx, "case 4711", "wang", now))
	o.gone(now, "hold")
	o.must(books.AskRelease(ctx, "case 4711", "zhao", now.Add(time.Hour)))
	o.sees(now.Add(time.Hour), "release", "case 4711", "zhao", 60_00, now.Add(time.Hour), "settle release confirm 'case 4711'")
	o.must(books.Release(ctx, "case 4711", "wang", now.Add(time.Hour)))
	o.gone(now.Add(time.Hour), "release")

	o.must(books.Watch(ctx, settlement.Watch{Merchant: mid, Reason: "many refunds", SetBy: "li"}, now))
	o.gone(now, "unwatch")
	_, err = books.Unwatch(ctx, mid, "zhao", now.Add(time.Minute))
	o.must(err)
	o.sees(now.Add(time.Minute), "unwatch", mid, "zhao", 0, now.Add(time.Minute), "settle unwatch "+mid, "many refunds", "/reports?merchant="+mid)
	_, err = books.Unwatch(ctx, mid, "wang", now.Add(time.Minute))
	o.must(err)
	o.gone(now, "unwatch")

	ask := settlement.AccountChange{Merchant: mid, Account: merchant.Account{Bank: "ICBC", Class: 1}, Why: "card lost", AskedBy: "li"}
	o.must(books.AskAccount(ctx, ask, settlement.NewNumber("6228480402564890018"), now))
	o.sees(now, "account", mid, "li", 0, now, "settle account confirm "+mid+" LAST4", "owner at ICBC: card lost")
	_, err = books.ConfirmAccount(ctx, mid, "0018", "wang", now)
	o.must(err)
	o.gone(now, "account")
}

// othersBooks is what differs from them, and what their owners take back.
func (o *office) othersBooks() {
	o.t.Helper()
	ctx, recon := o.t.Context(), o.d.recon
	day := waitMonday.AddDays(1)
	mid := o.shop(40, "00")
	dear, _ := o.sale(mid, day, journal.Approved)
	cheap, _ := o.sale(mid, day, journal.Approved)
	found := clockAt(day, 22, 0)
	o.must(o.db.Write(ctx, func(tx store.Tx) error { // as the switch writes what a terminal uploads
		_, err := tx.Exec("insert into uploaded (id, day, terminal, merchant, batch, stan, form, amount, masked, txn, what, at, resolved) values ($1,$2,'10000001',$3,1,9,'',100,'',0,$4,$5,0)",
			store.NewID(), day, mid, string(journal.NotHere), found.UnixMicro())
		return err
	}))
	o.sees(found, "batch", "10000001 000001", "", 1_00, found, "/batches#differences")

	file := filepath.Join(o.t.TempDir(), "north.txt")
	var b bytes.Buffer
	f, err := clearing.NewWriter(&b, clearing.Header{Source: "north", Acquirer: "48020000", Date: day})
	o.must(err)
	for _, x := range []*journal.Transaction{dear, cheap} {
		o.must(f.Write(clearing.Record{Kind: clearing.Sale, RRN: x.RRN, Sent: "1124120000", Terminal: "10000001", Merchant: mid, Amount: x.Amount - 10_00}))
	}
	_, err = f.Close()
	o.must(errors.Join(err, os.WriteFile(file, b.Bytes(), 0o600)))
	in, end, err := recon.OpenFile(file, "", 0)
	o.must(err)
	now := clockAt(day.AddDays(1), 9, 0)
	_, err = recon.Load(ctx, in, now)
	o.must(errors.Join(err, end()))
	_, err = recon.Compare(ctx, day, now)
	o.must(err)
	open, err := recon.Breaks(ctx, reconcile.Query{State: reconcile.Open, Limit: 10})
	o.must(err)
	if len(open) != 3 {
		o.t.Fatalf("open are %+v", open)
	}
	o.gone(now, "batch") // it is a break now
	number := func(rrn string) string {
		i := slices.IndexFunc(open, func(b reconcile.Break) bool { return b.RRN == rrn })
		return strconv.FormatInt(open[i].ID, 10)
	}
	o.sees(now, "resolve", "amount "+dear.RRN, "", -10_00, now, "reconcile resolve "+number(dear.RRN)+" merchant\n", number(dear.RRN)+" write_off\n", "here 100.00, there 90.00; merchant D", "/transactions/"+strconv.FormatInt(dear.ID, 10))
	for _, b := range open {
		_, _, err = recon.Resolve(ctx, b.ID, b.Suggested()[0], "", reconcile.Who{Name: "li"}, now.Add(time.Minute))
		o.must(err)
	}
	o.sees(now.Add(time.Minute), "resolve", "amount "+cheap.RRN, "li", -10_00, now.Add(time.Minute), "reconcile resolve "+number(cheap.RRN)+" merchant", "there 90.00; merchant D")
	o.gone(now.Add(time.Minute), "sign")
	for _, b := range open {
		_, _, err = recon.Resolve(ctx, b.ID, b.Suggested()[0], "", reconcile.Who{Name: "wang"}, now.Add(time.Minute))
		o.must(err)
	}
	o.gone(now.Add(time.Minute), "resolve")
	o.sees(now, "sign", day.String(), "", 0, now, "reconcile sign-off --date "+day.String(), "/compared#compared-days")
	_, err = recon.SignOff(ctx, day, reconcile.Who{Name: "li"}, now.Add(time.Hour))
	o.must(err)
	o.sees(now.Add(time.Hour), "sign", day.String(), "li", 0, now.Add(time.Hour), "reconcile sign-off")
	_, err = recon.SignOff(ctx, day, reconcile.Who{Name: "wang"}, now.Add(time.Hour))
	o.must(err)
	o.gone(now.Add(time.Hour), "sign")

	// A dispute: told by letter, confirmed, to be answered, ended by hand.
	cases, who := o.d.disputes, dispute.Who{Name: "li"}
	it := dispute.Item{Key: "hand/north/N-1", Source: "north", Stage: dispute.Retrieval, Amount: 100_00, Reason: "4853", Date: day.AddDays(1),
		Payment: dispute.Payment{Txn: dear.ID, RRN: dear.RRN, Merchant: mid, Amount: 100_00, Date: day}}
	_, err = cases.Tell(ctx, it, who, now)
	o.must(err)
	o.sees(now, "told", dear.RRN, "li", 100_00, now, "dispute confirm hand/north/N-1", "retrieval of north, reason 4853", "/transactions/"+strconv.FormatInt(dear.ID, 10))
	c, err := cases.Confirm(ctx, it.Key, false, dispute.Who{Name: "wang"}, now)
	o.must(err)
	o.gone(now, "told")
	o.gone(now, "dispute") // the task about it is this row
	o.sees(now, "answer", strconv.FormatInt(c.ID, 10), "", 100_00, now, "dispute answer "+strconv.FormatInt(c.ID, 10)+" fulfil")
	all := o.look(clockAt(c.Due, 9, 0))
	if w := all[0]; w.Kind != "answer" || !w.Pressing(clockAt(c.Due, 9, 0)) || !w.Due.Equal(c.Due.AddDays(1).Time()) {
		o.t.Errorf("on its last day the most urgent is %+v", w)
	}
	_, _, err = cases.Close(ctx, c.ID, dispute.Closed, "letter", who, now.Add(time.Hour))
	o.must(err)
	o.sees(now.Add(time.Hour), "close", strconv.FormatInt(c.ID, 10), "li", 100_00, now.Add(time.Hour), "dispute close "+strconv.FormatInt(c.ID, 10)+" closed", "end it as closed")
	_, _, err = cases.Close(ctx, c.ID, dispute.Closed, "letter", dispute.Who{Name: "wang"}, now.Add(time.Hour))
	o.must(err)
	o.gone(now.Add(time.Hour), "close")
}

// pricesAndTheRest are prices that merchants have not agreed to, a reversal that was
// given up, and tasks of other kinds.
func (o *office) pricesAndTheRest() {
	o.t.Helper()
	ctx, reg := o.t.Context(), o.d.merchants
	now := clockAt(waitMonday.AddDays(3), 9, 0)
	o.must(reg.ImportPlans(ctx, strings.NewReader(`{"plans":[{"code":"ESIGN-STD","version":3,"consent_policy":"explicit","rules":[{"channel":"card","ppm":6800,"fixed":"3.00","on_fee_ge_amount":"reject"}],
		"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"repair","amount":"100.00"}]}]}`)))
	today := calendar.DateOf(now)
	_, err := reg.Announce(ctx, "ESIGN-STD", 3, today.AddDays(40), today)
	o.must(err)
	o.sees(now, "unanswered", "ESIGN-STD v3", "", 0, today.Time(), "fees notices --plan ESIGN-STD --plan-version 3", "have not answered")
	_, err = reg.Answer(ctx, "898110054120010", 3, merchant.Objected, today)
	o.must(err)
	o.sees(now, "objected", "ESIGN-STD v3", "", 0, today.Time(), "fees notices", "1 keep their price")
	if all := o.look(clockAt(today.AddDays(40), 9, 0)); slices.ContainsFunc(all, func(w console.Wait) bool { return w.Kind == "objected" || w.Kind == "unanswered" }) {
		o.t.Errorf("after the price has started: %+v", all)
	}

	x, closed := o.sale("898110054120010", waitMonday, journal.Unanswered)
	o.must(o.d.journal.GiveUpOn(ctx, closed.DebtID, "20 tries, the last: timeout"))
	given, err := o.d.journal.Get(ctx, x.ID)
	o.must(err)
	o.sees(now, "manual", x.RRN, "", 100_00, given.Debt.Created, "owed resolve "+x.RRN, "north: 20 tries", "/transactions/")

	sum, err := o.d.books.Expected(ctx, waitFriday, "")
	o.must(err)
	o.must(o.d.books.Receive(ctx, settlement.Receipt{Date: waitFriday, Received: sum - 1, Reference: "NET20261120"}, now))
	o.sees(now, "receipt", "NET20261120", "", 0, now, "payout done receipt/NET20261120")

	// What came and nobody knows; and what the bank says otherwise the second time,
	// which is a task of its own.
	o.must(o.d.books.TakeCredit(ctx, settlement.Credit{Entry: "R 1", Reference: "rent", Amount: 77_00, Booked: today}, now))
	o.must(o.d.books.TakeCredit(ctx, settlement.Credit{Entry: "R 1", Reference: "rent", Amount: 78_00, Booked: today}, now))
	o.sees(now, "credit", "R 1", "", 77_00, now, "settle credit assign 'R 1' --payer PAYER --date DATE\n", "settle credit back 'R 1'\n", `"rent"`, "no rule")
	if all := o.look(now); !slices.ContainsFunc(all, func(w console.Wait) bool { return w.Kind == "credit" && strings.Contains(w.What.EN, "ask the bank") }) {
		o.t.Errorf("the bank changed its word, and no row says so: %+v", all)
	}
	o.must(o.d.books.Done(ctx, "credit_differs/R 1", now))
	later := now.Add(time.Hour)
	for _, x := range [][2]string{{"", "credit back 'R 1'\nit went back"}, {"alipay", "--payer alipay --date 2026-11-20\nwhat alipay pays for 2026-11-20: "}} {
		_, err = o.d.books.AssignCredit(ctx, "R 1", x[0], waitFriday, "li", later)
		o.must(err)
		o.sees(later, "credit", "R 1", "li", 77_00, later, x[1])
	}
	done, err := o.d.books.AssignCredit(ctx, "R 1", "alipay", waitFriday, "wang", later)
	if o.must(err); !done {
		o.t.Error("two people said so, and the credit is not booked")
	}
	o.gone(later, "credit")

	for _, kind := range []string{"arrears", "unpriced", "bank_answer", "bank_changed", "bank_file", "late_success", "payable_short", "dispute"} { // as those who find them write them
		key := kind + "/a b"
		o.must(o.d.books.AddTask(ctx, settlement.Task{Key: key, Kind: kind, Merchant: "898110054120010", Ref: "7", Text: "look", Created: now}))
		o.sees(now, kind, "7", "", 0, now, `payout done '`+kind+`/a b' --note`, "look")
		o.must(o.d.books.Done(ctx, key, now))
		o.gone(now, kind)
	}

	// What is counted: of the first turn without what has an end of its own.
	metrics := prometheus.NewPedanticRegistry()
	o.must(metrics.Register(newWaitGauge(o.d)))
	families, err := metrics.Gather()
	o.must(err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
		}
	}
	waits, seconds := 0, 0
	for _, w := range o.look(time.Now()) {
		if waits++; w.By != "" {
			seconds++
		}
	}
	if first, second := got["acquirer_waiting first"], got["acquirer_waiting second"]; waits == 0 || first+second != float64(waits) || second != float64(seconds) {
		o.t.Errorf("%v, and %d wait, %d for a second person", got, waits, seconds)
	}
	if got["acquirer_waiting_oldest_seconds first"] <= 0 {
		o.t.Errorf("%v", got)
	}
}

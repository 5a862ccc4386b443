package settlement

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

const (
	networkAccount = "9999000000000101"
	alipayAccount  = "9999000000000102"
)

// payers are the rules of the tests.
var payers = []Payer{
	{Account: networkAccount, Reference: "NET{date}*"},
	{Wallet: "alipay", Account: alipayAccount, Reference: "ALIPAY{date}"},
}

// booksCredits lets the house book by itself what comes.
func (w *world) booksCredits() {
	w.cfg.Payers = payers
	if r, files := w.cfg.Rail.(*FileRail); files {
		r.cfg.Credits = true
	}
}

// creditsOf lists the credits by what their payers wrote.
func creditsOf(t *testing.T, e *Engine) map[string]Credited {
	t.Helper()
	list, err := e.Credits(t.Context(), false, 1000)
	must(t, err)
	out := map[string]Credited{}
	for _, c := range list {
		out[c.Reference] = c
	}
	return out
}

func taskKinds(t *testing.T, e *Engine, kind string) (keys []string) {
	t.Helper()
	tasks, err := e.Tasks(t.Context(), 1000)
	must(t, err)
	for _, x := range tasks {
		if x.Kind == kind {
			keys = append(keys, x.Key)
		}
	}
	return keys
}

func verified(t *testing.T, w *world, e *Engine) {
	t.Helper()
	w.sound(e)
	if r, err := e.VerifyJournal(t.Context()); err != nil || len(r.Problems) > 0 {
		t.Fatalf("the ledger against what it stands for: %+v, %v", r, err)
	}
}

// bothSold is a Friday of which the network and Alipay owe something.
func bothSold(t *testing.T, w *world, e *Engine) (network, alipay money.Amount) {
	t.Helper()
	mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
	w.sale(mid, friday, 1000_00)
	w.sale(mid, friday, 500_00)
	w.book.mu.Lock()
	w.book.facts[len(w.book.facts)-1].Channel, w.book.facts[len(w.book.facts)-1].Wallet = merchant.QR, "alipay"
	w.book.mu.Unlock()
	w.close(e, friday)
	for wallet, to := range map[string]*money.Amount{"": &network, "alipay": &alipay} {
		var err error
		*to, err = e.Expected(t.Context(), friday, wallet)
		must(t, err)
	}
	return network, alipay
}

// The house books by itself what networks and wallets pay: once for an entry of
// the statement, whatever way it comes; what nobody knows is in suspense and
// covers no payout.
func TestCreditsAreBookedOnce(t *testing.T) {
	eachRail(t, func(t *testing.T, w *world) {
		w.booksCredits()
		w.cfg.Covered = true
		e := w.engine()
		network, alipay := bothSold(t, w, e)
		if p := w.exchange(e, clock(monday, 8, 0)); p.Sent != 0 || p.Held != 1 {
			t.Fatalf("before anybody paid: %+v", p)
		}
		w.bank.Receive("NET20261120 CUPS", "6222000000000001", network, false) // from a stranger's account
		w.bank.Receive("HELLO", "", 77_00, false)
		if p := w.exchange(e, clock(monday, 8, 1)); p.Sent != 0 || p.Held != 1 {
			t.Fatalf("money that nobody knows covers a payout: %+v", p)
		}
		got := creditsOf(t, e)
		for ref, account := range map[string]string{"NET20261120 CUPS": "622200******0001", "HELLO": ""} {
			if c := got[ref]; w.folder == "" && (c.State != CreditSuspense || c.Payer != "" || c.Account != account) {
				t.Errorf("%s is %+v", ref, c)
			}
		}
		if keys := taskKinds(t, e, "credit"); len(keys) != 2 || w.balance(e, ledger.SuspenseLong, "") != network+77_00 || w.balance(e, ledger.ClientBank, "") != network+77_00 {
			t.Errorf("tasks %v, 2301 %s, 1001 %s", keys, w.balance(e, ledger.SuspenseLong, ""), w.balance(e, ledger.ClientBank, ""))
		}
		verified(t, w, e)

		w.bank.Receive("NET20261120", networkAccount, network, true) // told twice
		w.bank.Receive("ALIPAY2026-11-20", alipayAccount, alipay-100_00, false)
		p := w.exchange(e, clock(monday, 9, 0))
		if p.Sent != 0 || p.Held != 1 { // a hundred are missing for the one payout
			t.Errorf("a hundred short: %+v", p)
		}
		got = creditsOf(t, e)
		if c := got["NET20261120"]; c.State != CreditReceipt || c.Payer != Network || c.Date != friday || c.suspense {
			t.Errorf("the network's: %+v", c)
		}
		if keys := taskKinds(t, e, "receipt"); len(keys) != 1 || w.balance(e, ledger.SuspenseShort, "") != 100_00 {
			t.Errorf("of what is missing: tasks %v, 1901 %s", keys, w.balance(e, ledger.SuspenseShort, ""))
		}
		if w.balance(e, ledger.NetworkReceivable, "") != 0 || w.balance(e, ledger.QRReceivable, "") != 0 {
			t.Error("something is owed still")
		}
		verified(t, w, e)

		w.bank.Receive("ALIPAY20261120", alipayAccount, 100_00, false) // it comes after all
		w.bank.Receive("NET20261120-2", networkAccount, 5_00, false)   // nobody knows why
		w.exchange(e, clock(monday, 9, 30))
		got = creditsOf(t, e)
		if c := got["ALIPAY20261120"]; c.State != CreditMore || w.balance(e, ledger.SuspenseShort, "") != 0 {
			t.Errorf("what was missing: %+v, 1901 %s", c, w.balance(e, ledger.SuspenseShort, ""))
		}
		if c := got["NET20261120-2"]; c.State != CreditSuspense || !strings.Contains(c.Why, "was paid by network before") {
			t.Errorf("a second payment: %+v", c)
		}
		if p := w.exchange(e, clock(monday, 9, 31)); p.Held != 0 {
			t.Errorf("all is there: %+v", p)
		}
		before := w.tables()
		w.exchange(e, clock(monday, 9, 32))
		for range 3 {
			w.exchange(e, clock(monday, 9, 33))
		}
		verified(t, w, e)
		if w.folder == "" && w.tables() != before { // payouts by files go on
			t.Errorf("turns without news changed something:\n%s", difference(before, w.tables()))
		}
		if list, err := e.Credits(t.Context(), true, 100); err != nil || len(list) != 3 {
			t.Errorf("in suspense are %+v, %v", list, err)
		}
	})
}

// What comes before its date is closed waits in suspense without a person, and is
// the receipt when it is closed; what is for a day to come is a person's.
func TestCreditsBeforeTheClose(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.booksCredits()
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		must(t, e.Begin(t.Context(), clock(friday, 8, 0)))
		w.sale(mid, friday, 1000_00)
		w.bank.Receive("NET20261120", networkAccount, 995_00, false)
		w.bank.Receive("NET20361120", networkAccount, 1_00, false)
		w.pay(e, clock(friday, 22, 0))
		got := creditsOf(t, e)
		if c := got["NET20261120"]; c.State != CreditSuspense || c.Why != notClosed || c.Date != friday {
			t.Errorf("before the close: %+v", c)
		}
		if keys := taskKinds(t, e, "credit"); len(keys) != 1 || keys[0] != "credit/"+got["NET20361120"].Entry {
			t.Errorf("tasks %v", keys)
		}
		verified(t, w, e)
		w.close(e, friday)
		w.pay(e, clock(monday, 9, 0))
		if c := creditsOf(t, e)["NET20261120"]; c.State != CreditReceipt || !c.suspense {
			t.Errorf("after the close: %+v", c)
		}
		want, err := e.Expected(t.Context(), friday, "")
		must(t, err)
		if short, long := w.balance(e, ledger.SuspenseShort, ""), w.balance(e, ledger.SuspenseLong, ""); want-995_00 != short || long != 1_00 || w.balance(e, ledger.NetworkReceivable, "") != 0 {
			t.Errorf("%s was expected; 1901 %s, 2301 %s", want, short, long)
		}
		verified(t, w, e)
	})
}

// What a person has booked is the statement's entry when it is as much; otherwise
// the statement's is in suspense, and two people end it.
func TestCreditsAndPeople(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.booksCredits()
		e := w.engine()
		network, alipay := bothSold(t, w, e)
		must(t, e.Receive(ctx, Receipt{Date: friday, Received: network, Reference: "BY-HAND-1"}, clock(monday, 8, 0)))
		must(t, e.Receive(ctx, Receipt{Date: friday, Wallet: "alipay", Received: alipay, Reference: "BY-HAND-2"}, clock(monday, 8, 0)))
		w.bank.Receive("NET20261120", networkAccount, network, false)
		w.bank.Receive("ALIPAY20261120", alipayAccount, alipay+1_00, false)
		w.bank.Receive("A GIFT", "", 10_00, false)
		w.pay(e, clock(monday, 9, 0))
		got := creditsOf(t, e)
		if c := got["NET20261120"]; c.State != CreditReceipt || c.suspense {
			t.Errorf("what was booked by hand: %+v", c)
		}
		if c := got["ALIPAY20261120"]; c.State != CreditSuspense {
			t.Errorf("what was booked otherwise: %+v", c)
		}
		if w.balance(e, ledger.SuspenseLong, "") != alipay+11_00 {
			t.Errorf("2301 is %s", w.balance(e, ledger.SuspenseLong, ""))
		}
		verified(t, w, e)

		hand, gift := got["ALIPAY20261120"].Entry, got["A GIFT"].Entry
		says := func(entry, payer string, day calendar.Date, who string, want bool, wrong string) {
			t.Helper()
			done, err := e.AssignCredit(ctx, entry, payer, day, who, clock(monday, 10, 0))
			if done != want || (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s of %s for %s %s: %t, %v", who, entry, payer, day, done, err)
			}
		}
		says("NOBODY", "", 0, "wang", false, "no credit has the entry")
		says(gift, Network, saturday, "wang", false, "")
		says(gift, Network, saturday, "wang", false, "a second person")
		says(gift, "", 0, "li", false, "") // another word begins anew
		says(gift, Network, saturday, "wang", false, "")
		says(gift, Network, saturday, "li", false, "not closed yet")
		says(gift, Network, friday, "wang", false, "")
		says(gift, Network, friday, "li", false, "was paid by network before")
		says(gift, "", 0, "wang", false, "")
		says(gift, "", 0, "li", true, "")
		says(gift, "", 0, "li", false, "in suspense no more")
		says(hand, "", 0, "wang", false, "")
		says(hand, "", 0, "li", true, "") // it was booked already
		if w.balance(e, ledger.SuspenseLong, "") != 0 || w.balance(e, ledger.ClientBank, "")+paidOut(w) != network+alipay || len(taskKinds(t, e, "credit")) != 0 {
			t.Errorf("2301 %s, 1001 %s, tasks %v", w.balance(e, ledger.SuspenseLong, ""), w.balance(e, ledger.ClientBank, ""), taskKinds(t, e, "credit"))
		}
		verified(t, w, e)

		// A date that nobody has paid takes what two people say.
		w.sale("898110054110001", saturday, 300_00)
		w.close(e, saturday)
		w.bank.Receive("no date", networkAccount, 5_00, false)
		w.pay(e, clock(monday, 11, 0))
		lost := creditsOf(t, e)["no date"].Entry
		says(lost, Network, saturday, "wang", false, "")
		says(lost, Network, saturday, "li", true, "")
		if c := creditsOf(t, e)["no date"]; c.State != CreditReceipt || c.DoneBy != "li" {
			t.Errorf("%+v", c)
		}
		verified(t, w, e)
	})
}

// paidOut is what left the merchants' account at the bank.
func paidOut(w *world) (sum money.Amount) {
	for _, p := range w.bank.Payouts() {
		if p.Status == "SUCCEEDED" {
			sum += p.Amount
		}
	}
	return sum
}

// Several nodes that read the same statement at once book each entry once.
func TestCreditsOnSeveralNodes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.booksCredits()
		e := w.engine()
		network, _ := bothSold(t, w, e)
		const strangers = 40
		for i := range strangers {
			w.bank.Receive(fmt.Sprintf("S%d", i), "", 1_00, i%3 == 0)
		}
		w.bank.Receive("NET20261120", networkAccount, network, true)
		w.bank.Receive("NET20261120", networkAccount, network, false) // it pays twice
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			node := w.engine()
			wg.Go(func() { errs[i] = node.takeCredits(t.Context(), clock(monday, 9, i)) })
		}
		wg.Wait()
		must(t, errors.Join(errs...))
		list, err := e.Credits(t.Context(), false, 1000)
		must(t, err)
		receipts := 0
		for _, c := range list {
			if c.State == CreditReceipt {
				receipts++
			}
		}
		if len(list) != strangers+2 || receipts != 1 || w.balance(e, ledger.SuspenseLong, "") != strangers*1_00+network || w.balance(e, ledger.ClientBank, "") != strangers*1_00+2*network {
			t.Errorf("%d credits, %d receipts, 2301 %s, 1001 %s", len(list), receipts, w.balance(e, ledger.SuspenseLong, ""), w.balance(e, ledger.ClientBank, ""))
		}
		verified(t, w, e)
	})
}

// A turn that ends between any two steps is done again and has one effect.
func TestCreditsAfterACrash(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.booksCredits()
		e := w.engine()
		network, _ := bothSold(t, w, e)
		w.bank.Receive("NET20261120", networkAccount, network, false)
		w.bank.Receive("HELLO", "", 1_00, false)
		for n := 1; ; n++ {
			dying := w.engine()
			ctx, _ := crashAt(t.Context(), dying, n)
			err := dying.takeCredits(ctx, clock(monday, 9, 0))
			verified(t, w, e)
			if err == nil {
				break
			}
			if !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			if n > 20 {
				t.Fatal("it never comes to an end")
			}
		}
		if got := w.balance(e, ledger.ClientBank, ""); got != network+1_00 {
			t.Errorf("1001 is %s, %s came", got, network+1_00)
		}
	})
}

// A bank that says nonsense books nothing, and says so; an entry that changes
// its word is a task.
func TestStrangeCredits(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.booksCredits()
		e := w.engine()
		good := Credit{Entry: "E1", Reference: "HELLO", Amount: 1_00, Booked: monday}
		for name, c := range map[string]Credit{
			"no entry":        {Reference: "HELLO", Amount: 1_00, Booked: monday},
			"a long entry":    {Entry: strings.Repeat("E", 201), Amount: 1_00, Booked: monday},
			"a long word":     {Entry: "E1", Reference: strings.Repeat("r", 201), Amount: 1_00, Booked: monday},
			"a control":       {Entry: "E1", Reference: "a\x00b", Amount: 1_00, Booked: monday},
			"nothing":         {Entry: "E1", Booked: monday},
			"less":            {Entry: "E1", Amount: -1, Booked: monday},
			"no date":         {Entry: "E1", Amount: 1},
			"no UTF-8":        {Entry: "E\xff", Amount: 1, Booked: monday},
			"a long account":  {Entry: "E1", Account: NewNumber(strings.Repeat("9", 35)), Amount: 1, Booked: monday},
			"no such a month": {Entry: "E1", Amount: 1, Booked: 20261399},
		} {
			if err := e.TakeCredit(t.Context(), c, clock(monday, 9, 0)); err == nil {
				t.Errorf("%s is booked", name)
			}
		}
		if list, err := e.Credits(t.Context(), false, 10); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
		must(t, e.TakeCredit(t.Context(), good, clock(monday, 9, 0)))
		good.Amount = 2_00
		for range 2 {
			must(t, e.TakeCredit(t.Context(), good, clock(monday, 9, 1)))
		}
		if keys := taskKinds(t, e, "credit"); !slices.Equal(keys, []string{"credit/E1", "credit_differs/E1"}) || w.balance(e, ledger.ClientBank, "") != 1_00 {
			t.Errorf("tasks %v, 1001 %s", keys, w.balance(e, ledger.ClientBank, ""))
		}
		verified(t, w, e)
	})
}

// What the rail reads of a bank that answers otherwise than it should.
func TestCreditsOverHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		wrong  string
	}{
		"good":       {200, `{"next":"1","credits":[{"entry":"E","reference":"R","account":"99","amount":"1.00","booked":"2026-11-23"}]}`, ""},
		"no entry":   {200, `{"next":"1","credits":[{"reference":"R","amount":"1.00","booked":"2026-11-23"}]}`, "no reference of the bank"},
		"no amount":  {200, `{"next":"1","credits":[{"entry":"E","amount":"x","booked":"2026-11-23"}]}`, "JSON"},
		"an error":   {500, `{"error":"down"}`, "HTTP 500"},
		"no feed":    {404, "page not found", "JSON"},
		"a redirect": {302, "", "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/credits" || r.URL.Query().Get("after") != "a b" {
					t.Errorf("asked for %s", r.URL)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer s.Close()
			rail, err := NewHTTPRail(s.URL, time.Minute)
			must(t, err)
			defer rail.Close()
			list, next, err := rail.Credits(t.Context(), "a b")
			if (err == nil) != (c.wrong == "") || err != nil && (!strings.Contains(err.Error(), c.wrong) || next != "a b") {
				t.Errorf("%v, next %q", err, next)
			}
			if c.wrong == "" && (len(list) != 1 || list[0].Entry != "E" || list[0].Account.Reveal() != "99" || next != "1") {
				t.Errorf("%+v, next %q", list, next)
			}
		})
	}
}

// A statement with a credit that has no reference of the bank is refused whole,
// with its line, and books nothing of the others in it.
func TestStatementsOfCredits(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		rail := w.byFile(t.TempDir(), false)
		w.booksCredits()
		e := w.engine()
		network, _ := bothSold(t, w, e)
		entry := func(bank string, amount money.Amount) string {
			if bank != "" {
				bank = "<AcctSvcrRef>" + bank + "</AcctSvcrRef>"
			}
			return `<Ntry><Amt Ccy="CNY">` + amount.String() + `</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-23</Dt></BookgDt>` + bank +
				`<NtryDtls><TxDtls><Refs><EndToEndId>NET20261120</EndToEndId></Refs><RltdPties><DbtrAcct><Id><Othr><Id>` + networkAccount + `</Id></Othr></Id></DbtrAcct></RltdPties></TxDtls></NtryDtls></Ntry>`
		}
		file := func(name, message string, entries ...string) {
			doc := `<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn><GrpHdr><MsgId>` + message + `</MsgId></GrpHdr><Ntfctn><Acct><Id><Othr><Id>9999000000000001</Id></Othr></Id></Acct>` +
				"\n" + strings.Join(entries, "\n") + "\n</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>"
			must(t, os.WriteFile(filepath.Join(w.folder, inbox, name), []byte(doc), 0o600))
		}
		file("a.xml", "M1", entry("B1", network), entry("", 1_00))
		w.pay(e, clock(monday, 9, 0))
		why, err := os.ReadFile(filepath.Join(w.folder, refused, "a.xml.why"))
		if err != nil || !strings.Contains(string(why), "line 3") || !strings.Contains(string(why), "reference of the bank") {
			t.Errorf("%s, %v", why, err)
		}
		if n := len(creditsOf(t, e)); n != 0 {
			t.Errorf("%d credits of a file that was refused", n)
		}
		file("b.xml", "M2", entry("B1", network))
		file("c.xml", "M3", entry("B1", network)) // the day's statement has what the notification had
		w.pay(e, clock(monday, 9, 1))
		if got := creditsOf(t, e); len(got) != 1 || got["NET20261120"].State != CreditReceipt || w.balance(e, ledger.ClientBank, "")+paidOut(w) != network {
			t.Errorf("%+v, 1001 %s", got, w.balance(e, ledger.ClientBank, ""))
		}
		// An entry of several transactions whose bank gives them one reference.
		file("d.xml", "M4", strings.NewReplacer("<Amt Ccy=\"CNY\">2.00</Amt>", "<Amt Ccy=\"CNY\">4.00</Amt>", "<NtryDtls>", `<NtryDtls><TxDtls><Refs><EndToEndId>X1</EndToEndId></Refs><Amt Ccy="CNY">2.00</Amt></TxDtls>`,
			"<Refs><EndToEndId>NET20261120</EndToEndId></Refs>", `<Refs><EndToEndId>X2</EndToEndId></Refs><Amt Ccy="CNY">2.00</Amt>`).Replace(entry("B2", 2_00)))
		w.pay(e, clock(monday, 9, 2))
		if got := creditsOf(t, e); got["X1"].Entry != "B2" || got["X2"].Entry != "B2#2" {
			t.Errorf("%+v; refused are %v", got, w.names(refused))
		}
		verified(t, w, e)
		must(t, w.db.Read(t.Context(), func(tx store.Tx) error { // no account number lies open
			rows, err := tx.Query("select account from bankfile_credit where account <> $1", []byte{})
			all, err := store.All(rows, err, func(r *store.Rows, a *[]byte) error { return r.Scan(a) })
			for _, a := range all {
				if strings.Contains(string(a), networkAccount) {
					t.Error("a payer's account stands in the clear")
				}
			}
			return err
		}))
		_, _, err = rail.Credits(t.Context(), "nonsense")
		if err == nil {
			t.Error("a cursor of nonsense is taken")
		}
	})
}

// Rules of payers that say nothing are refused when the house starts.
func TestPayerRules(t *testing.T) {
	for reference, good := range map[string]bool{"NET{date}": true, "*{date}*": true, "": false, "NET": false, "{date}{date}": false, "(+[{date}": true} {
		if _, err := payerRules([]Payer{{Reference: reference}}); (err == nil) != good {
			t.Errorf("%q: %v", reference, err)
		}
	}
	rules, err := payerRules([]Payer{{Reference: "NET.{date}"}, {Wallet: "alipay", Account: "1", Reference: "*{date}*"}, {Wallet: "wechat", Reference: "W{date}"}})
	must(t, err)
	e := Engine{payers: rules}
	for _, c := range []struct {
		reference, account, payer string
		date                      calendar.Date
	}{
		{"NET.20261120", "", Network, friday}, {"NET.2026-11-20", "7", Network, friday}, {"NETx20261120", "", "", 0}, {"NET.20261320", "", "", 0},
		{"NET.20261120 ", "", "", 0}, {"from us 2026-11-20 thanks", "1", "alipay", friday}, {"from us 2026-11-20 thanks", "2", "", 0}, {"W20261120", "", "wechat", friday}, {"", "1", "", 0},
	} {
		if payer, date := e.payerOf(&Credit{Reference: c.reference, Account: NewNumber(c.account)}); payer != c.payer || date != c.date {
			t.Errorf("%q from %q is %s for %s", c.reference, c.account, payer, date)
		}
	}
	var s CreditState
	for _, want := range []CreditState{CreditSuspense, CreditReceipt, CreditMore, CreditBack} {
		text, err := json.Marshal(want)
		must(t, err)
		if err := json.Unmarshal(text, &s); err != nil || s != want {
			t.Errorf("%s is read as %s, %v", text, s, err)
		}
	}
	if s.UnmarshalText([]byte("gone")) == nil {
		t.Error("a state that is none is read")
	}
}

package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement/bankfile"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
	"acquirer/store/storetest"
)

// rails are the two ways to a bank, files in both formats.
var rails = []string{"http", "pain.001", "csv"}

// eachRail runs f on a street whose bank is reached over each rail.
func eachRail(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, r := range rails {
		t.Run(r, func(t *testing.T) {
			storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
				w := newWorld(t, db)
				if r != "http" {
					w.byFile(t.TempDir(), r == "csv")
				}
				f(t, w)
			})
		})
	}
}

// byFile gives the street a bank that is reached by files.
func (w *world) byFile(dir string, asCSV bool) *FileRail {
	w.t.Helper()
	w.newBank(simbank.Config{Opening: money.Yuan(1_000_000), Folder: dir})
	rail, err := NewFileRail(FileConfig{DB: w.db, Dir: dir, CSV: asCSV, Debtor: bankfile.Debtor{Name: "演示收单机构", Account: "9999000000000001", Bank: "演示银行"},
		Seal:   func(_ context.Context, number string) ([]byte, error) { return backwards(number), nil },
		Unseal: func(_ context.Context, sealed []byte) (string, error) { return string(backwards(string(sealed))), nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Rail, w.folder = rail, dir
	return rail
}

func backwards(s string) []byte {
	b := []byte(s)
	slices.Reverse(b)
	return b
}

// exchange lets files pass, where there are any, and takes in what came.
func (w *world) exchange(e *Engine, now time.Time) Payment {
	w.t.Helper()
	if w.folder == "" {
		return w.pay(e, now)
	}
	if err := w.bank.Exchange(); err != nil {
		w.t.Fatal(err)
	}
	return w.pay(e, now)
}

// names lists a folder of the bank's.
func (w *world) names(folder string) []string {
	w.t.Helper()
	files, err := os.ReadDir(filepath.Join(w.folder, folder))
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		out = append(out, f.Name())
	}
	return out
}

// Over every rail a payout ends where the bank says, was ordered once, and the
// money with it.
func TestRails(t *testing.T) {
	eachRail(t, func(t *testing.T, w *world) {
		e := w.engine()
		cases := []struct {
			weather string
			days    [2]PayoutState // after the first day, and after the second
		}{
			{"00", [2]PayoutState{Paid, Paid}}, {"91", [2]PayoutState{Paid, Paid}}, {"94", [2]PayoutState{Failed, Failed}},
			{"95", [2]PayoutState{Paid, CameBack}}, {"96", [2]PayoutState{Paid, Paid}}, {"97", [2]PayoutState{Paid, Paid}}, {"89", [2]PayoutState{Failed, Paid}},
			{"93", [2]PayoutState{InProcess, Paid}}, {"98", [2]PayoutState{InProcess, Failed}}, {"99", [2]PayoutState{0, Paid}},
		}
		refs := make([]string, len(cases))
		for i, c := range cases {
			mid := w.merchant(10+i, "ESIGN-STD", merchant.T1, c.weather)
			w.sale(mid, friday, 1000_00)
			refs[i] = fmt.Sprintf("20261120-%s-T1-0", mid)
		}
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		if p := w.pay(e, clock(monday, 10, 0)); p.Sent != len(cases) {
			t.Errorf("sent %d, want %d", p.Sent, len(cases))
		}
		w.exchange(e, clock(monday, 10, 1))
		for i, c := range cases {
			if got := w.payout(e, refs[i]).state; c.days[0] != 0 && got != c.days[0] {
				t.Errorf("weather %s is %s on the first day, want %s", c.weather, got, c.days[0])
			}
		}
		w.sound(e)
		w.bank.Advance(1)
		w.exchange(e, clock(monday, 11, 2))
		w.exchange(e, clock(monday, 11, 3))
		var balance money.Amount = 1_000_000_00
		for i, c := range cases {
			p := w.payout(e, refs[i])
			if p.state != c.days[1] {
				t.Errorf("weather %s is %s on the second day, want %s (%s)", c.weather, p.state, c.days[1], p.reason)
			}
			if after := strings.HasPrefix(p.reason, "paid after all"); after != (c.weather == "89") {
				t.Errorf("weather %s: paid after it had failed: %v", c.weather, after)
			}
			if p.state == Paid {
				balance -= p.amount
			}
		}
		for _, p := range w.bank.Payouts() {
			if p.Ordered() != 1 {
				t.Errorf("the bank was given %s %d times", p.Reference, p.Ordered())
			}
		}
		if got := w.bank.Balance(); got != balance {
			t.Errorf("the bank has %s of ours left, want %s", got, balance)
		}
		w.sound(e)

		// What came back is issued again, to another account.
		back := refs[3]
		mid := w.payout(e, back).merchant
		if err := w.reg.Put(t.Context(), []merchant.Merchant{w.shop(mid, "ESIGN-STD", merchant.T1, "00")}, nil); err != nil {
			t.Fatal(err)
		}
		child, err := e.Reissue(t.Context(), back, clock(monday, 12, 0))
		if err != nil {
			t.Fatal(err)
		}
		w.pay(e, clock(monday, 12, 0))
		w.exchange(e, clock(monday, 12, 1))
		if p := w.payout(e, child); p.state != Paid || p.parent != back {
			t.Errorf("issued again it is %s, of %s", p.state, p.parent)
		}
		days, _, err := e.Merchants(t.Context(), friday)
		if i := slices.IndexFunc(days, func(d MerchantDay) bool { return d.Merchant == mid }); err != nil || days[i].Ref != child || days[i].State != Paid || !strings.Contains(days[i].Reason, "replaces "+back) {
			t.Errorf("the merchant's day: %+v, %v", days, err)
		}
		w.sound(e)
	})
}

// paidFriday has a merchant whose payout stands in a file in the outbox.
func paidFriday(w *world, e *Engine, weather string) (ref string) {
	mid := w.merchant(1, "ESIGN-STD", merchant.T1, weather)
	w.sale(mid, friday, 1000_00)
	w.close(e, friday)
	w.receive(e, friday, clock(monday, 9, 0))
	w.pay(e, clock(monday, 10, 0))
	return fmt.Sprintf("20261120-%s-T1-0", mid)
}

// eachFile runs f on a street whose bank takes pain.001.
func eachFile(t *testing.T, f func(t *testing.T, w *world, r *FileRail)) {
	t.Helper()
	each(t, func(t *testing.T, w *world) { f(t, w, w.byFile(t.TempDir(), false)) })
}

// A crash after the file was written and before that was noted writes it again,
// byte for byte. The bank refuses the second as a duplicate, and that is no word
// about its orders.
func TestFileWrittenAgain(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, r *FileRail) {
		e := w.engine()
		ref := paidFriday(w, e, "00")
		name := w.names("outbox")[0]
		path := filepath.Join(w.folder, "outbox", name)
		first, err := os.ReadFile(path)
		if err != nil || name != "PO20261123-000001.xml" {
			t.Fatalf("%s, %v", name, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("others may read it: %v, %v", info.Mode(), err)
		}
		if err := w.bank.Exchange(); err != nil {
			t.Fatal(err)
		}
		w.write(func(tx store.Tx) error {
			_, err := tx.Exec("update bankfile_message set written = 0")
			return err
		})
		if err := r.Flush(t.Context(), clock(monday, 23, 0)); err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(path)
		if err != nil || string(second) != string(first) {
			t.Errorf("written again it is another file (%v)", err)
		}
		w.exchange(e, clock(monday, 10, 5))
		if p := w.payout(e, ref); p.state != Paid {
			t.Errorf("it is %s: %s", p.state, p.reason)
		}
		if got := w.bank.Payouts(); len(got) != 1 || got[0].Ordered() != 1 {
			t.Errorf("the bank has %+v", got)
		}
		if n := len(w.names("accepted")); n != 3 || len(w.names("refused")) != 0 {
			t.Errorf("%d files accepted, %v refused", n, w.names("refused"))
		}
		w.sound(e)
	})
}

// A bank that never says a word about an order does not keep it from people.
func TestOrderNeverAnswered(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
		e := w.engine()
		ref := paidFriday(w, e, "92")
		w.exchange(e, clock(monday, 10, 30))
		if tasks, err := e.Tasks(t.Context(), 10); err != nil || len(tasks) != 0 {
			t.Errorf("after half an hour: %+v, %v", tasks, err)
		}
		for range 2 {
			w.pay(e, clock(monday, 11, 5))
		}
		tasks, err := e.Tasks(t.Context(), 10)
		if err != nil || len(tasks) != 1 || tasks[0].Kind != "payout_slow" || tasks[0].Ref != ref {
			t.Errorf("after an hour: %+v, %v", tasks, err)
		}
		if p := w.payout(e, ref); p.state != InProcess {
			t.Errorf("it is %s", p.state)
		}
		if _, err := e.apply(t.Context(), Answer{Reference: ref, Status: Succeeded, Amount: 994_00}, clock(monday, 12, 0)); err != nil {
			t.Fatal(err)
		}
		if tasks, err := e.Tasks(t.Context(), 10); err != nil || len(tasks) != 0 {
			t.Errorf("after it was paid: %+v, %v", tasks, err)
		}
		w.sound(e)
	})
}

// An order is kept once; a crash before its message was made leaves it waiting.
func TestOrderIsKept(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, r *FileRail) {
		order := Instruction{Reference: "R1", Merchant: "898110054110001", Amount: 9640, Account: NewNumber("6228480402564890018"), Name: "王芳", Bank: "银行"}
		for range 2 {
			if a, err := r.Send(t.Context(), order); err != nil || a.Status != Processing {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		if a, err := r.Query(t.Context(), "R1"); err != nil || a.Status != Processing || a.Reason != "waits for the next file" {
			t.Errorf("%+v, %v", a, err)
		}
		if err := r.gather(t.Context(), clock(monday, 10, 0)); err != nil {
			t.Fatal(err)
		}
		if err := r.Flush(t.Context(), clock(monday, 10, 1)); err != nil { // nothing more waits; what was gathered is written
			t.Fatal(err)
		}
		if got := w.names("outbox"); !slices.Equal(got, []string{"PO20261123-000001.xml"}) {
			t.Errorf("outbox %v", got)
		}
		if a, err := r.Query(t.Context(), "R1"); err != nil || a.Reason != "in message PO20261123-000001" {
			t.Errorf("%+v, %v", a, err)
		}
		if a, err := r.Query(t.Context(), "R2"); err != nil || a.Status != NotFound {
			t.Errorf("%+v, %v", a, err)
		}
		w.write(func(tx store.Tx) error {
			var sealed []byte
			if err := tx.QueryRow("select account from bankfile_order where ref = 'R1'").Scan(&sealed); err != nil {
				return err
			}
			if string(sealed) != string(backwards("6228480402564890018")) {
				t.Error("the account number is not kept sealed")
			}
			return nil
		})
	})
}

// A file that is damaged, repeated or about strangers is refused whole, lies in
// refused with its reason, is a task, and changes no payout.
func TestFilesRefused(t *testing.T) {
	do := map[simbank.Spoiling]string{simbank.Again: "nothing needs to be done"}
	for spoil, why := range map[simbank.Spoiling]string{simbank.CutShort: "line ", simbank.BadSum: "the head says 2", simbank.Strange: "is not in message", simbank.Again: "taken in before"} {
		t.Run(string(spoil), func(t *testing.T) {
			eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
				e := w.engine()
				ref := paidFriday(w, e, "91") // told by the notification alone, unless asked for again
				other := w.merchant(2, "ESIGN-STD", merchant.T1, "94")
				w.sale(other, friday+1, 500_00)
				w.close(e, friday+1)
				w.pay(e, clock(monday, 10, 1))
				w.bank.Spoil(spoil)
				w.exchange(e, clock(monday, 10, 2))
				got := w.names("refused")
				if len(got) != 2 || !strings.HasSuffix(got[1], ".why") {
					t.Fatalf("refused %v", got)
				}
				text, err := os.ReadFile(filepath.Join(w.folder, "refused", got[1]))
				if err != nil || !strings.Contains(string(text), why) {
					t.Errorf("why: %s, %v; want %q", text, err, why)
				}
				if p := w.payout(e, ref); p.state != Paid { // by the notification, which was right
					t.Errorf("%s is %s", ref, p.state)
				}
				want := InProcess
				if spoil == simbank.Again { // the first of the two was right
					want = Failed
				}
				if p := w.payout(e, fmt.Sprintf("20261121-%s-T1-0", other)); p.state != want {
					t.Errorf("the other is %s, want %s", p.state, want)
				}
				tasks, err := e.Tasks(t.Context(), 10)
				if err != nil || !slices.ContainsFunc(tasks, func(k Task) bool {
					return k.Kind == "bank_file" && strings.Contains(k.Text, got[0]) && strings.HasSuffix(k.Text, cmp.Or(do[spoil], askAgain))
				}) {
					t.Errorf("tasks %+v, %v", tasks, err)
				}
				w.sound(e)
			})
		})
	}
}

// Half a file that was loaded when we died counts for nothing until it is whole.
func TestFileLoadedAgain(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, r *FileRail) {
		e := w.engine()
		ref := paidFriday(w, e, "94")
		if err := w.bank.Exchange(); err != nil {
			t.Fatal(err)
		}
		name := w.names("inbox")[0]
		digest, err := digestOf(filepath.Join(w.folder, "inbox", name))
		if err != nil {
			t.Fatal(err)
		}
		message := strings.TrimSuffix(name, ".xml")
		if err := r.begin(t.Context(), message, digest, name); err != nil {
			t.Fatal(err)
		}
		w.write(func(tx store.Tx) error {
			_, err := tx.Exec("insert into bankfile_change (message, seq, ref, status, amount, bank_id, reason) values ($1, 1, $2, 'SUCCEEDED', 99400, '', '')", message, "another content, "+ref)
			return err
		})
		// The bank gave it another content meanwhile.
		w.write(func(tx store.Tx) error {
			_, err := tx.Exec("update bankfile_inbox set sha256 = 'another' where message = $1", message)
			return err
		})
		if a, err := r.Query(t.Context(), ref); err != nil || a.Status != Processing {
			t.Errorf("half loaded it says %+v, %v", a, err)
		}
		w.pay(e, clock(monday, 10, 5))
		if p := w.payout(e, ref); p.state != Failed || !strings.Contains(p.reason, "AC04") {
			t.Errorf("it is %s: %s", p.state, p.reason)
		}
		// Taken in, and not yet moved away: it is only moved.
		if err := os.Rename(filepath.Join(w.folder, "accepted", name), filepath.Join(w.folder, "inbox", name)); err != nil {
			t.Fatal(err)
		}
		w.pay(e, clock(monday, 10, 6))
		if len(w.names("inbox")) != 0 || len(w.names("refused")) != 0 {
			t.Errorf("inbox %v, refused %v", w.names("inbox"), w.names("refused"))
		}
		w.sound(e)
	})
}

// The bank tells that a payout came back before it tells that it was paid.
func TestFilesOutOfOrder(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
		e := w.engine()
		ref := paidFriday(w, e, "92") // the simulated bank never sees it: its files are written here
		for i, kind := range []string{"<CdtDbtInd>CRDT</CdtDbtInd><RvslInd>true</RvslInd>", "<CdtDbtInd>DBIT</CdtDbtInd>"} {
			doc := fmt.Sprintf(`<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn><GrpHdr><MsgId>N%d</MsgId></GrpHdr><Ntfctn><Acct><Id><Othr><Id>9999000000000001</Id></Othr></Id></Acct>
<Ntry><Amt Ccy="CNY">994.00</Amt>%s<Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-23</Dt></BookgDt><NtryDtls><TxDtls><Refs><EndToEndId>%s</EndToEndId></Refs></TxDtls></NtryDtls></Ntry>
<Ntry><Amt Ccy="CNY">5.00</Amt>%s<Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-23</Dt></BookgDt><NtryDtls><TxDtls><Refs><EndToEndId>SOMEBODY-ELSES</EndToEndId></Refs></TxDtls></NtryDtls></Ntry>
</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>`, i, kind, ref, kind)
			if err := os.WriteFile(filepath.Join(w.folder, "inbox", fmt.Sprintf("n%d.xml", i)), []byte(doc), 0o600); err != nil {
				t.Fatal(err)
			}
			w.pay(e, clock(monday, 11, i))
			if p := w.payout(e, ref); p.state != CameBack {
				t.Errorf("after file %d it is %s: %s", i, p.state, p.reason)
			}
			w.sound(e)
		}
		if n := len(w.names("accepted")); n != 2 {
			t.Errorf("%d files accepted; refused %v", n, w.names("refused"))
		}
	})
}

// An order that no bank can take is held and left to a person; while the bank is
// closed orders wait, and neither is an error of the run.
func TestOrdersHeld(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		bad := w.shop(mid, "ESIGN-STD", merchant.T1, "00")
		bad.Account.Bank = ""
		if err := w.reg.Put(t.Context(), []merchant.Merchant{bad}, nil); err != nil {
			t.Fatal(err)
		}
		w.sale(mid, friday, 1000_00)
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		if p := w.pay(e, clock(monday, 10, 0)); p.Sent != 0 || p.Held != 1 {
			t.Errorf("%+v", p)
		}
		tasks, err := e.Tasks(t.Context(), 10)
		if err != nil || len(tasks) != 1 || tasks[0].Kind != "payout_held" || !strings.Contains(tasks[0].Text, "bank's name") {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		if standing, err := e.PayoutsStanding(t.Context()); err != nil || standing[Created].Payouts != 1 || !standing[Created].Since.IsZero() {
			t.Errorf("a held payout, which is a task, waits: %+v, %v", standing, err)
		}
		w.sound(e)
	})
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		w.bank.Open(false)
		ref := paidFriday(w, e, "00")
		if standing, err := e.PayoutsStanding(t.Context()); err != nil || !standing[Created].Since.Equal(monday.Time()) {
			t.Errorf("while the bank is closed a payout waits since %s (%v), want %s", standing[Created].Since, err, monday.Time())
		}
		if p := w.payout(e, ref); p.state != Created || !strings.Contains(p.reason, "closed") {
			t.Errorf("while the bank is closed it is %s: %s", p.state, p.reason)
		}
		w.bank.Open(true)
		w.pay(e, clock(monday, 11, 0))
		if p := w.payout(e, ref); p.state != Paid || p.reason != "" {
			t.Errorf("then it is %s: %s", p.state, p.reason)
		}
		w.sound(e)
	})
}

// What a process that died left half written holds account numbers: it does not
// stay. What another node may be writing does.
func TestHalfWrittenFilesGo(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		rail := w.byFile(t.TempDir(), false)
		old, young := filepath.Join(w.folder, "outbox", ".writing-1"), filepath.Join(w.folder, "outbox", ".writing-2")
		for _, path := range []string{old, young} {
			if err := os.WriteFile(path, []byte("<Id>6222020000000001</Id>"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		hours := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(old, hours, hours); err != nil {
			t.Fatal(err)
		}
		if err := rail.Flush(t.Context(), clock(monday, 10, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the old one: %v", err)
		}
		if _, err := os.Stat(young); err != nil {
			t.Errorf("the young one: %v", err)
		}
	})
}

func TestFileRailWantsAnAccount(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewFileRail(FileConfig{Dir: dir}); err == nil || !strings.Contains(err.Error(), "the account that is paid from") {
		t.Errorf("%v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFileRail(FileConfig{Dir: file}); !errors.Is(err, os.ErrExist) && err == nil {
		t.Error("a file serves as folder")
	}
}

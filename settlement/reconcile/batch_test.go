package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/bankfile"
	"acquirer/store"
	"acquirer/store/storetest"
)

// A bank may book a message of payouts as one sum (camt.054 with Btch): it is
// matched with the payouts that went out in it, and only when it comes to what
// they come to.
func TestStatementOfABatch(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries string         // of Thursday's statement; sum and other are filled in
		sets    map[int]string // what becomes of a payout before, by its place
		thu     string         // breaks after Thursday
		later   map[int]string // what becomes of a payout then
		fri     string         // breaks after Friday, whose statement has friday
		friday  string
	}{
		{name: "matched", entries: "batch MSG 2 SUM"},
		{name: "without a count", entries: "batch MSG 0 SUM"},
		{name: "not in any statement, then in one", entries: "", thu: "payout_short A waiting, payout_short B waiting", friday: "batch MSG 2 SUM", fri: "payout_short A resolved, payout_short B resolved"},
		{name: "another sum", entries: "batch MSG 2 LESS", thu: "payout_long MSG waiting", fri: "payout_long MSG waiting"},
		{name: "another count", entries: "batch MSG 3 SUM", thu: "payout_long MSG waiting", fri: "payout_long MSG waiting"},
		{name: "a stranger's", entries: "batch OTHER 2 SUM", thu: "payout_long OTHER open, payout_short A waiting, payout_short B waiting",
			fri: "payout_long OTHER open, payout_short A waiting, payout_short B waiting"},
		{name: "one was refused", entries: "batch MSG 1 ONE", sets: map[int]string{1: "failed"}},
		{name: "one is not known here yet", entries: "batch MSG 2 SUM", sets: map[int]string{1: "processing"}, thu: "payout_long MSG waiting",
			later: map[int]string{1: "paid"}, fri: "payout_long MSG resolved"},
		{name: "one came back", entries: "batch MSG 2 SUM", sets: map[int]string{0: "returned"}},
		{name: "twice", entries: "batch MSG 2 SUM", friday: "batch MSG 2 SUM", fri: "payout_long MSG open"},
		{name: "with a fee that names a payout", entries: "batch MSG 2 SUM, fee A"},
		{name: "one came back, which is not said", entries: "batch MSG 2 SUM, credit A", sets: map[int]string{0: "returned"}},
		{name: "one comes back, which is learnt later", entries: "batch MSG 2 SUM, credit A", thu: "receipt_long A waiting", later: map[int]string{0: "returned"}, fri: "receipt_long A resolved"},
		{name: "as a sum and one by one", entries: "batch MSG 2 SUM, single A", thu: "payout_long A open", fri: "payout_long A open"},
		{name: "one by one and as a sum", entries: "single A, batch MSG 2 SUM", thu: "payout_long MSG open", fri: "payout_long MSG open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
				w := newTown(t, db)
				w.sale(alice, wednesday, 100_00)
				w.sale(early, wednesday, 300_00)
				w.night(wednesday)
				message, sent := w.send(t.TempDir())
				w.becomes(sent, map[int]string{0: "paid", 1: "paid"})
				w.becomes(sent, c.sets)
				names := strings.NewReplacer("MSG", message, "SUM", (sent[0].Amount + sent[1].Amount).String(), "LESS", (sent[0].Amount + sent[1].Amount - 1).String(),
					"ONE", sent[0].Amount.String(), "single A", "single "+sent[0].Ref+" "+sent[0].Amount.String(), "credit A", "credit "+sent[0].Ref+" "+sent[0].Amount.String(), "fee A", "fee "+sent[0].Ref+" 0.50")
				plain := strings.NewReplacer(message, "MSG", sent[0].Ref, "A", sent[1].Ref, "B")
				compare := func(d calendar.Date, entries, want string) {
					t.Helper()
					w.statement(d, names.Replace(entries))
					w.load(w.file("north", d))
					w.load(w.file("alipay", d))
					for range 2 { // again it finds the same
						if _, err := w.e.Compare(t.Context(), d, at(d, 25)); err != nil {
							t.Fatal(err)
						}
					}
					all, err := w.e.Breaks(t.Context(), Query{})
					if err != nil {
						t.Fatal(err)
					}
					var got []string
					for _, b := range all {
						got = append(got, plain.Replace(fmt.Sprintf("%s %s %s", b.Kind, b.RRN, b.State)))
					}
					if text := strings.Join(got, ", "); text != want {
						t.Errorf("%s: %s; want %s", d, text, want)
					}
				}
				compare(thursday, c.entries, c.thu)
				w.becomes(sent, c.later)
				compare(friday, c.friday, c.fri)
			})
		})
	}
}

// A day without a statement has no payout to miss, whatever statements of other
// days there are.
func TestNoStatementNoShortPayout(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		w.sale(alice, wednesday, 100_00)
		w.sale(early, wednesday, 300_00)
		w.night(wednesday)
		_, sent := w.send(t.TempDir())
		w.becomes(sent, map[int]string{0: "paid", 1: "paid"})
		w.statement(wednesday, "")
		compared := func(d calendar.Date) string {
			t.Helper()
			w.load(w.file("north", d))
			w.load(w.file("alipay", d))
			if _, err := w.e.Compare(t.Context(), d, at(d, 25)); err != nil {
				t.Fatal(err)
			}
			all, err := w.e.Breaks(t.Context(), Query{})
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for _, b := range all {
				kinds = append(kinds, string(b.Kind))
			}
			return strings.Join(kinds, ", ")
		}
		if got := compared(thursday); got != "" {
			t.Errorf("without a statement of the day: %s", got)
		}
		w.statement(friday, "")
		if got := compared(friday); got != "payout_short, payout_short" {
			t.Errorf("with one of the next day: %q", got)
		}
	})
}

// send puts the payouts there are into a message for the bank.
func (w *town) send(dir string) (message string, sent []settlement.Sent) {
	w.t.Helper()
	rail, err := settlement.NewFileRail(settlement.FileConfig{DB: w.db, Dir: dir, Debtor: bankfile.Debtor{Name: "acquirer", Account: "9999000000000001", Bank: "bank"},
		Seal:   func(_ context.Context, number string) ([]byte, error) { return []byte(number), nil },
		Unseal: func(_ context.Context, sealed []byte) (string, error) { return string(sealed), nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.Read(w.t.Context(), func(tx store.Tx) error {
		rows, err := tx.Query("select ref, merchant, amount from settlement_payout order by ref")
		sent, err = store.All(rows, err, func(r *store.Rows, s *settlement.Sent) error { return r.Scan(&s.Ref, &s.Merchant, &s.Amount) })
		return err
	}); err != nil || len(sent) != 2 {
		w.t.Fatalf("%d payouts, %v", len(sent), err)
	}
	for _, s := range sent {
		if _, err := rail.Send(w.t.Context(), settlement.Instruction{Reference: s.Ref, Merchant: s.Merchant, Amount: s.Amount, Account: settlement.NewNumber("6228480400000000"), Name: "owner", Bank: "ABC"}); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := rail.Flush(w.t.Context(), at(thursday, 10)); err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.Read(w.t.Context(), func(tx store.Tx) (err error) {
		message, err = settlement.MessageOfTx(tx, sent[0].Ref)
		return err
	}); err != nil || message == "" {
		w.t.Fatalf("message %q, %v", message, err)
	}
	return message, sent
}

// becomes puts payouts where the bank's word would have put them.
func (w *town) becomes(sent []settlement.Sent, states map[int]string) {
	w.t.Helper()
	for i, name := range states {
		var state settlement.PayoutState
		err := errors.Join(state.UnmarshalText([]byte(name)), w.db.Write(w.t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("update settlement_payout set state = $1, finished = $2 where ref = $3", int(state), at(thursday, 12).UnixMicro(), sent[i].Ref)
			return err
		}))
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// statement loads a bank's notification of entries like "batch MESSAGE COUNT SUM"
// "single REF SUM", "credit REF SUM" and "fee REF SUM".
func (w *town) statement(d calendar.Date, entries string) {
	w.t.Helper()
	var b strings.Builder
	var sum money.Amount
	n := 0
	for e := range strings.SplitSeq(entries, ", ") {
		f := strings.Fields(e)
		if len(f) == 0 {
			continue
		}
		amount, err := money.Parse(f[len(f)-1])
		if err != nil {
			w.t.Fatal(err)
		}
		n, sum = n+1, sum+amount
		fmt.Fprintf(&b, `<Ntry><Amt Ccy="CNY">%s</Amt><CdtDbtInd>%s</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>%s</Dt></BookgDt><NtryDtls>`, amount, map[bool]string{false: "DBIT", true: "CRDT"}[f[0] == "credit"], d)
		switch {
		case f[0] == "fee":
			fmt.Fprintf(&b, "<TxDtls><Refs><EndToEndId>%s</EndToEndId></Refs><BkTxCd><Prtry><Cd>CHRG</Cd></Prtry></BkTxCd></TxDtls>", f[1])
		case f[0] == "single" || f[0] == "credit":
			fmt.Fprintf(&b, "<TxDtls><Refs><EndToEndId>%s</EndToEndId></Refs></TxDtls>", f[1])
		case f[2] == "0":
			fmt.Fprintf(&b, "<Btch><PmtInfId>%s</PmtInfId></Btch>", f[1])
		default:
			fmt.Fprintf(&b, "<Btch><PmtInfId>%s</PmtInfId><NbOfTxs>%s</NbOfTxs></Btch>", f[1], f[2])
		}
		b.WriteString("</NtryDtls></Ntry>\n")
	}
	path := filepath.Join(w.t.TempDir(), "camt.xml")
	text := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn><GrpHdr><MsgId>N%d</MsgId><CreDtTm>%sT20:00:00+08:00</CreDtTm></GrpHdr>
<Ntfctn><Id>1</Id><CreDtTm>%sT20:00:00+08:00</CreDtTm><Acct><Id><Othr><Id>9999000000000001</Id></Othr></Id></Acct><TxsSummry><TtlNtries><NbOfNtries>%d</NbOfNtries><Sum>%s</Sum></TtlNtries></TxsSummry>
%s</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>
`, int(d), d, d, n, sum, b.String())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	f, end, err := w.e.OpenFile(path, "", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.load(f)
	if err := end(); err != nil {
		w.t.Fatal(err)
	}
}

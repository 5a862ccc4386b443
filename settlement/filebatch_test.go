package settlement

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/merchant"
	"acquirer/money"
	simbank "acquirer/simulate/bank"
)

// camtSum is a notification that books a message as one sum; no count with 0.
func camtSum(id, message string, orders int, sum money.Amount) string {
	count := ""
	if orders > 0 {
		count = fmt.Sprintf("<NbOfTxs>%d</NbOfTxs>", orders)
	}
	return fmt.Sprintf(`<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn><GrpHdr><MsgId>%s</MsgId></GrpHdr><Ntfctn><Acct><Id><Othr><Id>9999000000000001</Id></Othr></Id></Acct>
<Ntry><Amt Ccy="CNY">%s</Amt><CdtDbtInd>DBIT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-23</Dt></BookgDt><NtryDtls><Btch><PmtInfId>%s</PmtInfId>%s</Btch></NtryDtls></Ntry>
</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>`, id, sum, message, count)
}

// refuses is a status report that refuses orders of a message.
func refuses(id, message string, refs ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt><GrpHdr><MsgId>%s</MsgId></GrpHdr><OrgnlGrpInfAndSts><OrgnlMsgId>%s</OrgnlMsgId><GrpSts>PART</GrpSts></OrgnlGrpInfAndSts><OrgnlPmtInfAndSts><OrgnlPmtInfId>%s</OrgnlPmtInfId>`, id, message, message)
	for _, r := range refs {
		fmt.Fprintf(&b, "<TxInfAndSts><OrgnlEndToEndId>%s</OrgnlEndToEndId><TxSts>RJCT</TxSts><StsRsnInf><Rsn><Cd>AC04</Cd></Rsn></StsRsnInf></TxInfAndSts>", r)
	}
	b.WriteString("</OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>")
	return b.String()
}

// A sum that the bank booked for a message is of all of its orders, or of all but
// those that its statuses refused; the refused ones are not paid by it.
func TestSumOfAMessage(t *testing.T) {
	const message = "PO20261123-000001"
	const first, second, third = 994_00, 497_00, 248_50 // 1000.00, 500.00 and 250.00 less 0.6%
	for _, c := range []struct {
		name   string
		orders int
		sum    money.Amount
		refuse []int // orders that a status refuses, in a file whose name is behind the sum's
		states [3]PayoutState
		why    string // why the sum is refused
	}{
		{"all", 3, first + second + third, nil, [3]PayoutState{Paid, Paid, Paid}, ""},
		{"all, without a count", 0, first + second + third, nil, [3]PayoutState{Paid, Paid, Paid}, ""},
		{"without the refused one", 2, first + third, []int{1}, [3]PayoutState{Paid, Failed, Paid}, ""},
		{"without the refused one and a count", 0, first + third, []int{1}, [3]PayoutState{Paid, Failed, Paid}, ""},
		{"without two", 1, third, []int{0, 1}, [3]PayoutState{Failed, Failed, Paid}, ""},
		{"the refused one left out and another counted", 3, first + third, []int{1}, [3]PayoutState{InProcess, Failed, InProcess}, "2 of 1242.50 without the 1 that were refused"},
		{"another one left out", 2, second + third, []int{1}, [3]PayoutState{InProcess, Failed, InProcess}, "2 of 1242.50 without the 1 that were refused"},
		{"one left out that nobody refused", 2, first + third, nil, [3]PayoutState{InProcess, InProcess, InProcess}, "no status so far refused one"},
		{"a fen too little", 3, first + second + third - 1, nil, [3]PayoutState{InProcess, InProcess, InProcess}, "it has 3 of 1739.50"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
				e := w.engine()
				var refs []string
				for i, amount := range []money.Amount{1000_00, 500_00, 250_00} {
					mid := w.merchant(1+i, "ESIGN-STD", merchant.T1, "00")
					w.sale(mid, friday, amount)
					refs = append(refs, fmt.Sprintf("20261120-%s-T1-0", mid))
				}
				w.close(e, friday)
				w.receive(e, friday, clock(monday, 9, 0))
				w.pay(e, clock(monday, 10, 0))
				put := func(name, text string) {
					t.Helper()
					if err := os.WriteFile(filepath.Join(w.folder, "inbox", name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				put("a.xml", camtSum("N1", message, c.orders, c.sum))
				if len(c.refuse) > 0 {
					var no []string
					for _, i := range c.refuse {
						no = append(no, refs[i])
					}
					put("b.xml", refuses("S1", message, no...))
				}
				for minute := range 2 {
					w.pay(e, clock(monday, 11, minute))
				}
				for i, want := range c.states {
					if p := w.payout(e, refs[i]); p.state != want || p.long {
						t.Errorf("order %d is %s, long %v; want %s", i+1, p.state, p.long, want)
					}
				}
				got := w.names("refused")
				if c.why == "" != (len(got) == 0) {
					t.Fatalf("refused %v", got)
				}
				if c.why != "" {
					text, err := os.ReadFile(filepath.Join(w.folder, "refused", "a.xml.why"))
					if err != nil || !strings.Contains(string(text), c.why) {
						t.Errorf("why: %s, %v; want %q", text, err, c.why)
					}
				}
				w.sound(e)
			})
		})
	}
}

// The sum was there first and is refused; when the status has come the same file
// is put into the inbox again and is right.
func TestSumBeforeItsStatus(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
		e := w.engine()
		paid := w.merchant(2, "ESIGN-STD", merchant.T1, "00")
		w.sale(paid, friday, 500_00)
		refused := paidFriday(w, e, "00")
		const message = "PO20261123-000001"
		in := filepath.Join(w.folder, "inbox", "a.xml")
		if err := os.WriteFile(in, []byte(camtSum("N1", message, 1, 497_00)), 0o600); err != nil {
			t.Fatal(err)
		}
		w.pay(e, clock(monday, 11, 0))
		if got := w.names("refused"); !slices.Equal(got, []string{"a.xml", "a.xml.why"}) {
			t.Fatalf("refused %v", got)
		}
		if err := os.WriteFile(filepath.Join(w.folder, "inbox", "s.xml"), []byte(refuses("S1", message, refused)), 0o600); err != nil {
			t.Fatal(err)
		}
		w.pay(e, clock(monday, 11, 1))
		if err := os.Rename(filepath.Join(w.folder, "refused", "a.xml"), in); err != nil {
			t.Fatal(err)
		}
		w.pay(e, clock(monday, 11, 2))
		if p := w.payout(e, refused); p.state != Failed || p.long {
			t.Errorf("the refused one is %s, long %v", p.state, p.long)
		}
		if p := w.payout(e, "20261120-"+paid+"-T1-0"); p.state != Paid {
			t.Errorf("the other is %s", p.state)
		}
		w.sound(e)
	})
}

// A bank that books messages as one sum, whatever our orders asked for.
func TestBankBooksOneSum(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.byFile(t.TempDir(), false)
		folder, rail := w.folder, w.cfg.Rail
		w.newBank(simbank.Config{Opening: money.Yuan(1_000_000), Folder: folder, OneSum: true})
		w.cfg.Rail = rail
		e := w.engine()
		states := map[string]PayoutState{"00": Paid, "94": Failed, "91": Paid, "93": Paid, "98": Failed, "95": CameBack}
		refs := map[string]string{}
		n := 0
		for weather := range states {
			n++
			mid := w.merchant(n, "ESIGN-STD", merchant.T1, weather)
			w.sale(mid, friday, 1000_00)
			refs[weather] = fmt.Sprintf("20261120-%s-T1-0", mid)
		}
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		for i := range 3 {
			w.exchange(e, clock(monday, 10, 10+i))
			w.bank.Advance(1)
		}
		w.exchange(e, clock(monday, 11, 0))
		sums := 0
		for _, name := range w.names("accepted") {
			text, err := os.ReadFile(filepath.Join(folder, "accepted", name))
			if err != nil {
				t.Fatal(err)
			}
			sums += strings.Count(string(text), "<Btch>")
		}
		if got := w.names("refused"); sums != 1 || len(got) != 0 {
			t.Errorf("%d sums, refused %v", sums, got)
		}
		for weather, want := range states {
			if p := w.payout(e, refs[weather]); p.state != want || p.long {
				t.Errorf("weather %s is %s, long %v; want %s", weather, p.state, p.long, want)
			}
		}
		w.sound(e)
	})
}

// A bank that names its files alike every day: none of them is lost.
func TestFilesOfOneName(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
		e := w.engine()
		paidFriday(w, e, "00")
		for i, text := range []string{camtSum("N1", "PO20261123-000001", 1, 994_00), camtSum("N2", "STRANGERS", 1, 1_00), "<nothing", "<nothing"} {
			if err := os.WriteFile(filepath.Join(w.folder, "inbox", "camt.xml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			w.pay(e, clock(monday, 11, 0).Add(time.Duration(i)*time.Second))
		}
		if got := w.names("accepted"); !slices.Equal(got, []string{"camt.xml", "camt.xml.2"}) {
			t.Errorf("accepted %v", got)
		}
		if got := w.names("refused"); !slices.Equal(got, []string{"camt.xml", "camt.xml.2", "camt.xml.2.why", "camt.xml.why"}) {
			t.Errorf("refused %v", got)
		}
	})
}

// A bank that refuses or settles a message as a whole lists some of its orders, to
// say more of them: the others fare alike. Of one that has the message, or an order,
// already the refusal is no word about what it paid.
func TestStatusOfAMessageWithSomeOrders(t *testing.T) {
	const message = "PO20261123-000001"
	for _, c := range []struct {
		name, group, order string // order: what is said of the first
		states             [2]PayoutState
	}{
		{"refused", "<GrpSts>RJCT</GrpSts><StsRsnInf><Rsn><Cd>FF01</Cd></Rsn></StsRsnInf>", "<TxSts>RJCT</TxSts><StsRsnInf><Rsn><Cd>AC04</Cd></Rsn></StsRsnInf>", [2]PayoutState{Failed, Failed}},
		{"settled", "<GrpSts>ACSC</GrpSts>", "<TxSts>ACSC</TxSts>", [2]PayoutState{Paid, Paid}},
		{"in process, one refused", "<GrpSts>ACSP</GrpSts>", "<TxSts>RJCT</TxSts><StsRsnInf><Rsn><Cd>AC04</Cd></Rsn></StsRsnInf>", [2]PayoutState{Failed, InProcess}},
		{"had before", "<GrpSts>RJCT</GrpSts><StsRsnInf><Rsn><Cd>DU01</Cd></Rsn></StsRsnInf>", "<TxSts>RJCT</TxSts>", [2]PayoutState{InProcess, InProcess}},
		{"one had before", "<GrpSts>PART</GrpSts>", "<TxSts>RJCT</TxSts><StsRsnInf><Rsn><Cd>AM05</Cd></Rsn></StsRsnInf>", [2]PayoutState{InProcess, InProcess}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
				e := w.engine()
				refs := make([]string, 2)
				for i := range refs {
					mid := w.merchant(1+i, "ESIGN-STD", merchant.T1, "92") // the simulated bank says nothing
					w.sale(mid, friday, 1000_00)
					refs[i] = fmt.Sprintf("20261120-%s-T1-0", mid)
				}
				w.close(e, friday)
				w.receive(e, friday, clock(monday, 9, 0))
				w.pay(e, clock(monday, 10, 0))
				must(t, os.WriteFile(filepath.Join(w.folder, "inbox", "s.xml"), fmt.Appendf(nil, `<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt><GrpHdr><MsgId>S1</MsgId></GrpHdr><OrgnlGrpInfAndSts><OrgnlMsgId>%s</OrgnlMsgId>%s</OrgnlGrpInfAndSts><OrgnlPmtInfAndSts><OrgnlPmtInfId>%s</OrgnlPmtInfId><TxInfAndSts><OrgnlEndToEndId>%s</OrgnlEndToEndId>%s</TxInfAndSts></OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>`,
					message, c.group, message, refs[0], c.order), 0o600))
				w.pay(e, clock(monday, 11, 0))
				if got := w.names("refused"); len(got) != 0 {
					t.Fatalf("refused %v", got)
				}
				for i, want := range c.states {
					if p := w.payout(e, refs[i]); p.state != want {
						t.Errorf("order %d is %s; want %s", i+1, p.state, want)
					}
				}
				w.sound(e)
			})
		})
	}
}

// Money that comes back under a payout's name is that payout returned, also when
// the bank does not say that it is a return.
func TestReturnThatDoesNotSaySo(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
		e := w.engine()
		ref := paidFriday(w, e, "92")
		for i, side := range []string{"DBIT", "CRDT"} {
			must(t, os.WriteFile(filepath.Join(w.folder, "inbox", fmt.Sprintf("n%d.xml", i)), fmt.Appendf(nil, `<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn><GrpHdr><MsgId>N%d</MsgId></GrpHdr><Ntfctn><Acct><Id><Othr><Id>9999000000000001</Id></Othr></Id></Acct>
<Ntry><Amt Ccy="CNY">994.00</Amt><CdtDbtInd>%s</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-23</Dt></BookgDt><NtryDtls><TxDtls><Refs><EndToEndId>%s</EndToEndId></Refs></TxDtls></NtryDtls></Ntry>
<Ntry><Amt Ccy="CNY">5.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-23</Dt></BookgDt><NtryDtls><TxDtls><Refs><EndToEndId>UNIONPAY-20261120</EndToEndId></Refs></TxDtls></NtryDtls></Ntry>
</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>`, i, side, ref), 0o600))
			w.pay(e, clock(monday, 11, i))
			if p, want := w.payout(e, ref), []PayoutState{Paid, CameBack}[i]; p.state != want {
				t.Errorf("after %s it is %s; want %s", side, p.state, want)
			}
		}
		w.sound(e)
	})
}

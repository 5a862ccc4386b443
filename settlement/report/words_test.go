package report

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/settlement"
	"acquirer/store"
	"acquirer/store/storetest"
)

// Chargebacks, what is given back of them, fees, holds and releases are kinds of
// their own in a statement, in Chinese, and what a person wrote stays.
func TestStatementKinds(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		s := newStreet(t, db)
		ctx := t.Context()
		if err := s.engine.Ledger().Post(ctx, ledger.OwnFunds("start", friday, 10_000_00)); err != nil {
			t.Fatal(err)
		}
		sale := s.sell(stall, friday, journal.Sale, journal.Debit, "north", 200_00, 0)
		s.sell(stall, friday, journal.Sale, journal.Debit, "north", 800_00, 0)
		s.close(friday)
		s.sell(stall, saturday, journal.Sale, journal.Debit, "north", 1000_00, 0)
		if _, err := s.engine.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		at := saturday.Time().Add(20 * time.Hour)
		chargeback := func(key string) error {
			return s.engine.Chargeback(ctx, settlement.Chargeback{Key: key, Merchant: stall, Txn: sale, Amount: 60_00, Text: "chargeback 4853"}, at)
		}
		for _, err := range []error{
			chargeback("1"), chargeback("2"), s.engine.ChargebackWon(ctx, "1", 60_00, at),
			s.engine.ExtraFee(ctx, "repair/1", stall, 10_00, "won", at), // a person's word, whatever it says
			s.engine.AskHold(ctx, settlement.Hold{Key: "h1", Merchant: stall, Amount: 50_00, Reason: "chargeback 4853", AskedBy: "li"}, at),
			s.engine.ConfirmHold(ctx, "h1", "wang", at), s.engine.AskRelease(ctx, "h1", "li", at), s.engine.Release(ctx, "h1", "wang", at),
			db.Write(ctx, func(tx store.Tx) error {
				if _, err := settlement.OweTx(tx, "recon/long/north/2026-11-20/1", stall, 7_00, 0, "long 000000000009", at); err != nil {
					return err
				}
				_, err := ledger.PostTx(tx, []ledger.Transfer{ledger.LongItem("1", saturday, "", 7_00), ledger.LongResolved("1", saturday, "", stall, 7_00)})
				return err
			}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		s.close(saturday)
		p := s.json(Request{Report: "statement", Merchant: stall, From: saturday, To: saturday})
		same(t, "kinds", p.rows("其他款项", "kind", "text", "amount"), "拒付 拒付, 原因码4853 -60.00", "拒付 拒付, 原因码4853 -60.00", "拒付退回 申诉成功, 款项退回 60.00", "收费 won -10.00",
			"冻结 chargeback 4853 -50.00", "解冻 解除冻结 50.00", "其他款项 对账差异: 长款 000000000009 7.00")
		same(t, "summary", p.rows("汇总", "item", "count", "amount"), "期初结转 <nil> 0.00", "消费 1 1000.00", "撤销、冲正与退货 0 0.00", "手续费(按比例) <nil> -5.00", "手续费(每笔固定) <nil> 0.00",
			"快速到账服务费 <nil> 0.00", "拒付 2 -120.00", "拒付退回 1 60.00", "收费 1 -10.00", "冻结 1 -50.00", "解冻 1 50.00", "其他款项 1 7.00", "转入或收回欠款 <nil> 0.00",
			"已结算打款 <nil> -932.00", "期末结转 <nil> 0.00")
	})
}

func TestReasons(t *testing.T) {
	for en, zh := range map[string]string{
		"":                                "",
		"a debt of 12.30 is carried over": "欠款12.30结转下期",
		"nothing to pay":                  "无应付款",
		"the network's money has not come: 1001 does not cover it yet; it goes after the receipt": "清算资金未到账, 到账后付款",
		"nothing to pay, said the bank":                                           "nothing to pay, said the bank",
		"户名不符":                                                                    "户名不符",
		"the account takes 10000.00 a day":                                        "收款账户每日限收10000.00",
		"own funds do not cover it: paid when the network has paid":               "自有资金不足; 清算资金到账后付款",
		"watched since 2026-11-02: sells nothing: paid when the network has paid": "自2026-11-02起受关注: sells nothing; 清算资金到账后付款",
		"refunds and chargebacks are 1.00 of the 20.00 sold in 30 days":           "30天内交易20.00, 退款与拒付1.00",
		"the settlement account was changed; payouts wait until 2026-11-02 10:00": "结算账户已变更, 2026-11-02 10:00后付款",
		"the bank paid 20261120-898110054110001-T1-0, which it replaces, after all: acquirer payout recover 20261120-898110054": "被代替的20261120-898110054110001-T1-0最终已付, 待处理",
		"plan MICRO-2025 does not offer D0":                                    "费率方案MICRO-2025不提供D+0",
		"it would be sent no earlier than T+1: paid when the network has paid": "不早于T+1, 按T+1到账; 清算资金到账后付款",
		"the account takes 10000.00 a day and was sent 9000.00":                "收款账户每日限收10000.00, 当日已付9000.00",
		"cut by 12.00 for hold dispute/12/1":                                   "因冻结减少12.00",
		"paid after all: the account is closed":                                "最终已付, 曾被拒: the account is closed",
		"settlement: the payout was not sent: Post \"http://10.0.0.7:7001/v1/payouts\": dial tcp 10.0.0.7:7001: connect: connection refused": "尚未送达银行, 待重发",
		"settlement: the payout was not sent: the bank is closed: \"closed on request\"":                                                     "银行暂停受理, 待重发",
		"settlement: the payout was not sent: the bank cannot take such an order: no bank's name":                                            "银行无法办理, 待处理",
		"settlement: sending payout 20261126-898110054110008-S0-15vx: Post \"http://10.0.0.7:7001/v1/payouts\":\ncontext deadline exceeded":  "银行未答复, 查询中",
	} {
		if got := reason(en); got != zh {
			t.Errorf("%q is %q, want %q", en, got, zh)
		}
	}
}

// Every reason that settlement writes beside a payout or a line is in the table.
func TestReasonsAreTranslated(t *testing.T) {
	written := regexp.MustCompile(`(?:\.reason(?:, [\w.]+)* = (?:[\w.-]+, )*|whyLate = |return Slow\w+, )"([^"]+)"`)
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range written.FindAllStringSubmatch(string(text), -1) {
			n++
			begins := "^" + strings.TrimRight(regexp.QuoteMeta(m[1]), " ")
			if m[1] != "paid after all: " && !slices.ContainsFunc(reasonWords, func(p phrase) bool { return strings.HasPrefix(p.en.String(), begins) }) {
				t.Errorf("%s writes %q, which no merchant can read", name, m[1])
			}
		}
	}
	if n < 12 {
		t.Errorf("%d reasons found", n)
	}
}

// The table says what settlement says: whoever changes a text there changes it here.
func TestWordsAreSettlements(t *testing.T) {
	var source strings.Builder
	files, err := filepath.Glob("../*.go")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			source.Write(text)
		}
	}
	hole := regexp.MustCompile(`\([^)]*\)|\\S\+`)
	for _, words := range [][]phrase{itemWords, reasonWords} {
		for _, w := range words {
			for _, part := range hole.Split(strings.Trim(w.en.String(), "^$"), -1) {
				part = strings.ReplaceAll(part, `\+`, "+")
				without := part // its last word may be put in, as a state or a speed is
				if i := strings.LastIndexByte(part, ' '); i > 0 {
					without = part[:i+1]
				}
				if !strings.Contains(source.String(), part) && (without == part || !strings.Contains(source.String(), without)) {
					t.Errorf("settlement does not say %q (of %s)", part, w.en)
				}
			}
		}
	}
	if !strings.Contains(source.String(), `": paid when the network has paid"`) {
		t.Error("settlement does not say that it pays when the network has paid")
	}
}

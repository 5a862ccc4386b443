package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"
	"golang.org/x/image/font/sfnt"
	"pgregory.net/rapid"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/reconcile"
	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

var schemas = []store.Schema{merchant.Schema, journal.Schema, ledger.Schema, settlement.Schema, reconcile.Schema}

const (
	friday   calendar.Date = 20261120
	saturday calendar.Date = 20261121
	stall                  = "898110054110001"
	shop                   = "898110054110002"
)

// street is a house whose journal two merchants have sold through.
type street struct {
	t       testing.TB
	db      *store.DB
	journal *journal.Journal
	engine  *settlement.Engine
	books   *Books
	stan    int32
}

func newStreet(t testing.TB, db *store.DB) *street {
	t.Helper()
	reg, err := merchant.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	account := merchant.Account{Sealed: []byte("x"), Masked: "622848*********0018", Name: "王芳", Bank: "农业银行", Class: 1}
	if err := reg.Put(t.Context(), []merchant.Merchant{
		{MID: stall, Name: "=王芳的\"夜市\"小摊,<b>", MCC: "5814", Status: merchant.Active, Plan: "MICRO-2025", Speed: merchant.T1, Tier: merchant.Assessed, Account: account},
		{MID: shop, Name: "李明手工", MCC: "5944", Status: merchant.Active, Plan: "ESIGN-STD", Speed: merchant.D0, Tier: merchant.Assessed, Account: account},
	}, nil); err != nil {
		t.Fatal(err)
	}
	s := &street{t: t, db: db, journal: journal.New(db, nil)}
	s.engine, err = settlement.New(settlement.Config{DB: db, Source: settlement.FromJournal(s.journal, func(int32) merchant.Entry { return "" }), Merchants: reg})
	if err != nil {
		t.Fatal(err)
	}
	s.books = New(db, reg, "48211000")
	return s
}

// sell journals an approved transaction of a kind.
func (s *street) sell(mid string, day calendar.Date, kind journal.Kind, channel journal.Channel, issuer string, amount money.Amount, of int64) int64 {
	s.t.Helper()
	s.stan++
	at := day.Time().Add(12*time.Hour + time.Duration(s.stan)*time.Second)
	x := &journal.Transaction{ID: store.NewID(), Key: journal.Key{Day: day, Terminal: "10000001", Batch: 1, STAN: s.stan, Kind: kind}, Merchant: mid, MTI: 0x0200,
		Amount: amount, Currency: 156, PANMasked: "621000******0018", Channel: channel, Issuer: issuer, RRN: fmt.Sprintf("%012d", s.stan), Original: of, Opened: at, Deadline: at.Add(time.Minute)}
	if _, err := s.journal.Open(s.t.Context(), x); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.journal.Close(s.t.Context(), x, journal.Outcome{Reason: journal.Approved, Approval: "A12345", Closed: at.Add(time.Second)}); err != nil {
		s.t.Fatal(err)
	}
	return x.ID
}

// live is two days: cards, a wallet, a refund, a void and a repair.
func (s *street) live() {
	s.t.Helper()
	ctx := s.t.Context()
	if err := s.engine.Ledger().Post(ctx, ledger.OwnFunds("start", friday, money.Yuan(10_000))); err != nil {
		s.t.Fatal(err)
	}
	sale := s.sell(stall, friday, journal.Sale, journal.Credit, "north", 100_00, 0)
	s.sell(stall, friday, journal.Sale, journal.Debit, "north", 200_00, 0)
	s.sell(stall, friday, journal.Sale, journal.QR, "wechat", 50_00, 0)
	s.sell(stall, friday, journal.Refund, journal.Credit, "north", 40_00, sale)
	voided := s.sell(shop, friday, journal.Sale, journal.Credit, "north", 30_00, 0)
	s.sell(shop, friday, journal.Void, journal.Credit, "north", 30_00, voided)
	s.sell(shop, friday, journal.Sale, journal.Credit, "north", 5000_00, 0)
	s.close(friday)
	if err := s.engine.ExtraFee(ctx, "repair/1", stall, 100_00, "维修费(WO-1)", friday.Time().Add(25*time.Hour)); err != nil {
		s.t.Fatal(err)
	}
	s.sell(stall, saturday, journal.Sale, journal.Credit, "north", 300_00, 0)
	s.close(saturday)
}

func (s *street) close(day calendar.Date) {
	s.t.Helper()
	if _, err := s.engine.CloseDay(s.t.Context(), day, day.AddDays(1).Time().Add(time.Minute), false); err != nil {
		s.t.Fatal(err)
	}
}

func (s *street) write(r Request) []byte {
	s.t.Helper()
	var out bytes.Buffer
	if err := s.books.Write(s.t.Context(), r, &out); err != nil {
		s.t.Fatalf("%+v: %v", r, err)
	}
	return out.Bytes()
}

// page is a report in JSON.
type page struct {
	Title  string
	Facts  map[string]string
	Tables []struct {
		Name  string
		Rows  []map[string]any
		Total map[string]any
	}
}

func (s *street) json(r Request) (p page) {
	s.t.Helper()
	r.Format = "json"
	text := s.write(r)
	if err := json.Unmarshal(text, &p); err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
	return p
}

// rows are a table's rows, each as its cells in a line.
func (p *page) rows(table string, keys ...string) (out []string) {
	for _, t := range p.Tables {
		if t.Name != table {
			continue
		}
		for _, r := range t.Rows {
			var cells []string
			for _, k := range keys {
				cells = append(cells, fmt.Sprint(r[k]))
			}
			out = append(out, strings.Join(cells, " "))
		}
	}
	return out
}

// total is a table's total under some keys, in a line.
func (p *page) total(table string, keys ...string) string {
	var cells []string
	for _, t := range p.Tables {
		for _, k := range keys {
			if t.Name == table {
				cells = append(cells, fmt.Sprint(t.Total[k]))
			}
		}
	}
	return strings.Join(cells, " ")
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func each(t *testing.T, f func(*testing.T, *street)) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		s := newStreet(t, db)
		s.live()
		f(t, s)
	})
}

// The statement of two days, by hand: 100.00 of a credit card takes 0.60 + 3.00,
// 200.00 of a debit card 1.00, 50.00 by WeChat 0.19, and 40.00 refunded return 0.24.
func TestStatement(t *testing.T) {
	each(t, func(t *testing.T, s *street) {
		p := s.json(Request{Report: "statement", Merchant: stall, From: friday, To: saturday})
		same(t, "summary", p.rows("汇总", "item", "count", "amount"), "期初结转 <nil> 0.00", "消费 4 650.00", "撤销、冲正与退货 1 -40.00", "手续费(按比例) <nil> -3.35",
			"手续费(每笔固定) <nil> -6.00", "快速到账服务费 <nil> 0.00", "拒付 0 0.00", "拒付退回 0 0.00", "收费 1 -100.00",
			"冻结 0 0.00", "解冻 0 0.00", "其他款项 0 0.00", "转入或收回欠款 <nil> 0.00", "已结算打款 <nil> -500.65", "期末结转 <nil> 0.00")
		same(t, "methods", p.rows("按支付方式", "method", "sales", "sold", "backs", "back", "fee", "net"), "借记卡 1 200.00 0 0.00 1.00 199.00",
			"微信支付 1 50.00 0 0.00 0.19 49.81", "贷记卡 2 400.00 1 40.00 8.16 351.84")
		same(t, "days", p.rows("按结算日", "date", "sales", "sold", "back", "fee", "other", "paid", "carry"), "2026-11-20 3 350.00 40.00 4.55 0.00 305.45 0.00",
			"2026-11-21 1 300.00 0.00 4.80 -100.00 195.20 0.00")
		same(t, "other", p.rows("其他款项", "kind", "date", "text", "amount"), "收费 2026-11-21 维修费(WO-1) -100.00")
		same(t, "payouts", p.rows("打款明细", "payout", "due", "speed", "amount", "state"), "20261120-"+stall+"-T1-0 2026-11-23 T+1 305.45 待付",
			"20261121-"+stall+"-T1-0 2026-11-23 T+1 195.20 待付")
		if p.Facts["商户名称"] != `=王芳的"夜市"小摊,<b>` || p.Facts["账期"] != "2026-11-20 至 2026-11-21" || !strings.Contains(p.Facts["费率"], "封顶20.00元") {
			t.Errorf("facts %v", p.Facts)
		}
		if p := s.json(Request{Report: "statement", Merchant: stall, From: friday, To: saturday.AddDays(3)}); p.Facts["账期"] != "2026-11-20 至 2026-11-24 (2026-11-22起未结账)" {
			t.Errorf("a period that is not over: %s", p.Facts["账期"])
		}
		// A day that nothing was sold on is a statement too.
		empty := s.json(Request{Report: "statement", Merchant: shop, From: saturday, To: saturday})
		same(t, "an empty day", empty.rows("汇总", "item", "amount")[13:], "已结算打款 0.00", "期末结转 0.00")
	})
}

func TestDetail(t *testing.T) {
	each(t, func(t *testing.T, s *street) {
		keys := []string{"settle_date", "type", "method", "card", "stan", "original_rrn", "amount", "fee_rate", "fee_fixed", "speed_fee", "net", "plan"}
		day := s.json(Request{Report: "detail", From: friday, To: friday})
		want := []string{
			"2026-11-20 消费 贷记卡 621000******0018 000001  100.00 0.60 3.00 0.00 96.40 MICRO-2025 v1",
			"2026-11-20 消费 借记卡 621000******0018 000002  200.00 1.00 0.00 0.00 199.00 MICRO-2025 v1",
			"2026-11-20 消费 微信支付  000003  50.00 0.19 0.00 0.00 49.81 MICRO-2025 v1",
			"2026-11-20 退货 贷记卡 621000******0018 000004 000000000001 -40.00 -0.24 0.00 0.00 -39.76 MICRO-2025 v1"}
		others := []string{
			"2026-11-20 消费 贷记卡 621000******0018 000005  30.00 0.18 0.00 0.00 29.82 ESIGN-STD v1", // the first sale is paid at T+1
			"2026-11-20 撤销 贷记卡 621000******0018 000006 000000000005 -30.00 -0.18 0.00 0.00 -29.82 ESIGN-STD v1",
			"2026-11-20 消费 贷记卡 621000******0018 000007  5000.00 30.00 0.00 2.49 4967.51 ESIGN-STD v1"}
		same(t, "a day", day.rows("明细", keys...), append(append([]string{}, want...), others...)...)
		same(t, "why", day.rows("明细", "stan", "note")[4:], "000005 商户首笔交易按T+1到账", "000006 无应付款", "000007 ")
		ref := "20261120-" + stall + "-T1-0"
		down := s.json(Request{Report: "detail", Payout: ref})
		if got := day.total("明细", "amount", "fee_rate", "fee_fixed", "speed_fee", "net", "stan"); got != "5310.00 31.55 3.00 2.49 5272.96 <nil>" {
			t.Errorf("a day comes to %s", got)
		}
		same(t, "a payout", down.rows("交易", keys...), want...)
		same(t, "what it is made of", down.rows("打款构成", "item", "amount"), "交易净额(未扣费) 310.00", "手续费 -4.55", "快速到账服务费 0.00", "其他款项 0.00", "转入或收回欠款 0.00",
			"期初结转 0.00", "结转下期 0.00", "打款金额 305.45")
		if got := down.rows("交易", "payout"); len(got) != 4 || got[0] != ref {
			t.Errorf("payouts %v", got)
		}
	})
}

// Costs and margins by 2.7 of the tariff: 0.45 % and 0.0325 % of credit cards,
// 0.35 % and 0.0325 % of debit cards.
func TestOperatorsReports(t *testing.T) {
	each(t, func(t *testing.T, s *street) {
		p := s.json(Request{Report: "cost", From: friday, To: friday})
		same(t, "costs", p.rows("明细", "merchant", "class", "speed", "method", "count", "amount", "fee", "speed_fee", "issuer_fee", "network_fee", "cost", "cash_in", "merchant_net", "margin"),
			stall+" 标准 T+1 贷记卡 2 60.00 3.36 0.00 0.45 0.03 0.48 59.52 56.64 2.88",
			stall+" 标准 T+1 借记卡 1 200.00 1.00 0.00 0.70 0.07 0.77 199.23 199.00 0.23",
			stall+" 标准 T+1 微信支付 1 50.00 0.19 0.00 0.00 0.00 0.00 50.00 49.81 0.19",
			shop+" 标准 D+0 贷记卡 1 5000.00 30.00 2.49 22.50 1.63 24.13 4975.87 4967.51 8.36",
			shop+" 标准 T+1 贷记卡 2 0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00")
		same(t, "totals", p.rows("合计", "item", "amount"), "交易金额 5310.00", "商户手续费 34.55", "到账服务费 2.49", "发卡行服务费 -23.65", "网络服务费 -1.73",
			"品牌服务费 0.00", "费用差异 0.00", "差错费 0.00", "毛利 11.66")
		// The margin is what the ledger earned on that date.
		income, err := s.engine.Ledger().DayIncome(t.Context(), friday)
		if err != nil || income.Net().String() != "11.66" {
			t.Errorf("the ledger earned %s, %v", income.Net(), err)
		}
		safe := s.json(Request{Report: "safeguarding", From: friday, To: saturday})
		same(t, "covered", safe.rows("覆盖检查", "date", "there", "owed", "surplus", "covered"), "2026-11-20 5284.62 5272.96 11.66 足额", "2026-11-21 5583.17 5468.16 115.01 足额")
		// The bank paid before the networks did: covered, but not by its account.
		early := ledger.Payout{Ref: "early", Date: saturday.AddDays(1), Merchant: shop, Amount: 100_00}
		if err := s.engine.Ledger().Post(t.Context(), early.Long()...); err != nil {
			t.Fatal(err)
		}
		under := s.json(Request{Report: "safeguarding", From: saturday.AddDays(1), To: saturday.AddDays(1)})
		same(t, "paid early", under.rows("覆盖检查", "surplus", "covered"), "15.01 足额,银行存款为负")
		var payable []string // every date has its row
		for _, row := range safe.rows("科目余额", "account", "date", "opening", "debit", "credit", "closing") {
			if strings.HasPrefix(row, "2101 ") {
				payable = append(payable, row)
			}
		}
		same(t, "payable", payable, "2101 2026-11-20 0.00 72.07 5345.03 5272.96", "2101 2026-11-21 5272.96 100.00 295.20 5468.16")
		inv := s.json(Request{Report: "invoice", Merchant: stall, From: friday, To: saturday})
		same(t, "invoice", inv.rows("费用", "item", "method", "count", "base", "fee"), "收单手续费(按比例) 借记卡 1 200.00 1.00", "收单手续费(按比例) 微信支付 1 50.00 0.19",
			"收单手续费(按比例) 贷记卡 3 360.00 2.16", "收单手续费(每笔固定) 贷记卡 3 360.00 6.00", "维修费(WO-1)  1 <nil> 100.00")
		if got := inv.total("费用", "fee"); got != "109.35" {
			t.Errorf("the invoice comes to %s", got)
		}
		trial := s.json(Request{Report: "trial-balance", From: saturday, To: saturday})
		for _, row := range trial.rows("合计", "book", "difference") {
			if !strings.HasSuffix(row, " 0.00") {
				t.Errorf("a book does not balance: %s", row)
			}
		}
		if closed := trial.Facts["截至"]; closed != "2026-11-21" {
			t.Errorf("the closed date is as of %q", closed)
		}
		if p := s.json(Request{Report: "trial-balance", From: saturday, To: saturday.AddDays(3)}); p.Facts["截至"] != "2026-11-24 (2026-11-22起未结账)" {
			t.Errorf("the open date is as of %q", p.Facts["截至"])
		}
		if n := len(trial.rows("科目", "account")); n < 8 {
			t.Errorf("%d accounts", n)
		}
	})
}

// Every report in every format, twice the same bytes, without an account number,
// and nothing that a spreadsheet would compute.
func TestFormats(t *testing.T) {
	each(t, func(t *testing.T, s *street) {
		dir := t.TempDir()
		for _, name := range Reports() {
			for _, format := range Formats {
				r := Request{Report: name, From: friday, To: saturday, Format: format}
				if reports[name].ofMerchant || name == "detail" {
					r.Merchant = stall
				}
				f, err := s.books.Make(t.Context(), r, dir)
				if err != nil {
					t.Fatalf("%s as %s: %v", name, format, err)
				}
				again, err := s.books.Make(t.Context(), r, dir)
				if err != nil || again != f && format != "xlsx" { // its archive has its parts in any order
					t.Errorf("%s as %s again: %+v, was %+v, %v", name, format, again, f, err)
				}
				if !strings.HasPrefix(f.Name, name+"-20261120-20261121") || !strings.HasSuffix(f.Name, "-"+f.Sum[:8]+"."+format) || strings.Contains(f.Name, "王") {
					t.Errorf("the file is called %s", f.Name)
				}
			}
		}
		left, err := filepath.Glob(filepath.Join(dir, ".report-*"))
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		r := Request{Report: "statement", Merchant: stall, From: friday, To: saturday}
		checkCSV(t, s, r)
		checkXLSX(t, s, r)
		checkPDF(t, s, r)
		r.Format = "html"
		html := string(s.write(r))
		if strings.Contains(html, "<b>") || !strings.Contains(html, "=王芳的&#34;夜市&#34;小摊,&lt;b&gt;") || strings.Count(html, "<table>") != strings.Count(html, "</table>") {
			t.Errorf("the page: %s", html)
		}
	})
}

func checkCSV(t *testing.T, s *street, r Request) {
	t.Helper()
	r.Format = "csv"
	text := s.write(r)
	if !bytes.HasPrefix(text, []byte("\ufeff商户对账单\r\n")) {
		t.Errorf("begins %q", text[:40])
	}
	read := csv.NewReader(bytes.NewReader(text[3:]))
	read.FieldsPerRecord = -1
	all, err := read.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, line := range all {
		for _, cell := range line {
			seen[cell] = true
			if cell != "" && strings.ContainsRune("=+@\t\r", rune(cell[0])) {
				t.Errorf("a cell begins like a formula: %q", cell)
			}
			if _, err := money.Parse(cell); strings.HasPrefix(cell, "-") && err != nil {
				t.Errorf("a cell begins with a minus and is no amount: %q", cell)
			}
		}
	}
	for _, want := range []string{`'=王芳的"夜市"小摊,<b>`, "-100.00", "微信支付", "20261120-" + stall + "-T1-0"} {
		if !seen[want] {
			t.Errorf("no cell is %q", want)
		}
	}
	if code(stall) != "`"+stall || code("000001") != "`000001" || code("12E345") != "`12E345" || code("1") != "1" || code("10000001") != "10000001" || code("A12345") != "A12345" || code("=1") != "'=1" {
		t.Errorf("codes: %s %s %s", code(stall), code("000001"), code("=1"))
	}
	for _, bad := range []string{"=1+1", "+1", "-1", "@A1", "\tx", "\rx", "\nx"} {
		if guarded(bad) != "'"+bad {
			t.Errorf("%q is not guarded", bad)
		}
	}
}

func checkXLSX(t *testing.T, s *street, r Request) {
	t.Helper()
	r.Format = "xlsx"
	book, err := excelize.OpenReader(bytes.NewReader(s.write(r)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := book.Close(); err != nil {
			t.Error(err)
		}
	}()
	if got := fmt.Sprint(book.GetSheetList()); got != "[概要 汇总 按支付方式 按结算日 其他款项 打款明细]" {
		t.Errorf("sheets %s", got)
	}
	if page, err := book.GetPageLayout("汇总"); err != nil || *page.Size != 9 || *page.FitToWidth != 1 {
		t.Errorf("a sheet prints on %v, %v", page, err)
	}
	if panes, err := book.GetPanes("打款明细"); err != nil || !panes.Freeze || panes.YSplit != 1 {
		t.Errorf("the headings go away: %+v, %v", panes, err)
	}
	if hf, err := book.GetHeaderFooter("按结算日"); err != nil || !strings.Contains(hf.OddHeader, "商户对账单") || !strings.Contains(hf.OddFooter, "&P") {
		t.Errorf("a printed page says %+v, %v", hf, err)
	}
	for _, c := range [][3]string{{"概要", "B4", `'=王芳的"夜市"小摊,<b>`}, {"汇总", "C15", "-500.65"}, {"打款明细", "A2", "20261120-" + stall + "-T1-0"}} {
		if got, err := book.GetCellValue(c[0], c[1]); err != nil || got != c[2] {
			t.Errorf("%s!%s is %q, %v; want %q", c[0], c[1], got, err, c[2])
		}
	}
	if kind, err := book.GetCellType("汇总", "C15"); err != nil || kind != excelize.CellTypeUnset && kind != excelize.CellTypeNumber {
		t.Errorf("an amount is no number: %v, %v", kind, err)
	}
	if f, err := book.GetCellFormula("概要", "B4"); err != nil || f != "" {
		t.Errorf("a name became the formula %q, %v", f, err)
	}
}

// The PDF carries its font, and the font has every character of it.
func checkPDF(t *testing.T, s *street, r Request) {
	t.Helper()
	r.Format = "pdf"
	pdf := s.write(r)
	if !bytes.HasPrefix(pdf, []byte("%PDF-1")) || !bytes.Contains(pdf, []byte("/FontFile2")) {
		t.Fatalf("begins %q and has no font", pdf[:20])
	}
	if len(pdf) > 300_000 {
		t.Errorf("%d bytes: it carries more than the characters that it uses", len(pdf))
	}
	ttf, err := font()
	if err != nil {
		t.Fatal(err)
	}
	face, err := sfnt.Parse(ttf)
	if err != nil {
		t.Fatal(err)
	}
	r.Format = "json"
	var buf sfnt.Buffer
	for _, c := range string(s.write(r)) + "人民币¥喆堃镕" {
		if g, err := face.GlyphIndex(&buf, c); c > ' ' && (err != nil || g == 0) {
			t.Errorf("the font has no %q: %v", c, err)
		}
	}
	if tool, err := exec.LookPath("pdftotext"); err == nil {
		cmd := exec.CommandContext(t.Context(), tool, "-layout", "-", "-")
		cmd.Stdin = bytes.NewReader(pdf)
		text, err := cmd.Output()
		for _, want := range []string{"商户对账单", "小摊", "微信支付", "500.65", "维修费(WO-1)", "第"} {
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("the PDF does not say %q (%v):\n%s", want, err, text)
			}
		}
	}
}

func TestRequestsAreRefused(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		s := newStreet(t, db)
		for _, c := range []struct {
			r    Request
			says string
		}{
			{Request{Report: "gossip", From: friday, To: friday, Format: "csv"}, "none of statement"},
			{Request{Report: "cost", From: friday, To: friday, Format: "doc"}, "none of csv"},
			{Request{Report: "cost", From: saturday, To: friday, Format: "csv"}, "no period"},
			{Request{Report: "cost", From: 20250101, To: 20260110, Format: "csv"}, "366 days"},
			{Request{Report: "cost", From: 20261131, To: 20261201, Format: "csv"}, "no period"},
			{Request{Report: "statement", From: friday, To: friday, Format: "csv"}, "name its MID"},
			{Request{Report: "statement", Merchant: "1", From: friday, To: friday, Format: "csv"}, "no merchant"},
			{Request{Report: "safeguarding", Merchant: stall, From: friday, To: friday, Format: "csv"}, "whole house"},
			{Request{Report: "trial-balance", Merchant: stall, From: friday, To: friday, Format: "csv"}, "whole house"},
			{Request{Report: "cost", Payout: "x", Format: "csv"}, "only detail"},
			{Request{Report: "detail", Payout: "x", Merchant: stall, Format: "csv"}, "nothing else"},
			{Request{Report: "detail", Payout: "../../etc", Format: "csv"}, "no payout"},
		} {
			err := s.books.Write(t.Context(), c.r, &bytes.Buffer{})
			if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v: %v, want %q", c.r, err, c.says)
			}
		}
		if got := (&Request{Report: "detail", Payout: "../../etc/王"}).name(); got != "detail-etc" {
			t.Errorf("a file would be called %s", got)
		}
	})
	if from, to := Month(20260215); from != 20260201 || to != 20260228 {
		t.Errorf("february is %s to %s", from, to)
	}
	if from, to := Month(20261231); from != 20261201 || to != 20261231 {
		t.Errorf("december is %s to %s", from, to)
	}
}

// A day of many sales is written in the memory of a day of few.
func TestMemoryIsFlat(t *testing.T) {
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "a.db"), schemas...)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := newStreet(t, db)
	few, many := 2_000, 40_000
	if n, err := strconv.Atoi(os.Getenv("REPORT_ROWS")); err == nil {
		many = n
	}
	s.synthetic(1, friday, few)
	s.synthetic(2, saturday, many)
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	for _, format := range []string{"csv", "json", "html", "xlsx"} {
		peak := func(day calendar.Date) uint64 {
			debug.FreeOSMemory()
			return heapPeak(t, func() {
				if err := s.books.Write(t.Context(), Request{Report: "detail", From: day, To: day, Format: format}, nowhere{}); err != nil {
					t.Error(err)
				}
			})
		}
		most := uint64(24 << 20)
		if format == "xlsx" {
			most = 96 << 20 // the library gathers 16 MB of a sheet, in a buffer that doubles, before it goes to a file
		}
		if small, big := peak(friday), peak(saturday); big > small+most {
			t.Errorf("%s: %d rows took %d MB, %d rows %d MB", format, few, small>>20, many, big>>20)
		} else {
			t.Logf("%s: peak heap %d MB for %d rows, %d MB for %d", format, small>>20, few, big>>20, many)
		}
	}
	if err := s.books.Write(t.Context(), Request{Report: "detail", From: saturday, To: saturday, Format: "pdf"}, nowhere{}); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "xlsx") {
		t.Errorf("a PDF of %d rows: %v", many, err)
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// heapPeak is the most that was on the heap while f ran.
func heapPeak(t *testing.T, f func()) (peak uint64) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan uint64)
	go func() {
		sample, most := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}, uint64(0)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-ctx.Done():
				ended <- most
				return
			case <-tick.C:
			}
		}
	}()
	f()
	stop()
	return <-ended
}

// synthetic writes the settled lines of one merchant's day.
func (s *street) synthetic(id int64, day calendar.Date, n int) {
	s.t.Helper()
	if err := s.db.Write(s.t.Context(), func(tx store.Tx) error {
		if _, err := tx.Exec("insert into settlement_run (id, date, seq, state, upto, touched, started, ended) values ($1,$2,0,3,'',0,1,1)", id, day); err != nil {
			return err
		}
		if _, err := tx.Exec(`insert into settlement_batch (id, run, date, merchant, speed, lines, gross, fee, speed_fee, carry_in, carry_out, payout, paid, reason)
			values ($1,$1,$2,$3,'T1',$4,0,0,0,0,0,'',0,'')`, id, day, stall, n); err != nil {
			return err
		}
		_, err := tx.Exec(`with recursive n(i) as (select 1 union all select i + 1 from n where i < $4)
			insert into settlement_line (id, effect, date, txn_date, merchant, terminal, rrn, issuer, wallet, speed, plan, plan_version, amount, fee_rate, fee_fixed, speed_fee,
				issuer_fee, network_fee, run, parent)
			select $1 * 1000000 + i, 1, $2, $2, $3, '10000001', 'R' || i, 'north', '', 'T1', 'MICRO-2025', 1, 10000, 60, 300, 0, 45, 3, $1, 0 from n`, id, day, stall, n)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
}

// Cutting a text into lines loses nothing, and no line is too wide.
func TestPDFWraps(t *testing.T) {
	s := newPDF(nowhere{}, friday)
	if err := s.begin(&head{"试", [][2]string{{"说明", strings.Repeat("费率调整通知 ", 40)}}}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "结算日", "交易时间", "20261120-898110054110001-T1-0", "王芳 A b", strings.Repeat("支付方式", 50), "a b  c"} {
		for _, width := range []float64{1, 6, 13, 40} {
			lines := s.wrap(text, 8, width)
			if strings.Join(lines, "") != text {
				t.Errorf("%q at %v became %q", text, width, lines)
			}
			for _, l := range lines {
				if n := len([]rune(l)); n > 1 && s.width(l, 8) > width+0.01 {
					t.Errorf("%q is wider than %v", l, width)
				}
			}
		}
	}
}

// A wide table begins on the first page and lies across, its amounts stay in one
// line, and every page says of which report it is.
func TestPDFPages(t *testing.T) {
	var out bytes.Buffer
	s := newPDF(&out, friday)
	if err := s.begin(&head{"结算明细", [][2]string{{"商户名称", "一家名字很长的小店"}, {"账期", "2026-11-20"}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.table("明细", detailColumns); err != nil {
		t.Fatal(err)
	}
	row := []any{friday, stall, "10000001", "2026-11-20 12:00:01", "消费", "贷记卡", "621000******0018", "north", "000001", "000001", "2X2FYZCH2PS1", "2X2FYZCH2PS1", "A12345",
		money.Amount(1_234_567_89), money.Amount(60), money.Amount(300), money.Amount(0), money.Amount(-1_234_567_89), "T+1", "MICRO-2025 v1", "20261120-" + stall + "-T1-0", "own funds do not cover it"}
	for range 300 {
		if err := s.row(row); err != nil {
			t.Fatal(err)
		}
	}
	var sum lineSum
	if err := errors.Join(s.total(sum.cells()), s.end()); err != nil {
		t.Fatal(err)
	}
	if n := s.pdf.PageNo(); n < 6 || n > 16 {
		t.Errorf("300 rows take %d pages", n)
	}
	if !s.across {
		t.Error("21 columns stand upright")
	}
	for i, c := range detailColumns {
		if lines := s.wrap(shown(row[i]), s.size, s.widths[i]-2*s.pad()); c.Kind == Money && len(lines) > 1 {
			t.Errorf("%s is cut: %q", c.Name, lines)
		}
	}
	tool, err := exec.LookPath("pdftotext")
	if err != nil {
		t.Skip("no pdftotext")
	}
	cmd := exec.CommandContext(t.Context(), tool, "-layout", "-", "-")
	cmd.Stdin = bytes.NewReader(out.Bytes())
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pages := strings.Split(strings.TrimSuffix(string(text), "\f"), "\f")
	for i, p := range pages {
		for _, want := range []string{"结算明细", "一家名字很长的小店", "2026-11-20", "1,234,567.89", "-1,234,567.89", fmt.Sprintf("第 %d 页 / 共 %d 页", i+1, len(pages))} {
			if !strings.Contains(p, want) {
				t.Errorf("page %d does not say %q:\n%s", i+1, want, p)
			}
		}
	}
	if !strings.Contains(pages[len(pages)-1], "合计") {
		t.Error("the last page has no total")
	}
}

// A class II account takes 10,000 yuan a day: its batch has several payouts.
// One that was replaced stands above the one that replaced it.
func TestPayoutsOfABatch(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		s := newStreet(t, db)
		const mid = "898110054110003"
		if err := s.books.merchants.Put(t.Context(), []merchant.Merchant{{MID: mid, Name: "二类户", MCC: "5944", Status: merchant.Active, Plan: "ESIGN-STD", Speed: merchant.T1,
			Tier: merchant.Assessed, Account: merchant.Account{Sealed: []byte("x"), Class: 2}}}, nil); err != nil {
			t.Fatal(err)
		}
		s.sell(mid, friday, journal.Sale, journal.Debit, "north", 25_000_00, 0)
		s.close(friday)
		ref := "20261120-" + mid + "-T1-0"
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			if _, err := tx.Exec("update settlement_payout set state = 7, child = 'again' where ref = $1", ref+"b"); err != nil {
				return err
			}
			_, err := tx.Exec(`insert into settlement_payout (ref, batch, merchant, date, due, speed, amount, advance, reissue, parent, child, state, reason, bank_id, account, submitted, asked, finished, repaid, long)
				select 'again', batch, merchant, date, due, speed, amount, 0, 1, ref, '', 5, '', '', account, 0, 0, 0, 0, 0 from settlement_payout where ref = $1`, ref+"b")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		p := s.json(Request{Report: "statement", Merchant: mid, From: friday, To: friday})
		same(t, "payouts", p.rows("打款明细", "payout", "due", "amount", "state"), ref+" 2026-11-23 10000.00 待付", ref+"b 2026-11-24 10000.00 退票", "again 2026-11-24 10000.00 已付",
			ref+"c 2026-11-25 4850.00 待付")
		list := s.json(Request{Report: "payouts", From: 20261123, To: 20261124})
		same(t, "the days' payouts", list.rows("打款", "due", "date", "payout", "name", "amount", "state", "replaces"), "2026-11-23 2026-11-20 "+ref+" 二类户 10000.00 待付 ",
			"2026-11-24 2026-11-20 "+ref+"b 二类户 10000.00 退票 ", "2026-11-24 2026-11-20 again 二类户 10000.00 已付 "+ref+"b")
		same(t, "by state", list.rows("按状态", "state", "count", "amount"), "待付 1 10000.00", "已付 1 10000.00", "退票 1 10000.00")
		if own := s.json(Request{Report: "payouts", Merchant: shop, From: 20261123, To: 20261124}); len(own.rows("打款", "payout")) != 0 {
			t.Error("a merchant sees the payouts of others")
		}
		for _, part := range []string{ref + "c", "again"} {
			down := s.json(Request{Report: "detail", Payout: part})
			if n := len(down.rows("交易", "rrn")); n != 1 {
				t.Errorf("%s goes down to %d transactions", part, n)
			}
		}
	})
}

// Whatever a merchant sells, gives back and is charged, day after day: its
// statements add up and go on from each other, and the details are what the
// statements say.
func TestStatementsAddUp(t *testing.T) {
	if given := flag.Lookup("rapid.checks"); given.Value.String() == given.DefValue { // each opens a database
		if err := flag.Set("rapid.checks", "15"); err != nil {
			t.Fatal(err)
		}
	}
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, fmt.Sprint(n, ".db")), schemas...)
		if err != nil {
			rt.Fatal(err)
		}
		defer db.Close()
		s := newStreet(t, db)
		days := rapid.IntRange(1, 4).Draw(rt, "days")
		var sales []int64
		var sums []money.Amount
		for i := range days {
			day := friday.AddDays(i)
			for range rapid.IntRange(0, 4).Draw(rt, "transactions") {
				amount := money.Amount(rapid.IntRange(4_00, 900_00).Draw(rt, "amount"))
				channel := rapid.SampledFrom([]journal.Channel{journal.Credit, journal.Debit, journal.QR}).Draw(rt, "channel")
				switch what := rapid.IntRange(0, 5).Draw(rt, "what"); {
				case what == 0 && len(sales) > 0: // of a day before, too: the merchant may come to owe
					at := rapid.IntRange(0, len(sales)-1).Draw(rt, "of")
					if part := min(amount, sums[at]); part > 0 {
						s.sell(stall, day, journal.Refund, journal.Credit, "north", part, sales[at])
						sums[at] -= part
					}
				case what == 1:
					if err := s.engine.ExtraFee(t.Context(), fmt.Sprint(i, " ", amount), stall, amount, "维修费", day.Time().Add(time.Hour)); err != nil {
						rt.Fatal(err)
					}
				default:
					sales, sums = append(sales, s.sell(stall, day, journal.Sale, channel, map[bool]string{true: "wechat", false: "north"}[channel == journal.QR], amount, 0)), append(sums, amount)
				}
			}
			s.close(day)
		}
		carried := "0.00"
		for i := range days + 1 { // each day, then all of them
			from, to := friday.AddDays(i), friday.AddDays(i)
			if i == days {
				from, to, carried = friday, friday.AddDays(days-1), "0.00"
			}
			p := s.json(Request{Report: "statement", Merchant: stall, From: from, To: to})
			var sum, net money.Amount
			rows := p.rows("汇总", "amount")
			for _, r := range rows[:len(rows)-1] {
				sum += yuan(rt, r)
			}
			for _, r := range p.rows("按支付方式", "net") {
				net += yuan(rt, r)
			}
			if closing := rows[len(rows)-1]; sum != yuan(rt, closing) || rows[0] != carried {
				rt.Errorf("%s to %s: it comes to %s, opening %s (carried %s): %v", from, to, sum, rows[0], carried, rows)
			} else {
				carried = closing
			}
			detail := s.json(Request{Report: "detail", Merchant: stall, From: from, To: to})
			for _, r := range detail.rows("明细", "net") {
				net -= yuan(rt, r)
			}
			if net != 0 {
				rt.Errorf("%s to %s: the details differ from the statement by %s", from, to, net)
			}
		}
	})
}

func yuan(t interface{ Fatal(...any) }, s string) money.Amount {
	a, err := money.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

package wallet

import (
	"archive/zip"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing"
)

// BillKind is what a record of a bill is about.
type BillKind uint8

// The kinds.
const (
	BillPay     BillKind = iota + 1 // a payment
	BillRefund                      // money that went back by a refund of ours
	BillRevoked                     // money that went back because the order was cancelled
)

func (k BillKind) String() string {
	switch k {
	case BillPay:
		return "pay"
	case BillRefund:
		return "refund"
	case BillRevoked:
		return "revoked"
	}
	return fmt.Sprintf("bill kind %d", uint8(k))
}

// BillRecord is one line of a wallet's daily bill.
type BillRecord struct {
	Wallet       string       // as routing.WalletOf has it
	Line         int          // where it stands in the bill, from 1
	Kind         BillKind     //
	Order        string       // ours: the payment's RRN, of what goes back too
	Refund       string       // ours: the refund's RRN; "" unless Kind is BillRefund
	Number       string       // the wallet's own number of the payment
	RefundNumber string       // and of what went back; "" when it has none
	Time         time.Time    // to the second
	Merchant     string       // the wallet's number of the merchant; "" when the bill has none
	Terminal     string       // DE 41; "" when the bill has none
	Amount       money.Amount // never below zero
	Fee          money.Amount // what the wallet keeps, rounded half up to the fen; below zero when it gives back
}

// BillError says where a bill is damaged.
type BillError struct {
	Wallet string
	Line   int // from 1; 0 when no line can be named
	Column int // the cell, from 1; 0 for the whole line
	Why    string
}

func (e *BillError) Error() string {
	where := ""
	if e.Line > 0 {
		where = fmt.Sprintf("line %d, ", e.Line)
	}
	if e.Column > 0 {
		where += fmt.Sprintf("column %d, ", e.Column)
	}
	return fmt.Sprintf("wallet: bill of %s: %s%s", e.Wallet, where, e.Why)
}

// A bill bigger than this is not one.
const (
	maxBill     = 4 << 30 // bytes, unpacked
	maxBillLine = 16 << 10
)

// ReadBill reads the daily bill of a day as FetchBill wrote it, a record at a
// time; 0 reads that of any day. The bill is read twice: a damaged one, one of
// another day, or one whose totals are not those of its lines, yields a *BillError
// and not a single record. The bytes must not change while it reads.
func ReadBill(wallet string, day calendar.Date, file io.ReaderAt, size int64) iter.Seq2[BillRecord, error] {
	return func(yield func(BillRecord, error) bool) {
		if err := scanBill(wallet, day, file, size, func(BillRecord) bool { return true }); err != nil {
			yield(BillRecord{}, err)
			return
		}
		going := true
		err := scanBill(wallet, day, file, size, func(r BillRecord) bool { going = yield(r, nil); return going })
		if err != nil && going {
			yield(BillRecord{}, err)
		}
	}
}

// scanBill reads a bill once and gives its records until take has enough.
func scanBill(wallet string, day calendar.Date, file io.ReaderAt, size int64, take func(BillRecord) bool) error {
	b := &billReader{wallet: wallet, day: day, take: take}
	var err error
	switch wallet {
	case routing.WeChat:
		err = b.wechat(io.NewSectionReader(file, 0, size))
	case routing.Alipay:
		err = b.alipay(file, size)
	case routing.UnionPayQR:
		err = b.unionpay(io.NewSectionReader(file, 0, size))
	default:
		return fmt.Errorf("wallet: nobody knows the bills of %q", wallet)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends the reading when the caller wants no more.
var errEnough = errors.New("enough")

// billReader reads lines and says where it is.
type billReader struct {
	wallet string
	day    calendar.Date // it must be of; 0 for any
	take   func(BillRecord) bool
	lines  *bufio.Scanner
	line   int
}

func (b *billReader) open(r io.Reader) {
	b.lines = bufio.NewScanner(io.LimitReader(r, maxBill))
	b.lines.Buffer(make([]byte, 0, 4<<10), maxBillLine)
}

func (b *billReader) bad(column int, why string, args ...any) error {
	return &BillError{Wallet: b.wallet, Line: b.line, Column: column, Why: fmt.Sprintf(why, args...)}
}

// next is the next line that says anything; want names what should come.
func (b *billReader) next(want string) (string, error) {
	for b.lines.Scan() {
		b.line++
		if text := strings.TrimRight(b.lines.Text(), "\r"); text != "" {
			return text, nil
		}
	}
	if err := b.lines.Err(); err != nil {
		return "", b.bad(0, "it cannot be read on: %v", err)
	}
	return "", b.bad(0, "it ends before %s", want)
}

// end checks that nothing follows.
func (b *billReader) end() error {
	for b.lines.Scan() {
		b.line++
		if strings.TrimSpace(b.lines.Text()) != "" {
			return b.bad(0, "something follows the totals")
		}
	}
	if err := b.lines.Err(); err != nil {
		return b.bad(0, "it cannot be read to its end: %v", err)
	}
	return nil
}

// of checks a date that the bill names against the day that is wanted.
func (b *billReader) of(day calendar.Date, column int) error {
	if b.day != 0 && day != b.day {
		return b.bad(column, "it is of %s and the bill of %s is wanted: fetch that one, and keep it under its own day's name", day, b.day)
	}
	return nil
}

// give hands a record on. A payment stands in the bill of the day on which it
// was paid. Money that went back may bear its payment's time (WeChat Pay), so
// that it may be older.
func (b *billReader) give(r BillRecord) error {
	if day := calendar.DateOf(r.Time); r.Kind == BillPay || day > b.day {
		if err := b.of(day, 0); err != nil {
			return err
		}
	}
	r.Wallet, r.Line = b.wallet, b.line
	if !b.take(r) {
		return errEnough
	}
	return nil
}

// row is one line of a bill with named columns.
type row struct {
	b     *billReader
	names map[string]int // column of a name, from 0
	cells []string
	err   error // the first cell that was wrong
}

// columns reads a header; need are the columns that must be there.
func (b *billReader) columns(header []string, need ...string) (map[string]int, error) {
	names := map[string]int{}
	for i, h := range header {
		name := strings.TrimSpace(h)
		if _, twice := names[name]; twice {
			return nil, b.bad(i+1, "column %.40q is there twice", name)
		}
		names[name] = i
	}
	for _, n := range need {
		if _, ok := names[n]; !ok {
			return nil, b.bad(0, "the header has no column %s", n)
		}
	}
	return names, nil
}

func (r *row) fail(name, why string, args ...any) {
	if r.err == nil {
		r.err = r.b.bad(r.names[name]+1, name+": "+why, args...)
	}
}

// text is a cell, "" for a column that this bill has not.
func (r *row) text(name string) string {
	i, ok := r.names[name]
	if !ok {
		return ""
	}
	return strings.TrimSpace(r.cells[i])
}

// number is a cell that holds a number or name of 1 to 64 printable characters.
func (r *row) number(name string) string {
	s := r.text(name)
	if s == "" || s == "0" || len(s) > 64 || !printable(s) {
		r.fail(name, "%.70q is not a number of 1 to 64 characters", s)
	}
	return s
}

// optional is number, or "" for a cell that is empty or 0.
func (r *row) optional(name string) string {
	if s := r.text(name); s == "" || s == "0" {
		return ""
	}
	return r.number(name)
}

func (r *row) yuan(name string) money.Amount {
	a, err := money.Parse(r.text(name))
	if err != nil {
		r.fail(name, "%.40q is not an amount in yuan", r.text(name))
	}
	return a
}

// fee is a cell in yuan with up to five decimals, in 1/100000 yuan.
func (r *row) fee(name string) int64 {
	v, err := hundredThousandths(r.text(name))
	if err != nil {
		r.fail(name, "%.40q is not a fee in yuan", r.text(name))
	}
	return v
}

func (r *row) time(name, layout string) time.Time {
	t, err := time.ParseInLocation(layout, r.text(name), calendar.Beijing)
	if err != nil {
		r.fail(name, "%.40q is not a time like %s", r.text(name), layout)
	}
	return t
}

const billTime = "2006-01-02 15:04:05"

func hundredThousandths(s string) (int64, error) {
	digits, neg := strings.CutPrefix(s, "-")
	whole, frac, dot := strings.Cut(digits, ".")
	if dot && frac == "" || len(frac) > 5 || strings.ContainsAny(digits, "+-_") {
		return 0, strconv.ErrSyntax
	}
	v, err := strconv.ParseInt(whole+frac+"00000"[len(frac):], 10, 64)
	if neg {
		v = -v
	}
	return v, err
}

// feeFen rounds half up, away from zero.
func feeFen(v int64) money.Amount {
	if v < 0 {
		return -feeFen(-v)
	}
	return money.Amount(v/1000 + v%1000/500)
}

// sums adds up what a bill's totals repeat. A sum that does not fit stays at
// the largest number, which no total in yuan can be.
type sums struct{ count, paid, back, fee int64 }

func add(to *int64, v int64) {
	if *to > math.MaxInt64-max(v, 0) || *to < math.MinInt64-min(v, 0) {
		*to = math.MaxInt64
		return
	}
	*to += v
}

// wechat reads WeChat Pay's bill (v2 downloadbill, bill_type ALL): UTF-8, plain
// or gzip; a header, rows whose cells begin with a backtick, a header of
// totals, the totals. Amounts are in yuan.
func (b *billReader) wechat(r io.Reader) error {
	buffered := bufio.NewReader(r)
	if magic, _ := buffered.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return b.bad(0, "it is not gzip: %v", err)
		}
		b.open(z)
	} else {
		b.open(buffered)
	}
	header, err := b.next("its header")
	if err != nil {
		return err
	}
	header = strings.TrimPrefix(header, "\ufeff")
	names, err := b.columns(strings.Split(header, ","), "交易时间", "微信订单号", "商户订单号", "交易状态", "货币种类", "微信退款单号", "商户退款单号", "手续费")
	if err != nil {
		return err
	}
	// The whole of an order and of a refund; bills from before 2018 have them
	// under other names.
	paid, back := "订单金额", "申请退款金额"
	if _, ok := names[paid]; !ok {
		paid, back = "总金额", "退款金额"
	}
	if names, err = b.columns(strings.Split(header, ","), paid, back); err != nil {
		return err
	}
	merchant := "特约商户号"
	if _, ok := names[merchant]; !ok {
		merchant = "子商户号"
	}
	var sum sums
	for {
		line, err := b.next("its totals")
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "总交易单数") {
			return b.wechatTotals(line, &sum)
		}
		cells, err := b.wechatCells(line, len(names))
		if err != nil {
			return err
		}
		r := row{b: b, names: names, cells: cells}
		fee, order, refund := r.fee("手续费"), r.yuan(paid), r.yuan(back)
		rec := BillRecord{Order: r.number("商户订单号"), Number: r.number("微信订单号"), Time: r.time("交易时间", billTime),
			Merchant: r.optional(merchant), Terminal: r.text("设备号"), Fee: feeFen(fee)}
		if c := r.text("货币种类"); c != money.Currency {
			r.fail("货币种类", "%.10q is not %s", c, money.Currency)
		}
		switch state := r.text("交易状态"); state {
		case "SUCCESS":
			rec.Kind, rec.Amount = BillPay, order
		case "REFUND":
			rec.Kind, rec.Amount, rec.Refund, rec.RefundNumber = BillRefund, refund, r.number("商户退款单号"), r.number("微信退款单号")
		case "REVOKED":
			rec.Kind, rec.Amount, rec.RefundNumber = BillRevoked, refund, r.optional("微信退款单号")
		default:
			r.fail("交易状态", "%.20q is none of SUCCESS, REFUND, REVOKED", state)
		}
		if order < 0 || refund < 0 {
			r.fail(paid, "an amount below zero")
		}
		if r.err != nil {
			return r.err
		}
		sum.count++
		add(&sum.paid, order.Fen())
		add(&sum.back, refund.Fen())
		add(&sum.fee, fee)
		if err := b.give(rec); err != nil {
			return err
		}
	}
}

// wechatCells splits a row at the backticks: only they tell a comma inside a
// cell from one between cells.
func (b *billReader) wechatCells(line string, want int) ([]string, error) {
	first, ok := strings.CutPrefix(line, "`")
	if !ok {
		return nil, b.bad(1, "its cells do not begin with a backtick")
	}
	cells := strings.Split(first, ",`")
	if len(cells) != want {
		return nil, b.bad(len(cells), "it has %d cells, the header %d", len(cells), want)
	}
	return cells, nil
}

func (b *billReader) wechatTotals(header string, sum *sums) error {
	paid, back := "订单总金额", "申请退款总金额"
	if !strings.Contains(header, paid) {
		paid, back = "总交易额", "总退款金额"
	}
	names, err := b.columns(strings.Split(header, ","), "总交易单数", paid, back, "手续费总金额")
	if err != nil {
		return err
	}
	line, err := b.next("its totals")
	if err != nil {
		return err
	}
	cells, err := b.wechatCells(line, len(names))
	if err != nil {
		return err
	}
	r := row{b: b, names: names, cells: cells}
	b.same(&r, "总交易单数", sum.count, r.count("总交易单数"))
	b.same(&r, paid, sum.paid, r.yuan(paid).Fen())
	b.same(&r, back, sum.back, r.yuan(back).Fen())
	b.same(&r, "手续费总金额", sum.fee, r.fee("手续费总金额"))
	if r.err != nil {
		return r.err
	}
	return b.end()
}

// count is a cell that counts; some bills write 20.0.
func (r *row) count(name string) int64 {
	s := strings.TrimSuffix(r.text(name), ".0")
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		r.fail(name, "%.40q is not a count", s)
	}
	return n
}

func (b *billReader) same(r *row, name string, lines, total int64) {
	if lines != total {
		r.fail(name, "the total is %d, its lines come to %d", total, lines)
	}
}

// alipay reads Alipay's bill (bill_type trade): a zip with two CSV in GBK, the
// lines and a summary for each shop. The lines stand between comments that
// begin with #, the last of which have the totals.
func (b *billReader) alipay(file io.ReaderAt, size int64) error {
	z, err := zip.NewReader(file, size)
	if err != nil {
		return b.bad(0, "it is not a zip: %v", err)
	}
	for _, member := range z.File {
		found, err := b.alipayMember(member)
		if found || err != nil {
			return err
		}
	}
	b.line = 0
	return b.bad(0, "none of the %d files in its zip begins with #支付宝业务明细查询", len(z.File))
}

// alipayMember reads a file of the zip when it is the one with the lines. Its
// name is in GBK, in whatever way the zip says so; its first line is surer.
func (b *billReader) alipayMember(member *zip.File) (found bool, err error) {
	f, err := member.Open()
	if err != nil {
		return false, b.bad(0, "its zip is damaged: %v", err)
	}
	defer f.Close()
	b.line = 0
	b.open(simplifiedchinese.GBK.NewDecoder().Reader(f))
	first, err := b.next("its first line")
	if err != nil {
		return false, err
	}
	if !strings.HasPrefix(first, "#支付宝业务明细查询") {
		return false, nil
	}
	return true, b.alipayLines()
}

func (b *billReader) alipayLines() error {
	line := "#"
	for strings.HasPrefix(line, "#") {
		var err error
		if line, err = b.next("its header"); err != nil {
			return err
		}
		if from, ok := strings.CutPrefix(line, "#起始日期：["); ok { // a bill without lines says its day too
			if day, err := time.ParseInLocation("2006年01月02日", from[:min(len(from), len("2006年01月02日"))], calendar.Beijing); err != nil {
				return b.bad(0, "%.40q is not a date like 2026年08月07日", from)
			} else if err := b.of(calendar.DateOf(day), 0); err != nil {
				return err
			}
		}
	}
	const paid, fee = "订单金额（元）", "服务费（元）"
	names, err := b.columns(strings.Split(line, ","), "支付宝交易号", "商户订单号", "业务类型", "完成时间", paid, "退款批次号/请求号", fee)
	if err != nil {
		return err
	}
	var pays, backs sums
	for {
		if line, err = b.next("the end of its lines"); err != nil {
			return err
		}
		if strings.HasPrefix(line, "#") {
			break
		}
		cells := quoted(line)
		if len(cells) != len(names) {
			return b.bad(len(cells), "it has %d cells, the header %d", len(cells), len(names))
		}
		r := row{b: b, names: names, cells: cells}
		amount := r.yuan(paid)
		rec := BillRecord{Order: r.number("商户订单号"), Number: r.number("支付宝交易号"), Time: r.time("完成时间", billTime), Merchant: r.optional("门店编号"),
			Terminal: r.text("终端号"), Amount: max(amount, -amount), Fee: feeFen(r.fee(fee))}
		sum := &pays
		switch kind := r.text("业务类型"); {
		case kind == "交易" && amount >= 0:
			rec.Kind = BillPay
		case kind == "退款" && amount <= 0:
			sum, rec.Kind, rec.Refund = &backs, BillRefund, r.optional("退款批次号/请求号")
			if rec.Refund == "" || rec.Refund == rec.Order { // a cancel has no request number of ours
				rec.Kind, rec.Refund = BillRevoked, ""
			}
		default:
			r.fail("业务类型", "%.20q of %s is neither 交易 nor 退款", kind, amount)
		}
		if r.err != nil {
			return r.err
		}
		sum.count++
		add(&sum.paid, amount.Fen())
		if err := b.give(rec); err != nil {
			return err
		}
	}
	if !strings.Contains(line, "业务明细列表结束") {
		return b.bad(0, "a comment among its lines")
	}
	for _, t := range []struct {
		prefix string
		sum    sums
	}{{"#交易合计：", pays}, {"#退款合计：", backs}} {
		if err := b.alipayTotal(t.prefix, t.sum); err != nil {
			return err
		}
	}
	for b.lines.Scan() {
		b.line++
		if text := b.lines.Text(); text != "" && !strings.HasPrefix(text, "#") {
			return b.bad(0, "something follows the totals")
		}
	}
	if err := b.lines.Err(); err != nil {
		return b.bad(0, "it cannot be read to its end: %v", err)
	}
	return nil
}

// alipayTotal reads a line like #交易合计：2笔，商家实收共2.00元，商家优惠共0.00元.
func (b *billReader) alipayTotal(prefix string, sum sums) error {
	line, err := b.next("its totals")
	if err != nil {
		return err
	}
	text, ok := strings.CutPrefix(line, prefix)
	count, rest, counted := strings.Cut(text, "笔，")
	_, rest, taken := strings.Cut(rest, "共")
	total, _, ended := strings.Cut(rest, "元")
	if !ok || !counted || !taken || !ended {
		return b.bad(0, "want its totals, %s…", prefix)
	}
	n, err := strconv.ParseInt(count, 10, 64)
	amount, amountErr := money.Parse(total)
	if err != nil || amountErr != nil {
		return b.bad(0, "its totals are no numbers")
	}
	if n != sum.count || amount.Fen() != sum.paid {
		return b.bad(0, "the totals are %d and %s, its lines come to %d and %s", n, amount, sum.count, money.Amount(sum.paid))
	}
	return nil
}

// quoted splits at commas that stand in no double quotes.
func quoted(line string) []string {
	var cells []string
	inside, from := false, 0
	for i := range len(line) {
		switch {
		case line[i] == '"':
			inside = !inside
		case line[i] == ',' && !inside:
			cells, from = append(cells, line[from:i]), i+1
		}
	}
	return append(cells, line[from:])
}

// unionpay reads the bill of UnionPay QR, in a form of ours (docs/divergences.md):
// lines of UTF-8 with cells between bars.
//
//	BILL|unionpay-qr|20260807
//	D|01|order|refund|query id|refund's query id|20260807120000|merchant|terminal|fen|fee in fen
//	T|lines|paid|back|fees
//
// The kind is 01 for a payment, 04 for a refund, 99 for a cancel (txnType).
func (b *billReader) unionpay(r io.Reader) error {
	b.open(r)
	head, err := b.next("its header")
	if err != nil {
		return err
	}
	h := strings.Split(head, "|")
	if len(h) != 3 || h[0] != "BILL" || h[1] != b.wallet {
		return b.bad(0, "want BILL|%s|date", b.wallet)
	}
	day, err := time.ParseInLocation("20060102", h[2], calendar.Beijing)
	if err != nil {
		return b.bad(3, "%.20q is not a date like 20260807", h[2])
	}
	if err := b.of(calendar.DateOf(day), 3); err != nil {
		return err
	}
	names := map[string]int{}
	for i, n := range strings.Split("line|kind|order|refund|number|refund number|time|merchant|terminal|amount|fee", "|") {
		names[n] = i
	}
	var sum sums
	for {
		line, err := b.next("its totals")
		if err != nil {
			return err
		}
		cells := strings.Split(line, "|")
		if cells[0] == "T" {
			return b.unionpayTotals(cells, &sum)
		}
		if len(cells) != len(names) || cells[0] != "D" {
			return b.bad(len(cells), "it has %d cells, want D and %d more", len(cells), len(names)-1)
		}
		r := row{b: b, names: names, cells: cells}
		fee := r.fen("fee")
		rec := BillRecord{Order: r.number("order"), Number: r.number("number"), RefundNumber: r.optional("refund number"), Time: r.time("time", "20060102150405"),
			Merchant: r.optional("merchant"), Terminal: r.optional("terminal"), Amount: money.Amount(r.fen("amount")), Fee: money.Amount(fee)}
		to := &sum.back
		switch kind := r.text("kind"); kind {
		case "01":
			rec.Kind, to = BillPay, &sum.paid
		case "04":
			rec.Kind, rec.Refund = BillRefund, r.number("refund")
		case "99":
			rec.Kind = BillRevoked
		default:
			r.fail("kind", "%.10q is none of 01, 04, 99", kind)
		}
		if rec.Amount < 0 {
			r.fail("amount", "below zero")
		}
		if r.err != nil {
			return r.err
		}
		sum.count++
		add(to, rec.Amount.Fen())
		add(&sum.fee, fee)
		if err := b.give(rec); err != nil {
			return err
		}
	}
}

func (b *billReader) unionpayTotals(cells []string, sum *sums) error {
	names := map[string]int{"line": 0, "lines": 1, "paid": 2, "back": 3, "fees": 4}
	if len(cells) != len(names) {
		return b.bad(len(cells), "its totals have %d cells, want %d", len(cells), len(names))
	}
	r := row{b: b, names: names, cells: cells}
	b.same(&r, "lines", sum.count, r.count("lines"))
	b.same(&r, "paid", sum.paid, r.fen("paid"))
	b.same(&r, "back", sum.back, r.fen("back"))
	b.same(&r, "fees", sum.fee, r.fen("fees"))
	if r.err != nil {
		return r.err
	}
	return b.end()
}

func (r *row) fen(name string) int64 {
	v, err := strconv.ParseInt(r.text(name), 10, 64)
	if err != nil {
		r.fail(name, "%.40q is not a number of fen", r.text(name))
	}
	return v
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

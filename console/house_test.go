package console

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/spec"
	"acquirer/spec/jbig"
)

// street is a House of made-up but plausible business.
type street struct {
	mu       sync.Mutex
	began    time.Time
	overview Overview
	rows     []Row // the newest first
	details  map[int64]Detail
	owed     []Owed
	day      Settlement
	receipts map[int64]Receipt // besides those that a row makes
	signed   map[int64][]byte  // JBIG
	batches  Batches
	waits    []Wait
	resolved []int64
	reports  []ReportQuery
	fail     error // what every question is answered with, when set
	asked    map[string]int
}

var shops = []struct{ mid, tid, name, plan, speed string }{
	{"898110054110001", "11000001", "老王牛肉面", "MICRO-2025", "T1"},
	{"898110054110002", "11000007", "朝阳水果批发", "ESIGN-STD", "D0"},
	{"898110054110003", "11000012", "小李五金建材", "MICRO-2025", "T1"},
	{"898110054110004", "11000015", "四季春茶馆", "ESIGN-STD", "T1"},
	{"898110054110005", "11000020", "Blue Door Coffee & Roastery 三里屯店", "ESIGN-STD", "S0"},
}

var cards = []struct{ pan, issuer string }{
	{"621000******0417", "north"},
	{"622000***********5526", "south"},
	{"623000******9038", "east"},
	{"625000***********1181", "west"},
}

func newStreet(now time.Time) *street {
	s := &street{began: now, details: map[int64]Detail{}, receipts: map[int64]Receipt{}, signed: map[int64][]byte{}, asked: map[string]int{}}
	s.overview = Overview{
		Environment: "demo", Version: "1.0", Node: 0, Started: now.Add(-26*time.Hour - 11*time.Minute),
		BusinessDate: calendar.DateOf(now), CutOff: now.Add(5*time.Hour + 12*time.Minute),
		Terminals: 20, InFlight: 3, Owed: OwedTotal{Due: 1, Oldest: now.Add(-14 * time.Second)},
		Ledger: Ledger{Checked: now.Add(-3 * time.Second), Balanced: true, Unposted: 2, Lag: 400 * time.Millisecond},
	}
	for i, name := range []string{"north", "south", "east", "west"} {
		is := Issuer{Name: name, InFlight: i}
		for n := range 2 {
			is.Lines = append(is.Lines, Line{Number: n + 1, Addr: fmt.Sprintf("127.0.0.1:%d", 9001+10*i+n), Connected: true, SignedOn: true,
				Since: now.Add(-time.Duration(3+i) * time.Hour), Echo: time.Duration(310+70*i+n*23) * time.Microsecond})
		}
		s.overview.Issuers = append(s.overview.Issuers, is)
	}
	for i := range 30 {
		s.rows = append(s.rows, s.sale(29-i, now.Add(-time.Duration(i)*1300*time.Millisecond)))
	}
	s.day = Settlement{Date: calendar.DateOf(now), CutOff: s.overview.CutOff}
	for i, shop := range shops {
		gross := money.Amount(1_234_567 * (i + 1) / (i*i + 1))
		fee, err := gross.MulPPM(6000)
		if err != nil {
			panic(err)
		}
		s.day.Merchants = append(s.day.Merchants, MerchantDay{MID: shop.mid, Name: shop.name, Plan: shop.plan, Speed: shop.speed,
			Sales: 212 - 37*i, Gross: gross, Refunds: money.Amount(i * 5800), Fees: fee, Net: gross - money.Amount(i*5800) - fee, PayOn: s.day.Date.AddDays(1)})
	}
	s.day.Merchants[4].Payout, s.day.Merchants[4].Reference = PayoutPaid, "P20260213-898110054110005-S0-17"
	s.day.Merchants[4].PayOn = s.day.Date
	s.day.Merchants[1].Payout = PayoutSent
	s.day.Holds = []Hold{{Key: "case-4711", MID: shops[2].mid, Name: shops[2].name, Remains: 888_00, By: "li", Reason: "own <card>"}, {Key: "case-4712", MID: shops[2].mid, Name: shops[2].name, Remains: 1, Sure: true, Release: true}}
	s.owed = []Owed{{ID: s.rows[11].ID, Since: now.Add(-14 * time.Second), TID: s.rows[11].TID, Merchant: s.rows[11].Merchant, PAN: s.rows[11].PAN,
		Amount: s.rows[11].Amount, Issuer: s.rows[11].Issuer, Why: Words{"发卡方超时", "no answer in time"}, Attempts: 2, Next: now.Add(6 * time.Second), LastSaid: "no answer"}}
	s.settle(now)
	return s
}

// sale is the i-th transaction of the street, the same every time.
func (s *street) sale(i int, at time.Time) Row {
	shop, c := shops[i*7%len(shops)], cards[i*3%len(cards)]
	r := Row{
		ID: at.UnixMilli()<<22 | int64(i&0xfff), At: at, Took: time.Duration(4200+i*i*137%9000) * time.Microsecond, Type: "sale",
		Merchant: shop.name, MID: shop.mid, TID: shop.tid, PAN: c.pan, Issuer: c.issuer,
		Amount: money.Amount(880 + i*i*7919%250_000), Outcome: Approved, Code: "00", Reason: Words{"交易成功", "approved"},
	}
	switch i % 13 {
	case 4:
		r.Outcome, r.Code, r.Reason = Declined, "51", Words{"可用余额不足", "insufficient funds"}
	case 7:
		r.Outcome, r.Code, r.Reason = Declined, "55", Words{"密码错误", "wrong PIN"}
	case 9:
		r.Outcome, r.Type = Reversed, "sale"
	case 11:
		r.Type, r.Amount = "void", r.Amount/2
	case 5:
		r.Outcome, r.Code, r.Took = Reversing, "98", 25*time.Second
		r.Reason = Words{"发卡方超时", "issuer timed out, reversed by the switch"}
	}
	return r
}

// busy writes a minute of trade on the tape.
func (s *street) busy(t *Tape, now time.Time) {
	for ago := Window; ago > 0; ago-- {
		n := 9 + ago*ago%11 - ago%4
		for i := range n {
			t.Count(now.Add(-time.Duration(ago)*time.Second), (i*ago)%17 != 1, cards[i%len(cards)].issuer, time.Duration(1500+(i*ago*7919)%4000)*time.Microsecond)
		}
	}
}

// finish puts a transaction on the street and on the tape.
func (s *street) finish(t *Tape, r Row) {
	s.mu.Lock()
	s.rows = slices.Insert(s.rows, 0, r)
	s.mu.Unlock()
	t.Count(time.Now(), r.Outcome == Approved, r.Issuer, r.Took)
	if t.Wants() {
		t.Put(r)
	}
}

func (s *street) ask(what string) error {
	s.asked[what]++
	return s.fail
}

func (s *street) Overview(context.Context) (Overview, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.overview
	o.Ledger.Checked = time.Now().Add(-3 * time.Second)
	return o, s.ask("overview")
}

func (s *street) Recent(_ context.Context, n int) ([]Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rows[:min(n, len(s.rows))]), s.ask("recent")
}

func (s *street) Owed(_ context.Context, n int) ([]Owed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.owed[:min(n, len(s.owed))]), s.ask("owed")
}

func (s *street) Settlement(_ context.Context, date calendar.Date) (Settlement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.day
	if date != 0 && date != d.Date {
		d = Settlement{Date: date, State: DayPaid}
	}
	return d, s.ask("settlement")
}

func (s *street) Transaction(_ context.Context, id int64) (Detail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ask("transaction"); err != nil {
		return Detail{}, err
	}
	if d, ok := s.details[id]; ok {
		return d, nil
	}
	for _, r := range s.rows {
		if r.ID == id {
			return detail(r), nil
		}
	}
	return Detail{}, fmt.Errorf("journal: %d: %w", id, ErrNotFound)
}

// detail is a sale by chip with its four messages.
func detail(r Row) Detail {
	at := func(us int) time.Time { return r.At.Add(time.Duration(us) * time.Microsecond) }
	took := func(us int) time.Duration { return time.Duration(us) * time.Microsecond }
	amount := fmt.Sprintf("%012d", r.Amount.Fen())
	chip := []Field{
		{Field: "9F26", Name: "Application cryptogram", Value: "E5 9C 21 7A 0B 44 D3 18"},
		{Field: "9F27", Name: "Cryptogram information data", Value: "80"},
		{Field: "9F10", Name: "Issuer application data", Value: "07010103A0A002010A010000000000B1C2D3E4"},
		{Field: "9F36", Name: "Application transaction counter", Value: "0117"},
		{Field: "95", Name: "Terminal verification results", Value: "0000000000"},
		{Field: "9F02", Name: "Amount, authorised", Value: amount},
	}
	ask := []Field{
		{Field: "2", Name: "Primary account number", Value: r.PAN},
		{Field: "3", Name: "Processing code", Value: "000000"},
		{Field: "4", Name: "Amount, transaction", Value: amount},
		{Field: "11", Name: "System trace audit number", Value: "000482"},
		{Field: "22", Name: "Point of service entry mode", Value: "051"},
		{Field: "25", Name: "Point of service condition code", Value: "00"},
		{Field: "35", Name: "Track 2", Value: "********************"},
		{Field: "41", Name: "Card acceptor terminal identification", Value: r.TID},
		{Field: "42", Name: "Card acceptor identification code", Value: r.MID},
		{Field: "52", Name: "PIN data", Value: "****************"},
		{Field: "55", Name: "Integrated circuit card data", Sub: chip},
		{Field: "60", Name: "Reserved, private", Value: "2200000100050", Sub: []Field{
			{Field: "60.1", Name: "Message type", Value: "22"}, {Field: "60.2", Name: "Batch", Value: "000001"},
			{Field: "60.3", Name: "Network management", Value: "000"}, {Field: "60.4", Name: "Capability", Value: "5"}}},
		{Field: "64", Name: "MAC", Value: "3739353243364645"},
	}
	answer := []Field{
		{Field: "3", Name: "Processing code", Value: "000000"},
		{Field: "4", Name: "Amount, transaction", Value: amount},
		{Field: "11", Name: "System trace audit number", Value: "000482"},
		{Field: "37", Name: "Retrieval reference number", Value: "604414000482"},
		{Field: "38", Name: "Authorisation code", Value: "217734"},
		{Field: "39", Name: "Response code", Value: r.Code},
		{Field: "64", Name: "MAC", Value: "4131463830304331"},
	}
	d := Detail{
		Row: r, BusinessDate: calendar.DateOf(r.At), Batch: "000001", STAN: "000482", RRN: "604414000482", Approval: "217734",
		Facts: []Fact{{Words{"输入方式", "Entry mode"}, "051"}, {Words{"手续费", "Fee"}, "¥3.60"}},
		Steps: []Step{
			{Name: "check", At: at(0), Took: took(38), Note: Words{"MAC 正确", "MAC right"}},
			{Name: "open", At: at(38), Took: took(1210)},
			{Name: "issuer", At: at(1248), Took: took(2270), Note: Words{"经 1 号线路", "by line 1"}},
			{Name: "close", At: at(3518), Took: took(890)},
			{Name: "write", At: at(4408), Took: took(61)},
		},
		Messages: []Message{
			{At: at(0), From: "terminal", To: "acquirer", Dialect: "unionpay-pos", MTI: "0200", Bytes: 287, Fields: ask},
			{At: at(1248), From: "acquirer", To: "issuer", Dialect: "cups", MTI: "0200", Bytes: 512, Fields: ask[:9]},
			{At: at(3518), From: "issuer", To: "acquirer", Dialect: "cups", MTI: "0210", Bytes: 231, Fields: answer},
			{At: at(4408), From: "acquirer", To: "terminal", Dialect: "unionpay-pos", MTI: "0210", Bytes: 154, Fields: answer},
		},
	}
	d.Took = took(4469)
	d.Printed = r.Outcome == Approved
	return d
}

func (s *street) row(id int64) (Row, bool) {
	for _, r := range s.rows {
		if r.ID == id {
			return r, true
		}
	}
	return Row{}, false
}

func (s *street) Receipt(_ context.Context, id int64) (Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ask("receipt"); err != nil {
		return Receipt{}, err
	}
	if r, ok := s.receipts[id]; ok {
		return r, nil
	}
	row, ok := s.row(id)
	switch {
	case !ok:
		return Receipt{}, fmt.Errorf("journal: %d: %w", id, ErrNotFound)
	case row.Type == "balance":
		return Receipt{}, ErrNoReceipt
	}
	r := receipt(row)
	if s.signed[id] != nil {
		r.Signing = SigningPicture
	}
	return r, nil
}

// receipt is the receipt of a sale by chip, to be signed.
func receipt(r Row) Receipt {
	return Receipt{Row: r, Answered: r.At.Add(r.Took), BusinessDate: calendar.DateOf(r.At), Batch: "000001", Voucher: "000482", RRN: "604414000482", Approval: "217734",
		Clears: "0213", Code: "62260F6E", Entry: "chip", PIN: true, Scheme: "CUP", IssuerNo: "63010001", AcquirerNo: "48029900", Signing: SigningOpen}
}

func (s *street) Signature(_ context.Context, id int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ask("signature"); err != nil {
		return nil, err
	}
	if b := s.signed[id]; b != nil {
		return b, nil
	}
	return nil, ErrNotFound
}

// handwriting is a signature as a terminal sends it: a few strokes.
func handwriting() []byte {
	b := jbig.New(240, 96)
	for _, stroke := range [][2]func(t float64) float64{
		{func(t float64) float64 { return 20 + 90*t + 18*math.Sin(9*t) }, func(t float64) float64 { return 50 - 34*math.Sin(7*t)*(1-t/2) }},
		{func(t float64) float64 { return 100 + 110*t + 9*math.Cos(21*t) }, func(t float64) float64 { return 48 + 20*math.Sin(19*t)*(1-t) }},
		{func(t float64) float64 { return 60 + 165*t }, func(t float64) float64 { return 80 - 10*math.Sin(3*t) }},
	} {
		for i := range 1500 {
			t := float64(i) / 1500
			x, y := int(stroke[0](t)), int(stroke[1](t))
			for d := range 9 {
				b.SetBlack(x+d%3, y+d/3, true)
			}
		}
	}
	return jbig.Encode(b, jbig.Options{TwoLine: true, Typical: true})
}

// settle closes the batches of three terminals, one of them wrongly.
func (s *street) settle(now time.Time) {
	side := func(debit int64, n int, credit int64, m int, b spec.Balance) spec.SideTotals {
		return spec.SideTotals{Debit: spec.Tally{Fen: debit, Count: n}, Credit: spec.Tally{Fen: credit, Count: m}, Balance: b}
	}
	at := func(i int) time.Time { return now.Add(-time.Duration(40-i) * time.Minute) }
	s.batches = Batches{Date: calendar.DateOf(now), Settled: []TerminalBatch{
		{TID: shops[1].tid, Merchant: shops[1].name, Batch: "000017", At: at(1), Uploaded: 12, Ended: at(2),
			Claimed: spec.Totals{Domestic: side(1_234_567_890, 112, 58_000, 2, 0), Foreign: side(88_800, 1, 0, 0, 0)},
			Ours:    spec.Totals{Domestic: side(1_234_557_890, 111, 58_000, 2, spec.NotBalanced), Foreign: side(88_800, 1, 0, 0, spec.Balanced)}},
		{TID: shops[4].tid, Merchant: shops[4].name, Batch: "000003", At: at(3),
			Claimed: spec.Totals{Domestic: side(45_600, 3, 0, 0, 0)}, Ours: spec.Totals{Domestic: side(45_600, 3, 0, 0, spec.BalanceError), Foreign: side(0, 0, 0, 0, spec.BalanceError)}},
		{TID: shops[0].tid, Merchant: shops[0].name, Batch: "000001", At: at(5), Uploaded: 1, Ended: at(6),
			Claimed: spec.Totals{Domestic: side(212_300, 31, 0, 0, 0)}, Ours: spec.Totals{Domestic: side(212_300, 31, 0, 0, spec.Balanced), Foreign: side(0, 0, 0, 0, spec.Balanced)}},
	}, Differences: []Difference{
		{ID: 71, Date: calendar.DateOf(now).AddDays(-1), At: now.Add(-26 * time.Hour), TID: shops[2].tid, Merchant: shops[2].name, Batch: "000009", Voucher: "000207",
			What: Words{"应签未签", "not signed"}, Form: Words{"批结", "batch end"}, Amount: 132_000, PAN: cards[1].pan, Txn: s.rows[3].ID},
		{ID: 72, Date: calendar.DateOf(now), At: at(2), TID: shops[1].tid, Merchant: shops[1].name, Batch: "000017", Voucher: "000482",
			What: Words{"流水中没有", "not in the journal"}, Form: Words{"磁条明细", "stripe details"}, Amount: 10_000, PAN: cards[0].pan},
		{ID: 73, Date: calendar.DateOf(now), At: at(2), TID: shops[1].tid, Merchant: shops[1].name, Batch: "000017",
			What: Words{"上送笔数不符", "another number of records"}, Form: Words{"批结", "batch end"}, Records: -1},
	}}
}

func (s *street) Compared(_ context.Context, n int) (Compared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked["compared"]++
	today := calendar.DateOf(s.began)
	c := Compared{
		Days: []ComparedDay{{Date: today.AddDays(-1), Files: 7, Ours: 4021, Matched: 4016, Waiting: 3, Open: 2, OpenSum: 12_345_67, Missing: []string{"north"}},
			{Date: today.AddDays(-2), Files: 8, Ours: 3900, Matched: 3900, Maker: "ann", Checker: "bob"}, {Date: today.AddDays(-3), Maker: "ann"}},
		Open: []OtherBooks{{ID: 91, Date: today.AddDays(-1), Kind: "short", Source: "north", RRN: "604414000482", Txn: s.rows[2].ID, Merchant: shops[0].name, Ours: 100_00},
			{ID: 92, Date: today.AddDays(-1), Kind: "long", Source: "alipay", RRN: "0EXTRA000001", Theirs: 1_00, Asked: "payer"},
			{ID: 384168800892747776, Date: today.AddDays(-1), Kind: "payout_long", Source: "bank", RRN: "20260929-898110054110003-D0-0", Merchant: shops[1].name, Theirs: 12_345_67}}, // as long as they get
		Cases: []DisputeCase{{ID: 7, Stage: "chargeback", Ours: true, Source: "north", RRN: "604414000482", Merchant: shops[1].name, Amount: 500_00, Reason: "4853", Due: today.AddDays(1)},
			{ID: 8, Stage: "retrieval", Source: "south", RRN: "604414000483", Merchant: shops[1].name, Amount: 5_00, Reason: "01", Due: today.AddDays(20)}},
	}
	return c, s.fail
}

func (s *street) Waiting(_ context.Context, n int) ([]Wait, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.waits[:min(n, len(s.waits))]), s.ask("waiting")
}

// undone is what waits for people: all sorts, as long as they get.
func (s *street) undone(now time.Time) {
	const ref = "20260213-898110054110003-T1-0"
	s.waits = []Wait{
		{Kind: "payout_returned", Ref: ref, Merchant: shops[2].name, Amount: 12_345_67, Since: now.Add(-50 * time.Hour), Href: "/settlement?date=2026-02-13", Commands: []string{"acquirer payout reissue " + ref},
			What: Words{"payout came back: the account is closed", "payout " + ref + " of 12345.67 came back: the account is closed; ask the merchant for another card (acquirer settle account ask), then issue it again"}},
		{Kind: "recover", Ref: ref + "-R1", Merchant: shops[1].name, Amount: 99_40, Since: now.Add(-26 * time.Hour), By: "uid 1000 (li)", Href: "/settlement?date=2026-02-12", Commands: []string{"acquirer payout recover " + ref + "-R1"},
			What: Words{"从商户收回；" + ref + "-R2 is given up", "take it from the merchant; " + ref + "-R2 is given up"}},
		{Kind: "answer", Ref: "384168800892747776", Merchant: shops[0].name, Amount: 500_00, Since: now.Add(-10 * 24 * time.Hour), Due: now.Add(20 * time.Hour), Href: "/compared#disputes",
			Commands: []string{"acquirer dispute answer 384168800892747776 represent", "acquirer dispute answer 384168800892747776 accept"}, What: Words{"chargeback，原因 4853", "chargeback of north, reason 4853"}},
		{Kind: "account", Ref: shops[1].mid, Merchant: shops[1].name, Since: now.Add(-2 * time.Hour), Due: now.Add(70 * time.Hour), By: "uid 1001 (zhao)", Href: "/reports?merchant=" + shops[1].mid,
			Commands: []string{"acquirer settle account confirm " + shops[1].mid + " LAST4"}, What: Words{"改付至 王芳 在 中国农业银行 的账户：card <lost>", "pay to an account of 王芳 at 中国农业银行: card <lost>"}},
		{Kind: "hold", Ref: "case 4711", Merchant: shops[2].name, Amount: 888_00, Since: now.Add(-73 * time.Hour), Due: now.Add(-time.Hour), By: "li", Href: "/settlement#holds", Commands: []string{"acquirer settle hold confirm 'case 4711'"}, What: Words{"own card", "own card"}},
		{Kind: "batch", Ref: "11000012 000009", Merchant: shops[2].name, Amount: 1_320_00, Since: now.Add(-25 * time.Hour), Href: "/batches#differences", What: Words{"应签未签", "not signed"}},
		{Kind: "bank_file", Ref: "nonsense.xml", Since: now.Add(-time.Minute), Commands: []string{`acquirer payout done bankfile/nonsense.xml/1763600000000000000 --note ""`},
			What: Words{"refused", "file nonsense.xml of the bank was refused: line 1, column 10"}},
	}
}

func (s *street) Batches(_ context.Context, date calendar.Date, n int) (Batches, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.batches
	if date != 0 && date != b.Date {
		b.Date, b.Settled = date, nil
	}
	b.More, b.Settled, b.Differences = max(len(b.Settled)-n, 0), slices.Clone(b.Settled[:min(n, len(b.Settled))]), slices.Clone(b.Differences[:min(n, len(b.Differences))])
	return b, s.ask("batches")
}

func (s *street) Resolve(_ context.Context, id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ask("resolve"); err != nil {
		return err
	}
	i := slices.IndexFunc(s.batches.Differences, func(d Difference) bool { return d.ID == id })
	if i < 0 {
		return fmt.Errorf("journal: difference %d: %w", id, ErrNotFound)
	}
	s.batches.Differences = slices.Delete(slices.Clone(s.batches.Differences), i, i+1)
	s.resolved = append(s.resolved, id)
	return nil
}

func (s *street) Report(_ context.Context, q ReportQuery) (ReportFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, q)
	switch {
	case s.fail != nil:
		return ReportFile{}, s.fail
	case q.Report == "statement" && q.Merchant == "":
		return ReportFile{}, fmt.Errorf("%w: name its MID", ErrReport)
	}
	text := "a report"
	return ReportFile{Name: q.Report + "-20260213-1a2b3c4d." + q.Format, Size: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))}, nil
}

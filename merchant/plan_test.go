package merchant

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"acquirer/calendar"
	"acquirer/money"
)

func yuan(t testing.TB, s string) money.Amount {
	t.Helper()
	a, err := money.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func plan(t testing.TB, code string, version int) *FeePlan {
	t.Helper()
	p, err := BuiltIn().Version(code, version)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The worked values of the fee plans; net is left out where the table had none.
func TestWorkedFees(t *testing.T) {
	esign58 := *plan(t, "ESIGN-STD", 1)
	esign58.Rules = []Rule{{Channel: Card, PPM: 5800, OnFeeGEAmount: RejectSale}}
	for _, c := range []struct {
		name    string
		plan    *FeePlan
		channel string
		rows    string // amount fee [net]
	}{
		{"MICRO credit", plan(t, "MICRO-2025", 1), "credit",
			"100.00 3.60 96.40|1.00 3.01 -2.01|3.01 3.02 -0.01|3.02 3.02 0.00|10.00 3.06|200.00 4.20|5000 33.00|50000 303.00"},
		{"MICRO credit v2", plan(t, "MICRO-2025", 2), "credit", "100 3.65|5000 35.50|50000 328.00"},
		{"MICRO debit", plan(t, "MICRO-2025", 1), "debit", "1.00 0.01|100 0.50|3999.00 20.00|4000 20.00|50000 20.00"},
		{"ESIGN 0.58", &esign58, "credit", "200 1.16|5000 29.00|50000 290.00"},
		{"ESIGN 0.60", plan(t, "ESIGN-STD", 1), "credit", "200 1.20|5000 30.00|50000 300.00"},
		{"ESIGN debit", plan(t, "ESIGN-STD", 1), "debit", "200 1.20|50000 300.00"},
		{"scan", plan(t, "ESIGN-STD", 1), "qr", "0.01 0.00|1.31 0.00|1.32 0.01|50 0.19|100 0.38|5000 19.00"},
		{"scan MICRO", plan(t, "MICRO-2025", 1), "qr", "0.01 0.00|1.32 0.01|5000 19.00"},
	} {
		for _, row := range strings.Split(c.rows, "|") {
			f := strings.Fields(row)
			amount, fee := yuan(t, f[0]), yuan(t, f[1])
			q, err := c.plan.Quote(c.channel, T1, amount)
			if err != nil || q.Fee != fee || q.Net != amount-fee {
				t.Errorf("%s %s: fee %s net %s, %v; want %s, %s", c.name, amount, q.Fee, q.Net, err, fee, amount-fee)
			}
			if len(f) > 2 && q.Net.String() != f[2] {
				t.Errorf("%s %s: net %s, want %s", c.name, amount, q.Net, f[2])
			}
			if refused := q.Refused == FeeNotBelowAmount; refused != (fee >= amount) {
				t.Errorf("%s %s: fee %s refused %q", c.name, amount, fee, q.Refused)
			}
		}
	}
}

// D0 on 5,000.00 at 0.60 %.
func TestWorkedSettleFees(t *testing.T) {
	amount := money.Yuan(5000)
	for _, c := range []struct {
		base string
		ppm  int64
		want string
	}{{BaseGross, 500, "2.50"}, {BaseGross, 1000, "5.00"}, {BaseNet, 500, "2.49"}, {BaseNet, 1000, "4.97"}} {
		p := *plan(t, "ESIGN-STD", 1)
		p.SettleFees = []SettleFee{{Speed: D0, PPM: c.ppm, Base: c.base}}
		q, err := p.Quote("credit", D0, amount)
		if err != nil || q.SettleFee.String() != c.want || q.Net != amount-q.Fee-q.SettleFee {
			t.Errorf("D0 of %d ppm on %s: %s net %s, %v; want %s", c.ppm, c.base, q.SettleFee, q.Net, err, c.want)
		}
	}
	if q, _ := plan(t, "ESIGN-STD", 1).Quote("credit", D0, amount); q.SettleFee.String() != "2.49" || q.Net.String() != "4967.51" {
		t.Errorf("ESIGN-STD D0: %s, net %s", q.SettleFee, q.Net)
	}
	if q, _ := plan(t, "MICRO-2025", 1).Quote("credit", S0, amount); q.SettleFee != 0 || q.Refused != NotRefused {
		t.Errorf("MICRO-2025 S0: %s, refused %q", q.SettleFee, q.Refused)
	}
}

func TestQuoteRefusals(t *testing.T) {
	micro, esign := plan(t, "MICRO-2025", 1), plan(t, "ESIGN-STD", 1)
	cards := *micro
	cards.Rules = micro.Rules[:2]
	floor := *esign
	floor.Rules = []Rule{{PPM: 6000, MinAmount: money.Yuan(1), OnFeeGEAmount: RejectSale}}
	for _, c := range []struct {
		plan    *FeePlan
		channel string
		speed   Speed
		amount  string
		want    Refusal
		says    string
	}{
		{micro, "credit", T1, "1.00", FeeNotBelowAmount, "3.01 is not below"},
		{micro, "credit", T1, "3.02", FeeNotBelowAmount, "not below"},
		{micro, "credit", T1, "3.03", NotRefused, ""},
		{&cards, "qr", T1, "1.00", NoRule, "no price for qr"},
		{esign, "credit", S0, "100.00", SpeedNotOffered, "does not settle at S0"},
		{micro, "credit", T1, "0.00", OutOfRange, "0.00"},
		{micro, "credit", T1, "-5.00", OutOfRange, "-5.00"},
		{&floor, "credit", T1, "0.99", BelowMinimum, "smallest sale of 1.00"},
	} {
		q, err := c.plan.Quote(c.channel, c.speed, yuan(t, c.amount))
		if err != nil || q.Refused != c.want || !strings.Contains(q.Reason, c.says) || (c.says == "") != (q.Reason == "") {
			t.Errorf("%s %s %s: %q %q, %v; want %q", c.plan.Code, c.channel, c.amount, q.Refused, q.Reason, err, c.want)
		}
	}
	if _, err := micro.Quote("cash", T1, 100); err == nil {
		t.Error("cash has a quote")
	}
	// The other two policies give a price.
	lowered := *micro
	lowered.Rules = []Rule{{PPM: 6000, Fixed: 300, OnFeeGEAmount: CapAtAmount}}
	if p := lowered.Price(Sale{Channel: Card, Amount: 100}); p.Fee != 100 || p.Percent != 0 || p.Fixed != 100 || p.Refusal != NotRefused {
		t.Errorf("cap_at_amount: %+v", p)
	}
	if q, err := lowered.Quote("credit", T1, 100); err != nil || q.Formula != "1.00 x 0.60% + 3.00, at most the amount = 1.00" {
		t.Errorf("cap_at_amount: %+v, %v", q, err)
	}
	lowered.Rules = []Rule{{PPM: 6000, Fixed: 300, OnFeeGEAmount: AllowNegative}}
	if p := lowered.Price(Sale{Channel: Card, Amount: 100}); p.Fee != 301 || p.Percent != 1 || p.Fixed != 300 || p.Refusal != NotRefused {
		t.Errorf("allow_negative: %+v", p)
	}
}

func TestQuoteFormula(t *testing.T) {
	for _, c := range []struct {
		code, channel string
		speed         Speed
		amount, want  string
	}{
		{"MICRO-2025", "credit", T1, "100.00", "100.00 x 0.60% + 3.00 = 3.60"},
		{"MICRO-2025", "debit", T1, "50000", "min(20.00, 50000.00 x 0.50%) = 20.00"},
		{"ESIGN-STD", "credit", D0, "5000", "5000.00 x 0.60% = 30.00; D0 4970.00 x 0.05% = 2.49"},
	} {
		q, err := plan(t, c.code, 1).Quote(c.channel, c.speed, yuan(t, c.amount))
		if err != nil || q.Formula != c.want {
			t.Errorf("%s %s %s: %q, %v; want %q", c.code, c.channel, c.amount, q.Formula, err, c.want)
		}
	}
	if got := Percent(325); got != "0.0325%" {
		t.Errorf("325 ppm is %s", got)
	}
	if got := Percent(1_000_000); got != "100.00%" {
		t.Errorf("a million ppm is %s", got)
	}
}

// FEE-08: what a merchant is told is the whole price: a lower rate hides no fee for
// speed and none for the device.
func TestSummary(t *testing.T) {
	p, err := BuiltIn().With(strings.NewReader(`{"plans":[{"code":"ALL","version":1,"effective_from":"2026-01-01","rules":[
	  {"channel":"qr","wallet":"alipay","amount_to":"1000.00","ppm":2500,"min":"0.01","on_fee_ge_amount":"reject"},
	  {"channel":"card","card_type":"quasi_credit","mcc_class":"discount","entry":"contactless_no_pin","amount_from":"10.00","amount_to":"1000.00","ppm":3800,"on_fee_ge_amount":"reject"},
	  {"ppm":6000,"fixed":"3.00","cap":"80.00","min_amount":"4.00","on_fee_ge_amount":"reject"}],
	 "settle_fees":[{"speed":"T1","base":"net"},{"speed":"D1","fixed":"0.10","base":"net"},{"speed":"D0","ppm":500,"cap":"5.00","base":"net"},{"speed":"S0","ppm":1000,"fixed":"2.00","base":"gross"}],
	 "extras":[{"kind":"device","amount":"99.00","waiver":{"sales":"1000.00","within_days":30}},{"kind":"sim_year","amount":"36.00","free_days":365},{"kind":"repair","amount":"100.00"},{"kind":"deposit","amount":"0.00"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	all, err := p.Version("ALL", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		plan *FeePlan
		want string
	}{
		{all, "不足1000.00元的支付宝0.25%最低0.01元,优惠类商户小额双免10.00元至不足1000.00元的准贷记卡0.38%,其他全部交易0.60%+3.00元/笔封顶80.00元(单笔不少于4.00元);" +
			"T+1到账免费,D+1到账0.10元/笔,D+0到账0.05%封顶5.00元,秒到0.10%+2.00元/笔;设备99.00元/台(30天内收款满1000.00元免收),流量卡36.00元/年(前365天免费),维修100.00元/次,不收押金"},
		{plan(t, "ESIGN-STD", 1), "银行卡0.60%,扫码0.38%;T+1到账免费,D+0到账0.05%;设备免费,不收押金,流量卡免费"},
	} {
		if got := c.plan.Summary(); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.plan.Code, got, c.want)
		}
	}
}

func TestRulesInOrder(t *testing.T) {
	p, err := BuiltIn().With(strings.NewReader(`{"mcc_classes":{"exempt":["8062"]},"plans":[{"code":"BANDS","version":1,"effective_from":"2026-01-01",
	 "rules":[
	  {"channel":"any","card_type":"any","mcc_class":"exempt","ppm":0,"on_fee_ge_amount":"reject"},
	  {"channel":"qr","wallet":"alipay","ppm":2500,"on_fee_ge_amount":"reject"},
	  {"channel":"card","entry":"contactless_no_pin","amount_to":"1000.01","ppm":3800,"on_fee_ge_amount":"reject"},
	  {"channel":"card","card_type":"quasi_credit","ppm":5500,"on_fee_ge_amount":"reject"},
	  {"channel":"card","card_type":"any","amount_from":"10000.00","ppm":5000,"min":"60.00","on_fee_ge_amount":"reject"},
	  {"channel":"card","card_type":"any","ppm":6000,"on_fee_ge_amount":"reject"}],
	 "settle_fees":[{"speed":"T1","base":"net"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	bands, err := p.InForce("BANDS", 20260101)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sale Sale
		want money.Amount
	}{
		{Sale{Channel: Card, CardType: Credit, MCCClass: p.MCCClass("8062"), Amount: 100_00}, 0},
		{Sale{Channel: Card, CardType: Credit, MCCClass: p.MCCClass("5999"), Amount: 100_00}, 60},
		{Sale{Channel: QR, Wallet: "alipay", Amount: 100_00}, 25},
		{Sale{Channel: Card, Entry: ContactlessNoPIN, Amount: 1000_00}, 380},
		{Sale{Channel: Card, Entry: ContactlessNoPIN, Amount: 1000_01}, 600},
		{Sale{Channel: Card, CardType: QuasiCredit, Amount: 100_00}, 55},
		{Sale{Channel: Card, CardType: Debit, Amount: 9999_99}, 6000},
		{Sale{Channel: Card, CardType: Debit, Amount: 10000_00}, 6000},
		{Sale{Channel: Card, CardType: Debit, Amount: 20000_00}, 10000},
	} {
		if got := bands.Price(c.sale); got.Fee != c.want || got.Refusal != NotRefused {
			t.Errorf("%+v costs %s (%s), want %s", c.sale, got.Fee, got.Refusal, c.want)
		}
	}
	if got := bands.Price(Sale{Channel: QR, Wallet: "wechat", Amount: 100}); got.Refusal != NoRule {
		t.Errorf("a wallet without a rule: %+v", got)
	}
}

func TestVersions(t *testing.T) {
	p := BuiltIn()
	if got, err := p.InForce("MICRO-2025", 20261120); err != nil || got.Version != 1 {
		t.Errorf("in force: %+v, %v: an announced version must wait for its date", got, err)
	}
	v2 := *plan(t, "MICRO-2025", 2)
	v2.Version, v2.NoticeSent, v2.EffectiveFrom = 3, 20261101, 20261201
	text := func(plan FeePlan) *strings.Reader {
		b, err := json.Marshal(map[string]any{"plans": []FeePlan{plan}})
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReader(string(b))
	}
	with, err := p.With(text(v2))
	if err != nil {
		t.Fatal(err)
	}
	for date, want := range map[int32]int{20261130: 1, 20261201: 3} {
		if got, err := with.InForce("MICRO-2025", calendar.Date(date)); err != nil || got.Version != want {
			t.Errorf("on %d: %+v, %v, want version %d", date, got, err, want)
		}
	}
	early := v2
	early.EffectiveFrom = 20261130
	if _, err := p.With(text(early)); err == nil || !strings.Contains(err.Error(), "30 days") {
		t.Errorf("29 days of notice: %v", err)
	}
	changed := *plan(t, "MICRO-2025", 1)
	if _, err := p.With(text(changed)); err != nil {
		t.Errorf("the same version again: %v", err)
	}
	changed.Rules = changed.Rules[1:]
	if _, err := p.With(text(changed)); err == nil || !strings.Contains(err.Error(), "new version") {
		t.Errorf("a version changed in place: %v", err)
	}
	if _, err := p.InForce("GOLD", 20261120); !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), "ESIGN-STD, MICRO-2025") {
		t.Errorf("unknown plan: %v", err)
	}
	if _, err := p.InForce("MICRO-2025", 20191231); !errors.Is(err, ErrPlan) {
		t.Errorf("before the plan: %v", err)
	}
	if _, err := p.Version("MICRO-2025", 9); !errors.Is(err, ErrPlan) {
		t.Errorf("unknown version: %v", err)
	}
}

func TestBadPlansAreRefused(t *testing.T) {
	good := `{"plans":[{"code":"X","version":1,"effective_from":"2026-01-01","rules":[{"channel":"card","ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`
	if _, err := BuiltIn().With(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`"ppm":1`, `"ppm":-1`}, {`"ppm":1`, `"ppm":1000001`}, {`"channel":"card"`, `"channel":"cash"`}, {`"speed":"T1"`, `"speed":"T2"`},
		{`"base":"net"`, `"base":"all"`}, {`"reject"`, `"maybe"`}, {`"version":1`, `"version":0`}, {`"code":"X"`, `"code":""`},
		{`"ppm":1`, `"ppm":1,"min":"2.00","cap":"1.00"`}, {`"ppm":1`, `"ppm":1,"amount_from":"2.00","amount_to":"1.00"`},
		{`"ppm":1`, `"ppm":1,"colour":"red"`}, {`"ppm":1`, `"ppm":1,"fixed":3.5`}, {`"ppm":1`, `"ppm":1,"card_type":"gift"`},
		{`"base":"net"}`, `"base":"net"},{"speed":"T1","ppm":5,"base":"net"}`}, {`"base":"net"`, `"base":"net","bearer":"payer"`},
		{`"settle_fees"`, `"extras":[{"kind":"repair","amount":"1.00"},{"kind":"repair","amount":"2.00"}],"settle_fees"`},
		{`"settle_fees"`, `"extras":[{"kind":"repair","amount":"1.00","free_days":3}],"settle_fees"`},
		{`{"channel":"card"`, `{"channel":"any","amount_from":"1.00","amount_to":"9.00","on_fee_ge_amount":"reject"},{"channel":"qr","amount_from":"1.00","amount_to":"9.00","on_fee_ge_amount":"reject"},{"channel":"card"`},
		{`"ppm":1,"on_fee_ge_amount":"reject"}`, `"ppm":1,"on_fee_ge_amount":"reject"},{"channel":"card","card_type":"debit","cap":"20.00","on_fee_ge_amount":"reject"}`},
		{`"ppm":1`, `"ppm":1,"entry":"swipe"`}, {good, good + `{}`}, {good, `{`}, {`{"plans"`, `{"mcc_classes":{"exempt":["80"]},"plans"`},
	} {
		text := strings.Replace(good, c[0], c[1], 1)
		if text == good {
			t.Fatalf("%s is not in the good plan", c[0])
		}
		if _, err := BuiltIn().With(strings.NewReader(text)); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
	_, err := BuiltIn().With(strings.NewReader("{\n\"plans\": [\n{\"kode\": \"X\"}]}"))
	if err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("unknown field: %v, want its line", err)
	}
}

// ratHalfUp rounds to whole fen, half up.
func ratHalfUp(r *big.Rat) money.Amount {
	r = new(big.Rat).Add(r, big.NewRat(1, 2))
	return money.Amount(new(big.Int).Div(r.Num(), r.Denom()).Int64())
}

func ratOf(a money.Amount, ppm int64) *big.Rat {
	return new(big.Rat).Mul(new(big.Rat).SetInt64(int64(a)), big.NewRat(ppm, money.Million))
}

// For every combination of a rule and a settlement fee: the exact sum is rounded
// half up, once, at the end, and only then bounded.
func TestPriceAgainstRationals(t *testing.T) {
	fen := func(t *rapid.T, name string, most int64) money.Amount {
		return money.Amount(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, most)).Draw(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		r := Rule{PPM: rapid.Int64Range(0, money.Million).Draw(t, "ppm"), Fixed: fen(t, "fixed", 1000), Min: fen(t, "min", 100), MinAmount: fen(t, "min amount", 200),
			OnFeeGEAmount: rapid.SampledFrom([]string{RejectSale, CapAtAmount, AllowNegative}).Draw(t, "policy")}
		if rapid.Bool().Draw(t, "capped") {
			r.Cap = r.Min + money.Amount(rapid.Int64Range(1, 5000).Draw(t, "cap"))
		}
		sf := SettleFee{Speed: D0, PPM: rapid.Int64Range(0, money.Million).Draw(t, "speed ppm"), Fixed: fen(t, "speed fixed", 500), Cap: fen(t, "speed cap", 5000),
			Base: rapid.SampledFrom([]string{BaseNet, BaseGross}).Draw(t, "base")}
		amount := money.Amount(rapid.OneOf(rapid.Int64Range(1, 2000), rapid.Int64Range(1, 10_000_000_000)).Draw(t, "amount"))
		if rapid.Bool().Draw(t, "on a half") { // amount x ppm ends in half a fen
			r.PPM = 500_000
			amount |= 1
		}
		exact := ratOf(amount, r.PPM)
		exact.Add(exact, new(big.Rat).SetInt64(int64(r.Fixed)))
		want := max(ratHalfUp(exact), r.Min)
		if r.Cap > 0 {
			want = min(want, r.Cap)
		}
		refusal := NotRefused
		switch {
		case amount < r.MinAmount:
			refusal = BelowMinimum
			if want >= amount && r.OnFeeGEAmount == CapAtAmount {
				want = amount
			}
		case want < amount:
		case r.OnFeeGEAmount == RejectSale:
			refusal = FeeNotBelowAmount
		case r.OnFeeGEAmount == CapAtAmount:
			want = amount
		}
		p := &FeePlan{Rules: []Rule{r}, SettleFees: []SettleFee{sf}}
		got := p.Price(Sale{Channel: Card, Amount: amount})
		if got.Fee != want || got.Percent+got.Fixed != got.Fee || got.Percent < 0 || got.Fixed < 0 || got.Refusal != refusal {
			t.Fatalf("%s by %+v costs %+v, want %s and %q", amount, r, got, want, refusal)
		}
		left := max(0, amount-want)
		base := amount
		if sf.Base == BaseNet {
			base = left
		}
		exact = ratOf(base, sf.PPM)
		exact.Add(exact, new(big.Rat).SetInt64(int64(sf.Fixed)))
		speed := ratHalfUp(exact)
		if sf.Cap > 0 {
			speed = min(speed, sf.Cap)
		}
		speed = min(speed, left)
		if fee, offered := p.SpeedFee(D0, amount, want); fee != speed || !offered {
			t.Fatalf("%s, fee %s, by %+v costs %s for speed, want %s", amount, want, sf, fee, speed)
		}
		if q := p.QuoteSale("credit", Sale{Channel: Card, Amount: amount}, D0); refusal == NotRefused && (q.Fee != want || q.SettleFee != speed || q.Net != amount-want-speed) {
			t.Fatalf("quoted %+v, want %s and %s", q, want, speed)
		}
	})
}

// The edges of bands: the first amount of one belongs to it, its end to the next
// rule, and of rules that overlap the first one prices the sale.
func TestBandsAtTheirEdges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p FeePlan
		for i := range rapid.IntRange(1, 6).Draw(t, "rules") {
			r := Rule{PPM: int64(i + 1), From: money.Amount(rapid.Int64Range(0, 20).Draw(t, "from")), OnFeeGEAmount: AllowNegative,
				Channel: rapid.SampledFrom([]Channel{AnyChannel, Card, QR}).Draw(t, "channel")}
			if rapid.Bool().Draw(t, "ends") {
				r.To = r.From + money.Amount(rapid.Int64Range(1, 20).Draw(t, "to"))
			}
			p.Rules = append(p.Rules, r)
		}
		for amount := money.Amount(1); amount <= 41; amount++ {
			want := int64(0)
			for i := len(p.Rules) - 1; i >= 0; i-- {
				if r := p.Rules[i]; r.Channel != QR && amount >= r.From && (r.To == 0 || amount < r.To) {
					want = r.PPM
				}
			}
			switch got := p.Price(Sale{Channel: Card, Amount: amount}); {
			case want == 0 && (got.Refusal != NoRule || got.Rule != nil), want != 0 && (got.Rule == nil || got.Rule.PPM != want):
				t.Fatalf("%s by %+v: %+v, want rule %d", amount, p.Rules, got, want)
			}
		}
	})
}

func TestPriceDoesNotAllocate(t *testing.T) {
	p := plan(t, "MICRO-2025", 1)
	if n := testing.AllocsPerRun(100, func() {
		if p.Price(Sale{Channel: QR, Amount: 100_00}).Fee != 38 {
			t.Fatal("wrong price")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FEE-06, FEE-13: T+1 is free; the plans that ship take nothing for devices and
// deposits, 100.00 for a repair, and nothing for a SIM card's first year.
func TestNothingElseIsTaken(t *testing.T) {
	for p := range BuiltIn().All() {
		for _, amount := range []money.Amount{100_00, 50_000_00} {
			if fee, offered := p.SpeedFee(T1, amount, 3_60); fee != 0 || !offered {
				t.Errorf("%s v%d takes %s for T+1", p.Code, p.Version, fee)
			}
		}
		for _, x := range p.Extras {
			switch want := map[string]money.Amount{Repair: 100_00}[x.Kind]; {
			case x.Amount != want:
				t.Errorf("%s v%d takes %s for %s, want %s", p.Code, p.Version, x.Amount, x.Kind, want)
			case x.Kind == SIMYear && x.FreeDays != 365:
				t.Errorf("%s v%d: a SIM card is free for %d days", p.Code, p.Version, x.FreeDays)
			}
		}
	}
	if w := plan(t, "MICRO-2025", 1).Extra(Device).Waiver; w == nil || w.Sales != money.Yuan(1000) || w.WithinDays != 30 {
		t.Errorf("the device's waiver is %+v", w)
	}
}

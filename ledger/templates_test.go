package ledger

import (
	"strings"
	"testing"

	"acquirer/money"
)

const (
	day   = 20261120
	later = 20261123
	alice = "898110054110001"
	bob   = "898110054110002"
)

// A credit sale of 100.00 on the MICRO plan, fee 3.60.
func microSale(txn int64, mid string) Clearing {
	return Clearing{Txn: txn, Date: day, Merchant: mid, Amount: 100_00, FeeRate: 60, FeeFixed: 3_00, IssuerFee: 45, NetworkFee: 3}
}

func one(t Transfer, _ bool) []Transfer { return []Transfer{t} }

// The posting templates for that sale, leg by leg.
func TestTemplates(t *testing.T) {
	sale := microSale(7, alice)
	pay := Payout{Ref: "T1-1", Date: later, Merchant: alice, Amount: 9640}
	early := Payout{Ref: "D0-1", Date: day, Merchant: alice, Amount: 9640, Advance: true, Cost: 20}
	again := Payout{Ref: "T1-1-R1", Date: later, Merchant: alice, Amount: 9640, Reissue: true}
	hold := Hold{Key: "x", Date: day, Merchant: alice, Amount: 100}
	back := Chargeback{Key: "x", Date: day, Merchant: alice, Amount: 100_00, Fee: 5_00}
	m := ":" + alice
	for _, c := range []struct {
		name string
		got  []Transfer
		want string
	}{
		{"sale", one(sale.Sale()), "D1101 9952,D5101 45,D5102 3,C2101" + m + " 9640,C4101 60,C4102 300"},
		{"reversal", one(sale.Reversal(later)), "C1101 9952,C5101 45,C5102 3,D2101" + m + " 9640,D4101 60,D4102 300"},
		{"QR sale", one((&Clearing{Txn: 8, Date: day, Merchant: alice, Wallet: "alipay", Amount: 1_32, FeeRate: 1}).Sale()), "D1102:alipay 132,C2101" + m + " 131,C4101 1"},
		{"refund", one((&Clearing{Txn: 9, Date: day, Merchant: alice, Amount: -40_00, FeeRate: -24}).Refund()), "C1101 4000,D2101" + m + " 3976,D4101 24"},
		{"network receipt", one(NetworkReceipt("n", later, "", 9952, 9952)), "D1001 9952,C1101 9952"},
		{"too little came", one(NetworkReceipt("n", later, "", 9952, 9900)), "D1001 9900,C1101 9952,D1901 52"},
		{"too much came", one(NetworkReceipt("n", later, "", 9952, 9999)), "D1001 9999,C1101 9952,C2301 47"},
		{"reserve", pay.Reserve(), "D2101" + m + " 9640,C2102" + m + " 9640"},
		{"success", pay.Success(), "|D2102" + m + " 9640,C1001 9640"},
		{"failed", pay.Failed(), ""},
		{"returned", pay.Returned(false), "D1001 9640,C2103" + m + " 9640"},
		{"reissue", again.Reserve(), "D2103" + m + " 9640,C2102" + m + " 9640"},
		{"long", pay.Long(), "D1901 9640,C1001 9640"},
		{"D0 reserve", early.Reserve(), "D2101" + m + " 9640,C2102" + m + " 9640|D1201" + m + " 9640,C1002 9640"},
		{"D0 success", early.Success(), "||D2102" + m + " 9640,C2201" + m + " 9640|D5104 20,C1002 20"},
		{"D0 failed", early.Failed(), "|"},
		{"D0 repaid", early.Repaid(), "D2201" + m + " 9640,C1001 9640,D1002 9640,C1201" + m + " 9640"},
		{"D0 returned early", early.Returned(false), "D1002 9640,C1201" + m + " 9640,D2201" + m + " 9640,C2103" + m + " 9640"},
		{"D0 returned late", early.Returned(true), "D1001 9640,C2103" + m + " 9640"},
		{"D0 long", early.Long(), "D1202 9640,C1002 9640|D5104 20,C1002 20"},
		{"late", pay.Late(), "D2101" + m + " 9640,C1001 9640"},
		{"late reissue", again.Late(), "D2103" + m + " 9640,C1001 9640"},
		{"D0 late", early.Late(), "D1201" + m + " 9640,C1002 9640|D2101" + m + " 9640,C2201" + m + " 9640|D5104 20,C1002 20"},
		{"long returned", pay.LongReturned(), "C1901 9640,D1001 9640"},
		{"D0 long returned", early.LongReturned(), "C1202 9640,D1002 9640"},
		{"recovered", []Transfer{pay.Recovered(9640, 0)}, "D2101" + m + " 9640,C1901 9640"},
		{"recovered of what came back", []Transfer{pay.Recovered(40, 9600)}, "D2101" + m + " 40,D2103" + m + " 9600,C1901 9640"},
		{"D0 recovered", []Transfer{early.Recovered(9640, 0)}, "D2101" + m + " 9640,C1001 9640,D1002 9640,C1202 9640"},
		{"recovered twice", []Transfer{pay.RecoveredTwice()}, "D1001 9640,C2101" + m + " 9640"},
		{"lost", pay.Lost(), "D5901 9640,C1901 9640"},
		{"D0 lost", early.Lost(), ""},
		{"found again", pay.FoundAgain(), "D1001 9640,C5901 9640"},
		{"D0 found again", early.FoundAgain(), "C1202 9640,D1002 9640"},
		{"D0 fee", []Transfer{D0Fee("b", day, alice, 5)}, "D2101" + m + " 5,C4103 5"},
		{"SIM year", []Transfer{ExtraFee("x", day, alice, 100)}, "D2101" + m + " 100,C4104 100"},
		{"hold asked for", []Transfer{hold.Ask()}, "D2101" + m + " 100,C2104" + m + " 100"},
		{"hold confirmed, refused, lapsed", []Transfer{hold.Confirm(), hold.Refuse(), hold.Lapse()}, "||"},
		{"release", []Transfer{hold.Release("", 100)}, "D2104" + m + " 100,C2101" + m + " 100"},
		{"chargeback", []Transfer{back.Book()}, "D2101" + m + " 10000,D5105 500,C1101 10500"},
		{"chargeback of held money", []Transfer{(&Chargeback{Key: "x", Date: day, Merchant: alice, Amount: 100_00, Held: 100_00}).Book()}, "D2104" + m + " 10000,C1101 10000"},
		{"chargeback, partly held", []Transfer{(&Chargeback{Key: "x", Date: day, Merchant: alice, Amount: 100_00, Held: 30_00}).Book()}, "D2104" + m + " 3000,D2101" + m + " 7000,C1101 10000"},
		{"chargeback at a wallet", []Transfer{(&Chargeback{Key: "x", Date: day, Merchant: alice, Wallet: "alipay", Amount: 100_00}).Book()}, "D2101" + m + " 10000,C1102:alipay 10000"},
		{"chargeback won", []Transfer{back.Won()}, "D1101 10000,C2101" + m + " 10000"},
		{"arrears", []Transfer{ToArrears("x", day, alice, 7)}, "D1301" + m + " 7,C2101" + m + " 7"},
		{"arrears collected", []Transfer{ToArrears("y", day, alice, -7)}, "C1301" + m + " 7,D2101" + m + " 7"},
		{"long item", []Transfer{LongItem("x", day, "", 5)}, "D1101 5,C2301 5"},
		{"long delivered", []Transfer{LongResolved("x", day, "", alice, 5)}, "D2301 5,C2101" + m + " 5"},
		{"long given back", []Transfer{LongResolved("x", day, "", "", 5)}, "D2301 5,C1101 5"},
		{"short item", []Transfer{ShortItem("x", day, "", 5)}, "D1901 5,C1101 5"},
		{"short found", []Transfer{ShortFound("x", day, "", 5)}, "D1101 5,C1901 5"},
		{"long at a wallet", []Transfer{LongItem("x", day, "alipay", 5), LongResolved("x", day, "alipay", "", 5)}, "D1102:alipay 5,C2301 5|D2301 5,C1102:alipay 5"},
		{"short at a wallet", []Transfer{ShortItem("x", day, "alipay", 5), ShortFound("x", day, "alipay", 5)}, "D1901 5,C1102:alipay 5|D1102:alipay 5,C1901 5"},
		{"fee difference", []Transfer{FeeDifference("x", day, "", 3, -1, 0)}, "D5101 3,C5102 1,C1101 2"},
		{"fee difference at a wallet", []Transfer{FeeDifference("x", day, "alipay", -3, 0, 0)}, "C5101 3,D1102:alipay 3"},
		{"short recovered", []Transfer{ShortResolved("x", day, alice, 5)}, "D2101" + m + " 5,C1901 5"},
		{"short written off", []Transfer{ShortResolved("x", day, "", 5)}, "D5901 5,C1901 5"},
		{"close", one(DailyClose(day, later, &Income{Rate: 60, Fixed: 300, Issuer: 45, Network: 3})), "D4101 60,D4102 300,C5101 45,C5102 3,C2501 312"},
		{"close at a loss", one(DailyClose(day, later, &Income{Rate: 10, Issuer: 45})), "D4101 10,C5101 45,D2501 35"},
		{"sweep", []Transfer{Sweep(day, later, 312)}, "D2501 312,C1001 312,D1002 312,C4901 312"},
		{"own funds", []Transfer{OwnFunds("x", day, 100)}, "D1002 100,C3001 100"},
	} {
		parts := make([]string, len(c.got))
		for i := range c.got {
			c.got[i].check() // panics when it does not balance
			parts[i] = encodeLegs(c.got[i].Legs)
			back, err := decodeLegs(parts[i])
			if err != nil || encodeLegs(back) != parts[i] {
				t.Errorf("%s: legs %q read back as %q, %v", c.name, parts[i], encodeLegs(back), err)
			}
		}
		if got := strings.Join(parts, "|"); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	if t1, any := (&Clearing{Txn: 1, Date: day, Merchant: alice}).Sale(); any {
		t.Errorf("a sale of nothing books %s", encodeLegs(t1.Legs))
	}
}

// Costs and margins, half up.
func TestWorkedCosts(t *testing.T) {
	for _, c := range []struct {
		debit           bool
		amount          money.Amount
		issuer, network money.Amount
	}{
		{false, 100_00, 45, 3}, {false, 10_000_00, 45_00, 3_25}, {false, 50_000_00, 225_00, 16_25},
		{true, 3_714_28, 13_00, 1_21}, {true, 10_000_00, 13_00, 3_25}, {true, 50_000_00, 13_00, 3_25}, {true, 100_00, 35, 3},
	} {
		got, err := UnionPay2016.Cost(c.debit, false, c.amount)
		if err != nil || got != (CardCost{c.issuer, c.network}) {
			t.Errorf("debit %v %s costs %+v, %v; want %s and %s", c.debit, c.amount, got, err, c.issuer, c.network)
		}
		if got, err := UnionPay2016.Cost(c.debit, true, c.amount); err != nil || got != (CardCost{}) {
			t.Errorf("an exempt merchant pays %+v, %v", got, err)
		}
	}
	for _, c := range []struct {
		name        string
		debit       bool
		amount, fee money.Amount
		margin      string
	}{
		{"MICRO credit", false, 100_00, 3_60, "3.12"}, {"MICRO credit", false, 50_000_00, 303_00, "61.75"},
		{"MICRO debit", true, 100_00, 50, "0.12"}, {"MICRO debit", true, 50_000_00, 20_00, "3.75"},
		{"ESIGN debit", true, 50_000_00, 300_00, "283.75"},
	} {
		cost, err := UnionPay2016.Cost(c.debit, false, c.amount)
		if margin := c.fee - cost.Issuer - cost.Network; err != nil || margin.String() != c.margin {
			t.Errorf("%s %s leaves %s, %v; want %s", c.name, c.amount, margin, err, c.margin)
		}
	}
	if _, err := UnionPay2016.Cost(false, false, 1<<62); err != nil {
		t.Errorf("a sale of 2^62 fen: %v", err)
	}
}

// A transfer that does not balance panics; so does one that is not one.
func TestCheckPanics(t *testing.T) {
	good := func() Transfer {
		return Transfer{Key: "k", Event: EventSale, Date: day, Kind: Posted, Legs: []Leg{d(ClientBank, "", 5), c(NetworkReceivable, "", 5)}}
	}
	g := good()
	g.check()
	for name, spoil := range map[string]func(*Transfer){
		"unbalanced":       func(t *Transfer) { t.Legs[0].Amount = 6 },
		"across books":     func(t *Transfer) { t.Legs[0].Account = OwnBank },
		"no key":           func(t *Transfer) { t.Key = "" },
		"no date":          func(t *Transfer) { t.Date = 0 },
		"no kind":          func(t *Transfer) { t.Kind = 0 },
		"no legs":          func(t *Transfer) { t.Legs = nil },
		"unknown account":  func(t *Transfer) { t.Legs[0].Account, t.Legs[1].Account = 9999, 9999 },
		"zero":             func(t *Transfer) { t.Legs[0].Amount, t.Legs[1].Amount = 0, 0 },
		"negative":         func(t *Transfer) { t.Legs[0].Amount, t.Legs[1].Amount = -5, -5 },
		"comma in sub":     func(t *Transfer) { t.Legs[0].Sub = "a,b" },
		"posting of legs":  func(t *Transfer) { t.Kind, t.Resolves = Posting, "x" },
		"posting nothing":  func(t *Transfer) { t.Kind, t.Legs = Posting, nil },
		"sale that solves": func(t *Transfer) { t.Resolves = "x" },
		"overflow": func(t *Transfer) {
			t.Legs = []Leg{d(ClientBank, "", 1<<62), d(ClientBank, "", 1<<62), c(NetworkReceivable, "", 1)}
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			bad := good()
			spoil(&bad)
			bad.check()
		}()
	}
	for _, bad := range []string{"D1101", "X1101 5", "D1101 0", "D1101 -5", "D1101 x", "D9999 5", "D1101 5,", "D70000 5", " "} {
		if legs, err := decodeLegs(bad); err == nil {
			t.Errorf("%q reads as %+v", bad, legs)
		}
	}
}

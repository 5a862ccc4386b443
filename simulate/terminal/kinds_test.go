package terminal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"acquirer/card"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// fieldsOf lists the data elements of a message.
func fieldsOf(m *spec.Message) string {
	var b strings.Builder
	for n := 2; n <= 64; n++ {
		if m.Has(n) {
			fmt.Fprintf(&b, " %d", n)
		}
	}
	return strings.TrimPrefix(b.String(), " ")
}

func panWith(t *testing.T, digits string) card.PAN {
	t.Helper()
	p, err := card.ParsePAN(digits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// head is what tells the kind of a message: its type, DE 3, 25 and 60.1.
func head(m *spec.Message) string {
	return fmt.Sprint(m.MTI(), " ", m.Text(3), " ", m.Text(25), " ", m.Text(60)[:2])
}

// theOriginal is a slip of another day.
func theOriginal(pan *simcard.Card) *Slip {
	return &Slip{Key: Key{tid, 7, 42}, Kind: KindSale, Amount: 12345, Date: "0313", RRN: "512345678901", AuthCode: "B54321",
		Voucher: "VOUCHER00000000000041", Scheme: "CUP", PAN: pan.PAN, Expiry: pan.Expiry}
}

// Every kind sends the fields of its row in protocol.md 3, and no other.
func TestFieldsOfEveryKind(t *testing.T) {
	c := cardOf(t, 1, simcard.Good, true)
	o := theOriginal(c)
	const wholeChip = "2 3 4 11 14 22 23 25 26 35 41 42 49 52 53 55 60 64"
	for _, x := range []struct {
		Transaction
		head, fields string
		values       map[int]string
	}{
		{Transaction{Kind: KindBalance, Card: c, PIN: c.PIN}, "0200 310000 00 01",
			"2 3 11 14 22 23 25 26 35 41 42 49 52 53 55 60 64", nil},
		{Transaction{Kind: KindBalance, Card: c, Entry: Stripe, PIN: c.PIN}, "0200 310000 00 01",
			"3 11 22 25 26 35 41 42 49 52 53 60 64", nil},
		{Transaction{Kind: KindSale, Card: c, PIN: c.PIN, Partial: true}, "0200 000000 00 22", wholeChip,
			map[int]string{22: "051", 53: "2600000000000000", 60: "22000001000601"}},
		{Transaction{Kind: KindSale, Card: c, Entry: Contactless}, "0200 000000 00 22",
			"2 3 4 11 14 22 23 25 35 41 42 49 53 55 60 64", map[int]string{22: "072", 53: "0600000000000000"}},
		{Transaction{Kind: KindSale, Card: c, Entry: Fallback, PIN: c.PIN}, "0200 000000 00 22",
			"3 4 11 22 25 26 35 41 42 49 52 53 60 64", map[int]string{22: "021", 60: "22000001000620"}},
		{Transaction{Kind: KindSale, Card: c, Entry: Keyed}, "0200 000000 00 22", "2 3 4 11 14 22 25 41 42 49 60 64", nil},
		{Transaction{Kind: KindVoid, Card: c, PIN: c.PIN, Original: o}, "0200 200000 00 23",
			"2 3 4 11 14 22 23 25 26 35 37 38 41 42 49 52 53 55 60 61 64",
			map[int]string{37: "512345678901", 38: "B54321", 61: "000007000042"}},
		{Transaction{Kind: KindVoid, Card: c, Entry: Stripe, PIN: c.PIN, Original: o}, "0200 200000 00 23",
			"3 4 11 22 25 26 35 37 38 41 42 49 52 53 60 61 64", nil},
		{Transaction{Kind: KindVoid, Original: o}, "0200 200000 00 23", "2 3 4 11 14 22 25 37 38 41 42 49 60 61 64",
			map[int]string{2: c.Number, 22: "012"}},
		{Transaction{Kind: KindRefund, Card: c, Entry: Stripe, PIN: c.PIN, Original: o}, "0220 200000 00 25",
			"3 4 11 22 25 35 37 38 41 42 49 53 60 61 63 64",
			map[int]string{22: "022", 37: "512345678901", 53: "0600000000000000", 61: "0000070000420313", 63: "CUP"}},
		{Transaction{Kind: KindRefund, Card: c, Original: o}, "0220 200000 00 25",
			"2 3 4 11 22 25 35 37 38 41 42 49 53 60 61 63 64", nil},
		{Transaction{Kind: KindRefund, Card: c, Entry: Keyed}, "0220 200000 00 25", "2 3 4 11 22 25 37 41 42 49 60 61 63 64",
			map[int]string{37: "000000000000", 61: "0000000000000000", 63: "000"}},
		{Transaction{Kind: KindPreauth, Card: c, PIN: c.PIN}, "0100 030000 06 10", wholeChip, nil},
		{Transaction{Kind: KindPreauth, Card: c, PIN: c.PIN, AddOn: true, Original: o}, "0100 030000 60 10",
			"2 3 4 11 14 22 23 25 26 35 38 41 42 49 52 53 55 60 61 64", map[int]string{61: "0000070000420313"}},
		{Transaction{Kind: KindPreauthVoid, Card: c, Entry: Stripe, PIN: c.PIN, Original: o}, "0100 200000 06 11",
			"3 4 11 22 25 26 35 38 41 42 49 52 53 60 61 64", map[int]string{38: "B54321", 61: "0000070000420313"}},
		{Transaction{Kind: KindCompletion, Card: c, PIN: c.PIN, Original: o}, "0200 000000 06 20",
			"2 3 4 11 14 22 23 25 26 35 38 41 42 49 52 53 55 60 61 64", map[int]string{61: "0000070000420313"}},
		{Transaction{Kind: KindCompletionNotice, Card: c, Entry: Stripe, PIN: c.PIN, Original: o}, "0220 000000 06 24",
			"3 4 11 22 25 35 38 41 42 49 53 60 61 64", map[int]string{22: "022", 53: "0600000000000000"}},
		{Transaction{Kind: KindCompletionVoid, Card: c, Entry: Keyed, Original: o}, "0200 200000 06 21",
			"2 3 4 11 14 22 25 37 38 41 42 49 60 61 64", map[int]string{61: "0000070000420313"}},
		{Transaction{Kind: KindOfflineSale, Card: c, Entry: Keyed, AuthCode: "T12345"}, "0220 000000 00 30",
			"2 3 4 11 22 25 38 41 42 49 60 61 63 64",
			map[int]string{38: "T12345", 61: "00000000000000000100000000000", 63: "000"}},
		{Transaction{Kind: KindAdjust, Original: o}, "0220 000000 00 32", "2 3 4 11 22 25 37 38 41 42 49 60 61 63 64",
			map[int]string{61: "0000070000420313"}},
		{Transaction{Kind: KindTip, Card: c, Entry: Stripe, Tip: 500, Original: o}, "0220 000000 00 34",
			"2 3 4 11 22 25 37 38 41 42 48 49 60 61 63 64", map[int]string{48: "000000000500", 22: "022"}},
		{Transaction{Kind: KindChipOfflineSale, Card: c, PIN: c.PIN}, "0200 000000 00 36",
			"2 3 4 11 14 22 23 25 35 41 42 49 53 55 60 64", map[int]string{22: "052"}},
		{Transaction{Kind: KindEcashLoad, Card: c, PIN: c.PIN}, "0200 600000 91 45", wholeChip, nil},
		{Transaction{Kind: KindEcashCashLoad, Card: c, PIN: c.PIN}, "0200 630000 91 46", wholeChip, nil},
		{Transaction{Kind: KindEcashLoadOther, Card: c, PIN: c.PIN, Text: "x"}, "0200 620000 91 47",
			"2 3 4 11 14 22 23 25 26 35 41 42 49 52 53 55 60 62 64", nil},
		{Transaction{Kind: KindEcashLoadVoid, Card: c, PIN: c.PIN, Original: o}, "0200 170000 91 51",
			"2 3 4 11 14 22 23 25 26 35 37 38 41 42 49 52 53 55 60 61 64", map[int]string{61: "000007000042"}},
		{Transaction{Kind: KindTopupCheck, Card: c, Entry: Stripe, PIN: c.PIN, Text: "张三"}, "0100 330000 00 00",
			"3 11 22 25 26 35 41 42 49 52 53 60 62 64", map[int]string{62: "D5C5C8FD"}},
		{Transaction{Kind: KindTopupCash, Card: c, Entry: Stripe, PIN: c.PIN}, "0200 630000 66 48",
			"3 4 11 22 25 26 35 41 42 49 52 53 60 64", nil},
		{Transaction{Kind: KindTopupAccount, Card: c, Entry: Stripe, PIN: c.PIN}, "0200 400000 66 49",
			"3 4 11 22 25 26 35 41 42 49 52 53 60 64", nil},
		{Transaction{Kind: KindInstalment, Card: c, Entry: Stripe, PIN: c.PIN, Text: "12"}, "0200 000000 64 22",
			"3 4 11 22 25 26 35 41 42 49 52 53 60 62 64", map[int]string{62: "3132"}},
		{Transaction{Kind: KindPoints, Card: c, Entry: Stripe, PIN: c.PIN}, "0200 000000 65 22",
			"3 4 11 22 25 26 35 41 42 49 52 53 60 64", nil},
		{Transaction{Kind: KindQRSale, PayCode: "134567890123456789"}, "0200 000000 00 22", "3 4 11 22 25 41 42 49 59 60 64",
			map[int]string{22: "032", 59: "A2046" + "01002" + "02" + "02010" + "SN00000001" + "03006" + "456789" + "05008" + "V1.00001" + "A3018" + "134567890123456789"}},
		{Transaction{Kind: KindQRVoid, Original: o}, "0200 200000 00 23", "3 4 11 22 25 37 38 41 42 49 59 60 61 64",
			map[int]string{59: "A4021VOUCHER00000000000041", 61: "000007000042"}},
		{Transaction{Kind: KindQRRefund, Original: o}, "0220 200000 00 25", "3 4 11 22 25 37 41 42 49 59 60 61 63 64",
			map[int]string{59: "A4021VOUCHER00000000000041", 61: "0000070000420313"}},
	} {
		if x.Amount = 12345; !x.Kind.NeedsAmount() {
			x.Amount = 0
		}
		name := fmt.Sprintf("%s %s PIN=%v original=%v", x.Kind, x.Entry, x.PIN != "", x.Original != nil)
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			term := open(t, h, func(c *Config) {
				c.KeepSlips = true
				c.Profile.Device = Device{Type: "02", Serial: "SN00000001", Version: "V1.00001"}
			})
			res, err := term.Transact(t.Context(), x.Transaction)
			if err != nil || res.Code != "00" {
				t.Fatalf("%+v, %v", res, err)
			}
			sent := h.bodies[len(h.bodies)-1]
			var m spec.Message
			if err := spec.UnionPayPOS.Parse(&m, sent); err != nil {
				t.Fatal(err)
			}
			if got := head(&m); got != x.head {
				t.Errorf("sent %s, want %s", got, x.head)
			}
			if got := fieldsOf(&m); got != x.fields {
				t.Errorf("fields\n got %s\nwant %s", got, x.fields)
			}
			for n, want := range x.values {
				if got := m.Text(n); got != want {
					t.Errorf("DE %d is %q, want %q", n, got, want)
				}
			}
			if de55 := m.Bytes(55); de55 != nil {
				cid, _ := spec.FindTLV(de55, 0x9F27)
				typ, _ := spec.FindTLV(de55, 0x9C)
				if (x.Kind == KindChipOfflineSale) != (cid[0] == 0x40) || fmt.Sprintf("%02X", typ) != x.head[5:7] {
					t.Errorf("9F27 %X, 9C %X", cid, typ)
				}
			}
			if term.Pending() || term.Waiting() > 0 {
				t.Errorf("pending %v, waiting %d", term.Pending(), term.Waiting())
			}
			if kept := len(term.Slips()) == 1; kept != x.Kind.NeedsAmount() {
				t.Errorf("%d slips", len(term.Slips()))
			}
		})
	}
}

// The table names every kind once, and says of each what follows from it.
func TestKindsHaveNames(t *testing.T) {
	if len(Kinds()) != 25 {
		t.Errorf("%d kinds", len(Kinds()))
	}
	for _, k := range Kinds() {
		back, err := ParseKind(k.String())
		if err != nil || back != k {
			t.Errorf("%s is read as %v, %v", k, back, err)
		}
		if r := k.row(); r.title == "" || r.mti == 0 || len(r.processing) != 6 || len(r.condition) != 2 || len(r.message) != 2 {
			t.Errorf("%s: %+v", k, r)
		}
	}
	for _, name := range []string{"", "Sale", "unknown kind"} {
		if k, err := ParseKind(name); err == nil {
			t.Errorf("%q is %s", name, k)
		}
	}
	if text, _ := Kind(200).MarshalText(); string(text) != "unknown kind" || Kind(0).NeedsAmount() {
		t.Error("what is no kind has a name")
	}
}

// Every reversible kind is reversed by its own fields (protocol.md 8.2), after
// an answer and without one; the others leave nothing to be reversed.
func TestReversalsOfEveryKind(t *testing.T) {
	c := cardOf(t, 1, simcard.Good, true)
	o := theOriginal(c)
	want := map[Kind]string{
		KindSale:           "2 3 4 11 14 22 23 25 39 41 42 49 55 60 64",
		KindVoid:           "2 3 4 11 14 22 23 25 38 39 41 42 49 55 60 61 64",
		KindPreauth:        "2 3 4 11 14 22 23 25 39 41 42 49 55 60 61 64",
		KindPreauthVoid:    "2 3 4 11 14 22 23 25 38 39 41 42 49 55 60 61 64",
		KindCompletion:     "2 3 4 11 14 22 23 25 38 39 41 42 49 55 60 61 64",
		KindCompletionVoid: "2 3 4 11 14 22 23 25 38 39 41 42 49 55 60 61 64",
		KindEcashLoad:      "2 3 4 11 14 22 23 25 39 41 42 49 55 60 62 64",
		KindEcashCashLoad:  "2 3 4 11 14 22 23 25 39 41 42 49 55 60 62 64",
		KindEcashLoadOther: "2 3 4 11 14 22 23 25 39 41 42 49 55 60 62 64",
		KindEcashLoadVoid:  "2 3 4 11 14 22 23 25 38 39 41 42 49 55 60 61 64",
		KindTopupCash:      "2 3 4 11 14 22 23 25 39 41 42 49 55 60 62 64",
		KindTopupAccount:   "2 3 4 11 14 22 23 25 39 41 42 49 55 60 62 64",
		KindInstalment:     "2 3 4 11 14 22 23 25 39 41 42 49 55 60 62 64",
		KindPoints:         "2 3 4 11 14 22 23 25 39 41 42 49 55 60 62 64",
		KindQRSale:         "3 4 11 22 25 39 41 42 49 59 60 64",
		KindQRVoid:         "3 4 11 22 25 38 39 41 42 49 59 60 61 64",
	}
	for _, k := range Kinds() {
		for _, heard := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s heard=%v", k, heard), func(t *testing.T) {
				h := newHost(t)
				term := open(t, h, func(c *Config) { c.KeepSlips = true })
				x := Transaction{Kind: k, Amount: 12345, Card: c, PIN: c.PIN, AuthCode: "T12345", Tip: 1}
				if k.NeedsOriginal() {
					x.Original = o
				}
				if k == KindQRSale {
					x.PayCode = "134567890123456789"
				}
				if k.row().text {
					x.Text = "12"
				}
				if !heard {
					x.Fault = &Fault{DropAnswer: true}
				}
				if _, err := term.Transact(t.Context(), x); (err == nil) != heard {
					t.Fatal(err)
				}
				fields, reversible := want[k]
				if reversible != k.Reversible() || term.Pending() != (reversible && !heard) {
					t.Fatalf("reversible %v, pending %v", k.Reversible(), term.Pending())
				}
				if !reversible {
					if _, err := term.Reverse(t.Context(), Reversal{}); err == nil {
						t.Error("it was reversed")
					}
					return
				}
				res, err := term.Reverse(t.Context(), Reversal{})
				if err != nil || res.Code != "00" || len(term.Slips()) != 0 {
					t.Fatalf("%+v, %v, %d slips", res, err, len(term.Slips()))
				}
				m := h.requests(0x0400)[0]
				if heard {
					fields = strings.Replace(strings.Replace(fields, " 38 39", " 39", 1), " 39", " 38 39", 1)
				}
				if got := fieldsOf(m); got != fields {
					t.Errorf("fields\n got %s\nwant %s", got, fields)
				}
				request := h.bodies[1]
				var was spec.Message
				if err := spec.UnionPayPOS.Parse(&was, request); err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{3, 4, 11, 22, 25, 60} {
					if m.Text(n) != was.Text(n) {
						t.Errorf("DE %d is %s in the reversal of %s", n, m.Text(n), was.Text(n))
					}
				}
				date, code := "0000", "B54321"
				if heard {
					date, code = "0314", "A12345"
				}
				if m.Has(61) && m.Text(61) != "000001"+was.Text(11)+date {
					t.Errorf("DE 61 %s", m.Text(61))
				}
				if m.Has(38) && m.Text(38) != code {
					t.Errorf("DE 38 %s", m.Text(38))
				}
				if _, voucher := spec.FindDE59(m.Bytes(59), "A4"); m.Has(59) && voucher != (heard || k == KindQRVoid) {
					t.Errorf("DE 59 %s", m.Text(59))
				}
			})
		}
	}
}

// What no clerk can do is refused before anything leaves.
func TestTransactionsThatCannotBe(t *testing.T) {
	h := newHost(t)
	term := open(t, h, func(c *Config) { c.KeepSlips = true })
	c := cardOf(t, 1, simcard.Good, true)
	for name, x := range map[string]Transaction{
		"no kind":                  {Card: c, Amount: 1},
		"unknown kind":             {Kind: 99, Card: c, Amount: 1},
		"sale without a card":      {Kind: KindSale, Amount: 1},
		"void of nothing":          {Kind: KindVoid, Card: c, Amount: 1},
		"load without a chip":      {Kind: KindEcashLoad, Card: c, Entry: Stripe, Amount: 1},
		"payment without a code":   {Kind: KindQRSale, Amount: 1},
		"nobody authorised":        {Kind: KindOfflineSale, Card: c, Amount: 1},
		"no tip":                   {Kind: KindTip, Original: theOriginal(c)},
		"a sale later":             {Kind: KindSale, Card: c, Amount: 1, Later: true},
		"a sale with text":         {Kind: KindSale, Card: c, Amount: 1, Text: "x"},
		"text that GBK cannot say": {Kind: KindInstalment, Card: c, Entry: Keyed, Amount: 1, Text: "😀"},
	} {
		if _, err := term.Transact(t.Context(), x); err == nil || term.Pending() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range maxSlips {
		term.state.Slips = append(term.state.Slips, Slip{Kind: KindSale, Amount: 1})
	}
	if _, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 1, Card: c}); !errors.Is(err, ErrFull) {
		t.Errorf("the thousandth of a batch: %v", err)
	}
	if got := h.types(); len(got) != 1 {
		t.Errorf("the host saw %v", got)
	}
}

// What the answers bring comes back and stands on the slips.
func TestAnswersOnSlips(t *testing.T) {
	h := newHost(t)
	term := open(t, h, func(c *Config) { c.KeepSlips = true })
	c := cardOf(t, 1, simcard.Good, true)
	res, err := term.Transact(t.Context(), Transaction{Kind: KindBalance, Card: c, PIN: c.PIN})
	if err != nil || res.Balance == nil || *res.Balance != 12345 {
		t.Errorf("%+v, %v", res, err)
	}
	res, err = term.Transact(t.Context(), Transaction{Kind: KindQRSale, Amount: 500, PayCode: "281234567890123456"})
	if err != nil || res.Voucher != "VOUCHER0000000000042" {
		t.Errorf("%+v, %v", res, err)
	}
	s, ok := term.LastSlip()
	if !ok || s.Kind != KindQRSale || s.Voucher != res.Voucher || s.RRN != res.RRN || s.Date != "0314" || s.Cleared != "0315" || s.Acquirer != "48021000" || s.Scheme != "CUP" || s.Foreign() {
		t.Errorf("%+v", s)
	}
	if _, err := term.Transact(t.Context(), Transaction{Kind: KindQRVoid, Amount: 500, Original: &s}); err != nil {
		t.Fatal(err)
	}
	if s, ok = term.Slip(s.STAN); !ok || !s.Undone {
		t.Errorf("after its void: %+v", s)
	}
	if _, err := term.Reverse(t.Context(), Reversal{}); err != nil {
		t.Fatal(err)
	}
	if s, ok = term.Slip(s.STAN); !ok || s.Undone {
		t.Errorf("after the reversal of its void: %+v", s)
	}
	for digit, foreign := range map[string]bool{"4": true, "5": true, "6": false, "9": false} {
		pan := Slip{PAN: panWith(t, digit+"00000000000000")}
		if pan.Foreign() != foreign {
			t.Errorf("%s is foreign: %v", digit, pan.Foreign())
		}
		if pan.Scheme = "VIS"; !pan.Foreign() {
			t.Error("VIS is domestic")
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", s, term.Slips(), s); strings.Contains(text, "281234567890123456") {
		t.Error("a slip prints the payment code")
	}
	if sum := money.Amount(500); s.Due() != sum {
		t.Errorf("due %s", s.Due())
	}
}

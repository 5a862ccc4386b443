package iso87

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"acquirer/calendar"
	"acquirer/hsm/algo"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

// kind is how a kind of transaction is asked for (docs/dialects.md).
type kind struct {
	mti             spec.MTI
	code, condition string // DE 3, DE 25
	card            bool   // the card is read or keyed; else the original stands for it
	original        bool   // it cannot do without one
	auth            bool   // DE 38 of the original, or had by telephone
	noAmount        bool
	back            bool // it can be reversed
	debit, credit   bool // where it stands in the totals
}

var kinds = map[string]kind{
	"sale":              {mti: 0x0200, code: "000000", condition: "00", card: true, back: true, debit: true},
	"balance":           {mti: 0x0200, code: "310000", condition: "00", card: true, noAmount: true},
	"void":              {mti: 0x0200, code: "020000", condition: "00", original: true, back: true, credit: true},
	"refund":            {mti: 0x0200, code: "200000", condition: "00", card: true, credit: true},
	"preauth":           {mti: 0x0100, code: "000000", condition: "06", card: true, back: true},
	"preauth_void":      {mti: 0x0100, code: "020000", condition: "06", original: true, auth: true, back: true},
	"completion":        {mti: 0x0200, code: "000000", condition: "06", card: true, original: true, auth: true, back: true, debit: true},
	"completion_void":   {mti: 0x0200, code: "020000", condition: "06", original: true, auth: true, back: true, credit: true},
	"completion_notice": {mti: 0x0220, code: "000000", condition: "06", card: true, original: true, auth: true, debit: true},
	"offline_sale":      {mti: 0x0220, code: "000000", condition: "00", card: true, auth: true, debit: true},
	"chip_offline_sale": {mti: 0x0220, code: "000000", condition: "00", card: true, debit: true},
	"more":              {mti: 0x0220, code: "020000", condition: "00", original: true}, // an adjustment
	"less":              {mti: 0x0220, code: "220000", condition: "00", original: true},
}

// Known reports whether there is a kind of transaction of that name: sale,
// balance, void, refund, preauth, preauth_void, completion, completion_void,
// completion_notice, offline_sale, chip_offline_sale, and more and less, the
// two adjustments.
func Known(name string) bool { _, ok := kinds[name]; return ok }

// Follows reports whether a kind may name an original.
func Follows(name string) bool { return kinds[name].original || name == "refund" }

// Transaction is one transaction at the terminal.
type Transaction struct {
	Kind     string // see Known
	Amount   money.Amount
	Card     *simcard.Card // nil where the original stands for it
	Entry    terminal.Entry
	PIN      string // what was typed; "" for none
	KSN      string // DE 62: the DUKPT key that the PIN is said to be under; "" for the one that it is under
	Original *Slip
	AuthCode string // DE 38 of an offline_sale
	Fault    *terminal.Fault
}

// Slip is what the terminal keeps of a transaction.
type Slip struct {
	Kind          string
	STAN          int
	MTI           spec.MTI
	Sent          [10]byte // DE 7
	Amount        money.Amount
	RRN, AuthCode string // of its answer
	Code          string // DE 39; "" without an answer
	Card          *simcard.Card
	number        string // DE 2
	entry         string // DE 22
}

// original90 is DE 90 of a message about s.
func (s *Slip) original90() []byte {
	return spec.DE90{MTI: s.MTI, STAN: s.STAN, Sent: s.Sent}.AppendText(nil)
}

// Transact does a transaction, and before it the reversal of one whose outcome
// it does not know. The slip is there whatever the answer was.
func (t *Terminal) Transact(ctx context.Context, x Transaction) (*Answer, *Slip, error) {
	k, ok := kinds[x.Kind]
	if !ok || k.original && x.Original == nil || k.card && !k.original && x.Card == nil {
		return nil, nil, fmt.Errorf("terminal %s: %q is no kind of transaction, or its card or original is missing", t.cfg.TID, x.Kind)
	}
	if t.pending {
		if _, err := t.Reverse(ctx, Reversal{MTI: 0x0420}); err != nil {
			return nil, nil, t.failure(terminal.ErrPending, k.mti, err)
		}
	}
	if k.noAmount {
		x.Amount = 0 // for the chip too
	}
	m, err := t.build(&x, k)
	if err != nil {
		return nil, nil, err
	}
	stan, _ := m.Int(11)
	s := &Slip{Kind: x.Kind, STAN: int(stan), MTI: k.mti, Amount: x.Amount, Card: x.Card, number: m.Text(2), entry: m.Text(22)}
	copy(s.Sent[:], m.Text(7))
	if s.Card == nil && x.Original != nil {
		s.Card = x.Original.Card
	}
	if k.back {
		t.last, t.pending = s, true
	}
	a, err := t.exchange(ctx, m, x.Fault)
	if err != nil {
		if errors.Is(err, terminal.ErrDial) || errors.Is(err, terminal.ErrNoKeys) {
			t.pending = false // nothing left
		}
		return a, s, err
	}
	t.pending = false
	s.RRN, s.AuthCode, s.Code = a.RRN, a.AuthCode, a.Code
	if a.Approved() {
		t.count(x.Kind, x.Amount, 1, &t.totals.Debit, &t.totals.Credit)
	}
	return a, s, nil
}

func (t *Terminal) count(name string, amount money.Amount, n int, debit, credit *spec.Tally) {
	switch k := kinds[name]; {
	case k.debit:
		debit.Count, debit.Fen = debit.Count+n, debit.Fen+amount.Fen()
	case k.credit:
		credit.Count, credit.Fen = credit.Count+n, credit.Fen+amount.Fen()
	case name == "more":
		debit.Fen += amount.Fen()
	case name == "less":
		debit.Fen -= amount.Fen()
	}
}

func (t *Terminal) build(x *Transaction, k kind) (*spec.Message, error) {
	m := &spec.Message{}
	m.Reset(t.cfg.Dialect, k.mti)
	m.Set(3, k.code)
	if !k.noAmount {
		m.SetInt(4, x.Amount.Fen())
	}
	t.stamp(m)
	m.Set(25, k.condition)
	m.Set(41, t.cfg.TID)
	m.Set(42, t.cfg.MID)
	m.Set(49, money.CurrencyNumeric)
	if k.auth {
		auth := x.AuthCode
		if x.Original != nil {
			auth = x.Original.AuthCode
		}
		t.put(m, 38, auth)
	}
	if x.Original != nil {
		m.SetText(90, x.Original.original90())
	}
	if !k.card {
		return m, nil
	}
	if x.Card == nil {
		m.Set(2, x.Original.number)
		if x.Original.number == "" {
			m.Set(2, x.Original.Card.Number)
		}
		m.Set(22, "012")
		return m, nil
	}
	return m, t.readCard(m, x)
}

var modes = map[terminal.Entry]string{terminal.Chip: "05", terminal.Contactless: "07", terminal.Stripe: "90", terminal.Keyed: "01", terminal.Fallback: "80"}

// readCard writes DE 2 or 35, 14, 22, 23, 55 and, with a PIN, 52.
func (t *Terminal) readCard(m *spec.Message, x *Transaction) error {
	c := x.Card
	digit := "2"
	if x.PIN != "" {
		digit = "1"
	}
	m.Set(22, modes[x.Entry]+digit)
	if x.Entry == terminal.Keyed || x.Entry == terminal.Chip || x.Entry == terminal.Contactless {
		m.Set(2, c.Number)
		m.Set(14, c.Expiry)
	}
	if x.Entry != terminal.Keyed {
		m.Set(35, c.Track2)
	}
	if x.Entry == terminal.Chip || x.Entry == terminal.Contactless {
		t.put(m, 23, "0"+c.PSN)
		if err := t.readChip(m, x); err != nil {
			return fmt.Errorf("terminal %s: reading the chip of %s: %w", t.cfg.TID, c.PAN, err)
		}
	}
	if x.PIN == "" {
		return nil
	}
	key, ksn := t.keys.PIK, x.KSN
	if t.dukpt != nil {
		var err error
		if key, err = t.dukpt.next(); err != nil {
			return err
		}
		ksn = cmp.Or(ksn, fmt.Sprintf("%X", []byte(t.dukpt.ksn)))
	}
	if key == nil {
		return t.failure(terminal.ErrNoKeys, m.MTI(), nil)
	}
	pin, err := algo.ParsePIN(x.PIN)
	if err != nil {
		return fmt.Errorf("terminal %s: PIN: %w", t.cfg.TID, err)
	}
	block, err := algo.SealPIN(key, algo.ISO0, pin, c.Number)
	if err != nil {
		return fmt.Errorf("terminal %s: PIN block: %w", t.cfg.TID, err)
	}
	m.SetBytes(52, block.Bytes())
	if ksn != "" {
		m.Set(t.cfg.Dialect.KSNField(), ksn)
	}
	return nil
}

// readChip asks the card for its cryptogram and writes DE 55.
func (t *Terminal) readChip(m *spec.Message, x *Transaction) error {
	terms := simcard.Terms{Amount: bcd6(x.Amount.Fen()), Country: [2]byte{0x01, 0x56}, Currency: [2]byte{0x01, 0x56}}
	date := bcd6(int64(calendar.DateOf(time.Now())) % 1000000)
	copy(terms.Date[:], date[3:])
	binary.BigEndian.PutUint32(terms.UN[:], rand.Uint32())
	cvm := []byte{0x1F, 0x03, 0x02}
	if x.PIN != "" {
		terms.TVR[2], cvm = 0x04, []byte{0x42, 0x03, 0x00}
	}
	want := simcard.ARQC
	if x.Kind == "chip_offline_sale" {
		want = simcard.TC
	}
	a, err := x.Card.FirstAC(want, &terms)
	if err != nil {
		return err
	}
	var b []byte
	for _, v := range []struct {
		tag   uint32
		value []byte
	}{
		{0x9F26, a.AC[:]}, {0x9F27, []byte{a.CID}}, {0x9F10, a.IAD[:]}, {0x9F37, terms.UN[:]}, {0x9F36, a.ATC[:]}, {0x95, terms.TVR[:]},
		{0x9A, terms.Date[:]}, {0x9C, []byte{terms.Type}}, {0x9F02, terms.Amount[:]}, {0x5F2A, terms.Currency[:]}, {0x82, a.AIP[:]},
		{0x9F1A, terms.Country[:]}, {0x9F03, terms.Other[:]}, {0x9F33, []byte{0xE0, 0xF0, 0xC8}}, {0x9F34, cvm}, {0x9F35, []byte{0x22}},
	} {
		b = spec.AppendTLV(b, v.tag, v.value)
	}
	m.SetBytes(55, b)
	return nil
}

// bcd6 is n as twelve digits in BCD.
func bcd6(n int64) (b [6]byte) {
	for i := 5; i >= 0; i-- {
		b[i] = byte(n%10) | byte(n/10%10)<<4
		n /= 100
	}
	return b
}

// Reversal says how a reversal is asked for.
type Reversal struct {
	Of     *Slip    // nil: the last transaction that can be reversed
	MTI    spec.MTI // 0400 or 0420, 0401 or 0421 for a repeat; 0400 when zero
	Reason string   // DE 39; "" leaves it away
	Bare   bool     // without DE 2, 22 and 25
	Part   string   // DE 95, 42 characters
	Fault  *terminal.Fault
}

// Reverse takes a transaction back. Once the host answers, whatever it says,
// the transaction is not pending any more.
func (t *Terminal) Reverse(ctx context.Context, r Reversal) (*Answer, error) {
	s := r.Of
	if s == nil {
		s = t.last
	}
	if s == nil {
		return nil, fmt.Errorf("terminal %s: there is nothing to reverse", t.cfg.TID)
	}
	k := kinds[s.Kind]
	m := &spec.Message{}
	if r.MTI == 0 {
		r.MTI = 0x0400
	}
	m.Reset(t.cfg.Dialect, r.MTI)
	m.Set(3, k.code)
	m.SetInt(4, s.Amount.Fen())
	t.stamp(m)
	if !r.Bare {
		t.put(m, 2, s.number)
		t.put(m, 22, s.entry)
		m.Set(25, k.condition)
	}
	t.put(m, 38, s.AuthCode)
	t.put(m, 39, r.Reason)
	m.Set(41, t.cfg.TID)
	m.Set(42, t.cfg.MID)
	m.Set(49, money.CurrencyNumeric)
	m.SetText(90, s.original90())
	t.put(m, 95, r.Part)
	a, err := t.exchange(ctx, m, r.Fault)
	if err != nil {
		return a, err
	}
	if s == t.last {
		t.pending = false
	}
	if counted := s.Code == "00" || s.Code == "10" || s.Code == "11"; counted && a.Code == "00" {
		t.count(s.Kind, s.Amount, 1, &t.totals.DebitBack, &t.totals.CreditBack)
		s.Code = ""
	}
	return a, nil
}

// Reconciled is a host's answer to totals.
type Reconciled struct {
	Said     Totals
	Balanced bool // DE 66 is 1
	Debit    spec.Tally
	Credit   spec.Tally // the host's
}

// Reconcile tells the totals (0500) and begins anew.
func (t *Terminal) Reconcile(ctx context.Context) (*Reconciled, error) {
	m := &spec.Message{}
	m.Reset(t.cfg.Dialect, 0x0500)
	t.stamp(m)
	m.Set(41, t.cfg.TID)
	m.Set(42, t.cfg.MID)
	said := t.totals
	for n, v := range map[int]int64{74: int64(said.Credit.Count), 75: int64(said.CreditBack.Count), 76: int64(said.Debit.Count), 77: int64(said.DebitBack.Count),
		86: said.Credit.Fen, 87: said.CreditBack.Fen, 88: said.Debit.Fen, 89: said.DebitBack.Fen} {
		m.SetInt(n, v)
	}
	a, err := t.exchange(ctx, m, nil)
	if err != nil {
		return nil, err
	}
	if a.Code != "00" {
		return nil, &terminal.Refusal{TID: t.cfg.TID, What: "reconciliation", Code: a.Code}
	}
	t.totals = Totals{}
	of := func(n int) int64 { v, _ := a.Message.Int(n); return v }
	return &Reconciled{Said: said, Balanced: a.Message.Text(66) == "1",
		Debit: spec.Tally{Count: int(of(76)), Fen: of(88)}, Credit: spec.Tally{Count: int(of(74)), Fen: of(86)}}, nil
}

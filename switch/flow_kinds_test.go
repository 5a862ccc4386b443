package switching_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	"acquirer/spec/jbig"
)

// transaction is the verb of every kind of transaction, which is its name:
//
//	preauth T5 100.00 chip north:0 pin as room
//	completion T5 110.00 of room
//
// amount, entry, card and what else it takes stand in any order. "as lunch"
// gives it a name, "of lunch" follows it.
func (s *storyteller) transaction(ctx context.Context, kind terminal.Kind, words []string) []string {
	term := s.terminal(words[0], nil)
	x, name := terminal.Transaction{Kind: kind}, ""
	for i := 1; i < len(words); i++ {
		w := words[i]
		switch w {
		case "of":
			i++
			slip := s.slip(words[i])
			x.Original = &slip
			continue
		case "as":
			i++
			name = words[i]
			continue
		}
		if err := s.detail(&x, w); err != nil {
			s.t.Fatalf("%q: %v", strings.Join(words, " "), err)
		}
	}
	if x.Original != nil && x.Amount == 0 && kind.NeedsAmount() && x.Tip == 0 {
		x.Amount = x.Original.Due()
	}
	res, err := term.Transact(ctx, x)
	if name != "" {
		s.names[name] = named{term, term.State().STAN}
		if res.STAN != 0 {
			s.names[name] = named{term, res.STAN}
		}
	}
	if err != nil && res.Body == nil {
		return []string{outcome(err)}
	}
	if res.Code == terminal.CardRefused {
		return []string{"the card declined"}
	}
	seen := s.answer(&res, err)
	if res.Repeated != nil {
		seen = append(seen, "again: "+s.answer(res.Repeated, nil)[0])
	}
	return seen
}

// named is a transaction with a name.
type named struct {
	term *terminal.Terminal
	stan int
}

// slip finds a transaction by its name.
func (s *storyteller) slip(name string) terminal.Slip {
	n, ok := s.names[name]
	if !ok {
		s.t.Fatalf("nothing is called %q", name)
	}
	slip, ok := n.term.Slip(n.stan)
	if !ok {
		if slip, ok = s.closed[name]; !ok {
			s.t.Fatalf("the terminal does not know of %q any more", name)
		}
	}
	return slip
}

// detail reads one word of a transaction.
func (s *storyteller) detail(x *terminal.Transaction, w string) error {
	key, value, _ := strings.Cut(w, "=")
	if a, err := money.Parse(w); err == nil {
		x.Amount = a
		return nil
	}
	if e, err := terminal.ParseEntry(w); err == nil {
		x.Entry = e
		return nil
	}
	switch key {
	case "pin":
		if x.Card == nil {
			return fmt.Errorf("pin stands behind the card")
		}
		x.PIN = x.Card.PIN
	case "tip":
		a, err := money.Parse(value)
		x.Tip = a
		return err
	case "auth":
		x.AuthCode = value
	case "code":
		x.PayCode = s.payCode(value)
	case "text":
		x.Text = value
	case "partial":
		x.Partial = true
	case "add-on":
		x.AddOn = true
	case "later":
		x.Later = true
	default:
		if strings.Contains(w, ":") && !strings.Contains(w, "=") {
			x.Card = s.card(w)
			return nil
		}
		sale := terminal.Sale{Card: x.Card}
		if err := fault(&sale, w); err != nil {
			return err
		}
		x.Fault = sale.Fault
		if sale.PIN != "" {
			x.PIN = sale.PIN
		}
	}
	return nil
}

// payCode makes wechat:0, alipay:3, ... or takes digits as they are.
func (s *storyteller) payCode(name string) string {
	wallet, n, ok := strings.Cut(name, ":")
	if !ok {
		return name
	}
	i, err := strconv.Atoi(n)
	must(s.t, err)
	return terminal.PayCode(wallet, i)
}

// batches are the verbs of the end of the day at a terminal.
func (s *storyteller) batches(ctx context.Context, verb string, words []string) []string {
	term := s.terminal(words[0], nil)
	switch verb {
	case "settle": // T5
		for name, n := range s.names {
			if slip, ok := n.term.Slip(n.stan); ok && n.term == term {
				s.closed[name] = slip
			}
		}
		r, err := term.Settle(ctx)
		if err != nil {
			return []string{outcome(err)}
		}
		side := func(t spec.SideTotals) string {
			return fmt.Sprintf("debit %s in %d, credit %s in %d", money.Amount(t.Debit.Fen), t.Debit.Count, money.Amount(t.Credit.Fen), t.Credit.Count)
		}
		flags := [...]string{"not compared", "balanced", "not balanced", "error"}
		return []string{
			fmt.Sprintf("batch %d: domestic %s: %s", r.Batch, side(r.Totals.Domestic), flags[r.Domestic]),
			fmt.Sprintf("foreign %s: %s", side(r.Totals.Foreign), flags[r.Foreign]),
			fmt.Sprintf("uploaded %d, next batch %d", r.Uploaded, r.Next),
		}
	case "forget": // T5: loses its pending reversal, as terminals in the field do

		state := term.State()
		state.Pending = nil
		must(s.t, term.Close())
		delete(s.terminals, words[0])
		c := s.profiles[words[0]]
		c.State = state
		s.profiles[words[0]] = c
		return []string{outcome(s.terminal(words[0], nil).SignIn(ctx))}
	case "takeback": // T5 ghost: the house reverses it and the terminal does not know
		id, err := strconv.ParseInt(s.slip(words[1]).RRN, 36, 64)
		must(s.t, err)
		r, err := s.street.journal.ReverseByID(ctx, id, journal.WhyUndelivered, time.Now())
		must(s.t, err)
		return []string{r.Effect.String()}
	case "deliver": // T5
		return []string{outcome(term.Deliver(ctx)) + ", waiting " + fmt.Sprint(term.Waiting())}
	case "sign": // T5 2 [torn]
		image := jbig.Encode(autograph(), jbig.Options{TwoLine: true, Typical: true, Lines: 128})
		if len(words) > 2 && words[2] == "torn" {
			image = image[:len(image)/2]
		}
		_, err := term.Sign(ctx, s.slip(words[1]), image)
		return []string{outcome(err)}
	case "signature": // T5 2: what is kept
		slip := s.slip(words[1])
		found, err := s.street.journal.ByRRN(ctx, slip.RRN, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		must(s.t, err)
		if len(found) != 1 {
			return []string{"no transaction"}
		}
		b, err := s.street.sw.Signature(ctx, found[0].ID)
		if err != nil {
			return []string{"none"}
		}
		picture, err := jbig.Decode(b)
		must(s.t, err)
		return []string{fmt.Sprintf("a picture of %v", picture.Bounds().Size())}
	case "tmk": // T5
		return []string{outcome(term.DownloadTMK(ctx))}
	case "batch": // T5: what the house has of it
		t, ok := s.street.registry.Terminal([]byte(term.TID()))
		if !ok {
			return []string{"not registered"}
		}
		return []string{fmt.Sprintf("batch %d", t.Batch)}
	case "breaks":
		all, err := s.street.journal.Breaks(ctx, 50)
		must(s.t, err)
		var out []string
		for _, u := range all {
			out = append(out, fmt.Sprintf("trace number %d, %s: %s", u.STAN, u.Amount, u.What))
		}
		if out == nil {
			out = []string{"none"}
		}
		return out
	case "settlings":
		all, err := s.street.journal.Settlings(ctx, calendar.BusinessDate(time.Now(), s.street.config.CutOff))
		must(s.t, err)
		var out []string
		for _, st := range all {
			out = append(out, fmt.Sprintf("batch %d, uploaded %d, ended %v", st.Batch, st.Uploaded, !st.Ended.IsZero()))
		}
		return out
	}
	return nil
}

// profile sets up how a terminal speaks, for the house and for itself:
//
//	profile T7 mac=x919 keys=5 track=whole pin=no-pan batch=lead signature unlinked=100.00 tmk=420
func (s *storyteller) profile(ctx context.Context, name string, words []string) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "T"))
	must(s.t, err)
	tid, _ := simcard.SeedTerminal(n - 1)
	known, ok := s.street.registry.Terminal([]byte(tid))
	if !ok {
		s.t.Fatalf("no terminal %s", tid)
	}
	t, c := *known, terminal.Config{}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "mac":
			t.Profile.MAC, c.Profile.MAC = value, terminal.MACAlg(value)
		case "shape":
			t.Profile.Shape = value
		case "keys":
			set, err := strconv.Atoi(value)
			must(s.t, err)
			t.Profile.KeySet, c.Profile.KeySet = set, set
			if set == 5 {
				t.TMK = string(formKeyOf(s.t, s.street.hsm, hsm.UseTMK, hsm.SM4, simcard.TestTMK(tid)))
			}
		case "track":
			t.Profile.Track, c.Profile.Track = value, terminal.TrackScheme(value)
		case "pin":
			c.Profile.PIN = terminal.PINStyle(value)
		case "batch":
			t.Profile.Batch = value
		case "place":
			c.Profile.Device.Place = value
		case "serial":
			c.Profile.Device.Serial = value
		case "version":
			c.Profile.Device.Version = value
		case "signature":
			t.Profile.Signature = true
		case "unlinked":
			t.Profile.Unlinked, err = money.Parse(value)
			must(s.t, err)
		case "tmk":
			t.Profile.Delivery = value
			if c.Profile.Download = value; value == "003" {
				c.Profile.Download = "99"
			}
			c.TTK = simcard.TestKey("TTK " + tid)
			t.TTK = string(formKeyOf(s.t, s.street.hsm, hsm.UseTTK, hsm.TDES16, c.TTK))
		default:
			s.t.Fatalf("a profile has no %q", w)
		}
	}
	must(s.t, s.street.registry.Put(ctx, nil, []merchant.Terminal{t}))
	s.profiles[name] = c
}

// walletBooks are the orders of a wallet.
func (s *storyteller) walletBooks(name string) []string {
	var out []string
	for _, o := range s.street.wallets.Orders() {
		if o.Wallet == name {
			out = append(out, fmt.Sprintf("%s %s, refunded %s", o.Amount, o.State, o.Refunded))
		}
	}
	if out == nil {
		out = []string{"nothing"}
	}
	return out
}

// cases are what the house has raised for people, by wallet and amount.
func (s *storyteller) cases() []string {
	s.street.mu.Lock()
	defer s.street.mu.Unlock()
	var out []string
	for _, c := range s.street.cases {
		out = append(out, fmt.Sprintf("%s at %s: %s", c.Kind, c.Wallet, c.Amount))
	}
	if out == nil {
		return []string{"none"}
	}
	slices.Sort(out)
	return out
}

// raw sends a message of given fields: DE 41, 42, 11, 49 and 64 are the
// terminal's own unless they are given; "64=" leaves the MAC away.
func (s *storyteller) raw(ctx context.Context, words []string) []string {
	term := s.terminal(words[0], nil)
	mti, err := strconv.ParseUint(words[1], 16, 16)
	must(s.t, err)
	m := &spec.Message{}
	m.Reset(spec.UnionPayPOS, spec.MTI(mti))
	_, mid := simcard.SeedTerminal(0)
	fields := map[int]string{41: term.TID(), 42: mid, 11: fmt.Sprintf("%06d", term.NextSTAN()), 49: "156"}
	if t, ok := s.street.registry.Terminal([]byte(term.TID())); ok {
		fields[42] = t.MID
	}
	signed := mti != 0x0800 && mti != 0x0820 && mti != 0x0500 && mti != 0x0320
	for _, w := range words[2:] {
		n, v, ok := strings.Cut(w, "=")
		field, err := strconv.Atoi(n)
		if must(s.t, err); !ok {
			s.t.Fatalf("raw: %q is no field", w)
		}
		if strings.Contains(v, ":") && field == 2 {
			v = s.card(v).Number
		}
		if field == 64 {
			signed = v != ""
			continue
		}
		fields[field] = v
	}
	for n := 2; n <= 63; n++ {
		if v := fields[n]; v != "" {
			m.Set(n, v)
		}
	}
	if signed {
		m.SetBytes(64, make([]byte, 8))
	}
	must(s.t, m.Err())
	res, err := term.Exchange(ctx, m)
	return s.answer(&res, err)
}

// autograph is a small signature.
func autograph() *jbig.Bitmap {
	b := jbig.New(128, 64)
	for i := range 100 {
		b.SetBlack(14+i, 32+(i*i/40)%20-10, true)
	}
	return b
}

// next orders what an issuer does with the next messages of a kind:
//
//	next north void silent
func (s *storyteller) next(words []string) {
	var storm issuer.Storm
	o := issuer.Order{Kind: issuer.Kind(words[1]), Count: 1}
	if storm.UnmarshalText([]byte(words[2])) == nil {
		o.Storm = storm
	} else {
		o.Storm, o.Code = issuer.Decline, words[2]
	}
	must(s.t, s.street.issuers[words[0]].Next(o))
}

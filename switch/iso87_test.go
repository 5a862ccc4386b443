package switching_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/iso87"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	switching "acquirer/switch"
)

func dialect(t testing.TB, name string) *spec.Dialect {
	t.Helper()
	d, err := spec.Load(name)
	must(t, err)
	return d
}

// signedOn is the i-th terminal, speaking d, with working keys.
func (s *street) signedOn(i int, d *spec.Dialect, change ...func(*iso87.Config)) *iso87.Terminal {
	s.t.Helper()
	term := s.iso87Terminal(i, d, s.listenDialect(d), change...)
	must(s.t, term.ExchangeKeys(context.Background()))
	return term
}

// fact is what a transaction is to everybody behind the switch.
type fact struct {
	kind       journal.Kind
	mti        uint16
	processing int32
	amount     money.Amount
	currency   int32
	channel    journal.Channel
	issuer     string
	state      journal.State
}

func (s *street) facts(tid string) (all []fact) {
	s.t.Helper()
	entries, err := s.journal.Last(context.Background(), 1000)
	must(s.t, err)
	for _, e := range slices.Backward(entries) {
		if e.Terminal == tid {
			all = append(all, fact{e.Kind, e.MTI, e.ProcessingCode, e.Amount, e.Currency, e.Channel, e.Issuer, e.State()})
		}
	}
	return all
}

// TestDialectsLeaveTheSameFacts does the same day at terminals of three
// dialects: journal and issuers cannot tell which terminal spoke what.
func TestDialectsLeaveTheSameFacts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStreet(t)
	cards := func(n int) (chip *simcard.Card, stripe *simcard.Card) {
		stripe, err := simcard.New(pan(t, "east", 700+n))
		must(t, err)
		return chipCard(t, "north", 700+10*n), stripe
	}

	pos := s.terminal(4, func(c *terminal.Config) { c.KeepSlips = true })
	must(t, pos.SignIn(ctx))
	chip, stripe := cards(0)
	do := func(x terminal.Transaction) *terminal.Slip {
		t.Helper()
		res, err := pos.Transact(ctx, x)
		must(t, err)
		slip, _ := pos.Slip(res.STAN)
		return &slip
	}
	sale := do(terminal.Transaction{Kind: terminal.KindSale, Amount: 8800, Card: chip, PIN: chip.PIN})
	do(terminal.Transaction{Kind: terminal.KindVoid, Amount: 8800, Original: sale})
	sale = do(terminal.Transaction{Kind: terminal.KindSale, Amount: 1250, Card: stripe, Entry: terminal.Keyed})
	do(terminal.Transaction{Kind: terminal.KindRefund, Amount: 400, Card: stripe, Entry: terminal.Keyed, Original: sale})
	do(terminal.Transaction{Kind: terminal.KindBalance, Card: chip, PIN: chip.PIN})
	hold := do(terminal.Transaction{Kind: terminal.KindPreauth, Amount: 50000, Card: chip, PIN: chip.PIN})
	bill := do(terminal.Transaction{Kind: terminal.KindCompletion, Amount: 43210, Original: hold})
	do(terminal.Transaction{Kind: terminal.KindCompletionVoid, Amount: 43210, Original: bill})
	hold = do(terminal.Transaction{Kind: terminal.KindPreauth, Amount: 600, Card: chip, PIN: chip.PIN})
	do(terminal.Transaction{Kind: terminal.KindPreauthVoid, Amount: 600, Original: hold})
	do(terminal.Transaction{Kind: terminal.KindOfflineSale, Amount: 3000, Card: stripe, Entry: terminal.Keyed, AuthCode: "123456"})
	do(terminal.Transaction{Kind: terminal.KindSale, Amount: 700, Card: chip, PIN: chip.PIN})
	_, err := pos.Reverse(ctx, terminal.Reversal{Reason: terminal.ReasonTimeout})
	must(t, err)
	s.settled()
	want := s.facts(pos.TID())

	for n, name := range []string{"iso87-ascii", "iso87-bcd"} {
		term := s.signedOn(5+n, dialect(t, name))
		chip, stripe := cards(1 + n)
		do := func(x iso87.Transaction) *iso87.Slip {
			t.Helper()
			a, slip, err := term.Transact(ctx, x)
			must(t, err)
			if !a.Approved() {
				t.Errorf("%s: %s answered %s", name, x.Kind, a.Code)
			}
			return slip
		}
		sale := do(iso87.Transaction{Kind: "sale", Amount: 8800, Card: chip, PIN: chip.PIN})
		do(iso87.Transaction{Kind: "void", Amount: 8800, Original: sale})
		sale = do(iso87.Transaction{Kind: "sale", Amount: 1250, Card: stripe, Entry: terminal.Keyed})
		do(iso87.Transaction{Kind: "refund", Amount: 400, Card: stripe, Entry: terminal.Keyed, Original: sale})
		do(iso87.Transaction{Kind: "balance", Card: chip, PIN: chip.PIN})
		hold := do(iso87.Transaction{Kind: "preauth", Amount: 50000, Card: chip, PIN: chip.PIN})
		bill := do(iso87.Transaction{Kind: "completion", Amount: 43210, Original: hold})
		do(iso87.Transaction{Kind: "completion_void", Amount: 43210, Original: bill})
		hold = do(iso87.Transaction{Kind: "preauth", Amount: 600, Card: chip, PIN: chip.PIN})
		do(iso87.Transaction{Kind: "preauth_void", Amount: 600, Original: hold})
		do(iso87.Transaction{Kind: "offline_sale", Amount: 3000, Card: stripe, Entry: terminal.Keyed, AuthCode: "123456"})
		do(iso87.Transaction{Kind: "sale", Amount: 700, Card: chip, PIN: chip.PIN})
		if a, err := term.Reverse(ctx, iso87.Reversal{MTI: 0x0420}); err != nil || a.Code != "00" {
			t.Errorf("%s: reversal answered %+v, %v", name, a, err)
		}
		s.settled()
		got := s.facts(term.TID())
		for i := range max(len(want), len(got)) {
			if i >= len(want) || i >= len(got) || want[i] != got[i] {
				t.Errorf("%s: transaction %d is not UnionPay's:\n%+v\n%+v", name, i, got, want)
				break
			}
		}
	}
	s.quiet()
	s.lawful()
}

// another is iso87-ascii with other framing and encodings, as an operator's
// file would have it.
func another(t testing.TB, more ...string) (*spec.Dialect, error) {
	t.Helper()
	text := string(dialect(t, "iso87-ascii").File())
	pairs := append([]string{`"iso87-ascii"`, `"harbour"`, `"bitmap": "binary"`, `"bitmap": "hex"`,
		`{"length_bytes": 2, "length_encoding": "binary", "tpdu": false, "header": 0}`, `{"length_bytes": 4, "length_encoding": "ascii", "tpdu": true, "header": 3}`,
		`{"alg": "x919", "fields": [64, 128]}`, `{"alg": "cmac", "fields": [128]}`}, more...)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the dialect file has no %s", pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return spec.ReadDialect("harbour.json", []byte(text))
}

// TestDialectOfAnOperator serves a dialect that only a file has.
func TestDialectOfAnOperator(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStreet(t)
	d, err := another(t)
	must(t, err)
	must(t, switching.Servable(d))
	term := s.signedOn(4, d)
	c := chipCard(t, "north", 800)
	a, slip, err := term.Transact(ctx, iso87.Transaction{Kind: "sale", Amount: money.Yuan(3), Card: c, PIN: c.PIN})
	must(t, err)
	if !a.Approved() || !a.Message.Has(128) || a.Message.Has(64) {
		t.Errorf("a sale was answered %s, MAC in 64 %v, in 128 %v", a.Code, a.Message.Has(64), a.Message.Has(128))
	}
	// Sent again as a repeat, it is answered from the journal.
	var m spec.Message
	must(t, d.Parse(&m, d.FrameBody(term.LastFrame())))
	again := clone(&m)
	again.SetMTI(0x0201)
	if b, err := term.Exchange(ctx, again); err != nil || b.Message.MTI() != 0x0210 || b.RRN != a.RRN || b.AuthCode != a.AuthCode {
		t.Errorf("a repeat was answered %+v, %v", b, err)
	}
	// An original of another date is another transaction, though the trace
	// number is the same: numbers may begin anew every day.
	late := *slip
	copy(late.Sent[:], time.Now().AddDate(0, 0, -3).Format("0102"))
	if b, err := term.Reverse(ctx, iso87.Reversal{Of: &late}); err != nil || b.Code != "25" {
		t.Errorf("the reversal of three days ago was answered %q, %v", b.Code, err)
	}
	if got := s.facts(term.TID())[0].state; got != journal.StateApproved {
		t.Errorf("the sale is %s", got)
	}
	late.Sent = [10]byte{} // nobody says when
	if b, err := term.Reverse(ctx, iso87.Reversal{Of: &late, MTI: 0x0421}); err != nil || b.Code != "00" {
		t.Errorf("a reversal without a date was answered %q, %v", b.Code, err)
	}
	s.quiet()
	s.lawful()
}

// TestTraceNumbersComeAgain: without batches a trace number may come again the
// next day, under keys that are older. What says that it was sent now is a sale
// of its own; a recording of yesterday is the repeat that it is.
func TestTraceNumbersComeAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	inTwelveHours := time.Now().In(calendar.Beijing).Add(12 * time.Hour)
	s := newStreet(t, withConfig(func(c *switching.Config) {
		c.CutOff = time.Duration(inTwelveHours.Hour())*time.Hour + time.Minute // far from now, whenever that is
	}))
	d := dialect(t, "iso87-bcd")
	addr := s.listenDialect(d)
	term := s.iso87Terminal(4, d, "", func(c *iso87.Config) {
		c.Dial = func(ctx context.Context) (net.Conn, error) { return terminal.DialTCP(addr, nil)(ctx) }
	})
	must(t, term.ExchangeKeys(ctx))
	c := chipCard(t, "north", 990)
	sell := func(change func(*spec.Message)) *iso87.Answer {
		t.Helper()
		a, _, err := term.Transact(ctx, iso87.Transaction{Kind: "sale", Amount: money.Yuan(3), Card: c, Entry: terminal.Keyed, Fault: &terminal.Fault{Change: change}})
		must(t, err)
		if a.Code != "00" {
			t.Fatalf("a sale was answered %s", a.Code)
		}
		return a
	}
	first := sell(func(m *spec.Message) { m.Set(7, time.Now().UTC().AddDate(0, 0, -1).Format("0102150405")) })
	recording := term.LastFrame()
	s.change("update txn set day = $2 where id = $1", s.journalOf(term.TID())[0].ID, s.journalOf(term.TID())[0].Day.AddDays(-1))
	s.change("update merchant_terminal set signed_in = signed_in - $2 where tid = $1", term.TID(), int64(24*time.Hour/time.Microsecond))
	s.reopen()
	must(t, term.Close())
	addr = s.listenDialect(d)
	if a, err := term.Resend(ctx, recording); err != nil || a.RRN != first.RRN || a.Code != "00" {
		t.Errorf("the recording was answered %q with %s, want %s: %v", a.Code, a.RRN, first.RRN, err)
	}
	if a := sell(func(m *spec.Message) { m.SetInt(11, int64(first.STAN)) }); a.RRN == first.RRN {
		t.Error("a sale of today was taken for yesterday's")
	}
	s.quiet()
	s.lawful()
	if books := s.issuers["north"].Books(); len(books) != 2 {
		t.Errorf("the issuer saw %d sales", len(books))
	}
}

// TestUnionPayInAnotherFrame serves a file that says its terminals are
// UnionPay's: the same messages behind a plain length, TPDU and header.
func TestUnionPayInAnotherFrame(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	text := strings.NewReplacer(`"name": "unionpay-pos"`, `"name": "quay"`, `"framing": "unionpay-pos"`,
		`"framing": {"length_bytes": 2, "length_encoding": "binary", "tpdu": true, "header": 6}`).Replace(string(spec.UnionPayPOS.File()))
	d, err := spec.ReadDialect("quay.json", []byte(text))
	must(t, err)
	must(t, switching.Servable(d))
	addr := s.listenDialect(d)
	term := s.terminal(4, func(c *terminal.Config) { c.Dial = terminal.DialTCP(addr, nil) })
	must(t, term.SignIn(context.Background()))
	c := chipCard(t, "north", 980)
	if res, err := term.Sale(context.Background(), terminal.Sale{Amount: money.Yuan(3), Card: c, PIN: c.PIN}); err != nil || res.Code != "00" {
		t.Errorf("a sale was answered %q, %v", res.Code, err)
	}
	s.balanced()
	var short strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, `{"field": 44,`) {
			short.WriteString(line)
		}
	}
	d, err = spec.ReadDialect("quay.json", []byte(short.String()))
	must(t, err)
	if err := switching.Servable(d); err == nil || err.Error() != "dialect quay: DE 44 is not declared, and answers to UnionPay's terminals have it" {
		t.Errorf("without DE 44: %v", err)
	}
}

// TestServable names what keeps a dialect from being served.
func TestServable(t *testing.T) {
	for _, name := range []string{"unionpay-pos", "iso87-ascii", "iso87-bcd"} {
		if err := switching.Servable(dialect(t, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if names := switching.Unsigned(dialect(t, name)); name != "unionpay-pos" && names != nil {
			t.Errorf("%s: unsigned %v", name, names)
		}
	}
	if err := switching.Servable(spec.CUPS); err == nil || !strings.Contains(err.Error(), "between institutions") {
		t.Errorf("cups: %v", err)
	}
	const signOn = `{"message": "sign_in", "mti": "0800", "when": "DE 70 = 001"`
	for _, c := range []struct {
		change []string
		want   string
	}{
		{[]string{`"message": "sign_off", "mti": "0800"`, `"message": "tmk_download", "mti": "0800"`}, "message tmk_download is served to UnionPay's terminals only"},
		{[]string{`  "keys": {"field": 48},` + "\n", ""}, "message key_exchange: keys does not say which field carries them"},
		{[]string{`{"alg": "cmac", "fields": [128]}`, `{"alg": "cmac", "fields": [64]}`}, "message reversal: DE 90 follows DE 64, so its MAC must be in DE 128"},
		{[]string{`{"field": 12, "name": "Time, local transaction", "kind": "n", "length": 6}`, `{"field": 12, "name": "Local time", "kind": "n", "length": 12}`},
			"an answer cannot be written: harbour: DE 12 (Local time): length 6, want 12"},
	} {
		d, err := another(t, c.change...)
		must(t, err)
		if err := switching.Servable(d); err == nil || !strings.Contains(err.Error(), "dialect harbour: "+c.want) {
			t.Errorf("%v: %v", c.change, err)
		}
	}
	d, err := another(t, `"message": "sale", "mti": "0200", "processing": "00", "condition": "00", "mac": true`, `"message": "sale", "mti": "0200", "processing": "00", "condition": "00"`,
		`"message": "reversal", "mti": "0420", "mac": true`, `"message": "reversal", "mti": "0420"`)
	must(t, err)
	if got := switching.Unsigned(d); !slices.Equal(got, []string{"sale", "reversal"}) {
		t.Errorf("unsigned: %v", got)
	}
	small, err := spec.ReadDialect("small.json", []byte(`{"name": "small", "mti": "ascii", "bitmap": "hex", "numeric": "ascii", "track": "ascii", "prefixes": "ascii",
		"framing": {"length_bytes": 2, "length_encoding": "binary"}, "fields": [{"field": 3, "name": "Code", "kind": "n", "length": 6}],
		"presence": [{"message": "void", "mti": "0200"}, {"message": "reversal", "mti": "0400"}]}`))
	must(t, err)
	err = switching.Servable(small)
	for _, want := range []string{"DE 4 is not declared", "DE 11 is not declared", "DE 39 is not declared", "DE 41 is not declared",
		"message void: neither DE 90 nor DE 37", "message reversal: DE 90 is not declared"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a dialect of one field: %v, want %q", err, want)
		}
	}
	if !strings.Contains(string(d.File()), signOn) {
		t.Error("the dialect has no sign-on")
	}
}

// TestUnsignedDialect sells without MAC where the dialect says so, and its
// answers carry none.
func TestUnsignedDialect(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d, err := another(t, `"mac": true`, `"mac": false`)
	must(t, err)
	must(t, switching.Servable(d))
	term := s.iso87Terminal(4, d, s.listenDialect(d))
	must(t, term.Echo(context.Background()))
	c := chipCard(t, "north", 900)
	for pin, want := range map[string]string{"": "00", c.PIN: "00"} {
		if pin != "" {
			must(t, term.ExchangeKeys(context.Background()))
		}
		a, _, err := term.Transact(context.Background(), iso87.Transaction{Kind: "sale", Amount: money.Yuan(3), Card: c, PIN: pin})
		must(t, err)
		if a.Code != want || a.Message.Has(128) || a.Message.Has(64) {
			t.Errorf("a sale with PIN %v was answered %s, MAC %v", pin != "", a.Code, a.Message.Has(128))
		}
	}
	s.quiet()
	s.lawful()
}

// TestOtherManagement: what has no row, and what comes without a terminal.
func TestOtherManagement(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStreet(t)
	d := dialect(t, "iso87-bcd")
	term := s.signedOn(4, d)
	tid, mid := simcard.SeedTerminal(4)
	build := func(mti spec.MTI, fields map[int]string) *spec.Message {
		m := &spec.Message{}
		m.Reset(d, mti)
		for n, v := range fields {
			m.Set(n, v)
		}
		must(t, m.Err())
		return m
	}
	// Trying the line needs no terminal; nothing else goes without.
	for code, want := range map[string]string{"301": "00", "001": "97", "101": "97"} {
		a, err := term.Exchange(ctx, build(0x0800, map[int]string{11: "000900", 70: code}))
		must(t, err)
		if a.Code != want || a.Message.MTI() != 0x0810 || a.Message.Text(70) != code {
			t.Errorf("DE 70 %s without a terminal: %s %s, DE 70 %s", code, a.Message.MTI(), a.Code, a.Message.Text(70))
		}
	}
	for what, c := range map[string]struct {
		mti    spec.MTI
		fields map[int]string
		want   string
	}{
		"no such code":                {0x0800, map[int]string{11: "000901", 41: tid, 70: "777"}, "12"},
		"no code at all":              {0x0800, map[int]string{11: "000902", 41: tid}, "12"},
		"sign-on as advice":           {0x0820, map[int]string{11: "000903", 41: tid, 70: "001"}, "00"},
		"sign-on without DE 11":       {0x0800, map[int]string{41: tid, 70: "001"}, "30"},
		"another's merchant":          {0x0800, map[int]string{11: "000904", 41: tid, 42: "898110054119999", 70: "101"}, "03"},
		"no such class":               {0x0600, map[int]string{11: "000905", 41: tid}, "12"},
		"upload of what is not there": {0x0320, map[int]string{3: "000000", 4: "000000000100", 11: "000906", 41: tid, 42: mid}, "00"},
	} {
		a, err := term.Exchange(ctx, build(c.mti, c.fields))
		must(t, err)
		if a.Code != c.want || a.Message.Has(64) || a.Message.Has(128) {
			t.Errorf("%s: answered %s, MAC %v", what, a.Code, a.Message.Has(64))
		}
	}
	breaks, err := s.journal.Breaks(ctx, 10)
	must(t, err)
	if len(breaks) != 1 || breaks[0].What != journal.NotHere || breaks[0].STAN != 906 {
		t.Errorf("breaks %+v", breaks)
	}
	// What a chip made of its issuer's scripts follows its sale.
	c := chipCard(t, "north", 950)
	_, slip, err := term.Transact(ctx, iso87.Transaction{Kind: "sale", Amount: money.Yuan(3), Card: c, PIN: c.PIN})
	must(t, err)
	script := build(0x0620, map[int]string{3: "000000", 11: "000910", 41: tid, 42: mid, 55: "DF310500000000AB",
		90: string(spec.DE90{MTI: slip.MTI, STAN: slip.STAN, Sent: slip.Sent}.AppendText(nil))})
	if a, err := term.Exchange(ctx, script); err != nil || a.Code != "00" || a.Message.MTI() != 0x0630 {
		t.Errorf("a script's result was answered %+v, %v", a, err)
	}
	s.quiet()
	if got := s.facts(tid); len(got) != 2 || got[1].kind != journal.ScriptResult || got[1].state != journal.StateApproved {
		t.Errorf("journaled %+v", got)
	}
	s.lawful()
}

// TestKeysOfAnotherMAC: a terminal that changed its MAC and has not exchanged
// keys since is told that its MAC is wrong, not that the house is broken.
func TestKeysOfAnotherMAC(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStreet(t)
	term := s.signedOn(4, dialect(t, "iso87-ascii"))
	c := chipCard(t, "north", 960)
	sell := func() string {
		t.Helper()
		a, _, err := term.Transact(ctx, iso87.Transaction{Kind: "sale", Amount: money.Yuan(3), Card: c, PIN: c.PIN})
		must(t, err)
		return a.Code
	}
	if code := sell(); code != "00" {
		t.Errorf("a sale was answered %s", code)
	}
	known, _ := s.registry.Terminal([]byte(term.TID()))
	changed := *known
	changed.Profile.MAC = merchant.MACCMAC
	must(t, s.registry.Put(ctx, nil, []merchant.Terminal{changed}))
	if code := sell(); code != "A0" {
		t.Errorf("a sale under the keys of another MAC was answered %s", code)
	}
	s.quiet()
	s.lawful()
}

// FuzzOtherTerminal is FuzzTerminal for another dialect: any bytes, or one
// message of a terminal of the house that is signed.
func FuzzOtherTerminal(f *testing.F) {
	s := newStreet(f, withTimeout(50*time.Millisecond))
	d := dialect(f, "iso87-ascii")
	addr := s.listenDialect(d)
	term := s.iso87Terminal(4, d, addr)
	must(f, term.ExchangeKeys(context.Background()))
	c := chipCard(f, "north", 970)
	var lunch *iso87.Slip
	for _, x := range []iso87.Transaction{
		{Kind: "sale", Amount: 500, Card: c, PIN: c.PIN}, {Kind: "sale", Amount: 500, Card: c, Entry: terminal.Stripe}, {Kind: "void"}, {Kind: "refund", Amount: 100, Card: c, Entry: terminal.Stripe},
		{Kind: "preauth", Amount: 500, Card: c, PIN: c.PIN}, {Kind: "offline_sale", Amount: 500, Card: c, Entry: terminal.Keyed, AuthCode: "123456"}, {Kind: "balance", Card: c, PIN: c.PIN},
	} {
		if x.Kind == "void" || x.Kind == "refund" {
			x.Original, x.Amount = lunch, lunch.Amount
		}
		_, slip, err := term.Transact(context.Background(), x)
		must(f, err)
		lunch = slip
		f.Add(byte(0), term.LastFrame())
		f.Add(byte(1), bytes.Clone(d.FrameBody(term.LastFrame())))
	}
	for _, do := range []func(context.Context) error{term.SignOn, term.Echo, func(ctx context.Context) error { _, err := term.Reverse(ctx, iso87.Reversal{}); return err },
		func(ctx context.Context) error { _, err := term.Reconcile(ctx); return err }} {
		must(f, do(context.Background()))
		f.Add(byte(1), bytes.Clone(d.FrameBody(term.LastFrame())))
	}
	f.Add(byte(0), []byte{0, 0})
	f.Add(byte(0), []byte{0xFF, 0xFF, 0})

	f.Fuzz(func(t *testing.T, mode byte, b []byte) {
		if len(b) > 20_000 {
			t.Skip("longer than a few frames")
		}
		sent := b
		if mode&1 != 0 {
			sent = adoptOther(term, b)
		}
		conn, err := net.Dial("tcp", addr)
		must(t, err)
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		if _, err := conn.Write(sent); err == nil {
			_ = conn.(*net.TCPConn).CloseWrite() // fails when the other side has hung up
		}
		heard, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v and neither an answer nor an end", patience)
		}
		house := street{t: t, metrics: s.metrics}
		if house.metric("acquirer_handler_panics_total") > 0 {
			t.Fatal("a handler panicked")
		}
		answeredOther(t, d, sent, heard)
	})
}

// adoptOther makes one message of b that term might have sent.
func adoptOther(term *iso87.Terminal, b []byte) []byte {
	d := term.Dialect()
	body := bytes.Clone(b[:min(len(b), 4000)])
	var m spec.Message
	_ = d.Parse(&m, body) // what can be read of it refers to body
	tid, mid := simcard.SeedTerminal(4)
	copy(m.Bytes(41), tid)
	copy(m.Bytes(42), mid)
	frame := binary.BigEndian.AppendUint16(nil, uint16(len(body)))
	frame = append(frame, body...)
	if len(body) >= 8 && m.Raw() != nil && m.Has(d.MACField(&m)) {
		_, _ = term.SignFrame(frame) // a double-length key signs anything
	}
	return frame
}

// answeredOther holds the answers against the requests in their order.
func answeredOther(t *testing.T, d *spec.Dialect, sent, heard []byte) {
	t.Helper()
	read := func(r io.Reader, f *spec.FrameReader) ([]byte, error) {
		if err := f.Wait(r); err != nil {
			return nil, err
		}
		n, err := f.Length(r, 4096)
		if err != nil {
			return nil, err
		}
		frame, err := f.Body(r, make([]byte, n))
		return frame.Body, err
	}
	in, out := bytes.NewReader(sent), bytes.NewReader(heard)
	asking, answering := d.Frames(), d.Frames()
	for {
		body, err := read(out, &answering)
		if err != nil {
			return // its end, or where a reset cut it off
		}
		var a, r spec.Message
		if err := d.Parse(&a, body); err != nil {
			t.Fatalf("an answer that cannot be read: %v\n%X", err, heard)
		}
		asked, err := read(in, &asking)
		if err != nil {
			t.Fatalf("an answer too many: %X", heard)
		}
		_ = d.Parse(&r, asked) // the part before an error is what an answer repeats
		if a.MTI() != r.MTI().Response() || len(a.Text(39)) != 2 {
			t.Fatalf("a %s was answered with a %s %q", r.MTI(), a.MTI(), a.Text(39))
		}
		for _, n := range []int{11, 41, 42} {
			if r.Has(n) && !bytes.Equal(a.Bytes(n), r.Bytes(n)) {
				t.Fatalf("DE %d of the answer is %q, the request's %q", n, a.Bytes(n), r.Bytes(n))
			}
		}
	}
}

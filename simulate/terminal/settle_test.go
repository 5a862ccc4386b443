package terminal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"acquirer/hsm/algo"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// aDay does one of every thing that a batch holds. The second of each pair of
// stripe sales is made foreign by its slip.
func aDay(t *testing.T, term *Terminal) {
	t.Helper()
	c := cardOf(t, 1, simcard.Good, true)
	do := func(x Transaction) Slip {
		t.Helper()
		x.Card = c
		res, err := term.Transact(t.Context(), x)
		if err != nil || !res.Approved() {
			t.Fatalf("%s: %+v, %v", x.Kind, res, err)
		}
		s, _ := term.LastSlip()
		return s
	}
	do(Transaction{Kind: KindSale, Amount: 1000}) // certificate
	stripe := do(Transaction{Kind: KindSale, Amount: 2000, Entry: Stripe})
	do(Transaction{Kind: KindTip, Original: &stripe, Tip: 300, Entry: Stripe})
	do(Transaction{Kind: KindSale, Amount: 4000, Entry: Stripe})
	term.state.Slips[len(term.state.Slips)-1].Scheme = "VIS" // no foreign card is issued here
	voided := do(Transaction{Kind: KindSale, Amount: 500, Entry: Stripe})
	do(Transaction{Kind: KindVoid, Amount: 500, Entry: Stripe, Original: &voided})
	auth := do(Transaction{Kind: KindPreauth, Amount: 7000, Entry: Stripe})
	do(Transaction{Kind: KindCompletionNotice, Amount: 6900, Entry: Stripe, Original: &auth})
	do(Transaction{Kind: KindOfflineSale, Amount: 800, Entry: Keyed, AuthCode: "T12345"})
	adjusted := do(Transaction{Kind: KindOfflineSale, Amount: 900, Entry: Keyed, AuthCode: "T12346"})
	do(Transaction{Kind: KindAdjust, Amount: 850, Entry: Keyed, Original: &adjusted})
	do(Transaction{Kind: KindChipOfflineSale, Amount: 60})
	do(Transaction{Kind: KindRefund, Amount: 700, Entry: Stripe, Original: theOriginal(c)})
	do(Transaction{Kind: KindQRSale, Amount: 90, PayCode: "134567890123456789"})
	bad := cardOf(t, 1, simcard.BadChip, true)
	res, err := term.Transact(t.Context(), Transaction{Kind: KindChipOfflineSale, Amount: 10, Card: bad})
	if err != nil || res.Code != CardRefused {
		t.Fatalf("an offline sale that the chip declines: %+v, %v", res, err)
	}
}

// The settlement dialogue for every pair of flags: what is uploaded, in which
// order, and how the batch ends (protocol.md 9).
func TestSettlement(t *testing.T) {
	domestic := []string{"34", "30", "30", "32", "36", "201:domestic", "25", "24"}
	for _, c := range []struct {
		flags   []spec.Balance
		uploads []string // 60.1 of a notice, 60.3 of the rest
		end     string
		count   string
	}{
		{[]spec.Balance{1, 1}, []string{"203", "204"}, "207", "0002"},
		{[]spec.Balance{2, 1}, slices.Concat(domestic, []string{"205", "206"}), "202", "0013"},
		{[]spec.Balance{1, 2}, []string{"201:foreign", "205", "206"}, "202", "0003"},
		{[]spec.Balance{2, 2}, slices.Concat([]string{"34", "30", "30", "32", "36", "201:both", "25", "24"}, []string{"205", "206"}), "202", "0014"},
	} {
		t.Run(fmt.Sprint(c.flags), func(t *testing.T) {
			h := newHost(t)
			h.flags = c.flags
			term := open(t, h, func(c *Config) { c.KeepSlips = true })
			aDay(t, term)
			r, err := term.Settle(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := spec.Totals{
				Domestic: spec.SideTotals{Debit: spec.Tally{Fen: 1000 + 2300 + 500 + 6900 + 800 + 850 + 60 + 90, Count: 8}, Credit: spec.Tally{Fen: 1200, Count: 2}},
				Foreign:  spec.SideTotals{Debit: spec.Tally{Fen: 4000, Count: 1}},
			}
			if r.Totals != want || r.Batch != 1 || r.Next != 2 || r.Date != "0315" || r.Domestic != c.flags[0] || r.Foreign != c.flags[1] {
				t.Errorf("%+v, want totals %+v", r, want)
			}
			settlement := h.requests(0x0500)[0]
			if got := fieldsOf(settlement); got != "11 41 42 48 49 60 63" || settlement.Text(60) != "00000001201" {
				t.Errorf("0500 carries %s, DE 60 %s", got, settlement.Text(60))
			}
			uploads := h.requests(0x0320)
			end := uploads[len(uploads)-1]
			if fieldsOf(end) != "11 41 42 48 60" || end.Text(60) != "00000001"+c.end || end.Text(48) != c.count {
				t.Errorf("batch end %s, DE 60 %s, DE 48 %s", fieldsOf(end), end.Text(60), end.Text(48))
			}
			var got []string
			for _, m := range uploads[:len(uploads)-1] {
				got = append(got, uploadName(t, m))
			}
			if !slices.Equal(got, c.uploads) {
				t.Errorf("uploads\n got %v\nwant %v", got, c.uploads)
			}
			if st := term.State(); len(st.Slips) != 0 || st.Batch != 2 || st.STAN != 0 || term.Pending() {
				t.Errorf("after it: %d slips, batch %d, trace number %d", len(st.Slips), st.Batch, st.STAN)
			}
			if _, err := term.Reverse(t.Context(), Reversal{}); err == nil {
				t.Error("a transaction of the closed batch was reversed")
			}
			if res, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 1, Card: cardOf(t, 0, simcard.Good, true)}); err != nil || res.STAN != 1 {
				t.Errorf("the first sale of the next batch: %+v, %v", res, err)
			}
		})
	}
}

// uploadName tells an upload by its code, after checking its fields.
func uploadName(t *testing.T, m *spec.Message) string {
	t.Helper()
	code := m.Text(60)[8:11]
	if code == "000" {
		if m.Has(52) || m.Has(26) || m.Has(64) || m.Has(22) && m.Text(22)[2] != '2' {
			t.Errorf("a notice with %s, DE 22 %s", fieldsOf(m), m.Text(22))
		}
		return m.Text(60)[:2]
	}
	if code != "201" {
		d, err := spec.ParseChipDetail(m.Bytes(62))
		if fieldsOf(m) != "2 4 11 22 23 41 42 55 60 62" || err != nil || (code == "204" || code == "206") != (d.Failure == spec.ChipRefused) {
			t.Errorf("chip upload %s: %s, %+v, %v", code, fieldsOf(m), d, err)
		}
		if cid, _ := spec.FindTLV(m.Bytes(55), 0x9F27); (d.Failure == spec.ChipGood) != bytes.Equal(cid, []byte{simcard.TC}) {
			t.Errorf("chip upload %s with 9F27 %X", code, cid)
		}
		return code
	}
	details, err := spec.ParseDetails(m.AppendText(nil, 48))
	if fieldsOf(m) != "11 41 42 48 60" || err != nil {
		t.Fatalf("batch upload: %s, %v", fieldsOf(m), err)
	}
	side := map[bool]string{false: "domestic", true: "foreign"}[details[0].Foreign]
	for _, d := range details {
		if (side == "foreign") != d.Foreign {
			return code + ":both"
		}
	}
	return code + ":" + side
}

// More than eight details take more than one upload; the host's own number for
// the next batch is taken.
func TestManyDetails(t *testing.T) {
	h := newHost(t)
	h.flags = []spec.Balance{2, 0}
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		if strings.HasSuffix(req.Text(60), "202") {
			ans.Set(60, "00000077202")
		}
		return nil
	}
	term := open(t, h, func(c *Config) { c.KeepSlips = true })
	c := cardOf(t, 0, simcard.Good, true)
	for range 19 {
		if _, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 100, Card: c, Entry: Stripe}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := term.Settle(t.Context())
	if err != nil || r.Uploaded != 19 || r.Next != 77 || r.Foreign != spec.Balanced {
		t.Fatalf("%+v, %v", r, err)
	}
	var sizes []string
	for _, m := range h.requests(0x0320) {
		sizes = append(sizes, m.Text(48)[:2])
	}
	if !slices.Equal(sizes, []string{"08", "08", "03", "00"}) {
		t.Errorf("uploads of %v", sizes)
	}
}

// What keeps a batch from being closed leaves it as it was.
func TestSettlementsThatFail(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(req, ans *spec.Message) []byte
		want  error
	}{
		{"flags in error", func(req, ans *spec.Message) []byte {
			if ans.MTI() == 0x0510 {
				ans.Set(48, strings.Repeat("0", 30)+"3"+strings.Repeat("0", 30)+"1")
			}
			return nil
		}, ErrBalance},
		{"not compared", func(_, ans *spec.Message) []byte {
			if ans.MTI() == 0x0510 {
				ans.Set(48, strings.Repeat("0", 62))
			}
			return nil
		}, ErrBalance},
		{"no totals", func(_, ans *spec.Message) []byte {
			if ans.MTI() == 0x0510 {
				ans.Unset(48)
			}
			return nil
		}, ErrFormat},
		{"settlement refused", func(_, ans *spec.Message) []byte {
			if ans.MTI() == 0x0510 {
				ans.Set(39, "97")
			}
			return nil
		}, &Refusal{}},
		{"batch end refused", func(_, ans *spec.Message) []byte {
			if ans.MTI() == 0x0330 {
				ans.Set(39, "96")
			}
			return nil
		}, &Refusal{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			term := open(t, h, func(c *Config) { c.KeepSlips = true })
			if _, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 100, Card: cardOf(t, 0, simcard.Good, true), Entry: Stripe}); err != nil {
				t.Fatal(err)
			}
			h.reply = func(_ *host, req, ans *spec.Message) []byte { return c.spoil(req, ans) }
			_, err := term.Settle(t.Context())
			var refused *Refusal
			if errors.As(c.want, new(*Refusal)) != errors.As(err, &refused) || refused == nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if st := term.State(); len(st.Slips) != 1 || st.Batch != 1 {
				t.Errorf("%d slips in batch %d", len(st.Slips), st.Batch)
			}
			h.reply = nil
			if r, err := term.Settle(t.Context()); err != nil || r.Next != 2 {
				t.Errorf("then: %+v, %v", r, err)
			}
		})
	}
	term := open(t, newHost(t), nil)
	if _, err := term.Settle(t.Context()); err == nil {
		t.Error("a terminal without slips settles")
	}
}

// A notice that is not answered, or sent later, goes behind the next
// transaction; 94 to a repeat is a success, to a first sending it is not.
func TestNoticesAreSentAgain(t *testing.T) {
	c := cardOf(t, 1, simcard.Good, true)
	for _, n := range []struct {
		name   string
		x      Transaction
		answer string
		status Status
	}{
		{"lost, then taken", Transaction{Fault: &Fault{DropAnswer: true}}, "00", Approved},
		{"lost, then known", Transaction{Fault: &Fault{DropAnswer: true}}, "94", Approved},
		{"later", Transaction{Later: true}, "00", Approved},
		{"later, and known", Transaction{Later: true}, "94", Declined},
		{"lost, then refused", Transaction{Fault: &Fault{DropAnswer: true}}, "14", Declined},
	} {
		t.Run(n.name, func(t *testing.T) {
			h := newHost(t)
			term := open(t, h, func(c *Config) { c.KeepSlips = true })
			n.x.Kind, n.x.Amount, n.x.Card, n.x.Entry, n.x.AuthCode = KindOfflineSale, 900, c, Keyed, "T12345"
			if _, err := term.Transact(t.Context(), n.x); (err == nil) != n.x.Later || term.Waiting() != 1 || term.Pending() {
				t.Fatalf("%v, %d wait", err, term.Waiting())
			}
			if s, _ := term.LastSlip(); !s.Waiting || s.Amount != 900 {
				t.Errorf("its slip: %+v", s)
			}
			h.reply = func(_ *host, req, ans *spec.Message) []byte {
				if req.MTI() == 0x0220 {
					ans.Set(39, n.answer)
				}
				return nil
			}
			res, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 100, Card: c, Entry: Stripe})
			if err != nil || !res.Approved() || term.Waiting() != 0 {
				t.Fatalf("%+v, %v, %d wait", res, err, term.Waiting())
			}
			var m spec.Message
			if err := spec.UnionPayPOS.Parse(&m, res.Body); err != nil || m.MTI() != 0x0210 {
				t.Errorf("the body is of %v, %v", m.MTI(), err)
			}
			types := h.types()
			if last := types[len(types)-2:]; !slices.Equal(last, []spec.MTI{0x0200, 0x0220}) {
				t.Errorf("the host saw %v", types)
			}
			sent := h.requests(0x0220)
			if first, last := sent[0], sent[len(sent)-1]; first.Text(11) != last.Text(11) || fieldsOf(first) != fieldsOf(last) {
				t.Errorf("sent %s %s, then %s %s", first.Text(11), fieldsOf(first), last.Text(11), fieldsOf(last))
			}
			rec, _ := term.cfg.Book.Get(Key{tid, 1, term.Slips()[0].STAN})
			if rec.Status != n.status || rec.Kind != KindOfflineSale {
				t.Errorf("the book says %+v", rec)
			}
			totals, err := term.Totals()
			if want := map[Status]int{Approved: 2, Declined: 1}[n.status]; err != nil || totals.Domestic.Debit.Count != want {
				t.Errorf("totals %+v, %v", totals, err)
			}
		})
	}
}

// A host that cannot read the MAC of a notice gets it again after a sign-in.
func TestNoticeWaitsForSignIn(t *testing.T) {
	h := newHost(t)
	term := open(t, h, func(c *Config) { c.KeepSlips = true })
	c := cardOf(t, 1, simcard.Good, true)
	first := true
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		if req.MTI() == 0x0220 && first {
			first = false
			ans.Set(39, "A0")
		}
		return nil
	}
	res, err := term.Transact(t.Context(), Transaction{Kind: KindOfflineSale, Amount: 1, Card: c, Entry: Keyed, AuthCode: "T12345"})
	if err != nil || res.Code != "A0" || term.Waiting() != 1 {
		t.Fatalf("%+v, %v, %d wait", res, err, term.Waiting())
	}
	if r, err := term.Settle(t.Context()); err != nil || r.Totals.Domestic.Debit.Count != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := h.types(); !slices.Equal(got, []spec.MTI{0x0800, 0x0220, 0x0800, 0x0220, 0x0500, 0x0320}) {
		t.Errorf("the host saw %v", got)
	}
}

// An adjustment that the host refuses leaves what it adjusted.
func TestRefusedAdjustment(t *testing.T) {
	h := newHost(t)
	term := open(t, h, func(c *Config) { c.KeepSlips = true })
	c := cardOf(t, 1, simcard.Good, true)
	if _, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 1000, Card: c, Entry: Stripe}); err != nil {
		t.Fatal(err)
	}
	sale, _ := term.LastSlip()
	codes := []string{"00", "57"}
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		if req.MTI() == 0x0220 {
			ans.Set(39, codes[0])
			codes = codes[1:]
		}
		return nil
	}
	for _, amount := range []money.Amount{1200, 5000} {
		if _, err := term.Transact(t.Context(), Transaction{Kind: KindAdjust, Amount: amount, Original: &sale}); err != nil {
			t.Fatal(err)
		}
	}
	if s, _ := term.Slip(sale.STAN); s.Due() != 1200 {
		t.Errorf("due %s", s.Due())
	}
	if totals, err := term.Totals(); err != nil || totals.Domestic.Debit != (spec.Tally{Fen: 1200, Count: 1}) {
		t.Errorf("%+v, %v", totals, err)
	}
}

// Scripts in an approval are run, and their result is told before the next
// transaction, with a trace number of its own (protocol.md 3.8).
func TestScriptResults(t *testing.T) {
	h := newHost(t)
	term := open(t, h, func(c *Config) { c.KeepSlips = true })
	c := cardOf(t, 1, simcard.Good, true)
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		if len(h.bodies) == 2 {
			script := spec.AppendTLV(spec.AppendTLV(nil, 0x9F18, []byte{1, 2, 3, 4}), 0x86, []byte{0x84, 0x1E, 0, 0, 0})
			ans.SetBytes(55, spec.AppendTLV(bytes.Clone(ans.Bytes(55)), 0x72, script))
		}
		return nil
	}
	res, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 100, Card: c, PIN: c.PIN})
	if err != nil || !res.Approved() {
		t.Fatalf("%+v, %v", res, err)
	}
	if _, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 200, Card: c, PIN: c.PIN}); err != nil {
		t.Fatal(err)
	}
	if got := h.types(); !slices.Equal(got, []spec.MTI{0x0800, 0x0200, 0x0620, 0x0200}) {
		t.Fatalf("the host saw %v", got)
	}
	m := h.requests(0x0620)[0]
	if got := fieldsOf(m); got != "2 3 4 11 22 23 25 32 37 38 41 42 49 55 60 61 64" {
		t.Errorf("0620 carries %s", got)
	}
	if m.Text(60) != "00000001951600" || m.Text(61) != fmt.Sprintf("000001%06d0314", res.STAN) || m.Text(37) != res.RRN || m.Text(11) == fmt.Sprintf("%06d", res.STAN) {
		t.Errorf("DE 11 %s, 37 %s, 60 %s, 61 %s", m.Text(11), m.Text(37), m.Text(60), m.Text(61))
	}
	var tags []string
	for v, err := range spec.WalkTLV(m.Bytes(55)) {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, fmt.Sprintf("%X", v.Tag))
	}
	if !slices.Equal(tags, []string{"9F33", "95", "9F37", "9F1E", "9F10", "9F26", "9F36", "82", "DF31", "9F1A", "9A"}) {
		t.Errorf("DE 55 has %v", tags)
	}
	if result, _ := spec.FindTLV(m.Bytes(55), 0xDF31); !bytes.Equal(result, []byte{0x11, 1, 2, 3, 4}) {
		t.Errorf("DF31 %X: the card refuses the first command, whose MAC is missing", result)
	}
}

// A card that does not recognise its issuer leaves a reversal and a failed chip
// transaction to upload.
func TestFailedIssuerIsUploaded(t *testing.T) {
	h := newHost(t)
	term := open(t, h, func(c *Config) { c.KeepSlips = true })
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		if req.MTI() == 0x0200 {
			ans.SetBytes(55, spec.AppendTLV(nil, 0x91, []byte("12345678"+"00")))
		}
		return nil
	}
	if _, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 100, Card: cardOf(t, 0, simcard.Good, true)}); !errors.Is(err, ErrARPC) {
		t.Fatal(err)
	}
	r, err := term.Settle(t.Context())
	if err != nil || r.Uploaded != 1 || r.Totals != (spec.Totals{}) {
		t.Fatalf("%+v, %v", r, err)
	}
	up := h.requests(0x0320)[0]
	if d, err := spec.ParseChipDetail(up.Bytes(62)); err != nil || d.Failure != spec.ChipBadARPC || up.Text(60)[8:11] != "204" {
		t.Errorf("%+v, %v, DE 60 %s", d, err, up.Text(60))
	}
	if rev := h.requests(0x0400)[0]; rev.Text(39) != "06" || rev.Text(38) != "A12345" {
		t.Errorf("DE 38 %s, 39 %s", rev.Text(38), rev.Text(39))
	}
}

// A signature is kept until it is acknowledged, sent again before settlement,
// and once more when the settlement misses it.
func TestSignatures(t *testing.T) {
	h := newHost(t)
	term := open(t, h, func(c *Config) { c.KeepSlips = true; c.Merchant = "老王面馆" })
	c := cardOf(t, 1, simcard.Good, true)
	if _, err := term.Transact(t.Context(), Transaction{Kind: KindSale, Amount: 12345, Card: c, PIN: c.PIN}); err != nil {
		t.Fatal(err)
	}
	s, _ := term.LastSlip()
	image := append(make([]byte, 20), 0xFF, 0x02)
	refuse := true
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		if req.MTI() == 0x0820 && refuse {
			ans.Set(39, "96")
		}
		return nil
	}
	var refused *Refusal
	if _, err := term.Sign(t.Context(), s, image); !errors.As(err, &refused) || term.State().Signatures[0].Taken {
		t.Fatalf("a refused signature: %v", err)
	}
	refuse = false
	h.missing, h.flags = []int{s.STAN}, []spec.Balance{3, 0, 1, 0}
	r, err := term.Settle(t.Context())
	if err != nil || r.Domestic != spec.Balanced || r.Foreign != spec.Balanced {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := h.types(); !slices.Equal(got, []spec.MTI{0x0800, 0x0200, 0x0820, 0x0820, 0x0500, 0x0820, 0x0500, 0x0320, 0x0320}) {
		t.Errorf("the host saw %v", got)
	}
	m := h.requests(0x0820)[0]
	if fieldsOf(m) != "2 4 11 15 37 41 42 55 60 62 64" || m.Text(60) != "07000001800" || m.Text(11) != fmt.Sprintf("%06d", s.STAN) || !bytes.Equal(m.Bytes(62), image) {
		t.Errorf("%s, DE 11 %s, 60 %s", fieldsOf(m), m.Text(11), m.Text(60))
	}
	ac, _ := spec.FindTLV(h.requests(0x0200)[0].Bytes(55), 0x9F26)
	for tag, want := range map[uint32]string{0xFF00: "C0CFCDF5C3E6B9DD", 0xFF01: "CFFBB7D1", 0xFF02: "3031", 0xFF07: "413132333435", 0xFF23: fmt.Sprintf("%X", ac)} {
		if v, _ := spec.FindTLV(m.Bytes(55), tag); fmt.Sprintf("%X", v) != want {
			t.Errorf("tag %X is %X, want %s", tag, v, want)
		}
	}
	if v, _ := spec.FindTLV(m.Bytes(55), 0xFF06); len(v) != 7 || fmt.Sprintf("%X", v[2:]) != "0314101112" {
		t.Errorf("tag FF06 is %X", v)
	}
	for _, bad := range [][]byte{nil, make([]byte, 1000)} {
		if _, err := term.Sign(t.Context(), s, bad); err == nil {
			t.Errorf("a signature of %d bytes", len(bad))
		}
	}
	h.missing, h.flags = []int{4711}, []spec.Balance{3, 3}
	if _, err := term.Settle(t.Context()); !errors.Is(err, ErrBalance) {
		t.Errorf("a signature that nobody took: %v", err)
	}
}

// Answered 77, a sign-in takes over the host's batch; whose number holds
// afterwards is the profile's rule.
func TestBatchRules(t *testing.T) {
	for rule, want := range map[BatchRule]int{BatchOfHost: 9, BatchOfTerminal: 1} {
		h := newHost(t)
		h.batch = "000009"
		if term := open(t, h, func(c *Config) { c.Profile.BatchRule = rule }); term.State().Batch != want {
			t.Errorf("%s: batch %d", rule, term.State().Batch)
		}
	}
	h := newHost(t)
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		if req.Text(60)[2:8] != "000500" {
			ans.Unset(62)
			ans.Set(39, "77")
			ans.Set(60, "00000500003")
		}
		return nil
	}
	term := open(t, h, func(c *Config) { c.Profile.BatchRule = BatchOfTerminal })
	if got := h.types(); len(got) != 2 || term.State().Batch != 500 {
		t.Errorf("%v, batch %d", got, term.State().Batch)
	}
}

// A master key comes under the transport key, in each vendor's way, and the
// terminal signs in with it.
func TestDownloadTMK(t *testing.T) {
	ttk := simcard.TestKey("TTK")
	for variant, want := range map[string]string{"420": "00000001420", "682": "00000001682", "99": "99000001003"} {
		t.Run(variant, func(t *testing.T) {
			h := newHost(t)
			tmk := simcard.TestTMK(tid) // what the host knows; the terminal starts with another
			var de62 []byte
			spoil := -1
			h.reply = func(_ *host, req, ans *spec.Message) []byte {
				if req.Text(60) == want {
					b := bytes.Clone(de62)
					if spoil >= 0 {
						b[spoil] ^= 1
					}
					ans.SetBytes(62, b)
				}
				return nil
			}
			transport, err := algo.NewDESKey(ttk[:])
			if err != nil {
				t.Fatal(err)
			}
			k, err := algo.NewDESKey(tmk[:])
			if err != nil {
				t.Fatal(err)
			}
			de62 = make([]byte, 16)
			if err := transport.EncryptECB(de62, tmk[:]); err != nil {
				t.Fatal(err)
			}
			de62 = append(de62, k.CheckValue()[:4]...)
			var kept State
			cfg := Config{TID: tid, MID: mid, TMK: simcard.TestKey("another"), TTK: ttk, Dial: h.dial, Save: func(s State) error { kept = s; return nil },
				Profile: Profile{Download: variant, Device: Device{Serial: "SN00000001"}}}
			term, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer h.conns.Wait()
			defer term.Close()
			if err := term.SignIn(t.Context()); !errors.Is(err, ErrKeys) {
				t.Fatalf("signed in with another key: %v", err)
			}
			for _, spoil = range []int{0, 19} {
				if err := term.DownloadTMK(t.Context()); !errors.Is(err, ErrKeys) || kept.TMK != nil {
					t.Errorf("byte %d changed: %v", spoil, err)
				}
			}
			spoil = -1
			if err := term.DownloadTMK(t.Context()); err != nil {
				t.Fatal(err)
			}
			m := h.requests(0x0800)[1]
			if fieldsOf(m) != "41 42 60 62" || string(m.Bytes(62)) != "SN00000001" {
				t.Errorf("asked with %s", fieldsOf(m))
			}
			if term.keys.MAK == nil || !bytes.Equal(kept.TMK, tmk[:]) {
				t.Error("it did not sign in with its new key")
			}
			cfg.State = kept
			again, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if err := again.SignIn(t.Context()); err != nil {
				t.Errorf("after a power cut: %v", err)
			}
		})
	}
	term := open(t, newHost(t), nil)
	if err := term.DownloadTMK(t.Context()); err == nil {
		t.Error("a key was downloaded under no transport key")
	}
}

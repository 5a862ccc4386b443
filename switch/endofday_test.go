package switching_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/simulate/issuer"
	"acquirer/spec"
	"acquirer/spec/jbig"
	"acquirer/store"
	switching "acquirer/switch"
)

// management is a message without a MAC: DE 11, 41, 42, 60 and what is given.
func (d *device) management(t *testing.T, mti spec.MTI, de60 string, fields map[int]string) *spec.Message {
	t.Helper()
	m := &spec.Message{}
	m.Reset(spec.UnionPayPOS, mti)
	m.SetInt(11, int64(d.next()))
	m.Set(41, d.tid)
	m.Set(42, d.mid)
	m.Set(49, "156")
	m.Set(60, de60)
	for n, v := range fields {
		m.Set(n, v)
	}
	must(t, m.Err())
	return m
}

func totals(t *testing.T, debit money.Amount, debits int, credit money.Amount, credits int) string {
	t.Helper()
	var x spec.Totals
	x.Domestic.Debit.Fen, x.Domestic.Debit.Count = debit.Fen(), debits
	x.Domestic.Credit.Fen, x.Domestic.Credit.Count = credit.Fen(), credits
	b, err := spec.AppendTotals(nil, x)
	must(t, err)
	return string(b)
}

func flagsOf(t *testing.T, a *spec.Message) string {
	t.Helper()
	x, err := spec.ParseTotals(a.AppendText(nil, 48))
	must(t, err)
	return fmt.Sprintf("%d%d", x.Domestic.Balance, x.Foreign.Balance)
}

// money is everything that settlement and the ledger go by.
func (s *street) money() string {
	s.t.Helper()
	facts, err := s.journal.ClearingSince(context.Background(), 0, 1_000_000)
	must(s.t, err)
	var b strings.Builder
	for _, f := range facts {
		fmt.Fprintf(&b, "%+v\n", f)
	}
	for _, is := range []string{"north", "south", "east", "west"} {
		for _, e := range s.issuers[is].Books() {
			fmt.Fprintf(&b, "%s %s %s %s\n", is, e.RRN, e.State, e.Takes)
		}
	}
	return b.String()
}

// breaks are the differences that wait for a person, by trace number.
func (s *street) breaks() map[string]int {
	s.t.Helper()
	all, err := s.journal.Breaks(context.Background(), 10_000)
	must(s.t, err)
	n := map[string]int{}
	for _, u := range all {
		n[fmt.Sprintf("%d %s", u.STAN, u.What)]++
	}
	return n
}

// Whatever a terminal settles, uploads and ends, in whatever order and however
// often, moves no money, and every untruth of it is a break, once.
func TestTheEndOfTheDayMovesNoMoney(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *street) {
		d := s.device(t, 4)
		leads, _ := s.registry.Terminal([]byte(d.tid)) // the house gives its batch numbers
		of := *leads
		of.Profile.Batch = merchant.BatchLeads
		must(t, s.registry.Put(t.Context(), nil, []merchant.Terminal{of}))
		w := s.wire(t)
		north := pan(t, "north", 3700)
		sell := func() (*spec.Message, *spec.Message) {
			m := d.sale(money.Yuan(10), north)
			a := w.ask(d.frame(t, m))
			if a.Text(39) != "00" {
				t.Fatalf("answered %s", a.Text(39))
			}
			return m, a
		}
		good, _ := sell()
		chip, _ := sell()
		unshown, _ := sell()
		refused := d.sale(money.Yuan(10)+51, north)
		w.ask(d.frame(t, refused))
		before := s.money()
		stan := func(m *spec.Message) string { return m.Text(11) }
		ask := func(m *spec.Message, want string) *spec.Message {
			t.Helper()
			a := w.ask(d.frame(t, m))
			if a.Text(39) != want {
				t.Errorf("%v %s: answered %q, want %q", m.MTI(), m.Text(60), a.Text(39), want)
			}
			return a
		}
		upload := func(net string, original string, fen money.Amount, failure spec.ChipFailure) *spec.Message {
			m := d.management(t, 0x0320, "00000001"+net, map[int]string{11: original, 2: north.Reveal(), 4: fmt.Sprintf("%012d", fen.Fen()), 22: "051"})
			b, err := spec.AppendChipDetail(nil, spec.ChipDetail{Failure: failure, Fen: fen.Fen(), Currency: "156"})
			must(t, err)
			m.SetBytes(62, b)
			m.SetBytes(55, spec.AppendTLV(nil, 0x9F36, []byte{0, 9}))
			m.Unset(49)
			return m
		}
		details := func(rows ...spec.Detail) *spec.Message {
			b, err := spec.AppendDetails(nil, rows)
			must(t, err)
			return d.management(t, 0x0320, "00000001201", map[int]string{48: string(b)})
		}
		end := func(batch, net string, count int) *spec.Message {
			return d.management(t, 0x0320, "00"+batch+net, map[int]string{48: fmt.Sprintf("%04d", count)})
		}
		settle := func(digits string) *spec.Message {
			return d.management(t, 0x0500, "00000001201", map[int]string{48: digits, 63: "01 "})
		}

		for range 2 {
			if a := ask(settle(totals(t, money.Yuan(30), 3, 0, 0)), ""); flagsOf(t, a) != "11" {
				t.Errorf("the right totals: %s", flagsOf(t, a))
			}
		}
		ask(settle(totals(t, money.Yuan(31), 3, 0, 0)), "")
		ask(settle(strings.Repeat("9", 61)), "30")
		for range 2 { // the same uploads twice
			ask(details(spec.Detail{STAN: intOf(t, stan(good)), PAN: north.Reveal(), Fen: 1000}, spec.Detail{STAN: 999, PAN: north.Reveal(), Fen: 700},
				spec.Detail{STAN: intOf(t, stan(refused)), PAN: north.Reveal(), Fen: 1051}), "00")
			ask(upload("203", stan(chip), money.Yuan(10), spec.ChipGood), "00")
			ask(upload("205", stan(chip), money.Yuan(11), spec.ChipGood), "00")
			ask(upload("204", stan(chip), money.Yuan(10), spec.ChipBadARPC), "00")
			ask(upload("206", stan(refused), money.Yuan(10)+51, spec.ChipRefused), "00")
		}
		for _, de48 := range []string{"01", "9901", "00", strings.Repeat("1", 42), "02" + strings.Repeat("0", 40)} {
			ask(d.management(t, 0x0320, "00000001201", map[int]string{48: de48}), "30")
		}
		for range 3 {
			ask(end("000001", "202", 99), "00")
		}
		got := s.breaks()
		for _, has := range []string{"999 not here", itoaOf(stan(refused)) + " not approved", itoaOf(stan(chip)) + " other amount", itoaOf(stan(chip)) + " failed there", itoaOf(stan(unshown)) + " not there", "0 other count"} {
			if got[has] != 1 {
				t.Errorf("%d times %q, want once", got[has], has)
			}
			delete(got, has)
		}
		if len(got) > 0 {
			t.Errorf("and besides: %v", got)
		}
		if now, _ := s.registry.Terminal([]byte(d.tid)); now.Batch != 2 {
			t.Errorf("the next batch is %d", now.Batch)
		}
		// A batch that never settled, and one that was never there.
		ask(end("000777", "207", 0), "00")
		ask(end("000000", "207", 0), "00")
		ask(upload("203", "000001", money.Yuan(1), spec.ChipGood), "00")
		if now, _ := s.registry.Terminal([]byte(d.tid)); now.Batch != 2 {
			t.Errorf("the end of another batch made it %d", now.Batch)
		}
		if after := s.money(); after != before {
			t.Errorf("money moved:\n%s\nbefore\n%s", after, before)
		}
		s.agree()
	})
}

func intOf(t *testing.T, digits string) (n int) {
	t.Helper()
	_, err := fmt.Sscanf(digits, "%d", &n)
	must(t, err)
	return n
}

func itoaOf(digits string) string { return strings.TrimLeft(digits, "0") }

// The batch number after the last is the first, and a terminal settles while a
// sale of its is under way: what is not decided is in no total.
func TestBatchesWrapAndOverlap(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withAll)
	d := s.device(t, 4)
	_, err := s.registry.SetBatch(t.Context(), d.tid, 999_999)
	must(t, err)
	d.batch = 999_999
	w, second := s.wire(t), s.wire(t)
	s.weather("north", issuer.Weather{Delay: 200 * time.Millisecond})
	sale := d.sale(money.Yuan(10), pan(t, "north", 3710))
	w.send(d.frame(t, sale))
	s.booked(t, "north", 1)
	settling := d.management(t, 0x0500, "00999999201", map[int]string{48: totals(t, 0, 0, 0, 0), 63: "01 "})
	if a := second.ask(d.frame(t, settling)); flagsOf(t, a) != "11" || a.Text(39) != "" {
		t.Errorf("settled while a sale is under way: %s %s", flagsOf(t, a), a.Text(39))
	}
	if a := w.answer(); a.Text(39) != "00" {
		t.Errorf("answered %s", a.Text(39))
	}
	if a := w.ask(d.frame(t, d.management(t, 0x0320, "00999999207", map[int]string{48: "0000"}))); a.Text(39) != "00" {
		t.Errorf("the end of the last batch: answered %s", a.Text(39))
	}
	if now, _ := s.registry.Terminal([]byte(d.tid)); now.Batch != 1 {
		t.Errorf("behind 999999 comes %d", now.Batch)
	}
	d.batch = 1
	if a := w.ask(d.frame(t, d.sale(money.Yuan(10), pan(t, "north", 3711)))); a.Text(39) != "00" {
		t.Errorf("in the first batch again: answered %s", a.Text(39))
	}
	s.balanced()
}

// 999 transactions are as many as DE 48 can count.
func TestABatchThatIsFull(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	now := time.Now()
	sold := func(stan int) {
		x := &journal.Transaction{ID: store.NewID(), Key: journal.Key{Day: calendar.BusinessDate(now, s.config.CutOff), Terminal: d.tid, Batch: 1, STAN: int32(stan), Kind: journal.Sale},
			Merchant: d.mid, MTI: 0x0200, Amount: 100, Channel: journal.Credit, Issuer: "north", Opened: now, Deadline: now.Add(time.Minute)}
		_, err := s.journal.Open(t.Context(), x, journal.ClosedWith(journal.Outcome{Reason: journal.Declined, IssuerCode: "51"}))
		must(t, err)
		s.change("update outcome set reason = 1 where txn = $1", x.ID)
	}
	for i := range 999 {
		sold(1000 + i)
	}
	w := s.wire(t)
	settle := d.frame(t, d.management(t, 0x0500, "00000001201", map[int]string{48: totals(t, 99900, 999, 0, 0), 63: "01 "}))
	if a := w.ask(settle); a.Text(39) != "" || !strings.HasPrefix(a.Text(48), "000000099900999") {
		t.Errorf("999: answered %q %s", a.Text(39), a.Text(48))
	}
	sold(2000)
	if a := w.ask(settle); a.Text(39) != "96" {
		t.Errorf("1000: answered %q %s", a.Text(39), a.Text(48))
	}
}

// Signatures that are not those of the transaction they are sent with.
func TestSignaturesOfOthers(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d, e := s.device(t, 4), s.device(t, 5)
	w := s.wire(t)
	sale := d.sale(money.Yuan(10), pan(t, "north", 3720))
	sold := w.ask(d.frame(t, sale))
	refused := d.sale(money.Yuan(10)+51, pan(t, "north", 3720))
	no := w.ask(d.frame(t, refused))
	picture := jbig.Encode(autograph(), jbig.Options{TwoLine: true, Typical: true, Lines: 128})
	sign := func(by *device, answer *spec.Message, change func(*spec.Message)) *spec.Message {
		m := &spec.Message{}
		m.Reset(spec.UnionPayPOS, 0x0820)
		m.Copy(answer, 2, 4, 11, 15, 37, 42)
		m.Set(41, by.tid)
		m.Set(60, "07000001800")
		m.SetBytes(62, picture)
		m.SetBytes(64, make([]byte, 8))
		if change != nil {
			change(m)
		}
		must(t, m.Err())
		return m
	}
	otherDate := "0229"
	if sold.Text(15) == otherDate {
		otherDate = "0301"
	}
	for _, c := range []struct {
		what, rc string
		m        *spec.Message
		by       *device
	}{
		{"another terminal's", "25", sign(e, sold, nil), e},
		{"another terminal's, by trace number", "25", sign(e, sold, func(m *spec.Message) { m.Unset(37); m.Unset(15) }), e},
		{"of a sale that was refused", "25", sign(d, no, nil), d},
		{"another amount", "64", sign(d, sold, func(m *spec.Message) { m.SetInt(4, 999) }), d},
		{"another settlement date", "25", sign(d, sold, func(m *spec.Message) { m.Set(15, otherDate) }), d},
		{"another reference number", "25", sign(d, sold, func(m *spec.Message) { m.Set(37, "000000000001") }), d},
		{"no reference number at all", "25", sign(d, sold, func(m *spec.Message) { m.Set(37, "!\"#$%&'()*+,") }), d},
		{"no picture", "30", sign(d, sold, func(m *spec.Message) { m.Unset(62) }), d},
		{"half a picture", "30", sign(d, sold, func(m *spec.Message) { m.SetBytes(62, picture[:len(picture)/2]) }), d},
		{"a picture of 4 billion lines", "30", sign(d, sold, func(m *spec.Message) {
			b := bytes.Clone(picture)
			copy(b[4:12], "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")
			m.SetBytes(62, b)
		}), d},
		{"no MAC", "A0", sign(d, sold, func(m *spec.Message) { m.Unset(64) }), d},
	} {
		if a := w.ask(c.by.frame(t, c.m)); a.Text(39) != c.rc {
			t.Errorf("%s: answered %s, want %s", c.what, a.Text(39), c.rc)
		}
	}
	id := s.journalOf(d.tid)[0].ID
	if _, err := s.sw.Signature(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a signature was kept: %v", err)
	}
	for range 2 {
		if a := w.ask(d.frame(t, sign(d, sold, nil))); a.Text(39) != "00" || !d.signed(a) {
			t.Errorf("the right one: answered %s", a.Text(39))
		}
	}
	b, err := s.sw.Signature(t.Context(), id)
	must(t, err)
	kept, err := jbig.Decode(b)
	must(t, err)
	if !bytes.Equal(b, picture) || kept.Bounds() != image.Rect(0, 0, 128, 64) {
		t.Errorf("what was kept is %d bytes of %v", len(b), kept.Bounds())
	}
	files, err := filepath.Glob(strings.TrimPrefix(s.plan.url, "sqlite:") + "*")
	must(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		must(t, err)
		if bytes.Contains(text, picture[:20]) || bytes.Contains(text, picture[len(picture)-16:]) {
			t.Errorf("the picture lies in clear in %s", filepath.Base(name))
		}
	}
	s.balanced()
}

// Loads are in no total, and so are their voids.
func TestTotalsWithoutLoads(t *testing.T) {
	entry := func(kind journal.Kind, processing int32) *journal.Entry {
		return &journal.Entry{Transaction: journal.Transaction{Key: journal.Key{Kind: kind}, ProcessingCode: processing, Amount: 100}, Outcome: &journal.Outcome{Reason: journal.Approved}}
	}
	got := switching.TotalsOf([]*journal.Entry{entry(journal.Sale, 0), entry(journal.Void, 200000), entry(journal.Load, 600000), entry(journal.Void, 170000)})
	if got.Domestic.Debit != (spec.Tally{Fen: 100, Count: 1}) || got.Domestic.Credit != (spec.Tally{Fen: 100, Count: 1}) {
		t.Errorf("%+v", got.Domestic)
	}
}

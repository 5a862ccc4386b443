package switching

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/spec"
	"acquirer/store"
)

// Terminals that speak another dialect than UnionPay's. The same rows serve
// them: which row a message has, whether it is signed and what it must carry
// say the presence rules of the dialect. What UnionPay's terminals say in DE
// 59, 60 and 61 is read here from elsewhere; towards issuers and in the journal
// a transaction then looks as its row has it.

// noBatch is the batch number of terminals that have none: one for ever, so
// that a repeat after the cut-off and a late reversal find what they are about.
// Their trace numbers are unique within a business date.
const noBatch = 1

// otherRows are rows of messages that UnionPay's terminals do not send, or
// send otherwise.
var otherRows = []row{
	{name: "sign_in", mti: 0x0800, serve: (*Switch).signOn},
	{name: "key_exchange", mti: 0x0800, serve: (*Switch).keyExchange},
	{name: "settlement", mti: 0x0500, serve: (*Switch).reconciliation},
}

// servedRows are the kinds of messages that any dialect may have.
var servedRows = []string{
	"sale", "void", "refund", "preauth", "preauth_void", "completion", "completion_notice", "completion_void", "balance",
	"offline_sale", "chip_offline_sale", "adjust", "script_result", "reversal", "settlement", "batch_upload",
	"sign_in", "sign_off", "key_exchange", "echo",
}

// rowNamed is the row that serves the messages a dialect gives a name; nil when
// none does.
func rowNamed(name string) *row {
	if !slices.Contains(servedRows, name) {
		return nil
	}
	if name == "batch_upload" { // one transaction a message, as UnionPay's terminals send notices
		name = "notice_upload"
	}
	for _, table := range [...][]row{otherRows, rows} {
		for i := range table {
			if table[i].name == name {
				return &table[i]
			}
		}
	}
	return nil
}

// Servable says what of a dialect keeps the switch from serving it to
// terminals; nil when nothing does.
func Servable(d *spec.Dialect) error {
	if d.Framing().CUPS {
		return fmt.Errorf("dialect %s: its framing is of the lines between institutions, not of terminals", d.Name())
	}
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("dialect %s: "+format, append([]any{d.Name()}, args...)...))
	}
	if d.UnionPay() {
		for _, n := range [...]int{2, 3, 4, 11, 12, 13, 14, 15, 23, 25, 32, 37, 38, 39, 41, 42, 44, 48, 49, 54, 55, 59, 60, 62, 63, 64} {
			if !d.Declares(n) {
				bad("DE %d is not declared, and answers to UnionPay's terminals have it", n)
			}
		}
		return errors.Join(errs...)
	}
	for _, n := range [...]int{3, 4, 11, 39, 41} {
		if !d.Declares(n) {
			bad("DE %d is not declared, and every terminal needs it", n)
		}
	}
	if err := answerable(d); err != nil {
		bad("an answer cannot be written: %w", err)
	}
	for _, r := range d.Presence() {
		row := rowNamed(r.Message)
		switch {
		case row == nil:
			bad("message %s is served to UnionPay's terminals only; others have %v", r.Message, servedRows)
		case row.name == "key_exchange" && d.KeyField() == 0:
			bad("message %s: keys does not say which field carries them", r.Message)
		case row.name == "reversal" && !d.Declares(90):
			bad("message %s: DE 90 is not declared, which names the original", r.Message)
		case row.after != nil && !d.Declares(90) && !d.Declares(37):
			bad("message %s: neither DE 90 nor DE 37 is declared, which name the original", r.Message)
		case r.MAC && slices.Equal(d.MAC().Fields, []int{64}) && slices.Max(append(r.Mandatory, 0)) > 64:
			bad("message %s: DE %d follows DE 64, so its MAC must be in DE 128", r.Message, slices.Max(r.Mandatory))
		}
	}
	return errors.Join(errs...)
}

// Unsigned lists the kinds of messages of a dialect that move money and that
// no MAC protects, for whoever turns the dialect on.
func Unsigned(d *spec.Dialect) (names []string) {
	for _, r := range d.Presence() {
		row := rowNamed(r.Message)
		if row != nil && !r.MAC && (row.does != 0 || row.name == "reversal") && !slices.Contains(names, r.Message) {
			names = append(names, r.Message)
		}
	}
	return names
}

// answerable writes every field that answers have into one.
func answerable(d *spec.Dialect) error {
	var m spec.Message
	m.Reset(d, 0x0210)
	for n, v := range map[int]string{12: "235959", 13: "1231", 15: "1231", 32: "48020000000", 37: "0123456789AB", 38: "012345", 39: "00", 66: "1"} {
		if d.Declares(n) {
			m.Set(n, v)
		}
	}
	if d.Declares(4) {
		m.SetInt(4, 1)
	}
	return m.Err()
}

// unknown refuses a terminal that is not registered. A line may be tried by
// one that does not say who it is.
func (s *Switch) unknown(ctx context.Context, w *work) {
	if !w.dialect.UnionPay() && !w.req.Has(41) && w.dialect.Row(&w.req) == "echo" && w.dialect.Check(&w.req) == nil {
		w.kind = "echo"
		s.echo(ctx, w)
		return
	}
	s.refuse(w, RCUnknownTerminal)
}

// handleOther is handle for a terminal that speaks another dialect than
// UnionPay's.
func (s *Switch) handleOther(ctx context.Context, w *work) {
	m, d := &w.req, w.dialect
	if w.signs = d.Signs(m); w.signs {
		if err := s.verify(ctx, w); err != nil {
			s.refuse(w, s.macRefusal(w, err))
			return
		}
		s.strikes.forget(w.terminal.TID)
	} else if w.terminal.SignedIn() {
		w.hold(&w.terminal.Keys)
	}
	w.step(stepCheck)
	w.de60 = facts60(m)
	if w.row = rowNamed(d.Row(m)); w.row == nil {
		s.refuse(w, RCInvalidSale)
		return
	}
	w.kind = w.row.name
	if w.row.does == 0 { // the ladder asks the others
		if e := d.Check(m); e != nil {
			s.malformed(w, e)
			return
		}
	}
	if w.kind == "reversal" {
		w.undoes = reversed(m, d)
	}
	w.row.serve(s, ctx, w)
}

// facts60 is what DE 60 would say: no batch, and of the terminal what DE 22
// betrays of it. 80 is the stripe of a chip that failed.
func facts60(m *spec.Message) spec.DE60 {
	f := spec.DE60{Batch: noBatch}
	entry, _ := m.Int(22)
	switch entry / 10 {
	case entryChip, entryChipUnsure:
		f.Capability = 5
	case entryContactless, entryMSD:
		f.Capability = 6
	case entryFallback:
		f.Capability, f.ICCondition = 5, 2
	}
	return f
}

// Ways of reading a card that other terminals tell apart (DE 22).
const (
	entryWholeStripe = 90 // the stripe whole, as 02
	entryChipUnsure  = 95 // the chip, as 05; its verification value may be wrong
)

// reversed picks the row of what a reversal wants taken back: DE 90 has its
// type, and DE 3 and 25 are repeated.
func reversed(m *spec.Message, d *spec.Dialect) *row {
	o, ok := spec.FindOriginal(m)
	if !ok {
		return nil
	}
	mti := m.MTI()
	m.SetMTI(o.MTI)
	r := rowNamed(d.Row(m))
	m.SetMTI(mti)
	if r == nil || !r.back {
		return nil
	}
	return r
}

// movesMoney reports a message that the house tells others of.
func (w *work) movesMoney() bool {
	if w.dialect.UnionPay() {
		return financial(w.req.MTI())
	}
	return w.row != nil && (w.row.does != 0 || w.kind == "reversal")
}

// processing is DE 3 as issuers and the journal have it.
func (w *work) processing() string { return w.row.processing(&w.req) }

// processing is DE 3 of the row; of a row that takes any, the message's.
func (r *row) processing(m *spec.Message) string {
	if r.code == "*" {
		return m.Text(3)
	}
	return r.code
}

// number is the number that a text of digits writes, 0 for none.
func number(digits string) int32 {
	v, _ := strconv.Atoi(digits) // a row's own, or digits by its field
	return int32(v)
}

// condition is DE 25 as issuers have it.
func (w *work) condition() string {
	if w.dialect.UnionPay() {
		return w.req.Text(25)
	}
	return w.row.de25[:min(len(w.row.de25), 2)]
}

// entryMode is DE 22 as issuers and the journal have it, 0 without one.
func (w *work) entryMode() int32 {
	entry := int32Of(&w.req, 22)
	if w.dialect.UnionPay() {
		return entry
	}
	switch entry / 10 {
	case entryWholeStripe:
		return entryStripe*10 + entry%10
	case entryChipUnsure:
		return entryChip*10 + entry%10
	}
	return entry
}

// entryText is entryMode as DE 22.
func (w *work) entryText() string {
	if w.dialect.UnionPay() || !w.req.Has(22) {
		return w.req.Text(22)
	}
	return fmt.Sprintf("%03d", w.entryMode())
}

// startOther is startAnswer for other dialects: the fields of the request that
// ISO 8583:1987 repeats, and what the dialect has of the house's own.
func (s *Switch) startOther(w *work, at time.Time) {
	w.rep.Copy(&w.req, 2, 3, 4, 7, 11)
	setHostTime(&w.rep, at)
	w.rep.Copy(&w.req, 24, 25)
	w.say(32, s.cfg.Acquirer)
	w.rep.Copy(&w.req, 41, 42, 49, 70, 90)
}

// say gives the answer a field that not every dialect has.
func (w *work) say(n int, v string) {
	if v != "" && w.dialect.Declares(n) {
		w.rep.Set(n, v)
	}
}

// usedCard opens the card of the original for a message that names no card
// itself, as the voids of other dialects need not.
func (s *Switch) usedCard(ctx context.Context, w *work, q *asked) (journal.Reason, string) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	e, err := s.named(step, w)
	switch {
	case errors.Is(err, errNothingNamed), errors.Is(err, store.ErrNotFound):
		return journal.OriginalNotFound, ""
	case err != nil:
		return journal.StoreTrouble, err.Error()
	case e.Merchant != w.terminal.MID:
		return journal.OriginalNotFound, "it is another's"
	case len(e.PANSealed) == 0:
		return journal.OriginalDiffers, "its card was never known"
	}
	c, err := s.openCard(step, e)
	if err != nil {
		return journal.HSMTrouble, err.Error()
	}
	w.pan, q.expiry = c.PAN, c.Expiry
	return journal.Undecided, ""
}

// freshness is how far a terminal's clock may be off.
const freshness = 15 * time.Minute

// fresh reports that the message says it was sent now: in DE 7, or DE 12 and
// 13, in GMT or in Beijing time.
func (w *work) fresh() bool {
	m := &w.req
	sent := m.Text(7)
	if sent == "" {
		sent = m.Text(13) + m.Text(12)
	}
	for _, zone := range [...]*time.Location{time.UTC, calendar.Beijing} {
		at, err := time.ParseInLocation("20060102150405", w.started.In(zone).Format("2006")+sent, zone)
		if err == nil && at.Sub(w.started).Abs() < freshness {
			return true
		}
	}
	return false
}

// otherDay is originalDay for a reversal that names its original in DE 90, by
// the date in there, else on this business date or the one before: trace
// numbers may begin anew every day. It puts the kind of what is found into t,
// since a reversal that leaves DE 25 away does not tell a sale from a
// completion.
func (s *Switch) otherDay(ctx context.Context, w *work, t *journal.Transaction) (calendar.Date, error) {
	o, _ := spec.FindOriginal(&w.req)
	days := []calendar.Date{t.Day, t.Day.AddDays(-1)}
	if told := daysOf(t.Day, o.Date); o.Date != 0 && told != nil {
		if days = told; !slices.Contains(days, t.Day) {
			t.Day = days[0] // where it is not, there its tombstone is
		}
	}
	for _, day := range days {
		found, err := s.journal.ByTrace(ctx, day, t.Terminal, t.Batch, t.STAN)
		if err != nil {
			return 0, err
		}
		for _, e := range found {
			same := e.MTI == t.MTI && e.ProcessingCode == t.ProcessingCode && e.Kind != journal.Refund
			if e.Kind == t.Kind || same && !w.req.Has(25) {
				t.Kind = e.Kind
				return day, nil
			}
		}
	}
	return t.Day, nil
}

// otherWhy is why a reversal came, from the DE 39 of another dialect, which
// need not be there: nothing came in time, the customer took it back, or the
// terminal could not finish.
func otherWhy(code string) journal.Why {
	switch code {
	case "", "00", "68", "91":
		return "98"
	case "17":
		return journal.Why(code)
	}
	return "06"
}

// inPart reports a reversal of less than the whole amount (DE 95).
func inPart(m *spec.Message) bool { return strings.Trim(m.Text(95), "0CD ") != "" }

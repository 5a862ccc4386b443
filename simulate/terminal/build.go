package terminal

import (
	"cmp"
	"fmt"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"acquirer/calendar"
	"acquirer/hsm/algo"
	"acquirer/money"
	"acquirer/spec"
)

// begin starts a request: what all kinds of message share.
func (t *Terminal) begin(mti spec.MTI) *spec.Message {
	m := &t.req
	m.Reset(spec.UnionPayPOS, mti)
	m.Set(41, t.cfg.TID)
	m.Set(42, t.cfg.MID)
	return m
}

// set60 writes DE 60: message type, batch, network code and, in a financial
// message, what the terminal can read (6: contactless, contact, stripe), the
// chip's condition (2: fallback after a failed chip) and 1 when it understands
// partial approval and balances (protocol.md 2.1).
func (t *Terminal) set60(m *spec.Message, message, network string, financial, fallback, partial bool) {
	b := append(t.scratch[:0], message...)
	for div := 100000; div > 0; div /= 10 {
		b = append(b, byte('0'+t.state.Batch/div%10))
	}
	b = append(b, network...)
	if financial {
		ic, understands := byte('0'), byte('0')
		if fallback {
			ic = '2'
		}
		if partial {
			understands = '1'
		}
		b = append(b, '6', ic, understands)
	}
	t.scratch = b
	m.SetText(60, b)
}

// keySets is DE 60.3 of sign-in by Profile.KeySet.
var keySets = map[int]string{1: "001", 3: "003", 4: "004", 5: "005"}

func (t *Terminal) buildSignIn() *spec.Message {
	m := t.begin(0x0800)
	m.SetInt(11, int64(t.NextSTAN()))
	t.set60(m, "00", keySets[t.cfg.Profile.KeySet], false, false, false)
	if t.cfg.Profile.KeySet == 5 {
		m.Set(53, "0400000000000000") // SM4
	}
	m.Set(63, t.cfg.Profile.Operator)
	return m
}

func (t *Terminal) buildSignOff() *spec.Message {
	m := t.begin(0x0820)
	m.SetInt(11, int64(t.NextSTAN()))
	t.set60(m, "00", "002", false, false, false)
	return m
}

func (t *Terminal) buildEcho() *spec.Message {
	m := t.begin(0x0820)
	t.set60(m, "00", "301", false, false, false)
	return m
}

// build makes the request of a transaction, with DE 64 to be filled in.
func (t *Terminal) build(x *Transaction) (*spec.Message, error) {
	r := x.Kind.row()
	m := t.begin(r.mti)
	m.Set(3, r.processing)
	if !r.noAmount {
		m.SetInt(4, amountOf(x).Fen())
	}
	m.SetInt(11, int64(t.NextSTAN()))
	condition := r.condition
	if x.AddOn && x.Kind == KindPreauth {
		condition = "60"
	}
	m.Set(25, condition)
	if x.Kind == KindTip {
		m.SetText(48, appendDigits(t.scratch[:0], x.Tip.Fen(), 12))
	}
	m.Set(49, money.CurrencyNumeric)
	m.SetBytes(64, make([]byte, 8))
	t.set60(m, r.message, "000", true, x.Entry == Fallback, x.Partial)
	t.setOriginal(m, x, r)
	if x.Text != "" {
		text, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(x.Text))
		if err != nil {
			return nil, fmt.Errorf("terminal %s: the text of the %s cannot be written in GBK: %w", t.cfg.TID, x.Kind, err)
		}
		m.SetBytes(62, text)
	}
	if err := t.set59(m, x); err != nil {
		return nil, fmt.Errorf("terminal %s: DE 59 of the %s: %w", t.cfg.TID, x.Kind, err)
	}
	if r.reading == noCard {
		m.Set(22, "032")
		return m, nil
	}
	return m, t.setCard(m, x, r)
}

// setOriginal writes what names the transaction that x is about: DE 37, 38, 61
// and 63 as its row says. A refund without an original names zeros.
func (t *Terminal) setOriginal(m *spec.Message, x *Transaction, r *row) {
	o := x.Original
	if o == nil {
		o = new(Slip)
		switch r.naming {
		case zeros16:
			o.RRN = "000000000000"
		case authorised29:
			o.AuthCode = x.AuthCode
		}
	}
	if r.rrn && o.RRN != "" {
		m.Set(37, o.RRN)
	}
	if r.auth && o.AuthCode != "" {
		m.Set(38, o.AuthCode)
	}
	switch {
	case r.naming == named12:
		m.SetText(61, t.original61(o.Key, o.Date, 12))
	case r.naming == named16, r.naming == zeros16, r.naming == maybe16 && x.Original != nil:
		m.SetText(61, t.original61(o.Key, o.Date, 16))
	case r.naming == authorised29:
		// 61.4 01: by telephone; 61.5: who authorised is not known to the till.
		m.SetText(61, append(t.original61(Key{}, "", 16), "0100000000000"...))
	}
	if r.scheme {
		m.Set(63, cmp.Or(o.Scheme, "000"))
	}
}

// original61 is DE 61: batch, trace number and, of 16 digits, the date, 0000
// when it is not known.
func (t *Terminal) original61(k Key, date string, digits int) []byte {
	b := appendDigits(appendDigits(t.scratch[:0], int64(k.Batch), 6), int64(k.STAN), 6)
	if digits > 12 {
		b = append(b, cmp.Or(date, "0000")...)
	}
	t.scratch = b
	return b
}

// set59 writes DE 59 (protocol.md 2.5): A2, the terminal, where the profile
// says what it is; in payments by code A3, the code, or A4, the host's voucher,
// in what comes after it; A5, the place, where the profile has one.
func (t *Terminal) set59(m *spec.Message, x *Transaction) (err error) {
	d := t.cfg.Profile.Device
	var b []byte
	if d.Serial != "" && (x.Kind == KindQRSale || d.Place != "") {
		if b, err = d.append(b, numberOf(x)); err != nil {
			return err
		}
	}
	switch {
	case x.Kind == KindQRSale:
		b, err = spec.AppendDE59(b, "A3", []byte(x.PayCode))
	case x.Kind.row().reading == noCard && x.Original.Voucher != "":
		b, err = spec.AppendDE59(b, "A4", []byte(x.Original.Voucher))
	}
	if err != nil {
		return err
	}
	if d.Place != "" {
		place, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(d.Place))
		if err != nil {
			return fmt.Errorf("the place cannot be written in GBK: %w", err)
		}
		if b, err = spec.AppendDE59(b, "A5", place); err != nil {
			return err
		}
	}
	if b != nil {
		m.SetBytes(59, b)
	}
	return nil
}

// numberOf is the number of what x is paid with: a card or a payment code.
func numberOf(x *Transaction) string {
	switch {
	case x.PayCode != "":
		return x.PayCode
	case x.Card != nil:
		return x.Card.Number
	case x.Original != nil:
		return x.Original.PAN.Reveal()
	}
	return ""
}

// append appends A2: device type, serial number, the last six characters of
// the number, and application version (protocol.md 2.5).
func (d Device) append(dst []byte, number string) ([]byte, error) {
	var inner []byte
	for _, e := range [...][2]string{{"01", d.Type}, {"02", d.Serial}, {"03", number[max(0, len(number)-6):]}, {"05", d.Version}} {
		if e[1] == "" {
			continue
		}
		var err error
		if inner, err = spec.AppendDE59(inner, e[0], []byte(e[1])); err != nil {
			return dst, err
		}
	}
	return spec.AppendDE59(dst, "A2", inner)
}

// Entry is how the card is read: DE 22 digits 1 and 2.
type Entry uint8

// The ways of reading a card. The zero value is Chip.
const (
	Chip        Entry = iota // 05, contact
	Contactless              // 07
	Stripe                   // 02
	Keyed                    // 01
	Fallback                 // 02 with DE 60.5 = 2: the stripe of a chip card whose chip failed
)

var entryNames = [...]string{Chip: "chip", Contactless: "contactless", Stripe: "stripe", Keyed: "keyed", Fallback: "fallback"}

func (e Entry) String() string {
	if int(e) < len(entryNames) {
		return entryNames[e]
	}
	return "unknown entry"
}

// ParseEntry reads what String prints.
func ParseEntry(s string) (Entry, error) {
	for e, name := range entryNames {
		if name == s {
			return Entry(e), nil
		}
	}
	return 0, fmt.Errorf("terminal: entry %q is none of %v", s, entryNames)
}

var modes = [...]string{Chip: "05", Contactless: "07", Stripe: "02", Keyed: "01", Fallback: "02"}

// setCard writes the card's part of a financial message, as much of it as its
// row says: DE 2, 14, 22, 23, 35, 55, and 26, 52, 53 when a PIN was typed.
// Without a card the number of the original is keyed.
func (t *Terminal) setCard(m *spec.Message, x *Transaction, r *row) error {
	c := x.Card
	if c == nil {
		m.Set(2, x.Original.PAN.Reveal())
		m.Set(22, "012")
		if r.reading == whole && x.Original.Expiry != "" {
			m.Set(14, x.Original.Expiry)
		}
		return nil
	}
	pin := x.PIN != "" && r.pin
	digit := byte('2')
	if pin {
		digit = '1'
	}
	m.SetText(22, append(append(t.scratch[:0], modes[x.Entry]...), digit))
	if r.reading == byNumber {
		m.Set(2, c.Number)
		return nil
	}

	stripe := x.Entry == Stripe || x.Entry == Fallback
	encrypted := t.keys.TDK != nil && x.Entry != Keyed
	if !stripe || encrypted {
		// A host cannot route by an encrypted track, so the number goes beside it.
		m.Set(2, c.Number)
		if r.reading == whole {
			m.Set(14, c.Expiry)
		}
	}
	if x.Entry != Keyed {
		if err := t.setTrack(m, c.Track2, encrypted); err != nil {
			return err
		}
	}
	if chip := x.Entry == Chip || x.Entry == Contactless; chip && r.reading == whole {
		m.SetText(23, append(append(t.scratch[:0], '0'), c.PSN...))
		if err := t.setChip(m, x, r); err != nil {
			return err
		}
	}
	return t.setSecurity(m, x, pin, encrypted)
}

func (t *Terminal) setTrack(m *spec.Message, track string, encrypted bool) error {
	if !encrypted {
		m.Set(35, track)
		return nil
	}
	b, err := sealTrack(t.scratch[:0], t.keys.TDK, t.cfg.Profile.Track, track)
	if err != nil {
		return fmt.Errorf("terminal %s: encrypting the track: %w", t.cfg.TID, err)
	}
	t.scratch = b
	m.SetText(35, b)
	return nil
}

// setSecurity writes DE 53 (protocol.md 2.2) where a track or a PIN is sent,
// and the PIN in DE 26 and 52, or under SM4 in DE 63.
func (t *Terminal) setSecurity(m *spec.Message, x *Transaction, pin, encrypted bool) error {
	if !pin && x.Entry == Keyed {
		return nil
	}
	control := [16]byte([]byte("0000000000000000"))
	switch {
	case t.keys.PIK.Cipher() == algo.SM4:
		control[1] = '4'
	case t.keys.PIK.Len() > 8:
		control[1] = '6'
	}
	if encrypted {
		control[2] = '1'
	}
	if pin {
		control[0] = '2'
		if t.cfg.Profile.PIN == PINWithoutPAN {
			control[0] = '1'
		}
		block, sm4, err := sealPIN(t.keys.PIK, t.cfg.Profile.PIN, x.PIN, x.Card.Number)
		if err != nil {
			return fmt.Errorf("terminal %s: PIN block: %w", t.cfg.TID, err)
		}
		m.Set(26, "12")
		m.SetBytes(52, block[:])
		if sm4 != nil {
			m.SetBytes(63, append([]byte(sm4PINTag+"016"), sm4...))
		}
	}
	m.SetText(53, control[:])
	return nil
}

// buildRecord packs the reversal of the request in t.req into t.last, without
// DE 39 and 64: DE 2 3 4 11 14 22 23 25 38 41 42 49 59 60 62 of the original, and
// of DE 55 the tags 95 9F1E 9F10 9F36 (protocol.md 8.2, 2.4). Voids and the
// pre-authorisation chain name themselves in DE 61, with date 0000.
func (t *Terminal) buildRecord(x *Transaction) error {
	m := &t.rev
	m.Reset(spec.UnionPayPOS, 0x0400)
	m.Copy(&t.req, 2, 3, 4, 11, 14, 22, 23, 25, 38, 41, 42, 49, 59, 60, 62)
	if de55 := t.req.Bytes(55); de55 != nil {
		b := t.scratch[:0]
		for _, tag := range [...]uint32{0x95, 0x9F1E, 0x9F10, 0x9F36} {
			if v, ok := spec.FindTLV(de55, tag); ok {
				b = spec.AppendTLV(b, tag, v)
			}
		}
		t.scratch = b
		m.SetBytes(55, b)
	}
	if x.Kind.row().chain {
		m.SetText(61, t.original61(t.key(&t.req), "", 16))
	}
	var err error
	t.last, err = m.Append(t.last[:0])
	return err
}

// buildReversal makes the 0400 out of the record in t.last and of what was
// heard of an answer.
func (t *Terminal) buildReversal(reason Reason) (*spec.Message, error) {
	m := &t.req
	if err := spec.UnionPayPOS.Parse(m, t.last); err != nil {
		return nil, fmt.Errorf("terminal %s: reversal record: %w", t.cfg.TID, err)
	}
	if t.heardOf.auth != "" {
		m.Set(38, t.heardOf.auth)
	}
	if m.Has(61) && t.heardOf.date != "" {
		m.SetText(61, t.original61(t.lastKey, t.heardOf.date, 16))
	}
	if m.Has(59) && t.heardOf.voucher != "" {
		b, err := spec.AppendDE59(nil, "A4", []byte(t.heardOf.voucher))
		if err != nil {
			return nil, fmt.Errorf("terminal %s: reversal record: %w", t.cfg.TID, err)
		}
		m.SetBytes(59, b)
	}
	m.Set(39, string(reason))
	m.SetBytes(64, make([]byte, 8))
	return m, nil
}

// keyOf reads from a packed request which transaction it is.
func (t *Terminal) keyOf(packed []byte) (Key, error) {
	var m spec.Message
	if err := spec.UnionPayPOS.Parse(&m, packed); err != nil {
		return Key{}, err
	}
	return t.key(&m), nil
}

func (t *Terminal) key(m *spec.Message) Key {
	stan, _ := m.Int(11)
	return Key{TID: t.cfg.TID, Batch: batchOf(m), STAN: int(stan)}
}

// batchOf is DE 60.2, 0 when there is none.
func batchOf(m *spec.Message) int {
	n := 0
	if text := m.Text(60); len(text) >= 8 {
		for _, c := range text[2:8] {
			n = n*10 + int(c-'0')
		}
	}
	return n
}

// appendDigits appends n in width digits.
func appendDigits(dst []byte, n int64, width int) []byte {
	at := len(dst)
	for range width {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; i >= at; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

// bcd6 is n as twelve digits in BCD.
func bcd6(n int64) (b [6]byte) {
	for i := 5; i >= 0; i-- {
		b[i] = byte(n%10) | byte(n/10%10)<<4
		n /= 100
	}
	return b
}

// bcdDate is a moment's Beijing date as YYMMDD in BCD.
func bcdDate(at time.Time) [3]byte {
	d := int64(calendar.DateOf(at)) % 1000000
	b := bcd6(d)
	return [3]byte(b[3:])
}

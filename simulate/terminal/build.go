package terminal

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/hsm/algo"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// kind is what tells one kind of financial message from another: its row of
// the matrix in protocol.md 3.
type kind struct {
	mti        spec.MTI
	processing string // DE 3
	condition  string // DE 25
	message    string // DE 60.1
}

var kindSale = kind{mti: 0x0200, processing: "000000", condition: "00", message: "22"}

// begin starts a request: what all kinds of message share.
func (t *Terminal) begin(mti spec.MTI) *spec.Message {
	m := &t.req
	m.Reset(spec.UnionPayPOS, mti)
	m.Set(41, t.cfg.TID)
	m.Set(42, t.cfg.MID)
	return m
}

// transaction starts a financial request of kind k: all but the card's part.
func (t *Terminal) transaction(k kind, amount money.Amount) *spec.Message {
	m := t.begin(k.mti)
	m.Set(3, k.processing)
	m.SetInt(4, amount.Fen())
	m.SetInt(11, int64(t.NextSTAN()))
	m.Set(25, k.condition)
	m.Set(49, money.CurrencyNumeric)
	m.SetBytes(64, make([]byte, 8))
	return m
}

// set60 writes DE 60: message type, batch, network code and, in a financial
// message, what the terminal can read (6: contactless, contact, stripe), the
// chip's condition (2: fallback after a failed chip) and 0 for neither partial
// approval nor balance (protocol.md 2.1).
func (t *Terminal) set60(m *spec.Message, message, network string, financial, fallback bool) {
	b := append(t.scratch[:0], message...)
	for div := 100000; div > 0; div /= 10 {
		b = append(b, byte('0'+t.state.Batch/div%10))
	}
	b = append(b, network...)
	if financial {
		ic := byte('0')
		if fallback {
			ic = '2'
		}
		b = append(b, '6', ic, '0')
	}
	t.scratch = b
	m.SetText(60, b)
}

// keySets is DE 60.3 of sign-in by Profile.KeySet.
var keySets = map[int]string{1: "001", 3: "003", 4: "004"}

func (t *Terminal) buildSignIn() *spec.Message {
	m := t.begin(0x0800)
	m.SetInt(11, int64(t.NextSTAN()))
	t.set60(m, "00", keySets[t.cfg.Profile.KeySet], false, false)
	m.Set(63, t.cfg.Profile.Operator)
	return m
}

func (t *Terminal) buildSignOff() *spec.Message {
	m := t.begin(0x0820)
	m.SetInt(11, int64(t.NextSTAN()))
	t.set60(m, "00", "002", false, false)
	return m
}

func (t *Terminal) buildEcho() *spec.Message {
	m := t.begin(0x0820)
	t.set60(m, "00", "301", false, false)
	return m
}

func (t *Terminal) buildSale(s *Sale) (*spec.Message, error) {
	m := t.transaction(kindSale, s.Amount)
	t.set60(m, kindSale.message, "000", true, s.Entry == Fallback)
	return m, t.setCard(m, s)
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

// setCard writes the card's part of a financial message: DE 2, 14, 22, 23,
// 35, 55, and 26, 52, 53 when a PIN was typed.
func (t *Terminal) setCard(m *spec.Message, s *Sale) error {
	c := s.Card
	if c == nil {
		return fmt.Errorf("terminal %s: no card in the sale", t.cfg.TID)
	}
	chip := s.Entry == Chip || s.Entry == Contactless
	stripe := s.Entry == Stripe || s.Entry == Fallback
	pin := byte('2')
	if s.PIN != "" {
		pin = '1'
	}
	m.SetText(22, append(append(t.scratch[:0], modes[s.Entry]...), pin))

	encrypted := t.keys.TDK != nil && s.Entry != Keyed
	if !stripe || encrypted {
		// A host cannot route by an encrypted track, so the number goes beside it.
		m.Set(2, c.Number)
		m.Set(14, c.Expiry)
	}
	if s.Entry != Keyed {
		if err := t.setTrack(m, c.Track2, encrypted); err != nil {
			return err
		}
	}
	if chip {
		m.SetText(23, append(append(t.scratch[:0], '0'), c.PSN...))
		if err := t.setChip(m, s); err != nil {
			return err
		}
	}
	return t.setSecurity(m, s, encrypted)
}

func (t *Terminal) setTrack(m *spec.Message, track string, encrypted bool) error {
	if !encrypted {
		m.Set(35, track)
		return nil
	}
	b, err := algo.AppendEncryptedTrack(t.scratch[:0], t.keys.TDK, algo.TrackTDB, []byte(track))
	if err != nil {
		return fmt.Errorf("terminal %s: encrypting the track: %w", t.cfg.TID, err)
	}
	t.scratch = b
	m.SetText(35, b)
	return nil
}

// setSecurity writes DE 53 (protocol.md 2.2) where a track or a PIN is sent,
// and the PIN in DE 26 and 52.
func (t *Terminal) setSecurity(m *spec.Message, s *Sale, encrypted bool) error {
	if s.PIN == "" && s.Entry == Keyed {
		return nil
	}
	control := [16]byte([]byte("0000000000000000"))
	if t.keys.PIK.Len() > 8 {
		control[1] = '6'
	}
	if encrypted {
		control[2] = '1'
	}
	if s.PIN != "" {
		control[0] = '2'
		block, err := pinBlock(t.keys.PIK, s.PIN, s.Card.Number)
		if err != nil {
			return fmt.Errorf("terminal %s: PIN block: %w", t.cfg.TID, err)
		}
		m.Set(26, "12")
		m.SetBytes(52, block[:])
	}
	m.SetText(53, control[:])
	return nil
}

// The terminal's own EMV data: China (GB/T 2659 156), yuan, an attended online
// terminal that reads all interfaces and takes PINs.
var (
	code156      = [2]byte{0x01, 0x56}
	capabilities = []byte{0xE0, 0xF0, 0xC8} // 9F33
	terminalType = []byte{0x22}             // 9F35
	appVersion   = []byte{0x00, 0x30}       // 9F09
	onlinePIN    = []byte{0x42, 0x03, 0x00} // 9F34
	noCVM        = []byte{0x1F, 0x03, 0x02} // 9F34
	aidDebit     = []byte{0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x01}
	aidCredit    = []byte{0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x02}
)

// setChip asks the card for its cryptogram and writes DE 55: the mandatory
// tags of protocol.md 2.4 in their order, then 9F34 9F35 9F1E 84 9F09 9F41.
func (t *Terminal) setChip(m *spec.Message, s *Sale) error {
	terms := simcard.Terms{
		Amount: bcd6(s.Amount.Fen()), Country: code156, Currency: code156, Date: bcdDate(time.Now()),
	}
	cvm := noCVM
	if s.PIN != "" {
		terms.TVR[2] = 0x04 // online PIN entered
		cvm = onlinePIN
	}
	binary.BigEndian.PutUint32(terms.UN[:], rand.Uint32())
	a, err := s.Card.GenerateAC(&terms)
	if err != nil {
		return fmt.Errorf("terminal %s: reading the chip of %s: %w", t.cfg.TID, s.Card.PAN, err)
	}
	aid := aidCredit
	if is, ok := simcard.IssuerOf(s.Card.Number); ok && is.Debit {
		aid = aidDebit
	}
	b := t.scratch[:0]
	b = spec.AppendTLV(b, 0x9F26, a.AC[:])
	b = append(b, 0x9F, 0x27, 1, a.CID)
	b = spec.AppendTLV(b, 0x9F10, a.IAD[:])
	b = spec.AppendTLV(b, 0x9F37, terms.UN[:])
	b = spec.AppendTLV(b, 0x9F36, a.ATC[:])
	b = spec.AppendTLV(b, 0x95, terms.TVR[:])
	b = spec.AppendTLV(b, 0x9A, terms.Date[:])
	b = append(b, 0x9C, 1, terms.Type)
	b = spec.AppendTLV(b, 0x9F02, terms.Amount[:])
	b = spec.AppendTLV(b, 0x5F2A, terms.Currency[:])
	b = spec.AppendTLV(b, 0x82, a.AIP[:])
	b = spec.AppendTLV(b, 0x9F1A, terms.Country[:])
	b = spec.AppendTLV(b, 0x9F03, terms.Other[:])
	b = spec.AppendTLV(b, 0x9F33, capabilities)
	b = spec.AppendTLV(b, 0x9F34, cvm)
	b = spec.AppendTLV(b, 0x9F35, terminalType)
	b = append(b, 0x9F, 0x1E, 8)
	b = append(b, t.cfg.TID...)
	b = spec.AppendTLV(b, 0x84, aid)
	b = spec.AppendTLV(b, 0x9F09, appVersion)
	sequence := bcd6(int64(t.state.STAN))
	b = spec.AppendTLV(b, 0x9F41, sequence[2:])
	t.scratch = b
	m.SetBytes(55, b)
	return nil
}

// buildRecord packs the reversal of the request in t.req into t.last, without
// DE 39, 38 and 64: DE 2 3 4 11 14 22 23 25 41 42 49 60 of the original, and
// of DE 55 the tags 95 9F1E 9F10 9F36 (protocol.md 8.2, 2.4).
func (t *Terminal) buildRecord() error {
	m := &t.rev
	m.Reset(spec.UnionPayPOS, 0x0400)
	m.Copy(&t.req, 2, 3, 4, 11, 14, 22, 23, 25, 41, 42, 49, 60)
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
	var err error
	t.last, err = m.Append(t.last[:0])
	return err
}

// buildReversal makes the 0400 out of the record in t.last.
func (t *Terminal) buildReversal(reason Reason) (*spec.Message, error) {
	m := &t.req
	if err := spec.UnionPayPOS.Parse(m, t.last); err != nil {
		return nil, fmt.Errorf("terminal %s: reversal record: %w", t.cfg.TID, err)
	}
	if t.auth != "" {
		m.Set(38, t.auth)
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

func panOf(s *Sale) card.PAN {
	if s.Card == nil {
		return card.PAN{}
	}
	return s.Card.PAN
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

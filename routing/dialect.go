package routing

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/money"
	"acquirer/spec"
)

// speech is how a dialect is spoken on the lines of an issuer (docs/dialects.md,
// towards issuers). CUPS, and dialects of UnionPay's use, have private fields
// that mean what they mean there; all others are plain ISO 8583:1987, in which
// what those fields would say is said elsewhere or not at all.
type speech struct {
	*spec.Dialect
	header spec.CUPSHeader // of the framing that has it
	tpdu   [5]byte         // of the others, before each message
	head   []byte          // their header
}

func newSpeech(cfg *Config) (s speech, err error) {
	s.Dialect = cfg.Dialect
	if s.Dialect == nil {
		s.Dialect = spec.CUPS
	}
	f := s.Framing()
	if f.CUPS {
		s.header = spec.CUPSHeader{Destination: cfg.Institution, Source: cfg.Acquirer}
		if len(cfg.Head) > 0 {
			return s, errors.New("a head is for framings without the header of CUPS")
		}
		return s, CheckDialect(s.Dialect)
	}
	head := cfg.Head
	want := f.Header
	if f.TPDU {
		want += len(s.tpdu)
		s.tpdu[0] = 0x60
	}
	switch {
	case len(head) == 0:
		s.head = make([]byte, f.Header)
	case len(head) != want:
		return s, fmt.Errorf("a head of %d bytes, and the framing of dialect %s (%s) has %d", len(head), s.Name(), f.String(), want)
	default:
		if f.TPDU {
			head = head[copy(s.tpdu[:], head):]
		}
		s.head = slices.Clone(head)
	}
	return s, CheckDialect(s.Dialect)
}

// appendFrame appends a whole frame with m in it.
func (s *speech) appendFrame(dst []byte, m *spec.Message) ([]byte, error) {
	if !s.Framing().CUPS {
		return s.AppendFrame(dst, s.tpdu, s.head, m)
	}
	// the header carries the length, so it is written last over room kept for it
	start := len(dst)
	dst, err := m.Append(append(dst, headerRoom[:]...))
	if err != nil {
		return dst, err
	}
	_, err = spec.AppendCUPSHeader(dst[start:start], s.header, len(dst)-start-spec.CUPSHeaderSize)
	return dst, err
}

var headerRoom [spec.CUPSHeaderSize]byte

// body is the message inside a frame.
func (s *speech) body(frame []byte) []byte {
	if s.Framing().CUPS {
		return frame[spec.CUPSHeaderSize:]
	}
	return s.FrameBody(frame)
}

// maxFrame is the longest frame that is read from an issuer.
const maxFrame = spec.CUPSMaxLength

// frames reads the frames of one connection.
type frames struct {
	head  [spec.CUPSHeaderSize]byte
	other spec.FrameReader // of framings without the header of CUPS
}

// read gives the message of the next frame, and whether the network rejected
// it: then it is one of ours that came back.
func (f *frames) read(r io.Reader, s *speech) (body []byte, rejected bool, err error) {
	if !s.Framing().CUPS {
		if err := f.other.Wait(r); err != nil {
			return nil, false, err
		}
		n, err := f.other.Length(r, maxFrame)
		if err != nil {
			return nil, false, err
		}
		frame, err := f.other.Body(r, make([]byte, n))
		return frame.Body, false, err
	}
	if _, err := io.ReadFull(r, f.head[:]); err != nil {
		return nil, false, err
	}
	total, err := spec.CUPSLength(f.head[:])
	if err != nil {
		return nil, false, err
	}
	body = make([]byte, total-spec.CUPSHeaderSize) // at most 9953 bytes: four digits of length
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, false, err
	}
	return body, string(f.head[41:46]) != "00000", nil
}

// managementMTI is the type of network management: 0820 at CUPS, 0800 in plain
// ISO 8583:1987.
func managementMTI(d *spec.Dialect) spec.MTI {
	if d.CUPS() {
		return 0x0820
	}
	return 0x0800
}

// MACField is the field of m that carries its MAC towards an issuer: what the
// dialect says, and DE 128 at CUPS, which says nothing.
func MACField(d *spec.Dialect, m *spec.Message) int {
	if d.MAC() == nil {
		return 128
	}
	return d.MACField(m)
}

// SetZoneKey lays a zone key under the zone master key into a message: at CUPS
// 8 bytes in DE 96 and 16 in DE 48 behind NK, in other dialects in the field
// that carries keys.
func SetZoneKey(m *spec.Message, cryptogram []byte) {
	d := m.Dialect()
	switch {
	case !d.CUPS():
		d.SetKeys(m, cryptogram)
	case len(cryptogram) == 8:
		m.SetBytes(96, cryptogram)
	default:
		m.SetBytes(48, append([]byte("NK"), cryptogram...))
	}
}

// ZoneKey reads what SetZoneKey laid there, nil when there is no key.
func ZoneKey(m *spec.Message) []byte {
	d := m.Dialect()
	if !d.CUPS() {
		key, _ := d.Keys(m)
		return key
	}
	if double := m.Bytes(48); len(double) == 18 && string(double[:2]) == "NK" {
		return double[2:]
	}
	return m.Bytes(96)
}

// carried are the fields that a dialect must have to be spoken to an issuer,
// and what for.
var carried = []struct {
	field int
	what  string
}{
	{2, "the card"}, {3, "the kind of transaction"}, {4, "the amount"}, {7, "the time by which DE 90 names a transaction"}, {11, "the trace number"},
	{14, "the expiry date"}, {22, "how the card was read"}, {23, "the sequence number of a chip card"}, {25, "the kind of transaction"},
	{32, "the acquirer by which DE 90 names a transaction"}, {35, "the stripe"}, {37, "the RRN, which tells answers apart"}, {38, "the approval code"},
	{39, "the answer"}, {41, "the terminal"}, {42, "the merchant"}, {49, "the currency"}, {52, "the PIN"}, {53, "which key a key message is about"}, {55, "the chip"},
	{70, "sign-on, echo and keys"}, {90, "the original of a reversal, a void or a completion"},
}

// CheckDialect says everything that keeps a dialect from being spoken to an
// issuer: fields that are missing or too short, no MAC, no way for keys, and
// kinds of transactions that its presence rules do not know or want otherwise.
// Nil is a dialect that carries all of them.
func CheckDialect(d *spec.Dialect) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("dialect %s: "+format, append([]any{d.Name()}, args...)...))
	}
	if d.UnionPay() {
		return fmt.Errorf("dialect %s: its private fields are those of UnionPay's terminals; towards an issuer they mean something else", d.Name())
	}
	for _, c := range carried {
		if !d.Declares(c.field) {
			bad("DE %d is not declared: %s", c.field, c.what)
		}
	}
	switch r := d.MAC(); {
	case r == nil && !d.CUPS():
		bad("it has no mac, and nothing leaves for an issuer unsigned")
	case r != nil && r.Alg == "unionpay":
		bad("the MAC of UnionPay's terminals is not one for an issuer; want x919 or cmac")
	case r != nil && !slices.Contains(r.Fields, 128):
		bad("its MAC must be able to stand in DE 128, behind DE 70 and 90")
	}
	if !d.CUPS() && d.KeyField() == 0 {
		bad("keys does not say which field carries zone keys")
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // the rest would say it again
	}
	for _, s := range samples() {
		var m spec.Message
		s.build(d, &m)
		m.SetBytes(MACField(d, &m), zeroMAC[:])
		if _, err := m.Append(nil); err != nil {
			bad("a %s cannot be written: %v", s.row, err)
			continue
		}
		if len(d.Presence()) == 0 {
			continue
		}
		if row := d.Row(&m); row != s.row {
			bad("a %s (%v, DE 3 %s, DE 25 %s) is, by its presence rules, %s", s.row, m.MTI(), m.Text(3), m.Text(25), either(row, "nothing it knows"))
		} else if err := d.Check(&m); err != nil {
			bad("a %s is sent with what it has, and the rule is: %s", s.row, err.Note())
		}
	}
	return errors.Join(errs...)
}

func either(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// sample is one kind of message as it goes to an issuer.
type sample struct {
	row   string // as presence rules name it
	build func(d *spec.Dialect, m *spec.Message)
}

// samples are one of every kind.
func samples() (all []sample) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, calendar.Beijing)
	pan, err := card.ParsePAN([]byte("6200000000000000003"))
	if err != nil {
		panic(err) // it stands two lines above
	}
	original := Original{MTI: 0x0200, STAN: 1, Sent: now, Acquirer: "48020000", Forwarder: "48020000"}
	base := Request{
		Amount: money.Yuan(1), Sent: now, STAN: 2, RRN: "0123456789AB", PAN: pan, Expiry: "3012", EntryMode: "012", Condition: "00",
		Acquirer: "48020000", Forwarder: "48020000", Receiver: "01020000", Terminal: "10000001", Merchant: "898110054110001", Name: []byte("shop"), Category: "5411",
	}
	read := base // from a chip, with its PIN
	read.EntryMode, read.Sequence, read.ICData, read.PINBlock = "051", "001", []byte{0x9F, 0x27, 0x01, 0x80}, make([]byte, 8)
	read.Track2 = []byte("6200000000000000003=3012201")
	add := func(row string, r Request, mti spec.MTI, processing, condition string, follows bool) {
		r.MTI, r.Processing, r.Condition = mti, processing, condition
		if follows {
			r.Original, r.Approval = &original, "123456"
		}
		all = append(all, sample{row, func(d *spec.Dialect, m *spec.Message) { BuildRequest(d, m, &r) }})
	}
	asked, told := read, base
	asked.Amount = 0
	told.Sequence, told.ICData, told.EntryMode = read.Sequence, read.ICData, "052"
	add("sale", read, 0x0200, "000000", "00", false)
	add("void", base, 0x0200, "200000", "00", true)
	add("refund", base, 0x0220, "200000", "00", true)
	add("balance", asked, 0x0200, "310000", "00", false)
	add("preauth", read, 0x0100, "030000", "06", false)
	add("preauth_void", base, 0x0100, "200000", "06", true)
	add("completion", base, 0x0200, "000000", "06", true)
	add("completion_void", base, 0x0200, "200000", "06", true)
	add("completion_notice", base, 0x0220, "000000", "06", true)
	add("offline_sale", base, 0x0220, "000000", "00", false)
	add("chip_offline_sale", told, 0x0220, "000000", "00", false)
	add("adjust", base, 0x0220, "020000", "00", true)
	add("script_result", told, 0x0620, "000000", "00", true)
	read.MTI, read.Processing = 0x0200, "000000"
	all = append(all, sample{"reversal", func(d *spec.Dialect, m *spec.Message) {
		BuildReversal(d, m, &Reversal{Original: read, STAN: 3, Sent: now, Reason: ReasonTimeout})
	}})
	return all
}

package spec

import "encoding/hex"

// The codes of DE 70 that every network knows (ISO 8583:1987).
const (
	NetworkSignOn      = 1
	NetworkSignOff     = 2
	NetworkKeyExchange = 101
	NetworkEcho        = 301
)

// NetworkCode is what a network management message is about: DE 60.3 of
// UnionPay's terminals, DE 70 of every other dialect; false when it is absent.
func NetworkCode(m *Message) (int, bool) {
	if d, ok := ParseDE60(m); ok {
		return d.NetworkCode, d.Digits >= 11
	}
	if m.d == nil || m.d.use == useUnionPay || m.Len(70) != 3 {
		return 0, false
	}
	v, ok := m.Int(70)
	return int(v), ok
}

// DE90 is the original data elements: the message that a reversal, a void or a
// completion is about.
type DE90 struct {
	MTI       MTI
	STAN      int
	Sent      [10]byte // MMDDhhmmss of the original's DE 7, digits
	Acquirer  [11]byte // DE 32 of the original, zeros on the left
	Forwarder [11]byte // DE 33
}

// de90Digits is the length of DE 90.
const de90Digits = 42

// ParseDE90 reads DE 90; false when it is absent, not 42 digits, or names no
// message type of version 0.
func ParseDE90(m *Message) (d DE90, ok bool) {
	if m.Len(90) != de90Digits {
		return d, false
	}
	var room [de90Digits]byte
	if m.d.cells[90].kind == Binary {
		return d, false
	}
	t := m.AppendText(room[:0], 90)
	for _, c := range t {
		if c-'0' > 9 {
			return d, false
		}
	}
	for _, c := range t[:4] {
		d.MTI = d.MTI<<4 | MTI(c-'0')
	}
	d.STAN = decimal(t[4:10])
	copy(d.Sent[:], t[10:20])
	copy(d.Acquirer[:], t[20:31])
	copy(d.Forwarder[:], t[31:])
	return d, d.MTI>>12 == 0 && d.MTI>>8 != 0
}

// AppendText appends the 42 digits. A part that was not set is written as
// zeros.
func (d DE90) AppendText(dst []byte) []byte {
	t := d.MTI.digits()
	dst = appendDecimal(append(dst, t[:]...), d.STAN, 6)
	for _, part := range [...][]byte{d.Sent[:], d.Acquirer[:], d.Forwarder[:]} {
		for _, c := range part {
			if c == 0 {
				c = '0'
			}
			dst = append(dst, c)
		}
	}
	return dst
}

// Original is the transaction that a request is about, by what the request
// says of it; zero values are what it does not say.
type Original struct {
	MTI   MTI
	Batch int // UnionPay's terminals only
	STAN  int
	Date  int      // MMDD
	Sent  [10]byte // MMDDhhmmss of DE 7, where DE 90 tells it
}

// FindOriginal says which transaction a request is about; false when it names
// none. UnionPay's terminals name it in DE 61, or, in a reversal, by using its
// trace number and batch again. All other dialects name it in DE 90. What DE 37
// (the RRN) and DE 38 say comes on top and is not looked at here.
func FindOriginal(m *Message) (o Original, ok bool) {
	if m.d == nil {
		return o, false
	}
	if m.d.use == useUnionPay {
		if m.mti.Class() == 4 {
			d, ok := ParseDE60(m)
			stan, has := m.Int(11)
			return Original{Batch: d.Batch, STAN: int(stan)}, ok && has
		}
		d, ok := ParseDE61(m)
		return Original{Batch: d.Batch, STAN: d.STAN, Date: d.Date}, ok && d.STAN != 0
	}
	d, ok := ParseDE90(m)
	if !ok {
		return o, false
	}
	return Original{MTI: d.MTI, STAN: d.STAN, Date: decimal(d.Sent[:4]), Sent: d.Sent}, true
}

// MAC is how the dialect signs its messages, nil when it does not say.
func (d *Dialect) MAC() *MACRule { return d.mac }

// MACField is the field that carries the MAC of m: DE 128 when a field above
// 64 is there or the second bitmap was, else DE 64; of a dialect that declares
// one alone, that one.
func (d *Dialect) MACField(m *Message) int {
	if d.mac != nil && len(d.mac.Fields) == 1 {
		return d.mac.Fields[0]
	}
	if m.bits[1] != 0 || m.wide {
		return 128
	}
	return 64
}

// KSN is the DUKPT key serial number of the key that DE 52 is under, in the
// field that the dialect declares for it: 10 bytes (TDES) or 12 (AES), or their
// hexadecimal characters. It is nil when the message has no such field, and
// empty when what stands there is no such number.
func (d *Dialect) KSN(m *Message) []byte {
	if d.pin == nil || m.d != d || !m.Has(d.pin.KSN) {
		return nil
	}
	b := m.Bytes(d.pin.KSN)
	switch n := len(b); {
	case d.cells[d.pin.KSN].kind == Binary && (n == 10 || n == 12):
		return b
	case d.cells[d.pin.KSN].kind != Binary && (n == 20 || n == 24):
		ksn := make([]byte, n/2)
		for i := range ksn {
			h, l := hexNibble(b[2*i]), hexNibble(b[2*i+1])
			if h > 15 || l > 15 {
				return []byte{}
			}
			ksn[i] = h<<4 | l
		}
		return ksn
	}
	return []byte{}
}

// KSNField is the field that carries a DUKPT key serial number, 0 when the
// dialect has none.
func (d *Dialect) KSNField() int {
	if d.pin == nil {
		return 0
	}
	return d.pin.KSN
}

// KeyField is the field of the answer to a key exchange that carries working
// keys, 0 when the dialect has none.
func (d *Dialect) KeyField() int {
	if d.keys == nil {
		return 0
	}
	return d.keys.Field
}

// SetKeys writes working keys into KeyField: as bytes, or as hexadecimal
// characters where it is text.
func (d *Dialect) SetKeys(m *Message, keys []byte) {
	n := d.KeyField()
	if d.cells[n].kind == Binary {
		m.SetBytes(n, keys)
		return
	}
	text := make([]byte, 0, 2*len(keys))
	for _, b := range keys {
		text = append(text, hexDigits[b>>4], hexDigits[b&15])
	}
	m.SetText(n, text)
}

// Keys reads what SetKeys wrote; false when it is absent or cannot be read.
func (d *Dialect) Keys(m *Message) ([]byte, bool) {
	b := m.Bytes(d.KeyField())
	if len(b) == 0 || d.cells[d.KeyField()].kind == Binary {
		return b, len(b) > 0
	}
	keys, err := hex.DecodeString(string(b))
	return keys, err == nil
}

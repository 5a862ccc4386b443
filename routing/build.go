package routing

import (
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/money"
	"acquirer/spec"
)

// Request is what the switch knows about a transaction when it goes to an
// issuer, in its own words: a request (0100, 0200), an advice of what was done
// already (0220) or a script result (0620). MTI, Processing and Condition
// together say which kind it is. Empty fields are left out of the message.
type Request struct {
	MTI        spec.MTI     // 0x0200 when zero
	Processing string       // DE 3, "000000" for a sale
	Amount     money.Amount // DE 4; of an adjustment, the difference; 0 of a balance inquiry
	Sent       time.Time    // DE 7, 12 and 13, in Beijing time
	STAN       uint32       // DE 11, the switch's own, 1 to 999999
	RRN        string       // DE 37, 12 characters, the switch's own

	PAN       card.PAN    // DE 2
	Expiry    card.Expiry // DE 14
	Track2    []byte      // DE 35, clear, as the card has it
	Sequence  string      // DE 23, three digits
	ICData    []byte      // DE 55
	EntryMode string      // DE 22, three digits
	Condition string      // DE 25, "00"; "06" for the pre-authorisation family

	// Original is the earlier transaction that this one voids, completes,
	// refunds or adjusts, or whose script result it tells: DE 90. Nil leaves it
	// out, for whatever stands on its own.
	Original *Original
	// Repeat says that an 0220 or 0620 was sent before and not answered: it
	// goes as 0221 or 0621, and is otherwise the same message, time and STAN
	// included, by which the issuer knows it again. It says nothing of an 0100
	// or 0200, which is reversed and not repeated.
	Repeat bool

	PINBlock []byte // DE 52 under the ZPK, 8 bytes, ISO 9564-1 format 0; brings DE 26 and 53 along

	Acquirer  string // DE 32, up to 11 digits
	Forwarder string // DE 33
	Receiver  string // DE 100, the issuer's institution
	Terminal  string // DE 41, 8 characters
	Merchant  string // DE 42, 15 characters
	Name      []byte // DE 43, merchant name and place in GBK; cut or blank-padded to 40 bytes
	Category  string // DE 18, merchant category, four digits
	Approval  string // DE 38, of an earlier authorisation, six characters

	Capability  byte // DE 60.2.2, '5' a terminal that reads chips, '6' also contactless; as DE 60.4 of the terminal
	ICCondition byte // DE 60.2.3, '2' fallback after a chip that failed; as DE 60.5 of the terminal
	// Usage is what a kind of transaction needs besides, as DE 48 carries it:
	// two characters of usage, then text in GBK; the terms of an instalment.
	Usage []byte
	// Partial says that the terminal takes an approval of less than Amount (DE
	// 39 10) and shows the balance: DE 60.3.4, as DE 60.6 of the terminal.
	Partial bool
}

// Original names an earlier transaction the way DE 90 does.
type Original struct {
	MTI       spec.MTI  // as it was sent first; 0x0200 when zero
	STAN      uint32    // its DE 11
	Sent      time.Time // its DE 7
	Acquirer  string    // its DE 32
	Forwarder string    // its DE 33
}

// AsOriginal names r for a later transaction.
func (r *Request) AsOriginal() Original {
	return Original{MTI: r.MTI, STAN: r.STAN, Sent: r.Sent, Acquirer: r.Acquirer, Forwarder: r.Forwarder}
}

// BuildRequest lays p into m as a message of dialect d, which is an issuer's
// (0100, 0200, 0220, 0221, 0620 or 0621). The MAC is added by Send. Errors stay
// in m until its Append, which Send calls.
func BuildRequest(d *spec.Dialect, m *spec.Message, p *Request) {
	mti := p.MTI
	if mti == 0 {
		mti = 0x0200
	}
	if p.Repeat && (mti == 0x0220 || mti == 0x0620) {
		mti |= 1
	}
	m.Reset(d, mti)
	common(m, p)
	m.SetInt(11, int64(p.STAN))
	times(m, p.Sent)
	if len(p.Track2) > 0 {
		m.SetText(35, p.Track2)
	}
	set(m, 38, p.Approval)
	if len(p.Usage) > 0 {
		m.SetBytes(48, p.Usage)
	}
	if len(p.PINBlock) > 0 {
		if d.Declares(26) {
			m.Set(26, "06")
		}
		m.SetBytes(52, p.PINBlock)
		m.Set(53, "2600000000000000") // X9.8 with account number, double-length key
	}
	if len(p.ICData) > 0 {
		m.SetBytes(55, p.ICData)
	}
	reason(m, p, "0000")
	if p.Original != nil {
		original(m, *p.Original)
	}
}

// Reversal undoes an 0100 or 0200 whose outcome nobody knows, or that is not
// wanted. The reversal of a void makes the sale stand again.
type Reversal struct {
	Original Request   // as it was sent; its track, its PIN and its own original stay behind
	STAN     uint32    // DE 11 of the reversal itself, another one for each repeat
	Sent     time.Time // DE 7, 12, 13 of the reversal itself
	Approval string    // DE 38 when the original was approved
	Reason   string    // DE 60.1, one of the Reason codes
	ICData   []byte    // DE 55 of the terminal's reversal, with its TVR and script results
	Repeat   bool      // 0421: it was sent before and not acknowledged
}

// Reasons of a reversal, the message reason codes of ISO 8583:1993 that the
// first four characters of DE 60 carry.
const (
	ReasonTimeout   = "4021" // no answer in time
	ReasonCancelled = "4000" // the terminal or its customer took it back
	ReasonDevice    = "4007" // the terminal could not complete it, or its answer's MAC was wrong
)

// BuildReversal lays r into m as an 0420 of dialect d, or an 0421 when it is a
// repeat. Its RRN (DE 37) is the original's; DE 90 holds the original's MTI,
// STAN, transmission time, acquirer and forwarder, and is the same in every
// repeat. Where DE 60 is not CUPS's, DE 39 says why.
func BuildReversal(d *spec.Dialect, m *spec.Message, r *Reversal) {
	mti := spec.MTI(0x0420)
	if r.Repeat {
		mti = 0x0421
	}
	m.Reset(d, mti)
	o := &r.Original
	common(m, o)
	m.SetInt(11, int64(r.STAN))
	times(m, r.Sent)
	set(m, 38, r.Approval)
	if len(r.ICData) > 0 {
		m.SetBytes(55, r.ICData)
	}
	reason(m, o, r.Reason)
	if !d.CUPS() {
		m.Set(39, plainReasons[r.Reason])
	}
	original(m, o.AsOriginal())
}

// plainReasons are the reasons of a reversal as response codes of ISO
// 8583:1987: the answer came too late, the customer took it back, a malfunction
// is suspected.
var plainReasons = map[string]string{ReasonTimeout: "68", ReasonCancelled: "17", ReasonDevice: "22"}

// original is DE 90: MTI 4, STAN 6, transmission time 10, acquirer 11,
// forwarder 11.
func original(m *spec.Message, o Original) {
	if o.MTI == 0 {
		o.MTI = 0x0200
	}
	var b [42]byte
	d := append(b[:0], o.MTI.String()...)
	d = appendDigits(d, int64(o.STAN), 6)
	d = appendDigits(d, transmissionTime(o.Sent.In(calendar.Beijing)), 10)
	d = appendInstitution(d, o.Acquirer)
	d = appendInstitution(d, o.Forwarder)
	m.SetText(90, d)
}

// common sets what a request and its reversal share.
func common(m *spec.Message, p *Request) {
	set(m, 2, p.PAN.Reveal())
	set(m, 3, processing(m.Dialect(), p))
	if p.Amount != 0 {
		m.SetInt(4, p.Amount.Fen())
	}
	set(m, 14, string(p.Expiry))
	may(m, 18, p.Category)
	set(m, 22, p.EntryMode)
	set(m, 23, p.Sequence)
	set(m, 25, p.Condition)
	set(m, 32, p.Acquirer)
	may(m, 33, p.Forwarder)
	set(m, 37, p.RRN)
	set(m, 41, p.Terminal)
	set(m, 42, p.Merchant)
	if len(p.Name) > 0 && m.Dialect().Declares(43) {
		var b [40]byte
		m.SetText(43, fitGBK(b[:0], p.Name, 40))
	}
	m.Set(49, money.CurrencyNumeric)
	may(m, 100, p.Receiver)
}

// processing is DE 3. A void of a sale is told from a refund by its type at
// CUPS; plain ISO 8583:1987 has 02 for it, a debit adjustment.
func processing(d *spec.Dialect, p *Request) string {
	if !d.CUPS() && (p.MTI == 0x0200 || p.MTI == 0) && p.Condition != "06" && strings.HasPrefix(p.Processing, "20") {
		return "02" + p.Processing[2:]
	}
	return p.Processing
}

// may sets a field that an issuer can do without, where the dialect has it.
func may(m *spec.Message, n int, v string) {
	if m.Dialect().Declares(n) {
		set(m, n, v)
	}
}

func set(m *spec.Message, n int, v string) {
	if v != "" {
		m.Set(n, v)
	}
}

func times(m *spec.Message, t time.Time) {
	t = t.In(calendar.Beijing)
	v := transmissionTime(t)
	m.SetInt(7, v)
	if d := m.Dialect(); d.Declares(12) && d.Declares(13) {
		m.SetInt(12, v%1e6)
		m.SetInt(13, v/1e6)
	}
}

// reason is DE 60 up to 60.2.9: reason 4, account owner 1, terminal capability
// 1, IC condition 1, reserved 1, terminal type 2 (03 a POS), no-PIN flag 1, IC
// reliability 1, electronic commerce 2, interaction 1; and for a terminal that
// takes partial approvals up to 60.3.4: charge type 2 and level 1, reserved 3,
// partial approval and balance 1.
func reason(m *spec.Message, p *Request, code string) {
	if !m.Dialect().CUPS() {
		return
	}
	b := [partialAt + 1]byte{'0', '0', '0', '0', '0', '0', '0', '0', '0', '3', '0', '0', '0', '0', '0', '0', '0', '0', '0', '0', '0', '1'}
	copy(b[:4], code)
	if p.Capability != 0 {
		b[5] = p.Capability
	}
	if p.ICCondition != 0 {
		b[6] = p.ICCondition
	}
	if p.Partial {
		m.SetText(60, b[:])
		return
	}
	m.SetText(60, b[:15])
}

// partialAt is where DE 60.3.4 stands in DE 60.
const partialAt = 21

// AsksPartial reports whether the DE 60 of a request takes an approval of a
// part, as Request.Partial has it written.
func AsksPartial(de60 []byte) bool { return len(de60) > partialAt && de60[partialAt] == '1' }

func appendDigits(dst []byte, v int64, n int) []byte {
	var b [20]byte
	for i := n - 1; i >= 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return append(dst, b[:n]...)
}

// appendInstitution right-aligns an institution code in 11 digits.
func appendInstitution(dst []byte, code string) []byte {
	for range 11 - len(code) {
		dst = append(dst, '0')
	}
	return append(dst, code[:min(len(code), 11)]...)
}

// fitGBK cuts a GBK text to n bytes without parting a double-byte character
// and fills it up with blanks.
func fitGBK(dst, text []byte, n int) []byte {
	o := 0
	for o < len(text) {
		size := 1
		if text[o] >= 0x81 { // first byte of two
			size = 2
		}
		if o+size > n || o+size > len(text) {
			break
		}
		o += size
	}
	dst = append(dst, text[:o]...)
	for range n - o {
		dst = append(dst, ' ')
	}
	return dst
}

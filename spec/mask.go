package spec

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// hexMark starts the shown form of a text field that is not text: the bytes
// follow in hexadecimal. Encode understands it.
const hexMark = "hex:"

// stars are what tells a masked text from a clear one: a clear text that has
// three in a row is shown behind hexMark.
const stars = "***"

// span is a part of a field's text that is not shown: digits of numeric and
// track fields, bytes of text fields, hexadecimal digits of binary ones.
type span struct{ from, to int }

// view shows the fields of a message, masked unless reveal is set. What is
// hidden is decided once for a field, by position, so that no sub-field can
// show what its field hides.
type view struct {
	m      *Message
	reveal bool
	pan    []byte // the account number of the message, to be found elsewhere in it
	spans  map[int][]span
}

func newView(m *Message, reveal bool) *view {
	v := &view{m: m, reveal: reveal, spans: map[int][]span{}}
	if !reveal {
		v.pan = accountNumber(m)
	}
	return v
}

// accountNumber is the account number of DE 2, of a track or of the chip, nil
// when there is none of at least 13 digits.
func accountNumber(m *Message) []byte {
	if t := m.AppendText(nil, 2); len(t) >= 13 {
		return t
	}
	for _, n := range [...]int{35, 36} {
		t := m.AppendText(nil, n)
		if i := bytes.IndexAny(t, "=D"); i >= 13 {
			return t[:i]
		}
	}
	for _, tag := range [...]uint32{0x5A, 0x57} {
		if b, ok := FindTLV(m.Bytes(55), tag); ok {
			t := Binary.appendText(nil, b, 0)
			if i := bytes.IndexAny(t, "DF"); i >= 0 {
				t = t[:i]
			}
			if len(t) >= 13 && len(t) <= 19 {
				return t
			}
		}
	}
	return nil
}

// text is the whole shown form of DE n without the marks of exact.
func (v *view) text(n int) string {
	return v.part(n, 0, len(v.chars(n)))
}

// exact is text in a form that encode turns back into the same bytes: padding
// other than 0 is shown as nibbles ('f' for F).
func (v *view) exact(n int) string {
	s := v.text(n)
	k, units, w := v.m.d.cells[n].kind, v.m.Len(n), v.m.Bytes(n)
	if units&1 == 0 {
		return s
	}
	switch k {
	case BCDLeft, BCDEither, Track:
		if k == BCDEither && either(w, units) == BCDRight {
			return "0" + s
		}
		if w[len(w)-1]&15 == 15 {
			return s + "f"
		}
	case BCDRight:
		if w[0]>>4 == 15 {
			return "f" + s
		}
	}
	return s
}

// setExact is the reverse of exact and of shownText.
func (m *Message) setExact(n int, s string) {
	c := m.cell(n)
	if c == nil {
		return
	}
	if c.kind == Text {
		b, why := wireText(s)
		if why != "" {
			m.refuse(n, why)
			return
		}
		m.SetBytes(n, b)
		return
	}
	if strings.ContainsRune(s, '*') {
		m.refuse(n, maskedValue)
		return
	}
	pad := byte(0)
	switch c.kind {
	case BCDLeft, BCDEither, Track:
		if t, ok := strings.CutSuffix(s, "f"); ok && len(t)&1 != 0 {
			s, pad = t, 15
		} else if c.kind == BCDEither && len(s) == int(c.max)+1 && s[0] == '0' && s[len(s)-1] != '0' {
			start := m.begin(c)
			a, units, err := BCDLeft.appendWire(m.arena, []byte(s), 0)
			m.arena = a
			if err != nil {
				m.refuse(n, err.Error())
				return
			}
			m.put(n, c, start, units-1)
			return
		}
	case BCDRight:
		if t, ok := strings.CutPrefix(s, "f"); ok && len(t)&1 != 0 {
			s, pad = t, 15
		}
	}
	m.text = append(m.text[:0], s...)
	m.setText(n, m.text, pad)
}

const maskedValue = "the value is masked; only the output of decode --reveal can be encoded"

// chars is the text that spans count in.
func (v *view) chars(n int) []byte { return v.m.AppendText(nil, n) }

// part shows the characters from to to of DE n.
func (v *view) part(n, from, to int) string {
	t := v.chars(n)
	from, to = max(0, from), min(to, len(t))
	if from >= to {
		return ""
	}
	var hide []span
	if !v.reveal {
		hide = v.hidden(n)
	}
	if v.m.d.cells[n].kind == Text {
		return shownText(t[from:to], from, hide)
	}
	return string(star(bytes.Clone(t[from:to]), from, hide))
}

// ascii shows a part of a binary field, counted in bytes, as text.
func (v *view) ascii(n, from, to int) string {
	b := v.m.Bytes(n)
	from, to = max(0, from), min(to, len(b))
	if from >= to {
		return ""
	}
	var hide []span
	if !v.reveal {
		for _, s := range v.hidden(n) {
			hide = append(hide, span{s.from / 2, (s.to + 1) / 2})
		}
	}
	return shownText(b[from:to], from, hide)
}

func star(t []byte, at int, hide []span) []byte {
	for _, s := range hide {
		for i := max(s.from-at, 0); i < min(s.to-at, len(t)); i++ {
			t[i] = '*'
		}
	}
	return t
}

// shownText is GBK as UTF-8 when that can be turned back, else hexMark and
// hexadecimal; at is the position of t[0] in the field.
func shownText(t []byte, at int, hide []span) string {
	covered := func(i int) bool {
		for _, s := range hide {
			if i+at >= s.from && i+at < s.to {
				return true
			}
		}
		return false
	}
	masked := slices.ContainsFunc(hide, func(s span) bool { return s.from < at+len(t) && s.to > at })
	var out []byte
	clean := true
	for i := 0; i < len(t) && clean; {
		if covered(i) {
			out = append(out, '*')
			i++
			continue
		}
		j := i + 1
		for j < len(t) && !covered(j) {
			j++
		}
		var s string
		s, clean = gbkText(t[i:j])
		out = append(out, s...)
		i = j
	}
	if !clean || strings.HasPrefix(string(out), hexMark) || !masked && strings.Contains(string(out), stars) {
		out = append(out[:0], hexMark...)
		for i, b := range t {
			if covered(i) {
				out = append(out, '*', '*')
			} else {
				out = append(out, hexDigits[b>>4], hexDigits[b&15])
			}
		}
	}
	if masked && !strings.Contains(string(out), stars) {
		return stars
	}
	return string(out)
}

// gbkText gives the UTF-8 of GBK text without control characters; false when
// it would not come back as the same bytes.
func gbkText(b []byte) (string, bool) {
	plain := true
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return "", false
		}
		plain = plain && c < 0x7f
	}
	if plain {
		return string(b), true
	}
	u, err := simplifiedchinese.GBK.NewDecoder().Bytes(b)
	if err != nil || bytes.ContainsRune(u, '\uFFFD') {
		return "", false
	}
	back, err := simplifiedchinese.GBK.NewEncoder().Bytes(u)
	if err != nil || !bytes.Equal(back, b) {
		return "", false
	}
	return string(u), true
}

// wireText is the reverse of shownText; why is empty when it succeeded.
func wireText(s string) (b []byte, why string) {
	if strings.Contains(s, stars) {
		return nil, maskedValue
	}
	if h, ok := strings.CutPrefix(s, hexMark); ok {
		b, _, err := Binary.appendWire(nil, []byte(h), 0)
		if err != nil {
			return nil, err.Error()
		}
		return b, ""
	}
	b, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(s))
	if err != nil {
		return nil, "the text has a character that GBK does not have; write the bytes as hex:..."
	}
	return b, ""
}

// hidden decides what of DE n is not shown.
func (v *view) hidden(n int) []span {
	if s, ok := v.spans[n]; ok {
		return s
	}
	t := v.chars(n)
	var s []span
	all := []span{{0, len(t)}}
	if v.m.d.use == useOpen {
		s = v.hiddenOpen(n, t)
		v.spans[n] = s
		return s
	}
	pos := v.m.d.use == useUnionPay
	switch n {
	case 2, 34, 102, 103:
		s = accountSpan(s, 0, len(t))
	case 35, 36:
		s = trackSpans(s, t, 0)
	case 45, 96:
		s = all
	case 46:
		s = terminalInfoSpans(t)
	case 48:
		if pos {
			s = batchSpans(v.m, t)
		} else {
			s = resetKeySpans(t)
		}
	case 52:
		if len(bytes.Trim(t, "0")) > 0 { // zeros: the PIN is under SM4 in DE 63
			s = all
		}
	case 55:
		s = emvSpans(nil, v.m.Bytes(55), 0, 0)
	case 59:
		s = qrSpans(t)
	case 61:
		if !pos || noDate(t) {
			s = all // identity document, CVN2, name, telephone number; or anything but an original
		}
	case 62:
		if pos {
			s = v.de62Spans()
		}
	case 63:
		s = securitySpans(t, pos)
	}
	s = v.accounts(s, n, t)
	v.spans[n] = s
	return s
}

// noDate reports that the digits of DE 61 are no original: where its date
// stands there is none, as when an account number was put there.
func noDate(t []byte) bool {
	if len(t) < 16 {
		return false
	}
	month, day := decimal(t[12:14]), decimal(t[14:16])
	return (month != 0 || day != 0) && (month < 1 || month > 12 || day < 1 || day > 31)
}

// accounts hides account numbers in fields that are not made for them.
func (v *view) accounts(s []span, n int, t []byte) []span {
	if n != 2 && n != 35 && n != 36 && len(v.pan) > 0 {
		s = v.ownAccount(s, n, t)
	}
	if n >= 43 && n <= 63 && n != 60 || n >= 102 {
		switch v.m.d.cells[n].kind {
		case Text:
			s = foreignAccounts(s, t, 1)
		case Binary:
			s = foreignAccounts(s, v.m.Bytes(n), 2)
		}
	}
	return s
}

// hiddenOpen decides for dialects whose private fields may hold anything: they
// are hidden whole unless the dialect file says that they may be shown.
func (v *view) hiddenOpen(n int, t []byte) (s []span) {
	all := []span{{0, len(t)}}
	switch {
	case n == 2:
		s = accountSpan(s, 0, len(t))
	case n == 35 || n == 36:
		s = trackSpans(s, t, 0)
	case n == 45 || n == 52 || n == 96:
		return all
	case n == 55 && v.m.d.cells[n].kind == Binary:
		s = emvSpans(nil, v.m.Bytes(55), 0, 0)
	case private(n) && !v.m.d.show[n], n == v.m.d.KeyField():
		return all
	}
	return v.accounts(s, n, t)
}

// private says that ISO 8583:1987 leaves the meaning of DE n to the two ends, or
// that it holds an account in a form nobody fixed.
func private(n int) bool {
	return n == 34 || n >= 46 && n <= 48 || n >= 55 && n <= 63 || n >= 102 && n != 128
}

// ownAccount hides the message's account number wherever a field repeats it:
// as digits, and in a binary field as ASCII or packed.
func (v *view) ownAccount(s []span, n int, t []byte) []span {
	for o := 0; ; {
		i := bytes.Index(t[o:], v.pan)
		if i < 0 {
			break
		}
		s = trackTail(accountSpan(s, o+i, o+i+len(v.pan)), t, o+i+len(v.pan), 1)
		o += i + 1
	}
	if v.m.d.cells[n].kind != Binary {
		return s
	}
	b := v.m.Bytes(n)
	for o := 0; ; {
		i := bytes.Index(b[o:], v.pan)
		if i < 0 {
			return s
		}
		s = trackTail(append(s, span{2 * (o + i + 6), 2 * (o + i + len(v.pan) - 4)}), b, o+i+len(v.pan), 2)
		o += i + 1
	}
}

// foreignAccounts hides what looks like an account number in the text of a
// field of free use: 14 to 19 digits, no more beside them, beginning with 3 to
// 6, with a right check digit (ISO/IEC 7812-1). scale is how many characters of
// the shown form a byte has.
func foreignAccounts(s []span, t []byte, scale int) []span {
	for o := 0; o < len(t); {
		end := o
		for end < len(t) && t[end]-'0' <= 9 {
			end++
		}
		if n := end - o; n >= 14 && n <= 19 && t[o] >= '3' && t[o] <= '6' && luhn(t[o:end]) {
			s = trackTail(append(s, span{scale * (o + 6), scale * (end - 4)}), t, end, scale)
		}
		o = end + 1
	}
	return s
}

// trackTail hides what follows an account number that ends at end when it is a
// track's: the digits behind a separator.
func trackTail(s []span, t []byte, end, scale int) []span {
	if end >= len(t) || t[end] != '=' && t[end] != 'D' {
		return s
	}
	stop := end + 1
	for stop < len(t) && t[stop]-'0' <= 9 {
		stop++
	}
	return append(s, span{scale * (end + 1), scale * stop})
}

func luhn(digits []byte) bool {
	sum := 0
	for i, c := range digits {
		v := int(c - '0')
		if (len(digits)-i)%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}

// accountSpan hides all but the first six and last four of the characters from
// to to; fewer than 13 are hidden whole.
func accountSpan(s []span, from, to int) []span {
	if to-from < 13 {
		return append(s, span{from, to})
	}
	return append(s, span{from + 6, to - 4})
}

// trackSpans hides a track's account number but for first six and last four,
// and all behind its separator; without a separator all behind the first six.
func trackSpans(s []span, t []byte, at int) []span {
	i := bytes.IndexAny(t, "=D")
	if i < 0 {
		return append(s, span{at + min(6, len(t)), at + len(t)})
	}
	return append(accountSpan(s, at, at+i), span{at + i + 1, at + len(t)})
}

// emvSecret are the tags of DE 55 that hold card data or a PIN.
var emvSecret = map[uint32]func(s []span, hex []byte, at int) []span{
	0x5A:   emvAccount,
	0x56:   emvAll, // track 1
	0x57:   emvTrack,
	0x99:   emvAll, // PIN data
	0x5F20: emvAll, // cardholder name
	0x9F0B: emvAll,
	0x9F1F: emvAll,
	0x9F20: emvAll,
	0x9F61: emvAll, // holder's identity document
	0x9F6B: emvTrack,
}

func emvAll(s []span, hex []byte, at int) []span { return append(s, span{at, at + len(hex)}) }
func emvAccount(s []span, hex []byte, at int) []span {
	return accountSpan(s, at, at+len(bytes.TrimRight(hex, "F")))
}
func emvTrack(s []span, hex []byte, at int) []span { return trackSpans(s, hex, at) }

// emvSpans hides card data in data objects, constructed ones included, and
// everything that cannot be read; at is the offset of b in bytes.
func emvSpans(s []span, b []byte, at, depth int) []span {
	for o := 0; o < len(b); {
		if b[o] == 0 {
			o++
			continue
		}
		t, n, err := readTLV(b[o:], o)
		if err != nil {
			return append(s, span{2 * (at + o), 2 * (at + len(b))})
		}
		start := at + o + n - len(t.Value)
		if hide := emvSecret[t.Tag]; hide != nil {
			s = hide(s, Binary.appendText(nil, t.Value, 0), 2*start)
		} else if constructed(t.Tag) && depth < maxDepth {
			s = emvSpans(s, t.Value, start, depth+1)
		}
		o += n
	}
	return s
}

const maxDepth = 4

// constructed reports whether a tag's value is a list of data objects itself
// (bit 6 of its first byte). The tags FF00 to FFFF of the electronic signature
// have plain values.
func constructed(tag uint32) bool {
	if tag>>8 == 0xFF {
		return false
	}
	for tag > 0xff {
		tag >>= 8
	}
	return tag&0x20 != 0
}

// batchSpans hides the account numbers of uploaded batch details (0320): count
// 2, then card kind 2, STAN 6, account number 20, amount 12 each. Totals,
// counts and tips are shown, anything else is hidden.
func batchSpans(m *Message, t []byte) (s []span) {
	if isBatchDetails(m, t) {
		for o := 2; o < len(t); o += 40 {
			number := t[o+8 : o+28]
			zeros := len(number) - len(bytes.TrimLeft(number, "0"))
			s = accountSpan(s, o+8+zeros, o+28)
		}
		return s
	}
	if len(t) <= 12 || len(t) == 62 && m.mti.Class() == 5 {
		return nil
	}
	return []span{{4, len(t)}}
}

func isBatchDetails(m *Message, t []byte) bool {
	return m.mti.Class() == 3 && len(t) > 2 && (len(t)-2)%40 == 0
}

// resetKeySpans hides the new key of a CUPS key reset: "NK" and the key, with
// or without a length of three digits. A DE 48 that is not text is hidden.
func resetKeySpans(t []byte) []span {
	if bytes.HasPrefix(t, []byte("NK")) {
		return []span{{2, len(t)}}
	}
	if i := bytes.Index(t, []byte("NK")); i >= 0 {
		return []span{{i + 2, len(t)}}
	}
	if _, ok := gbkText(t); !ok {
		return []span{{0, len(t)}}
	}
	return nil
}

// terminalInfoSpans hides the encryption factor of DE 46 ("PI", length of
// three digits, then tag 2, hexadecimal length 2, value): it is the end of the
// account number.
func terminalInfoSpans(t []byte) (s []span) {
	for e := range terminalInfo(t) {
		if e.tag == "06" {
			s = append(s, e.value)
		}
	}
	return s
}

// qrSpans hides the payment code of DE 59 but for six and four characters, and
// the encryption factor (A2.03), which is the end of the account number. When
// A2 or A3 stand in a DE 59 that cannot be read, all of it is hidden.
func qrSpans(t []byte) (s []span) {
	start, width := de59Start(t)
	if start < 0 {
		if bytes.Contains(t, []byte("A2")) || bytes.Contains(t, []byte("A3")) {
			s = []span{{0, len(t)}}
		}
		return s
	}
	for e, at := range elementsFrom(t, start, width) {
		switch e.Tag {
		case "A3":
			s = accountSpan(s, at, at+len(e.Value))
		case "A2":
			read := 0
			for in, inAt := range elementsFrom(e.Value, 0, width) {
				read = inAt + len(in.Value)
				if in.Tag == "03" {
					s = append(s, span{at + inAt, at + read})
				}
			}
			s = append(s, span{at + read, at + len(e.Value)})
		}
	}
	return s
}

// securitySpans hides what DE 63 calls SM (a PIN under SM4) and TK (a token or
// track); a CUPS DE 63 that cannot be read is hidden.
func securitySpans(t []byte, pos bool) (s []span) {
	if pos && !bytes.HasPrefix(t, []byte("SM")) && !bytes.HasPrefix(t, []byte("TK")) {
		return nil
	}
	read := 0
	for e, at := range elementsFrom(t, 0, 3) {
		if e.Tag == "SM" || e.Tag == "TK" {
			s = append(s, span{at, at + len(e.Value)})
		}
		read = at + len(e.Value)
	}
	if read < len(t) {
		s = append(s, span{read, len(t)})
	}
	return s
}

// elementsFrom walks the readable elements of t from an offset, with the
// position of each value; width is the number of digits of a length.
func elementsFrom(t []byte, o, width int) func(yield func(Element, int) bool) {
	return func(yield func(Element, int) bool) {
		for o >= 0 && o < len(t) {
			v, n, err := readElement(t, o, width)
			if err != nil || !yield(Element{elementTag(t[o : o+2]), v}, o+2+width) {
				return
			}
			o += n
		}
	}
}

// elementTag is two bytes as a tag; those that DE 59 is known for cost no
// allocation, since a terminal may send them with every sale.
func elementTag(b []byte) string {
	for _, known := range [...]string{"A2", "A3", "A4", "A5", "01", "02", "03", "04", "05"} {
		if string(b) == known {
			return known
		}
	}
	return string(b)
}

// de59Start is where the elements of DE 59 begin and how many digits their
// lengths have. Some terminals put data of their own before A2, or write
// lengths of two digits. -1 when no start leads to the end.
func de59Start(t []byte) (start, width int) {
	for width = 3; width >= 2; width-- {
		for o := range t {
			if o > 0 && (t[o] != 'A' || o+1 == len(t) || t[o+1]-'1' > 8) {
				continue
			}
			end := o
			for e, at := range elementsFrom(t, o, width) {
				end = at + len(e.Value)
			}
			if end == len(t) {
				return o, width
			}
		}
	}
	return -1, 3
}

// infoElement is one element of DE 46.
type infoElement struct {
	tag   string
	value span
}

// terminalInfo walks DE 46 of the form "PI", length 3, elements of tag 2,
// hexadecimal length 2, value.
func terminalInfo(t []byte) func(yield func(infoElement) bool) {
	return func(yield func(infoElement) bool) {
		if !bytes.HasPrefix(t, []byte("PI")) {
			return
		}
		v, _, err := readElement(t, 0, 3)
		if err != nil {
			return
		}
		for o := 0; o+4 <= len(v); {
			h, l := hexNibble(v[o+2]), hexNibble(v[o+3])
			n := int(h)<<4 | int(l)
			if h > 15 || l > 15 || o+4+n > len(v) || !yield(infoElement{string(v[o : o+2]), span{5 + o + 4, 5 + o + 4 + n}}) {
				return
			}
			o += 4 + n
		}
	}
}

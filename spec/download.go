package spec

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// This file is DE 62 of what terminals download and upload besides money:
// CA keys and applications (DE 60.3 370 to 382), terminal parameters and
// status (360 to 362), contactless limits (394), the black list (390).
//
// No public source has the layout of the black list. Ours: the request is that
// of the other lists, "1" and the number of the page; the answer is the flag
// '1' (last page) or '2' (more follow), a count of two digits, and so many
// entries of a length of two digits and the digits themselves: 4 to 12 of them
// are the beginning of every blocked number, 13 to 19 are one card.

// ErrDownload says that a DE 62 of a download cannot be read.
var ErrDownload = errors.New("spec: wrong DE 62")

// PageFlag is the first character of an answer that carries a list or an
// entry of one.
type PageFlag byte

// The flags.
const (
	PageNothing PageFlag = '0' // nothing there
	PageLast    PageFlag = '1' // the last page, or the entry asked for
	PageMore    PageFlag = '2' // more pages follow
)

// CutPage takes the flag off an answer.
func CutPage(de62 []byte) (PageFlag, []byte, error) {
	if len(de62) == 0 || de62[0] < '0' || de62[0] > '2' {
		return 0, nil, fmt.Errorf("%w: want the flag 0, 1 or 2 first", ErrDownload)
	}
	return PageFlag(de62[0]), de62[1:], nil
}

// AppendOffset appends what a query (372, 382, 390) asks for: '1' and the
// number of the first entry wanted (of the page, for the black list), in two
// digits, or in as many as it needs.
func AppendOffset(dst []byte, n int) []byte {
	width := 2
	for most := 100; n >= most && width < 4; most *= 10 {
		width++
	}
	return appendDecimal(append(dst, '1'), n, width)
}

// ParseOffset reads what AppendOffset writes, "100" for the first page among
// it. Nothing at all is the first page too.
func ParseOffset(de62 []byte) (int, error) {
	if len(de62) == 0 {
		return 0, nil
	}
	if de62[0] != '1' || len(de62) < 3 || len(de62) > 5 || !digitsOnly(de62[1:]) {
		return 0, fmt.Errorf("%w: want 1 and an offset of two to four digits", ErrDownload)
	}
	return decimal(de62[1:]), nil
}

func digitsOnly(b []byte) bool {
	for _, c := range b {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}

// CAKeyID names a CA public key.
type CAKeyID struct {
	RID   [5]byte // registered application provider, A000000333 of UnionPay
	Index byte
}

func (k CAKeyID) String() string { return fmt.Sprintf("%X/%02X", k.RID, k.Index) }

// AppendCAKeyID appends the selector of a download: 9F06 and 9F22.
func AppendCAKeyID(dst []byte, k CAKeyID) []byte {
	return AppendTLV(AppendTLV(dst, 0x9F06, k.RID[:]), 0x9F22, []byte{k.Index})
}

// ParseCAKeyID reads the selector of a download; objects behind it are passed
// over.
func ParseCAKeyID(de62 []byte) (CAKeyID, error) {
	rid, ok := FindTLV(de62, 0x9F06)
	index, also := FindTLV(de62, 0x9F22)
	if !ok || !also || len(rid) != 5 || len(index) != 1 {
		return CAKeyID{}, fmt.Errorf("%w: want 9F06 of 5 bytes and 9F22 of 1", ErrDownload)
	}
	return CAKeyID{[5]byte(rid), index[0]}, nil
}

// CAKeyRef is one key in the list of CA keys.
type CAKeyRef struct {
	CAKeyID
	Expires string // YYYYMMDD
}

// AppendCAKeyRef appends an entry of the list, 23 bytes: 9F06, 9F22 and DF05
// in eight characters.
func AppendCAKeyRef(dst []byte, k CAKeyRef) []byte {
	return AppendTLV(AppendCAKeyID(dst, k.CAKeyID), 0xDF05, []byte(k.Expires))
}

// ParseCAKeyRefs reads the entries of a page behind its flag. DF05 is also
// read as four bytes of BCD.
func ParseCAKeyRefs(b []byte) ([]CAKeyRef, error) {
	var out []CAKeyRef
	for len(b) > 0 {
		id, rest, err := takeTLV(b, 0x9F06)
		index, rest, err2 := takeTLV(rest, 0x9F22)
		date, rest, err3 := takeTLV(rest, 0xDF05)
		if err := errors.Join(err, err2, err3); err != nil {
			return nil, err
		}
		expires, err := dateText(date)
		if err != nil || len(id) != 5 || len(index) != 1 {
			return nil, fmt.Errorf("%w: entry %d of the CA keys: want 9F06 of 5 bytes, 9F22 of 1, DF05 of 8 or 4", ErrDownload, len(out)+1)
		}
		out = append(out, CAKeyRef{CAKeyID{[5]byte(id), index[0]}, expires})
		b = rest
	}
	return out, nil
}

// takeTLV takes the object at the start of b, which must have the tag.
func takeTLV(b []byte, tag uint32) (value, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, fmt.Errorf("%w: tag %X is missing", ErrDownload, tag)
	}
	t, n, err := readTLV(b, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDownload, err)
	}
	if t.Tag != tag {
		return nil, nil, fmt.Errorf("%w: tag %X where %X is wanted", ErrDownload, t.Tag, tag)
	}
	return t.Value, b[n:], nil
}

func dateText(b []byte) (string, error) {
	if len(b) == 4 {
		b = hex.AppendEncode(nil, b)
	}
	if len(b) != 8 || !digitsOnly(b) {
		return "", fmt.Errorf("%w: DF05 is not a date YYYYMMDD", ErrDownload)
	}
	return string(b), nil
}

// CAKey is a CA public key as a terminal downloads it.
type CAKey struct {
	CAKeyID
	Expires   string // DF05, YYYYMMDD
	HashAlg   byte   // DF06, 1 SHA-1
	KeyAlg    byte   // DF07, 1 RSA
	Modulus   []byte // DF02
	Exponent  []byte // DF04, 03 or 010001
	CheckHash [20]byte
}

// Digest is what CheckHash (DF03) must be: SHA-1 over RID, index, modulus and
// exponent (EMV book 2, 11.2.2).
func (k *CAKey) Digest() [20]byte {
	h := sha1.New()
	for _, b := range [...][]byte{k.RID[:], {k.Index}, k.Modulus, k.Exponent} {
		_, _ = h.Write(b) // a hash takes everything
	}
	return [20]byte(h.Sum(nil))
}

// Append appends the objects of k: 9F06 9F22 DF05 DF06 DF07 DF02 DF04 DF03.
func (k *CAKey) Append(dst []byte) []byte {
	dst = AppendCAKeyRef(dst, CAKeyRef{k.CAKeyID, k.Expires})
	dst = AppendTLV(dst, 0xDF06, []byte{k.HashAlg})
	dst = AppendTLV(dst, 0xDF07, []byte{k.KeyAlg})
	dst = AppendTLV(dst, 0xDF02, k.Modulus)
	dst = AppendTLV(dst, 0xDF04, k.Exponent)
	return AppendTLV(dst, 0xDF03, k.CheckHash[:])
}

// ParseCAKey reads the objects of a key in any order. It does not compare the
// hash; that is for who trusts the key: Digest.
func ParseCAKey(b []byte) (k CAKey, err error) {
	if k.CAKeyID, err = ParseCAKeyID(b); err != nil {
		return CAKey{}, err
	}
	seen := 0
	for t, err := range WalkTLV(b) {
		if err != nil {
			return CAKey{}, fmt.Errorf("%w: %w", ErrDownload, err)
		}
		wrong := false
		switch t.Tag {
		case 0xDF05:
			k.Expires, err = dateText(t.Value)
			wrong = err != nil
		case 0xDF06, 0xDF07:
			if wrong = len(t.Value) != 1; wrong {
				break
			}
			if t.Tag == 0xDF06 {
				k.HashAlg = t.Value[0]
			} else {
				k.KeyAlg = t.Value[0]
			}
		case 0xDF02:
			k.Modulus = bytes.Clone(t.Value)
			wrong = len(t.Value) == 0
		case 0xDF04:
			k.Exponent = bytes.Clone(t.Value)
			wrong = len(t.Value) == 0
		case 0xDF03:
			wrong = copy(k.CheckHash[:], t.Value) != 20 || len(t.Value) != 20
		default:
			continue
		}
		if wrong {
			return CAKey{}, fmt.Errorf("%w: CA key %s: tag %X with %d bytes", ErrDownload, k.CAKeyID, t.Tag, len(t.Value))
		}
		seen |= 1 << (t.Tag & 7)
	}
	if seen != 1<<2|1<<3|1<<4|1<<5|1<<6|1<<7 {
		return CAKey{}, fmt.Errorf("%w: CA key %s: want DF02 to DF07, all of them", ErrDownload, k.CAKeyID)
	}
	return k, nil
}

// AppendAID appends an entry of the list of applications, which is also the
// selector of a download: 9F06.
func AppendAID(dst, aid []byte) []byte { return AppendTLV(dst, 0x9F06, aid) }

// ParseAID reads the selector of a download: 5 to 16 bytes (ISO 7816-4).
func ParseAID(de62 []byte) ([]byte, error) {
	aid, ok := FindTLV(de62, 0x9F06)
	if !ok || len(aid) < 5 || len(aid) > 16 {
		return nil, fmt.Errorf("%w: want 9F06 of 5 to 16 bytes", ErrDownload)
	}
	return aid, nil
}

// ParseAIDs reads the entries of a page behind its flag.
func ParseAIDs(b []byte) ([][]byte, error) {
	var out [][]byte
	for len(b) > 0 {
		aid, rest, err := takeTLV(b, 0x9F06)
		if err != nil {
			return nil, err
		}
		if len(aid) < 5 || len(aid) > 16 {
			return nil, fmt.Errorf("%w: entry %d of the applications has %d bytes, want 5 to 16", ErrDownload, len(out)+1, len(aid))
		}
		out = append(out, bytes.Clone(aid))
		b = rest
	}
	return out, nil
}

// Application is what a terminal must know of one chip application. Amounts
// are fen.
type Application struct {
	AID               []byte
	Exact             bool    // DF01: the card's identifier must be equal; else it may go on behind this one
	Version           [2]byte // 9F08
	TACDefault        [5]byte // DF11, terminal action codes
	TACOnline         [5]byte // DF12
	TACDenial         [5]byte // DF13
	FloorLimit        int64   // 9F1B, four bytes binary
	Threshold         int64   // DF15, four bytes binary: below it a sale is picked for online at random
	MaxTarget, Target int     // DF16, DF17: percent, BCD
	DDOL              []byte  // DF14
	OnlinePIN         bool    // DF18
	ContactlessFloor  int64   // DF19: above it online
	ContactlessLimit  int64   // DF20: above it not contactless
	CVMLimit          int64   // DF21: above it a PIN
	ECashLimit        int64   // 9F7B
}

// Append appends the objects of a: 9F06 DF01 9F08 DF11 DF12 DF13 9F1B DF15
// DF16 DF17 DF14 DF18 DF19 DF20 DF21 9F7B. Numbers are cut to their fields;
// Check says whether they fit.
func (a *Application) Append(dst []byte) []byte {
	dst = AppendAID(dst, a.AID)
	dst = AppendTLV(dst, 0xDF01, []byte{bit(a.Exact)})
	dst = AppendTLV(dst, 0x9F08, a.Version[:])
	dst = AppendTLV(dst, 0xDF11, a.TACDefault[:])
	dst = AppendTLV(dst, 0xDF12, a.TACOnline[:])
	dst = AppendTLV(dst, 0xDF13, a.TACDenial[:])
	dst = AppendTLV(dst, 0x9F1B, binary.BigEndian.AppendUint32(nil, uint32(a.FloorLimit)))
	dst = AppendTLV(dst, 0xDF15, binary.BigEndian.AppendUint32(nil, uint32(a.Threshold)))
	dst = AppendTLV(dst, 0xDF16, bcd(int64(a.MaxTarget), 1))
	dst = AppendTLV(dst, 0xDF17, bcd(int64(a.Target), 1))
	dst = AppendTLV(dst, 0xDF14, a.DDOL)
	dst = AppendTLV(dst, 0xDF18, []byte{bit(a.OnlinePIN)})
	dst = AppendTLV(dst, 0xDF19, bcd(a.ContactlessFloor, 6))
	dst = AppendTLV(dst, 0xDF20, bcd(a.ContactlessLimit, 6))
	dst = AppendTLV(dst, 0xDF21, bcd(a.CVMLimit, 6))
	return AppendTLV(dst, 0x9F7B, bcd(a.ECashLimit, 6))
}

// Check refuses what Append would cut.
func (a *Application) Check() error {
	const n12 = 999_999_999_999
	for _, v := range [...]struct {
		what    string
		v, most int64
	}{
		{"floor limit", a.FloorLimit, 1<<32 - 1}, {"threshold", a.Threshold, 1<<32 - 1}, {"max target", int64(a.MaxTarget), 99}, {"target", int64(a.Target), 99},
		{"contactless floor limit", a.ContactlessFloor, n12}, {"contactless limit", a.ContactlessLimit, n12}, {"CVM limit", a.CVMLimit, n12}, {"e-cash limit", a.ECashLimit, n12},
	} {
		if v.v < 0 || v.v > v.most {
			return fmt.Errorf("spec: application %X: %s %d is not 0 to %d", a.AID, v.what, v.v, v.most)
		}
	}
	if len(a.AID) < 5 || len(a.AID) > 16 || len(a.DDOL) > 252 {
		return fmt.Errorf("spec: application %X: identifier of %d bytes, want 5 to 16, DDOL of %d, want at most 252", a.AID, len(a.AID), len(a.DDOL))
	}
	return nil
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// bcd is n in size bytes of BCD.
func bcd(n int64, size int) []byte {
	b := make([]byte, size)
	for i := size - 1; i >= 0; i-- {
		b[i] = byte(n%10) | byte(n/10%10)<<4
		n /= 100
	}
	return b
}

func fromBCD(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c>>4 > 9 || c&15 > 9 {
			return 0, false
		}
		n = n*100 + int64(c>>4)*10 + int64(c&15)
	}
	return n, true
}

// ParseApplication reads the objects of an application in any order; what is
// not there is zero, what is not known is passed over.
func ParseApplication(b []byte) (a Application, err error) {
	aid, err := ParseAID(b)
	if err != nil {
		return Application{}, err
	}
	a.AID = bytes.Clone(aid)
	for t, err := range WalkTLV(b) {
		if err != nil {
			return Application{}, fmt.Errorf("%w: %w", ErrDownload, err)
		}
		if !a.take(t) {
			return Application{}, fmt.Errorf("%w: application %X: tag %X with %d bytes", ErrDownload, a.AID, t.Tag, len(t.Value))
		}
	}
	return a, nil
}

// take puts one object into a; false when it does not fit its field.
func (a *Application) take(t TLV) bool {
	fixed := map[uint32][]byte{0x9F08: a.Version[:], 0xDF11: a.TACDefault[:], 0xDF12: a.TACOnline[:], 0xDF13: a.TACDenial[:]}
	if to, ok := fixed[t.Tag]; ok {
		return len(t.Value) == len(to) && copy(to, t.Value) > 0
	}
	amounts := map[uint32]*int64{0xDF19: &a.ContactlessFloor, 0xDF20: &a.ContactlessLimit, 0xDF21: &a.CVMLimit, 0x9F7B: &a.ECashLimit}
	if to, ok := amounts[t.Tag]; ok {
		var digits bool
		*to, digits = fromBCD(t.Value)
		return digits && len(t.Value) == 6
	}
	switch t.Tag {
	case 0xDF01, 0xDF18:
		if len(t.Value) != 1 || t.Value[0] > 1 {
			return false
		}
		if t.Tag == 0xDF01 {
			a.Exact = t.Value[0] == 1
		} else {
			a.OnlinePIN = t.Value[0] == 1
		}
	case 0x9F1B, 0xDF15:
		if len(t.Value) != 4 {
			return false
		}
		if n := int64(binary.BigEndian.Uint32(t.Value)); t.Tag == 0x9F1B {
			a.FloorLimit = n
		} else {
			a.Threshold = n
		}
	case 0xDF16, 0xDF17:
		n, digits := fromBCD(t.Value)
		if !digits || len(t.Value) != 1 {
			return false
		}
		if t.Tag == 0xDF16 {
			a.MaxTarget = int(n)
		} else {
			a.Target = int(n)
		}
	case 0xDF14:
		a.DDOL = bytes.Clone(t.Value)
	}
	return true
}

// WalkParameters walks terminal parameters or status (360, 362): tags of two
// digits, values of the length that the tag has. It stops after the first
// error.
func WalkParameters(b []byte) iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		for o := 0; o < len(b); {
			if len(b)-o < 2 {
				yield(Element{}, fmt.Errorf("%w: byte %d: half a tag", ErrDownload, o))
				return
			}
			t, known := parameterTags[string(b[o:o+2])]
			if end := o + 2 + t.size; !known || end > len(b) {
				yield(Element{}, fmt.Errorf("%w: byte %d: want a parameter's tag and its value", ErrDownload, o))
				return
			}
			if !yield(Element{string(b[o : o+2]), b[o+2 : o+2+t.size : o+2+t.size]}, nil) {
				return
			}
			o += 2 + t.size
		}
	}
}

// AppendParameter appends a parameter from its text: the merchant's name (22)
// and telephone numbers (14 to 17) are filled up with blanks, a name that is
// too long is cut between two characters; the mask of open transactions (26)
// is eight hex digits; every other value has exactly its length in digits.
func AppendParameter(dst []byte, tag, text string) ([]byte, error) {
	t, known := parameterTags[tag]
	if !known {
		return dst, fmt.Errorf("spec: parameter %q is not one of 11 to 27 and 51", tag)
	}
	var v []byte
	switch tag {
	case "22":
		v = padded(cutGBK(text, t.size), t.size)
	case "14", "15", "16", "17":
		if v = padded([]byte(text), t.size); len(v) > t.size || strings.Trim(text, "0123456789,-PWpw ") != "" {
			return dst, fmt.Errorf("spec: parameter %s: a telephone number has at most %d digits", tag, t.size)
		}
	case "26":
		var err error
		if v, err = hex.DecodeString(text); err != nil || len(v) != t.size {
			return dst, fmt.Errorf("spec: parameter 26: the mask of open transactions has %d hex digits", 2*t.size)
		}
	default:
		if v = []byte(text); len(v) != t.size || !digitsOnly(v) {
			return dst, fmt.Errorf("spec: parameter %s: want %d digits", tag, t.size)
		}
	}
	return append(append(dst, tag...), v...), nil
}

// ParameterText is the reverse of AppendParameter for a walked element.
func ParameterText(e Element) string {
	switch e.Tag {
	case "26":
		return strings.ToUpper(hex.EncodeToString(e.Value))
	case "22":
		if s, ok := gbkText(e.Value); ok {
			return strings.TrimRight(s, " ")
		}
	}
	return strings.TrimRight(string(e.Value), " ")
}

func padded(b []byte, size int) []byte {
	for len(b) < size {
		b = append(b, ' ')
	}
	return b
}

// cutGBK is s in GBK, of as many whole characters as size bytes hold; what GBK
// lacks becomes a question mark.
func cutGBK(s string, size int) []byte {
	var out []byte
	e := simplifiedchinese.GBK.NewEncoder()
	for _, r := range s {
		c := []byte{'?'}
		if r >= ' ' && r != 0x7f && r != utf8.RuneError {
			if g, err := e.Bytes([]byte(string(r))); err == nil {
				c = g
			}
		}
		if len(out)+len(c) > size {
			break
		}
		out = append(out, c...)
	}
	return out
}

// The tags of contactless limits (394). The other tags that are seen, FF8055
// to FF8057, FF805A, FF805D, FF803A and FF803C, pass through as they are.
const (
	LimitNoPIN       = "FF8058" // fen in twelve digits
	LimitNoSignature = "FF8059" // fen in twelve digits
	LimitQuickPass   = "FF8054" // 1: small amounts go fast
)

// AppendLimit appends one contactless limit: a tag of six characters, three
// digits of length, the value.
func AppendLimit(dst []byte, tag, value string) ([]byte, error) {
	if len(tag) != 6 || len(value) > 999 {
		return dst, fmt.Errorf("spec: limit %q with %d bytes, want a tag of six characters and at most 999", tag, len(value))
	}
	return append(appendDecimal(append(dst, tag...), len(value), 3), value...), nil
}

// LimitFen is an amount as a limit carries it.
func LimitFen(fen int64) string { return string(appendDecimal(nil, int(fen), 12)) }

// WalkLimits walks contactless limits. It stops after the first error.
func WalkLimits(b []byte) iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		for o := 0; o < len(b); {
			n := -1
			if len(b)-o >= 9 {
				n = ASCIILLL.read(b[o+6 : o+9])
			}
			if n < 0 || o+9+n > len(b) {
				yield(Element{}, fmt.Errorf("%w: byte %d: want a tag of 6, a length of 3 and the value", ErrDownload, o))
				return
			}
			if !yield(Element{string(b[o : o+6]), b[o+9 : o+9+n : o+9+n]}, nil) {
				return
			}
			o += 9 + n
		}
	}
}

// MaxBlackListPage is how many entries a page of the black list has at most:
// so many card numbers fit in DE 62.
const MaxBlackListPage = 47

// AppendBlackList appends a page: its flag, the count, and the entries, each 4
// to 12 digits of the beginning of card numbers or a whole number of 13 to 19.
// What is wrong is not repeated in the error.
func AppendBlackList(dst []byte, flag PageFlag, entries []string) ([]byte, error) {
	if len(entries) > MaxBlackListPage {
		return dst, fmt.Errorf("spec: black list: %d entries on a page, want at most %d", len(entries), MaxBlackListPage)
	}
	dst = appendDecimal(append(dst, byte(flag)), len(entries), 2)
	for i, e := range entries {
		if len(e) < 4 || len(e) > 19 || !digitsOnly([]byte(e)) {
			return dst, fmt.Errorf("spec: black list: entry %d is not 4 to 19 digits", i+1)
		}
		dst = append(appendDecimal(dst, len(e), 2), e...)
	}
	return dst, nil
}

// ParseBlackList reads a page.
func ParseBlackList(de62 []byte) (PageFlag, []string, error) {
	flag, b, err := CutPage(de62)
	if err != nil {
		return 0, nil, err
	}
	if flag == PageNothing && len(b) == 0 {
		return flag, nil, nil
	}
	if len(b) < 2 || !digitsOnly(b[:2]) {
		return 0, nil, fmt.Errorf("%w: black list: want a count of two digits", ErrDownload)
	}
	count, b := decimal(b[:2]), b[2:]
	var out []string
	for len(b) > 0 {
		e, n := blackListEntry(b)
		if n == 0 {
			return 0, nil, fmt.Errorf("%w: black list: entry %d is not a length and 4 to 19 digits", ErrDownload, len(out)+1)
		}
		out = append(out, string(e))
		b = b[n:]
	}
	if len(out) != count {
		return 0, nil, fmt.Errorf("%w: black list: %d entries, but the count says %d", ErrDownload, len(out), count)
	}
	return flag, out, nil
}

// blackListEntry takes the entry at the start of b; 0 when there is none.
func blackListEntry(b []byte) (digits []byte, n int) {
	if len(b) < 2 || !digitsOnly(b[:2]) {
		return nil, 0
	}
	size := decimal(b[:2])
	if size < 4 || size > 19 || len(b) < 2+size || !digitsOnly(b[2:2+size]) {
		return nil, 0
	}
	return b[2 : 2+size], 2 + size
}

// blackListParts shows a page; whole card numbers are hidden.
func blackListParts(b []byte) []de62Part {
	if len(b) < 3 || !digitsOnly(b[:3]) {
		return nil
	}
	out := []de62Part{{tag: "1", name: "标志 flag", to: 1, text: true}, {tag: "2", name: "数量 count", from: 1, to: 3, text: true}}
	for o := 3; o < len(b); {
		e, n := blackListEntry(b[o:])
		if n == 0 {
			return out // the rest is hidden
		}
		name := "卡号开头 beginning of card numbers"
		if len(e) > 12 {
			name = "卡号 card number"
		}
		out = append(out, de62Part{tag: fmt.Sprint(len(out) + 1), name: name, from: o + 2, to: o + n, secret: len(e) > 12, text: true})
		o += n
	}
	return out
}

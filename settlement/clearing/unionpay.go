package clearing

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/simplifiedchinese"

	"acquirer/money"
)

// UnionPay's files for merchants: INN...ZM_... holds what was cleared,
// INN...ZME_... what went wrong with it (差错). Fixed width, GBK, one separator
// byte between fields, no header and no trailer.

// field is one of a fixed-width line.
type field struct {
	name  string
	width int // bytes in GBK
}

// The fields of a ZM line: 566 bytes and 41 separators. Files of before 2017
// have one reserved field of 131 in the place of the last two.
var zmFields = []field{
	{"transaction code", 3}, {"acquirer", 11}, {"sender", 11}, {"trace", 6}, {"time", 10}, {"account", 19}, {"amount", 12}, {"mcc", 4},
	{"terminal type", 2}, {"query id", 21}, {"old pay type", 2}, {"order", 32}, {"card type", 2}, {"original trace", 6}, {"original time", 10},
	{"merchant fee", 13}, {"settle amount", 13}, {"pay type", 4}, {"group merchant", 15}, {"transaction type", 2}, {"sub type", 2},
	{"business type", 6}, {"account type", 2}, {"bill type", 4}, {"bill number", 32}, {"interaction", 1}, {"original query id", 21},
	{"merchant", 15}, {"split mode", 1}, {"sub-merchant", 15}, {"sub-merchant name", 32}, {"sub-merchant amount", 13}, {"net settlement", 13},
	{"terminal", 8}, {"merchant's own", 32}, {"discount", 13}, {"invoice", 13}, {"instalment fee", 12}, {"instalments", 2}, {"medium", 1},
	{"original order", 32}, {"reserved", 98},
}

// The fields of a ZME line: 318 bytes and 21 separators.
var zmeFields = []field{
	{"transaction code", 3}, {"acquirer", 11}, {"sender", 11}, {"trace", 6}, {"time", 10}, {"account", 19}, {"amount", 12}, {"mcc", 4},
	{"terminal type", 2}, {"card type", 2}, {"original trace", 6}, {"original time", 10}, {"reason", 4}, {"transfer fee", 12},
	{"merchant fee", 13}, {"settle amount", 13}, {"group merchant", 15}, {"merchant", 15}, {"split mode", 1}, {"original amount", 12},
	{"pay type", 2}, {"reserved", 135},
}

// zmOldReserved is the last field of older ZM files, which have 41.
const zmOldReserved = 131

// Places of the fields that are read.
const (
	zmAcquirer                                   = 1
	zmTrace, zmTime, zmPAN, zmAmount             = 3, 4, 5, 6
	zmOrder, zmFee, zmSettle, zmType, zmMerchant = 11, 15, 16, 19, 27
	zmNet, zmTerminal, zmOriginalOrder           = 32, 33, 40

	zmeCode, zmeTrace, zmeTime, zmePAN, zmeAmount     = 0, 3, 4, 5, 6
	zmeOrigTrace, zmeOrigTime, zmeReason, zmeTransfer = 10, 11, 12, 13
	zmeFee, zmeSettle, zmeMerchant, zmeOrigAmount     = 14, 15, 17, 19
	zmeReserved                                       = 21
)

// zmKinds are the transaction types of a ZM file that move money.
var zmKinds = map[string]Kind{"01": Sale, "03": Sale, "04": Refund, "31": Void, "33": Void, "98": Adjust, "99": Reversal}

var zmTypes = map[Kind]string{Sale: "01", Refund: "04", Void: "31", Adjust: "98", Reversal: "99"}

// separator stands between two fields.
const separator = ' '

// fixed reads lines of fixed-width fields.
type fixed struct {
	in    *bufio.Reader
	gbk   interface{ String(string) (string, error) }
	line  int
	err   error
	begin []int // column of each field of the line read last
}

func newFixed(r io.Reader) *fixed {
	return &fixed{in: bufio.NewReaderSize(r, 1024), gbk: simplifiedchinese.GBK.NewDecoder()}
}

func (f *fixed) wrong(column int, format string, args ...any) error {
	f.err = &Error{Line: f.line, Column: column, What: fmt.Sprintf(format, args...)}
	return f.err
}

// next reads a line into its fields, without the blanks that fill them;
// io.EOF at the end. The layout is asked for by the line.
func (f *fixed) next(layout func(line []byte) []field) ([]string, error) {
	if f.err != nil {
		return nil, f.err
	}
	f.line++
	b, err := f.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, f.wrong(len(b), "the line is longer than %d bytes", len(b))
	case errors.Is(err, io.EOF) && len(b) == 0:
		f.err = io.EOF
		return nil, io.EOF
	case err != nil && !errors.Is(err, io.EOF):
		f.err = fmt.Errorf("clearing: line %d: %w", f.line, err)
		return nil, f.err
	case err != nil:
		return nil, f.wrong(len(b)+1, "the line ends without a line feed: the file was cut off")
	}
	b = b[:len(b)-1]
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	fields := layout(b)
	if fields == nil {
		return nil, f.wrong(len(b)+1, "a line of %d bytes is of no known layout", len(b))
	}
	out := make([]string, len(fields))
	f.begin = make([]int, len(fields))
	at := 0
	for i, d := range fields {
		f.begin[i] = at + 1
		raw := string(b[at : at+d.width])
		at += d.width
		if i < len(fields)-1 {
			if first := b[fields[0].width]; b[at] != first || !separates(first) {
				return nil, f.wrong(at+1, "byte %#02x stands where %s ends and %s begins: the columns are displaced", b[at], d.name, fields[i+1].name)
			}
			at++
		}
		text, err := f.gbk.String(raw)
		if err != nil || strings.ContainsFunc(text, func(r rune) bool { return r == '�' || r < ' ' }) {
			return nil, f.wrong(f.begin[i], "%s is not GBK text", d.name)
		}
		out[i] = strings.TrimSpace(text)
	}
	return out, nil
}

func (f *fixed) digits(fields []string, i int, d field) (uint64, error) {
	if fields[i] == "" {
		return 0, nil
	}
	v, err := strconv.ParseUint(fields[i], 10, 63)
	if err != nil || v > mostFen {
		return 0, f.wrong(f.begin[i], "%s %q is not a number", d.name, fields[i])
	}
	return v, nil
}

// signed reads C or D and digits: C is money for the merchant.
func (f *fixed) signed(fields []string, i int, d field) (money.Amount, error) {
	s := fields[i]
	if s == "" {
		return 0, nil
	}
	v, err := strconv.ParseUint(s[1:], 10, 63)
	if err != nil || v > mostFen || s[0] != 'C' && s[0] != 'D' {
		return 0, f.wrong(f.begin[i], "%s %q is not C or D and digits", d.name, s)
	}
	if s[0] == 'D' {
		return -money.Amount(v), nil
	}
	return money.Amount(v), nil
}

func lineLength(fields []field) int {
	n := len(fields) - 1
	for _, f := range fields {
		n += f.width
	}
	return n
}

var (
	zmOldFields = append(append([]field{}, zmFields[:40]...), field{"reserved", zmOldReserved})
	zmLength    = lineLength(zmFields)
)

// zmLayout knows both layouts, which have one length: the older reserved field
// holds the newer two and what is between them.
func zmLayout(b []byte) []field {
	switch {
	case len(b) != zmLength:
		return nil
	case b[zmLength-1-zmFields[41].width] != b[zmFields[0].width]:
		return zmOldFields
	}
	return zmFields
}

// separates reports whether a byte may stand between fields.
func separates(b byte) bool {
	return b == ' ' || b == '|' || b == ',' || b == '\t' || b == 0x1f
}

// ReadZM yields the movements of a ZM file. Our RRN is the order number;
// what moves no money (a pre-authorisation) is left out. An error is the last
// thing it yields, and so is a line of another acquirer than ours, which "" does
// not look at.
func ReadZM(r io.Reader, acquirer string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		in := newFixed(r)
		for {
			f, err := in.next(zmLayout)
			if errors.Is(err, io.EOF) {
				return
			}
			var rec Record
			if err == nil && acquirer != "" && f[zmAcquirer] != "" && !sameInstitution(f[zmAcquirer], acquirer) {
				err = in.wrong(in.begin[zmAcquirer], "the line is acquirer %s's, and we are %s (switch.acquirer)", f[zmAcquirer], acquirer)
			}
			if err == nil {
				rec, err = in.zm(f)
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			if rec.Kind != "" && !yield(rec, nil) {
				return
			}
		}
	}
}

func (f *fixed) zm(s []string) (rec Record, err error) {
	kind, moves := zmKinds[s[zmType]]
	if !moves {
		if s[zmType] == "02" || s[zmType] == "32" { // a pre-authorisation and its void
			return Record{}, nil
		}
		return Record{}, f.wrong(f.begin[zmType], "transaction type %q is not known", s[zmType])
	}
	original := ""
	if len(s) == len(zmFields) {
		original = s[zmOriginalOrder]
	}
	rec = Record{Line: f.line, Kind: kind, RRN: s[zmOrder], Original: original, Sent: s[zmTime], PAN: s[zmPAN], Terminal: s[zmTerminal], Merchant: s[zmMerchant]}
	if rec.RRN == "" {
		return rec, f.wrong(f.begin[zmOrder], "the order number is empty")
	}
	stan, err := f.digits(s, zmTrace, zmFields[zmTrace])
	if err != nil {
		return rec, err
	}
	rec.STAN = uint32(stan)
	amount, err := f.digits(s, zmAmount, zmFields[zmAmount])
	if err != nil {
		return rec, err
	}
	settle, err := f.signed(s, zmSettle, zmFields[zmSettle])
	if err != nil {
		return rec, err
	}
	fee, err := f.signed(s, zmFee, zmFields[zmFee])
	if err != nil {
		return rec, err
	}
	if rec.Net, err = f.signed(s, zmNet, zmFields[zmNet]); err != nil {
		return rec, err
	}
	rec.Amount, rec.IssuerFee = settle, -fee // D: the merchant pays the fee
	if settle != money.Amount(amount) && settle != -money.Amount(amount) {
		return rec, f.wrong(f.begin[zmSettle], "settle amount %s and amount %s differ", settle, money.Amount(amount))
	}
	if err := rec.check(); err != nil {
		return rec, f.wrong(f.begin[zmNet], "%v", err)
	}
	return rec, nil
}

// fixedWriter writes fixed-width lines in GBK.
type fixedWriter struct {
	w   *bufio.Writer
	gbk interface{ String(string) (string, error) }
}

func newFixedWriter(w io.Writer) *fixedWriter {
	return &fixedWriter{w: bufio.NewWriter(w), gbk: simplifiedchinese.GBK.NewEncoder()}
}

// write fills fields that are given and leaves the others blank.
func (w *fixedWriter) write(layout []field, values map[int]string) error {
	for i, d := range layout {
		text, err := w.gbk.String(values[i])
		if err != nil {
			return fmt.Errorf("clearing: %s %q cannot be written in GBK", d.name, values[i])
		}
		if len(text) > d.width {
			return fmt.Errorf("clearing: %s %q is longer than %d bytes", d.name, values[i], d.width)
		}
		if i > 0 {
			if err := w.w.WriteByte(separator); err != nil {
				return err
			}
		}
		if _, err := w.w.WriteString(text + strings.Repeat(" ", d.width-len(text))); err != nil {
			return err
		}
	}
	return w.w.WriteByte('\n')
}

func creditDebit(a money.Amount) string {
	if a < 0 {
		return fmt.Sprintf("D%012d", -a.Fen())
	}
	return fmt.Sprintf("C%012d", a.Fen())
}

func magnitude(a money.Amount) money.Amount { return max(a, -a) }

// ZM writes a ZM file.
type ZM struct {
	out      *fixedWriter
	acquirer string
}

// NewZM writes to w; acquirer is the institution code of every line.
func NewZM(w io.Writer, acquirer string) *ZM { return &ZM{newFixedWriter(w), acquirer} }

// Write adds a record. The file has one fee: the sum of the record's.
func (z *ZM) Write(r Record, mcc string) error {
	r.Net = r.Amount - r.Fee()
	if err := r.check(); err != nil {
		return fmt.Errorf("clearing: record %s: %w", r.RRN, err)
	}
	return z.out.write(zmFields, map[int]string{
		0: "S22", 1: z.acquirer, 2: z.acquirer, zmTrace: fmt.Sprintf("%06d", r.STAN), zmTime: r.Sent, zmPAN: r.PAN,
		zmAmount: fmt.Sprintf("%012d", magnitude(r.Amount).Fen()), 7: mcc, 8: "01", zmOrder: r.RRN, zmFee: creditDebit(-r.Fee()), zmSettle: creditDebit(r.Amount),
		zmType: zmTypes[r.Kind], zmMerchant: r.Merchant, zmNet: creditDebit(r.Net), zmTerminal: r.Terminal, zmOriginalOrder: r.Original,
	})
}

// Close writes what is still in memory. A ZM file has no trailer.
func (z *ZM) Close() error { return z.out.w.Flush() }

// ErrorKind is what a line of an error file is about.
type ErrorKind string

// The kinds of an error file, by the transaction codes that stand for them
// here (docs/clearing.md).
const (
	Retrieval        ErrorKind = "retrieval"         // 调单: the issuer asks for the slip
	Chargeback       ErrorKind = "chargeback"        // 一次退单
	Representment    ErrorKind = "representment"     // 再请款, by us
	SecondChargeback ErrorKind = "second_chargeback" // 二次退单
	PreArbitration   ErrorKind = "pre_arbitration"
	Arbitration      ErrorKind = "arbitration"   // its ruling; the settle amount says who won
	CreditAdjust     ErrorKind = "credit_adjust" // 贷记调整: money that we gave back
	Claim            ErrorKind = "claim"         // 请款: money that we asked for
)

var errorCodes = map[string]ErrorKind{"E01": Retrieval, "E02": Chargeback, "E03": Representment, "E04": SecondChargeback, "E05": PreArbitration,
	"E06": Arbitration, "E07": CreditAdjust, "E08": Claim}

// ErrorItem is a line of a ZME file.
type ErrorItem struct {
	Line         int
	Kind         ErrorKind
	STAN         uint32 // of the error item itself
	Sent         string // MMDDhhmmss
	PAN          string // masked
	Amount       money.Amount
	OriginalSTAN uint32 // DE 11 of the sale towards the issuer
	OriginalSent string // DE 7 of it
	OriginalRRN  string // DE 37 of it, where the network passes it on in the reserved field
	Reason       string // four characters
	Fee          money.Amount
	Settle       money.Amount // what moves on the acquirer's account: below zero is taken
	Merchant     string
}

func zmeLayout(b []byte) []field {
	if len(b) == lineLength(zmeFields) {
		return zmeFields
	}
	return nil
}

// ReadZME yields the lines of a ZME file. An error is the last thing it yields.
func ReadZME(r io.Reader) iter.Seq2[ErrorItem, error] {
	return func(yield func(ErrorItem, error) bool) {
		in := newFixed(r)
		for {
			f, err := in.next(zmeLayout)
			if errors.Is(err, io.EOF) {
				return
			}
			var item ErrorItem
			if err == nil {
				item, err = in.zme(f)
			}
			if err != nil {
				yield(ErrorItem{}, err)
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

func (f *fixed) zme(s []string) (e ErrorItem, err error) {
	kind, known := errorCodes[s[zmeCode]]
	if !known {
		return e, f.wrong(f.begin[zmeCode], "transaction code %q is not known", s[zmeCode])
	}
	e = ErrorItem{Line: f.line, Kind: kind, Sent: s[zmeTime], PAN: s[zmePAN], OriginalSent: s[zmeOrigTime], Reason: s[zmeReason], Merchant: s[zmeMerchant]}
	if rrn, ok := strings.CutPrefix(s[zmeReserved], "RRN="); ok {
		e.OriginalRRN = rrn
	}
	for i, at := range []int{zmeTrace, zmeOrigTrace, zmeAmount, zmeTransfer} {
		v, err := f.digits(s, at, zmeFields[at])
		if err != nil {
			return e, err
		}
		switch i {
		case 0:
			e.STAN = uint32(v)
		case 1:
			e.OriginalSTAN = uint32(v)
		case 2:
			e.Amount = money.Amount(v)
		case 3:
			e.Fee = money.Amount(v)
		}
	}
	for _, at := range []int{zmeTime, zmeOrigTime} {
		if len(s[at]) != 10 || strings.Trim(s[at], "0123456789") != "" {
			return e, f.wrong(f.begin[at], "%s %q is not MMDDhhmmss", zmeFields[at].name, s[at])
		}
	}
	if e.Amount == 0 {
		return e, f.wrong(f.begin[zmeAmount], "the amount is zero")
	}
	e.Settle, err = f.signed(s, zmeSettle, zmeFields[zmeSettle])
	return e, err
}

// ZME writes a ZME file.
type ZME struct {
	out      *fixedWriter
	acquirer string
}

// NewZME writes to w; acquirer is the institution code of every line.
func NewZME(w io.Writer, acquirer string) *ZME { return &ZME{newFixedWriter(w), acquirer} }

// Write adds an item.
func (z *ZME) Write(e ErrorItem) error {
	code := ""
	for c, k := range errorCodes {
		if k == e.Kind {
			code = c
		}
	}
	if code == "" || e.Amount <= 0 || e.Fee < 0 {
		return fmt.Errorf("clearing: error item of kind %q, amount %s, fee %s", e.Kind, e.Amount, e.Fee)
	}
	reserved := ""
	if e.OriginalRRN != "" {
		reserved = "RRN=" + e.OriginalRRN
	}
	return z.out.write(zmeFields, map[int]string{
		zmeCode: code, 1: z.acquirer, 2: z.acquirer, zmeTrace: fmt.Sprintf("%06d", e.STAN), zmeTime: e.Sent, zmePAN: e.PAN,
		zmeAmount: fmt.Sprintf("%012d", e.Amount.Fen()), zmeOrigTrace: fmt.Sprintf("%06d", e.OriginalSTAN), zmeOrigTime: e.OriginalSent, zmeReason: e.Reason,
		zmeTransfer: fmt.Sprintf("%012d", e.Fee.Fen()), zmeSettle: creditDebit(e.Settle), zmeMerchant: e.Merchant,
		zmeOrigAmount: fmt.Sprintf("%012d", e.Amount.Fen()), zmeReserved: reserved,
	})
}

// Close writes what is still in memory.
func (z *ZME) Close() error { return z.out.w.Flush() }

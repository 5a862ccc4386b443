package clearing

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"strconv"
	"strings"

	"acquirer/calendar"
	"acquirer/money"
)

// NETWORK-CLEAR v1: a header, details and a trailer, one a line, fields
// between bars, printable ASCII, each line ended by one line feed. Amounts are
// whole fen.
//
//	H|NETWORK-CLEAR|1|source|acquirer|YYYY-MM-DD
//	D|number|kind|rrn|original|stan|sent|pan|terminal|merchant|approval|amount|issuer fee|network fee|brand fee|net
//	T|count|amount|issuer fee|network fee|brand fee|net|SHA-256 of every byte before this line
const (
	magic   = "NETWORK-CLEAR"
	version = "1"
	maxLine = 512 // bytes of a line, its line feed included
)

// detail names the fields of a D line, with the most bytes each may have.
var detail = [...]struct {
	name string
	most int
}{
	{"record type", 1}, {"number", 9}, {"kind", 8}, {"rrn", 12}, {"original", 12}, {"stan", 6}, {"sent", 10}, {"pan", 19}, {"terminal", 8},
	{"merchant", 15}, {"approval", 6}, {"amount", 16}, {"issuer fee", 16}, {"network fee", 16}, {"brand fee", 16}, {"net", 16},
}

// Writer writes a NETWORK-CLEAR file. Nothing is valid before Close wrote the
// trailer.
type Writer struct {
	w      *bufio.Writer
	sum    hash.Hash
	totals Totals
	over   bool
}

// NewWriter writes the header. Source and acquirer must be plain.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	if !h.Date.Valid() {
		return nil, fmt.Errorf("clearing: %d is not a date", h.Date)
	}
	out := &Writer{sum: sha256.New()}
	out.w = bufio.NewWriter(io.MultiWriter(w, out.sum))
	return out, out.line("H", magic, version, h.Source, h.Acquirer, h.Date.String())
}

func (w *Writer) line(fields ...string) error {
	for _, f := range fields {
		if strings.ContainsFunc(f, func(r rune) bool { return r < ' ' || r > '~' || r == '|' }) {
			return fmt.Errorf("clearing: %q cannot stand between bars", f)
		}
	}
	_, err := w.w.WriteString(strings.Join(fields, "|") + "\n")
	return err
}

// Write adds a record; its Line and Net are the writer's to say.
func (w *Writer) Write(r Record) error {
	if w.over {
		return ErrOpen
	}
	var err error
	if r.Net, err = money.Sum(r.Amount, -r.IssuerFee, -r.NetworkFee, -r.BrandFee); err != nil {
		return fmt.Errorf("clearing: record %s: %w", r.RRN, err)
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("clearing: record %s: %w", r.RRN, err)
	}
	for i, fee := range r.fees() {
		if opposite(fee, r.Amount) {
			return fmt.Errorf("clearing: record %s: %s %s of an amount of %s: a fee has the sign of its amount", r.RRN, detail[12+i].name, fee, r.Amount)
		}
	}
	if err := w.totals.Add(&r); err != nil {
		return fmt.Errorf("clearing: adding record %s up: %w", r.RRN, err)
	}
	fen := func(a money.Amount) string { return strconv.FormatInt(a.Fen(), 10) }
	fields := []string{"D", strconv.Itoa(w.totals.Count), string(r.Kind), r.RRN, r.Original, fmt.Sprintf("%06d", r.STAN), r.Sent, r.PAN, r.Terminal,
		r.Merchant, r.Approval, fen(r.Amount), fen(r.IssuerFee), fen(r.NetworkFee), fen(r.BrandFee), fen(r.Net)}
	for i, f := range fields {
		if len(f) > detail[i].most {
			return fmt.Errorf("clearing: record %s: %s %q is longer than %d", r.RRN, detail[i].name, f, detail[i].most)
		}
	}
	return w.line(fields...)
}

// Close writes the trailer. It does not close what it writes to.
func (w *Writer) Close() (Totals, error) {
	if w.over {
		return Totals{}, ErrOpen
	}
	w.over = true
	if err := w.w.Flush(); err != nil {
		return Totals{}, err
	}
	t, fen := w.totals, func(a money.Amount) string { return strconv.FormatInt(a.Fen(), 10) }
	if err := w.line("T", strconv.Itoa(t.Count), fen(t.Amount), fen(t.IssuerFee), fen(t.NetworkFee), fen(t.BrandFee), fen(t.Net), hex.EncodeToString(w.sum.Sum(nil))); err != nil {
		return Totals{}, err
	}
	return t, w.w.Flush()
}

// Reader reads a NETWORK-CLEAR file as a stream, in constant memory.
type Reader struct {
	in     *bufio.Reader
	header Header
	sum    hash.Hash
	line   int
	totals Totals
	done   bool
	err    error
}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	in := &Reader{in: bufio.NewReaderSize(r, maxLine), sum: sha256.New()}
	text, err := in.read()
	if errors.Is(err, io.EOF) {
		return nil, &Error{What: "the file is empty"}
	}
	if err != nil {
		return nil, err
	}
	f, at, err := in.split(text, 6)
	if err != nil {
		return nil, err
	}
	switch {
	case f[0] != "H" || f[1] != magic:
		return nil, in.wrong(1, "the file does not begin with H|%s", magic)
	case f[2] != version:
		return nil, in.wrong(at[2], "version %q is not %s", f[2], version)
	case f[3] == "" || len(f[3]) > 32:
		return nil, in.wrong(at[3], "source %q is not 1 to 32 characters", f[3])
	case len(f[4]) > 11 || strings.Trim(f[4], "0123456789") != "":
		return nil, in.wrong(at[4], "acquirer %q is not up to 11 digits", f[4])
	}
	date, err := calendar.ParseDate(f[5])
	if err != nil {
		return nil, in.wrong(at[5], "%q is not a date like 2026-11-20", f[5])
	}
	in.header = Header{Source: f[3], Acquirer: f[4], Date: date}
	return in, nil
}

// For says that the file is for another acquirer than ours, at its place in the
// first line. A file that names none, as that of a day without trade may, is
// anybody's.
func (h Header) For(acquirer string) error {
	if h.Acquirer == "" || acquirer == "" || sameInstitution(h.Acquirer, acquirer) {
		return nil
	}
	return &Error{Line: 1, Column: len("H|"+magic+"|"+version+"|"+h.Source+"|") + 1, What: fmt.Sprintf("the file is for acquirer %s, and we are %s (switch.acquirer)", h.Acquirer, acquirer)}
}

// sameInstitution compares institution codes, which some pad with zeros.
func sameInstitution(a, b string) bool {
	return strings.TrimLeft(a, "0") == strings.TrimLeft(b, "0")
}

// Header is the file's first line.
func (r *Reader) Header() Header { return r.header }

// Totals are the sums of the records read so far; after the last they are
// those of the trailer.
func (r *Reader) Totals() Totals { return r.totals }

// wrong is an Error at a column of the line read last.
func (r *Reader) wrong(column int, format string, args ...any) error {
	r.err = &Error{Line: r.line, Column: column, What: fmt.Sprintf(format, args...)}
	return r.err
}

// read takes the next line without its line feed; io.EOF at the end of the file.
func (r *Reader) read() (string, error) {
	if r.err != nil {
		return "", r.err
	}
	r.line++
	b, err := r.in.ReadSlice('\n')
	switch {
	case err == nil:
	case errors.Is(err, bufio.ErrBufferFull):
		return "", r.wrong(maxLine, "the line is longer than %d bytes", maxLine)
	case errors.Is(err, io.EOF) && len(b) == 0:
		return "", io.EOF
	case errors.Is(err, io.EOF):
		return "", r.wrong(len(b)+1, "the line ends without a line feed: the file was cut off")
	default:
		r.err = fmt.Errorf("clearing: line %d: %w", r.line, err)
		return "", r.err
	}
	if i := bytes.IndexFunc(b[:len(b)-1], func(c rune) bool { return c < ' ' || c > '~' }); i >= 0 {
		if b[i] == '\r' && i == len(b)-2 {
			return "", r.wrong(i+1, "the line ends with a carriage return and a line feed, want a line feed alone: the file was changed on its way")
		}
		return "", r.wrong(i+1, "byte %#02x is not printable ASCII", b[i])
	}
	if b[0] != 'T' {
		r.sum.Write(b)
	}
	return string(b[:len(b)-1]), nil
}

// split cuts a line at its bars and says where each field begins.
func (r *Reader) split(text string, want int) (fields []string, at []int, err error) {
	fields = strings.Split(text, "|")
	if len(fields) != want {
		return nil, nil, r.wrong(len(text)+1, "%d fields between bars, want %d", len(fields), want)
	}
	at = make([]int, want)
	column := 1
	for i, f := range fields {
		at[i] = column
		column += len(f) + 1
	}
	return fields, at, nil
}

// Records yields the records in the file's order. An error is the last thing it
// yields; without one the trailer was there and right.
func (r *Reader) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for {
			rec, more, err := r.next()
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !more || !yield(rec, nil) {
				return
			}
		}
	}
}

func (r *Reader) next() (rec Record, more bool, err error) {
	if r.done {
		return Record{}, false, r.err
	}
	text, err := r.read()
	if errors.Is(err, io.EOF) {
		return Record{}, false, r.wrong(1, "the file ends without a trailer: it was cut off")
	}
	if err != nil {
		return Record{}, false, err
	}
	if strings.HasPrefix(text, "T|") {
		return Record{}, false, r.trailer(text)
	}
	f, at, err := r.split(text, len(detail))
	if err != nil {
		return Record{}, false, err
	}
	if f[0] != "D" {
		return Record{}, false, r.wrong(1, "record type %q is neither D nor T", f[0])
	}
	for i := range f {
		if len(f[i]) > detail[i].most {
			return Record{}, false, r.wrong(at[i], "%s is longer than %d", detail[i].name, detail[i].most)
		}
	}
	if f[1] != strconv.Itoa(r.totals.Count+1) {
		return Record{}, false, r.wrong(at[1], "number %q, want %d", f[1], r.totals.Count+1)
	}
	rec = Record{Line: r.line, Kind: Kind(f[2]), RRN: f[3], Original: f[4], Sent: f[6], PAN: f[7], Terminal: f[8], Merchant: f[9], Approval: f[10]}
	if rec.RRN == "" {
		return Record{}, false, r.wrong(at[3], "the rrn is empty")
	}
	for _, i := range []int{5, 6} {
		if len(f[i]) != detail[i].most || strings.Trim(f[i], "0123456789") != "" {
			return Record{}, false, r.wrong(at[i], "%s %q is not %d digits", detail[i].name, f[i], detail[i].most)
		}
	}
	stan, err := strconv.ParseUint(f[5], 10, 32)
	if err != nil {
		return Record{}, false, r.wrong(at[5], "stan %q is not 6 digits", f[5])
	}
	rec.STAN = uint32(stan)
	for i, to := range []*money.Amount{&rec.Amount, &rec.IssuerFee, &rec.NetworkFee, &rec.BrandFee, &rec.Net} {
		if *to, err = wholeFen(f[11+i]); err != nil {
			return Record{}, false, r.wrong(at[11+i], "%s %q: %v", detail[11+i].name, f[11+i], err)
		}
	}
	if err := rec.checkKind(); err != nil {
		return Record{}, false, r.wrong(at[2], "%v", err)
	}
	if err := rec.addsUp(); err != nil {
		return Record{}, false, r.wrong(at[15], "%v", err)
	}
	for i, fee := range rec.fees() {
		if opposite(fee, rec.Amount) {
			return Record{}, false, r.wrong(at[12+i], "%s %s of an amount of %s: a fee has the sign of its amount", detail[12+i].name, fee, rec.Amount)
		}
	}
	if err := r.totals.Add(&rec); err != nil {
		return Record{}, false, r.wrong(at[11], "the sum does not fit: %v", err)
	}
	return rec, true, nil
}

// trailer compares the last line with what was read, and makes sure that
// nothing comes behind it.
func (r *Reader) trailer(text string) error {
	f, at, err := r.split(text, 8)
	if err != nil {
		return err
	}
	if f[1] != strconv.Itoa(r.totals.Count) {
		return r.wrong(at[1], "the trailer counts %s records, the file has %d", f[1], r.totals.Count)
	}
	for i, have := range []money.Amount{r.totals.Amount, r.totals.IssuerFee, r.totals.NetworkFee, r.totals.BrandFee, r.totals.Net} {
		if said, err := wholeFen(f[2+i]); err != nil || said != have {
			return r.wrong(at[2+i], "the trailer's sum of %s is %s fen, the records come to %d", detail[11+i].name, f[2+i], have.Fen())
		}
	}
	if sum := hex.EncodeToString(r.sum.Sum(nil)); f[7] != sum {
		return r.wrong(at[7], "the trailer's SHA-256 is not that of the lines before it (%s)", sum)
	}
	if _, err := r.read(); !errors.Is(err, io.EOF) {
		if err == nil || r.err == nil {
			return r.wrong(1, "something stands behind the trailer")
		}
		return err
	}
	r.done = true
	return nil
}

// fees are the record's in the order in which a line has them.
func (r *Record) fees() [3]money.Amount {
	return [3]money.Amount{r.IssuerFee, r.NetworkFee, r.BrandFee}
}

// opposite reports whether one of two sums gives and the other takes.
func opposite(a, b money.Amount) bool { return a < 0 && b > 0 || a > 0 && b < 0 }

// mostFen is a quadrillion yuan: more than any file moves, and few enough that
// a handful of them can be added.
const mostFen = 100_000_000_000_000_000

// wholeFen reads an integer of fen as the writer writes it.
func wholeFen(s string) (money.Amount, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(v, 10) != s {
		return 0, errors.New("not a whole number of fen")
	}
	if v > mostFen || v < -mostFen {
		return 0, errors.New("out of range")
	}
	return money.Amount(v), nil
}

// Package report writes what merchants and operators read of the settlement:
// statements, details, costs, balances, fee invoices. A report is tables that are
// written row by row in a format; what is read from the store is never held as a
// whole, so that a day of a million sales needs no more memory than one of ten.
//
// It reads the tables of settlement, journal and ledger and changes nothing.
package report

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// Kind is what a column holds.
type Kind uint8

// Text may come from outside. Code is digits and letters that are a name and no
// number (a MID, an RRN). Money, Count and Date are numbers and dates.
const (
	Text Kind = iota
	Code
	Money
	Count
	Date
)

// Column is one column of a table.
type Column struct {
	Key  string // in JSON
	Name string // as it is read
	Kind Kind
}

// sheet is a report in a format. Cells are string, money.Amount, int64 or
// calendar.Date, one for each column, and nil where there is nothing to say.
// total is the row under the others: its first cell is its label.
type sheet interface {
	begin(h *head) error
	table(name string, columns []Column) error
	row(cells []any) error
	total(cells []any) error
	end() error
}

// head is what stands above the tables.
type head struct {
	title string
	facts [][2]string // name and value
}

// short is the head in one line, for the pages behind the first.
func (h *head) short() string {
	line := h.title
	for _, f := range h.facts {
		if slices.Contains([]string{"商户名称", "账期", "截至", "打款单号"}, f[0]) {
			line += "  " + f[1]
		}
	}
	return line
}

// Formats are those a report can be written in.
var Formats = []string{"csv", "xlsx", "html", "pdf", "json"}

// maxPDF is the most rows of a PDF: it is laid out in memory.
const maxPDF = 20_000

// ErrRequest says that a report cannot be asked for like that.
var ErrRequest = errors.New("report")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRequest, fmt.Sprintf(format, args...))
}

// Request names a report.
type Request struct {
	Report   string        `json:"report"`             // one of Reports
	Merchant string        `json:"merchant,omitempty"` // MID; empty for all where the report may have all
	From     calendar.Date `json:"from,omitempty"`     // business dates, both inclusive
	To       calendar.Date `json:"to,omitempty"`
	Payout   string        `json:"payout,omitempty"` // of detail: only what is in this payout
	Format   string        `json:"format"`

	open calendar.Date // the first date that was not closed when it was written
}

// Month is the first and the last day of the month that a date is in.
func Month(d calendar.Date) (from, to calendar.Date) {
	from = calendar.NewDate(d.Year(), d.Month(), 1)
	return from, calendar.NewDate(d.Year(), d.Month()+1, 1).AddDays(-1)
}

// longest is the most days of one report.
const longest = 366

func (r *Request) check() error {
	kind, known := reports[r.Report]
	switch {
	case !known:
		return refuse("%q is none of %s", r.Report, strings.Join(Reports(), ", "))
	case !slices.Contains(Formats, r.Format):
		return refuse("format %q is none of %s", r.Format, strings.Join(Formats, ", "))
	case r.Payout != "" && r.Report != "detail":
		return refuse("only detail is of one payout")
	case r.Payout != "" && (r.From != 0 || r.Merchant != ""):
		return refuse("a payout has its merchant and date: name nothing else")
	case r.Payout == "" && (!r.From.Valid() || !r.To.Valid() || r.To < r.From || r.From.DaysUntil(r.To) >= longest):
		return refuse("the dates from %q to %q are no period of at most %d days", r.From, r.To, longest)
	case kind.ofMerchant && r.Merchant == "":
		return refuse("%s is of one merchant: name its MID", r.Report)
	}
	return nil
}

// period is the dates in words. What is not closed yet is said: its sales are
// in no figure.
func (r *Request) period() string {
	text := r.From.String()
	if r.From != r.To {
		text += " 至 " + r.To.String()
	}
	if r.open <= r.To {
		text += fmt.Sprintf(" (%s起未结账)", max(r.open, r.From))
	}
	return text
}

// asOf is the last date in words, which says when it is not closed: more may be
// booked on it.
func (r *Request) asOf() string {
	switch {
	case r.open == 0:
		return r.To.String() + " (未结账)"
	case r.open <= r.To:
		return fmt.Sprintf("%s (%s起未结账)", r.To, r.open)
	}
	return r.To.String()
}

// reportKind is one report.
type reportKind struct {
	ofMerchant bool
	write      func(*Books, context.Context, *Request, sheet) error
}

var reports map[string]reportKind

func init() { // the functions need the table's names
	reports = map[string]reportKind{
		"statement":     {true, (*Books).statement},
		"detail":        {false, (*Books).detail},
		"cost":          {false, (*Books).cost},
		"safeguarding":  {false, (*Books).safeguarding},
		"invoice":       {true, (*Books).invoice},
		"payouts":       {false, (*Books).payoutList},
		"breaks":        {false, (*Books).breakList},
		"instant":       {false, (*Books).instant},
		"trial-balance": {false, (*Books).trialBalance},
	}
}

// Reports are the names of the reports.
func Reports() []string {
	return []string{"statement", "detail", "cost", "safeguarding", "invoice", "payouts", "breaks", "instant", "trial-balance"}
}

// Books are what reports are made of. The methods may be called from any
// goroutine.
type Books struct {
	db        *store.DB
	ledger    *ledger.Ledger
	merchants *merchant.Registry
	acquirer  string // our institution's name and code
}

// New returns the reports of a store; acquirer is the institution as it
// stands on them, its name and code.
func New(db *store.DB, merchants *merchant.Registry, acquirer string) *Books {
	return &Books{db: db, ledger: ledger.New(db), merchants: merchants, acquirer: acquirer}
}

// Write writes a report. ErrRequest says that it cannot be asked for like that;
// after any error what was written is to be thrown away.
func (b *Books) Write(ctx context.Context, r Request, w io.Writer) error {
	if err := r.check(); err != nil {
		return err
	}
	err := b.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select open_date from settlement_state where id = 1").Scan(&r.open)
	})
	if err != nil {
		return fmt.Errorf("report: reading the open date: %w", err)
	}
	var s sheet
	switch r.Format {
	case "csv":
		s = newCSV(w)
	case "xlsx":
		s = newXLSX(w)
	case "html":
		s = newHTML(w)
	case "pdf":
		s = newPDF(w, cmp.Or(r.To, calendar.Date(20200101)))
	default:
		s = newJSON(w)
	}
	err = reports[r.Report].write(b, ctx, &r, s)
	if err == nil {
		err = s.end()
	}
	if c, ok := s.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}

// File is a report that was written.
type File struct {
	Path string `json:"path"`
	Name string `json:"name"`   // report, dates, MID or payout, and the first digits of SHA-256; never a person's name
	Sum  string `json:"sha256"` // of the content
	Size int64  `json:"size"`
}

// Make writes a report into a folder under a name of its own. Nothing is left
// there when it fails.
func (b *Books) Make(ctx context.Context, r Request, dir string) (f File, err error) {
	tmp, err := os.CreateTemp(dir, ".report-*")
	if err != nil {
		return f, fmt.Errorf("report: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	sum, counted := sha256.New(), &counter{}
	err = b.Write(ctx, r, io.MultiWriter(tmp, sum, counted))
	if err = errors.Join(err, tmp.Close()); err != nil {
		return f, err
	}
	f.Sum, f.Size = hex.EncodeToString(sum.Sum(nil)), counted.n
	f.Name = r.name() + "-" + f.Sum[:8] + "." + r.Format
	f.Path = filepath.Join(dir, f.Name)
	if err = os.Rename(tmp.Name(), f.Path); err != nil {
		return f, fmt.Errorf("report: %w", err)
	}
	return f, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// name is the beginning of the file's name. What came from outside is reduced to
// what every file system takes.
func (r *Request) name() string {
	parts := []string{r.Report}
	if r.Payout != "" {
		parts = append(parts, plain(r.Payout))
	} else {
		parts = append(parts, strings.ReplaceAll(r.From.String(), "-", ""))
		if r.To != r.From {
			parts = append(parts, strings.ReplaceAll(r.To.String(), "-", ""))
		}
	}
	if r.Merchant != "" {
		parts = append(parts, plain(r.Merchant))
	}
	return strings.Join(parts, "-")
}

func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' {
			return c
		}
		return -1
	}, s)
}

// guarded is text as a spreadsheet may be given it: what it would read as a
// formula stands behind an apostrophe (OWASP, CSV injection), the wide signs too,
// which a Chinese Excel takes for the narrow ones.
func guarded(s string) string {
	if first, _ := utf8.DecodeRuneInString(s); s != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + s
	}
	return s
}

// text is a cell as it is read.
func text(cell any) string {
	switch v := cell.(type) {
	case nil:
		return ""
	case string:
		return v
	case money.Amount:
		return v.String()
	default: // int64, calendar.Date
		return fmt.Sprint(v)
	}
}

// shown is a cell as people read it on paper: amounts and counts have separators.
func shown(cell any) string {
	switch v := cell.(type) {
	case money.Amount:
		whole, fen, _ := strings.Cut(v.String(), ".")
		return thousands(whole) + "." + fen
	case int64:
		return thousands(fmt.Sprint(v))
	}
	return text(cell)
}

func thousands(digits string) string {
	sign, digits := "", digits
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

package bankfile

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"acquirer/calendar"
	"acquirer/money"
)

// The CSV files are UTF-8, one record a line: H (what it is, version, message),
// D for each order, status or movement, numbered from 1, and T with their count,
// their sum in fen and the SHA-256 of every byte before T's line. docs/payouts.md
// has the columns.
const (
	csvOrders    = "PAYOUT"
	csvResults   = "RESULT"
	csvStatement = "STATEMENT"
	csvVersion   = "1"
	maxLine      = 8 << 10
)

// csvWriter writes H, D and T.
type csvWriter struct {
	out  *bufio.Writer
	hash hash.Hash
	rows *csv.Writer
}

func newCSVWriter(w io.Writer) *csvWriter {
	c := &csvWriter{out: bufio.NewWriter(w), hash: sha256.New()}
	c.rows = csv.NewWriter(io.MultiWriter(c.out, c.hash))
	return c
}

func (c *csvWriter) end(count int, sum money.Amount) error {
	c.rows.Flush()
	if err := c.rows.Error(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.out, "T,%d,%d,%s\n", count, sum.Fen(), hex.EncodeToString(c.hash.Sum(nil))); err != nil {
		return err
	}
	return c.out.Flush()
}

// privateAccount is the account type of a person's account (对私) in the files
// of acquirers; merchants here are persons.
const privateAccount = "58"

// WriteCSV writes a batch of orders as CSV:
//
//	H,PAYOUT,1,message,created,execute,debtor,account,bank
//	D,seq,payout,merchant,name,account,bank,branch,type,fen,currency,purpose
//	T,count,fen,sha256
//
// The branch (CNAPS, 12 digits) is left empty: the bank finds it by its name.
func WriteCSV(w io.Writer, b *Batch, orders iter.Seq2[Order, error]) error {
	if err := b.check(); err != nil {
		return err
	}
	c := newCSVWriter(w)
	d := &b.Debtor
	err := c.rows.Write([]string{"H", csvOrders, csvVersion, b.MessageID, b.Created.In(calendar.Beijing).Format(time.RFC3339), isoDate(b.Execute), d.Name, d.Account, d.Bank})
	if err != nil {
		return err
	}
	err = b.totals(orders, func(n int, o *Order) error {
		return c.rows.Write([]string{"D", strconv.Itoa(n), o.Reference, o.Merchant, o.Name, o.Account, o.Bank, "", privateAccount, strconv.FormatInt(o.Amount.Fen(), 10), Currency, "settlement"})
	})
	if err != nil {
		return err
	}
	if err := c.end(b.Count, b.Sum); err != nil {
		return fmt.Errorf("bankfile: writing message %s: %w", b.MessageID, err)
	}
	return nil
}

// csvReader reads what csvWriter writes and checks T.
type csvReader struct {
	in    *bufio.Reader
	hash  hash.Hash
	line  int
	raw   []byte
	cells []string
	at    []int // column where each cell begins, from 1
	count int
	sum   money.Amount
}

// openCSV reads H of a file of the given kind with so many cells.
func openCSV(r io.Reader, kind string, cells int) (*csvReader, error) {
	c := &csvReader{in: bufio.NewReaderSize(&limited{r: r, left: MaxSize}, maxLine), hash: sha256.New()}
	if err := c.read(); err != nil {
		if err == io.EOF {
			err = &Error{What: "the file is empty"}
		}
		return nil, err
	}
	if len(c.cells) < 3 || c.cells[0] != "H" || c.cells[1] != kind || c.cells[2] != csvVersion {
		return nil, c.bad(0, fmt.Sprintf("the first line is not H,%s,%s,...", kind, csvVersion))
	}
	if len(c.cells) != cells {
		return nil, c.bad(0, fmt.Sprintf("H has %d cells; want %d", len(c.cells), cells))
	}
	return c, nil
}

// read takes the next line apart; io.EOF after the last.
func (c *csvReader) read() error {
	raw, err := c.in.ReadSlice('\n')
	c.line++
	c.at = c.at[:0]
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return c.bad(0, fmt.Sprintf("the line is longer than %d bytes", maxLine))
	case err == io.EOF && len(raw) == 0:
		return io.EOF
	case err == io.EOF:
		return c.bad(0, "the file ends in the middle of a line")
	case err != nil:
		return err
	}
	c.raw = raw
	if i := firstInvalid(raw); i >= 0 {
		return &Error{Line: c.line, Column: i + 1, What: "not UTF-8"}
	}
	rows := csv.NewReader(bytes.NewReader(raw))
	rows.FieldsPerRecord = -1
	c.cells, err = rows.Read()
	var syntax *csv.ParseError
	if errors.As(err, &syntax) {
		return &Error{Line: c.line, Column: syntax.Column, What: syntax.Err.Error()}
	} else if err != nil {
		return c.bad(0, "an empty line")
	}
	for i := range c.cells {
		_, column := rows.FieldPos(i)
		c.at = append(c.at, column)
	}
	return nil
}

func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// row reads the next D with so many cells; io.EOF when T came and was right.
func (c *csvReader) row(cells ...int) error {
	c.hash.Write(c.raw)
	err := c.read()
	switch {
	case err == io.EOF:
		return &Error{Line: c.line, Column: 1, What: "the file ends without its last line, T"}
	case err != nil:
		return err
	case c.cells[0] == "T":
		return c.trailer()
	case c.cells[0] != "D":
		return c.bad(0, fmt.Sprintf("a line that begins with %.8q; want D or T", c.cells[0]))
	case !slices.Contains(cells, len(c.cells)):
		return c.bad(0, fmt.Sprintf("D has %d cells; want %d", len(c.cells), cells[0]))
	}
	c.count++
	if n, err := strconv.Atoi(c.cells[1]); err != nil || n != c.count {
		return c.bad(1, fmt.Sprintf("record %.16q; want %d", c.cells[1], c.count))
	}
	return nil
}

func (c *csvReader) trailer() error {
	if len(c.cells) != 4 {
		return c.bad(0, fmt.Sprintf("T has %d cells; want 4", len(c.cells)))
	}
	if n, err := strconv.Atoi(c.cells[1]); err != nil || n != c.count {
		return c.bad(1, fmt.Sprintf("%d records were read; T says %.16q", c.count, c.cells[1]))
	}
	if n, err := strconv.ParseInt(c.cells[2], 10, 64); err != nil || n != c.sum.Fen() {
		return c.bad(2, fmt.Sprintf("the records add up to %d fen; T says %.20q", c.sum.Fen(), c.cells[2]))
	}
	if want := hex.EncodeToString(c.hash.Sum(nil)); c.cells[3] != want {
		return c.bad(3, "the SHA-256 is not that of the lines before")
	}
	if err := c.read(); err != io.EOF {
		return c.bad(0, "more after the last line, T")
	}
	return io.EOF
}

func (c *csvReader) bad(cell int, what string) error {
	column := 1
	if cell < len(c.at) {
		column = c.at[cell]
	}
	return &Error{Line: c.line, Column: column, What: what}
}

// fen reads an amount and adds it up.
func (c *csvReader) fen(cell int) (money.Amount, error) {
	n, err := strconv.ParseInt(c.cells[cell], 10, 64)
	if err != nil || n < 0 {
		return 0, c.bad(cell, fmt.Sprintf("%.20q is not an amount in fen", c.cells[cell]))
	}
	if c.sum, err = c.sum.Add(money.Amount(n)); err != nil {
		return 0, c.bad(cell, err.Error())
	}
	return money.Amount(n), nil
}

func (c *csvReader) name(cell int) (string, error) {
	if !identifier(c.cells[cell], 70) {
		return "", c.bad(cell, fmt.Sprintf("an identification of %d bytes; want 1 to 70 printable ones without blanks", len(c.cells[cell])))
	}
	return c.cells[cell], nil
}

// ReadResults reads a file of statuses:
//
//	H,RESULT,1,message,about,created
//	D,seq,payout,status,fen,bank_id,bank_time,code,text
//	T,count,fen,sha256
//
// status is SUCCEEDED, PROCESSING, REJECTED or RETURNED.
func ReadResults(r io.Reader) (*Report, iter.Seq2[Status, error], error) {
	c, err := openCSV(r, csvResults, 6)
	if err != nil {
		return nil, nil, err
	}
	report := &Report{Count: -1, Sum: -1}
	if report.MessageID, err = c.name(3); err != nil {
		return nil, nil, err
	}
	if report.About, err = c.name(4); err != nil {
		return nil, nil, err
	}
	return report, func(yield func(Status, error) bool) {
		for {
			err := c.row(9)
			if err == io.EOF {
				return
			}
			s := Status{Line: c.line}
			if err == nil {
				err = c.result(&s)
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}, nil
}

func (c *csvReader) result(s *Status) (err error) {
	if s.Reference, err = c.name(2); err != nil {
		return err
	}
	switch s.Code = Code(c.cells[3]); s.Code {
	case Paid, Processing, Refused, Returned:
	default:
		return c.bad(3, fmt.Sprintf("status %.16q is not known", c.cells[3]))
	}
	if s.Amount, err = c.fen(4); err != nil {
		return err
	}
	s.BankID = shortened(c.cells[5])
	s.Reason = shortened(c.cells[7] + " " + c.cells[8])
	return nil
}

// ReadStatementCSV reads a file of movements:
//
//	H,STATEMENT,1,message,account,day
//	D,seq,booked,C|D,fen,kind,reference,bank_id,reason[,account]
//	T,count,fen,sha256
//
// kind is payout, return, receipt, fee or other; account is the number that a
// credit came from, where the bank says it; T's sum is of credits and debits alike.
func ReadStatementCSV(r io.Reader) (*Statement, iter.Seq2[Entry, error], error) {
	c, err := openCSV(r, csvStatement, 6)
	if err != nil {
		return nil, nil, err
	}
	head := &Statement{Account: c.cells[4]}
	if head.MessageID, err = c.name(3); err != nil {
		return nil, nil, err
	}
	if !accountNumber(head.Account) {
		return nil, nil, c.bad(4, "not an account number of 8 to 34 letters and digits")
	}
	if head.Day, err = calendar.ParseDate(c.cells[5]); err != nil {
		return nil, nil, c.bad(5, fmt.Sprintf("%.16q is not a date", c.cells[5]))
	}
	return head, func(yield func(Entry, error) bool) {
		for {
			err := c.row(9, 10)
			if err == io.EOF {
				return
			}
			e := Entry{Line: c.line}
			if err == nil {
				err = c.movement(&e)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}, nil
}

func (c *csvReader) movement(e *Entry) (err error) {
	if e.Booked, err = calendar.ParseDate(c.cells[2]); err != nil {
		return c.bad(2, fmt.Sprintf("%.16q is not a date", c.cells[2]))
	}
	switch c.cells[3] {
	case "C":
		e.Credit = true
	case "D":
	default:
		return c.bad(3, fmt.Sprintf("%.8q is neither C nor D", c.cells[3]))
	}
	if e.Amount, err = c.fen(4); err != nil {
		return err
	}
	if e.Amount == 0 {
		return c.bad(4, "a movement of nothing")
	}
	switch e.Kind = Kind(c.cells[5]); e.Kind {
	case Payout, Return, Receipt, Fee, Other:
	default:
		return c.bad(5, fmt.Sprintf("kind %.16q is not known", c.cells[5]))
	}
	if e.Credit != (e.Kind == Return || e.Kind == Receipt) && e.Kind != Other {
		return c.bad(3, fmt.Sprintf("a %s on the wrong side of the account", e.Kind))
	}
	if e.Kind == Receipt && said(c.cells[6]) {
		e.Reference = c.cells[6]
	} else if c.cells[6] != "" {
		if e.Reference, err = c.name(6); err != nil {
			return err
		}
	} else if e.Kind == Payout || e.Kind == Return {
		return c.bad(6, fmt.Sprintf("a %s without its reference", e.Kind))
	}
	e.BankID, e.Reason = shortened(c.cells[7]), shortened(c.cells[8])
	if len(c.cells) > 9 && c.cells[9] != "" {
		if e.Account = c.cells[9]; !e.Credit || !accountNumber(e.Account) {
			return c.bad(9, "not the account number, of 8 to 34 letters and digits, that a credit came from")
		}
	}
	return nil
}

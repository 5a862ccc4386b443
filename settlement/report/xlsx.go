package report

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"

	"acquirer/money"
)

// xlsxSheet writes a workbook with a sheet for the head and one for each table.
// Rows go through the library's stream writer, which keeps them in a file.
type xlsxSheet struct {
	out    io.Writer
	book   *excelize.File
	stream *excelize.StreamWriter
	cols   []Column
	name   string
	part   int // of a table that is longer than a sheet
	line   int
	money  int // style
	bold   int
	failed error
}

// sheetRows is the most rows of one sheet; Excel has 1,048,576.
const sheetRows = 1_000_000

func newXLSX(w io.Writer) *xlsxSheet {
	s := &xlsxSheet{out: w, book: excelize.NewFile()}
	s.money, s.failed = s.book.NewStyle(&excelize.Style{NumFmt: 4}) // #,##0.00
	if s.failed == nil {
		s.bold, s.failed = s.book.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true}})
	}
	return s
}

// Close gives the library's files back.
func (s *xlsxSheet) Close() error { return s.book.Close() }

func (s *xlsxSheet) begin(h *head) error {
	if s.failed != nil {
		return s.failed
	}
	if err := s.book.SetSheetName("Sheet1", "概要"); err != nil {
		return err
	}
	if err := s.to("概要"); err != nil {
		return err
	}
	if err := s.put([]any{excelize.Cell{StyleID: s.bold, Value: guarded(h.title)}}); err != nil {
		return err
	}
	for _, f := range h.facts {
		if err := s.put([]any{guarded(f[0]), guarded(f[1])}); err != nil {
			return err
		}
	}
	return nil
}

func (s *xlsxSheet) to(sheet string) (err error) {
	if err = s.flush(); err != nil {
		return err
	}
	s.stream, err = s.book.NewStreamWriter(sheet)
	s.line = 0
	return err
}

func (s *xlsxSheet) flush() error {
	if s.stream == nil {
		return nil
	}
	return s.stream.Flush()
}

func (s *xlsxSheet) put(cells []any) error {
	s.line++
	return s.stream.SetRow(fmt.Sprint("A", s.line), cells)
}

func (s *xlsxSheet) table(name string, columns []Column) error {
	s.name, s.cols, s.part = name, columns, 0
	return s.sheet()
}

// sheet begins the next sheet of the table. A sheet's name has at most 31
// characters and none of :\/?*[].
func (s *xlsxSheet) sheet() error {
	s.part++
	name := strings.NewReplacer(":", "", `\`, "", "/", "", "?", "", "*", "", "[", "", "]", "").Replace(s.name)
	if s.part > 1 {
		name += fmt.Sprintf(" %d", s.part)
	}
	if utf8.RuneCountInString(name) > 31 {
		return errors.New("report: the name of a sheet is longer than 31 characters: " + name)
	}
	if _, err := s.book.NewSheet(name); err != nil {
		return err
	}
	if err := s.to(name); err != nil {
		return err
	}
	for i, c := range s.cols {
		width := 14.0
		switch c.Kind {
		case Code:
			width = 20
		case Text:
			width = 24
		}
		if err := s.stream.SetColWidth(i+1, i+1, width); err != nil {
			return err
		}
	}
	names := make([]any, len(s.cols))
	for i, c := range s.cols {
		names[i] = excelize.Cell{StyleID: s.bold, Value: guarded(c.Name)}
	}
	return s.put(names)
}

// exactYuan is the greatest amount in fen whose yuan a spreadsheet's number holds
// exactly to the fen: 15 digits.
const exactYuan = 999_999_999_999_999

func (s *xlsxSheet) row(cells []any) error {
	if s.line >= sheetRows {
		if err := s.sheet(); err != nil {
			return err
		}
	}
	line := make([]any, len(cells))
	for i, c := range cells {
		switch v := c.(type) {
		case money.Amount:
			if v > exactYuan || v < -exactYuan {
				line[i] = v.String()
				continue
			}
			// Excel has no other number. The shortest text of this quotient is
			// the amount with its two decimals, and that is what is written.
			line[i] = excelize.Cell{StyleID: s.money, Value: float64(v) / 100}
		case int64:
			line[i] = v
		default:
			line[i] = guarded(text(c))
		}
	}
	return s.put(line)
}

func (s *xlsxSheet) end() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.book.Write(s.out)
}

package report

import (
	"archive/zip"
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
	part   int       // of a table that is longer than a sheet
	first  [][]any   // the table's first rows, kept until its columns have widths
	widths []float64 // in characters
	line   int
	head   *head
	styles styles
	failed error
}

// styles are the looks of cells: of money, of a bold text, and of a heading and a
// total at the right.
type styles struct{ money, bold, right, total, count int }

// sheetRows is the most rows of one sheet; Excel has 1,048,576.
const sheetRows = 1_000_000

func newXLSX(w io.Writer) *xlsxSheet {
	s := &xlsxSheet{out: w, book: excelize.NewFile()}
	bold := &excelize.Font{Bold: true, Family: "Calibri", Size: 11} // as the library's plain text
	right := &excelize.Alignment{Horizontal: "right"}
	for _, st := range []struct {
		to *int
		of excelize.Style
	}{
		{&s.styles.money, excelize.Style{NumFmt: 4}}, // #,##0.00
		{&s.styles.bold, excelize.Style{Font: bold}},
		{&s.styles.right, excelize.Style{Font: bold, Alignment: right}},
		{&s.styles.total, excelize.Style{Font: bold, NumFmt: 4}},
		{&s.styles.count, excelize.Style{Font: bold, NumFmt: 3}}, // #,##0
	} {
		id, err := s.book.NewStyle(&st.of)
		*st.to, s.failed = id, errors.Join(s.failed, err)
	}
	return s
}

// Close gives the library's files back.
func (s *xlsxSheet) Close() error { return s.book.Close() }

func (s *xlsxSheet) begin(h *head) error {
	if s.failed != nil {
		return s.failed
	}
	s.head = h
	if err := s.book.SetSheetName("Sheet1", "概要"); err != nil {
		return err
	}
	if err := s.to("概要", false); err != nil {
		return err
	}
	if err := errors.Join(s.stream.SetColWidth(1, 1, 14), s.stream.SetColWidth(2, 2, 60)); err != nil {
		return err
	}
	if err := s.put([]any{excelize.Cell{StyleID: s.styles.bold, Value: guarded(h.title)}}); err != nil {
		return err
	}
	for _, f := range h.facts {
		if err := s.put([]any{guarded(f[0]), guarded(f[1])}); err != nil {
			return err
		}
	}
	return nil
}

// to begins a sheet that prints on A4, as wide as the page, with the head and the
// number on each.
func (s *xlsxSheet) to(sheet string, across bool) (err error) {
	if err = s.flush(); err != nil {
		return err
	}
	yes, orientation, paper, wide, high := true, "portrait", 9, 1, 0
	if across {
		orientation = "landscape"
	}
	if err = errors.Join(s.book.SetSheetProps(sheet, &excelize.SheetPropsOptions{FitToPage: &yes}),
		s.book.SetPageLayout(sheet, &excelize.PageLayoutOptions{Size: &paper, Orientation: &orientation, FitToWidth: &wide, FitToHeight: &high}),
		s.book.SetHeaderFooter(sheet, &excelize.HeaderFooterOptions{OddHeader: "&L" + headerText(s.head.short()), OddFooter: "&C第 &P 页 / 共 &N 页"})); err != nil {
		return err
	}
	s.stream, err = s.book.NewStreamWriter(sheet)
	s.line = 0
	return err
}

// headerText is text in a page's header, where & begins a code; a header has at
// most 255 characters.
func headerText(s string) string {
	if r := []rune(s); len(r) > 120 {
		s = string(r[:119]) + "…"
	}
	return strings.ReplaceAll(s, "&", "&&")
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
	err := s.release()
	s.name, s.cols, s.part, s.first, s.widths = name, columns, 0, nil, nil
	return err
}

// firstRows is by how many rows the widths of columns are found.
const firstRows = 100

// release writes the first rows of the table into columns that are as wide as they
// need: the library wants the widths before the rows.
func (s *xlsxSheet) release() error {
	if s.cols == nil || s.widths != nil {
		return nil
	}
	s.widths = make([]float64, len(s.cols))
	for i, c := range s.cols {
		most := broad(c.Name)
		switch c.Kind { // a number that is too wide, as a total may be, is shown as ####
		case Money:
			most = max(most, len("999,999,999.99"))
		case Count:
			most = max(most, len("9,999,999"))
		}
		for _, r := range s.first {
			most = max(most, broad(shown(r[i])))
		}
		s.widths[i] = float64(min(most, 40)) + 2
	}
	err := s.sheet()
	for _, r := range s.first {
		if err == nil {
			err = s.row(r)
		}
	}
	s.first = nil
	return err
}

// broad is how many digits' places a text takes: a Chinese character takes two.
func broad(s string) (n int) {
	for _, c := range s {
		if n++; c >= 0x2e80 {
			n++
		}
	}
	return n
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
	if err := s.to(name, len(s.cols) > wideTable); err != nil {
		return err
	}
	if err := errors.Join(s.stream.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}),
		s.book.SetDefinedName(&excelize.DefinedName{Name: "_xlnm.Print_Titles", RefersTo: "'" + name + "'!$1:$1", Scope: name})); err != nil {
		return err
	}
	for i, width := range s.widths {
		if err := s.stream.SetColWidth(i+1, i+1, width); err != nil {
			return err
		}
	}
	names := make([]any, len(s.cols))
	for i, c := range s.cols {
		style := s.styles.bold
		if c.Kind == Money || c.Kind == Count {
			style = s.styles.right
		}
		names[i] = excelize.Cell{StyleID: style, Value: guarded(c.Name)}
	}
	return s.put(names)
}

// exactYuan is the greatest amount in fen whose yuan a spreadsheet's number holds
// exactly to the fen: 15 digits.
const exactYuan = 999_999_999_999_999

func (s *xlsxSheet) row(cells []any) error {
	if s.widths != nil {
		return s.values(cells, s.styles.money, 0, 0)
	}
	if s.first = append(s.first, cells); len(s.first) < firstRows {
		return nil
	}
	return s.release()
}

func (s *xlsxSheet) total(cells []any) error {
	if err := s.release(); err != nil {
		return err
	}
	return s.values(cells, s.styles.total, s.styles.count, s.styles.bold)
}

// values writes cells, each in the style of its kind.
func (s *xlsxSheet) values(cells []any, amounts, count, words int) error {
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
				line[i] = excelize.Cell{StyleID: words, Value: v.String()}
				continue
			}
			// Excel has no other number. The shortest text of this quotient is
			// the amount with its two decimals, and that is what is written.
			line[i] = excelize.Cell{StyleID: amounts, Value: float64(v) / 100}
		case nil:
		case int64:
			line[i] = excelize.Cell{StyleID: count, Value: v}
		default:
			line[i] = excelize.Cell{StyleID: words, Value: guarded(text(c))}
		}
	}
	return s.put(line)
}

func (s *xlsxSheet) end() error {
	if err := errors.Join(s.release(), s.flush()); err != nil {
		return err
	}
	// The library would gather the whole archive before it writes it.
	s.book.SetZipWriter(func(io.Writer) excelize.ZipWriter { return zip.NewWriter(s.out) })
	return s.book.Write(io.Discard)
}

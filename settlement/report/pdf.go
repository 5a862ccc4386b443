package report

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-pdf/fpdf"

	"acquirer/calendar"
)

//go:embed font/wqy-microhei.ttf.gz
var fontFile []byte

// font is the TrueType font that PDFs are written in.
var font = sync.OnceValues(func() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(fontFile))
	if err != nil {
		return nil, fmt.Errorf("report: the font in the binary: %w", err)
	}
	return io.ReadAll(z)
})

// pdfSheet writes A4 pages with a font of its own, so that Chinese shows on any
// machine. It is laid out in memory and takes at most maxPDF rows. Tables of many
// columns lie across.
type pdfSheet struct {
	out    io.Writer
	pdf    *fpdf.Fpdf
	cols   []Column
	widths []float64
	rows   int
	across bool // the page is
	failed error
}

const (
	pdfMargin = 12.0 // mm
	pdfWide   = 10   // columns that fit upright
)

// size is the letters' in points, high the height of a line in mm.
func (s *pdfSheet) size() (size, high float64) {
	if s.across {
		return 6.5, 4.2
	}
	return 8, 5.2
}

// paper is the page's width and height in mm.
func (s *pdfSheet) paper() (w, h float64) {
	if s.across {
		return 297, 210
	}
	return 210, 297
}

// newPDF makes one that is dated with the end of what it tells of: the same
// report is the same file.
func newPDF(w io.Writer, date calendar.Date) *pdfSheet {
	s := &pdfSheet{out: w, pdf: fpdf.New("P", "mm", "A4", "")}
	var ttf []byte
	if ttf, s.failed = font(); s.failed != nil {
		return s
	}
	at := date.Time().Add(24 * time.Hour)
	s.pdf.SetCreationDate(at)
	s.pdf.SetModificationDate(at)
	s.pdf.SetCatalogSort(true)
	s.pdf.AddUTF8FontFromBytes("cjk", "", ttf)
	s.pdf.SetMargins(pdfMargin, pdfMargin, pdfMargin)
	s.pdf.SetAutoPageBreak(false, pdfMargin)
	s.pdf.AliasNbPages("{pages}")
	s.pdf.SetFooterFunc(func() {
		s.pdf.SetY(-pdfMargin)
		s.pdf.SetFont("cjk", "", 8)
		s.pdf.CellFormat(0, 5, fmt.Sprintf("第 %d 页 / 共 {pages} 页", s.pdf.PageNo()), "", 0, "C", false, 0, "")
	})
	return s
}

// page begins a page.
func (s *pdfSheet) page(across bool) {
	orientation := "P"
	if s.across = across; across {
		orientation = "L"
	}
	s.pdf.AddPageFormat(orientation, fpdf.SizeType{Wd: 210, Ht: 297})
	size, _ := s.size()
	s.pdf.SetFont("cjk", "", size)
}

func (s *pdfSheet) begin(h *head) error {
	if s.failed != nil {
		return s.failed
	}
	s.pdf.SetTitle(h.title, true)
	s.page(false)
	size, high := s.size()
	s.pdf.SetFont("cjk", "", 15)
	s.pdf.CellFormat(0, 9, h.title, "", 1, "L", false, 0, "")
	s.pdf.SetFont("cjk", "", size)
	for _, f := range h.facts {
		for i, line := range s.wrap(f[1], 210-2*pdfMargin-30) {
			name := ""
			if i == 0 {
				name = f[0]
			}
			s.pdf.CellFormat(30, high, name, "", 0, "L", false, 0, "")
			s.pdf.CellFormat(0, high, line, "", 1, "L", false, 0, "")
		}
	}
	return s.pdf.Error()
}

// table gives each column a width by what it holds.
func (s *pdfSheet) table(name string, columns []Column) error {
	s.cols = columns
	if across := len(columns) > pdfWide; across != s.across {
		s.page(across)
	}
	size, high := s.size()
	s.widths = make([]float64, len(columns))
	shares := map[Kind]float64{Text: 1.5, Code: 1.7, Money: 1.2, Count: 0.8, Date: 1.35}
	sum := 0.0
	for _, c := range columns {
		sum += shares[c.Kind]
	}
	w, _ := s.paper()
	for i, c := range columns {
		s.widths[i] = (w - 2*pdfMargin) * shares[c.Kind] / sum
	}
	s.pdf.Ln(high)
	s.room(4 * high)
	s.pdf.SetFont("cjk", "", size+2.5)
	s.pdf.CellFormat(0, high+1.5, name, "", 1, "L", false, 0, "")
	s.pdf.SetFont("cjk", "", size)
	return s.header()
}

func (s *pdfSheet) header() error {
	s.pdf.SetFillColor(240, 240, 240)
	names := make([]any, len(s.cols))
	for i, c := range s.cols {
		names[i] = c.Name
	}
	lines, h := s.lay(names)
	s.line(lines, h, true)
	return s.pdf.Error()
}

// room begins a page when less than h is left; true when it did.
func (s *pdfSheet) room(h float64) bool {
	if _, high := s.paper(); s.pdf.GetY()+h <= high-1.5*pdfMargin {
		return false
	}
	s.page(s.across)
	return true
}

func (s *pdfSheet) row(cells []any) error {
	if s.rows++; s.rows > maxPDF {
		return refuse("a PDF of more than %d rows: take xlsx or csv, or a shorter period", maxPDF)
	}
	lines, h := s.lay(cells)
	if s.room(h) {
		if err := s.header(); err != nil {
			return err
		}
	}
	s.line(lines, h, false)
	return s.pdf.Error()
}

// wrap cuts a text into lines of at most a width, after any character: the
// library's own wrapping loses Chinese ones.
func (s *pdfSheet) wrap(text string, width float64) []string {
	lines, from, used := []string{}, 0, 0.0
	for i, c := range text {
		w := s.pdf.GetStringWidth(string(c))
		if used+w > width && i > from {
			lines, from, used = append(lines, text[from:i]), i, 0
		}
		used += w
	}
	return append(lines, text[from:])
}

// lay cuts a row's cells into lines and says how high the row is.
func (s *pdfSheet) lay(cells []any) (lines [][]string, h float64) {
	most := 1
	for i, c := range cells {
		lines = append(lines, s.wrap(text(c), s.widths[i]-2))
		most = max(most, len(lines[i]))
	}
	_, high := s.size()
	return lines, float64(most) * high
}

func (s *pdfSheet) line(cells [][]string, h float64, fill bool) {
	x, y := pdfMargin, s.pdf.GetY()
	_, high := s.size()
	for i, lines := range cells {
		align := "L"
		if k := s.cols[i].Kind; k == Money || k == Count {
			align = "R"
		}
		if fill {
			s.pdf.Rect(x, y, s.widths[i], h, "F")
		}
		for j, text := range lines {
			s.pdf.SetXY(x, y+float64(j)*high)
			s.pdf.CellFormat(s.widths[i], high, text, "", 0, align, false, 0, "")
		}
		x += s.widths[i]
	}
	s.pdf.SetDrawColor(200, 200, 200)
	s.pdf.Line(pdfMargin, y+h, x, y+h)
	s.pdf.SetXY(pdfMargin, y+h)
}

func (s *pdfSheet) end() error { return s.pdf.Output(s.out) }

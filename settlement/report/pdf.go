package report

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"strings"
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
// machine. It is laid out in memory and takes at most maxPDF rows. A table is
// gathered first: its columns are as wide as what they hold. One that does not
// fit upright lies across, and so does all behind it.
type pdfSheet struct {
	out    io.Writer
	pdf    *fpdf.Fpdf
	head   *head
	rows   int
	runes  map[rune]float64 // widths of characters of one point, in mm
	failed error

	// The table that is gathered.
	name  string
	cols  []Column
	names []string
	lines []pdfLine

	across bool
	size   float64 // of its letters, in points
	widths []float64
}

// pdfLine is a row of text, or the total.
type pdfLine struct {
	cells []string
	total bool
}

const pdfMargin = 12.0 // mm

// pad is the empty space on each side of a cell in mm.
func (s *pdfSheet) pad() float64 { return s.size * 0.15 }

// high is the height of a line of text in mm.
func (s *pdfSheet) high() float64 { return s.size * 0.62 }

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
	s := &pdfSheet{out: w, pdf: fpdf.New("P", "mm", "A4", ""), runes: map[rune]float64{}}
	var ttf []byte
	if ttf, s.failed = font(); s.failed != nil {
		return s
	}
	at := date.Time().Add(24 * time.Hour)
	s.pdf.SetCreationDate(at)
	s.pdf.SetModificationDate(at)
	s.pdf.SetCatalogSort(true)
	s.pdf.AddUTF8FontFromBytes("cjk", "", ttf)
	s.pdf.SetFont("cjk", "", 8)
	s.pdf.SetMargins(pdfMargin, pdfMargin, pdfMargin)
	s.pdf.SetCellMargin(1)
	s.pdf.SetAutoPageBreak(false, pdfMargin)
	s.pdf.AliasNbPages("{pages}")
	s.pdf.SetFooterFunc(func() {
		w, h := s.paper()
		s.pdf.SetFont("cjk", "", 8)
		text := fmt.Sprintf("第 %d 页 / 共 {pages} 页", s.pdf.PageNo())
		// The number of pages is put in at the end, for a name that is wider.
		s.pdf.SetXY((w-s.pdf.GetStringWidth(strings.Replace(text, "{pages}", "00", 1)))/2, h-pdfMargin)
		s.pdf.CellFormat(0, 5, text, "", 0, "L", false, 0, "")
	})
	return s
}

// page begins a page. Those behind the first say of which report they are.
func (s *pdfSheet) page() {
	orientation := "P"
	if s.across {
		orientation = "L"
	}
	s.pdf.AddPageFormat(orientation, fpdf.SizeType{Wd: 210, Ht: 297})
	if s.pdf.PageNo() > 1 {
		w, _ := s.paper()
		s.pdf.SetFont("cjk", "", 7.5)
		s.pdf.SetTextColor(90, 90, 90)
		s.pdf.CellFormat(0, 5, s.wrap(s.head.short(), 7.5, w-2*pdfMargin)[0], "", 1, "L", false, 0, "")
		s.pdf.SetTextColor(0, 0, 0)
		s.pdf.Ln(1)
	}
	s.pdf.SetFont("cjk", "", s.size)
}

func (s *pdfSheet) begin(h *head) error {
	s.head = h
	s.pdf.SetTitle(h.short(), true)
	return s.failed
}

// top writes what stands above the first table.
func (s *pdfSheet) top() {
	s.page()
	w, _ := s.paper()
	s.pdf.SetFont("cjk", "", 15)
	s.pdf.CellFormat(0, 9, s.head.title, "", 1, "L", false, 0, "")
	s.pdf.SetFont("cjk", "", 8)
	for _, f := range s.head.facts {
		for i, line := range s.wrap(f[1], 8, w-2*pdfMargin-30) {
			name := ""
			if i == 0 {
				name = f[0]
			}
			s.pdf.CellFormat(30, 5, name, "", 0, "L", false, 0, "")
			s.pdf.CellFormat(0, 5, line, "", 1, "L", false, 0, "")
		}
	}
}

func (s *pdfSheet) table(name string, columns []Column) error {
	err := s.flush()
	s.name, s.cols, s.lines, s.names = name, columns, nil, make([]string, len(columns))
	for i, c := range columns {
		s.names[i] = c.Name
	}
	return err
}

func (s *pdfSheet) row(cells []any) error { return s.gather(cells, false) }

func (s *pdfSheet) total(cells []any) error { return s.gather(cells, true) }

func (s *pdfSheet) gather(cells []any, total bool) error {
	if s.rows++; s.rows > maxPDF {
		return refuse("a PDF of more than %d rows: take xlsx or csv, or a shorter period", maxPDF)
	}
	line := pdfLine{make([]string, len(cells)), total}
	for i, c := range cells {
		line.cells[i] = shown(c)
	}
	s.lines = append(s.lines, line)
	return nil
}

// flush lays the gathered table out and writes it.
func (s *pdfSheet) flush() error {
	if s.cols == nil {
		return s.failed
	}
	was := s.across
	s.fit()
	switch {
	case s.pdf.PageNo() == 0:
		s.top()
	case s.across != was:
		s.page()
	}
	high := s.high()
	s.pdf.Ln(high)
	s.room(6 * high)
	s.pdf.SetFont("cjk", "", s.size+2.5)
	s.pdf.CellFormat(0, high+1.5, s.name, "", 1, "L", false, 0, "")
	s.pdf.SetFont("cjk", "", s.size)
	s.pdf.SetCellMargin(s.pad())
	s.header()
	for i, line := range s.lines {
		lines, h := s.lay(line.cells)
		keep := h
		if i+1 < len(s.lines) && s.lines[i+1].total { // a total does not stand alone on a page
			keep += high + 1
		}
		if s.room(keep) {
			s.header()
		}
		s.line(lines, h, line.total)
	}
	s.cols = nil
	return s.pdf.Error()
}

// sizes are tried one after the other: upright, then across; at last with
// headings of two lines.
var sizes = []struct {
	across bool
	points float64
	lines  int // of a heading
}{{false, 8, 1}, {false, 7.5, 2}, {true, 7.5, 1}, {true, 7, 2}, {true, 6.5, 2}, {true, 6, 2}, {true, 5.5, 2}}

// fit chooses the way of the page, the size of the letters and the widths.
func (s *pdfSheet) fit() {
	was := s.across
	need := [...][]float64{1: s.need(1), 2: s.need(2)}
	for _, t := range sizes {
		if was && !t.across {
			continue
		}
		s.across, s.size = t.across, t.points
		if s.spread(need[t.lines]) {
			return
		}
	}
}

// need is the width of each column's longest cell in letters of one point, its
// heading being cut into lines.
func (s *pdfSheet) need(lines int) []float64 {
	need := make([]float64, len(s.cols))
	for i, name := range s.names {
		need[i] = s.width(name, 1)
		if n := len([]rune(name)); n > 3 {
			need[i] *= float64((n+lines-1)/lines) / float64(n)
		}
		for j := range s.lines {
			need[i] = max(need[i], s.width(s.lines[j].cells[i], 1))
		}
	}
	return need
}

// spread gives each column what its longest cell needs and an equal part of what is
// left. Where there is less, text gives way and is written in several lines, the
// widest first; amounts and dates never. False when text would be squeezed.
func (s *pdfSheet) spread(need []float64) bool {
	w, _ := s.paper()
	w -= 2 * pdfMargin
	s.widths = make([]float64, len(s.cols))
	sum := 0.0
	for i := range s.cols {
		s.widths[i] = need[i]*s.size + 2*s.pad() + 0.1
		sum += s.widths[i]
	}
	narrow := 22.0 // mm that text keeps
	if s.size < 6 {
		narrow = 12
	}
	for sum > w {
		widest, next := -1, narrow
		for i, c := range s.cols {
			if k := c.Kind; k != Text && k != Code || s.widths[i] <= narrow {
				continue
			}
			switch {
			case widest < 0 || s.widths[i] > s.widths[widest]:
				if widest >= 0 {
					next = max(next, s.widths[widest])
				}
				widest = i
			default:
				next = max(next, s.widths[i])
			}
		}
		if widest < 0 {
			break
		}
		less := min(sum-w, max(s.widths[widest]-next, 0.5))
		s.widths[widest] -= less
		sum -= less
	}
	fits := sum <= w+0.01
	for i := range s.widths {
		if fits {
			s.widths[i] += (w - sum) / float64(len(s.widths))
		} else { // the last size is taken all the same
			s.widths[i] *= w / sum
		}
	}
	return fits
}

// width is a text's width in mm.
func (s *pdfSheet) width(text string, points float64) (mm float64) {
	for _, c := range text {
		w, known := s.runes[c]
		if !known {
			size, _ := s.pdf.GetFontSize()
			w = s.pdf.GetStringWidth(string(c)) / size
			s.runes[c] = w
		}
		mm += w * points
	}
	return mm
}

func (s *pdfSheet) header() {
	s.pdf.SetFillColor(240, 240, 240)
	lines, h := s.lay(s.names)
	_, y := s.pdf.GetXY()
	s.pdf.Rect(pdfMargin, y, s.full(), h, "F")
	s.line(lines, h, false)
}

func (s *pdfSheet) full() (w float64) {
	for _, x := range s.widths {
		w += x
	}
	return w
}

// room begins a page when less than h is left; true when it did.
func (s *pdfSheet) room(h float64) bool {
	if _, high := s.paper(); s.pdf.GetY()+h <= high-1.5*pdfMargin {
		return false
	}
	s.page()
	return true
}

// wrap cuts a text into lines of at most a width, after any character: the
// library's own wrapping loses Chinese ones.
func (s *pdfSheet) wrap(text string, points, width float64) []string {
	lines, from, used := []string{}, 0, 0.0
	for i, c := range text {
		w := s.width(string(c), points)
		if used+w > width && i > from {
			lines, from, used = append(lines, text[from:i]), i, 0
		}
		used += w
	}
	return append(lines, text[from:])
}

// lay cuts a row's cells into lines and says how high the row is.
func (s *pdfSheet) lay(cells []string) (lines [][]string, h float64) {
	most := 1
	for i, c := range cells {
		lines = append(lines, s.wrap(c, s.size, s.widths[i]-2*s.pad()))
		most = max(most, len(lines[i]))
	}
	return lines, float64(most)*s.high() + 0.8
}

// line writes a row; a total stands under a strong line.
func (s *pdfSheet) line(cells [][]string, h float64, total bool) {
	x, y := pdfMargin, s.pdf.GetY()
	high := s.high()
	for i, lines := range cells {
		align := "L"
		if k := s.cols[i].Kind; k == Money || k == Count {
			align = "R"
		}
		for j, text := range lines {
			s.pdf.SetXY(x, y+0.4+float64(j)*high)
			s.pdf.CellFormat(s.widths[i], high, text, "", 0, align, false, 0, "")
		}
		x += s.widths[i]
	}
	if total {
		s.pdf.SetDrawColor(60, 60, 60)
		s.pdf.Line(pdfMargin, y, x, y)
	} else {
		s.pdf.SetDrawColor(200, 200, 200)
	}
	s.pdf.Line(pdfMargin, y+h, x, y+h)
	s.pdf.SetXY(pdfMargin, y+h)
}

func (s *pdfSheet) end() error {
	if err := s.flush(); err != nil {
		return err
	}
	if s.pdf.PageNo() == 0 {
		s.size = 8
		s.top()
	}
	return s.pdf.Output(s.out)
}

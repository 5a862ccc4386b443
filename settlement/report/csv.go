package report

import (
	"bufio"
	"encoding/csv"
	"io"
)

// csvSheet writes UTF-8 with a byte order mark, by which Excel knows it, and lines that
// end in CR LF (RFC 4180). Tables follow each other behind an empty line. A code
// that reads as a number stands behind a backtick, as in the wallets' bills: Excel
// would make a number of it and lose its first zeros or its last digits.
type csvSheet struct {
	out  *bufio.Writer
	w    *csv.Writer
	cols []Column
	line []string
}

func newCSV(w io.Writer) *csvSheet {
	out := bufio.NewWriter(w)
	s := &csvSheet{out: out, w: csv.NewWriter(out)}
	s.w.UseCRLF = true
	return s
}

func (s *csvSheet) begin(h *head) error {
	if _, err := s.out.WriteString("\ufeff"); err != nil {
		return err
	}
	if err := s.w.Write([]string{guarded(h.title)}); err != nil {
		return err
	}
	for _, f := range h.facts {
		if err := s.w.Write([]string{guarded(f[0]), code(f[1])}); err != nil {
			return err
		}
	}
	return nil
}

func (s *csvSheet) table(name string, columns []Column) error {
	s.w.Flush()
	if _, err := s.out.WriteString("\r\n"); err != nil {
		return err
	}
	if err := s.w.Write([]string{guarded(name)}); err != nil {
		return err
	}
	s.cols, s.line = columns, make([]string, len(columns))
	for i, c := range columns {
		s.line[i] = guarded(c.Name)
	}
	return s.w.Write(s.line)
}

func (s *csvSheet) row(cells []any) error {
	for i, c := range cells {
		s.line[i] = text(c)
		switch s.cols[i].Kind {
		case Text:
			s.line[i] = guarded(s.line[i])
		case Code:
			s.line[i] = code(s.line[i])
		}
	}
	return s.w.Write(s.line)
}

func (s *csvSheet) total(cells []any) error { return s.row(cells) }

// code keeps a name's characters where a spreadsheet would make another number
// of them: of more digits than it holds, of zeros in front, of an E between digits.
func code(s string) string {
	digits, es := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case (c == 'E' || c == 'e') && i > 0 && i < len(s)-1:
			es++
		default:
			return guarded(s)
		}
	}
	if digits >= 12 || es == 1 || es == 0 && digits > 1 && s[0] == '0' {
		return "`" + s
	}
	return s
}

func (s *csvSheet) end() error {
	s.w.Flush()
	if err := s.w.Error(); err != nil {
		return err
	}
	return s.out.Flush()
}

package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
)

// jsonSheet writes one object: title, facts, and tables whose rows are objects.
// Money is text with two decimals. A table's total is beside its rows, so that
// who adds them up does not count everything twice.
type jsonSheet struct {
	out    *bufio.Writer
	cols   []Column
	tables int
	rows   int
	closed bool // the rows are, by a total
}

func newJSON(w io.Writer) *jsonSheet { return &jsonSheet{out: bufio.NewWriter(w)} }

func (s *jsonSheet) put(parts ...any) error {
	for _, p := range parts {
		if raw, ok := p.(rawJSON); ok {
			if _, err := s.out.WriteString(string(raw)); err != nil {
				return err
			}
			continue
		}
		b, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if _, err := s.out.Write(b); err != nil {
			return err
		}
	}
	return nil
}

type rawJSON string

func (s *jsonSheet) begin(h *head) error {
	if err := s.put(rawJSON(`{"title":`), h.title, rawJSON(`,"facts":{`)); err != nil {
		return err
	}
	for i, f := range h.facts {
		if i > 0 {
			if err := s.put(rawJSON(",")); err != nil {
				return err
			}
		}
		if err := s.put(f[0], rawJSON(":"), f[1]); err != nil {
			return err
		}
	}
	return s.put(rawJSON(`},"tables":[`))
}

func (s *jsonSheet) table(name string, columns []Column) error {
	if err := s.close(); err != nil {
		return err
	}
	before := rawJSON("\n")
	if s.tables > 0 {
		before = ",\n"
	}
	s.cols, s.rows, s.closed = columns, 0, false
	s.tables++
	return s.put(before, rawJSON(`{"name":`), name, rawJSON(`,"rows":[`))
}

// close ends a table.
func (s *jsonSheet) close() error {
	switch {
	case s.tables == 0:
		return nil
	case s.closed:
		return s.put(rawJSON("}"))
	}
	return s.put(rawJSON("]}"))
}

func (s *jsonSheet) row(cells []any) error {
	before := rawJSON("\n")
	if s.rows > 0 {
		before = ",\n"
	}
	s.rows++
	return s.object(before, cells, false)
}

// total leaves out the label and what has no sum.
func (s *jsonSheet) total(cells []any) error {
	s.closed = true
	return s.object(`],"total":`, cells, true)
}

// object writes cells under their columns' keys.
func (s *jsonSheet) object(before rawJSON, cells []any, total bool) error {
	before += "{"
	for i, c := range cells {
		if total && (i == 0 || c == nil) {
			continue
		}
		if err := s.put(before, s.cols[i].Key, rawJSON(":"), c); err != nil {
			return err
		}
		before = ","
	}
	if before != "," { // nothing stands in it
		return s.put(before, rawJSON("}"))
	}
	return s.put(rawJSON("}"))
}

func (s *jsonSheet) end() error {
	if err := errors.Join(s.close(), s.put(rawJSON("]}\n"))); err != nil {
		return err
	}
	return s.out.Flush()
}

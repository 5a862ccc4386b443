package report

import (
	"bufio"
	"encoding/json"
	"io"
)

// jsonSheet writes one object: title, facts, and tables whose rows are objects.
// Money is text with two decimals.
type jsonSheet struct {
	out    *bufio.Writer
	cols   []Column
	tables int
	rows   int
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
	before := rawJSON("\n")
	if s.tables > 0 {
		before = "]},\n"
	}
	s.cols, s.rows = columns, 0
	s.tables++
	return s.put(before, rawJSON(`{"name":`), name, rawJSON(`,"rows":[`))
}

func (s *jsonSheet) row(cells []any) error {
	before := rawJSON("\n{")
	if s.rows > 0 {
		before = ",\n{"
	}
	s.rows++
	if err := s.put(before); err != nil {
		return err
	}
	for i, c := range cells {
		if i > 0 {
			if err := s.put(rawJSON(",")); err != nil {
				return err
			}
		}
		if err := s.put(s.cols[i].Key, rawJSON(":"), c); err != nil {
			return err
		}
	}
	return s.put(rawJSON("}"))
}

func (s *jsonSheet) end() error {
	last := rawJSON("]}]}\n")
	if s.tables == 0 {
		last = "]}\n"
	}
	if err := s.put(last); err != nil {
		return err
	}
	return s.out.Flush()
}

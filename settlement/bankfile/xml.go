package bankfile

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// scanner walks an XML document element by element.
type scanner struct {
	d         *xml.Decoder
	path      []string // below the root
	root      xml.Name
	at        place // of the element that is being read
	last      string
	attr      []xml.Attr
	closed    bool // the root has ended
	recording strings.Builder
}

type place struct{ line, column int }

const (
	maxDepth = 32
	maxText  = 4 << 10
)

func newScanner(r io.Reader) *scanner {
	d := xml.NewDecoder(&limited{r: bufio.NewReaderSize(r, 64<<10), left: MaxSize})
	return &scanner{d: d}
}

// event is an element that begins, or one that ends with the text it held.
type event struct {
	ends bool
	path string // below the root, like GrpHdr/MsgId
	text string // of an element that ends without children
}

// next gives the next element that begins or ends; io.EOF after the root's end.
func (s *scanner) next() (event, error) {
	for {
		line, column := s.d.InputPos()
		s.at = place{line, column}
		tok, err := s.d.Token()
		if err == io.EOF {
			if !s.closed {
				return event{}, s.bad("", "the file ends early")
			}
			return event{}, io.EOF
		}
		var known *Error
		if errors.As(err, &known) {
			return event{}, known
		}
		if err != nil {
			return event{}, s.bad(s.here(), "not XML: "+plain(err))
		}
		switch t := tok.(type) {
		case xml.Directive:
			return event{}, s.bad("", "a document type declaration is not taken")
		case xml.StartElement:
			if s.closed {
				return event{}, s.bad("", "more after the end of the document")
			}
			s.recording.Reset()
			if s.root.Local == "" {
				s.root = t.Name
				continue
			}
			if len(s.path) >= maxDepth {
				return event{}, s.bad(s.here(), "nested too deeply")
			}
			if t.Name.Space != s.root.Space {
				// Supplementary data of a foreign namespace is the bank's own affair.
				if err := s.d.Skip(); err != nil {
					return event{}, s.bad(s.here(), "not XML: "+plain(err))
				}
				continue
			}
			s.path = append(s.path, t.Name.Local)
			s.last, s.attr = s.here(), t.Attr
			return event{path: s.last}, nil
		case xml.EndElement:
			if len(s.path) == 0 {
				s.closed = true
				continue
			}
			e := event{ends: true, path: s.here()}
			if e.path == s.last {
				e.text = strings.TrimSpace(s.recording.String())
			}
			s.last = ""
			s.recording.Reset()
			s.path = s.path[:len(s.path)-1]
			return e, nil
		case xml.CharData:
			if s.recording.Len()+len(t) > maxText {
				return event{}, s.bad(s.here(), "the text of an element is too long")
			}
			s.recording.Write(t)
		}
	}
}

func (s *scanner) here() string { return strings.Join(s.path, "/") }

func (s *scanner) bad(path, what string) error {
	return &Error{Line: s.at.line, Column: s.at.column, Path: path, What: what}
}

// plain is a decoder's error without what the file held there, which may be an
// account number.
func plain(err error) string {
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		what, _, _ := strings.Cut(syntax.Msg, ":")
		what, _, _ = strings.Cut(what, "<")
		return strings.TrimSpace(what)
	}
	return "it cannot be read"
}

// open reads up to the root and checks that it is one of the family, like
// camt.054.001.
func (s *scanner) open(families ...string) (event, error) {
	e, err := s.next()
	if err == io.EOF {
		return e, s.bad("", "the document is empty")
	}
	if err != nil {
		return e, err
	}
	const iso = "urn:iso:std:iso:20022:tech:xsd:"
	for _, f := range families {
		if s.root.Local == "Document" && strings.HasPrefix(s.root.Space, iso+f+".") {
			return e, nil
		}
	}
	return e, s.bad("", fmt.Sprintf("the document is %.60q in %.80q; want Document in %s%s.NN", s.root.Local, s.root.Space, iso, strings.Join(families, ".NN or ")))
}

// amount reads what the element that just ended holds; its currency is checked
// where it carries one.
func (s *scanner) amount(path, text string) (money.Amount, error) {
	for _, a := range s.attr {
		if a.Name.Local == "Ccy" && a.Value != Currency {
			return 0, s.bad(path, fmt.Sprintf("the currency is %.8q; want %s", a.Value, Currency))
		}
	}
	return s.sum(path, text)
}

// sum reads a decimal; ISO 20022 allows zeros beyond the fen.
func (s *scanner) sum(path, text string) (money.Amount, error) {
	short := text
	if i := strings.IndexByte(text, '.'); i >= 0 {
		for len(short) > i+3 && strings.HasSuffix(short, "0") {
			short = short[:len(short)-1]
		}
	}
	a, err := money.Parse(short)
	if err != nil || a < 0 {
		return 0, s.bad(path, fmt.Sprintf("%.32q is not an amount of yuan and fen", text))
	}
	return a, nil
}

func (s *scanner) count(path, text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, s.bad(path, fmt.Sprintf("%.32q is not a count", text))
	}
	return n, nil
}

// date reads an ISO 8601 date, or the date in Beijing of a date and time.
func (s *scanner) date(path, text string) (calendar.Date, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return calendar.DateOf(t), nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04:05", "2006-01-02Z07:00"} {
		if t, err := time.ParseInLocation(layout, text, calendar.Beijing); err == nil {
			return calendar.NewDate(t.Year(), t.Month(), t.Day()), nil
		}
	}
	return 0, s.bad(path, fmt.Sprintf("%.40q is not a date", text))
}

// name reads an identification.
func (s *scanner) name(path, text string) (string, error) {
	if !identifier(text, 70) {
		return "", s.bad(path, fmt.Sprintf("an identification of %d bytes; want 1 to 70 printable ones without blanks", len(text)))
	}
	return text, nil
}

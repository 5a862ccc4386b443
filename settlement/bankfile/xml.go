package bankfile

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"

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
	chinese   bool // in GB 18030
	recording strings.Builder
}

type place struct{ line, column int }

const (
	maxDepth = 32
	maxText  = 4 << 10
)

func newScanner(r io.Reader) *scanner {
	s := &scanner{d: xml.NewDecoder(&limited{r: bufio.NewReaderSize(r, 64<<10), left: MaxSize})}
	s.d.CharsetReader = s.charset
	return s
}

// charset reads what is not in UTF-8: ISO 20022 wants that, and banks in China
// write GBK and GB2312 too, which are parts of GB 18030.
func (s *scanner) charset(name string, in io.Reader) (io.Reader, error) {
	switch strings.ToUpper(name) {
	case "US-ASCII":
		return in, nil
	case "GB18030", "GBK", "GB2312":
		s.chinese = true
		return simplifiedchinese.GB18030.NewDecoder().Reader(in), nil
	}
	return nil, s.bad("", fmt.Sprintf("the file is in %.32q; want UTF-8, or GB18030, GBK, GB2312", name))
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
			if s.chinese && bytes.ContainsRune(t, utf8.RuneError) {
				return event{}, s.bad(s.here(), "not GB 18030, which the file says it is in")
			}
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

// yuan holds for an element that just ended in our currency, or in none.
func (s *scanner) yuan() bool {
	return !slices.ContainsFunc(s.attr, func(a xml.Attr) bool { return a.Name.Local == "Ccy" && a.Value != Currency })
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

// sum reads a decimal as XML writes them: with zeros beyond the fen, a sign, or
// nothing on one side of the point.
func (s *scanner) sum(path, text string) (money.Amount, error) {
	short := strings.TrimPrefix(text, "+")
	if strings.HasPrefix(short, ".") {
		short = "0" + short
	}
	if whole, ok := strings.CutSuffix(short, "."); ok {
		short = whole
	}
	if i := strings.IndexByte(short, '.'); i >= 0 {
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
	t, err := s.moment(path, text)
	return calendar.DateOf(t), err
}

// moment reads an ISO 8601 date and time, in Beijing where no zone is said, or the
// midnight at which a date begins there, whatever its zone.
func (s *scanner) moment(path, text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.In(calendar.Beijing), nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04:05", "2006-01-02Z07:00"} {
		if t, err := time.ParseInLocation(layout, text, calendar.Beijing); err == nil {
			return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, calendar.Beijing), nil
		}
	}
	return time.Time{}, s.bad(path, fmt.Sprintf("%.40q is not a date", text))
}

// title reads an identification that somebody else gave: blanks may stand in it.
func (s *scanner) title(path, text string) (string, error) {
	text = shortened(text)
	if n := utf8.RuneCountInString(text); n == 0 || n > 70 {
		return "", s.bad(path, fmt.Sprintf("an identification of %d characters; want 1 to 70", n))
	}
	return text, nil
}

// name reads an identification that we gave.
func (s *scanner) name(path, text string) (string, error) {
	if !identifier(text, 70) {
		return "", s.bad(path, fmt.Sprintf("an identification of %d bytes; want 1 to 70 printable ones without blanks", len(text)))
	}
	return text, nil
}

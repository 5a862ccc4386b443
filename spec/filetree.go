package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Mistake is one thing that is wrong in a dialect file.
type Mistake struct {
	Line   int    `json:"line"`
	Where  string `json:"where,omitempty"` // "field 35", "message sale"; "" when it is about the file
	Reason string `json:"reason"`
}

func (m Mistake) String() string {
	s := "line " + strconv.Itoa(m.Line) + ": "
	if m.Where != "" {
		s += m.Where + ": "
	}
	return s + m.Reason
}

// FileError is a dialect file that cannot be used: all that is wrong with it,
// in the order of its lines.
type FileError struct {
	File     string
	Mistakes []Mistake
}

func (e *FileError) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		lines[i] = e.File + ": " + m.String()
	}
	return strings.Join(lines, "\n")
}

// node is a JSON value with the line it begins on.
type node struct {
	line  int
	shape shapeOf
	text  string // of a string or number
	flag  bool
	list  []node
	keys  []member
}

type member struct {
	name  string
	line  int
	value node
}

type shapeOf uint8

const (
	anObject shapeOf = iota + 1
	aList
	aString
	aNumber
	aBool
	aNull
)

var shapeNames = [...]string{anObject: "an object", aList: "a list", aString: "a text", aNumber: "a number", aBool: "true or false", aNull: "null"}

// maxNesting is more than any dialect file needs.
const maxNesting = 8

// tree reads JSON into nodes that know their lines; encoding/json alone tells
// neither lines nor keys that stand twice.
type tree struct {
	d    *json.Decoder
	text []byte
	line int
	seen int64 // how far line has counted
}

func readTree(text []byte) (node, *Mistake) {
	t := &tree{d: json.NewDecoder(bytes.NewReader(text)), text: text, line: 1}
	t.d.UseNumber()
	n, err := t.value(0)
	if err == nil {
		if _, err = t.d.Token(); err == nil {
			err = errors.New("more text behind the end of the object")
		} else if errors.Is(err, io.EOF) {
			return n, nil
		}
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		t.advance(min(syntax.Offset, int64(len(text))))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.advance(int64(len(text)))
		err = errors.New("the file ends in the middle")
	}
	return n, &Mistake{Line: t.line, Reason: "not JSON: " + err.Error()}
}

// advance counts the lines up to an offset.
func (t *tree) advance(to int64) {
	if to > t.seen {
		t.line += bytes.Count(t.text[t.seen:to], []byte("\n"))
		t.seen = to
	}
}

func (t *tree) token() (json.Token, error) {
	tok, err := t.d.Token()
	t.advance(t.d.InputOffset())
	return tok, err
}

func (t *tree) value(depth int) (node, error) {
	tok, err := t.token()
	if err != nil {
		return node{}, err
	}
	n := node{line: t.line}
	switch v := tok.(type) {
	case json.Delim:
		if depth == maxNesting {
			return n, fmt.Errorf("nested deeper than %d", maxNesting)
		}
		if v == '{' {
			n.shape = anObject
		} else {
			n.shape = aList
		}
		for t.d.More() {
			var m member
			if v == '{' {
				key, err := t.token()
				if err != nil {
					return n, err
				}
				m.name, _ = key.(string)
				m.line = t.line
			}
			if m.value, err = t.value(depth + 1); err != nil {
				return n, err
			}
			if v == '{' {
				n.keys = append(n.keys, m)
			} else {
				n.list = append(n.list, m.value)
			}
		}
		_, err = t.token() // the closing bracket
		return n, err
	case string:
		n.shape, n.text = aString, v
	case json.Number:
		n.shape, n.text = aNumber, v.String()
	case bool:
		n.shape, n.flag = aBool, v
	default:
		n.shape = aNull
	}
	return n, nil
}

// review collects what is wrong while a tree is read.
type review struct {
	where    string
	mistakes []Mistake
}

func (r *review) wrong(line int, format string, args ...any) {
	r.mistakes = append(r.mistakes, Mistake{Line: line, Where: r.where, Reason: fmt.Sprintf(format, args...)})
}

// object gives the members of n by name. Every name must be one of known,
// those before "|" must be there, and none may stand twice.
func (r *review) object(n *node, what string, known ...string) map[string]*node {
	out := map[string]*node{}
	if !r.is(n, what, anObject) {
		return out
	}
	for i := range n.keys {
		k := &n.keys[i]
		switch {
		case k.name == "|" || !slices.Contains(known, k.name):
			r.wrong(k.line, "unknown key %q; want %s", k.name, names(slices.DeleteFunc(slices.Clone(known), func(s string) bool { return s == "|" })))
		case out[k.name] != nil:
			r.wrong(k.line, "key %q stands twice, first on line %d", k.name, out[k.name].line)
		default:
			out[k.name] = &k.value
		}
	}
	for _, name := range known {
		if name == "|" {
			break
		}
		if out[name] == nil {
			r.wrong(n.line, "%s: key %q is missing", what, name)
		}
	}
	return out
}

func (r *review) is(n *node, what string, want shapeOf) bool {
	if n.shape != want {
		r.wrong(n.line, "%s: want %s, found %s", what, shapeNames[want], shapeNames[n.shape])
	}
	return n.shape == want
}

// word is a string; "" when there is none, which object has told, or when it
// is something else.
func (r *review) word(n *node, what string) string {
	if n == nil || !r.is(n, what, aString) {
		return ""
	}
	return n.text
}

// one is a string out of a list.
func (r *review) one(n *node, what string, of ...string) string {
	s := r.word(n, what)
	if n == nil || n.shape != aString {
		return ""
	}
	if !slices.Contains(of, s) {
		r.wrong(n.line, "%s %q is none of %s", what, s, names(of))
		return ""
	}
	return s
}

// number is a whole number in a range; 0 when it is not.
func (r *review) number(n *node, what string, least, most int) int {
	if n == nil || !r.is(n, what, aNumber) {
		return 0
	}
	v, err := strconv.Atoi(n.text)
	if err != nil || v < least || v > most {
		r.wrong(n.line, "%s %s: want a whole number from %d to %d", what, n.text, least, most)
		return 0
	}
	return v
}

func (r *review) yes(n *node, what string) bool {
	return n != nil && r.is(n, what, aBool) && n.flag
}

// words is a string or a list of strings.
func (r *review) words(n *node, what string) (out []string) {
	if n == nil {
		return nil
	}
	if n.shape == aList {
		for i := range n.list {
			out = append(out, r.word(&n.list[i], what))
		}
		return out
	}
	return []string{r.word(n, what)}
}

// items is a list; nil when there is none.
func (r *review) items(n *node, what string) []node {
	if n == nil || !r.is(n, what, aList) {
		return nil
	}
	return n.list
}

func names(list []string) string { return strings.Join(list, ", ") }

// Package schematest holds messages of ISO 20022 against the schemas that ISO
// publishes. The schemas are not ours to keep: they come with the module
// github.com/moov-io/iso20022 (Apache 2.0), which go.mod pins, and are read from where
// Go has put it.
package schematest

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/moov-io/iso20022/pkg/utils"
)

const module = "github.com/moov-io/iso20022"

// Pain001 is the schema of pain.001.001.09. The module has 10, which is 09 with
// three elements more and two of another type, all of them optional: none of
// the five is taken here. Every other type on the way of a payment has the same
// name in both versions, and so is the same.
func Pain001(t testing.TB) *Schema {
	s := read(t, "payments_initiation_11/pain.001.001.10_1.xsd", utils.DocumentPain00100110NameSpace)
	s.without(t, "GroupHeader95/InitnSrc", "PaymentInstruction34/ReqdAdvcTp", "CreditTransferTransaction40/MndtRltdInf", "CreditTransferTransaction40/InstrForCdtrAgt", "CreditTransferTransaction40/InstrForDbtrAgt")
	s.space = strings.TrimSuffix(s.space, "10") + "09"
	return s
}

// Pain002 is the schema of pain.002.001.10, which answers pain.001.001.09. The
// module has 11, where a transaction can be tracked; that is not taken here.
func Pain002(t testing.TB) *Schema {
	s := read(t, "payments_initiation_11/pain.002.001.11.xsd", utils.DocumentPain00200111NameSpace)
	s.without(t, "PaymentTransaction126/TrckrData")
	s.space = strings.TrimSuffix(s.space, "11") + "10"
	return s
}

// Camt053 is the schema of camt.053.001.08.
func Camt053(t testing.TB) *Schema {
	return read(t, "banktocustomer_cash_management_8/camt.053.001.08.xsd", utils.DocumentCamt05300108NameSpace)
}

// Camt054 is the schema of camt.054.001.08.
func Camt054(t testing.TB) *Schema {
	return read(t, "banktocustomer_cash_management_8/camt.054.001.08.xsd", utils.DocumentCamt05400108NameSpace)
}

// Schema is one message's schema.
type Schema struct {
	space   string
	root    element
	complex map[string]complexType
	simple  map[string]simpleType
}

// What follows is as much of XML Schema as ISO uses. Whatever else a schema
// holds lands in Rest and is refused, so that nothing is left unchecked.
type (
	unknown struct{ XMLName xml.Name }
	file    struct {
		Space    string        `xml:"targetNamespace,attr"`
		Elements []element     `xml:"element"`
		Complex  []complexType `xml:"complexType"`
		Simple   []simpleType  `xml:"simpleType"`
		Rest     []unknown     `xml:",any"`
	}
	element struct {
		Name  string    `xml:"name,attr"`
		Is    string    `xml:"type,attr"`
		Least string    `xml:"minOccurs,attr"`
		Most  string    `xml:"maxOccurs,attr"`
		Rest  []unknown `xml:",any"`
	}
	group struct {
		Elements []element `xml:"element"`
		Any      *struct{} `xml:"any"`
		Rest     []unknown `xml:",any"`
	}
	complexType struct {
		Name     string     `xml:"name,attr"`
		Sequence *group     `xml:"sequence"`
		Choice   *group     `xml:"choice"`
		Amount   *extension `xml:"simpleContent>extension"`
		Rest     []unknown  `xml:",any"`
	}
	extension struct {
		Base       string    `xml:"base,attr"`
		Attributes []element `xml:"attribute"`
		Rest       []unknown `xml:",any"`
	}
	simpleType struct {
		Name string `xml:"name,attr"`
		Is   struct {
			Base           string    `xml:"base,attr"`
			Patterns       []value   `xml:"pattern"`
			Enumeration    []value   `xml:"enumeration"`
			MinLength      *value    `xml:"minLength"`
			MaxLength      *value    `xml:"maxLength"`
			MinInclusive   *value    `xml:"minInclusive"`
			FractionDigits *value    `xml:"fractionDigits"`
			TotalDigits    *value    `xml:"totalDigits"`
			Rest           []unknown `xml:",any"`
		} `xml:"restriction"`
		Rest []unknown `xml:",any"`
	}
	value struct {
		V string `xml:"value,attr"`
	}
)

// folder is where the module's schemas are.
var folder = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		return "", fmt.Errorf("no %s here (%w); get it with: go mod download", module, err)
	}
	return filepath.Join(string(bytes.TrimSpace(out)), "docs", "specifications"), nil
})

func read(t testing.TB, name, space string) *Schema {
	t.Helper()
	dir, err := folder()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := xml.Unmarshal(text, &f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s := &Schema{space: f.Space, complex: map[string]complexType{}, simple: map[string]simpleType{}}
	strange := f.Rest
	for _, c := range f.Complex {
		s.complex[c.Name] = c
		strange = append(strange, c.Rest...)
		for _, g := range []*group{c.Sequence, c.Choice} {
			if g != nil {
				strange = append(strange, g.Rest...)
				for _, e := range g.Elements {
					strange = append(strange, e.Rest...)
				}
			}
		}
		if c.Amount != nil {
			strange = append(strange, c.Amount.Rest...)
		}
	}
	for _, c := range f.Simple {
		s.simple[c.Name] = c
		strange = append(append(strange, c.Rest...), c.Is.Rest...)
	}
	if len(strange) > 0 || len(f.Elements) != 1 || f.Space != space {
		t.Fatalf("%s is not read whole: %v, %d roots in %s", name, strange, len(f.Elements), f.Space)
	}
	s.root = f.Elements[0]
	return s
}

// without takes optional elements of sequences away, each as TYPE/ELEMENT.
func (s *Schema) without(t testing.TB, elements ...string) {
	t.Helper()
	for _, path := range elements {
		of, name, _ := strings.Cut(path, "/")
		c := s.complex[of]
		if c.Sequence == nil {
			t.Fatalf("the schema has no %s", of)
		}
		left := slices.DeleteFunc(slices.Clone(c.Sequence.Elements), func(e element) bool { return e.Name == name && e.Least == "0" })
		if len(left) != len(c.Sequence.Elements)-1 {
			t.Fatalf("the schema has no optional %s", path)
		}
		c.Sequence = &group{Elements: left}
		s.complex[of] = c
	}
}

// Breaks says where a document is not what the schema demands, path by path.
func (s *Schema) Breaks(document []byte) []string {
	root, err := tree(document)
	if err != nil {
		return []string{err.Error()}
	}
	if root.name != (xml.Name{Space: s.space, Local: s.root.Name}) {
		return []string{fmt.Sprintf("the root is %s in %s; want %s in %s", root.name.Local, root.name.Space, s.root.Name, s.space)}
	}
	return s.element(root, root.name.Local, s.root.Is)
}

type node struct {
	name     xml.Name
	attr     []xml.Attr
	text     string
	children []*node
}

func tree(document []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(document))
	open := []*node{{}}
	for {
		tok, err := d.Token()
		top := open[len(open)-1]
		switch t := tok.(type) {
		case xml.StartElement:
			n := &node{name: t.Name}
			for _, a := range t.Attr {
				if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					n.attr = append(n.attr, a)
				}
			}
			top.children = append(top.children, n)
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			top.text += string(t)
		}
		if err == io.EOF && len(open[0].children) == 1 {
			return open[0].children[0], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (s *Schema) element(n *node, path, is string) (all []string) {
	if n.name.Space != s.space {
		all = append(all, path+" is in another namespace")
	}
	c, ok := s.complex[is]
	if !ok {
		c.Amount = &extension{Base: is}
	}
	if c.Amount != nil {
		all = append(all, s.attributes(n, path, c.Amount.Attributes)...)
		if why := s.value(n.text, c.Amount.Base); why != "" || len(n.children) > 0 {
			all = append(all, fmt.Sprintf("%s is %q, no %s: %s", path, n.text, c.Amount.Base, why))
		}
		return all
	}
	all = append(all, s.attributes(n, path, nil)...)
	if strings.TrimSpace(n.text) != "" {
		all = append(all, path+" holds text")
	}
	if c.Choice != nil {
		return append(all, s.choice(n, path, c.Choice)...)
	}
	rest := n.children
	if c.Sequence.Any != nil && len(rest) > 0 {
		rest = rest[1:]
	}
	for _, e := range c.Sequence.Elements {
		count := 0
		for len(rest) > 0 && rest[0].name.Local == e.Name {
			all = append(all, s.element(rest[0], path+"/"+e.Name, e.Is)...)
			rest, count = rest[1:], count+1
		}
		if least, most := e.occurs(); count < least || count > most {
			all = append(all, fmt.Sprintf("%s/%s stands %d times", path, e.Name, count))
		}
	}
	for _, c := range rest {
		all = append(all, path+"/"+c.name.Local+" is not there, or not in this place")
	}
	return all
}

func (e *element) occurs() (least, most int) {
	least, most = 1, 1
	if e.Least != "" {
		least, _ = strconv.Atoi(e.Least) // a number, by the schema of schemas
	}
	if e.Most == "unbounded" {
		return least, 1 << 30
	}
	if e.Most != "" {
		most, _ = strconv.Atoi(e.Most)
	}
	return least, most
}

func (s *Schema) choice(n *node, path string, g *group) []string {
	if len(n.children) != 1 {
		return []string{fmt.Sprintf("%s is a choice and has %d", path, len(n.children))}
	}
	for _, e := range g.Elements {
		if one := n.children[0]; one.name.Local == e.Name {
			return s.element(one, path+"/"+e.Name, e.Is)
		}
	}
	return []string{path + "/" + n.children[0].name.Local + " is none of the choice"}
}

func (s *Schema) attributes(n *node, path string, want []element) (all []string) {
	for _, w := range want { // all of them are required
		i := slices.IndexFunc(n.attr, func(a xml.Attr) bool { return a.Name == xml.Name{Local: w.Name} })
		if i < 0 {
			all = append(all, path+" has no attribute "+w.Name)
		} else if why := s.value(n.attr[i].Value, w.Is); why != "" {
			all = append(all, fmt.Sprintf("%s: %s is %q: %s", path, w.Name, n.attr[i].Value, why))
		}
	}
	if len(n.attr) > len(want) {
		all = append(all, path+" has attributes that are not there")
	}
	return all
}

// forms are how the values of XML's own types are written. Times are looked at
// more closely.
var forms = map[string]*regexp.Regexp{
	"xs:string":       regexp.MustCompile(`(?s)^.*$`),
	"xs:decimal":      regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)$`),
	"xs:boolean":      regexp.MustCompile(`^(true|false|1|0)$`),
	"xs:date":         regexp.MustCompile(`^\d{4}-\d\d-\d\d(Z|[+-]\d\d:\d\d)?$`),
	"xs:dateTime":     regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?$`),
	"xs:gYearMonth":   regexp.MustCompile(`^\d{4}-\d\d$`),
	"xs:base64Binary": regexp.MustCompile(`^[A-Za-z0-9+/= \n]*$`),
}

// value says why a text is not of a simple type; empty when it is.
func (s *Schema) value(text, is string) string {
	t, ok := s.simple[is]
	if !ok {
		return "no type of that name"
	}
	r := t.Is
	form := forms[r.Base]
	if r.Base != "xs:string" {
		text = strings.TrimSpace(text)
	}
	number := func(v *value) int {
		n, err := strconv.Atoi(v.V)
		if err != nil {
			panic("schematest: a facet of " + is + " is no number")
		}
		return n
	}
	length := utf8.RuneCountInString(text)
	whole, fraction, _ := strings.Cut(strings.TrimLeft(text, "+-"), ".")
	whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	in := func(of []value, match func(v string) bool) bool {
		return len(of) == 0 || slices.ContainsFunc(of, func(v value) bool { return match(v.V) })
	}
	switch {
	case form == nil || !form.MatchString(text):
		return "not as " + r.Base + " is written"
	case r.Base == "xs:date" || r.Base == "xs:dateTime":
		if _, err := time.Parse(time.DateOnly, text[:10]); err != nil {
			return "no day"
		}
		if _, err := time.Parse("T15:04:05", (text + "T00:00:00")[10:19]); r.Base == "xs:dateTime" && err != nil {
			return "no time"
		}
	case !in(r.Enumeration, func(v string) bool { return v == text }):
		return "not one of its codes"
	case !in(r.Patterns, func(v string) bool { return regexp.MustCompile(`^(` + v + `)$`).MatchString(text) }):
		return "not of its pattern"
	case r.MinLength != nil && length < number(r.MinLength), r.MaxLength != nil && length > number(r.MaxLength):
		return fmt.Sprintf("it has %d characters", length)
	case r.FractionDigits != nil && len(fraction) > number(r.FractionDigits), r.TotalDigits != nil && len(whole)+len(fraction) > number(r.TotalDigits):
		return "it has too many digits"
	case r.MinInclusive != nil:
		v, _ := new(big.Rat).SetString(text) // a decimal, by its form
		if least, ok := new(big.Rat).SetString(r.MinInclusive.V); !ok || v.Cmp(least) < 0 {
			return "below " + r.MinInclusive.V
		}
	}
	return ""
}

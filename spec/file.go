package spec

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"
)

// A dialect file is JSON that declares a dialect whole (docs/dialects.md): its
// encodings and framing, its fields, and which fields each message needs. It is
// turned into a moov MessageSpec and compiled like the dialects declared in Go.

//go:embed dialects/*.json
var dialectFiles embed.FS

// maxDialectFile is more than 128 fields and a hundred messages need.
const maxDialectFile = 1 << 20

// Names are the dialects that Load knows without a file, in the order in which
// they are listed.
func Names() []string { return []string{"unionpay-pos", "cups", "iso87-ascii", "iso87-bcd"} }

// Load gives a dialect by its name (Names) or reads it from a file when name is
// a path: one with a separator in it, or one that ends in .json.
func Load(name string) (*Dialect, error) {
	switch name {
	case UnionPayPOS.name:
		return UnionPayPOS, nil
	case CUPS.name:
		return CUPS, nil
	case "iso87-ascii":
		return iso87ASCII(), nil
	case "iso87-bcd":
		return iso87BCD(), nil
	}
	if strings.ContainsRune(name, filepath.Separator) || strings.HasSuffix(name, ".json") {
		return LoadFile(name)
	}
	return nil, fmt.Errorf("dialect %q: want %s, or the path of a dialect file", name, names(Names()))
}

// The dialects for terminals outside UnionPay's world are read when they are
// first asked for.
var (
	iso87ASCII = sync.OnceValue(func() *Dialect { return mustRead("dialects/iso87-ascii.json") })
	iso87BCD   = sync.OnceValue(func() *Dialect { return mustRead("dialects/iso87-bcd.json") })
)

func embedded(name string) []byte {
	text, err := dialectFiles.ReadFile(name)
	if err != nil {
		panic(err) // go:embed has it
	}
	return text
}

func mustRead(name string) *Dialect {
	d, err := ReadDialect(name, embedded(name))
	if err != nil {
		panic(err) // a dialect of this package is wrong: found by any test
	}
	return d
}

// LoadFile reads a dialect file. What is wrong in it is a *FileError with every
// mistake, its line and its field; other errors are the file system's.
func LoadFile(path string) (*Dialect, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("dialect file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxDialectFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("dialect file %s: %w", path, err)
	}
	return ReadDialect(path, text)
}

// ReadDialect is LoadFile for a text that was read already; name is what errors
// call it.
func ReadDialect(name string, text []byte) (*Dialect, error) {
	if len(text) > maxDialectFile {
		return nil, &FileError{name, []Mistake{{Line: 1, Reason: fmt.Sprintf("longer than %d bytes", maxDialectFile)}}}
	}
	root, bad := readTree(text)
	if bad != nil {
		return nil, &FileError{name, []Mistake{*bad}}
	}
	r := &review{}
	d := r.dialect(&root)
	if len(r.mistakes) > 0 {
		slices.SortStableFunc(r.mistakes, func(a, b Mistake) int { return a.Line - b.Line })
		return nil, &FileError{name, r.mistakes}
	}
	return d, nil
}

var dialectName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// numericKinds, trackKinds: what a file calls them.
var numericKinds = map[string]Kind{"ascii": Digits, "bcd-pad-right": BCDLeft, "bcd-pad-left": BCDRight, "bcd-pad-either": BCDEither}
var trackKinds = map[string]Kind{"ascii": TrackText, "bcd": Track}
var numericNames = []string{"ascii", "bcd-pad-right", "bcd-pad-left", "bcd-pad-either"}
var fieldKinds = []string{"n", "z", "a", "an", "ns", "ans", "b"}

// declared is one field of a file on its way into the table.
type declared struct {
	line   int
	letter string
	kind   Kind
	length Length
	units  int
	show   bool
	broken bool // told already: what refers to the field is not told on top
}

func (r *review) dialect(root *node) *Dialect {
	o := r.object(root, "the file", "name", "mti", "bitmap", "numeric", "track", "prefixes", "framing", "fields", "|", "title", "use", "mac", "pin", "keys", "presence")
	if root.shape != anObject {
		return nil
	}
	name := r.word(o["name"], "name")
	if n := o["name"]; n != nil && n.shape == aString && !dialectName.MatchString(name) {
		r.wrong(n.line, "name %q: want letters a to z, digits and hyphens, at most 32", name)
	}
	mti, bits := mtiASCII, bitmapBits
	if r.one(o["mti"], "mti", "ascii", "bcd") == "bcd" {
		mti = mtiBCD
	}
	if r.one(o["bitmap"], "bitmap", "binary", "hex") == "hex" {
		bits = bitmapHex
	}
	numeric := r.one(o["numeric"], "numeric", numericNames...)
	track := r.one(o["track"], "track", "ascii", "bcd")
	ll, lll := ASCIILL, ASCIILLL
	if r.one(o["prefixes"], "prefixes", "ascii", "bcd") == "bcd" {
		ll, lll = BCDLL, BCDLLL
	}

	fields := map[int]field.Field{0: str(mti, Fixed, 4, "Message type"), 1: field.NewBitmap(&field.Spec{Length: 8, Description: "Bitmap", Enc: bits, Pref: Fixed})}
	table := map[int]declared{}
	list := r.items(o["fields"], "fields")
	for i := range list {
		n, f, dec := r.field(&list[i], numeric, track, ll, lll)
		if n == 0 {
			continue
		}
		if before, twice := table[n]; twice {
			r.where = "field " + strconv.Itoa(n)
			r.wrong(list[i].line, "declared twice, first on line %d", before.line)
			r.where = ""
			continue
		}
		table[n] = dec
		if !dec.broken {
			fields[n] = f
		}
	}
	if o["fields"] != nil && len(list) == 0 && o["fields"].shape == aList {
		r.wrong(o["fields"].line, "fields: no field is declared")
	}
	d := &Dialect{name: name}
	d.framing = r.framing(o["framing"])
	d.mac, d.pin, d.keys = r.mac(o["mac"], table), r.pin(o["pin"], table), r.keys(o["keys"], table)
	d.title = r.word(o["title"], "title")
	d.use = useOpen
	if o["use"] != nil {
		d.use = map[string]usage{"unionpay-pos": useUnionPay, "cups": useCUPS}[r.one(o["use"], "use", "unionpay-pos", "cups")]
		r.shapes(o["use"], d.use, fields)
	}
	has := func(n int) bool { _, ok := table[n]; return ok }
	d.rules = r.presence(o["presence"], has, d.mac != nil)
	if len(r.mistakes) > 0 {
		return nil
	}
	c, err := Compile(name, &iso8583.MessageSpec{Name: name, Fields: fields})
	if err != nil {
		r.wrong(root.line, "%v", err)
		return nil
	}
	c.framing, c.mac, c.pin, c.keys, c.title, c.use, c.rules = d.framing, d.mac, d.pin, d.keys, d.title, d.use, d.rules
	for n, dec := range table {
		c.letters[n], c.show[n] = dec.letter, dec.show
	}
	return c
}

// shapes refuses a file that says its private fields are UnionPay's but gives
// the fields whose parts are read by position another shape.
func (r *review) shapes(n *node, use usage, fields map[int]field.Field) {
	like := UnionPayPOS
	if use == useCUPS {
		like = CUPS
	}
	if use == 0 {
		return
	}
	for i := 2; i <= maxField; i++ {
		f, ok := fields[i]
		if !ok || like.cells[i].kind == 0 {
			continue
		}
		s, c := f.Spec(), &like.cells[i]
		if s.Enc.(Kind) != c.kind || s.Pref.(Length) != c.length || s.Length != int(c.max) {
			r.wrong(n.line, "use %q: field %d must be %s in its encoding, as there", like.name, i, like.Format(i))
		}
	}
}

// field reads one entry of fields; number 0 when even that cannot be read.
func (r *review) field(n *node, numeric, track string, ll, lll Length) (number int, f field.Field, dec declared) {
	if n.shape == anObject {
		for i := range n.keys {
			if k := &n.keys[i]; k.name == "field" && k.value.shape == aNumber {
				r.where = "field " + k.value.text
			}
		}
	}
	defer func() { r.where = "" }()
	had := len(r.mistakes)
	o := r.object(n, "a field", "field", "name", "kind", "length", "|", "prefix", "encoding", "show")
	number = r.number(o["field"], "field", 2, maxField)
	if number == 65 {
		r.wrong(o["field"].line, "bit 65 announces a third bitmap, which is not spoken")
	}
	name := r.word(o["name"], "name")
	kind := r.one(o["kind"], "kind", fieldKinds...)
	dec = declared{line: n.line, letter: kind, length: Fixed, show: r.yes(o["show"], "show")}
	if o["prefix"] != nil {
		switch r.one(o["prefix"], "prefix", "fixed", "LL", "LLL") {
		case "LL":
			dec.length = ll
		case "LLL":
			dec.length = lll
		}
	}
	dec.units = r.number(o["length"], "length", 1, min(999, dec.length.most()))
	encoding := ""
	switch kind {
	case "n":
		encoding = numeric
		if o["encoding"] != nil {
			encoding = r.one(o["encoding"], "encoding", numericNames...)
		}
		dec.kind = numericKinds[encoding]
		if dec.kind == BCDEither && (dec.length != Fixed || dec.units%2 == 0) {
			if o["encoding"] != nil {
				r.wrong(o["encoding"].line, "encoding bcd-pad-either is for a fixed, odd number of digits")
			} else {
				dec.kind = BCDLeft // there is nothing to pad on either side
			}
		}
	case "z":
		encoding = track
		if o["encoding"] != nil {
			encoding = r.one(o["encoding"], "encoding", "ascii", "bcd")
		}
		dec.kind = trackKinds[encoding]
	default:
		dec.kind = Text
		if kind == "b" {
			dec.kind = Binary
		}
		if o["encoding"] != nil {
			r.wrong(o["encoding"].line, "encoding is for kinds n and z; %s is bytes as they are", kind)
		}
	}
	// Without a kind the dialect's own encoding is wrong, which is told once.
	if dec.broken = len(r.mistakes) > had || dec.kind == 0; dec.broken {
		return number, nil, dec
	}
	if dec.kind == Binary {
		return number, bin(dec.length, dec.units, name), dec
	}
	return number, str(dec.kind, dec.length, dec.units, name), dec
}

func (r *review) framing(n *node) (f Framing) {
	if n == nil {
		return f
	}
	if n.shape == aString {
		if r.one(n, "framing", "unionpay-pos", "cups") == "unionpay-pos" {
			return posFraming
		}
		return Framing{CUPS: true}
	}
	o := r.object(n, "framing", "length_bytes", "length_encoding", "|", "tpdu", "header")
	if n.shape != anObject {
		return f
	}
	f.LengthBytes = r.number(o["length_bytes"], "length_bytes", 2, 4)
	if f.LengthBytes == 3 {
		r.wrong(o["length_bytes"].line, "length_bytes 3: want 2 or 4")
	}
	f.LengthASCII = r.one(o["length_encoding"], "length_encoding", "binary", "ascii") == "ascii"
	f.TPDU = r.yes(o["tpdu"], "tpdu")
	if o["header"] != nil {
		f.Header = r.number(o["header"], "header", 0, maxHeader)
	}
	return f
}

// MACRule says how the messages of a dialect are signed.
type MACRule struct {
	Alg    string // x919, cmac, or unionpay: the first half of the result as 8 characters
	Fields []int  // 64, 128 or both: the last field of the message carries the 8 bytes
}

// PINRule says where the key of a PIN block is named.
type PINRule struct {
	KSN int // the field with a DUKPT key serial number as 20 hexadecimal characters, or 10 bytes
}

// KeyRule says where working keys travel to the terminal.
type KeyRule struct {
	Field int // of the answer to a key exchange: bytes, or in a field of text hexadecimal characters
}

// leastKeys is two keys of 16 bytes with check values of 4.
const leastKeys = 40

func (r *review) keys(n *node, table map[int]declared) *KeyRule {
	if n == nil {
		return nil
	}
	o := r.object(n, "keys", "field")
	k := &KeyRule{Field: r.number(o["field"], "field of keys", 2, maxField)}
	dec, ok := table[k.Field]
	switch {
	case k.Field == 0 || dec.broken:
	case !ok || dec.kind != Binary && dec.kind != Text || dec.length == Fixed:
		r.wrong(o["field"].line, "keys: field %d must be declared as text or b of a variable length to carry working keys", k.Field)
	case dec.kind == Binary && dec.units < leastKeys, dec.kind == Text && dec.units < 2*leastKeys:
		r.wrong(o["field"].line, "keys: field %d is too short for two keys: want %d bytes, or %d characters of text", k.Field, leastKeys, 2*leastKeys)
	}
	return k
}

func (r *review) mac(n *node, table map[int]declared) *MACRule {
	if n == nil {
		return nil
	}
	o := r.object(n, "mac", "alg", "fields")
	m := &MACRule{Alg: r.one(o["alg"], "alg", "x919", "cmac", "unionpay")}
	list := r.items(o["fields"], "fields of mac")
	for i := range list {
		v := r.number(&list[i], "field of mac", 64, 128)
		switch dec, ok := table[v]; {
		case v == 0:
		case v != 64 && v != 128:
			r.wrong(list[i].line, "mac: field %d cannot carry a MAC; want 64, 128 or both", v)
		case slices.Contains(m.Fields, v):
			r.wrong(list[i].line, "mac: field %d stands twice", v)
		case dec.broken:
		case !ok || dec.kind != Binary || dec.length != Fixed || dec.units != 8:
			r.wrong(list[i].line, "mac: field %d must be declared with kind b and a fixed length of 8 bytes", v)
		default:
			m.Fields = append(m.Fields, v)
		}
	}
	if o["fields"] != nil && o["fields"].shape == aList && len(list) == 0 {
		r.wrong(o["fields"].line, "mac: fields is empty; want 64, 128 or both")
	}
	slices.Sort(m.Fields)
	return m
}

func (r *review) pin(n *node, table map[int]declared) *PINRule {
	if n == nil {
		return nil
	}
	o := r.object(n, "pin", "ksn")
	p := &PINRule{KSN: r.number(o["ksn"], "ksn", 2, maxField)}
	if dec, ok := table[p.KSN]; p.KSN != 0 && !dec.broken && (!ok || dec.kind != Binary && dec.kind != Text) {
		r.wrong(o["ksn"].line, "pin: field %d must be declared as text or b to carry a key serial number", p.KSN)
	}
	return p
}

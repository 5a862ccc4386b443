package spec

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// PresenceRule is one presence rule for people and pages, in the words of a
// dialect file.
type PresenceRule struct {
	Message     string // one of Rows
	MTI         MTI
	Processing  []string // beginnings of DE 3
	Condition   []string // DE 25
	When        string
	MAC         bool
	Mandatory   []int
	Conditional []FieldWhen
	Forbidden   []FieldWhen
	Optional    []int
}

// FieldWhen is a field, and when the rule holds for it; "" always.
type FieldWhen struct {
	Field int
	When  string
}

// Presence lists the presence rules in the order in which they are tried.
func (d *Dialect) Presence() []PresenceRule {
	out := make([]PresenceRule, len(d.rules))
	for i, r := range d.rules {
		p := PresenceRule{Message: r.row, MTI: r.mti, Processing: r.codes, Condition: r.condition, When: r.when.String(), MAC: r.mac,
			Mandatory: r.must.list(), Optional: r.may.list()}
		for _, n := range r.needs {
			p.Conditional = append(p.Conditional, FieldWhen{n.field, n.when.String()})
		}
		for _, n := range r.mustNot.list() {
			p.Forbidden = append(p.Forbidden, FieldWhen{n, ""})
		}
		for _, n := range r.forbids {
			p.Forbidden = append(p.Forbidden, FieldWhen{n.field, n.when.String()})
		}
		out[i] = p
	}
	return out
}

// Title is what the dialect is, in words.
func (d *Dialect) Title() string { return d.title }

// Encodings says how the dialect writes the message type ("ascii", "bcd"), the
// bitmap ("binary", "hex"), numbers and tracks of most fields, and lengths, in
// the words of a dialect file.
func (d *Dialect) Encodings() (mti, bitmap, numeric, track, prefixes string) {
	mti, bitmap, numeric, track, prefixes = "ascii", "binary", "ascii", "ascii", "ascii"
	if d.mti == mtiBCD {
		mti = "bcd"
	}
	if d.bitmap == bitmapHex {
		bitmap = "hex"
	}
	count := map[string]int{}
	for n := 2; n <= maxField; n++ {
		c := &d.cells[n]
		if c.kind.numeric() && c.kind != 0 {
			count[wordOf(numericKinds, c.kind)]++
		}
		if c.kind == Track {
			track = "bcd"
		}
		if c.length == BCDLL || c.length == BCDLLL {
			prefixes = "bcd"
		}
	}
	for _, word := range numericNames {
		if count[word] > count[numeric] {
			numeric = word
		}
	}
	return mti, bitmap, numeric, track, prefixes
}

func wordOf(words map[string]Kind, k Kind) string {
	for _, w := range slices.Sorted(maps.Keys(words)) {
		if words[w] == k {
			return w
		}
	}
	return ""
}

// kindWord is the kind of DE n as a dialect file has it.
func (d *Dialect) kindWord(n int) string {
	if d.letters[n] != "" {
		return d.letters[n]
	}
	switch d.cells[n].kind {
	case Track, TrackText:
		return "z"
	case Binary:
		return "b"
	case Text:
		return "ans"
	}
	return "n"
}

// pairs writes the keys of an object in the order they are added.
type pairs struct{ out bytes.Buffer }

func (p *pairs) add(key string, value any) {
	if p.out.Len() > 0 {
		p.out.WriteString(", ")
	}
	p.out.WriteString(jsonText(key) + ": " + jsonText(value))
}

func (p *pairs) String() string { return "{" + p.out.String() + "}" }

// raw is text that is JSON already.
type raw string

// jsonText is a value as JSON on one line, with a blank after each comma.
func jsonText(v any) string {
	switch v := v.(type) {
	case raw:
		return string(v)
	case []int:
		return jsonList(v)
	case []string:
		if len(v) == 1 {
			return jsonText(v[0])
		}
		return jsonList(v)
	case []raw:
		return jsonList(v)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // a text, number or boolean
	}
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
}

func jsonList[T any](v []T) string {
	out := "["
	for i, x := range v {
		if i > 0 {
			out += ", "
		}
		out += jsonText(x)
	}
	return out + "]"
}

// File is the dialect as a dialect file, which ReadDialect turns into the same
// dialect, whether it was declared in a file or in Go.
func (d *Dialect) File() []byte {
	var out bytes.Buffer
	line := func(key string, value any) {
		out.WriteString("  " + jsonText(key) + ": " + jsonText(value) + ",\n")
	}
	out.WriteString("{\n")
	line("name", d.name)
	if d.title != "" {
		line("title", d.title)
	}
	mti, bitmap, numeric, track, prefixes := d.Encodings()
	line("mti", mti)
	line("bitmap", bitmap)
	line("numeric", numeric)
	line("track", track)
	line("prefixes", prefixes)
	switch d.use {
	case useUnionPay:
		line("use", "unionpay-pos")
	case useCUPS:
		line("use", "cups")
	}
	switch f := &d.framing; {
	case f.UnionPay:
		line("framing", "unionpay-pos")
	case f.CUPS:
		line("framing", "cups")
	default:
		var p pairs
		p.add("length_bytes", f.LengthBytes)
		p.add("length_encoding", map[bool]string{true: "ascii", false: "binary"}[f.LengthASCII])
		p.add("tpdu", f.TPDU)
		p.add("header", f.Header)
		line("framing", raw(p.String()))
	}
	if d.mac != nil {
		var p pairs
		p.add("alg", d.mac.Alg)
		p.add("fields", d.mac.Fields)
		line("mac", raw(p.String()))
	}
	if d.pin != nil {
		var p pairs
		p.add("ksn", d.pin.KSN)
		line("pin", raw(p.String()))
	}
	if d.keys != nil {
		var p pairs
		p.add("field", d.keys.Field)
		line("keys", raw(p.String()))
	}
	out.WriteString("  \"fields\": [")
	sep := "\n    "
	for n := 2; n <= maxField; n++ {
		if d.cells[n].kind != 0 {
			out.WriteString(sep + d.fieldJSON(n, numeric, track))
			sep = ",\n    "
		}
	}
	out.WriteString("\n  ]")
	if len(d.rules) > 0 {
		out.WriteString(",\n  \"presence\": [")
		sep = "\n    "
		for _, r := range d.Presence() {
			out.WriteString(sep + r.json())
			sep = ",\n    "
		}
		out.WriteString("\n  ]")
	}
	out.WriteString("\n}\n")
	return out.Bytes()
}

func (d *Dialect) fieldJSON(n int, numeric, track string) string {
	c := &d.cells[n]
	var p pairs
	p.add("field", n)
	p.add("name", c.name)
	kind := d.kindWord(n)
	p.add("kind", kind)
	p.add("length", int(c.max))
	switch c.length {
	case BCDLL, ASCIILL:
		p.add("prefix", "LL")
	case BCDLLL, ASCIILLL:
		p.add("prefix", "LLL")
	}
	switch kind {
	case "n":
		if w := wordOf(numericKinds, c.kind); w != numeric {
			p.add("encoding", w)
		}
	case "z":
		if w := wordOf(trackKinds, c.kind); w != track {
			p.add("encoding", w)
		}
	}
	if d.show[n] {
		p.add("show", true)
	}
	return p.String()
}

func (r *PresenceRule) json() string {
	var p pairs
	p.add("message", r.Message)
	p.add("mti", r.MTI.String())
	if len(r.Processing) > 0 {
		p.add("processing", r.Processing)
	}
	if len(r.Condition) > 0 {
		p.add("condition", r.Condition)
	}
	if r.When != "" {
		p.add("when", r.When)
	}
	if r.MAC {
		p.add("mac", true)
	}
	out := "{" + p.out.String()
	more := func(key string, list []raw) {
		if len(list) > 0 {
			out += ",\n     " + jsonText(key) + ": " + jsonText(list)
		}
	}
	more("mandatory", numbersJSON(r.Mandatory))
	more("conditional", whensJSON(r.Conditional))
	more("forbidden", whensJSON(r.Forbidden))
	more("optional", numbersJSON(r.Optional))
	return out + "}"
}

func numbersJSON(list []int) (out []raw) {
	for _, n := range list {
		out = append(out, raw(jsonText(n)))
	}
	return out
}

func whensJSON(list []FieldWhen) (out []raw) {
	for _, w := range list {
		if w.When == "" {
			out = append(out, raw(jsonText(w.Field)))
			continue
		}
		var p pairs
		p.add("field", w.Field)
		p.add("if", w.When)
		out = append(out, raw(p.String()))
	}
	return out
}

package algo

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Vector is one published test vector: an operation on clear test keys, what
// goes in and what must come out, all as text.
type Vector struct {
	Op       string         `json:"op"`
	ID       string         `json:"id,omitempty"`
	Source   string         `json:"source"`
	Inputs   map[string]any `json:"inputs"`
	Expected map[string]any `json:"expected"`
	Note     string         `json:"note,omitempty"`
}

// ErrUnknownOp says that a vector names an operation that is not here.
var ErrUnknownOp = errors.New("algo: unknown operation")

// ReadVectors reads a vector file: a JSON array of vectors.
func ReadVectors(data []byte) ([]Vector, error) {
	var all []Vector
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("algo: not a JSON array of vectors with op, inputs and expected: %w", err)
	}
	return all, nil
}

// Operations lists the operations that Run knows, sorted.
func Operations() []string {
	names := make([]string, 0, len(operations))
	for name := range operations {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Run carries out the vector and returns everything it can say about the
// result, by the names vectors use. ErrUnknownOp when the operation is not
// here.
func (v Vector) Run() (map[string]string, error) {
	op, ok := operations[v.Op]
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownOp, v.Op)
	}
	in := &inputs{values: v.Inputs}
	out := op(in)
	if in.err != nil {
		return nil, in.err
	}
	if out == nil {
		out = results{}
	}
	return out, nil
}

// Mismatch is a result that is not the published one.
type Mismatch struct {
	Op, Name  string
	Got, Want string
}

// Error names operation and result, and both values: vectors are public.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("algo: %s: %s is %s, want %s", m.Op, m.Name, m.Got, m.Want)
}

// Check runs the vector and compares; it returns nil, ErrUnknownOp, a
// *Mismatch, or why the operation refused its inputs. Letters of hex may be
// small. Check values and names that end in _prefix are compared as far as the
// vector goes, 4 characters at least, MACs 8: they are used cut.
//
// A vector that expects "error" (any text, but not false), or "valid" false
// where the operation has no such result, passes when its inputs are refused.
// One that lacks an input never passes.
func (v Vector) Check() error {
	got, err := v.Run()
	if errors.Is(err, ErrUnknownOp) || errors.Is(err, errNoInput) {
		return err
	}
	if len(v.Expected) == 0 {
		return errors.New("algo: vector expects nothing")
	}
	refusal, refused := v.expectsRefusal()
	if refused && err == nil && got[refusal] == "" {
		return &Mismatch{v.Op, refusal, "no error", text(v.Expected[refusal])}
	}
	if err != nil {
		if refused {
			return nil
		}
		return err
	}
	if _, told := got["valid"]; !told {
		got["valid"] = "true"
	}
	names := make([]string, 0, len(v.Expected))
	for name := range v.Expected {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		want := text(v.Expected[name])
		have, ok := got[name]
		if name == "error" {
			continue // expects none
		}
		if !ok {
			return &Mismatch{v.Op, name, "no such result", want}
		}
		if least := cutAt(name); least > 0 && len(want) >= least && len(have) > len(want) {
			have = have[:len(want)]
		}
		if !strings.EqualFold(have, want) {
			return &Mismatch{v.Op, name, have, want}
		}
	}
	return nil
}

// expectsRefusal reports whether the inputs are to be refused, and the name of
// the result that says so.
func (v Vector) expectsRefusal() (name string, refused bool) {
	if e, ok := v.Expected["error"]; ok && !strings.EqualFold(text(e), "false") {
		return "error", true
	}
	if e, ok := v.Expected["valid"]; ok && strings.EqualFold(text(e), "false") {
		return "valid", true
	}
	return "", false
}

// cutAt is how many characters a result may be cut to, 0 when it is compared
// whole.
func cutAt(name string) int {
	switch {
	case strings.HasSuffix(name, "kcv"), strings.HasSuffix(name, "_prefix"):
		return 4
	case name == "mac":
		return 8
	}
	return 0
}

// errNoInput says that a vector does not have what its operation needs.
var errNoInput = errors.New("algo: vector has no input")

func text(v any) string {
	switch t := v.(type) {
	case string:
		return t
	case float64:
		return strconv.FormatFloat(t, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// inputs reads the fields of a vector and keeps the first error.
type inputs struct {
	values map[string]any
	err    error
}

func (in *inputs) fail(err error) {
	if in.err == nil {
		in.err = err
	}
}

// has says that an input is there; null is as good as none.
func (in *inputs) has(name string) bool { return in.values[name] != nil }

func (in *inputs) text(name string) string {
	v := in.values[name]
	if v == nil {
		in.fail(fmt.Errorf("%w %q", errNoInput, name))
		return ""
	}
	return text(v)
}

// hex reads bytes; a list of texts is what they are together.
func (in *inputs) hex(name string) []byte {
	all := ""
	if list, ok := in.values[name].([]any); ok {
		for _, part := range list {
			all += text(part)
		}
	} else {
		all = in.text(name)
	}
	b, err := unhex(all)
	if err != nil {
		in.fail(fmt.Errorf("input %q: %w", name, err))
	}
	return b
}

// bytes2, bytes4, bytes8 and bytes16 read an exact number of bytes.
func (in *inputs) bytes2(name string) (out [2]byte)   { in.exact(out[:], name); return }
func (in *inputs) bytes4(name string) (out [4]byte)   { in.exact(out[:], name); return }
func (in *inputs) bytes8(name string) (out [8]byte)   { in.exact(out[:], name); return }
func (in *inputs) bytes16(name string) (out [16]byte) { in.exact(out[:], name); return }

func (in *inputs) exact(out []byte, name string) {
	b := in.hex(name)
	if in.err == nil && len(b) != len(out) {
		in.fail(fmt.Errorf("algo: input %q has %d bytes, want %d", name, len(b), len(out)))
	}
	copy(out, b)
}

func (in *inputs) number(name string) int {
	n, err := strconv.Atoi(in.text(name))
	if err != nil {
		in.fail(fmt.Errorf("algo: input %q is not a number", name))
	}
	return n
}

func (in *inputs) padding() Padding {
	n := in.number("padding")
	if n < int(PadZeros) || n > int(PadLength) {
		in.fail(errors.New("algo: padding is none of 1 to 3"))
		return PadZeros
	}
	return Padding(n)
}

// pinFormat reads the format of a PIN block: its number, with or without ISO
// in front, or SM4, with the account number where there is one.
func (in *inputs) pinFormat() PINFormat {
	name := strings.ToUpper(in.text("format"))
	if name == "SM4" {
		if in.has("pan") {
			return SM4WithPAN
		}
		return SM4NoPAN
	}
	number, iso := strings.CutPrefix(name, "ISO")
	if iso {
		number = strings.TrimLeft(number, " -")
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > 255 || !PINFormat(n).known() {
		in.fail(fmt.Errorf("algo: %q is no format of a PIN block", name))
		return ISO0
	}
	return PINFormat(n)
}

// paddingOr is for MACs that have a padding of their own.
func (in *inputs) paddingOr(own Padding) Padding {
	if in.has("padding") {
		return in.padding()
	}
	return own
}

// key expands the key called name with the cipher that "alg" says; without it
// 32 bytes are AES, which alone has such keys, and others TDES. It never
// returns nil, so that an operation may run to its end before the error is
// looked at.
func (in *inputs) key(name string) *Key {
	clear := in.hex(name)
	alg := "TDES"
	switch {
	case in.has("alg"):
		alg = in.text("alg")
	case len(clear) == 32:
		alg = "AES"
	}
	return in.expand(alg, clear)
}

// expand takes the names of ciphers in small letters too, AES with the length
// of its key behind it.
func (in *inputs) expand(alg string, clear []byte) *Key {
	var k *Key
	var err error
	switch name := strings.ToUpper(alg); {
	case name == "DES" || name == "TDES" || name == "3DES" || name == "TDEA" || name == "DES3":
		k, err = NewDESKey(clear)
	case strings.HasPrefix(name, "AES"):
		k, err = NewKey(AES, clear)
	case name == "SM4":
		k, err = NewKey(SM4, clear)
	default:
		err = fmt.Errorf("algo: unknown cipher %q", alg)
	}
	if err != nil {
		in.fail(err)
		k, _ = NewKey(DES, make([]byte, 8))
	}
	return k
}

func (in *inputs) optional(name string) string {
	if !in.has(name) {
		return ""
	}
	return in.text(name)
}

// oneOf reads an input that has a closed set of values; "" among them makes
// it optional.
func (in *inputs) oneOf(name string, values ...string) string {
	v := in.optional(name)
	if !slices.Contains(values, v) {
		in.fail(fmt.Errorf("algo: input %q is none of %q", name, values))
	}
	return v
}

func (in *inputs) pin() PIN {
	pin, err := ParsePIN(in.text("pin"))
	if err != nil {
		in.fail(err)
	}
	return pin
}

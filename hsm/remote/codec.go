package remote

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/audit"
)

// A frame is four bytes of length, eight of id, and a body. The body of a call
// is the verb's name, the milliseconds that its caller still waits, the
// custodians who stand by, and the arguments; of an answer a zero and the results, or a one and the error. Both
// ends are the same program, so values are written by their Go types: numbers
// as varints, text and bytes behind their length, structs field by field.
const (
	frameHead = 12
	maxFrame  = 1 << 20
)

// appendFrame starts a frame whose length is set by endFrame.
func appendFrame(dst []byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 0), id)
}

// endFrame sets the length of the only frame in b.
func endFrame(b []byte) ([]byte, error) {
	if len(b)-4 > maxFrame {
		return nil, fmt.Errorf("hsm: a message of %d bytes is longer than %d", len(b), maxFrame)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b, nil
}

// readFrame reads one frame into buf, which it grows.
func readFrame(r *bufio.Reader, buf []byte) (id uint64, body, grown []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, buf, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 8 || n > maxFrame {
		return 0, nil, buf, fmt.Errorf("hsm: a frame of %d bytes, want 8 to %d", n, maxFrame)
	}
	buf = slices.Grow(buf[:0], int(n-8))[:n-8]
	_, err = io.ReadFull(r, buf)
	return binary.BigEndian.Uint64(head[4:]), buf, buf, err
}

var (
	panType   = reflect.TypeFor[card.PAN]()
	blockType = reflect.TypeFor[hsm.PINBlock]()
	timeType  = reflect.TypeFor[time.Time]()
	byteType  = reflect.TypeFor[byte]()
)

// errCodec ends a decoding that met too few bytes or too many.
var errCodec = errors.New("hsm: a message that is not of this protocol; both ends must be the same version of acquirer")

// writable refuses at start what appendValue could not write.
func writable(t reflect.Type) error {
	switch t {
	case panType, blockType, timeType:
		return nil
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	case reflect.Slice, reflect.Array:
		return writable(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if !f.IsExported() {
				return fmt.Errorf("%v has the private field %s", t, f.Name)
			}
			if err := writable(f.Type); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no way to write a %v", t)
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))+1), b...)
}

func appendValue(dst []byte, v reflect.Value) []byte {
	switch v.Type() {
	case panType:
		pan := v.Interface().(card.PAN)
		return appendBytes(dst, pan.Reveal())
	case blockType:
		block := v.Interface().(hsm.PINBlock)
		return appendBytes(dst, block.Bytes())
	case timeType:
		t := v.Interface().(time.Time)
		if t.IsZero() {
			return binary.AppendVarint(dst, 0)
		}
		return binary.AppendVarint(dst, t.UnixMicro())
	}
	switch v.Kind() {
	case reflect.String:
		return appendBytes(dst, v.String())
	case reflect.Bool:
		if v.Bool() {
			return append(dst, 1)
		}
		return append(dst, 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(dst, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(dst, v.Uint())
	case reflect.Slice:
		if v.IsNil() { // nil and empty are two things: ImportKey
			return append(dst, 0)
		}
		if v.Type().Elem() == byteType {
			return appendBytes(dst, v.Bytes())
		}
		dst = binary.AppendUvarint(dst, uint64(v.Len())+1)
		for i := range v.Len() {
			dst = appendValue(dst, v.Index(i))
		}
		return dst
	case reflect.Array:
		for i := range v.Len() {
			if v.Type().Elem() == byteType {
				dst = append(dst, byte(v.Index(i).Uint()))
				continue
			}
			dst = appendValue(dst, v.Index(i))
		}
		return dst
	default: // a struct: writable knows no other
		for i := range v.NumField() {
			dst = appendValue(dst, v.Field(i))
		}
		return dst
	}
}

// reader takes values off a body. The first error stays.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err, r.b = errCodec, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.err, r.b = errCodec, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// take returns n bytes of the body.
func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.err, r.b = errCodec, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// length reads a length behind which as many elements of at least one byte
// follow; ok is false for nil.
func (r *reader) length() (n uint64, ok bool) {
	n = r.uvarint()
	if n == 0 {
		return 0, false
	}
	if n-1 > uint64(len(r.b)) {
		r.err, r.b = errCodec, nil
		return 0, false
	}
	return n - 1, true
}

func (r *reader) bytes() []byte {
	n, _ := r.length()
	return r.take(n)
}

// value reads into v, which is settable. Bytes are copied: the body's memory
// is used again.
func (r *reader) value(v reflect.Value) {
	switch v.Type() {
	case panType:
		if digits := r.bytes(); len(digits) > 0 {
			pan, err := card.ParsePAN(digits)
			if err != nil {
				r.err = errCodec
				return
			}
			v.Set(reflect.ValueOf(pan))
		}
		return
	case blockType:
		v.Set(reflect.ValueOf(hsm.PINBlockOf(r.bytes())))
		return
	case timeType:
		if t := r.varint(); t != 0 {
			v.Set(reflect.ValueOf(time.UnixMicro(t).UTC()))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(string(r.bytes()))
	case reflect.Bool:
		b := r.take(1)
		v.SetBool(len(b) == 1 && b[0] == 1)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n := r.varint(); v.OverflowInt(n) {
			r.err = errCodec
		} else {
			v.SetInt(n)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n := r.uvarint(); v.OverflowUint(n) {
			r.err = errCodec
		} else {
			v.SetUint(n)
		}
	case reflect.Slice:
		n, ok := r.length()
		if !ok {
			return
		}
		if v.Type().Elem() == byteType {
			v.SetBytes(append([]byte{}, r.take(n)...))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), int(n), int(n)))
		for i := range int(n) {
			r.value(v.Index(i))
		}
	case reflect.Array:
		if v.Type().Elem() == byteType {
			reflect.Copy(v, reflect.ValueOf(r.take(uint64(v.Len()))))
			return
		}
		for i := range v.Len() {
			r.value(v.Index(i))
		}
	default:
		for i := range v.NumField() {
			r.value(v.Field(i))
		}
	}
}

// end refuses what was not read to its end.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return errCodec
	}
	return r.err
}

// sentinels are the errors that callers ask for by errors.Is; an answer names
// them by their text.
var sentinels = []error{
	hsm.ErrKey, hsm.ErrKeyUse, hsm.ErrKCV, hsm.ErrPIN, hsm.ErrMAC, hsm.ErrARQC, hsm.ErrCVV, hsm.ErrData, hsm.ErrTrack, hsm.ErrKSN,
	hsm.ErrPassphrase, hsm.ErrDamaged, hsm.ErrCustodians, hsm.ErrComponents, hsm.ErrRotating,
	ErrSealed, ErrForbidden,
}

// appendError writes an error: which sentinels it is, where an audit log is
// broken, and its text.
func appendError(dst []byte, err error) []byte {
	dst = append(dst, 1)
	var is []string
	for _, s := range sentinels {
		if errors.Is(err, s) {
			is = append(is, s.Error())
		}
	}
	dst = appendValue(dst, reflect.ValueOf(is))
	line := int64(0)
	if b := (*audit.Broken)(nil); errors.As(err, &b) {
		line = b.Line
	}
	dst = binary.AppendVarint(dst, line)
	return appendBytes(dst, err.Error())
}

// answered is an error that the other side gave.
type answered struct {
	text string
	is   []error
}

func (e *answered) Error() string   { return e.text }
func (e *answered) Unwrap() []error { return e.is }

func readError(r *reader) error {
	var is []string
	r.value(reflect.ValueOf(&is).Elem())
	line := r.varint()
	e := &answered{text: string(r.bytes())}
	if err := r.end(); err != nil {
		return err
	}
	for _, text := range is {
		for _, s := range sentinels {
			if s.Error() == text {
				e.is = append(e.is, s)
			}
		}
	}
	if line > 0 {
		e.is = append(e.is, &audit.Broken{Line: line, What: e.text})
	}
	if len(e.is) == 1 && e.is[0].Error() == e.text {
		return e.is[0] // the sentinel itself, as the verbs of a transaction give it
	}
	return e
}

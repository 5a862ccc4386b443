package relay

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/moov-io/iso8583"
	connection "github.com/moov-io/iso8583-connection"
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"

	"acquirer/calendar"
	"acquirer/spec"
)

// ServeMoovRelay is the reference: the same relay with moov-io/iso8583 and its
// connection used the way their documentation does, but with encoders that
// cost little (those of package spec), and with header and message in one
// write.
func ServeMoovRelay(ctx context.Context, ln net.Listener, issuer string, lines int) (Report, error) {
	var conns []*connection.Connection
	closeAll := func() (err error) {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	network := networkSpec()
	for range lines {
		c, err := connection.New(issuer, network, readHeader, nil,
			connection.SetMessageWriter(oneWrite{}), connection.IdleTime(time.Hour))
		if err == nil {
			err = c.Connect()
		}
		if err != nil {
			return Report{}, errors.Join(err, closeAll())
		}
		conns = append(conns, c)
	}
	terminal := terminalSpec()
	m := meter{what: "relay-moov"}
	var stan atomic.Uint32
	err := serve(ctx, ln, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			trace := stan.Add(1)%999999 + 1
			if moovRelay(r, c, terminal, network, conns[int(trace)%len(conns)], trace) != nil {
				return
			}
			m.add()
		}
	})
	report := m.report()
	return report, errors.Join(err, closeAll())
}

func moovRelay(r io.Reader, w io.Writer, terminal, network *iso8583.MessageSpec, line *connection.Connection, trace uint32) error {
	var head [13]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n < 11 || n > maxFrame {
		return errors.New("frame")
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return err
	}
	in := iso8583.NewMessage(terminal)
	if err := in.Unpack(raw[11:]); err != nil {
		return err
	}
	out := iso8583.NewMessage(network)
	out.MTI("0200")
	if err := carry(out, in, 2, 3, 4, 14, 22, 23, 25, 26, 35, 41, 42, 49, 53); err != nil {
		return err
	}
	if err := carryBinary(out, in, 52, 55); err != nil {
		return err
	}
	now := time.Now().In(calendar.Beijing)
	for _, f := range []struct {
		n int
		v string
	}{
		{7, now.Format("0102150405")}, {11, fmt.Sprintf("%06d", trace)}, {12, now.Format("150405")}, {13, now.Format("0102")},
		{18, "5411"}, {32, acquirer}, {33, acquirer}, {37, fmt.Sprintf("%012d", trace)}, {60, "000005000300000"},
	} {
		if err := out.Field(f.n, f.v); err != nil {
			return err
		}
	}
	ans, err := line.Send(out)
	if err != nil {
		return err
	}
	reply := iso8583.NewMessage(terminal)
	reply.MTI("0210")
	if err := carry(reply, in, 3, 4, 11, 25, 41, 42, 49, 60); err != nil {
		return err
	}
	if err := carry(reply, ans, 2, 12, 13, 14, 15, 32, 37, 38, 39); err != nil {
		return err
	}
	if err := carryBinary(reply, ans, 55); err != nil {
		return err
	}
	if err := reply.BinaryField(64, noMAC[:]); err != nil {
		return err
	}
	packed, err := reply.Pack()
	if err != nil {
		return err
	}
	frame := make([]byte, 0, 13+len(packed))
	frame = binary.BigEndian.AppendUint16(frame, uint16(11+len(packed)))
	frame = append(frame, raw[0], raw[3], raw[4], raw[1], raw[2])
	frame = append(frame, raw[5:11]...)
	_, err = w.Write(append(frame, packed...))
	return err
}

func carry(to, from *iso8583.Message, fields ...int) error {
	for _, n := range fields {
		v, err := from.GetString(n)
		if err == nil && v != "" {
			err = to.Field(n, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func carryBinary(to, from *iso8583.Message, fields ...int) error {
	for _, n := range fields {
		v, err := from.GetBytes(n)
		if err == nil && v != nil {
			err = to.BinaryField(n, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readHeader reads the 46 bytes before a message of the CUPS line.
func readHeader(r io.Reader) (int, error) {
	var head [spec.CUPSHeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	total, err := spec.CUPSLength(head[:])
	return total - spec.CUPSHeaderSize, err
}

// oneWrite writes header and message together.
type oneWrite struct{}

func (oneWrite) WriteMessage(w io.Writer, m *iso8583.Message) error {
	packed, err := m.Pack()
	if err != nil {
		return err
	}
	frame, err := spec.AppendCUPSHeader(make([]byte, 0, spec.CUPSHeaderSize+len(packed)), spec.CUPSHeader{Destination: "01020000", Source: acquirer}, len(packed))
	if err != nil {
		return err
	}
	_, err = w.Write(append(frame, packed...))
	return err
}

func text(length int, enc encoding.Encoder, pref prefix.Prefixer) field.Field {
	return field.NewString(&field.Spec{Length: length, Enc: enc, Pref: pref})
}

func binaryField(length int, pref prefix.Prefixer) field.Field {
	return field.NewBinary(&field.Spec{Length: length, Enc: spec.Binary, Pref: pref})
}

func bitmapField() field.Field {
	return field.NewBitmap(&field.Spec{Enc: spec.Binary, Pref: spec.Fixed})
}

// terminalSpec has the fields of Purchase and its answer, in BCD.
func terminalSpec() *iso8583.MessageSpec {
	n := func(length int) field.Field { return text(length, spec.BCDLeft, spec.Fixed) }
	an := func(length int) field.Field { return text(length, spec.Text, spec.Fixed) }
	return &iso8583.MessageSpec{Name: "terminal", Fields: map[int]field.Field{
		0: n(4), 1: bitmapField(), 2: text(19, spec.BCDLeft, spec.BCDLL), 3: n(6), 4: n(12), 11: n(6), 12: n(6), 13: n(4), 14: n(4), 15: n(4),
		22: n(3), 23: text(3, spec.BCDRight, spec.Fixed), 25: n(2), 26: n(2), 32: text(11, spec.BCDLeft, spec.BCDLL),
		35: text(37, spec.Track, spec.BCDLL), 37: an(12), 38: an(6), 39: an(2), 41: an(8), 42: an(15), 49: an(3),
		52: binaryField(8, spec.Fixed), 53: n(16), 55: binaryField(255, spec.BCDLLL), 60: text(17, spec.BCDLeft, spec.BCDLLL), 64: binaryField(8, spec.Fixed),
	}}
}

// networkSpec has the same fields in ASCII.
func networkSpec() *iso8583.MessageSpec {
	n := func(length int) field.Field { return text(length, spec.Digits, spec.Fixed) }
	an := func(length int) field.Field { return text(length, spec.Text, spec.Fixed) }
	return &iso8583.MessageSpec{Name: "network", Fields: map[int]field.Field{
		0: n(4), 1: bitmapField(), 2: text(19, spec.Digits, spec.ASCIILL), 3: n(6), 4: n(12), 7: n(10), 11: n(6), 12: n(6), 13: n(4), 14: n(4), 15: n(4),
		18: n(4), 22: n(3), 23: n(3), 25: n(2), 26: n(2), 32: text(11, spec.Digits, spec.ASCIILL), 33: text(11, spec.Digits, spec.ASCIILL),
		35: text(37, spec.TrackText, spec.ASCIILL), 37: an(12), 38: an(6), 39: an(2), 41: an(8), 42: an(15), 49: an(3),
		52: binaryField(8, spec.Fixed), 53: n(16), 55: binaryField(255, spec.ASCIILLL), 60: text(100, spec.Text, spec.ASCIILLL),
	}}
}

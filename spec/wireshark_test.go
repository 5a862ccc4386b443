package spec

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/deploy/deploytest"
)

// flow is a conversation of an ASCII terminal: requests and answers.
func flow(t testing.TB, d *Dialect, binary bool) (out [][]byte) {
	t.Helper()
	base := map[int]string{2: goodPAN, 3: "000000", 4: "000000012345", 7: "0929103045", 11: "000042", 12: "103045", 13: "0929", 14: "3012",
		22: "011", 23: "001", 25: "00", 32: "12345678901", 37: "AB1234567890", 41: "TERM0001", 42: "MERCHANT0000001", 49: "978"}
	const any, bits, chars = 0, 1, 2 // the encoding of b fields it needs
	messages := []struct {
		mti    MTI
		fields map[int]string
		needs  int
	}{
		{0x0800, map[int]string{7: "0929103040", 11: "000041", 41: "TERM0001", 70: "001"}, any},
		{0x0810, map[int]string{7: "0929103040", 11: "000041", 39: "00", 41: "TERM0001", 70: "001"}, any},
		{0x0200, base, any},
		{0x0210, with(base, 38, "A1B2C3", 39, "00", 54, "0001978D000000001000"), any},
		{0x0200, with(base, 2, "-", 22, "022", 35, goodTrack), chars},
		{0x0200, with(base, 52, "0123456789ABCDEF", 62, "FFFF9876543210E00001", 64, "1122334455667788"), bits},
		{0x0420, with(base, 14, "-", 39, "68", 90, de90, 100, "98765432109", 102, "ACCOUNT-1", 128, "8877665544332211"), bits},
		{0x0430, with(base, 14, "-", 39, "00", 128, "0000000000000001"), bits},
		{0x0800, map[int]string{7: "0929103050", 11: "000043", 70: "301"}, any},
	}
	for _, m := range messages {
		// Wireshark reads b fields, and tracks too, in the encoding of the bitmap.
		if m.needs == bits && !binary || m.needs == chars && binary {
			continue
		}
		p := parsed(t, d, m.mti, m.fields)
		frame, err := d.AppendFrame(nil, [5]byte{}, nil, p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, frame)
	}
	return out
}

// Wireshark, which was written by others from the standard, reads our ASCII
// messages off a TCP connection: the same type, bitmap and fields, and no
// field that we did not send. DE 53 is left out: Wireshark 4.0 has it with 8
// digits, the standard with 16.
func TestWiresharkAgrees(t *testing.T) {
	tshark := deploytest.Program(t, "tshark")
	ascii, err := Load("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		d    *Dialect
		bits string
	}{
		{ascii, "Bin data not encoded"},
		{hexDialect(t), "Bin data represented as Hex Ascii characters"},
	} {
		frames := flow(t, c.d, c.bits == "Bin data not encoded")
		for _, way := range []string{"written", "captured"} {
			t.Run(c.d.Name()+" "+way, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "flow.pcap")
				port := 8583
				if way == "written" {
					if err := os.WriteFile(file, pcapOf(port, frames), 0o600); err != nil {
						t.Fatal(err)
					}
				} else {
					port = capturePort(t, file, frames)
				}
				seen := dissected(t, tshark, file, port, c.bits)
				if len(seen) != len(frames) {
					t.Fatalf("Wireshark sees %d messages, %d were sent", len(seen), len(frames))
				}
				for i, frame := range frames {
					agree(t, c.d, c.d.FrameBody(frame), seen[i])
				}
			})
		}
	}
}

// agree compares one message with what Wireshark says of it.
func agree(t *testing.T, d *Dialect, raw []byte, theirs map[string]string) {
	t.Helper()
	var m Message
	if err := d.Parse(&m, raw); err != nil {
		t.Fatal(err)
	}
	ours := map[string]string{"iso8583.mti": m.MTI().String()}
	bits := m.Bitmap()
	ours["iso8583.map1"] = bits[:16]
	if len(bits) == 32 {
		ours["iso8583.map2"] = bits[16:]
	}
	for n := 2; n <= maxField; n++ {
		if m.Has(n) {
			ours["iso8583.bit"+strconv.Itoa(n)] = m.Text(n)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(ours)) {
		got := theirs[k]
		if n, ok := strings.CutPrefix(k, "iso8583.bit"); ok && d.Format(number(n)) == "b8" {
			got = got[:min(len(got), 16)] // Wireshark 4.0 prints one character more than there is
		}
		if !strings.EqualFold(got, ours[k]) {
			t.Errorf("%s %s: ours %q, Wireshark's %q", m.MTI(), k, ours[k], theirs[k])
		}
	}
	for k := range theirs {
		if _, ok := ours[k]; !ok && k != "iso8583.len" && k != "iso8583.bit1" {
			t.Errorf("%s: Wireshark also sees %s %q", m.MTI(), k, theirs[k])
		}
	}
}

// pdml is what tshark -T pdml prints.
type pdml struct {
	Packets []struct {
		Protos []struct {
			Name   string      `xml:"name,attr"`
			Fields []pdmlField `xml:"field"`
		} `xml:"proto"`
	} `xml:"packet"`
}

type pdmlField struct {
	Name   string      `xml:"name,attr"`
	Show   string      `xml:"show,attr"`
	Fields []pdmlField `xml:"field"`
}

func dissected(t *testing.T, tshark, file string, port int, bits string) (out []map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tshark, "-r", file, "-T", "pdml", "-d", "tcp.port=="+strconv.Itoa(port)+",iso8583",
		"-o", "iso8583.len_endian:Big endian", "-o", "iso8583.charset:Digits represented as ASCII Characters", "-o", "iso8583.binencode:"+bits)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, errs.String())
	}
	var p pdml
	if err := xml.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	for _, packet := range p.Packets {
		for _, proto := range packet.Protos {
			if proto.Name != "iso8583" {
				continue
			}
			fields := map[string]string{}
			flatten(fields, proto.Fields)
			out = append(out, fields)
		}
	}
	return out
}

func flatten(into map[string]string, fields []pdmlField) {
	for _, f := range fields {
		if strings.HasPrefix(f.Name, "iso8583.") {
			into[f.Name] = strings.ReplaceAll(f.Show, ":", "")
		}
		flatten(into, f.Fields)
	}
}

// capturePort sends the frames over a TCP connection on the loopback while
// dumpcap records it, and gives the port. Where nobody may record the test is
// skipped: the written capture has been compared.
func capturePort(t *testing.T, file string, frames [][]byte) int {
	t.Helper()
	dumpcap, err := exec.LookPath("dumpcap")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("recording on the loopback needs root and dumpcap; the written capture was compared")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, dumpcap, "-i", "lo", "-f", "tcp port "+strconv.Itoa(port), "-P", "-w", "-", "-q")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	record, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var file2 bytes.Buffer
	tee := io.TeeReader(record, &file2)
	// The file header comes when the capture is open.
	if _, err := io.ReadFull(tee, make([]byte, 24)); err != nil {
		cancel()
		t.Skipf("dumpcap may not record here (%v: %s); the written capture was compared", errors.Join(err, cmd.Wait()), errs.String())
	}
	exchange(t, l, frames)
	// Everything was sent; read on until the last of it is in the record.
	last, buf := frames[len(frames)-1], make([]byte, 4096)
	for !bytes.Contains(file2.Bytes(), last) {
		if _, err := tee.Read(buf); err != nil {
			t.Fatalf("the record ended early: %v: %s", err, errs.String())
		}
	}
	cancel()
	if _, err := io.Copy(io.Discard, tee); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("dumpcap: %v: %s", err, errs.String())
	}
	if err := os.WriteFile(file, file2.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return port
}

// exchange sends the frames over one connection, each when the one before has
// arrived, two at once at the end.
func exchange(t *testing.T, l net.Listener, frames [][]byte) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		for _, f := range frames {
			got := make([]byte, len(f))
			if _, err := io.ReadFull(c, got); err != nil {
				done <- err
				return
			}
			if !bytes.Equal(got, f) {
				done <- fmt.Errorf("got %X", got)
				return
			}
		}
		done <- nil
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, f := range frames {
		if _, err := c.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// pcapOf writes a capture of one TCP connection that carries the frames: the
// first segment holds one and a half, the next the rest of it, and so on, so
// that Wireshark has to put them together.
func pcapOf(port int, frames [][]byte) []byte {
	var stream []byte
	cuts := []int{0}
	for i, f := range frames {
		if i > 0 {
			cuts = append(cuts, len(stream)+len(f)/2)
		}
		stream = append(stream, f...)
	}
	cuts = append(cuts, len(stream))
	const rawIPv4 = 228 // LINKTYPE_IPV4
	out := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	out = binary.LittleEndian.AppendUint32(out, 4<<16|2)
	out = append(out, make([]byte, 8)...)
	out = binary.LittleEndian.AppendUint32(out, 65535)
	out = binary.LittleEndian.AppendUint32(out, rawIPv4)
	for i := range len(cuts) - 1 {
		packet := segment(40000, port, uint32(1000+cuts[i]), stream[cuts[i]:cuts[i+1]])
		out = binary.LittleEndian.AppendUint32(out, uint32(1700000000+i))
		out = binary.LittleEndian.AppendUint32(out, 0)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(packet)))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(packet)))
		out = append(out, packet...)
	}
	return out
}

// segment is an IPv4 packet on the loopback with one TCP segment.
func segment(from, to int, seq uint32, payload []byte) []byte {
	const ipSize, tcpSize = 20, 20
	ip := make([]byte, ipSize, ipSize+tcpSize+len(payload))
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(ipSize+tcpSize+len(payload)))
	ip[8], ip[9] = 64, 6
	copy(ip[12:], []byte{127, 0, 0, 1, 127, 0, 0, 1})
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	tcp := make([]byte, tcpSize, tcpSize+len(payload))
	binary.BigEndian.PutUint16(tcp, uint16(from))
	binary.BigEndian.PutUint16(tcp[2:], uint16(to))
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], 1)
	tcp[12], tcp[13] = tcpSize/4<<4, 0x18 // PSH, ACK
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	tcp = append(tcp, payload...)
	pseudo := append(bytes.Clone(ip[12:20]), 0, 6)
	pseudo = append(binary.BigEndian.AppendUint16(pseudo, uint16(len(tcp))), tcp...)
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo))
	return append(ip, tcp...)
}

// checksum is the ones' complement sum of IP and TCP (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

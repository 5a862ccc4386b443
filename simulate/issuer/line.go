package issuer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/routing"
	"acquirer/spec"
)

// line is one connection of an acquirer.
type line struct {
	h        *Host
	nc       net.Conn
	r        *bufio.Reader
	signedOn atomic.Bool

	mu   sync.Mutex
	out  []byte        // what waits to be written
	peer string        // the acquirer's institution code, from its sign-on
	head spec.POSFrame // how the acquirer's messages begin, in framings other than CUPS's
	read spec.FrameReader

	in, reply spec.Message // of the reader
}

func newLine(h *Host, nc net.Conn) *line {
	l := &line{h: h, nc: nc, r: bufio.NewReaderSize(nc, 64<<10)}
	if !l.cups() {
		l.read = h.cfg.Dialect.Frames()
	}
	return l
}

// cups reports whether the header of CUPS stands before messages.
func (l *line) cups() bool { return l.h.cfg.Dialect.Framing().CUPS }

// drop hangs up; the reader ends by it.
func (l *line) drop() { _ = l.nc.Close() }

// serve reads and answers until the line ends. Answers wait until everything
// that has arrived is looked at, so that a burst is answered in one write.
func (l *line) serve() error {
	defer l.drop()
	defer l.signedOn.Store(false)
	var frame []byte
	for {
		frame, body, err := l.next(frame)
		if err != nil {
			return err
		}
		if err := l.h.cfg.Dialect.Parse(&l.in, body); err != nil {
			l.h.log.Warn("malformed message", "error", err)
			if l.cups() { // a network rejects it in the header and sends it back
				copy(frame[41:46], "00001")
				l.post(frame)
			}
		} else if err := l.handle(); err != nil {
			return err
		}
		if l.r.Buffered() < spec.CUPSHeaderSize { // nothing whole is waiting, or hardly
			if err := l.flush(); err != nil {
				return err
			}
		}
	}
}

// next reads a frame into buf, which grows when it is too small, and gives the
// message in it.
func (l *line) next(buf []byte) (frame, body []byte, err error) {
	total := 0
	if l.cups() {
		head, err := l.r.Peek(spec.CUPSHeaderSize)
		if err != nil {
			return buf, nil, err
		}
		total, err = spec.CUPSLength(head)
		if err != nil {
			return buf, nil, err
		}
	} else if err = l.read.Wait(l.r); err != nil {
		return buf, nil, err
	} else if total, err = l.read.Length(l.r, spec.CUPSMaxLength); err != nil {
		return buf, nil, err
	}
	if cap(buf) < total {
		buf = make([]byte, total)
	}
	frame = buf[:total]
	if l.cups() {
		_, err = io.ReadFull(l.r, frame)
		return frame, frame[spec.CUPSHeaderSize:], err
	}
	f, err := l.read.Body(l.r, frame)
	if err != nil {
		return frame, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = f
	l.head.Other, l.head.Extra, l.head.Body = slices.Clone(f.Other), nil, nil
	return frame, f.Body, nil
}

// errDropped ends a line on purpose.
var errDropped = errors.New("the weather dropped the line")

func (l *line) handle() error {
	switch m := &l.in; m.MTI() {
	case 0x0800, 0x0820:
		return l.network()
	case 0x0810:
		l.h.heard(m)
		return nil
	case 0x0100, 0x0200, 0x0220, 0x0221, 0x0420, 0x0421, 0x0620, 0x0621:
		return l.financial()
	default:
		l.h.log.Warn("message of a type that is not served", "mti", m.MTI())
		return nil
	}
}

// network answers 0820, or 0800 in plain ISO 8583:1987: sign-on, sign-off, echo, and the request for a key.
func (l *line) network() error {
	info, _ := l.in.Int(70)
	code := "00"
	control := l.in.Text(53)
	switch info {
	case 1:
		if l.h.sky.closed() {
			code = "91"
		}
		l.mu.Lock()
		l.peer = l.in.Text(33)
		l.mu.Unlock()
		l.signedOn.Store(code == "00")
	case 2:
		l.signedOn.Store(false)
	case 101:
		if len(control) != 16 || control[0] != byte(routing.ZPK) && control[0] != byte(routing.ZAK) {
			code = "30"
		}
	case 301:
	default:
		code = "40"
	}
	r := &l.reply
	r.Reset(l.h.cfg.Dialect, l.in.MTI().Response())
	r.Copy(&l.in, 7, 11, 33, 53, 70)
	r.Set(39, code)
	if err := l.answer(r, signer{}); err != nil {
		return err
	}
	if info == 101 && code == "00" {
		use, double := routing.KeyUse(control[0]), control[0] == byte(routing.ZPK) || control[1] == '6'
		return l.newKey(context.Background(), use, double, nil)
	}
	return nil
}

// sendKey sends a new zone key and waits for the acquirer's 0810.
func (l *line) sendKey(ctx context.Context, use routing.KeyUse, double bool) error {
	answered := make(chan string, 1)
	if err := l.newKey(ctx, use, double, func(code string) { answered <- code }); err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	select {
	case code := <-answered:
		if code != "00" {
			return fmt.Errorf("issuer %s: the acquirer answered %s to a new %s", l.h.cfg.Name, code, use)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("issuer %s: a new %s was not answered: %w", l.h.cfg.Name, use, ctx.Err())
	}
}

// newKey writes an 0800 with a new zone key (protocol.md 10.4). It is signed
// with the new ZAK itself, or with the current ZAK when it brings a ZPK.
// answered hears DE 39 of the 0810; a refused key is forgotten.
func (l *line) newKey(ctx context.Context, use routing.KeyUse, double bool, answered func(string)) error {
	h := l.h
	cryptogram, err := h.vault.newKey(ctx, use, double)
	if err != nil {
		return err
	}
	stan := h.trace.Add(1)%999999 + 1
	h.mu.Lock()
	h.waiting[stan] = func(code string) {
		if code != "00" {
			h.vault.undo(use)
			h.log.Warn("the acquirer refused a key", "use", use, "code", code)
		}
		if answered != nil {
			answered(code)
		}
	}
	h.mu.Unlock()
	var m spec.Message
	m.Reset(h.cfg.Dialect, 0x0800)
	m.SetInt(7, transmissionTime(time.Now()))
	m.SetInt(11, int64(stan))
	if h.cfg.Dialect.Declares(33) {
		m.Set(33, h.cfg.Institution)
	}
	control := []byte("1000000000000000")
	control[0] = byte(use)
	if double {
		control[1] = '6'
	}
	m.SetText(53, control)
	m.SetInt(70, 101)
	routing.SetZoneKey(&m, cryptogram)
	now, _ := h.vault.signers()
	return l.answer(&m, now)
}

// heard takes an 0810.
func (h *Host) heard(m *spec.Message) {
	stan, _ := m.Int(11)
	h.mu.Lock()
	told := h.waiting[uint32(stan)]
	delete(h.waiting, uint32(stan))
	h.mu.Unlock()
	if told != nil {
		told(m.Text(39))
	}
}

// answer packs and signs a message and lays it out for the next flush. The
// zero signer signs nothing.
func (l *line) answer(m *spec.Message, by signer) error {
	frame, err := l.frame(m, by)
	if err != nil {
		return err
	}
	l.post(frame)
	return nil
}

func (l *line) frame(m *spec.Message, by signer) ([]byte, error) {
	d := l.h.cfg.Dialect
	if by.key != "" {
		m.SetBytes(routing.MACField(d, m), make([]byte, 8))
	}
	frame, body, err := l.wrap(m)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %v: %w", l.h.cfg.Name, m.MTI(), err)
	}
	if by.key != "" {
		if err := l.h.vault.sign(context.Background(), by, body); err != nil {
			return nil, err
		}
	}
	return frame, nil
}

// wrap packs a message into a frame and gives both.
func (l *line) wrap(m *spec.Message) (frame, body []byte, err error) {
	l.mu.Lock()
	header, head := spec.CUPSHeader{Source: l.h.cfg.Institution, Destination: l.peer}, l.head
	l.mu.Unlock()
	if !l.cups() {
		frame, err = head.AppendReply(make([]byte, 0, 512), spec.DemandNothing, m)
		return frame, l.h.cfg.Dialect.FrameBody(frame), err
	}
	if frame, err = m.Append(make([]byte, spec.CUPSHeaderSize, 512)); err != nil {
		return nil, nil, err
	}
	body = frame[spec.CUPSHeaderSize:]
	_, err = spec.AppendCUPSHeader(frame[:0], header, len(body))
	return frame, body, err
}

func (l *line) post(frame []byte) {
	l.mu.Lock()
	l.out = append(l.out, frame...)
	l.mu.Unlock()
}

func (l *line) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.out) == 0 {
		return nil
	}
	if err := l.nc.SetWriteDeadline(time.Now().Add(l.h.cfg.WriteTimeout)); err != nil {
		return err
	}
	_, err := l.nc.Write(l.out)
	l.out = l.out[:0]
	return err
}

// later writes a frame after a pause, unless the line or the house has ended.
func (l *line) later(pause time.Duration, frame []byte) {
	l.h.late.Go(func() {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
			l.post(frame)
			_ = l.flush() // a line that has ended needs no answer
		case <-l.h.quit:
		}
	})
}

// transmissionTime is DE 7, MMDDhhmmss.
func transmissionTime(t time.Time) int64 {
	t = t.In(calendar.Beijing)
	h, m, s := t.Clock()
	return int64(t.Month())*1e8 + int64(t.Day())*1e6 + int64(h)*1e4 + int64(m)*100 + int64(s)
}

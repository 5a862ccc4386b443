package payshield

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// errLine says that a connection broke or fell silent with a command on it.
var errLine = errors.New("connection lost")

// line is one connection to a device. Commands of many callers are on it at
// once; the header of each says which answer is whose.
type line struct {
	conn   net.Conn
	header int // characters; 0: answers are told by their order alone
	send   chan []byte
	gone   chan struct{} // closed when the line is

	turn sync.Mutex // held from registering a command to giving it to the writer, without headers

	mu      sync.Mutex
	waiting map[string]*exchange
	order   []*exchange // without header
	next    uint64
	err     error
}

// exchange is a command on its way. Its caller may have left.
type exchange struct {
	answer chan []byte // one, behind the header
}

// sendAhead is how many commands may wait for the writer of a line.
const sendAhead = 256

func newLine(conn net.Conn, header int, writeTimeout time.Duration) *line {
	l := &line{conn: conn, header: header, send: make(chan []byte, sendAhead), gone: make(chan struct{}), waiting: map[string]*exchange{}}
	go l.read()
	go l.write(writeTimeout)
	return l
}

// close ends the line; every caller on it hears errLine.
func (l *line) close(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = fmt.Errorf("%w: %w", errLine, cause)
	close(l.gone)
	_ = l.conn.Close() // it is given up already
}

// alive says whether commands may be put on it.
func (l *line) alive() bool {
	select {
	case <-l.gone:
		return false
	default:
		return true
	}
}

// inFlight counts the commands that are not answered.
func (l *line) inFlight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) + len(l.order)
}

func (l *line) read() {
	r := bufio.NewReaderSize(l.conn, 16<<10)
	for {
		frame, err := readFrame(r, nil)
		if err != nil {
			l.close(err)
			return
		}
		if len(frame) < l.header {
			l.close(errors.New("an answer is shorter than its header"))
			return
		}
		l.mu.Lock()
		var e *exchange
		if l.header > 0 {
			id := string(frame[:l.header])
			e = l.waiting[id]
			delete(l.waiting, id)
		} else if len(l.order) > 0 {
			e, l.order = l.order[0], l.order[1:]
		}
		l.mu.Unlock()
		if e == nil {
			l.close(errors.New("an answer came to no command: is the header length that of the device?"))
			return
		}
		e.answer <- frame[l.header:]
	}
}

// write sends what waits in one go.
func (l *line) write(timeout time.Duration) {
	w := bufio.NewWriterSize(l.conn, 16<<10)
	for {
		var frame []byte
		select {
		case frame = <-l.send:
		case <-l.gone:
			return
		}
		err := l.conn.SetWriteDeadline(time.Now().Add(timeout))
		for err == nil && frame != nil {
			_, err = w.Write(frame)
			select {
			case frame = <-l.send:
			default:
				frame = nil
			}
		}
		if err == nil {
			err = w.Flush()
		}
		if err != nil {
			l.close(err)
			return
		}
	}
}

// do sends a command and waits for its answer. When patience ends before ctx
// does, the device is silent and the line is closed: what comes on it would
// come late.
func (l *line) do(ctx context.Context, request string, patience time.Duration) ([]byte, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	e, err := l.put(request, timer.C)
	if err != nil {
		return nil, err
	}
	select {
	case answer := <-e.answer:
		return answer, nil
	case <-l.gone:
		select { // it may have come together with the end
		case answer := <-e.answer:
			return answer, nil
		default:
			return nil, l.failure()
		}
	case <-timer.C:
		l.close(fmt.Errorf("no answer in %v", patience))
		return nil, l.failure()
	case <-ctx.Done():
		return nil, context.Cause(ctx) // the answer, when it comes, finds nobody
	}
}

// put registers a command and gives it to the writer. Without headers both
// must be in the same order for all callers.
func (l *line) put(request string, timeout <-chan time.Time) (*exchange, error) {
	if l.header == 0 {
		l.turn.Lock()
		defer l.turn.Unlock()
	}
	e, frame, err := l.begin(request)
	if err != nil {
		return nil, err
	}
	select {
	case l.send <- frame:
		return e, nil
	case <-l.gone:
	case <-timeout:
		l.close(errors.New("commands are not taken"))
	}
	return nil, l.failure()
}

func (l *line) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// begin registers a command under a header that no other on the line has.
func (l *line) begin(request string) (*exchange, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, nil, l.err
	}
	e := &exchange{answer: make(chan []byte, 1)}
	if l.header == 0 {
		frame, err := appendFrame(nil, []byte(request))
		if err == nil {
			l.order = append(l.order, e)
		}
		return e, frame, err
	}
	id, err := l.freeHeader()
	if err != nil {
		return nil, nil, err
	}
	frame, err := appendFrame(nil, []byte(id), []byte(request))
	if err == nil {
		l.waiting[id] = e
	}
	return e, frame, err
}

// freeHeader counts in digits, as many as the header has.
func (l *line) freeHeader() (string, error) {
	room := uint64(1)
	for range min(l.header, 9) {
		room *= 10
	}
	if uint64(len(l.waiting)) >= room {
		return "", fmt.Errorf("%d commands are on one connection, more than headers of %d characters can tell apart", len(l.waiting), l.header)
	}
	for {
		id := strconv.FormatUint(l.next%room, 10)
		l.next++
		for len(id) < l.header {
			id = "0" + id
		}
		if l.waiting[id] == nil {
			return id, nil
		}
	}
}

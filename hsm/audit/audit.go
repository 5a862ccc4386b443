// Package audit is the log of what was done with keys: one line of JSON for
// each operation, each with the SHA-256 of the line before it and an HMAC under
// a key of the master key file, on disk before the operation counts.
//
// A line that is changed, taken out, put in or moved breaks the chain. Lines
// cut off at the end are missed by a counter file beside the log, which holds
// the number of lines and the hash of the last; whoever sets both back to an
// older moment is caught only by a head that was noted elsewhere (Head), which
// is why `acquirer hsm status` prints it.
package audit

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"acquirer/fault"
)

// Entry is one thing that was done, or refused. It never carries a key or a
// component.
type Entry struct {
	Op         string   `json:"op"`                   // generate, import, export, form, deliver, working keys, rewrap, rotate, retire, init, component, seal, unseal, ...
	Who        string   `json:"who"`                  // the user of the machine, or the peer of the socket
	Custodians []string `json:"custodians,omitempty"` // who stood by
	Use        string   `json:"use,omitempty"`        // TMK, ZPK, ...
	KCV        string   `json:"kcv,omitempty"`        // check value, 6 or 8 hex digits
	Note       string   `json:"note,omitempty"`       // what it was for: a terminal, a file, a count
	Error      string   `json:"error,omitempty"`      // why it was refused
}

// line is an Entry in its place. The MAC is behind it, over the text of all
// that stands before.
type line struct {
	N    int64     `json:"n"` // from 1
	Time time.Time `json:"time"`
	Entry
	Prev string `json:"prev"` // SHA-256 of the line before, in hex; zeros in the first
}

const (
	zeroHash = "0000000000000000000000000000000000000000000000000000000000000000"
	macLead  = `,"mac":"`
	macTail  = `"}`
	maxLine  = 64 * 1024
)

// Head is where a log ends.
type Head struct {
	Lines int64  `json:"lines"`
	Hash  string `json:"hash"` // SHA-256 of the last line, in hex
}

// String is what an operator writes down.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Lines, h.Hash) }

// ParseHead reads what String wrote.
func ParseHead(s string) (h Head, err error) {
	if _, err := fmt.Sscanf(s, "%d:%64s", &h.Lines, &h.Hash); err != nil || len(h.Hash) != 64 || h.String() != s {
		return Head{}, fmt.Errorf("audit: %q is not a head; write it as status printed it, LINES:HASH", s)
	}
	return h, nil
}

// Log is an open audit log. Several processes may append to one file: each
// takes a lock on it and goes on from where the others left it. Its methods may
// be called from any goroutine.
type Log struct {
	path   string
	file   *os.File
	anchor *os.File

	mu      sync.Mutex
	key     []byte // of the HMAC; nil while the HSM is sealed
	head    Head
	size    int64
	broken  error // an append that failed: nothing is done with keys any more
	waiting []*pending
	writing bool
}

type pending struct {
	entry Entry
	at    time.Time
	done  chan struct{}
	err   error
}

// Open opens a log for appending, or makes it, only for its owner. A last line
// that was cut off by a crash was never acknowledged and is taken away; any
// other damage is an error, for a log that lies must be looked at by a person.
func Open(path string) (*Log, error) {
	fail := func(err error) (*Log, error) { return nil, fmt.Errorf("audit: %s: %w", path, err) }
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	l := &Log{path: path, file: f, head: Head{Hash: zeroHash}}
	if l.anchor, err = os.OpenFile(AnchorOf(path), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fail(errors.Join(err, f.Close()))
	}
	if err := lock(f); err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	defer unlock(f)
	if err := l.catchUp(); err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	if err := l.checkAnchor(); err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	return l, nil
}

// AnchorOf is the counter file of a log.
func AnchorOf(path string) string { return path + ".head" }

// SetKey gives the log the key of its HMACs, nil takes it away. Lines without
// HMAC are covered by the next that has one, through the chain.
func (l *Log) SetKey(key []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.key)
	l.key = bytes.Clone(key)
}

// Head is where the log ends.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Path is the file.
func (l *Log) Path() string { return l.path }

// Close closes the files. What was appended is on disk already.
func (l *Log) Close() error {
	l.SetKey(nil)
	return errors.Join(l.file.Close(), l.anchor.Close())
}

// Verify is the function Verify with the key that the log has.
func (l *Log) Verify(noted Head) (Report, error) {
	l.mu.Lock()
	key := bytes.Clone(l.key)
	l.mu.Unlock()
	defer clear(key)
	return Verify(l.path, key, noted)
}

// Append writes an entry and returns when it is on disk. Entries of callers
// that come while another is written share one write and one fsync. An error
// means that the operation must not be done, or not be given away.
func (l *Log) Append(e Entry) error {
	p := &pending{entry: e, at: time.Now().UTC(), done: make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, p)
	if l.writing {
		l.mu.Unlock()
		<-p.done
		return p.err
	}
	l.writing = true
	for len(l.waiting) > 0 {
		batch := l.waiting
		l.waiting = nil
		key := bytes.Clone(l.key)
		l.mu.Unlock()
		head, err := l.write(batch, key)
		clear(key)
		l.mu.Lock()
		if err != nil {
			err = fmt.Errorf("audit: %s: %w", l.path, err)
			l.broken = err
		} else {
			l.head = head
		}
		for _, q := range batch {
			q.err = err
			close(q.done)
		}
	}
	l.writing = false
	l.mu.Unlock()
	return p.err
}

// write puts a batch at the end. Only one goroutine is in it at a time.
func (l *Log) write(batch []*pending, key []byte) (Head, error) {
	if l.broken != nil {
		return Head{}, fmt.Errorf("an earlier entry could not be written (%w); start again when the disk is well", l.broken)
	}
	if err := lock(l.file); err != nil {
		return Head{}, err
	}
	defer unlock(l.file)
	head := l.head
	if info, err := l.file.Stat(); err != nil {
		return Head{}, err
	} else if info.Size() != l.size { // another process was here
		if err := l.catchUp(); err != nil {
			return Head{}, err
		}
		head = l.head
	}
	var out []byte
	for _, p := range batch {
		text, err := json.Marshal(line{N: head.Lines + 1, Time: p.at, Entry: p.entry, Prev: head.Hash})
		if err != nil {
			return Head{}, err
		}
		text = seal(text, key)
		if len(text) > maxLine {
			return Head{}, fmt.Errorf("an entry of %d bytes is longer than %d", len(text), maxLine)
		}
		head = Head{head.Lines + 1, hashOf(text)}
		out = append(append(out, text...), '\n')
	}
	fault.Hit("keylog.append.before")
	if _, err := l.file.WriteAt(out, l.size); err != nil {
		return Head{}, err
	}
	if err := l.file.Sync(); err != nil {
		return Head{}, err
	}
	fault.Hit("keylog.append.after")
	l.size += int64(len(out))
	return head, l.writeAnchor(head)
}

// seal puts the MAC behind a line's text, an empty one without key.
func seal(text, key []byte) []byte {
	text = text[:len(text)-1] // its closing brace
	mac := ""
	if key != nil {
		mac = macOf(text, key)
	}
	return append(append(append(text, macLead...), mac...), macTail...)
}

func macOf(text, key []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return hex.EncodeToString(h.Sum(nil))
}

func hashOf(text []byte) string {
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:])
}

// writeAnchor notes where the log ends. It is written after the log: a crash
// between the two leaves it one write behind, never ahead.
func (l *Log) writeAnchor(h Head) error {
	if _, err := l.anchor.WriteAt(fmt.Appendf(nil, "%020d:%s\n", h.Lines, h.Hash), 0); err != nil {
		return err
	}
	return l.anchor.Sync()
}

// catchUp reads what this process has not seen, checks its chain, and takes
// away a last line that a crash cut off. The file is locked.
func (l *Log) catchUp() error {
	seen := l.head
	r := bufio.NewReaderSize(io.NewSectionReader(l.file, l.size, 1<<62), maxLine+1)
	for {
		text, err := r.ReadSlice('\n')
		if err == io.EOF {
			if len(text) > 0 {
				if err := errors.Join(l.file.Truncate(l.size), l.file.Sync()); err != nil {
					return err
				}
			}
			l.mu.Lock()
			l.head = seen
			l.mu.Unlock()
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", seen.Lines+1, err)
		}
		text = text[:len(text)-1]
		if _, _, err := parse(text, seen); err != nil {
			return err
		}
		seen = Head{seen.Lines + 1, hashOf(text)}
		l.size += int64(len(text)) + 1
	}
}

// parse reads one line that must follow the head.
func parse(text []byte, after Head) (line, string, error) {
	var v struct {
		line
		MAC string `json:"mac"`
	}
	bad := func(format string, args ...any) (line, string, error) {
		return line{}, "", &Broken{Line: after.Lines + 1, What: fmt.Sprintf(format, args...)}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return bad("it is not an entry: it was changed or cut")
	}
	if v.N != after.Lines+1 {
		return bad("it has number %d: lines were taken out, put in or moved", v.N)
	}
	if v.Prev != after.Hash {
		return bad("it does not follow from the line before it: that one was changed or taken out")
	}
	if !bytes.HasSuffix(text, []byte(macLead+v.MAC+macTail)) {
		return bad("its MAC is not at its end: it was changed")
	}
	return v.line, v.MAC, nil
}

// Broken says where a log is not what was written.
type Broken struct {
	Line int64 // from 1
	What string
}

func (b *Broken) Error() string { return fmt.Sprintf("audit log, line %d: %s", b.Line, b.What) }

// checkAnchor compares the counter file with the log that was read. The log
// may be ahead of it, by what was written when a crash came.
func (l *Log) checkAnchor() error {
	at, err := readAnchor(l.anchor)
	if err != nil {
		return err
	}
	if err := compareAnchor(at, l.head.Lines, func(n int64) (string, error) { return hashAt(l.file, n) }); err != nil {
		return err
	}
	if at != l.head {
		return l.writeAnchor(l.head)
	}
	return nil
}

func compareAnchor(at Head, lines int64, hash func(n int64) (string, error)) error {
	if at.Lines > lines {
		return &Broken{Line: lines + 1, What: fmt.Sprintf("the counter file knows %d lines and there are %d: lines were cut off at the end", at.Lines, lines)}
	}
	if at.Lines == 0 {
		return nil
	}
	got, err := hash(at.Lines)
	if err != nil {
		return err
	}
	if got != at.Hash {
		return &Broken{Line: at.Lines, What: "it is not the line that the counter file knows: the log was written anew"}
	}
	return nil
}

// readAnchor reads the counter file; an empty one is that of a new log.
func readAnchor(f io.ReaderAt) (Head, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 256))
	if err != nil {
		return Head{}, err
	}
	if len(text) == 0 {
		return Head{}, nil
	}
	var h Head
	if _, err := fmt.Sscanf(string(text), "%d:%64s\n", &h.Lines, &h.Hash); err != nil || len(h.Hash) != 64 {
		return Head{}, errors.New("the counter file beside the log was changed")
	}
	return h, nil
}

// hashAt is the hash of line n.
func hashAt(f io.ReaderAt, n int64) (string, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), maxLine+1)
	for i := int64(1); ; i++ {
		text, err := r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		if i == n {
			return hashOf(text[:len(text)-1]), nil
		}
	}
}

// Report is what Verify found in a log that is whole.
type Report struct {
	Lines     int64     `json:"lines"`
	Head      string    `json:"head"`
	Signed    int64     `json:"signed"`    // lines whose HMAC was checked
	Unsigned  int64     `json:"unsigned"`  // written while the HSM was sealed; covered by the next signed line
	Uncovered int64     `json:"uncovered"` // unsigned lines at the end, which only the chain and the counter file hold
	Checked   bool      `json:"macs_checked"`
	Last      time.Time `json:"last,omitzero"`
}

// Verify reads a whole log and its counter file. key is the ring's audit key;
// without it the chain alone is checked, which whoever can write the file can
// make anew. noted, when not the zero Head, was written down earlier and must
// be in the log. The error is a *Broken when the log is not what was written.
func Verify(path string, key []byte, noted Head) (Report, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0) // for the lock: nobody appends meanwhile
	if errors.Is(err, os.ErrPermission) {
		f, err = os.Open(path)
	}
	if err != nil {
		return Report{}, fmt.Errorf("audit: %w", err)
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return Report{}, fmt.Errorf("audit: %s: %w", path, err)
	}
	defer unlock(f)
	r := Report{Checked: key != nil}
	head := Head{Hash: zeroHash}
	found := noted == (Head{})
	in := bufio.NewReaderSize(f, maxLine+1)
	for {
		text, err := in.ReadSlice('\n')
		if err == io.EOF && len(text) == 0 {
			break
		}
		if err != nil {
			return r, &Broken{Line: head.Lines + 1, What: "it has no end: it was cut, or is being written"}
		}
		text = text[:len(text)-1]
		l, mac, err := parse(text, head)
		if err != nil {
			return r, err
		}
		switch {
		case mac == "":
			r.Unsigned++
			r.Uncovered++
		case key != nil:
			body := text[:len(text)-len(macLead)-len(mac)-len(macTail)]
			if subtle.ConstantTimeCompare([]byte(macOf(body, key)), []byte(mac)) != 1 {
				return r, &Broken{Line: head.Lines + 1, What: "its MAC is wrong: it was changed, or written by somebody without the key"}
			}
			r.Signed++
			r.Uncovered = 0
		default:
			r.Uncovered = 0
		}
		head = Head{head.Lines + 1, hashOf(text)}
		r.Lines, r.Last = head.Lines, l.Time
		found = found || head == noted
	}
	r.Head = head.String()
	if !found {
		return r, &Broken{Line: min(noted.Lines, head.Lines+1), What: "the head that was noted is not in the log: it was cut off or written anew"}
	}
	a, err := os.Open(AnchorOf(path))
	if err != nil {
		return r, &Broken{Line: head.Lines + 1, What: "the counter file beside the log is gone, so nobody knows whether this is the end"}
	}
	defer a.Close()
	at, err := readAnchor(a)
	if err != nil {
		return r, &Broken{Line: head.Lines + 1, What: err.Error()}
	}
	if at.Lines == 0 && head.Lines > 1 {
		return r, &Broken{Line: head.Lines + 1, What: "the counter file beside the log is empty, so nobody knows whether this is the end"}
	}
	return r, compareAnchor(at, head.Lines, func(n int64) (string, error) { return hashAt(f, n) })
}

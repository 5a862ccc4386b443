// Package remote is an HSM in a process of its own: Serve gives a vault to
// others on the same machine over a unix socket, Client is the hsm.HSM on the
// other side of it. The process that uses keys then never has a clear one.
package remote

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"sync"
	"time"

	"acquirer/hsm"
	"acquirer/hsm/audit"
)

// peer is who is at the other end of a connection.
type peer struct{ uid, gid, pid int }

func (p peer) String() string { return fmt.Sprintf("uid %d, gid %d, pid %d", p.uid, p.gid, p.pid) }

// Config is how a vault is served.
type Config struct {
	Vault  *Vault
	Socket string // path; its directory is made when it is not there
	// Group, when not 0, is the group whose members (by their primary group)
	// may use keys too, and the socket is theirs to open. Root's group is
	// root, who needs no permission.
	Group int
	Log   *slog.Logger
}

// keeping is what only the HSM's own user may ask for.
var keeping = map[string]bool{
	"FormKey": true, "Rewrap": true, "DeliverTMKBlock": true,
	"Unlock": true, "EnterComponent": true, "Seal": true, "Change": true, "VerifyAudit": true,
}

// slow are the verbs that write the audit log or read a file: they do not hold
// up what comes after them on the connection.
var slow = map[string]bool{
	"GenerateKey": true, "ImportKey": true, "ExportKey": true, "DeliverTMK": true, "WorkingKeys": true, "FormKey": true, "DeliverTMKBlock": true,
	"Unlock": true, "EnterComponent": true, "Seal": true, "Change": true, "VerifyAudit": true, "Status": true,
}

// verb is one method as the wire calls it.
type verb struct {
	index      int            // of its interface
	ins        []reflect.Type // behind the context
	outs       []reflect.Type // before the error
	desk       bool           // a method of desk, not of hsm.Keeper
	slow, keep bool
}

// desk is what the wire may ask of the vault itself.
type desk interface {
	Status(ctx context.Context) (Status, error)
	Unlock(ctx context.Context, passphrase []byte) error
	EnterComponent(ctx context.Context, custodian string, value []byte) ([]string, error)
	Seal(ctx context.Context) error
	Change(ctx context.Context, c Change, custodians []string, passphrase []byte) ([]string, error)
	VerifyAudit(ctx context.Context, noted string) (audit.Report, error)
}

// verbs are all methods by name. A verb that the wire cannot carry ends the
// program at its start.
var verbs = func() map[string]*verb {
	out := map[string]*verb{}
	for _, t := range []reflect.Type{reflect.TypeFor[hsm.Keeper](), reflect.TypeFor[desk]()} {
		for i := range t.NumMethod() {
			m := t.Method(i)
			v := &verb{index: i, desk: t == reflect.TypeFor[desk](), slow: slow[m.Name], keep: keeping[m.Name]}
			for j := 1; j < m.Type.NumIn(); j++ {
				v.ins = append(v.ins, m.Type.In(j))
			}
			for j := range m.Type.NumOut() - 1 {
				v.outs = append(v.outs, m.Type.Out(j))
			}
			for _, one := range append(append([]reflect.Type{}, v.ins...), v.outs...) {
				if err := writable(one); err != nil {
					panic(fmt.Sprintf("hsm/remote: %s: %v", m.Name, err))
				}
			}
			out[m.Name] = v
		}
	}
	return out
}()

// Serve listens on the socket until ctx ends. The socket is 0600 in a
// directory of 0700, 0660 in 0750 with a group, and every peer is asked for
// its credentials besides.
func Serve(ctx context.Context, cfg Config) error {
	l, err := Listen(cfg)
	if err != nil {
		return err
	}
	return cfg.ServeOn(ctx, l)
}

// Listen opens the socket. One that a process left behind is taken away, one
// that somebody serves is not.
func Listen(cfg Config) (*net.UnixListener, error) {
	dirMode, mode := fs.FileMode(0o700), fs.FileMode(0o600)
	if cfg.Group != 0 {
		dirMode, mode = 0o750, 0o660
	}
	dir := filepath.Dir(cfg.Socket)
	made := false
	if err := os.Mkdir(dir, dirMode); err == nil {
		made = true
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("hsm: the socket's folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("hsm: the socket's folder: %w", err)
	}
	if info.Mode().Perm()&^dirMode != 0 {
		return nil, fmt.Errorf("hsm: the socket's folder %s is open to others (%v); chmod %o %s, or give the socket a folder of its own", dir, info.Mode().Perm(), dirMode, dir)
	}
	if made && cfg.Group != 0 {
		if err := errors.Join(os.Chmod(dir, dirMode), give(dir, cfg.Group)); err != nil {
			return nil, fmt.Errorf("hsm: the socket's folder: %w", err)
		}
	}
	if c, err := net.Dial("unix", cfg.Socket); err == nil {
		return nil, errors.Join(fmt.Errorf("hsm: %s is served by another process", cfg.Socket), c.Close())
	} else if s, err := os.Lstat(cfg.Socket); err == nil && s.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(cfg.Socket); err != nil {
			return nil, fmt.Errorf("hsm: a socket left behind: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("hsm: %w", err)
	}
	err = os.Chmod(cfg.Socket, mode)
	if err == nil && cfg.Group != 0 {
		err = give(cfg.Socket, cfg.Group)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hsm: the socket's owner: %w", err), l.Close())
	}
	return l, nil
}

// give gives a file to a group, if it is not the group's already: a service
// may run in a sandbox without chown.
func give(name string, group int) error {
	info, err := os.Lstat(name)
	if err != nil || groupOf(info) == group {
		return err
	}
	return os.Chown(name, -1, group)
}

// ServeOn serves the listener that Listen opened until ctx ends.
func (cfg Config) ServeOn(ctx context.Context, l *net.UnixListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept then ends
	defer stop()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("hsm: %w", err)
		}
		p, err := peerOf(c)
		if err == nil && p.uid != os.Getuid() && p.uid != 0 && (cfg.Group == 0 || p.gid != cfg.Group) {
			err = errors.New("neither the user of the HSM nor of its group")
		}
		if err != nil {
			cfg.Log.Warn("a connection was refused", "peer", p.String(), "error", err.Error())
			_ = c.Close() // nothing was said
			continue
		}
		wg.Go(func() {
			s := &session{cfg: cfg, conn: c, peer: p, keep: p.uid == os.Getuid() || p.uid == 0}
			if err := s.run(ctx); err != nil {
				cfg.Log.Warn("a connection ended", "peer", p.String(), "error", err.Error())
			}
		})
	}
}

// session is one connection: one goroutine reads and answers, in order, what
// is quick; what writes to disk has a goroutine of its own.
type session struct {
	cfg  Config
	conn *net.UnixConn
	peer peer
	keep bool // may keep keys

	mu    sync.Mutex
	out   *bufio.Writer
	slots chan struct{}

	last    *hsm.Software // what watched was made of
	watched hsm.Keeper
}

// maxSlow bounds the slow verbs of a connection.
const maxSlow = 64

func (s *session) run(ctx context.Context) error {
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	s.out, s.slots = bufio.NewWriterSize(s.conn, 64<<10), make(chan struct{}, maxSlow)
	var wg sync.WaitGroup
	defer wg.Wait()
	in := bufio.NewReaderSize(s.conn, 64<<10)
	var buf []byte
	for {
		id, body, grown, err := readFrame(in, buf)
		buf = grown
		if err == io.EOF || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		r := &reader{b: body}
		v := verbs[string(r.bytes())]
		wait := time.Duration(r.uvarint()) * time.Millisecond
		var standBy []string
		r.value(reflect.ValueOf(&standBy).Elem())
		if r.err != nil {
			return r.err
		}
		if v == nil {
			return fmt.Errorf("a verb that is not known here: %w", errCodec)
		}
		args := make([]reflect.Value, len(v.ins)+1)
		for i, t := range v.ins {
			arg := reflect.New(t).Elem()
			r.value(arg)
			args[i+1] = arg
		}
		if err := r.end(); err != nil {
			return err
		}
		clear(body) // a component or a passphrase may have been in it
		if !v.slow {
			if err := s.answer(id, s.call(ctx, v, wait, standBy, args), in.Buffered() == 0); err != nil {
				return err
			}
			continue
		}
		s.slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-s.slots }()
			if err := s.answer(id, s.call(ctx, v, wait, standBy, args), true); err != nil {
				_ = s.conn.Close() // the reader then ends the session
			}
		})
	}
}

// answer writes one frame, and sends what was written when asked to.
func (s *session) answer(id uint64, body []byte, send bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	var head [frameHead]byte
	binary.BigEndian.PutUint32(head[:], uint32(8+len(body)))
	binary.BigEndian.PutUint64(head[4:], id)
	if _, err := s.out.Write(head[:]); err != nil {
		return err
	}
	if _, err := s.out.Write(body); err != nil {
		return err
	}
	if !send {
		return nil
	}
	return s.out.Flush()
}

// call runs one verb and writes the body of its answer. What panics answers
// with an error and leaves the others alone.
func (s *session) call(ctx context.Context, v *verb, wait time.Duration, standBy []string, args []reflect.Value) (body []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("a verb panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			body = appendError(nil, errors.New("hsm: a fault inside; see the log of the HSM"))
		}
	}()
	if v.keep && !s.keep {
		return appendError(nil, fmt.Errorf("%w (this is %v)", ErrForbidden, s.peer))
	}
	var cancel context.CancelFunc
	if wait > 0 && v.slow {
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	if len(standBy) > 0 {
		ctx = audit.WithCustodians(ctx, standBy)
	}
	args[0] = reflect.ValueOf(&ctx).Elem()
	var on reflect.Value
	if v.desk {
		var d desk = sessionDesk{s}
		on = reflect.ValueOf(&d).Elem()
	} else {
		k, err := s.keeper()
		if err != nil {
			return appendError(nil, err)
		}
		on = reflect.ValueOf(&k).Elem()
	}
	var out []reflect.Value
	if m := on.Method(v.index); m.Type().IsVariadic() {
		out = m.CallSlice(args)
	} else {
		out = m.Call(args)
	}
	if err, failed := out[len(out)-1].Interface().(error); failed && err != nil {
		return appendError(nil, err)
	}
	body = append(body, 0)
	for _, o := range out[:len(out)-1] {
		body = appendValue(body, o)
	}
	return body
}

// keeper is the opened HSM with the audit log before it.
func (s *session) keeper() (hsm.Keeper, error) {
	h, err := s.cfg.Vault.HSM()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h != s.last {
		s.last, s.watched = h, audit.WatchKeeper(h, s.cfg.Vault.Log(), s.peer.String())
	}
	return s.watched, nil
}

// sessionDesk is the vault as a peer meets it: its name stands in the log.
type sessionDesk struct{ s *session }

func (d sessionDesk) Status(context.Context) (Status, error) { return d.s.cfg.Vault.Status() }

func (d sessionDesk) Unlock(_ context.Context, passphrase []byte) error {
	defer clear(passphrase)
	return d.s.cfg.Vault.Unlock(d.s.peer.String(), passphrase)
}

func (d sessionDesk) EnterComponent(_ context.Context, custodian string, value []byte) ([]string, error) {
	defer clear(value)
	return d.s.cfg.Vault.EnterComponent(d.s.peer.String(), custodian, value)
}

func (d sessionDesk) Seal(context.Context) error { return d.s.cfg.Vault.Seal(d.s.peer.String()) }

func (d sessionDesk) Change(_ context.Context, c Change, custodians []string, passphrase []byte) ([]string, error) {
	defer clear(passphrase)
	return d.s.cfg.Vault.Change(d.s.peer.String(), c, custodians, passphrase)
}

func (d sessionDesk) VerifyAudit(_ context.Context, noted string) (audit.Report, error) {
	return d.s.cfg.Vault.VerifyAudit(noted)
}

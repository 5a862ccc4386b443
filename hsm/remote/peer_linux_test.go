package remote

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"acquirer/hsm"
)

// as connects as another user: the kernel notes who connects, by thread.
func as(t *testing.T, uid, gid int, socket string) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		for _, set := range []struct {
			call uintptr
			id   int
		}{{unix.SYS_SETRESGID, gid}, {unix.SYS_SETRESUID, uid}} {
			if _, _, no := unix.RawSyscall(set.call, ^uintptr(0), uintptr(set.id), ^uintptr(0)); no != 0 {
				err = no
				return
			}
		}
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
			return
		}
		f := os.NewFile(uintptr(fd), "socket")
		conn, err = net.FileConn(f)
		_ = f.Close()
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// answer sends a call by hand and returns what comes back.
func answer(t *testing.T, conn net.Conn, name string, args ...[]byte) (*reader, error) {
	t.Helper()
	frame := append(appendBytes(appendFrame(nil, 7), name), 0, 0)
	for _, a := range args {
		frame = append(frame, a...)
	}
	frame, err := endFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(frame); err != nil {
		return nil, err
	}
	head := make([]byte, frameHead)
	if _, err := io.ReadFull(conn, head); err != nil {
		return nil, err
	}
	body := make([]byte, int(head[2])<<8|int(head[3])-8)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, err
	}
	return &reader{b: body}, nil
}

// Somebody else's process is refused even where the permissions would let it
// in; one of the group may use keys and not keep them.
func TestPeers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can be another user, so the refusal of one is not proved")
	}
	const nobody, group = 65534, 54321
	for _, c := range []struct {
		name     string
		gid      int
		group    int
		served   bool
		keepable bool
	}{{"a stranger", nobody, 0, false, false}, {"a stranger where there is a group", nobody, group, false, false}, {"of the group", group, group, true, false}} {
		t.Run(c.name, func(t *testing.T) {
			v, socket := open(t), socketOf(t)
			var mu sync.Mutex
			var log bytes.Buffer
			serve(t, Config{Vault: v, Socket: socket, Group: c.group, Log: slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))})
			// As if somebody had opened the permissions.
			for path := filepath.Dir(filepath.Dir(socket)); ; path = filepath.Join(path, filepath.Base(filepath.Dir(socket))) {
				if err := os.Chmod(path, 0o755); err != nil {
					t.Fatal(err)
				}
				if path == filepath.Dir(socket) {
					break
				}
			}
			if err := os.Chmod(socket, 0o777); err != nil {
				t.Fatal(err)
			}
			conn := as(t, nobody, c.gid, socket)
			r, err := answer(t, conn, "Masters")
			if !c.served {
				if err == nil {
					t.Fatal("a stranger was served")
				}
				mu.Lock()
				defer mu.Unlock()
				if !strings.Contains(log.String(), "uid 65534") {
					t.Errorf("the log says %s", log.String())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var masters []hsm.KCV
			if err := results(r, &masters); err != nil || len(masters) != 1 {
				t.Errorf("%v, %v", masters, err)
			}
			for name := range keeping {
				var args [][]byte
				for _, in := range verbs[name].ins {
					args = append(args, zeroOf(in))
				}
				r, err := answer(t, conn, name, args...)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if err := results(r); err == nil || !strings.Contains(err.Error(), ErrForbidden.Error()) {
					t.Errorf("%s for one of the group: %v", name, err)
				}
			}
			if _, err := v.HSM(); err != nil {
				t.Errorf("it was sealed by one of the group: %v", err)
			}
		})
	}
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

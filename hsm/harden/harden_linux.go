package harden

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Process hardens the process it is called in.
func Process() Report {
	var r Report
	r.CoreDumps = noCoreDumps(&r)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		r.Dumpable = r.miss(fmt.Sprintf("the process may be attached to and its memory read by its own user (PR_SET_DUMPABLE: %v)", err))
	} else {
		r.Dumpable = "off: no ptrace and no /proc/PID/mem for other processes of this user"
	}
	r.Memory = lockMemory(&r)
	return r
}

func noCoreDumps(r *Report) string {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err == nil && limit.Cur == 0 && limit.Max == 0 {
		return "off"
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return r.miss(fmt.Sprintf("a crash may write a core file; set LimitCORE=0 (RLIMIT_CORE: %v)", err))
	}
	return "off"
}

// lockMemory locks all memory, now and later, where no limit can turn a later
// allocation into a crash: mlockall counts Go's whole address space. Pages are
// locked when they are first touched.
func lockMemory(r *Report) string {
	const how = "give the process LimitMEMLOCK=infinity or CAP_IPC_LOCK"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return r.miss(fmt.Sprintf("memory may be swapped out (RLIMIT_MEMLOCK: %v); %s", err, how))
	}
	if limit.Cur != unix.RLIM_INFINITY && !mayLock() {
		return r.miss(fmt.Sprintf("memory may be swapped out: %d KiB may be locked, which is not enough for all of it; %s. Components and master keys on their way in are in locked pages of their own", limit.Cur/1024, how))
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return r.miss(fmt.Sprintf("memory may be swapped out (mlockall: %v); %s", err, how))
	}
	return "locked: all of it, now and later"
}

// mayLock reports whether CAP_IPC_LOCK (14) lifts the limit.
func mayLock() bool {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if digits, ok := bytes.CutPrefix(line, []byte("CapEff:")); ok {
			set, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 64)
			return err == nil && set>>unix.CAP_IPC_LOCK&1 == 1
		}
	}
	return false
}

// Secret is memory for a key on its way in: outside Go's heap, which the
// collector copies, locked where the limit allows, in no dump, and cleared by
// Free.
type Secret struct{ b []byte }

// NewSecret takes a page for n bytes, up to a page.
func NewSecret(n int) (*Secret, error) {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil || n > len(b) {
		return nil, fmt.Errorf("harden: a page for a key: %w", err)
	}
	// A limit of zero refuses the lock; Process has said so.
	_ = unix.Mlock(b)
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	return &Secret{b[:n:len(b)]}, nil
}

// Bytes is the memory itself.
func (s *Secret) Bytes() []byte { return s.b }

// Free clears it and gives it back. It may be called twice.
func (s *Secret) Free() {
	if s == nil || s.b == nil {
		return
	}
	page := s.b[:cap(s.b)]
	clear(page)
	s.b = nil
	_ = unix.Munmap(page)
}

package harden

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// found is what the kernel says against a process that Process hardened.
func found() (out []string) {
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
		out = append(out, fmt.Sprintf("dumpable is %d, %v", d, err))
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		out = append(out, fmt.Sprintf("RLIMIT_CORE is %+v, %v", limit, err))
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return append(out, err.Error())
	}
	locked := false
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmLck:"); ok && strings.TrimSpace(rest) != "0 kB" {
			locked = true
		}
	}
	err = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit)
	if may := mayLock() || limit.Cur == unix.RLIM_INFINITY; may != locked || err != nil {
		out = append(out, fmt.Sprintf("it may lock its memory: %t, and did: %t, %v", may, locked, err))
	}
	return out
}

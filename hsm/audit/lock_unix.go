//go:build unix

package audit

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock waits until no other process appends.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }

func unlock(f *os.File) { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) } // closing the file lets go too

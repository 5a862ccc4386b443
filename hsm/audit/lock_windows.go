package audit

import (
	"os"

	"golang.org/x/sys/windows"
)

// behind is a byte far behind the content of any log.
var behind = windows.Overlapped{OffsetHigh: 1 << 20}

// lock waits until no other process appends.
func lock(f *os.File) error {
	o := behind
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &o)
}

func unlock(f *os.File) {
	o := behind
	_ = windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &o) // closing the file lets go too
}

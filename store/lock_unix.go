//go:build unix

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes f for this open file alone; the system lets go when the
// process ends, however it ends.
func lockFile(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

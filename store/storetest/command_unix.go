//go:build unix && !linux

package storetest

import (
	"os/exec"
	"syscall"
)

func command(name string, as *account, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as.uid, Gid: as.gid}}
	}
	return cmd
}

package storetest

import "os/exec"

func command(name string, _ *account, args ...string) *exec.Cmd { return exec.Command(name, args...) }

package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// whoRuns is the user of this process, for the logs.
func whoRuns() string { return userCalled(os.Getuid()) }

// userCalled names a user as the machine's directory has it. user.Current would
// take the name from the environment where the directory has none, and one
// person would be two.
func userCalled(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "uid " + u.Uid + " (" + u.Username + ")"
	}
	return "uid " + strconv.Itoa(uid)
}

// operatorHeader carries who runs a command, as the command says it.
const operatorHeader = "Acquirer-Operator"

// whoAsks is who runs the command that asks this process. The kernel says it
// where it can: a command believes that it runs as root when somebody has put it
// into a user namespace. Elsewhere the command is believed.
func whoAsks(r *http.Request) string {
	if uid, known := peerUser(r); known {
		return userCalled(uid)
	}
	return cmp.Or(r.Header.Get(operatorHeader), "somebody who may read the database's files")
}

// peerUser finds the user of the other end of a loopback connection in the
// kernel's table of sockets, where both ends stand.
func peerUser(r *http.Request) (uid int, known bool) {
	theirs, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return 0, false
	}
	ours, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ String() string })
	if !ok {
		return 0, false
	}
	own, err := netip.ParseAddrPort(ours.String())
	if err != nil {
		return 0, false
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for row := range bytes.Lines(text) {
			// sl local_address rem_address st queues timer retrnsmt uid ...
			f := strings.Fields(string(row))
			if len(f) < 8 || kernelAddr(f[1]) != theirs || kernelAddr(f[2]) != own {
				continue
			}
			if uid, err := strconv.Atoi(f[7]); err == nil {
				return uid, true
			}
		}
	}
	return 0, false
}

// kernelAddr reads an address as the table has it: words of four bytes in the
// machine's order, in hexadecimal, and the port.
func kernelAddr(text string) netip.AddrPort {
	host, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}
	}
	for w := b; len(w) > 0; w = w[4:] {
		binary.NativeEndian.PutUint32(w, binary.BigEndian.Uint32(w))
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n))
}

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
)

// Who asks a running process is said by the kernel, not by the command.
func TestWhoAsks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel's table of sockets is Linux's")
	}
	for _, on := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", on)
		if err != nil {
			t.Logf("%s: %v", on, err) // a machine without IPv6
			continue
		}
		web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, whoAsks(r)) }))
		if err := web.Listener.Close(); err != nil {
			t.Fatal(err)
		}
		web.Listener = l
		web.Start()
		defer web.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(operatorHeader, "uid 4711 (wang)")
		resp, err := web.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(resp.Body)
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil || string(said) != whoRuns() || !strings.HasPrefix(whoRuns(), fmt.Sprintf("uid %d", os.Getuid())) {
			t.Errorf("on %s: %q asks, %v; want %q", on, said, err, whoRuns())
		}
	}
}

// A user without an entry in the machine's directory has no other name than the
// number, whatever the environment says.
func TestNameOfAUser(t *testing.T) {
	t.Setenv("USER", "wang")
	if got := userCalled(987654321); got != "uid 987654321" {
		t.Errorf("the user is called %q", got)
	}
	for text, want := range map[string]string{
		"0100007F:2567":                         "127.0.0.1:9575",
		"00000000000000000000000001000000:1F90": "[::1]:8080",
		"0000000000000000FFFF00000100007F:1F90": "127.0.0.1:8080", // IPv4 on a socket of both
	} {
		if got := kernelAddr(text); runtime.GOARCH == "amd64" && got != netip.MustParseAddrPort(want) {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	if got := kernelAddr("sl"); got.IsValid() {
		t.Errorf("a heading is the address %s", got)
	}
}

package console

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Listen opens the console's address. It refuses one that other machines could
// reach: the console asks nobody who they are.
func Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("console: %q is not an address to listen on; write it like 127.0.0.1:8080: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil && host != "localhost" || ip != nil && !ip.IsLoopback() {
		return nil, fmt.Errorf("console: will not listen on %q: the console shows the whole street and asks nobody who they are, "+
			"so it stays on this machine; listen on 127.0.0.1:%s and reach it through ssh -L %s:127.0.0.1:%s", addr, port, port, port)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("console: cannot listen on %s: %w", addr, err)
	}
	// "localhost" is what the resolver says it is.
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return nil, fmt.Errorf("console: %q led to %v, which is not a loopback address; listen on 127.0.0.1:%s (%w)", addr, l.Addr(), port, closed(l))
	}
	return l, nil
}

// closed closes l and says so, or says why it could not.
func closed(l net.Listener) error {
	if err := l.Close(); err != nil {
		return fmt.Errorf("closing it again: %w", err)
	}
	return net.ErrClosed
}

// policy is what a page may load: itself, nothing else, nothing inline
// (OWASP ASVS 5.0, 3.4.3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// guard sets the headers of every answer and turns away what does not come
// from a page of this console or from its operator's address bar.
func guard(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
		h.Set("Cache-Control", "no-store")
		if !local(r.Host) {
			// A name of somebody else that resolves to 127.0.0.1 would let their
			// page read this one (DNS rebinding).
			http.Error(w, "this console answers to localhost, 127.0.0.1 and [::1] only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local reports whether a Host header names this machine, at any port: an
// operator may come through a tunnel.
func local(host string) bool {
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		name = h
	} else if strings.HasPrefix(host, "[") {
		name = strings.TrimSuffix(host[1:], "]")
	}
	return strings.EqualFold(name, "localhost") || name == "127.0.0.1" || name == "::1"
}

// ownPage reports whether a request was made by a page of this console, or by
// a client that is no browser. A stream holds a place, so other sites' pages
// may not open one.
func ownPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	return false
}

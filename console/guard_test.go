package console

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Choosing a language never leads off this console, whatever the path.
func FuzzChoosingALanguageStaysHere(f *testing.F) {
	for _, p := range []string{"/", "//evil.example/", `/\evil.example`, `/\/evil`, "/settlement", "///", "/%5c%5cevil", "/\t/evil", "/a//b", "/:@evil", "/?x"} {
		f.Add(p, "date=2026-02-13")
	}
	h := chooseLanguage(http.NotFoundHandler())
	f.Fuzz(func(t *testing.T, path, query string) {
		if strings.ContainsAny(path+query, "\r\n") {
			return // no request line has them
		}
		r := &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: "lang=en&" + query}, Header: http.Header{}, Host: "localhost"}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusSeeOther {
			if path == "/live" {
				return
			}
			t.Fatalf("%q: %d", path, w.Code)
		}
		to := w.Header().Get("Location")
		u, err := url.Parse(to)
		if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) {
			t.Fatalf("%q leads to %q", path, to)
		}
		// A browser strips tabs from addresses before it reads them (WHATWG URL, 4.4).
		if bare := strings.ReplaceAll(to, "\t", ""); strings.HasPrefix(bare, "//") || strings.HasPrefix(bare, `/\`) {
			t.Fatalf("%q leads to %q, which a browser reads as another host", path, to)
		}
	})
}

// Only this machine's own names are answered, whatever the Host header.
func FuzzLocal(f *testing.F) {
	for _, h := range []string{"localhost", "localhost:1", "127.0.0.1:8080", "[::1]:80", "[::1]", "::1", "", ":", "localhost.", "127.0.0.1.nip.io", "[localhost]", "localhost:evil", "[::1]x:80"} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !local(host) {
			return
		}
		u, err := url.Parse("http://" + host + "/")
		if err != nil {
			return // no browser can be led there
		}
		switch name := strings.ToLower(u.Hostname()); name {
		case "localhost", "127.0.0.1", "::1", "":
		default:
			t.Fatalf("%q is taken for this machine and leads to %q", host, name)
		}
	})
}

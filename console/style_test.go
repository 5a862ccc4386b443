package console

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Text is told from its paper by day and by night: a contrast of 4.5 to 1
// (WCAG 2.2, 1.4.3).
func TestContrast(t *testing.T) {
	css, err := staticFiles.ReadFile("static/console.css")
	if err != nil {
		t.Fatal(err)
	}
	day, night, ok := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("the style sheet has no night")
	}
	night, _, _ = strings.Cut(night, "* {")
	colours := func(css string) map[string]float64 {
		out := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
			out[m[1]] = luminance(t, m[2])
		}
		return out
	}
	for name, c := range map[string]map[string]float64{"day": colours(day), "night": colours(night)} {
		for _, pair := range [][2]string{{"ink", "paper"}, {"ink", "raise"}, {"ink", "line"}, {"soft", "paper"}, {"soft", "raise"}, {"good", "paper"}, {"good", "raise"},
			{"dim", "paper"}, {"dim", "raise"}, {"act", "paper"}, {"act", "raise"}, {"act", "act-paper"}, {"ink", "act-paper"}, {"ink", "new"}, {"soft", "new"}} {
			a, oka := c[pair[0]]
			b, okb := c[pair[1]]
			if !oka || !okb {
				t.Fatalf("%s: colour %v is not declared as six hex digits", name, pair)
			}
			if ratio := (max(a, b) + .05) / (min(a, b) + .05); ratio < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want 4.5", name, pair[0], pair[1], ratio)
			}
		}
	}
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	v, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	lin := func(b uint64) float64 {
		c := float64(b&255) / 255
		if c <= .04045 {
			return c / 12.92
		}
		return math.Pow((c+.055)/1.055, 2.4)
	}
	return .2126*lin(v>>16) + .7152*lin(v>>8) + .0722*lin(v)
}

// What the policy forbids is not in the pages: no inline script or style, no
// handler, nothing from elsewhere.
func TestPagesObeyThePolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:|https?://|//[a-z]+\.|@import|url\(|<script(?:[^>]*)>[^<]`)
	for _, dir := range []string{"pages", "static"} {
		fsys := pageFiles
		if dir == "static" {
			fsys = staticFiles
		}
		files, err := fsys.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := fsys.ReadFile(dir + "/" + f.Name())
			if err != nil {
				t.Fatal(err)
			}
			clean := strings.ReplaceAll(string(text), `xmlns="http://www.w3.org/2000/svg"`, "")
			if m := forbidden.FindString(clean); m != "" {
				t.Errorf("%s: %q", f.Name(), m)
			}
		}
	}
}

func containsAny(s string, subs ...string) bool {
	for _, sub := range subs {
		if strings.Contains(s, sub) {
			return true
		}
	}
	return false
}

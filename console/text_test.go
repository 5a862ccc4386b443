package console

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// Both languages say everything, with the same things put in.
func TestEveryTextInBothLanguages(t *testing.T) {
	verbs := regexp.MustCompile(`%[a-z]`)
	han := regexp.MustCompile(`\p{Han}`)
	for key, w := range texts {
		if w.ZH == "" || w.EN == "" {
			t.Errorf("%s: %q / %q: a language has nothing to say", key, w.ZH, w.EN)
		}
		if zh, en := verbs.FindAllString(w.ZH, -1), verbs.FindAllString(w.EN, -1); strings.Join(zh, "") != strings.Join(en, "") {
			t.Errorf("%s: puts in %v in Chinese and %v in English", key, zh, en)
		}
		if han.MatchString(w.EN) {
			t.Errorf("%s: the English is %q", key, w.EN)
		}
		if one, ok := strings.CutSuffix(key, ".1"); ok {
			if _, ok := texts[one]; !ok {
				t.Errorf("%s is the form for one of a text that is not there", key)
			}
		}
	}
}

// Every key that is used is in the table, and every key of the table is used.
func TestTextsAreUsed(t *testing.T) {
	var all strings.Builder
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("pages/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, pages...) {
		if strings.HasSuffix(f, "_test.go") || f == "text.go" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	source := all.String() + `l.say("age.d" l.say("age.h"`
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:\b(?:t|n) |(?:say|count|named)\()"([a-z.]+)"`).FindAllStringSubmatch(source, -1) {
		used[m[1]] = true
		if _, ok := texts[m[1]]; !ok {
			t.Errorf("%q is said and not in the table", m[1])
		}
	}
	groups := map[string]bool{"type": true} // grows with the journal's types
	for _, m := range regexp.MustCompile(`known "([a-z]+)"`).FindAllStringSubmatch(source, -1) {
		groups[m[1]] = true
	}
	for key := range texts {
		group, _, _ := strings.Cut(key, ".")
		plain := strings.TrimSuffix(key, ".1")
		if !used[plain] && !groups[group] && !strings.Contains(source, `"`+plain+`"`) {
			t.Errorf("%q is in the table and never said", key)
		}
	}
	// Words that come from the house's own states.
	for _, o := range []Outcome{Undecided, Approved, Declined, Reversing, Manual, Reversed} {
		mustHave(t, "outcome."+o.String())
	}
	for _, s := range []DayState{DayOpen, DayCut, DayCleared, DayPaid} {
		mustHave(t, "day."+s.String())
	}
	for _, s := range []PayoutState{PayoutNone, PayoutDue, PayoutSent, PayoutPaid, PayoutUnknown, PayoutReturned, PayoutFailed} {
		mustHave(t, "payout."+s.String())
	}
	for _, l := range []Line{{}, {Connected: true}, {Connected: true, SignedOn: true}} {
		mustHave(t, "line."+l.Mood())
	}
}

func mustHave(t *testing.T, key string) {
	t.Helper()
	if _, ok := texts[key]; !ok {
		t.Errorf("%q is not in the table", key)
	}
}

func TestLanguageOfARequest(t *testing.T) {
	for _, c := range []struct {
		cookie, accept string
		want           Lang
	}{
		{"", "", Chinese},
		{"", "zh-CN,zh;q=0.9,en;q=0.8", Chinese},
		{"", "en-GB,en;q=0.9", English},
		{"", "en;q=0.3, zh-TW;q=0.9", Chinese},
		{"", "de-DE,de;q=0.9,en;q=0.5", English},
		{"", "fr", Chinese},
		{"", "\x00;;;q=9", Chinese},
		{"en", "zh-CN", English},
		{"zh", "en", Chinese},
		{"xx", "en", English},
	} {
		r := &http.Request{Header: http.Header{}}
		if c.accept != "" {
			r.Header.Set("Accept-Language", c.accept)
		}
		if c.cookie != "" {
			r.AddCookie(&http.Cookie{Name: langCookie, Value: c.cookie})
		}
		if got := speaks(r); got != c.want {
			t.Errorf("cookie %q, Accept-Language %q: %s, want %s", c.cookie, c.accept, got.Code(), c.want.Code())
		}
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{yuan(0), "¥0.00"},
		{yuan(-201), "−¥2.01"},
		{yuan(123_456_789), "¥1,234,567.89"},
		{yuan(money.Yuan(1000)), "¥1,000.00"},
		{number(-1234), "−1,234"},
		{number(999), "999"},
		{short(0), "–"},
		{short(420 * time.Microsecond), "0.42 ms"},
		{short(12340 * time.Microsecond), "12.3 ms"},
		{short(256 * time.Millisecond), "256 ms"},
		{short(25 * time.Second), "25.00 s"},
		{short(3 * time.Minute), "180 s"},
		{since(900 * time.Nanosecond), "0"},
		{since(1300 * time.Microsecond), "+1.30 ms"},
		{English.age(-time.Second), "0s"},
		{English.age(59 * time.Second), "59s"},
		{English.age(61 * time.Second), "1m 1s"},
		{Chinese.age(26*time.Hour + 5*time.Minute), "1天2时"},
		{English.about(10 * time.Second), "1 minute"},
		{English.about(119 * time.Minute), "119 minutes"},
		{English.about(5 * time.Hour), "5 hours"},
		{Chinese.about(49 * time.Hour), "2 天"},
		{clock(calendar.NewDate(2026, 2, 13).Time().Add(9*time.Hour + 5*time.Second)), "09:00:05"},
		{English.known("type", "sale"), "sale"},
		{Chinese.known("type", "something-new"), "something-new"},
		{Chinese.count("concern.manual", 1), "1 笔冲正或通知需人工处理"},
		{English.count("concern.manual", 2), "2 reversals or advices are left to you"},
		{Words{ZH: "只有中文"}.in(English), "只有中文"},
		{Words{EN: "English only"}.in(Chinese), "English only"},
		{key19(7), "0000000000000000007"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	for in, want := range map[string][2]string{
		"622848******0002":    {"622848******", "0002"},
		"6228480402564890018": {"622848*********", "0018"}, // came clear: masked here
		"":                    {"", ""},
		"123":                 {"", "123"},
	} {
		if h, tail := pan(in); h != want[0] || tail != want[1] {
			t.Errorf("pan(%d characters) = %q, %q, want %q", len(in), h, tail, want)
		}
	}
}

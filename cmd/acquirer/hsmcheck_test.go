package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestHSMCheck(t *testing.T) {
	const file = "../../testdata/vectors/crypto.json"
	out, text, code := runHSM(t, "", "check", file)
	if code != 0 || !strings.Contains(out, "190 passed, 0 failed, 0 unknown\n") || !strings.Contains(out, "passed   mac.cup_ecb") {
		t.Fatalf("%d %s\n%s", code, text, out)
	}
	out, _, code = runHSM(t, "", "check", file, "--json")
	var report vectorReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
		t.Fatalf("%d %v", code, err)
	}
	if report.Failed != 0 || len(report.Failures) != 0 || report.Passed != 190 || report.Unknown != 0 || report.Total != 190 || len(report.PassedOps) != 40 {
		t.Errorf("%+v", report)
	}

	wrong := `[{"op":"kcv.zero","source":"a book","inputs":{"alg":"TDES","key":"0123456789ABCDEFFEDCBA9876543210"},"expected":{"kcv":"08D7B5"}},
	 {"op":"kcv.zero","id":"kcv-7","inputs":{"alg":"TDES","key":"01"},"expected":{"kcv":"08D7B4"}},
	 {"op":"kcv.zero","inputs":{"alg":"TDES","key":"0123456789ABCDEFFEDCBA9876543210"},"expected":{"kcv":"08d7b4"}},
	 {"op":"of.tomorrow","inputs":{},"expected":{}}]`
	out, text, code = runHSM(t, wrong, "check", "-")
	if code != 1 || text != "2 of 4 vectors failed" {
		t.Errorf("%d %s", code, text)
	}
	for _, want := range []string{"expected 08D7B5, got 08D7B4", "vector 0, a book\n", "vector 1, kcv-7\n", "1 bytes is not a key", "unknown  of.tomorrow", "1 passed, 2 failed, 1 unknown"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	out, _, code = runHSM(t, wrong, "check", "-", "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || report.Failed != 2 || report.Unknown != 1 ||
		report.Failures[0].Expected != "08D7B5" || report.Failures[0].Got != "08D7B4" || report.Failures[1].Error == "" {
		t.Errorf("%d %v\n%s", code, err, out)
	}

	unknown := `[{"op":"of.tomorrow","inputs":{},"expected":{}}]`
	if out, text, code := runHSM(t, unknown, "check", "-"); code != 0 || !strings.Contains(out, "0 passed, 0 failed, 1 unknown") {
		t.Errorf("an unknown operation alone: %d %s\n%s", code, text, out)
	}
	refused := `[{"op":"kcv.zero","inputs":{"key":"01"},"expected":{"error":"length"}},{"op":"kcv.zero","inputs":{"key":"0123456789ABCDEF"},"expected":{"error":"length"}}]`
	if out, text, code := runHSM(t, refused, "check", "-"); code != 1 || !strings.Contains(out, "error: expected length, got no error") || text != "1 of 2 vectors failed" {
		t.Errorf("refusals: %d %s\n%s", code, text, out)
	}
	for _, bad := range []string{"", "not json", "{}"} {
		if _, _, code := runHSM(t, bad, "check", "-"); code != 2 {
			t.Errorf("%q: exit %d", bad, code)
		}
	}
	if _, text, code := runHSM(t, "", "check", "no/such/file.json"); code != 2 || !strings.Contains(text, "no/such/file.json") {
		t.Errorf("no file: %d %s", code, text)
	}
	if _, _, code := runHSM(t, "", "check"); code != 2 {
		t.Errorf("no argument: %d", code)
	}
}

package audit

import "testing"

// One person stays one, however the name is written.
func TestSamePerson(t *testing.T) {
	for _, row := range []struct {
		a, b string
		same bool
	}{
		{"uid 1000 (alice)", "uid 1000 (alice)", true},
		{"uid 1000 (alice)", "uid 1001 (wang)", false},
		{"uid 1000 (alice)", "uid 1000 (wang)", false}, // of two machines
		{"uid 1000 (alice)", "uid 2000 (alice)", true}, // of two machines
		{"uid 1000 (alice)", "uid 1000", true},         // the directory of names was down
		{"uid 1000", "uid 1000", true},
		{"uid 1000", "uid 1001", false},
		{"uid 1000 (alice)", "uid 1001", false},
		{"wang", "Wang", true},
		{"wang", " wang ", true},
		{"li wang", "Li  Wang", true},
		{"wang", "uid 1000 (Wang)", true},
		{"wang", "li", false},
		{"wang", "uid 1000", false},
		{"", "wang", true}, // who has no name may be anybody
	} {
		if SamePerson(row.a, row.b) != row.same || SamePerson(row.b, row.a) != row.same {
			t.Errorf("%q and %q: want the same person %v", row.a, row.b, row.same)
		}
	}
}

package audit

import (
	"errors"
	"testing"
	"time"
)

func TestTwoPeople(t *testing.T) {
	const ann, bob = "uid 7 (ann)", "uid 8 (bob)"
	began := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	var a Ask
	for i, c := range []struct {
		what, by string
		after    time.Duration
		second   bool
		err      error
		waits    Ask
	}{
		{"pay 1.00", ann, 0, false, nil, Ask{"pay 1.00", ann, began}},
		{"pay 1.00", " ANN", time.Hour, false, ErrTwoPeople, Ask{"pay 1.00", ann, began}},
		{"pay 2.00", ann, time.Hour, false, nil, Ask{"pay 2.00", ann, began.Add(time.Hour)}},         // something else begins anew
		{"pay 1.00", bob, 2 * time.Hour, false, nil, Ask{"pay 1.00", bob, began.Add(2 * time.Hour)}}, // for another, too
		{"pay 1.00", ann, 2*time.Hour + Lapses - 1, true, nil, Ask{"pay 1.00", bob, began.Add(2 * time.Hour)}},
		{"pay 1.00", ann, 2*time.Hour + Lapses, false, nil, Ask{"pay 1.00", ann, began.Add(2*time.Hour + Lapses)}}, // too late: it begins anew
	} {
		second, err := a.Second(c.what, c.by, began.Add(c.after))
		if second != c.second || !errors.Is(err, c.err) || a != c.waits {
			t.Errorf("%d: %v, %v, %+v; want %v, %v, %+v", i, second, err, a, c.second, c.err, c.waits)
		}
	}
	old := Ask{"pay 1.00", ann, time.Time{}}
	if second, err := old.Second("pay 1.00", bob, began); !second || err != nil || (Ask{}).Waits(began) {
		t.Errorf("an ask without a time: %v, %v", second, err)
	}
}

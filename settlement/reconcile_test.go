package settlement

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"acquirer/money"
)

func TestReconcile(t *testing.T) {
	ours := []Record{{"3", "north", 100, "t3"}, {"1", "north", 100, "t1"}, {"2", "north", 200, "t2"}, {"1", "south", 100, "t4"}, {"5", "south", 50, "t5"}, {"5", "south", 50, "t6"}}
	theirs := []Record{{"1", "north", 100, "n1"}, {"2", "north", 201, "n2"}, {"4", "north", 400, "n4"}, {"1", "south", 100, "s1"}, {"5", "south", 50, "s5"}}
	r, err := Reconcile(friday, Sorted(ours), Sorted(theirs))
	if err != nil {
		t.Fatal(err)
	}
	want := []Break{
		{Amount, "2", "north", 200, 201, "t2"},
		{Short, "3", "north", 100, 0, "t3"},
		{Long, "4", "north", 0, 400, "n4"},
		{Duplicate, "5", "south", 50, 0, "t6"},
	}
	if r.Ours != 6 || r.Theirs != 5 || r.Matched != 3 || r.Count != len(want) || fmt.Sprint(r.Breaks) != fmt.Sprint(want) {
		t.Errorf("%+v\nwant %+v", r, want)
	}
	if r, err := Reconcile(friday, Sorted(nil), Sorted(nil)); err != nil || r.Count != 0 {
		t.Errorf("nothing against nothing: %+v, %v", r, err)
	}
	unsorted := func(yield func(Record, error) bool) {
		_ = yield(Record{RRN: "2"}, nil) && yield(Record{RRN: "1"}, nil)
	}
	if _, err := Reconcile(friday, unsorted, Sorted(nil)); err == nil || !strings.Contains(err.Error(), "sort") {
		t.Errorf("out of order: %v", err)
	}
	broken := errors.New("disk")
	failing := func(yield func(Record, error) bool) { yield(Record{}, broken) }
	if _, err := Reconcile(friday, Sorted(ours), failing); !errors.Is(err, broken) {
		t.Errorf("a side that fails: %v", err)
	}
}

// Random differences between two sides are found, each as what it is.
func TestReconcileFindsWhatWasDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ours, theirs []Record
		want := map[BreakKind]int{}
		matched := 0
		for i := range rapid.IntRange(0, 60).Draw(t, "transactions") {
			r := Record{RRN: fmt.Sprintf("%012d", i), Issuer: rapid.SampledFrom([]string{"north", "south", "east"}).Draw(t, "issuer"),
				Amount: money.Amount(rapid.IntRange(1, 1000).Draw(t, "amount")), Ref: fmt.Sprint(i)}
			switch kind := rapid.SampledFrom([]BreakKind{"", "", "", Long, Short, Amount, Duplicate}).Draw(t, "fault"); kind {
			case Long:
				theirs = append(theirs, r)
				want[Long]++
			case Short:
				ours = append(ours, r)
				want[Short]++
			case Amount:
				ours = append(ours, r)
				r.Amount++
				theirs = append(theirs, r)
				want[Amount]++
			case Duplicate:
				ours, theirs = append(ours, r), append(theirs, r, r)
				want[Duplicate]++
				matched++
			default:
				ours, theirs = append(ours, r), append(theirs, r)
				matched++
			}
		}
		sides := [2]iter.Seq2[Record, error]{Sorted(rapid.Permutation(ours).Draw(t, "order")), Sorted(rapid.Permutation(theirs).Draw(t, "their order"))}
		r, err := Reconcile(friday, sides[0], sides[1])
		if err != nil {
			t.Fatal(err)
		}
		got := map[BreakKind]int{}
		for _, b := range r.Breaks {
			got[b.Kind]++
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || r.Matched != matched {
			t.Fatalf("found %v and %d matched, want %v and %d", got, r.Matched, want, matched)
		}
	})
}

//go:build fault

package fault

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Setting is the environment variable that says where the process dies:
// points with the count of the hit that kills, as
//
//	journal.open.after@17,store.commit.before@40
//
// Whichever comes first kills. The point any counts every hit of every point.
const Setting = "ACQUIRER_FAULT"

// Any is the point that every hit counts for.
const Any = "any"

// Fired begins the line that a dying process writes to its standard error:
// the point, then every point it has hit with its count, as name=count.
const Fired = "fault: killed at "

var (
	mu   sync.Mutex
	hits = map[string]int{}
	// deadly is the count that kills, by point.
	deadly = read(os.Getenv(Setting))
)

func read(text string) map[string]int {
	at := map[string]int{}
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		point, count, _ := strings.Cut(part, "@")
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			panic(fmt.Sprintf("%s: %q: want point@count, like journal.open.after@17", Setting, part))
		}
		at[point] = n
	}
	return at
}

// Hit counts that the process came by a point, and kills it where it was told
// to: with SIGKILL, as a power cut or the kernel would, so that nothing is
// flushed, closed or told on the way.
func Hit(point string) {
	step, _ := strings.CutSuffix(point, ".before")
	step, _ = strings.CutSuffix(step, ".after")
	if _, known := Points[step]; !known || step == point {
		panic("fault: no point is called " + point)
	}
	mu.Lock()
	defer mu.Unlock() // held while dying: nobody gets past another point
	hits[point]++
	hits[Any]++
	if len(deadly) == 0 || hits[point] != deadly[point] && hits[Any] != deadly[Any] {
		return
	}
	line := Fired + point
	for _, name := range slices.Sorted(maps.Keys(hits)) {
		line += fmt.Sprintf(" %s=%d", name, hits[name])
	}
	os.Stderr.WriteString(line + "\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {} // the signal is on its way
}

// Bound is n; in a binary with the tag fault it is small, so that a campaign
// comes up against it often.
func Bound[T any](n, small T) T { return small }

package switching_test

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"acquirer/store/storetest"
)

// TestMain ends the PostgreSQL that tests started and looks for goroutines
// that any of them left behind. The houses of this package wait more than they
// work, so more of them stand side by side than there are cores.
func TestMain(m *testing.M) {
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := p.Value.Set("8"); err != nil {
			panic(err)
		}
	}
	os.Exit(storetest.Main(m))
}

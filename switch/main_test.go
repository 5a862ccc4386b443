package switching_test

import (
	"os"
	"testing"

	"acquirer/store/storetest"
)

// TestMain ends the PostgreSQL that tests started and looks for goroutines
// that any of them left behind.
func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

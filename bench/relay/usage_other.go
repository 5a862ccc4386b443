//go:build !unix

package relay

import "time"

// Without getrusage nothing is measured; reports say 0.
func cpuTime() time.Duration { return 0 }
func maxRSS() int64          { return 0 }

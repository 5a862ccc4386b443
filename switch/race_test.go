//go:build race

package switching_test

// slower is how many times longer than without the race detector things take,
// and may take.
const slower = 4

//go:build race

package hsm

// raceDetector: sync.Pool then drops items at random, and allocations say
// nothing.
const raceDetector = true

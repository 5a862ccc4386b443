//go:build !race

package hsm

const raceDetector = false

//go:build !race

package switching_test

const slower = 1

// Package bench measures the message path as separate processes on loopback:
// a raw framed echo, bare relays, and the whole switch on both stores, all in
// one run, so that their ratios mean something on a machine that is busy with
// other things. `make bench` prints the table; docs/performance.md keeps one.
package bench

package hsm

import "context"

// PINGuard counts PIN failures and locks out, as Software does (PINLimits),
// for a driver of a device that does not know terminals. The zero PINGuard
// counts and never locks.
type PINGuard struct {
	counts Software // its counters; it has no master key and is no HSM
}

// Locked reports whether a PIN under the key, from the terminal that ctx
// names, is not to be looked at.
func (g *PINGuard) Locked(ctx context.Context, key Key) bool {
	return g.counts.pins.locked(pinSource{key, terminalOf(ctx)})
}

// Failed counts a failure.
func (g *PINGuard) Failed(ctx context.Context, key Key) {
	g.counts.pins.failed(pinSource{key, terminalOf(ctx)})
}

// LimitPIN sets when PIN failures lock a key or a terminal.
func (g *PINGuard) LimitPIN(limits PINLimits) error { return g.counts.LimitPIN(limits) }

// PINFailures returns the counters and what is locked now.
func (g *PINGuard) PINFailures() PINFailures { return g.counts.PINFailures() }

// UnlockKey takes the lock and the failures from a key; false when it was not
// locked.
func (g *PINGuard) UnlockKey(key Key) bool { return g.counts.UnlockKey(key) }

// UnlockTerminal takes the lock and the failures from a terminal; false when
// it was not locked.
func (g *PINGuard) UnlockTerminal(terminal string) bool { return g.counts.UnlockTerminal(terminal) }

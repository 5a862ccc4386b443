//go:build !fault

package fault

// Hit marks a place where a crash must lose nothing: one side of a durable
// step, named like journal.open.before and journal.open.after. It does nothing
// unless the binary is built with the tag fault.
func Hit(string) {}

// Bound is n; in a binary with the tag fault it is small, so that a campaign
// comes up against it often.
func Bound[T any](n, small T) T { return n }

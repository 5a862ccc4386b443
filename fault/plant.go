//go:build !plant

package fault

// Planted is false, and the condition it stands in is compiled to nothing,
// unless the binary is built with the tag plant: then it reports that the bug
// of this name was asked for. Each of the bugs is one that a switch like this
// has had somewhere; make planted shows that a test finds every one of them.
func Planted(string) bool { return false }

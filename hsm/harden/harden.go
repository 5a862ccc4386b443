// Package harden keeps the memory of a process that holds keys from leaving
// it: no core dumps, nobody may attach or read its memory, nothing is swapped
// out. What the system does not allow is said, not hidden.
package harden

// Report is what was done for this process.
type Report struct {
	Memory    string   `json:"memory"`     // what of it is locked
	CoreDumps string   `json:"core_dumps"` // off, or why not
	Dumpable  string   `json:"dumpable"`   // off, or why not
	Missing   []string `json:"missing"`    // what could not be had, and what to do; empty when all could
}

func (r *Report) miss(what string) string {
	r.Missing = append(r.Missing, what)
	return "not: " + what
}

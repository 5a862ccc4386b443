//go:build !linux

package harden

import "runtime"

// Process hardens the process it is called in. Only Linux is known here.
func Process() Report {
	var r Report
	where := " on " + runtime.GOOS + "; use Linux"
	r.CoreDumps = r.miss("core dumps are not turned off" + where)
	r.Dumpable = r.miss("other processes of this user may read its memory" + where)
	r.Memory = r.miss("memory may be swapped out" + where)
	return r
}

// Secret is memory for a key on its way in, cleared by Free.
type Secret struct{ b []byte }

// NewSecret takes n bytes of the heap.
func NewSecret(n int) (*Secret, error) { return &Secret{make([]byte, n)}, nil }

// Bytes is the memory itself.
func (s *Secret) Bytes() []byte { return s.b }

// Free clears it. It may be called twice.
func (s *Secret) Free() {
	if s != nil {
		clear(s.b)
		s.b = nil
	}
}

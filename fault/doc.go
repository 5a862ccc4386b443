// Package fault has the places where the house may be made to die or to lie,
// for the tests that ask what is left of it. Without its build tags it is
// nothing: the calls are inlined to no instruction and no name is in the
// binary.
package fault

// Package acquirer is the root of the module: it holds no code, only the test
// that checks the style of the rest (tidy_test.go). Start reading at
// cmd/acquirer, or at docs/life-of-a-purchase.md.
package acquirer

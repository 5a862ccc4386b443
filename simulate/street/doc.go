// Package street is a simulated street in fake time: the real switch, journal,
// limits, ledger and settlement between simulated terminals, issuers and
// wallets, on a network in memory that loses, delays, doubles and reorders what
// it carries. It is tests only; docs/reliability.md says what it proves and what
// it does not.
//
//	make simulate SEED=7      one street
//	make simulate SEEDS=500   many; a kind of fault that never fired fails the run
package street

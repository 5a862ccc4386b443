package main

import (
	"testing"

	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/store/storetest"
)

// Fault 42: the primary of two PostgreSQL servers is killed under load and its
// synchronous standby promoted. The running switch, whose URL names both, finds
// the new one by itself; nothing that a terminal was told is approved is missing
// there, what was open is taken back, and all three books agree.
func TestFault42_FailOver(t *testing.T) {
	t.Parallel()
	pair := storetest.StartPair(t)
	s := openStreet(t, streetOf{database: pair.URL, seed: crashSeed(t), limit: crashTimeout, weather: &issuer.Weather{}})
	defer s.close()
	p := s.start()
	s.awaitListening(p)
	s.awaitSales(2 * crashTerminals)
	before := s.book.Count()[terminal.Approved]
	inFlight := s.inSale.Load()
	pair.KillPrimary(t)
	s.awaitSales(crashTerminals / 4) // that nobody can promise anything
	during := s.book.Count()[terminal.Approved]
	pair.Promote(t)
	s.awaitApprovals(during + crashTerminals) // by the process that was there before
	t.Logf("%d approved and %d in flight when the primary died, %d approved when its standby took over", before, inFlight, during)
	if before == 0 {
		t.Error("nothing was approved before: the test proves less than it should")
	}
	s.rest(p)
}

// awaitApprovals waits until so many transactions were approved in all.
func (s *crashStreet) awaitApprovals(n int) {
	s.t.Helper()
	for s.book.Count()[terminal.Approved] < n {
		select {
		case <-s.progress:
		case <-s.ctx.Done():
			s.t.Fatalf("%d approved, want %d: %v", s.book.Count()[terminal.Approved], n, s.ctx.Err())
		}
	}
}

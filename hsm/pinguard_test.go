package hsm

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPINLockOut: failures lock a terminal and a key, each after its own
// number; a locked one hears the error it always hears, also for a good PIN;
// the lock ends, or is taken away.
func TestPINLockOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHSM(t)
		tpk, terminal := form(t, s, UseTPK, TDES16, compA, compB)
		other, otherTerminal := form(t, s, UseTPK, TDES16, compA, compD)
		zpk, _ := form(t, s, UseZPK, TDES16, compC, compD)
		good := pinBlock(t, terminal, ISO0, "1234", testPAN)
		otherGood := pinBlock(t, otherTerminal, ISO0, "1234", testPAN)
		if err := s.LimitPIN(PINLimits{PerKey: 6, PerTerminal: 3, Window: time.Minute, Lock: 10 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		try := func(tid string, key Key, block PINBlock) error {
			_, err := s.TranslatePIN(ForTerminal(t.Context(), tid), key, ISO0, block, pan(t, testPAN), zpk, ISO0)
			return err
		}
		expect := func(what string, err, want error) {
			t.Helper()
			if err != want {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		bad := PINBlockOf(make([]byte, 8))
		for range 2 {
			expect("a broken block", try("10000001", tpk, bad), ErrPIN)
		}
		expect("after two failures", try("10000001", tpk, good), nil)
		time.Sleep(61 * time.Second) // the window is over
		for range 3 {
			expect("a broken block", try("10000001", tpk, bad), ErrPIN)
		}
		expect("a locked terminal", try("10000001", tpk, good), ErrPIN)
		expect("the same terminal, another key", try("10000001", other, otherGood), ErrPIN)
		expect("another terminal", try("10000002", tpk, good), nil)
		expect("no terminal", try("", tpk, good), nil)

		for range 3 {
			expect("a broken block", try("10000003", tpk, bad), ErrPIN)
		}
		expect("a locked key", try("10000002", tpk, good), ErrPIN)
		expect("a locked key, no terminal", try("", tpk, good), ErrPIN)
		expect("another key", try("10000002", other, otherGood), nil)
		f := s.PINFailures()
		if f.Failures != 8 || f.Refused != 4 || !slices.Equal(f.LockedKeys, []Key{tpk}) || !slices.Equal(f.LockedTerminals, []string{"10000001", "10000003"}) {
			t.Errorf("%+v", f)
		}

		if !s.UnlockKey(tpk) || s.UnlockKey(tpk) || !s.UnlockTerminal("10000003") || s.UnlockTerminal("10000003") || s.UnlockTerminal("99999999") {
			t.Error("what was unlocked is not what was locked")
		}
		expect("an unlocked key", try("10000003", tpk, good), nil)
		expect("a terminal that is locked still", try("10000001", tpk, good), ErrPIN)
		time.Sleep(10 * time.Minute)
		expect("after the lock", try("10000001", tpk, good), nil)
		expect("a broken block after the lock", try("10000001", tpk, bad), ErrPIN)
		expect("one failure since", try("10000001", tpk, good), nil)

		if err := s.LimitPIN(PINLimits{PerTerminal: 1, Window: time.Minute}); err != nil {
			t.Fatal(err)
		}
		expect("a broken block", try("10000004", tpk, bad), ErrPIN)
		time.Sleep(1000 * time.Hour)
		expect("a lock without end", try("10000004", tpk, good), ErrPIN)
		if !s.UnlockTerminal("10000004") {
			t.Error("it was not locked")
		}
		expect("unlocked", try("10000004", tpk, good), nil)
	})
}

// TestPINFailuresCount: every verb that opens a PIN counts, and by default
// nothing is locked.
func TestPINFailuresCount(t *testing.T) {
	s := newHSM(t)
	tpk, terminal := form(t, s, UseTPK, TDES16, compA, compB)
	zpk, _ := form(t, s, UseZPK, TDES16, compC, compD)
	pvk := generate(t, s, UsePVK, TDES16)
	bdk := formed(t, s, UseBDK, TDES16, publishedBDK)
	good, bad := pinBlock(t, terminal, ISO0, "1234", testPAN), PINBlock{}
	p := pan(t, testPAN)
	for i, try := range []func() error{
		func() error { _, err := s.TranslatePIN(ctx, tpk, ISO0, bad, p, zpk, ISO0); return err },
		func() error { return s.VerifyPIN(ctx, tpk, ISO0, bad, p, pvk, PVV{Index: '1'}) },
		func() error { return s.VerifyPIN(ctx, tpk, ISO0, good, p, pvk, PVV{Index: '1'}) },
		func() error {
			_, err := s.TranslateDUKPT(ctx, bdk, mustHex(t, "FFFF9876543210E00001"), ISO0, bad, p, zpk, ISO0)
			return err
		},
	} {
		before := s.PINFailures().Failures
		for range 50 {
			if err := try(); err != ErrPIN {
				t.Fatalf("verb %d: %v", i, err)
			}
		}
		if n := s.PINFailures().Failures - before; n != 50 {
			t.Errorf("verb %d counted %d of 50", i, n)
		}
	}
	if f := s.PINFailures(); f.Refused != 0 || len(f.LockedKeys)+len(f.LockedTerminals) != 0 {
		t.Errorf("%+v", f)
	}
	if err := s.LimitPIN(PINLimits{PerTerminal: 5, Window: time.Hour}); err != nil {
		t.Fatal(err)
	}
	ksn := mustHex(t, "FFFF9876543210E00001")
	for range 2 { // the terminal of a key serial number has the failures from before
		_, _ = s.TranslateDUKPT(ctx, bdk, ksn, ISO0, bad, p, zpk, ISO0)
	}
	if f := s.PINFailures(); !slices.Equal(f.LockedTerminals, []string{"KSN FFFF9876543210E0"}) || f.Refused != 1 {
		t.Errorf("%+v", f)
	}
	for _, l := range []PINLimits{{}, {PerKey: -1, Window: 1}, {PerTerminal: -1, Window: 1}, {Window: 1, Lock: -1}} {
		if err := s.LimitPIN(l); err == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

// TestPINTalliesAreBounded: an attack from many names does not take the
// memory, and the names it fills are forgotten when their window is over.
func TestPINTalliesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g pinGuard
		for i := range maxPINSubjects + 100 {
			g.failed(pinSource{terminal: fmt.Sprint(i)})
		}
		if len(g.tallies) != maxPINSubjects || g.failures.Load() != maxPINSubjects+100 {
			t.Errorf("%d tallies, %d failures", len(g.tallies), g.failures.Load())
		}
		time.Sleep(defaultPINLimits.Window)
		g.failed(pinSource{terminal: "one more"})
		if len(g.tallies) != 1 || g.known.Load() != 1 {
			t.Errorf("%d tallies after the window", len(g.tallies))
		}
	})
}

func TestPINGuardConcurrency(t *testing.T) {
	s := newHSM(t)
	tpk, terminal := form(t, s, UseTPK, TDES16, compA, compB)
	zpk, _ := form(t, s, UseZPK, TDES16, compC, compD)
	blocks := []PINBlock{pinBlock(t, terminal, ISO0, "1234", testPAN), {}}
	if err := s.LimitPIN(PINLimits{PerKey: 500, PerTerminal: 50, Window: time.Hour}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := ForTerminal(context.Background(), fmt.Sprint(i%4))
			for j := range 200 {
				_, err := s.TranslatePIN(name, tpk, ISO0, blocks[j%2], pan(t, testPAN), zpk, ISO0)
				if j%2 == 1 && err != ErrPIN {
					t.Errorf("a broken block: %v", err)
				}
				s.PINFailures()
				s.UnlockTerminal("0")
			}
		})
	}
	wg.Wait()
	if f := s.PINFailures(); slices.Contains(f.LockedTerminals, "0") || !slices.Contains(f.LockedTerminals, "1") {
		t.Errorf("%+v", f.LockedTerminals)
	}
}

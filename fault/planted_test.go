//go:build !fault && !plant

package fault

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	plantAll = flag.Bool("planted", false, "build with the tag plant and look whether the tests find every bug; minutes")
	plantOne = flag.String("planted.bug", "", "only these, with commas between")
)

// by is a test that must find a bug: its package, its name, and its flags.
type by struct{ pkg, run, flags string }

// street is a few seeds of the simulated street.
func street(seeds int) by {
	return by{"simulate/street", "TestStreet", fmt.Sprintf("-street.seeds=%d", seeds)}
}

// plants are the bugs that the code can be built with, what each is, and the
// tests that must fail with it and pass without.
var plants = []struct {
	bug, what string
	found     []by
}{
	{"answer-before-commit", "the terminal hears an approval whose outcome is not written yet", []by{{"switch", "TestFault14_ReversalInFlight", ""}, {"cmd/acquirer", "TestCrash/sqlite", ""}}},
	{"no-fsync", "SQLite answers before the disk has it", []by{{"store", "TestSQLiteStopsOnEveryFailedSync", ""}}},
	{"doubt-is-a-no", "an error from COMMIT is taken for a rollback", []by{{"switch", "TestFault43_CloseInDoubt", ""}}},
	{"second-closer-wins", "no compare-and-set between answer, timeout and reversal", []by{{"journal", "TestThreeClosersOneWins", ""}}},
	{"reversal-without-row", "a timeout owes a reversal and writes none", []by{{"journal", "TestJournalAgreesWithTheModel", "-rapid.nofailfile"}, street(4)}},
	{"late-approval-revives", "an approval that comes after the timeout is told", []by{{"switch", "TestFault14_ReversalInFlight", ""}}},
	{"repeat-sent-twice", "a repeat of what is under way goes to the issuer too", []by{{"switch", "TestFault10_RepeatInFlight", ""}}},
	{"tombstone-ignored", "a reversal that comes first leaves nothing behind", []by{{"switch", "TestFault15_Tombstone", ""}, street(12)}},
	{"reverses-another", "a reversal with another amount or card takes its original back", []by{{"journal", "TestEffects", ""}}},
	{"undelivered-forgotten", "an approval that reached no terminal is left to stand", []by{{"switch", "TestFault2_DisconnectBeforeTheAnswer", ""}}},
	{"open-forgotten", "what the last run left open is not owed at start", []by{{"journal", "TestWhatWasLeftOpenIsOwed", ""}}},
	{"owed-dropped", "after enough tries a reversal counts as acknowledged", []by{{"switch", "TestFault27_AReversalThatNobodyHears", ""}}},
	{"reversal-sent-once", "a reversal without an answer counts as acknowledged", []by{{"switch", "TestFault27_ReversalsLost", ""}, street(4)}},
	{"25-is-final", "an issuer that does not know the original yet is believed", []by{street(24)}},
	{"cancel-sent-once", "a wallet's order whose cancel was lost counts as cancelled", []by{{"switch", "TestFlows/stories/qr-in-doubt", ""}}},
	{"limit-outside-write", "two sales of one batch are held against the same counters", []by{{"limits", "TestAgreesWithTheObviousModel", "-rapid.nofailfile"}}},
	{"quota-leaks", "a refused sale keeps its quota", []by{{"journal", "TestLimitHoldsUnder32Writers", ""}}},
	{"decided-outside-the-lock", "what follows a sale is decided without holding the sale", []by{{"journal", "TestRefundsAtOnce", ""}}},
	{"voided-twice", "a voided sale may be voided again", []by{{"journal", "TestWhatMayFollow", ""}}},
	{"mac-optional", "a message without DE 64 is served", []by{{"switch", "TestFault13_EveryBit", ""}}},
	{"old-keys-for-ever", "working keys stay good after newer ones were used", []by{{"switch", "TestFault18And19_KeyRoll", ""}}},
	{"chip-unread", "the amount that the chip signed may differ from DE 4", []by{{"switch", "TestLadder", ""}}},
	{"another-amount", "an issuer's answer about another amount is taken", []by{{"routing", "TestOnlyTheAnswerIsTheAnswer", ""}}},
	{"pan-in-log", "an account number is logged at debug level", []by{{"switch", "TestSecrets", ""}, street(1)}},
	{"fee-rounded-twice", "a fee is rounded to tenths before it is rounded to fen", []by{{"merchant", "TestPriceAgainstRationals", "-rapid.nofailfile"}}},
	{"leg-dropped", "the ledger forgets a leg when it moves balances", []by{{"ledger", "TestAgainstAModel", "-rapid.nofailfile"}, street(1)}},
	{"date-at-close", "a sale stands on the business date on which it was answered", []by{{"cmd/acquirer", "TestFactsOfTheJournal", ""}}},
	{"another-after-bytes", "a sale that its issuer did not answer is sent to the next", []by{{"switch", "TestFlows/stories/routing", ""}}},
	{"moved-in-memory", "the issuer that is asked instead is not in the journal before", []by{{"switch", "TestFailOverAtTheDoor", ""}}},
	{"stand-in-unbounded", "a card has more stand-in sales in a day than its share", []by{{"limits", "TestStandInShares", ""}}},
	{"void-settles", "a voided sale is paid", []by{{"cmd/acquirer", "TestFactsOfTheJournal", ""}, street(4)}},
	{"settled-twice", "lines that were settled are gathered again", []by{{"settlement", "TestPayEarly", ""}, street(12)}},
	{"carry-forgotten", "what was not paid is not carried over", []by{{"settlement", "TestCarry", ""}}},
	{"payout-sent-again", "a payout whose fate is unknown is ordered again", []by{{"settlement", "TestPayoutWeather", ""}}},
}

var planting = regexp.MustCompile(`fault\.Planted\((.*?)\)`)

// planted are the bugs in the code, with the files they are in.
func planted(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range planting.FindAllSubmatch(text, -1) {
			found[strings.Trim(string(m[1]), `"`)] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Every bug in the code has a test that finds it, and that test exists.
func TestPlants(t *testing.T) {
	inCode := planted(t)
	for _, p := range plants {
		if inCode[p.bug] == "" {
			t.Errorf("%s is in the table and nowhere in the code", p.bug)
		}
		delete(inCode, p.bug)
		for _, f := range p.found {
			top, _, _ := strings.Cut(f.run, "/")
			if tests := testsOf(t, f.pkg); !slices.Contains(tests, top) {
				t.Errorf("%s: package %s has no test %s", p.bug, f.pkg, f.run)
			}
		}
		if len(p.found) == 0 {
			t.Errorf("nothing is said to find %s", p.bug)
		}
	}
	for bug, file := range inCode {
		t.Errorf("%s: %s is in no row of the table: say which test finds it", file, bug)
	}
}

var testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

func testsOf(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names
}

// TestPlanted builds the tests with the tag plant and runs them with each bug:
// the tests of its row must fail, and pass without it.
func TestPlanted(t *testing.T) {
	if !*plantAll && *plantOne == "" {
		t.Skip("takes minutes: make planted")
	}
	dir := t.TempDir()
	binaries := map[string]string{}
	binary := func(pkg string) string {
		if binaries[pkg] == "" {
			binaries[pkg] = filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".test")
			if out, err := exec.Command("go", "test", "-tags", "plant", "-c", "-o", binaries[pkg], "acquirer/"+pkg).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", pkg, err, out)
			}
		}
		return binaries[pkg]
	}
	// run reports whether a test failed, and not by missing its target.
	run := func(f by, bug string) (failed bool, took time.Duration, out []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		args := []string{"-test.run", "^" + strings.ReplaceAll(f.run, "/", "$/^") + "$", "-test.count=1", "-test.timeout=9m", "-test.v"}
		cmd := exec.CommandContext(ctx, binary(f.pkg), append(args, strings.Fields(f.flags)...)...)
		cmd.Dir = filepath.Join("..", f.pkg)
		cmd.Env = append(os.Environ(), "ACQUIRER_PLANT="+bug)
		began := time.Now()
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil && bytes.Contains(out, []byte("--- SKIP")):
			t.Errorf("%s of %s skips itself here:\n%s", f.run, f.pkg, out)
		case err == nil && !bytes.Contains(out, []byte("--- PASS")):
			t.Fatalf("%s of %s ran nothing:\n%s", f.run, f.pkg, out)
		case err != nil && !bytes.Contains(out, []byte("--- FAIL")) && !bytes.Contains(out, []byte("panic:")):
			t.Fatalf("%s of %s: %v\n%s", f.run, f.pkg, err, out)
		}
		return err != nil, time.Since(began), out
	}
	sound := map[by]bool{}
	bugs, found, layers := 0, 0, map[string]int{}
	for _, p := range plants {
		if *plantOne != "" && !slices.Contains(strings.Split(*plantOne, ","), p.bug) {
			continue
		}
		bugs++
		all := true
		for _, f := range p.found {
			if !sound[f] {
				if failed, _, out := run(f, ""); failed {
					t.Errorf("%s of %s fails without any bug and proves nothing:\n%s", f.run, f.pkg, out)
					all = false
					continue
				}
				sound[f] = true
			}
			failed, took, _ := run(f, p.bug)
			if !failed {
				all = false
				t.Errorf("NOT FOUND  %s (%s) by %s of %s", p.bug, p.what, f.run, f.pkg)
				continue
			}
			layers[f.pkg]++
			t.Logf("found      %-24s by %s of %s in %v", p.bug, f.run, f.pkg, took.Round(100*time.Millisecond))
		}
		if all {
			found++
		}
	}
	t.Logf("%d of %d planted bugs found; by package %v", found, bugs, maps.Clone(layers))
}

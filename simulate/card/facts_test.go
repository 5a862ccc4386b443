package simcard

import (
	"math/bits"
	"slices"
	"strings"
	"testing"

	"acquirer/card"
)

func TestAccountNumbers(t *testing.T) {
	for _, is := range append(slices.Clone(Issuers), Abroad) {
		seen := map[string]bool{}
		chipless := 0
		for i := range 5000 {
			p := is.PAN(i)
			pan := p.Reveal()
			if len(pan) != is.Len || !p.Luhn() || ConditionOf(pan) != Good || seen[pan] {
				t.Fatalf("%s card %d: %d digits, Luhn %v, condition %q, seen before %v",
					is.Name, i, len(pan), p.Luhn(), ConditionOf(pan), seen[pan])
			}
			seen[pan] = true
			if got, ok := IssuerOf(pan); !ok || got != is {
				t.Fatalf("%s card %d belongs to %v %v", is.Name, i, got, ok)
			}
			tr, err := card.ParseTrack2(Track2For(pan))
			if err != nil || !tr.PAN.Equal(p) || string(tr.Expiry) != ExpiryFor(pan) || tr.HasChip() != HasChip(pan) || len(Track2For(pan)) != 37 {
				t.Fatalf("%s card %d: track 2 %v %v, %d characters", is.Name, i, tr, err, len(Track2For(pan)))
			}
			if want := map[bool]string{true: "26", false: "1"}[HasChip(pan)]; !strings.Contains(want, tr.ServiceCode[:1]) {
				t.Fatalf("%s card %d: service code %s, chip %v: a fallback could not be told", is.Name, i, tr.ServiceCode, HasChip(pan))
			}
			if pin := PINFor(pan); len(pin) != 6 || TypedPIN(pan) != pin {
				t.Fatalf("%s card %d: a PIN of %d digits", is.Name, i, len(pin))
			}
			if !HasChip(pan) {
				chipless++
			}
		}
		if chipless < 5000/ChiplessOneIn/2 || chipless > 5000/ChiplessOneIn*2 {
			t.Errorf("%s: %d of 5000 cards without a chip, want about one in %d", is.Name, chipless, ChiplessOneIn)
		}
		if p := is.PAN(is.Cards() + 3); !p.Equal(is.PAN(3)) {
			t.Errorf("%s: card numbers do not come round", is.Name)
		}
	}
}

func TestConditions(t *testing.T) {
	for c, code := range codes {
		pan := Issuers[1].PANWith(c, 7).Reveal()
		if ConditionOf(pan) != c || c.Code() != code {
			t.Errorf("condition %q reads back as %q, code %s", c, ConditionOf(pan), c.Code())
		}
		if wrong := TypedPIN(pan) != PINFor(pan); wrong != (c == WrongPIN) {
			t.Errorf("condition %q: another PIN typed: %v", c, wrong)
		}
		if expired := card.Expiry(ExpiryFor(pan)).Before("2511"); expired != (c == Expired) {
			t.Errorf("condition %q: expired %v", c, expired)
		}
		if c == BadChip && !HasChip(pan) {
			t.Error("a card with a bad chip has none")
		}
	}
	if ConditionOf("99") != Good || ConditionOf("") != Good {
		t.Error("a short number has a condition")
	}
}

func TestTestKeys(t *testing.T) {
	for _, k := range [][16]byte{TestIMK("north"), TestTMK("10000001")} {
		for _, b := range k {
			if bits.OnesCount8(b)%2 != 1 {
				t.Errorf("byte %02X of a test key has even parity", b)
			}
		}
	}
	// Fixed for good: serve --seed, demo and load must agree across versions.
	if got := TestTMK("10000001"); got != TestKey("TMK 10000001") || got == TestTMK("10000002") {
		t.Error("terminal keys are not one per terminal")
	}
}

func TestSeedTerminals(t *testing.T) {
	for _, c := range []struct {
		i        int
		tid, mid string
	}{{0, "10000001", "898110054110001"}, {3, "10000004", "898110054110001"}, {4, "10000005", "898110054110002"}, {255, "10000256", "898110054110064"}} {
		if tid, mid := SeedTerminal(c.i); tid != c.tid || mid != c.mid {
			t.Errorf("SeedTerminal(%d) = %s, %s, want %s, %s", c.i, tid, mid, c.tid, c.mid)
		}
	}
}

func TestParseCard(t *testing.T) {
	for name, want := range map[string]card.PAN{
		"north": Issuers[0].PAN(0), "south:17": Issuers[1].PAN(17), "east:lost": Issuers[2].PANWith(Lost, 0), "west:good": Issuers[3].PAN(0), "abroad:3": Abroad.PAN(3),
	} {
		if got, err := ParseCard(name); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "nobody", "north:x", "north:-1", ":1"} {
		if _, err := ParseCard(bad); err == nil {
			t.Errorf("card %q passes", bad)
		}
	}
	for name, c := range conditionNames {
		if got, err := ParseCard("north:" + name); err != nil || ConditionOf(got.Reveal()) != c {
			t.Errorf("north:%s is %q, %v", name, ConditionOf(got.Reveal()), err)
		}
	}
}

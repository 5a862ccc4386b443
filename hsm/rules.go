package hsm

// What a key may be is one table (useRules), for the software HSM and for
// drivers of devices that do not know these uses.

// Check refuses a kind of key that a use does not take, with ErrKeyUse.
func (u Use) Check(verb string, alg Alg) error { return u.check(verb, alg) }

// Makes reports whether a key of this use makes MACs of the kind.
func (u Use) Makes(alg MACAlg) bool {
	if u >= uses {
		return false
	}
	for _, m := range useRules[u].macs {
		if m == alg {
			return true
		}
	}
	return false
}

// Under is the use of the key that one of this use may travel under, 0 when
// there is none.
func (u Use) Under() Use {
	if u >= uses {
		return 0
	}
	return useRules[u].kek
}

// MayLeave reports whether a key of this use that was made here may be
// exported.
func (u Use) MayLeave() bool { return u < uses && useRules[u].export == 'S' }

// Len is the length of a key in bytes, 0 for a kind that is none.
func (a Alg) Len() int {
	if int(a) >= len(algRules) {
		return 0
	}
	return algRules[a].length
}

// Travels reports whether a key of kind a may be encrypted by one of kind kek.
func (a Alg) Travels(kek Alg) bool { return a.travels(kek) }

// ParseUse reads the name of a use, as String writes it.
func ParseUse(name string) (Use, bool) {
	for u := UseTMK; u < uses; u++ {
		if useRules[u].name == name {
			return u, true
		}
	}
	return 0, false
}

// LegalPIN is the matrix of PIN block formats that TranslatePIN follows (ISO
// 9564-1, PCI PIN 3-3).
func LegalPIN(in, out PINFormat) bool { return legalPair(in, out) }

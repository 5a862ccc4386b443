package audit

import "strings"

// SamePerson says whether two names that entries carry are of one person, for
// what two people must do. A user of a machine is "uid 1000 (alice)", or "uid
// 1000" while nobody could say the name: then the number decides, else the name,
// since users of several machines may share a database. Case and space around a
// name make nobody another person; a nameless one is everybody.
func SamePerson(a, b string) bool {
	number, name := personOf(a)
	number2, name2 := personOf(b)
	switch {
	case name != "" && name2 != "":
		return strings.EqualFold(name, name2)
	case number != "" && number2 != "":
		return number == number2
	}
	return name == name2 || number == "" && name == "" || number2 == "" && name2 == ""
}

// personOf takes apart "uid NUMBER (NAME)"; whatever else there is is a name.
func personOf(who string) (number, name string) {
	who = strings.Join(strings.Fields(who), " ")
	rest, ok := strings.CutPrefix(who, "uid ")
	if !ok {
		return "", who
	}
	number, name, _ = strings.Cut(rest, " ")
	return number, strings.TrimSuffix(strings.TrimPrefix(name, "("), ")")
}

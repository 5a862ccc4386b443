package routing

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Diff says in lines what p has that the plan before it had not (+), had and
// has no more (-), and has otherwise (~), in the order of their names. Nothing
// differs when it is empty.
func (p *Plan) Diff(before *Plan) []string {
	var out []string
	was, is := before.entries(), p.entries()
	for _, name := range sortedKeys(was, is) {
		a, had := was[name]
		b, has := is[name]
		switch {
		case !had:
			out = append(out, "+ "+name+" "+b)
		case !has:
			out = append(out, "- "+name+" "+a)
		case a != b:
			out = append(out, "~ "+name+" "+a+" -> "+b)
		}
	}
	// Rules are asked in their order, which none of them tells.
	if a, b := before.order(), p.order(); a != b && sameNames(a, b) {
		out = append(out, "~ order of rules "+a+" -> "+b)
	}
	return out
}

// Digest is a number of what a plan says: the same for the same table and rules,
// whatever files they came from.
func (p *Plan) Digest() string {
	h := sha256.New()
	all := p.entries()
	for _, name := range sortedKeys(all, nil) {
		fmt.Fprintf(h, "%q %q\n", name, all[name])
	}
	fmt.Fprintf(h, "%q", p.order())
	return hex.EncodeToString(h.Sum(nil))
}

// entries are all that a plan says, by a name of their own.
func (p *Plan) entries() map[string]string {
	out := map[string]string{}
	for i := range p.BINs.routes {
		r := &p.BINs.routes[i]
		out["bin "+r.String()] = fmt.Sprintf("%s %s %q %s luhn=%t %q", r.Issuer, r.Kind, r.Brand, r.Lengths, r.Luhn, r.Name)
	}
	for _, g := range p.Rules.Groups {
		out["group "+g.Name] = written(g)
	}
	for _, r := range p.Rules.Rules {
		out["rule "+r.Name] = written(r)
	}
	for _, t := range p.Rules.Tariffs {
		out["tariff "+t.Issuer] = written(t)
	}
	for _, s := range p.Rules.StandIn {
		out["stand-in "+s.Issuer] = written(s)
	}
	return out
}

func written(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("routing: an entry that was read cannot be written: %v", err)) // plain structs of texts and numbers
	}
	return string(b)
}

// order is the rules' names in their order.
func (p *Plan) order() string {
	var names []string
	for _, r := range p.Rules.Rules {
		names = append(names, r.Name)
	}
	return strings.Join(names, ", ")
}

func sameNames(a, b string) bool {
	x, y := strings.Split(a, ", "), strings.Split(b, ", ")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func sortedKeys(a, b map[string]string) []string {
	var keys []string
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

package switching_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"acquirer/download"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// demandWords are what stories call the demands of a header.
var demandWords = map[string]spec.Demand{"parameters": spec.DemandParameters, "status": spec.DemandStatus, "signin": spec.DemandSignIn,
	"keys": spec.DemandCAPK, "applications": spec.DemandICParameters, "blacklist": spec.DemandBlackList}

func demandWord(d spec.Demand) string {
	for word, v := range demandWords {
		if v == d {
			return word
		}
	}
	return "nothing"
}

func wordsOf(ds []spec.Demand) string {
	if len(ds) == 0 {
		return "nothing"
	}
	var out []string
	for _, d := range ds {
		out = append(out, demandWord(d))
	}
	return strings.Join(out, ", ")
}

// downloads are the verbs of what terminals fetch and tell besides money.
func (s *storyteller) downloads(ctx context.Context, verb string, words []string) []string {
	book := s.street.download
	switch verb {
	case "download": // T1 parameters|keys|applications|blacklist|limits
		return s.download(ctx, words[0], words[1])
	case "upload": // T1
		return []string{outcome(s.terminal(words[0], nil).UploadStatus(ctx))}
	case "obey": // T1
		done, err := s.terminal(words[0], nil).Obey(ctx)
		return []string{"did " + wordsOf(done) + ": " + outcome(err)}
	case "heard": // T1
		return []string{wordsOf(s.terminal(words[0], nil).Demands())}
	case "ask": // T1 status
		d, known := demandWords[words[1]]
		if !known {
			s.t.Fatalf("nobody asks a terminal for %q", words[1])
		}
		must(s.t, book.Ask(ctx, s.terminal(words[0], nil).TID(), d))
	case "set": // T1 23=5 no-pin=300.00
		must(s.t, s.override(ctx, words[0], words[1:]))
	case "block": // 622999 or north:0
		entry := words[0]
		if strings.Contains(entry, ":") {
			entry = s.card(entry).Number
		}
		must(s.t, book.Block(ctx, entry))
	case "downloaded": // T1
		return s.downloaded(words[0])
	}
	return nil
}

func (s *storyteller) download(ctx context.Context, name, what string) []string {
	term := s.terminal(name, nil)
	var out []string
	var err error
	switch what {
	case "parameters":
		var p map[string]string
		p, err = term.DownloadParameters(ctx)
		for _, tag := range slices.Sorted(maps.Keys(p)) {
			out = append(out, tag+"="+p[tag])
		}
	case "keys":
		var keys []spec.CAKey
		keys, err = term.DownloadCAPKs(ctx)
		for _, k := range keys {
			out = append(out, fmt.Sprintf("%s until %s, %d bits", k.CAKeyID, k.Expires, 8*len(k.Modulus)))
		}
	case "applications":
		var apps []spec.Application
		apps, err = term.DownloadAIDs(ctx)
		for _, a := range apps {
			out = append(out, fmt.Sprintf("%X, PIN above %s", a.AID, money.Amount(a.CVMLimit)))
		}
	case "blacklist":
		var list []string
		list, err = term.DownloadBlackList(ctx)
		for _, e := range list {
			if len(e) > 12 {
				e = e[:6] + "... of " + strconv.Itoa(len(e)) + " digits"
			}
			out = append(out, e)
		}
		slices.Sort(out)
	case "limits":
		small, e := term.DownloadLimits(ctx)
		out, err = []string{fmt.Sprintf("without PIN %s, without signature %s", small.NoPIN, small.NoSignature)}, e
	default:
		s.t.Fatalf("nothing to download is called %q", what)
	}
	if err != nil {
		return []string{outcome(err)}
	}
	if len(out) == 0 {
		return []string{"nothing"}
	}
	return out
}

// override sets parameters and limits of a terminal, replacing what was set
// for it before.
func (s *storyteller) override(ctx context.Context, name string, words []string) error {
	o := download.Override{Parameters: map[string]string{}}
	for _, w := range words {
		tag, v, _ := strings.Cut(w, "=")
		if tag != "no-pin" && tag != "no-signature" {
			o.Parameters[tag] = v
			continue
		}
		a, err := money.Parse(v)
		if err != nil {
			return err
		}
		if tag == "no-pin" {
			o.Limits.NoPIN = &a
		} else {
			o.Limits.NoSignature = &a
		}
	}
	return s.street.download.Override(ctx, s.terminal(name, nil).TID(), o)
}

// downloaded is what the house knows of a terminal.
func (s *storyteller) downloaded(name string) []string {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "T"))
	must(s.t, err)
	tid, mid := simcard.SeedTerminal(n - 1)
	term, newest := s.street.download.Terminal(tid), s.street.download.Newest(tid, mid)
	var out []string
	for k, v := range newest {
		state := "has the newest"
		switch held := term.Held[k]; {
		case v == 0:
			state = "there is none"
		case held == 0:
			state = "never"
		case held < v:
			state = "has an old one"
		}
		out = append(out, fmt.Sprintf("%s: %s", download.Kind(k), state))
	}
	status := "status: never"
	if term.Status != nil {
		status = "status:"
		for e, err := range spec.WalkParameters(term.Status) {
			must(s.t, err)
			status += " " + e.Tag + "=" + spec.ParameterText(e)
		}
	}
	return append(out, status)
}

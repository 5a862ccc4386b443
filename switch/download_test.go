package switching_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"acquirer/download"
	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

// TestDownloads: a terminal fetches all there is, and the house knows it.
func TestDownloads(t *testing.T) {
	t.Parallel()
	s, ctx := newStreet(t), t.Context()
	must(t, s.download.Block(ctx, "6228480000000000002"))
	must(t, s.download.Block(ctx, "622999"))
	tid, mid := simcard.SeedTerminal(4)
	must(t, s.download.Override(ctx, tid, download.Override{Parameters: map[string]string{"23": "5"}}))
	term := s.terminal(4)

	p, err := term.DownloadParameters(ctx)
	if err != nil || p["22"] != "夜市小摊" || p["23"] != "5" || p["12"] != "60" {
		t.Errorf("parameters %v, %v", p, err)
	}
	keys, err := term.DownloadCAPKs(ctx)
	if err != nil || len(keys) != 4 || keys[0].CAKeyID.String() != "A000000333/08" || len(keys[3].Modulus) != 248 {
		t.Errorf("%d CA keys, %v", len(keys), err)
	}
	apps, err := term.DownloadAIDs(ctx)
	if err != nil || len(apps) != 4 || fmt.Sprintf("%X", apps[3].AID) != "A000000333010106" || apps[0].CVMLimit != 100000 || !apps[0].OnlinePIN {
		t.Errorf("%d applications, %v", len(apps), err)
	}
	list, err := term.DownloadBlackList(ctx)
	slices.Sort(list)
	if err != nil || !slices.Equal(list, []string{"6228480000000000002", "622999"}) {
		t.Errorf("a black list of %d, %v", len(list), err)
	}
	small, err := term.DownloadLimits(ctx)
	if err != nil || small != (terminal.SmallAmounts{NoPIN: money.Yuan(1000), NoSignature: money.Yuan(1000)}) {
		t.Errorf("limits %+v, %v", small, err)
	}
	if held, newest := s.download.Terminal(tid).Held, s.download.Newest(tid, mid); held != newest {
		t.Errorf("the house takes %v for held, of %v", held, newest)
	}
	must(t, term.UploadStatus(ctx))
	if got := s.download.Terminal(tid); !strings.HasPrefix(string(got.Status), "1160") || got.StatusAt().IsZero() {
		t.Errorf("status %q at %s", got.Status, got.StatusAt())
	}
	if d := term.Demands(); len(d) != 0 {
		t.Errorf("the host still asks for %v", d)
	}
	if strings.Contains(s.log.String(), "6228480000000000002") {
		t.Error("a blocked card number is in the log")
	}
}

// TestDownloadAnswers: every message is answered with the fields that captures
// show, and nothing a terminal may send in DE 62 is more than refused.
func TestDownloadAnswers(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	tid, mid := simcard.SeedTerminal(4)
	w := s.wire(t)
	d := &device{tid: tid, mid: mid, batch: 1}
	ask := func(mti spec.MTI, code string, de62 []byte) *spec.Message {
		t.Helper()
		m := &spec.Message{}
		m.Reset(spec.UnionPayPOS, mti)
		m.Set(41, tid)
		m.Set(42, mid)
		m.Set(60, "00000001"+code)
		if de62 != nil {
			m.SetBytes(62, de62)
		}
		must(t, m.Err())
		a := w.ask(d.frame(t, m))
		echoes(t, code, a, m)
		return a
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		must(t, err)
		return b
	}
	const with62, without62 = "001800000ac00014", "001800000ac00010" // as captured
	for _, c := range []struct {
		mti       spec.MTI
		code      string
		de62      []byte
		rc, first string
	}{
		{0x0800, "360", nil, "00", "11"}, {0x0800, "361", nil, "00", ""},
		{0x0820, "362", []byte("1160"), "00", ""}, {0x0820, "362", nil, "30", ""}, {0x0820, "362", []byte("6228480000000000002"), "30", ""},
		{0x0820, "372", []byte("100"), "00", "1"}, {0x0820, "372", nil, "00", "1"}, {0x0820, "372", []byte("104"), "00", "0"}, {0x0820, "372", []byte("199"), "00", "0"},
		{0x0820, "372", []byte("1x9"), "30", ""}, {0x0820, "372", []byte{0xFF}, "30", ""},
		{0x0800, "370", unhex("9F0605A0000003339F220108"), "00", "1"}, {0x0800, "370", unhex("9F0605A0000003339F2201AA"), "00", "0"},
		{0x0800, "370", unhex("9F0605A000000333"), "30", ""}, {0x0800, "370", nil, "30", ""}, {0x0800, "370", unhex("9F06FF"), "30", ""}, {0x0800, "371", nil, "00", ""},
		{0x0820, "382", []byte("100"), "00", "1"}, {0x0820, "382", []byte("150"), "00", "0"}, {0x0820, "382", []byte("2"), "30", ""},
		{0x0800, "380", unhex("9F0608A000000333010101"), "00", "1"}, {0x0800, "380", unhex("9F0607A0000000031010"), "00", "0"}, {0x0800, "380", unhex("9F0604A0000000"), "30", ""}, {0x0800, "381", nil, "00", ""},
		{0x0800, "390", []byte("100"), "00", "0"}, {0x0800, "390", []byte("19999"), "00", "0"}, {0x0800, "390", []byte("garbage"), "30", ""}, {0x0800, "391", nil, "00", ""},
		{0x0800, "394", nil, "00", "FF8058012"}, {0x0800, "395", nil, "00", ""},
	} {
		a := ask(c.mti, c.code, c.de62)
		bitmap := without62
		if c.first != "" {
			bitmap = with62
		}
		if a.Text(39) != c.rc || !strings.HasPrefix(string(a.Bytes(62)), c.first) || hex.EncodeToString(a.Raw()[2:10]) != bitmap {
			t.Errorf("%s %s %q: %s, DE 62 %.20q, bitmap %X", c.mti, c.code, c.de62, a.Text(39), a.Bytes(62), a.Raw()[2:10])
		}
	}
	// Whatever the answer, the terminal may go on.
	if a := ask(0x0800, "360", []byte("something")); a.Text(39) != "00" {
		t.Errorf("DE 62 in a request that has none: %s", a.Text(39))
	}
	if got := string(s.download.Terminal(tid).Status); got != "1160" {
		t.Errorf("status %q", got)
	}
}

// TestDownloadsOfManyPages: the lists are longer than a page.
func TestDownloadsOfManyPages(t *testing.T) {
	t.Parallel()
	s, ctx := newStreet(t), t.Context()
	set := download.BuiltIn()
	for i := range 19 {
		k := set.CAKeys[i%4]
		k.Index = byte(0x10 + i)
		k.CheckHash = k.Digest()
		set.CAKeys = append(set.CAKeys, k)
		a := set.Applications[0]
		a.AID = append(slices.Clone(a.AID), byte(i))
		set.Applications = append(set.Applications, a)
	}
	for i := range 101 {
		set.BlackList = append(set.BlackList, fmt.Sprintf("62284800000000%05d", i))
	}
	must(t, s.download.Import(ctx, set))
	term := s.terminal(5)
	keys, err := term.DownloadCAPKs(ctx)
	if err != nil || len(keys) != 23 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	apps, err := term.DownloadAIDs(ctx)
	if err != nil || len(apps) != 23 {
		t.Errorf("%d applications, %v", len(apps), err)
	}
	list, err := term.DownloadBlackList(ctx)
	slices.Sort(list)
	if err != nil || !slices.Equal(list, set.BlackList) {
		t.Errorf("%d of the black list, %v", len(list), err)
	}
}

// TestObey: a terminal that does what the headers say ends with everything,
// again after a change, and does what an operator wants first.
func TestObey(t *testing.T) {
	t.Parallel()
	s, ctx := newStreet(t), t.Context()
	must(t, s.download.Block(ctx, "622999"))
	tid, mid := simcard.SeedTerminal(6)
	term := s.terminal(6)
	if err := term.SignIn(ctx); err != nil {
		t.Fatal(err)
	}
	obey := func(want ...spec.Demand) {
		t.Helper()
		done, err := term.Obey(ctx)
		if err != nil || !slices.Equal(done, want) {
			t.Errorf("obeyed %v, %v, want %v", done, err, want)
		}
	}
	obey(spec.DemandParameters, spec.DemandCAPK, spec.DemandICParameters, spec.DemandBlackList)
	if held, newest := s.download.Terminal(tid).Held, s.download.Newest(tid, mid); held != newest {
		t.Errorf("held %v of %v", held, newest)
	}
	obey()
	must(t, s.download.Override(ctx, mid, download.Override{Parameters: map[string]string{"18": "1"}}))
	must(t, s.download.Ask(ctx, tid, spec.DemandStatus))
	must(t, s.download.Ask(ctx, tid, spec.DemandSignIn))
	must(t, s.download.Ask(ctx, tid, spec.DemandCAPK))
	// A sale hears it too.
	c, err := simcard.New(simcard.Issuers[0].PAN(1))
	must(t, err)
	res, err := term.Sale(ctx, terminal.Sale{Amount: 1234, Card: c, Entry: terminal.Keyed})
	if err != nil || res.Demand != spec.DemandSignIn {
		t.Errorf("the sale's answer asks for %d, %v", res.Demand, err)
	}
	obey(spec.DemandSignIn, spec.DemandCAPK, spec.DemandStatus, spec.DemandParameters)
	if s.download.Terminal(tid).Status == nil {
		t.Error("no status came")
	}
	// A sign-in of its own fulfils the demand as well.
	must(t, s.download.Ask(ctx, tid, spec.DemandSignIn))
	must(t, term.Echo(ctx))
	must(t, term.SignIn(ctx))
	obey()
	// What was said is still known after a restart.
	s.reopen()
	if d := s.download.Demand(tid, mid); d != spec.DemandNothing {
		t.Errorf("after a restart the house asks for %d", d)
	}
}

// TestDownloadsInterrupted: what changes under a download is asked for again,
// and a download without its end does not count.
func TestDownloadsInterrupted(t *testing.T) {
	t.Parallel()
	s, ctx := newStreet(t), t.Context()
	tid, mid := simcard.SeedTerminal(4)
	held := func() int64 { return s.download.Terminal(tid).Held[download.CAKeys] }
	term := s.terminal(4, func(c *terminal.Config) {
		pages := 0
		c.Observe = func(f terminal.Traffic) {
			m := &spec.Message{}
			if p, err := spec.ReadCapture(f.Bytes, nil); err == nil {
				m = &p.Message
			}
			if de60, ok := spec.ParseDE60(m); !ok || f.Sent || de60.NetworkCode != 370 {
				return
			}
			if pages++; pages == 2 { // in the middle of the first download
				set := download.BuiltIn()
				set.CAKeys = set.CAKeys[:3]
				must(t, s.download.Import(context.Background(), set))
			}
		}
	})
	_, err := term.DownloadCAPKs(ctx) // the fourth key is gone
	if !errors.Is(err, terminal.ErrDownload) || !strings.Contains(err.Error(), "does not have it") {
		t.Errorf("a key that went away: %v", err)
	}
	if held() != 0 {
		t.Error("an interrupted download counts")
	}
	keys, err := term.DownloadCAPKs(ctx)
	if err != nil || len(keys) != 3 || held() != s.download.Newest(tid, mid)[download.CAKeys] {
		t.Errorf("%d keys, %v, held %d", len(keys), err, held())
	}
}

// TestDownloadsRefused: a terminal that may not work gets nothing, and a store
// or an HSM that fails costs a 96.
func TestDownloadsRefused(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	s := newStreet(t, withHSM(func(h hsm.HSM) hsm.HSM { return closedHSM{h, &broken} }))
	ctx := t.Context()
	tid, _ := simcard.SeedTerminal(4)
	term := s.terminal(4)
	refusedWith := func(code string, err error) {
		t.Helper()
		var r *terminal.Refusal
		if !errors.As(err, &r) || r.Code != code {
			t.Errorf("%v, want %s", err, code)
		}
	}
	was, _ := s.registry.Terminal([]byte(tid))
	suspended := *was
	suspended.Status = merchant.Suspended
	must(t, s.registry.Put(ctx, nil, []merchant.Terminal{suspended}))
	_, err := term.DownloadParameters(ctx)
	refusedWith("58", err)
	refusedWith("58", term.UploadStatus(ctx))
	must(t, s.registry.Put(ctx, nil, []merchant.Terminal{*was}))
	_, err = s.terminal(4, func(c *terminal.Config) { c.MID = "898110050000000" }).DownloadLimits(ctx)
	refusedWith("03", err)
	_, err = s.terminal(4, func(c *terminal.Config) { c.TID = "99999999" }).DownloadAIDs(ctx)
	refusedWith("97", err)

	must(t, s.download.Block(ctx, "6228480000000000002"))
	broken.Store(true)
	_, err = s.terminal(4).DownloadBlackList(ctx)
	refusedWith("96", err)
	broken.Store(false)
	if held := s.download.Terminal(tid).Held[download.BlackList]; held != 0 {
		t.Errorf("version %d is held after a failure", held)
	}
	if list, err := s.terminal(4).DownloadBlackList(ctx); err != nil || len(list) != 1 {
		t.Errorf("after the HSM came back: %d entries, %v", len(list), err)
	}
}

// closedHSM opens nothing while it is broken.
type closedHSM struct {
	hsm.HSM
	broken *atomic.Bool
}

func (h closedHSM) Decrypt(ctx context.Context, key hsm.Key, aad, data []byte) ([]byte, error) {
	if h.broken.Load() {
		return nil, errors.New("the HSM is out")
	}
	return h.HSM.Decrypt(ctx, key, aad, data)
}

// TestDownloadsWithoutStore: when the store is gone, what needs it is
// answered 96, and what does not is answered.
func TestDownloadsWithoutStore(t *testing.T) {
	t.Parallel()
	s, ctx := newStreet(t), t.Context()
	term := s.terminal(4)
	must(t, s.db.Close())
	_, err := term.DownloadParameters(ctx)
	var r *terminal.Refusal
	if !errors.As(err, &r) || r.Code != "96" {
		t.Errorf("a download that cannot be recorded: %v", err)
	}
	must(t, term.Echo(ctx))
}

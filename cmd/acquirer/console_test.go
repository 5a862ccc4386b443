package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"acquirer/settlement"
	"acquirer/simulate/card"
)

// page is the console in a headless Chromium.
type page struct {
	t   *testing.T
	ctx context.Context
}

// browse starts a headless Chromium, or skips the test where there is none.
func browse(t *testing.T) *page {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		need(t, "chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-component-update", true), chromedp.Flag("accept-lang", "en"),
		chromedp.WSURLReadTimeout(2*time.Minute))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // Chromium refuses root a sandbox
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // patience alone: a step has its own
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium did not start: %v", err)
	}
	return &page{t: t, ctx: ctx}
}

func (p *page) do(what string, step chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, step); err != nil {
		p.t.Fatalf("%s: %v\n%s", what, err, p.html())
	}
}

// follow clicks what leads to another page and waits until all of that is
// there: a browser shows a page while it is still reading it.
func (p *page) follow(selector string) {
	p.t.Helper()
	p.do("follow "+selector, func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector)))
		return chromedp.Void{}, err
	})
}

// eval evaluates an expression in the page; a promise is waited for.
func eval[T any](p *page, expr string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expr, func(e *runtime.EvaluateParams) { wait := true; e.AwaitPromise = &wait }))
	if err != nil {
		p.t.Fatalf("%s: %v", expr, err)
	}
	return v
}

// html is the whole page as it stands now.
func (p *page) html() string {
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.documentElement.outerHTML`))
	if err != nil {
		return err.Error()
	}
	return v
}

func inQuotes(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // text always marshals
	}
	return string(b)
}

// A sale at a terminal of the demo appears on the console by itself; a click
// leads to its timeline and its messages; the card is masked everywhere.
func TestConsoleShowsASale(t *testing.T) {
	p := browse(t)
	d := startDemo(t)
	secret := simcard.Issuers[0].PAN(4321)
	number := secret.Reveal()
	track := simcard.Track2For(number)

	p.do("open the console", chromedp.Navigate(d.console+"?lang=en"))
	p.do("wait for the live street", chromedp.WaitVisible(chromedp.CSS(`#live:not([hidden])`)))
	eval[bool](p, `window.opened = true`)

	const yuan = "77.07"
	sold := d.sell(4, "sale "+yuan+" chip north:4321")
	if !sold.Approved {
		t.Fatalf("the sale: %+v", sold)
	}
	// The server never renders the row into this page: it was open before. As soon
	// as it is there the list is paused: what is sold meanwhile would move it away
	// under the click, and in the end out of the list.
	row := `[...document.querySelectorAll("#rows tr")].find(r => r.innerText.includes(` + inQuotes("¥"+yuan) + `))`
	eval[bool](p, `new Promise(done => { const look = () => { if (`+row+`) { document.getElementById("pause").click(); done(true); } else requestAnimationFrame(look); }; look(); })`)
	if !eval[bool](p, `window.opened === true`) {
		t.Error("the page was loaded again; the sale should come by itself")
	}
	text := eval[string](p, row+`.innerText`)
	for _, want := range []string{secret.Masked(), "approved", street[1].name} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in the row %q", want, text)
		}
	}
	list := p.html()

	id := eval[string](p, row+`.dataset.id`)
	p.follow(fmt.Sprintf(`#rows tr[data-id="%s"] .num`, id))
	p.do("wait for its timeline", chromedp.WaitVisible(chromedp.CSS(`.timeline`)))
	p.do("wait for its messages", chromedp.WaitVisible(chromedp.CSS(`.messages`)))
	text = eval[string](p, `document.body.innerText`)
	for _, want := range []string{"¥" + yuan, "10000005", "north", sold.RRN, sold.AuthCode, "0200", "0210", "9F26", secret.Masked(), "open (durable)"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing on the page of the transaction:\n%s", want, text)
		}
	}
	detail := p.html()
	p.do("look at what is owed", chromedp.Navigate(d.console+"owed?lang=en"))
	p.do("wait for the page", chromedp.WaitVisible(chromedp.CSS(`h1`)))
	owed := p.html()

	if status := d.stop(); status != 0 {
		t.Errorf("the demo stopped with status %d: %s", status, d.stderr.String())
	}
	for where, html := range map[string]string{"the street": list, "the transaction": detail, "the owed": owed, "what the demo printed": d.stdout.String() + d.stderr.String()} {
		for what, digits := range map[string]string{"account number": number, "track": track, "track's end": track[len(number)+1:]} {
			if strings.Contains(html, digits) {
				t.Errorf("%s shows the %s", where, what)
			}
		}
	}
}

// The console calls what became of a payout as the commands do.
func TestConsoleNamesPayouts(t *testing.T) {
	for s := settlement.Created; s <= settlement.CameBack; s++ {
		want := map[settlement.PayoutState]string{settlement.Created: "due", settlement.Submitted: "sent", settlement.InProcess: "sent"}[s]
		if got := payoutStates[s].String(); got != cmp.Or(want, s.String()) {
			t.Errorf("a payout that is %s is %s on the console", s, got)
		}
	}
}

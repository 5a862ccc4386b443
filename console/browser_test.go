package console

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"acquirer/calendar"
)

// tab is a page of a headless Chromium.
type tab struct {
	*testing.T
	ctx      context.Context
	messages func() []string
}

// browse starts a headless Chromium, or skips the test where there is none;
// with ACQUIRER_TEST_REQUIRE=1 that is a failure.
func browse(t *testing.T) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("ACQUIRER_TEST_REQUIRE") == "1" {
			t.Fatal("no Chromium found and ACQUIRER_TEST_REQUIRE=1; install it with: sh deploy/test-deps.sh")
		}
		t.Skip("SKIPPED: no Chromium found, so nobody has looked at the console; install it with: sh deploy/test-deps.sh")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(2*time.Minute), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("accept-lang", "zh-CN"))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // Chromium refuses root a sandbox
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // patience alone: a step has its own
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium did not start: %v", err)
	}
	// All that the browser finds wrong with a page: console errors, exceptions,
	// policy violations, loads that failed.
	messages := chromedp.Console(ctx)
	quit := make(chan chan []string)
	said := make(chan string)
	go func() {
		for m, err := range messages {
			if err != nil {
				return // the browser was closed
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException() {
				said <- fmt.Sprintf("%s %s (%s:%d)", m.Source, m, m.URL, m.Line)
			} else if m.Text == lastWords {
				said <- lastWords
			}
		}
	}()
	go func() {
		var all []string
		for {
			select {
			case s := <-said:
				all = append(all, s)
			case <-ctx.Done():
				return
			case back := <-quit:
				for len(all) == 0 || all[len(all)-1] != lastWords {
					select {
					case s := <-said:
						all = append(all, s)
					case <-ctx.Done():
						back <- append(all, "the browser ended early")
						return
					}
				}
				back <- all[:len(all)-1]
				all = nil
			}
		}
	}()
	b := &tab{T: t, ctx: ctx}
	b.messages = func() []string {
		// The console is read in order: what came before the last words is there.
		js[any](b, fmt.Sprintf(`console.log(%q)`, lastWords))
		back := make(chan []string)
		quit <- back
		return <-back
	}
	return b
}

const lastWords = "these are the last words"

// stepTime is how long a step may take on a busy machine.
const stepTime = time.Minute

// do runs steps, each within stepTime.
func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	for _, s := range steps {
		ctx, cancel := context.WithTimeout(b.ctx, stepTime)
		err := chromedp.Do(ctx, s)
		cancel()
		if err != nil {
			b.picture("failed")
			b.Fatalf("%s: %v\n%s", what, err, b.shown())
		}
	}
}

// shown is what the page shows, for the message of a step that failed.
func (b *tab) shown() string {
	ctx, cancel := context.WithTimeout(b.ctx, stepTime)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + " is " + document.readyState + " and shows:\n" + (document.body ? document.body.innerText : "")`))
	if err != nil {
		return "what the page shows: " + err.Error()
	}
	return v
}

func (b *tab) open(url string) { b.Helper(); b.do("open "+url, chromedp.Navigate(url)) }

func (b *tab) see(selector string) {
	b.Helper()
	b.do("see "+selector, chromedp.WaitVisible(chromedp.CSS(selector)))
}

func (b *tab) click(selector string) {
	b.Helper()
	b.do("click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// follow clicks what leads to another page and waits until all of that is
// there: a browser shows a page while it is still reading it.
func (b *tab) follow(selector string) {
	b.Helper()
	b.do("follow "+selector, func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector)))
		return chromedp.Void{}, err
	})
}

func (b *tab) text(selector string) string {
	b.Helper()
	return js[string](b, fmt.Sprintf(`document.querySelector(%s).innerText`, quote(selector)))
}

// until waits for an expression to become true, looking at every frame the
// page draws.
func (b *tab) until(expr string) {
	b.Helper()
	js[bool](b, `new Promise(done => { const look = () => { if (`+expr+`) done(true); else requestAnimationFrame(look); }; look(); })`)
}

// js evaluates an expression in the page, past its policy as a debugger may.
func js[T any](b *tab, expr string) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTime)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expr, func(p *runtime.EvaluateParams) { wait := true; p.AwaitPromise = &wait }))
	if err != nil {
		b.picture("failed")
		b.Fatalf("%s: %v\n%s", expr, err, b.shown())
	}
	return v
}

func quote(s string) string {
	j, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return string(j)
}

// picture keeps a picture when ACQUIRER_TEST_SCREENS names a directory.
func (b *tab) picture(name string) {
	b.Helper()
	dir := os.Getenv("ACQUIRER_TEST_SCREENS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.Fatal(err)
	}
}

// look sets the size of the window and the colours its user prefers.
func (b *tab) look(width, height int64, colours string) {
	b.Helper()
	b.do("look", chromedp.EmulateViewport(width, height), func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: colours}}})
		return chromedp.Void{}, err
	})
}

// print shows the page as it is printed on paper of that many millimetres.
func (b *tab) print(width float64) {
	b.Helper()
	b.do("print", chromedp.EmulateViewport(int64(width*96/25.4), 900), func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
		return chromedp.Void{}, err
	})
}

func has(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s: %q is missing in %q", what, want, text)
		}
	}
}

// TestBrowser goes through the console as an operator does.
func TestBrowser(t *testing.T) {
	house := newStreet(time.Now())
	base, tape := start(t, house)
	b := browse(t)

	// A sale appears by itself on the page that is open.
	b.look(1440, 900, "light")
	b.open(base)
	b.see(`#live:not([hidden])`)
	if lang := js[string](b, `document.documentElement.lang`); lang != "zh" {
		t.Errorf("the page's language is %q, want zh", lang)
	}
	sale := house.sale(3, time.Now())
	sale.Amount = 123_456
	house.finish(tape, sale)
	row := fmt.Sprintf(`#rows tr[data-id="%s"]`, key19(sale.ID))
	b.see(row)
	has(t, "first row", b.text(`#rows tr:first-child`), "¥1,234.56", "消费", "已批准", sale.Merchant, sale.PAN)
	b.until(`document.getElementById("approved").textContent !== "0.0"`)

	// Its outcome changes in place: one row, not two.
	sale.Outcome = Reversed
	tape.Put(sale)
	b.see(row + ` .wide .outcome.reversed`)
	if all, same := js[int](b, `document.querySelectorAll("#rows tr").length`), js[int](b, `document.querySelectorAll('`+row+`').length`); all != recentRows || same != 1 {
		t.Errorf("%d rows, %d of them the new sale; want %d and 1", all, same, recentRows)
	}

	// While the list is paused a sale waits; it comes when the list goes on.
	b.click(`#pause`)
	later := house.sale(6, time.Now())
	house.finish(tape, later)
	b.see(`#held`)
	laterRow := fmt.Sprintf(`#rows tr[data-id="%s"]`, key19(later.ID))
	if js[bool](b, `document.querySelector('`+laterRow+`') !== null`) {
		t.Error("a paused list took a row")
	}
	b.click(`#pause`)
	b.see(laterRow)

	// Its timeline and messages, by a click on the row; English, by another.
	b.follow(row + ` .num`)
	b.see(`.timeline`)
	has(t, "heading", b.text(`h1`), "¥1,234.56")
	has(t, "timeline", b.text(`.timeline tbody`), "开账落盘", "2.27 ms", "经 1 号线路")
	has(t, "messages", b.text(`.messages`), "0200", "0210", "9F26", "终端 → 收单", "60.3")
	b.follow(`.lang a[hreflang="en"]`)
	b.see(`html[lang="en"] .timeline`)
	has(t, "English timeline", b.text(`.timeline tbody`), "open (durable)", "by line 1")

	// Something breaks while the street is open: the first sentence says so.
	b.open(base)
	b.see(`.verdict h1.good`)
	b.see(`#live:not([hidden])`)
	house.mu.Lock()
	house.overview.Owed = OwedTotal{Due: 3, Manual: 1, Oldest: time.Now().Add(-31 * time.Minute)}
	broken := &house.overview.Issuers[3].Lines[1]
	broken.SignedOn, broken.Connected, broken.LastError = false, false, "dial tcp 127.0.0.1:9032: connect: connection refused"
	house.owed = append(house.owed, Owed{ID: house.rows[14].ID, Since: time.Now().Add(-31 * time.Minute), Merchant: house.rows[14].Merchant, PAN: house.rows[14].PAN,
		Amount: house.rows[14].Amount, Issuer: "west", Why: Words{"发卡方超时", "no answer in time"}, Attempts: 20, LastSaid: "12", Manual: true})
	house.mu.Unlock()
	b.see(`.verdict h1.act`)
	has(t, "verdict", b.text(`.verdict`), "1 thing needs you", "1 reversal or advice is left to you", "Issuer west has 1 line down")

	house.busy(tape, time.Now())

	// A refund of the sale, and its receipt, signed on the terminal's screen.
	house.mu.Lock()
	sale.Outcome = Approved
	refund := house.sale(8, time.Now())
	refund.Type, refund.Amount = "refund", 23_456
	left := sale.Amount - refund.Amount
	d := detail(sale)
	d.Related, d.Left = []Related{{Row: refund}}, &left
	house.details[sale.ID], house.receipts[sale.ID], house.signed[sale.ID] = d, receipt(sale), handwriting()
	signed := house.receipts[sale.ID]
	signed.Signing = SigningPicture
	house.receipts[sale.ID] = signed
	voided := receipt(refund)
	voided.Original = &ReceiptOriginal{Type: "sale", Date: calendar.DateOf(sale.At), Batch: "000001", Voucher: "000482", RRN: "604414000482", Approval: "217734"}
	house.rows, house.receipts[refund.ID] = append(house.rows, refund), voided
	house.mu.Unlock()
	b.open(fmt.Sprintf("%s/transactions/%d", base, sale.ID))
	// A stream begins with all that the page shows. What is the same stays where
	// it is: a click that is under way is not lost.
	js[any](b, `window.hero = document.querySelector(".hero"), document.querySelector('[data-region="status"]').append(window.mark = document.createElement("i")),
		dispatchEvent(new Event("pagehide")), dispatchEvent(new Event("pageshow")), null`)
	b.until(`!window.mark.isConnected`)
	if !js[bool](b, `window.hero.isConnected`) {
		t.Error("a stream that began has put the same page in place of the page")
	}
	has(t, "what followed", b.text(`.related`), "refund", "¥234.56", "Left of it", "¥1,000.00")
	b.follow(`.hero .aside`)
	b.see(`.slip .hand img`)
	b.until(`document.querySelector(".hand img").complete`)
	if w := js[int](b, `document.querySelector(".hand img").naturalWidth`); w != 240 {
		t.Errorf("the signature is %d pixels wide, want 240", w)
	}
	b.print(58)
	if seen := js[[]string](b, `[...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && e.getClientRects().length && !e.closest(".slips") && !e.querySelector(".slips"))
		.map(e => e.tagName + "." + e.className)`); len(seen) > 0 {
		t.Errorf("printed besides the slips: %v", seen)
	}
	if wide := js[[]string](b, `[...document.querySelectorAll(".slip, .slip *")].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.tagName + "." + e.textContent)`); len(wide) > 0 {
		t.Errorf("wider than the paper: %v", wide)
	}
	b.picture("receipt-print")

	// A difference is resolved by a click.
	b.look(1440, 900, "light")
	b.open(base + "/batches")
	has(t, "batches", b.text(`.batches`), "not balanced", "¥12,345,678.90", "¥100.00", "signatures asked for")
	b.follow(`#resolve-73`)
	b.see(`body:not(:has(#resolve-73)) #resolve-72`)

	// What waits for people appears by itself, the most urgent first; nothing on the
	// page acts, and each says who does and how.
	b.open(base + "/waiting")
	b.see(`.empty`)
	b.see(`#live:not([hidden])`)
	house.mu.Lock()
	house.undone(time.Now())
	house.mu.Unlock()
	b.see(`.waits li:nth-child(7)`)
	for i, want := range [][]string{{"Hold money", "case 4711", "too late", "acquirer settle hold confirm 'case 4711'", "li asked; it takes another person", "¥888.00"},
		{"Answer a dispute", "hours left", "¥500.00", "10 days", "acquirer dispute answer 384168800892747776 represent\n", "384168800892747776 accept"},
		{"Payout came back", "2 days", "acquirer payout reissue 20260213-898110054110003-T1-0", "¥12,345.67"}, {"Recover a payout", "uid 1000 (li) asked", "26 hours", "-R2 is given up"},
		{"Terminal's batch differs", "not signed"}, {"Another account", "2 days left", "card <lost>", "LAST4"}, {"Bank's file refused", "minute"}} {
		has(t, "what waits", b.text(fmt.Sprintf(`.waits li:nth-child(%d)`, i+1)), want...)
	}
	has(t, "their number", b.text(`.tally`), "7 wait", "3 for a second person")
	has(t, "the way there", b.text(`.nav a[aria-current] .badge.act`), "7")
	if n := js[int](b, `document.querySelectorAll("main form, main button, main input").length`); n != 0 {
		t.Errorf("the page has %d things to act with", n)
	}
	b.click(`.waits li:nth-child(1) h2 a`)
	b.see(`#holds`)
	if !js[bool](b, `location.pathname + location.hash === "/settlement#holds"`) {
		t.Errorf("the hold leads to %s", js[string](b, `location.href`))
	}

	// Nothing sticks out sideways, at a desk or on a phone, by day or by night,
	// in either language.
	for _, window := range []struct{ width, height int64 }{{390, 844}, {768, 1024}, {1440, 900}} {
		for _, colours := range []string{"light", "dark"} {
			b.look(window.width, window.height, colours)
			for _, lang := range []string{"zh", "en"} {
				for _, p := range []struct{ name, path string }{{"street", "/"}, {"lines", "/lines"}, {"owed", "/owed"},
					{"settlement", "/settlement"}, {"waiting", "/waiting"}, {"batches", "/batches"}, {"compared", "/compared"}, {"transaction", fmt.Sprintf("/transactions/%d", sale.ID)},
					{"receipt", fmt.Sprintf("/transactions/%d/receipt", sale.ID)}, {"receipt-refund", fmt.Sprintf("/transactions/%d/receipt", refund.ID)}} {
					b.open(base + p.path + "?lang=" + lang)
					over := js[[]string](b, `[...document.querySelectorAll("body *")]
						.filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 && !e.closest(".unseen"))
						.map(e => e.tagName + "." + e.getAttribute("class"))
						.concat(document.documentElement.scrollWidth > innerWidth ? ["the page"] : [])`)
					name := fmt.Sprintf("%s-%d-%s-%s", p.name, window.width, colours, lang)
					if len(over) > 0 {
						t.Errorf("%s: sticks out: %v", name, over)
					}
					b.picture(name)
				}
			}
		}
	}
	// What is taken to the command line shows on a wide screen too.
	b.look(1440, 900, "light")
	b.open(base + "/compared")
	has(t, "a difference", b.text(`table[aria-labelledby=compared-open] tbody`), "91", "north 604414000482", "alipay 0EXTRA000001")
	has(t, "a case", b.text(`table[aria-labelledby=disputes] tbody`), "4853")
	b.open(base)
	b.see(`#live:not([hidden])`)

	// The list keeps to its column at every width, with the longest words in it.
	long := house.sale(4, time.Now())
	long.Type, long.PAN, long.Issuer, long.Amount, long.Took = "completion_notice", "622000*********9210", "unionpay-qr", 99_999_999, 25*time.Second
	house.finish(tape, long)
	for width := int64(721); width <= 1440; width += 60 - width%60 {
		b.look(width, 900, "light")
		b.open(base + "/?lang=en")
		if room := js[[]int](b, `(table => [table.offsetWidth, table.parentElement.clientWidth])(document.querySelector(".recent table"))`); room[0] > room[1] {
			t.Errorf("at %d pixels the list of transactions is %d wide and has %d", width, room[0], room[1])
		}
	}
	// At a desk gross, refunds and fees of a settlement are all seen: they add up.
	b.look(1024, 800, "light")
	b.open(base + "/settlement?lang=en")
	if !js[bool](b, `document.querySelector(".sums .refunds").checkVisibility() && document.documentElement.scrollWidth <= innerWidth`) {
		t.Error("at 1024 pixels the settlement shows no refunds, or sticks out")
	}
	for _, said := range b.messages() {
		t.Errorf("the browser complains: %s", said)
	}
}

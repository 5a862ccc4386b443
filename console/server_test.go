package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/calendar"
)

// start serves a console on a free port and returns its address.
func start(t *testing.T, house House) (base string, tape *Tape) {
	t.Helper()
	base, tape, _ = startWith(t, Config{House: house})
	return base, tape
}

// startWith returns stop besides, which ends the server and waits for it.
func startWith(t *testing.T, cfg Config) (base string, tape *Tape, stop func()) {
	t.Helper()
	if cfg.Tape == nil {
		cfg.Tape = NewTape()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return "http://" + l.Addr().String(), cfg.Tape, stop
}

// ask makes one request on a connection of its own, without following where it
// leads.
func ask(t *testing.T, method, url string, header map[string]string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	for k, v := range header {
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

var (
	inEnglish = map[string]string{"Accept-Language": "en"}
	inChinese = map[string]string{"Accept-Language": "zh-CN"}
)

func TestListenStaysOnThisMachine(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "127.8.8.8:0", "localhost:0"} {
		l, err := Listen(addr)
		if err != nil {
			t.Errorf("Listen(%q): %v", addr, err)
			continue
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "console.example:8080", "127.0.0.1.example:80", "nonsense", ""} {
		l, err := Listen(addr)
		if err == nil {
			t.Errorf("Listen(%q) listens on %v", addr, errors.Join(l.Close(), errors.New(l.Addr().String())))
			continue
		}
		if !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("Listen(%q): %q does not say what to do", addr, err)
		}
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	id := house.rows[0].ID
	house.signed[id] = handwriting()
	for _, path := range []string{"/", "/lines", "/owed", "/settlement", "/batches", "/compared", fmt.Sprintf("/transactions/%d", id), fmt.Sprintf("/transactions/%d/receipt", id),
		fmt.Sprintf("/transactions/%d/signature.png", id), "/transactions/1/signature.png", "/static/console.js", "/static/console.css",
		"/static/icon.svg", "/nowhere", "/transactions/1", "/?lang=en", "/live"} {
		res, _ := ask(t, "GET", base+path, nil)
		for name, want := range map[string]string{
			"Content-Security-Policy":      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
			"X-Content-Type-Options":       "nosniff",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control":                "no-store",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if res.Header.Get("Content-Type") == "" && res.StatusCode != http.StatusSeeOther {
			t.Errorf("%s: no Content-Type", path)
		}
	}
}

func TestWhoIsTurnedAway(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, path string
		header             map[string]string
		want               int
	}{
		{"by address", "GET", "/", nil, 200},
		{"by name", "GET", "/", map[string]string{"Host": "localhost:" + port}, 200},
		{"by IPv6", "GET", "/", map[string]string{"Host": "[::1]:" + port}, 200},
		{"through a tunnel", "GET", "/", map[string]string{"Host": "LOCALHOST:18080"}, 200},
		{"without a port", "GET", "/", map[string]string{"Host": "[::1]"}, 200},
		{"rebound name", "GET", "/", map[string]string{"Host": "console.evil.example:" + port}, 421},
		{"name that begins well", "GET", "/", map[string]string{"Host": "localhost.evil.example"}, 421},
		{"name that begins like an address", "GET", "/live?page=street&lang=zh", map[string]string{"Host": "127.0.0.1.evil.example:" + port}, 421},
		{"rebound name, static", "GET", "/static/console.js", map[string]string{"Host": "evil.example"}, 421},
		{"HEAD", "HEAD", "/", nil, 200},
		{"POST from here", "POST", "/", map[string]string{"Sec-Fetch-Site": "same-origin"}, 405},
		{"POST from elsewhere", "POST", "/", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403},
		{"POST from elsewhere, old browser", "POST", "/", map[string]string{"Origin": "https://evil.example"}, 403},
		{"DELETE", "DELETE", "/owed", nil, 405},
		{"stream for another site's page", "GET", "/live?page=street&lang=zh", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"stream for a neighbour port's page", "GET", "/live?page=street&lang=zh", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"stream of nothing", "GET", "/live", nil, 403},
		{"stream of no page", "GET", "/live?page=../etc&lang=zh", nil, 403},
		{"stream without a language", "GET", "/live?page=street", nil, 403},
		{"stream of no transaction", "GET", "/live?page=transaction&lang=zh&id=x", nil, 403},
		{"stream of no date", "GET", "/live?page=settlement&lang=zh&date=2026-13-40", nil, 403},
		{"no such page", "GET", "/nowhere", nil, 404},
		{"no such transaction", "GET", "/transactions/1", nil, 404},
		{"no number", "GET", "/transactions/9999999999999999999999", nil, 404},
		{"no date", "GET", "/settlement?date=yesterday", nil, 400},
		{"no date of batches", "GET", "/batches?date=yesterday", nil, 400},
		{"stream of no date of batches", "GET", "/live?page=batches&lang=zh&date=2026-13-40", nil, 403},
		{"stream of a receipt", "GET", "/live?page=receipt&lang=zh&id=1", nil, 403},
		{"no receipt", "GET", "/transactions/1/receipt", nil, 404},
		{"receipt of no number", "GET", "/transactions/one/receipt", nil, 404},
		{"no signature", "GET", "/transactions/1/signature.png", nil, 404},
		{"signature of no number", "GET", "/transactions/one/signature.png", nil, 404},
		{"resolving by GET", "GET", "/batches/differences/71/resolve", nil, 404},
		{"resolving from elsewhere", "POST", "/batches/differences/71/resolve", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403},
		{"resolving from a neighbour port", "POST", "/batches/differences/71/resolve", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, 403},
		{"resolving from elsewhere, old browser", "POST", "/batches/differences/71/resolve", map[string]string{"Origin": "https://evil.example"}, 403},
		{"resolving under a rebound name", "POST", "/batches/differences/71/resolve", map[string]string{"Host": "evil.example", "Sec-Fetch-Site": "same-origin"}, 421},
		{"resolving nothing", "POST", "/batches/differences/1/resolve", map[string]string{"Sec-Fetch-Site": "same-origin"}, 404},
		{"resolving no number", "POST", "/batches/differences/one/resolve", map[string]string{"Sec-Fetch-Site": "same-origin"}, 404},
		{"out of the static folder", "GET", "/static/%2e%2e/pages/layout.html", nil, 404},
		{"header too long", "GET", "/", map[string]string{"X-Long": strings.Repeat("x", 64<<10)}, 431},
	} {
		res, body := ask(t, c.method, base+c.path, c.header)
		if res.StatusCode != c.want {
			t.Errorf("%s: %d, want %d: %.200s", c.name, res.StatusCode, c.want, body)
		}
	}
	house.mu.Lock()
	defer house.mu.Unlock()
	if len(house.resolved) > 0 || len(house.batches.Differences) != 3 {
		t.Errorf("somebody who was turned away resolved %v", house.resolved)
	}
}

func TestPagesInBothLanguages(t *testing.T) {
	house := newStreet(time.Now())
	house.rows[0].Merchant = `<script>alert("老王")</script>`
	house.rows[1].PAN = "6228480402564890018" // came clear by mistake
	base, tape := start(t, house)
	house.busy(tape, time.Now())
	tx := fmt.Sprintf("/transactions/%d", house.rows[2].ID)
	for _, c := range []struct {
		path   string
		header map[string]string
		wants  []string
	}{
		{"/", inChinese, []string{`<html lang="zh">`, "一切正常", "账平", "全部 8 条线路在线|8 条线路全部在线", "最近交易", "可用余额不足", "622848*********", "&lt;script&gt;", "今日结算", "四季春茶馆", `role="img"`, `href="/?lang=en"`}},
		{"/", inEnglish, []string{`<html lang="en">`, "All is in order", "all 8 lines up", "insufficient funds", "1 reversal or advice under way", "Today&#39;s settlement|Today's settlement", "demo", "up 1d 2h", "p99"}},
		{"/lines", inEnglish, []string{"127.0.0.1:9001", "2 of 2 up", "0.31 ms", "north", "west"}},
		{"/owed", inChinese, []string{"发卡方超时", house.owed[0].Merchant}},
		{"/settlement", inEnglish, []string{"MICRO-2025", "¥12,345.67", "Total", "in transit", "P20260213-898110054110005-S0-17", "898110054110003", "¥888.00", "waits for a second person", "case-4711", "own &lt;card&gt;", "release waits for a second person"}},
		{"/settlement?date=2026-02-13", inChinese, []string{"结算 2026-02-13", "已全部付款", "date=2026-02-12", "date=2026-02-14", `href="/settlement?date=2026-02-13&amp;lang=en"`}},
		{tx, inChinese, []string{"时间线", "开账落盘", "604414000482", "9F26", "终端 → 收单", house.rows[2].PAN}},
		{tx, inEnglish, []string{"Timeline", "open (durable)", "Retrieval reference number", "terminal → acquirer", "Fee"}},
		{tx + "/receipt", inChinese, []string{"签购单", "商户存根", "持卡人存根", "重打印", "604414000482", house.rows[2].PAN, house.rows[2].MID, "插卡", "银联", "持卡人签名", `href="/transactions/`}},
		{tx + "/receipt", inEnglish, []string{"merchant copy", "cardholder copy", "Voucher no.", "000482", "62260F6E", "UnionPay", "chip", yuan(house.rows[2].Amount)}},
		{"/batches", inChinese, []string{"终端批结算", "老王牛肉面", "不平", "待补签名", "平", "¥12,345,678.90", "112 笔", "¥100.00", "应签未签", "已处理", "外卡"}},
		{"/batches", inEnglish, []string{"not balanced", "signatures asked for", "12 records uploaded", "1 record uploaded", "not ended", "Foreign", "1 txn", "-1 records", "not in the journal"}},
		{"/batches?date=2026-02-13", inEnglish, []string{"Batches of 2026-02-13", "No terminal has settled", "date=2026-02-12", "date=2026-02-14", "not signed"}},
		{"/reports", inChinese, []string{"商户对账单", "备付金日报", "下载", `name="payout"`, `value="xlsx"|>xlsx<`}},
		{"/reports?merchant=898110054110001&date=2026-02-13", inEnglish, []string{`value="898110054110001"`, `value="2026-02-13"`, "Costs and margin", "Trial balance"}},
		{"/compared", inChinese, []string{"对账与争议", "短款", "604414000482", "¥100.00", "退付款人", "一次退单", "4853", "待我方答复", "缺 north 的文件", "99.9", "ann, bob", "待复核"}},
		{"/compared", inEnglish, []string{"Reconciliation and disputes", "to the payer; to be confirmed", "ours to answer", "no file of north", "and a second person"}},
		{"/transactions/77", inEnglish, []string{"No such transaction", "Number 77 is not in the journal"}},
	} {
		res, body := ask(t, "GET", base+c.path, c.header)
		if want := 200; res.StatusCode != want && !strings.HasSuffix(c.path, "/77") {
			t.Errorf("%s: %d, want %d: %.200s", c.path, res.StatusCode, want, body)
		}
		for _, want := range c.wants {
			found := false
			for _, either := range strings.Split(want, "|") {
				found = found || strings.Contains(body, either)
			}
			if !found {
				t.Errorf("%s in %s: %q is missing", c.path, c.header["Accept-Language"], want)
			}
		}
		for _, never := range []string{"<script>alert", "6228480402564890018", "ZgotmplZ", "<no value>", "%!"} {
			if strings.Contains(body, never) {
				t.Errorf("%s: %q is in the page", c.path, never)
			}
		}
	}
}

// Every region that a stream renews has its place in its page.
func TestRegionsHaveTheirPlace(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	paths := map[string]string{"street": "/", "lines": "/lines", "owed": "/owed", "settlement": "/settlement", "waiting": "/waiting", "batches": "/batches", "compared": "/compared", "transaction": fmt.Sprintf("/transactions/%d", house.rows[0].ID)}
	for name, list := range regions {
		_, body := ask(t, "GET", base+paths[name], nil)
		for _, region := range list {
			if strings.Count(body, fmt.Sprintf(`data-region="%s"`, region)) != 1 {
				t.Errorf("page %s has no place, or several, for region %s", name, region)
			}
		}
		if !strings.Contains(body, `data-live="/live?`) || !strings.Contains(body, `http-equiv="refresh"`) {
			t.Errorf("page %s is not live, or dead without a script", name)
		}
	}
}

func TestChoosingALanguage(t *testing.T) {
	base, _ := start(t, newStreet(time.Now()))
	for _, c := range []struct{ path, location, cookie string }{
		{"/?lang=en", "/", "en"},
		{"/settlement?date=2026-02-13&lang=zh", "/settlement?date=2026-02-13", "zh"},
		{"/owed?lang=xx", "/owed", ""},
		{"//evil.example/?lang=en", "/evil.example/", "en"},
		{"/%5Cevil.example?lang=en", "/evil.example", "en"},
	} {
		res, _ := ask(t, "GET", base+c.path, nil)
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != c.location {
			t.Errorf("%s: %d to %q, want 303 to %q", c.path, res.StatusCode, res.Header.Get("Location"), c.location)
		}
		got := ""
		for _, k := range res.Cookies() {
			got = k.Value
			if !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/" {
				t.Errorf("%s: the cookie is %v", c.path, k)
			}
		}
		if got != c.cookie {
			t.Errorf("%s: the cookie says %q, want %q", c.path, got, c.cookie)
		}
	}
	if _, body := ask(t, "GET", base, map[string]string{"Cookie": "lang=en", "Accept-Language": "zh"}); !strings.Contains(body, `<html lang="en">`) {
		t.Error("the chosen language is forgotten")
	}
}

// A house that does not answer: said on the page, in words, with what was
// known before.
func TestHouseDoesNotAnswer(t *testing.T) {
	house := newStreet(time.Now())
	house.fail = errors.New("store: disk is full")
	base, _ := start(t, house)
	res, body := ask(t, "GET", base, inEnglish)
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "The house did not answer: store: disk is full") {
		t.Errorf("with nothing known: %d, %.300s", res.StatusCode, body)
	}

	house = newStreet(time.Now())
	base, _ = start(t, house)
	if res, _ := ask(t, "GET", base, inEnglish); res.StatusCode != 200 {
		t.Fatalf("a good house: %d", res.StatusCode)
	}
	house.mu.Lock()
	house.fail = errors.New("store: disk is full")
	house.mu.Unlock()
	res, body = ask(t, "GET", base, inEnglish)
	if res.StatusCode != 200 {
		t.Errorf("with something known: %d", res.StatusCode)
	}
	has(t, "the page of a house that went silent", body, "1 thing needs you", "store: disk is full", "north")
	for _, path := range []string{"/owed", fmt.Sprintf("/transactions/%d", house.rows[0].ID), fmt.Sprintf("/transactions/%d/receipt", house.rows[0].ID), "/settlement?date=2026-02-13", "/batches"} {
		if res, body := ask(t, "GET", base+path, inEnglish); res.StatusCode != 503 || !strings.Contains(body, "disk is full") {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

// tune opens a stream and returns its frames.
func tune(t *testing.T, ctx context.Context, base, query string) (<-chan frame, *http.Response) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", base+"/live?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	frames := make(chan frame)
	go func() {
		defer close(frames)
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			var f frame
			if err := json.Unmarshal([]byte(data), &f); err != nil {
				t.Errorf("a frame is no JSON: %v", err)
				return
			}
			select {
			case frames <- f:
			case <-ctx.Done():
				return
			}
		}
	}()
	return frames, res
}

// next waits for a frame that satisfies want.
func next(t *testing.T, frames <-chan frame, what string, want func(frame) bool) frame {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				t.Fatalf("the stream ended before %s", what)
			}
			if want(f) {
				return f
			}
		case <-limit:
			t.Fatalf("no frame with %s", what)
		}
	}
}

func TestStream(t *testing.T) {
	house := newStreet(time.Now())
	base, tape := start(t, house)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	frames, res := tune(t, ctx, base, "page=street&lang=en")
	if ct := res.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("Content-Type %q", ct)
	}
	first := next(t, frames, "the last transactions", func(f frame) bool { return len(f.Rows) > 0 })
	if len(first.Rows) != recentRows || first.Rows[recentRows-1].ID != key19(house.rows[0].ID) {
		t.Errorf("it begins with %d rows, the last of them %s", len(first.Rows), first.Rows[len(first.Rows)-1].ID)
	}
	all := next(t, frames, "all regions", func(f frame) bool { return len(f.Regions) > 0 })
	for _, name := range append(regions["street"], spoken) {
		if all.Regions[name] == "" {
			t.Errorf("the first frame has no %s", name)
		}
	}

	// A sale comes as a row; afterwards only what changed comes.
	r := house.sale(4, time.Now())
	r.Merchant = "<b>&"
	house.finish(tape, r)
	f := next(t, frames, "the sale", func(f frame) bool { return len(f.Rows) > 0 })
	if f.Rows[0].ID != key19(r.ID) || !strings.Contains(f.Rows[0].HTML, "&lt;b&gt;&amp;") || !strings.Contains(f.Rows[0].HTML, "insufficient funds") {
		t.Errorf("the row is %+v", f.Rows[0])
	}
	f = next(t, frames, "the clock", func(f frame) bool { return f.Regions["status"] != "" })
	if _, ok := f.Regions["issuers"]; ok && f.Regions["issuers"] == all.Regions["issuers"] {
		t.Error("a region came again unchanged")
	}
	if f.Regions[spoken] != "" {
		t.Error("it speaks every second")
	}
	house.mu.Lock()
	house.overview.Ledger.Balanced, house.overview.Ledger.Difference = false, -301
	house.mu.Unlock()
	f = next(t, frames, "the verdict", func(f frame) bool { return f.Regions["verdict"] != "" })
	has(t, "verdict", f.Regions["verdict"], "out of balance by −¥3.01", `class="act"`)
}

// However many look, the house is asked once a second.
func TestHouseIsAskedOnceForAll(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all []<-chan frame
	for i := range 10 {
		frames, _ := tune(t, ctx, base, "page=street&lang="+[]string{"zh", "en"}[i%2])
		all = append(all, frames)
	}
	began := time.Now()
	for range 3 {
		for _, frames := range all {
			next(t, frames, "the clock", func(f frame) bool { return f.Regions["status"] != "" })
		}
	}
	took := time.Since(began)
	house.mu.Lock()
	defer house.mu.Unlock()
	if n, most := house.asked["overview"], int(took/glanceAge)+2; n > most {
		t.Errorf("ten watchers asked for the overview %d times in %v, want at most %d", n, took, most)
	}
	if n, most := house.asked["settlement"], int(took/todayAge)+2; n > most {
		t.Errorf("ten watchers asked for the settlement %d times in %v, want at most %d", n, took, most)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	base, _, _ := startWith(t, Config{House: newStreet(time.Now()), Streams: 2})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one, stop := context.WithCancel(ctx)
	a, _ := tune(t, one, base, "page=lines&lang=zh")
	b, _ := tune(t, ctx, base, "page=owed&lang=zh")
	next(t, a, "a frame", func(frame) bool { return true })
	next(t, b, "a frame", func(frame) bool { return true })
	res, _ := ask(t, "GET", base+"/live?page=street&lang=zh", nil)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("a third stream: %d", res.StatusCode)
	}
	// A place that becomes free is given away.
	stop()
	for {
		frames, res := tune(t, ctx, base, "page=lines&lang=zh")
		if res.StatusCode == 200 {
			next(t, frames, "a frame", func(frame) bool { return true })
			break
		}
		if _, open := <-frames; open {
			t.Fatal("a refusal has frames")
		}
	}
}

// A watcher that does not read is dropped when its queue is full, at once and
// without holding up the others.
func TestSlowWatcherIsDropped(t *testing.T) {
	h := hub{watchers: map[*watcher]bool{}}
	slow, quick := h.join(sight{page: "street"}, 2), h.join(sight{page: "street"}, 2)
	if h.join(sight{}, 2) != nil {
		t.Fatal("a third place of two")
	}
	for range queue + 1 {
		h.send(slow, []byte("x"))
		h.send(quick, []byte("x"))
		<-quick.frames
	}
	n := 0
	for range slow.frames { // ends: the hub closed it
		n++
	}
	if n != queue || len(h.all()) != 1 {
		t.Errorf("%d frames waited for the slow one, %d watchers are left; want %d and 1", n, len(h.all()), queue)
	}
	h.send(slow, []byte("x")) // does nothing
	h.leave(slow)
	h.leave(slow)
	h.stop()
	if _, open := <-quick.frames; open || h.join(sight{}, 2) != nil {
		t.Error("a stopped hub goes on")
	}
}

// When the server stops, so do the streams and all that ran for them.
func TestStopLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	base, _, stop := startWith(t, Config{House: newStreet(time.Now())})
	var all []<-chan frame
	for range 3 {
		frames, _ := tune(t, t.Context(), base, "page=street&lang=zh")
		next(t, frames, "a frame", func(frame) bool { return true })
		all = append(all, frames)
	}
	stop()
	for _, frames := range all {
		for range frames { // ends
		}
	}
}

func TestNewWantsAHouse(t *testing.T) {
	for _, cfg := range []Config{{}, {House: newStreet(time.Now())}, {Tape: NewTape()}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("New(%+v) made a console of nothing", cfg)
		}
	}
}

// A settlement whose sums do not fit says so and shows the rest.
func TestTotalsOverflow(t *testing.T) {
	house := newStreet(time.Now())
	for i := range house.day.Merchants {
		house.day.Merchants[i].Gross = 1 << 62
	}
	base, _ := start(t, house)
	_, body := ask(t, "GET", base+"/settlement", inEnglish)
	has(t, "page", body, "total overflows", house.day.Merchants[0].Name)
	if (Settlement{Date: calendar.Date(20260213)}).Totals() == nil {
		t.Error("nothing has no total")
	}
}

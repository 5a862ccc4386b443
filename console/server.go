package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"acquirer/calendar"
)

//go:embed static
var staticFiles embed.FS

// Config is what a console needs.
type Config struct {
	House   House
	Tape    *Tape        // what the switch writes its outcomes on
	Log     *slog.Logger // nil for slog.Default
	Streams int          // pages that may be live at once; 32 when 0
}

// Server is the console.
type Server struct {
	house House
	tape  *Tape
	log   *slog.Logger
	most  int
	paper [2]paper // by Lang

	hub    hub
	glance glance
	making chan struct{} // a place for each report that is being made

	complained struct {
		mu   sync.Mutex
		text string
		at   time.Time
	}
}

// New makes a console. It fails only when its own pages are broken.
func New(cfg Config) (*Server, error) {
	s := &Server{house: cfg.House, tape: cfg.Tape, log: cfg.Log, most: cfg.Streams}
	if s.house == nil || s.tape == nil {
		return nil, errors.New("console: a house and a tape are needed")
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.making = make(chan struct{}, reportsAtOnce)
	if s.most <= 0 {
		s.most = 32
	}
	s.hub.watchers = map[*watcher]bool{}
	for _, l := range [...]Lang{Chinese, English} {
		var err error
		if s.paper[l], err = newPaper(l); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Serve answers on l, which Listen made, until ctx ends; then streams are
// closed, pages under way are finished and Serve returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second, // a stream sets its own for each frame
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.keepLive(ctx) })
	var downErr error
	wg.Go(func() {
		<-ctx.Done()
		s.hub.stop()
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		if err := srv.Shutdown(grace); err != nil {
			downErr = errors.Join(fmt.Errorf("console: stopping: %w", err), srv.Close())
		}
	})
	err := srv.Serve(l)
	cancel()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("console: %w", err)
	}
	return errors.Join(err, downErr)
}

// routes is the whole address space. One of them changes something, and is a
// POST; all others are GET.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	static, err := fs.Sub(staticFiles, "static")
	if err != nil {
		panic(err) // "static" is a valid path
	}
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	mux.HandleFunc("GET /live", s.stream)
	mux.HandleFunc("GET /{$}", s.show("street"))
	mux.HandleFunc("GET /lines", s.show("lines"))
	mux.HandleFunc("GET /owed", s.show("owed"))
	mux.HandleFunc("GET /waiting", s.show("waiting"))
	mux.HandleFunc("GET /settlement", s.show("settlement"))
	mux.HandleFunc("GET /batches", s.show("batches"))
	mux.HandleFunc("GET /compared", s.show("compared"))
	mux.HandleFunc("POST /batches/differences/{id}/resolve", s.resolve)
	mux.HandleFunc("GET /reports", s.show("reports"))
	mux.HandleFunc("GET /reports/file", s.report)
	mux.HandleFunc("GET /transactions/{id}", s.show("transaction"))
	mux.HandleFunc("GET /transactions/{id}/receipt", s.show("receipt"))
	mux.HandleFunc("GET /transactions/{id}/signature.png", s.signature)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, http.StatusNotFound, "error.path", r.URL.Path)
	})
	return guard(chooseLanguage(mux))
}

// chooseLanguage remembers ?lang= in a cookie and leads back to the page
// without it. A language is no secret and no state of the house, so GET may
// set it.
func chooseLanguage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if !q.Has(langCookie) || r.URL.Path == "/live" {
			next.ServeHTTP(w, r)
			return
		}
		if l, ok := langOf(q.Get(langCookie)); ok {
			http.SetCookie(w, &http.Cookie{Name: langCookie, Value: l.Code(), Path: "/", MaxAge: 365 * 24 * 3600,
				HttpOnly: true, SameSite: http.SameSiteStrictMode})
		}
		q.Del(langCookie)
		// A path alone: "//evil" must not become a host.
		to := url.URL{Path: "/" + trimSlashes(r.URL.Path), RawQuery: q.Encode()}
		http.Redirect(w, r, to.String(), http.StatusSeeOther)
	})
}

func trimSlashes(p string) string {
	for len(p) > 0 && (p[0] == '/' || p[0] == '\\') {
		p = p[1:]
	}
	return p
}

// sightOf reads where a stream looks: /live?page=street&lang=zh. The language
// is in the address so that the page and its stream never differ.
func sightOf(r *http.Request) (sight, bool) {
	q := r.URL.Query()
	v := sight{page: q.Get("page")}
	var ok bool
	if v.lang, ok = langOf(q.Get(langCookie)); !ok {
		return sight{}, false
	}
	if _, ok = regions[v.page]; !ok {
		return sight{}, false
	}
	if v.page == "transaction" {
		id, err := strconv.ParseInt(q.Get("id"), 10, 64)
		if err != nil {
			return sight{}, false
		}
		v.id = id
	}
	if d := q.Get("date"); d != "" && v.dated() {
		date, err := calendar.ParseDate(d)
		if err != nil {
			return sight{}, false
		}
		v.date = date
	}
	return v, true
}

// live is the address of the stream of a sight.
func (v sight) live() string {
	q := url.Values{"page": {v.page}, langCookie: {v.lang.Code()}}
	if v.page == "transaction" {
		q.Set("id", strconv.FormatInt(v.id, 10))
	}
	if v.date != 0 {
		q.Set("date", v.date.String())
	}
	return "/live?" + q.Encode()
}

// show serves a page.
func (s *Server) show(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := sight{lang: speaks(r), page: name}
		if name == "transaction" || name == "receipt" {
			id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
			if err != nil {
				s.problem(w, r, http.StatusNotFound, "tx.missing.why", r.PathValue("id"))
				return
			}
			v.id = id
		}
		if d := r.URL.Query().Get("date"); d != "" && v.dated() {
			date, err := calendar.ParseDate(d)
			if err != nil {
				s.problem(w, r, http.StatusBadRequest, "error.date", "")
				return
			}
			v.date = date
		}
		p, err := s.gather(r.Context(), v, true)
		if none := noReceipt(""); errors.As(err, &none) {
			s.write(w, v.lang, http.StatusNotFound, &page{Lang: v.lang, Name: "problem", Title: v.lang.say("receipt.none"), Now: time.Now(), Here: *r.URL,
				Lead: v.lang.say(string(none)), Back: v.id})
			return
		}
		switch {
		case errors.Is(err, ErrNotFound):
			s.problem(w, r, http.StatusNotFound, "tx.missing.why", r.PathValue("id"))
			return
		case err != nil:
			s.complain(err)
			s.problem(w, r, http.StatusServiceUnavailable, "error.why", err.Error())
			return
		}
		p.Here = *r.URL
		if name == "reports" {
			p.Form = formOf(r, p.Overview.BusinessDate)
		}
		if _, live := regions[name]; live {
			p.Live = v.live()
		}
		s.write(w, v.lang, http.StatusOK, p)
	}
}

// patience is how long a request waits for the house.
func patience(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), askTimeout)
}

// gather asks the house for what a page shows. A page without its own matter
// is an error; one whose beside-matters are missing says so. Not whole, it
// leaves out what a stream brings by other ways.
func (s *Server) gather(ctx context.Context, v sight, whole bool) (*page, error) {
	now := time.Now()
	overview, asOf, err := s.look(ctx, now)
	if asOf.IsZero() {
		return nil, err
	}
	p := &page{Lang: v.lang, Name: v.page, Now: now, AsOf: asOf, Overview: overview, Latency: map[string]latency{}}
	if err != nil {
		s.complain(err)
		p.Problem = v.lang.say("concern.house", clock(asOf), err.Error())
	}
	for _, is := range overview.Issuers {
		p50, p99, n := s.tape.Latency(is.Name, now)
		p.Latency[is.Name] = latency{p50, p99, n}
	}
	if p.Waits, err = s.waited(ctx, now); err != nil {
		p.trouble(s, err)
	}
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	switch v.page {
	case "waiting":
		p.Title = v.lang.say("waiting.title")
	case "street":
		p.Title = v.lang.say("nav.street")
		p.Rates = s.tape.Rates(now)
		if p.Today, err = s.settled(ctx, now, 0); err != nil {
			p.trouble(s, err)
		}
		if whole {
			if p.Recent, err = s.house.Recent(ask, recentRows); err != nil {
				p.trouble(s, err)
			}
		}
	case "lines":
		p.Title = v.lang.say("lines.title")
	case "owed":
		p.Title = v.lang.say("owed.title")
		if p.Owed, err = s.house.Owed(ask, owedRows); err != nil {
			return nil, err
		}
	case "settlement":
		if p.Settlement, err = s.settled(ctx, now, v.date); err != nil {
			return nil, err
		}
		p.Title = v.lang.say("settlement.title", p.Settlement.Date.String())
	case "transaction":
		if p.Detail, err = s.house.Transaction(ask, v.id); err != nil {
			return nil, err
		}
		p.Title = v.lang.say("tx.title", yuan(p.Detail.Amount))
	case "receipt":
		if p.Receipt, err = s.receipt(ask, v.id); err != nil {
			return nil, err
		}
		p.Title = v.lang.say("receipt.title", yuan(p.Receipt.Amount))
	case "reports":
		p.Title = v.lang.say("reports.title")
	case "compared":
		p.Title = v.lang.say("compared.title")
		if p.Compared, err = s.house.Compared(ask, comparedRows); err != nil {
			return nil, err
		}
	case "batches":
		if p.Batches, err = s.house.Batches(ask, v.date, batchRows); err != nil {
			return nil, err
		}
		p.Title = v.lang.say("batches.title", p.Batches.Date.String())
	}
	p.Concerns = concerns(v.lang, now, overview, p.Problem)
	return p, nil
}

// trouble notes that a part of the page could not be read.
func (p *page) trouble(s *Server, err error) {
	s.complain(err)
	if p.Problem == "" {
		p.Problem = p.Lang.say("concern.house.never", err.Error())
	}
}

// titles are the headings of problems; one that is not here is its own, with
// its argument beneath.
var titles = map[string]string{"tx.missing.why": "tx.missing", "error.why": "error.title"}

// problem serves a page that says what is wrong.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, code int, why, arg string) {
	l := speaks(r)
	p := &page{Lang: l, Name: "problem", Title: l.say(why), Now: time.Now(), Here: *r.URL, Lead: arg}
	if title, ok := titles[why]; ok {
		p.Title, p.Lead = l.say(title), l.say(why, arg)
	}
	s.write(w, l, code, p)
}

func (s *Server) write(w http.ResponseWriter, l Lang, code int, p *page) {
	html, err := s.paper[l].render("layout", p)
	if err != nil {
		s.complain(err)
		http.Error(w, "the page could not be drawn; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", l.Code())
	w.WriteHeader(code)
	if _, err := w.Write([]byte(html)); err != nil {
		s.log.Debug("console: the browser went away", "error", err)
	}
}

// complain logs an error, the same one at most once a minute: a house that
// does not answer is asked every second.
func (s *Server) complain(err error) {
	c := &s.complained
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if err.Error() == c.text && now.Sub(c.at) < time.Minute {
		return
	}
	c.text, c.at = err.Error(), now
	s.log.Error("console: the house did not answer", "error", err)
}

package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"acquirer/calendar"
)

// How the street is kept live.
const (
	beat       = 250 * time.Millisecond // rows are shown this often
	beats      = 4                      // regions every so many beats
	aloud      = 30 * beats             // the spoken sentence every so many
	queue      = 8                      // frames that may wait for one watcher: two seconds
	askTimeout = 3 * time.Second        // for the house to answer
	sendLimit  = 5 * time.Second        // for one frame to leave
	todayAge   = 5 * time.Second        // how old today's settlement may be
	glanceAge  = 900 * time.Millisecond // how old an overview may be
	perBeat    = recentRows             // rows taken from the tape in one beat
)

// glance is what the house said last; pages and streams share it, so that the
// house is asked about once a second however many look.
type glance struct {
	mu       sync.Mutex
	asked    time.Time
	overview Overview
	asOf     time.Time // of overview; zero before the first answer
	problem  error     // of the last question

	todayMu    sync.Mutex
	todayAsked time.Time
	today      Settlement

	waitsMu    sync.Mutex
	waitsAsked time.Time
	waits      []Wait
}

// look returns the overview, asking when the last is old.
func (s *Server) look(ctx context.Context, now time.Time) (o Overview, asOf time.Time, problem error) {
	g := &s.glance
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.asked) >= glanceAge || now.Before(g.asked) {
		g.asked = now
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		o, err := s.house.Overview(ctx)
		if g.problem = err; err == nil {
			g.overview, g.asOf = o, now
		} else if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			g.asked = time.Time{} // whoever asked went away; the next asks again
		}
	}
	return g.overview, g.asOf, g.problem
}

// settled returns a business date: the open one from the glance.
func (s *Server) settled(ctx context.Context, now time.Time, date calendar.Date) (Settlement, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if date != 0 {
		return s.house.Settlement(ctx, date)
	}
	g := &s.glance
	g.todayMu.Lock()
	defer g.todayMu.Unlock()
	if now.Sub(g.todayAsked) < todayAge && !now.Before(g.todayAsked) {
		return g.today, nil
	}
	today, err := s.house.Settlement(ctx, 0)
	if err != nil {
		return g.today, err
	}
	g.today, g.todayAsked = today, now
	return today, nil
}

// frame is one message of the stream.
type frame struct {
	Regions map[string]string `json:"regions,omitempty"`
	Rows    []liveRow         `json:"rows,omitempty"` // the oldest first
}

type liveRow struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

func (f frame) empty() bool { return len(f.Regions) == 0 && len(f.Rows) == 0 }

// bytes is the frame as the stream carries it (WHATWG HTML, 9.2.5). JSON has
// no bare line ends, so one data line holds it.
func (f frame) bytes() ([]byte, error) {
	j, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(j)+8)
	out = append(out, "data: "...)
	out = append(out, j...)
	return append(out, '\n', '\n'), nil
}

// watcher is one open stream.
type watcher struct {
	sight  sight
	frames chan []byte       // closed by the hub when the watcher is too slow or the server stops
	shown  map[string]string // regions as they stand on its screen
}

// hub is the open streams.
type hub struct {
	mu       sync.Mutex
	watchers map[*watcher]bool
	stopped  bool
}

// join adds a watcher, nil when there are most already or the server stops.
func (h *hub) join(v sight, most int) *watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped || len(h.watchers) >= most {
		return nil
	}
	w := &watcher{sight: v, frames: make(chan []byte, queue), shown: map[string]string{}}
	h.watchers[w] = true
	return w
}

// leave takes a watcher out; more than once is allowed.
func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(w)
}

func (h *hub) drop(w *watcher) {
	if h.watchers[w] {
		delete(h.watchers, w)
		close(w.frames)
	}
}

func (h *hub) all() []*watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*watcher, 0, len(h.watchers))
	for w := range h.watchers {
		out = append(out, w)
	}
	return out
}

// send queues a frame; a watcher whose queue is full is dropped, not waited
// for: its browser comes back and starts afresh.
func (h *hub) send(w *watcher, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.watchers[w] {
		return
	}
	select {
	case w.frames <- b:
	default:
		h.drop(w)
	}
}

func (h *hub) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for w := range h.watchers {
		h.drop(w)
	}
}

// keepLive feeds the streams until ctx ends. It alone renders for them: one
// slow page is one goroutine's work, whoever watches.
func (s *Server) keepLive(ctx context.Context) {
	defer s.hub.stop()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		watchers := s.hub.all()
		if len(watchers) == 0 {
			s.tape.look(0)
			continue
		}
		rows := s.tape.look(perBeat)
		s.feed(ctx, watchers, rows, n)
	}
}

// feed sends every watcher what changed since the last beat.
func (s *Server) feed(ctx context.Context, watchers []*watcher, rows []Row, n int) {
	drawn := map[Lang][]liveRow{}
	seen := map[sight]map[string]string{}
	for _, w := range watchers {
		var f frame
		if w.sight.page == "street" && len(rows) > 0 {
			html, ok := drawn[w.sight.lang]
			if !ok {
				var err error
				if html, err = s.paper[w.sight.lang].rows(rows); err != nil {
					s.log.Error("console: a row could not be drawn", "error", err)
				}
				drawn[w.sight.lang] = html
			}
			f.Rows = html
		}
		if fresh := len(w.shown) == 0; fresh || n%beats == 0 {
			now, ok := seen[w.sight]
			if !ok {
				now = s.draw(ctx, w.sight)
				seen[w.sight] = now
			}
			f.Regions = changed(w.shown, now, fresh || n%aloud == 0)
		}
		if f.empty() {
			continue
		}
		b, err := f.bytes()
		if err != nil {
			s.log.Error("console: a frame could not be packed", "error", err)
			continue
		}
		s.hub.send(w, b)
	}
}

// changed returns the regions that differ from what is shown, and notes them.
// The spoken one goes only when it is time to speak.
func changed(shown, now map[string]string, speak bool) map[string]string {
	out := map[string]string{}
	for name, html := range now {
		if was, ok := shown[name]; ok && was == html || name == spoken && !speak {
			continue
		}
		shown[name] = html
		out[name] = html
	}
	return out
}

// draw renders the regions of a page. What cannot be drawn is left as it
// stands on the screens.
func (s *Server) draw(ctx context.Context, v sight) map[string]string {
	p, err := s.gather(ctx, v, false)
	if err != nil {
		s.complain(err)
		return nil
	}
	names := regions[v.page]
	if v.page == "street" {
		names = append(names[:len(names):len(names)], spoken)
	}
	out := map[string]string{}
	for _, name := range names {
		html, err := s.paper[v.lang].render(name, p)
		if err != nil {
			s.complain(err)
			continue
		}
		out[name] = html
	}
	return out
}

// stream serves one watcher.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	v, ok := sightOf(r)
	if !ok || !ownPage(r) {
		http.Error(w, "this stream is for the pages of the console", http.StatusForbidden)
		return
	}
	me := s.hub.join(v, s.most)
	if me == nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many pages are watching; close one and reload", http.StatusServiceUnavailable)
		return
	}
	defer s.hub.leave(me)

	// The server's deadlines are for pages; a stream has one for each frame.
	rc := http.NewResponseController(w)
	if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Now().Add(sendLimit))); err != nil {
		s.complain(err)
		http.Error(w, "this connection cannot carry a stream", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	first := []byte("retry: 2000\n\n")
	if v.page == "street" {
		// Asked for before the last ones are read, so that none falls between.
		s.tape.want(perBeat)
		if b, err := s.lately(r.Context(), v.lang); err != nil {
			s.complain(err)
		} else {
			first = append(first, b...)
		}
	}
	for b, open := first, true; open; {
		if err := rc.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
			return
		}
		if _, err := w.Write(b); err != nil {
			return // gone, or too slow
		}
		if err := rc.Flush(); err != nil {
			return
		}
		select {
		case b, open = <-me.frames:
		case <-r.Context().Done():
			return
		}
	}
}

// lately is the frame of the last transactions.
func (s *Server) lately(ctx context.Context, l Lang) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	recent, err := s.house.Recent(ctx, recentRows)
	if err != nil {
		return nil, err
	}
	oldest := make([]Row, 0, len(recent))
	for i := len(recent) - 1; i >= 0; i-- {
		oldest = append(oldest, recent[i])
	}
	html, err := s.paper[l].rows(oldest)
	if err != nil {
		return nil, err
	}
	return frame{Rows: html}.bytes()
}

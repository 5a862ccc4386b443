package simwallet

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// routes are the wallets' questions and, for whoever watches them, the books
// and the weather.
func (s *Wallets) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{wallet}/{question...}", s.converse)
	mux.HandleFunc("POST /{wallet}", s.converse) // a gateway without a name
	mux.HandleFunc("GET /bill", s.showBill)
	mux.HandleFunc("GET /{wallet}/bill", s.showSignedBill)
	mux.HandleFunc("POST /spoil", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if err := s.SpoilBills(q.Get("wallet"), BillFault(q.Get("fault"))); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /books", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = s.WriteBooks(w) // a client that is gone asks again
	})
	mux.HandleFunc("GET /totals", func(w http.ResponseWriter, _ *http.Request) { show(w, s.Totals()) })
	mux.HandleFunc("GET /weather", func(w http.ResponseWriter, _ *http.Request) { show(w, s.Weather()) })
	mux.HandleFunc("PUT /weather", func(w http.ResponseWriter, r *http.Request) {
		var weather Weather
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
		d.DisallowUnknownFields()
		err := d.Decode(&weather)
		if err == nil {
			err = s.SetWeather(weather)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		show(w, s.Weather())
	})
	mux.HandleFunc("POST /next", func(w http.ResponseWriter, r *http.Request) {
		digits, err := strconv.Atoi(r.URL.Query().Get("digits"))
		if err != nil || digits < 0 || digits >= len(storms) {
			http.Error(w, "digits: want 00 to 99", http.StatusBadRequest)
			return
		}
		s.next(gust{storms[digits].storm, storms[digits].code})
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("POST /decide", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		pays, err := strconv.ParseBool(q.Get("pays"))
		if err != nil {
			http.Error(w, "pays: want true or false", http.StatusBadRequest)
			return
		}
		if !s.Decide(q.Get("wallet"), q.Get("order"), pays) {
			http.Error(w, "nobody types for that order", http.StatusNotFound)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

func show(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that is gone asks again
}

// WriteBooks writes the books as JSON: the form that GET /books has too.
func (s *Wallets) WriteBooks(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(struct {
		Totals map[string]Totals `json:"totals"`
		Orders []Order           `json:"orders"`
	}{s.Totals(), s.Orders()})
}

package issuer

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Handler serves the issuer to other processes:
//
//	GET  /books     every entry, as WriteBooks
//	GET  /totals    the books in numbers
//	GET  /weather   the weather
//	PUT  /weather   changes it: {"delay":1000000,"silent":0.01}, delays in nanoseconds
//	POST /next      orders weather: {"kind":"void","count":2,"storm":"silent"}, a refusal with
//	                {"kind":"refund","storm":"declined","code":"91"}
//	POST /drop      hangs up on every line
//	GET  /healthz   ok
//
// It knows no users: listen on a loopback address.
func (h *Host) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /books", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := h.WriteBooks(w); err != nil {
			h.log.Warn("books could not be sent", "error", err)
		}
	})
	mux.HandleFunc("GET /totals", func(w http.ResponseWriter, _ *http.Request) { h.writeJSON(w, h.Totals()) })
	mux.HandleFunc("GET /weather", func(w http.ResponseWriter, _ *http.Request) { h.writeJSON(w, h.Weather()) })
	mux.HandleFunc("PUT /weather", func(w http.ResponseWriter, r *http.Request) {
		var weather Weather
		err := decode(w, r, &weather)
		if err == nil {
			err = h.SetWeather(weather)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.writeJSON(w, h.Weather())
	})
	mux.HandleFunc("POST /next", func(w http.ResponseWriter, r *http.Request) {
		var o Order
		err := decode(w, r, &o)
		if err == nil {
			err = h.Next(o)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.writeJSON(w, o)
	})
	mux.HandleFunc("POST /drop", func(w http.ResponseWriter, _ *http.Request) { h.DropLines() })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func (h *Host) writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.log.Warn("answer could not be sent", "error", err)
	}
}
